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
        srtt: Duration::from_millis(100),
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
            let ack = Ack {
                now: Instant::from_millis(i),
                acked: part,
                srtt: Duration::from_millis(1),
            };
            cubic.on_ack(&mut w, &ack);
            left -= part;
        }
    }
    let grown = (w.cwnd - w.ssthresh) / MSS;
    assert!(grown >= 200 * 9 / 17 - 5, "{grown} segments in 200 trips");
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
    // Convex from the start: 0.4 * 3^3 segments after three seconds, where a concave start would have gained over 200.
    let grown = w.cwnd / MSS - 700;
    assert!((8..60).contains(&grown), "{grown}");
}

#[test]
fn cubic_converges_fast_when_its_share_shrinks() {
    let mut cubic = Cubic::default();
    let mut w = window(1000 * MSS, 1000 * MSS);
    w.cwnd = cubic.on_loss(&w, w.cwnd, Instant::ZERO);
    let again = cubic.on_loss(&w, w.cwnd, Instant::ZERO);
    assert_eq!(again, 490 * MSS);
}

#[test]
fn names_are_linux_s() {
    for which in [Congestion::Cubic, Congestion::Reno] {
        assert_eq!(Congestion::from_name(which.name()), Some(which));
    }
    assert_eq!(Congestion::from_name("vegas"), None);
}
