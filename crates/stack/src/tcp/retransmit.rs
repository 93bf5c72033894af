//! Sending again: what repair wants, and probes of the tail (RFC 5681 3.2, RFC 8985 7.3).
//!
//! What does not live here: deciding what is lost (`recovery`, `rack`), new data (`output`).
//!
//! Invariant: a super-frame is pushed each time it is sent, and ends where one did before (`sent::frames`), so that what the
//! receiver's offload waits for is the same.
//! Invariant: what is sent again shares no segment with what it did not share one with the first time, if a record ended between.

use base::Instant;
use wire::tcp::Flags;

use crate::context::Core;
use crate::stats::Count;

use super::conn::Conn;
use super::output::{Payload, Way, super_frame};
use super::record::flag;
use super::sent::Again;

impl Conn<'_> {
    /// A probe of the tail (RFC 8985 7.3): new data if there is some the peer takes, else the last segment again.
    pub(super) fn send_loss_probe(&mut self, core: &mut Core, way: &mut Way<'_>) -> usize {
        self.stop_early();
        if self.tcb.outstanding() == 0 || self.repairing() {
            return 0;
        }
        let mss = u32::from(self.tcb.mss);
        let len = self.first_record().0.min(mss);
        if len > 0 && self.window_fits(len) {
            let sent = self.send_new(core, way, len);
            self.probe_sent(core, true);
            return usize::from(sent);
        }
        let fin = u32::from(self.tcb.has(flag::FIN_SENT));
        let Some(last) = self.board().last(&core.pool, fin) else {
            return 0;
        };
        // Beyond a window that shrank only what is next is sent again, when the timer says so (RFC 9293 SHLD-16, SHLD-17).
        let edge = self.tcb.snd_una + self.tcb.snd_wnd;
        if last.start != self.tcb.snd_una && !last.start.lt(edge) {
            return 0;
        }
        let sent = self.emit_again(core, way, last);
        self.board().last_resent(core.now.micros() as u32);
        self.note_again(core, last.len());
        self.probe_sent(core, false);
        usize::from(sent)
    }

    /// Something was sent again.
    fn note_again(&mut self, core: &mut Core, len: u32) {
        core.count(Count::TcpRetransmits);
        self.forget_mtu_probe();
        self.act.rtt_at = Instant::FAR; // Karn (RFC 6298 3, MUST-18)
        self.tcb.last_sent = core.now.millis() as u32;
        self.note_out(len);
        self.note_rate(core, len, self.pipe().saturating_sub(len));
        if self.profile.options.paces() {
            self.pace(core.now, &core.tcp, len);
        }
        let stamp = self.tcb.tsval(core.now);
        if let Some(episode) = self.episode() {
            episode.undo.resent(len, stamp);
        }
    }

    /// Sends the next range that repair wants sent again. The first one after loss was found goes out whatever the pipe.
    pub(super) fn retransmit_next(&mut self, core: &mut Core, way: &mut Way<'_>) -> bool {
        let first = self.tcb.has(flag::RETRANSMIT);
        let mss = u32::from(self.tcb.mss);
        let room = self.congestion_room();
        if !first && room < mss {
            return false;
        }
        let limit = if way.tso && self.urgent_mode().is_none() {
            (room - room % mss).clamp(mss, super_frame(mss))
        } else {
            mss
        };
        let waits = self.episode().is_some_and(|e| e.undo.probes());
        let next = self.next_lost(limit).filter(|_| !waits);
        let Some(next) = next else {
            self.tcb.flags &= !flag::RETRANSMIT;
            return false;
        };
        self.tcb.flags &= !flag::RETRANSMIT;
        let ok = self.emit_again(core, way, next);
        let (len, together) = (next.len(), self.together());
        self.board()
            .resent(&core.pool, len, core.now.micros() as u32, together);
        self.note_again(core, len);
        // RFC 6675 6: the first of a repair gets a timeout of its own, not what is left of the lost segment's.
        if first || self.act.rto_at == Instant::FAR {
            self.act.rto_at = self.next_timeout(core.now);
        }
        ok
    }

    /// Sends numbers again that were sent before; the FIN is the last of them.
    fn emit_again(&mut self, core: &mut Core, way: &mut Way<'_>, what: Again) -> bool {
        let data_end = self.tcb.snd_una + self.act.sent.len() as u32;
        let fin = what.end.gt(data_end);
        let len = what.len() - u32::from(fin);
        if let Some(ledger) = &mut self.ledger {
            ledger.left_again(len, u32::from(self.tcb.mss));
        }
        let mut flags = Flags(0);
        // A super-frame has it each time it is sent (`send_new`).
        if what.pushed || len > u32::from(self.tcb.mss) {
            flags |= Flags::PSH;
        }
        if fin {
            flags |= Flags::FIN;
        }
        if len == 0 {
            return self.emit(core, way, what.start, Flags::FIN, None);
        }
        let Some(mut from) = what.place else {
            debug_assert!(false, "what is in flight is in the queue");
            return false;
        };
        let sent = core::mem::take(&mut self.act.sent);
        let data = Payload {
            queue: &sent,
            from: &mut from,
            len: len as usize,
        };
        let ok = self.emit(core, way, what.start, flags, Some(data));
        self.act.sent = sent;
        ok
    }
}
