//! Sets of sockets in foreign hands, of one host or of several, and waiting for all of them at once: [`base::Epoll`] behind a
//! lock, with somebody who sleeps.
//!
//! A [`Selector`] is one set. A socket's record lists the sets that watch it; whoever changes the record raises them once he has
//! let go of its lock. Whoever waits asks the records what they are ready for (`ready`).
//!
//! What does not live here: what readiness means (`base::epoll`), what a record is ready for (`ready`), mio's names.
//!
//! Invariant: lock order is set, then record; sets are raised with no record locked.
//! Invariant: a socket nobody watches pays one branch for it.
//! Invariant: a record is in a set's table exactly while the set is in the record's list, but for moments in which the socket or
//! the set goes away; either end takes the other's reference along, so that neither keeps the other in memory.
//!
//! Why no wake-up is lost: a record changes, then its sets are raised, which takes their locks. If that comes before a waiter
//! takes the lock, the item is on the ready list, and the waiter asks the record after its change. Else the waiter sleeps
//! already, or is not there. The shard raises what a turn brought once all of it is known ([`Raises`]), and so before it sleeps.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::epoll::{EPOLLIN, EPOLLRDNORM, Epoll, EpollEvent, RAISED_IN, Refused, SetId, SourceId};
use base::{Key, SipKey, Slab};
use rustix::io::Errno;

use super::error::stopped;
use super::listener::{ListenerShared, TcpListenerSocket};
use super::tcp::{TcpShared, TcpSocket};
use super::udp::{UdpHandle, UdpShared};
use super::waiters::deadline;
use crate::diagnosis::{SetRow, Sets, enter_sets};
use crate::mailbox::lock;

/// Records asked in one go that turn out not to be ready, and those that are told: whoever raises a set waits for so many.
const LOOKS: usize = 256;
const TOLD: usize = 256;

/// What can be watched.
pub(super) trait Watched: Send + Sync {
    /// What it is ready for now: `EPOLL*` bits. Locks the record.
    fn level(&self) -> u32;
    /// Calls `f` with the sets that watch it. Locks the record.
    fn with_watches(&self, f: &mut dyn FnMut(&mut Watches));
    /// Reads of the record what needs no lock, so that the rest of it is on its way when it is asked. A lock waits for all that was read
    /// before: one after the other, records that lie far apart would each be waited for.
    fn glance(&self) {}
    /// Its host has stopped.
    fn is_stopped(&self) -> bool;
}

/// One set that watches a record.
#[derive(Debug, Clone)]
struct Watch {
    core: Arc<Core>,
    source: SourceId,
    slot: Key,
    exclusive: bool,
}

/// The sets that watch a record. Lives inside the record's lock.
#[derive(Debug, Default)]
pub(crate) struct Watches(Option<Arc<[Watch]>>);

/// Sets to be raised once the record is unlocked.
#[derive(Debug)]
#[must_use = "sets are raised by `tell`"]
pub(crate) struct Raised {
    watches: Option<Arc<[Watch]>>,
    key: u32,
}

impl Watches {
    /// Something has happened, as `key` says: see [`Epoll::raise`].
    pub(crate) fn raise(&self, key: u32) -> Raised {
        Raised {
            watches: self.0.clone(),
            key,
        }
    }

    /// As [`Watches::raise`], if something has happened at all.
    pub(crate) fn raise_if(&self, happened: bool, key: u32) -> Raised {
        let watches = if happened { self.0.clone() } else { None };
        Raised { watches, key }
    }

    fn of(&self, core: &Arc<Core>) -> Option<&Watch> {
        let mut watches = self.0.iter().flat_map(|watches| watches.iter());
        watches.find(|watch| Arc::ptr_eq(&watch.core, core))
    }

    /// As Linux's wait queues: the latest first, those that are exclusive behind all others.
    fn add(&mut self, watch: Watch) {
        let old = self.0.iter().flat_map(|watches| watches.iter()).cloned();
        let exclusive = watch.exclusive;
        let watches: Vec<Watch> = if exclusive {
            old.chain([watch]).collect()
        } else {
            [watch].into_iter().chain(old).collect()
        };
        self.0 = Some(watches.into());
    }

    fn remove(&mut self, core: &Arc<Core>) {
        let old = self.0.iter().flat_map(|watches| watches.iter());
        let left: Vec<Watch> = old
            .filter(|watch| !Arc::ptr_eq(&watch.core, core))
            .cloned()
            .collect();
        self.0 = (!left.is_empty()).then(|| left.into());
    }

    /// The last handle of the socket has gone: no set watches it any more. Call with the record unlocked.
    pub(crate) fn leave(self) {
        for watch in self.0.iter().flat_map(|watches| watches.iter()) {
            let mut set = lock(&watch.core.set);
            set.epoll.close(watch.source);
            let left = set.records.remove(watch.slot);
            drop(set);
            drop(left);
        }
    }
}

impl Raised {
    /// Raises them. Call with the record unlocked.
    #[inline]
    pub(crate) fn tell(self) {
        self.tell_each();
    }

    fn tell_each(&self) {
        let Some(watches) = &self.watches else { return };
        for watch in &**watches {
            if watch.core.raise(watch.source, self.key) {
                break;
            }
        }
    }
}

/// Sets to be raised when the shard is done with a turn's events: for all of them who sleeps is woken once. Woken for the first,
/// he would take the core from the shard, if they share one, and find no more than that.
#[derive(Debug, Default)]
pub(super) struct Raises(Vec<Raised>);

impl Raises {
    /// Call with no record locked.
    #[inline]
    pub(super) fn push(&mut self, raised: Raised) {
        if raised.watches.is_some() {
            self.0.push(raised);
            if self.0.len() >= TOLD {
                self.tell();
            }
        }
    }

    /// Raises them. Call with no record locked.
    pub(super) fn tell(&mut self) {
        self.tell_all();
        self.0.clear();
    }

    fn tell_all(&self) {
        let mut held: Option<(&Core, MutexGuard<'_, Set>)> = None;
        for raised in &self.0 {
            let watches = raised.watches.as_deref().unwrap_or_default();
            let [watch] = watches else {
                // Of several sets one may be enough, which each tells by itself.
                if let Some((core, set)) = held.take() {
                    core.wake(set);
                }
                raised.tell_each();
                continue;
            };
            let (core, mut set) = match held.take() {
                Some((core, set)) if std::ptr::eq(core, &raw const *watch.core) => (core, set),
                other => {
                    if let Some((core, set)) = other {
                        core.wake(set);
                    }
                    (&*watch.core, lock(&watch.core.set))
                }
            };
            set.epoll.raise(watch.source, raised.key);
            held = Some((core, set));
        }
        if let Some((core, set)) = held {
            core.wake(set);
        }
    }
}

impl Drop for Raises {
    fn drop(&mut self) {
        self.tell();
    }
}

/// A set, and who sleeps until something in it is ready.
#[derive(Debug)]
struct Core {
    set: Mutex<Set>,
    ready: Condvar,
    /// Tells it from others, for tools.
    number: u64,
}

#[derive(Debug)]
struct Set {
    epoll: Epoll,
    id: SetId,
    /// What is watched; a source's word is its place here.
    records: Slab<Arc<dyn Watched>>,
    /// Threads that sleep until something is ready, and whether all of them were woken since the last one lay down.
    asleep: u32,
    woken: bool,
}

fn level(records: &Slab<Arc<dyn Watched>>) -> impl FnMut(u64) -> u32 + '_ {
    |slot| {
        let record = u32::try_from(slot).ok().and_then(|slot| records.at(slot));
        record.map_or(0, |record| record.level())
    }
}

fn refused(why: Refused) -> io::Error {
    let errno = match why {
        Refused::Stale => Errno::BADF,
        Refused::Exists => Errno::EXIST,
        Refused::NotFound => Errno::NOENT,
        Refused::Invalid => Errno::INVAL,
        Refused::Loop => Errno::LOOP,
        Refused::Full => Errno::NOSPC,
    };
    errno.into()
}

/// Where a set knows a record, if it does.
fn known(record: &Arc<dyn Watched>, core: &Arc<Core>) -> Option<(SourceId, Key)> {
    let mut found = None;
    record.with_watches(&mut |watches| {
        found = watches.of(core).map(|watch| (watch.source, watch.slot));
    });
    found
}

impl Core {
    /// Whether that is enough: see [`Epoll::raise`].
    fn raise(&self, source: SourceId, key: u32) -> bool {
        let mut set = lock(&self.set);
        let enough = set.epoll.raise(source, key);
        self.wake(set);
        enough
    }

    /// Lets go of the set, and wakes who sleeps if there may be something for him.
    fn wake(&self, mut set: MutexGuard<'_, Set>) {
        let wake = set.asleep > 0 && !set.woken && set.epoll.may_be_ready(set.id);
        set.woken |= wake;
        drop(set);
        if wake {
            self.ready.notify_all();
        }
    }
}

impl Sets for Core {
    fn tell(&self, rows: &mut Vec<SetRow>) {
        let set = lock(&self.set);
        if let Some(info) = set.epoll.info(set.id) {
            rows.push(SetRow {
                kind: "poll",
                number: self.number,
                watched: info.watched,
                ready: info.ready,
                waiters: set.asleep,
            });
        }
    }
}

impl Set {
    /// Takes what is ready, at most `room` of it.
    fn take(&mut self, room: usize, give: &mut dyn FnMut(EpollEvent)) -> usize {
        let Self {
            epoll, id, records, ..
        } = self;
        let mut glance = |slot: u64| {
            let record = u32::try_from(slot).ok().and_then(|slot| records.at(slot));
            if let Some(record) = record {
                record.glance();
            }
        };
        let within = (room, LOOKS);
        let taken = epoll.take_ahead(*id, within, Some(&mut glance), &mut level(records), give);
        // The set lives as long as its `Selector`.
        taken.unwrap_or(0)
    }

    fn add(
        &mut self,
        core: &Arc<Core>,
        record: &Arc<dyn Watched>,
        wanted: EpollEvent,
    ) -> io::Result<()> {
        let Self {
            epoll, id, records, ..
        } = self;
        if let Some((source, _)) = known(record, core) {
            let added = epoll.add(*id, (source, 0), wanted, &mut level(records));
            return added.map_err(refused);
        }
        let full = || refused(Refused::Full);
        let slot = records.insert(record.clone()).ok_or_else(full)?;
        let Some(source) = epoll.source(None, slot.index.into()) else {
            records.remove(slot);
            return Err(full());
        };
        let watch = Watch {
            core: core.clone(),
            source,
            slot,
            exclusive: wanted.events & base::epoll::EPOLLEXCLUSIVE != 0,
        };
        // Listed first: what happens from here on is raised, what happened before is seen.
        record.with_watches(&mut |watches| watches.add(watch.clone()));
        let added = epoll.add(*id, (source, 0), wanted, &mut level(records));
        added.map_err(|why| {
            record.with_watches(&mut |watches| watches.remove(core));
            records.remove(slot);
            refused(why)
        })
    }
}

/// A socket, as a set sees it.
#[derive(Clone)]
pub struct WatchedSocket(Arc<dyn Watched>);

impl std::fmt::Debug for WatchedSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedSocket")
    }
}

/// A set of sockets to wait for, with epoll's semantics. Dropping it leaves the sockets as they are.
///
/// All handles of a socket are one source, as all uses of one descriptor are; the last one that is dropped takes it out of every
/// set.
#[derive(Debug)]
pub struct Selector {
    core: Arc<Core>,
}

impl Selector {
    /// A set of at most `capacity` sockets (and bells). The memory for them is reserved here, and touched when it is used.
    ///
    /// # Errors
    /// None; there is room for the set.
    pub fn new(capacity: u32) -> io::Result<Self> {
        // Its keys are the program's own: who would make them collide?
        let mut epoll = Epoll::with_capacity(1, capacity, SipKey([0; 16]));
        let id = epoll.create().ok_or(Errno::NFILE)?;
        let set = Set {
            epoll,
            id,
            records: Slab::with_capacity(capacity),
            asleep: 0,
            woken: false,
        };
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let core = Arc::new(Core {
            set: Mutex::new(set),
            ready: Condvar::new(),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        });
        let owner: Arc<dyn Sets> = core.clone();
        enter_sets(&owner);
        Ok(Self { core })
    }

    /// EPOLL_CTL_ADD: watches a socket. What it is ready for already is told.
    ///
    /// # Errors
    /// EEXIST; EINVAL for exclusive ways there are not; ENOSPC; the host has stopped.
    pub fn add(&self, socket: &WatchedSocket, wanted: EpollEvent) -> io::Result<()> {
        if socket.0.is_stopped() {
            return Err(stopped());
        }
        let mut set = lock(&self.core.set);
        let added = set.add(&self.core, &socket.0, wanted);
        self.core.wake(set);
        added
    }

    /// EPOLL_CTL_MOD: wants something else of a socket. What it is ready for already is told.
    ///
    /// # Errors
    /// ENOENT; EINVAL for one that is or would be exclusive; the host has stopped.
    pub fn modify(&self, socket: &WatchedSocket, wanted: EpollEvent) -> io::Result<()> {
        if socket.0.is_stopped() {
            return Err(stopped());
        }
        let mut set = lock(&self.core.set);
        let source = known(&socket.0, &self.core).map(|(source, _)| source);
        let Set {
            epoll, id, records, ..
        } = &mut *set;
        let changed = epoll.modify(*id, (source, 0), wanted, &mut level(records));
        self.core.wake(set);
        changed.map_err(refused)
    }

    /// EPOLL_CTL_DEL: watches a socket no more, whether or not it is ready.
    ///
    /// # Errors
    /// ENOENT.
    pub fn delete(&self, socket: &WatchedSocket) -> io::Result<()> {
        let mut set = lock(&self.core.set);
        let Some((source, slot)) = known(&socket.0, &self.core) else {
            return Err(refused(Refused::NotFound));
        };
        set.epoll.close(source);
        let _still_held = set.records.remove(slot);
        let core = &self.core;
        socket.0.with_watches(&mut |watches| watches.remove(core));
        Ok(())
    }

    /// Waits until something is ready, at most `timeout` (`None`: for ever; nought: not at all), and hands at most `room` events
    /// to `give`, and no more than 256, what was ready first first. How many there were: none when the time is up.
    pub fn wait(
        &self,
        room: usize,
        timeout: Option<Duration>,
        give: &mut dyn FnMut(EpollEvent),
    ) -> usize {
        let mut until = None;
        let room = room.min(TOLD);
        let mut set = lock(&self.core.set);
        loop {
            let given = set.take(room, give);
            if given == 0 && room > 0 && set.epoll.may_be_ready(set.id) {
                // Whoever raises the set has his turn before the rest is looked at.
                drop(set);
                std::thread::yield_now();
                set = lock(&self.core.set);
                continue;
            }
            if given > 0 || timeout == Some(Duration::ZERO) {
                return given;
            }
            // The clock is read only by calls that really wait.
            let until = *until.get_or_insert_with(|| deadline(timeout));
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return 0;
            }
            set = self.sleep(set, left);
        }
    }

    fn sleep<'a>(
        &self,
        mut set: MutexGuard<'a, Set>,
        left: Option<Duration>,
    ) -> MutexGuard<'a, Set> {
        let ready = &self.core.ready;
        let id = set.id;
        set.asleep += 1;
        set.woken = false;
        set.epoll.begin_wait(id);
        set = match left {
            None => ready.wait(set).unwrap_or_else(PoisonError::into_inner),
            Some(left) => {
                let woken = ready.wait_timeout(set, left);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        set.asleep -= 1;
        set.epoll.end_wait(id);
        set
    }

    /// Sockets in it, for tools and leak tests.
    pub fn len(&self) -> usize {
        lock(&self.core.set).records.len() as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most sockets it takes.
    pub fn capacity(&self) -> usize {
        lock(&self.core.set).records.capacity() as usize
    }
}

impl Drop for Selector {
    fn drop(&mut self) {
        let mut set = lock(&self.core.set);
        let records = std::mem::replace(&mut set.records, Slab::with_capacity(0));
        drop(set);
        for (_, record) in records.iter() {
            record.with_watches(&mut |watches| watches.remove(&self.core));
        }
    }
}

/// Something to be rung from any thread: readable for whoever watches it from then on, told anew by each ring.
#[derive(Debug)]
pub struct Bell(Arc<Hammer>);

#[derive(Debug, Default)]
struct Hammer {
    rung: AtomicBool,
    watches: Mutex<Watches>,
}

impl Watched for Hammer {
    fn level(&self) -> u32 {
        if self.rung.load(Ordering::Acquire) {
            EPOLLIN | EPOLLRDNORM
        } else {
            0
        }
    }

    fn with_watches(&self, f: &mut dyn FnMut(&mut Watches)) {
        f(&mut lock(&self.watches));
    }

    fn is_stopped(&self) -> bool {
        false
    }
}

impl Bell {
    /// One that was not rung yet.
    #[expect(
        clippy::new_without_default,
        reason = "there is nothing default about a bell"
    )]
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Rings it.
    pub fn ring(&self) {
        self.0.rung.store(true, Ordering::Release);
        let raised = lock(&self.0.watches).raise(RAISED_IN);
        raised.tell();
    }

    /// As a set sees it.
    pub fn watched(&self) -> WatchedSocket {
        WatchedSocket(self.0.clone())
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let watches = std::mem::take(&mut *lock(&self.0.watches));
        watches.leave();
    }
}

/// The records of sockets, and their handles.
macro_rules! watched {
    ($($shared:ty, $handle:ty);+) => {$(
        impl Watched for $shared {
            fn level(&self) -> u32 {
                self.poll_level()
            }

            fn glance(&self) {
                std::hint::black_box(self.is_poisoned());
            }

            fn with_watches(&self, f: &mut dyn FnMut(&mut Watches)) {
                f(&mut self.state().watches);
            }

            fn is_stopped(&self) -> bool {
                self.state().stopped
            }
        }

        impl $handle {
            /// The socket as a [`Selector`] sees it.
            pub fn watched(&self) -> WatchedSocket {
                WatchedSocket(self.shared.clone())
            }
        }
    )+};
}

watched!(TcpShared, TcpSocket; ListenerShared, TcpListenerSocket; UdpShared, UdpHandle);
