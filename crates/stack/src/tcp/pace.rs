//! Pacing: frames leave in the rhythm of a rate, if the socket asks for it, and are no longer than what that rate sends in a
//! millisecond (Linux's `tcp_pacing_ss_ratio`, `tcp_pacing_ca_ratio`, `tcp_min_tso_segs`, SO_MAX_PACING_RATE).
//!
//! What does not live here: how much may be in flight (`output`, `validate`).
//!
//! Invariant: without pacing nothing here runs but [`Conn::frame_limit`], for ports that segment.

use core::time::Duration;

use base::Instant;

use super::congestion::Congestion;
use super::conn::Conn;
use super::output::super_frame;
use super::profile::TcpOptions;
use super::record::{Tcb, more};
use super::tunables::TcpTunables;

/// Round trips shorter than this, microseconds, need no short frames: ACKs come soon enough (Linux's `tcp_tso_rtt_log`).
const SHORT: u32 = 512;

impl TcpOptions {
    /// Whether frames leave at a rate.
    #[inline]
    pub(crate) fn paces(&self) -> bool {
        self.pacing || self.max_pacing_rate != u64::MAX || self.algorithm() == Congestion::Bbr
    }
}

impl Tcb {
    /// Bytes a second, at `most`: more than a window in each round trip, so that the window decides and not the rate.
    pub(crate) fn pacing_rate(&self, tcp: &TcpTunables, most: u64) -> u64 {
        if self.srtt == 0 {
            return most;
        }
        let early = self.cwnd < self.ssthresh / 2;
        let percent = if early {
            tcp.pacing_ss_ratio
        } else {
            tcp.pacing_ca_ratio
        };
        let window = u64::from(self.cwnd.max(self.outstanding()));
        // The smoothed round trip is kept in eighths of a microsecond.
        (window * u64::from(percent) * 80_000 / u64::from(self.srtt)).min(most)
    }
}

impl Conn<'_> {
    pub(crate) fn pacing_rate(&self, tcp: &TcpTunables) -> u64 {
        let most = self.profile.options.max_pacing_rate;
        match self.model_rate() {
            Some(rate) => rate.min(most),
            None => self.tcb.pacing_rate(tcp, most),
        }
    }

    /// The longest payload of a frame that the device cuts: what leaves in about a millisecond, and more on short paths.
    pub(crate) fn frame_limit(&self, tcp: &TcpTunables) -> u32 {
        let mss = u32::from(self.tcb.mss);
        let min_rtt = match self.act.rack.min_rtt {
            0 => self.tcb.srtt >> 3,
            known => known,
        };
        if min_rtt < SHORT {
            return super_frame(mss);
        }
        let extra = 65_536u32.checked_shr(min_rtt / SHORT).unwrap_or(0);
        let bytes = (self.pacing_rate(tcp) >> 10).saturating_add(extra.into());
        let segments = (bytes / u64::from(mss)).clamp(tcp.min_tso_segs.into(), 65_535);
        (segments as u32).saturating_mul(mss).min(super_frame(mss))
    }

    /// Whether the next frame is to wait; its timer brings it then.
    pub(crate) fn held_back(&mut self, now: Instant) -> bool {
        self.act.paced = self.act.pace_at > now && self.tcb.more & more::PACED != 0;
        self.act.paced
    }

    /// So many bytes leave now: the next may when the rate allows. What timers were late by is given back, half of the time at
    /// most (as Linux).
    pub(crate) fn pace(&mut self, now: Instant, tcp: &TcpTunables, bytes: u32) {
        let rate = self.pacing_rate(tcp);
        if self.tcb.more & more::PACED == 0 || rate == 0 || rate == u64::MAX {
            self.act.pace_at = now;
            return;
        }
        let time = Duration::from_nanos(u64::from(bytes) * 1_000_000_000 / rate);
        let late = now.max(self.act.pace_at) - self.act.pace_at;
        self.act.pace_at = now.max(self.act.pace_at) + (time - late.min(time / 2));
    }
}
