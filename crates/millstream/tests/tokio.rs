//! The sockets with tokio's face, between two hosts joined by memory.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{A, B, config, hosts, hosts_with, pattern};
use millstream::datagram::{RecvMeta, Transmit};
use millstream::reuseport::ReusePort;
use millstream::tokio::{
    OwnedReadHalf, OwnedWriteHalf, TcpListener, TcpSocket, TcpStream, UdpSocket,
};
use millstream::{Config, Events, Interest as Watch, Limits, Poll, State, Token};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf, Ready};
use tokio::time::timeout;

#[test]
fn everything_is_send_and_sync() {
    fn check<T: Send + Sync + Unpin + 'static>() {}
    fn stream<T: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static>() {}
    stream::<TcpStream>();
    check::<TcpListener>();
    check::<UdpSocket>();
    check::<OwnedReadHalf>();
    check::<OwnedWriteHalf>();
}

/// Echoes on every connection that comes.
async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}

async fn connection(a: &millstream::Host, b: &millstream::Host) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind_on(b, (B, 0)).await.unwrap();
    let target = listener.local_addr().unwrap();
    let client = TcpStream::connect_on(a, target).await.unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(client.local_addr().unwrap(), peer);
    (client, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_in_owned_halves() {
    let (a, b) = hosts();
    let listener = TcpListener::bind_on(&b, "[::]:80").await.unwrap();
    tokio::spawn(echo(listener));
    for target in [format!("{B}:80"), "[fd77::2]:80".to_owned()] {
        let stream = TcpStream::connect_on(&a, target).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let data = pattern(0, 3_000_000);
        let sent = data.clone();
        let writer = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            // Dropping the half ends the direction.
        });
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert!(got == data);
    }
}

#[tokio::test]
async fn a_single_thread_serves_both_ends() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b).await;
    client.write_all(b"ping").await.unwrap();
    let mut buffer = [0; 4];
    assert_eq!(server.peek(&mut buffer).await.unwrap(), 4);
    server.read_exact(&mut buffer).await.unwrap();
    server.write_all(&buffer).await.unwrap();
    server.shutdown().await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"ping");
}

#[tokio::test]
async fn refused_and_in_use() {
    let (a, b) = hosts();
    let refused = TcpStream::connect_on(&a, (B, 81)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let _first = TcpListener::bind_on(&b, (B, 80)).await.unwrap();
    let second = TcpListener::bind_on(&b, (B, 80)).await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::AddrInUse);
    let foreign = UdpSocket::bind_on(&b, (A, 53)).await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn back_pressure_is_pending_not_memory() {
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    let mut sizes = config();
    sizes.tcp_receive_buffer = Some(128 * 1024);
    sizes.tcp_send_buffer = Some(128 * 1024);
    let (a, b) = hosts_with(sizes, limits);
    let (mut client, mut server) = connection(&a, &b).await;
    let bound = 2 * (Limits::MIN + 128 * 1024) + 64 * 1024;
    let data = pattern(0, 3 * bound);
    let mut written = 0;
    // Until nothing is taken for a while.
    while let Ok(n) = timeout(Duration::from_millis(200), server.write(&data[written..])).await {
        written += n.unwrap();
    }
    assert!(written <= bound, "{written} of {bound}");
    assert_eq!(
        server.try_write(b"x").unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    let rest = data[written..].to_vec();
    let writer = tokio::spawn(async move { server.write_all(&rest).await.unwrap() });
    let mut got = vec![0; data.len()];
    client.read_exact(&mut got).await.unwrap();
    assert!(got == data);
    writer.await.unwrap();
}

#[tokio::test]
async fn a_cancelled_read_loses_nothing() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b).await;
    let mut buffer = [0; 4];
    assert!(
        timeout(Duration::from_millis(5), client.read_exact(&mut buffer))
            .await
            .is_err()
    );
    assert_eq!(
        client.try_read(&mut buffer).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    server.write_all(b"late").await.unwrap();
    client.readable().await.unwrap();
    client.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks() {
    const TASKS: usize = 1_000;
    let (a, b) = hosts();
    tokio::spawn(echo(TcpListener::bind_on(&b, (B, 80)).await.unwrap()));
    let target: SocketAddr = format!("{B}:80").parse().unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|n| {
            let a = a.clone();
            tokio::spawn(async move {
                let mut stream = TcpStream::connect_on(&a, target).await.unwrap();
                let data = pattern(n, 20_000);
                stream.write_all(&data).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).await.unwrap();
                assert!(got == data, "task {n}");
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn halves_come_together_again() {
    let (a, b) = hosts();
    let (client, mut server) = connection(&a, &b).await;
    let (other, _other_server) = connection(&a, &b).await;
    let (read, write) = client.into_split();
    let (other_read, other_write) = other.into_split();
    let wrong = read.reunite(other_write).unwrap_err();
    let (read, other_write) = (wrong.0, wrong.1);
    let mut client = read.reunite(write).unwrap();
    client.write_all(b"whole").await.unwrap();
    let mut buffer = [0; 5];
    server.read_exact(&mut buffer).await.unwrap();
    let _whole = other_write.reunite(other_read).unwrap();
}

#[tokio::test]
async fn std_and_tokio_share_a_stream() {
    let (a, b) = hosts();
    let listener = TcpListener::from_std(b.tcp_listen((B, 0)).unwrap()).unwrap();
    let target = listener.local_addr().unwrap();
    let client =
        tokio::task::spawn_blocking(move || a.tcp_connect(target).map(|stream| (a, stream)));
    let (server, _) = listener.accept().await.unwrap();
    let (_a, client) = client.await.unwrap().unwrap();
    let mut client = TcpStream::from_std(client).unwrap();
    client.write_all(b"over").await.unwrap();
    // As tokio's: it does not block, unless told to.
    let mut server = server.into_std().unwrap();
    let early = std::io::Read::read(&mut &server, &mut [0; 0]).unwrap();
    assert_eq!(early, 0);
    server.set_nonblocking(false).unwrap();
    let got = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 4];
        std::io::Read::read_exact(&mut server, &mut buffer).map(|()| buffer)
    });
    assert_eq!(&got.await.unwrap().unwrap(), b"over");
}

#[tokio::test]
async fn udp_echo() {
    let (a, b) = hosts();
    let server = UdpSocket::bind_on(&b, (B, 7)).await.unwrap();
    let client = UdpSocket::bind_on(&a, (A, 0)).await.unwrap();
    client.connect((B, 7)).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((n, peer)) = server.recv_from(&mut buffer).await {
            server.send_to(&buffer[..n], peer).await.unwrap();
        }
    });
    let mut buffer = [0; 2048];
    for n in 0..200usize {
        let data = pattern(n, n);
        client.send(&data).await.unwrap();
        let (len, from) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], from.port()), (&data[..], 7));
    }
}

#[tokio::test]
async fn a_stopped_host_wakes_its_tasks() {
    let (a, b) = hosts();
    let (mut client, _server) = connection(&a, &b).await;
    let listener = TcpListener::bind_on(&a, (A, 80)).await.unwrap();
    let reader = tokio::spawn(async move { client.read(&mut [0; 1]).await });
    let acceptor = tokio::spawn(async move { listener.accept().await.map(|_| ()) });
    tokio::task::yield_now().await;
    let stopper = a.clone();
    tokio::task::spawn_blocking(move || stopper.stop())
        .await
        .unwrap()
        .unwrap();
    assert!(
        reader
            .await
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("stopped")
    );
    assert!(
        acceptor
            .await
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("stopped")
    );
    assert!(a.snapshot_async(1).await.is_err());
}

/// A client, a proxy with `copy_bidirectional` and tiny buffers, and an echo server: all bytes there and back, both ends seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_between() {
    let (a, b) = hosts();
    tokio::spawn(echo(TcpListener::bind_on(&b, (B, 80)).await.unwrap()));
    let front = TcpListener::bind_on(&b, (B, 81)).await.unwrap();
    let to = b.clone();
    let proxy = tokio::spawn(async move {
        let (mut client, _) = front.accept().await.unwrap();
        let mut server = TcpStream::connect_on(&to, (B, 80)).await.unwrap();
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, 777, 333).await
    });
    let (mut read, mut write) = TcpStream::connect_on(&a, (B, 81))
        .await
        .unwrap()
        .into_split();
    assert_eq!(read.peer_addr().unwrap().port(), 81);
    let data = pattern(5, 1_500_000);
    let sent = data.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
        write.flush().await.unwrap();
        assert_eq!(
            write.write(b"x").await.unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
    });
    let mut got = Vec::new();
    read.read_to_end(&mut got).await.unwrap();
    assert!(got == data);
    writer.await.unwrap();
    let n = data.len() as u64;
    assert_eq!(proxy.await.unwrap().unwrap(), (n, n));
}

/// Futures are dropped half way, again and again, and polled by tasks that change: nothing is lost, said twice, or left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_futures_leave_nothing() {
    let (a, b) = hosts();
    let listener = TcpListener::bind_on(&b, (B, 80)).await.unwrap();
    // A connect nobody waits for is given up.
    for _ in 0..20 {
        let connect = TcpStream::connect_on(&a, "10.77.0.99:80");
        assert!(timeout(Duration::from_millis(1), connect).await.is_err());
    }
    // An accept that was dropped takes no connection with it.
    assert!(
        timeout(Duration::from_millis(1), listener.accept())
            .await
            .is_err()
    );
    let mut client = TcpStream::connect_on(&a, (B, 80)).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let writer = tokio::spawn(async move {
        for piece in pattern(0, 100_000).chunks(100) {
            server.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let mut got = Vec::new();
    while got.len() < 100_000 {
        let mut buffer = [0; 64];
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            n = client.read(&mut buffer) => got.extend_from_slice(&buffer[..n.unwrap()]),
        }
        if got.len() % 7 == 0 {
            // From another task, with another waker.
            (client, got) = tokio::spawn(async move {
                let n = client.read(&mut buffer).await.unwrap();
                got.extend_from_slice(&buffer[..n]);
                (client, got)
            })
            .await
            .unwrap();
        }
    }
    assert!(got == pattern(0, 100_000));
    writer.await.unwrap();
    drop(client);
    while !a.snapshot_async(10).await.unwrap().states.is_empty() {
        let states = a.snapshot_async(10).await.unwrap().states;
        if states.iter().all(|(state, _)| *state == State::TimeWait) {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_listener_and_its_clone_in_both_worlds() {
    let (a, b) = hosts();
    let blocking = b.tcp_listen((B, 80)).unwrap();
    let listener = TcpListener::from_std(blocking.try_clone().unwrap()).unwrap();
    let (connected, accepted) = tokio::join!(TcpStream::connect_on(&a, (B, 80)), listener.accept());
    assert_eq!(
        connected.unwrap().local_addr().unwrap(),
        accepted.unwrap().1
    );
    assert_eq!(
        listener.into_std().unwrap().local_addr().unwrap(),
        blocking.local_addr().unwrap()
    );
}

/// axum over Millstream, asked by a client over Millstream.
#[tokio::test]
async fn axum_serves() {
    struct Front(TcpListener);
    impl axum::serve::Listener for Front {
        type Io = TcpStream;
        type Addr = SocketAddr;
        async fn accept(&mut self) -> (TcpStream, SocketAddr) {
            self.0.accept_forever().await
        }
        fn local_addr(&self) -> std::io::Result<SocketAddr> {
            self.0.local_addr()
        }
    }
    let (a, b) = hosts();
    let pages = axum::Router::new().route(
        "/",
        axum::routing::get(|| async { "hello from user space" }),
    );
    let listener = Front(TcpListener::bind_on(&b, (B, 80)).await.unwrap());
    tokio::spawn(async move { axum::serve(listener, pages).await });
    let mut stream = TcpStream::connect_on(&a, (B, 80)).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    assert!(page.ends_with("hello from user space"), "{page}");
}

/// What tools ask of a running host: its sockets, what they have done, and to tune TCP.
#[tokio::test]
async fn a_host_tells_of_its_sockets_and_is_tuned() {
    let account = millstream::Config {
        tcp_account: true,
        ..config()
    };
    let (a, b) = hosts_with(account, Limits::default());
    let (mut client, mut server) = connection(&a, &b).await;
    let data = pattern(0, 100_000);
    client.write_all(&data).await.unwrap();
    let mut got = vec![0; data.len()];
    server.read_exact(&mut got).await.unwrap();
    let filter = millstream::SocketFilter {
        states: millstream::SocketFilter::bit(State::Established),
        ..millstream::SocketFilter::ALL
    };
    let page = b.list(filter, Default::default(), 100).await.unwrap();
    assert_eq!((page.rows.len(), page.next), (1, None));
    let row = &page.rows[0];
    assert_eq!(row.socket.remote, client.local_addr().unwrap());
    let account = row.tcp.as_ref().unwrap().account.as_ref().unwrap();
    assert_eq!(account.bytes_received, data.len() as u64);
    assert_eq!(a.tcp_tunables().await.unwrap().syncookies, 1);
    a.tune_tcp("tcp_syncookies", 2).await.unwrap();
    assert_eq!(a.tcp_tunables().await.unwrap().syncookies, 2);
    let refused = a.tune_tcp("syncookies", 3).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(refused.to_string(), "must be from 0 to 2");
    a.stop().unwrap();
    let gone = a.list(filter, Default::default(), 1).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotConnected);
}

/// The poll functions, readiness and buffers of a stream: what each says before, with and after data.
#[tokio::test]
async fn readiness_and_buffers_of_a_stream() {
    let (a, b) = hosts();
    let (mut client, mut server) = connection(&a, &b).await;
    let both = Interest::READABLE | Interest::WRITABLE;
    assert_eq!(client.ready(both).await.unwrap(), Ready::WRITABLE);
    let early = client.try_io(Interest::READABLE, || Ok(()));
    assert_eq!(early.unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut memory = Vec::with_capacity(100);
    let early = client.try_read_buf(&mut memory).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    server.write_all(b"hello world").await.unwrap();
    assert_eq!(
        client.ready(Interest::READABLE).await.unwrap(),
        Ready::READABLE
    );
    let mut peeked = [0; 5];
    let mut buf = ReadBuf::new(&mut peeked);
    let n = poll_fn(|cx| client.poll_peek(cx, &mut buf)).await.unwrap();
    assert_eq!((n, buf.filled()), (5, &b"hello"[..]));
    // A call that would block though the socket is ready is tried again, and others run meanwhile.
    let mut calls = 0;
    let read = client.async_io(Interest::READABLE, || {
        calls += 1;
        match calls {
            1 => Err(ErrorKind::WouldBlock.into()),
            _ => client.try_read_buf(&mut memory),
        }
    });
    assert_eq!(read.await.unwrap(), 11);
    assert_eq!(memory, b"hello world");
    server.shutdown().await.unwrap();
    let ended = client.ready(Interest::READABLE).await.unwrap();
    assert!(ended.is_readable() && ended.is_read_closed());
    assert!(!client.ready(both).await.unwrap().is_write_closed());
    let (read, write) = client.split();
    assert!(
        read.ready(Interest::READABLE)
            .await
            .unwrap()
            .is_read_closed()
    );
    assert!(write.ready(Interest::WRITABLE).await.unwrap().is_writable());
    let two = [IoSlice::new(b"one "), IoSlice::new(b"two")];
    assert_eq!(write.try_write_vectored(&two).unwrap(), 7);
    server.readable().await.unwrap();
    let (mut first, mut second) = ([0; 3], [0; 10]);
    let mut bufs = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(server.try_read_vectored(&mut bufs).unwrap(), 7);
    assert_eq!((&first, &second[..4]), (b"one", &b" two"[..]));
    client.set_zero_linger().unwrap();
    assert_eq!(client.linger().unwrap(), Some(Duration::ZERO));
    drop(client);
    while !server.ready(both).await.unwrap().is_write_closed() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn readiness_and_buffers_of_a_datagram_socket() {
    let (a, b) = hosts();
    let server = UdpSocket::bind_on(&b, (B, 7)).await.unwrap();
    let client = UdpSocket::bind_on(&a, (A, 0)).await.unwrap();
    let from = client.local_addr().unwrap();
    assert_eq!(
        server.try_peek_sender().unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(
        client.ready(Interest::WRITABLE).await.unwrap(),
        Ready::WRITABLE
    );
    client.send_to(b"one", (B, 7)).await.unwrap();
    client.send_to(b"two", (B, 7)).await.unwrap();
    client.send_to(b"three", (B, 7)).await.unwrap();
    assert_eq!(
        server.ready(Interest::READABLE).await.unwrap(),
        Ready::READABLE
    );
    assert_eq!(server.peek_sender().await.unwrap(), from);
    assert_eq!(
        poll_fn(|cx| server.poll_peek_sender(cx)).await.unwrap(),
        from
    );
    let mut buffer = [0; 8];
    assert_eq!(server.try_peek_from(&mut buffer).unwrap(), (3, from));
    let mut buf = ReadBuf::new(&mut buffer);
    poll_fn(|cx| server.poll_peek(cx, &mut buf)).await.unwrap();
    assert_eq!(buf.filled(), b"one");
    let mut memory = Vec::with_capacity(64);
    assert_eq!(server.recv_buf_from(&mut memory).await.unwrap(), (3, from));
    assert_eq!(server.recv_buf(&mut memory).await.unwrap(), 3);
    assert_eq!(memory, b"onetwo");
    let read = server.async_io(Interest::READABLE, || server.try_recv_buf(&mut memory));
    assert_eq!(read.await.unwrap(), 5);
    assert_eq!(memory, b"onetwothree");
    client.set_tos_v4(0x28).unwrap();
    assert_eq!(client.tos_v4().unwrap(), 0x28);
    assert_eq!(client.tclass_v6().unwrap_err().raw_os_error(), Some(95));
    // Dropped while it waits, a future leaves nothing that would take a datagram.
    let mut none = [0; 8];
    let late = timeout(Duration::from_millis(2), server.recv(&mut none));
    assert!(late.await.is_err());
    client.send_to(b"four", (B, 7)).await.unwrap();
    assert_eq!(server.recv(&mut none).await.unwrap(), 4);
}

/// Options before there is a connection, and addresses that are bound before anybody listens or connects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_before_it_connects_or_listens() {
    let (a, b) = hosts();
    let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let server = TcpSocket::new_v4_on(&b);
    assert_eq!(server.local_addr().unwrap(), any);
    server.set_recv_buffer_size(64 * 1024).unwrap();
    server.set_nodelay(true).unwrap();
    server.bind(format!("{B}:80").parse().unwrap()).unwrap();
    let again = server.bind(any).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::InvalidInput);
    let taken = TcpSocket::new_v4_on(&b).bind(format!("{B}:80").parse().unwrap());
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::AddrInUse);
    let listener = server.listen(16).unwrap();
    let taken = TcpSocket::new_v4_on(&b).bind("0.0.0.0:80".parse().unwrap());
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::AddrInUse);

    let client = TcpSocket::new_v4_on(&a);
    client.set_tos_v4(0xff).unwrap();
    assert_eq!(client.tos_v4().unwrap(), 0xfc, "ECN is TCP's own");
    assert_eq!(client.tclass_v6().unwrap_err().raw_os_error(), Some(95));
    client.set_keepalive(true).unwrap();
    let foreign = client.bind(format!("{B}:0").parse().unwrap()).unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::AddrNotAvailable);
    let family = client.bind("[::]:0".parse().unwrap()).unwrap_err();
    assert_eq!(family.raw_os_error(), Some(97), "EAFNOSUPPORT");
    client.bind(format!("{A}:0").parse().unwrap()).unwrap();
    let own = client.local_addr().unwrap();
    assert!(own.port() != 0);
    let stream = client
        .connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    assert_eq!(stream.local_addr().unwrap(), own);
    assert!(stream.keepalive().unwrap().is_some());
    let (accepted, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, own);
    assert!(accepted.nodelay().unwrap());
    assert_eq!(accepted.options().receive_buffer, Some(64 * 1024));

    // Two that say so share an address until one of them listens.
    let [first, second] = [(); 2].map(|()| {
        let socket = TcpSocket::new_v6_on(&b);
        socket.set_reuseaddr(true).unwrap();
        socket.bind("[::]:81".parse().unwrap()).unwrap();
        socket
    });
    let _listens = first.listen(1).unwrap();
    let late = second.listen(1).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::AddrInUse);
    // What is given up is free again.
    let socket = TcpSocket::new_v6_on(&b);
    socket.bind("[fd77::2]:82".parse().unwrap()).unwrap();
    drop(socket);
    TcpSocket::new_v6_on(&b)
        .bind("[::]:82".parse().unwrap())
        .unwrap();
    let unbound = TcpSocket::new_v6_on(&b).listen(1).unwrap();
    assert!(unbound.local_addr().unwrap().port() != 0);
    assert_eq!(
        TcpSocket::new_v4().unwrap_err().kind(),
        ErrorKind::NetworkDown
    );
}

/// Whoever asks for any port gets one that nobody was promised, as long as there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_was_promised_is_not_promised_again() {
    let config = Config {
        ephemeral_ports: (50_000, 50_003),
        ..config()
    };
    let (_a, b) = hosts_with(config, Limits::default());
    let any: SocketAddr = format!("{B}:0").parse().unwrap();
    let bound: Vec<_> = (0..4)
        .map(|_| {
            let socket = TcpSocket::new_v4_on(&b);
            socket.bind(any).unwrap();
            socket
        })
        .collect();
    let none = TcpSocket::new_v4_on(&b).bind(any).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::AddrInUse);
    drop(bound);
    TcpSocket::new_v4_on(&b).bind(any).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_for_ipv6_alone_leaves_ipv4_to_another() {
    let (_a, b) = hosts();
    let six = TcpSocket::new_v6_on(&b);
    six.set_options(|options| options.only_v6 = true);
    six.bind("[::]:80".parse().unwrap()).unwrap();
    let four = TcpSocket::new_v4_on(&b);
    four.bind("0.0.0.0:80".parse().unwrap()).unwrap();
    let _both = (six.listen(1).unwrap(), four.listen(1).unwrap());
}

/// Two workers listen on one address; the one that is there first takes all, and when it goes the other does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_that_say_so_share_an_address() {
    let (a, b) = hosts();
    let target: SocketAddr = format!("{B}:80").parse().unwrap();
    let [first, second] = [(); 2].map(|()| {
        let socket = TcpSocket::new_v4_on(&b);
        assert!(!socket.reuseport().unwrap());
        socket.set_reuseport(true).unwrap();
        socket.bind(target).unwrap();
        socket
    });
    let alone = TcpSocket::new_v4_on(&b).bind(target).unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::AddrInUse);
    let (first, second) = (first.listen(16).unwrap(), second.listen(16).unwrap());
    first.share_by(ReusePort::Standby).unwrap();
    for _ in 0..8 {
        let client = TcpStream::connect_on(&a, target).await.unwrap();
        let (_, peer) = first.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }
    drop(first);
    b.snapshot_async(0).await.unwrap();
    let client = TcpStream::connect_on(&a, target).await.unwrap();
    let (_, peer) = second.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    let plain = TcpListener::bind_on(&b, (B, 81)).await.unwrap();
    let refused = plain.share_by(ReusePort::Standby).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

/// Sockets of this face are sources of a poll, as those of std's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_watches_sockets_of_tasks() {
    let (a, b) = hosts();
    let (mut client, server) = connection(&a, &b).await;
    let udp = UdpSocket::bind_on(&b, (B, 7)).await.unwrap();
    let listener = TcpListener::bind_on(&b, (B, 90)).await.unwrap();
    let mut poll = Poll::new().unwrap();
    let registry = poll.registry();
    let readable = Watch::READABLE;
    registry.register(&server, Token(1), readable).unwrap();
    registry.register(&udp, Token(2), readable).unwrap();
    registry.register(&listener, Token(3), readable).unwrap();
    client.write_all(b"hello").await.unwrap();
    a.udp_bind((A, 0)).unwrap().send_to(b"x", (B, 7)).unwrap();
    let _visitor = TcpStream::connect_on(&a, (B, 90)).await.unwrap();
    let mut told = std::collections::BTreeSet::new();
    let mut events = Events::with_capacity(8);
    while told.len() < 3 {
        poll.poll(&mut events, None).unwrap();
        told.extend(events.iter().map(|event| event.token()));
    }
    assert_eq!(told.into_iter().collect::<Vec<_>>(), [1, 2, 3].map(Token));
}

/// Batches of tasks: who waits for the first gets all that is there; what there is room for goes at once.
#[tokio::test]
async fn batches_of_datagrams() {
    let (a, b) = hosts();
    let server = UdpSocket::bind_on(&b, (B, 7)).await.unwrap();
    let client = UdpSocket::bind_on(&a, (A, 0)).await.unwrap();
    let mut memory = [[0; 2_048]; 4];
    let mut bufs: Vec<_> = memory.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
    let mut meta = [RecvMeta::default(); 4];
    let none = server.try_recv_batch(&mut bufs, &mut meta).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
    let late = timeout(
        Duration::from_millis(2),
        server.recv_batch(&mut bufs, &mut meta),
    );
    assert!(late.await.is_err());
    let data = pattern(0, 1_200);
    let batch = [Transmit::to(&data, server.local_addr().unwrap()); 6];
    assert_eq!(client.send_batch(&batch[..2]).await.unwrap(), 2);
    assert_eq!(client.try_send_batch(&batch[2..]).unwrap(), 4);
    let mut received = 0;
    while received < 6 {
        let n = server.recv_batch(&mut bufs, &mut meta).await.unwrap();
        for (meta, buf) in meta[..n].iter().zip(&bufs) {
            assert_eq!(meta.from, client.local_addr().unwrap());
            received += meta.datagrams(buf).filter(|got| *got == data).count();
        }
    }
    assert_eq!(received, 6);
}

#[tokio::test]
async fn buffers_and_files_are_handed_over_and_bytes_lent() {
    let program = std::env::current_exe().unwrap();
    let (file, data) = (File::open(&program).unwrap(), fs::read(&program).unwrap());
    let (a, b) = hosts();
    let (client, server) = connection(&a, &b).await;
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        loop {
            let blocks = server.receive_blocks().await.unwrap();
            if blocks.is_empty() {
                return all;
            }
            all.extend(blocks.to_vec());
        }
    });
    let (_, mut half) = client.into_split();
    let client: &TcpStream = half.as_ref();
    let shared: Arc<[u8]> = pattern(0, 1_000_000).into();
    let first = client.send_owned(shared.clone()).await.unwrap();
    let len = data.len() as u64;
    // More than there is, while nobody waits for the buffer.
    assert_eq!(
        client.send_file(&file, 1_000, u64::MAX).await.unwrap(),
        len - 1_000
    );
    assert_eq!(client.send_file(&file, len, 1).await.unwrap(), 0);
    assert!(client.send_file(&file, u64::MAX, 1).await.is_err());
    let last = client.send_owned("the end").await.unwrap();
    assert!(Arc::ptr_eq(&first.await.unwrap(), &shared));
    assert_eq!(last.await, Some("the end"));
    half.shutdown().await.unwrap();
    let got = reading.await.unwrap();
    let (before, after) = got.split_at(1_000_000);
    assert!(before == &shared[..] && after[..data.len() - 1_000] == data[1_000..]);
    assert_eq!(&after[data.len() - 1_000..], b"the end");
    let over = half.as_ref().send_owned(vec![1]).await.unwrap_err();
    assert_eq!(over.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_buffer_waits_for_room_and_a_task_that_goes_away_takes_it_along() {
    let (a, b) = hosts();
    let (client, server) = connection(&a, &b).await;
    // More than fits anywhere: nobody reads.
    let held = client.send_owned(vec![7; 16 << 20]).await.unwrap();
    let mine = Arc::new([8; 10]);
    let waits = client.send_owned(Bytes10(mine.clone()));
    assert!(timeout(Duration::from_millis(20), waits).await.is_err());
    assert_eq!(Arc::strong_count(&mine), 1, "it was not taken");
    drop(server);
    assert_eq!(held.await.unwrap().len(), 16 << 20);
}

struct Bytes10(Arc<[u8; 10]>);

impl AsRef<[u8]> for Bytes10 {
    fn as_ref(&self) -> &[u8] {
        &self.0[..]
    }
}

#[tokio::test]
async fn datagrams_in_packet_memory() {
    let (a, b) = hosts();
    let server = UdpSocket::bind_on(&b, (B, 7)).await.unwrap();
    let client = UdpSocket::bind_on(&a, (A, 0)).await.unwrap();
    client.connect((B, 7)).await.unwrap();
    let none = server.try_receive_packet().unwrap_err();
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
    let task = tokio::spawn(async move { server.receive_packet().await.unwrap() });
    tokio::task::yield_now().await;
    client.send(&pattern(0, 1_000)).await.unwrap();
    let packet = task.await.unwrap();
    assert!(!packet.is_copied() && packet.to_vec() == pattern(0, 1_000));
    assert_eq!(packet.meta().from, client.local_addr().unwrap());
}
