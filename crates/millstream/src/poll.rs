//! Readiness for many sockets at once, with the names, signatures and habits of mio, and epoll's semantics to the bit.
//!
//! A [`Poll`] sleeps until one of the sources registered with it is ready, whichever of the process's hosts they are of. What
//! costs is what is ready: a million sources that are silent cost nothing.
//!
//! ```no_run
//! use std::io::{ErrorKind, Read, Write};
//! use std::collections::HashMap;
//!
//! use millstream::{Events, Host, Interest, Poll, TcpStream, Token};
//!
//! const LISTENER: Token = Token(0);
//!
//! # fn serve(host: &Host) -> std::io::Result<()> {
//! let mut poll = Poll::new()?;
//! let mut events = Events::with_capacity(256);
//! let listener = host.tcp_listen("0.0.0.0:7")?;
//! listener.set_nonblocking(true)?;
//! poll.registry().register(&listener, LISTENER, Interest::READABLE)?;
//! let mut streams: HashMap<Token, TcpStream> = HashMap::new();
//! let mut next = 1;
//! loop {
//!     poll.poll(&mut events, None)?;
//!     for event in &events {
//!         if event.token() == LISTENER {
//!             // An edge is told once: everything that is there has to be taken.
//!             while let Ok((stream, _peer)) = listener.accept() {
//!                 stream.set_nonblocking(true)?;
//!                 poll.registry().register(&stream, Token(next), Interest::READABLE)?;
//!                 streams.insert(Token(next), stream);
//!                 next += 1;
//!             }
//!         } else if let Some(stream) = streams.get_mut(&event.token()) {
//!             let mut buffer = [0; 4096];
//!             loop {
//!                 match stream.read(&mut buffer) {
//!                     Ok(n @ 1..) => println!("{n} bytes"),
//!                     Err(error) if error.kind() == ErrorKind::WouldBlock => break,
//!                     // Dropping a stream takes it out.
//!                     _ => break drop(streams.remove(&event.token())),
//!                 }
//!             }
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! `examples/src/bin/echo_poll.rs` is the whole of such a server.
//!
//! # Where it differs from mio
//!
//! - Sockets are made by a [`Host`] and block unless told not to ([`TcpStream::set_nonblocking`]); both kinds can be registered.
//!   [`Host::tcp_begin_connect`] is mio's `TcpStream::connect`.
//! - Sources are registered by shared reference; `&mut` does as well.
//! - All clones of a socket are one source. The last that is dropped takes it out; mio asks for [`Registry::deregister`].
//! - An [`Interest`] says how, too: [`Interest::level`], [`Interest::one_shot`], [`Interest::exclusive`]. Without, it is an edge,
//!   as with mio.
//! - The number of sources is bounded: [`Poll::with_capacity`].
//! - Timeouts are exact to the nanosecond, as far as the machine's clock and scheduler are.
//! - There are no descriptors, so files, pipes and sockets of the kernel's cannot be registered.
//!
//! What does not live here: the sets (`engine`), their semantics (`base::epoll`).

pub mod event;
mod interest;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::epoll::{EPOLLET, EPOLLIN, EpollEvent};
use engine::{Bell, Selector, WatchedSocket};

pub use event::{Event, Events, Source};
pub use interest::Interest;

use crate::{Host, TcpStream};

/// Sources a [`Poll`] has room for, unless told otherwise: twice the connections a host has by default.
const CAPACITY: usize = 128 * 1024;
/// Sources there may be at most: some gigabytes for their bookkeeping.
const CAPACITY_MAX: usize = 1 << 24;

/// The word by which an [`Event`] tells which source it is about. The application's choice; nothing has to be unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub usize);

impl From<Token> for usize {
    fn from(token: Token) -> usize {
        token.0
    }
}

/// A set of sources to wait for. Dropping it, and all [`Registry`]s of it, leaves the sources as they are.
///
/// See the [module](self) for an example.
#[derive(Debug)]
pub struct Poll {
    registry: Registry,
}

impl Poll {
    /// A set with room for 131,072 sources.
    ///
    /// # Errors
    /// None; the result is that of mio's method.
    pub fn new() -> io::Result<Self> {
        Self::with_capacity(CAPACITY)
    }

    /// A set with room for `sources` sources, wakers among them; what is beyond is refused with ENOSPC. The memory, about 120 bytes
    /// for each, is reserved here and touched when it is used.
    ///
    /// # Errors
    /// `InvalidInput` for more than 16,777,216.
    pub fn with_capacity(sources: usize) -> io::Result<Self> {
        let capacity = u32::try_from(sources).ok();
        let capacity = capacity.filter(|_| sources <= CAPACITY_MAX);
        let capacity = capacity.ok_or_else(|| invalid("a poll has at most 16777216 sources"))?;
        Ok(Self {
            registry: Registry {
                selector: Arc::new(Selector::new(capacity)?),
            },
        })
    }

    /// Where sources are registered.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Waits until a source is ready, at most `timeout` (`None`: for ever; nought: not at all), and puts what is ready into `events`,
    /// which is emptied first. What was ready first comes first, and what finds no room comes first the next time; 256 are told at a
    /// time, for whoever makes sources ready waits as long. When the time is up, there are no events.
    ///
    /// An event says that something may be done, not that it can: whoever comes first may have done it.
    ///
    /// # Errors
    /// `InvalidInput` for events that have no room for any.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use millstream::{Events, Poll};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut poll = Poll::new()?;
    /// let mut events = Events::with_capacity(16);
    /// poll.poll(&mut events, Some(Duration::from_micros(50)))?;
    /// assert!(events.is_empty(), "nothing was registered, so the time was up");
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        let room = events.capacity();
        if room == 0 {
            return Err(invalid("there is no room for any event"));
        }
        let selector = &self.registry.selector;
        selector.wait(room, timeout, &mut |event| events.push(event));
        Ok(())
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Registers sources with a [`Poll`], from any thread, also while it is waited for.
///
/// ```
/// use std::time::Duration;
///
/// use millstream::{Events, Interest, Poll, Token};
///
/// # let host = millstream::Host::builder().start()?;
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(16);
/// let socket = host.udp_bind("127.0.0.1:7")?;
/// poll.registry().register(&socket, Token(7), Interest::READABLE)?;
/// poll.registry().reregister(&socket, Token(8), Interest::READABLE | Interest::WRITABLE)?;
/// poll.poll(&mut events, None)?;
/// let event = events.iter().next().expect("there is room to send");
/// assert!(event.token() == Token(8) && event.is_writable() && !event.is_readable());
///
/// poll.registry().deregister(&socket)?;
/// poll.poll(&mut events, Some(Duration::ZERO))?;
/// assert!(events.is_empty() && poll.registry().is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Registry {
    selector: Arc<Selector>,
}

impl Registry {
    /// Watches a source: its events bear `token`, until it is deregistered or its last handle is dropped. What it is ready for
    /// already is told.
    ///
    /// # Errors
    /// `AlreadyExists` when it is registered with this [`Poll`]; ENOSPC when there is no room for it; `InvalidInput` for
    /// [`Interest::exclusive`] with what cannot be had so; `NotConnected` when the host has stopped.
    ///
    /// See [`Registry`] for an example.
    pub fn register<S>(&self, source: &S, token: Token, interests: Interest) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        self.selector
            .add(&source.watched(), wanted(token, interests.bits()))
    }

    /// Wants something else of a source, or something more of one that was told once. What it is ready for already is told.
    ///
    /// # Errors
    /// `NotFound` when it is not registered with this [`Poll`]; `InvalidInput` when it was registered as exclusive, or would be
    /// now; `NotConnected` when the host has stopped.
    pub fn reregister<S>(&self, source: &S, token: Token, interests: Interest) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        self.selector
            .modify(&source.watched(), wanted(token, interests.bits()))
    }

    /// Watches a source no more: also what it was ready for before is not told.
    ///
    /// # Errors
    /// `NotFound` when it is not registered with this [`Poll`].
    pub fn deregister<S>(&self, source: &S) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        self.selector.delete(&source.watched())
    }

    /// Another handle of the same registry.
    ///
    /// # Errors
    /// None; the result is that of mio's method.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            selector: self.selector.clone(),
        })
    }

    /// Sources that are registered, wakers among them.
    pub fn len(&self) -> usize {
        self.selector.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.selector.is_empty()
    }

    /// Sources there is room for.
    pub fn capacity(&self) -> usize {
        self.selector.capacity()
    }
}

fn wanted(token: Token, events: u32) -> EpollEvent {
    EpollEvent {
        events,
        data: token.0 as u64,
    }
}

/// Ends the wait of a [`Poll`] from any thread. It is one of its sources until it is dropped, and what was not told by then is
/// not told any more; there may be several.
///
/// ```
/// use std::thread;
///
/// use millstream::{Events, Poll, Token, Waker};
///
/// # fn main() -> std::io::Result<()> {
/// let mut poll = Poll::new()?;
/// let waker = Waker::new(poll.registry(), Token(0))?;
/// let mut events = Events::with_capacity(16);
/// thread::scope(|scope| {
///     scope.spawn(|| waker.wake());
///     poll.poll(&mut events, None)
/// })?;
/// let event = events.iter().next().expect("it was woken");
/// assert!(event.token() == Token(0) && event.is_readable());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Waker {
    bell: Bell,
}

impl Waker {
    /// A waker whose events bear `token`.
    ///
    /// # Errors
    /// ENOSPC when there is no room for it.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let bell = Bell::new();
        let ways = wanted(token, EPOLLIN | EPOLLET);
        registry.selector.add(&bell.watched(), ways)?;
        Ok(Self { bell })
    }

    /// Has the [`Poll`] tell an event that is readable; one for all calls since the last. Does nothing when the poll has gone.
    ///
    /// # Errors
    /// None; the result is that of mio's method.
    pub fn wake(&self) -> io::Result<()> {
        self.bell.ring();
        Ok(())
    }
}

impl Host {
    /// Begins to connect, as mio's `TcpStream::connect`: the stream is there at once, and does not block. It is writable when the
    /// attempt has ended; then [`TcpStream::take_error`] tells why it failed, and [`TcpStream::peer_addr`] that it did not.
    ///
    /// # Errors
    /// The host has stopped; ENOBUFS when more is asked of it than it can take.
    ///
    /// ```
    /// use millstream::{Events, Interest, Poll, Token};
    ///
    /// # let host = millstream::Host::builder().start()?;
    /// # let listener = host.tcp_listen("127.0.0.1:80")?;
    /// let mut poll = Poll::new()?;
    /// let stream = host.tcp_begin_connect("127.0.0.1:80".parse().expect("an address"))?;
    /// poll.registry().register(&stream, Token(1), Interest::WRITABLE)?;
    /// poll.poll(&mut Events::with_capacity(16), None)?;
    /// assert!(stream.take_error()?.is_none(), "it is connected");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn tcp_begin_connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.sockets().tcp_connect(addr, None)?;
        let stream = TcpStream::from_shared(Arc::new(socket));
        stream.set_nonblocking(true)?;
        Ok(stream)
    }
}

/// What a set asks of a source.
pub(crate) mod sealed {
    use super::WatchedSocket;

    pub trait Watched {
        fn watched(&self) -> WatchedSocket;
    }
}
