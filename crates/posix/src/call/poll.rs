//! poll.
//!
//! What does not live here: the bits (`ready`).

use core::time::Duration;

use base::Instant;

use super::{Patience, epoll, persist};
use crate::errno::{Errno, Result};
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
                let bits = epoll::level(world, entry.fd).map_or(libc::POLLNVAL, |bits| bits as i16);
                entry.revents = bits & (entry.events | ALWAYS);
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
