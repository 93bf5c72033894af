//! The peer: makes segments of a script's numbers, and numbers of the segments the stack sends.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use interop::frames;
use wire::checksum::{self, Sum};
use wire::tcp::{Flags, Options, Repr, Sack};
use wire::{Addr, Mac, protocol};

use crate::script::{Offer, Poke, bytes, letters};

/// What is acknowledged while the stack's initial number is not known.
const NOWHERE: u32 = 0x1234_5678;
/// The peer's first time stamp.
const STAMP: u32 = 0x7fff_f000;

/// A segment of the stack's.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) flags: Flags,
    /// `None`: zero, as in a reset that answers no ACK.
    pub(crate) seq: Option<i32>,
    pub(crate) len: usize,
    pub(crate) ack: i32,
    pub(crate) closed: bool,
    pub(crate) mss: Option<u16>,
    pub(crate) scaled: bool,
    pub(crate) sack_permitted: bool,
    /// The time stamp it echoes, in ms since the peer's first; `Some(i32::MIN)`: zero.
    pub(crate) echo: Option<i32>,
    pub(crate) sack: Vec<(i32, i32)>,
    /// The bytes are those the application wrote.
    pub(crate) intact: bool,
    /// When, since the script began.
    pub(crate) at: Duration,
}

/// The peer of one connection.
#[derive(Clone)]
pub(crate) struct Peer {
    own: (Addr, u16),
    their: (Addr, u16),
    offer: Offer,
    iss: u32,
    their_iss: Option<u32>,
    /// The stack's latest time stamp.
    latest: u32,
    /// The end of all the stack has sent, and what it has acknowledged.
    pub(crate) out: i32,
    pub(crate) acked: i32,
    /// The end of all the peer has sent in order.
    pub(crate) sent: i32,
    /// Where the stack's segments begin and end.
    pub(crate) edges: BTreeSet<i32>,
}

impl Peer {
    pub(crate) fn new(own: (Addr, u16), their: (Addr, u16), offer: Offer, iss: u32) -> Self {
        Self {
            own,
            their,
            offer,
            iss,
            their_iss: None,
            latest: 0,
            out: 0,
            acked: 0,
            sent: 0,
            edges: BTreeSet::new(),
        }
    }

    /// The segment, in an Ethernet frame.
    pub(crate) fn frame(&self, poke: &Poke, macs: (Mac, Mac)) -> Vec<u8> {
        let ack = self
            .their_iss
            .unwrap_or(NOWHERE)
            .wrapping_add_signed(poke.ack);
        let mut options = Options::default();
        if poke.flags.contains(Flags::SYN) {
            options.mss = self.offer.mss;
            options.window_scale = self.offer.shift;
            options.sack_permitted = self.offer.sack;
        }
        if let Some(stamp) = poke.stamp {
            options.timestamps = Some((STAMP.wrapping_add_signed(stamp), self.latest));
        }
        options.sack = Sack::EMPTY;
        let theirs = self.their_iss.unwrap_or(NOWHERE);
        for (start, end) in &poke.sack {
            options.sack.push((
                theirs.wrapping_add_signed(*start),
                theirs.wrapping_add_signed(*end),
            ));
        }
        let repr = Repr {
            src_port: self.own.1,
            dst_port: self.their.1,
            seq: self.iss.wrapping_add_signed(poke.seq),
            ack: poke.flags.contains(Flags::ACK).then_some(ack),
            flags: poke.flags.without(Flags::ACK),
            window: poke.window,
            urgent: 0,
            options,
        };
        let mut segment = vec![0; repr.header_len()];
        repr.emit(&mut segment);
        let first = poke.seq + i32::from(poke.flags.contains(Flags::SYN)) - 1;
        segment.extend(bytes(first as u32, poke.len));
        let (src, dst) = (self.own.0, self.their.0);
        let sum = checksum::pseudo(&src, &dst, protocol::TCP, segment.len() as u32)
            .add_sum(Sum::new().add_bytes(&segment))
            .finish();
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        frames::ip_frame(macs, src, dst, protocol::TCP, &segment)
    }

    /// Takes note of a segment of the stack's.
    pub(crate) fn see(&mut self, segment: &frames::Tcp, at: Duration) -> Seen {
        let flags = segment.flags;
        self.their.1 = segment.src_port;
        if flags.contains(Flags::SYN) {
            self.their_iss = Some(segment.seq);
        }
        let theirs = self.their_iss.unwrap_or(0);
        let seq = segment.seq.wrapping_sub(theirs) as i32;
        let ack = if flags.contains(Flags::ACK) {
            segment.ack.wrapping_sub(self.iss) as i32
        } else {
            0
        };
        let counted = segment.payload.len() as i32
            + i32::from(flags.contains(Flags::SYN))
            + i32::from(flags.contains(Flags::FIN));
        if !flags.contains(Flags::RST) {
            self.out = self.out.max(seq + counted);
            self.acked = self.acked.max(ack);
            if !segment.payload.is_empty() {
                self.edges.extend([seq, seq + counted]);
            }
        }
        let relative = |stamp: u32| match stamp {
            0 => i32::MIN,
            stamp => stamp.wrapping_sub(STAMP) as i32,
        };
        if let Some((stamp, _)) = segment.options.timestamps {
            self.latest = stamp;
        }
        let first = (seq + i32::from(flags.contains(Flags::SYN)) - 1) as u32;
        let own = |n: u32| n.wrapping_sub(self.iss) as i32;
        let blocks = segment.options.sack.as_slice().iter();
        Seen {
            flags,
            seq: (segment.seq != 0 || !flags.contains(Flags::RST)).then_some(seq),
            len: segment.payload.len(),
            ack,
            closed: segment.window == 0,
            mss: segment.options.mss,
            scaled: segment.options.window_scale.is_some(),
            sack_permitted: segment.options.sack_permitted,
            echo: segment.options.timestamps.map(|(_, echo)| relative(echo)),
            sack: blocks
                .map(|(start, end)| (own(*start), own(*end)))
                .collect(),
            intact: segment.payload == bytes(first, segment.payload.len()),
            at,
        }
    }
}

impl Seen {
    /// The number behind its data.
    pub(crate) fn end(&self) -> i32 {
        self.seq.unwrap_or(0) + self.len as i32
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "> {} ", letters(self.flags))?;
        match self.seq {
            Some(seq) => write!(f, "{seq}({})", self.len)?,
            None => write!(f, "zero({})", self.len)?,
        }
        if self.flags.contains(Flags::ACK) {
            write!(f, " ack {}", self.ack)?;
        }
        if self.closed {
            write!(f, " win 0")?;
        }
        if let Some(mss) = self.mss {
            write!(f, " mss {mss}")?;
        }
        if self.scaled {
            write!(f, " wscale")?;
        }
        if self.sack_permitted {
            write!(f, " sackOK")?;
        }
        match self.echo {
            Some(i32::MIN) => write!(f, " ecr 0")?,
            Some(echo) => write!(f, " ecr {echo}")?,
            None => {}
        }
        for (start, end) in &self.sack {
            write!(f, " sack {start}:{end}")?;
        }
        if !self.intact {
            write!(f, " WRONG BYTES")?;
        }
        Ok(())
    }
}
