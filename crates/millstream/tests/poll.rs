//! Poll over real hosts: what becomes ready when, sources that come and go, loops that never time out.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use common::{A, B, config, hosts, hosts_with, pattern};
use millstream::event::{Event, Source};
use millstream::{
    Events, Host, Interest, Limits, Poll, TcpListener, TcpStream, Token, UdpSocket, Waker,
};

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
const ONE: Token = Token(1);
const TWO: Token = Token(2);
const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

fn connection(a: &Host, b: &Host) -> (TcpStream, TcpStream) {
    let listener = b.tcp_listen((B, 0)).unwrap();
    let client = a.tcp_connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.set_nonblocking(true).unwrap();
    server.set_nonblocking(true).unwrap();
    (client, server)
}

fn listen(b: &Host) -> TcpListener {
    let listener = b.tcp_listen((B, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// What is ready now.
fn now(poll: &mut Poll) -> Vec<Event> {
    let mut events = Events::with_capacity(64);
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    events.iter().copied().collect()
}

/// Polls until an event is as it must be; what was told before is passed over.
fn until(poll: &mut Poll, what: impl Fn(&Event) -> bool) -> Event {
    let mut events = Events::with_capacity(64);
    let patience = Instant::now() + PATIENCE;
    loop {
        poll.poll(&mut events, Some(Duration::from_secs(1)))
            .unwrap();
        if let Some(event) = events.iter().find(|event| what(event)) {
            return *event;
        }
        assert!(Instant::now() < patience, "it never came");
    }
}

/// Waits until what the host did was told: a socket may be read before the polls that watch it are.
fn raised(host: &Host) {
    host.snapshot().unwrap();
}

#[test]
fn a_connection_is_told_from_its_first_to_its_last() {
    let (a, b) = hosts();
    let mut poll = Poll::new().unwrap();
    let listener = listen(&b);
    let registry = poll.registry().try_clone().unwrap();
    registry
        .register(&listener, ONE, Interest::READABLE)
        .unwrap();
    assert!(now(&mut poll).is_empty());
    let mut client = a.tcp_begin_connect(listener.local_addr().unwrap()).unwrap();
    registry.register(&client, TWO, BOTH).unwrap();
    let connected = until(&mut poll, |event| event.token() == TWO);
    assert!(connected.is_writable() && !connected.is_readable());
    assert!(!connected.is_error() && !connected.is_write_closed());
    assert!(client.take_error().unwrap().is_none());
    assert_eq!(client.peer_addr().unwrap(), listener.local_addr().unwrap());

    // Whether or not the listener was told in the same breath.
    registry
        .reregister(&listener, ONE, Interest::READABLE)
        .unwrap();
    let (mut server, _) = loop {
        match listener.accept() {
            Ok(accepted) => break accepted,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        until(&mut poll, |event| {
            event.token() == ONE && event.is_readable()
        });
    };
    server.write_all(b"hello").unwrap();
    until(&mut poll, |event| {
        event.token() == TWO && event.is_readable()
    });
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 5);
    assert!(now(&mut poll).is_empty());
    server.shutdown(Shutdown::Write).unwrap();
    let end = until(&mut poll, |event| event.is_read_closed());
    assert!(end.is_readable() && !end.is_write_closed() && !end.is_error());
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
    client.shutdown(Shutdown::Write).unwrap();
    until(&mut poll, |event| {
        event.is_read_closed() && event.is_write_closed()
    });
}

#[test]
fn a_refused_connection_is_everything_at_once() {
    let (a, _b) = hosts();
    let mut poll = Poll::new().unwrap();
    let client = a.tcp_begin_connect((B, 9).to_socket_addr()).unwrap();
    poll.registry().register(&client, ONE, BOTH).unwrap();
    let failed = until(&mut poll, |_| true);
    assert!(failed.is_readable() && failed.is_writable() && failed.is_error());
    assert!(failed.is_read_closed() && failed.is_write_closed());
    let why = client.take_error().unwrap().unwrap();
    assert_eq!(why.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(
        client.peer_addr().unwrap_err().kind(),
        ErrorKind::NotConnected
    );
}

trait ToSocketAddr {
    fn to_socket_addr(&self) -> std::net::SocketAddr;
}

impl ToSocketAddr for (&str, u16) {
    fn to_socket_addr(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::new(self.0.parse().unwrap(), self.1)
    }
}

#[test]
fn a_reset_is_an_error() {
    let (a, b) = hosts();
    let (mut client, server) = connection(&a, &b);
    let mut poll = Poll::new().unwrap();
    poll.registry()
        .register(&client, ONE, Interest::WRITABLE)
        .unwrap();
    server.set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    let reset = until(&mut poll, Event::is_error);
    assert!(reset.is_write_closed() && reset.is_read_closed());
    assert_eq!(
        client.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn edges_levels_and_one_shots() {
    let (a, b) = hosts();
    let mut poll = Poll::new().unwrap();
    let interests = [
        Interest::READABLE,
        Interest::READABLE.level(),
        Interest::READABLE.one_shot(),
    ];
    let mut pairs: Vec<_> = interests.map(|_| connection(&a, &b)).into();
    // What came before is told, whatever the way.
    for (client, _) in &mut pairs {
        client.write_all(b"early").unwrap();
    }
    for (at, (_, server)) in pairs.iter().enumerate() {
        while server.peek(&mut [0; 8]).is_err() {
            thread::yield_now();
        }
        let registry = poll.registry();
        registry.register(server, Token(at), interests[at]).unwrap();
    }
    let told = |poll: &mut Poll| {
        let mut tokens: Vec<usize> = now(poll).iter().map(|event| event.token().0).collect();
        tokens.sort_unstable();
        tokens
    };
    assert_eq!(told(&mut poll), [0, 1, 2]);
    assert_eq!(told(&mut poll), [1], "the level lasts");
    for (client, server) in &mut pairs {
        client.write_all(b"more").unwrap();
        while server.peek(&mut [0; 16]).unwrap() < 9 {
            thread::yield_now();
        }
    }
    raised(&b);
    assert_eq!(told(&mut poll), [0, 1], "the edge is new");
    let last = &pairs[2].1;
    poll.registry()
        .reregister(last, Token(7), interests[2])
        .unwrap();
    assert_eq!(told(&mut poll), [1, 7]);
    for (_, server) in &mut pairs {
        assert_eq!(server.read(&mut [0; 16]).unwrap(), 9);
    }
    assert!(told(&mut poll).is_empty());
}

#[test]
fn room_to_write_is_told_when_the_peer_reads() {
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    let (a, b) = hosts_with(config(), limits);
    let (mut client, mut server) = connection(&a, &b);
    let mut poll = Poll::new().unwrap();
    poll.registry()
        .register(&client, ONE, Interest::WRITABLE)
        .unwrap();
    until(&mut poll, Event::is_writable);
    let data = pattern(0, 60_000);
    let mut written = 0;
    let full = loop {
        match client.write(&data) {
            Ok(n) => written += n,
            Err(_) if !now(&mut poll).is_empty() => {}
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut buffer = vec![0; 1 << 20];
            let mut read = 0;
            while read < written {
                match server.read(&mut buffer) {
                    Ok(n) => read += n,
                    Err(_) => thread::yield_now(),
                }
            }
        });
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, None).unwrap();
        assert!(events.iter().all(Event::is_writable) && !events.is_empty());
        reader.join().unwrap();
    });
    assert!(client.write(&data).unwrap() > 0);
}

#[test]
fn datagrams_and_their_errors() {
    let (a, b) = hosts();
    let (mine, theirs) = (a.udp_bind((A, 0)).unwrap(), b.udp_bind((B, 7)).unwrap());
    let mut poll = Poll::new().unwrap();
    poll.registry()
        .register(&theirs, ONE, Interest::READABLE)
        .unwrap();
    poll.registry().register(&mine, TWO, BOTH).unwrap();
    let ready = until(&mut poll, |event| event.token() == TWO);
    assert!(ready.is_writable() && !ready.is_readable());
    mine.connect((B, 7)).unwrap();
    mine.send(b"hello").unwrap();
    until(&mut poll, |event| {
        event.token() == ONE && event.is_readable()
    });
    assert_eq!(theirs.recv_from(&mut [0; 16]).unwrap().0, 5);
    drop(theirs);
    while mine.send(b"anybody?").is_ok() {
        if now(&mut poll).iter().any(Event::is_error) {
            let why = mine.take_error().unwrap().unwrap();
            assert_eq!(why.kind(), ErrorKind::ConnectionRefused);
            return;
        }
    }
}

#[test]
fn sources_of_several_hosts_are_in_one_poll() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b);
    let mut poll = Poll::new().unwrap();
    for (stream, token) in [(&client, ONE), (&server, TWO)] {
        let how = Interest::READABLE.level();
        poll.registry().register(stream, token, how).unwrap();
    }
    client.write_all(b"x").unwrap();
    server.write_all(b"x").unwrap();
    for token in [ONE, TWO] {
        until(&mut poll, |event| event.token() == token);
    }
}

#[test]
fn of_thousands_of_sources_those_that_are_ready_are_told_in_order() {
    let mut sizes = config();
    sizes.udp_sockets = 3_000;
    let (a, b) = hosts_with(sizes, Limits::default());
    let mut poll = Poll::with_capacity(3_000).unwrap();
    let sockets: Vec<UdpSocket> = (0..2_500u16)
        .map(|at| {
            let socket = b.udp_bind((B, 10_000 + at)).unwrap();
            let token = Token(at.into());
            poll.registry()
                .register(&socket, token, Interest::READABLE.level())
                .unwrap();
            socket
        })
        .collect();
    assert_eq!(poll.registry().len(), 2_500);
    let sender = a.udp_bind((A, 0)).unwrap();
    let chosen = [2_499u16, 3, 1_700, 4, 0];
    for at in chosen {
        sender.send_to(b"you", (B, 10_000 + at)).unwrap();
        assert!(sockets[usize::from(at)].peek_from(&mut [0; 8]).is_ok());
    }
    raised(&b);
    // Fewer than are ready: the rest comes first the next time, then those that still are.
    let mut seen = Vec::new();
    let mut events = Events::with_capacity(2);
    for _ in 0..5 {
        poll.poll(&mut events, None).unwrap();
        seen.extend(events.iter().map(|event| event.token().0));
    }
    let expected: Vec<usize> = chosen
        .iter()
        .cycle()
        .take(10)
        .map(|at| (*at).into())
        .collect();
    assert_eq!(seen, expected);
    drop(sockets);
    assert!(poll.registry().is_empty());
    assert!(now(&mut poll).is_empty());
}

#[test]
fn a_source_is_there_until_its_last_handle_goes() {
    let (a, b) = hosts();
    let (mut client, server) = connection(&a, &b);
    let mut poll = Poll::new().unwrap();
    let clone = server.try_clone().unwrap();
    let registry = poll.registry();
    registry.register(&server, ONE, Interest::READABLE).unwrap();
    let again = registry.register(&clone, TWO, Interest::READABLE);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    drop(server);
    client.write_all(b"x").unwrap();
    until(&mut poll, |event| event.token() == ONE);
    client.write_all(b"x").unwrap();
    drop(clone);
    assert!(poll.registry().is_empty());
    assert!(now(&mut poll).is_empty());
}

#[test]
fn a_poll_that_is_dropped_leaves_its_sources_as_they_are() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b);
    server.set_nonblocking(false).unwrap();
    let writer = thread::spawn(move || {
        for at in 0..2_000 {
            while client.write(&pattern(at, 1)).is_err() {}
        }
        client
    });
    for round in 0..100 {
        let mut poll = Poll::with_capacity(4).unwrap();
        let waker = Waker::new(poll.registry(), TWO).unwrap();
        let how = Interest::READABLE.level();
        poll.registry().register(&server, ONE, how).unwrap();
        if round % 2 == 0 {
            now(&mut poll);
        }
        let registry = poll.registry().try_clone().unwrap();
        drop(poll);
        assert_eq!(registry.len(), 2, "a registry keeps it");
        drop(registry);
        waker.wake().unwrap();
    }
    let client = writer.join().unwrap();
    drop(client);
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    assert!(got == (0..2_000).flat_map(|at| pattern(at, 1)).collect::<Vec<_>>());
}

#[test]
fn a_host_that_stops_is_told() {
    let (a, b) = hosts();
    let (client, mut server) = connection(&a, &b);
    let socket = b.udp_bind((B, 7)).unwrap();
    let listener = listen(&b);
    let mut poll = Poll::new().unwrap();
    let sources: [&dyn Source; 3] = [&server, &socket, &listener];
    for (at, source) in sources.iter().enumerate() {
        poll.registry()
            .register(*source, Token(at), Interest::READABLE)
            .unwrap();
    }
    b.stop().unwrap();
    let mut told = HashMap::new();
    while told.len() < 3 {
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(PATIENCE)).unwrap();
        assert!(!events.is_empty(), "they were not told");
        let over = events.iter().filter(|event| event.is_read_closed());
        told.extend(over.map(|event| (event.token(), *event)));
    }
    assert!(
        told.values()
            .all(|e| e.is_readable() && e.is_write_closed())
    );
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    let registry = poll.registry();
    registry.deregister(&server).unwrap();
    let late = registry.register(&server, ONE, Interest::READABLE);
    assert_eq!(late.unwrap_err().kind(), ErrorKind::NotConnected);
    assert!(server.write(b"x").is_err());
    drop(client);
}

#[test]
fn misuse_is_an_error() {
    let (a, b) = hosts();
    let (client, server) = connection(&a, &b);
    let mut poll = Poll::with_capacity(1).unwrap();
    let registry = poll.registry().try_clone().unwrap();
    let kind = |result: std::io::Result<()>| result.unwrap_err().kind();
    let missing = registry.reregister(&client, ONE, Interest::READABLE);
    assert_eq!(kind(missing), ErrorKind::NotFound);
    assert_eq!(kind(registry.deregister(&client)), ErrorKind::NotFound);
    let odd = (Interest::READABLE | Interest::PRIORITY).exclusive();
    assert_eq!(
        kind(registry.register(&client, ONE, odd)),
        ErrorKind::InvalidInput
    );
    let alone = Interest::READABLE.exclusive();
    registry.register(&client, ONE, alone).unwrap();
    assert_eq!(
        kind(registry.reregister(&client, ONE, Interest::READABLE)),
        ErrorKind::InvalidInput
    );
    let full = registry.register(&server, TWO, Interest::READABLE);
    assert_eq!(kind(full), ErrorKind::StorageFull);
    assert!(Waker::new(&registry, TWO).is_err());
    let nowhere = poll.poll(&mut Events::with_capacity(0), None);
    assert_eq!(kind(nowhere), ErrorKind::InvalidInput);
    assert!(Poll::with_capacity(usize::MAX).is_err());
    assert!(Poll::with_capacity(0).is_ok());
}

#[test]
fn of_polls_that_share_a_listener_one_is_woken_for_each_connection() {
    let (a, b) = hosts();
    let listener = listen(&b);
    let port = listener.local_addr().unwrap().port();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (sender, accepted) = std::sync::mpsc::channel();
    let mut wakers = Vec::new();
    thread::scope(|scope| {
        for _ in 0..3 {
            let mut poll = Poll::with_capacity(8).unwrap();
            wakers.push(Waker::new(poll.registry(), TWO).unwrap());
            let alone = Interest::READABLE.exclusive();
            poll.registry().register(&listener, ONE, alone).unwrap();
            let (listener, stop, sender) = (&listener, &stop, sender.clone());
            scope.spawn(move || {
                let mut events = Events::with_capacity(8);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    poll.poll(&mut events, None).unwrap();
                    while let Ok((stream, _)) = listener.accept() {
                        sender.send(stream).unwrap();
                    }
                }
            });
        }
        for _ in 0..200 {
            let client = a.tcp_connect((B, port)).unwrap();
            let server = accepted.recv_timeout(PATIENCE).unwrap();
            assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for waker in &wakers {
            waker.wake().unwrap();
        }
    });
}

/// A server that sends everything back, in one poll without a timeout, until it is woken.
fn echo(mut poll: Poll, listener: &TcpListener, how: Interest) {
    let mut streams: HashMap<Token, (TcpStream, Vec<u8>)> = HashMap::new();
    let mut events = Events::with_capacity(8);
    let mut next = 10;
    poll.registry()
        .register(listener, ONE, Interest::READABLE)
        .unwrap();
    loop {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            if event.token() == TWO {
                return;
            }
            if event.token() == ONE {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    poll.registry().register(&stream, Token(next), how).unwrap();
                    streams.insert(Token(next), (stream, Vec::new()));
                    next += 1;
                }
                continue;
            }
            let Some((stream, waiting)) = streams.get_mut(&event.token()) else {
                continue;
            };
            if !answer(stream, waiting) {
                streams.remove(&event.token());
            }
        }
    }
}

/// Sends back what is there, as far as there is room. Whether the stream goes on.
fn answer(stream: &mut TcpStream, waiting: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    loop {
        while !waiting.is_empty() {
            match stream.write(waiting) {
                Ok(n) => drop(waiting.drain(..n)),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => waiting.extend(&buffer[..n]),
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// One wake-up that is lost, on either side, and this never ends.
#[test]
fn no_wake_up_is_lost() {
    let rounds: usize = std::env::var("POLL_ROUNDS").map_or(60, |n| n.parse().unwrap());
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    for how in [BOTH, Interest::READABLE.level()] {
        let (a, b) = hosts_with(config(), limits);
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), TWO).unwrap();
        let listener = listen(&b);
        let address = listener.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| echo(poll, &listener, how));
            talk(&a, address, how, rounds);
            waker.wake().unwrap();
        });
    }
}

/// Says `rounds` times something of changing length on each of many connections, each time when the answer is complete.
fn talk(a: &Host, address: std::net::SocketAddr, how: Interest, rounds: usize) {
    const STREAMS: usize = 24;
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(5);
    let mut talks: Vec<(TcpStream, usize, usize)> = (0..STREAMS)
        .map(|at| {
            let stream = a.tcp_connect(address).unwrap();
            stream.set_nonblocking(true).unwrap();
            poll.registry().register(&stream, Token(at), how).unwrap();
            (stream, 0, 0)
        })
        .collect();
    let len = |at: usize, round: usize| 1 + (at * 7_919 + round * 104_729) % 9_000;
    for (at, (stream, ..)) in talks.iter_mut().enumerate() {
        assert_eq!(stream.write(&pattern(0, len(at, 0))).unwrap(), len(at, 0));
    }
    let mut open = STREAMS;
    let mut buffer = [0; 3_000];
    while open > 0 {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            let at = event.token().0;
            let (stream, round, got) = &mut talks[at];
            while *round < rounds {
                let Ok(n) = stream.read(&mut buffer) else {
                    break;
                };
                assert!(
                    n > 0 && buffer[..n] == pattern(*got, n),
                    "the answer is another"
                );
                *got += n;
                if *got < len(at, *round) {
                    continue;
                }
                (*round, *got) = (*round + 1, 0);
                if *round == rounds {
                    open -= 1;
                } else {
                    let next = len(at, *round);
                    assert_eq!(stream.write(&pattern(0, next)).unwrap(), next);
                }
            }
        }
    }
}

/// Who is told that there is room, and writes until there is none, holds no more than the buffers; and hears when there is again.
#[test]
fn a_peer_that_never_reads_is_never_writable_again() {
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    let mut sizes = config();
    sizes.tcp_receive_buffer = Some(128 * 1024);
    sizes.tcp_send_buffer = Some(128 * 1024);
    let (a, b) = hosts_with(sizes, limits);
    let (mut client, mut server) = connection(&a, &b);
    let mut poll = Poll::new().unwrap();
    poll.registry()
        .register(&server, ONE, Interest::WRITABLE)
        .unwrap();
    let bound = 2 * (Limits::MIN + 128 * 1024) + 64 * 1024;
    let data = pattern(0, 4 * bound);
    let (mut written, mut waits) = (0, 0);
    let mut events = Events::with_capacity(8);
    while waits < 10 {
        poll.poll(&mut events, Some(Duration::from_millis(10)))
            .unwrap();
        waits += 1;
        while !events.is_empty()
            && let Ok(n) = server.write(&data[written..])
        {
            (written, waits) = (written + n, 0);
            assert!(written <= bound, "{written} of {bound}");
        }
    }
    let full = server.write(&data[written..]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    let blocks = a.snapshot().unwrap().pool.in_use + b.snapshot().unwrap().pool.in_use;
    assert!(blocks as usize * 2048 <= 4 * bound, "{blocks} blocks");

    client.set_nonblocking(false).unwrap();
    let mut got = vec![0; written];
    client.read_exact(&mut got).unwrap();
    assert!(got == data[..written]);
    assert!(until(&mut poll, |event| event.token() == ONE).is_writable());
    assert!(server.write(b"more").is_ok());
}
