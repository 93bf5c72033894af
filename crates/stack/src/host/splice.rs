//! Splicing connections of one host.

use base::Instant;

use crate::SpliceError;
use crate::socket::SocketId;

use super::Host;

impl Host {
    /// Moves up to `most` received bytes of one connection to the send queue of another: references to packet memory, not bytes.
    /// How many; 0 when the stream has ended, or nothing was asked for. Both may be the same connection.
    ///
    /// What `to` has no room for stays in `from`. Ends and errors are not passed on.
    ///
    /// # Errors
    /// As [`Host::tcp_recv`] of `from` and [`Host::tcp_send`] of `to`, with nothing moved.
    pub fn tcp_splice(
        &mut self,
        now: Instant,
        from: SocketId,
        to: SocketId,
        most: usize,
    ) -> Result<usize, SpliceError> {
        self.core.now = now;
        if most == 0 {
            return Ok(0);
        }
        self.tcp.splice(&mut self.core, from, (to, None), most)
    }

    /// As [`Host::tcp_splice`], and sends the same bytes on `copy`: the packet memory is shared. The slower of both sets the pace.
    ///
    /// # Errors
    /// As [`Host::tcp_splice`].
    pub fn tcp_tee(
        &mut self,
        now: Instant,
        from: SocketId,
        (to, copy): (SocketId, SocketId),
        most: usize,
    ) -> Result<usize, SpliceError> {
        self.core.now = now;
        if most == 0 {
            return Ok(0);
        }
        self.tcp
            .splice(&mut self.core, from, (to, Some(copy)), most)
    }
}
