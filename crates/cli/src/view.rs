//! What the page, `/stats.json` and `--json` show of a host: plain data with names that are kept.
//!
//! What does not live here: where the figures come from (`serve`) and how they look (`assets/index.html`).
//!
//! Invariant: counters only grow while the program runs, so a reader may take differences.

use serde::Serialize;

/// One look at a host.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Stats {
    /// Who this is.
    pub(crate) host: HostFacts,
    /// Milliseconds since the host started.
    pub(crate) uptime_ms: u64,
    /// Each port, in the order they were given.
    pub(crate) ports: Vec<PortFacts>,
    /// TCP as a whole.
    pub(crate) tcp: Tcp,
    /// The busiest connections, busiest first; `tcp.connections` says how many there are in all.
    pub(crate) connections: Vec<Connection>,
    /// Every reason for which a packet was dropped, those of ports included; only the ones that happened.
    pub(crate) drops: Vec<Counter>,
    /// Other events; only the ones that happened.
    pub(crate) events: Vec<Counter>,
    /// The packet pool.
    pub(crate) pool: Pool,
    /// The stack's thread.
    pub(crate) thread: Thread,
}

/// The facts of a host that do not change.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct HostFacts {
    /// Its name in the configuration, or `demo`.
    pub(crate) name: String,
    /// The version of this program.
    pub(crate) version: String,
    /// Its addresses with their prefixes.
    pub(crate) addresses: Vec<String>,
    /// What it serves, as `service address`.
    pub(crate) services: Vec<String>,
}

/// One port: what it is and what has crossed it, as the host sees it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct PortFacts {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) mac: String,
    pub(crate) mtu: u32,
    /// What the device does for us: `tx-checksum`, `tso4` and the like.
    pub(crate) offloads: Vec<String>,
    /// Why it is of no use any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    pub(crate) rx_frames: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_frames: u64,
    pub(crate) tx_bytes: u64,
}

/// TCP connections by state.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Tcp {
    /// Connections that are open or on their way: neither LISTEN nor TIME-WAIT.
    pub(crate) connections: u64,
    /// How many are in each state; RFC 9293's names, only the ones in use.
    pub(crate) states: Vec<Counter>,
}

/// A name and a number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counter {
    pub(crate) name: String,
    /// What it means, in a sentence; empty when the name says it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) about: String,
    pub(crate) count: u64,
}

impl Counter {
    /// A counter with its explanation.
    pub(crate) fn new(name: impl Into<String>, about: impl Into<String>, count: u64) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            count,
        }
    }
}

/// One TCP connection.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Connection {
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) state: String,
    /// Bytes the peer sent us.
    pub(crate) rx_bytes: u64,
    /// Bytes we sent the peer.
    pub(crate) tx_bytes: u64,
    /// Smoothed round trip time in microseconds; 0 before the first measure.
    pub(crate) srtt_us: u64,
    /// Congestion window in bytes.
    pub(crate) cwnd: u64,
    /// Bytes received that the application has not read.
    pub(crate) unread: u64,
    /// Bytes written that the peer has not acknowledged.
    pub(crate) unacknowledged: u64,
}

/// The packet pool, in blocks of `block_bytes`.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Pool {
    pub(crate) block_bytes: u32,
    pub(crate) blocks: u32,
    pub(crate) in_use: u32,
    pub(crate) high_water: u32,
}

/// How the stack's thread spends its time.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Thread {
    pub(crate) busy_ms: u64,
    pub(crate) idle_ms: u64,
    /// Turns of its loop.
    pub(crate) turns: u64,
    /// Times it went to sleep.
    pub(crate) sleeps: u64,
}
