//! Sending again: what is next, and what the lists say once it was done.
//!
//! What does not live here: building the segments (`retransmit`).

use base::{Cursor, Pool, Seq};

use super::{Board, Fate, Frames, Sent, Tail};

/// Numbers to be sent again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Again {
    pub(crate) start: Seq,
    pub(crate) end: Seq,
    /// Where the first byte is in the queue; none for a FIN.
    pub(crate) place: Option<Cursor>,
    /// The last segment was pushed when it was sent first.
    pub(crate) pushed: bool,
}

impl Again {
    fn of(sent: &Sent) -> Self {
        Self {
            start: sent.start,
            end: sent.end,
            place: sent.place,
            pushed: sent.tail.pushed,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.end.dist(self.start)
    }

    /// The first `most` numbers of it.
    pub(crate) fn up_to(self, most: u32) -> Self {
        if self.len() <= most {
            return self;
        }
        Self {
            end: self.start + most,
            pushed: false,
            ..self
        }
    }
}

impl Board<'_> {
    /// What is to be sent again next, in one frame.
    pub(crate) fn next_lost(&self) -> Option<Again> {
        let sent = self.nodes.at(self.flight.missing.first)?;
        let len = sent.frame_end(self.mss).dist(sent.start);
        Some(Again::of(sent).up_to(len))
    }

    /// Joins what is to be sent again next with what is held lost right behind it, as far as one segment holds both (Linux's
    /// tcp_retrans_collapse): small writes that were lost are repaired by few segments. Records stay apart (MSG_EOR).
    pub(crate) fn gather(&mut self) {
        let node = self.flight.missing.first;
        while let Some(sent) = self.nodes.at(node)
            && let Some(next) = self.nodes.at(sent.next)
            && next.fate == Fate::Lost
            && !sent.tail.record
            && sent.len() + next.len() <= self.mss
        {
            let (gone, again) = (sent.next, sent.again || next.again);
            let (end, following, tail) = (next.end, next.next, next.tail);
            self.unlink(gone, Fate::Lost);
            if self.flight.tail == gone {
                self.flight.tail = node;
            }
            self.free(gone);
            let unit = self.unit();
            if let Some(sent) = self.nodes.at_mut(node) {
                (sent.end, sent.next, sent.tail, sent.again) = (end, following, tail, again);
                sent.unit = unit;
                sent.frames = Frames::one(sent.start, u32::from(unit));
            }
        }
    }

    /// The first `len` bytes of [`Board::next_lost`] were sent again.
    pub(crate) fn resent(&mut self, pool: &Pool, len: u32, now: u32, together: u32) {
        let node = self.flight.missing.first;
        let Some(sent) = self.nodes.at(node) else {
            return;
        };
        let (cut, whole) = (sent.start + len, sent.len() <= len);
        if self.extend_newest(pool, node, cut, now, together) {
            return;
        }
        if !whole {
            // Without a node for the rest it counts as sent, too, and is found missing later.
            self.split(pool, node, cut);
        }
        self.again(node, now);
    }

    /// What was sent again right behind what was sent again just now becomes part of it.
    fn extend_newest(&mut self, pool: &Pool, node: u32, cut: Seq, now: u32, together: u32) -> bool {
        let newest = self.flight.timed.last;
        let joins = self.nodes.at(newest).is_some_and(|before| {
            before.next == node
                && before.again
                && !before.tail.record
                && u32::from(before.unit) == self.mss
                && before.len().is_multiple_of(self.mss)
                && now.wrapping_sub(before.at) <= together
        });
        let Some(sent) = self.nodes.at(node).filter(|_| joins) else {
            return false;
        };
        let (len, whole, next, tail) = (
            cut.min(sent.end).dist(sent.start),
            sent.end.le(cut),
            sent.next,
            sent.tail,
        );
        let place = sent
            .place
            .and_then(|place| pool.seek(&place, len as usize))
            .map(|(place, _)| place);
        self.count(len, Fate::Lost, false, false);
        self.count(len, Fate::InFlight, true, true);
        if let Some(before) = self.nodes.at_mut(newest) {
            before.end += len;
            before.tail = Tail::default();
            if whole {
                (before.next, before.tail) = (next, tail);
            }
        }
        if whole {
            self.unlink(node, Fate::Lost);
            if self.flight.tail == node {
                self.flight.tail = newest;
            }
            self.free(node);
        } else if let Some(sent) = self.nodes.at_mut(node) {
            (sent.start, sent.place) = (sent.start + len, place);
        }
        true
    }

    fn again(&mut self, node: u32, now: u32) {
        let Some(sent) = self.nodes.at(node) else {
            return;
        };
        let (len, fate, again) = (sent.len(), sent.fate, sent.again);
        self.unlink(node, fate);
        self.count(len, fate, again, false);
        let unit = self.unit();
        if let Some(sent) = self.nodes.at_mut(node) {
            (sent.fate, sent.again, sent.at) = (Fate::InFlight, true, now);
            sent.unit = unit;
        }
        self.count(len, Fate::InFlight, true, true);
        self.link(node, Fate::InFlight, self.flight.timed.last);
    }

    /// The last segment, if it is in flight: what a probe of the tail sends again. `fin`: numbers in it that are no data.
    pub(crate) fn last(&mut self, pool: &Pool, fin: u32) -> Option<Again> {
        let tail = self.flight.tail;
        let sent = self.nodes.at(tail).filter(|s| s.fate == Fate::InFlight)?;
        let short = match sent.len().saturating_sub(fin) % self.mss {
            0 => self.mss,
            short => short,
        };
        let len = short + fin;
        if sent.len() > len {
            let at = Seq(sent.end.0.wrapping_sub(len));
            self.split(pool, tail, at);
        }
        // Without a node for the end the beginning of it serves as well to draw an ACK.
        let last = Again::of(self.nodes.at(self.flight.tail)?);
        Some(if last.len() > len {
            last.up_to(self.mss)
        } else {
            last
        })
    }

    /// What [`Board::last`] gave was sent again.
    pub(crate) fn last_resent(&mut self, now: u32) {
        self.again(self.flight.tail, now);
    }
}
