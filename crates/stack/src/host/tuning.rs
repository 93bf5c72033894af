//! What of TCP is tuned while the host runs, and what a load balancer in front of it asks.
//!
//! What does not live here: options of sockets, sizes of tables.

use core::net::SocketAddr;

use base::{Instant, Seq};
use wire::Addr;

use super::Host;
use crate::error::{ConfigError, SocketError};
use crate::reports::ErrorReport;
use crate::socket::SocketId;
use crate::tcp::{FastOpenKeys, Known, Notice, TcpMemory, TcpTunables, Urgent, Write};

impl Host {
    /// TCP's host-wide settings.
    pub fn tcp_tunables(&self) -> TcpTunables {
        self.core.tcp
    }

    /// Changes TCP's host-wide settings; each holds from its next use on. Timers that run already, and the backlogs of listeners,
    /// stay as they are.
    ///
    /// # Errors
    /// `Value` when one of them is out of range; nothing has changed then.
    pub fn set_tcp_tunables(&mut self, tunables: TcpTunables) -> Result<(), ConfigError> {
        if !tunables.check() {
            return Err(ConfigError::Value(TcpTunables::OUT_OF_RANGE));
        }
        let before = self.core.tcp;
        self.core.retune(tunables);
        self.tcp.retuned(&self.core, &before);
        Ok(())
    }

    /// The packet memory that TCP's queues hold, and the levels of `tcp_mem`.
    pub fn tcp_memory(&self) -> TcpMemory {
        self.core.tcp_memory()
    }

    /// Bytes that may wait to be read on a connection now: its buffer, or what that has grown to.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_receive_limit(&self, socket: SocketId) -> Result<u32, SocketError> {
        self.tcp.receive_limit(&self.core, socket)
    }

    /// The memory for that, as Linux reckons (SO_RCVBUF): twice the bytes, or less where a stream fills its memory well.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_receive_memory(&self, socket: SocketId) -> Result<u32, SocketError> {
        self.tcp.receive_memory(&self.core, socket)
    }

    /// Acknowledges what arrives at once, or as late as may be, for the next segments (TCP_QUICKACK); an ACK that is owed
    /// leaves.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_set_quick_ack(
        &mut self,
        now: Instant,
        socket: SocketId,
        quick: bool,
    ) -> Result<(), SocketError> {
        self.core.now = now;
        self.tcp.set_quick_ack(socket, quick)
    }

    /// Whether what arrives is acknowledged at once for now; not while the application is expected to answer it (what Linux tells
    /// of TCP_QUICKACK).
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_quick_ack(&self, socket: SocketId) -> Result<bool, SocketError> {
        self.tcp.quick_ack(socket)
    }

    /// Queues bytes to be sent, as [`Host::tcp_send`], and says what they are: the beginning of more, the end of a record, urgent.
    /// The latter two only hold when all of them were taken.
    ///
    /// # Errors
    /// As [`Host::tcp_send`]; `NoBuffers` when the ends of too many records wait.
    pub fn tcp_send_with(
        &mut self,
        now: Instant,
        socket: SocketId,
        bytes: &[u8],
        how: Write,
    ) -> Result<usize, SocketError> {
        self.core.now = now;
        self.tcp.send(&mut self.core, socket, bytes, how)
    }

    /// The urgent data ahead of a connection's reader, while there is any.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_urgent(&self, socket: SocketId) -> Result<Option<Urgent>, SocketError> {
        self.tcp.urgent(socket)
    }

    /// Copies received bytes out from the one `offset` behind the next on, and leaves all; returns how many.
    ///
    /// # Errors
    /// As [`Host::tcp_recv`].
    pub fn tcp_peek_at(
        &mut self,
        socket: SocketId,
        offset: usize,
        out: &mut [u8],
    ) -> Result<usize, SocketError> {
        self.tcp.peek(&self.core, socket, offset, out)
    }

    /// The send buffer of a connection now: what its options say, or what it has grown to (SO_SNDBUF).
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_send_buffer(&self, socket: SocketId) -> Result<u32, SocketError> {
        self.tcp.send_buffer(&self.core, socket)
    }

    /// Marks the end of what was written to a connection: `word` comes back in a [`Notice`] when all of it was sent (the first
    /// of `wanted`), and in one when the peer acknowledged it, or the connection ended (the second).
    ///
    /// # Errors
    /// `BadSocket`; `NotConnected` when the connection has ended; `NoBuffers` when there are as many marks as may be.
    pub fn tcp_mark(
        &mut self,
        now: Instant,
        socket: SocketId,
        word: u64,
        wanted: (bool, bool),
    ) -> Result<(), SocketError> {
        self.core.now = now;
        self.tcp.mark(now, socket, word, wanted)
    }

    /// The oldest notice that nobody has taken, of any connection. They count as marks until they are taken.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.tcp.pop_notice()
    }

    /// Sets the secrets of Fast Open cookies, of one listener or of all that have none of their own (TCP_FASTOPEN_KEY,
    /// tcp_fastopen_key). Without this the host has one of its own, new at each start. Servers behind one address need the same.
    ///
    /// # Errors
    /// `BadSocket` for what is no listener.
    pub fn set_tcp_fast_open_keys(
        &mut self,
        listener: Option<SocketId>,
        keys: FastOpenKeys,
    ) -> Result<(), SocketError> {
        self.tcp.set_fast_open_keys(listener, keys)
    }

    /// The secrets in use.
    ///
    /// # Errors
    /// As [`Host::set_tcp_fast_open_keys`].
    pub fn tcp_fast_open_keys(
        &self,
        listener: Option<SocketId>,
    ) -> Result<FastOpenKeys, SocketError> {
        self.tcp.fast_open_keys(listener)
    }

    /// The headers of the SYN that opened a connection, if its listener saves them (`TcpOptions::save_syn`) and they were not
    /// forgotten; nothing else, nor of a connection whose listener had answered by a cookie (TCP_SAVED_SYN).
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_saved_syn(&self, socket: SocketId) -> Result<&[u8], SocketError> {
        self.tcp.saved_syn(socket)
    }

    /// Gives the memory of [`Host::tcp_saved_syn`] back.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_forget_saved_syn(&mut self, socket: SocketId) -> Result<(), SocketError> {
        self.tcp.forget_saved_syn(socket)
    }

    /// The oldest ICMP error that a socket asked for (`receive_errors`) and nobody has taken.
    pub fn poll_error_report(&mut self) -> Option<ErrorReport> {
        self.net.socket_errors.pop()
    }

    /// The MTU of the path to a socket's peer, as far as it is known (IP_MTU).
    ///
    /// # Errors
    /// `NotConnected`, `BadSocket`.
    pub fn path_mtu(&self, now: Instant, socket: SocketId) -> Result<u16, SocketError> {
        let (own, peer) = (self.local_addr(socket)?, self.peer_addr(socket)?);
        let (own, peer) = (Addr::from(own.ip()), Addr::from(peer.ip()));
        Ok(self.net.path_mtu(now, &peer, &own))
    }

    /// Whether this host knows a segment's connection: one that is open, half-open or in TIME-WAIT, or one that only the cookie
    /// in an ACK with these numbers tells of (the second chance of a load balancer). It changes nothing.
    pub fn tcp_knows(
        &self,
        now: Instant,
        remote: SocketAddr,
        local: SocketAddr,
        (seq, ack): (u32, u32),
    ) -> Option<Known> {
        self.tcp.knows(
            now,
            (Addr::from(remote.ip()), remote.port()),
            (Addr::from(local.ip()), local.port()),
            (Seq(seq), Seq(ack)),
        )
    }
}
