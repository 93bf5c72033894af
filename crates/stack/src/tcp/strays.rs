//! Connections that are not on the shard their flow's hash says.
//!
//! What does not live here: how they got there (`moving`), and how their frames do (the engine).
//!
//! Invariant: hosts without such connections pay a comparison when a connection ends, or begins.

use std::collections::{BTreeMap, BTreeSet};

use super::Tcp;
use super::call::Ends;
use super::segment::flow_bytes;

/// Those that one shard has to know of.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// Flows whose end is to be told.
    watched: BTreeSet<Ends>,
    /// Of those, some that may have ended.
    over: Vec<Ends>,
    /// Flows that would be this shard's, and are on others: how often they were lent, less how often they came back. What is told of
    /// one by several shards may come in any order.
    lent: BTreeMap<Ends, i32>,
}

impl Tcp {
    /// See [`crate::Host::tcp_watch_end`].
    pub(crate) fn watch_end(&mut self, ends: Ends) {
        self.strays.watched.insert(ends);
    }

    /// A connection has gone to another shard, which tells of its end.
    pub(super) fn unwatch_end(&mut self, ends: &Ends) {
        self.strays.watched.remove(ends);
    }

    /// A record of this flow has left the flow table.
    #[inline]
    pub(super) fn flow_left(&mut self, ends: impl FnOnce() -> Ends) {
        if !self.strays.watched.is_empty() {
            let ends = ends();
            if self.strays.watched.contains(&ends) {
                self.strays.over.push(ends);
            }
        }
    }

    /// See [`crate::Host::poll_tcp_end`].
    pub(crate) fn pop_ended(&mut self) -> Option<Ends> {
        loop {
            let ends = self.strays.over.pop()?;
            // In the place of what has ended may be something else: TIME-WAIT, or another connection.
            if !self.knows_flow(&ends) && self.strays.watched.remove(&ends) {
                return Some(ends);
            }
        }
    }

    fn knows_flow(&self, ((local, port), (remote, remote_port)): &Ends) -> bool {
        let flow = flow_bytes(remote, *remote_port, local, *port);
        let same = |entry| self.matches(entry, remote, *remote_port, local, *port);
        self.flows.find(self.flows.hash(&flow), same).is_some()
    }

    /// See [`crate::Host::tcp_lend`].
    pub(crate) fn lend(&mut self, ends: Ends, away: bool) {
        let lent = self.strays.lent.entry(ends).or_default();
        *lent += if away { 1 } else { -1 };
        if *lent == 0 {
            self.strays.lent.remove(&ends);
        }
    }

    /// Whether another shard has a connection with these ends.
    #[inline]
    pub(super) fn is_lent(&self, ends: impl FnOnce() -> Ends) -> bool {
        !self.strays.lent.is_empty() && self.strays.lent.get(&ends()).is_some_and(|n| *n > 0)
    }
}
