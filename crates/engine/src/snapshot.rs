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

/// One shard at one moment.
#[derive(Debug, Clone)]
pub struct ShardSnapshot {
    /// When, on the shard's clock.
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
