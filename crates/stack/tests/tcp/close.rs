//! Closing: RFC 9293 3.6, the states after it, TIME-WAIT, resets.

use core::time::Duration;

use stack::{Ready, Shutdown, SocketError, State, TcpOptions};
use wire::tcp::Options;

use crate::rig::{ACK, FIN, REMOTE, RST, Rig, SYN, config};

#[test]
fn the_peer_closes_first() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.events.clear();
    rig.send(open.peer, open.host, FIN | ACK, b"bye");
    rig.silence(); // our FIN may carry the ACK
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::CloseWait));
    rig.ms(100);
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.ack == open.peer + 4);
    let event = rig.events.pop_front().unwrap();
    assert!(
        event.ready.contains(Ready::READABLE | Ready::READ_CLOSED)
            && !event.ready.contains(Ready::HUP)
    );
    assert_eq!(rig.read(open.socket), Ok(b"bye".to_vec()));
    assert_eq!(rig.read(open.socket), Ok(vec![]), "the end of the stream");
    // Half-closed: we may still send.
    rig.write(&open, b"more");
    assert_eq!(rig.expect().data, b"more");
    rig.host.close(rig.now, open.socket).unwrap();
    let fin = rig.expect();
    assert!(fin.is(FIN | ACK) && fin.seq == open.host + 4);
    rig.send(open.peer + 4, fin.seq + 1, ACK, &[]);
    rig.silence();
    rig.assert_empty_but_listener();
}

#[test]
fn we_close_first_and_wait() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, b"last words");
    rig.host.close(rig.now, open.socket).unwrap();
    let fin = rig.expect();
    assert!(
        fin.is(FIN | ACK) && fin.data == b"last words",
        "the FIN rides on the last data"
    );
    assert_eq!(
        rig.host.tcp_state(open.socket),
        Err(SocketError::BadSocket),
        "the handle is dead"
    );
    let end = open.host + 11;
    rig.send(open.peer, end, ACK, &[]);
    rig.send(open.peer, end, FIN | ACK, &[]);
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.seq == end && ack.ack == open.peer + 1);
    assert_eq!(rig.host.tcp_occupancy().time_wait, 1);
    assert_eq!(rig.host.tcp_occupancy().connections, 0);
    // A repeated FIN is acknowledged again and starts the clock again; a bare ACK is not answered.
    rig.advance(Duration::from_secs(40));
    rig.send(open.peer, end, FIN | ACK, &[]);
    assert!(rig.expect().is(ACK));
    rig.send(open.peer + 1, end, ACK, &[]);
    rig.silence();
    rig.advance(Duration::from_secs(40));
    assert_eq!(rig.host.tcp_occupancy().time_wait, 1);
    rig.advance(Duration::from_secs(70));
    rig.assert_empty_but_listener();
}

#[test]
fn both_close_at_once() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Write)
        .unwrap();
    let fin = rig.expect();
    assert!(fin.is(FIN | ACK));
    rig.send(open.peer, open.host, FIN | ACK, &[]);
    let ack = rig.expect();
    assert!(
        ack.is(ACK) && ack.ack == open.peer + 1,
        "an ACK, not the FIN again"
    );
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Closing));
    rig.send(open.peer + 1, open.host + 1, ACK, &[]);
    assert_eq!(rig.host.tcp_occupancy().time_wait, 1);
    rig.host.close(rig.now, open.socket).unwrap();
    rig.advance(Duration::from_secs(61));
    rig.assert_empty_but_listener();
}

#[test]
fn half_close_lets_the_peer_finish() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Write)
        .unwrap();
    let fin = rig.expect();
    rig.send(open.peer, fin.seq + 1, ACK, &[]);
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::FinWait2));
    assert_eq!(
        rig.host.tcp_send(rig.now, open.socket, b"x"),
        Err(SocketError::BrokenPipe)
    );
    rig.send(open.peer, fin.seq + 1, ACK, b"still here");
    assert_eq!(rig.read(open.socket), Ok(b"still here".to_vec()));
    rig.send(open.peer + 10, fin.seq + 1, FIN | ACK, &[]);
    assert_eq!(rig.read(open.socket), Ok(vec![]));
    rig.host.close(rig.now, open.socket).unwrap();
}

#[test]
fn closing_with_unread_data_resets() {
    // RFC 2525 2.17
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, ACK, b"unread");
    rig.expect();
    rig.host.close(rig.now, open.socket).unwrap();
    let reset = rig.expect();
    assert!(reset.has(RST) && reset.seq == open.host);
    rig.assert_empty_but_listener();
}

#[test]
fn data_after_close_is_reset() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host.close(rig.now, open.socket).unwrap();
    let fin = rig.expect();
    rig.send(open.peer, fin.seq + 1, ACK, b"too late");
    assert!(rig.expect().has(RST));
    rig.assert_empty_but_listener();
}

#[test]
fn linger_zero_and_abort_reset() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        linger: Some(Duration::ZERO),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.host.close(rig.now, open.socket).unwrap();
    assert!(rig.expect().has(RST));
    rig.assert_empty_but_listener();

    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, b"never mind");
    rig.host.abort(rig.now, open.socket).unwrap();
    assert!(rig.expect().has(RST));
    rig.silence();
    rig.assert_empty_but_listener();
}

#[test]
fn a_reset_ends_the_connection_and_is_reported_once() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, ACK, b"kept");
    rig.expect();
    rig.events.clear();
    rig.send(open.peer + 4, open.host, RST, &[]);
    rig.silence();
    let event = rig.events.pop_front().unwrap();
    assert!(
        event
            .ready
            .contains(Ready::ERROR | Ready::HUP | Ready::READABLE)
    );
    assert_eq!(
        rig.read(open.socket),
        Ok(b"kept".to_vec()),
        "what had arrived is still readable"
    );
    assert_eq!(rig.read(open.socket), Err(SocketError::ConnectionReset));
    assert_eq!(rig.read(open.socket), Ok(vec![]));
    assert_eq!(
        rig.host.tcp_send(rig.now, open.socket, b"x"),
        Err(SocketError::BrokenPipe)
    );
    rig.host.close(rig.now, open.socket).unwrap();
    rig.silence();
    rig.assert_empty_but_listener();
}

#[test]
fn an_orphan_in_fin_wait_2_does_not_live_for_ever() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host.close(rig.now, open.socket).unwrap();
    let fin = rig.expect();
    rig.send(open.peer, fin.seq + 1, ACK, &[]);
    assert_eq!(rig.host.tcp_occupancy().connections, 1);
    rig.advance(Duration::from_secs(61));
    rig.assert_empty_but_listener();
}

#[test]
fn a_fin_that_is_lost_is_sent_again() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host.close(rig.now, open.socket).unwrap();
    let fin = rig.expect();
    rig.ms(1500);
    let again = rig.expect();
    assert!(again.is(FIN | ACK) && again.seq == fin.seq);
}

#[test]
fn a_new_syn_reopens_a_connection_in_time_wait() {
    // RFC 6191, RFC 1122 4.2.2.13
    let mut rig = Rig::new();
    let syn = Options {
        timestamps: Some((100, 0)),
        mss: Some(1460),
        ..Options::default()
    };
    let open = rig.accepted_with(&TcpOptions::default(), syn);
    rig.host.close(rig.now, open.socket).unwrap();
    let fin = rig.expect();
    let ts = |v| Options {
        timestamps: Some((v, 1)),
        ..Options::default()
    };
    rig.send_with(open.peer, fin.seq + 1, FIN | ACK, &[], ts(120));
    rig.expect();
    assert_eq!(rig.host.tcp_occupancy().time_wait, 1);
    // Older by timestamp and number: an old duplicate, answered by an ACK.
    rig.send_with(500, 0, SYN, &[], ts(90));
    assert!(rig.expect().is(ACK));
    // Newer by timestamp though lower in number: a new connection.
    rig.send_with(500, 0, SYN, &[], ts(130));
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK) && answer.ack == 501);
    assert!(
        answer.seq.wrapping_sub(fin.seq) < 1 << 31,
        "its numbers lie above the old ones"
    );
}

#[test]
fn a_reset_ends_time_wait_only_at_the_exact_number() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host.close(rig.now, open.socket).unwrap();
    let fin = rig.expect();
    rig.send(open.peer, fin.seq + 1, FIN | ACK, &[]);
    rig.expect();
    rig.send(open.peer + 500, fin.seq + 1, RST, &[]);
    rig.send(open.peer, fin.seq + 1, FIN | ACK, &[]);
    assert!(rig.expect().is(ACK), "still there");
    rig.send(open.peer + 1, fin.seq + 1, RST, &[]);
    rig.send(open.peer, fin.seq + 1, FIN | ACK, &[]);
    assert!(
        rig.expect().has(RST),
        "gone: the segment belongs to nothing"
    );
}

#[test]
fn a_closed_listener_resets_what_nobody_accepted() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    let answer = rig.expect();
    rig.send(1000, answer.seq + 1, ACK, &[]);
    rig.peer_port = 6000;
    rig.send(999, 0, SYN, &[]);
    rig.expect();
    rig.host.close(rig.now, listener).unwrap();
    let reset = rig.expect();
    assert!(reset.has(RST) && reset.dst_port == 5000);
    rig.silence();
    rig.assert_empty();
}

/// An earlier timer of the connection (retransmission, delayed ACK) must not cut FIN-WAIT-2 short: the peer would be reset.
#[test]
fn an_orphan_waits_a_minute_for_the_peers_fin() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host.close(rig.now, open.socket).unwrap();
    let fin = rig.expect();
    rig.send(open.peer, fin.seq + 1, ACK, &[]);
    rig.advance(Duration::from_secs(59));
    assert_eq!(rig.host.tcp_occupancy().connections, 1);
    rig.send(open.peer, fin.seq + 1, FIN | ACK, &[]);
    assert!(rig.expect().is(ACK), "an ACK, not a reset");
    assert_eq!(rig.host.tcp_occupancy().time_wait, 1);
}

#[test]
fn a_delayed_ack_does_not_end_fin_wait_2() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Write)
        .unwrap();
    let fin = rig.expect();
    rig.send(open.peer, fin.seq + 1, ACK, &[]);
    let mut seq = open.peer;
    for _ in 0..20 {
        rig.send(seq, fin.seq + 1, ACK, b"answer");
        seq += 6;
    }
    rig.read(open.socket).unwrap();
    rig.host.close(rig.now, open.socket).unwrap();
    rig.ms(500);
    assert_eq!(rig.host.tcp_occupancy().connections, 1);
    rig.advance(Duration::from_secs(60));
    rig.assert_empty_but_listener();
}

/// A peer that died before it saw our ACK of its FIN resets with the FIN's own number (as Linux).
#[test]
fn a_reset_with_the_number_of_the_fin_counts() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer.wrapping_sub(1), open.host, RST, &[]);
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
    rig.send(open.peer, open.host, FIN | ACK, &[]);
    assert!(rig.expect().is(ACK));
    rig.send(open.peer.wrapping_sub(1), open.host, RST, &[]);
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::CloseWait));
    rig.send(open.peer, open.host, RST, &[]);
    rig.silence();
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Closed));
    assert_eq!(rig.read(open.socket), Ok(vec![]), "the stream had ended");
    assert_eq!(
        rig.host.take_error(open.socket),
        Some(SocketError::BrokenPipe)
    );
}

/// A FIN whose ACK was lost comes again: each time it is acknowledged at once.
#[test]
fn a_repeated_fin_is_acknowledged_each_time() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, FIN | ACK, &[]);
    for _ in 0..4 {
        let ack = rig.expect();
        assert!(ack.is(ACK) && ack.ack == open.peer + 1);
        rig.ms(100);
        rig.send(open.peer, open.host, FIN | ACK, &[]);
    }
}

fn stamp(value: u32) -> Options {
    Options {
        timestamps: Some((value, 1)),
        ..Options::default()
    }
}

/// A SYN nobody would take does not end TIME-WAIT: it is answered with an ACK, as any other old segment.
#[test]
fn a_syn_for_nobody_leaves_time_wait_alone() {
    let mut rig = Rig::new();
    let (peer, _) = rig.time_wait();
    rig.send_with(peer + 1000, 0, SYN | FIN, &[], stamp(130));
    assert!(rig.expect().is(ACK));

    let mut rig = Rig::new();
    let (socket, syn) = rig.connect(&TcpOptions::default());
    let (port, none) = (syn.src_port, Options::default());
    rig.send_to(port, 300, syn.seq + 1, SYN | ACK, &[], none);
    rig.expect();
    rig.host.close(rig.now, socket).unwrap();
    let fin = rig.expect();
    rig.send_to(port, 301, fin.seq + 1, FIN | ACK, &[], none);
    rig.expect();
    rig.send_to(port, 5000, 0, SYN, &[], none);
    let answer = rig.expect();
    assert!(answer.is(ACK) && answer.ack == 302);
    assert_eq!(rig.host.tcp_occupancy().time_wait, 1);
}

/// Nor does one that finds the accept queue full.
#[test]
fn a_syn_for_a_full_queue_leaves_time_wait_alone() {
    let mut rig = Rig::new();
    let (peer, _) = rig.time_wait();
    let mut refused = 0;
    for port in 1..20 {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[]);
        match rig.next() {
            Some(answer) => rig.send(1000, answer.seq + 1, ACK, &[]),
            None => refused += 1,
        }
    }
    assert!(refused > 0);
    rig.peer_port = 5000;
    rig.send_with(peer + 1000, 0, SYN, &[], stamp(130));
    rig.silence();
    assert_eq!(rig.host.tcp_occupancy().time_wait, 1);
    rig.send_with(peer - 1, 0, FIN | ACK, &[], stamp(130));
    assert!(rig.expect().is(ACK));
}

/// Numbers from the past, which anyone may guess, neither prolong TIME-WAIT nor move its timestamp.
#[test]
fn only_the_last_segment_of_the_peer_speaks_in_time_wait() {
    let mut rig = Rig::new();
    let (peer, host) = rig.time_wait();
    rig.advance(Duration::from_secs(50));
    rig.send_with(
        peer.wrapping_sub(70_000),
        host,
        FIN | ACK,
        &[],
        stamp(90_000),
    );
    assert!(rig.expect().is(ACK));
    // A bare ACK may itself be an answer: one now and then is told what is expected.
    for answered in [true, false] {
        rig.send_with(peer.wrapping_sub(70_000), host, ACK, &[], stamp(90_000));
        assert_eq!(rig.next().is_some(), answered);
    }
    rig.ms(500);
    rig.send_with(peer.wrapping_sub(70_000), host, ACK, &[], stamp(90_000));
    assert!(rig.expect().is(ACK));
    rig.send_with(500, 0, SYN, &[], stamp(130));
    assert!(rig.expect().is(SYN | ACK), "130 is newer than 120");

    let mut rig = Rig::new();
    let (peer, host) = rig.time_wait();
    rig.advance(Duration::from_secs(50));
    rig.send_with(peer.wrapping_sub(70_000), host, FIN | ACK, &[], stamp(121));
    rig.advance(Duration::from_secs(11));
    assert_eq!(rig.host.tcp_occupancy().time_wait, 0);
}

/// A reset comes once: it is heard even when there is no memory for anything else.
#[test]
fn a_reset_needs_no_memory() {
    let mut rig = Rig::with(stack::Config {
        tcp_active: 1,
        ..config()
    });
    let idle = rig.accepted(&TcpOptions::default());
    let remote = REMOTE.parse().unwrap();
    let options = TcpOptions::default();
    rig.host
        .tcp_connect(rig.now, remote, None, &options)
        .unwrap();
    assert!(rig.expect().is(SYN), "it has the one active part now");
    let local = Some("10.0.0.1:4000".parse().unwrap());
    let waits = rig.host.tcp_connect(rig.now, remote, local, &options);
    rig.send_to(4000, 0, 0, RST, &[], Options::default());
    assert_eq!(rig.host.tcp_state(waits.unwrap()), Ok(State::SynSent));
    rig.send(idle.peer + 1, idle.host, RST, &[]);
    assert_eq!(rig.host.tcp_state(idle.socket), Ok(State::Established));
    rig.send(idle.peer, idle.host, RST, &[]);
    assert_eq!(rig.read(idle.socket), Err(SocketError::ConnectionReset));
}

/// As Linux: who has shut down reading meets the end at once, but what arrives all the same is acknowledged and can be read.
#[test]
fn what_arrives_after_reading_was_shut_down_can_be_read() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let now = rig.now;
    rig.host
        .tcp_shutdown(now, open.socket, Shutdown::Read)
        .unwrap();
    assert_eq!(rig.read(open.socket).unwrap(), b"");
    rig.send(open.peer, open.host, ACK, b"late");
    assert_eq!(rig.expect().ack, open.peer + 4);
    assert_eq!(rig.read(open.socket).unwrap(), b"late");
    assert_eq!(rig.read(open.socket).unwrap(), b"");
}

#[test]
fn an_event_says_what_has_happened_beside_what_is_ready() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.events.clear();
    let raised = |rig: &mut Rig| {
        let told: Vec<Ready> = rig.events.drain(..).map(|event| event.raised).collect();
        told
    };
    rig.send(open.peer, open.host, ACK, b"data");
    assert_eq!(raised(&mut rig), [Ready::READABLE]);
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Write)
        .unwrap();
    let fin = rig.expect();
    let ready = rig.host.ready(open.socket);
    assert!(ready.contains(Ready::WRITE_CLOSED) && !ready.contains(Ready::HUP));
    rig.send(open.peer + 4, fin.seq + 1, ACK, &[]);
    assert_eq!(raised(&mut rig), [Ready::CHANGED], "FIN-WAIT-2");
    rig.send(open.peer + 4, fin.seq + 1, RST | ACK, &[]);
    let told = rig.events[0];
    assert!(told.raised.contains(Ready::CHANGED | Ready::ERROR));
    assert!(told.ready.contains(Ready::HUP));
}

#[test]
fn who_looks_for_room_and_finds_none_is_told_when_there_is() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        send_buffer: Some(8192),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    // Filled to the byte: the writer was not refused.
    let mut sent = 0;
    while !rig.host.watch_ready(open.socket).is_empty() {
        rig.write(&open, &[0; 1000]);
        sent += 1000;
    }
    while rig.next().is_some() {}
    rig.events.clear();
    rig.send(open.peer, open.host + sent, ACK, &[]);
    let event = rig.events.pop_front().unwrap();
    assert_eq!(event.raised, Ready::WRITABLE);
}

#[test]
fn the_ports_of_those_let_go_of_are_held_until_their_end() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let own = rig.host.local_addr(open.socket).unwrap();
    let held = |rig: &Rig, at: &str, dual| {
        let at: core::net::IpAddr = at.parse().unwrap();
        rig.host.tcp_lingers((at, own.port()).into(), dual)
    };
    let own_ip = own.ip().to_string();
    assert!(!held(&rig, &own_ip, false), "it has an owner");
    rig.host.close(rig.now, open.socket).unwrap();
    let fin = rig.expect();
    for state in ["FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT"] {
        for (at, dual) in [(own_ip.as_str(), false), ("0.0.0.0", false), ("::", true)] {
            assert!(held(&rig, at, dual), "{state}: {at}");
        }
        // Another address, and a wildcard of IPv6 alone.
        assert!(!held(&rig, "192.0.2.77", false) && !held(&rig, "::", false));
        let other = (own.ip(), own.port() + 1).into();
        assert!(!rig.host.tcp_lingers(other, false));
        match state {
            "FIN-WAIT-1" => rig.send(open.peer, fin.seq + 1, ACK, &[]),
            "FIN-WAIT-2" => {
                rig.send(open.peer, fin.seq + 1, FIN | ACK, &[]);
                assert!(rig.expect().is(ACK));
            }
            _ => {}
        }
    }
    // An exact reset ends TIME-WAIT, long before its time.
    rig.send(open.peer + 1, fin.seq + 1, RST, &[]);
    assert!(!held(&rig, &own_ip, false) && !held(&rig, "0.0.0.0", false));
    rig.host.audit().unwrap();
    rig.advance(Duration::from_secs(61));
    rig.assert_empty_but_listener();
    rig.host.audit().unwrap();
}
