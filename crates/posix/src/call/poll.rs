//! poll, with the bits Linux's sockets set.

use core::time::Duration;

use base::Instant;
use stack::Ready;

use super::{Patience, persist};
use crate::errno::{Errno, Result};
use crate::notice;
use crate::socket::{Kind, State};
use crate::world::World;

/// One descriptor to look after: `struct pollfd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PollFd {
    /// The descriptor; a negative one is passed over.
    pub fd: i32,
    /// Bits asked for.
    pub events: i16,
    /// Bits found.
    pub revents: i16,
}

/// Bits that are told without being asked for.
const ALWAYS: i16 = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;

/// Waits until one of `fds` has one of its bits, for `timeout_ms` at most, for ever if that is negative; returns how many have.
///
/// # Errors
/// None of its own today.
pub fn poll<W: World>(world: &mut W, fds: &mut [PollFd], timeout_ms: i32) -> Result<usize> {
    let patience = match timeout_ms {
        0 => Patience::None,
        ms if ms < 0 => Patience::Until(Instant::FAR),
        ms => Patience::Until(world.now() + Duration::from_millis(ms as u64)),
    };
    let found = persist(world, patience, |world| {
        let mut found = 0;
        for entry in fds.iter_mut() {
            entry.revents = 0;
            if entry.fd >= 0 {
                entry.revents = bits(world, entry.fd) & (entry.events | ALWAYS);
                found += usize::from(entry.revents != 0);
            }
        }
        if found == 0 {
            Err(Errno::AGAIN)
        } else {
            Ok(found)
        }
    });
    match found {
        Err(Errno::AGAIN) => Ok(0),
        found => found,
    }
}

/// What a descriptor is ready for.
fn bits<W: World>(world: &mut W, fd: i32) -> i16 {
    const READ: i16 = libc::POLLIN | libc::POLLRDNORM;
    const WRITE: i16 = libc::POLLOUT | libc::POLLWRNORM;
    let Ok(socket) = world.table().get(fd) else {
        return libc::POLLNVAL;
    };
    let (kind, state) = (socket.kind, socket.state);
    let Some(id) = socket.id() else {
        return match kind {
            // As Linux says of a stream that is neither connected nor listens.
            Kind::Stream => WRITE | libc::POLLHUP,
            Kind::Datagram => WRITE,
        };
    };
    let told = notice::waiting(world, fd);
    let mut ready = world.host().ready(id);
    if ready.contains(Ready::PRIORITY) {
        ready = super::urgent::readiness(world, fd, id, ready);
    }
    let mut bits = if told { libc::POLLERR } else { 0 };
    if told && world.table().get(fd).is_ok_and(|s| s.network.select_errors) {
        bits |= libc::POLLPRI;
    }
    for (what, bit) in [
        (Ready::READABLE, READ),
        (Ready::WRITABLE, WRITE),
        (Ready::READ_CLOSED, libc::POLLRDHUP),
        (Ready::HUP, libc::POLLHUP),
        (Ready::ERROR, libc::POLLERR),
        (Ready::PRIORITY, libc::POLLPRI),
    ] {
        if ready.contains(what) {
            bits |= bit;
        }
    }
    if matches!(state, State::Listening(_)) {
        bits &= READ;
    }
    bits
}
