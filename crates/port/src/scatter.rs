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
/// Beyond that, so that the list is made anew once in several frames only.
const AHEAD: usize = 16 * BLOCK;
const ENTRIES: usize = 1 + (RESERVE + AHEAD) / BLOCK;
/// More pieces than this are first copied together. The kernel takes 1,024.
pub(crate) const GATHER_MAX: usize = 256;

const UNSET: MaybeUninit<libc::iovec> = MaybeUninit::uninit();

fn entry(base: *mut u8, len: usize) -> MaybeUninit<libc::iovec> {
    MaybeUninit::new(libc::iovec {
        iov_base: base.cast(),
        iov_len: len,
    })
}

/// The spare blocks of a port as a list to read into. Lives for one `receive` call.
pub(crate) struct Scatter {
    // The entry before `start` is free for the header.
    entries: [MaybeUninit<libc::iovec>; ENTRIES],
    start: usize,
    end: usize,
    room: usize,
}

impl Scatter {
    pub(crate) fn new() -> Self {
        Self {
            entries: [UNSET; ENTRIES],
            start: 1,
            end: 1,
            room: 0,
        }
    }

    /// Makes sure that a frame of `want` bytes fits, as far as the pool allows; returns the room in bytes.
    pub(crate) fn refill(&mut self, pool: &mut Pool, spare: &mut Chain, want: usize) -> usize {
        if self.room >= want {
            return self.room;
        }
        // Less than asked for is still worth something: most frames are short.
        if !pool.reserve(spare, want + AHEAD, 0) {
            pool.reserve(spare, want, 0);
        }
        (self.start, self.end, self.room) = (1, 1, 0);
        let mut next: *mut u8 = std::ptr::null_mut();
        for block in pool.spare_slices_mut(spare) {
            // `consume` counts in whole blocks.
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
        self.room
    }

    /// The list for one read: `header` first, then the spare blocks.
    pub(crate) fn list(&mut self, header: &mut [u8]) -> (*mut libc::iovec, usize) {
        let first = self.start - 1;
        self.entries[first] = entry(header.as_mut_ptr(), header.len());
        (self.entries[first..].as_mut_ptr().cast(), self.end - first)
    }

    /// Forgets the blocks a frame of `len` bytes went into.
    pub(crate) fn consume(&mut self, len: usize) {
        let mut gone = len.div_ceil(BLOCK) * BLOCK;
        debug_assert!(gone <= self.room);
        self.room = self.room.saturating_sub(gone);
        while gone > 0 && self.start < self.end {
            // SAFETY: entries from `start` to `end` were written by `refill`.
            let entry = unsafe { self.entries[self.start].assume_init_mut() };
            if entry.iov_len > gone {
                entry.iov_base = entry.iov_base.wrapping_byte_add(gone);
                entry.iov_len -= gone;
                return;
            }
            gone -= entry.iov_len;
            self.start += 1;
        }
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

    /// `header`, then the bytes of `chain`, which are first copied into `joint` if there are more than [`GATHER_MAX`]
    /// pieces. The list is good while header, chain and `joint` stay as they are.
    #[inline]
    pub(crate) fn list(
        &mut self,
        header: &[u8],
        pool: &Pool,
        chain: &Chain,
        joint: &mut [u8],
    ) -> (*const libc::iovec, usize) {
        self.entries[0] = entry(header.as_ptr().cast_mut(), header.len());
        let mut end = 1;
        let mut next: *const u8 = std::ptr::null();
        for piece in pool.slices(chain) {
            if piece.as_ptr() == next {
                // SAFETY: `next` is not null, so the entry before `end` was written in this loop.
                unsafe { self.entries[end - 1].assume_init_mut() }.iov_len += piece.len();
            } else {
                if end > GATHER_MAX {
                    let len = pool.copy_out(chain, 0, joint);
                    self.entries[1] = entry(joint.as_mut_ptr(), len);
                    end = 2;
                    break;
                }
                self.entries[end] = entry(piece.as_ptr().cast_mut(), piece.len());
                end += 1;
            }
            next = piece.as_ptr().wrapping_add(piece.len());
        }
        (self.entries.as_ptr().cast(), end)
    }
}
