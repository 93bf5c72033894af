//! The sender's scoreboard: which ranges above `snd_una` the peer has reported by SACK (RFC 2018, RFC 6675 3).
//!
//! A sorted list of disjoint ranges. Without SACK the scoreboard holds no ranges and only counts duplicate ACKs.
//!
//! What does not live here: what to do about holes (`recovery`).
//!
//! Invariant: ranges are sorted, disjoint, not adjacent, and lie in (`snd_una`, `snd_nxt`]; `sacked_bytes` is their sum.
//! Invariant: at most [`MAX_RANGES`] a connection: SACKs beyond are ignored, which is safe (they are advisory).

use base::Seq;

use super::conn::{Conn, new_node, remove_node};
use super::record::NONE;

/// Bound on ranges of one connection, so that no peer can make an ACK expensive.
const MAX_RANGES: u16 = 256;

impl Conn<'_> {
    /// Enters one SACK block. Returns how many bytes it newly covers.
    pub(crate) fn sack(&mut self, start: Seq, end: Seq) -> u32 {
        // RFC 2018 3, RFC 6675 4: blocks outside what is in flight are stale (or D-SACK) and ignored.
        if !start.lt(end) || start.lt(self.tcb.snd_una) || end.gt(self.tcb.snd_nxt) {
            return 0;
        }
        let (mut start, mut end) = (start, end);
        // Find the first range that touches or follows the block.
        let (mut previous, mut node) = (NONE, self.act.sacked);
        while let Some(range) = self.ranges.at(node)
            && range.end.lt(start)
        {
            (previous, node) = (node, range.next);
        }
        let mut covered = 0;
        while let Some(range) = self.ranges.at(node)
            && range.start.le(end)
        {
            covered += range.end.dist(range.start);
            start = if range.start.lt(start) {
                range.start
            } else {
                start
            };
            end = if range.end.gt(end) { range.end } else { end };
            let next = range.next;
            remove_node(self.ranges, node);
            self.act.sacked_nodes -= 1;
            node = next;
        }
        let added = if self.act.sacked_nodes >= MAX_RANGES {
            None
        } else {
            new_node(self.ranges, start, end, node)
        };
        let link = added.unwrap_or(node);
        match self.ranges.at_mut(previous) {
            Some(range) if previous != NONE => range.next = link,
            _ => self.act.sacked = link,
        }
        if added.is_none() {
            self.act.sacked_bytes -= covered;
            return 0;
        }
        self.act.sacked_nodes += 1;
        let grown = end.dist(start) - covered;
        self.act.sacked_bytes += grown;
        grown
    }

    /// Forgets everything below `snd_una`.
    pub(crate) fn trim_scoreboard(&mut self) {
        let una = self.tcb.snd_una;
        while let Some(range) = self.ranges.at_mut(self.act.sacked)
            && range.start.lt(una)
        {
            if range.end.gt(una) {
                self.act.sacked_bytes -= una.dist(range.start);
                range.start = una;
                break;
            }
            let (node, next) = (self.act.sacked, range.next);
            self.act.sacked_bytes -= range.end.dist(range.start);
            self.act.sacked_nodes -= 1;
            self.act.sacked = next;
            remove_node(self.ranges, node);
        }
        if self.act.sacked == NONE
            && !self.tcb.has(super::flag::SACK)
            && self.tcb.snd_una == self.tcb.snd_nxt
        {
            self.act.sacked_bytes = 0;
        }
    }

    /// Forgets all of it: the peer may have thrown away what it reported (RFC 2018 8).
    pub(crate) fn clear_scoreboard(&mut self) {
        let mut node = core::mem::replace(&mut self.act.sacked, NONE);
        while let Some(range) = self.ranges.at(node) {
            let next = range.next;
            remove_node(self.ranges, node);
            node = next;
        }
        self.act.sacked_nodes = 0;
        self.act.sacked_bytes = 0;
    }

    /// Bytes in [`from`, `to`) that no SACK covers.
    pub(crate) fn unsacked(&self, from: Seq, to: Seq) -> u32 {
        if !from.lt(to) {
            return 0;
        }
        let mut bytes = to.dist(from);
        let mut node = self.act.sacked;
        while let Some(range) = self.ranges.at(node)
            && range.start.lt(to)
        {
            let start = if range.start.lt(from) {
                from
            } else {
                range.start
            };
            let end = if range.end.gt(to) { to } else { range.end };
            if start.lt(end) {
                bytes -= end.dist(start);
            }
            node = range.next;
        }
        bytes
    }

    /// The first hole at or above `from` and below `to`: its start and its end.
    pub(crate) fn hole(&self, from: Seq, to: Seq) -> Option<(Seq, Seq)> {
        let mut start = from;
        let mut node = self.act.sacked;
        while let Some(range) = self.ranges.at(node) {
            if start.lt(range.start) {
                let end = if range.start.lt(to) { range.start } else { to };
                return start.lt(end).then_some((start, end));
            }
            if start.lt(range.end) {
                start = range.end;
            }
            node = range.next;
        }
        start.lt(to).then_some((start, to))
    }

    /// The sequence number below which `bytes` or more are reported received above it (RFC 6675 IsLost): unsacked data below
    /// it is held lost. `snd_una` when there is none.
    pub(crate) fn lost_below(&self, bytes: u32) -> Seq {
        // One pass forward: a hole is lost when the SACKed bytes above it reach the threshold.
        let mut above = self.act.sacked_bytes;
        let mut edge = self.tcb.snd_una;
        let mut node = self.act.sacked;
        while let Some(range) = self.ranges.at(node)
            && above >= bytes
        {
            // Everything before this range has `above` bytes reported above it.
            edge = range.start;
            above -= range.end.dist(range.start);
            node = range.next;
        }
        edge
    }
}
