//! BBR version 3 (draft-ietf-ccwg-bbr): the window and the rate follow a model of the path, its bandwidth and its shortest round
//! trip, and what losses say of its buffer.
//!
//! What does not live here: measuring what is delivered (`rate`), pacing (`pace`). Names are the draft's.
//!
//! Invariant: without a sample nothing of the model changes; the window is four segments at least.

use core::time::Duration;

use base::{Instant, Rng};

use crate::tcp::info::BbrInfo;

use super::rate::{Rates, Sample};
use super::{Ack, Algorithm, Window};

const NO_LIMIT: u32 = u32::MAX;
/// Microseconds.
const SECOND: u64 = 1_000_000;
const MIN_RTT_FILTER: u64 = 10 * SECOND;
const PROBE_RTT_INTERVAL: u64 = 5 * SECOND;
const PROBE_RTT_DURATION: u64 = 200_000;
/// Segments: MinPipeCwnd.
const MIN_PIPE: u32 = 4;
/// Loss events of a round that end Startup, if the share of losses is too high.
const STARTUP_FULL_LOSS: u32 = 6;
/// The longest the probing for bandwidth waits for Reno's sake, rounds.
const RENO_ROUNDS: u32 = 63;

/// Where the model's state machine is (draft 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

/// What the ACKs of now are about: BBR.ack_phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acks {
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// What an ACK and the connection say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signals {
    /// Microseconds.
    pub(crate) now: u64,
    /// Bytes newly delivered, and when the latest of them was sent (microseconds, low 32 bits).
    pub(crate) acked: u32,
    pub(crate) sent_at: Option<u32>,
    /// Round trip, microseconds; 0: none.
    pub(crate) rtt: u32,
    /// It echoes a mark.
    pub(crate) marked: bool,
    /// In flight after it.
    pub(crate) pipe: u32,
    pub(crate) cwnd: u32,
    pub(crate) mss: u32,
    /// The window was what limited sending.
    pub(crate) limited: bool,
    /// A loss is being repaired.
    pub(crate) repairing: bool,
}

/// The model of one path.
#[derive(Debug)]
pub(crate) struct Bbr {
    pub(crate) rates: Rates<32>,
    pub(crate) phase: Phase,
    acks: Acks,
    /// Bytes a second.
    pacing_rate: u64,
    max_bw: u64,
    max_bw_of_cycle: [u64; 2],
    bw_short: u64,
    bw_latest: u64,
    full_bw: u64,
    /// Microseconds.
    pub(crate) min_rtt: u32,
    probe_rtt_min: u32,
    min_rtt_at: u64,
    probe_rtt_min_at: u64,
    probe_rtt_done_at: u64,
    cycle_at: u64,
    bw_probe_wait: u64,
    extra_at: u64,
    inflight_short: u32,
    inflight_long: u32,
    inflight_latest: u32,
    next_round: u32,
    loss_round: u32,
    loss_events: u32,
    rounds_since_probe: u32,
    probe_up_acks: u32,
    probe_up_every: u32,
    extra_delivered: u32,
    extra_acked: [u32; 2],
    prior_cwnd: u32,
    initial_cwnd: u32,
    probe_up_rounds: u8,
    full_bw_count: u8,
    extra_rounds: u8,
    cycle: bool,
    round_start: bool,
    loss_round_start: bool,
    loss_in_round: bool,
    full_bw_reached: bool,
    full_bw_now: bool,
    probe_samples: bool,
    probe_rtt_round_done: bool,
    idle_restart: bool,
}

fn part(value: u64, hundredths: u64) -> u64 {
    value.saturating_mul(hundredths) / 100
}

fn part_of(bytes: u32, hundredths: u64) -> u32 {
    part(bytes.into(), hundredths).min(u64::from(u32::MAX)) as u32
}

impl Bbr {
    /// A model of nothing; the first rate is that of the window each `rtt` microseconds, a millisecond when that is not known.
    pub(crate) fn new(now: u64, cwnd: u32, rtt: u32) -> Self {
        let rtt = u64::from(if rtt == 0 { 1000 } else { rtt });
        Self {
            rates: Rates::new(now),
            phase: Phase::Startup,
            acks: Acks::Init,
            pacing_rate: part(u64::from(cwnd) * SECOND / rtt, 277),
            max_bw: 0,
            max_bw_of_cycle: [0; 2],
            bw_short: u64::MAX,
            bw_latest: 0,
            full_bw: 0,
            min_rtt: NO_LIMIT,
            probe_rtt_min: NO_LIMIT,
            min_rtt_at: now,
            probe_rtt_min_at: now,
            probe_rtt_done_at: 0,
            cycle_at: now,
            bw_probe_wait: 0,
            extra_at: now,
            inflight_short: NO_LIMIT,
            inflight_long: NO_LIMIT,
            inflight_latest: 0,
            next_round: 0,
            loss_round: 0,
            loss_events: 0,
            rounds_since_probe: 0,
            probe_up_acks: 0,
            probe_up_every: NO_LIMIT,
            extra_delivered: 0,
            extra_acked: [0; 2],
            prior_cwnd: 0,
            initial_cwnd: cwnd,
            probe_up_rounds: 0,
            full_bw_count: 0,
            extra_rounds: 0,
            cycle: false,
            round_start: false,
            loss_round_start: false,
            loss_in_round: false,
            full_bw_reached: false,
            full_bw_now: false,
            probe_samples: false,
            probe_rtt_round_done: false,
            idle_restart: false,
        }
    }

    /// BBR.bw: the lower of what the path gave lately and what losses say of now, bytes a second.
    pub(crate) fn bw(&self) -> u64 {
        self.max_bw.min(self.bw_short)
    }

    /// What tools are told.
    pub(crate) fn info(&self) -> BbrInfo {
        let (pacing, window) = self.gains();
        BbrInfo {
            bandwidth: self.bw(),
            min_rtt: Duration::from_micros(match self.min_rtt {
                NO_LIMIT => 0,
                us => us.into(),
            }),
            pacing_gain: pacing as u32,
            window_gain: window as u32,
        }
    }

    pub(crate) fn pacing_rate(&self) -> u64 {
        self.pacing_rate
    }

    /// Gains of the phase in hundredths: pacing, window (draft 2.4, 5.6).
    pub(crate) fn gains(&self) -> (u64, u64) {
        match self.phase {
            Phase::Startup => (277, 200),
            Phase::Drain => (50, 200),
            Phase::Down => (90, 200),
            Phase::Cruise | Phase::Refill => (100, 200),
            Phase::Up => (125, 225),
            Phase::ProbeRtt => (100, 50),
        }
    }

    /// Something is held lost.
    pub(crate) fn on_lost(&mut self, bytes: u32) {
        self.rates.lost(bytes);
        if !self.loss_in_round {
            self.loss_round = self.rates.delivered();
        }
        self.loss_in_round = true;
        self.loss_events = self.loss_events.saturating_add(1);
    }

    /// The retransmission timer went off: the window is kept to be restored.
    pub(crate) fn on_timeout(&mut self, cwnd: u32) {
        self.save_cwnd(cwnd);
        self.full_bw = 0;
        self.full_bw_count = 0;
        self.loss_in_round = true;
    }

    /// Sending begins again after idle time (draft 5.4.1).
    pub(crate) fn on_idle(&mut self, now: u64, rng: &mut Rng) {
        if self.rates.app_limited() {
            self.idle_restart = true;
            self.extra_at = now;
            self.extra_delivered = 0;
            if self.in_probe_bw() {
                self.pacing_rate = part(self.bw(), 99);
            } else if self.phase == Phase::ProbeRtt {
                self.probe_rtt_done(now, rng);
            }
        }
    }

    /// Takes in an ACK; returns the window (draft 5.2.3).
    pub(crate) fn on_ack(&mut self, seen: &Signals, rng: &mut Rng) -> u32 {
        let sample = self
            .rates
            .sample(seen.now, seen.acked, seen.sent_at, self.min_rtt);
        if seen.marked && !self.loss_in_round {
            self.on_lost(0);
        }
        if let Some(sample) = &sample {
            self.update_round(sample);
            self.update_signals(seen, sample);
            self.update_aggregation(seen);
            self.check_full_bw(sample);
            if self.phase == Phase::Startup && self.full_bw_reached {
                self.phase = Phase::Drain;
            }
            if self.phase == Phase::Drain && seen.pipe <= self.inflight(self.bw(), 100, seen.mss) {
                self.start_down(seen.now, rng);
            }
            self.update_cycle(seen, sample, rng);
        }
        self.update_min_rtt(seen, rng);
        if let Some(sample) = &sample {
            if self.loss_round_start {
                self.bw_latest = sample.rate;
                self.inflight_latest = sample.delivered;
            }
            self.set_pacing_rate();
        }
        self.window(seen)
    }

    fn update_round(&mut self, sample: &Sample) {
        self.round_start = is_past(sample.prior_delivered, self.next_round);
        if self.round_start {
            self.start_round();
            self.rounds_since_probe = self.rounds_since_probe.saturating_add(1);
        }
        self.loss_round_start = is_past(sample.prior_delivered, self.loss_round);
        if self.loss_round_start {
            self.loss_round = self.rates.delivered();
        }
    }

    fn start_round(&mut self) {
        self.next_round = self.rates.delivered();
    }

    /// Draft 5.5.5, 5.5.7, 5.5.10: what the path gave, and what it gives when there are losses.
    fn update_signals(&mut self, seen: &Signals, sample: &Sample) {
        self.bw_latest = self.bw_latest.max(sample.rate);
        self.inflight_latest = self.inflight_latest.max(sample.delivered);
        if sample.rate >= self.max_bw || !sample.app_limited {
            let slot = &mut self.max_bw_of_cycle[usize::from(self.cycle)];
            *slot = (*slot).max(sample.rate);
            self.max_bw = self.max_bw_of_cycle[0].max(self.max_bw_of_cycle[1]);
        }
        if !self.loss_round_start {
            return;
        }
        let probing = matches!(self.phase, Phase::Startup | Phase::Refill | Phase::Up);
        if self.loss_in_round && !probing {
            let bw = self.bw_short.min(self.max_bw);
            let inflight = self.inflight_short.min(seen.cwnd);
            self.bw_short = self.bw_latest.max(part(bw, 70));
            self.inflight_short = self.inflight_latest.max(part_of(inflight, 70));
        }
        self.high_loss_in_startup(sample, seen.mss);
        self.loss_in_round = false;
        self.loss_events = 0;
    }

    /// Draft 5.3.1.3.
    fn high_loss_in_startup(&mut self, sample: &Sample, mss: u32) {
        if self.phase == Phase::Startup
            && self.loss_events >= STARTUP_FULL_LOSS
            && sample.is_too_high()
        {
            self.full_bw_reached = true;
            self.inflight_long = self
                .inflight(self.max_bw, 100, mss)
                .max(self.inflight_latest);
        }
    }

    /// Draft 5.5.9: ACKs that come in bursts need a larger window.
    fn update_aggregation(&mut self, seen: &Signals) {
        if self.round_start {
            self.extra_rounds += 1;
            if self.extra_rounds >= 5 {
                self.extra_rounds = 0;
                self.extra_acked = [0, self.extra_acked[0]];
            }
        }
        let expected = self.bw().saturating_mul(seen.now - self.extra_at) / SECOND;
        if u64::from(self.extra_delivered) <= expected {
            (self.extra_delivered, self.extra_at) = (0, seen.now);
        }
        self.extra_delivered = self.extra_delivered.saturating_add(seen.acked);
        let extra = u64::from(self.extra_delivered).saturating_sub(expected);
        let extra = extra.min(seen.cwnd.into()) as u32;
        if self.full_bw_reached {
            self.extra_acked[0] = self.extra_acked[0].max(extra);
        }
    }

    /// Draft 5.3.1.2: three rounds without a quarter more.
    fn check_full_bw(&mut self, sample: &Sample) {
        if self.full_bw_now || sample.app_limited {
            return;
        }
        if sample.rate >= part(self.full_bw, 125) {
            (self.full_bw, self.full_bw_count) = (sample.rate, 0);
        } else if self.round_start {
            self.full_bw_count += 1;
            self.full_bw_now = self.full_bw_count >= 3;
            self.full_bw_reached |= self.full_bw_now;
        }
    }

    fn reset_full_bw(&mut self, bw: u64) {
        (self.full_bw, self.full_bw_count, self.full_bw_now) = (bw, 0, false);
    }

    fn in_probe_bw(&self) -> bool {
        matches!(
            self.phase,
            Phase::Down | Phase::Cruise | Phase::Refill | Phase::Up
        )
    }

    fn start_down(&mut self, now: u64, rng: &mut Rng) {
        self.loss_in_round = false;
        (self.bw_latest, self.inflight_latest) = (0, 0);
        self.probe_up_every = NO_LIMIT;
        self.rounds_since_probe = rng.below(2);
        self.bw_probe_wait = 2 * SECOND + u64::from(rng.below(SECOND as u32));
        self.cycle_at = now;
        self.acks = Acks::ProbeStopping;
        self.start_round();
        self.phase = Phase::Down;
    }

    fn start_refill(&mut self) {
        self.reset_short_term();
        self.probe_up_rounds = 0;
        self.probe_up_acks = 0;
        self.acks = Acks::Refilling;
        self.start_round();
        self.phase = Phase::Refill;
    }

    fn start_up(&mut self, seen: &Signals, sample: &Sample) {
        self.acks = Acks::ProbeStarting;
        self.start_round();
        self.reset_full_bw(sample.rate);
        self.phase = Phase::Up;
        self.cycle_at = seen.now;
        self.raise_slope(seen);
    }

    fn reset_short_term(&mut self) {
        (self.bw_short, self.inflight_short) = (u64::MAX, NO_LIMIT);
    }

    /// Draft 5.3.3.6.
    fn update_cycle(&mut self, seen: &Signals, sample: &Sample, rng: &mut Rng) {
        if !self.full_bw_reached {
            return;
        }
        self.adapt_long_term(seen, sample, rng);
        match self.phase {
            Phase::Down | Phase::Cruise if self.is_time_to_probe(seen) => self.start_refill(),
            Phase::Down if self.is_time_to_cruise(seen) => self.phase = Phase::Cruise,
            Phase::Refill if self.round_start => {
                self.probe_samples = true;
                self.start_up(seen, sample);
            }
            Phase::Up => self.go_down_in_time(seen, sample, rng),
            _ => {}
        }
    }

    fn is_time_to_probe(&self, seen: &Signals) -> bool {
        // As often as Reno would lose (draft 5.3.3.5.1).
        let target = self.inflight(self.bw(), 100, seen.mss).min(seen.cwnd);
        let reno = (target / seen.mss.max(1)).min(RENO_ROUNDS);
        seen.now - self.cycle_at > self.bw_probe_wait || self.rounds_since_probe >= reno
    }

    fn is_time_to_cruise(&self, seen: &Signals) -> bool {
        seen.pipe <= self.with_headroom(seen.mss)
            && seen.pipe <= self.inflight(self.max_bw, 100, seen.mss)
    }

    fn go_down_in_time(&mut self, seen: &Signals, sample: &Sample, rng: &mut Rng) {
        if seen.limited && seen.cwnd >= self.inflight_long {
            self.reset_full_bw(sample.rate);
        } else if self.full_bw_now {
            self.start_down(seen.now, rng);
        }
    }

    /// Draft 5.5.10.3: what losses say of the buffer, and its probing.
    fn adapt_long_term(&mut self, seen: &Signals, sample: &Sample, rng: &mut Rng) {
        if self.acks == Acks::ProbeStarting && self.round_start {
            self.acks = Acks::ProbeFeedback;
        }
        if self.acks == Acks::ProbeStopping && self.round_start {
            self.acks = Acks::Init;
            self.probe_samples = false;
            if self.in_probe_bw() && !sample.app_limited {
                self.cycle = !self.cycle;
                self.max_bw_of_cycle[usize::from(self.cycle)] = 0;
            }
        }
        if sample.is_too_high() || seen.marked {
            if self.probe_samples {
                self.probe_samples = false;
                if !sample.app_limited {
                    let target = self.inflight(self.bw(), 100, seen.mss).min(seen.cwnd);
                    self.inflight_long = sample.in_flight.max(part_of(target, 70));
                }
                if self.phase == Phase::Up {
                    self.start_down(seen.now, rng);
                }
            }
            return;
        }
        if self.inflight_long == NO_LIMIT {
            return;
        }
        self.inflight_long = self.inflight_long.max(sample.in_flight);
        if self.phase == Phase::Up {
            self.probe_upward(seen);
        }
    }

    fn probe_upward(&mut self, seen: &Signals) {
        if !seen.limited || seen.cwnd < self.inflight_long {
            return;
        }
        self.probe_up_acks = self.probe_up_acks.saturating_add(seen.acked);
        let steps = self.probe_up_acks / self.probe_up_every.max(1);
        self.probe_up_acks -= steps * self.probe_up_every;
        self.inflight_long = self
            .inflight_long
            .saturating_add(steps.saturating_mul(seen.mss));
        if self.round_start {
            self.raise_slope(seen);
        }
    }

    /// One more segment for so many bytes acknowledged; twice as many each round.
    fn raise_slope(&mut self, seen: &Signals) {
        let growth = 1u32 << self.probe_up_rounds.min(30);
        self.probe_up_rounds = (self.probe_up_rounds + 1).min(30);
        self.probe_up_every = (seen.cwnd / growth).max(seen.mss);
    }

    /// Draft 5.3.4, 5.5.3.
    fn update_min_rtt(&mut self, seen: &Signals, rng: &mut Rng) {
        let expired = seen.now > self.probe_rtt_min_at + PROBE_RTT_INTERVAL;
        if seen.rtt > 0 && (seen.rtt < self.probe_rtt_min || expired) {
            (self.probe_rtt_min, self.probe_rtt_min_at) = (seen.rtt, seen.now);
        }
        if self.probe_rtt_min < self.min_rtt || seen.now > self.min_rtt_at + MIN_RTT_FILTER {
            (self.min_rtt, self.min_rtt_at) = (self.probe_rtt_min, self.probe_rtt_min_at);
        }
        if self.phase != Phase::ProbeRtt && expired && !self.idle_restart {
            self.save_cwnd(seen.cwnd);
            self.phase = Phase::ProbeRtt;
            self.probe_rtt_done_at = 0;
            self.acks = Acks::ProbeStopping;
            self.start_round();
        }
        if self.phase == Phase::ProbeRtt {
            self.rates.limit(seen.pipe);
            if self.probe_rtt_done_at == 0 {
                if seen.pipe <= self.probe_rtt_cwnd(seen.mss) {
                    self.probe_rtt_done_at = seen.now + PROBE_RTT_DURATION;
                    self.probe_rtt_round_done = false;
                    self.start_round();
                }
            } else {
                self.probe_rtt_round_done |= self.round_start;
                if self.probe_rtt_round_done {
                    self.probe_rtt_done(seen.now, rng);
                }
            }
        }
        if seen.acked > 0 {
            self.idle_restart = false;
        }
    }

    fn probe_rtt_done(&mut self, now: u64, rng: &mut Rng) {
        if self.probe_rtt_done_at == 0 || now <= self.probe_rtt_done_at {
            return;
        }
        self.probe_rtt_min_at = now;
        self.reset_short_term();
        if self.full_bw_reached {
            self.start_down(now, rng);
            self.phase = Phase::Cruise;
        } else {
            self.phase = Phase::Startup;
        }
    }

    fn probe_rtt_cwnd(&self, mss: u32) -> u32 {
        self.bdp(self.bw(), 50).max(MIN_PIPE * mss)
    }

    fn save_cwnd(&mut self, cwnd: u32) {
        self.prior_cwnd = if self.phase == Phase::ProbeRtt {
            self.prior_cwnd.max(cwnd)
        } else {
            cwnd
        };
    }

    fn bdp(&self, bw: u64, hundredths: u64) -> u32 {
        if self.min_rtt == NO_LIMIT {
            return part_of(self.initial_cwnd, hundredths);
        }
        let bytes = u128::from(bw) * u128::from(self.min_rtt) / u128::from(SECOND);
        let bytes = bytes * u128::from(hundredths) / 100;
        bytes.min(1 << 30) as u32
    }

    /// BBRInflight: what fills the path, with what bursts of segmenting devices need (draft 5.6.4.2).
    fn inflight(&self, bw: u64, hundredths: u64, mss: u32) -> u32 {
        let quantum = (self.pacing_rate >> 10).min(65_536) as u32;
        let bytes = self.bdp(bw, hundredths).max(3 * quantum.max(2 * mss));
        let bytes = bytes.max(MIN_PIPE * mss);
        if self.phase == Phase::Up {
            bytes + 2 * mss
        } else {
            bytes
        }
    }

    fn with_headroom(&self, mss: u32) -> u32 {
        if self.inflight_long == NO_LIMIT {
            return NO_LIMIT;
        }
        let headroom = part_of(self.inflight_long, 15).max(mss);
        self.inflight_long
            .saturating_sub(headroom)
            .max(MIN_PIPE * mss)
    }

    /// Draft 5.6.2: a hundredth less than the model says, so that queues drain.
    fn set_pacing_rate(&mut self) {
        let rate = part(part(self.bw(), self.gains().0), 99);
        if rate > 0 && (self.full_bw_reached || rate > self.pacing_rate) {
            self.pacing_rate = rate;
        }
    }

    /// Draft 5.6.4.
    fn window(&mut self, seen: &Signals) -> u32 {
        let extra = self.extra_acked[0].max(self.extra_acked[1]);
        let most = self
            .inflight(self.bw(), self.gains().1.max(100), seen.mss)
            .saturating_add(extra);
        let mut cwnd = seen.cwnd;
        if self.full_bw_reached {
            cwnd = cwnd.saturating_add(seen.acked).min(most);
        } else if cwnd < most || self.rates.delivered() < self.initial_cwnd {
            cwnd = cwnd.saturating_add(seen.acked);
        }
        if self.phase == Phase::ProbeRtt {
            cwnd = cwnd.min(self.probe_rtt_cwnd(seen.mss));
        } else if self.prior_cwnd > 0 && seen.acked > 0 && !seen.repairing {
            // The round trip was probed, or a timeout repaired: back to what it was, within the model.
            let before = core::mem::take(&mut self.prior_cwnd);
            cwnd = cwnd.max(before.min(most));
        }
        let cap = match self.phase {
            Phase::Down | Phase::Refill | Phase::Up => self.inflight_long,
            Phase::Cruise | Phase::ProbeRtt => self.with_headroom(seen.mss),
            Phase::Startup | Phase::Drain => NO_LIMIT,
        };
        let cap = cap.min(self.inflight_short).max(MIN_PIPE * seen.mss);
        cwnd.max(MIN_PIPE * seen.mss).min(cap).min(1 << 30)
    }
}

/// Whether a count of delivered bytes has reached a mark; both wrap.
fn is_past(count: u32, mark: u32) -> bool {
    count.wrapping_sub(mark) as i32 >= 0
}

/// Where the model of a connection is, among those of the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model(pub(crate) u32);

/// The frame's calls change nothing: the model sets the window with each ACK.
impl Algorithm for Model {
    fn on_ack(&mut self, _window: &mut Window, _ack: &Ack) {}

    fn on_loss(&mut self, window: &Window, _flight: u32, _now: Instant) -> u32 {
        window.ssthresh
    }

    fn outlives(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    /// A path of 1 MB/s and 100 ms with a long queue, for so many milliseconds: one segment is delivered each. Returns the window.
    fn run(bbr: &mut Bbr, from: u64, ms: u64, mut cwnd: u32, rng: &mut Rng) -> u32 {
        for tick in from..from + ms {
            let now = tick * 1000;
            bbr.rates.sent(now, MSS, cwnd.min(100_000), 100_000);
            cwnd = bbr.on_ack(
                &Signals {
                    now,
                    acked: MSS,
                    sent_at: (tick >= 100).then(|| (now - 100_000) as u32),
                    rtt: 100_000,
                    marked: false,
                    pipe: cwnd.min(100_000),
                    cwnd,
                    mss: MSS,
                    limited: true,
                    repairing: false,
                },
                rng,
            );
        }
        cwnd
    }

    /// Draft 5.3.1 to 5.3.3: Startup ends when the rate does not grow any more, Drain and probing follow, and the model is right.
    #[test]
    fn the_model_finds_the_path() {
        let mut rng = Rng::from_seed(1);
        let mut bbr = Bbr::new(0, 10_000, 100_000);
        assert_eq!(bbr.phase, Phase::Startup);
        assert_eq!(bbr.pacing_rate(), 277_000, "2.77 windows each round trip");
        let cwnd = run(&mut bbr, 100, 2000, 10_000, &mut rng);
        assert!(
            bbr.in_probe_bw() || bbr.phase == Phase::Drain,
            "{:?}",
            bbr.phase
        );
        assert_eq!(bbr.min_rtt, 100_000);
        let bw = bbr.bw();
        assert!((900_000..=1_100_000).contains(&bw), "{bw} bytes a second");
        assert!(
            (100_000..=350_000).contains(&cwnd),
            "{cwnd}: some round trips"
        );
    }

    /// Draft 5.3.4: every five seconds without a shorter round trip the path is let run dry.
    #[test]
    fn the_round_trip_is_probed() {
        let mut rng = Rng::from_seed(1);
        let mut bbr = Bbr::new(0, 10_000, 100_000);
        let mut cwnd = run(&mut bbr, 100, 2000, 10_000, &mut rng);
        let mut probed = false;
        for second in 0..60 {
            cwnd = run(&mut bbr, 2100 + second * 100, 100, cwnd, &mut rng);
            if bbr.phase == Phase::ProbeRtt {
                probed = true;
                assert!(cwnd <= 75_000, "half of what fills the path: {cwnd}");
            }
        }
        assert!(probed);
    }

    /// Draft 5.5.10: losses while not probing lower the short-term bounds, to what was delivered.
    #[test]
    fn losses_lower_the_bounds() {
        let mut rng = Rng::from_seed(1);
        let mut bbr = Bbr::new(0, 10_000, 100_000);
        let cwnd = run(&mut bbr, 100, 2000, 10_000, &mut rng);
        bbr.phase = Phase::Cruise;
        let before = bbr.bw();
        bbr.on_lost(3000);
        assert_eq!(bbr.bw(), before, "at the end of the round");
        run(&mut bbr, 2100, 250, cwnd, &mut rng);
        assert!(bbr.bw_short != u64::MAX || bbr.phase == Phase::Refill);
        assert!(bbr.bw() >= before * 7 / 10);
    }
}
