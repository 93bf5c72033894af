//! What of a host tells how it is: its connections counted by state and application, its listeners' queues, how full its tables
//! and its memory are, what it has counted; and what else of its process tools look at.
//!
//! What does not live here: what is made of it (`ss`), where it comes from (`serve::desk`).

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::socket::TcpMemory;
use crate::control::Setting;

/// A host in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Census {
    pub(crate) uptime_ms: u64,
    pub(crate) tables: Tables,
    pub(crate) tcp_memory: TcpMemory,
    pub(crate) buffers: Buffers,
    /// TCP's sockets, also those of groups that are not told.
    pub(crate) sockets: u64,
    /// Connections that nobody holds and that still have something to do, and bytes to be sent of them.
    pub(crate) orphans: (u64, u64),
    /// The largest groups of connections, largest first.
    pub(crate) groups: Vec<Group>,
    pub(crate) listeners: Vec<Listener>,
    /// What happened, and what was dropped: name, and how often.
    pub(crate) events: Vec<(String, u64)>,
    pub(crate) drops: Vec<(String, u64)>,
    pub(crate) settings: Vec<Setting>,
}

/// How many there are of what, and may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tables {
    pub(crate) connections: (u32, u32),
    pub(crate) half_open: (u32, u32),
    pub(crate) time_wait: (u32, u32),
    pub(crate) ephemeral_ports: u32,
}

/// Connections in one state, of one application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// As `ss` names it.
    pub(crate) state: String,
    /// The listener they came by; of those from here, the peer they go to.
    pub(crate) app: SocketAddr,
    /// They came by a listener.
    pub(crate) serves: bool,
    /// An application holds them.
    pub(crate) held: bool,
    pub(crate) count: u64,
    /// Those of which nothing was heard for ten seconds, and the longest time.
    pub(crate) silent: u64,
    pub(crate) silent_most_ms: u64,
    /// Bytes to be read, and to be sent or acknowledged.
    pub(crate) recv_bytes: u64,
    pub(crate) send_bytes: u64,
    /// Those whose last segment has not been answered in time.
    pub(crate) timed_out: u64,
    /// Segments with data sent so far, and those of them sent again.
    pub(crate) data_segs_out: u64,
    pub(crate) retrans_segs: u64,
    /// The peers of most of them, and how many peers there are, as far as they are counted ([`PEERS`]).
    pub(crate) peers: Vec<(IpAddr, u64)>,
    pub(crate) peer_count: u32,
}

impl Group {
    /// A group of none.
    pub(crate) fn new(state: &str, app: SocketAddr, serves: bool, held: bool) -> Self {
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
pub(crate) const PEERS: usize = 64;

/// The queues of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listener {
    pub(crate) local: SocketAddr,
    pub(crate) queues: Queues,
}

/// What waits at a listener, and what it did not take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queues {
    /// Connections to be accepted; one more than `backlog` at most.
    pub(crate) accept_queue: u32,
    pub(crate) backlog: u32,
    /// Half-open connections.
    pub(crate) syn_queue: u32,
    /// SYNs and final ACKs not taken, and those of them that found the accept queue full.
    pub(crate) drops: u64,
    pub(crate) overflows: u64,
}

/// Packet memory, and who holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Buffers {
    pub(crate) block_bytes: u32,
    pub(crate) blocks: u32,
    pub(crate) in_use: u32,
    pub(crate) high_water: u32,
    /// Runs of received bytes in the hands of other threads, each of which keeps a block.
    pub(crate) lent_blocks: u32,
    /// References to blocks, and those of them in the queues of TCP.
    pub(crate) segments: u32,
    pub(crate) tcp_segments: u32,
    /// Blocks of datagrams being put together.
    pub(crate) reassembly_blocks: u32,
    /// Frames that wait for a device.
    pub(crate) frames: u32,
    /// Bytes of datagrams that wait to be read.
    pub(crate) udp_bytes: u64,
}

/// What else than sockets there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Objects {
    pub(crate) buffers: Buffers,
    pub(crate) tcp_memory: TcpMemory,
    pub(crate) sets: Vec<Set>,
    pub(crate) queues: Vec<Queue>,
    pub(crate) groups: Vec<BufferGroup>,
}

/// A set of sockets to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Set {
    /// `poll` or `epoll`.
    pub(crate) kind: String,
    pub(crate) number: u64,
    pub(crate) watched: u32,
    pub(crate) ready: u32,
    pub(crate) waiters: u32,
}

/// A completion queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queue {
    pub(crate) capacity: u64,
    pub(crate) outstanding: u64,
    pub(crate) completions: u64,
    pub(crate) waiters: u64,
    pub(crate) working: u64,
    pub(crate) concurrency: u64,
}

/// Buffers that receive operations draw from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BufferGroup {
    pub(crate) buffers: u64,
    pub(crate) available: u64,
    pub(crate) size_bytes: u64,
}
