//! One host under a storm of random, damaged and hostile frames, for a long time: it must not panic, must not grow, and
//! must be empty when all is over.
//!
//! The fuzz target `host` finds ways in with short scripts and fresh hosts; this is the long life of one host, with
//! listeners, connections that get somewhere, datagrams, and an application that reads, writes, closes and aborts.
//!
//! Invariant: everything comes from the seed that a failure prints.
#![allow(clippy::unwrap_used)]

mod generator;

use base::{Batch, Checksum, Instant, Packet, Rng};
use generator::{Generator, HOST_MAC};
use stack::{
    Config, Host, InterfaceConfig, InterfaceId, Ready, Route, SocketError, SocketId, UdpOptions,
};
use std::net::SocketAddr;
use std::time::Duration;
use wire::{Addr, Cidr, ethernet};

const MTU: usize = 1500;
/// Sockets the application keeps before it gives old ones up.
const SOCKETS_MAX: usize = 400;

struct Storm {
    host: Host,
    interface: InterfaceId,
    now: Instant,
    rng: Rng,
    generator: Generator,
    listener: SocketId,
    udp: Vec<SocketId>,
    sockets: Vec<SocketId>,
    /// Connections that were taken over from the listener.
    accepted: u64,
    answers: u64,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let now = Instant::from_secs(1);
        let config = Config {
            pool_blocks: 4096,
            tcp_connections: 1024,
            tcp_active: 512,
            tcp_half_open: 256,
            tcp_time_wait: 256,
            neighbours: 128,
            path_mtus: 64,
            reassemblies: 32,
            reassembly_blocks: 256,
            timers: 8192,
            tcp_receive_buffer: Some(64 << 10),
            tcp_send_buffer: Some(64 << 10),
            // Else the storm takes the addresses away before anything begins.
            duplicate_detection: false,
            ..Config::default()
        };
        let mut host = Host::new(config, seed, now).unwrap();
        let interface = host
            .add_interface(
                now,
                InterfaceConfig {
                    name: "storm0".into(),
                    mac: Some(HOST_MAC),
                    mtu: MTU,
                    offloads: base::Offloads::NONE,
                },
            )
            .unwrap();
        for cidr in ["10.77.0.2/24", "fd77::2/64"] {
            host.add_address(now, interface, cidr.parse::<Cidr>().unwrap())
                .unwrap();
        }
        for (dst, via) in [
            ("0.0.0.0/0", Addr::v4(10, 77, 0, 1)),
            ("::/0", generator::peer_v6()),
        ] {
            let route = Route {
                dst: dst.parse().unwrap(),
                via: Some(via),
                interface,
                metric: 1,
            };
            host.add_route(now, route).unwrap();
        }
        let options = host.tcp_defaults();
        let any = |port| SocketAddr::from(([0u16; 8], port));
        let listener = host.tcp_listen(now, any(80), 64, &options).unwrap();
        let udp = [7, 53]
            .map(|port| {
                host.udp_bind(now, any(port), &UdpOptions::default())
                    .unwrap()
            })
            .to_vec();
        Self {
            host,
            interface,
            now,
            rng: Rng::from_seed(seed),
            generator: Generator::new(seed ^ 0x5eed),
            listener,
            udp,
            sockets: Vec::new(),
            accepted: 0,
            answers: 0,
        }
    }

    /// Hands the host up to a batch of frames, then lets time pass and its application act. Returns how many frames.
    fn gust(&mut self) -> u64 {
        let mut batch = Batch::new();
        let n = 1 + self.rng.below(base::BATCH as u32);
        for _ in 0..n {
            let (frame, good) = self.generator.next();
            let mut packet = Packet::EMPTY;
            let pool = self.host.pool_mut();
            if pool.append_bytes(&mut packet.chain, frame) < frame.len() {
                // No memory to receive into: lost at the device.
                pool.free(packet.chain);
                continue;
            }
            if good {
                packet.facts.checksum = Checksum::Good;
            }
            batch.push(packet).unwrap();
        }
        self.host.handle_batch(self.now, self.interface, &mut batch);
        assert!(batch.is_empty(), "a batch is taken whole");
        self.now += Duration::from_micros(self.rng.below(20_000).into());
        self.host.handle_timers(self.now);
        self.application();
        self.collect();
        n.into()
    }

    /// Reads, writes, connects, closes and aborts.
    fn application(&mut self) {
        let (host, now) = (&mut self.host, self.now);
        let mut buffer = [0; 4096];
        for _ in 0..256 {
            let Some(event) = host.poll_event() else {
                break;
            };
            if event.socket == self.listener {
                while let Ok((socket, _)) = host.tcp_accept(now, self.listener) {
                    self.accepted += 1;
                    self.sockets.push(socket);
                }
            } else if self.udp.contains(&event.socket) {
                while let Ok((n, from)) = host.udp_recv_from(event.socket, &mut buffer) {
                    let _ = host.udp_send_to(now, event.socket, &buffer[..n.min(1200)], Some(from));
                }
            } else {
                loop {
                    match host.tcp_recv(now, event.socket, &mut buffer) {
                        Ok(0) => break,
                        Ok(n) => drop(host.tcp_send(now, event.socket, &buffer[..n])),
                        Err(SocketError::WouldBlock) => break,
                        Err(_) => break,
                    }
                }
                if event
                    .ready
                    .intersects(Ready::HUP | Ready::ERROR | Ready::READ_CLOSED)
                {
                    let _ = host.close(now, event.socket);
                    self.sockets.retain(|s| *s != event.socket);
                }
            }
        }
        if self.rng.below(8) == 0 {
            let to = self.generator.somewhere();
            let options = host.tcp_defaults();
            if let Ok(socket) = host.tcp_connect(now, to, None, &options) {
                self.sockets.push(socket);
            }
        }
        if self.rng.below(4) == 0 {
            let to = self.generator.somewhere();
            let _ = host.udp_send_to(now, self.udp[0], &buffer[..1000], Some(to));
        }
        while self.sockets.len() > SOCKETS_MAX
            || (self.rng.below(16) == 0 && !self.sockets.is_empty())
        {
            let which = self.rng.below(self.sockets.len() as u32) as usize;
            let socket = self.sockets.swap_remove(which);
            let ended = if self.rng.below(2) == 0 {
                host.abort(now, socket)
            } else {
                host.close(now, socket)
            };
            assert_eq!(ended, Ok(()), "the application's handles are live");
        }
    }

    /// Takes what the host sends, and remembers connections to be disturbed.
    fn collect(&mut self) {
        let mut batch = Batch::new();
        for _ in 0..64 {
            let more = self
                .host
                .poll_transmit(self.now, self.interface, &mut batch);
            let nothing = batch.is_empty();
            while let Some(packet) = batch.pop_front() {
                let mut frame = vec![0; packet.chain.len()];
                let pool = self.host.pool_mut();
                pool.copy_out(&packet.chain, 0, &mut frame);
                pool.free(packet.chain);
                assert!(frame.len() <= MTU + ethernet::HEADER_LEN);
                assert_eq!(frame[6..12], HOST_MAC.0, "from the host");
                self.answers += 1;
                self.generator.learn(&frame);
            }
            if nothing && !more {
                break;
            }
        }
    }

    /// Closes everything and waits: nothing may be left.
    fn end(mut self) {
        for socket in self
            .sockets
            .drain(..)
            .chain(self.udp.drain(..))
            .chain([self.listener])
        {
            let _ = self.host.abort(self.now, socket);
        }
        let end = self.now + Duration::from_secs(4 * 3600);
        let mut turns = 0;
        while let Some(deadline) = self.host.next_deadline().filter(|at| *at < end) {
            self.now = self.now.max(deadline);
            self.host.handle_timers(self.now);
            self.collect();
            turns += 1;
            assert!(turns < 1_000_000, "timers that never end");
        }
        self.now = end;
        self.host.handle_timers(self.now);
        self.collect();
        let left = self.host.tcp_occupancy();
        let records =
            left.connections + left.active + left.half_open + left.time_wait + left.ranges;
        assert_eq!(records, 0, "{left:?}");
        assert_eq!(self.host.pool().in_use(), 0, "blocks are left over");
        assert_eq!(self.host.pool().segments_in_use(), 0);
    }
}

/// Resident memory of this process, KiB; 0 where that cannot be had.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

fn storm(frames: u64, seed: u64) {
    println!("seed {seed}");
    let mut storm = Storm::new(seed);
    let mut sent = 0;
    let (mut settled, mut gusts) = (0, 0);
    while sent < frames {
        let before = sent;
        sent += storm.gust();
        gusts += 1;
        if gusts % 16 == 0 {
            storm.host.audit().expect("every invariant holds");
        }
        if before < frames / 4 && sent >= frames / 4 {
            settled = resident();
        }
    }
    let grown = resident().saturating_sub(settled);
    println!(
        "{sent} frames, {} answers, {} connections accepted, {:?} of virtual time, {grown} KiB more than at a quarter",
        storm.answers,
        storm.accepted,
        storm.now - Instant::from_secs(1),
    );
    for (reason, n) in storm.host.stats().drops.iter().filter(|(_, n)| *n > 0) {
        println!("  {n:>9} {}", reason.name());
    }
    assert!(storm.accepted > frames / 10_000, "no connection came about");
    assert!(storm.answers > frames / 100);
    assert!(grown < 8 << 10, "memory grew by {grown} KiB");
    storm.end();
}

/// A million in every run; as many as wanted by `STORM_FRAMES`.
#[test]
fn a_storm_of_frames_leaves_nothing_behind() {
    let wanted = std::env::var("STORM_FRAMES").ok();
    let frames = wanted.map_or(1_200_000, |n| n.parse().expect("STORM_FRAMES is a number"));
    for seed in 0..3 {
        storm(frames / 3, seed);
    }
}
