//! Traces through the whole of the net: bytes of frames in, bytes of frames and datagrams out.
//!
//! Packets are built and read with `wire`; what a frame must look like is written out where it matters.

mod icmp;
mod input;
mod output;
mod path;

use core::time::Duration;

use base::{Facts, Instant, Pool, Rng, SipKey, Wheel};
use wire::{Mac, checksum, ethernet, icmpv4, icmpv6, ipv4, ipv6, protocol};

use super::*;
use crate::context::split_token;
use crate::stats::{Count, Drop, Stats};

const IF0: InterfaceId = InterfaceId(0);
const IF1: InterfaceId = InterfaceId(1);
const OWN: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
const PEER: Mac = Mac([2, 0, 0, 0, 0, 9]);

/// Addresses of ours on the first interface and of a peer there, by family.
const US: [&str; 2] = ["10.0.0.1", "fd00::1"];
const THEM: [&str; 2] = ["10.0.0.2", "fd00::2"];

fn ip(text: &str) -> Addr {
    text.parse().unwrap()
}

struct Rig {
    core: Core,
    net: Net,
}

impl Rig {
    /// Two interfaces with an address of each family; a gateway of each family on the first; peers that are known.
    fn new() -> Self {
        Self::with(Offloads::NONE, 1500)
    }

    fn with(offloads: Offloads, mtu: usize) -> Self {
        let config = Config {
            pool_blocks: 1024,
            timers: 4096,
            reassemblies: 8,
            reassembly_blocks: 128,
            path_mtus: 64,
            neighbours: 64,
            transmit_queue: 256,
            duplicate_detection: false,
            accept_router_advertisements: false,
            ..Config::default()
        };
        let mut core = Core {
            now: Instant::from_secs(1000),
            pool: Pool::new(config.pool_blocks).unwrap(),
            wheel: Wheel::with_capacity(config.timers),
            rng: Rng::from_seed(42),
            stats: Stats::default(),
            secret: SipKey([9; 16]),
            tcp: crate::tcp::TcpTunables::default(),
            memory: crate::tcp::Memory::new(&crate::tcp::TcpTunables::default().sized(1 << 20)),
            sharding: None,
        };
        let mut net = Net::new(&config, &mut core);
        for (n, mac) in OWN.into_iter().enumerate() {
            let link = InterfaceConfig {
                name: format!("eth{n}"),
                mac: Some(mac),
                mtu,
                offloads,
            };
            assert_eq!(net.add_interface(&mut core, link), Ok(InterfaceId(n as u8)));
        }
        let mut rig = Self { core, net };
        for (interface, cidr) in [
            (IF0, "10.0.0.1/24"),
            (IF0, "fd00::1/64"),
            (IF1, "192.168.7.1/24"),
            (IF1, "fd07::1/64"),
        ] {
            rig.add_address(interface, cidr);
        }
        for (dst, via) in [("0.0.0.0/0", "10.0.0.254"), ("::/0", "fd00::254")] {
            let route = Route {
                dst: dst.parse().unwrap(),
                via: Some(ip(via)),
                interface: IF0,
                metric: 0,
            };
            rig.net.add_route(route, RouteMetrics::default()).unwrap();
        }
        for addr in [
            "10.0.0.2",
            "fd00::2",
            "10.0.0.254",
            "fd00::254",
            "10.0.0.253",
        ] {
            rig.net
                .neighbours
                .set_permanent(&mut rig.core, IF0, &ip(addr), PEER);
        }
        rig.pass(60);
        rig.frames(IF0);
        rig.frames(IF1);
        rig.core.stats = Stats::default();
        rig
    }

    fn add_address(&mut self, interface: InterfaceId, cidr: &str) {
        self.net
            .add_address(&mut self.core, interface, cidr.parse().unwrap())
            .unwrap();
    }

    /// Lets seconds pass.
    fn pass(&mut self, seconds: u64) {
        let end = self.core.now + Duration::from_secs(seconds);
        while let Some(next) = self.core.wheel.next_deadline().filter(|&next| next <= end) {
            self.core.now = self.core.now.max(next);
            while let Some(token) = self.core.wheel.pop_expired(self.core.now) {
                let (kind, index, extra) = split_token(token);
                self.net.on_timer(&mut self.core, kind, index, extra);
            }
        }
        self.core.now = end;
    }

    fn chain(&mut self, bytes: &[u8]) -> Chain {
        let mut chain = self.core.pool.alloc(64).unwrap();
        assert_eq!(self.core.pool.append_bytes(&mut chain, bytes), bytes.len());
        chain
    }

    /// A frame from the wire.
    fn receive(&mut self, frame: &[u8]) -> Input {
        self.receive_on(IF0, frame, Facts::NONE)
    }

    fn receive_on(&mut self, interface: InterfaceId, frame: &[u8], facts: Facts) -> Input {
        let chain = self.chain(frame);
        self.net
            .input(&mut self.core, interface, Packet { chain, facts })
    }

    /// A frame that must be dropped for this reason, once, and not answered.
    #[track_caller]
    fn dropped(&mut self, frame: &[u8], reason: Drop) {
        let before = self.core.stats.drops.total();
        let seen = self.core.stats.drops.get(reason);
        assert!(matches!(self.receive(frame), Input::Done));
        let found = self.core.stats.drops.get(reason) - seen;
        assert_eq!(
            (found, self.core.stats.drops.total() - before),
            (1, 1),
            "{reason:?}"
        );
        assert_eq!(
            self.net.interfaces[0].queue.len(),
            0,
            "{reason:?} is answered"
        );
    }

    /// A frame that must be delivered: gives group flag, transport offset and the packet's bytes.
    #[track_caller]
    fn delivered(&mut self, frame: &[u8]) -> (bool, usize, Vec<u8>) {
        match self.receive(frame) {
            Input::Datagram(datagram) => {
                let bytes = self.bytes(datagram.chain);
                (datagram.group, usize::from(datagram.l4), bytes)
            }
            other => panic!("{other:?}: {:?}", self.core.stats.drops),
        }
    }

    /// A frame that must be answered with one packet, whose bytes these are.
    #[track_caller]
    fn answered(&mut self, frame: &[u8]) -> Vec<u8> {
        assert!(matches!(self.receive(frame), Input::Done));
        let mut frames = self.frames(IF0);
        assert_eq!(frames.len(), 1, "{:?}", self.core.stats.drops);
        frames.remove(0).split_off(14)
    }

    fn bytes(&mut self, chain: Chain) -> Vec<u8> {
        let mut bytes = vec![0; chain.len()];
        self.core.pool.copy_out(&chain, 0, &mut bytes);
        self.core.pool.free(chain);
        bytes
    }

    /// IP packets to single hosts or IPv4 groups that wait to be transmitted; checks what must hold for any frame.
    fn frames(&mut self, interface: InterfaceId) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(packet) = self.net.transmit_queue(interface).unwrap().pop_front() {
            let bytes = self.bytes(packet.chain);
            // The net's own talk about the link has tests of its own.
            if bytes[12..14] == [8, 6] || (bytes[14] >> 4 == 6 && bytes[38] == 0xff) {
                continue;
            }
            check_frame(&bytes, OWN[usize::from(interface.0)]);
            out.push(bytes);
        }
        out
    }

    fn idle(&self) {
        assert_eq!(self.core.pool.in_use(), 0, "blocks are left over");
    }
}

/// Lengths and header checksums of a frame that was sent.
fn check_frame(frame: &[u8], own: Mac) {
    let ethernet = ethernet::Packet::new(frame).unwrap();
    assert_eq!(ethernet.src(), own);
    match frame[14] >> 4 {
        4 => {
            let packet = ipv4::Packet::new(&frame[14..]).unwrap();
            ipv4::check(&packet).unwrap();
            assert_eq!(usize::from(packet.total_len()), frame.len() - 14);
        }
        6 => {
            let packet = ipv6::Packet::new(&frame[14..]).unwrap();
            ipv6::check(&packet).unwrap();
            assert_eq!(usize::from(packet.payload_len()), frame.len() - 54);
        }
        other => panic!("version {other}"),
    }
}

/// A frame for our first interface.
fn framed(packet: &[u8]) -> Vec<u8> {
    framed_to(OWN[0], packet)
}

fn framed_to(dst: Mac, packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 4 {
        wire::EtherType::IPV4
    } else {
        wire::EtherType::IPV6
    };
    let mut frame = vec![0; 14];
    let repr = ethernet::Repr {
        src: PEER,
        dst,
        ethertype,
    };
    repr.emit(&mut frame);
    frame.extend_from_slice(packet);
    frame
}

/// An IP packet with this payload.
fn packet(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = (ip(src), ip(dst));
    let mut bytes = if dst.is_v4() {
        let mut bytes = vec![0; 20];
        ipv4::Repr::new(src, dst, protocol, 64, payload.len()).emit(&mut bytes);
        bytes
    } else {
        let mut bytes = vec![0; 40];
        ipv6::Repr::new(src, dst, protocol, 64, payload.len()).emit(&mut bytes);
        bytes
    };
    bytes.extend_from_slice(payload);
    bytes
}

/// A UDP packet from port 1000 to port 2000, its checksum right.
fn udp(src: &str, dst: &str, data: &[u8]) -> Vec<u8> {
    packet(src, dst, protocol::UDP, &udp_bytes(src, dst, data))
}

fn udp_bytes(src: &str, dst: &str, data: &[u8]) -> Vec<u8> {
    let len = (8 + data.len()) as u16;
    let mut bytes = vec![0x03, 0xe8, 0x07, 0xd0];
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(data);
    let sum = checksum::pseudo(&ip(src), &ip(dst), protocol::UDP, u32::from(len));
    let check = sum.add_bytes(&bytes).finish_nonzero();
    bytes[6..8].copy_from_slice(&check.to_be_bytes());
    bytes
}

/// An ICMP message of the family of the addresses, its checksum right.
fn icmp(src: &str, dst: &str, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    if ip(dst).is_v4() {
        icmpv4::fill_checksum(&mut message);
        packet(src, dst, protocol::ICMPV4, &message)
    } else {
        icmpv6::fill_checksum(&mut message, &ip(src), &ip(dst));
        packet(src, dst, protocol::ICMPV6, &message)
    }
}

/// An echo request with identifier 7, sequence number 9 and this data.
fn echo(src: &str, dst: &str, data: &[u8]) -> Vec<u8> {
    let kind = if ip(dst).is_v4() { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0, 0, 7, 0, 9];
    message.extend_from_slice(data);
    icmp(src, dst, &message)
}

fn set_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Makes the checksum of an IPv4 header right again.
fn mend(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 15) * 4;
    set_u16(packet, 10, 0);
    let check = checksum::Sum::new().add_bytes(&packet[..len]).finish();
    set_u16(packet, 10, check);
}

/// An IPv4 packet with these options in its header.
fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut out = packet[..20].to_vec();
    out.extend_from_slice(options);
    out.extend_from_slice(&packet[20..]);
    out[0] = 0x40 | (5 + options.len() / 4) as u8;
    let len = out.len() as u16;
    set_u16(&mut out, 2, len);
    mend(&mut out);
    out
}

/// An IPv6 packet with these extension headers, whose first has this number; the last must name the transport.
fn with_headers(packet: &[u8], first: u8, headers: &[u8]) -> Vec<u8> {
    let mut out = packet[..40].to_vec();
    out[6] = first;
    out.extend_from_slice(headers);
    out.extend_from_slice(&packet[40..]);
    let len = (out.len() - 40) as u16;
    set_u16(&mut out, 4, len);
    out
}

/// The fragments of a packet, cut after every `size` bytes of data.
fn fragments(packet: &[u8], ident: u16, size: usize) -> Vec<Vec<u8>> {
    let v4 = packet[0] >> 4 == 4;
    let head = if v4 { 20 } else { 40 };
    let data = &packet[head..];
    let count = data.len().div_ceil(size);
    let cut = |n: usize| {
        let piece = &data[n * size..data.len().min((n + 1) * size)];
        let (offset, more) = ((n * size) as u16, n + 1 < count);
        let mut out = packet[..head].to_vec();
        if v4 {
            out.extend_from_slice(piece);
            let len = out.len() as u16;
            set_u16(&mut out, 2, len);
            set_u16(&mut out, 4, ident);
            set_u16(&mut out, 6, (offset / 8) | if more { 0x2000 } else { 0 });
            mend(&mut out);
        } else {
            let repr = ipv6::ext::FragmentRepr {
                next_header: packet[6],
                offset,
                more,
                ident: u32::from(ident),
            };
            let mut header = [0; 8];
            repr.emit(&mut header);
            out[6] = protocol::FRAGMENT;
            out.extend_from_slice(&header);
            out.extend_from_slice(piece);
            let len = (out.len() - 40) as u16;
            set_u16(&mut out, 4, len);
        }
        out
    };
    (0..count).map(cut).collect()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}
