//! poll and ppoll, over descriptors of ours and of the kernel's.
//!
//! What does not live here: the bits (`ready`), select (`select`).

use core::time::Duration;
use std::sync::Arc;

use base::Instant;

use super::{Patience, epoll, persist_on};
use crate::errno::{Errno, Result};
use crate::foreign::{self, SignalMask};
use crate::joined::Joined;
use crate::world::{Awaited, Wait, World};

/// One descriptor to look after: `struct pollfd`; see [`poll`].
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
/// A descriptor that nobody knows has POLLNVAL, and so has one of ours once it is
/// closed.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let seed = engine::random_seed()?;
/// # let live = posix::Live::start(Default::default(), seed, Default::default(), |_| Ok(()))?;
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
///
/// use posix::{PollFd, poll, socket};
///
/// let fd = socket(&mut live.call(), libc::AF_INET, libc::SOCK_DGRAM, 0)?;
/// let (reader, mut writer) = std::io::pipe()?;
/// let wanted = |fd| PollFd { fd, events: libc::POLLIN, revents: 0 };
/// let mut fds = [wanted(fd), wanted(reader.as_raw_fd())];
/// assert_eq!(poll(&mut live.call(), &mut fds, 1)?, 0, "a millisecond later");
/// writer.write_all(b"wake up")?;
/// assert_eq!(poll(&mut live.call(), &mut fds, -1)?, 1);
/// assert_eq!((fds[0].revents, fds[1].revents), (0, libc::POLLIN));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`ppoll`].
pub fn poll<W: World>(world: &mut W, fds: &mut [PollFd], timeout_ms: i32) -> Result<usize> {
    let timeout = u64::try_from(timeout_ms).ok();
    ppoll(world, fds, timeout.map(Duration::from_millis), None)
}

/// As [`poll`], to the nanosecond; without a timeout for ever. `mask` blocks signals while it sleeps, and no others.
///
/// # Errors
/// EINTR; ENETDOWN; EINVAL (more of the kernel's than there may be); EMFILE and ENFILE when there are no descriptors left to sleep on.
pub fn ppoll<W: World>(
    world: &mut W,
    fds: &mut [PollFd],
    timeout: Option<Duration>,
    mask: Option<SignalMask>,
) -> Result<usize> {
    poll_for(world, fds, (timeout, mask), ALWAYS)
}

/// As [`ppoll`], with these bits told without being asked for.
pub(super) fn poll_for<W: World>(
    world: &mut W,
    fds: &mut [PollFd],
    (timeout, mask): (Option<Duration>, Option<SignalMask>),
    always: i16,
) -> Result<usize> {
    let patience = match timeout {
        Some(Duration::ZERO) => Patience::None,
        Some(timeout) => Patience::Until(world.now() + timeout),
        None => Patience::Until(Instant::FAR),
    };
    let serials: Vec<Option<u64>> = {
        let table = world.table();
        fds.iter().map(|entry| table.serial(entry.fd)).collect()
    };
    let found = persist_on(
        world,
        patience,
        fds,
        |world, fds| match look(world, fds, &serials, always)? {
            0 => Err(Errno::AGAIN),
            found => Ok(found),
        },
        |world, fds| wait_for(world, fds, mask, always),
    );
    match found {
        Err(Errno::AGAIN) => Ok(0),
        found => found,
    }
}

/// How many have something now. Who closed what was ours has a descriptor of nobody's, whoever has it since.
fn look<W: World>(
    world: &mut W,
    fds: &mut [PollFd],
    serials: &[Option<u64>],
    always: i16,
) -> Result<usize> {
    let mut kernel = Vec::new();
    let mut found = 0;
    for (entry, serial) in fds.iter_mut().zip(serials) {
        entry.revents = 0;
        if world.table().serial(entry.fd) != *serial {
            entry.revents = libc::POLLNVAL;
            found += 1;
        } else if serial.is_some() {
            world.table().whole()?;
            let bits = epoll::level(world, entry.fd).map_or(libc::POLLNVAL, |bits| bits as i16);
            entry.revents = bits & (entry.events | always);
            found += usize::from(entry.revents != 0);
        } else if entry.fd >= 0 {
            kernel.push(of(entry));
        }
    }
    if kernel.is_empty() || foreign::poll(&mut kernel, Some(Duration::ZERO), None)? == 0 {
        return Ok(found);
    }
    let mut asked = kernel.iter().peekable();
    for entry in fds.iter_mut() {
        if entry.fd < 0 || entry.revents != 0 || world.table().contains(entry.fd) {
            continue;
        }
        if let Some(answer) = asked.next_if(|answer| answer.fd == entry.fd) {
            entry.revents = answer.revents & (entry.events | always);
            found += usize::from(entry.revents != 0);
        }
    }
    Ok(found)
}

fn of(entry: &PollFd) -> libc::pollfd {
    libc::pollfd {
        fd: entry.fd,
        events: entry.events,
        revents: 0,
    }
}

fn wait_for<W: World>(
    world: &mut W,
    fds: &[PollFd],
    mask: Option<SignalMask>,
    always: i16,
) -> Wait {
    let (mut ours, mut kernel) = (Vec::new(), Vec::new());
    let mut within: Vec<Arc<Joined>> = Vec::new();
    for entry in fds.iter().filter(|entry| entry.fd >= 0) {
        if !world.table().contains(entry.fd) {
            kernel.push(of(entry));
            continue;
        }
        ours.push(entry.fd);
        // A set's other side, and those of sets within.
        let (own, joined) = world.table().beyond(entry.fd);
        within.extend(joined);
        if own {
            kernel.push(libc::pollfd {
                fd: entry.fd,
                events: entry.events & (libc::POLLIN | libc::POLLRDNORM),
                revents: 0,
            });
        }
    }
    // The kernel's poll would not sleep on what nobody has asked for; what is over for good does not become anything else.
    if always != ALWAYS && foreign::poll(&mut kernel, Some(Duration::ZERO), None).is_ok() {
        kernel.retain(|entry| entry.revents == 0);
    }
    Wait(Awaited::Any {
        ours,
        kernel,
        within,
        mask,
    })
}
