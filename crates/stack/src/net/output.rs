//! The way out: headers of IP and Ethernet, offloads, the neighbour's address, the transmit queue.
//!
//! What does not live here: which way (`Net::route`), and cutting what is too long (`fragment`).
//!
//! Invariant: a frame on a transmit queue asks its device for nothing that the device does not offer.

use base::{Chain, Checksum, Facts, GsoKind, Offloads, Packet};
use wire::ethernet::{self, EtherType};
use wire::{Addr, Mac, ipv4, ipv6, protocol};

use super::chain::complete_checksum;
use super::{HEADROOM, InterfaceId, IpMeta, Net, Path};
use crate::context::Core;
use crate::stats::Drop;

/// Bytes of an IP header without options.
#[inline]
pub(super) const fn header_len(v4: bool) -> usize {
    if v4 {
        ipv4::HEADER_LEN
    } else {
        ipv6::HEADER_LEN
    }
}

/// Whether the length fields of a header can tell a packet with so many bytes behind the header.
#[inline]
pub(super) fn length_fits(v4: bool, len: usize) -> bool {
    len <= if v4 {
        ipv4::MAX_LEN - ipv4::HEADER_LEN
    } else {
        ipv6::MAX_PAYLOAD
    }
}

/// Whether a device that offers this cuts such super-frames. Cutting needs new checksums.
#[inline]
fn cuts(offloads: &Offloads, kind: GsoKind) -> bool {
    let offered = match kind {
        GsoKind::None => return true,
        GsoKind::Tcp4 => offloads.tso4,
        GsoKind::Tcp6 => offloads.tso6,
        GsoKind::Udp => offloads.uso,
    };
    offered && offloads.tx_checksum
}

/// What a piece of a packet says of its place (RFC 791 3.2), and of the whole.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cut {
    pub(super) offset: u16,
    pub(super) more: bool,
    /// The flow label of the whole (RFC 6437 3).
    pub(super) label: u32,
}

/// Writes the IP header in front of `len` bytes.
#[inline]
pub(super) fn emit_ip(header: &mut [u8], meta: &IpMeta, len: usize, ident: u16, cut: Cut) {
    if meta.dst.is_v4() {
        let repr = ipv4::Repr {
            src: meta.src,
            dst: meta.dst,
            protocol: meta.protocol,
            ttl: meta.ttl,
            tos: meta.tos,
            ident,
            dont_fragment: meta.dont_fragment,
            more_fragments: cut.more,
            fragment_offset: cut.offset,
            router_alert: false,
            payload_len: len,
        };
        repr.emit(header);
    } else {
        let repr = ipv6::Repr {
            src: meta.src,
            dst: meta.dst,
            next_header: meta.protocol,
            hop_limit: meta.ttl,
            traffic_class: meta.tos,
            flow_label: cut.label,
            payload_len: len,
        };
        repr.emit(header);
    }
}

impl Net {
    /// Sends a packet whose chain begins with the transport header, in an unshared block with [`HEADROOM`]. `facts` count from
    /// the transport header; a partial checksum's field holds the folded sum of the pseudo-header.
    pub(crate) fn send(
        &mut self,
        core: &mut Core,
        path: &Path,
        meta: &IpMeta,
        mut chain: Chain,
        mut facts: Facts,
    ) {
        let Some(interface) = self.interfaces.get(usize::from(path.interface.0)) else {
            return self.send_loopback(core, path.interface, meta, chain, facts);
        };
        // RFC 1122 3.2.1.7: a host MUST NOT send a datagram with a TTL of 0.
        if meta.ttl == 0 {
            return core.drop_packet(chain, Drop::OutTtl);
        }
        let v4 = meta.dst.is_v4();
        let len = chain.len();
        let ip = header_len(v4);
        if facts.gso.is_none() {
            if len + ip > usize::from(path.mtu) {
                return self.send_large(core, path, meta, chain, facts);
            }
        } else if !cuts(&interface.offloads, facts.gso.kind) || !length_fits(v4, len) {
            return core.drop_packet(chain, Drop::GsoNotOffered);
        }
        // RFC 6864 4.1: only what may still be fragmented needs an identification.
        let ident = match meta.ident {
            Some(ident) => ident,
            None if v4 && !meta.dont_fragment => self.idents.next(&meta.src, &meta.dst) as u16,
            None => 0,
        };
        let own = interface.mac;
        let link = link_len(own);
        let known = match own {
            Some(_) => {
                self.neighbours
                    .mac(core.now, path.neighbour, path.interface, &path.next_hop)
            }
            None => None,
        };
        if core.pool.head_room(&chain) < link + ip && !make_head_room(core, &mut chain) {
            return core.drop_packet(chain, Drop::PoolEmpty);
        }
        let label = self.label(core, meta, &chain);
        let Some(header) = core.pool.push_front(&mut chain, link + ip) else {
            return core.drop_packet(chain, Drop::PoolEmpty);
        };
        if let Some(own) = own {
            emit_ethernet(header, own, known.unwrap_or(Mac::ZERO), v4);
        }
        emit_ip(
            &mut header[link..],
            meta,
            len,
            ident,
            Cut {
                label,
                ..Cut::default()
            },
        );
        shift(&mut facts, (link + ip) as u16);
        if !interface.offloads.tx_checksum && facts.checksum != Checksum::Unknown {
            complete_checksum(&mut core.pool, &chain, facts.checksum);
            facts.checksum = Checksum::Unknown;
        }
        let frame = Packet { chain, facts };
        match known.or(own.is_none().then_some(Mac::ZERO)) {
            Some(_) => self.transmit(core, path.interface, frame),
            None => self.send_unknown(core, path.interface, &path.next_hop, frame),
        }
    }

    /// The flow label of a packet whose chain begins with the transport header.
    #[inline]
    pub(super) fn label(&self, core: &Core, meta: &IpMeta, chain: &Chain) -> u32 {
        if meta.dst.is_v4() {
            return 0;
        }
        let transport = core.pool.first(chain);
        self.labels
            .of(&meta.src, &meta.dst, meta.protocol, transport)
    }

    /// Puts a finished frame on the interface's queue.
    #[inline]
    pub(super) fn transmit(&mut self, core: &mut Core, interface: InterfaceId, frame: Packet) {
        match self.interfaces.get_mut(usize::from(interface.0)) {
            Some(to) if to.queue.len() < to.queue_max => to.queue.push_back(frame),
            Some(_) => core.drop_packet(frame.chain, Drop::TransmitQueueFull),
            None => core.drop_packet(frame.chain, Drop::OutNoInterface),
        }
    }

    /// A frame to a group, whose link-layer address follows from the IP address, or to a neighbour that needs attention.
    #[cold]
    pub(super) fn send_unknown(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        next_hop: &Addr,
        frame: Packet,
    ) {
        let group = match next_hop.multicast_mac() {
            Some(mac) => mac,
            None if self.is_broadcast(next_hop) => Mac::BROADCAST,
            None => return self.send_unresolved(core, interface, next_hop, frame),
        };
        if let Some(dst) = core.pool.first_mut(&frame.chain).get_mut(..6) {
            dst.copy_from_slice(&group.0);
        }
        self.transmit(core, interface, frame);
    }

    /// A packet to this host itself: no link header, and nothing is cut or summed, for nothing can be damaged on the way.
    #[cold]
    fn send_loopback(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        meta: &IpMeta,
        chain: Chain,
        facts: Facts,
    ) {
        if interface != InterfaceId::LOOPBACK {
            return core.drop_packet(chain, Drop::OutNoInterface);
        }
        self.send_to_self(core, meta, chain, facts);
    }

    /// Whether this host itself is among those who hear what is sent to `dst` on this path.
    #[inline]
    pub(crate) fn hears(&self, path: &Path, dst: &Addr) -> bool {
        if path.interface == InterfaceId::LOOPBACK {
            return false;
        }
        if dst.is_multicast() {
            self.membership.is_member(path.interface, dst)
        } else {
            self.is_broadcast(dst)
        }
    }

    /// Gives a packet back to this host as if it had received it: arguments as for [`Net::send`].
    pub(crate) fn send_to_self(
        &mut self,
        core: &mut Core,
        meta: &IpMeta,
        mut chain: Chain,
        mut facts: Facts,
    ) {
        let v4 = meta.dst.is_v4();
        let len = chain.len();
        if !length_fits(v4, len) {
            return core.drop_packet(chain, Drop::OutTooBig);
        }
        if self.loopback.len() >= self.queue_max {
            return core.drop_packet(chain, Drop::TransmitQueueFull);
        }
        let ip = header_len(v4);
        match core.pool.prepend(&mut chain, ip, HEADROOM) {
            Some(header) => emit_ip(header, meta, len, 0, Cut::default()),
            None => return core.drop_packet(chain, Drop::PoolEmpty),
        }
        shift(&mut facts, ip as u16);
        let packet = Packet { chain, facts };
        // Both ends of a TCP connection to ourselves are on one shard; who else hears the rest is not known here.
        if core.sharding.is_some() && meta.protocol != protocol::TCP {
            return self.divert_packet(core, InterfaceId::LOOPBACK, packet);
        }
        self.loopback.push_back(packet);
    }
}

/// Bytes of the link's header: a point-to-point link, which has no MAC address, has none.
#[inline]
pub(super) const fn link_len(own: Option<Mac>) -> usize {
    if own.is_some() {
        ethernet::HEADER_LEN
    } else {
        0
    }
}

#[inline]
fn emit_ethernet(header: &mut [u8], src: Mac, dst: Mac, v4: bool) {
    let ethertype = if v4 { EtherType::IPV4 } else { EtherType::IPV6 };
    let repr = ethernet::Repr {
        src,
        dst,
        ethertype,
    };
    repr.emit(header);
}

/// Makes facts that count from the transport header count from `bytes` before it.
#[inline]
fn shift(facts: &mut Facts, bytes: u16) {
    if let Checksum::Partial { start, .. } = &mut facts.checksum {
        *start += bytes;
    }
    if !facts.gso.is_none() {
        facts.gso.header_len += bytes;
    }
}

/// A new first block for headers, when the transport left none or shares it.
#[cold]
fn make_head_room(core: &mut Core, chain: &mut Chain) -> bool {
    let Some(mut front) = core.pool.alloc(HEADROOM) else {
        return false;
    };
    // Checksums are completed in the first block: the transport header must be in one that may be written.
    let n = chain.len().min(64);
    core.pool.append_copy(&mut front, chain, 0, n);
    core.pool.pull_front(chain, n);
    let rest = chain.take();
    core.pool.append(&mut front, rest);
    *chain = front;
    true
}
