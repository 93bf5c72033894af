//! What bad input gets: RFC 5961, PAWS, malformed segments, floods.

use core::time::Duration;

use stack::{Count, Drop, SocketError, State, TcpOptions};
use wire::tcp::{Options, Sack};

use crate::rig::{ACK, FIN, Flags, Open, RST, Rig, SYN, nodelay, scaled};

#[test]
fn a_reset_counts_only_at_the_exact_number() {
    // RFC 5961 3.2
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer + 10, open.host, RST, &[]);
    let challenge = rig.expect();
    assert!(challenge.is(ACK) && challenge.ack == open.peer && challenge.seq == open.host);
    rig.send(open.peer.wrapping_sub(10), open.host, RST, &[]);
    rig.send(open.peer + 70_000_000, open.host, RST, &[]);
    rig.silence();
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
    rig.send(open.peer, open.host, RST, &[]);
    assert_eq!(rig.read(open.socket), Err(SocketError::ConnectionReset));
}

#[test]
fn a_syn_in_a_connection_is_challenged() {
    // RFC 5961 4.2
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, 0, SYN, &[]);
    let challenge = rig.expect();
    assert!(challenge.is(ACK) && challenge.ack == open.peer);
    rig.send(open.peer + 5, 0, SYN, &[]);
    rig.silence();
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
}

#[test]
fn challenges_are_limited_per_connection() {
    // RFC 5961 7
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let mut answers = 0;
    for i in 0..1000 {
        rig.send(open.peer + 1 + i, open.host, RST, &[]);
        while rig.next().is_some() {
            answers += 1;
        }
        rig.ms(1);
    }
    assert!(answers <= 2, "{answers} challenges within a second");
    assert!(rig.host.stats().counts.get(Count::TcpChallengeAcksLimited) >= 997);
}

#[test]
fn acks_of_what_was_never_sent_are_not_believed() {
    // RFC 5961 5.2, optimistic ACKs
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 1000]);
    rig.expect();
    rig.send(open.peer, open.host + 5000, ACK, b"evil");
    assert!(rig.expect().is(ACK));
    assert_eq!(
        rig.read(open.socket),
        Err(SocketError::WouldBlock),
        "nor its data"
    );
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().unacknowledged, 1000);
    rig.send(open.peer, open.host.wrapping_sub(200_000), ACK, b"old");
    assert_eq!(rig.read(open.socket), Err(SocketError::WouldBlock));
    let counts = &rig.host.stats().counts;
    assert_eq!(counts.get(Count::TcpChallengeAcks), 1);
    assert_eq!(counts.get(Count::TcpChallengeAcksLimited), 1);
}

#[test]
fn a_segment_without_ack_is_dropped() {
    // RFC 9293 3.10.7.4 fifth
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, 0, Flags::PSH, b"no ack");
    rig.silence();
    assert_eq!(rig.host.stats().drops.get(Drop::TcpNoAck), 1);
    assert_eq!(rig.read(open.socket), Err(SocketError::WouldBlock));
}

fn ts(value: u32, echo: u32) -> Options {
    Options {
        timestamps: Some((value, echo)),
        ..Options::default()
    }
}

/// A connection whose peer's clock stands at 2000, by its first three bytes.
fn stamped() -> (Rig, Open) {
    let mut rig = Rig::new();
    let syn = Options {
        mss: Some(1460),
        ..ts(1000, 0)
    };
    let open = rig.accepted_with(&TcpOptions::default(), syn);
    rig.send_with(open.peer, open.host, ACK, b"new", ts(2000, 1));
    (rig, open)
}

#[test]
fn old_timestamps_are_refused() {
    // RFC 7323 5
    let (mut rig, open) = stamped();
    assert_eq!(rig.expect().options.timestamps.map(|t| t.1), Some(2000));
    rig.read(open.socket).unwrap();
    rig.send_with(open.peer + 3, open.host, ACK, b"old", ts(1500, 1));
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.ack == open.peer + 3);
    assert_eq!(rig.host.stats().drops.get(Drop::TcpPaws), 1);
    assert_eq!(rig.read(open.socket), Err(SocketError::WouldBlock));
    rig.send_with(open.peer + 3, open.host, ACK, b"ok", ts(2001, 1));
    assert_eq!(rig.read(open.socket), Ok(b"ok".to_vec()));
}

/// As Linux: the original that a retransmission overtook by a tick of the clock is no old duplicate.
#[test]
fn a_timestamp_older_by_one_is_taken() {
    let (mut rig, open) = stamped();
    assert_eq!(rig.read(open.socket), Ok(b"new".to_vec()));
    rig.expect();
    rig.send_with(open.peer + 3, open.host, ACK, b"late", ts(1999, 1));
    assert_eq!(rig.read(open.socket), Ok(b"late".to_vec()));
    rig.send_with(open.peer + 7, open.host, ACK, b"old", ts(1998, 1));
    assert_eq!(rig.read(open.socket), Err(SocketError::WouldBlock));
    assert_eq!(
        rig.host.stats().drops.get(Drop::TcpPaws),
        1,
        "TS.Recent has not gone back"
    );
}

#[test]
fn data_outside_the_window_is_dropped_and_acknowledged() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(10_000),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.send(open.peer + 20_000, open.host, ACK, b"far");
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.ack == open.peer);
    assert_eq!(rig.host.stats().drops.get(Drop::TcpBeyondWindow), 1);
    // Half in, half out: nothing is taken, as something waits to be read.
    rig.send(open.peer, open.host, ACK, &[1; 1400]);
    for at in 1..7 {
        rig.send(open.peer + at * 1400, open.host, ACK, &[1; 1400]);
    }
    for at in [9_800, 9_900] {
        rig.send(open.peer + at, open.host, ACK, &[1; 1400]);
    }
    assert_eq!(rig.host.stats().drops.get(Drop::TcpBeyondWindow), 3);
    assert_eq!(rig.read(open.socket).unwrap().len(), 9_800);
    // Nothing waits now: one segment may overrun the window, in order or behind a gap, but not one after the other.
    while rig.next().is_some() {}
    let window = rig.host.tcp_info(open.socket).unwrap().receive_window;
    let (at, edge) = (open.peer + 9_800, open.peer + 9_800 + window);
    for n in 0..100 {
        rig.send(edge - 1 + n * 1399, open.host, ACK, &[1; 1400]);
    }
    let window = rig.host.tcp_info(open.socket).unwrap().receive_window;
    assert!(
        at + window >= edge - 1 + 1400 && window < 30_000,
        "{window}"
    );
    rig.send(at, open.host, ACK, &vec![1; (edge - 1 - at) as usize]);
    assert!(rig.read(open.socket).unwrap().len() as u32 >= edge - 1 + 1400 - at);
}

#[test]
fn wrong_checksums_and_broken_headers_are_counted_and_nothing_else() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let good = rig.frame(80, open.peer, open.host, ACK, b"data", Options::default());
    for at in 34..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        rig.raw(&bad);
    }
    assert_eq!(
        rig.host.stats().drops.get(Drop::TcpChecksum)
            + rig.host.stats().drops.get(Drop::TcpMalformed),
        24
    );
    rig.silence();
    rig.raw(&good);
    assert_eq!(rig.read(open.socket), Ok(b"data".to_vec()));
}

#[test]
fn nonsense_sack_blocks_do_no_harm() {
    let mut rig = Rig::new();
    let syn = Options {
        mss: Some(1460),
        sack_permitted: true,
        ..Options::default()
    };
    let open = rig.accepted_with(&nodelay(), syn);
    rig.write(&open, &[1; 10_000]);
    while rig.next().is_some() {}
    for blocks in [
        [(open.host + 5000, open.host + 4000), (0, u32::MAX)],
        [
            (open.host.wrapping_sub(5000), open.host + 3000),
            (open.host + 1, open.host + 1),
        ],
        [(open.host + 9000, open.host + 90_000), (5, 5)],
    ] {
        let mut sack = Sack::EMPTY;
        for block in blocks {
            sack.push(block);
        }
        rig.send_with(
            open.peer,
            open.host,
            ACK,
            &[],
            Options {
                sack,
                ..Options::default()
            },
        );
    }
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().sacked, 0);
    rig.send(open.peer, open.host + 10_000, ACK, &[]);
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().unacknowledged, 0);
}

#[test]
fn a_flood_of_syns_leaves_the_established_alone() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let memory = rig.host.pool().in_use();
    for port in 6000..26_000 {
        rig.peer_port = port;
        rig.send(port.into(), 0, SYN, &[]);
    }
    while rig.next().is_some() {}
    assert_eq!(rig.host.tcp_occupancy().half_open, 9, "backlog + 1");
    assert_eq!(rig.host.pool().in_use(), memory, "no packet memory held");
    rig.peer_port = 5000;
    rig.send(open.peer, open.host, ACK, b"still fine");
    assert_eq!(rig.read(open.socket), Ok(b"still fine".to_vec()));
    rig.advance(Duration::from_secs(200));
    assert_eq!(rig.host.tcp_occupancy().half_open, 0);
}

#[test]
fn tiny_mss_is_bounded() {
    // CVE-2019-11479's lever: an MSS so small that every byte is a segment
    let mut rig = Rig::new();
    let open = rig.accepted_with(
        &TcpOptions::default(),
        Options {
            mss: Some(1),
            ..Options::default()
        },
    );
    rig.write(&open, &[1; 1000]);
    assert!(rig.expect().data.len() >= 36);
}

/// However short the segments are that a peer wants, what is in flight takes the memory that it took before.
#[test]
fn tiny_segments_in_flight_take_no_more_memory() {
    let mut rig = Rig::new();
    let syn = Options {
        mss: Some(48),
        ..Options::default()
    };
    let open = rig.accepted_with(&nodelay(), syn);
    rig.write(&open, &[1; 200_000]);
    let mut end = open.host;
    for _ in 0..8 {
        while let Some(segment) = rig.next() {
            end = segment.seq.wrapping_add(segment.data.len() as u32);
        }
        rig.ms(10);
        rig.send(open.peer, end, ACK, b"");
    }
    while rig.next().is_some() {}
    let flight = rig.host.tcp_info(open.socket).unwrap().unacknowledged;
    assert!(flight > 40_000, "{flight}");
    let (blocks, pieces) = (rig.host.pool().in_use(), rig.host.pool().segments_in_use());
    assert!(pieces <= blocks + 4, "{pieces} of {blocks}");
}

/// Nor do tiny writes that leave at once, each in a segment of its own.
#[test]
fn tiny_writes_in_flight_share_their_memory() {
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    for _ in 0..4000 {
        rig.write(&open, &[1]);
        assert_eq!(rig.expect().data.len(), 1);
    }
    assert!(rig.host.pool().in_use() <= 4);
    let sent = vec![1; 4000];
    rig.ms(10_000);
    rig.send(open.peer, open.host, ACK, b"");
    let again = core::iter::from_fn(|| rig.next()).find(|segment| !segment.data.is_empty());
    assert!(sent.starts_with(&again.unwrap().data));
}

#[test]
fn out_of_order_floods_are_bounded() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    for i in 0..20_000u32 {
        rig.send(open.peer + 2 + i * 3, open.host, ACK, b"z");
    }
    while rig.next().is_some() {}
    // 128, and one for each KiB of the buffer.
    assert!(rig.host.tcp_occupancy().ranges <= 128 + 64);
    assert!(
        rig.host.pool().in_use() <= 160 + 64,
        "{} blocks",
        rig.host.pool().in_use()
    );
    rig.send(open.peer, open.host, RST | FIN, &[]);
    rig.host.close(rig.now, open.socket).unwrap();
    rig.pump();
    rig.assert_empty_but_listener();
}

/// Half of a window is lost, every other segment, as when slow start overruns a queue: what came is kept, all of it is reported
/// in time, and what is missing is all that is sent again.
#[test]
fn a_window_full_of_holes_is_kept() {
    const SEGMENTS: u32 = 1200;
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(4 << 20),
        ..TcpOptions::default()
    };
    let open = rig.accepted_with(&options, scaled());
    let at = |n: u32| open.peer.wrapping_add(n * 500);
    for n in (1..SEGMENTS).step_by(2) {
        rig.send(at(n), open.host, ACK, &[7; 500]);
        let first = rig.expect().options.sack.blocks[0];
        assert_eq!(first, (at(n), at(n + 1)), "the newest is told");
    }
    assert_eq!(rig.host.tcp_occupancy().ranges, SEGMENTS / 2);
    // A search, now: in the middle, at either end, and again.
    for n in [601, 1, SEGMENTS - 1] {
        rig.send(at(n), open.host, ACK, &[7; 500]);
        let sack = rig.expect().options.sack;
        assert_eq!(sack.blocks[0], (at(n), at(n + 1)), "a duplicate");
    }
    for n in (0..SEGMENTS).step_by(2).rev() {
        rig.send(at(n), open.host, ACK, &[7; 500]);
        let last = core::iter::from_fn(|| rig.next()).last().unwrap();
        let (next, told) = if n == 0 {
            (at(SEGMENTS), None)
        } else {
            (at(0), Some((at(n - 1), at(SEGMENTS))))
        };
        assert_eq!(last.ack, next);
        let sack = last.options.sack;
        assert_eq!(sack.blocks[..sack.len.into()].first().copied(), told);
    }
    let drops = &rig.host.stats().drops;
    assert_eq!(drops.get(Drop::TcpReceiveBufferFull), 0);
    assert_eq!(rig.host.tcp_occupancy().ranges, 0);
    let mut got = 0;
    while let Ok(bytes) = rig.read(open.socket)
        && !bytes.is_empty()
    {
        got += bytes.len() as u32;
    }
    assert_eq!(got, SEGMENTS * 500);
}

/// A sender that has filled our window speaks at its right edge; what it acknowledges there counts.
#[test]
fn an_ack_at_the_right_edge_of_the_window_counts() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(4096),
        ..nodelay()
    };
    let open = rig.accepted(&options);
    rig.write(&open, b"x");
    rig.expect();
    // 4096 bytes are in flight to us, the first segment of them lost.
    rig.send(open.peer + 4096, open.host + 1, ACK, &[]);
    rig.silence();
    rig.ms(1000);
    assert_eq!(rig.host.stats().counts.get(Count::TcpTimeouts), 0);
}

#[test]
fn timestamps_from_before_a_long_silence_are_forgotten() {
    // RFC 7323 5.5
    let mut rig = Rig::new();
    let stamped = |tsval: u32| Options {
        timestamps: Some((tsval, 0)),
        ..Options::default()
    };
    let syn = Options {
        mss: Some(1460),
        ..stamped(10)
    };
    let open = rig.accepted_with(&TcpOptions::default(), syn);
    rig.advance(Duration::from_secs(25 * 24 * 3600));
    let old = 10 + (1 << 31) + 5;
    rig.send_with(open.peer, open.host, ACK, b"a", stamped(old));
    rig.send_with(open.peer + 1, open.host, ACK, b"b", stamped(old + 1));
    assert_eq!(rig.read(open.socket), Ok(b"ab".to_vec()));
}

#[test]
fn repeated_syns_get_few_answers_and_do_not_keep_the_record() {
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    let mut answers = 0;
    for _ in 0..2000 {
        rig.send(999, 0, SYN, &[]);
        while rig.next().is_some() {
            answers += 1;
        }
        rig.ms(100);
    }
    assert!(answers <= 60, "{answers} answers in 200 s");
    rig.advance(Duration::from_secs(70));
    while rig.next().is_some() {}
    assert_eq!(rig.host.tcp_occupancy().half_open, 0);
}

/// RFC 5961 5.2 goes first: what acknowledges nothing credible says nothing of the time, either.
#[test]
fn a_segment_with_a_bad_ack_does_not_move_the_timestamp() {
    let mut rig = Rig::new();
    let stamped = |tsval: u32| Options {
        timestamps: Some((tsval, 0)),
        ..Options::default()
    };
    let syn = Options {
        mss: Some(1460),
        ..stamped(1000)
    };
    let open = rig.accepted_with(&TcpOptions::default(), syn);
    let forged = stamped(1_000_000_000);
    rig.send_with(open.peer, open.host + 5000, ACK, b"evil", forged);
    assert!(rig.expect().is(ACK));
    rig.send_with(open.peer, open.host, ACK, b"good", stamped(1010));
    assert_eq!(rig.read(open.socket), Ok(b"good".to_vec()));
}

/// SYNs in SYN-RECEIVED after a simultaneous open are challenged like others.
#[test]
fn syns_in_syn_received_get_few_answers() {
    let mut rig = Rig::new();
    let (_, syn) = rig.connect(&TcpOptions::default());
    let none = Options::default();
    rig.send_to(syn.src_port, 300, 0, SYN, &[], none);
    rig.expect();
    let mut answers = 0;
    for i in 0..100 {
        rig.send_to(syn.src_port, 301 + i, 0, SYN, &[], none);
        while rig.next().is_some() {
            answers += 1;
        }
    }
    assert!(answers <= 1, "{answers}");
}

/// The records of a batch are fetched before its first segment acts: what that does to them, the later ones must see.
#[test]
fn a_batch_sees_what_its_own_segments_did() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    let answer = rig.expect();
    rig.send(1000, answer.seq + 1, ACK, &[]);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    // The peer gives up and comes back at once, from the same port; the application still holds the old connection.
    let frames = [
        rig.frame(80, 1000, 0, RST, &[], Options::default()),
        rig.frame(80, 50_000, 0, SYN, &[], Options::default()),
    ];
    rig.arrive_together(&frames);
    let again = rig.expect();
    assert!(again.is(SYN | ACK) && again.ack == 50_001);
    assert_eq!(rig.read(socket), Err(SocketError::ConnectionReset));
    // The whole of a short life at once: the ACK makes the connection that the data and the FIN are for.
    let frames = [
        rig.frame(80, 50_001, again.seq + 1, ACK, &[], Options::default()),
        rig.frame(80, 50_001, again.seq + 1, ACK, b"hello", Options::default()),
        rig.frame(
            80,
            50_006,
            again.seq + 1,
            ACK | FIN,
            &[],
            Options::default(),
        ),
    ];
    rig.arrive_together(&frames);
    assert_eq!(rig.expect().ack, 50_007);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(rig.read(socket).unwrap(), b"hello");
    assert_eq!(rig.read(socket).unwrap(), b"");
}
