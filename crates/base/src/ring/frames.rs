//! A queue of frames by value, for threads that share no pool.
//!
//! Invariant: a slot is a header and then `slot_size` bytes, from a cache line of its own on.

use super::{Ordering, Reader, Writer, sides};
use crate::packet::Facts;
use crate::pool::{Line, Section};
use core::fmt;
use std::io;

/// What precedes a frame's bytes.
#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    facts: Facts,
    len: u32,
}

/// Where the bytes start in a slot.
const HEADER: usize = 32;
const _: () = assert!(size_of::<Header>() <= HEADER && align_of::<Header>() <= align_of::<Line>());

struct Slots {
    memory: Section<Line>,
    /// Lines in a slot.
    stride: usize,
    slot_size: usize,
}

impl Slots {
    /// The slot's address, with room for [`HEADER`] and `slot_size` bytes after it. `slot` is one of the ring's.
    #[inline(always)]
    fn at(&self, slot: usize) -> *mut u8 {
        let first = slot * self.stride;
        debug_assert!(first + self.stride <= self.memory.len());
        // SAFETY: the memory was made for `stride` lines for each of the ring's slots.
        unsafe { self.memory.base().add(first).cast() }
    }
}

/// Puts frames in. Dropping it hands over what was pushed.
pub struct FrameTx(Writer<Slots>);

/// Takes frames out, in the order they were put in.
pub struct FrameRx(Reader<Slots>);

/// A queue of `slots` frames (rounded up to a power of two) of at most `slot_size` bytes. Its memory is reserved, and
/// touched as far as frames reach into their slots.
///
/// # Errors
/// The machine refuses the memory.
pub fn frames(slots: usize, slot_size: usize) -> io::Result<(FrameTx, FrameRx)> {
    let capacity = slots.max(1).checked_next_power_of_two();
    let slot_size = slot_size.min(u32::MAX as usize);
    let stride = (HEADER + slot_size).div_ceil(size_of::<Line>());
    let lines = capacity.and_then(|capacity| stride.checked_mul(capacity));
    let (Some(capacity), Some(lines)) = (capacity, lines) else {
        return Err(io::ErrorKind::OutOfMemory.into());
    };
    let memory = Section::new(lines)?;
    let (writer, reader) = sides(
        capacity,
        Slots {
            memory,
            stride,
            slot_size,
        },
    );
    Ok((FrameTx(writer), FrameRx(reader)))
}

impl FrameTx {
    /// Puts a frame of `len` bytes in, which `fill` writes; what they were before means nothing. The reader need not
    /// see it before [`FrameTx::commit`]. False, without calling `fill`, if there is no room or the frame is too long.
    #[inline]
    pub fn push_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        self.push_facts(len, Facts::NONE, fill)
    }

    /// As [`FrameTx::push_with`], with what is known of the frame.
    #[inline]
    pub fn push_facts(&mut self, len: usize, facts: Facts, fill: impl FnOnce(&mut [u8])) -> bool {
        if len > self.0.shared.slots.slot_size {
            return false;
        }
        let Some(slot) = self.0.slot() else {
            return false;
        };
        let at = self.0.shared.slots.at(slot);
        // SAFETY: the slot is the writer's until it tells of it; a header is smaller and less aligned than its line.
        unsafe {
            at.cast::<Header>().write(Header {
                facts,
                len: len as u32,
            })
        };
        // SAFETY: `HEADER + slot_size` bytes are there and `len <= slot_size`.
        let bytes = unsafe { at.add(HEADER) };
        // SAFETY: as above; the bytes are initialised (mapped as zeros), and the slot is the writer's until it tells
        // of it, which it does after this reference has ended.
        fill(unsafe { core::slice::from_raw_parts_mut(bytes, len) });
        self.0.advance();
        true
    }

    /// Hands every frame pushed over.
    #[inline]
    pub fn commit(&mut self) {
        self.0.tell();
    }

    /// Frames in the queue; there may be fewer by now.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is room for `n` more frames.
    #[inline]
    pub fn has_room(&mut self, n: usize) -> bool {
        self.0.has_room(n)
    }

    /// The longest frame it takes.
    pub fn slot_size(&self) -> usize {
        self.0.shared.slots.slot_size
    }

    /// Whether the reader is gone, so that nobody will take anything out.
    pub fn is_closed(&self) -> bool {
        self.0.shared.reader_gone.load(Ordering::Acquire)
    }
}

impl FrameRx {
    /// The next frame and what is known of it, left in the queue.
    #[inline]
    pub fn peek(&mut self) -> Option<(Facts, &[u8])> {
        let slot = self.0.slot()?;
        let at = self.0.shared.slots.at(slot);
        // SAFETY: the slot is the reader's until it tells of it, and the writer wrote a header before handing it over.
        let Header { facts, len } = unsafe { at.cast::<Header>().read() };
        // SAFETY: `HEADER + slot_size` bytes are there, and the writer checked `len <= slot_size`.
        let bytes = unsafe { at.add(HEADER) };
        // SAFETY: as above; the reference borrows `self`, so it ends before the reader tells of the slot.
        Some((facts, unsafe {
            core::slice::from_raw_parts(bytes, len as usize)
        }))
    }

    /// Drops the next frame. False if there is none.
    #[inline]
    pub fn skip(&mut self) -> bool {
        let found = self.0.slot().is_some();
        if found {
            self.0.advance();
        }
        found
    }

    /// Takes the next frame out, which `take` reads. False if there is none.
    #[inline]
    pub fn pop_with(&mut self, take: impl FnOnce(&[u8])) -> bool {
        self.pop_facts(|_, bytes| take(bytes)).is_some()
    }

    /// As [`FrameRx::pop_with`], with what is known of the frame, and with a result.
    #[inline]
    pub fn pop_facts<R>(&mut self, take: impl FnOnce(Facts, &[u8]) -> R) -> Option<R> {
        let (facts, bytes) = self.peek()?;
        let result = take(facts, bytes);
        self.0.advance();
        Some(result)
    }

    /// Hands the slots of every frame taken back to the writer. It happens by itself as well: when an eighth of the
    /// ring was taken, and when nothing is left to take.
    #[inline]
    pub fn commit(&mut self) {
        self.0.tell();
    }

    /// Frames in the queue; there may be more by now.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the writer is gone. What it put in before can still be taken out: ask this first, then take everything.
    pub fn is_closed(&self) -> bool {
        self.0.shared.writer_gone.load(Ordering::Acquire)
    }
}

impl fmt::Debug for FrameTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameTx")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FrameRx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameRx")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
