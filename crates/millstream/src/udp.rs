//! UDP with the face of `std::net`.
//!
//! What does not live here: queues and wake-ups (`engine`), UDP itself (`stack`).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use engine::UdpHandle;

use crate::waiting::Waiting;

#[derive(Debug)]
struct Inner {
    socket: Arc<UdpHandle>,
    waiting: Waiting,
}

/// A UDP socket, as [`std::net::UdpSocket`]. Made by [`Host::udp_bind`](crate::Host::udp_bind).
///
/// A datagram that was taken but cannot be sent (no route, too long for the path) is reported by a later call, as ICMP
/// errors are.
///
/// ```no_run
/// # fn example(host: &millstream::Host) -> std::io::Result<()> {
/// let socket = host.udp_bind("0.0.0.0:7")?;
/// let mut buffer = [0; 2048];
/// loop {
///     let (n, peer) = socket.recv_from(&mut buffer)?;
///     socket.send_to(&buffer[..n], peer)?;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    inner: Arc<Inner>,
}

impl UdpSocket {
    pub(crate) fn new(socket: UdpHandle) -> Self {
        Self {
            inner: Arc::new(Inner {
                socket: Arc::new(socket),
                waiting: Waiting::default(),
            }),
        }
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn shared(&self) -> &Arc<UdpHandle> {
        &self.inner.socket
    }

    /// Sends a datagram to `addr`; how many bytes, which is all of them.
    ///
    /// # Errors
    /// EMSGSIZE beyond 65,507 bytes (65,527 over IPv6); `PermissionDenied` to a broadcast address without
    /// [`UdpSocket::set_broadcast`]; an earlier datagram's error; `WouldBlock` when the time is up.
    pub fn send_to(&self, buf: &[u8], addr: impl ToSocketAddrs) -> io::Result<usize> {
        let missing =
            || io::Error::new(io::ErrorKind::InvalidInput, "no addresses to send data to");
        let addr = addr.to_socket_addrs()?.next().ok_or_else(missing)?;
        self.send_any(buf, Some(addr))
    }

    /// Sends a datagram to the connected peer.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`]; EDESTADDRREQ without a peer; `ConnectionRefused` when an earlier one found no socket.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.send_any(buf, None)
    }

    fn send_any(&self, buf: &[u8], addr: Option<SocketAddr>) -> io::Result<usize> {
        let Inner { socket, waiting } = &*self.inner;
        waiting.writing(
            || socket.try_send(buf, addr),
            |until| socket.wait_writable(until),
        )
    }

    /// Receives a datagram: its length and sender. What does not fit into `buf` is lost.
    ///
    /// # Errors
    /// `WouldBlock` when the time is up; `ConnectionRefused` when the connected peer has no such socket.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_any(buf, false)
    }

    /// As [`UdpSocket::recv_from`], and the datagram stays to be received again.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_any(buf, true)
    }

    /// Receives a datagram from the connected peer: its length.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_any(buf, false).map(|(n, _)| n)
    }

    /// As [`UdpSocket::recv`], and the datagram stays to be received again.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_any(buf, true).map(|(n, _)| n)
    }

    fn recv_any(&self, buf: &mut [u8], peek: bool) -> io::Result<(usize, SocketAddr)> {
        let Inner { socket, waiting } = &*self.inner;
        waiting.reading(
            || socket.try_recv(buf, peek),
            |until| socket.wait_readable(until),
        )
    }

    /// Sets the peer: where [`UdpSocket::send`] goes, and the only one whose datagrams are received.
    ///
    /// # Errors
    /// The address is of the other family; the host has stopped. No route is told by a later call.
    pub fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        let missing = || io::Error::new(io::ErrorKind::InvalidInput, "no addresses to connect to");
        self.inner
            .socket
            .connect(addr.to_socket_addrs()?.next().ok_or_else(missing)?)
    }

    /// Another handle of the same socket.
    ///
    /// # Errors
    /// None; the result is that of std's method.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            inner: self.inner.clone(),
        })
    }

    fn socket(&self) -> &UdpHandle {
        &self.inner.socket
    }

    /// How long receiving waits before it gives `WouldBlock`; `None`: for ever.
    ///
    /// # Errors
    /// `InvalidInput` for no time at all.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.waiting.set_read_timeout(timeout)
    }

    /// How long sending waits before it gives `WouldBlock`; `None`: for ever.
    ///
    /// # Errors
    /// `InvalidInput` for no time at all.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.waiting.set_write_timeout(timeout)
    }

    /// See [`UdpSocket::set_read_timeout`].
    ///
    /// # Errors
    /// None; the result is that of std's method.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.inner.waiting.read_timeout())
    }

    /// See [`UdpSocket::set_write_timeout`].
    ///
    /// # Errors
    /// None; the result is that of std's method.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.inner.waiting.write_timeout())
    }

    /// Makes calls that would wait give `WouldBlock` instead; shared by all clones.
    ///
    /// # Errors
    /// None; the result is that of std's method.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.inner.waiting.set_nonblocking(nonblocking);
        Ok(())
    }
}

/// Addresses and options that `UdpSocket` has here and with tokio.
macro_rules! udp_options {
    ($udp:ty) => {
        impl $udp {
            /// The bound address, with the real port.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                self.socket().local_addr()
            }

            /// The connected peer.
            ///
            /// # Errors
            /// `NotConnected` without one.
            pub fn peer_addr(&self) -> io::Result<SocketAddr> {
                self.socket().peer_addr()
            }

            /// The socket's pending error (SO_ERROR), which it clears.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                Ok(self.socket().take_error())
            }

            /// Allows sending to broadcast addresses (SO_BROADCAST).
            ///
            /// # Errors
            /// The host has stopped.
            pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
                self.socket()
                    .set_options(|options| options.broadcast = broadcast)
            }

            /// Whether sending to broadcast addresses is allowed.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn broadcast(&self) -> io::Result<bool> {
                Ok(self.socket().options().broadcast)
            }

            /// The time to live (hop limit) of unicast packets sent: 1 to 255.
            ///
            /// # Errors
            /// `InvalidInput` for other values; the host has stopped.
            pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
                let ttl = crate::tcp::ttl(ttl)?;
                self.socket().set_options(|options| options.ttl = Some(ttl))
            }

            /// The time to live (hop limit) of unicast packets sent.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn ttl(&self) -> io::Result<u32> {
                Ok(self.socket().options().ttl.map_or(64, u32::from))
            }
        }
    };
}
#[cfg(feature = "tokio")]
pub(crate) use udp_options;

udp_options!(UdpSocket);
