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
    /// Sends a frame of `len` payload bytes that `fill` writes. To nobody known: resolved first, as `next_hop`.
    pub(super) fn send_link(
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
        let Some(own) = self
            .interfaces
            .get(usize::from(control.interface.0))
            .map(|i| i.mac)
        else {
            return;
        };
        let to = control.to.or_else(|| control.dst.multicast_mac());
        let v4 = control.dst.is_v4();
        let extension = if control.alert && !v4 {
            ipv6::ext::ROUTER_ALERT_LEN
        } else {
            0
        };
        let header_len = match (v4, control.alert) {
            (true, true) => ipv4::HEADER_LEN + 4,
            (true, false) => ipv4::HEADER_LEN,
            (false, _) => ipv6::HEADER_LEN + extension,
        };
        let ethertype = if v4 {
            wire::EtherType::IPV4
        } else {
            wire::EtherType::IPV6
        };
        let header = ethernet::Repr {
            src: own,
            dst: to.unwrap_or(Mac::ZERO),
            ethertype,
        };
        let frame = self.send_link(
            core,
            control.interface,
            &header,
            header_len + len,
            |bytes| {
                let (ip, payload) = bytes.split_at_mut(header_len);
                fill(payload);
                if v4 {
                    ipv4::Repr {
                        router_alert: control.alert,
                        // Network control, as Linux marks IGMP.
                        tos: 0xc0,
                        ..ipv4::Repr::new(
                            control.src,
                            control.dst,
                            control.protocol,
                            control.hop_limit,
                            len,
                        )
                    }
                    .emit(ip);
                    return;
                }
                let next = if control.alert {
                    protocol::HOP_BY_HOP
                } else {
                    control.protocol
                };
                ipv6::Repr::new(
                    control.src,
                    control.dst,
                    next,
                    control.hop_limit,
                    extension + len,
                )
                .emit(ip);
                if control.alert {
                    ipv6::ext::emit_router_alert(control.protocol, &mut ip[ipv6::HEADER_LEN..]);
                }
                wire::icmpv6::fill_checksum(payload, &control.src, &control.dst);
            },
        );
        match (frame, to) {
            (Some(frame), Some(_)) => self.transmit(core, control.interface, frame),
            (Some(frame), None) => {
                self.send_unresolved(core, control.interface, &control.dst, frame)
            }
            (None, _) => {}
        }
    }
}
