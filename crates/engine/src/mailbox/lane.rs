//! The lanes of a thread: one to each mailbox it has left a message in, kept until the thread ends.
//!
//! Invariant: a thread whose last message went into a mailbox's queue leaves none in its lane before the shard took the queue, so
//! that its messages stay in order.

use std::any::Any;
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use base::{Producer, spsc};

use super::Mailbox;

/// Messages a lane has room for.
pub(super) const ROOM: usize = 256;

/// This thread's lane to one mailbox.
struct Lane<M: Send + 'static> {
    /// There but while it is dropped.
    producer: Option<Producer<M>>,
    number: usize,
    mailbox: Weak<Mailbox<M>>,
    /// The last message may have gone into the queue.
    spilled: bool,
}

/// A lane, whatever it carries.
trait AnyLane: Any {
    fn as_any(&mut self) -> &mut dyn Any;
    /// Nobody will read it any more.
    fn is_dead(&self) -> bool;
}

impl<M: Send + 'static> AnyLane for Lane<M> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn is_dead(&self) -> bool {
        self.mailbox.strong_count() == 0
    }
}

/// By the mailbox's number.
type Lanes = RefCell<Vec<(u64, Box<dyn AnyLane>)>>;

#[cfg(not(loom))]
thread_local! {
    static MINE: Lanes = const { RefCell::new(Vec::new()) };
}
#[cfg(loom)]
loom::thread_local! {
    static MINE: Lanes = RefCell::new(Vec::new());
}

/// Leaves a message in the calling thread's lane to `mailbox`: its number. The message comes back if the queue must take it.
pub(super) fn push<M: Send + 'static>(mailbox: &Arc<Mailbox<M>>, message: M) -> Result<usize, M> {
    let mut message = Some(message);
    // A thread that is ending has no lanes any more.
    let pushed = MINE.try_with(|mine| {
        let mut mine = mine.try_borrow_mut().ok()?;
        let at = match mine.iter().position(|(id, _)| *id == mailbox.id) {
            Some(at) => at,
            None => {
                mine.retain(|(_, lane)| !lane.is_dead());
                mine.push((mailbox.id, Box::new(Lane::open(mailbox)?)));
                mine.len() - 1
            }
        };
        let lane = mine[at].1.as_any().downcast_mut::<Lane<M>>()?;
        lane.push(mailbox, &mut message)
    });
    match (pushed, message) {
        (Ok(Some(number)), _) => Ok(number),
        (_, Some(message)) => Err(message),
        (_, None) => unreachable!("a message that was not pushed is still here"),
    }
}

impl<M: Send + 'static> Lane<M> {
    /// A new lane, if the mailbox has one left.
    fn open(mailbox: &Arc<Mailbox<M>>) -> Option<Self> {
        let mut queue = mailbox.queue();
        if queue.closed || queue.free == 0 {
            return None;
        }
        let number = queue.free.trailing_zeros() as usize;
        queue.free &= queue.free - 1;
        let (producer, consumer) = spsc(mailbox.limit.clamp(1, ROOM));
        queue.lanes.push((number, consumer));
        Some(Self {
            producer: Some(producer),
            number,
            mailbox: Arc::downgrade(mailbox),
            // There may have been none for the last message.
            spilled: true,
        })
    }

    fn push(&mut self, mailbox: &Mailbox<M>, message: &mut Option<M>) -> Option<usize> {
        // Acquire: what the shard has taken of the lane before it took the queue.
        if self.spilled && mailbox.waiting.load(Ordering::Acquire) != 0 {
            return None;
        }
        let refused = self.producer.as_mut()?.push(message.take()?);
        *message = refused.err();
        self.spilled = message.is_some();
        (!self.spilled).then_some(self.number)
    }
}

impl<M: Send + 'static> Drop for Lane<M> {
    fn drop(&mut self) {
        drop(self.producer.take());
        if let Some(mailbox) = self.mailbox.upgrade() {
            // The shard gives the number to another thread once it has read what is left.
            mailbox.pushed(self.number);
        }
    }
}
