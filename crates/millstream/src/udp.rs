//! UDP with the face of `std::net`.
//!
//! What does not live here: queues and wake-ups (`engine`), UDP itself (`stack`).

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use engine::{Packet, RecvMeta, Transmit, UdpHandle, answered};
use stack::{UdpOptions, Via};

use crate::host::{Host, each};
use crate::waiting::{Waiting, blocking};

#[derive(Debug)]
struct Inner {
    socket: Arc<UdpHandle>,
    waiting: Waiting,
}

/// A UDP socket, as [`std::net::UdpSocket`]. Made by [`Host::udp_bind`](crate::Host::udp_bind).
///
/// A datagram that was taken but cannot be sent (no route, too long for the path) is reported by the next call that sends.
///
/// ```
/// # let host = millstream::Host::builder().start()?;
/// let server = host.udp_bind("127.0.0.1:7")?;
/// let client = host.udp_bind("127.0.0.1:0")?;
/// client.connect(server.local_addr()?)?;
/// client.send(b"hello")?;
///
/// let mut buffer = [0; 2048];
/// let (n, peer) = server.recv_from(&mut buffer)?;
/// server.send_to(&buffer[..n], peer)?;
/// assert_eq!(client.recv(&mut buffer)?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Broadcasts, groups and options:
///
/// ```
/// use std::net::Ipv4Addr;
///
/// # use millstream::port::ring::{RingOptions, pair};
/// # use millstream::{Mac, MtuDiscover};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (port, _nobody) = pair([Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])], &RingOptions::default())?;
/// # let config = millstream::Config { duplicate_detection: false, ..Default::default() };
/// # let host = millstream::Host::builder().port(port).address("10.77.0.1/24").config(config).start()?;
/// let socket = host.udp_bind("0.0.0.0:5353")?;
/// socket.set_broadcast(true)?;
/// socket.send_to(b"who is there?", "10.77.0.255:5353")?;
///
/// let (group, any) = (Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::UNSPECIFIED);
/// socket.join_multicast_v4(&group, &any)?;
/// socket.set_multicast_ttl_v4(255)?;
/// socket.set_multicast_loop_v4(false)?;
/// socket.send_to(b"and among you?", (group, 5353))?;
/// socket.leave_multicast_v4(&group, &any)?;
///
/// socket.set_ttl(32)?;
/// socket.set_options(|options| options.mtu_discover = MtuDiscover::Do)?;
///
/// socket.bind_device(Some(b"lo"))?; // or a port's name; `None`: any interface
/// assert_eq!(socket.device()?.as_deref(), Some(&b"lo"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    inner: Arc<Inner>,
}

impl UdpSocket {
    pub(crate) fn new(socket: UdpHandle) -> Self {
        Self::from_shared(Arc::new(socket))
    }

    pub(crate) fn from_shared(socket: Arc<UdpHandle>) -> Self {
        Self {
            inner: Arc::new(Inner {
                socket,
                waiting: Waiting::default(),
            }),
        }
    }

    #[cfg(any(feature = "futures", feature = "tokio"))]
    pub(crate) fn shared(&self) -> &Arc<UdpHandle> {
        &self.inner.socket
    }

    /// Binds to `addr` of the default host ([`Host::make_default`]), as [`std::net::UdpSocket::bind`]. Port 0: one that is
    /// free.
    ///
    /// # Errors
    /// As [`Host::udp_bind`]; `NetworkDown` without a default host.
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Host::current()?.udp_bind(addr)
    }

    /// Sends a datagram to `addr`; how many bytes, which is all of them.
    ///
    /// # Errors
    /// EMSGSIZE beyond 65,507 bytes (65,527 over IPv6); `PermissionDenied` to 255.255.255.255 without
    /// [`UdpSocket::set_broadcast`]; `InvalidInput` for port 0; EAFNOSUPPORT for an IPv6 address from an IPv4 socket;
    /// why an earlier datagram was not sent; `WouldBlock` when the time is up.
    pub fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
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

    /// Sends datagrams, each with what is said of it alone, in their order: as many as there is room for, which is waited for if
    /// there is none for the first. How many. See [`datagram`](crate::datagram).
    ///
    /// As with [`UdpSocket::send_to`] they are counted when they are taken, before the shard sends them: what one of them meets there
    /// holds up none of those behind it, and is told to the next call that sends. Who must hear what became of each uses
    /// [`Op::send_to`](crate::completion::Op::send_to).
    ///
    /// # Errors
    /// Of the first; when another fails there are fewer, and it may be tried again. Those of [`UdpSocket::send_to`]; `InvalidInput`
    /// for a train of datagrams without bytes, or of more than 128. Told to the next call that sends: EMSGSIZE for a train whose
    /// datagrams are longer than the path takes, `AddrNotAvailable` for a source that is not the host's.
    pub fn send_batch(&self, batch: &[Transmit<'_>]) -> io::Result<usize> {
        let Inner { socket, waiting } = &*self.inner;
        waiting.writing(
            || socket.try_send_batch(batch),
            |until| socket.wait_writable(until),
        )
    }

    /// Receives datagrams, as many as are there, and waits for the first: one into each buffer, or where there are more that are
    /// alike and there is room for them a train. How many buffers were filled; `meta` says of each what is in it. See
    /// [`datagram`](crate::datagram) for an example.
    ///
    /// What does not fit into a buffer by itself is lost, and [`RecvMeta::truncated`] says so.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn recv_batch(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let Inner { socket, waiting } = &*self.inner;
        waiting.reading(
            || socket.try_recv_batch(bufs, meta),
            |until| socket.wait_readable(until),
        )
    }

    /// Receives a datagram without a copy: a [`Packet`](crate::datagram::Packet) in packet memory, with all that is known of it, which
    /// goes back when it is dropped, in whichever thread. Short ones, what had come before the first call, and what comes while too much
    /// is lent, are copied. With `UdpOptions::gro` it is a train, if one came.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn receive_packet(&self) -> io::Result<Packet> {
        let Inner { socket, waiting } = &*self.inner;
        waiting.reading(
            || socket.try_receive_packet(),
            |until| socket.wait_readable(until),
        )
    }

    /// Sets the peer: where [`UdpSocket::send`] goes, and the only one whose datagrams are received. A socket bound to any
    /// address has one of its own from then on.
    ///
    /// # Errors
    /// `NetworkUnreachable`; `AddrNotAvailable`; EAFNOSUPPORT for an address of the other family; `PermissionDenied` for a
    /// broadcast address without [`UdpSocket::set_broadcast`]; `Unsupported` where others share its address on several shards; the host
    /// has stopped.
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        each(addr, |addr| answered(self.socket().connect(addr).wait()))
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

    pub(crate) fn socket(&self) -> &UdpHandle {
        &self.inner.socket
    }
}

blocking!(UdpSocket, inner);

/// Addresses and options that `UdpSocket` has here and with tokio.
macro_rules! udp_options {
    // `$v4`: std names groups by reference, tokio by value.
    ($udp:ty, $v4:ty) => {
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

            /// Whether this host hears its own multicasts (IP_MULTICAST_LOOP). One option for both families.
            ///
            /// # Errors
            /// The host has stopped.
            pub fn set_multicast_loop_v4(&self, multicast_loop: bool) -> io::Result<()> {
                self.socket()
                    .set_options(|options| options.multicast_loop = multicast_loop)
            }

            /// Whether this host hears its own multicasts.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn multicast_loop_v4(&self) -> io::Result<bool> {
                Ok(self.socket().options().multicast_loop)
            }

            /// As [`UdpSocket::set_multicast_loop_v4`], by the name for IPv6 (IPV6_MULTICAST_LOOP): one option for both families.
            ///
            /// # Errors
            /// ENOPROTOOPT of an IPv4 socket; the host has stopped.
            pub fn set_multicast_loop_v6(&self, multicast_loop: bool) -> io::Result<()> {
                crate::family::sets_v6(self.local_addr()?)?;
                self.set_multicast_loop_v4(multicast_loop)
            }

            /// Whether this host hears its own multicasts.
            ///
            /// # Errors
            /// EOPNOTSUPP of an IPv4 socket.
            pub fn multicast_loop_v6(&self) -> io::Result<bool> {
                crate::family::gets_v6(self.local_addr()?)?;
                self.multicast_loop_v4()
            }

            /// The time to live (hop limit) of multicasts (IP_MULTICAST_TTL): 0 to 255, 1 at first.
            ///
            /// # Errors
            /// `InvalidInput` for other values; the host has stopped.
            pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
                let ttl = match ttl {
                    0 => 0,
                    more => crate::tcp::ttl(more)?,
                };
                self.socket()
                    .set_options(|options| options.multicast_ttl = ttl)
            }

            /// The time to live (hop limit) of multicasts.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
                Ok(self.socket().options().multicast_ttl.into())
            }

            /// Receives what is sent to a multicast group, on the interface with the address `interface` or, of 0.0.0.0, the
            /// one the host would send it by (IP_ADD_MEMBERSHIP; IGMPv3). Waits for the shard's next turn.
            ///
            /// # Errors
            /// `InvalidInput` for an address that is no group; `AddrInUse` when joined already; ENOBUFS after 20 groups;
            /// ENODEV for an interface that is not there; the host has stopped.
            pub fn join_multicast_v4(&self, group: $v4, interface: $v4) -> io::Result<()> {
                let via = Via::Address(interface.to_owned());
                let group = group.to_owned().into();
                answered(self.socket().membership(true, group, via).wait())
            }

            /// As [`UdpSocket::join_multicast_v4`], for IPv6 (IPV6_JOIN_GROUP; MLDv2). Interfaces are numbered from 1 in the order
            /// of their ports; 0 is the one the host would send by.
            ///
            /// # Errors
            /// As [`UdpSocket::join_multicast_v4`]; ENOPROTOOPT of an IPv4 socket.
            pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
                crate::family::sets_v6(self.local_addr()?)?;
                let via = Via::Index(interface);
                answered(self.socket().membership(true, (*group).into(), via).wait())
            }

            /// Leaves a group that was joined on this interface (IP_DROP_MEMBERSHIP).
            ///
            /// # Errors
            /// `AddrNotAvailable` when it was not joined; the host has stopped.
            pub fn leave_multicast_v4(&self, group: $v4, interface: $v4) -> io::Result<()> {
                let via = Via::Address(interface.to_owned());
                let group = group.to_owned().into();
                answered(self.socket().membership(false, group, via).wait())
            }

            /// As [`UdpSocket::leave_multicast_v4`], for IPv6 (IPV6_LEAVE_GROUP).
            ///
            /// # Errors
            /// As [`UdpSocket::leave_multicast_v4`]; ENOPROTOOPT of an IPv4 socket.
            pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
                crate::family::sets_v6(self.local_addr()?)?;
                let via = Via::Index(interface);
                answered(self.socket().membership(false, (*group).into(), via).wait())
            }

            /// Binds the socket to the interface with this name, as the port says it, or `lo`; `None` or an empty name: to none
            /// (SO_BINDTODEVICE). What comes by other interfaces is not for it then, and what it sends goes out by this one. Waits for
            /// the shard's next turn.
            ///
            /// # Errors
            /// ENODEV for an interface that is not there; the host has stopped.
            pub fn bind_device(&self, interface: Option<&[u8]>) -> io::Result<()> {
                let device = match crate::host::device_name(interface)? {
                    Some(name) => Some(answered(self.socket().interface_named(name).wait())?),
                    None => None,
                };
                let bound = self.socket().bind_device(device)?;
                answered(bound.wait().map(Ok))
            }

            /// The name of the interface the socket is bound to. Waits for the shard's next turn if it is bound to one.
            ///
            /// # Errors
            /// The host has stopped.
            pub fn device(&self) -> io::Result<Option<Vec<u8>>> {
                let Some(device) = self.socket().options().device else {
                    return Ok(None);
                };
                let name = answered(self.socket().interface_name(device).wait())?;
                Ok(Some(name.into_bytes()))
            }

            /// Sets how this socket and those that share its address ([`UdpOptions::reuse_port`]) divide datagrams: for all of
            /// them, and for whatever comes once this has returned.
            ///
            /// # Errors
            /// `InvalidInput` when it shares with nobody; `Unsupported` on a host of several shards but for `ReusePort::Hash` and
            /// `ReusePort::Core`; the host has stopped.
            pub fn share_by(&self, how: stack::ReusePort) -> io::Result<()> {
                answered(self.socket().share_by(how).wait())
            }

            /// All options at once.
            pub fn options(&self) -> UdpOptions {
                self.socket().options()
            }

            /// Changes any options at once, for what is sent from now on. How the address is shared was settled when it was
            /// bound.
            ///
            /// # Errors
            /// `InvalidInput` for a time to live of nought; the host has stopped.
            pub fn set_options(&self, change: impl FnOnce(&mut UdpOptions)) -> io::Result<()> {
                self.socket().set_options(change)
            }
        }
    };
}
#[cfg(any(feature = "futures", feature = "tokio"))]
pub(crate) use udp_options;

udp_options!(UdpSocket, &Ipv4Addr);
