//! A world of a running host: any thread of a process may call, and the clock is the machine's.
//!
//! The host, on a shard of the engine's, and the table of descriptors are behind one lock. A call takes it, does its work in the
//! caller's thread, sends what came of that and gives it back; a thread of its own makes the shard's turns under the same lock, and
//! sleeps on the ports without it. Not by messages to that thread, because a call works on the caller's memory (no copy, no
//! lifetime to extend), answers without two changes of thread, and is the same code as over virtual time; the price is that calls
//! of many threads take turns, as sockets of one shard do anyway.
//!
//! A caller that must wait leaves its alarm with the descriptor and sleeps without the lock: plain calls on a condition, poll and
//! epoll in the kernel, for what they wait for there. Whoever makes something happen, a turn or another's call, rings the alarms of
//! those concerned, and nobody else's.
//!
//! What does not live here: what calls do (`call`), turns (`engine`), alarms (`waiters`, `joined`).
//!
//! Invariant: between the last look at what a call waits for and its alarm being known the lock is held: no wake-up is lost.
//! Invariant: a thread that holds the lock sleeps nowhere.
//! Invariant: after a panic of the shard, in a turn or in what a call has it do, nobody uses the host: every call but close fails with
//! ENETDOWN, and so do those that wait.

use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use std::os::fd::AsRawFd;
use std::panic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use base::Instant;
use engine::diagnosis::{SetRow, Sets, enter_sets};
use engine::{App, Bed, Shard, ShardCx, ShardError, ShardHandle, ShardOptions};
use stack::{Config, Event, Host};

use crate::errno::{Errno, Result};
use crate::foreign;
use crate::table::Table;
use crate::waiters::Alarm;
use crate::world::{Awaited, Wait, World};

/// The application of the shard: the table, which hears of events. For who sets up a host: see [`Live`].
#[derive(Debug, Default)]
pub struct Sockets {
    table: Table,
}

impl App for Sockets {
    type Command = ();

    fn on_event(&mut self, _: &mut ShardCx<'_>, event: Event) {
        self.table.hear(&event);
    }

    fn on_stop(&mut self, cx: &mut ShardCx<'_>) {
        let left: Vec<i32> = self.table.descriptors().collect();
        for fd in left {
            if let Some(id) = self.table.remove(fd).and_then(|socket| socket.id()) {
                let _ = cx.host.close(cx.now, id);
            }
        }
    }
}

struct Inner {
    shard: Shard<Sockets>,
    /// Until when the shard's thread sleeps, if it does.
    asleep: Option<Instant>,
}

impl Inner {
    fn is_broken(&mut self) -> bool {
        self.shard.app().table.whole().is_err()
    }

    /// As [`Shard::settle`], with nobody left to wait should it panic.
    fn settle(&mut self) -> (bool, bool) {
        let settled = panic::catch_unwind(AssertUnwindSafe(|| self.shard.settle()));
        settled.unwrap_or_else(|panicked| {
            self.shard.app().table.fail();
            panic::resume_unwind(panicked)
        })
    }
}

struct Shared {
    inner: Mutex<Inner>,
    handle: ShardHandle<()>,
    /// Callers that want the lock, to whom the shard's thread gives way.
    wanting: AtomicU32,
    stop: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Who panicked in a call has told its program so; what it left is a host between two commands.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_for_call(&self) -> MutexGuard<'_, Inner> {
        self.wanting.fetch_add(1, Ordering::Relaxed);
        let inner = self.lock();
        self.wanting.fetch_sub(1, Ordering::Relaxed);
        inner
    }

    fn run(&self, bed: &mut Bed<()>) {
        while !self.stop.load(Ordering::Acquire) {
            let mut inner = self.lock();
            if inner.is_broken() {
                return;
            }
            let worked = inner.shard.turn();
            let nap = if worked {
                None
            } else {
                inner.shard.may_sleep(bed)
            };
            inner.asleep = nap.map(|time| inner.shard.now() + time);
            drop(inner);
            match nap {
                // Whoever says so later wakes it.
                Some(_) if self.stop.load(Ordering::Relaxed) => {}
                Some(time) => bed.sleep(time),
                None if self.wanting.load(Ordering::Relaxed) > 0 => thread::yield_now(),
                None => {}
            }
        }
        let mut inner = self.lock();
        if !inner.is_broken() {
            inner.shard.end();
        }
    }
}

/// For tools, a part at a time: calls and turns go on in between.
impl Sets for Shared {
    fn tell(&self, rows: &mut Vec<SetRow>) {
        const PART: usize = 256;
        let sets = self.lock().shard.app().table.set_descriptors();
        for part in sets.chunks(PART) {
            let mut inner = self.lock();
            let table = &inner.shard.app().table;
            rows.extend(part.iter().filter_map(|fd| table.set_row(*fd)));
        }
    }
}

/// When the shard's thread has ended nobody waits for it: no call if it panicked, and no tool.
struct Alive<'a>(&'a Shared);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        if thread::panicking() {
            inner.shard.app().table.fail();
        }
        inner.shard.deafen();
    }
}

/// A host that runs, and its descriptors. Threads share it by reference; when it is dropped what was written is sent, for as long as
/// [`ShardOptions::drain`] says.
///
/// ```
/// use std::io::{IoSlice, IoSliceMut};
///
/// use posix::{Live, accept, bind, close, connect, listen, receive, send, socket};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Without a port the host speaks with itself only. On a device it begins with `shard.add_port(port)?`, and what that gives
/// // is given addresses by `shard.host().add_address(..)?`.
/// let seed = engine::random_seed()?;
/// let live = Live::start(Default::default(), seed, Default::default(), |_shard| Ok(()))?;
/// let stream = || socket(&mut live.call(), libc::AF_INET, libc::SOCK_STREAM, 0);
/// let mut addr = [0; 16]; // a sockaddr_in
/// posix::write(&"127.0.0.1:80".parse()?, false, &mut addr);
///
/// let (listener, client) = (stream()?, stream()?);
/// bind(&mut live.call(), listener, &addr)?;
/// listen(&mut live.call(), listener, 128)?;
/// connect(&mut live.call(), client, &addr)?;
/// let (server, peer) = accept(&mut live.call(), listener, 0)?;
/// send(&mut live.call(), client, &[IoSlice::new(b"hello")], 0, None)?;
/// let mut buffer = [0; 64];
/// let got = receive(&mut live.call(), server, &mut [IoSliceMut::new(&mut buffer)], 0)?;
/// assert_eq!(&buffer[..got.len], b"hello");
/// close(&mut live.call(), client)?;
/// # Ok(())
/// # }
/// ```
///
/// Tools may ask it (`millstream ss`, `--epoll`, `--explain`, `millstream sysctl`) if its shard is given a socket of the crate
/// `control`, which goes with the host:
///
/// ```no_run
/// use control::Control;
/// use posix::Live;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let control = Control::open("proxy")?;
/// let seed = engine::random_seed()?;
/// let live = Live::start(Default::default(), seed, Default::default(), |shard| control.answer(shard))?;
/// # Ok(())
/// # }
/// ```
pub struct Live {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl core::fmt::Debug for Live {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    /// Starts a host. `set_up` gives it ports and addresses.
    ///
    /// # Errors
    /// As [`Shard::new`], as `set_up`, or there can be no thread.
    pub fn start(
        config: Config,
        seed: u64,
        options: ShardOptions,
        set_up: impl FnOnce(&mut Shard<Sockets>) -> core::result::Result<(), ShardError>,
    ) -> core::result::Result<Self, ShardError> {
        let name = options.name.clone();
        let mut shard = Shard::new(config, seed, Sockets::default(), options)?;
        set_up(&mut shard)?;
        let mut bed = shard
            .bed()
            .map_err(|error| ShardError::System("cannot sleep on the ports", error))?;
        shard.begin();
        let shared = Arc::new(Shared {
            handle: shard.handle(),
            inner: Mutex::new(Inner {
                shard,
                asleep: None,
            }),
            wanting: AtomicU32::new(0),
            stop: AtomicBool::new(false),
        });
        let sets: Arc<dyn Sets> = shared.clone();
        enter_sets(&sets);
        let own = shared.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _alive = Alive(&own);
            own.run(&mut bed);
        });
        let thread = thread
            .map_err(|error| ShardError::System("cannot start a thread; see `ulimit -u`", error))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The sets of epoll_create: for tools.
    pub fn sets(&self) -> Vec<SetRow> {
        let mut rows = Vec::new();
        self.shared.tell(&mut rows);
        rows
    }

    /// For one call. It holds the lock until it is dropped, except while the call waits.
    pub fn call(&self) -> Call<'_> {
        Call {
            shared: &self.shared,
            inner: Some(self.shared.lock_for_call()),
            touched: false,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.handle.nudge();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One call into a host that runs, made by [`Live::call`].
pub struct Call<'a> {
    shared: &'a Shared,
    /// Always there, but while the call waits.
    inner: Option<MutexGuard<'a, Inner>>,
    /// The host was used since it was settled.
    touched: bool,
}

impl core::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

fn readable(fd: i32) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

impl<'a> Call<'a> {
    fn inner(&mut self) -> &mut Inner {
        let shared = self.shared;
        self.inner.get_or_insert_with(|| shared.lock_for_call())
    }

    /// Gives the lock away to sleep.
    fn release(&mut self) -> MutexGuard<'a, Inner> {
        let shared = self.shared;
        self.inner.take().unwrap_or_else(|| shared.lock_for_call())
    }

    /// Lets what was done take effect; whether sockets became ready. The shard's thread wakes if it has to do something before it
    /// would.
    fn settle(&mut self) -> bool {
        if !core::mem::take(&mut self.touched) {
            return false;
        }
        let inner = self.inner();
        if inner.is_broken() {
            return false;
        }
        let (heard, more) = inner.settle();
        if let Some(until) = inner.asleep {
            let due = inner.shard.host().next_deadline();
            if more || due.is_some_and(|due| due < until) {
                inner.asleep = None;
                self.shared.handle.nudge();
            }
        }
        heard
    }

    /// Sleeps on a condition that whoever does something to `fd` signals.
    fn wait_for_socket(&mut self, fd: i32, time: Option<Duration>) {
        let alarm = Arc::new(Alarm::Condvar(Condvar::new()));
        let Alarm::Condvar(condvar) = &*alarm else {
            return;
        };
        let mut inner = self.release();
        inner.shard.app().table.waiters.add(fd, &alarm);
        let inner = match time {
            Some(time) => condvar
                .wait_timeout(inner, time)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(inner, _)| inner),
            None => condvar.wait(inner).unwrap_or_else(PoisonError::into_inner),
        };
        self.inner
            .insert(inner)
            .shard
            .app()
            .table
            .waiters
            .remove(fd, &alarm);
    }

    /// Sleeps in the kernel, for some of its descriptors and a bell.
    fn wait_for_any(
        &mut self,
        ours: &[i32],
        kernel: &mut Vec<libc::pollfd>,
        (time, mask): (Option<Duration>, Option<foreign::SignalMask>),
    ) -> Result<()> {
        let bell = self.table().waiters.bell()?;
        let Alarm::Bell(fd) = &*bell else {
            return Ok(());
        };
        kernel.push(readable(fd.as_raw_fd()));
        let mut inner = self.release();
        for fd in ours {
            inner.shard.app().table.waiters.add(*fd, &bell);
        }
        drop(inner);
        let slept = foreign::poll(kernel, time, mask);
        let waiters = &mut self.table().waiters;
        for fd in ours {
            waiters.remove(*fd, &bell);
        }
        waiters.give_back(bell);
        slept.map(|_| ())
    }
}

impl World for Call<'_> {
    fn now(&mut self) -> Instant {
        self.inner().shard.clock()
    }

    fn wall(&mut self, at: Instant) -> Duration {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let ago = self.now() - at;
        since.unwrap_or_default().saturating_sub(ago)
    }

    fn host(&mut self) -> &mut Host {
        self.touched = true;
        self.inner().shard.host()
    }

    fn table(&mut self) -> &mut Table {
        &mut self.inner().shard.app().table
    }

    fn changed(&mut self) -> bool {
        self.settle()
    }

    fn wait(&mut self, deadline: Instant) {
        // For who does not say what it waits for.
        let _ = self.wait_on(&mut Wait(Awaited::Socket(-1)), deadline);
    }

    fn wait_on(&mut self, wait: &mut Wait, deadline: Instant) -> Result<()> {
        self.table().whole()?;
        if self.settle() {
            return Ok(());
        }
        let time = (deadline != Instant::FAR).then(|| deadline - self.now());
        match &mut wait.0 {
            Awaited::Socket(fd) => {
                self.wait_for_socket(*fd, time);
                Ok(())
            }
            Awaited::Any {
                ours,
                kernel,
                within,
                mask,
            } => {
                kernel.extend(within.iter().map(|joined| readable(joined.number())));
                self.wait_for_any(ours, kernel, (time, *mask))
            }
            Awaited::Set { fd, id, mask } => {
                let joined = self.table().join(*fd)?;
                joined.sleepers.fetch_add(1, Ordering::Relaxed);
                drop(self.release());
                let slept = joined.sleep(time, *mask);
                joined.sleepers.fetch_sub(1, Ordering::Relaxed);
                self.table().stir(*id, slept.as_deref().unwrap_or(&[]));
                match slept {
                    Err(Errno::INTR) => Err(Errno::INTR),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // Whatever this is about: a second panic would be the end of the process.
            self.shared.handle.nudge();
        } else {
            self.settle();
        }
    }
}
