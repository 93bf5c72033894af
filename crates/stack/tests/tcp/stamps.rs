//! Timestamps (RFC 7323 3 to 5) and the retransmission timer's rules (RFC 6298 5).

use core::time::Duration;

use stack::{Drop, SocketError, State, TcpOptions};
use wire::tcp::Options;

use crate::rig::{ACK, FIN, Open, RST, Rig, SECOND, nodelay};

fn ts(value: u32, echo: u32) -> Options {
    Options {
        timestamps: Some((value, echo)),
        ..Options::default()
    }
}

fn stamped(rig: &mut Rig) -> Open {
    let syn = Options {
        mss: Some(1460),
        ..ts(1000, 0)
    };
    rig.accepted_with(&nodelay(), syn)
}

#[test]
fn every_segment_of_a_stamped_connection_is_stamped() {
    // RFC 7323 3.2
    let mut rig = Rig::new();
    let open = stamped(&mut rig);
    rig.send_with(open.peer, open.host, ACK, b"question", ts(1001, 1));
    rig.write(&open, &[1; 3000]);
    rig.host.close(rig.now, open.socket).unwrap();
    rig.advance(Duration::from_secs(30));
    let mut seen = 0;
    while let Some(segment) = rig.next() {
        if !segment.has(RST) {
            assert!(segment.options.timestamps.is_some(), "{segment:?}");
            seen += 1;
        }
    }
    assert!(seen >= 1, "{seen}");
    let mut rig = Rig::new();
    let open = stamped(&mut rig);
    rig.write(&open, &[1; 3000]);
    rig.advance(Duration::from_secs(3));
    rig.send_with(open.peer, open.host + 3000, ACK, &[], ts(1001, 1));
    rig.host.close(rig.now, open.socket).unwrap();
    let (mut seen, mut fin) = (0, false);
    while let Some(segment) = rig.next() {
        assert!(segment.options.timestamps.is_some(), "{segment:?}");
        fin |= segment.has(FIN);
        seen += 1;
    }
    assert!(seen > 4 && fin, "data, retransmissions and the FIN");
}

#[test]
fn an_echo_without_ack_is_not_used_nor_sent() {
    // RFC 7323 3.2: TSecr is valid with ACK only, and zero without
    let mut rig = Rig::new();
    let (_, syn) = rig.connect(&TcpOptions::default());
    assert_eq!(syn.options.timestamps.map(|(_, echo)| echo), Some(0));
}

#[test]
fn a_segment_without_stamps_does_not_end_the_connection() {
    // RFC 7323 3.2
    let mut rig = Rig::new();
    let open = stamped(&mut rig);
    rig.send(open.peer, open.host, ACK, b"plain");
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
    rig.pump();
    while rig.next().is_some() {}
    rig.send_with(open.peer + 5, open.host, ACK, b"stamped", ts(1001, 1));
    assert_eq!(rig.read(open.socket).unwrap()[..5], *b"plain");
}

#[test]
fn the_echo_is_of_the_segment_at_the_left_edge() {
    // RFC 7323 4.3
    let mut rig = Rig::new();
    let open = stamped(&mut rig);
    rig.send_with(open.peer, open.host, ACK, b"abc", ts(2000, 1));
    assert_eq!(rig.expect().options.timestamps.map(|t| t.1), Some(2000));
    // Behind a hole: not the one to echo.
    rig.send_with(open.peer + 6, open.host, ACK, b"ghi", ts(3000, 1));
    assert_eq!(rig.expect().options.timestamps.map(|t| t.1), Some(2000));
    // The one that fills it is.
    rig.send_with(open.peer + 3, open.host, ACK, b"def", ts(2500, 1));
    let ack = rig.expect();
    assert_eq!(
        (ack.ack, ack.options.timestamps.map(|t| t.1)),
        (open.peer + 9, Some(2500))
    );
    // Never back.
    rig.send_with(open.peer + 9, open.host, ACK, b"x", ts(2400, 1));
    assert_eq!(rig.expect().options.timestamps.map(|t| t.1), Some(2500));
}

#[test]
fn a_reset_needs_no_new_stamp() {
    // RFC 7323 5.3 R1
    let mut rig = Rig::new();
    let open = stamped(&mut rig);
    rig.send_with(open.peer, open.host, RST, &[], ts(5, 0));
    assert_eq!(rig.read(open.socket), Err(SocketError::ConnectionReset));
}

#[test]
fn stamps_count_milliseconds() {
    // RFC 7323 5.4
    let mut rig = Rig::new();
    let open = stamped(&mut rig);
    rig.write(&open, b"a");
    let first = rig.expect().options.timestamps.unwrap().0;
    rig.send_with(open.peer, open.host + 1, ACK, &[], ts(1001, first));
    rig.ms(12_345);
    rig.write(&open, b"b");
    let second = rig.expect().options.timestamps.unwrap().0;
    assert_eq!(second.wrapping_sub(first), 12_345);
}

#[test]
fn stamps_say_nothing_after_24_idle_days() {
    // RFC 7323 5.5
    let mut rig = Rig::new();
    let open = stamped(&mut rig);
    rig.advance(Duration::from_secs(23 * 24 * 3600));
    rig.send_with(open.peer, open.host, ACK, b"old", ts(900, 1));
    assert_eq!(rig.host.stats().drops.get(Drop::TcpPaws), 1);
    rig.advance(Duration::from_secs(2 * 24 * 3600));
    rig.send_with(open.peer, open.host, ACK, b"new", ts(900, 1));
    assert_eq!(rig.read(open.socket), Ok(b"new".to_vec()));
}

#[test]
fn the_timer_runs_while_something_is_in_flight() {
    // RFC 6298 5.1, 5.2, 5.3: the RTO is one second here
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted(&nodelay());
    rig.write(&open, b"first");
    rig.expect();
    rig.ms(900);
    rig.silence();
    rig.write(&open, b"second");
    rig.expect();
    rig.ms(90);
    // An ACK of new data: the timer starts again.
    rig.send(open.peer, open.host + 5, ACK, &[]);
    let rto = rig.host.tcp_info(open.socket).unwrap().rto.as_millis() as u64;
    rig.ms(rto - 10);
    rig.silence();
    rig.ms(20);
    assert_eq!(rig.expect().data, b"second");
    rig.send(open.peer, open.host + 11, ACK, &[]);
    rig.advance(Duration::from_secs(300));
    rig.silence();
}

#[test]
fn after_a_timeout_the_window_is_one_segment() {
    // RFC 5681 3.1, RFC 6298 5.4
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 14_600]);
    while rig.next().is_some() {}
    rig.ms(1100);
    let again = rig.expect();
    assert_eq!((again.seq, again.data.len()), (open.host, 1460));
    rig.silence();
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().cwnd, 1460);
    // RFC 6582 3.2: what the peer still says of the first flight starts no recovery.
    for _ in 0..5 {
        rig.send(open.peer, open.host, ACK, &[]);
    }
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert!(info.cwnd <= 2 * 1460, "{}", info.cwnd);
    assert_eq!(
        rig.host
            .stats()
            .counts
            .get(stack::Count::TcpFastRetransmits),
        0
    );
}

#[test]
fn a_partial_ack_brings_the_next_hole() {
    // RFC 6582 3.2, without SACK
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 14_600]);
    while rig.next().is_some() {}
    let seg = |n: u32| open.host + n * 1460;
    // Segments 0 and 4 are lost.
    for _ in 0..3 {
        rig.send(open.peer, seg(0), ACK, &[]);
    }
    assert_eq!(rig.expect().seq, seg(0));
    while rig.next().is_some() {}
    rig.send(open.peer, seg(4), ACK, &[]);
    assert_eq!(rig.expect().seq, seg(4), "the next hole, at once");
    let halved = rig.host.tcp_info(open.socket).unwrap().ssthresh;
    rig.send(open.peer, seg(10), ACK, &[]);
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!(info.ssthresh, halved, "one reduction for one window");
    assert_eq!(info.unacknowledged, 0);
}

/// RFC 6582 3.2 step 2: what was sent again needlessly comes back as duplicate ACKs, which are no sign of another loss.
#[test]
fn duplicates_of_a_repair_do_not_start_the_next() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let end = |n: u32| open.host.wrapping_add(n * 1460);
    let fast = |rig: &Rig| {
        let counts = &rig.host.stats().counts;
        counts.get(stack::Count::TcpFastRetransmits)
    };
    rig.write(&open, &[1; 14_600]);
    while rig.next().is_some() {}
    rig.ms(1100);
    // All arrived, but the ACKs were lost: five segments are sent again before the sender hears of it.
    for n in [1, 3] {
        rig.expect();
        rig.send(open.peer, end(n), ACK, &[]);
    }
    while rig.next().is_some() {}
    rig.send(open.peer, end(10), ACK, &[]);
    rig.write(&open, &[2; 7300]);
    while rig.next().is_some() {}
    for _ in 0..5 {
        rig.send(open.peer, end(10), ACK, &[]);
    }
    assert_eq!((fast(&rig), rig.next()), (0, None));
    // Behind that a loss is a loss again.
    rig.send(open.peer, end(11), ACK, &[]);
    while rig.next().is_some() {}
    for _ in 0..3 {
        rig.send(open.peer, end(11), ACK, &[]);
    }
    assert_eq!((fast(&rig), rig.expect().seq), (1, end(11)));
}

/// When all that is lost is the ACK, the receiver answers each retransmission with the stamp of the first copy (RFC 7323 5.3): the
/// time since then is no round trip.
#[test]
fn the_stamp_of_a_lost_ack_is_no_sample() {
    let mut rig = Rig::new();
    let open = stamped(&mut rig);
    rig.write(&open, b"x");
    let first = rig.expect().options.timestamps.unwrap().0;
    let before = rig.host.tcp_info(open.socket).unwrap().rtt;
    rig.advance(Duration::from_secs(100));
    while rig.next().is_some() {}
    rig.send_with(open.peer, open.host + 1, ACK, &[], ts(1003, first));
    let after = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!((after.unacknowledged, after.rtt), (0, before));
}

/// RFC 7323 3.2: a reset of a stamped connection SHOULD be stamped.
#[test]
fn a_reset_is_stamped() {
    let mut rig = Rig::new();
    let syn = Options {
        mss: Some(1460),
        timestamps: Some((77, 0)),
        ..Options::default()
    };
    let open = rig.accepted_with(&TcpOptions::default(), syn);
    rig.host.abort(rig.now, open.socket).unwrap();
    let reset = rig.expect();
    assert!(reset.has(RST));
    assert_eq!(reset.options.timestamps.map(|(_, echo)| echo), Some(78));
}
