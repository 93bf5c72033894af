//! The host of RFC 1122 without its environment: neighbours, routes, IP in and out, fragments, ICMP, UDP and TCP.
//!
//! What does not live here: devices, clocks, threads, randomness of the machine, logging. Time, randomness and packets are
//! arguments, so a whole host runs in a test on virtual time.
//!
//! The contract of [`Host`], after the four kinds of quinn-proto:
//! - *getters* look and change nothing;
//! - *commands* are what an application asks (`tcp_send`, `udp_bind`, `close`, ...);
//! - `handle_*` say what happened: frames came in, time went by;
//! - `poll_*` ask what should happen: frames to transmit, events to report.
//!
//! After any `handle_*` or command, call [`Host::poll_transmit`] until it has no more, then [`Host::poll_event`] until it is
//! empty, and come back no later than [`Host::next_deadline`].
//!
//! Invariant: no function here reads a clock, sleeps, locks, logs, or allocates for a packet once the host stands.
//! Invariant: nothing scans what is idle: work per call depends on packets, due timers and ready sockets only.
//!
//! ```
//! use base::{Batch, Instant};
//! use stack::{Config, Host, InterfaceId, TcpOptions};
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let (now, seed) = (Instant::from_secs(1), 7);
//! let mut host = Host::new(Config::default(), seed, now)?;
//! let local = "127.0.0.1:80".parse()?;
//! let listener = host.tcp_listen(now, local, 128, &TcpOptions::default())?;
//! let client = host.tcp_connect(now, local, None, &TcpOptions::default())?;
//! // What it says to itself passes here; frames for the network would come out.
//! let mut frames = Batch::new();
//! while host.poll_transmit(now, InterfaceId::LOOPBACK, &mut frames) {}
//! let (server, _peer) = host.tcp_accept(now, listener)?;
//! host.tcp_send(now, client, b"hello")?;
//! while host.poll_transmit(now, InterfaceId::LOOPBACK, &mut frames) {}
//! let mut buffer = [0; 64];
//! assert_eq!(host.tcp_recv(now, server, &mut buffer)?, 5);
//! while let Some(event) = host.poll_event() {
//!     println!("{:?} {:?}", event.socket, event.ready);
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod config;
mod context;
mod error;
mod host;
mod net;
mod reports;
mod reuseport;
mod sharding;
mod socket;
mod stats;
mod tcp;
mod udp;

pub use config::Config;
pub use error::{ConfigError, SocketError};
pub use host::{
    AddressInfo, BufferInfo, Host, InterfaceInfo, ListPlace, NetOccupancy, Shutdown, SocketFilter,
    SocketPage, SocketRow, TcpOccupancy, Transport, Via,
};
pub use net::{
    AddressState, GroupChange, InterfaceConfig, InterfaceId, NeighbourInfo, NeighbourState,
    Network, Origin, Route, RouteMetrics, RouteOrigin,
};
pub use reports::ErrorReport;
pub use reuseport::{BadFilter, Filter, Instruction, Program, ReusePort, Tuple};
pub use sharding::Sharding;
pub use socket::{Event, Ready, SocketId};
pub use stats::{Count, Drop, Stats};
pub use tcp::{
    BbrInfo, Congestion, CongestionInfo, ConnectionInfo, DctcpInfo, EcnCounters, FastOpenFail,
    FastOpenKeys, Keepalive, Known, ListenerInfo, Notice, NoticeKind, Recovery, SettingError,
    SpliceError, State, TcpAccount, TcpInfo, TcpMemory, TcpOptions, TcpParcel, TcpTables,
    TcpTunables, Urgent, Write,
};
pub use udp::{MtuDiscover, Outgoing, Received, UdpInfo, UdpOptions};
