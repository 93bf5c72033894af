//! A moment on the caller's clock, in nanoseconds.
//!
//! Reading a clock does not live here: whoever runs a host reads one and passes `Instant`s down.
//!
//! Invariant: arithmetic saturates, so [`Instant::FAR`] plus anything is still `FAR`, and never wraps into the past.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};
pub use core::time::Duration;

/// Nanoseconds since an origin the caller chose (its boot, or the start of a simulation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The origin.
    pub const ZERO: Instant = Instant(0);
    /// Never: later than any moment a clock will show.
    pub const FAR: Instant = Instant(u64::MAX);

    /// `nanos` ns after the origin.
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// `micros` us after the origin, saturating at [`Instant::FAR`].
    #[inline]
    pub const fn from_micros(micros: u64) -> Instant {
        Instant(micros.saturating_mul(1_000))
    }

    /// `millis` ms after the origin, saturating at [`Instant::FAR`].
    #[inline]
    pub const fn from_millis(millis: u64) -> Instant {
        Instant(millis.saturating_mul(1_000_000))
    }

    /// `secs` s after the origin, saturating at [`Instant::FAR`].
    #[inline]
    pub const fn from_secs(secs: u64) -> Instant {
        Instant(secs.saturating_mul(1_000_000_000))
    }

    /// Whole nanoseconds since the origin.
    #[inline]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole microseconds since the origin, rounded down.
    #[inline]
    pub const fn micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole milliseconds since the origin, rounded down.
    #[inline]
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds since the origin, rounded down.
    #[inline]
    pub const fn secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Whether this is [`Instant::FAR`].
    #[inline]
    pub const fn is_far(self) -> bool {
        self.0 == u64::MAX
    }
}

/// A `Duration` may hold more nanoseconds than 64 bits do (585 years): clamped.
#[inline]
fn clamp(duration: Duration) -> u64 {
    let below_second = u64::from(duration.subsec_nanos());
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(below_second)
}

impl Add<Duration> for Instant {
    type Output = Instant;
    #[inline]
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(clamp(duration)))
    }
}

impl AddAssign<Duration> for Instant {
    #[inline]
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    #[inline]
    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_sub(clamp(duration)))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    /// The time since `earlier`, zero if it is not earlier.
    #[inline]
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_far() {
            return f.write_str("never");
        }
        write!(f, "{}.{:09}s", self.secs(), self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_agree() {
        let t = Instant::from_secs(3);
        assert_eq!(t, Instant::from_millis(3_000));
        assert_eq!(t, Instant::from_micros(3_000_000));
        assert_eq!(
            (t.nanos(), t.micros(), t.millis(), t.secs()),
            (3_000_000_000, 3_000_000, 3_000, 3)
        );
        assert_eq!(t.to_string(), "3.000000000s");
    }

    #[test]
    fn arithmetic_saturates() {
        let t = Instant::from_millis(5);
        assert_eq!(t + Duration::from_millis(2) - t, Duration::from_millis(2));
        assert_eq!(t - Instant::from_millis(7), Duration::ZERO);
        assert_eq!(t - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::FAR + Duration::MAX, Instant::FAR);
        assert_eq!(t + Duration::MAX, Instant::FAR);
        assert_eq!(Instant::from_secs(u64::MAX), Instant::FAR);
        assert_eq!(Instant::FAR.to_string(), "never");
    }
}
