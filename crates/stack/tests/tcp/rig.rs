//! The test's end of the wire: builds segments, takes segments apart, answers address resolution, owns the clock.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;

use base::{Batch, Chain, Checksum, Instant, Offloads, Packet};
use stack::{Config, Event, Host, InterfaceConfig, InterfaceId, SocketError, SocketId, TcpOptions};
pub(crate) use wire::tcp::Flags;
use wire::tcp::{Options, Repr};
use wire::{Addr, Mac, checksum};

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub(crate) const LOCAL: &str = "10.0.0.1:80";
pub(crate) const REMOTE: &str = "10.0.0.2:5000";

pub(crate) const SYN: Flags = Flags::SYN;
pub(crate) const ACK: Flags = Flags::ACK;
pub(crate) const FIN: Flags = Flags::FIN;
pub(crate) const RST: Flags = Flags::RST;
pub(crate) const PSH: Flags = Flags::PSH;

/// A segment as the peer sends or sees it. Sequence numbers are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seg {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: Flags,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Options,
    pub(crate) data: Vec<u8>,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) src: Addr,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) dont_fragment: bool,
}

impl Seg {
    pub(crate) fn has(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }

    pub(crate) fn is(&self, flags: Flags) -> bool {
        self.flags.0 & !Flags::PSH.0 == flags.0
    }
}

/// A host, its wire and its clock.
pub(crate) struct Rig {
    pub(crate) host: Host,
    pub(crate) now: Instant,
    pub(crate) interface: InterfaceId,
    out: VecDeque<Seg>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) window: u16,
    pub(crate) peer_port: u16,
    /// Round trip of the handshake, the first sample of the timeout: 0 leads to the least timeout, `SECOND` to one second.
    pub(crate) handshake_ms: u64,
}

/// The handshake's round trip after which the timeout is a second: it and four times half of it (RFC 6298 2.2).
pub(crate) const SECOND: u64 = 334;

/// An established connection: the handle, and the numbers of both sides.
pub(crate) struct Open {
    pub(crate) socket: SocketId,
    /// What the host sends next.
    pub(crate) host: u32,
    /// What the peer sends next.
    pub(crate) peer: u32,
}

/// The options of a SYN whose sender scales windows and takes selective acknowledgments.
pub(crate) fn scaled() -> Options {
    Options {
        sack_permitted: true,
        ..scaled_without_sack()
    }
}

/// The options of a SYN whose sender only scales windows.
pub(crate) fn scaled_without_sack() -> Options {
    Options {
        mss: Some(1460),
        window_scale: Some(7),
        ..Options::default()
    }
}

/// Sets the ECN bits of a frame's IPv4 header.
pub(crate) fn marked(mut frame: Vec<u8>, bits: u8) -> Vec<u8> {
    frame[15] = frame[15] & !3 | bits;
    frame[24..26].fill(0);
    let sum = checksum::Sum::new().add_bytes(&frame[14..34]).finish();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

pub(crate) fn config() -> Config {
    Config {
        pool_blocks: 2048,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::seeded(config, 7)
    }

    /// A host that draws its secrets from `seed`.
    pub(crate) fn seeded(config: Config, seed: u64) -> Self {
        let now = Instant::from_secs(100);
        let mut host = Host::new(config, seed, now).unwrap();
        let interface = InterfaceConfig {
            name: "test".into(),
            mac: Some(OURS),
            mtu: 1500,
            offloads: Offloads::NONE,
        };
        let interface = host.add_interface(now, interface).unwrap();
        host.add_address(now, interface, "10.0.0.1/24".parse().unwrap())
            .unwrap();
        let mut rig = Self {
            host,
            now,
            interface,
            out: VecDeque::new(),
            events: VecDeque::new(),
            window: 65_535,
            peer_port: 5000,
            handshake_ms: 0,
        };
        rig.pump();
        rig
    }

    pub(crate) fn listen(&mut self, backlog: usize, options: &TcpOptions) -> SocketId {
        self.host
            .tcp_listen(self.now, LOCAL.parse().unwrap(), backlog, options)
            .unwrap()
    }

    /// Lets a frame arrive.
    fn arrive(&mut self, bytes: &[u8]) {
        self.arrive_together(&[bytes.to_vec()]);
    }

    /// Lets frames arrive in one batch.
    pub(crate) fn arrive_together(&mut self, frames: &[Vec<u8>]) {
        let mut batch = Batch::new();
        for bytes in frames {
            let mut chain = Chain::default();
            assert_eq!(
                self.host.pool_mut().append_bytes(&mut chain, bytes),
                bytes.len()
            );
            assert!(batch.push(Packet::new(chain)).is_ok());
        }
        self.host.handle_batch(self.now, self.interface, &mut batch);
        self.pump();
    }

    pub(crate) fn add_address(&mut self, cidr: &str) {
        self.host
            .add_address(self.now, self.interface, cidr.parse().unwrap())
            .unwrap();
        self.pump();
    }

    /// The peer sends a segment.
    pub(crate) fn send(&mut self, seq: u32, ack: u32, flags: Flags, data: &[u8]) {
        self.send_with(seq, ack, flags, data, Options::default());
    }

    pub(crate) fn send_with(
        &mut self,
        seq: u32,
        ack: u32,
        flags: Flags,
        data: &[u8],
        options: Options,
    ) {
        let local: SocketAddr = LOCAL.parse().unwrap();
        self.send_to(local.port(), seq, ack, flags, data, options);
    }

    pub(crate) fn send_to(
        &mut self,
        port: u16,
        seq: u32,
        ack: u32,
        flags: Flags,
        data: &[u8],
        options: Options,
    ) {
        let bytes = self.frame(port, seq, ack, flags, data, options);
        self.arrive(&bytes);
    }

    /// The frame of a segment, for tests that spoil it.
    pub(crate) fn frame(
        &self,
        port: u16,
        seq: u32,
        ack: u32,
        flags: Flags,
        data: &[u8],
        options: Options,
    ) -> Vec<u8> {
        let repr = Repr {
            src_port: self.peer_port,
            dst_port: port,
            seq,
            ack: flags.contains(ACK).then_some(ack),
            flags: Flags(flags.0 & !ACK.0),
            window: self.window,
            urgent: 0,
            options,
        };
        packet(&repr, data, Addr::v4(10, 0, 0, 2), Addr::v4(10, 0, 0, 1))
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.arrive(bytes);
    }

    /// Collects what the host sends and tells; answers ARP.
    pub(crate) fn pump(&mut self) {
        let mut requests = 0;
        loop {
            let mut batch = Batch::new();
            let more = self
                .host
                .poll_transmit(self.now, self.interface, &mut batch);
            let empty = batch.is_empty();
            while let Some(packet) = batch.pop_front() {
                let slices = self.host.pool().slices(&packet.chain);
                let mut bytes: Vec<u8> = slices.flatten().copied().collect();
                self.host.pool_mut().free(packet.chain);
                if let Checksum::Partial { start, offset } = packet.facts.checksum {
                    let (start, at) = (usize::from(start), usize::from(start + offset));
                    let sum = checksum::Sum::new().add_bytes(&bytes[start..]).finish();
                    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
                }
                requests += usize::from(self.take(&bytes));
            }
            if empty && !more {
                break;
            }
        }
        while let Some(event) = self.host.poll_event() {
            self.events.push_back(event);
        }
        self.host.audit().unwrap();
        if requests > 0 {
            self.answer_arp();
        }
    }

    /// Sorts one frame; returns whether it asks for the peer's hardware address.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let ethernet = wire::ethernet::Packet::new(bytes).unwrap();
        if ethernet.ethertype() == wire::ethernet::EtherType::ARP {
            let arp = wire::arp::Repr::parse(&wire::arp::Packet::new(ethernet.payload()).unwrap())
                .unwrap();
            return arp.target_ip == [10, 0, 0, 2];
        }
        let mut dont_fragment = true;
        let (protocol, src, dst, ttl, tos, payload) =
            if ethernet.ethertype() == wire::ethernet::EtherType::IPV4 {
                let ip = wire::ipv4::Packet::new(ethernet.payload()).unwrap();
                assert!(ip.verify_checksum());
                let tos = ip.dscp() << 2 | ip.ecn();
                dont_fragment = ip.dont_fragment();
                (
                    ip.protocol(),
                    ip.src(),
                    ip.dst(),
                    ip.ttl(),
                    tos,
                    ip.payload(),
                )
            } else {
                let ip = wire::ipv6::Packet::new(ethernet.payload()).unwrap();
                let (ttl, tos) = (ip.hop_limit(), ip.traffic_class());
                (ip.next_header(), ip.src(), ip.dst(), ttl, tos, ip.payload())
            };
        if protocol != 6 {
            return false;
        }
        let tcp = wire::tcp::Packet::new(payload).unwrap();
        assert!(
            tcp.verify_checksum(&src, &dst),
            "checksum of what the host sends"
        );
        well_formed(&tcp);
        self.out.push_back(Seg {
            seq: tcp.seq(),
            ack: tcp.ack(),
            flags: tcp.flags(),
            window: tcp.window(),
            urgent: tcp.urgent(),
            options: tcp.options(),
            data: tcp.payload().to_vec(),
            src_port: tcp.src_port(),
            dst_port: tcp.dst_port(),
            src,
            ttl,
            tos,
            dont_fragment,
        });
        false
    }

    fn answer_arp(&mut self) {
        let reply = wire::arp::Repr {
            op: wire::arp::Operation::Reply,
            sender_mac: PEER,
            sender_ip: [10, 0, 0, 2],
            target_mac: OURS,
            target_ip: [10, 0, 0, 1],
        };
        let mut bytes = [OURS.0, PEER.0].concat();
        bytes.extend_from_slice(&[8, 6]);
        let at = bytes.len();
        bytes.resize(at + 28, 0);
        reply.emit(&mut bytes[at..]);
        self.arrive(&bytes);
    }

    /// The next segment the host sent, if any.
    pub(crate) fn next(&mut self) -> Option<Seg> {
        self.pump();
        self.out.pop_front()
    }

    /// The next segment the host sent.
    pub(crate) fn expect(&mut self) -> Seg {
        self.next().expect("the host sends a segment")
    }

    /// The host sent nothing more.
    pub(crate) fn silence(&mut self) {
        let next = self.next();
        assert_eq!(next, None, "the host stays silent");
    }

    /// Moves the clock, letting every timer on the way go off.
    pub(crate) fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.host.next_deadline()
            && at <= until
        {
            self.now = self.now.max(at);
            self.host.handle_timers(self.now);
            self.pump();
        }
        self.now = until;
        self.host.handle_timers(self.now);
        self.pump();
    }

    pub(crate) fn ms(&mut self, ms: u64) {
        self.advance(Duration::from_millis(ms));
    }

    /// A connection accepted by a fresh listener: peer's numbers from 1000, no options but MSS 1460.
    pub(crate) fn accepted(&mut self, options: &TcpOptions) -> Open {
        self.accepted_with(
            options,
            Options {
                mss: Some(1460),
                ..Options::default()
            },
        )
    }

    pub(crate) fn accepted_with(&mut self, options: &TcpOptions, syn: Options) -> Open {
        let listener = self.listen(8, options);
        self.accepted_by(listener, syn)
    }

    /// The same by a listener there is.
    pub(crate) fn accepted_by(&mut self, listener: SocketId, syn: Options) -> Open {
        self.send_with(999, 0, SYN, &[], syn);
        let answer = self.expect();
        assert!(answer.is(SYN | ACK) && answer.ack == 1000);
        self.ms(self.handshake_ms);
        let timestamps = syn
            .timestamps
            .map(|(v, _)| (v + 1, answer.options.timestamps.unwrap().0));
        self.send_with(
            1000,
            answer.seq + 1,
            ACK,
            &[],
            Options {
                timestamps,
                ..Options::default()
            },
        );
        let (socket, peer) = self.host.tcp_accept(self.now, listener).unwrap();
        assert_eq!(peer, REMOTE.parse().unwrap());
        Open {
            socket,
            host: answer.seq + 1,
            peer: 1000,
        }
    }

    /// A connection with a receive buffer of six segments, all of it full.
    pub(crate) fn full(&mut self) -> Open {
        let options = TcpOptions {
            receive_buffer: Some(8760),
            ..TcpOptions::default()
        };
        let open = self.accepted(&options);
        for at in 0..6 {
            self.send(open.peer + at * 1460, open.host, ACK, &[7; 1460]);
            let ack = self.expect();
            let edge = ack.ack + u32::from(ack.window);
            assert_eq!(edge, open.peer + 8760, "the right edge stays");
        }
        open
    }

    /// TIME-WAIT of a connection, with timestamps from 100 to 120: the peer's next number, and ours.
    pub(crate) fn time_wait(&mut self) -> (u32, u32) {
        let stamped = |value, echo| Options {
            timestamps: Some((value, echo)),
            ..Options::default()
        };
        let syn = Options {
            mss: Some(1460),
            ..stamped(100, 0)
        };
        let open = self.accepted_with(&TcpOptions::default(), syn);
        self.host.close(self.now, open.socket).unwrap();
        let fin = self.expect();
        self.send_with(open.peer, fin.seq + 1, FIN | ACK, &[], stamped(120, 1));
        self.expect();
        assert_eq!(self.host.tcp_occupancy().time_wait, 1);
        (open.peer + 1, fin.seq + 1)
    }

    /// A connection made by the host to the peer's port 5000.
    pub(crate) fn connect(&mut self, options: &TcpOptions) -> (SocketId, Seg) {
        let socket = self
            .host
            .tcp_connect(self.now, REMOTE.parse().unwrap(), None, options)
            .unwrap();
        let syn = self.expect();
        assert!(syn.has(SYN) && !syn.has(ACK));
        (socket, syn)
    }

    pub(crate) fn write(&mut self, open: &Open, bytes: &[u8]) -> usize {
        self.host.tcp_send(self.now, open.socket, bytes).unwrap()
    }

    pub(crate) fn read(&mut self, socket: SocketId) -> Result<Vec<u8>, SocketError> {
        let mut buffer = vec![0; 1 << 20];
        let n = self.host.tcp_recv(self.now, socket, &mut buffer)?;
        buffer.truncate(n);
        Ok(buffer)
    }

    /// Nothing is left but listeners.
    pub(crate) fn assert_empty_but_listener(&self) {
        let left = self.host.tcp_occupancy();
        assert_eq!(
            (
                left.connections,
                left.active,
                left.half_open,
                left.time_wait
            ),
            (0, 0, 0, 0)
        );
        assert_eq!(self.host.pool().in_use(), 0);
    }

    /// Nothing is left: no records, no memory.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.host.tcp_occupancy(), stack::TcpOccupancy::default());
        assert_eq!(
            (
                self.host.pool().in_use(),
                self.host.pool().segments_in_use()
            ),
            (0, 0)
        );
    }
}

/// A segment in a packet of either family in a frame from the peer, with its checksum.
pub(crate) fn packet(repr: &Repr, data: &[u8], src: Addr, dst: Addr) -> Vec<u8> {
    let mut tcp = vec![0; repr.header_len()];
    repr.emit(&mut tcp);
    tcp.extend_from_slice(data);
    let sum = checksum::pseudo(&src, &dst, 6, tcp.len() as u32)
        .add_bytes(&tcp)
        .finish();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    in_ip(6, &tcp, src, dst)
}

/// A payload of `protocol` in a packet of either family in a frame from the peer.
pub(crate) fn in_ip(protocol: u8, payload: &[u8], src: Addr, dst: Addr) -> Vec<u8> {
    let mut bytes = [OURS.0, PEER.0].concat();
    if src.is_v4() {
        let ip = wire::ipv4::Repr {
            src,
            dst,
            protocol,
            ttl: 64,
            tos: 0,
            ident: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            router_alert: false,
            payload_len: payload.len(),
        };
        bytes.extend_from_slice(&[8, 0]);
        bytes.resize(34, 0);
        ip.emit(&mut bytes[14..]);
    } else {
        let ip = wire::ipv6::Repr::new(src, dst, protocol, 255, payload.len());
        bytes.extend_from_slice(&[0x86, 0xdd]);
        bytes.resize(54, 0);
        ip.emit(&mut bytes[14..]);
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// The rules for every segment, whatever it says: RFC 9293 MUST-65 (the MSS on SYNs only; RFC 7323 2.2 and RFC 2018 2 say the
/// same of theirs), MUST-68 (lengths), MUST-69 (padding).
fn well_formed(tcp: &wire::tcp::Packet<'_>) {
    let mut area = tcp.options_bytes();
    while let Some((&kind, rest)) = area.split_first() {
        if kind == 1 {
            area = rest;
            continue;
        }
        if kind == 0 {
            assert!(rest.iter().all(|b| *b == 0), "padding is zero");
            return;
        }
        let len = usize::from(rest[0]);
        assert!((2..=area.len()).contains(&len), "option {kind}: {len}");
        if matches!(kind, 2..=4) {
            assert!(tcp.flags().contains(SYN), "option {kind} on a SYN only");
        }
        area = &area[len..];
    }
}

pub(crate) fn nodelay() -> TcpOptions {
    TcpOptions {
        nodelay: true,
        ..TcpOptions::default()
    }
}
