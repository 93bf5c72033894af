//! Frames for the host: raw contents in honest envelopes, and TCP segments near to what a connection expects.

use base::{Checksum, Instant};
use wire::tcp::Flags;
use wire::{
    Addr, EtherType, Mac, arp, checksum, ethernet, icmpv4, icmpv6, igmp, ipv4, ipv6, ndp, protocol,
    tcp, udp,
};

use super::judge::Flow;
use super::{OUR_MAC, PEER_MAC, Script, addresses};

fn envelope(dst: Mac, ethertype: EtherType, payload_len: usize) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN + payload_len];
    ethernet::Repr {
        src: PEER_MAC,
        dst,
        ethertype,
    }
    .emit(&mut frame);
    frame
}

/// An Ethernet frame with raw contents, to the host, a group or everybody.
pub(super) fn link(script: &mut Script<'_>) -> Vec<u8> {
    let (to, what, len) = (script.u8(), script.u8(), script.u16() % 1600);
    let dst = match to % 4 {
        0 => Mac::BROADCAST,
        1 => Mac([0x33, 0x33, 0, 0, 0, script.u8()]),
        _ => OUR_MAC,
    };
    let ethertype = [
        EtherType::ARP,
        EtherType::IPV4,
        EtherType::IPV6,
        EtherType::VLAN,
    ][usize::from(what) % 4];
    let payload = script.bytes(usize::from(len));
    let mut frame = envelope(dst, ethertype, payload.len());
    frame[ethernet::HEADER_LEN..].copy_from_slice(payload);
    frame
}

/// Who a packet is from or to.
fn address(selector: u8, v6: bool) -> Addr {
    let (ours, peer) = addresses(v6);
    match (selector % 8, v6) {
        (0..=3, _) => ours,
        (4, _) => peer,
        (5, false) => Addr::v4(255, 255, 255, 255),
        (5, true) => Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        (6, false) => Addr::v4(10, 77, 0, 255),
        (6, true) => Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2]),
        (_, false) => Addr::v4(192, 0, 2, selector),
        (_, true) => Addr([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, selector]),
    }
}

/// A packet whose headers and checksums are honest, with raw contents; and what a device may say of it.
pub(super) fn packet(script: &mut Script<'_>) -> (Vec<u8>, Checksum) {
    const PROTOCOLS: [u8; 8] = [
        protocol::TCP,
        protocol::UDP,
        protocol::ICMPV4,
        protocol::ICMPV6,
        protocol::HOP_BY_HOP,
        protocol::FRAGMENT,
        protocol::IGMP,
        protocol::DESTINATION_OPTIONS,
    ];
    let (bits, from, to, hops) = (script.u8(), script.u8(), script.u8(), script.u8());
    let v6 = bits & 1 != 0;
    let number = PROTOCOLS[usize::from(bits >> 1) % PROTOCOLS.len()];
    let fragment = if bits & 0x10 != 0 { script.u16() } else { 0 };
    let len = usize::from(script.u16() % 1480);
    let (src, dst) = (address(from.wrapping_add(4), v6), address(to, v6));
    let mut payload = script.bytes(len).to_vec();
    if fragment == 0 {
        complete(number, &mut payload, &src, &dst);
    }
    let hop_limit = [64, 255, 1, hops][usize::from(hops) % 4];

    let mac = dst.multicast_mac().unwrap_or(if dst.is_broadcast() {
        Mac::BROADCAST
    } else {
        OUR_MAC
    });
    let frame = ip(v6, src, dst, number, hop_limit, fragment, &payload, mac);
    let start = frame.len() - payload.len();
    let facts = match bits >> 5 {
        1 => Checksum::Good,
        2 if number == protocol::TCP && payload.len() >= tcp::HEADER_LEN => Checksum::Partial {
            start: start as u16,
            offset: tcp::CHECKSUM_OFFSET as u16,
        },
        _ => Checksum::Unknown,
    };
    (frame, facts)
}

#[allow(clippy::too_many_arguments, reason = "the fields of a header")]
fn ip(
    v6: bool,
    src: Addr,
    dst: Addr,
    number: u8,
    hops: u8,
    fragment: u16,
    payload: &[u8],
    mac: Mac,
) -> Vec<u8> {
    let at = ethernet::HEADER_LEN;
    if v6 {
        let repr = ipv6::Repr::new(src, dst, number, hops, payload.len());
        let mut frame = envelope(mac, EtherType::IPV6, repr.total_len());
        repr.emit(&mut frame[at..]);
        frame[at + repr.header_len()..].copy_from_slice(payload);
        frame
    } else {
        let repr = ipv4::Repr {
            more_fragments: fragment & 1 != 0,
            fragment_offset: fragment & 0x7f8,
            ident: fragment >> 12,
            ..ipv4::Repr::new(src, dst, number, hops, payload.len())
        };
        let mut frame = envelope(mac, EtherType::IPV4, repr.total_len());
        repr.emit(&mut frame[at..]);
        frame[at + repr.header_len()..].copy_from_slice(payload);
        frame
    }
}

/// Fills in the checksum of a transport, so that chance need not find it.
fn complete(number: u8, payload: &mut [u8], src: &Addr, dst: &Addr) {
    let at = match number {
        protocol::TCP => tcp::CHECKSUM_OFFSET,
        protocol::UDP => udp::HEADER_LEN - 2,
        protocol::ICMPV4 => return icmpv4::fill_checksum(payload),
        protocol::ICMPV6 => return icmpv6::fill_checksum(payload, src, dst),
        protocol::IGMP => return igmp::fill_checksum(payload),
        _ => return,
    };
    let len = payload.len() as u32;
    if let Some(field) = payload.get_mut(at..at + 2) {
        field.fill(0);
        let sum = checksum::pseudo(src, dst, number, len).add_bytes(payload);
        payload[at..at + 2].copy_from_slice(&sum.finish_nonzero().to_be_bytes());
    }
}

/// How far a number is off the one expected.
fn near(script: &mut Script<'_>, expected: u32) -> u32 {
    let selector = script.u8();
    match selector {
        0..=0x7f => expected,
        0x80..=0x9f => expected.wrapping_add(u32::from(selector & 0x1f)),
        0xa0..=0xbf => expected.wrapping_sub(u32::from(selector & 0x1f)),
        0xc0..=0xdf => expected.wrapping_add(u32::from(script.u16())),
        0xe0..=0xef => expected.wrapping_sub(u32::from(script.u16())),
        _ => script.u32(),
    }
}

/// A TCP segment of a flow the host knows, or of a new one. Every byte of data is the low byte of its sequence number.
pub(super) fn segment(
    script: &mut Script<'_>,
    flows: &[Flow],
    now: Instant,
) -> (Vec<u8>, Flow, Flags) {
    let (which, bits) = (script.u8(), script.u8());
    let flow = if which & 0x80 == 0 && !flows.is_empty() {
        flows[usize::from(which) % flows.len()]
    } else {
        let port = 80 + u16::from(which & 3);
        Flow::new(
            which & 0x40 != 0,
            port,
            2000 + u16::from(which >> 2 & 3),
            u32::from(bits) << 24,
        )
    };
    let flags = Flags(u16::from(script.u8()) & 0xff);
    let seq = near(script, flow.expected);
    let ack = near(script, flow.next);
    let window = [script.u16(), 0xffff][usize::from(bits & 1)];
    let mut options = tcp::Options::default();
    if bits & 2 != 0 {
        options.mss = Some(script.u16());
    }
    if bits & 4 != 0 {
        options.window_scale = Some(script.u8() % 15);
    }
    options.sack_permitted = bits & 8 != 0;
    if bits & 16 != 0 {
        let value = near(script, now.millis() as u32);
        options.timestamps = Some((value, flow.timestamp));
    }
    if bits & 32 != 0 {
        let start = near(script, flow.next);
        options
            .sack
            .push((start, start.wrapping_add(u32::from(script.u16()))));
    }
    let len = if bits & 64 != 0 {
        usize::from(script.u16() % 1400)
    } else {
        0
    };
    // The SYN takes a sequence number of its own.
    let first = seq.wrapping_add(u32::from(flags.contains(Flags::SYN)));
    let repr = tcp::Repr {
        src_port: flow.peer_port,
        dst_port: flow.host_port,
        seq,
        ack: flags.contains(Flags::ACK).then_some(ack),
        flags: flags.without(Flags::ACK),
        window,
        urgent: if flags.contains(Flags::URG) {
            script.u16()
        } else {
            0
        },
        options,
    };
    let mut payload = vec![0; repr.header_len()];
    repr.emit(&mut payload);
    payload.extend((0..len as u32).map(|at| first.wrapping_add(at) as u8));
    let (ours, peer) = addresses(flow.v6);
    complete(protocol::TCP, &mut payload, &peer, &ours);
    (
        ip(flow.v6, peer, ours, protocol::TCP, 64, 0, &payload, OUR_MAC),
        flow,
        flags,
    )
}

/// The peer's answer to a frame that asks for its link address.
pub(super) fn resolution(frame: &[u8]) -> Option<Vec<u8>> {
    let packet = ethernet::Packet::new(frame).ok()?;
    if packet.ethertype() == EtherType::ARP {
        let asked = arp::Repr::parse(&arp::Packet::new(packet.payload()).ok()?).ok()?;
        if asked.op != arp::Operation::Request || asked.target_ip != addresses(false).1.v4_octets()
        {
            return None;
        }
        let answer = arp::Repr {
            op: arp::Operation::Reply,
            sender_mac: PEER_MAC,
            sender_ip: asked.target_ip,
            target_mac: OUR_MAC,
            target_ip: asked.sender_ip,
        };
        let mut frame = envelope(OUR_MAC, EtherType::ARP, answer.buffer_len());
        answer.emit(&mut frame[ethernet::HEADER_LEN..]);
        return Some(frame);
    }
    let (ours, peer) = addresses(true);
    let outer = ipv6::Packet::new(packet.payload())
        .ok()
        .filter(|_| packet.ethertype() == EtherType::IPV6)?;
    let message = icmpv6::Packet::new(outer.payload())
        .ok()
        .filter(|_| outer.next_header() == protocol::ICMPV6)?;
    let asked = ndp::Repr::parse(&message, outer.hop_limit(), &outer.src(), &outer.dst()).ok()?;
    if !matches!(asked, ndp::Repr::NeighborSolicit { target, .. } if target == peer)
        || outer.src().is_unspecified()
    {
        return None;
    }
    let mut options = ndp::OptionBuf::<8>::default();
    options.push(&ndp::Opt::TargetMac(PEER_MAC));
    let answer = ndp::Repr::NeighborAdvert {
        router: false,
        solicited: true,
        override_: true,
        target: peer,
        options: options.options(),
    };
    let mut payload = vec![0; answer.buffer_len()];
    answer.emit(&mut payload);
    let dst = if outer.src().is_link_local() {
        outer.src()
    } else {
        ours
    };
    icmpv6::fill_checksum(&mut payload, &peer, &dst);
    Some(ip(
        true,
        peer,
        dst,
        protocol::ICMPV6,
        ndp::HOP_LIMIT,
        0,
        &payload,
        OUR_MAC,
    ))
}
