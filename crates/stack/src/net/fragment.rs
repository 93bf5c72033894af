//! Fragments: cutting what is too long for its path, and what becomes of datagrams that never were complete.
//!
//! What does not live here: putting fragments together (`reassembly`).
//!
//! Invariant: fragments of one packet share its blocks; only their headers are new.

use base::{Chain, Checksum, Facts, Packet};
use wire::ethernet::{self, EtherType};
use wire::{ipv6, protocol};

use super::chain::complete_checksum;
use super::output::{Cut, emit_ip, header_len, length_fits};
use super::{Datagram, ErrorKind, HEADROOM, IpMeta, Net, Path};
use crate::context::Core;
use crate::stats::{Count, Drop};

impl Net {
    /// Sends a packet that is longer than its path carries: in fragments if that is allowed (RFC 791 3.2, RFC 8200 4.5: by the
    /// source only, which is us).
    #[cold]
    pub(super) fn send_large(
        &mut self,
        core: &mut Core,
        path: &Path,
        meta: &IpMeta,
        mut chain: Chain,
        facts: Facts,
    ) {
        let v4 = meta.dst.is_v4();
        let ip = header_len(v4);
        let extra = if v4 { 0 } else { ipv6::ext::FRAGMENT_LEN };
        let room = usize::from(path.mtu).saturating_sub(ip + extra) & !7;
        if (v4 && meta.dont_fragment) || room == 0 || !length_fits(v4, chain.len()) {
            return core.drop_packet(chain, Drop::OutTooBig);
        }
        if facts.checksum != Checksum::Unknown {
            complete_checksum(&mut core.pool, &chain, facts.checksum);
        }
        let ident = match meta.ident {
            Some(ident) => u32::from(ident),
            None => self.idents.next(&meta.src, &meta.dst),
        };
        let label = self.label(core, meta, &chain);
        core.count(Count::Fragmented);
        let total = chain.len();
        let mut offset = 0;
        while offset < total {
            let Some(piece) = core.pool.split_front(&mut chain, room.min(total - offset)) else {
                return core.drop_packet(chain, Drop::PoolEmpty);
            };
            let cut = Cut {
                offset: offset as u16,
                more: offset + piece.len() < total,
                label,
            };
            offset += piece.len();
            self.send_piece(core, path, meta, piece, ident, cut);
        }
    }

    fn send_piece(
        &mut self,
        core: &mut Core,
        path: &Path,
        meta: &IpMeta,
        mut piece: Chain,
        ident: u32,
        cut: Cut,
    ) {
        let v4 = meta.dst.is_v4();
        let mut meta = *meta;
        let mut len = piece.len();
        if !v4 {
            let repr = ipv6::ext::FragmentRepr {
                next_header: meta.protocol,
                offset: cut.offset,
                more: cut.more,
                ident,
            };
            meta.protocol = protocol::FRAGMENT;
            len += ipv6::ext::FRAGMENT_LEN;
            match core
                .pool
                .prepend(&mut piece, ipv6::ext::FRAGMENT_LEN, HEADROOM)
            {
                Some(header) => repr.emit(header),
                None => return core.drop_packet(piece, Drop::PoolEmpty),
            }
        }
        match core.pool.prepend(&mut piece, header_len(v4), HEADROOM) {
            Some(header) => emit_ip(header, &meta, len, ident as u16, cut),
            None => return core.drop_packet(piece, Drop::PoolEmpty),
        }
        let Some(from) = self.interfaces.get(usize::from(path.interface.0)) else {
            return core.drop_packet(piece, Drop::OutNoInterface);
        };
        let Some(own) = from.mac else {
            return self.transmit(core, path.interface, Packet::new(piece));
        };
        let known = self
            .neighbours
            .mac(core.now, path.neighbour, path.interface, &path.next_hop);
        let repr = ethernet::Repr {
            src: own,
            dst: known.unwrap_or(wire::Mac::ZERO),
            ethertype: if v4 { EtherType::IPV4 } else { EtherType::IPV6 },
        };
        match core
            .pool
            .prepend(&mut piece, ethernet::HEADER_LEN, HEADROOM)
        {
            Some(header) => repr.emit(header),
            None => return core.drop_packet(piece, Drop::PoolEmpty),
        }
        let frame = Packet::new(piece);
        match known {
            Some(_) => self.transmit(core, path.interface, frame),
            None => self.send_unknown(core, path.interface, &path.next_hop, frame),
        }
    }

    /// A datagram's missing fragments did not come in time. Its sender is told if the first one had (RFC 792, RFC 8200 4.5).
    pub(super) fn reassembly_timer(&mut self, core: &mut Core, index: u32) {
        let Some(expired) = self.reassembly.on_timer(core, index) else {
            return;
        };
        let original = Datagram {
            interface: expired.interface,
            src: expired.src,
            dst: expired.dst,
            protocol: expired.protocol,
            ttl: 0,
            tos: 0,
            group: expired.group,
            l4: expired.header_len,
            checksum_good: false,
            gso_size: 0,
            chain: expired.chain,
        };
        self.send_error(core, ErrorKind::ReassemblyTimeExceeded, &original);
        core.pool.free(original.chain);
    }
}
