//! A running host: the handle from which everything else comes.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base::Tally;
use engine::diagnosis::QueueRow;
use engine::{Inspector, Notice, ShardHandle, ShardSnapshot, ShardThreads, Sockets, io_error};
use stack::{
    BufferInfo, Count, Drop, InterfaceId, ListPlace, SocketError, SocketFilter, SocketPage,
    TcpMemory, TcpOptions, TcpTables, TcpTunables, UdpOptions,
};

use crate::builder::Builder;
use crate::completion::{CompletionQueue, QueueOptions};
use crate::error::Error;
#[cfg(feature = "tokio")]
use crate::reserve::Reservations;
use crate::tcp::{TcpListener, TcpStream};
use crate::udp::UdpSocket;

/// Connections that may wait to be accepted, unless told otherwise: Linux's default for `std::net`.
const BACKLOG: usize = 128;

#[derive(Debug)]
pub(crate) struct Inner {
    sockets: Sockets,
    inspector: Inspector<Notice>,
    threads: Mutex<Option<ShardThreads>>,
    #[cfg(feature = "tokio")]
    reservations: Reservations,
}

/// A host that runs in its own thread, or in several ([`Builder::shards`]). Cheap to clone; the last clone that is dropped stops it.
///
/// Sockets do not keep their host alive: when it has stopped, their calls fail and say so.
///
/// ```
/// use std::io::{Read, Write};
///
/// use millstream::Host;
///
/// // Without a port a host speaks with itself only, as by 127.0.0.1.
/// let host = Host::builder().start()?;
/// let listener = host.tcp_listen("127.0.0.1:7")?;
/// let mut stream = host.tcp_connect("127.0.0.1:7")?;
/// let (mut accepted, peer) = listener.accept()?;
/// assert_eq!(peer, stream.local_addr()?);
///
/// accepted.write_all(b"hello")?;
/// drop(accepted);
/// let mut text = String::new();
/// stream.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

impl Host {
    /// Begins to put a host together: see [`Builder`].
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(sockets: Sockets, threads: ShardThreads) -> Self {
        let inspector = Inspector::new(threads.handles());
        Self {
            inner: Arc::new(Inner {
                sockets,
                inspector,
                threads: Mutex::new(Some(threads)),
                #[cfg(feature = "tokio")]
                reservations: Reservations::default(),
            }),
        }
    }

    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    pub(crate) fn upgrade(weak: &Weak<Inner>) -> Option<Self> {
        weak.upgrade().map(|inner| Self { inner })
    }

    /// Does something with the stack of the leading shard between two turns of it.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut stack::Host, base::Instant) -> T + Send + 'static,
    ) -> engine::Reply<T> {
        self.each_shard()[0].call(call)
    }

    /// The leading one first.
    fn each_shard(&self) -> &[ShardHandle<Notice>] {
        self.inner.inspector.shards()
    }

    /// Whether all shards have this address.
    pub(crate) fn has_address(&self, address: std::net::IpAddr) -> bool {
        let shards = self.each_shard().iter();
        let replies: Vec<_> = shards
            .map(|shard| shard.call(move |host, _| host.is_local(address)))
            .collect();
        replies.into_iter().all(|reply| reply.wait() == Some(true))
    }

    /// How many shards the host has: see [`Builder::shards`].
    pub fn shards(&self) -> usize {
        self.each_shard().len()
    }

    /// The interface with this name, as the port says it; `lo` is the loopback: for [`TcpOptions::device`](crate::TcpOptions). Waits for the
    /// shard's next turn.
    ///
    /// # Errors
    /// ENODEV; the host has stopped.
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    ///
    /// # let host = millstream::Host::builder().start()?;
    /// let lo = host.interface("lo")?;
    /// let socket = host.udp_bind((Ipv4Addr::UNSPECIFIED, 53))?;
    /// socket.set_options(|options| options.device = Some(lo))?;
    /// assert_eq!(socket.device()?.as_deref(), Some(&b"lo"[..]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn interface(&self, name: &str) -> io::Result<InterfaceId> {
        let name = name.to_owned();
        let found = self.call(move |host, _| host.interface_named(&name)).wait();
        let device = found.ok_or_else(stopped)?;
        device.ok_or_else(|| io_error(SocketError::NoSuchDevice))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn interface_name(&self, id: InterfaceId) -> io::Result<String> {
        let name = self.call(move |host, _| host.interface_name(id).map(str::to_owned));
        let name = name.wait().ok_or_else(stopped)?;
        name.ok_or_else(|| io_error(SocketError::NoSuchDevice))
    }

    /// As [`Host::tcp_tunables`], for who may wait.
    #[cfg(feature = "tokio")]
    pub(crate) fn tunables(&self) -> io::Result<TcpTunables> {
        let tunables = self.call(|host, _| host.tcp_tunables());
        tunables.wait().ok_or_else(stopped)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn reservations(&self) -> &Reservations {
        &self.inner.reservations
    }

    pub(crate) fn sockets(&self) -> &Sockets {
        &self.inner.sockets
    }

    /// Listens for TCP connections, as [`std::net::TcpListener::bind`]. Port 0: one that is free.
    ///
    /// # Errors
    /// `AddrInUse`; `AddrNotAvailable` when the address is not the host's; the host has stopped.
    ///
    /// ```
    /// # let host = millstream::Host::builder().start()?;
    /// let listener = host.tcp_listen("0.0.0.0:80")?;
    /// # let client = host.tcp_connect("127.0.0.1:80")?;
    /// let (stream, peer) = listener.accept()?;
    /// assert_eq!(stream.peer_addr()?, peer);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn tcp_listen(&self, addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
        self.tcp_listen_backlog(addr, BACKLOG)
    }

    /// As [`Host::tcp_listen`], with room for `backlog` connections that wait to be accepted (listen(2)); [`Host::tcp_listen`] has
    /// room for 128.
    ///
    /// ```
    /// # let host = millstream::Host::builder().start()?;
    /// let busy = host.tcp_listen_backlog("0.0.0.0:80", 4096)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Host::tcp_listen`].
    pub fn tcp_listen_backlog(
        &self,
        addr: impl ToSocketAddrs,
        backlog: usize,
    ) -> io::Result<TcpListener> {
        each(addr, |addr| {
            let opening = self.sockets().tcp_listen(addr, backlog)?;
            Ok(TcpListener::new(opening.wait()?))
        })
    }

    /// As [`Host::tcp_listen_backlog`], with options from the beginning, which accepted connections begin with too: what is
    /// announced in the handshake ([`TcpOptions::max_segment`], [`TcpOptions::receive_buffer`]) and whether `[::]` takes IPv4
    /// ([`TcpOptions::only_v6`]) is settled here.
    ///
    /// ```
    /// # let host = millstream::Host::builder().start()?;
    /// let mut options = host.tcp_options();
    /// options.only_v6 = true;
    /// let listener = host.tcp_listen_with("[::]:80", 1024, &options)?;
    /// assert!(host.tcp_connect("[::1]:80").is_ok());
    /// assert!(host.tcp_connect("127.0.0.1:80").is_err(), "nobody listens there");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Host::tcp_listen`].
    pub fn tcp_listen_with(
        &self,
        addr: impl ToSocketAddrs,
        backlog: usize,
        options: &TcpOptions,
    ) -> io::Result<TcpListener> {
        each(addr, |addr| {
            let sockets = self.sockets();
            let opening = sockets.tcp_listen_with(addr, backlog, options.clone())?;
            Ok(TcpListener::new(opening.wait()?))
        })
    }

    /// The options TCP sockets of this host begin with: those of its [`Config`](crate::Config).
    pub fn tcp_options(&self) -> TcpOptions {
        self.sockets().tcp_options()
    }

    /// As [`Host::tcp_connect`], with options from the first segment on, and from the address `local` if one is given (port 0:
    /// any).
    ///
    /// ```
    /// # let host = millstream::Host::builder().start()?;
    /// # let listener = host.tcp_listen("127.0.0.1:80")?;
    /// let mut options = host.tcp_options();
    /// options.max_segment = Some(1_200); // bytes
    /// let from = "127.0.0.1:4000".parse().expect("an address");
    /// let stream = host.tcp_connect_with("127.0.0.1:80", Some(from), &options)?;
    /// assert_eq!(stream.local_addr()?, from);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Host::tcp_connect`]; `AddrNotAvailable` when `local` is not the host's, `AddrInUse` when it has such a connection.
    pub fn tcp_connect_with(
        &self,
        addr: impl ToSocketAddrs,
        local: Option<SocketAddr>,
        options: &TcpOptions,
    ) -> io::Result<TcpStream> {
        each(addr, |addr| {
            let sockets = self.sockets();
            let socket = sockets.tcp_connect_with(addr, local, options.clone())?;
            TcpStream::connecting(socket, None)
        })
    }

    /// Connects, as [`std::net::TcpStream::connect`]: to the first address that can be connected to. Waits as long as TCP tries,
    /// some two minutes unless the host is tuned otherwise.
    ///
    /// ```
    /// # let host = millstream::Host::builder().start()?;
    /// # let listener = host.tcp_listen("127.0.0.1:80")?;
    /// let stream = host.tcp_connect("127.0.0.1:80")?;
    /// println!("from {} to {}", stream.local_addr()?, stream.peer_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut`, `HostUnreachable`, `NetworkUnreachable` and what else a kernel socket gives; the
    /// host has stopped.
    pub fn tcp_connect(&self, addr: impl ToSocketAddrs) -> io::Result<TcpStream> {
        each(addr, |addr| {
            TcpStream::connect_by(self.sockets(), addr, None)
        })
    }

    /// Connects, waiting at most `timeout`, as [`std::net::TcpStream::connect_timeout`].
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use std::time::Duration;
    ///
    /// # let host = millstream::Host::builder().start()?;
    /// let nobody = "127.0.0.1:80".parse().expect("an address");
    /// let error = host.tcp_connect_timeout(&nobody, Duration::from_secs(5)).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Host::tcp_connect`]; `TimedOut` when the time is up; `InvalidInput` for no time at all.
    pub fn tcp_connect_timeout(
        &self,
        addr: &SocketAddr,
        timeout: Duration,
    ) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "cannot connect within no time",
            ));
        }
        TcpStream::connect_by(self.sockets(), *addr, Some(timeout))
    }

    /// Binds a UDP socket, as [`std::net::UdpSocket::bind`]. Port 0: one that is free.
    ///
    /// ```
    /// # let host = millstream::Host::builder().start()?;
    /// let server = host.udp_bind("127.0.0.1:7")?;
    /// let client = host.udp_bind("0.0.0.0:0")?;
    /// client.send_to(b"hello", "127.0.0.1:7")?;
    /// let mut buffer = [0; 2048];
    /// let (n, from) = server.recv_from(&mut buffer)?;
    /// assert_eq!((&buffer[..n], from.port()), (&b"hello"[..], client.local_addr()?.port()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Host::tcp_listen`].
    pub fn udp_bind(&self, addr: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        self.udp_bind_with(addr, &UdpOptions::default())
    }

    /// As [`Host::udp_bind`], with options from the beginning: how the address is shared (SO_REUSEADDR, SO_REUSEPORT) and
    /// whether an IPv6 socket takes IPv4 (IPV6_V6ONLY) is settled here.
    ///
    /// ```
    /// use millstream::UdpOptions;
    ///
    /// # let host = millstream::Host::builder().start()?;
    /// let shared = UdpOptions { reuse_addr: true, ..UdpOptions::default() };
    /// let socket = host.udp_bind_with("0.0.0.0:5353", &shared)?;
    /// let another = host.udp_bind_with("0.0.0.0:5353", &shared)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Host::tcp_listen`].
    pub fn udp_bind_with(
        &self,
        addr: impl ToSocketAddrs,
        options: &UdpOptions,
    ) -> io::Result<UdpSocket> {
        each(addr, |addr| {
            let opening = self.sockets().udp_bind(addr, *options)?;
            Ok(UdpSocket::new(opening.wait()?))
        })
    }

    /// A completion queue on this host: see [`completion`](crate::completion).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use millstream::completion::{Op, QueueOptions};
    ///
    /// # let host = millstream::Host::builder().start()?;
    /// let queue = host.completion_queue(QueueOptions::default())?;
    /// queue.submit(Op::timeout(Duration::from_micros(50)).token(7))?;
    /// let mut done = Vec::new();
    /// queue.wait(&mut done, 16, None)?;
    /// assert_eq!(done[0].token, 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// ENOBUFS when more is asked of the host than it can take; the host has stopped.
    pub fn completion_queue(&self, options: QueueOptions) -> io::Result<CompletionQueue> {
        self.sockets()
            .completion_queue(options.capacity, options.workers)
    }

    /// What the host is doing, with its first 100 connections: for tools. Waits for the shard's next turn.
    ///
    /// ```
    /// # let host = millstream::Host::builder().start()?;
    /// let now = host.snapshot()?;
    /// println!("up for {:?}, {} of {} blocks in use", now.uptime, now.pool.in_use, now.pool.capacity);
    /// assert!(now.connections.is_empty() && now.ports.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// The host has stopped.
    pub fn snapshot(&self) -> io::Result<ShardSnapshot> {
        self.snapshot_with(100)
    }

    /// As [`Host::snapshot`], with the first `connections` connections.
    ///
    /// # Errors
    /// The host has stopped.
    pub fn snapshot_with(&self, connections: usize) -> io::Result<ShardSnapshot> {
        let mut all = None;
        for reply in self.ask_snapshots(connections) {
            sum(&mut all, reply.wait(), connections)?;
        }
        all.ok_or_else(stopped)
    }

    fn ask_snapshots(&self, connections: usize) -> Vec<engine::Reply<ShardSnapshot>> {
        let shards = self.each_shard().iter();
        shards.map(|shard| shard.snapshot(connections)).collect()
    }

    /// As [`Host::snapshot_with`], for tasks of any runtime.
    ///
    /// # Errors
    /// The host has stopped.
    pub async fn snapshot_async(&self, connections: usize) -> io::Result<ShardSnapshot> {
        let mut all = None;
        for reply in self.ask_snapshots(connections) {
            sum(&mut all, reply.await, connections)?;
        }
        all.ok_or_else(stopped)
    }

    /// A part of the list of all sockets, for tools: looks at `look_at` records from `place` on, some hundreds at a time. The
    /// list goes on at the page's `next`.
    ///
    /// ```
    /// use millstream::{ListPlace, SocketFilter};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let host = millstream::Host::builder().start()?;
    /// # let listener = host.tcp_listen("127.0.0.1:80")?;
    /// let mut place = Some(ListPlace::default());
    /// while let Some(from) = place {
    ///     let page = host.list(SocketFilter::ALL, from, 256).await?;
    ///     for row in page.rows {
    ///         println!("{:?} {}", row.transport, row.socket.local);
    ///     }
    ///     place = page.next;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The host has stopped.
    pub async fn list(
        &self,
        filter: SocketFilter,
        place: ListPlace,
        look_at: u32,
    ) -> io::Result<SocketPage> {
        let page = self.inner.inspector.list(filter, place, look_at).await;
        page.ok_or_else(stopped)
    }

    /// For how long the host has run, what it dropped and what else happened, for tools.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let host = millstream::Host::builder().start()?;
    /// let (uptime, drops, counts) = host.counters().await?;
    /// for (reason, packets) in drops.iter().filter(|(_, packets)| *packets > 0) {
    ///     println!("in {uptime:?}: {packets} because {}", reason.describe());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The host has stopped.
    pub async fn counters(&self) -> io::Result<(Duration, Tally<Drop>, Tally<Count>)> {
        let counters = self.inner.inspector.counters().await;
        counters.ok_or_else(stopped)
    }

    /// The packet memory that TCP holds, and may (`tcp_mem`), in bytes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let host = millstream::Host::builder().start()?;
    /// let memory = host.tcp_memory().await?;
    /// let [_low, _pressure, max] = memory.levels;
    /// assert!(memory.bytes <= max);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The host has stopped.
    pub async fn tcp_memory(&self) -> io::Result<TcpMemory> {
        let sum = self.inner.inspector.tcp_memory().await;
        sum.ok_or_else(stopped)
    }

    /// Packet memory, and who holds it: blocks of 2 KiB.
    ///
    /// # Errors
    /// The host has stopped.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let host = millstream::Host::builder().start()?;
    /// let buffers = host.buffers().await?;
    /// println!("{} of {} blocks in use", buffers.in_use, buffers.blocks);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn buffers(&self) -> io::Result<BufferInfo> {
        let sum = self.inner.inspector.buffers().await;
        sum.ok_or_else(stopped)
    }

    /// How full TCP's tables are.
    ///
    /// # Errors
    /// The host has stopped.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let host = millstream::Host::builder().start()?;
    /// let (connections, most) = host.tcp_tables().await?.connections;
    /// println!("{connections} of {most} connections");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn tcp_tables(&self) -> io::Result<TcpTables> {
        let sum = self.inner.inspector.tcp_tables().await;
        sum.ok_or_else(stopped)
    }

    /// The host's completion queues, for tools. The host itself is not asked, so this does not wait.
    ///
    /// ```
    /// # let host = millstream::Host::builder().start()?;
    /// for queue in host.completion_queues() {
    ///     println!("{} operations under way, {} completions to take", queue.outstanding, queue.completions);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn completion_queues(&self) -> Vec<QueueRow> {
        self.sockets().completion_queues()
    }

    /// How TCP is tuned now: see [`Host::tune_tcp`] for an example.
    ///
    /// # Errors
    /// The host has stopped.
    pub async fn tcp_tunables(&self) -> io::Result<TcpTunables> {
        let tunables = self.inner.inspector.tcp_tunables().await;
        tunables.ok_or_else(stopped)
    }

    /// Tunes TCP while the host runs, for what begins from now on, by the names of Linux's `net.ipv4.tcp_*`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let host = millstream::Host::builder().start()?;
    /// host.tune_tcp("congestion_control", "bbr").await?;
    /// host.tune_tcp("ecn", 1).await?;
    /// let now = host.tcp_tunables().await?;
    /// assert_eq!(now.text("congestion_control").as_deref(), Some("bbr"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` with the reason, and nothing has changed; the host has stopped.
    pub async fn tune_tcp(&self, name: &str, value: impl ToString) -> io::Result<()> {
        let value = value.to_string();
        let tuned = self.inner.inspector.tune_tcp(name, &value).await;
        let tuned = tuned.ok_or_else(stopped)?;
        tuned.map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// Whether the host has ended, because it was stopped or its ports have failed.
    pub fn is_stopped(&self) -> bool {
        let threads = self
            .inner
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        threads.as_ref().is_none_or(ShardThreads::is_finished)
    }

    /// Stops the host: what was written is sent (for [`Builder::drain`] at most), connections are closed, all calls of its
    /// sockets fail from then on. Waits until its threads have ended. Dropping the last clone of the host does the same.
    ///
    /// ```
    /// # let host = millstream::Host::builder().start()?;
    /// host.stop()?;
    /// assert!(host.is_stopped());
    /// let why = host.tcp_listen("0.0.0.0:80").unwrap_err();
    /// assert_eq!(why.kind(), std::io::ErrorKind::NotConnected);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// Why it had ended before: all its ports had failed, or its thread panicked.
    pub fn stop(&self) -> Result<(), Error> {
        let mut threads = self
            .inner
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match threads.take() {
            Some(mut threads) => Ok(threads.stop()?),
            None => Ok(()),
        }
    }
}

/// Adds a shard's part.
fn sum(
    all: &mut Option<ShardSnapshot>,
    part: Option<ShardSnapshot>,
    connections: usize,
) -> io::Result<()> {
    let part = part.ok_or_else(stopped)?;
    match all {
        Some(all) => all.add(part, connections),
        None => *all = Some(part),
    }
    Ok(())
}

pub(crate) fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the host has stopped")
}

/// Tries the addresses in turn, as std does: the first success, or the last error.
pub(crate) fn each<T>(
    addrs: impl ToSocketAddrs,
    mut call: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for addr in addrs.to_socket_addrs()? {
        match call(addr) {
            Ok(made) => return Ok(made),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(unresolved))
}

/// What std says when there is no address to try.
pub(crate) fn unresolved() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "could not resolve to any address",
    )
}

/// The name of an interface as SO_BINDTODEVICE takes it: up to the first NUL. `None`: bound to none.
///
/// # Errors
/// ENODEV for what is no name.
pub(crate) fn device_name(interface: Option<&[u8]>) -> io::Result<Option<&str>> {
    let bytes = interface.unwrap_or_default();
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).map_err(|_| io_error(SocketError::NoSuchDevice))?;
    Ok(Some(name).filter(|name| !name.is_empty()))
}
