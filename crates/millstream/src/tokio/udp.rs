//! A UDP socket with tokio's face.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};

use ::tokio::io::ReadBuf;
use engine::{UdpHandle, Via, answered};
use stack::UdpOptions;

use super::{addresses, attempt, none};
use crate::Host;
use crate::udp::udp_options;

/// A UDP socket, as tokio's.
///
/// ```no_run
/// # async fn example(host: millstream::Host) -> std::io::Result<()> {
/// let socket = millstream::tokio::UdpSocket::bind(&host, "0.0.0.0:7").await?;
/// let mut buffer = [0; 2048];
/// loop {
///     let (n, peer) = socket.recv_from(&mut buffer).await?;
///     socket.send_to(&buffer[..n], peer).await?;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    socket: Arc<UdpHandle>,
}

impl UdpSocket {
    fn socket(&self) -> &UdpHandle {
        &self.socket
    }

    /// Binds to `addr` of `host`. Port 0: one that is free.
    ///
    /// # Errors
    /// As [`Host::udp_bind`].
    pub async fn bind(host: &Host, addr: impl ToSocketAddrs) -> io::Result<Self> {
        let mut last = none();
        for addr in addresses(addr)? {
            match Self::bind_one(host, addr).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn bind_one(host: &Host, addr: SocketAddr) -> io::Result<Self> {
        let opening = host.sockets().udp_bind(addr, UdpOptions::default())?;
        Ok(Self {
            socket: Arc::new(opening.opened().await?),
        })
    }

    /// Makes an async socket of a blocking one. The two work side by side while both are there.
    pub fn from_std(socket: crate::UdpSocket) -> Self {
        Self {
            socket: socket.shared().clone(),
        }
    }

    /// Makes a blocking socket of an async one.
    pub fn into_std(self) -> crate::UdpSocket {
        crate::UdpSocket::from_shared(self.socket)
    }

    /// Sets the peer.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::connect`].
    pub async fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        let mut last = none();
        for addr in addresses(addr)? {
            match answered(self.socket.connect(addr).await) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sends a datagram to `addr`.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::send_to`].
    pub async fn send_to(&self, buf: &[u8], addr: impl ToSocketAddrs) -> io::Result<usize> {
        let addr = *addresses(addr)?.first().ok_or_else(none)?;
        poll_fn(|cx| self.poll_send_to(cx, buf, addr)).await
    }

    /// As [`UdpSocket::send_to`], for a poll function.
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        addr: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        attempt(
            cx,
            || self.socket.try_send(buf, Some(addr)),
            |cx| self.socket.poll_writable(cx),
        )
    }

    /// Sends a datagram to the connected peer.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::send`].
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_send(cx, buf)).await
    }

    /// As [`UdpSocket::send`], for a poll function.
    pub fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        attempt(
            cx,
            || self.socket.try_send(buf, None),
            |cx| self.socket.poll_writable(cx),
        )
    }

    /// Receives a datagram: its length and sender.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::recv_from`].
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive(buf, false).await
    }

    /// As [`UdpSocket::recv_from`], and the datagram stays to be received again.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::recv_from`].
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive(buf, true).await
    }

    /// Receives a datagram from the connected peer: its length.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::recv_from`].
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf, false).await.map(|(n, _)| n)
    }

    /// As [`UdpSocket::recv`], and the datagram stays to be received again.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::recv_from`].
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf, true).await.map(|(n, _)| n)
    }

    async fn receive(&self, buf: &mut [u8], peek: bool) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| {
            attempt(
                cx,
                || self.socket.try_recv(buf, peek),
                |cx| self.socket.poll_readable(cx),
            )
        })
        .await
    }

    /// As [`UdpSocket::recv_from`], for a poll function.
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        let received = attempt(
            cx,
            || self.socket.try_recv(buf.initialize_unfilled(), false),
            |cx| self.socket.poll_readable(cx),
        );
        received.map_ok(|(n, from)| {
            buf.advance(n);
            from
        })
    }

    /// As [`UdpSocket::recv`], for a poll function.
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_recv_from(cx, buf).map_ok(drop)
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

    /// Waits until there may be a datagram.
    ///
    /// # Errors
    /// None: errors are those of the call that follows.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.socket.poll_readable(cx)).await;
        Ok(())
    }

    /// Waits until there may be room to send.
    ///
    /// # Errors
    /// None: errors are those of the call that follows.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.socket.poll_writable(cx)).await;
        Ok(())
    }
}

udp_options!(UdpSocket, Ipv4Addr);
