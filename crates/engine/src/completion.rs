//! Completions: operations that are handed in with their buffers, and come back when they are done.
//!
//! # How it works
//!
//! A [`CompletionQueue`] belongs to a host. What is handed in ([`Op`]) waits on the shard, beside the socket it is about, and is
//! carried out there: bytes go from packet memory into the caller's buffer, and back, with no queue between. What is done comes
//! back as one [`Completion`], in a batch with whatever else its turn brought. Sockets of a queue are named by [`Handle`]s, and
//! are of use in that queue only.
//!
//! On a host of several shards an operation is carried out by the shard of its socket, links go from shard to shard, and a listener
//! accepts on all of them; what is done comes out at one place.
//!
//! - `op.rs`: what can be asked; `buffer.rs`: what bytes travel in; `queue.rs`: both ends of the queue, and who waits for it.
//! - The shard's side is in `sockets/driver/completion/`.
//!
//! Invariant: every operation that was taken ends in exactly one completion without [`Completion::more`], unless its queue is
//! dropped first.
//! Invariant: operations of one socket and one direction are done in the order they were handed in.
//! Invariant: operations under way and their last completions together never exceed the queue's capacity; what multishot operations
//! bring besides is held back while as many completions wait (of several shards each learns that when it has used up its part of
//! the room there was, so that up to as many again may have come, and one for each shard).

mod buffer;
mod op;
mod queue;

use std::io;
use std::net::SocketAddr;

use crate::clock::Clock;
use crate::sockets::{Arrival, RecvMeta};

pub use buffer::{Buffer, BufferGroup, GroupBuffer};
pub use op::Op;
pub(crate) use op::{FilePart, Opened, Target, Tour, What};
pub use queue::{CompletionQueue, SubmitError, Worker};
pub(crate) use queue::{Passed, QueueShared};

/// A socket of a completion queue: small, `Copy`, and never mistaken for a later one in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    /// The driver's name for it.
    pub(crate) token: u64,
    /// The shard's, so that a handle of another host is refused.
    pub(crate) host: u32,
}

/// What became of an operation.
#[derive(Debug)]
pub struct Completion {
    /// The operation's own word ([`Op::token`]).
    pub token: u64,
    /// The word of the socket it was about; of posted ones, what was posted.
    pub key: u64,
    /// How many bytes, sockets or operations; what else it may be is told where the operation is made. The error is the one the
    /// call of the BSD sockets gives; ECANCELED for what was cancelled. What failed or was cancelled when part of it was done tells how
    /// much; an error of the socket is told to the next.
    pub result: io::Result<usize>,
    /// The buffer that was handed in, or one of the group's. Of what was received, [`Completion::bytes`] is the part to read.
    pub buffer: Option<Buffer>,
    /// The socket that was made, by accept, connect, listen and bind; else the one it was about.
    pub socket: Option<Handle>,
    /// Where a connection, or a datagram, comes from; where a listener or a datagram socket is bound.
    pub address: Option<SocketAddr>,
    /// More will come of the same operation.
    pub more: bool,
    /// What is known of a datagram.
    pub(crate) arrival: Option<Arrival>,
}

impl Completion {
    /// The bytes received: the first [`Completion::result`] of the buffer.
    pub fn bytes(&self) -> &[u8] {
        match (&self.buffer, &self.result) {
            (Some(buffer), Ok(n)) => buffer.get(..*n).unwrap_or_default(),
            _ => &[],
        }
    }

    /// What is known of a datagram that was received: to which address it was sent, its ECN bits, when it came, whether it was longer
    /// than the buffer. `None` of everything else.
    pub fn meta(&self) -> Option<RecvMeta> {
        let (arrival, from) = self.arrival.zip(self.address)?;
        let len = *self.result.as_ref().ok()?;
        Some(arrival.meta(&Clock::new(), from, len))
    }
}
