//! A budget for the memory of all connections together, by Linux's `tcp_mem`: what the queues hold, and the three levels at which
//! TCP goes easy on it.
//!
//! - Above `pressure` the host is under pressure until no more than `low` is held: buffers do not grow, one that is more than half
//!   full offers a few segments only, and send buffers hold a window, not two. Nobody may hold more than a fair share of `max`, or than
//!   is left by all: for who does it is as if there were none left. (Linux divides by all sockets, so that many who hold little slow
//!   down one who needs much, though nobody else wants it.)
//! - Above `max` what is new is refused: a write waits, data out of order are dropped, and data in order, too, where the reader has
//!   left some, and what waits out of order behind them has gone first; the window is closed then. An orphan with much to send is
//!   reset.
//!
//! A connection that holds little may always hold that ([`GUARANTEED`]), else those who would give memory back could not go on.
//!
//! What is counted are the segments of packet memory in queues to be sent, to be acknowledged, to be read and out of order, each of
//! which stands for its block. The account follows what a change did to the pool, so that nothing is walked but a frame that comes in.
//!
//! What does not live here: the end of packet memory itself (`context::Keep`), which all protocols share.
//!
//! Invariant: the account is what a walk over all queues would count, between any two calls.
//! Invariant: no connection is held to less than [`GUARANTEED`] bytes each way by the levels.
//! Invariant: while there is no pressure nobody pays more than a comparison.

use base::{BLOCK, Chain, Instant, Pool};

use crate::context::Core;
use crate::net::Net;
use crate::stats::Count;

use super::conn::{Conn, free_ranges};
use super::record::{Active, NONE, flag};
use super::tunables::TcpTunables;

/// Bytes that a connection may hold to be read, and to be sent or acknowledged, whatever the others hold (the first numbers of
/// Linux's `tcp_rmem` and `tcp_wmem`).
pub(crate) const GUARANTEED: usize = 4096;
/// The window of one whose buffer is half full, in segments, under pressure (as Linux).
const FEW_SEGMENTS: u32 = 4;
/// An orphan with more than that to send goes when there is no memory (Linux's SOCK_MIN_SNDBUF).
const ORPHAN_MAY_HOLD: usize = 4608;
/// Blocks in a page, the unit of `tcp_mem`.
const BLOCKS: u32 = 4096 / BLOCK as u32;

/// What TCP's queues hold, and what they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpMemory {
    /// Bytes of packet memory.
    pub bytes: u64,
    /// Whether the host is under pressure.
    pub pressure: bool,
    /// `tcp_mem` in bytes: low, pressure, max.
    pub levels: [u64; 3],
}

impl TcpMemory {
    /// What two shards of a host hold, and may, together.
    pub fn plus(self, other: &Self) -> Self {
        let [low, pressure, max] = other.levels;
        let [own_low, own_pressure, own_max] = self.levels;
        Self {
            bytes: self.bytes + other.bytes,
            pressure: self.pressure || other.pressure,
            levels: [own_low + low, own_pressure + pressure, own_max + max],
        }
    }
}

/// The account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Segments of packet memory that the queues hold.
    held: u32,
    /// The pool's segments in use when the account was last right, while a change goes on.
    mark: u32,
    low: u32,
    enter: u32,
    max: u32,
    /// Connections with an active part, while there is pressure.
    sharers: u32,
    /// Since when there is pressure.
    since: Option<Instant>,
}

impl TcpTunables {
    /// `mem` as it is, or in Linux's proportions for so many blocks of packet memory: what is left is for other protocols, headers
    /// and acknowledgments.
    pub(crate) fn sized(mut self, blocks: u32) -> Self {
        if self.mem == [0; 3] {
            let share = (blocks / BLOCKS / 32).max(1);
            self.mem = [15, 20, 30].map(|part| share * part);
        }
        self
    }
}

impl Memory {
    pub(crate) fn new(tcp: &TcpTunables) -> Self {
        let mut memory = Self {
            held: 0,
            mark: 0,
            low: 0,
            enter: 0,
            max: 0,
            sharers: 1,
            since: None,
        };
        memory.set_levels(tcp);
        memory
    }

    fn set_levels(&mut self, tcp: &TcpTunables) {
        [self.low, self.enter, self.max] = tcp.mem.map(|pages| pages.saturating_mul(BLOCKS));
    }

    /// Whether memory is short: what grows shall not.
    #[inline]
    pub(crate) fn pressure(&self) -> bool {
        self.since.is_some()
    }

    /// Whether nothing new may be held but what is guaranteed.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.held > self.max
    }

    /// Bytes that one connection may hold.
    #[inline]
    fn share(&self) -> usize {
        if !self.pressure() {
            return usize::MAX;
        }
        let left = self.max.saturating_sub(self.held);
        (self.max / self.sharers.max(1)).max(left) as usize * BLOCK
    }

    /// Whether one that holds so many bytes may hold no more than what is guaranteed.
    #[inline]
    fn denies(&self, bytes: usize) -> bool {
        self.pressure() && (self.is_full() || bytes > self.share())
    }

    /// Bytes that a writer may add, of whom `queued` wait, beside `unread` ones to be read.
    #[inline]
    pub(crate) fn room(&self, queued: usize, unread: usize) -> usize {
        let spare = self.max.saturating_sub(self.held) as usize * BLOCK;
        let mine = self.share().saturating_sub(queued + unread);
        spare.min(mine).max(GUARANTEED.saturating_sub(queued))
    }

    pub(super) fn held(&self) -> u32 {
        self.held
    }

    fn shown(&self) -> TcpMemory {
        let bytes = |blocks: u32| u64::from(blocks) * BLOCK as u64;
        TcpMemory {
            bytes: bytes(self.held),
            pressure: self.pressure(),
            levels: [self.low, self.enter, self.max].map(bytes),
        }
    }
}

impl Core {
    /// What TCP holds now.
    pub(crate) fn tcp_memory(&self) -> TcpMemory {
        self.memory.shown()
    }

    /// The host's tunables have changed.
    pub(crate) fn retune(&mut self, tunables: TcpTunables) {
        self.tcp = tunables.sized(self.pool.capacity());
        self.memory.set_levels(&self.tcp);
        self.weigh();
    }

    /// Changes what the queues hold, with nothing but packet memory.
    #[inline]
    pub(crate) fn queued<T>(&mut self, change: impl FnOnce(&mut Pool) -> T) -> T {
        self.begin_account();
        let out = change(&mut self.pool);
        self.end_account();
        out
    }

    /// What follows changes what the queues hold, and nothing else of packet memory, up to [`Core::end_account`].
    #[inline]
    pub(crate) fn begin_account(&mut self) {
        self.memory.mark = self.pool.segments_in_use();
    }

    #[inline]
    pub(crate) fn end_account(&mut self) {
        self.settle_account();
        self.weigh();
    }

    /// Brings the account up to date in the middle of a change.
    #[inline]
    fn settle_account(&mut self) {
        let (now, before) = (self.pool.segments_in_use(), self.memory.mark);
        let held = self.memory.held.wrapping_add(now.wrapping_sub(before));
        (self.memory.held, self.memory.mark) = (held, now);
    }

    /// A chain is the queues' from here on.
    #[inline]
    pub(crate) fn takes(&mut self, chain: &Chain) {
        self.memory.held += self.pool.segments(chain) as u32;
    }

    /// A chain is no more theirs.
    #[inline]
    pub(crate) fn gives(&mut self, chain: &Chain) {
        let segments = self.pool.segments(chain) as u32;
        self.memory.held = self.memory.held.saturating_sub(segments);
        self.weigh();
    }

    /// Enters pressure, or leaves it.
    #[inline]
    fn weigh(&mut self) {
        let memory = &self.memory;
        let turns = match memory.since {
            None => memory.held > memory.enter,
            Some(_) => memory.held <= memory.low,
        };
        if turns {
            self.turn();
        }
    }

    #[cold]
    fn turn(&mut self) {
        match self.memory.since.take() {
            None => {
                self.memory.since = Some(self.now);
                self.count(Count::TcpMemoryPressures);
            }
            Some(since) => {
                let ms = (self.now - since).as_millis() as u64;
                let counts = &mut self.stats.counts;
                counts.add_n(Count::TcpMemoryPressuresChrono, ms);
            }
        }
    }
}

impl Active {
    /// Bytes to be sent or acknowledged.
    pub(crate) fn to_send(&self) -> usize {
        self.sent.len() + self.unsent.len()
    }

    /// Bytes in its queues, but for those out of order.
    fn holds(&self) -> usize {
        self.to_send() + self.recv.len()
    }
}

impl Conn<'_> {
    /// Whether the levels allow for data in order, which are in the account already. What waits behind a gap makes room for a
    /// reader who has left some.
    #[inline]
    pub(crate) fn within_budget(&mut self, core: &mut Core) -> bool {
        !self.denied(core) || self.act.recv.len() < GUARANTEED || self.prune(core)
    }

    /// Linux's tcp_prune_queue: data out of order go, and come again (RFC 2018 8).
    #[cold]
    fn prune(&mut self, core: &mut Core) -> bool {
        core.count(Count::TcpPruneCalled);
        if self.act.ooo != NONE {
            core.count(Count::TcpOfoPruned);
            free_ranges(core, self.ranges, self.act);
            core.settle_account();
        }
        !self.denied(core)
    }

    /// Whether the levels deny all but what is guaranteed.
    #[inline]
    pub(crate) fn denied(&self, core: &Core) -> bool {
        core.memory.denies(self.act.holds())
    }

    /// What may be offered of so much room under pressure: a few segments, once half of the buffer is full (as Linux), and nothing
    /// where data would be refused.
    #[inline]
    pub(crate) fn easy(&self, core: &Core, room: u32, limit: u32) -> u32 {
        if self.act.recv.len() >= GUARANTEED && self.denied(core) {
            return 0;
        }
        if core.memory.pressure() && room < limit / 2 {
            let mss = self.profile.options.advertised_mss;
            let mss = u32::from(mss.unwrap_or(self.tcb.mss).max(self.act.rcv_mss));
            return room.min(FEW_SEGMENTS * mss);
        }
        room
    }
}

impl super::Tcp {
    /// Under pressure counts among whom memory is divided.
    #[inline]
    pub(super) fn count_sharers(&self, core: &mut Core) {
        if core.memory.pressure() {
            core.memory.sharers = self.actives.len();
        }
    }

    /// Resets a connection that nobody owns, for what it holds.
    #[cold]
    pub(super) fn abort_for_memory(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        core.count(Count::TcpAbortOnMemory);
        self.abort_at(core, net, index);
    }

    /// Whether a connection that nobody owns holds more than there is memory for (Linux's tcp_out_of_memory).
    #[inline]
    pub(super) fn is_too_much(&self, core: &Core, index: u32) -> bool {
        core.memory.is_full()
            && self.conns.at(index).is_some_and(|tcb| {
                let act = self.actives.at(tcb.active);
                tcb.has(flag::ORPHAN) && act.is_some_and(|act| act.to_send() > ORPHAN_MAY_HOLD)
            })
    }
}
