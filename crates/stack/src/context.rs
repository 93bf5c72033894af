//! What every part of the host may use while it works: the time of this turn, packet memory, timers, randomness, counters.
//!
//! Passed as `core: &mut Core`, never stored. What does not live here: any protocol's state.
//!
//! Invariant: `now` is set once at the entry of a public call and never moves within it.

use base::{Chain, Instant, Pool, Rng, SipKey, TimerId, Wheel};

use crate::sharding::Sharding;
use crate::stats::{Count, Drop, Stats};
use crate::tcp::{Memory, TcpTunables};

/// Who may still take packet memory when it runs low: each only while one part in so many is free. What can wait longest goes
/// first; the last part is for headers, acknowledgments and retransmissions, without which nothing would ever be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Keep {
    /// Data nobody can read yet: out of order.
    OutOfOrder = 4,
    /// Data for a reader who has left some unread.
    Unread = 8,
    /// Data to be sent behind other data.
    Unsent = 16,
    /// Any data.
    All = 32,
}

/// Resources shared by all protocols of one host.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) now: Instant,
    pub(crate) pool: Pool,
    pub(crate) wheel: Wheel,
    pub(crate) rng: Rng,
    pub(crate) stats: Stats,
    /// Secret of this start, for everything a peer must not predict.
    pub(crate) secret: SipKey,
    /// TCP's host-wide settings.
    pub(crate) tcp: TcpTunables,
    /// What TCP's queues hold, and may.
    pub(crate) memory: Memory,
    /// Which shard this is, if it is one of several.
    pub(crate) sharding: Option<Sharding>,
}

impl Core {
    /// Frees a packet's memory and counts why it went no further.
    #[inline]
    pub(crate) fn drop_packet(&mut self, chain: Chain, reason: Drop) {
        self.pool.free(chain);
        self.stats.drops.add(reason);
    }

    /// Blocks of packet memory that may be taken for this purpose.
    #[inline]
    pub(crate) fn spare_blocks(&self, keep: Keep) -> u32 {
        let kept = self.pool.capacity() / keep as u32;
        self.pool.available().saturating_sub(kept)
    }

    /// Whether another shard speaks for all: claims addresses, answers for them, hears routers.
    #[inline]
    pub(crate) fn follows(&self) -> bool {
        self.sharding.is_some_and(|sharding| !sharding.leads())
    }

    /// Counts something worth knowing that is not a drop.
    #[inline]
    pub(crate) fn count(&mut self, what: Count) {
        self.stats.counts.add(what);
    }

    /// Arms a timer whose expiry is dispatched by `kind`. `None` when the wheel is full, which is counted.
    pub(crate) fn arm(
        &mut self,
        at: Instant,
        kind: TimerKind,
        index: u32,
        extra: u16,
    ) -> Option<TimerId> {
        let id = self.wheel.arm(at, timer_token(kind, index, extra));
        if id.is_none() {
            self.count(Count::TimerTableFull);
        }
        id
    }
}

/// Who is called when a timer expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TimerKind {
    /// A TCP connection: index of its record.
    Tcp,
    /// A half-open TCP connection.
    SynReceived,
    /// The queue of TIME-WAIT records.
    TimeWait,
    /// A neighbour table entry.
    Neighbour,
    /// A datagram being reassembled.
    Reassembly,
    /// An address under duplicate detection or with a lifetime.
    Address,
    /// Router solicitation and lifetimes learnt from routers.
    Router,
    /// Ageing of the path MTU cache.
    Pmtu,
    /// Multicast membership reports.
    Membership,
    /// ICMP housekeeping.
    Icmp,
}

const KINDS: [TimerKind; 10] = [
    TimerKind::Tcp,
    TimerKind::SynReceived,
    TimerKind::TimeWait,
    TimerKind::Neighbour,
    TimerKind::Reassembly,
    TimerKind::Address,
    TimerKind::Router,
    TimerKind::Pmtu,
    TimerKind::Membership,
    TimerKind::Icmp,
];

/// Packs who, which and a small extra into the 64-bit token a timer carries.
pub(crate) fn timer_token(kind: TimerKind, index: u32, extra: u16) -> u64 {
    (kind as u64) << 48 | u64::from(extra) << 32 | u64::from(index)
}

/// The inverse of [`timer_token`].
pub(crate) fn split_token(token: u64) -> (TimerKind, u32, u16) {
    (
        KINDS[(token >> 48) as usize],
        token as u32,
        (token >> 32) as u16,
    )
}
