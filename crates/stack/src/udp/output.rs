//! Sending datagrams.

use core::net::SocketAddr;

use base::{Chain, Checksum, Facts};
use wire::{Addr, checksum};

use super::Udp;
use crate::SocketError;
use crate::context::Core;
use crate::net::{HEADROOM, IpMeta, Net, Path, RouteError};
use crate::socket::SocketId;
use crate::stats::Count;

const HEADER_LEN: usize = wire::udp::HEADER_LEN;
const PROTOCOL: u8 = 17;
/// Linux's default time to live (RFC 1700).
const DEFAULT_TTL: u8 = 64;

pub(super) fn route_error(error: RouteError) -> SocketError {
    match error {
        RouteError::NoRoute => SocketError::NetworkUnreachable,
        RouteError::NoSource | RouteError::SourceNotLocal => SocketError::AddrNotAvailable,
    }
}

impl Udp {
    /// Sends one datagram to `to`, or to the peer when connected. Returns its length.
    pub(crate) fn send_to(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
        payload: &[u8],
        to: Option<SocketAddr>,
    ) -> Result<usize, SocketError> {
        let at = self.at(id)?;
        let socket = self.sockets.at_mut(at).ok_or(SocketError::BadSocket)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let (dst, port, interface) = match &to {
            Some(to) => {
                let zone = match to {
                    SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                        u8::try_from(v6.scope_id() - 1).ok()
                    }
                    _ => None,
                };
                let socket = self.sockets.at(at).ok_or(SocketError::BadSocket)?;
                (
                    self.destination(net, socket, to)?,
                    to.port(),
                    zone.map(crate::net::InterfaceId),
                )
            }
            None if socket.connected() => (socket.remote, socket.remote_port, None),
            None => return Err(SocketError::NotConnected),
        };
        let path = self.path(core, net, at, dst, interface)?;
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
        let chain = fill(core, payload).ok_or(SocketError::NoBuffers)?;
        let header = wire::udp::Repr {
            src_port: local_port,
            dst_port: port,
        };
        let bytes = core.pool.first_mut(&chain);
        header.emit(&mut bytes[..HEADER_LEN], payload.len());
        let sum = checksum::pseudo(&path.src, &dst, PROTOCOL, length as u32).fold();
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        let ttl = match options.ttl {
            _ if dst.is_multicast() => options.multicast_ttl,
            Some(ttl) => ttl,
            None if dst.is_v4() => DEFAULT_TTL,
            None => net.default_hop_limit(path.interface),
        };
        let meta = IpMeta {
            src: path.src,
            dst,
            protocol: PROTOCOL,
            ttl,
            tos: options.tos,
            // As Linux's IP_PMTUDISC_WANT: whole datagrams probe the path, too large ones are fragmented here.
            dont_fragment: fits,
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
        net.send(core, &path, &meta, chain, facts);
        Ok(payload.len())
    }

    /// The way to `dst`: the one used last time if it still stands.
    fn path(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        at: u32,
        dst: Addr,
        interface: Option<crate::net::InterfaceId>,
    ) -> Result<Path, SocketError> {
        let socket = self.sockets.at_mut(at).ok_or(SocketError::BadSocket)?;
        if let Some((to, path)) = socket.path
            && to == dst
            && path.epoch == net.epoch()
            && interface.is_none_or(|interface| interface == path.interface)
        {
            return Ok(path);
        }
        let mut interface = interface.or(socket.scope.filter(|_| dst.is_link_local()));
        if dst.is_multicast() {
            interface = interface.or(socket.options.multicast_interface);
        }
        let src = Some(socket.local).filter(|a| !a.is_unspecified() && net.is_local(a));
        let path = net.route(core, dst, src, interface).map_err(route_error)?;
        socket.path = Some((dst, path));
        Ok(path)
    }
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
