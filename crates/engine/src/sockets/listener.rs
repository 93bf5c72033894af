//! A TCP listener in the hands of another thread.
//!
//! The shard accepts ahead of the application, up to the backlog given to `listen` and at most [`ACCEPT_AHEAD`]; what is
//! beyond waits in the stack's own queue, whose limit is the backlog again.
//!
//! On a host of several shards a listener has a part on each, and the first one has the queue of all. Parts are opened and closed
//! one after the other, in the order of the shards, each by the one before: so listeners that share an address have the same
//! numbers on every shard.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use base::epoll::RAISED_IN;
use stack::{ReusePort, SocketError, TcpOptions};

use super::error::{io_error, stopped};
use super::tcp::TcpSocket;
use super::waiters::{Waiters, block_until, poll_until};
use super::watch::Watches;
use super::{Answer, Door, TOKEN_NONE};
use crate::mailbox::lock;
use crate::reply::{Reply, reply};

/// Connections the shard accepts before the application asks, at most.
const ACCEPT_AHEAD: usize = 128;

/// As close(2) of a listener: the peers of connections nobody accepted get a reset.
pub(super) fn reset(unclaimed: VecDeque<(TcpSocket, SocketAddr)>) {
    for (socket, _) in unclaimed {
        socket.reset();
    }
}

/// What both sides see.
#[derive(Debug, Default)]
pub(crate) struct ListenerState {
    /// The address it listens on, once it does, and who waits to hear that.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) opened: Option<Answer>,
    pub(crate) stopped: bool,
    /// The stack has let go of it.
    pub(crate) dead: bool,
    pub(crate) accepted: VecDeque<(TcpSocket, SocketAddr)>,
    /// The shard holds back because of the bound and wants to hear when there is room.
    pub(crate) paused: bool,
    pub(crate) options: TcpOptions,
    /// How its group is to choose, on this shard (the last) and on those behind it, and who waits to hear that it does.
    pub(crate) share: Vec<(Vec<ReusePort>, Answer)>,
    pub(crate) closed: bool,
    pub(crate) acceptors: Waiters,
    pub(crate) watches: Watches,
}

impl ListenerState {
    /// Whether so few wait that the shard should accept more.
    pub(crate) fn runs_low(&self, ahead: usize) -> bool {
        self.accepted.len() <= ahead / 2
    }

    pub(super) fn ready(&self) -> bool {
        !self.accepted.is_empty() || self.stopped || self.dead
    }

    /// Why nobody will come any more.
    fn end(&self) -> Option<io::Error> {
        if self.stopped {
            return Some(stopped());
        }
        self.dead.then(|| io_error(SocketError::InvalidInput))
    }
}

/// One listener, shared by its handle and the shard.
#[derive(Debug)]
pub(crate) struct ListenerShared {
    state: Mutex<ListenerState>,
    pub(crate) acceptable: Condvar,
    pub(super) noticed: AtomicBool,
    pub(crate) token: AtomicU64,
    pub(crate) door: Arc<Door>,
    bind: SocketAddr,
    /// The port that the first part got; 0 before.
    port: AtomicU16,
    pub(crate) backlog: usize,
    /// The part with the queue, if it is not this one.
    first: OnceLock<Weak<Self>>,
    /// The part on the next shard.
    next: Option<Arc<Self>>,
}

impl ListenerShared {
    /// A listener with a part behind each door, and its first part.
    pub(crate) fn on_all(
        doors: &[Arc<Door>],
        bind: SocketAddr,
        backlog: usize,
        options: &TcpOptions,
        opened: Answer,
    ) -> Arc<Self> {
        let (door, others) = match doors {
            [first, others @ ..] => (first, others),
            [] => unreachable!("a host has a shard"),
        };
        let part = |door: &Arc<Door>, next| {
            Arc::new(Self::part(
                door.clone(),
                bind,
                backlog,
                options.clone(),
                next,
            ))
        };
        let next = others
            .iter()
            .rev()
            .fold(None, |next, door| Some(part(door, next)));
        let first = part(door, next);
        first.state().opened = Some(opened);
        for part in first.parts().skip(1) {
            let _ = part.first.set(Arc::downgrade(&first));
        }
        first
    }

    fn part(
        door: Arc<Door>,
        bind: SocketAddr,
        backlog: usize,
        options: TcpOptions,
        next: Option<Arc<Self>>,
    ) -> Self {
        Self {
            state: Mutex::new(ListenerState {
                options,
                ..ListenerState::default()
            }),
            acceptable: Condvar::new(),
            noticed: AtomicBool::new(false),
            token: AtomicU64::new(TOKEN_NONE),
            door,
            bind,
            port: AtomicU16::new(bind.port()),
            backlog,
            first: OnceLock::new(),
            next,
        }
    }

    /// This part and those on the shards behind it.
    fn parts(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::successors(Some(self), |part| part.next.as_ref())
    }

    /// Whether this part has the queue.
    pub(crate) fn is_first(&self) -> bool {
        self.first.get().is_none()
    }

    /// The part that the application's handle is about. `None` when the handle has gone, and that part with it.
    pub(crate) fn face(self: &Arc<Self>) -> Option<Arc<Self>> {
        match self.first.get() {
            Some(first) => first.upgrade(),
            None => Some(self.clone()),
        }
    }

    /// Where this part is to listen.
    pub(crate) fn bind(&self) -> SocketAddr {
        SocketAddr::new(self.bind.ip(), self.port.load(Ordering::Relaxed))
    }

    /// Whether somebody panicked with the state in hand: read without its lock.
    pub(super) fn is_poisoned(&self) -> bool {
        self.state.is_poisoned()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, ListenerState> {
        lock(&self.state)
    }

    /// How many connections may be accepted before the application asks.
    pub(crate) fn ahead(&self) -> usize {
        self.backlog.clamp(1, ACCEPT_AHEAD)
    }

    /// This part listens now, or never will: the next one's turn, or the application hears of it.
    pub(crate) fn opened(self: &Arc<Self>, local: Result<SocketAddr, SocketError>) {
        let first = self.is_first();
        let face = self.face().filter(|face| first || !face.state().closed);
        let Some(face) = face else {
            // Nobody wants it any more, and who closed the part before this one did not find this.
            self.state().closed = true;
            if local.is_ok() {
                self.notice();
            }
            return;
        };
        if let (Ok(local), Some(next), false) = (local, &self.next, face.state().closed) {
            next.port.store(local.port(), Ordering::Relaxed);
            return match next.introduce() {
                Ok(()) => {}
                Err(_) => face.told(Err(SocketError::NoBuffers)),
            };
        }
        face.told(local);
    }

    /// The application hears that all parts listen, or that they will not: then those that do are closed.
    fn told(self: &Arc<Self>, local: Result<SocketAddr, SocketError>) {
        let part_of_many = self.next.is_some();
        let mut state = self.state();
        state.local = local.ok();
        state.dead = local.is_err();
        state.closed |= local.is_err() && part_of_many;
        let opened = state.opened.take();
        drop(state);
        if local.is_err() && part_of_many && self.token.load(Ordering::Relaxed) != TOKEN_NONE {
            self.notice();
        }
        if let Some(opened) = opened {
            opened.send(local.map(drop).map_err(io_error));
        }
    }

    /// How its group is to choose, here (the last) and on the shards behind this one.
    fn share(self: &Arc<Self>, parts: Vec<ReusePort>, answer: Answer) {
        let mut state = self.state();
        if !state.dead {
            state.share.push((parts, answer));
            drop(state);
            self.notice();
        }
    }

    /// It does here: the next part's turn, or the application hears of it.
    pub(crate) fn share_next(&self, parts: Vec<ReusePort>, answer: Answer) {
        match &self.next {
            Some(next) => next.share(parts, answer),
            None => answer.send(Ok(())),
        }
    }

    /// This part is closed: so is the next, if it was opened.
    pub(crate) fn close_next(&self) {
        if let Some(next) = &self.next
            && next.token.load(Ordering::Relaxed) != TOKEN_NONE
        {
            next.state().closed = true;
            next.notice();
        }
    }

    /// It listens no more: whoever waits learns it. Connections nobody accepted are reset.
    pub(crate) fn fail(&self) {
        let mut state = self.state();
        state.dead = true;
        let _unanswered = (state.opened.take(), std::mem::take(&mut state.share));
        let unclaimed = std::mem::take(&mut state.accepted);
        let acceptors = state.acceptors.take();
        let raised = state.watches.raise(0);
        drop(state);
        acceptors.wake(&self.acceptable);
        raised.tell();
        reset(unclaimed);
    }

    /// Takes what nobody has accepted yet.
    pub(crate) fn unclaimed(&self) -> VecDeque<(TcpSocket, SocketAddr)> {
        std::mem::take(&mut self.state().accepted)
    }

    /// Whether it may inherit one more connection: as many as may wait.
    pub(crate) fn inherits(self: &Arc<Self>) -> bool {
        self.face().is_some_and(|face| {
            let state = face.state();
            !state.closed && state.accepted.len() <= self.backlog
        })
    }

    /// Queues accepted connections for the application. When it has closed the listener already they wait here until this part is
    /// closed, too, and goes to those who inherit them.
    pub(crate) fn hand_over(self: &Arc<Self>, handles: Vec<(TcpSocket, SocketAddr)>) {
        let Some(face) = self.face() else {
            return self.state().accepted.extend(handles);
        };
        let mut state = face.state();
        if !self.is_first() && (state.closed || state.dead) {
            drop(state);
            return self.state().accepted.extend(handles);
        }
        state.accepted.extend(handles);
        let acceptors = state.acceptors.take();
        let raised = state.watches.raise(RAISED_IN);
        drop(state);
        acceptors.wake(&face.acceptable);
        raised.tell();
    }

    /// The host is stopping.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.closed = true;
    }

    /// The host is gone.
    pub(crate) fn fail_stopped(self: &Arc<Self>) {
        self.state().stopped = true;
        self.fail();
        if let Some(face) = self.face() {
            // Who waits for all parts to be opened hears that they will not be.
            let unanswered = face.state().opened.take();
            drop(unanswered);
        }
    }
}

/// A TCP listener, used from any thread. Dropping it closes it and resets the connections nobody accepted; but others that share its
/// address inherit them.
#[derive(Debug)]
pub struct TcpListenerSocket {
    pub(super) shared: Arc<ListenerShared>,
}

impl TcpListenerSocket {
    pub(crate) fn new(shared: Arc<ListenerShared>) -> Self {
        Self { shared }
    }

    /// The next connection, and where it comes from.
    ///
    /// # Errors
    /// `WouldBlock` when there is none yet; the host has stopped.
    pub fn try_accept(&self) -> io::Result<(TcpSocket, SocketAddr)> {
        let mut state = self.shared.state();
        let Some(next) = state.accepted.pop_front() else {
            return Err(state
                .end()
                .unwrap_or_else(|| io_error(SocketError::WouldBlock)));
        };
        let resume = state.paused && state.runs_low(self.shared.ahead());
        state.paused &= !resume;
        drop(state);
        if resume {
            // Whichever of them it was that held back.
            self.shared.parts().for_each(ListenerShared::notice);
        }
        Ok(next)
    }

    /// Blocks until there may be a connection; false if `deadline` came first.
    pub fn wait_acceptable(&self, deadline: Option<Instant>) -> bool {
        block_until(
            self.shared.state(),
            &self.shared.acceptable,
            deadline,
            |state| &mut state.acceptors,
            ListenerState::ready,
        )
    }

    /// Ready when there may be a connection; else the task is woken then.
    pub fn poll_acceptable(&self, cx: &mut Context<'_>) -> Poll<()> {
        poll_until(
            self.shared.state(),
            cx,
            |state| &mut state.acceptors,
            ListenerState::ready,
        )
    }

    /// The address it listens on; the port is the real one, also if 0 was asked for.
    ///
    /// # Errors
    /// `InvalidInput` before it was opened ([`Opening`](crate::Opening)).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared
            .state()
            .local
            .ok_or_else(|| io_error(SocketError::InvalidInput))
    }

    /// The options accepted connections begin with.
    pub fn options(&self) -> TcpOptions {
        self.shared.state().options.clone()
    }

    /// Changes the options connections accepted from now on begin with, but for those that were settled when it was opened.
    ///
    /// # Errors
    /// `InvalidInput` for a time to live of nought; the host has stopped.
    pub fn set_options(&self, change: impl FnOnce(&mut TcpOptions)) -> io::Result<()> {
        let mut state = self.shared.state();
        if state.stopped {
            return Err(stopped());
        }
        let mut options = state.options.clone();
        change(&mut options);
        if options.ttl == Some(0) {
            return Err(io_error(SocketError::InvalidInput));
        }
        options.reuse_port = state.options.reuse_port;
        options.only_v6 = state.options.only_v6;
        options.device = state.options.device;
        state.options = options;
        Ok(())
    }

    /// Sets how it and those that share its address divide what comes: what comes after the answer.
    ///
    /// # Errors
    /// `InvalidInput` without [`TcpOptions::reuse_port`].
    pub fn share_by(&self, how: ReusePort) -> Reply<io::Result<()>> {
        let (sender, answer) = reply();
        let parts = self.shared.parts().count();
        self.shared.share(how.copies(parts), sender);
        answer
    }
}

impl Drop for TcpListenerSocket {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        let dead = state.dead;
        let unclaimed = match state.options.reuse_port && !dead {
            true => VecDeque::new(), // the shard knows who inherits them
            false => std::mem::take(&mut state.accepted),
        };
        let watches = std::mem::take(&mut state.watches);
        drop(state);
        watches.leave();
        reset(unclaimed);
        if !dead {
            self.shared.notice();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Mailbox;
    use crate::sockets::{Limits, Sockets};

    /// A part that is not opened, and that nobody waits for, is not tried again and again.
    #[test]
    fn a_part_that_nobody_wants_is_given_up() {
        let shards = [0, 1].map(|_| {
            let (mailbox, inbox) = Mailbox::new(16).unwrap();
            let sockets = Sockets::new(mailbox, Limits::default(), TcpOptions::default());
            (sockets.door().clone(), inbox)
        });
        let doors = shards.each_ref().map(|(door, _)| door.clone());
        let [_, (_, mut second)] = shards;
        let (bind, (sender, answer)) = ("10.0.0.1:80".parse().unwrap(), reply());
        let first = ListenerShared::on_all(&doors, bind, 8, &TcpOptions::default(), sender);
        let next = first.parts().nth(1).unwrap().clone();
        let mut notices = || {
            let mut messages = Vec::new();
            second.drain(&mut messages);
            messages.len()
        };
        first.opened(Ok(bind));
        assert_eq!(notices(), 1, "the next part's turn");
        drop((TcpListenerSocket::new(first), answer));
        next.taken();
        next.opened(Err(SocketError::NoBuffers));
        assert_eq!(notices(), 0);
        next.opened(Ok(bind));
        assert_eq!(notices(), 1, "it is to be closed");
    }
}
