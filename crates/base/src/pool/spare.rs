//! Blocks set aside for a device to scatter what it receives into.
//!
//! A spare chain is an ordinary chain whose bytes mean nothing yet.

use super::{BLOCK, Chain, NIL, Pool};
use core::marker::PhantomData;

impl Pool {
    /// Tops `spare` up with blocks until it has room for `bytes` bytes after `headroom` bytes (less than [`BLOCK`])
    /// in its first block. The chain's length is its room. False if the pool has no more; what there is stays in
    /// `spare`.
    pub fn reserve(&mut self, spare: &mut Chain, bytes: usize, headroom: usize) -> bool {
        debug_assert!(headroom < BLOCK);
        let headroom = headroom.min(BLOCK) as u16;
        if let Some(first) = self.segments.get_mut(spare.head as usize)
            && first.off != headroom
        {
            // Another frame left this block untouched in the middle of the run: now it is the first.
            let room = BLOCK as u16 - headroom;
            spare.len = spare.len - u32::from(first.len) + u32::from(room);
            first.off = headroom;
            first.len = room;
        }
        while spare.len() < bytes {
            let off = if spare.head == NIL { headroom } else { 0 };
            let Some(at) = self.new_block(off) else {
                return false;
            };
            let room = BLOCK as u16 - off;
            self.segments[at as usize].len = room;
            self.append(
                spare,
                Chain {
                    head: at,
                    tail: at,
                    len: u32::from(room),
                },
            );
        }
        true
    }

    /// The room of a spare chain, block by block.
    pub fn spare_slices_mut<'a>(&'a mut self, spare: &Chain) -> SpareSlices<'a> {
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            // Every 2^32 calls: no stamp may look as if it were of this one.
            let used = self.fresh_block as usize;
            self.stamps[..used].fill(0);
            self.stamp = 1;
        }
        SpareSlices {
            at: spare.head,
            left: spare.len(),
            pool: self,
            _bytes: PhantomData,
        }
    }

    /// The first `len` bytes (at most its length) of a spare chain, now filled, as a chain; untouched blocks stay in
    /// `spare`.
    #[inline]
    pub fn take_filled(&mut self, spare: &mut Chain, len: usize) -> Chain {
        debug_assert!(
            len <= spare.len(),
            "{len} bytes in room for {}",
            spare.len()
        );
        let mut left = len.min(spare.len());
        if left == 0 {
            return Chain::EMPTY;
        }
        let mut filled = Chain {
            head: spare.head,
            tail: NIL,
            len: left as u32,
        };
        let mut at = spare.head;
        loop {
            let segment = &mut self.segments[at as usize];
            spare.len -= u32::from(segment.len);
            if left <= usize::from(segment.len) {
                segment.len = left as u16;
                spare.head = core::mem::replace(&mut segment.next, NIL);
                filled.tail = at;
                break;
            }
            left -= usize::from(segment.len);
            at = segment.next;
        }
        if spare.head == NIL {
            *spare = Chain::EMPTY;
        }
        filled
    }
}

/// The blocks of a spare chain, to be written: see [`Pool::spare_slices_mut`].
pub struct SpareSlices<'a> {
    pool: &'a mut Pool,
    at: u32,
    left: usize,
    _bytes: PhantomData<&'a mut [u8]>,
}

impl<'a> Iterator for SpareSlices<'a> {
    type Item = &'a mut [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a mut [u8]> {
        if self.at == NIL || self.left == 0 {
            return None;
        }
        let pool = &mut *self.pool;
        let segment = pool.segments[self.at as usize];
        let range = segment.range();
        let block = segment.block as usize;
        // Whatever chain was passed in, a block is given out once, never beyond its end, and only if nobody else has it: the
        // proof below rests on these three checks alone.
        if pool.refs[block] != 1
            || core::mem::replace(&mut pool.stamps[block], pool.stamp) == pool.stamp
            || range.end > (block + 1) * BLOCK
        {
            return None;
        }
        self.at = segment.next;
        self.left = self.left.saturating_sub(range.len());
        // SAFETY: `block` indexed `stamps`, so the block is inside `bytes`, and so is `range`, which was checked to
        // end inside the block.
        let start = unsafe { pool.bytes.base().add(range.start) };
        // SAFETY: the memory is there for `'a`, since the pool is borrowed for `'a`, and initialised (mapped as
        // zeros). It is unaliased: the pool is borrowed mutably for `'a`, this iterator makes no reference to `bytes`
        // but these, and by its stamp this block was not given out by it before; blocks do not overlap; and as its count is 1 it
        // is not lent.
        Some(unsafe { core::slice::from_raw_parts_mut(start, range.len()) })
    }
}
