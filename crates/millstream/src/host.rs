//! A running host: the handle from which everything else comes.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use base::Tally;
use engine::diagnosis::QueueRow;
use engine::{Notice, ShardHandle, ShardSnapshot, ShardThread, Sockets};
use stack::{
    BufferInfo, Count, Drop, ListPlace, SocketFilter, SocketPage, TcpMemory, TcpOptions, TcpTables,
    TcpTunables, UdpOptions,
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
    shard: ShardHandle<Notice>,
    started: Instant,
    thread: Mutex<Option<ShardThread<Notice>>>,
    #[cfg(feature = "tokio")]
    reservations: Reservations,
}

/// A host that runs in its own thread. Cheap to clone; the last clone that is dropped stops it.
///
/// Sockets do not keep their host alive: when it has stopped, their calls fail and say so.
#[derive(Debug, Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

impl Host {
    /// Begins to put a host together.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(sockets: Sockets, thread: ShardThread<Notice>) -> Self {
        let shard = thread.handle().clone();
        Self {
            inner: Arc::new(Inner {
                sockets,
                shard,
                started: Instant::now(),
                thread: Mutex::new(Some(thread)),
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

    /// Does something with the stack between two turns of the shard.
    #[cfg(feature = "tokio")]
    pub(crate) fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut stack::Host, base::Instant) -> T + Send + 'static,
    ) -> engine::Reply<T> {
        self.inner.shard.call(call)
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
    /// ```no_run
    /// # fn example(host: &millstream::Host) -> std::io::Result<()> {
    /// let listener = host.tcp_listen("0.0.0.0:80")?;
    /// let (stream, peer) = listener.accept()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tcp_listen(&self, addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
        self.tcp_listen_backlog(addr, BACKLOG)
    }

    /// As [`Host::tcp_listen`], with room for `backlog` connections that wait to be accepted; [`Host::tcp_listen`] has room for 128.
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
    /// ```no_run
    /// # fn example(host: &millstream::Host) -> std::io::Result<()> {
    /// let mut options = host.tcp_options();
    /// options.only_v6 = true;
    /// let listener = host.tcp_listen_with("[::]:80", 1024, &options)?;
    /// # Ok(())
    /// # }
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
    /// ```no_run
    /// # fn example(host: &millstream::Host) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut options = host.tcp_options();
    /// options.max_segment = Some(1_200);
    /// let stream = host.tcp_connect_with("10.77.0.1:80", Some("10.77.0.2:0".parse()?), &options)?;
    /// # Ok(())
    /// # }
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
    /// ```no_run
    /// # fn example(host: &millstream::Host) -> std::io::Result<()> {
    /// let stream = host.tcp_connect("10.77.0.1:80")?;
    /// println!("from {} to {}", stream.local_addr()?, stream.peer_addr()?);
    /// # Ok(())
    /// # }
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
    /// ```no_run
    /// # fn example(host: &millstream::Host) -> std::io::Result<()> {
    /// let socket = host.udp_bind("[::]:0")?;
    /// socket.send_to(b"hello", "10.77.0.1:7")?;
    /// # Ok(())
    /// # }
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
    /// ```no_run
    /// use millstream::UdpOptions;
    ///
    /// # fn example(host: &millstream::Host) -> std::io::Result<()> {
    /// let shared = UdpOptions { reuse_addr: true, ..UdpOptions::default() };
    /// let socket = host.udp_bind_with("0.0.0.0:5353", &shared)?;
    /// # Ok(())
    /// # }
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
    /// # Errors
    /// ENOBUFS when more is asked of the host than it can take; the host has stopped.
    pub fn completion_queue(&self, options: QueueOptions) -> io::Result<CompletionQueue> {
        self.sockets()
            .completion_queue(options.capacity, options.workers)
    }

    /// What the host is doing, with its first 100 connections: for tools. Waits for the shard's next turn.
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
        self.inner
            .shard
            .snapshot(connections)
            .wait()
            .ok_or_else(stopped)
    }

    /// As [`Host::snapshot_with`], for tasks of any runtime.
    ///
    /// # Errors
    /// The host has stopped.
    pub async fn snapshot_async(&self, connections: usize) -> io::Result<ShardSnapshot> {
        self.inner
            .shard
            .snapshot(connections)
            .await
            .ok_or_else(stopped)
    }

    /// A part of the list of all sockets, for tools: looks at `look_at` records from `place` on, some hundreds at a time. The
    /// list goes on at the page's `next`.
    ///
    /// ```no_run
    /// use millstream::{ListPlace, SocketFilter};
    ///
    /// # async fn example(host: &millstream::Host) -> std::io::Result<()> {
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
        let page = move |host: &mut stack::Host, now| host.list(now, &filter, place, look_at);
        self.inner.shard.call(page).await.ok_or_else(stopped)
    }

    /// For how long the host has run, what it dropped and what else happened, for tools.
    ///
    /// # Errors
    /// The host has stopped.
    pub async fn counters(&self) -> io::Result<(Duration, Tally<Drop>, Tally<Count>)> {
        let started = self.inner.started;
        let counters = |host: &mut stack::Host, _| {
            let stats = host.stats();
            (stats.drops.clone(), stats.counts.clone())
        };
        let told = self.inner.shard.call(counters).await.ok_or_else(stopped)?;
        Ok((started.elapsed(), told.0, told.1))
    }

    /// The packet memory that TCP holds, and may (`tcp_mem`).
    ///
    /// # Errors
    /// The host has stopped.
    pub async fn tcp_memory(&self) -> io::Result<TcpMemory> {
        let memory = |host: &mut stack::Host, _| host.tcp_memory();
        self.inner.shard.call(memory).await.ok_or_else(stopped)
    }

    /// Packet memory, and who holds it: blocks of 2 KiB.
    ///
    /// # Errors
    /// The host has stopped.
    ///
    /// ```no_run
    /// # async fn example(host: &millstream::Host) -> std::io::Result<()> {
    /// let buffers = host.buffers().await?;
    /// println!("{} of {} blocks in use", buffers.in_use, buffers.blocks);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn buffers(&self) -> io::Result<BufferInfo> {
        let buffers = |host: &mut stack::Host, _| host.buffers();
        self.inner.shard.call(buffers).await.ok_or_else(stopped)
    }

    /// How full TCP's tables are.
    ///
    /// # Errors
    /// The host has stopped.
    ///
    /// ```no_run
    /// # async fn example(host: &millstream::Host) -> std::io::Result<()> {
    /// let (connections, most) = host.tcp_tables().await?.connections;
    /// println!("{connections} of {most} connections");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn tcp_tables(&self) -> io::Result<TcpTables> {
        let tables = |host: &mut stack::Host, _| host.tcp_tables();
        self.inner.shard.call(tables).await.ok_or_else(stopped)
    }

    /// The host's completion queues, for tools. The host itself is not asked, so this does not wait.
    ///
    /// ```no_run
    /// # fn example(host: &millstream::Host) {
    /// for queue in host.completion_queues() {
    ///     println!("{} operations under way, {} completions to take", queue.outstanding, queue.completions);
    /// }
    /// # }
    /// ```
    pub fn completion_queues(&self) -> Vec<QueueRow> {
        self.sockets().completion_queues()
    }

    /// How TCP is tuned now.
    ///
    /// # Errors
    /// The host has stopped.
    pub async fn tcp_tunables(&self) -> io::Result<TcpTunables> {
        let tunables = |host: &mut stack::Host, _| host.tcp_tunables();
        self.inner.shard.call(tunables).await.ok_or_else(stopped)
    }

    /// Tunes TCP while the host runs, for what begins from now on, by the names of Linux's `net.ipv4.tcp_*`.
    ///
    /// ```no_run
    /// # async fn example(host: &millstream::Host) -> std::io::Result<()> {
    /// host.tune_tcp("congestion_control", "bbr").await?;
    /// host.tune_tcp("ecn", 1).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` with the reason, and nothing has changed; the host has stopped.
    pub async fn tune_tcp(&self, name: &str, value: impl ToString) -> io::Result<()> {
        let (name, value) = (name.to_owned(), value.to_string());
        let tune = move |host: &mut stack::Host, _| {
            let mut tunables = host.tcp_tunables();
            let set = tunables.set_text(&name, &value);
            let set = set.map_err(|error| error.to_string());
            set.and_then(|()| {
                let taken = host.set_tcp_tunables(tunables);
                taken.map_err(|error| error.to_string())
            })
        };
        let tuned = self.inner.shard.call(tune).await.ok_or_else(stopped)?;
        tuned.map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// Whether the host has ended, because it was stopped or its ports have failed.
    pub fn is_stopped(&self) -> bool {
        let thread = self
            .inner
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_none_or(ShardThread::is_finished)
    }

    /// Stops the host: what was written is sent (for [`Builder::drain`] at most), connections are closed, all calls of its
    /// sockets fail from then on. Waits until its thread has ended. Dropping the last clone of the host does the same.
    ///
    /// ```no_run
    /// # fn example(host: millstream::Host) -> Result<(), millstream::Error> {
    /// host.stop()?;
    /// assert!(host.is_stopped());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Why it had ended before: all its ports had failed, or its thread panicked.
    pub fn stop(&self) -> Result<(), Error> {
        let mut thread = self
            .inner
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match thread.take() {
            Some(mut thread) => Ok(thread.stop()?),
            None => Ok(()),
        }
    }
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
