//! TCP and UDP with the face of `tokio::net`: the same sockets, with [`AsyncRead`](::tokio::io::AsyncRead) and
//! [`AsyncWrite`](::tokio::io::AsyncWrite).
//!
//! They need no tokio I/O driver, only wakers, so they run on any of its runtimes. Anything built on tokio's traits runs on
//! them unchanged: hyper, axum, rustls.
//!
//! ```no_run
//! # async fn example(host: millstream::Host) -> std::io::Result<()> {
//! let listener = millstream::tokio::TcpListener::bind(&host, "0.0.0.0:7").await?;
//! loop {
//!     let (mut stream, _peer) = listener.accept().await?;
//!     tokio::spawn(async move {
//!         let (mut read, mut write) = stream.split();
//!         let _ = tokio::io::copy(&mut read, &mut write).await;
//!     });
//! }
//! # }
//! ```
//!
//! # axum
//!
//! `axum::serve` takes anything that implements its `Listener`; an own type around [`TcpListener`] does:
//!
//! ```
//! struct Front(millstream::tokio::TcpListener);
//!
//! impl axum::serve::Listener for Front {
//!     type Io = millstream::tokio::TcpStream;
//!     type Addr = std::net::SocketAddr;
//!
//!     async fn accept(&mut self) -> (Self::Io, Self::Addr) {
//!         self.0.accept_forever().await
//!     }
//!
//!     fn local_addr(&self) -> std::io::Result<Self::Addr> {
//!         self.0.local_addr()
//!     }
//! }
//!
//! # async fn example(host: millstream::Host) -> Result<(), Box<dyn std::error::Error>> {
//! let listener = millstream::tokio::TcpListener::bind(&host, "0.0.0.0:80").await?;
//! let pages = axum::Router::new().route("/", axum::routing::get(|| async { "Hello" }));
//! axum::serve(Front(listener), pages).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What does not live here: queues and wake-ups (`engine`).

mod split;
mod stream;
mod udp;

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::task::{Context, Poll, ready};

use ::tokio::task::coop;

use crate::Host;

pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use stream::TcpStream;
pub use udp::UdpSocket;

/// Repeats `call` until it gives anything but `WouldBlock`; registers the task with `wait` in between.
///
/// Takes from the task's budget, so that a socket that is always ready lets other tasks run.
fn attempt<T>(
    cx: &mut Context<'_>,
    mut call: impl FnMut() -> io::Result<T>,
    mut wait: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Poll<io::Result<T>> {
    let budget = ready!(coop::poll_proceed(cx));
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(wait(cx)),
            done => {
                budget.made_progress();
                return Poll::Ready(done);
            }
        }
    }
}

/// The addresses of `addrs`. Names are looked up by the system's resolver, which blocks; addresses cost nothing.
fn addresses(addrs: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    Ok(addrs.to_socket_addrs()?.collect())
}

fn none() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "could not resolve to any address",
    )
}

/// A TCP listener, as tokio's.
#[derive(Debug)]
pub struct TcpListener {
    listener: crate::TcpListener,
}

impl TcpListener {
    /// Listens on `addr` of `host`. Port 0: one that is free.
    ///
    /// # Errors
    /// As [`Host::tcp_listen`].
    pub async fn bind(host: &Host, addr: impl ToSocketAddrs) -> io::Result<Self> {
        let mut last = none();
        for addr in addresses(addr)? {
            match Self::bind_one(host, addr).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn bind_one(host: &Host, addr: SocketAddr) -> io::Result<Self> {
        let socket = host.sockets().tcp_listen(addr, 1024)?.opened().await?;
        Ok(Self {
            listener: crate::TcpListener::new(socket),
        })
    }

    /// Makes an async listener of a blocking one. Clones of that one go on beside it.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn from_std(listener: crate::TcpListener) -> io::Result<Self> {
        Ok(Self { listener })
    }

    /// Makes a blocking listener of an async one.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn into_std(self) -> io::Result<crate::TcpListener> {
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
