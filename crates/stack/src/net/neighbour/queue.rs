//! Packets that wait for a neighbour's address: one slab of nodes, linked per entry, bounded each and all together.
//!
//! When a queue is full the new packet displaces the oldest (RFC 4861 7.2.2, RFC 1122 2.3.2.2: keep the latest).

use base::{Packet, Slab};

use super::{Entry, NONE, QUEUE_BYTES, QUEUE_PACKETS};
use crate::context::Core;
use crate::stats::Drop;

#[derive(Debug)]
struct Node {
    packet: Packet,
    next: u32,
}

/// All waiting packets.
#[derive(Debug)]
pub(super) struct Queues {
    nodes: Slab<Node>,
    bytes: u64,
    bytes_max: u64,
}

impl Queues {
    /// Room for `packets` packets of `bytes` in all.
    pub(super) fn new(packets: u32, bytes: u64) -> Self {
        Self {
            nodes: Slab::with_capacity(packets),
            bytes: 0,
            bytes_max: bytes,
        }
    }

    /// Everything that waits.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Packet> {
        self.nodes.iter().map(|(_, node)| &node.packet)
    }

    #[cfg(test)]
    pub(super) fn packets(&self) -> u32 {
        self.nodes.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends to the entry's queue; what has no room is dropped and counted.
    pub(super) fn push(&mut self, core: &mut Core, entry: &mut Entry, packet: Packet) {
        let bytes = packet.chain.len() as u32;
        while entry.first != NONE
            && (entry.queued >= QUEUE_PACKETS || entry.queued_bytes + bytes > QUEUE_BYTES)
        {
            if let Some(oldest) = self.pop(entry) {
                core.drop_packet(oldest.chain, Drop::NeighbourQueueFull);
            }
        }
        if self.bytes + u64::from(bytes) > self.bytes_max
            || self.nodes.len() >= self.nodes.capacity()
        {
            return core.drop_packet(packet.chain, Drop::NeighbourQueueFull);
        }
        let Some(key) = self.nodes.insert(Node { packet, next: NONE }) else {
            return;
        };
        match self.nodes.at_mut(entry.last) {
            Some(last) => last.next = key.index,
            None => entry.first = key.index,
        }
        entry.last = key.index;
        entry.queued += 1;
        entry.queued_bytes += bytes;
        self.bytes += u64::from(bytes);
    }

    /// Takes the oldest packet.
    pub(super) fn pop(&mut self, entry: &mut Entry) -> Option<Packet> {
        let key = self.nodes.key_of(entry.first)?;
        let node = self.nodes.remove(key)?;
        entry.first = node.next;
        if node.next == NONE {
            entry.last = NONE;
        }
        let bytes = node.packet.chain.len() as u32;
        entry.queued -= 1;
        entry.queued_bytes -= bytes;
        self.bytes -= u64::from(bytes);
        Some(node.packet)
    }

    /// The oldest packet of the entry, in place.
    pub(super) fn peek(&self, entry: &Entry) -> Option<&Packet> {
        Some(&self.nodes.at(entry.first)?.packet)
    }
}
