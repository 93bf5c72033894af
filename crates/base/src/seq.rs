//! TCP sequence numbers: 32 bits, compared modulo 2^32 (RFC 9293 section 3.4).
//!
//! Windows, state and everything else of TCP lives in `stack`.
//!
//! Invariant: comparisons mean something only between numbers less than 2^31 apart, as on every TCP connection.
//! There is no `Ord`, because such a comparison is not transitive.

use core::fmt;
use core::ops::{Add, AddAssign, Sub, SubAssign};

/// A sequence or acknowledgment number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// Whether this comes before `other`.
    #[inline]
    pub const fn lt(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether this comes before `other` or is it.
    #[inline]
    pub const fn le(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) <= 0
    }

    /// Whether this comes after `other`.
    #[inline]
    pub const fn gt(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) > 0
    }

    /// Whether this comes after `other` or is it.
    #[inline]
    pub const fn ge(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) >= 0
    }

    /// Octets from `earlier` up to this number, modulo 2^32.
    #[inline]
    pub const fn dist(self, earlier: Seq) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The later of the two.
    #[inline]
    pub const fn max(self, other: Seq) -> Seq {
        if self.lt(other) { other } else { self }
    }

    /// The earlier of the two.
    #[inline]
    pub const fn min(self, other: Seq) -> Seq {
        if self.gt(other) { other } else { self }
    }

    /// Whether `start <= self < start + len`; never for an empty window.
    #[inline]
    pub const fn in_window(self, start: Seq, len: u32) -> bool {
        self.dist(start) < len
    }
}

impl Add<u32> for Seq {
    type Output = Seq;
    #[inline]
    fn add(self, octets: u32) -> Seq {
        Seq(self.0.wrapping_add(octets))
    }
}

impl AddAssign<u32> for Seq {
    #[inline]
    fn add_assign(&mut self, octets: u32) {
        *self = *self + octets;
    }
}

impl Sub<u32> for Seq {
    type Output = Seq;
    #[inline]
    fn sub(self, octets: u32) -> Seq {
        Seq(self.0.wrapping_sub(octets))
    }
}

impl SubAssign<u32> for Seq {
    #[inline]
    fn sub_assign(&mut self, octets: u32) {
        *self = *self - octets;
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wraps() {
        let last = Seq(u32::MAX);
        assert!(last.lt(last + 1) && (last + 1).gt(last));
        assert_eq!(last + 1, Seq(0));
        assert_eq!(Seq(0) - 1, last);
        assert_eq!((last + 5).dist(last), 5);
        assert!(Seq(3).in_window(last, 5) && !Seq(4).in_window(last, 5));
        assert!(!Seq(7).in_window(Seq(7), 0));
    }

    proptest! {
        #[test]
        fn agrees_with_wide_integers(start: u32, ahead in 0u32..0x7fff_ffff) {
            let (a, b) = (Seq(start), Seq(start) + ahead);
            prop_assert_eq!(a.lt(b), ahead > 0);
            prop_assert!(a.le(b) && b.ge(a));
            prop_assert_eq!(b.gt(a), ahead > 0);
            prop_assert_eq!(a.max(b), b);
            prop_assert_eq!(a.min(b), a);
            prop_assert_eq!(b.dist(a), ahead);
        }
    }
}
