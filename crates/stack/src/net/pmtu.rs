//! Path MTUs that were learnt, by destination (RFC 1191, RFC 8201).
//!
//! What does not live here: whether to believe a report, which is for those who know the flows (`tcp`, `udp`, `icmp`).
//!
//! Invariant: an entry is forgotten ten minutes after it was last confirmed; the list is in that order, so one timer at the
//! oldest suffices.
//! Invariant: when the table is full the oldest entry makes room.

use core::time::Duration;

use base::{FlowTable, Instant, SipKey, Slab, TimerId};
use wire::{Addr, ipv6};

use crate::context::{Core, TimerKind};

/// RFC 1191 6.3, RFC 8201 4: how long before a larger packet is tried again.
const AGE: Duration = Duration::from_secs(600);
/// Linux's `min_pmtu`: forged reports cannot make packets smaller than what practically every link carries. Where a link really
/// carries less, routers are allowed to cut what we send.
const FLOOR_V4: u16 = 552;
/// The minimum link MTU: no path has less (RFC 8200 5).
const FLOOR_V6: u16 = ipv6::MIN_MTU as u16;
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Entry {
    addr: Addr,
    mtu: u16,
    /// The path carries less than the floor: what is sent there may be fragmented on its way.
    locked: bool,
    expires: Instant,
    newer: u32,
    older: u32,
}

/// The table.
#[derive(Debug)]
pub(super) struct PathMtus {
    entries: Slab<Entry>,
    index: FlowTable,
    oldest: u32,
    newest: u32,
    timer: TimerId,
}

impl PathMtus {
    pub(super) fn new(capacity: u32, key: SipKey) -> Self {
        let capacity = capacity.max(1);
        Self {
            entries: Slab::with_capacity(capacity),
            index: FlowTable::with_capacity(capacity, key),
            oldest: NONE,
            newest: NONE,
            timer: TimerId::NONE,
        }
    }

    /// The path MTU to `addr`, `u16::MAX` when nothing is known; and whether the path carries even less.
    #[inline]
    pub(super) fn get(&self, now: Instant, addr: &Addr) -> (u16, bool) {
        if self.entries.is_empty() {
            return (u16::MAX, false);
        }
        self.find(addr)
            .and_then(|at| self.entries.at(at))
            .filter(|entry| now < entry.expires)
            .map_or((u16::MAX, false), |entry| (entry.mtu, entry.locked))
    }

    /// A packet of more than `mtu` bytes was too big for the path. Returns the path MTU to use; never less than the family's
    /// floor, never more than before (RFC 8201 4: a report MUST NOT raise the estimate).
    pub(super) fn too_big(&mut self, core: &mut Core, addr: &Addr, mtu: u32) -> u16 {
        let (known, locked) = self.get(core.now, addr);
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        // RFC 8201 4: a report of less than the minimum link MTU MUST be discarded.
        if !addr.is_v4() && mtu < FLOOR_V6 {
            return known;
        }
        let locked = locked || (addr.is_v4() && mtu < FLOOR_V4);
        let mtu = if addr.is_v4() { mtu.max(FLOOR_V4) } else { mtu };
        let mtu = mtu.min(known);
        if mtu < u16::MAX {
            self.set(core, addr, mtu, locked);
        }
        mtu
    }

    fn find(&self, addr: &Addr) -> Option<u32> {
        let hash = self.index.hash(&addr.0);
        self.index.find(hash, |at| {
            self.entries.at(at).is_some_and(|entry| entry.addr == *addr)
        })
    }

    fn set(&mut self, core: &mut Core, addr: &Addr, mtu: u16, locked: bool) {
        if let Some(at) = self.find(addr) {
            self.unlink(at);
            if let Some(entry) = self.entries.at_mut(at) {
                entry.mtu = mtu;
                entry.locked = locked;
                entry.expires = core.now + AGE;
            }
            self.link(at);
            return self.set_timer(core);
        }
        if self.entries.is_full() {
            self.remove(self.oldest);
        }
        let entry = Entry {
            addr: *addr,
            mtu,
            locked,
            expires: core.now + AGE,
            newer: NONE,
            older: NONE,
        };
        let Some(key) = self.entries.insert(entry) else {
            return;
        };
        if self
            .index
            .insert(self.index.hash(&addr.0), key.index)
            .is_err()
        {
            self.entries.remove(key);
            return;
        }
        self.link(key.index);
        self.set_timer(core);
    }

    fn remove(&mut self, at: u32) {
        self.unlink(at);
        if let Some(entry) = self.entries.remove_at(at) {
            self.index.remove(self.index.hash(&entry.addr.0), at);
        }
    }

    /// Forgets what has not been confirmed for too long; true if there was anything, so that paths are looked up anew.
    pub(super) fn on_timer(&mut self, core: &mut Core) -> bool {
        self.timer = TimerId::NONE;
        let mut any = false;
        while let Some(entry) = self.entries.at(self.oldest)
            && entry.expires <= core.now
        {
            self.remove(self.oldest);
            any = true;
        }
        self.set_timer(core);
        any
    }

    fn set_timer(&mut self, core: &mut Core) {
        if self.timer.is_none()
            && let Some(oldest) = self.entries.at(self.oldest)
        {
            let timer = core.arm(oldest.expires, TimerKind::Pmtu, 0, 0);
            self.timer = timer.unwrap_or(TimerId::NONE);
        }
    }

    fn link(&mut self, at: u32) {
        let before = core::mem::replace(&mut self.newest, at);
        match self.entries.at_mut(before) {
            Some(before) => before.newer = at,
            None => self.oldest = at,
        }
        if let Some(entry) = self.entries.at_mut(at) {
            entry.older = before;
            entry.newer = NONE;
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some(entry) = self.entries.at(at) else {
            return;
        };
        let (older, newer) = (entry.older, entry.newer);
        match self.entries.at_mut(older) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.entries.at_mut(newer) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
    }

    /// PathMtus something is known of.
    pub(super) fn len(&self) -> u32 {
        self.entries.len()
    }
}
