//! What the faces for async runtimes have in common: tokio's and futures-io's.
//!
//! The macros write methods for types of both; what they name beside `crate` and `std` is of the module they stand in: its
//! `TcpStream`, its `ToSocketAddrs` with `addresses` for them, and its `attempt`, which knows what the runtime asks of a task.
//!
//! What does not live here: traits, and names that only one of the faces has.

use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};

use engine::{TcpListenerSocket, TcpSocket, UdpHandle, answered};
use stack::UdpOptions;

use crate::Host;
use crate::host::unresolved;

/// Connections that may wait to be accepted: tokio's default.
const BACKLOG: usize = 1024;

/// Tries the addresses in turn, as std does: the first success, or the last error.
async fn each<T, F>(addrs: Vec<SocketAddr>, mut call: impl FnMut(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut last = None;
    for addr in addrs {
        match call(addr).await {
            Ok(made) => return Ok(made),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(unresolved))
}

/// A listener on the first address that can be had.
pub(crate) async fn listen(host: &Host, addrs: Vec<SocketAddr>) -> io::Result<TcpListenerSocket> {
    let listen = |addr| async move { host.sockets().tcp_listen(addr, BACKLOG)?.opened().await };
    each(addrs, listen).await
}

/// A connection to the first address that can be connected to.
pub(crate) async fn connect(host: &Host, addrs: Vec<SocketAddr>) -> io::Result<TcpSocket> {
    let connect = |addr| async move { connected(host.sockets().tcp_connect(addr, None)?).await };
    each(addrs, connect).await
}

/// Waits until a connection is decided.
pub(crate) async fn connected(socket: TcpSocket) -> io::Result<TcpSocket> {
    loop {
        if let Some(decided) = socket.connected() {
            return decided.map(|()| socket);
        }
        poll_fn(|cx| socket.poll_writable(cx)).await;
    }
}

/// A UDP socket on the first address that can be had.
pub(crate) async fn bind(host: &Host, addrs: Vec<SocketAddr>) -> io::Result<UdpHandle> {
    let options = UdpOptions::default();
    let bind = |addr| async move { host.sockets().udp_bind(addr, options)?.opened().await };
    each(addrs, bind).await
}

/// Sets a UDP socket's peer: the first address that can be had.
pub(crate) async fn set_peer(socket: &UdpHandle, addrs: Vec<SocketAddr>) -> io::Result<()> {
    let connect = |addr| async move { answered(socket.connect(addr).await) };
    each(addrs, connect).await
}

/// What std says when there is nobody to send to.
pub(crate) fn nobody() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no addresses to send data to")
}

/// Ends the writing direction, as far as there is one.
pub(crate) fn end_writing(socket: &TcpSocket) -> io::Result<()> {
    match socket.shutdown(Shutdown::Write) {
        // The peer was first: there is nothing left to end.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        done => done,
    }
}

/// Waiting for a socket's readiness.
macro_rules! waits {
    ($type:ty) => {
        impl $type {
            /// Waits until there may be something to read: data, an end, an error.
            ///
            /// # Errors
            /// None: errors are those of the call that follows.
            pub async fn readable(&self) -> io::Result<()> {
                poll_fn(|cx| self.socket().poll_readable(cx)).await;
                Ok(())
            }

            /// Waits until there may be room to write.
            ///
            /// # Errors
            /// None: errors are those of the call that follows.
            pub async fn writable(&self) -> io::Result<()> {
                poll_fn(|cx| self.socket().poll_writable(cx)).await;
                Ok(())
            }
        }
    };
}
pub(crate) use waits;

/// A `TcpListener` that holds one with std's face as `listener`.
macro_rules! listener_calls {
    ($listener:ty) => {
        impl $listener {
            pub(crate) fn socket(&self) -> &engine::TcpListenerSocket {
                self.listener.socket()
            }

            /// Listens on the default host ([`Host::make_default`]), on the first address that can be had. Port 0: one that is
            /// free. There is room for 1024 connections that wait to be accepted.
            ///
            /// # Errors
            /// As [`Host::tcp_listen`]; `NetworkDown` without a default host.
            pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
                Self::bind_on(&Host::current()?, addr).await
            }

            /// As [`TcpListener::bind`], on `host`.
            ///
            /// # Errors
            /// As [`Host::tcp_listen`].
            pub async fn bind_on<A: ToSocketAddrs>(host: &Host, addr: A) -> io::Result<Self> {
                let socket = crate::tasks::listen(host, addresses(addr).await?).await?;
                Ok(Self::from_socket(socket))
            }

            /// The next connection and where it comes from. Waits for one.
            ///
            /// # Errors
            /// The host has stopped.
            pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
                poll_fn(|cx| self.poll_accept(cx)).await
            }

            /// As [`TcpListener::accept`], for a poll function.
            pub fn poll_accept(
                &self,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
                let socket = self.socket();
                let accepted = attempt(cx, || socket.try_accept(), |cx| socket.poll_acceptable(cx));
                accepted.map_ok(|(socket, peer)| (TcpStream::from_socket(socket), peer))
            }

            /// The address it listens on, with the real port.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                self.listener.local_addr()
            }

            /// The time to live (hop limit) of connections accepted from now on: 1 to 255.
            ///
            /// # Errors
            /// `InvalidInput` for other values; the host has stopped.
            pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
                self.listener.set_ttl(ttl)
            }

            /// The time to live (hop limit) of accepted connections.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn ttl(&self) -> io::Result<u32> {
                self.listener.ttl()
            }

            /// The options accepted connections begin with.
            pub fn options(&self) -> stack::TcpOptions {
                self.listener.options()
            }

            /// Changes any options accepted connections begin with. How the listener shares its address, and whether it takes
            /// IPv4, was settled when it was made.
            ///
            /// # Errors
            /// `InvalidInput` for a time to live of nought; the host has stopped.
            pub fn set_options(
                &self,
                change: impl FnOnce(&mut stack::TcpOptions),
            ) -> io::Result<()> {
                self.listener.set_options(change)
            }

            /// As [`crate::TcpListener::share_by`]: how this listener and those that share its address divide connections. Waits for
            /// the shard's next turn.
            ///
            /// # Errors
            /// `InvalidInput` when it shares with nobody; the host has stopped.
            pub fn share_by(&self, how: stack::ReusePort) -> io::Result<()> {
                self.listener.share_by(how)
            }
        }
    };
}
pub(crate) use listener_calls;

/// A `TcpStream` that holds its socket as `socket`.
macro_rules! stream_calls {
    ($stream:ty) => {
        impl $stream {
            pub(super) fn from_socket(socket: engine::TcpSocket) -> Self {
                Self {
                    socket: std::sync::Arc::new(socket),
                }
            }

            pub(crate) fn socket(&self) -> &engine::TcpSocket {
                &self.socket
            }

            fn shared(&self) -> &std::sync::Arc<engine::TcpSocket> {
                &self.socket
            }

            /// Connects the default host ([`Host::make_default`]) to `addr`: to the first address that can be connected to.
            ///
            /// # Errors
            /// As [`Host::tcp_connect`]; `NetworkDown` without a default host.
            pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
                Self::connect_on(&Host::current()?, addr).await
            }

            /// As [`TcpStream::connect`], from `host`.
            ///
            /// # Errors
            /// As [`Host::tcp_connect`].
            pub async fn connect_on<A: ToSocketAddrs>(host: &Host, addr: A) -> io::Result<Self> {
                let socket = crate::tasks::connect(host, addresses(addr).await?).await?;
                Ok(Self::from_socket(socket))
            }

            /// This end's address.
            ///
            /// # Errors
            /// None once connected.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                self.socket.local_addr()
            }

            /// The other end's address.
            ///
            /// # Errors
            /// `NotConnected` when the connection is over.
            pub fn peer_addr(&self) -> io::Result<SocketAddr> {
                self.socket.peer_addr()
            }

            /// The connection's pending error (SO_ERROR), which it clears.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                Ok(self.socket.take_error())
            }

            /// As [`crate::TcpStream::receive_blocks`].
            ///
            /// # Errors
            /// As reading.
            pub async fn receive_blocks(&self) -> io::Result<engine::Blocks> {
                let socket = self.socket();
                poll_fn(|cx| attempt(cx, || socket.try_receive(), |cx| socket.poll_readable(cx)))
                    .await
            }

            /// As [`crate::TcpStream::shard`].
            pub fn shard(&self) -> usize {
                self.socket.shard()
            }

            /// As [`crate::TcpStream::move_to`].
            ///
            /// # Errors
            /// As of that.
            pub async fn move_to(&self, shard: usize) -> io::Result<()> {
                engine::answered(self.socket.move_to(shard).await)
            }

            /// Reads without taking: the next read gives the same bytes. How many; none at the end.
            ///
            /// # Errors
            /// As reading.
            pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
                let socket = self.socket();
                poll_fn(|cx| attempt(cx, || socket.try_peek(buf), |cx| socket.poll_readable(cx)))
                    .await
            }

            /// What TCP knows of the connection (TCP_INFO), from the shard's next turn.
            ///
            /// # Errors
            /// `NotConnected` when the connection is over.
            pub async fn info(&self) -> io::Result<stack::TcpInfo> {
                let info = self.socket.info().await;
                info.ok_or_else(|| io::ErrorKind::NotConnected.into())
            }
        }

        crate::tasks::waits!($stream);
    };
}
pub(crate) use stream_calls;

/// A `UdpSocket` that holds its socket as `socket`.
macro_rules! datagram_calls {
    ($udp:ty) => {
        impl $udp {
            pub(crate) fn socket(&self) -> &engine::UdpHandle {
                &self.socket
            }

            /// Binds to `addr` of the default host ([`Host::make_default`]): the first that can be had. Port 0: one that is free.
            ///
            /// # Errors
            /// As [`Host::udp_bind`]; `NetworkDown` without a default host.
            pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
                Self::bind_on(&Host::current()?, addr).await
            }

            /// As [`UdpSocket::bind`], on `host`.
            ///
            /// # Errors
            /// As [`Host::udp_bind`].
            pub async fn bind_on<A: ToSocketAddrs>(host: &Host, addr: A) -> io::Result<Self> {
                let socket = crate::tasks::bind(host, addresses(addr).await?).await?;
                Ok(Self {
                    socket: std::sync::Arc::new(socket),
                })
            }

            /// Sets the peer: where [`UdpSocket::send`] goes, and the only one whose datagrams are received.
            ///
            /// # Errors
            /// As [`crate::UdpSocket::connect`].
            pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
                crate::tasks::set_peer(&self.socket, addresses(addr).await?).await
            }

            /// Sends a datagram to `addr`; how many bytes, which is all of them.
            ///
            /// # Errors
            /// As [`crate::UdpSocket::send_to`].
            pub async fn send_to<A: ToSocketAddrs>(
                &self,
                buf: &[u8],
                addr: A,
            ) -> io::Result<usize> {
                let first = addresses(addr).await?.into_iter().next();
                let addr = first.ok_or_else(crate::tasks::nobody)?;
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

            /// Sends a datagram to the connected peer; how many bytes, which is all of them.
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

            /// Receives a datagram: its length and sender. What does not fit into `buf` is lost.
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

            /// Receives a datagram from the connected peer: its length. What does not fit into `buf` is lost.
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

            /// Sends datagrams, each with what is said of it alone: as many as there is room for, which is waited for if there is
            /// none for the first. How many. See [`datagram`](crate::datagram).
            ///
            /// # Errors
            /// As [`crate::UdpSocket::send_batch`].
            pub async fn send_batch(&self, batch: &[engine::Transmit<'_>]) -> io::Result<usize> {
                poll_fn(|cx| self.poll_send_batch(cx, batch)).await
            }

            /// As [`UdpSocket::send_batch`], for a poll function.
            pub fn poll_send_batch(
                &self,
                cx: &mut Context<'_>,
                batch: &[engine::Transmit<'_>],
            ) -> Poll<io::Result<usize>> {
                attempt(
                    cx,
                    || self.socket.try_send_batch(batch),
                    |cx| self.socket.poll_writable(cx),
                )
            }

            /// As [`UdpSocket::send_batch`], if there is room.
            ///
            /// # Errors
            /// `WouldBlock` when there is none; as sending.
            pub fn try_send_batch(&self, batch: &[engine::Transmit<'_>]) -> io::Result<usize> {
                self.socket.try_send_batch(batch)
            }

            /// Receives datagrams, as many as are there, and waits for the first: one into each buffer, or where there are more
            /// that are alike and there is room for them a train. How many buffers were filled; `meta` says of each what is in
            /// it. See [`datagram`](crate::datagram).
            ///
            /// # Errors
            /// As [`crate::UdpSocket::recv_batch`].
            pub async fn recv_batch(
                &self,
                bufs: &mut [io::IoSliceMut<'_>],
                meta: &mut [engine::RecvMeta],
            ) -> io::Result<usize> {
                poll_fn(|cx| self.poll_recv_batch(cx, bufs, meta)).await
            }

            /// As [`UdpSocket::recv_batch`], for a poll function.
            pub fn poll_recv_batch(
                &self,
                cx: &mut Context<'_>,
                bufs: &mut [io::IoSliceMut<'_>],
                meta: &mut [engine::RecvMeta],
            ) -> Poll<io::Result<usize>> {
                attempt(
                    cx,
                    || self.socket.try_recv_batch(bufs, meta),
                    |cx| self.socket.poll_readable(cx),
                )
            }

            /// As [`UdpSocket::recv_batch`], if there is a datagram.
            ///
            /// # Errors
            /// `WouldBlock` when there is none; as receiving.
            pub fn try_recv_batch(
                &self,
                bufs: &mut [io::IoSliceMut<'_>],
                meta: &mut [engine::RecvMeta],
            ) -> io::Result<usize> {
                self.socket.try_recv_batch(bufs, meta)
            }

            /// As [`crate::UdpSocket::receive_packet`]: receives a datagram without a copy.
            ///
            /// # Errors
            /// As [`crate::UdpSocket::recv_from`].
            pub async fn receive_packet(&self) -> io::Result<engine::Packet> {
                poll_fn(|cx| self.poll_receive_packet(cx)).await
            }

            /// As [`UdpSocket::receive_packet`], for a poll function.
            pub fn poll_receive_packet(
                &self,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<engine::Packet>> {
                attempt(
                    cx,
                    || self.socket.try_receive_packet(),
                    |cx| self.socket.poll_readable(cx),
                )
            }

            /// As [`UdpSocket::receive_packet`], if there is a datagram.
            ///
            /// # Errors
            /// `WouldBlock` when there is none; as receiving.
            pub fn try_receive_packet(&self) -> io::Result<engine::Packet> {
                self.socket.try_receive_packet()
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
        }

        crate::tasks::waits!($udp);
    };
}
pub(crate) use datagram_calls;
