//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! What to learn from a message, and conflict detection (RFC 5227), live in `stack`.

use core::{fmt, net::Ipv4Addr};

use crate::{
    Error, EtherType, Mac, Result,
    bytes::{array, be16, head_mut, put, put16},
};

/// Bytes of a message.
pub const LEN: usize = 28;

const HARDWARE_ETHERNET: u16 = 1;

/// What a message asks or tells.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Operation {
    /// Who has the target address?
    Request = 1,
    /// The sender address is at the sender MAC.
    Reply = 2,
}

/// A view of a message.
#[derive(Copy, Clone, Debug)]
pub struct Packet<'a> {
    bytes: &'a [u8; LEN],
}

impl<'a> Packet<'a> {
    /// Looks at a frame's payload.
    ///
    /// # Errors
    /// [`Error::Truncated`] when it is shorter than [`LEN`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Packet<'a>> {
        Ok(Packet {
            bytes: bytes.first_chunk().ok_or(Error::Truncated)?,
        })
    }

    /// Hardware type; 1 is Ethernet.
    #[inline]
    pub fn hardware_type(&self) -> u16 {
        be16(self.bytes, 0)
    }

    /// Protocol type.
    #[inline]
    pub fn protocol_type(&self) -> EtherType {
        EtherType(be16(self.bytes, 2))
    }

    /// Length of a hardware address.
    #[inline]
    pub fn hardware_len(&self) -> u8 {
        self.bytes[4]
    }

    /// Length of a protocol address.
    #[inline]
    pub fn protocol_len(&self) -> u8 {
        self.bytes[5]
    }

    /// Operation as it stands.
    #[inline]
    pub fn operation(&self) -> u16 {
        be16(self.bytes, 6)
    }

    /// Sender's Ethernet address.
    #[inline]
    pub fn sender_mac(&self) -> Mac {
        Mac(array(self.bytes, 8))
    }

    /// Sender's IPv4 address.
    #[inline]
    pub fn sender_ip(&self) -> [u8; 4] {
        array(self.bytes, 14)
    }

    /// Target's Ethernet address.
    #[inline]
    pub fn target_mac(&self) -> Mac {
        Mac(array(self.bytes, 18))
    }

    /// Target's IPv4 address.
    #[inline]
    pub fn target_ip(&self) -> [u8; 4] {
        array(self.bytes, 24)
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hardware_type() != HARDWARE_ETHERNET || self.protocol_type() != EtherType::IPV4 {
            return write!(
                f,
                "ARP hardware {} protocol {}",
                self.hardware_type(),
                self.protocol_type()
            );
        }
        let (sender, target) = (
            Ipv4Addr::from(self.sender_ip()),
            Ipv4Addr::from(self.target_ip()),
        );
        match self.operation() {
            1 => write!(
                f,
                "ARP who-has {target} tell {sender} at {}",
                self.sender_mac()
            ),
            2 => write!(
                f,
                "ARP {sender} is-at {} to {target} at {}",
                self.sender_mac(),
                self.target_mac()
            ),
            other => write!(f, "ARP operation {other} {sender} > {target}"),
        }
    }
}

/// A message for IPv4 over Ethernet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Request or reply.
    pub op: Operation,
    /// Sender's Ethernet address.
    pub sender_mac: Mac,
    /// Sender's IPv4 address; all zero in a probe (RFC 5227).
    pub sender_ip: [u8; 4],
    /// Target's Ethernet address; ignored in a request.
    pub target_mac: Mac,
    /// Target's IPv4 address.
    pub target_ip: [u8; 4],
}

impl Repr {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Error::Unrecognized`] when it is not about IPv4 over Ethernet, or neither request nor reply;
    /// [`Error::Address`] when the sender's Ethernet address is a group.
    #[inline]
    pub fn parse(packet: &Packet<'_>) -> Result<Repr> {
        if packet.hardware_type() != HARDWARE_ETHERNET
            || packet.protocol_type() != EtherType::IPV4
            || packet.hardware_len() != 6
            || packet.protocol_len() != 4
        {
            return Err(Error::Unrecognized);
        }
        let op = match packet.operation() {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(Error::Unrecognized),
        };
        if packet.sender_mac().is_multicast() {
            return Err(Error::Address);
        }
        Ok(Repr {
            op,
            sender_mac: packet.sender_mac(),
            sender_ip: packet.sender_ip(),
            target_mac: packet.target_mac(),
            target_ip: packet.target_ip(),
        })
    }

    /// Bytes [`Repr::emit`] writes.
    #[inline]
    pub const fn buffer_len(&self) -> usize {
        LEN
    }

    /// Writes the message into the first [`LEN`] bytes.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        let bytes = head_mut::<LEN>(buffer);
        put16(bytes, 0, HARDWARE_ETHERNET);
        put16(bytes, 2, EtherType::IPV4.0);
        bytes[4] = 6;
        bytes[5] = 4;
        put16(bytes, 6, self.op as u16);
        put(bytes, 8, &self.sender_mac.0);
        put(bytes, 14, &self.sender_ip);
        put(bytes, 18, &self.target_mac.0);
        put(bytes, 24, &self.target_ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; 28] = [
        0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
        2, 0, 0, 0, 0, 1, 10, 77, 0, 1, // sender
        0, 0, 0, 0, 0, 0, 10, 77, 0, 2, // target
    ];

    #[test]
    fn request() {
        let repr = Repr {
            op: Operation::Request,
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender_ip: [10, 77, 0, 1],
            target_mac: Mac::ZERO,
            target_ip: [10, 77, 0, 2],
        };
        let packet = Packet::new(&REQUEST).unwrap();
        assert_eq!(Repr::parse(&packet), Ok(repr));
        let mut bytes = [0xff; 28];
        repr.emit(&mut bytes);
        assert_eq!(bytes, REQUEST);
        assert_eq!(
            packet.to_string(),
            "ARP who-has 10.77.0.2 tell 10.77.0.1 at 02:00:00:00:00:01"
        );
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(Packet::new(&REQUEST[..27]).err(), Some(Error::Truncated));
        let cases =
            [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3)].map(|case| (case, Error::Unrecognized));
        for ((at, value), error) in cases.into_iter().chain([((8, 3), Error::Address)]) {
            let mut bytes = REQUEST;
            bytes[at] = value;
            assert_eq!(
                Repr::parse(&Packet::new(&bytes).unwrap()),
                Err(error),
                "byte {at}"
            );
        }
    }
}
