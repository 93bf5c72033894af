//! SO_REUSEPORT's program: SO_ATTACH_REUSEPORT_CBPF and SO_DETACH_REUSEPORT_BPF.
//!
//! A program given to a socket that is not bound yet (or does not listen) waits for that, and is of use if the socket is the first
//! of its group: who comes later finds the group's own, as on Linux.
//!
//! What does not live here: what programs are and how groups choose (the stack).

use std::sync::Arc;

use stack::{Filter, Instruction, ReusePort, SocketError, SocketId};

use super::integer;
use crate::errno::{Errno, Result};
use crate::socket::{Socket, State};
use crate::world::World;

/// A program that waits for its socket to be bound.
pub(crate) type Waiting = Option<Arc<[Instruction]>>;

/// Sets one of these options; `None` if it is another. Of SO_ATTACH_REUSEPORT_CBPF `value` is the program itself, not the
/// `struct sock_fprog` that points to it.
pub(super) fn set<W: World>(world: &mut W, fd: i32, name: i32, value: &[u8]) -> Option<Result<()>> {
    match name {
        libc::SO_ATTACH_REUSEPORT_CBPF => Some(attach(world, fd, value)),
        libc::SO_DETACH_REUSEPORT_BPF => Some(integer(value).and_then(|_| detach(world, fd))),
        _ => None,
    }
}

/// The socket whose group there is; `None` while it is not bound.
fn grouped(socket: &Socket) -> Option<SocketId> {
    match socket.state {
        State::Listening(id) | State::Datagram(id) => Some(id),
        _ => None,
    }
}

fn attach<W: World>(world: &mut W, fd: i32, value: &[u8]) -> Result<()> {
    let (program, []) = value.as_chunks() else {
        return Err(Errno::INVAL);
    };
    let program: Arc<[Instruction]> = program
        .iter()
        .map(|bytes| Instruction::from_bytes(*bytes))
        .collect();
    let filter = Filter::new(&program).map_err(|_| Errno::INVAL)?;
    let socket = world.table().get_mut(fd)?;
    match grouped(socket) {
        Some(id) => Ok(world
            .host()
            .reuseport_select(id, ReusePort::Filter(filter))?),
        None if socket.reuse_port => {
            socket.filter = Some(program);
            Ok(())
        }
        None => Err(Errno::INVAL),
    }
}

fn detach<W: World>(world: &mut W, fd: i32) -> Result<()> {
    let socket = world.table().get_mut(fd)?;
    let shares = socket.reuse_port;
    match grouped(socket) {
        Some(id) => match world.host().reuseport_forget_program(id) {
            // It says so, but was bound before it did.
            Err(SocketError::InvalidInput) if shares => Err(Errno::NOENT),
            done => Ok(done?),
        },
        None if socket.filter.take().is_some() => Ok(()),
        None if socket.reuse_port => Err(Errno::NOENT),
        None => Err(Errno::INVAL),
    }
}

/// A socket was bound, or listens: what waited for that is its group's, if it is the first of it.
pub(crate) fn bound<W: World>(world: &mut W, fd: i32, id: SocketId) -> Result<()> {
    let Some(program) = world.table().get_mut(fd)?.filter.take() else {
        return Ok(());
    };
    if world.host().reuseport_members(id) == Ok(1)
        && let Ok(filter) = Filter::new(&program)
    {
        world
            .host()
            .reuseport_select(id, ReusePort::Filter(filter))?;
    }
    Ok(())
}
