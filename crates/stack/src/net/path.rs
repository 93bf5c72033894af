//! The way to a destination: route, next hop, source, path MTU, neighbour in one answer; and setting all that up.
//!
//! What does not live here: each of these by itself (`route`, `source`, `pmtu`, `neighbour`).

use wire::{Addr, Cidr, ipv6};

use super::address::{AddressEntry, AddressState, Origin};
use super::interface::Interface;
use super::route::RouteOrigin;
use super::{
    InterfaceConfig, InterfaceId, NeighbourId, Net, Path, Route, RouteError, RouteMetrics, source,
};
use crate::context::Core;
use crate::error::ConfigError;

/// Interfaces a host can have.
pub(crate) const INTERFACES: usize = 64;
/// The least MTU an interface may have: what every host must take (RFC 791 3.1).
const MIN_MTU: usize = 576;

fn fit_mtu(mtu: usize) -> Result<u16, ConfigError> {
    let fits = u16::try_from(mtu).ok().filter(|_| mtu >= MIN_MTU);
    fits.ok_or(ConfigError::Value("an MTU is 576 to 65535"))
}

/// The time to live of what nobody gave another (RFC 1700).
pub(super) const DEFAULT_TTL: u8 = 64;

/// Which way, before source and MTU are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    interface: InterfaceId,
    next_hop: Addr,
    /// To a group: the link-layer address follows from the IP address.
    group: bool,
    /// Of the route, if there is one.
    metrics: RouteMetrics,
}

impl Net {
    /// The way to `dst`: from `src` if given, else from the best source (RFC 6724); by `interface` if given, else by route.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub(crate) fn route(
        &mut self,
        core: &mut Core,
        dst: Addr,
        src: Option<Addr>,
        interface: Option<InterfaceId>,
    ) -> Result<Path, RouteError> {
        if let Some(src) = &src
            && (!self.is_local(src) || src.is_v4() != dst.is_v4())
        {
            return Err(RouteError::SourceNotLocal);
        }
        if self.is_local(&dst) {
            return Ok(self.loopback_path(dst, src));
        }
        // What is for the loopback stays there (RFC 1122 3.2.1.3 g).
        if src.is_some_and(|src| src.is_loopback()) {
            return Err(RouteError::SourceNotLocal);
        }
        let way = self.way(&dst, src.as_ref(), interface)?;
        let src = match src {
            Some(src) => src,
            None => source::select(&self.addresses, &dst, way.interface, &way.next_hop)
                .ok_or(RouteError::NoSource)?,
        };
        let link = self
            .interfaces
            .get(usize::from(way.interface.0))
            .map_or(0, |link| if dst.is_v4() { link.mtu } else { link.mtu_v6 });
        let neighbour = if way.group || self.mac(way.interface).is_none() {
            NeighbourId::NONE
        } else {
            self.neighbours.resolve(core, way.interface, &way.next_hop)
        };
        let (learnt, locked) = self.path_mtus.get(core.now, &dst);
        Ok(Path {
            interface: way.interface,
            src,
            next_hop: way.next_hop,
            mtu: way.metrics.path_mtu(link, learnt),
            link_mtu: link,
            locked: locked || way.metrics.mtu_lock,
            hop_limit: self.default_hop_limit(way.interface, dst.is_v4()),
            neighbour,
            epoch: self.epoch,
        })
    }

    /// To one of our own addresses: from the same one, as Linux does.
    fn loopback_path(&self, dst: Addr, src: Option<Addr>) -> Path {
        let own = if dst.is_loopback() && dst.is_v4() {
            Addr::LOOPBACK_V4
        } else {
            dst
        };
        Path {
            interface: InterfaceId::LOOPBACK,
            src: src.unwrap_or(own),
            next_hop: dst,
            mtu: u16::MAX,
            link_mtu: u16::MAX,
            locked: false,
            hop_limit: DEFAULT_TTL,
            neighbour: NeighbourId::NONE,
            epoch: self.epoch,
        }
    }

    fn way(
        &mut self,
        dst: &Addr,
        src: Option<&Addr>,
        interface: Option<InterfaceId>,
    ) -> Result<Way, RouteError> {
        if dst.is_unspecified() || dst.is_reserved() {
            return Err(RouteError::NoRoute);
        }
        if interface.is_some_and(|id| usize::from(id.0) >= self.interfaces.len()) {
            return Err(RouteError::NoRoute);
        }
        let group = dst.is_multicast() || self.is_broadcast(dst);
        let to_link = dst.is_multicast() || dst.is_broadcast();
        let link_local = dst.is_link_local() && !dst.is_v4();
        if to_link || link_local {
            // Such an address says nothing of the link: the caller does, or the source, or there is only one.
            let interface = interface
                .or_else(|| self.interface_of(src))
                .or_else(|| self.default_interface(dst, to_link))
                .ok_or(RouteError::NoRoute)?;
            return Ok(Way {
                interface,
                next_hop: *dst,
                group,
                metrics: RouteMetrics::default(),
            });
        }
        let route = match interface {
            Some(interface) => self.routes.lookup_on(interface, dst),
            None => self.routes.lookup(dst),
        };
        let found = route.ok_or(RouteError::NoRoute)?;
        Ok(Way {
            interface: found.route.interface,
            next_hop: found.route.via.unwrap_or(*dst),
            group,
            metrics: found.metrics,
        })
    }

    fn interface_of(&self, addr: Option<&Addr>) -> Option<InterfaceId> {
        self.addresses.usable(addr?).map(|entry| entry.interface)
    }

    /// Where groups and link-local addresses are, when nobody says: groups by the route they would take, then both on the only
    /// interface that has an address of the family.
    fn default_interface(&mut self, dst: &Addr, group: bool) -> Option<InterfaceId> {
        if group && let Some(found) = self.routes.lookup(dst) {
            return Some(found.route.interface);
        }
        let mut found = None;
        for (_, entry) in self.addresses.entries.iter() {
            if !entry.is_usable() || entry.cidr.addr().is_v4() != dst.is_v4() {
                continue;
            }
            match found {
                None => found = Some(entry.interface),
                // A group may go anywhere: the first will do.
                Some(first) if first != entry.interface && !group => return None,
                Some(_) => {}
            }
        }
        found
    }

    /// Adds an interface.
    ///
    /// # Errors
    /// `Value` for an MTU or MAC address that cannot be, `TableFull` after 64.
    pub(crate) fn add_interface(
        &mut self,
        core: &mut Core,
        config: InterfaceConfig,
    ) -> Result<InterfaceId, ConfigError> {
        let mtu = fit_mtu(config.mtu)?;
        if config.mac.is_some_and(|mac| !mac.is_unicast()) {
            return Err(ConfigError::Value(
                "an interface's MAC address is neither zero nor a group's",
            ));
        }
        if self.interfaces.len() >= INTERFACES {
            return Err(ConfigError::TableFull("interfaces"));
        }
        let id = InterfaceId(self.interfaces.len() as u8);
        self.interfaces.push(Interface {
            name: config.name,
            mac: config.mac,
            mtu,
            mtu_v6: mtu,
            offloads: config.offloads,
            queue: std::collections::VecDeque::with_capacity(self.queue_max),
            queue_max: self.queue_max,
        });
        self.changed();
        self.interface_added(core, id);
        Ok(id)
    }

    /// Changes what a link carries and its device does for frames. Frames that wait stay as they are.
    ///
    /// # Errors
    /// `Value` for an MTU that cannot be, `NoSuchInterface`.
    pub(crate) fn set_link(
        &mut self,
        interface: InterfaceId,
        mtu: usize,
        offloads: base::Offloads,
    ) -> Result<(), ConfigError> {
        let mtu = fit_mtu(mtu)?;
        let link = self
            .interfaces
            .get_mut(usize::from(interface.0))
            .ok_or(ConfigError::NoSuchInterface)?;
        // What a router advertised stands, as far as the link carries it.
        let advertised = link.mtu_v6 < link.mtu;
        link.mtu_v6 = if advertised {
            link.mtu_v6.min(mtu)
        } else {
            mtu
        };
        link.mtu = mtu;
        link.offloads = offloads;
        self.changed();
        Ok(())
    }

    /// Assigns an address; with it come a route to its prefix and, as configured, duplicate detection.
    ///
    /// # Errors
    /// `AddressExists`, `AddressInvalid`, `NoSuchInterface`, `TableFull`.
    pub(crate) fn add_address(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        cidr: Cidr,
    ) -> Result<(), ConfigError> {
        let index = self.enter_address(core, AddressEntry::new(cidr, interface, Origin::Manual))?;
        // A prefix of the whole address has nobody else in it.
        if cidr.prefix() < cidr.family().bits()
            && let Err(error) = self.routes.add(
                connected(interface, cidr),
                RouteMetrics::default(),
                RouteOrigin::Connected,
            )
        {
            self.exit_address(core, index);
            return Err(error);
        }
        Ok(())
    }

    /// Takes an address and the route to its prefix away.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn remove_address(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: Addr,
    ) -> Result<(), ConfigError> {
        let index = self.addresses.find(&addr).ok_or(ConfigError::NotFound)?;
        let entry = self.addresses.entries.at(index);
        if entry.is_none_or(|entry| entry.interface != interface) {
            return Err(ConfigError::NotFound);
        }
        self.exit_address(core, index);
        Ok(())
    }

    /// Enters an address whose uniqueness is to be seen to, without a route; returns its index.
    ///
    /// # Errors
    /// As [`Net::add_address`].
    pub(super) fn enter_address(
        &mut self,
        core: &mut Core,
        entry: AddressEntry,
    ) -> Result<u32, ConfigError> {
        let (addr, link) = (
            entry.cidr.addr(),
            self.interfaces.get(usize::from(entry.interface.0)),
        );
        let link = link.ok_or(ConfigError::NoSuchInterface)?;
        let network = entry.cidr.prefix() < entry.cidr.family().bits() - 1
            && addr.is_v4()
            && entry.cidr.network().addr() == addr;
        if !addr.is_unicast()
            || addr.is_loopback()
            || addr.is_reserved()
            || network
            || entry.cidr.broadcast() == Some(addr)
        {
            return Err(ConfigError::AddressInvalid);
        }
        if !addr.is_v4() && usize::from(link.mtu) < ipv6::MIN_MTU {
            return Err(ConfigError::Value("IPv6 needs an MTU of 1280"));
        }
        if self.addresses.find(&addr).is_some() {
            return Err(ConfigError::AddressExists);
        }
        let index = self
            .addresses
            .insert(entry)
            .ok_or(ConfigError::TableFull("addresses"))?;
        self.changed();
        self.address_added(core, index);
        Ok(index)
    }

    /// Takes an address away, and the route that came with it.
    pub(super) fn exit_address(&mut self, core: &mut Core, index: u32) {
        let Some(entry) = self.addresses.remove(index) else {
            return;
        };
        if entry.origin == Origin::Manual {
            self.routes.remove(
                &connected(entry.interface, entry.cidr),
                RouteOrigin::Connected,
            );
        }
        self.changed();
        self.address_removed(core, index, &entry);
    }

    /// Changes how far an address may be used.
    pub(super) fn set_address_state(&mut self, index: u32, state: AddressState) {
        if let Some(entry) = self.addresses.entries.at_mut(index)
            && entry.state != state
        {
            entry.state = state;
            self.changed();
        }
    }

    /// Adds a route.
    ///
    /// # Errors
    /// `NoSuchInterface`, `GatewayUnreachable`, `TableFull`, `Value`.
    pub(crate) fn add_route(
        &mut self,
        route: Route,
        metrics: RouteMetrics,
    ) -> Result<(), ConfigError> {
        metrics.check()?;
        if usize::from(route.interface.0) >= self.interfaces.len() {
            return Err(ConfigError::NoSuchInterface);
        }
        if let Some(via) = &route.via {
            if via.is_v4() != route.dst.addr().is_v4() {
                return Err(ConfigError::Value(
                    "a gateway is of the same family as the destination",
                ));
            }
            // A gateway is a neighbour (RFC 1122 3.3.1.1), and another host.
            let neighbour = via.is_unicast() && !self.is_broadcast(via) && !self.is_local(via);
            if !neighbour || !self.routes.is_on_link(route.interface, via) {
                return Err(ConfigError::GatewayUnreachable);
            }
        }
        self.routes.add(route, metrics, RouteOrigin::Manual)?;
        self.changed();
        Ok(())
    }

    /// Removes a route: destination, gateway and interface must be equal.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn remove_route(&mut self, route: &Route) -> Result<(), ConfigError> {
        if !self.routes.remove(route, RouteOrigin::Manual) {
            return Err(ConfigError::NotFound);
        }
        self.changed();
        Ok(())
    }

    /// Adds a route a router told of; false when there is no room.
    pub(super) fn learn_route(&mut self, route: Route) -> bool {
        let metrics = RouteMetrics::default();
        let added = self.routes.add(route, metrics, RouteOrigin::Advertised);
        let added = added.is_ok();
        self.changed();
        added
    }

    /// Removes a route a router told of.
    pub(super) fn unlearn_route(&mut self, route: &Route) {
        if self.routes.remove(route, RouteOrigin::Advertised) {
            self.changed();
        }
    }
}

fn connected(interface: InterfaceId, cidr: Cidr) -> Route {
    Route {
        dst: cidr.network(),
        via: None,
        interface,
        metric: 0,
    }
}
