//! Hosts of several shards and the Linux kernel on one TAP device: with a queue for each shard, and with one for all.
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use millstream::port::tap::{Tap, TapOptions};
use millstream::{Config, Host, State};
use netns::link;
use stack::Count;

const SHARDS: usize = 4;
const DEVICE: &str = "mill0";
const KERNEL: [&str; 2] = ["10.77.0.1", "fd77::1"];
const HOST: [&str; 2] = ["10.77.0.2", "fd77::2"];

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

/// A host on the device, and the kernel's end of it; `None` where there are no TAP devices.
fn host(queues: u16) -> Option<Host> {
    let taps = Tap::queues(DEVICE, queues, &TapOptions::default());
    let taps = match taps {
        Err(error) if error.is_unavailable() => {
            eprintln!("skipped: {error}");
            return None;
        }
        taps => taps.unwrap(),
    };
    link::disable_ipv6_dad(DEVICE).unwrap();
    for (address, prefix) in [(KERNEL[0], 24), (KERNEL[1], 64)] {
        link::add_addr(DEVICE, ip(address), prefix).unwrap();
    }
    link::set_up(DEVICE).unwrap();
    let config = Config {
        pool_blocks: 8 * 1024,
        duplicate_detection: false,
        ..Config::default()
    };
    let host = Host::builder()
        .queues(taps)
        .address(format!("{}/24", HOST[0]))
        .address(format!("{}/64", HOST[1]))
        .config(config)
        .shards(SHARDS);
    Some(host.start().unwrap())
}

fn bytes(n: usize, len: usize) -> Vec<u8> {
    (n..n + len).map(|n| ((n / 7) ^ n) as u8).collect()
}

/// Whoever sends, gets the same back.
fn echo(mut stream: impl Read + Write) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    stream.write_all(&all).unwrap();
}

fn ask(mut stream: impl Read + Write, shut: impl FnOnce(), n: usize) {
    stream.write_all(&bytes(n, 100_000)).unwrap();
    shut();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == bytes(n, 100_000), "{n}: {} bytes", got.len());
}

/// Connections of the kernel's, each of which goes from shard to shard while it carries bytes both ways.
fn moving(host: &Host) {
    let listener = host.tcp_listen(at(HOST[0], 8)).unwrap();
    let (each, len) = (8, 3_000_000);
    let clients: Vec<_> = (0..each)
        .map(|n| {
            thread::spawn(move || {
                let mut stream = TcpStream::connect(at(HOST[0], 8)).unwrap();
                let mut writer = stream.try_clone().unwrap();
                let writing = thread::spawn(move || {
                    writer.write_all(&bytes(n, len)).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                assert!(got == bytes(n, len), "{n}: {} bytes", got.len());
                writing.join().unwrap();
            })
        })
        .collect();
    let serving: Vec<_> = (0..each)
        .map(|_| {
            let mut stream = listener.accept().unwrap().0;
            let other = stream.try_clone().unwrap();
            thread::spawn(move || {
                let moving = thread::spawn(move || {
                    let mut moves = 0;
                    loop {
                        match other.move_to((other.shard() + 1) % SHARDS) {
                            Ok(()) => moves += 1,
                            // That shard has no memory for all that is queued just now.
                            Err(error) if error.raw_os_error() == Some(105) => {}
                            Err(_) => return moves,
                        }
                        thread::sleep(Duration::from_millis(1));
                    }
                });
                let mut buffer = vec![0; 50_000];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..n]).unwrap();
                }
                stream.shutdown(Shutdown::Write).unwrap();
                // It may go on until the connection is over.
                moving.join().unwrap()
            })
        })
        .collect();
    clients.into_iter().for_each(|t| t.join().unwrap());
    let moves: Vec<u64> = serving.into_iter().map(|t| t.join().unwrap()).collect();
    let counts = host.snapshot_with(0).unwrap().counts;
    let total: u64 = moves.iter().sum();
    assert!(total > 0 && counts.get(Count::TcpMovedIn) >= total);
}

/// The kernel connects to the host.
fn to_host(host: &Host, family: usize) {
    let each = 32;
    let listener = host.tcp_listen(at(HOST[family], 7)).unwrap();
    let serving = thread::spawn(move || {
        let serve = |_| {
            let stream = listener.accept().unwrap().0;
            thread::spawn(|| echo(stream))
        };
        let all: Vec<_> = (0..each).map(serve).collect();
        all.into_iter().for_each(|t| t.join().unwrap());
    });
    let clients: Vec<_> = (0..each)
        .map(|n| {
            thread::spawn(move || {
                let stream = TcpStream::connect(at(HOST[family], 7)).unwrap();
                ask(&stream, || stream.shutdown(Shutdown::Write).unwrap(), n);
            })
        })
        .collect();
    clients.into_iter().for_each(|t| t.join().unwrap());
    serving.join().unwrap();
}

/// The host connects to the kernel, also from given ports.
fn to_kernel(host: &Host, family: usize) {
    let each = 32;
    let listener = TcpListener::bind(at(KERNEL[family], 8)).unwrap();
    let serving = thread::spawn(move || {
        let all: Vec<_> = (0..each)
            .map(|_| {
                let stream = listener.accept().unwrap().0;
                thread::spawn(move || echo(&stream))
            })
            .collect();
        all.into_iter().for_each(|t| t.join().unwrap());
    });
    let clients: Vec<_> = (0..each)
        .map(|n| {
            let host = host.clone();
            thread::spawn(move || {
                let to = at(KERNEL[family], 8);
                let stream = match n % 2 {
                    0 => host.tcp_connect(to).unwrap(),
                    _ => {
                        let from = Some(at(HOST[family], 6000 + n as u16));
                        let options = host.tcp_options();
                        host.tcp_connect_with(to, from, &options).unwrap()
                    }
                };
                let other = stream.try_clone().unwrap();
                ask(stream, || other.shutdown(Shutdown::Write).unwrap(), n);
            })
        })
        .collect();
    clients.into_iter().for_each(|t| t.join().unwrap());
    serving.join().unwrap();
    let refused = host.tcp_connect(at(KERNEL[family], 9)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// Datagrams both ways, also in fragments, and that nobody is there.
fn datagrams(host: &Host, family: usize) {
    let wait = Some(Duration::from_secs(20));
    for n in 0..8 {
        let own = host.udp_bind(at(HOST[family], 0)).unwrap();
        let kernels = UdpSocket::bind(at(KERNEL[family], 0)).unwrap();
        own.set_read_timeout(wait).unwrap();
        kernels.set_read_timeout(wait).unwrap();
        let mut got = vec![0; 65_536];
        for len in [1, 1472, 1473, 9_000, 30_000] {
            let sent = bytes(n, len);
            let to = own.local_addr().unwrap();
            kernels.send_to(&sent, to).unwrap();
            let (m, from) = own.recv_from(&mut got).unwrap();
            assert!(got[..m] == sent[..] && from == kernels.local_addr().unwrap());
            own.send_to(&sent, from).unwrap();
            let (m, from) = kernels.recv_from(&mut got).unwrap();
            assert!(got[..m] == sent[..] && from == to);
        }
        drop(kernels);
        own.connect(at(KERNEL[family], 9)).unwrap();
        own.send(b"anybody?").unwrap();
        own.set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let refused = (0..50).any(|_| {
            let heard = own.recv(&mut got).unwrap_err().kind();
            let _ = own.send(b"anybody?");
            heard == ErrorKind::ConnectionRefused
        });
        assert!(refused);
    }
}

/// Each echo is answered once.
fn echoes(family: usize) {
    let mut ping = Command::new("ping");
    ping.args(["-n", "-c", "5", "-i", "0.2", HOST[family]]);
    let Ok(output) = ping.output() else {
        return eprintln!("skipped: there is no ping");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    if text.is_empty() {
        return eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(
        text.contains("5 received") && !text.contains("DUP"),
        "{text}"
    );
}

fn all_of_it(queues: u16) {
    let Some(host) = host(queues) else {
        return;
    };
    moving(&host);
    for family in 0..2 {
        to_host(&host, family);
        to_kernel(&host, family);
        datagrams(&host, family);
        echoes(family);
    }
    let snapshot = host.snapshot_with(0).unwrap();
    assert_eq!((snapshot.shards, snapshot.ports.len()), (SHARDS, 1));
    assert_eq!(snapshot.counts.get(Count::TcpPassiveOpens), 64 + 8);
    assert!(snapshot.counts.get(Count::Reassembled) >= 48);
    let listens = snapshot.states.iter().find(|(s, _)| *s == State::Listen);
    assert_eq!(listens.map_or(0, |(_, n)| *n), 0);
    host.stop().unwrap();
}

#[test]
fn one_queue_for_all_shards() {
    netns::in_private!(|| all_of_it(1));
}

#[test]
fn a_queue_for_each_shard() {
    netns::in_private!(|| all_of_it(SHARDS as u16));
}

/// A host whose device is taken away ends with all its shards, and says why.
#[test]
fn a_device_that_goes_ends_all_shards() {
    netns::in_private!(|| {
        for queues in [1, SHARDS as u16] {
            let Some(host) = host(queues) else {
                return;
            };
            let socket = host.udp_bind(at(HOST[0], 7)).unwrap();
            let waiting = thread::spawn(move || socket.recv(&mut [0; 4]).unwrap_err());
            link::delete(DEVICE).unwrap();
            waiting.join().unwrap();
            while !host.is_stopped() {
                thread::sleep(Duration::from_millis(5));
            }
            let why = host.stop().unwrap_err().to_string();
            assert!(why.contains(DEVICE), "{why}");
        }
    });
}
