//! ICMP for IPv6 (RFC 4443): echoes and errors.
//!
//! Neighbour discovery lives in `ndp`, listener discovery in `mld`; both read a [`Packet`] of this module. When to
//! answer, and how often (RFC 4443 section 2.4), is `stack`'s matter. What an error quotes is read with
//! [`Quote`](crate::Quote).

use core::fmt;

use crate::{
    Addr, Error, Result,
    bytes::{be16, be32, head_mut, put16, put32},
    checksum, protocol,
};

/// Bytes of the header; every message spoken here has at least these.
pub const HEADER_LEN: usize = 8;
/// Where the checksum stands in the header.
pub const CHECKSUM_OFFSET: usize = 2;

/// Message types (IANA "ICMPv6 type Numbers").
pub mod kind {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query.
    pub const MLD_QUERY: u8 = 130;
    /// Multicast listener report, version 1.
    pub const MLD_REPORT_V1: u8 = 131;
    /// Multicast listener done, version 1.
    pub const MLD_DONE_V1: u8 = 132;
    /// Router solicitation.
    pub const ROUTER_SOLICIT: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOR_SOLICIT: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOR_ADVERT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
    /// Multicast listener report, version 2.
    pub const MLD_REPORT_V2: u8 = 143;
}

/// Codes of destination unreachable.
pub mod unreachable {
    /// No route.
    pub const NO_ROUTE: u8 = 0;
    /// Administratively prohibited.
    pub const PROHIBITED: u8 = 1;
    /// Beyond the scope of the source address.
    pub const SCOPE: u8 = 2;
    /// Address.
    pub const ADDRESS: u8 = 3;
    /// Port.
    pub const PORT: u8 = 4;
    /// The source address failed a policy.
    pub const SOURCE_POLICY: u8 = 5;
    /// The route to the destination rejects.
    pub const REJECT_ROUTE: u8 = 6;
}

/// Codes of time exceeded.
pub mod time_exceeded {
    /// The hop limit ran out on the way.
    pub const HOP_LIMIT: u8 = 0;
    /// The fragments did not all arrive in time.
    pub const REASSEMBLY: u8 = 1;
}

/// Codes of parameter problem.
pub mod parameter_problem {
    /// A header field makes no sense.
    pub const HEADER_FIELD: u8 = 0;
    /// Unrecognized next header.
    pub const NEXT_HEADER: u8 = 1;
    /// Unrecognized option.
    pub const OPTION: u8 = 2;
    /// The first fragment does not hold all headers (RFC 7112).
    pub const INCOMPLETE_HEADERS: u8 = 3;
}

/// A view of a message.
#[derive(Copy, Clone, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Looks at a transport's part of an IPv6 packet.
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

    /// Code.
    #[inline]
    pub fn code(&self) -> u8 {
        self.header[1]
    }

    /// Checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.header, CHECKSUM_OFFSET)
    }

    /// Whether the checksum is right.
    #[inline]
    pub fn verify_checksum(&self, src: &Addr, dst: &Addr) -> bool {
        checksum::pseudo(
            src,
            dst,
            protocol::ICMPV6,
            (HEADER_LEN + self.payload.len()) as u32,
        )
        .add_bytes(self.header)
        .add_bytes(self.payload)
        .is_valid()
    }

    /// The second four bytes of the header, which every type uses in its own way.
    #[inline]
    pub fn word(&self) -> u32 {
        be32(self.header, 4)
    }

    /// Identifier of an echo.
    #[inline]
    pub fn ident(&self) -> u16 {
        be16(self.header, 4)
    }

    /// Sequence number of an echo.
    #[inline]
    pub fn seq(&self) -> u16 {
        be16(self.header, 6)
    }

    /// An error message, which must never be answered with one (RFC 4443 section 2.4(e)).
    #[inline]
    pub fn is_error(&self) -> bool {
        self.kind() < 128
    }

    /// What follows the header: an echo's data, what an error quotes, or the rest of another message.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The beginning of the packet an error is about, without extensions that may follow it (RFC 4884 section 5.2);
    /// `None` if the message is no error.
    pub fn quoted(&self) -> Option<&'a [u8]> {
        if !self.is_error() {
            return None;
        }
        let extended = matches!(self.kind(), kind::UNREACHABLE | kind::TIME_EXCEEDED);
        let len = if extended {
            usize::from(self.header[4]) * 8
        } else {
            0
        };
        Some(if len == 0 {
            self.payload
        } else {
            self.payload.get(..len).unwrap_or(self.payload)
        })
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Repr::parse(self) {
            Ok(Repr::EchoRequest { ident, seq }) => {
                write!(f, "ICMPv6 echo request id {ident} seq {seq}")?
            }
            Ok(Repr::EchoReply { ident, seq }) => {
                write!(f, "ICMPv6 echo reply id {ident} seq {seq}")?
            }
            Ok(Repr::Unreachable { code }) => write!(f, "ICMPv6 unreachable code {code}")?,
            Ok(Repr::PacketTooBig { mtu }) => write!(f, "ICMPv6 packet too big mtu {mtu}")?,
            Ok(Repr::TimeExceeded { code }) => write!(f, "ICMPv6 time exceeded code {code}")?,
            Ok(Repr::ParameterProblem { code, pointer }) => {
                write!(f, "ICMPv6 parameter problem code {code} pointer {pointer}")?;
            }
            Err(_) => match self.kind() {
                kind::ROUTER_SOLICIT..=kind::REDIRECT => crate::ndp::display(self, f)?,
                kind::MLD_QUERY..=kind::MLD_DONE_V1 | kind::MLD_REPORT_V2 => {
                    crate::mld::display(self, f)?
                }
                other => write!(f, "ICMPv6 type {other} code {}", self.code())?,
            },
        }
        write!(f, " len {}", self.payload.len() + HEADER_LEN)
    }
}

/// The header of an echo or an error. An echo's data, or the quoted packet, follows it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Repr {
    /// Echo request.
    EchoRequest {
        /// Who asks.
        ident: u16,
        /// Which time.
        seq: u16,
    },
    /// Echo reply.
    EchoReply {
        /// As in the request.
        ident: u16,
        /// As in the request.
        seq: u16,
    },
    /// Destination unreachable.
    Unreachable {
        /// See [`mod@unreachable`].
        code: u8,
    },
    /// Packet too big.
    PacketTooBig {
        /// MTU of the next hop.
        mtu: u32,
    },
    /// Time exceeded.
    TimeExceeded {
        /// See [`time_exceeded`].
        code: u8,
    },
    /// Parameter problem.
    ParameterProblem {
        /// See [`parameter_problem`].
        code: u8,
        /// The byte of the quoted packet that is wrong; may lie beyond what is quoted.
        pointer: u32,
    },
}

impl Repr {
    /// Reads the header. The checksum is not looked at. Codes are taken as they are: an error of a known type with
    /// an unknown code still counts as that error.
    ///
    /// # Errors
    /// [`Error::Unrecognized`] for other types. Of these, unknown errors are to be passed to the upper layer, and
    /// unknown informational messages dropped (RFC 4443 section 2.4 (a), (b)).
    #[inline]
    pub fn parse(packet: &Packet<'_>) -> Result<Repr> {
        let (code, ident, seq, word) = (packet.code(), packet.ident(), packet.seq(), packet.word());
        Ok(match packet.kind() {
            kind::ECHO_REQUEST => Repr::EchoRequest { ident, seq },
            kind::ECHO_REPLY => Repr::EchoReply { ident, seq },
            kind::UNREACHABLE => Repr::Unreachable { code },
            kind::PACKET_TOO_BIG => Repr::PacketTooBig { mtu: word },
            kind::TIME_EXCEEDED => Repr::TimeExceeded { code },
            kind::PARAMETER_PROBLEM => Repr::ParameterProblem {
                code,
                pointer: word,
            },
            _ => return Err(Error::Unrecognized),
        })
    }

    /// Bytes [`Repr::emit`] writes.
    #[inline]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header into the first [`HEADER_LEN`] bytes, checksum zero.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        let header = head_mut::<HEADER_LEN>(buffer);
        let (kind, code, word) = match *self {
            Repr::EchoRequest { ident, seq } => (
                kind::ECHO_REQUEST,
                0,
                u32::from(ident) << 16 | u32::from(seq),
            ),
            Repr::EchoReply { ident, seq } => {
                (kind::ECHO_REPLY, 0, u32::from(ident) << 16 | u32::from(seq))
            }
            Repr::Unreachable { code } => (kind::UNREACHABLE, code, 0),
            Repr::PacketTooBig { mtu } => (kind::PACKET_TOO_BIG, 0, mtu),
            Repr::TimeExceeded { code } => (kind::TIME_EXCEEDED, code, 0),
            Repr::ParameterProblem { code, pointer } => (kind::PARAMETER_PROBLEM, code, pointer),
        };
        header[0] = kind;
        header[1] = code;
        put16(header, CHECKSUM_OFFSET, 0);
        put32(header, 4, word);
    }
}

/// Computes the checksum of a whole message and writes it into its place; does nothing below [`HEADER_LEN`] bytes.
pub fn fill_checksum(message: &mut [u8], src: &Addr, dst: &Addr) {
    let len = message.len() as u32;
    let Some(header) = message.first_chunk_mut::<HEADER_LEN>() else {
        return;
    };
    put16(header, CHECKSUM_OFFSET, 0);
    let check = checksum::pseudo(src, dst, protocol::ICMPV6, len)
        .add_bytes(message)
        .finish();
    put16(head_mut::<HEADER_LEN>(message), CHECKSUM_OFFSET, check);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo() {
        let (src, dst) = (Addr::LOOPBACK_V6, Addr::LOOPBACK_V6);
        let mut bytes = [128, 0, 0, 0, 0x12, 0x34, 0, 1, b'a', b'b'];
        fill_checksum(&mut bytes, &src, &dst);
        let packet = Packet::new(&bytes).unwrap();
        // Pseudo-header 1 + 1 + 10 + 58; message 0x8000 + 0x1234 + 1 + 0x6162.
        let sum = 1 + 1 + 10 + 58 + 0x8000 + 0x1234 + 1 + 0x6162;
        assert_eq!(
            (packet.checksum(), packet.verify_checksum(&src, &dst)),
            (!sum, true)
        );
        assert_eq!(
            Repr::parse(&packet),
            Ok(Repr::EchoRequest {
                ident: 0x1234,
                seq: 1
            })
        );
        assert_eq!(
            (packet.payload(), packet.quoted(), packet.is_error()),
            (&b"ab"[..], None, false)
        );
        assert!(!packet.verify_checksum(&src, &Addr::ALL_NODES));
        assert_eq!(
            packet.to_string(),
            "ICMPv6 echo request id 4660 seq 1 len 10"
        );
    }

    #[test]
    fn errors() {
        let cases = [
            (
                [1, 4, 0, 0, 0, 0, 0, 0],
                Repr::Unreachable {
                    code: unreachable::PORT,
                },
            ),
            (
                [2, 0, 0, 0, 0, 0, 0x05, 0],
                Repr::PacketTooBig { mtu: 1280 },
            ),
            (
                [3, 1, 0, 0, 0, 0, 0, 0],
                Repr::TimeExceeded {
                    code: time_exceeded::REASSEMBLY,
                },
            ),
            (
                [4, 2, 0, 0, 0, 0, 0, 42],
                Repr::ParameterProblem {
                    code: parameter_problem::OPTION,
                    pointer: 42,
                },
            ),
        ];
        for (bytes, repr) in cases {
            let packet = Packet::new(&bytes).unwrap();
            assert_eq!((Repr::parse(&packet), packet.is_error()), (Ok(repr), true));
            let mut emitted = [0xff; 8];
            repr.emit(&mut emitted);
            assert_eq!(emitted, bytes);
        }
    }

    #[test]
    fn other_types() {
        assert_eq!(Packet::new(&[128; 7]).err(), Some(Error::Truncated));
        for (kind, error) in [(100, true), (135, false), (200, false)] {
            let bytes = [kind, 0, 0, 0, 0, 0, 0, 0, 1, 2];
            let packet = Packet::new(&bytes).unwrap();
            assert_eq!(
                (Repr::parse(&packet), packet.is_error()),
                (Err(Error::Unrecognized), error)
            );
            assert_eq!(packet.quoted().is_some(), error);
        }
        assert!(
            Packet::new(&[200; 8])
                .unwrap()
                .to_string()
                .starts_with("ICMPv6 type 200")
        );
    }

    #[test]
    fn extensions_are_not_part_of_the_quote() {
        let bytes = [&[1, 0, 0, 0, 16, 0, 0, 0][..], &[0x60; 128], &[0x20; 8]].concat();
        assert_eq!(
            Packet::new(&bytes).unwrap().quoted(),
            Some(&[0x60; 128][..])
        );
    }
}
