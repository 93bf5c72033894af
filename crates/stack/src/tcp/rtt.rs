//! Round-trip time and retransmission timeout (RFC 6298), in microseconds.
//!
//! What does not live here: taking samples (`acknowledge`) and arming timers (`timer`).

use core::time::Duration;

use base::Instant;

use super::conn::Conn;
use super::profile::TcpOptions;
use super::record::{Tcb, flag};
use super::segment::Segment;
use super::tunables::TcpTunables;

/// Lower bound of the timeout: Linux's 200 ms instead of RFC 6298's 1 s.
pub(crate) const RTO_MIN: Duration = Duration::from_millis(200);
/// Upper bound (RFC 6298 2.5 allows any >= 60 s; Linux's 120 s).
pub(crate) const RTO_MAX: Duration = Duration::from_secs(120);
/// Before the first sample (RFC 6298 2.1).
pub(crate) const RTO_INITIAL: Duration = Duration::from_secs(1);

/// What the timeout is at least when data begins after a handshake that needed retransmissions and gave no sample
/// (RFC 6298 5.7).
const RTO_AFTER_LOST_SYN: Duration = Duration::from_secs(3);

impl TcpOptions {
    /// The longest timeout of a connection.
    pub(crate) fn rto_max(&self) -> Duration {
        self.rto_max.unwrap_or(RTO_MAX)
    }

    /// The host's settings that sockets keep from when they are made.
    pub(crate) fn settled(&self, tunables: &TcpTunables) -> Self {
        let host = Duration::from_millis(tunables.rto_max_ms.into());
        let mut options = Self {
            rto_max: self.rto_max.or((host != RTO_MAX).then_some(host)),
            ..self.clone()
        };
        options.bound();
        options
    }
}

impl Conn<'_> {
    /// The timeout with backoff, as far as this connection lets it grow.
    pub(crate) fn rto(&self) -> Duration {
        Duration::from_micros(self.rto_micros())
    }

    fn rto_micros(&self) -> u64 {
        let micros = self.tcb.rto_micros(self.tcb.backoff);
        match self.profile.options.rto_max {
            None => micros,
            Some(most) => micros.min(most.as_micros() as u64),
        }
    }

    /// When a timeout that begins now will have passed.
    #[inline]
    pub(crate) fn rto_from(&self, now: Instant) -> Instant {
        Instant::from_nanos(now.nanos().saturating_add(self.rto_micros() * 1_000))
    }

    /// Takes the sample of one ACK, microseconds. There are many in a round trip, and most stray little from those before: so
    /// the variation is the most that they strayed in a round trip, and falls a quarter of the way to it with each (as Linux).
    pub(crate) fn sample_delivery(&mut self, us: u32) {
        let (act, tcb) = (&mut *self.act, &mut *self.tcb);
        let variation = tcb.rttvar;
        if act.deviation > 0 {
            tcb.rttvar = act.deviation;
        }
        let first = act.deviation == 0;
        tcb.sample_rtt(Duration::from_micros(u64::from(us)));
        act.deviation = tcb.rttvar.max(1);
        if first {
            act.rtt_seq = tcb.snd_nxt;
            return;
        }
        act.strayed = act.strayed.max(act.deviation);
        tcb.rttvar = variation.max(act.strayed);
        if tcb.snd_una.gt(act.rtt_seq) {
            tcb.rttvar -= (tcb.rttvar - act.strayed) / 4;
            act.rtt_seq = tcb.snd_nxt;
            act.strayed = 0;
        }
    }
}

impl Tcb {
    /// The handshake is over, after `retries` retransmissions of our SYN: sets the initial window and timeout.
    pub(crate) fn begin(&mut self, retries: u8, options: &TcpOptions) {
        // RFC 5681 3.1: a lost SYN means a window of one segment. RFC 6928 2: one may have been sent again too early.
        let mss = u32::from(self.mss);
        self.cwnd = if retries > 1 {
            mss
        } else {
            options.initial_window(mss)
        };
        if retries > 0 && self.srtt == 0 {
            self.rttvar = RTO_AFTER_LOST_SYN.as_micros() as u32;
        }
    }

    /// Takes the round trip an echoed timestamp tells (RFC 7323 4.1): right even for retransmitted segments, but with only
    /// millisecond grain.
    pub(crate) fn sample_echo(&mut self, now: Instant, seg: &Segment) {
        if self.has(flag::TIMESTAMPS)
            && let Some((_, echoed)) = seg.timestamps
            && echoed != 0
        {
            let ms = self.tsval(now).wrapping_sub(echoed);
            if ms < 1 << 20 {
                self.sample_rtt(Duration::from_millis(u64::from(ms.max(1))));
            }
        }
    }

    /// Takes one sample (RFC 6298 2.2, 2.3): alpha 1/8, beta 1/4.
    pub(crate) fn sample_rtt(&mut self, rtt: Duration) {
        let us = u32::try_from(rtt.as_micros())
            .unwrap_or(u32::MAX)
            .clamp(1, 1 << 27);
        // Not before: a path that has become slow would never be measured (Karn's algorithm, RFC 6298 5).
        self.backoff = 0;
        self.allow_probe();
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

    /// The timeout with backoff (RFC 6298 2.3, 5.5): SRTT + max(RTO_MIN, 4 * RTTVAR), doubled per timeout in a row. Before the
    /// first sample RTTVAR only says whether a SYN was lost.
    pub(crate) fn rto(&self) -> Duration {
        self.rto_after(self.backoff)
    }

    /// The timeout after it was doubled so often.
    pub(crate) fn rto_after(&self, backoff: u8) -> Duration {
        Duration::from_micros(self.rto_micros(backoff))
    }

    fn rto_micros(&self, backoff: u8) -> u64 {
        const MIN: u64 = RTO_MIN.as_micros() as u64;
        const MAX: u64 = RTO_MAX.as_micros() as u64;
        const INITIAL: u64 = RTO_INITIAL.as_micros() as u64;
        let variation = u64::from(self.rttvar);
        let base = match self.srtt {
            0 => INITIAL.max(variation),
            srtt => u64::from(srtt >> 3) + variation.max(MIN),
        };
        (base << backoff.min(16)).clamp(MIN, MAX)
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
