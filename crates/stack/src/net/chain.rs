//! Small tools on chains of packet memory: sums over scattered bytes, and headers that may be written.
//!
//! What does not live here: what the bytes mean.

use base::{BLOCK, Chain, Checksum, Pool};
use wire::checksum::Sum;

use super::HEADROOM;

/// The one's complement sum of all bytes from `skip` on.
pub(crate) fn sum(pool: &Pool, chain: &Chain, skip: usize) -> Sum {
    let first = pool.first(chain);
    if first.len() == chain.len() {
        return Sum::new().add_bytes(first.get(skip..).unwrap_or_default());
    }
    let mut skip = skip;
    let mut odd = false;
    let mut sum = Sum::new();
    for slice in pool.slices(chain) {
        let part = slice.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(slice.len());
        sum = sum.add_bytes_at(part, odd);
        odd ^= part.len() % 2 == 1;
    }
    sum
}

/// Completes a partial checksum in the bytes. The field holds the sum of the pseudo-header; UDP's zero becomes all ones
/// (RFC 768).
pub(super) fn complete_checksum(pool: &mut Pool, chain: &Chain, checksum: Checksum) {
    let Checksum::Partial { start, offset } = checksum else {
        return;
    };
    let check = sum(pool, chain, usize::from(start)).finish();
    // Where UDP keeps its checksum. No other transport keeps one there, and all ones equals zero for those as well.
    let check = if check == 0 && offset == 6 {
        0xffff
    } else {
        check
    };
    pool.copy_in(
        chain,
        usize::from(start) + usize::from(offset),
        &check.to_be_bytes(),
    );
}

/// Makes the first `n` bytes lie in a first block that may be written, copying them if need be. False, with nothing changed,
/// when they are too few, too many, or the pool is empty.
pub(super) fn make_writable(pool: &mut Pool, chain: &mut Chain, n: usize) -> bool {
    if !pool.is_shared(chain) {
        return pool.make_contiguous(chain, n);
    }
    if n > chain.len() || n > BLOCK - HEADROOM {
        return false;
    }
    let Some(mut front) = pool.alloc(HEADROOM) else {
        return false;
    };
    pool.append_copy(&mut front, chain, 0, n);
    pool.pull_front(chain, n);
    let rest = chain.take();
    pool.append(&mut front, rest);
    *chain = front;
    true
}
