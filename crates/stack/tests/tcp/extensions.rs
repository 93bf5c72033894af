//! MUSTs of the RFCs of TCP's extensions that no other trace shows: SACK, congestion control, time stamps, ECN, Fast Open.

use core::time::Duration;

use stack::{Congestion, Count, SocketId, TcpOptions, Write};
use wire::tcp::{Options, Sack};

use crate::rig::{ACK, FIN, Flags, Open, RST, Rig, SECOND, SYN, Seg, config, marked, nodelay};

const MSS: u32 = 1460;
const ECE: Flags = Flags::ECE;
const CWR: Flags = Flags::CWR;
const CE: u8 = 3;
const ECT_0: u8 = 2;

fn with_sack() -> Options {
    Options {
        mss: Some(MSS as u16),
        sack_permitted: true,
        ..Options::default()
    }
}

fn sacked(blocks: &[(u32, u32)]) -> Options {
    let mut sack = Sack::EMPTY;
    for block in blocks {
        sack.push(*block);
    }
    Options {
        sack,
        ..Options::default()
    }
}

fn all(rig: &mut Rig) -> Vec<Seg> {
    core::iter::from_fn(|| rig.next()).collect()
}

fn cwnd(rig: &Rig, socket: SocketId) -> u32 {
    rig.host.tcp_info(socket).unwrap().cwnd
}

#[test]
fn who_did_not_permit_sack_gets_none() {
    // RFC 2018 4
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    for at in [2000, 5000, 5000, 8000] {
        rig.send(open.peer + at, open.host, ACK, &[1; 1000]);
        let ack = rig.expect();
        assert_eq!((ack.ack, ack.options.sack.len), (open.peer, 0));
    }
    // Nor is it believed from him: a duplicate ACK, no more.
    rig.write(&open, &[1; 10_000]);
    all(&mut rig);
    let said = sacked(&[(open.host + 1460, open.host + 10_000)]);
    rig.send_with(open.peer, open.host, ACK, &[], said);
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().sacked, MSS);
}

#[test]
fn after_a_timeout_the_first_segment_goes_again_though_it_was_sacked() {
    // RFC 2018 5
    let mut rig = Rig::new();
    let open = rig.accepted_with(&nodelay(), with_sack());
    rig.write(&open, &[1; 4380]);
    all(&mut rig);
    let said = sacked(&[(open.host, open.host + 4380)]);
    rig.send_with(open.peer, open.host, ACK, &[], said);
    let mut again = Vec::new();
    for _ in 0..50 {
        rig.ms(100);
        again.extend(all(&mut rig));
    }
    assert!(again.iter().any(|s| s.seq == open.host), "{again:?}");
}

#[test]
fn a_duplicate_is_reported_once() {
    // RFC 2883 4
    let mut rig = Rig::new();
    let open = rig.accepted_with(&nodelay(), with_sack());
    rig.send(open.peer, open.host, ACK, &[1; 100]);
    rig.expect();
    rig.send(open.peer, open.host, ACK, &[1; 100]);
    let told = (open.peer, open.peer + 100);
    assert_eq!(rig.expect().options.sack.as_slice(), [told]);
    rig.send(open.peer + 100, open.host, ACK, &[1; 100]);
    assert_eq!(rig.expect().options.sack.len, 0);
    rig.send(open.peer + 300, open.host, ACK, &[1; 100]);
    assert!(!rig.expect().options.sack.as_slice().contains(&told));
}

#[test]
fn the_handshake_does_not_open_the_window() {
    // RFC 5681 3.1: neither the SYN-ACK nor its ACK.
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    assert_eq!(cwnd(&rig, open.socket), 10 * MSS);
    let (socket, syn) = rig.connect(&TcpOptions::default());
    rig.send_to(syn.src_port, 300, syn.seq + 1, SYN | ACK, &[], with_sack());
    assert_eq!(cwnd(&rig, socket), 10 * MSS);
}

#[test]
fn a_segment_is_acknowledged_once() {
    // RFC 5681 4.2: no more than one ACK for each that comes, but for the window that reading opens.
    let mut rig = Rig::new();
    let open = rig.accepted_with(&nodelay(), with_sack());
    let mut at = 0x1234_5678_u32;
    let (mut came, mut answers, mut next) = (0, 0, 0);
    for round in 0..4000 {
        at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // In order, out of order, again, beyond the window, and half of each.
        let seq = match at >> 29 {
            0..=3 => next,
            4 | 5 => next + (at >> 8) % 20_000,
            6 => next.saturating_sub((at >> 8) % 5000),
            _ => next + 100_000,
        };
        let len = (at >> 4) % MSS + 1;
        rig.send(open.peer + seq, open.host, ACK, &vec![1; len as usize]);
        came += 1;
        answers += all(&mut rig).len();
        assert!(answers <= came, "round {round}");
        if seq <= next && seq + len > next {
            next = seq + len;
        }
        if round % 50 == 0 {
            rig.ms(300);
            answers += all(&mut rig).len();
            assert!(answers <= came, "round {round}");
            let info = rig.host.tcp_info(open.socket).unwrap();
            if info.unread > 0 {
                next = next.max(info.unread);
            }
        }
    }
}

/// A flight of ten, its first lost, in `rounds` windows in a row; the threshold after each.
fn losses(rig: &mut Rig, open: &Open, rounds: usize) -> Vec<u32> {
    let (mut una, mut told) = (open.host, Vec::new());
    rig.write(open, &vec![1; 400_000]);
    let mut end = una;
    for _ in 0..rounds {
        for seg in all(rig) {
            end = end.max(seg.seq.wrapping_add(seg.data.len() as u32));
        }
        rig.ms(100);
        rig.send_with(open.peer, una, ACK, &[], sacked(&[(una + MSS, end)]));
        all(rig);
        told.push(rig.host.tcp_info(open.socket).unwrap().ssthresh);
        rig.ms(100);
        una = end;
        rig.send(open.peer, una, ACK, &[]);
    }
    told
}

#[test]
fn losses_in_two_windows_reduce_twice() {
    // RFC 5681 4.3
    let mut rig = Rig::new();
    rig.handshake_ms = 100;
    let options = TcpOptions {
        congestion: Some(Congestion::Reno),
        send_buffer: Some(1 << 20),
        ..nodelay()
    };
    let open = rig.accepted_with(&options, with_sack());
    let told = losses(&mut rig, &open, 3);
    assert_eq!(told[0], 5 * MSS);
    assert!(told[1] < told[0] && told[2] <= told[1], "{told:?}");
}

#[test]
fn the_second_timeout_keeps_the_threshold_of_the_first() {
    // RFC 5681 3.1 (4): half of what was in flight, and held while the same is sent again.
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let options = TcpOptions {
        congestion: Some(Congestion::Reno),
        ..nodelay()
    };
    let open = rig.accepted(&options);
    rig.write(&open, &[1; 8 * MSS as usize]);
    all(&mut rig);
    for n in 1..=4 {
        rig.ms(1000 << (n - 1));
        rig.ms(100);
        let info = rig.host.tcp_info(open.socket).unwrap();
        assert_eq!(rig.host.stats().counts.get(Count::TcpTimeouts), n);
        assert_eq!((info.ssthresh, info.cwnd), (4 * MSS, MSS));
    }
}

#[test]
fn duplicates_that_tell_nothing_let_nothing_out() {
    // RFC 3042 2: with SACK only news lets new data out; and never more than the peer's window takes.
    let mut rig = Rig::new();
    let open = rig.accepted_with(&nodelay(), with_sack());
    rig.write(&open, &[1; 60_000]);
    assert_eq!(all(&mut rig).len(), 10);
    for _ in 0..2 {
        rig.send(open.peer, open.host, ACK, &[]);
        rig.silence();
    }
    let news = sacked(&[(open.host + MSS, open.host + 2 * MSS)]);
    rig.send_with(open.peer, open.host, ACK, &[], news);
    assert_eq!(all(&mut rig).len(), 1);
    rig.send_with(open.peer, open.host, ACK, &[], news);
    rig.silence();
    // As much as the window takes, and it is full.
    let mut rig = Rig::new();
    rig.window = 10 * MSS as u16;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 60_000]);
    assert_eq!(all(&mut rig).len(), 10);
    rig.send(open.peer, open.host, ACK, &[]);
    rig.send(open.peer, open.host, ACK, &[]);
    rig.silence();
}

#[test]
fn stamps_nobody_agreed_on_are_ignored() {
    // RFC 7323 3.2
    let mut rig = Rig::new();
    let open = rig.accepted_with(&nodelay(), with_sack());
    for (n, value) in [(0, 5_000_000), (1, 5), (2, 4_000_000_000)] {
        let options = Options {
            timestamps: Some((value, 77)),
            ..Options::default()
        };
        rig.send_with(open.peer + n, open.host, ACK, b"a", options);
        let ack = rig.expect();
        assert_eq!((ack.ack, ack.options.timestamps), (open.peer + n + 1, None));
    }
    assert_eq!(rig.read(open.socket), Ok(b"aaa".to_vec()));
    rig.write(&open, b"y");
    assert_eq!(rig.expect().options.timestamps, None);
}

#[test]
fn windows_are_scaled_when_both_say_so_only() {
    // RFC 7323 2.2
    let big = TcpOptions {
        receive_buffer: Some(1 << 20),
        ..nodelay()
    };
    let mut rig = Rig::new();
    rig.window = 2000;
    let (socket, syn) = rig.connect(&big);
    assert!(syn.options.window_scale.is_some());
    rig.send_to(syn.src_port, 300, syn.seq + 1, SYN | ACK, &[], with_sack());
    assert_eq!(rig.expect().window, 65_535, "as it is");
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!((info.window_scales, info.send_window), ((0, 0), 2000));
}

#[test]
fn what_was_once_offered_is_taken() {
    // RFC 7323 2.4: in the window of any ACK that was sent, though the buffer is smaller by now, unless
    // more waits than it holds: see `data`.
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(40_000),
        ..nodelay()
    };
    let open = rig.accepted(&options);
    rig.send(open.peer, open.host, ACK, &[1; 1000]);
    let ack = rig.expect();
    let edge = ack.ack + u32::from(ack.window);
    rig.host
        .tcp_set_options(rig.now, open.socket, |o| o.receive_buffer = Some(4096))
        .unwrap();
    let (mut at, mut read) = (open.peer + 1000, 0);
    while at < edge {
        let len = (edge - at).min(MSS);
        rig.send(at, open.host, ACK, &vec![1; len as usize]);
        at += len;
        all(&mut rig);
        read += rig.read(open.socket).unwrap().len() as u32;
    }
    assert_eq!(read, edge - open.peer);
}

#[test]
fn an_echo_that_acknowledges_nothing_is_no_sample() {
    // RFC 7323 4.1
    let mut rig = Rig::new();
    let stamp = |value, echo| Options {
        timestamps: Some((value, echo)),
        ..Options::default()
    };
    let syn = Options {
        mss: Some(MSS as u16),
        ..stamp(10, 0)
    };
    let open = rig.accepted_with(&nodelay(), syn);
    rig.write(&open, b"x");
    let sent = rig.expect().options.timestamps.unwrap().0;
    rig.ms(100);
    rig.send_with(open.peer, open.host + 1, ACK, &[], stamp(20, sent));
    let before = rig.host.tcp_info(open.socket).unwrap();
    for n in 0..20 {
        rig.ms(1000);
        rig.send_with(open.peer + n, open.host + 1, ACK, b"y", stamp(30 + n, sent));
        rig.send_with(
            open.peer + n + 1,
            open.host + 1,
            ACK,
            b"",
            stamp(30 + n, sent),
        );
    }
    let after = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!((after.rtt, after.rto), (before.rtt, before.rto));
}

fn ecn(value: u32) -> Rig {
    let mut config = config();
    config.tcp.ecn = value;
    Rig::with(config)
}

/// A connection the peer asked for, with classic ECN.
fn speaking(rig: &mut Rig, options: &TcpOptions) -> Open {
    let listener = rig.listen(8, options);
    rig.send_with(999, 0, SYN | ECE | CWR, &[], with_sack());
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK | ECE));
    rig.send(1000, answer.seq + 1, ACK, &[]);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    Open {
        socket,
        host: answer.seq + 1,
        peer: 1000,
    }
}

#[test]
fn who_was_not_answered_with_ecn_marks_nothing() {
    // RFC 3168 6.1.1
    for (answers, spoken) in [(Flags(0), false), (ECE, true)] {
        let mut rig = ecn(1);
        let (socket, syn) = rig.connect(&nodelay());
        assert!(syn.has(ECE | CWR));
        let to = (syn.src_port, 300, syn.seq + 1);
        rig.send_to(to.0, to.1, to.2, SYN | ACK | answers, &[], with_sack());
        rig.expect();
        rig.host.tcp_send(rig.now, socket, b"data").unwrap();
        let data = rig.expect();
        assert_eq!(data.tos == ECT_0, spoken);
        assert!(!data.has(CWR) && !data.has(ECE));
        // And what comes with marks is answered as was agreed.
        let frame = rig.frame(to.0, 301, to.2 + 4, ACK, b"data", Options::default());
        rig.raw(&marked(frame, CE));
        rig.ms(300);
        assert_eq!(rig.expect().has(ECE), spoken);
    }
}

#[test]
fn marks_count_on_data_within_the_window_only() {
    // RFC 3168 6.1.3 to 6.1.5: not on a bare ACK, nor on what came before or lies beyond the window.
    let mut rig = Rig::new();
    let open = speaking(&mut rig, &nodelay());
    let mut send = |at: u32, data: &[u8]| {
        let seq = open.peer.wrapping_add(at);
        let frame = rig.frame(80, seq, open.host, ACK, data, Options::default());
        rig.raw(&marked(frame, CE));
        rig.ms(300);
        all(&mut rig).iter().any(|ack| ack.has(ECE))
    };
    assert!(!send(0, b""));
    assert!(!send(70_000_000, &[1; 100]));
    assert!(!send(0_u32.wrapping_sub(100), &[1; 100]));
    assert!(send(0, &[1; 100]));
}

#[test]
fn probes_are_not_capable_of_marks() {
    // RFC 3168 6.1.6
    let mut rig = Rig::new();
    let open = speaking(&mut rig, &nodelay());
    rig.write(&open, &[1; 1000]);
    assert_eq!(rig.expect().tos, ECT_0);
    rig.window = 0;
    rig.send(open.peer, open.host + 1000, ACK, &[]);
    rig.write(&open, &[1; 1000]);
    rig.advance(Duration::from_secs(20));
    let probes = all(&mut rig);
    assert!(probes.len() > 2 && probes.iter().all(|p| p.tos == 0));
}

#[test]
fn resets_and_fins_alone_are_not_capable_of_marks() {
    // RFC 3168 6.1.4 for what carries no data.
    let mut rig = Rig::new();
    let open = speaking(&mut rig, &nodelay());
    rig.host
        .tcp_shutdown(rig.now, open.socket, stack::Shutdown::Write)
        .unwrap();
    let fin = rig.expect();
    assert!(fin.has(FIN) && fin.tos == 0);
    rig.host.abort(rig.now, open.socket).unwrap();
    let reset = rig.expect();
    assert!(reset.has(RST) && reset.tos == 0);
}

#[test]
fn a_window_of_one_segment_is_not_reduced_by_marks_to_nothing() {
    // RFC 3168 6.1.2, RFC 8257 3.3: two segments are what is left, and sending goes on.
    for congestion in [Congestion::Reno, Congestion::Cubic, Congestion::Dctcp] {
        let mut rig = Rig::new();
        let options = TcpOptions {
            congestion: Some(congestion),
            ..nodelay()
        };
        let open = speaking(&mut rig, &options);
        rig.write(&open, &[1; 60_000]);
        let mut una = open.host;
        for _ in 0..40 {
            let Some(last) = all(&mut rig).pop() else {
                rig.ms(300);
                continue;
            };
            rig.ms(10);
            una = una.max(last.seq.wrapping_add(last.data.len() as u32));
            rig.send(open.peer, una, ACK | ECE, &[]);
        }
        assert!(una.wrapping_sub(open.host) >= 60_000, "{congestion:?}");
        assert!(cwnd(&rig, open.socket) >= MSS);
    }
}

#[test]
fn fast_open_is_for_who_asks_for_it() {
    // RFC 7413 2.1, 6.3: data may come twice, so no application gets it unasked.
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    let mut tunables = rig.host.tcp_tunables();
    tunables.set("tcp_fastopen", 3).unwrap();
    rig.host.set_tcp_tunables(tunables).unwrap();
    let asks = Options {
        fast_open: Some(wire::tcp::FastOpen::REQUEST),
        ..with_sack()
    };
    rig.send_with(999, 0, SYN, b"early", asks);
    let answer = rig.expect();
    assert_eq!((answer.ack, answer.options.fast_open), (1000, None));
    let (_, syn) = rig.connect(&TcpOptions::default());
    assert!(syn.options.fast_open.is_none() && syn.data.is_empty());
}

#[test]
fn a_server_that_once_answered_without_accurate_ecn_marks_nothing() {
    // RFC 9768 3.1.5: MUST NOT set ECT if it has received or sent one SYN or SYN-ACK without during the handshake.
    const AE: Flags = Flags::AE;
    let mut rig = ecn(3);
    let listener = rig.listen(8, &nodelay());
    rig.send_with(999, 0, SYN | AE | ECE | CWR, &[], with_sack());
    let first = rig.expect();
    rig.ms(1100);
    rig.expect();
    rig.ms(2100);
    let third = rig.expect();
    assert!(third.is(SYN | ACK), "{third:?}");
    rig.send(1000, first.seq + 1, ACK | CWR, &[]); // as of a SYN-ACK without a mark
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert!(rig.host.tcp_info(socket).unwrap().accurate_ecn.is_some());
    rig.host
        .tcp_send_with(rig.now, socket, &[1; 100], Write::default())
        .unwrap();
    assert_eq!(rig.expect().tos, 0);
}

#[test]
fn both_may_open_with_accurate_ecn() {
    // RFC 9768 3.1.2: whose SYN is answered by a SYN is what he would be, had he listened.
    const AE: Flags = Flags::AE;
    for (theirs, accurate, classic) in [
        (AE | CWR | ECE, true, false),
        (CWR | ECE, false, true),
        (Flags(0), false, false),
    ] {
        let mut rig = ecn(3);
        let (socket, syn) = rig.connect(&nodelay());
        assert!(syn.has(AE | CWR | ECE));
        rig.send_to(syn.src_port, 300, 0, SYN | theirs, &[], with_sack());
        let answer = rig.expect();
        let expected = match (accurate, classic) {
            (true, _) => CWR, // the SYN came without a mark
            (_, true) => ECE,
            _ => Flags(0),
        };
        assert!(answer.is(SYN | ACK | expected), "{theirs:?}: {answer:?}");
        rig.send_to(
            syn.src_port,
            301,
            syn.seq + 1,
            ACK | expected,
            &[],
            Options::default(),
        );
        let info = rig.host.tcp_info(socket).unwrap();
        assert_eq!(info.accurate_ecn.is_some(), accurate, "{theirs:?}");
        assert_eq!(info.ecn, accurate || classic, "{theirs:?}");
    }
}
