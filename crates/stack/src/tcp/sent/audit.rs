//! Whether the lists agree with each other and with the connection's numbers: for simulations, fuzzing and tests.
//!
//! What does not live here: repairing anything.

use base::{Order, Seq, Slab};

use super::{Fate, Flight, NONE, Sent};

impl Flight {
    /// The first of the module's invariants that does not hold for what is in flight from `una` to `end`. `sums`: whether `sacked`
    /// is of nodes, as with SACK.
    pub(crate) fn audit(
        &self,
        nodes: &Slab<Sent>,
        (una, end): (Seq, Seq),
        sums: bool,
    ) -> Result<(), &'static str> {
        let (mut sacked, mut lost, mut again, mut count) = (0u32, 0u32, 0u32, 0u32);
        let (mut edge, mut last, mut node) = (una, NONE, self.head);
        while let Some(sent) = nodes.at(node) {
            if sent.start != edge || !sent.start.lt(sent.end) {
                return Err("what is in flight has a gap, an overlap or an empty node");
            }
            match sent.fate {
                Fate::Sacked => sacked += sent.len(),
                Fate::Lost => lost += sent.len(),
                Fate::InFlight if sent.again => again += sent.len(),
                Fate::InFlight => {}
            }
            count += 1;
            if count > nodes.len() {
                return Err("the nodes in flight have a loop");
            }
            (edge, last, node) = (sent.end, node, sent.next);
        }
        if node != NONE || last != self.tail || count != u32::from(self.nodes) {
            return Err("the nodes in flight are miscounted");
        }
        let order = nodes.at(self.head).map_or(Order::EMPTY, |sent| sent.order);
        if !order.is_empty() && order.check(nodes) != Some(count) {
            return Err("the order of the nodes in flight is wrong");
        }
        if edge != end {
            return Err("the nodes in flight end elsewhere than what was sent");
        }
        if sums && sacked != self.sacked || !sums && sacked > 0 {
            return Err("SACKed bytes are miscounted");
        }
        if (lost, again) != (self.lost, self.again) {
            return Err("lost or repeated bytes are miscounted");
        }
        if nodes
            .at(self.hint)
            .is_some_and(|sent| sent.fate != Fate::Sacked)
        {
            return Err("the highest node SACKed is not");
        }
        let listed = self.listed(nodes, Fate::InFlight)? + self.listed(nodes, Fate::Lost)?;
        if listed != edge.dist(una) - sacked {
            return Err("a node is in no list");
        }
        Ok(())
    }

    /// The bytes of one list.
    fn listed(&self, nodes: &Slab<Sent>, fate: Fate) -> Result<u32, &'static str> {
        let list = if fate == Fate::Lost {
            self.missing
        } else {
            self.timed
        };
        let (mut node, mut before, mut bytes, mut count) = (list.first, NONE, 0, 0);
        while let Some(sent) = nodes.at(node) {
            if (sent.fate, sent.before) != (fate, before) || count > nodes.len() {
                return Err("a list in flight is broken");
            }
            bytes += sent.len();
            count += 1;
            (before, node) = (node, sent.after);
        }
        if list.last == before {
            Ok(bytes)
        } else {
            Err("a list in flight ends elsewhere")
        }
    }
}
