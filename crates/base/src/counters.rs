//! Counters with a name, a sentence and a place in an array for every reason.
//!
//! What is counted is decided by each room, with [`counters!`](crate::counters!); who prints it, by the tools.
//!
//! Invariant: counting is one addition in an array; no lock, no string, no allocation.

use core::fmt;

/// An enumeration made by [`counters!`](crate::counters!): one variant for each thing that is counted.
pub trait Counter: Copy + PartialEq + 'static {
    /// `[u64; COUNT]`.
    type Store: AsRef<[u64]> + AsMut<[u64]> + Clone + Send + Sync;
    /// A store of noughts.
    const ZERO: Self::Store;
    /// Every variant, in order.
    const ALL: &'static [Self];
    /// The name of the whole group.
    const GROUP: &'static str;
    /// The variant's place in [`Counter::ALL`].
    fn index(self) -> usize;
    /// The variant's short name.
    fn name(self) -> &'static str;
    /// One sentence: the variant's documentation.
    fn describe(self) -> &'static str;
}

/// Declares an enumeration of counted things.
///
/// ```
/// base::counters! {
///     /// Why a frame was dropped.
///     pub enum Drop("drop") {
///         /// Shorter than an Ethernet header.
///         EthernetTruncated => "ethernet-truncated",
///         /// The IPv4 header checksum is wrong (RFC 1122 section 3.2.1.2).
///         Ipv4Checksum => "ipv4-checksum",
///     }
/// }
/// let mut drops = base::Tally::<Drop>::new();
/// drops.add(Drop::Ipv4Checksum);
/// assert_eq!(drops.get(Drop::Ipv4Checksum), 1);
/// assert_eq!(Drop::ALL.len(), Drop::COUNT);
/// assert_eq!(Drop::EthernetTruncated.name(), "ethernet-truncated");
/// assert_eq!(Drop::EthernetTruncated.describe(), "Shorter than an Ethernet header.");
/// ```
#[macro_export]
macro_rules! counters {
    (
        $(#[doc = $outer:literal])*
        $vis:vis enum $name:ident($group:literal) {
            $( $(#[doc = $doc:literal])+ $variant:ident => $text:literal ),+ $(,)?
        }
    ) => {
        $(#[doc = $outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        $vis enum $name {
            $( $(#[doc = $doc])+ $variant ),+
        }

        #[allow(dead_code)]
        impl $name {
            /// Every variant, in order.
            $vis const ALL: &'static [$name] = &[$($name::$variant),+];
            /// How many there are.
            $vis const COUNT: usize = $name::ALL.len();

            /// The short name.
            $vis const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// One sentence: the documentation.
            $vis const fn describe(self) -> &'static str {
                match self { $($name::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }

        impl $crate::counters::Counter for $name {
            type Store = [u64; $name::COUNT];
            const ZERO: Self::Store = [0; $name::COUNT];
            const ALL: &'static [Self] = $name::ALL;
            const GROUP: &'static str = $group;
            #[inline(always)]
            fn index(self) -> usize {
                self as usize
            }
            fn name(self) -> &'static str {
                $name::name(self)
            }
            fn describe(self) -> &'static str {
                $name::describe(self)
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.pad($name::name(*self))
            }
        }
    };
}

/// How often each variant of `C` happened.
#[derive(Clone)]
pub struct Tally<C: Counter> {
    counts: C::Store,
}

impl<C: Counter> Tally<C> {
    /// All noughts.
    pub const fn new() -> Tally<C> {
        Tally { counts: C::ZERO }
    }

    /// Counts one.
    #[inline]
    pub fn add(&mut self, what: C) {
        self.add_n(what, 1);
    }

    /// Counts `n`.
    #[inline]
    pub fn add_n(&mut self, what: C, n: u64) {
        let count = &mut self.counts.as_mut()[what.index()];
        *count = count.wrapping_add(n);
    }

    /// The count of one variant.
    #[inline]
    pub fn get(&self, what: C) -> u64 {
        self.counts.as_ref()[what.index()]
    }

    /// Every variant with its count, in order, noughts included.
    pub fn iter(&self) -> impl Iterator<Item = (C, u64)> {
        C::ALL
            .iter()
            .copied()
            .zip(self.counts.as_ref().iter().copied())
    }

    /// The sum of all counts.
    pub fn total(&self) -> u64 {
        self.counts
            .as_ref()
            .iter()
            .fold(0, |sum, &n| sum.wrapping_add(n))
    }

    /// Adds another tally to this one: the sum over shards.
    pub fn merge(&mut self, other: &Tally<C>) {
        for (sum, n) in self.counts.as_mut().iter_mut().zip(other.counts.as_ref()) {
            *sum = sum.wrapping_add(*n);
        }
    }
}

impl<C: Counter> Default for Tally<C> {
    fn default() -> Self {
        Tally::new()
    }
}

impl<C: Counter> fmt::Debug for Tally<C> {
    /// Only what happened at all: most reasons never do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .filter(|&(_, n)| n > 0)
                    .map(|(what, n)| (what.name(), n)),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    counters! {
        /// Things.
        enum Thing("thing") {
            /// The first,
            /// over two lines.
            First => "first",
            /// The second.
            Second => "second",
        }
    }

    #[test]
    fn counts_by_reason() {
        let mut tally = Tally::<Thing>::new();
        tally.add(Thing::Second);
        tally.add_n(Thing::Second, 4);
        assert_eq!(
            (
                tally.get(Thing::First),
                tally.get(Thing::Second),
                tally.total()
            ),
            (0, 5, 5)
        );
        assert_eq!(
            tally.iter().collect::<Vec<_>>(),
            [(Thing::First, 0), (Thing::Second, 5)]
        );
        let mut sum = tally.clone();
        sum.merge(&tally);
        assert_eq!(sum.get(Thing::Second), 10);
        assert_eq!(format!("{tally:?}"), r#"{"second": 5}"#);
    }

    #[test]
    fn names_and_sentences() {
        assert_eq!(
            (Thing::COUNT, Thing::ALL.len(), Thing::GROUP),
            (2, 2, "thing")
        );
        assert_eq!(Thing::First.describe(), "The first, over two lines.");
        assert_eq!(format!("{:>8}", Thing::First), "   first");
        assert_eq!(size_of::<Thing>(), 1);
        assert_eq!(size_of::<Tally<Thing>>(), 16);
    }
}
