//! A host that is made of several, its shards: each is a [`crate::Host`] with the same addresses, and has the flows that are its
//! own. To the network they are one.
//!
//! A flow is told by the peer's address and port and the port here, so that where a connection will live is known before its
//! source address is. Shard 0 leads: it claims the addresses and answers for them, it hears routers, and it puts fragments
//! together. The others follow: they take over what it has configured and learnt ([`crate::Network`]), and say nothing that would be
//! said twice.
//!
//! What does not live here: how frames reach the shard they are for, and who has which UDP port (the engine).
//!
//! Invariant: all shards of a host have the same key, so they agree on whose a flow is.

use base::SipKey;
use wire::Addr;

/// Which shard of its host a [`crate::Host`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharding {
    key: SipKey,
    shard: u8,
    shards: u8,
}

impl Sharding {
    /// Shards a host may have.
    pub const MOST: usize = 64;

    /// Shard number `shard` of `shards`, which are 1 to [`Sharding::MOST`]. `key` is secret, for the peers choose the flows, and the
    /// same for all of them.
    pub fn new(key: SipKey, shard: usize, shards: usize) -> Self {
        let shards = shards.clamp(1, Self::MOST);
        Self {
            key,
            shard: shard.min(shards - 1) as u8,
            shards: shards as u8,
        }
    }

    /// Its number, from 0.
    pub fn shard(&self) -> usize {
        usize::from(self.shard)
    }

    /// How many there are.
    pub fn shards(&self) -> usize {
        usize::from(self.shards)
    }

    /// Whether it speaks for all.
    pub fn leads(&self) -> bool {
        self.shard == 0
    }

    /// A keyed hash of a flow.
    #[inline]
    pub fn hash(&self, remote: &Addr, remote_port: u16, local_port: u16) -> u64 {
        let [[a, b], [c, d]] = [remote_port, local_port].map(u16::to_be_bytes);
        if remote.is_v4() {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&remote.v4_octets());
            bytes[4..].copy_from_slice(&[a, b, c, d]);
            self.key.hash(&bytes)
        } else {
            let mut bytes = [0; 20];
            bytes[..16].copy_from_slice(&remote.0);
            bytes[16..].copy_from_slice(&[a, b, c, d]);
            self.key.hash(&bytes)
        }
    }

    /// The shard a flow of TCP belongs to.
    #[inline]
    pub fn home(&self, remote: &Addr, remote_port: u16, local_port: u16) -> usize {
        let hash = self.hash(remote, remote_port, local_port);
        ((u128::from(hash) * u128::from(self.shards)) >> 64) as usize
    }

    /// Whether that is this one.
    #[inline]
    pub fn is_home(&self, remote: &Addr, remote_port: u16, local_port: u16) -> bool {
        self.home(remote, remote_port, local_port) == self.shard()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_spread_and_all_shards_agree() {
        for shards in [1, 2, 3, 4, 7, 64] {
            let all: Vec<_> = (0..shards)
                .map(|n| Sharding::new(SipKey([9; 16]), n, shards))
                .collect();
            let mut found = vec![0; shards];
            for port in 1000..9000 {
                let v6 = "2001:db8::1".parse().unwrap();
                for remote in [Addr::v4(192, 0, 2, 1), v6] {
                    let homes = all.iter().filter(|s| s.is_home(&remote, port, 80));
                    assert_eq!(homes.count(), 1);
                    found[all[0].home(&remote, port, 80)] += 1;
                }
            }
            let fair = 16_000 / shards;
            assert!(
                found.iter().all(|n| (fair / 2..=2 * fair).contains(n)),
                "{found:?}"
            );
        }
    }

    #[test]
    fn the_first_leads() {
        let of = |n| Sharding::new(SipKey([1; 16]), n, 3);
        assert!(of(0).leads() && !of(1).leads() && !of(2).leads());
        assert_eq!((of(2).shard(), of(9).shard(), of(0).shards()), (2, 2, 3));
    }
}
