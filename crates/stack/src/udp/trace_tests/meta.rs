//! What is said of one datagram: where it comes from, time to live, ECN.

use super::*;

/// RFC 1122 4.1.3.5: datagrams leave from the address the socket is bound to.
#[test]
fn source_is_the_bound_address() {
    let mut p = Pair::new();
    let now = p.now;
    p.hosts[0]
        .add_address(now, IF, "10.0.0.50/24".parse().unwrap())
        .unwrap();
    let server = p.plain(1, "0.0.0.0:7");
    for own in ["10.0.0.1", "10.0.0.50"] {
        let client = p.plain(0, &format!("{own}:1000"));
        p.send(0, client, b"x", "10.0.0.2:7").unwrap();
        assert_eq!(p.recv(1, server).unwrap().1, at(&format!("{own}:1000")));
        // An address that was taken away is not exchanged for another one.
        let connected = p.plain(0, "0.0.0.0:0");
        p.hosts[0]
            .udp_connect(now, connected, at("10.0.0.2:7"))
            .unwrap();
        let gone = p.hosts[0].local_addr(connected).unwrap().ip();
        p.hosts[0].remove_address(now, IF, gone.into()).unwrap();
        assert_eq!(
            p.send(0, connected, b"x", ""),
            Err(SocketError::AddrNotAvailable)
        );
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        let cidr = format!("{gone}/24").parse().unwrap();
        p.hosts[0].add_address(now, IF, cidr).unwrap();
        assert_eq!(p.send(0, connected, b"x", ""), Ok(1));
        p.recv(1, server).unwrap();
    }
}

/// RFC 1122 3.3.4.3, 4.1.3.5: a server answers from the address it was asked at, datagram by datagram.
#[test]
fn source_is_the_callers_choice() {
    for (asked, any, client, other) in [
        ("10.0.0.50", "0.0.0.0", "10.0.0.1", "10.0.0.9"),
        ("10.0.0.50", "[::]", "10.0.0.1", "fd00::2"),
        ("fd00::50", "[::]", "fd00::1", "fd00::9"),
    ] {
        let mut p = Pair::new();
        let now = p.now;
        let cidr = format!("{asked}/64").replace("10.0.0.50/64", "10.0.0.50/24");
        p.hosts[1]
            .add_address(now, IF, cidr.parse().unwrap())
            .unwrap();
        p.pass(10_000);
        let server = p.plain(1, &format!("{any}:7"));
        let client = p.plain(0, &SocketAddr::new(client.parse().unwrap(), 9).to_string());
        let asked = SocketAddr::new(asked.parse().unwrap(), 7);
        let usual = SocketAddr::new(
            if asked.is_ipv4() {
                "10.0.0.2"
            } else {
                "fd00::2"
            }
            .parse()
            .unwrap(),
            7,
        );
        p.send(0, client, b"?", &asked.to_string()).unwrap();
        let received = p.hosts[1].udp_recv(server, &mut [0; 9]).unwrap();
        assert_eq!(received.to, asked.ip());
        let mut answer = |from: Option<core::net::IpAddr>| {
            let sent = p.hosts[1].udp_send_from(now, server, b"!", from, Some(received.from));
            p.pump();
            sent.map(|_| p.recv(0, client).unwrap().1)
        };
        assert_eq!(answer(Some(received.to)), Ok(asked));
        // The next is the host's choice again, and so is it from a group.
        assert_eq!(answer(None), Ok(usual));
        assert_eq!(answer(Some(received.to)), Ok(asked));
        assert_eq!(answer(Some("224.0.0.1".parse().unwrap())), Ok(usual));
        assert_eq!(
            answer(Some(other.parse().unwrap())),
            Err(SocketError::AddrNotAvailable)
        );
    }
}

/// RFC 1122 4.1.4: TTL and TOS are the application's to set, and it can read what arrived.
#[test]
fn ttl_and_tos() {
    for (_, b, any) in ENDS {
        let mut p = Pair::new();
        let server = p.plain(1, &format!("{any}:7"));
        let options = UdpOptions {
            ttl: Some(33),
            tos: 0xb8,
            ..UdpOptions::default()
        };
        let client = p.bind(0, &format!("{any}:0"), options);
        p.send(0, client, b"x", &format!("{b}:7")).unwrap();
        let received = p.hosts[1].udp_recv(server, &mut [0; 9]).unwrap();
        assert_eq!((received.ttl, received.tos), (33, 0xb8));
        p.hosts[0]
            .udp_set_options(client, |o| *o = UdpOptions::default())
            .unwrap();
        p.send(0, client, b"x", &format!("{b}:7")).unwrap();
        let received = p.hosts[1].udp_recv(server, &mut [0; 9]).unwrap();
        assert_eq!((received.ttl, received.tos), (64, 0));
    }
}
