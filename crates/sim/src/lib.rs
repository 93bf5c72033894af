//! A network in a test tube: hosts, cables with faults, and one virtual clock.
//!
//! A [`World`] holds hosts ([`stack::Host`]) and the cables between them. It knows no time but its own, draws every fault from
//! one seed, and checks properties on every frame ([`check`]): the same seed gives the same run, byte for byte.
//!
//! What does not live here: threads, clocks, devices. Scenarios (what the hosts do) live in [`transfer`] and in tests.
//!
//! Start reading at [`World`].
//!
//! Invariant: a run is a function of its seed and of the calls made; [`World::fingerprint`] proves it.
#![forbid(unsafe_code)]

pub mod check;
mod device;
mod link;
mod narrow;
pub mod transfer;
mod world;

pub use check::Violation;
pub use device::cut;
pub use link::{Direction, Fate, Faults, LinkConfig, Loss, Lost};
pub use world::{CableId, Frame, Losses, NodeId, World};
