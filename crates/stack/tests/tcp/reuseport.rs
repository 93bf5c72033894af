//! Listeners that share an address and port (SO_REUSEPORT).

use stack::{
    Count, Filter, Instruction, ReusePort, SocketError, SocketId, TcpOptions, TcpTunables,
};
use wire::tcp::Options;

use crate::rig::{ACK, LOCAL, RST, Rig, SYN, Seg, config};

fn sharing() -> TcpOptions {
    TcpOptions {
        reuse_port: true,
        ..TcpOptions::default()
    }
}

fn group(rig: &mut Rig, members: usize, backlog: usize) -> Vec<SocketId> {
    (0..members)
        .map(|_| rig.listen(backlog, &sharing()))
        .collect()
}

fn count(rig: &Rig, what: Count) -> u64 {
    rig.host.stats().counts.get(what)
}

fn syn(rig: &mut Rig, port: u16) -> Seg {
    rig.peer_port = port;
    rig.send(999, 0, SYN, &[]);
    rig.expect()
}

/// A connection from this port, established and not accepted.
fn connect(rig: &mut Rig, port: u16) -> Seg {
    let answer = syn(rig, port);
    rig.send(1000, answer.seq + 1, ACK, &[]);
    answer
}

/// The peer's ports that each listener accepts.
fn taken(rig: &mut Rig, listeners: &[SocketId]) -> Vec<Vec<u16>> {
    let mut all = Vec::new();
    for &listener in listeners {
        let mut ports = Vec::new();
        while let Ok((socket, peer)) = rig.host.tcp_accept(rig.now, listener) {
            ports.push(peer.port());
            rig.host.abort(rig.now, socket).unwrap();
            rig.pump();
            while rig.next().is_some() {}
        }
        all.push(ports);
    }
    rig.host.audit().unwrap();
    all
}

#[test]
fn only_who_says_so_shares() {
    let mut rig = Rig::new();
    let local = LOCAL.parse().unwrap();
    let any = "0.0.0.0:80".parse().unwrap();
    let plain = TcpOptions::default();
    let listen =
        |rig: &mut Rig, at, options: &TcpOptions| rig.host.tcp_listen(rig.now, at, 1, options);
    let first = listen(&mut rig, local, &sharing()).unwrap();
    assert_eq!(listen(&mut rig, local, &plain), Err(SocketError::AddrInUse));
    assert_eq!(listen(&mut rig, any, &plain), Err(SocketError::AddrInUse));
    let second = listen(&mut rig, local, &sharing()).unwrap();
    let third = listen(&mut rig, any, &sharing()).unwrap();
    assert_eq!(
        rig.host.reuseport_members(first),
        Ok(2),
        "not those of another address"
    );
    for listener in [first, second, third] {
        rig.host.close(rig.now, listener).unwrap();
        rig.host.audit().unwrap();
    }
    let alone = listen(&mut rig, local, &plain).unwrap();
    assert_eq!(
        listen(&mut rig, local, &sharing()),
        Err(SocketError::AddrInUse)
    );
    let refused = rig.host.reuseport_select(alone, ReusePort::Standby);
    assert_eq!(refused, Err(SocketError::InvalidInput));
}

/// Each tuple has its member; who goes takes no tuple of the others along.
#[test]
fn tuples_are_divided_and_stay() {
    let mut rig = Rig::new();
    let mut listeners = group(&mut rig, 4, 200);
    let all = |rig: &mut Rig, listeners: &[SocketId]| {
        (1..=400).for_each(|port| drop(connect(rig, port)));
        taken(rig, listeners)
    };
    let before = all(&mut rig, &listeners);
    assert!(before.iter().all(|ports| (60..140).contains(&ports.len())));
    assert_eq!(all(&mut rig, &listeners), before);
    rig.host.close(rig.now, listeners.remove(1)).unwrap();
    let after = all(&mut rig, &listeners);
    for (stayed, has) in [0, 2, 3].into_iter().zip(&after) {
        assert!(before[stayed].iter().all(|port| has.contains(port)));
    }
    assert_eq!(after.iter().map(Vec::len).sum::<usize>(), 400);
}

#[test]
fn the_next_takes_over_when_the_first_goes() {
    let mut rig = Rig::new();
    let listeners = group(&mut rig, 3, 8);
    rig.host
        .reuseport_select(listeners[2], ReusePort::Standby)
        .unwrap();
    for first in 0..3 {
        (1..5).for_each(|port| drop(connect(&mut rig, port)));
        let counts: Vec<usize> = taken(&mut rig, &listeners).iter().map(Vec::len).collect();
        let mut expected = vec![0; 3];
        expected[first] = 4;
        assert_eq!(counts, expected);
        rig.host.close(rig.now, listeners[first]).unwrap();
    }
    rig.send(999, 0, SYN, &[]);
    assert!(rig.expect().is(RST | ACK));
}

/// What a program says: here by the peer's port, and by the first byte, of which a SYN has none (so 0).
#[test]
fn programs_choose() {
    let mut rig = Rig::new();
    let listeners = group(&mut rig, 3, 8);
    let by_port = ReusePort::Program(Box::new(|tuple, _| usize::from(tuple.remote.port()) % 3));
    rig.host.reuseport_select(listeners[0], by_port).unwrap();
    (1..=6).for_each(|port| drop(connect(&mut rig, port)));
    let ports = taken(&mut rig, &listeners);
    assert_eq!(ports, [vec![3, 6], vec![1, 4], vec![2, 5]]);
    let op = |code, k| Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let last = Filter::new(&[op(0x06, 2)]).unwrap();
    rig.host
        .reuseport_select(listeners[0], ReusePort::Filter(last))
        .unwrap();
    (1..=3).for_each(|port| drop(connect(&mut rig, port)));
    assert_eq!(taken(&mut rig, &listeners)[2], [1, 2, 3]);
    let first_byte = Filter::new(&[op(0x30, 0), op(0x16, 0)]).unwrap();
    rig.host
        .reuseport_select(listeners[0], ReusePort::Filter(first_byte))
        .unwrap();
    (1..=3).for_each(|port| drop(connect(&mut rig, port)));
    assert_eq!(taken(&mut rig, &listeners)[0], [1, 2, 3]);
    assert_eq!(rig.host.reuseport_forget_program(listeners[1]), Ok(()));
    let none = rig.host.reuseport_forget_program(listeners[1]);
    assert_eq!(none, Err(SocketError::NotFound));
}

/// With the data of its SYN, also where headers of SYNs are kept (TCP_SAVE_SYN).
#[test]
fn programs_see_the_data_of_a_syn() {
    let mut rig = Rig::new();
    let mut tunables = rig.host.tcp_tunables();
    tunables.set("fastopen", 0x202).unwrap(); // without cookies
    rig.host.set_tcp_tunables(tunables).unwrap();
    let options = TcpOptions {
        fast_open_queue: 8,
        save_syn: 1,
        ..sharing()
    };
    let listeners = [0; 3].map(|_| rig.listen(8, &options));
    let first_byte = ReusePort::Program(Box::new(|_, data: &[u8]| data[0].into()));
    rig.host.reuseport_select(listeners[0], first_byte).unwrap();
    for (port, byte) in [(1, 2), (2, 0), (3, 1)] {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[byte]);
        assert_eq!(rig.expect().ack, 1001);
    }
    assert_eq!(taken(&mut rig, &listeners), [vec![2], vec![3], vec![1]]);
}

/// Linux's tcp_migrate_req: established and half-open connections of a listener that is closed go to the others.
#[test]
fn what_waits_at_a_closed_listener_migrates() {
    let mut rig = Rig::new();
    let listeners = group(&mut rig, 2, 64);
    rig.host
        .reuseport_select(listeners[0], ReusePort::Standby)
        .unwrap();
    (1..=10).for_each(|port| drop(connect(&mut rig, port)));
    let half = syn(&mut rig, 50);
    assert_eq!(rig.host.tcp_occupancy().half_open, 1);
    rig.host.close(rig.now, listeners[0]).unwrap();
    rig.host.audit().unwrap();
    rig.pump();
    rig.silence();
    rig.peer_port = 50;
    rig.send(1000, half.seq + 1, ACK, b"hello");
    assert!(rig.expect().is(ACK));
    let ports = taken(&mut rig, &listeners[1..]);
    assert_eq!(ports[0], (1..=10).chain([50]).collect::<Vec<u16>>());
    assert_eq!(count(&rig, Count::TcpMigrateReqSuccess), 11);
    assert_eq!(count(&rig, Count::TcpMigrateReqFailure), 0);
    rig.host.close(rig.now, listeners[1]).unwrap();
    rig.assert_empty();
}

/// Nobody gets more than its backlog: what finds no room is reset, as at a listener without others.
#[test]
fn what_finds_no_room_does_not_migrate() {
    let mut rig = Rig::new();
    let first = rig.listen(8, &sharing());
    let second = rig.listen(2, &sharing());
    rig.host
        .reuseport_select(first, ReusePort::Standby)
        .unwrap();
    (1..=5).for_each(|port| drop(connect(&mut rig, port)));
    rig.host.close(rig.now, first).unwrap();
    rig.pump();
    let resets: Vec<Seg> = core::iter::from_fn(|| rig.next()).collect();
    assert!(resets.len() == 2 && resets.iter().all(|seg| seg.has(RST)));
    assert_eq!(count(&rig, Count::TcpMigrateReqFailure), 2);
    assert_eq!(taken(&mut rig, &[second]), [[1, 2, 3]]);
}

#[test]
fn without_migrate_req_they_are_reset() {
    let mut config = config();
    config.tcp = TcpTunables {
        migrate_req: 0,
        ..config.tcp
    };
    let mut rig = Rig::with(config);
    let listeners = group(&mut rig, 2, 8);
    rig.host
        .reuseport_select(listeners[0], ReusePort::Standby)
        .unwrap();
    connect(&mut rig, 1);
    rig.host.close(rig.now, listeners[0]).unwrap();
    rig.pump();
    assert!(rig.expect().has(RST));
    assert_eq!(taken(&mut rig, &listeners[1..]), [[0_u16; 0]]);
}

/// A cookie of a listener that is gone is good at the one that has its tuples now.
#[test]
fn a_cookie_finds_who_has_the_tuple_now() {
    let mut config = config();
    config.tcp.syncookies = 2;
    let mut rig = Rig::with(config);
    let listeners = group(&mut rig, 2, 8);
    rig.host
        .reuseport_select(listeners[0], ReusePort::Standby)
        .unwrap();
    let answer = syn(&mut rig, 7);
    assert_eq!(rig.host.tcp_occupancy().half_open, 0);
    rig.host.close(rig.now, listeners[0]).unwrap();
    rig.send(1000, answer.seq + 1, ACK, &[]);
    rig.silence();
    assert_eq!(taken(&mut rig, &listeners[1..]), [[7]]);
}

/// Each member's own options hold for what it takes: TCP_MAXSEG, and how many may wait.
#[test]
fn members_have_options_of_their_own() {
    let mut rig = Rig::new();
    let small = TcpOptions {
        max_segment: Some(500),
        ..sharing()
    };
    let listeners = [rig.listen(8, &sharing()), rig.listen(1, &small)];
    let by_port = ReusePort::Program(Box::new(|tuple, _| usize::from(tuple.remote.port()) % 2));
    rig.host.reuseport_select(listeners[0], by_port).unwrap();
    let mss = |seg: &Seg| seg.options.mss;
    let (even, odd) = (connect(&mut rig, 2), connect(&mut rig, 1));
    assert_eq!((mss(&even), mss(&odd)), (Some(1460), Some(500)));
    connect(&mut rig, 3);
    rig.peer_port = 5;
    rig.send_with(999, 0, SYN, &[], Options::default());
    rig.silence();
    assert_eq!(taken(&mut rig, &listeners), [vec![2], vec![1, 3]]);
}

/// By a cookie the ACK decides whose the connection is, as on Linux, and it has that listener's options; but the window is the one its
/// SYN-ACK offered, whoever sent that. So those that offer different ones agree on no shift.
#[test]
fn the_ack_of_a_cookie_may_be_for_another() {
    let mut config = config();
    config.tcp.syncookies = 2;
    let mut rig = Rig::with(config);
    let listener = |rig: &mut Rig, buffer: u32| {
        let options = TcpOptions {
            receive_buffer: Some(buffer),
            ttl: Some(buffer as u8),
            ..sharing()
        };
        rig.listen(8, &options)
    };
    let opened = |rig: &mut Rig, listeners: &[SocketId], port: u16| {
        rig.peer_port = port;
        let options = Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((1, 0)),
            ..Options::default()
        };
        rig.send_with(999, 0, SYN, &[], options);
        let answer = rig.expect();
        let stamp = answer.options.timestamps.unwrap().0;
        let echo = Options {
            timestamps: Some((2, stamp)),
            ..Options::default()
        };
        rig.send_with(1000, answer.seq + 1, ACK, &[], echo);
        rig.silence();
        let (socket, _) = rig.host.tcp_accept(rig.now, listeners[1]).unwrap();
        (socket, answer.options.window_scale)
    };
    // SYNs to the first, ACKs to the second.
    let turns = std::sync::atomic::AtomicUsize::new(0);
    let mut listeners = vec![listener(&mut rig, 4 << 20), listener(&mut rig, 4 << 20)];
    let by_turns = ReusePort::Program(Box::new(move |_, _| {
        turns.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2
    }));
    rig.host.reuseport_select(listeners[0], by_turns).unwrap();
    let (even, shift) = opened(&mut rig, &listeners, 7);
    assert!(shift.is_some_and(|shift| shift > 0));
    let info = rig.host.tcp_info(even).unwrap();
    assert_eq!((info.scaled, Some(info.window_scales.1)), (true, shift));
    // The second goes, and comes again with less room.
    rig.host.close(rig.now, listeners.remove(1)).unwrap();
    listeners.push(listener(&mut rig, 8_192 + 77));
    rig.ms(1000);
    let (uneven, shift) = opened(&mut rig, &listeners, 8);
    assert_eq!(shift, None, "who gets the ACK would not know it");
    let info = rig.host.tcp_info(uneven).unwrap();
    assert_eq!((info.scaled, info.window_scales), (false, (0, 0)));
    let options = rig.host.tcp_options(uneven).unwrap();
    assert_eq!(options.ttl, Some((8_192 + 77) as u8), "those of the second");
    rig.host.audit().unwrap();
}

/// Who joins later may get the ACK of a cookie that was sent before the others' last change.
#[test]
fn a_listener_that_joins_knows_what_cookies_said_before() {
    let mut config = config();
    config.tcp.syncookies = 2;
    let mut rig = Rig::with(config);
    let with_buffer = |buffer: u32| TcpOptions {
        receive_buffer: Some(buffer),
        ..sharing()
    };
    let first = rig.listen(8, &with_buffer(4 << 20));
    rig.peer_port = 7;
    let syn = Options {
        mss: Some(1460),
        window_scale: Some(7),
        timestamps: Some((1, 0)),
        ..Options::default()
    };
    rig.send_with(999, 0, SYN, &[], syn);
    let answer = rig.expect();
    let shift = answer.options.window_scale.unwrap();
    assert!(shift > 0);
    rig.ms(1000);
    let less = |options: &mut TcpOptions| options.receive_buffer = Some(8_192);
    rig.host.tcp_set_options(rig.now, first, less).unwrap();
    let second = rig.listen(8, &with_buffer(8_192));
    let to_second = ReusePort::Program(Box::new(|_, _| 1));
    rig.host.reuseport_select(first, to_second).unwrap();
    let echo = Options {
        timestamps: Some((2, answer.options.timestamps.unwrap().0)),
        ..Options::default()
    };
    rig.send_with(1000, answer.seq + 1, ACK, &[], echo);
    rig.silence();
    let (socket, _) = rig.host.tcp_accept(rig.now, second).unwrap();
    assert_eq!(rig.host.tcp_info(socket).unwrap().window_scales.1, shift);
}
