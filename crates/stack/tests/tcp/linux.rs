//! What Linux does where RFCs leave room, found by playing random scripts to both (`tests/tests/differential`).

use stack::{Ready, Shutdown, SocketError, State, TcpOptions};
use wire::tcp::{Options, Sack};

use crate::rig::{ACK, FIN, Rig, SECOND, SYN, nodelay};

fn with_sack() -> Options {
    Options {
        mss: Some(1460),
        sack_permitted: true,
        ..Options::default()
    }
}

fn blocks(blocks: &[(u32, u32)]) -> Sack {
    let mut sack = Sack::EMPTY;
    for block in blocks {
        sack.push(*block);
    }
    sack
}

#[test]
fn what_follows_the_peers_fin_is_not_answered_but_the_fin_again_is() {
    // RFC 9293 3.10.7.4 seventh: "Ignore the segment text."
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, FIN | ACK, &[]);
    rig.ms(100);
    assert_eq!(rig.expect().ack, open.peer + 1);
    rig.send(open.peer + 1, open.host, ACK, b"more");
    rig.silence();
    rig.send(open.peer, open.host, FIN | ACK, &[]);
    assert_eq!(rig.expect().ack, open.peer + 1);
}

#[test]
fn data_for_a_socket_shut_both_ways_resets_the_connection() {
    // RFC 9293 3.6.1: nobody will read it.
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Read)
        .unwrap();
    rig.send(open.peer, open.host, ACK, b"passes");
    rig.ms(100);
    assert_eq!(rig.expect().ack, open.peer + 6);
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Write)
        .unwrap();
    rig.pump();
    assert!(rig.expect().has(FIN));
    rig.send(open.peer + 6, open.host + 1, ACK, b"too late");
    assert!(rig.expect().is(crate::rig::RST));
    assert_eq!(
        rig.host.take_error(open.socket),
        Some(SocketError::ConnectionReset)
    );
}

#[test]
fn data_out_of_the_window_is_always_answered_and_what_came_again_is_named() {
    // RFC 9293 3.10.7.4 first; limits are for segments that may be answers themselves (RFC 5961 7).
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), with_sack());
    rig.send(open.peer, open.host, ACK, &[1; 500]);
    rig.expect();
    for _ in 0..3 {
        rig.send(open.peer + 70_000_000, open.host, ACK, b"far");
        assert_eq!(rig.expect().ack, open.peer + 500);
        rig.send(open.peer, open.host, ACK, &[1; 400]);
        let answer = rig.expect();
        assert_eq!(answer.options.sack, blocks(&[(open.peer, open.peer + 400)]));
    }
}

#[test]
fn the_last_segment_again_brings_a_newer_time_stamp() {
    // It ends where the last ACK stands: its ACK and its stamp count.
    let mut rig = Rig::new();
    let stamped = |tsval, tsecr| Options {
        timestamps: Some((tsval, tsecr)),
        ..Options::default()
    };
    let open = rig.accepted_with(
        &TcpOptions::default(),
        Options {
            mss: Some(1460),
            ..stamped(100, 0)
        },
    );
    rig.send_with(open.peer, open.host, ACK, &[1; 500], stamped(110, 0));
    assert_eq!(rig.expect().options.timestamps.unwrap().1, 110);
    rig.send_with(open.peer, open.host, ACK, &[1; 500], stamped(120, 0));
    assert_eq!(rig.expect().options.timestamps.unwrap().1, 120);
}

#[test]
fn overlaps_out_of_order_are_reported_as_duplicates() {
    // RFC 2883 4.2
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), with_sack());
    let at = |n: u32| open.peer + n;
    rig.send(at(1000), open.host, ACK, &[1; 1000]);
    rig.expect();
    rig.send(at(1500), open.host, ACK, &[1; 1000]);
    let expected = [(at(1500), at(2000)), (at(1000), at(2500))];
    assert_eq!(rig.expect().options.sack, blocks(&expected));
    rig.send(at(500), open.host, ACK, &[1; 1400]);
    let expected = [(at(1000), at(1900)), (at(500), at(2500))];
    assert_eq!(rig.expect().options.sack, blocks(&expected));
}

#[test]
fn a_fin_that_came_early_is_reported_too() {
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), with_sack());
    let at = |n: u32| open.peer + n;
    rig.send(at(1000), open.host, FIN | ACK, &[]);
    assert_eq!(rig.expect().options.sack, blocks(&[(at(1000), at(1001))]));
    rig.send(at(500), open.host, ACK, &[1; 500]);
    assert_eq!(rig.expect().options.sack, blocks(&[(at(500), at(1001))]));
    rig.send(at(0), open.host, ACK, &[1; 500]);
    assert_eq!(rig.expect().ack, at(1001));
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::CloseWait));
}

#[test]
fn data_segments_report_what_is_out_of_order() {
    // RFC 2018 3: in all segments with an ACK, which are the shorter for it.
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), with_sack());
    rig.send(open.peer + 1000, open.host, ACK, &[1; 1000]);
    rig.expect();
    rig.write(&open, &[7; 2000]);
    let reported = blocks(&[(open.peer + 1000, open.peer + 2000)]);
    for len in [1448, 552] {
        let segment = rig.expect();
        assert_eq!((segment.data.len(), segment.options.sack), (len, reported));
    }
    rig.silence();
}

#[test]
fn what_is_sent_again_stays_within_a_window_that_shrank() {
    // RFC 9293 3.8.6
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[7; 1000]);
    rig.expect();
    rig.window = 10;
    for n in 0..2 {
        rig.send(open.peer + n, open.host, ACK, b"!");
        rig.expect();
    }
    rig.ms(1500);
    assert_eq!(rig.expect().data.len(), 10);
}

#[test]
fn a_probe_of_the_tail_is_the_last_segment_as_it_was_sent() {
    // RFC 8985 7.3
    let mut rig = Rig::new();
    let open = rig.accepted_with(&nodelay(), with_sack());
    rig.write(&open, &[7; 1560]);
    assert_eq!(rig.expect().data.len(), 1460);
    assert_eq!(rig.expect().data.len(), 100);
    rig.ms(1500);
    let probe = rig.expect();
    assert_eq!((probe.seq, probe.data.len()), (open.host + 1460, 100));
}

#[test]
fn a_wrong_ack_resets_a_handshake_whatever_its_number() {
    // Before the window is looked at.
    let mut rig = Rig::new();
    rig.listen(1, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    let answer = rig.expect();
    rig.send(70_000_000, answer.seq + 100, ACK, &[]);
    let reset = rig.expect();
    assert!(reset.is(crate::rig::RST) && reset.seq == answer.seq + 100);
    rig.send(1000, answer.seq + 1, ACK, &[]);
    assert_eq!(rig.host.tcp_occupancy().connections, 1);
}

#[test]
fn small_segments_that_were_lost_are_sent_again_as_one() {
    let mut rig = Rig::new();
    let open = rig.accepted_with(&nodelay(), with_sack());
    for n in 0..3 {
        rig.write(&open, &[n; 10]);
        assert_eq!(rig.expect().data.len(), 10);
    }
    rig.ms(5000);
    let probe = rig.expect();
    assert_eq!((probe.seq, probe.data.len()), (open.host + 20, 10));
    let all = rig.expect();
    assert_eq!((all.seq, all.data.len()), (open.host, 30));
}

#[test]
fn two_small_segments_in_flight_are_probed_without_waiting_for_a_delayed_ack() {
    // RFC 8985 7.2: the longest delay of an ACK is added for a single segment in flight.
    for (writes, waits) in [(1, true), (2, false)] {
        let mut rig = Rig::new();
        rig.handshake_ms = 50;
        let open = rig.accepted_with(&nodelay(), with_sack());
        for _ in 0..writes {
            rig.write(&open, &[7; 10]);
            rig.expect();
        }
        rig.ms(150);
        assert_eq!(rig.next().is_none(), waits, "{writes} in flight");
    }
}

#[test]
fn a_fin_waits_for_the_congestion_window() {
    // RFC 5681 3.1
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[7; 1800]);
    rig.expect();
    rig.expect();
    rig.ms(1500);
    assert_eq!(rig.expect().seq, open.host); // a timeout: the window is one segment
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Write)
        .unwrap();
    rig.silence();
    rig.send(open.peer, open.host + 1460, ACK, &[]);
    assert_eq!(rig.expect().seq, open.host + 1460);
    let fin = rig.expect();
    assert!(fin.has(FIN) && fin.seq == open.host + 1800);
}

#[test]
fn a_fin_out_of_order_for_a_socket_shut_both_ways_resets_the_connection() {
    // What it follows is for nobody.
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Both)
        .unwrap();
    rig.pump();
    assert!(rig.expect().has(FIN));
    rig.send(open.peer + 10, open.host + 1, FIN | ACK, &[]);
    let reset = rig.expect();
    assert!(reset.is(crate::rig::RST) && reset.seq == open.host + 1);
    assert_eq!(
        rig.host.take_error(open.socket),
        Some(SocketError::ConnectionReset)
    );
}

#[test]
fn the_first_copy_of_a_syn_is_answered_however_soon_it_comes() {
    // Then one every half second, and each counts as the retransmission that was due.
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    let first = rig.expect();
    for (ms, answered) in [(40, true), (40, false), (400, false), (100, true)] {
        rig.ms(ms);
        rig.send(999, 0, SYN, &[]);
        let answer = rig.next();
        assert_eq!(answer.is_some(), answered);
        assert!(answer.is_none_or(|again| again.is(SYN | ACK) && again.seq == first.seq));
    }
}

#[test]
fn what_brings_news_and_old_bytes_is_acknowledged_with_the_news() {
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), with_sack());
    let at = |n: u32| open.peer + n;
    rig.send(at(0), open.host, ACK, &[1; 500]);
    rig.expect();
    rig.write(&open, b"answer"); // acknowledgments wait for answers now
    rig.expect();
    rig.send(at(400), open.host + 6, ACK, &[1; 500]);
    rig.silence();
    rig.write(&open, b"another");
    let answer = rig.expect();
    assert_eq!(answer.ack, at(900));
    assert_eq!(answer.options.sack, blocks(&[(at(400), at(500))]));
}

#[test]
fn data_that_come_with_the_fin_wait_for_the_answer_with_it() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, ACK, &[1; 500]);
    assert_eq!(rig.expect().ack, open.peer + 500);
    rig.send(open.peer + 500, open.host, FIN | ACK, &[1; 100]);
    rig.silence();
    rig.read(open.socket).unwrap();
    rig.host.close(rig.now, open.socket).unwrap();
    let fin = rig.expect();
    assert!(fin.has(FIN) && fin.ack == open.peer + 601);
    rig.silence();
}

#[test]
fn after_what_is_all_old_acknowledgments_leave_at_once() {
    // The peer has missed some.
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let at = |n: u32| open.peer + n;
    rig.send(at(0), open.host, ACK, &[1; 500]);
    rig.expect();
    rig.write(&open, b"answer");
    rig.expect();
    rig.send(at(0), open.host + 6, ACK, &[1; 400]);
    assert_eq!(rig.expect().ack, at(500));
    rig.send(at(500), open.host + 6, ACK, b"more");
    assert_eq!(rig.expect().ack, at(504));
}

#[test]
fn an_ack_stays_within_a_window_that_shrank() {
    // The peer would not take one beyond it (RFC 9293 3.10.7.4 first).
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[7; 1000]);
    rig.expect();
    rig.window = 0;
    rig.send(open.peer, open.host + 200, ACK, b"!");
    assert_eq!(rig.expect().seq, open.host + 200);
}

#[test]
fn shut_both_ways_is_hung_up_though_the_connection_lives() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Read)
        .unwrap();
    assert!(!rig.host.ready(open.socket).contains(Ready::HUP));
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Write)
        .unwrap();
    assert!(rig.host.ready(open.socket).contains(Ready::HUP));
}

#[test]
fn the_end_of_the_stream_is_read_though_a_reset_followed_it() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, FIN | ACK, b"last");
    rig.send(open.peer + 5, 0, crate::rig::RST, &[]);
    assert_eq!(rig.read(open.socket).unwrap(), b"last");
    assert_eq!(rig.read(open.socket).unwrap(), b"");
    assert_eq!(
        rig.host.take_error(open.socket),
        Some(SocketError::BrokenPipe)
    );
}

#[test]
fn a_fin_that_comes_again_is_reported_as_a_duplicate() {
    // RFC 2883 4: it has a number, too.
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), with_sack());
    rig.send(open.peer, open.host, FIN | ACK, &[]);
    assert!(rig.expect().options.sack.as_slice().is_empty());
    rig.send(open.peer, open.host, FIN | ACK, &[]);
    let again = blocks(&[(open.peer, open.peer + 1)]);
    assert_eq!(rig.expect().options.sack, again);
}

#[test]
fn a_fin_behind_a_full_segment_is_acknowledged_at_once() {
    // More than a segment waits then.
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, FIN | ACK, &[1; 1460]);
    assert_eq!(rig.expect().ack, open.peer + 1461);
}

#[test]
fn after_a_timeout_of_a_short_segment_there_is_room_for_two_long_ones() {
    // RFC 5681 3.1: the window grows by one segment at most for each.
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[7; 100]);
    rig.expect();
    rig.ms(210);
    assert_eq!(rig.expect().seq, open.host);
    rig.write(&open, &[7; 5000]);
    rig.silence();
    rig.send(open.peer, open.host + 100, ACK, &[]);
    for n in 0..2 {
        let segment = rig.expect();
        assert_eq!(segment.seq, open.host + 100 + 1460 * n);
    }
    rig.silence();
}

#[test]
fn a_window_of_one_segment_is_one_segments_however_short() {
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[7; 1000]);
    rig.expect();
    rig.ms(1500);
    assert_eq!(rig.expect().data.len(), 1000);
    rig.write(&open, &[7; 100]);
    rig.silence();
    rig.send(open.peer, open.host + 1000, ACK, &[]);
    assert_eq!(rig.expect().data.len(), 100);
}

#[test]
fn a_reset_where_the_highest_data_ends_counts() {
    // Whoever sends it does not know of the hole.
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), with_sack());
    let at = |n: u32| open.peer + n;
    for from in [1000, 3000] {
        rig.send(at(from), open.host, ACK, &[1; 1000]);
        rig.expect();
    }
    rig.send(at(2000), open.host, crate::rig::RST, &[]);
    assert!(rig.expect().is(ACK), "a challenge");
    rig.send(at(4000), open.host, crate::rig::RST, &[]);
    rig.silence();
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Closed));
}

#[test]
fn who_sends_after_data_out_of_order_does_not_answer() {
    // So what fills the hole is acknowledged at once, and what follows.
    let mut rig = Rig::new();
    let open = rig.accepted_with(&nodelay(), with_sack());
    let at = |n: u32| open.peer + n;
    rig.send(at(0), open.host, ACK, &[1; 100]);
    rig.expect();
    rig.ms(300);
    rig.send(at(200), open.host, ACK, &[1; 100]);
    rig.expect();
    rig.write(&open, b"no answer");
    rig.expect();
    rig.send(at(100), open.host + 9, ACK, &[1; 100]);
    assert_eq!(rig.expect().ack, at(300));
    rig.send(at(300), open.host + 9, ACK, &[1; 100]);
    assert_eq!(rig.expect().ack, at(400));
}

#[test]
fn a_reset_while_the_last_ack_is_awaited_is_an_error() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, FIN | ACK, &[]);
    rig.expect();
    rig.host
        .tcp_shutdown(rig.now, open.socket, Shutdown::Write)
        .unwrap();
    rig.pump();
    assert!(rig.expect().has(FIN));
    rig.send(open.peer + 1, open.host, crate::rig::RST, &[]);
    assert_eq!(
        rig.host.take_error(open.socket),
        Some(SocketError::ConnectionReset)
    );
}

#[test]
fn what_is_sacked_tells_the_round_trip() {
    // RFC 6298 4: more samples do no harm; these were sent once.
    let mut rig = Rig::new();
    rig.handshake_ms = 10;
    let open = rig.accepted_with(&nodelay(), with_sack());
    rig.write(&open, &[7; 2920]);
    rig.expect();
    rig.expect();
    rig.ms(20);
    let before = rig.host.tcp_info(open.socket).unwrap().rtt;
    let options = Options {
        sack: blocks(&[(open.host + 1460, open.host + 2920)]),
        ..Options::default()
    };
    rig.send_with(open.peer, open.host, ACK, &[], options);
    assert!(rig.host.tcp_info(open.socket).unwrap().rtt > before);
}

#[test]
fn an_ack_puts_the_next_probe_of_the_window_off() {
    // It says what the probe would have asked.
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    rig.window = 0;
    rig.send(open.peer, open.host, ACK, b"!");
    rig.expect();
    rig.write(&open, &[7; 100]);
    for _ in 0..5 {
        rig.ms(150);
        rig.silence();
        rig.send(open.peer + 1, open.host, ACK, &[]);
    }
    rig.ms(250);
    assert_eq!(rig.expect().seq, open.host.wrapping_sub(1));
}
