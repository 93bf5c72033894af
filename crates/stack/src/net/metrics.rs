//! What a route says of the connections and packets that take it, besides the way (ip-route(8), Linux's route metrics).
//!
//! What does not live here: finding routes (`route`); what is learnt of paths by ICMP (`pmtu`).

use crate::error::ConfigError;
use crate::tcp::Congestion;

/// The least MTU of a route: what every host must take whole, with the longest header (RFC 791 3.2).
const LEAST_MTU: u16 = 68;
/// Headers of IP and TCP.
const HEADERS_V4: u16 = 40;
const HEADERS_V6: u16 = 60;

/// What a route says besides the way, by the names ip-route(8) has for it. What it does not say is as without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteMetrics {
    /// Packets are no longer than so many bytes, nor than the link carries; the MSS announced follows from it unless `advmss` is
    /// there.
    pub mtu: Option<u16>,
    /// No more and no less is learnt of the path's MTU, and routers may cut what is sent over IPv4 (`mtu lock`).
    pub mtu_lock: bool,
    /// The MSS announced (RFC 9293 3.7.1), bytes.
    pub advmss: Option<u16>,
    /// The first congestion window, and the one after idle time, in segments.
    pub initcwnd: Option<u16>,
    /// The first window offered, in segments of the MSS announced, as far as the receive buffer and 64 KiB go.
    pub initrwnd: Option<u16>,
    /// Congestion control of connections whose socket names none.
    pub congctl: Option<Congestion>,
}

impl RouteMetrics {
    /// Whether they are some a route can have.
    ///
    /// # Errors
    /// `Value`.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.mtu.is_some_and(|mtu| mtu < LEAST_MTU) {
            return Err(ConfigError::Value("a route's mtu is 68 at least"));
        }
        if self.mtu_lock && self.mtu.is_none() {
            return Err(ConfigError::Value("a route that locks its mtu has one"));
        }
        if self.advmss == Some(0) || self.initcwnd == Some(0) || self.initrwnd == Some(0) {
            return Err(ConfigError::Value(
                "a route's advmss, initcwnd and initrwnd are 1 at least",
            ));
        }
        Ok(())
    }

    /// The MTU of a path along the route.
    pub(super) fn path_mtu(&self, link: u16, learnt: u16) -> u16 {
        let carried = self.mtu.map_or(link, |mtu| mtu.min(link));
        if self.mtu_lock {
            carried
        } else {
            carried.min(learnt)
        }
    }

    /// The MSS to announce on a link of this MTU, if it is another than the link's, or something is counted in it.
    pub(crate) fn mss(&self, link_mtu: u16, v4: bool) -> Option<u16> {
        let headers = if v4 { HEADERS_V4 } else { HEADERS_V6 };
        let counts = self.initrwnd.map(|_| link_mtu);
        let carried = self.mtu.map(|mtu| mtu.min(link_mtu)).or(counts);
        self.advmss
            .or_else(|| carried.map(|mtu| mtu.saturating_sub(headers).max(1)))
    }
}

impl core::fmt::Display for RouteMetrics {
    /// In the words of ip-route(8), each after a blank; nothing when there are none.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if let Some(mtu) = self.mtu {
            let lock = if self.mtu_lock { "lock " } else { "" };
            write!(f, " mtu {lock}{mtu}")?;
        }
        let numbers = [
            ("advmss", self.advmss),
            ("initcwnd", self.initcwnd),
            ("initrwnd", self.initrwnd),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                write!(f, " {name} {number}")?;
            }
        }
        match self.congctl {
            Some(congctl) => write!(f, " congctl {}", congctl.name()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_in_the_words_of_ip_route() {
        assert_eq!(RouteMetrics::default().to_string(), "");
        let all = RouteMetrics {
            mtu: Some(1400),
            mtu_lock: true,
            advmss: Some(1200),
            initcwnd: Some(30),
            initrwnd: Some(20),
            congctl: Some(Congestion::Bbr),
        };
        let said = " mtu lock 1400 advmss 1200 initcwnd 30 initrwnd 20 congctl bbr";
        assert_eq!(all.to_string(), said);
    }
}
