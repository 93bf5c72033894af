//! Packet memory, tables, timers, rings, readiness, time and counters shared by every room.
//!
//! No protocol lives here, and nothing here reads a clock, opens a socket or starts a thread: the time and the
//! randomness are arguments, so that a host built on these parts runs in a test with virtual time.
//!
//! Invariant: every structure is bounded and sized when it is made. Its memory is reserved then, touched only as
//! far as it was ever used, and never grows; after construction nothing here allocates.
//! Invariant: records refer to each other by index, never by pointer.
//! Invariant: `unsafe` appears in `pool`, `ring` and `prefetch` only.
#![deny(unsafe_code)]

pub mod counters;
pub mod epoll;
pub mod flow;
pub mod order;
pub mod packet;
#[allow(unsafe_code)]
pub mod pool;
#[allow(unsafe_code)]
pub mod prefetch;
#[allow(unsafe_code)]
pub mod ring;
pub mod rng;
pub mod seq;
pub mod siphash;
pub mod slab;
pub mod time;
pub mod wheel;

pub use counters::{Counter, Tally};
pub use epoll::{Epoll, EpollEvent};
pub use flow::{Candidate, FlowTable, Full};
pub use order::{Links, Order, Ordered};
pub use packet::{BATCH, Batch, Checksum, Facts, Gso, GsoKind, Offloads, Packet};
pub use pool::{BLOCK, Chain, Cursor, Loan, Pool};
pub use ring::{Consumer, FrameRx, FrameTx, Producer, frames, spsc};
pub use rng::Rng;
pub use seq::Seq;
pub use siphash::{SipKey, siphash, siphash24};
pub use slab::{Key, Slab};
pub use time::Instant;
pub use wheel::{TimerId, Wheel};
