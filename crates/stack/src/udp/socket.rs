//! What an application asks of a UDP socket, apart from sending: bind, connect, read, options, groups, close.

use core::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use base::Key;
use wire::Addr;

use super::queue::{Note, Queue};
use super::{MEMBERSHIPS, NONE, Received, Socket, Udp, UdpInfo, UdpOptions};
use crate::SocketError;
use crate::context::Core;
use crate::net::{InterfaceId, Net};
use crate::reuseport::Group;
use crate::socket::{Ready, SocketId, SocketKind};

/// The link a socket address speaks of: zone 0 is none, zone n the interface n - 1.
pub(crate) fn scope(addr: &SocketAddr) -> Option<InterfaceId> {
    match addr {
        SocketAddr::V6(v6) => v6
            .scope_id()
            .checked_sub(1)
            .and_then(|id| u8::try_from(id).ok())
            .map(InterfaceId),
        SocketAddr::V4(_) => None,
    }
}

/// An address as a socket of the given family shows it: an AF_INET6 one sees IPv4 as v4-mapped.
pub(super) fn present(
    addr: &Addr,
    port: u16,
    v6: bool,
    interface: Option<InterfaceId>,
) -> SocketAddr {
    match addr.to_ip() {
        IpAddr::V4(v4) if v6 => SocketAddrV6::new(v4.to_ipv6_mapped(), port, 0, 0).into(),
        IpAddr::V4(v4) => SocketAddrV4::new(v4, port).into(),
        IpAddr::V6(ip) => {
            let zone = if addr.is_link_local() {
                interface.map_or(0, |i| u32::from(i.0) + 1)
            } else {
                0
            };
            SocketAddrV6::new(ip, port, 0, zone).into()
        }
    }
}

impl Udp {
    /// Makes a socket bound to `local`; port 0 means any free one. An IPv6 wildcard also takes IPv4 unless `only_v6`.
    pub(crate) fn bind(
        &mut self,
        core: &mut Core,
        net: &Net,
        local: SocketAddr,
        options: &UdpOptions,
    ) -> Result<SocketId, SocketError> {
        let addr = Addr::from(local.ip());
        let v6 = local.is_ipv6();
        if options.only_v6 && addr.is_v4() {
            return Err(SocketError::InvalidInput);
        }
        let assignable = addr.is_unspecified()
            || addr.is_multicast()
            || net.is_broadcast(&addr)
            || net.is_local(&addr);
        if !options.freebind && !assignable {
            return Err(SocketError::AddrNotAvailable);
        }
        let mut socket = Socket {
            local: addr,
            remote: if v6 {
                Addr::UNSPECIFIED_V6
            } else {
                Addr::UNSPECIFIED_V4
            },
            local_port: 0,
            remote_port: 0,
            v6,
            error: None,
            options: *options,
            bound: addr,
            scope: scope(&local),
            path: None,
            queue: Queue::new(
                options.receive_buffer.unwrap_or(self.receive_buffer),
                options.gro,
            ),
            overflowed: 0,
            token: 0,
            pending: Ready::NONE,
            listed: false,
            ready_next: NONE,
            ready_previous: NONE,
            group: NONE,
            memberships: Vec::new(),
        };
        socket.local_port =
            self.ports
                .choose(&socket, local.port(), self.ephemeral, &mut core.rng)?;
        let key = self.sockets.insert(socket).ok_or(SocketError::NoBuffers)?;
        if let Err(error) = self.ports.insert(&mut self.sockets, key.index) {
            self.sockets.remove(key);
            return Err(error);
        }
        Ok(SocketId::new(SocketKind::Udp, key))
    }

    /// Sets the only peer the socket sends to and hears from. A wildcard local address becomes that of the route. With port 0 that is
    /// all: it has no peer then (as on Linux, where libraries ask so which address they would send from).
    pub(crate) fn connect(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
        remote: SocketAddr,
    ) -> Result<(), SocketError> {
        let at = self.at(id)?;
        let socket = self.sockets.at(at).ok_or(SocketError::BadSocket)?;
        let dst = self.destination(net, socket, &remote)?;
        let (named, device) = (scope(&remote), socket.options.device);
        if dst.is_near() && named.is_some() && device.is_some() && named != device {
            return Err(SocketError::InvalidInput);
        }
        let interface = socket.link_to(&dst, named.or(socket.scope));
        let src = super::output::source(net, &socket.bound);
        let path = net
            .route(core, dst, src, interface)
            .map_err(super::output::route_error)?;
        self.ports.leave(&mut self.sockets, at);
        let socket = self.sockets.at_mut(at).ok_or(SocketError::BadSocket)?;
        socket.local = if socket.bound.is_unspecified() {
            path.src
        } else {
            socket.bound
        };
        socket.remote = dst;
        socket.remote_port = remote.port();
        if dst.is_near() {
            socket.scope = Some(path.interface);
        }
        socket.path = Some((dst, path));
        let joined = self.ports.join(&mut self.sockets, at);
        if joined.is_err() {
            self.disconnect(id)?;
        }
        joined
    }

    /// Forgets the peer: the socket hears everybody again, at the address it was bound to (connect to AF_UNSPEC).
    pub(crate) fn disconnect(&mut self, id: SocketId) -> Result<(), SocketError> {
        let at = self.at(id)?;
        self.ports.leave(&mut self.sockets, at);
        let socket = self.sockets.at_mut(at).ok_or(SocketError::BadSocket)?;
        socket.local = socket.bound;
        socket.remote_port = 0;
        socket.path = None;
        self.ports.join(&mut self.sockets, at)
    }

    /// Checks where a socket wants to send, and gives the address.
    pub(super) fn destination(
        &self,
        net: &Net,
        socket: &Socket,
        to: &SocketAddr,
    ) -> Result<Addr, SocketError> {
        let mut dst = Addr::from(to.ip());
        if (to.is_ipv6() && !socket.v6) || (socket.options.only_v6 && dst.is_v4()) {
            return Err(SocketError::InvalidInput);
        }
        // A socket with an address of one family cannot speak the other.
        if !(socket.bound == Addr::UNSPECIFIED_V6 || socket.bound.is_v4() == dst.is_v4()) {
            return Err(SocketError::NetworkUnreachable);
        }
        // As Linux: "any address" as a destination is this host.
        if dst == Addr::UNSPECIFIED_V4 {
            dst = Addr::v4(127, 0, 0, 1);
        } else if dst == Addr::UNSPECIFIED_V6 {
            dst = Addr::from(core::net::Ipv6Addr::LOCALHOST);
        }
        if !socket.options.broadcast && net.is_broadcast(&dst) {
            return Err(SocketError::PermissionDenied);
        }
        Ok(dst)
    }

    /// Reads the oldest datagram into `out`; what does not fit is lost, and the result says so.
    pub(crate) fn recv_from(
        &mut self,
        core: &mut Core,
        id: SocketId,
        out: &mut [u8],
    ) -> Result<Received, SocketError> {
        let received = self.peek_from(core, id, out)?;
        let at = self.at(id)?;
        if let Some(socket) = self.sockets.at_mut(at) {
            socket.queue.pop(core, &mut self.nodes);
        }
        Ok(received)
    }

    /// As [`Udp::recv_from`], but the datagram stays.
    pub(crate) fn peek_from(
        &mut self,
        core: &Core,
        id: SocketId,
        out: &mut [u8],
    ) -> Result<Received, SocketError> {
        let at = self.at(id)?;
        let socket = self.sockets.at_mut(at).ok_or(SocketError::BadSocket)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let (note, len) = socket
            .queue
            .peek(&self.nodes)
            .ok_or(SocketError::WouldBlock)?;
        let copied = socket.queue.copy(core, len, out);
        Ok(received(&note, socket.v6, copied, len))
    }

    /// Takes the oldest datagram as packet memory, without a copy. `copied` is 0.
    pub(crate) fn recv_chain(
        &mut self,
        core: &mut Core,
        id: SocketId,
    ) -> Result<(base::Chain, Received), SocketError> {
        let at = self.at(id)?;
        let socket = self.sockets.at_mut(at).ok_or(SocketError::BadSocket)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let (note, len) = socket
            .queue
            .peek(&self.nodes)
            .ok_or(SocketError::WouldBlock)?;
        let chain = socket
            .queue
            .pop_chain(core, &mut self.nodes)
            .ok_or(SocketError::NoBuffers)?;
        Ok((chain, received(&note, socket.v6, 0, len)))
    }

    /// Closes the socket; what it holds is dropped and its groups are left.
    pub(crate) fn close(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
    ) -> Result<(), SocketError> {
        let at = self.at(id)?;
        self.ready.unlink(&mut self.sockets, at);
        self.ports.remove(&mut self.sockets, at);
        let key = self.sockets.key_of(at).ok_or(SocketError::BadSocket)?;
        if let Some(mut socket) = self.sockets.remove(key) {
            socket.queue.clear(core, &mut self.nodes);
            for (interface, group) in socket.memberships {
                net.leave_group(core, interface, &group);
            }
        }
        Ok(())
    }

    /// Receives what is sent to `group` on `interface` (IP_ADD_MEMBERSHIP). As on Linux every socket of the port sees it.
    pub(crate) fn join(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
        interface: InterfaceId,
        group: &Addr,
    ) -> Result<(), SocketError> {
        let socket = self.get_mut(id)?;
        if !group.is_multicast() {
            return Err(SocketError::InvalidInput);
        }
        if socket.memberships.contains(&(interface, *group)) {
            return Err(SocketError::AddrInUse);
        }
        if socket.memberships.len() >= MEMBERSHIPS || !net.join_group(core, interface, group) {
            return Err(SocketError::NoBuffers);
        }
        socket.memberships.push((interface, *group));
        Ok(())
    }

    /// The inverse of [`Udp::join`].
    pub(crate) fn leave(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
        interface: InterfaceId,
        group: &Addr,
    ) -> Result<(), SocketError> {
        let socket = self.get_mut(id)?;
        let place = socket
            .memberships
            .iter()
            .position(|m| *m == (interface, *group));
        socket
            .memberships
            .swap_remove(place.ok_or(SocketError::AddrNotAvailable)?);
        net.leave_group(core, interface, group);
        Ok(())
    }

    /// The sockets that share an address with this one by SO_REUSEPORT.
    ///
    /// # Errors
    /// `InvalidInput` when it was not bound with that option, or is connected.
    pub(crate) fn share(&mut self, id: SocketId) -> Result<&mut Group, SocketError> {
        let at = self.at(id)?;
        let socket = self.sockets.at(at).ok_or(SocketError::BadSocket)?;
        self.ports.share(socket).ok_or(SocketError::InvalidInput)
    }

    /// Readiness now.
    pub(crate) fn ready(&self, id: SocketId) -> Ready {
        self.get(id).map_or(Ready::NONE, Socket::level)
    }

    /// The pending error, once (SO_ERROR).
    pub(crate) fn take_error(&mut self, id: SocketId) -> Option<SocketError> {
        self.get_mut(id).ok()?.error.take()
    }

    /// What events of this socket carry.
    pub(crate) fn token(&self, id: SocketId) -> Result<u64, SocketError> {
        self.get(id).map(|socket| socket.token)
    }

    /// Sets it.
    pub(crate) fn set_token(&mut self, id: SocketId, token: u64) -> Result<(), SocketError> {
        self.get_mut(id)?.token = token;
        Ok(())
    }

    /// The options in force.
    pub(crate) fn options(&self, id: SocketId) -> Result<UdpOptions, SocketError> {
        self.get(id).map(|socket| socket.options)
    }

    /// Changes the options. Sharing and family are settled at `bind` and stay.
    ///
    /// # Errors
    /// `NoBuffers` when the tables have no place for another device, and nothing has changed.
    pub(crate) fn set_options(
        &mut self,
        id: SocketId,
        options: &UdpOptions,
    ) -> Result<(), SocketError> {
        let default = self.receive_buffer;
        if self.get(id)?.options.device != options.device {
            self.rebind(id, options.device)?;
        }
        let socket = self.get_mut(id)?;
        let UdpOptions {
            reuse_addr,
            reuse_port,
            only_v6,
            ..
        } = socket.options;
        socket.options = UdpOptions {
            reuse_addr,
            reuse_port,
            only_v6,
            ..*options
        };
        let limit = options.receive_buffer.unwrap_or(default);
        socket.queue.set(limit, options.gro);
        socket.path = None;
        Ok(())
    }

    /// Binds a socket to another device. Who else has the address there is not asked (as Linux).
    fn rebind(&mut self, id: SocketId, device: Option<InterfaceId>) -> Result<(), SocketError> {
        let at = self.at(id)?;
        let before = self.get(id)?.options.device;
        self.ports.remove(&mut self.sockets, at);
        let mut enter = |device| {
            if let Some(socket) = self.sockets.at_mut(at) {
                socket.options.device = device;
            }
            self.ports.insert(&mut self.sockets, at)
        };
        enter(device).or_else(|error| enter(before).and(Err(error)))
    }

    /// The socket's own address.
    pub(crate) fn local_addr(&self, id: SocketId) -> Result<SocketAddr, SocketError> {
        let socket = self.get(id)?;
        Ok(present(
            &socket.local,
            socket.local_port,
            socket.v6,
            socket.scope,
        ))
    }

    /// The peer, when connected.
    pub(crate) fn peer_addr(&self, id: SocketId) -> Result<SocketAddr, SocketError> {
        let socket = self.get(id)?;
        if !socket.connected() {
            return Err(SocketError::NotConnected);
        }
        Ok(present(
            &socket.remote,
            socket.remote_port,
            socket.v6,
            socket.scope,
        ))
    }

    /// All sockets, for people and tools; scans.
    pub(crate) fn iter(&self) -> impl Iterator<Item = UdpInfo> + '_ {
        self.sockets.iter().map(|(key, socket)| info(key, socket))
    }

    /// Sockets there are.
    pub(crate) fn len(&self) -> u32 {
        self.sockets.len()
    }

    /// Slots that were ever used.
    pub(crate) fn slots(&self) -> u32 {
        self.sockets.high_water()
    }

    /// The device the socket in one slot is bound to.
    pub(crate) fn device(&self, slot: u32) -> Option<InterfaceId> {
        self.sockets.at(slot)?.options.device
    }

    /// The socket in one slot, and how many bytes it may hold to be read.
    pub(crate) fn row(&self, slot: u32) -> Option<(UdpInfo, u32)> {
        let (key, socket) = (self.sockets.key_of(slot)?, self.sockets.at(slot)?);
        let limit = socket.options.receive_buffer;
        Some((info(key, socket), limit.unwrap_or(self.receive_buffer)))
    }
}

fn info(key: Key, socket: &Socket) -> UdpInfo {
    UdpInfo {
        id: SocketId::new(SocketKind::Udp, key),
        local: present(&socket.local, socket.local_port, socket.v6, socket.scope),
        peer: socket
            .connected()
            .then(|| present(&socket.remote, socket.remote_port, socket.v6, socket.scope)),
        queued: socket.queue.charged(),
        overflowed: socket.overflowed,
    }
}

fn received(note: &Note, v6: bool, copied: usize, len: usize) -> Received {
    Received {
        copied,
        len,
        from: present(&note.from, note.from_port, v6, Some(note.interface)),
        to: note.to.to_ip(),
        interface: note.interface,
        ttl: note.ttl,
        tos: note.tos,
        at: note.at,
        segment: Some(note.segment).filter(|size| *size > 0),
    }
}
