//! Congestion control behind one small trait (RFC 5681 is the frame every algorithm fits in).
//!
//! What does not live here: loss detection and recovery (`recovery`), which decide *when*; an algorithm decides *how much*.
//! The window itself (`cwnd`, `ssthresh`) lives in the connection's hot part, since sending reads it; what an algorithm keeps
//! besides lives in the active part.

mod cubic;
mod reno;

use core::time::Duration;

use base::Instant;

pub(crate) use cubic::Cubic;
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
}

impl Congestion {
    /// Linux's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Reno => "reno",
        }
    }

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Cubic, Self::Reno]
            .into_iter()
            .find(|c| c.name() == name)
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
}

/// What one ACK says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) now: Instant,
    /// Bytes newly acknowledged (cumulatively or selectively).
    pub(crate) acked: u32,
    /// Smoothed round-trip time; zero before the first sample.
    pub(crate) srtt: Duration,
}

/// One congestion control algorithm.
pub(crate) trait Algorithm {
    /// New data was acknowledged outside recovery while the window was in use.
    fn on_ack(&mut self, window: &mut Window, ack: &Ack);
    /// Loss was detected by duplicate ACKs: the new `ssthresh` for `flight` bytes in flight.
    fn on_loss(&mut self, window: &Window, flight: u32, now: Instant) -> u32;
    /// The retransmission timer went off: the new `ssthresh`.
    fn on_timeout(&mut self, window: &Window, flight: u32, now: Instant) -> u32;
    /// The connection sent nothing for longer than a retransmission timeout.
    fn on_idle(&mut self) {}
}

/// The algorithms a connection can carry, without a pointer.
#[derive(Debug, Clone)]
pub(crate) enum Control {
    Cubic(Cubic),
    Reno(Reno),
}

impl Control {
    pub(crate) fn new(which: Congestion) -> Self {
        match which {
            Congestion::Cubic => Self::Cubic(Cubic::default()),
            Congestion::Reno => Self::Reno(Reno),
        }
    }

    #[inline]
    pub(crate) fn algorithm(&mut self) -> &mut dyn Algorithm {
        match self {
            Self::Cubic(c) => c,
            Self::Reno(r) => r,
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
