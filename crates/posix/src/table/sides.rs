//! The two sides of a set: what of it the host knows (`base::epoll`), and what the kernel does.
//!
//! What does not live here: how they are joined (`joined`), in which shares they are told (`call::epoll`).
//!
//! Invariant: of a set with descriptors of the kernel's every set that watches it hears, however deep.

use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::os::fd::AsFd;
use std::sync::Arc;

use base::epoll::{EPOLLIN, EPOLLRDNORM, EpollEvent, SetId};
use rustix::event::{Timespec, epoll};

use super::{Table, Watcher};
use crate::errno::{Errno, Result};
use crate::foreign;
use crate::joined::Joined;

const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

impl Table {
    fn watcher(&mut self, fd: i32) -> Result<&mut Watcher> {
        self.set_of.get_mut(&fd).ok_or(Errno::BADF)
    }

    /// Whether a set has another side than the host's.
    pub(crate) fn is_mixed(&self, fd: i32) -> bool {
        let watcher = self.set_of.get(&fd);
        watcher.is_some_and(|watcher| watcher.kernel || watcher.inner)
    }

    /// What to poll for what the host does not know of a set, and what keeps it.
    pub(crate) fn beyond(&self, fd: i32) -> (bool, Option<Arc<Joined>>) {
        let watcher = self.set_of.get(&fd);
        watcher.map_or((false, None), |watcher| {
            let joined = watcher.joined.clone().filter(|_| watcher.inner);
            (watcher.kernel, joined)
        })
    }

    /// What to sleep on for both sides of a set.
    ///
    /// # Errors
    /// EBADF; EMFILE, ENFILE, ENOMEM, ENOSPC.
    pub(crate) fn join(&mut self, fd: i32) -> Result<Arc<Joined>> {
        let watcher = self.watcher(fd)?;
        if let Some(joined) = &watcher.joined {
            return Ok(joined.clone());
        }
        let joined = Arc::new(Joined::new(watcher.place.as_fd())?);
        watcher.joined = Some(joined.clone());
        let id = watcher.id;
        self.epoll().ok_or(Errno::BADF)?.report(id);
        Ok(joined)
    }

    /// A set is about to have a descriptor of the kernel's.
    ///
    /// # Errors
    /// As [`Table::join`]; ELOOP when it is too deep in others for that.
    pub(crate) fn mix(&mut self, fd: i32) -> Result<()> {
        let watcher = self.watcher(fd)?;
        let (id, was) = (watcher.id, watcher.kernel);
        if !was {
            self.connect_up(fd, id)?;
            self.watcher(fd)?.kernel = true;
            self.epoll().ok_or(Errno::BADF)?.set_outside(id, fd as u64);
        }
        Ok(())
    }

    /// All that watch a set hear of its other side.
    fn connect_up(&mut self, fd: i32, id: SetId) -> Result<()> {
        let epoll = self.epoll().ok_or(Errno::BADF)?;
        let source = epoll.source_of(id).ok_or(Errno::BADF)?;
        let outer: Vec<SetId> = epoll.watchers(source).collect();
        let numbers = outer.iter().filter_map(|id| self.fd_of.get(id).copied());
        for outer in numbers.collect::<Vec<_>>() {
            self.connect(outer, fd)?;
        }
        Ok(())
    }

    /// A set is within another, and has another side.
    ///
    /// # Errors
    /// As [`Table::mix`].
    pub(crate) fn connect(&mut self, outer: i32, inner: i32) -> Result<()> {
        let joined = self.join(outer)?;
        joined.hold(&*self.join(inner)?, inner)?;
        let watcher = self.watcher(outer)?;
        let id = watcher.id;
        if !core::mem::replace(&mut watcher.inner, true) {
            self.connect_up(outer, id)?;
        }
        Ok(())
    }

    /// A set is not within another any more.
    pub(crate) fn disconnect(&mut self, outer: i32, inner: i32) {
        let joined = |fd| self.set_of.get(&fd)?.joined.clone();
        if let (Some(outer), Some(inner)) = (joined(outer), joined(inner)) {
            outer.let_go(&inner);
        }
    }

    /// Hears what has happened in sets within a set, and on their other sides.
    pub(crate) fn drain(&mut self, fd: i32) {
        let Some(watcher) = self.set_of.get(&fd).filter(|watcher| watcher.inner) else {
            return;
        };
        let (id, joined) = (watcher.id, watcher.joined.clone());
        if let Some(joined) = joined {
            self.stir(id, &joined.drain());
            self.pass_on(fd);
        }
    }

    /// Sets within a set may have something new.
    pub(crate) fn stir(&mut self, id: SetId, edges: &[i32]) {
        for inner in edges {
            self.drain(*inner);
            let Some(within) = self.set_of.get(inner).map(|watcher| watcher.id) else {
                continue;
            };
            if let Some(epoll) = &mut self.sets
                && let Some(source) = epoll.source_of(within)
            {
                epoll.raise_in(id, (source, *inner as u32), EPOLLIN);
            }
        }
        self.announce();
    }

    /// EPOLLIN if one of a set's descriptors of the kernel's is ready.
    pub(crate) fn kernel_level(&self, fd: i32) -> u32 {
        if !self.set_of.get(&fd).is_some_and(|watcher| watcher.kernel) {
            return 0;
        }
        let mut fds = [libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        }];
        match foreign::poll(&mut fds, Some(Duration::ZERO), None) {
            Ok(1) => EPOLLIN | EPOLLRDNORM,
            _ => 0,
        }
    }

    /// Takes what the kernel has ready in a set, oldest first.
    pub(crate) fn take_kernel(&mut self, fd: i32, events: &mut [EpollEvent]) -> usize {
        let watcher = self.set_of.get(&fd).filter(|watcher| watcher.kernel);
        let Some(watcher) = watcher.filter(|_| !events.is_empty()) else {
            return 0;
        };
        let mut room = vec![MaybeUninit::<epoll::Event>::uninit(); events.len().min(ROOM_MOST)];
        let Ok((told, _)) = epoll::wait(&watcher.place, &mut room[..], Some(&NOW)) else {
            return 0;
        };
        for (place, event) in events.iter_mut().zip(told.iter()) {
            // Packed: copied before it is asked.
            let (data, flags) = (event.data, event.flags);
            *place = EpollEvent {
                events: flags.bits(),
                data: data.u64(),
            };
        }
        told.len()
    }

    /// Which side of a set may tell one more this time, when both have something.
    pub(crate) fn alternate(&mut self, fd: i32) -> bool {
        self.set_of.get_mut(&fd).is_some_and(|watcher| {
            watcher.alternate = !watcher.alternate;
            watcher.alternate
        })
    }

    /// Of what is left in a set another one hears that sleeps on it.
    pub(crate) fn pass_on(&mut self, fd: i32) {
        let Some(watcher) = self.set_of.get(&fd) else {
            return;
        };
        let slept = |joined: &&Arc<Joined>| joined.sleepers.load(Ordering::Relaxed) > 0;
        if let Some(joined) = watcher.joined.as_ref().filter(slept) {
            let sets = self.sets.as_ref();
            let left = sets.is_some_and(|sets| sets.may_be_ready(watcher.id));
            if left || self.kernel_level(fd) != 0 {
                joined.ring();
            }
        }
    }

    /// All who wait wake: their world is broken.
    pub(crate) fn ring_all(&self) {
        self.waiters.ring_all();
        let joined = self.set_of.values().filter_map(|w| w.joined.as_ref());
        joined.for_each(|joined| joined.end());
    }

    /// Those who wait for sets that were told something wake.
    pub(crate) fn announce(&mut self) {
        while let Some(set) = self.sets.as_mut().and_then(|sets| sets.next_called()) {
            let Some(fd) = self.fd_of.get(&set) else {
                continue;
            };
            self.waiters.ring(*fd);
            let joined = self.set_of.get(fd).and_then(|w| w.joined.as_ref());
            if let Some(joined) = joined
                && joined.sleepers.load(Ordering::Relaxed) > 0
            {
                joined.ring();
            }
        }
    }
}

/// Most that the kernel is asked for at once.
const ROOM_MOST: usize = 1024;
