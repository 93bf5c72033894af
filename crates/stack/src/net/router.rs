//! Router discovery (RFC 4861 6.3, RFC 4191, RFC 7559): soliciting, default routers, routes and on-link prefixes with their
//! lifetimes, redirects.
//!
//! What does not live here: addresses made of prefixes (`slaac`), the routes themselves (`route`).
//!
//! Invariant: what is learnt from advertisements and redirects is bounded in number, and every item leaves by its timer.
//! Invariant: an interface has at most one default route from advertisements: by the best router it has.

use core::time::Duration;

use base::{Instant, SipKey, Slab, TimerId};
use wire::ndp::{Opt, OptionBuf, Options, Preference, PrefixInfo, Repr, RouteInfo, RouterAdvert};
use wire::{Addr, Cidr, ipv6};

use super::path::DEFAULT_TTL;
use super::slaac::until;
use super::{InterfaceId, Net, Route};
use crate::config::Config;
use crate::context::{Core, TimerKind};
use crate::stats::{Count, Drop};

/// RFC 4861 10 RTR_SOLICITATION_INTERVAL, from which the interval doubles (RFC 7559 2: IRT).
const INTERVAL: Duration = Duration::from_secs(4);
/// The longest it gets (RFC 7559 2: MRT); there is no last solicitation.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
/// RFC 4861 10 MAX_RTR_SOLICITATION_DELAY, in milliseconds.
const DELAY: u32 = 1000;
/// RFC 4861 6.2.1: no reachable time is longer.
const LONGEST: u32 = 3_600_000;
/// Questions are never repeated faster than this, whatever a router says.
const SHORTEST: u32 = 100;
/// Routers, prefixes and redirects remembered, all interfaces together.
const ROUTERS: u32 = 16;
const PREFIXES: u32 = 64;
const REDIRECTS: u32 = 64;
/// A redirect is believed for so long.
const REDIRECT_LIFE: Duration = Duration::from_secs(600);
/// Linux's `IP6_RT_PRIO_ADDRCONF` for prefixes, `IP6_RT_PRIO_USER` for routers.
const PREFIX_METRIC: u32 = 256;
const ROUTER_METRIC: u32 = 1024;
/// `extra` of a timer.
const SOLICIT: u16 = 0;
const ROUTER: u16 = 1;
const PREFIX: u16 = 2;
const REDIRECT: u16 = 3;

/// What the host does about discovery on one link.
#[derive(Debug, Clone, Copy)]
struct Link {
    /// Until the next solicitation.
    interval: Duration,
    timer: TimerId,
    /// The router behind the default route that is installed.
    default: Option<Addr>,
    /// RFC 4861 6.3.2 CurHopLimit.
    hop_limit: u8,
}

#[derive(Debug)]
struct Router {
    interface: InterfaceId,
    addr: Addr,
    preference: Preference,
    /// It did not answer when last asked (RFC 4861 6.3.6).
    failed: bool,
    timer: TimerId,
}

#[derive(Debug)]
struct Prefix {
    /// To the link itself, or (RFC 4191) by a router.
    route: Route,
    timer: TimerId,
}

#[derive(Debug)]
struct Redirect {
    route: Route,
    timer: TimerId,
}

/// What was discovered, and how to go about it.
#[derive(Debug)]
pub(super) struct Discovery {
    accept: bool,
    /// Probe for addresses set by hand, too.
    pub(super) detect: bool,
    /// Secret of the interface identifiers.
    pub(super) key: SipKey,
    /// RFC 7217 DAD_Counter of the address being entered.
    pub(super) attempts: u8,
    links: Vec<Link>,
    routers: Slab<Router>,
    prefixes: Slab<Prefix>,
    redirects: Slab<Redirect>,
}

impl Discovery {
    pub(super) fn new(config: &Config, secret: &SipKey) -> Self {
        Self {
            accept: config.accept_router_advertisements,
            detect: config.duplicate_detection,
            key: config.stable_address_key.map_or_else(
                || SipKey::derive(secret.hash(b"stable addresses"), 7217),
                SipKey,
            ),
            attempts: 0,
            links: Vec::new(),
            routers: Slab::with_capacity(ROUTERS),
            prefixes: Slab::with_capacity(PREFIXES),
            redirects: Slab::with_capacity(REDIRECTS),
        }
    }

    fn link(&mut self, interface: InterfaceId) -> Option<&mut Link> {
        self.links.get_mut(usize::from(interface.0))
    }
}

impl Net {
    /// An interface was added.
    pub(super) fn interface_added(&mut self, core: &mut Core, interface: InterfaceId) {
        let new = Link {
            interval: INTERVAL,
            timer: TimerId::NONE,
            default: None,
            hop_limit: DEFAULT_TTL,
        };
        self.discovery
            .links
            .resize(usize::from(interface.0) + 1, new);
        if !core.follows()
            && self
                .interfaces
                .get(usize::from(interface.0))
                .is_some_and(|i| usize::from(i.mtu) >= ipv6::MIN_MTU)
        {
            self.make_link_local(core, interface, 0);
        }
    }

    /// Sets what a router said of it.
    pub(super) fn set_hop_limit(&mut self, interface: InterfaceId, hop_limit: u8) {
        if let Some(link) = self.discovery.link(interface) {
            link.hop_limit = hop_limit;
        }
    }

    /// The hop limit to send with by default on a link: for IPv6 what a router says.
    #[inline]
    pub(super) fn default_hop_limit(&self, interface: InterfaceId, v4: bool) -> u8 {
        self.discovery
            .links
            .get(usize::from(interface.0))
            .filter(|_| !v4)
            .map_or(DEFAULT_TTL, |link| link.hop_limit)
    }

    /// The link-local address may be used: ask for routers (RFC 4861 6.3.7).
    pub(super) fn link_local_ready(&mut self, core: &mut Core, interface: InterfaceId) {
        if !self.discovery.accept {
            return;
        }
        let wait = Duration::from_millis(u64::from(core.rng.below(DELAY)));
        let timer = core.arm(
            core.now + wait,
            TimerKind::Router,
            u32::from(interface.0),
            SOLICIT,
        );
        if let Some(link) = self.discovery.link(interface) {
            link.interval = INTERVAL;
            if let Some(old) = timer.map(|timer| core::mem::replace(&mut link.timer, timer))
                && old.is_some()
            {
                core.wheel.cancel(old);
            }
        }
    }

    pub(super) fn router_timer(&mut self, core: &mut Core, index: u32, extra: u16) {
        match extra {
            SOLICIT => self.solicit_routers(core, InterfaceId(index as u8)),
            ROUTER => {
                if let Some(router) = self.discovery.routers.remove_at(index) {
                    self.choose_router(router.interface);
                }
            }
            PREFIX => {
                if let Some(prefix) = self.discovery.prefixes.remove_at(index) {
                    self.unlearn_route(&prefix.route);
                }
            }
            REDIRECT => {
                if let Some(redirect) = self.discovery.redirects.remove_at(index) {
                    self.unlearn_route(&redirect.route);
                }
            }
            _ => {}
        }
    }

    fn solicit_routers(&mut self, core: &mut Core, interface: InterfaceId) {
        let Some(link) = self.discovery.link(interface) else {
            return;
        };
        link.timer = TimerId::NONE;
        // RFC 7559 2: doubled each time, with a tenth of jitter either way.
        let tenth = link.interval.as_millis() as u32 / 10;
        let wait = link.interval - Duration::from_millis(u64::from(tenth))
            + Duration::from_millis(u64::from(core.rng.below(2 * tenth + 1)));
        link.interval = (link.interval * 2).min(LONGEST_INTERVAL);
        let timer = core.arm(
            core.now + wait,
            TimerKind::Router,
            u32::from(interface.0),
            SOLICIT,
        );
        link.timer = timer.unwrap_or(TimerId::NONE);
        let (Some(own), Some(src)) = (
            self.mac(interface),
            self.link_source(interface, &Addr::ALL_ROUTERS, None),
        ) else {
            return;
        };
        let mut options = OptionBuf::<8>::new();
        options.push(&Opt::SourceMac(own));
        let message = Repr::RouterSolicit {
            options: options.options(),
        };
        self.ndp_send(core, interface, &src, &Addr::ALL_ROUTERS, None, &message);
    }

    /// A valid router advertisement (RFC 4861 6.3.4).
    pub(super) fn router_advertised(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        from: &Addr,
        advert: &RouterAdvert,
        options: &Options<'_>,
    ) -> Option<Drop> {
        if !self.discovery.accept || self.is_local(from) {
            return Some(Drop::NdpIgnored);
        }
        let Some(link) = self.discovery.link(interface) else {
            return Some(Drop::NdpIgnored);
        };
        let hops_changed = advert.hop_limit != 0 && advert.hop_limit != link.hop_limit;
        if hops_changed {
            link.hop_limit = advert.hop_limit;
        }
        // RFC 4861 6.3.7, RFC 7559 2: one default router is enough.
        if advert.router_lifetime != 0 && link.timer.is_some() {
            core.wheel
                .cancel(core::mem::replace(&mut link.timer, TimerId::NONE));
        }
        if hops_changed {
            self.changed();
        }
        let millis = |value: u32, low| {
            Some(Duration::from_millis(u64::from(value.clamp(low, LONGEST)))).filter(|_| value != 0)
        };
        let reachable =
            millis(advert.reachable_time, 1).filter(|_| advert.reachable_time <= LONGEST);
        self.neighbours.set_times(
            core,
            interface,
            reachable,
            millis(advert.retrans_timer, SHORTEST),
        );
        if let Some(mac) = options.source_mac() {
            let learnt = self.neighbours.heard(core, interface, from, mac, true);
            self.release(core, learnt);
        }
        self.neighbours.set_router(interface, from, true);
        self.default_router(core, interface, from, advert);
        if let Some(mtu) = options.mtu() {
            self.advertised_mtu(interface, mtu);
        }
        for info in options.routes() {
            self.advertised_route(core, interface, from, advert, &info);
        }
        for info in options.prefixes() {
            self.on_link_prefix(core, interface, &info);
            self.autoconfigure(core, interface, &info);
        }
        None
    }

    /// RFC 4861 6.3.4: an MTU between IPv6's least and the link's own.
    fn advertised_mtu(&mut self, interface: InterfaceId, mtu: u32) {
        let Some(link) = self.interfaces.get_mut(usize::from(interface.0)) else {
            return;
        };
        if let Ok(mtu) = u16::try_from(mtu)
            && usize::from(mtu) >= ipv6::MIN_MTU
            && mtu <= link.mtu
            && mtu != link.mtu_v6
        {
            link.mtu_v6 = mtu;
            self.changed();
        }
    }

    fn default_router(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        from: &Addr,
        advert: &RouterAdvert,
    ) {
        let found = self.router_index(interface, from);
        if advert.router_lifetime == 0 {
            return self.router_lost(core, interface, from);
        }
        let index = match found {
            Some(index) => index,
            None => {
                let new = Router {
                    interface,
                    addr: *from,
                    preference: advert.preference,
                    failed: false,
                    timer: TimerId::NONE,
                };
                if self.discovery.routers.is_full() {
                    self.forget_silent_router(core);
                }
                match self.discovery.routers.insert(new) {
                    Some(key) => key.index,
                    None => return core.count(Count::AdvertisedTooMuch),
                }
            }
        };
        let Some(router) = self.discovery.routers.at_mut(index) else {
            return;
        };
        router.preference = advert.preference;
        router.failed = false;
        let end = until(core.now, u32::from(advert.router_lifetime));
        rearm(core, &mut router.timer, end, index, ROUTER);
        self.choose_router(interface);
    }

    /// Makes room for a new router in place of one that did not answer: a flood of made-up ones may not shut out the real one.
    fn forget_silent_router(&mut self, core: &mut Core) {
        let silent = self
            .discovery
            .routers
            .iter()
            .find(|(_, router)| router.failed)
            .map(|(_, router)| (router.interface, router.addr));
        if let Some((interface, addr)) = silent {
            self.router_lost(core, interface, &addr);
        }
    }

    fn router_index(&self, interface: InterfaceId, addr: &Addr) -> Option<u32> {
        self.discovery
            .routers
            .iter()
            .find(|(_, router)| router.interface == interface && router.addr == *addr)
            .map(|(key, _)| key.index)
    }

    /// It is no default router any more: it says so, or its neighbour entry does (RFC 4861 7.2.5).
    pub(super) fn router_lost(&mut self, core: &mut Core, interface: InterfaceId, addr: &Addr) {
        if let Some(router) = self
            .router_index(interface, addr)
            .and_then(|index| self.discovery.routers.remove_at(index))
        {
            if router.timer.is_some() {
                core.wheel.cancel(router.timer);
            }
            self.choose_router(interface);
        }
    }

    /// A neighbour does not answer: if it is a router, rather use another (RFC 4861 6.3.6), and forget redirects to it (8.3).
    pub(super) fn router_unreachable(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: &Addr,
    ) {
        if let Some(index) = self.router_index(interface, addr)
            && let Some(router) = self.discovery.routers.at_mut(index)
        {
            router.failed = true;
            self.choose_router(interface);
        }
        for index in 0..REDIRECTS {
            let through =
                |r: &Redirect| r.route.interface == interface && r.route.via == Some(*addr);
            if self.discovery.redirects.at(index).is_some_and(through) {
                self.forget_redirect(core, index);
            }
        }
        // RFC 4191 3.2: routes by another are better; it will advertise its own again when it is back.
        for index in 0..PREFIXES {
            let through = |p: &Prefix| p.route.interface == interface && p.route.via == Some(*addr);
            if self.discovery.prefixes.at(index).is_some_and(through) {
                self.forget_prefix(core, index);
            }
        }
    }

    /// Installs the default route by the best router: one that answers, then by preference, then the one in use.
    fn choose_router(&mut self, interface: InterfaceId) {
        let Some(current) = self.discovery.link(interface).map(|link| link.default) else {
            return;
        };
        let best = self
            .discovery
            .routers
            .iter()
            .filter(|(_, router)| router.interface == interface)
            .max_by_key(|(_, router)| {
                (
                    !router.failed,
                    router.preference,
                    current == Some(router.addr),
                )
            })
            .map(|(_, router)| router.addr);
        if best == current {
            return;
        }
        let route = |via| Route {
            dst: Cidr::DEFAULT_V6,
            via: Some(via),
            interface,
            metric: ROUTER_METRIC,
        };
        if let Some(old) = current {
            self.unlearn_route(&route(old));
        }
        let installed = best.filter(|&via| self.learn_route(route(via)));
        if let Some(link) = self.discovery.link(interface) {
            link.default = installed;
        }
    }

    /// RFC 4861 6.3.4: destinations that need no router.
    fn on_link_prefix(&mut self, core: &mut Core, interface: InterfaceId, info: &PrefixInfo) {
        if !info.on_link
            || info.prefix.is_link_local()
            || info.prefix.is_multicast()
            || info.prefix_len == 0
        {
            return;
        }
        let Some(dst) = Cidr::new(info.prefix, info.prefix_len).map(|cidr| cidr.network()) else {
            return;
        };
        let route = Route {
            dst,
            via: None,
            interface,
            metric: PREFIX_METRIC,
        };
        self.prefix_route(core, route, info.valid_lifetime);
    }

    /// RFC 4191 3.1: destinations behind this router; `::/0` says more of it as a default router than the header does.
    fn advertised_route(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        from: &Addr,
        advert: &RouterAdvert,
        info: &RouteInfo,
    ) {
        let dst = info.prefix;
        if dst.prefix() == 0 {
            let advert = RouterAdvert {
                preference: info.preference,
                router_lifetime: u16::try_from(info.lifetime).unwrap_or(u16::MAX),
                ..*advert
            };
            return self.default_router(core, interface, from, &advert);
        }
        if dst.addr().is_link_local() || dst.addr().is_multicast() {
            return;
        }
        let route = Route {
            dst,
            via: Some(*from),
            interface,
            metric: match info.preference {
                Preference::High => ROUTER_METRIC - 1,
                Preference::Medium => ROUTER_METRIC,
                Preference::Low => ROUTER_METRIC + 1,
            },
        };
        self.prefix_route(core, route, info.lifetime);
    }

    /// A route to a prefix that holds for `lifetime` seconds; 0 takes it back.
    fn prefix_route(&mut self, core: &mut Core, route: Route, lifetime: u32) {
        let same = |p: &Prefix| {
            Route {
                metric: route.metric,
                ..p.route
            } == route
        };
        let found = self
            .discovery
            .prefixes
            .iter()
            .find(|(_, p)| same(p))
            .map(|(key, p)| (key.index, p.route.metric));
        if lifetime == 0 {
            if let Some((index, _)) = found {
                self.forget_prefix(core, index);
            }
            return;
        }
        let index = match found {
            Some((index, metric)) => {
                if metric != route.metric {
                    self.learn_route(route);
                }
                index
            }
            None => {
                let new = Prefix {
                    route,
                    timer: TimerId::NONE,
                };
                let Some(key) = self.discovery.prefixes.insert(new) else {
                    return core.count(Count::AdvertisedTooMuch);
                };
                if !self.learn_route(route) {
                    self.discovery.prefixes.remove(key);
                    return core.count(Count::AdvertisedTooMuch);
                }
                key.index
            }
        };
        let end = until(core.now, lifetime);
        if let Some(prefix) = self.discovery.prefixes.at_mut(index) {
            prefix.route = route;
            rearm(core, &mut prefix.timer, end, index, PREFIX);
        }
    }

    fn forget_prefix(&mut self, core: &mut Core, index: u32) {
        if let Some(prefix) = self.discovery.prefixes.remove_at(index) {
            if prefix.timer.is_some() {
                core.wheel.cancel(prefix.timer);
            }
            self.unlearn_route(&prefix.route);
        }
    }

    /// A redirect from `from`: packets for `destination` go rather to `target` (RFC 4861 8.3, RFC 1122 3.2.2.2). False when
    /// it is not to be believed: only the router in use may say so, and only name a neighbour.
    pub(super) fn redirect(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        from: &Addr,
        destination: &Addr,
        target: &Addr,
    ) -> bool {
        let Ok(path) = self.route(core, *destination, None, None) else {
            return false;
        };
        if path.interface != interface
            || path.next_hop != *from
            || path.next_hop == *destination
            || self.is_local(target)
        {
            return false;
        }
        let same = |r: &Redirect| r.route.dst == Cidr::host(*destination);
        let discovery = &self.discovery;
        let old = discovery
            .redirects
            .iter()
            .find(|(_, r)| same(r))
            .map(|(key, _)| key.index);
        if let Some(index) = old {
            self.forget_redirect(core, index);
        } else if self.discovery.redirects.is_full() {
            // Any one: they are hints, and the router will say so again.
            let index = core.rng.below(REDIRECTS);
            self.forget_redirect(core, index);
        }
        let via = (target != destination).then_some(*target);
        let route = Route {
            dst: Cidr::host(*destination),
            via,
            interface,
            metric: 0,
        };
        if !self.learn_route(route) {
            return false;
        }
        let Some(key) = self.discovery.redirects.insert(Redirect {
            route,
            timer: TimerId::NONE,
        }) else {
            return false;
        };
        let timer = core.arm(
            core.now + REDIRECT_LIFE,
            TimerKind::Router,
            key.index,
            REDIRECT,
        );
        if let Some(redirect) = self.discovery.redirects.get_mut(key) {
            redirect.timer = timer.unwrap_or(TimerId::NONE);
        }
        core.count(Count::Redirected);
        true
    }

    fn forget_redirect(&mut self, core: &mut Core, index: u32) {
        if let Some(redirect) = self.discovery.redirects.remove_at(index) {
            if redirect.timer.is_some() {
                core.wheel.cancel(redirect.timer);
            }
            self.unlearn_route(&redirect.route);
        }
    }
}

/// Moves an item's end; for ever needs no timer.
fn rearm(core: &mut Core, timer: &mut TimerId, end: Instant, index: u32, extra: u16) {
    if timer.is_some() {
        core.wheel.cancel(core::mem::replace(timer, TimerId::NONE));
    }
    if !end.is_far() {
        *timer = core
            .arm(end, TimerKind::Router, index, extra)
            .unwrap_or(TimerId::NONE);
    }
}
