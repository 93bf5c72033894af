//! Fast Open of listeners (RFC 7413 4.2.2, Linux's rules): what a SYN may do that has a cookie, and what none may. Whoever opens
//! fast stands in `fast_open_client`.

use std::time::Duration;

use stack::{Count, FastOpenKeys, SocketError, SocketId, State, TcpOptions};
use wire::tcp::{FastOpen, Options};

use crate::rig::{ACK, FIN, RST, Rig, SYN};

const KEYS: FastOpenKeys = FastOpenKeys {
    primary: [1; 16],
    backup: None,
};

fn options(queue: u32) -> TcpOptions {
    TcpOptions {
        fast_open_queue: queue,
        ..TcpOptions::default()
    }
}

fn with(fast_open: Option<FastOpen>) -> Options {
    Options {
        mss: Some(1460),
        sack_permitted: true,
        fast_open,
        ..Options::default()
    }
}

/// A host that takes Fast Opens, at a listener with a queue for so many.
fn server(queue: u32) -> (Rig, SocketId) {
    server_with(&options(queue))
}

fn server_with(options: &TcpOptions) -> (Rig, SocketId) {
    let mut rig = Rig::new();
    set(&mut rig, "fastopen", 2);
    rig.host.set_tcp_fast_open_keys(None, KEYS).unwrap();
    let listener = rig.listen(8, options);
    (rig, listener)
}

pub(crate) fn set(rig: &mut Rig, name: &str, value: i64) {
    let mut tunables = rig.host.tcp_tunables();
    tunables.set(name, value).unwrap();
    rig.host.set_tcp_tunables(tunables).unwrap();
}

/// The cookie the host gives the peer.
fn cookie(rig: &mut Rig) -> FastOpen {
    let port = rig.peer_port;
    rig.peer_port = 4999;
    rig.send_with(99, 0, SYN, &[], with(Some(FastOpen::REQUEST)));
    let cookie = rig.expect().options.fast_open.unwrap();
    assert!(!cookie.is_request() && !cookie.experimental);
    let answer = rig.host.tcp_occupancy();
    rig.send(100, 0, RST, &[]);
    assert_eq!(rig.host.tcp_occupancy().half_open, answer.half_open - 1);
    rig.peer_port = port;
    cookie
}

pub(crate) fn count(rig: &Rig, what: Count) -> u64 {
    rig.host.stats().counts.get(what)
}

#[test]
fn data_on_a_syn_with_its_cookie_is_delivered_and_answered_before_the_handshake_ends() {
    // RFC 7413 4.2.2
    let (mut rig, listener) = server(1);
    let cookie = cookie(&mut rig);
    rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK) && answer.ack == 1005 && answer.data.is_empty());
    assert_eq!(answer.options.fast_open, None);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    let info = rig.host.tcp_info(socket).unwrap();
    assert!(info.syn_data && info.state == State::SynReceived);
    assert_eq!(rig.read(socket).unwrap(), b"hello");
    assert_eq!(rig.host.tcp_send(rig.now, socket, b"world"), Ok(5));
    let data = rig.expect();
    assert_eq!((data.seq, data.ack), (answer.seq + 1, 1005));
    assert_eq!(data.data, b"world");
    rig.ms(20);
    rig.send(1005, data.seq + 5, ACK, b"");
    let info = rig.host.tcp_info(socket).unwrap();
    assert!(info.syn_data && info.state == State::Established);
    assert_eq!(info.rtt.as_millis(), 20);
    rig.silence();
    assert_eq!(count(&rig, Count::TcpFastOpenPassive), 1);
    assert_eq!(count(&rig, Count::TcpPassiveOpens), 1);
}

/// A wrong cookie, none, no queue, or no Fast Open at all: data on the SYN is ignored, as ever, and costs no more than a SYN.
#[test]
fn without_its_cookie_a_syn_with_data_is_a_syn() {
    let wrong = FastOpen::new(&[7; 8], false).unwrap();
    let short = FastOpen::new(&[7; 4], false).unwrap();
    for (enabled, queue, option, told) in [
        (2, 1, Some(wrong), true),
        (2, 1, Some(short), true),
        (2, 1, Some(FastOpen::REQUEST), true),
        (2, 1, None, false),
        (2, 0, Some(wrong), false),
        (1, 1, Some(FastOpen::REQUEST), false),
    ] {
        let (mut rig, listener) = server(queue);
        set(&mut rig, "fastopen", enabled);
        rig.send_with(999, 0, SYN, b"hello", with(option));
        let answer = rig.expect();
        assert!(answer.is(SYN | ACK) && answer.ack == 1000);
        assert_eq!(answer.options.fast_open.is_some(), told, "{option:?}");
        let left = rig.host.tcp_occupancy();
        assert_eq!((left.half_open, left.connections, left.active), (1, 0, 0));
        assert_eq!(rig.host.pool().in_use(), 0);
        let none = rig.host.tcp_accept(rig.now, listener);
        assert_eq!(none, Err(SocketError::WouldBlock));
        rig.send(1000, answer.seq + 1, ACK, b"hello");
        let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
        assert_eq!(rig.read(socket).unwrap(), b"hello");
        assert!(!rig.host.tcp_info(socket).unwrap().syn_data);
    }
}

#[test]
fn a_cookie_is_given_in_the_form_it_was_asked_for() {
    let (mut rig, _listener) = server(1);
    let cookie = cookie(&mut rig);
    let asked = FastOpen::new(&[], true);
    rig.send_with(999, 0, SYN, b"", with(asked));
    let told = rig.expect().options.fast_open.unwrap();
    assert!(told.experimental);
    assert_eq!(told.cookie(), cookie.cookie());
    rig.peer_port = 5001;
    rig.send_with(999, 0, SYN, b"hello", with(Some(told)));
    assert_eq!(rig.expect().ack, 1005);
}

#[test]
fn a_cookie_of_the_key_before_is_taken_and_replaced() {
    // RFC 7413 4.1.2: rotating the key
    let (mut rig, listener) = server(4);
    let old = cookie(&mut rig);
    let rotated = |primary, backup| FastOpenKeys {
        primary: [primary; 16],
        backup,
    };
    let keys = rotated(2, Some([1; 16]));
    rig.host
        .set_tcp_fast_open_keys(Some(listener), keys)
        .unwrap();
    assert_eq!(rig.host.tcp_fast_open_keys(Some(listener)), Ok(keys));
    assert_eq!(rig.host.tcp_fast_open_keys(None), Ok(KEYS));
    rig.send_with(999, 0, SYN, b"hello", with(Some(old)));
    let answer = rig.expect();
    let new = answer.options.fast_open.unwrap();
    assert!(answer.ack == 1005 && new != old);
    assert_eq!(count(&rig, Count::TcpFastOpenBackupKey), 1);
    let keys = rotated(3, Some([2; 16]));
    rig.host
        .set_tcp_fast_open_keys(Some(listener), keys)
        .unwrap();
    rig.peer_port = 5001;
    rig.send_with(999, 0, SYN, b"hello", with(Some(old)));
    assert_eq!(rig.expect().ack, 1000, "the key before that is forgotten");
    rig.peer_port = 5002;
    rig.send_with(999, 0, SYN, b"hello", with(Some(new)));
    assert_eq!(rig.expect().ack, 1005);
}

/// Spoofing with a stolen cookie is bounded by the queue (RFC 7413 5.1), whatever the application accepts; a reset does not give
/// the room back at once.
#[test]
fn the_queue_bounds_connections_that_syns_open() {
    let (mut rig, listener) = server(2);
    let cookie = cookie(&mut rig);
    let syn = |rig: &mut Rig, port| {
        rig.peer_port = port;
        rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
        rig.expect()
    };
    let first = syn(&mut rig, 1);
    assert_eq!((first.ack, syn(&mut rig, 2).ack), (1005, 1005));
    assert!(rig.host.tcp_accept(rig.now, listener).is_ok());
    assert!(rig.host.tcp_accept(rig.now, listener).is_ok());
    let refused = syn(&mut rig, 3);
    assert_eq!((refused.ack, refused.options.fast_open), (1000, None));
    assert_eq!(count(&rig, Count::TcpFastOpenListenOverflows), 1);
    // A handshake that ends makes room.
    rig.peer_port = 1;
    rig.send(1005, first.seq + 1, ACK, b"");
    assert_eq!(syn(&mut rig, 4).ack, 1005);
    // A reset does not, for a minute.
    rig.peer_port = 4;
    rig.send(1005, 0, RST, b"");
    rig.ms(500);
    assert_eq!(syn(&mut rig, 5).ack, 1000);
    rig.ms(59_000);
    while rig.next().is_some() {}
    assert_eq!(syn(&mut rig, 6).ack, 1000);
    rig.ms(1000);
    while rig.next().is_some() {}
    assert_eq!(syn(&mut rig, 7).ack, 1005);
}

#[test]
fn a_flood_with_wrong_cookies_costs_what_a_flood_of_syns_does() {
    let (mut rig, _listener) = server(1000);
    for port in 1..=3000_u16 {
        rig.peer_port = port;
        let cookie = FastOpen::new(&u64::from(port).to_be_bytes(), port % 2 == 0);
        rig.send_with(999, 0, SYN, &[1; 1000], with(cookie));
    }
    while rig.next().is_some() {}
    let left = rig.host.tcp_occupancy();
    assert_eq!((left.connections, left.active), (0, 0));
    assert!(
        left.half_open <= 9,
        "the backlog bounds it, then SYN cookies"
    );
    assert_eq!(rig.host.pool().in_use(), 0);
    assert_eq!(count(&rig, Count::TcpFastOpenPassive), 0);
    assert!(count(&rig, Count::TcpSynCookiesSent) > 2900);
}

#[test]
fn while_syn_cookies_are_sent_there_is_no_fast_open() {
    let (mut rig, _listener) = server(1000);
    let cookie = cookie(&mut rig);
    set(&mut rig, "syncookies", 2);
    rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
    let answer = rig.expect();
    assert_eq!((answer.ack, answer.options.fast_open), (1000, None));
    assert_eq!(rig.host.tcp_occupancy().connections, 0);
}

/// The SYN that comes again, with its data or without, is answered again and delivers nothing again.
#[test]
fn a_repeated_syn_is_answered_and_delivers_nothing() {
    let (mut rig, listener) = server(1);
    let cookie = cookie(&mut rig);
    rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
    let answer = rig.expect();
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    for again in [&b"hello"[..], b""] {
        rig.send_with(999, 0, SYN, again, with(Some(cookie)));
        rig.silence(); // a copy
        rig.ms(300);
        rig.send_with(999, 0, SYN, again, with(Some(cookie)));
        let repeated = rig.expect();
        assert!(repeated.is(SYN | ACK));
        assert_eq!((repeated.seq, repeated.ack), (answer.seq, 1005));
    }
    rig.send(1005, answer.seq + 1, ACK, b"");
    // Once more, late: a challenge, as for any SYN.
    rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
    assert!(rig.expect().is(ACK));
    assert_eq!(rig.read(socket).unwrap(), b"hello");
    assert_eq!(rig.read(socket), Err(SocketError::WouldBlock));
    assert_eq!(rig.host.tcp_occupancy().connections, 1);
}

#[test]
fn only_the_syn_ack_is_sent_again_until_the_handshake_ends() {
    let (mut rig, listener) = server(1);
    let cookie = cookie(&mut rig);
    rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
    let answer = rig.expect();
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    rig.host.tcp_send(rig.now, socket, &[7; 3000]).unwrap();
    let sent: Vec<_> = (0..3).map(|_| rig.expect().data.len()).collect();
    assert_eq!(sent, [1460, 1460, 80]);
    for wait in [1000, 2000] {
        rig.ms(wait - 5);
        rig.silence();
        rig.ms(6);
        let again = rig.expect();
        assert!(again.is(SYN | ACK) && again.seq == answer.seq && again.ack == 1005);
        rig.silence();
    }
    // The client had no SYN-ACK to take the data with: it is sent again at once.
    rig.send(1005, answer.seq + 1, ACK, b"");
    let again = rig.expect();
    assert_eq!((again.seq, again.data.len()), (answer.seq + 1, 1460));
    rig.send(1005, answer.seq + 3001, ACK, b"");
    rig.ms(60_000);
    rig.silence();
}

#[test]
fn a_handshake_that_never_ends_is_given_up() {
    let (mut rig, listener) = server(1);
    let cookie = cookie(&mut rig);
    rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
    assert!(rig.expect().is(SYN | ACK));
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    for wait in [1, 2, 4, 8, 16, 32] {
        rig.ms(wait * 1000 + 1);
        let again = rig.next().unwrap_or_else(|| panic!("after {wait} s"));
        assert!(again.is(SYN | ACK));
    }
    rig.ms(64_000);
    assert_eq!(rig.read(socket).unwrap(), b"hello");
    assert_eq!(rig.read(socket), Err(SocketError::TimedOut));
    rig.host.close(rig.now, socket).unwrap();
    rig.host.close(rig.now, listener).unwrap();
    rig.assert_empty_but_listener();
}

/// The data of the SYN are no sign that the application answers: what comes first after them is acknowledged at once, be it a
/// FIN (as Linux).
#[test]
fn a_fin_right_behind_the_syn_is_acknowledged_at_once() {
    let (mut rig, listener) = server(1);
    let cookie = cookie(&mut rig);
    rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
    let answer = rig.expect();
    rig.send(1005, answer.seq + 1, FIN | ACK, b"");
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.ack == 1006);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(info.state, State::CloseWait);
    assert_eq!(rig.read(socket).unwrap(), b"hello");
    rig.host.close(rig.now, socket).unwrap();
    let fin = rig.expect();
    assert!(fin.is(FIN | ACK) && fin.ack == 1006);
}

/// A window that the handshake offered, and nobody used, is not told again because the data of the SYN are read.
#[test]
fn reading_the_data_of_a_syn_says_nothing() {
    let (mut rig, listener) = server_with(&TcpOptions {
        receive_buffer: Some(270_000),
        ..options(1)
    });
    let cookie = cookie(&mut rig);
    let scaled = Options {
        window_scale: Some(7),
        ..with(Some(cookie))
    };
    rig.send_with(999, 0, SYN, &[1; 1000], scaled);
    let answer = rig.expect();
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    rig.send(2000, answer.seq + 1, ACK, b"");
    assert_eq!(rig.read(socket).unwrap().len(), 1000);
    rig.silence();
    rig.ms(300);
    rig.silence();
}

/// TCP_RTO_MAX_MS of the listener bounds the time between SYN-ACKs of these connections, too (as Linux).
#[test]
fn the_longest_timeout_of_the_listener_holds_for_the_syn_ack() {
    let (mut rig, _listener) = server_with(&TcpOptions {
        rto_max: Some(Duration::from_secs(1)),
        ..options(1)
    });
    let cookie = cookie(&mut rig);
    rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
    assert!(rig.expect().is(SYN | ACK));
    for _ in 0..4 {
        rig.ms(995);
        rig.silence();
        rig.ms(6);
        assert!(rig.expect().is(SYN | ACK));
    }
}

#[test]
fn resets_and_the_listeners_end_leave_nothing_behind() {
    for accepted in [false, true] {
        let (mut rig, listener) = server(1);
        let cookie = cookie(&mut rig);
        rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
        rig.expect();
        let accept = |rig: &mut Rig| rig.host.tcp_accept(rig.now, listener).unwrap().0;
        let early = accepted.then(|| accept(&mut rig));
        rig.send(1005, 0, RST, b"");
        let socket = early.unwrap_or_else(|| accept(&mut rig));
        assert_eq!(rig.read(socket).unwrap(), b"hello");
        assert_eq!(rig.read(socket), Err(SocketError::ConnectionReset));
        rig.host.close(rig.now, socket).unwrap();
        rig.host.close(rig.now, listener).unwrap();
        rig.silence();
        rig.assert_empty_but_listener();
    }
    let (mut rig, listener) = server(2);
    let cookie = cookie(&mut rig);
    rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
    let answer = rig.expect();
    rig.host.close(rig.now, listener).unwrap();
    let reset = rig.expect();
    assert!(reset.has(RST) && reset.seq == answer.seq + 1 && reset.ack == 1005);
    rig.assert_empty_but_listener();
}

#[test]
fn a_connection_may_be_closed_before_its_handshake_ends() {
    let (mut rig, listener) = server(1);
    let cookie = cookie(&mut rig);
    rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
    let answer = rig.expect();
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(rig.read(socket).unwrap(), b"hello");
    rig.host.tcp_send(rig.now, socket, b"bye").unwrap();
    rig.host.close(rig.now, socket).unwrap();
    let data = rig.expect();
    assert_eq!((data.seq, &data.data[..]), (answer.seq + 1, &b"bye"[..]));
    let fin = if data.has(FIN) { data } else { rig.expect() };
    assert!(fin.has(FIN));
    rig.send(1005, answer.seq + 5, FIN | ACK, b"");
    assert_eq!(rig.expect().ack, 1006);
    assert_eq!(rig.host.tcp_occupancy().time_wait, 1);
}

#[test]
fn all_listeners_take_part_and_none_needs_a_cookie_where_that_is_allowed() {
    let mut rig = Rig::new();
    set(&mut rig, "fastopen", 0x602);
    let listener = rig.listen(8, &TcpOptions::default());
    rig.send_with(999, 0, SYN, b"hello", with(None));
    assert_eq!(rig.expect().ack, 1005);
    assert!(rig.host.tcp_accept(rig.now, listener).is_ok());
    // One listener's own option does the same.
    let mut rig = Rig::new();
    set(&mut rig, "fastopen", 2);
    let own = TcpOptions {
        fast_open_no_cookie: true,
        ..options(1)
    };
    rig.listen(8, &own);
    rig.send_with(999, 0, SYN, b"hello", with(None));
    assert_eq!(rig.expect().ack, 1005);
}

#[test]
fn a_bad_ack_is_reset_and_does_not_end_the_handshake() {
    // RFC 9293 3.10.7.4 fifth: SYN-RECEIVED
    let (mut rig, listener) = server(1);
    let cookie = cookie(&mut rig);
    rig.send_with(999, 0, SYN, b"hello", with(Some(cookie)));
    let answer = rig.expect();
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    for wrong in [answer.seq, answer.seq + 2, answer.seq + 100_000] {
        rig.send(1005, wrong, ACK, b"");
        let reset = rig.expect();
        assert!(reset.is(RST) && reset.seq == wrong);
    }
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(info.state, State::SynReceived);
    rig.send(1005, answer.seq + 1, ACK, b"");
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(info.state, State::Established);
}

/// What the SYN-ACK agreed to holds when it is sent again, whatever the host would agree to by then.
#[test]
fn a_syn_ack_after_data_says_the_same_again() {
    let (mut rig, _listener) = server(1);
    let cookie = cookie(&mut rig);
    let syn = Options {
        timestamps: Some((7, 0)),
        ..with(Some(cookie))
    };
    rig.send_with(999, 0, SYN, b"hello", syn);
    assert!(rig.expect().options.timestamps.is_some());
    set(&mut rig, "timestamps", 0);
    set(&mut rig, "sack", 0);
    rig.ms(1100);
    let again = rig.expect();
    assert!(again.is(SYN | ACK) && again.options.sack_permitted);
    assert!(again.options.timestamps.is_some());
}
