//! What calls need of the place they run in.

use core::time::Duration;

use std::sync::Arc;

use base::Instant;
use base::epoll::SetId;
use stack::Host;

use crate::errno::Errno;
use crate::foreign::SignalMask;
use crate::joined::Joined;
use crate::table::Table;

/// A host one may call into, and a way to wait.
pub trait World {
    /// The time of the host's clock.
    fn now(&mut self) -> Instant;

    /// What the clock of the machine (CLOCK_REALTIME) says when the host's says `at`: time since 1970. Its own, unless the world
    /// knows better.
    fn wall(&mut self, at: Instant) -> Duration {
        Duration::from_micros(at.micros())
    }

    /// The host.
    fn host(&mut self) -> &mut Host;

    /// The descriptors.
    fn table(&mut self) -> &mut Table;

    /// A command was given to the host: frames may want to leave, and other callers to hear of it. Whether sockets became
    /// ready by it, which happens when a host talks to itself.
    /// Each event of the host's goes to [`Table::hear`], here as everywhere, as soon as it is there.
    fn changed(&mut self) -> bool;

    /// Waits until something may have changed, at the latest until `deadline` ([`Instant::FAR`]: for ever). May return early.
    /// Others may use the host and the table meanwhile.
    fn wait(&mut self, deadline: Instant);

    /// As [`World::wait`], by who knows what a call waits for: worlds whose threads sleep wake only those concerned, and those who
    /// wait for the kernel's descriptors too. Without it the kernel's are looked at whenever something changes.
    ///
    /// # Errors
    /// EINTR: a signal came. EMFILE and the like: there is nothing to sleep on.
    fn wait_on(&mut self, wait: &mut Wait, deadline: Instant) -> Result<(), Errno> {
        let _ = wait;
        self.wait(deadline);
        Ok(())
    }
}

/// What a call waits for.
#[derive(Debug)]
pub struct Wait(pub(crate) Awaited);

#[derive(Debug)]
pub(crate) enum Awaited {
    /// Something that happens to a socket.
    Socket(i32),
    /// Something that happens to one of ours, or one of the kernel's that is ready, or of sets within sets of ours.
    Any {
        ours: Vec<i32>,
        kernel: Vec<libc::pollfd>,
        within: Vec<Arc<Joined>>,
        mask: Option<SignalMask>,
    },
    /// Something in a set.
    Set {
        fd: i32,
        id: SetId,
        mask: Option<SignalMask>,
    },
}
