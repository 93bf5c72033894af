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
            let how = Outgoing {
                to: Some(received.from),
                from,
                ..Outgoing::default()
            };
            let sent = p.send_so(1, server, b"!", how);
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

/// IP_TTL and IP_TOS as control messages: of one datagram, multicast or not, and none after it.
#[test]
fn one_datagram_has_a_ttl_and_tos_of_its_own() {
    for (_, b, any) in ENDS {
        let mut p = Pair::new();
        let server = p.plain(1, &format!("{any}:7"));
        let client = p.plain(0, &format!("{any}:0"));
        let group = if any == "[::]" {
            "[ff15::5]"
        } else {
            "239.1.2.3"
        };
        let now = p.now;
        let ip = at(&format!("{group}:7")).ip();
        p.hosts[1].udp_join(now, server, IF, ip).unwrap();
        for (to, usual) in [(b, 64), (group, 1)] {
            let how = Outgoing {
                to: Some(at(&format!("{to}:7"))),
                ttl: Some(9),
                tos: Some(0xb9),
                ..Outgoing::default()
            };
            assert_eq!(p.send_so(0, client, b"x", how), Ok(1));
            p.send(0, client, b"x", &format!("{to}:7")).unwrap();
            let told = [(); 2].map(|()| {
                let received = p.hosts[1].udp_recv(server, &mut [0; 9]).unwrap();
                (received.ttl, received.tos)
            });
            assert_eq!(told, [(9, 0xb9), (usual, 0)]);
        }
    }
}

/// The datagrams of a train, as a receiver gets them.
fn train(p: &mut Pair, socket: SocketId) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| p.recv(1, socket).ok().map(|(bytes, _)| bytes)).collect()
}

/// UDP_SEGMENT: one call, many datagrams, whoever cuts them.
#[test]
fn a_payload_is_cut_into_datagrams() {
    let uso = Offloads {
        uso: true,
        tx_checksum: true,
        ..Offloads::NONE
    };
    for (offloads, frames) in [(Offloads::NONE, 11), (uso, 1)] {
        for (_, b, any) in ENDS {
            let mut p = Pair::with(offloads);
            let server = p.plain(1, &format!("{any}:7"));
            let client = p.plain(0, &format!("{any}:0"));
            p.send(0, client, b"the neighbour is known now", &format!("{b}:7"))
                .unwrap();
            p.recv(1, server).unwrap();
            p.seen.clear();
            let payload: Vec<u8> = (0..10_500u32).map(|i| (i / 1000) as u8).collect();
            let how = Outgoing {
                to: Some(at(&format!("{b}:7"))),
                tos: Some(2),
                segment: Some(1000),
                ..Outgoing::default()
            };
            assert_eq!(p.send_so(0, client, &payload, how), Ok(10_500));
            assert_eq!(p.seen.len(), frames);
            let first = p.hosts[1].udp_peek(server, &mut [0; 9]).unwrap();
            assert_eq!((first.len, first.tos), (1000, 2));
            let expected: Vec<Vec<u8>> = payload.chunks(1000).map(<[u8]>::to_vec).collect();
            assert_eq!(train(&mut p, server), expected);
            assert_eq!(p.hosts[0].stats().counts.get(Count::UdpSent), 12);
            // What is not longer than a segment is one datagram.
            assert_eq!(p.send_so(0, client, &payload[..999], how), Ok(999));
            assert_eq!(p.send_so(0, client, &[], how), Ok(0));
            assert_eq!(train(&mut p, server), [payload[..999].to_vec(), vec![]]);
            p.empty();
        }
    }
}

/// A train to oneself, and to a group one is in.
#[test]
fn a_train_is_heard_at_home() {
    let uso = Offloads {
        uso: true,
        tx_checksum: true,
        ..Offloads::NONE
    };
    for to in ["127.0.0.1:7", "10.0.0.1:7", "239.1.2.3:7"] {
        let mut p = Pair::with(uso);
        let mine = p.plain(0, "0.0.0.0:7");
        let now = p.now;
        let group = "239.1.2.3".parse().unwrap();
        p.hosts[0].udp_join(now, mine, IF, group).unwrap();
        let how = Outgoing {
            to: Some(at(to)),
            segment: Some(100),
            ..Outgoing::default()
        };
        assert_eq!(p.send_so(0, mine, &[7; 250], how), Ok(250));
        let lengths: Vec<usize> =
            std::iter::from_fn(|| p.recv(0, mine).ok().map(|(bytes, _)| bytes.len())).collect();
        assert_eq!(lengths, [100, 100, 50], "{to}");
    }
}

/// UDP_GRO: who asks for it reads a train at once, others its datagrams; what was taken in before stays as it is.
#[test]
fn a_train_is_read_at_once_by_who_asks() {
    let uso = Offloads {
        uso: true,
        tx_checksum: true,
        ..Offloads::NONE
    };
    for offloads in [Offloads::NONE, uso] {
        for (_, b, any) in ENDS {
            let mut p = Pair::with(offloads);
            let gro = UdpOptions {
                gro: true,
                ..UdpOptions::default()
            };
            let server = p.bind(1, &format!("{any}:7"), gro);
            let client = p.plain(0, &format!("{any}:0"));
            p.send(0, client, b"the neighbour is known now", &format!("{b}:7"))
                .unwrap();
            assert_eq!(
                p.hosts[1].udp_recv(server, &mut [0; 99]).unwrap().segment,
                None
            );
            let payload: Vec<u8> = (0..10_500u32).map(|i| (i / 100) as u8).collect();
            let how = Outgoing {
                to: Some(at(&format!("{b}:7"))),
                segment: Some(1000),
                ..Outgoing::default()
            };
            p.send_so(0, client, &payload, how).unwrap();
            let mut bytes = vec![0; 10_500];
            // Frames by frames, and not in one batch: nothing is sure but the bytes.
            let mut at = 0;
            while at < payload.len() {
                let got = p.hosts[1].udp_recv(server, &mut bytes[at..]).unwrap();
                assert_eq!(got.copied, got.len);
                assert_eq!(got.segment, (got.len > 1000).then_some(1000));
                assert!(offloads == Offloads::NONE || got.len == 10_500);
                at += got.len;
            }
            assert!(bytes == payload);
            // The blocks of all of them, at once.
            p.send_so(0, client, &payload, how).unwrap();
            p.hosts[1]
                .udp_set_options(server, |options| options.gro = false)
                .unwrap();
            let (chain, received) = p.hosts[1].udp_recv_chain(server).unwrap();
            assert_eq!((chain.len(), received.segment), (received.len, Some(1000)));
            p.hosts[1].pool_mut().free(chain);
            train(&mut p, server);
            p.send_so(0, client, &payload, how).unwrap();
            assert_eq!(train(&mut p, server).len(), 11);
            p.empty();
        }
    }
}

/// Linux's limits: 128 segments, none beyond the path's MTU, all together no more than a datagram.
#[test]
fn a_train_has_limits() {
    for (_, b, any) in ENDS {
        let mut p = Pair::new();
        let server = p.plain(1, &format!("{any}:7"));
        let client = p.plain(0, &format!("{any}:0"));
        let fits = if any == "0.0.0.0" { 1472 } else { 1452 };
        let most = if any == "0.0.0.0" { 65_507 } else { 65_527 };
        p.send(0, client, b"the neighbour is known now", &format!("{b}:7"))
            .unwrap();
        p.recv(1, server).unwrap();
        let mut send = |len: usize, size: u16| {
            let how = Outgoing {
                to: Some(at(&format!("{b}:7"))),
                segment: Some(size),
                ..Outgoing::default()
            };
            p.send_so(0, client, &vec![1; len], how)
        };
        assert_eq!(send(10, 0), Err(SocketError::InvalidInput));
        assert_eq!(send(129, 1), Err(SocketError::InvalidInput));
        assert_eq!(send(128, 1), Ok(128));
        let too_long = Err(SocketError::MessageTooLong);
        assert_eq!(send(3000, fits as u16 + 1), too_long);
        assert_eq!(send(fits + 1, u16::MAX), too_long, "one is not fragmented");
        assert_eq!(send(fits, u16::MAX), Ok(fits));
        assert_eq!(send(most + 1, 1000), too_long);
        assert_eq!(send(most, 1000), Ok(most));
        let lengths: Vec<usize> = train(&mut p, server).iter().map(Vec::len).collect();
        assert_eq!(lengths.len(), 128 + 1 + most.div_ceil(1000));
        assert_eq!(lengths.iter().sum::<usize>(), 128 + fits + most);
        p.empty();
    }
}

/// A train that packet memory does not suffice for: what has left has left, the rest is counted; nothing at all is an error.
#[test]
fn a_train_that_finds_no_memory_is_cut_short() {
    let mut p = Pair::new();
    let server = p.plain(1, "0.0.0.0:7");
    let client = p.plain(0, "0.0.0.0:0");
    p.send(0, client, b"the neighbour is known now", "10.0.0.2:7")
        .unwrap();
    p.recv(1, server).unwrap();
    let how = Outgoing {
        to: Some(at("10.0.0.2:7")),
        segment: Some(1000),
        ..Outgoing::default()
    };
    for free in [5, 0] {
        let pool = p.hosts[0].pool_mut();
        let taken: Vec<_> = (free..pool.available())
            .map(|_| pool.alloc(0).unwrap())
            .collect();
        let dropped = p.drops(0, Drop::PoolEmpty);
        let sent = p.hosts[0].udp_send(p.now, client, &[7; 10_500], &how);
        let expected = if free > 0 {
            Ok(10_500)
        } else {
            Err(SocketError::NoBuffers)
        };
        assert_eq!(sent, expected);
        let cut = if free > 0 { 11 - u64::from(free) } else { 0 };
        assert_eq!(p.drops(0, Drop::PoolEmpty) - dropped, cut);
        taken
            .into_iter()
            .for_each(|chain| p.hosts[0].pool_mut().free(chain));
        p.pump();
        assert_eq!(train(&mut p, server).len(), free as usize);
    }
    p.empty();
}
