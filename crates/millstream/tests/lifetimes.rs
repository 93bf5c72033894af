//! What happens to sockets whose other end, host, thread or time goes away.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use common::{A, B, config, hosts, hosts_with, pattern};
use millstream::reuseport::ReusePort;
use millstream::{Host, Limits, State, TcpStream};

/// Waits until `host` has so many connections in this state.
fn await_state(host: &Host, state: State, wanted: u64) {
    let now = |host: &Host| {
        let states = host.snapshot().unwrap().states;
        let found = states.iter().find(|(of, _)| *of == state);
        found.map_or(0, |(_, n)| *n)
    };
    while now(host) != wanted {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until `host` has so many established connections.
fn await_established(host: &Host, wanted: u64) {
    await_state(host, State::Established, wanted);
}

fn connection(a: &Host, b: &Host) -> (TcpStream, TcpStream) {
    let listener = b.tcp_listen((B, 0)).unwrap();
    let client = a.tcp_connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// As Linux: inet_csk_listen_stop.
#[test]
fn a_listener_that_goes_resets_whom_nobody_accepted() {
    let (a, b) = hosts();
    for stop in [false, true] {
        let listener = b.tcp_listen((B, 80)).unwrap();
        let mut clients: Vec<_> = (0..5).map(|_| a.tcp_connect((B, 80)).unwrap()).collect();
        await_established(&b, 5);
        if stop {
            b.stop().unwrap();
        } else {
            drop(listener);
        }
        for client in &mut clients {
            let reset = client.read(&mut [0; 1]).unwrap_err();
            assert_eq!(reset.kind(), ErrorKind::ConnectionReset, "stop {stop}");
        }
    }
}

/// Linux's tcp_migrate_req, also for what the shard has accepted already.
#[test]
fn whom_nobody_accepted_goes_to_who_shares_the_address() {
    let (a, b) = hosts();
    let mut options = b.tcp_options();
    let alone = b.tcp_listen((B, 81)).unwrap();
    let refused = alone.share_by(ReusePort::Standby).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    options.reuse_port = true;
    let listen = || b.tcp_listen_with((B, 80), 8, &options).unwrap();
    let (first, second) = (listen(), listen());
    first.share_by(ReusePort::Standby).unwrap();
    let mut clients: Vec<_> = (0..12).map(|_| a.tcp_connect((B, 80)).unwrap()).collect();
    await_established(&b, 12);
    drop(first);
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    for _ in 0..12 {
        let (mut server, _) = second.accept().unwrap();
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }
}

#[test]
fn a_small_backlog_is_small() {
    let (a, b) = hosts();
    let listener = b.tcp_listen_backlog((B, 80), 1).unwrap();
    let target = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..12)
        .filter_map(|_| {
            a.tcp_connect_timeout(&target, Duration::from_millis(20))
                .ok()
        })
        .collect();
    // One ahead, and two in the stack's queue as with Linux's listen(2); the client of a dropped ACK thinks it is connected.
    assert!(clients.len() <= 4, "{} connected", clients.len());
    drop(clients);
    // Whoever comes later is served.
    let server = thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = [0; 4];
            if stream.read_exact(&mut line).is_ok() {
                return stream.write_all(&line).unwrap();
            }
        }
    });
    let mut client = a.tcp_connect(target).unwrap();
    client.write_all(b"late").unwrap();
    let mut line = [0; 4];
    client.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"late");
    server.join().unwrap();
}

#[test]
fn shutdown_wakes_a_blocked_reader_and_writer() {
    let (a, b) = hosts();
    let (client, _server) = connection(&a, &b);
    // More than buffers grow to on both sides.
    let data = pattern(0, 32 << 20);
    thread::scope(|scope| {
        let reader = scope.spawn(|| (&client).read(&mut [0; 1]));
        // Nobody reads at the other end.
        let writer = scope.spawn(|| (&client).write_all(&data));
        while client.info().unwrap().send_window > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        client.shutdown(Shutdown::Both).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 0);
        let broken = writer.join().unwrap().unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
    });
}

/// Two threads write and two read, with handles of their own: every byte arrives once.
#[test]
fn many_threads_on_one_stream() {
    const TOTAL: usize = 4 << 20;
    let (a, b) = hosts();
    let (client, server) = connection(&a, &b);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mut stream = client.try_clone().unwrap();
                scope.spawn(move || {
                    let (mut buffer, mut n, mut sum) = ([0; 3_000], 0, 0u64);
                    while let Ok(len @ 1..) = stream.read(&mut buffer) {
                        n += len;
                        sum += buffer[..len].iter().map(|b| u64::from(*b)).sum::<u64>();
                    }
                    (n, sum)
                })
            })
            .collect();
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let mut stream = server.try_clone().unwrap();
                scope.spawn(move || stream.write_all(&[3; TOTAL / 2]).unwrap())
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        server.shutdown(Shutdown::Write).unwrap();
        let (n, sum) = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        assert_eq!((n, sum), (TOTAL, 3 * TOTAL as u64));
    });
}

/// Dropped while data is on its way both ways and calls are blocked: nothing hangs.
#[test]
fn a_host_dropped_under_its_sockets() {
    let (a, b) = hosts();
    let (client, mut server) = connection(&a, &b);
    let socket = a.udp_bind((A, 0)).unwrap();
    let listener = a.tcp_listen((A, 0)).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| (&client).read(&mut [0; 1]).unwrap_err());
        let receiver = scope.spawn(|| socket.recv(&mut [0; 1]).unwrap_err());
        let acceptor = scope.spawn(|| listener.accept().unwrap_err());
        thread::sleep(Duration::from_millis(5));
        drop(a);
        for waiter in [reader, receiver, acceptor] {
            let stopped = waiter.join().unwrap();
            assert_eq!(stopped.kind(), ErrorKind::NotConnected);
            assert!(stopped.to_string().contains("stopped"));
        }
    });
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0, "the peer saw a FIN");
    assert!(socket.send_to(b"x", (B, 9)).is_err());
    assert!((&client).write(b"x").is_err());
}

/// The stack bounds how long a connection that nobody holds waits for its peer; so it must hear at once that nobody does, although
/// the peer takes nothing more and the send buffer is full.
#[test]
fn a_stream_dropped_before_a_closed_window_is_the_stacks() {
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    let mut sizes = config();
    sizes.tcp_receive_buffer = Some(64 * 1024);
    sizes.tcp_send_buffer = Some(64 * 1024);
    let (a, b) = hosts_with(sizes, limits);
    let (mut client, mut server) = connection(&a, &b);
    server
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let data = pattern(0, 4 * (Limits::MIN + 64 * 1024));
    let mut written = 0;
    while let Ok(n) = server.write(&data[written..]) {
        written += n;
    }
    drop(server);
    await_state(&b, State::FinWait1, 1);
    // Nothing of it is lost.
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == data[..written]);
}
