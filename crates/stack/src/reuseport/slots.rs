//! Which member of a group a hash belongs to: a table of slots, each of which is one member's.
//!
//! A newcomer takes slots from those that have the most; who leaves gives its own to those that have the fewest. So a change of
//! membership moves the slots of that one member and no other, and shares stay as equal as they can be. Linux scales the hash
//! by the number of members (`reciprocal_scale`), which moves half of all tuples when that changes by one. And who goes before
//! anybody else comes or goes gives back what it took: a socket that is bound and then connected was never there.
//!
//! What does not live here: the members themselves, and every other way to choose (`reuseport`).
//!
//! Invariant: the shares of two members differ by one slot at most, and are sixteen slots or more.
//! Invariant: the table doubles by a second copy of itself, which moves nothing.

/// Slots of the smallest table; and how many a member has at least.
const LEAST: usize = 256;
const SHARE: usize = 16;

/// The slots of one group; members have the numbers 0 to `len() - 1`.
#[derive(Debug, Default)]
pub(super) struct Slots {
    owner: Vec<u16>,
    shares: Vec<u32>,
    /// What the last to come took, and from whom, while there has been no other change.
    taken: Vec<(u32, u16)>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.shares.len()
    }

    /// Whose a hash is. `None` without members.
    #[inline]
    pub(super) fn pick(&self, hash: u64) -> Option<usize> {
        let mask = self.owner.len().checked_sub(1)?;
        Some(usize::from(self.owner[hash as usize & mask]))
    }

    /// A member comes; it has the next number.
    pub(super) fn add(&mut self) {
        let number = self.len();
        if number == 0 {
            self.owner = vec![0; LEAST];
            self.shares = vec![LEAST as u32];
            return;
        }
        if (number + 1) * SHARE > self.owner.len() {
            self.owner.extend_from_within(..);
            self.shares.iter_mut().for_each(|share| *share *= 2);
        }
        let share = (self.owner.len() / (number + 1)) as u32;
        self.shares.push(0);
        self.taken.clear();
        // First who would have two too many, then who has one: what is left is equal but for one slot.
        for most in [share + 1, share] {
            for (slot, owner) in self.owner.iter_mut().enumerate() {
                let from = usize::from(*owner);
                if self.shares[number] < share && from != number && self.shares[from] > most {
                    self.shares[from] -= 1;
                    self.shares[number] += 1;
                    self.taken.push((slot as u32, *owner));
                    *owner = number as u16;
                }
            }
        }
    }

    /// A member goes; the last one gets its number.
    pub(super) fn remove(&mut self, number: usize) {
        let last = self.len().wrapping_sub(1);
        if number > last || last == usize::MAX {
            return;
        }
        if last == 0 {
            return *self = Self::default();
        }
        let taken = core::mem::take(&mut self.taken);
        if number == last && !taken.is_empty() {
            for (slot, from) in taken {
                self.owner[slot as usize] = from;
                self.shares[usize::from(from)] += 1;
            }
            self.shares.pop();
            return;
        }
        let share = (self.owner.len() / last) as u32;
        let mut heir = 0;
        let mut most = share;
        for owner in &mut self.owner {
            if usize::from(*owner) != number {
                continue;
            }
            while heir == number || self.shares[heir] >= most {
                heir += 1;
                if heir > last {
                    (heir, most) = (0, most + 1);
                }
            }
            self.shares[heir] += 1;
            *owner = heir as u16;
        }
        self.shares.swap_remove(number);
        for owner in &mut self.owner {
            if usize::from(*owner) == last {
                *owner = number as u16;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Rng;
    use proptest::prelude::*;

    use super::*;

    /// Shares as the table has them are those that are kept, and equal but for one.
    fn balanced(slots: &Slots) {
        let mut counted = vec![0; slots.len()];
        slots
            .owner
            .iter()
            .for_each(|&o| counted[usize::from(o)] += 1);
        assert_eq!(counted, slots.shares);
        let (least, most) = (counted.iter().min(), counted.iter().max());
        let (least, most) = (least.copied().unwrap(), most.copied().unwrap());
        assert!(most - least <= 1, "{least} to {most}");
        assert!(least >= SHARE as u32);
    }

    proptest! {
        /// Whoever comes or goes: tuples move to or from that one member only, and each has its share.
        #[test]
        fn a_change_moves_that_members_tuples_only(
            steps in prop::collection::vec(any::<u16>(), 1..120),
            seed in any::<u64>(),
        ) {
            let mut rng = Rng::from_seed(seed);
            let tuples: Vec<u64> = (0..1000).map(|_| rng.u64()).collect();
            let mut slots = Slots::default();
            let mut names: Vec<u32> = Vec::new();
            let owners = |slots: &Slots, names: &[u32]| -> Vec<Option<u32>> {
                tuples.iter().map(|&t| slots.pick(t).map(|n| names[n])).collect()
            };
            for (next, step) in steps.into_iter().enumerate() {
                let before = owners(&slots, &names);
                let leaves = step % 3 == 0 && !names.is_empty();
                let (number, name) = (usize::from(step) % names.len().max(1), next as u32);
                let who = if leaves {
                    slots.remove(number);
                    names.swap_remove(number)
                } else {
                    slots.add();
                    names.push(name);
                    name
                };
                if names.is_empty() {
                    prop_assert_eq!(slots.pick(1), None);
                    continue;
                }
                balanced(&slots);
                for (was, is) in before.iter().zip(owners(&slots, &names)) {
                    let concerned = if leaves { *was == Some(who) } else { is == Some(who) };
                    prop_assert!(concerned || was.is_none() || *was == is);
                }
            }
        }
    }

    /// Of 10,000 tuples each of n members gets its n-th part, within what chance explains.
    #[test]
    fn ten_thousand_tuples_are_spread_evenly() {
        let mut rng = Rng::from_seed(1);
        for members in [2, 3, 7, 16, 64] {
            let mut slots = Slots::default();
            (0..members).for_each(|_| slots.add());
            let mut hits = vec![0_u32; members];
            (0..10_000).for_each(|_| hits[slots.pick(rng.u64()).unwrap()] += 1);
            let mean = 10_000.0 / members as f64;
            for hit in hits {
                let off = (f64::from(hit) - mean).abs();
                assert!(off < 5.0 * mean.sqrt() + mean * 0.07, "{hit} of {mean}");
            }
        }
    }

    #[test]
    fn who_comes_and_goes_leaves_no_trace() {
        let mut slots = Slots::default();
        (0..16).for_each(|_| slots.add());
        let owners = |slots: &Slots| -> Vec<_> { (0..4096).map(|h| slots.pick(h)).collect() };
        let before = owners(&slots);
        slots.add(); // the table doubles
        slots.remove(16);
        assert_eq!(owners(&slots), before);
        balanced(&slots);
    }

    #[test]
    fn a_table_grows_with_its_members() {
        let mut slots = Slots::default();
        for n in 1..=600 {
            slots.add();
            assert_eq!(slots.len(), n);
        }
        balanced(&slots);
        assert_eq!(slots.owner.len(), 16_384);
    }
}
