//! TCP and UDP for any async runtime: the same sockets, with [`AsyncRead`](futures_io::AsyncRead) and
//! [`AsyncWrite`](futures_io::AsyncWrite) of futures-io, and the names that smol's sockets have.
//!
//! They need no reactor, only wakers: `futures::executor::block_on` is enough, and so is smol or async-std.
//!
//! ```
//! use millstream::futures::{TcpListener, TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! # let host = millstream::Host::builder().start()?;
//! # host.make_default();
//! let listener = TcpListener::bind("127.0.0.1:7").await?;
//! let client = TcpStream::connect("127.0.0.1:7").await?;
//! let (stream, peer) = listener.accept().await?;
//! assert_eq!(peer, client.local_addr()?);
//! # Ok(())
//! # }
//! ```
//!
//! Names are looked up by the system's resolver, which blocks: a task that must not resolves before it connects. `send_file` reads its
//! file in the task's thread.
//!
//! What does not live here: queues and wake-ups (`engine`), tokio's face (`millstream::tokio`, with the feature `tokio`).

mod stream;
mod udp;

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use engine::TcpListenerSocket;
use futures_core::Stream;

use crate::Host;
use crate::given::read_part;
use crate::tasks::listener_calls;

pub use stream::TcpStream;
pub use udp::UdpSocket;

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

/// The addresses of `addr`. Names are looked up by the system's resolver, which blocks.
async fn addresses<A: ToSocketAddrs>(addr: A) -> io::Result<Vec<SocketAddr>> {
    Ok(addr.to_socket_addrs()?.collect())
}

/// Reads a part of a file, which blocks.
async fn part_of(file: &File, spare: Vec<u8>, at: u64, most: u64) -> io::Result<Vec<u8>> {
    read_part(file, spare, at, most)
}

/// A TCP listener for tasks of any runtime. The last clone that is dropped closes it, and resets the connections nobody accepted.
///
/// ```
/// use futures_util::StreamExt;
/// use futures_util::io::AsyncWriteExt;
/// use millstream::futures::TcpListener;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let host = millstream::Host::builder().start()?;
/// let listener = TcpListener::bind_on(&host, "0.0.0.0:13").await?;
/// # let client = host.tcp_connect("127.0.0.1:13")?;
/// let mut incoming = listener.incoming();
/// while let Some(stream) = incoming.next().await {
///     stream?.write_all(b"it is late\r\n").await?;
/// #   break;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TcpListener {
    listener: std::sync::Arc<crate::TcpListener>,
}

impl TcpListener {
    fn from_socket(socket: TcpListenerSocket) -> Self {
        crate::TcpListener::new(socket).into()
    }

    /// Connections as they come, as a [`Stream`] that never ends.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }
}

listener_calls!(TcpListener);

/// The same listener; clones of the one with std's face go on beside it.
impl From<crate::TcpListener> for TcpListener {
    fn from(listener: crate::TcpListener) -> Self {
        Self {
            listener: listener.into(),
        }
    }
}

/// Connections of a [`TcpListener`] as they come: made by [`TcpListener::incoming`].
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
