//! What the host sends must be right: every length, checksum and address, and every byte in its place.

use base::{Checksum, Facts, GsoKind, Offloads};
use wire::tcp::Flags;
use wire::{
    Addr, EtherType, arp, checksum, ethernet, icmpv4, icmpv6, igmp, ipv4, ipv6, protocol, tcp, udp,
};

use super::{OUR_MAC, addresses};

/// Flows remembered, so that a script can go on with them.
const FLOWS_MAX: usize = 8;

/// One TCP connection as it looks on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) v6: bool,
    pub(super) host_port: u16,
    pub(super) peer_port: u16,
    /// The sequence number the host expects next.
    pub(super) expected: u32,
    /// The one it will send next.
    pub(super) next: u32,
    /// Its latest timestamp.
    pub(super) timestamp: u32,
    /// The sequence number of its first byte of data.
    start: Option<u32>,
}

impl Flow {
    pub(super) fn new(v6: bool, host_port: u16, peer_port: u16, expected: u32) -> Flow {
        Flow {
            v6,
            host_port,
            peer_port,
            expected,
            next: 0,
            timestamp: 0,
            start: None,
        }
    }

    fn is_same(&self, other: &Flow) -> bool {
        (self.v6, self.host_port, self.peer_port) == (other.v6, other.host_port, other.peer_port)
    }
}

pub(super) struct Judge {
    mtu: usize,
    offloads: Offloads,
    pub(super) flows: Vec<Flow>,
    tainted: bool,
    /// The peer has just reset this flow.
    reset: Option<Flow>,
}

impl Judge {
    pub(super) fn new(mtu: usize, offloads: Offloads) -> Judge {
        Judge {
            mtu,
            offloads,
            flows: Vec::with_capacity(FLOWS_MAX),
            tainted: false,
            reset: None,
        }
    }

    /// Raw bytes went in: they may have forged a segment, so received data proves nothing any more.
    pub(super) fn taint(&mut self) {
        self.tainted = true;
    }

    pub(super) fn is_tainted(&self) -> bool {
        self.tainted
    }

    /// A step begins; with `reset` the peer resets this flow.
    pub(super) fn begin(&mut self, reset: Option<Flow>) {
        self.reset = reset;
    }

    /// The peer sends a segment of this flow.
    pub(super) fn open(&mut self, flow: Flow) {
        if !self.flows.iter().any(|known| known.is_same(&flow)) {
            if self.flows.len() == FLOWS_MAX {
                self.flows.remove(0);
            }
            self.flows.push(flow);
        }
    }

    /// Judges a frame, completing its checksum as the device would.
    pub(super) fn frame(&mut self, frame: &mut [u8], facts: &Facts) {
        if let Checksum::Partial { start, offset } = facts.checksum {
            assert!(
                self.offloads.tx_checksum,
                "the device does not complete checksums"
            );
            let start = usize::from(start);
            let at = start + usize::from(offset);
            let sum = checksum::Sum::new()
                .add_bytes(&frame[start..])
                .finish_nonzero();
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let able = match facts.gso.kind {
            GsoKind::None => frame.len() <= ethernet::HEADER_LEN + self.mtu,
            GsoKind::Tcp4 => self.offloads.tso4,
            GsoKind::Tcp6 => self.offloads.tso6,
            GsoKind::Udp => self.offloads.uso,
        };
        assert!(
            able,
            "{} bytes, {:?}: more than the link or the device can",
            frame.len(),
            facts.gso
        );
        if !facts.gso.is_none() {
            let segment = usize::from(facts.gso.header_len) + usize::from(facts.gso.size);
            assert!(
                segment <= ethernet::HEADER_LEN + self.mtu,
                "a segment longer than the link carries"
            );
        }

        let packet = ethernet::Packet::new(frame).expect("a whole header");
        let repr = ethernet::Repr::parse(&packet).expect("a sound header");
        assert_eq!(repr.src, OUR_MAC);
        match repr.ethertype {
            EtherType::ARP => {
                let packet = arp::Packet::new(packet.payload()).expect("a whole ARP packet");
                arp::Repr::parse(&packet).expect("a sound ARP packet");
            }
            EtherType::IPV4 => self.ipv4(packet.payload()),
            EtherType::IPV6 => self.ipv6(packet.payload()),
            other => panic!("the host sends {other}"),
        }
    }

    fn ipv4(&mut self, bytes: &[u8]) {
        let packet = ipv4::Packet::new(bytes).expect("a whole header");
        let repr = ipv4::Repr::parse(&packet).expect("a sound header");
        assert_eq!(repr.total_len(), bytes.len(), "the length is the frame's");
        assert!(repr.ttl > 0, "RFC 1122 section 3.2.1.7");
        assert!(!repr.src.is_multicast() && !repr.src.is_broadcast());
        assert!(
            !repr.dst.is_loopback() && !repr.src.is_loopback(),
            "127/8 stays inside"
        );
        if !packet.is_fragment() {
            self.transport(repr.protocol, &repr.src, &repr.dst, packet.payload());
        }
    }

    fn ipv6(&mut self, bytes: &[u8]) {
        let packet = ipv6::Packet::new(bytes).expect("a whole header");
        let repr = ipv6::Repr::parse(&packet).expect("a sound header");
        assert_eq!(repr.total_len(), bytes.len(), "the length is the frame's");
        assert!(repr.hop_limit > 0);
        assert!(!repr.src.is_multicast() && !repr.src.is_loopback() && !repr.dst.is_loopback());
        assert!(!repr.dst.is_unspecified());
        let chain = ipv6::ext::walk(repr.next_header, packet.payload()).expect("a sound chain");
        if chain.fragment.is_none() {
            self.transport(
                chain.transport,
                &repr.src,
                &repr.dst,
                &packet.payload()[chain.offset..],
            );
        }
    }

    fn transport(&mut self, number: u8, src: &Addr, dst: &Addr, bytes: &[u8]) {
        match number {
            protocol::TCP => {
                let packet = tcp::Packet::new(bytes).expect("a whole header");
                assert!(packet.verify_checksum(src, dst), "a wrong TCP checksum");
                assert!(
                    !dst.is_multicast() && !dst.is_broadcast(),
                    "TCP is between two hosts"
                );
                self.segment(&packet, dst);
            }
            protocol::UDP => {
                let packet = udp::Packet::new(bytes).expect("a whole header");
                assert_eq!(usize::from(packet.len()), bytes.len());
                assert!(packet.verify_checksum(src, dst), "a wrong UDP checksum");
            }
            protocol::ICMPV4 => {
                let packet = icmpv4::Packet::new(bytes).expect("a whole header");
                assert!(packet.verify_checksum(), "a wrong ICMP checksum");
                assert!(!packet.is_error() || !(dst.is_multicast() || dst.is_broadcast()));
            }
            protocol::ICMPV6 => {
                let packet = icmpv6::Packet::new(bytes).expect("a whole header");
                assert!(packet.verify_checksum(src, dst), "a wrong ICMPv6 checksum");
                assert!(!packet.is_error() || !dst.is_multicast());
            }
            protocol::IGMP => {
                let packet = igmp::Packet::new(bytes).expect("a whole header");
                assert!(packet.verify_checksum(), "a wrong IGMP checksum");
            }
            other => panic!("the host sends protocol {other}"),
        }
    }

    fn segment(&mut self, packet: &tcp::Packet<'_>, dst: &Addr) {
        let flags = packet.flags();
        let options = packet.options();
        assert!(!options.malformed);
        assert!(
            flags.contains(Flags::SYN) || options.mss.is_none(),
            "RFC 9293 MUST-65"
        );
        assert!(
            flags.contains(Flags::SYN) || options.window_scale.is_none(),
            "RFC 7323 section 2.2"
        );
        assert!(
            flags.contains(Flags::SYN) || !options.sack_permitted,
            "RFC 2018 section 2"
        );
        assert!(!(flags.contains(Flags::SYN) && flags.contains(Flags::FIN)));
        let v6 = !dst.is_v4();
        if *dst != addresses(v6).1 {
            return;
        }

        let heard = Flow::new(v6, packet.src_port(), packet.dst_port(), packet.ack());
        self.open(heard);
        let Some(flow) = self.flows.iter_mut().find(|flow| flow.is_same(&heard)) else {
            return;
        };
        if flags.contains(Flags::RST) {
            let answers = self.reset.is_some_and(|reset| reset.is_same(&heard));
            assert!(!answers, "a reset for a reset (RFC 9293 section 3.10.7.1)");
            flow.start = None;
            return;
        }
        if flags.contains(Flags::SYN) {
            // A new connection, or the same SYN again.
            flow.start = Some(packet.seq().wrapping_add(1));
        }
        if flags.contains(Flags::ACK) {
            flow.expected = packet.ack();
        }
        flow.next = packet.seq().wrapping_add(packet.segment_len());
        flow.timestamp = options.timestamps.map_or(0, |(value, _)| value);
        let Some(start) = flow.start else { return };
        let offset = packet.seq().wrapping_sub(start);
        for (at, &byte) in packet.payload().iter().enumerate() {
            assert_eq!(
                byte,
                offset.wrapping_add(at as u32) as u8,
                "a byte sent out of its place"
            );
        }
    }
}
