//! The stage: a host on virtual time behind a lock, the packets it has sent, and the threads that wait for it.
//!
//! packetdrill plays a script with one thread and makes the calls that may block with another. The clock stands still but
//! for what the first asks: a microsecond for each look at it, as much as it sleeps, and on to the next timer while it waits
//! for a packet. Whenever something changed, those who wait try again, and the script goes on only when each of them waits
//! again or is through; one that is through holds the clock until it has looked at it, for that is how packetdrill learns
//! when the call ended.
//!
//! What does not live here: C (`edge`).

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use base::{Batch, Chain, Gso, GsoKind, Instant, Offloads, Packet};
use posix::{Table, World};
use stack::{Config, Host, InterfaceConfig, InterfaceId, Route};
use wire::checksum;
use wire::tcp::Flags;

use crate::counters::Counters;
use crate::device;
use crate::queue;
use crate::settings::Settings;
use crate::sysctl;

/// How far a wait for a packet may move the clock: longer than any timeout of TCP.
const PATIENCE: Duration = Duration::from_secs(300);
/// Real time after which a thread that waits takes the clock itself, for nobody else moves it; and after which one that was
/// woken is no longer waited for.
const STALL: Duration = Duration::from_millis(500);
/// Scripts write what Linux hands to its device: super-frames, whose checksums packetdrill does not look at.
const OFFLOADS: Offloads = Offloads {
    tx_checksum: true,
    rx_checksum: false,
    tso4: true,
    tso6: true,
    uso: false,
};
/// One seed for all runs: a script is repeatable.
const SEED: u64 = 0x6d69_6c6c;

std::thread_local! {
    /// This thread holds the stage's lock.
    static WITHIN: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

/// Whether this thread is within a call into the host.
pub(crate) fn within_call() -> bool {
    WITHIN.get()
}

/// Where a thread that had to wait stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// It waits until then at the latest.
    Waiting(Instant),
    /// Something changed: it is trying again.
    Trying,
    /// Its call is through; it has not looked at the clock yet.
    Through,
}

/// What the lock guards.
struct Inner {
    host: Host,
    table: Table,
    link: InterfaceId,
    now: Instant,
    sent: VecDeque<(Vec<u8>, Instant)>,
    callers: HashMap<ThreadId, Caller>,
    mtu: usize,
    /// What of `tun0` scripts may change, as it was at last.
    device: Option<device::Link>,
    /// Counts every use of the clock by who drives it.
    moves: u64,
    settled: sysctl::Settled,
    /// What the device of the namespace was told: to be handed super-frames, to take nothing.
    whole: bool,
    refuses: bool,
    /// Segment size of super-frames that come in, if it was said.
    mss: Option<u16>,
    counters: Counters,
}

impl Inner {
    /// Lets the host do all that is due now, and collects its packets. Whether sockets became ready.
    fn turn(&mut self) -> bool {
        let mut batch = Batch::new();
        if self.host.next_deadline().is_some_and(|at| at <= self.now) {
            self.host.handle_timers(self.now);
        }
        while !self.refuses {
            let more = self.host.poll_transmit(self.now, self.link, &mut batch);
            if batch.is_empty() && !more {
                break;
            }
            while let Some(packet) = batch.pop_front() {
                let pool = self.host.pool_mut();
                let bytes: Vec<u8> = pool.slices(&packet.chain).flatten().copied().collect();
                pool.free(packet.chain);
                let gso = packet.facts.gso;
                let whole = self.whole && !counts_marks(&bytes);
                if whole || gso.kind == GsoKind::None {
                    self.sent.push_back((bytes, self.now));
                    continue;
                }
                let frames = cut(&bytes, usize::from(gso.header_len), usize::from(gso.size));
                self.sent.extend(frames.map(|frame| (frame, self.now)));
            }
        }
        let mut ready = false;
        while let Some(event) = self.host.poll_event() {
            self.table.hear(&event);
            ready = true;
        }
        self.counters.follow(self.host.stats());
        ready
    }

    /// Follows a script that has changed `tun0`. What it was before is nothing to us: the link is what the settings say. The host
    /// goes on making super-frames, as Linux does: they are cut on their way out.
    fn follow_device(&mut self) {
        let found = device::link();
        let Some(now) = found.filter(|_| found != self.device) else {
            return;
        };
        if self.device.is_none_or(|before| before.mtu != now.mtu) {
            self.mtu = now.mtu;
        }
        self.device = found;
        self.whole = now.tso;
        // An MTU that no host has leaves the link as it is.
        let _ = self.host.set_link(self.now, self.link, self.mtu, OFFLOADS);
    }

    /// What a packet that comes in is made of, for one longer than a segment.
    fn super_frame(&self, packet: &[u8]) -> Gso {
        let v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
        let headers = if v4 { 40 } else { 60 };
        match self.mss {
            Some(size) if packet.len() > headers + usize::from(size) => Gso {
                kind: if v4 { GsoKind::Tcp4 } else { GsoKind::Tcp6 },
                size,
                header_len: headers as u16,
            },
            _ => Gso::NONE,
        }
    }

    /// The next moment at which something is due: a timer, or the end of a wait.
    fn next_moment(&self) -> Option<Instant> {
        let waits = self.callers.values().filter_map(|caller| match caller {
            Caller::Waiting(until) if *until != Instant::FAR => Some(*until),
            _ => None,
        });
        waits.chain(self.host.next_deadline()).min()
    }

    fn any(&self, which: Caller) -> bool {
        self.callers.values().any(|caller| *caller == which)
    }
}

/// Whether a packet has the counter of accurate ECN, at a value that has its own bit: no device is handed such super-frames.
fn counts_marks(packet: &[u8]) -> bool {
    let v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let flags = packet.get(if v4 { 20 } else { 40 } + 12);
    flags.is_some_and(|byte| byte & 1 != 0)
}

/// Cuts an IP packet whose headers are `header` long into such with `most` bytes of payload, as the kernel does for a device that
/// cannot. Nobody looks at the checksums of TCP.
fn cut(packet: &[u8], header: usize, most: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    let v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let (tcp, place) = if v4 { (20, 2) } else { (40, 4) };
    let (head, payload) = packet.split_at(header.min(packet.len()));
    let most = most.max(1);
    let count = payload.len().div_ceil(most);
    payload.chunks(most).enumerate().map(move |(at, part)| {
        let mut frame = [head, part].concat();
        let length = (frame.len() - if v4 { 0 } else { tcp }) as u16;
        frame[place..place + 2].copy_from_slice(&length.to_be_bytes());
        if v4 {
            frame[10..12].fill(0);
            let sum = checksum::Sum::new().add_bytes(&frame[..tcp]).finish();
            frame[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let number = &mut frame[tcp + 4..tcp + 8];
        let first = number.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
        number.copy_from_slice(&first.wrapping_add((at * most) as u32).to_be_bytes());
        if at + 1 < count {
            frame[tcp + 13] &= !(Flags::PSH.0 | Flags::FIN.0) as u8;
        }
        frame
    })
}

/// The stage of one process.
pub(crate) struct Stage {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Stage {
    /// A host with one point-to-point link, everything else beyond it.
    ///
    /// # Errors
    /// What the host refuses.
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        let now = Instant::from_secs(1000);
        let config = Config {
            // packetdrill's packets come from out of the blue: no neighbour, no router, nothing to be asked.
            duplicate_detection: false,
            accept_router_advertisements: false,
            tcp_connections: 4096,
            tcp_active: 4096,
            tcp_time_wait: 4096,
            timers: 16_384,
            ..Config::default()
        };
        let said = |e: stack::ConfigError| e.to_string();
        let mut host = Host::new(config, SEED, now).map_err(said)?;
        let interface = InterfaceConfig {
            name: "tun0".into(),
            mac: None,
            mtu: settings.mtu,
            offloads: OFFLOADS,
        };
        let link = host.add_interface(now, interface).map_err(said)?;
        for own in &settings.addresses {
            host.add_address(now, link, *own).map_err(said)?;
        }
        for dst in ["0.0.0.0/0", "::/0"] {
            let route = Route {
                dst: dst.parse().map_err(|_| dst)?,
                via: None,
                interface: link,
                metric: 0,
            };
            host.add_route(now, route).map_err(said)?;
        }
        let inner = Inner {
            host,
            table: Table::new(),
            link,
            now,
            sent: VecDeque::new(),
            callers: HashMap::new(),
            mtu: settings.mtu,
            device: device::link(),
            moves: 0,
            settled: sysctl::Settled {
                pace: settings.pace,
                congestion: sysctl::congestion(),
            },
            mss: settings.mss,
            whole: true,
            refuses: false,
            counters: Counters::new(),
        };
        Ok(Self {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        })
    }

    /// Where commands of the script find the host's counters.
    pub(crate) fn counters(&self) -> Option<String> {
        self.lock().counters.path()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic ends the process: nobody sees what it left behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, real time; whether there was none for long.
    fn pause<'a>(&self, guard: MutexGuard<'a, Inner>) -> (MutexGuard<'a, Inner>, bool) {
        let (guard, result) = self
            .changed
            .wait_timeout(guard, STALL)
            .unwrap_or_else(PoisonError::into_inner);
        (guard, result.timed_out())
    }

    /// A call into the host.
    pub(crate) fn call(&'static self) -> Call {
        let inner = Some(self.lock());
        WITHIN.set(true);
        Call {
            stage: self,
            inner,
            waited: false,
        }
    }

    /// Whether a descriptor is ours.
    pub(crate) fn owns(&self, fd: i32) -> bool {
        self.lock().table.contains(fd)
    }

    /// Lets those who wait try again, and waits until each of them waits again or is through.
    fn settle<'a>(&self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        for caller in inner.callers.values_mut() {
            if matches!(caller, Caller::Waiting(_)) {
                *caller = Caller::Trying;
            }
        }
        if inner.any(Caller::Trying) {
            self.changed.notify_all();
        }
        while inner.any(Caller::Trying) {
            inner = self.pause(inner).0;
        }
        inner
    }

    /// Waits until everybody who was woken has looked at the clock.
    fn thaw<'a>(&self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        // Whoever drives the clock need not look at it first.
        inner.callers.remove(&thread::current().id());
        while inner.any(Caller::Through) {
            let stalled;
            (inner, stalled) = self.pause(inner);
            if stalled {
                inner.callers.retain(|_, caller| *caller != Caller::Through);
            }
        }
        inner
    }

    /// Moves the clock to the next moment not after `until` at which something is due, and does it; whether there was one.
    fn step<'a>(
        &self,
        inner: MutexGuard<'a, Inner>,
        until: Instant,
    ) -> (MutexGuard<'a, Inner>, bool) {
        let mut inner = self.thaw(inner);
        inner.moves += 1;
        let Some(next) = inner.next_moment().filter(|at| *at <= until) else {
            return (inner, false);
        };
        inner.now = inner.now.max(next);
        inner.turn();
        (self.settle(inner), true)
    }

    /// The time in microseconds; each look takes one.
    pub(crate) fn look(&self) -> u64 {
        let mut inner = self.lock();
        if inner.callers.get(&thread::current().id()) == Some(&Caller::Through) {
            inner.callers.remove(&thread::current().id());
            self.changed.notify_all();
        } else if !inner.any(Caller::Through) {
            let until = inner.now + Duration::from_micros(1);
            let mut due = true;
            while due {
                (inner, due) = self.step(inner, until);
            }
            inner.now = inner.now.max(until);
        }
        inner.now.micros()
    }

    /// Sleeps.
    pub(crate) fn sleep(&self, micros: u64) {
        let mut inner = self.lock();
        let until = inner.now + Duration::from_micros(micros);
        let mut due = true;
        while due {
            (inner, due) = self.step(inner, until);
        }
        inner.now = inner.now.max(until);
    }

    /// A packet comes in. False when there is no memory for it.
    pub(crate) fn arrive(&self, packet: &[u8]) -> bool {
        let mut inner = self.thaw(self.lock());
        let mut chain = Chain::default();
        let taken = inner.host.pool_mut().append_bytes(&mut chain, packet);
        if taken < packet.len() {
            inner.host.pool_mut().free(chain);
            return false;
        }
        let mut batch = Batch::new();
        let mut frame = Packet::new(chain);
        frame.facts.gso = inner.super_frame(packet);
        if let Err(packet) = batch.push(frame) {
            inner.host.pool_mut().free(packet.chain);
            return false;
        }
        let (now, link) = (inner.now, inner.link);
        inner.host.handle_batch(now, link, &mut batch);
        inner.turn();
        drop(self.settle(inner));
        true
    }

    /// The next packet that went out, and when, in microseconds; `None` when there will be none.
    pub(crate) fn depart(&self) -> Option<(Vec<u8>, u64)> {
        let mut inner = self.lock();
        let until = inner.now + PATIENCE;
        loop {
            if let Some((packet, at)) = inner.sent.pop_front() {
                return Some((packet, at.micros()));
            }
            let due;
            (inner, due) = self.step(inner, until);
            if !due {
                return None;
            }
        }
    }
}

/// One call of packetdrill's into the host.
pub(crate) struct Call {
    stage: &'static Stage,
    /// Always there, but while the call waits.
    inner: Option<MutexGuard<'static, Inner>>,
    waited: bool,
}

impl Call {
    fn inner(&mut self) -> &mut Inner {
        let stage = self.stage;
        self.inner.get_or_insert_with(|| stage.lock())
    }

    /// Carries the sysctls over.
    pub(crate) fn mirror(&mut self) {
        let inner = self.inner();
        let keepalive = sysctl::mirror(&mut inner.host, &inner.settled);
        inner.table.set_keepalive(keepalive);
        inner.follow_device();
    }

    /// Before something is sent: whether the device takes it.
    pub(crate) fn look_at_device(&mut self) {
        let inner = self.inner();
        inner.refuses = queue::refuses();
        sysctl::mirror_lively(&mut inner.host);
    }
}

impl World for Call {
    fn now(&mut self) -> Instant {
        self.inner().now
    }

    fn host(&mut self) -> &mut Host {
        &mut self.inner().host
    }

    fn table(&mut self) -> &mut Table {
        &mut self.inner().table
    }

    fn changed(&mut self) -> bool {
        self.inner().turn()
    }

    fn wait(&mut self, deadline: Instant) {
        self.waited = true;
        let stage = self.stage;
        let own = thread::current().id();
        let mut inner = self.inner.take().unwrap_or_else(|| stage.lock());
        inner.callers.insert(own, Caller::Waiting(deadline));
        stage.changed.notify_all();
        let mut moves = inner.moves;
        while inner.callers.get(&own) == Some(&Caller::Waiting(deadline)) {
            let stalled;
            (inner, stalled) = stage.pause(inner);
            if stalled && core::mem::replace(&mut moves, inner.moves) == inner.moves {
                // Nobody drives the clock: this is the script's own thread. It goes to whatever is due next.
                if let Some(next) = inner.next_moment() {
                    inner.now = inner.now.max(next);
                    inner.turn();
                    inner.callers.insert(own, Caller::Trying);
                }
            }
        }
        self.inner = Some(inner);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let stage = self.stage;
        let mut inner = self.inner.take().unwrap_or_else(|| stage.lock());
        inner.turn();
        if self.waited {
            inner
                .callers
                .insert(thread::current().id(), Caller::Through);
            stage.changed.notify_all();
        } else {
            drop(stage.settle(inner));
        }
        WITHIN.set(false);
    }
}
