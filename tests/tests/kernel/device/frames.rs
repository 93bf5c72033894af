//! Frames of the peers, and those that left in few words.

use std::net::IpAddr;

use interop::frames::{ip, ip_frame, tcp};
use wire::tcp::Flags;
use wire::{Addr, checksum, icmpv4, protocol, tcp as segment, udp};

use super::sides::{KERNEL, PEER};

/// Address and port of the peer, then of the host.
pub(super) type Ends = ((IpAddr, u16), (IpAddr, u16));

fn frame(ends: Ends, protocol: u8, checksum_at: usize, mut payload: Vec<u8>) -> Vec<u8> {
    let (src, dst) = (Addr::from(ends.0.0), Addr::from(ends.1.0));
    let sum = checksum::pseudo(&src, &dst, protocol, payload.len() as u32)
        .add_bytes(&payload)
        .finish();
    payload[checksum_at..][..2].copy_from_slice(&sum.to_be_bytes());
    ip_frame((PEER, KERNEL), src, dst, protocol, &payload)
}

/// A datagram of one byte.
pub(super) fn datagram(ends: Ends) -> Vec<u8> {
    let repr = udp::Repr {
        src_port: ends.0.1,
        dst_port: ends.1.1,
    };
    let mut payload = vec![0; repr.header_len()];
    repr.emit(&mut payload, 1);
    payload.push(b'x');
    frame(ends, protocol::UDP, 6, payload)
}

/// A segment; `numbers` are its own and the one it acknowledges.
pub(super) fn tcp_frame(
    ends: Ends,
    flags: Flags,
    numbers: (u32, Option<u32>),
    data: &[u8],
) -> Vec<u8> {
    let repr = segment::Repr {
        src_port: ends.0.1,
        dst_port: ends.1.1,
        seq: numbers.0,
        ack: numbers.1,
        flags,
        window: 60_000,
        ..segment::Repr::default()
    };
    let mut payload = vec![0; repr.header_len()];
    repr.emit(&mut payload);
    payload.extend_from_slice(data);
    frame(ends, protocol::TCP, 16, payload)
}

/// An echo request over IPv4, and the message that answers it.
pub(super) fn echo(from: IpAddr, to: IpAddr, seq: u16) -> (Vec<u8>, Vec<u8>) {
    let message = |repr: icmpv4::Repr| {
        let mut message = vec![0; repr.header_len()];
        repr.emit(&mut message);
        icmpv4::fill_checksum(&mut message);
        message
    };
    let ident = 7;
    let request = message(icmpv4::Repr::EchoRequest { ident, seq });
    let reply = message(icmpv4::Repr::EchoReply { ident, seq });
    let (from, to) = (Addr::from(from), Addr::from(to));
    (
        ip_frame((PEER, KERNEL), from, to, protocol::ICMPV4, &request),
        reply,
    )
}

/// Datagrams, segments that begin or end a connection and unreachable ports, as far as they are about a port: by which link, from which
/// address. What is sent again counts once.
pub(super) fn tell(frames: &[(usize, Vec<u8>)], port: u16) -> Vec<String> {
    let mut lines: Vec<String> = frames
        .iter()
        .filter_map(|(link, frame)| Some(format!("{link}: {}", told(frame, port)?)))
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

fn told(frame: &[u8], port: u16) -> Option<String> {
    let packet = ip(frame)?;
    let about = |at: usize| {
        let ports = packet.payload.get(at..at + 4)?.chunks(2);
        let mut ports = ports.map(|port| u16::from_be_bytes([port[0], port[1]]));
        ports.any(|its| its == port).then_some(())
    };
    let what = match packet.protocol {
        protocol::UDP => {
            about(0)?;
            "datagram".into()
        }
        protocol::TCP => {
            about(0)?;
            let flags = tcp(frame)?.flags;
            let marks = Flags::SYN | Flags::RST | Flags::FIN;
            (flags.0 & marks.0 != 0).then(|| flags.to_string())?
        }
        protocol::ICMPV4 if packet.payload[..2] == [3, 3] => {
            about(8 + 20)?;
            "port unreachable".into()
        }
        protocol::ICMPV6 if packet.payload[..2] == [1, 4] => {
            about(8 + 40)?;
            "port unreachable".into()
        }
        _ => return None,
    };
    Some(format!("{what} from {}", packet.src.to_ip()))
}

/// The number of the SYN that left about a port.
pub(super) fn syn_number(frames: &[(usize, Vec<u8>)], port: u16) -> Option<u32> {
    let mut segments = frames.iter().filter_map(|(_, frame)| tcp(frame));
    let syn = segments
        .find(|s| s.flags.contains(Flags::SYN) && [s.src_port, s.dst_port].contains(&port))?;
    Some(syn.seq)
}
