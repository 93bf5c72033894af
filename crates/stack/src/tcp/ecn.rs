//! Explicit congestion notification (RFC 3168): who speaks it, what is marked, echoed and answered.
//!
//! What does not live here: the accurate variant's handshake and counters (`acc_ecn`), by how much a mark shrinks the window (`congestion`), and over what time (`recovery`).
//!
//! Invariant: only new data carries ECT(0), never a SYN, a bare ACK, a probe or a retransmission (RFC 3168 6.1.1, 6.1.4 to
//! 6.1.6); with DCTCP all but SYNs, with accurate ECN, too, but bare ACKs only where there is SACK.
//! Invariant: the window is reduced once for a round trip of echoes (RFC 3168 6.1.2).

use wire::tcp::{Flags, Options};

use crate::context::Core;

use super::acc_ecn::{Asked, Marks, asked};
use super::congestion::Congestion;
use super::conn::Conn;
use super::output::Way;
use super::profile::TcpOptions;
use super::record::{Repair, flag, half, more};
use super::segment::Segment;
use super::sent::Delivery;
use super::tunables::TcpTunables;

/// The two bits of the IP header.
const ECT_0: u8 = 2;
const CE: u8 = 3;
/// ACKs that do not wait once a mark was seen: the sender's window may be small (as Linux).
const QUICK: u8 = 2;

impl TcpOptions {
    fn needs_ecn(&self) -> bool {
        self.algorithm() == Congestion::Dctcp
    }
}

/// What a SYN that asks for ECN makes of a half-open connection: nothing if something on the way sets the bits of the IP header,
/// which no SYN has (RFC 3168 6.1.1).
pub(super) fn half_flags(tcp: &TcpTunables, options: &TcpOptions, seg: &Segment) -> u8 {
    let asked = seg.has(Flags::ECE | Flags::CWR) && (tcp.ecn < 3 || !seg.has(Flags::AE));
    let willing = (tcp.ecn != 0 && seg.ecn == 0) || options.needs_ecn();
    if asked && willing { half::ECN } else { 0 }
}

impl Conn<'_> {
    #[inline]
    pub(crate) fn speaks_ecn(&self) -> bool {
        self.tcb.more & more::ECN != 0
    }

    /// Whether ECN is spoken, classic or accurate.
    #[inline]
    pub(super) fn speaks_any_ecn(&self) -> bool {
        self.tcb.more & (more::ECN | more::ACC_ECN) != 0
    }

    /// Bytes of options that every segment has.
    #[inline]
    pub(super) fn option_bytes(&self) -> u16 {
        self.tcb.stamps() + self.acc_ecn.as_ref().map_or(0, |a| a.reserve())
    }

    /// The flags of our SYN, or of the answer to one that crossed it. One that was lost with ECN goes without
    /// (`ecn_fallback`): something on the way may drop it for that.
    pub(super) fn syn_flags(&mut self, tcp: &TcpTunables, answer: bool, first: bool) -> Flags {
        if first && !answer {
            self.tcb.more |= match asked(tcp, &self.profile.options) {
                Asked::Nothing => 0,
                Asked::Classic => more::ECN,
                Asked::Accurate => more::ACC_ECN,
            };
        }
        if self.tcb.is_accurate() {
            return self.accurate_syn(tcp, answer);
        }
        if answer {
            return if self.speaks_ecn() {
                Flags::SYN | Flags::ECE
            } else {
                Flags::SYN
            };
        }
        if self.speaks_ecn() && (first || tcp.ecn_fallback == 0) {
            Flags::SYN | Flags::ECE | Flags::CWR
        } else {
            Flags::SYN
        }
    }

    /// The peer's SYN, or its answer to ours, says whether it speaks ECN (RFC 3168 6.1.1).
    pub(super) fn agree_on_ecn(&mut self, core: &Core, seg: &Segment) {
        if self.tcb.is_accurate() {
            return self.agree_accurately(core, seg);
        }
        let said = Flags(seg.flags.0 & (Flags::ECE | Flags::CWR).0);
        let agrees = if seg.has(Flags::ACK) {
            said == Flags::ECE
        } else {
            said == Flags::ECE | Flags::CWR
        };
        if !agrees {
            self.tcb.more &= !more::ECN;
        }
    }

    /// Data of the peer: what the network and the peer say by their bits (RFC 3168 6.1.3, RFC 8257 3.2).
    pub(super) fn hear_marks(&mut self, seg: &Segment) {
        let was = self.tcb.more;
        let follows = self.profile.options.needs_ecn();
        if seg.has(Flags::CWR) && !follows {
            self.tcb.more &= !more::ECE;
            self.tcb.ack_now();
        }
        // RFC 3168 6.1.5: what the network did to data that came before is not heard.
        if (seg.seq + seg.len).le(self.tcb.rcv_nxt) {
            return;
        }
        if follows {
            // The echo follows the marks; when they change the ACK does not wait.
            self.tcb.more &= !more::ECE;
            if seg.ecn == CE {
                self.tcb.more |= more::ECE;
            }
            if (was ^ self.tcb.more) & more::ECE != 0 {
                self.tcb.ack_now();
            }
        } else if seg.ecn == CE && self.tcb.more & more::ECE == 0 {
            self.tcb.more |= more::ECE;
            self.tcb.hurry(QUICK);
        } else if seg.ecn == 0 && was & more::ECN_SEEN != 0 {
            // No mark where there were some: probably a retransmission, whose sender waits.
            self.tcb.hurry(QUICK);
        }
        if seg.ecn != 0 {
            self.tcb.more |= more::ECN_SEEN;
        }
    }

    /// What a segment that leaves says, in its flags, its options and in the IP header.
    pub(super) fn speak_ecn(
        &mut self,
        core: &Core,
        (flags, options): (&mut Flags, &mut Options),
        (data, again): (bool, bool),
    ) -> u8 {
        if self.acc_ecn.is_some() {
            self.speak_accurately(core, (flags, options), (data, data && again))
        } else {
            self.speak_marks(flags, data && !again)
        }
    }

    /// Before the segments of a transmit pass, of a connection with accurate ECN. Returns what was sent.
    pub(super) fn before_segments(&mut self, core: &mut Core, way: &mut Way<'_>) -> usize {
        if self.counter_has_cwr() {
            way.tso = false;
        }
        if self.owes_reflection() && !self.tcb.opening() {
            self.send_bare(core, way, self.tcb.snd_nxt, Flags(0))
        } else {
            0
        }
    }

    /// What an ACK that was taken in says of marks. `moved`: it acknowledges more than any before.
    pub(super) fn hear_ecn(
        &mut self,
        core: &Core,
        seg: &Segment,
        (delivery, moved): (&Delivery, bool),
    ) -> Marks {
        if seg.has(Flags::SYN) {
            return Marks::default();
        }
        if self.acc_ecn.is_some() {
            return self.hear_accurately(core, seg, (delivery, moved));
        }
        if !seg.has(Flags::ECE) {
            return Marks::default();
        }
        Marks {
            segments: delivery.segments.max(1),
            bytes: delivery.bytes,
        }
    }

    /// Whether an ACK seems to tell of marks, before it is taken in.
    #[inline]
    pub(super) fn echoes(&self, seg: &Segment) -> bool {
        match self.acc_ecn {
            None => self.speaks_ecn() && seg.has(Flags::ECE),
            Some(_) => self.tells_of_marks(seg),
        }
    }

    /// What a segment that leaves says by classic ECN, in its flags and in the IP header; `new`: it carries data for the first time.
    pub(super) fn speak_marks(&self, flags: &mut Flags, new: bool) -> u8 {
        if self.tcb.more & more::ECE != 0 {
            *flags |= Flags::ECE;
        }
        if new && self.owes_cwr() {
            *flags |= Flags::CWR;
        }
        if new || self.profile.options.needs_ecn() {
            ECT_0
        } else {
            0
        }
    }

    /// The next new segment tells the peer that the window was reduced; it goes alone, so that no device has to set the flag
    /// in the first of several segments only.
    #[inline]
    pub(super) fn owes_cwr(&self) -> bool {
        self.tcb.more & more::CWR != 0
    }

    /// The window was reduced, for whatever reason (RFC 3168 6.1.2).
    pub(super) fn note_reduced(&mut self) {
        if self.speaks_ecn() {
            self.tcb.more |= more::CWR;
        }
    }

    /// An ACK echoes a mark: `news` bytes were delivered with it.
    pub(super) fn hear_echo(&mut self, core: &mut Core, news: u32, segments: u32) {
        if let Some(ledger) = &mut self.ledger {
            ledger.delivered_ce = ledger.delivered_ce.wrapping_add(segments);
        }
        if self.act.repair != Repair::Open || self.owes_cwr() {
            return; // this round trip's reduction is made
        }
        if self.has_model() {
            return self.note_reduced(); // the model heard of it
        }
        let window = self.tcb.window();
        let flight = self.tcb.outstanding().saturating_add(news);
        self.begin_episode(self.act.delivered);
        self.forbid_undo();
        let spare = &mut super::congestion::Reno::default();
        self.tcb.ssthresh = self.control(spare).on_mark(&window, flight, core.now);
        self.note_reduced();
        if self.tcb.outstanding() == 0 {
            self.tcb.cwnd = self.tcb.cwnd.min(self.tcb.ssthresh);
            return;
        }
        self.act.repair = Repair::Reduction;
        self.act.recover = self.tcb.snd_nxt;
        self.forget_probe();
        self.tcb.flags |= flag::SUSPECT;
    }
}
