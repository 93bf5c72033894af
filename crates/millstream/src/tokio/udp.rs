//! A UDP socket with tokio's face.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use ::tokio::io::ReadBuf;
use ::tokio::net::ToSocketAddrs;
use bytes::BufMut;
use engine::{UdpHandle, answered};
use stack::{UdpOptions, Via};

use super::ready::readiness;
use super::socket::byte;
use super::{addresses, attempt, fill};
use crate::tasks::datagram_calls;
use crate::udp::udp_options;
use crate::{Host, family};

/// The longest datagram there is.
const DATAGRAM_MAX: usize = 65_535;

/// A UDP socket, as tokio's.
///
/// ```
/// use millstream::tokio::UdpSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let host = millstream::Host::builder().start()?;
/// let server = UdpSocket::bind_on(&host, "127.0.0.1:7").await?;
/// let client = UdpSocket::bind_on(&host, "127.0.0.1:0").await?;
/// client.connect("127.0.0.1:7").await?;
/// client.send(b"hello").await?;
///
/// let mut buffer = [0; 2048];
/// assert_eq!(server.peek_sender().await?, client.local_addr()?);
/// let (n, peer) = server.recv_from(&mut buffer).await?;
/// server.send_to(&buffer[..n], peer).await?;
/// assert_eq!(client.recv(&mut buffer).await?, 5);
/// # Ok(())
/// # }
/// ```
///
/// By readiness, and for poll functions of one's own:
///
/// ```
/// use std::future::poll_fn;
/// use std::io::ErrorKind;
///
/// use millstream::tokio::UdpSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let host = millstream::Host::builder().start()?;
/// let blocking = host.udp_bind("127.0.0.1:7")?;
/// let server = UdpSocket::from_std(blocking)?;
/// let none = server.try_recv_from(&mut [0; 64]).unwrap_err();
/// assert_eq!(none.kind(), ErrorKind::WouldBlock);
///
/// let client = UdpSocket::bind_on(&host, "127.0.0.1:0").await?;
/// client.set_tos_v4(0x28)?; // DSCP AF11
/// poll_fn(|cx| client.poll_send_ready(cx)).await?;
/// client.try_send_to(b"hello", server.local_addr()?)?;
/// poll_fn(|cx| server.poll_recv_ready(cx)).await?;
/// assert_eq!(server.try_peek(&mut [0; 64])?, 5);
/// server.connect(client.local_addr()?).await?;
/// server.try_send(b"and you?")?;
/// assert_eq!(server.try_recv(&mut [0; 64])?, 5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    socket: Arc<UdpHandle>,
}

impl UdpSocket {
    /// Makes an async socket of a blocking one. Clones of that one go on beside it.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn from_std(socket: crate::UdpSocket) -> io::Result<Self> {
        Ok(Self {
            socket: socket.shared().clone(),
        })
    }

    /// Makes a socket with std's face of one with tokio's. As tokio's it does not block, unless told to.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn into_std(self) -> io::Result<crate::UdpSocket> {
        let socket = crate::UdpSocket::from_shared(self.socket);
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// As [`UdpSocket::recv_from`], for a poll function.
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        self.poll_receive(cx, buf, false)
    }

    /// As [`UdpSocket::recv`], for a poll function.
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_receive(cx, buf, false).map_ok(drop)
    }

    /// As [`UdpSocket::peek_from`], for a poll function.
    pub fn poll_peek_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        self.poll_receive(cx, buf, true)
    }

    /// As [`UdpSocket::peek`], for a poll function.
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_receive(cx, buf, true).map_ok(drop)
    }

    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        peek: bool,
    ) -> Poll<io::Result<SocketAddr>> {
        let received = attempt(
            cx,
            || self.socket.try_recv(buf.initialize_unfilled(), peek),
            |cx| self.socket.poll_readable(cx),
        );
        received.map_ok(|(n, from)| {
            buf.advance(n);
            from
        })
    }

    /// Who sent the next datagram, which stays to be received.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::recv_from`].
    pub async fn peek_sender(&self) -> io::Result<SocketAddr> {
        self.receive(&mut [], true).await.map(|(_, from)| from)
    }

    /// As [`UdpSocket::peek_sender`], for a poll function.
    pub fn poll_peek_sender(&self, cx: &mut Context<'_>) -> Poll<io::Result<SocketAddr>> {
        self.poll_receive(cx, &mut ReadBuf::new(&mut []), true)
    }

    /// Who sent the next datagram, if there is one.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as receiving.
    pub fn try_peek_sender(&self) -> io::Result<SocketAddr> {
        self.try_peek_from(&mut []).map(|(_, from)| from)
    }

    /// As [`UdpSocket::recv_from`], as far as `buf` has room.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::recv_from`].
    pub async fn recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| {
            attempt(
                cx,
                || self.try_recv_buf_from(buf),
                |cx| self.socket.poll_readable(cx),
            )
        })
        .await
    }

    /// As [`UdpSocket::recv`], as far as `buf` has room.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::recv_from`].
    pub async fn recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.recv_buf_from(buf).await.map(|(n, _)| n)
    }

    /// As [`UdpSocket::try_recv_from`], as far as `buf` has room.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as receiving.
    pub fn try_recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        fill(buf, DATAGRAM_MAX, |memory| {
            self.socket.try_recv(memory, false)
        })
    }

    /// As [`UdpSocket::try_recv`], as far as `buf` has room.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as receiving.
    pub fn try_recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.try_recv_buf_from(buf).map(|(n, _)| n)
    }

    /// Looks at a datagram if there is one: its length. It stays to be received.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as receiving.
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_peek_from(buf).map(|(n, _)| n)
    }

    /// As [`UdpSocket::try_peek`]: its length and sender.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as receiving.
    pub fn try_peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.try_recv(buf, true)
    }

    /// Sends a datagram to the connected peer if there is room.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as sending.
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket.try_send(buf, None)
    }

    /// Receives a datagram if there is one: its length.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as receiving.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.try_recv(buf, false).map(|(n, _)| n)
    }

    /// Sends a datagram if there is room.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as sending.
    pub fn try_send_to(&self, buf: &[u8], addr: SocketAddr) -> io::Result<usize> {
        self.socket.try_send(buf, Some(addr))
    }

    /// Receives a datagram if there is one.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as receiving.
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.try_recv(buf, false)
    }

    /// Ready when there may be a datagram; else the task is woken then.
    pub fn poll_recv_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_readable(cx).map(Ok)
    }

    /// Ready when there may be room to send; else the task is woken then.
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_writable(cx).map(Ok)
    }
}

datagram_calls!(UdpSocket);
readiness!(UdpSocket);
udp_options!(UdpSocket, Ipv4Addr);

impl UdpSocket {
    /// DSCP and ECN of what is sent (IP_TOS), both families'.
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    pub fn tos_v4(&self) -> io::Result<u32> {
        Ok(self.socket.options().tos.into())
    }

    /// Changes DSCP and ECN of what is sent (IP_TOS): 0 to 255.
    ///
    /// # Errors
    /// The host has stopped.
    pub fn set_tos_v4(&self, tos: u32) -> io::Result<()> {
        // As Linux: the lowest byte counts.
        self.socket.set_options(|options| options.tos = tos as u8)
    }

    /// The traffic class of what is sent (IPV6_TCLASS): the same as [`UdpSocket::tos_v4`].
    ///
    /// # Errors
    /// EOPNOTSUPP of an IPv4 socket.
    pub fn tclass_v6(&self) -> io::Result<u32> {
        family::gets_v6(self.local_addr()?)?;
        self.tos_v4()
    }

    /// Changes the traffic class of what is sent (IPV6_TCLASS): 0 to 255.
    ///
    /// # Errors
    /// ENOPROTOOPT of an IPv4 socket; `InvalidInput` above 255; the host has stopped.
    pub fn set_tclass_v6(&self, tclass: u32) -> io::Result<()> {
        family::sets_v6(self.local_addr()?)?;
        let tclass = byte(tclass)?;
        self.socket.set_options(|options| options.tos = tclass)
    }

    /// As [`UdpSocket::tos_v4`].
    ///
    /// # Errors
    /// None; the result is that of tokio's method.
    #[deprecated(note = "renamed `tos_v4`")]
    pub fn tos(&self) -> io::Result<u32> {
        self.tos_v4()
    }

    /// As [`UdpSocket::set_tos_v4`].
    ///
    /// # Errors
    /// As [`UdpSocket::set_tos_v4`].
    #[deprecated(note = "renamed `set_tos_v4`")]
    pub fn set_tos(&self, tos: u32) -> io::Result<()> {
        self.set_tos_v4(tos)
    }
}

impl TryFrom<crate::UdpSocket> for UdpSocket {
    type Error = io::Error;

    fn try_from(socket: crate::UdpSocket) -> io::Result<Self> {
        Self::from_std(socket)
    }
}
