//! TCP and UDP with the face of `tokio::net`: the same sockets, with [`AsyncRead`](::tokio::io::AsyncRead) and
//! [`AsyncWrite`](::tokio::io::AsyncWrite).
//!
//! They need no tokio I/O driver, only wakers, so they run on any of its runtimes. Anything built on tokio's traits runs on
//! them unchanged: hyper, axum, rustls. A program of tokio's changes its imports, and makes a host the default one
//! ([`Host::make_default`](crate::Host::make_default)); one that has several hosts names them: `bind_on`, `connect_on`.
//!
//! ```no_run
//! use millstream::tokio::TcpListener;
//!
//! # async fn example() -> std::io::Result<()> {
//! let listener = TcpListener::bind("0.0.0.0:7").await?;
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
//! With the feature `axum`, `axum::serve` takes a [`TcpListener`] as it takes tokio's:
//!
//! ```
//! # #[cfg(feature = "axum")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = millstream::tokio::TcpListener::bind("0.0.0.0:80").await?;
//! let pages = axum::Router::new().route("/", axum::routing::get(|| async { "Hello" }));
//! axum::serve(listener, pages).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What does not live here: queues and wake-ups (`engine`).

mod listener;
mod ready;
mod socket;
mod split;
mod stream;
mod udp;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use ::tokio::net::ToSocketAddrs;
use ::tokio::task::coop;

use crate::given::read_part;

pub use listener::TcpListener;
pub use socket::TcpSocket;
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

/// The addresses of `addr`. Names are looked up by the system's resolver, in a thread that may block.
async fn addresses<A: ToSocketAddrs>(addr: A) -> io::Result<Vec<SocketAddr>> {
    Ok(::tokio::net::lookup_host(addr).await?.collect())
}

/// Reads a part of a file in a thread that may block; outside of a runtime in this one.
async fn part_of(file: &File, spare: Vec<u8>, at: u64, most: u64) -> io::Result<Vec<u8>> {
    let Ok(runtime) = ::tokio::runtime::Handle::try_current() else {
        return read_part(file, spare, at, most);
    };
    let file = file.try_clone()?;
    let reading = runtime.spawn_blocking(move || read_part(&file, spare, at, most));
    reading.await.map_err(io::Error::other)?
}

/// Fills what `buf` has to spare by `read`, which gets at most `most` bytes of memory and tells how many it filled.
///
/// One copy more than with the kernel: memory that is not initialised is written to by its own methods only.
fn fill<B: bytes::BufMut, T>(
    buf: &mut B,
    most: usize,
    read: impl FnOnce(&mut [u8]) -> io::Result<(usize, T)>,
) -> io::Result<(usize, T)> {
    let room = buf.chunk_mut().len().min(most);
    let mut memory = vec![0; room];
    let (n, rest) = read(&mut memory)?;
    buf.put_slice(&memory[..n]);
    Ok((n, rest))
}
