//! TCP with the face of `std::net`.
//!
//! What does not live here: queues and wake-ups (`engine`), TCP itself (`stack`).

mod listener;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use engine::{Blocks, Reply, Sockets, TcpSocket, deadline, io_error};
use stack::{Keepalive, SocketError, TcpInfo, TcpOptions};

use crate::given::{FILE_PARTS, Give, give, give_part, read_part};
use crate::host::Host;
use crate::waiting::{Waiting, blocking};

pub use listener::{Incoming, TcpListener};

#[derive(Debug)]
struct Stream {
    socket: Arc<TcpSocket>,
    waiting: Waiting,
}

/// A TCP connection, as [`std::net::TcpStream`]. Made by [`Host::tcp_connect`](crate::Host::tcp_connect) and
/// [`TcpListener::accept`]; the last clone that is dropped closes it.
///
/// ```
/// use std::io::{Read, Write};
/// use std::time::Duration;
///
/// # let host = millstream::Host::builder().start()?;
/// # let listener = host.tcp_listen("127.0.0.1:80")?;
/// # std::thread::spawn(move || -> std::io::Result<()> {
/// #     let (mut stream, _) = listener.accept()?;
/// #     stream.read(&mut [0; 64])?;
/// #     stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nHello")
/// # });
/// let mut stream = host.tcp_connect("127.0.0.1:80")?;
/// stream.set_read_timeout(Some(Duration::from_secs(10)))?;
/// stream.set_write_timeout(Some(Duration::from_secs(10)))?;
/// stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
/// let mut start = [0; 4];
/// stream.peek(&mut start)?;
/// let mut page = String::new();
/// stream.read_to_string(&mut page)?;
/// assert!(page.ends_with("Hello"));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Options are set one by one, as std's, or many at once:
///
/// ```
/// use std::time::Duration;
///
/// use millstream::{Congestion, Keepalive};
///
/// # let host = millstream::Host::builder().start()?;
/// # let listener = host.tcp_listen("127.0.0.1:80")?;
/// let stream = host.tcp_connect("127.0.0.1:80")?;
/// stream.set_nodelay(true)?;
/// stream.set_ttl(32)?;
/// stream.set_quickack(false)?;
/// let often = Keepalive { idle: Duration::from_secs(60), ..Keepalive::default() };
/// stream.set_keepalive(Some(often))?;
/// stream.set_options(|options| {
///     options.user_timeout = Some(Duration::from_secs(20));
///     options.congestion = Some(Congestion::Bbr);
/// })?;
/// // Dropping it resets the connection.
/// stream.set_linger(Some(Duration::ZERO))?;
/// assert_eq!(stream.options().keepalive, stream.keepalive()?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// What comes in can be moved on to another connection by the host, without a copy:
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::Shutdown;
///
/// use millstream::Splice;
///
/// # let host = millstream::Host::builder().start()?;
/// # let outside = host.tcp_listen("127.0.0.1:80")?;
/// # let inside = host.tcp_listen("127.0.0.1:8080")?;
/// # let mut client = host.tcp_connect("127.0.0.1:80")?;
/// let (from, _) = outside.accept()?;
/// let to = host.tcp_connect("127.0.0.1:8080")?;
/// let moving: Splice = from.splice(&to)?;
///
/// client.write_all(b"hello")?;
/// client.shutdown(Shutdown::Write)?;
/// assert_eq!(moving.wait()?, 5);
/// let mut text = String::new();
/// inside.accept()?.0.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpStream {
    stream: Arc<Stream>,
}

impl TcpStream {
    fn new(socket: TcpSocket) -> Self {
        Self::from_shared(Arc::new(socket))
    }

    pub(crate) fn from_shared(socket: Arc<TcpSocket>) -> Self {
        Self {
            stream: Arc::new(Stream {
                socket,
                waiting: Waiting::default(),
            }),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<TcpSocket> {
        &self.stream.socket
    }

    pub(crate) fn socket(&self) -> &TcpSocket {
        &self.stream.socket
    }

    pub(crate) fn connect_by(
        sockets: &Sockets,
        addr: SocketAddr,
        timeout: Option<Duration>,
    ) -> io::Result<Self> {
        Self::connecting(sockets.tcp_connect(addr, None)?, timeout)
    }

    /// Waits until the connection is decided.
    pub(crate) fn connecting(socket: TcpSocket, timeout: Option<Duration>) -> io::Result<Self> {
        let until = deadline(timeout);
        loop {
            if let Some(decided) = socket.connected() {
                return decided.map(|()| Self::new(socket));
            }
            if !socket.wait_writable(until) {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "connection timed out",
                ));
            }
        }
    }

    /// Connects the default host ([`Host::make_default`]), as [`std::net::TcpStream::connect`]: to the first address that can
    /// be connected to.
    ///
    /// # Errors
    /// As [`Host::tcp_connect`]; `NetworkDown` without a default host.
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Host::current()?.tcp_connect(addr)
    }

    /// As [`Host::tcp_connect_timeout`], of the default host ([`Host::make_default`]).
    ///
    /// # Errors
    /// As [`Host::tcp_connect_timeout`]; `NetworkDown` without a default host.
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        Host::current()?.tcp_connect_timeout(addr, timeout)
    }

    /// Receives what comes next without a copy: [`Blocks`] of packet memory, which go back when they are dropped, in whichever thread.
    /// None at the end of the stream. What had come before the first call was copied already; from then on reads copy from
    /// blocks, too.
    ///
    /// ```
    /// use millstream::Blocks;
    ///
    /// # use std::io::Write;
    /// # let host = millstream::Host::builder().start()?;
    /// # let listener = host.tcp_listen("127.0.0.1:80")?;
    /// # let mut client = host.tcp_connect("127.0.0.1:80")?;
    /// # let (stream, _) = listener.accept()?;
    /// # client.write_all(&[1, 2, 3])?;
    /// let blocks: Blocks = stream.receive_blocks()?;
    /// let sum: u64 = blocks.slices().flatten().map(|byte| u64::from(*byte)).sum();
    /// assert_eq!(sum, 6);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As reading.
    pub fn receive_blocks(&self) -> io::Result<Blocks> {
        let socket = self.socket();
        self.stream
            .waiting
            .reading(|| socket.try_receive(), |until| socket.wait_readable(until))
    }

    /// Reads without taking: the next [`Read::read`] gives the same bytes.
    ///
    /// # Errors
    /// As reading.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let socket = self.socket();
        self.stream
            .waiting
            .reading(|| socket.try_peek(buf), |until| socket.wait_readable(until))
    }

    /// Ends reading, writing or both. What was written before is still sent, and a FIN behind it.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::Shutdown;
    ///
    /// # let host = millstream::Host::builder().start()?;
    /// # let listener = host.tcp_listen("127.0.0.1:80")?;
    /// let mut stream = host.tcp_connect("127.0.0.1:80")?;
    /// stream.write_all(b"that is all")?;
    /// stream.shutdown(Shutdown::Write)?;
    /// let (mut peer, _) = listener.accept()?;
    /// let mut all = String::new();
    /// peer.read_to_string(&mut all)?;
    /// assert_eq!(all, "that is all");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotConnected` when the connection is over.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket().shutdown(how)
    }

    /// Another handle of the same connection.
    ///
    /// # Errors
    /// None; the result is that of std's method.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            stream: self.stream.clone(),
        })
    }

    /// This end's address.
    ///
    /// # Errors
    /// `NotConnected` when it never had one.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }

    /// The other end's address.
    ///
    /// # Errors
    /// `NotConnected` when the connection is over.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }

    /// The connection's pending error (SO_ERROR), which it clears.
    ///
    /// # Errors
    /// None; the result is that of std's method.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.socket().take_error())
    }
}

blocking!(TcpStream, stream);

/// Options that `TcpStream` has here and with tokio.
macro_rules! stream_options {
    ($stream:ty, $socket:ident) => {
        impl $stream {
            /// Sends small segments at once (TCP_NODELAY) instead of gathering them (Nagle, RFC 9293 section 3.7.4).
            ///
            /// # Errors
            /// The host has stopped.
            pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
                self.$socket()
                    .set_options(|options| options.nodelay = nodelay)
            }

            /// Whether TCP_NODELAY is set.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn nodelay(&self) -> io::Result<bool> {
                Ok(self.$socket().options().nodelay)
            }

            /// The time to live (hop limit) of packets sent: 1 to 255.
            ///
            /// # Errors
            /// `InvalidInput` for other values; the host has stopped.
            pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
                let ttl = crate::tcp::ttl(ttl)?;
                self.$socket()
                    .set_options(|options| options.ttl = Some(ttl))
            }

            /// The time to live (hop limit) of packets sent.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn ttl(&self) -> io::Result<u32> {
                Ok(self.$socket().options().ttl.map_or(64, u32::from))
            }

            /// Acknowledges what comes at once, or delays as usual (TCP_QUICKACK). TCP may change its mind later, as on Linux:
            /// say it again after each read.
            ///
            /// # Errors
            /// The host has stopped.
            pub fn set_quickack(&self, quickack: bool) -> io::Result<()> {
                self.$socket().set_quick_ack(quickack)
            }

            /// What was last said to `set_quickack`; a connection begins with quick acknowledgments.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn quickack(&self) -> io::Result<bool> {
                Ok(self.$socket().quick_ack())
            }

            /// SO_LINGER. Nought makes the last drop reset the connection. Any other time changes nothing: dropping never
            /// blocks, and what was written is sent in the background.
            ///
            /// # Errors
            /// The host has stopped.
            pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
                self.$socket()
                    .set_options(|options| options.linger = linger)
            }

            /// SO_LINGER.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn linger(&self) -> io::Result<Option<Duration>> {
                Ok(self.$socket().options().linger)
            }

            /// Probes a silent peer (SO_KEEPALIVE) at these times; `None`, as at first: never. `Some(Keepalive::default())` is
            /// Linux's: after two hours, then every 75 s, nine times.
            ///
            /// # Errors
            /// The host has stopped.
            pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
                self.$socket()
                    .set_options(|options| options.keepalive = keepalive)
            }

            /// SO_KEEPALIVE and its times.
            ///
            /// # Errors
            /// None; the result is that of std's methods.
            pub fn keepalive(&self) -> io::Result<Option<Keepalive>> {
                Ok(self.$socket().options().keepalive)
            }

            /// All options at once.
            pub fn options(&self) -> TcpOptions {
                self.$socket().options()
            }

            /// Changes any options at once.
            ///
            /// # Errors
            /// `InvalidInput` for a time to live of nought; the host has stopped.
            pub fn set_options(&self, change: impl FnOnce(&mut TcpOptions)) -> io::Result<()> {
                self.$socket().set_options(change)
            }
        }
    };
}
#[cfg(any(feature = "futures", feature = "tokio"))]
pub(crate) use stream_options;

stream_options!(TcpStream, socket);

/// Splicing, which `TcpStream` has here and with tokio.
macro_rules! stream_splices {
    ($stream:ty, $shared:ident) => {
        impl $stream {
            /// Has the host move what comes in here to `to`: references to packet memory, not bytes. Block or await until the stream
            /// has ended; both connections stay open as long, and nothing can be read here. Dropping the [`Splice`](engine::Splice) ends
            /// it, and what was not moved is there to be read.
            ///
            /// What `to` has no room for stays here, and the peer's window closes. The end of the stream shuts `to` for writing; an
            /// error of this connection resets `to`. Who writes to `to` meanwhile writes in between. What the host had handed
            /// over before (512 KiB at most) goes first, and is copied; ports that do not segment have each frame's payload
            /// copied once behind its headers, as always.
            ///
            /// # Errors
            /// `CrossesDevices` for connections of different shards or hosts: copy instead. `ResourceBusy` while another splice
            /// reads here or writes there, `InvalidInput` for a connection with itself, `NotConnected`, `BrokenPipe` when `to`
            /// is shut. The [`Splice`](engine::Splice) gives the error of this connection, or of `to`.
            pub fn splice(&self, to: &Self) -> io::Result<engine::Splice> {
                self.$shared().splice(to.$shared(), None)
            }

            /// As [`splice`](Self::splice), and sends the same bytes on `copy`, which shares their memory: the slower of both sets the pace, and what
            /// ends one ends the splice.
            ///
            /// # Errors
            /// As `splice`.
            pub fn tee(&self, to: &Self, copy: &Self) -> io::Result<engine::Splice> {
                self.$shared().splice(to.$shared(), Some(copy.$shared()))
            }
        }
    };
}
#[cfg(any(feature = "futures", feature = "tokio"))]
pub(crate) use stream_splices;

stream_splices!(TcpStream, shared);

impl TcpStream {
    /// What TCP knows of the connection (TCP_INFO). Waits for the shard's next turn.
    ///
    /// ```
    /// # let host = millstream::Host::builder().start()?;
    /// # let listener = host.tcp_listen("127.0.0.1:80")?;
    /// let stream = host.tcp_connect("127.0.0.1:80")?;
    /// let info = stream.info()?;
    /// println!("round trip {:?}, congestion window {} bytes", info.rtt, info.cwnd);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotConnected` when the connection is over.
    pub fn info(&self) -> io::Result<TcpInfo> {
        self.socket()
            .info()
            .wait()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl TcpStream {
    /// Hands a whole buffer over to be sent, of any kind and size: its bytes are copied once, by the shard into packet memory. Waits
    /// while there is no room at all. The answer gives the buffer back when that is done, or when the connection is over; it says
    /// nothing of whether they arrived. If its `as_ref` gives less by then than it gives here, or panics, the connection ends with
    /// `ConnectionAborted`.
    ///
    /// ```
    /// # use std::io::Read;
    /// # let host = millstream::Host::builder().start()?;
    /// # let listener = host.tcp_listen("127.0.0.1:80")?;
    /// # let stream = host.tcp_connect("127.0.0.1:80")?;
    /// # std::thread::spawn(move || std::io::copy(&mut listener.accept()?.0, &mut std::io::sink()));
    /// let first = stream.send_owned(vec![1; 1 << 20])?;
    /// let second = stream.send_owned(vec![2; 1 << 20])?;
    /// // Free to be filled again.
    /// let buffer = first.wait().expect("the host has not stopped");
    /// assert_eq!(buffer.len(), 1 << 20);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As writing; the buffer is dropped.
    pub fn send_owned<T>(&self, bytes: T) -> io::Result<Reply<T>>
    where
        T: AsRef<[u8]> + Send + Sync + 'static,
    {
        self.give(bytes, TcpSocket::try_give)
    }

    fn give<T>(&self, bytes: T, with: Give<T>) -> io::Result<Reply<T>> {
        let Stream { socket, waiting } = &*self.stream;
        let mut bytes = Some(bytes);
        waiting.writing(
            || give(socket, &mut bytes, with),
            |until| socket.wait_writable(until),
        )
    }

    /// Sends `len` bytes of a file from `offset` on, as sendfile(2): how many were handed over; fewer when the file ends before. The
    /// calling thread reads the file, into buffers that are handed over ([`TcpStream::send_owned`]).
    ///
    /// ```
    /// use std::fs::File;
    ///
    /// # let host = millstream::Host::builder().start()?;
    /// # let listener = host.tcp_listen("127.0.0.1:80")?;
    /// # let stream = host.tcp_connect("127.0.0.1:80")?;
    /// let file = File::open("Cargo.toml")?;
    /// let sent = stream.send_file(&file, 0, u64::MAX)?;
    /// assert_eq!(sent, file.metadata()?.len());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of reading the file, and of writing; when some was sent before, how much is told, and the error to the next call.
    pub fn send_file(&self, file: &File, offset: u64, len: u64) -> io::Result<u64> {
        let mut under_way: VecDeque<Reply<Vec<u8>>> = VecDeque::new();
        let mut sent = 0;
        while sent < len {
            let spare = (under_way.len() >= FILE_PARTS)
                .then(|| under_way.pop_front().and_then(Reply::wait))
                .flatten();
            let at = offset.saturating_add(sent);
            let part = read_part(file, spare.unwrap_or_default(), at, len - sent);
            let n = part.as_ref().map_or(0, Vec::len) as u64;
            let given = match part {
                Ok(bytes) if bytes.is_empty() => break,
                part => part.and_then(|bytes| self.give(bytes, give_part(sent))),
            };
            match given {
                Ok(reply) => {
                    sent += n;
                    if !self.stream.waiting.nonblocking() {
                        under_way.push_back(reply);
                    }
                }
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let socket = self.socket();
        self.stream.waiting.reading(
            || socket.try_read(bufs),
            |until| socket.wait_readable(until),
        )
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    /// Takes all of `bufs` before it returns, as a blocking kernel socket does, unless there is an error, the time is up or
    /// the stream is non-blocking; then it tells how much it took, if any.
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let Stream { socket, waiting } = &*self.stream;
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut taken = waiting.writing(
            || socket.try_write(bufs),
            |until| socket.wait_writable(until),
        )?;
        if taken == wanted || waiting.nonblocking() {
            return Ok(taken);
        }
        let mut rest = bufs.to_vec();
        let mut rest = &mut rest[..];
        IoSlice::advance_slices(&mut rest, taken);
        while taken < wanted {
            let more = waiting.writing(
                || socket.try_write_on(rest),
                |until| socket.wait_writable(until),
            );
            // Why there is no more is told to the next call.
            let Ok(n) = more else { break };
            taken += n;
            IoSlice::advance_slices(&mut rest, n);
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks a time to live as setsockopt(2) does.
pub(crate) fn ttl(ttl: u32) -> io::Result<u8> {
    match u8::try_from(ttl) {
        Ok(ttl @ 1..) => Ok(ttl),
        _ => Err(io_error(SocketError::InvalidInput)),
    }
}
