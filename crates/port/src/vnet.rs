//! `struct virtio_net_hdr` of linux/virtio_net.h: how TAP and AF_PACKET describe the offloads of a frame.
//!
//! The header stands in front of every frame, in the byte order of the machine (the legacy layout both devices use by
//! default), and says the same as [`Facts`]; this module translates both ways and touches nothing else.
//!
//! | header | facts |
//! |---|---|
//! | NEEDS_CSUM, csum_start, csum_offset | `Checksum::Partial { start, offset }` |
//! | DATA_VALID | `Checksum::Good` |
//! | neither | `Checksum::Unknown` |
//! | gso_type TCPV4, TCPV6, UDP_L4; gso_size; hdr_len | `Gso { kind, size, header_len }` |
//!
//! Invariant: facts made from a header lie inside the frame: `start + offset + 2 <= len`, `header_len <= len`.

use base::{Checksum, Facts, Gso, GsoKind};

/// Bytes of the header.
pub const HEADER_LEN: usize = 10;

const F_NEEDS_CSUM: u8 = 1;
const F_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Beside a TCP type: the first segment carries CWR (RFC 3168 section 6.1.2), the others must not.
const GSO_ECN: u8 = 0x80;

/// Where TCP keeps its header length and its CWR flag, bytes from the TCP header.
const TCP_OFFSET_AT: usize = 12;
const TCP_FLAGS_AT: usize = 13;
const TCP_CWR: u8 = 0x80;
const TCP_HEADER_MIN: usize = 20;
const UDP_HEADER: usize = 8;

/// A header that does not fit its frame, or facts that do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfit;

/// What the header says of a frame of `len` bytes beginning with `first` (its first contiguous part, which should hold
/// the headers).
///
/// The kernel's `hdr_len` is only a hint (how much it keeps linear), so the length of a super-frame's headers is read
/// from the TCP header where that is in sight.
///
/// # Errors
/// [`Misfit`] when an offset lies outside the frame, or a super-frame is of an unknown kind or has no segment size.
pub fn to_facts(header: &[u8; HEADER_LEN], first: &[u8], len: usize) -> Result<Facts, Misfit> {
    // Most small frames of most peers: nothing to say, or vouched for.
    if header[1] == GSO_NONE && header[0] & F_NEEDS_CSUM == 0 {
        let checksum = if header[0] & F_DATA_VALID != 0 {
            Checksum::Good
        } else {
            Checksum::Unknown
        };
        return Ok(Facts {
            checksum,
            ..Facts::default()
        });
    }
    let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let checksum = if header[0] & F_NEEDS_CSUM != 0 {
        let (start, offset) = (word(6), word(8));
        if usize::from(start) + usize::from(offset) + 2 > len {
            return Err(Misfit);
        }
        Checksum::Partial { start, offset }
    } else if header[0] & F_DATA_VALID != 0 {
        Checksum::Good
    } else {
        Checksum::Unknown
    };
    let kind = match header[1] & !GSO_ECN {
        GSO_NONE => {
            return Ok(Facts {
                checksum,
                ..Facts::default()
            });
        }
        GSO_TCPV4 => GsoKind::Tcp4,
        GSO_TCPV6 => GsoKind::Tcp6,
        GSO_UDP_L4 => GsoKind::Udp,
        _ => return Err(Misfit),
    };
    let size = word(4);
    let mut header_len = usize::from(word(2));
    if let Checksum::Partial { start, .. } = checksum {
        let start = usize::from(start);
        header_len = match kind {
            GsoKind::Udp => start + UDP_HEADER,
            _ => match first.get(start + TCP_OFFSET_AT) {
                Some(byte) => start + (usize::from(byte >> 4) * 4).max(TCP_HEADER_MIN),
                None => header_len,
            },
        };
    }
    if size == 0 || header_len > len {
        return Err(Misfit);
    }
    let gso = Gso {
        kind,
        size,
        header_len: header_len as u16,
    };
    Ok(Facts { checksum, gso })
}

/// The header for a frame of `len` bytes beginning with `first` that is handed to the device with these facts.
///
/// # Errors
/// [`Misfit`] when an offset lies outside the frame, or a super-frame has no segment size or no partial checksum
/// (a device that cuts it up has to compute the checksum of every segment).
pub fn from_facts(facts: &Facts, first: &[u8], len: usize) -> Result<[u8; HEADER_LEN], Misfit> {
    let mut header = [0; HEADER_LEN];
    let mut put = |at: usize, word: u16| header[at..at + 2].copy_from_slice(&word.to_ne_bytes());
    let (flags, start) = match facts.checksum {
        Checksum::Unknown => (0, None),
        Checksum::Good => (F_DATA_VALID, None),
        Checksum::Partial { start, offset } => {
            if usize::from(start) + usize::from(offset) + 2 > len {
                return Err(Misfit);
            }
            put(6, start);
            put(8, offset);
            (F_NEEDS_CSUM, Some(usize::from(start)))
        }
    };
    let kind = match facts.gso.kind {
        GsoKind::None => {
            header[0] = flags;
            return Ok(header);
        }
        GsoKind::Tcp4 => GSO_TCPV4,
        GsoKind::Tcp6 => GSO_TCPV6,
        GsoKind::Udp => GSO_UDP_L4,
    };
    let Gso {
        size, header_len, ..
    } = facts.gso;
    let Some(start) = start else {
        return Err(Misfit);
    };
    if size == 0 || usize::from(header_len) > len {
        return Err(Misfit);
    }
    put(2, header_len);
    put(4, size);
    let cwr = kind != GSO_UDP_L4
        && first
            .get(start + TCP_FLAGS_AT)
            .is_some_and(|f| f & TCP_CWR != 0);
    header[0] = flags;
    header[1] = kind | if cwr { GSO_ECN } else { 0 };
    Ok(header)
}

#[cfg(test)]
#[path = "vnet/tests.rs"]
mod tests;
