//! HyStart++ (RFC 9406): slow start ends before it loses, when round trips get longer, or when ACKs come without a pause.
//!
//! What does not live here: growth, which is the algorithm's.

use base::Seq;

use super::{Ack, Window};

/// MIN_RTT_THRESH and MAX_RTT_THRESH (RFC 9406 4.3), microseconds.
const THRESHOLD: core::ops::RangeInclusive<u32> = 4_000..=16_000;
/// N_RTT_SAMPLE: samples of a round before it counts.
const SAMPLES: u8 = 8;
/// CSS_GROWTH_DIVISOR.
const DIVISOR: u32 = 4;
/// CSS_ROUNDS: rounds of conservative slow start before avoidance begins.
const ROUNDS: u8 = 5;
/// ACKs so close are one train, microseconds (Linux's `hystart_ack_delta_us`), or an eighth of the least round trip: a process
/// hears its ACKs later than a kernel, and in bunches.
const TRAIN: u32 = 2_000;
/// Smaller windows, in segments, are left alone (Linux's `hystart_low_window`).
const LOW_WINDOW: u32 = 16;
/// Not measured yet.
const INFINITE: u32 = u32::MAX;

/// Which way slow start is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// By loss only.
    Off,
    /// At once, when a round is slower than the fastest known, as Linux's CUBIC does.
    AtOnce,
    /// By way of conservative slow start (RFC 9406).
    PlusPlus,
}

/// What is known of this round trip and the last.
#[derive(Debug, Clone)]
pub(crate) struct HyStart {
    /// The round ends when this is acknowledged; none before the first.
    end: Option<Seq>,
    last_min: u32,
    current_min: u32,
    /// cssBaselineMinRtt; `INFINITE` outside of conservative slow start.
    baseline: u32,
    samples: u8,
    rounds: u8,
    /// When the round began, and the last ACK of the train it began with came; microseconds.
    began: u32,
    heard: u32,
}

impl Default for HyStart {
    fn default() -> Self {
        Self {
            end: None,
            last_min: INFINITE,
            current_min: INFINITE,
            baseline: INFINITE,
            samples: 0,
            rounds: 0,
            began: 0,
            heard: 0,
        }
    }
}

impl HyStart {
    /// Takes in an ACK in slow start, before the window grows; may end slow start by `ssthresh`. Returns by how much growth is to
    /// be divided.
    pub(crate) fn on_ack(&mut self, window: &mut Window, ack: &Ack) -> u32 {
        // RFC 9406 4.3: only in the first slow start. Linux's serves every one.
        let first = window.ssthresh >= u32::MAX / 2;
        let off = match ack.hystart {
            Variant::Off => true,
            Variant::AtOnce => false,
            Variant::PlusPlus => !first,
        };
        if off || window.cwnd < LOW_WINDOW * window.mss {
            return 1;
        }
        if self.end.is_none_or(|end| ack.una.gt(end)) {
            self.next_round(window, ack);
            if !window.in_slow_start() {
                return 1;
            }
        }
        if self.fills_the_path(ack) {
            window.ssthresh = window.cwnd;
            return 1;
        }
        if ack.rtt == 0 {
            return self.divisor();
        }
        self.current_min = self.current_min.min(ack.rtt);
        if self.samples < SAMPLES {
            self.samples += 1;
            if ack.hystart == Variant::AtOnce || self.samples < SAMPLES {
                return self.divisor();
            }
        }
        let slower_than =
            |min: u32| min.saturating_add((min / 8).clamp(*THRESHOLD.start(), *THRESHOLD.end()));
        if ack.hystart == Variant::AtOnce {
            if ack.min_rtt > 0 && self.current_min > slower_than(ack.min_rtt) {
                window.ssthresh = window.cwnd;
            }
        } else if self.baseline != INFINITE {
            if self.current_min < self.baseline {
                self.baseline = INFINITE; // RFC 9406 4.2: it was no queue; slow start goes on
            }
        } else if self.last_min != INFINITE && self.current_min >= slower_than(self.last_min) {
            self.baseline = self.current_min;
            self.rounds = 0;
        }
        self.divisor()
    }

    fn next_round(&mut self, window: &mut Window, ack: &Ack) {
        if self.baseline != INFINITE {
            self.rounds += 1;
            if self.rounds >= ROUNDS {
                window.ssthresh = window.cwnd;
                *self = Self::default();
                return;
            }
        }
        self.end = Some(ack.next);
        self.began = ack.now.micros() as u32;
        self.heard = self.began;
        self.last_min = self.current_min;
        self.current_min = INFINITE;
        self.samples = 0;
    }

    /// Whether ACKs have come one close behind the other for half of the least round trip (Linux's ACK train): what is in flight
    /// fills the path, and twice as much would overflow a queue of that size, while a round still begins without a queue, so
    /// that its least round trip tells nothing. What is paced comes that way by itself, for half a round trip.
    fn fills_the_path(&mut self, ack: &Ack) -> bool {
        let now = ack.now.micros() as u32;
        if now.wrapping_sub(self.heard) > TRAIN.max(ack.min_rtt / 8) {
            return false;
        }
        self.heard = now;
        let enough = ack.min_rtt >> u32::from(!ack.paced);
        enough > 0 && now.wrapping_sub(self.began) > enough
    }

    fn divisor(&self) -> u32 {
        if self.baseline == INFINITE {
            1
        } else {
            DIVISOR
        }
    }
}
