//! A host whose thread panics: whoever waits for it learns that it has stopped, by whichever face, and whoever asks afterwards.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod common;

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use base::{Batch, Pool};
use common::{A, config};
use millstream::completion::{Op, QueueOptions};
use millstream::port::ring::{RingOptions, RingPort, pair};
use millstream::port::{Port, PortCounters, PortFacts};
use millstream::{Events, Host, Interest, Poll, TcpListener, TcpStream, Token};
use wire::Mac;

/// Longer than it takes threads to begin to wait, mostly; whatever they do, they must end.
const SOON: Duration = Duration::from_millis(50);

/// A port that panics when it is told to.
struct Fragile {
    port: RingPort,
    breaks: Arc<AtomicBool>,
}

impl Port for Fragile {
    fn facts(&self) -> &PortFacts {
        self.port.facts()
    }
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        assert!(!self.breaks.load(Ordering::Relaxed), "as it was told");
        self.port.receive(pool, batch)
    }
    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
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
}

/// A host of so many shards, what breaks it, and the other end of its cable.
fn host(shards: usize) -> (Host, Arc<AtomicBool>, RingPort) {
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let (port, far) = pair(macs, &RingOptions::default()).unwrap();
    let breaks: Arc<AtomicBool> = Arc::default();
    let port = Fragile {
        port,
        breaks: breaks.clone(),
    };
    let host = Host::builder()
        .port(port)
        .address(format!("{A}/24"))
        .config(config())
        .shards(shards)
        .drain(SOON)
        .start()
        .unwrap();
    (host, breaks, far)
}

/// The shard looks at its port: whatever it is asked brings a turn.
fn end(host: &Host, breaks: &AtomicBool) {
    breaks.store(true, Ordering::Relaxed);
    while host.snapshot().is_ok() {
        thread::yield_now();
    }
}

fn connection(host: &Host, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let near = host.tcp_connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn over<T>(result: io::Result<T>) {
    assert_eq!(result.err().unwrap().kind(), ErrorKind::NotConnected);
}

#[test]
fn blocking_calls_end() {
    for shards in [1, 3] {
        let (host, breaks, _far) = host(shards);
        let listener = host.tcp_listen((A, 7)).unwrap();
        let (reader, _one) = connection(&host, &listener);
        let (writer, _two) = connection(&host, &listener);
        let socket = host.udp_bind((A, 0)).unwrap();
        thread::scope(|scope| {
            let host = &host;
            let ends = [
                scope.spawn(|| over(listener.accept())),
                // Nobody is there who would answer.
                scope.spawn(move || over(host.tcp_connect("10.77.0.99:7"))),
                scope.spawn(|| over((&reader).read(&mut [0; 9]))),
                scope.spawn(|| {
                    loop {
                        if let Err(error) = (&writer).write(&[0; 4096]) {
                            break over::<()>(Err(error));
                        }
                    }
                }),
                scope.spawn(|| over(socket.recv_from(&mut [0; 9]))),
            ];
            thread::sleep(SOON);
            end(host, &breaks);
            ends.into_iter().for_each(|end| end.join().unwrap());
        });
        over((&reader).read(&mut [0; 9]));
        over((&reader).write(b"x"));
        over(socket.send_to(b"x", (A, 7)));
        over(host.tcp_connect((A, 7)));
        over(host.tcp_listen((A, 8)));
        over(host.udp_bind((A, 0)));
        over(listener.accept());
        let why = host.stop().unwrap_err().to_string();
        assert!(why.contains("panicked"), "{why}");
    }
}

#[test]
fn whoever_polls_is_told() {
    let (host, breaks, _far) = host(1);
    let listener = host.tcp_listen((A, 7)).unwrap();
    let (near, _far) = connection(&host, &listener);
    let socket = host.udp_bind((A, 0)).unwrap();
    let mut poll = Poll::new().unwrap();
    let registry = poll.registry();
    let read = Interest::READABLE;
    registry.register(&listener, Token(0), read).unwrap();
    registry.register(&near, Token(1), read).unwrap();
    registry.register(&socket, Token(2), read).unwrap();
    thread::scope(|scope| {
        let told = scope.spawn(|| {
            let mut left = vec![Token(0), Token(1), Token(2)];
            let mut events = Events::with_capacity(8);
            while !left.is_empty() {
                poll.poll(&mut events, None).unwrap();
                for event in &events {
                    left.retain(|token| *token != event.token());
                }
            }
        });
        thread::sleep(SOON);
        end(&host, &breaks);
        told.join().unwrap();
    });
    let late = poll.registry().reregister(&near, Token(1), read);
    over(late);
}

#[test]
fn operations_end_each_once() {
    let (host, breaks, _far) = host(1);
    let options = QueueOptions {
        capacity: 16,
        ..QueueOptions::default()
    };
    let queue = host.completion_queue(options).unwrap();
    let mut over = Vec::new();
    queue
        .submit(Op::listen(
            (A.parse::<std::net::IpAddr>().unwrap(), 7).into(),
            8,
            0,
        ))
        .unwrap();
    queue.wait(&mut over, 1, None).unwrap();
    let listener = over.pop().unwrap().socket.unwrap();
    queue.submit(Op::accept(listener, 0).token(1)).unwrap();
    queue.submit(Op::timeout(Duration::MAX).token(2)).unwrap();
    thread::scope(|scope| {
        let ended = scope.spawn(|| {
            let mut over = Vec::new();
            while over.len() < 2 {
                queue.wait(&mut over, 8, None).unwrap();
            }
            let mut tokens: Vec<u64> = over.iter().map(|over| over.token).collect();
            tokens.sort_unstable();
            assert_eq!(tokens, [1, 2]);
            assert!(over.iter().all(|over| over.result.is_err()));
        });
        thread::sleep(SOON);
        end(&host, &breaks);
        ended.join().unwrap();
    });
    assert!(queue.wait(&mut Vec::new(), 1, None).is_err());
    assert!(queue.submit(Op::timeout(Duration::ZERO)).is_err());
}

#[cfg(feature = "tokio")]
#[test]
fn tasks_are_woken() {
    use ::tokio::io::AsyncReadExt;
    use millstream::tokio::{TcpListener, TcpStream, UdpSocket};

    let runtime = ::tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (host, breaks, _far) = host(1);
        let at: std::net::SocketAddr = format!("{A}:7").parse().unwrap();
        let listener = TcpListener::bind_on(&host, at).await.unwrap();
        let mut stream = TcpStream::connect_on(&host, at).await.unwrap();
        let (_accepted, _) = listener.accept().await.unwrap();
        let socket = UdpSocket::bind_on(&host, (A, 0)).await.unwrap();
        let ender = thread::spawn({
            let host = host.clone();
            move || {
                thread::sleep(SOON);
                end(&host, &breaks);
            }
        });
        let (mut byte, mut datagram) = ([0; 1], [0; 9]);
        let (accepted, read, received) = ::tokio::join!(
            listener.accept(),
            stream.read(&mut byte),
            socket.recv_from(&mut datagram)
        );
        over(accepted);
        over(read);
        over(received);
        over(TcpStream::connect_on(&host, at).await);
        ender.join().unwrap();
    });
}
