//! How tools ask a running host: a Unix socket in a folder only its user may enter, who answers there, and in which words.
//!
//! A program opens a [`Control`] under a name and hands it a shard: from then on `millstream ss` and `millstream sysctl` list its
//! sockets and tune its TCP, until the shard ends. `millstream`'s `Builder::control` does both in one call; a host of the BSD calls
//! (`posix::Live`) does so where it is set up.
//!
//! A question is a line of JSON, and so is its answer; a connection may ask many. Nothing is done before somebody asks.
//!
//! What does not live here: who asks, and what is made of the answers (the program `millstream`).
//!
//! Invariant: only the host's user (and root) can ask: the folder is his, and closed to others, or it is not used.
//! Invariant: bounded: so many askers at once, so long a question, so long a wait for an asker.
#![forbid(unsafe_code)]

mod desk;
pub mod folder;
mod open;
mod serve;
pub mod words;

pub use desk::states;
pub use open::{Control, Error};
