//! The two queues of a listener, when they are full, and SYN cookies: RFC 4987 and Linux's rules.

use std::net::SocketAddr;
use std::time::Duration;

use stack::{Count, Drop, Known, ListPlace, ListenerInfo, SocketError, SocketFilter, SocketId};
use stack::{State, TcpOptions, TcpTunables};
use wire::tcp::Options;

use crate::rig::{ACK, FIN, REMOTE, RST, Rig, SYN, Seg, config};

fn with(change: impl FnOnce(&mut TcpTunables)) -> Rig {
    let mut config = config();
    change(&mut config.tcp);
    Rig::with(config)
}

fn count(rig: &Rig, what: Count) -> u64 {
    rig.host.stats().counts.get(what)
}

/// Segments the host sends within this time.
fn within(rig: &mut Rig, time: Duration) -> Vec<Seg> {
    let end = rig.now + time;
    let mut seen = Vec::new();
    while rig.now < end {
        rig.ms(100);
        while let Some(seg) = rig.next() {
            seen.push(seg);
        }
    }
    seen
}

/// Fills the accept queue of a listener with backlog 1, and leaves one client half-open whose final ACK came too late.
fn overflow(rig: &mut Rig) -> (SocketId, Seg) {
    let listener = rig.listen(1, &TcpOptions::default());
    let syn = |rig: &mut Rig, port| {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[]);
        rig.expect()
    };
    let first = syn(rig, 1);
    rig.send(1000, first.seq + 1, ACK, &[]);
    let (second, third) = (syn(rig, 2), syn(rig, 3));
    rig.peer_port = 2;
    rig.send(1000, second.seq + 1, ACK, &[]);
    rig.peer_port = 3;
    rig.send(1000, third.seq + 1, ACK, &[]);
    (listener, third)
}

/// The final ACK of a client whose queue is full is dropped; the SYN-ACK comes again, and so does the ACK.
#[test]
fn a_full_accept_queue_makes_the_client_wait() {
    let mut rig = Rig::new();
    let (listener, third) = overflow(&mut rig);
    rig.silence();
    assert_eq!(rig.host.tcp_occupancy().half_open, 1);
    assert_eq!(count(&rig, Count::TcpListenOverflows), 1);
    assert_eq!(count(&rig, Count::TcpListenDrops), 1);
    rig.peer_port = 4;
    rig.send(999, 0, SYN, &[]);
    rig.silence();
    assert_eq!(count(&rig, Count::TcpListenOverflows), 2);
    assert_eq!(rig.host.stats().drops.get(Drop::TcpAcceptQueueFull), 2);
    rig.peer_port = 3;
    assert!(rig.host.tcp_accept(rig.now, listener).is_ok());
    let again = within(&mut rig, Duration::from_secs(2));
    assert!(again.len() == 1 && again[0].is(SYN | ACK) && again[0].seq == third.seq);
    rig.send(1000, third.seq + 1, ACK, b"hello");
    assert!(rig.host.tcp_accept(rig.now, listener).is_ok());
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(rig.read(socket), Ok(b"hello".to_vec()));
}

/// Each listener's queues are told, and what it did not take; the other's are its own.
#[test]
fn a_listener_counts_what_it_does_not_take() {
    let mut rig = Rig::new();
    let (listener, _) = overflow(&mut rig);
    let other: SocketAddr = "10.0.0.1:81".parse().unwrap();
    let options = TcpOptions::default();
    rig.host.tcp_listen(rig.now, other, 7, &options).unwrap();
    let queues = |rig: &Rig| -> Vec<ListenerInfo> {
        let place = ListPlace::default();
        let page = rig.host.list(rig.now, &SocketFilter::ALL, place, 100);
        page.rows.iter().filter_map(|row| row.listener).collect()
    };
    let expected = ListenerInfo {
        accept_queue: 2,
        backlog: 1,
        syn_queue: 1,
        drops: 1,
        overflows: 1,
    };
    let nothing = ListenerInfo {
        accept_queue: 0,
        backlog: 7,
        syn_queue: 0,
        drops: 0,
        overflows: 0,
    };
    assert_eq!(queues(&rig), [expected, nothing]);
    rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(queues(&rig)[0].accept_queue, 1);
    let tables = rig.host.tcp_tables();
    assert_eq!((tables.connections.0, tables.half_open.0), (2, 1));
    assert_eq!(tables.listeners.0, 2);
    assert!(tables.connections.1 >= 2 && tables.ephemeral_ports > 0);
}

/// A client that is never let in is forgotten after `synack_retries`.
#[test]
fn who_waits_for_the_accept_queue_does_not_wait_for_ever() {
    let mut rig = with(|tcp| tcp.synack_retries = 2);
    overflow(&mut rig);
    let again = within(&mut rig, Duration::from_secs(60));
    assert_eq!(again.len(), 2);
    assert_eq!(rig.host.tcp_occupancy().half_open, 0);
}

#[test]
fn abort_on_overflow_resets() {
    let mut rig = with(|tcp| tcp.abort_on_overflow = 1);
    let (_, third) = overflow(&mut rig);
    let reset = rig.expect();
    assert!(reset.is(RST) && reset.seq == third.seq + 1);
    assert_eq!(rig.host.tcp_occupancy().half_open, 0);
}

#[test]
fn a_backlog_is_no_longer_than_somaxconn() {
    let mut rig = with(|tcp| tcp.somaxconn = 3);
    let listener = rig.listen(100, &TcpOptions::default());
    for port in 1..=10 {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[]);
        if let Some(answer) = rig.next() {
            rig.send(1000, answer.seq + 1, ACK, &[]);
        }
    }
    let mut accepted = 0;
    while rig.host.tcp_accept(rig.now, listener).is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 4);
}

/// Without cookies the last quarter of max_syn_backlog is left free.
#[test]
fn max_syn_backlog_bounds_the_half_open_connections() {
    let mut rig = with(|tcp| (tcp.syncookies, tcp.max_syn_backlog) = (0, 16));
    rig.listen(64, &TcpOptions::default());
    for port in 1..=40 {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[]);
    }
    assert_eq!(rig.host.tcp_occupancy().half_open, 13);
    assert_eq!(rig.host.stats().drops.get(Drop::TcpSynQueueFull), 27);
    assert_eq!(count(&rig, Count::TcpListenDrops), 27);
}

/// Old half-open connections get fewer answers when the queue is more than half full, so that new ones find room.
#[test]
fn a_crowded_queue_gives_up_sooner() {
    let mut rig = with(|tcp| tcp.syncookies = 0);
    rig.listen(16, &TcpOptions::default());
    for port in 1..=16 {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[]);
        rig.expect();
    }
    rig.advance(Duration::from_secs(8));
    assert_eq!(
        rig.host.tcp_occupancy().half_open,
        8,
        "after 1 + 2 + 4 s it is half full"
    );
}

const FULL: Options = Options {
    mss: Some(1460),
    window_scale: Some(7),
    sack_permitted: true,
    timestamps: Some((500, 0)),
    ..NO_OPTIONS
};
const NO_OPTIONS: Options = Options {
    mss: None,
    window_scale: None,
    sack_permitted: false,
    timestamps: None,
    sack: wire::tcp::Sack::EMPTY,
    fast_open: None,
    acc_ecn: None,
    malformed: false,
};

/// A final ACK with the timestamps the SYN-ACK asks for.
fn reply(answer: &Seg) -> Options {
    Options {
        timestamps: answer.options.timestamps.map(|(tsval, _)| (510, tsval)),
        ..NO_OPTIONS
    }
}

/// A listener that always answers with cookies.
fn baker() -> (Rig, SocketId) {
    let mut rig = with(|tcp| tcp.syncookies = 2);
    let listener = rig.listen(8, &TcpOptions::default());
    (rig, listener)
}

/// A cookie leaves nothing behind, and the ACK that brings it back makes the connection, with all that was agreed on.
#[test]
fn a_cookie_is_a_half_open_connection_without_memory() {
    let (mut rig, listener) = baker();
    rig.send_with(999, 0, SYN, &[], FULL);
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK) && answer.ack == 1000);
    assert_eq!(answer.options.mss, Some(1460));
    assert!(answer.options.sack_permitted && answer.options.window_scale.is_some());
    rig.assert_empty_but_listener();
    assert!(
        within(&mut rig, Duration::from_secs(20)).is_empty(),
        "nor a timer"
    );
    rig.send_with(1000, answer.seq + 1, ACK, b"hello", reply(&answer));
    let (socket, peer) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(peer, REMOTE.parse().unwrap());
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(
        (info.mss, info.timestamps, info.sack, info.window_scales.0),
        (1448, true, true, 7)
    );
    assert_eq!(rig.read(socket), Ok(b"hello".to_vec()));
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.ack == 1005 && ack.options.timestamps.unwrap().1 == 510);
    assert_eq!(count(&rig, Count::TcpSynCookiesSent), 1);
    assert_eq!(count(&rig, Count::TcpSynCookiesReceived), 1);
    rig.host.audit().unwrap();
}

/// Without timestamps there is room for the MSS only, and the SYN-ACK offers nothing else.
#[test]
fn a_cookie_without_timestamps_keeps_the_mss_only() {
    let (mut rig, listener) = baker();
    let syn = Options {
        timestamps: None,
        mss: Some(1350),
        ..FULL
    };
    rig.send_with(999, 0, SYN, &[], syn);
    let answer = rig.expect();
    let ours = Options {
        mss: Some(1460),
        ..NO_OPTIONS
    };
    assert_eq!(answer.options, ours);
    rig.send(1000, answer.seq + 1, ACK, &[]);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(
        (info.mss, info.timestamps, info.sack, info.window_scales),
        (1300, false, false, (0, 0)),
        "the largest size a cookie can name"
    );
}

#[test]
fn forged_and_old_cookies_are_reset_and_counted() {
    let (mut rig, _) = baker();
    rig.send(1000, 12345, ACK, &[]);
    assert!(rig.expect().is(RST));
    let failed = |rig: &Rig| count(rig, Count::TcpSynCookiesFailed);
    assert_eq!(failed(&rig), 0, "no cookie was about");
    rig.send_with(999, 0, SYN, &[], FULL);
    let answer = rig.expect();
    let cookie = answer.seq + 1;
    for (seq, ack, port) in [
        (1000, cookie + 1, 5000),
        (1001, cookie, 5000),
        (1000, cookie, 5001),
    ] {
        rig.peer_port = port;
        rig.send(seq, ack, ACK, &[]);
        assert!(rig.expect().is(RST));
    }
    assert_eq!(failed(&rig), 3);
    rig.peer_port = 5000;
    rig.send(1000, cookie, SYN | ACK, &[]);
    assert!(rig.expect().is(RST));
    rig.advance(Duration::from_secs(121));
    rig.send_with(1000, cookie, ACK, &[], reply(&answer));
    assert!(rig.expect().is(RST));
    rig.send_with(999, 0, SYN, &[], FULL); // one more is about, and still the old one is too old
    rig.expect();
    rig.send_with(1000, cookie, ACK, &[], reply(&answer));
    assert!(rig.expect().is(RST));
    rig.assert_empty_but_listener();
}

/// Data that overtakes the segment with the cookie is dropped, not reset: it comes again behind it.
#[test]
fn data_may_overtake_its_cookie() {
    let (mut rig, listener) = baker();
    rig.send_with(999, 0, SYN, &[], FULL);
    let answer = rig.expect();
    rig.send_with(1005, answer.seq + 1, ACK, b" world", reply(&answer));
    rig.send_with(1011, answer.seq + 1, FIN | ACK, &[], reply(&answer));
    rig.silence();
    rig.send_with(1000, answer.seq + 1, ACK, b"hello", reply(&answer));
    rig.send_with(1005, answer.seq + 1, ACK, b" world", reply(&answer));
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(rig.read(socket), Ok(b"hello world".to_vec()));
}

/// A flood is answered by cookies, and does not keep anybody out.
#[test]
fn a_client_gets_through_a_flood() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    for port in 1..=1000 {
        rig.peer_port = port;
        rig.send_with(u32::from(port), 0, SYN, &[], FULL);
        rig.expect();
    }
    assert_eq!(rig.host.tcp_occupancy().half_open, 9);
    assert_eq!(count(&rig, Count::TcpSynCookiesSent), 991);
    rig.peer_port = 5000;
    rig.send_with(999, 0, SYN, &[], FULL);
    let answer = rig.expect();
    rig.send_with(1000, answer.seq + 1, ACK, &[], reply(&answer));
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(rig.host.tcp_state(socket), Ok(State::Established));
    rig.host.audit().unwrap();
}

/// Off is off: beyond the queue SYNs are dropped.
#[test]
fn without_cookies_the_syn_queue_is_bounded() {
    let mut rig = with(|tcp| tcp.syncookies = 0);
    rig.listen(8, &TcpOptions::default());
    for port in 1..=100 {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[]);
    }
    assert_eq!(rig.host.tcp_occupancy().half_open, 9, "backlog + 1");
    assert_eq!(rig.host.stats().drops.get(Drop::TcpSynQueueFull), 91);
    assert_eq!(count(&rig, Count::TcpSynCookiesSent), 0);
}

/// A cookie that comes when the accept queue is full is dropped: the client sends data and brings it again.
#[test]
fn a_cookie_waits_for_the_accept_queue() {
    let mut rig = with(|tcp| tcp.syncookies = 2);
    let listener = rig.listen(0, &TcpOptions::default());
    let answers = [1, 2].map(|port| {
        rig.peer_port = port;
        rig.send_with(999, 0, SYN, &[], FULL);
        rig.expect()
    });
    for (port, answer) in [1, 2].into_iter().zip(&answers) {
        rig.peer_port = port;
        rig.send_with(1000, answer.seq + 1, ACK, &[], reply(answer));
        rig.silence();
    }
    assert_eq!(count(&rig, Count::TcpListenOverflows), 1);
    assert!(rig.host.tcp_accept(rig.now, listener).is_ok());
    rig.send_with(1000, answers[1].seq + 1, ACK, b"hello", reply(&answers[1]));
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(rig.read(socket), Ok(b"hello".to_vec()));
}

/// What a load balancer asks: one question, whatever the answer is kept in.
#[test]
fn the_host_knows_its_tuples() {
    let mut rig = Rig::new();
    let listener = rig.listen(0, &TcpOptions::default());
    let local: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let knows = |rig: &Rig, port, seq, ack| {
        let remote = SocketAddr::from(([10, 0, 0, 2], port));
        rig.host.tcp_knows(rig.now, remote, local, (seq, ack))
    };
    rig.peer_port = 1;
    rig.send_with(999, 0, SYN, &[], FULL);
    let first = rig.expect();
    assert_eq!(knows(&rig, 1, 0, 0), Some(Known::HalfOpen));
    rig.peer_port = 2;
    rig.send_with(999, 0, SYN, &[], FULL);
    let cookie = rig.expect();
    assert_eq!(knows(&rig, 2, 1000, cookie.seq + 1), Some(Known::Cookie));
    assert_eq!(knows(&rig, 2, 1000, cookie.seq + 2), None);
    assert_eq!(knows(&rig, 4, 1000, cookie.seq + 1), None);
    rig.peer_port = 1;
    rig.send_with(1000, first.seq + 1, ACK, &[], reply(&first));
    assert_eq!(knows(&rig, 1, 0, 0), Some(Known::Connection));
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    rig.host.close(rig.now, socket).unwrap();
    let fin = rig.expect();
    rig.send_with(1000, fin.seq + 1, FIN | ACK, &[], reply(&first));
    assert_eq!(knows(&rig, 1, 0, 0), Some(Known::TimeWait));
}

/// TCP_DEFER_ACCEPT: bare ACKs do not wake the application, data does.
#[test]
fn a_deferred_connection_is_accepted_with_its_data() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        defer_accept: Some(Duration::from_secs(5)),
        ..TcpOptions::default()
    };
    let listener = rig.listen(8, &options);
    rig.send(999, 0, SYN, &[]);
    let answer = rig.expect();
    rig.send(1000, answer.seq + 1, ACK, &[]);
    let refused = rig.host.tcp_accept(rig.now, listener);
    assert_eq!(refused, Err(SocketError::WouldBlock));
    assert_eq!(rig.host.stats().drops.get(Drop::TcpDeferAccept), 1);
    rig.send(1000, answer.seq + 1, ACK, b"GET");
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(rig.read(socket), Ok(b"GET".to_vec()));
}

/// At the end of the time the SYN-ACK is sent once more, and the ACK of that is enough.
#[test]
fn a_silent_deferred_connection_is_accepted_at_the_end_of_its_time() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        defer_accept: Some(Duration::from_secs(5)), // timeouts of 1, 2 and 4 s
        ..TcpOptions::default()
    };
    let listener = rig.listen(8, &options);
    rig.send(999, 0, SYN, &[]);
    let answer = rig.expect();
    rig.send(1000, answer.seq + 1, ACK, &[]);
    let start = rig.now;
    let again = loop {
        rig.ms(100);
        if let Some(seg) = rig.next() {
            break seg;
        }
        assert!(rig.now - start < Duration::from_secs(10));
    };
    assert_eq!((rig.now - start).as_secs(), 7);
    assert!(again.is(SYN | ACK) && again.seq == answer.seq);
    rig.send(1000, answer.seq + 1, ACK, &[]);
    assert!(rig.host.tcp_accept(rig.now, listener).is_ok());
}
