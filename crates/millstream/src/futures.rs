//! TCP and UDP for any async runtime: the same sockets, with [`AsyncRead`](futures_io::AsyncRead) and
//! [`AsyncWrite`](futures_io::AsyncWrite) of futures-io, and the names that smol's sockets have.
//!
//! They need no reactor, only wakers: `futures::executor::block_on` is enough, and so is smol or async-std.
//!
//! ```no_run
//! use millstream::futures::TcpListener;
//!
//! # async fn example() -> std::io::Result<()> {
//! let listener = TcpListener::bind("0.0.0.0:7").await?;
//! let (stream, peer) = listener.accept().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Names are looked up by the system's resolver, which blocks: a task that must not resolves before it connects.
//!
//! What does not live here: queues and wake-ups (`engine`), tokio's face (`millstream::tokio`, with the feature `tokio`).

mod stream;
mod udp;

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::Host;
use crate::host::unresolved;

pub use stream::TcpStream;
pub use udp::UdpSocket;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 1024;

/// Repeats `call` until it gives anything but `WouldBlock`; registers the task with `wait` in between.
fn attempt<T>(
    cx: &mut Context<'_>,
    mut call: impl FnMut() -> io::Result<T>,
    mut wait: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Poll<io::Result<T>> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(wait(cx)),
            done => return Poll::Ready(done),
        }
    }
}

/// A TCP listener for tasks of any runtime.
#[derive(Debug, Clone)]
pub struct TcpListener {
    listener: std::sync::Arc<crate::TcpListener>,
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
        let addrs: Vec<SocketAddr> = addr.to_socket_addrs()?.collect();
        let mut last = unresolved();
        for addr in addrs {
            let opening = host.sockets().tcp_listen(addr, BACKLOG)?;
            match opening.opened().await {
                Ok(socket) => return Ok(crate::TcpListener::new(socket).into()),
                Err(error) => last = error,
            }
        }
        Err(last)
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
        Poll::Ready(accepted.map(|(socket, peer)| (TcpStream::new(socket), peer)))
    }

    /// Connections as they come, as a [`Stream`] that never ends.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address it listens on, with the real port.
    ///
    /// # Errors
    /// None; the result is that of the method elsewhere.
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
    /// None; the result is that of the method elsewhere.
    pub fn ttl(&self) -> io::Result<u32> {
        self.listener.ttl()
    }
}

/// The same listener; clones of the one with std's face go on beside it.
impl From<crate::TcpListener> for TcpListener {
    fn from(listener: crate::TcpListener) -> Self {
        Self {
            listener: listener.into(),
        }
    }
}

/// Connections of a [`TcpListener`] as they come.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = ready!(self.listener.poll_accept(cx));
        Poll::Ready(Some(accepted.map(|(stream, _)| stream)))
    }
}
