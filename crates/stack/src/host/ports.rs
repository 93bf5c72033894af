//! What those ask who bind sockets that neither listen nor connect yet.
//!
//! What does not live here: which sockets are bound (whoever hands them out knows).

use core::net::SocketAddr;

use wire::Addr;

use super::Host;

impl Host {
    /// An ephemeral port that no listener has, for who binds first and listens or connects later. `None` when all have one.
    pub fn tcp_free_port(&mut self) -> Option<u16> {
        self.tcp.free_port(&mut self.core)
    }

    /// Whether connections that the application has let go of, TIME-WAIT for the most part, hold the port of `local` on an address
    /// of its: on Linux they are in the way of a bind without SO_REUSEADDR. `dual`: the wildcard of IPv6 is one of both families.
    /// Costs the same however many there are.
    pub fn tcp_lingers(&self, local: SocketAddr, dual: bool) -> bool {
        self.tcp
            .lingers(&Addr::from(local.ip()), local.port(), dual)
    }
}
