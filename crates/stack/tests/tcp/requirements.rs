//! Requirements of RFC 9293 that other traces touch, but would not fail without: each here by its number.

use core::time::Duration;

use stack::{Keepalive, SocketError, State, TcpOptions};
use wire::Addr;
use wire::tcp::{Options, Repr};

use crate::rig::{ACK, LOCAL, REMOTE, RST, Rig, SYN, config, in_ip, nodelay, packet};

const KEEPALIVE: Keepalive = Keepalive {
    idle: Duration::from_secs(10),
    interval: Duration::from_secs(2),
    probes: 3,
};

/// Times, in milliseconds from now, at which the host sends within `seconds`, and what.
fn sent(rig: &mut Rig, seconds: u64) -> Vec<(u64, u32, usize)> {
    let (start, mut all) = (rig.now, Vec::new());
    for _ in 0..seconds * 100 {
        rig.ms(10);
        while let Some(seg) = rig.next() {
            all.push((
                (rig.now - start).as_millis() as u64,
                seg.seq,
                seg.data.len(),
            ));
        }
    }
    all
}

#[test]
fn initial_numbers_hang_on_a_secret_of_the_host() {
    // MUST-9, SHLD-1: the same clock and the same tuples, but another secret.
    let numbers = |seed| {
        let mut rig = Rig::seeded(config(), seed);
        rig.listen(64, &TcpOptions::default());
        let mut number = |port| {
            rig.peer_port = port;
            rig.send(999, 0, SYN, &[]);
            rig.expect().seq
        };
        let passive = [number(1), number(2), number(3)];
        let (_, syn) = rig.connect(&TcpOptions::default());
        (passive, syn.seq)
    };
    let ((a, active_a), (b, active_b)) = (numbers(7), numbers(8));
    assert_eq!(numbers(7), (a, active_a));
    assert!((0..3).all(|n| a[n] != b[n]) && active_a != active_b);
    // Not by a constant either: what one connection's number says of another's is the secret's.
    assert_ne!(a[1].wrapping_sub(a[0]), b[1].wrapping_sub(b[0]));
    assert_ne!(a[2].wrapping_sub(a[1]), a[1].wrapping_sub(a[0]));
}

#[test]
fn time_wait_lasts_for_two_msl_and_no_longer() {
    // MUST-13
    let mut rig = Rig::new();
    rig.time_wait();
    rig.advance(Duration::from_millis(59_500));
    assert_eq!(rig.host.tcp_occupancy().time_wait, 1);
    rig.ms(1500);
    rig.assert_empty_but_listener();
}

#[test]
fn keepalive_is_switched_while_a_connection_lives() {
    // MUST-24
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let switch = |rig: &mut Rig, to| {
        rig.host
            .tcp_set_options(rig.now, open.socket, |o| o.keepalive = to)
            .unwrap();
    };
    assert_eq!(sent(&mut rig, 100), []);
    switch(&mut rig, Some(KEEPALIVE));
    rig.advance(Duration::from_secs(11));
    assert!(rig.expect().data.is_empty());
    rig.send(open.peer, open.host, ACK, &[]);
    switch(&mut rig, None);
    assert_eq!(sent(&mut rig, 100), []);
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
}

#[test]
fn keepalive_is_silent_while_anything_is_outstanding_or_arrives() {
    // MUST-26
    let mut rig = Rig::new();
    let options = TcpOptions {
        keepalive: Some(KEEPALIVE),
        ..nodelay()
    };
    let open = rig.accepted(&options);
    rig.write(&open, b"x");
    rig.expect();
    let probe = open.host.wrapping_sub(1);
    for (_, seq, len) in sent(&mut rig, 40) {
        assert!(
            seq == open.host && len == 1 && seq != probe,
            "only what is outstanding"
        );
    }
    // Data and ACKs of the peer put it off.
    rig.send(open.peer, open.host + 1, ACK, &[]);
    for n in 0..6 {
        rig.advance(Duration::from_secs(6));
        rig.silence();
        let data: &[u8] = if n % 2 == 0 { b"y" } else { b"" };
        rig.send(open.peer + u32::div_ceil(n, 2), open.host + 1, ACK, data);
        rig.ms(100);
        while let Some(ack) = rig.next() {
            assert_eq!(ack.seq, open.host + 1);
        }
    }
    rig.advance(Duration::from_secs(11));
    assert_eq!(rig.expect().seq, open.host);
}

#[test]
fn a_window_that_shrinks_to_zero_is_probed() {
    // MUST-35: with data in flight beyond the edge that was taken back.
    let mut rig = Rig::new();
    rig.window = 3000;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 5000]);
    while rig.next().is_some() {}
    rig.window = 0;
    rig.send(open.peer, open.host + 1000, ACK, &[]);
    let (mut asked, mut last) = (0, rig.now);
    for _ in 0..3600 {
        rig.ms(1000);
        while let Some(seg) = rig.next() {
            assert!(
                seg.seq.wrapping_sub(open.host) <= 1000,
                "the first byte there is, or below"
            );
            asked += 1;
            assert!((rig.now - last).as_secs() <= 121);
            last = rig.now;
            rig.send(open.peer, open.host + 1000, ACK, &[]);
        }
    }
    assert!(asked >= 30, "{asked}");
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
    rig.window = 10_000;
    rig.send(open.peer, open.host + 1000, ACK, &[]);
    let mut end = 0;
    for _ in 0..20 {
        while let Some(seg) = rig.next() {
            end = seg.seq.wrapping_sub(open.host) + seg.data.len() as u32;
            rig.send(open.peer, open.host + end, ACK, &[]);
        }
        rig.ms(300);
    }
    assert_eq!(end, 5000);
}

#[test]
fn a_closed_window_is_first_probed_after_a_timeout_then_ever_more_rarely() {
    // SHLD-29, SHLD-30
    let mut rig = Rig::new();
    rig.handshake_ms = 100; // a timeout of 300 ms
    rig.window = 1000;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 3000]);
    rig.expect();
    rig.window = 0;
    rig.send(open.peer, open.host + 1000, ACK, &[]);
    let rto = rig.host.tcp_info(open.socket).unwrap().rto.as_millis() as u64;
    let mut at = Vec::new();
    let start = rig.now;
    for _ in 0..10_000 {
        rig.ms(10);
        while rig.next().is_some() {
            at.push((rig.now - start).as_millis() as u64);
            rig.send(open.peer, open.host + 1000, ACK, &[]);
        }
    }
    assert!((rto..=rto + 20).contains(&at[0]), "{rto}: {at:?}");
    for gap in at.windows(3).map(|w| ((w[1] - w[0]), (w[2] - w[1]))) {
        assert!(gap.1.abs_diff(2 * gap.0) <= 40, "doubled: {at:?}");
    }
    assert!(at.len() >= 6, "{at:?}");
}

#[test]
fn nothing_is_given_up_before_a_hundred_seconds() {
    // SHLD-11, and MUST-20's R2 by Linux's count: 15 times, some 15 minutes.
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    rig.write(&open, b"anyone?");
    rig.expect();
    let all = sent(&mut rig, 1200);
    assert_eq!(all.len(), 15 + 1, "and a reset");
    assert!(all.last().unwrap().0 > 900_000);
    assert_eq!(rig.read(open.socket), Err(SocketError::TimedOut));
}

#[test]
fn groups_open_nothing_over_ipv6_either() {
    // MUST-57, MUST-63
    let mut rig = Rig::new();
    rig.add_address("fd00::1/64");
    let any = "[::]:80".parse().unwrap();
    rig.host
        .tcp_listen(rig.now, any, 8, &TcpOptions::default())
        .unwrap();
    let addr = |text: &str| -> Addr { text.parse().unwrap() };
    let before = rig.host.stats().counts.get(stack::Count::TcpSegmentsOut);
    for (src, dst) in [
        ("fd00::2", "ff02::1"),
        ("fd00::2", "ff02::1:ff00:1"),
        ("ff02::1", "fd00::1"),
        ("::", "fd00::1"),
        ("::1", "fd00::1"),
    ] {
        let syn = Repr {
            src_port: 9,
            dst_port: 80,
            seq: 999,
            ack: None,
            flags: SYN,
            window: 1000,
            urgent: 0,
            options: Options::default(),
        };
        rig.raw(&packet(&syn, &[], addr(src), addr(dst)));
        rig.silence();
        assert_eq!(rig.host.tcp_occupancy().half_open, 0, "{src} {dst}");
    }
    let after = rig.host.stats().counts.get(stack::Count::TcpSegmentsOut);
    assert_eq!(after, before);
}

#[test]
fn a_silly_window_is_not_said_when_asked_either() {
    // MUST-39: the edge stays where it is until there is a segment's room, whatever makes an ACK go out.
    let mut rig = Rig::new();
    let open = rig.full();
    let mut small = [0; 100];
    for read in 1..=20 {
        rig.host.tcp_recv(rig.now, open.socket, &mut small).unwrap();
        while rig.next().is_some() {}
        // A window probe of the peer's.
        rig.send(open.peer + 8759, open.host, ACK, &[7]);
        let window = rig.expect().window;
        if read < 14 {
            assert_eq!(window, 0, "{read} reads");
        } else {
            assert!(window == 0 || window >= 1460, "{window}");
        }
    }
}

#[test]
fn a_new_listener_leaves_earlier_connections_alone() {
    // MUST-41
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    let open = rig.accepted_by(listener, Options::default());
    let again = LOCAL.parse().unwrap();
    let options = TcpOptions::default();
    let refused = rig.host.tcp_listen(rig.now, again, 8, &options);
    assert_eq!(refused, Err(SocketError::AddrInUse));
    rig.host.close(rig.now, listener).unwrap();
    rig.host.tcp_listen(rig.now, again, 8, &options).unwrap();
    rig.silence();
    rig.send(open.peer, open.host, ACK, b"as before");
    assert_eq!(rig.read(open.socket), Ok(b"as before".to_vec()));
    rig.send(open.peer + 9, open.host, SYN, &[]);
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
    assert_eq!(rig.host.tcp_occupancy().half_open, 0);
}

#[test]
fn without_a_local_address_the_one_that_goes_there_is_taken() {
    // MUST-44
    let mut rig = Rig::new();
    rig.add_address("192.168.5.1/24");
    let options = TcpOptions::default();
    for (to, from) in [("192.168.5.9:80", "192.168.5.1"), (REMOTE, "10.0.0.1")] {
        let to = to.parse().unwrap();
        let socket = rig.host.tcp_connect(rig.now, to, None, &options).unwrap();
        let local = rig.host.local_addr(socket).unwrap();
        assert_eq!(local.ip().to_string(), from);
    }
    let syn = rig.expect();
    assert!(syn.has(SYN) && syn.src == Addr::v4(10, 0, 0, 1));
}

#[test]
fn an_ack_of_the_past_counts_as_far_back_as_the_largest_window() {
    // MAY-12, RFC 5961 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT
    for (behind, believed) in [(0, true), (4000, true), (4001, false)] {
        let mut rig = Rig::new();
        rig.window = 4000;
        let open = rig.accepted(&nodelay());
        for n in 0..4 {
            rig.write(&open, &[1; 3000]);
            while rig.next().is_some() {}
            rig.send(open.peer, open.host + (n + 1) * 3000, ACK, &[]);
        }
        // The window was never larger; it is smaller now.
        rig.window = 1000;
        let ack = open.host + 12_000 - behind;
        rig.send(open.peer, ack, ACK, b"data");
        let answer = rig.expect();
        assert!(answer.is(ACK) && answer.seq == open.host + 12_000);
        assert_eq!(rig.read(open.socket).is_ok(), believed, "{behind}");
    }
}

#[test]
fn a_reset_has_the_number_the_peer_believes() {
    // 3.10.7.1, 3.5.2: a reset that is not believed leaves the peer half-open.
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 3000]);
    while rig.next().is_some() {}
    rig.host.abort(rig.now, open.socket).unwrap();
    let reset = rig.expect();
    assert!(reset.has(RST) && reset.seq == open.host + 3000);
    // What the peer still sends is reset by its own word.
    rig.send(open.peer, open.host + 1000, ACK, b"?");
    let reset = rig.expect();
    assert!(reset.is(RST) && reset.seq == open.host + 1000);
}

#[test]
fn an_ack_that_a_repair_lets_go_is_no_sample() {
    // MUST-18, RFC 6298 3: it covers one that was sent once, but tells when the hole before it was filled.
    let mut rig = Rig::new();
    rig.handshake_ms = 100;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 1460]);
    rig.write(&open, &[2; 1460]);
    while rig.next().is_some() {}
    rig.ms(310);
    assert_eq!(rig.expect().seq, open.host, "the first again");
    rig.ms(90);
    rig.send(open.peer, open.host + 2920, ACK, &[]);
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!(info.rtt, Duration::from_millis(100));
    assert_eq!((info.unacknowledged, info.backoff), (0, 1));
}

#[test]
fn an_answer_without_an_mss_means_the_least() {
    // MUST-15 for who opens: 536, and 1220 over IPv6.
    let mut rig = Rig::new();
    rig.add_address("fd00::1/64");
    let (socket, syn) = rig.connect(&nodelay());
    let none = Options::default();
    rig.send_to(syn.src_port, 300, syn.seq + 1, SYN | ACK, &[], none);
    rig.expect();
    rig.host.tcp_send(rig.now, socket, &[1; 2000]).unwrap();
    assert_eq!(rig.expect().data.len(), 536);
    while rig.next().is_some() {}
    // A neighbour that asked for us is known.
    let (peer, ours): (Addr, Addr) = ("fd00::2".parse().unwrap(), "fd00::1".parse().unwrap());
    let mut options = wire::ndp::OptionBuf::<8>::default();
    assert!(options.push(&wire::ndp::Opt::SourceMac(wire::Mac([2, 0, 0, 0, 0, 2]))));
    let ask = wire::ndp::Repr::NeighborSolicit {
        target: ours,
        options: options.options(),
    };
    let mut bytes = vec![0; ask.buffer_len()];
    ask.emit(&mut bytes);
    wire::icmpv6::fill_checksum(&mut bytes, &peer, &ours);
    rig.raw(&in_ip(58, &bytes, peer, ours));
    let to = "[fd00::2]:5000".parse().unwrap();
    let socket = rig.host.tcp_connect(rig.now, to, None, &nodelay()).unwrap();
    let syn = rig.expect();
    let answer = Repr {
        src_port: 5000,
        dst_port: syn.src_port,
        seq: 300,
        ack: Some(syn.seq + 1),
        flags: SYN,
        window: 65_535,
        urgent: 0,
        options: none,
    };
    rig.raw(&packet(&answer, &[], peer, ours));
    rig.expect();
    rig.host.tcp_send(rig.now, socket, &[1; 2000]).unwrap();
    assert_eq!(rig.expect().data.len(), 1220);
}
