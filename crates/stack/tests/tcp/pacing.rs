//! When frames leave: pacing, and windows that were not used.

use core::time::Duration;

use stack::{Congestion, TcpOptions};

use crate::rig::*;

const MSS: u32 = 1460;

/// A connection whose first segment is acknowledged after `rtt_ms`, and nothing in flight. The handshake took no time.
fn measured(rig: &mut Rig, options: &TcpOptions, rtt_ms: u64) -> Open {
    rig.handshake_ms = rtt_ms;
    let mut open = rig.accepted_with(options, scaled_without_sack());
    rig.write(&open, &[1; 1460]);
    open.host = rig.expect().seq + MSS;
    rig.ms(rtt_ms);
    rig.send(open.peer, open.host, ACK, &[]);
    open
}

/// For how long after now each segment leaves, milliseconds.
fn departures(rig: &mut Rig, ms: u64) -> Vec<u64> {
    let mut out = Vec::new();
    for at in 0..ms {
        while rig.next().is_some() {
            out.push(at);
        }
        rig.ms(1);
    }
    out
}

#[test]
fn a_socket_is_paced_as_it_asks() {
    // SO_MAX_PACING_RATE: 146,000 bytes a second are a segment each 10 ms.
    let mut rig = Rig::new();
    let options = TcpOptions {
        max_pacing_rate: 146_000,
        ..TcpOptions::default()
    };
    let open = measured(&mut rig, &options, 100);
    rig.write(&open, &[1; 8 * 1460]);
    let at = departures(&mut rig, 90);
    assert_eq!(at.len(), 8);
    // The first leaves at once; half of the time to the second was given back, for it was long ago.
    for (n, at) in at.iter().enumerate().skip(1) {
        let due = 5 + 10 * (n as u64 - 1);
        assert!(at.abs_diff(due) <= 1, "segment {n} after {at} ms");
    }
}

#[test]
fn what_waits_for_its_pace_is_nobodys_silence() {
    // TCP_USER_TIMEOUT is about peers that do not answer, and so are timeouts.
    let mut rig = Rig::new();
    let options = TcpOptions {
        max_pacing_rate: 100,
        user_timeout: Some(Duration::from_secs(5)),
        ..TcpOptions::default()
    };
    let mut open = measured(&mut rig, &options, 100);
    let end = open.host + 3 * MSS;
    rig.write(&open, &[1; 3 * 1460]);
    for _ in 0..3 {
        let at = rig.now;
        while rig.now - at < Duration::from_secs(16) {
            rig.ms(10);
            if let Some(seg) = rig.next() {
                open.host = seg.seq + seg.data.len() as u32;
                rig.send(open.peer, open.host, ACK, &[]);
                break;
            }
        }
        let info = rig.host.tcp_info(open.socket).unwrap();
        assert_eq!((info.unacknowledged, info.backoff), (0, 0));
    }
    assert_eq!(open.host, end, "all of it was sent");
}

#[test]
fn pacing_follows_window_and_round_trip() {
    // Twice the window each round trip in slow start: ten segments in half of 100 ms.
    let mut rig = Rig::new();
    let options = TcpOptions {
        pacing: true,
        ..TcpOptions::default()
    };
    let open = measured(&mut rig, &options, 100);
    rig.write(&open, &[1; 10 * 1460]);
    let at = departures(&mut rig, 90);
    assert_eq!(at.len(), 10);
    assert!((40..=50).contains(&at[9]), "{at:?}");
    assert!(at.windows(2).all(|w| w[1] - w[0] <= 6), "{at:?}");
}

#[test]
fn without_pacing_a_window_leaves_at_once() {
    let mut rig = Rig::new();
    let open = measured(&mut rig, &TcpOptions::default(), 100);
    rig.write(&open, &[1; 10 * 1460]);
    assert_eq!(departures(&mut rig, 1), [0; 10]);
}

#[test]
fn the_first_ten_segments_are_not_paced() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        pacing: true,
        ..TcpOptions::default()
    };
    rig.handshake_ms = 100;
    let open = rig.accepted_with(&options, scaled_without_sack());
    rig.write(&open, &[1; 10 * 1460]);
    assert_eq!(departures(&mut rig, 1), [0; 10]);
}

/// A window of many segments, all acknowledged; how large it is.
fn grown(rig: &mut Rig, open: &mut Open) -> u32 {
    for _ in 0..4 {
        rig.write(open, &[1; 120_000]);
        loop {
            let mut end = open.host;
            while let Some(segment) = rig.next() {
                end = segment.seq.wrapping_add(segment.data.len() as u32);
            }
            if end == open.host {
                break;
            }
            open.host = end;
            rig.ms(10);
            rig.send(open.peer, end, ACK, &[]);
        }
    }
    rig.host.tcp_info(open.socket).unwrap().cwnd
}

#[test]
fn a_window_that_is_not_used_shrinks() {
    // RFC 2861 3.2: half the way to what was used of it each timeout; slow start leads back to three quarters.
    let mut rig = Rig::new();
    let mut open = measured(&mut rig, &TcpOptions::default(), 10);
    let before = grown(&mut rig, &mut open);
    assert!(before > 40 * MSS);
    // Never idle, and never more than thirty segments in flight.
    for _ in 0..100 {
        rig.write(&open, &[1; 15 * 1460]);
        let acked = open.host;
        while let Some(segment) = rig.next() {
            open.host = segment.seq.wrapping_add(segment.data.len() as u32);
        }
        rig.ms(10);
        rig.send(open.peer, acked, ACK, &[]);
    }
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert!(info.cwnd < before, "{} of {before}", info.cwnd);
    assert!(info.cwnd >= 20 * MSS);
    assert!(info.ssthresh >= before / 2 + before / 4);
}

#[test]
fn idle_windows_stay_if_the_host_says_so() {
    let mut rig = Rig::new();
    let mut tunables = rig.host.tcp_tunables();
    tunables.slow_start_after_idle = 0;
    rig.host.set_tcp_tunables(tunables).unwrap();
    let mut open = measured(&mut rig, &TcpOptions::default(), 10);
    let before = grown(&mut rig, &mut open);
    rig.advance(Duration::from_secs(30));
    rig.write(&open, &[1; 1460]);
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().cwnd, before);
}

/// What congestion control learnt outlives an idle time: the next loss finds CUBIC's last maximum, and reduces it (RFC 9438 4.7).
#[test]
fn congestion_control_remembers_through_idle_times() {
    let mut rig = Rig::new();
    let mut tunables = rig.host.tcp_tunables();
    tunables.slow_start_after_idle = 0;
    rig.host.set_tcp_tunables(tunables).unwrap();
    let mut open = measured(&mut rig, &TcpOptions::default(), 10);
    grown(&mut rig, &mut open);
    let lose = |rig: &mut Rig, open: &mut Open| {
        rig.write(open, &[1; 20 * 1460]);
        let mut end = open.host;
        while let Some(segment) = rig.next() {
            end = segment.seq.wrapping_add(segment.data.len() as u32);
        }
        rig.ms(10);
        for _ in 0..4 {
            rig.send(open.peer, open.host, ACK, &[]);
        }
        while rig.next().is_some() {}
        rig.ms(10);
        rig.send(open.peer, end, ACK, &[]);
        open.host = end;
    };
    lose(&mut rig, &mut open);
    assert_eq!(rig.host.tcp_occupancy().active, 0, "idle");
    let ssthresh = rig.host.tcp_info(open.socket).unwrap().ssthresh;
    rig.advance(Duration::from_secs(5));
    rig.write(&open, &[1; 1460]);
    open.host = rig.expect().seq + MSS;
    rig.ms(10);
    rig.send(open.peer, open.host, ACK, &[]);
    assert!(rig.host.tcp_info(open.socket).unwrap().cwnd <= ssthresh + MSS);
    // Another algorithm begins with nothing, and the record goes with the connection.
    rig.host
        .tcp_set_options(rig.now, open.socket, |o| {
            o.congestion = Some(Congestion::Reno)
        })
        .unwrap();
    rig.host.abort(rig.now, open.socket).unwrap();
    rig.host.audit().unwrap();
}
