//! Sending datagrams.

use core::net::SocketAddr;

use base::{Chain, Checksum, Facts, Gso, GsoKind};
use wire::{Addr, checksum};

use super::socket::scope;
use super::{Outgoing, SEGMENTS_MAX, Udp};
use crate::SocketError;
use crate::context::Core;
use crate::net::{HEADROOM, InterfaceId, IpMeta, Net, Path, RouteError};
use crate::socket::SocketId;
use crate::stats::{Count, Drop};

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
    /// Sends `payload` as one datagram, or as the datagrams that [`Outgoing::segment`] cuts it into. Returns its length.
    pub(crate) fn send(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
        payload: &[u8],
        how: &Outgoing,
    ) -> Result<usize, SocketError> {
        let at = self.at(id)?;
        let socket = self.sockets.at_mut(at).ok_or(SocketError::BadSocket)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let (dst, port, interface) = self.target(net, at, how.to.as_ref())?;
        let from = how.from.and_then(|from| source(net, &Addr::from(from)));
        let mut path = self.path(core, net, at, from, dst, interface)?;
        let socket = self.sockets.at(at).ok_or(SocketError::BadSocket)?;
        let options = &socket.options;
        let discover = options.discover(&dst);
        if discover.by_link() {
            path.mtu = path.link_mtu;
        }
        let size = how.cut(payload.len())?;
        let (ip_header, longest) = if dst.is_v4() {
            (20, 65_535 - 20)
        } else {
            (40, 65_535)
        };
        let (whole, each) = (payload.len() + HEADER_LEN, size + HEADER_LEN);
        let fits = each + ip_header <= usize::from(path.mtu);
        // What was to be cut is not fragmented on top of it.
        let whatever = discover.cuts() && how.segment.is_none();
        if whole > longest || !(fits || whatever) {
            return Err(SocketError::MessageTooLong);
        }
        let ttl = match how.ttl {
            Some(ttl) => ttl,
            None if dst.is_multicast() => options.multicast_ttl,
            None => options.ttl.unwrap_or(path.hop_limit),
        };
        let leaving = Leaving {
            ports: wire::udp::Repr {
                src_port: socket.local_port,
                dst_port: port,
            },
            meta: IpMeta {
                src: path.src,
                dst,
                protocol: PROTOCOL,
                ttl,
                tos: how.tos.unwrap_or(options.tos),
                // Whole datagrams probe the path, too large ones are fragmented here.
                dont_fragment: fits && discover.whole(path.locked),
                ident: None,
            },
            // As on Linux this host hears what it says to a group it is in, and its own broadcasts.
            heard: (options.multicast_loop || !dst.is_multicast()) && net.hears(&path, &dst),
            path: &path,
        };
        let sent = if size == payload.len() {
            leaving.send(core, net, payload, 0)
        } else {
            leaving.send_train(core, net, payload, size)
        };
        sent.then_some(payload.len()).ok_or(SocketError::NoBuffers)
    }

    /// See [`crate::Host::udp_mtu`].
    pub(crate) fn mtu(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
        to: Option<&SocketAddr>,
    ) -> Result<u16, SocketError> {
        let at = self.at(id)?;
        let (dst, _, interface) = self.target(net, at, to)?;
        let path = self.path(core, net, at, None, dst, interface)?;
        let socket = self.sockets.at(at).ok_or(SocketError::BadSocket)?;
        Ok(match socket.options.discover(&dst).by_link() {
            true => path.link_mtu,
            false => path.mtu,
        })
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
            Some(to) if to.port() == 0 => Err(SocketError::InvalidInput),
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
        let interface = socket.link_to(&dst, interface);
        if let Some((to, path)) = socket.path
            && to == dst
            && path.epoch == net.epoch()
            && from.is_none_or(|from| from == path.src)
            && interface.is_none_or(|interface| interface == path.interface)
        {
            return Ok(path);
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

impl Outgoing {
    /// Bytes of each datagram that `len` bytes are cut into: all of them when they are not.
    fn cut(&self, len: usize) -> Result<usize, SocketError> {
        match self.segment.map(usize::from) {
            Some(0) => Err(SocketError::InvalidInput),
            Some(size) if len > size * SEGMENTS_MAX => Err(SocketError::InvalidInput),
            Some(size) => Ok(size.min(len)),
            None => Ok(len),
        }
    }

    /// How many datagrams a payload of `len` bytes leaves as.
    ///
    /// # Errors
    /// `InvalidInput` for segments of no bytes, or more than 128 of them.
    pub fn datagrams(&self, len: usize) -> Result<usize, SocketError> {
        Ok(len.div_ceil(self.cut(len)?.max(1)).max(1))
    }
}

/// What all datagrams of one call have in common.
struct Leaving<'a> {
    path: &'a Path,
    meta: IpMeta,
    ports: wire::udp::Repr,
    /// This host is among those who hear it.
    heard: bool,
}

impl Leaving<'_> {
    /// Sends a datagram; with `size` above 0 a super-frame, of which the device (or this host, to itself) makes datagrams of that
    /// size. False when the pool is empty.
    fn send(&self, core: &mut Core, net: &mut Net, payload: &[u8], size: usize) -> bool {
        let Some(chain) = self.build(core, payload) else {
            return false;
        };
        let mut facts = Facts {
            checksum: Checksum::Partial {
                start: 0,
                offset: 6,
            },
            ..Facts::default()
        };
        if size > 0 {
            facts.gso = Gso {
                kind: GsoKind::Udp,
                size: size as u16,
                header_len: HEADER_LEN as u16,
            };
            let datagrams = payload.len().div_ceil(size) as u64;
            core.stats.counts.add_n(Count::UdpSent, datagrams);
        } else {
            core.count(Count::UdpSent);
        }
        if self.heard
            && let Some(copy) = self.build(core, payload)
        {
            net.send_to_self(core, &self.meta, copy, facts);
        }
        if self.meta.ttl == 0 && self.meta.dst.is_multicast() {
            // RFC 1112 section 6.1: it is for this host alone.
            core.pool.free(chain);
            return true;
        }
        net.send(core, self.path, &self.meta, chain, facts);
        true
    }

    /// Sends a payload in datagrams of `size` bytes, the last of which may be shorter: cut by the device if it can, else here.
    /// False when the pool is empty; once one has left, the others are dropped instead.
    #[cold]
    fn send_train(&self, core: &mut Core, net: &mut Net, payload: &[u8], size: usize) -> bool {
        let offloads = net.offloads(self.path.interface);
        if offloads.uso && offloads.tx_checksum && !self.heard {
            return self.send(core, net, payload, size);
        }
        for (n, piece) in payload.chunks(size).enumerate() {
            if !self.send(core, net, piece, 0) {
                let left = payload.len().div_ceil(size) - n;
                if n > 0 {
                    core.stats.drops.add_n(Drop::PoolEmpty, left as u64);
                }
                return n > 0;
            }
        }
        true
    }

    /// A datagram with the sum of its pseudo-header in place of its checksum; `None` when the pool is empty.
    fn build(&self, core: &mut Core, payload: &[u8]) -> Option<Chain> {
        let chain = fill(core, payload)?;
        let bytes = core.pool.first_mut(&chain);
        self.ports.emit(&mut bytes[..HEADER_LEN], payload.len());
        let length = (HEADER_LEN + payload.len()) as u32;
        let sum = checksum::pseudo(&self.meta.src, &self.meta.dst, PROTOCOL, length).fold();
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        Some(chain)
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
