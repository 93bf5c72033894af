//! The budget for the memory of all connections (`tcp_mem`): its levels, and what goes on at each of them.

use base::BLOCK;
use stack::{Count, Drop, Ready, SettingError, SocketError, TcpOptions, TcpTunables};

use crate::rig::{ACK, Open, RST, Rig, SYN, config, nodelay, scaled};

/// A host with these levels, in pages.
fn rig(mem: [u32; 3]) -> Rig {
    let mut config = config();
    config.tcp.mem = mem;
    Rig::with(config)
}

fn levels(rig: &mut Rig, mem: [u32; 3]) {
    let tunables = TcpTunables {
        mem,
        ..rig.host.tcp_tunables()
    };
    rig.host.set_tcp_tunables(tunables).unwrap();
    rig.pump();
}

fn count(rig: &Rig, what: Count) -> u64 {
    rig.host.stats().counts.get(what)
}

fn dropped(rig: &Rig, what: Drop) -> u64 {
    rig.host.stats().drops.get(what)
}

/// The peer sends `count` segments in order, of 1,460 bytes from `at` on.
fn feed(rig: &mut Rig, open: &Open, at: u32, count: u32) {
    for n in 0..count {
        rig.send(open.peer + at + n * 1460, open.host, ACK, &[7; 1460]);
    }
}

/// The right edge of the window in the last segment the host sent.
fn edge(rig: &mut Rig, shift: u32) -> u32 {
    let mut last = None;
    while let Some(seg) = rig.next() {
        last = Some(seg);
    }
    let last = last.expect("an ACK");
    last.ack + (u32::from(last.window) << shift)
}

#[test]
fn the_levels_are_in_proportion_to_packet_memory_unless_they_are_set() {
    let rig = Rig::new(); // 2,048 blocks, 1,024 pages
    assert_eq!(rig.host.tcp_tunables().mem, [480, 640, 960]);
    let shown = rig.host.tcp_memory();
    assert_eq!(shown.levels, [480, 640, 960].map(|pages| pages * 4096));
    assert_eq!((shown.bytes, shown.pressure), (0, false));
    let mut rig = self::rig([30, 40, 60]);
    assert_eq!(rig.host.tcp_tunables().text("mem"), Some("30 40 60".into()));
    let mut tunables = rig.host.tcp_tunables();
    let refused = tunables.set_text("tcp_mem", "50 40 60");
    assert_eq!(refused, Err(SettingError::NoLevels));
    tunables.mem = [50, 40, 60];
    assert!(rig.host.set_tcp_tunables(tunables).is_err());
    levels(&mut rig, [0; 3]);
    assert_eq!(rig.host.tcp_tunables().mem, [480, 640, 960]);
}

/// Above the second number there is pressure, until there is no more than the first; both ways are counted, and for how long.
#[test]
fn pressure_is_entered_above_its_level_and_left_at_the_low_one() {
    let mut rig = rig([10, 20, 400]);
    let open = rig.accepted(&nodelay());
    feed(&mut rig, &open, 0, 40);
    assert_eq!(rig.host.tcp_memory().bytes, 20 * 4096);
    assert!(!rig.host.tcp_memory().pressure, "at the level");
    feed(&mut rig, &open, 40 * 1460, 1);
    assert!(rig.host.tcp_memory().pressure);
    assert_eq!(count(&rig, Count::TcpMemoryPressures), 1);
    rig.ms(250);
    let mut part = vec![0; 20 * 1460];
    assert_eq!(
        rig.host.tcp_recv(rig.now, open.socket, &mut part),
        Ok(20 * 1460)
    );
    assert_eq!(rig.host.tcp_memory().bytes, 21 * BLOCK as u64);
    assert!(rig.host.tcp_memory().pressure, "above the low level still");
    assert_eq!(count(&rig, Count::TcpMemoryPressuresChrono), 0);
    assert_eq!(
        rig.host.tcp_recv(rig.now, open.socket, &mut part[..1460]),
        Ok(1460)
    );
    assert!(!rig.host.tcp_memory().pressure);
    assert_eq!(count(&rig, Count::TcpMemoryPressuresChrono), 250);
    assert_eq!(count(&rig, Count::TcpMemoryPressures), 1);
    rig.read(open.socket).unwrap();
    assert_eq!(rig.host.tcp_memory().bytes, 0);
}

/// What is sent counts until it is acknowledged, and levels that are set while the host runs hold at once.
#[test]
fn data_to_be_acknowledged_counts_and_levels_move_under_it() {
    let mut rig = rig([10, 20, 400]);
    let open = rig.accepted(&nodelay());
    assert_eq!(rig.write(&open, &[7; 20_000]), 20_000);
    while rig.next().is_some() {}
    // One block may be in two queues.
    let blocks = rig.host.tcp_memory().bytes / BLOCK as u64;
    assert!((10..=11).contains(&blocks), "{blocks}");
    levels(&mut rig, [1, 2, 400]);
    assert!(rig.host.tcp_memory().pressure);
    levels(&mut rig, [10, 20, 400]);
    assert!(!rig.host.tcp_memory().pressure);
    rig.send(open.peer, open.host + 14_600, ACK, &[]);
    while rig.next().is_some() {}
    rig.send(open.peer, open.host + 20_000, ACK, &[]);
    assert_eq!(rig.host.tcp_memory().bytes, 0);
}

/// Under pressure a buffer that is more than half full offers four segments at a time, and takes nothing back; after it all there is
/// room for.
#[test]
fn windows_are_small_under_pressure() {
    let options = TcpOptions {
        receive_buffer: Some(100_000),
        ..TcpOptions::default()
    };
    let offered = [[400; 3], [1, 2, 400]].map(|mem| {
        let mut rig = rig(mem);
        let open = rig.accepted_with(&options, scaled());
        feed(&mut rig, &open, 0, 30);
        assert_eq!(edge(&mut rig, 1), open.peer + 100_000, "as before");
        feed(&mut rig, &open, 30 * 1460, 38);
        let mut part = [0; 14_600];
        assert_eq!(
            rig.host.tcp_recv(rig.now, open.socket, &mut part),
            Ok(14_600)
        );
        let offered = edge(&mut rig, 1) - open.peer - 68 * 1460;
        feed(&mut rig, &open, 68 * 1460, 3);
        rig.read(open.socket).unwrap();
        assert!(!rig.host.tcp_memory().pressure);
        assert!(edge(&mut rig, 1) >= open.peer + 71 * 1460 + 98_000);
        offered
    });
    assert!(offered[0] >= 14_600, "{offered:?}");
    assert!((5_838..=5_842).contains(&offered[1]), "{offered:?}");
}

/// A send buffer that nobody has set holds one window under pressure, not two.
#[test]
fn send_buffers_do_not_grow_under_pressure() {
    let mut rig = rig([10, 20, 400]);
    let open = rig.accepted(&nodelay());
    let before = rig.host.tcp_send_buffer(open.socket).unwrap();
    assert_eq!(rig.write(&open, &[7; 100_000]), 100_000);
    assert!(rig.host.tcp_memory().pressure);
    let under = rig.host.tcp_send_buffer(open.socket).unwrap();
    assert!(
        before >= 1 << 20 && under <= before / 2,
        "{before}, {under}"
    );
    assert!(!rig.host.ready(open.socket).contains(Ready::WRITABLE));
    let rest = rig.write(&open, &[7; 100_000]);
    assert!(rest < 65_536, "no more than ends the super-frame: {rest}");
    let more = rig.host.tcp_send(rig.now, open.socket, b"more");
    assert_eq!(more, Err(SocketError::WouldBlock));
    levels(&mut rig, [400; 3]);
    assert_eq!(rig.host.tcp_send_buffer(open.socket), Ok(before));
    assert_eq!(rig.write(&open, b"more"), 4);
}

/// One that the application has set stays as it is.
#[test]
fn a_send_buffer_that_is_set_holds_under_pressure() {
    let mut rig = rig([1, 2, 400]);
    let options = TcpOptions {
        send_buffer: Some(200_000),
        ..nodelay()
    };
    let open = rig.accepted(&options);
    assert_eq!(rig.write(&open, &[7; 100_000]), 100_000);
    assert!(rig.host.tcp_memory().pressure);
    assert_eq!(rig.host.tcp_send_buffer(open.socket), Ok(200_000));
    assert_eq!(rig.write(&open, &[7; 50_000]), 50_000);
}

/// A writer gets what is left up to the third number, then waits, and is told when he may go on: at the latest when what he always
/// may hold is free.
#[test]
fn a_write_waits_for_memory() {
    let mut rig = rig([10, 20, 30]);
    let options = TcpOptions {
        send_buffer: Some(1 << 20),
        ..nodelay()
    };
    let open = rig.accepted(&options);
    assert_eq!(rig.write(&open, &[7; 200_000]), 30 * 4096);
    assert_eq!(rig.host.tcp_memory().bytes, 30 * 4096);
    let more = rig.host.tcp_send(rig.now, open.socket, b"more");
    assert_eq!(more, Err(SocketError::WouldBlock));
    assert!(
        !rig.host.ready(open.socket).contains(Ready::WRITABLE),
        "or who polls would spin"
    );
    rig.events.clear();
    let mut sent = open.host;
    let mut acked = 0;
    while rig.events.is_empty() {
        while let Some(seg) = rig.next() {
            sent = seg.seq + seg.data.len() as u32;
        }
        rig.send(open.peer, sent, ACK, &[]);
        acked += 1;
        assert!(acked < 20, "he is never told");
    }
    let event = rig.events.pop_front().unwrap();
    assert!(event.ready.contains(Ready::WRITABLE));
    assert!(rig.write(&open, &[7; 200_000]) > 0);
}

/// Whatever others hold, a connection may hold 4 KiB each way.
#[test]
fn a_little_is_guaranteed_to_each_connection() {
    let mut rig = rig([1, 2, 30]);
    let greedy = rig.accepted(&nodelay());
    feed(&mut rig, &greedy, 0, 44);
    while rig.next().is_some() {}
    levels(&mut rig, [1, 2, 10]);
    // The one who leaves all unread gets no more.
    feed(&mut rig, &greedy, 44 * 1460, 1);
    assert_eq!(dropped(&rig, Drop::TcpReceiveQueueFull), 1);
    assert_eq!(rig.expect().window, 0, "the peer is told to wait");
    // He may write, though not for ever.
    assert_eq!(rig.write(&greedy, &[7; 10_000]), 4096);
    let more = rig.host.tcp_send(rig.now, greedy.socket, b"more");
    assert_eq!(more, Err(SocketError::WouldBlock));
    while rig.next().is_some() {}
    // Another is served as long as he reads, and may answer.
    rig.peer_port = 5001;
    let listener = rig
        .host
        .tcp_listen(rig.now, "10.0.0.1:81".parse().unwrap(), 8, &nodelay());
    rig.send_to(81, 999, 0, SYN, &[], scaled());
    let answer = rig.expect();
    rig.send_to(81, 1000, answer.seq + 1, ACK, &[], Default::default());
    let (other, _) = rig.host.tcp_accept(rig.now, listener.unwrap()).unwrap();
    for n in 0..30 {
        let at = 1000 + n * 1460;
        rig.send_to(
            81,
            at,
            answer.seq + 1 + n * 4,
            ACK,
            &[7; 1460],
            Default::default(),
        );
        assert_eq!(rig.read(other).unwrap().len(), 1460);
        assert_eq!(rig.host.tcp_send(rig.now, other, b"well"), Ok(4));
        while rig.next().is_some() {}
    }
    assert_eq!(dropped(&rig, Drop::TcpReceiveQueueFull), 1);
    // Once it is read, the peer is told, and the rest comes again.
    rig.peer_port = 5000;
    assert_eq!(rig.read(greedy.socket).unwrap().len(), 44 * 1460);
    assert!(rig.expect().window >= 4 * 1460);
    feed(&mut rig, &greedy, 44 * 1460, 1);
    assert_eq!(rig.read(greedy.socket).unwrap().len(), 1460);
}

/// Above the third number what is out of order is dropped, and what waits out of order goes before anything in order does.
#[test]
fn data_out_of_order_go_first() {
    let mut rig = rig([1, 2, 20]);
    let open = rig.accepted_with(&nodelay(), scaled());
    feed(&mut rig, &open, 0, 20);
    feed(&mut rig, &open, 22 * 1460, 20);
    assert_eq!(rig.host.tcp_occupancy().ranges, 1);
    assert_eq!(rig.host.tcp_memory().bytes, 40 * BLOCK as u64);
    // One more is too much.
    feed(&mut rig, &open, 43 * 1460, 1);
    assert_eq!(dropped(&rig, Drop::TcpOutOfOrderMemory), 1);
    assert_eq!(count(&rig, Count::TcpPruneCalled), 0);
    while rig.next().is_some() {}
    // One in order makes room for itself.
    feed(&mut rig, &open, 20 * 1460, 1);
    assert_eq!(count(&rig, Count::TcpPruneCalled), 1);
    assert_eq!(count(&rig, Count::TcpOfoPruned), 1);
    assert_eq!(rig.host.tcp_occupancy().ranges, 0);
    assert_eq!(dropped(&rig, Drop::TcpReceiveQueueFull), 0);
    // All of it comes again, and arrives.
    feed(&mut rig, &open, 21 * 1460, 19);
    assert_eq!(rig.read(open.socket).unwrap().len(), 40 * 1460);
    assert_eq!(rig.host.tcp_memory().bytes, 0);
}

/// A gap is closed for a reader who keeps up, however much is held: what waits behind it leaves with that.
#[test]
fn a_reader_who_keeps_up_gets_what_closes_a_gap() {
    let mut rig = rig([1, 2, 20]);
    let open = rig.accepted_with(&nodelay(), scaled());
    feed(&mut rig, &open, 1460, 40);
    assert_eq!(rig.host.tcp_memory().bytes, 40 * BLOCK as u64);
    feed(&mut rig, &open, 0, 1);
    assert_eq!(count(&rig, Count::TcpPruneCalled), 0);
    assert_eq!(rig.read(open.socket).unwrap().len(), 41 * 1460);
}

/// A connection that its application closes while there is no memory is reset, if it has much to send: at once, or when the peer
/// takes nothing for a timeout.
#[test]
fn orphans_go_when_there_is_no_memory() {
    for late in [false, true] {
        let mut rig = rig([1, 2, 30]);
        let open = rig.accepted(&nodelay());
        assert_eq!(rig.write(&open, &[7; 50_000]), 50_000);
        while rig.next().is_some() {}
        if !late {
            levels(&mut rig, [1, 2, 10]);
        }
        rig.host.close(rig.now, open.socket).unwrap();
        if late {
            assert_eq!(count(&rig, Count::TcpAbortOnMemory), 0);
            levels(&mut rig, [1, 2, 10]);
            rig.ms(3000);
        }
        assert_eq!(count(&rig, Count::TcpAbortOnMemory), 1, "late: {late}");
        let mut last = rig.expect();
        while let Some(next) = rig.next() {
            last = next;
        }
        assert!(last.has(RST));
        assert_eq!(rig.host.tcp_memory().bytes, 0);
        rig.assert_empty_but_listener();
    }
}

/// One with little to send is left to do so.
#[test]
fn orphans_with_little_to_send_stay() {
    let mut rig = rig([1, 2, 30]);
    let open = rig.accepted(&nodelay());
    assert_eq!(rig.write(&open, &[7; 4_000]), 4_000);
    levels(&mut rig, [0, 0, 1]);
    levels(&mut rig, [0, 1, 1]);
    rig.host.close(rig.now, open.socket).unwrap();
    rig.ms(3000);
    assert_eq!(count(&rig, Count::TcpAbortOnMemory), 0);
    assert_eq!(rig.host.tcp_occupancy().connections, 1);
}

/// Under pressure nobody takes more than there is left then, and each gets its part of all there is.
#[test]
fn under_pressure_nobody_holds_more_than_a_fair_share() {
    let mut rig = rig([10, 20, 400]);
    let listener = rig.listen(8, &nodelay());
    let opens: Vec<Open> = (5000..5004)
        .map(|port| {
            rig.peer_port = port;
            rig.send_with(999, 0, SYN, &[], scaled());
            let host = rig.expect().seq + 1;
            rig.send(1000, host, ACK, &[]);
            let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
            let peer = 1000;
            Open { socket, host, peer }
        })
        .collect();
    let to = |rig: &mut Rig, n: usize| rig.peer_port = 5000 + n as u16;
    // All have something to read: 400 pages are 100 for each, 400 KiB.
    for (n, open) in opens.iter().enumerate() {
        to(&mut rig, n);
        feed(&mut rig, open, 0, 12);
    }
    assert!(rig.host.tcp_memory().pressure);
    let taken = |rig: &mut Rig, open: &Open| {
        let mut sent = 0;
        while let Ok(n) = rig.host.tcp_send(rig.now, open.socket, &[1; 1000]) {
            sent += n;
        }
        sent
    };
    let set = |options: &mut TcpOptions| options.send_buffer = Some(4 << 20);
    let mut held = Vec::new();
    for open in &opens {
        rig.host.tcp_set_options(rig.now, open.socket, set).unwrap();
        held.push((taken(&mut rig, open) + 12 * 1460) / 4096);
    }
    // 48 of 400 pages were held before.
    assert!((180..=200).contains(&held[0]), "{held:?}");
    assert!(held[1..].iter().all(|&pages| pages <= 101), "{held:?}");
    assert!(held[1] >= 99 && held[3] >= 4, "{held:?}");
    rig.host.audit().unwrap();
    // Once the pressure is over, the buffer is as large as it was set.
    levels(&mut rig, [1000, 1000, 1000]);
    assert!(taken(&mut rig, &opens[0]) > 100 * 1024);
}
