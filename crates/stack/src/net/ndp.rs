//! Neighbour discovery.

use super::{Datagram, Net};
use crate::context::Core;

impl Net {
    /// A neighbour discovery message (ICMPv6 133 to 137) that came in one piece, its ICMPv6 checksum verified.
    pub(super) fn ndp_input(&mut self, core: &mut Core, datagram: Datagram) {
        core.pool.free(datagram.chain);
    }
}
