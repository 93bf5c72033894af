//! Congestion window validation: a window that was not used says nothing about the path (RFC 5681 4.1, RFC 2861, RFC 7661's
//! reason, Linux's rules).
//!
//! What does not live here: how the window grows and shrinks otherwise (`congestion`, `recovery`).

use crate::context::Core;

use super::conn::Conn;
use super::record::{NONE, flag};
use super::rtt::RTO_MIN;
use super::tunables::TcpTunables;

impl Conn<'_> {
    /// Sending begins again with nothing in flight: congestion control learns for how long there was nothing, and after a
    /// timeout's time the window is halved for each, down to the initial one.
    pub(crate) fn restart_after_idle(&mut self, core: &mut Core) {
        if self.tcb.outstanding() > 0 || self.act.unsent.is_empty() {
            return;
        }
        let now = core.now.millis() as u32;
        let idle = core::time::Duration::from_millis(now.wrapping_sub(self.tcb.last_sent).into());
        if idle.is_zero() {
            return;
        }
        if self.act.control != NONE
            && let Some(control) = self.controls.at_mut(self.act.control)
        {
            control.algorithm().on_idle(idle);
        }
        if self.has_model() {
            if let Some(model) = self.model() {
                model.on_idle(core.now.micros(), &mut core.rng);
            }
            return;
        }
        if core.tcp.slow_start_after_idle == 0 || idle <= RTO_MIN {
            return;
        }
        let rto = self.rto();
        if idle <= rto {
            return;
        }
        let options = &self.profile.options;
        let least = options
            .initial_window(u32::from(self.tcb.mss))
            .min(self.tcb.cwnd);
        self.remember_window();
        let halvings = (idle.as_micros() / rto.as_micros().max(1)).min(31) as u32;
        self.tcb.cwnd = (self.tcb.cwnd >> halvings).max(least);
        (self.act.used, self.act.used_at) = (0, now);
    }

    /// The way back to three quarters of the window is slow start's (RFC 2861 3.2).
    fn remember_window(&mut self) {
        let most = self.tcb.cwnd / 2 + self.tcb.cwnd / 4;
        self.tcb.ssthresh = self.tcb.ssthresh.max(most);
    }

    /// Remembers for a round trip how far the congestion window was used, the strongest sign of it: that it was the limit, else
    /// the most that was in flight.
    pub(crate) fn note_usage(&mut self, core: &Core, was_limited: bool) {
        let outstanding = self.tcb.outstanding();
        if self.tcb.cwnd.saturating_sub(self.pipe()) < u32::from(self.tcb.mss) {
            self.tcb.flags |= flag::CWND_LIMITED;
        }
        let over = self.act.usage == 0 || self.tcb.snd_una.ge(self.act.usage_end);
        let more = !was_limited && outstanding > self.act.usage;
        if over || more || self.tcb.has(flag::CWND_LIMITED) {
            self.act.usage = outstanding;
            self.act.usage_end = self.tcb.snd_nxt;
        } else if was_limited {
            self.tcb.flags |= flag::CWND_LIMITED;
        }
        if self.has_model() {
            return;
        }
        self.validate(core.now.millis() as u32, &core.tcp);
    }

    /// Whether the window is what limits sending; in slow start, if more than half of it is used (as Linux).
    pub(crate) fn is_limited(&self, flight: u32) -> bool {
        self.tcb.has(flag::CWND_LIMITED)
            || (self.tcb.cwnd < self.tcb.ssthresh
                && self.act.usage.max(flight).saturating_mul(2) > self.tcb.cwnd)
    }

    /// A window that was not filled for a timeout's time shrinks half the way to what was used of it (RFC 2861 3.2).
    fn validate(&mut self, now: u32, tcp: &TcpTunables) {
        if self.act.used_at == 0 || self.is_limited(0) {
            (self.act.used, self.act.used_at) = (0, now.max(1));
            return;
        }
        self.act.used = self.act.used.max(self.tcb.outstanding());
        let since = now.wrapping_sub(self.act.used_at);
        // Most are within the least timeout there is.
        let soon = u128::from(since) < RTO_MIN.as_millis();
        if tcp.slow_start_after_idle == 0 || soon || u128::from(since) < self.rto().as_millis() {
            return;
        }
        let first = self.profile.options.initial_window(u32::from(self.tcb.mss));
        let used = self.act.used.max(first);
        if !self.repairing() && !self.tcb.has(flag::WANT_WRITE) && used < self.tcb.cwnd {
            self.remember_window();
            self.tcb.cwnd = u32::midpoint(self.tcb.cwnd, used);
        }
        (self.act.used, self.act.used_at) = (0, now.max(1));
    }
}
