//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Where the checksum stands in a header is each protocol's matter. Sums are kept in the machine's own byte order,
//! which RFC 1071 section 2(B) allows, and turned around once at the end.
//!
//! Invariant: a [`Sum`] equals the sum of its 16-bit words modulo 65535; zero is held as 0 or as a multiple of 65535.

use crate::Addr;

/// A running one's complement sum. Order of adding does not matter.
#[derive(Copy, Clone, Debug, Default)]
#[must_use]
pub struct Sum(u64);

/// One's complement addition: a carry out of the top comes in at the bottom.
#[inline(always)]
const fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    // When there was a carry the sum is at most 2^64 - 2, so this cannot overflow.
    sum + carry as u64
}

/// Adds four words with one chain of carries: a carry out of one word goes into the next, as RFC 1071 section 2(C)
/// describes, and the last into the first.
#[inline(always)]
fn add_block(sum: u64, block: &[u8; 32]) -> u64 {
    let (words, _) = block.as_chunks::<8>();
    let (mut sum, mut carry) = (sum, false);
    for word in words {
        (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*word), carry);
    }
    add(sum, carry as u64)
}

/// Slices at least this long go through the vectors; below, starting them costs more than they save.
const BULK: usize = 192;

impl Sum {
    /// The empty sum.
    #[inline]
    pub const fn new() -> Sum {
        Sum(0)
    }

    /// Adds bytes that begin at an even offset of what is summed. An odd last byte counts as if a zero followed.
    #[inline]
    pub fn add_bytes(self, bytes: &[u8]) -> Sum {
        let (mut sum, rest) = if bytes.len() >= BULK {
            bulk(self.0, bytes)
        } else {
            (self.0, bytes)
        };
        let (blocks, rest) = rest.as_chunks::<32>();
        for block in blocks {
            sum = add_block(sum, block);
        }
        let (words, mut rest) = rest.as_chunks::<8>();
        for word in words {
            sum = add(sum, u64::from_ne_bytes(*word));
        }
        if let Some((word, after)) = rest.split_first_chunk::<4>() {
            sum = add(sum, u32::from_ne_bytes(*word) as u64);
            rest = after;
        }
        if let Some((word, after)) = rest.split_first_chunk::<2>() {
            sum = add(sum, u16::from_ne_bytes(*word) as u64);
            rest = after;
        }
        if let Some(&last) = rest.first() {
            sum = add(sum, u16::from_ne_bytes([last, 0]) as u64);
        }
        Sum(sum)
    }

    /// Adds bytes that begin at an even or `odd` offset: for data scattered over pieces of any length.
    #[inline]
    pub fn add_bytes_at(self, bytes: &[u8], odd: bool) -> Sum {
        let sum = Sum::new().add_bytes(bytes);
        self.add_sum(if odd { sum.swap() } else { sum })
    }

    /// Adds a 16-bit word.
    #[inline]
    pub const fn add_u16(self, word: u16) -> Sum {
        Sum(add(self.0, word.to_be() as u64))
    }

    /// Adds two 16-bit words.
    #[inline]
    pub const fn add_u32(self, words: u32) -> Sum {
        Sum(add(self.0, words.to_be() as u64))
    }

    /// Adds another sum.
    #[inline]
    pub const fn add_sum(self, other: Sum) -> Sum {
        Sum(add(self.0, other.0))
    }

    /// The sum of the same bytes begun at the other parity (RFC 1071 section 2(B)).
    #[inline]
    pub const fn swap(self) -> Sum {
        // Turning by 8 bits multiplies by 256 modulo 2^64 - 1, hence modulo 2^16 - 1.
        Sum(self.0.rotate_left(8))
    }

    /// The sum in 16 bits, not complemented: what a device that completes checksums wants to find in the field.
    #[inline]
    pub const fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        (sum as u16).to_be()
    }

    /// The checksum: the complement of the sum.
    #[inline]
    pub const fn finish(self) -> u16 {
        !self.fold()
    }

    /// The checksum, with all ones in place of zero: in UDP a zero would mean that there is none (RFC 768).
    #[inline]
    pub const fn finish_nonzero(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            check => check,
        }
    }

    /// Whether a message summed with its checksum field is intact.
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// Adds whole blocks of `bytes` to `sum` and returns what is left over.
///
/// The loop has no carry between its steps, so the compiler turns it into vectors of whatever width the target has.
/// It adds whole words, losing their carries, and the upper halves apart; what the lower halves come to follows from
/// the two, with three operations for a vector where adding the halves apart takes four.
#[inline(never)]
fn bulk(sum: u64, bytes: &[u8]) -> (u64, &[u8]) {
    const LANES: usize = 2;
    let (blocks, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    // Neither the sum of the upper halves nor that of the lower ones overflows in fewer than 2^32 blocks, 64 GiB.
    let mut whole = [0u64; LANES];
    let mut upper = [0u64; LANES];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for lane in 0..LANES {
            let word = u64::from_ne_bytes(words[lane]);
            whole[lane] = whole[lane].wrapping_add(word);
            upper[lane] += word >> 32;
        }
    }
    let mut sum = sum;
    for lane in 0..LANES {
        let lower = whole[lane].wrapping_sub(upper[lane] << 32);
        sum = add(add(sum, lower), upper[lane]);
    }
    (sum, rest)
}

/// The sum of the pseudo-header in front of TCP, UDP and ICMPv6 (RFC 9293 section 3.1, RFC 8200 section 8.1).
///
/// `len` is the length of the transport's header and data in bytes.
#[inline]
pub fn pseudo(src: &Addr, dst: &Addr, proto: u8, len: u32) -> Sum {
    // The prefix of a v4-mapped address adds one word of ones, which is zero in one's complement: no need to ask
    // for the family.
    Sum::new()
        .add_bytes(&src.0)
        .add_bytes(&dst.0)
        .add_u32(len)
        .add_u16(proto as u16)
}

/// The checksum of a message after one of its 16-bit words changed from `old` to `new` (RFC 1624 equation 3).
#[inline]
pub const fn update_u16(check: u16, old: u16, new: u16) -> u16 {
    let sum = !check as u32 + !old as u32 + new as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// The checksum of a message after a 32-bit field at an even offset changed from `old` to `new`.
#[inline]
pub const fn update_u32(check: u16, old: u32, new: u32) -> u16 {
    update_u16(
        update_u16(check, (old >> 16) as u16, (new >> 16) as u16),
        old as u16,
        new as u16,
    )
}

/// The checksum of a message after bytes at an even offset changed; both slices must be of one length.
#[inline]
pub fn update_bytes(check: u16, old: &[u8], new: &[u8]) -> u16 {
    debug_assert_eq!(old.len(), new.len());
    let removed = !Sum::new().add_bytes(old).fold();
    Sum::new()
        .add_u16(!check)
        .add_u16(removed)
        .add_bytes(new)
        .finish()
}
