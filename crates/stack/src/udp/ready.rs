//! The list of sockets with something to report, linked by index through the sockets.

use base::Slab;

use super::{NONE, Socket, Udp};
use crate::socket::{Event, Ready, SocketId, SocketKind};

/// Ends of the list, oldest first.
#[derive(Debug)]
pub(super) struct ReadyList {
    first: u32,
    last: u32,
}

impl ReadyList {
    pub(super) const fn new() -> Self {
        Self {
            first: NONE,
            last: NONE,
        }
    }

    /// Notes new readiness of a socket and lists it, once.
    pub(super) fn raise(&mut self, sockets: &mut Slab<Socket>, at: u32, ready: Ready) {
        let Some(socket) = sockets.at_mut(at) else {
            return;
        };
        socket.pending |= ready;
        if socket.listed {
            return;
        }
        socket.listed = true;
        socket.ready_next = NONE;
        socket.ready_previous = self.last;
        match sockets.at_mut(core::mem::replace(&mut self.last, at)) {
            Some(last) => last.ready_next = at,
            None => self.first = at,
        }
    }

    /// Takes a socket off the list, if it is on it.
    pub(super) fn unlink(&mut self, sockets: &mut Slab<Socket>, at: u32) {
        let Some(socket) = sockets.at_mut(at) else {
            return;
        };
        if !core::mem::replace(&mut socket.listed, false) {
            return;
        }
        let (previous, next) = (socket.ready_previous, socket.ready_next);
        match sockets.at_mut(previous) {
            Some(previous) => previous.ready_next = next,
            None => self.first = next,
        }
        match sockets.at_mut(next) {
            Some(next) => next.ready_previous = previous,
            None => self.last = previous,
        }
    }
}

impl Udp {
    /// The next socket whose readiness changed and still holds, with its readiness now.
    pub(crate) fn pop_ready(&mut self) -> Option<Event> {
        loop {
            let at = self.ready.first;
            let key = self.sockets.key_of(at)?;
            self.ready.unlink(&mut self.sockets, at);
            let socket = self.sockets.at_mut(at)?;
            let pending = core::mem::replace(&mut socket.pending, Ready::NONE);
            let ready = socket.level();
            if ready.intersects(pending) {
                return Some(Event {
                    socket: SocketId::new(SocketKind::Udp, key),
                    token: socket.token,
                    ready,
                    raised: pending,
                });
            }
        }
    }
}
