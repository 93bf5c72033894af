//! A UDP socket in the hands of another thread.
//!
//! Sending is asynchronous: a datagram is taken when there is room in the queue, and what the stack says of it (no route, too
//! long for the path, ICMP errors) is the error of a later call, as ICMP errors are with the kernel.
//!
//! Invariant: a queue holds at most its limit in bytes, each datagram counted with [`OVERHEAD`]. When the receive queue is
//! full, datagrams wait in the stack's own queue, which drops and counts what does not fit.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Instant;

use stack::SocketError;

use super::error::{io_error, stopped};
use super::waiters::{Waiters, block, park};
use super::{Door, TOKEN_NONE};
use crate::mailbox::lock;

/// What a queued datagram counts beside its bytes.
pub(crate) const OVERHEAD: usize = 128;

/// The largest UDP payload over IPv4 (RFC 768, RFC 791) and, without jumbograms, over IPv6.
const PAYLOAD_MAX_V4: usize = 65_507;
const PAYLOAD_MAX_V6: usize = 65_527;

/// A datagram on its way; the address is where it came from, or where it goes if that is not the connected peer.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) data: Box<[u8]>,
    pub(crate) address: Option<SocketAddr>,
}

impl Datagram {
    pub(crate) fn charge(&self) -> usize {
        self.data.len() + OVERHEAD
    }
}

/// Options of a UDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UdpSettings {
    /// SO_BROADCAST: may send to broadcast addresses.
    pub broadcast: bool,
    /// Time to live (hop limit) of unicast packets; the host's default when `None`.
    pub ttl: Option<u8>,
}

/// What both sides see.
#[derive(Debug, Default)]
pub(crate) struct UdpState {
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    /// `peer` was changed since the shard looked.
    pub(crate) peer_changed: bool,
    pub(crate) error: Option<SocketError>,
    pub(crate) stopped: bool,
    pub(crate) dead: bool,
    pub(crate) rx: VecDeque<Datagram>,
    pub(crate) rx_len: usize,
    pub(crate) rx_paused: bool,
    pub(crate) tx: VecDeque<Datagram>,
    pub(crate) tx_len: usize,
    pub(crate) options: UdpSettings,
    /// `options` were changed since the shard looked.
    pub(crate) options_changed: bool,
    pub(crate) closed: bool,
    pub(crate) readers: Waiters,
    pub(crate) writers: Waiters,
}

impl UdpState {
    fn failed(&self) -> bool {
        self.error.is_some() || self.stopped || self.dead
    }

    fn take_error(&mut self) -> Option<io::Error> {
        match self.error.take() {
            Some(error) => Some(io_error(error)),
            None if self.stopped => Some(stopped()),
            None if self.dead => Some(io_error(SocketError::BadSocket)),
            None => None,
        }
    }
}

/// One UDP socket, shared by its handle and the shard.
#[derive(Debug)]
pub(crate) struct UdpShared {
    state: Mutex<UdpState>,
    pub(crate) readable: Condvar,
    pub(crate) writable: Condvar,
    pub(super) noticed: AtomicBool,
    pub(crate) token: AtomicU64,
    pub(crate) door: Arc<Door>,
    pub(crate) bind: SocketAddr,
}

impl UdpShared {
    pub(crate) fn new(door: Arc<Door>, bind: SocketAddr) -> Self {
        Self {
            state: Mutex::default(),
            readable: Condvar::new(),
            writable: Condvar::new(),
            noticed: AtomicBool::new(false),
            token: AtomicU64::new(TOKEN_NONE),
            door,
            bind,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, UdpState> {
        lock(&self.state)
    }

    /// The socket is gone: whoever waits learns it.
    pub(crate) fn fail(&self, error: Option<SocketError>) {
        let mut state = self.state();
        state.error = state.error.or(error);
        state.dead = true;
        state.tx.clear();
        state.tx_len = 0;
        let (readers, writers) = (state.readers.take(), state.writers.take());
        drop(state);
        readers.wake(&self.readable);
        writers.wake(&self.writable);
    }

    /// The host is stopping: what was sent is still on its way.
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

/// A UDP socket, used from any thread. Dropping it closes it, after what was sent is on its way.
#[derive(Debug)]
pub struct UdpHandle {
    shared: Arc<UdpShared>,
}

impl UdpHandle {
    pub(crate) fn new(shared: Arc<UdpShared>) -> Self {
        Self { shared }
    }

    /// Blocks until the shard has answered the request to bind.
    pub fn wait_bound(&self) -> io::Result<()> {
        let mut state = self.shared.state();
        while state.local.is_none() && !state.failed() {
            state = block(state, &self.shared.writable, None, |state| {
                &mut state.writers
            })
            .0;
        }
        match state.local {
            Some(_) if !state.failed() => Ok(()),
            _ => state.take_error().map_or(Ok(()), Err),
        }
    }

    /// Ready when the shard has answered the request to bind.
    pub fn poll_bound(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.state();
        if state.local.is_none() && !state.failed() {
            return park(state, cx, |state| &mut state.writers);
        }
        Poll::Ready(match state.local {
            Some(_) if !state.failed() => Ok(()),
            _ => state.take_error().map_or(Ok(()), Err),
        })
    }

    /// Queues a datagram for `to`, or for the connected peer.
    ///
    /// Errors: `WouldBlock`; EMSGSIZE beyond what UDP can carry; EDESTADDRREQ without any destination; an earlier
    /// datagram's error, once.
    pub fn try_send(&self, data: &[u8], to: Option<SocketAddr>) -> io::Result<usize> {
        let mut state = self.shared.state();
        if let Some(error) = state.take_error() {
            return Err(error);
        }
        let Some(target) = to.or(state.peer) else {
            return Err(rustix::io::Errno::DESTADDRREQ.into());
        };
        if data.len()
            > if target.is_ipv4() {
                PAYLOAD_MAX_V4
            } else {
                PAYLOAD_MAX_V6
            }
        {
            return Err(io_error(SocketError::MessageTooLong));
        }
        let broadcast = matches!(target, SocketAddr::V4(v4) if v4.ip().is_broadcast());
        if broadcast && !state.options.broadcast {
            return Err(io_error(SocketError::PermissionDenied));
        }
        let datagram = Datagram {
            data: data.into(),
            address: to,
        };
        if state.tx_len > 0 && state.tx_len + datagram.charge() > self.shared.door.limits.send {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.tx_len += datagram.charge();
        state.tx.push_back(datagram);
        drop(state);
        self.shared.notice();
        Ok(data.len())
    }

    /// Takes (or with `peek` looks at) the next datagram; what does not fit into `buf` is cut off.
    ///
    /// Errors: `WouldBlock`; the socket's error, once.
    pub fn try_recv(&self, buf: &mut [u8], peek: bool) -> io::Result<(usize, SocketAddr)> {
        let mut state = self.shared.state();
        // Linux gives a pending ICMP error before data.
        if let Some(error) = state.take_error() {
            return Err(error);
        }
        let Some(first) = state.rx.front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let n = first.data.len().min(buf.len());
        buf[..n].copy_from_slice(&first.data[..n]);
        let from = first.address.unwrap_or(self.shared.bind);
        if peek {
            return Ok((n, from));
        }
        let charge = first.charge();
        let taken = state.rx.pop_front();
        state.rx_len = state.rx_len.saturating_sub(charge);
        let resume = state.rx_paused && state.rx_len <= self.shared.door.limits.receive / 2;
        state.rx_paused &= !resume;
        drop(state);
        drop(taken);
        if resume {
            self.shared.notice();
        }
        Ok((n, from))
    }

    /// Blocks until there may be a datagram or an error; false if `deadline` came first.
    pub fn wait_readable(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.shared.state();
        while state.rx.is_empty() && !state.failed() {
            let in_time;
            (state, in_time) = block(state, &self.shared.readable, deadline, |state| {
                &mut state.readers
            });
            if !in_time {
                return false;
            }
        }
        true
    }

    /// Blocks until there may be room to send; false if `deadline` came first.
    pub fn wait_writable(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.shared.state();
        while state.tx_len > self.shared.door.limits.send / 2 && !state.failed() {
            let in_time;
            (state, in_time) = block(state, &self.shared.writable, deadline, |state| {
                &mut state.writers
            });
            if !in_time {
                return false;
            }
        }
        true
    }

    /// Ready when there may be a datagram or an error; else the task is woken then.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.shared.state();
        if !state.rx.is_empty() || state.failed() {
            return Poll::Ready(());
        }
        park(state, cx, |state| &mut state.readers)
    }

    /// Ready when there may be room to send; else the task is woken then.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.shared.state();
        if state.tx_len <= self.shared.door.limits.send / 2 || state.failed() {
            return Poll::Ready(());
        }
        park(state, cx, |state| &mut state.writers)
    }

    /// Sets the peer: where `send` goes and whose datagrams are received.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        let mut state = self.shared.state();
        if state.stopped {
            return Err(stopped());
        }
        if state
            .local
            .is_some_and(|local| local.is_ipv4() != peer.is_ipv4() && !local.ip().is_unspecified())
        {
            return Err(rustix::io::Errno::AFNOSUPPORT.into());
        }
        state.peer = Some(peer);
        state.peer_changed = true;
        drop(state);
        self.shared.notice();
        Ok(())
    }

    /// The bound address; the port is the real one, also if 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared
            .state()
            .local
            .ok_or_else(|| io_error(SocketError::InvalidInput))
    }

    /// The connected peer.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.shared
            .state()
            .peer
            .ok_or_else(|| io_error(SocketError::NotConnected))
    }

    /// The pending error, as SO_ERROR: reported once.
    pub fn take_error(&self) -> Option<io::Error> {
        self.shared.state().error.take().map(io_error)
    }

    /// The options as they are.
    pub fn options(&self) -> UdpSettings {
        self.shared.state().options
    }

    /// Changes options. The shard applies them before it looks at anything sent afterwards.
    ///
    /// Errors: `InvalidInput` for a time to live of nought; the host has stopped.
    pub fn set_options(&self, change: impl FnOnce(&mut UdpSettings)) -> io::Result<()> {
        let mut state = self.shared.state();
        if state.stopped {
            return Err(stopped());
        }
        let mut options = state.options;
        change(&mut options);
        if options.ttl == Some(0) {
            return Err(io_error(SocketError::InvalidInput));
        }
        state.options = options;
        state.options_changed = true;
        drop(state);
        self.shared.notice();
        Ok(())
    }
}

impl Drop for UdpHandle {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        let dead = state.dead;
        drop(state);
        if !dead {
            self.shared.notice();
        }
    }
}
