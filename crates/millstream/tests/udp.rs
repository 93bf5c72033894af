//! UDP with std's face, between two hosts joined by memory: what a program that was written for the kernel relies on.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Instant;

use common::{A, B, hosts, pattern};
use millstream::datagram::{Ecn, RecvMeta, Transmit};
use millstream::reuseport::{ReusePort, Tuple};
use millstream::{Host, UdpOptions, UdpSocket};
use stack::Count;

fn text(socket: &UdpSocket) -> String {
    let mut buffer = [0; 100];
    let (n, _) = socket.recv_from(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

/// How programs learn which address they have towards a peer.
#[test]
fn a_connected_socket_knows_its_address_at_once() {
    let (a, _b) = hosts();
    for (any, peer, own) in [
        ("0.0.0.0:0", "10.77.0.2:53", "10.77.0.1"),
        ("[::]:0", "[fd77::2]:53", "fd77::1"),
    ] {
        let socket = a.udp_bind(any).unwrap();
        assert_eq!(
            socket.peer_addr().unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        socket.connect(peer).unwrap();
        assert_eq!(socket.local_addr().unwrap().ip().to_string(), own);
        assert_eq!(socket.peer_addr().unwrap().to_string(), peer);
    }
}

#[test]
fn connect_says_what_is_wrong_and_keeps_the_old_peer() {
    let (a, b) = hosts();
    let server = b.udp_bind((B, 7)).unwrap();
    let socket = a.udp_bind((A, 0)).unwrap();
    let unreachable = socket.connect("203.0.113.1:7").unwrap_err();
    assert_eq!(unreachable.kind(), ErrorKind::NetworkUnreachable);
    socket.connect((B, 7)).unwrap();
    socket.connect("203.0.113.1:7").unwrap_err();
    let family = socket.connect("[fd77::2]:7").unwrap_err();
    assert_eq!(family.raw_os_error(), Some(97), "EAFNOSUPPORT");
    let broadcast = socket.connect("255.255.255.255:7").unwrap_err();
    assert_eq!(broadcast.kind(), ErrorKind::PermissionDenied);
    socket.send(b"still the old one").unwrap();
    assert_eq!(text(&server), "still the old one");
    // Of several addresses the first that works is taken.
    let several: [SocketAddr; 2] = ["203.0.113.1:7", "10.77.0.2:7"].map(|a| a.parse().unwrap());
    socket.connect(&several[..]).unwrap();
}

/// Whatever was asked for is done in that order: no datagram goes to a peer, or by rules, that came after it.
#[test]
fn orders_are_carried_out_in_order() {
    let (a, b) = hosts();
    let (first, second) = (
        b.udp_bind("0.0.0.0:1").unwrap(),
        b.udp_bind((B, 2)).unwrap(),
    );
    let socket = a.udp_bind((A, 0)).unwrap();
    for n in 0..200 {
        socket.connect((B, 1)).unwrap();
        socket.send(format!("one {n}").as_bytes()).unwrap();
        socket.connect((B, 2)).unwrap();
        socket.send(format!("two {n}").as_bytes()).unwrap();
        assert_eq!(text(&first), format!("one {n}"));
        assert_eq!(text(&second), format!("two {n}"));
        socket.set_broadcast(true).unwrap();
        socket.send_to(b"all", "10.77.0.255:1").unwrap();
        socket.set_broadcast(false).unwrap();
        assert_eq!(text(&first), "all");
    }
    assert!(socket.take_error().unwrap().is_none());
}

/// A server that answers somebody it has no route to goes on receiving; the next sender is told, once.
#[test]
fn what_cannot_be_sent_is_no_error_of_receiving() {
    let (a, b) = hosts();
    let server = b.udp_bind((B, 7)).unwrap();
    let client = a.udp_bind((A, 0)).unwrap();
    server.send_to(b"lost", "203.0.113.1:7").unwrap();
    client.send_to(b"hello", (B, 7)).unwrap();
    assert_eq!(text(&server), "hello");
    let told = server.send_to(b"x", client.local_addr().unwrap());
    assert_eq!(told.unwrap_err().kind(), ErrorKind::NetworkUnreachable);
    server
        .send_to(b"answer", client.local_addr().unwrap())
        .unwrap();
    assert_eq!(text(&client), "answer");
    // What needs no route to be seen is told at once.
    let port = server.send_to(b"x", (A, 0)).unwrap_err();
    assert_eq!(port.kind(), ErrorKind::InvalidInput);
    let family = server.send_to(b"x", "[fd77::1]:7").unwrap_err();
    assert_eq!(family.raw_os_error(), Some(97), "EAFNOSUPPORT");
}

#[test]
fn groups() {
    let (a, b) = hosts();
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let listeners = [
        b.udp_bind("0.0.0.0:5000").unwrap(),
        b.udp_bind("[::]:5001").unwrap(),
    ];
    let six: Ipv6Addr = "ff02::4242".parse().unwrap();
    listeners[0]
        .join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)
        .unwrap();
    listeners[1].join_multicast_v6(&six, 0).unwrap();
    let again = listeners[0].join_multicast_v4(&group, &B.parse().unwrap());
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
    let unicast = listeners[0].join_multicast_v4(&B.parse().unwrap(), &Ipv4Addr::UNSPECIFIED);
    assert_eq!(unicast.unwrap_err().kind(), ErrorKind::InvalidInput);
    let foreign = listeners[0].join_multicast_v4(&group, &Ipv4Addr::new(10, 9, 9, 9));
    assert_eq!(foreign.unwrap_err().raw_os_error(), Some(19), "ENODEV");
    let never = listeners[1].leave_multicast_v6(&"ff02::1:7".parse().unwrap(), 1);
    assert_eq!(never.unwrap_err().kind(), ErrorKind::AddrNotAvailable);

    let sender = a.udp_bind((A, 0)).unwrap();
    assert!(sender.multicast_loop_v4().unwrap());
    assert_eq!(sender.multicast_ttl_v4().unwrap(), 1);
    sender.set_multicast_ttl_v4(3).unwrap();
    sender.set_multicast_loop_v4(false).unwrap();
    assert_eq!(sender.options().multicast_ttl, 3);
    sender.send_to(b"four", (group, 5000)).unwrap();
    assert_eq!(text(&listeners[0]), "four");
    let sender6 = a.udp_bind("[fd77::1]:0").unwrap();
    sender6.send_to(b"six", (six, 5001)).unwrap();
    assert_eq!(text(&listeners[1]), "six");

    listeners[0]
        .leave_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)
        .unwrap();
    sender.send_to(b"nobody", (group, 5000)).unwrap();
    sender.send_to(b"you", (B, 5000)).unwrap();
    assert_eq!(text(&listeners[0]), "you");
}

#[test]
fn options_at_bind_and_later() {
    let (_a, b) = hosts();
    let shared = UdpOptions {
        reuse_addr: true,
        ..UdpOptions::default()
    };
    let first = b.udp_bind_with("0.0.0.0:5353", &shared).unwrap();
    let _second = b.udp_bind_with("0.0.0.0:5353", &shared).unwrap();
    let plain = b.udp_bind("0.0.0.0:5353").unwrap_err();
    assert_eq!(plain.kind(), ErrorKind::AddrInUse);
    first
        .set_options(|options| {
            options.tos = 8;
            options.reuse_addr = false;
        })
        .unwrap();
    assert_eq!(first.options(), UdpOptions { tos: 8, ..shared });
    let nought = first.set_options(|options| options.ttl = Some(0));
    assert_eq!(nought.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Four threads send all they can through one socket each and one that they share: whoever asks for something meanwhile is
/// answered, and there is at most one notice per socket under way.
#[test]
fn a_flood_is_held_back() {
    const EACH: usize = 5_000;
    let (a, b) = hosts();
    let sink = b.udp_bind((B, 9)).unwrap();
    let shared = a.udp_bind((A, 0)).unwrap();
    // The neighbour is known from here on: while it is asked for, only a few datagrams are kept.
    shared.send_to(b"first", (B, 9)).unwrap();
    assert_eq!(text(&sink), "first");
    thread::scope(|scope| {
        for n in 0..4 {
            let own = a.udp_bind((A, 0)).unwrap();
            let shared = shared.try_clone().unwrap();
            scope.spawn(move || {
                let data = pattern(n, 1_000);
                for _ in 0..EACH {
                    own.send_to(&data, (B, 9)).unwrap();
                    shared.send_to(&data, (B, 9)).unwrap();
                }
            });
        }
        for _ in 0..50 {
            a.udp_bind((A, 0)).unwrap().connect((B, 9)).unwrap();
        }
    });
    // Dropped sockets send what they hold: every datagram that was taken reaches the stack, beside the first one.
    drop(shared);
    while a.snapshot().unwrap().counts.get(Count::UdpSent) < 1 + 8 * EACH as u64 {
        thread::yield_now();
    }
    let mut buffer = [0; 2_000];
    assert_eq!(sink.recv_from(&mut buffer).unwrap().0, 1_000);
}

/// Who shares an address divides datagrams as a closure says.
#[test]
fn a_closure_divides_datagrams() {
    let (a, b) = hosts();
    let options = UdpOptions {
        reuse_port: true,
        ..UdpOptions::default()
    };
    let bind = || b.udp_bind_with((B, 53), &options).unwrap();
    let group = [bind(), bind(), bind()];
    let by_byte = Box::new(|_: &Tuple, data: &[u8]| data.first().map_or(0, |&b| b.into()));
    group[0].share_by(ReusePort::Program(by_byte)).unwrap();
    let client = a.udp_bind((A, 0)).unwrap();
    for n in [2, 0, 1] {
        client.send_to(&[n], (B, 53)).unwrap();
        let taken = group[usize::from(n)].recv_from(&mut [0; 9]).unwrap();
        assert_eq!(taken, (1, client.local_addr().unwrap()));
    }
}

/// Receives until so many datagrams are there: each with what is known of it.
fn batches(socket: &UdpSocket, wanted: usize) -> Vec<(Vec<u8>, RecvMeta)> {
    let mut memory = [[0; 4_000]; 4];
    let mut meta = [RecvMeta::default(); 4];
    let mut all = Vec::new();
    while all.len() < wanted {
        let mut bufs: Vec<_> = memory.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
        let n = socket.recv_batch(&mut bufs, &mut meta).unwrap();
        for (meta, buf) in meta[..n].iter().zip(&bufs) {
            all.extend(meta.datagrams(buf).map(|bytes| (bytes.to_vec(), *meta)));
        }
    }
    all
}

/// A socket that is connected to the other, whose host's link-layer address is known: until it is, few datagrams are kept.
fn acquainted(a: &Host, b: &Host) -> (UdpSocket, UdpSocket) {
    let server = b.udp_bind((B, 7)).unwrap();
    let client = a.udp_bind((A, 0)).unwrap();
    client.connect((B, 7)).unwrap();
    client.send(b"hello").unwrap();
    assert_eq!(text(&server), "hello");
    (client, server)
}

/// Waits until so many datagrams are in the hands of the host's sockets.
fn delivered(host: &Host, datagrams: u64) {
    while host.snapshot().unwrap().counts.get(Count::UdpDelivered) < datagrams {
        thread::yield_now();
    }
    host.snapshot().unwrap(); // whoever waits has been told
}

/// ECN, source and destination are said and known of each datagram of a batch, and when it came.
#[test]
fn a_batch_tells_of_each_datagram() {
    for (own, peer) in [(A, B), ("fd77::1", "fd77::2")] {
        let (a, b) = hosts();
        let [own, peer]: [IpAddr; 2] = [own, peer].map(|ip| ip.parse().unwrap());
        let server = b.udp_bind("[::]:7").unwrap();
        let client = a.udp_bind("[::]:0").unwrap();
        client.set_options(|options| options.tos = 0xb8).unwrap();
        let before = Instant::now();
        let said = [None, Some(Ecn::Ce), Some(Ecn::Ect1), Some(Ecn::Ect0)];
        let data: Vec<_> = (0..said.len()).map(|n| pattern(n, 500 + n)).collect();
        let batch: Vec<_> = (0..said.len())
            .map(|n| Transmit {
                from: Some(own),
                ecn: said[n],
                ..Transmit::to(&data[n], (peer, 7).into())
            })
            .collect();
        assert_eq!(client.send_batch(&batch).unwrap(), said.len());
        let got = batches(&server, said.len());
        let after = Instant::now();
        for (n, (bytes, meta)) in got.iter().enumerate() {
            assert_eq!(*bytes, data[n]);
            assert_eq!(meta.ecn(), said[n].unwrap_or(Ecn::NotEct));
            assert_eq!((meta.tos & !3, meta.ttl, meta.interface), (0xb8, 64, 1));
            assert_eq!((meta.from.ip().to_canonical(), meta.to), (own, peer));
            assert_eq!(meta.from.port(), client.local_addr().unwrap().port());
            assert!(before <= meta.at && meta.at <= after);
            assert!(!meta.truncated);
        }
        // What a batch says is of its datagrams alone.
        client.send_to(b"plain", (peer, 7)).unwrap();
        assert_eq!(batches(&server, 1)[0].1.tos, 0xb8);
    }
}

/// A payload that leaves as a train arrives as many datagrams, which one buffer takes at once if it has room.
#[test]
fn trains_cross_as_one() {
    let (a, b) = hosts();
    let (client, server) = acquainted(&a, &b);
    let data = pattern(3, 10_500);
    let train = Transmit {
        segment: Some(1_000),
        ..Transmit::new(&data)
    };
    let single = Transmit::new(&data[..700]);
    assert_eq!(client.send_batch(&[train, single]).unwrap(), 2);
    delivered(&b, 1 + 11 + 1);
    // One datagram at a time for who asks for one.
    let mut buf = [0; 1_500];
    assert_eq!(server.recv_from(&mut buf).unwrap().0, 1_000);
    assert!(buf[..1_000] == data[..1_000]);
    let (mut one, mut two, mut three) = ([0; 4_500], [0; 65_536], [0; 65_536]);
    let mut bufs = [&mut one[..], &mut two, &mut three].map(IoSliceMut::new);
    let mut meta = [RecvMeta::default(); 4];
    assert_eq!(server.recv_batch(&mut bufs, &mut meta).unwrap(), 3);
    let told = meta.map(|meta| (meta.len, meta.stride));
    assert_eq!(told[..3], [(4_000, 1_000), (5_500, 1_000), (700, 700)]);
    assert!(bufs[0][..4_000] == data[1_000..5_000]);
    assert!(bufs[1][..5_500] == data[5_000..]);
    assert!(bufs[2][..700] == data[..700]);
    server.set_nonblocking(true).unwrap();
    let none = server.recv_batch(&mut bufs, &mut meta).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
}

/// UDP_GRO: who asks for it is given a train at once by every call.
#[test]
fn a_train_is_one_for_who_asks() {
    let (a, b) = hosts();
    let (client, server) = acquainted(&a, &b);
    server.set_options(|options| options.gro = true).unwrap();
    // What was asked for is in effect when what is sent after it has arrived.
    server
        .send_to(b"now", client.local_addr().unwrap())
        .unwrap();
    assert_eq!(text(&client), "now");
    let data = pattern(3, 10_500);
    let train = Transmit {
        segment: Some(1_000),
        ..Transmit::new(&data)
    };
    client.send_batch(&[train]).unwrap();
    let (mut buf, mut meta, mut got) = ([0; 65_536], [RecvMeta::default()], Vec::new());
    while got.len() < data.len() {
        server
            .recv_batch(&mut [IoSliceMut::new(&mut buf)], &mut meta)
            .unwrap();
        assert_eq!(meta[0].stride, meta[0].len.min(1_000));
        got.extend_from_slice(&buf[..meta[0].len]);
    }
    assert!(got == data);
    client.send_batch(&[train]).unwrap();
    let mut got = Vec::new();
    while got.len() < data.len() {
        let (n, _) = server.recv_from(&mut buf).unwrap();
        got.extend_from_slice(&buf[..n]);
    }
    assert!(got == data);
}

/// What is cut off, empty, too long or from elsewhere is told, as for one datagram.
#[test]
fn batches_are_refused_as_single_datagrams_are() {
    let (a, b) = hosts();
    let server = b.udp_bind((B, 7)).unwrap();
    let client = a.udp_bind((A, 0)).unwrap();
    let alone = client.send_batch(&[Transmit::new(b"x")]).unwrap_err();
    assert_eq!(alone.raw_os_error(), Some(89), "EDESTADDRREQ");
    client.connect((B, 7)).unwrap();
    assert_eq!(client.send_batch(&[]).unwrap(), 0);
    let long = vec![0; 65_508];
    let segments = |data, segment| Transmit {
        segment: Some(segment),
        ..Transmit::new(data)
    };
    for (refused, why) in [
        (segments(&long, 1_000), 90),
        (segments(&long[..129], 1), 22),
        (segments(&long[..5], 0), 22),
        (Transmit::to(&[], "[fd77::2]:7".parse().unwrap()), 97),
    ] {
        let first = client.send_batch(&[refused, Transmit::new(b"x")]);
        assert_eq!(first.unwrap_err().raw_os_error(), Some(why));
        let second = client.send_batch(&[Transmit::new(b"taken"), refused]);
        assert_eq!(second.unwrap(), 1);
        assert_eq!(text(&server), "taken");
    }
    // What only routing knows is told to the next sender.
    for (beyond, why) in [
        (segments(&long[..4_000], 2_000), 90),
        (
            Transmit {
                from: Some(B.parse().unwrap()),
                ..Transmit::new(b"x")
            },
            99,
        ),
    ] {
        let around = [Transmit::new(b"before"), beyond, Transmit::new(b"behind")];
        assert_eq!(client.send_batch(&around).unwrap(), 3);
        assert_eq!(text(&server), "before");
        assert_eq!(text(&server), "behind");
        let told = client.send_batch(&[Transmit::new(b"x")]).unwrap_err();
        assert_eq!(told.raw_os_error(), Some(why));
        assert!(client.take_error().unwrap().is_none());
    }
    client
        .send_batch(&[Transmit::new(b""), Transmit::new(b"cut off")])
        .unwrap();
    delivered(&b, 4 + 2 * 2 + 2);
    let (mut one, mut two) = ([0; 3], [0; 3]);
    let mut bufs = [&mut one[..], &mut two].map(IoSliceMut::new);
    let mut meta = [RecvMeta::default(); 2];
    assert_eq!(server.recv_batch(&mut bufs, &mut []).unwrap(), 0);
    assert_eq!(server.recv_batch(&mut bufs, &mut meta).unwrap(), 2);
    assert_eq!((meta[0].len, meta[0].truncated), (0, false));
    assert_eq!((meta[1].len, meta[1].truncated), (3, true));
    assert_eq!(&two, b"cut");
}

/// Who does not wait is told how many datagrams there was room for, and all of those arrive.
#[test]
fn a_batch_takes_what_there_is_room_for() {
    let (a, b) = hosts();
    let (client, _server) = acquainted(&a, &b);
    client.set_nonblocking(true).unwrap();
    let data = pattern(0, 60_000);
    let train = Transmit {
        segment: Some(1_200),
        ..Transmit::new(&data)
    };
    // More than the half megabyte that may wait, unless the shard takes some of it meanwhile.
    let (mut taken, mut tries) = (0, 0..10_000);
    loop {
        tries.next().expect("there is never room for all of it");
        match client.send_batch(&[train; 16]) {
            Ok(16) => taken += 16,
            Ok(some) => break taken += some,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => panic!("{e}"),
        }
    }
    client.set_nonblocking(false).unwrap();
    let mut left = 16;
    while left > 0 {
        left -= client.send_batch(&vec![train; left]).unwrap();
    }
    let sent = 1 + 50 * (taken as u64 + 16);
    while a.snapshot().unwrap().counts.get(Count::UdpSent) < sent {
        thread::yield_now();
    }
    assert!(client.take_error().unwrap().is_none());
}
