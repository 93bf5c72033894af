//! RACK-TLP (RFC 8985): what time has made lost, and probes of the tail.
//!
//! Whatever was sent before something that has been delivered, and by more than a reordering window, is lost. That covers lost
//! retransmissions, and needs no count of segments. When nothing comes that could tell, a probe asks for it before the
//! retransmission timer would.
//!
//! What does not live here: the lists (`sent`), what follows from a loss (`recovery`), and connections without SACK, which have
//! NewReno.

use core::time::Duration;

use base::{Instant, Seq};

use crate::context::Core;
use crate::stats::Count;

use super::conn::Conn;
use super::record::{Repair, Tcb, flag};
use super::recovery::{DUP_THRESH, Episode};
use super::sent::{Delivery, sent_after};

/// RFC 8985 6.2 step 4: recoveries for which a widened window stays.
const PERSIST: u8 = 16;
/// How long a minimum of the round trip is believed (Linux's tcp_min_rtt_wlen).
const MIN_RTT_SECONDS: u16 = 300;
/// The longest a peer may delay the ACK of a single segment (RFC 8985 7.2, Linux's value).
const WORST_ACK_DELAY: Duration = Duration::from_millis(200);
/// A probe for more than one segment: 2 ms for timers that tick, as Linux.
const PROBE_SLACK: Duration = Duration::from_millis(2);

/// In [`Tcb::reordering`]: a probe has left since the round trip was last measured.
const PROBED: u8 = 0x80;

impl Tcb {
    /// How far segments were seen out of order, in segments; 0: never.
    pub(crate) fn reordering(&self) -> u8 {
        self.reordering & !PROBED
    }

    fn note_reordering(&mut self, segments: u32) {
        let segments = u8::try_from(segments).unwrap_or(u8::MAX).min(!PROBED);
        let most = self.reordering().max(segments);
        self.reordering = self.reordering & PROBED | most;
    }

    /// The round trip was measured: there may be a probe again.
    pub(crate) fn allow_probe(&mut self) {
        self.reordering &= !PROBED;
    }

    /// RFC 8985 7.3: one probe for each measurement, or one that grows would never be taken (Karn).
    fn may_probe(&self) -> bool {
        self.srtt != 0 && self.reordering & PROBED == 0
    }
}

/// What a connection remembers for RACK.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rack {
    /// When the most recently sent of what was delivered was sent, and its end.
    latest: (u32, Seq),
    /// The round trip of what was delivered last, microseconds; `NO_SAMPLE` before the first.
    pub(crate) rtt: u32,
    /// The shortest round trip lately, microseconds; 0: none.
    pub(crate) min_rtt: u32,
    /// Second (low 16 bits) when it was measured.
    min_rtt_since: u16,
    /// What `Active::early_at` is for.
    pub(crate) early: Early,
    probe: Probe,
    /// The highest number sent with the probe whose answer is awaited (RFC 8985 7.3).
    probe_end: Seq,
}

/// How the reordering window adapts (RFC 8985 6.2 step 4), from the first loss on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adapt {
    /// RACK.dsack_round: the window is widened once a round trip.
    round: Seq,
    /// RACK.reo_wnd_mult, from 1.
    mult: u8,
    /// RACK.reo_wnd_persist: recoveries until it is small again.
    persist: u8,
}

impl Default for Adapt {
    fn default() -> Self {
        Self {
            round: Seq(0),
            mult: 1,
            persist: 0,
        }
    }
}

const NO_SAMPLE: u32 = u32::MAX;

impl Default for Rack {
    fn default() -> Self {
        Self {
            latest: (0, Seq(0)),
            rtt: NO_SAMPLE,
            min_rtt: 0,
            min_rtt_since: 0,
            early: Early::None,
            probe: Probe::None,
            probe_end: Seq(0),
        }
    }
}

/// What the timer before the retransmission timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    None,
    /// RFC 8985 6.3: a reordering window ends.
    Reordering,
    /// RFC 8985 7.2: a probe of the tail.
    Probe,
    /// It was due: the transmit pass sends it.
    ProbeDue,
    /// Nothing is in flight, but what was sent again may yet be reported as a duplicate (`undo`).
    Duplicates,
}

/// A probe under way (RFC 8985 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    None,
    /// It carried new data.
    New,
    /// It carried the last segment again.
    Again,
}

impl Conn<'_> {
    /// What newly delivered data says about now is gathered in this.
    pub(crate) fn delivery(&self, now: Instant, echo: Option<u32>) -> Delivery {
        Delivery {
            now: now.micros(),
            stamp: self.tcb.tsval(now),
            echo: echo.filter(|echo| self.tcb.has(flag::TIMESTAMPS) && *echo != 0),
            min_rtt: match self.act.rack.min_rtt {
                0 => self.tcb.srtt >> (3 + 1), // none since it was idle
                known => known,
            },
            recover: self.act.recover,
            fack: self.fack(),
            counts: self.ledger.is_some() || self.acc_ecn.is_some(),
            segments: 0,
            bytes: 0,
            latest: None,
            rtt: 0,
            oldest: 0,
            original: false,
            again: false,
            reordered: 0,
        }
    }

    /// RACK.fack: the highest number delivered.
    fn fack(&self) -> Seq {
        let highest = self.nodes.at(self.act.flight.highest());
        highest.map_or(self.tcb.snd_una, |sent| sent.end)
    }

    /// RFC 8985 6.2 steps 1 to 3.
    pub(crate) fn delivered(&mut self, delivery: &Delivery) {
        let rack = &mut self.act.rack;
        if let Some(latest) = delivery.latest {
            if rack.rtt == NO_SAMPLE || sent_after(latest, rack.latest) {
                rack.latest = latest;
            }
            rack.rtt = delivery.rtt;
        }
        if delivery.reordered > 0 {
            self.note_disorder(delivery.reordered);
        }
    }

    /// An original came so many bytes behind the highest delivered: RACK.reordering_seen, and how far.
    pub(crate) fn note_disorder(&mut self, bytes: u32) {
        if !self.tcb.has(flag::SACK) {
            return;
        }
        let segments = bytes.div_ceil(u32::from(self.tcb.mss).max(1));
        self.tcb.note_reordering(segments);
        if let Some(ledger) = &mut self.ledger {
            ledger.reordered();
        }
    }

    /// The minimum of the round trip over some minutes (RFC 8985 6.2 step 1).
    pub(crate) fn note_min_rtt(&mut self, now: Instant, us: u32) {
        let (rack, second) = (&mut self.act.rack, now.secs() as u16);
        if rack.min_rtt == 0
            || us <= rack.min_rtt
            || second.wrapping_sub(rack.min_rtt_since) > MIN_RTT_SECONDS
        {
            (rack.min_rtt, rack.min_rtt_since) = (us.max(1), second);
        }
    }

    /// RACK_update_reo_wnd (RFC 8985 6.2 step 4): a D-SACK says that the window was too small.
    pub(crate) fn widen_reordering(&mut self) {
        let (una, next) = (self.tcb.snd_una, self.tcb.snd_nxt);
        if let Some(Episode { adapt, .. }) = self.episode()
            && (adapt.persist == 0 || una.ge(adapt.round))
        {
            *adapt = Adapt {
                round: next,
                mult: adapt.mult.saturating_add(1),
                persist: PERSIST,
            };
        }
    }

    /// A recovery has ended: after enough of them without a D-SACK the window is the small one again.
    pub(crate) fn recovery_ended(&mut self) {
        if let Some(Episode { adapt, .. }) = self.episode() {
            adapt.persist = adapt.persist.saturating_sub(1);
            if adapt.persist == 0 {
                adapt.mult = 1;
            }
        }
    }

    /// The reordering window in microseconds (RFC 8985 6.2 step 4).
    fn reordering_window(&self) -> u32 {
        if self.tcb.reordering() == 0 {
            let enough = self.act.flight.sacked > (DUP_THRESH - 1) * u32::from(self.tcb.mss)
                || u32::from(self.act.dup_acks) >= DUP_THRESH;
            if self.repairing() || enough {
                return 0;
            }
        }
        let rack = &self.act.rack;
        let srtt = match self.tcb.srtt >> 3 {
            0 => rack.rtt,
            known => known,
        };
        let min = if rack.min_rtt > 0 { rack.min_rtt } else { srtt };
        let mult = self
            .episodes
            .at(self.act.episode)
            .map_or(1, |e| e.adapt.mult);
        (min / 4).saturating_mul(u32::from(mult)).min(srtt)
    }

    /// How long ago something must have been sent to be lost, when something sent later is delivered.
    pub(crate) fn patience(&self) -> u32 {
        match self.act.rack.rtt {
            NO_SAMPLE if self.tcb.has(flag::SACK) => self.tcb.srtt >> 3,
            NO_SAMPLE => 0,
            rtt => rtt.saturating_add(self.reordering_window()),
        }
    }

    /// RACK_detect_loss (RFC 8985 6.2 step 5). Returns how many bytes are newly held lost.
    pub(crate) fn detect_by_time(&mut self, now: Instant) -> u32 {
        let (latest, wait) = (self.act.rack.latest, self.patience());
        if self.act.rack.rtt == NO_SAMPLE {
            return 0;
        }
        let now_us = now.micros() as u32;
        let (lost, waits) = self.board().overdue(latest, wait, now_us);
        if let Some(left) = waits {
            // For the next, not for all at once: times are coarse enough for that.
            self.act.rack.early = Early::Reordering;
            self.act.early_at = now + Duration::from_micros(left.into());
        } else if self.act.rack.early == Early::Reordering {
            self.stop_early();
        }
        lost
    }

    pub(crate) fn stop_early(&mut self) {
        self.act.rack.early = Early::None;
        self.act.early_at = Instant::FAR;
    }

    /// Schedules a loss probe (RFC 8985 7.2), or calls it off. After an ACK of something, and after new data was sent.
    pub(crate) fn schedule_probe(&mut self, core: &Core) {
        if matches!(self.act.rack.early, Early::Reordering | Early::ProbeDue) {
            return;
        }
        let flight = self.tcb.outstanding();
        if flight == 0 && self.act.rack.early == Early::Duplicates {
            return;
        }
        self.stop_early();
        if !self.tcb.has(flag::SACK)
            || core.tcp.early_retrans < 3
            || flight == 0
            || self.repairing()
            || self.act.flight.sacked > 0
            || self.act.rack.probe != Probe::None
            || self.act.timeouts > 0
            || self.act.rto_at == Instant::FAR
        {
            return;
        }
        let wait = if self.tcb.srtt == 0 {
            super::rtt::RTO_INITIAL
        } else if flight <= u32::from(self.tcb.mss) && self.act.flight.nodes() == 1 {
            2 * self.tcb.srtt() + WORST_ACK_DELAY
        } else {
            2 * self.tcb.srtt() + PROBE_SLACK
        };
        self.act.rack.early = Early::Probe;
        self.act.early_at = (core.now + wait).min(self.act.rto_at);
    }

    /// The timer before the retransmission timer went off. Returns whether the transmit pass has work.
    pub(crate) fn on_early_timer(&mut self, now: Instant) -> bool {
        let early = self.act.rack.early;
        self.stop_early();
        match early {
            Early::Reordering => self.tcb.flags |= flag::SUSPECT,
            Early::Probe if self.tcb.outstanding() > 0 && !self.repairing() => {
                // RFC 8985 7.3: the retransmission timer begins anew, whether a probe is sent or not.
                self.act.rto_at = self.next_timeout(now);
                if !self.tcb.may_probe() {
                    return false;
                }
                self.act.rack.early = Early::ProbeDue;
            }
            _ => return false,
        }
        true
    }

    /// A probe was sent: what the highest number is now, and whether it was new data (RFC 8985 7.3).
    pub(crate) fn probe_sent(&mut self, core: &mut Core, new: bool) {
        core.count(Count::TcpLossProbes);
        self.tcb.reordering |= PROBED;
        self.act.rack.probe_end = self.tcb.snd_nxt;
        self.act.rack.probe = if new { Probe::New } else { Probe::Again };
        self.act.rto_at = self.next_timeout(core.now);
    }

    pub(crate) fn forget_probe(&mut self) {
        self.act.rack.probe = Probe::None;
    }

    /// TLP_process_ack (RFC 8985 7.4.2): whether this ACK says that the probe has repaired a loss, to which congestion control
    /// must react.
    pub(crate) fn probe_repaired(&mut self, ack: Seq, duplicate: bool, dsack: bool) -> bool {
        let (end, probe) = (self.act.rack.probe_end, self.act.rack.probe);
        if probe == Probe::None || ack.lt(end) {
            return false;
        }
        // New data, or both copies came: nothing was lost.
        if probe == Probe::New || dsack || duplicate {
            self.forget_probe();
            return false;
        }
        if ack.gt(end) {
            self.forget_probe();
            return self.act.repair == Repair::Open;
        }
        false
    }
}
