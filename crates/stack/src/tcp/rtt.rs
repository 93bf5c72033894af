//! Round-trip time and retransmission timeout (RFC 6298), in microseconds.
//!
//! What does not live here: taking samples (`acknowledge`) and arming timers (`timer`).

use core::time::Duration;

use super::record::Tcb;

/// Lower bound of the timeout: Linux's 200 ms instead of RFC 6298's 1 s.
pub(crate) const RTO_MIN: Duration = Duration::from_millis(200);
/// Upper bound (RFC 6298 2.5 allows any >= 60 s; Linux's 120 s).
pub(crate) const RTO_MAX: Duration = Duration::from_secs(120);
/// Before the first sample (RFC 6298 2.1).
pub(crate) const RTO_INITIAL: Duration = Duration::from_secs(1);

impl Tcb {
    /// Takes one sample (RFC 6298 2.2, 2.3): alpha 1/8, beta 1/4.
    pub(crate) fn sample_rtt(&mut self, rtt: Duration) {
        let us = u32::try_from(rtt.as_micros())
            .unwrap_or(u32::MAX)
            .clamp(1, 1 << 27);
        if self.srtt == 0 {
            self.srtt = us << 3;
            self.rttvar = us << 1;
        } else {
            let error = i64::from(us) - i64::from(self.srtt >> 3);
            self.srtt = (i64::from(self.srtt) + error).clamp(1, i64::from(u32::MAX)) as u32;
            self.rttvar = (i64::from(self.rttvar) + error.abs() - i64::from(self.rttvar >> 2))
                .clamp(1, i64::from(u32::MAX)) as u32;
        }
    }

    /// The smoothed round-trip time; zero before the first sample.
    pub(crate) fn srtt(&self) -> Duration {
        Duration::from_micros(u64::from(self.srtt >> 3))
    }

    /// The timeout with backoff (RFC 6298 2.3, 5.5): SRTT + max(RTO_MIN, 4 * RTTVAR), doubled per timeout in a row.
    pub(crate) fn rto(&self) -> Duration {
        let base = if self.srtt == 0 {
            RTO_INITIAL
        } else {
            self.srtt() + Duration::from_micros(u64::from(self.rttvar)).max(RTO_MIN)
        };
        base.saturating_mul(1 << u32::from(self.backoff.min(16)))
            .clamp(RTO_MIN, RTO_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::record::tests::tcb;

    #[test]
    fn first_sample_sets_variation_to_half() {
        let mut t = tcb();
        assert_eq!(t.rto(), RTO_INITIAL);
        t.sample_rtt(Duration::from_millis(100));
        assert_eq!(t.srtt(), Duration::from_millis(100));
        assert_eq!(t.rto(), Duration::from_millis(300));
    }

    #[test]
    fn steady_samples_converge_and_backoff_doubles_to_the_limit() {
        let mut t = tcb();
        for _ in 0..200 {
            t.sample_rtt(Duration::from_millis(50));
        }
        assert_eq!(t.srtt(), Duration::from_millis(50));
        assert_eq!(t.rto(), Duration::from_millis(250));
        t.backoff = 3;
        assert_eq!(t.rto(), Duration::from_millis(2000));
        t.backoff = 15;
        assert_eq!(t.rto(), RTO_MAX);
    }
}
