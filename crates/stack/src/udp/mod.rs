//! UDP (RFC 768, RFC 1122 4.1) with the rules of Linux's sockets, for IPv4 and IPv6 on one path.
//!
//! What does not live here: IP, its options and ICMP (`net`), waiting for readiness (the engine).
//!
//! Invariant: finding the socket of a datagram costs at most one array read and three hash lookups, however many there are.
//! Invariant: what a socket's queue holds of the packet pool never exceeds what it is charged, and the charge is bounded.
//! Invariant: a socket is on the ready list at most once; only what changed is visited.

mod discover;
mod input;
mod output;
mod ports;
mod queue;
mod ready;
#[cfg(test)]
mod share_tests;
mod socket;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trace_tests;

use base::Slab;
use wire::Addr;

use crate::config::Config;
use crate::net::{InterfaceId, Path};
use crate::socket::{Ready, SocketId, SocketKind};
use crate::{SocketError, context::Core};
pub use discover::MtuDiscover;
use ports::Ports;
use queue::{Nodes, Queue};
use ready::ReadyList;
pub(crate) use socket::scope;

const NONE: u32 = u32::MAX;

/// Datagrams one call may be cut into (Linux's `UDP_MAX_SEGMENTS`).
const SEGMENTS_MAX: usize = 128;

/// Groups one socket may join (Linux's `igmp_max_memberships`).
const MEMBERSHIPS: usize = 20;

/// How a UDP socket is to behave; everything but the first four may change later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpOptions {
    /// Share the address with other sockets that say the same (SO_REUSEADDR).
    pub reuse_addr: bool,
    /// Share the address and spread datagrams by flow (SO_REUSEPORT).
    pub reuse_port: bool,
    /// An IPv6 wildcard socket takes no IPv4 datagrams (IPV6_V6ONLY).
    pub only_v6: bool,
    /// The address need not be this host's (IP_FREEBIND).
    pub freebind: bool,
    /// Only by this interface: what comes by another is not for the socket, and what it sends goes out by it (SO_BINDTODEVICE). What
    /// this host says to itself comes by the interface that has the address, to groups by all.
    pub device: Option<InterfaceId>,
    /// May send to broadcast addresses (SO_BROADCAST).
    pub broadcast: bool,
    /// Time to live or hop limit; the host's default when `None` (IP_TTL, IPV6_UNICAST_HOPS).
    pub ttl: Option<u8>,
    /// DSCP and ECN bits (IP_TOS, IPV6_TCLASS).
    pub tos: u8,
    /// Time to live of multicasts (IP_MULTICAST_TTL).
    pub multicast_ttl: u8,
    /// Hear one's own multicasts, as any of this host that joined the group does (IP_MULTICAST_LOOP).
    pub multicast_loop: bool,
    /// Where multicasts go out; by route when `None` (IP_MULTICAST_IF).
    pub multicast_interface: Option<InterfaceId>,
    /// Hear what is sent to a group that any socket of this host has joined; else only to those it is in itself (IP_MULTICAST_ALL).
    pub multicast_all: bool,
    /// The same of groups of IPv6 (IPV6_MULTICAST_ALL).
    pub multicast_all_v6: bool,
    /// What is done about the MTU of paths over IPv4 (IP_MTU_DISCOVER).
    pub mtu_discover: MtuDiscover,
    /// The same over IPv6 (IPV6_MTU_DISCOVER).
    pub mtu_discover_v6: MtuDiscover,
    /// Report every ICMP error, on unconnected sockets too (as IP_RECVERR does).
    pub receive_errors: bool,
    /// Bytes the socket may hold to be read, overhead included; the host's default when `None` (SO_RCVBUF).
    pub receive_buffer: Option<u32>,
    /// Read datagrams that are alike and came as one frame, or in one turn by a link, as one (UDP_GRO): see [`Received::segment`].
    pub gro: bool,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            reuse_addr: false,
            reuse_port: false,
            only_v6: false,
            freebind: false,
            device: None,
            broadcast: false,
            ttl: None,
            tos: 0,
            multicast_ttl: 1,
            multicast_loop: true,
            multicast_interface: None,
            multicast_all: true,
            multicast_all_v6: true,
            mtu_discover: MtuDiscover::Want,
            mtu_discover_v6: MtuDiscover::Want,
            receive_errors: false,
            receive_buffer: None,
            gro: false,
        }
    }
}

/// Where a datagram goes, and what is said of it alone, in place of what the socket says of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Who gets it; the peer when `None`.
    pub to: Option<core::net::SocketAddr>,
    /// Which of this host's addresses it leaves from (IP_PKTINFO, IPV6_PKTINFO), as a server with several answers from the one it
    /// was asked at: [`Received::to`]. `None`, a group's and the unspecified address leave the choice to the host.
    pub from: Option<core::net::IpAddr>,
    /// Time to live or hop limit, of multicasts, too.
    pub ttl: Option<u8>,
    /// DSCP and ECN bits.
    pub tos: Option<u8>,
    /// The payload is that of several datagrams, each of so many bytes but the last, which may be shorter (UDP_SEGMENT): at most
    /// 128, and none longer than what the path takes whole.
    pub segment: Option<u16>,
}

/// What is known of a datagram that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes copied to the caller.
    pub copied: usize,
    /// Length of the datagram; more than `copied` means the rest was cut off (MSG_TRUNC).
    pub len: usize,
    /// Who sent it, in the family of the socket.
    pub from: core::net::SocketAddr,
    /// The address it was sent to.
    pub to: core::net::IpAddr,
    /// The interface it came in by.
    pub interface: InterfaceId,
    /// Its time to live or hop limit.
    pub ttl: u8,
    /// Its DSCP and ECN bits.
    pub tos: u8,
    /// When it came in.
    pub at: base::Instant,
    /// It is several that were joined ([`UdpOptions::gro`]), each of so many bytes but the last, which may be shorter.
    pub segment: Option<u16>,
}

/// One line about a socket, for people and tools.
#[derive(Debug, Clone, Copy)]
pub struct UdpInfo {
    /// The socket.
    pub id: SocketId,
    /// Its own address.
    pub local: core::net::SocketAddr,
    /// Its peer, when connected.
    pub peer: Option<core::net::SocketAddr>,
    /// Bytes charged to its receive queue.
    pub queued: u32,
    /// Datagrams that found its queue full.
    pub overflowed: u64,
}

/// A UDP socket.
#[derive(Debug)]
struct Socket {
    local: Addr,
    remote: Addr,
    local_port: u16,
    /// 0 while unconnected.
    remote_port: u16,
    /// Its address family is AF_INET6.
    v6: bool,
    error: Option<SocketError>,
    options: UdpOptions,
    /// What `bind` was told: `local` returns to it when the socket is disconnected.
    bound: Addr,
    /// The link a link-local peer is on.
    scope: Option<InterfaceId>,
    /// The way to the last destination, for as long as the routes stand.
    path: Option<(Addr, Path)>,
    queue: Queue,
    overflowed: u64,
    token: u64,
    /// Readiness since the last report.
    pending: Ready,
    listed: bool,
    ready_next: u32,
    ready_previous: u32,
    /// The group of sockets with the same local address and port.
    group: u32,
    memberships: Vec<(InterfaceId, Addr)>,
}

impl Socket {
    fn connected(&self) -> bool {
        self.remote_port != 0
    }

    /// Whether what is sent to `dst` on `interface` is for it, as far as groups are concerned (Linux's `ip_mc_sf_allow`).
    fn wants(&self, interface: InterfaceId, dst: &Addr) -> bool {
        let all = match dst.is_v4() {
            true => self.options.multicast_all,
            false => self.options.multicast_all_v6,
        };
        // What this host says itself comes by no link.
        let here = |on: InterfaceId| on == interface || interface == InterfaceId::LOOPBACK;
        let mut memberships = self.memberships.iter();
        all || !dst.is_multicast() || memberships.any(|(on, group)| group == dst && here(*on))
    }

    /// By which link it sends to `dst`, if that is not the routes' choice; `named` is the one the address names. For what is only of a
    /// link that counts, else the device the socket is bound to (as Linux).
    fn link_to(&self, dst: &Addr, named: Option<InterfaceId>) -> Option<InterfaceId> {
        let near = dst.is_near();
        let link = named.filter(|_| near).or(self.options.device).or(named);
        let group = self.options.multicast_interface;
        link.or(self.scope.filter(|_| near))
            .or(group.filter(|_| dst.is_multicast()))
    }

    /// Readiness now (level).
    fn level(&self) -> Ready {
        let mut ready = Ready::WRITABLE;
        if self.error.is_some() {
            ready |= Ready::ERROR;
        }
        if !self.queue.is_empty() {
            ready |= Ready::READABLE;
        }
        ready
    }
}

/// All UDP sockets of a host.
#[derive(Debug)]
pub(crate) struct Udp {
    sockets: Slab<Socket>,
    ports: Ports,
    nodes: Nodes,
    ready: ReadyList,
    receive_buffer: u32,
    ephemeral: (u16, u16),
    /// Scratch for the sockets of one multicast datagram.
    targets: Vec<u32>,
}

impl Udp {
    /// Segments of packet memory that all sockets hold, counted by visiting them: for tests.
    pub(crate) fn segments_held(&self, pool: &base::Pool) -> usize {
        let sockets = self.sockets.iter();
        sockets.map(|(_, socket)| socket.queue.segments(pool)).sum()
    }

    /// Tables of the configured sizes.
    pub(crate) fn new(config: &Config, core: &Core) -> Self {
        let sockets = config.udp_sockets.max(1);
        Self {
            sockets: Slab::with_capacity(sockets),
            ports: Ports::new(sockets, core.secret),
            nodes: Nodes::new(config.pool_blocks.saturating_mul(4).clamp(256, 1 << 20)),
            ready: ReadyList::new(),
            receive_buffer: config.udp_receive_buffer,
            ephemeral: config.ephemeral_ports,
            targets: Vec::with_capacity(sockets as usize),
        }
    }

    /// See [`crate::Host::tell_udp_ports`].
    pub(crate) fn tell_ports(&mut self, shards: usize) {
        self.ports.tell(shards);
    }

    /// See [`crate::Host::poll_udp_port`].
    pub(crate) fn pop_changed_port(&mut self) -> Option<(u16, bool)> {
        self.ports.pop_changed()
    }

    /// Which shard of its host it is.
    pub(crate) fn set_shard(&mut self, shard: usize) {
        self.ports.shard = shard;
    }

    fn at(&self, id: SocketId) -> Result<u32, SocketError> {
        let named = id.kind() == Some(SocketKind::Udp)
            && self
                .sockets
                .key_of(id.index())
                .is_some_and(|key| id.names(key));
        if named {
            Ok(id.index())
        } else {
            Err(SocketError::BadSocket)
        }
    }

    fn get(&self, id: SocketId) -> Result<&Socket, SocketError> {
        self.sockets.at(self.at(id)?).ok_or(SocketError::BadSocket)
    }

    fn get_mut(&mut self, id: SocketId) -> Result<&mut Socket, SocketError> {
        let at = self.at(id)?;
        self.sockets.at_mut(at).ok_or(SocketError::BadSocket)
    }
}
