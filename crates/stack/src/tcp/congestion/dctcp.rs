//! DCTCP (RFC 8257): the window shrinks by how much of it was marked.
//!
//! What does not live here: the receiver's side, and marks themselves (`ecn`).

use base::{Instant, Seq};

use super::reno::Reno;
use super::{Ack, Algorithm, Window};

/// Alpha is kept in parts of this.
const ONE: u32 = 1024;
/// g = 1/16 (RFC 8257 4.2), as a shift.
const G: u32 = 4;

/// The share of marks, smoothed.
#[derive(Debug, Clone)]
pub(crate) struct Dctcp {
    /// DCTCP.Alpha; 1 at first, so that the first mark halves the window.
    pub(crate) alpha: u32,
    /// DCTCP.BytesAcked and DCTCP.BytesMarked of this window.
    pub(crate) acked: u32,
    pub(crate) marked: u32,
    /// DCTCP.WindowEnd.
    end: Option<Seq>,
    reno: Reno,
}

impl Default for Dctcp {
    fn default() -> Self {
        Self {
            alpha: ONE,
            acked: 0,
            marked: 0,
            end: None,
            reno: Reno::default(),
        }
    }
}

impl Algorithm for Dctcp {
    /// RFC 8257 3.3.
    fn on_delivery(&mut self, ack: &Ack) {
        self.acked = self.acked.saturating_add(ack.acked);
        self.marked = self.marked.saturating_add(ack.marked);
        if self.end.is_some_and(|end| ack.una.le(end)) || self.acked == 0 {
            return;
        }
        if self.end.is_some() {
            let share = u64::from(self.marked) * u64::from(ONE) / u64::from(self.acked);
            // What is left of a small alpha goes, too (as Linux).
            let less = match self.alpha >> G {
                0 => self.alpha,
                less => less,
            };
            self.alpha = (self.alpha - less + (share as u32 >> G)).min(ONE);
        }
        (self.end, self.acked, self.marked) = (Some(ack.next), 0, 0);
    }

    fn on_ack(&mut self, window: &mut Window, ack: &Ack) {
        self.reno.on_ack(window, ack);
    }

    /// RFC 8257 3.5: as any other.
    fn on_loss(&mut self, window: &Window, flight: u32, now: Instant) -> u32 {
        self.reno.on_loss(window, flight, now)
    }

    /// RFC 8257 3.3: cwnd * (1 - alpha / 2).
    fn on_mark(&mut self, window: &Window, _flight: u32, _now: Instant) -> u32 {
        let less = u64::from(window.cwnd) * u64::from(self.alpha) / u64::from(2 * ONE);
        (window.cwnd - less as u32).max(2 * window.mss)
    }

    fn outlives(&self) -> bool {
        true
    }
}
