//! Sending datagrams.

use core::net::SocketAddr;

use base::{Chain, Checksum, Facts};
use wire::{Addr, checksum};

use super::Udp;
use super::socket::scope;
use crate::SocketError;
use crate::context::Core;
use crate::net::{HEADROOM, InterfaceId, IpMeta, Net, Path, RouteError};
use crate::socket::SocketId;
use crate::stats::Count;

const HEADER_LEN: usize = wire::udp::HEADER_LEN;
const PROTOCOL: u8 = 17;

pub(super) fn route_error(error: RouteError) -> SocketError {
    match error {
        RouteError::NoRoute => SocketError::NetworkUnreachable,
        RouteError::NoSource | RouteError::SourceNotLocal => SocketError::AddrNotAvailable,
    }
}

/// The source a socket of this address sends from; `None` when it may be any. A group's or broadcast address is nobody's
/// source. One that this host has no more is asked for all the same: it may not be exchanged for another behind the
/// application's back.
pub(super) fn source(net: &Net, local: &Addr) -> Option<Addr> {
    Some(*local).filter(|addr| addr.is_unicast() && !net.is_broadcast(addr))
}

impl Udp {
    /// Sends one datagram to `to`, or to the peer when connected; from `from`, or the socket's address, or the best. Returns its
    /// length.
    pub(crate) fn send_to(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
        payload: &[u8],
        from: Option<Addr>,
        to: Option<SocketAddr>,
    ) -> Result<usize, SocketError> {
        let at = self.at(id)?;
        let socket = self.sockets.at_mut(at).ok_or(SocketError::BadSocket)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let (dst, port, interface) = self.target(net, at, to.as_ref())?;
        let from = from.and_then(|from| source(net, &from));
        let path = self.path(core, net, at, from, dst, interface)?;
        let socket = self.sockets.at(at).ok_or(SocketError::BadSocket)?;
        let (options, local_port) = (socket.options, socket.local_port);
        let (ip_header, longest) = if dst.is_v4() {
            (20, 65_535 - 20)
        } else {
            (40, 65_535)
        };
        let length = payload.len() + HEADER_LEN;
        let fits = length + ip_header <= usize::from(path.mtu);
        if length > longest || (options.dont_fragment && !fits) {
            return Err(SocketError::MessageTooLong);
        }
        let ports = wire::udp::Repr {
            src_port: local_port,
            dst_port: port,
        };
        let chain = build(core, &path.src, &dst, ports, payload).ok_or(SocketError::NoBuffers)?;
        let ttl = match options.ttl {
            _ if dst.is_multicast() => options.multicast_ttl,
            Some(ttl) => ttl,
            None => path.hop_limit,
        };
        let meta = IpMeta {
            src: path.src,
            dst,
            protocol: PROTOCOL,
            ttl,
            tos: options.tos,
            // As Linux's IP_PMTUDISC_WANT: whole datagrams probe the path, too large ones are fragmented here.
            dont_fragment: fits && (options.dont_fragment || !path.locked),
            ident: None,
        };
        let facts = Facts {
            checksum: Checksum::Partial {
                start: 0,
                offset: 6,
            },
            ..Facts::default()
        };
        core.count(Count::UdpSent);
        // As on Linux this host hears what it says to a group it is in, and its own broadcasts.
        if net.hears(&path, &dst)
            && (options.multicast_loop || !dst.is_multicast())
            && let Some(copy) = build(core, &path.src, &dst, ports, payload)
        {
            net.send_to_self(core, &meta, copy, facts);
        }
        net.send(core, &path, &meta, chain, facts);
        Ok(payload.len())
    }

    /// Where a datagram goes: address, port, and the link if the address names one.
    fn target(
        &self,
        net: &Net,
        at: u32,
        to: Option<&SocketAddr>,
    ) -> Result<(Addr, u16, Option<InterfaceId>), SocketError> {
        let socket = self.sockets.at(at).ok_or(SocketError::BadSocket)?;
        match to {
            Some(to) => Ok((self.destination(net, socket, to)?, to.port(), scope(to))),
            None if socket.connected() => Ok((socket.remote, socket.remote_port, None)),
            None => Err(SocketError::NotConnected),
        }
    }

    /// The way to `dst`: the one used last time if it still stands.
    fn path(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        at: u32,
        from: Option<Addr>,
        dst: Addr,
        interface: Option<InterfaceId>,
    ) -> Result<Path, SocketError> {
        let socket = self.sockets.at_mut(at).ok_or(SocketError::BadSocket)?;
        if let Some((to, path)) = socket.path
            && to == dst
            && path.epoch == net.epoch()
            && from.is_none_or(|from| from == path.src)
            && interface.is_none_or(|interface| interface == path.interface)
        {
            return Ok(path);
        }
        let mut interface = interface.or(socket.scope.filter(|_| dst.is_link_local()));
        if dst.is_multicast() {
            interface = interface.or(socket.options.multicast_interface);
        }
        let src = from.or(source(net, &socket.local));
        let path = net.route(core, dst, src, interface).map_err(route_error)?;
        // What one datagram asks for is not what the next gets.
        if from.is_none() {
            socket.path = Some((dst, path));
        }
        Ok(path)
    }
}

/// A datagram with the sum of its pseudo-header in place of its checksum; `None` when the pool is empty.
fn build(
    core: &mut Core,
    src: &Addr,
    dst: &Addr,
    ports: wire::udp::Repr,
    payload: &[u8],
) -> Option<Chain> {
    let chain = fill(core, payload)?;
    let bytes = core.pool.first_mut(&chain);
    ports.emit(&mut bytes[..HEADER_LEN], payload.len());
    let length = (HEADER_LEN + payload.len()) as u32;
    let sum = checksum::pseudo(src, dst, PROTOCOL, length).fold();
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    Some(chain)
}

/// A chain of `payload` behind room for the UDP header, with headroom for the rest; `None` when the pool is empty.
fn fill(core: &mut Core, payload: &[u8]) -> Option<Chain> {
    let mut chain = core.pool.alloc(HEADROOM)?;
    let first = payload
        .len()
        .min(core.pool.tail_room(&chain).saturating_sub(HEADER_LEN));
    let Some(room) = core.pool.push_back(&mut chain, HEADER_LEN + first) else {
        core.pool.free(chain);
        return None;
    };
    room[HEADER_LEN..].copy_from_slice(&payload[..first]);
    let rest = &payload[first..];
    if !rest.is_empty() && core.pool.append_bytes(&mut chain, rest) < rest.len() {
        core.pool.free(chain);
        return None;
    }
    Some(chain)
}
