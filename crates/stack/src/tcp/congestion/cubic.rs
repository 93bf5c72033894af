//! CUBIC (RFC 9438): the window grows as a cubic of the time since the last reduction, in integer arithmetic.
//!
//! What does not live here: HyStart++, which belongs to the next part.

use core::time::Duration;

use base::Instant;

use super::{Ack, Algorithm, Window, slow_start};

/// beta_cubic = 0.7 (RFC 9438 4.6), in tenths.
const BETA: u64 = 7;

/// State since the last reduction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cubic {
    /// W_max, bytes: the window before the last reduction.
    w_max: u32,
    /// W_est, bytes: what Reno would have (RFC 9438 4.3).
    w_est: u32,
    /// Millisecond (low 32 bits) when the current congestion avoidance epoch began; `None` until the first ACK in it.
    epoch: Option<u32>,
    /// K in milliseconds: when the cubic reaches `w_max`.
    k_ms: u32,
    /// Bytes acknowledged that have not yet moved the window.
    credit: u32,
    /// Bytes acknowledged that have not yet moved `w_est`.
    est_credit: u64,
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
    fn start_epoch(&mut self, window: &Window, now: Instant) {
        self.epoch = Some(now.millis() as u32);
        self.w_est = window.cwnd;
        self.credit = 0;
        self.est_credit = 0;
        if window.cwnd < self.w_max {
            // K = cbrt((W_max - cwnd) / C) in segments and seconds, C = 0.4; in milliseconds: cbrt(x * 10^9).
            let segments_milli =
                u64::from(self.w_max - window.cwnd) * 1000 / u64::from(window.mss.max(1));
            self.k_ms = cube_root(segments_milli * 1_000_000 * 10 / 4) as u32;
        } else {
            self.k_ms = 0;
            self.w_max = window.cwnd;
        }
    }

    /// W_cubic(t) of RFC 9438 (1), bytes.
    fn target(&self, window: &Window, t: Duration) -> u32 {
        let t = i64::try_from(t.as_millis())
            .unwrap_or(i64::MAX)
            .min(1_000_000)
            - i64::from(self.k_ms);
        // 0.4 * (t/1000)^3 * MSS
        let delta = i128::from(t).pow(3) * 4 * i128::from(window.mss) / 10_000_000_000;
        (i128::from(self.w_max) + delta).clamp(0, i128::from(u32::MAX / 2)) as u32
    }

    fn reduce(&mut self, window: &Window, flight: u32) -> u32 {
        // Fast convergence (RFC 9438 4.7): leave room when the share is shrinking.
        self.w_max = if window.cwnd < self.w_max {
            (u64::from(window.cwnd) * (10 + BETA) / 20) as u32
        } else {
            window.cwnd
        };
        self.epoch = None;
        ((u64::from(flight.min(window.cwnd)) * BETA / 10) as u32).max(2 * window.mss)
    }
}

impl Algorithm for Cubic {
    fn on_ack(&mut self, window: &mut Window, ack: &Ack) {
        let acked = slow_start(window, ack.acked);
        if acked == 0 || window.in_slow_start() {
            return;
        }
        if self.epoch.is_none() {
            self.start_epoch(window, ack.now);
        }
        let ms = ack.now.millis() as u32;
        let t = Duration::from_millis(ms.wrapping_sub(self.epoch.unwrap_or(ms)).into());
        // Reno-friendly region (RFC 9438 4.3): alpha = 3(1-beta)/(1+beta) = 9/17 until W_est reaches the last cwnd.
        let (num, den) = if self.w_est < self.w_max {
            (9, 17)
        } else {
            (1, 1)
        };
        self.est_credit += u64::from(acked);
        let (rise, run) = (
            u64::from(window.mss) * num,
            u64::from(window.cwnd.max(1)) * den,
        );
        let grow = self.est_credit * rise / run;
        self.est_credit -= (grow * run / rise).min(self.est_credit);
        self.w_est = self.w_est.saturating_add(grow as u32);
        // Growth toward W_cubic(t + RTT), at most half a window per round trip (RFC 9438 4.4).
        let target = self
            .target(window, t + ack.srtt)
            .clamp(window.cwnd, window.cwnd.saturating_add(window.cwnd / 2));
        self.credit = self.credit.saturating_add(acked);
        let step = u64::from(target - window.cwnd) * u64::from(self.credit)
            / u64::from(window.cwnd.max(1));
        if step > 0 {
            window.cwnd = window.cwnd.saturating_add(step as u32);
            self.credit = 0;
        }
        window.cwnd = window
            .cwnd
            .max(self.w_est.min(window.cwnd.saturating_add(acked)));
    }

    fn on_loss(&mut self, window: &Window, flight: u32, _now: Instant) -> u32 {
        self.reduce(window, flight)
    }

    fn on_timeout(&mut self, window: &Window, flight: u32, _now: Instant) -> u32 {
        let ssthresh = self.reduce(window, flight);
        self.w_max = 0; // RFC 9438 4.8: K will be 0, W_max the window when congestion avoidance begins
        ssthresh
    }

    fn on_idle(&mut self) {
        // RFC 9438 5.8: the time idle must not count as time to grow.
        self.epoch = None;
    }
}
