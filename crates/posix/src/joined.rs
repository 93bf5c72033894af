//! A set's two sides joined, so that one sleep is for both: an epoll of the kernel's (`outer`) that watches the epoll with the set's
//! kernel descriptors, a bell that is rung when the other side has something, and the same of sets within the set.
//!
//! The epoll that a set's descriptor is watches the program's descriptors and nothing else, so that it is readable exactly when
//! one of those is ready; what is told of them is taken from there.
//!
//! What does not live here: which sets there are, and what they watch (`table/sides`).
//!
//! Invariant: whoever takes an edge from `outer` and leaves something in the set rings the bell if others sleep, so that no wake-up
//! is lost with him.

use core::mem::MaybeUninit;
use core::sync::atomic::AtomicU32;
use core::time::Duration;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{Timespec, epoll};

use crate::errno::Result;
use crate::foreign::{self, SignalMask};
use crate::waiters;

/// Words of `outer`: the bell, the set's own epoll; less is the descriptor of a set within.
const BELL: u64 = u64::MAX;
const OWN: u64 = u64::MAX - 1;
/// Edges taken at once.
const EDGES: usize = 16;

#[derive(Debug)]
pub(crate) struct Joined {
    outer: OwnedFd,
    bell: OwnedFd,
    /// Callers that sleep on it; changed with the world's lock held.
    pub(crate) sleepers: AtomicU32,
}

fn flags(bits: i32) -> epoll::EventFlags {
    epoll::EventFlags::from_bits_retain(bits as u32)
}

impl Joined {
    /// Joins a set's own epoll with a bell.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM, ENOSPC.
    pub(crate) fn new(own: BorrowedFd<'_>) -> Result<Self> {
        let joined = Self {
            outer: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            bell: waiters::bell()?,
            sleepers: AtomicU32::new(0),
        };
        let edge = flags(libc::EPOLLIN | libc::EPOLLET);
        let word = epoll::EventData::new_u64;
        epoll::add(&joined.outer, own, word(OWN), edge)?;
        epoll::add(&joined.outer, &joined.bell, word(BELL), edge)?;
        Ok(joined)
    }

    /// Wakes one of those who sleep.
    pub(crate) fn ring(&self) {
        waiters::ring(&self.bell);
    }

    /// Wakes all who sleep, now and from now on.
    pub(crate) fn end(&self) {
        let word = epoll::EventData::new_u64(BELL);
        let _ = epoll::modify(&self.outer, &self.bell, word, flags(libc::EPOLLIN));
        self.ring();
    }

    /// A set within, known by its descriptor.
    ///
    /// # Errors
    /// ELOOP (too deep), ENOMEM, ENOSPC.
    pub(crate) fn hold(&self, inner: &Self, fd: i32) -> Result<()> {
        let word = epoll::EventData::new_u64(fd as u64);
        let edge = flags(libc::EPOLLIN | libc::EPOLLET);
        match epoll::add(&self.outer, &inner.outer, word, edge) {
            Err(rustix::io::Errno::EXIST) => {
                Ok(epoll::modify(&self.outer, &inner.outer, word, edge)?)
            }
            added => Ok(added?),
        }
    }

    /// A set is not within any more.
    pub(crate) fn let_go(&self, inner: &Self) {
        let _ = epoll::delete(&self.outer, &inner.outer);
    }

    /// The number of what to poll for.
    pub(crate) fn number(&self) -> i32 {
        self.outer.as_raw_fd()
    }

    /// Sleeps until something may be in the set, and says which sets within it may have something; not all of them, if they are
    /// many.
    ///
    /// # Errors
    /// EINTR.
    pub(crate) fn sleep(
        &self,
        timeout: Option<Duration>,
        mask: Option<SignalMask>,
    ) -> Result<Vec<i32>> {
        let Some(mask) = mask else {
            return self.take(timeout);
        };
        let mut fds = [libc::pollfd {
            fd: self.number(),
            events: libc::POLLIN,
            revents: 0,
        }];
        foreign::poll(&mut fds, timeout, Some(mask))?;
        self.take(Some(Duration::ZERO))
    }

    /// Which sets within have had something happen to them. Does not sleep.
    pub(crate) fn drain(&self) -> Vec<i32> {
        let mut within = Vec::new();
        while let Ok((edges, full)) = self.edges(Some(Duration::ZERO)) {
            within.extend(edges);
            if !full {
                break;
            }
        }
        within
    }

    fn take(&self, timeout: Option<Duration>) -> Result<Vec<i32>> {
        self.edges(timeout).map(|(edges, _)| edges)
    }

    /// Takes edges, and says whether there may be more.
    ///
    /// # Errors
    /// EINTR, if it may sleep.
    fn edges(&self, timeout: Option<Duration>) -> Result<(Vec<i32>, bool)> {
        let time = timeout.map(|time| Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut room = [MaybeUninit::<epoll::Event>::uninit(); EDGES];
        let (edges, _) = epoll::wait(&self.outer, &mut room[..], time.as_ref())?;
        let words = edges.iter().map(|edge| {
            // An event is packed: its parts are copied before they are asked.
            let data = edge.data;
            data.u64()
        });
        let within = words.filter(|word| *word < OWN).map(|word| word as i32);
        Ok((within.collect(), edges.len() == EDGES))
    }
}
