//! Accurate ECN (RFC 9768): how many segments and bytes came with which mark, told in every segment.
//!
//! A connection that has agreed on it has an [`AccEcn`] record, found by the connection's index; all others pay a comparison.
//! `handshake` is how it is agreed on, `receiver` counts what arrives and says so, `sender` reads what the peer says.
//!
//! What does not live here: classic ECN and by how much a mark shrinks the window (`ecn`).
//!
//! Invariant: a record belongs to one live connection, which asks for accurate ECN or has done so.
//! Invariant: counters of this side grow with acceptable segments only, those of the peer never shrink.

mod handshake;
mod receiver;
mod sender;

use base::Seq;

use super::beside::Beside;
use super::segment::Segment;
use super::tunables::TcpTunables;

pub(super) use handshake::{Asked, asked, half_bits, syn_ack_says};
pub(super) use sender::Marks;

/// The two bits of the IP header.
pub(super) const ECT_1: u8 = 1;
pub(super) const ECT_0: u8 = 2;
pub(super) const CE: u8 = 3;

/// The value of the ACE field (RFC 9768 3.2.2): AE, CWR and ECE as one number.
#[inline]
pub(super) fn ace(seg: &Segment) -> u8 {
    (seg.flags.0 >> 6 & 7) as u8
}

/// Four counters of one direction (RFC 9768 3.2): packets with CE, and bytes by mark. They wrap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counters {
    cep: u32,
    ceb: u32,
    e0b: u32,
    e1b: u32,
}

/// RFC 9768 3.2.1: where they begin, so that a field that something on the way has cleared shows.
const BEGIN: Counters = Counters {
    cep: 5,
    ceb: 0,
    e0b: 1,
    e1b: 1,
};

mod bit {
    /// The SYN was the peer's.
    pub(super) const SERVER: u16 = 1 << 0;
    /// No segment without SYN has come yet.
    pub(super) const FIRST: u16 = 1 << 1;
    /// The next bare ACK says with which mark the SYN-ACK came.
    pub(super) const REFLECT: u16 = 1 << 2;
    /// What is sent is not capable of marks: something on the way spoils them.
    pub(super) const NOT_ECT: u16 = 1 << 3;
    /// What the peer says of marks is not to be answered: something on the way clears it.
    pub(super) const DEAF: u16 = 1 << 4;
    /// The peer has sent the option.
    pub(super) const SEEN: u16 = 1 << 5;
    /// The option of the peer began with zeros, and counts for nothing.
    pub(super) const ZEROED: u16 = 1 << 6;
    /// Segments with the option seem to be dropped on the way.
    pub(super) const FAILED: u16 = 1 << 7;
    /// Data with the option has arrived.
    pub(super) const PROVEN: u16 = 1 << 8;
    /// A duplicate was reported together with the option: `duplicate`.
    pub(super) const DUPLICATE: u16 = 1 << 9;
    /// Data came with another mark than the data before.
    pub(super) const CHANGED: u16 = 1 << 10;
    /// That was said in one option, and is to be said in one more.
    pub(super) const REPEAT: u16 = 1 << 11;
}

/// What one connection knows by accurate ECN.
#[derive(Debug)]
pub(crate) struct AccEcn {
    /// r.cep, r.ceb, r.e0b, r.e1b: what came with which mark.
    received: Counters,
    /// s.cep and so on: what the peer says of what was sent.
    delivered: Counters,
    /// Of `received`, what the last option said: ECT(1), CE, ECT(0).
    reported: [u32; 3],
    /// When that was, microseconds.
    reported_at: u32,
    /// Start of the last duplicate that was reported together with the option.
    duplicate: Seq,
    bits: u16,
    /// Segments an ACK acknowledges, an average, in eighths; 0: none has.
    stretch: u16,
    /// The mark of the peer's SYN or SYN-ACK.
    syn_mark: u8,
    /// The mark of what came last, and of the data that did.
    last_mark: u8,
    last_data: u8,
    /// Segments with CE since an ACK was last sent.
    unsaid: u8,
    /// Bytes of each segment that are kept for the option.
    reserve: u8,
}

const _: () = assert!(size_of::<AccEcn>() <= 64);

impl AccEcn {
    fn new(bits: u16, syn_mark: u8) -> Self {
        Self {
            received: BEGIN,
            delivered: BEGIN,
            reported: [BEGIN.e1b, BEGIN.ceb, BEGIN.e0b],
            reported_at: 0,
            duplicate: Seq(0),
            bits: bits | bit::FIRST,
            stretch: 0,
            syn_mark,
            last_mark: 0,
            last_data: 0,
            unsaid: 0,
            reserve: 0,
        }
    }

    #[inline]
    fn is(&self, bit: u16) -> bool {
        self.bits & bit != 0
    }

    /// Bytes of each segment that are kept for the option.
    #[inline]
    pub(super) fn reserve(&self) -> u16 {
        u16::from(self.reserve)
    }

    /// Whether segments are sent with ECT.
    pub(super) fn is_capable(&self) -> bool {
        !self.is(bit::NOT_ECT)
    }

    /// Whether the option may be sent at all.
    fn sends_option(&self, tcp: &TcpTunables) -> bool {
        tcp.ecn_option != 0 && self.reserve > 0 && (tcp.ecn_option > 2 || !self.is(bit::FAILED))
    }

    pub(super) fn info(&self) -> EcnCounters {
        let (r, s) = (&self.received, &self.delivered);
        EcnCounters {
            received_ce: r.cep.wrapping_sub(BEGIN.cep),
            received_ce_bytes: r.ceb.wrapping_sub(BEGIN.ceb),
            received_ect_0_bytes: r.e0b.wrapping_sub(BEGIN.e0b),
            received_ect_1_bytes: r.e1b.wrapping_sub(BEGIN.e1b),
            delivered_ce: s.cep.wrapping_sub(BEGIN.cep),
            delivered_ce_bytes: s.ceb.wrapping_sub(BEGIN.ceb),
            delivered_ect_0_bytes: s.e0b.wrapping_sub(BEGIN.e0b),
            delivered_ect_1_bytes: s.e1b.wrapping_sub(BEGIN.e1b),
            option_seen: self.is(bit::SEEN),
            option_zeroed: self.is(bit::ZEROED),
            option_dropped: self.is(bit::FAILED),
            not_capable: self.is(bit::NOT_ECT),
            cleared: self.is(bit::DEAF),
        }
    }
}

/// What accurate ECN (RFC 9768) tells of a connection. Counts wrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EcnCounters {
    /// Segments received with CE.
    pub received_ce: u32,
    /// Payload received with CE.
    pub received_ce_bytes: u32,
    /// Payload received with ECT(0).
    pub received_ect_0_bytes: u32,
    /// Payload received with ECT(1).
    pub received_ect_1_bytes: u32,
    /// Segments the peer has received with CE.
    pub delivered_ce: u32,
    /// Payload the peer has received with CE, if it sends the option.
    pub delivered_ce_bytes: u32,
    /// The same with ECT(0).
    pub delivered_ect_0_bytes: u32,
    /// The same with ECT(1).
    pub delivered_ect_1_bytes: u32,
    /// The peer has sent the option.
    pub option_seen: bool,
    /// Its option began with zeros, which something on the way must have put there.
    pub option_zeroed: bool,
    /// Segments with our option seem to be dropped on the way.
    pub option_dropped: bool,
    /// Segments are sent without ECT: something on the way spoils the bits.
    pub not_capable: bool,
    /// The peer's counter began with zero, which something on the way must have put there.
    pub cleared: bool,
}

impl Beside<AccEcn> {
    /// The record of a connection that asks for accurate ECN, or has agreed on it; made when there is none.
    pub(super) fn of(&mut self, connection: u32) -> Option<&mut AccEcn> {
        if self.at(connection).is_none() {
            self.open(connection, AccEcn::new(0, 0));
        }
        self.at_mut(connection)
    }
}
