//! A frame on its way through the host: its bytes, and what is known of them.
//!
//! What the bytes mean does not live here; headers are `wire`'s.
//!
//! Invariant: a packet's chain belongs to one pool; whoever takes a packet out of a batch frees or passes on its chain.

use crate::pool::{Chain, Pool};

/// A frame: its bytes and the facts about it.
#[derive(Debug, Default)]
#[must_use = "a packet that is not freed keeps its blocks"]
pub struct Packet {
    /// The bytes, from the Ethernet header on.
    pub chain: Chain,
    /// What is known of them.
    pub facts: Facts,
}

impl Packet {
    /// No bytes, nothing known.
    pub const EMPTY: Packet = Packet {
        chain: Chain::EMPTY,
        facts: Facts::NONE,
    };

    /// A frame of which nothing is known.
    #[inline]
    pub const fn new(chain: Chain) -> Packet {
        Packet {
            chain,
            facts: Facts::NONE,
        }
    }
}

/// What a device said of a frame it received, or must do to one it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The state of the transport checksum.
    pub checksum: Checksum,
    /// Whether the frame stands for several segments.
    pub gso: Gso,
}

impl Facts {
    /// Nothing known.
    pub const NONE: Facts = Facts {
        checksum: Checksum::Unknown,
        gso: Gso::NONE,
    };
}

/// The state of a frame's transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Received: nobody looked. To be sent: complete in the frame.
    #[default]
    Unknown,
    /// Received: the device found it right.
    Good,
    /// The field holds the sum of the pseudo-header only. Received: the bytes never crossed a wire and are trusted.
    /// To be sent: the device sums from `start` to the end and stores the result at `start + offset`.
    Partial {
        /// Where summing starts: the transport header, in bytes from the start of the frame.
        start: u16,
        /// The checksum field, in bytes from `start`.
        offset: u16,
    },
}

/// Generic segmentation: a frame longer than the MTU that the device cuts, or has put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gso {
    /// What is cut, if anything.
    pub kind: GsoKind,
    /// Payload bytes in each segment but the last.
    pub size: u16,
    /// Length of all headers, from the start of the frame.
    pub header_len: u16,
}

impl Gso {
    /// One frame, one segment.
    pub const NONE: Gso = Gso {
        kind: GsoKind::None,
        size: 0,
        header_len: 0,
    };

    /// Whether the frame stands for one segment only.
    #[inline]
    pub const fn is_none(&self) -> bool {
        matches!(self.kind, GsoKind::None)
    }
}

/// What a super-frame is cut into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum GsoKind {
    /// Not a super-frame.
    #[default]
    None,
    /// TCP segments over IPv4.
    Tcp4,
    /// TCP segments over IPv6.
    Tcp6,
    /// UDP datagrams over either.
    Udp,
}

/// What a device does for the frames handed to it, and says of those it hands up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Completes [`Checksum::Partial`] of frames to be sent.
    pub tx_checksum: bool,
    /// Marks received frames [`Checksum::Good`] or [`Checksum::Partial`].
    pub rx_checksum: bool,
    /// Cuts [`GsoKind::Tcp4`].
    pub tso4: bool,
    /// Cuts [`GsoKind::Tcp6`].
    pub tso6: bool,
    /// Cuts [`GsoKind::Udp`].
    pub uso: bool,
}

impl Offloads {
    /// Nothing at all.
    pub const NONE: Offloads = Offloads {
        tx_checksum: false,
        rx_checksum: false,
        tso4: false,
        tso6: false,
        uso: false,
    };
    /// Everything.
    pub const ALL: Offloads = Offloads {
        tx_checksum: true,
        rx_checksum: true,
        tso4: true,
        tso6: true,
        uso: true,
    };
}

/// How many packets are handled together.
pub const BATCH: usize = 64;

/// Up to [`BATCH`] packets in order.
#[derive(Debug)]
pub struct Batch {
    /// A ring, so that neither end moves anything.
    packets: [Packet; BATCH],
    head: u8,
    len: u8,
}

const _: () = assert!(BATCH.is_power_of_two() && BATCH <= 128);

impl Batch {
    /// An empty batch.
    pub const fn new() -> Batch {
        Batch {
            packets: [const { Packet::EMPTY }; BATCH],
            head: 0,
            len: 0,
        }
    }

    #[inline]
    fn slot(&self, index: usize) -> usize {
        (usize::from(self.head) + index) % BATCH
    }

    /// How many packets it holds.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether it holds none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is room for no more.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() == BATCH
    }

    /// How many more it can take.
    #[inline]
    pub fn room(&self) -> usize {
        BATCH - self.len()
    }

    /// Adds a packet at the end.
    ///
    /// # Errors
    /// The packet comes back when the batch is full: there are [`BATCH`].
    #[inline]
    pub fn push(&mut self, packet: Packet) -> Result<(), Packet> {
        if self.is_full() {
            return Err(packet);
        }
        let slot = self.slot(self.len());
        self.packets[slot] = packet;
        self.len += 1;
        Ok(())
    }

    /// Puts a packet back before the first.
    ///
    /// # Errors
    /// The packet comes back when the batch is full: there are [`BATCH`].
    #[inline]
    pub fn push_front(&mut self, packet: Packet) -> Result<(), Packet> {
        if self.is_full() {
            return Err(packet);
        }
        self.head = self.slot(BATCH - 1) as u8;
        self.packets[usize::from(self.head)] = packet;
        self.len += 1;
        Ok(())
    }

    /// Takes the first packet.
    #[inline]
    pub fn pop_front(&mut self) -> Option<Packet> {
        if self.is_empty() {
            return None;
        }
        let packet = core::mem::take(&mut self.packets[usize::from(self.head)]);
        self.head = self.slot(1) as u8;
        self.len -= 1;
        Some(packet)
    }

    /// The packet at this place, counted from the first.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Packet> {
        if index < self.len() {
            Some(&self.packets[self.slot(index)])
        } else {
            None
        }
    }

    /// The packet at this place, to change.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Packet> {
        if index < self.len() {
            Some(&mut self.packets[self.slot(index)])
        } else {
            None
        }
    }

    /// The packets in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &Packet> {
        (0..self.len()).map(|index| &self.packets[self.slot(index)])
    }

    /// Frees every packet.
    pub fn clear(&mut self, pool: &mut Pool) {
        while let Some(packet) = self.pop_front() {
            pool.free(packet.chain);
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size_of::<Facts>(), 12);
        assert_eq!(size_of::<Packet>(), 24);
    }

    fn numbered(n: u16) -> Packet {
        Packet {
            chain: Chain::EMPTY,
            facts: Facts {
                gso: Gso {
                    size: n,
                    ..Gso::NONE
                },
                ..Facts::NONE
            },
        }
    }

    fn numbers(batch: &Batch) -> Vec<u16> {
        batch.iter().map(|p| p.facts.gso.size).collect()
    }

    #[test]
    fn is_a_double_ended_queue() {
        let mut batch = Batch::new();
        let mut model = std::collections::VecDeque::new();
        let mut rng = crate::Rng::from_seed(3);
        for n in 0..10_000 {
            match rng.below(5) {
                0..3 => {
                    let full = model.len() == BATCH;
                    assert_eq!(batch.is_full(), full);
                    let refused = batch.push(numbered(n)).is_err();
                    assert_eq!(refused, full);
                    if !full {
                        model.push_back(n);
                    }
                }
                3 if model.len() < BATCH => {
                    assert!(batch.push_front(numbered(n)).is_ok());
                    model.push_front(n);
                }
                _ => {
                    assert_eq!(
                        batch.pop_front().map(|p| p.facts.gso.size),
                        model.pop_front()
                    );
                }
            }
            assert_eq!(
                (batch.len(), batch.room()),
                (model.len(), BATCH - model.len())
            );
            if n % 100 == 0 {
                assert_eq!(numbers(&batch), model.iter().copied().collect::<Vec<_>>());
                assert_eq!(
                    batch.get(3).map(|p| p.facts.gso.size),
                    model.get(3).copied()
                );
            }
        }
    }

    #[test]
    fn clear_frees() {
        let mut pool = Pool::new(4).unwrap();
        let mut batch = Batch::new();
        for _ in 0..4 {
            batch.push(Packet::new(pool.alloc(0).unwrap())).unwrap();
        }
        assert_eq!(pool.in_use(), 4);
        batch.clear(&mut pool);
        assert_eq!((pool.in_use(), batch.len()), (0, 0));
    }
}
