//! Multicast listener discovery for IPv6: version 2 (RFC 9777), and version 1 (RFC 2710) for old routers.
//!
//! When to report lives in `stack`. Every message goes with hop limit 1 and a router alert
//! ([`emit_router_alert`](crate::ipv6::ext::emit_router_alert)).

use core::fmt;

use crate::{
    Addr, Error, Result,
    bytes::{be16, head_mut, put, put16},
    icmpv6::{self, kind},
};

#[cfg(test)]
mod tests;

/// What a group record of a report says (RFC 9777 section 5.2.12; IGMPv3 has the same).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// The listener takes the sources listed, now as before.
    ModeIsInclude = 1,
    /// The listener takes all but the sources listed, now as before.
    ModeIsExclude = 2,
    /// From now on it takes the sources listed; none: it leaves the group.
    ChangeToInclude = 3,
    /// From now on it takes all but the sources listed; none: it joins the group.
    ChangeToExclude = 4,
    /// It takes these sources too.
    AllowNewSources = 5,
    /// It takes these sources no longer.
    BlockOldSources = 6,
}

impl RecordKind {
    /// The kind with this number.
    pub const fn from_u8(number: u8) -> Option<RecordKind> {
        Some(match number {
            1 => RecordKind::ModeIsInclude,
            2 => RecordKind::ModeIsExclude,
            3 => RecordKind::ChangeToInclude,
            4 => RecordKind::ChangeToExclude,
            5 => RecordKind::AllowNewSources,
            6 => RecordKind::BlockOldSources,
            _ => return None,
        })
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

/// A router asks who listens.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The group, or unspecified for a general query.
    pub group: Addr,
    /// Milliseconds within which to answer.
    pub max_response: u32,
    /// Version 2; with version 1 the reports are to be of version 1 for a while.
    pub v2: bool,
    /// Sources the query is about, 0 for all.
    pub sources: u16,
}

impl Query {
    /// Reads a query that came with this hop limit.
    ///
    /// # Errors
    /// [`Error::Unrecognized`] for other types; [`Error::Malformed`] for a hop limit other than 1 (RFC 9777 section
    /// 6.2) or a code other than 0; [`Error::Truncated`] and [`Error::Length`]; [`Error::Address`] when the group is
    /// neither multicast nor unspecified.
    pub fn parse(packet: &icmpv6::Packet<'_>, hop_limit: u8) -> Result<Query> {
        if packet.kind() != kind::MLD_QUERY {
            return Err(Error::Unrecognized);
        }
        if hop_limit != 1 || packet.code() != 0 {
            return Err(Error::Malformed);
        }
        let body = packet.payload();
        let group = Addr(*body.first_chunk().ok_or(Error::Truncated)?);
        if group.is_v4() || !(group == Addr::UNSPECIFIED_V6 || group.is_multicast()) {
            return Err(Error::Address);
        }
        let code = packet.ident();
        // RFC 9777 section 8.1: 24 bytes are version 1, 28 or more version 2, anything else is dropped.
        match body.get(16..).unwrap_or_default() {
            [] => Ok(Query {
                group,
                max_response: u32::from(code),
                v2: false,
                sources: 0,
            }),
            &[_, _, high, low, ref rest @ ..] => {
                let sources = u16::from_be_bytes([high, low]);
                if rest.len() < usize::from(sources) * 16 {
                    return Err(Error::Truncated);
                }
                Ok(Query {
                    group,
                    max_response: response_time(code),
                    v2: true,
                    sources,
                })
            }
            _ => Err(Error::Length),
        }
    }

    /// Bytes [`Query::emit`] writes: 24 for version 1, 28 for version 2.
    pub const fn buffer_len(&self) -> usize {
        if self.v2 { 28 } else { 24 }
    }

    /// Writes the query without sources into the first [`Query::buffer_len`] bytes, checksum zero. A time beyond
    /// 32,767 ms is rounded down in version 2 and cut in version 1.
    pub fn emit(&self, buffer: &mut [u8]) {
        if self.v2 {
            // Robustness 2 and an interval of 125 s, the defaults (RFC 9777 section 9).
            buffer[24..28].copy_from_slice(&[2, 125, 0, 0]);
        }
        let code = if self.v2 {
            response_code(self.max_response)
        } else {
            self.max_response.min(0xffff) as u16
        };
        emit_fixed(kind::MLD_QUERY, code, &self.group, buffer);
    }
}

/// Milliseconds of a version 2 maximum response code (RFC 9777 section 5.1.3).
const fn response_time(code: u16) -> u32 {
    if code < 0x8000 {
        code as u32
    } else {
        (code as u32 & 0x0fff | 0x1000) << ((code >> 12 & 7) + 3)
    }
}

/// The largest code that does not promise more time than `millis`.
const fn response_code(millis: u32) -> u16 {
    if millis < 0x8000 {
        return millis as u16;
    }
    let millis = if millis > response_time(0xffff) {
        response_time(0xffff)
    } else {
        millis
    };
    // The highest bit goes to position 12 and is not sent.
    let shift = 31 - millis.leading_zeros() - 12;
    0x8000 | ((shift - 3) as u16) << 12 | (millis >> shift) as u16 & 0x0fff
}

/// Version 1 messages and queries: type, maximum response, group.
fn emit_fixed(kind: u8, response: u16, group: &Addr, buffer: &mut [u8]) {
    let bytes = head_mut::<24>(buffer);
    *bytes = [0; 24];
    bytes[0] = kind;
    put16(bytes, 4, response);
    put(bytes, 8, &group.0);
}

/// A listener answers in version 1: it listens, or no longer does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ReportV1 {
    /// It listens to the group.
    Report(Addr),
    /// It does no longer.
    Done(Addr),
}

impl ReportV1 {
    /// Reads a version 1 report.
    ///
    /// # Errors
    /// [`Error::Unrecognized`] for other types; [`Error::Truncated`]; [`Error::Address`] when it is not about an
    /// IPv6 multicast group.
    pub fn parse(packet: &icmpv6::Packet<'_>) -> Result<ReportV1> {
        let make = match packet.kind() {
            kind::MLD_REPORT_V1 => ReportV1::Report,
            kind::MLD_DONE_V1 => ReportV1::Done,
            _ => return Err(Error::Unrecognized),
        };
        let group = Addr(*packet.payload().first_chunk().ok_or(Error::Truncated)?);
        if group.is_v4() || !group.is_multicast() {
            return Err(Error::Address);
        }
        Ok(make(group))
    }

    /// Bytes [`ReportV1::emit`] writes.
    pub const fn buffer_len(&self) -> usize {
        24
    }

    /// Writes the message into the first 24 bytes, checksum zero.
    pub fn emit(&self, buffer: &mut [u8]) {
        match self {
            ReportV1::Report(group) => emit_fixed(kind::MLD_REPORT_V1, 0, group, buffer),
            ReportV1::Done(group) => emit_fixed(kind::MLD_DONE_V1, 0, group, buffer),
        }
    }
}

/// Bytes of a version 2 report with this many records without sources.
pub const fn report_len(records: usize) -> usize {
    icmpv6::HEADER_LEN + records * RECORD_LEN
}

/// Bytes of a record without sources.
const RECORD_LEN: usize = 20;

/// Writes a version 2 report into the first [`report_len`] bytes, checksum zero.
///
/// # Panics
/// When the buffer is shorter, or there are more than 65,535 records.
pub fn emit_report(records: &[Record], buffer: &mut [u8]) {
    assert!(
        records.len() <= 0xffff,
        "a report has room for 65535 records"
    );
    let header = head_mut::<{ icmpv6::HEADER_LEN }>(buffer);
    *header = [kind::MLD_REPORT_V2, 0, 0, 0, 0, 0, 0, 0];
    put16(header, 6, records.len() as u16);
    let (slots, _) = buffer[icmpv6::HEADER_LEN..].as_chunks_mut::<RECORD_LEN>();
    for (record, slot) in records.iter().zip(&mut slots[..records.len()]) {
        *slot = [0; RECORD_LEN];
        slot[0] = record.kind as u8;
        put(slot, 4, &record.group.0);
    }
}

/// The records of a version 2 report, their sources passed over; ends at the first that does not fit or is of no
/// known kind.
pub fn records<'a>(packet: &icmpv6::Packet<'a>) -> impl Iterator<Item = Record> + use<'a> {
    let is_report = packet.kind() == kind::MLD_REPORT_V2;
    let mut left = if is_report { packet.seq() } else { 0 };
    let mut rest = packet.payload();
    core::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let (head, after) = rest.split_first_chunk::<RECORD_LEN>()?;
        let sources = usize::from(be16(head, 2)) * 16 + usize::from(head[1]) * 4;
        rest = after.get(sources..)?;
        let (_, group) = head.split_last_chunk::<16>()?;
        Some(Record {
            kind: RecordKind::from_u8(head[0])?,
            group: Addr(*group),
        })
    })
}

/// Prints a message without judging it.
pub(crate) fn display(packet: &icmpv6::Packet<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let group = packet.payload().first_chunk().map(|octets| Addr(*octets));
    let name = match packet.kind() {
        kind::MLD_QUERY => "MLD query",
        kind::MLD_REPORT_V1 => "MLDv1 report",
        kind::MLD_DONE_V1 => "MLDv1 done",
        _ => {
            write!(f, "MLDv2 report")?;
            return records(packet)
                .try_for_each(|record| write!(f, " {:?} {}", record.kind, record.group));
        }
    };
    match group {
        Some(group) => write!(f, "{name} {group}"),
        None => write!(f, "{name} (truncated)"),
    }
}
