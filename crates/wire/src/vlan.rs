//! 802.1Q tags: the four bytes that follow an EtherType of 0x8100 or 0x88a8.

use core::fmt;

use crate::{
    Error, EtherType, Result,
    bytes::{be16, head_mut, put16},
};

/// Bytes of a tag, counted from behind the EtherType that announced it.
pub const TAG_LEN: usize = 4;

/// A view of a tag and what follows.
#[derive(Copy, Clone, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; TAG_LEN],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Looks at the payload of a frame whose EtherType is a VLAN's.
    ///
    /// # Errors
    /// [`Error::Truncated`] below [`TAG_LEN`] bytes.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Packet<'a>> {
        let (header, payload) = bytes.split_first_chunk().ok_or(Error::Truncated)?;
        Ok(Packet { header, payload })
    }

    /// Priority code point, 0 to 7.
    #[inline]
    pub fn pcp(&self) -> u8 {
        self.header[0] >> 5
    }

    /// Drop eligible indicator.
    #[inline]
    pub fn dei(&self) -> bool {
        self.header[0] & 0x10 != 0
    }

    /// VLAN identifier, 0 to 4095.
    #[inline]
    pub fn vid(&self) -> u16 {
        be16(self.header, 0) & 0x0fff
    }

    /// What follows the tag.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(be16(self.header, 2))
    }

    /// Everything after the tag.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VLAN {} pcp {}", self.vid(), self.pcp())?;
        if self.dei() {
            f.write_str(" dei")?;
        }
        write!(f, " {}", self.ethertype())
    }
}

/// A VLAN tag.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Priority code point, 0 to 7; higher bits are not sent.
    pub pcp: u8,
    /// Drop eligible indicator.
    pub dei: bool,
    /// VLAN identifier, 0 (priority only) to 4094; higher bits are not sent.
    pub vid: u16,
    /// What follows the tag.
    pub ethertype: EtherType,
}

impl Tag {
    /// Reads a tag.
    ///
    /// # Errors
    /// [`Error::Malformed`] for the reserved identifier 4095 (802.1Q table 9-2); [`Error::Unrecognized`] when an
    /// 802.3 length follows.
    #[inline]
    pub fn parse(packet: &Packet<'_>) -> Result<Tag> {
        if packet.vid() == 0x0fff {
            return Err(Error::Malformed);
        }
        if packet.ethertype().is_length() {
            return Err(Error::Unrecognized);
        }
        Ok(Tag {
            pcp: packet.pcp(),
            dei: packet.dei(),
            vid: packet.vid(),
            ethertype: packet.ethertype(),
        })
    }

    /// Bytes [`Tag::emit`] writes.
    #[inline]
    pub const fn header_len(&self) -> usize {
        TAG_LEN
    }

    /// Writes the tag into the first [`TAG_LEN`] bytes.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        let header = head_mut::<TAG_LEN>(buffer);
        put16(
            header,
            0,
            u16::from(self.pcp & 7) << 13 | u16::from(self.dei) << 12 | self.vid & 0x0fff,
        );
        put16(header, 2, self.ethertype.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag() {
        let bytes = [0xb0, 0x0a, 0x86, 0xdd, 0x60];
        let packet = Packet::new(&bytes).unwrap();
        let tag = Tag {
            pcp: 5,
            dei: true,
            vid: 10,
            ethertype: EtherType::IPV6,
        };
        assert_eq!(
            (Tag::parse(&packet), packet.payload()),
            (Ok(tag), &[0x60][..])
        );
        let mut emitted = [0; 4];
        tag.emit(&mut emitted);
        assert_eq!(emitted, bytes[..4]);
        assert_eq!(packet.to_string(), "VLAN 10 pcp 5 dei IPv6");
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(Packet::new(&[0; 3]).err(), Some(Error::Truncated));
        assert_eq!(
            Tag::parse(&Packet::new(&[0x0f, 0xff, 8, 0]).unwrap()),
            Err(Error::Malformed)
        );
        assert_eq!(
            Tag::parse(&Packet::new(&[0, 1, 0, 64]).unwrap()),
            Err(Error::Unrecognized)
        );
    }
}
