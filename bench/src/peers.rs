//! One host, turned by hand, with peers that exist only as their tuples: what finding a connection costs among many.
//!
//! Each peer completes its handshake, then all are idle. A bare ACK that says nothing new arrives for connections picked
//! at random: parsed, looked up, checked by the connection, answered by nothing. What it costs is the way of a segment to
//! its connection and no more.
//!
//! What does not live here: peers that talk (see `rings`), a lookup without a host (see `tables`).

use base::{BATCH, Batch, Chain, Checksum, Facts, Instant, Offloads, Packet, Rng};
use stack::{Config, Host, InterfaceConfig, InterfaceId, Ready, Route, TcpOptions};
use wire::tcp::{Flags, Options, Repr};
use wire::{Addr, Mac, arp, ethernet, ipv4, tcp};

use crate::measure::thread_cpu;

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 2]);
const LOCAL: Addr = Addr::v4(10, 0, 0, 1);
const GATEWAY: Addr = Addr::v4(10, 0, 0, 254);
const PORT: u16 = 7000;
/// Ethernet, IPv4.
const IP_AT: usize = 14;
const TCP_AT: usize = 34;
/// Batches between two looks at the clock.
const ROUND: usize = 16;

/// What a peer remembers of its connection.
#[derive(Clone, Copy)]
struct Peer {
    /// What the host sends next.
    ack: u32,
    /// The host's clock, as its SYN said it.
    stamp: u32,
}

pub(crate) struct Peers {
    host: Host,
    interface: InterfaceId,
    now: Instant,
    peers: Vec<Peer>,
}

/// The `at`th peer's address and port.
fn tuple(at: u32) -> (Addr, u16) {
    const PER_ADDRESS: u32 = 50_000;
    let [_, _, c, d] = (at / PER_ADDRESS).to_be_bytes();
    (Addr::v4(172, 16, c, d), (1024 + at % PER_ADDRESS) as u16)
}

impl Peers {
    /// A host with `n` established connections.
    pub(crate) fn new(n: u32, config: Config, seed: u64) -> Result<Peers, String> {
        let now = Instant::from_secs(100);
        let fail = |e: &dyn std::fmt::Display| e.to_string();
        let mut host = Host::new(config, seed, now).map_err(|e| fail(&e))?;
        let interface = InterfaceConfig {
            name: "peers".into(),
            mac: Some(OURS),
            mtu: 1500,
            offloads: Offloads::ALL,
        };
        let interface = host.add_interface(now, interface).map_err(|e| fail(&e))?;
        let address = "10.0.0.1/24".parse().map_err(|_| "address")?;
        host.add_address(now, interface, address)
            .map_err(|e| fail(&e))?;
        let route = Route {
            dst: "0.0.0.0/0".parse().map_err(|_| "route")?,
            via: Some(GATEWAY),
            interface,
            metric: 0,
        };
        host.add_route(now, route).map_err(|e| fail(&e))?;
        let mut peers = Peers {
            host,
            interface,
            now,
            peers: Vec::with_capacity(n as usize),
        };
        peers.open(n)?;
        Ok(peers)
    }

    /// Every peer says SYN, hears SYN-ACK and says ACK; the application accepts.
    fn open(&mut self, n: u32) -> Result<(), String> {
        let local = format!("0.0.0.0:{PORT}").parse().map_err(|_| "address")?;
        let options = TcpOptions::default();
        let listener = self
            .host
            .tcp_listen(self.now, local, 65_535, &options)
            .map_err(|e| e.to_string())?;
        // Says who the router is.
        self.announce();
        let mut batch = Batch::new();
        for at in 0..n {
            self.now += std::time::Duration::from_micros(1);
            let options = Options {
                mss: Some(1460),
                window_scale: Some(7),
                sack_permitted: true,
                timestamps: Some((1, 0)),
                ..Options::default()
            };
            self.arrive(at, &mut batch, (0, None), Flags::SYN, options);
            let Some((ack, stamp)) = self.heard() else {
                return Err(format!("peer {at} hears no SYN-ACK"));
            };
            self.peers.push(Peer { ack, stamp });
            self.push(at, &mut batch)?;
            self.host.handle_batch(self.now, self.interface, &mut batch);
            while let Some(event) = self.host.poll_event() {
                if event.socket == listener && event.ready.contains(Ready::READABLE) {
                    self.host
                        .tcp_accept(self.now, listener)
                        .map_err(|e| e.to_string())?;
                }
            }
        }
        // The handshake's timers go off and find nothing to do.
        self.now += std::time::Duration::from_secs(200);
        self.host.handle_timers(self.now);
        while self.heard().is_some() {}
        Ok(())
    }

    /// CPU nanoseconds of a bare ACK to a connection picked at random.
    pub(crate) fn ns_per_ack(&mut self, time: f64, rng: &mut Rng) -> Result<f64, String> {
        let n = self.peers.len() as u32;
        let mut batches: Vec<Batch> = (0..ROUND).map(|_| Batch::new()).collect();
        let (mut spent, mut acks) = (0.0, 0);
        let start = crate::measure::wall();
        while crate::measure::wall() - start < time {
            for batch in &mut batches {
                for _ in 0..BATCH {
                    self.push(rng.below(n), batch)?;
                }
            }
            let begin = thread_cpu();
            for batch in &mut batches {
                self.host.handle_batch(self.now, self.interface, batch);
            }
            spent += thread_cpu() - begin;
            acks += ROUND * BATCH;
            if self.heard().is_some() || self.host.poll_event().is_some() {
                return Err("a bare ACK was answered".into());
            }
        }
        Ok(spent * 1e9 / acks as f64)
    }

    /// Puts a bare ACK from peer `at` into `batch`.
    fn push(&mut self, at: u32, batch: &mut Batch) -> Result<(), String> {
        let peer = self.peers[at as usize];
        let options = Options {
            timestamps: Some((2, peer.stamp)),
            ..Options::default()
        };
        self.frame(at, batch, (1, Some(peer.ack)), Flags(0), options)
    }

    fn arrive(
        &mut self,
        at: u32,
        batch: &mut Batch,
        numbers: (u32, Option<u32>),
        flags: Flags,
        options: Options,
    ) {
        if self.frame(at, batch, numbers, flags, options).is_ok() {
            self.host.handle_batch(self.now, self.interface, batch);
        }
    }

    fn frame(
        &mut self,
        at: u32,
        batch: &mut Batch,
        (seq, ack): (u32, Option<u32>),
        flags: Flags,
        options: Options,
    ) -> Result<(), String> {
        let (src, src_port) = tuple(at);
        let repr = Repr {
            src_port,
            dst_port: PORT,
            seq,
            ack,
            flags,
            window: 500,
            urgent: 0,
            options,
        };
        let mut bytes = [0; 128];
        let end = TCP_AT + repr.header_len();
        let link = ethernet::Repr {
            src: ROUTER,
            dst: OURS,
            ethertype: ethernet::EtherType::IPV4,
        };
        link.emit(&mut bytes);
        ipv4::Repr::new(src, LOCAL, 6, 64, repr.header_len()).emit(&mut bytes[IP_AT..]);
        repr.emit(&mut bytes[TCP_AT..end]);
        self.put(batch, &bytes[..end])
    }

    /// A frame whose checksum a device has found right.
    fn put(&mut self, batch: &mut Batch, bytes: &[u8]) -> Result<(), String> {
        let mut chain = Chain::EMPTY;
        if self.host.pool_mut().append_bytes(&mut chain, bytes) < bytes.len() {
            self.host.pool_mut().free(chain);
            return Err("the packet pool is empty".into());
        }
        let facts = Facts {
            checksum: Checksum::Good,
            ..Facts::NONE
        };
        batch.push(Packet { chain, facts }).map_err(|packet| {
            self.host.pool_mut().free(packet.chain);
            "the batch is full".into()
        })
    }

    /// The router says its address.
    fn announce(&mut self) {
        let mut bytes = [0; 42];
        let link = ethernet::Repr {
            src: ROUTER,
            dst: OURS,
            ethertype: ethernet::EtherType::ARP,
        };
        link.emit(&mut bytes);
        let hello = arp::Repr {
            op: arp::Operation::Request,
            sender_mac: ROUTER,
            sender_ip: GATEWAY.v4_octets(),
            target_mac: Mac([0; 6]),
            target_ip: LOCAL.v4_octets(),
        };
        hello.emit(&mut bytes[14..]);
        let mut batch = Batch::new();
        if self.put(&mut batch, &bytes).is_ok() {
            self.host.handle_batch(self.now, self.interface, &mut batch);
        }
        while self.heard().is_some() {}
    }

    /// The next segment the host sends: what acknowledges it, and its clock. Other frames are passed over.
    fn heard(&mut self) -> Option<(u32, u32)> {
        let mut batch = Batch::new();
        let mut heard = None;
        loop {
            let more = self
                .host
                .poll_transmit(self.now, self.interface, &mut batch);
            let none = batch.is_empty();
            while let Some(packet) = batch.pop_front() {
                let bytes = self.host.pool().first(&packet.chain);
                let segment = bytes.get(TCP_AT..).and_then(|b| tcp::Packet::new(b).ok());
                if bytes[12..14] == [8, 0]
                    && let Some(segment) = segment
                {
                    let stamp = segment.options().timestamps.map_or(0, |t| t.0);
                    heard = Some((segment.seq().wrapping_add(segment.segment_len()), stamp));
                }
                self.host.pool_mut().free(packet.chain);
            }
            if none || !more {
                return heard;
            }
        }
    }
}
