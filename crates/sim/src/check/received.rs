//! What arrived at each end of each connection, to hold its SACK blocks against (RFC 2018, RFC 2883).
//!
//! What does not live here: whether a host kept what arrived; a block may tell of less, never of more.

use std::collections::HashMap;

use wire::tcp::{Flags, Packet};

use super::Flow;

/// So many ranges out of order a host keeps; of more it drops what begins another.
const KEPT: usize = 128;

/// Sorted ranges, apart from each other.
#[derive(Debug, Default, Clone)]
struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    fn add(&mut self, mut start: u32, mut end: u32) {
        self.0.retain(|&(s, e)| {
            let touches = s <= end && start <= e;
            if touches {
                (start, end) = (start.min(s), end.max(e));
            }
            !touches
        });
        let at = self.0.partition_point(|&(s, _)| s < start);
        self.0.insert(at, (start, end));
    }

    fn cover(&self, start: u32, end: u32) -> bool {
        self.0.iter().any(|&(s, e)| s <= start && end <= e)
    }

    fn within(&self, start: u32, end: u32) -> impl Iterator<Item = (u32, u32)> {
        let cut = self.0.iter().map(move |&(s, e)| (s.max(start), e.min(end)));
        cut.filter(|(s, e)| s < e)
    }
}

/// The segment that came last.
#[derive(Debug, Clone, Copy)]
struct Latest {
    start: u32,
    tsval: u32,
}

/// One direction of a connection. Numbers count from the SYN, so that they do not wrap.
#[derive(Debug, Default)]
struct Direction {
    first: u32,
    once: Ranges,
    twice: Ranges,
    latest: Option<Latest>,
    /// The highest acknowledgment that came along.
    acked: Option<u32>,
    /// Below this some of what came may have been dropped, for too many ranges were kept.
    dropped: u32,
}

/// All directions, by who sends.
#[derive(Debug, Default)]
pub(super) struct Received {
    flows: HashMap<Flow, Direction>,
    /// Hosts refuse data for want of memory: what came last may not be there.
    pub(super) refused: bool,
}

impl Received {
    /// A sound segment of `flow` arrived; `edge` is the last that was granted to its sender.
    pub(super) fn arrived(&mut self, flow: Flow, tcp: &Packet<'_>, edge: Option<u32>) {
        if tcp.flags().contains(Flags::SYN) {
            let known = self.flows.get_mut(&flow).filter(|d| d.first == tcp.seq());
            if let Some(again) = known {
                again.twice.add(0, 1);
            } else {
                let first = tcp.seq();
                let fresh = Direction {
                    first,
                    ..Direction::default()
                };
                self.flows.insert(flow, fresh);
            }
            return;
        }
        let Some(direction) = self.flows.get_mut(&flow) else {
            return;
        };
        let older = |acked: u32| (acked.wrapping_sub(tcp.ack()) as i32) > 0;
        let stale = direction.acked.is_some_and(older);
        if !stale {
            direction.acked = Some(tcp.ack());
        }
        let start = tcp.seq().wrapping_sub(direction.first);
        let end = start.wrapping_add(tcp.segment_len());
        if start >= end {
            return;
        }
        let again: Vec<_> = direction.once.within(start, end).collect();
        for (start, end) in again {
            direction.twice.add(start, end);
        }
        direction.once.add(start, end);
        if let (true, Some((_, last))) = (direction.once.0.len() >= KEPT, direction.once.0.last()) {
            direction.dropped = *last;
        }
        let fits = edge.is_some_and(|edge| end <= edge.wrapping_sub(direction.first));
        // An old acknowledgment may have it refused (RFC 5961 5.2).
        direction.latest = tcp
            .options()
            .timestamps
            .filter(|_| fits && !stale)
            .map(|(tsval, _)| Latest { start, tsval });
    }

    /// Holds the blocks of a segment that acknowledges `flow` against what arrived.
    pub(super) fn blocks_tell_the_truth(
        &self,
        flow: &Flow,
        tcp: &Packet<'_>,
    ) -> Result<(), String> {
        let options = tcp.options();
        let Some(direction) = self.flows.get(flow).filter(|_| options.sack.len > 0) else {
            return Ok(());
        };
        let from_first = |number: u32| number.wrapping_sub(direction.first);
        let ack = from_first(tcp.ack());
        let blocks = options.sack.as_slice().iter();
        let blocks: Vec<_> = blocks
            .map(|&(s, e)| (from_first(s), from_first(e)))
            .collect();
        let inside = |a: &(u32, u32), b: &(u32, u32)| b.0 <= a.0 && a.1 <= b.1;
        let duplicate =
            blocks[0].1 <= ack || blocks.get(1).is_some_and(|next| inside(&blocks[0], next));
        if duplicate && !direction.twice.cover(blocks[0].0, blocks[0].1) {
            return Err(format!("D-SACK {:?} of what came once", blocks[0]));
        }
        let held = duplicate && blocks[0].1 > ack;
        let blocks = &blocks[usize::from(duplicate)..];
        for (at, block) in blocks.iter().enumerate() {
            if !direction.once.cover(block.0, block.1) {
                return Err(format!("SACK {block:?} of what never came"));
            }
            let apart = |other: &(u32, u32)| other.1 < block.0 || block.1 < other.0;
            if block.0 <= ack || !blocks[..at].iter().all(apart) {
                return Err(format!(
                    "SACK {block:?} is not apart from the others and {ack}"
                ));
            }
        }
        // RFC 2018 4, RFC 2883 4: first the block with the segment that came last. What PAWS may have refused came for nothing.
        let echo = options.timestamps.map_or(0, |(_, echo)| echo);
        let newest = direction
            .latest
            .filter(|_| ack >= direction.dropped && !self.refused)
            .filter(|l| !held && l.start > ack && l.tsval.wrapping_sub(echo) as i32 >= 0);
        match newest {
            Some(Latest { start, .. })
                if !blocks.first().is_some_and(|b| b.0 <= start && start < b.1) =>
            {
                Err(format!("{start} came last, SACKed first is {blocks:?}"))
            }
            _ => Ok(()),
        }
    }
}
