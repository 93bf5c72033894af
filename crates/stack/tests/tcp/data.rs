//! Data in both directions: order, windows, acknowledgments, Nagle, silly windows, fast retransmit.

use stack::{Drop, Ready, SocketError, State, TcpOptions};
use wire::tcp::{Options, Sack};

use crate::rig::{ACK, FIN, Flags, PSH, Rig, SECOND, nodelay};

const SACK_SYN: Options = Options {
    mss: Some(1460),
    window_scale: None,
    sack_permitted: true,
    timestamps: None,
    sack: Sack::EMPTY,
    fast_open: None,
    acc_ecn: None,
    malformed: false,
};

#[test]
fn data_arrives_in_order_and_is_acknowledged() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, ACK | PSH, b"hello");
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.ack == open.peer + 5 && ack.data.is_empty());
    assert_eq!(rig.read(open.socket), Ok(b"hello".to_vec()));
    assert_eq!(rig.read(open.socket), Err(SocketError::WouldBlock));
}

#[test]
fn a_reply_carries_the_acknowledgment() {
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    // Past the quick ACKs of a fresh connection.
    let mut at = 0;
    for _ in 0..20 {
        rig.send(open.peer + at, open.host, ACK | PSH, b"x");
        at += 1;
        rig.ms(50);
        rig.expect();
    }
    rig.send(open.peer + at, open.host, ACK | PSH, b"question");
    rig.silence();
    rig.write(&open, b"answer");
    let answer = rig.expect();
    assert_eq!(
        (answer.data.as_slice(), answer.ack),
        (&b"answer"[..], open.peer + at + 8)
    );
    assert!(answer.has(PSH), "RFC 9293 MUST-61");
    rig.ms(100);
    rig.silence();
}

#[test]
fn acknowledgments_wait_at_most_40_ms_and_for_at_most_two_segments() {
    // RFC 5681 4.2, RFC 9293 MUST-40
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let mut at = 0;
    for _ in 0..16 {
        rig.send(open.peer + at, open.host, ACK, &[1; 1000]);
        at += 1000;
        rig.expect();
    }
    rig.send(open.peer + at, open.host, ACK, &[1; 1000]);
    rig.silence();
    rig.ms(41);
    assert_eq!(rig.expect().ack, open.peer + at + 1000);
    at += 1000;
    rig.send(open.peer + at, open.host, ACK, &[1; 1000]);
    rig.silence();
    rig.send(open.peer + at + 1000, open.host, ACK, &[1; 1000]);
    assert_eq!(
        rig.expect().ack,
        open.peer + at + 2000,
        "every second full segment at once"
    );
}

#[test]
fn out_of_order_data_is_reported_by_sack_and_put_in_order() {
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), SACK_SYN);
    rig.send(open.peer + 100, open.host, ACK, &[2; 100]);
    let ack = rig.expect();
    assert_eq!(ack.ack, open.peer);
    assert_eq!(
        ack.options.sack.as_slice(),
        [(open.peer + 100, open.peer + 200)]
    );
    rig.send(open.peer + 300, open.host, ACK, &[4; 100]);
    let ack = rig.expect();
    // RFC 2018 4: newest first
    assert_eq!(
        ack.options.sack.as_slice(),
        [
            (open.peer + 300, open.peer + 400),
            (open.peer + 100, open.peer + 200)
        ]
    );
    rig.send(open.peer, open.host, ACK, &[1; 100]);
    let ack = rig.expect();
    assert_eq!(
        ack.ack,
        open.peer + 200,
        "a filled gap is acknowledged at once"
    );
    assert_eq!(
        ack.options.sack.as_slice(),
        [(open.peer + 300, open.peer + 400)]
    );
    rig.send(open.peer + 200, open.host, ACK, &[3; 100]);
    let ack = rig.expect();
    assert_eq!((ack.ack, ack.options.sack.len), (open.peer + 400, 0));
    let bytes = rig.read(open.socket).unwrap();
    assert_eq!(bytes, [[1; 100], [2; 100], [3; 100], [4; 100]].concat());
}

#[test]
fn duplicates_are_acknowledged_with_d_sack() {
    // RFC 2883 4.1
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), SACK_SYN);
    rig.send(open.peer, open.host, ACK, &[1; 100]);
    rig.expect();
    rig.send(open.peer, open.host, ACK, &[1; 100]);
    let ack = rig.expect();
    assert_eq!(ack.ack, open.peer + 100);
    assert_eq!(ack.options.sack.as_slice(), [(open.peer, open.peer + 100)]);
    assert_eq!(rig.read(open.socket).unwrap().len(), 100, "delivered once");
}

/// RFC 2883 4 (3), RFC 2018 4: behind the duplicate comes the range that holds it, or the peer takes it for news.
#[test]
fn a_duplicate_out_of_order_is_followed_by_its_range() {
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), SACK_SYN);
    let block = |from: u32, to: u32| (open.peer + from, open.peer + to);
    rig.send(open.peer + 100, open.host, ACK, &[2; 200]);
    rig.send(open.peer + 500, open.host, ACK, &[6; 100]);
    rig.expect();
    rig.expect();
    rig.send(open.peer + 150, open.host, ACK, &[2; 50]);
    assert_eq!(
        rig.expect().options.sack.as_slice(),
        [block(150, 200), block(100, 300), block(500, 600)]
    );
    // Also when it is all of the range.
    rig.send(open.peer + 500, open.host, ACK, &[6; 100]);
    assert_eq!(
        rig.expect().options.sack.as_slice(),
        [block(500, 600), block(500, 600), block(100, 300)]
    );
    // Also when more came before the ACK left.
    let frame = |from: u32, len: usize| {
        let seq = open.peer + from;
        rig.frame(80, seq, open.host, ACK, &vec![9; len], Options::default())
    };
    rig.arrive_together(&[frame(500, 20), frame(800, 100)]);
    assert_eq!(
        rig.expect().options.sack.as_slice()[..3],
        [block(500, 520), block(500, 600), block(800, 900)]
    );
}

/// RFC 2883 4.2: what came alone and then again within a larger segment is a duplicate, too; the first such is reported.
#[test]
fn what_comes_again_within_a_larger_segment_is_reported() {
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), SACK_SYN);
    for (at, len) in [(100, 200), (400, 100), (700, 100)] {
        rig.send(open.peer + at, open.host, ACK, &vec![1; len]);
        rig.expect();
    }
    rig.send(open.peer, open.host, ACK, &[1; 600]);
    let ack = rig.expect();
    assert_eq!(ack.ack, open.peer + 600);
    let at = |n: u32| open.peer + n;
    assert_eq!(
        ack.options.sack.as_slice(),
        [(at(100), at(300)), (at(700), at(800))]
    );
}

#[test]
fn a_fin_out_of_order_waits_for_its_data() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer + 5, open.host, FIN | ACK, b"world");
    assert_eq!(rig.expect().ack, open.peer);
    rig.send(open.peer, open.host, ACK, b"hello");
    assert_eq!(rig.expect().ack, open.peer + 11, "data and FIN");
    assert_eq!(rig.read(open.socket), Ok(b"helloworld".to_vec()));
    assert_eq!(rig.read(open.socket), Ok(vec![]));
}

#[test]
fn overlapping_segments_are_trimmed() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, ACK, b"abcdef");
    rig.send(open.peer + 3, open.host, ACK, b"defghi");
    rig.send(open.peer + 12, open.host, ACK, b"mno");
    rig.send(open.peer + 8, open.host, ACK, b"ijklmn");
    assert_eq!(rig.read(open.socket), Ok(b"abcdefghijklmno".to_vec()));
}

#[test]
fn the_window_closes_and_opens_with_the_reader() {
    let mut rig = Rig::new();
    let open = rig.full();
    // Nothing fits any more: the data is refused, its ACK repeated (RFC 9293 MUST-66 admits the ACK).
    rig.send(open.peer + 8760, open.host, ACK, &[7; 1460]);
    let ack = rig.expect();
    assert_eq!((ack.ack, ack.window), (open.peer + 8760, 0));
    assert_eq!(rig.read(open.socket).unwrap().len(), 8760);
    let update = rig.expect();
    assert!(
        update.is(ACK) && update.window == 8760,
        "reading tells the peer at once"
    );
}

#[test]
fn small_reads_do_not_announce_silly_windows() {
    // RFC 9293 3.8.6.2.2, MUST-39
    let mut rig = Rig::new();
    let open = rig.full();
    let mut small = [0; 100];
    for _ in 0..9 {
        rig.host.tcp_recv(rig.now, open.socket, &mut small).unwrap();
        rig.silence();
    }
}

/// As Linux: a window without a scale is whole segments, once it is less than was offered before.
#[test]
fn a_window_without_a_scale_ends_with_a_whole_segment() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(9500),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    for (at, window) in [(1, 7000), (3, 5000), (5, 3000)] {
        rig.send(open.peer + (at - 1) * 1000, open.host, ACK, &[7; 1000]);
        rig.send(open.peer + at * 1000, open.host, ACK, &[7; 1000]);
        let ack = core::iter::from_fn(|| rig.next()).last().unwrap();
        assert_eq!((ack.ack, ack.window), (open.peer + (at + 1) * 1000, window));
    }
}

/// As Linux: of a buffer that is made smaller than what waits, the window stays, until more of it is used. That is refused, and
/// the window said is closed from then on; segments without data are taken as far as a window ever went.
#[test]
fn a_buffer_made_smaller_than_what_waits_refuses_what_was_offered() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(60_000),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    let at = |n: u32| open.peer + n * 1460;
    for n in 0..14 {
        rig.send(at(n), open.host, ACK, &[7; 1460]);
    }
    while rig.next().is_some() {}
    let smaller = |o: &mut TcpOptions| o.receive_buffer = Some(10_000);
    rig.host
        .tcp_set_options(rig.now, open.socket, smaller)
        .unwrap();
    rig.send(at(13), open.host, ACK, &[7; 1460]);
    assert!(rig.expect().window > 0, "it is not taken back unasked");
    rig.send(at(15), open.host, ACK, &[7; 1460]);
    let ack = rig.expect();
    assert!(ack.ack == at(14) && ack.window > 0 && ack.options.sack.len == 0);

    rig.send(at(14), open.host, ACK, &[7; 1460]);
    let ack = rig.expect();
    assert_eq!((ack.ack, ack.window), (at(14), 0));
    // A FIN does not pass what is refused; what is sent says the same; ACKs are taken beyond.
    rig.send(at(14), open.host, ACK | FIN, &[7; 1460]);
    assert_eq!(rig.expect().window, 0);
    rig.write(&open, b"answer");
    assert_eq!(rig.expect().window, 0);
    rig.send(at(16), open.host + 6, ACK, &[]);
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!((info.unacknowledged, info.receive_window), (0, 0));
    rig.send(at(16), open.host + 6, ACK, &[7; 1460]);
    assert_eq!(rig.expect().window, 0);
    let drops = |rig: &Rig, why| rig.host.stats().drops.get(why);
    assert_eq!(drops(&rig, Drop::TcpOutOfOrderMemory), 1);
    assert_eq!(drops(&rig, Drop::TcpReceiveQueueFull), 1);
    assert_eq!(drops(&rig, Drop::TcpZeroWindow), 1);
    assert_eq!(drops(&rig, Drop::TcpBeyondWindow), 1);

    // The window that reading opens is the small buffer's, though once more was offered; and it holds.
    assert_eq!(rig.read(open.socket).unwrap().len(), 14 * 1460);
    let ack = rig.expect();
    assert!(ack.ack == at(14) && (8760..=10_000).contains(&ack.window));
    rig.send(at(14), open.host + 6, ACK, &[7; 1460]);
    rig.send(at(22), open.host + 6, ACK, &[7; 1460]);
    assert_eq!(drops(&rig, Drop::TcpBeyondWindow), 2);
    assert_eq!(rig.read(open.socket).unwrap().len(), 1460);
    // Once all that was offered is used or offered anew, nothing is left of it.
    for n in 15..60 {
        rig.send(at(n), open.host + 6, ACK, &[7; 1460]);
        assert_eq!(rig.read(open.socket).unwrap().len(), 1460);
    }
    rig.ms(60_000);
    assert_eq!(rig.host.tcp_occupancy().active, 0);
}

#[test]
fn nagle_holds_the_second_small_segment() {
    // RFC 9293 3.7.4, MUST-17
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, b"first");
    assert_eq!(rig.expect().data, b"first");
    rig.write(&open, b"second");
    rig.write(&open, b"third");
    rig.silence();
    rig.send(open.peer, open.host + 5, ACK, &[]);
    assert_eq!(rig.expect().data, b"secondthird");

    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    rig.write(&open, b"first");
    rig.pump();
    rig.write(&open, b"second");
    assert_eq!(
        (rig.expect().data, rig.expect().data),
        (b"first".to_vec(), b"second".to_vec())
    );
}

/// Only a small segment in flight holds back another (Minshall's variant of Nagle, as Linux): the end of a message does not
/// wait for its beginning.
#[test]
fn the_end_of_a_message_does_not_wait_for_its_beginning() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let sizes = |rig: &mut Rig| -> Vec<usize> {
        core::iter::from_fn(|| rig.next())
            .map(|segment| segment.data.len())
            .collect()
    };
    rig.write(&open, &[1; 2000]);
    assert_eq!(sizes(&mut rig), [1460, 540]);
    rig.write(&open, &[1; 100]);
    assert_eq!(sizes(&mut rig), []);
    rig.write(&open, &[1; 1400]);
    assert_eq!(sizes(&mut rig), [1460]);
    rig.send(open.peer, open.host + 2000, ACK, &[]);
    assert_eq!(sizes(&mut rig), [40]);
}

#[test]
fn cork_holds_partial_segments() {
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    rig.host.tcp_set_cork(rig.now, open.socket, true).unwrap();
    rig.write(&open, &[1; 2000]);
    assert_eq!(rig.expect().data.len(), 1460);
    rig.silence();
    rig.host.tcp_set_cork(rig.now, open.socket, false).unwrap();
    assert_eq!(rig.expect().data.len(), 540);
}

#[test]
fn slow_start_opens_with_ten_segments() {
    // RFC 6928
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 40_000]);
    let mut sent = 0;
    while let Some(segment) = rig.next() {
        assert_eq!(segment.data.len(), 1460);
        sent += 1;
    }
    assert_eq!(sent, 10);
    // Two segments acknowledged: two more for the window, two for its growth.
    rig.send(open.peer, open.host + 2920, ACK, &[]);
    let mut more = 0;
    while rig.next().is_some() {
        more += 1;
    }
    assert_eq!(more, 4);
}

#[test]
fn the_peers_window_is_never_exceeded() {
    let mut rig = Rig::new();
    rig.window = 4000;
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 20_000]);
    let (mut bytes, mut last) = (0, 0);
    while let Some(segment) = rig.next() {
        bytes += segment.data.len();
        last = segment.seq + segment.data.len() as u32;
    }
    assert!(
        bytes <= 4000 && last.wrapping_sub(open.host) <= 4000,
        "{bytes} bytes"
    );
}

#[test]
fn three_duplicate_acks_bring_the_lost_segment() {
    // RFC 5681 3.2 without SACK
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 14_600]);
    while rig.next().is_some() {}
    let lost = open.host + 1460;
    rig.send(open.peer, lost, ACK, &[]);
    while rig.next().is_some() {}
    rig.send(open.peer, lost, ACK, &[]);
    rig.send(open.peer, lost, ACK, &[]);
    while let Some(segment) = rig.next() {
        assert!(segment.seq != lost, "not after two");
    }
    rig.send(open.peer, lost, ACK, &[]);
    let again = rig.expect();
    assert_eq!((again.seq, again.data.len()), (lost, 1460));
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert!(info.cwnd < 14_600, "the window shrank to {}", info.cwnd);
}

/// Segments 2, 3, 4, 1 arrive at the peer together, and its four ACKs here: nothing was lost.
#[test]
fn reordering_told_of_in_one_batch_is_no_loss() {
    for sack_permitted in [false, true] {
        let mut rig = Rig::new();
        let syn = Options {
            sack_permitted,
            ..SACK_SYN
        };
        let open = rig.accepted_with(&TcpOptions::default(), syn);
        rig.write(&open, &[1; 14_600]);
        while rig.next().is_some() {}
        let seg = |n: u32| open.host + n * 1460;
        let ack = |rig: &Rig, to: u32, blocks: &[(u32, u32)]| {
            let mut options = Options::default();
            for &(from, to) in blocks.iter().filter(|_| sack_permitted) {
                options.sack.push((seg(from), seg(to)));
            }
            rig.frame(80, open.peer, seg(to), ACK, &[], options)
        };
        let acks = [
            ack(&rig, 0, &[(1, 2)]),
            ack(&rig, 0, &[(1, 3)]),
            ack(&rig, 0, &[(1, 4)]),
            ack(&rig, 4, &[]),
        ];
        let before = rig.host.tcp_info(open.socket).unwrap().cwnd;
        rig.arrive_together(&acks);
        rig.silence();
        assert!(rig.host.tcp_info(open.socket).unwrap().cwnd >= before);
        // Without the last one it is a loss.
        let acks = [
            ack(&rig, 4, &[(5, 6)]),
            ack(&rig, 4, &[(5, 7)]),
            ack(&rig, 4, &[(5, 8)]),
        ];
        rig.arrive_together(&acks);
        assert_eq!(rig.expect().seq, seg(4));
        assert!(rig.host.tcp_info(open.socket).unwrap().cwnd < before);
    }
}

#[test]
fn sack_repairs_several_holes_in_one_round_trip() {
    // RFC 6675
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), SACK_SYN);
    rig.write(&open, &[1; 14_600]);
    while rig.next().is_some() {}
    let seg = |n: u32| open.host + n * 1460;
    // Segments 0, 2 and 4 are lost.
    let mut sack = Sack::EMPTY;
    for (a, b) in [(5, 10), (3, 4), (1, 2)] {
        sack.push((seg(a), seg(b)));
    }
    rig.send_with(
        open.peer,
        seg(0),
        ACK,
        &[],
        Options {
            sack,
            ..Options::default()
        },
    );
    let mut again = Vec::new();
    while let Some(segment) = rig.next() {
        again.push(segment.seq.wrapping_sub(open.host) / 1460);
    }
    assert_eq!(again, [0, 2, 4]);
}

#[test]
fn a_full_send_buffer_blocks_and_reports_room() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        send_buffer: Some(20_000),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    assert_eq!(rig.write(&open, &[1; 50_000]), 20_000);
    // The super-frame of which part is still here is filled.
    rig.pump();
    assert_eq!(rig.write(&open, &[1; 50_000]), 14_600);
    assert_eq!(
        rig.host.tcp_send(rig.now, open.socket, b"x"),
        Err(SocketError::WouldBlock)
    );
    assert!(!rig.host.ready(open.socket).contains(Ready::WRITABLE));
    while rig.next().is_some() {}
    rig.events.clear();
    rig.send(open.peer, open.host + 2920, ACK, &[]);
    assert!(rig.events.is_empty(), "less than a third is free");
    while rig.next().is_some() {}
    rig.send(open.peer, open.host + 14_600, ACK, &[]);
    assert!(rig.events.is_empty(), "20,000 wait");
    while rig.next().is_some() {}
    rig.send(open.peer, open.host + 21_900, ACK, &[]);
    let event = rig.events.pop_front().unwrap();
    assert!(event.ready.contains(Ready::WRITABLE));
}

#[test]
fn window_scaling_is_applied_both_ways() {
    // RFC 7323 2.3
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(1 << 20),
        ..TcpOptions::default()
    };
    let syn = rig_scale_syn();
    rig.window = 1000;
    let open = rig.accepted_with(&options, syn);
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!(info.window_scales, (3, 5));
    assert_eq!(
        info.send_window, 8000,
        "the ACK's window is scaled, the SYN's was not"
    );
    rig.send(open.peer, open.host, ACK, &[1; 1000]);
    assert!(
        u32::from(rig.expect().window) << 5 > 65_535,
        "more than an unscaled window can say"
    );
}

fn rig_scale_syn() -> Options {
    Options {
        mss: Some(1460),
        window_scale: Some(3),
        ..Options::default()
    }
}

#[test]
fn peek_leaves_the_bytes() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, ACK, b"look");
    let mut buffer = [0; 10];
    assert_eq!(rig.host.tcp_peek(open.socket, &mut buffer), Ok(4));
    assert_eq!(rig.read(open.socket), Ok(b"look".to_vec()));
}

/// RFC 6675 5 (1): three SACKs of new data mean loss even when the segments are short.
#[test]
fn short_segments_are_repaired_without_a_timeout() {
    let mut rig = Rig::new();
    let syn = Options {
        mss: Some(1460),
        sack_permitted: true,
        ..Options::default()
    };
    let open = rig.accepted_with(&nodelay(), syn);
    for _ in 0..5 {
        rig.write(&open, b"ten bytes.");
        rig.expect();
    }
    for n in 2..5 {
        let mut sack = wire::tcp::Sack {
            len: 1,
            ..Default::default()
        };
        sack.blocks[0] = (open.host + 10, open.host + 10 * n);
        let options = Options {
            sack,
            ..Options::default()
        };
        rig.send_with(open.peer, open.host, ACK, &[], options);
    }
    let again = rig.expect();
    assert!(again.seq == open.host && again.data == b"ten bytes.");
    rig.silence();
}

/// Without SACK, duplicate ACKs that were only reordering leave nothing behind that would swell the window.
#[test]
fn reordered_acks_do_not_swell_the_window_without_sack() {
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[0; 1_000_000]);
    let mut edge = open.host;
    let mut una = open.host;
    for _ in 0..8 {
        while let Some(seg) = rig.next() {
            edge = edge.max(seg.seq + seg.data.len() as u32);
        }
        rig.send(open.peer, una, ACK, &[]);
        rig.send(open.peer, una, ACK, &[]);
        una += 1460;
        rig.send(open.peer, una, ACK, &[]);
    }
    while let Some(seg) = rig.next() {
        edge = edge.max(seg.seq + seg.data.len() as u32);
    }
    // Ten segments, one more for each of 8 ACKs (slow start), two that limited transmit lent.
    assert!(edge - una <= 20 * 1460, "{} in flight", (edge - una) / 1460);
}

/// A FIN that overtakes the last data, with nothing between them, is not forgotten.
#[test]
fn a_fin_that_overtakes_the_data_counts_when_they_come() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer + 4, open.host, FIN | ACK, &[]);
    assert_eq!(rig.expect().ack, open.peer);
    rig.send(open.peer, open.host, ACK, b"last");
    assert_eq!(rig.expect().ack, open.peer + 5);
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::CloseWait));
}

/// What a peer sends beyond its own FIN is not kept for ever.
#[test]
fn nothing_is_kept_behind_the_fin() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer + 5, open.host, FIN | ACK, &[]);
    rig.send(open.peer + 6, open.host, ACK, b"behind the end");
    rig.send(open.peer, open.host, ACK, b"hello");
    assert_eq!(rig.read(open.socket).unwrap(), b"hello");
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::CloseWait));
    assert_eq!(rig.host.tcp_occupancy().ranges, 0);
    assert_eq!(rig.host.pool().in_use(), 0);
}

/// Linux's rule: what was in flight a round trip ago opens the window, not what is left of it when the last ACKs come.
#[test]
fn a_window_that_was_filled_once_doubles() {
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 14_600]);
    while rig.next().is_some() {}
    rig.ms(100);
    for n in 1..=5 {
        rig.send(open.peer, open.host + n * 2920, ACK, &[]);
    }
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!(info.cwnd, 2 * 14_600);
    // A window of which little was used says nothing about the path.
    for n in 0..5 {
        rig.write(&open, b"few");
        rig.expect();
        rig.ms(100);
        rig.send(open.peer, open.host + 14_600 + (n + 1) * 3, ACK, &[]);
    }
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().cwnd, info.cwnd);
}

/// A segment from the midst of what was written is not pushed, nor when it is sent again.
#[test]
fn a_retransmission_is_pushed_as_it_was_at_first() {
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 2920]);
    assert!(!rig.expect().has(Flags::PSH));
    assert!(rig.expect().has(Flags::PSH));
    rig.ms(1100);
    let again = rig.expect();
    assert_eq!(again.seq, open.host);
    assert!(!again.has(Flags::PSH));
    rig.send(open.peer, open.host + 1460, ACK, &[]);
    assert!(rig.expect().has(Flags::PSH));
}
