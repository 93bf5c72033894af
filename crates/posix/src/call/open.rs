//! socket, bind, listen, accept, connect, and who is at either end.
//!
//! What does not live here: closing (`control`).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use base::epoll::EPOLLERR;
use stack::{Ready, SocketError, SocketId, TcpOptions};

use super::{Patience, persist};
use crate::address::{Destination, family, parse, plain, scope, shortest, v4_of};
use crate::errno::{Errno, Result};
use crate::option::{device, multicast, reuseport};
use crate::socket::{Kind, Socket, State};
use crate::table::Table;
use crate::world::World;

const TYPE_MASK: i32 = 0xf;
/// Below Linux's IPPROTO_MAX.
const PROTOCOLS: core::ops::Range<i32> = 0..263;

/// Makes a socket; `kind` may carry SOCK_NONBLOCK and SOCK_CLOEXEC.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let seed = engine::random_seed()?;
/// # let live = posix::Live::start(Default::default(), seed, Default::default(), |_| Ok(()))?;
/// let mut world = live.call();
/// let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK;
/// let fd = posix::socket(&mut world, libc::AF_INET6, kind, 0)?;
/// posix::close(&mut world, fd)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// EINVAL, EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT as Linux; EMFILE.
pub fn socket<W: World>(world: &mut W, domain: i32, kind: i32, protocol: i32) -> Result<i32> {
    if kind & !(TYPE_MASK | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Err(Errno::INVAL);
    }
    let v6 = match domain {
        libc::AF_INET => false,
        libc::AF_INET6 => true,
        _ => return Err(Errno::AFNOSUPPORT),
    };
    if !PROTOCOLS.contains(&protocol) {
        return Err(Errno::INVAL);
    }
    let (which, own) = match kind & TYPE_MASK {
        libc::SOCK_STREAM => (Kind::Stream, libc::IPPROTO_TCP),
        libc::SOCK_DGRAM => (Kind::Datagram, libc::IPPROTO_UDP),
        _ => return Err(Errno::SOCKTNOSUPPORT),
    };
    if protocol != 0 && protocol != own {
        return Err(Errno::PROTONOSUPPORT);
    }
    let tcp = world.host().tcp_defaults();
    let mut socket = Socket::new(which, v6, kind & libc::SOCK_NONBLOCK != 0, tcp);
    socket.keepalive = world.table().keepalive();
    world.table().whole()?;
    let place = Table::reserve(kind & libc::SOCK_CLOEXEC != 0)?;
    Ok(insert(world, socket, place))
}

/// Gives a socket a descriptor. Whose descriptor was closed behind our back, and is given again now, ends with that.
fn insert<W: World>(world: &mut W, socket: Socket, place: OwnedFd) -> i32 {
    let fd = world.table().insert(socket, place);
    close_stale(world);
    fd
}

/// Closes what nobody can name any more.
pub(super) fn close_stale<W: World>(world: &mut W) {
    while let Some(id) = world.table().next_stale() {
        let now = world.now();
        let _ = world.host().close(now, id);
        world.changed();
    }
}

/// Lets the host name the descriptor in what it says of a socket.
fn own<W: World>(world: &mut W, fd: i32, id: SocketId) -> Result<()> {
    Ok(world.host().set_token(id, fd as u64)?)
}

fn wildcard(v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// Binds a socket to a `sockaddr`; see [`Live`](crate::Live).
///
/// # Errors
/// EBADF, ENOTSOCK, EINVAL (too short, bound already), EAFNOSUPPORT, EADDRNOTAVAIL, EADDRINUSE.
pub fn bind<W: World>(world: &mut W, fd: i32, addr: &[u8]) -> Result<()> {
    let socket = world.table().get(fd)?.clone();
    if addr.len() < shortest(socket.v6) {
        return Err(Errno::INVAL);
    }
    let local = match parse(addr, socket.v6)? {
        Destination::Peer(local) => local,
        // Linux lets AF_UNSPEC pass for the wildcard of AF_INET.
        Destination::Nowhere if !socket.v6 && v4_of(addr).ip().is_unspecified() => v4_of(addr),
        Destination::Nowhere => return Err(Errno::AFNOSUPPORT),
    };
    let local = plain(local);
    let bound = socket.state != State::Fresh || socket.bound.is_some();
    // Of IPv6, Linux looks at the address last.
    if socket.v6 && (bound || nowhere(&local, &socket) || socket.only_v6 && local.is_ipv4()) {
        return Err(Errno::INVAL);
    }
    let free = socket.network.freebind;
    // The link that is named is the socket's from now on, whatever comes of it (as Linux).
    device::follow(world, fd, &local)?;
    if !free && !assignable(world, &local) && socket.kind == Kind::Stream {
        return Err(Errno::ADDRNOTAVAIL);
    }
    if bound {
        return Err(Errno::INVAL);
    }
    if !free && !device::is_there(world, fd, &local)? {
        return Err(Errno::ADDRNOTAVAIL);
    }
    match socket.kind {
        Kind::Stream => bind_stream(world, fd, local).map(|_| ()),
        Kind::Datagram => bind_datagram(world, fd, local).map(|_| ()),
    }
}

/// Whether neither an address that is only of some link nor the socket says of which.
fn nowhere(addr: &SocketAddr, socket: &Socket) -> bool {
    scope(addr) == Some(0) && device::of(socket).is_none()
}

fn assignable<W: World>(world: &mut W, local: &SocketAddr) -> bool {
    local.ip().is_unspecified() || local.ip().is_loopback() || world.host().is_local(local.ip())
}

/// Finds a port if none is named, and notes the address.
fn bind_stream<W: World>(world: &mut W, fd: i32, mut local: SocketAddr) -> Result<SocketAddr> {
    /// Ephemeral ports tried before all are held to be taken.
    const TRIES: usize = 64;
    if local.port() != 0 {
        if !world.table().free(fd, &local) || lingers(world, fd, local)? {
            return Err(Errno::ADDRINUSE);
        }
    } else {
        let mut left = TRIES;
        loop {
            let port = world.host().tcp_free_port().filter(|_| left > 0);
            local.set_port(port.ok_or(Errno::ADDRINUSE)?);
            if world.table().free(fd, &local) && !lingers(world, fd, local)? {
                break;
            }
            left -= 1;
        }
    }
    world.table().bind(fd, Some(local))?;
    Ok(local)
}

/// Whether connections that nobody holds any more, TIME-WAIT for the most part, are in the way of a bind: as on Linux, of one
/// without SO_REUSEADDR.
fn lingers<W: World>(world: &mut W, fd: i32, local: SocketAddr) -> Result<bool> {
    let socket = world.table().get(fd)?;
    let (reuse, dual) = (socket.reuse_addr, socket.v6 && !socket.only_v6);
    Ok(!reuse && world.host().tcp_lingers(local, dual))
}

/// Makes the host's datagram socket, which is bound from the beginning.
pub(super) fn bind_datagram<W: World>(
    world: &mut W,
    fd: i32,
    local: SocketAddr,
) -> Result<SocketId> {
    let socket = world.table().get(fd)?.clone();
    let now = world.now();
    let mut options = socket.udp;
    options.reuse_addr = socket.reuse_addr;
    options.reuse_port = socket.reuse_port;
    options.freebind = socket.network.freebind;
    options.only_v6 = socket.v6 && socket.only_v6;
    let id = world.host().udp_bind(now, local, &options)?;
    if let Err(error) = multicast::bound(world, &socket, id) {
        let _ = world.host().close(now, id);
        return Err(error);
    }
    own(world, fd, id)?;
    world.table().get_mut(fd)?.state = State::Datagram(id);
    reuseport::bound(world, fd, id)?;
    Ok(id)
}

/// The host's datagram socket, made now if nobody bound it.
pub(super) fn datagram<W: World>(world: &mut W, fd: i32) -> Result<SocketId> {
    let socket = world.table().get(fd)?;
    match socket.state {
        State::Datagram(id) => Ok(id),
        _ => {
            let local = SocketAddr::new(wildcard(socket.v6), 0);
            bind_datagram(world, fd, local)
        }
    }
}

/// Listens for connections. A negative backlog is the most there may be, as on Linux. For an example see [`Live`](crate::Live).
///
/// # Errors
/// EBADF, ENOTSOCK, EOPNOTSUPP (no stream), EINVAL (connected), EADDRINUSE.
pub fn listen<W: World>(world: &mut W, fd: i32, backlog: i32) -> Result<()> {
    /// Linux's somaxconn.
    const MOST: u32 = 4096;
    let backlog = (backlog as u32).min(MOST) as usize;
    let socket = world.table().get(fd)?.clone();
    if socket.kind != Kind::Stream {
        return Err(Errno::OPNOTSUPP);
    }
    let now = world.now();
    match socket.state {
        State::Fresh => {}
        State::Listening(id) => return Ok(world.host().tcp_set_backlog(id, backlog)?),
        _ => return Err(Errno::INVAL),
    }
    let local = match socket.bound {
        Some(local) => local,
        None => bind_stream(world, fd, SocketAddr::new(wildcard(socket.v6), 0))?,
    };
    let mut options = socket.tcp;
    options.freebind = socket.network.freebind;
    options.only_v6 = socket.v6 && socket.only_v6;
    options.reuse_port = socket.reuse_port;
    let id = world.host().tcp_listen(now, local, backlog, &options)?;
    own(world, fd, id)?;
    world.table().get_mut(fd)?.state = State::Listening(id);
    reuseport::bound(world, fd, id)?;
    if let Some(keys) = socket.fast_open_keys {
        world.host().set_tcp_fast_open_keys(Some(id), keys)?;
    }
    world.changed();
    Ok(())
}

/// Takes a connection out of a listener's queue, waiting for one unless it may not: the new descriptor and the peer. The descriptor
/// is taken first, as by Linux: where there is none left nobody waits.
/// `flags` are SOCK_NONBLOCK and SOCK_CLOEXEC. For an example see [`Live`](crate::Live).
///
/// # Errors
/// In this order: EBADF, EINVAL (unknown flags), EMFILE, ENOTSOCK, EOPNOTSUPP (no stream), EINVAL (not listening), EAGAIN.
pub fn accept<W: World>(world: &mut W, fd: i32, flags: i32) -> Result<(i32, SocketAddr)> {
    world.table().place(fd)?;
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Err(Errno::INVAL);
    }
    let mut place = Some(Table::reserve(flags & libc::SOCK_CLOEXEC != 0)?);
    let socket = world.table().get(fd)?;
    if socket.kind != Kind::Stream {
        return Err(Errno::OPNOTSUPP);
    }
    let (nonblocking, timeout) = (socket.nonblocking, socket.receive_timeout);
    let patience = Patience::new(world, nonblocking, timeout);
    persist(world, fd, patience, |world| {
        let listener = world.table().get(fd)?.clone();
        let State::Listening(id) = listener.state else {
            return Err(Errno::INVAL);
        };
        let now = world.now();
        let (id, peer) = world.host().tcp_accept(now, id)?;
        let accepted = listener.accepted(id, flags & libc::SOCK_NONBLOCK != 0);
        let cork = accepted.cork;
        let fd = insert(world, accepted, place.take().ok_or(Errno::MFILE)?);
        own(world, fd, id)?;
        if cork {
            world.host().tcp_set_cork(now, id, true)?;
        }
        let local = world.host().local_addr(id)?;
        world.table().hold(fd, local)?;
        Ok((fd, peer))
    })
}

/// Connects to a `sockaddr`, waiting for the end of it unless the socket does not block. For an example see [`Live`](crate::Live).
///
/// # Errors
/// EBADF, ENOTSOCK, EINVAL, EAFNOSUPPORT, EISCONN, EALREADY, EINPROGRESS, what the attempt came to, and routing errors.
pub fn connect<W: World>(world: &mut W, fd: i32, addr: &[u8]) -> Result<()> {
    let socket = world.table().get(fd)?.clone();
    if family(addr)? == libc::AF_UNSPEC {
        return disconnect(world, fd);
    }
    if socket.kind == Kind::Datagram {
        // Bound, as by Linux, before anybody looks at the address.
        let id = datagram(world, fd)?;
        let (now, remote) = (world.now(), peer(&socket, addr)?);
        device::keep_to(world, fd, &remote)?;
        return Ok(world.host().udp_connect(now, id, remote)?);
    }
    match socket.state {
        // As on Linux it is connect itself that says so once, whatever was done with the connection meanwhile.
        State::Stream(_) if socket.untold => {
            world.table().get_mut(fd)?.untold = false;
            return Ok(());
        }
        State::Listening(_) | State::Stream(_) | State::Datagram(_) | State::Deferred(_) => {
            return Err(Errno::ISCONN);
        }
        State::Connecting(_) if socket.nonblocking => {
            return match conclude(world, fd) {
                Err(Errno::AGAIN) => Err(Errno::ALREADY),
                ended => ended,
            };
        }
        State::Connecting(_) => {}
        State::Fresh => {
            let remote = peer(&socket, addr)?;
            device::keep_to(world, fd, &remote)?;
            let options = world.table().get(fd)?.tcp.clone();
            if begin(world, fd, remote, &options)? {
                return Ok(());
            }
            if socket.nonblocking {
                // However soon it is decided, as on Linux.
                world.changed();
                world.table().get_mut(fd)?.untold = true;
                return Err(Errno::INPROGRESS);
            }
        }
    }
    let patience = Patience::new(world, socket.nonblocking, socket.send_timeout);
    match persist(world, fd, patience, |world| conclude(world, fd)) {
        Err(Errno::AGAIN) => Err(Errno::INPROGRESS),
        ended => ended,
    }
}

/// Who is meant by the `sockaddr` of connect, which is not AF_UNSPEC's.
fn peer(socket: &Socket, addr: &[u8]) -> Result<SocketAddr> {
    let v4 = socket.kind == Kind::Datagram && family(addr)? == libc::AF_INET;
    if socket.v6 && socket.only_v6 && v4 {
        return Err(Errno::AFNOSUPPORT);
    }
    let remote = match parse(addr, socket.v6 && !v4)? {
        Destination::Peer(remote) => plain(remote),
        Destination::Nowhere => return Err(Errno::AFNOSUPPORT),
    };
    if socket.v6 && socket.only_v6 && remote.is_ipv4() {
        return Err(Errno::NETUNREACH);
    }
    // No stream goes to a group, of whichever link; a datagram goes by the link that IPV6_MULTICAST_IF named.
    let group = remote.ip().is_multicast();
    let named = group && (socket.kind == Kind::Stream || socket.udp.multicast_interface.is_some());
    match nowhere(&remote, socket) && !named {
        true => Err(Errno::INVAL),
        false => Ok(remote),
    }
}

/// Starts to connect a fresh stream. True if its SYN waits for data, which Fast Open will send along.
pub(super) fn begin<W: World>(
    world: &mut W,
    fd: i32,
    mut to: SocketAddr,
    options: &TcpOptions,
) -> Result<bool> {
    if to.ip().is_unspecified() {
        // As on Linux and BSD: this host itself.
        to.set_ip(match to {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let socket = world.table().get(fd)?;
    let (bound, cork) = (socket.bound, socket.cork);
    let now = world.now();
    let id = world.host().tcp_connect(now, to, bound, options)?;
    own(world, fd, id)?;
    let deferred = options.fast_open && world.host().ready(id).contains(Ready::WRITABLE);
    world.table().get_mut(fd)?.state = if deferred {
        State::Deferred(id)
    } else {
        State::Connecting(id)
    };
    let local = world.host().local_addr(id)?;
    world.table().hold(fd, local)?;
    if cork {
        world.host().tcp_set_cork(now, id, true)?;
    }
    Ok(deferred)
}

/// As [`progress`], for calls that connect: who was told of the failure may try again with a socket that looks like new.
pub(super) fn conclude<W: World>(world: &mut W, fd: i32) -> Result<()> {
    let ended = progress(world, fd);
    if ended != Err(Errno::AGAIN) {
        let socket = world.table().get_mut(fd)?;
        socket.untold = false;
        if socket.state == State::Fresh {
            socket.looks_ended = false;
            world.table().raise(fd, EPOLLERR);
        }
    }
    ended
}

/// What has become of a connection attempt; EAGAIN while it goes on. After a failure the socket may try again, as on Linux.
pub(super) fn progress<W: World>(world: &mut W, fd: i32) -> Result<()> {
    let State::Connecting(id) = world.table().get(fd)?.state else {
        return Err(Errno::BADF);
    };
    let ready = world.host().ready(id);
    if ready.contains(Ready::HUP) {
        // What it brought comes before what ended it.
        let Some(error) = world.host().tcp_peek(id, &mut [0]).err() else {
            // It was made, and has come to its end since.
            world.table().get_mut(fd)?.state = State::Stream(id);
            return Ok(());
        };
        if error == SocketError::ConnectionReset {
            // There has been a connection meanwhile.
            world.table().get_mut(fd)?.state = State::Stream(id);
            return Err(Errno::CONNRESET);
        }
        let now = world.now();
        let _ = world.host().close(now, id);
        world.table().freshen(fd)?;
        world.table().get_mut(fd)?.looks_ended = true;
        return Err(error.into());
    }
    if ready.intersects(Ready::WRITABLE | Ready::READABLE) {
        world.table().get_mut(fd)?.state = State::Stream(id);
        return Ok(());
    }
    Err(Errno::AGAIN)
}

/// AF_UNSPEC: a stream is reset and becomes fresh, a datagram socket hears everybody again.
fn disconnect<W: World>(world: &mut W, fd: i32) -> Result<()> {
    let now = world.now();
    match world.table().get(fd)?.state {
        State::Fresh => {}
        State::Datagram(id) => world.host().udp_disconnect(id)?,
        State::Listening(id) | State::Connecting(id) | State::Deferred(id) | State::Stream(id) => {
            world.host().abort(now, id)?;
            world.table().freshen(fd)?;
            world.changed();
            world.table().raise(fd, EPOLLERR);
        }
    }
    Ok(())
}

/// The local address.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let seed = engine::random_seed()?;
/// # let live = posix::Live::start(Default::default(), seed, Default::default(), |_| Ok(()))?;
/// use posix::{Errno, bind, getpeername, getsockname};
///
/// let at = |addr: &str| {
///     let mut bytes = [0; 16]; // a sockaddr_in
///     posix::write(&addr.parse().expect("an address"), false, &mut bytes);
///     bytes
/// };
///
/// let mut world = live.call();
/// let fd = posix::socket(&mut world, libc::AF_INET, libc::SOCK_STREAM, 0)?;
/// bind(&mut world, fd, &at("127.0.0.1:0"))?;
/// assert_ne!(getsockname(&mut world, fd)?.port(), 0);
/// assert_eq!(getpeername(&mut world, fd), Err(Errno::NOTCONN));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// EBADF, ENOTSOCK.
pub fn getsockname<W: World>(world: &mut W, fd: i32) -> Result<SocketAddr> {
    let socket = world.table().get(fd)?;
    let unbound = SocketAddr::new(wildcard(socket.v6), 0);
    let bound = socket.bound.unwrap_or(unbound);
    Ok(match socket.id() {
        Some(id) => world.host().local_addr(id).unwrap_or(bound),
        None => bound,
    })
}

/// The peer's address; see [`getsockname`].
///
/// # Errors
/// EBADF, ENOTSOCK, ENOTCONN.
pub fn getpeername<W: World>(world: &mut W, fd: i32) -> Result<SocketAddr> {
    match world.table().get(fd)?.state {
        State::Stream(id) | State::Datagram(id) => Ok(world.host().peer_addr(id)?),
        _ => Err(Errno::NOTCONN),
    }
}
