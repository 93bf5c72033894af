//! TCP listeners with the face of `std::net`.
//!
//! What does not live here: the queue of connections (`engine`), connections (`tcp`).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use engine::{TcpListenerSocket, answered, io_error};
use stack::{ReusePort, SocketError, TcpOptions};

use super::TcpStream;
use crate::family;
use crate::host::Host;
use crate::waiting::Waiting;

#[derive(Debug)]
struct Listener {
    socket: TcpListenerSocket,
    waiting: Waiting,
}

/// A TCP listener, as [`std::net::TcpListener`]. Made by [`Host::tcp_listen`](crate::Host::tcp_listen) and
/// [`TcpListener::bind`]; the last clone that is dropped closes it, and resets the connections nobody accepted.
///
/// ```
/// use std::io::Write;
///
/// # use std::io::ErrorKind;
/// # let host = millstream::Host::builder().start()?;
/// let listener = host.tcp_listen("0.0.0.0:13")?;
/// // Connections that are accepted begin with these.
/// listener.set_ttl(32)?;
/// listener.set_options(|options| options.nodelay = true)?;
/// # let client = host.tcp_connect("127.0.0.1:13")?;
/// # listener.set_nonblocking(true)?;
/// for stream in listener.incoming() {
/// #   if stream.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) { break }
///     stream?.write_all(b"it is late\r\n")?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpListener {
    listener: Arc<Listener>,
}

impl TcpListener {
    pub(crate) fn new(socket: TcpListenerSocket) -> Self {
        Self {
            listener: Arc::new(Listener {
                socket,
                waiting: Waiting::default(),
            }),
        }
    }

    /// Listens on the default host ([`Host::make_default`]), as [`std::net::TcpListener::bind`]: on the first address that
    /// can be had. Port 0: one that is free.
    ///
    /// # Errors
    /// As [`Host::tcp_listen`]; `NetworkDown` without a default host.
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Host::current()?.tcp_listen(addr)
    }

    /// The next connection and where it comes from. Waits for one.
    ///
    /// # Errors
    /// `WouldBlock` when non-blocking; the host has stopped.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Listener { socket, waiting } = &*self.listener;
        let (socket, peer) = waiting.reading(
            || socket.try_accept(),
            |until| socket.wait_acceptable(until),
        )?;
        Ok((TcpStream::new(socket), peer))
    }

    /// Connections as they come; never `None`.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address it listens on, with the real port.
    ///
    /// # Errors
    /// None; the result is that of std's method.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.socket.local_addr()
    }

    /// Another handle of the same listener.
    ///
    /// # Errors
    /// None; the result is that of std's method.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            listener: self.listener.clone(),
        })
    }

    /// Makes [`TcpListener::accept`] give `WouldBlock` instead of waiting.
    ///
    /// # Errors
    /// None; the result is that of std's method.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.listener.waiting.set_nonblocking(nonblocking);
        Ok(())
    }

    /// The time to live (hop limit) of connections accepted from now on: 1 to 255.
    ///
    /// # Errors
    /// `InvalidInput` for other values; the host has stopped.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = super::ttl(ttl)?;
        self.listener
            .socket
            .set_options(|options| options.ttl = Some(ttl))
    }

    /// The time to live (hop limit) of accepted connections.
    ///
    /// # Errors
    /// None; the result is that of std's method.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.listener.socket.options().ttl.map_or(64, u32::from))
    }

    /// Refuses what std refuses: this can only be said before a socket is bound (IPV6_V6ONLY).
    ///
    /// # Errors
    /// Always: `InvalidInput` of an IPv6 listener, ENOPROTOOPT of an IPv4 one.
    #[deprecated(note = "this option can only be set before the socket is bound")]
    pub fn set_only_v6(&self, _only_v6: bool) -> io::Result<()> {
        family::sets_v6(self.local_addr()?)?;
        Err(io_error(SocketError::InvalidInput))
    }

    /// Whether a listener on `[::]` leaves IPv4 alone: only if it was made so ([`Host::tcp_listen_with`]).
    ///
    /// # Errors
    /// EOPNOTSUPP of an IPv4 listener.
    #[deprecated(note = "this option can only be set before the socket is bound")]
    pub fn only_v6(&self) -> io::Result<bool> {
        family::gets_v6(self.local_addr()?).map(|()| self.options().only_v6)
    }

    /// The options accepted connections begin with.
    pub fn options(&self) -> TcpOptions {
        self.listener.socket.options()
    }

    /// Changes any options accepted connections begin with. How the listener shares its address, and whether it takes IPv4, was
    /// settled when it was made.
    ///
    /// # Errors
    /// `InvalidInput` for a time to live of nought; the host has stopped.
    pub fn set_options(&self, change: impl FnOnce(&mut TcpOptions)) -> io::Result<()> {
        self.listener.socket.set_options(change)
    }

    /// Sets how this listener and those that share its address ([`TcpOptions::reuse_port`]) divide connections: for all of them, and
    /// for whatever comes once this has returned.
    ///
    /// ```
    /// use millstream::reuseport::ReusePort;
    ///
    /// # let host = millstream::Host::builder().start()?;
    /// let mut options = host.tcp_options();
    /// options.reuse_port = true;
    /// let first = host.tcp_listen_with("0.0.0.0:80", 128, &options)?;
    /// let standby = host.tcp_listen_with("0.0.0.0:80", 128, &options)?;
    /// first.share_by(ReusePort::Standby)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when it shares with nobody; the host has stopped.
    pub fn share_by(&self, how: ReusePort) -> io::Result<()> {
        answered(self.listener.socket.share_by(how).wait())
    }

    /// The listener's pending error, which it clears. There never is one.
    ///
    /// # Errors
    /// None; the result is that of std's method.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    pub(crate) fn socket(&self) -> &TcpListenerSocket {
        &self.listener.socket
    }
}

/// Connections of a [`TcpListener`] as they come: made by [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl std::iter::FusedIterator for Incoming<'_> {}
