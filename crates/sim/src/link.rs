//! A cable's behaviour: rate, delay, queue and faults; a function of the time it is told and of a seeded generator.
//!
//! What does not live here: frames' contents, but for the bit a corruption turns, and marks ([`mark`]).

use core::time::Duration;

use base::{Instant, Rng};

/// How frames get lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Not at all.
    None,
    /// Each with this probability, on its own.
    Random(f64),
    /// In bursts (Gilbert-Elliott): probabilities to turn bad, to turn good again, and of loss while bad.
    Burst {
        /// Good to bad, per frame.
        start: f64,
        /// Bad to good, per frame.
        end: f64,
        /// Loss while bad.
        loss: f64,
    },
}

/// What goes wrong on a cable. Probabilities are per frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// Loss.
    pub loss: Loss,
    /// A frame is held back for up to `jitter`, so that others overtake it.
    pub reorder: f64,
    /// The longest a reordered frame is held back.
    pub jitter: Duration,
    /// A frame arrives twice.
    pub duplicate: f64,
    /// A bit is turned.
    pub corrupt: f64,
}

impl Faults {
    /// None.
    pub const NONE: Self = Self {
        loss: Loss::None,
        reorder: 0.0,
        jitter: Duration::ZERO,
        duplicate: 0.0,
        corrupt: 0.0,
    };
}

/// One cable, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkConfig {
    /// Bits per second; 0: no limit.
    pub rate: u64,
    /// One way.
    pub delay: Duration,
    /// Bytes that may wait for their turn at `rate`; more are dropped.
    pub queue: u64,
    /// Bytes that wait from which on frames are marked that may be (CE of RFC 3168); 0: none is.
    pub mark: u64,
    /// Longest IP packet.
    pub mtu: usize,
    /// Faults.
    pub faults: Faults,
    /// Hosts hand over super-frames and partial checksums, and the cable cuts them, as a TSO device does.
    pub offload: bool,
    /// With `offload`: super-frames travel whole, as between a TAP and its kernel.
    pub whole: bool,
    /// Something on the way cuts TCP segments to so many bytes; 0: nothing does.
    pub split: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            rate: 0,
            delay: Duration::from_micros(50),
            queue: 1 << 20,
            mark: 0,
            mtu: 1500,
            faults: Faults::NONE,
            offload: false,
            whole: false,
            split: 0,
        }
    }
}

/// One direction of a cable at work. Whose clock `now` comes from does not matter here: a [`World`](crate::World) has its own,
/// and whoever joins real devices by this model reads the machine's.
#[derive(Debug, Default)]
pub struct Direction {
    /// When the last queued frame will have left.
    busy_until: Instant,
    bad: bool,
    /// Frames that were marked and arrive, copies too.
    pub(crate) marks: u64,
}

/// Marks a frame whose sender says that it may be (ECT of RFC 3168 becomes CE). Returns whether it is.
pub(crate) fn mark(frame: &mut [u8]) -> bool {
    match frame.get(12..14) {
        // IPv4: the checksum changes with the byte (RFC 1624 3).
        Some([8, 0]) if frame.len() >= 34 && frame[15] & 3 != 0 => {
            let old = u16::from_be_bytes([frame[14], frame[15]]);
            let sum = u16::from_be_bytes([frame[24], frame[25]]);
            let sum = wire::checksum::update_u16(sum, old, old | 3);
            frame[15] |= 3;
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        Some([0x86, 0xdd]) if frame.len() >= 54 && frame[15] & 0x30 != 0 => frame[15] |= 0x30,
        _ => return false,
    }
    true
}

/// Why a frame never arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It found no room in the queue.
    Queue,
    /// A fault of the cable.
    Fault,
}

/// What becomes of a frame: when copies of it arrive, and what is done to it on the way.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// When it arrives, and when its copy does.
    pub arrivals: [Option<Instant>; 2],
    /// Why it does not.
    pub lost: Option<Lost>,
    /// It is held back, so that others may overtake it.
    pub held: bool,
    /// A bit of the first one to arrive is turned.
    pub corrupt: bool,
    /// It met a queue, and is marked if it may be.
    pub marked: bool,
}

impl Direction {
    /// Decides what becomes of a frame of `len` bytes sent now.
    pub fn send(&mut self, config: &LinkConfig, rng: &mut Rng, now: Instant, len: usize) -> Fate {
        let mut fate = Fate::default();
        let mut at = now;
        if let Some(nanos) = (len as u64 * 8 * 1_000_000_000).checked_div(config.rate) {
            if self.backlog(config, now) + len as u64 > config.queue {
                fate.lost = Some(Lost::Queue);
                return fate;
            }
            fate.marked = config.mark > 0 && self.backlog(config, now) >= config.mark;
            self.busy_until = self.busy_until.max(now) + Duration::from_nanos(nanos);
            at = self.busy_until;
        }
        if self.loses(&config.faults.loss, rng) {
            fate.lost = Some(Lost::Fault);
            return fate;
        }
        let faults = &config.faults;
        let mut arrival = at + config.delay;
        if rng.chance(faults.reorder) {
            arrival += jitter(faults.jitter, rng);
            fate.held = true;
        }
        fate.arrivals[0] = Some(arrival);
        if rng.chance(faults.duplicate) {
            fate.arrivals[1] = Some(arrival + jitter(faults.jitter, rng));
        }
        fate.corrupt = rng.chance(faults.corrupt);
        fate
    }

    /// Bytes that wait for their turn.
    pub fn backlog(&self, config: &LinkConfig, now: Instant) -> u64 {
        let waiting = (self.busy_until - now).as_nanos() as u64;
        let bytes = u128::from(waiting) * u128::from(config.rate) / 8_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn loses(&mut self, loss: &Loss, rng: &mut Rng) -> bool {
        match *loss {
            Loss::None => false,
            Loss::Random(p) => rng.chance(p),
            Loss::Burst { start, end, loss } => {
                self.bad = if self.bad {
                    !rng.chance(end)
                } else {
                    rng.chance(start)
                };
                self.bad && rng.chance(loss)
            }
        }
    }
}

impl Loss {
    /// In bursts of so many frames on average, each frame of a burst lost, with this share lost over all.
    pub fn bursts(share: f64, length: f64) -> Self {
        let end = 1.0 / length.max(1.0);
        let start = if share >= 1.0 {
            1.0
        } else {
            (share * end / (1.0 - share)).min(1.0)
        };
        Self::Burst {
            start,
            end,
            loss: 1.0,
        }
    }
}

fn jitter(most: Duration, rng: &mut Rng) -> Duration {
    Duration::from_nanos((u64::from(rng.u32()) * (most.as_nanos() as u64).max(1)) >> 32)
}
