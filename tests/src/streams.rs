//! The applications a host runs in these tests: connections that echo, or send and check known bytes.
//!
//! The kernel's side of the same streams does not live here, see [`crate::kernel`].
//!
//! Invariant: a connection is touched when it is added and when the host reports an event of it, and at no other time:
//! a missing event shows as a transfer that stops.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{self, Receiver, Sender};

use stack::{Event, Shutdown, SocketError, SocketId};

use crate::machine::{App, Turn};
use crate::{PATIENCE, Pattern};

/// Most bytes an echo keeps between reading and writing.
const ECHO_MAX: usize = 256 << 10;
const CHUNK: usize = 64 << 10;

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Sends back what it receives, and closes when the peer has.
    Echo,
    /// Sends so many bytes of one pattern, then its FIN, and expects so many of the other and a FIN.
    Exchange {
        /// What is sent.
        send: (Pattern, u64),
        /// What is expected.
        expect: (Pattern, u64),
    },
}

/// How one connection ended: the error in words if it is not as planned.
pub type Ended = Result<(), String>;

/// Any number of connections of one host: given ones, and those a listener takes.
pub struct Streams {
    listener: Option<(SocketId, Plan)>,
    streams: HashMap<SocketId, Stream>,
    first: Vec<SocketId>,
    ended: Sender<Ended>,
}

impl Streams {
    /// Serves what connects to `listener`. The receiver is told how each connection ended.
    #[must_use]
    pub fn serve(listener: SocketId, plan: Plan) -> (Self, Receiver<Ended>) {
        let (ended, receiver) = mpsc::channel();
        let this = Self {
            listener: Some((listener, plan)),
            streams: HashMap::new(),
            first: vec![listener],
            ended,
        };
        (this, receiver)
    }

    /// Runs these connections.
    #[must_use]
    pub fn of(sockets: &[SocketId], plan: Plan) -> (Self, Receiver<Ended>) {
        let (ended, receiver) = mpsc::channel();
        let streams = sockets.iter().map(|&socket| (socket, Stream::new(plan)));
        let this = Self {
            listener: None,
            streams: streams.collect(),
            first: sockets.to_vec(),
            ended,
        };
        (this, receiver)
    }

    fn accept(&mut self, turn: &mut Turn<'_>) {
        let Some((listener, plan)) = self.listener else {
            return;
        };
        while let Ok((socket, _)) = turn.host.tcp_accept(turn.now, listener) {
            self.streams.insert(socket, Stream::new(plan));
            self.advance(turn, socket);
        }
    }

    fn advance(&mut self, turn: &mut Turn<'_>, socket: SocketId) {
        let Some(stream) = self.streams.get_mut(&socket) else {
            return;
        };
        let result = match stream.advance(turn, socket) {
            Ok(false) => return,
            Ok(true) => turn.host.close(turn.now, socket).map_err(|e| e.to_string()),
            Err(why) => {
                let _ = turn.host.abort(turn.now, socket);
                Err(why)
            }
        };
        self.streams.remove(&socket);
        let _ = self.ended.send(result);
    }
}

impl App for Streams {
    fn turn(&mut self, turn: &mut Turn<'_>, events: &[Event]) -> bool {
        let known = std::mem::take(&mut self.first);
        for socket in known.into_iter().chain(events.iter().map(|e| e.socket)) {
            if self.listener.is_some_and(|(l, _)| l == socket) {
                self.accept(turn);
            } else {
                self.advance(turn, socket);
            }
        }
        self.listener.is_some() || !self.streams.is_empty()
    }
}

/// Waits until `n` connections have ended, all as planned.
///
/// # Panics
/// If one did not.
pub fn all_ended(ended: &Receiver<Ended>, n: usize) {
    for i in 0..n {
        match ended.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => panic!("stream {i} of {n} on the host: {why}"),
            Err(e) => panic!("stream {i} of {n} on the host did not end: {e}"),
        }
    }
}

struct Stream {
    plan: Plan,
    /// Bytes to be echoed.
    pending: VecDeque<u8>,
    sent: u64,
    received: u64,
    shut: bool,
    ended: bool,
    buffer: Vec<u8>,
}

impl Stream {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            pending: VecDeque::new(),
            sent: 0,
            received: 0,
            shut: false,
            ended: false,
            buffer: Vec::new(),
        }
    }

    /// Goes as far as it can; `true` when everything is done.
    fn advance(&mut self, turn: &mut Turn<'_>, socket: SocketId) -> Result<bool, String> {
        self.buffer.resize(CHUNK, 0);
        match self.plan {
            Plan::Echo => self.echo(turn, socket),
            Plan::Exchange { send, expect } => self.exchange(turn, socket, send, expect),
        }
    }

    fn echo(&mut self, turn: &mut Turn<'_>, socket: SocketId) -> Result<bool, String> {
        let mut blocked = false;
        loop {
            let (front, _) = self.pending.as_slices();
            if !front.is_empty() && !blocked {
                match turn.host.tcp_send(turn.now, socket, front) {
                    Ok(n) => drop(self.pending.drain(..n)),
                    Err(SocketError::WouldBlock) => blocked = true,
                    Err(e) => return Err(format!("echo, sending: {e}")),
                }
                continue;
            }
            if self.ended || self.pending.len() >= ECHO_MAX {
                break;
            }
            match turn.host.tcp_recv(turn.now, socket, &mut self.buffer[..]) {
                Ok(0) => self.ended = true,
                Ok(n) => self.pending.extend(&self.buffer[..n]),
                Err(SocketError::WouldBlock) => break,
                Err(e) => return Err(format!("echo, receiving: {e}")),
            }
        }
        Ok(self.ended && self.pending.is_empty())
    }

    fn exchange(
        &mut self,
        turn: &mut Turn<'_>,
        socket: SocketId,
        (pattern, total): (Pattern, u64),
        (expected, expected_total): (Pattern, u64),
    ) -> Result<bool, String> {
        while self.sent < total {
            let n = CHUNK.min((total - self.sent) as usize);
            pattern.fill(self.sent, &mut self.buffer[..n]);
            match turn.host.tcp_send(turn.now, socket, &self.buffer[..n]) {
                Ok(n) => self.sent += n as u64,
                Err(SocketError::WouldBlock) => break,
                Err(e) => return Err(format!("sending after {} bytes: {e}", self.sent)),
            }
        }
        if self.sent == total && !self.shut {
            self.shut = true;
            turn.host
                .tcp_shutdown(turn.now, socket, Shutdown::Write)
                .map_err(|e| format!("shutting down: {e}"))?;
        }
        while !self.ended {
            match turn.host.tcp_recv(turn.now, socket, &mut self.buffer[..]) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    expected.check(self.received, &self.buffer[..n])?;
                    self.received += n as u64;
                }
                Err(SocketError::WouldBlock) => break,
                Err(e) => return Err(format!("receiving after {} bytes: {e}", self.received)),
            }
        }
        if self.ended && self.received != expected_total {
            return Err(format!(
                "the stream ended after {} bytes of {expected_total}",
                self.received
            ));
        }
        Ok(self.ended && self.shut)
    }
}
