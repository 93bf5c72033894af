//! Sockets of a TCP/IP stack in user space, with the names and habits of `std::net` and `tokio::net`.
//!
//! A [`Host`] is a whole machine of its own on the network: it has ports (devices), addresses and routes, and makes sockets.
//! A program that used `std::net` changes its imports, and makes a host the default one ([`Host::make_default`]). With
//! several hosts, or no liking for globals, it names the host: `host.tcp_listen(addr)` for `TcpListener::bind(addr)`,
//! `host.tcp_connect(addr)`, `host.udp_bind(addr)`.
//!
//! ```no_run
//! use std::io::{Read, Write};
//!
//! use millstream::Host;
//! use millstream::port::tap::{Tap, TapOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tap = Tap::new("mill0", &TapOptions::default())?;
//! let host = Host::builder().port(tap).address("10.77.0.2/24").gateway("10.77.0.1").start()?;
//!
//! let listener = host.tcp_listen("0.0.0.0:7")?;
//! for stream in listener.incoming() {
//!     let mut stream = stream?;
//!     std::thread::spawn(move || {
//!         let mut buffer = [0; 4096];
//!         while let Ok(n @ 1..) = stream.read(&mut buffer) {
//!             if stream.write_all(&buffer[..n]).is_err() {
//!                 break;
//!             }
//!         }
//!     });
//! }
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `tokio`, `millstream::tokio` has the same sockets with tokio's traits, on which hyper and axum run; with
//! `futures`, `millstream::futures` has them with those of futures-io, for any runtime. With [`shard`], an application lives on
//! the stack's own thread and pays no crossing at all.
//!
//! With [`Poll`], one thread waits for many sockets as with mio and epoll.
//!
//! With [`completion`], operations are handed in with their buffers and come back done: the model of IOCP and io_uring.
//!
//! What does not live here: threads, turns and queues (`engine`), protocols (`stack`), devices (`port`).
//!
//! Invariant: every type here is `Send` and `Sync`.
//! Invariant: errors of sockets are the `io::Error`s, with their errno, that kernel sockets give.
#![forbid(unsafe_code)]

mod builder;
pub mod completion;
mod current;
pub mod datagram;
mod error;
mod family;
#[cfg(feature = "futures")]
pub mod futures;
mod host;
pub mod poll;
#[cfg(feature = "tokio")]
mod reserve;
#[cfg(any(feature = "futures", feature = "tokio"))]
mod tasks;
mod tcp;
#[cfg(feature = "tokio")]
pub mod tokio;
mod udp;
mod waiting;

pub use builder::Builder;
pub use engine::port;
pub use engine::{BusyPoll, Limits, Meters, PoolSnapshot, PortSnapshot, ShardSnapshot};
pub use error::Error;
pub use host::Host;
pub use poll::{Events, Interest, Poll, Registry, Token, Waker, event};
pub use stack::{
    BbrInfo, Config, Congestion, CongestionInfo, ConnectionInfo, DctcpInfo, Keepalive, ListPlace,
    RouteMetrics, SettingError, SocketFilter, SocketPage, SocketRow, State, TcpAccount, TcpInfo,
    TcpMemory, TcpOptions, TcpTunables, Transport, UdpOptions,
};
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;

/// Sockets that share one address and port (SO_REUSEPORT): how they divide what comes, see [`TcpListener::share_by`] and
/// [`UdpSocket::share_by`].
pub mod reuseport {
    pub use stack::{BadFilter, Filter, Instruction, Program, ReusePort, Tuple};
}

/// Applications that live on the shard: run to completion, without a crossing of threads.
///
/// [`Builder::build_with`] makes a shard of an [`App`](shard::App); run it in your thread or
/// [`spawn`](shard::Shard::spawn) it.
pub mod shard {
    pub use base::Instant;
    pub use engine::{App, PostError, Reply, Shard, ShardCx, ShardError, ShardHandle, ShardThread};
    pub use stack::{Event, Ready, Shutdown, SocketError, SocketId};
}
