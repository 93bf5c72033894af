//! Neighbour discovery for IPv6 (RFC 4861).
//!
//! Options live in `ndp::options`. Neighbour states, router lists and address configuration live in `stack`.
//!
//! Invariant: [`Repr::parse`] makes every check RFC 4861 sections 6.1, 7.1 and 8.1 ask of a receiver but for the
//! checksum; options of a [`Repr`] have been walked to the end once and are well formed.

use core::fmt;

use crate::{
    Addr, Error, Mac, Result,
    bytes::{array, be32, head_mut, put, put16, put32},
    icmpv6::{self, kind},
};

mod options;
#[cfg(test)]
mod tests;

pub use options::{Opt, OptionBuf, Options, PrefixInfo, Rdnss, RouteInfo, option};

/// The hop limit every message is sent with: one that passed a router has less.
pub const HOP_LIMIT: u8 = 255;

/// A router's preference among several (RFC 4191 section 2.1).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Preference {
    /// Low.
    Low,
    /// Medium; also what the reserved value counts as (RFC 4191 section 2.2).
    #[default]
    Medium,
    /// High.
    High,
}

impl Preference {
    /// From the byte it is a part of; `None` for the reserved value.
    fn from_bits(byte: u8) -> Option<Preference> {
        match byte >> 3 & 3 {
            0 => Some(Preference::Medium),
            1 => Some(Preference::High),
            3 => Some(Preference::Low),
            _ => None,
        }
    }

    /// In its place in the byte.
    const fn bits(self) -> u8 {
        match self {
            Preference::Medium => 0,
            Preference::High => 1 << 3,
            Preference::Low => 3 << 3,
        }
    }
}

/// What a router advertisement says besides its options.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterAdvert {
    /// Hop limit to send with; 0 says nothing.
    pub hop_limit: u8,
    /// Addresses are to be had by DHCPv6.
    pub managed: bool,
    /// Other configuration is to be had by DHCPv6.
    pub other: bool,
    /// Preference among routers.
    pub preference: Preference,
    /// Seconds for which it is a default router; 0: it is none.
    pub router_lifetime: u16,
    /// Milliseconds a neighbour counts as reachable; 0 says nothing.
    pub reachable_time: u32,
    /// Milliseconds between solicitations; 0 says nothing.
    pub retrans_timer: u32,
}

/// A message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Repr<'a> {
    /// Which routers are there?
    RouterSolicit {
        /// Options.
        options: Options<'a>,
    },
    /// A router is here.
    RouterAdvert {
        /// What it says.
        advert: RouterAdvert,
        /// Options.
        options: Options<'a>,
    },
    /// Who has this address?
    NeighborSolicit {
        /// The address.
        target: Addr,
        /// Options.
        options: Options<'a>,
    },
    /// This node has this address.
    NeighborAdvert {
        /// The sender is a router.
        router: bool,
        /// It answers a solicitation.
        solicited: bool,
        /// It replaces what is cached.
        override_: bool,
        /// The address.
        target: Addr,
        /// Options.
        options: Options<'a>,
    },
    /// There is a better first hop.
    Redirect {
        /// The better hop; the destination itself if it is on the link.
        target: Addr,
        /// For this destination.
        destination: Addr,
        /// Options.
        options: Options<'a>,
    },
}

/// Bytes in front of the options, by message type.
const fn fixed_len(kind: u8) -> usize {
    match kind {
        kind::ROUTER_ADVERT => 16,
        kind::NEIGHBOR_SOLICIT | kind::NEIGHBOR_ADVERT => 24,
        kind::REDIRECT => 40,
        _ => 8,
    }
}

impl<'a> Repr<'a> {
    /// Reads a message that came with this hop limit, from `src`, to `dst`.
    ///
    /// # Errors
    /// [`Error::Unrecognized`] for other types; [`Error::Malformed`] for a wrong hop limit or code, or a forbidden
    /// combination; [`Error::Truncated`] when the fixed part or an option does not fit; [`Error::Length`] for an
    /// option of length zero; [`Error::Address`] for an address that may not stand where it does.
    pub fn parse(
        packet: &icmpv6::Packet<'a>,
        hop_limit: u8,
        src: &Addr,
        dst: &Addr,
    ) -> Result<Repr<'a>> {
        let kind = packet.kind();
        if !(kind::ROUTER_SOLICIT..=kind::REDIRECT).contains(&kind) {
            return Err(Error::Unrecognized);
        }
        if hop_limit != HOP_LIMIT || packet.code() != 0 {
            return Err(Error::Malformed);
        }
        let body = packet.payload();
        let (fixed, area) = body
            .split_at_checked(fixed_len(kind) - icmpv6::HEADER_LEN)
            .ok_or(Error::Truncated)?;
        let options = Options::new(area)?;
        let repr = match kind {
            kind::ROUTER_SOLICIT => Repr::RouterSolicit { options },
            kind::ROUTER_ADVERT => Repr::RouterAdvert {
                advert: parse_router_advert(
                    packet.word(),
                    fixed.first_chunk().ok_or(Error::Truncated)?,
                ),
                options,
            },
            kind::NEIGHBOR_SOLICIT => Repr::NeighborSolicit {
                target: address(fixed, 0)?,
                options,
            },
            kind::NEIGHBOR_ADVERT => Repr::NeighborAdvert {
                router: packet.word() & 1 << 31 != 0,
                solicited: packet.word() & 1 << 30 != 0,
                override_: packet.word() & 1 << 29 != 0,
                target: address(fixed, 0)?,
                options,
            },
            _ => Repr::Redirect {
                target: address(fixed, 0)?,
                destination: address(fixed, 16)?,
                options,
            },
        };
        repr.validate(src, dst)?;
        Ok(repr)
    }

    /// The rules about addresses.
    fn validate(&self, src: &Addr, dst: &Addr) -> Result<()> {
        match self {
            // RFC 4861 section 6.1.1.
            Repr::RouterSolicit { options } => {
                if src.is_unspecified() && options.source_mac().is_some() {
                    return Err(Error::Malformed);
                }
            }
            // RFC 4861 section 6.1.2.
            Repr::RouterAdvert { .. } => {
                if src.is_v4() || !src.is_link_local() {
                    return Err(Error::Address);
                }
            }
            // RFC 4861 section 7.1.1.
            Repr::NeighborSolicit { target, options } => {
                if target.is_multicast() || target.is_v4() {
                    return Err(Error::Address);
                }
                if src.is_unspecified() {
                    if *dst != target.solicited_node() {
                        return Err(Error::Address);
                    }
                    if options.source_mac().is_some() {
                        return Err(Error::Malformed);
                    }
                }
            }
            // RFC 4861 section 7.1.2.
            Repr::NeighborAdvert {
                target, solicited, ..
            } => {
                if target.is_multicast() || target.is_v4() {
                    return Err(Error::Address);
                }
                if dst.is_multicast() && *solicited {
                    return Err(Error::Malformed);
                }
            }
            // RFC 4861 section 8.1.
            Repr::Redirect {
                target,
                destination,
                ..
            } => {
                let router = !target.is_v4() && target.is_link_local();
                if src.is_v4()
                    || !src.is_link_local()
                    || destination.is_v4()
                    || destination.is_multicast()
                {
                    return Err(Error::Address);
                }
                if !router && target != destination {
                    return Err(Error::Address);
                }
            }
        }
        Ok(())
    }

    /// The options.
    #[inline]
    pub const fn options(&self) -> Options<'a> {
        match *self {
            Repr::RouterSolicit { options }
            | Repr::RouterAdvert { options, .. }
            | Repr::NeighborSolicit { options, .. }
            | Repr::NeighborAdvert { options, .. }
            | Repr::Redirect { options, .. } => options,
        }
    }

    /// The ICMPv6 type.
    #[inline]
    pub const fn kind(&self) -> u8 {
        match self {
            Repr::RouterSolicit { .. } => kind::ROUTER_SOLICIT,
            Repr::RouterAdvert { .. } => kind::ROUTER_ADVERT,
            Repr::NeighborSolicit { .. } => kind::NEIGHBOR_SOLICIT,
            Repr::NeighborAdvert { .. } => kind::NEIGHBOR_ADVERT,
            Repr::Redirect { .. } => kind::REDIRECT,
        }
    }

    /// Bytes [`Repr::emit`] writes: the whole message.
    #[inline]
    pub const fn buffer_len(&self) -> usize {
        fixed_len(self.kind()) + self.options().as_bytes().len()
    }

    /// Writes the message, options included, into the first [`Repr::buffer_len`] bytes, checksum zero; see
    /// [`icmpv6::fill_checksum`].
    pub fn emit(&self, buffer: &mut [u8]) {
        let fixed = fixed_len(self.kind());
        buffer[fixed..self.buffer_len()].copy_from_slice(self.options().as_bytes());
        let header = head_mut::<8>(buffer);
        *header = [self.kind(), 0, 0, 0, 0, 0, 0, 0];
        match *self {
            Repr::RouterSolicit { .. } => {}
            Repr::RouterAdvert { advert, .. } => emit_router_advert(&advert, head_mut(buffer)),
            Repr::NeighborSolicit { target, .. } => put(head_mut::<24>(buffer), 8, &target.0),
            Repr::NeighborAdvert {
                router,
                solicited,
                override_,
                target,
                ..
            } => {
                header[4] =
                    u8::from(router) << 7 | u8::from(solicited) << 6 | u8::from(override_) << 5;
                put(head_mut::<24>(buffer), 8, &target.0);
            }
            Repr::Redirect {
                target,
                destination,
                ..
            } => {
                let bytes = head_mut::<40>(buffer);
                put(bytes, 8, &target.0);
                put(bytes, 24, &destination.0);
            }
        }
    }
}

fn parse_router_advert(word: u32, fixed: &[u8; 8]) -> RouterAdvert {
    let [hop_limit, flags, ..] = word.to_be_bytes();
    RouterAdvert {
        hop_limit,
        managed: flags & 0x80 != 0,
        other: flags & 0x40 != 0,
        preference: Preference::from_bits(flags).unwrap_or_default(),
        router_lifetime: word as u16,
        reachable_time: be32(fixed, 0),
        retrans_timer: be32(fixed, 4),
    }
}

fn emit_router_advert(advert: &RouterAdvert, bytes: &mut [u8; 16]) {
    bytes[4] = advert.hop_limit;
    bytes[5] =
        u8::from(advert.managed) << 7 | u8::from(advert.other) << 6 | advert.preference.bits();
    put16(bytes, 6, advert.router_lifetime);
    put32(bytes, 8, advert.reachable_time);
    put32(bytes, 12, advert.retrans_timer);
}

/// The address at `at`, which the caller has seen to fit.
fn address(bytes: &[u8], at: usize) -> Result<Addr> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map(|octets| Addr(*octets))
        .ok_or(Error::Truncated)
}

/// Prints a message without judging it.
pub(crate) fn display(packet: &icmpv6::Packet<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let kind = packet.kind();
    f.write_str(match kind {
        kind::ROUTER_SOLICIT => "NDP router solicitation",
        kind::ROUTER_ADVERT => "NDP router advertisement",
        kind::NEIGHBOR_SOLICIT => "NDP neighbor solicitation",
        kind::NEIGHBOR_ADVERT => "NDP neighbor advertisement",
        _ => "NDP redirect",
    })?;
    let Some((fixed, area)) = packet
        .payload()
        .split_at_checked(fixed_len(kind) - icmpv6::HEADER_LEN)
    else {
        return f.write_str(" (truncated)");
    };
    match kind {
        kind::ROUTER_ADVERT => write!(f, " lifetime {} s", packet.word() as u16)?,
        kind::NEIGHBOR_SOLICIT | kind::NEIGHBOR_ADVERT | kind::REDIRECT => {
            if let Ok(target) = address(fixed, 0) {
                write!(f, " {target}")?;
            }
        }
        _ => {}
    }
    if kind == kind::NEIGHBOR_ADVERT {
        for (bit, name) in [(31, " router"), (30, " solicited"), (29, " override")] {
            if packet.word() & 1 << bit != 0 {
                f.write_str(name)?;
            }
        }
    }
    match Options::new(area) {
        Ok(options) => write!(f, "{options}"),
        Err(_) => f.write_str(" (malformed options)"),
    }
}
