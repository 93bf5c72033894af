//! The neighbour table.

use base::{Instant, Packet};
use wire::{Addr, Mac};

use super::{InterfaceId, Net};
use crate::context::Core;

/// Where a neighbour was when it was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NeighbourId(pub(crate) u32);

impl NeighbourId {
    /// No entry: it must be looked up by address.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

#[derive(Debug)]
pub(crate) struct Neighbours {}

impl Neighbours {
    pub(crate) fn new() -> Self {
        Self {}
    }

    pub(crate) fn mac(
        &self,
        _now: Instant,
        _id: NeighbourId,
        _interface: InterfaceId,
        _addr: &Addr,
    ) -> Option<Mac> {
        None
    }

    pub(crate) fn resolve(
        &mut self,
        _core: &mut Core,
        _interface: InterfaceId,
        _addr: &Addr,
    ) -> NeighbourId {
        NeighbourId::NONE
    }
}

impl Net {
    /// A frame, complete but for its destination MAC address, is for a neighbour that [`Neighbours::mac`] did not vouch for:
    /// sends it, or queues it and asks.
    pub(super) fn send_unresolved(
        &mut self,
        core: &mut Core,
        _interface: InterfaceId,
        _next_hop: &Addr,
        frame: Packet,
    ) {
        core.pool.free(frame.chain);
    }

    pub(super) fn neighbour_timer(&mut self, _core: &mut Core, _index: u32, _extra: u16) {}
}
