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

use super::{addresses, attempt, part_of};
use crate::Host;
use crate::given::stream_gives;
use crate::tasks::{end_writing, stream_calls};
use crate::tcp::{stream_options, stream_splices};

/// A TCP connection for tasks of any runtime. The last clone that is dropped closes it.
///
/// ```
/// use futures_util::io::{AsyncReadExt, AsyncWriteExt};
/// use millstream::futures::TcpStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let host = millstream::Host::builder().start()?;
/// # let listener = millstream::futures::TcpListener::bind_on(&host, "127.0.0.1:80").await?;
/// # tokio::spawn(async move {
/// #     let (mut stream, _) = listener.accept().await?;
/// #     stream.read(&mut [0; 64]).await?;
/// #     stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nHello").await
/// # });
/// let mut stream = TcpStream::connect_on(&host, "127.0.0.1:80").await?;
/// stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
/// let mut page = String::new();
/// stream.read_to_string(&mut page).await?;
/// assert!(page.ends_with("Hello"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TcpStream {
    socket: Arc<TcpSocket>,
}

impl TcpStream {
    /// Ends reading, writing or both.
    ///
    /// # Errors
    /// `NotConnected` when the connection is over.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.shutdown(how)
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
}

stream_calls!(TcpStream);
stream_options!(TcpStream, socket);
stream_splices!(TcpStream, shared);
stream_gives!(TcpStream);

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
                Poll::Ready(end_writing(self.socket()))
            }
        }
    )+};
}

traits!(TcpStream, &TcpStream);
