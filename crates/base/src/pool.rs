//! The packet memory of one shard: reference-counted blocks, and chains of segments over them.
//!
//! What is in the bytes does not live here, checksums neither.
//!
//! A *block* is 2 KiB. A *segment* describes some bytes of one block. A [`Chain`] is a list of segments: a frame, or
//! a socket's buffer. Several segments may describe one block, also from different chains; the block returns to the
//! pool with the last of them. Blocks, segments and reference counts lie in dense arrays of one mapping and refer to
//! each other by index; both free lists are last-in-first-out, so that what was freed last, still in the cache, is
//! used next.
//!
//! Invariant: a block's reference count is the number of live segments that describe it, and two for each loan (`lend`).
//! Invariant: the bytes of a block are written only while its count is 1: one segment describes it, and nobody reads it elsewhere.
//! Invariant: a chain's `len` is the sum of its segments' lengths; a chain without segments is [`Chain::EMPTY`].
//! Invariant: blocks and segments that were never in use at once were never touched.

mod chain;
mod lend;
mod map;
mod spare;
#[cfg(test)]
mod tests;

pub use chain::Cursor;
pub use lend::Loan;
pub use map::Backing;
pub(crate) use map::{Line, Plain, Section, advise_huge};
pub use spare::SpareSlices;

use crate::prefetch;
use core::fmt;
use map::{Bytes, Cutter};
use std::io;

/// Bytes in a block.
pub const BLOCK: usize = 2048;

/// The most blocks a pool may have (512 GiB): both counts and links must fit in 31 bits, for twice as many segments.
const MAX_BLOCKS: u32 = 1 << 28;

/// No segment.
const NIL: u32 = u32::MAX;

/// In a block's word: it is free, and the rest of the word links to the next free block.
const FREE: u32 = 1 << 31;
/// The link of the last free block.
const END: u32 = FREE - 1;

/// A list of segments: bytes in order, in blocks of one [`Pool`].
///
/// It is a claim on memory, to be given back with [`Pool::free`]; therefore it cannot be copied.
#[must_use = "a chain that is not freed keeps its blocks"]
#[derive(Debug)]
pub struct Chain {
    head: u32,
    tail: u32,
    len: u32,
}

impl Chain {
    /// No bytes, no blocks.
    pub const EMPTY: Chain = Chain {
        head: NIL,
        tail: NIL,
        len: 0,
    };

    /// Bytes in it.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it holds no bytes. It may still hold a block, as after [`Pool::alloc`].
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it holds no block, so that there is nothing to free.
    #[inline]
    pub const fn is_null(&self) -> bool {
        self.head == NIL
    }

    /// Moves the chain out, leaving [`Chain::EMPTY`].
    #[inline]
    pub const fn take(&mut self) -> Chain {
        core::mem::replace(self, Chain::EMPTY)
    }
}

impl Default for Chain {
    fn default() -> Self {
        Chain::EMPTY
    }
}

/// `len` bytes of `block`, from `off` on. Sixteen bytes, so that none lies across two cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Segment {
    block: u32,
    next: u32,
    off: u16,
    len: u16,
}

// SAFETY: a record of numbers, aligned to 16: zeros are a value.
unsafe impl Plain for Segment {}

impl Segment {
    /// Where its bytes are among all the blocks' bytes.
    #[inline(always)]
    fn range(&self) -> core::ops::Range<usize> {
        let start = self.block as usize * BLOCK + usize::from(self.off);
        start..start + usize::from(self.len)
    }

    /// Bytes of the block after its own.
    #[inline(always)]
    fn tail_room(&self) -> usize {
        BLOCK - usize::from(self.off) - usize::from(self.len)
    }
}

/// The packet memory of one shard.
///
/// ```
/// use base::Pool;
///
/// let mut pool = Pool::new(64)?;
/// // A payload with room for headers before it, and a second chain over a part of it that copies nothing.
/// let mut chain = pool.alloc(128).expect("a block is left");
/// pool.append_bytes(&mut chain, b"hello, world");
/// let part = pool.share(&chain, 7, 5).expect("there are so many bytes");
/// assert_eq!((pool.first(&part), pool.in_use()), (&b"world"[..], 1));
/// pool.free(chain);
/// pool.free(part);
/// assert_eq!(pool.in_use(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Pool {
    bytes: Bytes,
    segments: Section<Segment>,
    /// One word a block: its reference count, or [`FREE`] and the link to the next free one.
    refs: Section<u32>,
    /// One word a block: the last [`Pool::spare_slices_mut`] that gave it out.
    stamps: Section<u32>,
    stamp: u32,
    /// Head of the list of free blocks, [`END`] if empty.
    free_block: u32,
    /// Blocks from here on were never used.
    fresh_block: u32,
    in_use: u32,
    /// Head of the list of free segments, [`NIL`] if empty.
    free_segment: u32,
    /// Segments from here on were never used.
    fresh_segment: u32,
    segments_in_use: u32,
    /// Pieces of loans that were not taken back.
    lent: u32,
    backing: Backing,
}

impl Pool {
    /// Reserves `blocks` blocks and twice as many segments in one mapping, on huge pages if the machine has some.
    ///
    /// # Errors
    /// `InvalidInput` for no blocks or more than 2^28; otherwise what `mmap` said.
    pub fn new(blocks: u32) -> io::Result<Pool> {
        if blocks == 0 || blocks > MAX_BLOCKS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a pool has 1 to 2^28 blocks",
            ));
        }
        let count = blocks as usize;
        let sizes = [
            Section::<u8>::bytes(count * BLOCK),
            Section::<Segment>::bytes(2 * count),
            Section::<u32>::bytes(count),
            Section::<u32>::bytes(count),
        ];
        let total = sizes
            .into_iter()
            .try_fold(0usize, |sum, bytes| sum.checked_add(bytes?));
        let mut cutter = Cutter::new(total.ok_or(io::ErrorKind::OutOfMemory)?)?;
        Ok(Pool {
            // First, so that blocks start on multiples of their size.
            bytes: Bytes::new(cutter.cut(count * BLOCK)),
            segments: cutter.cut(2 * count),
            refs: cutter.cut(count),
            stamps: cutter.cut(count),
            stamp: 0,
            free_block: END,
            fresh_block: 0,
            in_use: 0,
            free_segment: NIL,
            fresh_segment: 0,
            segments_in_use: 0,
            lent: 0,
            backing: cutter.backing(),
        })
    }

    /// Blocks in all.
    #[inline]
    pub fn capacity(&self) -> u32 {
        self.refs.len() as u32
    }

    /// Blocks that can still be had.
    #[inline]
    pub fn available(&self) -> u32 {
        self.capacity() - self.in_use
    }

    /// Blocks that some chain holds.
    #[inline]
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// The most blocks that were in use at once.
    #[inline]
    pub fn high_water(&self) -> u32 {
        // A fresh block is used only when every earlier one is in use.
        self.fresh_block
    }

    /// Segments that some chain holds.
    #[inline]
    pub fn segments_in_use(&self) -> u32 {
        self.segments_in_use
    }

    /// The kind of pages it lies on.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// A chain of one block with no bytes yet, and `headroom` bytes (at most [`BLOCK`]) before them.
    #[inline]
    pub fn alloc(&mut self, headroom: usize) -> Option<Chain> {
        let segment = self.new_block(headroom.min(BLOCK) as u16)?;
        Some(Chain {
            head: segment,
            tail: segment,
            len: 0,
        })
    }

    /// Gives a chain's segments back, and every block that no other segment describes.
    #[inline]
    pub fn free(&mut self, chain: Chain) {
        if chain.head == NIL {
            return;
        }
        // The list goes to the free segments as it is; only its last link changes.
        let mut at = chain.head;
        loop {
            let segment = self.segments[at as usize];
            self.release(segment.block);
            self.segments_in_use -= 1;
            if segment.next == NIL {
                break;
            }
            at = segment.next;
        }
        debug_assert_eq!(at, chain.tail);
        self.segments[at as usize].next = self.free_segment;
        self.free_segment = chain.head;
    }

    /// The first segment's bytes.
    #[inline]
    pub fn first(&self, chain: &Chain) -> &[u8] {
        match self.segments.get(chain.head as usize) {
            Some(segment) => self.bytes.part(segment.range()),
            None => &[],
        }
    }

    /// The first segment's bytes, to be changed. The block must not be shared: none are given then.
    #[inline]
    pub fn first_mut(&mut self, chain: &Chain) -> &mut [u8] {
        match self.segments.get(chain.head as usize) {
            Some(segment) if self.refs[segment.block as usize] == 1 => {
                self.bytes.part_mut(segment.range())
            }
            _ => &mut [],
        }
    }

    /// Whether some other segment describes the first block as well, so that it must not be written.
    #[inline]
    pub fn is_shared(&self, chain: &Chain) -> bool {
        self.segments
            .get(chain.head as usize)
            .is_some_and(|s| !self.unique(s))
    }

    /// Whether all bytes are in the first segment.
    #[inline]
    pub fn is_contiguous(&self, chain: &Chain) -> bool {
        self.first(chain).len() == chain.len()
    }

    /// Bytes of headroom before the first segment's bytes; 0 if the block is shared.
    #[inline]
    pub fn head_room(&self, chain: &Chain) -> usize {
        match self.segments.get(chain.head as usize) {
            Some(segment) if self.unique(segment) => usize::from(segment.off),
            _ => 0,
        }
    }

    /// Bytes that [`Pool::push_back`] could still take; 0 if the last block is shared.
    #[inline]
    pub fn tail_room(&self, chain: &Chain) -> usize {
        match self.segments.get(chain.tail as usize) {
            Some(segment) if self.unique(segment) => segment.tail_room(),
            _ => 0,
        }
    }

    /// Asks for the first two cache lines of the first segment's bytes, ahead of reading them.
    #[inline]
    pub fn prefetch(&self, chain: &Chain) {
        if let Some(segment) = self.segments.get(chain.head as usize) {
            let start = segment.range().start;
            prefetch::element(self.bytes.whole(), start, 1);
            prefetch::element(self.bytes.whole(), start + 64, 1);
        }
    }

    #[inline(always)]
    fn unique(&self, segment: &Segment) -> bool {
        self.refs[segment.block as usize] == 1
    }

    /// A segment of a new block, with no bytes, starting at `off`.
    #[inline]
    fn new_block(&mut self, off: u16) -> Option<u32> {
        let fresh = self.fresh_block;
        let block = if self.free_block != END {
            self.free_block
        } else if (fresh as usize) < self.refs.len() {
            fresh
        } else {
            return None;
        };
        let segment = self.take_segment()?;
        let word = &mut self.refs[block as usize];
        if block == fresh {
            self.fresh_block += 1;
        } else {
            self.free_block = *word & !FREE;
        }
        *word = 1;
        self.in_use += 1;
        self.segments[segment as usize] = Segment {
            block,
            next: NIL,
            off,
            len: 0,
        };
        Some(segment)
    }

    /// Another segment of a block in use.
    #[inline]
    fn new_reference(&mut self, block: u32, off: u16, len: u16) -> Option<u32> {
        let segment = self.take_segment()?;
        let word = &mut self.refs[block as usize];
        debug_assert!(*word & FREE == 0, "a free block is described by nobody");
        *word += 1;
        self.segments[segment as usize] = Segment {
            block,
            next: NIL,
            off,
            len,
        };
        Some(segment)
    }

    /// Whether there is a segment to be had.
    fn has_segment(&self) -> bool {
        self.free_segment != NIL || (self.fresh_segment as usize) < self.segments.len()
    }

    /// A segment to be filled in.
    #[inline]
    fn take_segment(&mut self) -> Option<u32> {
        let at = self.free_segment;
        let segment = if at != NIL {
            self.free_segment = self.segments[at as usize].next;
            at
        } else if (self.fresh_segment as usize) < self.segments.len() {
            self.fresh_segment += 1;
            self.fresh_segment - 1
        } else {
            return None;
        };
        self.segments_in_use += 1;
        Some(segment)
    }

    /// Gives one segment back.
    #[inline]
    fn drop_segment(&mut self, at: u32) {
        let segment = &mut self.segments[at as usize];
        let block = segment.block;
        segment.next = self.free_segment;
        self.free_segment = at;
        self.segments_in_use -= 1;
        self.release(block);
    }

    /// One reference to a block less.
    #[inline]
    fn release(&mut self, block: u32) {
        let word = &mut self.refs[block as usize];
        debug_assert!(*word & FREE == 0 && *word > 0, "a block is freed once");
        *word -= 1;
        if *word == 0 {
            *word = FREE | self.free_block;
            self.free_block = block;
            self.in_use -= 1;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("capacity", &self.capacity())
            .field("in_use", &self.in_use)
            .field("high_water", &self.high_water())
            .field("segments_in_use", &self.segments_in_use)
            .field("backing", &self.backing)
            .finish_non_exhaustive()
    }
}
