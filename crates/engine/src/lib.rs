//! Shards: the turn of receive, process, timers, transmit and sleep, and sockets for other threads.
//!
//! A [`Shard`] owns one host, its ports and a clock, and is run by one thread. An application either lives on the shard
//! ([`App`]: run to completion) or uses [`Sockets`] from any thread.
//!
//! A host may have several shards ([`Shards`]), which share nothing but rings: each has the flows that are its own.
//!
//! What does not live here: protocols (`stack`), devices (`port`), the faces of std and tokio (`millstream`).
//!
//! Invariant: one thread at a time has a shard; handles reach it through its mailbox.
//! Invariant: `now` is read once a turn.
#![forbid(unsafe_code)]

mod app;
mod clock;
pub mod completion;
pub mod diagnosis;
mod inspect;
mod mailbox;
mod reply;
mod shard;
mod shards;
mod snapshot;
mod sockets;
mod steer;
mod sync;
mod thread;
mod wake;

pub use app::{App, ShardCx};
pub use clock::Clock;
pub use inspect::Inspector;
pub use mailbox::PostError;
pub use reply::Reply;
pub use shard::{Bed, BusyPoll, Shard, ShardError, ShardOptions, random_seed};
pub use shards::{ShardThreads, Shards, ShardsOptions};
pub use snapshot::{Meters, PoolSnapshot, PortSnapshot, ShardSnapshot};
pub use sockets::{
    Bell, Blocks, Driver, Ecn, Limits, Notice, Opening, Packet, RecvMeta, Selector, Sockets,
    Splice, TcpListenerSocket, TcpSocket, Transmit, UdpHandle, WatchedSocket, answered, deadline,
    io_error,
};
pub use thread::{ShardHandle, ShardThread};

pub use port;
