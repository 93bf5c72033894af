//! A TCP connection with the traits of futures-io.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use engine::TcpSocket;
use futures_io::{AsyncRead, AsyncWrite};
use stack::{Keepalive, TcpOptions};

use super::attempt;
use crate::Host;
use crate::host::unresolved;
use crate::tcp::stream_options;

/// A TCP connection for tasks of any runtime. The last clone that is dropped closes it.
///
/// ```no_run
/// use futures_util::io::{AsyncReadExt, AsyncWriteExt};
///
/// # async fn example(host: millstream::Host) -> std::io::Result<()> {
/// let mut stream = millstream::futures::TcpStream::connect_on(&host, "10.77.0.1:80").await?;
/// stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
/// let mut page = String::new();
/// stream.read_to_string(&mut page).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TcpStream {
    socket: Arc<TcpSocket>,
}

impl TcpStream {
    pub(super) fn new(socket: TcpSocket) -> Self {
        Self {
            socket: Arc::new(socket),
        }
    }

    fn socket(&self) -> &TcpSocket {
        &self.socket
    }

    /// Connects the default host ([`Host::make_default`]) to `addr`: to the first address that can be connected to.
    ///
    /// # Errors
    /// As [`Host::tcp_connect`]; `NetworkDown` without a default host.
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::connect_on(&Host::current()?, addr).await
    }

    /// Connects `host` to `addr`.
    ///
    /// # Errors
    /// As [`Host::tcp_connect`].
    pub async fn connect_on<A: ToSocketAddrs>(host: &Host, addr: A) -> io::Result<Self> {
        let addrs: Vec<SocketAddr> = addr.to_socket_addrs()?.collect();
        let mut last = unresolved();
        for addr in addrs {
            let socket = host.sockets().tcp_connect(addr, None)?;
            let decided = loop {
                match socket.connected() {
                    Some(decided) => break decided,
                    None => poll_fn(|cx| socket.poll_writable(cx)).await,
                }
            };
            match decided {
                Ok(()) => return Ok(Self::new(socket)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// This end's address.
    ///
    /// # Errors
    /// None once connected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The other end's address.
    ///
    /// # Errors
    /// `NotConnected` when the connection is over.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Ends reading, writing or both.
    ///
    /// # Errors
    /// `NotConnected` when the connection is over.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.shutdown(how)
    }

    /// Reads without taking: the next read gives the same bytes.
    ///
    /// # Errors
    /// As reading.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let socket = self.socket();
        poll_fn(|cx| attempt(cx, || socket.try_peek(buf), |cx| socket.poll_readable(cx))).await
    }

    /// Waits until there may be something to read.
    ///
    /// # Errors
    /// None: errors are those of the read that follows.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.socket.poll_readable(cx)).await;
        Ok(())
    }

    /// Waits until there may be room to write.
    ///
    /// # Errors
    /// None: errors are those of the write that follows.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.socket.poll_writable(cx)).await;
        Ok(())
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket();
        attempt(cx, || socket.try_read(bufs), |cx| socket.poll_readable(cx))
    }

    fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let socket = self.socket();
        attempt(cx, || socket.try_write(bufs), |cx| socket.poll_writable(cx))
    }

    fn close(&self) -> io::Result<()> {
        match self.socket.shutdown(Shutdown::Write) {
            // The peer was first: there is nothing left to end.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        }
    }
}

stream_options!(TcpStream, socket);

/// The same connection; clones of the one with std's face go on beside it.
impl From<crate::TcpStream> for TcpStream {
    fn from(stream: crate::TcpStream) -> Self {
        Self {
            socket: stream.shared().clone(),
        }
    }
}

/// The same connection with std's face, which blocks.
impl From<TcpStream> for crate::TcpStream {
    fn from(stream: TcpStream) -> Self {
        Self::from_shared(stream.socket)
    }
}

macro_rules! traits {
    ($($stream:ty),+) => {$(
        impl AsyncRead for $stream {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                TcpStream::poll_read(&self, cx, &mut [IoSliceMut::new(buf)])
            }

            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                TcpStream::poll_read(&self, cx, bufs)
            }
        }

        impl AsyncWrite for $stream {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                TcpStream::poll_write(&self, cx, &[IoSlice::new(buf)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                TcpStream::poll_write(&self, cx, bufs)
            }

            fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            /// Sends the FIN; reading goes on.
            fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(self.close())
            }
        }
    )+};
}

traits!(TcpStream, &TcpStream);
