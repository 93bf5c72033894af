//! The addresses and ports that connections hold whose application has let go of them, TIME-WAIT for the most part: they are in the
//! way of who binds without SO_REUSEADDR.
//!
//! What does not live here: what open sockets are bound to, which whoever hands them out knows.
//!
//! Invariant: what is counted is what a walk over all records would find, and asking costs one look, or two for both families.

use std::collections::BTreeMap;

use base::{FlowTable, SipKey, Slab};
use wire::Addr;

use super::Tcp;
use super::listen::port_bytes;
use super::record::{State, flag};

/// Ports there are.
const PORTS: usize = 1 << 16;

/// One address and port.
#[derive(Debug)]
struct Place {
    local: Addr,
    port: u16,
    holders: u32,
}

/// How many connections hold what.
#[derive(Debug)]
pub(crate) struct Lingering {
    /// On any address, by port: of IPv4, of IPv6.
    ports: Vec<[u32; 2]>,
    table: FlowTable,
    places: Slab<Place>,
}

impl Lingering {
    /// Room for `holders` connections, each of which may hold an address of its own.
    pub(crate) fn new(holders: u32, key: SipKey) -> Self {
        Self {
            ports: vec![[0; 2]; PORTS],
            table: FlowTable::with_capacity(holders, key),
            places: Slab::with_capacity(holders),
        }
    }

    fn find(&self, local: &Addr, port: u16) -> (u64, Option<u32>) {
        let hash = self.table.hash(&port_bytes(local, port));
        let found = self.table.find(hash, |at| {
            let place = self.places.at(at);
            place.is_some_and(|place| place.port == port && place.local == *local)
        });
        (hash, found)
    }

    fn on_any(&mut self, local: &Addr, port: u16) -> &mut u32 {
        &mut self.ports[usize::from(port)][usize::from(!local.is_v4())]
    }

    /// One more holds it.
    pub(super) fn begin(&mut self, local: &Addr, port: u16) {
        *self.on_any(local, port) += 1;
        let (hash, found) = self.find(local, port);
        if let Some(place) = found.and_then(|at| self.places.at_mut(at)) {
            place.holders += 1;
            return;
        }
        let place = Place {
            local: *local,
            port,
            holders: 1,
        };
        // There is room for as many as there can be holders.
        if let Some(key) = self.places.insert(place)
            && self.table.insert(hash, key.index).is_err()
        {
            self.places.remove(key);
        }
    }

    /// One holds it no more.
    pub(super) fn end(&mut self, local: &Addr, port: u16) {
        let on_any = self.on_any(local, port);
        *on_any = on_any.saturating_sub(1);
        let (hash, Some(at)) = self.find(local, port) else {
            return;
        };
        let Some(place) = self.places.at_mut(at) else {
            return;
        };
        place.holders -= 1;
        if place.holders == 0 {
            self.table.remove(hash, at);
            self.places.remove_at(at);
        }
    }

    /// Whether a connection holds `port` on an address that `local` covers; `dual`: as a wildcard it is one of both families.
    fn holds(&self, local: &Addr, port: u16, dual: bool) -> bool {
        if !local.is_unspecified() {
            return self.find(local, port).1.is_some();
        }
        let [v4, v6] = self.ports[usize::from(port)];
        if local.is_v4() {
            v4 > 0
        } else {
            v6 > 0 || (dual && v4 > 0)
        }
    }

    /// Whether these, and no others, are what is held.
    pub(super) fn holds_just(&self, held: impl Iterator<Item = (Addr, u16)>) -> bool {
        let (mut counted, mut ports) = (BTreeMap::new(), BTreeMap::new());
        for (local, port) in held {
            *counted.entry((local, port)).or_insert(0) += 1;
            *ports.entry((port, !local.is_v4())).or_insert(0) += 1;
        }
        let places = counted.len();
        let placed = counted.into_iter().all(|((local, port), holders)| {
            let place = self.find(&local, port).1.and_then(|at| self.places.at(at));
            place.is_some_and(|place| place.holders == holders)
        });
        let on_any = ports
            .into_iter()
            .all(|((port, v6), holders)| self.ports[usize::from(port)][usize::from(v6)] == holders);
        placed
            && on_any
            && self.places.len() as usize == places
            && self.table.len() as usize == places
    }
}

impl Tcp {
    /// The application lets go of a connection; what there still is of it holds its address and port.
    pub(super) fn orphan(&mut self, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        if tcb.has(flag::ORPHAN) {
            return;
        }
        tcb.flags |= flag::ORPHAN;
        if tcb.state != State::Closed {
            let local = &self.profiles.get(tcb.profile).local;
            self.lingering.begin(local, tcb.local_port);
        }
    }

    /// See [`crate::Host::tcp_lingers`].
    pub(crate) fn lingers(&self, local: &Addr, port: u16, dual: bool) -> bool {
        self.lingering.holds(local, port, dual)
    }
}
