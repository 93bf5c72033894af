//! The sockets with std's face, between two hosts joined by memory.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{A, B, config, hosts, hosts_with, pattern};
use millstream::{Host, Limits, TcpListener, TcpStream, UdpSocket};

#[test]
fn everything_is_send_and_sync() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Host>();
    check::<TcpListener>();
    check::<TcpStream>();
    check::<UdpSocket>();
    check::<millstream::Error>();
    check::<millstream::ShardSnapshot>();
}

/// A connection from the first host to the second: the two ends.
fn connection(a: &Host, b: &Host) -> (TcpStream, TcpStream) {
    let listener = b.tcp_listen((B, 0)).unwrap();
    let client = a.tcp_connect(listener.local_addr().unwrap()).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert_eq!(client.local_addr().unwrap(), peer);
    assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
    (client, server)
}

/// Without a port there is nobody to speak with but itself.
#[test]
fn a_host_without_a_port_speaks_with_itself() {
    const PATIENCE: Duration = Duration::from_secs(60);
    for shards in [1, 3] {
        let host = Host::builder().config(config()).shards(shards);
        let host = host.start().unwrap();
        for own in ["127.0.0.1:0", "[::1]:0"] {
            let listener = host.tcp_listen(own).unwrap();
            let target = listener.local_addr().unwrap();
            let mut client = host.tcp_connect_timeout(&target, PATIENCE).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            let data = pattern(0, 300_000);
            let sent = data.clone();
            let sender = thread::spawn(move || client.write_all(&sent).unwrap());
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut got = Vec::new();
            server.read_to_end(&mut got).unwrap();
            sender.join().unwrap();
            assert!(got == data);

            let (one, two) = (host.udp_bind(own).unwrap(), host.udp_bind(own).unwrap());
            one.send_to(b"hello", two.local_addr().unwrap()).unwrap();
            two.set_read_timeout(Some(PATIENCE)).unwrap();
            let received = two.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(received, (5, one.local_addr().unwrap()));
        }
        host.stop().unwrap();
    }
}

#[test]
fn echo_over_both_families() {
    let (a, b) = hosts();
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let listener = b.tcp_listen(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let target: SocketAddr = if listen.starts_with('[') {
            format!("[fd77::2]:{port}").parse().unwrap()
        } else {
            format!("{B}:{port}").parse().unwrap()
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut buffer = vec![0; 10_000];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..n]).unwrap();
                }
            });
            let stream = a.tcp_connect(target).unwrap();
            let data = pattern(0, 1_000_000);
            let writer = stream.try_clone().unwrap();
            let sent = data.clone();
            scope.spawn(move || {
                (&writer).write_all(&sent).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut got = Vec::new();
            (&stream).read_to_end(&mut got).unwrap();
            assert!(got == data);
        });
    }
}

#[test]
fn nobody_listens() {
    let (a, _b) = hosts();
    let refused = a.tcp_connect((B, 81)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn nobody_answers() {
    let (a, _b) = hosts();
    let silent: SocketAddr = "10.77.0.99:80".parse().unwrap();
    let late = a
        .tcp_connect_timeout(&silent, Duration::from_millis(50))
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    let none = a.tcp_connect_timeout(&silent, Duration::ZERO).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::InvalidInput);
    let nowhere = a.tcp_connect("203.0.113.1:80").unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NetworkUnreachable);
}

#[test]
fn addresses_in_use_or_not_ours() {
    let (a, _b) = hosts();
    let first = a.tcp_listen((A, 80)).unwrap();
    assert_eq!(
        a.tcp_listen((A, 80)).unwrap_err().kind(),
        ErrorKind::AddrInUse
    );
    assert_eq!(
        a.tcp_listen("10.1.2.3:80").unwrap_err().kind(),
        ErrorKind::AddrNotAvailable
    );
    drop(first);
    a.tcp_listen((A, 80)).unwrap();
    let _bound = a.udp_bind((A, 53)).unwrap();
    assert_eq!(
        a.udp_bind((A, 53)).unwrap_err().kind(),
        ErrorKind::AddrInUse
    );
}

#[test]
fn half_close_works_both_ways() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        client.write(b"late").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    let mut question = String::new();
    server.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    server
        .write_all(b"answer after the end of the question")
        .unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer after the end of the question");
    assert_eq!(
        client.read(&mut [0; 8]).unwrap(),
        0,
        "the end stays the end"
    );
}

#[test]
fn a_reset_is_told_once() {
    let (a, b) = hosts();
    let (mut client, server) = connection(&a, &b);
    server.set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    let mut buffer = [0; 8];
    assert_eq!(
        client.read(&mut buffer).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(client.read(&mut buffer).unwrap(), 0);
    assert_eq!(
        client.write(b"x").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
}

#[test]
fn dropping_unread_data_resets() {
    let (a, b) = hosts();
    let (mut client, server) = connection(&a, &b);
    client.write_all(b"nobody reads this").unwrap();
    let mut first = [0; 1];
    assert_eq!(server.peek(&mut first).unwrap(), 1);
    drop(server);
    assert_eq!(
        client.read(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn dropping_after_writing_delivers_everything() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b);
    let data = pattern(3, 3_000_000);
    let sent = data.clone();
    let writer = thread::spawn(move || {
        server.write_all(&sent).unwrap();
        // The last handle goes while a lot is still queued.
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(got == data);
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer() {
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    let mut sizes = config();
    sizes.tcp_receive_buffer = Some(128 * 1024);
    sizes.tcp_send_buffer = Some(128 * 1024);
    let (a, b) = hosts_with(sizes, limits);
    let (mut client, mut server) = connection(&a, &b);
    server.set_nonblocking(true).unwrap();
    // Everything between the two programs: two records, two stacks.
    let bound = 2 * (Limits::MIN + 128 * 1024) + 64 * 1024;
    let data = pattern(0, 4 * bound);
    let (mut written, mut waits) = (0, 0);
    while waits < 50 {
        match server.write(&data[written..]) {
            Ok(n) => {
                written += n;
                waits = 0;
                assert!(
                    written <= bound,
                    "{written} bytes were taken, at most {bound} have room"
                );
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                waits += 1;
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
    let blocks = a.snapshot().unwrap().pool.in_use + b.snapshot().unwrap().pool.in_use;
    assert!(blocks as usize * 2048 <= 4 * bound, "{blocks} blocks");
    server.set_nonblocking(false).unwrap();
    let rest = data.clone();
    let writer = thread::spawn(move || server.write_all(&rest[written..]).unwrap());
    let mut got = vec![0; data.len()];
    client.read_exact(&mut got).unwrap();
    assert!(got == data);
    writer.join().unwrap();
}

#[test]
fn timeouts_and_non_blocking() {
    let (a, b) = hosts();
    let (mut client, _server) = connection(&a, &b);
    client
        .set_read_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    assert_eq!(
        client.read_timeout().unwrap(),
        Some(Duration::from_millis(5))
    );
    assert_eq!(
        client.read(&mut [0; 4]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    client.set_nonblocking(true).unwrap();
    assert_eq!(
        client.peek(&mut [0; 4]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    let listener = a.tcp_listen((A, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let socket = a.udp_bind((A, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    assert_eq!(
        socket.recv(&mut [0; 4]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn options_and_info() {
    let (a, b) = hosts();
    let (client, _server) = connection(&a, &b);
    client.set_nodelay(true).unwrap();
    client.set_ttl(33).unwrap();
    assert!(client.nodelay().unwrap());
    assert_eq!(client.ttl().unwrap(), 33);
    assert_eq!(
        client.set_ttl(0).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        client.set_ttl(256).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    client
        .set_keepalive(Some(millstream::Keepalive::default()))
        .unwrap();
    assert!(client.keepalive().unwrap().is_some());
    assert_eq!(client.info().unwrap().state, millstream::State::Established);
    assert!(client.take_error().unwrap().is_none());
}

/// A call that blocks takes everything, of several buffers, too; with a time limit, what it took until then.
#[test]
fn a_blocking_write_takes_all_its_buffers() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b);
    let pieces = [0, 700_000, 5, 0, 2_000_000].map(|len| pattern(len, len));
    let whole = pieces.concat();
    let expected = whole.clone();
    let writer = thread::spawn(move || {
        let bufs: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let taken = client.write_vectored(&bufs).unwrap();
        client
            .set_write_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let mut more = Vec::new();
        let late = loop {
            match client.write_vectored(&bufs) {
                Ok(n) => more.push(n),
                Err(error) => break error,
            }
        };
        (taken, more, late.kind(), client)
    });
    let mut got = vec![0; whole.len()];
    server.read_exact(&mut got).unwrap();
    assert!(got == expected);
    let (taken, more, late, _client) = writer.join().unwrap();
    assert_eq!((taken, late), (whole.len(), ErrorKind::WouldBlock));
    // A call whose time was up told of what it had taken: nothing is lost.
    for taken in more {
        server.read_exact(&mut got[..taken]).unwrap();
        assert!(got[..taken] == expected[..taken]);
    }
    server.set_nonblocking(true).unwrap();
    let none = server.read(&mut [0; 1]).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
}

/// Options that must be there before the first segment, and a listener that leaves IPv4 to another.
#[test]
fn options_from_the_beginning() {
    let (a, b) = hosts();
    let mut options = b.tcp_options();
    options.only_v6 = true;
    options.nodelay = true;
    let six = b.tcp_listen_with("[::]:80", 16, &options).unwrap();
    let refused = a.tcp_connect((B, 80)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    #[allow(deprecated)]
    let alone = |listener: &TcpListener| listener.only_v6().unwrap();
    assert!(alone(&six) && !alone(&b.tcp_listen("[::]:81").unwrap()));
    six.set_options(|options| options.only_v6 = false).unwrap();
    assert!(alone(&six), "that was settled when it was made");
    let four = b.tcp_listen("0.0.0.0:80").unwrap();
    let mut options = a.tcp_options();
    options.max_segment = Some(600);
    let own: SocketAddr = format!("{A}:4000").parse().unwrap();
    let client = a.tcp_connect_with((B, 80), Some(own), &options).unwrap();
    assert_eq!(four.accept().unwrap().1, own);
    assert!(client.info().unwrap().mss <= 600);
    let again = a.tcp_connect_with((B, 80), Some(own), &options);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
    let foreign: SocketAddr = format!("{B}:0").parse().unwrap();
    let foreign = a.tcp_connect_with((B, 80), Some(foreign), &options);
    assert_eq!(foreign.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    let _client = a.tcp_connect("[fd77::2]:80").unwrap();
    assert!(six.accept().unwrap().0.nodelay().unwrap());
}

#[test]
fn udp_echo_peek_connect_and_refusal() {
    let (a, b) = hosts();
    let server = b.udp_bind((B, 7)).unwrap();
    let client = a.udp_bind((A, 0)).unwrap();
    client.send_to(b"hello", (B, 7)).unwrap();
    let mut buffer = [0; 100];
    let (n, from) = server.peek_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..n], from),
        (&b"hello"[..], client.local_addr().unwrap())
    );
    assert_eq!(
        server.recv_from(&mut buffer[..2]).unwrap(),
        (2, from),
        "what does not fit is cut off"
    );
    assert_eq!(
        client.send(b"x").unwrap_err().raw_os_error(),
        Some(89),
        "EDESTADDRREQ"
    );
    client.connect((B, 7)).unwrap();
    client.send(b"again").unwrap();
    let (n, from) = server.recv_from(&mut buffer).unwrap();
    server.send_to(&buffer[..n], from).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 5);
    assert_eq!(
        client.send(&vec![0; 65_508]).unwrap_err().raw_os_error(),
        Some(90),
        "EMSGSIZE"
    );
    assert_eq!(
        client
            .send_to(b"all", "255.255.255.255:9")
            .unwrap_err()
            .kind(),
        ErrorKind::PermissionDenied
    );
    drop(server);
    let lonely = a.udp_bind((A, 0)).unwrap();
    lonely.connect((B, 9)).unwrap();
    lonely.send(b"anybody?").unwrap();
    assert_eq!(
        lonely.recv(&mut buffer).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[test]
fn udp_of_every_size() {
    let (a, b) = hosts();
    let server = b.udp_bind((B, 7)).unwrap();
    let client = a.udp_bind((A, 0)).unwrap();
    client.connect((B, 7)).unwrap();
    let mut buffer = vec![0; 70_000];
    for size in [0, 1, 1472, 1473, 9_000, 65_507] {
        let data = pattern(size, size);
        client.send(&data).unwrap();
        let (n, from) = server.recv_from(&mut buffer).unwrap();
        assert!(buffer[..n] == data, "{size}");
        server.send_to(&data, from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), size);
    }
}

#[test]
fn a_thousand_connections() {
    const CONNECTIONS: usize = 1_000;
    const BYTES: usize = 8 * 1024;
    let (a, b) = hosts();
    let listener = b.tcp_listen_backlog((B, 80), 512).unwrap();
    let target = listener.local_addr().unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        // All are open at the same time: servers answer only once every client has connected.
        let server = scope.spawn(|| {
            (0..CONNECTIONS)
                .map(|_| listener.accept().unwrap().0)
                .collect::<Vec<_>>()
        });
        let clients: Vec<_> = (0..8)
            .map(|part| {
                let a = &a;
                scope.spawn(move || {
                    (part * CONNECTIONS / 8..(part + 1) * CONNECTIONS / 8)
                        .map(|_| a.tcp_connect(target).unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let clients: Vec<TcpStream> = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect();
        let mut servers = server.join().unwrap();
        assert_eq!(
            b.snapshot()
                .unwrap()
                .states
                .iter()
                .find(|(state, _)| *state == millstream::State::Established)
                .unwrap()
                .1,
            CONNECTIONS as u64
        );
        for (n, mut client) in clients.iter().enumerate() {
            client.write_all(&pattern(n, BYTES)).unwrap();
        }
        scope.spawn(move || {
            let mut buffer = vec![0; BYTES];
            for server in &mut servers {
                server.read_exact(&mut buffer).unwrap();
                server.write_all(&buffer).unwrap();
            }
        });
        let mut seen = Vec::new();
        for mut client in &clients {
            let mut got = vec![0; BYTES];
            client.read_exact(&mut got).unwrap();
            seen.push(got);
            done.fetch_add(1, Ordering::Relaxed);
        }
        for (n, got) in seen.iter().enumerate() {
            assert!(*got == pattern(n, BYTES), "connection {n}");
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), CONNECTIONS);
}

#[test]
fn connections_come_and_go_and_leave_nothing() {
    let (a, b) = hosts();
    let listener = b.tcp_listen((B, 80)).unwrap();
    let target = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for stream in listener.incoming().take(500) {
                let mut stream = stream.unwrap();
                let mut request = [0; 4];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(&request).unwrap();
            }
        });
        for n in 0..500u32 {
            let mut stream = a.tcp_connect(target).unwrap();
            stream.write_all(&n.to_be_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, n.to_be_bytes());
        }
    });
    // A connection nobody accepts goes with its listener.
    let mut waiting = a.tcp_connect(target).unwrap();
    drop(listener);
    assert!(matches!(waiting.read(&mut [0; 1]), Ok(0) | Err(_)));
    drop(waiting);
    let open = |host: &Host| {
        let quiet = [millstream::State::TimeWait, millstream::State::Closed];
        host.snapshot()
            .unwrap()
            .states
            .iter()
            .filter(|(state, _)| !quiet.contains(state))
            .map(|(_, n)| n)
            .sum::<u64>()
    };
    while open(&a) + open(&b) > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    while a.snapshot().unwrap().pool.in_use > 4 * 64 {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Request and reply, one at a time, so that both shards and both programs sleep between any two: a lost wake-up would hang.
#[test]
fn ping_pong_sleeps_and_wakes() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b);
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = [0; 64];
            while server.read_exact(&mut buffer).is_ok() {
                server.write_all(&buffer).unwrap();
            }
        });
        let mut buffer = [0; 64];
        for n in 0..5_000u32 {
            buffer[..4].copy_from_slice(&n.to_be_bytes());
            client.write_all(&buffer).unwrap();
            client.read_exact(&mut buffer).unwrap();
            assert_eq!(buffer[..4], n.to_be_bytes());
        }
        drop(client);
    });
    assert!(b.snapshot().unwrap().meters.sleeps > 0);
}

#[test]
fn a_stopped_host_tells_its_sockets() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b);
    let listener = b.tcp_listen((B, 0)).unwrap();
    thread::scope(|scope| {
        let acceptor = scope.spawn(|| listener.accept().unwrap_err());
        let reader = scope.spawn(|| server.read(&mut [0; 1]).unwrap_err());
        thread::sleep(Duration::from_millis(10));
        b.stop().unwrap();
        assert!(acceptor.join().unwrap().to_string().contains("stopped"));
        assert!(reader.join().unwrap().to_string().contains("stopped"));
    });
    assert!(b.is_stopped());
    assert!(
        b.tcp_listen((B, 0))
            .unwrap_err()
            .to_string()
            .contains("stopped")
    );
    assert!(b.snapshot().is_err());
    assert!(b.udp_bind((B, 0)).is_err());
    // The peer was told, too.
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn stopping_sends_what_was_written() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b);
    let data = pattern(0, 400_000);
    server.write_all(&data).unwrap();
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        client.read_to_end(&mut got).map(|_| got)
    });
    drop(server);
    b.stop().unwrap();
    assert!(reader.join().unwrap().unwrap() == data);
}

#[test]
fn a_snapshot_shows_what_is_there() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b);
    client.write_all(b"counted").unwrap();
    server.read_exact(&mut [0; 7]).unwrap();
    let snapshot = a.snapshot().unwrap();
    assert_eq!(snapshot.ports[0].name, "ring-a");
    assert!(snapshot.ports[0].counters.tx_frames > 0);
    assert!(
        snapshot
            .connections
            .iter()
            .any(|c| c.remote == client.peer_addr().unwrap())
    );
    assert!(snapshot.meters.turns > 0);
    assert!(a.snapshot_with(0).unwrap().connections.is_empty());
}

#[test]
fn builder_mistakes_are_told_in_one_line() {
    let error = Host::builder()
        .address("10.0.0.1/24")
        .start()
        .unwrap_err()
        .to_string();
    assert_eq!(error, "an address needs a port: call `.port(..)` first");
    let (port, _other) = millstream::port::ring::pair(
        [wire::Mac([2, 0, 0, 0, 0, 1]), wire::Mac([2, 0, 0, 0, 0, 2])],
        &Default::default(),
    )
    .unwrap();
    let error = Host::builder()
        .port(port)
        .address("10.0.0.300/24")
        .gateway("x")
        .start()
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "'10.0.0.300/24' is not an address with a prefix length, such as 10.77.0.2/24 or fd77::2/64"
    );
}
