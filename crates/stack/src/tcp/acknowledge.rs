//! What an acknowledgment does to a connection (RFC 9293 3.10.7.4 fifth, RFC 5681, RFC 6298, RFC 7323 4).
//!
//! What does not live here: deciding what is lost (`recovery`) and sending (`output`).

use base::{Instant, Seq};

use crate::context::Core;
use crate::socket::Ready;
use crate::stats::Drop;

use super::acc_ecn::Marks;
use super::congestion::{Ack, Reno};
use super::conn::Conn;
use super::record::{NONE, Repair, flag, more};
use super::segment::Segment;
use super::sent::{Board, Delivery};

/// What a SACK option said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Blocks {
    dsack: bool,
    held: bool,
}

impl Blocks {
    const NONE: Self = Self {
        dsack: false,
        held: false,
    };
}

/// What came of an ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Acked {
    /// The transmit pass may have work now.
    pub(crate) send: bool,
    /// Our FIN is acknowledged.
    pub(crate) fin: bool,
    pub(crate) raise: Ready,
}

impl Conn<'_> {
    /// Takes in the ACK, SACK and window of a segment that passed the sequence check.
    ///
    /// # Errors
    /// The reason to drop the segment when the ACK is not credible; a challenge ACK is owed then (RFC 5961 5.2).
    pub(crate) fn acknowledge(&mut self, core: &mut Core, seg: &Segment) -> Result<Acked, Drop> {
        let una = self.tcb.snd_una;
        // RFC 5961 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT, else an ACK and drop.
        if seg.ack.gt(self.tcb.snd_nxt)
            || (seg.ack.lt(una) && una.dist(seg.ack) > self.tcb.max_wnd().max(1))
        {
            self.challenge(core);
            return Err(Drop::TcpBadAck);
        }
        let mut delivery = self.delivery(core.now, seg.timestamps.map(|(_, echo)| echo));
        let blocks = self.take_sacks(core, seg, &mut delivery);
        let sacked = delivery.bytes;
        let window_moved = self.update_send_window(seg);
        let flight = self.tcb.outstanding();
        let mut out = Acked {
            send: window_moved || sacked > 0,
            ..Acked::default()
        };
        let (mut duplicate, advanced) = (false, seg.ack.gt(una));
        if advanced {
            out.fin = self.advance(core, seg, flight, &mut delivery);
            if out.fin {
                out.raise |= Ready::CHANGED; // FIN-WAIT-2, or the end
            }
            self.probe_arrived(core);
            out.send = true;
            if self.tcb.has(flag::WANT_WRITE) && self.is_writable(core) {
                self.tcb.flags &= !flag::WANT_WRITE;
                out.raise |= Ready::WRITABLE;
            }
        } else if seg.ack == una {
            duplicate = self.note_duplicate(seg, flight, window_moved, sacked);
            if delivery.oldest > 0 && !delivery.again {
                self.measure(core.now, seg, &delivery); // what was SACKed tells the round trip, too
            }
        }
        self.delivered(&delivery);
        if delivery.bytes > 0 && self.tcb.has(flag::SACK) {
            self.act.delivered = self.act.delivered.saturating_add(delivery.bytes);
        }
        let repeated = seg.ack == una && seg.len == 0 && blocks == Blocks::NONE;
        if self.probe_repaired(seg.ack, repeated, blocks.dsack) {
            self.reduce_once(core);
        }
        self.reconsider(core, seg, &delivery, (una, duplicate));
        let marks = if self.speaks_any_ecn() {
            self.hear_ecn(core, seg, (&delivery, advanced))
        } else {
            Marks::default()
        };
        let marked = marks.segments > 0;
        if self.profile.options.algorithm().watches() && delivery.bytes > 0 {
            let ack = self.facts(core, &delivery, (delivery.bytes, false), marks.bytes);
            self.control(&mut Reno::default()).on_delivery(&ack);
        }
        if marked && flight > 0 {
            self.hear_echo(core, delivery.bytes, marks.segments);
        }
        if self.act.repair != Repair::Open && advanced {
            self.advance_repair(&core.pool);
        }
        if self.has_model() && flight > 0 {
            self.follow_model(core, &delivery, marked);
        }
        let news = delivery.latest.is_some();
        if flight > 0 && self.tcb.outstanding() > 0 && self.suspect_loss(news) {
            out.send = true;
        }
        self.end_ack(core.now, una, &delivery, out.fin);
        Ok(out)
    }

    /// What outlasts the ACK: what may yet be heard of a repair, and the account.
    #[inline]
    fn end_ack(&mut self, now: Instant, una: Seq, delivery: &Delivery, fin: bool) {
        if self.act.episode != NONE && self.tcb.outstanding() == 0 {
            self.await_duplicates(now, self.tcb.snd_una != una);
        }
        if self.ledger.is_some() {
            self.account_ack(now, una, delivery, fin);
        }
    }

    /// Takes in the SACK option: a D-SACK first (RFC 2883 5), then what the peer holds.
    fn take_sacks(&mut self, core: &mut Core, seg: &Segment, delivery: &mut Delivery) -> Blocks {
        let mut told = Blocks::NONE;
        let Some(sack) = seg.options.as_ref().map(|options| &options.sack) else {
            return told;
        };
        if sack.len == 0 || !self.tcb.has(flag::SACK) {
            return told;
        }
        let mut blocks = [(Seq(0), Seq(0)); 4];
        let mut count = 0;
        for (at, &(start, end)) in sack.as_slice().iter().take(4).enumerate() {
            let (start, end) = (Seq(start), Seq(end));
            // RFC 2883 5: below the ACK, or within the second block.
            let within = |other: &(u32, u32)| start.ge(Seq(other.0)) && end.le(Seq(other.1));
            let again = start.lt(seg.ack) || sack.as_slice().get(1).is_some_and(within);
            if at == 0 && again && start.lt(end) && end.le(self.tcb.snd_nxt) {
                told.dsack = true;
                self.note_dsack(core, start, end);
            } else if start.lt(end) && start.ge(self.tcb.snd_una) && end.le(self.tcb.snd_nxt) {
                // RFC 2018 3, RFC 6675 4: blocks outside what is in flight are stale.
                blocks[count] = (start, end);
                count += 1;
            }
        }
        let una = self.tcb.snd_una;
        blocks[..count].sort_unstable_by_key(|(start, _)| start.dist(una));
        told.held = count > 0;
        let _seen = self.board().sack(&core.pool, &blocks[..count], delivery);
        told
    }

    /// RFC 9293 3.10.7.4: the send window, by Linux's rule for which segment is newer (no SND.WL2 needed).
    fn update_send_window(&mut self, seg: &Segment) -> bool {
        // Never scaled on a SYN (RFC 7323 2.2), which comes here when both sides opened at once.
        let syn = seg.has(wire::tcp::Flags::SYN);
        let window = u32::from(seg.window) << if syn { 0 } else { self.tcb.snd_scale() };
        let newer = seg.ack.gt(self.tcb.snd_una)
            || seg.seq.gt(self.tcb.snd_wl1)
            || (seg.seq == self.tcb.snd_wl1 && (window > self.tcb.snd_wnd || window == 0));
        if !newer || seg.ack.lt(self.tcb.snd_una) {
            return false;
        }
        let changed = window != self.tcb.snd_wnd;
        if changed && self.tcb.outstanding() == 0 {
            // The window opened or closed with nothing in flight: probing starts afresh, though not sooner after a timeout than a
            // sample allows (Karn, RFC 6298 5).
            self.act.rto_at = Instant::FAR;
            if window > 0 {
                self.tcb.backoff = 0;
                self.act.stuck_since = Instant::FAR;
            }
        } else if changed && self.tcb.snd_wnd == 0 && self.act.timeouts > 0 {
            // What the closed window did not let in is sent again now, not when the backed-off timer says so.
            self.tcb.backoff = 0;
            self.act.timeouts = 0;
            self.lose_whole_flight();
        }
        self.tcb.snd_wl1 = seg.seq;
        self.tcb.snd_wnd = window;
        self.tcb.note_offer(window);
        changed
    }

    /// `snd_una` moves: bytes are freed, the round trip is measured, the window grows. Returns whether our FIN is covered.
    fn advance(
        &mut self,
        core: &mut Core,
        seg: &Segment,
        flight: u32,
        delivery: &mut Delivery,
    ) -> bool {
        let acked = seg.ack.dist(self.tcb.snd_una);
        let bytes = (acked as usize).min(self.act.sent.len());
        core.queued(|pool| pool.pull_front(&mut self.act.sent, bytes));
        self.tcb.snd_una = seg.ack;
        self.act.more = false; // as Linux: an ACK lets go of what MSG_MORE held back
        Board {
            flight: &mut self.act.flight,
            nodes: self.nodes,
            mss: u32::from(self.tcb.mss),
        }
        .acknowledge(&core.pool, &self.act.sent, seg.ack, delivery);
        // What the peer had SACKed before was counted when it was SACKed.
        let delivered = if self.tcb.has(flag::SACK) {
            delivery.bytes
        } else {
            let news = self.settle_duplicates(acked);
            self.act.delivered = self.act.delivered.saturating_add(news);
            news
        };
        self.measure(core.now, seg, delivery);
        self.act.timeouts = 0;
        self.act.dup_acks = 0;
        self.tcb.flags = self.tcb.flags & !flag::REPAIRED | flag::PROGRESS;
        self.tcb.more |= more::PACED;
        let echo = self.echoes(seg);
        if delivered > 0 && !echo {
            self.grow(core, (acked, delivered), flight, delivery);
        }
        let left = self.tcb.outstanding();
        if left == 0 {
            self.act.rto_at = Instant::FAR; // RFC 6298 5.2
            self.act.stuck_since = Instant::FAR;
            self.stop_early();
        } else {
            self.act.rto_at = self.rto_from(core.now); // RFC 6298 5.3
            self.act.stuck_since = core.now;
        }
        self.tcb.has(flag::FIN_SENT) && left == 0
    }

    /// Takes a round-trip sample: of what was sent once only (Karn, RFC 6298 3, MUST-18), else by the echoed timestamp, also when
    /// nothing is repaired but a probe of the tail left.
    fn measure(&mut self, now: Instant, seg: &Segment, delivery: &Delivery) {
        if delivery.oldest > 0 && !delivery.again {
            self.sample_delivery(delivery.oldest);
            self.note_min_rtt(now, delivery.sample());
        } else if self.repairing() || delivery.again {
            // After a timeout the ACK that was lost may come again, with the stamp of long ago: no round trip took so long.
            let since_sent = (now.millis() as u32).wrapping_sub(self.tcb.last_sent);
            let of_the_last = seg
                .timestamps
                .is_some_and(|(_, echoed)| self.tcb.tsval(now).wrapping_sub(echoed) <= since_sent);
            if self.act.timeouts == 0 || of_the_last {
                self.tcb.sample_echo(now, seg);
            }
        }
    }

    /// Lets congestion control open the window, when the window was what limited sending (RFC 7661's reason, Linux's rule).
    fn grow(
        &mut self,
        core: &Core,
        (acked, delivered): (u32, u32),
        flight: u32,
        delivery: &Delivery,
    ) {
        if matches!(self.act.repair, Repair::Recovery | Repair::Reduction) {
            return;
        }
        let mut window = self.tcb.window();
        let limited = self.is_limited(flight);
        // RFC 5681 3.1 (2): at most a segment for each ACK of one, and a short one that came through whole says as much as a long one
        // (as Linux): else the window after a timeout of short ones has room for one only, whose ACK is delayed.
        let (una, small) = (self.tcb.snd_una, self.act.small);
        let short = small.le(una) && una.dist(small) < acked;
        let delivered = if short {
            delivered.next_multiple_of(window.mss.max(1))
        } else {
            delivered
        };
        let ack = self.facts(core, delivery, (delivered, limited), 0);
        self.control(&mut Reno::default()).on_ack(&mut window, &ack);
        // Twice the largest send buffer is more than can ever be in flight.
        window.cwnd = window.cwnd.min(1 << 30);
        self.tcb.set_window(window);
    }

    /// What congestion control learns of an ACK.
    fn facts(
        &self,
        core: &Core,
        delivery: &Delivery,
        (acked, limited): (u32, bool),
        marked: u32,
    ) -> Ack {
        Ack {
            now: core.now,
            acked,
            limited,
            marked,
            paced: self.profile.options.paces(),
            rtt: delivery.sample(),
            min_rtt: self.act.rack.min_rtt,
            una: self.tcb.snd_una,
            next: self.tcb.snd_nxt,
            hystart: core.tcp.hystart(),
        }
    }

    /// Duplicate ACKs (RFC 5681 2): nothing but a repeated ACK while data is in flight. Returns whether this is one.
    fn note_duplicate(
        &mut self,
        seg: &Segment,
        flight: u32,
        window_moved: bool,
        sacked: u32,
    ) -> bool {
        let pure = seg.len == 0 && seg.sequence_len() == 0 && !window_moved;
        // With SACK only new SACK information makes a duplicate ACK (RFC 6675 2).
        let duplicate = if self.tcb.has(flag::SACK) {
            sacked > 0
        } else {
            // RFC 6582 3.2 step 2: none count until something above the last repair is acknowledged.
            pure && !self.tcb.has(flag::REPAIRED)
        };
        if flight == 0 || !duplicate {
            return false;
        }
        self.count_duplicate();
        true
    }
}
