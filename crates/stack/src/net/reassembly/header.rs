//! The headers in front of a first fragment, and how they become the datagram's.
//!
//! What does not live here: parsing them (`input`).

use base::{Chain, Pool};
use wire::checksum::Sum;
use wire::{ipv4, ipv6};

use crate::net::chain::make_writable;

/// What must be known of a fragment's headers to turn them into the whole datagram's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net) struct Header {
    /// Bytes before the fragment's data.
    pub(in crate::net) len: u16,
    /// IPv6: where the Next Header field stands that names the fragment header; 0 for IPv4.
    pub(in crate::net) named_at: u16,
    /// What the data begins with.
    pub(in crate::net) protocol: u8,
}

impl Header {
    fn is_v4(self) -> bool {
        self.named_at == 0
    }

    /// How much of the headers the datagram's length field counts.
    pub(super) fn counted(self) -> u32 {
        let uncounted = if self.is_v4() {
            0
        } else {
            ipv6::HEADER_LEN + ipv6::ext::FRAGMENT_LEN
        };
        u32::from(self.len).saturating_sub(uncounted as u32)
    }

    /// Makes the headers of the first fragment those of a datagram with `total` bytes of data, marked if one of the
    /// fragments met congestion. False when the pool has no block for a header that must not be written.
    pub(super) fn mend(
        self,
        pool: &mut Pool,
        chain: &mut Chain,
        total: u32,
        congested: bool,
    ) -> bool {
        let len = usize::from(self.len);
        if !make_writable(pool, chain, len) {
            return false;
        }
        if self.is_v4() {
            if let Some(bytes) = pool.first_mut(chain).get_mut(..len) {
                mend_v4(bytes, (self.counted() + total) as u16, congested);
            }
            return true;
        }
        // RFC 8200 4.5: the fragment header goes. What stands before it moves up.
        let kept = len - ipv6::ext::FRAGMENT_LEN;
        let bytes = pool.first_mut(chain);
        bytes.copy_within(..kept, ipv6::ext::FRAGMENT_LEN);
        pool.pull_front(chain, ipv6::ext::FRAGMENT_LEN);
        if let Some(bytes) = pool.first_mut(chain).get_mut(..kept) {
            let payload = (self.counted() + total) as u16;
            bytes[4..6].copy_from_slice(&payload.to_be_bytes());
            if let Some(named) = bytes.get_mut(usize::from(self.named_at)) {
                *named = self.protocol;
            }
            if congested {
                bytes[1] |= 0x30;
            }
        }
        true
    }
}

fn mend_v4(bytes: &mut [u8], total_len: u16, congested: bool) {
    if bytes.len() < ipv4::HEADER_LEN {
        return;
    }
    if congested {
        bytes[1] |= 3;
    }
    bytes[2..4].copy_from_slice(&total_len.to_be_bytes());
    bytes[6..8].copy_from_slice(&[0, 0]);
    bytes[10..12].copy_from_slice(&[0, 0]);
    let check = Sum::new().add_bytes(bytes).finish();
    bytes[10..12].copy_from_slice(&check.to_be_bytes());
}
