//! Sockets for other threads: handles that are `Send` and `Sync`, over a shard that is neither.
//!
//! # How it works
//!
//! A handle and the shard share one record per socket: queues of bytes each way, flags, an error, and who waits. The
//! application changes the record and, if no notice about this socket is under way, leaves one in the shard's mailbox. The
//! shard ([`Driver`]) looks at the sockets it has notices about and those the stack reports events of, moves bytes between
//! the record and the stack, and wakes who waits. Nothing else is looked at.
//!
//! What does not live here: the stack, the turn (`shard`), how a notice travels (`mailbox`), the faces of std and tokio.
//!
//! Invariant: at most one notice per socket is in the mailbox, so sockets bound it.
//! Invariant: the shard holds a socket's lock for a swap and some flags, never for a copy of more than a small chunk.
//! Invariant: when the shard goes away, every socket fails and every waiter wakes.

mod blocks;
mod chunk;
mod driver;
mod error;
mod given;
mod lent;
mod listener;
mod moving;
mod ready;
mod splice;
mod tcp;
mod udp;
mod waiters;
mod watch;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use stack::{Sharding, SocketError, TcpOptions, UdpOptions};
use wire::Addr;

pub use blocks::Blocks;
pub use driver::Driver;
pub use error::io_error;
pub(crate) use error::stopped;
pub use listener::TcpListenerSocket;
pub use splice::Splice;
pub use tcp::TcpSocket;
pub(crate) use udp::Arrival;
pub use udp::{Ecn, Packet, RecvMeta, Transmit, UdpHandle};
pub use waiters::deadline;
pub use watch::{Bell, Selector, WatchedSocket};

use crate::completion::{CompletionQueue, QueueShared};
use crate::diagnosis::{QueueRow, Register};
use crate::mailbox::{Mailbox, PostError};
use crate::reply::{Reply, Sender, reply};
use crate::shard::Message;
use crate::steer::{Moved, UdpPorts, spreads};
use chunk::ChunkPool;
use driver::Newcomer;
use lent::Returns;
use listener::ListenerShared;
use tcp::{Phase, TcpShared};
use udp::UdpShared;

/// The token of a socket the driver has not seen yet.
pub(crate) const TOKEN_NONE: u64 = u64::MAX;
/// That of one that came to nothing before it had a place, or was moved and has none on its new shard yet: no socket's.
pub(crate) const TOKEN_GONE: u64 = u64::MAX - 1;

/// Says that the shard should look at a socket. Opaque: made by handles, understood by [`Driver`].
///
/// Invariant: a notice is looked at, or its socket fails when the notice is dropped.
#[derive(Debug)]
pub struct Notice(Option<Subject>);

#[derive(Debug)]
enum Subject {
    Tcp(Arc<TcpShared>),
    Listener(Arc<ListenerShared>),
    Udp(Arc<UdpShared>),
    /// And the number of the shard.
    Queue(Arc<QueueShared>, usize),
    /// Loans have come back.
    Returns(Arc<Door>),
    /// A connection comes from another shard.
    Arrival(Box<Newcomer>),
}

impl Subject {
    /// `None` of what is no socket.
    fn token(&self) -> Option<&AtomicU64> {
        Some(match self {
            Subject::Tcp(shared) => &shared.token,
            Subject::Listener(shared) => &shared.token,
            Subject::Udp(shared) => &shared.token,
            Subject::Queue(shared, shard) => &shared.part(*shard).token,
            Subject::Returns(_) | Subject::Arrival(_) => return None,
        })
    }

    fn taken(&self) {
        match self {
            Subject::Tcp(shared) => shared.taken(),
            Subject::Listener(shared) => shared.taken(),
            Subject::Udp(shared) => shared.taken(),
            Subject::Queue(shared, shard) => shared.taken(*shard),
            Subject::Returns(door) => door.returns.taken(),
            Subject::Arrival(_) => {}
        }
    }

    fn fail_stopped(&self) {
        match self {
            Subject::Tcp(shared) => shared.fail_stopped(),
            Subject::Listener(shared) => shared.fail_stopped(),
            Subject::Udp(shared) => shared.fail_stopped(),
            Subject::Queue(shared, shard) => shared.fail_stopped(*shard),
            Subject::Returns(_) => {}
            Subject::Arrival(arrival) => arrival.shared().fail_stopped(),
        }
    }
}

impl Notice {
    fn take(mut self) -> Option<Subject> {
        self.0.take()
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if let Some(subject) = self.0.take() {
            subject.fail_stopped();
        }
    }
}

/// The two ways a record of any kind calls the shard's attention to itself.
macro_rules! notices {
    ($($shared:ty => $subject:ident),+) => {$(
        impl $shared {
            /// Asks the shard to look at this socket. Call after the state was changed and unlocked.
            ///
            pub(crate) fn notice(self: &Arc<Self>) {
                self.door.leave(&self.noticed, || Subject::$subject(self.clone()));
            }

            /// The first notice: refused when the mailbox is full.
            pub(crate) fn introduce(self: &Arc<Self>) -> io::Result<()> {
                self.door.leave_first(&self.noticed, Subject::$subject(self.clone()))
            }

            /// The shard has the notice in hand and will look now.
            pub(crate) fn taken(&self) {
                self.noticed.swap(false, Ordering::AcqRel);
            }
        }
    )+};
}

notices!(ListenerShared => Listener, UdpShared => Udp);

impl TcpShared {
    /// As of other sockets; the shard that has a connection may change.
    pub(crate) fn notice(self: &Arc<Self>) {
        let subject = || Subject::Tcp(self.clone());
        match self.was_moved() {
            false => self.door.leave(&self.noticed, subject),
            true => self.now_at().leave(&self.noticed, subject),
        }
    }

    /// The first notice: refused when the mailbox is full.
    fn introduce(self: &Arc<Self>) -> io::Result<()> {
        self.door
            .leave_first(&self.noticed, Subject::Tcp(self.clone()))
    }

    fn taken(&self) {
        self.noticed.swap(false, Ordering::AcqRel);
    }
}

impl QueueShared {
    /// Asks a shard to look at its part of the queue.
    pub(crate) fn notice(self: &Arc<Self>, shard: usize) {
        let part = self.part(shard);
        let subject = || Subject::Queue(self.clone(), shard);
        part.door.leave(&part.noticed, subject);
    }

    /// The first notices.
    fn introduce(self: &Arc<Self>) -> io::Result<()> {
        (0..self.shards()).try_for_each(|shard| {
            let part = self.part(shard);
            let subject = Subject::Queue(self.clone(), shard);
            part.door.leave_first(&part.noticed, subject)
        })
    }

    fn taken(&self, shard: usize) {
        self.part(shard).noticed.swap(false, Ordering::AcqRel);
    }
}

/// Bytes a socket may hold outside of the stack, each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Received and not read by the application.
    pub receive: usize,
    /// Written and not taken by the stack.
    pub send: usize,
}

impl Limits {
    /// The least that works: three datagrams of the largest size.
    pub const MIN: usize = 192 * 1024;

    fn checked(self) -> Self {
        Self {
            receive: self.receive.max(Self::MIN),
            send: self.send.max(Self::MIN),
        }
    }
}

impl Default for Limits {
    /// 512 KiB each way.
    fn default() -> Self {
        Self {
            receive: 512 * 1024,
            send: 512 * 1024,
        }
    }
}

/// What all sockets of one host share.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) mailbox: Arc<Mailbox<Message<Notice>>>,
    pub(crate) chunks: ChunkPool,
    pub(crate) returns: Returns,
    pub(crate) limits: Limits,
    /// The options new TCP sockets begin with.
    pub(crate) tcp_options: TcpOptions,
    /// The host's completion queues, for tools.
    pub(crate) queues: Register<QueueShared>,
    /// Those to the other shards, if there are any.
    pub(crate) fellows: moving::Joined,
}

/// Makes sockets of one host, from any thread.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// To each shard, the leading one's first.
    doors: Arc<[Arc<Door>]>,
    /// If there are several.
    group: Option<Arc<Group>>,
}

/// What tells which shard a new socket belongs to.
#[derive(Debug)]
pub(crate) struct Group {
    sharding: Sharding,
    pub(crate) udp: Arc<UdpPorts>,
    /// The shard for the next connection that may be on any.
    next: AtomicUsize,
    /// Numbers operations of completion queues that are found by their words.
    order: AtomicU64,
}

impl Group {
    /// The shard where a connection will live: that of its flow, or any, which chooses a port whose replies come to it.
    pub(crate) fn shard_for(&self, remote: SocketAddr, local: Option<SocketAddr>) -> usize {
        match local.map_or(0, |local| local.port()) {
            0 => self.next.fetch_add(1, Ordering::Relaxed) % self.sharding.shards(),
            port => {
                let peer = Addr::from(remote.ip());
                self.sharding.home(&peer, remote.port(), port)
            }
        }
    }

    /// The next number: no two are the same.
    pub(crate) fn order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed)
    }
}

impl Door {
    /// The shard's number among all of the process, so that a handle of another is known.
    pub(crate) fn host(&self) -> u32 {
        self.mailbox.id() as u32
    }

    /// Leaves a notice, unless one is under way already. The shard clears the flag before it looks, so a change that finds the flag
    /// set is seen by the look that is still to come.
    fn leave(&self, noticed: &AtomicBool, subject: impl FnOnce() -> Subject) {
        if noticed.swap(true, Ordering::AcqRel) {
            return;
        }
        let message = Message::App(Notice(Some(subject())));
        // A refused notice is dropped, which fails the socket: the shard is gone.
        let _ = self.mailbox.post_unbounded(message);
    }

    /// As [`Door::leave`], of something new.
    fn leave_first(&self, noticed: &AtomicBool, subject: Subject) -> io::Result<()> {
        noticed.store(true, Ordering::Release);
        let message = Message::App(Notice(Some(subject)));
        let left = self.mailbox.post(message);
        left.map_err(|(_, why)| refused(why))
    }
}

impl Sockets {
    pub(crate) fn new(
        mailbox: Arc<Mailbox<Message<Notice>>>,
        limits: Limits,
        tcp_options: TcpOptions,
    ) -> Self {
        let limits = limits.checked();
        Self {
            doors: Arc::new([Arc::new(Door {
                mailbox,
                chunks: ChunkPool::default(),
                returns: Returns::default(),
                limits,
                tcp_options,
                queues: Register::new(),
                fellows: moving::Joined::new(),
            })]),
            group: None,
        }
    }

    /// The sockets of all shards of a host.
    pub(crate) fn joined(
        shards: &[Self],
        sharding: Sharding,
        udp: Arc<UdpPorts>,
        moved: &Arc<Moved>,
    ) -> Self {
        let doors: Arc<[_]> = shards.iter().map(|shard| shard.door().clone()).collect();
        moving::join(&doors, sharding, moved);
        let group = Group {
            sharding,
            udp,
            next: AtomicUsize::new(0),
            order: AtomicU64::new(0),
        };
        Self {
            doors,
            group: Some(Arc::new(group)),
        }
    }

    /// The leading shard's.
    pub(crate) fn door(&self) -> &Arc<Door> {
        &self.doors[0]
    }

    /// That of the shard where a connection will live.
    fn door_for(&self, remote: SocketAddr, local: Option<SocketAddr>) -> &Arc<Door> {
        match &self.group {
            Some(group) => &self.doors[group.shard_for(remote, local)],
            None => self.door(),
        }
    }

    /// Begins a TCP connection to `remote`, from `local` if given. It is under way when this returns: wait until it is
    /// writable, then ask [`TcpSocket::connected`].
    ///
    /// # Errors
    /// The host has stopped; ENOBUFS when more is asked of it than it can take.
    pub fn tcp_connect(
        &self,
        remote: SocketAddr,
        local: Option<SocketAddr>,
    ) -> io::Result<TcpSocket> {
        self.tcp_connect_with(remote, local, self.tcp_options())
    }

    /// As [`Sockets::tcp_connect`], with these options from the first segment on.
    ///
    /// # Errors
    /// As [`Sockets::tcp_connect`].
    pub fn tcp_connect_with(
        &self,
        remote: SocketAddr,
        local: Option<SocketAddr>,
        options: TcpOptions,
    ) -> io::Result<TcpSocket> {
        let remote = meant(remote, local);
        let door = self.door_for(remote, local).clone();
        let shared = TcpShared::new(door, Phase::Connecting, remote, local);
        shared.state().options = options;
        let shared = Arc::new(shared);
        shared.introduce()?;
        Ok(TcpSocket::new(shared))
    }

    /// The options TCP sockets begin with: the host's own.
    pub fn tcp_options(&self) -> TcpOptions {
        self.door().tcp_options.clone()
    }

    /// Begins to listen on `local` (port 0: any). Connections begin with the host's own TCP options.
    ///
    /// # Errors
    /// As [`Sockets::tcp_connect`].
    pub fn tcp_listen(
        &self,
        local: SocketAddr,
        backlog: usize,
    ) -> io::Result<Opening<TcpListenerSocket>> {
        self.tcp_listen_with(local, backlog, self.tcp_options())
    }

    /// As [`Sockets::tcp_listen`]; connections begin with these options.
    ///
    /// # Errors
    /// As [`Sockets::tcp_connect`].
    pub fn tcp_listen_with(
        &self,
        local: SocketAddr,
        backlog: usize,
        options: TcpOptions,
    ) -> io::Result<Opening<TcpListenerSocket>> {
        let (sender, answer) = reply();
        let shared = ListenerShared::on_all(&self.doors, local, backlog, &options, sender);
        shared.introduce()?;
        Ok(Opening {
            socket: TcpListenerSocket::new(shared),
            answer,
        })
    }

    /// A completion queue: `capacity` operations under way and completions that wait, together; `concurrency` workers that may
    /// have something in hand at a time.
    ///
    /// # Errors
    /// As [`Sockets::tcp_connect`].
    pub fn completion_queue(
        &self,
        capacity: usize,
        concurrency: usize,
    ) -> io::Result<CompletionQueue> {
        let queue = CompletionQueue::new(&self.doors, self.group.clone(), capacity, concurrency);
        queue.shared().introduce()?;
        Ok(queue)
    }

    /// The host's completion queues, for tools.
    pub fn completion_queues(&self) -> Vec<QueueRow> {
        let queues = self.door().queues.each();
        let open = queues.iter().filter(|queue| !queue.state().is_closed());
        open.map(|queue| queue.row()).collect()
    }

    /// Begins to bind a UDP socket to `local` (port 0: any).
    ///
    /// # Errors
    /// As [`Sockets::tcp_connect`].
    pub fn udp_bind(
        &self,
        mut local: SocketAddr,
        options: UdpOptions,
    ) -> io::Result<Opening<UdpHandle>> {
        let (sender, answer) = reply();
        let claim = match &self.group {
            Some(group) => {
                let claim = group.udp.claim(local.ip(), local.port(), spreads(&options));
                Some(claim.map_err(io_error)?)
            }
            None => None,
        };
        let door = match &claim {
            Some(claim) => {
                local.set_port(claim.port);
                &self.doors[claim.shard]
            }
            None => self.door(),
        };
        let shared = Arc::new(UdpShared::new(door.clone(), local, options, sender, claim));
        shared.introduce()?;
        Ok(Opening {
            socket: UdpHandle::new(shared),
            answer,
        })
    }
}

/// Who is meant by `to`: the unspecified address is this host, by the address the socket is bound to or the loopback one, as on
/// Linux (`ip_route_output_key`).
pub(crate) fn meant(mut to: SocketAddr, bound: Option<SocketAddr>) -> SocketAddr {
    if to.ip().is_unspecified() {
        let own = bound
            .map(|own| own.ip())
            .filter(|own| !own.is_unspecified());
        to.set_ip(own.unwrap_or(match to {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        }));
    }
    to
}

/// An address as a socket shows it that was made with `like`: one of IPv6 shows IPv4 v4-mapped, as on Linux.
pub(crate) fn shown(addr: SocketAddr, like: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) if like.is_ipv6() => {
            SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
        }
        addr => addr,
    }
}

/// What the shard says of a request.
pub(crate) type Answer = Sender<io::Result<()>>;

/// A socket whose address is being bound. Dropping it gives the socket up.
#[derive(Debug)]
#[must_use = "the socket is of use once it is bound"]
pub struct Opening<S> {
    socket: S,
    answer: Reply<io::Result<()>>,
}

impl<S> Opening<S> {
    /// Blocks until the socket is bound.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` and what else bind(2) gives; the host has stopped.
    pub fn wait(self) -> io::Result<S> {
        answered(self.answer.wait()).map(|()| self.socket)
    }

    /// As [`Opening::wait`], for a task.
    ///
    /// # Errors
    /// As [`Opening::wait`].
    pub async fn opened(self) -> io::Result<S> {
        answered(self.answer.await).map(|()| self.socket)
    }
}

/// An answer, or that the host has stopped.
///
/// # Errors
/// That of the answer; `NotConnected` ("the host has stopped") of `None`.
pub fn answered<T>(answer: Option<io::Result<T>>) -> io::Result<T> {
    answer.unwrap_or_else(|| Err(stopped()))
}

/// The error of a notice that was not taken.
fn refused(why: PostError) -> io::Error {
    match why {
        PostError::Closed => stopped(),
        PostError::Full => io_error(SocketError::NoBuffers),
    }
}
