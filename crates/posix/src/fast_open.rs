//! Options of Fast Open (RFC 7413), with Linux's ranges and errors.
//!
//! What does not live here: MSG_FASTOPEN (`call`).

use stack::FastOpenKeys;

use crate::errno::{Errno, Result};
use crate::option::{change_tcp, integer, within};
use crate::socket::{Socket, State};
use crate::world::World;

/// `TCP_FASTOPEN_KEY`, `TCP_FASTOPEN_NO_COOKIE`: libc does not name them for every system.
const TCP_FASTOPEN_KEY: i32 = 33;
const TCP_FASTOPEN_NO_COOKIE: i32 = 34;
/// Bytes of one key.
const KEY: usize = 16;

/// Sets an option; `None` if it is none of these.
pub(crate) fn set<W: World>(world: &mut W, fd: i32, name: i32, value: &[u8]) -> Option<Result<()>> {
    Some(match name {
        libc::TCP_FASTOPEN => set_queue(world, fd, value),
        TCP_FASTOPEN_KEY => set_keys(world, fd, value),
        libc::TCP_FASTOPEN_CONNECT => set_connect(world, fd, value),
        TCP_FASTOPEN_NO_COOKIE => set_no_cookie(world, fd, value),
        _ => return None,
    })
}

/// Whether it may be set: before a connection is, or on a listener.
fn settable(socket: &Socket) -> Result<()> {
    match socket.state {
        State::Fresh | State::Listening(_) => Ok(()),
        _ => Err(Errno::INVAL),
    }
}

fn set_queue<W: World>(world: &mut W, fd: i32, value: &[u8]) -> Result<()> {
    let queue = within(integer(value)?, 0..=i32::MAX)? as u32;
    settable(world.table().get(fd)?)?;
    let queue = queue.min(world.host().tcp_tunables().somaxconn);
    change_tcp(world, fd, |o| o.fast_open_queue = queue)
}

/// Whether connections from here may use it (`tcp_fastopen`, bit 0).
pub(crate) fn allowed<W: World>(world: &mut W) -> Result<()> {
    if world.host().tcp_tunables().fastopen & 1 != 0 {
        Ok(())
    } else {
        Err(Errno::OPNOTSUPP)
    }
}

fn set_connect<W: World>(world: &mut W, fd: i32, value: &[u8]) -> Result<()> {
    let on = within(integer(value)?, 0..=1)? != 0;
    allowed(world)?;
    let socket = world.table().get_mut(fd)?;
    if socket.state != State::Fresh {
        return Err(Errno::INVAL);
    }
    socket.tcp.fast_open = on;
    Ok(())
}

fn set_no_cookie<W: World>(world: &mut W, fd: i32, value: &[u8]) -> Result<()> {
    let without = within(integer(value)?, 0..=1)? != 0;
    settable(world.table().get(fd)?)?;
    change_tcp(world, fd, |o| o.fast_open_no_cookie = without)
}

fn set_keys<W: World>(world: &mut W, fd: i32, value: &[u8]) -> Result<()> {
    let keys = match value.as_chunks::<KEY>() {
        (&[primary], []) => FastOpenKeys {
            primary,
            backup: None,
        },
        (&[primary, backup], []) => FastOpenKeys {
            primary,
            backup: Some(backup),
        },
        _ => return Err(Errno::INVAL),
    };
    let socket = world.table().get_mut(fd)?;
    socket.fast_open_keys = Some(keys);
    if let State::Listening(id) = socket.state {
        world.host().set_tcp_fast_open_keys(Some(id), keys)?;
    }
    Ok(())
}

/// Reads an option; `None` if it is none of these.
pub(crate) fn get<W: World>(world: &mut W, socket: &Socket, name: i32) -> Option<Result<Vec<u8>>> {
    let number = |value: i32| Ok(value.to_ne_bytes().to_vec());
    Some(match name {
        libc::TCP_FASTOPEN => number(i32::try_from(socket.tcp.fast_open_queue).unwrap_or(i32::MAX)),
        libc::TCP_FASTOPEN_CONNECT => number(i32::from(socket.tcp.fast_open)),
        TCP_FASTOPEN_NO_COOKIE => number(i32::from(socket.tcp.fast_open_no_cookie)),
        TCP_FASTOPEN_KEY => {
            let keys = match socket.fast_open_keys {
                Some(keys) => Ok(keys),
                None => world.host().tcp_fast_open_keys(None).map_err(Errno::from),
            };
            keys.map(|keys| {
                let mut bytes = keys.primary.to_vec();
                bytes.extend(keys.backup.iter().flatten());
                bytes
            })
        }
        _ => return None,
    })
}
