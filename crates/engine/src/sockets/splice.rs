//! Splices of connections in foreign hands: the shard moves what one receives to where another sends, and nobody touches the bytes.
//!
//! What does not live here: the shard's side (`driver/splice.rs`), how references move (the stack).
//!
//! Invariant: a connection is spliced to at most one other at a time, and at most one is spliced to it.
//! Invariant: no two records are locked at once.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use rustix::io::Errno;
use stack::SocketError;

use super::chunk::ByteQueue;
use super::error::{io_error, stopped};
use super::tcp::{Phase, TcpShared, TcpSocket};
use crate::mailbox::lock;
use crate::reply::{Reply, Sender, reply};

/// What both sides know of a splice under way.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) moved: AtomicU64,
    /// The handle is gone.
    pub(crate) stop: AtomicBool,
}

/// A splice on its way to the shard.
#[derive(Debug)]
pub(crate) struct SpliceOrder {
    pub(crate) to: Arc<TcpShared>,
    pub(crate) copy: Option<Arc<TcpShared>>,
    /// What the shard had handed over before: it goes first.
    pub(crate) ahead: ByteQueue,
    pub(crate) progress: Arc<Progress>,
    pub(crate) answer: Sender<io::Result<u64>>,
}

/// A splice under way: wait for its end with [`Splice::wait`], or await it. The connections stay open as long. Dropping it ends the
/// splice; what was not moved is there to be read.
#[derive(Debug)]
#[must_use = "dropping it ends the splice"]
pub struct Splice {
    answer: Option<Reply<io::Result<u64>>>,
    progress: Arc<Progress>,
    from: Arc<TcpSocket>,
    _takers: [Option<Arc<TcpSocket>>; 2],
}

impl SpliceOrder {
    /// The connection is over and the shard knows no more of it: what was received, `n` bytes ahead, is all there is. If the stream
    /// has `ended` they go where they were to go, else they are the reader's.
    pub(crate) fn conclude(self, from: &TcpShared, n: usize, ended: bool) {
        let (to, copy) = (self.to, self.copy);
        let taken = match ended {
            true => {
                let again = copy.as_ref().map(|copy| (copy, self.ahead.copy()));
                let taken = to.take_last(self.ahead, n);
                if let (Ok(()), Some((copy, again))) = (&taken, again) {
                    let _ = copy.take_last(again, n);
                }
                taken.map_err(|ahead| (ahead, SocketError::BrokenPipe))
            }
            false => Err((self.ahead, SocketError::NotConnected)),
        };
        let result = match taken {
            Ok(()) => {
                self.progress.moved.store(n as u64, Ordering::Relaxed);
                Ok(n as u64)
            }
            Err((ahead, why)) => {
                from.put_back(ahead, n);
                Err(io_error(why))
            }
        };
        let takers = std::iter::once(&to).chain(&copy);
        takers.for_each(|taker| taker.end_feeding());
        self.answer.send(result);
    }
}

impl TcpShared {
    /// Makes the connection one that is spliced to.
    fn begin_feeding(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.stopped {
            return Err(stopped());
        }
        if state.phase != Phase::Open {
            return Err(io_error(SocketError::NotConnected));
        }
        if state.write_shut {
            return Err(io_error(SocketError::BrokenPipe));
        }
        if state.moving || std::mem::replace(&mut state.fed, true) {
            return Err(Errno::BUSY.into());
        }
        Ok(())
    }

    /// Sends what was received elsewhere, `n` bytes, and nothing behind it; it comes back if nothing can be sent.
    fn take_last(self: &Arc<Self>, mut bytes: ByteQueue, n: usize) -> Result<(), ByteQueue> {
        let mut state = self.state();
        if state.phase != Phase::Open || state.write_shut {
            return Err(bytes);
        }
        state.tx.append(&mut bytes);
        state.tx_len += n;
        drop(state);
        self.end_writing();
        self.notice();
        Ok(())
    }

    /// What was not moved is the reader's.
    fn put_back(&self, mut bytes: ByteQueue, n: usize) {
        let mut state = self.state();
        bytes.append(&mut state.rx);
        state.rx = bytes;
        state.rx_len += n;
    }

    /// Nothing is spliced to the connection any more.
    pub(crate) fn end_feeding(&self) {
        self.state().fed = false;
    }
}

impl TcpSocket {
    /// Has the shard move what comes in here to `to`, and send the same on `copy` if there is one, until the stream ends, which shuts
    /// `to` for writing; an error here resets `to`. What they have no room for stays here, and the window closes. Until the splice
    /// is over nothing can be read here.
    ///
    /// # Errors
    /// EXDEV for connections of different shards; EINVAL for one with itself; EBUSY while another splice reads here or
    /// writes there; `NotConnected`, `BrokenPipe`; the connection's pending error; the host has stopped.
    pub fn splice(
        self: &Arc<Self>,
        to: &Arc<Self>,
        copy: Option<&Arc<Self>>,
    ) -> io::Result<Splice> {
        let takers = [Some(to), copy];
        let all = || takers.iter().flatten();
        if all().any(|taker| !taker.shared.is_at(&self.shared.now_at())) {
            return Err(Errno::XDEV.into());
        }
        let same = |a: &Self, b: &Self| Arc::ptr_eq(&a.shared, &b.shared);
        if all().any(|taker| same(taker, self)) || copy.is_some_and(|copy| same(copy, to)) {
            return Err(Errno::INVAL.into());
        }
        to.shared.begin_feeding()?;
        if let Some(Err(error)) = copy.map(|copy| copy.shared.begin_feeding()) {
            to.shared.end_feeding();
            return Err(error);
        }
        let progress = Arc::new(Progress::default());
        let (sender, answer) = reply();
        let order = SpliceOrder {
            to: to.shared.clone(),
            copy: copy.map(|copy| copy.shared.clone()),
            ahead: ByteQueue::default(),
            progress: progress.clone(),
            answer: sender,
        };
        if let Err(error) = self.order_splice(order) {
            all().for_each(|taker| taker.shared.end_feeding());
            return Err(error);
        }
        self.shared.notice();
        Ok(Splice {
            answer: Some(answer),
            progress,
            from: self.clone(),
            _takers: takers.map(|taker| taker.cloned()),
        })
    }

    fn order_splice(&self, mut order: SpliceOrder) -> io::Result<()> {
        let mut reader = lock(&self.shared.reader);
        let mut state = self.shared.state();
        if state.stopped {
            return Err(stopped());
        }
        if state.spliced || state.moving {
            return Err(Errno::BUSY.into());
        }
        // None of them is moved from here on.
        let takers = std::iter::once(&order.to).chain(&order.copy);
        let here = self.shared.now_at();
        if takers.into_iter().any(|taker| !taker.is_at(&here)) {
            return Err(Errno::XDEV.into());
        }
        if state.phase == Phase::Connecting || (state.gone && !state.has_ended()) {
            let error = state.error.take();
            return Err(io_error(error.unwrap_or(SocketError::NotConnected)));
        }
        // The shard looks anyway, whether or not it waits for room.
        self.shared.take_over(&mut state, &mut reader);
        order.ahead.append(&mut reader.queue);
        self.shared.keep_unread(&reader);
        if state.gone {
            let n = std::mem::take(&mut state.rx_len);
            drop((state, reader));
            order.conclude(&self.shared, n, true);
            return Ok(());
        }
        state.spliced = true;
        state.splice = Some(Box::new(order));
        Ok(())
    }
}

impl Splice {
    /// Bytes moved so far.
    pub fn moved(&self) -> u64 {
        self.progress.moved.load(Ordering::Relaxed)
    }

    /// Blocks until the splice is over: how many bytes were moved.
    ///
    /// # Errors
    /// That of the connection they came from, or of the one they went to; the host has stopped.
    pub fn wait(mut self) -> io::Result<u64> {
        let answer = self.answer.take().and_then(Reply::wait);
        answer.unwrap_or_else(|| Err(stopped()))
    }
}

impl Future for Splice {
    type Output = io::Result<u64>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(Err(stopped()));
        };
        Pin::new(answer)
            .poll(cx)
            .map(|answer| answer.unwrap_or_else(|| Err(stopped())))
    }
}

impl Drop for Splice {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.from.shared.notice();
    }
}
