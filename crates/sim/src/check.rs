//! Properties every frame a host sends must have, whatever the network did to it.
//!
//! Watches frames as they leave: lengths and checksums right, and for each TCP direction: the acknowledgment number never moves
//! back, the right edge of the window never moves left, nothing is sent beyond the edge the peer granted or above its MSS, MSS
//! only on SYNs, SACK blocks above the acknowledgment (but for a D-SACK in front).
//!
//! What does not live here: whether the bytes are the right ones, which the receiving scenario checks.

use core::fmt;
use std::collections::HashMap;

use base::{Instant, Seq};
use wire::tcp::{Flags, Packet};
use wire::{Addr, checksum};

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

/// What one end of a connection has said.
#[derive(Debug, Default, Clone)]
struct Said {
    ack: Option<Seq>,
    /// Highest right edge granted to the peer.
    edge: Option<Seq>,
    shift: u8,
    scaling: bool,
    mss: u16,
    syn: Option<Seq>,
}

/// The watcher of one world.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    flows: HashMap<Flow, Said>,
    violation: Option<Violation>,
}

impl Checker {
    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Takes note of what is wrong inside a host.
    pub(crate) fn inside(&mut self, at: Instant, what: String) {
        self.violation.get_or_insert(Violation {
            at,
            what,
            frame: Vec::new(),
        });
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
        let ethernet =
            wire::ethernet::Packet::new(frame).map_err(|e| format!("Ethernet header: {e:?}"))?;
        if frame.len() > mtu + 14 {
            return Err(format!(
                "frame of {} bytes on a link of MTU {mtu}",
                frame.len()
            ));
        }
        let payload = ethernet.payload();
        let (src, dst, protocol, l4) = match ethernet.ethertype() {
            wire::ethernet::EtherType::IPV4 => {
                let ip =
                    wire::ipv4::Packet::new(payload).map_err(|e| format!("IPv4 header: {e:?}"))?;
                if !ip.verify_checksum() {
                    return Err("IPv4 header checksum is wrong".into());
                }
                if usize::from(ip.total_len()) != payload.len() {
                    return Err("IPv4 total length is not the frame's".into());
                }
                if ip.more_fragments() || ip.fragment_offset() > 0 {
                    return Ok(());
                }
                (ip.src(), ip.dst(), ip.protocol(), ip.payload())
            }
            wire::ethernet::EtherType::IPV6 => {
                let ip =
                    wire::ipv6::Packet::new(payload).map_err(|e| format!("IPv6 header: {e:?}"))?;
                if usize::from(ip.payload_len()) + 40 != payload.len() {
                    return Err("IPv6 payload length is not the frame's".into());
                }
                (ip.src(), ip.dst(), ip.next_header(), ip.payload())
            }
            _ => return Ok(()),
        };
        if !matches!(protocol, 6 | 17 | 58) {
            return Ok(());
        }
        let udp_without = protocol == 17 && l4.get(6..8) == Some(&[0, 0]) && src.is_v4();
        if !udp_without
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
        self.within_what_the_peer_allows(&back, seq, tcp.payload().len() as u32)?;
        let theirs = self.flows.get(&back).is_some_and(|p| p.scaling);
        let Some(said) = self.flows.get_mut(&flow) else {
            return Ok(());
        };
        if !flags.contains(Flags::ACK) {
            return Err("segment without ACK and without SYN or RST".into());
        }
        let shift = if said.scaling && theirs {
            said.shift
        } else {
            0
        };
        let edge = ack + (u32::from(tcp.window()) << shift);
        if said.ack.is_some_and(|before| ack.lt(before)) {
            return Err(format!(
                "acknowledgment moves back from {} to {}",
                said.ack.map_or(0, |a| a.0),
                ack.0
            ));
        }
        if let Some(before) = said.edge
            && edge.lt(before)
        {
            return Err(format!(
                "right window edge moves left by {}",
                before.dist(edge)
            ));
        }
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
        Ok(())
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

    fn syn(&mut self, flow: Flow, seq: Seq, tcp: &Packet<'_>) -> Result<(), String> {
        let options = tcp.options();
        let said = self.flows.entry(flow).or_default();
        if said.syn != Some(seq) {
            *said = Said {
                syn: Some(seq),
                ..Said::default()
            };
        }
        said.mss = options.mss.unwrap_or(536);
        said.scaling = options.window_scale.is_some();
        said.shift = options.window_scale.unwrap_or(0);
        if tcp.flags().contains(Flags::ACK) {
            let ack = Seq(tcp.ack());
            let edge = ack + u32::from(tcp.window());
            said.ack = Some(ack);
            said.edge = Some(said.edge.map_or(edge, |e| e.max(edge)));
        }
        Ok(())
    }
}
