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
/// ```
/// use millstream::tokio::TcpListener;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let host = millstream::Host::builder().start()?;
/// let listener = TcpListener::bind_on(&host, "0.0.0.0:13").await?;
/// # let client = millstream::tokio::TcpStream::connect_on(&host, "127.0.0.1:13").await?;
/// # for _ in 0..1 {
/// // loop {
///     let (mut stream, _peer) = listener.accept().await?;
///     tokio::spawn(async move { stream.write_all(b"it is late\r\n").await });
/// // }
/// # }
/// # client.readable().await?;
/// # assert_eq!(client.try_read(&mut [0; 64])?, 12);
///
/// // One that blocks can be made of it, and the other way round.
/// let blocking = listener.into_std()?;
/// let listener = TcpListener::from_std(blocking)?;
/// # Ok(())
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
