//! Finding, making and evicting entries, and the view for people.

use core::time::Duration;

use base::{FlowTable, Instant, Packet, SipKey, Slab, TimerId};
use wire::{Addr, Mac};

use super::lists::Lists;
use super::queue::Queues;
use super::{
    Entry, InterfaceId, List, NONE, NeighbourId, NeighbourInfo, NeighbourState, Neighbours,
    SECOND_CHANCES,
};
use crate::context::Core;
use crate::stats::{Count, Drop};

/// The key of the hash table: which link, which address.
fn key(interface: InterfaceId, addr: &Addr) -> [u8; 17] {
    let mut key = [0; 17];
    key[..16].copy_from_slice(&addr.0);
    key[16] = interface.0;
    key
}

impl Neighbours {
    /// A table of `capacity` entries; packets waiting in it never hold more than `queue_bytes` in all.
    pub(crate) fn new(
        capacity: u32,
        queue_bytes: u64,
        base_reachable: Duration,
        secret: SipKey,
    ) -> Self {
        let capacity = capacity.max(16);
        Self {
            entries: Slab::with_capacity(capacity),
            index: FlowTable::with_capacity(capacity, secret),
            lists: Lists::new(),
            queues: Queues::new(capacity.saturating_mul(4).min(16_384), queue_bytes),
            timing: Vec::new(),
            base_reachable,
            resolving_max: (capacity / 4).max(4),
        }
    }

    /// Where this neighbour is, if known in any state.
    pub(crate) fn find(&self, interface: InterfaceId, addr: &Addr) -> Option<u32> {
        let hash = self.index.hash(&key(interface, addr));
        self.index.find(hash, |at| {
            self.entries
                .at(at)
                .is_some_and(|e| e.addr == *addr && e.interface == interface)
        })
    }

    /// The entry for this neighbour, made if there is room. Nothing is asked until a packet needs it.
    pub(crate) fn resolve(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: &Addr,
    ) -> NeighbourId {
        match self.find(interface, addr) {
            Some(at) => NeighbourId(at),
            None => self
                .create(core, interface, addr, List::Spent)
                .map_or(NeighbourId::NONE, NeighbourId),
        }
    }

    /// A new entry in state NONE on `list`, in another's place if need be.
    pub(super) fn create(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: &Addr,
        list: List,
    ) -> Option<u32> {
        if self.entries.len() >= self.entries.capacity() && !self.make_room(core) {
            core.count(Count::NeighbourTableFull);
            return None;
        }
        let entry = Entry {
            addr: *addr,
            fresh_until: Instant::ZERO,
            mac: Mac::ZERO,
            interface,
            state: NeighbourState::None,
            since: core.now,
            timer: TimerId::NONE,
            first: NONE,
            last: NONE,
            newer: NONE,
            older: NONE,
            probes: 0,
            queued: 0,
            list,
            router: false,
            queued_bytes: 0,
        };
        let slot = self.entries.insert(entry)?;
        if self
            .index
            .insert(self.index.hash(&key(interface, addr)), slot.index)
            .is_err()
        {
            self.entries.remove(slot);
            core.count(Count::NeighbourTableFull);
            return None;
        }
        self.lists.push(&mut self.entries, slot.index, list);
        Some(slot.index)
    }

    /// Evicts the entry that is missed least.
    fn make_room(&mut self, core: &mut Core) -> bool {
        let victim = self
            .lists
            .oldest(List::Spent)
            .or_else(|| self.lists.oldest(List::Unused))
            .or_else(|| self.overdue(core.now))
            .or_else(|| self.least_used(core.now))
            .or_else(|| self.lists.oldest(List::Resolving));
        let Some(victim) = victim else { return false };
        core.count(Count::NeighbourEvicted);
        self.remove(core, victim);
        true
    }

    /// The oldest entry in resolution, if it has had the time for an answer. Evicting younger ones would let a scan ask
    /// as fast as it likes (RFC 6583 6.2).
    pub(super) fn overdue(&self, now: Instant) -> Option<u32> {
        let oldest = self.lists.oldest(List::Resolving)?;
        let entry = self.entries.at(oldest)?;
        let retrans = self.retrans(entry.interface);
        (now >= entry.since + retrans).then_some(oldest)
    }

    /// The used entry whose last event is oldest, passing over a few that answer.
    fn least_used(&mut self, now: Instant) -> Option<u32> {
        for _ in 0..SECOND_CHANCES {
            let oldest = self.lists.oldest(List::Used)?;
            if self.entries.at(oldest).is_none_or(|e| now >= e.fresh_until) {
                return Some(oldest);
            }
            self.lists.refile(&mut self.entries, oldest, List::Used);
        }
        self.lists.oldest(List::Used)
    }

    /// Forgets an entry; packets waiting in it are dropped.
    pub(crate) fn remove(&mut self, core: &mut Core, at: u32) {
        while let Some(packet) = self.dequeue(at) {
            core.drop_packet(packet.chain, Drop::NeighbourEvicted);
        }
        let Some(entry) = self.entries.at(at) else {
            return;
        };
        core.wheel.cancel(entry.timer);
        self.index
            .remove(self.index.hash(&key(entry.interface, &entry.addr)), at);
        self.lists.unlink(&mut self.entries, at);
        if let Some(key) = self.entries.key_of(at) {
            self.entries.remove(key);
        }
    }

    /// Sets an entry by hand; it is never asked, evicted or changed by what is heard. Returns the entry, whose waiting
    /// packets can go, or `None` when there is no room.
    pub(crate) fn set_permanent(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: &Addr,
        mac: Mac,
    ) -> Option<u32> {
        let at = match self.find(interface, addr) {
            Some(at) => at,
            None => self.create(core, interface, addr, List::Kept)?,
        };
        self.stop(core, at);
        self.lists.refile(&mut self.entries, at, List::Kept);
        let entry = self.entries.at_mut(at)?;
        entry.mac = mac;
        entry.state = NeighbourState::Permanent;
        entry.fresh_until = Instant::FAR;
        Some(at)
    }

    /// Adds a packet to those that wait for the entry.
    pub(crate) fn enqueue(&mut self, core: &mut Core, at: u32, packet: Packet) {
        match self.entries.at_mut(at) {
            Some(entry) => self.queues.push(core, entry, packet),
            None => core.drop_packet(packet.chain, Drop::NeighbourEvicted),
        }
    }

    /// Takes the oldest packet that waits for the entry.
    pub(crate) fn dequeue(&mut self, at: u32) -> Option<Packet> {
        self.queues.pop(self.entries.at_mut(at)?)
    }

    /// The oldest packet that waits for the entry.
    pub(crate) fn waiting(&self, at: u32) -> Option<&Packet> {
        self.queues.peek(self.entries.at(at)?)
    }

    /// The MAC address last known, whatever the state.
    pub(crate) fn last_mac(&self, at: u32) -> Option<Mac> {
        let entry = self.entries.at(at)?;
        (entry.mac != Mac::ZERO).then_some(entry.mac)
    }

    /// Link and address of an entry.
    pub(crate) fn name(&self, at: u32) -> Option<(InterfaceId, Addr)> {
        self.entries.at(at).map(|e| (e.interface, e.addr))
    }

    /// Entries known, in all states.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len() as usize
    }

    /// Packets and bytes that wait in the whole table.
    #[cfg(test)]
    pub(crate) fn waiting_total(&self) -> (u32, u64) {
        (self.queues.packets(), self.queues.bytes())
    }

    /// All entries, for people and tools; scans.
    pub(crate) fn iter(&self, now: Instant) -> impl Iterator<Item = NeighbourInfo> + '_ {
        self.entries.iter().map(move |(_, e)| NeighbourInfo {
            interface: e.interface,
            addr: e.addr,
            mac: (e.mac != Mac::ZERO).then_some(e.mac),
            state: e.state_at(now),
            router: e.router,
        })
    }
}
