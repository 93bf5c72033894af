//! A host of several shards: its threads, its ports, and how they begin and end together.
//!
//! What a shard runs is its side of sockets for other threads, or an application of its own.
//!
//! What does not live here: whose a frame is (`steer`), what one shard does (`shard`).
//!
//! Invariant: shards share nothing but rings, mailboxes and the table of UDP ports.
//! Invariant: the leading shard ends last: others may send by its ports.

use std::sync::Arc;

use port::Port;
use stack::{Config, InterfaceId, Sharding};

use crate::app::App;
use crate::shard::{Shard, ShardError, ShardOptions};
use crate::sockets::{Driver, Limits, Notice, Sockets};
use crate::steer::{Branch, Fellow, Moved, PLACES_MIN, Steering, UdpPorts};
use crate::thread::{ShardHandle, ShardThread};

/// How the shards of a host run.
#[derive(Debug, Clone)]
pub struct ShardsOptions {
    /// One for each shard, 1 to [`Sharding::MOST`].
    pub shards: Vec<ShardOptions>,
    /// Places for frames that are under way from one shard to another: each takes one of up to 2,013 bytes, and longer ones have
    /// several. There are as many at least as the longest needs.
    pub ring: usize,
    /// Connections that may be on another shard than the hash of their flow says.
    pub moved: usize,
}

impl ShardsOptions {
    /// Connections that may have been moved, unless told otherwise.
    pub const MOVED: usize = 16 * 1024;

    /// Places that a ring has unless told otherwise: as what a turn takes from a port needs, were it of super-frames, and less among
    /// many shards, for which a part of that is. All rings of a shard together reserve 32 MiB at most.
    pub fn ring_of(shards: usize) -> usize {
        (16 * 1024 / shards.max(1)).clamp(256, 2048)
    }
}

impl Default for ShardsOptions {
    /// One shard.
    fn default() -> Self {
        Self {
            shards: vec![ShardOptions::default()],
            ring: Self::ring_of(1),
            moved: Self::MOVED,
        }
    }
}

/// The shards of one host, not running yet.
#[derive(Debug)]
pub struct Shards<A: App = Driver> {
    shards: Vec<Shard<A>>,
    ring: usize,
}

/// What all shards of a host know.
struct Common {
    seed: u64,
    key: base::SipKey,
    shards: usize,
}

impl Common {
    fn new(seed: u64, shards: usize) -> Result<Self, ShardError> {
        if !(1..=Sharding::MOST).contains(&shards) {
            return Err(ShardError::Shards(shards));
        }
        let key = base::SipKey::derive(seed, u64::from(u32::from_be_bytes(*b"SHRD")));
        Ok(Self { seed, key, shards })
    }

    /// Each has secrets of its own, but for the one that tells flows apart.
    fn seed_of(&self, shard: usize) -> u64 {
        match shard {
            0 => self.seed,
            _ => self.key.hash(&shard.to_le_bytes()),
        }
    }

    fn udp(&self, config: &Config) -> Arc<UdpPorts> {
        let seed = self.key.hash(b"UDP ports");
        UdpPorts::new(self.shards, config.ephemeral_ports, seed)
    }

    fn moved(&self, most: usize) -> Arc<Moved> {
        let key = base::SipKey::derive(self.key.hash(b"moved"), 0);
        Moved::new(self.shards, most, key)
    }

    fn shardings(&self) -> Vec<Sharding> {
        let shards = 0..self.shards;
        shards
            .map(|shard| Sharding::new(self.key, shard, self.shards))
            .collect()
    }
}

impl Shards {
    /// Shards whose sockets are used from other threads, each with tables and packet memory of the sizes in `config`. One shard is
    /// a host by itself, as of [`Shard::with_sockets`].
    ///
    /// # Errors
    /// As [`Shard::new`]; more shards than there may be, or none.
    pub fn new(
        config: &Config,
        seed: u64,
        limits: Limits,
        options: ShardsOptions,
    ) -> Result<(Self, Sockets), ShardError> {
        let n = options.shards.len();
        let common = Common::new(seed, n)?;
        let (mut shards, mut doors) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for (shard, options) in options.shards.into_iter().enumerate() {
            let seed = common.seed_of(shard);
            let (shard, door) = Shard::with_sockets(config.clone(), seed, limits, options)?;
            shards.push(shard);
            doors.push(door);
        }
        let mut this = Self {
            shards,
            ring: options.ring.max(PLACES_MIN),
        };
        if n == 1
            && let Some(door) = doors.pop()
        {
            return Ok((this, door));
        }
        let (udp, moved) = (common.udp(config), common.moved(options.moved));
        let shardings = common.shardings();
        this.join(&shardings, &udp, &moved)?;
        let sockets = Sockets::joined(&doors, shardings[0], udp, &moved);
        Ok((this, sockets))
    }

    /// The only shard. `None` if there are several.
    pub fn only(mut self) -> Option<Shard<Driver>> {
        match self.shards.len() {
            1 => self.shards.pop(),
            _ => None,
        }
    }
}

impl<A: App> Shards<A> {
    /// Shards that each run the application that `app` makes for it, by its number. Each has the connections that its hash gives it:
    /// an application that listens does so on every shard, and one that connects is given a port whose replies come home to its
    /// own. A UDP port has a socket on each shard whose application binds it, and datagrams are divided by their flow among those.
    ///
    /// # Errors
    /// As [`Shards::new`].
    pub fn with_apps(
        config: &Config,
        seed: u64,
        options: ShardsOptions,
        mut app: impl FnMut(usize) -> A,
    ) -> Result<Self, ShardError> {
        let n = options.shards.len();
        let common = Common::new(seed, n)?;
        let mut shards = Vec::with_capacity(n);
        for (shard, options) in options.shards.into_iter().enumerate() {
            let seed = common.seed_of(shard);
            shards.push(Shard::new(config.clone(), seed, app(shard), options)?);
        }
        let mut this = Self {
            shards,
            ring: options.ring.max(PLACES_MIN),
        };
        if n > 1 {
            let (udp, moved) = (common.udp(config), common.moved(options.moved));
            this.join(&common.shardings(), &udp, &moved)?;
            for shard in &mut this.shards {
                shard.host().tell_udp_ports();
            }
        }
        Ok(this)
    }

    fn join(
        &mut self,
        shardings: &[Sharding],
        udp: &Arc<UdpPorts>,
        moved: &Arc<Moved>,
    ) -> Result<(), ShardError> {
        let fellows = self.fellows();
        let steerings = Steering::joined(shardings, (udp, moved), &fellows, self.ring);
        let steerings = steerings.map_err(|error| {
            let what =
                "no memory for the rings between shards; ask for fewer shards or smaller rings";
            ShardError::System(what, error)
        })?;
        let fast_open = self.shards[0].host().tcp_fast_open_keys(None).ok();
        for ((shard, steering), sharding) in self.shards.iter_mut().zip(steerings).zip(shardings) {
            shard.host().become_shard(*sharding);
            shard.steer_by(steering);
            if let Some(keys) = fast_open {
                // A cookie is of use on whichever shard the next connection falls.
                let _ = shard.host().set_tcp_fast_open_keys(None, keys);
            }
        }
        Ok(())
    }

    /// A handle of each shard, the leading one's first.
    pub fn handles(&self) -> Vec<ShardHandle<A::Command>> {
        self.shards.iter().map(Shard::handle).collect()
    }

    fn fellows(&self) -> Vec<Arc<dyn Fellow>> {
        let shards = self.shards.iter();
        shards
            .map(|shard| -> Arc<dyn Fellow> { Arc::new(shard.handle()) })
            .collect()
    }

    /// Gives the host an interface on a port: of one queue, which the first shard has and all send by, or of as many as there are
    /// shards, each with its own.
    ///
    /// # Errors
    /// Another number of queues; no room for another interface; no descriptors are left.
    pub fn add_port(
        &mut self,
        queues: Vec<Box<dyn Port + Send>>,
    ) -> Result<InterfaceId, ShardError> {
        if queues.len() != 1 && queues.len() != self.shards.len() {
            return Err(ShardError::Queues(queues.len(), self.shards.len()));
        }
        let mut interface = InterfaceId(0);
        let mut queues = queues.into_iter();
        let first = queues.next();
        let facts = first.as_ref().map(|port| port.facts().clone());
        if let Some(first) = first {
            interface = self.shards[0].add_port(first)?;
        }
        let leader: Arc<dyn Fellow> = Arc::new(self.shards[0].handle());
        for shard in 1..self.shards.len() {
            if let Some(port) = queues.next() {
                self.shards[shard].add_port(port)?;
            } else if let Some(facts) = &facts {
                let branch = Branch::new(facts, shard, leader.clone(), self.ring);
                let (branch, frames) = branch.map_err(|error| {
                    let what = "no descriptors or no memory for a port's branches; raise `ulimit -n`, or ask for fewer shards";
                    ShardError::System(what, error)
                })?;
                self.shards[shard].add_port(Box::new(branch))?;
                self.shards[0].carry(interface, frames);
            }
        }
        Ok(interface)
    }

    /// The leading shard: addresses and routes that its host is given are the others', too.
    pub fn lead(&mut self) -> &mut Shard<A> {
        &mut self.shards[0]
    }

    /// The shards by their numbers, to be run each in a thread of the caller's. The first is to end last, for others may send by its
    /// ports; without one of its shards a host is of no use.
    pub fn into_shards(mut self) -> Vec<Shard<A>> {
        if let [lead, others @ ..] = &mut self.shards[..] {
            let network = lead.host().network();
            others.iter_mut().for_each(|shard| shard.follow(&network));
        }
        self.shards
    }
}

impl<A: App + Send + 'static> Shards<A> {
    /// Runs each shard in a thread of its own.
    ///
    /// # Errors
    /// The system refuses another thread; a CPU cannot be had.
    pub fn spawn(self) -> Result<ShardThreads<A::Command>, ShardError> {
        let mut threads = ShardThreads {
            threads: Vec::with_capacity(self.shards.len()),
        };
        for shard in self.into_shards() {
            threads.threads.push(shard.spawn()?);
        }
        Ok(threads)
    }
}

/// The threads of a host's shards. Dropping it stops them and waits for them.
#[derive(Debug)]
pub struct ShardThreads<C = Notice> {
    /// The leading shard's first.
    threads: Vec<ShardThread<C>>,
}

impl<C> ShardThreads<C> {
    /// A handle of each shard, the leading one's first.
    pub fn handles(&self) -> Vec<ShardHandle<C>> {
        let threads = self.threads.iter();
        threads.map(|thread| thread.handle().clone()).collect()
    }

    /// Whether one of them has ended: what is left is of no use.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().any(ShardThread::is_finished)
    }

    /// Stops the shards and waits until they have ended: those that send by another's port before that one.
    ///
    /// # Errors
    /// Why one had ended before, or that it panicked.
    pub fn stop(&mut self) -> Result<(), ShardError> {
        let others = self.threads.get(1..).unwrap_or_default();
        for thread in others {
            thread.handle().stop();
        }
        let mut ended = Ok(());
        for thread in self.threads.iter_mut().rev() {
            // Of several reasons the leading shard's counts: the others end for it.
            ended = thread.stop().and(ended);
        }
        ended
    }
}

impl<C> Drop for ShardThreads<C> {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
