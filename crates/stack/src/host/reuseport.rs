//! How sockets that share an address divide what comes. The groups themselves are in `reuseport`.

use core::net::SocketAddr;

use wire::Addr;

use super::Host;
use crate::error::SocketError;
use crate::reuseport::{Group, ReusePort};
use crate::socket::{SocketId, SocketKind};

impl Host {
    fn share(&mut self, socket: SocketId) -> Result<&mut Group, SocketError> {
        match socket.kind() {
            Some(SocketKind::Listener) => self.tcp.share(socket),
            Some(SocketKind::Udp) => self.udp.share(socket),
            _ => Err(SocketError::BadSocket),
        }
    }

    /// Sets how the group of a socket chooses among its members, for all of them.
    ///
    /// # Errors
    /// `InvalidInput` for a socket that was bound without `reuse_port`; `BadSocket`.
    pub fn reuseport_select(
        &mut self,
        socket: SocketId,
        selector: ReusePort,
    ) -> Result<(), SocketError> {
        self.share(socket)?.select_by(selector);
        Ok(())
    }

    /// Takes the program away that chooses (SO_DETACH_REUSEPORT_BPF): tuples do again.
    ///
    /// # Errors
    /// `NotFound` when there is none, and as [`Host::reuseport_select`].
    pub fn reuseport_forget_program(&mut self, socket: SocketId) -> Result<(), SocketError> {
        self.share(socket)?.forget_program()
    }

    /// Another listener that shares its address with this one: it inherits what waits when this one is closed, if `migrate_req`
    /// says so.
    pub fn reuseport_heir(&self, listener: SocketId) -> Option<SocketId> {
        let migrates = self.core.tcp.migrate_req != 0;
        self.tcp.another(listener).filter(|_| migrates)
    }

    /// What events carry ([`Host::set_token`]) of the listener that a connection belongs to, of those that share their address with
    /// this one: for who has accepted a connection that nobody has asked for yet.
    pub fn reuseport_member(
        &self,
        listener: SocketId,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<u64> {
        let end = |at: SocketAddr| (Addr::from(at.ip()), at.port());
        self.tcp.token_of_member(listener, end(remote), end(local))
    }

    /// How many sockets share an address with this one, itself included.
    ///
    /// # Errors
    /// As [`Host::reuseport_select`].
    pub fn reuseport_members(&mut self, socket: SocketId) -> Result<usize, SocketError> {
        Ok(self.share(socket)?.len())
    }
}
