//! Loss recovery: RACK-TLP (RFC 8985), proportional rate reduction (RFC 9937), limited transmit (RFC 3042), and taking a repair
//! back that was not needed (RFC 3522, RFC 5682, D-SACK).

use stack::{Congestion, Count, Recovery, TcpInfo, TcpOptions};
use wire::tcp::{Options, Sack};

use crate::rig::{ACK, Open, Rig, SECOND, Seg, nodelay};

const MSS: u32 = 1400;

/// A connection over a path of 100 ms, with SACK, and with time stamps if `stamps`; ten segments of window.
fn path(stamps: bool) -> (Rig, Open) {
    let mut rig = Rig::new();
    let syn = Options {
        mss: Some(MSS as u16 + if stamps { 12 } else { 0 }),
        sack_permitted: true,
        timestamps: stamps.then_some((1000, 0)),
        ..Options::default()
    };
    let open = rig.accepted_with(&nodelay(), syn);
    // Some exchanges tell the round trip: the handshake took no time.
    let mut at = open.host;
    for _ in 0..40 {
        rig.write(&open, &[0; 10]);
        let first = rig.expect();
        rig.ms(100);
        at = at.wrapping_add(10);
        let options = echo(&first);
        rig.send_with(open.peer, at, ACK, &[], options);
    }
    sent(&mut rig);
    (rig, Open { host: at, ..open })
}

fn plain() -> Options {
    Options {
        mss: Some(MSS as u16),
        ..Options::default()
    }
}

fn echo(segment: &Seg) -> Options {
    Options {
        timestamps: segment.options.timestamps.map(|(value, _)| (2000, value)),
        ..Options::default()
    }
}

/// Writes `count` segments and returns what is sent at once.
fn burst(rig: &mut Rig, open: &Open, count: usize) -> Vec<Seg> {
    rig.write(open, &vec![1; count * MSS as usize]);
    sent(rig)
}

fn sent(rig: &mut Rig) -> Vec<Seg> {
    core::iter::from_fn(|| rig.next()).collect()
}

/// Which segments of the flight these are.
fn numbers(open: &Open, segments: &[Seg]) -> Vec<u32> {
    let number = |s: &Seg| s.seq.wrapping_sub(open.host) / MSS;
    segments.iter().map(number).collect()
}

/// The peer acknowledges up to segment `to` and reports `blocks` of segments.
fn ack(rig: &mut Rig, open: &Open, to: u32, blocks: &[(u32, u32)]) {
    ack_with(rig, open, to, blocks, Options::default());
}

fn ack_with(rig: &mut Rig, open: &Open, to: u32, blocks: &[(u32, u32)], options: Options) {
    let seg = |n: u32| open.host.wrapping_add(n * MSS);
    let mut sack = Sack::EMPTY;
    for &(from, to) in blocks {
        sack.push((seg(from), seg(to)));
    }
    let options = Options { sack, ..options };
    rig.send_with(open.peer, seg(to), ACK, &[], options);
}

fn info(rig: &Rig, open: &Open) -> TcpInfo {
    rig.host.tcp_info(open.socket).unwrap()
}

fn count(rig: &Rig, what: Count) -> u64 {
    rig.host.stats().counts.get(what)
}

/// RFC 8985 6.2 step 5: what was sent long enough before something that arrived is lost, however few segments tell of it.
#[test]
fn a_segment_sent_before_one_that_arrived_is_lost_in_time() {
    let (mut rig, open) = path(false);
    assert_eq!(burst(&mut rig, &open, 2).len(), 2);
    rig.ms(100);
    ack(&mut rig, &open, 0, &[(1, 2)]);
    rig.silence();
    // A quarter of the round trip is the reordering window (6.2 step 4).
    rig.ms(24);
    rig.silence();
    rig.ms(2);
    let again = sent(&mut rig);
    assert_eq!(numbers(&open, &again), [0]);
    let now = info(&rig, &open);
    assert_eq!((now.sacked, now.retransmitted), (MSS, MSS));
    assert_eq!(count(&rig, Count::TcpTimeouts), 0);
}

/// RFC 8985 6.2 step 4: DupThresh segments reported and none ever out of order: no window, as RFC 5681 3.2.
#[test]
fn three_segments_that_arrived_make_it_lost_at_once() {
    let (mut rig, open) = path(false);
    burst(&mut rig, &open, 6);
    rig.ms(100);
    ack(&mut rig, &open, 0, &[(1, 2)]);
    ack(&mut rig, &open, 0, &[(1, 3)]);
    rig.silence();
    ack(&mut rig, &open, 0, &[(1, 4)]);
    assert_eq!(numbers(&open, &sent(&mut rig)), [0]);
}

/// RFC 8985 6.2 step 3: a path that was seen to reorder gets its window although many segments are reported.
#[test]
fn a_path_that_reorders_is_given_time() {
    let (mut rig, open) = path(false);
    burst(&mut rig, &open, 10);
    rig.ms(100);
    ack(&mut rig, &open, 0, &[(1, 3)]);
    ack(&mut rig, &open, 3, &[]);
    assert_eq!(info(&rig, &open).reordering, 3);
    sent(&mut rig);
    ack(&mut rig, &open, 3, &[(4, 10)]);
    assert!(!numbers(&open, &sent(&mut rig)).contains(&3), "not yet");
    rig.ms(10);
    ack(&mut rig, &open, 10, &[]);
    rig.ms(20);
    sent(&mut rig);
    assert_eq!(count(&rig, Count::TcpRetransmits), 0);
    assert!(info(&rig, &open).reordering >= 7, "as far as it was seen");
    // The memory outlives the flight: it is the connection's.
    rig.ms(1000);
    assert_eq!(rig.host.tcp_occupancy().active, 0);
    assert!(info(&rig, &open).reordering >= 7);
}

/// RFC 8985 6.2: a retransmission is lost when something sent after it arrives.
#[test]
fn a_lost_retransmission_is_sent_again_without_a_timeout() {
    let (mut rig, open) = path(false);
    burst(&mut rig, &open, 10);
    rig.ms(100);
    ack(&mut rig, &open, 0, &[(1, 6)]);
    let again = sent(&mut rig);
    assert_eq!(numbers(&open, &again)[0], 0);
    // New data follows as the peer reports more; it arrives, the retransmission does not.
    rig.write(&open, &[2; 4 * MSS as usize]);
    ack(&mut rig, &open, 0, &[(1, 10)]);
    let new = numbers(&open, &sent(&mut rig));
    assert!(new.contains(&10), "{new:?}");
    rig.ms(100);
    ack(&mut rig, &open, 0, &[(1, 11)]);
    let mut third = numbers(&open, &sent(&mut rig));
    rig.ms(30);
    third.extend(numbers(&open, &sent(&mut rig)));
    assert!(third.contains(&0), "{third:?}");
    assert_eq!(count(&rig, Count::TcpTimeouts), 0);
}

/// RFC 8985 6.2 step 2: RACK.rtt is of what was delivered last, also where the latest that was sent stays another. A late
/// original among retransmissions says that what left with it may be late, too.
#[test]
fn a_late_original_gives_the_others_time() {
    let (mut rig, open) = path(false);
    burst(&mut rig, &open, 10);
    rig.ms(100);
    ack(&mut rig, &open, 0, &[(1, 2)]);
    ack(&mut rig, &open, 0, &[(1, 3)]);
    ack(&mut rig, &open, 0, &[(8, 9), (1, 3)]);
    assert_eq!(numbers(&open, &sent(&mut rig)), [0]);
    rig.ms(100);
    // The retransmission of 0 arrived, and 3, which was held lost, itself.
    ack(&mut rig, &open, 4, &[(8, 9)]);
    let again = numbers(&open, &sent(&mut rig));
    assert_eq!(again, [4, 5, 6], "two delivered, and one for progress");
    assert_eq!(info(&rig, &open).lost, MSS, "9 is not held lost");
}

/// RFC 8985 7.2, 7.3: with nothing to tell of the tail it is probed after two round trips, before the timeout.
#[test]
fn the_tail_is_probed() {
    let (mut rig, open) = path(false);
    burst(&mut rig, &open, 4);
    rig.ms(201);
    rig.silence();
    rig.ms(3);
    let probe = sent(&mut rig);
    assert_eq!(numbers(&open, &probe), [3], "the last segment");
    assert_eq!(count(&rig, Count::TcpLossProbes), 1);
    // Its answer shows what is missing; no timeout was needed.
    rig.ms(100);
    ack(&mut rig, &open, 2, &[(3, 4)]);
    rig.ms(30);
    assert_eq!(numbers(&open, &sent(&mut rig)), [2]);
    assert_eq!(count(&rig, Count::TcpTimeouts), 0);
}

/// RFC 8985 7.3: a probe carries new data if there is some the peer would take.
#[test]
fn a_probe_prefers_new_data() {
    let (mut rig, open) = path(false);
    let first = burst(&mut rig, &open, 14).len() as u32;
    assert!(first < 14, "the window holds the rest back");
    rig.ms(204);
    assert_eq!(numbers(&open, &sent(&mut rig)), [first]);
}

/// RFC 8985 7.2: a single segment's ACK may be a delayed one, and the probe never comes after the timeout.
#[test]
fn a_single_segment_is_probed_when_its_timeout_would_be() {
    let (mut rig, open) = path(false);
    burst(&mut rig, &open, 1);
    let rto = info(&rig, &open).rto;
    rig.advance(rto - core::time::Duration::from_millis(2));
    rig.silence();
    rig.ms(10);
    assert_eq!(numbers(&open, &sent(&mut rig)), [0]);
    let counts = (
        count(&rig, Count::TcpLossProbes),
        count(&rig, Count::TcpTimeouts),
    );
    assert_eq!(counts, (1, 0));
    rig.advance(rto + core::time::Duration::from_millis(10));
    assert_eq!(count(&rig, Count::TcpTimeouts), 1, "then it is one");
}

/// RFC 8985 7.4.2: a probe that repaired a loss is answered by congestion control; one that was a duplicate is not.
#[test]
fn a_loss_that_a_probe_repaired_counts() {
    for repaired in [true, false] {
        let (mut rig, open) = path(false);
        burst(&mut rig, &open, 4);
        rig.ms(300);
        assert_eq!(numbers(&open, &sent(&mut rig)), [3]);
        let before = info(&rig, &open).cwnd;
        rig.write(&open, &[3; 2 * MSS as usize]);
        sent(&mut rig);
        if repaired {
            ack(&mut rig, &open, 4, &[]);
        } else {
            ack(&mut rig, &open, 4, &[(3, 4)]); // RFC 2883: both copies came
        }
        ack(&mut rig, &open, 5, &[]);
        let after = info(&rig, &open).cwnd;
        assert_eq!(after < before, repaired, "{before} {after}");
    }
}

/// RFC 3042: each of the first two duplicate ACKs lets one new segment out, although the window does not grow.
#[test]
fn the_first_duplicates_let_new_segments_out() {
    for sack in [true, false] {
        let (mut rig, open) = if sack {
            path(false)
        } else {
            let mut rig = Rig::new();
            let open = rig.accepted_with(&TcpOptions::default(), plain());
            (rig, open)
        };
        let window = burst(&mut rig, &open, 30).len() as u32;
        rig.ms(10);
        for n in 1..3 {
            ack(
                &mut rig,
                &open,
                0,
                if sack {
                    &[(1, 2), (2, 3)][n - 1..n]
                } else {
                    &[]
                },
            );
            let new = numbers(&open, &sent(&mut rig));
            assert_eq!(new, [window + n as u32 - 1], "SACK {sack}");
        }
    }
}

/// RFC 9937 6: the window comes down in proportion to what is delivered, and is ssthresh when the repair ends.
#[test]
fn a_recovery_sends_in_proportion_to_what_arrives() {
    let (mut rig, open) = path(false);
    let window = burst(&mut rig, &open, 60).len() as u32;
    rig.ms(100);
    let mut out = 0;
    for n in 2..=window {
        ack(&mut rig, &open, 0, &[(1, n)]);
        out += sent(&mut rig).len() as u32;
    }
    let now = info(&rig, &open);
    let limit = now.ssthresh / MSS;
    assert!(limit < window);
    // Two by limited transmit and the retransmission, then as many as ssthresh allows.
    assert!(
        out >= limit - 2 && out <= limit + 3,
        "{out} sent for {limit}"
    );
    ack(&mut rig, &open, window + 2, &[]);
    assert!(info(&rig, &open).cwnd <= now.ssthresh.max(2 * MSS));
}

/// RFC 3522 3.2, RFC 4015 3.2: an ACK that answers the original of what was sent again shows the repair to be needless.
#[test]
fn an_echo_of_the_original_takes_a_repair_back() {
    let (mut rig, open) = path(true);
    let first = burst(&mut rig, &open, 10);
    rig.ms(100);
    let before = info(&rig, &open);
    ack_with(&mut rig, &open, 0, &[(1, 5)], echo(&first[0]));
    assert_eq!(numbers(&open, &sent(&mut rig))[0], 0);
    assert!(info(&rig, &open).ssthresh < before.ssthresh);
    rig.ms(10);
    ack_with(&mut rig, &open, 5, &[], echo(&first[0]));
    let after = info(&rig, &open);
    assert!(after.cwnd >= before.cwnd && after.ssthresh == before.ssthresh);
    assert_eq!(count(&rig, Count::TcpUndone), 1);
    // That was disorder: as much of it again starts no repair, before a quarter of the round trip is over (RFC 8985 6.2).
    assert_eq!(after.reordering, 5);
    sent(&mut rig);
    ack_with(&mut rig, &open, 5, &[(6, 10)], echo(&first[0]));
    assert!(numbers(&open, &sent(&mut rig)).iter().all(|n| *n >= 10));
    assert_eq!(info(&rig, &open).recovery, Recovery::Disorder);
    // The answer to the retransmission itself does nothing of the kind.
    let (mut rig, open) = path(true);
    let first = burst(&mut rig, &open, 10);
    rig.ms(100);
    ack_with(&mut rig, &open, 0, &[(1, 5)], echo(&first[0]));
    let again = sent(&mut rig);
    rig.ms(100);
    ack_with(&mut rig, &open, 5, &[], echo(&again[0]));
    assert_eq!(count(&rig, Count::TcpUndone), 0);
}

/// The answer to an original tells while the repair goes on. Later an old stamp takes nothing back, nor one that comes round after
/// 24 days on a connection that never rests.
#[test]
fn an_old_echo_after_a_repair_takes_nothing_back() {
    let (mut rig, open) = path(true);
    let first = burst(&mut rig, &open, 10);
    rig.ms(100);
    ack_with(&mut rig, &open, 0, &[(1, 10)], echo(&first[0]));
    let again = sent(&mut rig);
    burst(&mut rig, &open, 10);
    rig.ms(100);
    ack_with(&mut rig, &open, 10, &[], echo(&again[0]));
    sent(&mut rig);
    let reduced = info(&rig, &open);
    assert!(reduced.unacknowledged > MSS && reduced.recovery == Recovery::Open);
    ack_with(&mut rig, &open, 11, &[], echo(&first[0]));
    let after = info(&rig, &open);
    assert_eq!(count(&rig, Count::TcpUndone), 0);
    assert_eq!(after.ssthresh, reduced.ssthresh);
}

/// Of ten segments the first is sent again, and `acked` are acknowledged then; how the connection was before.
fn repaired(acked: u32) -> (Rig, Open, TcpInfo) {
    let (mut rig, open) = path(false);
    burst(&mut rig, &open, 10);
    rig.ms(100);
    let before = info(&rig, &open);
    ack(&mut rig, &open, 0, &[(1, 5)]);
    assert_eq!(numbers(&open, &sent(&mut rig)), [0]);
    ack(&mut rig, &open, acked, &[]);
    (rig, open, before)
}

/// A D-SACK for everything that was sent again: nothing was lost (RFC 3708 3, as Linux), and RACK waits longer from now on
/// (RFC 8985 6.2 step 4).
#[test]
fn duplicates_reported_take_a_repair_back() {
    let (mut rig, open, before) = repaired(5);
    sent(&mut rig);
    assert!(info(&rig, &open).ssthresh < before.ssthresh, "not yet");
    rig.ms(100);
    ack(&mut rig, &open, 5, &[(0, 1)]);
    let after = info(&rig, &open);
    assert!(after.cwnd >= before.cwnd && after.ssthresh == before.ssthresh);
    assert_eq!(count(&rig, Count::TcpDuplicatesReported), 1);
    assert_eq!(count(&rig, Count::TcpUndone), 1);
}

/// All is acknowledged before the report comes: it is waited for, for a timeout.
#[test]
fn duplicates_reported_late_take_a_repair_back() {
    for reported in [true, false] {
        let (mut rig, open, before) = repaired(10);
        let reduced = info(&rig, &open);
        assert!(reduced.ssthresh < before.ssthresh);
        rig.ms(100);
        if reported {
            ack(&mut rig, &open, 10, &[(0, 1)]);
            let after = info(&rig, &open);
            assert!(after.cwnd >= before.cwnd && after.ssthresh == before.ssthresh);
            assert_eq!(count(&rig, Count::TcpUndone), 1);
        } else {
            assert_eq!(rig.host.tcp_occupancy().active, 1, "it is waited for");
            rig.ms(1000);
            assert_eq!(info(&rig, &open).ssthresh, reduced.ssthresh);
        }
        rig.silence();
        rig.host.audit().unwrap();
        assert_eq!(rig.host.tcp_occupancy().active, 0);
    }
}

/// What keeps a connection busy otherwise keeps no report waited for: an ACK that says nothing new begins no second wait.
#[test]
fn a_report_that_did_not_come_is_waited_for_once() {
    let (mut rig, open, _) = repaired(10);
    let end = open.host.wrapping_add(10 * MSS);
    rig.send_with(open.peer, end, ACK, b"unread", Options::default());
    rig.ms(1000);
    sent(&mut rig);
    assert_eq!(rig.host.tcp_occupancy().active, 1);
    let peer = open.peer.wrapping_add(6);
    rig.send_with(peer, end, ACK, &[], Options::default());
    rig.host.audit().unwrap();
}

/// RFC 5682 2.1: after a timeout new data is sent before anything more is sent again. If originals arrive, the timeout was
/// needless.
#[test]
fn a_needless_timeout_is_found_out() {
    for sack in [true, false] {
        let mut rig = Rig::new();
        let syn = Options {
            mss: Some(MSS as u16),
            sack_permitted: sack,
            ..Options::default()
        };
        let open = rig.accepted_with(&nodelay(), syn);
        burst(&mut rig, &open, 10);
        rig.write(&open, &[2; 6 * MSS as usize]);
        let before = info(&rig, &open);
        rig.ms(2100);
        sent(&mut rig);
        assert!(count(&rig, Count::TcpTimeouts) >= 1);
        assert_eq!(info(&rig, &open).cwnd, MSS);
        // The path was slow: ACKs of the originals come.
        ack(&mut rig, &open, 1, &[]);
        let new = numbers(&open, &sent(&mut rig));
        assert!(new.iter().all(|n| *n >= 10), "new data only: {new:?}");
        ack(&mut rig, &open, 2, &[]);
        let after = info(&rig, &open);
        assert!(after.cwnd >= before.cwnd, "{} {}", after.cwnd, before.cwnd);
        assert_eq!(count(&rig, Count::TcpUndone), 1, "SACK {sack}");
    }
}

/// RFC 5682 2.1 step 3 (a): a duplicate ACK says that the loss was real, and the rest is sent again.
#[test]
fn a_real_timeout_stays_one() {
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted_with(&nodelay(), plain());
    burst(&mut rig, &open, 10);
    rig.write(&open, &[2; 6 * MSS as usize]);
    rig.ms(1100);
    assert_eq!(numbers(&open, &sent(&mut rig)), [0]);
    ack(&mut rig, &open, 1, &[]);
    sent(&mut rig);
    ack(&mut rig, &open, 1, &[]);
    let again = numbers(&open, &sent(&mut rig));
    assert!(again.contains(&1), "{again:?}");
    assert_eq!(count(&rig, Count::TcpUndone), 0);
}

/// RFC 5682 2.1 step 2 (b): two new segments at most, whatever the window is. As many as it lets leave no room for the rest, which a
/// window held to its least (BBR) would send one of after each timeout.
#[test]
fn after_a_timeout_two_new_segments_ask() {
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let options = TcpOptions {
        congestion: Some(Congestion::Bbr),
        ..nodelay()
    };
    let open = rig.accepted_with(&options, plain());
    burst(&mut rig, &open, 10);
    rig.write(&open, &[2; 6 * MSS as usize]);
    rig.ms(1100);
    assert_eq!(numbers(&open, &sent(&mut rig)), [0]);
    ack(&mut rig, &open, 1, &[]);
    let window = info(&rig, &open).cwnd;
    assert!(window >= 4 * MSS, "{window}");
    let paced = |rig: &mut Rig| {
        let mut tick = || {
            rig.ms(50);
            sent(rig)
        };
        let all: Vec<_> = (0..6).flat_map(|_| tick()).collect();
        numbers(&open, &all)
    };
    assert_eq!(paced(&mut rig), [10, 11]);
    ack(&mut rig, &open, 1, &[]);
    assert_eq!(paced(&mut rig), [1, 2]);
}

/// RFC 5682 2.1 step 1: a timeout of a repair that moved on asks nothing again, for its retransmissions are what is missing.
#[test]
fn a_second_timeout_of_a_repair_asks_nothing() {
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted_with(&nodelay(), plain());
    burst(&mut rig, &open, 10);
    rig.write(&open, &[2; 6 * MSS as usize]);
    rig.ms(1100);
    assert_eq!(numbers(&open, &sent(&mut rig)), [0]);
    ack(&mut rig, &open, 1, &[]);
    ack(&mut rig, &open, 1, &[]);
    assert!(numbers(&open, &sent(&mut rig)).contains(&1));
    while count(&rig, Count::TcpTimeouts) < 2 {
        rig.ms(100);
    }
    assert_eq!(numbers(&open, &sent(&mut rig)), [1]);
    ack(&mut rig, &open, 2, &[]);
    assert_eq!(numbers(&open, &sent(&mut rig))[0], 2);
}

/// The one ACK of both new segments may open the window, too: nobody waits for another.
#[test]
fn an_ack_that_opens_the_window_says_that_a_timeout_was_real() {
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted_with(&nodelay(), plain());
    burst(&mut rig, &open, 10);
    rig.write(&open, &[2; 6 * MSS as usize]);
    rig.ms(1100);
    assert_eq!(numbers(&open, &sent(&mut rig)), [0]);
    rig.window -= 100;
    ack(&mut rig, &open, 1, &[]);
    sent(&mut rig);
    rig.window += 100;
    ack(&mut rig, &open, 1, &[]);
    let again = numbers(&open, &sent(&mut rig));
    assert!(again.contains(&1), "{again:?}");
}

/// RFC 5682 2.1 step 2 (b): where no new data can leave, the repair goes on.
#[test]
fn a_timeout_is_repaired_where_new_data_cannot_leave() {
    let mut rig = Rig::new();
    rig.window = 4 * MSS as u16;
    let open = rig.accepted_with(&TcpOptions::default(), plain());
    burst(&mut rig, &open, 9);
    rig.ms(300);
    assert_eq!(numbers(&open, &sent(&mut rig)), [0]);
    // Room for a part of a segment, which is not worth sending.
    rig.window = 3 * MSS as u16 + 100;
    ack(&mut rig, &open, 1, &[]);
    assert_eq!(numbers(&open, &sent(&mut rig))[0], 1);
}

/// RFC 5681 (4), as Linux reads it: a window is reduced once, also when its fast recovery ends in a timeout.
#[test]
fn a_timeout_in_a_recovery_does_not_reduce_again() {
    let (mut rig, open) = path(false);
    burst(&mut rig, &open, 10);
    rig.ms(100);
    ack(&mut rig, &open, 0, &[(6, 10)]);
    sent(&mut rig);
    let before = info(&rig, &open);
    assert!(before.cwnd < before.ssthresh, "{before:?}");
    rig.ms(before.rto.as_millis() as u64 + 10);
    let after = info(&rig, &open);
    assert_eq!(count(&rig, Count::TcpTimeouts), 1);
    assert_eq!((after.cwnd, after.ssthresh), (MSS, before.ssthresh));
}

/// RFC 8985 6.3: a timeout holds lost what had time to arrive, not what left just before.
#[test]
fn a_timeout_leaves_alone_what_was_just_sent() {
    let (mut rig, open) = path(false);
    burst(&mut rig, &open, 2);
    // The probe goes at 202 ms; the timeout follows it by its own time.
    rig.ms(210);
    sent(&mut rig);
    let rto = info(&rig, &open).rto.as_millis() as u64;
    rig.ms(rto - 20);
    burst(&mut rig, &open, 2);
    rig.ms(20);
    let now = info(&rig, &open);
    assert_eq!(count(&rig, Count::TcpTimeouts), 1);
    assert!(now.lost + now.retransmitted <= 2 * MSS, "{now:?}");
}

/// Another congestion control from now on (TCP_CONGESTION).
fn govern(rig: &mut Rig, open: &Open, by: Congestion) {
    rig.host
        .tcp_set_options(rig.now, open.socket, |options| {
            options.congestion = Some(by)
        })
        .unwrap();
}

/// What one congestion control knew is nothing to another that has taken its place since.
#[test]
fn a_repair_is_not_taken_back_by_another_congestion_control() {
    for from in Congestion::AVAILABLE {
        for to in Congestion::AVAILABLE {
            let (mut rig, open) = path(false);
            govern(&mut rig, &open, *from);
            burst(&mut rig, &open, 10);
            rig.ms(100);
            ack(&mut rig, &open, 2, &[]);
            ack(&mut rig, &open, 2, &[(3, 7)]);
            assert_eq!(count(&rig, Count::TcpFastRetransmits), 1);
            govern(&mut rig, &open, *to);
            burst(&mut rig, &open, 2);
            for end in 10..30 {
                rig.ms(100);
                ack(&mut rig, &open, end, &[]);
                burst(&mut rig, &open, 1);
            }
            ack(&mut rig, &open, 29, &[(2, 3)]);
            assert_eq!(count(&rig, Count::TcpUndone), u64::from(from == to));
        }
    }
}

/// A path whose round trip has grown from 100 to 450 ms, so that a probe leaves before each ACK. Writes a byte, which is
/// acknowledged by its original; returns when it was sent again meanwhile.
fn slow_exchange(rig: &mut Rig, open: &Open, n: u32) -> Vec<u64> {
    let mut again = Vec::new();
    rig.write(open, b"x");
    let first = rig.expect();
    for ms in 1..=450 {
        rig.ms(1);
        again.extend(sent(rig).iter().map(|_| ms));
    }
    let sack = match again.len() {
        0 => Options::default(),
        // The copy that came second is reported later, by an ACK that tells nothing new.
        _ => echo(&first),
    };
    rig.send_with(open.peer, open.host + n, ACK, &[], sack);
    again
}

/// RFC 7323 4.1: the echo says how long the round trip took, though the segment was sent twice.
#[test]
fn a_probe_does_not_hide_the_round_trip_where_there_are_stamps() {
    let (mut rig, open) = path(true);
    assert_eq!(slow_exchange(&mut rig, &open, 1).len(), 1, "a probe");
    let rtt = info(&rig, &open).rtt.as_millis();
    assert!((140..150).contains(&rtt), "an eighth of the way: {rtt}");
    for n in 2..30 {
        slow_exchange(&mut rig, &open, n);
    }
    assert_eq!(slow_exchange(&mut rig, &open, 30), [], "it is known now");
}

/// RFC 8985 7.3: no second probe without a sample since the first, or a round trip that grew would never be measured.
#[test]
fn without_stamps_a_probe_waits_for_a_sample_since_the_last() {
    let (mut rig, open) = path(false);
    assert_eq!(slow_exchange(&mut rig, &open, 1).len(), 1, "a probe");
    let before = info(&rig, &open);
    assert!(before.rtt.as_millis() <= 100, "Karn: no sample");
    rig.ms(5000);
    assert_eq!(slow_exchange(&mut rig, &open, 2), [], "but not another");
    let after = info(&rig, &open);
    assert!((140..150).contains(&after.rtt.as_millis()), "a sample");
    assert_eq!(count(&rig, Count::TcpTimeouts), 0);
    // And then there may be one again.
    assert_eq!(
        slow_exchange(&mut rig, &open, 3).len(),
        0,
        "450 ms are no surprise any more"
    );
    burst(&mut rig, &open, 1);
    rig.ms(1200);
    assert!(count(&rig, Count::TcpLossProbes) == 2);
}

/// RFC 8985 3.3.2: the reordering window is bounded, by the smoothed round trip, however often the peer says it was too small.
#[test]
fn the_reordering_window_grows_no_longer_than_the_round_trip() {
    let (mut rig, mut open) = path(false);
    let mut waits = Vec::new();
    let mut next = burst(&mut rig, &open, 4).len();
    for _ in 0..12 {
        assert_eq!(next, 4);
        rig.ms(100);
        ack(&mut rig, &open, 0, &[(1, 3)]);
        let mut wait = 0;
        while numbers(&open, &sent(&mut rig)).is_empty() {
            assert!(wait < 500, "{waits:?} {:?}", info(&rig, &open));
            rig.ms(1);
            wait += 1;
        }
        waits.push(wait);
        // It was not lost: both copies came, while a fifth is on its way.
        burst(&mut rig, &open, 1);
        ack(&mut rig, &open, 4, &[]);
        rig.ms(50);
        ack(&mut rig, &open, 4, &[(0, 1)]);
        sent(&mut rig);
        rig.ms(50);
        open.host = open.host.wrapping_add(5 * MSS);
        next = burst(&mut rig, &open, 4).len();
        ack(&mut rig, &open, 0, &[]);
    }
    let srtt = info(&rig, &open).rtt.as_millis() as u32;
    assert!((24..=27).contains(&waits[0]), "a quarter: {waits:?}");
    assert!(waits[3] >= 2 * waits[0], "it grows: {waits:?}");
    assert!(
        waits.iter().all(|wait| *wait <= srtt + 3),
        "{srtt}: {waits:?}"
    );
}

/// RFC 8985 9.3: what is lost goes again when congestion control says so, not when it is found out.
#[test]
fn what_is_lost_waits_for_the_window() {
    let (mut rig, open) = path(false);
    assert_eq!(burst(&mut rig, &open, 10).len(), 10);
    rig.ms(100);
    ack(&mut rig, &open, 0, &[(7, 10)]);
    // Three arrived, so three may leave; seven are lost.
    let again = numbers(&open, &sent(&mut rig));
    assert_eq!(again, [0, 1, 2]);
    assert_eq!(info(&rig, &open).lost, 4 * MSS, "the others wait");
    rig.ms(100);
    ack(&mut rig, &open, 1, &[(7, 10)]);
    let more = numbers(&open, &sent(&mut rig));
    assert!(more.len() <= 2 && more[0] == 3, "{more:?}");
}

/// Nor is it after another timeout, when originals are listened for again.
#[test]
fn a_timeout_is_not_taken_back_by_another_congestion_control() {
    for from in Congestion::AVAILABLE {
        for to in Congestion::AVAILABLE {
            let (mut rig, open) = path(false);
            govern(&mut rig, &open, *from);
            burst(&mut rig, &open, 10);
            rig.ms(100);
            ack(&mut rig, &open, 2, &[]);
            rig.ms(700);
            assert_eq!(count(&rig, Count::TcpTimeouts), 1);
            govern(&mut rig, &open, *to);
            rig.ms(1000);
            assert_eq!(count(&rig, Count::TcpTimeouts), 2);
            ack(&mut rig, &open, 2, &[(5, 6)]);
            let undone = u64::from(from == to);
            assert_eq!(count(&rig, Count::TcpUndone), undone, "{from:?} {to:?}");
        }
    }
}
