//! IPv6 flow labels (RFC 6437): one number for all packets of a flow, which says nothing to those who do not know the key.
//!
//! What does not live here: labels of what is received, which mean nothing to a host.
//!
//! Invariant: the label of a flow follows from its addresses, protocol and ports alone, so that no record keeps it, and what
//! is sent without one (resets, TIME-WAIT, every fragment) has the same.

use base::SipKey;
use wire::{Addr, protocol};

/// Secret multipliers.
#[derive(Debug)]
pub(super) struct Labels([u64; 6]);

impl Labels {
    pub(super) fn new(secret: &SipKey) -> Self {
        Self(core::array::from_fn(|n| {
            secret.hash(&[b'f', b'l', b'o', b'w', n as u8])
        }))
    }

    /// The label of packets with this beginning of a transport header: never 0, which means none (RFC 6437 3).
    ///
    /// Every packet pays for it, hence three multiplications instead of a SipHash: the label has to spread and not to be
    /// guessed from outside, and only 20 bits of the result are ever seen.
    #[inline]
    pub(super) fn of(&self, src: &Addr, dst: &Addr, number: u8, transport: &[u8]) -> u32 {
        let [a, b, c, d, e, f] = self.0;
        let ports = match transport.first_chunk::<4>() {
            Some(ports) if matches!(number, protocol::TCP | protocol::UDP) => {
                u32::from_be_bytes(*ports)
            }
            _ => 0,
        };
        let (s, t) = (src.to_bits(), dst.to_bits());
        let from = fold(s as u64 ^ a, (s >> 64) as u64 ^ b);
        let to = fold(t as u64 ^ c, (t >> 64) as u64 ^ d);
        let name = u64::from(number) << 32 | u64::from(ports);
        let label = fold(from ^ to.rotate_left(32) ^ e, name ^ f) >> 44;
        (label as u32).max(1)
    }
}

/// Both halves of a product in one.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_spread_over_the_whole_field() {
        let labels = Labels::new(&SipKey([3; 16]));
        let (a, b) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let mut seen = std::collections::BTreeSet::new();
        let mut counts = [0u32; 16];
        for port in 0..16_384u32 {
            let label = labels.of(&a, &b, protocol::TCP, &(port << 16 | 80).to_be_bytes());
            assert!((1..1 << 20).contains(&label));
            seen.insert(label);
            counts[(label >> 16) as usize] += 1;
        }
        // Of 16,384 among a million some 130 meet another by chance; each sixteenth of the range gets its share.
        assert!(seen.len() > 16_000, "{}", seen.len());
        assert!(counts.iter().all(|n| (800..1250).contains(n)), "{counts:?}");
    }
}
