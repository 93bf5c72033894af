//! Multicast membership.

use wire::Addr;

use super::{Datagram, InterfaceId, Net};
use crate::config::Config;
use crate::context::Core;

#[derive(Debug)]
pub(super) struct Membership {}

impl Membership {
    pub(super) fn new(_config: &Config) -> Self {
        Self {}
    }

    /// Whether packets to `group` are taken in on `interface`.
    pub(super) fn is_member(&self, _interface: InterfaceId, _group: &Addr) -> bool {
        true
    }
}

impl Net {
    /// An IGMP message; its checksum is not verified yet.
    pub(super) fn igmp_input(&mut self, core: &mut Core, datagram: Datagram) {
        core.pool.free(datagram.chain);
    }

    /// A multicast listener message, its ICMPv6 checksum verified.
    pub(super) fn mld_input(&mut self, core: &mut Core, datagram: Datagram) {
        core.pool.free(datagram.chain);
    }

    pub(super) fn membership_timer(&mut self, _core: &mut Core, _index: u32, _extra: u16) {}
}
