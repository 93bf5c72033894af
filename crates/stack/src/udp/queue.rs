//! A socket's receive queue: one chain of bytes in order of arrival, and a list of notes that say where each datagram ends.
//!
//! Small datagrams are copied behind one another into shared blocks; large ones and whole super-frames are linked in as they
//! are. A datagram is charged for the blocks it may pin, so a limit in bytes is a limit on pool memory, too. Where a socket wants it
//! (UDP_GRO), datagrams that came together are one: their bytes lie behind one another anyway, so that only the note knows.
//!
//! Invariant: the blocks of `bytes` times their size never exceed the sum of the charges, plus one block being read.

use base::{BLOCK, Chain, Instant, Slab};
use wire::Addr;

use super::NONE;
use crate::context::{Core, Keep};
use crate::net::InterfaceId;
use crate::stats::Drop;

/// Datagrams up to this size are copied together.
pub(super) const COPY: usize = 256;
/// Charged for each datagram beside its bytes: the note.
pub(super) const OVERHEAD: u32 = 64;

/// As Linux's `UDP_GRO_CNT_MAX`, and the longest payload.
const JOINED: u32 = 64;
const JOINED_BYTES: u32 = 65_507;

/// What is kept of a datagram beside its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    pub(super) from: Addr,
    pub(super) to: Addr,
    pub(super) from_port: u16,
    pub(super) interface: InterfaceId,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    /// It is several of so many bytes, the last of which may be shorter; 0: it is one.
    pub(super) segment: u16,
    pub(super) at: Instant,
}

impl Note {
    /// Whether what came with it may be one with what came with `next`: by a link and at once, as one batch of frames does. What this
    /// host says to itself is read as it was sent.
    fn joins(&self, next: &Self) -> bool {
        (self.from, self.to, self.from_port) == (next.from, next.to, next.from_port)
            && (self.interface, self.ttl, self.tos, self.at)
                == (next.interface, next.ttl, next.tos, next.at)
            && self.interface != InterfaceId::LOOPBACK
    }
}

#[derive(Debug)]
struct Node {
    note: Note,
    len: u32,
    charge: u32,
    next: u32,
}

/// The notes of all sockets.
#[derive(Debug)]
pub(super) struct Nodes(Slab<Node>);

impl Nodes {
    pub(super) fn new(capacity: u32) -> Self {
        Self(Slab::with_capacity(capacity))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> u32 {
        self.0.len()
    }
}

/// One receive queue.
#[derive(Debug)]
pub(super) struct Queue {
    bytes: Chain,
    first: u32,
    last: u32,
    charged: u32,
    limit: u32,
    /// Datagrams that came together are joined.
    gro: bool,
}

/// Counts a datagram, or a train of datagrams of `size` bytes, that finds no room: how many these are.
fn refuse(core: &mut Core, payload: Chain, size: usize, why: Drop) -> u32 {
    let count = match size {
        0 => 1,
        size => payload.len().div_ceil(size).max(1),
    };
    core.pool.free(payload);
    core.stats.drops.add_n(why, count as u64);
    count as u32
}

impl Queue {
    pub(super) fn new(limit: u32, gro: bool) -> Self {
        Self {
            bytes: Chain::EMPTY,
            first: NONE,
            last: NONE,
            charged: 0,
            limit: limit.max(BLOCK as u32 + OVERHEAD),
            gro,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    pub(super) fn segments(&self, pool: &base::Pool) -> usize {
        pool.segments(&self.bytes)
    }

    pub(super) fn charged(&self) -> u32 {
        self.charged
    }

    /// Changes what it may hold, and whether it joins.
    pub(super) fn set(&mut self, limit: u32, gro: bool) {
        self.limit = limit.max(BLOCK as u32 + OVERHEAD);
        self.gro = gro;
    }

    /// Whether `charge` more is allowed. An empty queue takes any one datagram.
    fn admits(&self, charge: u32) -> bool {
        self.is_empty() || self.charged.saturating_add(charge) <= self.limit
    }

    /// Takes in one datagram whose payload is all of `payload`, or with `size` a train of datagrams of `size` bytes, the last
    /// one possibly shorter, which stays one if the socket joins. Returns how many datagrams found no room.
    pub(super) fn push(
        &mut self,
        core: &mut Core,
        nodes: &mut Nodes,
        note: &Note,
        payload: Chain,
        size: usize,
    ) -> u32 {
        let len = payload.len();
        let keep = if self.is_empty() {
            Keep::All
        } else {
            Keep::Unread
        };
        if core.spare_blocks(keep) == 0 {
            return refuse(core, payload, size, Drop::PoolLow);
        }
        if size != 0 && len > size {
            return match u16::try_from(size) {
                Ok(segment) if self.gro => {
                    self.push_whole(core, nodes, &Note { segment, ..*note }, payload)
                }
                _ => self.push_train(core, nodes, note, payload, size),
            };
        }
        if len <= COPY {
            return self.push_small(core, nodes, note, payload);
        }
        self.push_whole(core, nodes, note, payload)
    }

    /// Links a datagram in as it is, or a train as one. Returns how many datagrams found no room.
    fn push_whole(
        &mut self,
        core: &mut Core,
        nodes: &mut Nodes,
        note: &Note,
        payload: Chain,
    ) -> u32 {
        let charge = core.pool.segments(&payload) as u32 * BLOCK as u32 + OVERHEAD;
        if !self.admits(charge) || !self.note(nodes, note, payload.len(), charge) {
            let size = note.segment.into();
            return refuse(core, payload, size, Drop::UdpReceiveBufferFull);
        }
        core.pool.append(&mut self.bytes, payload);
        0
    }

    fn push_small(
        &mut self,
        core: &mut Core,
        nodes: &mut Nodes,
        note: &Note,
        payload: Chain,
    ) -> u32 {
        let len = payload.len();
        let mut buffer = [0; COPY];
        core.pool.copy_out(&payload, 0, &mut buffer[..len]);
        core.pool.free(payload);
        let fresh = len > 0 && core.pool.tail_room(&self.bytes) < len;
        let charge = OVERHEAD + len as u32 + if fresh { BLOCK as u32 } else { 0 };
        if !self.admits(charge) {
            core.stats.drops.add(Drop::UdpReceiveBufferFull);
            return 1;
        }
        let before = self.bytes.len();
        if core.pool.append_bytes(&mut self.bytes, &buffer[..len]) < len {
            core.pool.truncate(&mut self.bytes, before);
            core.stats.drops.add(Drop::PoolEmpty);
            return 1;
        }
        if !self.note(nodes, note, len, charge) {
            core.pool.truncate(&mut self.bytes, before);
            core.stats.drops.add(Drop::UdpReceiveBufferFull);
            return 1;
        }
        0
    }

    /// A super-frame: its bytes are linked in once, whatever number of datagrams they are.
    #[cold]
    fn push_train(
        &mut self,
        core: &mut Core,
        nodes: &mut Nodes,
        note: &Note,
        mut payload: Chain,
        size: usize,
    ) -> u32 {
        let count = payload.len().div_ceil(size);
        let fits = self.fits(core, nodes, &payload, size);
        core.pool.truncate(&mut payload, fits * size);
        core.stats
            .drops
            .add_n(Drop::UdpReceiveBufferFull, (count - fits) as u64);
        let blocks = core.pool.segments(&payload) as u32 * BLOCK as u32;
        let mut left = payload.len();
        while left > 0 {
            let len = left.min(size);
            left -= len;
            // The blocks are charged to the last: they may be pinned until it is read. There is a node: `fits` saw to it.
            self.note(
                nodes,
                note,
                len,
                OVERHEAD + if left == 0 { blocks } else { 0 },
            );
        }
        core.pool.append(&mut self.bytes, payload);
        (count - fits) as u32
    }

    /// How many of a train's datagrams may come in.
    fn fits(&self, core: &Core, nodes: &Nodes, payload: &Chain, size: usize) -> usize {
        let room = self.limit.saturating_sub(self.charged) as usize;
        let count = payload.len().div_ceil(size);
        let (mut bytes, mut blocks, mut best) = (0, 0, usize::from(self.is_empty()));
        for slice in core.pool.slices(payload) {
            bytes += slice.len();
            blocks += BLOCK;
            let whole = if bytes == payload.len() {
                count
            } else {
                bytes / size
            };
            best = best.max(whole.min(room.saturating_sub(blocks) / OVERHEAD as usize));
        }
        best.min((nodes.0.capacity() - nodes.0.len()) as usize)
    }

    /// Notes what is being put behind the rest; false when there is no room for a note.
    fn note(&mut self, nodes: &mut Nodes, note: &Note, len: usize, charge: u32) -> bool {
        if self.gro && note.segment == 0 && self.join(nodes, note, len as u32, charge) {
            return true;
        }
        let node = Node {
            note: *note,
            len: len as u32,
            charge,
            next: NONE,
        };
        let Some(key) = nodes.0.insert(node) else {
            return false;
        };
        match nodes.0.at_mut(self.last) {
            Some(last) => last.next = key.index,
            None => self.first = key.index,
        }
        self.last = key.index;
        self.charged += charge;
        true
    }

    /// Has the last note tell of one datagram more, if that came with it, is no longer than those, and none of them was shorter.
    fn join(&mut self, nodes: &mut Nodes, note: &Note, len: u32, charge: u32) -> bool {
        let Some(last) = nodes.0.at_mut(self.last) else {
            return false;
        };
        let size = match last.note.segment {
            0 => last.len,
            size => size.into(),
        };
        let open = len > 0 && len <= size && last.len % size == 0 && last.len / size < JOINED;
        let Ok(segment) = u16::try_from(size) else {
            return false;
        };
        if !open || last.len + len > JOINED_BYTES || !last.note.joins(note) {
            return false;
        }
        last.note.segment = segment;
        last.len += len;
        last.charge += charge;
        self.charged += charge;
        true
    }

    /// The oldest datagram: its note and length.
    pub(super) fn peek(&self, nodes: &Nodes) -> Option<(Note, usize)> {
        nodes
            .0
            .at(self.first)
            .map(|node| (node.note, node.len as usize))
    }

    /// Copies the front of the oldest datagram, of length `len`.
    pub(super) fn copy(&self, core: &Core, len: usize, out: &mut [u8]) -> usize {
        let take = len.min(out.len());
        core.pool.copy_out(&self.bytes, 0, &mut out[..take])
    }

    /// Forgets the oldest datagram's note; its bytes are at the front of `bytes`.
    fn unnote(&mut self, nodes: &mut Nodes) -> Option<usize> {
        let key = nodes.0.key_of(self.first)?;
        let node = nodes.0.remove(key)?;
        self.first = node.next;
        if node.next == NONE {
            self.last = NONE;
        }
        self.charged -= node.charge;
        Some(node.len as usize)
    }

    /// Drops the oldest datagram.
    pub(super) fn pop(&mut self, core: &mut Core, nodes: &mut Nodes) {
        if let Some(len) = self.unnote(nodes) {
            core.pool.pull_front(&mut self.bytes, len);
        }
    }

    /// Takes the oldest datagram's bytes without a copy; `None` when there is none or the pool has no descriptor.
    pub(super) fn pop_chain(&mut self, core: &mut Core, nodes: &mut Nodes) -> Option<Chain> {
        let len = self.peek(nodes)?.1;
        let chain = if len == self.bytes.len() {
            self.bytes.take()
        } else {
            core.pool.split_front(&mut self.bytes, len)?
        };
        self.unnote(nodes);
        Some(chain)
    }

    /// Drops everything.
    pub(super) fn clear(&mut self, core: &mut Core, nodes: &mut Nodes) {
        while self.unnote(nodes).is_some() {}
        core.pool.free(self.bytes.take());
    }
}
