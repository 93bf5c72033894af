//! IPv4 headers (RFC 791) and their options.
//!
//! Which packets are for this host, and how fragments become datagrams, live in `stack`.

use core::fmt;

use crate::{
    Addr, Error, Result,
    bytes::{array, be16, head_mut, put32},
    checksum::Sum,
};

mod options;
#[cfg(test)]
mod tests;

pub use options::{Opt, Options, kind};

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;
/// The longest packet its length field can tell.
pub const MAX_LEN: usize = 65_535;
/// The largest packet every host must accept (RFC 791 section 3.1).
pub const MIN_REASSEMBLY: usize = 576;
/// The smallest MTU a link may have (RFC 791 section 3.2).
pub const MIN_MTU: usize = 68;

const MORE_FRAGMENTS: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;
const OFFSET_MASK: u16 = 0x1fff;

/// A view of a packet, or of as much of one as an ICMP error quotes.
#[derive(Copy, Clone, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    /// Everything behind the header, link-layer padding included.
    rest: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Looks at a packet.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the header does not fit; [`Error::Length`] when it claims to be shorter than
    /// [`HEADER_LEN`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Packet<'a>> {
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Error::Truncated)?;
        let options_len = usize::from(header[0] & 0x0f) * 4;
        // Nearly every packet has none, and then nothing needs to be split off.
        if options_len == HEADER_LEN {
            return Ok(Packet {
                header,
                options: &[],
                rest,
            });
        }
        let options_len = options_len.checked_sub(HEADER_LEN).ok_or(Error::Length)?;
        let (options, rest) = rest.split_at_checked(options_len).ok_or(Error::Truncated)?;
        Ok(Packet {
            header,
            options,
            rest,
        })
    }

    /// Version; 4 in a sound packet.
    #[inline]
    pub fn version(&self) -> u8 {
        self.header[0] >> 4
    }

    /// Bytes of the header with its options, 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// The whole second byte: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.header[1]
    }

    /// Differentiated services code point (RFC 2474).
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.header[1] >> 2
    }

    /// Explicit congestion notification (RFC 3168): 0 not capable, 1 ECT(1), 2 ECT(0), 3 congestion experienced.
    #[inline]
    pub fn ecn(&self) -> u8 {
        self.header[1] & 3
    }

    /// Total length field: header and data.
    #[inline]
    pub fn total_len(&self) -> u16 {
        be16(self.header, 2)
    }

    /// Identification.
    #[inline]
    pub fn ident(&self) -> u16 {
        be16(self.header, 4)
    }

    /// The reserved flag, which must be zero.
    #[inline]
    pub fn reserved_flag(&self) -> bool {
        self.header[6] & 0x80 != 0
    }

    /// Don't fragment.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        be16(self.header, 6) & DONT_FRAGMENT != 0
    }

    /// More fragments follow.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        be16(self.header, 6) & MORE_FRAGMENTS != 0
    }

    /// Offset of the fragment in bytes.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (be16(self.header, 6) & OFFSET_MASK) * 8
    }

    /// Whether this is a piece of a datagram, not the whole.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        be16(self.header, 6) & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.header[8]
    }

    /// What the packet carries; see [`protocol`](crate::protocol).
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.header[9]
    }

    /// Header checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.header, 10)
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        let sum = Sum::new().add_bytes(self.header);
        if self.options.is_empty() {
            sum.is_valid()
        } else {
            sum.add_bytes(self.options).is_valid()
        }
    }

    /// Source.
    #[inline]
    pub fn src(&self) -> Addr {
        Addr::from_v4(array(self.header, 12))
    }

    /// Destination.
    #[inline]
    pub fn dst(&self) -> Addr {
        Addr::from_v4(array(self.header, 16))
    }

    /// The option area as it stands: 0 to 40 bytes.
    #[inline]
    pub fn options_bytes(&self) -> &'a [u8] {
        self.options
    }

    /// The options one after another.
    #[inline]
    pub fn options(&self) -> Options<'a> {
        Options::new(self.options)
    }

    /// Whether fewer bytes are there than the total length says: cut short, or quoted in an ICMP error.
    #[inline]
    pub fn is_truncated(&self) -> bool {
        usize::from(self.total_len()) > self.header_len() + self.rest.len()
    }

    /// The data: as much as the total length says, or as is there if that is less. Padding behind it is left out.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        let len = usize::from(self.total_len()).saturating_sub(self.header_len());
        self.rest.get(..len).unwrap_or(self.rest)
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (src, dst) = (self.src(), self.dst());
        write!(
            f,
            "IPv4 {src} > {dst} proto {} ttl {} len {}",
            self.protocol(),
            self.ttl(),
            self.total_len()
        )?;
        if self.version() != 4 {
            write!(f, " version {}", self.version())?;
        }
        if self.tos() != 0 {
            write!(f, " tos {:#04x}", self.tos())?;
        }
        if self.dont_fragment() {
            f.write_str(" DF")?;
        }
        if self.is_fragment() {
            let more = if self.more_fragments() { "+" } else { "" };
            write!(
                f,
                " frag {:#06x}@{}{more}",
                self.ident(),
                self.fragment_offset()
            )?;
        }
        if !self.options.is_empty() {
            write!(f, " options {}", self.options())?;
        }
        if self.is_truncated() {
            write!(f, " (only {} here)", self.header_len() + self.rest.len())?;
        }
        if self.verify_checksum() {
            Ok(())
        } else {
            f.write_str(" bad checksum")
        }
    }
}

/// An IPv4 header; the only option it can hold is router alert.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source, an IPv4 address.
    pub src: Addr,
    /// Destination, an IPv4 address.
    pub dst: Addr,
    /// What the packet carries.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub ident: u16,
    /// Don't fragment.
    pub dont_fragment: bool,
    /// More fragments follow.
    pub more_fragments: bool,
    /// Offset of the fragment in bytes, a multiple of 8; lower bits are not sent.
    pub fragment_offset: u16,
    /// Ask every router to look at the packet (RFC 2113), as IGMP does.
    pub router_alert: bool,
    /// Bytes of data; with the header at most [`MAX_LEN`].
    pub payload_len: usize,
}

impl Repr {
    /// A whole packet, no fragment, with everything else zero.
    #[inline]
    pub const fn new(src: Addr, dst: Addr, protocol: u8, ttl: u8, payload_len: usize) -> Repr {
        Repr {
            src,
            dst,
            protocol,
            ttl,
            tos: 0,
            ident: 0,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            router_alert: false,
            payload_len,
        }
    }

    /// Reads a header, its checksum included. Options other than router alert are left out.
    ///
    /// # Errors
    /// [`Error::Version`]; [`Error::Length`] when the total length is shorter than the header; [`Error::Truncated`]
    /// when it is longer than what is there; [`Error::Checksum`] (RFC 1122 section 3.2.1.2: MUST be verified).
    #[inline]
    pub fn parse(packet: &Packet<'_>) -> Result<Repr> {
        check(packet)?;
        let router_alert = packet
            .options()
            .any(|option| option.kind == kind::ROUTER_ALERT);
        Ok(Repr {
            src: packet.src(),
            dst: packet.dst(),
            protocol: packet.protocol(),
            ttl: packet.ttl(),
            tos: packet.tos(),
            ident: packet.ident(),
            dont_fragment: packet.dont_fragment(),
            more_fragments: packet.more_fragments(),
            fragment_offset: packet.fragment_offset(),
            router_alert,
            payload_len: packet.payload().len(),
        })
    }

    /// Bytes [`Repr::emit`] writes: 20, or 24 with router alert.
    #[inline]
    pub const fn header_len(&self) -> usize {
        if self.router_alert {
            HEADER_LEN + 4
        } else {
            HEADER_LEN
        }
    }

    /// Bytes of header and data.
    #[inline]
    pub const fn total_len(&self) -> usize {
        self.header_len() + self.payload_len
    }

    /// Writes the header, checksum included, into the first [`Repr::header_len`] bytes.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        debug_assert!(self.total_len() <= MAX_LEN && self.fragment_offset.is_multiple_of(8));
        debug_assert!(self.src.is_v4() && self.dst.is_v4());
        let header_len = self.header_len();
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
        let flags_offset = flags | (self.fragment_offset / 8);
        let words = [
            u32::from_be_bytes([0x40 | (header_len / 4) as u8, self.tos, 0, 0])
                | self.total_len() as u16 as u32,
            u32::from(self.ident) << 16 | u32::from(flags_offset),
            u32::from_be_bytes([self.ttl, self.protocol, 0, 0]),
            u32::from_be_bytes(self.src.v4_octets()),
            u32::from_be_bytes(self.dst.v4_octets()),
        ];
        // Kind, length, and the value 0 that asks every router to look (RFC 2113 section 2.1).
        const ROUTER_ALERT: u32 = u32::from_be_bytes([kind::ROUTER_ALERT, 4, 0, 0]);
        if self.router_alert {
            put32(
                head_mut::<{ HEADER_LEN + 4 }>(buffer),
                HEADER_LEN,
                ROUTER_ALERT,
            );
        }
        // Summed from the registers: loading what was just stored would wait for the stores.
        let mut sum = Sum::new().add_u32(if self.router_alert { ROUTER_ALERT } else { 0 });
        for word in words {
            sum = sum.add_u32(word);
        }
        let header = head_mut::<HEADER_LEN>(buffer);
        put32(header, 0, words[0]);
        put32(header, 4, words[1]);
        put32(header, 8, words[2] | u32::from(sum.finish()));
        put32(header, 12, words[3]);
        put32(header, 16, words[4]);
    }
}

/// The checks of RFC 1122 section 3.2.1 on the header itself, in the order of its fields.
///
/// # Errors
/// As [`Repr::parse`].
#[inline]
pub fn check(packet: &Packet<'_>) -> Result<()> {
    if packet.version() != 4 {
        return Err(Error::Version);
    }
    let total_len = usize::from(packet.total_len());
    if total_len < packet.header_len() {
        return Err(Error::Length);
    }
    if packet.is_truncated() {
        return Err(Error::Truncated);
    }
    if !packet.verify_checksum() {
        return Err(Error::Checksum);
    }
    Ok(())
}
