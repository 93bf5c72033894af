//! The common half of the ports that exchange frames with the kernel behind a virtio header: one system call a frame.
//!
//! Which system call, and what its errors mean, is the port's business.
//!
//! A short frame goes through one flat buffer: copying it costs less than what the kernel takes to work through a
//! list of memory. A long one goes straight into pool blocks, or comes straight out of them, by such a list. Which it
//! will be is not known before a frame is read, but long frames come in runs: after one, the next reads expect more.
//!
//! Invariant: a frame longer than the memory it was read into is dropped, never passed on in part.
//! Invariant: spare blocks are kept only while long frames are expected.

use std::io;

use base::{BATCH, BLOCK, Batch, Chain, Checksum, Packet, Pool};

use crate::scatter::{Gather, Scatter};
use crate::{Drop, PortCounters, vnet};

/// What a read gave.
pub(crate) enum Read {
    /// So many bytes, virtio header included; cut short if it was longer. The kernel took this tag out of it.
    Frame {
        bytes: usize,
        cut: bool,
        tag: Option<Tag>,
    },
    /// Nothing there.
    Nothing,
    /// A frame the kernel dropped.
    Lost(Drop),
    /// The device is of no use any more.
    Dead(io::Error),
}

/// What became of a frame written.
pub(crate) enum Written {
    /// The device has it.
    Sent,
    /// The device has no room now.
    Full,
    /// It was dropped.
    Lost(Drop),
    /// It was dropped, and the device is of no use any more.
    Dead(io::Error),
}

/// A VLAN tag: type and contents, as in the frame (IEEE 802.1Q).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) ethertype: u16,
    pub(crate) contents: u16,
}

/// Bytes of a VLAN tag.
const TAG: usize = 4;
/// Where it stands: behind the two addresses.
const TAG_AT: usize = 12;

/// Up to this length (bytes) a frame is copied.
const SHORT: usize = 2 * BLOCK;
/// So many reads after a long frame are ready for another.
const RUN: u32 = 16;

/// After so many bytes `receive` returns, however much room is left in the batch: what was read must still be in the
/// cache when the host looks at it.
const ENOUGH: usize = 256 << 10;

/// Where one frame is to be read to.
pub(crate) enum Room {
    /// Header and frame one after the other.
    Flat(*mut u8, usize),
    /// A list that begins with the header.
    List(*mut libc::iovec, usize),
}

/// Where one frame is to be written from.
pub(crate) enum Source {
    /// Header and frame one after the other.
    Flat(*const u8, usize),
    /// A list that begins with the header.
    List(*const libc::iovec, usize),
}

/// What one queue needs to move frames.
pub(crate) struct Exchange {
    spare: Chain,
    /// A header and the longest frame.
    flat: Vec<u8>,
    /// Reads left that expect a long frame.
    run: u32,
    /// Bytes to have ready for a frame to be received.
    want: usize,
    /// Longest frame to be sent.
    max_frame: usize,
    pub(crate) counters: PortCounters,
}

impl Exchange {
    pub(crate) fn new(want: usize, max_frame: usize) -> Self {
        Self {
            spare: Chain::EMPTY,
            flat: vec![0; vnet::HEADER_LEN + want.max(max_frame) + 1],
            run: 0,
            want,
            max_frame,
            counters: PortCounters::default(),
        }
    }

    /// Fills the batch by calls of `read`, which is given memory that is valid for writing, and referred to by nobody
    /// else, until it returns. Stops with the error if the device is dead.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        pool: &mut Pool,
        batch: &mut Batch,
        mut read: impl FnMut(Room) -> Read,
    ) -> (usize, Option<io::Error>) {
        let mut scatter = Scatter::new(self.spare.take());
        let before = batch.len();
        let (mut bytes, mut lost) = (0, 0);
        let mut dead = None;
        while !batch.is_full() && bytes < ENOUGH && lost < BATCH {
            let arrived = if self.run > 0 && scatter.refill(pool, self.want) {
                self.run -= 1;
                read_long(pool, &mut scatter, &mut read)
            } else {
                scatter.give_back(pool);
                if pool.available() == 0 {
                    self.counters.rx_stalls += 1;
                    break;
                }
                self.read_short(pool, &mut read)
            };
            match arrived {
                Ok(packet) => {
                    let len = packet.chain.len();
                    if len > SHORT {
                        self.run = RUN;
                    }
                    bytes += len;
                    self.counters.rx_frames += 1;
                    self.counters.rx_bytes += len as u64;
                    if let Err(packet) = batch.push(packet) {
                        pool.free(packet.chain);
                    }
                }
                Err(Read::Lost(why)) => {
                    lost += 1;
                    self.counters.drops.add(why);
                }
                Err(Read::Dead(why)) => {
                    dead = Some(why);
                    break;
                }
                Err(_) => break,
            }
        }
        self.spare = scatter.into_spare();
        (batch.len() - before, dead)
    }

    /// One read into the flat buffer, and a copy.
    #[inline]
    fn read_short(
        &mut self,
        pool: &mut Pool,
        read: &mut impl FnMut(Room) -> Read,
    ) -> Result<Packet, Read> {
        let room = Room::Flat(self.flat.as_mut_ptr(), self.flat.len());
        let (bytes, tag) = arrived(read(room), self.flat.len())?;
        let (header, frame) = self.flat[..bytes]
            .split_first_chunk()
            .ok_or(Read::Lost(Drop::RxDescription))?;
        let mut chain = Chain::EMPTY;
        if pool.append_bytes(&mut chain, frame) < frame.len() {
            pool.free(chain);
            return Err(Read::Lost(Drop::RxNoMemory));
        }
        describe(pool, chain, header, tag)
    }

    /// Empties the batch by calls of `write`, which is given memory that is valid for reading, and not changed by
    /// anybody, until it returns.
    #[inline]
    pub(crate) fn transmit(
        &mut self,
        pool: &mut Pool,
        batch: &mut Batch,
        mut write: impl FnMut(Source) -> Written,
    ) -> (usize, Option<io::Error>) {
        let mut gather = Gather::new();
        let before = batch.len();
        let mut dead = None;
        while let Some(packet) = batch.pop_front() {
            let len = packet.chain.len();
            let written = if len == 0 || len > self.max_frame {
                Written::Lost(Drop::TxLength)
            } else if let Ok(header) =
                vnet::from_facts(&packet.facts, pool.first(&packet.chain), len)
            {
                write(self.source(&mut gather, &header, pool, &packet.chain))
            } else {
                Written::Lost(Drop::TxDescription)
            };
            match written {
                Written::Sent => {
                    self.counters.tx_frames += 1;
                    self.counters.tx_bytes += len as u64;
                }
                Written::Full => {
                    self.counters.tx_stalls += 1;
                    // It has just been taken out, so there is room.
                    if let Err(packet) = batch.push_front(packet) {
                        pool.free(packet.chain);
                    }
                    break;
                }
                Written::Lost(why) => self.counters.drops.add(why),
                Written::Dead(why) => {
                    self.counters.drops.add(Drop::TxDown);
                    dead = Some(why);
                }
            }
            pool.free(packet.chain);
        }
        (before - batch.len(), dead)
    }

    /// Where the kernel finds a frame: by a list, or, if it is short or in very many pieces, copied together.
    #[inline]
    fn source(
        &mut self,
        gather: &mut Gather,
        header: &[u8; vnet::HEADER_LEN],
        pool: &Pool,
        chain: &Chain,
    ) -> Source {
        if chain.len() > SHORT
            && let Some((list, entries)) = gather.list(header, pool, chain)
        {
            return Source::List(list, entries);
        }
        self.flat[..vnet::HEADER_LEN].copy_from_slice(header);
        let len = pool.copy_out(chain, 0, &mut self.flat[vnet::HEADER_LEN..]);
        Source::Flat(self.flat.as_ptr(), vnet::HEADER_LEN + len)
    }

    pub(crate) fn release(&mut self, pool: &mut Pool) {
        pool.free(self.spare.take());
    }
}

/// One read into spare blocks.
fn read_long(
    pool: &mut Pool,
    scatter: &mut Scatter,
    read: &mut impl FnMut(Room) -> Read,
) -> Result<Packet, Read> {
    let mut header = [0; vnet::HEADER_LEN];
    let (list, entries, room) = scatter.list(&mut header);
    let (bytes, tag) = arrived(read(Room::List(list, entries)), vnet::HEADER_LEN + room)?;
    let chain = scatter.take(pool, bytes - vnet::HEADER_LEN);
    describe(pool, chain, &header, tag)
}

/// The bytes a read gave, header included, and the tag taken out of them; everything but a whole frame is an error.
/// `room`: the bytes there was memory for.
#[inline]
fn arrived(read: Read, room: usize) -> Result<(usize, Option<Tag>), Read> {
    match read {
        // Not every kernel says that it cut a frame short, but it fills all the room then.
        Read::Frame { bytes, cut, .. } if cut || bytes >= room => {
            Err(Read::Lost(Drop::RxTruncated))
        }
        Read::Frame { bytes, .. } if bytes <= vnet::HEADER_LEN => {
            Err(Read::Lost(Drop::RxDescription))
        }
        Read::Frame { bytes, tag, .. } => Ok((bytes, tag)),
        other => Err(other),
    }
}

/// Adds the device's description to a frame's bytes.
#[inline]
fn describe(
    pool: &mut Pool,
    chain: Chain,
    header: &[u8; vnet::HEADER_LEN],
    tag: Option<Tag>,
) -> Result<Packet, Read> {
    let facts = vnet::to_facts(header, pool.first(&chain), chain.len());
    let mut packet = Packet::new(chain);
    let fits = match (facts, tag) {
        (Err(_), _) => Err(Drop::RxDescription),
        (Ok(facts), None) => {
            packet.facts = facts;
            return Ok(packet);
        }
        (Ok(facts), Some(tag)) => {
            packet.facts = facts;
            put_back(pool, &mut packet, tag)
        }
    };
    match fits {
        Ok(()) => Ok(packet),
        Err(why) => {
            pool.free(packet.chain);
            Err(Read::Lost(why))
        }
    }
}

/// Puts a VLAN tag back where the kernel took it out, and moves what the facts say of places behind it.
#[cold]
fn put_back(pool: &mut Pool, packet: &mut Packet, tag: Tag) -> Result<(), Drop> {
    let mut start = [0; TAG_AT + TAG];
    if pool.copy_out(&packet.chain, 0, &mut start[..TAG_AT]) < TAG_AT {
        return Err(Drop::RxDescription);
    }
    start[TAG_AT..TAG_AT + 2].copy_from_slice(&tag.ethertype.to_be_bytes());
    start[TAG_AT + 2..].copy_from_slice(&tag.contents.to_be_bytes());
    pool.pull_front(&mut packet.chain, TAG_AT);
    let room = pool
        .prepend(&mut packet.chain, start.len(), 0)
        .ok_or(Drop::RxNoMemory)?;
    room.copy_from_slice(&start);
    if let Checksum::Partial { start, .. } = &mut packet.facts.checksum {
        *start += TAG as u16;
    }
    if !packet.facts.gso.is_none() {
        packet.facts.gso.header_len += TAG as u16;
    }
    Ok(())
}

#[cfg(test)]
#[path = "exchange/tests.rs"]
mod tests;
