//! Agreement with etherparse, a parser written by others: on what we emit, on what it emits, and on any bytes.

use etherparse::{
    Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, IpNumber, Ipv4HeaderSlice,
    Ipv6ExtensionsSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, NetSlice, PacketBuilder,
    SlicedPacket, TcpHeader, TcpOptionElement, TcpSlice, TransportSlice, UdpSlice,
};
use proptest::prelude::*;
use wire::{
    Addr, EtherType, Mac, arp, checksum, ethernet, icmpv4, icmpv6, ipv4,
    ipv6::{self, ext},
    ndp, protocol, tcp, udp, vlan,
};

const SRC_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const DST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A frame's layers below the transport, emitted by us, with room for `len` bytes behind them.
fn frame(v6: bool, src: Addr, dst: Addr, protocol: u8, len: usize) -> (Vec<u8>, usize) {
    let mut bytes = vec![0; 14 + 40 + len];
    let ethertype = if v6 { EtherType::IPV6 } else { EtherType::IPV4 };
    ethernet::Repr {
        src: Mac(SRC_MAC),
        dst: Mac(DST_MAC),
        ethertype,
    }
    .emit(&mut bytes);
    let at = if v6 {
        let repr = ipv6::Repr::new(src, dst, protocol, 64, len);
        repr.emit(&mut bytes[14..]);
        14 + repr.header_len()
    } else {
        let repr = ipv4::Repr::new(src, dst, protocol, 64, len);
        repr.emit(&mut bytes[14..]);
        14 + repr.header_len()
    };
    bytes.truncate(at + len);
    (bytes, at)
}

fn addresses(v6: bool, a: [u8; 16], b: [u8; 16]) -> (Addr, Addr) {
    let four = |[a, b, c, d, ..]: [u8; 16]| Addr::v4(a, b, c, d);
    let six = |mut octets: [u8; 16]| {
        octets[0] = 0xfd;
        Addr(octets)
    };
    if v6 {
        (six(a), six(b))
    } else {
        (four(a), four(b))
    }
}

fn builder(v6: bool, src: Addr, dst: Addr) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let link = PacketBuilder::ethernet2(SRC_MAC, DST_MAC);
    if v6 {
        link.ipv6(src.0, dst.0, 64)
    } else {
        link.ipv4(src.v4_octets(), dst.v4_octets(), 64)
    }
}

fn same_tcp_header(ours: &tcp::Packet<'_>, theirs: &TcpSlice<'_>) {
    assert_eq!(ours.src_port(), theirs.source_port());
    assert_eq!(ours.dst_port(), theirs.destination_port());
    assert_eq!(ours.seq(), theirs.sequence_number());
    assert_eq!(ours.ack(), theirs.acknowledgment_number());
    assert_eq!(ours.window(), theirs.window_size());
    assert_eq!(ours.checksum(), theirs.checksum());
    assert_eq!(ours.urgent(), theirs.urgent_pointer());
    assert_eq!(ours.options_bytes(), theirs.options());
    assert_eq!(ours.payload(), theirs.payload());
    for (flag, set) in [
        (tcp::Flags::FIN, theirs.fin()),
        (tcp::Flags::SYN, theirs.syn()),
        (tcp::Flags::RST, theirs.rst()),
        (tcp::Flags::PSH, theirs.psh()),
        (tcp::Flags::ACK, theirs.ack()),
        (tcp::Flags::URG, theirs.urg()),
        (tcp::Flags::ECE, theirs.ece()),
        (tcp::Flags::CWR, theirs.cwr()),
        (tcp::Flags::AE, theirs.ns()),
    ] {
        assert_eq!(ours.flags().contains(flag), set, "{flag}");
    }
    same_tcp_options(ours, theirs);
}

/// Both lists up to the first option that etherparse does not know or accept: there it ends, and we go on.
fn same_tcp_options(ours: &tcp::Packet<'_>, theirs: &TcpSlice<'_>) {
    let mut ours = ours.options_iter();
    for theirs in theirs.options_iterator() {
        let Ok(theirs) = theirs else { return };
        let expected = match theirs {
            TcpOptionElement::Noop => continue,
            TcpOptionElement::MaximumSegmentSize(mss) => tcp::Opt::Mss(mss),
            TcpOptionElement::WindowScale(scale) => tcp::Opt::WindowScale(scale),
            TcpOptionElement::SelectiveAcknowledgementPermitted => tcp::Opt::SackPermitted,
            TcpOptionElement::Timestamp(val, ecr) => tcp::Opt::Timestamps(val, ecr),
            TcpOptionElement::SelectiveAcknowledgement(first, more) => {
                let mut sack = tcp::Sack::EMPTY;
                sack.push(first);
                more.into_iter()
                    .flatten()
                    .for_each(|block| assert!(sack.push(block)));
                tcp::Opt::Sack(sack)
            }
        };
        assert_eq!(ours.next(), Some(expected));
    }
    assert_eq!(ours.next(), None);
    assert!(!ours.malformed());
}

/// What etherparse read, in our words; `None` for what one of us does not know.
fn read_v4(theirs: Icmpv4Type, code: u8) -> Option<icmpv4::Repr> {
    use etherparse::icmpv4::{DestUnreachableHeader, ParameterProblemHeader};
    Some(match theirs {
        Icmpv4Type::EchoRequest(echo) => icmpv4::Repr::EchoRequest {
            ident: echo.id,
            seq: echo.seq,
        },
        Icmpv4Type::EchoReply(echo) => icmpv4::Repr::EchoReply {
            ident: echo.id,
            seq: echo.seq,
        },
        Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded {
            next_hop_mtu,
        }) => icmpv4::Repr::FragmentationNeeded { mtu: next_hop_mtu },
        Icmpv4Type::DestinationUnreachable(_) => icmpv4::Repr::Unreachable { code },
        Icmpv4Type::Redirect(redirect) => icmpv4::Repr::Redirect {
            code,
            gateway: redirect.gateway_internet_address,
        },
        Icmpv4Type::TimeExceeded(_) => icmpv4::Repr::TimeExceeded { code },
        Icmpv4Type::ParameterProblem(ParameterProblemHeader::PointerIndicatesError(pointer)) => {
            icmpv4::Repr::ParameterProblem { code: 0, pointer }
        }
        _ => return None,
    })
}

/// The same for IPv6.
fn read_v6(theirs: Icmpv6Type) -> Option<icmpv6::Repr> {
    Some(match theirs {
        Icmpv6Type::EchoRequest(echo) => icmpv6::Repr::EchoRequest {
            ident: echo.id,
            seq: echo.seq,
        },
        Icmpv6Type::EchoReply(echo) => icmpv6::Repr::EchoReply {
            ident: echo.id,
            seq: echo.seq,
        },
        Icmpv6Type::DestinationUnreachable(code) => icmpv6::Repr::Unreachable {
            code: code.code_u8(),
        },
        Icmpv6Type::PacketTooBig { mtu } => icmpv6::Repr::PacketTooBig { mtu },
        Icmpv6Type::TimeExceeded(code) => icmpv6::Repr::TimeExceeded {
            code: code.code_u8(),
        },
        Icmpv6Type::ParameterProblem(problem) => icmpv6::Repr::ParameterProblem {
            code: problem.code.code_u8(),
            pointer: problem.pointer,
        },
        _ => return None,
    })
}

/// Advertisements say the same to both.
fn same_advertisement(ours: &icmpv6::Packet<'_>, theirs: Icmpv6Type, dst: &Addr) {
    let src = Addr::link_local([1; 8]);
    match (theirs, ndp::Repr::parse(ours, 255, &src, dst)) {
        (
            Icmpv6Type::NeighborAdvertisement(theirs),
            Ok(ndp::Repr::NeighborAdvert {
                router,
                solicited,
                override_,
                ..
            }),
        ) => assert_eq!(
            (router, solicited, override_),
            (theirs.router, theirs.solicited, theirs.r#override)
        ),
        (Icmpv6Type::RouterAdvertisement(theirs), Ok(ndp::Repr::RouterAdvert { advert, .. })) => {
            assert_eq!(
                (advert.hop_limit, advert.managed, advert.other),
                (
                    theirs.cur_hop_limit,
                    theirs.managed_address_config,
                    theirs.other_config
                )
            );
            assert_eq!(advert.router_lifetime, theirs.router_lifetime);
        }
        (theirs, ours) => panic!("{theirs:?} {ours:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn it_reads_our_tcp(
        v6 in any::<bool>(),
        (a, b) in any::<([u8; 16], [u8; 16])>(),
        (src_port, dst_port, window, urgent) in any::<(u16, u16, u16, u16)>(),
        (seq, ack) in any::<(u32, Option<u32>)>(),
        flags in 0u16..0x200,
        (mss, scale, sack_permitted, timestamps) in any::<(Option<u16>, Option<u8>, bool, Option<(u32, u32)>)>(),
        blocks in prop::collection::vec(any::<(u32, u32)>(), 0..5),
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut options = tcp::Options { mss, window_scale: scale, sack_permitted, timestamps, ..Default::default() };
        blocks.into_iter().for_each(|block| assert!(options.sack.push(block)));
        let repr = tcp::Repr { src_port, dst_port, seq, ack, flags: tcp::Flags(flags), window, urgent, options };
        let (src, dst) = addresses(v6, a, b);
        let len = repr.header_len() + payload.len();
        let (mut bytes, at) = frame(v6, src, dst, protocol::TCP, len);
        repr.emit(&mut bytes[at..]);
        bytes[at + repr.header_len()..].copy_from_slice(&payload);
        let check = checksum::pseudo(&src, &dst, protocol::TCP, len as u32).add_bytes(&bytes[at..]).finish();
        bytes[at + tcp::CHECKSUM_OFFSET..at + tcp::CHECKSUM_OFFSET + 2].copy_from_slice(&check.to_be_bytes());

        let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
        let Some(TransportSlice::Tcp(theirs)) = sliced.transport else { panic!("not TCP") };
        let ours = tcp::Packet::new(&bytes[at..]).unwrap();
        same_tcp_header(&ours, &theirs);
        prop_assert!(ours.verify_checksum(&src, &dst));
        let expected = if v6 {
            theirs.calc_checksum_ipv6(src.0, dst.0).unwrap()
        } else {
            theirs.calc_checksum_ipv4(src.v4_octets(), dst.v4_octets()).unwrap()
        };
        prop_assert_eq!(check, expected);
        // The network layer, too.
        match sliced.net {
            Some(NetSlice::Ipv4(net)) => prop_assert_eq!(
                net.header().to_header().calc_header_checksum(),
                net.header().header_checksum()
            ),
            Some(NetSlice::Ipv6(net)) => prop_assert_eq!(net.header().source(), src.0),
            _ => panic!("not IP"),
        }
    }

    #[test]
    fn we_read_its_tcp(
        v6 in any::<bool>(),
        (a, b) in any::<([u8; 16], [u8; 16])>(),
        (src_port, dst_port, window) in any::<(u16, u16, u16)>(),
        (seq, ack) in any::<(u32, u32)>(),
        (mss, scale, val, ecr) in any::<(u16, u8, u32, u32)>(),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (src, dst) = addresses(v6, a, b);
        let mut header = TcpHeader::new(src_port, dst_port, seq, window);
        (header.syn, header.ack, header.acknowledgment_number) = (true, true, ack);
        header.set_options(&[
            TcpOptionElement::MaximumSegmentSize(mss),
            TcpOptionElement::Timestamp(val, ecr),
            TcpOptionElement::SelectiveAcknowledgementPermitted,
            TcpOptionElement::WindowScale(scale),
        ]).unwrap();
        let mut bytes = Vec::new();
        builder(v6, src, dst).tcp_header(header).write(&mut bytes, &payload).unwrap();

        let frame = ethernet::Packet::new(&bytes).unwrap();
        let transport = if v6 {
            let packet = ipv6::Packet::new(frame.payload()).unwrap();
            let repr = ipv6::Repr::parse(&packet).unwrap();
            prop_assert_eq!((repr.src, repr.dst, repr.next_header), (src, dst, protocol::TCP));
            packet.payload()
        } else {
            let packet = ipv4::Packet::new(frame.payload()).unwrap();
            let repr = ipv4::Repr::parse(&packet).unwrap();
            prop_assert_eq!((repr.src, repr.dst, repr.protocol), (src, dst, protocol::TCP));
            packet.payload()
        };
        let packet = tcp::Packet::new(transport).unwrap();
        prop_assert!(packet.verify_checksum(&src, &dst));
        let expected = tcp::Options {
            mss: Some(mss),
            window_scale: Some(scale.min(14)),
            sack_permitted: true,
            timestamps: Some((val, ecr)),
            ..Default::default()
        };
        let expected = tcp::Repr {
            src_port, dst_port, seq, ack: Some(ack), flags: tcp::Flags::SYN, window, urgent: 0, options: expected,
        };
        prop_assert_eq!(tcp::Repr::parse(&packet), Ok(expected));
        prop_assert_eq!(packet.payload(), &payload[..]);
    }

    #[test]
    fn udp_both_ways(
        v6 in any::<bool>(),
        (a, b) in any::<([u8; 16], [u8; 16])>(),
        (src_port, dst_port) in any::<(u16, u16)>(),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (src, dst) = addresses(v6, a, b);
        let mut theirs = Vec::new();
        builder(v6, src, dst).udp(src_port, dst_port).write(&mut theirs, &payload).unwrap();

        let len = udp::HEADER_LEN + payload.len();
        let (mut ours, at) = frame(v6, src, dst, protocol::UDP, len);
        udp::Repr { src_port, dst_port }.emit(&mut ours[at..], payload.len());
        ours[at + udp::HEADER_LEN..].copy_from_slice(&payload);
        let sum = checksum::pseudo(&src, &dst, protocol::UDP, len as u32).add_bytes(&ours[at..]);
        ours[at + 6..at + 8].copy_from_slice(&sum.finish_nonzero().to_be_bytes());

        // Byte for byte but for the IPv4 header, where don't-fragment is a matter of taste.
        prop_assert_eq!(&ours[at..], &theirs[at..]);
        let packet = udp::Packet::new(&theirs[at..]).unwrap();
        prop_assert!(packet.verify_checksum(&src, &dst));
        prop_assert_eq!(packet.payload(), &payload[..]);
    }

    #[test]
    fn echoes_both_ways(
        v6 in any::<bool>(),
        (a, b) in any::<([u8; 16], [u8; 16])>(),
        (ident, seq) in any::<(u16, u16)>(),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (src, dst) = addresses(v6, a, b);
        let mut theirs = Vec::new();
        let len = 8 + payload.len();
        let (mut ours, at);
        if v6 {
            builder(v6, src, dst).icmpv6_echo_request(ident, seq).write(&mut theirs, &payload).unwrap();
            (ours, at) = frame(v6, src, dst, protocol::ICMPV6, len);
            icmpv6::Repr::EchoRequest { ident, seq }.emit(&mut ours[at..]);
            ours[at + 8..].copy_from_slice(&payload);
            icmpv6::fill_checksum(&mut ours[at..], &src, &dst);
        } else {
            builder(v6, src, dst).icmpv4_echo_request(ident, seq).write(&mut theirs, &payload).unwrap();
            (ours, at) = frame(v6, src, dst, protocol::ICMPV4, len);
            icmpv4::Repr::EchoRequest { ident, seq }.emit(&mut ours[at..]);
            ours[at + 8..].copy_from_slice(&payload);
            icmpv4::fill_checksum(&mut ours[at..]);
        }
        prop_assert_eq!(&ours[at..], &theirs[at..]);
    }

    #[test]
    fn any_icmpv4_bytes(
        kind in prop_oneof![0u8..13, any::<u8>()],
        code in 0u8..17,
        rest in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let bytes = [&[kind, code][..], &rest].concat();
        let (ours, theirs) = match (icmpv4::Packet::new(&bytes), Icmpv4Slice::from_slice(&bytes)) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            // Timestamps have a longer header there.
            (ours, theirs) => {
                prop_assert!(theirs.is_err() && (ours.is_err() || matches!(kind, 13 | 14)));
                return Ok(());
            }
        };
        prop_assert_eq!((ours.kind(), ours.code()), (theirs.type_u8(), theirs.code_u8()));
        prop_assert_eq!(ours.checksum(), theirs.checksum());
        if theirs.header_len() == icmpv4::HEADER_LEN {
            prop_assert_eq!(ours.payload(), theirs.payload());
        }
        if let Some(expected) = read_v4(theirs.icmp_type(), code) {
            prop_assert_eq!(icmpv4::Repr::parse(&ours), Ok(expected));
        }
    }

    #[test]
    fn any_icmpv6_bytes(
        kind in prop_oneof![0u8..5, 128u8..138, any::<u8>()],
        code in 0u8..8,
        rest in prop::collection::vec(any::<u8>(), 0..60),
        options in 0usize..4,
        (a, b) in any::<([u8; 16], [u8; 16])>(),
    ) {
        let mut bytes = [&[kind, code][..], &rest].concat();
        let (src, dst) = addresses(true, a, b);
        let (Ok(ours), Ok(theirs)) = (icmpv6::Packet::new(&bytes), Icmpv6Slice::from_slice(&bytes)) else {
            prop_assert!(bytes.len() < icmpv6::HEADER_LEN);
            return Ok(());
        };
        prop_assert_eq!((ours.kind(), ours.code()), (theirs.type_u8(), theirs.code_u8()));
        prop_assert_eq!((ours.checksum(), ours.payload()), (theirs.checksum(), theirs.payload()));
        prop_assert_eq!(ours.verify_checksum(&src, &dst), theirs.is_checksum_valid(src.0, dst.0));
        if let Some(expected) = read_v6(theirs.icmp_type()) {
            prop_assert_eq!(icmpv6::Repr::parse(&ours), Ok(expected));
        }
        // And once its checksum is right.
        icmpv6::fill_checksum(&mut bytes, &src, &dst);
        prop_assert!(Icmpv6Slice::from_slice(&bytes).unwrap().is_checksum_valid(src.0, dst.0));
        // Advertisements, with options that are well formed.
        for (kind, len) in [(icmpv6::kind::ROUTER_ADVERT, 16), (icmpv6::kind::NEIGHBOR_ADVERT, 24)] {
            bytes.resize(len, 0xfd);
            (bytes[0], bytes[1], bytes[8]) = (kind, 0, 0xfd);
            bytes.extend_from_slice(&[200, 1, 0, 0, 0, 0, 0, 0].repeat(options));
            let theirs = Icmpv6Slice::from_slice(&bytes).unwrap().icmp_type();
            same_advertisement(&icmpv6::Packet::new(&bytes).unwrap(), theirs, &dst);
        }
    }

    #[test]
    fn any_tcp_bytes(mut bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..11], 0..90)) {
        if let Some(offset) = bytes.get_mut(12) {
            // Mostly headers that fit.
            *offset |= 0x40;
        }
        match (tcp::Packet::new(&bytes), TcpSlice::from_slice(&bytes)) {
            (Ok(ours), Ok(theirs)) => same_tcp_header(&ours, &theirs),
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_err(), "{:?} {:?}", ours, theirs),
        }
    }

    #[test]
    fn any_udp_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..60), len in 0u16..70) {
        if let Some(field) = bytes.get_mut(4..6) {
            field.copy_from_slice(&len.to_be_bytes());
        }
        let ours = udp::Packet::new(&bytes).and_then(|packet| udp::Repr::parse(&packet).map(|_| packet));
        match (ours, UdpSlice::from_slice(&bytes)) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(ours.payload(), theirs.payload());
                prop_assert_eq!((ours.src_port(), ours.dst_port()), (theirs.source_port(), theirs.destination_port()));
            }
            // Length zero is a jumbogram's there, and an error here.
            (ours, theirs) => prop_assert!(ours.is_err() && (theirs.is_err() || len == 0), "{:?} {:?}", ours, theirs),
        }
    }

    #[test]
    fn any_ipv4_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..90), ihl in 0u8..16) {
        if let Some(first) = bytes.first_mut() {
            *first = 0x40 | ihl;
        }
        match (ipv4::Packet::new(&bytes), Ipv4HeaderSlice::from_slice(&bytes)) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(ours.header_len(), theirs.slice().len());
                prop_assert_eq!((ours.dscp(), ours.ecn()), (theirs.dcp().value(), theirs.ecn().value()));
                prop_assert_eq!(ours.total_len(), theirs.total_len());
                prop_assert_eq!(ours.ident(), theirs.identification());
                prop_assert_eq!(ours.dont_fragment(), theirs.dont_fragment());
                prop_assert_eq!(ours.more_fragments(), theirs.more_fragments());
                prop_assert_eq!(u32::from(ours.fragment_offset()), u32::from(theirs.fragments_offset().value()) * 8);
                prop_assert_eq!((ours.ttl(), ours.protocol()), (theirs.ttl(), theirs.protocol().0));
                prop_assert_eq!(ours.checksum(), theirs.header_checksum());
                // The reserved flag is not kept by their owned header, and then the sums differ.
                if !ours.reserved_flag() {
                    let sound = theirs.to_header().calc_header_checksum() == theirs.header_checksum();
                    prop_assert_eq!(ours.verify_checksum(), sound);
                }
                prop_assert_eq!((ours.src().v4_octets(), ours.dst().v4_octets()), (theirs.source(), theirs.destination()));
                prop_assert_eq!(ours.options_bytes(), theirs.options());
            }
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_err()),
        }
    }

    #[test]
    fn any_ipv6_bytes(mut bytes in prop::collection::vec(any::<u8>(), 38..60)) {
        bytes[0] = 0x60 | bytes[0] & 0x0f;
        match (ipv6::Packet::new(&bytes), Ipv6HeaderSlice::from_slice(&bytes)) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!((ours.traffic_class(), ours.flow_label()), (theirs.traffic_class(), theirs.flow_label().value()));
                prop_assert_eq!((ours.payload_len(), ours.next_header()), (theirs.payload_length(), theirs.next_header().0));
                prop_assert_eq!((ours.hop_limit(), ours.src().0, ours.dst().0), (theirs.hop_limit(), theirs.source(), theirs.destination()));
            }
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_err()),
        }
    }

    #[test]
    fn any_extension_headers(
        first in prop::sample::select(vec![0u8, 43, 44, 60]),
        headers in prop::collection::vec((prop::sample::select(vec![0u8, 6, 17, 43, 44, 58, 60]), 0u8..3), 1..6),
        noise in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        // Headers whose options are all padding, so that only the walk itself is compared.
        let (mut bytes, mut kind) = (Vec::new(), first);
        let last = headers.len() - 1;
        for (position, &(next, units)) in headers.iter().enumerate() {
            // The noise is behind the last header, not one itself.
            let next = if position == last { 6 } else { next };
            let len = if kind == 44 { 8 } else { 8 + 8 * usize::from(units) };
            let at = bytes.len();
            bytes.resize(at + len, 0);
            bytes[at] = next;
            bytes[at + 1] = (len / 8 - 1) as u8;
            kind = next;
        }
        bytes.extend(noise);
        let ours = ext::walk(first, &bytes);
        match (ours, Ipv6ExtensionsSlice::from_slice(IpNumber(first), &bytes)) {
            (Ok(ours), Ok((theirs, next, rest))) => {
                prop_assert_eq!((ours.transport, ours.offset), (next.0, bytes.len() - rest.len()));
                prop_assert!(!theirs.is_fragmenting_payload());
                prop_assert_eq!(ext::skip(first, &bytes), (next.0, rest));
            }
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_err(), "{:?} {:?}", ours, theirs),
        }
    }

    #[test]
    fn any_fragment_header(bytes in any::<[u8; 8]>()) {
        let ours = ext::FragmentRepr::parse(&bytes).unwrap();
        let theirs = Ipv6FragmentHeaderSlice::from_slice(&bytes).unwrap();
        prop_assert_eq!(ours.next_header, theirs.next_header().0);
        prop_assert_eq!(ours.offset, theirs.fragment_offset().value() * 8);
        prop_assert_eq!((ours.more, ours.ident), (theirs.more_fragments(), theirs.identification()));
    }

    #[test]
    fn tags_and_arp(vid in 0u16..4095, pcp in 0u8..8, dei in any::<bool>(), reply in any::<bool>(), macs in any::<([u8; 6], [u8; 6])>(), ips in any::<([u8; 4], [u8; 4])>()) {
        let op = if reply { arp::Operation::Reply } else { arp::Operation::Request };
        let message = arp::Repr {
            op, sender_mac: Mac(macs.0), sender_ip: ips.0, target_mac: Mac(macs.1), target_ip: ips.1,
        };
        let mut bytes = vec![0; 14 + vlan::TAG_LEN + arp::LEN];
        ethernet::Repr { src: Mac(SRC_MAC), dst: Mac::BROADCAST, ethertype: EtherType::VLAN }.emit(&mut bytes);
        vlan::Tag { pcp, dei, vid, ethertype: EtherType::ARP }.emit(&mut bytes[14..]);
        message.emit(&mut bytes[18..]);
        let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
        prop_assert_eq!(sliced.vlan_ids()[0].value(), vid);
        let Some(etherparse::VlanSlice::SingleVlan(tag)) = sliced.vlan() else { panic!("no tag") };
        prop_assert_eq!((tag.priority_code_point().value(), tag.drop_eligible_indicator()), (pcp, dei));
        let Some(NetSlice::Arp(theirs)) = sliced.net else { panic!("no ARP") };
        prop_assert_eq!(theirs.operation().0, op as u16);
        prop_assert_eq!((theirs.sender_hw_addr(), theirs.target_hw_addr()), (&macs.0[..], &macs.1[..]));
        prop_assert_eq!((theirs.sender_protocol_addr(), theirs.target_protocol_addr()), (&ips.0[..], &ips.1[..]));
    }
}
