//! write, writev, send, sendto, sendmsg: all are [`send`].
//!
//! What does not live here: waiting itself (`call`).

use core::net::{IpAddr, SocketAddr};
use std::io::IoSlice;

use base::Instant;
use base::epoll::RAISED_OUT;
use stack::{Outgoing, Ready, SocketError, SocketId, Write};

use super::ancillary::Ancillary;
use super::fragments::Fragments;
use super::open::datagram;
use super::{Patience, persist};
use crate::address::{Destination, family, parse, plain, shortest, v4_of};
use crate::control::Control;
use crate::errno::{Errno, Result};
use crate::fast_open;
use crate::notice;
use crate::socket::{Held, Kind, Socket, State};
use crate::world::World;

/// Flags that change nothing here: signals are the caller's affair, a confirmation is always taken.
const HARMLESS: i32 = libc::MSG_NOSIGNAL | libc::MSG_CONFIRM;

/// The longest datagram IP can carry.
const DATAGRAM_MOST: usize = 65_535;

/// Sends bytes, or one datagram to `to` (a `sockaddr`) or the peer; returns how many. A stream takes part of them only if it
/// may not wait, or something happened. A caller without MSG_NOSIGNAL owes a SIGPIPE on EPIPE of a stream. For
/// examples see [`Live`](crate::Live), and of datagrams [`receive`](super::receive()).
///
/// # Errors
/// EBADF, ENOTSOCK, EPIPE, EAGAIN, ENOTCONN and EDESTADDRREQ, EMSGSIZE, EOPNOTSUPP for flags that are not done, the pending
/// error; with MSG_FASTOPEN also what `connect` says, and EINPROGRESS when nothing could go with the SYN.
pub fn send<W: World>(
    world: &mut W,
    fd: i32,
    pieces: &[IoSlice<'_>],
    flags: i32,
    to: Option<&[u8]>,
) -> Result<usize> {
    send_message(world, fd, pieces, flags, to, &[])
}

/// As [`send`], with control messages: SO_TIMESTAMPING, and of datagrams from where, TTL and type of service.
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
/// use std::io::IoSlice;
///
/// use posix::{Control, send_message, socket};
///
/// let fd = socket(&mut live.call(), libc::AF_INET, libc::SOCK_DGRAM, 0)?;
/// // One hop, whatever the socket says.
/// let data = 1_i32.to_ne_bytes().to_vec();
/// let near = [Control { level: libc::SOL_IP, kind: libc::IP_TTL, data }];
/// let parts = [IoSlice::new(b"hello, "), IoSlice::new(b"neighbour")];
/// let sent = send_message(&mut live.call(), fd, &parts, 0, Some(&at("127.0.0.1:53")), &near)?;
/// assert_eq!(sent, 16);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`send`]; EINVAL for a control message that is not known.
pub fn send_message<W: World>(
    world: &mut W,
    fd: i32,
    pieces: &[IoSlice<'_>],
    flags: i32,
    to: Option<&[u8]>,
    control: &[Control],
) -> Result<usize> {
    let known = HARMLESS
        | libc::MSG_DONTWAIT
        | libc::MSG_MORE
        | libc::MSG_EOR
        | libc::MSG_OOB
        | libc::MSG_ZEROCOPY
        | libc::MSG_FASTOPEN;
    let socket = world.table().get(fd)?;
    if flags & !known != 0 {
        return Err(Errno::OPNOTSUPP);
    }
    let nonblocking = socket.nonblocking || flags & libc::MSG_DONTWAIT != 0;
    let (kind, timeout) = (socket.kind, socket.send_timeout);
    let lends = flags & libc::MSG_ZEROCOPY != 0 && socket.notices.zerocopy;
    let ancillary = Ancillary::new(control, kind, socket.v6)?;
    let zerocopy = flags & libc::MSG_ZEROCOPY != 0;
    let patience = Patience::new(world, nonblocking, timeout);
    if kind == Kind::Datagram {
        if flags & libc::MSG_FASTOPEN != 0 {
            return Err(Errno::OPNOTSUPP);
        }
        let sent = send_datagram(world, fd, pieces, (to, &ancillary), (patience, flags))?;
        notice::sent(world, fd, (zerocopy, ancillary.stamping))?;
        return Ok(sent);
    }
    // A stream knows its peer: an address is passed over, as on Linux.
    let mut writer = Writer {
        pieces,
        how: Write {
            more: flags & libc::MSG_MORE != 0,
            end_of_record: flags & libc::MSG_EOR != 0,
            urgent: flags & libc::MSG_OOB != 0,
        },
        fragments: lends.then_some(Fragments::NEW),
        sent: 0,
        refused: false,
        failed: false,
    };
    let result = match writer.open(world, fd, (flags, to), patience) {
        Ok(()) => persist(world, fd, patience, |world| writer.step(world, fd)),
        Err(error) => Err(error),
    };
    if writer.sent > 0 {
        notice::written(world, fd, writer.sent, (zerocopy, ancillary.stamping))?;
    }
    world.changed();
    match result {
        Err(error) if writer.sent == 0 || writer.failed => Err(error),
        _ => Ok(writer.sent),
    }
}

/// The handle of a stream data may be given to.
fn writable<W: World>(world: &mut W, fd: i32) -> Result<SocketId> {
    match world.table().get(fd)?.state {
        State::Stream(id) => Ok(id),
        State::Connecting(id) => match super::open::progress(world, fd) {
            Ok(()) => Ok(id),
            Err(error) => Err(error),
        },
        _ => Err(Errno::PIPE),
    }
}

/// A write to a stream under way.
struct Writer<'a, 'b> {
    pieces: &'a [IoSlice<'b>],
    how: Write,
    /// The segment being filled, if its memory is lent (MSG_ZEROCOPY).
    fragments: Option<Fragments>,
    sent: usize,
    /// It met a full buffer: it goes on when there is as much room as makes a socket ready (Linux's sk_stream_wait_memory).
    refused: bool,
    /// The connection came to nothing: what was taken is not sent.
    failed: bool,
}

impl Writer<'_, '_> {
    /// Opens a stream with data, if that is asked for: gives it what goes with its SYN, and waits for the answer if it may.
    /// EINPROGRESS and EAGAIN when it may not, as Linux says.
    fn open<W: World>(
        &mut self,
        world: &mut W,
        fd: i32,
        (flags, to): (i32, Option<&[u8]>),
        patience: Patience,
    ) -> Result<()> {
        let asked = flags & libc::MSG_FASTOPEN != 0;
        if asked {
            self.connect(world, fd, to)?;
        }
        let id = match world.table().get(fd)?.state {
            State::Deferred(id) => id,
            State::Connecting(_) if asked && patience == Patience::None => {
                world.changed();
                return Err(Errno::INPROGRESS);
            }
            _ => return Ok(()),
        };
        let given = self.push(world, id);
        world.table().get_mut(fd)?.state = State::Connecting(id);
        world.changed();
        match given {
            Ok(()) | Err(Errno::AGAIN) => {}
            refused => return refused,
        }
        let ended = persist(world, fd, patience, |world| {
            super::open::conclude(world, fd)
        });
        match ended {
            Err(Errno::AGAIN) => Err(Errno::INPROGRESS),
            Err(error) => {
                self.failed = true;
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// MSG_FASTOPEN: a fresh stream begins to connect.
    fn connect<W: World>(&self, world: &mut W, fd: i32, to: Option<&[u8]>) -> Result<()> {
        fast_open::allowed(world)?;
        let socket = world.table().get(fd)?.clone();
        let to = match to.map(|to| parse(to, socket.v6)) {
            Some(Ok(Destination::Nowhere)) => return Err(Errno::OPNOTSUPP),
            Some(Ok(Destination::Peer(to))) => Some(plain(to)),
            Some(Err(error)) => return Err(error),
            None => None,
        };
        match socket.state {
            State::Fresh => {}
            State::Connecting(_) => {
                return match super::open::conclude(world, fd) {
                    Err(Errno::AGAIN) => Err(Errno::ALREADY),
                    ended => ended,
                };
            }
            // It is asked for no more than once, and no longer once there is a connection.
            State::Deferred(_) | State::Stream(_) => return Ok(()),
            _ => return Err(Errno::ISCONN),
        }
        let mut options = socket.tcp;
        options.fast_open = true;
        let to = to.ok_or(Errno::INVAL)?;
        super::open::begin(world, fd, to, &options).map(|_| ())
    }

    /// Sends what is left; EAGAIN until everything is.
    fn step<W: World>(&mut self, world: &mut W, fd: i32) -> Result<()> {
        let id = writable(world, fd)?;
        let ready = world.host().ready(id);
        // An error that comes behind what was taken is for the next call.
        if self.sent > 0 && ready.intersects(Ready::ERROR) {
            return Ok(());
        }
        if self.refused && !ready.intersects(Ready::WRITABLE | Ready::ERROR | Ready::HUP) {
            return Err(Errno::AGAIN);
        }
        let mut before = self.sent;
        loop {
            match self.push(world, id) {
                // What leaves now makes room for more of it.
                Err(Errno::AGAIN) if self.sent > before => {
                    before = self.sent;
                    world.changed();
                }
                Err(Errno::AGAIN) => {
                    self.refused = true;
                    return Err(Errno::AGAIN);
                }
                done => return done,
            }
        }
    }

    /// Gives the host what it takes now; EAGAIN if that is not all.
    fn push<W: World>(&mut self, world: &mut W, id: SocketId) -> Result<()> {
        let now = world.now();
        let all: usize = self.pieces.iter().map(|piece| piece.len()).sum();
        let mut start = 0;
        for piece in self.pieces {
            while self.sent < start + piece.len() {
                let from = self.sent - start;
                let (len, next) = match self.fragments {
                    Some(fragments) => fragments.take(piece, from),
                    None => (piece.len() - from, None),
                };
                // What the flags say is of the whole.
                let mut how = if self.sent + len == all {
                    self.how
                } else {
                    Write {
                        more: true,
                        ..Write::default()
                    }
                };
                how.end_of_record |= self.fragments.is_some() && next.is_none();
                let part = &piece[from..from + len];
                let taken = self.give(world, (now, id), part, how)?;
                self.sent += taken;
                if taken < len {
                    return Err(Errno::AGAIN);
                }
                self.fragments = self.fragments.map(|_| next.unwrap_or(Fragments::NEW));
            }
            start += piece.len();
        }
        if all == 0 {
            world.host().tcp_send(now, id, &[])?;
        }
        Ok(())
    }

    /// Writes a part. That a segment ends with it where nobody asked for that is no reason to fail.
    fn give<W: World>(
        &self,
        world: &mut W,
        (now, id): (Instant, SocketId),
        part: &[u8],
        how: Write,
    ) -> Result<usize> {
        let asked = Write {
            end_of_record: how.end_of_record && self.how.end_of_record,
            ..how
        };
        let given = world.host().tcp_send_with(now, id, part, how);
        Ok(match given {
            Err(SocketError::NoBuffers) if asked != how => {
                world.host().tcp_send_with(now, id, part, asked)?
            }
            given => given?,
        })
    }
}

/// Where a datagram is to go, if not to the peer, with what Linux's two families say of it, in their order.
fn target(
    socket: &Socket,
    (peer, to): (Option<SocketAddr>, Option<&[u8]>),
    (len, flags): (usize, i32),
) -> Result<Option<SocketAddr>> {
    let v4 = |to: Option<&[u8]>| match to {
        _ if len > DATAGRAM_MOST => Err(Errno::MSGSIZE),
        _ if flags & libc::MSG_OOB != 0 => Err(Errno::OPNOTSUPP),
        // What was begun with MSG_MORE goes where was said first.
        Some(_) if socket.held.is_some() => Ok(None),
        Some(to) if to.len() < shortest(false) => Err(Errno::INVAL),
        Some(to) if ![libc::AF_INET, libc::AF_UNSPEC].contains(&family(to)?) => {
            Err(Errno::AFNOSUPPORT)
        }
        to => named(to.map(v4_of)),
    };
    if !socket.v6 {
        return v4(to);
    }
    let Some(to) = to else {
        // Connected to one of IPv4, it sends as a socket of IPv4 does.
        return match peer.is_some_and(|peer| plain(peer).is_ipv4()) {
            true => v4(None),
            false => Ok(None),
        };
    };
    match family(to)? {
        libc::AF_UNSPEC => Ok(None),
        libc::AF_INET if socket.only_v6 => Err(Errno::NETUNREACH),
        libc::AF_INET => v4(Some(to)),
        libc::AF_INET6 => match parse(to, true)? {
            Destination::Peer(to) if plain(to).is_ipv4() => {
                v4(None)?;
                named(Some(plain(to)))
            }
            Destination::Peer(to) => named(Some(to)),
            Destination::Nowhere => Ok(None),
        },
        _ => Err(Errno::INVAL),
    }
}

/// A destination has a port.
fn named(to: Option<SocketAddr>) -> Result<Option<SocketAddr>> {
    match to.is_some_and(|to| to.port() == 0) {
        true => Err(Errno::INVAL),
        false => Ok(to),
    }
}

/// From where what goes to a group leaves if nobody says otherwise (IP_MULTICAST_IF); a socket that is bound to an address sends from there.
fn source_to<W: World>(
    world: &mut W,
    (fd, id): (i32, SocketId),
    to: Option<SocketAddr>,
) -> Result<Option<IpAddr>> {
    let source = world.table().get(fd)?.network.groups.source_to(to);
    let bound = |local: SocketAddr| !local.ip().is_unspecified();
    Ok(source.filter(|_| !world.host().local_addr(id).is_ok_and(bound)))
}

/// Sends a datagram, or with MSG_MORE keeps its beginning until the rest comes; where it goes was said first.
fn send_datagram<W: World>(
    world: &mut W,
    fd: i32,
    pieces: &[IoSlice<'_>],
    (to, ancillary): (Option<&[u8]>, &Ancillary),
    (patience, flags): (Patience, i32),
) -> Result<usize> {
    let id = datagram(world, fd)?;
    let len = pieces.iter().map(|piece| piece.len()).sum();
    let peer = world.host().peer_addr(id).ok();
    let socket = world.table().get(fd)?;
    let to = target(socket, (peer, to), (len, flags))?;
    if to.is_none() && socket.held.is_none() && peer.is_none() {
        return Err(Errno::DESTADDRREQ);
    }
    if world.table().get(fd)?.shut_write {
        return Err(world.host().take_error(id).map_or(Errno::PIPE, Errno::from));
    }
    let mut whole = match world.table().get_mut(fd)?.held.take() {
        Some(held) => held,
        None => Held {
            bytes: Vec::new(),
            to,
        },
    };
    if whole.bytes.len() + len > DATAGRAM_MOST {
        return Err(Errno::MSGSIZE);
    }
    let more = flags & libc::MSG_MORE != 0;
    let payload = match pieces {
        [one] if whole.bytes.is_empty() && !more => &one[..],
        many => {
            many.iter().for_each(|p| whole.bytes.extend_from_slice(p));
            &whole.bytes[..]
        }
    };
    if more {
        if let Some(error) = world.host().take_error(id) {
            return Err(error.into());
        }
        world.table().get_mut(fd)?.held = Some(whole);
        return Ok(len);
    }
    let usual = world.table().get(fd)?.network.segment;
    let how = Outgoing {
        to: whole.to,
        from: match ancillary.from {
            None => source_to(world, (fd, id), whole.to)?,
            from => from,
        },
        ttl: ancillary.ttl,
        tos: ancillary.tos,
        segment: Some(ancillary.segment.unwrap_or(usual)).filter(|size| *size > 0),
    };
    persist(world, fd, patience, |world| {
        let now = world.now();
        let sent = world.host().udp_send(now, id, payload, &how);
        if sent.is_ok() {
            // As on Linux, where it leaves room behind when it leaves.
            world.table().raise(fd, RAISED_OUT);
        }
        if sent == Err(SocketError::MessageTooLong) {
            notice::too_long(world, fd, whole.to)?;
        }
        Ok(sent?)
    })?;
    Ok(len)
}
