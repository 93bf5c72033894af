//! The calls.
//!
//! What does not live here: options (`option`), addresses as bytes (`address`).

mod ancillary;
mod control;
mod epoll;
mod fragments;
mod open;
mod poll;
mod ready;
mod receive;
mod select;
mod send;
mod splice;
mod urgent;

use core::time::Duration;

use base::Instant;

use crate::errno::{Errno, Result};
use crate::world::{Awaited, Wait, World};

pub use control::{close, fcntl, ioctl, shutdown};
pub use epoll::{epoll_create, epoll_create1, epoll_ctl, epoll_pwait2, epoll_wait};
pub use open::{accept, bind, connect, getpeername, getsockname, listen, socket};
pub use poll::{PollFd, poll, ppoll};
pub use receive::{Message, receive};
pub use select::{FdSet, pselect, select};
pub use send::{send, send_message};
pub use splice::splice;

/// How long a call may wait: not at all, or until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    None,
    Until(Instant),
}

impl Patience {
    fn new<W: World>(world: &mut W, nonblocking: bool, timeout: Option<Duration>) -> Self {
        match timeout {
            _ if nonblocking => Self::None,
            Some(timeout) => Self::Until(world.now() + timeout),
            None => Self::Until(Instant::FAR),
        }
    }
}

/// Wakes who watches a socket, if it has one of the bits.
pub(crate) fn wake_if_ready<W: World>(world: &mut W, fd: i32, bits: u32) {
    // What the host itself has to say of it comes first: twice in one go is once.
    world.changed();
    if ready::level(world, fd).is_some_and(|level| level & bits != 0) {
        world.table().raise(fd, bits);
    }
}

/// Tries until something else comes of it than EAGAIN, or patience ends. EBADF when the socket was closed meanwhile, also if
/// another one has its descriptor.
fn persist<W: World, T>(
    world: &mut W,
    fd: i32,
    patience: Patience,
    mut attempt: impl FnMut(&mut W) -> Result<T>,
) -> Result<T> {
    let serial = world.table().serial(fd);
    let attempt = |world: &mut W, _: &mut ()| match serial {
        Some(_) if world.table().serial(fd) != serial => Err(Errno::BADF),
        _ => attempt(world),
    };
    let wait = |_: &mut W, _: &()| Wait(Awaited::Socket(fd));
    persist_on(world, patience, &mut (), attempt, wait)
}

/// As [`persist`], for calls that say themselves what they wait for.
fn persist_on<W: World, S: ?Sized, T>(
    world: &mut W,
    patience: Patience,
    state: &mut S,
    mut attempt: impl FnMut(&mut W, &mut S) -> Result<T>,
    wait: impl Fn(&mut W, &S) -> Wait,
) -> Result<T> {
    let mut slept = Ok(());
    loop {
        let result = attempt(world, state);
        let again = world.changed();
        match (result, patience) {
            (Err(Errno::AGAIN), _) if again => {}
            (Err(Errno::AGAIN), Patience::Until(deadline))
                if deadline == Instant::FAR || world.now() < deadline =>
            {
                // What was there all the same is told first.
                slept?;
                let mut wait = wait(world, state);
                slept = world.wait_on(&mut wait, deadline);
            }
            (result, _) => return result,
        }
    }
}
