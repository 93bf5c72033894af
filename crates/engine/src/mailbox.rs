//! The way from any thread to a shard: a lane for each thread that has something to say, and the wake-up that goes with it.
//!
//! A *lane* is a ring with one writer, the thread, and one reader, the shard. A thread opens one with its first message; from
//! then on leaving a message takes no lock, and a thread that leaves many while the shard is busy tells it once: the shard
//! keeps a word with a bit for each lane that has something in it. When a lane is full, or when more threads than there are
//! bits have something to say, messages go into one queue behind a lock.
//!
//! This module is the whole seam between foreign threads and the shard: everything else only knows [`Mailbox::post`],
//! [`Mailbox::post_unbounded`] and [`Inbox::drain`]. What does not live here: what the messages mean.
//!
//! Invariant: a message is either drained, or handed back as refused, or dropped when the inbox closes; after that nothing is
//! accepted.
//! Invariant: what one thread leaves is drained in the order it was left.
//!
//! Why no message is missed: to leave one is (write it; full fence; read the lane's bit, and if it is not set: set it, full
//! fence, wake). To drain is (take the word, which is a full fence; read the lanes whose bits it had). If the thread reads
//! the bit as set, that is before the shard takes the word, so its fence comes first and the shard reads the message. Else it
//! sets the bit itself, for the next time the shard takes the word; [`Wake`] sees to it that there is one.
//!
//! Why none stays behind when the shard has gone: to close is (write `closed`; full fence; drain everything, and leave the
//! lanes where any thread can). If the thread's fence comes first, the shard drains the message. Else the thread reads
//! `closed`, and drains the lanes itself.

mod lane;
#[cfg(all(test, loom))]
mod models;
#[cfg(not(loom))]
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use base::Consumer;

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, fence};
use crate::wake::Wake;

/// Lanes a mailbox has: bits of a word.
const LANES: usize = 64;

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostError {
    /// As many messages as the mailbox holds are waiting.
    Full,
    /// The shard has stopped.
    Closed,
}

/// What is behind the lock.
#[derive(Debug)]
struct Queue<M> {
    /// Messages that found no lane, or a full one.
    messages: Vec<M>,
    /// Lanes the shard has not seen yet; after the end, all of them.
    lanes: Vec<(usize, Consumer<M>)>,
    /// Numbers of lanes that are not in use.
    free: u64,
    closed: bool,
}

/// Messages for one shard: the threads' end.
#[derive(Debug)]
pub(crate) struct Mailbox<M> {
    /// Tells mailboxes apart, for threads that have lanes to several.
    id: u64,
    /// Lanes that have something in them.
    pending: AtomicU64,
    closed: AtomicBool,
    queue: Mutex<Queue<M>>,
    /// Length of `queue.messages`, readable without the lock: an idle shard looks at nothing else.
    waiting: AtomicUsize,
    stop: AtomicBool,
    wake: Wake,
    limit: usize,
}

/// The shard's end. Dropping it closes the mailbox.
#[derive(Debug)]
pub(crate) struct Inbox<M: Send + 'static> {
    mailbox: Arc<Mailbox<M>>,
    /// By number.
    lanes: Vec<Option<Consumer<M>>>,
}

/// A lock that does not care whether another holder panicked: the data is valid between any two statements.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: Send + 'static> Mailbox<M> {
    /// Both ends of a mailbox in whose queue at most `limit` messages wait; a lane has room for as many, up to [`lane::ROOM`].
    ///
    /// # Errors
    /// No descriptors are left.
    pub(crate) fn new(limit: usize) -> std::io::Result<(Arc<Self>, Inbox<M>)> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let mailbox = Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            pending: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            queue: Mutex::new(Queue {
                messages: Vec::new(),
                lanes: Vec::new(),
                free: u64::MAX,
                closed: false,
            }),
            waiting: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            wake: Wake::new()?,
            limit,
        });
        let inbox = Inbox {
            mailbox: mailbox.clone(),
            lanes: (0..LANES).map(|_| None).collect(),
        };
        Ok((mailbox, inbox))
    }

    /// Leaves a message and wakes the shard if it sleeps. A refused message comes back.
    pub(crate) fn post(self: &Arc<Self>, message: M) -> Result<(), (M, PostError)> {
        self.push(message, self.limit)
    }

    /// As [`Mailbox::post`], for messages that are bounded by other means: at most one per live socket.
    pub(crate) fn post_unbounded(self: &Arc<Self>, message: M) -> Result<(), (M, PostError)> {
        self.push(message, usize::MAX)
    }

    fn push(self: &Arc<Self>, message: M, limit: usize) -> Result<(), (M, PostError)> {
        if self.closed.load(Ordering::Relaxed) {
            return Err((message, PostError::Closed));
        }
        match lane::push(self, message) {
            Ok(lane) => {
                self.pushed(lane);
                Ok(())
            }
            Err(message) => self.enqueue(message, limit),
        }
    }

    /// A message was left in a lane.
    fn pushed(&self, lane: usize) {
        fence(Ordering::SeqCst);
        if self.pending.load(Ordering::Relaxed) & (1 << lane) == 0 {
            self.pending.fetch_or(1 << lane, Ordering::SeqCst);
            self.wake.notify();
        }
        if self.closed.load(Ordering::Relaxed) {
            self.bury(self.queue());
        }
    }

    fn enqueue(&self, message: M, limit: usize) -> Result<(), (M, PostError)> {
        let mut queue = self.queue();
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

    /// Drops what is left, when the shard is gone.
    fn bury(&self, mut queue: MutexGuard<'_, Queue<M>>) {
        if !queue.closed {
            // The shard is about to close, and finds it itself.
            return;
        }
        let mut left = std::mem::take(&mut queue.messages);
        self.waiting.store(0, Ordering::Relaxed);
        for (_, lane) in &mut queue.lanes {
            left.extend(std::iter::from_fn(|| lane.pop()));
        }
        // What hears that its message is dropped may leave another one.
        drop(queue);
        drop(left);
    }
}

impl<M: Send + 'static> Inbox<M> {
    /// The threads' end.
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox<M>> {
        &self.mailbox
    }

    /// Moves waiting messages into `into`, of each thread as many as there is room for: no lock while the lanes suffice.
    pub(crate) fn drain(&mut self, into: &mut Vec<M>) {
        if !self.mailbox.has_messages() {
            return;
        }
        let pending = self.mailbox.pending.swap(0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.mailbox.waiting.load(Ordering::Relaxed) == 0 {
            // No more than there was room for: who leaves messages as fast as they are taken must not hold the shard up.
            self.take(pending, &[lane::ROOM; LANES], into);
        } else {
            self.take_all(pending, into);
        }
    }

    /// Takes up to `most` messages of each of the lanes of `pending`.
    fn take(&mut self, mut pending: u64, most: &[usize; LANES], into: &mut Vec<M>) {
        while pending != 0 {
            let number = pending.trailing_zeros() as usize;
            pending &= pending - 1;
            if self.lanes[number].is_none() {
                let opened = std::mem::take(&mut self.mailbox.queue().lanes);
                self.meet(opened);
            }
            let Some(lane) = &mut self.lanes[number] else {
                continue;
            };
            // Asked before the last message is taken: what a thread left before it went comes first.
            let over = lane.is_closed();
            let mut taken = 0;
            while taken < most[number] {
                let Some(message) = lane.pop() else { break };
                into.push(message);
                taken += 1;
            }
            let empty = lane.is_empty();
            if over && empty {
                self.lanes[number] = None;
                self.mailbox.queue().free |= 1 << number;
            } else if !empty {
                // Its thread takes the bit as set.
                self.mailbox.pending.fetch_or(1 << number, Ordering::SeqCst);
            }
        }
    }

    /// As [`Inbox::take`], and the queue's messages behind those. A thread that has messages in the queue leaves none in its
    /// lane before these were taken, so what is in the lanes when the queue is taken is what comes before it.
    fn take_all(&mut self, pending: u64, into: &mut Vec<M>) {
        let mailbox = self.mailbox.clone();
        let mut queue = mailbox.queue();
        let opened = std::mem::take(&mut queue.lanes);
        self.meet(opened);
        let mut most = [0; LANES];
        let mut lanes = pending;
        for (number, lane) in self.lanes.iter().enumerate() {
            most[number] = lane.as_ref().map_or(0, Consumer::len);
            lanes |= u64::from(most[number] > 0) << number;
        }
        let mut messages = std::mem::take(&mut queue.messages);
        mailbox.waiting.store(0, Ordering::Release);
        drop(queue);
        self.take(lanes, &most, into);
        into.append(&mut messages);
    }

    /// Takes over lanes that were opened meanwhile.
    fn meet(&mut self, opened: Vec<(usize, Consumer<M>)>) {
        for (number, lane) in opened {
            self.lanes[number] = Some(lane);
        }
    }

    /// Refuses messages from now on, and drops those that were not drained.
    pub(crate) fn close(&mut self) {
        self.mailbox.closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut queue = self.mailbox.queue();
        queue.closed = true;
        let lanes = self.lanes.iter_mut().enumerate();
        queue
            .lanes
            .extend(lanes.filter_map(|(number, lane)| Some((number, lane.take()?))));
        self.mailbox.bury(queue);
    }
}

impl<M: Send + 'static> Drop for Inbox<M> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<M> Mailbox<M> {
    /// What is behind the lock, whether or not another holder panicked.
    fn queue(&self) -> MutexGuard<'_, Queue<M>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the shard has a reason not to sleep. To be asked between [`Wake::prepare`] and the sleep.
    pub(crate) fn has_work(&self) -> bool {
        self.has_messages() || self.stop.load(Ordering::Relaxed)
    }

    /// Whether messages wait.
    pub(crate) fn has_messages(&self) -> bool {
        self.pending.load(Ordering::Relaxed) != 0 || self.waiting.load(Ordering::Relaxed) != 0
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

    /// Tells mailboxes apart.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The wake-up of the shard this mailbox belongs to.
    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }
}
