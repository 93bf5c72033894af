//! Waking a sleeping shard from another thread: one eventfd, written only when the shard really sleeps.
//!
//! What does not live here: what the shard is woken for ([`crate::mailbox`]).
//!
//! Invariant: whatever a thread made visible before [`Wake::notify`] is either seen by the shard's check after
//! [`Wake::prepare`], or the eventfd is readable when the shard sleeps. No wake-up is lost.
//!
//! Why: `notify` is (write X; full fence; read `sleeping`), the shard's way to sleep is (write `sleeping`; full fence; read
//! X). Both fences are sequentially consistent, so they have one order. If the notifier's comes first, the shard's read
//! sees X and it does not sleep. If the shard's comes first, the notifier's read sees `sleeping` and, as the only one who
//! turns it off, it writes the eventfd; eventfds count, so a write before the poll(2) ends that poll at once.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicBool, AtomicU64, Event, fence};

/// The sleeping flag and the eventfd of one shard.
#[derive(Debug)]
pub(crate) struct Wake {
    sleeping: AtomicBool,
    event: Event,
    written: AtomicU64,
}

impl Wake {
    /// Errors: what eventfd(2) gives, i.e. no descriptors or memory left.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            sleeping: AtomicBool::new(false),
            event: Event::new()?,
            written: AtomicU64::new(0),
        })
    }

    /// Wakes the shard if it sleeps or is about to. Call after the reason to wake has been made visible.
    pub(crate) fn notify(&self) {
        fence(Ordering::SeqCst);
        // The plain load keeps the line shared while the shard is awake; the exchange elects one writer.
        let sleeping = &self.sleeping;
        if sleeping.load(Ordering::Relaxed)
            && sleeping
                .compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            self.written.fetch_add(1, Ordering::Relaxed);
            self.event.ring();
        }
    }

    /// Announces that the shard is about to sleep. It must look once more for work before it does.
    pub(crate) fn prepare(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake again, or found work and stays so.
    ///
    /// A notifier that won the swap but has not written yet makes the next sleep end early; that is harmless.
    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Takes the eventfd's count, so that it is not readable any more.
    pub(crate) fn drain(&self) {
        self.event.drain();
    }

    /// What to poll(2) for readability.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.event.fd()
    }

    /// The sleep of a shard without ports.
    #[cfg(all(test, loom))]
    pub(crate) fn sleep(&self) {
        self.event.wait();
        self.drain();
    }

    /// How often the eventfd was written: system calls paid by foreign threads.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}
