//! A TCP connection with tokio's face.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ::tokio::net::ToSocketAddrs;
use bytes::BufMut;
use engine::TcpSocket;
use stack::{Keepalive, TcpOptions};

use super::ready::readiness;
use super::split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::{addresses, attempt, fill, part_of};
use crate::Host;
use crate::given::stream_gives;
use crate::tasks::{end_writing, stream_calls};
use crate::tcp::{stream_options, stream_splices};

/// Bytes read at once into a buffer that is not initialised.
const READ_MAX: usize = 64 * 1024;

/// A TCP connection, as tokio's. Dropping it closes the connection.
///
/// ```
/// use millstream::tokio::TcpStream;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let host = millstream::Host::builder().start()?;
/// # let listener = millstream::tokio::TcpListener::bind_on(&host, "127.0.0.1:80").await?;
/// # tokio::spawn(async move {
/// #     let (mut stream, _) = listener.accept().await?;
/// #     stream.read(&mut [0; 64]).await?;
/// #     stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nHello").await
/// # });
/// let mut stream = TcpStream::connect_on(&host, "127.0.0.1:80").await?;
/// stream.set_nodelay(true)?;
/// stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
/// let mut page = String::new();
/// stream.read_to_string(&mut page).await?;
/// assert!(page.ends_with("Hello"));
/// # Ok(())
/// # }
/// ```
///
/// Without the traits, by readiness:
///
/// ```
/// use std::io::{IoSlice, IoSliceMut};
///
/// use millstream::tokio::TcpStream;
/// use tokio::io::Interest;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let host = millstream::Host::builder().start()?;
/// # let listener = millstream::tokio::TcpListener::bind_on(&host, "127.0.0.1:80").await?;
/// # let client = host.tcp_connect("127.0.0.1:80")?;
/// # let (server, _) = listener.accept().await?;
/// let stream = TcpStream::from_std(client)?;
/// stream.writable().await?;
/// assert_eq!(stream.try_write_vectored(&[IoSlice::new(b"GET "), IoSlice::new(b"/")])?, 5);
/// assert_eq!(stream.try_write(b"...")?, 3);
/// # drop(stream);
///
/// assert!(server.ready(Interest::READABLE).await?.is_readable());
/// let mut start = [0; 1];
/// server.async_io(Interest::READABLE, || server.try_read(&mut start)).await?;
/// let (mut method, mut path) = ([0; 3], [0; 64]);
/// # server.readable().await?;
/// server.try_read_vectored(&mut [IoSliceMut::new(&mut method), IoSliceMut::new(&mut path)])?;
/// let mut rest = Vec::with_capacity(4096);
/// # server.readable().await?;
/// server.try_io(Interest::READABLE, || server.try_read_buf(&mut rest))?;
/// # Ok(())
/// # }
/// ```
///
/// For poll functions of one's own ([`TcpStream::poll_peek`] and what the traits have besides):
///
/// ```
/// use std::future::poll_fn;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let host = millstream::Host::builder().start()?;
/// # let listener = millstream::tokio::TcpListener::bind_on(&host, "127.0.0.1:80").await?;
/// # let stream = millstream::tokio::TcpStream::connect_on(&host, "127.0.0.1:80").await?;
/// # let (server, _) = listener.accept().await?;
/// poll_fn(|cx| stream.poll_write_ready(cx)).await?;
/// stream.try_write(b"hello")?;
/// poll_fn(|cx| server.poll_read_ready(cx)).await?;
/// assert_eq!(server.try_read(&mut [0; 64])?, 5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TcpStream {
    pub(super) socket: Arc<TcpSocket>,
}

impl TcpStream {
    /// Makes an async stream of a blocking one. Clones of that one go on beside it.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn from_std(stream: crate::TcpStream) -> io::Result<Self> {
        Ok(Self {
            socket: stream.shared().clone(),
        })
    }

    /// Makes a stream with std's face of one with tokio's. As tokio's it does not block, unless told to.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn into_std(self) -> io::Result<crate::TcpStream> {
        let stream = crate::TcpStream::from_shared(self.socket);
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is; as reading.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.try_read(&mut [IoSliceMut::new(buf)])
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as writing.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket.try_write(&[IoSlice::new(buf)])
    }

    /// As [`TcpStream::peek`], for a poll function: how many bytes were added to `buf`.
    pub fn poll_peek(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let peeked = attempt(
            cx,
            || self.socket.try_peek(buf.initialize_unfilled()),
            |cx| self.socket.poll_readable(cx),
        );
        peeked.map_ok(|n| {
            buf.advance(n);
            n
        })
    }

    /// Ready when there may be something to read; else the task is woken then.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_readable(cx).map(Ok)
    }

    /// Ready when there may be room to write; else the task is woken then.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_writable(cx).map(Ok)
    }

    /// Reads what is there into several buffers.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`].
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.socket.try_read(bufs)
    }

    /// Reads what is there, as far as `buf` has room.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`].
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        fill(buf, READ_MAX, |memory| Ok((self.try_read(memory)?, ()))).map(|(n, ())| n)
    }

    /// Writes what there is room for from several buffers.
    ///
    /// # Errors
    /// As [`TcpStream::try_write`].
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.try_write(bufs)
    }

    /// Makes the last drop reset the connection (SO_LINGER with a time of nought).
    ///
    /// # Errors
    /// The host has stopped.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.set_linger(Some(Duration::ZERO))
    }

    /// Two halves that borrow the stream, for use in one task: an echo is
    ///
    /// ```
    /// use millstream::tokio::{ReadHalf, TcpStream, WriteHalf};
    ///
    /// async fn echo(mut stream: TcpStream) -> std::io::Result<u64> {
    ///     let (mut read, mut write): (ReadHalf<'_>, WriteHalf<'_>) = stream.split();
    ///     tokio::io::copy(&mut read, &mut write).await
    /// }
    /// ```
    pub fn split<'a>(&'a mut self) -> (ReadHalf<'a>, WriteHalf<'a>) {
        (ReadHalf { stream: self }, WriteHalf { stream: self })
    }

    /// Two halves that can live in different tasks. Dropping the write half ends the writing direction.
    ///
    /// ```
    /// use millstream::tokio::{OwnedReadHalf, OwnedWriteHalf};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let host = millstream::Host::builder().start()?;
    /// # let listener = millstream::tokio::TcpListener::bind_on(&host, "127.0.0.1:80").await?;
    /// # let stream = millstream::tokio::TcpStream::connect_on(&host, "127.0.0.1:80").await?;
    /// # tokio::spawn(async move {
    /// #     let (mut stream, _) = listener.accept().await?;
    /// #     let (mut read, mut write) = stream.split();
    /// #     tokio::io::copy(&mut read, &mut write).await
    /// # });
    /// let (mut read, mut write): (OwnedReadHalf, OwnedWriteHalf) = stream.into_split();
    /// let writer = tokio::spawn(async move { write.write_all(b"hello").await });
    /// let mut answer = Vec::new();
    /// read.read_to_end(&mut answer).await?;
    /// writer.await??;
    /// assert_eq!(answer, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        OwnedWriteHalf::pair(self)
    }

    pub(super) fn poll_read_shared(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &*self.socket;
        let read = attempt(
            cx,
            || socket.try_read(&mut [IoSliceMut::new(buf.initialize_unfilled())]),
            |cx| socket.poll_readable(cx),
        );
        read.map_ok(|n| buf.advance(n))
    }

    pub(super) fn poll_write_shared(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        attempt(
            cx,
            || self.socket.try_write(bufs),
            |cx| self.socket.poll_writable(cx),
        )
    }

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        end_writing(&self.socket)
    }
}

stream_calls!(TcpStream);
readiness!(TcpStream);
stream_options!(TcpStream, socket);
stream_splices!(TcpStream, shared);
stream_gives!(TcpStream);

impl AsRef<TcpStream> for TcpStream {
    fn as_ref(&self) -> &TcpStream {
        self
    }
}

impl TryFrom<crate::TcpStream> for TcpStream {
    type Error = io::Error;

    fn try_from(stream: crate::TcpStream) -> io::Result<Self> {
        Self::from_std(stream)
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_shared(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_shared(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_shared(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}
