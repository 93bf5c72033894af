//! Identifications of packets that are or may be fragmented (RFC 6864, RFC 7739).
//!
//! What does not live here: packets that cannot be fragmented need none (RFC 6864 4.1: an atomic datagram's may be anything).
//!
//! Invariant: two packets between the same addresses get the same number only after the field's whole range, as far as a
//! counter shared by many pairs allows; what others get tells nobody what a pair gets next (RFC 7739 5.3).

use base::{Rng, SipKey};
use wire::Addr;

const COUNTERS: usize = 1024;

/// Counters shared by pairs of addresses, each seen by a pair behind an offset of its own.
#[derive(Debug)]
pub(super) struct Idents {
    key: SipKey,
    counters: Vec<u32>,
}

impl Idents {
    pub(super) fn new(key: SipKey, rng: &mut Rng) -> Self {
        Self {
            key,
            counters: (0..COUNTERS).map(|_| rng.u32()).collect(),
        }
    }

    /// The next number for packets from `src` to `dst`. IPv4 uses the low 16 bits.
    pub(super) fn next(&mut self, src: &Addr, dst: &Addr) -> u32 {
        let mut pair = [0; 32];
        pair[..16].copy_from_slice(&src.0);
        pair[16..].copy_from_slice(&dst.0);
        let hash = self.key.hash(&pair);
        let counter = &mut self.counters[(hash >> 32) as usize % COUNTERS];
        *counter = counter.wrapping_add(1);
        counter.wrapping_add(hash as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_for_a_pair_and_tells_others_nothing() {
        let mut idents = Idents::new(SipKey([1; 16]), &mut Rng::from_seed(1));
        let (a, b, c) = (
            Addr::v4(10, 0, 0, 1),
            Addr::v4(10, 0, 0, 2),
            Addr::v4(10, 0, 0, 3),
        );
        let first = idents.next(&a, &b);
        // Nothing repeats within the 16 bits of IPv4.
        let mut seen = vec![false; 1 << 16];
        for n in 1..=65_536u32 {
            let ident = idents.next(&a, &b);
            assert_eq!(ident, first.wrapping_add(n));
            assert!(!core::mem::replace(
                &mut seen[usize::from(ident as u16)],
                true
            ));
        }
        // Another pair, another host: no relation.
        assert!(idents.next(&a, &c).abs_diff(idents.next(&a, &b)) > 1000);
        let mut other = Idents::new(SipKey([2; 16]), &mut Rng::from_seed(2));
        assert_ne!(other.next(&a, &b), first);
    }
}
