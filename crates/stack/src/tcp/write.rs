//! Writing: how much a connection takes, and what a write says of its bytes (RFC 9293 3.9.1.2).
//!
//! # Room
//!
//! As on Linux bytes are taken in units, of what makes the longest super-frame: one is begun while less waits than the send
//! buffer holds, and less is unsent than TCP_NOTSENT_LOWAT says; one that was begun is filled. A writer who found no room hears
//! when a third of the buffer is free. The buffer grows with the congestion window, so that a window's worth can wait
//! behind the one in flight, unless the application has fixed it.
//!
//! A socket that is charged for frames (`TcpOptions::charge_frames`) meets Linux's limits to the byte: each unit costs its
//! bookkeeping besides, the first of a write leaves before the next is taken, and one may be longer than the buffer.
//!
//! What does not live here: what leaves when (`output`).
//!
//! Invariant: no more waits than the send buffer and one unit, which is no longer than the buffer unless frames are charged.

use base::{BLOCK, Chain};

use crate::context::{Core, Keep};
use crate::error::SocketError;
use crate::socket::SocketId;

use super::Tcp;
use super::conn::Conn;
use super::output::super_frame;
use super::profile::TcpOptions;
use super::record::{Active, State, Tcb, flag};
use super::timer::sync;

/// Linux's reckoning of the memory a segment of a growing send buffer costs: headers and bookkeeping before it, rounded up to a
/// power of two, and more bookkeeping (an Ethernet segment: 4,352 bytes, a fresh connection: 87,040).
const SEGMENT_HEADERS: u32 = 640;
const SEGMENT_RECORD: u32 = 256;
/// The window, in segments, that the send buffer is made for at least.
const LEAST_WINDOW: u32 = 10;

/// What a write says of its bytes besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Write {
    /// More follows soon: a partial segment may wait for it (MSG_MORE).
    pub more: bool,
    /// A record ends: what is written later never shares a segment with it (MSG_EOR).
    pub end_of_record: bool,
    /// The last byte is the end of urgent data (MSG_OOB).
    pub urgent: bool,
}

impl Write {
    fn needs_edges(self) -> bool {
        self.end_of_record || self.urgent
    }
}

/// How full the queues of a writer are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    /// The send buffer.
    limit: u32,
    /// Bytes in it.
    used: u32,
    unsent: u32,
    /// Bytes that may be unsent.
    lowat: u32,
    unit: u32,
    /// What a unit costs besides its bytes.
    charge: u32,
    /// The host holds as much as it may, and this connection what it always may.
    refused: bool,
}

/// The send buffer: what the application set, or what the window needs (Linux's tcp_sndbuf_expand). After a loss `ssthresh` tells
/// of the window before. Under pressure it is what is in flight of a whole window, and no more is held ready behind it; at least what
/// Linux reckons for the first window.
pub(crate) fn send_limit(tcb: &Tcb, options: &TcpOptions, core: &Core) -> u32 {
    if let Some(set) = options.send_buffer {
        return set;
    }
    let (first, most) = (core.tcp.wmem_default, core.tcp.wmem_max);
    let pressure = core.memory.pressure();
    if most <= first && !pressure {
        return first;
    }
    let mss = u32::from(tcb.mss).max(1);
    let finite = Some(tcb.ssthresh).filter(|&bytes| bytes < 1 << 30);
    let window = tcb.cwnd.max(finite.unwrap_or(0)) / mss;
    let each = (mss + SEGMENT_HEADERS).next_power_of_two() + SEGMENT_RECORD;
    if pressure {
        let fresh = first.min(2 * LEAST_WINDOW * each);
        return window.saturating_mul(each).clamp(fresh, most.max(fresh));
    }
    let grown = window
        .max(LEAST_WINDOW)
        .saturating_mul(2)
        .saturating_mul(each);
    grown.min(most).max(first)
}

/// Bytes that may be unsent.
fn lowat(options: &TcpOptions, core: &Core) -> u32 {
    match options.notsent_lowat {
        0 => core.tcp.notsent_lowat,
        own => own,
    }
}

/// The send buffer is no smaller, but under pressure: no limit that grows with the window is less than the first one.
fn least_limit(options: &TcpOptions, core: &Core) -> u32 {
    options.send_buffer.unwrap_or(core.tcp.wmem_default)
}

/// Room there is at least, without the divisions that the exact figure takes: most writes are small, and find the queues near empty.
fn least_room(act: &Active, options: &TcpOptions, core: &Core) -> u32 {
    if options.charge_frames || core.memory.pressure() {
        return 0;
    }
    let (sent, unsent) = (act.sent.len() as u32, act.unsent.len() as u32);
    let free = least_limit(options, core).saturating_sub(sent.saturating_add(unsent));
    free.min(lowat(options, core).saturating_sub(unsent))
}

impl Space {
    pub(crate) fn of(tcb: &Tcb, act: &Active, options: &TcpOptions, core: &Core) -> Self {
        let limit = send_limit(tcb, options, core);
        let mss = u32::from(tcb.mss).max(1);
        let half = (tcb.max_wnd() / 2).max(mss);
        let (sent, unsent) = (act.sent.len() as u32, act.unsent.len() as u32);
        let unit = super_frame(mss).min(half - half % mss);
        let (unit, charge) = if options.charge_frames {
            (unit.max(1), SEGMENT_HEADERS + SEGMENT_RECORD)
        } else {
            (unit.min(limit).max(1), 0)
        };
        let charges = if charge > 0 {
            (sent.div_ceil(unit) + unsent.div_ceil(unit)).saturating_mul(charge)
        } else {
            0
        };
        Self {
            limit,
            used: sent.saturating_add(unsent).saturating_add(charges),
            unsent,
            lowat: lowat(options, core),
            unit,
            charge,
            refused: core.memory.room(act.to_send(), act.recv.len()) == 0,
        }
    }

    /// Bytes the application may still write.
    pub(crate) fn room(&self) -> u32 {
        let tail = match self.unsent % self.unit {
            0 => 0,
            begun => self.unit - begun,
        };
        let free = self.limit.saturating_sub(self.used).saturating_sub(tail);
        let wanted = self.lowat.saturating_sub(self.unsent).saturating_sub(tail);
        let units = free
            .div_ceil(self.unit.saturating_add(self.charge))
            .min(wanted.div_ceil(self.unit));
        let room = tail.saturating_add(units.saturating_mul(self.unit));
        if self.charge > 0 {
            return room;
        }
        let most = self.limit.saturating_add(self.unit);
        room.min(most.saturating_sub(self.used))
    }

    /// Bytes to be taken before what is at the head of the queue leaves, if frames are charged: `early` leave from there
    /// meanwhile, in shorter frames than a unit, and others take their place in it.
    fn head(&self, early: u32) -> u32 {
        self.unit.saturating_add(early).saturating_sub(self.unsent)
    }

    /// Whether the application should hear that there is room: Linux's rule, a third of the buffer is free, and less is unsent
    /// than half of what may be.
    pub(crate) fn is_writable(&self) -> bool {
        let free = self.limit.saturating_sub(self.used);
        !self.refused
            && u64::from(free) * 3 >= u64::from(self.limit)
            && u64::from(self.unsent) * 2 < u64::from(self.lowat)
    }
}

/// Whether the application should hear that there is room to write.
pub(crate) fn is_writable(tcb: &Tcb, act: &Active, options: &TcpOptions, core: &Core) -> bool {
    // A third of the least the buffer may be is free: the exact figure takes divisions.
    let queued = act.to_send() as u64;
    let limit = u64::from(least_limit(options, core));
    let plenty = !options.charge_frames
        && !core.memory.pressure()
        && limit.saturating_sub(queued) * 3 >= limit
        && act.unsent.len() as u64 * 2 < u64::from(lowat(options, core))
        && core.memory.room(act.to_send(), act.recv.len()) > 0;
    let exact = || Space::of(tcb, act, options, core).is_writable();
    debug_assert!(!plenty || exact());
    plenty || exact()
}

impl Conn<'_> {
    /// Whether the application should hear that there is room to write.
    pub(crate) fn is_writable(&self, core: &Core) -> bool {
        is_writable(self.tcb, self.act, &self.profile.options, core)
    }

    /// Bytes that a write of `wanted` may add now, and whether they are fewer because some of them are to leave before more are taken.
    fn room(&self, core: &Core, wanted: usize) -> (u32, bool) {
        let options = &self.profile.options;
        let least = least_room(self.act, options, core);
        if wanted <= least as usize {
            debug_assert!(Space::of(self.tcb, self.act, options, core).room() >= least);
            return (least, false);
        }
        let space = Space::of(self.tcb, self.act, options, core);
        let room = space.room();
        if !options.charge_frames || room == 0 || space.unsent >= space.unit {
            return (room, false);
        }
        let allowed = self.allowance();
        let early = if self.long_frame(&core.tcp) < space.unit {
            allowed - allowed % u32::from(self.tcb.mss).max(1)
        } else {
            0
        };
        (space.head(early), true)
    }

    /// Part of a write was taken, and the rest comes right behind it: it is pushed no sooner than when it makes half of the
    /// largest window (Linux's forced_push).
    fn note_part(&mut self) {
        let edge = self.write_edge();
        if edge.dist(self.act.pushed) > self.tcb.max_wnd() / 2 {
            self.act.pushed = edge;
        }
    }

    /// Lets a timer look after a writer, if none does: should there be no memory at all, and nothing in flight whose ACK would
    /// bring him back, or an interface that takes no frames, ever. Sending sets it anew.
    pub(super) fn watch(&mut self, core: &mut Core, index: u32) {
        if self.act.rto_at == base::Instant::FAR {
            self.act.rto_at = self.rto_from(core.now);
            sync(core, self.tcb, self.act, index);
        }
    }

    /// Bytes were written; `whole`: all there were.
    pub(super) fn note_write(&mut self, how: Write, whole: bool) {
        // One who has to wait for room has no more to say for now: nothing is held back for him.
        self.act.more = how.more && whole;
        if !self.act.more {
            self.act.pushed = self.write_edge();
        }
        if whole && how.end_of_record {
            self.end_record();
        }
        if whole && how.urgent {
            self.send_urgent();
        }
    }
}

/// Bytes a writer may put into packet memory now. One with nothing queued may always write a little, as long as there is any,
/// for no ACK will call it back.
fn memory_to_write(core: &Core, (queued, unread): (usize, usize)) -> usize {
    let spare = core.spare_blocks(Keep::Unsent) as usize * BLOCK;
    let little = (core.spare_blocks(Keep::All) as usize * BLOCK).min(BLOCK);
    let spare = if queued == 0 {
        spare.max(little)
    } else {
        spare
    };
    spare.min(core.memory.room(queued, unread))
}

impl Tcp {
    /// Whether data may be written in this state, and the error when not.
    pub(super) fn check_writable(tcb: &mut Tcb) -> Result<(), SocketError> {
        if let Some(error) = tcb.take_error() {
            return Err(error);
        }
        match tcb.state {
            state if state.sends() || tcb.deferred() => Ok(()),
            State::SynSent | State::SynReceived if !tcb.has(flag::WRITE_SHUT) => {
                Err(SocketError::WouldBlock)
            }
            _ => Err(SocketError::BrokenPipe),
        }
    }

    /// Queues bytes to be sent. Returns how many were taken.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room (an event tells when there is), `BrokenPipe` after shutdown, the pending error;
    /// `NoBuffers` when too many ends of records are remembered.
    pub(crate) fn send(
        &mut self,
        core: &mut Core,
        id: SocketId,
        bytes: &[u8],
        how: Write,
    ) -> Result<usize, SocketError> {
        let index = self.live(id)?;
        let memory = self.check_send(core, index)?;
        let Some(mut conn) = self.conn(index) else {
            return Err(SocketError::NoBuffers);
        };
        if how.needs_edges() && !conn.edges.capacity_left() {
            return Err(SocketError::NoBuffers);
        }
        let (room, leaves) = conn.room(core, bytes.len().min(memory));
        let part = leaves && (room as usize) < bytes.len().min(memory);
        let room = (room as usize).min(bytes.len()).min(memory);
        let room = if conn.tcb.deferred() {
            room.min(conn.syn_room())
        } else {
            room
        };
        let taken = core.queued(|pool| pool.append_bytes(&mut conn.act.unsent, &bytes[..room]));
        if part && taken == room {
            conn.note_part();
            conn.watch(core, index);
            return self.after_write(core, index, taken, taken);
        }
        // As Linux: one who has to wait pushes what he wrote before.
        if taken > 0 || conn.profile.options.charge_frames && !bytes.is_empty() {
            conn.note_write(how, taken == bytes.len());
        }
        if !bytes.is_empty() {
            conn.watch(core, index);
        }
        self.after_write(core, index, taken, bytes.len())
    }

    /// See [`crate::Host::tcp_send_buffer`].
    pub(crate) fn send_buffer(&self, core: &Core, id: SocketId) -> Result<u32, SocketError> {
        let tcb = self
            .conns
            .at(self.live(id)?)
            .ok_or(SocketError::BadSocket)?;
        let options = &self.profiles.get(tcb.profile).options;
        Ok(send_limit(tcb, options, core))
    }

    /// Queues a chain of blocks to be sent, without a copy.
    ///
    /// # Errors
    /// As [`Tcp::send`]; the chain comes back.
    pub(crate) fn send_chain(
        &mut self,
        core: &mut Core,
        id: SocketId,
        chain: Chain,
    ) -> Result<(), (Chain, SocketError)> {
        let checked = self
            .live(id)
            .and_then(|index| self.check_send(core, index).map(|_| index));
        let index = match checked {
            Ok(index) => index,
            Err(error) => return Err((chain, error)),
        };
        let Some(mut conn) = self.conn(index) else {
            return Err((chain, SocketError::NoBuffers));
        };
        let space = Space::of(conn.tcb, conn.act, &conn.profile.options, core);
        if space.room() == 0 {
            conn.tcb.flags |= flag::WANT_WRITE;
            return Err((chain, SocketError::WouldBlock));
        }
        core.takes(&chain);
        core.queued(|pool| pool.append(&mut conn.act.unsent, chain));
        conn.note_write(Write::default(), true);
        conn.watch(core, index);
        self.queue_send(index);
        Ok(())
    }

    /// Whether data may be queued to be sent; how many bytes, as far as packet memory goes.
    fn check_send(&mut self, core: &mut Core, index: u32) -> Result<usize, SocketError> {
        self.count_sharers(core);
        let Some(tcb) = self.conns.at_mut(index) else {
            return Err(SocketError::BadSocket);
        };
        if let Err(error) = Self::check_writable(tcb) {
            if error == SocketError::WouldBlock {
                tcb.flags |= flag::WANT_WRITE;
            }
            return Err(error);
        }
        let act = self.actives.at(tcb.active);
        let (queued, unread) = act.map_or((0, 0), |act| (act.to_send(), act.recv.len()));
        let memory = memory_to_write(core, (queued, unread));
        if memory == 0 && queued > 0 {
            tcb.flags |= flag::WANT_WRITE;
            return Err(SocketError::WouldBlock);
        }
        Ok(memory)
    }

    fn after_write(
        &mut self,
        core: &mut Core,
        index: u32,
        taken: usize,
        wanted: usize,
    ) -> Result<usize, SocketError> {
        if taken < wanted
            && let Some(tcb) = self.conns.at_mut(index)
        {
            tcb.flags |= flag::WANT_WRITE;
        }
        self.start_deferred(core, index);
        if wanted == 0 {
            self.settle(core, index);
            return Ok(0);
        }
        if taken == 0 {
            return Err(SocketError::WouldBlock);
        }
        self.queue_send(index);
        Ok(taken)
    }
}
