//! A shard: one host, its ports, a clock and an application, run by one thread.
//!
//! The turn: read the clock; take a batch from every port; take messages from other threads; let due timers go off; give
//! events to the application; send what is to be sent; ring every port's doorbell. A turn that found nothing to do is
//! followed by sleep in poll(2) on the ports and the wake-up, until the host's next deadline.
//!
//! What does not live here: threads (`thread`), what messages and events mean (the application).
//!
//! Invariant: the clock is read once a turn, and once more before a sleep.
//! Invariant: a port gives at most one batch a turn, so every port, message and timer gets its share.
//! Invariant: nothing here sleeps while a port, the mailbox, the send lists or the application have work.

mod lent;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base::{BATCH, Batch, Instant};
use port::Port;
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_setaffinity};
use stack::{Config, ConfigError, Host, InterfaceConfig, InterfaceId};

use crate::app::{App, ShardCx};
use crate::clock::Clock;
use crate::mailbox::{Inbox, Mailbox};
use crate::reply::Sender;
use crate::snapshot::{Meters, PoolSnapshot, PortSnapshot, ShardSnapshot};
use crate::sockets::{Driver, Limits, Notice, Sockets};
use crate::steer::{PieceRx, Steering};
use crate::thread::ShardHandle;

pub use lent::Bed;

/// Events given to the application in one turn; what is beyond waits for the next.
const EVENTS_A_TURN: usize = 4 * BATCH;
/// Times a turn asks the ports again when they had much to give.
const ROUNDS_A_TURN: usize = 8;
/// Frames at once that hint at more behind them; a port of super-frames gives few at a time.
const MUCH: usize = 4;
/// Batches sent to one port in one turn.
pub(crate) const TRANSMITS_A_TURN: usize = 16;
/// How soon to look again at a port that had no room, or that has no descriptor to sleep on.
const LOOK_AGAIN: Duration = Duration::from_micros(100);
/// The longest sleep: bounds what a clock that jumped can do.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Whether to spin instead of sleeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BusyPoll {
    /// Sleep as soon as there is nothing to do.
    #[default]
    Never,
    /// Spin so long after the last work, then sleep.
    For(Duration),
    /// Never sleep: a whole core for the lowest latency.
    Always,
}

/// How a shard runs.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// The thread's name.
    pub name: String,
    /// Spin or sleep.
    pub busy_poll: BusyPoll,
    /// Run on this CPU only.
    pub cpu: Option<usize>,
    /// Messages from other threads that may wait, beside those in the threads' rings and one notice for each live socket.
    pub mailbox: usize,
    /// How long a stopping shard goes on to send what was written before.
    pub drain: Duration,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            name: "millstream".to_owned(),
            busy_poll: BusyPoll::Never,
            cpu: None,
            mailbox: 64 * 1024,
            drain: Duration::from_secs(1),
        }
    }
}

/// Why a shard could not be set up or had to end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ShardError {
    /// The host refused its configuration, an interface, an address or a route.
    Config(ConfigError),
    /// The system refused what is named.
    System(&'static str, std::io::Error),
    /// Every port of the shard has failed; the last one's name and reason.
    Ports(String, String),
    /// A host cannot have so many shards.
    Shards(usize),
    /// A port of so many queues, for so many shards.
    Queues(usize, usize),
    /// The shard's thread panicked.
    Panicked,
}

impl fmt::Display for ShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::System(what, error) => write!(f, "{what}: {error}"),
            Self::Ports(name, why) => write!(f, "port {name} has failed: {why}"),
            Self::Shards(n) => {
                let most = stack::Sharding::MOST;
                write!(f, "a host has 1 to {most} shards, not {n}")
            }
            Self::Queues(queues, shards) => write!(
                f,
                "a port has one queue, or as many as the host has shards: {queues} are given for {shards}"
            ),
            Self::Panicked => {
                f.write_str("the shard's thread panicked: this is a bug, please report it")
            }
        }
    }
}

impl std::error::Error for ShardError {}

impl From<ConfigError> for ShardError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// What reaches a shard from other threads.
#[derive(Debug)]
pub(crate) enum Message<C> {
    /// For the application.
    App(C),
    /// A question of a tool, with how many connections to list.
    Snapshot(usize, Sender<ShardSnapshot>),
    /// A question of a tool about the host, or a change of it.
    Call(Call),
}

pub(crate) type Errand = dyn FnOnce(&mut Host, Instant) + Send;

/// What another thread wants done with the host.
pub(crate) struct Call(pub(crate) Box<Errand>);

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

struct PortSlot {
    port: Box<dyn Port + Send>,
    interface: InterfaceId,
    rx: Batch,
    tx: Batch,
    failed: bool,
}

/// One host with its ports, run to completion.
pub struct Shard<A: App> {
    host: Host,
    ports: Vec<PortSlot>,
    app: A,
    clock: Clock,
    started: Instant,
    inbox: Inbox<Message<A::Command>>,
    /// Messages taken from it, between two turns empty.
    messages: Vec<Message<A::Command>>,
    options: ShardOptions,
    /// If it is one of several.
    steering: Option<Box<Steering>>,
    meters: Meters,
    /// The time of the turn, and of the last turn that had work.
    now: Instant,
    last_work: Instant,
    /// The application wants another turn within this time.
    within: Option<Duration>,
    /// The last turn had work.
    worked: bool,
    stop: bool,
    /// What goes when the shard does.
    kept: Vec<Box<dyn Any + Send>>,
}

impl<A: App> fmt::Debug for Shard<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("ports", &self.ports.len())
            .field("meters", &self.meters)
            .finish_non_exhaustive()
    }
}

impl Shard<Driver> {
    /// A shard whose sockets are used from other threads.
    ///
    /// # Errors
    /// As [`Shard::new`].
    pub fn with_sockets(
        config: Config,
        seed: u64,
        limits: Limits,
        options: ShardOptions,
    ) -> Result<(Self, Sockets), ShardError> {
        let (mailbox, inbox) = new_mailbox::<Notice>(&options)?;
        let (driver, sockets) = Driver::new(mailbox, limits, &config);
        Ok((
            Self::assemble(config, seed, driver, inbox, options)?,
            sockets,
        ))
    }
}

type Ends<C> = (Arc<Mailbox<Message<C>>>, Inbox<Message<C>>);

fn new_mailbox<C: Send + 'static>(options: &ShardOptions) -> Result<Ends<C>, ShardError> {
    Mailbox::new(options.mailbox)
        .map_err(|error| ShardError::System("cannot make an eventfd; raise `ulimit -n`", error))
}

impl<A: App> Shard<A> {
    /// A shard that runs `app`. `seed` is that of the host's secrets and generator: random, but in tests.
    ///
    /// # Errors
    /// The host's memory or tables cannot be had; no descriptors are left.
    pub fn new(
        config: Config,
        seed: u64,
        app: A,
        options: ShardOptions,
    ) -> Result<Self, ShardError> {
        let (_, inbox) = new_mailbox(&options)?;
        Self::assemble(config, seed, app, inbox, options)
    }

    fn assemble(
        config: Config,
        seed: u64,
        app: A,
        inbox: Inbox<Message<A::Command>>,
        options: ShardOptions,
    ) -> Result<Self, ShardError> {
        let clock = Clock::new();
        let now = clock.now();
        Ok(Self {
            host: Host::new(config, seed, now)?,
            ports: Vec::new(),
            app,
            clock,
            started: now,
            inbox,
            messages: Vec::new(),
            options,
            steering: None,
            meters: Meters::default(),
            now,
            last_work: now,
            within: None,
            worked: false,
            stop: false,
            kept: Vec::new(),
        })
    }

    /// Gives the host an interface on `port`, with the port's hardware address, MTU and offloads.
    ///
    /// # Errors
    /// The host has no room for another interface.
    pub fn add_port(&mut self, port: Box<dyn Port + Send>) -> Result<InterfaceId, ShardError> {
        let facts = port.facts();
        let config = InterfaceConfig {
            name: facts.name.clone(),
            mac: Some(facts.mac),
            mtu: facts.mtu,
            offloads: facts.offloads,
        };
        let interface = self.host.add_interface(self.now, config)?;
        self.ports.push(PortSlot {
            port,
            interface,
            rx: Batch::new(),
            tx: Batch::new(),
            failed: false,
        });
        Ok(interface)
    }

    /// Makes it one of several.
    pub(crate) fn steer_by(&mut self, steering: Steering) {
        self.steering = Some(Box::new(steering));
    }

    /// Another shard sends by the port of this interface.
    pub(crate) fn carry(&mut self, interface: InterfaceId, frames: PieceRx) {
        if let Some(steering) = &mut self.steering {
            steering.add_uplink(usize::from(interface.0), frames);
        }
    }

    /// Takes over what the leading shard was configured with.
    pub(crate) fn follow(&mut self, network: &stack::Network) {
        self.host.follow(self.now, network);
    }

    /// The host, to add addresses and routes, and for tests.
    pub fn host(&mut self) -> &mut Host {
        &mut self.host
    }

    /// The time of the last turn.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The application.
    pub fn app(&mut self) -> &mut A {
        &mut self.app
    }

    /// A handle for other threads.
    pub fn handle(&self) -> ShardHandle<A::Command> {
        ShardHandle::new(self.inbox.mailbox().clone())
    }

    /// Keeps something that is to last as long as the shard answers its handles: it is dropped when that ends.
    pub fn keep(&mut self, thing: impl Send + 'static) {
        self.kept.push(Box::new(thing));
    }

    /// How it runs.
    pub fn options(&self) -> &ShardOptions {
        &self.options
    }

    /// Runs in the calling thread until [`ShardHandle::stop`], [`ShardCx::stop`] or the failure of every port. What was
    /// written before is sent for up to [`ShardOptions::drain`].
    ///
    /// # Errors
    /// The CPU cannot be had; every port has failed.
    pub fn run(&mut self) -> Result<(), ShardError> {
        self.pin()?;
        self.run_pinned()
    }

    /// Binds the calling thread to [`ShardOptions::cpu`].
    pub(crate) fn pin(&self) -> Result<(), ShardError> {
        let Some(cpu) = self.options.cpu else {
            return Ok(());
        };
        let mut set = CpuSet::new();
        // A number the set has no place for is a CPU the system has not got.
        let pinned = if cpu < CpuSet::MAX_CPU {
            set.set(cpu);
            sched_setaffinity(None, &set)
        } else {
            Err(Errno::INVAL)
        };
        pinned.map_err(|error| {
            ShardError::System("cannot run on the CPU asked for; see `nproc`", error.into())
        })
    }

    pub(crate) fn run_pinned(&mut self) -> Result<(), ShardError> {
        self.begin();
        while !self.inbox.mailbox().stopping() && !self.stop {
            if !self.turn() {
                self.rest(SLEEP_MAX)?;
            }
        }
        self.drain();
        Ok(())
    }

    /// Calls the application's [`App::on_start`]. [`Shard::run`] does this itself.
    pub fn begin(&mut self) {
        self.now = self.clock.now();
        self.last_work = self.now;
        self.with_app(|app, cx| app.on_start(cx));
        self.steer();
    }

    fn with_app(&mut self, call: impl FnOnce(&mut A, &mut ShardCx<'_>)) -> bool {
        let mut cx = ShardCx {
            host: &mut self.host,
            now: self.now,
            not_before: self.now,
            again: false,
            within: None,
            stop: false,
        };
        call(&mut self.app, &mut cx);
        self.stop |= cx.stop;
        self.now = cx.not_before;
        if let Some(within) = cx.within {
            self.within = Some(self.within.map_or(within, |time| time.min(within)));
        }
        cx.again
    }

    /// Runs one turn; whether it found anything to do. For callers with a loop of their own: sleep is [`Shard::rest`]'s.
    pub fn turn(&mut self) -> bool {
        self.read_clock();
        self.meters.turns += 1;
        self.within = None;
        let mut work = self.receive();
        work |= self.take_messages();
        self.host.handle_timers(self.now);
        work |= self.give_events();
        work |= self.with_app(|app, cx| app.on_turn(cx));
        work |= self.transmit();
        work |= self.steer();
        // Sending may make sockets ready too: connections to ourselves, or a connection that just failed.
        work |= self.give_events();
        self.worked = work;
        if work {
            self.app.on_settled();
            self.last_work = self.now;
        } else {
            self.meters.idle_turns += 1;
        }
        work
    }

    /// What passed since is charged to the last turn.
    fn read_clock(&mut self) {
        let before = self.now;
        self.now = self.clock.now();
        // So one reading of the clock serves the end of a turn and the beginning of the next.
        let meter = if self.worked {
            &mut self.meters.busy
        } else {
            &mut self.meters.idle
        };
        *meter += self.now - before;
    }

    /// Takes what the ports have, in rounds over all of them, until a round brings little. Timers come after: an ACK that
    /// waits in a device must be heard before the timeout it answers.
    fn receive(&mut self) -> bool {
        let mut any = false;
        for _ in 0..ROUNDS_A_TURN {
            let mut much = false;
            for slot in &mut self.ports {
                let received = slot.port.receive(self.host.pool_mut(), &mut slot.rx);
                much |= received >= MUCH;
                if received > 0 {
                    any = true;
                    if let Some(steering) = &mut self.steering {
                        steering.sort(&mut self.host, &mut self.now, slot.interface, &mut slot.rx);
                    }
                    self.host
                        .handle_batch(self.now, slot.interface, &mut slot.rx);
                }
            }
            if let Some(steering) = &mut self.steering {
                let taken = steering.take(&mut self.host, &mut self.now);
                any |= taken > 0;
                much |= taken >= MUCH;
            }
            if !much {
                break;
            }
        }
        any | self.steer()
    }

    /// Sees to what only the shards together know whose it is, and tells the others what has changed.
    fn steer(&mut self) -> bool {
        let Some(steering) = &mut self.steering else {
            return false;
        };
        steering.note_ports(&mut self.host);
        steering.note_ends(&mut self.host);
        steering.tell_groups(&mut self.host);
        steering.tell_network(&self.host);
        steering.divert(&mut self.host, self.now)
    }

    fn take_messages(&mut self) -> bool {
        let mut messages = std::mem::take(&mut self.messages);
        self.inbox.drain(&mut messages);
        let any = !messages.is_empty();
        self.meters.messages += messages.len() as u64;
        for message in messages.drain(..) {
            match message {
                Message::App(command) => {
                    self.with_app(|app, cx| app.on_command(cx, command));
                }
                Message::Snapshot(connections, sender) => sender.send(self.snapshot(connections)),
                Message::Call(Call(call)) => call(&mut self.host, self.now),
            }
        }
        self.messages = messages;
        any
    }

    fn give_events(&mut self) -> bool {
        for given in 0..EVENTS_A_TURN {
            let Some(event) = self.host.poll_event() else {
                return given > 0;
            };
            self.meters.events += 1;
            self.with_app(|app, cx| app.on_event(cx, event));
        }
        true
    }

    fn transmit(&mut self) -> bool {
        if let Some(steering) = &self.steering {
            // An answer may come to another shard before this turn is over.
            steering.note_ports(&mut self.host);
        }
        let mut any = false;
        for (at, slot) in self.ports.iter_mut().enumerate() {
            for _ in 0..TRANSMITS_A_TURN {
                let more = self
                    .host
                    .poll_transmit(self.now, slot.interface, &mut slot.tx);
                // Nothing for this port, but more: for others, or for this host itself. No time to sleep.
                any |= more && slot.tx.is_empty();
                if !slot.tx.is_empty() {
                    any |= slot.port.transmit(self.host.pool_mut(), &mut slot.tx) > 0;
                }
                if !more || !slot.tx.is_empty() {
                    break;
                }
            }
            if let Some(steering) = &mut self.steering {
                any |= steering.relay(at, &mut *slot.port, self.host.pool_mut());
            }
            slot.port.flush(self.host.pool_mut());
        }
        if self.ports.is_empty() {
            // What the host says to itself passes when a port is polled, if it has one.
            let mut none = Batch::new();
            let host = &mut self.host;
            any |= host.poll_transmit(self.now, InterfaceId::LOOPBACK, &mut none);
        }
        any
    }

    /// Sleeps until a port has frames, another thread wakes the shard, the host's next deadline, or `longest`. With busy
    /// polling, returns at once while that lasts.
    ///
    /// # Errors
    /// Every port has failed.
    pub fn rest(&mut self, longest: Duration) -> Result<(), ShardError> {
        match self.options.busy_poll {
            BusyPoll::Always => {
                std::hint::spin_loop();
                return self.check_ports();
            }
            BusyPoll::For(time) if self.now - self.last_work < time => {
                std::hint::spin_loop();
                return Ok(());
            }
            BusyPoll::For(_) | BusyPoll::Never => {}
        }
        self.check_ports()?;
        let mailbox = self.inbox.mailbox();
        mailbox.wake().prepare();
        let steered = self.steering.as_ref().is_some_and(|s| s.has_work());
        if !steered && (!mailbox.has_work() || (self.stop && !mailbox.has_messages())) {
            self.sleep(longest);
        }
        self.inbox.mailbox().wake().awake();
        Ok(())
    }

    fn sleep(&mut self, longest: Duration) {
        let started = self.clock.now();
        let time = self.time_to_sleep(longest, started);
        let live = self.ports.iter().filter(|slot| !slot.failed);
        lent::sleep(
            self.inbox.mailbox().wake(),
            live.filter_map(|slot| slot.port.sleep_fd()),
            time,
        );
        self.meters.sleeps += 1;
        self.meters.busy += started - self.now;
        self.now = self.clock.now();
        self.meters.idle += self.now - started;
    }

    fn time_to_sleep(&self, longest: Duration, now: Instant) -> Duration {
        let mut time = self.within.map_or(longest, |within| within.min(longest));
        if let Some(deadline) = self.host.next_deadline() {
            time = time.min(deadline - now);
        }
        for slot in self.ports.iter().filter(|slot| !slot.failed) {
            if slot.port.sleep_fd().is_none() || !slot.tx.is_empty() {
                time = time.min(LOOK_AGAIN);
            }
        }
        if self.steering.as_ref().is_some_and(|s| s.is_stuck()) {
            time = time.min(LOOK_AGAIN);
        }
        time
    }

    /// Takes failed ports out of the sleep; an error when none is left.
    fn check_ports(&mut self) -> Result<(), ShardError> {
        for slot in &mut self.ports {
            slot.failed = slot.port.failure().is_some();
        }
        match self.ports.last() {
            Some(last) if self.ports.iter().all(|slot| slot.failed) => Err(ShardError::Ports(
                last.port.facts().name.clone(),
                last.port
                    .failure()
                    .map_or_else(String::new, ToString::to_string),
            )),
            _ => Ok(()),
        }
    }

    /// Lets the application close, and goes on until everything is sent or the time is up.
    fn drain(&mut self) {
        self.stop = true;
        self.now = self.clock.now();
        let end = self.now + self.options.drain;
        self.with_app(|app, cx| app.on_stop(cx));
        loop {
            let work = self.turn();
            if self.now >= end || (!work && self.app.is_drained() && !self.unfinished()) {
                break;
            }
            if !work && self.rest(Duration::from_millis(5)).is_err() {
                break;
            }
        }
        for connection in self
            .host
            .connections()
            .filter_map(|connection| connection.socket)
            .collect::<Vec<_>>()
        {
            let _ = self.host.abort(self.now, connection);
        }
        self.transmit();
    }

    /// Whether a connection still has something to tell its peer. Visits all: only for the end.
    fn unfinished(&self) -> bool {
        use stack::State;
        let quiet = [
            State::Closed,
            State::FinWait2,
            State::TimeWait,
            State::SynReceived,
        ];
        self.host
            .connections()
            .any(|connection| !quiet.contains(&connection.state))
    }

    /// What the shard is doing, with the first `connections` connections. Visits all connections.
    pub fn snapshot(&self, connections: usize) -> ShardSnapshot {
        let pool = self.host.pool();
        let mut first = Vec::new();
        let mut states: Vec<(stack::State, u64)> = Vec::new();
        for connection in self.host.connections() {
            match states
                .iter_mut()
                .find(|(state, _)| *state == connection.state)
            {
                Some((_, count)) => *count += 1,
                None => states.push((connection.state, 1)),
            }
            if first.len() < connections {
                first.push(connection);
            }
        }
        ShardSnapshot {
            shards: 1,
            at: self.now,
            uptime: self.now - self.started,
            meters: Meters {
                wakes: self.inbox.mailbox().wake().written(),
                ..self.meters
            },
            drops: self.host.stats().drops.clone(),
            counts: self.host.stats().counts.clone(),
            pool: PoolSnapshot {
                capacity: pool.capacity(),
                in_use: pool.in_use(),
                high_water: pool.high_water(),
            },
            ports: self.ports.iter().map(port_snapshot).collect(),
            states,
            connections: first,
        }
    }
}

fn port_snapshot(slot: &PortSlot) -> PortSnapshot {
    let facts = slot.port.facts();
    PortSnapshot {
        name: facts.name.clone(),
        mac: facts.mac,
        mtu: facts.mtu,
        counters: slot.port.counters(),
        failure: slot.port.failure().map(ToString::to_string),
    }
}

impl<A: App> Drop for Shard<A> {
    fn drop(&mut self) {
        self.deafen();
        let pool = self.host.pool_mut();
        if let Some(steering) = &mut self.steering {
            steering.release(pool);
        }
        for slot in &mut self.ports {
            slot.rx.clear(pool);
            slot.tx.clear(pool);
            slot.port.release(pool);
        }
    }
}

/// A seed from the system's random numbers, for [`Shard::new`].
///
/// # Errors
/// The system has none to give.
pub fn random_seed() -> Result<u64, ShardError> {
    getrandom::u64().map_err(|error| {
        ShardError::System(
            "cannot get random numbers",
            std::io::Error::other(error.to_string()),
        )
    })
}
