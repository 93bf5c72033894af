//! The monotonic clock of a shard. The only place where time comes from; everything below is told.

use base::Instant;

/// Nanoseconds since the clock was made, plus one second so that no reading is [`Instant::ZERO`].
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn new() -> Self {
        Self {
            origin: std::time::Instant::now(),
        }
    }

    /// The time now.
    pub fn now(&self) -> Instant {
        let nanos = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX - 1);
        Instant::from_nanos(nanos.saturating_add(1_000_000_000).min(u64::MAX - 1))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
