//! When data that came are acknowledged: at once, soon, or with what is sent anyway (RFC 9293 3.8.6.3, RFC 5681 4.2, and Linux's
//! quick ACKs, interactive mode and compressed SACKs).
//!
//! What does not live here: what an ACK says (`output`, `receive`).
//!
//! Invariant: an ACK that is owed leaves with the next transmit pass, or a deadline stands for it.

use core::time::Duration;

use base::Instant;

use crate::context::Core;

use super::conn::Conn;
use super::record::{NONE, Tcb, flag};

/// The shortest time an ACK waits; Linux's TCP_DELACK_MIN and TCP_ATO_MIN.
pub(crate) const ACK_DELAY: Duration = Duration::from_millis(40);
/// The longest (RFC 9293 MUST-40: under 0.5 s); Linux's TCP_DELACK_MAX.
const ACK_DELAY_MAX: Duration = Duration::from_millis(200);
/// ACKs at once at the start of a connection and after a pause, at most, so that the peer's slow start is fed.
const QUICK_ACKS: u8 = 16;
/// The grain of the clock that tells a pause from a stream, milliseconds.
const TICK: u32 = 4;
/// Out-of-order segments that are told of at once, since a segment is missing (Linux's TCP_FASTRETRANS_THRESH): the peer's
/// fast retransmit needs no more.
const DUPLICATES_AT_ONCE: u8 = 3;

/// How a connection acknowledges, in a byte: five bits count the ACKs still sent at once, one says that the application
/// answers what it reads, so that ACKs travel with the answers (Linux's interactive mode, or pingpong).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acking(u8);

const QUICK: u8 = 0x1f;
const ANSWERS: u8 = 0x20;

impl Acking {
    /// Of a connection that begins.
    pub(crate) const START: Self = Self(0);

    fn quick(self) -> u8 {
        self.0 & QUICK
    }

    /// The application is expected to answer what it reads (Linux's pingpong mode).
    pub(crate) fn answers(self) -> bool {
        self.0 & ANSWERS != 0
    }

    /// What `TCP_QUICKACK` asks for: at once, or with the answers.
    pub(crate) fn set_quick(&mut self, quick: bool) {
        self.0 = if quick { QUICK_ACKS } else { ANSWERS };
    }

    /// What is owed waits for data.
    pub(crate) fn expect_answer(&mut self) {
        self.0 |= ANSWERS;
    }

    /// At least `count` ACKs leave at once, if nobody answers.
    fn at_least(&mut self, count: u8) {
        let count = count.min(QUICK_ACKS).max(self.quick());
        self.0 = self.0 & !QUICK | count;
    }
}

/// Milliseconds, in ticks: the clock of a kernel that counts 250 a second.
fn ticks(ms: u32) -> u32 {
    ms / TICK
}

impl Tcb {
    /// How long an ACK may wait now: no longer than a round trip, if that is more than the least.
    pub(crate) fn ack_delay(&self) -> Duration {
        let ato = Duration::from_millis(self.ato.into()).clamp(ACK_DELAY, ACK_DELAY_MAX);
        match self.srtt {
            0 => ato,
            _ => ato.min(self.srtt().max(ACK_DELAY)),
        }
    }

    /// Milliseconds since data came, in ticks.
    fn since_data(&self, now: Instant) -> u32 {
        let passed = ticks(now.millis() as u32).wrapping_sub(ticks(self.last_received));
        (u32::from(self.quiet) + (passed & (u32::MAX / TICK))).saturating_mul(TICK)
    }

    /// A segment came that belongs to the connection, with data or without.
    pub(crate) fn heard(&mut self, now: Instant, data: bool, rcv_mss: u16) {
        if data {
            let silent = self.since_data(now);
            self.pace_acks(silent, rcv_mss);
            self.quiet = 0;
        } else if self.quiet < u8::MAX {
            let ticks = self.since_data(now) / TICK;
            self.quiet = ticks.min(255) as u8;
        }
        self.last_received = now.millis() as u32;
    }

    /// Data came after so many milliseconds without: a sender who begins, or begins again after a pause, is fed, and the delay
    /// follows the pace of what comes, so that two segments share an ACK (as Linux).
    fn pace_acks(&mut self, silent: u32, rcv_mss: u16) {
        let (ato, rto) = (u32::from(self.ato), self.rto().as_millis() as u32);
        let least = ACK_DELAY.as_millis() as u32;
        let next = if ato == 0 {
            self.feed(rcv_mss);
            least
        } else if silent <= least / 2 {
            ato / 2 + least / 2
        } else if silent < ato {
            (ato / 2 + silent).min(rto)
        } else {
            if silent > rto {
                self.feed(rcv_mss);
            }
            ato
        };
        self.ato = next.min(255) as u8;
    }

    /// ACKs at once for half a window, sixteen at most.
    fn feed(&mut self, rcv_mss: u16) {
        let most = match self.rcv_wnd() / (2 * u32::from(rcv_mss).max(1)) {
            0 => 2,
            most => most.min(QUICK_ACKS.into()),
        };
        self.acking.at_least(most as u8);
    }

    /// The peer is to hear at once what comes next, whoever answers.
    pub(crate) fn hurry(&mut self, count: u8) {
        self.acking.at_least(count);
        self.acking.0 &= !ANSWERS;
        self.ato = ACK_DELAY.as_millis() as u8;
    }

    /// Data leave: so soon after some came, the application answers what it reads.
    #[inline]
    pub(crate) fn answered(&mut self, now: Instant) {
        if self.since_data(now) < u32::from(self.ato) {
            self.acking.expect_answer();
        }
    }
}

impl Conn<'_> {
    /// Data came in order. RFC 5681 4.2: an ACK for at least every second full-sized segment, at once when a gap is filled, else
    /// within the delay. A short one after a full one counts as the second, as on Linux: its sender may be waiting (Nagle).
    pub(crate) fn ack_in_order(&mut self, now: Instant, filled_gap: bool, beyond: bool) {
        let acking = self.tcb.acking;
        // One that overran the window is told of when there is a window again.
        let quick = acking.quick() > 0 && !acking.answers() && !beyond;
        let second = self.act.unacked_in > u32::from(self.act.rcv_mss) && !beyond;
        let delay = self.tcb.ack_delay();
        // As on Linux one that is almost due is not waited for.
        let soon = self.tcb.has(flag::ACK_DELAYED) && self.act.ack_at <= now + delay / 4;
        if filled_gap || quick || second || soon {
            self.tcb.ack_now();
        } else {
            self.tcb.flags |= flag::ACK_DELAYED;
            self.act.ack_at = self.act.ack_at.min(now + delay);
        }
    }

    /// Data came out of order: told of at once, so that the peer repairs (RFC 5681 4.2), but in a flood of it only every
    /// `comp_sack_nr` segments, or a twentieth of a round trip later (Linux's compressed SACKs).
    pub(crate) fn ack_out_of_order(&mut self, core: &Core) {
        let (nxt, srtt, sack) = (
            self.tcb.rcv_nxt,
            self.tcb.srtt >> 3,
            self.tcb.has(flag::SACK),
        );
        let most = core.tcp.comp_sack_nr;
        let Some(inflow) = self.inflow.as_deref_mut().filter(|_| sack) else {
            return self.tcb.ack_now();
        };
        if inflow.told != nxt {
            inflow.told = nxt;
            inflow.duplicates = 0;
        }
        if inflow.duplicates < DUPLICATES_AT_ONCE {
            inflow.duplicates += 1;
            return self.tcb.ack_now();
        }
        let rtt = match inflow.rtt() {
            0 => srtt,
            rtt if srtt > 0 => rtt.min(srtt),
            rtt => rtt,
        };
        let delay = (u64::from(rtt) * 1000 / 20).min(u64::from(core.tcp.comp_sack_delay_ns));
        if u32::from(inflow.compressed) >= most || delay == 0 {
            return self.tcb.ack_now();
        }
        inflow.compressed += 1;
        self.tcb.flags |= flag::ACK_DELAYED;
        self.act.ack_at = self.act.ack_at.min(core.now + Duration::from_nanos(delay));
    }

    /// The peer sends what it need not: it may have missed our ACKs, which now leave at once.
    pub(crate) fn ack_duplicate(&mut self) {
        self.tcb.hurry(QUICK_ACKS);
        self.tcb.ack_now();
    }

    /// The delay of an ACK is over.
    pub(crate) fn ack_timer(&mut self) {
        if self.act.ooo != NONE {
            // It was the SACKs' that were held back.
        } else if self.tcb.acking.answers() {
            self.tcb.acking.0 &= !ANSWERS; // no answer came
            self.tcb.ato = ACK_DELAY.as_millis() as u8;
        } else {
            let rto = self.rto().as_millis() as u32;
            self.tcb.ato = (u32::from(self.tcb.ato) * 2).min(rto).min(255) as u8;
        }
        self.tcb.flags &= !flag::ACK_DELAYED;
        self.tcb.ack_now();
    }

    /// Whether an ACK that waits should leave now that something was read (as Linux): more than a segment was, or all there was,
    /// which ended in a short segment, and no answer is to be expected.
    pub(crate) fn ack_at_read(&self) -> bool {
        let (owed, mss) = (self.act.unacked_in, u32::from(self.act.rcv_mss));
        let all =
            self.act.recv.is_empty() && (1..mss).contains(&owed) && !self.tcb.acking.answers();
        self.tcb.has(flag::ACK_DELAYED) && self.act.ooo == NONE && (owed > mss || all)
    }

    /// An ACK has left.
    #[inline]
    pub(crate) fn ack_sent(&mut self) {
        let owed = self.tcb.flags & (flag::ACK_NOW | flag::ACK_DELAYED) != 0;
        if owed && self.tcb.acking.quick() > 0 {
            self.tcb.acking.0 -= 1;
            if self.tcb.acking.quick() == 0 {
                self.tcb.ato = ACK_DELAY.as_millis() as u8;
            }
        }
        self.tcb.flags &= !(flag::ACK_NOW | flag::ACK_DELAYED);
        self.act.ack_at = Instant::FAR;
        self.act.unacked_in = 0;
        if let Some(inflow) = &mut self.inflow {
            inflow.compressed = 0;
        }
    }
}
