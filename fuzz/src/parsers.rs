//! Every parser of `wire`: any bytes at all, and what comes back must hold.
//!
//! Two things are checked beside "does not panic": a view prints whatever it is given, and what a representation was
//! parsed from can be emitted and parsed again to the same representation.

use std::fmt::Display;

use wire::checksum::{self, Sum};
use wire::{Addr, Cidr, EtherType, Family, Mac, Quote};
use wire::{
    arp as arp_, ethernet as ethernet_, icmpv4 as icmpv4_, icmpv6 as icmpv6_, igmp as igmp_,
};
use wire::{ipv4 as ipv4_, ipv6 as ipv6_, mld, ndp, protocol, tcp as tcp_, udp as udp_, vlan};

/// Prints it, for the sake of the code that prints.
fn print(view: &impl Display) {
    assert!(!view.to_string().is_empty());
}

/// Room for a header, filled with something that is neither zero nor likely in a header.
fn room(len: usize) -> Vec<u8> {
    vec![0xa5; len]
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(data: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = data.split_first_chunk()?;
    *data = rest;
    Some(*head)
}

/// IPv6 addresses of every kind a receiver treats differently; which one is chosen by `selector`.
fn address(selector: u8) -> Addr {
    const KINDS: [[u8; 16]; 6] = [
        [0; 16],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0xff, 0xfe, 0, 0, 1],
        [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1],
    ];
    Addr(KINDS[usize::from(selector) % KINDS.len()])
}

/// Ethernet, and 802.1Q tags behind it.
pub fn ethernet(data: &[u8]) {
    if let Ok(packet) = ethernet_::Packet::new(data) {
        print(&packet);
        if let Ok(repr) = ethernet_::Repr::parse(&packet) {
            let mut bytes = room(repr.header_len());
            repr.emit(&mut bytes);
            assert_eq!(
                ethernet_::Packet::new(&bytes).and_then(|packet| ethernet_::Repr::parse(&packet)),
                Ok(repr)
            );
        }
    }
    if let Ok(packet) = vlan::Packet::new(data) {
        print(&packet);
        if let Ok(tag) = vlan::Tag::parse(&packet) {
            let mut bytes = room(tag.header_len());
            tag.emit(&mut bytes);
            assert_eq!(
                vlan::Packet::new(&bytes).and_then(|packet| vlan::Tag::parse(&packet)),
                Ok(tag)
            );
        }
    }
}

/// ARP for IPv4 over Ethernet.
pub fn arp(data: &[u8]) {
    let Ok(packet) = arp_::Packet::new(data) else {
        return;
    };
    print(&packet);
    if let Ok(repr) = arp_::Repr::parse(&packet) {
        let mut bytes = room(repr.buffer_len());
        repr.emit(&mut bytes);
        assert_eq!(
            arp_::Packet::new(&bytes).and_then(|packet| arp_::Repr::parse(&packet)),
            Ok(repr)
        );
    }
}

/// IPv4 with options.
pub fn ipv4(data: &[u8]) {
    let Ok(packet) = ipv4_::Packet::new(data) else {
        return;
    };
    print(&packet);
    assert!(packet.options().count() <= packet.options_bytes().len());
    assert!(packet.payload().len() <= usize::from(packet.total_len()));
    if let Ok(repr) = ipv4_::Repr::parse(&packet) {
        let mut bytes = room(repr.total_len());
        repr.emit(&mut bytes);
        assert_eq!(
            ipv4_::Packet::new(&bytes).and_then(|packet| ipv4_::Repr::parse(&packet)),
            Ok(repr)
        );
    }
}

/// IPv6 and its chain of extension headers.
pub fn ipv6(data: &[u8]) {
    let Ok(packet) = ipv6_::Packet::new(data) else {
        return;
    };
    print(&packet);
    let payload = packet.payload();
    assert!(payload.len() <= usize::from(packet.payload_len()));
    if let Ok(repr) = ipv6_::Repr::parse(&packet) {
        let mut bytes = room(repr.total_len());
        repr.emit(&mut bytes);
        assert_eq!(
            ipv6_::Packet::new(&bytes).and_then(|packet| ipv6_::Repr::parse(&packet)),
            Ok(repr)
        );
    }

    let (_, transport) = ipv6_::ext::skip(packet.next_header(), payload);
    assert!(transport.len() <= payload.len());
    match ipv6_::ext::walk(packet.next_header(), payload) {
        Ok(chain) => {
            assert!(chain.offset <= payload.len());
            assert!(chain.named_at < ipv6_::HEADER_LEN + payload.len());
            if let Some(fragment) = chain.fragment {
                let header = &payload[fragment.header_offset..];
                let repr =
                    ipv6_::ext::FragmentRepr::parse(header).expect("the walk has seen it whole");
                let mut bytes = room(repr.header_len());
                repr.emit(&mut bytes);
                assert_eq!(ipv6_::ext::FragmentRepr::parse(&bytes), Ok(repr));
                let rest = &header[repr.header_len()..];
                ipv6_::ext::first_fragment_is_complete(fragment.next_header, rest);
            }
        }
        Err(error) => print(&error),
    }
}

/// ICMP for IPv4.
pub fn icmpv4(data: &[u8]) {
    let Ok(packet) = icmpv4_::Packet::new(data) else {
        return;
    };
    print(&packet);
    if let Some(quoted) = packet.quoted() {
        quote_of(Family::V4, quoted);
    }
    if let Ok(repr) = icmpv4_::Repr::parse(&packet) {
        let mut bytes = room(repr.header_len());
        repr.emit(&mut bytes);
        icmpv4_::fill_checksum(&mut bytes);
        let packet = icmpv4_::Packet::new(&bytes).expect("it is a whole header");
        assert!(packet.verify_checksum());
        assert_eq!(icmpv4_::Repr::parse(&packet), Ok(repr));
    }
}

/// ICMPv6: echo and errors, Neighbour Discovery, Multicast Listener Discovery.
pub fn icmpv6(mut data: &[u8]) {
    let Some([from, to, hops]) = take(&mut data) else {
        return;
    };
    let (src, dst) = (address(from), address(to));
    let hop_limit = [255, 1, hops][usize::from(hops) % 3];
    let Ok(packet) = icmpv6_::Packet::new(data) else {
        return;
    };
    print(&packet);
    if let Some(quoted) = packet.quoted() {
        quote_of(Family::V6, quoted);
    }
    if let Ok(repr) = icmpv6_::Repr::parse(&packet) {
        let mut bytes = room(repr.header_len());
        repr.emit(&mut bytes);
        icmpv6_::fill_checksum(&mut bytes, &src, &dst);
        let packet = icmpv6_::Packet::new(&bytes).expect("it is a whole header");
        assert!(packet.verify_checksum(&src, &dst));
        assert_eq!(icmpv6_::Repr::parse(&packet), Ok(repr));
    }
    neighbour_discovery(&packet, hop_limit, &src, &dst);
    listener_discovery(&packet, hop_limit);
}

fn neighbour_discovery(packet: &icmpv6_::Packet<'_>, hop_limit: u8, src: &Addr, dst: &Addr) {
    let Ok(repr) = ndp::Repr::parse(packet, hop_limit, src, dst) else {
        return;
    };
    assert_eq!(hop_limit, ndp::HOP_LIMIT);
    let options = repr.options();
    print(&format_args!("{options}."));
    let (_, _, _) = (options.source_mac(), options.target_mac(), options.mtu());
    assert!(options.prefixes().count() <= options.iter().count());
    for option in options.iter() {
        let mut bytes = room(option.buffer_len());
        assert_eq!(option.emit(&mut bytes), bytes.len());
    }
    let mut bytes = room(repr.buffer_len());
    repr.emit(&mut bytes);
    let packet = icmpv6_::Packet::new(&bytes).expect("it is a whole header");
    assert_eq!(ndp::Repr::parse(&packet, hop_limit, src, dst), Ok(repr));
}

fn listener_discovery(packet: &icmpv6_::Packet<'_>, hop_limit: u8) {
    if let Ok(query) = mld::Query::parse(packet, hop_limit) {
        let mut bytes = room(query.buffer_len());
        query.emit(&mut bytes);
        let packet = icmpv6_::Packet::new(&bytes).expect("it is a whole header");
        // Sources are counted, not kept.
        assert_eq!(
            mld::Query::parse(&packet, hop_limit),
            Ok(mld::Query {
                sources: 0,
                ..query
            })
        );
    }
    if let Ok(report) = mld::ReportV1::parse(packet) {
        let mut bytes = room(report.buffer_len());
        report.emit(&mut bytes);
        let packet = icmpv6_::Packet::new(&bytes).expect("it is a whole header");
        assert_eq!(mld::ReportV1::parse(&packet), Ok(report));
    }
    let records: Vec<mld::Record> = mld::records(packet).collect();
    let mut bytes = room(mld::report_len(records.len()));
    mld::emit_report(&records, &mut bytes);
    let packet = icmpv6_::Packet::new(&bytes).expect("it is a whole header");
    assert_eq!(mld::records(&packet).collect::<Vec<_>>(), records);
}

/// IGMP, all three versions.
pub fn igmp(data: &[u8]) {
    let Ok(packet) = igmp_::Packet::new(data) else {
        return;
    };
    print(&packet);
    if let Ok(query) = igmp_::Query::parse(&packet) {
        assert!(query.group.is_v4());
    }
    if let Ok(report) = igmp_::ReportV2::parse(&packet) {
        let mut bytes = room(report.buffer_len());
        report.emit(&mut bytes);
        igmp_::fill_checksum(&mut bytes);
        let packet = igmp_::Packet::new(&bytes).expect("it is a whole header");
        assert!(packet.verify_checksum());
        assert_eq!(igmp_::ReportV2::parse(&packet), Ok(report));
    }
    let records: Vec<igmp_::Record> = packet.records().collect();
    let mut bytes = room(igmp_::report_len(records.len()));
    igmp_::emit_report(&records, &mut bytes);
    let packet = igmp_::Packet::new(&bytes).expect("it is a whole header");
    assert_eq!(packet.records().collect::<Vec<_>>(), records);
}

/// UDP.
pub fn udp(data: &[u8]) {
    let Ok(packet) = udp_::Packet::new(data) else {
        return;
    };
    print(&packet);
    packet.verify_checksum(&address(2), &address(3));
    if let Ok(repr) = udp_::Repr::parse(&packet) {
        let payload = packet.payload().len();
        let mut bytes = room(repr.header_len() + payload);
        repr.emit(&mut bytes, payload);
        let packet = udp_::Packet::new(&bytes).expect("it is a whole header");
        assert_eq!(udp_::Repr::parse(&packet), Ok(repr));
        assert_eq!(packet.payload().len(), payload);
    }
}

/// TCP with all its options.
pub fn tcp(data: &[u8]) {
    let Ok(packet) = tcp_::Packet::new(data) else {
        return;
    };
    print(&packet);
    packet.verify_checksum(&address(2), &address(3));
    assert!(packet.segment_len() as usize <= data.len());
    let options = packet.options();
    if let Some(timestamps) = packet.only_timestamps() {
        assert_eq!(options.timestamps, Some(timestamps));
    }
    let Ok(mut repr) = tcp_::Repr::parse(&packet) else {
        return;
    };
    assert_eq!(repr.options, options);

    let mut bytes = room(repr.header_len());
    assert!(bytes.len() <= tcp_::MAX_HEADER_LEN);
    repr.emit(&mut bytes);
    let packet = tcp_::Packet::new(&bytes).expect("it is a whole header");
    let back = tcp_::Repr::parse(&packet).expect("it parsed before");
    // Padding may leave less room for blocks than the peer, which did not pad, had; the first ones stay.
    let kept = repr
        .options
        .sack
        .as_slice()
        .len()
        .min(repr.options.sack_room());
    assert_eq!(
        back.options.sack.as_slice(),
        &repr.options.sack.as_slice()[..kept]
    );
    repr.options.sack = back.options.sack;
    // Nor for all counters of accurate ECN: the first ones stay.
    if let Some(all) = repr.options.acc_ecn {
        let kept = back.options.acc_ecn;
        let fields = |o: tcp_::AccEcn| [o.e0b(), o.ceb(), o.e1b()];
        let same = kept.is_none_or(|kept| {
            kept.ect_1_first == all.ect_1_first
                && fields(kept)
                    .iter()
                    .zip(fields(all))
                    .all(|(k, a)| k.is_none() || *k == a)
        });
        assert!(same, "{kept:?} of {all:?}");
        repr.options.acc_ecn = kept;
    }
    repr.options.malformed = false;
    assert_eq!(back, repr);
}

/// The checksum against its definition, whole, in pieces, and updated in place.
pub fn checksum(mut data: &[u8]) {
    let Some([cut, at]) = take(&mut data) else {
        return;
    };
    let plain = data.chunks(2).fold(0_u32, |sum, pair| {
        let sum = sum + u32::from(pair[0]) * 256 + u32::from(pair.get(1).copied().unwrap_or(0));
        (sum & 0xffff) + (sum >> 16)
    });
    let sum = Sum::new().add_bytes(data);
    // Zero has two faces in one's complement.
    assert_eq!(u32::from(sum.fold()) % 0xffff, plain % 0xffff);

    let (left, right) = data.split_at(usize::from(cut).min(data.len()));
    let pieces = Sum::new()
        .add_bytes(left)
        .add_bytes_at(right, left.len() % 2 == 1);
    assert_eq!(pieces.fold() % 0xffff, sum.fold() % 0xffff);

    let at = usize::from(at) * 2;
    if let Some(old) = data.get(at..at + 2) {
        let old = u16::from_be_bytes([old[0], old[1]]);
        let new = old.rotate_left(3) ^ 0x5a17;
        let mut changed = data.to_vec();
        changed[at..at + 2].copy_from_slice(&new.to_be_bytes());
        let fresh = Sum::new().add_bytes(&changed).finish();
        let updated = checksum::update_u16(sum.finish(), old, new);
        assert_eq!(updated % 0xffff, fresh % 0xffff);
    }
}

/// A quoted packet of either family.
pub fn quote(mut data: &[u8]) {
    let Some([family]) = take(&mut data) else {
        return;
    };
    quote_of(
        if family % 2 == 0 {
            Family::V4
        } else {
            Family::V6
        },
        data,
    );
}

fn quote_of(family: Family, data: &[u8]) {
    if let Ok(quote) = Quote::parse(family, data) {
        print(&quote);
        assert!(quote.transport.len() <= data.len());
        let _ = (quote.ports(), quote.tcp_seq(), quote.echo());
    }
}

/// Addresses and prefixes: what parses prints, and what is printed parses to the same.
pub fn text(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if let Ok(mac) = text.parse::<Mac>() {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    if let Ok(cidr) = text.parse::<Cidr>() {
        assert_eq!(cidr.to_string().parse(), Ok(cidr));
        assert!(cidr.contains(cidr.addr()));
    }
}

/// A whole frame, as a receiver walks it: each layer's target gets what the layer above left.
pub fn frame(data: &[u8]) {
    let Ok(frame) = ethernet_::Packet::new(data) else {
        return;
    };
    ethernet(data);
    let (mut ethertype, mut payload) = (frame.ethertype(), frame.payload());
    while matches!(ethertype, EtherType::VLAN | EtherType::QINQ) {
        let Ok(tag) = vlan::Packet::new(payload) else {
            return;
        };
        (ethertype, payload) = (tag.ethertype(), tag.payload());
    }
    match ethertype {
        EtherType::ARP => arp(payload),
        EtherType::IPV4 => {
            ipv4(payload);
            if let Ok(packet) = ipv4_::Packet::new(payload) {
                transport(packet.protocol(), packet.payload());
            }
        }
        EtherType::IPV6 => {
            ipv6(payload);
            if let Ok(packet) = ipv6_::Packet::new(payload)
                && let Ok(chain) = ipv6_::ext::walk(packet.next_header(), packet.payload())
            {
                transport(chain.transport, &packet.payload()[chain.offset..]);
            }
        }
        _ => {}
    }
}

fn transport(number: u8, payload: &[u8]) {
    match number {
        protocol::TCP => tcp(payload),
        protocol::UDP => udp(payload),
        protocol::ICMPV4 => icmpv4(payload),
        protocol::ICMPV6 => icmpv6(payload),
        protocol::IGMP => igmp(payload),
        _ => {}
    }
}
