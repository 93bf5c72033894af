//! select and pselect.
//!
//! What does not live here: waiting (`poll`).

use core::time::Duration;

use super::poll::{PollFd, poll_for};
use crate::errno::{Errno, Result};
use crate::foreign::SignalMask;
use crate::world::World;

/// Descriptors as bits, in words: `fd_set`, but as long as it need be.
pub type FdSet = [u64];

/// Linux's POLLIN_SET, POLLOUT_SET and POLLEX_SET: what makes a descriptor ready for reading, for writing, and otherwise.
const READY: [i16; 3] = [
    libc::POLLIN
        | libc::POLLRDNORM
        | libc::POLLRDBAND
        | libc::POLLHUP
        | libc::POLLERR
        | libc::POLLNVAL,
    libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND | libc::POLLERR | libc::POLLNVAL,
    libc::POLLPRI | libc::POLLNVAL,
];

fn holds(set: &Option<&mut FdSet>, fd: usize) -> bool {
    let word = set.as_ref().and_then(|words| words.get(fd / 64));
    word.is_some_and(|word| word & (1 << (fd % 64)) != 0)
}

/// Waits until one of the descriptors below `count` is ready: in the sets for reading, for writing, and for what is exceptional,
/// in this order. They then hold those that are, which are counted in each. Without a timeout it waits for ever.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let seed = engine::random_seed()?;
/// # let live = posix::Live::start(Default::default(), seed, Default::default(), |_| Ok(()))?;
/// use std::time::Duration;
///
/// let fd = posix::socket(&mut live.call(), libc::AF_INET, libc::SOCK_DGRAM, 0)?;
/// let bit = |fd: i32| [1 << (fd % 64)];
/// assert!(fd < 64, "else the sets are of more words");
/// let (mut reads, mut writes) = (bit(fd), bit(fd));
/// let sets = [Some(&mut reads[..]), Some(&mut writes[..]), None];
/// let second = Some(Duration::from_secs(1));
/// assert_eq!(posix::pselect(&mut live.call(), fd + 1, sets, second, None)?, 1);
/// assert_eq!((reads, writes), ([0], bit(fd)), "there is room to write, and nothing to read");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// EINVAL (a negative count), EBADF, and as [`super::ppoll`]; the sets are as they were.
pub fn pselect<W: World>(
    world: &mut W,
    count: i32,
    mut sets: [Option<&mut FdSet>; 3],
    timeout: Option<Duration>,
    mask: Option<SignalMask>,
) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::INVAL)?;
    let longest = sets.iter().flatten().map(|words| words.len() * 64).max();
    let mut fds = Vec::new();
    for fd in 0..count.min(longest.unwrap_or(0)) {
        let wanted = READY.iter().zip(&sets).filter(|(_, set)| holds(set, fd));
        let events = wanted.fold(0, |all, (bits, _)| all | bits);
        if events != 0 {
            world.table().place(fd as i32)?;
            fds.push(PollFd {
                fd: fd as i32,
                events,
                revents: 0,
            });
        }
    }
    // Nobody is told of an end or an error who has not asked for something that it is: it would be nothing.
    poll_for(world, &mut fds, (timeout, mask), libc::POLLNVAL)?;
    // One that was closed meanwhile, as far as it was not looked at before, is none.
    if fds.iter().any(|entry| entry.revents & libc::POLLNVAL != 0) {
        return Err(Errno::BADF);
    }
    let mut found = 0;
    for (set, bits) in sets.iter_mut().zip(READY) {
        let Some(words) = set else { continue };
        let asked = words.to_vec();
        let last = count.div_ceil(64).min(words.len());
        words[..last].fill(0);
        for entry in fds.iter().filter(|entry| entry.revents & bits != 0) {
            let (word, bit) = (entry.fd as usize / 64, 1 << (entry.fd % 64));
            if asked.get(word).is_some_and(|word| word & bit != 0) {
                words[word] |= bit;
                found += 1;
            }
        }
    }
    Ok(found)
}

/// As [`pselect`], signals being the caller's affair.
///
/// # Errors
/// As [`pselect`].
pub fn select<W: World>(
    world: &mut W,
    count: i32,
    sets: [Option<&mut FdSet>; 3],
    timeout: Option<Duration>,
) -> Result<usize> {
    pselect(world, count, sets, timeout, None)
}
