//! read, readv, recv, recvfrom, recvmsg: all are [`receive`].
//!
//! What does not live here: waiting itself (`call`).

use core::net::SocketAddr;
use std::io::IoSliceMut;

use stack::{Ready, SocketError, SocketId};

use super::open::progress;
use super::{Patience, persist, urgent};
use crate::control::Control;
use crate::errno::{Errno, Result};
use crate::notice;
use crate::socket::{Kind, State};
use crate::world::World;

/// `TCP_CM_INQ`, which libc does not name.
const TCP_CM_INQ: i32 = 36;

/// What was received; see [`receive`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// What the call returns: bytes copied, or with MSG_TRUNC those there were.
    pub len: usize,
    /// Who sent a datagram.
    pub from: Option<SocketAddr>,
    /// MSG_TRUNC when a datagram was cut off, MSG_ERRQUEUE.
    pub flags: i32,
    /// What options asked to be told besides.
    pub control: Vec<Control>,
}

/// Receives bytes, or one datagram. MSG_PEEK, MSG_WAITALL, MSG_TRUNC, MSG_DONTWAIT and MSG_ERRQUEUE do as on
/// Linux.
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
/// use posix::{bind, getsockname, receive, send, setsockopt, socket};
///
/// let datagrams = || socket(&mut live.call(), libc::AF_INET, libc::SOCK_DGRAM, 0);
/// let (server, client) = (datagrams()?, datagrams()?);
/// bind(&mut live.call(), server, &at("127.0.0.1:53"))?;
/// let on = 1_i32.to_ne_bytes();
/// setsockopt(&mut live.call(), server, libc::SOL_IP, libc::IP_RECVTTL, &on)?;
/// send(&mut live.call(), client, &[IoSlice::new(b"who am I?")], 0, Some(&at("127.0.0.1:53")))?;
///
/// let mut buffer = [0; 1500];
/// let got = receive(&mut live.call(), server, &mut [IoSliceMut::new(&mut buffer)], 0)?;
/// assert_eq!(&buffer[..got.len], b"who am I?");
/// let port = getsockname(&mut live.call(), client)?.port();
/// assert_eq!(got.from.map(|from| from.port()), Some(port));
/// let [ttl] = &got.control[..] else { panic!("a control message was asked for") };
/// assert_eq!((ttl.kind, &ttl.data[..]), (libc::IP_TTL, &64_i32.to_ne_bytes()[..]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// EBADF, ENOTSOCK, ENOTCONN, EAGAIN, EINVAL for MSG_OOB when there is nothing urgent, EOPNOTSUPP for other flags, the pending error.
pub fn receive<W: World>(
    world: &mut W,
    fd: i32,
    pieces: &mut [IoSliceMut<'_>],
    flags: i32,
) -> Result<Message> {
    let known = libc::MSG_PEEK
        | libc::MSG_WAITALL
        | libc::MSG_TRUNC
        | libc::MSG_DONTWAIT
        | libc::MSG_CMSG_CLOEXEC
        | libc::MSG_NOSIGNAL;
    if flags & libc::MSG_ERRQUEUE != 0 {
        return notice::receive(world, fd);
    }
    let socket = world.table().get(fd)?;
    let kind = socket.kind;
    // There is nothing urgent among datagrams, whatever is said.
    let flags = match kind {
        Kind::Datagram => flags & !libc::MSG_OOB,
        Kind::Stream => flags,
    };
    if flags & libc::MSG_OOB != 0 {
        return receive_urgent(world, fd, pieces, flags);
    }
    if flags & !known != 0 {
        return Err(Errno::OPNOTSUPP);
    }
    let nonblocking = socket.nonblocking || flags & libc::MSG_DONTWAIT != 0;
    let (timeout, low) = (socket.receive_timeout, socket.low_water);
    let patience = Patience::new(world, nonblocking, timeout);
    if kind == Kind::Datagram {
        return receive_datagram(world, fd, pieces, flags, patience);
    }
    let len: usize = pieces.iter().map(|p| p.len()).sum();
    let target = if flags & libc::MSG_WAITALL != 0 {
        len
    } else {
        low.min(len)
    };
    let mut reader = Reader {
        pieces,
        flags,
        len,
        target: target.max(1),
        copied: 0,
    };
    let result = persist(world, fd, patience, |world| reader.step(world, fd));
    match result {
        Err(_) if reader.copied > 0 => {}
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    let copied = reader.copied;
    let mut message = Message {
        len: copied,
        ..Message::default()
    };
    if let Ok(socket) = world.table().get(fd)
        && let (true, Some(id)) = (socket.inq, socket.id())
    {
        let left = left(world, fd, id);
        let inq = Control::int(libc::IPPROTO_TCP, TCP_CM_INQ, left);
        message.control.push(inq);
    }
    Ok(message)
}

/// MSG_OOB on a stream.
fn receive_urgent<W: World>(
    world: &mut W,
    fd: i32,
    pieces: &mut [IoSliceMut<'_>],
    flags: i32,
) -> Result<Message> {
    let byte = urgent::take(world, fd, flags & libc::MSG_PEEK != 0)?;
    let mut message = Message::default();
    if let Some(byte) = byte {
        message.flags = libc::MSG_OOB;
        match pieces.iter_mut().find(|piece| !piece.is_empty()) {
            Some(piece) => (piece[0], message.len) = (byte, 1),
            None => message.flags |= libc::MSG_TRUNC,
        }
    }
    Ok(message)
}

/// What TCP_INQ tells: the end of the stream counts as a byte once everything before it was read.
fn left<W: World>(world: &mut W, fd: i32, id: SocketId) -> i32 {
    let unread = world.host().tcp_info(id).map_or(0, |info| info.unread);
    let unread = urgent::before_mark(world, fd, id, unread);
    let ended = world.host().ready(id).contains(Ready::READ_CLOSED);
    match unread {
        0 => i32::from(ended),
        n => n.min(i32::MAX as u32) as i32,
    }
}

/// A read of a stream under way.
struct Reader<'a, 'b> {
    pieces: &'a mut [IoSliceMut<'b>],
    flags: i32,
    len: usize,
    target: usize,
    copied: usize,
}

impl Reader<'_, '_> {
    /// Takes what is there; EAGAIN while that is less than the target and more may come.
    fn step<W: World>(&mut self, world: &mut W, fd: i32) -> Result<()> {
        let socket = world.table().get(fd)?;
        let id = match socket.state {
            State::Stream(id) | State::Deferred(id) => id,
            State::Connecting(id) => match progress(world, fd) {
                Ok(()) => id,
                Err(error) => return Err(error),
            },
            State::Fresh if socket.looks_ended => return Ok(()),
            _ => return Err(Errno::NOTCONN),
        };
        if self.flags & libc::MSG_PEEK != 0 {
            return self.peek(world, id);
        }
        loop {
            // An error or end that comes behind what was copied is for the next call.
            let ready = world.host().ready(id);
            let behind = Ready::ERROR | Ready::READ_CLOSED;
            if self.copied > 0 && !has_data(world, id) && ready.intersects(behind) {
                return Ok(());
            }
            let most = match self.up_to_mark(world, fd, id)? {
                0 => return Ok(()),
                most => most,
            };
            match self.take(world, id, most) {
                Ok(0) => return Ok(()),
                Ok(n) => self.copied += n,
                Err(Errno::AGAIN) if self.copied >= self.target => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.copied >= self.len {
                return Ok(());
            }
        }
    }

    /// How many bytes may be read at once: reads stop before the urgent byte, and pass it over when they begin there, unless it
    /// is in the stream.
    fn up_to_mark<W: World>(&mut self, world: &mut W, fd: i32, id: SocketId) -> Result<usize> {
        loop {
            return match urgent::ahead(world, fd, id) {
                None => Ok(usize::MAX),
                Some((urgent, _)) if urgent.left > 1 => Ok(urgent.left as usize - 1),
                Some(_) if self.copied > 0 => Ok(0),
                Some((_, false)) if has_data(world, id) => {
                    let now = world.now();
                    world.host().tcp_recv(now, id, &mut [0])?;
                    continue;
                }
                Some(_) => Ok(usize::MAX),
            };
        }
    }

    /// Copies or throws away the next bytes, at most `most`.
    fn take<W: World>(&mut self, world: &mut W, id: SocketId, most: usize) -> Result<usize> {
        let now = world.now();
        if self.flags & libc::MSG_TRUNC != 0 {
            let most = most.min(self.len - self.copied);
            let chain = world.host().tcp_recv_chain(now, id, most)?;
            let n = chain.len();
            world.host().pool_mut().free(chain);
            return Ok(n);
        }
        let mut skip = self.copied;
        for piece in self.pieces.iter_mut() {
            let from = skip.min(piece.len());
            skip -= from;
            if from < piece.len() {
                let len = most.min(piece.len() - from);
                return Ok(world
                    .host()
                    .tcp_recv(now, id, &mut piece[from..from + len])?);
            }
        }
        Ok(world.host().tcp_recv(now, id, &mut [])?)
    }

    /// Copies from the beginning of what is there each time, for nothing is taken.
    fn peek<W: World>(&mut self, world: &mut W, id: SocketId) -> Result<()> {
        let mut scratch = vec![0; self.len.min(1 << 30)];
        let n = world.host().tcp_peek(id, &mut scratch)?;
        self.copied = n;
        let mut rest = &scratch[..n];
        if self.flags & libc::MSG_TRUNC == 0 {
            for piece in self.pieces.iter_mut() {
                let fits = rest.len().min(piece.len());
                piece[..fits].copy_from_slice(&rest[..fits]);
                rest = &rest[fits..];
            }
        }
        let ended = world.host().ready(id).contains(Ready::READ_CLOSED);
        if n >= self.target || n == 0 || ended {
            Ok(())
        } else {
            Err(Errno::AGAIN)
        }
    }
}

fn has_data<W: World>(world: &mut W, id: SocketId) -> bool {
    world.host().tcp_info(id).is_ok_and(|info| info.unread > 0)
}

fn receive_datagram<W: World>(
    world: &mut W,
    fd: i32,
    pieces: &mut [IoSliceMut<'_>],
    flags: i32,
    patience: Patience,
) -> Result<Message> {
    let peek = flags & libc::MSG_PEEK != 0;
    let len: usize = pieces.iter().map(|p| p.len()).sum();
    let mut scratch = vec![
        0;
        if pieces.len() > 1 {
            len.min(1 << 16)
        } else {
            0
        }
    ];
    let received = persist(world, fd, patience, |world| {
        let out = match pieces {
            [one] => &mut one[..],
            _ => &mut scratch[..],
        };
        let socket = world.table().get(fd)?;
        let (state, shut) = (socket.state, socket.shut_read);
        let received = match state {
            State::Datagram(id) if peek => world.host().udp_peek(id, out),
            State::Datagram(id) => world.host().udp_recv(id, out),
            // Nobody has bound it yet.
            _ => Err(SocketError::WouldBlock),
        };
        match received {
            // Who would wait does not once it is shut for reading.
            Err(SocketError::WouldBlock) if shut && patience != Patience::None => Ok(None),
            received => Ok(Some(received?)),
        }
    })?;
    let Some(received) = received else {
        return Ok(Message::default());
    };
    if pieces.len() > 1 {
        let mut rest = &scratch[..received.copied];
        for piece in pieces.iter_mut() {
            let fits = rest.len().min(piece.len());
            piece[..fits].copy_from_slice(&rest[..fits]);
            rest = &rest[fits..];
        }
    }
    let socket = world.table().get(fd)?;
    let (network, told) = (socket.network.clone(), (socket.v6, socket.notices.stamping));
    let wall = world.wall(received.at);
    let cut = received.len > received.copied;
    let whole = flags & libc::MSG_TRUNC != 0;
    Ok(Message {
        len: if whole { received.len } else { received.copied },
        from: Some(received.from),
        flags: if cut { libc::MSG_TRUNC } else { 0 },
        control: network.control(told, &received, wall),
    })
}
