//! Bytes from one connection's receive queue to another's send queue: references to blocks, not bytes.
//!
//! Bytes that are few ([`base::Pool::move_front`]) are copied behind others, so that they keep no block of their own.
//!
//! What does not live here: how often to ask, and what becomes of ends and errors, which is the caller's to pass on.
//!
//! Invariant: everybody is asked before anything moves: what cannot be taken stays where it is, and that window closes.
//! Invariant: what is moved is held by the queues before and after: the account of memory changes by segments that were cut only.

use base::Chain;

use crate::context::Core;
use crate::error::SocketError;
use crate::socket::SocketId;
use crate::stats::Count;

use super::Tcp;
use super::record::flag;
use super::write::{Space, Write};

/// Why nothing was moved, and of which connection that is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpliceError {
    /// Of the one bytes come from; `WouldBlock`: nothing is there.
    From(SocketError),
    /// Of the one they go to; `WouldBlock`: it has no room, and an event tells when it has; `NoBuffers`: packet memory has no
    /// segment for the cut, and nothing tells.
    To(SocketError),
    /// Of the one they are shared with, as of the other.
    Copy(SocketError),
}

impl Tcp {
    /// See [`crate::Host::tcp_splice`] and [`crate::Host::tcp_tee`].
    pub(crate) fn splice(
        &mut self,
        core: &mut Core,
        from: SocketId,
        (to, copy): (SocketId, Option<SocketId>),
        most: usize,
    ) -> Result<usize, SpliceError> {
        let from = self.live(from).map_err(SpliceError::From)?;
        let to = self.taker(to).map_err(SpliceError::To)?;
        let copy = copy.map(|copy| self.taker(copy)).transpose();
        let copy = copy.map_err(SpliceError::Copy)?;
        let Some(source) = self.check_readable(from).map_err(SpliceError::From)? else {
            return Ok(0);
        };
        let there = self.actives.at(source).map_or(0, |act| act.recv.len());
        let room = self.room_for(core, to, there.min(most));
        let mut n = room.map_err(SpliceError::To)?;
        if let Some(copy) = copy {
            let room = self.room_for(core, copy, n);
            n = room.map_err(|why| {
                self.settle(core, to);
                SpliceError::Copy(why)
            })?;
        }
        self.move_bytes(core, source, (to, copy), n)?;
        core.stats.counts.add_n(Count::TcpSplicedBytes, n as u64);
        self.after_read(core, from);
        for taker in core::iter::once(to).chain(copy) {
            self.start_deferred(core, taker);
            if let Some(mut conn) = self.conn(taker) {
                conn.watch(core, taker);
            }
            self.queue_send(taker);
        }
        Ok(n)
    }

    /// Moves the first `n` bytes that the `Active` record `source` has received.
    fn move_bytes(
        &mut self,
        core: &mut Core,
        source: u32,
        (to, copy): (u32, Option<u32>),
        n: usize,
    ) -> Result<(), SpliceError> {
        let Some(act) = self.actives.at_mut(source) else {
            return Err(SpliceError::From(SocketError::BadSocket));
        };
        let mut received = act.recv.take();
        let shared = match copy {
            None => Some(Chain::EMPTY),
            Some(_) => core.pool.share(&received, 0, n),
        };
        let moved = shared.is_some() && self.move_front(core, to, &mut received, n);
        if let Some(act) = self.actives.at_mut(source) {
            act.recv = received;
        }
        let shared = shared.unwrap_or_default();
        if !moved {
            core.pool.free(shared);
            core::iter::once(to)
                .chain(copy)
                .for_each(|taker| self.settle(core, taker));
            return Err(SpliceError::To(SocketError::NoBuffers));
        }
        match copy.and_then(|copy| self.conn(copy)) {
            Some(mut conn) => {
                core.takes(&shared);
                core.queued(|pool| pool.append(&mut conn.act.unsent, shared));
                conn.note_write(Write::default(), true);
            }
            None => core.pool.free(shared),
        }
        Ok(())
    }

    /// One that bytes are to be sent on, if it ever can be.
    fn taker(&mut self, id: SocketId) -> Result<u32, SocketError> {
        let index = self.live(id)?;
        let tcb = self.conns.at_mut(index).ok_or(SocketError::BadSocket)?;
        match Self::check_writable(tcb) {
            Ok(()) => Ok(index),
            Err(error) => {
                tcb.flags |= flag::WANT_WRITE;
                Err(error)
            }
        }
    }

    /// How many of `most` bytes a connection takes; at least one. Memory sets no limit here: what is moved is held already.
    fn room_for(&mut self, core: &mut Core, index: u32, most: usize) -> Result<usize, SocketError> {
        let mut conn = self.conn(index).ok_or(SocketError::NoBuffers)?;
        let space = Space::of(conn.tcb, conn.act, &conn.profile.options, core);
        let mut room = space.room() as usize;
        if conn.tcb.deferred() {
            room = room.min(conn.syn_room());
        }
        if room < most {
            conn.tcb.flags |= flag::WANT_WRITE;
        }
        match room.min(most) {
            0 => {
                self.settle(core, index);
                Err(SocketError::WouldBlock)
            }
            n => Ok(n),
        }
    }

    /// Moves the first `n` bytes of `from` to the end of what is to be sent.
    fn move_front(&mut self, core: &mut Core, index: u32, from: &mut Chain, n: usize) -> bool {
        let Some(mut conn) = self.conn(index) else {
            return false;
        };
        let unsent = &mut conn.act.unsent;
        let moved = core.queued(|pool| pool.move_front(from, unsent, n));
        if moved.is_some() {
            conn.note_write(Write::default(), true);
        }
        moved.is_some()
    }
}
