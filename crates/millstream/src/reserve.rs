//! Addresses that TCP sockets were bound to which neither connect nor listen yet: the stack does not know of these.
//!
//! Invariant: an address is taken from [`Host::reserve`] until its [`Reserved`] is dropped, and no longer.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::io_error;
use stack::{SocketError, TcpOptions};

use crate::host::{Host, stopped};

/// The addresses taken on one host, and whether who took it shares it with those who do.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Mutex<Vec<(SocketAddr, bool)>>);

impl Reservations {
    fn list(&self) -> MutexGuard<'_, Vec<(SocketAddr, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address that is taken.
#[derive(Debug)]
pub(crate) struct Reserved {
    host: Host,
    addr: SocketAddr,
    shares: bool,
}

impl Reserved {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut list = self.host.reservations().list();
        let own = (self.addr, self.shares);
        if let Some(at) = list.iter().position(|taken| *taken == own) {
            list.swap_remove(at);
        }
    }
}

/// Whether sockets bound to these are in each other's way.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let any_v6 = |addr: SocketAddr| addr.is_ipv6() && addr.ip().is_unspecified();
    let either_any = a.ip().is_unspecified() || b.ip().is_unspecified();
    let one_family = a.is_ipv6() == b.is_ipv6() || any_v6(a) || any_v6(b);
    a.port() == b.port() && one_family && (either_any || a.ip() == b.ip())
}

impl Host {
    /// Takes an address, with a free port for port 0, for a TCP socket that may share it with others that do. Waits for the
    /// shard's next turn.
    ///
    /// Errors: what listening there would give; `AddrInUse` when another has it; the host has stopped.
    pub(crate) fn reserve(
        &self,
        addr: SocketAddr,
        shares: bool,
        options: &TcpOptions,
    ) -> io::Result<Reserved> {
        let options = options.clone();
        // Nothing comes in between the two: it is one look of the shard.
        let probe = move |host: &mut stack::Host, now| {
            let listener = host.tcp_listen(now, addr, 0, &options)?;
            let local = host.local_addr(listener);
            host.close(now, listener)?;
            local
        };
        let free: Result<SocketAddr, SocketError> = self.call(probe).wait().ok_or_else(stopped)?;
        let addr = free.map_err(io_error)?;
        let mut list = self.reservations().list();
        if list
            .iter()
            .any(|(other, other_shares)| collide(addr, *other) && !(shares && *other_shares))
        {
            return Err(io_error(SocketError::AddrInUse));
        }
        list.push((addr, shares));
        drop(list);
        Ok(Reserved {
            host: self.clone(),
            addr,
            shares,
        })
    }
}
