//! An arriving segment, parsed once.
//!
//! What does not live here: what a segment means to a connection (`input`).

use core::ops::Deref;

use base::{Chain, Pool, Seq};
use wire::tcp::{Flags, Options, Packet, Repr};
use wire::{Addr, checksum};

use crate::net::{Datagram, InterfaceId};
use crate::stats::Drop;

/// Header values of one segment, and the hash of its connection.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) hash: u64,
    /// The table's index for the hash, once [`Tcp::prefetch`](super::Tcp::prefetch) has found one: a guess.
    pub(crate) candidate: Option<u32>,
    /// Where it came in.
    pub(crate) interface: InterfaceId,
    pub(crate) src: Addr,
    pub(crate) dst: Addr,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    pub(crate) flags: Flags,
    /// The two ECN bits of the IP header.
    pub(crate) ecn: u8,
    /// As in the header, not scaled.
    pub(crate) window: u16,
    /// Payload bytes.
    pub(crate) len: u32,
    /// Payload bytes of one original segment when a device joined several, else `len`.
    pub(crate) unit: u32,
    /// The octet behind the urgent data (RFC 9293 3.8.5, MUST-62).
    pub(crate) urgent: Option<Seq>,
    pub(crate) timestamps: Option<(u32, u32)>,
    /// Options other than timestamps, when there are any.
    pub(crate) options: Option<Options>,
    /// Bytes of headers that are left in front of the payload, of a SYN that may be saved; 0: none are.
    pub(crate) headers: u16,
}

impl Segment {
    #[inline]
    pub(crate) fn has(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }

    /// SEG.LEN of RFC 9293: payload plus one for each of SYN and FIN.
    #[inline]
    pub(crate) fn sequence_len(&self) -> u32 {
        self.len + u32::from(self.has(Flags::SYN)) + u32::from(self.has(Flags::FIN))
    }

    /// The sequence number after its last octet, SYN and FIN counted.
    #[inline]
    pub(crate) fn end(&self) -> Seq {
        self.seq + self.sequence_len()
    }

    /// RFC 9293 3.4 table 6, with MUST-66: even a closed window admits ACK and RST at its edge.
    #[inline]
    pub(crate) fn acceptable(&self, nxt: Seq, window: u32) -> bool {
        if self.sequence_len() == 0 {
            // A sender that has filled the window speaks at its right edge: its ACKs count (as Linux).
            return self.seq.in_window(nxt, window + 1);
        }
        if window == 0 {
            return self.seq == nxt;
        }
        self.seq.in_window(nxt, window)
            || (self.end() + u32::MAX).in_window(nxt, window)
            || (self.seq.lt(nxt) && self.end().gt(nxt))
    }

    /// A header for an answer to this segment: no window, no options.
    pub(crate) fn answer(&self, seq: Seq, ack: Option<Seq>, flags: Flags) -> Repr {
        Repr {
            src_port: self.dst_port,
            dst_port: self.src_port,
            seq: seq.0,
            ack: ack.map(|ack| ack.0),
            flags,
            window: 0,
            urgent: 0,
            options: Options::default(),
        }
    }
}

/// The bytes a connection's hash is taken of: addresses, then ports. Those of IPv4 are a third as long, and hash faster.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FlowBytes {
    V4([u8; 12]),
    V6([u8; 36]),
}

impl Deref for FlowBytes {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match self {
            FlowBytes::V4(bytes) => bytes,
            FlowBytes::V6(bytes) => bytes,
        }
    }
}

#[inline]
pub(crate) fn flow_bytes(
    remote: &Addr,
    remote_port: u16,
    local: &Addr,
    local_port: u16,
) -> FlowBytes {
    let [[a, b], [c, d]] = [remote_port, local_port].map(u16::to_be_bytes);
    if remote.is_v4() {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&remote.v4_octets());
        bytes[4..8].copy_from_slice(&local.v4_octets());
        bytes[8..].copy_from_slice(&[a, b, c, d]);
        FlowBytes::V4(bytes)
    } else {
        let mut bytes = [0; 36];
        bytes[..16].copy_from_slice(&remote.0);
        bytes[16..32].copy_from_slice(&local.0);
        bytes[32..].copy_from_slice(&[a, b, c, d]);
        FlowBytes::V6(bytes)
    }
}

/// Verifies and parses the segment in `dg`, and cuts the headers off its chain; with `keep_syn` not those of a SYN.
///
/// # Errors
/// The reason to drop it: malformed header, wrong checksum (RFC 9293 MUST-3), group address (MUST-57).
#[inline]
pub(crate) fn parse(
    pool: &mut Pool,
    dg: &mut Datagram,
    keep_syn: bool,
    hash: impl FnOnce(&[u8]) -> u64,
) -> Result<Segment, Drop> {
    if dg.group || dg.src.is_multicast() {
        return Err(Drop::TcpGroup);
    }
    let l4 = usize::from(dg.l4);
    let total = dg.chain.len().saturating_sub(l4);
    let first = pool.first(&dg.chain);
    let header = first.get(l4..).unwrap_or_default();
    let packet = Packet::new(header).map_err(|_| Drop::TcpMalformed)?;
    let header_len = packet.header_len();
    if header_len > total {
        return Err(Drop::TcpMalformed);
    }
    if !dg.checksum_good && !checksum_verifies(pool, &dg.chain, l4, total, dg) {
        return Err(Drop::TcpChecksum);
    }
    let timestamps = packet.only_timestamps();
    let options = if timestamps.is_none() && header_len > 20 {
        Some(packet.options())
    } else {
        None
    };
    let len = (total - header_len) as u32;
    let cut = l4 + header_len;
    let flags = packet.flags();
    let kept = keep_syn && flags.contains(Flags::SYN) && !flags.contains(Flags::ACK);
    let segment = Segment {
        candidate: None,
        interface: dg.interface,
        hash: hash(&flow_bytes(
            &dg.src,
            packet.src_port(),
            &dg.dst,
            packet.dst_port(),
        )),
        src: dg.src,
        dst: dg.dst,
        src_port: packet.src_port(),
        dst_port: packet.dst_port(),
        seq: Seq(packet.seq()),
        ack: Seq(packet.ack()),
        flags: packet.flags(),
        ecn: dg.tos & 3,
        window: packet.window(),
        urgent: packet
            .flags()
            .contains(Flags::URG)
            .then(|| Seq(packet.seq()) + u32::from(packet.urgent())),
        len,
        unit: if dg.gso_size == 0 {
            len
        } else {
            len.min(u32::from(dg.gso_size))
        },
        timestamps: timestamps.or_else(|| options.as_ref().and_then(|o| o.timestamps)),
        options,
        headers: if kept { cut as u16 } else { 0 },
    };
    if !kept {
        pool.pull_front(&mut dg.chain, cut);
    }
    Ok(segment)
}

fn checksum_verifies(pool: &Pool, chain: &Chain, l4: usize, total: usize, dg: &Datagram) -> bool {
    let mut sum = checksum::pseudo(&dg.src, &dg.dst, 6, total as u32);
    let mut skip = l4;
    let mut odd = false;
    for slice in pool.slices(chain) {
        let part = slice.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(slice.len());
        sum = sum.add_bytes_at(part, odd);
        odd ^= part.len() % 2 == 1;
    }
    sum.fold() == 0xffff
}
