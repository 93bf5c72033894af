//! A host that is one of the shards of another: see [`Sharding`].

use base::{Chain, Instant, Packet};

use super::Host;
use crate::net::{GroupChange, Input, InterfaceId, Network};
use crate::sharding::Sharding;
use crate::stats::{Count, Drop};

impl Host {
    /// Makes this host one of several that share their addresses. To be called before it has interfaces.
    pub fn become_shard(&mut self, sharding: Sharding) {
        self.core.sharding = Some(sharding);
        self.tcp.set_shard(sharding.shard());
        self.udp.set_shard(sharding.shard());
    }

    /// From now on [`Host::poll_udp_port`] tells which UDP ports are in use here, and ephemeral ones are chosen that no other shard
    /// chooses: for a shard whose sockets are not made by somebody who knows the ports of all. To be called before it has any.
    pub fn tell_udp_ports(&mut self) {
        if let Some(sharding) = self.core.sharding {
            self.udp.tell_ports(sharding.shards());
        }
    }

    /// A UDP port that has got its first socket or lost its last, and whether it has one now. `None`: nothing has changed.
    pub fn poll_udp_port(&mut self) -> Option<(u16, bool)> {
        self.udp.pop_changed_port()
    }

    /// Which shard it is; `None` when it is a host by itself.
    pub fn sharding(&self) -> Option<Sharding> {
        self.core.sharding
    }

    /// A number that changes whenever [`Host::network`] may have; now and then it does so for nothing.
    pub fn network_epoch(&self) -> u64 {
        self.net.epoch()
    }

    /// Addresses, routes and links as they are, for shards that follow this one. Visits all of them.
    pub fn network(&self) -> Network {
        self.net.network()
    }

    /// Takes over what the leading shard has. Both must have been given the same interfaces.
    pub fn follow(&mut self, now: Instant, network: &Network) {
        self.core.now = now;
        self.net.follow(network);
    }

    /// What a shard that follows has to tell the leading one of the groups it is in: give each to [`Host::handle_group_change`] there, in
    /// this order. The leading one has nothing to tell.
    pub fn poll_group_change(&mut self) -> Option<GroupChange> {
        self.net.pop_group_change(&mut self.core)
    }

    /// Whether [`Host::poll_group_change`] may have one.
    pub fn has_group_changes(&self) -> bool {
        self.net.has_group_changes()
    }

    /// A shard that follows this one says that it is in a group now, or is not any more.
    pub fn handle_group_change(&mut self, now: Instant, change: GroupChange) {
        self.core.now = now;
        self.net.group_abroad(&mut self.core, change);
    }

    /// The next packet, from its IP header on, of which this shard does not know whom it is for: put together of fragments, or
    /// sent to the host itself. Only where [`Host::become_shard`] was called.
    pub fn poll_diverted(&mut self) -> Option<(InterfaceId, Packet)> {
        self.net.pop_diverted()
    }

    /// Whether [`Host::poll_diverted`] has one.
    pub fn has_diverted(&self) -> bool {
        self.net.diverts()
    }

    /// A packet came from [`Host::poll_diverted`], here or on another shard, and is for this one. It lies in this host's memory.
    pub fn handle_diverted(&mut self, now: Instant, interface: InterfaceId, packet: Packet) {
        self.core.now = now;
        match self.net.diverted_input(&mut self.core, interface, packet) {
            Input::Done => {}
            Input::Datagram(datagram) => self.classify_datagram(datagram),
            Input::Report(report) => self.report(&report),
        }
        self.process();
        self.drain_internal();
    }

    /// For who divides frames among shards: frees one of this host's memory that goes no further.
    pub fn drop_packet(&mut self, chain: Chain, reason: Drop) {
        self.core.drop_packet(chain, reason);
    }

    /// As that: counts.
    pub fn count(&mut self, what: Count) {
        self.core.count(what);
    }
}
