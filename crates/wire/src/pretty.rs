//! One line for a whole frame: for logs, test failures and tools.
//!
//! Invariant: recursion is bounded: two tags at most are looked through, and a quoted packet is not looked into
//! again.

use core::fmt;

use crate::{
    EtherType, Family, Quote, arp, ethernet, icmpv4, icmpv6, igmp, ipv4, ipv6, protocol, tcp, udp,
    vlan,
};

/// Prints an Ethernet frame with everything in it that this crate speaks. Any bytes will do.
///
/// ```
/// let frame = [0xffu8; 60];
/// assert!(wire::Pretty(&frame).to_string().starts_with("Ethernet ff:ff:ff:ff:ff:ff > "));
/// ```
#[derive(Copy, Clone)]
pub struct Pretty<'a>(pub &'a [u8]);

impl fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(frame) = ethernet::Packet::new(self.0) else {
            return write!(f, "Ethernet truncated at {} bytes", self.0.len());
        };
        write!(f, "{frame}")?;
        let (mut ethertype, mut payload) = (frame.ethertype(), frame.payload());
        for _ in 0..2 {
            if !matches!(ethertype, EtherType::VLAN | EtherType::QINQ) {
                break;
            }
            let Ok(tag) = vlan::Packet::new(payload) else {
                return f.write_str(" | VLAN truncated");
            };
            write!(f, " | {tag}")?;
            (ethertype, payload) = (tag.ethertype(), tag.payload());
        }
        match ethertype {
            EtherType::ARP => show(f, arp::Packet::new(payload)),
            EtherType::IPV4 | EtherType::IPV6 => write!(f, " | {}", PrettyIp(payload)),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Prints an IPv4 or IPv6 packet, told apart by its version, with everything in it that this crate speaks.
#[derive(Copy, Clone)]
pub struct PrettyIp<'a>(pub &'a [u8]);

impl fmt::Display for PrettyIp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first().map(|first| first >> 4) {
            Some(4) => ipv4(f, self.0),
            Some(6) => ipv6(f, self.0),
            Some(other) => write!(f, "IP version {other} len {}", self.0.len()),
            None => f.write_str("IP empty"),
        }
    }
}

impl fmt::Debug for PrettyIp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn show<T: fmt::Display>(f: &mut fmt::Formatter<'_>, packet: crate::Result<T>) -> fmt::Result {
    match packet {
        Ok(packet) => write!(f, " | {packet}"),
        Err(error) => write!(f, " | {error}"),
    }
}

fn ipv4(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let packet = match ipv4::Packet::new(bytes) {
        Ok(packet) => packet,
        Err(error) => return write!(f, "IPv4 {error}"),
    };
    write!(f, "{packet}")?;
    if packet.fragment_offset() == 0 {
        transport(f, packet.protocol(), packet.payload())
    } else {
        Ok(())
    }
}

fn ipv6(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let packet = match ipv6::Packet::new(bytes) {
        Ok(packet) => packet,
        Err(error) => return write!(f, "IPv6 {error}"),
    };
    write!(f, "{packet}")?;
    match ipv6::ext::walk(packet.next_header(), packet.payload()) {
        Ok(chain) => {
            if let Some(fragment) = chain.fragment {
                let more = if fragment.more { "+" } else { "" };
                write!(
                    f,
                    " | fragment {:#010x}@{}{more}",
                    fragment.ident, fragment.offset
                )?;
                if fragment.offset != 0 {
                    return Ok(());
                }
            }
            transport(
                f,
                chain.transport,
                packet.payload().get(chain.offset..).unwrap_or_default(),
            )
        }
        Err(error) => write!(f, " | {error}"),
    }
}

fn transport(f: &mut fmt::Formatter<'_>, protocol: u8, payload: &[u8]) -> fmt::Result {
    match protocol {
        protocol::TCP => show(f, tcp::Packet::new(payload)),
        protocol::UDP => show(f, udp::Packet::new(payload)),
        protocol::IGMP => show(f, igmp::Packet::new(payload)),
        protocol::ICMPV4 => {
            let packet = icmpv4::Packet::new(payload);
            show(f, packet)?;
            quote(
                f,
                Family::V4,
                packet.ok().and_then(|packet| packet.quoted()),
            )
        }
        protocol::ICMPV6 => {
            let packet = icmpv6::Packet::new(payload);
            show(f, packet)?;
            quote(
                f,
                Family::V6,
                packet.ok().and_then(|packet| packet.quoted()),
            )
        }
        _ => Ok(()),
    }
}

fn quote(f: &mut fmt::Formatter<'_>, family: Family, quoted: Option<&[u8]>) -> fmt::Result {
    match quoted.map(|bytes| Quote::parse(family, bytes)) {
        Some(Ok(quote)) => write!(f, " about {quote}"),
        Some(Err(error)) => write!(f, " about a packet {error}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tagged_segment() {
        let bytes = [
            &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 7, 0x08, 0][..],
            &[
                0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0x26, 0x34, 10, 77, 0, 2, 10, 77, 0, 1,
            ],
            &[
                0, 80, 0, 99, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0, 3, 0, 0, 0, 0,
            ],
        ]
        .concat();
        assert_eq!(
            Pretty(&bytes).to_string(),
            "Ethernet 02:00:00:00:00:01 > 02:00:00:00:00:02 802.1Q len 44 | VLAN 7 pcp 0 IPv4 \
             | IPv4 10.77.0.2 > 10.77.0.1 proto 6 ttl 64 len 40 DF | TCP 80 > 99 ACK seq 1 ack 2 win 3 len 0"
        );
    }

    #[test]
    fn an_error_about_a_segment() {
        let bytes = [
            &[0x60, 0, 0, 0, 0, 60, 58, 64][..],
            &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            &[1, 4, 0, 0, 0, 0, 0, 0],
            &[0x60, 0, 0, 0, 0, 12, 17, 64],
            &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 9, 0, 7, 0, 12, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(
            PrettyIp(&bytes).to_string(),
            "IPv6 fd00::1 > fd00::2 next 58 hops 64 len 60 | ICMPv6 unreachable code 4 len 60 \
             about fd00::2 port 9 > fd00::1 port 7 proto 17"
        );
    }

    #[test]
    fn anything_else() {
        assert_eq!(
            Pretty(&[1, 2, 3]).to_string(),
            "Ethernet truncated at 3 bytes"
        );
        assert_eq!(PrettyIp(&[]).to_string(), "IP empty");
        assert_eq!(PrettyIp(&[0x50]).to_string(), "IP version 5 len 1");
        assert_eq!(PrettyIp(&[0x45]).to_string(), "IPv4 truncated");
    }
}
