//! Attacks and mistakes of the past, each by the name it is known by. What is not here: Ping of Death and Teardrop (`net`, with
//! reassembly), SegmentSmack, SYN floods, blind resets and challenges (`robust`), FIN and window games (`timers`).

use core::time::Duration;

use stack::{SocketError, State, TcpOptions};
use wire::tcp::{Options, Repr, Sack};
use wire::{Addr, ipv4};

use crate::rig::{ACK, FIN, Flags, Open, RST, Rig, SYN, Seg, config, nodelay, packet};

const HOST: Addr = Addr::v4(10, 0, 0, 1);
const PEER: Addr = Addr::v4(10, 0, 0, 2);

fn repr(src_port: u16, dst_port: u16, flags: Flags) -> Repr {
    Repr {
        src_port,
        dst_port,
        seq: 999,
        ack: None,
        flags,
        window: 1000,
        urgent: 0,
        options: Options::default(),
    }
}

/// Land (1997): a SYN that claims to come from the socket it goes to.
#[test]
fn land() {
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    for from in [HOST, Addr::v4(127, 0, 0, 1)] {
        rig.raw(&packet(&repr(80, 80, SYN), &[], from, HOST));
        rig.raw(&packet(&repr(80, 80, SYN | FIN), &[], from, HOST));
        rig.silence();
    }
    rig.assert_empty_but_listener();
}

/// Rose (FragmentSmack's kin, CVE-2018-5391): first and last fragments of datagrams whose middles never come.
#[test]
fn rose() {
    let config = config();
    let most = config.reassembly_blocks;
    let mut rig = Rig::with(config);
    let fragment = |ident: u16, offset: usize, last: bool| {
        let ip = ipv4::Repr {
            more_fragments: !last,
            fragment_offset: offset as u16,
            ident,
            ..ipv4::Repr::new(PEER, HOST, 17, 64, 32)
        };
        let mut frame = packet(&repr(1, 2, SYN), &[], PEER, HOST)[..14].to_vec();
        frame.resize(14 + 20 + 32, 0);
        ip.emit(&mut frame[14..]);
        frame
    };
    for ident in 0..5_000 {
        rig.raw(&fragment(ident, 0, false));
        rig.raw(&fragment(ident, 64_800, true));
        for hole in 1..20 {
            rig.raw(&fragment(ident, hole * 64, false));
        }
        assert!(rig.host.net_occupancy().reassembly_blocks <= most);
        assert!(rig.host.pool().in_use() <= most);
    }
    rig.advance(Duration::from_secs(61));
    while rig.next().is_some() {}
    assert_eq!(rig.host.pool().in_use(), 0);
}

/// SACK Panic and SACK Slowness (CVE-2019-11477 to 11479): tiny segments, and SACKs that take them apart.
#[test]
fn sack_panic() {
    for mss in [8, 16, 24, 36, 47, 48] {
        let mut rig = Rig::new();
        let syn = Options {
            mss: Some(mss),
            sack_permitted: true,
            ..Options::default()
        };
        let open = rig.accepted_with(&nodelay(), syn);
        assert_eq!(rig.write(&open, &[7; 20_000]), 20_000);
        let mut una = open.host;
        for round in 0..3_000u32 {
            let sent = rig.host.tcp_info(open.socket).unwrap().unacknowledged;
            if una == open.host + 20_000 {
                break;
            }
            // Three blocks of single bytes somewhere in flight, and now and then a segment's worth is acknowledged.
            let mut sack = Sack::EMPTY;
            for n in 1..4 {
                let at = una + (round * 7 + n * 5) % sent.max(1);
                sack.push((at, at + 1));
            }
            una += if round % 3 == 0 { sent.min(48) } else { 0 };
            let options = Options {
                sack,
                ..Options::default()
            };
            rig.send_with(open.peer, una, ACK, &[], options);
            let mut answers = 0;
            while let Some(seg) = rig.next() {
                assert!(seg.data.len() <= 48, "MSS {mss}");
                answers += 1;
            }
            assert!(answers < 600, "{answers} segments for one ACK");
            assert!(rig.host.tcp_occupancy().ranges <= 256);
            rig.ms(10);
        }
        rig.send(open.peer, open.host + 20_000, ACK, &[]);
        rig.send(open.peer, open.host, RST, &[]);
        rig.host.close(rig.now, open.socket).unwrap();
        rig.pump();
        rig.assert_empty_but_listener();
    }
}

/// Optimistic ACKs (Savage 1999): what was not sent yet cannot be acknowledged; what was may be, however early.
#[test]
fn optimistic_acks() {
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 60_000]);
    while rig.next().is_some() {}
    let before = rig.host.tcp_info(open.socket).unwrap();
    for ahead in [1, 1460, 30_000, 1 << 30] {
        let ack = open.host.wrapping_add(before.unacknowledged + ahead);
        rig.send(open.peer, ack, ACK, &[]);
    }
    let after = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!(
        (after.cwnd, after.unacknowledged),
        (before.cwnd, before.unacknowledged)
    );
    while let Some(seg) = rig.next() {
        assert!(seg.data.is_empty());
    }
    // Divided ACKs: a window is not opened once for every byte of a segment.
    for n in 1..=1460 {
        rig.send(open.peer, open.host.wrapping_add(n), ACK, &[]);
    }
    let divided = rig.host.tcp_info(open.socket).unwrap();
    assert!(divided.cwnd <= before.cwnd + 1460, "{} bytes", divided.cwnd);
}

/// TCP split handshake (2010): the server answers with a SYN of its own. That is a simultaneous open, and nothing else.
#[test]
fn split_handshake() {
    let mut rig = Rig::new();
    let (socket, syn) = rig.connect(&TcpOptions::default());
    let port = syn.src_port;
    rig.send_to(port, 4000, syn.seq + 1, ACK, &[], Options::default());
    assert_eq!(rig.host.tcp_state(socket), Ok(State::SynSent));
    rig.silence();
    rig.send_to(port, 4000, 0, SYN, &[], Options::default());
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK) && (answer.seq, answer.ack) == (syn.seq, 4001));
    rig.send_to(port, 4001, syn.seq + 1, ACK, b"hi", Options::default());
    assert_eq!(rig.host.tcp_state(socket), Ok(State::Established));
    assert_eq!(rig.read(socket), Ok(b"hi".to_vec()));
}

/// Sockstress (2008): connections by the hundred whose windows stay closed, with data waiting for each.
#[test]
fn sockstress() {
    let mut rig = Rig::new();
    let listener = rig.listen(256, &TcpOptions::default());
    let mut sockets = Vec::new();
    rig.window = 0;
    for port in 6000..6200 {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[]);
        let answer = rig.expect();
        rig.send(1000, answer.seq + 1, ACK, &[]);
        let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
        let open = Open {
            socket,
            host: answer.seq + 1,
            peer: 1000,
        };
        rig.write(&open, &[1; 1000]);
        sockets.push((port, open));
    }
    let held = rig.host.pool().in_use();
    assert!(held <= 2 * 200);
    // The application gives up after a minute; the peers answer probes as long as anyone asks.
    rig.advance(Duration::from_secs(60));
    for (_, open) in &sockets {
        rig.host.close(rig.now, open.socket).unwrap();
    }
    for _ in 0..40 {
        rig.advance(Duration::from_secs(60));
        while let Some(Seg { dst_port, .. }) = rig.next() {
            let (port, open) = &sockets[usize::from(dst_port - 6000)];
            rig.peer_port = *port;
            if rig.host.tcp_occupancy().connections > 0 {
                rig.send(open.peer, open.host, ACK, &[]);
            }
        }
    }
    rig.assert_empty_but_listener();
    let late = rig.host.tcp_send(rig.now, sockets[0].1.socket, b"x");
    assert_eq!(late, Err(SocketError::BadSocket));
}

/// NAME:WRECK and its kin (2021): lengths in headers that lie. Every kind of option with every length, at the end of its area
/// and before others; every header length.
#[test]
fn lengths_that_lie() {
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    let mut tcp = |area: &[u8], words: u8| {
        let mut frame = packet(&repr(5000, 80, SYN), area, PEER, HOST);
        let (ip, header) = (14, 34);
        frame[header + 12] = words << 4;
        let len = (frame.len() - header) as u32;
        frame[header + 16..header + 18].fill(0);
        let sum = wire::checksum::pseudo(&PEER, &HOST, 6, len).add_bytes(&frame[header..]);
        let sum = sum.finish().to_be_bytes();
        frame[header + 16..header + 18].copy_from_slice(&sum);
        assert_eq!(frame[ip] >> 4, 4);
        rig.raw(&frame);
        let answer = rig.next();
        let answered = answer.is_some();
        if let Some(answer) = answer {
            assert!(answer.is(SYN | ACK) && answer.ack == 1000);
            let options = &answer.options;
            assert!(options.mss.is_some_and(|mss| mss == 1460));
            rig.send(1000, 0, RST, &[]);
        }
        rig.silence();
        rig.assert_empty_but_listener();
        answered
    };
    for kind in 0..=255u8 {
        for len in (0..=41).chain([255]) {
            assert!(tcp(&[1, 1, kind, len], 6), "option {kind} of {len} bytes");
            assert!(tcp(&[kind, len, 0, 0, 2, 4, 5, 180], 7));
        }
    }
    for words in 0..16 {
        assert_eq!(
            tcp(&[0; 8], words),
            (5..=7).contains(&words),
            "{words} words"
        );
    }
}

/// Whatever flags and numbers a segment has, to whatever socket: at most one answer, no longer than the segment (but for a
/// SYN-ACK), and no reset for a reset (RFC 9293 3.5.2).
#[test]
fn at_most_one_answer_no_longer_and_no_reset_for_a_reset() {
    let length = |seg: &Seg| seg.options.buffer_len().next_multiple_of(4) + seg.data.len();
    for state in 0..5 {
        for bits in 0..=255u16 {
            for (seq, ack) in [
                (0, 0),
                (1, 0),
                (0, 1),
                (1 << 31, 0),
                (0, 1 << 31),
                (u32::MAX, u32::MAX),
            ] {
                let mut rig = Rig::new();
                let (mut host, mut peer, mut port) = (5, 1000, 80);
                match state {
                    0 => port = 81, // nobody
                    1 => drop(rig.listen(8, &TcpOptions::default())),
                    2 => {
                        rig.listen(8, &TcpOptions::default());
                        rig.send(999, 0, SYN, &[]);
                        host = rig.expect().seq + 1;
                    }
                    _ => {
                        let open = rig.accepted(&TcpOptions::default());
                        (host, peer) = (open.host, open.peer);
                        if state == 4 {
                            rig.send(peer, host, ACK, b"x");
                            rig.send(peer + 1, host, FIN | ACK, &[]);
                            peer += 2;
                            while rig.next().is_some() {}
                        }
                    }
                }
                let flags = Flags(bits);
                let (seq, ack) = (peer.wrapping_add(seq), ack.wrapping_add(host));
                rig.send_to(port, seq, ack, flags, &[], Options::default());
                if let Some(answer) = rig.next() {
                    let what = format!("{flags:?} in state {state}: {answer:?}");
                    assert!(answer.has(SYN | ACK) || length(&answer) == 0, "{what}");
                    assert!(!(answer.has(RST) && flags.contains(RST)), "{what}");
                    assert!(state > 1 || !flags.contains(RST), "{what}");
                }
                rig.silence();
            }
        }
    }
}

/// URGENT/11 (2019), and what AMNESIA:33 (2020) has of it: urgent pointers to nowhere, again and again, with SYNs, FINs and nothing.
/// The stream is what it is, and what is said to be left is never less than nothing.
#[test]
fn urgent_11() {
    for urgent in [0, 1, 2, 0x7fff, 0xffff] {
        let mut rig = Rig::new();
        let mut sound = repr(rig.peer_port, 80, Flags::URG | SYN);
        sound.urgent = urgent;
        rig.listen(8, &TcpOptions::default());
        rig.raw(&packet(&sound, &[], PEER, HOST));
        assert!(rig.expect().is(SYN | ACK));
        let mut rig = Rig::new();
        let open = rig.accepted(&TcpOptions::default());
        let send = |rig: &mut Rig, at: u32, flags: Flags, data: &[u8]| {
            let repr = Repr {
                seq: open.peer.wrapping_add(at),
                ack: Some(open.host),
                urgent,
                ..repr(rig.peer_port, 80, flags | Flags::URG)
            };
            rig.raw(&packet(&repr, data, PEER, HOST));
            let left = rig.host.tcp_urgent(open.socket).unwrap();
            assert!(left.is_none_or(|urgent| (1..=0x1_0010).contains(&urgent.left)));
        };
        let before = 0_u32.wrapping_sub(5);
        for (at, flags, data) in [
            (before, ACK, &b"old"[..]),
            (0, ACK, b""),
            (3, ACK, b"def"),
            (0, ACK, b"abc"),
            (0, ACK, b"abc"),
            (6, SYN | ACK, b""),
            (6, ACK, b"ghi"),
            (100_000, ACK, b"far"),
        ] {
            send(&mut rig, at, flags, data);
        }
        assert_eq!(rig.read(open.socket), Ok(b"abcdefghi".to_vec()));
        send(&mut rig, 9, FIN | ACK, b"");
        assert_eq!(rig.read(open.socket), Ok(vec![]));
        send(&mut rig, 10, ACK, b"");
        rig.host.abort(rig.now, open.socket).unwrap();
        while rig.next().is_some() {}
        rig.assert_empty_but_listener();
    }
}

/// CVE-2016-5696: whoever can count challenge ACKs of his own connection learns nothing of another's: no limit is shared.
#[test]
fn challenges_of_one_connection_tell_nothing_of_another() {
    let mut rig = Rig::new();
    let mine = rig.accepted(&TcpOptions::default());
    rig.peer_port += 1;
    rig.send(999, 0, SYN, &[]);
    let answer = rig.expect();
    let host = answer.seq + 1;
    rig.send(1000, host, ACK, &[]);
    for _ in 0..1000 {
        rig.send(1000 + 7, host, RST, &[]);
    }
    while rig.next().is_some() {}
    rig.peer_port -= 1;
    rig.send(mine.peer + 7, mine.host, RST, &[]);
    assert!(rig.expect().is(ACK), "the challenge of a thousand others");
}

/// CVE-2022-1012, CVE-2020-16166 (RFC 6056): the ports of connections to one destination tell nothing of those to others: not where
/// they begin, nor how many were made.
#[test]
fn ports_tell_nothing_of_other_destinations() {
    let mut rig = Rig::new();
    let mut port = |to: u8| {
        let to = format!("10.0.0.{to}:443").parse().unwrap();
        let options = TcpOptions::default();
        let socket = rig.host.tcp_connect(rig.now, to, None, &options).unwrap();
        rig.host.local_addr(socket).unwrap().port()
    };
    let (mut first, mut apart, mut regular) = (Vec::new(), 0, 0);
    for to in 10..42 {
        let (a, b) = (port(to), port(to));
        for other in 100..160 {
            port(other);
        }
        let c = port(to);
        apart += usize::from(first.iter().all(|p| c.abs_diff(*p) > 32));
        // How far it moved depends on this destination's own connections: who shared a counter with another by accident would
        // count that one's, and who knows which do would know this host again.
        regular += usize::from(c.wrapping_sub(b) <= 8 && b.wrapping_sub(a) <= 8);
        first.push(a);
    }
    assert!(apart >= 24 && regular == 32, "{apart}, {regular}");
}

/// RFC 2525 2.15 and 2.17: the end is said at once, and what was not read is not passed over.
#[test]
fn the_end_is_said_at_once() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, b"bye");
    rig.host.close(rig.now, open.socket).unwrap();
    let (mut fin, at) = (false, rig.now);
    while let Some(segment) = rig.next() {
        fin |= segment.has(FIN);
    }
    assert!(fin && rig.now == at, "without waiting for an ACK");
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, ACK, b"unread");
    rig.host.close(rig.now, open.socket).unwrap();
    while let Some(segment) = rig.next() {
        assert!(!segment.has(FIN));
        if segment.has(RST) {
            return;
        }
    }
    panic!("no reset");
}

/// RFC 9293 SHLD-2: what a reset says besides does not make it less of one.
#[test]
fn a_reset_may_carry_data() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, RST | ACK, b"why it was reset");
    rig.silence();
    assert_eq!(rig.read(open.socket), Err(SocketError::ConnectionReset));
}
