//! Hints that a cache line is about to be read.
//!
//! A batch is processed in short passes, each prefetching what the next one reads, so that cache misses overlap:
//! one dependent miss costs as much as a small packet, eight overlapped ones little more than one.

/// Asks for the cache line in which `value` starts.
#[inline(always)]
pub fn read<T>(value: &T) {
    line(core::ptr::from_ref(value).cast());
}

/// Asks for the first `bytes` bytes of `values[index]`, line by line; nothing if there is no such element.
#[inline(always)]
pub fn element<T>(values: &[T], index: usize, bytes: usize) {
    if let Some(value) = values.get(index) {
        let start = core::ptr::from_ref(value).cast::<u8>();
        for line_start in (0..bytes.min(size_of::<T>())).step_by(64) {
            line(start.wrapping_add(line_start));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn line(address: *const u8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch is a hint: it reads nothing the program can see and faults on no address. SSE, which
    // holds the instruction, is part of every x86_64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn line(_address: *const u8) {}

#[cfg(test)]
mod tests {
    #[test]
    fn changes_nothing() {
        let values = [[1u64; 32], [2; 32]];
        super::read(&values[0]);
        super::element(&values, 1, 256);
        super::element(&values, 2, 256);
        super::element::<u8>(&[], 0, 1);
        assert_eq!(values, [[1; 32], [2; 32]]);
    }
}
