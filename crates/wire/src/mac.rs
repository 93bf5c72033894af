//! The 48-bit address of an Ethernet interface.

use core::{fmt, str::FromStr};

use crate::ParseError;

/// An Ethernet address, in the order it has on the wire.
#[derive(Copy, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// `00:00:00:00:00:00`.
    pub const ZERO: Mac = Mac([0; 6]);

    /// A group address: multicast, or broadcast.
    #[inline]
    pub const fn is_multicast(&self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The address of every station.
    #[inline]
    pub fn is_broadcast(&self) -> bool {
        *self == Mac::BROADCAST
    }

    /// An address one station can have: neither a group's nor zero.
    #[inline]
    pub fn is_unicast(&self) -> bool {
        !self.is_multicast() && *self != Mac::ZERO
    }

    /// Chosen by whoever runs the network instead of the maker of the device.
    #[inline]
    pub const fn is_locally_administered(&self) -> bool {
        self.0[0] & 2 != 0
    }

    /// The modified EUI-64 interface identifier made of this address (RFC 4291 appendix A).
    #[inline]
    pub const fn eui64(&self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<[u8; 6]> for Mac {
    #[inline]
    fn from(octets: [u8; 6]) -> Mac {
        Mac(octets)
    }
}

impl FromStr for Mac {
    type Err = ParseError;

    /// Reads six pairs of hexadecimal digits between `:` or `-`, not mixed.
    fn from_str(text: &str) -> Result<Mac, ParseError> {
        const EXPECTED: ParseError = ParseError("expected a MAC address such as 02:00:00:00:00:01");
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().ok_or(EXPECTED)?;
            // `from_str_radix` would take a sign.
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(EXPECTED);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| EXPECTED)?;
        }
        match parts.next() {
            None => Ok(Mac(octets)),
            Some(_) => Err(EXPECTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let mac = Mac([0x02, 0, 0x5e, 0xff, 0x10, 0x01]);
        assert_eq!(mac.to_string(), "02:00:5e:ff:10:01");
        assert_eq!("02:00:5e:FF:10:01".parse(), Ok(mac));
        assert_eq!("02-00-5e-ff-10-01".parse(), Ok(mac));
        for bad in [
            "",
            "02",
            "02:00:5e:ff:10",
            "02:00:5e:ff:10:01:02",
            "2:0:5e:ff:10:1",
            "+2:00:5e:ff:10:01",
            "02:00-5e:ff:10:01",
            "0é:00:5e:ff:10:01",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn kinds() {
        assert!(
            Mac::BROADCAST.is_broadcast()
                && Mac::BROADCAST.is_multicast()
                && !Mac::BROADCAST.is_unicast()
        );
        assert!(
            Mac([0x33, 0x33, 0, 0, 0, 1]).is_multicast()
                && !Mac([0x33, 0x33, 0, 0, 0, 1]).is_broadcast()
        );
        assert!(!Mac::ZERO.is_unicast() && !Mac::ZERO.is_multicast());
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_locally_administered());
        assert_eq!(
            Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]).eui64(),
            [0x36, 0x56, 0x78, 0xff, 0xfe, 0x9a, 0xbc, 0xde]
        );
    }
}
