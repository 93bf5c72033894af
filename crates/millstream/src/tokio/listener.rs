//! A TCP listener with tokio's face.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use ::tokio::net::ToSocketAddrs;
use engine::TcpListenerSocket;

use super::stream::TcpStream;
use super::{addresses, attempt};
use crate::Host;
use crate::tasks::listener_calls;

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

    /// As [`TcpListener::accept`], but never fails: when the host has stopped, it waits for ever. What servers with an
    /// infallible accept loop need, such as axum's `Listener`.
    pub async fn accept_forever(&self) -> (TcpStream, SocketAddr) {
        match self.accept().await {
            Ok(accepted) => accepted,
            // A listener's errors are final: it is gone, and nobody will ever come.
            Err(_) => std::future::pending().await,
        }
    }
}

listener_calls!(TcpListener);

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
