//! Frames of every kind the host speaks, mostly plausible, often damaged.
//!
//! What becomes of them does not live here.

use std::net::SocketAddr;

use base::Rng;
use wire::tcp::{Flags, Options, Repr};
use wire::{Addr, EtherType, Mac, checksum, ethernet, icmpv4, icmpv6, igmp, ipv4, ipv6, protocol};

pub(crate) const HOST_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const HOST_V4: Addr = Addr::v4(10, 77, 0, 2);
const PEER_V4: Addr = Addr::v4(10, 77, 0, 1);
/// Connections remembered.
const FLOWS: usize = 128;

pub(crate) fn host_v6() -> Addr {
    Addr([0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2])
}

pub(crate) fn peer_v6() -> Addr {
    Addr([0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
}

/// A connection as the host's latest segment showed it, from the peer's side.
#[derive(Clone, Copy)]
struct Flow {
    peer: Addr,
    host: Addr,
    peer_port: u16,
    host_port: u16,
    /// What the host expects next.
    seq: u32,
    /// What it has sent.
    ack: u32,
    timestamp: Option<u32>,
}

/// Makes frames without end.
pub(crate) struct Generator {
    rng: Rng,
    flows: Vec<Flow>,
    next_flow: usize,
    frame: Vec<u8>,
    clock: u32,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::from_seed(seed),
            flows: Vec::with_capacity(FLOWS),
            next_flow: 0,
            frame: Vec::with_capacity(4096),
            clock: 1000,
        }
    }

    /// The next frame, and whether the device vouches for its transport checksum.
    pub(crate) fn next(&mut self) -> (&[u8], bool) {
        self.frame.clear();
        match self.rng.below(100) {
            0..4 => self.noise(),
            4..10 => self.arp(),
            10..25 => self.icmp(),
            25..40 => self.udp(),
            40..85 => self.tcp(),
            85..93 => self.fragment(),
            _ => self.odd_headers(),
        }
        if self.rng.below(4) == 0 {
            self.damage();
        }
        if self.rng.below(2) == 0 {
            // Padding of a short frame, or what a driver left behind.
            self.frame.resize(self.frame.len().max(60), 0);
        }
        (&self.frame, self.rng.below(3) == 0)
    }

    /// Somewhere to send to: a neighbour that answers, one that does not, somebody far away.
    pub(crate) fn somewhere(&mut self) -> SocketAddr {
        let port = [80, 9, 1 + self.rng.below(60_000) as u16][self.rng.below(3) as usize];
        let v6 = self.rng.below(2) == 0;
        SocketAddr::new(self.stranger(v6).to_ip(), port)
    }

    /// Remembers the connection a segment of the host's belongs to.
    pub(crate) fn learn(&mut self, frame: &[u8]) {
        let Some(segment) = interop::frames::tcp(frame) else {
            return;
        };
        if segment.flags.contains(Flags::RST) {
            return;
        }
        let counted = segment.payload.len() as u32
            + u32::from(segment.flags.contains(Flags::SYN))
            + u32::from(segment.flags.contains(Flags::FIN));
        let flow = Flow {
            peer: segment.ip.dst,
            host: segment.ip.src,
            peer_port: segment.dst_port,
            host_port: segment.src_port,
            seq: segment.ack,
            ack: segment.seq.wrapping_add(counted),
            timestamp: segment.options.timestamps.map(|(value, _)| value),
        };
        let same = |f: &&mut Flow| {
            (f.peer, f.peer_port, f.host_port) == (flow.peer, flow.peer_port, flow.host_port)
        };
        if let Some(known) = self.flows.iter_mut().find(same) {
            *known = flow;
        } else if self.flows.len() < FLOWS {
            self.flows.push(flow);
        } else {
            self.flows[self.next_flow] = flow;
            self.next_flow = (self.next_flow + 1) % FLOWS;
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.below(one_in) == 0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rng.fill(&mut bytes);
        bytes
    }

    fn random_len(&mut self) -> usize {
        match self.rng.below(4) {
            0 => self.rng.below(8) as usize,
            1 => self.rng.below(100) as usize,
            _ => self.rng.below(1400) as usize,
        }
    }

    fn stranger(&mut self, v6: bool) -> Addr {
        match (self.rng.below(6), v6) {
            (0..=2, false) => PEER_V4,
            (0..=2, true) => peer_v6(),
            (3, false) => Addr::v4(10, 77, 0, self.rng.u32() as u8),
            (4, false) => Addr::v4(192, 0, 2, self.rng.u32() as u8),
            (_, false) => Addr::from_v4(self.rng.u32().to_be_bytes()),
            (3, true) => {
                let mut addr = peer_v6();
                addr.0[15] = self.rng.u32() as u8;
                addr
            }
            (4, true) => {
                let mut addr = Addr([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                addr.0[15] = self.rng.u32() as u8;
                addr
            }
            (_, true) => {
                let mut addr = Addr([0x20; 16]);
                self.rng.fill(&mut addr.0[4..]);
                addr
            }
        }
    }

    /// The host, or a group or broadcast address it listens to.
    fn target(&mut self, v6: bool) -> Addr {
        match (self.rng.below(12), v6) {
            (0, false) => Addr::v4(255, 255, 255, 255),
            (1, false) => Addr::v4(10, 77, 0, 255),
            (2, false) => Addr::v4(224, 0, 0, 1),
            (_, false) => HOST_V4,
            (0, true) => Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            (1 | 2, true) => host_v6().solicited_node(),
            (_, true) => host_v6(),
        }
    }

    fn link(&mut self, dst: Mac, ethertype: EtherType) {
        let mut header = [0; ethernet::HEADER_LEN];
        let src = if self.chance(8) {
            Mac([2, 0, 0, 0, 1, self.rng.u32() as u8])
        } else {
            PEER_MAC
        };
        let repr = ethernet::Repr {
            src,
            dst,
            ethertype,
        };
        repr.emit(&mut header);
        self.frame.extend_from_slice(&header);
    }

    fn ip(&mut self, src: Addr, dst: Addr, number: u8, payload: &[u8]) {
        let ttl = [64, 255, 1, 0][self.rng.below(4) as usize];
        // Neighbour discovery counts only if it was not forwarded.
        let ttl = if number == protocol::ICMPV6 && !self.chance(4) {
            255
        } else {
            ttl
        };
        let mac = dst.multicast_mac().unwrap_or(HOST_MAC);
        let mac = if dst.is_broadcast() {
            Mac::BROADCAST
        } else {
            mac
        };
        if dst.is_v4() {
            self.link(mac, EtherType::IPV4);
            let repr = ipv4::Repr::new(src, dst, number, ttl, payload.len());
            let mut header = vec![0; repr.header_len()];
            repr.emit(&mut header);
            self.frame.extend_from_slice(&header);
        } else {
            self.link(mac, EtherType::IPV6);
            let repr = ipv6::Repr::new(src, dst, number, ttl, payload.len());
            let mut header = vec![0; repr.header_len()];
            repr.emit(&mut header);
            self.frame.extend_from_slice(&header);
        }
        self.frame.extend_from_slice(payload);
    }

    /// Anything at all, behind a plausible Ethernet header or none.
    fn noise(&mut self) {
        let len = self.rng.below(1600) as usize;
        let bytes = self.bytes(len);
        if !self.chance(4) {
            let ethertype = [
                EtherType::ARP,
                EtherType::IPV4,
                EtherType::IPV6,
                EtherType::VLAN,
            ][self.rng.below(4) as usize];
            let dst = [HOST_MAC, Mac::BROADCAST][self.rng.below(2) as usize];
            self.link(dst, ethertype);
        }
        self.frame.extend_from_slice(&bytes);
    }

    fn arp(&mut self) {
        let dst = [HOST_MAC, Mac::BROADCAST][self.rng.below(2) as usize];
        self.link(dst, EtherType::ARP);
        self.frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0]);
        let operation = 1 + self.rng.below(2) as u8;
        self.frame.push(operation);
        for target in [false, true] {
            let mac = self.bytes(6);
            let own = self.chance(2);
            self.frame
                .extend_from_slice(if own { &PEER_MAC.0 } else { &mac });
            let addr = match (target, self.rng.below(4)) {
                (true, 0..=2) => HOST_V4,
                (false, 0..=2) => self.stranger(false),
                _ => Addr::from_v4([10, 77, 0, self.rng.u32() as u8]),
            };
            let addr = if addr.is_v4() { addr } else { PEER_V4 };
            self.frame.extend_from_slice(&addr.v4_octets());
        }
    }

    /// Echo, errors about what the host sent or did not send, neighbour and router discovery, group queries.
    fn icmp(&mut self) {
        let v6 = self.chance(2);
        let (src, dst) = (self.stranger(v6), self.target(v6));
        let quote = self.chance(2);
        let mut message = if quote {
            self.error_message(v6)
        } else {
            let len = self.random_len();
            let mut message = self.bytes(8 + len);
            message[0] = if v6 {
                [128, 129, 130, 133, 134, 135, 135, 136, 137, 143, 1][self.rng.below(11) as usize]
            } else {
                [8, 8, 8, 0, 3, 11, 12, 5, 13, 17][self.rng.below(10) as usize]
            };
            message[1] = 0;
            if v6 && (133..=137).contains(&message[0]) {
                self.discovery(&mut message);
            }
            message
        };
        if v6 {
            icmpv6::fill_checksum(&mut message, &src, &dst);
            self.ip(src, dst, protocol::ICMPV6, &message);
        } else if self.chance(8) {
            igmp::fill_checksum(&mut message);
            self.ip(src, dst, protocol::IGMP, &message);
        } else {
            icmpv4::fill_checksum(&mut message);
            self.ip(src, dst, protocol::ICMPV4, &message);
        }
    }

    /// An error that quotes a segment of a connection, or one that never was.
    fn error_message(&mut self, v6: bool) -> Vec<u8> {
        let known = self.pick();
        let (number, from, to, ports, seq) = match known {
            Some(flow) if flow.host.is_v4() != v6 => (
                protocol::TCP,
                flow.host,
                flow.peer,
                (flow.host_port, flow.peer_port),
                flow.ack.wrapping_sub(self.rng.below(3000)),
            ),
            _ => {
                let host = if v6 { host_v6() } else { HOST_V4 };
                let number = [protocol::TCP, protocol::UDP][self.rng.below(2) as usize];
                let ports = (7, self.rng.u32() as u16);
                (number, host, self.stranger(v6), ports, self.rng.u32())
            }
        };
        let mut quoted = Vec::new();
        quoted.extend_from_slice(&ports.0.to_be_bytes());
        quoted.extend_from_slice(&ports.1.to_be_bytes());
        quoted.extend_from_slice(&seq.to_be_bytes());
        let rest = self.bytes(12);
        quoted.extend_from_slice(&rest);
        let mut message = self.bytes(8);
        (message[0], message[1]) = if v6 {
            [(1, 4), (2, 0), (3, 0), (4, 1), (1, 1)][self.rng.below(5) as usize]
        } else {
            [(3, 3), (3, 4), (3, 1), (11, 0), (12, 0), (3, 2)][self.rng.below(6) as usize]
        };
        // A plausible next-hop MTU.
        message[4..6].fill(0);
        let mtu = [296, 552, 576, 1280, 1400, 9000, 68][self.rng.below(7) as usize];
        message[6..8].copy_from_slice(&u16::to_be_bytes(mtu));
        let start = self.frame.len();
        self.ip(from, to, number, &quoted);
        message.extend_from_slice(&self.frame[start + ethernet::HEADER_LEN..]);
        self.frame.truncate(start);
        message
    }

    /// The options of neighbour discovery, of honest lengths, behind the fixed part.
    fn discovery(&mut self, message: &mut Vec<u8>) {
        let fixed = match message[0] {
            133 => 8,
            134 => 16,
            137 => 40,
            _ => 24,
        };
        message.resize(fixed, 0);
        if fixed >= 24 {
            let target = if self.chance(2) {
                host_v6()
            } else {
                self.stranger(true)
            };
            message[8..24].copy_from_slice(&target.0);
        }
        for _ in 0..self.rng.below(4) {
            let kind = [1, 2, 3, 4, 5, 25, 14][self.rng.below(7) as usize];
            let units = match kind {
                3 | 4 => 4,
                _ => 1 + self.rng.below(3) as usize,
            };
            let mut option = self.bytes(units * 8);
            (option[0], option[1]) = (kind, units as u8);
            if kind == 3 {
                // A prefix SLAAC may take.
                option[2] = 64;
                option[16..32].copy_from_slice(&self.stranger(true).0);
                option[24..32].fill(0);
            }
            message.extend_from_slice(&option);
        }
    }

    fn udp(&mut self) {
        let v6 = self.chance(2);
        let (src, dst) = (self.stranger(v6), self.target(v6));
        let len = self.random_len();
        let mut datagram = self.bytes(8 + len);
        let port = [7, 53, 9, self.rng.u32() as u16][self.rng.below(4) as usize];
        datagram[2..4].copy_from_slice(&port.to_be_bytes());
        datagram[4..6].copy_from_slice(&((8 + len) as u16).to_be_bytes());
        datagram[6..8].fill(0);
        if !self.chance(8) {
            let sum = checksum::pseudo(&src, &dst, protocol::UDP, datagram.len() as u32)
                .add_bytes(&datagram);
            datagram[6..8].copy_from_slice(&sum.finish_nonzero().to_be_bytes());
        }
        self.ip(src, dst, protocol::UDP, &datagram);
    }

    fn pick(&mut self) -> Option<Flow> {
        let n = self.flows.len() as u32;
        (n > 0).then(|| self.flows[self.rng.below(n) as usize])
    }

    /// Mostly segments near to what a connection expects, else SYNs and strays.
    fn tcp(&mut self) {
        self.clock = self.clock.wrapping_add(1);
        let known = if self.chance(5) { None } else { self.pick() };
        let (src, dst, mut repr) = match known {
            Some(flow) => (flow.peer, flow.host, self.near(&flow)),
            None => self.opening(),
        };
        let len = if repr.flags.contains(Flags::SYN) || self.chance(2) {
            0
        } else {
            self.random_len()
        };
        if self.chance(16) {
            repr.options.malformed = false;
            repr.options.mss = Some(self.rng.u32() as u16);
        }
        let mut segment = vec![0; repr.header_len()];
        repr.emit(&mut segment);
        let payload = self.bytes(len);
        segment.extend_from_slice(&payload);
        let sum =
            checksum::pseudo(&src, &dst, protocol::TCP, segment.len() as u32).add_bytes(&segment);
        segment[16..18].copy_from_slice(&sum.finish().to_be_bytes());
        self.ip(src, dst, protocol::TCP, &segment);
    }

    fn near(&mut self, flow: &Flow) -> Repr {
        let away = |rng: &mut Rng, span: u32| match rng.below(8) {
            0..5 => 0,
            5 => rng.below(span),
            6 => 0u32.wrapping_sub(rng.below(span)),
            _ => rng.u32(),
        };
        let flags = match self.rng.below(16) {
            0 => Flags::FIN,
            1 => Flags::RST,
            2 => Flags::SYN,
            3 => Flags::URG,
            4 => Flags(self.rng.u32() as u16 & 0x1ef),
            5..9 => Flags::PSH,
            _ => Flags(0),
        };
        let timestamps = flow.timestamp.map(|echo| {
            let value = self.clock.wrapping_add(away(&mut self.rng, 100));
            (value, echo.wrapping_sub(self.rng.below(10)))
        });
        let seq = flow.seq.wrapping_add(away(&mut self.rng, 20_000));
        let ack = flow.ack.wrapping_add(away(&mut self.rng, 5000));
        let mut options = Options {
            timestamps: timestamps.filter(|_| self.rng.below(10) > 0),
            ..Options::default()
        };
        if self.chance(5) {
            let room = 3.min(1 + self.rng.below(3) as usize);
            for i in 0..room {
                let start = flow.ack.wrapping_sub(away(&mut self.rng, 20_000));
                options.sack.blocks[i] = (start, start.wrapping_add(self.rng.below(5000)));
            }
            options.sack.len = room as u8;
        }
        Repr {
            src_port: flow.peer_port,
            dst_port: flow.host_port,
            seq,
            ack: (self.rng.below(20) > 0).then_some(ack),
            flags,
            window: [0, 1, 500, 65_535, self.rng.u32() as u16][self.rng.below(5) as usize],
            urgent: self.rng.u32() as u16,
            options,
        }
    }

    fn opening(&mut self) -> (Addr, Addr, Repr) {
        let v6 = self.chance(2);
        let (src, dst) = (self.stranger(v6), self.target(v6));
        let syn = !self.chance(4);
        let repr = Repr {
            src_port: 1 + self.rng.below(65_535) as u16,
            dst_port: [80, 80, 80, 81][self.rng.below(4) as usize],
            seq: self.rng.u32(),
            ack: (!syn).then_some(self.rng.u32()),
            flags: if syn {
                Flags::SYN
            } else {
                Flags(self.rng.u32() as u16 & 0x1ef)
            },
            window: self.rng.u32() as u16,
            urgent: 0,
            options: Options {
                mss: self
                    .chance(2)
                    .then_some([1460, 536, 0, 48][self.rng.below(4) as usize]),
                window_scale: self.chance(2).then_some(self.rng.below(16) as u8),
                sack_permitted: self.chance(2),
                timestamps: self.chance(2).then_some((self.clock, 0)),
                ..Options::default()
            },
        };
        (src, dst, repr)
    }

    /// Pieces of datagrams that overlap, are missing, or end in the wrong place.
    fn fragment(&mut self) {
        let v6 = self.chance(2);
        let (src, dst) = if v6 {
            (peer_v6(), host_v6())
        } else {
            (PEER_V4, HOST_V4)
        };
        let (ident, more) = (self.rng.below(16), self.rng.below(3) > 0);
        let offset = [0, 0, 8, 1208, 1480, self.rng.below(8192) * 8][self.rng.below(6) as usize];
        let len = [8, 1200, 1480 - 8, self.rng.below(1400)][self.rng.below(4) as usize] as usize;
        let number = if v6 {
            protocol::ICMPV6
        } else {
            protocol::ICMPV4
        };
        let number = [number, protocol::UDP, protocol::TCP][self.rng.below(3) as usize];
        let payload = self.bytes(len);
        if v6 {
            let mut packet = vec![number, 0];
            packet.extend_from_slice(&((offset as u16) & 0xfff8 | u16::from(more)).to_be_bytes());
            packet.extend_from_slice(&ident.to_be_bytes());
            packet.extend_from_slice(&payload);
            self.ip(src, dst, protocol::FRAGMENT, &packet);
        } else {
            self.link(HOST_MAC, EtherType::IPV4);
            let repr = ipv4::Repr {
                ident: ident as u16,
                more_fragments: more,
                fragment_offset: offset as u16,
                ..ipv4::Repr::new(src, dst, number, 64, payload.len())
            };
            let mut header = vec![0; repr.header_len()];
            repr.emit(&mut header);
            self.frame.extend_from_slice(&header);
            self.frame.extend_from_slice(&payload);
        }
    }

    /// IPv6 extension headers in any order, and protocols nobody speaks.
    fn odd_headers(&mut self) {
        let v6 = !self.chance(4);
        let (src, dst) = (self.stranger(v6), self.target(v6));
        if !v6 {
            let len = self.random_len();
            let payload = self.bytes(len);
            let number = self.rng.u32() as u8;
            return self.ip(src, dst, number, &payload);
        }
        let kinds = [
            protocol::HOP_BY_HOP,
            protocol::DESTINATION_OPTIONS,
            protocol::ROUTING,
            protocol::FRAGMENT,
            protocol::AH,
            protocol::UDP,
            protocol::NO_NEXT_HEADER,
        ];
        let first = kinds[self.rng.below(2) as usize];
        let mut packet = Vec::new();
        for _ in 0..1 + self.rng.below(5) {
            let next = kinds[self.rng.below(7) as usize];
            let units = self.rng.below(3) as usize;
            let mut header = self.bytes(8 + 8 * units);
            (header[0], header[1]) = (next, units as u8);
            if self.chance(2) {
                // One option that fills the rest.
                header[2] = self.rng.u32() as u8;
                header[3] = (4 + 8 * units) as u8;
            }
            packet.extend_from_slice(&header);
        }
        self.ip(src, dst, first, &packet);
    }

    /// A few bits wrong, the end missing, or too much of it.
    fn damage(&mut self) {
        let len = self.frame.len() as u32;
        match self.rng.below(4) {
            0 => self.frame.truncate(self.rng.below(len + 1) as usize),
            1 => {
                let more = self.random_len();
                let bytes = self.bytes(more);
                self.frame.extend_from_slice(&bytes);
            }
            _ => {
                for _ in 0..1 + self.rng.below(4) {
                    // Where headers are, mostly.
                    let span = if self.chance(4) { len } else { len.min(80) };
                    let at = self.rng.below(span) as usize;
                    if let Some(byte) = self.frame.get_mut(at) {
                        *byte ^= 1 << self.rng.below(8);
                    }
                }
            }
        }
    }
}
