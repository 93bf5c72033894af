//! Big-endian loads and stores in fixed-size arrays.
//!
//! With a constant index into an array the bounds check folds away; that is why every view splits its fixed header
//! off as an array once. Not for slices of unknown length.
//!
//! Headers that are summed right after they were written are stored in the 8-byte words the sum will load: a load that
//! spans several younger stores waits until they have left the store buffer.

/// The `u16` at bytes `at..at + 2`.
#[inline(always)]
pub(crate) const fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The `u32` at bytes `at..at + 4`.
#[inline(always)]
pub(crate) const fn be32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The `M` bytes that begin at `at`.
#[inline(always)]
pub(crate) fn array<const N: usize, const M: usize>(bytes: &[u8; N], at: usize) -> [u8; M] {
    let mut out = [0; M];
    out.copy_from_slice(&bytes[at..at + M]);
    out
}

/// Stores a `u16` at bytes `at..at + 2`.
#[inline(always)]
pub(crate) fn put16<const N: usize>(bytes: &mut [u8; N], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Stores a `u32` at bytes `at..at + 4`.
#[inline(always)]
pub(crate) fn put32<const N: usize>(bytes: &mut [u8; N], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Stores a `u64` at bytes `at..at + 8`.
#[inline(always)]
pub(crate) fn put64<const N: usize>(bytes: &mut [u8; N], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

/// Stores `value` from byte `at` on.
#[inline(always)]
pub(crate) fn put<const N: usize>(bytes: &mut [u8; N], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The first `N` bytes of a buffer the caller promised to be long enough.
///
/// # Panics
/// When it is not.
#[inline(always)]
pub(crate) fn head_mut<const N: usize>(buffer: &mut [u8]) -> &mut [u8; N] {
    match buffer.first_chunk_mut::<N>() {
        Some(head) => head,
        None => short_buffer(N),
    }
}

#[cold]
#[inline(never)]
fn short_buffer(need: usize) -> ! {
    panic!("emit needs a buffer of at least {need} bytes")
}
