//! A TCP socket that is neither connected nor listening yet, with tokio's face: options first.
//!
//! What does not live here: the stack knows no such thing. An address that is bound is a promise among these sockets
//! (`Host::reserve`); the stack hears of it with `connect` or `listen`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::io_error;
use stack::{Keepalive, SocketError, TcpOptions};

use super::listener::TcpListener;
use super::stream::TcpStream;
use crate::reserve::Reserved;
use crate::tasks::connected;
use crate::{Host, family};

/// What bind(2) and connect(2) say of an address of the other family.
const EAFNOSUPPORT: i32 = 97;

/// ECN's bits of a type of service: TCP's own on a stream, as with Linux.
const ECN: u8 = 3;

/// A TCP socket before it connects or listens, as tokio's: for options that must be there from the first segment on, and
/// for connections from an address of one's choice.
///
/// ```
/// use std::time::Duration;
///
/// use millstream::Host;
/// use millstream::tokio::TcpSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let host = Host::builder().start()?;
/// # let listener = host.tcp_listen("127.0.0.1:80")?;
/// let socket = TcpSocket::new_v4_on(&host);
/// socket.set_send_buffer_size(1 << 20)?; // bytes
/// socket.set_recv_buffer_size(1 << 20)?;
/// socket.set_nodelay(true)?;
/// socket.set_keepalive(true)?;
/// socket.set_tos_v4(0x28)?; // DSCP AF11
/// socket.set_options(|options| options.user_timeout = Some(Duration::from_secs(20)));
/// socket.bind_device(Some(b"lo"))?; // or a port's name; `None`: any interface
/// assert_eq!(socket.device()?.as_deref(), Some(&b"lo"[..]));
/// socket.bind("127.0.0.1:4000".parse().expect("an address"))?;
/// let stream = socket.connect("127.0.0.1:80".parse().expect("an address")).await?;
/// assert_eq!(stream.local_addr()?.port(), 4000);
///
/// // On the default host, as tokio's.
/// host.make_default();
/// let socket = TcpSocket::new_v6()?;
/// socket.set_reuseaddr(true)?;
/// socket.set_tclass_v6(0x28)?;
/// socket.set_linger(Some(Duration::ZERO))?;
/// socket.bind("[::1]:80".parse().expect("an address"))?;
/// let listener = socket.listen(1024)?;
/// let another = TcpSocket::new_v6_on(&host);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TcpSocket {
    host: Host,
    v6: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    options: TcpOptions,
    reuse_addr: bool,
    bound: Option<Reserved>,
}

impl TcpSocket {
    /// A socket for IPv4 on the default host ([`Host::make_default`]).
    ///
    /// # Errors
    /// `NetworkDown` without a default host.
    pub fn new_v4() -> io::Result<Self> {
        Ok(Self::new_v4_on(&Host::current()?))
    }

    /// A socket for IPv6 on the default host ([`Host::make_default`]).
    ///
    /// # Errors
    /// `NetworkDown` without a default host.
    pub fn new_v6() -> io::Result<Self> {
        Ok(Self::new_v6_on(&Host::current()?))
    }

    /// A socket for IPv4 on `host`.
    pub fn new_v4_on(host: &Host) -> Self {
        Self::new(host, false)
    }

    /// A socket for IPv6 on `host`.
    pub fn new_v6_on(host: &Host) -> Self {
        Self::new(host, true)
    }

    fn new(host: &Host, v6: bool) -> Self {
        Self {
            host: host.clone(),
            v6,
            state: Mutex::new(State {
                options: host.sockets().tcp_options(),
                reuse_addr: false,
                bound: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn options(&self) -> TcpOptions {
        self.state().options.clone()
    }

    fn set(&self, change: impl FnOnce(&mut TcpOptions)) -> io::Result<()> {
        change(&mut self.state().options);
        Ok(())
    }

    /// Changes any options at once.
    pub fn set_options(&self, change: impl FnOnce(&mut TcpOptions)) {
        change(&mut self.state().options);
    }

    /// Binds to an address; port 0: one that is free. Waits for the shard's next turn.
    ///
    /// # Errors
    /// `AddrNotAvailable` for an address that is not the host's; `AddrInUse` when a listener has it, or another such socket
    /// (unless both have [`TcpSocket::set_reuseaddr`], or both [`TcpSocket::set_reuseport`]); `InvalidInput` when bound already;
    /// EAFNOSUPPORT or `InvalidInput` for one of the other family; the host has stopped.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        match (self.v6, addr) {
            (false, SocketAddr::V6(_)) => return Err(io::Error::from_raw_os_error(EAFNOSUPPORT)),
            (true, SocketAddr::V4(_)) => return Err(io_error(SocketError::InvalidInput)),
            _ => {}
        }
        let mut state = self.state();
        if state.bound.is_some() {
            return Err(io_error(SocketError::InvalidInput));
        }
        state.bound = Some(self.host.reserve(addr, state.reuse_addr, &state.options)?);
        Ok(())
    }

    /// Connects, with the options and from the address given before.
    ///
    /// # Errors
    /// As [`Host::tcp_connect`]; `AddrInUse` when the address is not free; EAFNOSUPPORT for an address of the other family.
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        if self.v6 != addr.is_ipv6() {
            return Err(io::Error::from_raw_os_error(EAFNOSUPPORT));
        }
        let (options, bound) = (self.options(), self.state().bound.take());
        let local = bound.as_ref().map(Reserved::addr);
        let sockets = self.host.sockets();
        let socket = sockets.tcp_connect_with(addr, local, options)?;
        // The promise holds until the stack has the port, or has refused.
        let connected = connected(socket).await;
        drop(bound);
        connected.map(TcpStream::from_socket)
    }

    /// Listens, with room for `backlog` connections that wait to be accepted. Waits for the shard's next turn.
    ///
    /// # Errors
    /// As [`Host::tcp_listen`].
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        let bound = self.state().bound.take();
        let any = SocketAddr::new(self.unspecified(), 0);
        let local = bound.as_ref().map_or(any, Reserved::addr);
        let backlog = usize::try_from(backlog).unwrap_or(usize::MAX);
        let opening = self
            .host
            .sockets()
            .tcp_listen_with(local, backlog, self.options())?;
        Ok(TcpListener::from_socket(opening.wait()?))
    }

    fn unspecified(&self) -> IpAddr {
        if self.v6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        }
    }

    /// The bound address, with the real port; the unspecified one before.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let unbound = SocketAddr::new(self.unspecified(), 0);
        Ok(self.state().bound.as_ref().map_or(unbound, Reserved::addr))
    }

    /// The socket's pending error, which it clears. There never is one yet.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    /// Probes a silent peer at the usual times (SO_KEEPALIVE). [`TcpStream::set_keepalive`] says when.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        self.set(|options| {
            let times = options.keepalive.unwrap_or_default();
            options.keepalive = keepalive.then_some::<Keepalive>(times);
        })
    }

    /// Whether SO_KEEPALIVE is set.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn keepalive(&self) -> io::Result<bool> {
        Ok(self.options().keepalive.is_some())
    }

    /// May be bound to an address that another such socket has been bound to, if that said so, too (SO_REUSEADDR). Connections
    /// in TIME-WAIT are in nobody's way here, whatever is said.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn set_reuseaddr(&self, reuseaddr: bool) -> io::Result<()> {
        self.state().reuse_addr = reuseaddr;
        Ok(())
    }

    /// Whether SO_REUSEADDR is set.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn reuseaddr(&self) -> io::Result<bool> {
        Ok(self.state().reuse_addr)
    }

    /// Shares the address it will be bound to with other sockets and listeners that say so, too (SO_REUSEPORT):
    /// [`TcpListener::share_by`] says how listeners divide what comes. Say it before [`TcpSocket::bind`].
    ///
    /// ```
    /// use millstream::tokio::TcpSocket;
    ///
    /// # let host = millstream::Host::builder().start()?;
    /// # host.make_default();
    /// let mut workers = Vec::new();
    /// for _ in 0..4 {
    ///     let socket = TcpSocket::new_v4()?;
    ///     socket.set_reuseport(true)?;
    ///     socket.bind("127.0.0.1:80".parse().expect("an address"))?;
    ///     workers.push(socket.listen(1024)?);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn set_reuseport(&self, reuseport: bool) -> io::Result<()> {
        self.set(|options| options.reuse_port = reuseport)
    }

    /// Whether SO_REUSEPORT is set.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn reuseport(&self) -> io::Result<bool> {
        Ok(self.options().reuse_port)
    }

    /// Bytes a connection may hold to be sent (SO_SNDBUF); unless said, its buffer grows with the window.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn set_send_buffer_size(&self, size: u32) -> io::Result<()> {
        self.set(|options| options.send_buffer = Some(size.max(BUFFER_MIN)))
    }

    /// SO_SNDBUF as it was set, not twice as on Linux; where it was not, what connections begin with. Waits for the shard's
    /// next turn then.
    ///
    /// # Errors
    /// The host has stopped.
    pub fn send_buffer_size(&self) -> io::Result<u32> {
        match self.options().send_buffer {
            Some(size) => Ok(size),
            None => Ok(self.host.tunables()?.wmem_default),
        }
    }

    /// Bytes a connection may hold to be read (SO_RCVBUF), and with that its window; unless said, its buffer grows with what is
    /// read.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn set_recv_buffer_size(&self, size: u32) -> io::Result<()> {
        self.set(|options| options.receive_buffer = Some(size.max(BUFFER_MIN)))
    }

    /// SO_RCVBUF as it was set, not twice as on Linux; where it was not, what connections begin with. Waits for the shard's
    /// next turn then.
    ///
    /// # Errors
    /// The host has stopped.
    pub fn recv_buffer_size(&self) -> io::Result<u32> {
        match self.options().receive_buffer {
            Some(size) => Ok(size),
            None => Ok(self.host.tunables()?.rmem_default),
        }
    }

    /// SO_LINGER. Nought makes the last drop reset the connection; any other time changes nothing: dropping never blocks.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn set_linger(&self, dur: Option<Duration>) -> io::Result<()> {
        self.set(|options| options.linger = dur)
    }

    /// Makes the last drop reset the connection.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.set_linger(Some(Duration::ZERO))
    }

    /// SO_LINGER.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.options().linger)
    }

    /// Sends small segments at once (TCP_NODELAY).
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.set(|options| options.nodelay = nodelay)
    }

    /// Whether TCP_NODELAY is set.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.options().nodelay)
    }

    /// The type of service (IP_TOS): DSCP only, for ECN is TCP's own.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn tos_v4(&self) -> io::Result<u32> {
        Ok(self.options().tos.into())
    }

    /// Changes the type of service (IP_TOS), of which the ECN bits are left alone, as on Linux.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn set_tos_v4(&self, tos: u32) -> io::Result<()> {
        // As Linux: the lowest byte counts.
        self.set(|options| options.tos = tos as u8 & !ECN)
    }

    /// As [`TcpSocket::tos_v4`].
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    #[deprecated(note = "renamed `tos_v4`")]
    pub fn tos(&self) -> io::Result<u32> {
        self.tos_v4()
    }

    /// As [`TcpSocket::set_tos_v4`].
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    #[deprecated(note = "renamed `set_tos_v4`")]
    pub fn set_tos(&self, tos: u32) -> io::Result<()> {
        self.set_tos_v4(tos)
    }

    /// Binds the socket to the interface with this name, as the port says it, or `lo`; `None` or an empty name: to none
    /// (SO_BINDTODEVICE). What comes by other interfaces is not for it then, nor for connections it accepts, and what these send goes
    /// out by this one. Say it before [`TcpSocket::bind`]. Waits for the shard's next turn.
    ///
    /// # Errors
    /// ENODEV for an interface that is not there; the host has stopped.
    pub fn bind_device(&self, interface: Option<&[u8]>) -> io::Result<()> {
        let device = match crate::host::device_name(interface)? {
            Some(name) => Some(self.host.interface(name)?),
            None => None,
        };
        self.set(|options| options.device = device)
    }

    /// The name of the interface the socket is bound to. Waits for the shard's next turn if it is bound to one.
    ///
    /// # Errors
    /// The host has stopped.
    pub fn device(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(device) = self.options().device else {
            return Ok(None);
        };
        Ok(Some(self.host.interface_name(device)?.into_bytes()))
    }

    /// The traffic class (IPV6_TCLASS): the same option as [`TcpSocket::tos_v4`].
    ///
    /// # Errors
    /// EOPNOTSUPP of an IPv4 socket.
    pub fn tclass_v6(&self) -> io::Result<u32> {
        family::gets_v6(self.local_addr()?)?;
        self.tos_v4()
    }

    /// Changes the traffic class (IPV6_TCLASS): 0 to 255.
    ///
    /// # Errors
    /// ENOPROTOOPT of an IPv4 socket; `InvalidInput` above 255.
    pub fn set_tclass_v6(&self, tclass: u32) -> io::Result<()> {
        family::sets_v6(self.local_addr()?)?;
        self.set_tos_v4(byte(tclass)?.into())
    }
}

/// The least a buffer can be.
const BUFFER_MIN: u32 = 4096;

/// A traffic class.
pub(super) fn byte(tclass: u32) -> io::Result<u8> {
    u8::try_from(tclass).map_err(|_| io_error(SocketError::InvalidInput))
}
