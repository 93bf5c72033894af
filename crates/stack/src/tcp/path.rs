//! Where a connection's packets go: a small direct-mapped cache in front of routing.
//!
//! What does not live here: routes and neighbours (`net`).
//!
//! Invariant: an entry is used only while its epoch is that of `Net`, so a changed route, address or neighbour slot is never
//! missed. A wrong guess costs one route lookup, nothing else.

use wire::Addr;

use crate::context::Core;
use crate::net::{InterfaceId, Net, Path};

const SLOTS: usize = 1024;

#[derive(Debug, Clone, Copy)]
struct Slot {
    remote: Addr,
    device: Option<InterfaceId>,
    path: Path,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Paths {
    slots: Vec<Option<Slot>>,
}

impl Paths {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![None; SLOTS],
        }
    }

    #[inline]
    fn slot(remote: &Addr, local: &Addr) -> usize {
        let [.., a, b, c, d] = remote.0;
        let [.., e, f, g, h] = local.0;
        let mix =
            u32::from_ne_bytes([a, b, c, d]) ^ u32::from_ne_bytes([e, f, g, h]).rotate_left(7);
        (mix.wrapping_mul(0x9e37_79b1) >> 22) as usize % SLOTS
    }

    /// The path from `local` to `remote`, by `device` if given; `None` when there is no route now.
    #[inline]
    pub(crate) fn get(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        remote: &Addr,
        local: &Addr,
        device: Option<InterfaceId>,
    ) -> Option<Path> {
        let at = Self::slot(remote, local);
        if let Some(Some(slot)) = self.slots.get(at)
            && slot.remote == *remote
            && slot.device == device
            && slot.path.src == *local
            && slot.path.epoch == net.epoch()
        {
            return Some(slot.path);
        }
        let path = net.route(core, *remote, Some(*local), device).ok()?;
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Some(Slot {
                remote: *remote,
                device,
                path,
            });
        }
        Some(path)
    }
}
