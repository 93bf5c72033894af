//! Whose a frame is: the shards that must see it, each a bit.
//!
//! - TCP: that of the flow's hash ([`Sharding::home`]). UDP: who has the port. ICMP errors: as the packet they quote; but that a
//!   datagram was too big concerns all who have its port, for any of them may have sent it.
//! - Fragments, questions to the host (ARP and neighbour solicitations, echoes, queries for groups), what routers say, and whatever is
//!   not understood: the leading shard.
//! - What teaches neighbours' addresses: all, for each has its own table.
//!
//! Invariant: each frame is somebody's, so that whatever is wrong with it is counted once.

use std::sync::Arc;

use stack::Sharding;
use wire::ipv6::ext;
use wire::{Addr, EtherType, Family, Quote, icmpv4, icmpv6, ipv6, protocol};

use super::moved::{Ends, Moved};
use super::udp_ports::UdpPorts;

const LEADER: u64 = 1;
const ETHERNET: usize = 14;
const TAG: usize = 4;
const IPV4: usize = 20;
const ICMP: usize = 8;
/// RFC 792: the code of Destination Unreachable that tells of a path's MTU.
const FRAGMENTATION_NEEDED: u8 = 4;

/// What decides.
pub(super) struct Table {
    sharding: Sharding,
    udp: Arc<UdpPorts>,
    moved: Arc<Moved>,
    all: u64,
}

/// Who sent a packet, what it carries, and whether it is for a group.
struct Packet<'a> {
    /// From its IP header on.
    ip: &'a [u8],
    src: Addr,
    protocol: u8,
    transport: &'a [u8],
    group: bool,
}

impl Table {
    pub(super) fn new(sharding: Sharding, udp: Arc<UdpPorts>, moved: Arc<Moved>) -> Self {
        Self {
            sharding,
            udp,
            moved,
            all: u64::MAX >> (64 - sharding.shards()),
        }
    }

    pub(super) fn sharding(&self) -> &Sharding {
        &self.sharding
    }

    pub(super) fn moved(&self) -> &Moved {
        &self.moved
    }

    pub(super) fn udp(&self) -> &UdpPorts {
        &self.udp
    }

    /// The shards that must see a frame, by its first bytes.
    #[inline]
    pub(super) fn whose(&self, frame: &[u8]) -> u64 {
        let group = frame.first().is_some_and(|byte| byte & 1 != 0);
        let (kind, rest) = payload(frame);
        match kind {
            Some(EtherType::IPV4 | EtherType::IPV6) => self.whose_packet(rest, group),
            Some(EtherType::ARP) => self.whose_arp(rest),
            _ => LEADER,
        }
    }

    /// Answers, and what is told to everybody without being asked, change what is known of a neighbour (RFC 826, RFC 5227).
    fn whose_arp(&self, arp: &[u8]) -> u64 {
        match arp {
            [_, _, _, _, _, _, 0, 2, ..] => self.all,
            [_, _, _, _, _, _, 0, 1, ..] if arp.get(14..18) == arp.get(24..28) => self.all,
            _ => LEADER,
        }
    }

    /// The shards that must see a packet, by its first bytes. `group`: it came by a group address of the link.
    #[inline]
    pub(super) fn whose_packet(&self, ip: &[u8], group: bool) -> u64 {
        parse(ip, group).map_or(LEADER, |packet| self.whose_transport(&packet))
    }

    #[inline]
    fn whose_transport(&self, packet: &Packet<'_>) -> u64 {
        let Some(&[a, b, c, d]) = packet.transport.first_chunk() else {
            return LEADER;
        };
        let (remote, local) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        match packet.protocol {
            protocol::TCP => 1 << self.home(&packet.src, (remote, local), || packet.dst()),
            protocol::UDP => self.whose_datagram(&packet.src, remote, local, packet.group),
            protocol::ICMPV4 if packet.src.is_v4() => match a {
                icmpv4::kind::UNREACHABLE
                | icmpv4::kind::TIME_EXCEEDED
                | icmpv4::kind::PARAMETER_PROBLEM => {
                    let too_big = (a, b) == (icmpv4::kind::UNREACHABLE, FRAGMENTATION_NEEDED);
                    self.whose_error(packet, too_big)
                }
                _ => LEADER,
            },
            protocol::ICMPV6 if !packet.src.is_v4() => match a {
                0..128 => self.whose_error(packet, a == icmpv6::kind::PACKET_TOO_BIG),
                icmpv6::kind::NEIGHBOR_ADVERT => self.all,
                _ => LEADER,
            },
            _ => LEADER,
        }
    }

    /// The shard of a connection with this peer, the peer's port and the one here; its address here tells whether it was moved.
    #[inline]
    fn home(&self, remote: &Addr, (port, own): (u16, u16), local: impl FnOnce() -> Addr) -> usize {
        let elsewhere = match self.moved.is_empty() {
            true => None,
            false => self.moved.find(&((local(), own), (*remote, port))),
        };
        elsewhere.unwrap_or_else(|| self.sharding.home(remote, port, own))
    }

    /// Whether what came by a ring is for a connection that was moved to another shard meanwhile.
    #[inline]
    pub(super) fn strays(&self, frame: bool, bytes: &[u8]) -> bool {
        !self.moved.is_empty() && self.has_strayed(frame, bytes)
    }

    #[cold]
    fn has_strayed(&self, frame: bool, bytes: &[u8]) -> bool {
        let ip = if frame { payload(bytes).1 } else { bytes };
        let packet = parse(ip, false);
        let ends = packet.and_then(|packet| self.tcp_ends(&packet));
        let shard = ends.and_then(|ends| self.moved.find(&ends));
        shard.is_some_and(|shard| shard != self.sharding.shard())
    }

    /// The ends of the connection that a packet, or an error, is about.
    fn tcp_ends(&self, packet: &Packet<'_>) -> Option<Ends> {
        if packet.protocol == protocol::TCP {
            let &[a, b, c, d] = packet.transport.first_chunk()?;
            let (remote, local) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            return Some(((packet.dst(), local), (packet.src, remote)));
        }
        let error = match packet.protocol {
            protocol::ICMPV4 => packet.src.is_v4(),
            protocol::ICMPV6 => !packet.src.is_v4(),
            _ => false,
        };
        let quote = error.then(|| packet.quote()).flatten()?;
        let (local, remote) = quote.ports().filter(|_| quote.protocol == protocol::TCP)?;
        Some(((quote.src, local), (quote.dst, remote)))
    }

    #[inline]
    fn whose_datagram(&self, remote: &Addr, remote_port: u16, port: u16, group: bool) -> u64 {
        let owners = self.udp.owners(port);
        match owners.count_ones() {
            0 => LEADER,
            1 => owners,
            _ if group => owners,
            _ => one_of(owners, self.sharding.hash(remote, remote_port, port)),
        }
    }

    /// An error is for the shard of what it is about, which was sent from here.
    fn whose_error(&self, packet: &Packet<'_>, too_big: bool) -> u64 {
        let quote = packet.quote();
        let Some((quote, (local, remote))) = quote.and_then(|quote| Some((quote, quote.ports()?)))
        else {
            return LEADER;
        };
        match quote.protocol {
            protocol::TCP => 1 << self.home(&quote.dst, (remote, local), || quote.src),
            // Each shard that sends there has to learn of the path: as what is for a group it reaches all.
            _ => self.whose_datagram(&quote.dst, remote, local, too_big),
        }
    }
}

impl<'a> Packet<'a> {
    fn dst(&self) -> Addr {
        if let (true, Some(&[a, b, c, d])) = (self.src.is_v4(), self.ip.get(16..20)) {
            return Addr::from_v4([a, b, c, d]);
        }
        ipv6::Packet::new(self.ip).map_or(Addr([0; 16]), |packet| packet.dst())
    }

    /// What an ICMP error quotes.
    fn quote(&self) -> Option<Quote<'a>> {
        let family = match self.src.is_v4() {
            true => Family::V4,
            false => Family::V6,
        };
        Quote::parse(family, self.transport.get(ICMP..)?).ok()
    }
}

/// What a frame carries, and of which kind that is.
#[inline]
fn payload(frame: &[u8]) -> (Option<EtherType>, &[u8]) {
    let kind = |at: usize| {
        let kind = frame.get(at..)?.first_chunk()?;
        Some(EtherType(u16::from_be_bytes(*kind)))
    };
    let (kind, at) = match kind(ETHERNET - 2) {
        Some(EtherType::VLAN) => (kind(ETHERNET + TAG - 2), ETHERNET + TAG),
        kind => (kind, ETHERNET),
    };
    (kind, frame.get(at..).unwrap_or_default())
}

/// `None` for fragments, and for what makes no sense.
#[inline]
fn parse(ip: &[u8], group: bool) -> Option<Packet<'_>> {
    match ip.first().map(|byte| byte >> 4) {
        Some(4) => of_v4(ip, group),
        Some(6) => of_v6(ip, group),
        _ => None,
    }
}

/// One of several shards, by a hash: one that comes or goes moves the flows of no other (rendezvous hashing).
fn one_of(mut owners: u64, hash: u64) -> u64 {
    let (mut best, mut most) = (LEADER, 0);
    while owners != 0 {
        let shard = owners.trailing_zeros();
        owners &= owners - 1;
        // The hash is keyed: this only has to mix.
        let mixed = (hash ^ u64::from(shard + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .wrapping_mul(0xff51_afd7_ed55_8ccd);
        let weight = (mixed ^ (mixed >> 32)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        if weight >= most {
            (best, most) = (1 << shard, weight);
        }
    }
    best
}

/// As [`parse`].
#[inline]
fn of_v4(ip: &[u8], group: bool) -> Option<Packet<'_>> {
    let header: &[u8; IPV4] = ip.first_chunk()?;
    let [_, _, _, _, _, _, flags, offset, _, protocol, ..] = *header;
    if u16::from_be_bytes([flags, offset]) & 0x3fff != 0 {
        return None;
    }
    let len = usize::from(header[0] & 15) * 4;
    let [a, b, c, d] = [header[12], header[13], header[14], header[15]];
    Some(Packet {
        ip,
        src: Addr::from_v4([a, b, c, d]),
        protocol,
        transport: ip.get(len.max(IPV4)..)?,
        group: group || header[16] >= 224,
    })
}

/// As [`parse`].
#[inline]
fn of_v6(ip: &[u8], group: bool) -> Option<Packet<'_>> {
    let packet = ipv6::Packet::new(ip).ok()?;
    let rest = ip.get(ipv6::HEADER_LEN..)?;
    let walked = ext::walk(packet.next_header(), rest).ok()?;
    if walked
        .fragment
        .is_some_and(|fragment| !fragment.is_atomic())
    {
        return None;
    }
    Some(Packet {
        ip,
        src: packet.src(),
        protocol: walked.transport,
        transport: rest.get(walked.offset..)?,
        group: group || packet.dst().is_multicast(),
    })
}
