//! write, writev, send, sendto, sendmsg: all are [`send`].
//!
//! What does not live here: waiting itself (`call`).

use std::io::IoSlice;

use stack::{Ready, SocketId};

use super::ancillary::Ancillary;
use super::open::datagram;
use super::{Patience, persist};
use crate::address::{Destination, parse, plain};
use crate::control::Control;
use crate::errno::{Errno, Result};
use crate::notice;
use crate::socket::{Kind, State};
use crate::world::World;

/// Flags that change nothing here: signals are the caller's affair, a confirmation is always taken, records are not kept.
const HARMLESS: i32 = libc::MSG_NOSIGNAL | libc::MSG_CONFIRM;

/// Sends bytes, or one datagram to `to` (a `sockaddr`) or the peer; returns how many. A stream takes part of them only if it
/// may not wait, or something happened. A caller without MSG_NOSIGNAL owes a SIGPIPE on EPIPE of a stream.
///
/// # Errors
/// EBADF, EPIPE, EAGAIN, ENOTCONN and EDESTADDRREQ, EMSGSIZE, EOPNOTSUPP for flags that are not done (MSG_OOB, MSG_FASTOPEN),
/// the pending error.
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
    let known = HARMLESS | libc::MSG_DONTWAIT | libc::MSG_MORE | libc::MSG_EOR | libc::MSG_ZEROCOPY;
    let socket = world.table().get(fd)?;
    if flags & !known != 0 {
        return Err(Errno::OPNOTSUPP);
    }
    let nonblocking = socket.nonblocking || flags & libc::MSG_DONTWAIT != 0;
    let (kind, timeout) = (socket.kind, socket.send_timeout);
    let ancillary = Ancillary::new(control, kind, socket.v6)?;
    let zerocopy = flags & libc::MSG_ZEROCOPY != 0;
    let patience = Patience::new(world, nonblocking, timeout);
    if kind == Kind::Datagram {
        if flags & libc::MSG_MORE != 0 {
            return Err(Errno::OPNOTSUPP);
        }
        let sent = send_datagram(world, fd, pieces, (to, &ancillary), patience)?;
        notice::sent(world, fd, (zerocopy, ancillary.stamping))?;
        return Ok(sent);
    }
    // A stream knows its peer: an address is passed over, as on Linux.
    let more = flags & libc::MSG_MORE != 0;
    let mut sent = 0;
    let result = persist(world, patience, |world| {
        send_some(world, fd, pieces, more, &mut sent)
    });
    let result = match result {
        Ok(()) => Ok(sent),
        Err(_) if sent > 0 => Ok(sent),
        Err(error) => Err(error),
    };
    if !more && world.table().get(fd).is_ok_and(|s| s.more) {
        uncork(world, fd)?;
    }
    if sent > 0 {
        notice::written(world, fd, sent, (zerocopy, ancillary.stamping))?;
    }
    world.changed();
    result
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

/// Sends what is left behind the first `sent` bytes; EAGAIN until everything is.
fn send_some<W: World>(
    world: &mut W,
    fd: i32,
    pieces: &[IoSlice<'_>],
    more: bool,
    sent: &mut usize,
) -> Result<()> {
    let id = writable(world, fd)?;
    let now = world.now();
    if more {
        world.table().get_mut(fd)?.more = true;
        world.host().tcp_set_cork(now, id, true)?;
    }
    // An error that comes behind what was taken is for the next call.
    if *sent > 0 && world.host().ready(id).intersects(Ready::ERROR) {
        return Ok(());
    }
    let mut skip = *sent;
    let mut empty = true;
    for piece in pieces {
        let from = skip.min(piece.len());
        skip -= from;
        let mut rest = &piece[from..];
        while !rest.is_empty() {
            empty = false;
            let taken = world.host().tcp_send(now, id, rest)?;
            *sent += taken;
            rest = &rest[taken..];
        }
    }
    if empty && *sent == 0 {
        world.host().tcp_send(now, id, &[])?;
    }
    Ok(())
}

/// The end of a message that MSG_MORE began.
fn uncork<W: World>(world: &mut W, fd: i32) -> Result<()> {
    let now = world.now();
    let socket = world.table().get_mut(fd)?;
    socket.more = false;
    let (cork, id) = (socket.cork, socket.id());
    if let (false, Some(id)) = (cork, id) {
        // It may be gone meanwhile, which the next call tells.
        let _ = world.host().tcp_set_cork(now, id, false);
    }
    Ok(())
}

fn send_datagram<W: World>(
    world: &mut W,
    fd: i32,
    pieces: &[IoSlice<'_>],
    (to, ancillary): (Option<&[u8]>, &Ancillary),
    patience: Patience,
) -> Result<usize> {
    let v6 = world.table().get(fd)?.v6;
    let to = match to.map(|to| parse(to, v6)).transpose()? {
        Some(Destination::Peer(to)) => Some(plain(to)),
        Some(Destination::Nowhere) => return Err(Errno::AFNOSUPPORT),
        None => None,
    };
    let id = datagram(world, fd)?;
    if to.is_none() && world.host().peer_addr(id).is_err() {
        return Err(Errno::DESTADDRREQ);
    }
    let gathered;
    let payload = match pieces {
        [one] => &one[..],
        many => {
            gathered = many
                .iter()
                .flat_map(|p| p.iter().copied())
                .collect::<Vec<u8>>();
            &gathered[..]
        }
    };
    let usual = world.host().udp_options(id)?;
    let mut once = usual;
    once.ttl = ancillary.ttl.or(usual.ttl);
    once.tos = ancillary.tos.unwrap_or(usual.tos);
    persist(world, patience, |world| {
        let (now, from) = (world.now(), ancillary.from);
        if once != usual {
            world
                .host()
                .udp_set_options(id, |options| *options = once)?;
        }
        let sent = world.host().udp_send_from(now, id, payload, from, to);
        if once != usual {
            world
                .host()
                .udp_set_options(id, |options| *options = usual)?;
        }
        Ok(sent?)
    })
}
