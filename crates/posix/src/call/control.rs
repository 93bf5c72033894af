//! shutdown, close, fcntl, ioctl.

use core::time::Duration;

use base::epoll::EPOLLERR;
use stack::{Shutdown, SocketId, State as TcpState};

use super::{Patience, persist};
use crate::errno::{Errno, Result};
use crate::socket::{Kind, State};
use crate::table::Place;
use crate::world::World;

/// SIOCATMARK: whether the next byte to be read is the urgent one.
const SIOCATMARK: u64 = 0x8905;
/// SIOCOUTQNSD: bytes not sent yet.
const SIOCOUTQNSD: u64 = 0x894b;

/// Shuts a direction or both (SHUT_RD, SHUT_WR, SHUT_RDWR). On a listener reading stops the listening, as on Linux.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let seed = engine::random_seed()?;
/// # let live = posix::Live::start(Default::default(), seed, Default::default(), |_| Ok(()))?;
/// # let at = |addr: &str| {
/// #     let mut bytes = [0; 16]; // a sockaddr_in
/// #     posix::write(&addr.parse().expect("an address"), false, &mut bytes);
/// #     bytes
/// # };
/// use std::io::{IoSlice, IoSliceMut};
///
/// use posix::{accept, bind, connect, listen, receive, send, shutdown, socket};
///
/// let stream = || socket(&mut live.call(), libc::AF_INET, libc::SOCK_STREAM, 0);
/// let (listener, client) = (stream()?, stream()?);
/// bind(&mut live.call(), listener, &at("127.0.0.1:80"))?;
/// listen(&mut live.call(), listener, 1)?;
/// connect(&mut live.call(), client, &at("127.0.0.1:80"))?;
/// let (server, _) = accept(&mut live.call(), listener, 0)?;
/// send(&mut live.call(), client, &[IoSlice::new(b"that is all")], 0, None)?;
/// shutdown(&mut live.call(), client, libc::SHUT_WR)?;
/// let mut buffer = [0; 64];
/// for len in [11, 0] {
///     let got = receive(&mut live.call(), server, &mut [IoSliceMut::new(&mut buffer)], 0)?;
///     assert_eq!(got.len, len);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// EBADF, ENOTSOCK, EINVAL, ENOTCONN.
pub fn shutdown<W: World>(world: &mut W, fd: i32, how: i32) -> Result<()> {
    let state = world.table().get(fd)?.state;
    let direction = match how {
        libc::SHUT_RD => Shutdown::Read,
        libc::SHUT_WR => Shutdown::Write,
        libc::SHUT_RDWR => Shutdown::Both,
        _ => return Err(Errno::INVAL),
    };
    let now = world.now();
    match state {
        State::Fresh => {
            // As Linux: it is marked all the same, and everybody looks.
            let socket = world.table().get_mut(fd)?;
            socket.looks_ended |= socket.kind == Kind::Stream && direction != Shutdown::Write;
            socket.shut_read |= socket.kind == Kind::Datagram && direction != Shutdown::Write;
            socket.shut_write |= socket.kind == Kind::Datagram && direction != Shutdown::Read;
            world.table().raise(fd, 0);
            return Err(Errno::NOTCONN);
        }
        State::Datagram(id) => {
            let socket = world.table().get_mut(fd)?;
            socket.shut_read |= direction != Shutdown::Write;
            socket.shut_write |= direction != Shutdown::Read;
            let connected = world.host().peer_addr(id);
            world.table().raise(fd, 0);
            connected?;
            return Ok(());
        }
        State::Listening(id) => {
            if direction != Shutdown::Write {
                world.host().close(now, id)?;
                world.table().freshen(fd)?;
                world.changed();
                world.table().raise(fd, EPOLLERR);
            }
        }
        State::Connecting(id) | State::Deferred(id) | State::Stream(id) => {
            let both = direction == Shutdown::Both;
            let first = if both { Shutdown::Write } else { direction };
            if let Err(error) = world.host().tcp_shutdown(now, id, first) {
                // As Linux: everybody looks, though there is nothing to shut.
                world.table().raise(fd, 0);
                return Err(error.into());
            }
            if both {
                world.changed();
                // The peer's answer may have ended it.
                let _ = world.host().tcp_shutdown(now, id, Shutdown::Read);
            }
        }
    }
    // Peers on this host hear of it first.
    world.changed();
    world.table().raise(fd, 0);
    Ok(())
}

/// Closes a set, or a socket: a connection goes on in the background until what was written has arrived, at once or after SO_LINGER. For an
/// example see [`Live`](crate::Live).
///
/// # Errors
/// EBADF, also of an open descriptor of the kernel's, which is for its owner to close.
pub fn close<W: World>(world: &mut W, fd: i32) -> Result<()> {
    if world.table().remove_set(fd) {
        return Ok(());
    }
    let socket = world.table().remove(fd).ok_or(Errno::BADF)?;
    if world.table().whole().is_err() {
        return Ok(()); // of its host nobody asks anything any more
    }
    let now = world.now();
    if let Some(id) = socket.id() {
        if socket.cork {
            let _ = world.host().tcp_set_cork(now, id, false);
        }
        if let (Kind::Stream, Some(time)) = (socket.kind, socket.tcp.linger) {
            linger(world, fd, id, time)?;
        }
        let now = world.now();
        // It may have ended meanwhile.
        let _ = world.host().close(now, id);
    }
    world.changed();
    Ok(())
}

/// SO_LINGER: waits until the peer has acknowledged all that was written and the end, whether or not the socket blocks. Unread
/// data makes closing a reset, for which nobody waits.
fn linger<W: World>(world: &mut W, fd: i32, id: SocketId, time: Duration) -> Result<()> {
    let unread = world.host().tcp_info(id).map_or(0, |info| info.unread);
    if time.is_zero() || unread > 0 {
        return Ok(());
    }
    let now = world.now();
    if world.host().tcp_shutdown(now, id, Shutdown::Write).is_err() {
        return Ok(());
    }
    let patience = Patience::Until(now + time);
    let waited = persist(world, fd, patience, |world| {
        match world.host().tcp_state(id) {
            Ok(TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck) => Err(Errno::AGAIN),
            _ => Ok(()),
        }
    });
    match waited {
        Err(Errno::AGAIN) => Ok(()),
        waited => waited,
    }
}

/// F_GETFL and F_SETFL, of which O_NONBLOCK counts.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let seed = engine::random_seed()?;
/// # let live = posix::Live::start(Default::default(), seed, Default::default(), |_| Ok(()))?;
/// use posix::{fcntl, ioctl, socket};
///
/// let mut world = live.call();
/// let fd = socket(&mut world, libc::AF_INET, libc::SOCK_DGRAM, 0)?;
/// fcntl(&mut world, fd, libc::F_SETFL, libc::O_NONBLOCK.into())?;
/// assert_ne!(fcntl(&mut world, fd, libc::F_GETFL, 0)? & libc::O_NONBLOCK, 0);
/// let waiting = ioctl(&mut world, fd, libc::FIONREAD, 0)?; // bytes of the next datagram
/// assert_eq!(waiting, 0);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// EBADF, also of the kernel's own descriptors; EINVAL for other commands.
pub fn fcntl<W: World>(world: &mut W, fd: i32, command: i32, argument: i64) -> Result<i32> {
    world.table().own(fd)?;
    if let Place::Set(_) = world.table().place(fd)? {
        return match command {
            libc::F_GETFL => Ok(libc::O_RDWR),
            libc::F_GETFD => Ok(libc::FD_CLOEXEC),
            libc::F_SETFL | libc::F_SETFD => Ok(0),
            _ => Err(Errno::INVAL),
        };
    }
    let socket = world.table().get_mut(fd)?;
    match command {
        libc::F_GETFL => Ok(libc::O_RDWR
            | if socket.nonblocking {
                libc::O_NONBLOCK
            } else {
                0
            }),
        libc::F_SETFL => {
            socket.nonblocking = argument as i32 & libc::O_NONBLOCK != 0;
            Ok(0)
        }
        // Descriptors live as long as the process: there is nothing to inherit them.
        libc::F_GETFD => Ok(libc::FD_CLOEXEC),
        libc::F_SETFD => Ok(0),
        _ => Err(Errno::INVAL),
    }
}

/// FIONREAD (SIOCINQ), SIOCOUTQ (TIOCOUTQ), and of streams SIOCATMARK and SIOCOUTQNSD: the number asked for. FIONBIO takes `argument`. For
/// an example see [`fcntl`].
///
/// # Errors
/// EBADF, also of the kernel's own descriptors; EINVAL on a listener, but of SIOCATMARK; ENOTTY for other requests.
pub fn ioctl<W: World>(world: &mut W, fd: i32, request: u64, argument: i32) -> Result<i32> {
    world.table().own(fd)?;
    if let Place::Set(_) = world.table().place(fd)? {
        return Err(Errno::NOTTY);
    }
    let socket = world.table().get_mut(fd)?;
    if request == libc::FIONBIO {
        socket.nonblocking = argument != 0;
        return Ok(0);
    }
    if request == SIOCATMARK {
        let urgent = match socket.state {
            State::Stream(id) | State::Deferred(id) | State::Connecting(id) => {
                world.host().tcp_urgent(id)?
            }
            _ if socket.kind == Kind::Stream => None,
            _ => return Err(Errno::NOTTY),
        };
        return Ok(i32::from(urgent.is_some_and(|urgent| urgent.left == 1)));
    }
    let asks_in = request == libc::FIONREAD;
    let asks_out = request == libc::TIOCOUTQ;
    let (kind, state) = (socket.kind, socket.state);
    let asks_unsent = request == SIOCOUTQNSD && kind == Kind::Stream;
    if !asks_in && !asks_out && !asks_unsent {
        return Err(Errno::NOTTY);
    }
    let id = match state {
        State::Listening(_) => return Err(Errno::INVAL),
        State::Fresh => return Ok(0),
        State::Connecting(id) | State::Deferred(id) | State::Stream(id) | State::Datagram(id) => id,
    };
    if kind == Kind::Datagram {
        // Of a datagram socket: the length of the next datagram.
        let next = world.host().udp_peek(id, &mut []);
        return Ok(next.map_or(0, |next| if asks_in { next.len as i32 } else { 0 }));
    }
    let info = world.host().tcp_info(id)?;
    let connecting = matches!(info.state, TcpState::SynSent | TcpState::SynReceived);
    let bytes = match (asks_in, asks_out) {
        (true, _) => super::urgent::before_mark(world, fd, id, info.unread),
        _ if connecting => 0,
        (_, true) => info.unacknowledged + info.unsent,
        _ => info.unsent,
    };
    Ok(bytes.min(i32::MAX as u32) as i32)
}
