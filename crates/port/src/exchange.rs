//! The common half of the ports that exchange frames with the kernel behind a virtio header: one system call a frame.
//!
//! Which system call, and what its errors mean, is the port's business.
//!
//! Invariant: a frame longer than the memory it was read into is dropped, never passed on in part.

use std::io;

use base::{Batch, Chain, Checksum, Facts, Packet, Pool};

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

/// What one queue needs to move frames.
pub(crate) struct Exchange {
    spare: Chain,
    /// Where a frame of very many pieces is copied together.
    joint: Vec<u8>,
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
            joint: vec![0; max_frame],
            want,
            max_frame,
            counters: PortCounters::default(),
        }
    }

    /// Fills the batch by calls of `read`, which is given a list of memory (header first) that is valid for writing,
    /// and referred to by nobody else, until it returns. Stops with the error if the device is dead.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        pool: &mut Pool,
        batch: &mut Batch,
        mut read: impl FnMut(*mut libc::iovec, usize) -> Read,
    ) -> (usize, Option<io::Error>) {
        let mut scatter = Scatter::new();
        let mut header = [0; vnet::HEADER_LEN];
        let before = batch.len();
        let mut dead = None;
        while !batch.is_full() {
            let room = scatter.refill(pool, &mut self.spare, self.want);
            if room == 0 {
                self.counters.rx_stalls += 1;
                break;
            }
            let (list, entries) = scatter.list(&mut header);
            let (bytes, cut, tag) = match read(list, entries) {
                Read::Frame { bytes, cut, tag } => (bytes, cut, tag),
                Read::Nothing => break,
                Read::Lost(why) => {
                    self.counters.drops.add(why);
                    break;
                }
                Read::Dead(why) => {
                    dead = Some(why);
                    break;
                }
            };
            let len = bytes.saturating_sub(vnet::HEADER_LEN).min(room);
            let chain = pool.take_filled(&mut self.spare, len);
            scatter.consume(len);
            // Not every kernel says that it cut a frame short, but it fills all the room then.
            let facts = if cut || len == room {
                Err(Drop::RxTruncated)
            } else if len == 0 {
                Err(Drop::RxDescription)
            } else {
                vnet::to_facts(&header, pool.first(&chain), len).map_err(|_| Drop::RxDescription)
            };
            let mut packet = Packet {
                chain,
                facts: Facts::NONE,
            };
            let verdict = facts.and_then(|facts| {
                packet.facts = facts;
                match tag {
                    None => Ok(()),
                    Some(tag) => put_back(pool, &mut packet, tag),
                }
            });
            match verdict {
                Ok(()) => {
                    self.counters.rx_frames += 1;
                    self.counters.rx_bytes += packet.chain.len() as u64;
                    if let Err(packet) = batch.push(packet) {
                        pool.free(packet.chain);
                    }
                }
                Err(why) => {
                    self.counters.drops.add(why);
                    pool.free(packet.chain);
                }
            }
        }
        (batch.len() - before, dead)
    }

    /// Empties the batch by calls of `write`, which is given a list of memory (header first) that is valid for
    /// reading, and not changed by anybody, until it returns.
    #[inline]
    pub(crate) fn transmit(
        &mut self,
        pool: &mut Pool,
        batch: &mut Batch,
        mut write: impl FnMut(*const libc::iovec, usize) -> Written,
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
                let (list, entries) = gather.list(&header, pool, &packet.chain, &mut self.joint);
                write(list, entries)
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

    pub(crate) fn release(&mut self, pool: &mut Pool) {
        pool.free(self.spare.take());
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
mod tests {
    use base::{Gso, GsoKind};

    use super::*;

    #[test]
    fn a_tag_is_put_back_behind_the_addresses() {
        let mut pool = Pool::new(8).unwrap();
        let frame: Vec<u8> = (0..100).collect();
        let mut packet = Packet::default();
        pool.append_bytes(&mut packet.chain, &frame);
        packet.facts.checksum = Checksum::Partial {
            start: 34,
            offset: 16,
        };
        packet.facts.gso = Gso {
            kind: GsoKind::Tcp4,
            size: 1448,
            header_len: 54,
        };
        put_back(
            &mut pool,
            &mut packet,
            Tag {
                ethertype: 0x8100,
                contents: 0x2005,
            },
        )
        .unwrap();
        let mut got = vec![0; 104];
        assert_eq!(
            (
                packet.chain.len(),
                pool.copy_out(&packet.chain, 0, &mut got)
            ),
            (104, 104)
        );
        assert_eq!(
            got,
            [&frame[..12], &[0x81, 0, 0x20, 5], &frame[12..]].concat()
        );
        assert_eq!(
            packet.facts.checksum,
            Checksum::Partial {
                start: 38,
                offset: 16
            }
        );
        assert_eq!(packet.facts.gso.header_len, 58);
        pool.free(packet.chain);

        let mut packet = Packet::default();
        pool.append_bytes(&mut packet.chain, &frame[..11]);
        let short = put_back(
            &mut pool,
            &mut packet,
            Tag {
                ethertype: 0x8100,
                contents: 1,
            },
        );
        assert_eq!(short, Err(Drop::RxDescription));
        pool.free(packet.chain);
        assert_eq!(pool.in_use(), 0);
    }
}
