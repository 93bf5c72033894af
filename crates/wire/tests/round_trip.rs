//! What is emitted parses to what was meant, for every representation.

use proptest::prelude::*;
use wire::{
    Addr, Cidr, EtherType, Mac, arp, ethernet, icmpv4, icmpv6, igmp, ipv4,
    ipv6::{self, ext},
    mld, ndp, protocol, tcp, udp, vlan,
};

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn unicast_mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(|[a, b, c, d, e, f]| Mac([a & !1, b, c, d, e, f]))
}

fn v4() -> impl Strategy<Value = Addr> {
    any::<[u8; 4]>().prop_map(Addr::from_v4)
}

fn v6() -> impl Strategy<Value = Addr> {
    any::<[u8; 16]>().prop_map(|mut octets| {
        octets[0] |= 0x20;
        Addr(octets)
    })
}

fn v6_unicast() -> impl Strategy<Value = Addr> {
    any::<[u8; 16]>().prop_map(|mut octets| {
        octets[0] = 0xfd;
        Addr(octets)
    })
}

fn link_local() -> impl Strategy<Value = Addr> {
    any::<[u8; 8]>().prop_map(Addr::link_local)
}

fn group_v6() -> impl Strategy<Value = Addr> {
    any::<[u8; 16]>().prop_map(|mut octets| {
        octets[0] = 0xff;
        Addr(octets)
    })
}

fn group_v4() -> impl Strategy<Value = Addr> {
    any::<[u8; 4]>().prop_map(|[a, b, c, d]| Addr::v4(224 | a & 15, b, c, d))
}

fn record_kind() -> impl Strategy<Value = mld::RecordKind> {
    (1u8..=6).prop_map(|number| mld::RecordKind::from_u8(number).expect("one of the six kinds"))
}

fn ndp_option() -> impl Strategy<Value = Vec<u8>> {
    let prefix = (
        0u8..=128,
        any::<bool>(),
        any::<bool>(),
        any::<u32>(),
        any::<u32>(),
        v6(),
    )
        .prop_map(
            |(prefix_len, on_link, autonomous, valid_lifetime, preferred_lifetime, prefix)| {
                let info = ndp::PrefixInfo {
                    prefix_len,
                    on_link,
                    autonomous,
                    valid_lifetime,
                    preferred_lifetime,
                    prefix,
                };
                one_option(ndp::Opt::PrefixInfo(info))
            },
        );
    let route = (0u8..=128, 0..3usize, any::<u32>(), v6()).prop_map(
        |(prefix_len, preference, lifetime, addr)| {
            let prefix = Cidr::new(addr, prefix_len)
                .expect("an IPv6 prefix")
                .network();
            let preference = [
                ndp::Preference::Low,
                ndp::Preference::Medium,
                ndp::Preference::High,
            ][preference];
            one_option(ndp::Opt::RouteInfo(ndp::RouteInfo {
                prefix,
                preference,
                lifetime,
            }))
        },
    );
    prop_oneof![
        route,
        mac().prop_map(|mac| one_option(ndp::Opt::TargetMac(mac))),
        any::<u32>().prop_map(|mtu| one_option(ndp::Opt::Mtu(mtu))),
        prefix,
        (any::<u32>(), prop::collection::vec(any::<[u8; 16]>(), 1..4)).prop_map(
            |(lifetime, servers)| one_option(ndp::Opt::Rdnss(ndp::Rdnss::new(lifetime, &servers)))
        ),
        prop::collection::vec(any::<u8>(), 0..100)
            .prop_map(|data| one_option(ndp::Opt::RedirectedHeader(&data))),
        (30u8..=255, prop::collection::vec(any::<u8>(), 0..100))
            .prop_map(|(kind, data)| one_option(ndp::Opt::Other { kind, data: &data })),
    ]
}

/// Emits an option and checks that it reads back as itself, padding aside.
fn one_option(option: ndp::Opt<'_>) -> Vec<u8> {
    let mut bytes = vec![0xaa; option.buffer_len()];
    assert_eq!(option.emit(&mut bytes), bytes.len());
    let read: Vec<_> = ndp::Options::new(&bytes)
        .expect("emitted options")
        .iter()
        .collect();
    match (option, read.as_slice()) {
        (ndp::Opt::RedirectedHeader(sent), [ndp::Opt::RedirectedHeader(read)]) => {
            assert!(read.starts_with(sent))
        }
        (
            ndp::Opt::Other { kind, data },
            [
                ndp::Opt::Other {
                    kind: read_kind,
                    data: read,
                },
            ],
        ) => {
            assert!(kind == *read_kind && read.starts_with(data));
        }
        (sent, read) => assert_eq!(read, [sent]),
    }
    bytes
}

fn tcp_options() -> impl Strategy<Value = tcp::Options> {
    let blocks = prop::collection::vec(any::<(u32, u32)>(), 0..=4);
    (
        any::<Option<u16>>(),
        prop::option::of(0u8..=14),
        any::<bool>(),
        any::<Option<(u32, u32)>>(),
        blocks,
    )
        .prop_map(|(mss, window_scale, sack_permitted, timestamps, blocks)| {
            let mut options = tcp::Options {
                mss,
                window_scale,
                sack_permitted,
                timestamps,
                ..tcp::Options::default()
            };
            let room = options.sack_room();
            for block in blocks.into_iter().take(room) {
                assert!(options.sack.push(block));
            }
            options
        })
}

proptest! {
    #[test]
    fn ethernet_header(src in unicast_mac(), dst in mac(), ethertype in 0x600u16..) {
        let repr = ethernet::Repr { src, dst, ethertype: EtherType(ethertype) };
        let mut bytes = vec![0xaa; repr.header_len()];
        repr.emit(&mut bytes);
        prop_assert_eq!(ethernet::Repr::parse(&ethernet::Packet::new(&bytes).unwrap()), Ok(repr));
    }

    #[test]
    fn vlan_tag(pcp in 0u8..8, dei in any::<bool>(), vid in 0u16..4095, ethertype in 0x600u16..) {
        let tag = vlan::Tag { pcp, dei, vid, ethertype: EtherType(ethertype) };
        let mut bytes = vec![0xaa; tag.header_len()];
        tag.emit(&mut bytes);
        prop_assert_eq!(vlan::Tag::parse(&vlan::Packet::new(&bytes).unwrap()), Ok(tag));
    }

    #[test]
    fn arp_message(
        reply in any::<bool>(),
        sender_mac in unicast_mac(),
        target_mac in mac(),
        sender_ip in any::<[u8; 4]>(),
        target_ip in any::<[u8; 4]>(),
    ) {
        let op = if reply { arp::Operation::Reply } else { arp::Operation::Request };
        let repr = arp::Repr { op, sender_mac, sender_ip, target_mac, target_ip };
        let mut bytes = vec![0xaa; repr.buffer_len()];
        repr.emit(&mut bytes);
        prop_assert_eq!(arp::Repr::parse(&arp::Packet::new(&bytes).unwrap()), Ok(repr));
    }

    #[test]
    fn ipv4_header(
        (src, dst) in (v4(), v4()),
        (protocol, ttl, tos) in any::<(u8, u8, u8)>(),
        ident in any::<u16>(),
        (dont_fragment, more_fragments, router_alert) in any::<(bool, bool, bool)>(),
        offset in 0u16..0x2000,
        payload_len in 0usize..2000,
    ) {
        let fragment_offset = offset * 8;
        let repr = ipv4::Repr {
            src, dst, protocol, ttl, tos, ident, dont_fragment, more_fragments, fragment_offset, router_alert,
            payload_len,
        };
        let mut bytes = vec![0xaa; repr.total_len() + 7];
        repr.emit(&mut bytes);
        let packet = ipv4::Packet::new(&bytes).unwrap();
        prop_assert_eq!(ipv4::Repr::parse(&packet), Ok(repr));
        prop_assert_eq!(packet.payload().len(), payload_len);
        prop_assert_eq!((packet.dscp() << 2) | packet.ecn(), tos);
        prop_assert_eq!(packet.is_fragment(), more_fragments || offset != 0);
        // One flipped bit is always noticed.
        bytes[usize::from(ttl) % 20] ^= 1 << (tos % 8);
        prop_assert!(ipv4::Packet::new(&bytes).and_then(|packet| ipv4::Repr::parse(&packet)).is_err());
    }

    #[test]
    fn ipv6_header(
        (src, dst) in (v6(), v6()),
        (next_header, hop_limit, traffic_class) in any::<(u8, u8, u8)>(),
        flow_label in 0u32..1 << 20,
        payload_len in 0usize..2000,
    ) {
        let repr = ipv6::Repr { src, dst, next_header, hop_limit, traffic_class, flow_label, payload_len };
        let mut bytes = vec![0xaa; repr.total_len() + 7];
        repr.emit(&mut bytes);
        let packet = ipv6::Packet::new(&bytes).unwrap();
        prop_assert_eq!(ipv6::Repr::parse(&packet), Ok(repr));
        prop_assert_eq!(packet.payload().len(), payload_len);
        prop_assert_eq!((packet.dscp() << 2) | packet.ecn(), traffic_class);
    }

    #[test]
    fn fragment_header(next_header in any::<u8>(), offset in 0u16..0x2000, more in any::<bool>(), ident in any::<u32>()) {
        let repr = ext::FragmentRepr { next_header, offset: offset * 8, more, ident };
        let mut bytes = [0xaa; ext::FRAGMENT_LEN];
        repr.emit(&mut bytes);
        prop_assert_eq!(ext::FragmentRepr::parse(&bytes), Ok(repr));
        if offset != 0 || more {
            let chain = ext::walk(protocol::FRAGMENT, &bytes).unwrap();
            prop_assert_eq!((chain.transport, chain.offset), (next_header, 8));
            let fragment = chain.fragment.unwrap();
            prop_assert_eq!((fragment.offset, fragment.more, fragment.ident), (offset * 8, more, ident));
        }
    }

    #[test]
    fn udp_datagram(src_port in any::<u16>(), dst_port in any::<u16>(), payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let repr = udp::Repr { src_port, dst_port };
        let mut bytes = [vec![0xaa; repr.header_len()], payload.clone(), vec![0xaa; 3]].concat();
        repr.emit(&mut bytes, payload.len());
        let packet = udp::Packet::new(&bytes).unwrap();
        prop_assert_eq!(udp::Repr::parse(&packet), Ok(repr));
        prop_assert_eq!(packet.payload(), &payload[..]);
        prop_assert_eq!(packet.checksum(), 0);
    }

    #[test]
    fn tcp_header(
        ports in any::<(u16, u16)>(),
        seq in any::<u32>(),
        ack in any::<Option<u32>>(),
        flags in 0u16..0x200,
        window in any::<u16>(),
        urgent in any::<u16>(),
        options in tcp_options(),
    ) {
        let flags = tcp::Flags(flags).without(tcp::Flags::ACK);
        let urgent = if flags.contains(tcp::Flags::URG) { urgent } else { 0 };
        let repr = tcp::Repr { src_port: ports.0, dst_port: ports.1, seq, ack, flags, window, urgent, options };
        prop_assert!(repr.header_len() <= tcp::MAX_HEADER_LEN && repr.header_len().is_multiple_of(4));
        let mut bytes = vec![0xaa; repr.header_len() + 5];
        repr.emit(&mut bytes);
        let packet = tcp::Packet::new(&bytes).unwrap();
        prop_assert_eq!(packet.header_len(), repr.header_len());
        prop_assert_eq!(packet.payload(), &[0xaa; 5]);
        prop_assert_eq!(packet.checksum(), 0);
        prop_assert_eq!(tcp::Repr::parse(&packet), Ok(repr));
        prop_assert_eq!(packet.only_timestamps(), options.only_timestamps());
        prop_assert_eq!(tcp::Options::parse(packet.options_bytes()), options);
    }

    #[test]
    fn icmpv4_header(kind in 0usize..7, (ident, seq) in any::<(u16, u16)>(), code in any::<u8>(), gateway in any::<[u8; 4]>()) {
        use icmpv4::Repr::*;
        let unreachable = if code % 16 == 4 { 5 } else { code % 16 };
        let repr = [
            EchoRequest { ident, seq },
            EchoReply { ident, seq },
            Unreachable { code: unreachable },
            FragmentationNeeded { mtu: ident },
            TimeExceeded { code: code % 2 },
            ParameterProblem { code: code % 3, pointer: gateway[0] },
            Redirect { code: code % 4, gateway },
        ][kind];
        let mut bytes = vec![0xaa; 64];
        repr.emit(&mut bytes);
        icmpv4::fill_checksum(&mut bytes);
        let packet = icmpv4::Packet::new(&bytes).unwrap();
        prop_assert_eq!(icmpv4::Repr::parse(&packet), Ok(repr));
        prop_assert!(packet.verify_checksum());
        prop_assert_eq!(packet.is_error(), kind > 1);
    }

    #[test]
    fn icmpv6_header(kind in 0usize..6, (ident, seq) in any::<(u16, u16)>(), code in any::<u8>(), word in any::<u32>(), src in v6(), dst in v6()) {
        use icmpv6::Repr::*;
        let repr = [
            EchoRequest { ident, seq },
            EchoReply { ident, seq },
            Unreachable { code },
            PacketTooBig { mtu: word },
            TimeExceeded { code },
            ParameterProblem { code, pointer: word },
        ][kind];
        let mut bytes = vec![0xaa; 64];
        repr.emit(&mut bytes);
        icmpv6::fill_checksum(&mut bytes, &src, &dst);
        let packet = icmpv6::Packet::new(&bytes).unwrap();
        prop_assert_eq!(icmpv6::Repr::parse(&packet), Ok(repr));
        prop_assert!(packet.verify_checksum(&src, &dst));
        prop_assert_eq!(packet.is_error(), kind > 1);
    }

    #[test]
    fn ndp_message(
        kind in 0usize..5,
        options in prop::collection::vec(ndp_option(), 0..4),
        (target, destination) in (v6_unicast(), v6_unicast()),
        router in link_local(),
        (a, b, c) in any::<(bool, bool, bool)>(),
        (hop_limit, router_lifetime, reachable_time, retrans_timer) in any::<(u8, u16, u32, u32)>(),
        preference in prop::sample::select(vec![ndp::Preference::Low, ndp::Preference::Medium, ndp::Preference::High]),
    ) {
        let area = options.concat();
        let options = ndp::Options::new(&area).unwrap();
        let advert = ndp::RouterAdvert {
            hop_limit, managed: a, other: b, preference, router_lifetime, reachable_time, retrans_timer,
        };
        let repr = [
            ndp::Repr::RouterSolicit { options },
            ndp::Repr::RouterAdvert { advert, options },
            ndp::Repr::NeighborSolicit { target, options },
            ndp::Repr::NeighborAdvert { router: a, solicited: b, override_: c, target, options },
            ndp::Repr::Redirect { target: if a { router } else { destination }, destination, options },
        ][kind];
        let mut bytes = vec![0xaa; repr.buffer_len()];
        repr.emit(&mut bytes);
        icmpv6::fill_checksum(&mut bytes, &router, &target);
        let packet = icmpv6::Packet::new(&bytes).unwrap();
        prop_assert!(packet.verify_checksum(&router, &target));
        prop_assert_eq!(ndp::Repr::parse(&packet, 255, &router, &target), Ok(repr));
        prop_assert_eq!(ndp::Repr::parse(&packet, 254, &router, &target), Err(wire::Error::Malformed));
    }

    #[test]
    fn mld_messages(group in group_v6(), max_response in 0u32..0x8000, v2 in any::<bool>(), general in any::<bool>()) {
        let group_or_all = if general { Addr::UNSPECIFIED_V6 } else { group };
        let query = mld::Query { group: group_or_all, max_response, v2, sources: 0 };
        let mut bytes = vec![0xaa; query.buffer_len()];
        query.emit(&mut bytes);
        prop_assert_eq!(mld::Query::parse(&icmpv6::Packet::new(&bytes).unwrap(), 1), Ok(query));
        for report in [mld::ReportV1::Report(group), mld::ReportV1::Done(group)] {
            let mut bytes = vec![0xaa; report.buffer_len()];
            report.emit(&mut bytes);
            prop_assert_eq!(mld::ReportV1::parse(&icmpv6::Packet::new(&bytes).unwrap()), Ok(report));
        }
    }

    #[test]
    fn long_mld_response_times_are_rounded_down(max_response in 0x8000u32..9_000_000) {
        let query = mld::Query { group: Addr::UNSPECIFIED_V6, max_response, v2: true, sources: 0 };
        let mut bytes = vec![0; query.buffer_len()];
        query.emit(&mut bytes);
        let read = mld::Query::parse(&icmpv6::Packet::new(&bytes).unwrap(), 1).unwrap().max_response;
        let most = 8_387_584;
        prop_assert!(read <= max_response && read >= max_response.min(most) - max_response / 4096, "{read}");
    }

    #[test]
    fn group_reports(v6 in prop::collection::vec((record_kind(), group_v6()), 0..6), v4 in prop::collection::vec((record_kind(), group_v4()), 0..6)) {
        let sent: Vec<_> = v6.into_iter().map(|(kind, group)| mld::Record { kind, group }).collect();
        let mut bytes = vec![0xaa; mld::report_len(sent.len())];
        mld::emit_report(&sent, &mut bytes);
        let read: Vec<_> = mld::records(&icmpv6::Packet::new(&bytes).unwrap()).collect();
        prop_assert_eq!(read, sent);

        let sent: Vec<_> = v4.into_iter().map(|(kind, group)| igmp::Record { kind, group }).collect();
        let mut bytes = vec![0xaa; igmp::report_len(sent.len())];
        igmp::emit_report(&sent, &mut bytes);
        igmp::fill_checksum(&mut bytes);
        let packet = igmp::Packet::new(&bytes).unwrap();
        prop_assert!(packet.verify_checksum());
        prop_assert_eq!(packet.records().collect::<Vec<_>>(), sent);
    }

    #[test]
    fn old_igmp_reports(group in group_v4()) {
        for report in [igmp::ReportV2::ReportV1(group), igmp::ReportV2::Report(group), igmp::ReportV2::Leave(group)] {
            let mut bytes = vec![0xaa; report.buffer_len()];
            report.emit(&mut bytes);
            prop_assert_eq!(igmp::ReportV2::parse(&igmp::Packet::new(&bytes).unwrap()), Ok(report));
        }
    }

    #[test]
    fn addresses_as_text(octets in any::<[u8; 16]>(), four in any::<[u8; 4]>(), mac in mac(), bits in 0u8..=32) {
        let (v6, v4) = (Addr(octets), Addr::from_v4(four));
        prop_assert_eq!(v6.to_string().parse(), Ok(v6));
        prop_assert_eq!(v4.to_string().parse(), Ok(v4));
        prop_assert_eq!(mac.to_string().parse(), Ok(mac));
        let cidr = wire::Cidr::new(v4, bits).unwrap();
        prop_assert_eq!(cidr.to_string().parse(), Ok(cidr));
        prop_assert!(cidr.contains(v4) && cidr.contains(cidr.network().addr()));
        let model = u32::from_be_bytes(four) & (!0u32).checked_shl(32 - u32::from(bits)).unwrap_or(0);
        prop_assert_eq!(cidr.network().addr(), Addr::from_v4(model.to_be_bytes()));
    }
}
