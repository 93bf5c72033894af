//! UDP sockets, multicast groups and neighbours, as applications ask for them. They themselves are in `udp` and `net`.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use base::{Chain, Instant};
use wire::{Addr, Mac};

use super::Host;
use crate::error::{ConfigError, SocketError};
use crate::net::{InterfaceId, NeighbourInfo};
use crate::socket::SocketId;
use crate::udp::{Outgoing, Received, UdpInfo, UdpOptions};

/// Which interface a group is joined on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The one with this address; of 0.0.0.0, the one multicasts to the group leave by.
    Address(Ipv4Addr),
    /// The one with this number, from 1; of 0, the one multicasts to the group leave by.
    Index(u32),
}

impl Host {
    /// Makes a UDP socket bound to `local`; port 0 means any free one. A wildcard IPv6 address takes IPv4 too, unless
    /// `only_v6`; the zone of a link-local address is the interface's number plus one.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` for an address that is not this host's, `NoSuchDevice`, `InvalidInput`, `NoBuffers`.
    pub fn udp_bind(
        &mut self,
        now: Instant,
        local: SocketAddr,
        options: &UdpOptions,
    ) -> Result<SocketId, SocketError> {
        self.core.now = now;
        self.device_there(options.device)?;
        if !options.freebind && !self.is_on(&local, options.device) {
            return Err(SocketError::AddrNotAvailable);
        }
        self.udp.bind(&mut self.core, &self.net, local, options)
    }

    /// Sets the only peer the socket sends to and hears from. One with port 0 is none: the socket has no peer then, and the address it
    /// would send from.
    ///
    /// # Errors
    /// No route, no usable source address, `PermissionDenied` for a broadcast without the option, `InvalidInput`.
    pub fn udp_connect(
        &mut self,
        now: Instant,
        socket: SocketId,
        remote: SocketAddr,
    ) -> Result<(), SocketError> {
        self.core.now = now;
        self.udp
            .connect(&mut self.core, &mut self.net, socket, remote)
    }

    /// Forgets the peer: the socket hears everybody again, at the address it was bound to.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn udp_disconnect(&mut self, socket: SocketId) -> Result<(), SocketError> {
        self.udp.disconnect(socket)
    }

    /// Sends one datagram to `to`, or to the peer when `None`; returns its length.
    ///
    /// # Errors
    /// As [`Host::udp_send`].
    pub fn udp_send_to(
        &mut self,
        now: Instant,
        socket: SocketId,
        payload: &[u8],
        to: Option<SocketAddr>,
    ) -> Result<usize, SocketError> {
        let how = Outgoing {
            to,
            ..Outgoing::default()
        };
        self.udp_send(now, socket, payload, &how)
    }

    /// Sends a datagram, or with [`Outgoing::segment`] several: cut by the device if it can, else here. Returns the payload's length.
    ///
    /// # Errors
    /// `MessageTooLong` for what a datagram, or as [`MtuDiscover`](crate::MtuDiscover) says or with a segment size the path, cannot carry; `InvalidInput` for no
    /// bytes a segment or more than 128 segments; `AddrNotAvailable` for a source that is not this host's; `NotConnected`;
    /// `NoBuffers`; those of [`Host::udp_connect`]; a pending error once.
    pub fn udp_send(
        &mut self,
        now: Instant,
        socket: SocketId,
        payload: &[u8],
        how: &Outgoing,
    ) -> Result<usize, SocketError> {
        self.core.now = now;
        let sent = self
            .udp
            .send(&mut self.core, &mut self.net, socket, payload, how);
        // It may have been for this host itself.
        self.drain_internal();
        sent
    }

    /// How long a datagram to there, or to the peer, may be with its IP header to leave in one piece: as much as the path is known to carry, or
    /// the link where [`MtuDiscover`](crate::MtuDiscover) says so.
    ///
    /// # Errors
    /// `NotConnected`, those of [`Host::udp_connect`], `BadSocket`.
    pub fn udp_mtu(
        &mut self,
        now: Instant,
        socket: SocketId,
        to: Option<SocketAddr>,
    ) -> Result<u16, SocketError> {
        self.core.now = now;
        let (core, net) = (&mut self.core, &mut self.net);
        self.udp.mtu(core, net, socket, to.as_ref())
    }

    /// Reads the oldest datagram: bytes copied and who sent it. What does not fit is lost; see [`Host::udp_recv`].
    ///
    /// # Errors
    /// `WouldBlock` when there is none; a pending error once.
    pub fn udp_recv_from(
        &mut self,
        socket: SocketId,
        out: &mut [u8],
    ) -> Result<(usize, SocketAddr), SocketError> {
        let received = self.udp.recv_from(&mut self.core, socket, out)?;
        Ok((received.copied, received.from))
    }

    /// As [`Host::udp_recv_from`], with all that is known of the datagram.
    ///
    /// # Errors
    /// As [`Host::udp_recv_from`].
    pub fn udp_recv(&mut self, socket: SocketId, out: &mut [u8]) -> Result<Received, SocketError> {
        self.udp.recv_from(&mut self.core, socket, out)
    }

    /// As [`Host::udp_recv`], but the datagram stays.
    ///
    /// # Errors
    /// As [`Host::udp_recv_from`].
    pub fn udp_peek(&mut self, socket: SocketId, out: &mut [u8]) -> Result<Received, SocketError> {
        self.udp.peek_from(&self.core, socket, out)
    }

    /// Takes the oldest datagram as blocks of this host's pool, to be freed in [`Host::pool_mut`].
    ///
    /// # Errors
    /// As [`Host::udp_recv_from`].
    pub fn udp_recv_chain(&mut self, socket: SocketId) -> Result<(Chain, Received), SocketError> {
        self.udp.recv_chain(&mut self.core, socket)
    }

    /// A UDP socket's options.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn udp_options(&self, socket: SocketId) -> Result<UdpOptions, SocketError> {
        self.udp.options(socket)
    }

    /// Changes a UDP socket's options; how it shares its address was settled when it was bound.
    ///
    /// # Errors
    /// `BadSocket`; `NoSuchDevice`.
    pub fn udp_set_options(
        &mut self,
        socket: SocketId,
        change: impl FnOnce(&mut UdpOptions),
    ) -> Result<(), SocketError> {
        let mut options = self.udp.options(socket)?;
        change(&mut options);
        self.device_there(options.device)?;
        self.udp.set_options(socket, &options)
    }

    /// The interface a group is joined on (Linux's `ip_mc_find_dev`): the one named, else that of the route to the group, else the
    /// first, by which it would be sent to. Visits addresses and routes: groups are not joined for each packet.
    pub fn group_interface(&self, group: IpAddr, via: Via) -> Option<InterfaceId> {
        match via {
            Via::Address(own) if !own.is_unspecified() => {
                let own = Addr::from(IpAddr::V4(own));
                let mut addresses = self.addresses();
                return addresses
                    .find(|address| address.cidr.addr() == own)
                    .map(|address| address.interface);
            }
            Via::Index(index @ 1..) => {
                let id = InterfaceId(u8::try_from(index - 1).ok()?);
                return self.interfaces().any(|known| known.id == id).then_some(id);
            }
            Via::Address(_) | Via::Index(_) => {}
        }
        let group = Addr::from(group);
        self.routes()
            .map(|(route, _)| route)
            .filter(|route| route.dst.contains(group))
            .max_by_key(|route| (route.dst.prefix(), core::cmp::Reverse(route.metric)))
            .map(|route| route.interface)
            .or_else(|| self.interfaces().next().map(|first| first.id))
    }

    /// Receives what is sent to a multicast group on an interface.
    ///
    /// # Errors
    /// `InvalidInput` for an address that is no group, `AddrInUse` when joined already, `NoBuffers` after 20 groups.
    pub fn udp_join(
        &mut self,
        now: Instant,
        socket: SocketId,
        interface: InterfaceId,
        group: IpAddr,
    ) -> Result<(), SocketError> {
        self.core.now = now;
        self.udp.join(
            &mut self.core,
            &mut self.net,
            socket,
            interface,
            &Addr::from(group),
        )
    }

    /// The inverse of [`Host::udp_join`].
    ///
    /// # Errors
    /// `AddrNotAvailable` when not joined.
    pub fn udp_leave(
        &mut self,
        now: Instant,
        socket: SocketId,
        interface: InterfaceId,
        group: IpAddr,
    ) -> Result<(), SocketError> {
        self.core.now = now;
        self.udp.leave(
            &mut self.core,
            &mut self.net,
            socket,
            interface,
            &Addr::from(group),
        )
    }

    /// Every UDP socket there is, for tools: visits all of them.
    pub fn udp_sockets(&self) -> impl Iterator<Item = UdpInfo> + '_ {
        self.udp.iter()
    }

    /// Sets a neighbour's link-layer address by hand: it is never asked for, forgotten or changed by what is heard.
    ///
    /// # Errors
    /// `NoSuchInterface`, `AddressInvalid` for a group or an address that cannot be a neighbour's, `TableFull`.
    pub fn set_neighbour(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        addr: IpAddr,
        mac: Mac,
    ) -> Result<(), ConfigError> {
        self.core.now = now;
        self.net
            .set_neighbour(&mut self.core, interface, &Addr::from(addr), mac)
    }

    /// Every neighbour known, for tools: visits all of them.
    pub fn neighbours(&self, now: Instant) -> impl Iterator<Item = NeighbourInfo> + '_ {
        self.net.neighbours.iter(now)
    }
}
