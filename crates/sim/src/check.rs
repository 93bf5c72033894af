//! Properties every frame a host sends must have, whatever the network did to it.
//!
//! Watches frames as they leave: lengths and checksums right, and for each TCP direction: the acknowledgment number never moves
//! back, the right edge of the window never moves left (but for less than a scaled field's unit), nothing is sent beyond the edge
//! the peer granted or above its MSS, MSS only on SYNs, SACK blocks of what came, in the order of RFC 2018, no segment over the
//! end of a record. What is parsed and emitted again is the same. Between steps connections move only along the edges of RFC 9293,
//! and what must hold inside a host does.
//!
//! What does not live here: whether the bytes are the right ones, which the receiving scenario checks.

mod received;
mod states;

use core::fmt;
use core::net::SocketAddr;
use std::collections::{BTreeSet, HashMap};

use base::{Instant, Seq};
use stack::{Drop, Host, Stats};
use wire::tcp::{Flags, Packet};
use wire::{Addr, Mac, arp, checksum, ethernet, ipv4, ipv6, tcp, udp};

use received::Received;
use states::States;

/// A property that did not hold, and the frame that broke it.
#[derive(Debug, Clone)]
pub struct Violation {
    /// When the frame left.
    pub at: Instant,
    /// What is wrong with it.
    pub what: String,
    /// The frame; empty when something inside a host is wrong.
    pub frame: Vec<u8>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} us: {}", self.at.micros(), self.what)?;
        if self.frame.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", wire::Pretty(&self.frame))
    }
}

type Flow = (Addr, u16, Addr, u16);

/// What a SYN offers to go by.
#[derive(Debug, Default, Clone, Copy)]
struct Terms {
    stamp: Option<u32>,
    shift: Option<u8>,
}

/// What one end of a connection has said.
#[derive(Debug, Default, Clone)]
struct Said {
    ack: Option<Seq>,
    /// Highest right edge granted to the peer.
    edge: Option<Seq>,
    /// Of its last SYN, until the peer has chosen one.
    terms: Terms,
    /// What its SYNs offered that the peer has not chosen from: of a handshake by cookie nothing is kept, and each may say something else.
    offers: Vec<Terms>,
    chosen: bool,
    mss: u16,
    syn: Option<Seq>,
}

impl Said {
    /// The peer's first segment that is no SYN sends back the timestamp of the SYN it goes by (RFC 7323 3.2).
    fn choose(&mut self, echo: Option<u32>) {
        let chosen = self.offers.iter().find(|terms| terms.stamp == echo);
        self.terms = chosen.copied().unwrap_or(self.terms);
        self.offers.clear();
        self.chosen = true;
    }

    /// The right edge granted so far, with one that is told now. RFC 7323 2.4: a scaled field may take back less than its unit.
    fn moves_edge(&self, edge: Seq, unit: u32) -> Result<Seq, String> {
        match self.edge {
            Some(before) if (edge + unit - 1).lt(before) => Err(format!(
                "right window edge moves left by {}",
                before.dist(edge)
            )),
            Some(before) => Ok(before.max(edge)),
            None => Ok(edge),
        }
    }
}

/// The watcher of one world.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    flows: HashMap<Flow, Said>,
    received: Received,
    states: States,
    /// Ends of records, in bytes from the start of the stream.
    records: HashMap<Flow, BTreeSet<u32>>,
    violation: Option<Violation>,
}

impl Checker {
    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// A record of what `local` sends to `peer` ends behind so many bytes.
    pub(crate) fn end_record(&mut self, local: SocketAddr, peer: SocketAddr, after: u64) {
        let flow = (
            Addr::from(local.ip()),
            local.port(),
            Addr::from(peer.ip()),
            peer.port(),
        );
        self.records.entry(flow).or_default().insert(after as u32);
    }

    /// Looks into a host: its own invariants, which no frame shows, and how its connections have moved.
    pub(crate) fn inside(&mut self, at: Instant, node: usize, host: &Host) {
        if self.violation.is_some() {
            return;
        }
        if let Err(what) = host.audit().and_then(|()| self.states.look(node, host)) {
            self.violation = Some(Violation {
                at,
                what: format!("inside host {node}: {what}"),
                frame: Vec::new(),
            });
        }
    }

    /// A host is about to speak, and has refused data for want of memory, or not.
    pub(crate) fn refusals(&mut self, stats: &Stats) {
        let refused = [Drop::TcpOutOfOrderMemory, Drop::TcpReceiveQueueFull];
        self.received.refused |= refused.iter().any(|why| stats.drops.get(*why) > 0);
    }

    /// Takes note of a frame that arrives at the station `mac`; the checksum of a `whole` super-frame is vouched for.
    pub(crate) fn arrives(&mut self, mac: Mac, frame: &[u8], whole: bool) {
        let sound =
            ethernet::Packet::new(frame).is_ok_and(|e| e.dst() == mac && !e.src().is_multicast());
        let Ok(Some(Transport {
            src,
            dst,
            protocol,
            l4,
        })) = transport(frame)
        else {
            return;
        };
        let sums = checksum::pseudo(&src, &dst, protocol, l4.len() as u32)
            .add_bytes(l4)
            .fold()
            == 0xffff;
        let Ok(tcp) = Packet::new(l4) else { return };
        if !sound || protocol != 6 || !(whole || sums) {
            return;
        }
        let flow = (src, tcp.src_port(), dst, tcp.dst_port());
        let back = (dst, tcp.dst_port(), src, tcp.src_port());
        let edge = self.flows.get(&back).and_then(|said| said.edge);
        self.received.arrived(flow, &tcp, edge.map(|edge| edge.0));
    }

    /// Looks at one frame as it leaves a host.
    pub(crate) fn frame(&mut self, at: Instant, mtu: usize, frame: &[u8]) {
        if self.violation.is_some() {
            return;
        }
        if let Err(what) = self.examine(mtu, frame) {
            self.violation = Some(Violation {
                at,
                what,
                frame: frame.to_vec(),
            });
        }
    }

    fn examine(&mut self, mtu: usize, frame: &[u8]) -> Result<(), String> {
        if frame.len() > mtu + ethernet::HEADER_LEN {
            let len = frame.len();
            return Err(format!("frame of {len} bytes on a link of MTU {mtu}"));
        }
        emits_the_same(frame)?;
        let Some(Transport {
            src,
            dst,
            protocol,
            l4,
        }) = transport(frame)?
        else {
            return Ok(());
        };
        let udp_without = protocol == 17 && l4.get(6..8) == Some(&[0, 0]) && src.is_v4();
        if matches!(protocol, 6 | 17 | 58)
            && !udp_without
            && checksum::pseudo(&src, &dst, protocol, l4.len() as u32)
                .add_bytes(l4)
                .fold()
                != 0xffff
        {
            return Err(format!("transport checksum is wrong (protocol {protocol})"));
        }
        if protocol == 6 {
            self.tcp(src, dst, l4)
        } else {
            Ok(())
        }
    }

    fn tcp(&mut self, src: Addr, dst: Addr, l4: &[u8]) -> Result<(), String> {
        let tcp = Packet::new(l4).map_err(|e| format!("TCP header: {e:?}"))?;
        let (flags, options) = (tcp.flags(), tcp.options());
        if options.malformed {
            return Err("TCP options are malformed".into());
        }
        let flow = (src, tcp.src_port(), dst, tcp.dst_port());
        let back = (dst, tcp.dst_port(), src, tcp.src_port());
        if flags.contains(Flags::RST) {
            // It says nothing more, but what the peer still says is read with what both agreed on.
            if let Some(said) = self.flows.get_mut(&flow) {
                (said.ack, said.edge) = (None, None);
            }
            return Ok(());
        }
        let (seq, ack) = (Seq(tcp.seq()), Seq(tcp.ack()));
        if flags.contains(Flags::SYN) {
            return self.syn(flow, seq, &tcp);
        }
        if options.mss.is_some() {
            return Err("MSS option on a segment without SYN (RFC 9293 MUST-65)".into());
        }
        let len = tcp.payload().len() as u32;
        self.within_what_the_peer_allows(&back, seq, len)?;
        self.keeps_records_apart(&flow, seq, len)?;
        let mut theirs = Terms::default();
        if let Some(peer) = self.flows.get_mut(&back) {
            peer.choose(options.timestamps.map(|(_, echo)| echo));
            theirs = peer.terms;
        }
        let Some(said) = self.flows.get_mut(&flow) else {
            return Ok(());
        };
        if !flags.contains(Flags::ACK) {
            return Err("segment without ACK and without SYN or RST".into());
        }
        let ours = said.terms;
        if ours.stamp.and(theirs.stamp).is_some() && options.timestamps.is_none() {
            return Err("segment without the timestamps agreed on (RFC 7323 3.2)".into());
        }
        let shift = ours.shift.filter(|_| theirs.shift.is_some()).unwrap_or(0);
        let edge = ack + (u32::from(tcp.window()) << shift);
        if said.ack.is_some_and(|before| ack.lt(before)) {
            return Err(format!(
                "acknowledgment moves back from {} to {}",
                said.ack.map_or(0, |a| a.0),
                ack.0
            ));
        }
        // A window is closed where data in it are refused.
        let edge = match said.edge {
            Some(before) if self.received.refused => before.max(edge),
            _ => said.moves_edge(edge, 1 << shift)?,
        };
        for (at, &(start, end)) in options.sack.as_slice().iter().enumerate() {
            let (start, end) = (Seq(start), Seq(end));
            if !start.lt(end) || end.gt(edge) || (at > 0 && !start.gt(ack)) {
                return Err(format!(
                    "SACK block {at} ({}..{}) is out of place above {}",
                    start.0, end.0, ack.0
                ));
            }
        }
        said.ack = Some(ack);
        said.edge = Some(edge);
        self.received.blocks_tell_the_truth(&back, &tcp)
    }

    /// RFC 9293 MUST-16 and 3.8.6: no segment above the peer's MSS, no data beyond the edge it granted.
    fn within_what_the_peer_allows(&self, back: &Flow, seq: Seq, len: u32) -> Result<(), String> {
        if let Some(peer) = self.flows.get(back) {
            let limit = if peer.mss == 0 { u16::MAX } else { peer.mss };
            if len > u32::from(limit) {
                return Err(format!(
                    "segment of {len} bytes exceeds the peer's MSS of {limit}"
                ));
            }
            let end = seq + len;
            if let Some(edge) = peer.edge
                && len > 0
                && end.gt(edge)
            {
                return Err(format!(
                    "data up to {} beyond the peer's window edge {}",
                    end.0, edge.0
                ));
            }
        }
        Ok(())
    }

    /// MSG_EOR: what follows the end of a record shares no segment with it.
    fn keeps_records_apart(&self, flow: &Flow, seq: Seq, len: u32) -> Result<(), String> {
        let first = self.flows.get(flow).and_then(|said| said.syn);
        let (Some(ends), Some(first)) = (self.records.get(flow), first) else {
            return Ok(());
        };
        if len < 2 {
            return Ok(());
        }
        let start = seq.0.wrapping_sub(first.0.wrapping_add(1));
        let inside = start.saturating_add(1)..start.saturating_add(len);
        match ends.range(inside).next() {
            Some(end) => Err(format!(
                "a record ends at {end}, within {len} bytes from {start}"
            )),
            None => Ok(()),
        }
    }

    fn syn(&mut self, flow: Flow, seq: Seq, tcp: &Packet<'_>) -> Result<(), String> {
        let options = tcp.options();
        let said = self.flows.entry(flow).or_default();
        if said.syn != Some(seq) {
            *said = Said {
                syn: Some(seq),
                ..Said::default()
            };
        }
        // It may change between a SYN and the same again: which of them the peer went by is not known.
        said.mss = said.mss.max(options.mss.unwrap_or(536));
        if !said.chosen {
            said.terms = Terms {
                stamp: options.timestamps.map(|(stamp, _)| stamp),
                shift: options.window_scale,
            };
            said.offers.push(said.terms);
        }
        self.keeps_records_apart(&flow, seq + 1, tcp.payload().len() as u32)?;
        let said = self.flows.entry(flow).or_default();
        if tcp.flags().contains(Flags::ACK) {
            let ack = Seq(tcp.ack());
            let edge = ack + u32::from(tcp.window());
            said.ack = Some(ack);
            said.edge = Some(said.edge.map_or(edge, |e| e.max(edge)));
        }
        Ok(())
    }
}

/// What an IP packet carries to whom.
struct Transport<'a> {
    src: Addr,
    dst: Addr,
    protocol: u8,
    l4: &'a [u8],
}

/// The transport of a frame that is one whole IP packet.
fn transport(frame: &[u8]) -> Result<Option<Transport<'_>>, String> {
    let ethernet = ethernet::Packet::new(frame).map_err(|e| format!("Ethernet header: {e:?}"))?;
    let payload = ethernet.payload();
    let (src, dst, protocol, l4) = match ethernet.ethertype() {
        ethernet::EtherType::IPV4 => {
            let ip = ipv4::Packet::new(payload).map_err(|e| format!("IPv4 header: {e:?}"))?;
            if !ip.verify_checksum() {
                return Err("IPv4 header checksum is wrong".into());
            }
            if usize::from(ip.total_len()) != payload.len() {
                return Err("IPv4 total length is not the frame's".into());
            }
            if ip.is_fragment() {
                return Ok(None);
            }
            (ip.src(), ip.dst(), ip.protocol(), ip.payload())
        }
        ethernet::EtherType::IPV6 => {
            let ip = ipv6::Packet::new(payload).map_err(|e| format!("IPv6 header: {e:?}"))?;
            ipv6::check(&ip).map_err(|e| format!("IPv6 header: {e:?}"))?;
            if usize::from(ip.payload_len()) + ipv6::HEADER_LEN != payload.len() {
                return Err("IPv6 payload length is not the frame's".into());
            }
            (ip.src(), ip.dst(), ip.next_header(), ip.payload())
        }
        _ => return Ok(None),
    };
    Ok(Some(Transport {
        src,
        dst,
        protocol,
        l4,
    }))
}

/// Parses every header that is not a message of its own kind, and emits it again: the bytes must be the same.
fn emits_the_same(frame: &[u8]) -> Result<(), String> {
    let wrong = |what: &str| format!("{what} is not what its own representation emits");
    let refused = |e| format!("a header nobody would take: {e:?}");
    let mut again = frame.to_vec();
    let (outer, inner) = again.split_at_mut(ethernet::HEADER_LEN.min(frame.len()));
    let packet = ethernet::Packet::new(frame).map_err(refused)?;
    let repr = ethernet::Repr::parse(&packet).map_err(refused)?;
    repr.emit(outer);
    match repr.ethertype {
        ethernet::EtherType::ARP => {
            let packet = arp::Packet::new(packet.payload()).map_err(refused)?;
            arp::Repr::parse(&packet).map_err(refused)?.emit(inner);
        }
        ethernet::EtherType::IPV4 => {
            let packet = ipv4::Packet::new(packet.payload()).map_err(refused)?;
            let len = packet.header_len();
            if len == ipv4::HEADER_LEN {
                ipv4::Repr::parse(&packet).map_err(refused)?.emit(inner);
            }
            if !packet.is_fragment() {
                transport_again(packet.protocol(), packet.payload(), &mut inner[len..])
                    .map_err(refused)?;
            }
        }
        ethernet::EtherType::IPV6 => {
            let packet = ipv6::Packet::new(packet.payload()).map_err(refused)?;
            let repr = ipv6::Repr::parse(&packet).map_err(refused)?;
            repr.emit(inner);
            let inner = &mut inner[ipv6::HEADER_LEN..];
            transport_again(packet.next_header(), packet.payload(), inner).map_err(refused)?;
        }
        _ => return Err(wrong("the frame's type")),
    }
    if again == frame {
        Ok(())
    } else {
        Err(wrong("a header"))
    }
}

/// Emits a TCP or UDP header again; the checksum is checked elsewhere and kept.
fn transport_again(protocol: u8, bytes: &[u8], out: &mut [u8]) -> wire::Result<()> {
    match protocol {
        6 => {
            let repr = tcp::Repr::parse(&Packet::new(bytes)?)?;
            repr.emit(&mut out[..repr.header_len()]);
            out[16..18].copy_from_slice(&bytes[16..18]);
        }
        17 => {
            let repr = udp::Repr::parse(&udp::Packet::new(bytes)?)?;
            repr.emit(out, bytes.len() - udp::HEADER_LEN);
            out[6..8].copy_from_slice(&bytes[6..8]);
        }
        _ => {}
    }
    Ok(())
}
