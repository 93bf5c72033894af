//! Accurate ECN (RFC 9768): the handshake and what becomes of it on bad paths, counters, the option, what the sender makes of them.

use stack::{Config, EcnCounters, Recovery, TcpOptions};
use wire::tcp::{AccEcn, Options, Sack};

use crate::rig::*;

const AE: Flags = Flags::AE;
const ECE: Flags = Flags::ECE;
const CWR: Flags = Flags::CWR;
const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// Flags of this value of the counter.
fn ace(value: u16) -> Flags {
    Flags(value << 6)
}

/// The value of the counter.
fn counter(seg: &Seg) -> u16 {
    seg.flags.0 >> 6 & 7
}

/// The option: ECT(0), CE, ECT(1).
fn counters(e0b: u32, ceb: u32, e1b: u32) -> Options {
    Options {
        acc_ecn: Some(AccEcn::new(false, &[e0b, ceb, e1b])),
        ..Options::default()
    }
}

fn said(seg: &Seg) -> Option<(Option<u32>, Option<u32>, Option<u32>)> {
    seg.options.acc_ecn.map(|o| (o.e0b(), o.ceb(), o.e1b()))
}

fn with(ecn: u32, option: u32) -> Rig {
    let mut config = Config { ..config() };
    (config.tcp.ecn, config.tcp.ecn_option) = (ecn, option);
    Rig::with(config)
}

/// What the peer sends: numbers, counter, mark, payload and options.
fn peer(rig: &mut Rig, (seq, ack): (u32, u32), flags: Flags, mark: u8, data: &[u8], o: Options) {
    let frame = rig.frame(80, seq, ack, ACK | flags, data, o);
    rig.raw(&marked(frame, mark));
}

fn syn(rig: &mut Rig, flags: Flags, mark: u8) -> Option<Seg> {
    let frame = rig.frame(80, 999, 0, SYN | flags, &[], scaled());
    rig.raw(&marked(frame, mark));
    rig.next()
}

/// A connection through a listener that has agreed on it, whose handshake ended with this value; the peer has sent the option.
fn accepted(rig: &mut Rig, last: u16) -> Open {
    let listener = rig.listen(8, &nodelay());
    let answer = syn(rig, AE | ECE | CWR, NOT_ECT).unwrap();
    assert!(answer.is(SYN | ACK | CWR));
    let host = answer.seq + 1;
    peer(rig, (1000, host), ace(last), ECT_0, &[], counters(1, 0, 1));
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    Open {
        socket,
        host,
        peer: 1000,
    }
}

fn info(rig: &Rig, open: &Open) -> EcnCounters {
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert!(info.ecn);
    info.accurate_ecn.expect("it is spoken")
}

#[test]
fn a_syn_ack_says_with_which_mark_the_syn_came() {
    // RFC 9768 table 2; any other value than those of classic ECN asks, too (3.1.3).
    for (asks, mark, answers) in [
        (7, NOT_ECT, 2),
        (7, ECT_1, 3),
        (7, ECT_0, 4),
        (7, CE, 6),
        (5, NOT_ECT, 2),
        (1, NOT_ECT, 2),
    ] {
        let mut rig = with(5, 2);
        rig.listen(8, &TcpOptions::default());
        let answer = syn(&mut rig, ace(asks), mark).unwrap();
        assert_eq!((counter(&answer), answer.tos), (answers, 0));
        assert_eq!(said(&answer), Some((Some(1), Some(0), Some(1))));
    }
}

#[test]
fn peers_that_know_less_get_what_they_know() {
    // RFC 9768 3.1.2, third block; and hosts that do not speak it.
    for (ecn, asks, answers) in [(3, 0, 0), (3, 3, 1), (1, 7, 1), (2, 7, 1), (0, 7, 0)] {
        let mut rig = with(ecn, 2);
        rig.listen(8, &TcpOptions::default());
        let answer = syn(&mut rig, ace(asks), NOT_ECT).unwrap();
        assert_eq!(counter(&answer), answers, "{ecn} {asks}");
        assert_eq!(said(&answer), None);
    }
}

#[test]
fn answers_are_read_as_what_their_sender_knows() {
    // RFC 9768 3.1.2: accurate, classic, none, broken; the ACK reflects the mark of the SYN-ACK (3.2.2.1).
    for (says, mark, reflects, tos) in [
        (2, NOT_ECT, 2, ECT_0),
        (2, ECT_1, 3, ECT_0),
        (2, ECT_0, 4, ECT_0),
        (2, CE, 6, ECT_0),
        (5, NOT_ECT, 2, ECT_0),
        (1, NOT_ECT, 0, 0),
        (0, NOT_ECT, 0, 0),
        (7, NOT_ECT, 0, 0),
    ] {
        let mut rig = with(3, 2);
        let (socket, asked) = rig.connect(&TcpOptions::default());
        assert!(asked.is(SYN | AE | ECE | CWR) && asked.tos == 0);
        assert_eq!(said(&asked), None, "never on a SYN (3.2.3.2.1)");
        let to = (asked.src_port, 99, asked.seq + 1);
        let frame = rig.frame(to.0, to.1, to.2, SYN | ACK | ace(says), &[], scaled());
        rig.raw(&marked(frame, mark));
        let ack = rig.expect();
        assert_eq!((counter(&ack), ack.tos), (reflects, tos), "{says} {mark}");
        let info = rig.host.tcp_info(socket).unwrap();
        assert_eq!(info.accurate_ecn.is_some(), matches!(says, 2 | 5));
        assert_eq!(info.ecn, matches!(says, 1 | 2 | 5));
        // From then on the counter; a marked SYN-ACK counts.
        if let Some(ecn) = info.accurate_ecn {
            assert_eq!(ecn.received_ce, u32::from(mark == CE));
            rig.host.tcp_send(rig.now, socket, &[1; 100]).unwrap();
            let data = rig.expect();
            assert_eq!(
                (counter(&data), data.tos),
                (5 + u16::from(mark == CE), ECT_0)
            );
        }
    }
}

#[test]
fn a_bare_ack_reflects_the_syn_ack_whatever_else_there_is_to_say() {
    // RFC 9768 3.2.2.1 SHOULD: a FIN, here, which waited for the handshake.
    let mut rig = with(3, 2);
    let (socket, asked) = rig.connect(&nodelay());
    rig.host
        .tcp_shutdown(rig.now, socket, stack::Shutdown::Write)
        .unwrap();
    let to = (asked.src_port, 99, asked.seq + 1);
    let frame = rig.frame(to.0, to.1, to.2, SYN | ACK | ace(2), &[], scaled());
    rig.raw(&marked(frame, ECT_0));
    let ack = rig.expect();
    assert!(!ack.has(FIN) && counter(&ack) == 4);
    let fin = rig.expect();
    assert!(fin.has(FIN) && counter(&fin) == 5);
    // Comes it again, so does its reflection; it is a challenge ACK, too.
    rig.ms(1000);
    while rig.next().is_some() {}
    let frame = rig.frame(to.0, to.1, to.2, SYN | ACK | ace(2), &[], scaled());
    rig.raw(&marked(frame, NOT_ECT));
    assert_eq!(counter(&rig.expect()), 2);
}

#[test]
fn who_changes_the_kind_of_ecn_is_reset() {
    // RFC 9768 3.1.5 MUST: a SYN or SYN-ACK of classic ECN in the same connection.
    let mut rig = with(3, 2);
    rig.listen(8, &TcpOptions::default());
    assert!(syn(&mut rig, ace(7), NOT_ECT).is_some());
    rig.ms(300);
    assert!(syn(&mut rig, ace(3), NOT_ECT).unwrap().has(RST));
    rig.assert_empty_but_listener();
    let mut rig = with(3, 2);
    let (socket, asked) = rig.connect(&TcpOptions::default());
    for (says, reset) in [(2, false), (1, true)] {
        let to = (asked.src_port, 99, asked.seq + 1);
        let frame = rig.frame(to.0, to.1, to.2, SYN | ACK | ace(says), &[], scaled());
        rig.raw(&frame);
        assert_eq!(rig.expect().has(RST), reset);
    }
    assert_eq!(
        rig.host.tcp_info(socket).unwrap().state,
        stack::State::Closed
    );
}

#[test]
fn a_syn_that_is_lost_twice_asks_for_nothing() {
    // RFC 9768 3.1.4: asked once more, then not; whoever agrees all the same has agreed.
    for (fallback, third) in [(1, 0), (0, 7)] {
        let mut rig = with(3, 2);
        let mut tunables = rig.host.tcp_tunables();
        tunables.ecn_fallback = fallback;
        rig.host.set_tcp_tunables(tunables).unwrap();
        let (socket, asked) = rig.connect(&TcpOptions::default());
        rig.ms(1100);
        assert_eq!(counter(&rig.expect()), 7);
        rig.ms(1100);
        assert_eq!(counter(&rig.expect()), third);
        let to = (asked.src_port, 99, asked.seq + 1);
        let frame = rig.frame(to.0, to.1, to.2, SYN | ACK | ace(2), &[], scaled());
        rig.raw(&frame);
        assert_eq!(counter(&rig.expect()), 2);
        let info = rig.host.tcp_info(socket).unwrap();
        assert!(info.accurate_ecn.is_some());
    }
}

#[test]
fn a_syn_ack_that_is_lost_says_less_and_less() {
    // RFC 9768 3.2.3.2.2: without the option, then without ECN. An ACK that says nothing then agrees to nothing.
    for last in [2, 0] {
        let mut rig = with(3, 2);
        let listener = rig.listen(8, &nodelay());
        let first = syn(&mut rig, ace(7), NOT_ECT).unwrap();
        assert!(counter(&first) == 2 && said(&first).is_some());
        rig.ms(1100);
        let second = rig.expect();
        assert!(counter(&second) == 2 && said(&second).is_none());
        rig.ms(2100);
        let third = rig.expect();
        assert!(counter(&third) == 0 && said(&third).is_none());
        let host = first.seq + 1;
        peer(
            &mut rig,
            (1000, host),
            ace(last),
            0,
            &[],
            Options::default(),
        );
        let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
        let info = rig.host.tcp_info(socket).unwrap();
        assert_eq!(
            (info.accurate_ecn.is_some(), info.ecn),
            (last == 2, last == 2)
        );
    }
}

/// And so does that of a connection which a SYN with data has opened (RFC 7413).
#[test]
fn a_syn_ack_to_data_says_less_and_less() {
    for last in [2, 0] {
        let mut rig = with(3, 2);
        let mut tunables = rig.host.tcp_tunables();
        tunables.set("fastopen", 0x202).unwrap(); // without cookies
        rig.host.set_tcp_tunables(tunables).unwrap();
        let options = TcpOptions {
            fast_open_queue: 8,
            ..nodelay()
        };
        let listener = rig.listen(8, &options);
        let frame = rig.frame(80, 999, 0, SYN | ace(7), b"hello", scaled());
        rig.raw(&marked(frame, NOT_ECT));
        let first = rig.expect();
        assert!(first.ack == 1005 && counter(&first) == 2 && said(&first).is_some());
        rig.ms(1100);
        let second = rig.expect();
        assert!(counter(&second) == 2 && said(&second).is_none());
        rig.ms(2100);
        let third = rig.expect();
        assert!(counter(&third) == 0 && said(&third).is_none());
        let ends = (1005, first.seq + 1);
        peer(&mut rig, ends, ace(last), 0, &[], Options::default());
        let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
        let info = rig.host.tcp_info(socket).unwrap();
        assert_eq!(info.accurate_ecn.is_some(), last == 2);
        rig.host.tcp_send(rig.now, socket, b"world").unwrap();
        assert_eq!(rig.expect().tos & 3, NOT_ECT, "it may have fallen back");
        rig.host.audit().unwrap();
    }
}

#[test]
fn a_syn_that_comes_again_without_forbids_marks() {
    // RFC 9768 3.1.5: the answer reflects the last SYN; no segment is capable of marks, the counters go on.
    let mut rig = with(3, 2);
    let listener = rig.listen(8, &nodelay());
    let first = syn(&mut rig, ace(7), ECT_0).unwrap();
    assert_eq!(counter(&first), 4);
    let again = syn(&mut rig, Flags(0), NOT_ECT).unwrap();
    assert!(counter(&again) == 2 && said(&again).is_none());
    peer(
        &mut rig,
        (1000, first.seq + 1),
        ace(2),
        0,
        &[],
        counters(1, 0, 1),
    );
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    rig.host.tcp_send(rig.now, socket, &[1; 100]).unwrap();
    let data = rig.expect();
    assert_eq!((counter(&data), data.tos), (5, NOT_ECT));
    assert_eq!(said(&data), Some((Some(1), Some(0), Some(1))));
}

#[test]
fn spoiled_bits_end_marks_but_not_their_feedback() {
    // RFC 9768 3.2.2.3: the SYN-ACK had no ECT, and came with some; 3.2.2.4: the counter was cleared.
    for (last, capable, answered) in [
        (2, true, true),
        (4, false, true),
        (6, false, true),
        (0, false, false),
    ] {
        let mut rig = with(3, 2);
        let open = accepted(&mut rig, last);
        rig.write(&open, &[1; 1000]);
        let data = rig.expect();
        assert_eq!((data.tos == ECT_0, counter(&data)), (capable, 5), "{last}");
        let was = info(&rig, &open).delivered_ce;
        assert_eq!(was, u32::from(last == 6), "a marked SYN-ACK counts");
        let before = rig.host.tcp_info(open.socket).unwrap().ssthresh;
        let next = 6 + u16::from(last == 6);
        peer(
            &mut rig,
            (1000, open.host + 1000),
            ace(next),
            0,
            &[],
            counters(1, 1000, 1),
        );
        assert_eq!(info(&rig, &open).delivered_ce, was + 1);
        let after = rig.host.tcp_info(open.socket).unwrap().ssthresh;
        assert_eq!(after < before, answered, "{last}");
    }
    // What cannot be, is not checked when told so.
    let mut rig = with(3, 2);
    let mut tunables = rig.host.tcp_tunables();
    tunables.ecn_fallback = 0;
    rig.host.set_tcp_tunables(tunables).unwrap();
    let open = accepted(&mut rig, 6);
    rig.write(&open, &[1; 1000]);
    assert_eq!(rig.expect().tos, ECT_0);
}

#[test]
fn every_mark_is_counted_and_told() {
    // RFC 9768 3.2.2.2, 3.2.3.1: packets in each header, bytes in the option. A change of marks is told at once (3.2.2.5.1).
    let mut rig = with(3, 2);
    let open = accepted(&mut rig, 2);
    let mut seq = open.peer;
    let mut told = (5, [1, 0, 1]);
    for mark in [ECT_0, CE, CE, ECT_1, CE, ECT_0, NOT_ECT, CE] {
        peer(
            &mut rig,
            (seq, open.host),
            ace(5),
            mark,
            &[1; 1000],
            Options::default(),
        );
        seq += 1000;
        match mark {
            ECT_0 => told.1[0] += 1000,
            CE => (told.0, told.1[1]) = (told.0 + 1, told.1[1] + 1000),
            ECT_1 => told.1[2] += 1000,
            _ => {}
        }
        let ack = rig.expect();
        assert_eq!((counter(&ack), ack.tos), (told.0 & 7, ECT_0));
        let [e0b, ceb, e1b] = told.1.map(Some);
        assert_eq!(said(&ack), Some((e0b, ceb, e1b)));
    }
    // A marked ACK counts as a packet, and is not answered (3.2.2.5.1: two more would be).
    let mark = |rig: &mut Rig| {
        let none = Options::default();
        peer(rig, (seq, open.host), ace(5), CE, &[], none);
    };
    for _ in 0..2 {
        mark(&mut rig);
        rig.silence();
    }
    mark(&mut rig);
    assert_eq!(counter(&rig.expect()), (told.0 + 3) & 7);
    let ecn = info(&rig, &open);
    assert_eq!((ecn.received_ce, ecn.received_ce_bytes), (7, 4000));
    assert_eq!(
        (ecn.received_ect_0_bytes, ecn.received_ect_1_bytes),
        (2000, 1000)
    );
}

#[test]
fn marks_do_not_wait_for_a_delayed_ack() {
    // RFC 9768 3.2.2.5.1: at the first mark after none, and every second one.
    let mut rig = with(3, 2);
    let open = accepted(&mut rig, 2);
    let mut seq = open.peer;
    let mut send = |rig: &mut Rig, mark: u8| {
        peer(
            rig,
            (seq, open.host),
            ace(5),
            mark,
            &[1; 100],
            Options::default(),
        );
        seq += 100;
        let now = rig.next().is_some();
        rig.ms(if now { 0 } else { 100 });
        while rig.next().is_some() {}
        now
    };
    for _ in 0..16 {
        send(&mut rig, ECT_0); // quick ACKs
    }
    assert!(!send(&mut rig, ECT_0));
    assert!(send(&mut rig, CE));
    assert!(!send(&mut rig, ECT_0));
}

#[test]
fn what_no_ack_can_tell_any_more_is_not_heard() {
    // RFC 9768 3.2.2.2: one that acknowledges nothing new may be an old one.
    let mut rig = with(3, 2);
    let open = accepted(&mut rig, 2);
    rig.write(&open, &[1; 1000]);
    rig.expect();
    peer(
        &mut rig,
        (1000, open.host),
        ace(6),
        ECT_0,
        &[],
        counters(1, 1000, 1),
    );
    assert_eq!(info(&rig, &open).delivered_ce, 0);
    peer(
        &mut rig,
        (1000, open.host + 1000),
        ace(6),
        ECT_0,
        &[],
        counters(1, 1000, 1),
    );
    let ecn = info(&rig, &open);
    assert_eq!((ecn.delivered_ce, ecn.delivered_ce_bytes), (1, 1000));
    assert_eq!(
        rig.host.tcp_info(open.socket).unwrap().recovery,
        Recovery::Open
    );
}

#[test]
fn marks_shrink_the_window_once_a_round_trip() {
    // RFC 9768 3.1.5, RFC 8511 3: 0.85, once for what was in flight; CWR is no flag any more.
    let mut rig = with(3, 2);
    let open = accepted(&mut rig, 2);
    rig.write(&open, &[1; 40_000]);
    let mut sent = Vec::new();
    while let Some(seg) = rig.next() {
        assert_eq!((counter(&seg), seg.tos), (5, ECT_0));
        sent.push(seg.data.len() as u32);
    }
    let cwnd = rig.host.tcp_info(open.socket).unwrap().cwnd;
    let mut una = open.host;
    for (at, len) in sent.iter().enumerate() {
        una += len;
        let marks = at as u32 + 1;
        peer(
            &mut rig,
            (1000, una),
            ace((5 + marks as u16) & 7),
            ECT_0,
            &[],
            counters(1, una - open.host, 1),
        );
        while rig.next().is_some() {}
        let info = rig.host.tcp_info(open.socket).unwrap();
        assert_eq!(info.accurate_ecn.unwrap().delivered_ce, marks);
        assert_eq!(info.ssthresh, (u64::from(cwnd) * 85 / 100) as u32, "once");
    }
}

#[test]
fn the_option_leaves_room_for_two_blocks_of_sack() {
    // RFC 9768 3.2.3.3
    let mut rig = with(3, 2);
    let open = accepted(&mut rig, 2);
    for n in 1..=4 {
        let at = open.peer + n * 2000;
        peer(
            &mut rig,
            (at, open.host),
            ace(5),
            ECT_0,
            &[1; 1000],
            Options::default(),
        );
        let ack = rig.expect();
        assert_eq!(said(&ack).unwrap().0, Some(1 + n * 1000));
        assert_eq!(u32::from(ack.options.sack.len), n.min(3));
    }
    assert_ne!(Sack::EMPTY.len, 4);
}

#[test]
fn segments_with_the_option_are_as_much_shorter() {
    let mut rig = with(3, 2);
    let open = accepted(&mut rig, 2);
    rig.write(&open, &[1; 4000]);
    let data = rig.expect();
    assert_eq!((data.data.len(), said(&data).is_some()), (1448, true));
    // None is sent to whom none has come from.
    let mut rig = with(3, 2);
    let listener = rig.listen(8, &nodelay());
    let answer = syn(&mut rig, ace(7), NOT_ECT).unwrap();
    peer(
        &mut rig,
        (1000, answer.seq + 1),
        ace(2),
        0,
        &[],
        Options::default(),
    );
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    rig.host.tcp_send(rig.now, socket, &[1; 4000]).unwrap();
    let data = rig.expect();
    assert_eq!((data.data.len(), said(&data).is_some()), (1460, false));
}

/// Segments would be too long with an option that nothing was kept for when the peer's came.
#[test]
fn an_option_that_is_allowed_later_is_of_later_connections() {
    let mut rig = with(3, 0);
    let open = accepted(&mut rig, 2);
    let mut tcp = rig.host.tcp_tunables();
    tcp.ecn_option = 2;
    rig.host.set_tcp_tunables(tcp).unwrap();
    rig.write(&open, &[1; 4000]);
    let data = rig.expect();
    assert_eq!((data.seq, data.data.len()), (open.host, 1460));
    assert_eq!(said(&data), None);
}

#[test]
fn a_search_for_the_path_mtu_goes_without_the_option() {
    let mut config = Config { ..config() };
    (config.tcp.ecn, config.tcp.mtu_probing) = (3, 2);
    let mut rig = Rig::with(config);
    let open = accepted(&mut rig, 2);
    rig.write(&open, &[1; 100_000]);
    let mut una = open.host;
    for _ in 0..200 {
        while let Some(seg) = rig.next() {
            assert!(20 + 20 + seg.data.len() <= 1500 && said(&seg).is_none());
            una = una.max(seg.seq + seg.data.len() as u32);
        }
        let peers = counters(1 + una - open.host, 0, 1);
        peer(&mut rig, (1000, una), ace(5), ECT_0, &[], peers);
    }
    assert_eq!(una - open.host, 100_000);
}

#[test]
fn an_option_that_is_dropped_on_the_way_is_not_sent() {
    // RFC 9768 3.2.3.2.2: what was acknowledged with it comes again; data with it is not acknowledged.
    let mut rig = with(3, 2);
    let open = accepted(&mut rig, 2);
    let mut sent = Vec::new();
    for _ in 0..3 {
        peer(
            &mut rig,
            (open.peer, open.host),
            ace(5),
            ECT_0,
            &[1; 1000],
            Options::default(),
        );
        sent.push(said(&rig.expect()).is_some());
    }
    assert_eq!(sent, [true, true, false]);
    assert!(info(&rig, &open).option_dropped);
    let mut rig = with(3, 2);
    let open = accepted(&mut rig, 2);
    rig.write(&open, &[1; 1000]);
    assert!(said(&rig.expect()).is_some());
    rig.ms(400);
    let again = rig.expect();
    assert!(again.seq == open.host && said(&again).is_none());
}

#[test]
fn the_option_can_be_sent_as_rarely_as_may_be() {
    // RFC 9768 3.2.3.3: a change twice, a mark always, else a few times in a round trip.
    for (option, sent) in [
        (0, [false; 6]),
        (1, [true, true, false, true, true, true]),
        (2, [true; 6]),
    ] {
        let mut rig = with(3, option);
        let open = accepted(&mut rig, 2);
        let mut tunables = rig.host.tcp_tunables();
        tunables.ecn_option_beacon = 0;
        rig.host.set_tcp_tunables(tunables).unwrap();
        let mut seq = open.peer;
        let told = [ECT_0, ECT_0, ECT_0, CE, CE, CE].map(|mark| {
            peer(
                &mut rig,
                (seq, open.host),
                ace(5),
                mark,
                &[1; 1000],
                Options::default(),
            );
            seq += 1000;
            rig.ms(50);
            said(&rig.expect()).is_some()
        });
        assert_eq!(told, sent, "{option}");
    }
}

#[test]
fn an_option_that_begins_with_zeros_counts_for_nothing() {
    // RFC 9768 3.2.3.2.4
    let mut rig = with(3, 2);
    let listener = rig.listen(8, &nodelay());
    let answer = syn(&mut rig, ace(7), NOT_ECT).unwrap();
    let host = answer.seq + 1;
    peer(&mut rig, (1000, host), ace(2), 0, &[], counters(0, 0, 0));
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    rig.host.tcp_send(rig.now, socket, &[1; 1000]).unwrap();
    rig.expect();
    peer(
        &mut rig,
        (1000, host + 1000),
        ace(6),
        0,
        &[],
        counters(0, 1000, 0),
    );
    let ecn = rig.host.tcp_info(socket).unwrap().accurate_ecn.unwrap();
    assert!(ecn.option_zeroed && ecn.delivered_ce == 1 && ecn.delivered_ce_bytes == 0);
}

#[test]
fn records_go_with_their_connections() {
    let mut rig = with(3, 2);
    let open = accepted(&mut rig, 2);
    assert_eq!(rig.host.tcp_occupancy().accurate_ecn, 1);
    rig.host.abort(rig.now, open.socket).unwrap();
    rig.pump();
    while rig.next().is_some() {}
    assert_eq!(rig.host.tcp_occupancy().accurate_ecn, 0);
}
