//! Routes: which way a destination lies, by longest prefix and then lowest metric.
//!
//! What does not live here: exceptions for single destinations (`destination`), and source addresses (`source`).
//!
//! The prefixes cut the line of all addresses into ranges with one best route each; a lookup is a binary search among the
//! ranges' first addresses: a handful of steps for a few routes, a dozen for a thousand. Both families lie on one line, IPv4
//! as `::ffff:0:0/96`, which `::/0` must not reach into.
//!
//! Invariant: once built, `starts` is strictly ascending, begins with 0, and `best` is as long.
//! Invariant: the index is made anew before the first lookup after a change, within memory reserved at start.

use wire::{Addr, Family};

use super::{InterfaceId, Route, RouteMetrics};
use crate::error::ConfigError;

/// A range without a route.
const NONE: u16 = u16::MAX;
/// The first address of the mapped IPv4 ones, and how many bits they share.
const MAPPED: u128 = 0xffff << 32;
const MAPPED_PREFIX: u8 = 96;

/// Where a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteOrigin {
    /// Set by the application.
    Manual,
    /// The prefix of an address of this host.
    Connected,
    /// A router's advertisement.
    Advertised,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) route: Route,
    pub(super) metrics: RouteMetrics,
    origin: RouteOrigin,
}

/// The routing table.
#[derive(Debug)]
pub(crate) struct Routes {
    entries: Vec<Entry>,
    max: usize,
    starts: Vec<u128>,
    best: Vec<u16>,
    /// Scratch for building: entries in order, and the prefixes around the current place with their last addresses.
    order: Vec<u16>,
    around: Vec<(u128, u16)>,
    stale: bool,
    /// Some route has metrics.
    tuned: bool,
}

impl Routes {
    /// A table for `max` routes.
    pub(super) fn new(max: u32) -> Self {
        let max = (max as usize).clamp(8, usize::from(NONE) - 1);
        Self {
            entries: Vec::with_capacity(max),
            max,
            starts: Vec::with_capacity(2 * max + 4),
            best: Vec::with_capacity(2 * max + 4),
            order: Vec::with_capacity(max + 1),
            around: Vec::with_capacity(130),
            stale: true,
            tuned: false,
        }
    }

    /// Adds a route, or gives one that is there (same destination, gateway, interface and origin) a new metric, and new metrics.
    ///
    /// # Errors
    /// `TableFull`.
    pub(super) fn add(
        &mut self,
        route: Route,
        metrics: RouteMetrics,
        origin: RouteOrigin,
    ) -> Result<(), ConfigError> {
        let route = Route {
            dst: route.dst.network(),
            ..route
        };
        self.stale = true;
        if origin != RouteOrigin::Connected
            && let Some(entry) = self.find(&route, origin)
        {
            self.entries[entry].route.metric = route.metric;
            self.entries[entry].metrics = metrics;
            self.note_metrics();
            return Ok(());
        }
        if self.entries.len() >= self.max {
            return Err(ConfigError::TableFull("routes"));
        }
        self.entries.push(Entry {
            route,
            metrics,
            origin,
        });
        self.note_metrics();
        Ok(())
    }

    fn note_metrics(&mut self) {
        let none = RouteMetrics::default();
        self.tuned = self.entries.iter().any(|entry| entry.metrics != none);
    }

    /// Removes a route; of several equal connected ones (two addresses in one subnet) one.
    pub(super) fn remove(&mut self, route: &Route, origin: RouteOrigin) -> bool {
        let Some(at) = self.find(route, origin) else {
            return false;
        };
        self.entries.remove(at);
        self.stale = true;
        self.note_metrics();
        true
    }

    fn find(&self, route: &Route, origin: RouteOrigin) -> Option<usize> {
        self.entries.iter().position(|entry| {
            entry.origin == origin
                && entry.route.dst == route.dst.network()
                && entry.route.via == route.via
                && entry.route.interface == route.interface
        })
    }

    /// What a route that is there says besides the way.
    pub(crate) fn metrics(&self, route: &Route) -> Option<RouteMetrics> {
        let same = |entry: &&Entry| {
            let (own, asked) = (&entry.route, route);
            own.dst == asked.dst.network()
                && (own.via, own.interface) == (asked.via, asked.interface)
        };
        let found = self.entries.iter().find(same);
        found.map(|entry| entry.metrics)
    }

    /// Everything, for shards that follow this one.
    pub(super) fn all(&self) -> impl Iterator<Item = (Route, RouteMetrics, RouteOrigin)> {
        let entries = self.entries.iter();
        entries.map(|entry| (entry.route, entry.metrics, entry.origin))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.stale = true;
        self.tuned = false;
    }

    /// All routes, for people and tools.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Route, RouteOrigin)> {
        self.entries
            .iter()
            .map(|entry| (&entry.route, entry.origin))
    }

    /// The best route to `dst`.
    #[inline]
    pub(super) fn lookup(&mut self, dst: &Addr) -> Option<&Entry> {
        if self.stale {
            self.build();
        }
        self.indexed(dst)
    }

    #[inline]
    fn indexed(&self, dst: &Addr) -> Option<&Entry> {
        let key = dst.to_bits();
        let range = self.starts.partition_point(|start| *start <= key);
        let best = *self.best.get(range.wrapping_sub(1))?;
        self.entries.get(usize::from(best))
    }

    /// The metrics of the best route to `dst`.
    #[inline]
    pub(super) fn metrics_to(&self, dst: &Addr) -> RouteMetrics {
        if !self.tuned {
            return RouteMetrics::default();
        }
        let best = if self.stale {
            self.search(dst, |_| true) // the next packet makes the index anew
        } else {
            self.indexed(dst)
        };
        best.map_or(RouteMetrics::default(), |entry| entry.metrics)
    }

    /// The best route to `dst` by one interface; looks at every route.
    pub(super) fn lookup_on(&self, interface: InterfaceId, dst: &Addr) -> Option<&Entry> {
        self.search(dst, |route| route.interface == interface)
    }

    /// The best of the routes to `dst` that will do; looks at every one.
    fn search(&self, dst: &Addr, will_do: impl Fn(&Route) -> bool) -> Option<&Entry> {
        let mut found: Option<&Entry> = None;
        for entry in &self.entries {
            let route = &entry.route;
            if !route.dst.contains(*dst) || !will_do(route) {
                continue;
            }
            let better = found.is_none_or(|best| {
                (route.dst.prefix(), best.route.metric) > (best.route.dst.prefix(), route.metric)
            });
            if better {
                found = Some(entry);
            }
        }
        found
    }

    /// Whether `addr` is a neighbour on `interface`: link-local, or within a prefix that is on the link.
    pub(super) fn is_on_link(&self, interface: InterfaceId, addr: &Addr) -> bool {
        (addr.is_link_local() && !addr.is_v4())
            || self
                .lookup_on(interface, addr)
                .is_some_and(|found| found.route.via.is_none())
    }

    /// Prefix length over the 16-byte form, and first address.
    fn key(&self, at: u16) -> (u128, u8) {
        match self.entries.get(usize::from(at)) {
            Some(entry) => (
                entry.route.dst.addr().to_bits(),
                entry.route.dst.mapped_prefix(),
            ),
            None => (MAPPED, MAPPED_PREFIX),
        }
    }

    #[cold]
    fn build(&mut self) {
        self.stale = false;
        let mut order = core::mem::take(&mut self.order);
        order.clear();
        order.extend(0..self.entries.len() as u16);
        // Keeps `::/0` out of IPv4 unless IPv4's own default route is there to do so.
        let default_v4 =
            |entry: &Entry| entry.route.dst.family() == Family::V4 && entry.route.dst.prefix() == 0;
        if !self.entries.iter().any(default_v4) {
            order.push(NONE);
        }
        order.sort_unstable_by_key(|&at| {
            let metric = self
                .entries
                .get(usize::from(at))
                .map_or(0, |entry| entry.route.metric);
            (self.key(at), metric, at)
        });
        self.starts.clear();
        self.best.clear();
        self.around.clear();
        self.mark(0, NONE);
        let mut before = None;
        for &at in &order {
            let (start, prefix) = self.key(at);
            // Of routes to one prefix the first has the lowest metric.
            if before.replace((start, prefix)) == Some((start, prefix)) {
                continue;
            }
            self.leave(start);
            let last = start | u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            self.around.push((last, at));
            self.mark(start, at);
        }
        self.leave(u128::MAX);
        self.order = order;
    }

    /// Leaves the prefixes that end before `start`.
    fn leave(&mut self, start: u128) {
        while let Some(&(last, _)) = self.around.last()
            && last < start
        {
            self.around.pop();
            let outer = self.around.last().map_or(NONE, |&(_, at)| at);
            self.mark(last + 1, outer);
        }
    }

    /// From `start` on, `best` is the best.
    fn mark(&mut self, start: u128, best: u16) {
        if self.starts.last() == Some(&start) {
            self.best.pop();
            self.starts.pop();
        }
        self.starts.push(start);
        self.best.push(best);
    }
}

#[cfg(test)]
mod tests;
