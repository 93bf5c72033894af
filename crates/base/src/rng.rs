//! A seeded generator of numbers that look random: xoshiro256++.
//!
//! Secrets do not come from here. Whoever sees enough of its output can compute the rest of it, earlier numbers
//! included; keys come from [`SipKey::derive`], whose values tell nothing about each other.
//!
//! Invariant: the same seed gives the same numbers on every machine, so a simulation can be replayed.

use crate::siphash::{SipKey, siphash24};

/// The generator's state.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// A generator for `seed`. The state is a one-way function of the seed, so that output does not betray a seed
    /// from which keys are derived as well.
    pub fn from_seed(seed: u64) -> Rng {
        let key = SipKey::derive(seed, u64::from_le_bytes(*b"rng seed"));
        let mut state = [0; 4];
        for (i, word) in state.iter_mut().enumerate() {
            *word = siphash24(&key, &[i as u8]);
        }
        // The one state xoshiro cannot leave.
        if state == [0; 4] {
            state[0] = 1;
        }
        Rng(state)
    }

    /// 64 uniform bits.
    #[inline]
    pub fn u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let out = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let t = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= t;
        *d = d.rotate_left(45);
        out
    }

    /// 32 uniform bits.
    #[inline]
    pub fn u32(&mut self) -> u32 {
        (self.u64() >> 32) as u32
    }

    /// A uniform number below `bound`; 0 if `bound` is 0.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        // Multiply and take the high half; redraw the few low halves that would favour some results.
        let mut product = u64::from(self.u32()) * u64::from(bound);
        if (product as u32) < bound {
            let unfair = bound.wrapping_neg() % bound;
            while (product as u32) < unfair {
                product = u64::from(self.u32()) * u64::from(bound);
            }
        }
        (product >> 32) as u32
    }

    /// Uniform bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.u64().to_le_bytes()[..chunk.len()]);
        }
    }

    /// A uniform number in `0.0 .. 1.0`.
    #[inline]
    pub fn f64(&mut self) -> f64 {
        (self.u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// True with this probability: never for 0 (or less, or NaN), always for 1 (or more).
    #[inline]
    pub fn chance(&mut self, probability: f64) -> bool {
        self.f64() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replays() {
        let (mut a, mut b) = (Rng::from_seed(7), Rng::from_seed(7));
        let mut bytes = [0; 13];
        a.fill(&mut bytes);
        let mut again = [0; 13];
        b.fill(&mut again);
        assert_eq!(bytes, again);
        assert_eq!(a.u64(), b.u64());
        assert_ne!(Rng::from_seed(7).u64(), Rng::from_seed(8).u64());
    }

    #[test]
    fn is_roughly_uniform() {
        let mut rng = Rng::from_seed(1);
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            counts[rng.below(10) as usize] += 1;
        }
        assert!(
            counts.iter().all(|&n| (9_500..10_500).contains(&n)),
            "{counts:?}"
        );
        let heads = (0..100_000).filter(|_| rng.chance(0.25)).count();
        assert!((24_300..25_700).contains(&heads), "{heads}");
        assert_eq!((rng.below(0), rng.below(1)), (0, 0));
        assert!(!rng.chance(0.0) && rng.chance(1.0) && !rng.chance(f64::NAN));
    }
}
