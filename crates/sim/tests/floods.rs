//! What attackers send beside a connection: it keeps nine tenths of its goodput, memory stays bounded, and refusals are counted.
//!
//! The server sends to a friend over 100 Mbit/s and 20 ms of round trip; attackers sit on a cable of their own, which no frame of
//! theirs shares with the friend, so what he loses he loses inside the host. They complete handshakes by what they see of
//! its answers.

use core::net::SocketAddr;
use core::time::Duration;

use base::Rng;
use sim::{CableId, LinkConfig, NodeId, World};
use stack::{Config, Route, SocketId, TcpOptions};
use wire::tcp::{Flags, Options, Repr, Sack};
use wire::{Addr, EtherType, Mac, checksum, ethernet, ipv4, protocol, tcp};

/// How often attackers get their turn, and how long everything lasts.
const TICK: Duration = Duration::from_millis(5);
const WARM: u64 = 1_000;
const LASTS: u64 = 2_000;
/// Frames a second, of each flood.
const RATE: u64 = 10_000;
const POOL: u32 = 16_384;
const SEED: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    Nobody,
    /// SYNs from addresses where nobody is.
    Syns,
    /// ACKs of connections that never were.
    Acks,
    /// Resets, SYNs, FINs and data in the friend's name, with numbers that are guessed.
    Blind,
    /// Bytes out of order, each with holes around it, on twenty connections.
    OutOfOrder,
    /// Blocks of SACK that tell of everything and nothing, on twenty downloads.
    Sacks,
    /// Downloads with the smallest MSS there is.
    TinyMss,
    /// Downloads acknowledged before they can have arrived, and beyond what was sent.
    Optimistic,
    /// Two hundred downloads whose window closes for good.
    ZeroWindow,
}

/// One attacker's connection.
#[derive(Debug, Clone, Copy)]
struct Puppet {
    port: u16,
    seq: u32,
    /// The server's first number, once it has answered, and what it has sent.
    first: Option<u32>,
    next: u32,
    acknowledged: u32,
}

struct Scene {
    world: World,
    server: NodeId,
    friend: NodeId,
    dark: CableId,
    macs: (Mac, Mac),
    listener: SocketId,
    /// The server's ends of all connections.
    serving: Vec<SocketId>,
    reading: SocketId,
    received: u64,
    puppets: Vec<Puppet>,
    rng: Rng,
    buffer: Vec<u8>,
}

fn address(bytes: [u8; 4]) -> Addr {
    Addr::from(core::net::IpAddr::from(bytes))
}

fn attacker() -> Addr {
    address([10, 9, 0, 66])
}

/// The server, on the attackers' cable.
fn dark() -> Addr {
    address([10, 9, 0, 1])
}

impl Scene {
    fn new(seed: u64) -> Self {
        let config = Config {
            pool_blocks: POOL,
            tcp_connections: 2_048,
            tcp_active: 2_048,
            duplicate_detection: false,
            ..Config::default()
        };
        let bright = LinkConfig {
            rate: 100_000_000,
            delay: Duration::from_millis(10),
            queue: 250_000,
            ..LinkConfig::default()
        };
        let fast = LinkConfig {
            rate: 10_000_000_000,
            delay: Duration::from_millis(1),
            queue: 10_000_000,
            ..LinkConfig::default()
        };
        let mut world = World::new(seed);
        world.set_audit(1_000);
        let (server, friend, other) = (
            world.add_host(config.clone()),
            world.add_host(config.clone()),
            world.add_host(config),
        );
        let light = world.connect(&[server, friend], bright);
        let dark = world.connect(&[server, other], fast);
        world.address(server, light, "10.1.0.1/24");
        world.address(friend, light, "10.1.0.2/24");
        world.address(server, dark, "10.9.0.1/24");
        // The attackers' neighbour answers for itself and takes what is not its own, as a router that drops it.
        world.address(other, dark, "10.9.0.9/24");
        let now = world.now();
        let via = |dst: &str| Route {
            dst: dst.parse().expect("a network"),
            via: Some(address([10, 9, 0, 9])),
            interface: world.interface(server, dark),
            metric: 0,
        };
        let routes = [via("198.18.0.0/15"), via("10.9.0.66/32")];
        for route in routes {
            world
                .host(server)
                .add_route(now, route)
                .expect("a route fits");
        }
        let options = TcpOptions::default();
        let any: SocketAddr = "0.0.0.0:80".parse().expect("an address");
        let listener = world.host(server).tcp_listen(now, any, 1_024, &options);
        let to: SocketAddr = "10.1.0.1:80".parse().expect("an address");
        let reading = world.host(friend).tcp_connect(now, to, None, &options);
        let number = |node: u8| Mac([2, 0, 0, 1, 0, node]);
        Self {
            server,
            friend,
            dark,
            macs: (number(3), number(1)),
            listener: listener.expect("it opens"),
            serving: Vec::new(),
            reading: reading.expect("it starts"),
            received: 0,
            puppets: Vec::new(),
            rng: Rng::from_seed(seed),
            buffer: vec![7; 256 * 1024],
            world,
        }
    }

    fn segment(&mut self, (src, dst): (Addr, Addr), repr: &Repr, payload: usize) {
        let mut segment = vec![0; repr.header_len()];
        repr.emit(&mut segment);
        segment.resize(segment.len() + payload, 7);
        let sum = checksum::pseudo(&src, &dst, protocol::TCP, segment.len() as u32)
            .add_sum(checksum::Sum::new().add_bytes(&segment))
            .finish();
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let ip = ipv4::Repr::new(src, dst, protocol::TCP, 64, segment.len());
        let link = ethernet::Repr {
            src: self.macs.0,
            dst: self.macs.1,
            ethertype: EtherType::IPV4,
        };
        let mut frame = vec![0; ethernet::HEADER_LEN + ip.header_len()];
        link.emit(&mut frame);
        ip.emit(&mut frame[ethernet::HEADER_LEN..]);
        frame.extend(segment);
        self.world.inject(self.server, self.dark, frame);
    }

    /// A segment of a puppet's.
    fn say(&mut self, at: usize, change: impl FnOnce(&mut Repr), payload: usize) {
        let puppet = self.puppets[at];
        let mut repr = header(puppet.port);
        repr.seq = puppet.seq;
        repr.ack = Some(puppet.next);
        change(&mut repr);
        self.segment((attacker(), dark()), &repr, payload);
    }

    /// Opens connections; their SYNs say this MSS.
    fn puppets(&mut self, n: u16, mss: u16) {
        for port in 20_000..20_000 + n {
            let seq = self.rng.u32();
            let mut repr = header(port);
            repr.seq = seq;
            repr.ack = None;
            repr.flags = Flags::SYN;
            repr.options = Options {
                mss: Some(mss),
                sack_permitted: true,
                ..Options::default()
            };
            self.puppets.push(Puppet {
                port,
                seq: seq.wrapping_add(1),
                first: None,
                next: 0,
                acknowledged: 0,
            });
            self.segment((attacker(), dark()), &repr, 0);
        }
    }

    /// What attackers see of the server's answers.
    fn watch(&mut self) {
        for frame in self.world.take_trace() {
            if frame.cable != self.dark || frame.from != Some(self.server) {
                continue;
            }
            let packet = ethernet::Packet::new(&frame.bytes);
            let Some(packet) = packet.ok().filter(|p| p.ethertype() == EtherType::IPV4) else {
                continue;
            };
            let Ok(packet) = ipv4::Packet::new(packet.payload()) else {
                continue;
            };
            let Ok(segment) = tcp::Packet::new(packet.payload()) else {
                continue;
            };
            let at = usize::from(segment.dst_port()).wrapping_sub(20_000);
            if packet.dst() != attacker() || at >= self.puppets.len() {
                continue;
            }
            let mut len = segment.payload().len() as u32;
            if segment.flags().contains(Flags::SYN) {
                self.puppets[at].first = Some(segment.seq());
                self.puppets[at].next = segment.seq();
                self.puppets[at].acknowledged = segment.seq().wrapping_add(1);
                len = 1;
            }
            let end = segment.seq().wrapping_add(len);
            let puppet = &mut self.puppets[at];
            if (end.wrapping_sub(puppet.next) as i32) > 0 {
                puppet.next = end;
            }
            if len == 1 && segment.flags().contains(Flags::SYN) {
                self.say(at, |_| {}, 0);
            }
        }
    }

    fn attack(&mut self, attack: Attack, frames: u64) {
        let known: Vec<usize> = (0..self.puppets.len())
            .filter(|at| self.puppets[*at].first.is_some())
            .collect();
        for _ in 0..frames {
            let stranger = [
                198,
                18,
                self.rng.below(256) as u8,
                self.rng.below(256) as u8,
            ];
            let stranger = address(stranger);
            let mut repr = header(1_024 + self.rng.below(60_000) as u16);
            (repr.seq, repr.ack) = (self.rng.u32(), Some(self.rng.u32()));
            let any =
                (!known.is_empty()).then(|| known[self.rng.below(known.len() as u32) as usize]);
            match (attack, any) {
                (Attack::Syns, _) => {
                    (repr.flags, repr.ack) = (Flags::SYN, None);
                    repr.options.mss = Some(1_460);
                    self.segment((stranger, dark()), &repr, 0);
                }
                (Attack::Acks, _) => self.segment((stranger, dark()), &repr, 0),
                (Attack::Blind, _) => self.blind(repr),
                (Attack::OutOfOrder, Some(at)) => {
                    let ahead = 2 + 2 * self.rng.below(20_000);
                    let seq = self.puppets[at].seq.wrapping_add(ahead);
                    self.say(at, |repr| repr.seq = seq, 1);
                }
                (Attack::Sacks, Some(at)) => self.sacks(at),
                (Attack::TinyMss, Some(at)) => self.say(at, |_| {}, 0),
                (Attack::Optimistic, Some(at)) => {
                    let puppet = self.puppets[at];
                    let beyond = self.rng.below(100_000).wrapping_sub(20_000);
                    let ack = puppet.next.wrapping_add(beyond);
                    self.say(at, |repr| repr.ack = Some(ack), 0);
                }
                (Attack::ZeroWindow, Some(at)) => self.say(at, |repr| repr.window = 0, 0),
                _ => {}
            }
        }
    }

    /// In the friend's name, whose ports are known.
    fn blind(&mut self, mut repr: Repr) {
        let friend = self.world.host(self.friend).local_addr(self.reading);
        let Ok(friend) = friend else { return };
        repr.src_port = friend.port();
        repr.flags = [Flags::RST, Flags::SYN, Flags::ACK, Flags::FIN][self.rng.below(4) as usize];
        // To the address he speaks to, though by the attackers' cable.
        let to = address([10, 1, 0, 1]);
        self.segment((Addr::from(friend.ip()), to), &repr, 10);
    }

    fn sacks(&mut self, at: usize) {
        let puppet = self.puppets[at];
        let out = puppet.next.wrapping_sub(puppet.acknowledged).max(2);
        let mut sack = Sack::default();
        for _ in 0..3 {
            let start = puppet.acknowledged.wrapping_add(1 + self.rng.below(out));
            let _ = sack.push((start, start.wrapping_add(1 + self.rng.below(3))));
        }
        let ack = puppet.acknowledged;
        self.say(
            at,
            |repr| {
                repr.ack = Some(ack);
                repr.options.sack = sack;
            },
            0,
        );
    }

    /// The server writes all it can, to the friend or to all, and the friend reads all there is.
    fn applications(&mut self, all: bool) {
        let now = self.world.now();
        while let Some((node, event)) = self.world.poll_event() {
            if node == self.server && event.socket == self.listener {
                let host = self.world.host(self.server);
                while let Ok((socket, _)) = host.tcp_accept(now, event.socket) {
                    self.serving.push(socket);
                }
            }
        }
        let host = self.world.host(self.server);
        let all = if all { self.serving.len() } else { 1 };
        for socket in self.serving.iter().take(all) {
            let _ = host.tcp_send(now, *socket, &self.buffer);
        }
        let host = self.world.host(self.friend);
        while let Ok(n @ 1..) = host.tcp_recv(now, self.reading, &mut self.buffer) {
            self.received += n as u64;
        }
        self.world.flush();
    }

    fn tick(&mut self) {
        let until = self.world.now() + TICK;
        self.applications(true);
        while self.world.step(until) {
            if !self.world.poll_is_idle() {
                self.applications(false);
            }
        }
    }

    /// What the friend received in the time of the attack.
    fn play(mut self, attack: Attack) -> u64 {
        self.world.keep_trace();
        let ticks = |ms: u64| ms / TICK.as_millis() as u64;
        for _ in 0..ticks(WARM) {
            self.tick();
            self.world.take_trace();
        }
        match attack {
            Attack::OutOfOrder | Attack::Sacks | Attack::Optimistic => self.puppets(20, 1_460),
            Attack::TinyMss => self.puppets(20, 1),
            Attack::ZeroWindow => self.puppets(200, 1_460),
            _ => {}
        }
        let before = self.received;
        for _ in 0..ticks(LASTS) {
            self.attack(attack, RATE * TICK.as_millis() as u64 / 1_000);
            self.tick();
            self.watch();
        }
        let host = self.world.host(self.server);
        let pool = host.pool();
        assert!(
            pool.high_water() < pool.capacity(),
            "{attack:?}: the pool ran dry"
        );
        self.received - before
    }
}

fn header(port: u16) -> Repr {
    Repr {
        src_port: port,
        dst_port: 80,
        seq: 0,
        ack: Some(0),
        flags: Flags::NONE,
        window: 65_535,
        urgent: 0,
        options: Options::default(),
    }
}

#[test]
fn a_connection_keeps_its_goodput() {
    let alone = Scene::new(SEED).play(Attack::Nobody);
    assert!(alone > 18_000_000, "{alone} bytes in 2 s are few");
    for attack in [
        Attack::Syns,
        Attack::Acks,
        Attack::Blind,
        Attack::OutOfOrder,
        Attack::Sacks,
        Attack::TinyMss,
        Attack::Optimistic,
        Attack::ZeroWindow,
    ] {
        let besides = Scene::new(SEED).play(attack);
        assert!(
            besides >= alone / 10 * 9,
            "{attack:?}: {besides} of {alone}"
        );
    }
}
