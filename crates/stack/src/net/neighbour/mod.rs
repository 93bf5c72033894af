//! The neighbour table: one machine for ARP and NDP (RFC 4861 7.3, appendix C), over addresses of either family.
//!
//! What does not live here: the packets that carry the questions and answers (`arp`, `ndp`), which neighbour a packet goes to
//! (`route`), and sending. The machine says what to send as [`Solicitation`] and whom to release as indices; its caller does so.
//!
//! Invariant: a neighbour in use arms a timer only while it is being resolved, delayed or probed; an idle one costs no time.
//! Invariant: every packet waiting for a neighbour is on exactly one queue, and queues are bounded in packets and bytes, each
//! and all together.
//! Invariant: an entry that may be evicted is on exactly one of the lists of [`List`]; making room looks at no more than
//! `SECOND_CHANCES` entries.
//! Invariant: strangers who only claim to exist, or who never answer, cannot displace a neighbour that answers.

mod lists;
mod machine;
mod queue;
mod resolve;
mod table;
#[cfg(test)]
mod tests;

use core::time::Duration;

#[cfg(test)]
use base::Packet;
use base::{FlowTable, Instant, Slab, TimerId};
use wire::{Addr, Mac};

use super::InterfaceId;
use lists::Lists;
use queue::Queues;

use lists::List;

/// RFC 4861 10 MAX_MULTICAST_SOLICIT, also for ARP.
const MULTICAST_SOLICITS: u8 = 3;
/// RFC 4861 10 MAX_UNICAST_SOLICIT.
const UNICAST_SOLICITS: u8 = 3;
/// RFC 4861 10 DELAY_FIRST_PROBE_TIME.
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
/// RFC 4861 10 RETRANS_TIMER.
const RETRANS: Duration = Duration::from_secs(1);
/// RFC 4861 6.3.2: a new random reachable time at least every few hours.
const REDRAW: Duration = Duration::from_secs(2 * 3600);
/// Linux's `locktime`: of several ARP answers within this time the first one counts.
const ARP_LOCK: Duration = Duration::from_secs(1);
/// Entries in use that making room may pass over.
const SECOND_CHANCES: u32 = 8;
/// Packets that may wait for one neighbour (Linux's `unres_qlen`): all fragments of the largest datagram are fewer.
const QUEUE_PACKETS: u8 = 101;
/// Bytes that may wait for one neighbour (Linux's `unres_qlen_bytes`).
const QUEUE_BYTES: u32 = 208 * 1024;
const NONE: u32 = u32::MAX;

/// Where a neighbour was when it was looked up. A hint: the entry is compared with the address wherever it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NeighbourId(pub(crate) u32);

impl NeighbourId {
    /// No entry: it must be looked up by address.
    pub(crate) const NONE: Self = Self(NONE);
}

/// How much is known of a neighbour (RFC 4861 7.3.2, with Linux's FAILED and PERMANENT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum NeighbourState {
    /// Looked up, never needed yet.
    None,
    /// Asked for, no answer yet; packets wait.
    Incomplete,
    /// Confirmed within the reachable time.
    Reachable,
    /// Known, not confirmed lately; used as it is.
    Stale,
    /// Used while stale: a confirmation from above may still come.
    Delay,
    /// Being asked directly whether it is still there.
    Probe,
    /// Did not answer.
    Failed,
    /// Set by hand; never asked, never forgotten.
    Permanent,
}

/// One line of the neighbour table, for people and tools.
#[derive(Debug, Clone, Copy)]
pub struct NeighbourInfo {
    /// The link it is on.
    pub interface: InterfaceId,
    /// Its IP address.
    pub addr: Addr,
    /// Its link-layer address, if known.
    pub mac: Option<Mac>,
    /// How much is known of it.
    pub state: NeighbourState,
    /// It says it is a router (NDP only).
    pub router: bool,
}

/// A question to be asked of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Solicitation {
    pub(crate) interface: InterfaceId,
    pub(crate) target: Addr,
    /// Ask this station only; everybody when `None`.
    pub(crate) unicast: Option<Mac>,
    /// The entry, to find a waiting packet whose source address to prefer (RFC 4861 7.2.2).
    pub(crate) index: u32,
}

/// What becomes of a packet for a neighbour that [`Neighbours::mac`] did not vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Send it there.
    Send(Mac),
    /// Queue it at the entry: the question is being asked.
    Wait(u32),
    /// Queue it at the entry and ask.
    Ask(Solicitation),
    /// The table has no room for one more unknown neighbour now.
    Refused,
}

/// What an NA says (RFC 4861 4.4).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Advertisement {
    /// The target link-layer address option.
    pub(crate) mac: Option<Mac>,
    pub(crate) solicited: bool,
    pub(crate) overrides: bool,
    pub(crate) router: bool,
}

/// What to do after something was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Learnt {
    /// This entry's waiting packets can go now.
    pub(crate) release: Option<u32>,
    /// It was a router and says it no longer is (RFC 4861 7.2.5): forget routes through it.
    pub(crate) router_lost: bool,
}

/// What to do after a neighbour's timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Nothing.
    Idle,
    /// Ask (again).
    Ask(Solicitation),
    /// It does not answer: its waiting packets are undeliverable, and routes through it are doubtful.
    Failed(u32),
}

/// One neighbour; a cache line.
#[derive(Debug)]
struct Entry {
    addr: Addr,
    /// Packets may go to `mac` without a thought before this time; see [`Neighbours::mac`].
    fresh_until: Instant,
    mac: Mac,
    interface: InterfaceId,
    state: NeighbourState,
    /// When the MAC address was learnt, or since when it is being asked for.
    since: Instant,
    timer: TimerId,
    first: u32,
    last: u32,
    newer: u32,
    older: u32,
    probes: u8,
    queued: u8,
    list: List,
    router: bool,
    queued_bytes: u32,
}

/// Times of one interface; routers may change them (RFC 4861 6.3.4).
#[derive(Debug, Clone, Copy)]
struct Timing {
    base: Duration,
    reachable: Duration,
    redrawn: Instant,
    retrans: Duration,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Neighbours {
    entries: Slab<Entry>,
    index: FlowTable,
    lists: Lists,
    queues: Queues,
    timing: Vec<Timing>,
    base_reachable: Duration,
    /// How many may be in resolution at once, so that a scan leaves room (RFC 6583 7.1).
    resolving_max: u32,
}

impl Neighbours {
    /// Packets that wait for an address, all of them: for tests.
    pub(super) fn all_waiting(&self) -> impl Iterator<Item = &base::Packet> {
        self.queues.iter()
    }

    /// The MAC address to send to at once, if this entry is still that neighbour's and needs no attention: one cache line
    /// is read. Otherwise see [`Neighbours::demand`].
    #[inline]
    pub(crate) fn mac(
        &self,
        now: Instant,
        id: NeighbourId,
        interface: InterfaceId,
        addr: &Addr,
    ) -> Option<Mac> {
        let entry = self.entries.at(id.0)?;
        (now < entry.fresh_until && entry.interface == interface && entry.addr == *addr)
            .then_some(entry.mac)
    }

    /// How long an answer is waited for on `interface` (RFC 4861 6.3.2 RetransTimer).
    pub(super) fn retrans(&self, interface: InterfaceId) -> Duration {
        self.timing
            .get(usize::from(interface.0))
            .map_or(RETRANS, |timing| timing.retrans)
    }

    /// The times of `interface`, made on first use.
    fn timing_mut(&mut self, interface: InterfaceId) -> &mut Timing {
        let at = usize::from(interface.0);
        if at >= self.timing.len() {
            let base = self.base_reachable;
            self.timing.resize(
                at + 1,
                Timing {
                    base,
                    reachable: base,
                    redrawn: Instant::FAR,
                    retrans: RETRANS,
                },
            );
        }
        &mut self.timing[at]
    }
}
