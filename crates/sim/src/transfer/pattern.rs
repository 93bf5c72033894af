//! The bytes of streams: known at any place, so that each that arrives can be told from any other.
//!
//! What does not live here: who sends them.

/// The quotient of an offset by this changes what its low bits are mixed with.
const PERIOD: u64 = 251;
/// Bytes that are compared at once.
const CHUNK: usize = 1024;

fn mix(number: u64, up: bool, offset: u64) -> u8 {
    let key = (number << 1 | u64::from(up)).wrapping_mul(0x9e37_79b9);
    ((offset / PERIOD).wrapping_mul(31) ^ key) as u8
}

/// Byte `offset` of stream `number` in one direction.
pub fn pattern(number: u64, up: bool, offset: u64) -> u8 {
    mix(number, up, offset) ^ offset as u8
}

/// Writes [`pattern`] from `offset` on, a run between two changes of the quotient at a time.
pub(super) fn fill(number: u64, up: bool, mut offset: u64, mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        let run = (PERIOD - offset % PERIOD).min(bytes.len() as u64);
        let (now, later) = bytes.split_at_mut(run as usize);
        let mixed = mix(number, up, offset);
        for (byte, low) in now.iter_mut().zip(offset..) {
            *byte = mixed ^ low as u8;
        }
        (offset, bytes) = (offset + run, later);
    }
}

/// The first byte that is not the one of [`pattern`] from `offset` on.
pub(super) fn differs(number: u64, up: bool, offset: u64, bytes: &[u8]) -> Option<u64> {
    let mut wanted = [0; CHUNK];
    (offset..)
        .step_by(CHUNK)
        .zip(bytes.chunks(CHUNK))
        .find_map(|(offset, chunk)| {
            let wanted = &mut wanted[..chunk.len()];
            fill(number, up, offset, wanted);
            let same = |(at, byte): &(u64, &u8)| **byte == pattern(number, up, *at);
            (wanted != chunk)
                .then(|| (offset..).zip(chunk).find(|it| !same(it)))
                .flatten()
                .map(|(at, _)| at)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_pattern_and_differences_are_found() {
        let mut bytes = vec![0; 5000];
        for offset in [0, 1, 250, 251, 100_000] {
            fill(3, true, offset, &mut bytes);
            let expected = (0..5000).map(|at| pattern(3, true, offset + at));
            assert!(bytes.iter().copied().eq(expected));
            assert_eq!(differs(3, true, offset, &bytes), None);
            assert_eq!(differs(3, false, offset, &bytes), Some(offset));
            bytes[1234] ^= 1;
            assert_eq!(differs(3, true, offset, &bytes), Some(offset + 1234));
        }
    }
}
