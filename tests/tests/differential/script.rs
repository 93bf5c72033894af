//! Scripts: what an application and its peer do to one connection, in numbers that mean the same to any stack.
//!
//! Sequence numbers are relative to the initial one of whoever sends them, time stamps to the peer's first.
//!
//! What does not live here: making them up (`author`), playing them (`kernel`, `ours`).

use std::fmt;

use interop::Family;
use wire::tcp::Flags;

/// One script.
#[derive(Clone)]
pub(crate) struct Script {
    /// What it was made from.
    pub(crate) seed: u64,
    pub(crate) family: Family,
    /// The stack opens the connection; else it listens.
    pub(crate) active: bool,
    pub(crate) offer: Offer,
    pub(crate) steps: Vec<Step>,
}

/// Options of the peer's SYN.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) mss: Option<u16>,
    pub(crate) shift: Option<u8>,
    pub(crate) sack: bool,
    pub(crate) stamps: bool,
}

/// Something done, and how long nothing is done afterwards.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) act: Act,
    pub(crate) rest_ms: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum Act {
    Call(Call),
    Poke(Poke),
}

/// A call of the application.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call {
    Connect,
    Accept,
    Send(usize),
    Receive(usize),
    Peek(usize),
    /// SHUT_RD, SHUT_WR or SHUT_RDWR.
    Shutdown(i32),
    Close,
    NoDelay(bool),
    Cork(bool),
    /// SO_ERROR.
    Error,
    /// FIONREAD.
    Unread,
    /// All there is to poll for.
    Poll,
}

/// A segment of the peer's.
#[derive(Debug, Clone)]
pub(crate) struct Poke {
    pub(crate) flags: Flags,
    pub(crate) seq: i32,
    pub(crate) len: usize,
    pub(crate) ack: i32,
    pub(crate) window: u16,
    /// The time stamp, in ms since the peer's first; `None` goes without.
    pub(crate) stamp: Option<i32>,
    pub(crate) sack: Vec<(i32, i32)>,
}

/// Byte number `at` of a stream, 0 the first, by the application or the peer.
pub(crate) fn byte(at: u32) -> u8 {
    (at.wrapping_mul(31) ^ at >> 8) as u8
}

/// `len` bytes of a stream.
pub(crate) fn bytes(from: u32, len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| byte(from.wrapping_add(n)))
        .collect()
}

/// The letters packet tools use.
pub(crate) fn letters(flags: Flags) -> String {
    let known = [
        (Flags::FIN, 'F'),
        (Flags::SYN, 'S'),
        (Flags::RST, 'R'),
        (Flags::PSH, 'P'),
        (Flags::URG, 'U'),
        (Flags::ACK, '.'),
    ];
    let set = known.iter().filter(|(bit, _)| flags.contains(*bit));
    set.map(|(_, letter)| *letter).collect()
}

impl fmt::Display for Poke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, len, ack, .. } = self;
        write!(f, "< {} {seq}({len})", letters(self.flags))?;
        if self.flags.contains(Flags::ACK) {
            write!(f, " ack {ack}")?;
        }
        write!(f, " win {}", self.window)?;
        if let Some(stamp) = self.stamp {
            write!(f, " ts {stamp}")?;
        }
        for (start, end) in &self.sack {
            write!(f, " sack {start}:{end}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(call) => write!(f, "{call:?}"),
            Self::Poke(poke) => poke.fmt(f),
        }
    }
}
