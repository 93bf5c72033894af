//! Connections that go from one shard of a host to another.

use base::Instant;
use wire::Addr;

use super::Host;
use crate::TcpParcel;
use crate::error::SocketError;
use crate::socket::SocketId;

impl Host {
    /// Takes a connection out of this host, with all that is in flight and waits: nothing is sent, and the handle is dead. It goes on
    /// where it is put ([`Host::tcp_put`]); until then its segments are to be kept from this host, which would reset it.
    ///
    /// # Errors
    /// `InProgress` while it is being set up, `NotConnected` once it is over, `NotSupported` when its peer is this host itself, or
    /// somebody waits for marks of it. It stays as it is.
    pub fn tcp_take(&mut self, now: Instant, socket: SocketId) -> Result<TcpParcel, SocketError> {
        self.core.now = now;
        self.tcp.take(&mut self.core, &self.net, socket)
    }

    /// Puts a connection into this host, which has the same addresses and clock as the one it comes from. What it has to say is
    /// told as events of its new handle, whose token is 0. From now on time is not before [`TcpParcel::taken_at`].
    ///
    /// # Errors
    /// `NoBuffers` when a table or packet memory has no room for all of it; it comes back whole.
    pub fn tcp_put(
        &mut self,
        now: Instant,
        parcel: TcpParcel,
    ) -> Result<SocketId, (TcpParcel, SocketError)> {
        self.core.now = now.max(parcel.taken_at());
        self.tcp.put(&mut self.core, parcel)
    }

    /// Has [`Host::poll_tcp_end`] tell when there is nothing left of a connection with these ends, local and remote: not even
    /// TIME-WAIT.
    pub fn tcp_watch_end(&mut self, local: (Addr, u16), remote: (Addr, u16)) {
        self.tcp.watch_end((local, remote));
    }

    /// Ends, local and remote, of a connection of which nothing is left, each once.
    pub fn poll_tcp_end(&mut self) -> Option<((Addr, u16), (Addr, u16))> {
        self.tcp.pop_ended()
    }

    /// A connection with these ends, local and remote, which would be this shard's by its flow, is on another from now on, or no more:
    /// meanwhile no other is given them.
    pub fn tcp_lend(&mut self, local: (Addr, u16), remote: (Addr, u16), away: bool) {
        self.tcp.lend((local, remote), away);
    }
}
