//! Datagrams in packet memory: lent to any thread, bounded, and given back.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, IoSliceMut};
use std::thread;
use std::time::{Duration, Instant};

use common::{A, B, config, hosts, hosts_with, pattern};
use millstream::datagram::{Ecn, Packet, RecvMeta, Transmit};
use millstream::{Host, Limits, UdpSocket};

/// A client of `a`, connected to a server of `b` that lends from here on.
fn acquainted(a: &Host, b: &Host) -> (UdpSocket, UdpSocket) {
    let server = b.udp_bind((B, 0)).unwrap();
    let client = a.udp_bind((A, 0)).unwrap();
    client.connect(server.local_addr().unwrap()).unwrap();
    server.set_nonblocking(true).unwrap();
    let none = server.receive_packet().unwrap_err();
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
    server.set_nonblocking(false).unwrap();
    (client, server)
}

/// Waits until nothing of a host's packet memory is in use.
fn await_free(host: &Host) {
    while host.snapshot().unwrap().pool.in_use > 0 {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn datagrams_come_in_blocks_with_all_that_is_known_of_them() {
    let (a, b) = hosts();
    let (client, server) = acquainted(&a, &b);
    let before = Instant::now();
    let (give, take) = std::sync::mpsc::sync_channel::<Packet>(1);
    let other = thread::spawn(move || {
        for (n, packet) in take.into_iter().enumerate() {
            assert!(packet.to_vec() == pattern(n, packet.len()));
        }
    });
    for (n, len) in (0..600).zip([300, 1_472, 257, 9_000, 65_507].into_iter().cycle()) {
        let data = pattern(n, len);
        let marked = Transmit {
            ecn: Some(Ecn::Ect1),
            ..Transmit::new(&data)
        };
        client.send_batch(&[marked]).unwrap();
        let packet = server.receive_packet().unwrap();
        assert!(!packet.is_copied() && packet.len() == len);
        assert_eq!(packet.slices().map(<[u8]>::len).sum::<usize>(), len);
        if len < 1_472 {
            assert!(packet.contiguous().is_some());
        }
        let meta = packet.meta();
        assert_eq!((meta.len, meta.stride, meta.truncated), (len, len, false));
        assert_eq!(meta.from, client.local_addr().unwrap());
        assert_eq!((meta.to.to_string(), meta.interface), (B.to_owned(), 1));
        assert_eq!((meta.ttl, meta.ecn()), (64, Ecn::Ect1));
        assert!(before <= meta.at && meta.at <= Instant::now());
        give.send(packet).unwrap();
    }
    drop(give);
    other.join().unwrap();
    await_free(&b);
}

#[test]
fn short_datagrams_are_copied() {
    let (a, b) = hosts();
    let (client, server) = acquainted(&a, &b);
    for len in [0, 1, 256] {
        client.send(&pattern(0, len)).unwrap();
        let packet = server.receive_packet().unwrap();
        assert!(packet.is_copied() && packet.to_vec() == pattern(0, len));
        assert_eq!((packet.meta().len, packet.is_empty()), (len, len == 0));
    }
}

/// Who holds packets keeps nobody from receiving: not others of the host, nor of the same socket.
#[test]
fn what_is_held_is_bounded_and_in_nobodys_way() {
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    let (a, b) = hosts_with(config(), limits);
    let (client, server) = acquainted(&a, &b);
    let (other, beside) = acquainted(&a, &b);
    let mut held: Vec<Packet> = Vec::new();
    for n in 0..500 {
        client.send(&pattern(n, 1_000)).unwrap();
        held.push(server.receive_packet().unwrap());
    }
    let lent = held.iter().filter(|packet| !packet.is_copied()).count();
    // Each holds a block of 2 KiB.
    assert!(lent > 0 && lent * 2_048 <= Limits::MIN + 2_048, "{lent}");
    other.send(&pattern(0, 1_000)).unwrap();
    assert!(!beside.receive_packet().unwrap().is_copied());
    client.send(b"by the same socket").unwrap();
    assert_eq!(server.recv_from(&mut [0; 99]).unwrap().0, 18);
    for (n, packet) in held.drain(..).enumerate() {
        assert!(packet.to_vec() == pattern(n, 1_000));
    }
    await_free(&b);
    client.send(&pattern(0, 1_000)).unwrap();
    assert!(!server.receive_packet().unwrap().is_copied());
}

#[test]
fn a_quarter_of_packet_memory_is_lent_at_most() {
    let (a, b) = hosts();
    let mut held: Vec<Packet> = Vec::new();
    // Sixteen sockets could lend half of it.
    for _ in 0..32 {
        let (client, server) = acquainted(&a, &b);
        for n in 0..300 {
            client.send(&pattern(n, 1_000)).unwrap();
            held.push(server.receive_packet().unwrap());
        }
    }
    let lent = held.iter().filter(|packet| !packet.is_copied()).count();
    let quarter = config().pool_blocks as usize / 4;
    assert!(
        lent >= quarter - 1 && lent <= quarter + 1,
        "{lent} of {quarter}"
    );
    held.clear();
    await_free(&b);
}

#[test]
fn packets_and_bytes_can_be_taken_by_turns() {
    let (a, b) = hosts();
    let (client, server) = acquainted(&a, &b);
    for n in 0..300 {
        let data = pattern(n, 10 + n * 91 % 3_000);
        client.send(&data).unwrap();
        let mut buf = vec![0; 4_000];
        assert_eq!(server.peek_from(&mut buf[..5]).unwrap().0, 5);
        assert!(buf[..5] == data[..5]);
        match n % 4 {
            0 => assert!(server.receive_packet().unwrap().to_vec() == data),
            1 => {
                let (len, from) = server.recv_from(&mut buf).unwrap();
                assert!(buf[..len] == data && from == client.local_addr().unwrap());
            }
            2 => assert_eq!(
                server.recv_from(&mut buf[..7]).unwrap().0,
                7,
                "it is cut off"
            ),
            _ => {
                let mut meta = [RecvMeta::default()];
                let bufs = &mut [IoSliceMut::new(&mut buf)];
                assert_eq!(server.recv_batch(bufs, &mut meta).unwrap(), 1);
                assert!(bufs[0][..meta[0].len] == data);
            }
        }
    }
    // A train of what is lent.
    let data = pattern(3, 10_500);
    let train = Transmit {
        segment: Some(1_000),
        ..Transmit::new(&data)
    };
    client.send_batch(&[train]).unwrap();
    let (mut buf, mut got) = (vec![0; 65_536], Vec::new());
    while got.len() < data.len() {
        let mut meta = [RecvMeta::default()];
        server
            .recv_batch(&mut [IoSliceMut::new(&mut buf)], &mut meta)
            .unwrap();
        got.extend_from_slice(&buf[..meta[0].len]);
    }
    assert!(got == data);
    await_free(&b);
}

/// UDP_GRO: a train is one packet, whose stride tells its datagrams.
#[test]
fn a_train_is_one_packet_for_who_asks() {
    let (a, b) = hosts();
    let (client, server) = acquainted(&a, &b);
    server.set_options(|options| options.gro = true).unwrap();
    server
        .send_to(b"now", client.local_addr().unwrap())
        .unwrap();
    client.recv(&mut [0; 9]).unwrap();
    let data = pattern(3, 10_500);
    let train = Transmit {
        segment: Some(1_000),
        ..Transmit::new(&data)
    };
    client.send_batch(&[train]).unwrap();
    let mut got = Vec::new();
    while got.len() < data.len() {
        let packet = server.receive_packet().unwrap();
        assert_eq!(packet.meta().stride, packet.len().min(1_000));
        got.extend(packet.to_vec());
    }
    assert!(got == data);
    await_free(&b);
}

#[test]
fn packets_outlive_their_socket_and_their_host() {
    let (a, b) = hosts();
    let held = [false, true].map(|stop| {
        let (client, server) = acquainted(&a, &b);
        let data = pattern(0, 1_000);
        for _ in 0..3 {
            client.send(&data).unwrap();
        }
        let packet = server.receive_packet().unwrap();
        assert!(!packet.is_copied());
        // One stays with the record, and one may be on its way.
        server.peek_from(&mut [0]).unwrap();
        drop((server, client));
        if stop {
            b.stop().unwrap();
        }
        packet
    });
    for packet in held {
        assert!(packet.to_vec() == pattern(0, 1_000));
    }
}

/// What nobody took goes back with its socket.
#[test]
fn what_was_lent_and_not_taken_goes_back() {
    let (a, b) = hosts();
    let (client, server) = acquainted(&a, &b);
    for _ in 0..50 {
        client.send(&pattern(0, 1_000)).unwrap();
    }
    server.peek_from(&mut [0]).unwrap();
    drop(server);
    await_free(&b);
}
