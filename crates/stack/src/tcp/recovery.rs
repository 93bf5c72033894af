//! Loss detection and repair: fast retransmit and recovery with SACK (RFC 6675) or without (RFC 6582), and repair after a
//! timeout (RFC 5681 3.1, RFC 6298 5).
//!
//! One machine serves the three: [`Repair`] says why, `lost_edge` what is held lost, `high_rxt` how far it was sent again,
//! `recover` when it is over. Retransmission goes hole by hole as the congestion window allows.
//!
//! What does not live here: RACK-TLP, PRR and undo, which come with the next part; the scoreboard (`scoreboard`).

use base::{Instant, Seq};

use crate::context::Core;
use crate::stats::Count;

use super::conn::Conn;
use super::record::{Repair, flag};

/// DupThresh of RFC 5681 and 6675.
pub(crate) const DUP_THRESH: u32 = 3;

impl Conn<'_> {
    /// Bytes believed to be in the network (RFC 6675 SetPipe): sent, not acknowledged, not SACKed, not lost unless sent again.
    pub(crate) fn pipe(&self) -> u32 {
        let outstanding = self.tcb.outstanding();
        let mut out = outstanding.saturating_sub(self.act.sacked_bytes);
        if self.repairing() {
            let from = if self.act.high_rxt.gt(self.tcb.snd_una) {
                self.act.high_rxt
            } else {
                self.tcb.snd_una
            };
            out = out.saturating_sub(self.unsacked(from, self.act.lost_edge));
        }
        out
    }

    /// Up to where the ACKs so far say that unsacked data is lost: DupThresh of them, or of segments' worth of bytes, were
    /// reported above it. `snd_una` when nothing is.
    fn lost_up_to(&self) -> Seq {
        let mss = u32::from(self.tcb.mss);
        if self.tcb.has(flag::SACK) {
            let edge = self.lost_below((DUP_THRESH - 1) * mss + 1);
            if edge == self.tcb.snd_una && u32::from(self.tcb.dup_acks) >= DUP_THRESH {
                // RFC 6675 5 (1): segments shorter than the MSS are missed, too.
                self.hole(edge, self.clip(edge + mss))
                    .map_or(edge, |(_, end)| end)
            } else {
                edge
            }
        } else if u32::from(self.tcb.dup_acks) >= DUP_THRESH {
            // Without SACK only the first segment is known to be missing (RFC 6582).
            self.clip(self.tcb.snd_una + mss)
        } else {
            self.tcb.snd_una
        }
    }

    /// Looks at the scoreboard after an ACK that did not end a repair: widens what is held lost while repairing, and notes that
    /// a repair may have to begin. Returns whether the transmit pass is wanted.
    pub(crate) fn detect_loss(&mut self) -> bool {
        let edge = self.lost_up_to();
        match self.act.repair {
            Repair::Open if edge.gt(self.tcb.snd_una) => {
                self.tcb.flags |= flag::SUSPECT;
                true
            }
            Repair::Recovery | Repair::Loss
                if edge.gt(self.act.lost_edge) && self.tcb.has(flag::SACK) =>
            {
                self.act.lost_edge = edge;
                true
            }
            Repair::Open => false,
            Repair::Recovery | Repair::Loss => true,
        }
    }

    /// Begins fast recovery if what was held lost still is: reordering looks like loss until the late segment's ACK is heard,
    /// which may have come in the same batch. The threshold is counted in ACKs as ever (RFC 5681 3.2, RFC 6675 5).
    pub(crate) fn confirm_loss(&mut self, core: &mut Core) {
        if !self.tcb.has(flag::SUSPECT) {
            return;
        }
        self.tcb.flags &= !flag::SUSPECT;
        let edge = self.lost_up_to();
        if self.act.repair == Repair::Open && edge.gt(self.tcb.snd_una) {
            self.enter_recovery(core, edge);
        }
    }

    fn enter_recovery(&mut self, core: &mut Core, edge: Seq) {
        core.count(Count::TcpFastRetransmits);
        let window = self.tcb.window();
        let flight = self.tcb.outstanding();
        self.tcb.ssthresh = self
            .act
            .control
            .algorithm()
            .on_loss(&window, flight, core.now);
        self.tcb.cwnd = self.tcb.ssthresh;
        self.act.repair = Repair::Recovery;
        self.act.recover = self.tcb.snd_nxt;
        self.act.high_rxt = self.tcb.snd_una;
        self.act.lost_edge = edge;
        self.act.rtt_at = Instant::FAR; // Karn: an ACK may now be for either copy (RFC 6298 3).
        self.tcb.flags |= flag::RETRANSMIT;
    }

    /// An ACK moved `snd_una` during a repair.
    pub(crate) fn advance_repair(&mut self) {
        if self.tcb.snd_una.ge(self.act.recover) {
            if self.act.repair == Repair::Recovery {
                self.tcb.cwnd = self
                    .tcb
                    .cwnd
                    .min(self.tcb.ssthresh.max(2 * u32::from(self.tcb.mss)));
            }
            self.act.repair = Repair::Open;
            self.act.resent = None;
            self.tcb.dup_acks = 0;
            if !self.tcb.has(flag::SACK) {
                self.act.sacked_bytes = 0;
                if self.tcb.snd_una == self.act.recover {
                    self.tcb.flags |= flag::REPAIRED;
                }
            }
            return;
        }
        if self.act.high_rxt.lt(self.tcb.snd_una) {
            self.act.high_rxt = self.tcb.snd_una;
        }
        if self.act.repair == Repair::Recovery && !self.tcb.has(flag::SACK) {
            // RFC 6582 3.2 step 3: a partial ACK says that the next segment is missing too.
            self.act.lost_edge = self.clip(self.tcb.snd_una + u32::from(self.tcb.mss));
            self.act.high_rxt = self.tcb.snd_una;
            self.tcb.flags |= flag::RETRANSMIT;
            self.act.sacked_bytes = self.act.sacked_bytes.min(
                self.tcb
                    .outstanding()
                    .saturating_sub(u32::from(self.tcb.mss)),
            );
        }
    }

    /// The retransmission timer went off (RFC 6298 5.4 to 5.7): everything in flight is held lost, slow start from one segment.
    pub(crate) fn timeout(&mut self, core: &mut Core) {
        core.count(Count::TcpTimeouts);
        let window = self.tcb.window();
        if self.act.timeouts == 0 {
            // RFC 5681 (4): once per loss, not for each backed-off timeout.
            self.tcb.ssthresh =
                self.act
                    .control
                    .algorithm()
                    .on_timeout(&window, self.tcb.outstanding(), core.now);
        } else {
            // RFC 2018 8: after a second timeout do not trust the scoreboard; the receiver may have reneged.
            self.clear_scoreboard();
        }
        self.tcb.cwnd = u32::from(self.tcb.mss);
        self.tcb.backoff = self.tcb.backoff.saturating_add(1);
        self.act.timeouts = self.act.timeouts.saturating_add(1);
        self.tcb.dup_acks = 0;
        if !self.tcb.has(flag::SACK) {
            self.act.sacked_bytes = 0;
        }
        self.act.repair = Repair::Loss;
        self.act.resent = None;
        self.act.recover = self.tcb.snd_nxt;
        self.act.high_rxt = self.tcb.snd_una;
        self.act.lost_edge = self.tcb.snd_nxt;
        self.act.rtt_at = Instant::FAR;
        self.tcb.flags |= flag::RETRANSMIT;
    }

    /// `seq`, but not beyond what was sent.
    fn clip(&self, seq: Seq) -> Seq {
        if seq.gt(self.tcb.snd_nxt) {
            self.tcb.snd_nxt
        } else {
            seq
        }
    }

    /// The next range to send again: the first hole held lost and not sent again yet, at most `limit` bytes. The FIN counts as
    /// a byte at the end.
    pub(crate) fn next_retransmission(&self, limit: u32) -> Option<(Seq, Seq)> {
        if !self.repairing() {
            return None;
        }
        let from = if self.act.high_rxt.gt(self.tcb.snd_una) {
            self.act.high_rxt
        } else {
            self.tcb.snd_una
        };
        let (start, end) = self.hole(from, self.act.lost_edge)?;
        let end = if end.dist(start) > limit {
            start + limit
        } else {
            end
        };
        Some((start, end))
    }
}
