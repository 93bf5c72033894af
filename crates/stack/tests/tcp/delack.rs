//! When data that came are acknowledged.

use base::{Batch, Chain, Packet};
use stack::{Drop, TcpOptions};
use wire::tcp::Options;

use crate::rig::{ACK, FIN, Open, Rig};

const MSS: u32 = 1460;

/// A connection over a path of 100 ms that has SACK, and has received a full segment.
fn stream(rig: &mut Rig) -> Open {
    rig.handshake_ms = 100;
    let syn = Options {
        mss: Some(1460),
        sack_permitted: true,
        window_scale: Some(7),
        ..Options::default()
    };
    let mut open = rig.accepted_with(&TcpOptions::default(), syn);
    rig.send(open.peer, open.host, ACK, &[0; MSS as usize]);
    rig.expect();
    open.peer += MSS;
    open
}

/// Linux's compressed SACKs: the first three segments beyond a hole are told of at once, further ones every 44 or within a
/// millisecond, and the end of the hole at once.
#[test]
fn a_flood_out_of_order_is_told_of_now_and_then() {
    let mut rig = Rig::new();
    let open = stream(&mut rig);
    let at = |n: u32| open.peer + n * 10;
    let mut answers = Vec::new();
    for n in 1..=100 {
        rig.send(at(2 * n), open.host, ACK, &[0; 10]);
        while let Some(ack) = rig.next() {
            assert_eq!(
                ack.options.sack.as_slice()[0],
                (at(2 * n), at(2 * n) + 10),
                "the newest first"
            );
            answers.push(n);
        }
    }
    assert_eq!(answers, [1, 2, 3, 48, 93]);
    rig.ms(2);
    assert_eq!(
        rig.expect().options.sack.as_slice()[0],
        (at(200), at(200) + 10)
    );
    rig.ms(100);
    rig.silence();
    // A duplicate has an ACK of its own.
    rig.send(at(4), open.host, ACK, &[0; 10]);
    assert_eq!(rig.expect().options.sack.as_slice()[0], (at(4), at(4) + 10));
    rig.send(at(0), open.host, ACK, &[0; 20]);
    assert_eq!(rig.expect().ack, at(3));
}

#[test]
fn word_of_disorder_may_not_be_held_back() {
    for change in [0, 1] {
        let mut rig = Rig::new();
        let mut tcp = rig.host.tcp_tunables();
        match change {
            0 => tcp.comp_sack_nr = 0,
            _ => tcp.comp_sack_delay_ns = 0,
        }
        rig.host.set_tcp_tunables(tcp).unwrap();
        let open = stream(&mut rig);
        for n in 1..=100 {
            rig.send(open.peer + 20 * n, open.host, ACK, &[0; 10]);
            rig.expect();
        }
    }
}

/// Linux's ato: an ACK that waited in vain waits longer next time, up to a round trip and 200 ms.
#[test]
fn the_delay_grows_while_nothing_is_answered() {
    for (rtt, most) in [(500, 200), (100, 100), (10, 40)] {
        let mut rig = Rig::new();
        rig.handshake_ms = rtt;
        let open = rig.accepted(&TcpOptions::default());
        let mut delays = Vec::new();
        for n in 0..16 {
            rig.send(open.peer + n, open.host, ACK, b"x");
            rig.expect(); // the first leave at once
        }
        for n in 16..22 {
            rig.ms(100);
            rig.send(open.peer + n, open.host, ACK, b"x");
            rig.silence();
            let before = rig.now;
            while rig.next().is_none() {
                rig.ms(1);
            }
            delays.push((rig.now - before).as_millis() as u64);
        }
        assert!(delays[0] <= 41, "{delays:?}");
        assert!(delays.is_sorted(), "{delays:?}");
        assert!((most..=most + 1).contains(&delays[5]), "{delays:?}");
    }
}

/// The ACK of a question travels with the answer, once the application has shown that it answers.
#[test]
fn acknowledgments_travel_with_answers() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    // In one turn at first, for the first ACKs leave at once.
    let frame = rig.frame(80, open.peer, open.host, ACK, b"?", Options::default());
    let (mut batch, mut chain) = (Batch::new(), Chain::default());
    rig.host.pool_mut().append_bytes(&mut chain, &frame);
    assert!(batch.push(Packet::new(chain)).is_ok());
    rig.host.handle_batch(rig.now, rig.interface, &mut batch);
    rig.write(&open, b"!");
    rig.pump();
    let answer = rig.expect();
    assert_eq!((answer.ack, answer.data), (open.peer + 1, b"!".to_vec()));
    rig.silence();
    // From then on the application may take its time.
    rig.send(open.peer + 1, open.host + 1, ACK, b"?");
    rig.read(open.socket).unwrap();
    rig.silence();
    rig.ms(20);
    rig.write(&open, b"!");
    assert_eq!(rig.expect().ack, open.peer + 2);
}

/// After a pause longer than the timeout the peer's slow start is fed again.
#[test]
fn a_sender_that_begins_again_is_answered_at_once() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let mut at = open.peer;
    let mut send = |rig: &mut Rig| {
        rig.send(at, open.host, ACK, &[0; MSS as usize]);
        at += MSS;
        rig.read(open.socket).unwrap();
        rig.next().is_some()
    };
    let at_once = (0..40).filter(|_| send(&mut rig)).count();
    assert!(
        (26..=30).contains(&at_once),
        "{at_once}: 16, and half of the rest"
    );
    rig.ms(500);
    assert!((0..10).all(|_| send(&mut rig)));
}

/// As on Linux: when nothing waits to be read one segment may overrun the window, and a closed window lets a FIN in.
#[test]
fn a_segment_may_overrun_an_empty_buffer_and_a_fin_a_closed_window() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(5000),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    for (n, kept) in [(0, 1460), (1, 2920), (2, 4380)] {
        rig.send(open.peer + n * MSS, open.host, ACK, &[0; MSS as usize]);
        rig.ms(41);
        assert_eq!(rig.expect().ack, open.peer + kept);
    }
    rig.read(open.socket).unwrap();
    while rig.next().is_some() {}
    let at = open.peer + 3 * MSS;
    let window = rig.host.tcp_info(open.socket).unwrap().receive_window;
    assert_eq!(window, 5000);
    // 5840 bytes in three segments of 1460 and one whose end overruns, of which nothing is taken: something is unread by then.
    for n in 0..4 {
        rig.send(at + n * MSS, open.host, ACK, &[0; MSS as usize]);
        while rig.next().is_some() {}
    }
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().unread, 4380);
    assert_eq!(rig.host.stats().drops.get(Drop::TcpBeyondWindow), 1);

    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(1000),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.send(open.peer, open.host, ACK, &[0; MSS as usize]);
    rig.silence(); // there is no window to tell of
    rig.ms(41);
    let ack = rig.expect();
    assert_eq!((ack.ack, ack.window), (open.peer + MSS, 0));
    rig.send(open.peer + MSS, open.host, ACK | FIN, &[]);
    let ack = rig.expect();
    assert_eq!((ack.ack, ack.window), (open.peer + MSS + 1, 0));
}

/// Linux's interactive mode: data that leave soon after some came are an answer, so the next ACK waits for one.
#[test]
fn who_answers_soon_is_waited_for() {
    for (pause, waits) in [(20, true), (60, false)] {
        let mut rig = Rig::new();
        let open = rig.accepted(&TcpOptions::default());
        rig.send(open.peer, open.host, ACK, b"?");
        assert_eq!(rig.expect().ack, open.peer + 1);
        rig.ms(pause);
        rig.write(&open, b"!");
        assert_eq!(rig.expect().data, b"!");
        rig.send(open.peer + 1, open.host + 1, ACK, b"?");
        assert_eq!(rig.next().is_none(), waits);
    }
}

/// Linux's ato: two segments that come at a pace share an ACK, while the second is not later than the delay allows.
#[test]
fn the_delay_follows_the_pace_of_data() {
    let mut rig = Rig::new();
    rig.handshake_ms = 100;
    let open = rig.accepted(&TcpOptions::default());
    let mut at = open.peer;
    let mut send = |rig: &mut Rig| {
        rig.send(at, open.host, ACK, b"x");
        at += 1;
    };
    for _ in 0..16 {
        send(&mut rig);
        rig.expect();
        rig.ms(32);
    }
    // 40 ms, of which half and what lies between make 52.
    let before = rig.now;
    send(&mut rig);
    rig.ms(32);
    send(&mut rig);
    while rig.next().is_none() {
        rig.ms(1);
    }
    assert_eq!((rig.now - before).as_millis(), 53);
}

/// Times of 32 bits go round after 49.7 days; a connection may be silent for as long.
#[test]
fn seven_weeks_of_silence_are_a_pause() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, ACK, b"data");
    rig.ms(2000);
    rig.send(open.peer + 4, open.host, ACK, b"");
    while rig.next().is_some() {}
    rig.ms((1 << 32) - 500);
    rig.send(open.peer + 4, open.host, ACK, b"more");
    assert_eq!(rig.expect().ack, open.peer + 8);
}
