//! The link and internet layers: interfaces, addresses, routes, neighbours, IP in and out, fragments, ICMP.
//!
//! What does not live here: transports and sockets. Everything is generic over [`wire::Addr`], which holds either family;
//! only where headers are read and written do IPv4 and IPv6 part.
//!
//! Invariant: every packet that enters is delivered, answered, queued, or dropped with one counted reason.
//! Invariant: every table and queue here is bounded by [`Config`]; nothing is allocated for a packet.
//! Invariant: [`Net::epoch`] changes whenever a [`Path`] handed out before may be wrong.

mod address;
mod arp;
mod careful;
pub(crate) mod chain;
mod control;
mod dad;
mod fragment;
mod icmp;
mod ident;
mod input;
mod interface;
mod label;
mod limit;
#[cfg(test)]
mod link_tests;
mod membership;
mod metrics;
mod ndp;
mod neighbour;
mod output;
mod path;
mod pmtu;
mod reassembly;
mod route;
mod router;
mod sharding;
mod slaac;
mod source;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use base::{Chain, Offloads, Packet, SipKey};
use wire::{Addr, Cidr};

use crate::config::Config;
use crate::context::{Core, TimerKind};
use crate::host::NetOccupancy;
use crate::reports::Reports;
use address::Class;
use route::Routes;

pub(crate) use address::{AddressEntry, Addresses};
pub use address::{AddressState, Origin};
pub(crate) use interface::Interface;
pub use interface::InterfaceConfig;
pub use membership::GroupChange;
pub use metrics::RouteMetrics;
pub(crate) use neighbour::{NeighbourId, Neighbours};
pub use neighbour::{NeighbourInfo, NeighbourState};
pub(crate) use path::INTERFACES;
pub use route::RouteOrigin;
pub use sharding::Network;

/// Headroom a transport leaves before its header, for the headers of the layers below.
pub(crate) const HEADROOM: usize = 128;

/// Frames of one interface's queue that transports may fill: what is taken at once, and what is built meanwhile.
const TRANSPORT_QUEUE: usize = 3 * base::BATCH;
/// A transport may exceed [`Net::room`] by so many frames.
pub(crate) const TRANSPORT_SLACK: usize = 3;

/// Names one interface of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u8);

impl InterfaceId {
    /// The interface by which a host talks to itself. It is always there, has no queue and every offload.
    pub const LOOPBACK: Self = Self(u8::MAX);
}

/// A route: where packets for a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The destinations it is for.
    pub dst: Cidr,
    /// The router to send to; `None` when the destinations are on the link.
    pub via: Option<Addr>,
    /// The link.
    pub interface: InterfaceId,
    /// Among routes to the same prefix the lowest counts.
    pub metric: u32,
}

/// What became of a received packet.
#[derive(Debug)]
#[must_use = "a datagram that is not taken keeps its blocks"]
pub(crate) enum Input {
    /// It went no further: answered, queued, used up or dropped.
    Done,
    /// It is for a transport.
    Datagram(Datagram),
    /// It tells a transport of an error.
    Report(Report),
}

/// A packet for a transport.
#[derive(Debug)]
pub(crate) struct Datagram {
    /// Where it came in.
    pub(crate) interface: InterfaceId,
    pub(crate) src: Addr,
    pub(crate) dst: Addr,
    /// The transport protocol.
    pub(crate) protocol: u8,
    /// TTL or hop limit as received.
    pub(crate) ttl: u8,
    /// TOS or traffic class as received.
    pub(crate) tos: u8,
    /// It was sent to a broadcast or multicast address, of IP or of the link.
    pub(crate) group: bool,
    /// Where the transport header begins in `chain`.
    pub(crate) l4: u16,
    /// The device vouches for the transport checksum, or the bytes never crossed a wire.
    pub(crate) checksum_good: bool,
    /// Payload bytes of each segment of a super-frame, 0 if it is none.
    pub(crate) gso_size: u16,
    /// The packet from the IP header on, trimmed to its length. The transport header (60 bytes of it, or all there is) lies in
    /// the first segment.
    pub(crate) chain: Chain,
}

/// An ICMP error about something this host sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) kind: ReportKind,
    /// Type and code of the message.
    pub(crate) icmp: (u8, u8),
    /// The transport protocol of what was sent.
    pub(crate) protocol: u8,
    /// From where it was sent: an address of this host.
    pub(crate) local: Addr,
    /// To where.
    pub(crate) remote: Addr,
    /// The first bytes of the transport header that was sent: ports, then for TCP the sequence number.
    pub(crate) l4: [u8; 8],
    /// Who says so.
    pub(crate) from: Addr,
}

/// What an ICMP error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportKind {
    /// No way to the network.
    NetUnreachable,
    /// No way to the host, or it does not answer on its link.
    HostUnreachable,
    /// The host does not speak the transport protocol.
    ProtocolUnreachable,
    /// Nobody listens at the port.
    PortUnreachable,
    /// The packet exceeds what a link on the way carries.
    TooBig {
        /// The link's MTU, or an estimate from an old router; not checked against any floor.
        mtu: u32,
    },
    /// A source route failed.
    SourceRouteFailed,
    /// A filter on the way forbids it.
    AdminProhibited,
    /// The TTL or hop limit ran out.
    TimeExceeded,
    /// The receiver did not get all fragments in time.
    ReassemblyTimeExceeded,
    /// The receiver or a router could not make sense of a header.
    ParameterProblem,
}

/// An ICMP error this host tells somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// Nobody listens at the port.
    PortUnreachable,
    /// Nobody here speaks the protocol; `pointer` is where its number stands in the packet (IPv6 says so).
    ProtocolUnreachable { pointer: u32 },
    /// Fragments were missing for too long.
    ReassemblyTimeExceeded,
    /// A header makes no sense: ICMP code, and offset in the packet.
    ParameterProblem { code: u8, pointer: u32 },
}

/// A way to a destination, kept by connections while `epoch` is that of [`Net::epoch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) interface: InterfaceId,
    pub(crate) src: Addr,
    pub(crate) next_hop: Addr,
    /// The path MTU now: never more than the link's.
    pub(crate) mtu: u16,
    /// The link's: what may arrive by it.
    pub(crate) link_mtu: u16,
    /// It carries even less, and packets may be cut on their way (Linux's locked MTU).
    pub(crate) locked: bool,
    /// The TTL or hop limit to send with when nobody asks for another.
    pub(crate) hop_limit: u8,
    pub(crate) neighbour: NeighbourId,
    pub(crate) epoch: u64,
}

/// Why there is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteError {
    /// No route covers the destination.
    NoRoute,
    /// No address of this host is fit to be the source.
    NoSource,
    /// The source asked for is not this host's, or not usable.
    SourceNotLocal,
}

/// What goes into an IP header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IpMeta {
    pub(crate) src: Addr,
    pub(crate) dst: Addr,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) dont_fragment: bool,
    /// The IPv4 identification, if the sender has one to give; else it is chosen here when one is needed.
    pub(crate) ident: Option<u16>,
}

/// The link and internet layers of one host.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) addresses: Addresses,
    pub(crate) routes: Routes,
    pub(crate) neighbours: Neighbours,
    membership: membership::Membership,
    claims: dad::Claims,
    discovery: router::Discovery,
    path_mtus: pmtu::PathMtus,
    reassembly: reassembly::Reassembly,
    limits: limit::Limits,
    idents: ident::Idents,
    labels: label::Labels,
    loopback: VecDeque<Packet>,
    /// Whole packets that any of the shards may be meant by.
    diverted: VecDeque<(InterfaceId, Packet)>,
    /// Frames any queue of an interface, or the loopback, may hold.
    queue_max: usize,
    reports: VecDeque<Report>,
    /// Errors that sockets asked for.
    pub(crate) socket_errors: Reports,
    epoch: u64,
}

impl Net {
    /// No interfaces yet; tables of the sizes in `config`.
    pub(crate) fn new(config: &Config, core: &mut Core) -> Self {
        let secret = core.secret;
        let key = |purpose: &[u8]| SipKey::derive(secret.hash(purpose), 1);
        Self {
            interfaces: Vec::new(),
            addresses: Addresses::new(),
            routes: Routes::new(config.routes),
            // What waits for neighbours may hold an eighth of the pool.
            neighbours: Neighbours::new(
                config.neighbours,
                u64::from(config.pool_blocks) * base::BLOCK as u64 / 8,
                config.reachable_time,
                core.secret,
            ),
            membership: membership::Membership::new(config, core.secret),
            claims: dad::Claims::default(),
            discovery: router::Discovery::new(config, &core.secret),
            path_mtus: pmtu::PathMtus::new(config.path_mtus, key(b"path MTUs")),
            reassembly: reassembly::Reassembly::new(
                config.reassemblies,
                config.reassembly_blocks,
                key(b"reassembly"),
            ),
            limits: limit::Limits::new(config.icmp_rate, key(b"ICMP limits")),
            idents: ident::Idents::new(key(b"identifications"), &mut core.rng),
            labels: label::Labels::new(&secret),
            loopback: VecDeque::with_capacity(config.transmit_queue),
            diverted: VecDeque::new(),
            queue_max: config.transmit_queue,
            reports: VecDeque::with_capacity(64),
            socket_errors: Reports::new(),
            epoch: 0,
        }
    }

    /// Segments of packet memory that all queues hold, counted by visiting them: for tests.
    pub(crate) fn segments_held(&self, pool: &base::Pool) -> usize {
        let frames = self.interfaces.iter().flat_map(|i| &i.queue);
        let frames = frames
            .chain(&self.loopback)
            .chain(self.diverted.iter().map(|(_, packet)| packet))
            .chain(self.neighbours.all_waiting());
        let chains = frames
            .map(|frame| &frame.chain)
            .chain(self.reassembly.chains());
        chains.map(|chain| pool.segments(chain)).sum()
    }

    /// Changes whenever a path handed out before may be wrong, and never comes again: 2^64 changes do not happen.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A path handed out before may be wrong from now on.
    pub(super) fn changed(&mut self) {
        self.epoch += 1;
    }

    /// Believes a [`ReportKind::TooBig`]; returns the path MTU from now on.
    pub(crate) fn pmtu_update(&mut self, core: &mut Core, dst: Addr, mtu: u32) -> u16 {
        // A route that locks its MTU knows better.
        let metrics = self.metrics_to(&dst);
        if let Some(mtu) = metrics.mtu.filter(|_| metrics.mtu_lock) {
            return mtu;
        }
        let before = self.path_mtus.get(core.now, &dst);
        let mtu = self.path_mtus.too_big(core, &dst, mtu);
        if self.path_mtus.get(core.now, &dst) != before {
            self.changed();
        }
        mtu
    }

    /// Whether the address is one of this host's and usable.
    #[inline]
    pub(crate) fn is_local(&self, addr: &Addr) -> bool {
        self.addresses.usable(addr).is_some() || addr.is_loopback()
    }

    /// Whether the address is the limited broadcast or that of a subnet of this host.
    pub(crate) fn is_broadcast(&self, addr: &Addr) -> bool {
        addr.is_broadcast() || self.addresses.classify(addr) == Class::Broadcast
    }

    /// Whether there is such an interface; the loopback always is.
    pub(crate) fn is_interface(&self, id: InterfaceId) -> bool {
        usize::from(id.0) < self.interfaces.len() || id == InterfaceId::LOOPBACK
    }

    /// The interface that counts as the one by which something for `dst` came in by `interface`: what this host says to itself comes
    /// by that which has the address.
    pub(crate) fn came_by(&self, interface: InterfaceId, dst: &Addr) -> InterfaceId {
        if interface != InterfaceId::LOOPBACK {
            return interface;
        }
        let entry = self.addresses.usable(dst);
        entry.map_or(interface, |entry| entry.interface)
    }

    /// The MTU of the link that has this address of ours.
    pub(crate) fn link_mtu(&self, own: &Addr) -> u16 {
        let entry = self.addresses.usable(own);
        let link = entry.and_then(|entry| self.interfaces.get(usize::from(entry.interface.0)));
        link.map_or(
            u16::MAX,
            |link| {
                if own.is_v4() { link.mtu } else { link.mtu_v6 }
            },
        )
    }

    /// The MTU of the path from one of our addresses, as far as it is known.
    pub(crate) fn path_mtu(&self, now: base::Instant, dst: &Addr, own: &Addr) -> u16 {
        let learnt = self.path_mtus.get(now, dst).0;
        self.metrics_to(dst).path_mtu(self.link_mtu(own), learnt)
    }

    /// What the route to `dst` says besides the way.
    #[inline]
    pub(crate) fn metrics_to(&self, dst: &Addr) -> RouteMetrics {
        self.routes.metrics_to(dst)
    }

    /// What the interface's device does for frames.
    #[inline]
    pub(crate) fn offloads(&self, interface: InterfaceId) -> Offloads {
        self.interfaces
            .get(usize::from(interface.0))
            .map_or(Offloads::ALL, |interface| interface.offloads)
    }

    /// What is held, for people and tools.
    pub(crate) fn occupancy(&self) -> NetOccupancy {
        let (reassemblies, _, reassembly_blocks) = self.reassembly.held();
        NetOccupancy {
            reassemblies,
            reassembly_blocks,
            path_mtus: self.path_mtus.len(),
        }
    }

    /// Frames to be transmitted by an interface, oldest first.
    pub(crate) fn transmit_queue(
        &mut self,
        interface: InterfaceId,
    ) -> Option<&mut VecDeque<Packet>> {
        self.interfaces
            .get_mut(usize::from(interface.0))
            .map(|interface| &mut interface.queue)
    }

    /// Frames a transport may still queue for an interface. The rest of the queue is for what nothing holds back: answers,
    /// ARP, datagrams. A transport that finds no room waits until the interface's queue was polled.
    #[inline]
    pub(crate) fn room(&self, interface: InterfaceId) -> usize {
        let (queued, most) = self
            .interfaces
            .get(usize::from(interface.0))
            .map_or((self.loopback.len(), self.queue_max), |interface| {
                (interface.queue.len(), interface.queue_max)
            });
        most.saturating_sub(TRANSPORT_SLACK)
            .clamp(1, TRANSPORT_QUEUE)
            .saturating_sub(queued)
    }

    /// Whether packets to this host itself wait.
    #[inline]
    pub(crate) fn loops_back(&self) -> bool {
        !self.loopback.is_empty()
    }

    /// Takes the oldest packet this host sent to itself, to be given to [`Net::input`].
    pub(crate) fn loopback_pop(&mut self) -> Option<(InterfaceId, Packet)> {
        self.loopback
            .pop_front()
            .map(|packet| (InterfaceId::LOOPBACK, packet))
    }

    /// Takes the oldest report that arose here (a neighbour that does not answer), not from a received packet.
    pub(crate) fn pop_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// A timer of one of the net's kinds has fired.
    pub(crate) fn on_timer(&mut self, core: &mut Core, kind: TimerKind, index: u32, extra: u16) {
        match kind {
            TimerKind::Neighbour => self.neighbour_timer(core, index, extra),
            TimerKind::Address => self.address_timer(core, index, extra),
            TimerKind::Router => self.router_timer(core, index, extra),
            TimerKind::Membership => self.membership_timer(core, index, extra),
            TimerKind::Reassembly => self.reassembly_timer(core, index),
            TimerKind::Pmtu => {
                if self.path_mtus.on_timer(core) {
                    self.changed();
                }
            }
            TimerKind::Tcp | TimerKind::SynReceived | TimerKind::TimeWait | TimerKind::Icmp => {}
        }
    }
}
