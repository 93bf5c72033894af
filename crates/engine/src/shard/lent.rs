//! A shard whose host several threads use, each at its time, behind a lock that is theirs: whoever has it may call into the host
//! between two turns and settle what came of that, while the thread that makes the turns sleeps without it.
//!
//! What does not live here: the lock, and who sleeps.
//!
//! Invariant: whoever settles wakes the thread that sleeps on the [`Bed`] if something is due before that sleep ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use base::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{BusyPoll, Message, SLEEP_MAX, Shard};
use crate::app::App;
use crate::mailbox::Mailbox;
use crate::wake::Wake;

/// Times that what was sent to the host itself is followed until the next turn does the rest.
const ROUNDS: usize = 8;

/// What the thread of a shard sleeps on while others use the shard.
pub struct Bed<C> {
    mailbox: Arc<Mailbox<Message<C>>>,
    /// Those of the ports, until they fail.
    fds: Vec<Option<OwnedFd>>,
}

impl<C> std::fmt::Debug for Bed<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bed").finish_non_exhaustive()
    }
}

impl<C> Bed<C> {
    /// Sleeps, after [`Shard::may_sleep`] and without the shard.
    pub fn sleep(&self, time: Duration) {
        let wake = self.mailbox.wake();
        sleep(wake, self.fds.iter().flatten().map(AsFd::as_fd), time);
        wake.awake();
    }
}

/// Sleeps until one of the descriptors is readable, or the shard is woken.
pub(super) fn sleep<'a>(
    wake: &'a Wake,
    ports: impl Iterator<Item = BorrowedFd<'a>>,
    time: Duration,
) {
    let of = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut fds: Vec<_> = core::iter::once(wake.fd()).chain(ports).map(of).collect();
    let timeout = Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    };
    // An interrupted sleep is a short sleep.
    let _ = poll(&mut fds, Some(&timeout));
    if fds[0].revents().contains(PollFlags::IN) {
        wake.drain();
    }
}

impl<A: App> Shard<A> {
    /// What to sleep on without the shard. Its ports are those that it has now.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn bed(&self) -> io::Result<Bed<A::Command>> {
        let own = |slot: &super::PortSlot| slot.port.sleep_fd().map(|fd| fd.try_clone_to_owned());
        let fds = self.ports.iter().map(|slot| own(slot).transpose());
        Ok(Bed {
            mailbox: self.inbox.mailbox().clone(),
            fds: fds.collect::<io::Result<_>>()?,
        })
    }

    /// After a turn that found nothing to do: for how long the thread of the shard may sleep, from `now`. `None` if there is
    /// something to do after all.
    pub fn may_sleep(&mut self, bed: &mut Bed<A::Command>) -> Option<Duration> {
        for (slot, fd) in self.ports.iter_mut().zip(&mut bed.fds) {
            slot.failed = slot.port.failure().is_some();
            if slot.failed {
                *fd = None;
            }
        }
        match self.options.busy_poll {
            BusyPoll::Always => return None,
            BusyPoll::For(time) if self.now - self.last_work < time => return None,
            BusyPoll::For(_) | BusyPoll::Never => {}
        }
        let wake = self.inbox.mailbox().wake();
        wake.prepare();
        if self.inbox.mailbox().has_work() {
            wake.awake();
            return None;
        }
        self.meters.sleeps += 1;
        Some(self.time_to_sleep(SLEEP_MAX, self.clock.now()))
    }

    /// Ends it as [`Shard::run`] does: what was written before is sent for up to [`super::ShardOptions::drain`].
    pub fn end(&mut self) {
        self.drain();
    }

    /// No turn will follow: what it keeps is let go, and who asks by a handle is told so, instead of waiting until the shard is dropped.
    pub fn deafen(&mut self) {
        self.kept.clear();
        // Senders learn that nobody will read, and what they sent is dropped.
        self.inbox.close();
    }

    /// Reads the clock, between two turns: the time of commands until it is read again.
    pub fn clock(&mut self) -> Instant {
        self.read_clock();
        self.now
    }

    /// Lets what was done with the host between two turns take effect: events are given, and frames sent. Whether there were
    /// events, and whether a turn has to do the rest.
    pub fn settle(&mut self) -> (bool, bool) {
        self.read_clock();
        let (mut heard, mut more) = (self.give_events(), true);
        for _ in 0..ROUNDS {
            more = self.transmit();
            heard |= self.give_events();
            if !more {
                break;
            }
        }
        if heard {
            self.app.on_settled();
        }
        (
            heard,
            more || self.ports.iter().any(|slot| !slot.tx.is_empty()),
        )
    }
}
