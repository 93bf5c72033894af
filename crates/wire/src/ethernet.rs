//! Ethernet II frames (RFC 894, RFC 2464), without preamble and frame check sequence.
//!
//! VLAN tags live in `vlan`.

use core::fmt;

use crate::{
    Error, Mac, Result,
    bytes::{array, be16, head_mut, put, put16},
};

/// Bytes of the header.
pub const HEADER_LEN: usize = 14;

/// What an Ethernet frame carries.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: EtherType = EtherType(0x0800);
    /// ARP.
    pub const ARP: EtherType = EtherType(0x0806);
    /// An 802.1Q tag.
    pub const VLAN: EtherType = EtherType(0x8100);
    /// IPv6.
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// An outer tag (802.1ad).
    pub const QINQ: EtherType = EtherType(0x88a8);

    /// Not a type but the length of an 802.3 frame (below 0x0600).
    #[inline]
    pub const fn is_length(self) -> bool {
        self.0 < 0x0600
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EtherType::IPV4 => f.pad("IPv4"),
            EtherType::ARP => f.pad("ARP"),
            EtherType::VLAN => f.pad("802.1Q"),
            EtherType::IPV6 => f.pad("IPv6"),
            EtherType::QINQ => f.pad("802.1ad"),
            EtherType(other) => write!(f, "{other:#06x}"),
        }
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A view of a frame.
#[derive(Copy, Clone, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Looks at a frame.
    ///
    /// # Errors
    /// [`Error::Truncated`] when it is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Packet<'a>> {
        let (header, payload) = bytes.split_first_chunk().ok_or(Error::Truncated)?;
        Ok(Packet { header, payload })
    }

    /// Destination.
    #[inline]
    pub fn dst(&self) -> Mac {
        Mac(array(self.header, 0))
    }

    /// Source.
    #[inline]
    pub fn src(&self) -> Mac {
        Mac(array(self.header, 6))
    }

    /// What the frame carries.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(be16(self.header, 12))
    }

    /// Everything after the header, padding included.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Ethernet {} > {} {} len {}",
            self.src(),
            self.dst(),
            self.ethertype(),
            self.payload.len()
        )
    }
}

/// An Ethernet header.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source.
    pub src: Mac,
    /// Destination.
    pub dst: Mac,
    /// What the frame carries.
    pub ethertype: EtherType,
}

impl Repr {
    /// Reads a header.
    ///
    /// # Errors
    /// [`Error::Unrecognized`] for 802.3 frames; [`Error::Address`] when the source is a group.
    #[inline]
    pub fn parse(packet: &Packet<'_>) -> Result<Repr> {
        let repr = Repr {
            src: packet.src(),
            dst: packet.dst(),
            ethertype: packet.ethertype(),
        };
        if repr.ethertype.is_length() {
            return Err(Error::Unrecognized);
        }
        if repr.src.is_multicast() {
            return Err(Error::Address);
        }
        Ok(repr)
    }

    /// Bytes [`Repr::emit`] writes.
    #[inline]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header into the first [`HEADER_LEN`] bytes.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        let header = head_mut::<HEADER_LEN>(buffer);
        put(header, 0, &self.dst.0);
        put(header, 6, &self.src.0);
        put16(header, 12, self.ethertype.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 14] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06,
    ];

    #[test]
    fn header() {
        let repr = Repr {
            src: Mac([2, 0, 0, 0, 0, 1]),
            dst: Mac::BROADCAST,
            ethertype: EtherType::ARP,
        };
        let bytes = [&HEADER[..], &[7, 8]].concat();
        let packet = Packet::new(&bytes).unwrap();
        assert_eq!(
            (Repr::parse(&packet), packet.payload()),
            (Ok(repr), &[7, 8][..])
        );
        let mut emitted = [0; 14];
        repr.emit(&mut emitted);
        assert_eq!(emitted, HEADER);
        assert_eq!(
            packet.to_string(),
            "Ethernet 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff ARP len 2"
        );
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(Packet::new(&HEADER[..13]).err(), Some(Error::Truncated));
        let parse = |at: usize, value| {
            let mut bytes = HEADER;
            bytes[at] = value;
            Repr::parse(&Packet::new(&bytes).unwrap())
        };
        assert_eq!(parse(6, 3), Err(Error::Address));
        assert_eq!(parse(12, 5), Err(Error::Unrecognized));
        assert_eq!(EtherType(0x88cc).to_string(), "0x88cc");
    }
}
