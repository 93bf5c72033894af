//! Which shards have sockets on a UDP port: written by who binds and closes, read for every datagram.
//!
//! A port's sockets are on one shard, wherever the first was bound, so that the stack there sees all that may be in each other's
//! way. But sockets that share by SO_REUSEPORT, if the first did, are spread over the shards: then all of them have the same
//! address, and datagrams are divided by their flow among the shards that have one. What is connected must hear its peer, whose flow
//! may be any shard's: while all of a port's sockets are on one they can be connected, and the port is no longer spread then.
//!
//! Where applications live on the shards each binds what it likes on its own, and datagrams are divided by their flow, too.
//!
//! Invariant: a shard's bit is set while it has a socket on the port that somebody holds, and before one is bound.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use stack::{SocketError, UdpOptions};

use crate::mailbox::lock;

/// Ports there are.
const PORTS: usize = 1 << 16;

/// All UDP ports of a host of several shards.
#[derive(Debug)]
pub(crate) struct UdpPorts {
    owners: Box<[AtomicU64]>,
    uses: Mutex<Uses>,
    shards: usize,
    /// First and last ephemeral port.
    range: (u16, u16),
}

#[derive(Debug)]
struct Uses {
    by_port: HashMap<u16, Use>,
    /// The shard for the next port that nobody has.
    next: usize,
    /// Where the search for an ephemeral port begins (RFC 6056 3.3.1).
    random: u64,
}

#[derive(Debug)]
struct Use {
    /// If its sockets are spread, their address.
    spread: Option<IpAddr>,
    /// By shard.
    sockets: Vec<u32>,
}

/// A socket's part of a port. Dropping it gives that back.
#[derive(Debug)]
pub(crate) struct PortClaim {
    ports: Arc<UdpPorts>,
    pub(crate) port: u16,
    pub(crate) shard: usize,
    /// Others on this port may be on other shards.
    pub(crate) spread: bool,
}

impl UdpPorts {
    /// `seed` is secret.
    pub(crate) fn new(shards: usize, range: (u16, u16), seed: u64) -> Arc<Self> {
        Arc::new(Self {
            owners: (0..PORTS).map(|_| AtomicU64::new(0)).collect(),
            uses: Mutex::new(Uses {
                by_port: HashMap::new(),
                next: 0,
                random: seed | 1,
            }),
            shards,
            range: (range.0.max(1), range.1.max(range.0.max(1))),
        })
    }

    /// The shards that have sockets on a port.
    #[inline]
    pub(crate) fn owners(&self, port: u16) -> u64 {
        // Nothing else is read by what it says.
        self.owners[usize::from(port)].load(Ordering::Relaxed)
    }

    /// Takes part in a port (0: one that nobody has): the shard where the socket belongs. `shares`: as [`spreads`].
    ///
    /// # Errors
    /// `AddrInUse` when the port's sockets are spread, and this one does not share, or has another address; or no port is free.
    pub(crate) fn claim(
        self: &Arc<Self>,
        address: IpAddr,
        port: u16,
        shares: bool,
    ) -> Result<PortClaim, SocketError> {
        let mut uses = lock(&self.uses);
        let port = match port {
            0 => self.free(&mut uses).ok_or(SocketError::AddrInUse)?,
            port => port,
        };
        let next = uses.next;
        let used = uses.by_port.entry(port).or_insert_with(|| Use {
            spread: shares.then_some(address),
            sockets: vec![0; self.shards],
        });
        let has = |n: &u32| *n > 0;
        let shard = match used.spread {
            Some(other) if !shares || other != address => return Err(SocketError::AddrInUse),
            Some(_) => least(&used.sockets, next),
            None => used.sockets.iter().position(has).unwrap_or(next),
        };
        used.sockets[shard] += 1;
        let spread = used.spread.is_some();
        if shard == next {
            uses.next = (next + 1) % self.shards;
        }
        self.owners[usize::from(port)].fetch_or(1 << shard, Ordering::Relaxed);
        Ok(PortClaim {
            ports: self.clone(),
            port,
            shard,
            spread,
        })
    }

    /// A shard that chooses its ports by itself has sockets on one, or none any more.
    pub(crate) fn mark(&self, port: u16, shard: usize, used: bool) {
        let owners = &self.owners[usize::from(port)];
        match used {
            true => owners.fetch_or(1 << shard, Ordering::Relaxed),
            false => owners.fetch_and(!(1 << shard), Ordering::Relaxed),
        };
    }

    fn free(&self, uses: &mut Uses) -> Option<u16> {
        let span = u64::from(self.range.1 - self.range.0) + 1;
        // Marsaglia's xorshift64: ports that are hard to guess are no secrets.
        let mut random = uses.random;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uses.random = random;
        let mut ports = (0..span).map(|n| self.range.0 + ((random % span + n) % span) as u16);
        ports.find(|port| !uses.by_port.contains_key(port))
    }
}

/// Whether a socket may be on another shard than those it shares its address with by SO_REUSEPORT. Flows are divided without a look
/// at the interface, so not one that hears one interface only.
pub(crate) fn spreads(options: &UdpOptions) -> bool {
    options.reuse_port && options.device.is_none()
}

/// The shard with the fewest sockets; of several, the first from `from` on.
fn least(sockets: &[u32], from: usize) -> usize {
    let shards = (0..sockets.len()).map(|n| (from + n) % sockets.len());
    shards.min_by_key(|&shard| sockets[shard]).unwrap_or(0)
}

impl PortClaim {
    /// Whether all of the port's sockets are on this shard. If they are, those that come later will be.
    pub(crate) fn gather(&self) -> bool {
        let mut uses = lock(&self.ports.uses);
        let Some(used) = uses.by_port.get_mut(&self.port) else {
            return false;
        };
        let mut sockets = used.sockets.iter().enumerate();
        let alone = sockets.all(|(shard, n)| shard == self.shard || *n == 0);
        used.spread = used.spread.filter(|_| !alone);
        alone
    }
}

impl Drop for PortClaim {
    fn drop(&mut self) {
        let mut uses = lock(&self.ports.uses);
        let Some(used) = uses.by_port.get_mut(&self.port) else {
            return;
        };
        used.sockets[self.shard] -= 1;
        if used.sockets[self.shard] > 0 {
            return;
        }
        let owners = &self.ports.owners[usize::from(self.port)];
        owners.fetch_and(!(1 << self.shard), Ordering::Relaxed);
        if used.sockets.iter().all(|n| *n == 0) {
            uses.by_port.remove(&self.port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

    fn ports() -> Arc<UdpPorts> {
        UdpPorts::new(4, (40_000, 40_009), 7)
    }

    #[test]
    fn a_port_has_its_sockets_on_one_shard() {
        let ports = ports();
        assert_eq!(ports.owners(53), 0);
        let first = ports.claim(ANY, 53, false).unwrap();
        let other: IpAddr = "10.0.0.1".parse().unwrap();
        let second = ports.claim(other, 53, true).unwrap();
        assert_eq!((first.shard, first.spread), (second.shard, second.spread));
        assert_eq!(ports.owners(53), 1 << first.shard);
        drop(first);
        assert_eq!(ports.owners(53), 1 << second.shard);
        drop(second);
        assert_eq!(ports.owners(53), 0);
        let next = ports.claim(ANY, 54, false).unwrap();
        assert_ne!(ports.claim(ANY, 55, false).unwrap().shard, next.shard);
    }

    #[test]
    fn those_who_share_are_spread() {
        let ports = ports();
        let claim = || ports.claim(ANY, 443, true).unwrap();
        let mut claims: Vec<_> = (0..4).map(|_| claim()).collect();
        assert_eq!(ports.owners(443), 15);
        assert!(claims.iter().all(|claim| claim.spread));
        let error = ports.claim(ANY, 443, false).unwrap_err();
        assert_eq!(error, SocketError::AddrInUse);
        let other = ports.claim("10.0.0.1".parse().unwrap(), 443, true);
        assert_eq!(other.unwrap_err(), SocketError::AddrInUse);
        let gone = claims.remove(2).shard;
        assert_eq!(ports.owners(443), 15 & !(1 << gone));
        assert_eq!(claim().shard, gone, "the shard that has none");
    }

    #[test]
    fn who_is_connected_shares_with_who_is_on_the_same_shard() {
        let ports = ports();
        let claim = || ports.claim(ANY, 443, true).unwrap();
        let (first, second) = (claim(), claim());
        assert!(!first.gather() && !second.gather());
        drop(second);
        assert!(first.gather());
        let third = claim();
        assert_eq!(third.shard, first.shard);
        assert_eq!(ports.owners(443), 1 << first.shard);
        drop((first, third));
        let again: Vec<_> = (0..4).map(|_| claim()).collect();
        assert_eq!((again.len(), ports.owners(443)), (4, 15));
    }

    #[test]
    fn ephemeral_ports_are_nobody_elses() {
        let ports = ports();
        let all: Vec<_> = (0..10)
            .map(|_| ports.claim(ANY, 0, false).unwrap())
            .collect();
        let mut numbers: Vec<u16> = all.iter().map(|claim| claim.port).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (40_000..40_010).collect::<Vec<_>>());
        let full = ports.claim(ANY, 0, false);
        assert_eq!(full.unwrap_err(), SocketError::AddrInUse);
        drop(all);
        assert!(ports.claim(ANY, 0, false).is_ok());
    }
}
