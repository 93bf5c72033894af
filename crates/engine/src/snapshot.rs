//! What a shard is doing, for tools: taken by the shard itself between two turns, sent as a value.
//!
//! What does not live here: printing.

use std::time::Duration;

use base::{Instant, Tally};
use port::PortCounters;
use stack::{ConnectionInfo, Count, Drop, State};
use wire::Mac;

/// How a shard spends its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meters {
    /// Turns run.
    pub turns: u64,
    /// Turns that found nothing to do.
    pub idle_turns: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// Time asleep. With busy polling, also turns that found nothing to do.
    pub idle: Duration,
    /// Time awake and working.
    pub busy: Duration,
    /// Events given to the application.
    pub events: u64,
    /// Messages from other threads.
    pub messages: u64,
    /// Eventfd writes other threads paid to wake it.
    pub wakes: u64,
}

/// Packet memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolSnapshot {
    /// Blocks of 2 KiB there are.
    pub capacity: u32,
    /// Blocks in use now.
    pub in_use: u32,
    /// The most that were in use at one time.
    pub high_water: u32,
}

/// One port.
#[derive(Debug, Clone)]
pub struct PortSnapshot {
    /// The device's name.
    pub name: String,
    /// This side's hardware address.
    pub mac: Mac,
    /// Largest packet without the Ethernet header, bytes.
    pub mtu: usize,
    /// Frames, bytes and drops.
    pub counters: PortCounters,
    /// Why it is of no use any more.
    pub failure: Option<String>,
}

impl Meters {
    fn add(&mut self, other: &Self) {
        self.turns += other.turns;
        self.idle_turns += other.idle_turns;
        self.sleeps += other.sleeps;
        self.idle += other.idle;
        self.busy += other.busy;
        self.events += other.events;
        self.messages += other.messages;
        self.wakes += other.wakes;
    }
}

impl PoolSnapshot {
    fn add(&mut self, other: &Self) {
        self.capacity += other.capacity;
        self.in_use += other.in_use;
        // Not at the same moment: no less than the most that were in use together.
        self.high_water += other.high_water;
    }
}

impl PortSnapshot {
    fn add(&mut self, other: Self) {
        let (counters, more) = (&mut self.counters, &other.counters);
        counters.rx_frames += more.rx_frames;
        counters.rx_bytes += more.rx_bytes;
        counters.tx_frames += more.tx_frames;
        counters.tx_bytes += more.tx_bytes;
        counters.rx_stalls += more.rx_stalls;
        counters.tx_stalls += more.tx_stalls;
        counters.drops.merge(&more.drops);
        self.failure = self.failure.take().or(other.failure);
    }
}

/// One shard at one moment, or the sum of a host's shards.
#[derive(Debug, Clone)]
pub struct ShardSnapshot {
    /// How many shards it is of.
    pub shards: usize,
    /// When, on the shard's clock; of several, the leading one's.
    pub at: Instant,
    /// Since the shard was made.
    pub uptime: Duration,
    /// Time and turns.
    pub meters: Meters,
    /// What the host dropped, by reason.
    pub drops: Tally<Drop>,
    /// What else the host counts.
    pub counts: Tally<Count>,
    /// Packet memory.
    pub pool: PoolSnapshot,
    /// Ports, in the order they were added.
    pub ports: Vec<PortSnapshot>,
    /// How many connections there are in each state that has any.
    pub states: Vec<(State, u64)>,
    /// The first connections, as many as asked for.
    pub connections: Vec<ConnectionInfo>,
}

impl ShardSnapshot {
    /// Adds another shard of the same host, and keeps the first `connections` connections.
    pub fn add(&mut self, other: Self, connections: usize) {
        self.shards += other.shards;
        self.meters.add(&other.meters);
        self.drops.merge(&other.drops);
        self.counts.merge(&other.counts);
        self.pool.add(&other.pool);
        for (port, more) in self.ports.iter_mut().zip(other.ports) {
            port.add(more);
        }
        for (state, n) in other.states {
            match self.states.iter_mut().find(|(known, _)| *known == state) {
                Some((_, count)) => *count += n,
                None => self.states.push((state, n)),
            }
        }
        self.connections.extend(other.connections);
        self.connections.truncate(connections);
    }
}
