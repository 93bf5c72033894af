//! Neighbour discovery messages (RFC 4861): who has an address, who is at it, and redirects.
//!
//! What does not live here: what is believed of neighbours (`neighbour`), what routers advertise (`router`), when an address
//! is claimed (`dad`). Reassembled messages never come here (RFC 6980).

use wire::ndp::{HOP_LIMIT, Opt, OptionBuf, Options, Repr};
use wire::{Addr, Mac, icmpv6, protocol};

use super::control::Control;
use super::neighbour::{Advertisement, Solicitation};
use super::{AddressState, Datagram, InterfaceId, Net};
use crate::context::Core;
use crate::stats::{Count, Drop};

/// RFC 3971 5.3.2, RFC 7527: the nonce option, by which a host knows its own probe when a link echoes it.
const NONCE: u8 = 14;

impl Net {
    /// A neighbour discovery message (ICMPv6 133 to 137) that came in one piece, its ICMPv6 checksum verified.
    pub(super) fn ndp_input(&mut self, core: &mut Core, mut datagram: Datagram) {
        let mut chain = core::mem::take(&mut datagram.chain);
        let len = chain.len();
        if !core.pool.is_contiguous(&chain) && !core.pool.make_contiguous(&mut chain, len) {
            // Beyond a block: nothing a neighbour has to say is that long.
            return core.drop_packet(chain, Drop::NdpInvalid);
        }
        // The longest message worth reading; copied so that it can be read while the answer is built.
        let mut buffer = [0; 1500];
        let message = core
            .pool
            .first(&chain)
            .get(usize::from(datagram.l4)..)
            .unwrap_or_default();
        let Some(bytes) = buffer.get_mut(..message.len()) else {
            return core.drop_packet(chain, Drop::NdpInvalid);
        };
        bytes.copy_from_slice(message);
        let parsed = icmpv6::Packet::new(bytes)
            .and_then(|packet| Repr::parse(&packet, datagram.ttl, &datagram.src, &datagram.dst));
        let reason = match parsed {
            Ok(message) => self.ndp_message(core, &datagram, &message),
            Err(_) => Some(Drop::NdpInvalid),
        };
        match reason {
            Some(reason) => core.drop_packet(chain, reason),
            None => core.pool.free(chain),
        }
    }

    fn ndp_message(&mut self, core: &mut Core, d: &Datagram, message: &Repr<'_>) -> Option<Drop> {
        if self.mac(d.interface).is_none() {
            return Some(Drop::NdpIgnored);
        }
        // A group cannot be where one station is.
        let options = message.options();
        if [options.source_mac(), options.target_mac()]
            .into_iter()
            .flatten()
            .any(|mac| !mac.is_unicast())
        {
            return Some(Drop::NdpInvalid);
        }
        match message {
            Repr::NeighborSolicit { target, options } => {
                self.ndp_solicited(core, d, target, options)
            }
            Repr::NeighborAdvert {
                router,
                solicited,
                override_,
                target,
                options,
            } => {
                let na = Advertisement {
                    mac: options.target_mac(),
                    solicited: *solicited,
                    overrides: *override_,
                    router: *router,
                };
                self.ndp_advertised(core, d.interface, target, na)
            }
            Repr::RouterAdvert { advert, options } => {
                self.router_advertised(core, d.interface, &d.src, advert, options)
            }
            Repr::Redirect {
                target,
                destination,
                options,
            } => self.ndp_redirected(core, d, target, destination, options.target_mac()),
            // RFC 4861 6.1.1: a host is not asked for routers.
            Repr::RouterSolicit { .. } => Some(Drop::NdpIgnored),
        }
    }

    /// RFC 4861 7.2.3 and 7.2.4, RFC 4862 5.4.3.
    fn ndp_solicited(
        &mut self,
        core: &mut Core,
        d: &Datagram,
        target: &Addr,
        options: &Options<'_>,
    ) -> Option<Drop> {
        let Some((index, state)) = self.own(d.interface, target) else {
            return Some(Drop::NdpIgnored);
        };
        let detecting = d.src.is_unspecified();
        match state {
            AddressState::Tentative if detecting => {
                let echoed = options.iter().any(
                    |option| matches!(option, Opt::Other { kind: NONCE, data } if Some(data) == self.nonce(index).as_ref().map(|n| &n[..])),
                );
                if echoed {
                    return Some(Drop::NdpIgnored);
                }
                self.duplicate_found(core, index);
                return None;
            }
            AddressState::Tentative | AddressState::Duplicate => return Some(Drop::NdpIgnored),
            AddressState::Preferred | AddressState::Deprecated => {}
        }
        let source_mac = options.source_mac();
        if detecting {
            // 7.2.4: somebody probes for our address: all nodes are told that it is taken.
            self.ndp_advertise(core, d.interface, target, &Addr::ALL_NODES, None, false);
            return None;
        }
        if !d.src.is_unicast() || self.is_local(&d.src) {
            return Some(Drop::NdpInvalid);
        }
        if let Some(mac) = source_mac {
            let learnt = self.neighbours.heard(core, d.interface, &d.src, mac, true);
            self.release(core, learnt);
        }
        self.ndp_advertise(core, d.interface, target, &d.src, source_mac, true);
        None
    }

    /// RFC 4861 7.2.5, RFC 4862 5.4.4.
    fn ndp_advertised(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        target: &Addr,
        na: Advertisement,
    ) -> Option<Drop> {
        match self.own(interface, target) {
            Some((index, AddressState::Tentative)) => self.duplicate_found(core, index),
            Some(_) => core.count(Count::AddressConflict),
            None => {
                let learnt = self.neighbours.advertised(core, interface, target, na);
                if learnt.router_lost {
                    self.router_lost(core, interface, target);
                }
                self.release(core, learnt);
            }
        }
        None
    }

    /// RFC 4861 8.1 and 8.3.
    fn ndp_redirected(
        &mut self,
        core: &mut Core,
        d: &Datagram,
        target: &Addr,
        destination: &Addr,
        mac: Option<Mac>,
    ) -> Option<Drop> {
        if !self.redirect(core, d.interface, &d.src, destination, target) {
            return Some(Drop::NdpIgnored);
        }
        if let Some(mac) = mac {
            let learnt = self.neighbours.heard(core, d.interface, target, mac, true);
            self.release(core, learnt);
        }
        if target != destination {
            self.neighbours.set_router(d.interface, target, true);
        }
        None
    }

    /// Asks for a neighbour (RFC 4861 7.2.2): its solicited-node group, or only itself.
    pub(super) fn ndp_solicit(
        &mut self,
        core: &mut Core,
        ask: &Solicitation,
        prefer: Option<Addr>,
    ) {
        let Some(src) = self.link_source(ask.interface, &ask.target, prefer) else {
            return;
        };
        let Some(own) = self.mac(ask.interface) else {
            return;
        };
        let dst = if ask.unicast.is_some() {
            ask.target
        } else {
            ask.target.solicited_node()
        };
        let mut options = OptionBuf::<8>::new();
        options.push(&Opt::SourceMac(own));
        let message = Repr::NeighborSolicit {
            target: ask.target,
            options: options.options(),
        };
        self.ndp_send(core, ask.interface, &src, &dst, ask.unicast, &message);
    }

    /// RFC 4862 5.4.2: does anybody have this address?
    pub(super) fn ndp_probe(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: &Addr,
        nonce: &[u8; 6],
    ) {
        let mut options = OptionBuf::<8>::new();
        options.push(&Opt::Other {
            kind: NONCE,
            data: nonce,
        });
        let message = Repr::NeighborSolicit {
            target: *addr,
            options: options.options(),
        };
        self.ndp_send(
            core,
            interface,
            &Addr::UNSPECIFIED_V6,
            &addr.solicited_node(),
            None,
            &message,
        );
    }

    /// Tells `dst` that `addr` is here (RFC 4861 7.2.4, 7.2.6). This host is no router and no proxy.
    pub(super) fn ndp_advertise(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: &Addr,
        dst: &Addr,
        to: Option<Mac>,
        solicited: bool,
    ) {
        let Some(own) = self.mac(interface) else {
            return;
        };
        let mut options = OptionBuf::<8>::new();
        options.push(&Opt::TargetMac(own));
        let message = Repr::NeighborAdvert {
            router: false,
            solicited,
            override_: true,
            target: *addr,
            options: options.options(),
        };
        self.ndp_send(core, interface, addr, dst, to, &message);
    }

    /// Sends a message with the hop limit that proves it crossed no router.
    pub(super) fn ndp_send(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        src: &Addr,
        dst: &Addr,
        to: Option<Mac>,
        message: &Repr<'_>,
    ) {
        let control = Control {
            interface,
            src: *src,
            dst: *dst,
            to,
            protocol: protocol::ICMPV6,
            hop_limit: HOP_LIMIT,
            alert: false,
        };
        self.send_control(core, &control, message.buffer_len(), |bytes| {
            message.emit(bytes)
        });
    }
}
