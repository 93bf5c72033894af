//! An address together with the length of its prefix.
//!
//! Invariant: the prefix is never longer than the family's addresses.

use core::{fmt, str::FromStr};

use crate::{Addr, Family, ParseError};

/// An address and a prefix length: an interface's address, or a route's destination.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    addr: Addr,
    prefix: u8,
}

impl Cidr {
    /// `0.0.0.0/0`, the destination of IPv4's default route.
    pub const DEFAULT_V4: Cidr = Cidr {
        addr: Addr::UNSPECIFIED_V4,
        prefix: 0,
    };
    /// `::/0`, the destination of IPv6's default route.
    pub const DEFAULT_V6: Cidr = Cidr {
        addr: Addr::UNSPECIFIED_V6,
        prefix: 0,
    };

    /// `addr/prefix`, with the prefix counted in the family's own bits: at most 32 for IPv4, 128 for IPv6.
    #[inline]
    pub fn new(addr: Addr, prefix: u8) -> Option<Cidr> {
        (prefix <= addr.family().bits()).then_some(Cidr { addr, prefix })
    }

    /// The prefix that holds this one address: `/32` or `/128`.
    #[inline]
    pub fn host(addr: Addr) -> Cidr {
        Cidr {
            addr,
            prefix: addr.family().bits(),
        }
    }

    /// The address, host bits included.
    #[inline]
    pub const fn addr(&self) -> Addr {
        self.addr
    }

    /// The prefix length in the family's own bits.
    #[inline]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The family.
    #[inline]
    pub fn family(&self) -> Family {
        self.addr.family()
    }

    /// The prefix length over the 16-byte form: 96 more for IPv4.
    #[inline]
    pub fn mapped_prefix(&self) -> u8 {
        128 - (self.family().bits() - self.prefix)
    }

    /// A mask with as many leading ones as the prefix of the 16-byte form is long.
    #[inline]
    fn mask(&self) -> u128 {
        let host_bits = u32::from(self.family().bits() - self.prefix);
        u128::MAX.checked_shl(host_bits).unwrap_or(0)
    }

    /// Whether an address lies in this prefix; never one of the other family.
    #[inline]
    pub fn contains(&self, addr: Addr) -> bool {
        // `::/0` must not hold IPv4, whose 16-byte form lies within it.
        (self.addr.to_bits() ^ addr.to_bits()) & self.mask() == 0 && self.family() == addr.family()
    }

    /// The prefix with all host bits zero.
    #[inline]
    pub fn network(&self) -> Cidr {
        Cidr {
            addr: Addr::from_bits(self.addr.to_bits() & self.mask()),
            prefix: self.prefix,
        }
    }

    /// The broadcast address of an IPv4 subnet; `None` for IPv6, and for `/31` and `/32` (RFC 3021).
    #[inline]
    pub fn broadcast(&self) -> Option<Addr> {
        (self.family() == Family::V4 && self.prefix < 31)
            .then(|| Addr::from_bits(self.addr.to_bits() | !self.mask()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cidr {
    type Err = ParseError;

    /// Reads `ADDRESS/PREFIX`; the prefix is not optional.
    fn from_str(text: &str) -> Result<Cidr, ParseError> {
        const EXPECTED: ParseError =
            ParseError("expected an address and prefix such as 10.0.0.1/24 or fd00::1/64");
        let (addr, prefix) = text.split_once('/').ok_or(EXPECTED)?;
        if prefix.is_empty() || !prefix.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(EXPECTED);
        }
        let addr = addr.parse::<Addr>().map_err(|_| EXPECTED)?;
        let prefix = prefix.parse::<u8>().map_err(|_| EXPECTED)?;
        Cidr::new(addr, prefix).ok_or(ParseError(
            "the prefix is longer than the address: at most 32 for IPv4, 128 for IPv6",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn addr(text: &str) -> Addr {
        text.parse().unwrap()
    }

    #[test]
    fn text_round_trip() {
        for text in [
            "10.77.0.2/24",
            "0.0.0.0/0",
            "10.0.0.1/32",
            "fd77::2/64",
            "::/0",
            "::1/128",
        ] {
            assert_eq!(cidr(text).to_string(), text);
        }
        for bad in [
            "10.0.0.1",
            "10.0.0.1/",
            "10.0.0.1/33",
            "::1/129",
            "10.0.0.1/+8",
            "10.0.0.1/8/8",
            "/8",
            "10.0.0.1/256",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn contains_is_by_family_and_prefix() {
        assert!(cidr("10.77.0.2/24").contains(addr("10.77.0.255")));
        assert!(!cidr("10.77.0.2/24").contains(addr("10.77.1.0")));
        assert!(
            cidr("0.0.0.0/0").contains(addr("255.255.255.255"))
                && !cidr("0.0.0.0/0").contains(addr("::1"))
        );
        assert!(cidr("::/0").contains(addr("fd00::1")) && !cidr("::/0").contains(addr("10.0.0.1")));
        assert!(
            cidr("fd77::2/127").contains(addr("fd77::3"))
                && !cidr("fd77::2/128").contains(addr("fd77::3"))
        );
    }

    #[test]
    fn network_and_broadcast() {
        assert_eq!(cidr("10.77.3.2/20").network(), cidr("10.77.0.0/20"));
        assert_eq!(cidr("fd77::abcd/112").network(), cidr("fd77::/112"));
        assert_eq!(cidr("10.77.3.2/0").network(), Cidr::DEFAULT_V4);
        assert_eq!(cidr("fd77::1/0").network(), Cidr::DEFAULT_V6);
        assert_eq!(cidr("10.77.3.2/20").broadcast(), Some(addr("10.77.15.255")));
        assert_eq!(cidr("10.77.3.2/31").broadcast(), None);
        assert_eq!(cidr("fd77::1/64").broadcast(), None);
        assert_eq!(
            (
                cidr("10.0.0.1/8").mapped_prefix(),
                cidr("fd00::/8").mapped_prefix()
            ),
            (104, 8)
        );
        assert_eq!(
            (Cidr::host(addr("10.0.0.1")), Cidr::host(addr("::1"))),
            (cidr("10.0.0.1/32"), cidr("::1/128"))
        );
    }
}
