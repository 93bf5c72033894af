//! The nodes of what is in flight: how many a connection may have, and the order they are kept in while they are many.
//!
//! What does not live here: what they say.
//!
//! Invariant: the order is empty, or all nodes of the connection are in it.

use base::{Links, Order, Ordered, Seq, Slab};

use super::{Board, NONE, Sent};

/// Bound on the nodes of one connection: a window of twelve megabytes of which every other segment is lost.
pub(super) const MAX_NODES: u16 = 8192;
/// The same when half of all nodes are taken, and for those that end with a record.
const FEW_NODES: u16 = 512;
/// From so many on they are kept in an order, until half of them are left. Few in tests, whose models are small.
pub(super) const MANY_NODES: u16 = if cfg!(test) { 6 } else { 64 };
/// Nodes there are for each active connection besides its own, and at least in all.
const NODES_EACH: u32 = 4;
const NODES: u32 = 16 * 1024;

/// How many nodes there are.
pub(crate) fn capacity(active: u32) -> u32 {
    let shared = active.saturating_mul(NODES_EACH).max(NODES);
    active.saturating_add(shared)
}

/// Whether so many more leave the last part, which is for first ones.
pub(super) fn leaves_first_ones(nodes: &Slab<Sent>, more: u32) -> bool {
    let all = nodes.capacity();
    nodes.len() + more <= all - all / (NODES_EACH + 1)
}

impl Ordered for Sent {
    fn number(&self) -> Seq {
        self.start
    }
    fn links(&self) -> &Links {
        &self.links
    }
    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl Board<'_> {
    pub(super) fn new_node(&mut self, sent: Sent) -> Option<u32> {
        if self.flight.nodes > 0 && !self.has_node() {
            return None;
        }
        let index = self.nodes.insert(sent)?.index;
        self.flight.nodes += 1;
        Some(index)
    }

    /// Whether there is a node besides the first. The last part of the slab is for first ones, so that whoever is active can
    /// send; and nobody has many when many have some.
    pub(super) fn has_node(&self) -> bool {
        let (all, used) = (self.nodes.capacity(), self.nodes.len());
        let most = if used > all / 2 { FEW_NODES } else { MAX_NODES };
        self.flight.nodes < most && leaves_first_ones(self.nodes, 1)
    }

    /// Whether more can be sent: always, but behind the end of a record when there is no node for it, or records of a byte are
    /// about to take more memory than they are worth.
    pub(crate) fn has_room(&self) -> bool {
        self.flight.nodes < FEW_NODES && self.has_node()
            || self
                .nodes
                .at(self.flight.tail)
                .is_none_or(|tail| !tail.tail.record)
    }

    /// Gives a node back: the first, or one that is no more in the list.
    pub(super) fn free(&mut self, node: u32) {
        let mut order = self.order();
        self.flight.nodes -= 1;
        if self.flight.nodes <= MANY_NODES / 2 {
            order = Order::EMPTY;
        } else if !order.is_empty() {
            order.remove(self.nodes, node);
        }
        if node == self.flight.head {
            self.flight.head = self.nodes.at(node).map_or(NONE, |sent| sent.next);
        }
        self.set_order(order);
        if self.flight.hint == node {
            self.flight.hint = NONE;
        }
        self.nodes.remove_at(node);
    }

    fn order(&self) -> Order {
        let first = self.nodes.at(self.flight.head);
        first.map_or(Order::EMPTY, |sent| sent.order)
    }

    fn set_order(&mut self, order: Order) {
        if let Some(first) = self.nodes.at_mut(self.flight.head) {
            first.order = order;
        }
    }

    /// One more node is in the list.
    pub(super) fn enter(&mut self, node: u32) {
        let mut order = self.order();
        if !order.is_empty() {
            order.insert(self.nodes, node);
            self.set_order(order);
        } else if self.flight.nodes == MANY_NODES {
            // Too many to be walked through with each ACK.
            self.order_all();
        }
    }

    /// Puts all nodes into an order.
    pub(super) fn order_all(&mut self) {
        let (mut order, mut node) = (Order::EMPTY, self.flight.head);
        while let Some(next) = self.nodes.at(node).map(|sent| sent.next) {
            order.insert(self.nodes, node);
            node = next;
        }
        self.set_order(order);
    }

    /// The node that ends at `start`, or `start` is in, if they are too many to be walked through; and if it is behind `node`.
    pub(super) fn skip_to(&self, start: Seq, node: u32) -> Option<u32> {
        let before = Seq(start.0.wrapping_sub(1));
        let found = self.order().find(self.nodes, before)?;
        let number = |node: u32| self.nodes.at(node).map(|sent| sent.start);
        number(found)?.gt(number(node)?).then_some(found)
    }
}
