//! One address type for both families.
//!
//! Prefixes live in `cidr`; choosing between addresses (RFC 6724) lives in `stack`.
//!
//! Invariant: an IPv4 address is held v4-mapped (`::ffff:a.b.c.d`), and nothing else is. A mapped address in an IPv6
//! header is therefore never let through (`ipv6::Repr::parse` refuses it; RFC 4942 section 2.2 says why it is harmful).

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::{Mac, ParseError};

/// Which of the two internet protocols.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Length of an address in bits.
    #[inline]
    pub const fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// An IPv4 or IPv6 address in 16 bytes; IPv4 is held v4-mapped (RFC 4291 section 2.5.5.2).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr(pub [u8; 16]);

const V4_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Addr {
    /// `0.0.0.0`.
    pub const UNSPECIFIED_V4: Addr = Addr::v4(0, 0, 0, 0);
    /// `::`.
    pub const UNSPECIFIED_V6: Addr = Addr([0; 16]);
    /// `255.255.255.255`.
    pub const BROADCAST: Addr = Addr::v4(255, 255, 255, 255);
    /// `127.0.0.1`.
    pub const LOOPBACK_V4: Addr = Addr::v4(127, 0, 0, 1);
    /// `::1`.
    pub const LOOPBACK_V6: Addr = Addr([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    /// `224.0.0.1`, all systems on the link (RFC 1112).
    pub const ALL_SYSTEMS_V4: Addr = Addr::v4(224, 0, 0, 1);
    /// `224.0.0.22`, all IGMPv3 routers (RFC 9776).
    pub const IGMPV3_ROUTERS: Addr = Addr::v4(224, 0, 0, 22);
    /// `ff02::1`, all nodes on the link (RFC 4291 section 2.7.1).
    pub const ALL_NODES: Addr = Addr::link_multicast(1);
    /// `ff02::2`, all routers on the link (RFC 4291 section 2.7.1).
    pub const ALL_ROUTERS: Addr = Addr::link_multicast(2);
    /// `ff02::16`, all MLDv2 routers (RFC 9777).
    pub const MLDV2_ROUTERS: Addr = Addr::link_multicast(0x16);

    const fn link_multicast(last: u8) -> Addr {
        Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
    }

    /// The IPv4 address `a.b.c.d`.
    #[inline]
    pub const fn v4(a: u8, b: u8, c: u8, d: u8) -> Addr {
        Addr([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// An IPv4 address from its octets.
    #[inline]
    pub const fn from_v4([a, b, c, d]: [u8; 4]) -> Addr {
        Addr::v4(a, b, c, d)
    }

    /// An IPv6 address from its octets. A v4-mapped one becomes the IPv4 address it names.
    #[inline]
    pub const fn from_v6(octets: [u8; 16]) -> Addr {
        Addr(octets)
    }

    /// The link-local IPv6 address with this interface identifier (RFC 4291 section 2.5.6).
    #[inline]
    pub const fn link_local([a, b, c, d, e, f, g, h]: [u8; 8]) -> Addr {
        Addr([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h])
    }

    /// The unspecified address of a family.
    #[inline]
    pub const fn unspecified(family: Family) -> Addr {
        match family {
            Family::V4 => Addr::UNSPECIFIED_V4,
            Family::V6 => Addr::UNSPECIFIED_V6,
        }
    }

    /// An IPv4 address.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.0[..12] == V4_PREFIX
    }

    /// The family.
    #[inline]
    pub fn family(&self) -> Family {
        if self.is_v4() { Family::V4 } else { Family::V6 }
    }

    /// The four octets of an IPv4 address; the last four of an IPv6 one.
    #[inline]
    pub const fn v4_octets(&self) -> [u8; 4] {
        let [.., a, b, c, d] = self.0;
        [a, b, c, d]
    }

    /// The sixteen octets as one big-endian number.
    #[inline]
    pub const fn to_bits(&self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// The inverse of [`Addr::to_bits`].
    #[inline]
    pub const fn from_bits(bits: u128) -> Addr {
        Addr(bits.to_be_bytes())
    }

    /// `0.0.0.0` or `::`.
    #[inline]
    pub fn is_unspecified(&self) -> bool {
        *self == Addr::UNSPECIFIED_V4 || *self == Addr::UNSPECIFIED_V6
    }

    /// `127.0.0.0/8` or `::1`.
    #[inline]
    pub fn is_loopback(&self) -> bool {
        if self.is_v4() {
            self.0[12] == 127
        } else {
            *self == Addr::LOOPBACK_V6
        }
    }

    /// `224.0.0.0/4` or `ff00::/8`.
    #[inline]
    pub fn is_multicast(&self) -> bool {
        if self.is_v4() {
            self.0[12] & 0xf0 == 0xe0
        } else {
            self.0[0] == 0xff
        }
    }

    /// The limited broadcast address `255.255.255.255`; that of a subnet is known only to its [`Cidr`](crate::Cidr).
    #[inline]
    pub fn is_broadcast(&self) -> bool {
        *self == Addr::BROADCAST
    }

    /// `169.254.0.0/16` or `fe80::/10`.
    #[inline]
    pub fn is_link_local(&self) -> bool {
        if self.is_v4() {
            self.0[12] == 169 && self.0[13] == 254
        } else {
            self.0[0] == 0xfe && self.0[1] & 0xc0 == 0x80
        }
    }

    /// An address one interface can have: not unspecified, multicast or limited broadcast.
    #[inline]
    pub fn is_unicast(&self) -> bool {
        !self.is_unspecified() && !self.is_multicast() && !self.is_broadcast()
    }

    /// Class E, `240.0.0.0/4` without the limited broadcast (RFC 1112 section 4): not to be used by anyone yet.
    #[inline]
    pub fn is_reserved(&self) -> bool {
        self.is_v4() && self.0[12] >= 240 && !self.is_broadcast()
    }

    /// `fc00::/7` (RFC 4193).
    #[inline]
    pub const fn is_unique_local(&self) -> bool {
        self.0[0] & 0xfe == 0xfc
    }

    /// A multicast address that never leaves the link: `224.0.0.0/24` or `ff02::/16`.
    #[inline]
    pub fn is_link_local_multicast(&self) -> bool {
        if self.is_v4() {
            self.0[12..15] == [224, 0, 0]
        } else {
            self.0[0] == 0xff && self.0[1] & 0x0f == 2
        }
    }

    /// Whether it is an IPv6 address that means something on one link only: link-local, or a group of one link or interface (RFC 4291
    /// section 2.7).
    #[inline]
    pub fn is_near(&self) -> bool {
        !self.is_v4()
            && (self.is_link_local() || (self.0[0] == 0xff && matches!(self.0[1] & 0x0f, 1 | 2)))
    }

    /// The solicited-node multicast address of an IPv6 address (RFC 4291 section 2.7.1).
    #[inline]
    pub const fn solicited_node(&self) -> Addr {
        let [.., a, b, c] = self.0;
        Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
    }

    /// The Ethernet address a multicast packet is sent to (RFC 1112 section 6.4, RFC 2464 section 7); `None` for
    /// anything but multicast.
    #[inline]
    pub fn multicast_mac(&self) -> Option<Mac> {
        if !self.is_multicast() {
            return None;
        }
        let [a, b, c, d] = self.v4_octets();
        Some(Mac(if self.is_v4() {
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        } else {
            [0x33, 0x33, a, b, c, d]
        }))
    }

    /// How many leading bits two addresses have in common, counted over all 128.
    #[inline]
    pub const fn common_prefix(&self, other: &Addr) -> u8 {
        (self.to_bits() ^ other.to_bits()).leading_zeros() as u8
    }

    /// The standard library's address: IPv4 as `V4`.
    #[inline]
    pub fn to_ip(&self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from(self.v4_octets()))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.0))
        }
    }
}

impl From<Ipv4Addr> for Addr {
    #[inline]
    fn from(address: Ipv4Addr) -> Addr {
        Addr::from_v4(address.octets())
    }
}

impl From<Ipv6Addr> for Addr {
    #[inline]
    fn from(address: Ipv6Addr) -> Addr {
        Addr(address.octets())
    }
}

impl From<IpAddr> for Addr {
    #[inline]
    fn from(address: IpAddr) -> Addr {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Addr> for IpAddr {
    #[inline]
    fn from(address: Addr) -> IpAddr {
        address.to_ip()
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_ip(), f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Addr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Addr, ParseError> {
        text.parse::<IpAddr>()
            .map(Addr::from)
            .map_err(|_| ParseError("expected an IP address such as 10.0.0.1 or fd00::1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Addr {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_std_round_trip() {
        for text in [
            "0.0.0.0",
            "10.77.0.2",
            "255.255.255.255",
            "::",
            "::1",
            "fd77::2",
            "fe80::1",
            "ff02::1:ff00:2",
        ] {
            assert_eq!(addr(text).to_string(), text);
            assert_eq!(Addr::from(addr(text).to_ip()), addr(text));
            assert_eq!(Addr::from_bits(addr(text).to_bits()), addr(text));
        }
        assert!("10.0.0".parse::<Addr>().is_err() && "fe80::1%2".parse::<Addr>().is_err());
        // A mapped address is the IPv4 address.
        assert_eq!(addr("::ffff:10.0.0.1"), Addr::v4(10, 0, 0, 1));
        // Padding and alignment work as with the standard library's types.
        assert_eq!(format!("{:>12}", addr("10.0.0.1")), "    10.0.0.1");
    }

    #[test]
    fn kinds() {
        assert!(
            addr("10.0.0.1").is_v4()
                && !addr("::10.0.0.1").is_v4()
                && !addr("::fffe:10.0.0.1").is_v4()
        );
        assert!(
            addr("127.9.9.9").is_loopback()
                && addr("::1").is_loopback()
                && !addr("::7f00:1").is_loopback()
        );
        assert!(
            addr("239.1.2.3").is_multicast()
                && addr("ff05::1").is_multicast()
                && !addr("240.0.0.1").is_multicast()
        );
        assert!(
            addr("169.254.3.4").is_link_local()
                && addr("febf::1").is_link_local()
                && !addr("fec0::1").is_link_local()
        );
        assert!(
            addr("240.0.0.1").is_reserved()
                && !Addr::BROADCAST.is_reserved()
                && !addr("f000::1").is_reserved()
        );
        assert!(
            addr("224.0.0.251").is_link_local_multicast()
                && !addr("224.0.1.1").is_link_local_multicast()
        );
        assert!(
            addr("ff12::fb").is_link_local_multicast()
                && !addr("ff05::fb").is_link_local_multicast()
        );
        assert!(
            addr("fd00::1").is_unique_local()
                && !addr("fe00::1").is_unique_local()
                && !addr("253.0.0.1").is_unique_local()
        );
        for text in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            assert!(!addr(text).is_unicast(), "{text}");
        }
        assert!(addr("10.0.0.1").is_unicast() && addr("fd00::1").is_unicast());
        assert_eq!(
            (
                addr("10.0.0.1").family().bits(),
                addr("fd00::1").family().bits()
            ),
            (32, 128)
        );
    }

    #[test]
    fn multicast() {
        assert_eq!(
            addr("fd77::12:3456").solicited_node(),
            addr("ff02::1:ff12:3456")
        );
        assert_eq!(
            addr("224.129.2.3").multicast_mac(),
            Some(Mac([1, 0, 0x5e, 1, 2, 3]))
        );
        assert_eq!(
            addr("ff02::1:ff12:3456").multicast_mac(),
            Some(Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]))
        );
        assert_eq!(addr("10.0.0.1").multicast_mac(), None);
    }

    #[test]
    fn common_prefix() {
        assert_eq!(addr("fd00::1").common_prefix(&addr("fd00::1")), 128);
        assert_eq!(addr("fd00::1").common_prefix(&addr("fd00::2")), 126);
        assert_eq!(addr("10.0.0.0").common_prefix(&addr("10.128.0.0")), 96 + 8);
    }
}
