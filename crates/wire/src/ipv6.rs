//! IPv6 headers (RFC 8200).
//!
//! Extension headers live in `ipv6::ext`; reassembly lives in `stack`.

use core::fmt;

use crate::{
    Addr, Error, Result,
    bytes::{array, be16, be32, head_mut, put, put32},
};

pub mod ext;
#[cfg(test)]
mod tests;

/// Bytes of the header.
pub const HEADER_LEN: usize = 40;
/// The longest payload its length field can tell.
pub const MAX_PAYLOAD: usize = 65_535;
/// The smallest MTU a link may have, and the largest packet every node must accept (RFC 8200 section 5: 1500
/// reassembled).
pub const MIN_MTU: usize = 1280;

/// A view of a packet, or of as much of one as an ICMP error quotes.
#[derive(Copy, Clone, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    /// Everything behind the header, link-layer padding included.
    rest: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Looks at a packet.
    ///
    /// # Errors
    /// [`Error::Truncated`] when it is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Packet<'a>> {
        let (header, rest) = bytes.split_first_chunk().ok_or(Error::Truncated)?;
        Ok(Packet { header, rest })
    }

    /// Version; 6 in a sound packet.
    #[inline]
    pub fn version(&self) -> u8 {
        self.header[0] >> 4
    }

    /// Traffic class: DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (be16(self.header, 0) >> 4) as u8
    }

    /// Differentiated services code point (RFC 2474).
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.traffic_class() >> 2
    }

    /// Explicit congestion notification (RFC 3168): 0 not capable, 1 ECT(1), 2 ECT(0), 3 congestion experienced.
    #[inline]
    pub fn ecn(&self) -> u8 {
        self.traffic_class() & 3
    }

    /// Flow label, 20 bits (RFC 6437).
    #[inline]
    pub fn flow_label(&self) -> u32 {
        be32(self.header, 0) & 0x000f_ffff
    }

    /// Payload length field: extension headers and data.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        be16(self.header, 4)
    }

    /// What follows the header; see [`protocol`](crate::protocol).
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.header[6]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.header[7]
    }

    /// Source. Not to be trusted to be of IPv6 before [`check`] has passed.
    #[inline]
    pub fn src(&self) -> Addr {
        Addr(array(self.header, 8))
    }

    /// Destination. Not to be trusted to be of IPv6 before [`check`] has passed.
    #[inline]
    pub fn dst(&self) -> Addr {
        Addr(array(self.header, 24))
    }

    /// Whether fewer bytes are there than the payload length says: cut short, or quoted in an ICMP error.
    #[inline]
    pub fn is_truncated(&self) -> bool {
        usize::from(self.payload_len()) > self.rest.len()
    }

    /// Extension headers and data: as much as the payload length says, or as is there if that is less. Padding
    /// behind it is left out.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.rest
            .get(..usize::from(self.payload_len()))
            .unwrap_or(self.rest)
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not through `Addr`, which would show a mapped address as IPv4.
        let [src, dst] = [self.src(), self.dst()].map(|addr| core::net::Ipv6Addr::from(addr.0));
        let (next, hops, len) = (self.next_header(), self.hop_limit(), self.payload_len());
        write!(f, "IPv6 {src} > {dst} next {next} hops {hops} len {len}")?;
        if self.version() != 6 {
            write!(f, " version {}", self.version())?;
        }
        if self.traffic_class() != 0 {
            write!(f, " class {:#04x}", self.traffic_class())?;
        }
        if self.flow_label() != 0 {
            write!(f, " flow {:#07x}", self.flow_label())?;
        }
        if self.is_truncated() {
            write!(f, " (only {} here)", self.rest.len())?;
        }
        Ok(())
    }
}

/// An IPv6 header.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source, an IPv6 address.
    pub src: Addr,
    /// Destination, an IPv6 address.
    pub dst: Addr,
    /// What follows the header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits; higher ones are not sent.
    pub flow_label: u32,
    /// Bytes of extension headers and data, at most [`MAX_PAYLOAD`].
    pub payload_len: usize,
}

impl Repr {
    /// A header with traffic class and flow label zero.
    #[inline]
    pub const fn new(
        src: Addr,
        dst: Addr,
        next_header: u8,
        hop_limit: u8,
        payload_len: usize,
    ) -> Repr {
        Repr {
            src,
            dst,
            next_header,
            hop_limit,
            traffic_class: 0,
            flow_label: 0,
            payload_len,
        }
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`Error::Version`]; [`Error::Truncated`] when the payload length is longer than what is there;
    /// [`Error::Address`] for a v4-mapped address.
    #[inline]
    pub fn parse(packet: &Packet<'_>) -> Result<Repr> {
        check(packet)?;
        Ok(Repr {
            src: packet.src(),
            dst: packet.dst(),
            next_header: packet.next_header(),
            hop_limit: packet.hop_limit(),
            traffic_class: packet.traffic_class(),
            flow_label: packet.flow_label(),
            payload_len: usize::from(packet.payload_len()),
        })
    }

    /// Bytes [`Repr::emit`] writes.
    #[inline]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN
    }

    /// Bytes of header and payload.
    #[inline]
    pub const fn total_len(&self) -> usize {
        HEADER_LEN + self.payload_len
    }

    /// Writes the header into the first [`HEADER_LEN`] bytes.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        debug_assert!(self.payload_len <= MAX_PAYLOAD);
        debug_assert!(!self.src.is_v4() && !self.dst.is_v4());
        let header = head_mut::<HEADER_LEN>(buffer);
        put32(
            header,
            0,
            6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff,
        );
        let [high, low] = (self.payload_len as u16).to_be_bytes();
        put(header, 4, &[high, low, self.next_header, self.hop_limit]);
        put(header, 8, &self.src.0);
        put(header, 24, &self.dst.0);
    }
}

/// The checks a receiver makes on the header itself.
///
/// # Errors
/// As [`Repr::parse`].
#[inline]
pub fn check(packet: &Packet<'_>) -> Result<()> {
    if packet.version() != 6 {
        return Err(Error::Version);
    }
    if packet.is_truncated() {
        return Err(Error::Truncated);
    }
    // `Addr` holds IPv4 as v4-mapped: on the wire it would pass for the other family.
    if packet.src().is_v4() || packet.dst().is_v4() {
        return Err(Error::Address);
    }
    Ok(())
}
