//! Loss repair: when it begins and ends, and how much may be sent meanwhile. Fast recovery with SACK (RFC 8985) or without (RFC
//! 6582), steered by proportional rate reduction (RFC 9937), and repair after a timeout (RFC 5681 3.1, RFC 6298 5).
//!
//! One machine serves the three: [`Repair`] says why, `recover` when it is over; what is held lost stands in the lists of
//! `sent`, and goes out as the congestion window allows. An ACK that speaks of loss only marks the connection: the transmit
//! pass looks once, when all ACKs of a batch were heard.
//!
//! What does not live here: finding out what is lost by time (`rack`), taking a repair back (`undo`).
//!
//! Invariant: a connection that repairs has an [`Episode`], but for a repair that changed no window (a smaller path MTU).

use base::{Instant, Pool};

use crate::context::Core;
use crate::stats::Count;

use super::congestion::Reno;
use super::conn::Conn;
use super::rack::Adapt;
use super::record::{NONE, Repair, flag};
use super::sent::{Again, Board};
use super::undo::Undo;

/// DupThresh of RFC 5681, 6675 and 8985.
pub(crate) const DUP_THRESH: u32 = 3;

/// What one repair keeps, in a record of its own: most connections never need it.
#[derive(Debug)]
pub(crate) struct Episode {
    prr: Prr,
    pub(crate) undo: Undo,
    pub(crate) adapt: Adapt,
}

/// Proportional rate reduction (RFC 9937 6).
#[derive(Debug, Clone, Copy, Default)]
struct Prr {
    /// RecoverFS: in flight when it began.
    flight: u32,
    delivered: u32,
    out: u32,
    /// SND.UNA moved since the last transmit pass.
    advanced: bool,
}

impl Prr {
    /// How many bytes may be sent now that `delivered` more have left the network. `safe`: the ACK moved SND.UNA and spoke of no
    /// further loss (SafeACK).
    fn allow(&mut self, delivered: u32, pipe: u32, ssthresh: u32, mss: u32, safe: bool) -> u32 {
        self.delivered = self.delivered.saturating_add(delivered);
        let allowed = if pipe > ssthresh {
            let share = (u64::from(self.delivered) * u64::from(ssthresh))
                .div_ceil(u64::from(self.flight.max(1)));
            u32::try_from(share)
                .unwrap_or(u32::MAX)
                .saturating_sub(self.out)
        } else {
            // Conservative reduction bound; slow start reduction bound when the repair makes progress.
            let bound = self.delivered.saturating_sub(self.out).max(delivered);
            let bound = if safe { bound + mss } else { bound };
            bound.min(ssthresh - pipe)
        };
        if allowed == 0 && self.out == 0 {
            mss // the fast retransmission itself
        } else {
            allowed
        }
    }
}

impl Conn<'_> {
    /// The lists of what is in flight.
    pub(crate) fn board(&mut self) -> Board<'_> {
        Board {
            flight: &mut self.act.flight,
            nodes: self.nodes,
            mss: u32::from(self.tcb.mss).max(1),
        }
    }

    /// The record of this or the last repair.
    pub(crate) fn episode(&mut self) -> Option<&mut Episode> {
        self.episodes.at_mut(self.act.episode)
    }

    /// Bytes believed to be in the network (RFC 6675 SetPipe): sent, not acknowledged, not SACKed, not lost unless sent again.
    #[inline]
    pub(crate) fn pipe(&self) -> u32 {
        let flight = &self.act.flight;
        self.tcb
            .outstanding()
            .saturating_sub(flight.sacked)
            .saturating_sub(flight.lost)
    }

    /// After an ACK: whether the transmit pass has to look for losses.
    pub(crate) fn suspect_loss(&mut self, news: bool) -> bool {
        let flight = &self.act.flight;
        // An ACK that brings nothing says nothing of what is missing: the timer does, if reordering goes on for long.
        let news = news || !self.tcb.has(flag::SACK);
        let doubtful = (flight.sacked > 0 || flight.lost > 0) && news;
        if self.act.repair != Repair::Open || doubtful {
            self.tcb.flags |= flag::SUSPECT;
        }
        self.tcb.has(flag::SUSPECT)
    }

    /// Looks for losses if ACKs or the reordering timer gave reason to, and begins or goes on with a repair. Reordering looks
    /// like loss until the late segment's ACK is heard, which may have come in the same batch.
    pub(crate) fn confirm_loss(&mut self, core: &mut Core) {
        let delivered = core::mem::take(&mut self.act.delivered);
        if !self.tcb.has(flag::SUSPECT) {
            return;
        }
        self.tcb.flags &= !flag::SUSPECT;
        let lost = if self.tcb.has(flag::SACK) {
            self.detect_by_time(core.now)
        } else {
            self.detect_by_count(&core.pool)
        };
        self.note_lost(lost);
        if !self.repairing() && self.act.flight.lost > 0 && !self.probe_was_lost(core) {
            self.enter_recovery(core, delivered);
        }
        if matches!(self.act.repair, Repair::Recovery | Repair::Reduction) {
            self.steer(delivered, lost);
        }
    }

    /// Without SACK only the first segment is known to be missing (RFC 5681 3.2, RFC 6582).
    fn detect_by_count(&mut self, pool: &Pool) -> u32 {
        if self.repairing() || u32::from(self.act.dup_acks) < DUP_THRESH {
            return 0;
        }
        self.lose_first(pool)
    }

    fn lose_first(&mut self, pool: &Pool) -> u32 {
        let (before, mss) = (self.act.flight.lost, u32::from(self.tcb.mss));
        self.board().lose_first(pool, mss);
        self.act.flight.lost - before
    }

    fn enter_recovery(&mut self, core: &mut Core, delivered: u32) {
        core.count(Count::TcpFastRetransmits);
        if self.act.repair == Repair::Open {
            self.begin_episode(delivered);
            self.reduce(core.now);
        }
        self.act.repair = Repair::Recovery;
        self.act.recover = self.tcb.snd_nxt;
        self.forget_probe();
        self.act.rtt_at = Instant::FAR; // Karn: an ACK may now be for either copy (RFC 6298 3).
        self.tcb.flags |= flag::RETRANSMIT;
    }

    /// Congestion control's answer to a loss.
    fn reduce(&mut self, now: Instant) {
        let window = self.tcb.window();
        let flight = self.tcb.outstanding();
        let spare = &mut Reno::default();
        self.tcb.ssthresh = self.control(spare).on_loss(&window, flight, now);
        self.note_reduced();
    }

    /// A probe repaired a loss: the window is reduced as for one that was found by ACKs (RFC 8985 7.4.1).
    pub(crate) fn reduce_once(&mut self, core: &mut Core) {
        self.reduce(core.now);
        self.tcb.cwnd = self.tcb.cwnd.min(self.tcb.ssthresh);
    }

    /// A fresh record for a repair, with what an undo would bring back.
    pub(crate) fn begin_episode(&mut self, delivered: u32) {
        let flight = self.tcb.outstanding() - self.act.flight.sacked.min(self.tcb.outstanding());
        let episode = Episode {
            prr: Prr {
                flight: flight.saturating_add(delivered),
                ..Prr::default()
            },
            undo: Undo::new(
                self.tcb,
                self.act.flight.again,
                self.controls.at(self.act.control),
            ),
            adapt: self.episode().map(|last| last.adapt).unwrap_or_default(),
        };
        match self.episodes.at_mut(self.act.episode) {
            Some(old) if self.act.episode != NONE => *old = episode,
            _ => {
                self.act.episode = self.episodes.insert(episode).map_or(NONE, |key| key.index);
            }
        }
    }

    /// Sets the window for the next transmit pass of a recovery.
    fn steer(&mut self, delivered: u32, lost: u32) {
        if self.has_model() {
            return;
        }
        let (pipe, ssthresh) = (self.pipe(), self.tcb.ssthresh);
        let mss = u32::from(self.tcb.mss);
        let Some(episode) = self.episodes.at_mut(self.act.episode) else {
            self.tcb.cwnd = ssthresh;
            return;
        };
        // Where nothing is repaired there is no progress to be made of more.
        let repairs = self.act.repair == Repair::Recovery;
        let safe = core::mem::take(&mut episode.prr.advanced) && lost == 0 && repairs;
        let allowed = episode.prr.allow(delivered, pipe, ssthresh, mss, safe);
        // Whole segments are sent again, as Linux counts: what is begun is taken off the next time.
        let allowed = if repairs {
            allowed.next_multiple_of(mss)
        } else {
            allowed
        };
        self.tcb.cwnd = pipe.saturating_add(allowed).max(mss);
    }

    /// Data left, new or again.
    pub(crate) fn note_out(&mut self, len: u32) {
        if matches!(self.act.repair, Repair::Recovery | Repair::Reduction)
            && let Some(episode) = self.episode()
        {
            episode.prr.out = episode.prr.out.saturating_add(len);
        }
    }

    /// An ACK moved `snd_una` during a repair.
    pub(crate) fn advance_repair(&mut self, pool: &Pool) {
        if let Some(episode) = self.episode() {
            episode.prr.advanced = true;
        }
        // A reduction lasts until something sent after it is acknowledged, which told the peer (as Linux).
        let over = match self.act.repair {
            Repair::Reduction if self.tcb.outstanding() > 0 => {
                self.tcb.snd_una.gt(self.act.recover)
            }
            _ => self.tcb.snd_una.ge(self.act.recover),
        };
        if over {
            return self.leave_repair();
        }
        if self.act.repair == Repair::Recovery && !self.tcb.has(flag::SACK) {
            // RFC 6582 3.2 step 3: a partial ACK says that the next segment is missing too.
            self.lose_first(pool);
            self.tcb.flags |= flag::RETRANSMIT;
        }
    }

    fn leave_repair(&mut self) {
        if self.has_model() {
            self.recovery_ended();
        } else if self.act.repair == Repair::Reduction {
            self.tcb.cwnd = self.tcb.ssthresh.max(2 * u32::from(self.tcb.mss));
        } else if self.act.repair == Repair::Recovery {
            self.tcb.cwnd = self.tcb.ssthresh.max(2 * u32::from(self.tcb.mss)); // RFC 9937 6
            self.recovery_ended();
        }
        self.act.repair = Repair::Open;
        self.act.dup_acks = 0;
        self.tcb.flags &= !flag::RETRANSMIT;
        if !self.tcb.has(flag::SACK) {
            self.act.flight.sacked = 0;
            if self.tcb.snd_una == self.act.recover {
                self.tcb.flags |= flag::REPAIRED;
            }
        }
    }

    /// The retransmission timer went off (RFC 6298 5.4 to 5.7): slow start from one segment.
    pub(crate) fn timeout(&mut self, core: &mut Core) {
        core.count(Count::TcpTimeouts);
        if !self.repairing() {
            self.begin_episode(0);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.timed_out(core.now, self.act.timeouts == 0);
        }
        let was = self.act.repair;
        let window = self.tcb.window();
        let answered = self.act.timeouts == 0;
        if answered {
            // RFC 5681 (4): once per loss, not for each backed-off timeout. A fast recovery has reduced it for this window, and
            // shrunk cwnd to what it knew in flight since, which says nothing of the path; Linux keeps it then, too.
            let (flight, spare) = (self.tcb.outstanding(), &mut Reno::default());
            let reduced = self.control(spare).on_timeout(&window, flight, core.now);
            if !matches!(was, Repair::Recovery | Repair::Reduction) {
                self.tcb.ssthresh = reduced;
            }
            self.note_reduced();
        }
        if let Some(model) = self.model() {
            model.on_timeout(window.cwnd);
        }
        self.tcb.cwnd = u32::from(self.tcb.mss);
        self.tcb.backoff = self.tcb.backoff.saturating_add(1);
        self.act.timeouts = self.act.timeouts.saturating_add(1);
        self.lose_all(core.now);
        if let Some(episode) = self.episode() {
            episode.undo.expect_originals(was, answered);
        }
    }

    /// After a timeout everything in flight is held lost, but what was sent too lately to be missed (RFC 8985 6.3).
    pub(crate) fn lose_all(&mut self, now: Instant) {
        if !self.tcb.has(flag::SACK) {
            self.act.flight.sacked = 0;
        } else if self.board().reneged() {
            // RFC 2018 8: the receiver has thrown away what it reported.
            self.board().forget();
        }
        self.act.dup_acks = 0;
        let (wait, now) = (self.patience(), now.micros() as u32);
        let before = self.act.flight.lost;
        self.board().lose(|sent| now.wrapping_sub(sent.at) >= wait);
        self.note_lost(self.act.flight.lost.saturating_sub(before));
        self.act.repair = Repair::Loss;
        self.act.recover = self.tcb.snd_nxt;
        self.act.rtt_at = Instant::FAR;
        self.forget_probe();
        self.stop_early();
        self.tcb.flags |= flag::RETRANSMIT;
    }

    /// Everything in flight is sent again: the peer's window was closed to it, or it was too big for the path.
    pub(crate) fn lose_whole_flight(&mut self) {
        if !self.act.flight.is_empty() {
            self.board().lose(|_| true);
            self.tcb.flags |= flag::RETRANSMIT;
        }
    }

    /// Counts a duplicate ACK; without SACK it stands for a segment that has left the network (RFC 6582).
    pub(crate) fn count_duplicate(&mut self) {
        self.act.dup_acks = self.act.dup_acks.saturating_add(1);
        if self.tcb.has(flag::SACK) || self.act.repair == Repair::Loss {
            return;
        }
        let mss = u32::from(self.tcb.mss);
        let most = self.tcb.outstanding().saturating_sub(mss);
        let sacked = &mut self.act.flight.sacked;
        let before = *sacked;
        *sacked = (*sacked + mss).min(most).max(before.min(most));
        self.act.delivered = self
            .act
            .delivered
            .saturating_add(sacked.saturating_sub(before));
    }

    /// Without SACK: `acked` bytes are acknowledged, of which duplicate ACKs may have told before. Returns what is news.
    pub(crate) fn settle_duplicates(&mut self, acked: u32) -> u32 {
        let (mss, left) = (u32::from(self.tcb.mss), self.tcb.outstanding());
        let sacked = &mut self.act.flight.sacked;
        let told = if self.act.repair == Repair::Recovery {
            acked.saturating_sub(mss).min(*sacked)
        } else {
            *sacked // they meant reordering, not loss
        };
        *sacked = (*sacked - told).min(left.saturating_sub(mss));
        acked.saturating_sub(told)
    }

    /// The next number range to be sent again, at most `limit` long; the FIN counts as a byte at the end. A window that has
    /// shrunk holds for what is sent again, too (RFC 9293 3.8.6), but the first of it may always go.
    pub(crate) fn next_lost(&mut self, limit: u32) -> Option<Again> {
        self.board().gather();
        let next = self.board().next_lost()?;
        let edge = self.tcb.snd_una + self.tcb.snd_wnd;
        if next.start.lt(edge) {
            Some(next.up_to(limit.min(edge.dist(next.start))))
        } else {
            (next.start == self.tcb.snd_una).then(|| next.up_to(limit))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9937 3 and 6: halved over a round trip, ssthresh at its end, whatever the order of ACKs.
    #[test]
    fn the_window_is_reduced_in_proportion_to_what_is_delivered() {
        let (mss, flight, ssthresh) = (1000, 20_000, 10_000);
        let mut prr = Prr {
            flight,
            ..Prr::default()
        };
        // One of twenty was lost; each ACK delivers one of the others.
        let mut pipe = flight - mss;
        for round in 0..19 {
            pipe -= mss;
            let allowed = prr.allow(mss, pipe, ssthresh, mss, false);
            // The first goes out in any case: the fast retransmission.
            let sent = (allowed - allowed % mss).max(if round == 0 { mss } else { 0 });
            prr.out += sent;
            pipe += sent;
        }
        assert!(
            pipe.abs_diff(ssthresh) <= mss,
            "{pipe} in flight at its end"
        );
    }

    /// RFC 9937 6: below ssthresh as much as is delivered (CRB), and a segment more when the repair makes progress (SSRB).
    #[test]
    fn below_the_threshold_progress_decides() {
        let mut prr = Prr {
            flight: 20_000,
            out: 1000,
            ..Prr::default()
        };
        assert_eq!(prr.allow(1000, 4000, 10_000, 1000, false), 1000);
        prr.out += 1000;
        assert_eq!(prr.allow(1000, 4000, 10_000, 1000, true), 2000);
        prr.out += 2000;
        assert_eq!(
            prr.allow(3000, 9500, 10_000, 1000, true),
            500,
            "never beyond it"
        );
    }
}
