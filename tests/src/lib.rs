//! Millstream against real peers: what the tests beside this crate share.
//!
//! The tests themselves do not live here; they are in `tests/`: `kernel` (the Linux kernel's own stack) and `programs`
//! (ping, curl and others on top of it). This is their bench: a cable between the kernel and a host ([`Setup`]), the
//! thread that runs the host ([`Machine`]), a middle that loses and reorders frames ([`Middle`]), streams of known
//! bytes ([`Pattern`], [`Streams`]) and the kernel's side of them ([`kernel`]). Who needs nobody but a host, on virtual time, finds it
//! in [`alone`].
//!
//! Neither the engine nor the library's sockets are used here: a fault found is the stack's, the port's or the
//! kernel's.
//!
//! Invariant: everything is made inside the namespace the test entered, and is gone when the test is.
// A bench fails by panicking: what is wrong is wrong with the test or with what it tests.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]
#![forbid(unsafe_code)]

pub mod alone;
mod cable;
mod data;
pub mod epoll;
pub mod frames;
pub mod http;
pub mod kernel;
mod machine;
mod middle;
pub mod program;
mod relay;
mod streams;

pub use cable::{Cable, Family, Setup};
pub use data::Pattern;
pub use machine::{App, Machine, Turn};
pub use middle::{Fate, Middle, Policy, Record, Recorder, Way};
pub use relay::Relay;
pub use streams::{Ended, Plan, Streams, all_ended};

/// How long anything may take before a test gives up.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
