//! What a mailbox and its wake-up are made of: the standard library's and an eventfd, or loom's when models are checked
//! (`cargo xtask loom`).
//!
//! What does not live here: how they are used (`mailbox`, `wake`). All else in the room uses the standard library as it is.

#[cfg(not(loom))]
mod real {
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
    pub(crate) use std::sync::{Mutex, MutexGuard};

    use rustix::event::{EventfdFlags, eventfd};

    /// An eventfd.
    #[derive(Debug)]
    pub(crate) struct Event(OwnedFd);

    impl Event {
        /// Errors: what eventfd(2) gives, i.e. no descriptors or memory left.
        pub(crate) fn new() -> std::io::Result<Self> {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            Ok(Self(eventfd(0, flags)?))
        }

        /// Makes it readable.
        pub(crate) fn ring(&self) {
            // Fails only when the counter is at its maximum, and then the fd is readable already.
            let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
        }

        /// Takes its count, so that it is not readable any more.
        pub(crate) fn drain(&self) {
            let mut count = [0u8; 8];
            let _ = rustix::io::read(&self.0, &mut count);
        }

        pub(crate) fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(loom)]
mod real {
    use std::os::fd::BorrowedFd;

    use loom::sync::Condvar;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    /// What an eventfd does.
    #[derive(Debug)]
    pub(crate) struct Event {
        count: Mutex<u64>,
        rung: Condvar,
    }

    impl Event {
        pub(crate) fn new() -> std::io::Result<Self> {
            Ok(Self {
                count: Mutex::new(0),
                rung: Condvar::new(),
            })
        }

        pub(crate) fn ring(&self) {
            *self.count.lock().unwrap() += 1;
            self.rung.notify_all();
        }

        /// What poll(2) does without a timeout.
        pub(crate) fn wait(&self) {
            let mut count = self.count.lock().unwrap();
            while *count == 0 {
                count = self.rung.wait(count).unwrap();
            }
        }

        pub(crate) fn drain(&self) {
            *self.count.lock().unwrap() = 0;
        }

        pub(crate) fn fd(&self) -> BorrowedFd<'_> {
            unreachable!("models have no descriptors")
        }
    }
}

pub(crate) use real::{AtomicBool, AtomicU64, AtomicUsize, Event, Mutex, MutexGuard, fence};
