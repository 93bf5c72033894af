//! What goes out: headers, checksums, offloads, fragments, groups, the loopback, full queues.

use base::{Checksum, Gso, GsoKind};

use super::*;

fn meta(src: &str, dst: &str) -> IpMeta {
    IpMeta {
        src: ip(src),
        dst: ip(dst),
        protocol: protocol::UDP,
        ttl: 64,
        tos: 0,
        dont_fragment: true,
        ident: None,
    }
}

/// A UDP datagram as a transport hands it over: the checksum is the pseudo-header's sum, facts count from the header.
fn handed(rig: &mut Rig, src: &str, dst: &str, data: &[u8]) -> (Chain, Facts) {
    let mut bytes = udp_bytes(src, dst, data);
    let pseudo = checksum::pseudo(&ip(src), &ip(dst), protocol::UDP, bytes.len() as u32);
    set_u16(&mut bytes, 6, pseudo.fold());
    let mut chain = rig.core.pool.alloc(HEADROOM).unwrap();
    assert_eq!(rig.core.pool.append_bytes(&mut chain, &bytes), bytes.len());
    let facts = Facts {
        checksum: Checksum::Partial {
            start: 0,
            offset: 6,
        },
        ..Facts::NONE
    };
    (chain, facts)
}

fn send(rig: &mut Rig, src: &str, dst: &str, data: &[u8], dont_fragment: bool) {
    let (chain, facts) = handed(rig, src, dst, data);
    let path = rig
        .net
        .route(&mut rig.core, ip(dst), Some(ip(src)), None)
        .unwrap();
    let meta = IpMeta {
        dont_fragment,
        ..meta(src, dst)
    };
    rig.net.send(&mut rig.core, &path, &meta, chain, facts);
}

#[test]
fn a_datagram_becomes_a_frame() {
    let mut rig = Rig::new();
    for n in 0..2 {
        // Odd lengths, and more than one block.
        for len in [0, 1, 1471, 1432] {
            let len = len - [0, 20][n].min(len);
            let data = pattern(len);
            send(&mut rig, US[n], THEM[n], &data, true);
            let frames = rig.frames(IF0);
            let mut expected = udp(US[n], THEM[n], &data);
            if n == 0 {
                // RFC 6864 4.1: an atomic datagram needs no identification.
                set_u16(&mut expected, 6, 0x4000);
                mend(&mut expected);
            } else {
                // The flow label has a test of its own.
                expected[1..4].copy_from_slice(&frames[0][15..18]);
            }
            assert_eq!(
                frames,
                [[
                    &PEER.0[..],
                    &OWN[0].0,
                    &[[8, 0], [0x86, 0xdd]][n],
                    &expected
                ]
                .concat()]
            );
        }
    }
    rig.idle();
}

#[test]
fn a_zero_udp_checksum_becomes_all_ones() {
    let mut rig = Rig::new();
    for n in 0..2 {
        // Data that makes the sum come out as zero.
        let plain = udp_bytes(US[n], THEM[n], &[0, 0]);
        let data = &plain[6..8];
        send(&mut rig, US[n], THEM[n], data, true);
        let frame = rig.frames(IF0).remove(0);
        let at = [40, 60][n];
        assert_eq!(frame[at..at + 2], [0xff, 0xff]);
        assert_eq!(frame[14 + [20, 40][n]..], udp_bytes(US[n], THEM[n], data));
    }
    rig.idle();
}

#[test]
fn a_device_that_sums_is_given_the_work() {
    let mut rig = Rig::with(Offloads::ALL, 1500);
    for n in 0..2 {
        send(&mut rig, US[n], THEM[n], b"data", true);
        let packet = rig.net.interfaces[0].queue.pop_front().unwrap();
        let start = [34, 54][n];
        assert_eq!(
            packet.facts.checksum,
            Checksum::Partial { start, offset: 6 }
        );
        let bytes = rig.bytes(packet.chain);
        let pseudo = checksum::pseudo(&ip(US[n]), &ip(THEM[n]), 17, 12).fold();
        assert_eq!(bytes[usize::from(start) + 6..][..2], pseudo.to_be_bytes());
    }
    rig.idle();
}

#[test]
fn super_frames_need_a_device_that_cuts_them() {
    for (offloads, offered) in [
        (Offloads::ALL, true),
        (Offloads::NONE, false),
        (
            Offloads {
                uso: false,
                ..Offloads::ALL
            },
            false,
        ),
        (
            Offloads {
                tx_checksum: false,
                ..Offloads::ALL
            },
            false,
        ),
    ] {
        let mut rig = Rig::with(offloads, 1500);
        let (chain, mut facts) = handed(&mut rig, US[0], THEM[0], &pattern(30_000));
        facts.gso = Gso {
            kind: GsoKind::Udp,
            size: 1400,
            header_len: 8,
        };
        let path = rig
            .net
            .route(&mut rig.core, ip(THEM[0]), None, None)
            .unwrap();
        rig.net
            .send(&mut rig.core, &path, &meta(US[0], THEM[0]), chain, facts);
        match rig.net.interfaces[0].queue.pop_front() {
            Some(packet) => {
                assert!(offered);
                assert_eq!(packet.facts.gso.header_len, 42);
                assert_eq!(packet.chain.len(), 14 + 20 + 8 + 30_000);
                rig.core.pool.free(packet.chain);
            }
            None => assert!(!offered),
        }
        assert_eq!(
            rig.core.stats.drops.get(Drop::GsoNotOffered),
            u64::from(!offered)
        );
        rig.idle();
    }
}

#[test]
fn what_must_not_be_cut_and_does_not_fit_is_dropped() {
    let mut rig = Rig::new();
    send(&mut rig, US[0], THEM[0], &pattern(1473), true);
    assert_eq!(rig.core.stats.drops.get(Drop::OutTooBig), 1);
    assert!(rig.frames(IF0).is_empty());
    rig.idle();
}

#[test]
fn a_second_host_puts_the_fragments_together() {
    for n in 0..2 {
        let mut idents = Vec::new();
        for len in [1473, 2960, 9000, [65_507, 65_527][n]] {
            let mut rig = Rig::new();
            let data = pattern(len);
            rig.core.rng = Rng::from_seed(len as u64);
            // As the peer, whose addresses are the other way round.
            send(&mut rig, US[n], THEM[n], &data, false);
            let frames = rig.frames(IF0);
            assert_eq!(rig.core.stats.counts.get(Count::Fragmented), 1);
            let mut offsets = 0;
            for (at, frame) in frames.iter().enumerate() {
                assert!(frame.len() <= 1514);
                let (word, ident) = if n == 0 {
                    (
                        u16::from_be_bytes([frame[20], frame[21]]),
                        u32::from(u16::from_be_bytes([frame[18], frame[19]])),
                    )
                } else {
                    let word = u16::from_be_bytes([frame[56], frame[57]]);
                    let more = word & 1;
                    (
                        (word >> 3) | (more << 13),
                        u32::from_be_bytes([frame[58], frame[59], frame[60], frame[61]]),
                    )
                };
                assert_eq!(usize::from(word & 0x1fff) * 8, offsets);
                assert_eq!(word >> 13, u16::from(at + 1 < frames.len()));
                offsets += frame.len() - 14 - [20, 48][n];
                if at == 0 {
                    idents.push(ident);
                }
                assert_eq!(Some(&ident), idents.last());
            }
            rig.idle();
            assert!(joined(n, &frames, len as u64) == udp_bytes(US[n], THEM[n], &data));
        }
    }
}

/// What a second host, whose addresses are the peer's, makes of the fragments in a random order.
fn joined(n: usize, frames: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut rig = Rig::new();
    rig.net
        .remove_address(&mut rig.core, IF0, ip(US[n]))
        .unwrap();
    rig.add_address(IF0, ["10.0.0.2/24", "fd00::2/64"][n]);
    rig.pass(10);
    rig.frames(IF0);
    let mut order: Vec<&Vec<u8>> = frames.iter().collect();
    let mut rng = Rng::from_seed(seed);
    for at in (1..order.len()).rev() {
        order.swap(at, rng.below(at as u32 + 1) as usize);
    }
    let mut found = None;
    for frame in order {
        let mut frame = frame.clone();
        frame[..6].copy_from_slice(&OWN[0].0);
        if let Input::Datagram(datagram) = rig.receive(&frame) {
            let l4 = usize::from(datagram.l4);
            found = Some(rig.bytes(datagram.chain).split_off(l4));
        }
    }
    assert_eq!(rig.core.stats.drops.total(), 0);
    rig.idle();
    found.unwrap()
}

#[test]
fn identifications_of_fragments_do_not_repeat_or_run_on() {
    let mut rig = Rig::new();
    let mut first = |dst: &str| {
        send(&mut rig, US[0], dst, &pattern(2000), false);
        let frame = rig.frames(IF0).remove(0);
        u16::from_be_bytes([frame[18], frame[19]])
    };
    let (a, b) = (first(THEM[0]), first(THEM[0]));
    assert_ne!(a, b);
    // RFC 7739 5: what one destination sees does not tell what another's are.
    assert!(first("203.0.113.5").abs_diff(b) > 8);

    let first = |seed: u8, dst: &str| {
        let mut rig = Rig::new();
        rig.net.idents = ident::Idents::new(SipKey([seed; 16]), &mut Rng::from_seed(5));
        let mut first = || {
            send(&mut rig, US[1], dst, &pattern(2000), false);
            let frame = rig.frames(IF0).remove(0);
            u32::from_be_bytes([frame[58], frame[59], frame[60], frame[61]])
        };
        (first(), first())
    };
    let (a, b) = first(1, THEM[1]);
    assert_ne!(a, b);
    assert!(first(1, "2001:db8::7").0.abs_diff(b) > 1000);
    assert!(first(2, THEM[1]).0.abs_diff(a) > 1000, "another secret");
}

#[test]
fn groups_have_their_own_link_addresses() {
    let mut rig = Rig::new();
    for (dst, mac) in [
        ("255.255.255.255", Mac::BROADCAST),
        ("10.0.0.255", Mac::BROADCAST),
        ("239.129.2.3", Mac([1, 0, 0x5e, 1, 2, 3])),
    ] {
        send(&mut rig, US[0], dst, b"x", true);
        let frame = rig.frames(IF0).remove(0);
        assert_eq!(frame[..6], mac.0, "{dst}");
    }
    let path = rig
        .net
        .route(&mut rig.core, ip("ff02::1:3"), Some(ip(US[1])), None)
        .unwrap();
    let (chain, facts) = handed(&mut rig, US[1], "ff02::1:3", b"x");
    rig.net.send(
        &mut rig.core,
        &path,
        &meta(US[1], "ff02::1:3"),
        chain,
        facts,
    );
    let packet = rig.net.interfaces[0].queue.pop_back().unwrap();
    assert_eq!(rig.bytes(packet.chain)[..6], [0x33, 0x33, 0, 1, 0, 3]);
    rig.idle();
}

#[test]
fn a_packet_for_an_unknown_neighbour_waits_for_the_answer() {
    let mut rig = Rig::new();
    send(&mut rig, US[0], "10.0.0.77", b"x", true);
    // The question alone, which is not IP.
    assert!(rig.frames(IF0).is_empty());
    assert_eq!(rig.core.pool.in_use(), 1);
    rig.pass(10);
    let report = rig.net.pop_report().unwrap();
    assert_eq!(
        (report.kind, report.remote),
        (ReportKind::HostUnreachable, ip("10.0.0.77"))
    );
    rig.frames(IF0);
    rig.idle();
}

#[test]
fn a_full_queue_takes_no_more() {
    let mut rig = Rig::new();
    for _ in 0..300 {
        send(&mut rig, US[0], THEM[0], b"x", true);
    }
    assert_eq!(rig.net.interfaces[0].queue.len(), 256);
    assert_eq!(rig.core.stats.drops.get(Drop::TransmitQueueFull), 44);
    for _ in 0..300 {
        send(&mut rig, US[0], US[0], b"x", true);
    }
    assert_eq!(rig.core.stats.drops.get(Drop::TransmitQueueFull), 88);
    rig.frames(IF0);
    while let Some((_, packet)) = rig.net.loopback_pop() {
        rig.core.pool.free(packet.chain);
    }
    rig.idle();
}

#[test]
fn what_is_for_this_host_comes_back() {
    let mut rig = Rig::new();
    for (src, dst) in [
        (US[0], US[0]),
        (US[0], "192.168.7.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.9.9.9"),
        (US[1], US[1]),
        ("fd07::1", US[1]),
        ("::1", "::1"),
    ] {
        // Longer than any link takes: nothing is cut here.
        let data = pattern(60_000);
        send(&mut rig, src, dst, &data, true);
        assert!(rig.frames(IF0).is_empty());
        let (interface, packet) = rig.net.loopback_pop().unwrap();
        assert_eq!(interface, InterfaceId::LOOPBACK);
        let Input::Datagram(datagram) = rig.net.input(&mut rig.core, interface, packet) else {
            panic!("{src} {dst}: {:?}", rig.core.stats.drops);
        };
        assert!(datagram.checksum_good);
        assert_eq!(
            (datagram.src, datagram.dst, datagram.group),
            (ip(src), ip(dst), false)
        );
        let l4 = usize::from(datagram.l4);
        assert!(rig.bytes(datagram.chain)[l4 + 8..] == data);
    }
    rig.idle();
}

#[test]
fn an_echo_to_oneself_is_answered() {
    let mut rig = Rig::new();
    for (n, addr) in ["127.0.0.1", "::1"].into_iter().enumerate() {
        let message = echo(addr, addr, b"x");
        let head = [20, 40][n];
        // Shared, as what a sender keeps is: it must not be written to.
        let mut chain = rig.core.pool.alloc(HEADROOM).unwrap();
        rig.core.pool.append_bytes(&mut chain, &message);
        let copy = rig.core.pool.share(&chain, 0, message.len()).unwrap();
        assert!(matches!(
            rig.net
                .input(&mut rig.core, InterfaceId::LOOPBACK, Packet::new(copy)),
            Input::Done
        ));
        assert_eq!(rig.bytes(chain), message);
        let (_, packet) = rig.net.loopback_pop().unwrap();
        let reply = rig.bytes(packet.chain);
        assert_eq!((reply[head], &reply[head + 8..]), ([0, 129][n], &b"x"[..]));
        let (interface, packet) = (InterfaceId::LOOPBACK, rig.chain(&reply));
        assert!(matches!(
            rig.net.input(&mut rig.core, interface, Packet::new(packet)),
            Input::Done
        ));
    }
    rig.idle();
}

#[test]
fn no_atomic_fragments_are_made() {
    // RFC 8021 4, RFC 8200 5: whatever a router says of its MTU, a packet that fits 1280 bytes has no fragment header.
    let mut rig = Rig::new();
    for mtu in [1280, 1279, 576, 0] {
        assert_eq!(rig.net.pmtu_update(&mut rig.core, ip(THEM[1]), mtu), 1280);
        for len in [1, 1232] {
            let data = pattern(len);
            send(&mut rig, US[1], THEM[1], &data, false);
            let frames = rig.frames(IF0);
            assert_eq!(frames.len(), 1);
            assert_eq!(frames[0][20], 17);
            assert_eq!(frames[0][22..], udp(US[1], THEM[1], &data)[8..]);
        }
    }
    rig.idle();
}

#[test]
fn nothing_leaves_with_a_ttl_of_zero() {
    let mut rig = Rig::new();
    for n in 0..2 {
        let (chain, facts) = handed(&mut rig, US[n], THEM[n], b"x");
        let path = rig
            .net
            .route(&mut rig.core, ip(THEM[n]), None, None)
            .unwrap();
        let meta = IpMeta {
            ttl: 0,
            ..meta(US[n], THEM[n])
        };
        rig.net.send(&mut rig.core, &path, &meta, chain, facts);
    }
    assert_eq!(rig.core.stats.drops.get(Drop::OutTtl), 2);
    assert!(rig.frames(IF0).is_empty());
    rig.idle();
}

/// The flow labels of frames.
fn labels(frames: &[Vec<u8>]) -> Vec<u32> {
    let label = |frame: &Vec<u8>| ipv6::Packet::new(&frame[14..]).unwrap().flow_label();
    frames.iter().map(label).collect()
}

#[test]
fn a_flow_keeps_its_label() {
    // RFC 6437 3: the same for all packets of a flow, fragments too; not 0; unlike others', and not to be guessed.
    let mut rig = Rig::new();
    let mut sent = |dst: &str, len| {
        send(&mut rig, US[1], dst, &pattern(len), false);
        labels(&rig.frames(IF0))
    };
    let first = sent(THEM[1], 10)[0];
    assert!((1..1 << 20).contains(&first));
    for len in [0, 1000, 9000] {
        assert!(sent(THEM[1], len).iter().all(|&label| label == first));
    }
    assert_ne!(sent("2001:db8::7", 10)[0], first);
    // Answers to echoes: one flow, whatever they carry.
    let mut answers = Vec::new();
    for data in [&b"one"[..], b"two two"] {
        let _ = rig.receive(&framed(&echo(THEM[1], US[1], data)));
        answers.extend(labels(&rig.frames(IF0)));
    }
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0] != 0 && answers[0] != first);
    // Another start, another key.
    rig.net.labels = label::Labels::new(&SipKey([8; 16]));
    send(&mut rig, US[1], THEM[1], b"x", true);
    assert_ne!(labels(&rig.frames(IF0)), [first]);
    rig.idle();
}
