//! Repairs that were not needed: found out by time stamps (RFC 3522), by D-SACK (RFC 2883, RFC 3708) or, after a timeout, by
//! originals that arrive (F-RTO, RFC 5682), and taken back (RFC 4015 3.2).
//!
//! What does not live here: what a repair does (`recovery`).

use base::{Instant, Seq};

use crate::context::Core;
use crate::stats::Count;

use super::congestion::Control;
use super::conn::Conn;
use super::rack::Early;
use super::record::{Repair, Tcb, flag};
use super::segment::Segment;
use super::sent::Delivery;

/// What an undo would bring back, and what speaks for it.
#[derive(Debug)]
pub(crate) struct Undo {
    /// A repair can be taken back.
    valid: bool,
    frto: Frto,
    cwnd: u32,
    ssthresh: u32,
    /// What congestion control knew (RFC 9438 4.9).
    control: Option<Control>,
    /// SND.UNA when the repair began: older duplicates say nothing.
    from: Seq,
    /// Time stamp of the first retransmission.
    stamp: Option<u32>,
    /// Bytes sent again of which no D-SACK has come.
    again: u32,
    /// Something was sent again at all.
    any: bool,
}

/// RFC 5682 2.1, 3.1: where a timeout stands that may have been needless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frto {
    Off,
    /// The first segment was sent again.
    First,
    /// An ACK moved on, and new data is sent before anything else is sent again: the next ACK decides.
    NewData,
}

impl Undo {
    pub(crate) fn new(tcb: &Tcb, again: u32, control: Option<&Control>) -> Self {
        Self {
            valid: true,
            frto: Frto::Off,
            cwnd: tcb.cwnd,
            ssthresh: tcb.ssthresh,
            control: control.cloned(),
            from: tcb.snd_una,
            stamp: None,
            again,
            any: again > 0,
        }
    }

    /// After a timeout: whether originals are listened for. Not if it ended a recovery, where they are expected, nor if there is
    /// nothing to be taken back, nor after a timeout of the same repair that showed to be right since (RFC 5682 2.1 step 1; as on
    /// Linux, one that nothing answered yet may still be needless, however often the timer goes off).
    pub(crate) fn expect_originals(&mut self, was: Repair, answered: bool) {
        let again = was == Repair::Loss && answered;
        self.frto = if was == Repair::Recovery || again || !self.valid {
            Frto::Off
        } else {
            Frto::First
        };
    }

    /// Whether retransmissions wait for what new data brings.
    pub(crate) fn probes(&self) -> bool {
        self.frto == Frto::NewData
    }

    /// Whether duplicates that are reported could still show that the repair was needless.
    fn awaits_duplicates(&self) -> bool {
        self.valid && self.any && self.again > 0
    }

    pub(crate) fn resent(&mut self, len: u32, stamp: u32) {
        self.any = true;
        self.again = self.again.saturating_add(len);
        self.stamp.get_or_insert(stamp);
    }
}

impl Conn<'_> {
    /// A D-SACK (RFC 2883): one more needless retransmission, or a duplicate the network made.
    pub(crate) fn note_dsack(&mut self, core: &mut Core, start: Seq, end: Seq) {
        core.count(Count::TcpDuplicatesReported);
        if let Some(ledger) = &mut self.ledger {
            ledger.duplicate(end.dist(start), u32::from(self.tcb.mss));
        }
        self.widen_reordering();
        if let Some(episode) = self.episode()
            && start.ge(episode.undo.from)
        {
            let undo = &mut episode.undo;
            undo.again = undo.again.saturating_sub(end.dist(start));
        }
    }

    /// Nothing is in flight any more: the record of the last repair stays for a timeout if its retransmissions may yet be reported
    /// as duplicates. (Linux keeps its own for ever.)
    /// `news`: it was just acknowledged, so that the connection is visited, and its timer armed.
    pub(crate) fn await_duplicates(&mut self, now: Instant, news: bool) {
        let speaks = self.tcb.has(flag::SACK) && self.tcb.state.sends();
        let awaits = speaks && self.episode().is_some_and(|e| e.undo.awaits_duplicates());
        let waits = self.act.rack.early == Early::Duplicates;
        if awaits && !waits && news {
            self.act.rack.early = Early::Duplicates;
            self.act.early_at = self.rto_from(now);
        } else if waits && !awaits {
            self.stop_early();
        }
    }

    /// A reduction that marks asked for is not taken back.
    pub(crate) fn forbid_undo(&mut self) {
        if let Some(episode) = self.episode() {
            episode.undo.valid = false;
        }
    }

    /// A repair begins that changes no window, or another congestion control: there is nothing to be taken back, and no original
    /// is listened for.
    pub(crate) fn forget_undo(&mut self) {
        if let Some(episode) = self.episode() {
            (episode.undo.valid, episode.undo.frto) = (false, Frto::Off);
        }
    }

    /// Whether an ACK shows that the repair was needless: each retransmission was reported as a duplicate, or an original is
    /// answered although it was sent again (Eifel, RFC 3522 3.2).
    fn shows_needless(&mut self, seg: &Segment, advanced: bool) -> bool {
        // As on Linux the stamps tell while the repair goes on: later, what is echoed may have come round.
        let stamps = self.tcb.has(flag::TIMESTAMPS) && self.repairing();
        let echo = seg.timestamps.map(|(_, echo)| echo).filter(|e| *e != 0);
        let Some(undo) = self.episode().map(|e| &e.undo).filter(|u| u.valid) else {
            return false;
        };
        let early = match (undo.stamp, echo) {
            (Some(stamp), Some(echo)) => (echo.wrapping_sub(stamp) as i32) < 0,
            _ => false,
        };
        (undo.any && undo.again == 0) || (advanced && stamps && early)
    }

    /// After an ACK that moved SND.UNA from `una`, or was a duplicate, or neither: takes back a repair that turns out to have been needless,
    /// and listens for originals after a timeout.
    pub(crate) fn reconsider(
        &mut self,
        core: &mut Core,
        seg: &Segment,
        delivery: &Delivery,
        (una, duplicate): (Seq, bool),
    ) {
        let advanced = self.tcb.snd_una.gt(una);
        if self.shows_needless(seg, advanced) {
            // The original filled the hole, and came that far behind others: disorder, though what was sent again tells nothing
            // of it. (As Linux: not when all that was in flight is acknowledged.)
            let partly = advanced && self.tcb.snd_una.lt(self.act.recover);
            if partly && self.act.repair == Repair::Recovery && delivery.fack.gt(una) {
                self.note_disorder(delivery.fack.dist(una));
            }
            return self.undo(core);
        }
        if self.act.repair != Repair::Loss {
            return;
        }
        let Some(frto) = self.episode().map(|episode| episode.undo.frto) else {
            return;
        };
        if frto == Frto::Off {
            return;
        }
        // Without SACK an ACK of both cannot tell the original from what was waiting behind the retransmission.
        let original = delivery.original && (self.tcb.has(flag::SACK) || !delivery.again);
        let next = if original {
            return self.undo(core);
        } else if frto == Frto::NewData {
            // An ACK that opens the window, too, is no duplicate by RFC 5681, but may be all there is: acknowledgments of the
            // new data were joined to it.
            let still = !advanced && seg.len == 0 && seg.ack == self.tcb.snd_una;
            if duplicate || still || delivery.bytes > 0 {
                // RFC 5682 2.1 step 3 (a): the loss was real; what is missing goes first again.
                self.tcb.flags |= flag::RETRANSMIT;
                Frto::Off
            } else {
                frto
            }
        } else if advanced && self.tcb.snd_una.lt(self.act.recover) {
            // Step 2 (b): up to two new segments, if there are any and the window lets them.
            if !self.act.unsent.is_empty() && self.window_fits(1) {
                self.act.recover = self.tcb.snd_nxt;
                Frto::NewData
            } else {
                Frto::Off
            }
        } else if duplicate {
            Frto::Off // step 2 (a)
        } else {
            frto
        };
        if let Some(episode) = self.episode() {
            episode.undo.frto = next;
        }
    }

    /// RFC 5682 2.1 step 2 (b): two new segments ask whether a timeout was needless. More of them could fill the window until the next
    /// timeout, with what is missing left behind.
    pub(crate) fn probe_room(&mut self) -> u32 {
        if self.act.repair != Repair::Loss || !self.episode().is_some_and(|e| e.undo.probes()) {
            return u32::MAX;
        }
        let asked = self.tcb.snd_nxt.dist(self.act.recover);
        (2 * u32::from(self.tcb.mss)).saturating_sub(asked)
    }

    /// RFC 5682 2.1 step 2 (b): if no new data could leave, after all, what is missing is sent again.
    pub(crate) fn waits_in_vain(&mut self) -> bool {
        let sent = self.tcb.snd_nxt != self.act.recover;
        match self.episode() {
            Some(episode) if episode.undo.probes() && !sent => {
                episode.undo.frto = Frto::Off;
                self.tcb.flags |= flag::RETRANSMIT;
                true
            }
            _ => false,
        }
    }

    /// RFC 4015 3.2, as Linux: the window is what it was, and nothing is held lost.
    fn undo(&mut self, core: &mut Core) {
        let Some(episode) = self.episode() else {
            return;
        };
        let undo = &mut episode.undo;
        (undo.valid, undo.frto) = (false, Frto::Off);
        let (cwnd, ssthresh) = (undo.cwnd, undo.ssthresh);
        let control = undo.control.take();
        if let (Some(before), Some(now)) = (control, self.controls.at_mut(self.act.control)) {
            *now = before;
        }
        core.count(Count::TcpUndone);
        self.tcb.cwnd = self.tcb.cwnd.max(cwnd);
        self.tcb.ssthresh = self.tcb.ssthresh.max(ssthresh);
        self.board().restore();
        self.tcb.flags &= !flag::RETRANSMIT;
        self.act.repair = Repair::Open;
        self.act.dup_acks = 0;
        self.act.timeouts = 0;
        if !self.tcb.has(flag::SACK) {
            self.act.flight.sacked = 0;
        }
    }
}
