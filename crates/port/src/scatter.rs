//! Lists of memory for one system call: where a frame goes when it is read, where it comes from when it is written.
//!
//! Neighbouring pieces become one entry: the kernel's cost is per entry.
//!
//! Invariant: entries point into pool memory that nobody else refers to (spare blocks) or that nobody changes (a chain
//! being sent), and only while the pool is borrowed by the caller's caller.

use std::mem::MaybeUninit;

use base::{BLOCK, Chain, Pool};

use crate::FRAME_MAX;

/// Spare blocks that hold the longest frame.
pub(crate) const RESERVE: usize = FRAME_MAX.div_ceil(BLOCK) * BLOCK;
/// Beyond that, so that a few short frames among long ones do not each make the list anew.
const AHEAD: usize = 4 * BLOCK;
const ENTRIES: usize = 1 + (RESERVE + AHEAD) / BLOCK;
/// The longest list to write from. The kernel takes 1,024.
pub(crate) const GATHER_MAX: usize = 256;

const UNSET: MaybeUninit<libc::iovec> = MaybeUninit::uninit();

fn entry(base: *mut u8, len: usize) -> MaybeUninit<libc::iovec> {
    MaybeUninit::new(libc::iovec {
        iov_base: base.cast(),
        iov_len: len,
    })
}

/// The spare blocks of a port, and the list to read into them. Lives for one `receive` call.
///
/// Invariant: entries `start..end` describe, in order, `room` bytes at the front of `spare`; whatever takes blocks out
/// of `spare` takes them out of the list.
pub(crate) struct Scatter {
    // The entry before `start` is free for the header.
    entries: [MaybeUninit<libc::iovec>; ENTRIES],
    start: usize,
    end: usize,
    room: usize,
    spare: Chain,
}

impl Scatter {
    /// With the blocks kept since the last call.
    pub(crate) fn new(spare: Chain) -> Self {
        Self {
            entries: [UNSET; ENTRIES],
            start: 1,
            end: 1,
            room: 0,
            spare,
        }
    }

    /// The blocks to keep for the next call.
    pub(crate) fn into_spare(self) -> Chain {
        self.spare
    }

    /// Gives all blocks back to the pool.
    #[inline]
    pub(crate) fn give_back(&mut self, pool: &mut Pool) {
        if !self.spare.is_null() {
            (self.start, self.end, self.room) = (1, 1, 0);
            pool.free(self.spare.take());
        }
    }

    /// Makes sure that a frame of `want` bytes fits; false if the pool cannot help.
    pub(crate) fn refill(&mut self, pool: &mut Pool, want: usize) -> bool {
        // One more byte, so that a frame that just fits is told from one that was cut.
        let want = want + 1;
        if self.room >= want {
            return true;
        }
        if !pool.reserve(&mut self.spare, want + AHEAD, 0) && self.spare.len() < want {
            return false;
        }
        (self.start, self.end, self.room) = (1, 1, 0);
        let mut next: *mut u8 = std::ptr::null_mut();
        for block in pool.spare_slices_mut(&self.spare) {
            // `take` counts in whole blocks.
            assert_eq!(
                block.len(),
                BLOCK,
                "a spare block is empty and has no headroom"
            );
            if self.end == ENTRIES {
                break;
            }
            let at = block.as_mut_ptr();
            if at == next {
                // SAFETY: `next` is not null, so the entry before `end` was written in this loop.
                unsafe { self.entries[self.end - 1].assume_init_mut() }.iov_len += BLOCK;
            } else {
                self.entries[self.end] = entry(at, BLOCK);
                self.end += 1;
            }
            next = at.wrapping_add(BLOCK);
            self.room += BLOCK;
        }
        self.room >= want
    }

    /// The list for one read: `header` first, then the spare blocks; and its length and the bytes of frame that fit.
    pub(crate) fn list(&mut self, header: &mut [u8]) -> (*mut libc::iovec, usize, usize) {
        let first = self.start - 1;
        self.entries[first] = entry(header.as_mut_ptr(), header.len());
        (
            self.entries[first..].as_mut_ptr().cast(),
            self.end - first,
            self.room,
        )
    }

    /// The blocks a frame of `len` bytes was read into, as a chain.
    pub(crate) fn take(&mut self, pool: &mut Pool, len: usize) -> Chain {
        let mut gone = len.min(self.room).div_ceil(BLOCK) * BLOCK;
        self.room -= gone;
        while gone > 0 {
            // SAFETY: `gone` is at most what the entries from `start` to `end` describe, which `refill` wrote.
            let entry = unsafe { self.entries[self.start].assume_init_mut() };
            if entry.iov_len > gone {
                entry.iov_base = entry.iov_base.wrapping_byte_add(gone);
                entry.iov_len -= gone;
                break;
            }
            gone -= entry.iov_len;
            self.start += 1;
        }
        pool.take_filled(&mut self.spare, len)
    }
}

/// The pieces of a chain as a list to write from. Lives for one frame.
pub(crate) struct Gather {
    entries: [MaybeUninit<libc::iovec>; 1 + GATHER_MAX],
}

impl Gather {
    pub(crate) fn new() -> Self {
        Self {
            entries: [UNSET; 1 + GATHER_MAX],
        }
    }

    /// `header`, then the bytes of `chain`; `None` if it is in more than [`GATHER_MAX`] pieces. The list is good while
    /// header and chain stay as they are.
    pub(crate) fn list(
        &mut self,
        header: &[u8],
        pool: &Pool,
        chain: &Chain,
    ) -> Option<(*const libc::iovec, usize)> {
        self.entries[0] = entry(header.as_ptr().cast_mut(), header.len());
        let mut end = 1;
        let mut next: *const u8 = std::ptr::null();
        for piece in pool.slices(chain) {
            if piece.as_ptr() == next {
                // SAFETY: `next` is not null, so the entry before `end` was written in this loop.
                unsafe { self.entries[end - 1].assume_init_mut() }.iov_len += piece.len();
            } else {
                if end > GATHER_MAX {
                    return None;
                }
                self.entries[end] = entry(piece.as_ptr().cast_mut(), piece.len());
                end += 1;
            }
            next = piece.as_ptr().wrapping_add(piece.len());
        }
        Some((self.entries.as_ptr().cast(), end))
    }
}
