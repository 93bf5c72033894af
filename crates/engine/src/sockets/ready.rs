//! What sockets in foreign hands are ready for, read from their records: [`Ready`] for a task that waits for one of them, and
//! epoll's bits, by the rules of Linux's tcp_poll and datagram_poll, for sets.
//!
//! What does not live here: waiting for one direction only (`waiters`), sets of sockets (`watch`).
//!
//! Invariant: readiness is a level, computed from the record under its lock; a task that was told to wait is woken by every
//! change that may make one of its bits true.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use base::epoll::{
    EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLRDNORM, EPOLLWRBAND, EPOLLWRNORM,
};
use stack::Ready;

use super::listener::{ListenerShared, TcpListenerSocket};
use super::tcp::{Phase, TcpShared, TcpSocket, TcpState};
use super::udp::{UdpHandle, UdpShared, UdpState};
use super::waiters::Waiters;
use crate::mailbox::lock;

/// Bits that are of the sending direction only. Every other may come with what is received.
const SENDING: Ready = Ready(Ready::WRITABLE.0 | Ready::WRITE_CLOSED.0);

const READ: u32 = EPOLLIN | EPOLLRDNORM;
const WRITE: u32 = EPOLLOUT | EPOLLWRNORM;
/// Of a socket that is of no use any more.
const OVER: u32 = READ | WRITE | EPOLLRDHUP | EPOLLHUP;

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

fn level(bits: &[(u32, bool)]) -> u32 {
    let set = bits.iter().filter(|(_, set)| *set);
    set.fold(0, |level, (bits, _)| level | bits)
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
            (Ready::ERROR, self.error.or(self.unsent).is_some()),
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

impl TcpShared {
    /// What the connection is ready for now, as Linux's tcp_poll tells it. Who finds no room to write in it hears when there is.
    pub(super) fn poll_level(&self) -> u32 {
        let mut state = self.state();
        if state.phase == Phase::Connecting && !state.stopped {
            return 0;
        }
        // Set before what is on the record goes to the reader, under this lock: data is seen in one place or the other.
        let unread = self.unread.load(Ordering::Relaxed) || !state.rx.is_empty();
        // A connection that is over ends for its reader when he was given everything.
        let receive_shut = state.rx_end || state.read_shut || state.stopped;
        let send_shut = state.write_shut || state.phase == Phase::Dead || state.stopped;
        let room = state.tx_len < self.door.limits.send;
        state.nospace |= !(room || send_shut);
        level(&[
            (READ, unread || receive_shut),
            (EPOLLRDHUP, receive_shut),
            (WRITE, room || send_shut),
            (EPOLLHUP, receive_shut && send_shut),
            (EPOLLERR, state.error.is_some()),
        ])
    }
}

impl ListenerShared {
    /// What the listener is ready for now.
    pub(super) fn poll_level(&self) -> u32 {
        let state = self.state();
        let over = state.stopped || state.dead;
        level(&[(READ, !state.accepted.is_empty()), (OVER, over)])
    }
}

impl UdpShared {
    /// What the socket is ready for now, as Linux's datagram_poll tells it. Who finds no room to write in it hears when there is.
    pub(super) fn poll_level(&self) -> u32 {
        let mut state = self.state();
        let over = state.stopped || state.dead;
        let room = state.tx_len <= self.door.limits.send / 2 || state.unsent.is_some() || over;
        state.nospace |= !room;
        level(&[
            (READ, !state.rx.is_empty()),
            (WRITE | EPOLLWRBAND, room),
            (OVER, over),
            (EPOLLERR, state.error.is_some()),
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
