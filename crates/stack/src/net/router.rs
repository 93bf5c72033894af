//! Router discovery.

use super::{InterfaceId, Net};
use crate::context::Core;

impl Net {
    /// An interface was added.
    pub(super) fn interface_added(&mut self, _core: &mut Core, _interface: InterfaceId) {}

    pub(super) fn router_timer(&mut self, _core: &mut Core, _index: u32, _extra: u16) {}
}
