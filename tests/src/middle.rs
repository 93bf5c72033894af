//! A port with something in the middle of its cable: frames are seen, lost, doubled, delayed or exchanged.
//!
//! What is to happen does not live here: a [`Policy`] says so for every frame.
//!
//! Invariant: a frame held back goes on after [`HOLD`] at the latest, even if nothing follows it.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base::{Batch, Facts, Packet, Pool};
use port::{Port, PortCounters, PortFacts};

/// Longest time a frame is held back for others to overtake it.
const HOLD: Duration = Duration::from_millis(3);

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the kernel to the host.
    In,
    /// From the host to the kernel.
    Out,
}

/// What becomes of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Pass,
    /// It is lost.
    Drop,
    /// It goes on twice.
    Twice,
    /// It goes on after so many others.
    Late(u32),
    /// Another goes on in its place; nothing is known of that.
    Instead(Vec<u8>),
    /// It is lost, and another goes back where it came from, as from a router on the way.
    Bounce(Vec<u8>),
}

/// Decides over frames: which way, all its bytes, what the device said of it.
pub trait Policy: FnMut(Way, &[u8], &Facts) -> Fate + Send {}
impl<F: FnMut(Way, &[u8], &Facts) -> Fate + Send> Policy for F {}

/// Frames with the way they went, in order.
pub type Record = Vec<(Way, Vec<u8>)>;

/// A policy that lets all pass and remembers them.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Record>>);

impl Recorder {
    /// Remembers one frame.
    pub fn record(&self, way: Way, frame: &[u8]) {
        self.0.lock().unwrap().push((way, frame.to_vec()));
    }

    /// A policy that records into this.
    pub fn policy(&self) -> impl Policy + use<> {
        let own = self.clone();
        move |way, frame: &[u8], _: &Facts| {
            own.record(way, frame);
            Fate::Pass
        }
    }

    /// Everything remembered so far; forgets it.
    #[must_use]
    pub fn take(&self) -> Record {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// The frames that went one way so far, in order.
    #[must_use]
    pub fn frames(&self, way: Way) -> Vec<Vec<u8>> {
        let all = self.0.lock().unwrap();
        let these = all.iter().filter(|(w, _)| *w == way);
        these.map(|(_, frame)| frame.clone()).collect()
    }
}

/// One direction: frames that may go on, and frames others overtake.
#[derive(Default)]
struct Lane {
    ready: VecDeque<Packet>,
    held: Vec<(u32, Instant, Packet)>,
}

impl Lane {
    /// Returns what goes the other way.
    fn decide(&mut self, pool: &mut Pool, packet: Packet, fate: Fate) -> Option<Packet> {
        // Whoever was held back for this frame to overtake goes behind it.
        let mut due = Vec::new();
        let mut i = 0;
        while i < self.held.len() {
            self.held[i].0 = self.held[i].0.saturating_sub(1);
            if self.held[i].0 == 0 {
                due.push(self.held.remove(i).2);
            } else {
                i += 1;
            }
        }
        let mut back = None;
        match fate {
            Fate::Pass => self.ready.push_back(packet),
            Fate::Drop => pool.free(packet.chain),
            Fate::Twice => {
                let bytes = copy(pool, &packet);
                let facts = packet.facts;
                self.ready.push_back(packet);
                self.ready.extend(fresh(pool, &bytes, facts));
            }
            Fate::Late(n) => self.held.push((n.max(1), Instant::now() + HOLD, packet)),
            Fate::Instead(bytes) => {
                pool.free(packet.chain);
                self.ready.extend(fresh(pool, &bytes, Facts::NONE));
            }
            Fate::Bounce(bytes) => {
                pool.free(packet.chain);
                back = fresh(pool, &bytes, Facts::NONE);
            }
        }
        self.ready.extend(due);
        back
    }

    /// Lets go what was held long enough.
    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let now = Instant::now();
        let (due, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(_, until, _)| *until <= now);
        self.held = held;
        self.ready
            .extend(due.into_iter().map(|(_, _, packet)| packet));
    }

    fn clear(&mut self, pool: &mut Pool) {
        let held = self.held.drain(..).map(|(_, _, packet)| packet);
        for packet in self.ready.drain(..).chain(held) {
            pool.free(packet.chain);
        }
    }
}

fn copy(pool: &Pool, packet: &Packet) -> Vec<u8> {
    let mut bytes = vec![0; packet.chain.len()];
    pool.copy_out(&packet.chain, 0, &mut bytes);
    bytes
}

/// A packet of its own with these bytes; none when there is no memory, which is one more way to lose it.
fn fresh(pool: &mut Pool, bytes: &[u8], facts: Facts) -> Option<Packet> {
    let mut packet = Packet::EMPTY;
    packet.facts = facts;
    if pool.append_bytes(&mut packet.chain, bytes) < bytes.len() {
        pool.free(packet.chain);
        return None;
    }
    Some(packet)
}

/// A port whose frames pass a policy.
pub struct Middle {
    inner: Box<dyn Port + Send>,
    policy: Box<dyn Policy>,
    incoming: Lane,
    outgoing: Lane,
    scratch: Batch,
}

impl Middle {
    /// Puts `policy` between the port and its user.
    #[must_use]
    pub fn new(inner: Box<dyn Port + Send>, policy: Box<dyn Policy>) -> Self {
        Self {
            inner,
            policy,
            incoming: Lane::default(),
            outgoing: Lane::default(),
            scratch: Batch::new(),
        }
    }

    fn push_out(&mut self, pool: &mut Pool) {
        self.outgoing.release();
        while !self.scratch.is_full()
            && let Some(packet) = self.outgoing.ready.pop_front()
        {
            self.scratch.push(packet).unwrap();
        }
        self.inner.transmit(pool, &mut self.scratch);
    }
}

impl Port for Middle {
    fn facts(&self) -> &PortFacts {
        self.inner.facts()
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let mut arrived = Batch::new();
        if self.incoming.ready.len() < base::BATCH {
            self.inner.receive(pool, &mut arrived);
        }
        while let Some(packet) = arrived.pop_front() {
            let fate = (self.policy)(Way::In, &copy(pool, &packet), &packet.facts);
            let back = self.incoming.decide(pool, packet, fate);
            self.outgoing.ready.extend(back);
        }
        self.incoming.release();
        let before = batch.len();
        while !batch.is_full()
            && let Some(packet) = self.incoming.ready.pop_front()
        {
            batch.push(packet).unwrap();
        }
        batch.len() - before
    }

    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        self.push_out(pool);
        let mut taken = 0;
        while self.outgoing.ready.len() < base::BATCH
            && let Some(packet) = batch.pop_front()
        {
            let fate = (self.policy)(Way::Out, &copy(pool, &packet), &packet.facts);
            let back = self.outgoing.decide(pool, packet, fate);
            self.incoming.ready.extend(back);
            taken += 1;
        }
        self.push_out(pool);
        taken
    }

    fn flush(&mut self, pool: &mut Pool) {
        self.push_out(pool);
        self.inner.flush(pool);
    }

    fn sleep_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.sleep_fd()
    }

    fn counters(&self) -> PortCounters {
        self.inner.counters()
    }

    fn release(&mut self, pool: &mut Pool) {
        self.incoming.clear(pool);
        self.outgoing.clear(pool);
        self.scratch.clear(pool);
        self.inner.release(pool);
    }
}
