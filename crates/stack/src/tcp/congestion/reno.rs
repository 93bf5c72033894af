//! Reno: additive increase, multiplicative decrease (RFC 5681).

use base::Instant;

use super::{Ack, Algorithm, Window, slow_start};

/// Reno keeps nothing but the window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reno;

/// RFC 5681 (4): half the flight, at least two segments.
fn half(window: &Window, flight: u32) -> u32 {
    (flight / 2).max(2 * window.mss)
}

impl Algorithm for Reno {
    fn on_ack(&mut self, window: &mut Window, ack: &Ack) {
        let acked = slow_start(window, ack.acked);
        if acked > 0 && !window.in_slow_start() {
            // RFC 5681 (3) with byte counting: one MSS per window of acknowledged bytes.
            let grow = u64::from(window.mss) * u64::from(acked.min(window.cwnd))
                / u64::from(window.cwnd.max(1));
            window.cwnd = window.cwnd.saturating_add((grow as u32).max(1));
        }
    }

    fn on_loss(&mut self, window: &Window, flight: u32, _now: Instant) -> u32 {
        half(window, flight)
    }

    fn on_timeout(&mut self, window: &Window, flight: u32, _now: Instant) -> u32 {
        half(window, flight)
    }
}
