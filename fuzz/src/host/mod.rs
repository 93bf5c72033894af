//! The whole host: frames, calls and time, in any order.
//!
//! The input is a script. Frames come raw, with honest checksums around raw contents, or as TCP segments near to what
//! a connection expects (which chance alone would never hit). After every step what the host sends is judged
//! ([`judge`]), and at the end, after half an hour of silence, nothing may be left: no connection, no timer that
//! matters, no block of memory.

mod calls;
mod craft;
mod judge;

use base::{Batch, Checksum, Instant, Offloads, Packet};
use stack::{Config, Host, InterfaceConfig, InterfaceId, Route, SocketId};
use wire::tcp::Flags;
use wire::{Addr, Cidr, Mac};

use judge::Judge;

pub(crate) const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub(crate) const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const MTU: usize = 1500;
/// Steps of one script: enough for a connection's life, few enough for thousands of scripts a second.
const STEPS_MAX: usize = 256;
/// Frames a host may send in answer to one step; beyond it, it talks to itself.
const ANSWERS_MAX: usize = 4096;
/// Sockets a script may hold, and deadlines the host may have after it ended.
const SOCKETS_MAX: usize = 16;
const DEADLINES_MAX: usize = 100_000;
const SILENCE: base::time::Duration = base::time::Duration::from_secs(1800);

/// The host's address and the peer's, of either family.
pub(crate) fn addresses(v6: bool) -> (Addr, Addr) {
    if v6 {
        let mut peer = [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let peer_addr = Addr(peer);
        peer[15] = 2;
        (Addr(peer), peer_addr)
    } else {
        (Addr::v4(10, 77, 0, 2), Addr::v4(10, 77, 0, 1))
    }
}

/// The script: reads past its end give zero.
#[derive(Clone, Copy)]
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    /// Up to `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }
}

/// A socket of the script's, and how many bytes it was given to send.
struct Socket {
    id: SocketId,
    sent: u64,
    /// Where the pattern of received bytes stands; unknown before the first.
    received: Option<u8>,
}

struct World {
    host: Host,
    interface: InterfaceId,
    now: Instant,
    sockets: Vec<Socket>,
    judge: Judge,
    /// The peer answers who asks for its link address.
    resolves: bool,
}

/// Runs one script.
pub fn host(data: &[u8]) {
    let mut script = Script(data);
    let mut world = World::new(script.u8());
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.pump();
    }
    world.finish();
}

fn small() -> Config {
    Config {
        pool_blocks: 512,
        tcp_connections: 16,
        tcp_active: 8,
        tcp_half_open: 8,
        tcp_time_wait: 8,
        tcp_listeners: 4,
        udp_sockets: 4,
        timers: 512,
        neighbours: 16,
        routes: 16,
        path_mtus: 8,
        reassemblies: 4,
        reassembly_blocks: 64,
        transmit_queue: 64,
        tcp_receive_buffer: Some(64 * 1024),
        tcp_send_buffer: Some(64 * 1024),
        udp_receive_buffer: 16 * 1024,
        duplicate_detection: false,
        accept_router_advertisements: true,
        ..Config::default()
    }
}

impl World {
    fn new(flags: u8) -> World {
        let now = Instant::from_secs(1000);
        let config = Config {
            duplicate_detection: flags & 1 != 0,
            ..small()
        };
        let mut host =
            Host::new(config, u64::from(flags >> 4), now).expect("the figures are sound");
        let offloads = if flags & 2 == 0 {
            Offloads::NONE
        } else {
            Offloads::ALL
        };
        let interface = InterfaceConfig {
            name: "fuzz".to_owned(),
            mac: Some(OUR_MAC),
            mtu: MTU,
            offloads,
        };
        let interface = host
            .add_interface(now, interface)
            .expect("there is room for one");
        for (v6, prefix) in [(false, 24), (true, 64)] {
            let cidr = Cidr::new(addresses(v6).0, prefix).expect("a prefix of the family");
            host.add_address(now, interface, cidr)
                .expect("the address is free");
            let everywhere = if v6 {
                Addr::UNSPECIFIED_V6
            } else {
                Addr::UNSPECIFIED_V4
            };
            let dst = Cidr::new(everywhere, 0).expect("a prefix of the family");
            let route = Route {
                dst,
                via: Some(addresses(v6).1),
                interface,
                metric: 100,
            };
            host.add_route(now, route)
                .expect("the gateway is on the link");
        }
        let sockets = Vec::with_capacity(SOCKETS_MAX);
        let judge = Judge::new(MTU, offloads);
        let mut world = World {
            host,
            interface,
            now,
            sockets,
            judge,
            resolves: flags & 4 == 0,
        };
        world.call(&mut Script(&[0, 0]));
        world.pump();
        world
    }

    fn step(&mut self, script: &mut Script<'_>) {
        self.judge.begin(None);
        match script.u8() % 8 {
            0 => {
                let len = usize::from(script.u16() % 1600);
                let frame = script.bytes(len).to_vec();
                self.judge.taint();
                self.arrive(&frame, Checksum::Unknown);
            }
            1 => {
                let frame = craft::link(script);
                self.judge.taint();
                self.arrive(&frame, Checksum::Unknown);
            }
            2 => {
                let (frame, checksum) = craft::packet(script);
                self.judge.taint();
                self.arrive(&frame, checksum);
            }
            3 | 4 => {
                let (frame, flow, flags) = craft::segment(script, &self.judge.flows, self.now);
                self.judge.open(flow);
                self.judge.begin(flags.contains(Flags::RST).then_some(flow));
                self.arrive(&frame, Checksum::Unknown);
            }
            5 => self.pass(script.u8()),
            _ => self.call(script),
        }
    }

    /// A frame arrives.
    fn arrive(&mut self, frame: &[u8], checksum: Checksum) {
        let pool = self.host.pool_mut();
        let Some(mut chain) = pool.alloc(64) else {
            return;
        };
        if pool.append_bytes(&mut chain, frame) < frame.len() {
            return pool.free(chain);
        }
        let mut packet = Packet::new(chain);
        packet.facts.checksum = checksum;
        let mut batch = Batch::new();
        assert!(batch.push(packet).is_ok());
        self.host.handle_batch(self.now, self.interface, &mut batch);
        assert!(batch.is_empty(), "handle_batch empties the batch");
    }

    /// Time passes: from a nanosecond to a few minutes.
    fn pass(&mut self, amount: u8) {
        let nanos = (1_u64 << (amount % 38)) + u64::from(amount);
        self.now += base::time::Duration::from_nanos(nanos);
        self.host.handle_timers(self.now);
    }

    /// Takes what the host sends, judges it, and answers who asks for the peer's link address.
    fn pump(&mut self) {
        let mut answers = 0;
        loop {
            let mut batch = Batch::new();
            let more = self
                .host
                .poll_transmit(self.now, self.interface, &mut batch);
            let idle = batch.is_empty();
            while let Some(packet) = batch.pop_front() {
                let mut frame = vec![0; packet.chain.len()];
                assert_eq!(
                    self.host.pool().copy_out(&packet.chain, 0, &mut frame),
                    frame.len()
                );
                self.host.pool_mut().free(packet.chain);
                self.judge.frame(&mut frame, &packet.facts);
                if self.resolves
                    && let Some(answer) = craft::resolution(&frame)
                {
                    self.arrive(&answer, Checksum::Unknown);
                }
                answers += 1;
                assert!(answers < ANSWERS_MAX, "the host talks to itself");
            }
            if idle {
                assert!(!more, "more is waiting, but nothing comes");
                break;
            }
        }
        let ended = (0..ANSWERS_MAX).any(|_| self.host.poll_event().is_none());
        assert!(ended, "events without end");
        self.host.audit().expect("every invariant holds");
    }

    /// Closes everything, lets time pass, and looks for what is left.
    fn finish(mut self) {
        self.judge.begin(None);
        for socket in std::mem::take(&mut self.sockets) {
            self.host
                .abort(self.now, socket.id)
                .expect("a live socket can be aborted");
        }
        self.pump();
        self.resolves = false;
        let end = self.now + SILENCE;
        for _ in 0..DEADLINES_MAX {
            let Some(deadline) = self
                .host
                .next_deadline()
                .filter(|deadline| *deadline <= end)
            else {
                let left = self.host.tcp_occupancy();
                assert_eq!(
                    left,
                    stack::TcpOccupancy::default(),
                    "connections outlive their sockets"
                );
                assert_eq!(self.host.pool().in_use(), 0, "blocks leak");
                return;
            };
            self.now = self.now.max(deadline) + base::time::Duration::from_nanos(1);
            self.host.handle_timers(self.now);
            self.pump();
        }
        panic!("deadlines without end");
    }
}
