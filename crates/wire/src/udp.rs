//! UDP (RFC 768).

use core::fmt;

use crate::{
    Addr, Error, Result,
    bytes::{array, be16, head_mut, put64},
    checksum, protocol,
};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// A view of a datagram.
#[derive(Copy, Clone, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    /// Everything the IP packet holds behind the header.
    rest: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Looks at the payload of an IP packet.
    ///
    /// # Errors
    /// [`Error::Truncated`] when it is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Packet<'a>> {
        let (header, rest) = bytes.split_first_chunk().ok_or(Error::Truncated)?;
        Ok(Packet { header, rest })
    }

    /// Source port; 0 when no reply is wanted.
    #[inline]
    pub fn src_port(&self) -> u16 {
        be16(self.header, 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        be16(self.header, 2)
    }

    /// Source and destination port as they stand on the wire, for hashing.
    #[inline]
    pub fn port_bytes(&self) -> [u8; 4] {
        array(self.header, 0)
    }

    /// Length field: header and data.
    #[inline]
    pub fn len(&self) -> u16 {
        be16(self.header, 4)
    }

    /// Whether the datagram carries no data.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.payload().is_empty()
    }

    /// Checksum field; 0 when the sender computed none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.header, 6)
    }

    /// The data: as much as the length field says, or as is there if that is less.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        let len = usize::from(self.len()).saturating_sub(HEADER_LEN);
        self.rest.get(..len).unwrap_or(self.rest)
    }

    /// Whether the checksum is right. Zero, none, counts as right over IPv4 only (RFC 8200 section 8.1).
    #[inline]
    pub fn verify_checksum(&self, src: &Addr, dst: &Addr) -> bool {
        if self.checksum() == 0 {
            return dst.is_v4();
        }
        checksum::pseudo(src, dst, protocol::UDP, u32::from(self.len()))
            .add_bytes(self.header)
            .add_bytes(self.payload())
            .is_valid()
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "UDP {} > {} len {}",
            self.src_port(),
            self.dst_port(),
            self.len()
        )?;
        let held = self.rest.len() + HEADER_LEN;
        if usize::from(self.len()) > held {
            write!(f, " (only {held} here)")
        } else {
            Ok(())
        }
    }
}

/// A UDP header.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl Repr {
    /// Reads a header. The checksum is not looked at: a device may have done so.
    ///
    /// # Errors
    /// [`Error::Length`] when the length field is shorter than the header; [`Error::Truncated`] when it is longer
    /// than what is there.
    #[inline]
    pub fn parse(packet: &Packet<'_>) -> Result<Repr> {
        let len = usize::from(packet.len());
        if len < HEADER_LEN {
            return Err(Error::Length);
        }
        if len - HEADER_LEN > packet.rest.len() {
            return Err(Error::Truncated);
        }
        Ok(Repr {
            src_port: packet.src_port(),
            dst_port: packet.dst_port(),
        })
    }

    /// Bytes [`Repr::emit`] writes.
    #[inline]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header of a datagram with `payload_len` bytes of data, at most 65,527, checksum zero.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8], payload_len: usize) {
        debug_assert!(payload_len <= usize::from(u16::MAX) - HEADER_LEN);
        let ports = u64::from(self.src_port) << 48 | u64::from(self.dst_port) << 32;
        let len = (HEADER_LEN + payload_len) as u16;
        put64(
            head_mut::<HEADER_LEN>(buffer),
            0,
            ports | u64::from(len) << 16,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "hi" from port 53 to 9, with two bytes of padding behind.
    const DATAGRAM: [u8; 12] = [0, 53, 0, 9, 0, 10, 0, 0, b'h', b'i', 0xff, 0xff];

    fn parse(len: u8) -> Result<Repr> {
        let mut bytes = DATAGRAM;
        bytes[5] = len;
        Repr::parse(&Packet::new(&bytes).unwrap())
    }

    #[test]
    fn datagram() {
        let packet = Packet::new(&DATAGRAM).unwrap();
        assert_eq!(
            (packet.payload(), packet.port_bytes(), packet.is_empty()),
            (&b"hi"[..], [0, 53, 0, 9], false)
        );
        let repr = Repr {
            src_port: 53,
            dst_port: 9,
        };
        assert_eq!(Repr::parse(&packet), Ok(repr));
        let mut bytes = [0xff; 8];
        repr.emit(&mut bytes, 2);
        assert_eq!(bytes, DATAGRAM[..8]);
        assert_eq!(packet.to_string(), "UDP 53 > 9 len 10");
    }

    #[test]
    fn lengths() {
        assert_eq!(Packet::new(&DATAGRAM[..7]).err(), Some(Error::Truncated));
        assert_eq!(
            (parse(7), parse(0)),
            (Err(Error::Length), Err(Error::Length))
        );
        assert_eq!(
            (parse(12).is_ok(), parse(13)),
            (true, Err(Error::Truncated))
        );
        assert_eq!(
            Packet::new(&DATAGRAM[..9]).unwrap().to_string(),
            "UDP 53 > 9 len 10 (only 9 here)"
        );
    }

    #[test]
    fn checksums() {
        let (a, b) = (Addr::v4(10, 0, 0, 1), Addr::v4(10, 0, 0, 2));
        let packet = Packet::new(&DATAGRAM).unwrap();
        // None at all: fine over IPv4, not over IPv6 (RFC 8200 section 8.1).
        assert!(packet.verify_checksum(&a, &b));
        assert!(!packet.verify_checksum(&Addr::LOOPBACK_V6, &Addr::LOOPBACK_V6));
        let mut bytes = DATAGRAM;
        let words = [0x0a00, 1, 0x0a00, 2, 17, 10, 53, 9, 10, 0x6869u32];
        let check = !(words.iter().sum::<u32>() as u16);
        bytes[6..8].copy_from_slice(&check.to_be_bytes());
        assert!(Packet::new(&bytes).unwrap().verify_checksum(&a, &b));
        bytes[9] ^= 1;
        assert!(!Packet::new(&bytes).unwrap().verify_checksum(&a, &b));
    }
}
