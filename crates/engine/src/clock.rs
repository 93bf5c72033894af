//! The monotonic clock of a shard. The only place where time comes from; everything below is told.
//!
//! Invariant: all clocks of a process tell the same time, so that what one shard says another understands.

use std::sync::OnceLock;
use std::time::Duration;

use base::Instant;

/// When the first clock was made.
static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();

/// So that no reading is [`Instant::ZERO`].
const FIRST: Duration = Duration::from_secs(1);

/// Nanoseconds since the process made its first clock, plus one second.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock, which tells what all others tell.
    pub fn new() -> Self {
        Self {
            origin: *ORIGIN.get_or_init(std::time::Instant::now),
        }
    }

    /// The time now.
    pub fn now(&self) -> Instant {
        let nanos = (self.origin.elapsed() + FIRST).as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).min(u64::MAX - 1))
    }

    /// What the system's monotonic clock said at that time.
    pub fn system(&self, at: Instant) -> std::time::Instant {
        let since = Duration::from_nanos(at.nanos()).saturating_sub(FIRST);
        self.origin.checked_add(since).unwrap_or(self.origin)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree_with_each_other_and_with_the_system() {
        let (a, b) = (Clock::new(), Clock::new());
        let before = std::time::Instant::now();
        let (one, two) = (a.now(), b.now());
        let after = std::time::Instant::now();
        assert!(one.nanos() >= 1_000_000_000 && one <= two);
        assert!(before <= b.system(one) && a.system(two) <= after);
    }
}
