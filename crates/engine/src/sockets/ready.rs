//! What sockets in foreign hands are ready for: epoll's bits, read from their records.
//!
//! What does not live here: waiting for one direction only (`waiters`), sets of sockets.
//!
//! Invariant: readiness is a level, computed from the record under its lock; a task that was told to wait is woken by every
//! change that may make one of its bits true.

use std::task::{Context, Poll, Waker};

use stack::Ready;

use super::listener::TcpListenerSocket;
use super::tcp::{Phase, TcpSocket, TcpState};
use super::udp::{UdpHandle, UdpState};
use super::waiters::Waiters;
use crate::mailbox::lock;

/// Bits that are of the sending direction only. Every other may come with what is received.
const SENDING: Ready = Ready(Ready::WRITABLE.0 | Ready::WRITE_CLOSED.0);

/// Remembers the task on the sides of a socket that `interest` is about; whom that evicts must be woken.
#[must_use = "evicted tasks must be woken"]
fn register(
    cx: &Context<'_>,
    interest: Ready,
    readers: &mut Waiters,
    writers: &mut Waiters,
) -> [Option<Waker>; 2] {
    let reads = interest.0 & !SENDING.0 != 0;
    let writes = interest.intersects(SENDING | Ready::HUP);
    [
        reads.then(|| readers.register(cx)).flatten(),
        writes.then(|| writers.register(cx)).flatten(),
    ]
}

fn bits(bits: &[(Ready, bool)]) -> Ready {
    let mut ready = Ready::NONE;
    for &(bit, set) in bits {
        if set {
            ready |= bit;
        }
    }
    ready
}

impl TcpState {
    /// `unread`: the reader holds bytes it has taken off the record.
    fn readiness(&self, unread: bool, limit: usize) -> Ready {
        if self.phase == Phase::Connecting && !self.stopped {
            return Ready::NONE;
        }
        let over = self.phase == Phase::Dead || self.stopped;
        let read_closed = over || self.rx_end || self.read_shut;
        bits(&[
            (Ready::READABLE, unread || self.read_ready()),
            (Ready::WRITABLE, self.write_ready(limit)),
            (Ready::READ_CLOSED, read_closed),
            (Ready::WRITE_CLOSED, over || self.write_shut),
            (Ready::HUP, over || (read_closed && self.write_shut)),
            (Ready::ERROR, self.error.is_some()),
        ])
    }
}

impl UdpState {
    fn readiness(&self, limit: usize) -> Ready {
        let over = self.stopped || self.dead;
        bits(&[
            (Ready::READABLE, self.read_ready()),
            (Ready::WRITABLE, self.write_ready(limit)),
            (Ready::HUP, over),
            (Ready::ERROR, self.error.is_some()),
        ])
    }
}

impl TcpSocket {
    /// What the connection is ready for now.
    pub fn readiness(&self) -> Ready {
        let unread = !lock(&self.shared.reader).queue.is_empty();
        let limit = self.shared.door.limits.send;
        self.shared.state().readiness(unread, limit)
    }

    /// What of `interest` the connection is ready for; if nothing, the task is woken when that may have changed.
    pub fn poll_ready(&self, cx: &mut Context<'_>, interest: Ready) -> Poll<Ready> {
        let reader = lock(&self.shared.reader);
        let mut guard = self.shared.state();
        let state = &mut *guard;
        let limit = self.shared.door.limits.send;
        let ready = state.readiness(!reader.queue.is_empty(), limit) & interest;
        if !ready.is_empty() {
            return Poll::Ready(ready);
        }
        let evicted = register(cx, interest, &mut state.readers, &mut state.writers);
        drop(guard);
        drop(reader);
        evicted.into_iter().flatten().for_each(Waker::wake);
        Poll::Pending
    }
}

impl TcpListenerSocket {
    /// What the listener is ready for now: [`Ready::READABLE`] when there may be a connection to accept.
    pub fn readiness(&self) -> Ready {
        let state = self.shared.state();
        bits(&[
            (Ready::READABLE, state.ready()),
            (Ready::HUP, state.stopped || state.dead),
        ])
    }
}

impl UdpHandle {
    /// What the socket is ready for now.
    pub fn readiness(&self) -> Ready {
        self.shared.state().readiness(self.shared.door.limits.send)
    }

    /// What of `interest` the socket is ready for; if nothing, the task is woken when that may have changed.
    pub fn poll_ready(&self, cx: &mut Context<'_>, interest: Ready) -> Poll<Ready> {
        let mut guard = self.shared.state();
        let state = &mut *guard;
        let ready = state.readiness(self.shared.door.limits.send) & interest;
        if !ready.is_empty() {
            return Poll::Ready(ready);
        }
        let evicted = register(cx, interest, &mut state.readers, &mut state.writers);
        drop(guard);
        evicted.into_iter().flatten().for_each(Waker::wake);
        Poll::Pending
    }
}
