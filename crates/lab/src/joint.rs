//! A link between two ports: frames in, their fate from the simulator's model, frames out when they are due.
//!
//! What does not live here: clocks and devices; time is an argument and frames come in batches ([`wire`](crate::wire)).
//!
//! Invariant: what the model sees are frames as a wire carries them: super-frames are cut and checksums completed before.
//! Invariant: at most `limit` frames are held, in both directions together; every frame that does not arrive is counted.
//! Invariant: frames due at the same time leave in the order they came.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use base::{Batch, Chain, Checksum, Facts, Instant, Packet, Pool, Rng};
use sim::{Direction, LinkConfig, Lost, cut};

/// Blocks beyond those of held frames: what ports and batches have in their hands.
const SPARE_BLOCKS: u32 = 2_048;

/// What became of the frames of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that came to the link, as a wire carries them.
    pub frames: u64,
    /// Bytes of them, Ethernet header included.
    pub bytes: u64,
    /// Frames that left it, copies included.
    pub delivered: u64,
    /// Bytes of them.
    pub delivered_bytes: u64,
    /// Found no room in the queue.
    pub queue_full: u64,
    /// Lost by the cable.
    pub lost: u64,
    /// Held back, so that others could overtake them.
    pub held_back: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// With a bit turned.
    pub corrupted: u64,
    /// Dropped because too many frames were held already, or memory was out.
    pub over_limit: u64,
    /// The longest the queue has been, bytes.
    pub queue_high_water: u64,
    /// The longest a frame left after it was due, nanoseconds: how well the clock's keeper kept up.
    pub latest: u64,
}

/// A frame on its way.
struct Held {
    at: Instant,
    number: u64,
    chain: Chain,
}

impl Held {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Held {}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// One direction: from side 0 to side 1, or back.
struct Lane {
    config: LinkConfig,
    direction: Direction,
    /// Its own: what is lost here does not depend on what goes the other way.
    rng: Rng,
    held: BinaryHeap<Reverse<Held>>,
    counts: Counts,
}

/// The link.
pub struct Joint {
    lanes: [Lane; 2],
    limit: usize,
    sent: u64,
    pool: Pool,
}

impl Joint {
    /// A link that behaves as `configs` say: from side 0 to side 1, and back. It holds at most `limit` frames.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn new(configs: [LinkConfig; 2], limit: u32, seed: u64) -> io::Result<Self> {
        let mut seeds = Rng::from_seed(seed);
        let lane = |config| Lane {
            config,
            direction: Direction::default(),
            rng: Rng::from_seed(seeds.u64()),
            held: BinaryHeap::new(),
            counts: Counts::default(),
        };
        // A frame longer than a block takes several.
        let mtu = configs[0].mtu.max(configs[1].mtu);
        let blocks = (mtu / base::BLOCK + 1) as u32;
        let pool = Pool::new(limit.saturating_mul(blocks).saturating_add(SPARE_BLOCKS))?;
        Ok(Self {
            lanes: configs.map(lane),
            limit: limit as usize,
            sent: 0,
            pool,
        })
    }

    /// The memory frames are in: for both ports.
    pub fn pool_mut(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// What became of the frames from side 0, and of those from side 1.
    pub fn counts(&self) -> [Counts; 2] {
        [self.lanes[0].counts, self.lanes[1].counts]
    }

    /// Takes frames that side `from` (0 or 1) has sent now.
    pub fn take(&mut self, now: Instant, from: usize, batch: &mut Batch) {
        while let Some(packet) = batch.pop_front() {
            let finished = packet.facts.gso.is_none()
                && !matches!(packet.facts.checksum, Checksum::Partial { .. });
            if finished {
                self.send(now, from, packet.chain);
                continue;
            }
            let bytes: Vec<u8> = self.pool.slices(&packet.chain).flatten().copied().collect();
            self.pool.free(packet.chain);
            for piece in cut(bytes, &packet.facts) {
                match copy(&mut self.pool, &piece) {
                    Some(chain) => self.send(now, from, chain),
                    None => self.lanes[from & 1].counts.over_limit += 1,
                }
            }
        }
    }

    fn send(&mut self, now: Instant, from: usize, chain: Chain) {
        let held = self.lanes[0].held.len() + self.lanes[1].held.len();
        let lane = &mut self.lanes[from & 1];
        let len = chain.len();
        lane.counts.frames += 1;
        lane.counts.bytes += len as u64;
        if held >= self.limit {
            lane.counts.over_limit += 1;
            return self.pool.free(chain);
        }
        let fate = lane.direction.send(&lane.config, &mut lane.rng, now, len);
        let queued = lane.direction.backlog(&lane.config, now);
        lane.counts.queue_high_water = lane.counts.queue_high_water.max(queued);
        match fate.lost {
            None => {}
            Some(Lost::Queue) => lane.counts.queue_full += 1,
            Some(Lost::Fault) => lane.counts.lost += 1,
        }
        lane.counts.held_back += u64::from(fate.held);
        let [Some(first), second] = fate.arrivals else {
            return self.pool.free(chain);
        };
        self.sent += 2;
        if let Some(at) = second {
            let bytes: Vec<u8> = self.pool.slices(&chain).flatten().copied().collect();
            if let Some(copy) = copy(&mut self.pool, &bytes) {
                lane.counts.duplicated += 1;
                lane.held.push(Reverse(Held {
                    at,
                    number: self.sent,
                    chain: copy,
                }));
            }
        }
        if fate.corrupt {
            // The first part of a frame in several blocks: the others are as good as it.
            let bytes = self.pool.first_mut(&chain);
            let bit = lane.rng.below(bytes.len() as u32 * 8) as usize;
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
                lane.counts.corrupted += 1;
            }
        }
        lane.held.push(Reverse(Held {
            at: first,
            number: self.sent - 1,
            chain,
        }));
    }

    /// Fills `batch` with frames that are due at the other end of what side `from` sent.
    pub fn deliver(&mut self, now: Instant, from: usize, batch: &mut Batch) {
        let lane = &mut self.lanes[from & 1];
        while !batch.is_full() && lane.held.peek().is_some_and(|Reverse(held)| held.at <= now) {
            let Some(Reverse(Held { at, chain, .. })) = lane.held.pop() else {
                return;
            };
            let late = (now - at).as_nanos() as u64;
            lane.counts.latest = lane.counts.latest.max(late);
            lane.counts.delivered += 1;
            lane.counts.delivered_bytes += chain.len() as u64;
            // Nobody vouches for what came over this link.
            let packet = Packet {
                chain,
                facts: Facts::NONE,
            };
            if let Err(packet) = batch.push(packet) {
                self.pool.free(packet.chain);
            }
        }
    }

    /// When the next frame is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let first = |lane: &Lane| lane.held.peek().map(|Reverse(held)| held.at);
        self.lanes.iter().filter_map(first).min()
    }

    /// Frames held.
    pub fn held(&self) -> usize {
        self.lanes.iter().map(|lane| lane.held.len()).sum()
    }
}

fn copy(pool: &mut Pool, bytes: &[u8]) -> Option<Chain> {
    let mut chain = Chain::EMPTY;
    if pool.append_bytes(&mut chain, bytes) < bytes.len() {
        pool.free(chain);
        return None;
    }
    Some(chain)
}

#[cfg(test)]
mod tests;
