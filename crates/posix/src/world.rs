//! What calls need of the place they run in.

use core::time::Duration;

use base::Instant;
use stack::Host;

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
}
