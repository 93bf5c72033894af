//! Time: retransmission (RFC 6298), persist, keepalive, user timeout.

use core::time::Duration;

use stack::{Count, Keepalive, Ready, Shutdown, SocketError, State, TcpOptions};
use wire::tcp::Options;

use crate::rig::{ACK, FIN, Open, REMOTE, RST, Rig, SECOND, SYN, config, nodelay};

/// Times, in milliseconds from now, at which the host sends within `seconds`.
fn times(rig: &mut Rig, seconds: u64) -> Vec<u64> {
    let start = rig.now;
    let mut times = Vec::new();
    for _ in 0..seconds * 100 {
        rig.ms(10);
        while rig.next().is_some() {
            times.push((rig.now - start).as_millis() as u64);
        }
    }
    times
}

#[test]
fn data_is_retransmitted_with_exponential_backoff_and_given_up() {
    // RFC 6298 5.5, RFC 9293 MUST-20, MUST-21
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, b"anyone?");
    rig.expect();
    let times = times(&mut rig, 1400);
    let gaps: Vec<u64> = times.windows(2).map(|w| (w[1] - w[0]) / 100).collect();
    assert_eq!(
        gaps[..5],
        [20, 40, 80, 160, 320],
        "doubling from the initial second"
    );
    assert!(gaps[6..].iter().all(|g| *g <= 1201), "at most 120 s apart");
    assert_eq!(rig.host.stats().counts.get(Count::TcpGivenUp), 1);
    assert!(rig.events.iter().any(|e| e.ready.contains(Ready::ERROR)));
    assert_eq!(rig.read(open.socket), Err(SocketError::TimedOut));
}

#[test]
fn the_timeout_follows_the_round_trip() {
    let mut rig = Rig::new();
    rig.handshake_ms = 100;
    let open = rig.accepted(&nodelay());
    let mut at = open.host;
    for _ in 0..40 {
        rig.write(&open, b"ping");
        rig.expect();
        at = at.wrapping_add(4);
        rig.ms(100);
        rig.send(open.peer, at, ACK, &[]);
    }
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!(info.rtt, Duration::from_millis(100));
    assert!(
        info.rto >= Duration::from_millis(300) && info.rto < Duration::from_millis(320),
        "{:?}",
        info.rto
    );
    rig.write(&open, b"lost");
    rig.expect();
    rig.ms(290);
    rig.silence();
    rig.ms(40);
    assert_eq!(rig.expect().data, b"lost");
}

#[test]
fn karn_a_retransmitted_segment_is_no_sample() {
    // RFC 9293 MUST-18
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted(&nodelay());
    rig.write(&open, b"slow");
    rig.expect();
    rig.ms(1100);
    rig.expect();
    rig.send(open.peer, open.host + 4, ACK, &[]);
    let first = Duration::from_millis(SECOND);
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().rtt, first);
    assert_eq!(
        rig.host.tcp_info(open.socket).unwrap().backoff,
        1,
        "the timeout stays backed off until there is a sample"
    );
}

#[test]
fn a_syn_is_retried_and_given_up() {
    let mut rig = Rig::new();
    let (socket, syn) = rig.connect(&TcpOptions::default());
    let times = times(&mut rig, 300);
    assert_eq!(
        times.len(),
        10,
        "tcp_syn_retries and tcp_syn_linear_timeouts"
    );
    assert!(times.windows(2).all(|w| w[1] - w[0] >= 1000));
    assert_eq!(rig.host.take_error(socket), Some(SocketError::TimedOut));
    let _ = syn;
}

fn closed_window(rig: &mut Rig) -> Open {
    rig.window = 1000;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 3000]);
    let first = rig.expect();
    assert_eq!(first.data.len(), 1000);
    rig.window = 0;
    rig.send(open.peer, open.host + 1000, ACK, &[]);
    rig.silence();
    open
}

#[test]
fn a_closed_window_is_probed_for_ever_while_the_peer_answers() {
    // RFC 9293 3.8.6.1, MUST-36, MUST-37
    let mut rig = Rig::new();
    let open = closed_window(&mut rig);
    let mut probes = 0;
    for _ in 0..40 {
        rig.advance(Duration::from_secs(120));
        while let Some(probe) = rig.next() {
            assert!(
                probe.data.is_empty() && probe.seq == open.host + 999,
                "below what the peer expects, no data"
            );
            probes += 1;
            rig.send(open.peer, open.host + 1000, ACK, &[]);
        }
    }
    assert!(probes >= 20, "{probes}"); // each answer puts the next one off
    let counts = &rig.host.stats().counts;
    assert_eq!(counts.get(Count::TcpWindowProbes), probes);
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
    rig.window = 5000;
    rig.send(open.peer, open.host + 1000, ACK, &[]);
    assert_eq!(rig.expect().data.len() + rig.expect().data.len(), 2000);
}

#[test]
fn a_closed_window_without_answers_ends() {
    let mut rig = Rig::new();
    let open = closed_window(&mut rig);
    rig.advance(Duration::from_secs(3600));
    assert_eq!(rig.read(open.socket), Err(SocketError::TimedOut));
}

/// Nobody is left to wait for a window that never opens: what the peer answers does not keep a closed socket's data for ever.
#[test]
fn a_closed_window_does_not_keep_a_closed_socket() {
    let mut rig = Rig::new();
    let open = closed_window(&mut rig);
    rig.host.close(rig.now, open.socket).unwrap();
    for _ in 0..60 {
        rig.advance(Duration::from_secs(30));
        while let Some(probe) = rig.next() {
            if !probe.has(RST) {
                rig.send(open.peer, open.host + 1000, ACK, &[]);
            }
        }
    }
    rig.assert_empty_but_listener();
}

/// An application may ask for any time.
#[test]
fn endless_keepalive_times_do_no_harm() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        keepalive: Some(Keepalive {
            idle: Duration::from_secs(1),
            interval: Duration::MAX,
            probes: 255,
        }),
        user_timeout: Some(Duration::MAX),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.write(&open, b"x");
    rig.expect();
    rig.send(open.peer, open.host + 1, ACK, b"y");
    rig.advance(Duration::from_secs(100_000));
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
}

/// A user's timeout bounds a SYN, too, however many of them that takes.
#[test]
fn a_syn_is_sent_again_for_as_long_as_its_user_says() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        user_timeout: Some(Duration::from_secs(400)),
        rto_max: Some(Duration::from_secs(1)),
        ..TcpOptions::default()
    };
    let (socket, _) = rig.connect(&options);
    assert!(times(&mut rig, 399).len() > 390);
    rig.ms(1100);
    let error = rig.host.take_error(socket);
    assert_eq!(error, Some(SocketError::TimedOut));
}

/// RFC 6298 5: the backed-off timeout stays until there is a new sample, else a path that became slow would have a timeout for
/// everything that is sent.
#[test]
fn a_backed_off_timeout_stays_until_a_sample() {
    let mut rig = Rig::new();
    rig.handshake_ms = 100;
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, b"b");
    let sent = times(&mut rig, 1);
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert!((300..350).contains(&sent[1]) && (900..1000).contains(&sent[2]));
    // The round trip is a second now.
    rig.send(open.peer, open.host + 1, ACK, &[]);
    rig.write(&open, b"c");
    rig.expect();
    rig.ms(1000);
    rig.silence();
    rig.send(open.peer, open.host + 2, ACK, &[]);
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!(info.backoff, 0, "a sample");
    assert!(info.rto > Duration::from_secs(1));
}

/// Without timestamps too, for the SYN-ACK is timed: a connection need not wait a second for its first retransmission.
#[test]
fn the_handshake_is_the_first_sample() {
    let mut rig = Rig::new();
    rig.handshake_ms = 100;
    let open = rig.accepted(&TcpOptions::default());
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!(info.rtt, Duration::from_millis(100));
    rig.write(&open, b"lost");
    rig.expect();
    rig.ms(290);
    rig.silence();
    rig.ms(20);
    assert_eq!(rig.expect().data, b"lost");
}

/// Karn: of a SYN-ACK that was sent twice nobody knows which was answered.
#[test]
fn a_syn_ack_that_was_sent_again_is_no_sample() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    let answer = rig.expect();
    rig.ms(1100);
    rig.expect();
    rig.send(1000, answer.seq + 1, ACK, &[]);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(rig.host.tcp_info(socket).unwrap().rtt, Duration::ZERO);
}

/// What waited to be sent, here for the cork, has its whole timeout from when it is.
#[test]
fn the_timeout_begins_when_data_is_sent() {
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted(&TcpOptions::default());
    rig.host.tcp_set_cork(rig.now, open.socket, true).unwrap();
    rig.write(&open, b"held");
    rig.silence();
    rig.ms(900);
    rig.silence();
    rig.host.tcp_set_cork(rig.now, open.socket, false).unwrap();
    assert_eq!(rig.expect().data, b"held");
    rig.ms(900);
    rig.silence();
    rig.ms(200);
    assert_eq!(rig.expect().data, b"held");
}

/// An interface that takes no frames, ever, does not hold what was written for ever.
#[test]
fn what_finds_no_interface_is_given_up() {
    for close in [false, true] {
        let mut rig = Rig::new();
        let open = rig.accepted(&TcpOptions::default());
        if close {
            rig.host.close(rig.now, open.socket).unwrap();
        } else {
            rig.write(&open, b"hello?");
        }
        let until = rig.now + Duration::from_secs(3600);
        while let Some(at) = rig.host.next_deadline().filter(|at| *at < until) {
            rig.host.handle_timers(at);
        }
        if close {
            rig.pump();
            rig.assert_empty_but_listener();
        } else {
            assert_eq!(rig.read(open.socket), Err(SocketError::TimedOut));
        }
    }
}

/// What a closed window did not let in is sent again when the window opens, not when the backed-off timeout says so.
#[test]
fn an_opened_window_is_used_at_once() {
    let mut rig = Rig::new();
    rig.window = 1000;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 1000]);
    while rig.next().is_some() {}
    // The peer takes half, and then has no room.
    rig.window = 0;
    rig.send(open.peer, open.host + 500, ACK, &[]);
    rig.advance(Duration::from_secs(100));
    while rig.next().is_some() {}
    rig.window = 1000;
    rig.send(open.peer, open.host + 500, ACK, &[]);
    let rest = rig.expect();
    assert_eq!((rest.seq, rest.data.len()), (open.host + 500, 500));
    rig.silence();
    rig.ms(1500);
    assert_eq!(rig.expect().seq, open.host + 500, "with a fresh timeout");
}

/// A FIN is a number like any other: it waits for the window, which is probed meanwhile (RFC 9293 3.8.6.1).
#[test]
fn a_fin_waits_for_the_window() {
    let mut rig = Rig::new();
    rig.window = 1000;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 1000]);
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Write)
        .unwrap();
    let data = rig.expect();
    assert!(data.is(ACK) && data.data.len() == 1000);
    rig.silence();
    rig.window = 0;
    rig.send(open.peer, open.host + 1000, ACK, &[]);
    let mut probes = 0;
    for _ in 0..40 {
        rig.advance(Duration::from_secs(60));
        while let Some(probe) = rig.next() {
            assert!(probe.is(ACK) && probe.seq == open.host + 999);
            rig.send(open.peer, open.host + 1000, ACK, &[]);
            probes += 1;
        }
    }
    assert!(probes >= 20, "{probes}");
    rig.window = 1;
    rig.send(open.peer, open.host + 1000, ACK, &[]);
    let fin = rig.expect();
    assert!(fin.is(FIN | ACK) && fin.seq == open.host + 1000);
}

/// RFC 6675 6: the retransmission gets a timeout of its own, not the rest of the lost segment's.
#[test]
fn a_fast_retransmission_is_given_its_time() {
    let mut rig = Rig::new();
    rig.handshake_ms = 100;
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 14_600]);
    while rig.next().is_some() {}
    rig.ms(250);
    for _ in 0..3 {
        rig.send(open.peer, open.host, ACK, &[]);
    }
    assert_eq!(rig.expect().seq, open.host);
    while rig.next().is_some() {}
    rig.ms(290);
    rig.silence();
    rig.ms(60);
    assert_eq!(rig.expect().seq, open.host);
}

#[test]
fn keepalive_probes_an_idle_peer_and_gives_up() {
    // RFC 9293 3.8.4: off by default, only when idle, an unanswered probe alone is no death
    let mut rig = Rig::new();
    let keepalive = Keepalive {
        idle: Duration::from_secs(10),
        interval: Duration::from_secs(2),
        probes: 3,
    };
    let open = rig.accepted(&TcpOptions {
        keepalive: Some(keepalive),
        ..TcpOptions::default()
    });
    rig.advance(Duration::from_millis(9_900));
    rig.silence();
    rig.ms(200);
    let probe = rig.expect();
    assert!(probe.data.is_empty() && probe.seq == open.host.wrapping_sub(1));
    rig.send(open.peer, open.host, ACK, &[]);
    rig.advance(Duration::from_millis(9_900));
    rig.silence();
    assert_eq!(
        times(&mut rig, 5).len(),
        3,
        "three probes two seconds apart"
    );
    rig.events.clear();
    rig.advance(Duration::from_secs(3));
    assert!(rig.expect().has(RST));
    assert_eq!(rig.read(open.socket), Err(SocketError::TimedOut));
    let counts = &rig.host.stats().counts;
    assert_eq!(counts.get(Count::TcpKeepaliveProbes), 4);
    assert_eq!(counts.get(Count::TcpWindowProbes), 0);
}

/// Silence is the peer's: what the application sets meanwhile does not break it.
#[test]
fn other_options_do_not_put_keepalive_off() {
    let mut rig = Rig::new();
    let keepalive = Keepalive {
        idle: Duration::from_secs(10),
        ..Keepalive::default()
    };
    let options = TcpOptions {
        keepalive: Some(keepalive),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.ms(9000);
    rig.host
        .tcp_set_options(rig.now, open.socket, |options| options.nodelay = true)
        .unwrap();
    rig.silence();
    rig.ms(1001);
    assert_eq!(rig.expect().seq, open.host.wrapping_sub(1));
}

/// Nor when it is switched off while others are busy: every step of the rig looks for timers of nobody.
#[test]
fn who_is_not_probed_any_more_has_no_timer() {
    let mut config = config();
    config.tcp_active = 1;
    let mut rig = Rig::with(config);
    let options = TcpOptions {
        keepalive: Some(Keepalive::default()),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    // Another connection has the only active part.
    rig.host
        .tcp_connect(rig.now, REMOTE.parse().unwrap(), None, &options)
        .unwrap();
    assert!(rig.expect().is(SYN));
    rig.host
        .tcp_set_options(rig.now, open.socket, |options| options.keepalive = None)
        .unwrap();
    rig.silence();
}

#[test]
fn an_idle_connection_without_keepalive_has_no_timer() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, ACK, b"x");
    rig.read(open.socket).unwrap();
    rig.advance(Duration::from_secs(100));
    while rig.next().is_some() {}
    assert_eq!(rig.host.tcp_occupancy().active, 0, "no active part");
    rig.advance(Duration::from_secs(24 * 3600));
    rig.silence();
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
}

#[test]
fn the_users_timeout_is_kept() {
    // TCP_USER_TIMEOUT, RFC 9293 MUST-20's R2
    let mut rig = Rig::new();
    let options = TcpOptions {
        user_timeout: Some(Duration::from_secs(5)),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.write(&open, b"hello?");
    rig.expect();
    rig.advance(Duration::from_millis(4_900));
    assert_eq!(rig.read(open.socket), Err(SocketError::WouldBlock));
    rig.ms(200); // not when the next backed-off timeout would have been
    assert_eq!(rig.read(open.socket), Err(SocketError::TimedOut));
}

#[test]
fn a_partial_window_is_used_after_a_while() {
    // RFC 9293 3.8.6.2.1: the override timer of the sender's silly-window rules
    let mut rig = Rig::new();
    rig.window = 20_000;
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 1460]);
    rig.expect();
    rig.window = 100;
    rig.send(open.peer, open.host + 1460, ACK, &[]);
    rig.write(&open, &[1; 1000]);
    rig.silence();
    rig.ms(1500);
    let forced = rig.expect();
    assert_eq!(forced.data.len(), 100);
}

#[test]
fn the_window_restarts_after_idle() {
    // RFC 5681 4.1
    let mut rig = Rig::new();
    let open = rig.accepted_with(
        &TcpOptions::default(),
        Options {
            mss: Some(1460),
            window_scale: Some(7),
            ..Options::default()
        },
    );
    let mut at = open.host;
    for _ in 0..5 {
        rig.write(&open, &[1; 200_000]);
        loop {
            let mut progress = false;
            while let Some(segment) = rig.next() {
                at = segment.seq.wrapping_add(segment.data.len() as u32);
                progress = true;
            }
            if !progress {
                break;
            }
            rig.ms(1);
            rig.send(open.peer, at, ACK, &[]);
        }
    }
    assert!(rig.host.tcp_info(open.socket).unwrap().cwnd > 100_000);
    rig.advance(Duration::from_secs(30));
    rig.write(&open, &[1; 100_000]);
    let mut burst = 0;
    while rig.next().is_some() {
        burst += 1;
    }
    assert_eq!(burst, 10);
    let _ = SYN;
}

/// A writer that finds the pool empty, with nothing of its own in flight, is called back all the same.
#[test]
fn a_writer_waiting_for_memory_is_not_forgotten() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.events.clear();
    let mut hoard = base::Chain::default();
    let all = vec![0; rig.host.pool().capacity() as usize * base::BLOCK];
    rig.host.pool_mut().append_bytes(&mut hoard, &all);
    assert_eq!(rig.host.pool().available(), 0);
    assert_eq!(
        rig.host.tcp_send(rig.now, open.socket, b"x"),
        Err(SocketError::WouldBlock)
    );
    rig.host.pool_mut().free(hoard);
    rig.ms(1500);
    let event = rig.events.pop_back().expect("an event");
    assert!(event.ready.contains(Ready::WRITABLE));
    rig.write(&open, b"x");
    assert_eq!(rig.expect().data, b"x");
}

/// RFC 6298 5.7: a handshake that needed retransmissions, and gave no sample, has not shown that 1 s is enough.
#[test]
fn after_a_lost_syn_the_timeout_is_three_seconds() {
    let stamped = |tsval, echo| Options {
        mss: Some(1460),
        timestamps: Some((tsval, echo)),
        ..Options::default()
    };
    let seconds = |rig: &Rig, socket| rig.host.tcp_info(socket).unwrap().rto.as_secs();

    let mut rig = Rig::new();
    let (socket, syn) = rig.connect(&TcpOptions::default());
    rig.ms(1100);
    rig.expect();
    let none = Options::default();
    rig.send_to(syn.src_port, 300, syn.seq + 1, SYN | ACK, &[], none);
    rig.expect();
    assert_eq!(seconds(&rig, socket), 3);
    rig.host.tcp_send(rig.now, socket, b"lost").unwrap();
    rig.expect();
    rig.ms(2900);
    rig.silence();
    rig.ms(200);
    assert_eq!(rig.expect().data, b"lost");

    // A timestamp tells which SYN was answered, and so how long a round trip is.
    let mut rig = Rig::new();
    let (socket, _) = rig.connect(&TcpOptions::default());
    rig.ms(1100);
    let syn = rig.expect();
    rig.ms(50);
    let options = stamped(9, syn.options.timestamps.unwrap().0);
    rig.send_to(syn.src_port, 300, syn.seq + 1, SYN | ACK, &[], options);
    assert_eq!(seconds(&rig, socket), 0);

    for (options, expected) in [(none, 3), (stamped(9, 0), 0)] {
        let mut rig = Rig::new();
        let listener = rig.listen(8, &TcpOptions::default());
        rig.send_with(999, 0, SYN, &[], options);
        rig.ms(1100);
        rig.expect();
        let again = rig.expect();
        let timestamps = again.options.timestamps.map(|(value, _)| (10, value));
        let options = Options { timestamps, ..none };
        rig.send_with(1000, again.seq + 1, ACK, &[], options);
        let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
        assert_eq!(seconds(&rig, socket), expected);
    }
}

/// RFC 5681 3.1, RFC 6928 2: one SYN may have been sent again too early; two mean loss.
#[test]
fn lost_syns_shrink_the_initial_window() {
    for (seconds, cwnd) in [(0, 14_600), (2, 14_600), (4, 1460)] {
        let mut rig = Rig::new();
        let listener = rig.listen(8, &TcpOptions::default());
        let options = Options {
            mss: Some(1460),
            ..Options::default()
        };
        rig.send_with(999, 0, SYN, &[], options);
        rig.advance(Duration::from_secs(seconds));
        let seq = rig.expect().seq;
        rig.send(1000, seq + 1, ACK, &[]);
        let (passive, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
        assert_eq!(rig.host.tcp_info(passive).unwrap().cwnd, cwnd);

        let mut rig = Rig::new();
        let (active, syn) = rig.connect(&TcpOptions::default());
        rig.advance(Duration::from_secs(seconds));
        rig.send_to(syn.src_port, 300, syn.seq + 1, SYN | ACK, &[], options);
        assert_eq!(rig.host.tcp_info(active).unwrap().cwnd, cwnd);
    }
}

/// The user's timeout also bounds how long data waits for a closed window (RFC 5482 3, tcp(7)), however alive the peer is.
#[test]
fn the_users_timeout_bounds_a_closed_window() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        user_timeout: Some(Duration::from_secs(30)),
        ..nodelay()
    };
    rig.window = 1000;
    let open = rig.accepted(&options);
    let state = |rig: &Rig| rig.host.tcp_state(open.socket).unwrap();
    let mut sent = 0;
    let mut wait = |rig: &mut Rig, seconds: u64| {
        for _ in 0..seconds {
            rig.ms(1000);
            while let Some(seg) = rig.next().filter(|seg| !seg.has(RST)) {
                sent += seg.data.len() as u32;
                rig.send(open.peer, open.host + sent, ACK, &[]);
            }
        }
    };
    rig.write(&open, &[1; 3000]);
    rig.window = 0;
    wait(&mut rig, 20);
    assert_eq!(state(&rig), State::Established);
    // The window opens for a while: from there it counts anew.
    rig.window = 1000;
    rig.send(open.peer, open.host + 1000, ACK, &[]);
    rig.window = 0;
    wait(&mut rig, 20);
    assert_eq!(state(&rig), State::Established);
    wait(&mut rig, 40);
    assert_eq!(rig.read(open.socket), Err(SocketError::TimedOut));
}

/// Ten segments under way, 100 ms after a handshake that took as long.
fn ten_in_flight(rig: &mut Rig) -> Open {
    rig.handshake_ms = 100;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 14_600]);
    while rig.next().is_some() {}
    rig.ms(100);
    open
}

/// As Linux: each ACK is a sample, so a path that grows slow is known within a round trip.
#[test]
fn every_ack_is_a_sample() {
    let mut rig = Rig::new();
    let open = ten_in_flight(&mut rig);
    let mut told = Vec::new();
    for n in 1..4 {
        rig.send(open.peer, open.host + n * 1460, ACK, &[]);
        told.push(rig.host.tcp_info(open.socket).unwrap().rtt.as_micros());
        rig.ms(80);
    }
    // 100, 180 and 260 ms, an eighth of the way each.
    assert_eq!(told, [100_000, 110_000, 128_750]);
}

/// Many samples that stray little say nothing of the next round trip.
#[test]
fn the_variation_does_not_fall_with_each_ack_of_a_window() {
    let mut rig = Rig::new();
    let open = ten_in_flight(&mut rig);
    for n in 1..10 {
        rig.send(open.peer, open.host + n * 1460, ACK, &[]);
    }
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!(info.rtt_variation, Duration::from_micros(37_500));
}

/// RFC 6298 5 (Karn): the ACK of what was sent again is no sample, so the timeout stays doubled for the first probe of a window
/// that closes then, as on Linux.
#[test]
fn a_window_that_closes_does_not_undo_a_backoff() {
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    rig.write(&open, b"data");
    rig.expect();
    rig.ms(2000);
    while rig.next().is_some() {}
    let before = rig.host.tcp_info(open.socket).unwrap();
    assert!(before.backoff > 0);
    rig.send(open.peer, open.host + 4, ACK, &[]);
    rig.window = 0;
    rig.send(open.peer, open.host + 4, ACK, &[]);
    let after = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!((after.unacknowledged, after.send_window), (0, 0));
    assert_eq!((after.backoff, after.rto), (before.backoff, before.rto));
    rig.write(&open, b"more");
    rig.ms(before.rto.as_millis() as u64 - 20);
    rig.silence();
    rig.ms(40);
    assert!(rig.expect().ack > 0, "the first probe");
    // Where it opens, nothing is held back.
    rig.window = 65_535;
    rig.send(open.peer, open.host + 4, ACK, &[]);
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().backoff, 0);
    assert_eq!(rig.expect().data, b"more");
}
