//! What shards of one host need of the internet layer: what the leading one has configured and learnt, for those that follow; and
//! whole packets that any of them may be meant by.
//!
//! What does not live here: which shard a packet is for.
//!
//! Invariant: a following shard has the addresses and routes that the leading one had at some time, in the same state.

use base::{Chain, Facts, Packet};
use wire::{Addr, Cidr};

use super::address::{AddressEntry, AddressState, Origin};
use super::route::RouteOrigin;
use super::{Input, InterfaceId, Net, Route, RouteMetrics};
use crate::context::Core;
use crate::stats::Drop;

/// Addresses, routes, links and groups as one shard has them: see [`crate::Host::network`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    addresses: Vec<Address>,
    routes: Vec<(Route, RouteMetrics, RouteOrigin)>,
    links: Vec<Link>,
    groups: Vec<(InterfaceId, Addr)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Address {
    cidr: Cidr,
    interface: InterfaceId,
    state: AddressState,
    origin: Origin,
    temporary: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    mtu: u16,
    mtu_v6: u16,
    hop_limit: u8,
}

impl Address {
    fn of(entry: &AddressEntry) -> Self {
        Self {
            cidr: entry.cidr,
            interface: entry.interface,
            state: entry.state,
            origin: entry.origin,
            temporary: entry.temporary,
        }
    }
}

impl Net {
    /// What is configured and was learnt of routers.
    pub(crate) fn network(&self) -> Network {
        let links = self.interfaces.iter().enumerate().map(|(n, link)| Link {
            mtu: link.mtu,
            mtu_v6: link.mtu_v6,
            hop_limit: self.default_hop_limit(InterfaceId(n as u8), false),
        });
        let addresses = self.addresses.entries.iter();
        Network {
            addresses: addresses.map(|(_, entry)| Address::of(entry)).collect(),
            routes: self.routes.all().collect(),
            links: links.collect(),
            groups: self.groups(),
        }
    }

    /// Takes over what another shard has. Nothing is probed for, announced or joined: that shard does.
    pub(crate) fn follow(&mut self, network: &Network) {
        for (n, link) in network.links.iter().enumerate() {
            if let Some(own) = self.interfaces.get_mut(n) {
                (own.mtu, own.mtu_v6) = (link.mtu, link.mtu_v6);
                self.set_hop_limit(InterfaceId(n as u8), link.hop_limit);
            }
        }
        let entries = self.addresses.entries.iter();
        let gone: Vec<u32> = entries
            .filter(|(_, own)| !network.addresses.iter().any(|a| is_same(a, own)))
            .map(|(key, _)| key.index)
            .collect();
        for index in gone {
            self.addresses.remove(index);
        }
        for address in &network.addresses {
            match self.addresses.find(&address.cidr.addr()) {
                Some(index) => self.set_address_state(index, address.state),
                None => {
                    let entry = AddressEntry::new(address.cidr, address.interface, address.origin);
                    // As large a table as the one it comes from.
                    let _ = self.addresses.insert(AddressEntry {
                        state: address.state,
                        temporary: address.temporary,
                        ..entry
                    });
                }
            }
        }
        self.routes.clear();
        for &(route, metrics, origin) in &network.routes {
            let _ = self.routes.add(route, metrics, origin);
        }
        self.follow_groups(&network.groups);
        self.changed();
    }

    /// A packet that was put together here, from its IP header on.
    pub(super) fn divert(&mut self, core: &mut Core, interface: InterfaceId, chain: Chain) {
        let facts = Facts::NONE;
        self.divert_packet(core, interface, Packet { chain, facts });
    }

    /// A packet that any shard may be meant by, from its IP header on.
    pub(super) fn divert_packet(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        packet: Packet,
    ) {
        if self.diverted.len() >= self.queue_max {
            return core.drop_packet(packet.chain, Drop::TransmitQueueFull);
        }
        self.diverted.push_back((interface, packet));
    }

    /// Takes the oldest of those.
    pub(crate) fn pop_diverted(&mut self) -> Option<(InterfaceId, Packet)> {
        self.diverted.pop_front()
    }

    /// Whether there are any.
    pub(crate) fn diverts(&self) -> bool {
        !self.diverted.is_empty()
    }

    /// Takes in one that is for this shard.
    pub(crate) fn diverted_input(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        packet: Packet,
    ) -> Input {
        let Packet { chain, facts } = packet;
        self.ip_input(core, interface, chain, &facts, false)
    }
}

fn is_same(address: &Address, own: &AddressEntry) -> bool {
    (own.cidr, own.interface, own.origin) == (address.cidr, address.interface, address.origin)
}
