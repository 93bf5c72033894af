//! Addresses of this host, and what an address seen in a packet is to it.
//!
//! What does not live here: how addresses are found to be unique (`dad`) or come from routers (`slaac`), and choosing between
//! them (`source`).
//!
//! Invariant: an address is assigned at most once.
//! Invariant: the index names exactly the live entries and the broadcast addresses of their subnets.

use base::{Instant, Slab};
use wire::{Addr, Cidr};

use super::InterfaceId;

/// Addresses a host can have.
const MAX: u32 = 256;
/// An index slot in use names an entry, or this.
const BROADCAST: u32 = u32::MAX - 1;
const EMPTY: u32 = u32::MAX;

/// How far an address may be used (RFC 4862 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressState {
    /// Not known to be unique yet: neither sent from nor received at.
    Tentative,
    /// Somebody else has it; not used.
    Duplicate,
    /// In use.
    Preferred,
    /// Received at, and sent from where it is asked for or in use already; not chosen for anything new.
    Deprecated,
}

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Set by the application.
    Manual,
    /// The link-local address the host gave itself.
    LinkLocal,
    /// Made of an advertised prefix (RFC 4862).
    Slaac,
}

/// An address of this host.
#[derive(Debug, Clone)]
pub(crate) struct AddressEntry {
    /// The address and the length of its prefix.
    pub(crate) cidr: Cidr,
    pub(crate) interface: InterfaceId,
    pub(crate) state: AddressState,
    pub(crate) origin: Origin,
    /// A temporary address (RFC 8981).
    pub(crate) temporary: bool,
    pub(crate) preferred_until: Instant,
    pub(crate) valid_until: Instant,
    /// Probes sent so far in duplicate detection.
    pub(crate) probes: u8,
}

impl AddressEntry {
    /// An address without end of life, to be checked for uniqueness first.
    pub(crate) fn new(cidr: Cidr, interface: InterfaceId, origin: Origin) -> Self {
        Self {
            cidr,
            interface,
            state: AddressState::Tentative,
            origin,
            temporary: false,
            preferred_until: Instant::FAR,
            valid_until: Instant::FAR,
            probes: 0,
        }
    }

    /// Whether it is received at.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        matches!(
            self.state,
            AddressState::Preferred | AddressState::Deprecated
        )
    }
}

/// What an address is to this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// One of its own, in any state: the entry.
    Own(u32),
    /// The broadcast address of one of its subnets.
    Broadcast,
    /// Neither.
    Other,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    addr: Addr,
    what: u32,
}

/// All addresses. Entries are changed in place, but added and removed by the methods only.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub(crate) entries: Slab<AddressEntry>,
    /// Open addressing by a multiplicative hash, at most a quarter full; made anew on every change. Who chooses the keys is
    /// the administrator, or a router up to a bound, hence no keyed hash.
    places: Vec<Place>,
    shift: u32,
}

impl Addresses {
    pub(crate) fn new() -> Self {
        let mut this = Self {
            entries: Slab::with_capacity(MAX),
            places: Vec::with_capacity((8 * MAX).next_power_of_two() as usize),
            shift: 0,
        };
        this.reindex();
        this
    }

    /// Adds an address. The caller has seen to it that it is not there; `None` when there are too many.
    pub(super) fn insert(&mut self, entry: AddressEntry) -> Option<u32> {
        let key = self.entries.insert(entry)?;
        self.reindex();
        Some(key.index)
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<AddressEntry> {
        let entry = self.entries.remove_at(index)?;
        self.reindex();
        Some(entry)
    }

    fn reindex(&mut self) {
        let count = 2 * self.entries.len() as usize;
        let size = (4 * count).next_power_of_two().max(16);
        self.shift = 64 - size.trailing_zeros();
        self.places.clear();
        self.places.resize(
            size,
            Place {
                addr: Addr::UNSPECIFIED_V6,
                what: EMPTY,
            },
        );
        for (key, entry) in self.entries.iter() {
            place(&mut self.places, self.shift, entry.cidr.addr(), key.index);
        }
        for (_, entry) in self.entries.iter() {
            if let Some(broadcast) = entry.cidr.broadcast() {
                place(&mut self.places, self.shift, broadcast, BROADCAST);
            }
        }
    }

    /// What `addr` is to this host: one probe of a small table nearly always.
    #[inline]
    pub(super) fn classify(&self, addr: &Addr) -> Class {
        let mask = self.places.len() - 1;
        let mut at = hash(addr, self.shift);
        loop {
            let place = &self.places[at & mask];
            match place.what {
                EMPTY => return Class::Other,
                BROADCAST if place.addr == *addr => return Class::Broadcast,
                entry if place.addr == *addr => return Class::Own(entry),
                _ => at += 1,
            }
        }
    }

    /// The entry of an address of this host, in any state.
    pub(crate) fn find(&self, addr: &Addr) -> Option<u32> {
        match self.classify(addr) {
            Class::Own(index) => Some(index),
            _ => None,
        }
    }

    /// The entry of an address that is received at.
    #[inline]
    pub(crate) fn usable(&self, addr: &Addr) -> Option<&AddressEntry> {
        match self.classify(addr) {
            Class::Own(index) => self.entries.at(index).filter(|entry| entry.is_usable()),
            _ => None,
        }
    }

    /// All addresses of an interface.
    pub(crate) fn on(
        &self,
        interface: InterfaceId,
    ) -> impl Iterator<Item = (u32, &AddressEntry)> + '_ {
        self.entries
            .iter()
            .filter(move |(_, entry)| entry.interface == interface)
            .map(|(key, entry)| (key.index, entry))
    }
}

#[inline]
fn hash(addr: &Addr, shift: u32) -> usize {
    let bits = addr.to_bits();
    let folded = (bits as u64) ^ ((bits >> 64) as u64).rotate_left(29);
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize
}

fn place(places: &mut [Place], shift: u32, addr: Addr, what: u32) {
    let mask = places.len() - 1;
    let mut at = hash(&addr, shift);
    // An own address that equals another's broadcast address is an own address.
    while places[at & mask].what != EMPTY {
        if places[at & mask].addr == addr {
            return;
        }
        at += 1;
    }
    places[at & mask] = Place { addr, what };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> AddressEntry {
        let mut entry = AddressEntry::new(text.parse().unwrap(), InterfaceId(0), Origin::Manual);
        entry.state = AddressState::Preferred;
        entry
    }

    #[test]
    fn classifies_own_broadcast_and_other() {
        let mut addresses = Addresses::new();
        let a = addresses.insert(entry("10.77.0.2/24")).unwrap();
        addresses.insert(entry("fd77::2/64")).unwrap();
        addresses.insert(entry("192.0.2.1/31")).unwrap();
        assert_eq!(addresses.classify(&Addr::v4(10, 77, 0, 2)), Class::Own(a));
        assert_eq!(
            addresses.classify(&Addr::v4(10, 77, 0, 255)),
            Class::Broadcast
        );
        assert_eq!(addresses.classify(&Addr::v4(192, 0, 2, 1)), Class::Own(2));
        assert_eq!(addresses.classify(&Addr::v4(192, 0, 2, 0)), Class::Other);
        assert_eq!(addresses.classify(&Addr::UNSPECIFIED_V6), Class::Other);
        assert!(addresses.usable(&"fd77::2".parse().unwrap()).is_some());
        addresses.entries.at_mut(1).unwrap().state = AddressState::Tentative;
        assert!(addresses.usable(&"fd77::2".parse().unwrap()).is_none());
        addresses.remove(a).unwrap();
        assert_eq!(addresses.classify(&Addr::v4(10, 77, 0, 2)), Class::Other);
        assert_eq!(addresses.classify(&Addr::v4(10, 77, 0, 255)), Class::Other);
    }

    #[test]
    fn holds_as_many_as_promised() {
        let mut addresses = Addresses::new();
        for n in 0..MAX {
            let text = format!("10.{}.{}.1/24", n / 200, n % 200);
            assert!(addresses.insert(entry(&text)).is_some());
        }
        assert!(addresses.insert(entry("172.16.0.1/24")).is_none());
        for n in 0..MAX {
            assert_eq!(
                addresses.classify(&Addr::v4(10, (n / 200) as u8, (n % 200) as u8, 1)),
                Class::Own(n)
            );
        }
    }
}
