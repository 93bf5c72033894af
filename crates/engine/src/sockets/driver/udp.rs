//! One UDP socket between its record and the stack.

use std::sync::Arc;

use stack::{Ready, SocketError, SocketId};

use super::{Fate, Tools};
use crate::app::ShardCx;
use crate::sockets::udp::UdpShared;

/// The driver's part of a UDP socket.
#[derive(Debug)]
pub(super) struct UdpEntry {
    shared: Arc<UdpShared>,
    id: SocketId,
}

impl UdpEntry {
    /// Binds where the application asked.
    pub(super) fn bind(
        _cx: &mut ShardCx<'_>,
        _shared: &Arc<UdpShared>,
    ) -> Result<Self, SocketError> {
        Err(SocketError::NotSupported)
    }

    pub(super) fn id(&self) -> SocketId {
        self.id
    }

    pub(super) fn shared(&self) -> &Arc<UdpShared> {
        &self.shared
    }

    /// Moves what can be moved.
    pub(super) fn look(
        &mut self,
        _cx: &mut ShardCx<'_>,
        _tools: &mut Tools<'_>,
        _ready: Ready,
    ) -> Fate {
        Fate::Lives
    }
}
