//! A queue of values from one thread to another.

use super::sync::UnsafeCell;
use super::{Ordering, Reader, Writer, sides};
use core::fmt;

/// What is left in them is dropped with them.
struct Slots<T>(Box<[UnsafeCell<Option<T>>]>);

// SAFETY: a slot is reached through `Writer::slot` and `Reader::slot` only, of which there is one each, and these
// never give out the same slot at once (the ring's second invariant). So no two threads touch a slot at a time, and a
// `T` goes from one thread to another whole, for which `Send` suffices.
unsafe impl<T: Send> Sync for Slots<T> {}

/// Puts values in. Dropping it hands over what was staged.
pub struct Producer<T>(Writer<Slots<T>>);

/// Takes values out, in the order they were put in.
pub struct Consumer<T>(Reader<Slots<T>>);

/// A queue with room for `capacity` values, rounded up to a power of two.
///
/// ```
/// let (mut producer, mut consumer) = base::spsc(4);
/// std::thread::scope(|threads| {
///     threads.spawn(move || producer.push("hello").expect("there is room"));
///     while consumer.is_empty() {
///         std::thread::yield_now();
///     }
///     assert_eq!(consumer.pop(), Some("hello"));
/// });
/// ```
pub fn spsc<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.max(1).next_power_of_two();
    let slots = (0..capacity).map(|_| UnsafeCell::new(None)).collect();
    let (writer, reader) = sides(capacity, Slots(slots));
    (Producer(writer), Consumer(reader))
}

impl<T> Producer<T> {
    /// Puts a value in for the consumer to see.
    ///
    /// # Errors
    /// The value comes back when there is no room.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        let staged = self.stage(value);
        self.commit();
        staged
    }

    /// Puts a value in, but the consumer need not see it before [`Producer::commit`].
    ///
    /// # Errors
    /// The value comes back when there is no room.
    #[inline]
    pub fn stage(&mut self, value: T) -> Result<(), T> {
        let Some(slot) = self.0.slot() else {
            return Err(value);
        };
        self.0.shared.slots.0[slot].with_mut(|slot| {
            // SAFETY: the slot is the writer's until it tells of it, and this reference ends before that.
            let slot = unsafe { &mut *slot };
            *slot = Some(value);
        });
        self.0.advance();
        Ok(())
    }

    /// Hands everything staged over.
    #[inline]
    pub fn commit(&mut self) {
        self.0.tell();
    }

    /// Values in the queue, staged ones included; there may be fewer by now.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values it has room for in all.
    pub fn capacity(&self) -> usize {
        self.0.mask + 1
    }

    /// Whether the consumer is gone, so that nobody will take anything out.
    pub fn is_closed(&self) -> bool {
        self.0.shared.reader_gone.load(Ordering::Acquire)
    }
}

impl<T> Consumer<T> {
    /// Takes the next value out.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let slot = self.0.slot()?;
        let value = self.0.shared.slots.0[slot].with_mut(|slot| {
            // SAFETY: the slot is the reader's until it tells of it, and this reference ends before that.
            let slot = unsafe { &mut *slot };
            slot.take()
        });
        self.0.advance();
        value
    }

    /// Values in the queue; there may be more by now.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the producer is gone. What it put in before can still be taken out: ask this first, then take
    /// everything.
    pub fn is_closed(&self) -> bool {
        self.0.shared.writer_gone.load(Ordering::Acquire)
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
