//! Duplicate address detection.

use super::{AddressEntry, Net};
use crate::context::Core;

impl Net {
    /// An address was entered in state TENTATIVE; `index` names it in `addresses.entries`.
    pub(super) fn address_added(&mut self, _core: &mut Core, index: u32) {
        if let Some(entry) = self.addresses.entries.at_mut(index) {
            entry.state = super::AddressState::Preferred;
        }
    }

    /// An address was taken away.
    pub(super) fn address_removed(&mut self, _core: &mut Core, _entry: &AddressEntry) {}

    pub(super) fn address_timer(&mut self, _core: &mut Core, _index: u32, _extra: u16) {}
}
