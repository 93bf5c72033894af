//! What a TSO device does to a frame on its way out: completes the checksum, cuts super-frames. And what a middlebox may do to
//! segments.
//!
//! What does not live here: cables and time.

use base::{Checksum, Facts, GsoKind};
use wire::checksum::Sum;

const ETHERNET: usize = 14;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// The frames that really leave: `bytes` as it is, or cut and completed as `facts` ask. Facts that do not fit the frame leave
/// it as it is.
pub fn cut(bytes: Vec<u8>, facts: &Facts) -> Vec<Vec<u8>> {
    let Checksum::Partial { start, offset } = facts.checksum else {
        return vec![bytes];
    };
    let (first, size) = (usize::from(start), usize::from(facts.gso.size));
    let header = match facts.gso.kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 => TCP_HEADER,
        GsoKind::Udp => UDP_HEADER,
        GsoKind::None => usize::from(offset) + 2,
    };
    let ip = match bytes.get(ETHERNET) {
        Some(byte) if byte >> 4 == 4 => 20,
        _ => 40,
    };
    let misfit = first < ETHERNET + ip || bytes.len() < first + header;
    if misfit || (size == 0 && !facts.gso.is_none()) {
        return vec![bytes];
    }
    let (start, at) = (usize::from(start), usize::from(start) + usize::from(offset));
    match facts.gso.kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 => cut_tcp(&bytes, start, size),
        GsoKind::Udp => cut_udp(&bytes, start, size),
        GsoKind::None => {
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
    // What a SYN has to say it says once.
    let syn = bytes.get(tcp + 13).is_some_and(|flags| flags & 2 != 0);
    if size == 0 || syn {
        return vec![bytes];
    }
    cut_tcp(&bytes, tcp, size)
}

fn cut_tcp(bytes: &[u8], tcp: usize, size: usize) -> Vec<Vec<u8>> {
    let header_len = (tcp + usize::from(bytes[tcp + 12] >> 4) * 4).min(bytes.len());
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
            if i > 0 {
                out[tcp + 13] &= !0x80; // CWR to the first (RFC 3168 6.1.2)
                // The urgent pointer counts from each piece's own number.
                let urgent = usize::from(u16::from_be_bytes([out[tcp + 18], out[tcp + 19]]));
                let left = urgent.saturating_sub(i * size) as u16;
                out[tcp + 18..tcp + 20].copy_from_slice(&left.to_be_bytes());
                if left == 0 {
                    out[tcp + 13] &= !0x20;
                }
            }
            finish(&mut out, (tcp, 6, 16), i as u16);
            out
        })
        .collect()
}

fn cut_udp(bytes: &[u8], udp: usize, size: usize) -> Vec<Vec<u8>> {
    let (headers, payload) = bytes.split_at(udp + UDP_HEADER);
    let datagram = |(i, part): (usize, &[u8])| {
        let mut out = [headers, part].concat();
        let len = (UDP_HEADER + part.len()) as u16;
        out[udp + 4..udp + 6].copy_from_slice(&len.to_be_bytes());
        finish(&mut out, (udp, 17, 6), i as u16);
        out
    };
    payload.chunks(size).enumerate().map(datagram).collect()
}

/// Sets lengths, identification and checksums of one segment of `protocol`, whose header starts at `l4` and has its checksum
/// `field` bytes behind.
fn finish(out: &mut [u8], (l4, protocol, field): (usize, u16, usize), index: u16) {
    let v4 = out[ETHERNET] >> 4 == 4;
    let len = out.len() - ETHERNET;
    if v4 {
        out[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&(len as u16).to_be_bytes());
        let ident = u16::from_be_bytes([out[ETHERNET + 4], out[ETHERNET + 5]]).wrapping_add(index);
        out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&ident.to_be_bytes());
        out[ETHERNET + 10..ETHERNET + 12].fill(0);
        let sum = Sum::new().add_bytes(&out[ETHERNET..l4]).finish();
        out[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    } else {
        out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
    }
    let addresses = if v4 {
        ETHERNET + 12..ETHERNET + 20
    } else {
        ETHERNET + 8..ETHERNET + 40
    };
    let at = l4 + field;
    out[at..at + 2].fill(0);
    let sum = Sum::new()
        .add_bytes(&out[addresses])
        .add_u16(protocol)
        .add_u16((out.len() - l4) as u16)
        .add_bytes(&out[l4..])
        .finish();
    // RFC 768: a computed zero is sent as all ones; for TCP the two are equal.
    let sum = if sum == 0 { 0xffff } else { sum };
    out[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
