//! Agreeing on accurate ECN, and testing the path while at it (RFC 9768 3.1, 3.2.2.1, 3.2.2.3).
//!
//! What does not live here: classic ECN's handshake (`tcp::ecn`), which this falls back to.

use wire::tcp::{AccEcn as AccEcnOption, Flags};

use crate::context::Core;
use crate::tcp::conn::Conn;
use crate::tcp::profile::TcpOptions;
use crate::tcp::record::{HalfOpen, half_ecn, more};
use crate::tcp::segment::Segment;
use crate::tcp::tunables::TcpTunables;
use crate::tcp::{Congestion, Tcp};

use super::{AccEcn, BEGIN, CE, ECT_0, ECT_1, ace, bit};

/// A SYN and one more ask for accurate ECN, those after them for nothing (RFC 9768 3.1.4).
const ASKED_AGAIN: u8 = 1;
/// A SYN-ACK and one more agree, those after them do not (RFC 9768 3.2.3.2.2).
const AGREED_AGAIN: u8 = 1;

/// What a SYN asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tcp) enum Asked {
    Nothing,
    Classic,
    Accurate,
}

/// What a SYN of ours asks for.
pub(in crate::tcp) fn asked(tcp: &TcpTunables, options: &TcpOptions) -> Asked {
    match tcp.ecn {
        3 => Asked::Accurate,
        1 | 4 => Asked::Classic,
        _ if options.algorithm() == Congestion::Dctcp => Asked::Classic,
        _ => Asked::Nothing,
    }
}

/// The mark a SYN or SYN-ACK came with, as its answer says it (RFC 9768 tables 2 and 3).
fn reflection(mark: u8) -> u8 {
    match mark & 3 {
        ECT_1 => 0b011,
        ECT_0 => 0b100,
        CE => 0b110,
        _ => 0b010,
    }
}

/// Flags of that ACE value.
fn flags(ace: u8) -> Flags {
    Flags(u16::from(ace & 7) << 6)
}

/// What a SYN asks for, of a host that may answer with accurate ECN: any other than none and classic ECN's is it (RFC 9768 3.1.3).
fn asks_accurate(tcp: &TcpTunables, seg: &Segment) -> bool {
    tcp.ecn >= 3 && !matches!(ace(seg), 0 | 0b011)
}

/// The `half_ecn` bits of a SYN.
pub(in crate::tcp) fn half_bits(tcp: &TcpTunables, seg: &Segment) -> u8 {
    if asks_accurate(tcp, seg) {
        half_ecn::ACCURATE | seg.ecn
    } else {
        0
    }
}

/// The option of a SYN-ACK that is the first one.
fn first_option(tcp: &TcpTunables, first: bool) -> Option<AccEcnOption> {
    let option = AccEcnOption::new(true, &[BEGIN.e1b, BEGIN.ceb, BEGIN.e0b]);
    (first && tcp.ecn_option != 0).then_some(option)
}

/// What the SYN-ACK of a half-open connection says: flags, and the option the first time only.
pub(in crate::tcp) fn syn_ack_says(
    tcp: &TcpTunables,
    h: &HalfOpen,
) -> (Flags, Option<AccEcnOption>) {
    if h.ecn & half_ecn::ACCURATE == 0 || h.fell_back(tcp) {
        return (Flags(0), None);
    }
    (flags(reflection(h.ecn)), first_option(tcp, h.retries == 0))
}

impl HalfOpen {
    /// Whether a SYN-ACK went without, since others were lost.
    fn fell_back(&self, tcp: &TcpTunables) -> bool {
        self.retries > AGREED_AGAIN && tcp.ecn_fallback != 0
    }

    /// Its SYN comes again; `None`: asking for classic ECN after accurate, which must be reset (RFC 9768 3.1.5). Else whether it is
    /// another SYN, not a copy.
    pub(in crate::tcp) fn asked_again(&mut self, seg: &Segment, classic: bool) -> Option<bool> {
        let said = ace(seg);
        if self.ecn & half_ecn::ACCURATE == 0 {
            return Some(said != 0 && !classic && self.retries == 0);
        }
        if said == 0b011 {
            return None;
        }
        let other = said == 0 && self.ecn & half_ecn::PLAIN_TOO == 0;
        if said == 0 {
            self.ecn |= half_ecn::PLAIN_TOO;
        }
        self.ecn = self.ecn & !half_ecn::MARK | seg.ecn & half_ecn::MARK;
        Some(other)
    }

    /// Whether accurate ECN was agreed on, by the segment that ends the handshake. A peer that got the SYN-ACK without cannot know.
    pub(in crate::tcp) fn agreed(&self, tcp: &TcpTunables, seg: &Segment) -> bool {
        self.ecn & half_ecn::ACCURATE != 0 && !(self.fell_back(tcp) && ace(seg) == 0)
    }
}

impl Tcp {
    /// A connection through a listener speaks accurate ECN.
    pub(in crate::tcp) fn open_acc_ecn(&mut self, tcp: &TcpTunables, index: u32, h: &HalfOpen) {
        if h.ecn & half_ecn::ACCURATE == 0 {
            return;
        }
        // RFC 9768 3.1.5: one that asked without once may have fallen back, and so may one that was answered without.
        let plain = match h.ecn & half_ecn::PLAIN_TOO {
            0 if !h.fell_back(tcp) => 0,
            _ => bit::NOT_ECT,
        };
        let record = AccEcn::new(bit::SERVER | plain, h.ecn & half_ecn::MARK);
        self.acc_ecns.open(index, record);
    }
}

impl Conn<'_> {
    /// The flags of our SYN that ask for accurate ECN; of the SYN-ACK that answers one.
    pub(in crate::tcp) fn accurate_syn(&self, tcp: &TcpTunables, answer: bool) -> Flags {
        if answer {
            let mark = self.acc_ecn.as_ref().map_or(0, |a| a.syn_mark);
            let said = match self.opening_fell_back(tcp) {
                true => Flags(0),
                false => flags(reflection(mark)),
            };
            return Flags::SYN | said;
        }
        if self.tcb.backoff <= ASKED_AGAIN || tcp.ecn_fallback == 0 {
            Flags::SYN | Flags::ECE | Flags::CWR | Flags::AE
        } else {
            Flags::SYN
        }
    }

    /// Whether a SYN-ACK to a SYN with data went without, since others were lost (RFC 9768 3.2.3.2.2).
    fn opening_fell_back(&self, tcp: &TcpTunables) -> bool {
        self.tcb.opening() && self.tcb.backoff > AGREED_AGAIN && tcp.ecn_fallback != 0
    }

    /// The option of a SYN-ACK to a SYN with data. One that goes without ECN forbids marks from then on (RFC 9768 3.1.5).
    pub(in crate::tcp) fn opening_option(&mut self, tcp: &TcpTunables) -> Option<AccEcnOption> {
        if !self.tcb.is_accurate() {
            return None;
        }
        let fell_back = self.opening_fell_back(tcp);
        if let Some(a) = self.acc_ecn.as_mut().filter(|_| fell_back) {
            a.bits |= bit::NOT_ECT;
        }
        first_option(tcp, self.tcb.backoff == 0)
    }

    /// The segment that ends the handshake of a connection that a SYN with data opened: a peer that got a SYN-ACK without accurate
    /// ECN cannot know of it.
    pub(in crate::tcp) fn end_opening_accurately(&mut self, tcp: &TcpTunables, seg: &Segment) {
        if self.tcb.is_accurate() && self.opening_fell_back(tcp) && ace(seg) == 0 {
            self.tcb.more &= !more::ACC_ECN;
            self.acc_ecn = None;
        }
    }

    /// The answer to a SYN that asked for accurate ECN, or a SYN that crossed it (RFC 9768 3.1.2).
    pub(in crate::tcp) fn agree_accurately(&mut self, core: &Core, seg: &Segment) {
        let said = ace(seg);
        let answer = seg.has(Flags::ACK);
        self.tcb.more &= !(more::ECN | more::ACC_ECN);
        match (answer, said) {
            // Nothing; something old reflects what it does not know.
            (_, 0) | (true, 0b111) => return,
            (true, 0b001) | (false, 0b011) => self.tcb.more |= more::ECN,
            _ => self.tcb.more |= more::ACC_ECN,
        }
        let Some(a) = &mut self.acc_ecn else {
            self.tcb.more &= !more::ACC_ECN;
            return;
        };
        a.syn_mark = seg.ecn;
        if !self.tcb.is_accurate() || !answer {
            return;
        }
        a.bits |= bit::REFLECT;
        if seg.ecn == CE {
            a.received.cep += 1;
        }
        // Our SYN was not capable of marks: whatever it came with was put there (RFC 9768 3.2.2.3).
        if matches!(said, 0b011 | 0b100 | 0b110) && core.tcp.ecn_fallback != 0 {
            a.bits |= bit::NOT_ECT;
        }
        self.see_option(core, seg);
    }

    /// A SYN-ACK comes again, before anything else: its answer reflects it, too. False when it would speak classic ECN now.
    pub(in crate::tcp) fn reflect_again(&mut self, seg: &Segment) -> bool {
        let again = seg.has(Flags::SYN | Flags::ACK) && seg.seq + 1 == self.tcb.rcv_nxt;
        let Some(a) = self
            .acc_ecn
            .as_mut()
            .filter(|a| again && !a.is(bit::SERVER))
        else {
            return true;
        };
        if ace(seg) == 0b001 {
            return false;
        }
        a.syn_mark = seg.ecn;
        a.bits |= bit::REFLECT;
        if seg.ecn == CE && a.received.cep == BEGIN.cep {
            a.received.cep += 1; // once, however often (RFC 9768 3.2.2.2)
        }
        true
    }

    /// The first segment without SYN: the ACK of a SYN-ACK reflects that one's mark (RFC 9768 3.2.2.1). Returns whether it is such
    /// an ACK, and no counter.
    pub(super) fn end_handshake(&mut self, core: &Core, seg: &Segment, acked: u32) -> bool {
        let sacks = seg.options.as_ref().is_some_and(|o| o.sack.len > 0);
        let bare = seg.sequence_len() == 0 && !sacks;
        let Some(a) = &mut self.acc_ecn else {
            return false;
        };
        a.bits &= !bit::FIRST;
        let said = ace(seg);
        // RFC 9768 3.2.2.4: no counter begins with zero, nor gets there within two marks.
        if said == 0 && (a.is(bit::SERVER) || acked < 3) {
            a.bits |= bit::NOT_ECT | bit::DEAF;
        }
        if !a.is(bit::SERVER) || !bare {
            return false;
        }
        // The SYN-ACK was not capable of marks.
        if matches!(said, 0b011 | 0b100 | 0b110) && core.tcp.ecn_fallback != 0 {
            a.bits |= bit::NOT_ECT;
        }
        if said == 0b110 {
            a.delivered.cep += 1;
            self.tcb.cwnd = (self.tcb.cwnd / 2).max(u32::from(self.tcb.mss));
        }
        true
    }

    /// Flags of the ACK that reflects the mark of a SYN-ACK, if it is to be sent now.
    pub(super) fn reflect(&mut self, bare: bool) -> Option<Flags> {
        let a = self.acc_ecn.as_mut()?;
        if !bare || !a.is(bit::REFLECT) {
            return None;
        }
        a.bits &= !bit::REFLECT;
        Some(flags(reflection(a.syn_mark)))
    }

    /// Whether an ACK that reflects the SYN-ACK is to go in front of data (RFC 9768 3.2.2.1).
    #[inline]
    pub(in crate::tcp) fn owes_reflection(&self) -> bool {
        self.acc_ecn.as_ref().is_some_and(|a| a.is(bit::REFLECT))
    }
}
