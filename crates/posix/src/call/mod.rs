//! The calls.
//!
//! What does not live here: options (`option`), addresses as bytes (`address`).

mod ancillary;
mod control;
mod fragments;
mod open;
mod poll;
mod receive;
mod send;
mod splice;
mod urgent;

use core::time::Duration;

use base::Instant;

use crate::errno::{Errno, Result};
use crate::world::World;

pub use control::{close, fcntl, ioctl, shutdown};
pub use open::{accept, bind, connect, getpeername, getsockname, listen, socket};
pub use poll::{PollFd, poll};
pub use receive::{Message, receive};
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

/// Tries until something else comes of it than EAGAIN, or patience ends.
fn persist<W: World, T>(
    world: &mut W,
    patience: Patience,
    mut attempt: impl FnMut(&mut W) -> Result<T>,
) -> Result<T> {
    loop {
        let result = attempt(world);
        let again = world.changed();
        match (result, patience) {
            (Err(Errno::AGAIN), _) if again => {}
            (Err(Errno::AGAIN), Patience::Until(deadline))
                if deadline == Instant::FAR || world.now() < deadline =>
            {
                world.wait(deadline);
            }
            (result, _) => return result,
        }
    }
}
