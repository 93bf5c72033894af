//! The packet an ICMP error is about, as far as the error quotes it.
//!
//! Whether a quote can be of something this host sent is for `stack` to say (RFC 5927).

use core::fmt;

use crate::{
    Addr, Error, Family, Result,
    bytes::{be16, be32},
    ipv4, ipv6,
    ipv6::ext,
    protocol,
};

/// What is left of a packet in an ICMP error.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// Its source: this host, if the error is honest.
    pub src: Addr,
    /// Its destination.
    pub dst: Addr,
    /// Its transport protocol.
    pub protocol: u8,
    /// How long it was, headers included, as it said itself.
    pub packet_len: usize,
    /// The beginning of its transport header, 8 bytes or more in most errors; empty if it was a later fragment.
    pub transport: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Reads a quoted packet of the family the error came in.
    ///
    /// # Errors
    /// Those of the family's `Packet::new`; [`Error::Version`] if it is of the other family; [`Error::Address`] for
    /// a v4-mapped address in an IPv6 header.
    pub fn parse(family: Family, bytes: &'a [u8]) -> Result<Quote<'a>> {
        match family {
            Family::V4 => Quote::parse_v4(bytes),
            Family::V6 => Quote::parse_v6(bytes),
        }
    }

    fn parse_v4(bytes: &'a [u8]) -> Result<Quote<'a>> {
        let packet = ipv4::Packet::new(bytes)?;
        if packet.version() != 4 {
            return Err(Error::Version);
        }
        Ok(Quote {
            src: packet.src(),
            dst: packet.dst(),
            protocol: packet.protocol(),
            packet_len: usize::from(packet.total_len()),
            transport: if packet.fragment_offset() == 0 {
                packet.payload()
            } else {
                &[]
            },
        })
    }

    fn parse_v6(bytes: &'a [u8]) -> Result<Quote<'a>> {
        let packet = ipv6::Packet::new(bytes)?;
        if packet.version() != 6 {
            return Err(Error::Version);
        }
        if packet.src().is_v4() || packet.dst().is_v4() {
            return Err(Error::Address);
        }
        let (protocol, transport) = ext::skip(packet.next_header(), packet.payload());
        Ok(Quote {
            src: packet.src(),
            dst: packet.dst(),
            protocol,
            packet_len: ipv6::HEADER_LEN + usize::from(packet.payload_len()),
            transport,
        })
    }

    fn head<const N: usize>(&self, protocols: &[u8]) -> Option<&'a [u8; N]> {
        if protocols.contains(&self.protocol) {
            self.transport.first_chunk()
        } else {
            None
        }
    }

    /// Source and destination port of TCP and UDP.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let head = self.head::<4>(&[protocol::TCP, protocol::UDP])?;
        Some((be16(head, 0), be16(head, 2)))
    }

    /// Sequence number of a TCP segment.
    pub fn tcp_seq(&self) -> Option<u32> {
        self.head::<8>(&[protocol::TCP]).map(|head| be32(head, 4))
    }

    /// Identifier and sequence number of an echo request.
    pub fn echo(&self) -> Option<(u16, u16)> {
        let head = self.head::<8>(&[protocol::ICMPV4, protocol::ICMPV6])?;
        let request = if self.protocol == protocol::ICMPV4 {
            crate::icmpv4::kind::ECHO_REQUEST
        } else {
            crate::icmpv6::kind::ECHO_REQUEST
        };
        (head[0] == request).then(|| (be16(head, 4), be16(head, 6)))
    }
}

impl fmt::Display for Quote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ports() {
            Some((src, dst)) => {
                write!(
                    f,
                    "{} port {src} > {} port {dst} proto {}",
                    self.src, self.dst, self.protocol
                )
            }
            None => write!(f, "{} > {} proto {}", self.src, self.dst, self.protocol),
        }
    }
}

#[cfg(test)]
mod tests;
