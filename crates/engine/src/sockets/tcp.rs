//! A TCP socket in the hands of another thread: the state shared between it and the shard, and the application's side.
//!
//! What does not live here: the shard's side (`driver/tcp.rs`), TCP itself (the stack), blocking and tokio faces.
//!
//! Bytes cross in queues of owned chunks. Each side takes the other's whole queue with one swap under a short lock and
//! copies outside of it.
//!
//! Invariant: `rx_len` counts every byte the shard has handed over and the application has not read; the shard hands over
//! no more while it is at the limit, so that the TCP window closes. `tx_len` counts every byte the application wrote and the
//! stack has not taken; writing stops at the limit. So a socket's memory is bounded by its two limits.
//! Invariant: lock order is `reader`, then `state`. The shard never takes `reader`.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base::epoll::RAISED_OUT;
use stack::{SocketError, TcpInfo, TcpOptions};

use super::chunk::{ByteQueue, Chunk, SMALL, gather};
use super::error::{io_error, stopped};
use super::lent::Lender;
use super::moving::MoveOrder;
use super::splice::SpliceOrder;
use super::waiters::{Waiters, block, block_until, park, poll_until};
use super::watch::{Raised, Watches};
use super::{Door, TOKEN_NONE};
use crate::mailbox::lock;
use crate::reply::{Reply, Sender, reply};

/// Where a connection is, as far as its owner can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Asked for; the shard may not know yet.
    Connecting,
    /// Data can flow.
    Open,
    /// The stack has let go of it: what is queued can be read, nothing else.
    Dead,
}

/// How the last handle went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// As close(2): a FIN after what was written, or a reset if data was left unread.
    Graceful,
    /// As close(2) with a linger time of nought: a reset.
    Abort,
}

/// What both sides see.
#[derive(Debug)]
pub(crate) struct TcpState {
    pub(crate) phase: Phase,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: SocketAddr,
    pub(crate) error: Option<SocketError>,
    /// Why nothing can be sent any more, while there is something to receive before that is told to who reads.
    pub(crate) unsent: Option<SocketError>,
    /// Who sends has been told: the error is not told again.
    pub(crate) unsent_told: bool,
    /// The host has stopped: every call says so.
    pub(crate) stopped: bool,
    /// The shard has let go of this socket: it reads notices about it no more.
    pub(crate) gone: bool,

    /// Shard to application: bytes the application has not taken yet.
    pub(crate) rx: ByteQueue,
    pub(crate) rx_len: usize,
    /// Nothing follows what is queued.
    pub(crate) rx_end: bool,
    /// That is because the peer said so with its FIN.
    pub(crate) fin: bool,
    /// The shard holds back because of the limit and wants to hear when there is room.
    pub(crate) rx_paused: bool,

    /// Application to shard: bytes the shard has not taken yet.
    pub(crate) tx: ByteQueue,
    pub(crate) tx_len: usize,
    /// `shutdown(Write)` was called: a FIN follows what is queued.
    pub(crate) write_shut: bool,
    /// `shutdown(Read)` was called.
    pub(crate) read_shut: bool,

    pub(crate) options: TcpOptions,
    /// `options` were changed since the shard looked.
    pub(crate) options_changed: bool,
    /// What was last said of quick acknowledgments (TCP_QUICKACK), and whether the shard has heard.
    pub(crate) quick_ack: Option<bool>,
    pub(crate) quick_ack_changed: bool,
    pub(crate) info_wanted: Vec<Sender<TcpInfo>>,
    pub(crate) closed: Option<Close>,

    /// A splice that the shard has not seen yet.
    pub(crate) splice: Option<Box<SpliceOrder>>,
    /// A splice reads here, or writes here.
    pub(crate) spliced: bool,
    pub(crate) fed: bool,
    /// It is being moved to another shard, and the shard that has it may not know yet.
    pub(crate) moving: bool,
    pub(crate) moves: Option<MoveOrder>,

    pub(crate) readers: Waiters,
    pub(crate) writers: Waiters,
    pub(crate) watches: Watches,
    /// Somebody found no room to write, and wants to hear of it (Linux's SOCK_NOSPACE).
    pub(crate) nospace: bool,
}

/// The application's own end of the receive queue.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) queue: ByteQueue,
    /// Bytes read and not yet taken off `rx_len`.
    pub(super) unaccounted: usize,
}

impl Reader {
    /// The next chunk, read.
    pub(super) fn take_chunk(&mut self) -> Option<Chunk> {
        let chunk = self.queue.pop()?;
        self.unaccounted += chunk.len();
        Some(chunk)
    }
}

/// One socket, shared by its handles and the shard.
#[derive(Debug)]
pub(crate) struct TcpShared {
    state: Mutex<TcpState>,
    pub(crate) readable: Condvar,
    pub(crate) writable: Condvar,
    pub(super) reader: Mutex<Reader>,
    /// The reader holds bytes it has taken off the record.
    pub(super) unread: AtomicBool,
    /// There once somebody has asked for blocks.
    pub(crate) lender: OnceLock<Arc<Lender>>,
    /// A notice about this socket is in the mailbox.
    pub(super) noticed: AtomicBool,
    /// The driver's name for it; `TOKEN_NONE` until it has one.
    pub(crate) token: AtomicU64,
    pub(crate) door: Arc<Door>,
    /// Whether it was ever moved; and that to the shard it is on since.
    pub(super) moved: AtomicBool,
    pub(super) at: Mutex<Option<Arc<Door>>>,
    /// Where the application asked to be bound.
    pub(crate) bind: Option<SocketAddr>,
}

impl TcpShared {
    pub(crate) fn new(
        door: Arc<Door>,
        phase: Phase,
        remote: SocketAddr,
        local: Option<SocketAddr>,
    ) -> Self {
        let options = door.tcp_options.clone();
        Self {
            state: Mutex::new(TcpState {
                phase,
                local,
                remote,
                error: None,
                unsent: None,
                unsent_told: false,
                stopped: false,
                gone: false,
                rx: ByteQueue::default(),
                rx_len: 0,
                rx_end: false,
                fin: false,
                rx_paused: false,
                tx: ByteQueue::default(),
                tx_len: 0,
                write_shut: false,
                read_shut: false,
                options,
                options_changed: false,
                quick_ack: None,
                quick_ack_changed: false,
                info_wanted: Vec::new(),
                closed: None,
                splice: None,
                spliced: false,
                fed: false,
                moving: false,
                moves: None,
                readers: Waiters::default(),
                writers: Waiters::default(),
                watches: Watches::default(),
                nospace: false,
            }),
            readable: Condvar::new(),
            writable: Condvar::new(),
            reader: Mutex::new(Reader::default()),
            unread: AtomicBool::new(false),
            lender: OnceLock::new(),
            noticed: AtomicBool::new(false),
            token: AtomicU64::new(TOKEN_NONE),
            door,
            moved: AtomicBool::new(false),
            at: Mutex::new(None),
            bind: local,
        }
    }

    /// Whether somebody panicked with the state in hand: read without its lock.
    pub(super) fn is_poisoned(&self) -> bool {
        self.state.is_poisoned()
    }

    /// The shared state. Held for a few instructions only.
    pub(crate) fn state(&self) -> MutexGuard<'_, TcpState> {
        lock(&self.state)
    }

    /// The reader's queue has changed. What takes bytes off the record calls this before it unlocks it.
    pub(super) fn keep_unread(&self, reader: &Reader) {
        self.unread
            .store(!reader.queue.is_empty(), Ordering::Relaxed);
    }

    /// Moves what is on the record to the reader's end; whether the shard wants to hear of the room.
    pub(super) fn take_over(&self, state: &mut TcpState, reader: &mut Reader) -> bool {
        reader.queue.append(&mut state.rx);
        self.keep_unread(reader);
        let read = std::mem::take(&mut reader.unaccounted);
        state.rx_len = state.rx_len.saturating_sub(read);
        let resume = state.rx_paused && state.rx_len <= self.door.limits.receive / 2;
        state.rx_paused &= !resume;
        resume
    }

    /// Nothing can be sent any more, though there is still something to receive.
    pub(crate) fn fail_sending(&self, error: Option<SocketError>) {
        let mut state = self.state();
        state.phase = Phase::Dead;
        if !state.unsent_told {
            state.unsent = state.unsent.or(error);
        }
        let mut unsent = std::mem::take(&mut state.tx);
        state.tx_len = 0;
        let writers = state.writers.take();
        let raised = state.raise_room();
        drop(state);
        unsent.clear(&self.door.chunks);
        writers.wake(&self.writable);
        raised.tell();
    }

    /// A splice has moved on `n` bytes that were handed over before it began.
    pub(crate) fn read_by_splice(&self, n: usize) {
        let mut state = self.state();
        state.rx_len = state.rx_len.saturating_sub(n);
    }

    /// The end of what was spliced here: nothing is written behind it.
    pub(crate) fn end_writing(&self) {
        let mut state = self.state();
        state.write_shut = true;
        let writers = state.writers.take();
        let raised = state.watches.raise(0);
        drop(state);
        writers.wake(&self.writable);
        raised.tell();
    }

    /// The connection is over and the shard lets go of it: whoever waits learns it.
    pub(crate) fn fail(&self, error: Option<SocketError>) {
        let mut state = self.state();
        state.phase = Phase::Dead;
        let untold = error.filter(|_| !state.unsent_told);
        state.error = state.error.or(untold);
        state.unsent = None;
        state.rx_end = true;
        state.gone = true;
        let mut unsent = std::mem::take(&mut state.tx);
        state.tx_len = 0;
        let unanswered = std::mem::take(&mut state.info_wanted);
        let splice = state.splice.take().map(|mut order| {
            order.ahead.append(&mut state.rx);
            state.spliced = false;
            (order, std::mem::take(&mut state.rx_len), state.has_ended())
        });
        let order = state.moves.take();
        let (readers, writers) = (state.readers.take(), state.writers.take());
        let raised = state.watches.raise(0);
        drop(state);
        drop(unanswered);
        unsent.clear(&self.door.chunks);
        if let Some((order, n, ended)) = splice {
            order.conclude(self, n, ended);
        }
        if let Some((_, answer)) = order {
            answer.send(Err(io_error(SocketError::NotConnected)));
        }
        readers.wake(&self.readable);
        writers.wake(&self.writable);
        raised.tell();
    }

    /// The host is stopping: handles are of no use from now on; what was written is still sent.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.closed = state.closed.or(Some(Close::Graceful));
        let (readers, writers) = (state.readers.take(), state.writers.take());
        let raised = state.watches.raise(0);
        drop(state);
        readers.wake(&self.readable);
        writers.wake(&self.writable);
        raised.tell();
    }

    /// The host is gone.
    pub(crate) fn fail_stopped(&self) {
        self.state().stopped = true;
        self.fail(None);
    }
}

impl TcpState {
    /// The pending error, once; or that the host has stopped, always.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        match self.take_pending() {
            Some(error) => Some(io_error(error)),
            None if self.stopped => Some(stopped()),
            None => None,
        }
    }

    /// The pending error, once, for who does not read.
    fn take_pending(&mut self) -> Option<SocketError> {
        self.unsent_told |= self.unsent.is_some();
        let unsent = self.unsent.take();
        self.error.take().or(unsent)
    }

    /// Whether [`TcpState::take_error`] has one to tell.
    pub(super) fn holds_error(&self) -> bool {
        self.error.or(self.unsent).is_some() || self.stopped
    }

    /// Nothing follows what was received because the peer said so.
    pub(super) fn has_ended(&self) -> bool {
        self.fin && self.error.is_none()
    }

    /// There is room to write: for the sets of those who found none.
    pub(crate) fn raise_room(&mut self) -> Raised {
        let wanted = std::mem::take(&mut self.nospace);
        self.watches.raise_if(wanted, RAISED_OUT)
    }

    pub(super) fn read_ready(&self) -> bool {
        !self.rx.is_empty() || self.rx_end || self.read_shut || self.error.is_some() || self.stopped
    }

    pub(super) fn write_ready(&self, limit: usize) -> bool {
        match self.phase {
            Phase::Connecting => false,
            Phase::Dead => true,
            Phase::Open => {
                self.tx_len < limit || self.write_shut || self.error.is_some() || self.stopped
            }
        }
    }
}

/// A TCP connection, used from any thread. Dropping it closes the connection as close(2) does.
///
/// The `try_` calls never block and give `WouldBlock`; `wait_` calls block until the next `try_` may succeed; `poll_` calls
/// do the same for a task. All of them may wake early.
#[derive(Debug)]
pub struct TcpSocket {
    pub(super) shared: Arc<TcpShared>,
}

impl TcpSocket {
    pub(crate) fn new(shared: Arc<TcpShared>) -> Self {
        Self { shared }
    }

    /// Whether the connection is established, once that is decided: `None` while it is under way.
    ///
    /// # Errors
    /// Why it failed, once.
    pub fn connected(&self) -> Option<io::Result<()>> {
        let mut state = self.shared.state();
        match (state.phase, state.take_error()) {
            (Phase::Connecting, _) => None,
            (_, Some(error)) => Some(Err(error)),
            _ => Some(Ok(())),
        }
    }

    /// Reads what is there into `bufs`; 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock`; the connection's error, once, after all data before it.
    pub fn try_read(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let chunks = &self.shared.door.chunks;
        let mut reader = lock(&self.shared.reader);
        let mut n = reader.queue.read(bufs, chunks);
        reader.unaccounted += n;
        self.shared.keep_unread(&reader);
        if n > 0 && reader.unaccounted < self.shared.door.limits.receive / 4 {
            return Ok(n);
        }
        if n > 0 || bufs.iter().all(|buf| buf.is_empty()) {
            // Why nothing follows is for a call that reads nothing.
            self.settle(&mut reader);
            return Ok(n);
        }
        let end = self.fetch(&mut reader);
        n = reader.queue.read(bufs, chunks);
        reader.unaccounted += n;
        self.shared.keep_unread(&reader);
        if n > 0 { Ok(n) } else { end.map(|()| 0) }
    }

    /// Moves what the shard has queued to the reader's end and settles the account.
    pub(super) fn settle(&self, reader: &mut Reader) {
        let mut state = self.shared.state();
        let resume = self.shared.take_over(&mut state, reader);
        drop(state);
        if resume {
            self.shared.notice();
        }
    }

    /// As [`TcpSocket::settle`]; then, if the reader has nothing at all: `Ok` at the end of the stream, else why there is nothing.
    pub(super) fn fetch(&self, reader: &mut Reader) -> io::Result<()> {
        let mut state = self.shared.state();
        let resume = self.shared.take_over(&mut state, reader);
        let end = if !reader.queue.is_empty() {
            Ok(())
        } else if let Some(error) = state.error.take() {
            Err(io_error(error))
        } else if state.fin || state.read_shut {
            Ok(())
        } else if state.stopped {
            Err(stopped())
        } else if state.rx_end {
            Ok(())
        } else {
            Err(io_error(SocketError::WouldBlock))
        };
        drop(state);
        if resume {
            self.shared.notice();
        }
        end
    }

    /// As [`TcpSocket::try_read`], but what is read stays to be read again.
    ///
    /// # Errors
    /// As [`TcpSocket::try_read`].
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut reader = lock(&self.shared.reader);
        let end = self.fetch(&mut reader);
        match reader.queue.peek(buf) {
            0 if !buf.is_empty() => end.map(|()| 0),
            n => Ok(n),
        }
    }

    /// Takes as much of `bufs` as there is room for.
    ///
    /// # Errors
    /// `WouldBlock`; `BrokenPipe` after a shutdown or when the connection is over; the connection's error, once.
    pub fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.shared.state();
        match state.take_error() {
            Some(error) => Err(error),
            None => self.write(state, bufs),
        }
    }

    /// As [`TcpSocket::try_write`], for what follows bytes that were taken already: a call that took any tells how many, and the
    /// connection's error stays for the next.
    ///
    /// # Errors
    /// `WouldBlock`; `BrokenPipe` for whatever ends the call.
    pub fn try_write_on(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let state = self.shared.state();
        match state.holds_error() {
            true => Err(io_error(SocketError::BrokenPipe)),
            false => self.write(state, bufs),
        }
    }

    fn write<'a>(
        &'a self,
        mut state: MutexGuard<'a, TcpState>,
        bufs: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let door = &self.shared.door;
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        match state.phase {
            Phase::Connecting => return Err(io_error(SocketError::WouldBlock)),
            Phase::Dead => return Err(io_error(SocketError::BrokenPipe)),
            Phase::Open if state.write_shut => return Err(io_error(SocketError::BrokenPipe)),
            Phase::Open => {}
        }
        let n = wanted.min(door.limits.send.saturating_sub(state.tx_len));
        if n == 0 {
            return if wanted == 0 {
                Ok(0)
            } else {
                state.nospace = true;
                Err(io_error(SocketError::WouldBlock))
            };
        }
        // The room is ours from here on, and a shutdown waits for `tx_len` to reach nought: the copy needs no lock.
        state.tx_len += n;
        state.nospace |= n < wanted;
        if n <= SMALL {
            gather(bufs, n, &door.chunks, &mut state.tx);
        } else {
            drop(state);
            let mut copied = ByteQueue::default();
            gather(bufs, n, &door.chunks, &mut copied);
            state = self.shared.state();
            if state.phase == Phase::Dead {
                drop(state);
                copied.clear(&door.chunks);
                return Ok(n);
            }
            state.tx.append(&mut copied);
        }
        drop(state);
        self.shared.notice();
        Ok(n)
    }

    /// Blocks until there may be something to read, the stream has ended or failed; false if `deadline` came first.
    pub fn wait_readable(&self, deadline: Option<Instant>) -> bool {
        loop {
            let reader = lock(&self.shared.reader);
            let state = self.shared.state();
            if !reader.queue.is_empty() || state.read_ready() {
                return true;
            }
            drop(reader);
            let (_state, in_time) = block(state, &self.shared.readable, deadline, |state| {
                &mut state.readers
            });
            if !in_time {
                return false;
            }
        }
    }

    /// Blocks until there may be room to write, or the connection attempt has ended; false if `deadline` came first.
    pub fn wait_writable(&self, deadline: Option<Instant>) -> bool {
        let limit = self.shared.door.limits.send;
        block_until(
            self.shared.state(),
            &self.shared.writable,
            deadline,
            |state| &mut state.writers,
            |state| state.write_ready(limit),
        )
    }

    /// Ready when there may be something to read; else the task is woken then.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let reader = lock(&self.shared.reader);
        let state = self.shared.state();
        if !reader.queue.is_empty() || state.read_ready() {
            return Poll::Ready(());
        }
        park(state, cx, |state| &mut state.readers)
    }

    /// Ready when there may be room to write or the connection attempt has ended; else the task is woken then.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.shared.door.limits.send;
        poll_until(
            self.shared.state(),
            cx,
            |state| &mut state.writers,
            |state| state.write_ready(limit),
        )
    }

    /// Ends reading, writing or both, as shutdown(2).
    ///
    /// # Errors
    /// `NotConnected` when the connection is over or not there yet.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let mut state = self.shared.state();
        if state.stopped {
            return Err(stopped());
        }
        if state.phase != Phase::Open {
            return Err(io_error(SocketError::NotConnected));
        }
        state.read_shut |= how != Shutdown::Write;
        state.write_shut |= how != Shutdown::Read;
        let (readers, writers) = (state.readers.take(), state.writers.take());
        let raised = state.watches.raise(0);
        drop(state);
        readers.wake(&self.shared.readable);
        writers.wake(&self.shared.writable);
        raised.tell();
        self.shared.notice();
        Ok(())
    }

    /// Closes the connection with a reset.
    pub(crate) fn reset(self) {
        self.shared.state().options.linger = Some(Duration::ZERO);
    }

    /// This end's address.
    ///
    /// # Errors
    /// `NotConnected` while the connection is being set up: it has none yet.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared
            .state()
            .local
            .ok_or_else(|| io_error(SocketError::NotConnected))
    }

    /// The other end's address.
    ///
    /// # Errors
    /// `NotConnected` before the connection is established and when it is over.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let state = self.shared.state();
        match state.phase {
            Phase::Open => Ok(state.remote),
            _ => Err(io_error(SocketError::NotConnected)),
        }
    }

    /// The pending error, as SO_ERROR: reported once.
    pub fn take_error(&self) -> Option<io::Error> {
        self.shared.state().take_pending().map(io_error)
    }

    /// All options as they are.
    pub fn options(&self) -> TcpOptions {
        self.shared.state().options.clone()
    }

    /// Changes options. The shard applies them before it looks at anything written afterwards.
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
        if options != state.options {
            state.options = options;
            state.options_changed = true;
            drop(state);
            self.shared.notice();
        }
        Ok(())
    }

    /// Acknowledges at once from now on, or delays as usual (TCP_QUICKACK); TCP may change its mind later.
    ///
    /// # Errors
    /// The host has stopped.
    pub fn set_quick_ack(&self, quick: bool) -> io::Result<()> {
        let mut state = self.shared.state();
        if state.stopped {
            return Err(stopped());
        }
        state.quick_ack = Some(quick);
        state.quick_ack_changed = true;
        drop(state);
        self.shared.notice();
        Ok(())
    }

    /// What was last said to [`TcpSocket::set_quick_ack`]; a connection begins with quick acknowledgments.
    pub fn quick_ack(&self) -> bool {
        self.shared.state().quick_ack.unwrap_or(true)
    }

    /// What TCP knows of the connection (TCP_INFO). Answers `None` when the connection is over.
    pub fn info(&self) -> Reply<TcpInfo> {
        let (sender, answer) = reply();
        let mut state = self.shared.state();
        if state.phase == Phase::Open {
            state.info_wanted.push(sender);
            drop(state);
            self.shared.notice();
        }
        answer
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        let reader = lock(&self.shared.reader);
        let unread = !reader.queue.is_empty();
        drop(reader);
        let mut state = self.shared.state();
        // RFC 2525 section 2.17, RFC 1122 section 4.2.2.13: data that nobody will read is answered with a reset.
        let abort = state.options.linger == Some(Duration::ZERO) || unread || !state.rx.is_empty();
        state.closed = Some(if abort { Close::Abort } else { Close::Graceful });
        let gone = state.gone;
        let watches = std::mem::take(&mut state.watches);
        drop(state);
        watches.leave();
        if !gone {
            self.shared.notice();
        }
    }
}

#[cfg(test)]
mod tests;
