//! ICMP for IPv4 (RFC 792).
//!
//! When to answer, and how often (RFC 1812 section 4.3.2.8), is `stack`'s matter. What an error quotes is read with
//! [`Quote`](crate::Quote).

use core::{fmt, net::Ipv4Addr};

use crate::{
    Error, Result,
    bytes::{array, be16, head_mut, put, put16},
    checksum::Sum,
};

/// Bytes of the header; every message spoken here has at least these.
pub const HEADER_LEN: usize = 8;
/// Where the checksum stands in the header.
pub const CHECKSUM_OFFSET: usize = 2;

/// Message types (IANA "ICMP Type Numbers").
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench, long deprecated (RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Codes of destination unreachable.
pub mod unreachable {
    /// Network.
    pub const NET: u8 = 0;
    /// Host.
    pub const HOST: u8 = 1;
    /// Protocol.
    pub const PROTOCOL: u8 = 2;
    /// Port.
    pub const PORT: u8 = 3;
    /// Fragmentation needed but forbidden (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Source route failed.
    pub const SOURCE_ROUTE_FAILED: u8 = 5;
    /// Network unknown (RFC 1122 section 3.2.2.1).
    pub const NET_UNKNOWN: u8 = 6;
    /// Host unknown.
    pub const HOST_UNKNOWN: u8 = 7;
    /// Source host isolated.
    pub const HOST_ISOLATED: u8 = 8;
    /// Network administratively prohibited.
    pub const NET_PROHIBITED: u8 = 9;
    /// Host administratively prohibited.
    pub const HOST_PROHIBITED: u8 = 10;
    /// Network unreachable for the type of service.
    pub const NET_TOS: u8 = 11;
    /// Host unreachable for the type of service.
    pub const HOST_TOS: u8 = 12;
    /// Communication administratively prohibited (RFC 1812 section 5.2.7.1).
    pub const PROHIBITED: u8 = 13;
    /// Host precedence violation.
    pub const PRECEDENCE_VIOLATION: u8 = 14;
    /// Precedence cutoff in effect.
    pub const PRECEDENCE_CUTOFF: u8 = 15;
}

/// Codes of time exceeded.
pub mod time_exceeded {
    /// The time to live ran out on the way.
    pub const TTL: u8 = 0;
    /// The fragments did not all arrive in time.
    pub const REASSEMBLY: u8 = 1;
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
    pub fn verify_checksum(&self) -> bool {
        Sum::new()
            .add_bytes(self.header)
            .add_bytes(self.payload)
            .is_valid()
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

    /// An error message, which must never be answered with one (RFC 1122 section 3.2.2).
    #[inline]
    pub fn is_error(&self) -> bool {
        matches!(
            self.kind(),
            kind::UNREACHABLE
                | kind::SOURCE_QUENCH
                | kind::REDIRECT
                | kind::TIME_EXCEEDED
                | kind::PARAMETER_PROBLEM
        )
    }

    /// What follows the header: an echo's data, or what an error quotes.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The beginning of the packet an error is about, without extensions that may follow it (RFC 4884 section 5.1);
    /// `None` if the message is no error.
    pub fn quoted(&self) -> Option<&'a [u8]> {
        if !self.is_error() {
            return None;
        }
        let extended = matches!(
            self.kind(),
            kind::UNREACHABLE | kind::TIME_EXCEEDED | kind::PARAMETER_PROBLEM
        );
        let len = if extended {
            usize::from(self.header[5]) * 4
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
                write!(f, "ICMP echo request id {ident} seq {seq}")?
            }
            Ok(Repr::EchoReply { ident, seq }) => {
                write!(f, "ICMP echo reply id {ident} seq {seq}")?
            }
            Ok(Repr::Unreachable { code }) => write!(f, "ICMP unreachable code {code}")?,
            Ok(Repr::FragmentationNeeded { mtu }) => {
                write!(f, "ICMP fragmentation needed mtu {mtu}")?
            }
            Ok(Repr::TimeExceeded { code }) => write!(f, "ICMP time exceeded code {code}")?,
            Ok(Repr::ParameterProblem { code, pointer }) => {
                write!(f, "ICMP parameter problem code {code} pointer {pointer}")?;
            }
            Ok(Repr::Redirect { code, gateway }) => {
                write!(
                    f,
                    "ICMP redirect code {code} to {}",
                    Ipv4Addr::from(gateway)
                )?;
            }
            Err(_) => write!(f, "ICMP type {} code {}", self.kind(), self.code())?,
        }
        write!(f, " len {}", self.payload.len() + HEADER_LEN)
    }
}

/// The header of a message. An echo's data, or the quoted packet, follows it.
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
    /// Destination unreachable, other than [`Repr::FragmentationNeeded`].
    Unreachable {
        /// See [`mod@unreachable`].
        code: u8,
    },
    /// Destination unreachable because the packet was too big and must not be fragmented (RFC 1191).
    FragmentationNeeded {
        /// MTU of the next hop; 0 from routers older than RFC 1191.
        mtu: u16,
    },
    /// Time exceeded.
    TimeExceeded {
        /// See [`time_exceeded`].
        code: u8,
    },
    /// Parameter problem.
    ParameterProblem {
        /// 0: the pointer tells the place; 1: a required option is missing; 2: bad length.
        code: u8,
        /// The byte of the quoted packet that is wrong.
        pointer: u8,
    },
    /// Redirect.
    Redirect {
        /// 0 network, 1 host, 2 and 3 the same for a type of service.
        code: u8,
        /// Where to send such packets.
        gateway: [u8; 4],
    },
}

impl Repr {
    /// Reads the header. The checksum is not looked at.
    ///
    /// # Errors
    /// [`Error::Unrecognized`] for other types; [`Error::Malformed`] for a code the type does not have. Both are to
    /// be dropped silently (RFC 1122 section 3.2.2).
    #[inline]
    pub fn parse(packet: &Packet<'_>) -> Result<Repr> {
        let (code, ident, seq) = (packet.code(), packet.ident(), packet.seq());
        let (repr, codes) = match packet.kind() {
            kind::ECHO_REQUEST => (Repr::EchoRequest { ident, seq }, 1),
            kind::ECHO_REPLY => (Repr::EchoReply { ident, seq }, 1),
            kind::UNREACHABLE if code == unreachable::FRAGMENTATION_NEEDED => {
                (Repr::FragmentationNeeded { mtu: seq }, 16)
            }
            kind::UNREACHABLE => (Repr::Unreachable { code }, 16),
            kind::TIME_EXCEEDED => (Repr::TimeExceeded { code }, 2),
            kind::PARAMETER_PROBLEM => (
                Repr::ParameterProblem {
                    code,
                    pointer: packet.header[4],
                },
                3,
            ),
            kind::REDIRECT => (
                Repr::Redirect {
                    code,
                    gateway: array(packet.header, 4),
                },
                4,
            ),
            _ => return Err(Error::Unrecognized),
        };
        if code < codes {
            Ok(repr)
        } else {
            Err(Error::Malformed)
        }
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
        *header = [0; HEADER_LEN];
        (header[0], header[1]) = match *self {
            Repr::EchoRequest { .. } => (kind::ECHO_REQUEST, 0),
            Repr::EchoReply { .. } => (kind::ECHO_REPLY, 0),
            Repr::Unreachable { code } => (kind::UNREACHABLE, code),
            Repr::FragmentationNeeded { .. } => {
                (kind::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED)
            }
            Repr::TimeExceeded { code } => (kind::TIME_EXCEEDED, code),
            Repr::ParameterProblem { code, .. } => (kind::PARAMETER_PROBLEM, code),
            Repr::Redirect { code, .. } => (kind::REDIRECT, code),
        };
        match *self {
            Repr::EchoRequest { ident, seq } | Repr::EchoReply { ident, seq } => {
                put16(header, 4, ident);
                put16(header, 6, seq);
            }
            Repr::FragmentationNeeded { mtu } => put16(header, 6, mtu),
            Repr::ParameterProblem { pointer, .. } => header[4] = pointer,
            Repr::Redirect { gateway, .. } => put(header, 4, &gateway),
            Repr::Unreachable { .. } | Repr::TimeExceeded { .. } => {}
        }
    }
}

/// Computes the checksum of a whole message and writes it into its place; does nothing below [`HEADER_LEN`] bytes.
pub fn fill_checksum(message: &mut [u8]) {
    let Some(header) = message.first_chunk_mut::<HEADER_LEN>() else {
        return;
    };
    put16(header, CHECKSUM_OFFSET, 0);
    let check = Sum::new().add_bytes(message).finish();
    put16(head_mut::<HEADER_LEN>(message), CHECKSUM_OFFSET, check);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo() {
        let mut bytes = [8, 0, 0, 0, 0x12, 0x34, 0, 1, b'a', b'b', b'c'];
        fill_checksum(&mut bytes);
        let packet = Packet::new(&bytes).unwrap();
        // 0x0800 + 0x1234 + 1 + 0x6162 + 0x6300 = 0xde97.
        assert_eq!(
            (packet.checksum(), packet.verify_checksum()),
            (!0xde97, true)
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
            (&b"abc"[..], None, false)
        );
        assert_eq!(packet.to_string(), "ICMP echo request id 4660 seq 1 len 11");
        bytes[10] = b'd';
        assert!(!Packet::new(&bytes).unwrap().verify_checksum());
    }

    #[test]
    fn fragmentation_needed() {
        let bytes = [&[3, 4, 0, 0, 0, 0, 0x05, 0x78][..], &[0x45; 28]].concat();
        let packet = Packet::new(&bytes).unwrap();
        assert_eq!(
            Repr::parse(&packet),
            Ok(Repr::FragmentationNeeded { mtu: 1400 })
        );
        assert_eq!(
            (packet.quoted(), packet.is_error()),
            (Some(&[0x45; 28][..]), true)
        );
        let mut emitted = [0xff; 8];
        Repr::FragmentationNeeded { mtu: 1400 }.emit(&mut emitted);
        assert_eq!(emitted, bytes[..8]);
    }

    #[test]
    fn other_errors() {
        let cases = [
            (
                [3, 3, 0, 0, 0, 0, 0, 0],
                Repr::Unreachable {
                    code: unreachable::PORT,
                },
            ),
            (
                [11, 1, 0, 0, 0, 0, 0, 0],
                Repr::TimeExceeded {
                    code: time_exceeded::REASSEMBLY,
                },
            ),
            (
                [12, 0, 0, 0, 20, 0, 0, 0],
                Repr::ParameterProblem {
                    code: 0,
                    pointer: 20,
                },
            ),
            (
                [5, 1, 0, 0, 10, 0, 0, 9],
                Repr::Redirect {
                    code: 1,
                    gateway: [10, 0, 0, 9],
                },
            ),
        ];
        for (bytes, repr) in cases {
            assert_eq!(Repr::parse(&Packet::new(&bytes).unwrap()), Ok(repr));
            let mut emitted = [0xff; 8];
            repr.emit(&mut emitted);
            assert_eq!(emitted, bytes);
        }
    }

    #[test]
    fn what_is_refused() {
        let parse =
            |kind, code| Repr::parse(&Packet::new(&[kind, code, 0, 0, 0, 0, 0, 0]).unwrap());
        assert_eq!(Packet::new(&[8; 7]).err(), Some(Error::Truncated));
        assert_eq!(parse(13, 0), Err(Error::Unrecognized));
        for (kind, code) in [(8, 1), (0, 1), (3, 16), (11, 2), (12, 3), (5, 4)] {
            assert_eq!(parse(kind, code), Err(Error::Malformed), "{kind} {code}");
        }
    }

    #[test]
    fn extensions_are_not_part_of_the_quote() {
        // RFC 4884: 32 words of the packet, then an extension structure.
        let bytes = [&[11, 0, 0, 0, 0, 32, 0, 0][..], &[0x45; 128], &[0x20; 8]].concat();
        assert_eq!(
            Packet::new(&bytes).unwrap().quoted(),
            Some(&[0x45; 128][..])
        );
        assert_eq!(
            Packet::new(&bytes[..100])
                .unwrap()
                .quoted()
                .map(<[u8]>::len),
            Some(92)
        );
    }
}
