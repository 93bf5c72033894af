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
//! With [`datagram`], UDP sockets send and receive many datagrams in one call, with ECN, addresses and times of each.
//!
//! With [`completion`], operations are handed in with their buffers and come back done: the model of IOCP and io_uring.
//!
//! With the feature `control`, `Builder::control` lets `millstream ss` and `millstream sysctl` look into the host while it runs.
//!
//! What does not live here: threads, turns and queues (`engine`), protocols (`stack`), devices (`port`).
//!
//! Invariant: every type here is `Send` and `Sync`.
//! Invariant: errors of sockets are the `io::Error`s, with their errno, that kernel sockets give.
#![forbid(unsafe_code)]

mod asked;
mod builder;
pub mod completion;
#[cfg(feature = "control")]
pub mod control;
mod current;
pub mod datagram;
mod error;
mod family;
#[cfg(feature = "futures")]
pub mod futures;
mod given;
mod host;
mod moving;
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

/// The README's example is one of ours.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}

pub use builder::Builder;
pub use engine::port;
#[doc(inline)]
pub use engine::{
    Blocks, BusyPoll, Limits, Meters, PoolSnapshot, PortSnapshot, ShardSnapshot, Splice,
};
pub use error::Error;
pub use host::Host;
pub use poll::{Events, Interest, Poll, Registry, Token, Waker, event};
#[doc(inline)]
pub use stack::{
    BbrInfo, Config, Congestion, CongestionInfo, ConnectionInfo, DctcpInfo, EcnCounters,
    FastOpenFail, InterfaceId, Keepalive, ListPlace, MtuDiscover, Recovery, RouteMetrics,
    SettingError, SocketFilter, SocketPage, SocketRow, State, TcpAccount, TcpInfo, TcpMemory,
    TcpOptions, TcpTunables, Transport, UdpOptions,
};
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;
#[doc(inline)]
pub use wire::Mac;

/// What a host counts: frames and segments it dropped, each with a reason, and what else happens. See [`Host::counters`] and
/// [`ShardSnapshot`].
///
/// ```
/// use millstream::counters::Count;
///
/// # let host = millstream::Host::builder().start()?;
/// let now = host.snapshot()?;
/// println!("{} datagrams sent, {} frames dropped", now.counts.get(Count::UdpSent), now.drops.total());
/// for (reason, frames) in now.drops.iter().filter(|(_, frames)| *frames > 0) {
///     println!("{frames} because {}", reason.describe());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub mod counters {
    #[doc(inline)]
    pub use base::Tally;
    #[doc(inline)]
    pub use stack::{Count, Drop};
}

/// What a process has besides its hosts, in numbers, for tools: the sets of [`Poll`]s ([`sets`](diagnosis::sets)), the groups
/// of buffers of completion queues. Of one host see [`Host::list`], [`Host::completion_queues`], [`Host::buffers`] and
/// [`Host::tcp_tables`].
///
/// ```
/// let _poll = millstream::Poll::new()?;
/// let sets = millstream::diagnosis::sets();
/// assert!(sets.iter().any(|set| set.kind == "poll" && set.watched == 0));
/// # Ok::<(), std::io::Error>(())
/// ```
pub mod diagnosis {
    #[doc(inline)]
    pub use engine::diagnosis::{GroupRow, QueueRow, SetRow, buffer_groups, sets};
    #[doc(inline)]
    pub use stack::{BufferInfo, ListenerInfo, TcpTables};
}

/// Sockets that share one address and port (SO_REUSEPORT): how they divide what comes, see [`TcpListener::share_by`] and
/// [`UdpSocket::share_by`].
///
/// ```
/// use millstream::UdpOptions;
/// use millstream::reuseport::ReusePort;
///
/// # let host = millstream::Host::builder().start()?;
/// let options = UdpOptions { reuse_port: true, ..UdpOptions::default() };
/// let bind = || host.udp_bind_with("127.0.0.1:53", &options);
/// let workers = [bind()?, bind()?, bind()?, bind()?];
/// // A number there is no worker of leaves the choice to the tuple.
/// let by_length = |_tuple: &_, data: &[u8]| data.len();
/// workers[0].share_by(ReusePort::Program(Box::new(by_length)))?;
///
/// host.udp_bind("127.0.0.1:0")?.send_to(b"...", "127.0.0.1:53")?;
/// assert_eq!(workers[3].recv(&mut [0; 512])?, 3);
/// # Ok::<(), std::io::Error>(())
/// ```
pub mod reuseport {
    #[doc(inline)]
    pub use stack::{BadFilter, Filter, Instruction, Program, ReusePort, Tuple};
}

/// Applications that live on the shard: run to completion, without a crossing of threads.
///
/// [`Builder::build_with`] makes a shard of an [`App`](shard::App); run it in your thread or
/// [`spawn`](shard::Shard::spawn) it. `examples/src/bin/echo_shard.rs` is the whole of such a server.
/// [`Builder::build_shards_with`] does so for a host of several shards: an application for each.
///
/// ```
/// use millstream::port::ring::{RingOptions, pair};
/// use millstream::shard::{App, Event, ShardCx};
/// use millstream::{Host, Mac};
///
/// /// Answers datagrams, one turn after the other.
/// struct Echo;
///
/// impl App for Echo {
///     type Command = ();
///
///     fn on_start(&mut self, cx: &mut ShardCx<'_>) {
///         let local = "0.0.0.0:7".parse().expect("an address");
///         cx.host.udp_bind(cx.now, local, &Default::default()).expect("nobody else is there");
///     }
///
///     fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
///         let mut buffer = [0; 2048];
///         while let Ok((n, from)) = cx.host.udp_recv_from(event.socket, &mut buffer) {
///             let _ = cx.host.udp_send_to(cx.now, event.socket, &buffer[..n], Some(from));
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = || millstream::Config { duplicate_detection: false, ..Default::default() };
/// let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
/// let (here, there) = pair(macs, &RingOptions::default())?;
/// let shard = Host::builder().port(here).address("10.77.0.2/24").config(config()).build_with(Echo)?;
/// let mut thread = shard.spawn()?;
///
/// let client = Host::builder().port(there).address("10.77.0.1/24").config(config()).start()?;
/// let socket = client.udp_bind("0.0.0.0:0")?;
/// socket.send_to(b"hello", "10.77.0.2:7")?;
/// assert_eq!(socket.recv(&mut [0; 16])?, 5);
/// thread.stop()?;
/// # Ok(())
/// # }
/// ```
pub mod shard {
    #[doc(inline)]
    pub use base::Instant;
    #[doc(inline)]
    pub use base::{Chain, Pool};
    #[doc(inline)]
    pub use engine::{
        App, Driver, PostError, Reply, Shard, ShardCx, ShardError, ShardHandle, ShardThread,
        ShardThreads, Shards, Sockets,
    };
    #[doc(inline)]
    pub use stack::{
        ConfigError, ErrorReport, Event, Host, Notice, NoticeKind, Outgoing, Ready, Received,
        Route, Shutdown, SocketError, SocketId, Urgent, Write,
    };
}
