//! The way in: what a frame must be for its packet to be taken (RFC 1122 2 and 3, RFC 8200).
//!
//! What does not live here: what ICMP messages say (`icmp`), and joining fragments (`reassembly`).
//!
//! There are two ways through. [`Net::glance`] takes what nearly every packet is: for our station, no options, no fragment,
//! TCP or UDP. It decides nothing else: whatever it does not take goes the careful way (`careful`), which checks all over
//! again, with a reason for every drop.
//!
//! Invariant: the quick way takes only what the careful one would take, with the same result.

use base::{Chain, Checksum, Facts, Packet};
use wire::ethernet::{self, EtherType};
use wire::{Addr, ipv4, ipv6, protocol, vlan};

use super::address::Class;
use super::{Datagram, Input, InterfaceId, Net};
use crate::context::Core;
use crate::stats::{Count, Drop};

/// Bytes of a transport header that must lie together: the longest TCP header.
pub(super) const TRANSPORT_HEADER: usize = 60;

/// What the quick way found out.
struct Glance {
    src: Addr,
    dst: Addr,
    protocol: u8,
    ttl: u8,
    tos: u8,
    l4: u16,
    /// Bytes from the IP header on.
    len: usize,
}

impl Net {
    /// Takes in a frame from an interface, or an IP packet from the loopback.
    #[inline]
    pub(crate) fn input(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        packet: Packet,
    ) -> Input {
        let Some(seen) = self.glance(core, interface, &packet) else {
            return self.frame_input(core, interface, packet);
        };
        let Packet { mut chain, facts } = packet;
        core.pool.pull_front(&mut chain, ethernet::HEADER_LEN);
        if chain.len() != seen.len {
            core.pool.truncate(&mut chain, seen.len);
        }
        core.count(Count::Delivered);
        Input::Datagram(Datagram {
            interface,
            src: seen.src,
            dst: seen.dst,
            protocol: seen.protocol,
            ttl: seen.ttl,
            tos: seen.tos,
            group: false,
            l4: seen.l4,
            checksum_good: facts.checksum != Checksum::Unknown,
            gso_size: gso_size(&facts),
            chain,
        })
    }

    /// The quick way; `None` says nothing but that the packet is not plain.
    #[inline]
    fn glance(&self, core: &Core, interface: InterfaceId, packet: &Packet) -> Option<Glance> {
        const V4_END: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;
        const V6_END: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN;
        let to = self.interfaces.get(usize::from(interface.0))?;
        let first = core.pool.first(&packet.chain);
        let frame = first.first_chunk::<V4_END>()?;
        if frame[..6] != to.mac?.0 || frame[6] & 1 != 0 {
            return None;
        }
        let whole = packet.chain.len();
        let together = first.len() == whole || first.len() >= V6_END + TRANSPORT_HEADER;
        let there = whole - ethernet::HEADER_LEN;
        let ip = &first[ethernet::HEADER_LEN..];
        let seen = match EtherType(u16::from_be_bytes([frame[12], frame[13]])) {
            EtherType::IPV4 => {
                let header = ipv4::Packet::new(ip).ok()?;
                let len = usize::from(header.total_len());
                let plain = ip[0] == 0x45
                    && !header.is_fragment()
                    && len >= ipv4::HEADER_LEN
                    && len <= there
                    && header.verify_checksum()
                    && plain_source_v4(ip[12]);
                if !plain {
                    return None;
                }
                Glance {
                    src: header.src(),
                    dst: header.dst(),
                    protocol: header.protocol(),
                    ttl: header.ttl(),
                    tos: header.tos(),
                    l4: ipv4::HEADER_LEN as u16,
                    len,
                }
            }
            EtherType::IPV6 => {
                let header = ipv6::Packet::new(ip).ok()?;
                let len = ipv6::HEADER_LEN + usize::from(header.payload_len());
                // A first byte of zero: unspecified, loopback, mapped, and nothing in use.
                if header.version() != 6 || len > there || ip[8] == 0 || ip[8] == 0xff {
                    return None;
                }
                Glance {
                    src: header.src(),
                    dst: header.dst(),
                    protocol: header.next_header(),
                    ttl: header.hop_limit(),
                    tos: header.traffic_class(),
                    l4: ipv6::HEADER_LEN as u16,
                    len,
                }
            }
            _ => return None,
        };
        if !together || !matches!(seen.protocol, protocol::TCP | protocol::UDP) {
            return None;
        }
        let Class::Own(index) = self.addresses.classify(&seen.dst) else {
            return None;
        };
        let own = self.addresses.entries.at(index)?;
        let ours = own.is_usable() && (own.interface == interface || !seen.dst.is_link_local());
        (ours && self.addresses.classify(&seen.src) == Class::Other).then_some(seen)
    }

    /// The careful way, from the link on.
    #[cold]
    pub(super) fn frame_input(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        packet: Packet,
    ) -> Input {
        let Packet { mut chain, facts } = packet;
        let bare = |to: &super::Interface| to.mac.is_none();
        let link = self.interfaces.get(usize::from(interface.0));
        if interface == InterfaceId::LOOPBACK || link.is_some_and(bare) {
            return self.ip_input(core, interface, chain, &facts, false);
        }
        let checked = self.check_link(core, interface, &mut chain);
        let checked = checked.and_then(|(kind, group)| {
            core.pool.pull_front(&mut chain, ethernet::HEADER_LEN);
            match kind {
                EtherType::VLAN => untag(core, &mut chain).map(|kind| (kind, group)),
                kind => Ok((kind, group)),
            }
        });
        let reason = match checked {
            Ok((EtherType::IPV4 | EtherType::IPV6, group)) => {
                return self.ip_input(core, interface, chain, &facts, group);
            }
            Ok((EtherType::ARP, _)) => {
                self.arp_input(core, interface, chain);
                return Input::Done;
            }
            Ok(_) => Drop::EthernetUnknownType,
            Err(reason) => reason,
        };
        core.drop_packet(chain, reason);
        Input::Done
    }

    /// Whether a frame is for this station; its type, and whether it was sent to a group. Which groups are joined is known by
    /// their IP addresses (`check_destination`): several share a link-layer address.
    fn check_link(
        &self,
        core: &mut Core,
        interface: InterfaceId,
        chain: &mut Chain,
    ) -> Result<(EtherType, bool), Drop> {
        let Some(own) = self.mac(interface) else {
            return Err(Drop::EthernetOtherHost);
        };
        if !core.pool.make_contiguous(chain, ethernet::HEADER_LEN) {
            return Err(Drop::EthernetTruncated);
        }
        let frame =
            ethernet::Packet::new(core.pool.first(chain)).map_err(|_| Drop::EthernetTruncated)?;
        let dst = frame.dst();
        if dst != own && !dst.is_multicast() {
            return Err(Drop::EthernetOtherHost);
        }
        if frame.src().is_multicast() {
            return Err(Drop::EthernetSource);
        }
        if frame.ethertype().is_length() {
            return Err(Drop::EthernetUnknownType);
        }
        Ok((frame.ethertype(), dst.is_multicast()))
    }

    /// An IP packet at the beginning of `chain`, from the link or put together again.
    pub(super) fn ip_input(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        chain: Chain,
        facts: &Facts,
        link_group: bool,
    ) -> Input {
        let arrival = Arrival {
            interface,
            link_group,
            checksum_good: facts.checksum != Checksum::Unknown,
            gso_size: gso_size(facts),
            reassembled: false,
            joined: false,
        };
        match core.pool.first(&chain).first().map(|byte| byte >> 4) {
            Some(4) => self.ipv4_input(core, arrival, chain),
            Some(6) => self.ipv6_input(core, arrival, chain),
            Some(_) => {
                core.drop_packet(chain, Drop::IpVersion);
                Input::Done
            }
            None => {
                core.drop_packet(chain, Drop::IpTruncated);
                Input::Done
            }
        }
    }

    /// Whether packets from `src` can be honest (RFC 1122 3.2.1.3, RFC 1812 5.3.7; RFC 4291 2.5 to 2.7).
    pub(super) fn check_source(&self, interface: InterfaceId, src: &Addr) -> Result<(), Drop> {
        let loopback = interface == InterfaceId::LOOPBACK;
        if src.is_multicast() || src.is_broadcast() || src.is_reserved() {
            return Err(Drop::IpSource);
        }
        // "This network", but for a host that has no address yet.
        if src.is_v4() && src.0[12] == 0 && !src.is_unspecified() {
            return Err(Drop::IpSource);
        }
        if src.is_loopback() && !loopback {
            return Err(Drop::IpSource);
        }
        match self.addresses.classify(src) {
            Class::Broadcast => Err(Drop::IpSource),
            // A tentative address is not ours yet: its true owner may say so (RFC 4862 5.4).
            Class::Own(index) if !loopback => match self.addresses.entries.at(index) {
                Some(entry) if entry.is_usable() => Err(Drop::IpOwnSource),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Whether a packet to `dst` is for this host, and if so whether it is for a group. As on Linux a host takes what is for any
    /// of its addresses, whatever the interface (RFC 1122 3.3.4.2, the weak model).
    pub(super) fn check_destination(
        &self,
        interface: InterfaceId,
        dst: &Addr,
        link_group: bool,
    ) -> Result<bool, Drop> {
        let loopback = interface == InterfaceId::LOOPBACK;
        if dst.is_multicast() {
            // RFC 4291 2.7: scope 0 is reserved; what has interface-local scope never crosses a link.
            if !loopback && !dst.is_v4() && dst.0[1] & 0xf < 2 {
                return Err(Drop::IpNotMember);
            }
            let joined = loopback || self.membership.is_member(interface, dst);
            return if joined {
                Ok(true)
            } else {
                Err(Drop::IpNotMember)
            };
        }
        if dst.is_broadcast() {
            return Ok(true);
        }
        match self.addresses.classify(dst) {
            Class::Broadcast => return Ok(true),
            Class::Own(index) => {
                let Some(entry) = self.addresses.entries.at(index) else {
                    return Err(Drop::IpNotForUs);
                };
                if !entry.is_usable() {
                    return Err(Drop::IpTentative);
                }
                if dst.is_link_local() && !dst.is_v4() && entry.interface != interface && !loopback
                {
                    return Err(Drop::IpNotForUs);
                }
            }
            Class::Other if dst.is_loopback() && loopback => {}
            Class::Other => return Err(Drop::IpNotForUs),
        }
        // RFC 1122 3.3.6: a host SHOULD drop what came by a link broadcast but is not for an IP broadcast or multicast.
        if link_group && dst.is_v4() {
            return Err(Drop::IpLinkGroup);
        }
        Ok(link_group)
    }
}

/// How a packet came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) interface: InterfaceId,
    /// By a broadcast or multicast of the link.
    pub(super) link_group: bool,
    pub(super) checksum_good: bool,
    pub(super) gso_size: u16,
    /// It was fragmented on its way.
    pub(super) reassembled: bool,
    /// Its fragments were put together here.
    pub(super) joined: bool,
}

/// Takes off a tag that only tells a frame's priority (802.1Q 6.9), as Linux does, and gives the type of what follows. Frames of
/// a VLAN are not for this interface.
fn untag(core: &mut Core, chain: &mut Chain) -> Result<EtherType, Drop> {
    if !core.pool.make_contiguous(chain, vlan::TAG_LEN) {
        return Err(Drop::EthernetTruncated);
    }
    let tag = vlan::Packet::new(core.pool.first(chain)).map_err(|_| Drop::EthernetTruncated)?;
    if tag.vid() != 0 {
        return Err(Drop::EthernetUnknownType);
    }
    let kind = tag.ethertype();
    core.pool.pull_front(chain, vlan::TAG_LEN);
    // The addresses move up: what lies in front of a packet is the link's header, as without the tag (`tcp::saved_syn`).
    let all = ethernet::HEADER_LEN + vlan::TAG_LEN;
    if let Some(front) = core.pool.push_front(chain, all) {
        front.copy_within(..ethernet::HEADER_LEN - 2, vlan::TAG_LEN);
        core.pool.pull_front(chain, all);
    }
    Ok(kind)
}

#[inline]
fn gso_size(facts: &Facts) -> u16 {
    if facts.gso.is_none() {
        0
    } else {
        facts.gso.size
    }
}

/// Whether the first byte of an IPv4 source is none of the special ones: 0/8, 127/8, multicast and above.
#[inline]
fn plain_source_v4(first: u8) -> bool {
    first.wrapping_sub(1) < 223 && first != 127
}
