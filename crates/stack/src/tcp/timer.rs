//! Deadlines of connections: retransmission, persist, delayed ACK, keepalive, FIN-WAIT-2 (RFC 6298, RFC 9293 3.8).
//!
//! A connection has at most one armed timer. It is moved lazily: armed for the earliest deadline known, left alone when that
//! moves later, armed again when it goes off early.
//!
//! What does not live here: the wheel (`base`), TIME-WAIT's queue (`time_wait`), half-open connections (`listen`).

use core::time::Duration;

use base::Instant;

use crate::context::{Core, TimerKind};
use crate::net::Net;
use crate::socket::Ready;
use crate::stats::Count;

use super::Tcp;
use super::conn::{Conn, Outcome};
use super::profile::TcpOptions;
use super::record::{Active, NONE, State, Tcb, flag};
use super::rtt::{RTO_INITIAL, RTO_MAX};
use super::tunables::TcpTunables;

/// R2 of connections nobody owns any more, unless `orphan_retries` says another.
const RETRIES_ORPHAN: u32 = 8;
/// How often one looks whether an interface takes frames again (Linux's TCP_RESOURCE_PROBE_INTERVAL).
const LOCAL_PROBE: Duration = Duration::from_millis(500);
/// The longest `TcpOptions::linger2`, as Linux.
const FIN_TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// Arms or moves the timer of connection `index` if its earliest deadline demands it.
#[inline]
pub(crate) fn sync(core: &mut Core, tcb: &mut Tcb, act: &Active, index: u32) {
    let deadline = act.deadline();
    if deadline != Instant::FAR {
        arm_no_later(core, tcb, deadline, index);
    }
}

/// Makes sure the timer goes off at `deadline` or before.
pub(crate) fn arm_no_later(core: &mut Core, tcb: &mut Tcb, deadline: Instant, index: u32) {
    if tcb.timer.is_none() {
        tcb.timer = core
            .arm(deadline, TimerKind::Tcp, index, 0)
            .unwrap_or(base::TimerId::NONE);
    } else if core
        .wheel
        .deadline(tcb.timer)
        .is_some_and(|armed| armed > deadline)
    {
        core.wheel.rearm(tcb.timer, deadline);
    }
}

impl Tcb {
    /// A SYN or FIN of ours is not acknowledged, or not even sent: nobody else asks for it.
    pub(crate) fn owes(&self) -> bool {
        matches!(
            self.state,
            State::SynSent | State::SynReceived | State::FinWait1 | State::Closing | State::LastAck
        )
    }

    /// R2 of RFC 9293 3.8.3 (MUST-20): timeouts in a row before a connection is given up.
    fn retries(&self, tunables: &TcpTunables, options: &TcpOptions) -> u8 {
        let most = match self.state {
            State::SynSent | State::SynReceived => {
                options.syn_retries(tunables) + tunables.syn_linear_timeouts
            }
            _ if !self.has(flag::ORPHAN) => tunables.retries2,
            _ if tunables.orphan_retries == 0 => RETRIES_ORPHAN,
            _ => tunables.orphan_retries,
        };
        u8::try_from(most).unwrap_or(u8::MAX)
    }

    /// When what is sent now is to be sent again: a SYN at its first pace for some timeouts (`syn_linear_timeouts`), all else
    /// with backoff (RFC 6298 5.5).
    pub(crate) fn patience(&self, tunables: &TcpTunables) -> Duration {
        match self.state {
            State::SynSent | State::SynReceived => {
                let spared = u8::try_from(tunables.syn_linear_timeouts).unwrap_or(u8::MAX);
                self.rto_after(self.backoff.saturating_sub(spared))
            }
            _ => self.rto(),
        }
    }
}

impl TcpOptions {
    /// How often a SYN is sent again, beside those at its first pace.
    fn syn_retries(&self, tunables: &TcpTunables) -> u32 {
        self.syn_retries.map_or(tunables.syn_retries, u32::from)
    }

    /// When a SYN is given up whatever came of its retries: the time these would take if all of them doubled (Linux's
    /// `tcp_model_timeout`), so that a few retries are some seconds though the first ones do not double.
    fn syn_time(&self, tunables: &TcpTunables) -> Duration {
        let (retries, most) = (self.syn_retries(tunables), self.rto_max());
        let doubled = retries.min((most.as_secs() / RTO_INITIAL.as_secs()).max(1).ilog2());
        let doubling = RTO_INITIAL.saturating_mul((2 << doubled) - 1);
        doubling.saturating_add(most.saturating_mul(retries - doubled))
    }

    /// How long FIN-WAIT-2 lasts once nobody can read.
    pub(super) fn fin_timeout(&self, tunables: &TcpTunables) -> Duration {
        let host = tunables.fin_timeout();
        self.linger2.map_or(host, |own| own.min(FIN_TIMEOUT_MAX))
    }
}

impl Tcp {
    /// The timer of connection `index` went off.
    pub(crate) fn on_timer(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        tcb.timer = base::TimerId::NONE;
        if tcb.state == State::Closed {
            return;
        }
        let orphaned_fin_wait = tcb.state == State::FinWait2 && tcb.has(flag::ORPHAN);
        if orphaned_fin_wait {
            // The timer may be an earlier one's: only its own minute ends it.
            let waited = (core.now.millis() as u32).wrapping_sub(tcb.last_sent);
            let options = &self.profiles.get(tcb.profile).options;
            let most = options.fin_timeout(&core.tcp);
            let left = most.saturating_sub(Duration::from_millis(u64::from(waited)));
            if left.is_zero() {
                return self.dissolve(core, index, None);
            }
            let again = core.now + left;
            arm_no_later(core, tcb, again, index);
        }
        let idle = tcb.is_idle();
        if self.is_too_much(core, index) && self.is_late(core, index) {
            return self.abort_for_memory(core, net, index);
        }
        let Some(tcb) = self.conns.at(index) else {
            return;
        };
        if idle && tcb.owes() {
            return self.wait_to_send(core, net, index);
        }
        let profile = self.profiles.get(tcb.profile);
        if idle && profile.options.keepalive.is_none() {
            return;
        }
        let fast = self.fast_timeouts(index);
        if core.tcp.mtu_probing > 0 {
            self.look_for_mtu_black_hole(core, index);
        }
        let Some(mut conn) = self.conn(index) else {
            return;
        };
        let outcome = conn.on_deadline(core);
        if outcome.end == super::End::Lives {
            sync(core, conn.tcb, conn.act, index);
            if let Some(at) = conn.keepalive_at(core.now) {
                arm_no_later(core, conn.tcb, at, index);
            }
        }
        let ended = matches!(outcome.end, super::End::Closed(Some(_)));
        if let Some(before) = fast {
            self.look_for_black_hole(core, index, before, ended);
        }
        if ended {
            core.count(Count::TcpGivenUp);
            self.reset_peer(core, net, index);
        }
        self.conclude(core, net, index, outcome);
    }

    /// Whether the peer has not acknowledged anything, or taken any more, for a timeout.
    fn is_late(&self, core: &Core, index: u32) -> bool {
        let active = self.conns.at(index).map_or(NONE, |tcb| tcb.active);
        let act = self.actives.at(active);
        act.is_some_and(|act| act.rto_at <= core.now)
    }

    /// A SYN or FIN could not be sent yet, for want of an active part or of an interface that takes frames: it is tried again,
    /// and given up, as if it had been lost.
    #[cold]
    fn wait_to_send(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        let options = &self.profiles.get(tcb.profile).options;
        if tcb.backoff >= tcb.retries(&core.tcp, options) {
            core.count(Count::TcpGivenUp);
            let outcome = tcb.timed_out();
            self.reset_peer(core, net, index);
            return self.conclude(core, net, index, outcome);
        }
        tcb.backoff += 1;
        let again = core.now + tcb.patience(&core.tcp).min(options.rto_max());
        arm_no_later(core, tcb, again, index);
        self.queue_send(index);
    }

    /// Arms the keepalive of a connection that has just been given it, or has just been established with it.
    pub(crate) fn start_keepalive(&mut self, core: &mut Core, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        if tcb.state != State::Closed
            && let Some(keepalive) = self.profiles.get(tcb.profile).options.keepalive
        {
            tcb.last_received = core.now.millis() as u32;
            arm_no_later(core, tcb, core.now + keepalive.idle, index);
        }
    }
}

impl Tcp {
    /// A connection that is not to be probed any more, and has nothing else to do, has no timer.
    pub(super) fn stop_keepalive(&mut self, core: &mut Core, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        let probed = self.profiles.get(tcb.profile).options.keepalive.is_some();
        if !probed && tcb.is_idle() && !tcb.owes() {
            core.wheel
                .cancel(core::mem::replace(&mut tcb.timer, base::TimerId::NONE));
        }
    }
}

impl Conn<'_> {
    fn on_deadline(&mut self, core: &mut Core) -> Outcome {
        let mut outcome = Outcome::default();
        if self.act.ack_at <= core.now {
            self.act.ack_at = Instant::FAR;
            if self.tcb.has(flag::ACK_DELAYED) {
                self.ack_timer();
                outcome.send = true;
            }
        }
        if self.act.paced && self.act.pace_at <= core.now {
            self.act.paced = false;
            outcome.send = true;
        }
        if self.act.early_at <= core.now {
            outcome.send |= self.on_early_timer(core.now);
        }
        if self.act.rto_at <= core.now {
            self.act.rto_at = Instant::FAR;
            let mut due = self.on_retransmission_timer(core);
            due.send |= outcome.send;
            return due;
        }
        if self.keepalive_at(core.now).is_some_and(|at| at <= core.now) {
            return self.on_keepalive(core);
        }
        outcome
    }

    /// The retransmission timer, or the persist timer when nothing is in flight.
    fn on_retransmission_timer(&mut self, core: &mut Core) -> Outcome {
        if self.tcb.opening() {
            return self.on_opening_timer(core);
        }
        if self.gives_up(core) {
            return self.tcb.timed_out();
        }
        if matches!(self.tcb.state, State::SynSent | State::SynReceived) {
            if let Some(ledger) = &mut self.ledger {
                ledger.timed_out(core.now, self.tcb.backoff == 0);
            }
            self.tcb.backoff = self.tcb.backoff.saturating_add(1);
            self.act.rto_at = self.within_limit(core.now + self.patience_to_send(&core.tcp));
            self.tcb.flags |= flag::RETRANSMIT;
            return Outcome::SEND;
        }
        if self.tcb.outstanding() > 0 {
            self.timeout(core);
            self.act.rto_at = self.next_timeout(core.now);
        } else if !self.act.unsent.is_empty() || self.fin_due() {
            // The window is closed, or too small for the rules; or there was no route, no memory, no interface that takes frames.
            if self.override_window_rules() {
                self.tcb.flags |= flag::OVERRIDE;
            } else if self.tcb.snd_wnd == 0 {
                self.tcb.flags |= flag::PROBE;
                core.count(Count::TcpWindowProbes);
            }
            self.tcb.probes = self.tcb.probes.saturating_add(1);
            if self.tcb.has(flag::SEND_QUEUED) && self.profile.options.user_timeout.is_some() {
                // It is not the peer: the interface takes nothing. As Linux, the user's limit runs from here, and is looked at
                // often.
                self.act.stuck_since = self.act.stuck_since.min(core.now);
                self.act.rto_at = self.within_limit(core.now + LOCAL_PROBE);
                return Outcome::SEND;
            }
            // RFC 9293 3.8.6.1 (MUST-36): first probe after one RTO, then backed off exponentially.
            self.tcb.backoff = self.tcb.backoff.saturating_add(1);
            self.act.rto_at = self.next_timeout(core.now);
        } else if self.tcb.has(flag::WANT_WRITE) {
            // The pool was empty, and no ACK of ours will come to say that it is not any more.
            self.tcb.flags &= !flag::WANT_WRITE;
            return Outcome {
                raise: Ready::WRITABLE,
                ..Outcome::default()
            };
        }
        Outcome::SEND
    }

    /// R2 of RFC 9293 3.8.3 (MUST-20): too many timeouts, or the user's limit. A peer that answers probes with a closed window
    /// is alive, and is waited for (MUST-37): its ACKs take `probes` back. But not for ever once the application has
    /// closed: then only until the timeout can grow no more, as on Linux.
    fn gives_up(&self, core: &Core) -> bool {
        let now = core.now;
        let stuck = now - self.act.stuck_since;
        if self.act.stuck_since != Instant::FAR
            && let Some(limit) = self.profile.options.user_timeout
        {
            return stuck >= limit;
        }
        let most = self.tcb.retries(&core.tcp, &self.profile.options);
        let orphan = self.tcb.has(flag::ORPHAN);
        if matches!(self.tcb.state, State::SynSent | State::SynReceived) {
            let options = &self.profile.options;
            let began = self.act.stuck_since != Instant::FAR;
            self.tcb.backoff >= most || (began && stuck >= options.syn_time(&core.tcp))
        } else if self.tcb.outstanding() > 0 {
            // A peer that closed its window on what is in flight, and says so, is alive too.
            let silent = (now.millis() as u32).wrapping_sub(self.tcb.last_received);
            let waits = self.tcb.snd_wnd == 0 && u128::from(silent) < 2 * RTO_MAX.as_millis();
            self.act.timeouts >= most && (orphan || !waits)
        } else {
            self.tcb.probes >= most
                || (orphan
                    && self.tcb.backoff >= most
                    && self.rto() >= self.profile.options.rto_max())
        }
    }

    /// [`Tcb::patience`], as far as this connection lets it grow.
    pub(crate) fn patience_to_send(&self, tunables: &TcpTunables) -> Duration {
        let most = self.profile.options.rto_max();
        self.tcb.patience(tunables).min(most)
    }

    /// When the timer is due next: not after the user's limit.
    pub(crate) fn next_timeout(&self, now: Instant) -> Instant {
        self.within_limit(self.rto_from(now))
    }

    fn within_limit(&self, at: Instant) -> Instant {
        match self.profile.options.user_timeout {
            Some(limit) if self.act.stuck_since != Instant::FAR => {
                at.min(self.act.stuck_since + limit)
            }
            _ => at,
        }
    }

    /// When the next keepalive probe is due; `None` when none is to be sent. Only idle connections are probed (MUST-26).
    pub(crate) fn keepalive_at(&self, now: Instant) -> Option<Instant> {
        let keepalive = self.profile.options.keepalive?;
        let established = matches!(
            self.tcb.state,
            State::Established | State::CloseWait | State::FinWait2
        );
        if !established
            || self.tcb.opening()
            || self.tcb.outstanding() > 0
            || !self.act.unsent.is_empty()
        {
            return None;
        }
        let silent = Duration::from_millis(u64::from(
            (now.millis() as u32).wrapping_sub(self.tcb.last_received),
        ));
        let between = keepalive
            .interval
            .saturating_mul(u32::from(self.tcb.probes));
        let due = keepalive.idle.saturating_add(between);
        Some(now + due.saturating_sub(silent))
    }

    fn on_keepalive(&mut self, core: &mut Core) -> Outcome {
        let limit = self.profile.options.keepalive.map_or(u8::MAX, |k| k.probes);
        if self.tcb.probes >= limit {
            return self.tcb.timed_out();
        }
        self.tcb.probes += 1;
        self.tcb.flags |= flag::PROBE;
        core.count(Count::TcpKeepaliveProbes);
        Outcome::SEND
    }
}

#[cfg(test)]
mod tests {
    use crate::tcp::conn_tests::{Bench, core};

    use super::*;

    /// A writer who is called back does not make the ACK forgotten that is due at the same time.
    #[test]
    fn two_deadlines_at_once_are_both_kept() {
        let mut core = core();
        let mut bench = Bench::new(1000);
        let conn = &mut bench.conn();
        conn.tcb.snd_nxt = conn.tcb.snd_una;
        conn.tcb.flags |= flag::ACK_DELAYED | flag::WANT_WRITE;
        conn.act.ack_at = core.now;
        conn.act.rto_at = core.now;
        let outcome = conn.on_deadline(&mut core);
        assert!(outcome.send && outcome.raise == Ready::WRITABLE);
        assert!(conn.tcb.has(flag::ACK_NOW));
    }
}
