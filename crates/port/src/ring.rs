//! Two ports joined by memory: what one transmits, the other receives, each in its own thread with its own pool.
//!
//! Frames are copied into the ring and out of it; what is known of them travels along, so that a super-frame or an
//! unfinished checksum passes as it would over a virtual cable.
//!
//! Invariant: neither side ever waits for the other, nor touches the other's pool.
//! Invariant: with [`RingOptions::wake`], a side that polls its descriptor after `receive` has returned is woken by
//! every later `flush` of the other, and not at all by flushes it has already seen the frames of.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use base::ring::{FrameRx, FrameTx, frames};
use base::{Batch, Chain, Checksum, Facts, GsoKind, Offloads, Packet, Pool};
use rustix::event::EventfdFlags;
use wire::Mac;

use crate::{Drop as Dropped, ETHERNET, FRAME_MAX, Port, PortCounters, PortError, PortFacts};

/// Room for a VLAN tag the MTU does not count.
const VLAN: usize = 4;

/// How two ports are to be joined.
#[derive(Debug, Clone)]
pub struct RingOptions {
    /// Largest packet without the Ethernet header, bytes.
    pub mtu: usize,
    /// What may be left to "the device", which passes it on as it is.
    pub offloads: Offloads,
    /// Frames that may be under way in each direction.
    pub slots: usize,
    /// Have a descriptor to sleep on. Costs a memory fence in an idle `receive` and a system call when the other side
    /// sleeps; without it both sides must poll.
    pub wake: bool,
}

impl Default for RingOptions {
    fn default() -> Self {
        Self {
            mtu: 1500,
            offloads: Offloads::NONE,
            slots: 1024,
            wake: true,
        }
    }
}

/// One end of the pair.
pub struct RingPort {
    facts: PortFacts,
    tx: FrameTx,
    rx: FrameRx,
    bells: Option<Bells>,
    /// Frames pushed that the other side has not been told of.
    pending: bool,
    counters: PortCounters,
    failure: Option<PortError>,
}

/// Joins two new ports, named "ring-a" and "ring-b", with these hardware addresses.
///
/// # Errors
/// When the process has no descriptor left for waking, or the machine no memory for the rings.
///
/// ```
/// use base::{Batch, Packet, Pool};
/// use port::Port;
/// use port::ring::{RingOptions, pair};
/// use wire::Mac;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
/// let (mut a, mut b) = pair(macs, &RingOptions::default())?;
/// let (mut here, mut there) = (Pool::new(64)?, Pool::new(64)?);
///
/// let mut frame = here.alloc(0).expect("a block is left");
/// here.append_bytes(&mut frame, &[0; 60]);
/// let mut sent = Batch::new();
/// assert!(sent.push(Packet::new(frame)).is_ok());
/// a.transmit(&mut here, &mut sent);
/// a.flush(&mut here);
///
/// let mut received = Batch::new();
/// assert_eq!(b.receive(&mut there, &mut received), 1);
/// # received.clear(&mut there);
/// # Ok(())
/// # }
/// ```
pub fn pair(macs: [Mac; 2], options: &RingOptions) -> Result<(RingPort, RingPort), PortError> {
    let o = options.offloads;
    let plain = options.mtu + ETHERNET + VLAN;
    let max_frame = if o.tso4 || o.tso6 || o.uso {
        FRAME_MAX.max(plain)
    } else {
        plain
    };
    let refused = |error: std::io::Error| {
        let slots = options.slots;
        PortError::new(format!(
            "no memory for rings of {slots} frames of {max_frame} bytes; ask for fewer: {error}"
        ))
    };
    let ring = || frames(options.slots.max(1), max_frame).map_err(refused);
    let ((a_tx, b_rx), (b_tx, a_rx)) = (ring()?, ring()?);
    let (a_bells, b_bells) = if options.wake {
        let (a, b) = (Arc::new(Bell::new()?), Arc::new(Bell::new()?));
        (Some(Bells::new(&a, &b)), Some(Bells::new(&b, &a)))
    } else {
        (None, None)
    };
    let end = |name: &str, mac, tx, rx, bells| RingPort {
        facts: PortFacts {
            name: name.to_owned(),
            mac,
            mtu: options.mtu,
            max_frame,
            offloads: o,
            queue: 0,
            queues: 1,
        },
        tx,
        rx,
        bells,
        pending: false,
        counters: PortCounters::default(),
        failure: None,
    };
    Ok((
        end("ring-a", macs[0], a_tx, a_rx, a_bells),
        end("ring-b", macs[1], b_tx, b_rx, b_bells),
    ))
}

/// What wakes one side.
struct Bell {
    fd: OwnedFd,
    /// Its owner may be asleep: ring.
    armed: AtomicBool,
}

impl Bell {
    fn new() -> Result<Self, PortError> {
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| {
                PortError::failed(
                    "make an eventfd for a ring port (raise the limit with `ulimit -n`)",
                    &e.into(),
                )
            })?;
        Ok(Self {
            fd,
            armed: AtomicBool::new(false),
        })
    }

    fn ring(&self) {
        // It can only fail when it has rung 2^64 times without being heard, and then it is readable.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }
}

/// Both sides' bells, seen from one side.
struct Bells {
    own: Arc<Bell>,
    other: Arc<Bell>,
    /// The own bell was armed, or has rung, and not been looked after since.
    touched: bool,
}

impl Bells {
    fn new(own: &Arc<Bell>, other: &Arc<Bell>) -> Self {
        Self {
            own: own.clone(),
            other: other.clone(),
            touched: false,
        }
    }

    /// Awake again: no need to ring, and what has rung is heard.
    #[inline]
    fn disarm(&mut self) {
        if self.touched {
            // Still armed: the other side has not rung and, after this, will not.
            if !self.own.armed.swap(false, Ordering::SeqCst) {
                let mut count = [0; 8];
                // Nothing there: the other side is between the flag and the bell. Then hear it the next time.
                if rustix::io::read(&self.own.fd, &mut count).is_err() {
                    return;
                }
            }
            self.touched = false;
        }
    }

    /// About to sleep, perhaps. The caller has to look at the ring once more after this.
    #[inline]
    fn arm(&mut self) {
        self.own.armed.store(true, Ordering::SeqCst);
        self.touched = true;
        // Pairs with the fence in `wake`: either the other side sees the flag, or this side sees its frames.
        fence(Ordering::SeqCst);
    }

    /// After frames were handed over.
    #[inline]
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.other.armed.load(Ordering::Relaxed)
            && self.other.armed.swap(false, Ordering::SeqCst)
        {
            self.other.ring();
        }
    }
}

impl RingPort {
    /// What the "device" would not do for this frame.
    fn misfit(&self, facts: &Facts, len: usize) -> bool {
        let o = &self.facts.offloads;
        let checksum = match facts.checksum {
            Checksum::Partial { start, offset } => {
                o.tx_checksum && usize::from(start) + usize::from(offset) + 2 <= len
            }
            _ => facts.gso.is_none(),
        };
        let cut = match facts.gso.kind {
            GsoKind::None => true,
            GsoKind::Tcp4 => o.tso4,
            GsoKind::Tcp6 => o.tso6,
            GsoKind::Udp => o.uso,
        };
        let sized =
            facts.gso.is_none() || facts.gso.size > 0 && usize::from(facts.gso.header_len) <= len;
        !(checksum && cut && sized)
    }

    /// Takes frames out of the ring; true if it was left empty.
    #[inline]
    fn drain(&mut self, pool: &mut Pool, batch: &mut Batch) -> bool {
        while !batch.is_full() {
            let Some((facts, bytes)) = self.rx.peek() else {
                return true;
            };
            let mut chain = Chain::EMPTY;
            if pool.append_bytes(&mut chain, bytes) < bytes.len() {
                pool.free(chain);
                self.counters.rx_stalls += 1;
                return false;
            }
            self.counters.rx_frames += 1;
            self.counters.rx_bytes += bytes.len() as u64;
            self.rx.skip();
            if let Err(packet) = batch.push(Packet { chain, facts }) {
                pool.free(packet.chain);
            }
        }
        false
    }

    fn hand_over(&mut self) {
        if self.pending {
            self.pending = false;
            self.tx.commit();
            if let Some(bells) = &self.bells {
                bells.wake();
            }
        }
    }

    #[cold]
    fn give_up(&mut self) {
        if self.failure.is_none() {
            let line = format!(
                "the other end of {} is gone: make a new pair",
                self.facts.name
            );
            self.failure = Some(PortError::new(line));
        }
    }
}

impl Port for RingPort {
    fn facts(&self) -> &PortFacts {
        &self.facts
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let before = batch.len();
        if let Some(bells) = &mut self.bells {
            bells.disarm();
        }
        let closed = self.rx.is_closed();
        let mut empty = self.drain(pool, batch);
        if let Some(bells) = &mut self.bells {
            if empty {
                bells.arm();
                empty = self.rx.is_empty();
            }
            if !empty {
                // Frames are left, for want of room or because they have just come: sleeping must end at once.
                bells.touched = true;
                bells.own.armed.store(false, Ordering::SeqCst);
                bells.own.ring();
            }
        }
        if closed && empty {
            self.give_up();
        }
        batch.len() - before
    }

    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let before = batch.len();
        let closed = self.tx.is_closed();
        if closed {
            self.give_up();
        }
        while let Some(packet) = batch.pop_front() {
            let len = packet.chain.len();
            let why = if len < ETHERNET || len > self.facts.max_frame {
                Some(Dropped::TxLength)
            } else if self.misfit(&packet.facts, len) {
                Some(Dropped::TxDescription)
            } else if closed {
                Some(Dropped::TxDown)
            } else {
                None
            };
            if let Some(why) = why {
                self.counters.drops.add(why);
            } else if self.tx.push_facts(len, packet.facts, |room| {
                pool.copy_out(&packet.chain, 0, room);
            }) {
                self.pending = true;
                self.counters.tx_frames += 1;
                self.counters.tx_bytes += len as u64;
            } else {
                self.counters.tx_stalls += 1;
                // Room comes only if the other side knows what there is to take.
                self.hand_over();
                // It has just been taken out, so there is room.
                if let Err(packet) = batch.push_front(packet) {
                    pool.free(packet.chain);
                }
                break;
            }
            pool.free(packet.chain);
        }
        before - batch.len()
    }

    fn flush(&mut self, _pool: &mut Pool) {
        self.hand_over();
    }

    fn sleep_fd(&self) -> Option<BorrowedFd<'_>> {
        let bells = self.bells.as_ref()?;
        self.failure.is_none().then(|| bells.own.fd.as_fd())
    }

    fn counters(&self) -> PortCounters {
        self.counters.clone()
    }

    fn failure(&self) -> Option<&PortError> {
        self.failure.as_ref()
    }
}

impl Drop for RingPort {
    fn drop(&mut self) {
        self.hand_over();
        if let Some(bells) = &self.bells {
            // The other side should learn that nothing more will come.
            bells.other.ring();
        }
    }
}

#[cfg(test)]
#[path = "ring/tests.rs"]
mod tests;
