//! Blocks that are lent to readers outside of the pool's thread.
//!
//! What does not live here: how a loan finds its way back, which is its holder's.
//!
//! Invariant: a loan counts as two segments in each of its blocks, so that a lent block is nobody's alone, and nobody writes it, until
//! the loan is taken back.
//! Invariant: a loan holds no segment, and keeps the memory mapped though its pool be gone.

use super::map::View;
use super::{BLOCK, Chain, FREE, NIL, Pool};
use core::fmt;
use core::ops::Range;

/// What a loan counts in each of its blocks.
const WEIGHT: u32 = 2;

/// Some bytes of a block.
#[derive(Clone, Copy)]
struct Piece {
    block: u32,
    off: u16,
    len: u16,
}

/// Pieces that a loan holds without memory of its own: those of a datagram.
const FEW: usize = 2;

/// Bytes of a pool in the hands of any thread, to be read: see [`Pool::lend`].
#[must_use = "blocks of a loan that is not taken back are never free again"]
pub struct Loan {
    view: View,
    few: [Piece; FEW],
    /// Those behind the first [`FEW`].
    more: Vec<Piece>,
    pieces: usize,
    len: usize,
}

impl Pool {
    /// Lends a chain's bytes: they can be read anywhere, and are written nowhere, until [`Pool::take_back`].
    ///
    /// # Panics
    /// When one block is lent 2^29 times at once, for which there is no memory.
    pub fn lend(&mut self, chain: Chain) -> Loan {
        let mut few = [Piece::NONE; FEW];
        let mut more = Vec::with_capacity(self.segments(&chain).saturating_sub(FEW));
        let mut pieces = 0;
        let mut at = chain.head;
        while let Some(&segment) = self.segments.get(at as usize) {
            at = segment.next;
            if segment.len == 0 {
                continue;
            }
            let word = &mut self.refs[segment.block as usize];
            // 2^29 loans of one block would take more memory than there is.
            assert!(
                *word < FREE / 2,
                "a block has a number of loans that can be counted"
            );
            *word += WEIGHT;
            let piece = Piece {
                block: segment.block,
                off: segment.off,
                len: segment.len,
            };
            match few.get_mut(pieces) {
                Some(place) => *place = piece,
                None => more.push(piece),
            }
            pieces += 1;
        }
        debug_assert_eq!(at, NIL);
        // Far fewer than 2^32, as above.
        self.lent += pieces as u32;
        let len = chain.len();
        self.free(chain);
        Loan {
            view: self.bytes.view(),
            few,
            more,
            pieces,
            len,
        }
    }

    /// Runs of bytes that are lent, each of which keeps a block from being free.
    pub fn lent(&self) -> u32 {
        self.lent
    }

    /// Takes a loan back; blocks that nobody else holds are free. One of another pool is lost.
    pub fn take_back(&mut self, loan: Loan) {
        if !self.bytes.is_seen_by(&loan.view) {
            return;
        }
        self.lent -= loan.pieces as u32;
        for piece in (0..loan.pieces).filter_map(|at| loan.at(at)) {
            for _ in 0..WEIGHT {
                self.release(piece.block);
            }
        }
    }
}

impl Piece {
    const NONE: Self = Self {
        block: 0,
        off: 0,
        len: 0,
    };

    fn range(&self) -> Range<usize> {
        let start = self.block as usize * BLOCK + usize::from(self.off);
        start..start + usize::from(self.len)
    }
}

impl Loan {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Runs of bytes it consists of; each keeps a block from being free.
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    fn at(&self, at: usize) -> Option<Piece> {
        let piece = self.few.get(at).or_else(|| self.more.get(at - FEW));
        piece.filter(|_| at < self.pieces).copied()
    }

    /// One of its runs.
    pub fn piece(&self, at: usize) -> Option<&[u8]> {
        let range = self.at(at)?.range();
        // SAFETY: the block is lent, by this loan, whose place is taken back only by value: until then its reference count is at least
        // `WEIGHT`, and a pool writes to blocks whose count is 1 only. What was written before happened before, for the loan came
        // here from the pool's thread.
        Some(unsafe { self.view.part(range) })
    }

    /// Its runs in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.pieces).filter_map(|at| self.piece(at))
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan")
            .field("len", &self.len)
            .field("pieces", &self.pieces)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(pool: &mut Pool, bytes: &[u8]) -> Chain {
        let mut chain = Chain::EMPTY;
        assert_eq!(pool.append_bytes(&mut chain, bytes), bytes.len());
        chain
    }

    #[test]
    fn what_is_lent_is_read_elsewhere_while_the_pool_works_on() {
        let mut pool = Pool::new(64).unwrap();
        let data: Vec<u8> = (0..5_000u32).map(|at| (at / 7) as u8).collect();
        for round in 0..50 {
            let lent = chain(&mut pool, &data);
            let loan = pool.lend(lent);
            assert_eq!((loan.len(), loan.pieces(), pool.in_use()), (5_000, 3, 3));
            assert_eq!((pool.segments_in_use(), pool.lent()), (0, 3));
            let reader = std::thread::spawn({
                let data = data.clone();
                move || {
                    assert_eq!(loan.slices().flatten().copied().collect::<Vec<_>>(), data);
                    loan
                }
            });
            // All other blocks are written meanwhile.
            let mut others = Vec::new();
            while let Some(mut other) = pool.alloc(0) {
                pool.push_back(&mut other, BLOCK).unwrap().fill(round);
                others.push(other);
            }
            let loan = reader.join().unwrap();
            pool.take_back(loan);
            others.into_iter().for_each(|other| pool.free(other));
            assert_eq!((pool.in_use(), pool.lent()), (0, 0));
        }
    }

    #[test]
    fn a_lent_block_is_nobodys_alone() {
        let mut pool = Pool::new(4).unwrap();
        let mut rest = chain(&mut pool, b"head and tail");
        let head = pool.split_front(&mut rest, 4).unwrap();
        let loan = pool.lend(head);
        // The other segment is the only one, and yet the block is not written.
        assert!(pool.is_shared(&rest));
        assert_eq!((pool.head_room(&rest), pool.tail_room(&rest)), (0, 0));
        assert!(pool.first_mut(&rest).is_empty());
        assert_eq!(pool.copy_in(&rest, 0, b"x"), 0);
        assert!(pool.spare_slices_mut(&rest).next().is_none());
        assert_eq!(pool.append_bytes(&mut rest, b"!"), 1);
        assert_eq!(loan.piece(0), Some(&b"head"[..]));
        pool.take_back(loan);
        assert!(!pool.is_shared(&rest));
        pool.free(rest);
        assert_eq!((pool.in_use(), pool.segments_in_use()), (0, 0));
    }

    #[test]
    fn a_loan_outlives_its_pool_and_is_taken_by_no_other() {
        let mut pool = Pool::new(4).unwrap();
        let lent = chain(&mut pool, b"still here");
        let loan = pool.lend(lent);
        let mut other = Pool::new(4).unwrap();
        drop(pool);
        assert_eq!(loan.piece(0), Some(&b"still here"[..]));
        assert_eq!(loan.piece(1), None);
        let held = chain(&mut other, b"mine");
        other.take_back(loan);
        assert_eq!((other.in_use(), other.lent()), (1, 0));
        other.free(held);
    }
}
