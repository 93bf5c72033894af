//! The machine's arms: frames that wait for it, the questions it asks, the failures it tells.
//!
//! What does not live here: how a question looks on the wire (`arp`, `ndp`).

use base::Packet;
use wire::{Addr, Mac, ethernet, ipv6};

use super::{Demand, Expired, Learnt, Solicitation};
use crate::context::Core;
use crate::error::ConfigError;
use crate::net::{InterfaceId, Net, Path, Report, ReportKind};
use crate::stats::Drop;

/// Reports that may wait to be taken.
const REPORTS: usize = 64;

impl Net {
    /// A frame, complete but for its destination MAC address, is for a neighbour that [`super::Neighbours::mac`] did not vouch
    /// for: sends it, or queues it and asks.
    #[cold]
    pub(in crate::net) fn send_unresolved(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        next_hop: &Addr,
        frame: Packet,
    ) {
        match self.neighbours.demand(core, interface, next_hop) {
            Demand::Send(mac) => self.send_to(core, interface, mac, frame),
            Demand::Wait(at) => self.neighbours.enqueue(core, at, frame),
            Demand::Ask(ask) => {
                // Queued first: the question prefers the frame's source address.
                self.neighbours.enqueue(core, ask.index, frame);
                self.solicit(core, &ask);
            }
            Demand::Refused => core.drop_packet(frame.chain, Drop::NeighbourTableFull),
        }
    }

    /// Fills in the destination and puts the frame on the transmit queue.
    fn send_to(&mut self, core: &mut Core, interface: InterfaceId, mac: Mac, frame: Packet) {
        if let Some(dst) = core.pool.first_mut(&frame.chain).first_chunk_mut() {
            *dst = mac.0;
        }
        self.transmit(core, interface, frame);
    }

    /// Sends what waited for the entry that was just learnt.
    pub(in crate::net) fn release(&mut self, core: &mut Core, learnt: Learnt) {
        let Some(at) = learnt.release else { return };
        let (Some(mac), Some((interface, _))) =
            (self.neighbours.last_mac(at), self.neighbours.name(at))
        else {
            return;
        };
        while let Some(frame) = self.neighbours.dequeue(at) {
            self.send_to(core, interface, mac, frame);
        }
    }

    /// Sets a neighbour by hand.
    ///
    /// # Errors
    /// `NoSuchInterface`, `AddressInvalid`, `TableFull`.
    pub(crate) fn set_neighbour(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: &Addr,
        mac: Mac,
    ) -> Result<(), ConfigError> {
        if self.mac(interface).is_none() {
            return Err(ConfigError::NoSuchInterface);
        }
        if !addr.is_unicast() || addr.is_loopback() || self.is_local(addr) || !mac.is_unicast() {
            return Err(ConfigError::AddressInvalid);
        }
        let at = self
            .neighbours
            .set_permanent(core, interface, addr, mac)
            .ok_or(ConfigError::TableFull("neighbours"))?;
        let learnt = Learnt {
            release: Some(at),
            router_lost: false,
        };
        self.release(core, learnt);
        Ok(())
    }

    /// A transport has heard from beyond the path in answer to what it sent lately: its first hop works (RFC 4861 7.3.1).
    #[inline]
    pub(crate) fn confirm(&mut self, core: &mut Core, path: &Path) {
        self.neighbours
            .confirm(core, path.neighbour, path.interface, &path.next_hop);
    }

    /// Asks by the protocol of the address's family.
    fn solicit(&mut self, core: &mut Core, ask: &Solicitation) {
        let prefer = self.neighbours.waiting(ask.index).and_then(|frame| {
            let packet = core.pool.first(&frame.chain).get(ethernet::HEADER_LEN..)?;
            if ask.target.is_v4() {
                Some(Addr::from_v4(*packet.get(12..16)?.first_chunk()?))
            } else {
                Some(Addr(*packet.get(8..24)?.first_chunk()?))
            }
        });
        if ask.target.is_v4() {
            self.arp_solicit(core, ask, prefer);
        } else {
            self.ndp_solicit(core, ask, prefer);
        }
    }

    pub(in crate::net) fn neighbour_timer(&mut self, core: &mut Core, index: u32, _extra: u16) {
        match self.neighbours.on_timer(core, index) {
            Expired::Idle => {}
            Expired::Ask(ask) => self.solicit(core, &ask),
            Expired::Failed(at) => {
                // RFC 4861 7.2.2, RFC 1122 3.3.1.4: whoever sent what waited is told that the host cannot be reached.
                while let Some(frame) = self.neighbours.dequeue(at) {
                    if self.reports.len() < REPORTS
                        && let Some(report) = unreachable(core, &frame)
                    {
                        self.reports.push_back(report);
                    }
                    core.drop_packet(frame.chain, Drop::NeighbourUnreachable);
                }
                if let Some((interface, addr)) = self.neighbours.name(at) {
                    self.router_unreachable(core, interface, &addr);
                }
            }
        }
    }
}

/// The report about an outgoing frame of this host that cannot be delivered; `None` for what has no transport header.
fn unreachable(core: &Core, frame: &Packet) -> Option<Report> {
    let bytes = core.pool.first(&frame.chain).get(ethernet::HEADER_LEN..)?;
    let (protocol, local, remote, transport) = match bytes.first()? >> 4 {
        4 => {
            let packet = wire::ipv4::Packet::new(bytes).ok()?;
            if packet.fragment_offset() != 0 {
                return None;
            }
            (
                packet.protocol(),
                packet.src(),
                packet.dst(),
                bytes.get(packet.header_len()..)?,
            )
        }
        6 => {
            let packet = ipv6::Packet::new(bytes).ok()?;
            let (protocol, transport) =
                ipv6::ext::skip(packet.next_header(), bytes.get(ipv6::HEADER_LEN..)?);
            (protocol, packet.src(), packet.dst(), transport)
        }
        _ => return None,
    };
    // The transport header of a super-frame may lie in the first segment alone, but its first bytes always do.
    let l4 = *transport.first_chunk()?;
    Some(Report {
        kind: ReportKind::HostUnreachable,
        // As if a router had said so: host, or address, unreachable (RFC 792, RFC 4443 3.1).
        icmp: if remote.is_v4() { (3, 1) } else { (1, 3) },
        protocol,
        local,
        remote,
        l4,
        from: local,
    })
}
