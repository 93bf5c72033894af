//! What is set up, for people and tools: interfaces, addresses, routes, and what the internet layer holds.
//!
//! What does not live here: neighbours (`udp`), connections, counters.

use base::{Instant, Offloads};
use wire::{Cidr, Mac};

use super::Host;
use crate::error::ConfigError;
use crate::net::{AddressState, InterfaceId, Origin, Route, RouteMetrics, RouteOrigin};
use crate::tcp::TcpTables;

/// One line of the list of interfaces.
#[derive(Debug, Clone, Copy)]
pub struct InterfaceInfo<'a> {
    /// Its number.
    pub id: InterfaceId,
    /// Its name, as it was given.
    pub name: &'a str,
    /// Its Ethernet address; `None` on a point-to-point link.
    pub mac: Option<Mac>,
    /// The longest IP packet its link carries, in bytes.
    pub mtu: u16,
    /// The same for IPv6, which a router may have lowered.
    pub mtu_v6: u16,
    /// What its device does for frames.
    pub offloads: Offloads,
    /// Frames waiting to be transmitted.
    pub queued: usize,
}

/// One line of the list of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressInfo {
    /// The interface it is assigned to.
    pub interface: InterfaceId,
    /// The address and the length of its prefix.
    pub cidr: Cidr,
    /// How far it may be used.
    pub state: AddressState,
    /// Where it comes from.
    pub origin: Origin,
}

/// What the internet layer holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetOccupancy {
    /// Datagrams being reassembled.
    pub reassemblies: u32,
    /// Blocks of packet memory they hold.
    pub reassembly_blocks: u32,
    /// Destinations whose path MTU was learnt.
    pub path_mtus: u32,
}

/// The host's packet memory, and what of it is known to be held by whom. Whatever is held by nobody named here waits in UDP
/// sockets, for neighbours, or is with devices and applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferInfo {
    /// Blocks of 2 KiB there are, are in use, and were in use at most.
    pub blocks: u32,
    /// See `blocks`.
    pub in_use: u32,
    /// See `blocks`.
    pub high_water: u32,
    /// Runs of received bytes in the hands of other threads ([`base::Pool::lend`]), each of which keeps a block.
    pub lent: u32,
    /// Segments in use: references to blocks, of which several may name one block.
    pub segments: u32,
    /// Those of them in the queues of TCP.
    pub tcp_segments: u32,
    /// Blocks of datagrams being reassembled.
    pub reassembly_blocks: u32,
    /// Frames that wait for interfaces to take them.
    pub frames: u32,
}

impl BufferInfo {
    /// Those of two shards of a host together.
    pub fn plus(self, other: &Self) -> Self {
        Self {
            blocks: self.blocks + other.blocks,
            in_use: self.in_use + other.in_use,
            high_water: self.high_water + other.high_water,
            lent: self.lent + other.lent,
            segments: self.segments + other.segments,
            tcp_segments: self.tcp_segments + other.tcp_segments,
            reassembly_blocks: self.reassembly_blocks + other.reassembly_blocks,
            frames: self.frames + other.frames,
        }
    }
}

impl Host {
    /// Packet memory, and who holds it.
    pub fn buffers(&self) -> BufferInfo {
        let pool = &self.core.pool;
        let tcp = self.core.tcp_memory().bytes / base::BLOCK as u64;
        let frames: usize = self.interfaces().map(|interface| interface.queued).sum();
        BufferInfo {
            blocks: pool.capacity(),
            in_use: pool.in_use(),
            high_water: pool.high_water(),
            lent: pool.lent(),
            segments: pool.segments_in_use(),
            tcp_segments: u32::try_from(tcp).unwrap_or(u32::MAX),
            reassembly_blocks: self.net.occupancy().reassembly_blocks,
            frames: u32::try_from(frames).unwrap_or(u32::MAX),
        }
    }

    /// How full the tables of TCP are.
    pub fn tcp_tables(&self) -> TcpTables {
        self.tcp.tables()
    }

    /// Adds a route that says more than the way, or gives one that is there another metric and these: for what begins from now on,
    /// but packets take the MTU at once.
    ///
    /// # Errors
    /// As [`Host::add_route`]; `Value` for metrics no route can have.
    pub fn add_route_with(
        &mut self,
        now: Instant,
        route: Route,
        metrics: RouteMetrics,
    ) -> Result<(), ConfigError> {
        self.core.now = now;
        self.net.add_route(route, metrics)
    }

    /// What a route that is there says besides the way.
    pub fn route_metrics(&self, route: &Route) -> Option<RouteMetrics> {
        self.net.routes.metrics(route)
    }

    /// Every interface but the loopback.
    pub fn interfaces(&self) -> impl Iterator<Item = InterfaceInfo<'_>> {
        let interfaces = self.net.interfaces.iter().enumerate();
        interfaces.map(|(n, interface)| InterfaceInfo {
            id: InterfaceId(n as u8),
            name: &interface.name,
            mac: interface.mac,
            mtu: interface.mtu,
            mtu_v6: interface.mtu_v6,
            offloads: interface.offloads,
            queued: interface.queue.len(),
        })
    }

    /// Every address, in any state.
    pub fn addresses(&self) -> impl Iterator<Item = AddressInfo> + '_ {
        let entries = self.net.addresses.entries.iter();
        entries.map(|(_, entry)| AddressInfo {
            interface: entry.interface,
            cidr: entry.cidr,
            state: entry.state,
            origin: entry.origin,
        })
    }

    /// Every route, in no order that matters.
    pub fn routes(&self) -> impl Iterator<Item = (&Route, RouteOrigin)> {
        self.net.routes.iter()
    }

    /// The first invariant that does not hold, for simulations and tests: visits everything, and allocates. To be called between
    /// calls, while no packet memory is held outside.
    ///
    /// # Errors
    /// What is broken, and where.
    pub fn audit(&self) -> Result<(), String> {
        self.tcp.audit(&self.core)?;
        let pool = &self.core.pool;
        let held = self.tcp.segments_held(pool)
            + self.net.segments_held(pool)
            + self.udp.segments_held(pool);
        if held == pool.segments_in_use() as usize {
            Ok(())
        } else {
            let used = pool.segments_in_use();
            Err(format!("queues hold {held} of {used} segments of memory"))
        }
    }

    /// Timers that are armed, for leak tests.
    pub fn timers(&self) -> u32 {
        self.core.wheel.len()
    }

    /// What the internet layer holds.
    pub fn net_occupancy(&self) -> NetOccupancy {
        self.net.occupancy()
    }
}
