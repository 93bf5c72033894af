//! SO_BINDTODEVICE and SO_BINDTOIFINDEX: sockets of one interface.
//!
//! What does not live here: what that means for what comes and goes (`stack`).

use core::net::SocketAddr;

use stack::InterfaceId;

use super::{change_tcp, change_udp, integer};
use crate::address::scope;
use crate::errno::{Errno, Result};
use crate::socket::{Kind, Socket, State};
use crate::world::World;

/// What libc does not name everywhere.
const SO_BINDTOIFINDEX: i32 = 62;
/// Linux's IFNAMSIZ: the longest name, its NUL counted.
const NAME_MAX: usize = 16;

/// `None` when `name` is none of these.
pub(super) fn set<W: World>(world: &mut W, fd: i32, name: i32, value: &[u8]) -> Option<Result<()>> {
    let device = match name {
        libc::SO_BINDTODEVICE => named(world, value),
        SO_BINDTOIFINDEX => integer(value).and_then(|number| numbered(world, number)),
        _ => return None,
    };
    Some(device.and_then(|device| bind(world, fd, device)))
}

/// An interface by its name, which ends with the value or a NUL; the empty name: none.
fn named<W: World>(world: &mut W, value: &[u8]) -> Result<Option<InterfaceId>> {
    let most = &value[..value.len().min(NAME_MAX - 1)];
    let name = most.split(|byte| *byte == 0).next().unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let name = core::str::from_utf8(name).ok();
    let found = name.and_then(|name| world.host().interface_named(name));
    found.map(Some).ok_or(Errno::NODEV)
}

/// An interface by its number, from 1; 0: none.
fn numbered<W: World>(world: &mut W, number: i32) -> Result<Option<InterfaceId>> {
    let Some(from_0) = number.checked_sub(1).filter(|_| number > 0) else {
        return if number == 0 {
            Ok(None)
        } else {
            Err(Errno::INVAL)
        };
    };
    let id = u8::try_from(from_0).map(InterfaceId).ok();
    let there = id.filter(|id| world.host().interface_name(*id).is_some());
    there.map(Some).ok_or(Errno::NODEV)
}

/// # Errors
/// EINVAL for another device than that of a listener: what it listens on was settled when it began.
fn bind<W: World>(world: &mut W, fd: i32, device: Option<InterfaceId>) -> Result<()> {
    let socket = world.table().get(fd)?;
    match (socket.kind, socket.state) {
        (_, State::Listening(_)) if device != of(socket) => Err(Errno::INVAL),
        (Kind::Stream, _) => change_tcp(world, fd, |o| o.device = device),
        (Kind::Datagram, _) => change_udp(world, fd, |o| o.device = device),
    }
}

/// The device a socket is bound to.
pub(crate) fn of(socket: &Socket) -> Option<InterfaceId> {
    match socket.kind {
        Kind::Stream => socket.tcp.device,
        Kind::Datagram => socket.udp.device,
    }
}

/// Binds a socket to the link that the address names to which it is bound (as Linux's `__inet6_bind`).
///
/// # Errors
/// ENODEV for a link that is not there.
pub(crate) fn follow<W: World>(world: &mut W, fd: i32, local: &SocketAddr) -> Result<()> {
    let Some(link) = scope(local).filter(|link| *link != 0) else {
        return Ok(());
    };
    let device = numbered(world, i32::try_from(link).map_err(|_| Errno::NODEV)?)?;
    bind(world, fd, device)
}

/// Whether an address of one link is that of the socket's.
pub(crate) fn is_there<W: World>(world: &mut W, fd: i32, local: &SocketAddr) -> Result<bool> {
    let device = of(world.table().get(fd)?);
    let near = scope(local).is_some() && !local.ip().is_multicast();
    Ok(!near || world.host().interface_with(local.ip()) == device)
}

/// Binds a socket to the link of a peer that is only of one, or of a group that is (as Linux's `__ip6_datagram_connect`).
///
/// # Errors
/// EINVAL for another link than the socket is bound to, ENODEV for one that is not there.
pub(crate) fn keep_to<W: World>(world: &mut W, fd: i32, peer: &SocketAddr) -> Result<()> {
    let Some(link) = scope(peer) else {
        return Ok(());
    };
    let named = numbered(world, i32::try_from(link).map_err(|_| Errno::NODEV)?)?;
    let socket = world.table().get(fd)?;
    let own = of(socket);
    if own.is_some() && named.is_some() && own != named {
        return Err(Errno::INVAL);
    }
    let groups = socket.udp.multicast_interface;
    let groups = groups.filter(|_| socket.kind == Kind::Datagram && peer.ip().is_multicast());
    let device = named.or(own).or(groups);
    if device != own {
        bind(world, fd, device)?;
    }
    Ok(())
}

/// The name of a socket's device with its NUL, nothing of a socket of all; or its number.
pub(super) fn get<W: World>(world: &mut W, socket: &Socket, name: i32) -> Option<Vec<u8>> {
    let device = of(socket);
    match name {
        libc::SO_BINDTODEVICE => {
            let name = device.and_then(|device| world.host().interface_name(device));
            Some(name.map_or_else(Vec::new, |name| [name.as_bytes(), &[0]].concat()))
        }
        SO_BINDTOIFINDEX => {
            let number = device.map_or(0, |device| i32::from(device.0) + 1);
            Some(number.to_ne_bytes().to_vec())
        }
        _ => None,
    }
}
