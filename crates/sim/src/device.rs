//! What a TSO device does to a frame on its way out: completes the checksum, cuts super-frames. And what a middlebox may do to
//! segments.
//!
//! What does not live here: cables and time.

use base::{Checksum, Facts, GsoKind};
use wire::checksum::Sum;

const ETHERNET: usize = 14;

/// The frames that really leave: `bytes` as it is, or cut and completed as `facts` ask.
pub(crate) fn cut(bytes: Vec<u8>, facts: &Facts) -> Vec<Vec<u8>> {
    let Checksum::Partial { start, offset } = facts.checksum else {
        return vec![bytes];
    };
    let (start, at) = (usize::from(start), usize::from(start) + usize::from(offset));
    match facts.gso.kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 => cut_tcp(&bytes, start, usize::from(facts.gso.size)),
        _ => {
            let mut bytes = bytes;
            let sum = Sum::new().add_bytes(&bytes[start..]).finish();
            // RFC 768: a computed zero is sent as all ones; for TCP the two are equal.
            let sum = if sum == 0 { 0xffff } else { sum };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
            vec![bytes]
        }
    }
}

/// What a middlebox makes of a frame that may carry no more than `size` bytes of TCP; 0: any.
pub(crate) fn split(bytes: Vec<u8>, size: usize) -> Vec<Vec<u8>> {
    let tcp = match bytes.get(12..) {
        Some([8, 0, first, ..]) if bytes.get(23) == Some(&6) => {
            ETHERNET + usize::from(first & 15) * 4
        }
        Some([0x86, 0xdd, ..]) if bytes.get(20) == Some(&6) => ETHERNET + 40,
        _ => return vec![bytes],
    };
    if size == 0 {
        return vec![bytes];
    }
    cut_tcp(&bytes, tcp, size)
}

fn cut_tcp(bytes: &[u8], tcp: usize, size: usize) -> Vec<Vec<u8>> {
    let header_len = tcp + usize::from(bytes[tcp + 12] >> 4) * 4;
    let payload = &bytes[header_len..];
    let seq = u32::from_be_bytes([
        bytes[tcp + 4],
        bytes[tcp + 5],
        bytes[tcp + 6],
        bytes[tcp + 7],
    ]);
    let pieces = payload.len().div_ceil(size).max(1);
    (0..pieces)
        .map(|i| {
            let part = &payload[i * size..payload.len().min((i + 1) * size)];
            let mut out = bytes[..header_len].to_vec();
            out.extend_from_slice(part);
            out[tcp + 4..tcp + 8]
                .copy_from_slice(&seq.wrapping_add((i * size) as u32).to_be_bytes());
            if i + 1 < pieces {
                out[tcp + 13] &= !0x09; // FIN and PSH belong to the last
            }
            finish(&mut out, tcp, i as u16);
            out
        })
        .collect()
}

/// Sets lengths, identification and checksums of one segment.
fn finish(out: &mut [u8], tcp: usize, index: u16) {
    let v4 = out[ETHERNET] >> 4 == 4;
    let len = out.len() - ETHERNET;
    if v4 {
        out[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&(len as u16).to_be_bytes());
        let ident = u16::from_be_bytes([out[ETHERNET + 4], out[ETHERNET + 5]]).wrapping_add(index);
        out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&ident.to_be_bytes());
        out[ETHERNET + 10..ETHERNET + 12].fill(0);
        let sum = Sum::new().add_bytes(&out[ETHERNET..tcp]).finish();
        out[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    } else {
        out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
    }
    let addresses = if v4 {
        ETHERNET + 12..ETHERNET + 20
    } else {
        ETHERNET + 8..ETHERNET + 40
    };
    out[tcp + 16..tcp + 18].fill(0);
    let sum = Sum::new()
        .add_bytes(&out[addresses])
        .add_u16(6)
        .add_u16((out.len() - tcp) as u16)
        .add_bytes(&out[tcp..])
        .finish();
    out[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
}
