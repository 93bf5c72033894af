//! Queues between two threads, one writing and one reading, without a lock: of values, and of frames.
//!
//! Waking the other thread does not live here.
//!
//! Both kinds are slots and two counts that only ever rise. The writer owns the slots between the count of those read
//! and the count of those written, from the other side round; the reader owns the rest. Each side keeps a copy of the
//! other's count and looks at the shared one only when the copy says that there is nothing to do, so that the cache
//! line it is in moves between the cores once a batch and not once a slot.
//!
//! Invariant: `read <= written <= read + capacity`, and each count is stored by one thread only.
//! Invariant: a slot is touched by its owner only, and changes hands by a store-release of the count that the other
//! side load-acquires.

mod frames;
#[cfg(all(test, loom))]
mod models;
mod spsc;
mod sync;
#[cfg(not(loom))]
#[cfg(test)]
mod tests;

pub use frames::{FrameRx, FrameTx, frames};
pub use spsc::{Consumer, Producer, spsc};

use sync::{Arc, AtomicBool, AtomicUsize, Ordering};

/// A value on cache lines of its own: two, since processors fetch them in pairs.
#[repr(align(128))]
struct Apart<T>(T);

/// What both sides share.
struct Shared<S> {
    /// Slots written, modulo 2^64; stored by the writer.
    written: Apart<AtomicUsize>,
    /// Slots read, modulo 2^64; stored by the reader.
    read: Apart<AtomicUsize>,
    writer_gone: AtomicBool,
    reader_gone: AtomicBool,
    slots: S,
}

/// The writing side. There is one for each ring: it is not `Clone`, and [`sides`] makes one.
struct Writer<S> {
    shared: Arc<Shared<S>>,
    mask: usize,
    /// Slots written, told or not.
    next: usize,
    /// What the reader was told.
    told: usize,
    /// Slots read, as last seen.
    read: usize,
}

/// The reading side. There is one for each ring: it is not `Clone`, and [`sides`] makes one.
struct Reader<S> {
    shared: Arc<Shared<S>>,
    mask: usize,
    /// Slots read, told or not.
    next: usize,
    /// What the writer was told.
    told: usize,
    /// Slots written, as last seen.
    written: usize,
}

/// The two sides of a ring over `capacity` slots, a power of two, numbered from 0.
fn sides<S>(capacity: usize, slots: S) -> (Writer<S>, Reader<S>) {
    debug_assert!(capacity.is_power_of_two());
    let shared = Arc::new(Shared {
        written: Apart(AtomicUsize::new(0)),
        read: Apart(AtomicUsize::new(0)),
        writer_gone: AtomicBool::new(false),
        reader_gone: AtomicBool::new(false),
        slots,
    });
    let mask = capacity - 1;
    let writer = Writer {
        shared: Arc::clone(&shared),
        mask,
        next: 0,
        told: 0,
        read: 0,
    };
    (
        writer,
        Reader {
            shared,
            mask,
            next: 0,
            told: 0,
            written: 0,
        },
    )
}

impl<S> Writer<S> {
    /// The next slot to be written, which the reader does not touch until it is told. None if all are in use.
    #[inline]
    fn slot(&mut self) -> Option<usize> {
        if self.next.wrapping_sub(self.read) > self.mask {
            // Acquire: the reader is done with the slots it gave back.
            self.read = self.shared.read.0.load(Ordering::Acquire);
            if self.next.wrapping_sub(self.read) > self.mask {
                // Nobody can make room who does not know what there is to read.
                self.tell();
                return None;
            }
        }
        Some(self.next & self.mask)
    }

    /// Whether `n` slots can be written.
    fn has_room(&mut self, n: usize) -> bool {
        let used = |w: &Self| w.next.wrapping_sub(w.read);
        if used(self).saturating_add(n) > self.mask + 1 {
            // Acquire: the reader is done with the slots it gave back.
            self.read = self.shared.read.0.load(Ordering::Acquire);
            if used(self).saturating_add(n) > self.mask + 1 {
                // As above.
                self.tell();
                return false;
            }
        }
        true
    }

    /// The slot is written.
    #[inline]
    fn advance(&mut self) {
        self.next = self.next.wrapping_add(1);
    }

    /// Hands what was written over to the reader.
    #[inline]
    fn tell(&mut self) {
        if self.told != self.next {
            self.told = self.next;
            self.shared.written.0.store(self.next, Ordering::Release);
        }
    }

    fn len(&self) -> usize {
        self.next
            .wrapping_sub(self.shared.read.0.load(Ordering::Relaxed))
    }
}

impl<S> Drop for Writer<S> {
    fn drop(&mut self) {
        self.tell();
        self.shared.writer_gone.store(true, Ordering::Release);
    }
}

impl<S> Reader<S> {
    /// The next slot to be read, which the writer does not touch until it is told. None if there is none.
    #[inline]
    fn slot(&mut self) -> Option<usize> {
        if self.next == self.written {
            // Acquire: what the writer wrote into the slots it handed over is seen.
            self.written = self.shared.written.0.load(Ordering::Acquire);
            if self.next == self.written {
                self.tell();
                return None;
            }
        }
        Some(self.next & self.mask)
    }

    /// The slot is read. The writer learns of it after an eighth of the ring, or when there is no more to read.
    #[inline]
    fn advance(&mut self) {
        self.next = self.next.wrapping_add(1);
        if self.next.wrapping_sub(self.told) > self.mask / 8 {
            self.tell();
        }
    }

    /// Hands what was read back to the writer.
    #[inline]
    fn tell(&mut self) {
        if self.told != self.next {
            self.told = self.next;
            self.shared.read.0.store(self.next, Ordering::Release);
        }
    }

    fn len(&self) -> usize {
        self.shared
            .written
            .0
            .load(Ordering::Acquire)
            .wrapping_sub(self.next)
    }
}

impl<S> Drop for Reader<S> {
    fn drop(&mut self) {
        self.tell();
        self.shared.reader_gone.store(true, Ordering::Release);
    }
}
