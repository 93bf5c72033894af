//! IPv6 extension headers (RFC 8200 section 4): the walk from the IPv6 header to the transport's.
//!
//! Answering with ICMP is not done here, and reassembly is not: [`Error`] carries what an answer needs, [`Chain`]
//! where the fragment header stands.
//!
//! Invariant: the walk is linear in the bytes it passes and looks at no more than [`MAX_HEADERS`] headers.

use core::fmt;

use crate::{
    Error as WireError,
    bytes::{be16, be32, head_mut, put16, put32},
    protocol,
};

#[cfg(test)]
mod tests;

/// Extension headers a packet may have; more are refused (RFC 8504 section 5.3 allows a limit).
pub const MAX_HEADERS: usize = 16;
/// Bytes of a fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// Offsets in ICMP are counted from the IPv6 header.
const BASE: usize = super::HEADER_LEN;
/// Where the IPv6 header keeps its Next Header field.
const FIRST_NEXT_HEADER: usize = 6;

/// Option types (IANA "Destination Options and Hop-by-Hop Options").
pub mod option {
    /// One byte of padding.
    pub const PAD1: u8 = 0;
    /// Two or more bytes of padding.
    pub const PADN: u8 = 1;
    /// Router alert (RFC 2711).
    pub const ROUTER_ALERT: u8 = 5;
}

/// Where the walk ended, and what it passed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// What stands at [`Chain::offset`]: the transport protocol, or anything else that is no extension header. Of a
    /// fragment that is not the whole packet: what the fragmentable part begins with.
    pub transport: u8,
    /// Where it stands, counted in the payload.
    pub offset: usize,
    /// Where the Next Header field that named it stands, counted in the packet: what an ICMPv6 "unrecognized next
    /// header" points at.
    pub named_at: usize,
    /// The fragment header. If it is not [atomic](Fragment::is_atomic) the walk ended right behind it.
    pub fragment: Option<Fragment>,
    /// A hop-by-hop options header was there.
    pub hop_by_hop: bool,
    /// A destination options header was there.
    pub destination_options: bool,
    /// A type 0 routing header was there, with no segments left (RFC 5095).
    pub routing0: bool,
    /// The value of the router alert option, 0 for MLD (RFC 2711).
    pub router_alert: Option<u16>,
}

/// What a fragment header says, and where it stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Offset of the fragment in bytes, a multiple of 8.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Identification.
    pub ident: u32,
    /// What the fragmentable part begins with.
    pub next_header: u8,
    /// Where the fragment header stands, counted in the payload: the length of the part that comes before.
    pub header_offset: usize,
    /// Where the Next Header field that named the fragment header stands, counted in the packet.
    pub named_at: usize,
}

impl Fragment {
    /// The whole packet in one fragment: to be taken by itself (RFC 6946 section 4).
    #[inline]
    pub const fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// Why a packet must be dropped, and what to tell its sender.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub kind: Kind,
    /// Where, counted from the start of the IPv6 header.
    pub pointer: u32,
}

/// What is wrong with a chain of headers.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A header does not fit in the packet.
    Truncated,
    /// More than [`MAX_HEADERS`].
    TooMany,
    /// An option does not fit in its header.
    Option,
    /// Hop-by-hop options that do not come first (RFC 8200 section 4.1).
    HopByHopPosition,
    /// A routing header of unknown type with segments left (RFC 8200 section 4.4, RFC 5095 section 3).
    RoutingType,
    /// An unknown option of the type that is dropped silently.
    UnknownOption,
    /// An unknown option whose sender is told, whatever the destination.
    UnknownOptionTell,
    /// An unknown option whose sender is told unless the destination was multicast.
    UnknownOptionTellUnicast,
}

impl Kind {
    /// The code of the ICMPv6 parameter problem to answer with, if one is due (RFC 4443 section 3.4).
    #[inline]
    pub const fn parameter_problem(self, multicast: bool) -> Option<u8> {
        match self {
            Kind::RoutingType | Kind::Option => Some(0),
            Kind::HopByHopPosition => Some(1),
            Kind::UnknownOptionTell => Some(2),
            Kind::UnknownOptionTellUnicast if !multicast => Some(2),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Truncated => "truncated extension header",
            Kind::TooMany => "too many extension headers",
            Kind::Option => "malformed option",
            Kind::HopByHopPosition => "hop-by-hop options not first",
            Kind::RoutingType => "routing header with segments left",
            Kind::UnknownOption | Kind::UnknownOptionTell | Kind::UnknownOptionTellUnicast => {
                "unknown option"
            }
        };
        write!(f, "{what} at {}", self.pointer)
    }
}

impl core::error::Error for Error {}

/// Whether a Next Header value names an extension header the walk passes over.
#[inline]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::DESTINATION_OPTIONS
    )
}

/// Walks the extension headers of a packet, given the Next Header field and the payload of its IPv6 header.
///
/// Nearly every packet has none; that case is inlined.
///
/// # Errors
/// When RFC 8200 has a node drop the packet.
#[inline]
pub fn walk(next_header: u8, payload: &[u8]) -> Result<Chain, Error> {
    if !is_extension(next_header) {
        return Ok(Chain {
            transport: next_header,
            named_at: FIRST_NEXT_HEADER,
            ..Chain::default()
        });
    }
    walk_headers(next_header, payload)
}

fn walk_headers(next_header: u8, payload: &[u8]) -> Result<Chain, Error> {
    let mut chain = Chain {
        transport: next_header,
        named_at: FIRST_NEXT_HEADER,
        ..Chain::default()
    };
    for position in 0..=MAX_HEADERS {
        if !is_extension(chain.transport) {
            return Ok(chain);
        }
        let at = chain.offset;
        let header = Header::at(payload, chain.transport, at).ok_or(Error {
            kind: Kind::Truncated,
            pointer: (BASE + at) as u32,
        })?;
        match chain.transport {
            protocol::HOP_BY_HOP => {
                if position != 0 {
                    return Err(Error {
                        kind: Kind::HopByHopPosition,
                        pointer: chain.named_at as u32,
                    });
                }
                chain.hop_by_hop = true;
                chain.router_alert = check_options(header.bytes, BASE + at, true)?;
            }
            protocol::DESTINATION_OPTIONS => {
                chain.destination_options = true;
                check_options(header.bytes, BASE + at, false)?;
            }
            protocol::ROUTING => {
                let [_, _, kind, segments_left, ..] = *header.start;
                if segments_left != 0 {
                    return Err(Error {
                        kind: Kind::RoutingType,
                        pointer: (BASE + at + 2) as u32,
                    });
                }
                chain.routing0 |= kind == 0;
            }
            _ => {
                let fragment = header.fragment(at, chain.named_at);
                if !fragment.is_atomic() {
                    chain.pass(&header);
                    chain.fragment = Some(fragment);
                    return Ok(chain);
                }
                // A second one adds nothing; the first says where the unfragmentable part ends.
                chain.fragment = chain.fragment.or(Some(fragment));
            }
        }
        chain.pass(&header);
    }
    Err(Error {
        kind: Kind::TooMany,
        pointer: chain.named_at as u32,
    })
}

impl Chain {
    fn pass(&mut self, header: &Header<'_>) {
        self.named_at = BASE + self.offset;
        self.offset += header.bytes.len();
        self.transport = header.start[0];
    }
}

/// One extension header.
struct Header<'a> {
    start: &'a [u8; 8],
    bytes: &'a [u8],
}

impl<'a> Header<'a> {
    fn at(payload: &'a [u8], kind: u8, at: usize) -> Option<Header<'a>> {
        let rest = payload.get(at..)?;
        let start = rest.first_chunk::<8>()?;
        // The fragment header has no length field; the others count 8-byte units behind the first.
        let len = if kind == protocol::FRAGMENT {
            FRAGMENT_LEN
        } else {
            (usize::from(start[1]) + 1) * 8
        };
        Some(Header {
            start,
            bytes: rest.get(..len)?,
        })
    }

    fn fragment(&self, header_offset: usize, named_at: usize) -> Fragment {
        let word = be16(self.start, 2);
        Fragment {
            offset: word & !7,
            more: word & 1 != 0,
            ident: be32(self.start, 4),
            next_header: self.start[0],
            header_offset,
            named_at,
        }
    }
}

/// Checks the options of one header, which begins at `base` in the packet; returns the router alert value.
fn check_options(header: &[u8], base: usize, hop_by_hop: bool) -> Result<Option<u16>, Error> {
    let mut router_alert = None;
    let mut at = 2;
    while let Some(&kind) = header.get(at) {
        let error = |kind| Error {
            kind,
            pointer: (base + at) as u32,
        };
        if kind == option::PAD1 {
            at += 1;
            continue;
        }
        let len = header
            .get(at + 1)
            .map(|&len| usize::from(len))
            .ok_or(error(Kind::Option))?;
        let data = header
            .get(at + 2..at + 2 + len)
            .ok_or(error(Kind::Option))?;
        match (kind, data) {
            (option::PADN, _) => {}
            (option::ROUTER_ALERT, &[high, low]) if hop_by_hop => {
                router_alert = Some(u16::from_be_bytes([high, low]));
            }
            // RFC 8200 section 4.2: the two highest bits say what to do with an option one does not know.
            _ => match kind >> 6 {
                0 => {}
                1 => return Err(error(Kind::UnknownOption)),
                2 => return Err(error(Kind::UnknownOptionTell)),
                _ => return Err(error(Kind::UnknownOptionTellUnicast)),
            },
        }
        at += 2 + len;
    }
    Ok(router_alert)
}

/// Whether the first fragment of a packet holds all headers up to and including the transport's (RFC 7112 section
/// 5: it must; the answer otherwise is parameter problem, code 3). `next_header` and `payload` are those behind the
/// fragment header.
pub fn first_fragment_is_complete(mut next_header: u8, payload: &[u8]) -> bool {
    let mut at = 0;
    for _ in 0..=MAX_HEADERS {
        if !is_extension(next_header) {
            let need = match next_header {
                protocol::TCP => crate::tcp::HEADER_LEN,
                protocol::UDP => crate::udp::HEADER_LEN,
                protocol::ICMPV6 => crate::icmpv6::HEADER_LEN,
                protocol::NO_NEXT_HEADER => 0,
                _ => 1,
            };
            return payload.len() >= at + need;
        }
        let Some(header) = Header::at(payload, next_header, at) else {
            return false;
        };
        next_header = header.start[0];
        at += header.bytes.len();
    }
    false
}

/// The transport protocol and what is there of its header, without judging the headers before it: for packets this
/// host sent, quoted in an ICMP error. Empty when the quote ends before it, or is of a later fragment.
pub fn skip(mut next_header: u8, payload: &[u8]) -> (u8, &[u8]) {
    let mut at = 0;
    for _ in 0..=MAX_HEADERS {
        if !is_extension(next_header) {
            return (next_header, payload.get(at..).unwrap_or_default());
        }
        let Some(header) = Header::at(payload, next_header, at) else {
            break;
        };
        let later_fragment =
            next_header == protocol::FRAGMENT && header.fragment(at, 0).offset != 0;
        next_header = header.start[0];
        at += header.bytes.len();
        if later_fragment {
            break;
        }
    }
    (next_header, &[])
}

/// A fragment header to send.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FragmentRepr {
    /// What the fragmentable part begins with.
    pub next_header: u8,
    /// Offset of the fragment in bytes, a multiple of 8; lower bits are not sent.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Identification.
    pub ident: u32,
}

impl FragmentRepr {
    /// Reads a fragment header.
    ///
    /// # Errors
    /// [`Error::Truncated`](crate::Error::Truncated) below [`FRAGMENT_LEN`] bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> crate::Result<FragmentRepr> {
        let header: &[u8; FRAGMENT_LEN] = bytes.first_chunk().ok_or(WireError::Truncated)?;
        let word = be16(header, 2);
        Ok(FragmentRepr {
            next_header: header[0],
            offset: word & !7,
            more: word & 1 != 0,
            ident: be32(header, 4),
        })
    }

    /// Bytes [`FragmentRepr::emit`] writes.
    #[inline]
    pub const fn header_len(&self) -> usize {
        FRAGMENT_LEN
    }

    /// Writes the header into the first [`FRAGMENT_LEN`] bytes.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        let header = head_mut::<FRAGMENT_LEN>(buffer);
        header[0] = self.next_header;
        header[1] = 0;
        put16(header, 2, self.offset & !7 | u16::from(self.more));
        put32(header, 4, self.ident);
    }
}

/// Bytes of a hop-by-hop options header with nothing but router alert.
pub const ROUTER_ALERT_LEN: usize = 8;

/// Writes a hop-by-hop options header with router alert for MLD (RFC 2711), as every MLD message must have (RFC
/// 9777 section 5), into the first [`ROUTER_ALERT_LEN`] bytes.
#[inline]
pub fn emit_router_alert(next_header: u8, buffer: &mut [u8]) {
    *head_mut::<ROUTER_ALERT_LEN>(buffer) = [
        next_header,
        0,
        option::ROUTER_ALERT,
        2,
        0,
        0,
        option::PADN,
        0,
    ];
}
