//! Congestion control behind one small trait (RFC 5681 is the frame every algorithm fits in).
//!
//! What does not live here: loss detection and recovery (`recovery`), which decide *when*; an algorithm decides *how much*.
//! The window itself (`cwnd`, `ssthresh`) lives in the connection's hot part, since sending reads it; what an algorithm keeps
//! besides is a [`Control`] record from the first ACK on, which stays while the connection is idle if it is worth it.

mod bbr;
mod cubic;
mod dctcp;
mod hystart;
mod rate;
mod reno;

use core::time::Duration;

use base::{Instant, Seq};

pub(crate) use bbr::{Bbr, Model, Signals};
pub(crate) use cubic::Cubic;
pub(crate) use dctcp::Dctcp;
pub(crate) use hystart::Variant;
pub(crate) use rate::Rates;
pub(crate) use reno::Reno;

/// Names of the algorithms, as Linux's `tcp_congestion_control` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
#[non_exhaustive]
pub enum Congestion {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681.
    Reno,
    /// RFC 8257, for networks whose switches mark early; its connections ask for ECN.
    Dctcp,
    /// BBR version 3 (draft-ietf-ccwg-bbr): by a model of the path instead of losses. It paces.
    Bbr,
}

impl Congestion {
    /// All there are (`tcp_available_congestion_control`).
    pub const AVAILABLE: &[Self] = &[Self::Cubic, Self::Reno, Self::Dctcp, Self::Bbr];

    /// Linux's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Reno => "reno",
            Self::Dctcp => "dctcp",
            Self::Bbr => "bbr",
        }
    }

    /// Whether it looks at every delivery, in recovery, too.
    #[inline]
    pub(crate) fn watches(self) -> bool {
        matches!(self, Self::Dctcp)
    }

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::AVAILABLE.iter().copied().find(|c| c.name() == name)
    }
}

/// The window an algorithm steers, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) cwnd: u32,
    pub(crate) ssthresh: u32,
    pub(crate) mss: u32,
}

impl Window {
    #[inline]
    pub(crate) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// So many hundredths of `bytes`, but two segments at least (RFC 5681 (4)).
    pub(crate) fn shrunk(&self, bytes: u32, hundredths: u64) -> u32 {
        let part = u64::from(bytes.min(self.cwnd)) * hundredths / 100;
        (part as u32).max(2 * self.mss)
    }
}

/// What one ACK says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) now: Instant,
    /// Bytes newly acknowledged (cumulatively or selectively).
    pub(crate) acked: u32,
    /// The window was what limited sending; else it does not grow.
    pub(crate) limited: bool,
    /// Of these bytes, marked.
    pub(crate) marked: u32,
    /// What is sent leaves at a rate, not at once.
    pub(crate) paced: bool,
    /// The round trip of what was delivered last, microseconds; 0: not known.
    pub(crate) rtt: u32,
    /// The shortest round trip lately, microseconds; 0: not known.
    pub(crate) min_rtt: u32,
    /// SND.UNA after it, and SND.NXT.
    pub(crate) una: Seq,
    pub(crate) next: Seq,
    /// How slow start ends, but for losses.
    pub(crate) hystart: Variant,
}

/// One congestion control algorithm.
pub(crate) trait Algorithm {
    /// Something was delivered, in recovery or not; before any other call about it.
    fn on_delivery(&mut self, _ack: &Ack) {}
    /// New data was acknowledged outside recovery.
    fn on_ack(&mut self, window: &mut Window, ack: &Ack);
    /// Loss was detected: the new `ssthresh`, with `flight` bytes in flight.
    fn on_loss(&mut self, window: &Window, flight: u32, now: Instant) -> u32;
    /// The network has marked instead of dropping (RFC 3168): the new `ssthresh`.
    fn on_mark(&mut self, window: &Window, flight: u32, now: Instant) -> u32 {
        self.on_loss(window, flight, now)
    }
    /// The retransmission timer went off: the new `ssthresh`.
    fn on_timeout(&mut self, window: &Window, flight: u32, now: Instant) -> u32 {
        self.on_loss(window, flight, now)
    }
    /// Sending begins again after so long with nothing in flight.
    fn on_idle(&mut self, _idle: Duration) {}
    /// Whether what it knows is worth keeping while the connection is idle.
    fn outlives(&self) -> bool {
        false
    }
}

/// What the algorithm of one connection keeps, in a record of its own from the first ACK on.
#[derive(Debug, Clone)]
pub(crate) enum Control {
    Cubic(Cubic),
    Reno(Reno),
    Dctcp(Dctcp),
    Bbr(Model),
}

impl Control {
    pub(crate) fn new(which: Congestion) -> Self {
        match which {
            Congestion::Cubic => Self::Cubic(Cubic::default()),
            Congestion::Reno => Self::Reno(Reno::default()),
            Congestion::Dctcp => Self::Dctcp(Dctcp::default()),
            Congestion::Bbr => Self::Bbr(Model(u32::MAX)),
        }
    }

    #[inline]
    pub(crate) fn algorithm(&mut self) -> &mut dyn Algorithm {
        match self {
            Self::Cubic(c) => c,
            Self::Reno(r) => r,
            Self::Dctcp(d) => d,
            Self::Bbr(b) => b,
        }
    }

    pub(crate) fn outlives(&self) -> bool {
        match self {
            Self::Cubic(c) => c.outlives(),
            Self::Reno(r) => r.outlives(),
            Self::Dctcp(d) => d.outlives(),
            Self::Bbr(b) => b.outlives(),
        }
    }
}

/// Slow start (RFC 5681 3.1) with appropriate byte counting: at most what was acknowledged, up to `ssthresh`. Returns the
/// acknowledged bytes left over for congestion avoidance.
#[inline]
pub(crate) fn slow_start(window: &mut Window, acked: u32) -> u32 {
    let room = window.ssthresh.saturating_sub(window.cwnd);
    let grow = acked.min(room);
    window.cwnd += grow;
    acked - grow
}

#[cfg(test)]
mod tests;
