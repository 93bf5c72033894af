//! One TCP listener between its record and the stack.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use stack::{SocketError, SocketId, TcpOptions};

use super::Fate;
use crate::app::ShardCx;
use crate::sockets::error::io_error;
use crate::sockets::listener::ListenerShared;
use crate::sockets::{TcpSocket, shown};

/// A connection the stack gave, and where it comes from.
pub(super) type Accepted = (SocketId, SocketAddr);

/// Connections that nobody accepted, and where they come from.
pub(super) type Unclaimed = VecDeque<(TcpSocket, SocketAddr)>;

/// What a look at a listener brings up.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) accepted: Vec<Accepted>,
    /// Connections that nobody accepted before it was closed, and another listener that shares its address.
    pub(super) left: Option<(SocketId, Unclaimed)>,
}

/// The driver's part of a listener.
#[derive(Debug)]
pub(super) struct ListenerEntry {
    shared: Arc<ListenerShared>,
    id: SocketId,
    /// The options the stack gives accepted connections.
    inherited: TcpOptions,
}

impl ListenerEntry {
    /// Listens where the application asked.
    pub(super) fn listen(
        cx: &mut ShardCx<'_>,
        shared: &Arc<ListenerShared>,
    ) -> Result<Self, SocketError> {
        let options = shared.state().options.clone();
        let id = cx
            .host
            .tcp_listen(cx.now, shared.bind(), shared.backlog, &options)?;
        Ok(Self {
            shared: shared.clone(),
            id,
            inherited: options,
        })
    }

    pub(super) fn id(&self) -> SocketId {
        self.id
    }

    pub(super) fn shared(&self) -> &Arc<ListenerShared> {
        &self.shared
    }

    /// The options accepted connections must be given, if they are not those they have.
    pub(super) fn options(&self) -> (TcpOptions, bool) {
        let options = match self.shared.face() {
            Some(face) => face.state().options.clone(),
            None => self.inherited.clone(),
        };
        let changed = options != self.inherited;
        (options, changed)
    }

    /// Accepts what there is room for.
    pub(super) fn look(&mut self, cx: &mut ShardCx<'_>, found: &mut Found) -> Fate {
        let mut state = self.shared.state();
        let (shares, stopped) = (std::mem::take(&mut state.share), state.stopped);
        let (closed, mut waiting) = (state.closed, state.accepted.len());
        drop(state);
        if !self.shared.is_first() {
            // Without anybody who asks for them, this part is about to be closed.
            let face = self.shared.face();
            waiting = face.map_or(usize::MAX, |face| face.state().accepted.len());
        }
        let room = self.shared.ahead().saturating_sub(waiting);
        for (mut parts, answer) in shares {
            let how = parts.pop().unwrap_or_default();
            match cx.host.reuseport_select(self.id, how) {
                Ok(()) => self.shared.share_next(parts, answer),
                Err(error) => answer.send(Err(io_error(error))),
            }
        }
        if closed {
            let heir = cx.host.reuseport_heir(self.id).filter(|_| !stopped);
            found.left = heir.map(|heir| (heir, self.shared.unclaimed()));
            let _ = cx.host.close(cx.now, self.id);
            self.shared.fail();
            self.shared.close_next();
            return Fate::Gone;
        }
        while found.accepted.len() < room {
            match cx.host.tcp_accept(cx.now, self.id) {
                Ok((id, peer)) => {
                    let peer = shown(peer, self.shared.bind());
                    found.accepted.push((id, peer));
                }
                Err(_) => return Fate::Lives,
            }
        }
        self.pause();
        Fate::Lives
    }

    /// Out of room: either the application will say when there is some, or it has made some meanwhile.
    fn pause(&self) {
        let Some(face) = self.shared.face() else {
            return;
        };
        let mut state = face.state();
        if state.runs_low(self.shared.ahead()) {
            drop(state);
            self.shared.notice();
        } else {
            state.paused = true;
        }
    }
}
