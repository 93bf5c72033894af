//! Dynamic right-sizing of the receive buffer, as Linux does it: the buffer of a reader who keeps up grows with what he reads
//! in a round trip, so that a fast sender far away is not held back, and nobody else is granted much.
//!
//! What it needs to know stands in a record of its own, an [`Inflow`], which a connection gets with its first segment of full
//! length and keeps as long as nobody needs it more: where all are taken, one whose owner heard nothing for a second goes to
//! the next, and its owner begins again with the first buffer, though what was offered stays offered.
//!
//! The first buffer, too, holds the more the better frames fill the memory they lie in (Linux's scaling ratio). And what waits
//! behind a gap has room beside what is read, on a connection that the application has.
//!
//! What does not live here: the window itself (`window`).
//!
//! Invariant: an inflow has one owner, which names it; records are bounded, and finding one to take looks at a few only.

use base::{Instant, Seq};

use crate::context::Core;

use super::Tcp;
use super::conn::Conn;
use super::receive::COPY_UP_TO;
use super::record::{NONE, Tcb, flag};
use super::segment::Segment;
use super::tunables::TcpTunables;

/// A segment at least this long, or as long as ours may be, is of a stream.
const STREAM_SEGMENT: u16 = 1200;
/// A record whose owner heard nothing for so long may go to another.
const IDLE_MS: u32 = 1000;
/// How many places a connection's record may be at.
const LOOKS: u32 = 8;

/// A page of the memory that frames are reckoned to lie in.
const PAGE: u32 = 4096;
/// What stands in front of a frame's payload, about.
const HEADERS: u32 = 104;
/// What is kept of each frame besides: behind its bytes, and apart from them.
const TAIL: u32 = 320;
const RECORD: u32 = 256;

/// As much as a buffer holds at least of its memory, in 256ths.
const HALF: u8 = 128;

/// The memory that a frame with `len` bytes of payload is reckoned to take, as Linux's `truesize`: a power of two up to two pages,
/// else whole pages, and its bookkeeping. The blocks it lies in here are about as much.
fn charge(len: u32) -> u32 {
    let frame = len.saturating_add(HEADERS);
    if frame <= 2 * PAGE - TAIL {
        (frame + TAIL).next_power_of_two() + RECORD
    } else {
        frame.min(1 << 30).next_multiple_of(PAGE) + TAIL + RECORD
    }
}

/// What is known of a stream that comes in.
#[derive(Debug)]
pub(crate) struct Inflow {
    owner: u32,
    /// Bytes that may wait to be read.
    pub(crate) limit: u32,
    /// The round trip as seen from here, microseconds times 8; 0: not known.
    rtt: u32,
    /// Without timestamps: the round trip is over when this has come, which began at (microseconds).
    rtt_seq: Seq,
    rtt_at: u32,
    /// The last echo that was a sample.
    echoed: u32,
    /// What was read first in this round trip, when (microseconds), and how much in the one before.
    read_seq: Seq,
    read_at: u32,
    space: u32,
    /// Up to where data were in order when the peer was told of some that were not; how often it was told since, and how many
    /// more segments wait to be told of.
    pub(crate) told: Seq,
    pub(crate) duplicates: u8,
    /// Its longest segment.
    mss: u16,
    pub(crate) compressed: u8,
    /// How much of the memory its frames take is payload at best, in 256ths; 0: not known.
    fill: u8,
    /// The memory that what waits is reckoned to take, in order and out of order, and how many bytes in order it was when that was
    /// looked at last.
    charged: u32,
    unread: u32,
}

const _: () = assert!(size_of::<Inflow>() <= 56);

fn micros(now: Instant) -> u32 {
    now.micros() as u32
}

impl Inflow {
    const FREE: Self = Self {
        owner: NONE,
        limit: 0,
        rtt: 0,
        rtt_seq: Seq(0),
        rtt_at: 0,
        echoed: 0,
        read_seq: Seq(0),
        read_at: 0,
        space: 0,
        told: Seq(0),
        mss: 0,
        duplicates: 0,
        compressed: 0,
        fill: 0,
        charged: 0,
        unread: 0,
    };

    /// A frame with `len` bytes of payload has come: notes how well it fills its memory. The best that was seen stays, so that
    /// a buffer of which more was offered does not become smaller.
    fn fills(&mut self, len: u32) {
        let fill = u64::from(len) * 256 / u64::from(charge(len));
        self.fill = self.fill.max(fill.min(255) as u8);
    }

    /// The bytes that have room in so much memory.
    pub(crate) fn holds(&self, memory: u32) -> u32 {
        (u64::from(memory) * u64::from(self.fill) / 256) as u32
    }

    pub(crate) fn knows_fill(&self) -> bool {
        self.fill != 0
    }

    /// The bytes of the buffer that what waits takes: as many as there would be in its memory.
    pub(crate) fn occupied(&self) -> u32 {
        let fill = u64::from(self.fill.max(HALF));
        (u64::from(self.charged) * fill / 256) as u32
    }

    /// So many bytes are left to be read: what was read gives its part of the memory back.
    fn settle(&mut self, unread: u32) {
        if unread < self.unread {
            let left = u64::from(self.charged) * u64::from(unread) / u64::from(self.unread);
            self.charged = left as u32;
        }
        self.unread = unread;
    }

    /// The memory that the buffer takes.
    pub(crate) fn memory(&self) -> u32 {
        let fill = u64::from(if self.fill == 0 { HALF } else { self.fill });
        u32::try_from(u64::from(self.limit) * 256 / fill).unwrap_or(u32::MAX)
    }

    /// Takes a round trip in microseconds: smoothed when it is exact, the least when it is that of a window, which may have
    /// waited for the sender.
    fn sample(&mut self, us: u32, exact: bool) {
        let us = us.clamp(1, 1 << 27);
        self.rtt = match self.rtt {
            0 => us << 3,
            old if exact => old - (old >> 3) + us,
            old => old.min(us << 3),
        };
    }

    /// What was read in the round trip before, bytes.
    pub(crate) fn space(&self) -> u32 {
        self.space
    }

    /// The round trip, microseconds.
    pub(crate) fn rtt(&self) -> u32 {
        self.rtt >> 3
    }
}

/// The records of one host. One of a connection is near a place that its index gives, so that four bits tell which it is.
#[derive(Debug)]
pub(crate) struct Inflows {
    slots: Box<[Inflow]>,
    used: u32,
}

impl Inflows {
    /// Room for half as many streams as connections may be active at a time.
    pub(crate) fn new(active: u32) -> Self {
        let most = (active / 2).clamp(1, 1 << 20) as usize;
        let slots = core::iter::repeat_with(|| Inflow::FREE).take(most);
        Self {
            slots: slots.collect(),
            used: 0,
        }
    }

    fn slot(&self, index: u32, way: u32) -> usize {
        // Spread, for connections with neighbouring indices are often of one kind.
        let place = u64::from(index.wrapping_mul(0x9e37_79b1)) + u64::from(way);
        (place % self.slots.len().max(1) as u64) as usize
    }

    /// What is known of the stream of a connection whose record says `at`.
    #[inline]
    pub(crate) fn of(&self, index: u32, at: u8) -> Option<&Inflow> {
        let way = at.checked_sub(1)?;
        self.slots.get(self.slot(index, u32::from(way)))
    }

    #[inline]
    pub(crate) fn of_mut(&mut self, index: u32, at: u8) -> Option<&mut Inflow> {
        let way = at.checked_sub(1)?;
        let slot = self.slot(index, u32::from(way));
        self.slots.get_mut(slot)
    }

    /// Whether each record that is in use belongs to one of these connections, and each of them has one.
    pub(crate) fn belong_to(&self, mut owners: impl Iterator<Item = (u32, u8)>) -> bool {
        let mut seen = 0;
        let all = owners.all(|(index, at)| {
            seen += 1;
            self.of(index, at).is_some_and(|s| s.owner == index)
        });
        all && seen == self.used
    }
}

impl Tcb {
    /// Whether a segment tells of a stream for which there is no record yet.
    #[inline]
    pub(crate) fn begins_inflow(&self, seg: &Segment) -> bool {
        self.inflow() == 0
            && seg.len >= u32::from(self.mss.min(STREAM_SEGMENT))
            && self.state.receives()
    }
}

impl Tcp {
    /// Gives a connection a record for the stream it receives, if there is one to be had.
    #[cold]
    pub(super) fn begin_inflow(&mut self, core: &Core, index: u32) {
        let now_ms = core.now.millis() as u32;
        let Some(way) = (0..LOOKS).find(|way| self.may_take(index, *way, now_ms)) else {
            return;
        };
        let slot = self.inflows.slot(index, way);
        let before = self.inflows.slots[slot].owner;
        match self.conns.at_mut(before) {
            Some(before) => before.set_inflow(0),
            None => self.inflows.used += 1,
        }
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        tcb.set_inflow(way as u8 + 1);
        let unread = self.actives.at(tcb.active).map_or(0, |a| a.recv.len());
        let now = micros(core.now);
        self.inflows.slots[slot] = Inflow {
            owner: index,
            rtt: tcb.srtt,
            rtt_seq: tcb.rcv_adv,
            rtt_at: now,
            read_seq: Seq(tcb.rcv_nxt.0.wrapping_sub(unread as u32)),
            read_at: now,
            space: 10 * u32::from(tcb.mss),
            told: tcb.rcv_nxt,
            charged: unread as u32,
            unread: unread as u32,
            ..Inflow::FREE
        };
    }

    /// Whether a record is free, or its owner has been silent.
    fn may_take(&self, index: u32, way: u32, now_ms: u32) -> bool {
        let owner = self.inflows.slots[self.inflows.slot(index, way)].owner;
        let owner = self.conns.at(owner);
        owner.is_none_or(|tcb| now_ms.wrapping_sub(tcb.last_received) >= IDLE_MS)
    }

    /// Takes the record of a connection out that goes to another host.
    pub(super) fn take_inflow(&mut self, index: u32) -> Option<Inflow> {
        let tcb = self.conns.at_mut(index)?;
        let inflow = self.inflows.of_mut(index, tcb.inflow())?;
        let taken = core::mem::replace(inflow, Inflow::FREE);
        self.inflows.used -= 1;
        tcb.set_inflow(0);
        Some(taken)
    }

    /// Gives a connection the record that it had there, if one is to be had.
    pub(super) fn put_inflow(&mut self, core: &Core, index: u32, inflow: Inflow) {
        self.begin_inflow(core, index);
        let at = self.conns.at(index).map_or(0, Tcb::inflow);
        if let Some(own) = self.inflows.of_mut(index, at) {
            *own = Inflow {
                owner: index,
                ..inflow
            };
        }
    }

    /// Gives the record of a connection that ends back.
    pub(super) fn end_inflow(&mut self, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        if let Some(inflow) = self.inflows.of_mut(index, tcb.inflow()) {
            *inflow = Inflow::FREE;
            self.inflows.used -= 1;
            tcb.set_inflow(0);
        }
    }
}

impl Conn<'_> {
    /// Remembers the longest segment, which the active part forgets whenever it has nothing to do. `len`: of those that came joined.
    pub(crate) fn note_segment(&mut self, unit: u32, len: u32) {
        let unit = u16::try_from(unit).unwrap_or(u16::MAX);
        let mut longest = self.act.rcv_mss.max(unit);
        if let Some(inflow) = self.inflow.as_deref_mut() {
            inflow.mss = inflow.mss.max(longest);
            longest = inflow.mss;
            inflow.fills(len);
        }
        self.act.rcv_mss = longest;
    }

    /// A frame with `len` bytes of payload waits. Short ones that join others share blocks, of which less than half stays empty.
    pub(crate) fn charge_frame(&mut self, len: u32, joins: bool) {
        let unread = self.act.recv.len() as u32;
        if let Some(inflow) = self.inflow.as_deref_mut() {
            let memory = match joins && len as usize <= COPY_UP_TO {
                true => charge(len).min(2 * len),
                false => charge(len),
            };
            inflow.charged = inflow.charged.saturating_add(memory);
            inflow.unread = unread;
        }
    }

    /// Data came in order: takes the round trip it tells, by the echo of our timestamp, else by how long a window took.
    pub(crate) fn measure_inflow(&mut self, now: Instant, seg: &Segment) {
        let (clock, nxt, window) = (self.tcb.tsval(now), self.tcb.rcv_nxt, self.tcb.rcv_wnd());
        let (stamped, mss) = (self.tcb.has(flag::TIMESTAMPS), self.act.rcv_mss);
        let Some(inflow) = self.inflow.as_deref_mut() else {
            return;
        };
        if stamped {
            let Some((_, echo)) = seg.timestamps else {
                return;
            };
            if echo != inflow.echoed && echo != 0 && seg.len >= u32::from(mss) {
                inflow.echoed = echo;
                let ms = clock.wrapping_sub(echo);
                if ms < 1 << 17 {
                    inflow.sample(ms.max(1) * 1000, true);
                }
            }
        } else if nxt.ge(inflow.rtt_seq) {
            inflow.sample(micros(now).wrapping_sub(inflow.rtt_at), false);
            inflow.rtt_seq = nxt + window;
            inflow.rtt_at = micros(now);
        }
    }

    /// Something was read: once a round trip, more than in the one before lets the buffer grow to twice as much, and by as much
    /// more as the sender is getting faster (as Linux).
    pub(crate) fn moderate(&mut self, core: &Core) {
        let unread = self.act.recv.len() as u32;
        if let Some(inflow) = self.inflow.as_deref_mut() {
            inflow.settle(unread);
        }
        let fixed = core.tcp.moderate_rcvbuf == 0 || self.profile.options.receive_buffer.is_some();
        if fixed || core.memory.pressure() {
            return;
        }
        let (edge, mss) = (self.read_edge(), u64::from(self.act.rcv_mss));
        let most = most(&core.tcp);
        let Some(inflow) = self.inflow.as_deref_mut() else {
            return;
        };
        let now = micros(core.now);
        if inflow.rtt == 0 || now.wrapping_sub(inflow.read_at) < inflow.rtt() {
            return;
        }
        let copied = edge.dist(inflow.read_seq);
        if copied > inflow.space {
            let (read, before) = (u64::from(copied), u64::from(inflow.space));
            let faster = (read - before).saturating_mul(4 * read) / before.max(1);
            let wanted = (2 * read + 16 * mss).saturating_add(faster);
            let limit = u32::try_from(wanted).unwrap_or(u32::MAX).min(most);
            inflow.limit = inflow.limit.max(limit);
            inflow.space = copied;
        }
        inflow.read_seq = edge;
        inflow.read_at = now;
    }
}

impl Conn<'_> {
    /// Data up to `end` wait behind a gap: they have room beside what the application reads in a round trip (as Linux), once it has
    /// the connection. That is bounded by what it reads, or the first buffer: else gaps alone would let the buffer grow and grow.
    pub(crate) fn make_room_behind(&mut self, core: &Core, end: Seq) {
        let options = &self.profile.options;
        let fixed = core.tcp.moderate_rcvbuf == 0 || options.receive_buffer.is_some();
        if fixed || core.memory.pressure() || self.tcb.has(flag::UNACCEPTED) {
            return;
        }
        let (behind, mss) = (end.dist(self.tcb.rcv_nxt), u32::from(self.act.rcv_mss));
        let Some(inflow) = self.inflow.as_deref_mut() else {
            return;
        };
        let behind = behind.min(inflow.space.max(core.tcp.rmem_default));
        let wanted = inflow.space.saturating_mul(2).saturating_add(16 * mss);
        let limit = wanted.saturating_add(behind).min(most(&core.tcp));
        inflow.limit = inflow.limit.max(limit);
    }
}

/// The most a buffer that grows may become.
pub(crate) fn most(tcp: &TcpTunables) -> u32 {
    tcp.rmem_max.max(tcp.rmem_default / 2)
}

#[cfg(test)]
mod tests {
    use crate::tcp::conn_tests::{Bench, core};

    use super::*;

    /// Much may be read in what the peer's timestamps make a round trip, or while the host does not moderate.
    #[test]
    fn any_number_of_bytes_may_be_read_in_a_round_trip() {
        let core = core();
        for space in [0, 1, 14_600] {
            let mut inflow = Inflow {
                rtt: 8,
                read_seq: Seq(1000) + 1,
                space,
                ..Inflow::FREE
            };
            let mut bench = Bench::new(1000);
            let conn = &mut bench.conn();
            conn.inflow = Some(&mut inflow);
            conn.moderate(&core);
            assert_eq!((inflow.limit, inflow.space), (core.tcp.rmem_max, u32::MAX));
        }
    }
}
