//! Connections that are moved from shard to shard while they are used.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{A, B, config, pattern};
use millstream::port::ring::{RingOptions, pair};
use millstream::{Config, Events, Host, Interest, Poll, TcpListener, TcpStream, Token};
use stack::Count;
use wire::Mac;

fn at(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), port)
}

fn hosts(shards: [usize; 2]) -> [Host; 2] {
    hosts_with(shards, |_| {})
}

/// Hosts of so many shards; of the second's configuration something is changed.
fn hosts_with(shards: [usize; 2], change: impl Fn(&mut Config)) -> [Host; 2] {
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let (a, b) = pair(macs, &RingOptions::default()).unwrap();
    let mut ports = [Some(a), Some(b)];
    [0, 1].map(|n| {
        let mut config = Config {
            pool_blocks: 8 * 1024,
            ..config()
        };
        if n == 1 {
            change(&mut config);
        }
        let host = Host::builder()
            .port(ports[n].take().unwrap())
            .address(format!("{}/24", [A, B][n]))
            .address(format!("fd77::{}/64", n + 1))
            .config(config)
            .seed(7 + n as u64)
            .shards(shards[n]);
        host.start().unwrap()
    })
}

fn count(host: &Host, what: Count) -> u64 {
    host.snapshot_with(0).unwrap().counts.get(what)
}

fn connection(a: &Host, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let near = a.tcp_connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// The next shard, and so on, until told to stop: how often.
fn wander(stream: &TcpStream, shards: usize, over: &AtomicBool) -> u64 {
    let mut moves = 0;
    while !over.load(Ordering::Relaxed) {
        let to = (stream.shard() + 1) % shards;
        match stream.move_to(to) {
            Ok(()) => {
                assert_eq!(stream.shard(), to);
                moves += 1;
            }
            // That shard has no memory for all that is queued just now: it has come back.
            Err(error) => assert_eq!(error.raw_os_error(), Some(105), "{error}"),
        }
        thread::sleep(Duration::from_micros(300));
    }
    moves
}

/// Bytes both ways on many connections at a time, both ends of which are moved all the while.
#[test]
fn streams_are_whole_however_often_they_are_moved() {
    const LEN: usize = 1_000_000;
    let [a, b] = hosts([3, 4]);
    let listeners = [at(B, 7), at("fd77::2", 7)].map(|to| b.tcp_listen(to).unwrap());
    let mut moves = 0;
    thread::scope(|scope| {
        let mut wandering = Vec::new();
        let over: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let mut busy = Vec::new();
        for n in 0..6 {
            let ends = connection(&a, &listeners[n % 2]);
            for (way, stream) in [ends.0, ends.1].into_iter().enumerate() {
                let (mut reader, mut writer) =
                    (stream.try_clone().unwrap(), stream.try_clone().unwrap());
                busy.push(scope.spawn(move || {
                    writer.write_all(&pattern(2 * n + way, LEN)).unwrap();
                }));
                busy.push(scope.spawn(move || {
                    let mut got = vec![0; LEN];
                    reader.read_exact(&mut got).unwrap();
                    assert!(got == pattern(2 * n + 1 - way, LEN), "{n} {way}");
                }));
                let shards = [3, 4][way];
                wandering.push(scope.spawn(move || {
                    let moves = wander(&stream, shards, over);
                    // No shard is ahead of another: round trips are what they are.
                    let rtt = stream.info().unwrap().rtt;
                    assert!(rtt < Duration::from_secs(3), "{rtt:?}");
                    stream.shutdown(Shutdown::Write).unwrap();
                    moves
                }));
            }
        }
        busy.into_iter().for_each(|t| t.join().unwrap());
        over.store(true, Ordering::Relaxed);
        moves += wandering
            .into_iter()
            .map(|t| t.join().unwrap())
            .sum::<u64>();
    });
    assert!(moves > 50, "{moves}");
    let counted = [&a, &b].map(|host| count(host, Count::TcpMovedIn));
    assert!(counted.iter().sum::<u64>() >= moves);
}

/// What is there before, and what waits, notices nothing: readiness, timeouts, options, addresses, the end of the stream.
#[test]
fn handles_notice_nothing() {
    let [a, b] = hosts([1, 3]);
    let listener = b.tcp_listen(at(B, 7)).unwrap();
    let (mut near, far) = connection(&a, &listener);
    let ends = (far.local_addr().unwrap(), far.peer_addr().unwrap());
    far.set_nodelay(true).unwrap();
    let mut poll = Poll::new().unwrap();
    poll.registry()
        .register(&far, Token(1), Interest::READABLE)
        .unwrap();
    let mut events = Events::with_capacity(4);
    for round in 0..6_u8 {
        let mut reader = far.try_clone().unwrap();
        let mut read = move || {
            let mut got = [0; 1];
            reader.read_exact(&mut got).unwrap();
            got
        };
        let to = usize::from(round) % 3;
        let got = if round < 3 {
            // Somebody waits to read while it goes.
            let reading = thread::spawn(read);
            thread::sleep(Duration::from_millis(2));
            far.move_to(to).unwrap();
            near.write_all(&[round]).unwrap();
            reading.join().unwrap()
        } else {
            far.move_to(to).unwrap();
            near.write_all(&[round]).unwrap();
            poll.poll(&mut events, Some(Duration::from_secs(20)))
                .unwrap();
            assert!(events.iter().any(|event| event.is_readable()));
            read()
        };
        assert_eq!((got, far.shard()), ([round], to));
        assert!(far.nodelay().unwrap());
        assert_eq!((far.local_addr().unwrap(), far.peer_addr().unwrap()), ends);
        (&far).write_all(b"answer").unwrap();
        let mut answer = [0; 6];
        near.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }
    // The end, and then TIME-WAIT, are told where it is.
    near.shutdown(Shutdown::Write).unwrap();
    let mut far = far;
    assert_eq!(far.read(&mut [0; 9]).unwrap(), 0);
    far.move_to(1).unwrap();
    far.move_to(2).unwrap();
    drop(far);
    assert_eq!(near.read(&mut [0; 9]).unwrap(), 0);
}

/// A connection that was moved away and has ended is forgotten: its ends are free, and are where their hash says.
#[test]
fn ends_of_moved_connections_are_free_again() {
    let [a, b] = hosts_with([3, 3], |config| {
        config.time_wait = Duration::from_millis(50);
    });
    let listener = b.tcp_listen(at(B, 7)).unwrap();
    let local = Some(at(A, 5000));
    for round in 0..6 {
        let end = Instant::now() + Duration::from_secs(20);
        let mut near = loop {
            match a.tcp_connect_with(at(B, 7), local, &a.tcp_options()) {
                Ok(stream) => break stream,
                Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
            }
            assert!(Instant::now() < end);
        };
        let mut far = listener.accept().unwrap().0;
        let home = near.shard();
        assert_eq!(home, near.shard());
        near.move_to((home + 1) % 3).unwrap();
        far.move_to((far.shard() + 1 + round % 2) % 3).unwrap();
        // While it is away nobody else gets its ends.
        let taken = a.tcp_connect_with(at(B, 7), local, &a.tcp_options());
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::AddrInUse);
        // Who closes first is in TIME-WAIT then.
        far.write_all(b"hello").unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        near.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"hello");
        drop(near);
        assert_eq!(far.read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn what_cannot_be_moved_says_so() {
    let [a, b] = hosts([1, 3]);
    let listener = b.tcp_listen(at(B, 7)).unwrap();
    let (near, far) = connection(&a, &listener);
    let kind = |stream: &TcpStream, shard| stream.move_to(shard).unwrap_err().kind();
    assert_eq!(kind(&far, 3), ErrorKind::InvalidInput);
    assert_eq!(kind(&near, 1), ErrorKind::InvalidInput);
    near.move_to(0).unwrap();
    far.move_to(far.shard()).unwrap();
    assert_eq!(count(&b, Count::TcpMovedIn), 0);
    // One that is spliced.
    let (near2, far2) = connection(&a, &listener);
    far2.move_to(far.shard()).unwrap();
    let splice = far.splice(&far2).unwrap();
    let other = (far.shard() + 1) % 3;
    assert_eq!(kind(&far, other), ErrorKind::ResourceBusy);
    assert_eq!(kind(&far2, other), ErrorKind::ResourceBusy);
    drop(splice);
    let (_near3, far3) = connection(&a, &listener);
    // Both ends of this are on one host, and on one shard.
    let own = b.tcp_connect(at(B, 7)).unwrap();
    let _accepted = listener.accept().unwrap();
    let moved = own.move_to((own.shard() + 1) % 3).unwrap_err();
    assert_eq!(moved.raw_os_error(), Some(95));
    // And one that is over.
    near2.set_linger(Some(Duration::ZERO)).unwrap();
    drop(near2);
    let mut far2 = far2;
    let end = Instant::now() + Duration::from_secs(20);
    while far2.read(&mut [0; 1]).is_ok() {
        assert!(Instant::now() < end);
    }
    assert_eq!(kind(&far2, other), ErrorKind::NotConnected);
    b.stop().unwrap();
    assert_eq!(kind(&far3, 1), ErrorKind::NotConnected);
}

/// What is lent goes back to the shard that it came to, wherever the connection is by then.
#[test]
fn a_connection_that_lends_is_moved() {
    const PART: usize = 10_000;
    let [a, b] = hosts([1, 3]);
    let listener = b.tcp_listen(at(B, 7)).unwrap();
    let (mut near, far) = connection(&a, &listener);
    let (mut held, mut n) = (Vec::new(), 0);
    for round in 0..6 {
        // Some of it comes on the way, and some of that before blocks were asked for again.
        near.write_all(&pattern(round * PART, PART)).unwrap();
        far.move_to(round % 3).unwrap();
        while n < (round + 1) * PART {
            let blocks = far.receive_blocks().unwrap();
            n += blocks.len();
            held.push((round, blocks));
        }
    }
    let lent = |round| {
        let mut held = held.iter().filter(|(when, _)| *when == round);
        held.any(|(_, blocks)| !blocks.is_copied())
    };
    assert!((1..6).all(lent));
    let bytes: Vec<u8> = held
        .iter()
        .flat_map(|(_, blocks)| blocks.to_vec())
        .collect();
    assert!(bytes == pattern(0, 6 * PART));
    drop((near, far));
    thread::spawn(|| drop(held)).join().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while b.snapshot_with(0).unwrap().pool.in_use > 0 {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(1));
    }
}

/// A shard that has no room sends the connection back, and nothing is lost.
#[test]
fn what_has_no_room_stays() {
    let [a, b] = hosts_with([1, 2], |config| config.tcp_connections = 8);
    let listener = b.tcp_listen(at(B, 7)).unwrap();
    let mut all: Vec<_> = (0..10).map(|_| connection(&a, &listener)).collect();
    let mut refused = 0;
    for (n, (near, far)) in all.iter_mut().enumerate() {
        // What is in its queues goes there, and comes back.
        near.write_all(&[n as u8; 1000]).unwrap();
        thread::sleep(Duration::from_millis(2));
        let from = far.shard();
        if let Err(error) = far.move_to(1) {
            assert_eq!(error.raw_os_error(), Some(105), "ENOBUFS");
            assert_eq!((far.shard(), from), (0, 0));
            refused += 1;
        }
    }
    assert!(refused >= 2, "{refused}");
    for (n, (near, far)) in all.iter_mut().enumerate() {
        near.write_all(&[n as u8; 1000]).unwrap();
        let mut got = [0; 2000];
        far.read_exact(&mut got).unwrap();
        assert_eq!(got, [n as u8; 2000]);
    }
}

/// A host stops while its connections are on the way, and everybody who waits hears of it.
#[test]
fn a_host_stops_while_connections_are_moved() {
    for _ in 0..5 {
        let [a, b] = hosts([2, 4]);
        let listener = b.tcp_listen(at(B, 7)).unwrap();
        let ends: Vec<_> = (0..6).map(|_| connection(&a, &listener)).collect();
        let threads: Vec<_> = ends
            .into_iter()
            .map(|(near, far)| {
                thread::spawn(move || {
                    let mut reader = far.try_clone().unwrap();
                    let reading =
                        thread::spawn(move || while let Ok(1..) = reader.read(&mut [0; 9]) {});
                    while far.move_to((far.shard() + 1) % 4).is_ok() {}
                    reading.join().unwrap();
                    drop(near);
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(20));
        b.stop().unwrap();
        threads.into_iter().for_each(|t| t.join().unwrap());
        let _ = a.stop();
    }
}
