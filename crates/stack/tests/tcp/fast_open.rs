//! Fast Open (RFC 7413, Linux's rules): what a SYN may do that has a cookie, what none may, and SYNs with data from here.

use std::time::Duration;

use stack::{
    Count, FastOpenFail, FastOpenKeys, Ready, Shutdown, SocketError, SocketId, State, TcpOptions,
    Write,
};
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

fn set(rig: &mut Rig, name: &str, value: i64) {
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

fn count(rig: &Rig, what: Count) -> u64 {
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

// ---- from here (RFC 7413 4.2.1) ----

const COOKIE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn client() -> TcpOptions {
    TcpOptions {
        fast_open: true,
        ..TcpOptions::default()
    }
}

fn syn_ack(fast_open: Option<FastOpen>) -> Options {
    Options {
        mss: Some(1000),
        fast_open,
        ..Options::default()
    }
}

fn start(rig: &mut Rig) -> SocketId {
    let to = crate::rig::REMOTE.parse().unwrap();
    let socket = rig.host.tcp_connect(rig.now, to, None, &client()).unwrap();
    rig.pump();
    socket
}

/// The peer's answer to a SYN.
fn answer(rig: &mut Rig, syn: &crate::rig::Seg, acked: u32, fast_open: Option<FastOpen>) {
    let ack = syn.seq + 1 + acked;
    rig.send_to(syn.src_port, 7000, ack, SYN | ACK, &[], syn_ack(fast_open));
}

/// A host that knows the peer's cookie.
fn knowing() -> Rig {
    let mut rig = Rig::new();
    let socket = start(&mut rig);
    let syn = rig.expect();
    assert_eq!(syn.options.fast_open, Some(FastOpen::REQUEST));
    assert!(syn.data.is_empty());
    answer(&mut rig, &syn, 0, FastOpen::new(&COOKIE, false));
    assert!(rig.expect().is(ACK));
    let info = rig.host.tcp_info(socket).unwrap();
    assert!(!info.syn_data && info.fast_open_fail == FastOpenFail::NoCookie);
    rig.host.abort(rig.now, socket).unwrap();
    assert!(rig.expect().has(RST));
    rig
}

#[test]
fn with_a_cookie_the_first_data_goes_with_the_syn() {
    let mut rig = knowing();
    let socket = start(&mut rig);
    rig.silence(); // it waits for data, and says that it takes some
    assert!(rig.host.ready(socket).contains(Ready::WRITABLE));
    assert_eq!(rig.host.tcp_send(rig.now, socket, &[7; 2000]), Ok(960));
    let syn = rig.expect();
    assert!(
        syn.is(SYN) && syn.data == [7; 960],
        "the cached MSS, less 40"
    );
    assert_eq!(syn.options.fast_open, FastOpen::new(&COOKIE, false));
    let again = rig.host.tcp_send(rig.now, socket, &[7; 1040]);
    assert_eq!(again, Err(SocketError::WouldBlock));
    answer(&mut rig, &syn, 960, None);
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.seq == syn.seq + 961 && ack.data.is_empty());
    assert!(rig.host.tcp_info(socket).unwrap().syn_data);
    assert_eq!(count(&rig, Count::TcpFastOpenActive), 1);
    assert_eq!(rig.host.tcp_send(rig.now, socket, &[8; 100]), Ok(100));
    let data = rig.expect();
    assert_eq!((data.seq, data.data.len()), (syn.seq + 961, 100));
}

#[test]
fn what_the_syn_ack_does_not_acknowledge_is_sent_again_at_once() {
    for acked in [0, 400] {
        let mut rig = knowing();
        let socket = start(&mut rig);
        let bytes: Vec<u8> = (0..900).map(|n| n as u8).collect();
        rig.host.tcp_send(rig.now, socket, &bytes).unwrap();
        let syn = rig.expect();
        answer(&mut rig, &syn, acked, None);
        let again = rig.expect();
        assert_eq!(again.seq, syn.seq + 1 + acked);
        assert_eq!(again.data, bytes[acked as usize..]);
        let info = rig.host.tcp_info(socket).unwrap();
        assert!(!info.syn_data && info.fast_open_fail == FastOpenFail::DataNotAcked);
        assert_eq!(info.cwnd, 10_000, "it says nothing of congestion");
        rig.send_to(
            syn.src_port,
            7001,
            syn.seq + 901,
            ACK,
            &[],
            Options::default(),
        );
        rig.ms(5000);
        rig.silence();
        assert_eq!(rig.host.tcp_info(socket).unwrap().unacknowledged, 0);
    }
}

/// What follows the end of a record shares no segment with it, be it in the SYN or sent again.
#[test]
fn a_syn_takes_no_more_than_a_record() {
    let record = Write {
        end_of_record: true,
        ..Write::default()
    };
    for acked in [0, 100, 300] {
        let mut rig = knowing();
        let socket = start(&mut rig);
        let now = rig.now;
        let write = |rig: &mut Rig, len: usize, how| {
            let taken = rig.host.tcp_send_with(now, socket, &[7; 1000][..len], how);
            assert_eq!(taken, Ok(len));
        };
        write(&mut rig, 300, record);
        write(&mut rig, 200, record);
        write(&mut rig, 100, Write::default());
        let syn = rig.expect();
        assert_eq!(syn.data.len(), 300);
        answer(&mut rig, &syn, acked, None);
        let mut lens = Vec::new();
        let mut end = syn.seq + 1 + acked;
        while end != syn.seq + 601 {
            let data = rig.expect();
            if data.data.is_empty() {
                continue;
            }
            assert_eq!(data.seq, end);
            lens.push(data.data.len());
            end += data.data.len() as u32;
            rig.send_to(syn.src_port, 7001, end, ACK, &[], Options::default());
        }
        let rest = 300 - acked as usize;
        let expected: &[usize] = if rest > 0 {
            &[rest, 200, 100]
        } else {
            &[200, 100]
        };
        assert_eq!(lens, expected);
    }
}

#[test]
fn a_syn_that_is_not_answered_comes_again_without_data_and_option() {
    let mut rig = knowing();
    let socket = start(&mut rig);
    rig.host.tcp_send(rig.now, socket, &[7; 900]).unwrap();
    let syn = rig.expect();
    assert_eq!(syn.data.len(), 900);
    rig.ms(1001);
    let again = rig.expect();
    assert!(again.is(SYN) && again.seq == syn.seq && again.data.is_empty());
    assert_eq!(again.options.fast_open, None);
    answer(&mut rig, &syn, 0, None);
    let data = rig.expect();
    assert_eq!((data.seq, data.data.len()), (syn.seq + 1, 900));
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(info.fast_open_fail, FastOpenFail::SynRetransmitted);
    rig.host.abort(rig.now, socket).unwrap();
    rig.expect();
    // Once more, and the destination is spared for a while (RFC 7413 4.1.3.1).
    let socket = start(&mut rig);
    rig.host.tcp_send(rig.now, socket, &[7; 900]).unwrap();
    let syn = rig.expect();
    rig.ms(1001);
    rig.expect();
    answer(&mut rig, &syn, 0, None);
    rig.expect();
    rig.host.abort(rig.now, socket).unwrap();
    rig.expect();
    start(&mut rig);
    let plain = rig.expect();
    assert!(plain.is(SYN) && plain.options.fast_open.is_none() && plain.data.is_empty());
}

#[test]
fn a_cookie_nobody_asked_for_is_none() {
    let mut rig = Rig::new();
    set(&mut rig, "fastopen", 5);
    let socket = start(&mut rig);
    rig.host.tcp_send(rig.now, socket, b"hello").unwrap();
    let syn = rig.expect();
    assert!(syn.data == b"hello" && syn.options.fast_open.is_none());
    answer(&mut rig, &syn, 5, FastOpen::new(&COOKIE, false));
    rig.expect();
    set(&mut rig, "fastopen", 1);
    start(&mut rig);
    assert_eq!(rig.expect().options.fast_open, Some(FastOpen::REQUEST));
}

#[test]
fn data_may_come_with_the_answer_to_data() {
    let mut rig = knowing();
    let socket = start(&mut rig);
    rig.host.tcp_send(rig.now, socket, b"hello").unwrap();
    let syn = rig.expect();
    rig.send_to(
        syn.src_port,
        7000,
        syn.seq + 6,
        SYN | ACK,
        b"world",
        syn_ack(None),
    );
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.ack == 7006);
    assert_eq!(rig.read(socket).unwrap(), b"world");
}

#[test]
fn one_who_waits_for_data_may_do_without() {
    let mut rig = knowing();
    // Closed before it began: nobody hears of it.
    let socket = start(&mut rig);
    rig.host.close(rig.now, socket).unwrap();
    rig.ms(5000);
    rig.silence();
    // An empty write, or the end of writing, opens it without data.
    let socket = start(&mut rig);
    assert_eq!(rig.host.tcp_send(rig.now, socket, b""), Ok(0));
    let syn = rig.expect();
    assert!(syn.is(SYN) && syn.data.is_empty() && syn.options.fast_open.is_some());
    let socket = start(&mut rig);
    rig.host
        .tcp_shutdown(rig.now, socket, Shutdown::Write)
        .unwrap();
    let syn = rig.expect();
    assert!(syn.is(SYN));
    answer(&mut rig, &syn, 0, None);
    assert!(rig.expect().is(FIN | ACK));
}

#[test]
fn data_that_vanishes_behind_the_syn_gives_fast_open_a_rest() {
    let mut rig = knowing();
    set(&mut rig, "fastopen_blackhole_timeout_sec", 3600);
    let socket = start(&mut rig);
    rig.host.tcp_send(rig.now, socket, b"hello").unwrap();
    rig.expect();
    rig.ms(3000);
    assert_eq!(count(&rig, Count::TcpFastOpenBlackHoles), 1);
    while rig.next().is_some() {}
    rig.host.abort(rig.now, socket).unwrap();
    let socket = start(&mut rig);
    let plain = rig.expect();
    assert!(plain.is(SYN) && plain.options.fast_open.is_none());
    rig.host.abort(rig.now, socket).unwrap();
    rig.ms(3_600_000);
    while rig.next().is_some() {}
    start(&mut rig);
    rig.silence(); // it waits for data again
}

/// Linux's other signs of middleboxes that forget what they let through: a FIN behind a hole, a reset out of order, and nothing else.
#[test]
fn what_goes_astray_behind_the_syn_gives_fast_open_a_rest() {
    for (sign, heard, rest, holes) in [
        (FIN | ACK, false, 3600, 1),
        (FIN | ACK, true, 3600, 0),
        (FIN | ACK, false, 0, 0),
        (RST, false, 3600, 1),
        (RST, true, 3600, 0),
        (ACK, false, 3600, 0),
    ] {
        let mut rig = knowing();
        set(&mut rig, "fastopen_blackhole_timeout_sec", rest);
        let socket = start(&mut rig);
        rig.host.tcp_send(rig.now, socket, b"hello").unwrap();
        let syn = rig.expect();
        answer(&mut rig, &syn, 5, None);
        rig.expect();
        let (port, mut at, ack) = (syn.src_port, 7001, syn.seq + 6);
        if heard {
            rig.send_to(port, at, ack, ACK, b"hi", Options::default());
            at += 2;
        }
        rig.send_to(port, at + 1000, ack, sign, b"", Options::default());
        rig.host.abort(rig.now, socket).unwrap();
        while rig.next().is_some() {}
        let case = (sign, heard, rest);
        assert_eq!(count(&rig, Count::TcpFastOpenBlackHoles), holes, "{case:?}");
        start(&mut rig);
        assert_eq!(
            rig.next().is_some(),
            holes > 0,
            "a plain SYN, or one that waits"
        );
    }
}

/// The others are no sign: what was connected without Fast Open, and a FIN whose hole was filled.
#[test]
fn what_comes_in_order_is_no_black_hole() {
    let mut rig = knowing();
    set(&mut rig, "fastopen_blackhole_timeout_sec", 3600);
    let socket = start(&mut rig);
    rig.host.tcp_send(rig.now, socket, b"hello").unwrap();
    let syn = rig.expect();
    answer(&mut rig, &syn, 5, None);
    rig.expect();
    let (port, ack) = (syn.src_port, syn.seq + 6);
    rig.send_to(port, 7003, ack, FIN | ACK, b"", Options::default());
    rig.send_to(port, 7001, ack, ACK, b"hi", Options::default());
    rig.host.close(rig.now, socket).unwrap();
    rig.ms(200_000);
    while rig.next().is_some() {}
    let (_, syn) = rig.connect(&TcpOptions::default());
    rig.send_to(
        syn.src_port,
        7000,
        syn.seq + 1,
        SYN | ACK,
        b"",
        syn_ack(None),
    );
    rig.send_to(
        syn.src_port,
        8000,
        syn.seq + 1,
        RST,
        b"",
        Options::default(),
    );
    assert_eq!(count(&rig, Count::TcpFastOpenBlackHoles), 0);
}

/// The SYN that is sent again is without data, and asks the peer for segments that the path has carried (as Linux).
#[test]
fn a_syn_too_long_for_the_path_comes_again_without_data() {
    let mut rig = knowing();
    let socket = start(&mut rig);
    assert_eq!(rig.host.tcp_send(rig.now, socket, &[7; 900]), Ok(900));
    let syn = rig.expect();
    assert_eq!((syn.data.len(), syn.options.mss), (900, Some(1460)));
    crate::icmp::too_big(&mut rig, 840, syn.src_port, syn.seq);
    let again = rig.expect();
    assert!(again.is(SYN) && again.data.is_empty() && again.options.fast_open.is_none());
    assert_eq!((again.seq, again.options.mss), (syn.seq, Some(800)));
    answer(&mut rig, &syn, 0, None);
    assert_eq!(rig.expect().data.len(), 800);
    assert_eq!(rig.expect().data.len(), 100);
}

/// Both sides open with data, which neither takes while it is opening itself (as Linux): it is sent again.
#[test]
fn both_may_open_fast_at_once() {
    let mut rig = knowing();
    let socket = start(&mut rig);
    rig.host.tcp_send(rig.now, socket, &[7; 900]).unwrap();
    let syn = rig.expect();
    let theirs = Options {
        sack_permitted: true,
        ..syn_ack(FastOpen::new(&[9; 8], false))
    };
    let port = syn.src_port;
    rig.send_to(port, 7000, 0, SYN, &[8; 500], theirs);
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK) && answer.data.is_empty());
    assert_eq!((answer.seq, answer.ack), (syn.seq, 7001));
    rig.send_to(port, 7000, syn.seq + 901, SYN | ACK, b"", theirs);
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.data.is_empty());
    assert_eq!((ack.seq, ack.ack), (syn.seq + 901, 7001));
    assert_eq!(ack.options.sack.as_slice(), [(7000, 7001)]);
    rig.send_to(
        port,
        7001,
        syn.seq + 901,
        ACK,
        &[8; 500],
        Options::default(),
    );
    assert_eq!(rig.read(socket).unwrap(), [8; 500]);
}

#[test]
fn an_answer_that_echoes_another_time_is_reset() {
    let mut rig = Rig::new();
    let socket = start(&mut rig);
    let syn = rig.expect();
    let sent = syn.options.timestamps.unwrap().0;
    rig.ms(10);
    let stamped = |echo| Options {
        timestamps: Some((1, echo)),
        ..syn_ack(None)
    };
    for wrong in [sent.wrapping_sub(1), sent + 11] {
        rig.send_to(
            syn.src_port,
            7000,
            syn.seq + 1,
            SYN | ACK,
            b"",
            stamped(wrong),
        );
        assert!(rig.expect().is(RST));
    }
    rig.send_to(
        syn.src_port,
        7000,
        syn.seq + 1,
        SYN | ACK,
        b"",
        stamped(sent),
    );
    assert!(rig.expect().is(ACK));
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(info.state, State::Established);
}

/// A SYN that waits for data was not sent: nothing is an answer to it.
#[test]
fn a_stray_segment_does_not_start_a_syn_that_waits() {
    for (flags, reset) in [
        (ACK, true),
        (SYN, true),
        (SYN | ACK, true),
        (RST | ACK, false),
    ] {
        let mut rig = knowing();
        let to = crate::rig::REMOTE.parse().unwrap();
        let mut local: std::net::SocketAddr = crate::rig::LOCAL.parse().unwrap();
        local.set_port(4444);
        let socket = rig.host.tcp_connect(rig.now, to, Some(local), &client());
        let socket = socket.unwrap();
        rig.silence();
        rig.send_to(4444, 7000, 1, flags, &[], syn_ack(None));
        assert_eq!(rig.next().is_some_and(|seg| seg.has(RST)), reset);
        rig.ms(60_000);
        rig.silence();
        assert_eq!(rig.host.tcp_send(rig.now, socket, b"first"), Ok(5));
        let syn = rig.expect();
        assert!(syn.is(SYN) && syn.data == b"first", "{flags:?}");
        answer(&mut rig, &syn, 5, None);
        assert!(rig.expect().is(ACK));
        assert!(rig.host.tcp_info(socket).unwrap().syn_data);
    }
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
