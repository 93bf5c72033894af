//! A TCP listener in the hands of another thread.
//!
//! The shard accepts ahead of the application, up to the backlog given to `listen` and at most [`ACCEPT_AHEAD`]; what is
//! beyond waits in the stack's own queue, whose limit is the backlog again.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
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
    /// How its group is to choose, and who waits to hear that it does, until the shard has heard of it.
    pub(crate) share: Vec<(ReusePort, Answer)>,
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
    pub(crate) bind: SocketAddr,
    pub(crate) backlog: usize,
}

impl ListenerShared {
    pub(crate) fn new(
        door: Arc<Door>,
        bind: SocketAddr,
        backlog: usize,
        options: TcpOptions,
        opened: Answer,
    ) -> Self {
        Self {
            state: Mutex::new(ListenerState {
                options,
                opened: Some(opened),
                ..ListenerState::default()
            }),
            acceptable: Condvar::new(),
            noticed: AtomicBool::new(false),
            token: AtomicU64::new(TOKEN_NONE),
            door,
            bind,
            backlog,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, ListenerState> {
        lock(&self.state)
    }

    /// How many connections may be accepted before the application asks.
    pub(crate) fn ahead(&self) -> usize {
        self.backlog.clamp(1, ACCEPT_AHEAD)
    }

    /// It listens now, or never will.
    pub(crate) fn opened(&self, local: Result<SocketAddr, SocketError>) {
        let mut state = self.state();
        state.local = local.ok();
        state.dead = local.is_err();
        let opened = state.opened.take();
        drop(state);
        if let Some(opened) = opened {
            opened.send(local.map(drop).map_err(io_error));
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
    pub(crate) fn inherits(&self) -> bool {
        let state = self.state();
        !state.closed && state.accepted.len() <= self.backlog
    }

    /// Queues accepted connections for the application.
    pub(crate) fn hand_over(&self, handles: Vec<(TcpSocket, SocketAddr)>) {
        let mut state = self.state();
        state.accepted.extend(handles);
        let acceptors = state.acceptors.take();
        let raised = state.watches.raise(RAISED_IN);
        drop(state);
        acceptors.wake(&self.acceptable);
        raised.tell();
    }

    /// The host is stopping.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.closed = true;
    }

    /// The host is gone.
    pub(crate) fn fail_stopped(&self) {
        self.state().stopped = true;
        self.fail();
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

    /// The next connection. Errors: `WouldBlock`; the host has stopped.
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
            self.shared.notice();
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

    /// Changes the options connections accepted from now on begin with.
    ///
    /// Errors: `InvalidInput` for a time to live of nought; the host has stopped.
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
        state.options = options;
        Ok(())
    }

    /// Sets how it and those that share its address divide what comes: what comes after the answer.
    ///
    /// Errors: `InvalidInput` without [`TcpOptions::reuse_port`].
    pub fn share_by(&self, how: ReusePort) -> Reply<io::Result<()>> {
        let (sender, answer) = reply();
        let mut state = self.shared.state();
        if !state.dead {
            state.share.push((how, sender));
            drop(state);
            self.shared.notice();
        }
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
