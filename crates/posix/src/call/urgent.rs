//! Urgent data as Linux hands it out: the last byte of it is not in the stream, unless SO_OOBINLINE says so, but is read with
//! MSG_OOB; reads stop before it.
//!
//! What does not live here: the urgent pointer (the stack, where the byte stays in its place).

use stack::{Ready, SocketId, Urgent};

use crate::errno::{Errno, Result};
use crate::socket::State;
use crate::world::World;

/// The urgent data ahead of a stream's reader, and whether its byte stays in the stream.
pub(super) fn ahead<W: World>(world: &mut W, fd: i32, id: SocketId) -> Option<(Urgent, bool)> {
    let urgent = world.host().tcp_urgent(id).ok()??;
    let inline = world.table().get(fd).is_ok_and(|s| s.oob_inline);
    Some((urgent, inline))
}

/// How many of `unread` bytes can be read before the urgent one (Linux's tcp_inq).
pub(super) fn before_mark<W: World>(world: &mut W, fd: i32, id: SocketId, unread: u32) -> u32 {
    match ahead(world, fd, id) {
        Some((urgent, false)) if urgent.left <= unread => urgent.left - 1,
        _ => unread,
    }
}

/// The bits of a socket with urgent data ahead: POLLPRI once its byte is there and until it was taken; one that comes next is not
/// there to be read.
pub(super) fn readiness<W: World>(world: &mut W, fd: i32, id: SocketId, ready: Ready) -> Ready {
    let Some((urgent, inline)) = ahead(world, fd, id) else {
        return ready;
    };
    let unread = world.host().tcp_info(id).map_or(0, |info| info.unread);
    let taken = world.table().get(fd).ok().and_then(|s| s.oob_taken);
    let mut without = Ready::NONE;
    if unread < urgent.left || taken == Some(urgent.number) {
        without |= Ready::PRIORITY;
    }
    if !inline && urgent.left == 1 && unread == 1 && !ready.contains(Ready::READ_CLOSED) {
        without |= Ready::READABLE;
    }
    Ready(ready.0 & !without.0)
}

/// MSG_OOB: the urgent byte, which stays with MSG_PEEK. 0 when there will be none.
///
/// # Errors
/// ENOTCONN of a listener, and after a reset; EINVAL when there is no urgent byte, it was taken, or it is in the stream; EAGAIN while it is on its way, which nobody waits
/// for.
pub(super) fn take<W: World>(world: &mut W, fd: i32, peek: bool) -> Result<Option<u8>> {
    let socket = world.table().get(fd)?;
    let (inline, taken) = (socket.oob_inline, socket.oob_taken);
    let id = match socket.state {
        // There may be a connection by now, of which nobody was told yet.
        State::Stream(id) | State::Connecting(id) | State::Deferred(id) => id,
        State::Listening(_) => return Err(Errno::NOTCONN),
        _ => return Err(Errno::INVAL),
    };
    let urgent = world.host().tcp_urgent(id)?;
    let Some(urgent) = urgent.filter(|u| !inline && taken != Some(u.number)) else {
        return Err(Errno::INVAL);
    };
    if urgent.cut_off {
        return Err(Errno::NOTCONN);
    }
    let mut byte = [0];
    let there = world
        .host()
        .tcp_peek_at(id, urgent.left as usize - 1, &mut byte);
    match there {
        Ok(1) => {
            if !peek {
                world.table().get_mut(fd)?.oob_taken = Some(urgent.number);
            }
            Ok(Some(byte[0]))
        }
        _ if world.host().ready(id).contains(Ready::READ_CLOSED) => Ok(None),
        _ => Err(Errno::AGAIN),
    }
}
