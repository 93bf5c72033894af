//! Packets between the memories of two shards: a ring of small places, so that rings among many shards take little; what is longer
//! than a place has several, one behind the other.
//!
//! What does not live here: what the packets are, who is woken.
//!
//! Invariant: a packet is put in as a whole or not at all, and whoever takes sees all of it or none.

use std::io;

use base::ring::{FrameRx, FrameTx, frames};
use base::{Chain, Facts, Packet, Pool};

/// Bytes that a place takes with all that belongs to it, and those of them that the ring itself takes.
const PLACE: usize = 2048;
const RING: usize = 32;
/// What stands in front of each piece: whether another one follows, and two bytes of the packet's.
const PREFIX: usize = 3;
/// Bytes of a packet in one place: those of a frame of Ethernet's ordinary size, with tags.
const ROOM: usize = PLACE - RING - PREFIX;
/// The longest packet: one of IPv6 with 65,535 + 40 bytes, behind an Ethernet header and two VLAN tags.
const LONGEST: usize = 14 + 8 + 40 + 65_535;
/// Places that a ring has at least, so that the longest packet finds room in it.
pub(crate) const PLACES_MIN: usize = LONGEST.div_ceil(ROOM);

/// Two bytes that travel with a packet.
pub(super) type Label = [u8; 2];

/// A ring of so many places.
///
/// # Errors
/// There is no memory for it.
pub(super) fn pieces(places: usize) -> io::Result<(PieceTx, PieceRx)> {
    let (tx, rx) = frames(places, PREFIX + ROOM)?;
    Ok((PieceTx(tx), PieceRx { rx, begun: None }))
}

/// Where packets are put in.
pub(super) struct PieceTx(FrameTx);

/// Where they are taken out.
pub(crate) struct PieceRx {
    rx: FrameRx,
    /// What there was memory for of the next one.
    begun: Option<Packet>,
}

impl PieceTx {
    /// Puts a copy of a packet in. False when there is no room for all of it.
    pub(super) fn put(&mut self, pool: &Pool, label: Label, packet: &Packet) -> bool {
        let len = packet.chain.len();
        let places = len.div_ceil(ROOM).max(1);
        if !self.0.has_room(places) {
            return false;
        }
        for place in 0..places {
            let from = place * ROOM;
            let part = (len - from).min(ROOM);
            let follows = u8::from(place + 1 < places);
            self.0.push_facts(PREFIX + part, packet.facts, |room| {
                if let [more, first, second, bytes @ ..] = room {
                    (*more, [*first, *second]) = (follows, label);
                    pool.copy_out(&packet.chain, from, bytes);
                }
            });
        }
        true
    }

    /// Hands over what was put in.
    pub(super) fn commit(&mut self) {
        self.0.commit();
    }

    /// Whether nobody takes anything out any more.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl PieceRx {
    /// The next packet, copied into this shard's memory. `None` when there is none, or no memory: then it stays.
    pub(super) fn get(&mut self, pool: &mut Pool) -> Option<(Label, Packet)> {
        loop {
            let (facts, bytes) = self.rx.peek()?;
            let [more, first, second, bytes @ ..] = bytes else {
                self.rx.skip(); // never: all have a prefix
                continue;
            };
            let (more, label) = (*more, [*first, *second]);
            let mut packet = self.begun.take().unwrap_or(Packet {
                chain: Chain::EMPTY,
                facts: Facts::NONE,
            });
            packet.facts = facts;
            let before = packet.chain.len();
            if pool.append_bytes(&mut packet.chain, bytes) < bytes.len() {
                pool.truncate(&mut packet.chain, before);
                self.begun = Some(packet);
                return None;
            }
            self.rx.skip();
            if more == 0 {
                return Some((label, packet));
            }
            self.begun = Some(packet);
        }
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.rx.is_empty()
    }

    /// Gives back the room of what was taken.
    pub(super) fn commit(&mut self) {
        self.rx.commit();
    }

    /// Gives back the packet memory it holds.
    pub(super) fn release(&mut self, pool: &mut Pool) {
        if let Some(packet) = self.begun.take() {
            pool.free(packet.chain);
        }
    }
}
