//! ARP (RFC 826) with address conflict detection (RFC 5227): questions, answers, announcements.
//!
//! What does not live here: what is believed of neighbours (`neighbour`) and when an address is claimed (`dad`).
//!
//! Invariant: only a packet about one of this host's addresses makes an entry; others change what is known at most.

use base::Chain;
use wire::arp::{self, Operation};
use wire::{Addr, EtherType, Mac, ethernet};

use super::neighbour::Solicitation;
use super::{AddressState, InterfaceId, Net};
use crate::context::Core;
use crate::stats::{Count, Drop};

impl Net {
    /// An ARP packet; the chain begins with the ARP header.
    pub(super) fn arp_input(&mut self, core: &mut Core, interface: InterfaceId, chain: Chain) {
        let parsed =
            arp::Packet::new(core.pool.first(&chain)).and_then(|packet| arp::Repr::parse(&packet));
        let reason = match (parsed, self.mac(interface)) {
            (Ok(message), Some(own)) => self.arp_message(core, interface, own, &message),
            _ => Some(Drop::ArpInvalid),
        };
        match reason {
            Some(reason) => core.drop_packet(chain, reason),
            None => core.pool.free(chain),
        }
    }

    fn arp_message(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        own: Mac,
        arp: &arp::Repr,
    ) -> Option<Drop> {
        let (sender, target) = (Addr::from_v4(arp.sender_ip), Addr::from_v4(arp.target_ip));
        let probe = sender.is_unspecified();
        if arp.sender_mac == Mac::ZERO
            || !(probe || sender.is_unicast())
            || sender.is_loopback()
            || target.is_loopback()
        {
            return Some(Drop::ArpInvalid);
        }
        if arp.sender_mac == own {
            return Some(Drop::ArpNotForUs);
        }
        if self.arp_conflict(core, interface, arp, &sender, &target) {
            return None;
        }
        let for_us = self.is_local(&target);
        let gratuitous = sender == target;
        if !probe {
            // RFC 826: first update what is known, then, if it is for us, make it known.
            let answer =
                arp.op == Operation::Reply && for_us && arp.target_mac == own && !gratuitous;
            let learnt = self.neighbours.heard_arp(
                core,
                interface,
                &sender,
                arp.sender_mac,
                answer,
                gratuitous,
            );
            self.release(core, learnt);
        }
        if !for_us {
            return if gratuitous {
                None
            } else {
                Some(Drop::ArpNotForUs)
            };
        }
        if arp.op == Operation::Request {
            if !probe {
                let learnt = self
                    .neighbours
                    .heard(core, interface, &sender, arp.sender_mac, true);
                self.release(core, learnt);
            }
            self.arp_send(
                core,
                interface,
                Operation::Reply,
                &target,
                arp.sender_mac,
                arp.sender_mac,
                &sender,
            );
        }
        None
    }

    /// RFC 5227: somebody else uses, or is about to use, one of our addresses. True when the packet is used up.
    fn arp_conflict(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        arp: &arp::Repr,
        sender: &Addr,
        target: &Addr,
    ) -> bool {
        if let Some((index, state)) = self.own(interface, sender) {
            match state {
                // 2.1.1: whatever the packet is, its sender has the address.
                AddressState::Tentative => self.duplicate_found(core, index),
                AddressState::Duplicate => {}
                AddressState::Preferred | AddressState::Deprecated => {
                    core.count(Count::AddressConflict);
                    if !core.follows() && self.may_defend(core.now, index) {
                        self.arp_announce(core, interface, sender);
                    }
                }
            }
            return true;
        }
        // 2.1.1: two hosts probe for the same address: neither takes it.
        if sender.is_unspecified()
            && arp.op == Operation::Request
            && let Some((index, AddressState::Tentative)) = self.own(interface, target)
        {
            self.duplicate_found(core, index);
            return true;
        }
        false
    }

    /// Asks for a neighbour: everybody, or only the station it was at.
    pub(super) fn arp_solicit(
        &mut self,
        core: &mut Core,
        ask: &Solicitation,
        prefer: Option<Addr>,
    ) {
        let Some(src) = self.link_source(ask.interface, &ask.target, prefer) else {
            return;
        };
        let to = ask.unicast.unwrap_or(Mac::BROADCAST);
        self.arp_send(
            core,
            ask.interface,
            Operation::Request,
            &src,
            to,
            Mac::ZERO,
            &ask.target,
        );
    }

    /// RFC 5227 2.1: is this address in use?
    pub(super) fn arp_probe(&mut self, core: &mut Core, interface: InterfaceId, addr: &Addr) {
        let nobody = Addr::UNSPECIFIED_V4;
        self.arp_send(
            core,
            interface,
            Operation::Request,
            &nobody,
            Mac::BROADCAST,
            Mac::ZERO,
            addr,
        );
    }

    /// RFC 5227 2.3: this address is ours.
    pub(super) fn arp_announce(&mut self, core: &mut Core, interface: InterfaceId, addr: &Addr) {
        self.arp_send(
            core,
            interface,
            Operation::Request,
            addr,
            Mac::BROADCAST,
            Mac::ZERO,
            addr,
        );
    }

    #[allow(clippy::too_many_arguments)]
    fn arp_send(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        op: Operation,
        src: &Addr,
        to: Mac,
        target_mac: Mac,
        target: &Addr,
    ) {
        let Some(own) = self.mac(interface) else {
            return;
        };
        let message = arp::Repr {
            op,
            sender_mac: own,
            sender_ip: src.v4_octets(),
            target_mac,
            target_ip: target.v4_octets(),
        };
        let header = ethernet::Repr {
            src: own,
            dst: to,
            ethertype: EtherType::ARP,
        };
        if let Some(frame) = self.make_frame(core, interface, &header, arp::LEN, |bytes| {
            message.emit(bytes)
        }) {
            self.transmit(core, interface, frame);
        }
    }

    /// The interface's own MAC address; `None` on a point-to-point link, which speaks neither ARP nor NDP.
    pub(super) fn mac(&self, interface: InterfaceId) -> Option<Mac> {
        self.interfaces
            .get(usize::from(interface.0))
            .and_then(|i| i.mac)
    }
}
