//! Addresses that TCP sockets were bound to which neither connect nor listen yet: the stack does not know of these.
//!
//! Invariant: an address is taken from [`Host::reserve`] until its [`Reserved`] is dropped, and no longer.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::io_error;
use stack::{InterfaceId, SocketError, TcpOptions};

use crate::host::{Host, stopped};

/// How often another free port is asked for when one was promised already.
const ATTEMPTS: usize = 64;

/// The addresses taken on one host.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Mutex<Vec<Claim>>);

impl Reservations {
    fn list(&self) -> MutexGuard<'_, Vec<Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an address, unless it is in the way of one that was taken.
    fn take(&self, claim: Claim) -> bool {
        let mut list = self.list();
        let free = !list.iter().any(|other| claim.collides(other));
        if free {
            list.push(claim);
        }
        free
    }
}

/// What a bound socket keeps others from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claim {
    addr: SocketAddr,
    only_v6: bool,
    reuse_addr: bool,
    reuse_port: bool,
    device: Option<InterfaceId>,
}

impl Claim {
    /// Whether sockets bound so are in each other's way (Linux's `inet_csk_bind_conflict`, of sockets that do not listen).
    fn collides(&self, other: &Self) -> bool {
        let (own, its) = (
            self.addr.ip().to_canonical(),
            other.addr.ip().to_canonical(),
        );
        let v4 = |claim: &Self, ip: std::net::IpAddr| {
            ip.is_ipv4() || (ip.is_unspecified() && !claim.only_v6)
        };
        let one_family = (own.is_ipv6() && its.is_ipv6()) || (v4(self, own) && v4(other, its));
        let one_address = own == its || own.is_unspecified() || its.is_unspecified();
        let shared = (self.reuse_addr && other.reuse_addr) || (self.reuse_port && other.reuse_port);
        let apart = matches!((self.device, other.device), (Some(a), Some(b)) if a != b);
        let same = self.addr.port() == other.addr.port() && one_family && one_address;
        same && !shared && !apart
    }
}

/// An address that is taken.
#[derive(Debug)]
pub(crate) struct Reserved {
    host: Host,
    claim: Claim,
}

impl Reserved {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.claim.addr
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut list = self.host.reservations().list();
        if let Some(at) = list.iter().position(|taken| *taken == self.claim) {
            list.swap_remove(at);
        }
    }
}

impl Host {
    /// Takes an address, with a free port for port 0, for a TCP socket with these options, which may share it with others that
    /// say so too (`reuse_addr`, [`TcpOptions::reuse_port`]). Waits for the shard's next turn.
    ///
    /// # Errors
    /// What listening there would give; `AddrInUse` when another has it; the host has stopped.
    pub(crate) fn reserve(
        &self,
        addr: SocketAddr,
        reuse_addr: bool,
        options: &TcpOptions,
    ) -> io::Result<Reserved> {
        // The stack does not know of promises: the port it finds free may be one.
        let attempts = if addr.port() == 0 { ATTEMPTS } else { 1 };
        for _ in 0..attempts {
            let claim = Claim {
                addr: self.free(addr, options)?,
                only_v6: options.only_v6,
                reuse_addr,
                reuse_port: options.reuse_port,
                device: options.device,
            };
            if self.reservations().take(claim) {
                let host = self.clone();
                return Ok(Reserved { host, claim });
            }
        }
        Err(io_error(SocketError::AddrInUse))
    }

    /// The address, with a real port, if one could listen there now.
    fn free(&self, addr: SocketAddr, options: &TcpOptions) -> io::Result<SocketAddr> {
        let options = options.clone();
        // Nothing comes in between the two: it is one look of the shard.
        let probe = move |host: &mut stack::Host, now| {
            let listener = host.tcp_listen(now, addr, 0, &options)?;
            let local = host.local_addr(listener);
            host.close(now, listener)?;
            local
        };
        let free: Result<SocketAddr, SocketError> = self.call(probe).wait().ok_or_else(stopped)?;
        free.map_err(io_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(addr: &str) -> Claim {
        Claim {
            addr: addr.parse().unwrap(),
            only_v6: false,
            reuse_addr: false,
            reuse_port: false,
            device: None,
        }
    }

    #[test]
    fn addresses_are_in_the_way_as_on_linux() {
        let only_v6 = |addr: &str| Claim {
            only_v6: true,
            ..claim(addr)
        };
        for (a, b, collide) in [
            (claim("10.0.0.1:80"), claim("10.0.0.1:80"), true),
            (claim("10.0.0.1:80"), claim("10.0.0.1:81"), false),
            (claim("10.0.0.1:80"), claim("10.0.0.2:80"), false),
            (claim("10.0.0.1:80"), claim("0.0.0.0:80"), true),
            (claim("10.0.0.1:80"), claim("[::]:80"), true),
            (claim("0.0.0.0:80"), claim("[::]:80"), true),
            (claim("0.0.0.0:80"), claim("[fd00::1]:80"), false),
            (claim("[::]:80"), claim("[fd00::1]:80"), true),
            (claim("[::ffff:10.0.0.1]:80"), claim("10.0.0.1:80"), true),
            (only_v6("[::]:80"), claim("0.0.0.0:80"), false),
            (only_v6("[::]:80"), claim("10.0.0.1:80"), false),
            (only_v6("[::]:80"), claim("[::]:80"), true),
            (only_v6("[::]:80"), claim("[fd00::1]:80"), true),
        ] {
            assert_eq!(a.collides(&b), collide, "{a:?} {b:?}");
            assert_eq!(b.collides(&a), collide, "{b:?} {a:?}");
        }
    }

    #[test]
    fn sockets_of_different_devices_are_in_nobodys_way() {
        let on = |device: u8| Claim {
            device: Some(InterfaceId(device)),
            ..claim("0.0.0.0:80")
        };
        let of_all = claim("10.0.0.1:80");
        assert!(!on(0).collides(&on(1)));
        assert!(on(0).collides(&on(0)));
        assert!(on(0).collides(&of_all) && of_all.collides(&on(0)));
    }

    #[test]
    fn both_have_to_share_in_the_same_way() {
        let plain = claim("10.0.0.1:80");
        let by_addr = Claim {
            reuse_addr: true,
            ..plain
        };
        let by_port = Claim {
            reuse_port: true,
            ..plain
        };
        assert!(!by_addr.collides(&by_addr) && !by_port.collides(&by_port));
        assert!(by_addr.collides(&plain) && by_port.collides(&plain));
        assert!(by_addr.collides(&by_port));
    }
}
