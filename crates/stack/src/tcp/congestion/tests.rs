use super::*;

const MSS: u32 = 1448;

fn window(cwnd: u32, ssthresh: u32) -> Window {
    Window {
        cwnd,
        ssthresh,
        mss: MSS,
    }
}

fn ack(ms: u64, acked: u32) -> Ack {
    Ack {
        now: Instant::from_millis(ms),
        acked,
        limited: true,
        marked: 0,
        paced: false,
        rtt: 100_000,
        min_rtt: 100_000,
        una: Seq(0),
        next: Seq(0),
        hystart: Variant::Off,
    }
}

/// Acknowledges one whole window per round trip of 100 ms.
fn round_trips(control: &mut Control, w: &mut Window, from_ms: u64, count: u64) {
    for i in 0..count {
        let flight = w.cwnd;
        let mut left = flight;
        while left > 0 {
            let part = left.min(2 * MSS);
            control.algorithm().on_ack(w, &ack(from_ms + i * 100, part));
            left -= part;
        }
    }
}

#[test]
fn slow_start_doubles_and_stops_at_the_threshold() {
    for which in [Congestion::Reno, Congestion::Cubic] {
        let mut control = Control::new(which);
        let mut w = window(10 * MSS, 80 * MSS);
        round_trips(&mut control, &mut w, 0, 1);
        assert_eq!(w.cwnd, 20 * MSS);
        round_trips(&mut control, &mut w, 100, 2);
        assert_eq!(w.cwnd, 80 * MSS);
    }
}

#[test]
fn reno_adds_a_segment_per_round_trip_and_halves() {
    let mut control = Control::new(Congestion::Reno);
    let mut w = window(100 * MSS, 50 * MSS);
    round_trips(&mut control, &mut w, 0, 10);
    let grown = (w.cwnd - 100 * MSS) / MSS;
    assert!(
        (9..=10).contains(&grown),
        "{grown} segments in ten round trips"
    );
    assert_eq!(
        control.algorithm().on_loss(&w, 60 * MSS, Instant::ZERO),
        30 * MSS
    );
    assert_eq!(
        control.algorithm().on_loss(&w, MSS, Instant::ZERO),
        2 * MSS,
        "never below two segments"
    );
}

#[test]
fn cubic_returns_to_its_last_maximum_after_k() {
    let mut control = Control::new(Congestion::Cubic);
    let mut w = window(1000 * MSS, 1000 * MSS);
    w.ssthresh = control.algorithm().on_loss(&w, w.cwnd, Instant::ZERO);
    w.cwnd = w.ssthresh;
    assert_eq!(w.cwnd, 700 * MSS);
    // K = cbrt(300 / 0.4) = 9.09 s.
    round_trips(&mut control, &mut w, 0, 45);
    let half_way = w.cwnd / MSS;
    assert!(
        (940..1000).contains(&half_way),
        "concave: most of the way back at K/2, was {half_way}"
    );
    round_trips(&mut control, &mut w, 4500, 47);
    let at_k = w.cwnd / MSS;
    assert!(
        (985..=1010).contains(&at_k),
        "at the last maximum after K, was {at_k}"
    );
    round_trips(&mut control, &mut w, 9200, 60);
    assert!(w.cwnd / MSS > 1080, "convex beyond, was {}", w.cwnd / MSS);
}

#[test]
fn cubic_is_no_slower_than_reno_in_small_windows() {
    let grown = |which| {
        let mut control = Control::new(which);
        let mut w = window(20 * MSS, 20 * MSS);
        w.ssthresh = control.algorithm().on_loss(&w, w.cwnd, Instant::ZERO);
        w.cwnd = w.ssthresh;
        round_trips(&mut control, &mut w, 0, 100);
        w.cwnd / MSS
    };
    let cubic = grown(Congestion::Cubic);
    assert!(cubic >= 60, "W_est keeps up: {cubic}");
    assert!(grown(Congestion::Reno) >= 100);
}

#[test]
fn cubic_keeps_up_with_reno_in_large_windows_on_short_paths() {
    let mut cubic = Cubic::default();
    let mut w = window(4000 * MSS, 4000 * MSS);
    w.ssthresh = cubic.on_loss(&w, w.cwnd, Instant::ZERO);
    w.cwnd = w.ssthresh;
    for i in 0..200 {
        let mut left = w.cwnd;
        while left > 0 {
            let part = left.min(2 * MSS);
            cubic.on_ack(
                &mut w,
                &Ack {
                    rtt: 1000,
                    min_rtt: 1000,
                    ..ack(i, part)
                },
            );
            left -= part;
        }
    }
    let grown = (w.cwnd - w.ssthresh) / MSS;
    // W_est gains 106; the window follows it with the delay of Linux's steps.
    assert!(grown >= 90, "{grown} segments in 200 trips");
}

#[test]
fn cubic_forgets_its_maximum_after_a_timeout() {
    // RFC 9438 4.8: K is 0 and W_max the window when congestion avoidance begins
    let mut cubic = Cubic::default();
    let mut w = window(1000 * MSS, 1000 * MSS);
    w.ssthresh = cubic.on_timeout(&w, w.cwnd, Instant::ZERO);
    assert_eq!(w.ssthresh, 700 * MSS);
    w.cwnd = w.ssthresh;
    let mut control = Control::Cubic(cubic);
    round_trips(&mut control, &mut w, 0, 30);
    // Convex from the start, and with no maximum to be careful of by a segment for twenty at least, as Linux.
    let grown = w.cwnd as f64 / w.ssthresh as f64;
    assert!(
        (1.05f64.powi(28)..1.05f64.powi(31)).contains(&grown),
        "{grown}"
    );
}

#[test]
fn cubic_converges_fast_when_its_share_shrinks() {
    let mut cubic = Cubic::default();
    let mut w = window(1000 * MSS, 1000 * MSS);
    w.cwnd = cubic.on_loss(&w, w.cwnd, Instant::ZERO);
    let again = cubic.on_loss(&w, w.cwnd, Instant::ZERO);
    assert_eq!(again, 490 * MSS);
    // RFC 9438 4.7: flat at 595, half way between, where it would be at 700.
    (w.cwnd, w.ssthresh) = (again, again);
    let mut control = Control::Cubic(cubic);
    round_trips(&mut control, &mut w, 0, 64);
    let flat = w.cwnd / MSS;
    assert!((580..=605).contains(&flat), "{flat}");
}

#[test]
fn names_are_linux_s() {
    for &which in Congestion::AVAILABLE {
        assert_eq!(Congestion::from_name(which.name()), Some(which));
    }
    assert_eq!(Congestion::from_name("vegas"), None);
}

/// An ACK of two segments in a round that ends at `next`.
fn sample(una: u32, next: u32, rtt_ms: u32, hystart: Variant) -> Ack {
    Ack {
        rtt: rtt_ms * 1000,
        una: Seq(una),
        next: Seq(next),
        hystart,
        ..ack(0, MSS)
    }
}

/// Slow start through rounds of ten ACKs with these round trips, milliseconds; the window after each.
fn rounds(variant: Variant, rtts: &[u32]) -> (Window, Vec<u32>) {
    let mut cubic = Cubic::default();
    let mut w = window(20 * MSS, u32::MAX / 2);
    let mut after = Vec::new();
    for (round, &rtt) in rtts.iter().enumerate() {
        let start = round as u32 * 100;
        for i in 1..=10 {
            let ack = sample(start + i, start + 100, rtt, variant);
            cubic.on_ack(&mut w, &ack);
        }
        after.push(w.cwnd / MSS);
    }
    (w, after)
}

#[test]
fn slow_start_is_conservative_once_round_trips_get_longer() {
    // RFC 9406 4.2: 100 ms, then 112.5 ms and more: a quarter of the growth for five rounds, then avoidance.
    let (w, after) = rounds(Variant::PlusPlus, &[100, 100, 113, 113, 113, 113, 113]);
    assert_eq!(after[..2], [30, 40]);
    assert_eq!(after[2], 47, "{after:?}");
    assert_eq!(after[6], after[2] + 10, "a quarter of ten each round");
    assert!(w.in_slow_start());
    let (w, after) = rounds(
        Variant::PlusPlus,
        &[100, 100, 113, 113, 113, 113, 113, 113, 113],
    );
    assert!(!w.in_slow_start(), "{after:?}");
    // Below the threshold nothing happens.
    let (w, after) = rounds(Variant::PlusPlus, &[100, 111, 122, 133]);
    assert!(w.in_slow_start() && after == [30, 40, 50, 60], "{after:?}");
}

#[test]
fn slow_start_goes_on_when_the_queue_was_none() {
    // RFC 9406 4.2: a round below the baseline of conservative slow start.
    let (w, after) = rounds(Variant::PlusPlus, &[100, 100, 130, 110, 110, 110, 110, 110]);
    assert!(w.in_slow_start());
    assert!(after[7] - after[4] == 30, "full growth again: {after:?}");
}

#[test]
fn linux_s_variant_ends_slow_start_at_once() {
    let (w, after) = rounds(Variant::AtOnce, &[100, 113]);
    assert!(!w.in_slow_start() && after[1] < 40, "{after:?}");
    let (w, _) = rounds(Variant::AtOnce, &[100, 112]);
    assert!(w.in_slow_start());
}

/// The window after a round of so many ACKs, so many microseconds apart, over a path of 100 ms; whether slow start goes on.
fn train(acks: u32, gap: u64, paced: bool) -> (u32, bool) {
    let mut cubic = Cubic::default();
    let mut w = window(20 * MSS, u32::MAX / 2);
    for i in 1..=acks {
        let ack = Ack {
            now: Instant::ZERO + Duration::from_micros(u64::from(i) * gap),
            paced,
            ..sample(i, 1000, 100, Variant::PlusPlus)
        };
        cubic.on_ack(&mut w, &ack);
    }
    (w.cwnd / MSS, w.in_slow_start())
}

#[test]
fn slow_start_ends_when_acks_fill_half_of_a_round_trip() {
    assert_eq!(train(50, 1000, false), (70, true));
    let (segments, on) = train(100, 1000, false);
    assert!(!on && segments < 75, "{segments}");
    assert_eq!(train(100, 1000, true), (120, true), "paced, a whole one");
    // A pause ends the train: these are bursts.
    assert_eq!(train(100, 13_000, false), (120, true));
}

#[test]
fn a_mark_asks_for_less_than_a_loss() {
    // RFC 8511 3: 0.85
    let w = window(100 * MSS, 100 * MSS);
    for which in [Congestion::Reno, Congestion::Cubic] {
        let mut control = Control::new(which);
        let ssthresh = control.algorithm().on_mark(&w, w.cwnd, Instant::ZERO);
        assert_eq!(ssthresh, 85 * MSS, "{}", which.name());
    }
}

#[test]
fn idle_time_does_not_count_as_time_to_grow() {
    // RFC 9438 5.8
    let grown = |idle: u64| {
        let mut control = Control::new(Congestion::Cubic);
        let mut w = window(1000 * MSS, 1000 * MSS);
        w.ssthresh = control.algorithm().on_loss(&w, w.cwnd, Instant::ZERO);
        w.cwnd = w.ssthresh;
        round_trips(&mut control, &mut w, 0, 10);
        control.algorithm().on_idle(Duration::from_millis(idle));
        round_trips(&mut control, &mut w, 1000 + idle, 10);
        w.cwnd
    };
    assert_eq!(grown(0), grown(60_000));
}

#[test]
fn dctcp_shrinks_by_the_share_of_marks() {
    // RFC 8257 3.3 and 4.2: alpha = (1 - g) * alpha + g * M with g = 1/16, cwnd * (1 - alpha / 2).
    let mut dctcp = Dctcp::default();
    let w = window(100 * MSS, 100 * MSS);
    assert_eq!(
        dctcp.on_mark(&w, w.cwnd, Instant::ZERO),
        50 * MSS,
        "at first alpha is 1"
    );
    let windows = |dctcp: &mut Dctcp, from: u32, count: u32, marked: u32| {
        for round in from..from + count {
            for i in 1..=16 {
                dctcp.on_delivery(&Ack {
                    marked: if i <= marked { MSS } else { 0 },
                    ..sample(round * 100 + i, round * 100 + 100, 100, Variant::Off)
                });
            }
        }
    };
    windows(&mut dctcp, 0, 1, 0);
    assert_eq!(dctcp.alpha, 1024, "no window is over yet");
    windows(&mut dctcp, 1, 1, 0);
    assert_eq!(dctcp.alpha, 960);
    windows(&mut dctcp, 2, 200, 0);
    assert_eq!(dctcp.alpha, 0);
    assert_eq!(dctcp.on_mark(&w, w.cwnd, Instant::ZERO), 100 * MSS);
    windows(&mut dctcp, 202, 200, 4);
    assert!(
        (200..=256).contains(&dctcp.alpha),
        "a quarter: {}",
        dctcp.alpha
    );
    let ssthresh = dctcp.on_mark(&w, w.cwnd, Instant::ZERO) / MSS;
    assert!((87..=90).contains(&ssthresh), "{ssthresh}");
    assert_eq!(dctcp.on_loss(&w, w.cwnd, Instant::ZERO), 50 * MSS);
}

#[test]
fn cubic_grows_by_half_a_window_in_a_round_trip_at_most() {
    // RFC 9438 4.2: the target is 1.5 times the window at most, however long ago the last reduction was.
    let mut control = Control::new(Congestion::Cubic);
    let mut w = window(100 * MSS, 100 * MSS);
    w.ssthresh = control.algorithm().on_loss(&w, w.cwnd, Instant::ZERO);
    w.cwnd = w.ssthresh;
    round_trips(&mut control, &mut w, 0, 1);
    for at in [60_000, 120_000, 600_000] {
        let before = w.cwnd;
        round_trips(&mut control, &mut w, at, 1);
        assert!(w.cwnd > before && w.cwnd <= before + before / 2 + MSS);
    }
}
