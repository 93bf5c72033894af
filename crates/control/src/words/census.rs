//! What of a host tells how it is: its connections counted by state and application, its listeners' queues, how full its tables
//! and its memory are, what it has counted; and what else of its process tools look at.
//!
//! What does not live here: what is made of it (`millstream ss`), where it comes from (`desk`).
#![allow(missing_docs)] // Where a field's name says all, it stands for itself.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Setting;
use super::socket::TcpMemory;

/// A host in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    pub uptime_ms: u64,
    pub tables: Tables,
    pub tcp_memory: TcpMemory,
    pub buffers: Buffers,
    /// TCP's sockets, also those of groups that are not told.
    pub sockets: u64,
    /// Connections that nobody holds and that still have something to do, and bytes to be sent of them.
    pub orphans: (u64, u64),
    /// The largest groups of connections, largest first.
    pub groups: Vec<Group>,
    pub listeners: Vec<Listener>,
    /// What happened, and what was dropped: name, and how often.
    pub events: Vec<(String, u64)>,
    pub drops: Vec<(String, u64)>,
    pub settings: Vec<Setting>,
}

/// How many there are of what, and may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    pub connections: (u32, u32),
    pub half_open: (u32, u32),
    pub time_wait: (u32, u32),
    pub ephemeral_ports: u32,
}

/// Connections in one state, of one application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// As `ss` names it.
    pub state: String,
    /// The listener they came by; of those from here, the peer they go to.
    pub app: SocketAddr,
    /// They came by a listener.
    pub serves: bool,
    /// An application holds them.
    pub held: bool,
    pub count: u64,
    /// Those of which nothing was heard for ten seconds, and the longest time.
    pub silent: u64,
    pub silent_most_ms: u64,
    /// Bytes to be read, and to be sent or acknowledged.
    pub recv_bytes: u64,
    pub send_bytes: u64,
    /// Those whose last segment has not been answered in time.
    pub timed_out: u64,
    /// Segments with data sent so far, and those of them sent again.
    pub data_segs_out: u64,
    pub retrans_segs: u64,
    /// The peers of most of them, and how many peers there are, as far as they are counted ([`PEERS`]).
    pub peers: Vec<(IpAddr, u64)>,
    pub peer_count: u32,
}

impl Group {
    /// A group of none.
    pub fn new(state: &str, app: SocketAddr, serves: bool, held: bool) -> Self {
        Self {
            state: state.into(),
            app,
            serves,
            held,
            count: 0,
            silent: 0,
            silent_most_ms: 0,
            recv_bytes: 0,
            send_bytes: 0,
            timed_out: 0,
            data_segs_out: 0,
            retrans_segs: 0,
            peers: Vec::new(),
            peer_count: 0,
        }
    }
}

/// Peers that are told apart in a group.
pub const PEERS: usize = 64;

/// The queues of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub local: SocketAddr,
    pub queues: Queues,
}

/// What waits at a listener, and what it did not take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// Connections to be accepted; one more than `backlog` at most.
    pub accept_queue: u32,
    pub backlog: u32,
    /// Half-open connections.
    pub syn_queue: u32,
    /// SYNs and final ACKs not taken, and those of them that found the accept queue full.
    pub drops: u64,
    pub overflows: u64,
}

/// Packet memory, and who holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffers {
    pub block_bytes: u32,
    pub blocks: u32,
    pub in_use: u32,
    pub high_water: u32,
    /// Runs of received bytes in the hands of other threads, each of which keeps a block.
    pub lent_blocks: u32,
    /// References to blocks, and those of them in the queues of TCP.
    pub segments: u32,
    pub tcp_segments: u32,
    /// Blocks of datagrams being put together.
    pub reassembly_blocks: u32,
    /// Frames that wait for a device.
    pub frames: u32,
    /// Bytes of datagrams that wait to be read.
    pub udp_bytes: u64,
}

/// What else than sockets there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    pub buffers: Buffers,
    pub tcp_memory: TcpMemory,
    pub sets: Vec<Set>,
    pub queues: Vec<Queue>,
    pub groups: Vec<BufferGroup>,
}

/// A set of sockets to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// `poll` or `epoll`.
    pub kind: String,
    pub number: u64,
    pub watched: u32,
    pub ready: u32,
    pub waiters: u32,
}

/// A completion queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    pub capacity: u64,
    pub outstanding: u64,
    pub completions: u64,
    pub waiters: u64,
    pub working: u64,
    pub concurrency: u64,
}

/// Buffers that receive operations draw from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferGroup {
    pub buffers: u64,
    pub available: u64,
    pub size_bytes: u64,
}
