//! CUBIC (RFC 9438): the window grows as a cubic of the time since the last reduction, in integer arithmetic, by whole
//! segments, with Linux's steps.
//!
//! What does not live here: leaving slow start (`hystart`).

use core::time::Duration;

use base::Instant;

use super::hystart::HyStart;
use super::{Ack, Algorithm, Window, slow_start};

/// beta_cubic = 0.7 (RFC 9438 4.6), in tenths.
const BETA: u64 = 7;
/// A mark asks for less than a loss (RFC 8511 3): 0.85, in hundredths.
const BETA_ECN: u64 = 85;
/// The rate of growth is looked at so often, milliseconds (Linux's HZ / 32).
const RECALCULATE_MS: u32 = 31;
/// Without a maximum known the window grows by a segment for so many acknowledged, at least (as Linux).
const PROBE_SEGMENTS: u32 = 20;

/// State since the last reduction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cubic {
    hystart: HyStart,
    /// W_max, bytes: the window before the last reduction; 0: not known.
    w_max: u32,
    /// cwnd_prior, bytes: where W_est begins to grow as fast as Reno (RFC 9438 4.3); 0: not known.
    prior: u32,
    /// W_est, segments: what Reno would have (RFC 9438 4.3).
    w_est: u32,
    /// Bytes acknowledged that have not yet moved `w_est`.
    est_credit: u32,
    /// Millisecond (low 32 bits) when the current congestion avoidance epoch began; `None` until the first ACK in it.
    epoch: Option<u32>,
    /// K in milliseconds: when the cubic reaches its origin.
    k_ms: u32,
    /// Where the cubic is flat, segments.
    origin: u32,
    /// Segments to be acknowledged for the window to grow by one; when that was looked at, and for which window.
    per_segment: u32,
    looked_at: u32,
    looked_for: u32,
    /// Bytes acknowledged that have not yet moved the window.
    credit: u32,
}

/// Cube root of an integer, rounded down, by Newton's method.
fn cube_root(value: u64) -> u64 {
    if value == 0 {
        return 0;
    }
    let mut x = 1u64 << ((64 - value.leading_zeros()).div_ceil(3));
    loop {
        let next = (2 * x + value / (x * x)) / 3;
        if next >= x {
            return x;
        }
        x = next;
    }
}

impl Cubic {
    fn start_epoch(&mut self, segments: u32, mss: u32, ms: u32) {
        self.epoch = Some(ms);
        self.w_est = segments;
        self.est_credit = 0;
        self.credit = 0;
        let w_max = self.w_max / mss;
        if segments < w_max {
            // K = cbrt((W_max - cwnd) / C) in segments and seconds, C = 0.4; in milliseconds: cbrt(x * 10^9 / 0.4).
            self.k_ms = cube_root(u64::from(w_max - segments) * 2_500_000_000) as u32;
            self.origin = w_max;
        } else {
            self.k_ms = 0;
            self.origin = segments;
        }
    }

    /// W_cubic(t) of RFC 9438 (1), segments.
    fn target(&self, t_ms: u32) -> u32 {
        let t = i128::from(t_ms.min(1_000_000)) - i128::from(self.k_ms);
        let delta = t.pow(3) * 4 / 10_000_000_000; // 0.4 * (t/1000)^3
        (i128::from(self.origin) + delta).clamp(0, 1 << 24) as u32
    }

    /// How many segments are to be acknowledged for one more.
    fn look(&mut self, window: &Window, ack: &Ack) {
        let mss = window.mss.max(1);
        let segments = (window.cwnd / mss).max(1);
        let ms = ack.now.millis() as u32;
        self.est_credit = self.est_credit.saturating_add(ack.acked);
        if self.epoch.is_some()
            && self.looked_for == window.cwnd
            && ms.wrapping_sub(self.looked_at) <= RECALCULATE_MS
        {
            return;
        }
        (self.looked_at, self.looked_for) = (ms, window.cwnd);
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => {
                self.start_epoch(segments, mss, ms);
                self.est_credit = ack.acked;
                ms
            }
        };
        // Growth toward W_cubic(t + RTT) (RFC 9438 4.4).
        let t = ms.wrapping_sub(epoch).saturating_add(ack.min_rtt / 1000);
        let target = self.target(t);
        self.per_segment = match target.checked_sub(segments) {
            Some(ahead) if ahead > 0 => segments / ahead,
            _ => 100 * segments,
        };
        if self.w_max == 0 {
            self.per_segment = self.per_segment.min(PROBE_SEGMENTS);
        }
        // Reno-friendly region (RFC 9438 4.3): alpha = 3(1-beta)/(1+beta) = 9/17, and 1 from the last window on.
        let fast = self.prior > 0 && self.w_est >= self.prior / mss;
        let step = if fast { segments } else { segments * 15 / 8 }
            .max(1)
            .saturating_mul(mss);
        self.w_est = self.w_est.saturating_add(self.est_credit / step);
        self.est_credit %= step;
        if self.w_est > segments {
            self.per_segment = self.per_segment.min(segments / (self.w_est - segments));
        }
        // At most half a window per round trip.
        self.per_segment = self.per_segment.max(2);
    }

    fn avoid(&mut self, window: &mut Window, acked: u32) {
        let mss = window.mss.max(1);
        let unit = self.per_segment.max(1).saturating_mul(mss);
        if self.credit >= unit {
            // What was gathered at a slower pace counts once.
            self.credit = 0;
            window.cwnd = window.cwnd.saturating_add(mss);
        }
        self.credit = self.credit.saturating_add(acked);
        let grow = self.credit / unit;
        self.credit -= grow * unit;
        window.cwnd = window.cwnd.saturating_add(grow.saturating_mul(mss));
    }

    fn reduce(&mut self, window: &Window, hundredths: u64) -> u32 {
        // Fast convergence (RFC 9438 4.7): leave room when the share is shrinking.
        self.w_max = if window.cwnd < self.w_max {
            (u64::from(window.cwnd) * (10 + BETA) / 20) as u32
        } else {
            window.cwnd
        };
        self.prior = window.cwnd;
        self.epoch = None;
        window.shrunk(window.cwnd, hundredths)
    }
}

impl Algorithm for Cubic {
    fn on_ack(&mut self, window: &mut Window, ack: &Ack) {
        let mut acked = ack.acked;
        if window.in_slow_start() {
            let divisor = self.hystart.on_ack(window, ack);
            if window.in_slow_start() && ack.limited {
                acked = slow_start(window, acked / divisor);
            }
        }
        if acked == 0 || !ack.limited || window.in_slow_start() {
            return;
        }
        self.look(window, &Ack { acked, ..*ack });
        self.avoid(window, acked);
    }

    fn on_loss(&mut self, window: &Window, _flight: u32, _now: Instant) -> u32 {
        self.reduce(window, BETA * 10)
    }

    fn on_mark(&mut self, window: &Window, _flight: u32, _now: Instant) -> u32 {
        self.reduce(window, BETA_ECN)
    }

    fn on_timeout(&mut self, window: &Window, _flight: u32, _now: Instant) -> u32 {
        let ssthresh = self.reduce(window, BETA * 10);
        // RFC 9438 4.8: K will be 0, W_max the window when congestion avoidance begins.
        self.w_max = 0;
        self.hystart = HyStart::default();
        ssthresh
    }

    fn on_idle(&mut self, idle: Duration) {
        // RFC 9438 5.8: the time idle must not count as time to grow.
        let ms = u32::try_from(idle.as_millis()).unwrap_or(u32::MAX);
        self.epoch = self.epoch.map(|epoch| epoch.wrapping_add(ms));
        self.hystart = HyStart::default();
    }

    fn outlives(&self) -> bool {
        self.prior > 0 || self.epoch.is_some()
    }
}
