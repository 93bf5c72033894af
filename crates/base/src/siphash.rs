//! Keyed hashes for everything a peer could try to make collide or to predict.
//!
//! Invariant: a key is secret and fresh at every start, because the peers choose what is hashed.

use core::fmt;
use siphasher::sip::{SipHasher13, SipHasher24};

/// A 128-bit secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SipKey(pub [u8; 16]);

impl SipKey {
    /// The key for one `purpose` out of a host's `seed`. Keys of different purposes tell nothing about each other
    /// or about the seed.
    pub fn derive(seed: u64, purpose: u64) -> SipKey {
        let mut root = [0; 16];
        root[..8].copy_from_slice(&seed.to_le_bytes());
        let mut key = [0; 16];
        for (half, out) in key.chunks_exact_mut(8).enumerate() {
            let mut input = [0; 16];
            input[..8].copy_from_slice(&purpose.to_le_bytes());
            input[8] = half as u8;
            out.copy_from_slice(&siphash24(&SipKey(root), &input).to_le_bytes());
        }
        SipKey(key)
    }

    /// SipHash-1-3, as [`siphash`].
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        siphash(self, bytes)
    }
}

impl fmt::Debug for SipKey {
    /// Secrets stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SipKey(..)")
    }
}

/// SipHash-1-3: for tables.
#[inline]
pub fn siphash(key: &SipKey, bytes: &[u8]) -> u64 {
    SipHasher13::new_with_key(&key.0).hash(bytes)
}

/// SipHash-2-4: where the value itself goes out to peers (initial sequence numbers, cookies).
#[inline]
pub fn siphash24(key: &SipKey, bytes: &[u8]) -> u64 {
    SipHasher24::new_with_key(&key.0).hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answer() {
        // The vector of the SipHash paper, appendix A.
        let key = SipKey(core::array::from_fn(|i| i as u8));
        let input: [u8; 15] = core::array::from_fn(|i| i as u8);
        assert_eq!(siphash24(&key, &input), 0xa129_ca61_49be_45e5);
        assert_ne!(siphash(&key, &input), siphash24(&key, &input));
    }

    #[test]
    fn purposes_differ() {
        assert_eq!(SipKey::derive(1, 2), SipKey::derive(1, 2));
        assert_ne!(SipKey::derive(1, 2), SipKey::derive(1, 3));
        assert_ne!(SipKey::derive(1, 2), SipKey::derive(2, 2));
        assert_eq!(format!("{:?}", SipKey::derive(1, 2)), "SipKey(..)");
    }
}
