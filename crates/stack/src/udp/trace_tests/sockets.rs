//! What an application asks of a socket, and what it is told.

use super::*;
use crate::MtuDiscover;

/// RFC 768: there and back, with addresses, events, tokens and readiness.
#[test]
fn echo() {
    for (a, b, any) in ENDS {
        let mut p = Pair::new();
        let server = p.plain(1, &format!("{any}:7"));
        let client = p.plain(0, &format!("{any}:0"));
        p.hosts[1].set_token(server, 99).unwrap();
        assert_eq!(p.hosts[1].ready(server), Ready::WRITABLE);
        assert_eq!(p.send(0, client, b"hello", &format!("{b}:7")), Ok(5));
        assert_eq!(p.send(0, client, b"", &format!("{b}:7")), Ok(0));
        let event = p.hosts[1].poll_event().unwrap();
        assert_eq!(
            (event.socket, event.token, event.ready),
            (server, 99, Ready::READABLE | Ready::WRITABLE)
        );
        assert!(p.hosts[1].poll_event().is_none());
        let port = p.hosts[0].local_addr(client).unwrap().port();
        assert!((32_768..=60_999).contains(&port));
        let (bytes, from) = p.recv(1, server).unwrap();
        assert_eq!(
            (&bytes[..], from),
            (&b"hello"[..], at(&format!("{a}:{port}")))
        );
        assert_eq!(p.recv(1, server).unwrap().0, b"");
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        assert_eq!(p.hosts[1].ready(server), Ready::WRITABLE);
        assert_eq!(p.send(1, server, b"world", &from.to_string()), Ok(5));
        assert_eq!(p.recv(0, client).unwrap().0, b"world");
        p.empty();
    }
}

/// RFC 1122 4.1.1, 3.3.3: what exceeds the MTU travels in fragments; what exceeds UDP, or the path with DF, is refused.
#[test]
fn large_datagrams() {
    for (_, b, any) in ENDS {
        let mut p = Pair::new();
        let server = p.plain(1, &format!("{any}:7"));
        let client = p.plain(0, &format!("{any}:0"));
        let to = format!("{b}:7");
        let most = if any == "0.0.0.0" { 65_507 } else { 65_527 };
        for len in [1452, 1472, 1473, 3000, most] {
            let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            assert_eq!(p.send(0, client, &payload, &to), Ok(len));
            assert_eq!(p.recv(1, server).unwrap().0, payload, "{len}");
        }
        assert_eq!(
            p.send(0, client, &vec![0; most + 1], &to),
            Err(SocketError::MessageTooLong)
        );
        p.hosts[0]
            .udp_set_options(client, |o| {
                (o.mtu_discover, o.mtu_discover_v6) = (MtuDiscover::Do, MtuDiscover::Do);
            })
            .unwrap();
        let fits = if any == "0.0.0.0" { 1472 } else { 1452 };
        assert_eq!(p.send(0, client, &vec![0; fits], &to), Ok(fits));
        assert_eq!(
            p.send(0, client, &vec![0; fits + 1], &to),
            Err(SocketError::MessageTooLong)
        );
        p.recv(1, server).unwrap();
        p.empty();
    }
}

/// The largest datagram to a neighbour nobody has asked for yet: all of its fragments wait for the answer.
#[test]
fn the_first_datagram_may_be_large() {
    for (_, b, any) in ENDS {
        let mut p = Pair::new();
        let server = p.plain(1, &format!("{any}:7"));
        let client = p.plain(0, &format!("{any}:0"));
        let most = if any == "0.0.0.0" { 65_507 } else { 65_527 };
        assert_eq!(
            p.send(0, client, &vec![7; most], &format!("{b}:7")),
            Ok(most)
        );
        assert_eq!(p.recv(1, server).map(|(bytes, _)| bytes.len()), Ok(most));
        p.empty();
    }
}

/// RFC 1122 4.1.3.1, 4.1.3.3: port unreachable reaches a connected socket, once; an unconnected one only if it asked.
#[test]
fn refused() {
    for (_, b, any) in ENDS {
        let mut p = Pair::new();
        let client = p.plain(0, &format!("{any}:0"));
        let to = format!("{b}:9");
        assert_eq!(p.send(0, client, b"x", &to), Ok(1));
        assert_eq!(p.hosts[0].ready(client), Ready::WRITABLE, "unconnected");
        p.hosts[0].udp_connect(p.now, client, at(&to)).unwrap();
        p.pass(1_100);
        assert_eq!(p.send(0, client, b"x", ""), Ok(1));
        assert_eq!(p.drops(1, Drop::UdpNoSocket), 2);
        assert!(p.hosts[0].ready(client).contains(Ready::ERROR));
        assert!(
            p.hosts[0]
                .poll_event()
                .unwrap()
                .ready
                .contains(Ready::ERROR)
        );
        assert_eq!(
            p.send(0, client, b"x", ""),
            Err(SocketError::ConnectionRefused)
        );
        assert_eq!(p.hosts[0].take_error(client), None, "told once");
        let asking = UdpOptions {
            receive_errors: true,
            ..UdpOptions::default()
        };
        let curious = p.bind(0, &format!("{any}:0"), asking);
        p.pass(1_100);
        assert_eq!(p.send(0, curious, b"x", &to), Ok(1));
        assert_eq!(p.recv(0, curious), Err(SocketError::ConnectionRefused));
        p.empty();
    }
}

/// A neighbour that does not answer is a soft error, as on Linux: told to those who ask for every error.
#[test]
fn unreachable_neighbour() {
    let mut p = Pair::new();
    let quiet = p.plain(0, "0.0.0.0:0");
    let asking = UdpOptions {
        receive_errors: true,
        ..UdpOptions::default()
    };
    let curious = p.bind(0, "0.0.0.0:0", asking);
    p.cut = true;
    for socket in [quiet, curious] {
        p.hosts[0]
            .udp_connect(p.now, socket, at("10.0.0.77:5"))
            .unwrap();
        assert_eq!(p.send(0, socket, b"x", ""), Ok(1));
    }
    p.pass(5_000);
    assert_eq!(p.hosts[0].take_error(quiet), None);
    assert_eq!(
        p.hosts[0].take_error(curious),
        Some(SocketError::HostUnreachable)
    );
    p.empty();
}

/// Linux: a connected socket hears its peer only, and is found before any other; disconnected it hears all again.
#[test]
fn connected_hears_its_peer() {
    let mut p = Pair::new();
    let shared = UdpOptions {
        reuse_addr: true,
        ..UdpOptions::default()
    };
    let all = p.bind(1, "0.0.0.0:7", shared);
    let one = p.bind(1, "0.0.0.0:7", shared);
    let friend = p.plain(0, "10.0.0.1:1000");
    let other = p.plain(0, "10.0.0.1:1001");
    p.hosts[1]
        .udp_connect(p.now, one, at("10.0.0.1:1000"))
        .unwrap();
    assert_eq!(p.hosts[1].local_addr(one).unwrap(), at("10.0.0.2:7"));
    assert_eq!(p.hosts[1].peer_addr(one).unwrap(), at("10.0.0.1:1000"));
    p.send(0, friend, b"friend", "10.0.0.2:7").unwrap();
    p.send(0, other, b"other", "10.0.0.2:7").unwrap();
    assert_eq!(p.recv(1, one).unwrap().0, b"friend");
    assert_eq!(p.recv(1, one), Err(SocketError::WouldBlock));
    assert_eq!(p.recv(1, all).unwrap().0, b"other");
    p.hosts[1].udp_disconnect(one).unwrap();
    assert_eq!(p.hosts[1].local_addr(one).unwrap(), at("0.0.0.0:7"));
    assert_eq!(p.hosts[1].peer_addr(one), Err(SocketError::NotConnected));
    assert_eq!(p.send(1, one, b"x", ""), Err(SocketError::NotConnected));
    p.send(0, other, b"again", "10.0.0.2:7").unwrap();
    assert_eq!(p.recv(1, one).unwrap().0, b"again", "bound last");
    p.empty();
}

/// RFC 3493 3.7: one socket for both families, unless it says otherwise.
#[test]
fn dual_stack() {
    let mut p = Pair::new();
    let dual = p.plain(1, "[::]:7");
    let only = UdpOptions {
        only_v6: true,
        ..UdpOptions::default()
    };
    let v6 = p.bind(1, "[::]:8", only);
    let client = p.plain(0, "10.0.0.1:1000");
    p.send(0, client, b"x", "10.0.0.2:7").unwrap();
    p.send(0, client, b"x", "10.0.0.2:8").unwrap();
    let (_, from) = p.recv(1, dual).unwrap();
    assert_eq!(from, at("[::ffff:10.0.0.1]:1000"));
    assert_eq!(p.recv(1, v6), Err(SocketError::WouldBlock));
    assert_eq!(p.send(1, dual, b"back", &from.to_string()), Ok(4));
    assert_eq!(p.recv(0, client).unwrap().1, at("10.0.0.2:7"));
    assert_eq!(
        p.send(0, client, b"x", "[fd00::2]:7"),
        Err(SocketError::InvalidInput)
    );
    assert_eq!(
        p.send(1, v6, b"x", "[::ffff:10.0.0.1]:1000"),
        Err(SocketError::InvalidInput)
    );
    p.empty();
}

/// Errors of commands as Linux gives them.
#[test]
fn refusals() {
    let mut p = Pair::new();
    let now = p.now;
    let mut bind = |local: &str| p.hosts[0].udp_bind(now, at(local), &UdpOptions::default());
    assert_eq!(bind("10.0.0.9:5"), Err(SocketError::AddrNotAvailable));
    assert_eq!(bind("[fd00::9]:5"), Err(SocketError::AddrNotAvailable));
    let socket = bind("10.0.0.1:5").unwrap();
    assert_eq!(bind("0.0.0.0:5"), Err(SocketError::AddrInUse));
    assert_eq!(
        p.send(0, socket, b"x", "10.0.0.2:0"),
        Err(SocketError::InvalidInput)
    );
    assert_eq!(
        p.send(0, socket, b"x", "203.0.113.1:5"),
        Err(SocketError::NetworkUnreachable)
    );
    p.hosts[0].close(now, socket).unwrap();
    assert_eq!(p.hosts[0].close(now, socket), Err(SocketError::BadSocket));
    assert_eq!(p.recv(0, socket), Err(SocketError::BadSocket));
    let again = p.plain(0, "10.0.0.1:5");
    assert_eq!(p.recv(0, socket), Err(SocketError::BadSocket), "stale");
    assert_eq!(p.recv(0, again), Err(SocketError::WouldBlock));
    assert_eq!(
        (0..64)
            .map(|_| p.hosts[0].udp_bind(now, at("0.0.0.0:0"), &UdpOptions::default()))
            .filter(|r| *r == Err(SocketError::NoBuffers))
            .count(),
        1,
        "64 sockets in all"
    );
}

/// A host talks to itself, by its own address and by the loopback's.
#[test]
fn to_oneself() {
    for (own, any) in [
        ("10.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "0.0.0.0"),
        ("[fd00::1]", "[::]"),
        ("[::1]", "[::]"),
    ] {
        let mut p = Pair::new();
        let a = p.plain(0, &format!("{any}:7"));
        let b = p.plain(0, &format!("{any}:8"));
        assert_eq!(p.send(0, b, b"me", &format!("{own}:7")), Ok(2));
        assert_eq!(
            p.recv(0, a).unwrap(),
            (b"me".to_vec(), at(&format!("{own}:8"))),
            "{own}"
        );
        p.hosts[0]
            .udp_connect(p.now, b, at(&format!("{own}:9")))
            .unwrap();
        assert_eq!(p.send(0, b, b"me", ""), Ok(2));
        assert_eq!(
            p.hosts[0].take_error(b),
            Some(SocketError::ConnectionRefused)
        );
        p.empty();
    }
}

/// recv and MSG_PEEK: what does not fit is cut off, and said so.
#[test]
fn truncation_and_peek() {
    let mut p = Pair::new();
    let server = p.plain(1, "0.0.0.0:7");
    let client = p.plain(0, "0.0.0.0:0");
    for payload in [&b"first datagram"[..], b"second"] {
        p.send(0, client, payload, "10.0.0.2:7").unwrap();
    }
    let mut out = [0; 5];
    let peeked = p.hosts[1].udp_peek(server, &mut out).unwrap();
    assert_eq!((peeked.copied, peeked.len, &out), (5, 14, b"first"));
    let received = p.hosts[1].udp_recv(server, &mut out).unwrap();
    assert_eq!((received.copied, received.len), (5, 14));
    assert_eq!(p.recv(1, server).unwrap().0, b"second");
    p.send(0, client, &[7; 1000], "10.0.0.2:7").unwrap();
    let (chain, received) = p.hosts[1].udp_recv_chain(server).unwrap();
    assert_eq!((chain.len(), received.len), (1000, 1000));
    p.hosts[1].pool_mut().free(chain);
    p.empty();
}

/// A flood nobody reads: what the socket and the pool hold stays within bounds; events come once.
#[test]
fn flood() {
    let mut p = Pair::new();
    let small = UdpOptions {
        receive_buffer: Some(20_000),
        ..UdpOptions::default()
    };
    let server = p.bind(1, "0.0.0.0:7", small);
    let client = p.plain(0, "0.0.0.0:0");
    for n in 0..3000 {
        p.send(0, client, &vec![1; n % 1400], "10.0.0.2:7").unwrap();
        assert!(p.hosts[1].pool().in_use() <= 12);
    }
    assert!(p.drops(1, Drop::UdpReceiveBufferFull) > 2800);
    let info = p.hosts[1].udp_sockets().next().unwrap();
    assert!(info.queued <= 20_000 && info.overflowed > 2800);
    // Each was delivered or dropped, never both.
    let delivered = p.hosts[1].stats().counts.get(Count::UdpDelivered);
    assert_eq!(delivered + p.drops(1, Drop::UdpReceiveBufferFull), 3000);
    assert_eq!(info.overflowed + delivered, 3000);
    assert!(p.hosts[1].poll_event().is_some());
    assert!(p.hosts[1].poll_event().is_none());
    p.hosts[1].close(p.now, server).unwrap();
    p.empty();
}

/// Events: a socket is listed once, in order, whatever happens meanwhile; what is over is not reported.
#[test]
fn events() {
    let mut p = Pair::new();
    let sockets: Vec<SocketId> = (0..5)
        .map(|n| p.plain(1, &format!("0.0.0.0:{}", 100 + n)))
        .collect();
    let client = p.plain(0, "0.0.0.0:0");
    for n in [3, 1, 4, 1, 0, 3, 2] {
        p.send(0, client, b"x", &format!("10.0.0.2:{}", 100 + n))
            .unwrap();
    }
    // 4 is closed, 1 is read empty before anybody asks.
    p.hosts[1].close(p.now, sockets[4]).unwrap();
    p.recv(1, sockets[1]).unwrap();
    p.recv(1, sockets[1]).unwrap();
    let mut told = Vec::new();
    while let Some(event) = p.hosts[1].poll_event() {
        told.push(sockets.iter().position(|s| *s == event.socket).unwrap());
    }
    assert_eq!(told, [3, 0, 2]);
    p.send(0, client, b"x", "10.0.0.2:103").unwrap();
    assert_eq!(p.hosts[1].poll_event().unwrap().socket, sockets[3]);
}
