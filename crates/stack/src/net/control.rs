//! Frames the net itself sends about the link: ARP, neighbour discovery, group reports. They need no route and no path.
//!
//! What does not live here: what they say (`arp`, `ndp`, `membership`), and packets of transports (`output`).

use base::Packet;
use wire::{Addr, Mac, ethernet, ipv4, ipv6, protocol};

use super::{InterfaceId, Net};
use crate::context::Core;
use crate::stats::Drop;

/// Where a control packet goes and what its IP header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Control {
    pub(super) interface: InterfaceId,
    pub(super) src: Addr,
    pub(super) dst: Addr,
    /// The station, if it is known; else that of the group or of the neighbour `dst`.
    pub(super) to: Option<Mac>,
    /// ICMPv6 or IGMP.
    pub(super) protocol: u8,
    pub(super) hop_limit: u8,
    /// With the router alert option.
    pub(super) alert: bool,
}

impl Net {
    /// A frame of `len` payload bytes that `fill` writes.
    pub(super) fn make_frame(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        header: &ethernet::Repr,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<Packet> {
        debug_assert!(self.interfaces.get(usize::from(interface.0)).is_some());
        let Some(mut chain) = core.pool.alloc(0) else {
            core.stats.drops.add(Drop::PoolEmpty);
            return None;
        };
        let Some(bytes) = core.pool.push_back(&mut chain, ethernet::HEADER_LEN + len) else {
            core.drop_packet(chain, Drop::PoolEmpty);
            return None;
        };
        header.emit(bytes);
        fill(&mut bytes[ethernet::HEADER_LEN..]);
        Some(Packet::new(chain))
    }

    /// Sends a control packet of `len` bytes after the IP header, which `fill` writes; for ICMPv6 the checksum is made here.
    pub(super) fn send_control(
        &mut self,
        core: &mut Core,
        control: &Control,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        let Some(own) = self.mac(control.interface) else {
            return;
        };
        let to = control.to.or_else(|| control.dst.multicast_mac());
        let ethertype = if control.dst.is_v4() {
            wire::EtherType::IPV4
        } else {
            wire::EtherType::IPV6
        };
        let header = ethernet::Repr {
            src: own,
            dst: to.unwrap_or(Mac::ZERO),
            ethertype,
        };
        let header_len = control.header_len();
        let frame = self.make_frame(
            core,
            control.interface,
            &header,
            header_len + len,
            |bytes| {
                let (ip, payload) = bytes.split_at_mut(header_len);
                fill(payload);
                control.emit(ip, payload);
            },
        );
        match (frame, to) {
            (Some(frame), Some(_)) => self.transmit(core, control.interface, frame),
            (Some(frame), None) => {
                self.send_unresolved(core, control.interface, &control.dst, frame);
            }
            (None, _) => {}
        }
    }
}

impl Control {
    fn header_len(&self) -> usize {
        match (self.dst.is_v4(), self.alert) {
            (true, true) => ipv4::HEADER_LEN + 4,
            (true, false) => ipv4::HEADER_LEN,
            (false, true) => ipv6::HEADER_LEN + ipv6::ext::ROUTER_ALERT_LEN,
            (false, false) => ipv6::HEADER_LEN,
        }
    }

    /// Writes the IP header, and the checksum of an ICMPv6 message.
    fn emit(&self, ip: &mut [u8], payload: &mut [u8]) {
        if self.dst.is_v4() {
            ipv4::Repr {
                router_alert: self.alert,
                // Network control, as Linux marks IGMP.
                tos: 0xc0,
                ..ipv4::Repr::new(
                    self.src,
                    self.dst,
                    self.protocol,
                    self.hop_limit,
                    payload.len(),
                )
            }
            .emit(ip);
            return;
        }
        let next = if self.alert {
            protocol::HOP_BY_HOP
        } else {
            self.protocol
        };
        let len = ip.len() - ipv6::HEADER_LEN + payload.len();
        ipv6::Repr::new(self.src, self.dst, next, self.hop_limit, len).emit(ip);
        if self.alert {
            ipv6::ext::emit_router_alert(self.protocol, &mut ip[ipv6::HEADER_LEN..]);
        }
        wire::icmpv6::fill_checksum(payload, &self.src, &self.dst);
    }
}
