//! Reno: additive increase, multiplicative decrease (RFC 5681).

use base::Instant;

use super::{Ack, Algorithm, Window, slow_start};

/// A mark asks for less than a loss (RFC 8511 3): 0.85, in hundredths.
const BETA_ECN: u64 = 85;

/// Reno keeps nothing but the window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reno {
    /// Bytes acknowledged that have not yet moved the window.
    credit: u32,
}

impl Algorithm for Reno {
    fn on_ack(&mut self, window: &mut Window, ack: &Ack) {
        if !ack.limited {
            return;
        }
        let acked = slow_start(window, ack.acked);
        if acked > 0 && !window.in_slow_start() {
            // RFC 5681 (3) with byte counting: one MSS per window of acknowledged bytes.
            self.credit = self.credit.saturating_add(acked);
            let grow = self.credit / window.cwnd.max(1);
            self.credit -= grow * window.cwnd;
            window.cwnd = window.cwnd.saturating_add(grow.saturating_mul(window.mss));
        }
    }

    /// RFC 5681 (4): half the flight, at least two segments.
    fn on_loss(&mut self, window: &Window, flight: u32, _now: Instant) -> u32 {
        window.shrunk(flight, 50)
    }

    fn on_mark(&mut self, window: &Window, flight: u32, _now: Instant) -> u32 {
        window.shrunk(flight, BETA_ECN)
    }
}
