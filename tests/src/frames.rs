//! Frames taken apart and made by hand.

use wire::{Addr, EtherType, Mac, arp, ethernet, icmpv4, icmpv6, ipv4, ipv6, protocol, tcp};

/// An IP packet in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Protocol, or next header where no extension headers are.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Length of the packet with its header, as that says.
    pub len: usize,
    /// IPv4: may not be fragmented.
    pub dont_fragment: bool,
    /// IPv4: a fragment. (IPv6 fragments have a protocol of their own, 44.)
    pub fragment: bool,
    /// What the packet carries.
    pub payload: Vec<u8>,
}

/// The IP packet in a frame, if there is one.
#[must_use]
pub fn ip(frame: &[u8]) -> Option<Ip> {
    let frame = ethernet::Packet::new(frame).ok()?;
    match frame.ethertype() {
        EtherType::IPV4 => {
            let packet = ipv4::Packet::new(frame.payload()).ok()?;
            Some(Ip {
                src: packet.src(),
                dst: packet.dst(),
                protocol: packet.protocol(),
                ttl: packet.ttl(),
                len: packet.total_len().into(),
                dont_fragment: packet.dont_fragment(),
                fragment: packet.more_fragments() || packet.fragment_offset() > 0,
                payload: packet.payload().to_vec(),
            })
        }
        EtherType::IPV6 => {
            let packet = ipv6::Packet::new(frame.payload()).ok()?;
            Some(Ip {
                src: packet.src(),
                dst: packet.dst(),
                protocol: packet.next_header(),
                ttl: packet.hop_limit(),
                len: 40 + usize::from(packet.payload_len()),
                dont_fragment: true,
                fragment: packet.next_header() == protocol::FRAGMENT,
                payload: packet.payload().to_vec(),
            })
        }
        _ => None,
    }
}

/// A TCP segment in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tcp {
    pub ip: Ip,
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: tcp::Flags,
    pub window: u16,
    pub urgent: u16,
    pub options: tcp::Options,
    pub payload: Vec<u8>,
}

/// The TCP segment in a frame, if there is one.
#[must_use]
pub fn tcp(frame: &[u8]) -> Option<Tcp> {
    let ip = ip(frame).filter(|ip| ip.protocol == protocol::TCP && !ip.fragment)?;
    let segment = tcp::Packet::new(&ip.payload).ok()?;
    Some(Tcp {
        src_port: segment.src_port(),
        dst_port: segment.dst_port(),
        seq: segment.seq(),
        ack: segment.ack(),
        flags: segment.flags(),
        window: segment.window(),
        urgent: segment.urgent(),
        options: segment.options(),
        payload: segment.payload().to_vec(),
        ip: ip.clone(),
    })
}

/// The ARP packet in a frame, if there is one.
#[must_use]
pub fn arp(frame: &[u8]) -> Option<arp::Repr> {
    let frame = ethernet::Packet::new(frame).ok()?;
    if frame.ethertype() != EtherType::ARP {
        return None;
    }
    arp::Repr::parse(&arp::Packet::new(frame.payload()).ok()?).ok()
}

/// The type of an ICMPv6 message in a frame, and the message.
#[must_use]
pub fn icmpv6(frame: &[u8]) -> Option<(u8, Vec<u8>)> {
    let ip = ip(frame).filter(|ip| ip.protocol == protocol::ICMPV6)?;
    let kind = *ip.payload.first()?;
    Some((kind, ip.payload))
}

/// A frame.
#[must_use]
pub fn ethernet(src: Mac, dst: Mac, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    let repr = ethernet::Repr {
        src,
        dst,
        ethertype,
    };
    let mut frame = vec![0; ethernet::HEADER_LEN];
    repr.emit(&mut frame);
    frame.extend_from_slice(payload);
    frame
}

/// A frame with an IP packet of either family, TTL or hop limit 255.
#[must_use]
pub fn ip_frame(macs: (Mac, Mac), src: Addr, dst: Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet;
    let ethertype = if src.is_v4() {
        let repr = ipv4::Repr::new(src, dst, protocol, 255, payload.len());
        packet = vec![0; repr.header_len()];
        repr.emit(&mut packet);
        EtherType::IPV4
    } else {
        let repr = ipv6::Repr::new(src, dst, protocol, 255, payload.len());
        packet = vec![0; repr.header_len()];
        repr.emit(&mut packet);
        EtherType::IPV6
    };
    packet.extend_from_slice(payload);
    ethernet(macs.0, macs.1, ethertype, &packet)
}

/// What a router between says to a packet that does not fit its next link: to the sender of `frame`, from the address
/// it was for.
#[must_use]
pub fn too_big(frame: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let packet = ip(frame)?;
    let outer = ethernet::Packet::new(frame).ok()?;
    let quoted = outer.payload();
    let (from, to) = (packet.dst, packet.src);
    let mut message;
    let protocol = if from.is_v4() {
        let repr = icmpv4::Repr::FragmentationNeeded { mtu };
        message = vec![0; repr.header_len()];
        repr.emit(&mut message);
        message.extend_from_slice(&quoted[..quoted.len().min(548)]);
        icmpv4::fill_checksum(&mut message);
        protocol::ICMPV4
    } else {
        let repr = icmpv6::Repr::PacketTooBig { mtu: mtu.into() };
        message = vec![0; repr.header_len()];
        repr.emit(&mut message);
        message.extend_from_slice(&quoted[..quoted.len().min(1232)]);
        icmpv6::fill_checksum(&mut message, &from, &to);
        protocol::ICMPV6
    };
    let macs = (outer.dst(), outer.src());
    Some(ip_frame(macs, from, to, protocol, &message))
}
