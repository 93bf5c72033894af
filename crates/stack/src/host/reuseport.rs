//! How sockets that share an address divide what comes. The groups themselves are in `reuseport`.

use super::Host;
use crate::error::SocketError;
use crate::reuseport::{Group, Selector};
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
        selector: Selector,
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

    /// How many sockets share an address with this one, itself included.
    ///
    /// # Errors
    /// As [`Host::reuseport_select`].
    pub fn reuseport_members(&mut self, socket: SocketId) -> Result<usize, SocketError> {
        Ok(self.share(socket)?.len())
    }
}
