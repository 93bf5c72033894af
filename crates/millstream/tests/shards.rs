//! Hosts of several shards: to each other, and to programs, they are hosts like any other.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod common;

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base::{Batch, Pool};
use common::{A, B, config, pattern};
use millstream::completion::{BufferGroup, Op, QueueOptions};
use millstream::port::ring::{RingOptions, RingPort, pair};
use millstream::port::{Port, PortCounters, PortError, PortFacts};
use millstream::reuseport::ReusePort;
use millstream::shard::{App, Event, Ready, ShardCx, Shutdown};
use millstream::{
    Builder, Config, Events, Host, Interest, ListPlace, Poll, SocketFilter, TcpOptions, Token,
    UdpOptions,
};
use stack::{Count, Drop};
use wire::Mac;

const V6: [&str; 2] = ["fd77::1", "fd77::2"];

fn builder(port: impl Port + Send + 'static, number: usize, shards: usize) -> Builder {
    Host::builder()
        .port(port)
        .address(format!("{}/24", [A, B][number]))
        .address(format!("{}/64", V6[number]))
        .config(Config {
            pool_blocks: 8 * 1024,
            ..config()
        })
        .name(["host-a", "host-b"][number])
        .seed(7 + number as u64)
        .shards(shards)
}

fn ports() -> (RingPort, RingPort) {
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    pair(macs, &RingOptions::default()).unwrap()
}

/// Hosts of so many shards.
fn hosts(a: usize, b: usize) -> (Host, Host) {
    let (left, right) = ports();
    let (a, b) = (builder(left, 0, a), builder(right, 1, b));
    (a.start().unwrap(), b.start().unwrap())
}

fn at(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), port)
}

fn count(host: &Host, what: Count) -> u64 {
    host.snapshot_with(0).unwrap().counts.get(what)
}

/// Serves `n` connections: what each sends comes back.
fn echo(host: &Host, addr: SocketAddr, n: usize) -> thread::JoinHandle<()> {
    let listener = host.tcp_listen_backlog(addr, 1024).unwrap();
    thread::spawn(move || {
        let serve = |_| {
            let (mut stream, _) = listener.accept().unwrap();
            thread::spawn(move || {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                stream.write_all(&all).unwrap();
            })
        };
        let threads: Vec<_> = (0..n).map(serve).collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
    })
}

fn ask(mut stream: millstream::TcpStream, n: usize) {
    let sent = pattern(n * 1000, 20_000 + n);
    stream.write_all(&sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == sent, "connection {n} got {} bytes", got.len());
}

/// Many connections each way and in both families, all of which carry their own bytes.
#[test]
fn connections_live_on_all_shards() {
    for (left, right) in [(3, 4), (1, 2), (4, 1)] {
        let (a, b) = hosts(left, right);
        assert_eq!((a.shards(), b.shards()), (left, right));
        let each = 40;
        let servers = [echo(&b, at(B, 7), each), echo(&a, at("::", 7), 2 * each)];
        let mut clients = Vec::new();
        for n in 0..each {
            for (host, to) in [(&a, at(B, 7)), (&b, at(A, 7)), (&b, at(V6[0], 7))] {
                let host = host.clone();
                clients.push(thread::spawn(move || ask(host.tcp_connect(to).unwrap(), n)));
            }
        }
        clients.into_iter().for_each(|t| t.join().unwrap());
        servers.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(count(&a, Count::TcpActiveOpens), each as u64);
        assert_eq!(count(&b, Count::TcpPassiveOpens), each as u64);
        let steered = [&a, &b].map(|host| count(host, Count::Steered));
        assert!(steered[0] > 0 || left == 1);
        assert!(steered[1] > 0 || right == 1);
        a.stop().unwrap();
    }
}

/// A flow whose ends are both named is found as well as one that chose its port; and one port serves several peers' ports.
#[test]
fn a_connection_from_a_given_port() {
    let (a, b) = hosts(4, 3);
    let server = echo(&b, at(B, 7), 60);
    let other = echo(&b, at(B, 8), 60);
    for port in 5000..5060 {
        for to in [7, 8] {
            let options = a.tcp_options();
            let local = Some(at(if to == 7 { A } else { "0.0.0.0" }, port));
            let stream = a.tcp_connect_with(at(B, to), local, &options).unwrap();
            assert_eq!(stream.local_addr().unwrap(), at(A, port));
            ask(stream, 3);
        }
    }
    server.join().unwrap();
    other.join().unwrap();
}

/// Both ends on one host, by its own address and by the loopback's.
#[test]
fn a_host_talks_to_itself() {
    let (a, _b) = hosts(4, 1);
    let server = echo(&a, at("0.0.0.0", 7), 24);
    for n in 0..12 {
        ask(a.tcp_connect(at(A, 7)).unwrap(), n);
        ask(a.tcp_connect(at("127.0.0.1", 7)).unwrap(), n);
    }
    server.join().unwrap();
    let bind = || {
        let socket = a.udp_bind("0.0.0.0:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        socket
    };
    let sockets: Vec<_> = (0..8).map(|_| bind()).collect();
    for (n, from) in sockets.iter().enumerate() {
        for to in &sockets {
            let port = to.local_addr().unwrap().port();
            from.send_to(&[n as u8], at(A, port)).unwrap();
            let mut got = [0; 4];
            let (len, source) = to.recv_from(&mut got).unwrap();
            assert_eq!((len, got[0]), (1, n as u8));
            assert_eq!(source.port(), from.local_addr().unwrap().port());
        }
    }
    // Nobody there: the error finds the socket, wherever that is.
    for socket in &sockets {
        socket.connect(at(A, 9)).unwrap();
        assert_refused(socket);
    }
}

/// Sends until it is heard that nobody is there: errors are rationed, so the first may go untold.
fn assert_refused(socket: &millstream::UdpSocket) {
    let wait = Some(Duration::from_millis(200));
    socket.set_read_timeout(wait).unwrap();
    let refused = (0..100).any(|_| {
        let _ = socket.send(b"hello");
        let error = socket.recv(&mut [0; 4]).unwrap_err();
        error.kind() == ErrorKind::ConnectionRefused
    });
    assert!(refused);
}

/// Datagrams, whole and in fragments, of both families, to sockets on whichever shard.
#[test]
fn datagrams_find_their_sockets() {
    let (a, b) = hosts(3, 4);
    for (own, family) in [([A, B], "0.0.0.0"), (V6, "::")] {
        let bind = |host: &Host| {
            let socket = host.udp_bind(at(family, 0)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            socket
        };
        for n in 0..12 {
            let (one, other) = (bind(&a), bind(&b));
            let ends = [&one, &other].map(|socket| socket.local_addr().unwrap().port());
            for len in [1, 1400, 1500, 9_000, 40_000] {
                let sent = pattern(n, len);
                let mut got = vec![0; 65_536];
                one.send_to(&sent, at(own[1], ends[1])).unwrap();
                let (m, from) = other.recv_from(&mut got).unwrap();
                assert!(got[..m] == sent[..] && from == at(own[0], ends[0]));
                other.send_to(&got[..m], from).unwrap();
                let (m, from) = one.recv_from(&mut got).unwrap();
                assert!(got[..m] == sent[..] && from == at(own[1], ends[1]));
            }
        }
    }
    assert!(count(&b, Count::Reassembled) >= 48);
}

/// Errors of the network reach the socket that they are about.
#[test]
fn errors_reach_the_socket() {
    let (a, b) = hosts(4, 3);
    for _ in 0..20 {
        let refused = a.tcp_connect(at(B, 9)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let socket = a.udp_bind("0.0.0.0:0").unwrap();
        socket.connect(at(B, 9)).unwrap();
        assert_refused(&socket);
    }
    drop(b);
}

/// A listener has its port on every shard, from when it is there until it is closed.
#[test]
fn a_listener_is_one_whatever_it_is_made_of() {
    let (a, b) = hosts(2, 4);
    for _ in 0..10 {
        let listener = b.tcp_listen(at(B, 80)).unwrap();
        let taken = b.tcp_listen(at(B, 80)).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let any = b.tcp_listen("0.0.0.0:0").unwrap();
        let port = any.local_addr().unwrap().port();
        let streams: Vec<_> = (0..8)
            .map(|_| a.tcp_connect(at(B, port)).unwrap())
            .collect();
        let from = |_| any.accept().unwrap().1;
        let peers: HashSet<SocketAddr> = (0..8).map(from).collect();
        let ends = streams.iter().map(|s| s.local_addr().unwrap());
        assert_eq!(peers, ends.collect());
        // Nobody accepts these: they are reset when the listener is closed.
        let mut late: Vec<_> = (0..8).map(|_| a.tcp_connect(at(B, 80)).unwrap()).collect();
        drop(listener);
        for stream in &mut late {
            let error = stream.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        // The parts are closed one after the other, each soon.
        let end = Instant::now() + Duration::from_secs(20);
        while a.tcp_connect(at(B, 80)).is_ok() {
            assert!(Instant::now() < end);
        }
    }
    let missing = b.tcp_listen("192.0.2.1:80").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::AddrNotAvailable);
}

/// Listeners that share a port have the same numbers on every shard, so that all that a program or standby chooses is one's.
#[test]
fn listeners_that_share_are_chosen_alike_on_all_shards() {
    let (a, b) = hosts(2, 4);
    let options = TcpOptions {
        reuse_port: true,
        ..b.tcp_options()
    };
    let listen = |_| b.tcp_listen_with(at(B, 80), 128, &options).unwrap();
    let mut listeners: Vec<_> = (0..3).map(listen).collect();
    let chosen = |listener: &millstream::TcpListener| {
        let streams: Vec<_> = (0..24).map(|_| a.tcp_connect(at(B, 80)).unwrap()).collect();
        for _ in &streams {
            listener.accept().unwrap();
        }
    };
    for number in [2, 0, 1] {
        let choose = move |_: &millstream::reuseport::Tuple, _: &[u8]| number;
        let program = ReusePort::Program(Box::new(choose));
        listeners[1].share_by(program).unwrap();
        chosen(&listeners[number]);
    }
    listeners[0].share_by(ReusePort::Standby).unwrap();
    while let Some(first) = listeners.first() {
        chosen(first);
        // These nobody has asked for when their listener is closed: the next one inherits them, whichever shard has them.
        let waiting: Vec<_> = (0..12).map(|_| a.tcp_connect(at(B, 80)).unwrap()).collect();
        drop(listeners.remove(0));
        for _ in waiting.iter().take_while(|_| !listeners.is_empty()) {
            listeners[0].accept().unwrap();
        }
        let end = Instant::now() + Duration::from_secs(20);
        let states = || b.snapshot_with(0).unwrap().states;
        let listening = |(state, n): &(_, u64)| {
            *state == millstream::State::Listen && *n as usize > 4 * listeners.len()
        };
        while states().iter().any(listening) {
            assert!(Instant::now() < end);
        }
    }
}

/// One thread waits for sockets of all shards.
#[test]
fn a_poll_watches_sockets_of_all_shards() {
    let (a, b) = hosts(4, 3);
    let listener = b.tcp_listen(at(B, 7)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut poll = Poll::new().unwrap();
    let registry = poll.registry();
    let readable = Interest::READABLE;
    registry.register(&listener, Token(0), readable).unwrap();
    let mut clients: Vec<_> = (0..24).map(|_| a.tcp_connect(at(B, 7)).unwrap()).collect();
    let mut events = Events::with_capacity(64);
    let (mut streams, mut heard) = (Vec::new(), HashSet::new());
    while heard.len() < clients.len() {
        poll.poll(&mut events, Some(Duration::from_secs(20)))
            .unwrap();
        assert!(!events.is_empty(), "{} of {}", heard.len(), clients.len());
        for event in &events {
            if event.token() != Token(0) {
                heard.insert(event.token());
                continue;
            }
            while let Ok((stream, _)) = listener.accept() {
                let token = Token(streams.len() + 1);
                poll.registry().register(&stream, token, readable).unwrap();
                streams.push(stream);
            }
            if streams.len() == clients.len() {
                for client in &mut clients {
                    client.write_all(b"now").unwrap();
                }
            }
        }
    }
}

/// UDP sockets that share a port are on several shards; a flow has its socket, and other ways to divide are refused.
#[test]
fn datagram_sockets_that_share_are_spread() {
    let (a, b) = hosts(2, 4);
    let options = UdpOptions {
        reuse_port: true,
        ..UdpOptions::default()
    };
    let bind = |_| b.udp_bind_with(at(B, 53), &options).unwrap();
    let sockets: Vec<_> = (0..4).map(bind).collect();
    let alone = b.udp_bind(at(B, 53)).unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::AddrInUse);
    sockets[0].share_by(ReusePort::Core).unwrap();
    let standby = sockets[0].share_by(ReusePort::Standby).unwrap_err();
    assert_eq!(standby.kind(), ErrorKind::Unsupported);
    let connected = sockets[0].connect(at(A, 9)).unwrap_err();
    assert_eq!(connected.kind(), ErrorKind::Unsupported);
    let clients: Vec<_> = (0..64).map(|_| a.udp_bind("0.0.0.0:0").unwrap()).collect();
    for round in 0..3u8 {
        for client in &clients {
            client.send_to(&[round], at(B, 53)).unwrap();
        }
    }
    let mut owners = std::collections::HashMap::new();
    let mut got = 0;
    let end = Instant::now() + Duration::from_secs(20);
    while got < 3 * 64 {
        assert!(Instant::now() < end, "{got} datagrams");
        for (n, socket) in sockets.iter().enumerate() {
            socket.set_nonblocking(true).unwrap();
            while let Ok((_, from)) = socket.recv_from(&mut [0; 4]) {
                assert_eq!(*owners.entry(from).or_insert(n), n);
                got += 1;
            }
        }
    }
    for n in 0..4 {
        assert!(owners.values().filter(|owner| **owner == n).count() > 4);
    }
}

/// One that shares its port with others can be connected while they are on one shard, whoever comes later: it hears its peer.
#[test]
fn a_connected_datagram_socket_that_shares_hears_its_peer() {
    let (a, b) = hosts(2, 4);
    let options = UdpOptions {
        reuse_port: true,
        ..UdpOptions::default()
    };
    let bind = || b.udp_bind_with(at(B, 53), &options).unwrap();
    let peers: Vec<_> = (0..16).map(|_| a.udp_bind(at(A, 0)).unwrap()).collect();
    let mut sockets = Vec::new();
    for peer in &peers {
        let socket = bind();
        socket.connect(peer.local_addr().unwrap()).unwrap();
        sockets.push(socket);
    }
    for (n, peer) in peers.iter().enumerate() {
        peer.send_to(&[n as u8], at(B, 53)).unwrap();
    }
    for (n, socket) in sockets.iter().enumerate() {
        let patience = Some(Duration::from_secs(20));
        socket.set_read_timeout(patience).unwrap();
        let mut got = [0; 4];
        assert_eq!(socket.recv(&mut got).unwrap(), 1);
        assert_eq!(usize::from(got[0]), n);
    }
}

/// A group that was joined on one shard is heard there.
#[test]
fn groups_are_heard() {
    let (a, b) = hosts(3, 4);
    let sockets: Vec<_> = (0..5)
        .map(|n| {
            let socket = b.udp_bind(at("0.0.0.0", 6000 + n)).unwrap();
            let group = "239.1.2.3".parse().unwrap();
            socket
                .join_multicast_v4(&group, &B.parse().unwrap())
                .unwrap();
            let wait = Duration::from_secs(20);
            socket.set_read_timeout(Some(wait)).unwrap();
            socket
        })
        .collect();
    let sender = a.udp_bind(at(A, 0)).unwrap();
    for n in 0..5 {
        sender.send_to(b"all", at("239.1.2.3", 6000 + n)).unwrap();
    }
    for socket in &sockets {
        assert_eq!(socket.recv_from(&mut [0; 8]).unwrap().0, 3);
    }
    // What the host says itself is heard on its other shards, too, once these know what was joined.
    let own = b.udp_bind(at(B, 0)).unwrap();
    for (n, socket) in (0..).zip(&sockets) {
        let brief = Some(Duration::from_millis(50));
        socket.set_read_timeout(brief).unwrap();
        let heard = |_: &u32| {
            own.send_to(b"own", at("239.1.2.3", 6000 + n)).unwrap();
            socket.recv_from(&mut [0; 8]).is_ok()
        };
        assert!((0..400).any(|n| heard(&n)), "port {n}");
    }
}

/// The smallest rings: what is beyond is dropped and counted, streams are whole all the same, and the other shards go on.
#[test]
fn full_rings_cost_frames_and_nothing_else() {
    let (left, right) = ports();
    let a = builder(left, 0, 2).start().unwrap();
    let b = builder(right, 1, 4).shard_ring(4).start().unwrap();
    let server = echo(&b, at(B, 7), 16);
    let clients: Vec<_> = (0..16)
        .map(|n| {
            let stream = a.tcp_connect(at(B, 7)).unwrap();
            thread::spawn(move || ask(stream, 100 * n))
        })
        .collect();
    let flood = a.udp_bind("0.0.0.0:0").unwrap();
    let targets: Vec<_> = (0..4).map(|_| b.udp_bind(at(B, 0)).unwrap()).collect();
    let full = || b.snapshot_with(0).unwrap().drops.get(Drop::ShardRingFull);
    let end = Instant::now() + Duration::from_secs(60);
    while full() == 0 {
        assert!(Instant::now() < end);
        for _ in 0..500 {
            for target in &targets {
                let _ = flood.send_to(b"flood", target.local_addr().unwrap());
            }
        }
    }
    clients.into_iter().for_each(|t| t.join().unwrap());
    server.join().unwrap();
}

/// Stopping ends all shards, however busy they are, and everybody who waits hears of it.
#[test]
fn a_busy_host_stops() {
    for _ in 0..3 {
        let (a, b) = hosts(3, 3);
        let listener = b.tcp_listen(at(B, 7)).unwrap();
        let accepting = thread::spawn(move || {
            let mut threads = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                threads.push(thread::spawn(move || {
                    while let Ok(1..) = stream.read(&mut [0; 4096]) {}
                }));
            }
            threads.into_iter().for_each(|t| t.join().unwrap());
        });
        let writers: Vec<_> = (0..9)
            .map(|_| {
                let mut stream = a.tcp_connect(at(B, 7)).unwrap();
                thread::spawn(move || while stream.write_all(&[7; 10_000]).is_ok() {})
            })
            .collect();
        let socket = b.udp_bind(at(B, 9)).unwrap();
        let waiting = thread::spawn(move || socket.recv_from(&mut [0; 4]).unwrap_err());
        thread::sleep(Duration::from_millis(50));
        b.stop().unwrap();
        assert!(b.is_stopped());
        accepting.join().unwrap();
        waiting.join().unwrap();
        let _ = a.stop(); // its port has failed when the other's was closed
        writers.into_iter().for_each(|t| t.join().unwrap());
        assert!(a.udp_bind("0.0.0.0:0").is_err() && a.tcp_connect(at(B, 7)).is_err());
    }
}

/// What was written before a host stops arrives, also from shards that send by another's port.
#[test]
fn what_was_written_is_sent_before_the_end() {
    let (a, b) = hosts(4, 2);
    let listener = b.tcp_listen(at(B, 7)).unwrap();
    let reading = thread::spawn(move || {
        for _ in 0..8 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert!(got == pattern(0, 100_000));
        }
    });
    for _ in 0..8 {
        let mut stream = a.tcp_connect(at(B, 7)).unwrap();
        stream.write_all(&pattern(0, 100_000)).unwrap();
    }
    a.stop().unwrap();
    reading.join().unwrap();
}

/// One loop serves connections of all shards by a completion queue.
#[test]
fn a_completion_queue_serves_all_shards() {
    const ACCEPT: u64 = 1;
    const RECEIVE: u64 = 2;
    const SEND: u64 = 3;
    const CLIENTS: usize = 24;
    let (a, b) = hosts(2, 4);
    let queue = b.completion_queue(QueueOptions::default()).unwrap();
    let group = BufferGroup::new(64, 4096);
    queue.submit(Op::listen(at("0.0.0.0", 7), 64, 0)).unwrap();
    let mut done = Vec::new();
    queue.wait(&mut done, 1, None).unwrap();
    let listener = done[0].socket.unwrap();
    queue
        .submit(Op::accept_multishot(listener, 0).token(ACCEPT))
        .unwrap();
    let server = thread::spawn(move || {
        let (mut done, mut ops, mut left) = (Vec::new(), Vec::new(), CLIENTS);
        while left > 0 {
            let n = queue.wait(&mut done, 64, Some(Duration::from_secs(20)));
            assert!(n.unwrap() > 0);
            for completion in done.drain(..) {
                let socket = completion.socket.unwrap();
                let Ok(n) = completion.result else {
                    // No buffer was left: those that came before are free now.
                    assert_eq!(completion.token, RECEIVE, "{completion:?}");
                    ops.push(Op::receive_multishot(socket, &group).token(RECEIVE));
                    continue;
                };
                match completion.token {
                    ACCEPT => ops.push(Op::receive_multishot(socket, &group).token(RECEIVE)),
                    RECEIVE if n > 0 => {
                        let buffer = completion.bytes().to_vec();
                        ops.push(Op::send(socket, buffer).token(SEND));
                    }
                    RECEIVE => {
                        left -= 1;
                        ops.push(Op::shutdown(socket, Shutdown::Write).token(SEND));
                    }
                    _ => {}
                }
            }
            queue.submit_all(&mut ops).unwrap();
        }
        queue
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let a = a.clone();
            thread::spawn(move || ask(a.tcp_connect(at(B, 7)).unwrap(), n))
        })
        .collect();
    clients.into_iter().for_each(|t| t.join().unwrap());
    drop(server.join().unwrap());
    assert!(count(&b, Count::Steered) > 0);
}

/// Counts what it serves, by TCP and by UDP, and asks the same of another host.
struct Own {
    shard: usize,
    served: Arc<[AtomicUsize; 8]>,
    /// Whom to ask.
    to: Option<SocketAddr>,
}

impl Own {
    const LISTENER: u64 = 1;
    const CLIENT: u64 = 2;
    const DATAGRAMS: u64 = 3;
    const ASKING: u64 = 4;
}

impl App for Own {
    type Command = usize;

    fn on_start(&mut self, cx: &mut ShardCx<'_>) {
        let options = TcpOptions::default();
        let (host, now) = (&mut *cx.host, cx.now);
        let any = at("0.0.0.0", 7);
        let listener = host.tcp_listen(now, any, 128, &options).unwrap();
        host.set_token(listener, Self::LISTENER).unwrap();
        let socket = host.udp_bind(now, any, &UdpOptions::default()).unwrap();
        host.set_token(socket, Self::DATAGRAMS).unwrap();
    }

    /// Asks so many times.
    fn on_command(&mut self, cx: &mut ShardCx<'_>, n: usize) {
        let (host, now) = (&mut *cx.host, cx.now);
        let to = self.to.unwrap();
        for _ in 0..n {
            let options = TcpOptions::default();
            let asking = host.tcp_connect(now, to, None, &options).unwrap();
            host.set_token(asking, Self::CLIENT).unwrap();
            let socket = host.udp_bind(now, at("0.0.0.0", 0), &UdpOptions::default());
            let socket = socket.unwrap();
            host.set_token(socket, Self::ASKING).unwrap();
            host.udp_send_to(now, socket, b"hello", Some(to)).unwrap();
        }
    }

    fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
        let (host, now) = (&mut *cx.host, cx.now);
        let mut buffer = [0; 64];
        let count = || self.served[self.shard].fetch_add(1, Ordering::SeqCst);
        match event.token {
            Self::LISTENER => while host.tcp_accept(now, event.socket).is_ok() {},
            Self::DATAGRAMS | Self::ASKING => {
                while let Ok((n, from)) = host.udp_recv_from(event.socket, &mut buffer) {
                    count();
                    if event.token == Self::DATAGRAMS {
                        host.udp_send_to(now, event.socket, &buffer[..n], Some(from))
                            .unwrap();
                    }
                }
            }
            Self::CLIENT if event.raised.contains(Ready::WRITABLE) => {
                host.tcp_send(now, event.socket, b"hello").unwrap();
                host.set_token(event.socket, Self::CLIENT + 10).unwrap();
            }
            _ => {
                while let Ok(n) = host.tcp_recv(now, event.socket, &mut buffer) {
                    if n == 0 {
                        host.close(now, event.socket).unwrap();
                        break;
                    }
                    count();
                    if event.token != Self::CLIENT + 10 {
                        host.tcp_send(now, event.socket, &buffer[..n]).unwrap();
                    }
                }
            }
        }
    }
}

/// Applications on the shards themselves, one for each: every flow is served where it lives, by TCP and by UDP, and replies come home.
#[test]
fn an_application_on_each_shard() {
    const EACH: usize = 12;
    let (left, right) = ports();
    let served: [Arc<[AtomicUsize; 8]>; 2] = Default::default();
    let mut hosts = Vec::new();
    for (number, port) in [left, right].into_iter().enumerate() {
        let app = |shard| Own {
            shard,
            served: served[number].clone(),
            to: (number == 0).then(|| at(B, 7)),
        };
        let shards = builder(port, number, [3, 4][number]).build_shards_with(app);
        hosts.push(shards.unwrap().spawn().unwrap());
    }
    for asking in hosts[0].handles() {
        asking.post(EACH).unwrap();
    }
    let total =
        |host: usize| -> usize { served[host].iter().map(|n| n.load(Ordering::SeqCst)).sum() };
    let end = Instant::now() + Duration::from_secs(20);
    while [0, 1].map(total) != [2 * 3 * EACH; 2] {
        assert!(Instant::now() < end, "{:?}", [0, 1].map(total));
        thread::sleep(Duration::from_millis(1));
    }
    let by_shard = |host: usize| served[host].each_ref().map(|n| n.load(Ordering::SeqCst));
    assert_eq!(by_shard(0)[..3], [2 * EACH; 3], "replies come home");
    assert!(by_shard(1)[..4].iter().all(|n| *n > 0), "{:?}", by_shard(1));
    // What is left fails when the other end of its port is gone.
    hosts.remove(0).stop().unwrap();
}

/// The same threads as ever may run the shards of a host.
#[test]
fn shards_run_in_threads_of_the_callers() {
    let (left, right) = ports();
    let (shards, sockets) = builder(left, 0, 3).build_shards().unwrap();
    let b = builder(right, 1, 1).start().unwrap();
    let server = echo(&b, at(B, 7), 6);
    thread::scope(|scope| {
        let mut shards = shards.into_shards();
        let handles: Vec<_> = shards.iter().map(|shard| shard.handle()).collect();
        for mut shard in shards.drain(..) {
            scope.spawn(move || shard.run());
        }
        for n in 0..6 {
            let socket = sockets.tcp_connect(at(B, 7), None).unwrap();
            assert!(socket.wait_writable(None));
            let sent = pattern(n, 1000);
            let bytes = std::io::IoSlice::new(&sent);
            assert_eq!(socket.try_write(&[bytes]).unwrap(), 1000);
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            let mut got = Vec::new();
            while got.len() < 1000 {
                assert!(socket.wait_readable(None));
                let mut part = [0; 1000];
                let bytes = std::io::IoSliceMut::new(&mut part);
                let n = socket.try_read(&mut [bytes]).unwrap_or(0);
                got.extend_from_slice(&part[..n]);
            }
            assert!(got == sent);
        }
        // The first ends last.
        handles.iter().rev().for_each(|shard| shard.stop());
    });
    server.join().unwrap();
}

/// What there is cannot do with several shards it refuses.
#[test]
fn what_needs_one_shard_says_so() {
    let (left, right) = ports();
    let error = builder(left, 0, 2).build().unwrap_err().to_string();
    assert!(error.contains("`build_shards`"), "{error}");
    let error = builder(right, 0, 65).start().unwrap_err().to_string();
    assert_eq!(error, "a host has 1 to 64 shards, not 65");
    let (left, right) = ports();
    let two = Host::builder().queues([left, right]).shards(3).start();
    let error = two.unwrap_err().to_string();
    assert!(error.contains("2 are given for 3"), "{error}");
}

/// Lists, counters and settings are of all shards.
#[test]
fn tools_see_all_shards() {
    let (a, b) = hosts(3, 1);
    let listener = b.tcp_listen(at(B, 7)).unwrap();
    let streams: Vec<_> = (0..30).map(|_| a.tcp_connect(at(B, 7)).unwrap()).collect();
    let _accepted: Vec<_> = (0..30).map(|_| listener.accept().unwrap()).collect();
    let sockets: Vec<_> = (0..6).map(|_| a.udp_bind("0.0.0.0:0").unwrap()).collect();
    let snapshot = a.snapshot_with(20).unwrap();
    assert_eq!((snapshot.shards, snapshot.connections.len()), (3, 20));
    let established = (millstream::State::Established, 30);
    assert!(
        snapshot.states.contains(&established),
        "{:?}",
        snapshot.states
    );
    assert_eq!(snapshot.ports.len(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut place, mut listed) = (Some(ListPlace::default()), HashSet::new());
        while let Some(at) = place {
            let again = ListPlace::of(at.number());
            let page = a.list(SocketFilter::ALL, again, 7).await.unwrap();
            assert_eq!(page.total, 36);
            listed.extend(page.rows.iter().map(|row| row.socket.local));
            place = page.next;
        }
        let ends = streams.iter().map(|s| s.local_addr().unwrap());
        let ends = ends.chain(sockets.iter().map(|s| s.local_addr().unwrap()));
        assert_eq!(listed, ends.collect());
        a.tune_tcp("congestion_control", "bbr").await.unwrap();
        assert!(a.tune_tcp("congestion_control", "none").await.is_err());
        let (_, _, counts) = a.counters().await.unwrap();
        assert_eq!(counts.get(Count::TcpActiveOpens), 30);
        let one = b.tcp_memory().await.unwrap();
        assert_eq!(
            a.tcp_memory().await.unwrap().levels,
            one.levels.map(|n| 3 * n)
        );
    });
    for _ in 0..6 {
        let stream = a.tcp_connect(at(B, 7)).unwrap();
        let info = stream.info().unwrap();
        assert!(format!("{info:?}").contains("Bbr"), "{info:?}");
    }
}

/// Counts the frames of some kinds that pass by a port on their way out.
struct Watched {
    port: RingPort,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    arp_probes: AtomicUsize,
    arp_replies: AtomicUsize,
    solicitations_of_nobody: AtomicUsize,
    router_solicitations: AtomicUsize,
}

impl Seen {
    fn look(&self, frame: &[u8]) {
        let what = match (&frame[12..14], frame) {
            ([8, 6], f) if f[21] == 1 && f[28..32] == [0; 4] => &self.arp_probes,
            ([8, 6], f) if f[21] == 2 => &self.arp_replies,
            ([0x86, 0xdd], f) if f[20] == 58 && f[54] == 133 => &self.router_solicitations,
            ([0x86, 0xdd], f) if f[20] == 58 && f[54] == 135 && f[22..38] == [0; 16] => {
                &self.solicitations_of_nobody
            }
            _ => return,
        };
        what.fetch_add(1, Ordering::Relaxed);
    }
}

impl Port for Watched {
    fn facts(&self) -> &PortFacts {
        self.port.facts()
    }
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        self.port.receive(pool, batch)
    }
    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        for packet in batch.iter() {
            let mut head = [0; 64];
            pool.copy_out(&packet.chain, 0, &mut head);
            self.seen.look(&head);
        }
        self.port.transmit(pool, batch)
    }
    fn flush(&mut self, pool: &mut Pool) {
        self.port.flush(pool);
    }
    fn sleep_fd(&self) -> Option<BorrowedFd<'_>> {
        self.port.sleep_fd()
    }
    fn counters(&self) -> PortCounters {
        self.port.counters()
    }
    fn failure(&self) -> Option<&PortError> {
        self.port.failure()
    }
}

/// One shard claims the addresses, answers for them and asks for routers; the others use them when they are claimed.
#[test]
fn one_shard_speaks_for_all() {
    let (left, right) = ports();
    let seen: Arc<Seen> = Arc::default();
    let port = Watched {
        port: left,
        seen: seen.clone(),
    };
    let detecting = Config {
        duplicate_detection: true,
        accept_router_advertisements: true,
        ..config()
    };
    let other = builder(right, 1, 1).start().unwrap();
    let a = builder(port, 0, 4).config(detecting).start().unwrap();
    // Three probes for the one IPv4 address (RFC 5227), one for each of IPv6: the given and the link-local one (RFC 4862).
    assert_eq!(seen.arp_probes.load(Ordering::Relaxed), 3);
    assert_eq!(seen.solicitations_of_nobody.load(Ordering::Relaxed), 2);
    let server = echo(&a, at(A, 7), 8);
    for n in 0..8 {
        ask(other.tcp_connect(at(A, 7)).unwrap(), n);
    }
    server.join().unwrap();
    assert_eq!(
        seen.arp_replies.load(Ordering::Relaxed),
        1,
        "to one question"
    );
    assert!(seen.router_solicitations.load(Ordering::Relaxed) <= 4);
}
