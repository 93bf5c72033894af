//! Group management for IPv4: IGMPv3 (RFC 9776), and versions 1 and 2 (RFC 2236) for old routers.
//!
//! When to report lives in `stack`. Every message goes with TTL 1 and router alert.

use core::fmt;

pub use crate::mld::RecordKind;
use crate::{
    Addr, Error, Result,
    bytes::{array, be16, head_mut, put, put16},
    checksum::Sum,
};

#[cfg(test)]
mod tests;

/// Bytes every message has.
pub const HEADER_LEN: usize = 8;
/// Where the checksum stands in the header.
pub const CHECKSUM_OFFSET: usize = 2;

/// Message types.
pub mod kind {
    /// Membership query, of every version.
    pub const QUERY: u8 = 0x11;
    /// Membership report, version 1.
    pub const REPORT_V1: u8 = 0x12;
    /// Membership report, version 2.
    pub const REPORT_V2: u8 = 0x16;
    /// Leave group, version 2.
    pub const LEAVE_V2: u8 = 0x17;
    /// Membership report, version 3.
    pub const REPORT_V3: u8 = 0x22;
}

/// A view of a message.
#[derive(Copy, Clone, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Looks at the payload of an IPv4 packet.
    ///
    /// # Errors
    /// [`Error::Truncated`] when it is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Packet<'a>> {
        let (header, payload) = bytes.split_first_chunk().ok_or(Error::Truncated)?;
        Ok(Packet { header, payload })
    }

    /// Type; see [`kind`].
    #[inline]
    pub fn kind(&self) -> u8 {
        self.header[0]
    }

    /// Maximum response code of a query.
    #[inline]
    pub fn max_response_code(&self) -> u8 {
        self.header[1]
    }

    /// Checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.header, CHECKSUM_OFFSET)
    }

    /// Whether the checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        Sum::new()
            .add_bytes(self.header)
            .add_bytes(self.payload)
            .is_valid()
    }

    /// Group of a query, or of a report up to version 2.
    #[inline]
    pub fn group(&self) -> Addr {
        Addr::from_v4(array(self.header, 4))
    }

    /// What follows the first eight bytes.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The records of a version 3 report, their sources passed over; ends at the first that does not fit or is of
    /// no known kind.
    pub fn records(&self) -> impl Iterator<Item = Record> + use<'a> {
        let mut left = if self.kind() == kind::REPORT_V3 {
            be16(self.header, 6)
        } else {
            0
        };
        let mut rest = self.payload;
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let (head, after) = rest.split_first_chunk::<8>()?;
            let skip = usize::from(be16(head, 2)) * 4 + usize::from(head[1]) * 4;
            rest = after.get(skip..)?;
            Some(Record {
                kind: RecordKind::from_u8(head[0])?,
                group: Addr::from_v4(array(head, 4)),
            })
        })
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            kind::QUERY => write!(f, "IGMP query {}", self.group()),
            kind::REPORT_V1 => write!(f, "IGMPv1 report {}", self.group()),
            kind::REPORT_V2 => write!(f, "IGMPv2 report {}", self.group()),
            kind::LEAVE_V2 => write!(f, "IGMPv2 leave {}", self.group()),
            kind::REPORT_V3 => {
                f.write_str("IGMPv3 report")?;
                self.records()
                    .try_for_each(|record| write!(f, " {:?} {}", record.kind, record.group))
            }
            other => write!(f, "IGMP type {other:#04x}"),
        }
    }
}

/// A group record without sources.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub kind: RecordKind,
    /// About which group.
    pub group: Addr,
}

/// Which version a router speaks.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Version 1 (RFC 1112).
    V1,
    /// Version 2 (RFC 2236).
    V2,
    /// Version 3 (RFC 9776).
    V3,
}

/// A router asks who listens.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The group, or unspecified for a general query.
    pub group: Addr,
    /// Milliseconds within which to answer.
    pub max_response: u32,
    /// The version the router speaks.
    pub version: Version,
    /// Sources the query is about, 0 for all.
    pub sources: u16,
}

impl Query {
    /// Reads a query. The checksum is not looked at.
    ///
    /// # Errors
    /// [`Error::Unrecognized`] for other types; [`Error::Truncated`] and [`Error::Length`]; [`Error::Address`] when
    /// the group is neither multicast nor unspecified.
    pub fn parse(packet: &Packet<'_>) -> Result<Query> {
        if packet.kind() != kind::QUERY {
            return Err(Error::Unrecognized);
        }
        let group = packet.group();
        if !group.is_unspecified() && !group.is_multicast() {
            return Err(Error::Address);
        }
        let code = packet.max_response_code();
        // RFC 9776 section 7.1: the length tells the version, and a zero time version 1.
        let (version, tenths, sources) = match *packet.payload {
            [] if code == 0 => (Version::V1, 100, 0),
            [] => (Version::V2, u32::from(code), 0),
            [_, _, high, low, ref rest @ ..] => {
                let sources = u16::from_be_bytes([high, low]);
                if rest.len() < usize::from(sources) * 4 {
                    return Err(Error::Truncated);
                }
                (Version::V3, response_tenths(code), sources)
            }
            _ => return Err(Error::Length),
        };
        Ok(Query {
            group,
            max_response: tenths * 100,
            version,
            sources,
        })
    }
}

/// Tenths of a second of a version 3 maximum response code (RFC 9776 section 4.1.1).
const fn response_tenths(code: u8) -> u32 {
    if code < 0x80 {
        code as u32
    } else {
        (code as u32 & 0x0f | 0x10) << ((code >> 4 & 7) + 3)
    }
}

/// A listener answers in version 1 or 2.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ReportV2 {
    /// It listens to the group, in version 1.
    ReportV1(Addr),
    /// It listens to the group.
    Report(Addr),
    /// It does no longer.
    Leave(Addr),
}

impl ReportV2 {
    /// Reads a report of version 1 or 2.
    ///
    /// # Errors
    /// [`Error::Unrecognized`] for other types; [`Error::Address`] when it is not about a multicast group.
    pub fn parse(packet: &Packet<'_>) -> Result<ReportV2> {
        let make = match packet.kind() {
            kind::REPORT_V1 => ReportV2::ReportV1,
            kind::REPORT_V2 => ReportV2::Report,
            kind::LEAVE_V2 => ReportV2::Leave,
            _ => return Err(Error::Unrecognized),
        };
        if packet.group().is_multicast() {
            Ok(make(packet.group()))
        } else {
            Err(Error::Address)
        }
    }

    /// Bytes [`ReportV2::emit`] writes.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the message into the first [`HEADER_LEN`] bytes, checksum zero.
    pub fn emit(&self, buffer: &mut [u8]) {
        let bytes = head_mut::<HEADER_LEN>(buffer);
        let (kind, group) = match self {
            ReportV2::ReportV1(group) => (kind::REPORT_V1, group),
            ReportV2::Report(group) => (kind::REPORT_V2, group),
            ReportV2::Leave(group) => (kind::LEAVE_V2, group),
        };
        *bytes = [kind, 0, 0, 0, 0, 0, 0, 0];
        put(bytes, 4, &group.v4_octets());
    }
}

/// Bytes of a version 3 report with this many records without sources.
pub const fn report_len(records: usize) -> usize {
    HEADER_LEN + records * 8
}

/// Writes a version 3 report into the first [`report_len`] bytes, checksum zero.
///
/// # Panics
/// When the buffer is shorter, or there are more than 65,535 records.
pub fn emit_report(records: &[Record], buffer: &mut [u8]) {
    assert!(
        records.len() <= 0xffff,
        "a report has room for 65535 records"
    );
    let header = head_mut::<HEADER_LEN>(buffer);
    *header = [kind::REPORT_V3, 0, 0, 0, 0, 0, 0, 0];
    put16(header, 6, records.len() as u16);
    let (slots, _) = buffer[HEADER_LEN..].as_chunks_mut::<8>();
    for (record, slot) in records.iter().zip(&mut slots[..records.len()]) {
        *slot = [record.kind as u8, 0, 0, 0, 0, 0, 0, 0];
        put(slot, 4, &record.group.v4_octets());
    }
}

/// Computes the checksum of a whole message and writes it into its place; does nothing below [`HEADER_LEN`] bytes.
pub fn fill_checksum(message: &mut [u8]) {
    // Position and rule are those of ICMP.
    crate::icmpv4::fill_checksum(message);
}
