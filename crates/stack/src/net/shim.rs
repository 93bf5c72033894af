//! Stand-ins for parts of the internet layer that come with it.

use base::Packet;
use wire::Addr;

use super::{AddressEntry, AddressState, Addresses, InterfaceId, Net, Route};
use crate::context::Core;
use crate::error::ConfigError;

impl Addresses {
    pub(crate) fn find(&self, addr: &Addr) -> Option<u32> {
        self.entries
            .iter()
            .find(|(_, e)| e.cidr.addr() == *addr)
            .map(|(k, _)| k.index)
    }

    pub(crate) fn on(&self, interface: InterfaceId) -> impl Iterator<Item = (u32, &AddressEntry)> {
        self.entries
            .iter()
            .filter(move |(_, e)| e.interface == interface)
            .map(|(k, e)| (k.index, e))
    }
}

impl Net {
    pub(super) fn set_address_state(&mut self, index: u32, state: AddressState) {
        if let Some(e) = self.addresses.entries.at_mut(index) {
            e.state = state;
        }
        self.changed();
    }

    pub(super) fn changed(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    pub(super) fn transmit(&mut self, core: &mut Core, interface: InterfaceId, frame: Packet) {
        match self.interfaces.get_mut(usize::from(interface.0)) {
            Some(link) if link.queue.len() < link.queue_max => link.queue.push_back(frame),
            _ => core.drop_packet(frame.chain, crate::Drop::TransmitQueueFull),
        }
    }

    pub(super) fn enter_address(
        &mut self,
        core: &mut Core,
        entry: AddressEntry,
    ) -> Result<u32, ConfigError> {
        let key = self
            .addresses
            .entries
            .insert(entry)
            .ok_or(ConfigError::TableFull("addresses"))?;
        self.address_added(core, key.index);
        Ok(key.index)
    }

    pub(super) fn exit_address(&mut self, core: &mut Core, index: u32) {
        if let Some(entry) = self.addresses.entries.remove_at(index) {
            self.address_removed(core, index, &entry);
        }
    }

    pub(super) fn learn_route(&mut self, route: Route) -> bool {
        self.shim_routes.push(route);
        true
    }

    pub(super) fn unlearn_route(&mut self, route: &Route) {
        self.shim_routes.retain(|r| r != route);
    }
}
impl Net {
    pub(super) fn advertised_routes(&self) -> impl Iterator<Item = &Route> {
        self.shim_routes.iter()
    }
}
