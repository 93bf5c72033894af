//! Buffers, queues and packet memory: what happens at their limits, and when the limits move.

use base::{Batch, Instant, Offloads};
use stack::{
    Config, Drop, Host, InterfaceConfig, InterfaceId, Ready, Route, SocketError, TcpOptions,
};
use wire::tcp::Options;
use wire::{Addr, Mac};

use crate::rig::{ACK, Open, REMOTE, Rig, SYN, config, in_ip};

/// Two interfaces, 10.0.0.1/24 and 10.0.1.1/24, with a neighbour 2 on each; queues of 64 frames.
fn two_homed() -> (Host, [InterfaceId; 2], Instant) {
    let now = Instant::from_secs(1);
    let config = Config {
        transmit_queue: 64,
        ..config()
    };
    let mut host = Host::new(config, 1, now).unwrap();
    let mac = |n: u8| Mac([2, 0, 0, 0, 0, n]);
    let interfaces = [0u8, 1].map(|n| {
        let interface = InterfaceConfig {
            name: format!("test{n}"),
            mac: Some(mac(n)),
            mtu: 1500,
            offloads: Offloads::NONE,
        };
        let id = host.add_interface(now, interface).unwrap();
        let cidr = format!("10.0.{n}.1/24").parse().unwrap();
        host.add_address(now, id, cidr).unwrap();
        let neighbour = format!("10.0.{n}.2").parse().unwrap();
        host.set_neighbour(now, id, neighbour, mac(9)).unwrap();
        id
    });
    (host, interfaces, now)
}

/// Polls one interface until nothing more comes of it; returns the TCP segments it sent.
fn drain(host: &mut Host, now: Instant, interface: InterfaceId) -> usize {
    let mut segments = 0;
    loop {
        let mut batch = Batch::new();
        let more = host.poll_transmit(now, interface, &mut batch);
        let frames = batch.len();
        while let Some(packet) = batch.pop_front() {
            segments += usize::from(host.pool().first(&packet.chain)[12..14] == [8, 0]);
            host.pool_mut().free(packet.chain);
        }
        if frames == 0 && !more {
            return segments;
        }
    }
}

fn connect_to(host: &mut Host, now: Instant, remote: &str, count: usize) {
    for _ in 0..count {
        let remote = remote.parse().unwrap();
        host.tcp_connect(now, remote, None, &TcpOptions::default())
            .unwrap();
    }
}

/// Frames for an interface that nobody polls yet are not built and dropped: their connections wait.
#[test]
fn a_full_queue_holds_connections_back() {
    let (mut host, [a, b], now) = two_homed();
    connect_to(&mut host, now, "10.0.1.2:80", 500);
    connect_to(&mut host, now, "10.0.0.2:80", 500);
    assert_eq!(drain(&mut host, now, a), 500, "others are not held up");
    assert_eq!(host.stats().drops.get(Drop::TransmitQueueFull), 0);
    assert_eq!(drain(&mut host, now, b), 500);
    // The loopback has no poll of its own.
    connect_to(&mut host, now, "127.0.0.1:80", 500);
    assert_eq!(drain(&mut host, now, a), 0);
    assert_eq!(host.stats().drops.get(Drop::TcpNoSocket), 500);
    assert_eq!(host.stats().drops.get(Drop::TransmitQueueFull), 0);
}

/// What waits for one interface leaves by another when its route does.
#[test]
fn connections_held_back_follow_their_route() {
    let (mut host, [a, b], now) = two_homed();
    connect_to(&mut host, now, "10.0.1.2:80", 200);
    drain(&mut host, now, a);
    let route = Route {
        dst: "10.0.1.2/32".parse().unwrap(),
        via: Some("10.0.0.2".parse::<core::net::IpAddr>().unwrap().into()),
        interface: a,
        metric: 0,
    };
    host.add_route(now, route).unwrap();
    let moved = drain(&mut host, now, a);
    assert!(moved > 100, "{moved}");
    assert_eq!(moved + drain(&mut host, now, b), 200);
}

/// A larger send buffer is room to write, which somebody waits for.
#[test]
fn a_larger_send_buffer_wakes_the_writer() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        send_buffer: Some(10_000),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    assert_eq!(rig.write(&open, &[7; 20_000]), 10_000);
    let more = rig.host.tcp_send(rig.now, open.socket, b"more");
    assert_eq!(more, Err(SocketError::WouldBlock));
    while rig.next().is_some() {}
    rig.events.clear();
    let resize = |rig: &mut Rig, bytes: u32| {
        rig.host
            .tcp_set_options(rig.now, open.socket, |o| o.send_buffer = Some(bytes))
            .unwrap();
        rig.pump();
    };
    resize(&mut rig, 11_000);
    assert!(rig.events.is_empty(), "less than a third of it is free");
    resize(&mut rig, 20_000);
    let event = rig.events.pop_front().expect("an event");
    assert!(event.ready.contains(Ready::WRITABLE));
    assert_eq!(rig.write(&open, &[7; 20_000]), 20_000);
}

/// A larger receive buffer opens the window at once; a smaller one never takes back what was offered.
#[test]
fn the_window_follows_the_receive_buffer_but_never_shrinks() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(10_000),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.send(open.peer, open.host, ACK, &[1; 1000]);
    let ack = rig.expect();
    let edge = ack.ack + u32::from(ack.window);
    assert_eq!(edge, open.peer + 10_000);
    let resize = |rig: &mut Rig, bytes: u32| {
        rig.host
            .tcp_set_options(rig.now, open.socket, |o| o.receive_buffer = Some(bytes))
            .unwrap();
    };
    resize(&mut rig, 40_000);
    let update = rig.expect();
    let edge = update.ack + u32::from(update.window);
    assert_eq!(edge, open.peer + 40_000);
    resize(&mut rig, 4_096);
    rig.send(open.peer + 1000, open.host, ACK, &[1; 1000]);
    let ack = rig.expect();
    assert_eq!(ack.ack, open.peer + 2000);
    assert_eq!(ack.ack + u32::from(ack.window), edge, "not taken back");
}

/// As many connections as `count`, from different ports of the peer, whose windows cover their buffers.
fn many(rig: &mut Rig, count: u16, options: &TcpOptions) -> Vec<Open> {
    let listener = rig.listen(usize::from(count), options);
    let syn = Options {
        mss: Some(1460),
        window_scale: Some(7),
        ..Options::default()
    };
    let mut opened = Vec::new();
    for n in 0..count {
        rig.peer_port = 5000 + n;
        rig.send_with(999, 0, SYN, &[], syn);
        let answer = rig.expect();
        rig.send(1000, answer.seq + 1, ACK, &[]);
        let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
        opened.push(Open {
            socket,
            host: answer.seq + 1,
            peer: 1000,
        });
    }
    opened
}

/// Readers who do not read cannot take all packet memory: others receive, send and acknowledge as ever, and what was refused
/// comes again once they read.
#[test]
fn readers_who_do_not_read_leave_memory_to_others() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(1 << 20),
        ..TcpOptions::default()
    };
    let opened = many(&mut rig, 8, &options);
    let (others, idle) = opened.split_at(7);
    let mut acked = [1000u32; 7];
    for round in 0..700u32 {
        for (n, open) in others.iter().enumerate() {
            rig.peer_port = 5000 + n as u16;
            rig.send(1000 + round * 1460, open.host, ACK, &[1; 1460]);
            while let Some(ack) = rig.next() {
                acked[n] = ack.ack;
            }
        }
    }
    let pool = rig.host.pool();
    assert!(pool.available() >= pool.capacity() / 8);
    assert!(rig.host.stats().drops.get(Drop::PoolLow) > 100);
    // One that keeps up is not disturbed.
    rig.peer_port = 5007;
    let open = &idle[0];
    for n in 0..100u32 {
        rig.send(1000 + n * 1460, open.host, ACK, &[2; 1460]);
        assert_eq!(rig.read(open.socket), Ok(vec![2; 1460]));
    }
    assert_eq!(rig.write(open, &[3; 14_600]), 14_600);
    let mut sent = 0;
    while let Some(segment) = rig.next() {
        sent += segment.data.len();
    }
    assert_eq!(sent, 14_600);
    // Nor is one that did not, once it does.
    rig.peer_port = 5000;
    let got = rig.read(others[0].socket).unwrap();
    assert_eq!(1000 + got.len() as u32, acked[0]);
    rig.send(acked[0], others[0].host, ACK, &[1; 1460]);
    assert_eq!(rig.read(others[0].socket), Ok(vec![1; 1460]));
}

/// The same for datagrams.
#[test]
fn datagrams_nobody_reads_leave_memory_to_others() {
    let mut rig = Rig::new();
    let sockets: Vec<_> = (0..40u16)
        .map(|n| {
            let at = format!("10.0.0.1:{}", 7000 + n).parse().unwrap();
            let options = stack::UdpOptions::default();
            rig.host.udp_bind(rig.now, at, &options).unwrap()
        })
        .collect();
    for n in 0..100 * 40u16 {
        let mut datagram = vec![0; 1400];
        datagram[..2].copy_from_slice(&9u16.to_be_bytes());
        datagram[2..4].copy_from_slice(&(7000 + n % 40).to_be_bytes());
        datagram[4..6].copy_from_slice(&1400u16.to_be_bytes());
        let (src, dst) = (Addr::v4(10, 0, 0, 2), Addr::v4(10, 0, 0, 1));
        let frame = in_ip(17, &datagram, src, dst);
        rig.raw(&frame);
    }
    let pool = rig.host.pool();
    assert!(pool.available() >= pool.capacity() / 8);
    assert!(rig.host.stats().drops.get(Drop::PoolLow) > 0);
    assert!(rig.host.udp_recv(sockets[39], &mut [0; 2000]).is_ok());
}

/// A writer with a huge buffer leaves memory to others, too.
#[test]
fn a_great_write_leaves_memory_to_others() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        send_buffer: Some(1 << 28),
        ..TcpOptions::default()
    };
    let opened = many(&mut rig, 2, &options);
    let taken = rig.write(&opened[0], &vec![1; 1 << 23]);
    let pool = rig.host.pool();
    assert!(pool.available() >= pool.capacity() / 16 - 8 && taken > 3 << 20);
    // Another may still say a little.
    assert_eq!(rig.write(&opened[1], &[2; 100]), 100);
    let sent = core::iter::from_fn(|| rig.next()).filter(|s| s.data == [2; 100]);
    assert_eq!(sent.count(), 1);
}

/// A connection with nothing to send that finds no memory to say so does not wait for any: it has no timer, as ever.
#[test]
fn an_idle_connection_waits_for_no_memory() {
    let mut rig = Rig::with(Config {
        tcp_active: 1,
        ..config()
    });
    let idle = rig.accepted(&TcpOptions::default());
    let (remote, options) = (REMOTE.parse().unwrap(), TcpOptions::default());
    rig.host
        .tcp_connect(rig.now, remote, None, &options)
        .unwrap();
    assert!(rig.expect().is(SYN), "it has the one active part now");
    rig.host
        .tcp_set_options(rig.now, idle.socket, |o| o.nodelay = true)
        .unwrap();
    rig.pump(); // which looks for timers that nobody needs
}

/// Blocks of 2 KiB hold what waits to be read: no length of segments makes them much more than twice as much.
#[test]
fn what_waits_to_be_read_takes_twice_its_memory_at_most() {
    for len in [1, 100, 400, 513, 600, 700, 800, 1000, 1025, 1460] {
        let mut rig = Rig::new();
        let options = TcpOptions {
            receive_buffer: Some(60_000),
            ..TcpOptions::default()
        };
        let open = rig.accepted(&options);
        let before = rig.host.pool().in_use();
        let mut at = open.peer;
        for _ in 0..20_000 / len {
            rig.send(at, open.host, ACK, &vec![1; len]);
            at += len as u32;
        }
        let unread = rig.host.tcp_info(open.socket).unwrap().unread as usize;
        let blocks = (rig.host.pool().in_use() - before) as usize;
        assert_eq!(unread, 20_000 / len * len);
        assert!(blocks * base::BLOCK < unread * 9 / 4, "{len}: {blocks}");
    }
}
