//! A TCP listener with tokio's face.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use ::tokio::net::ToSocketAddrs;
use engine::TcpListenerSocket;

use super::stream::TcpStream;
use super::{addresses, attempt, none};
use crate::Host;

/// Connections that may wait to be accepted: tokio's default.
const BACKLOG: usize = 1024;

/// A TCP listener, as tokio's. Dropping it closes it, and resets the connections nobody accepted.
///
/// ```no_run
/// use tokio::io::AsyncWriteExt;
///
/// # async fn example(host: millstream::Host) -> std::io::Result<()> {
/// let listener = millstream::tokio::TcpListener::bind_on(&host, "0.0.0.0:13").await?;
/// loop {
///     let (mut stream, _peer) = listener.accept().await?;
///     tokio::spawn(async move { stream.write_all(b"it is late\r\n").await });
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct TcpListener {
    listener: crate::TcpListener,
}

impl TcpListener {
    /// Listens on the default host ([`Host::make_default`]). Port 0: one that is free.
    ///
    /// # Errors
    /// As [`Host::tcp_listen`]; `NetworkDown` without a default host.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::bind_on(&Host::current()?, addr).await
    }

    /// Listens on `addr` of `host`. Port 0: one that is free.
    ///
    /// # Errors
    /// As [`Host::tcp_listen`].
    pub async fn bind_on<A: ToSocketAddrs>(host: &Host, addr: A) -> io::Result<Self> {
        let mut last = none();
        for addr in addresses(addr).await? {
            match Self::bind_one(host, addr).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn bind_one(host: &Host, addr: SocketAddr) -> io::Result<Self> {
        let opening = host.sockets().tcp_listen(addr, BACKLOG)?;
        Ok(Self::from_socket(opening.opened().await?))
    }

    pub(super) fn from_socket(socket: TcpListenerSocket) -> Self {
        Self {
            listener: crate::TcpListener::new(socket),
        }
    }

    /// Makes an async listener of a blocking one. Clones of that one go on beside it.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn from_std(listener: crate::TcpListener) -> io::Result<Self> {
        Ok(Self { listener })
    }

    /// Makes a listener with std's face of one with tokio's. As tokio's it does not block, unless told to.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn into_std(self) -> io::Result<crate::TcpListener> {
        self.listener.set_nonblocking(true)?;
        Ok(self.listener)
    }

    /// The next connection and where it comes from.
    ///
    /// # Errors
    /// The host has stopped.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`TcpListener::accept`], for a poll function.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let socket = self.listener.socket();
        let accepted = ready!(attempt(
            cx,
            || socket.try_accept(),
            |cx| socket.poll_acceptable(cx)
        ));
        Poll::Ready(accepted.map(|(socket, peer)| (TcpStream::from_socket(socket), peer)))
    }

    /// As [`TcpListener::accept`], but never fails: when the host has stopped, it waits for ever. What servers with an
    /// infallible accept loop need, such as axum's `Listener`.
    pub async fn accept_forever(&self) -> (TcpStream, SocketAddr) {
        match self.accept().await {
            Ok(accepted) => accepted,
            // A listener's errors are final: it is gone, and nobody will ever come.
            Err(_) => std::future::pending().await,
        }
    }

    /// The address it listens on, with the real port.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The time to live (hop limit) of connections accepted from now on: 1 to 255.
    ///
    /// # Errors
    /// `InvalidInput` for other values; the host has stopped.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.listener.set_ttl(ttl)
    }

    /// The time to live (hop limit) of accepted connections.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn ttl(&self) -> io::Result<u32> {
        self.listener.ttl()
    }
}

impl TryFrom<crate::TcpListener> for TcpListener {
    type Error = io::Error;

    fn try_from(listener: crate::TcpListener) -> io::Result<Self> {
        Self::from_std(listener)
    }
}

/// axum serves the listener as it serves tokio's. When the host has stopped, nobody comes any more.
#[cfg(feature = "axum")]
impl axum::serve::Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        self.accept_forever().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}
