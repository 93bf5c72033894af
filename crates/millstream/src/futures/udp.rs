//! A UDP socket for tasks of any runtime.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use engine::{UdpHandle, Via, answered};
use stack::UdpOptions;

use super::attempt;
use crate::Host;
use crate::host::unresolved;
use crate::udp::udp_options;

/// A UDP socket for tasks of any runtime. The last clone that is dropped closes it.
#[derive(Debug, Clone)]
pub struct UdpSocket {
    socket: Arc<UdpHandle>,
}

impl UdpSocket {
    fn socket(&self) -> &UdpHandle {
        &self.socket
    }

    /// Binds to `addr` of the default host ([`Host::make_default`]). Port 0: one that is free.
    ///
    /// # Errors
    /// As [`Host::udp_bind`]; `NetworkDown` without a default host.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::bind_on(&Host::current()?, addr).await
    }

    /// Binds to `addr` of `host`. Port 0: one that is free.
    ///
    /// # Errors
    /// As [`Host::udp_bind`].
    pub async fn bind_on<A: ToSocketAddrs>(host: &Host, addr: A) -> io::Result<Self> {
        let addrs: Vec<SocketAddr> = addr.to_socket_addrs()?.collect();
        let mut last = unresolved();
        for addr in addrs {
            let opening = host.sockets().udp_bind(addr, UdpOptions::default())?;
            match opening.opened().await {
                Ok(socket) => {
                    return Ok(Self {
                        socket: Arc::new(socket),
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sets the peer.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::connect`].
    pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        let addrs: Vec<SocketAddr> = addr.to_socket_addrs()?.collect();
        let mut last = unresolved();
        for addr in addrs {
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
    pub async fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let addr = addr.to_socket_addrs()?.next().ok_or_else(unresolved)?;
        self.send_any(buf, Some(addr)).await
    }

    /// Sends a datagram to the connected peer.
    ///
    /// # Errors
    /// As [`crate::UdpSocket::send`].
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.send_any(buf, None).await
    }

    async fn send_any(&self, buf: &[u8], to: Option<SocketAddr>) -> io::Result<usize> {
        let socket = self.socket();
        poll_fn(|cx| {
            attempt(
                cx,
                || socket.try_send(buf, to),
                |cx| socket.poll_writable(cx),
            )
        })
        .await
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
        let socket = self.socket();
        poll_fn(|cx| {
            attempt(
                cx,
                || socket.try_recv(buf, peek),
                |cx| socket.poll_readable(cx),
            )
        })
        .await
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

/// The same socket; clones of the one with std's face go on beside it.
impl From<crate::UdpSocket> for UdpSocket {
    fn from(socket: crate::UdpSocket) -> Self {
        Self {
            socket: socket.shared().clone(),
        }
    }
}

/// The same socket with std's face, which blocks.
impl From<UdpSocket> for crate::UdpSocket {
    fn from(socket: UdpSocket) -> Self {
        Self::from_shared(socket.socket)
    }
}
