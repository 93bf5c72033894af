//! Options of neighbour discovery (RFC 4861 section 4.6, RFC 4191, RFC 8106).

use core::fmt;

use super::*;
use crate::Cidr;

/// Option types (IANA "IPv6 Neighbor Discovery Option Formats").
pub mod option {
    /// Source link-layer address.
    pub const SOURCE_MAC: u8 = 1;
    /// Target link-layer address.
    pub const TARGET_MAC: u8 = 2;
    /// Prefix information.
    pub const PREFIX_INFO: u8 = 3;
    /// Redirected header.
    pub const REDIRECTED_HEADER: u8 = 4;
    /// MTU.
    pub const MTU: u8 = 5;
    /// Route information (RFC 4191).
    pub const ROUTE_INFO: u8 = 24;
    /// Recursive DNS servers (RFC 8106).
    pub const RDNSS: u8 = 25;
}

/// A prefix a router advertises.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PrefixInfo {
    /// Length of the prefix, 0 to 128.
    pub prefix_len: u8,
    /// Addresses in it can be reached without a router.
    pub on_link: bool,
    /// Addresses may be made of it (RFC 4862).
    pub autonomous: bool,
    /// Seconds an address made of it is valid; all ones is for ever.
    pub valid_lifetime: u32,
    /// Seconds an address made of it is preferred; all ones is for ever.
    pub preferred_lifetime: u32,
    /// The prefix; bits beyond its length do not count.
    pub prefix: Addr,
}

/// A route by way of the router that advertises it (RFC 4191 section 2.3).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// Where it leads; bits beyond the prefix are not sent.
    pub prefix: Cidr,
    /// Preference among routers.
    pub preference: Preference,
    /// Seconds for which it holds; all ones is for ever.
    pub lifetime: u32,
}

/// DNS servers a router advertises.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Rdnss<'a> {
    /// Seconds for which they may be used; all ones is for ever.
    pub lifetime: u32,
    servers: &'a [[u8; 16]],
}

impl<'a> Rdnss<'a> {
    /// Servers from their addresses' octets; an option has room for 127.
    pub fn new(lifetime: u32, servers: &'a [[u8; 16]]) -> Rdnss<'a> {
        Rdnss {
            lifetime,
            servers: servers.get(..127).unwrap_or(servers),
        }
    }

    /// The servers.
    pub fn servers(&self) -> impl Iterator<Item = Addr> + 'a {
        self.servers.iter().map(|octets| Addr(*octets))
    }
}

/// An option.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Opt<'a> {
    /// The sender's Ethernet address.
    SourceMac(Mac),
    /// The target's Ethernet address.
    TargetMac(Mac),
    /// A prefix.
    PrefixInfo(PrefixInfo),
    /// The beginning of the packet that a redirect is about.
    RedirectedHeader(&'a [u8]),
    /// MTU of the link.
    Mtu(u32),
    /// A route.
    RouteInfo(RouteInfo),
    /// DNS servers.
    Rdnss(Rdnss<'a>),
    /// Any other type, or one of the above with a length that is not its own.
    Other {
        /// See [`option`].
        kind: u8,
        /// What follows type and length.
        data: &'a [u8],
    },
}

impl<'a> Opt<'a> {
    fn parse(kind: u8, data: &'a [u8]) -> Opt<'a> {
        let known = match kind {
            // An Ethernet address fills the option; longer ones are of other link layers.
            option::SOURCE_MAC => data.try_into().ok().map(|mac| Opt::SourceMac(Mac(mac))),
            option::TARGET_MAC => data.try_into().ok().map(|mac| Opt::TargetMac(Mac(mac))),
            option::PREFIX_INFO => data.try_into().ok().and_then(parse_prefix_info),
            option::REDIRECTED_HEADER => data.get(6..).map(Opt::RedirectedHeader),
            option::MTU => data
                .try_into()
                .ok()
                .map(|data: &[u8; 6]| Opt::Mtu(be32(data, 2))),
            option::ROUTE_INFO => parse_route_info(data),
            option::RDNSS => {
                data.split_first_chunk::<6>()
                    .and_then(|(head, rest)| match rest.as_chunks() {
                        (servers @ [_, ..], []) => Some(Opt::Rdnss(Rdnss {
                            lifetime: be32(head, 2),
                            servers,
                        })),
                        _ => None,
                    })
            }
            _ => None,
        };
        known.unwrap_or(Opt::Other { kind, data })
    }

    /// Bytes [`Opt::emit`] writes, a multiple of 8, at most 2040.
    pub fn buffer_len(&self) -> usize {
        match self {
            Opt::SourceMac(_) | Opt::TargetMac(_) | Opt::Mtu(_) => 8,
            Opt::PrefixInfo(_) => 32,
            Opt::RouteInfo(info) => 8 + usize::from(info.prefix.prefix().div_ceil(64)) * 8,
            Opt::RedirectedHeader(header) => 8 + header.len().next_multiple_of(8).min(2032),
            Opt::Rdnss(rdnss) => 8 + 16 * rdnss.servers.len(),
            Opt::Other { data, .. } => (2 + data.len()).next_multiple_of(8).min(2040),
        }
    }

    /// Writes the option into the first [`Opt::buffer_len`] bytes, padded with zeros; returns how many. What does
    /// not fit in 2040 bytes is left out.
    pub fn emit(&self, buffer: &mut [u8]) -> usize {
        let len = self.buffer_len();
        let bytes = &mut buffer[..len];
        bytes.fill(0);
        bytes[1] = (len / 8) as u8;
        bytes[0] = match *self {
            Opt::SourceMac(mac) => {
                bytes[2..8].copy_from_slice(&mac.0);
                option::SOURCE_MAC
            }
            Opt::TargetMac(mac) => {
                bytes[2..8].copy_from_slice(&mac.0);
                option::TARGET_MAC
            }
            Opt::PrefixInfo(info) => {
                emit_prefix_info(&info, head_mut(bytes));
                option::PREFIX_INFO
            }
            Opt::RouteInfo(info) => {
                bytes[2] = info.prefix.prefix();
                bytes[3] = info.preference.bits();
                put32(head_mut::<8>(bytes), 4, info.lifetime);
                fill(&mut bytes[8..], &info.prefix.network().addr().0);
                option::ROUTE_INFO
            }
            Opt::RedirectedHeader(header) => {
                fill(&mut bytes[8..], header);
                option::REDIRECTED_HEADER
            }
            Opt::Mtu(mtu) => {
                put32(head_mut::<8>(bytes), 4, mtu);
                option::MTU
            }
            Opt::Rdnss(rdnss) => {
                put32(head_mut::<8>(bytes), 4, rdnss.lifetime);
                fill(&mut bytes[8..], rdnss.servers.as_flattened());
                option::RDNSS
            }
            Opt::Other { kind, data } => {
                fill(&mut bytes[2..], data);
                kind
            }
        };
        len
    }
}

/// Copies as much as there is room for.
fn fill(to: &mut [u8], from: &[u8]) {
    let len = to.len().min(from.len());
    to[..len].copy_from_slice(&from[..len]);
}

fn parse_prefix_info<'a>(data: &[u8; 30]) -> Option<Opt<'a>> {
    let prefix = Addr(array(data, 14));
    // RFC 4861 section 4.6.2: the length is 0 to 128. An IPv4 address in disguise is no prefix.
    (data[0] <= 128 && !prefix.is_v4()).then(|| {
        Opt::PrefixInfo(PrefixInfo {
            prefix_len: data[0],
            on_link: data[1] & 0x80 != 0,
            autonomous: data[1] & 0x40 != 0,
            valid_lifetime: be32(data, 2),
            preferred_lifetime: be32(data, 6),
            prefix,
        })
    })
}

fn parse_route_info<'a>(data: &[u8]) -> Option<Opt<'a>> {
    let (head, rest) = data.split_first_chunk::<6>()?;
    // RFC 4191 section 2.3: room for 0, 64 or 128 bits, and no fewer than the prefix has.
    if !matches!(rest.len(), 0 | 8 | 16) || usize::from(head[0]) > 8 * rest.len() {
        return None;
    }
    let mut octets = [0; 16];
    fill(&mut octets, rest);
    let prefix = Cidr::new(Addr(octets), head[0]).filter(|cidr| !cidr.addr().is_v4())?;
    Some(Opt::RouteInfo(RouteInfo {
        prefix: prefix.network(),
        // Its reserved value, unlike that of an advertisement, has the option ignored.
        preference: Preference::from_bits(head[1])?,
        lifetime: be32(head, 2),
    }))
}

fn emit_prefix_info(info: &PrefixInfo, bytes: &mut [u8; 32]) {
    bytes[2] = info.prefix_len.min(128);
    bytes[3] = u8::from(info.on_link) << 7 | u8::from(info.autonomous) << 6;
    put32(bytes, 4, info.valid_lifetime);
    put32(bytes, 8, info.preferred_lifetime);
    put(bytes, 16, &info.prefix.0);
}

/// The option area of a message, well formed to its end.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// No options.
    pub const NONE: Options<'static> = Options(&[]);

    /// Options from an option area.
    ///
    /// # Errors
    /// [`Error::Length`] for an option of length zero (RFC 4861 section 4.6: MUST be discarded);
    /// [`Error::Truncated`] when one does not fit.
    pub fn new(area: &'a [u8]) -> Result<Options<'a>> {
        let mut rest = area;
        while !rest.is_empty() {
            let len = usize::from(*rest.get(1).ok_or(Error::Truncated)?) * 8;
            if len == 0 {
                return Err(Error::Length);
            }
            rest = rest.get(len..).ok_or(Error::Truncated)?;
        }
        Ok(Options(area))
    }

    /// The option area.
    #[inline]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The options one after another.
    pub fn iter(&self) -> impl Iterator<Item = Opt<'a>> + use<'a> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let len = usize::from(*rest.get(1)?) * 8;
            let (option, after) = rest.split_at_checked(len)?;
            rest = after;
            Some(Opt::parse(option[0], option.get(2..)?))
        })
    }

    /// The source's Ethernet address, if one is given.
    pub fn source_mac(&self) -> Option<Mac> {
        self.iter().find_map(|option| {
            if let Opt::SourceMac(mac) = option {
                Some(mac)
            } else {
                None
            }
        })
    }

    /// The target's Ethernet address, if one is given.
    pub fn target_mac(&self) -> Option<Mac> {
        self.iter().find_map(|option| {
            if let Opt::TargetMac(mac) = option {
                Some(mac)
            } else {
                None
            }
        })
    }

    /// The MTU, if one is given.
    pub fn mtu(&self) -> Option<u32> {
        self.iter().find_map(|option| {
            if let Opt::Mtu(mtu) = option {
                Some(mtu)
            } else {
                None
            }
        })
    }

    /// The routes.
    pub fn routes(&self) -> impl Iterator<Item = RouteInfo> + use<'a> {
        self.iter().filter_map(|option| {
            if let Opt::RouteInfo(info) = option {
                Some(info)
            } else {
                None
            }
        })
    }

    /// The prefixes.
    pub fn prefixes(&self) -> impl Iterator<Item = PrefixInfo> + use<'a> {
        self.iter().filter_map(|option| {
            if let Opt::PrefixInfo(info) = option {
                Some(info)
            } else {
                None
            }
        })
    }
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Display for Options<'_> {
    /// Each option behind a blank.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for option in self.iter() {
            match option {
                Opt::SourceMac(mac) => write!(f, " source {mac}")?,
                Opt::TargetMac(mac) => write!(f, " target {mac}")?,
                Opt::PrefixInfo(info) => write!(f, " prefix {}/{}", info.prefix, info.prefix_len)?,
                Opt::RouteInfo(info) => write!(f, " route {}", info.prefix)?,
                Opt::RedirectedHeader(header) => {
                    write!(f, " redirected header len {}", header.len())?
                }
                Opt::Mtu(mtu) => write!(f, " mtu {mtu}")?,
                Opt::Rdnss(rdnss) => write!(f, " {} DNS servers", rdnss.servers.len())?,
                Opt::Other { kind, data } => write!(f, " option {kind} len {}", data.len() + 2)?,
            }
        }
        Ok(())
    }
}

/// A buffer to build options in: eight bytes hold an Ethernet address or an MTU, 32 a prefix.
#[derive(Copy, Clone, Debug)]
pub struct OptionBuf<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> OptionBuf<N> {
    /// An empty buffer.
    pub const fn new() -> OptionBuf<N> {
        OptionBuf {
            bytes: [0; N],
            len: 0,
        }
    }

    /// Adds an option; `false`, and nothing added, when there is no room for it.
    pub fn push(&mut self, option: &Opt<'_>) -> bool {
        match self.bytes.get_mut(self.len..) {
            Some(room) if option.buffer_len() <= room.len() => {
                self.len += option.emit(room);
                true
            }
            _ => false,
        }
    }

    /// The options added so far.
    pub fn options(&self) -> Options<'_> {
        Options(self.bytes.get(..self.len).unwrap_or_default())
    }
}

impl<const N: usize> Default for OptionBuf<N> {
    fn default() -> OptionBuf<N> {
        OptionBuf::new()
    }
}
