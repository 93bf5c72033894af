//! The way from any thread to a shard: a bounded mailbox and the wake-up that goes with it.
//!
//! This module is the whole seam between foreign threads and the shard: everything else only knows [`Mailbox::post`],
//! [`Mailbox::post_unbounded`] and [`Mailbox::drain`]. What does not live here: what the messages mean.
//!
//! Invariant: a message is either drained, or handed back as refused, or dropped by [`Mailbox::close`]'s caller, who gets
//! them all; after `close` nothing is accepted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::wake::Wake;

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostError {
    /// As many messages as the mailbox holds are waiting.
    Full,
    /// The shard has stopped.
    Closed,
}

#[derive(Debug)]
struct Queue<M> {
    messages: Vec<M>,
    closed: bool,
}

/// Messages for one shard.
#[derive(Debug)]
pub(crate) struct Mailbox<M> {
    queue: Mutex<Queue<M>>,
    /// Length of `queue`, readable without the lock: an idle shard looks at nothing else.
    waiting: AtomicUsize,
    stop: AtomicBool,
    wake: Wake,
    limit: usize,
}

/// A lock that does not care whether another holder panicked: the data is valid between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M> Mailbox<M> {
    /// A mailbox for at most `limit` messages.
    pub(crate) fn new(limit: usize) -> std::io::Result<Self> {
        Ok(Self {
            queue: Mutex::new(Queue {
                messages: Vec::new(),
                closed: false,
            }),
            waiting: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            wake: Wake::new()?,
            limit,
        })
    }

    /// Leaves a message and wakes the shard if it sleeps. A refused message comes back.
    pub(crate) fn post(&self, message: M) -> Result<(), (M, PostError)> {
        self.push(message, self.limit)
    }

    /// As [`Mailbox::post`], for messages that are bounded by other means: at most one per live socket.
    pub(crate) fn post_unbounded(&self, message: M) -> Result<(), (M, PostError)> {
        self.push(message, usize::MAX)
    }

    fn push(&self, message: M, limit: usize) -> Result<(), (M, PostError)> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err((message, PostError::Closed));
        }
        if queue.messages.len() >= limit {
            return Err((message, PostError::Full));
        }
        queue.messages.push(message);
        self.waiting.store(queue.messages.len(), Ordering::Relaxed);
        drop(queue);
        self.wake.notify();
        Ok(())
    }

    /// Moves all waiting messages into `into`, which must be empty: one lock and one swap for any number of them.
    pub(crate) fn drain(&self, into: &mut Vec<M>) {
        debug_assert!(into.is_empty());
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut queue = lock(&self.queue);
        std::mem::swap(&mut queue.messages, into);
        self.waiting.store(0, Ordering::Relaxed);
    }

    /// Whether the shard has a reason not to sleep. To be asked between [`Wake::prepare`] and the sleep.
    pub(crate) fn has_work(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0 || self.stop.load(Ordering::Relaxed)
    }

    /// Whether messages wait.
    pub(crate) fn has_messages(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Refuses messages from now on and returns those that were not drained.
    pub(crate) fn close(&self) -> Vec<M> {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        self.waiting.store(0, Ordering::Relaxed);
        std::mem::take(&mut queue.messages)
    }

    /// Asks the shard to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify();
    }

    /// Whether the shard was asked to end.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The wake-up of the shard this mailbox belongs to.
    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }
}

#[cfg(test)]
mod tests;
