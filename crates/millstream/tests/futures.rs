//! The sockets with the traits of futures-io, on an executor that knows no sockets.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::{ErrorKind, IoSliceMut};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use common::{A, B, config, hosts, hosts_with, pattern};
use futures_util::future::{join, select};
use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy};
use futures_util::{FutureExt, StreamExt};
use millstream::datagram::{RecvMeta, Transmit};
use millstream::futures::{TcpListener, TcpStream, UdpSocket};
use millstream::{Limits, State};
use tokio::runtime::Builder;

/// Any executor would do: this one is given neither clock nor sockets.
fn block_on<F: Future>(future: F) -> F::Output {
    Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn everything_is_send_and_sync() {
    fn check<T: Send + Sync + Unpin + Clone + 'static>() {}
    fn stream<T: AsyncRead + AsyncWrite + Unpin + Send + Sync>() {}
    check::<TcpListener>();
    check::<TcpStream>();
    check::<UdpSocket>();
    stream::<TcpStream>();
    stream::<&TcpStream>();
}

#[test]
fn echo_and_ends() {
    let (a, b) = hosts();
    block_on(async {
        let listener = TcpListener::bind_on(&b, (B, 0)).await.unwrap();
        let target = listener.local_addr().unwrap();
        let server = async {
            let stream = listener.incoming().next().await.unwrap().unwrap();
            let copied = copy(&stream, &mut &stream).await.unwrap();
            (&stream).close().await.unwrap();
            copied
        };
        let client = async {
            let stream = TcpStream::connect_on(&a, target).await.unwrap();
            stream.set_nodelay(true).unwrap();
            assert!(stream.take_error().unwrap().is_none());
            assert_eq!(stream.info().await.unwrap().state, State::Established);
            let (mut read, mut write) = stream.clone().split();
            let data = pattern(0, 500_000);
            let sending = async {
                write.write_all(&data).await.unwrap();
                write.close().await.unwrap();
                assert_eq!(
                    write.write(b"x").await.unwrap_err().kind(),
                    ErrorKind::BrokenPipe
                );
            };
            let mut got = Vec::new();
            let (read, ()) = join(read.read_to_end(&mut got), sending).await;
            assert_eq!(read.unwrap(), data.len());
            assert!(got == data);
        };
        let (copied, ()) = join(server, client).await;
        assert_eq!(copied, 500_000);
        let refused = TcpStream::connect_on(&a, (B, 1)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

/// One socket with two faces: a thread that blocks beside a task.
#[test]
fn a_thread_and_a_task() {
    let (a, b) = hosts();
    let listener = b.tcp_listen((B, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    let listener = TcpListener::from(listener);
    let client = thread::spawn(move || {
        use std::io::{Read, Write};
        let mut stream = a.tcp_connect(target).unwrap();
        stream.write_all(b"question").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer, a)
    });
    block_on(async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peeked = [0; 8];
        stream.readable().await.unwrap();
        while stream.peek(&mut peeked).await.unwrap() < 8 {
            futures_util::pending!();
        }
        // A read that is given up takes nothing.
        let mut none = [0; 0];
        let mut reader = &stream;
        drop(select(reader.read(&mut none), async {}.boxed()).await);
        let mut question = [0; 8];
        (&stream).read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"question");
        (&stream).write_all(b"answer").await.unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    });
    assert_eq!(client.join().unwrap().0, "answer");
}

#[test]
fn datagrams() {
    let (a, b) = hosts();
    block_on(async {
        let server = UdpSocket::bind_on(&b, (B, 7)).await.unwrap();
        let client = UdpSocket::bind_on(&a, (A, 0)).await.unwrap();
        client.send_to(b"one", (B, 7)).await.unwrap();
        let mut buffer = [0; 16];
        let (n, from) = server.peek_from(&mut buffer).await.unwrap();
        assert_eq!((n, from), (3, client.local_addr().unwrap()));
        assert_eq!(server.recv(&mut buffer).await.unwrap(), 3);
        client.connect((B, 7)).await.unwrap();
        let waits = server.recv_from(&mut buffer);
        let (received, sent) = join(waits, client.send(b"two")).await;
        assert_eq!((received.unwrap().0, sent.unwrap()), (3, 3));
        server.send_to(b"back", from).await.unwrap();
        client.readable().await.unwrap();
        assert_eq!(client.recv(&mut buffer).await.unwrap(), 4);
        client.send_batch(&[Transmit::new(b"three")]).await.unwrap();
        let mut meta = [RecvMeta::default()];
        let mut bufs = [IoSliceMut::new(&mut buffer)];
        let received = server.recv_batch(&mut bufs, &mut meta).await.unwrap();
        assert_eq!((received, meta[0].len, meta[0].from), (1, 5, from));
        let packet = join(server.receive_packet(), client.send(b"four")).await.0;
        assert_eq!(packet.unwrap().to_vec(), b"four");
        let blocking = millstream::UdpSocket::from(client);
        assert_eq!(blocking.peer_addr().unwrap().port(), 7);
        let none = UdpSocket::bind("0.0.0.0:0").await.unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NetworkDown);
    });
}

#[test]
fn buffers_and_files_are_handed_over_spliced_and_lent() {
    let program = std::env::current_exe().unwrap();
    let (file, data) = (File::open(&program).unwrap(), fs::read(&program).unwrap());
    let (a, b) = hosts();
    block_on(async {
        let listener = TcpListener::bind_on(&b, (B, 0)).await.unwrap();
        let target = listener.local_addr().unwrap();
        let client = TcpStream::connect_on(&a, target).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let back = TcpStream::connect_on(&a, target).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        // What comes in by one connection goes out by the other.
        let splice = near.splice(&far).unwrap();
        let sending = async {
            let buffer = client.send_owned(pattern(0, 100_000)).await.unwrap();
            assert_eq!(
                client.send_file(&file, 0, u64::MAX).await.unwrap(),
                data.len() as u64
            );
            client.shutdown(Shutdown::Write).unwrap();
            buffer.await.unwrap()
        };
        let reading = async {
            let mut all = Vec::new();
            loop {
                let blocks = back.receive_blocks().await.unwrap();
                if blocks.is_empty() {
                    return all;
                }
                all.extend(blocks.to_vec());
            }
        };
        let (buffer, all) = join(sending, reading).await;
        assert!(buffer == pattern(0, 100_000));
        assert!(all[..100_000] == buffer && all[100_000..] == data);
        assert_eq!(splice.await.unwrap(), all.len() as u64);
    });
}

/// As the same with tokio's face.
#[test]
fn back_pressure_is_pending_not_memory() {
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    let mut sizes = config();
    sizes.tcp_receive_buffer = Some(128 * 1024);
    sizes.tcp_send_buffer = Some(128 * 1024);
    let (a, b) = hosts_with(sizes, limits);
    block_on(async {
        let listener = TcpListener::bind_on(&b, (B, 0)).await.unwrap();
        let target = listener.local_addr().unwrap();
        let mut client = TcpStream::connect_on(&a, target).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        // Everything between the two: two records, two stacks.
        let bound = 2 * (Limits::MIN + 128 * 1024) + 64 * 1024;
        let data = pattern(0, 3 * bound);
        let (mut written, mut waits) = (0, 0);
        while waits < 50 {
            match server.write(&data[written..]).now_or_never() {
                Some(n) => {
                    (written, waits) = (written + n.unwrap(), 0);
                    assert!(written <= bound, "{written} of {bound}");
                }
                None => {
                    waits += 1;
                    thread::sleep(Duration::from_millis(2));
                }
            }
        }
        let blocks = a.snapshot().unwrap().pool.in_use + b.snapshot().unwrap().pool.in_use;
        assert!(blocks as usize * 2048 <= 4 * bound, "{blocks} blocks");
        let sending = async {
            server.write_all(&data[written..]).await.unwrap();
            server.close().await.unwrap();
        };
        let mut got = Vec::new();
        let (read, ()) = join(client.read_to_end(&mut got), sending).await;
        assert_eq!(read.unwrap(), data.len());
        assert!(got == data);
    });
}
