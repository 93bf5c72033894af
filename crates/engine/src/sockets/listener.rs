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

use stack::{SocketError, TcpOptions};

use super::error::{io_error, stopped};
use super::tcp::TcpSocket;
use super::waiters::{Waiters, block, park};
use super::{Door, TOKEN_NONE};
use crate::mailbox::lock;

/// Connections the shard accepts before the application asks, at most.
const ACCEPT_AHEAD: usize = 128;

/// As close(2) of a listener: the peers of connections nobody accepted get a reset.
fn reset(unclaimed: VecDeque<(TcpSocket, SocketAddr)>) {
    for (socket, _) in unclaimed {
        socket.reset();
    }
}

/// What both sides see.
#[derive(Debug, Default)]
pub(crate) struct ListenerState {
    /// The address it listens on, once it does.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) error: Option<SocketError>,
    pub(crate) stopped: bool,
    /// The stack has let go of it.
    pub(crate) dead: bool,
    pub(crate) accepted: VecDeque<(TcpSocket, SocketAddr)>,
    /// The shard holds back because of the bound and wants to hear when there is room.
    pub(crate) paused: bool,
    pub(crate) options: TcpOptions,
    pub(crate) closed: bool,
    pub(crate) acceptors: Waiters,
}

impl ListenerState {
    /// Whether so few wait that the shard should accept more.
    pub(crate) fn runs_low(&self, ahead: usize) -> bool {
        self.accepted.len() <= ahead / 2
    }

    fn ready(&self) -> bool {
        !self.accepted.is_empty() || self.error.is_some() || self.stopped || self.dead
    }

    fn take_error(&mut self) -> Option<io::Error> {
        match self.error.take() {
            Some(error) => Some(io_error(error)),
            None if self.stopped => Some(stopped()),
            None if self.dead => Some(io_error(SocketError::InvalidInput)),
            None => None,
        }
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
    pub(crate) fn new(door: Arc<Door>, bind: SocketAddr, backlog: usize) -> Self {
        let options = door.tcp_options.clone();
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

    /// It listens no more: whoever waits learns it. Connections nobody accepted are reset.
    pub(crate) fn fail(&self, error: Option<SocketError>) {
        let mut state = self.state();
        state.error = state.error.or(error);
        state.dead = true;
        let unclaimed = std::mem::take(&mut state.accepted);
        let acceptors = state.acceptors.take();
        drop(state);
        acceptors.wake(&self.acceptable);
        reset(unclaimed);
    }

    /// Queues accepted connections for the application.
    pub(crate) fn hand_over(&self, handles: Vec<(TcpSocket, SocketAddr)>) {
        let mut state = self.state();
        state.accepted.extend(handles);
        let acceptors = state.acceptors.take();
        drop(state);
        acceptors.wake(&self.acceptable);
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
        self.fail(None);
    }
}

/// A TCP listener, used from any thread. Dropping it closes it and resets the connections nobody accepted.
#[derive(Debug)]
pub struct TcpListenerSocket {
    shared: Arc<ListenerShared>,
}

impl TcpListenerSocket {
    pub(crate) fn new(shared: Arc<ListenerShared>) -> Self {
        Self { shared }
    }

    /// Whether it listens, once that is decided: `None` while the shard has not answered.
    pub fn listening(&self) -> Option<io::Result<()>> {
        let mut state = self.shared.state();
        if state.local.is_some() && !state.dead {
            return Some(Ok(()));
        }
        state.take_error().map(Err)
    }

    /// The next connection. Errors: `WouldBlock`; an error of the listener, once.
    pub fn try_accept(&self) -> io::Result<(TcpSocket, SocketAddr)> {
        let mut state = self.shared.state();
        let Some(next) = state.accepted.pop_front() else {
            return Err(state
                .take_error()
                .unwrap_or_else(|| io::ErrorKind::WouldBlock.into()));
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
        let mut state = self.shared.state();
        while !state.ready() {
            let in_time;
            (state, in_time) = block(state, &self.shared.acceptable, deadline, |state| {
                &mut state.acceptors
            });
            if !in_time {
                return false;
            }
        }
        true
    }

    /// Ready when there may be a connection; else the task is woken then.
    pub fn poll_acceptable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.shared.state();
        if state.ready() {
            return Poll::Ready(());
        }
        park(state, cx, |state| &mut state.acceptors)
    }

    /// Blocks until the shard has answered the request to listen.
    pub fn wait_listening(&self) -> io::Result<()> {
        let mut state = self.shared.state();
        while state.local.is_none() && !state.ready() {
            state = block(state, &self.shared.acceptable, None, |state| {
                &mut state.acceptors
            })
            .0;
        }
        drop(state);
        self.listening().unwrap_or(Ok(()))
    }

    /// Ready when the shard has answered the request to listen.
    pub fn poll_listening(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = self.shared.state();
        if state.local.is_none() && !state.ready() {
            return park(state, cx, |state| &mut state.acceptors);
        }
        drop(state);
        Poll::Ready(self.listening().unwrap_or(Ok(())))
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
        state.options = options;
        Ok(())
    }

    /// The pending error, reported once.
    pub fn take_error(&self) -> Option<io::Error> {
        self.shared.state().error.take().map(io_error)
    }
}

impl Drop for TcpListenerSocket {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        let dead = state.dead;
        let unclaimed = std::mem::take(&mut state.accepted);
        drop(state);
        reset(unclaimed);
        if !dead {
            self.shared.notice();
        }
    }
}
