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
/// Out-of-order segments that are told of at once, since a segment is missing (Linux's TCP_FASTRETRANS_THRESH): the peer's
/// fast retransmit needs no more.
const DUPLICATES_AT_ONCE: u8 = 3;

/// How a connection acknowledges, in a byte: five bits count the ACKs still sent at once, one says that the application
/// answers what it reads, so that ACKs travel with the answers, two how often the delay was doubled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acking(u8);

const QUICK: u8 = 0x1f;
const ANSWERS: u8 = 0x20;
const SHIFT: u32 = 6;

impl Acking {
    /// Of a connection that begins.
    pub(crate) const START: Self = Self(QUICK_ACKS);

    pub(crate) fn quick(self) -> u8 {
        self.0 & QUICK
    }

    fn answers(self) -> bool {
        self.0 & ANSWERS != 0
    }

    /// What `TCP_QUICKACK` asks for: at once, or with the answers.
    pub(crate) fn set_quick(&mut self, quick: bool) {
        self.0 = if quick { QUICK_ACKS } else { ANSWERS };
    }

    /// At least `count` ACKs leave at once, if nobody answers.
    fn at_least(&mut self, count: u8) {
        let count = count.min(QUICK_ACKS).max(self.quick());
        self.0 = self.0 & !QUICK | count;
    }

    /// The peer is to hear at once what comes next, whoever answers.
    pub(crate) fn hurry(&mut self, count: u8) {
        self.at_least(count);
        self.0 &= !ANSWERS;
    }

    fn spend_quick(&mut self) {
        self.0 -= u8::from(self.quick() > 0);
    }

    fn longer(&mut self) {
        if self.0 >> SHIFT < 3 {
            self.0 += 1 << SHIFT;
        }
    }

    fn shorter(&mut self) {
        if self.0 >> SHIFT > 0 {
            self.0 -= 1 << SHIFT;
        }
    }

    /// The delay before bounds (Linux's `ato`).
    fn delay(self) -> Duration {
        (ACK_DELAY * (1 << (self.0 >> SHIFT))).min(ACK_DELAY_MAX)
    }
}

impl Tcb {
    /// How long an ACK may wait now: no longer than a round trip, if that is more than the least.
    pub(crate) fn ack_delay(&self) -> Duration {
        self.acking.delay().min(self.srtt().max(ACK_DELAY))
    }

    /// Data came after so much silence: a sender who begins again after a pause is fed, one who does not let us wait is not
    /// made to wait.
    pub(crate) fn heard_data(&mut self, silent: Duration, rcv_mss: u16) {
        if silent > self.rto() {
            let most = self.rcv_wnd() / (2 * u32::from(rcv_mss).max(1));
            self.acking.at_least(most.clamp(2, 16) as u8);
        } else if silent <= ACK_DELAY / 2 {
            self.acking.shorter();
        }
    }

    /// Data leave: with an ACK that was owed, the application answers what it reads.
    #[inline]
    pub(crate) fn answered(&mut self) {
        if self.flags & (flag::ACK_NOW | flag::ACK_DELAYED) != 0 {
            self.acking.0 |= ANSWERS;
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
        if filled_gap || quick || second {
            self.tcb.acking.spend_quick();
            self.tcb.ack_now();
        } else {
            self.tcb.flags |= flag::ACK_DELAYED;
            self.act.ack_at = self.act.ack_at.min(now + self.tcb.ack_delay());
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
        self.tcb.acking = Acking::START;
        self.tcb.ack_now();
    }

    /// The delay of an ACK is over.
    pub(crate) fn ack_timer(&mut self) {
        if self.act.ooo != NONE {
            // It was the SACKs' that were held back.
        } else if self.tcb.acking.answers() {
            self.tcb.acking = Acking(0); // no answer came
        } else {
            self.tcb.acking.longer();
        }
        self.tcb.flags &= !flag::ACK_DELAYED;
        self.tcb.ack_now();
    }

    /// Whether an ACK that waits should leave now that something was read (as Linux): more than a segment was, or all there was,
    /// which ended in a short segment, and no answer is to be expected.
    pub(crate) fn ack_at_read(&self) -> bool {
        let (owed, mss) = (self.act.unacked_in, u32::from(self.act.rcv_mss));
        let all = self.act.recv.is_empty() && owed < mss && !self.tcb.acking.answers();
        self.tcb.has(flag::ACK_DELAYED) && self.act.ooo == NONE && (owed > mss || all)
    }

    /// An ACK has left.
    #[inline]
    pub(crate) fn ack_sent(&mut self) {
        self.tcb.flags &= !(flag::ACK_NOW | flag::ACK_DELAYED);
        self.act.ack_at = Instant::FAR;
        self.act.unacked_in = 0;
        if let Some(inflow) = &mut self.inflow {
            inflow.compressed = 0;
        }
    }
}
