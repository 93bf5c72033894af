//! A relay on the host: what connects to it is connected on to somewhere else, bytes and ends passed both ways.

use std::collections::HashMap;
use std::net::SocketAddr;

use stack::{Event, Shutdown, SocketError, SocketId};

use crate::machine::{App, Turn};

const CHUNK: usize = 64 << 10;

/// The relay. The other end is reached over the same cable.
pub struct Relay {
    listener: SocketId,
    to: SocketAddr,
    /// Each socket's partner.
    pairs: HashMap<SocketId, SocketId>,
    /// What is on its way to a socket.
    pipes: HashMap<SocketId, Pipe>,
}

#[derive(Default)]
struct Pipe {
    pending: Vec<u8>,
    ended: bool,
    shut: bool,
}

impl Relay {
    /// Relays what connects to `listener` on to `to`.
    #[must_use]
    pub fn new(listener: SocketId, to: SocketAddr) -> Self {
        Self {
            listener,
            to,
            pairs: HashMap::new(),
            pipes: HashMap::new(),
        }
    }

    fn accept(&mut self, turn: &mut Turn<'_>) {
        while let Ok((near, _)) = turn.host.tcp_accept(turn.now, self.listener) {
            let mut options = turn.host.tcp_defaults();
            options.nodelay = true;
            let Ok(far) = turn.host.tcp_connect(turn.now, self.to, None, &options) else {
                let _ = turn.host.abort(turn.now, near);
                continue;
            };
            for (a, b) in [(near, far), (far, near)] {
                self.pairs.insert(a, b);
                self.pipes.insert(a, Pipe::default());
            }
        }
    }

    /// Moves what can be moved from one socket to another; an error ends both.
    fn pump(
        turn: &mut Turn<'_>,
        pipe: &mut Pipe,
        from: SocketId,
        to: SocketId,
    ) -> Result<(), SocketError> {
        let mut buffer = vec![0; CHUNK];
        loop {
            if !pipe.pending.is_empty() {
                match turn.host.tcp_send(turn.now, to, &pipe.pending) {
                    Ok(n) => drop(pipe.pending.drain(..n)),
                    // Being connected counts as being full.
                    Err(SocketError::WouldBlock | SocketError::NotConnected) => return Ok(()),
                    Err(e) => return Err(e),
                }
                continue;
            }
            if pipe.ended {
                if !pipe.shut {
                    turn.host.tcp_shutdown(turn.now, to, Shutdown::Write)?;
                    pipe.shut = true;
                }
                return Ok(());
            }
            match turn.host.tcp_recv(turn.now, from, &mut buffer) {
                Ok(0) => pipe.ended = true,
                Ok(n) => pipe.pending.extend_from_slice(&buffer[..n]),
                Err(SocketError::WouldBlock | SocketError::NotConnected) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn advance(&mut self, turn: &mut Turn<'_>, socket: SocketId) {
        let Some(&partner) = self.pairs.get(&socket) else {
            return;
        };
        let mut done = true;
        for (from, to) in [(socket, partner), (partner, socket)] {
            // Pipes are named by where they lead.
            let pipe = self.pipes.entry(to).or_default();
            if Self::pump(turn, pipe, from, to).is_err() {
                for end in [socket, partner] {
                    let _ = turn.host.abort(turn.now, end);
                    self.forget(end);
                }
                return;
            }
            done &= pipe.shut;
        }
        if done {
            for end in [socket, partner] {
                let _ = turn.host.close(turn.now, end);
                self.forget(end);
            }
        }
    }

    fn forget(&mut self, socket: SocketId) {
        self.pairs.remove(&socket);
        self.pipes.remove(&socket);
    }
}

impl App for Relay {
    fn turn(&mut self, turn: &mut Turn<'_>, events: &[Event]) -> bool {
        for event in events {
            if event.socket == self.listener {
                self.accept(turn);
            } else {
                self.advance(turn, event.socket);
            }
        }
        true
    }
}
