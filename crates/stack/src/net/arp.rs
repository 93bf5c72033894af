//! ARP.

use base::Chain;

use super::{InterfaceId, Net};
use crate::context::Core;

impl Net {
    /// An ARP packet; the chain begins with the ARP header.
    pub(super) fn arp_input(&mut self, core: &mut Core, _interface: InterfaceId, chain: Chain) {
        core.pool.free(chain);
    }
}
