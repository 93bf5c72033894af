//! Opening: RFC 9293 3.5, 3.10.7.1 to 3.10.7.4, and the options of a SYN.

use core::time::Duration;

use stack::{Drop, Ready, Shutdown, SocketError, State, TcpOptions, TcpTunables};
use wire::tcp::Options;

use crate::rig::{ACK, FIN, RST, Rig, SYN, config};

#[test]
fn passive_open_answers_with_what_both_can_do() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    let syn = Options {
        mss: Some(1000),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some((77, 0)),
        ..Options::default()
    };
    rig.send_with(999, 0, SYN, &[], syn);
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK));
    assert_eq!((answer.ack, answer.options.mss), (1000, Some(1460)));
    assert!(answer.options.sack_permitted && answer.options.window_scale.is_some());
    assert_eq!(answer.options.timestamps.map(|(_, echo)| echo), Some(77));
    assert_eq!(
        rig.host.tcp_accept(rig.now, listener),
        Err(SocketError::WouldBlock),
        "not before the handshake ends"
    );
    let echo = answer.options.timestamps.unwrap().0;
    rig.send_with(
        1000,
        answer.seq + 1,
        ACK,
        &[],
        Options {
            timestamps: Some((78, echo)),
            ..Options::default()
        },
    );
    assert_eq!(
        rig.events.pop_front().map(|e| (e.socket, e.ready)),
        Some((listener, Ready::READABLE))
    );
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(rig.host.tcp_state(socket), Ok(State::Established));
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(
        (info.mss, info.timestamps, info.sack, info.window_scales.0),
        (988, true, true, 7)
    );
    rig.silence();
}

#[test]
fn a_plain_syn_gets_no_options_it_did_not_offer() {
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    let answer = rig.expect();
    assert_eq!(
        answer.options,
        Options {
            mss: Some(1460),
            ..Options::default()
        }
    );
}

#[test]
fn mss_defaults_to_536_when_the_peer_says_none() {
    // RFC 9293 MUST-15
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), Options::default());
    rig.write(&open, &[1; 2000]);
    assert_eq!(rig.expect().data.len(), 536);
}

#[test]
fn active_open_connects_and_reports() {
    let mut rig = Rig::new();
    let (socket, syn) = rig.connect(&TcpOptions::default());
    assert_eq!(syn.dst_port, 5000);
    assert!(
        syn.options.sack_permitted
            && syn.options.timestamps.is_some()
            && syn.options.window_scale.is_some()
    );
    assert_eq!(rig.host.tcp_state(socket), Ok(State::SynSent));
    assert_eq!(
        rig.host.tcp_send(rig.now, socket, b"x"),
        Err(SocketError::WouldBlock)
    );
    rig.send_to(
        syn.src_port,
        5000,
        syn.seq + 1,
        SYN | ACK,
        &[],
        Options {
            mss: Some(1460),
            ..Options::default()
        },
    );
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.seq == syn.seq + 1 && ack.ack == 5001);
    assert_eq!(rig.host.tcp_state(socket), Ok(State::Established));
    let event = rig.events.pop_front().unwrap();
    assert!(event.socket == socket && event.ready.contains(Ready::WRITABLE));
    assert!(ack.options.timestamps.is_none(), "not negotiated");
}

#[test]
fn a_reset_refuses_the_connection() {
    let mut rig = Rig::new();
    let (socket, syn) = rig.connect(&TcpOptions::default());
    // Not for our SYN: ignored.
    rig.send_to(
        syn.src_port,
        0,
        syn.seq.wrapping_add(5),
        RST | ACK,
        &[],
        Options::default(),
    );
    assert_eq!(rig.host.tcp_state(socket), Ok(State::SynSent));
    rig.send_to(syn.src_port, 0, 0, RST, &[], Options::default());
    assert_eq!(rig.host.tcp_state(socket), Ok(State::SynSent));
    rig.send_to(
        syn.src_port,
        0,
        syn.seq + 1,
        RST | ACK,
        &[],
        Options::default(),
    );
    let event = rig.events.pop_front().unwrap();
    assert!(event.ready.contains(Ready::ERROR | Ready::HUP));
    assert_eq!(
        rig.host.take_error(socket),
        Some(SocketError::ConnectionRefused)
    );
    rig.host.close(rig.now, socket).unwrap();
    rig.pump();
    rig.assert_empty();
}

#[test]
fn a_wrong_ack_in_syn_sent_is_answered_by_a_reset() {
    let mut rig = Rig::new();
    let (socket, syn) = rig.connect(&TcpOptions::default());
    rig.send_to(
        syn.src_port,
        5000,
        syn.seq,
        SYN | ACK,
        &[],
        Options::default(),
    );
    let reset = rig.expect();
    assert!(reset.is(RST) && reset.seq == syn.seq);
    assert_eq!(rig.host.tcp_state(socket), Ok(State::SynSent));
    // As on Linux the next SYN need not wait for a second, once.
    rig.ms(9);
    assert!(rig.expect().is(SYN));
    rig.send_to(
        syn.src_port,
        5000,
        syn.seq,
        SYN | ACK,
        &[],
        Options::default(),
    );
    assert!(rig.expect().is(RST));
    rig.ms(500);
    rig.silence();
}

#[test]
fn simultaneous_open() {
    // RFC 9293 figure 7
    let mut rig = Rig::new();
    let (socket, syn) = rig.connect(&TcpOptions::default());
    rig.send_to(
        syn.src_port,
        300,
        0,
        SYN,
        &[],
        Options {
            mss: Some(1460),
            ..Options::default()
        },
    );
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK) && answer.seq == syn.seq && answer.ack == 301);
    assert_eq!(rig.host.tcp_state(socket), Ok(State::SynReceived));
    rig.send_to(
        syn.src_port,
        300,
        syn.seq + 1,
        SYN | ACK,
        &[],
        Options::default(),
    );
    assert_eq!(rig.host.tcp_state(socket), Ok(State::Established));
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.seq == syn.seq + 1 && ack.ack == 301);
    let event = rig.events.pop_back().unwrap();
    assert!(event.ready.contains(Ready::WRITABLE));
    rig.send_to(
        syn.src_port,
        301,
        syn.seq + 1,
        ACK,
        b"hi",
        Options::default(),
    );
    assert_eq!(rig.read(socket), Ok(b"hi".to_vec()));
}

#[test]
fn a_closed_port_resets_but_never_a_reset() {
    // RFC 9293 3.10.7.1
    let mut rig = Rig::new();
    rig.send(10, 0, SYN, b"abc");
    let reset = rig.expect();
    assert!(reset.is(RST | ACK) && reset.seq == 0 && reset.ack == 14);
    rig.send(10, 77, ACK, &[]);
    let reset = rig.expect();
    assert!(reset.is(RST) && reset.seq == 77);
    rig.send(10, 77, RST, &[]);
    rig.silence();
    assert_eq!(rig.host.stats().drops.get(Drop::TcpNoSocket), 3);
    rig.assert_empty();
}

#[test]
fn a_listener_takes_syns_only() {
    // RFC 9293 3.10.7.2
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    rig.send(10, 0, RST, &[]);
    rig.silence();
    rig.send(10, 99, ACK, &[]);
    assert!(rig.expect().is(RST));
    rig.send(10, 0, SYN | FIN, &[]);
    rig.send(10, 0, FIN, &[]);
    rig.silence();
    rig.assert_empty_but_listener();
}

#[test]
fn the_syn_ack_is_sent_again_and_given_up() {
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    let first = rig.expect();
    let mut times = Vec::new();
    for _ in 0..200 {
        rig.ms(500);
        while let Some(again) = rig.next() {
            assert_eq!((again.seq, again.ack), (first.seq, 1000));
            times.push(rig.now.millis());
        }
    }
    assert_eq!(times.len(), 5, "tcp_synack_retries");
    let gaps: Vec<u64> = times.windows(2).map(|w| (w[1] - w[0]) / 1000).collect();
    assert_eq!(gaps, [2, 4, 8, 16], "exponential backoff");
    rig.assert_empty_but_listener();
}

#[test]
fn a_repeated_syn_gets_the_same_answer() {
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    let first = rig.expect();
    rig.ms(300);
    rig.send(999, 0, SYN, &[]);
    let second = rig.expect();
    assert_eq!((first.seq, first.ack), (second.seq, second.ack));
    rig.silence();
}

#[test]
fn a_wrong_final_ack_is_reset_and_a_reset_ends_it() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    let answer = rig.expect();
    rig.send(1000, answer.seq + 2, ACK, &[]);
    let reset = rig.expect();
    assert!(reset.is(RST) && reset.seq == answer.seq + 2);
    rig.send(1001, 0, RST, &[]);
    assert!(rig.expect().is(ACK), "challenged: not the exact number");
    rig.send(1000, 0, RST, &[]);
    rig.send(1000, answer.seq + 1, ACK, &[]);
    assert!(rig.expect().is(RST), "the half-open connection is gone");
    assert_eq!(
        rig.host.tcp_accept(rig.now, listener),
        Err(SocketError::WouldBlock)
    );
}

#[test]
fn the_accept_queue_overflows_without_resets() {
    let mut rig = Rig::new();
    let listener = rig.listen(2, &TcpOptions::default());
    let mut accepted = 0;
    for port in 1..=6 {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[]);
        let Some(answer) = rig.next() else { continue };
        assert!(answer.is(SYN | ACK));
        rig.send(1000, answer.seq + 1, ACK, &[]);
        rig.silence();
    }
    while rig.host.tcp_accept(rig.now, listener).is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 3, "backlog + 1, as Linux");
    assert!(rig.host.stats().drops.get(Drop::TcpAcceptQueueFull) >= 3);
}

#[test]
fn the_syn_queue_is_bounded() {
    let mut rig = Rig::with(stack::Config {
        tcp_half_open: 16,
        ..config()
    });
    rig.host
        .set_tcp_tunables(TcpTunables {
            syncookies: 0,
            ..TcpTunables::default()
        })
        .unwrap();
    rig.listen(64, &TcpOptions::default());
    for port in 1..=100 {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[]);
    }
    assert_eq!(rig.host.tcp_occupancy().half_open, 16);
    assert_eq!(rig.host.stats().drops.get(Drop::TcpSynQueueFull), 84);
}

#[test]
fn initial_numbers_follow_a_clock_and_differ_between_connections() {
    // RFC 6528, RFC 9293 MUST-8
    let mut rig = Rig::new();
    rig.listen(64, &TcpOptions::default());
    let number = |rig: &mut Rig, port| {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[]);
        let seq = rig.expect().seq;
        rig.send(1000, 0, RST, &[]);
        seq
    };
    let (a, b) = (number(&mut rig, 1), number(&mut rig, 2));
    assert!(a.abs_diff(b) > 1000, "two connections at one moment");
    rig.ms(1000);
    let later = number(&mut rig, 1);
    assert_eq!(
        later.wrapping_sub(a),
        250_000,
        "the same tuple: four microseconds a step"
    );
}

#[test]
fn ports_are_chosen_apart_and_freed() {
    let mut rig = Rig::with(stack::Config {
        ephemeral_ports: (40_000, 40_009),
        ..config()
    });
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let (_, syn) = rig.connect(&TcpOptions::default());
        ports.insert(syn.src_port);
    }
    assert_eq!(ports.len(), 10);
    let more = rig.host.tcp_connect(
        rig.now,
        "10.0.0.2:5000".parse().unwrap(),
        None,
        &TcpOptions::default(),
    );
    assert_eq!(more, Err(SocketError::AddrNotAvailable));
    let other = rig.host.tcp_connect(
        rig.now,
        "10.0.0.2:5001".parse().unwrap(),
        None,
        &TcpOptions::default(),
    );
    assert!(other.is_ok(), "another destination has all ports");
}

/// A port with a listener is nobody's ephemeral port, and is one again when the listener is closed.
#[test]
fn a_listeners_port_is_not_chosen() {
    let mut rig = Rig::with(stack::Config {
        ephemeral_ports: (40_000, 40_003),
        ..config()
    });
    let mut listen = |at: &str| {
        rig.host
            .tcp_listen(rig.now, at.parse().unwrap(), 8, &TcpOptions::default())
            .unwrap()
    };
    let listeners = ["10.0.0.1:40000", "[::]:40001", "0.0.0.0:40003"].map(&mut listen);
    let connect = |rig: &mut Rig| {
        let to = "10.0.0.2:5000".parse().unwrap();
        let socket = rig
            .host
            .tcp_connect(rig.now, to, None, &TcpOptions::default())?;
        rig.host.local_addr(socket)
    };
    assert_eq!(connect(&mut rig).unwrap().port(), 40_002);
    assert_eq!(connect(&mut rig), Err(SocketError::AddrNotAvailable));
    rig.host.close(rig.now, listeners[1]).unwrap();
    assert_eq!(connect(&mut rig).unwrap().port(), 40_001);
}

/// Port 0 is any ephemeral port without a listener, whatever the family.
#[test]
fn a_listener_on_port_0_finds_a_free_one() {
    let mut rig = Rig::with(stack::Config {
        ephemeral_ports: (40_000, 40_003),
        ..config()
    });
    let mut ports = std::collections::BTreeSet::new();
    for at in ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "[::1]:0"] {
        let at: std::net::SocketAddr = at.parse().unwrap();
        let listener = rig
            .host
            .tcp_listen(rig.now, at, 8, &TcpOptions::default())
            .unwrap();
        let local = rig.host.local_addr(listener).unwrap();
        assert_eq!(local.ip(), at.ip());
        ports.insert(local.port());
    }
    assert_eq!(ports, (40_000..=40_003).collect());
    let more = rig.host.tcp_listen(
        rig.now,
        "0.0.0.0:0".parse().unwrap(),
        8,
        &TcpOptions::default(),
    );
    assert_eq!(more, Err(SocketError::AddrInUse));
}

#[test]
fn two_listeners_cannot_share_a_port() {
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    let listen = |rig: &mut Rig, at: &str| {
        rig.host
            .tcp_listen(rig.now, at.parse().unwrap(), 8, &TcpOptions::default())
    };
    assert_eq!(listen(&mut rig, "10.0.0.1:80"), Err(SocketError::AddrInUse));
    // All addresses include that one, and those of both families all.
    assert_eq!(listen(&mut rig, "0.0.0.0:80"), Err(SocketError::AddrInUse));
    assert_eq!(listen(&mut rig, "[::]:80"), Err(SocketError::AddrInUse));
    assert_eq!(
        listen(&mut rig, "10.0.0.9:81"),
        Err(SocketError::AddrNotAvailable)
    );
    assert!(listen(&mut rig, "0.0.0.0:81").is_ok());
    // Unless one of them leaves the other's family alone.
    let only_v6 = TcpOptions {
        only_v6: true,
        ..TcpOptions::default()
    };
    let six = "[::]:81".parse().unwrap();
    assert!(rig.host.tcp_listen(rig.now, six, 8, &only_v6).is_ok());
    let again = rig.host.tcp_listen(rig.now, six, 8, &only_v6);
    assert_eq!(again, Err(SocketError::AddrInUse));
}

/// Closed while the SYNs crossed: the FIN follows when the open is complete (RFC 9293 3.10.4).
#[test]
fn closing_in_syn_received_sends_the_fin() {
    let mut rig = Rig::new();
    let (socket, syn) = rig.connect(&TcpOptions::default());
    let mss = Options {
        mss: Some(1460),
        ..Options::default()
    };
    rig.send_to(syn.src_port, 300, 0, SYN, &[], mss);
    rig.expect();
    rig.host.close(rig.now, socket).unwrap();
    rig.silence();
    let none = Options::default();
    rig.send_to(syn.src_port, 301, syn.seq + 1, ACK, &[], none);
    let fin = rig.expect();
    assert!(fin.is(FIN | ACK) && fin.seq == syn.seq + 1);
    rig.send_to(syn.src_port, 301, fin.seq + 1, FIN | ACK, &[], none);
    assert!(rig.expect().is(ACK));
    rig.advance(core::time::Duration::from_secs(61));
    rig.assert_empty();
}

/// Writing is shut down before the handshake ends: the FIN follows it (RFC 9293 3.10.4).
#[test]
fn a_shutdown_before_the_handshake_ends_is_not_lost() {
    for crossing in [false, true] {
        let mut rig = Rig::new();
        let (socket, syn) = rig.connect(&TcpOptions::default());
        let none = Options::default();
        let port = syn.src_port;
        if crossing {
            rig.send_to(port, 300, 0, SYN, &[], none);
            assert!(rig.expect().is(SYN | ACK));
        }
        let shut = rig.host.tcp_shutdown(rig.now, socket, Shutdown::Write);
        assert_eq!(shut, Ok(()));
        rig.silence();
        let late = rig.host.tcp_send(rig.now, socket, b"late");
        assert_eq!(late, Err(SocketError::BrokenPipe));
        let (seq, flags) = if crossing {
            (301, ACK)
        } else {
            (300, SYN | ACK)
        };
        rig.send_to(port, seq, syn.seq + 1, flags, &[], none);
        let fin = rig.expect();
        assert!(fin.is(FIN | ACK) && fin.seq == syn.seq + 1 && fin.ack == 301);
        assert_eq!(rig.host.tcp_state(socket), Ok(State::FinWait1));
        rig.send_to(port, 301, fin.seq + 1, ACK, b"half closed", none);
        assert_eq!(rig.read(socket), Ok(b"half closed".to_vec()));
    }
}

/// Neither a SYN nor its timeout needs memory that is not there.
#[test]
fn a_syn_that_finds_no_memory_is_given_up_or_sent_late() {
    let mut rig = Rig::with(stack::Config {
        tcp_active: 1,
        ..config()
    });
    let busy = rig.accepted(&TcpOptions::default());
    rig.send(busy.peer, busy.host, ACK, b"unread");
    rig.expect();
    let connect = |rig: &mut Rig| {
        let remote = "10.0.0.2:5000".parse().unwrap();
        let options = TcpOptions::default();
        rig.host.tcp_connect(rig.now, remote, None, &options)
    };
    let socket = connect(&mut rig).unwrap();
    rig.advance(Duration::from_secs(300));
    rig.silence();
    let event = rig.events.pop_back().unwrap();
    assert!(event.socket == socket && event.ready.contains(Ready::ERROR));
    assert_eq!(rig.host.take_error(socket), Some(SocketError::TimedOut));

    connect(&mut rig).unwrap();
    rig.advance(Duration::from_secs(10));
    rig.silence();
    rig.read(busy.socket).unwrap();
    let late = (0..200).find_map(|_| {
        rig.ms(50);
        rig.next()
    });
    assert!(late.is_some_and(|seg| seg.is(SYN)));
    rig.ms(1100);
    assert!(rig.expect().is(SYN), "the first timeout is the initial one");
}

/// An interface that takes no frames, ever, does not hold a connect for ever.
#[test]
fn a_syn_that_finds_no_interface_is_given_up() {
    let mut rig = Rig::new();
    let remote = "10.0.0.2:5000".parse().unwrap();
    let options = TcpOptions::default();
    let connected = rig.host.tcp_connect(rig.now, remote, None, &options);
    let until = rig.now + Duration::from_secs(300);
    while let Some(at) = rig.host.next_deadline().filter(|at| *at < until) {
        rig.host.handle_timers(at);
    }
    let error = rig.host.take_error(connected.unwrap());
    assert_eq!(error, Some(SocketError::TimedOut));
}

/// The peer takes longer segments than the path: the initial window is one of segments that fit (RFC 6928).
#[test]
fn a_large_mss_does_not_swell_the_initial_window() {
    let mut rig = Rig::new();
    let syn = Options {
        mss: Some(65_000),
        ..Options::default()
    };
    let open = rig.accepted_with(&TcpOptions::default(), syn);
    rig.write(&open, &[0; 100_000]);
    let mut bytes = 0;
    while let Some(seg) = rig.next() {
        bytes += seg.data.len();
    }
    assert!(bytes <= 14_600, "{bytes}");
}
