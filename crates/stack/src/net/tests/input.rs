//! What is taken in and what is not (RFC 1122 2 and 3, RFC 8200).

use super::*;

#[test]
fn plain_packets_are_delivered_trimmed() {
    let mut rig = Rig::new();
    for n in 0..2 {
        let packet = udp(THEM[n], US[n], b"hello");
        let mut frame = framed(&packet);
        frame.resize(frame.len() + 40, 0xaa);
        let facts = Facts {
            checksum: base::Checksum::Good,
            ..Facts::NONE
        };
        let Input::Datagram(datagram) = rig.receive_on(IF0, &frame, facts) else {
            panic!("{:?}", rig.core.stats.drops);
        };
        assert_eq!((datagram.src, datagram.dst), (ip(THEM[n]), ip(US[n])));
        assert_eq!(
            (datagram.protocol, datagram.ttl, datagram.group),
            (17, 64, false)
        );
        assert!(datagram.checksum_good && datagram.gso_size == 0);
        assert_eq!(usize::from(datagram.l4), [20, 40][n]);
        assert_eq!(rig.bytes(datagram.chain), packet);
    }
    rig.idle();
}

#[test]
fn frames_for_others_are_dropped() {
    let mut rig = Rig::new();
    let packet = udp(THEM[0], US[0], b"hello");
    rig.dropped(&framed_to(OWN[1], &packet), Drop::EthernetOtherHost);
    rig.dropped(&framed(&packet)[..13], Drop::EthernetTruncated);
    let mut frame = framed(&packet);
    set_u16(&mut frame, 12, 0x88cc);
    rig.dropped(&frame, Drop::EthernetUnknownType);
    set_u16(&mut frame, 12, 100);
    rig.dropped(&frame, Drop::EthernetUnknownType);
    let mut frame = framed(&packet);
    frame[6] |= 1;
    rig.dropped(&frame, Drop::EthernetSource);
    rig.idle();
}

#[test]
fn groups_are_taken_when_joined() {
    let mut rig = Rig::new();
    let all = Mac::BROADCAST;
    for dst in ["255.255.255.255", "10.0.0.255"] {
        let (group, ..) = rig.delivered(&framed_to(all, &udp(THEM[0], dst, b"x")));
        assert!(group);
        // A broadcast address in a frame for us alone is still a broadcast.
        let (group, ..) = rig.delivered(&framed(&udp(THEM[0], dst, b"x")));
        assert!(group);
    }
    // RFC 1122 3.3.6: a link broadcast for one host.
    rig.dropped(
        &framed_to(all, &udp(THEM[0], US[0], b"x")),
        Drop::IpLinkGroup,
    );
    let mac = |addr: &str| ip(addr).multicast_mac().unwrap();
    for dst in ["224.0.0.1", "ff02::1", "ff02::1:ff00:1"] {
        let src = if ip(dst).is_v4() { THEM[0] } else { THEM[1] };
        let (group, ..) = rig.delivered(&framed_to(mac(dst), &udp(src, dst, b"x")));
        assert!(group, "{dst}");
    }
    for dst in ["239.1.2.3", "ff02::1:3", "ff0e::1", "ff01::1"] {
        let src = if ip(dst).is_v4() { THEM[0] } else { THEM[1] };
        rig.dropped(
            &framed_to(mac(dst), &udp(src, dst, b"x")),
            Drop::IpNotMember,
        );
    }
    // Even if joined, for an application of this host may use it to talk to others (RFC 4291 2.7).
    for dst in ["ff01::1:3", "ff00::1:3"] {
        assert!(rig.net.join_group(&mut rig.core, IF0, &ip(dst)));
        rig.dropped(
            &framed_to(mac(dst), &udp(THEM[1], dst, b"x")),
            Drop::IpNotMember,
        );
    }
    rig.idle();
}

#[test]
fn priority_tags_are_passed_over() {
    // 802.1Q 6.9: a tag of VLAN 0 says how urgent a frame is, not where it belongs.
    let mut rig = Rig::new();
    let tagged = |frame: &[u8], tpid: u16, tag: u16| {
        let mut out = frame[..12].to_vec();
        out.extend_from_slice(&tpid.to_be_bytes());
        out.extend_from_slice(&tag.to_be_bytes());
        out.extend_from_slice(&frame[12..]);
        out
    };
    for n in 0..2 {
        let frame = framed(&udp(THEM[n], US[n], b"urgent"));
        rig.delivered(&tagged(&frame, 0x8100, 0xe000));
        // Another VLAN is somebody else's, and so is a tag within a tag.
        rig.dropped(&tagged(&frame, 0x8100, 0xe001), Drop::EthernetUnknownType);
        let twice = tagged(&tagged(&frame, 0x8100, 0), 0x8100, 0);
        rig.dropped(&twice, Drop::EthernetUnknownType);
        rig.dropped(&tagged(&frame, 0x8100, 0)[..15], Drop::EthernetTruncated);
    }
    rig.idle();
}

#[test]
fn ipv4_header_rules() {
    let mut rig = Rig::new();
    let good = udp(THEM[0], US[0], b"hello");
    let mut bad = |change: &dyn Fn(&mut Vec<u8>), reason| {
        let mut packet = good.clone();
        change(&mut packet);
        let mut frame = framed(&good)[..14].to_vec();
        frame.extend_from_slice(&packet);
        rig.dropped(&frame, reason);
    };
    bad(&|p| p[10] ^= 1, Drop::IpChecksum);
    bad(&|p| p[15] ^= 1, Drop::IpChecksum);
    bad(&|p| p[0] = 0x55, Drop::IpVersion);
    bad(&|p| p[0] = 0x44, Drop::IpHeaderLength);
    bad(&|p| p[0] = 0x4f, Drop::IpTruncated);
    bad(&|p| p.truncate(19), Drop::IpTruncated);
    bad(&|p| p.truncate(32), Drop::IpTruncated);
    bad(&|p| p.clear(), Drop::IpTruncated);
    let short = |p: &mut Vec<u8>| {
        set_u16(p, 2, 19);
        mend(p);
    };
    bad(&short, Drop::IpHeaderLength);
    // RFC 1122 3.2.1.7: a TTL of 0 or 1 is no reason to drop what has arrived.
    for ttl in [0, 1] {
        let mut packet = good.clone();
        packet[8] = ttl;
        mend(&mut packet);
        rig.delivered(&framed(&packet));
    }
    rig.idle();
}

#[test]
fn sources_that_cannot_be() {
    let mut rig = Rig::new();
    for src in [
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "10.0.0.255",
        "192.168.7.255",
        "0.0.0.0",
        "0.1.2.3",
    ] {
        rig.dropped(&framed(&udp(src, US[0], b"x")), Drop::IpSource);
    }
    for src in ["::1", "ff02::1", "::"] {
        rig.dropped(&framed(&udp(src, US[1], b"x")), Drop::IpSource);
    }
    // "Land", and any other address of our own.
    for src in ["10.0.0.1", "192.168.7.1"] {
        rig.dropped(&framed(&udp(src, US[0], b"x")), Drop::IpOwnSource);
    }
    for src in ["fd00::1", "fd07::1"] {
        rig.dropped(&framed(&udp(src, US[1], b"x")), Drop::IpOwnSource);
    }
    // A v4-mapped address on the wire.
    let mut packet = udp(THEM[1], US[1], b"x");
    packet[8..24].copy_from_slice(&ip(THEM[0]).0);
    rig.dropped(&framed(&packet), Drop::IpSource);
    // A host without an address yet may broadcast.
    rig.delivered(&framed_to(
        Mac::BROADCAST,
        &udp("0.0.0.0", "255.255.255.255", b"x"),
    ));
    rig.idle();
}

#[test]
fn destinations_of_a_weak_host() {
    let mut rig = Rig::new();
    for dst in ["10.0.0.3", "127.0.0.1", "0.0.0.0", "240.0.0.1", "8.8.8.8"] {
        rig.dropped(&framed(&udp(THEM[0], dst, b"x")), Drop::IpNotForUs);
    }
    for dst in ["fd00::3", "::1", "::", "2001:db8::1"] {
        rig.dropped(&framed(&udp(THEM[1], dst, b"x")), Drop::IpNotForUs);
    }
    // An address of another interface.
    rig.delivered(&framed(&udp(THEM[0], "192.168.7.1", b"x")));
    rig.delivered(&framed(&udp(THEM[1], "fd07::1", b"x")));
    // A link-local one is of its link only.
    let local = |n: u8, net: &Net| {
        let (_, entry) = net
            .addresses
            .on(InterfaceId(n))
            .find(|(_, entry)| entry.cidr.addr().is_link_local())
            .unwrap();
        entry.cidr.addr().to_string()
    };
    let (here, there) = (local(0, &rig.net), local(1, &rig.net));
    rig.delivered(&framed(&udp("fe80::99", &here, b"x")));
    rig.dropped(&framed(&udp("fe80::99", &there, b"x")), Drop::IpNotForUs);
    // Tentative ones are nobody's.
    let index = rig.net.addresses.find(&ip(US[1])).unwrap();
    rig.net.set_address_state(index, AddressState::Tentative);
    rig.dropped(&framed(&udp(THEM[1], US[1], b"x")), Drop::IpTentative);
    rig.idle();
}

#[test]
fn ipv4_options() {
    let mut rig = Rig::new();
    let plain = udp(THEM[0], US[0], b"hello");
    // Router alert, no-operations, record route, timestamp, an unknown one.
    for options in [
        &[148, 4, 0, 0][..],
        &[1, 1, 1, 0],
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[68, 8, 9, 0, 0, 0, 0, 0],
        &[130, 4, 1, 2],
    ] {
        let packet = with_options(&plain, options);
        let (_, l4, bytes) = rig.delivered(&framed(&packet));
        assert_eq!((l4, bytes), (20 + options.len(), packet));
    }
    for kind in [131, 137] {
        let options = [kind, 7, 4, 10, 0, 0, 9, 0];
        rig.dropped(
            &framed(&with_options(&plain, &options)),
            Drop::IpSourceRoute,
        );
    }
    // RFC 1122 3.2.2.5: parameter problem, pointing at the option.
    for (options, at) in [([148, 9, 0, 0], 20), ([1, 7, 1, 0], 21), ([1, 1, 1, 7], 23)] {
        let packet = with_options(&plain, &options);
        let answer = rig.answered(&framed(&packet));
        assert_eq!(answer[20..22], [12, 0]);
        assert_eq!(answer[24], at, "{options:?}");
        assert_eq!(answer[28..], packet);
    }
    assert_eq!(rig.core.stats.drops.get(Drop::IpOptions), 3);
    // Never about a later fragment.
    let mut late = with_options(&plain, &[148, 9, 0, 0]);
    set_u16(&mut late, 6, 5);
    mend(&mut late);
    rig.dropped(&framed(&late), Drop::IpOptions);
    rig.idle();
}

#[test]
fn ipv6_header_rules() {
    let mut rig = Rig::new();
    let good = udp(THEM[1], US[1], b"hello");
    let mut bad = |change: &dyn Fn(&mut Vec<u8>), reason| {
        let mut packet = good.clone();
        change(&mut packet);
        let mut frame = framed(&good)[..14].to_vec();
        frame.extend_from_slice(&packet);
        rig.dropped(&frame, reason);
    };
    bad(&|p| p[0] = 0x75, Drop::IpVersion);
    bad(&|p| p.truncate(39), Drop::IpTruncated);
    bad(&|p| p.truncate(52), Drop::IpTruncated);
    bad(&|p| set_u16(p, 4, 14), Drop::IpTruncated);
    bad(&|p| p[6] = 59, Drop::IpNoNextHeader);
    let mut packet = good.clone();
    packet[7] = 0;
    rig.delivered(&framed(&packet));
    rig.idle();
}

#[test]
fn ipv6_extension_headers_in_a_row() {
    let mut rig = Rig::new();
    let plain = udp(THEM[1], US[1], b"hello");
    // Hop-by-hop with router alert, destination options with an option to be skipped, routing with no segments left, the
    // deprecated type 0 likewise, destination options.
    let headers = [
        &[60, 0, 5, 2, 0, 0, 1, 0][..],
        &[43, 0, 0x1e, 2, 9, 9, 1, 0],
        &[43, 0, 253, 0, 0, 0, 0, 0],
        &[
            60, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        &[17, 0, 1, 4, 0, 0, 0, 0],
    ]
    .concat();
    let packet = with_headers(&plain, 0, &headers);
    let (_, l4, bytes) = rig.delivered(&framed(&packet));
    assert_eq!((l4, bytes), (40 + headers.len(), packet));
    rig.idle();
}

/// First header's number, the headers, the reason; and code and pointer of what the sender is told, for a packet to one host
/// and to a group (RFC 8200 4.2, 4.4; RFC 5095 3; RFC 4443 3.4).
type Refused = (
    u8,
    &'static [u8],
    Drop,
    Option<(u8, u32)>,
    Option<(u8, u32)>,
);

const REFUSED: [Refused; 8] = [
    (
        60,
        &[17, 0, 0x41, 4, 0, 0, 0, 0],
        Drop::IpUnknownOption,
        None,
        None,
    ),
    (
        60,
        &[17, 0, 0x81, 4, 0, 0, 0, 0],
        Drop::IpUnknownOption,
        Some((2, 42)),
        Some((2, 42)),
    ),
    (
        60,
        &[17, 0, 1, 0, 0xc1, 2, 0, 0],
        Drop::IpUnknownOption,
        Some((2, 44)),
        None,
    ),
    (
        0,
        &[17, 0, 0xc1, 4, 0, 0, 0, 0],
        Drop::IpUnknownOption,
        Some((2, 42)),
        None,
    ),
    (
        43,
        &[17, 0, 0, 1, 0, 0, 0, 0],
        Drop::IpRoutingHeader,
        Some((0, 42)),
        None,
    ),
    (
        43,
        &[17, 0, 77, 1, 0, 0, 0, 0],
        Drop::IpRoutingHeader,
        Some((0, 42)),
        None,
    ),
    (
        60,
        &[0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0],
        Drop::IpExtension,
        Some((1, 40)),
        None,
    ),
    (
        60,
        &[17, 9, 1, 4, 0, 0, 0, 0],
        Drop::IpExtension,
        None,
        None,
    ),
];

#[test]
fn ipv6_headers_that_are_refused() {
    let mut rig = Rig::new();
    let plain = udp(THEM[1], US[1], b"hello");
    let all_nodes = udp(THEM[1], "ff02::1", b"hello");
    for (first, headers, reason, alone, group) in REFUSED {
        for (packet, tell) in [(&plain, alone), (&all_nodes, group)] {
            rig.core.now += Duration::from_secs(10);
            let packet = with_headers(packet, first, headers);
            let seen = rig.core.stats.drops.get(reason);
            match tell {
                None => rig.dropped(&framed(&packet), reason),
                Some((code, pointer)) => {
                    let answer = rig.answered(&framed(&packet));
                    assert_eq!((answer[40], answer[41]), (4, code), "{headers:?}");
                    assert_eq!(answer[44..48], pointer.to_be_bytes(), "{headers:?}");
                    assert_eq!(answer[48..], packet);
                    assert_eq!(ip(THEM[1]).0, answer[24..40]);
                }
            }
            assert_eq!(rig.core.stats.drops.get(reason), seen + 1);
        }
    }
    rig.idle();
}

#[test]
fn protocols_nobody_speaks() {
    let mut rig = Rig::new();
    let frame = packet(THEM[0], US[0], 200, &[1; 100]);
    let answer = rig.answered(&framed(&frame));
    assert_eq!(answer[20..22], [3, 2]);
    assert_eq!(answer[28..], frame);
    // IPv6 points at the field that named it: the header's, or that of the last extension header.
    let plain = packet(THEM[1], US[1], 200, &[1; 100]);
    let answer = rig.answered(&framed(&plain));
    assert_eq!(answer[40..48], [4, 1, answer[42], answer[43], 0, 0, 0, 6]);
    let longer = with_headers(&plain, 60, &[200, 0, 1, 4, 0, 0, 0, 0]);
    let answer = rig.answered(&framed(&longer));
    assert_eq!(answer[44..48], [0, 0, 0, 40]);
    assert_eq!(rig.core.stats.drops.get(Drop::IpProtocol), 3);
    rig.idle();
}

#[test]
fn datagrams_of_any_size_are_put_together() {
    let mut rig = Rig::new();
    for n in 0..2 {
        for len in [2000, 9000, [65_507, 65_527][n]] {
            let whole = udp(THEM[n], US[n], &pattern(len));
            let mut pieces = fragments(&whole, len as u16, 1400);
            // The last first.
            pieces.rotate_right(1);
            let last = pieces.pop().unwrap();
            for piece in pieces {
                assert!(matches!(rig.receive(&framed(&piece)), Input::Done));
            }
            let (group, l4, bytes) = rig.delivered(&framed(&last));
            assert_eq!((group, l4), (false, [20, 40][n]));
            assert!(bytes[l4..] == whole[l4..]);
            assert!(bytes[..2] == whole[..2] && bytes[l4 - 8..l4] == whole[l4 - 8..l4]);
        }
    }
    assert_eq!(rig.core.stats.counts.get(Count::Reassembled), 6);
    assert_eq!(rig.core.stats.drops.total(), 0);
    rig.idle();
}

#[test]
fn extension_headers_before_and_behind_the_fragment_header() {
    let mut rig = Rig::new();
    let inner = with_headers(
        &udp(THEM[1], US[1], &pattern(3000)),
        60,
        &[17, 0, 1, 4, 0, 0, 0, 0],
    );
    let pieces = fragments(&inner, 5, 1400);
    let mut found = None;
    for piece in pieces {
        // A hop-by-hop header in the part that is not cut.
        let piece = with_headers(&piece, 0, &[44, 0, 1, 4, 0, 0, 0, 0]);
        if let Input::Datagram(datagram) = rig.receive(&framed(&piece)) {
            assert_eq!((datagram.l4, datagram.protocol), (56, 17));
            found = Some(rig.bytes(datagram.chain));
        }
    }
    let whole = with_headers(&inner, 0, &[60, 0, 1, 4, 0, 0, 0, 0]);
    assert!(found.unwrap() == whole);
    rig.idle();
}

#[test]
fn atomic_fragments_are_taken_by_themselves() {
    let mut rig = Rig::new();
    let pieces = fragments(&udp(THEM[1], US[1], &pattern(100)), 5, 48);
    assert!(matches!(rig.receive(&framed(&pieces[0])), Input::Done));
    // The same identification: RFC 6946 4 has it not join, not even overlap, the others.
    let atomic = with_headers(
        &udp(THEM[1], US[1], b"whole"),
        44,
        &[17, 0, 0, 0, 0, 0, 0, 5],
    );
    let (_, l4, bytes) = rig.delivered(&framed(&atomic));
    assert_eq!((l4, &bytes), (48, &atomic));
    assert!(matches!(rig.receive(&framed(&pieces[1])), Input::Done));
    rig.delivered(&framed(&pieces[2]));
    rig.idle();
}

#[test]
fn ipv6_fragments_that_are_refused() {
    let mut rig = Rig::new();
    let pieces = fragments(&udp(THEM[1], US[1], &pattern(2000)), 5, 1000);
    // RFC 8200 4.5: not a multiple of eight: code 0, at the payload length.
    let mut odd = pieces[0].clone();
    odd.pop();
    let len = (odd.len() - 40) as u16;
    set_u16(&mut odd, 4, len);
    let answer = rig.answered(&framed(&odd));
    assert_eq!((answer[40], answer[41], answer[47]), (4, 0, 4));
    // Too long: code 0, at the offset field.
    let mut far = pieces[1].clone();
    set_u16(&mut far, 42, 65_528 | 1);
    let answer = rig.answered(&framed(&far));
    assert_eq!((answer[40], answer[41], answer[47]), (4, 0, 42));
    // RFC 7112: headers that do not end in the first fragment: code 3.
    let inner = with_headers(
        &udp(THEM[1], US[1], b"x"),
        60,
        &[17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    let answer = rig.answered(&framed(&fragments(&inner, 6, 8)[0]));
    assert_eq!((answer[40], answer[41]), (4, 3));
    for reason in [
        Drop::FragmentMalformed,
        Drop::FragmentTooLong,
        Drop::FragmentHeaders,
    ] {
        assert_eq!(rig.core.stats.drops.get(reason), 1);
    }
    // A fragment within fragments.
    let nested = fragments(&udp(THEM[1], US[1], &pattern(200)), 7, 48).remove(0);
    let outer = fragments(&nested, 8, 48);
    for piece in outer {
        assert!(matches!(rig.receive(&framed(&piece)), Input::Done));
    }
    assert_eq!(rig.core.stats.drops.get(Drop::FragmentMalformed), 2);
    rig.pass(60);
    rig.frames(IF0);
    rig.idle();
}

#[test]
fn a_missing_fragment_is_told_when_the_first_came() {
    for n in 0..2 {
        for (which, told) in [(0, true), (1, false)] {
            let mut rig = Rig::new();
            let pieces = fragments(&udp(THEM[n], US[n], &pattern(3000)), 5, 1400);
            assert!(matches!(rig.receive(&framed(&pieces[which])), Input::Done));
            rig.pass([29, 59][n]);
            assert!(rig.frames(IF0).is_empty());
            rig.pass(2);
            let frames = rig.frames(IF0);
            assert_eq!(frames.len(), usize::from(told));
            if told {
                let (head, kind) = [(20, 11), (40, 3)][n];
                let answer = &frames[0][14..];
                assert_eq!(answer[head..head + 2], [kind, 1]);
                let quote = &answer[head + 8..];
                assert_eq!(quote, &pieces[0][..quote.len()]);
                assert_eq!(answer.len(), [576, 1280][n]);
            }
            assert_eq!(rig.core.stats.drops.get(Drop::ReassemblyTimeout), 1);
            rig.idle();
        }
    }
}

#[test]
fn overlapping_fragments_are_never_delivered() {
    for n in 0..2 {
        let mut rig = Rig::new();
        let whole = udp(THEM[n], US[n], &pattern(100));
        let pieces = fragments(&whole, 5, 48);
        let other = fragments(&udp(THEM[n], US[n], &pattern(101)[1..]), 5, 56);
        for piece in [&pieces[0], &other[1], &pieces[1], &pieces[2], &pieces[0]] {
            assert!(matches!(rig.receive(&framed(piece)), Input::Done));
        }
        assert_eq!(rig.core.stats.drops.get(Drop::FragmentOverlap), 5);
        rig.pass(61);
        rig.frames(IF0);
        rig.idle();
    }
}

#[test]
fn super_frames_keep_their_segment_size() {
    let mut rig = Rig::with(Offloads::ALL, 1500);
    let frame = framed(&udp(THEM[0], US[0], &pattern(20_000)));
    let facts = Facts {
        checksum: base::Checksum::Partial {
            start: 34,
            offset: 6,
        },
        gso: base::Gso {
            kind: base::GsoKind::Udp,
            size: 1400,
            header_len: 42,
        },
    };
    let Input::Datagram(datagram) = rig.receive_on(IF0, &frame, facts) else {
        panic!("{:?}", rig.core.stats.drops);
    };
    assert!(datagram.checksum_good);
    assert_eq!((datagram.gso_size, datagram.chain.len()), (1400, 20_028));
    rig.core.pool.free(datagram.chain);
    rig.idle();
}

/// What an input means, without its memory.
fn meaning(rig: &mut Rig, input: Input) -> String {
    match input {
        Input::Done => String::new(),
        Input::Report(report) => format!("{report:?}"),
        Input::Datagram(mut datagram) => {
            let bytes = rig.bytes(datagram.chain.take());
            let Datagram {
                src,
                dst,
                protocol,
                ttl,
                tos,
                group,
                l4,
                checksum_good,
                gso_size,
                ..
            } = datagram;
            format!(
                "{:?}",
                (
                    src,
                    dst,
                    protocol,
                    ttl,
                    tos,
                    group,
                    l4,
                    checksum_good,
                    gso_size,
                    bytes
                )
            )
        }
    }
}

/// Packets of every kind.
fn seeds() -> Vec<Vec<u8>> {
    vec![
        udp(THEM[0], US[0], b"0123456789"),
        udp(THEM[1], US[1], b"0123456789"),
        packet(THEM[0], US[0], 6, &[0x50; 40]),
        packet(THEM[1], US[1], 6, &[0x50; 40]),
        with_options(
            &udp(THEM[0], US[0], b"0123456789"),
            &[7, 7, 4, 0, 0, 0, 0, 0],
        ),
        with_headers(
            &udp(THEM[1], US[1], b"x"),
            0,
            &[60, 0, 5, 2, 0, 0, 1, 0, 17, 0, 1, 4, 0, 0, 0, 0],
        ),
        fragments(&udp(THEM[0], US[0], &pattern(100)), 5, 48).remove(0),
        fragments(&udp(THEM[1], US[1], &pattern(100)), 5, 48).remove(1),
        echo(THEM[0], US[0], &pattern(80)),
        echo(THEM[1], US[1], &pattern(80)),
        icmp(
            THEM[0],
            US[0],
            &[&[3, 3, 0, 0, 0, 0, 0, 0][..], &udp(US[0], THEM[0], b"x")].concat(),
        ),
        icmp(
            THEM[1],
            US[1],
            &[&[1, 4, 0, 0, 0, 0, 0, 0][..], &udp(US[1], THEM[1], b"x")].concat(),
        ),
    ]
}

/// One of them in a frame, damaged here and there; the checksum of an IPv4 header is mostly right nevertheless.
fn mutated(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = framed(&seeds[rng.below(seeds.len() as u32) as usize]);
    for _ in 0..rng.below(4) {
        let at = rng.below(frame.len().min(80) as u32) as usize;
        frame[at] = match rng.below(4) {
            0 => 0,
            1 => 0xff,
            2 => frame[at] ^ 1 << rng.below(8),
            _ => rng.u32() as u8,
        };
    }
    if rng.below(8) == 0 {
        frame.truncate(rng.below(frame.len() as u32 + 1) as usize);
    }
    if frame.get(14).is_some_and(|byte| byte >> 4 == 4) && frame.len() >= 34 && rng.below(4) != 0 {
        let len = usize::from(frame[14] & 15) * 4;
        if (20..=frame.len() - 14).contains(&len) {
            mend(&mut frame[14..]);
        }
    }
    frame
}

/// The quick way takes only what the careful one would take, with the same result; and no frame whatever makes either panic or
/// keep memory.
#[test]
fn the_quick_way_and_the_careful_way_agree_on_mutated_frames() {
    let seeds = seeds();
    let mut rng = Rng::from_seed(5);
    let (mut quick, mut careful) = (Rig::new(), Rig::new());
    let mut taken = 0;
    for round in 0..60_000 {
        let frame = mutated(&mut rng, &seeds);
        // Both answer the same, as both have sent the same before.
        let a = quick.receive(&frame);
        let a = meaning(&mut quick, a);
        let chain = careful.chain(&frame);
        let b = careful
            .net
            .frame_input(&mut careful.core, IF0, Packet::new(chain));
        let b = meaning(&mut careful, b);
        assert_eq!(a, b, "round {round}: {frame:02x?}");
        taken += u32::from(!a.is_empty());
        if round % 1000 == 0 {
            for rig in [&mut quick, &mut careful] {
                rig.pass(61);
                while let Some(packet) = rig.net.interfaces[0].queue.pop_front() {
                    rig.core.pool.free(packet.chain);
                }
                rig.idle();
            }
        }
    }
    assert!(taken > 10_000);
    assert_eq!(
        quick.core.stats.drops.total(),
        careful.core.stats.drops.total()
    );
}

#[test]
fn floods_of_fragments_leave_memory_bounded() {
    let mut rig = Rig::new();
    let mut rng = Rng::from_seed(8);
    for n in 0..20_000u32 {
        let family = (n % 2) as usize;
        let pieces = fragments(
            &udp(THEM[family], US[family], &pattern(3000)),
            n as u16,
            1400,
        );
        let piece = &pieces[rng.below(pieces.len() as u32 - 1) as usize];
        assert!(matches!(rig.receive(&framed(piece)), Input::Done));
        assert!(rig.core.pool.in_use() <= 128);
    }
    assert_eq!(rig.core.stats.drops.get(Drop::ReassemblyFull), 20_000 - 8);
    rig.pass(61);
    rig.frames(IF0);
    rig.idle();
}
