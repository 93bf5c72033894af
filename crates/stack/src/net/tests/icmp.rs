//! Echoes, errors sent and heard, redirects (RFC 792, RFC 1122 3.2.2, RFC 4443).

use super::*;

/// The packets of some frames put together again by a second host, which must find them in order.
fn whole(frames: &[Vec<u8>], from: &str, to: &str) -> Vec<u8> {
    let mut peer = Rig::new();
    let family = if ip(from).is_v4() { 0 } else { 1 };
    let mut found = None;
    for frame in frames {
        let mut packet = frame[14..].to_vec();
        // To the second host's own addresses, so that it takes them; sums of addresses stay as they are.
        assert_eq!((ip(from), ip(to)), (ip(US[family]), ip(THEM[family])));
        let (src, dst) = if family == 0 { (12, 16) } else { (8, 24) };
        let size = dst - src;
        let (a, b) = packet[src..dst + size].split_at_mut(size);
        a.swap_with_slice(b);
        let next = if family == 0 { 9 } else { 6 };
        let protocol = packet[next];
        // As UDP, whose datagrams come out.
        match (family, protocol) {
            (0, _) => {
                packet[9] = 17;
                mend(&mut packet);
            }
            (_, 44) => packet[40] = 17,
            _ => packet[6] = 17,
        }
        if let Input::Datagram(datagram) = peer.receive(&framed(&packet)) {
            let l4 = usize::from(datagram.l4);
            found = Some(peer.bytes(datagram.chain).split_off(l4));
        }
    }
    assert_eq!(peer.core.stats.drops.total(), 0);
    peer.idle();
    found.unwrap()
}

#[test]
fn echoes_of_any_size_are_answered() {
    let mut rig = Rig::new();
    for n in 0..2 {
        for len in [0, 1, 56, 1400, 1472, 1473, 4000, 9000, 65_507] {
            let data = pattern(len);
            let mut request = echo(THEM[n], US[n], &data);
            if n == 0 {
                // ECT(0) and a type of service: only the latter comes back.
                request[1] = 0x4a;
                mend(&mut request);
            }
            if request.len() <= 1500 {
                assert!(matches!(rig.receive(&framed(&request)), Input::Done));
            } else {
                for piece in fragments(&request, len as u16, 1400) {
                    assert!(matches!(rig.receive(&framed(&piece)), Input::Done));
                }
            }
            let frames = rig.frames(IF0);
            assert!(frames.iter().all(|frame| frame.len() <= 1514));
            assert_eq!(frames[0][..6], PEER.0);
            let head = [20, 40][n];
            if n == 0 {
                assert_eq!(frames[0][15], 0x48);
            }
            let reply = whole(&frames, US[n], THEM[n]);
            assert_eq!(reply[..2], [[0, 0], [129, 0]][n]);
            assert_eq!(reply[4..8], request[head + 4..head + 8]);
            assert!(reply[8..] == data);
            let sum = if n == 0 {
                checksum::Sum::new()
            } else {
                checksum::pseudo(&ip(US[1]), &ip(THEM[1]), 58, reply.len() as u32)
            };
            assert!(sum.add_bytes(&reply).is_valid());
        }
    }
    assert_eq!(rig.core.stats.counts.get(Count::EchoAnswered), 18);
    assert_eq!(rig.core.stats.drops.total(), 0);
    rig.idle();
}

#[test]
fn echoes_that_are_not_answered() {
    let mut rig = Rig::new();
    for n in 0..2 {
        let mut request = echo(THEM[n], US[n], b"data");
        *request.last_mut().unwrap() ^= 1;
        rig.dropped(&framed(&request), Drop::IcmpChecksum);
        let short = icmp(THEM[n], US[n], &[[8, 128][n], 0, 0, 0, 0, 0, 0, 0]);
        let mut short = short[..short.len() - 1].to_vec();
        if n == 0 {
            set_u16(&mut short, 2, 27);
            mend(&mut short);
        } else {
            set_u16(&mut short, 4, 7);
        }
        assert!(matches!(rig.receive(&framed(&short)), Input::Done));
        assert!(rig.frames(IF0).is_empty());
    }
    for dst in ["255.255.255.255", "10.0.0.255", "224.0.0.1"] {
        rig.dropped(&framed(&echo(THEM[0], dst, b"x")), Drop::IcmpGroupEcho);
    }
    // Nobody to answer to.
    rig.dropped(&framed(&echo("::", US[1], b"x")), Drop::IcmpIgnored);
    // An answer nobody waits for; requests of a timestamp, of information, of the address mask, which is for authorities to tell
    // (RFC 1122 3.2.2.9); an unknown type of each family; source quench (RFC 6633 3).
    for kind in [0, 13, 15, 17, 42, 4] {
        rig.dropped(
            &framed(&icmp(THEM[0], US[0], &[kind, 0, 0, 0, 0, 0, 0, 0])),
            Drop::IcmpIgnored,
        );
    }
    for kind in [129, 200] {
        rig.dropped(
            &framed(&icmp(THEM[1], US[1], &[kind, 0, 0, 0, 0, 0, 0, 0])),
            Drop::IcmpIgnored,
        );
    }
    rig.idle();
}

#[test]
fn an_ipv6_multicast_echo_is_answered_from_a_unicast_address() {
    let mut rig = Rig::new();
    let reply = rig.answered(&framed_to(
        Mac([0x33, 0x33, 0, 0, 0, 1]),
        &echo(THEM[1], "ff02::1", b"all"),
    ));
    assert_eq!(reply[8..24], ip(US[1]).0);
    assert_eq!((reply[40], &reply[48..]), (129, &b"all"[..]));
    let sum = checksum::pseudo(&ip(US[1]), &ip(THEM[1]), 58, (reply.len() - 40) as u32);
    assert!(sum.add_bytes(&reply[40..]).is_valid());
    rig.idle();
}

/// A datagram as it would be handed to UDP.
fn datagram(rig: &mut Rig, frame: &[u8]) -> Datagram {
    match rig.receive(frame) {
        Input::Datagram(datagram) => datagram,
        other => panic!("{other:?}: {:?}", rig.core.stats.drops),
    }
}

fn tell(rig: &mut Rig, frame: &[u8], kind: ErrorKind) -> Vec<Vec<u8>> {
    let datagram = datagram(rig, frame);
    rig.net.send_error(&mut rig.core, kind, &datagram);
    rig.core.pool.free(datagram.chain);
    rig.frames(IF0)
}

#[test]
fn errors_quote_what_fits() {
    let mut rig = Rig::new();
    for n in 0..2 {
        for len in [0, 100, 1400] {
            let packet = udp(THEM[n], US[n], &pattern(len));
            let frames = tell(&mut rig, &framed(&packet), ErrorKind::PortUnreachable);
            let answer = &frames[0][14..];
            let head = [20, 40][n];
            let fits = [576, 1280][n] - head - 8;
            assert_eq!(answer[head..head + 2], [[3, 3], [1, 4]][n]);
            assert_eq!(answer[head + 4..head + 8], [0; 4]);
            assert!(answer[head + 8..] == packet[..packet.len().min(fits)]);
            // From the address the datagram was for, back to its source.
            let sum = if n == 0 {
                assert_eq!(
                    (answer[1], &answer[12..20]),
                    (0xc0, &[10, 0, 0, 1, 10, 0, 0, 2][..])
                );
                checksum::Sum::new()
            } else {
                assert_eq!(answer[8..24], ip(US[1]).0);
                checksum::pseudo(&ip(US[1]), &ip(THEM[1]), 58, (answer.len() - 40) as u32)
            };
            assert!(sum.add_bytes(&answer[head..]).is_valid());
        }
    }
    assert_eq!(rig.core.stats.counts.get(Count::IcmpErrorsSent), 6);
    rig.idle();
}

#[test]
fn errors_that_must_not_be_sent() {
    let mut rig = Rig::new();
    let kind = ErrorKind::PortUnreachable;
    let all = Mac::BROADCAST;
    // RFC 1122 3.2.2, RFC 4443 2.4 e: about what was sent to a group, of IP or of the link.
    for frame in [
        framed_to(all, &udp(THEM[0], "255.255.255.255", b"x")),
        framed_to(all, &udp(THEM[0], "10.0.0.255", b"x")),
        framed_to(Mac([1, 0, 0x5e, 0, 0, 1]), &udp(THEM[0], "224.0.0.1", b"x")),
        framed_to(
            Mac([0x33, 0x33, 0, 0, 0, 1]),
            &udp(THEM[1], "ff02::1", b"x"),
        ),
        framed_to(Mac([0x33, 0x33, 0, 0, 0, 1]), &udp(THEM[1], US[1], b"x")),
        framed_to(all, &udp("0.0.0.0", "255.255.255.255", b"x")),
    ] {
        assert!(tell(&mut rig, &frame, kind).is_empty());
    }
    // To a source that is no single host; about errors and redirects. These get no further than here by themselves.
    let mut refused = rig.core.stats.counts.get(Count::IcmpErrorsForbidden);
    assert_eq!(refused, 6);
    let mut original = datagram(&mut rig, &framed(&udp(THEM[0], US[0], b"x")));
    for src in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "10.0.0.255",
        "240.0.0.1",
        "::",
        "::1",
        "ff02::1",
    ] {
        original.src = ip(src);
        rig.net.send_error(&mut rig.core, kind, &original);
        refused += 1;
        assert_eq!(
            rig.core.stats.counts.get(Count::IcmpErrorsForbidden),
            refused,
            "{src}"
        );
    }
    for (n, protocol, types) in [
        (0, 1, &[3, 4, 5, 11, 12, 41][..]),
        (1, 58, &[1, 2, 3, 4, 100, 137]),
    ] {
        original.src = ip(THEM[n]);
        original.protocol = protocol;
        let l4 = usize::from(original.l4);
        for kind_of in types {
            rig.core.pool.copy_in(&original.chain, l4, &[*kind_of]);
            rig.net.send_error(&mut rig.core, kind, &original);
            refused += 1;
            assert_eq!(
                rig.core.stats.counts.get(Count::IcmpErrorsForbidden),
                refused,
                "{kind_of}"
            );
        }
    }
    assert!(rig.frames(IF0).is_empty());
    rig.core.pool.free(original.chain);
    rig.idle();
}

#[test]
fn errors_are_limited_per_destination_and_in_all() {
    let mut rig = Rig::new();
    let mut sent = 0;
    for _ in 0..100 {
        sent += tell(
            &mut rig,
            &framed(&udp(THEM[0], US[0], b"x")),
            ErrorKind::PortUnreachable,
        )
        .len();
    }
    assert_eq!(sent, 6);
    assert_eq!(rig.core.stats.counts.get(Count::IcmpErrorsLimited), 94);
    rig.pass(1);
    let again = tell(
        &mut rig,
        &framed(&udp(THEM[0], US[0], b"x")),
        ErrorKind::PortUnreachable,
    );
    assert_eq!(again.len(), 1);
    // From everywhere at once: what the host saved up, in all.
    for n in 0..2000u16 {
        let [a, b] = n.to_be_bytes();
        let src = format!("172.16.{a}.{b}");
        if b != 0 && b != 255 {
            sent += tell(
                &mut rig,
                &framed(&udp(&src, US[0], b"x")),
                ErrorKind::PortUnreachable,
            )
            .len();
        }
    }
    assert!((40..=60).contains(&sent), "{sent}");
    rig.idle();
}

/// An ICMP error from a router about a packet we sent.
fn error(n: usize, from: &str, head: [u8; 8], quoted: &[u8]) -> Vec<u8> {
    icmp(from, US[n], &[&head[..], quoted].concat())
}

#[test]
fn errors_heard_become_reports() {
    use ReportKind::*;
    let mut rig = Rig::new();
    let cases: [(usize, [u8; 8], ReportKind); 24] = [
        (0, [3, 0, 0, 0, 0, 0, 0, 0], NetUnreachable),
        (0, [3, 1, 0, 0, 0, 0, 0, 0], HostUnreachable),
        (0, [3, 2, 0, 0, 0, 0, 0, 0], ProtocolUnreachable),
        (0, [3, 3, 0, 0, 0, 0, 0, 0], PortUnreachable),
        (0, [3, 4, 0, 0, 0, 0, 5, 0x78], TooBig { mtu: 1400 }),
        (0, [3, 4, 0, 0, 0, 0, 0, 0], TooBig { mtu: 1006 }),
        (0, [3, 5, 0, 0, 0, 0, 0, 0], SourceRouteFailed),
        (0, [3, 6, 0, 0, 0, 0, 0, 0], NetUnreachable),
        (0, [3, 7, 0, 0, 0, 0, 0, 0], HostUnreachable),
        (0, [3, 13, 0, 0, 0, 0, 0, 0], AdminProhibited),
        (0, [11, 0, 0, 0, 0, 0, 0, 0], TimeExceeded),
        (0, [11, 1, 0, 0, 0, 0, 0, 0], ReassemblyTimeExceeded),
        (0, [12, 0, 0, 0, 20, 0, 0, 0], ParameterProblem),
        (1, [1, 0, 0, 0, 0, 0, 0, 0], NetUnreachable),
        (1, [1, 1, 0, 0, 0, 0, 0, 0], AdminProhibited),
        (1, [1, 3, 0, 0, 0, 0, 0, 0], HostUnreachable),
        (1, [1, 4, 0, 0, 0, 0, 0, 0], PortUnreachable),
        (1, [2, 0, 0, 0, 0, 0, 5, 0x14], TooBig { mtu: 1300 }),
        (1, [2, 0, 0, 0, 0, 1, 0, 0], TooBig { mtu: 65_536 }),
        (1, [3, 0, 0, 0, 0, 0, 0, 0], TimeExceeded),
        (1, [3, 1, 0, 0, 0, 0, 0, 0], ReassemblyTimeExceeded),
        (1, [4, 1, 0, 0, 0, 0, 0, 6], ProtocolUnreachable),
        (1, [4, 0, 0, 0, 0, 0, 0, 6], ParameterProblem),
        (1, [100, 0, 0, 0, 0, 0, 0, 0], ParameterProblem),
    ];
    for (n, head, kind) in cases {
        let router = ["198.51.100.1", "2001:db8::1"][n];
        let remote = ["203.0.113.5", "2001:db8:5::5"][n];
        let quoted = udp(US[n], remote, &pattern(1000));
        // As little as RFC 792 asks for, and more.
        for len in [[28, 48][n], 500] {
            let Input::Report(report) =
                rig.receive(&framed(&error(n, router, head, &quoted[..len])))
            else {
                panic!("{head:?}: {:?}", rig.core.stats.drops);
            };
            assert_eq!(report.kind, kind, "{head:?}");
            assert_eq!((report.local, report.remote), (ip(US[n]), ip(remote)));
            assert_eq!((report.from, report.protocol), (ip(router), 17));
            let l4 = [20, 40][n];
            assert_eq!(report.l4, quoted[l4..l4 + 8]);
        }
    }
    rig.idle();
}

#[test]
fn errors_that_are_not_believed() {
    let mut rig = Rig::new();
    for n in 0..2 {
        let router = ["198.51.100.1", "2001:db8::1"][n];
        let head = [[3, 1, 0, 0, 0, 0, 0, 0], [1, 3, 0, 0, 0, 0, 0, 0]][n];
        let (remote, own) = (
            ["203.0.113.5", "2001:db8:5::5"][n],
            ["192.168.7.1", "fd07::1"][n],
        );
        // Not from us; from another address of ours than the error is for.
        for src in [THEM[n], own] {
            let quoted = udp(src, remote, &pattern(100));
            rig.dropped(&framed(&error(n, router, head, &quoted)), Drop::IcmpNotOurs);
        }
        // Too little of the packet, nonsense, a later fragment.
        let quoted = udp(US[n], remote, &pattern(100));
        let least = [28, 48][n];
        rig.dropped(
            &framed(&error(n, router, head, &quoted[..least - 1])),
            Drop::IcmpQuote,
        );
        rig.dropped(
            &framed(&error(n, router, head, &[0x99; 60])),
            Drop::IcmpQuote,
        );
        let later = fragments(&quoted, 5, 48).remove(1);
        rig.dropped(&framed(&error(n, router, head, &later)), Drop::IcmpQuote);
        let mut broken = error(n, router, head, &quoted);
        *broken.last_mut().unwrap() ^= 1;
        rig.dropped(&framed(&broken), Drop::IcmpChecksum);
    }
    // A link no IPv6 packet can pass, which a connected socket would hear of.
    let quoted = udp(US[1], "2001:db8:5::5", &pattern(1400));
    rig.dropped(
        &framed(&error(
            1,
            "2001:db8::1",
            [2, 0, 0, 0, 0, 0, 4, 0xff],
            &quoted[..1000],
        )),
        Drop::IcmpIgnored,
    );
    // To a group.
    let quoted = udp("10.0.0.255", "203.0.113.5", b"x");
    let message = icmp(
        THEM[0],
        "10.0.0.255",
        &[&[3, 1, 0, 0, 0, 0, 0, 0][..], &quoted].concat(),
    );
    rig.dropped(&framed(&message), Drop::IcmpNotOurs);
    rig.idle();
}

#[test]
fn a_report_about_an_echo_reply_lowers_the_path_mtu() {
    let mut rig = Rig::new();
    let (router, remote) = ("2001:db8::1", "2001:db8:5::5");
    let reply = icmp(
        US[1],
        remote,
        &[&[129, 0, 0, 0, 0, 7, 0, 9][..], &pattern(1400)].concat(),
    );
    let message = error(1, router, [2, 0, 0, 0, 0, 0, 5, 0x14], &reply[..1000]);
    assert!(matches!(rig.receive(&framed(&message)), Input::Done));
    let path = rig
        .net
        .route(&mut rig.core, ip(remote), None, None)
        .unwrap();
    assert_eq!(path.mtu, 1300);
    // What this host does not send cannot have been too big: requests, and IPv4's answers, which may be fragmented.
    let request = echo(US[1], remote, &pattern(1400));
    let message = error(1, router, [2, 0, 0, 0, 0, 0, 5, 0], &request[..1000]);
    assert!(matches!(rig.receive(&framed(&message)), Input::Done));
    let path = rig
        .net
        .route(&mut rig.core, ip(remote), None, None)
        .unwrap();
    assert_eq!(path.mtu, 1300);
    let remote = "203.0.113.5";
    let reply = icmp(US[0], remote, &[&[0; 8][..], &pattern(1400)].concat());
    let message = error(0, "198.51.100.1", [3, 4, 0, 0, 0, 0, 4, 0], &reply[..500]);
    assert!(matches!(rig.receive(&framed(&message)), Input::Done));
    let path = rig
        .net
        .route(&mut rig.core, ip(remote), None, None)
        .unwrap();
    assert_eq!(path.mtu, 1500);
    rig.idle();
}

#[test]
fn an_echo_for_one_host_in_a_frame_for_many_is_answered_from_where_it_was_sent_to() {
    // RFC 4443 4.2: the source of the answer MUST be the unicast destination of the request.
    let mut rig = Rig::new();
    rig.add_address(IF0, "fd00::aaaa/64");
    rig.pass(10);
    rig.frames(IF0);
    for dst in [US[1], "fd00::aaaa"] {
        let all = ip("ff02::1").multicast_mac().unwrap();
        let input = rig.receive(&framed_to(all, &echo(THEM[1], dst, b"x")));
        assert!(matches!(input, Input::Done));
        let frames = rig.frames(IF0);
        assert_eq!(frames[0][22..38], ip(dst).0);
    }
    rig.idle();
}

#[test]
fn redirects_are_followed_when_they_come_from_the_gateway() {
    let redirect = |from: &str, gateway: &str, src: &str, dst: &str, code: u8| {
        let [a, b, c, d] = ip(gateway).v4_octets();
        let quoted = udp(src, dst, b"x");
        icmp(
            from,
            US[0],
            &[&[5, code, 0, 0, a, b, c, d][..], &quoted].concat(),
        )
    };
    let (gateway, other, dst) = ("10.0.0.254", "10.0.0.253", "203.0.113.5");
    let mut rig = Rig::new();
    let hop = |rig: &mut Rig| {
        rig.net
            .route(&mut rig.core, ip(dst), None, None)
            .unwrap()
            .next_hop
    };
    for (from, to, src, about, code) in [
        // Not the gateway in use; a gateway that is no neighbour, is ourselves, a broadcast; not our packet; no such code.
        ("10.0.0.2", other, US[0], dst, 1),
        (gateway, "198.51.100.1", US[0], dst, 1),
        (gateway, US[0], US[0], dst, 1),
        (gateway, "10.0.0.255", US[0], dst, 1),
        (gateway, other, "192.168.7.1", dst, 1),
        (gateway, other, US[0], dst, 4),
        // About a neighbour, and about a group.
        (gateway, other, US[0], "10.0.0.7", 1),
        (gateway, other, US[0], "224.0.0.5", 1),
    ] {
        rig.dropped(
            &framed(&redirect(from, to, src, about, code)),
            Drop::IcmpRedirect,
        );
        assert_eq!(
            hop(&mut rig),
            ip(gateway),
            "{from} {to} {src} {about} {code}"
        );
    }
    let epoch = rig.net.epoch();
    assert!(matches!(
        rig.receive(&framed(&redirect(gateway, other, US[0], dst, 1))),
        Input::Done
    ));
    assert_eq!(hop(&mut rig), ip(other));
    assert_ne!(rig.net.epoch(), epoch);
    // For this destination only, and not for ever.
    let path = rig
        .net
        .route(&mut rig.core, ip("203.0.113.6"), None, None)
        .unwrap();
    assert_eq!(path.next_hop, ip(gateway));
    rig.pass(601);
    assert_eq!(hop(&mut rig), ip(gateway));
    rig.frames(IF0);
    rig.idle();
}

#[test]
fn neighbour_discovery_in_fragments_is_refused() {
    let mut rig = Rig::new();
    let mut ask = vec![135, 0, 0, 0, 0, 0, 0, 0];
    ask.extend_from_slice(&ip(US[1]).0);
    ask.extend_from_slice(&[1, 1, 2, 0, 0, 0, 0, 9]);
    let mut packet = icmp(THEM[1], US[1], &ask);
    packet[7] = 255;
    let atomic = with_headers(&packet, 44, &[58, 0, 0, 0, 0, 0, 0, 1]);
    rig.dropped(&framed(&atomic), Drop::NdpFragmented);
    assert!(!rig.answered(&framed(&packet)).is_empty());
    rig.idle();
}
