//! What UDP sockets do about the MTU of their paths (IP_MTU_DISCOVER, IPV6_MTU_DISCOVER).
//!
//! What does not live here: what is learnt of paths (`net`).

use wire::Addr;

use super::UdpOptions;

/// What a UDP socket does about the MTU of its paths. What leaves over IPv6 no router fragments, whatever is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MtuDiscover {
    /// What is longer than the path is known to carry is fragmented here, and anything by routers (IP_PMTUDISC_DONT).
    Dont,
    /// What is longer than the path is known to carry is fragmented here, and nothing else, so that more is learnt of the path
    /// (IP_PMTUDISC_WANT).
    #[default]
    Want,
    /// Nothing is fragmented: what is longer than the path is known to carry is refused (IP_PMTUDISC_DO).
    Do,
    /// Nothing is fragmented: what is longer than the link carries is refused, whatever is known of the path. For programs that find out
    /// themselves what that carries (IP_PMTUDISC_PROBE).
    Probe,
    /// What is longer than the link carries is refused, anything else may be fragmented by routers, and what they say of the MTU is not
    /// believed (IP_PMTUDISC_INTERFACE).
    Interface,
    /// As `Interface`, but what is longer than the link carries is fragmented here (IP_PMTUDISC_OMIT).
    Omit,
}

impl MtuDiscover {
    /// Whether the link's MTU counts, not what is known of the path.
    pub(super) fn by_link(self) -> bool {
        matches!(self, Self::Probe | Self::Interface | Self::Omit)
    }

    /// Whether what is too long is fragmented here.
    pub(super) fn cuts(self) -> bool {
        matches!(self, Self::Dont | Self::Want | Self::Omit)
    }

    /// Whether routers may not fragment what fits; on a path whose MTU is `locked` that is no way to learn it.
    pub(super) fn whole(self, locked: bool) -> bool {
        match self {
            Self::Do | Self::Probe => true,
            Self::Want => !locked,
            Self::Dont | Self::Interface | Self::Omit => false,
        }
    }

    /// Whether routers are believed.
    pub(super) fn learns(self) -> bool {
        !matches!(self, Self::Interface | Self::Omit)
    }

    /// Whether a socket hears what routers say of the MTU: always, if it asked for all errors; else if it is connected. As on Linux, whose
    /// families differ.
    pub(super) fn hears(self, v4: bool, asked: bool) -> bool {
        match self {
            Self::Dont => asked && !v4,
            Self::Interface | Self::Omit => v4,
            Self::Want | Self::Do | Self::Probe => true,
        }
    }
}

impl UdpOptions {
    /// What counts on the way to an address.
    pub(super) fn discover(&self, to: &Addr) -> MtuDiscover {
        match to.is_v4() {
            true => self.mtu_discover,
            false => self.mtu_discover_v6,
        }
    }
}
