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

/// A host one may call into, and a way to wait. [`Live`](crate::Live) is one; another, on virtual time and in one thread:
///
/// ```
/// use base::Instant;
/// use posix::{Table, World};
/// use stack::Host;
///
/// struct Alone {
///     host: Host,
///     table: Table,
///     now: Instant,
/// }
///
/// impl World for Alone {
///     fn now(&mut self) -> Instant {
///         self.now
///     }
///     fn host(&mut self) -> &mut Host {
///         &mut self.host
///     }
///     fn table(&mut self) -> &mut Table {
///         &mut self.table
///     }
///     fn changed(&mut self) -> bool {
///         // With a link: what is to be sent leaves here, by `Host::poll_transmit`.
///         let mut heard = false;
///         while let Some(event) = self.host.poll_event() {
///             self.table.hear(&event);
///             heard = true;
///         }
///         heard
///     }
///     fn wait(&mut self, deadline: Instant) {
///         let due = self.host.next_deadline().unwrap_or(Instant::FAR);
///         self.now = self.now.max(due.min(deadline));
///         self.host.handle_timers(self.now);
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let now = Instant::from_secs(100);
/// let host = Host::new(Default::default(), 7, now)?;
/// let mut world = Alone { host, table: Table::new(), now };
/// let set = posix::epoll_create1(&mut world, 0)?;
/// // An hour, which takes no time.
/// assert_eq!(posix::epoll_wait(&mut world, set, &mut [Default::default()], 3_600_000)?, 0);
/// assert_eq!(world.now, Instant::from_secs(3700));
/// # Ok(())
/// # }
/// ```
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

/// What a call waits for: see [`World::wait_on`]. A world whose threads do not sleep needs not look into it.
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
