//! Splices between connections of this shard, for other threads.
//!
//! What does not live here: how references move from queue to queue (the stack), what an application holds of a splice
//! (`sockets/splice.rs`).
//!
//! Invariant: what the record of a connection held when its splice began goes first, and is copied; nothing behind it is.
//! Invariant: one look moves at most a limit's worth, so that no splice holds up a turn.
//! Invariant: splices from one connection to the next take no more stack than one: what a look leads to waits for its end ([`Next`]).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use stack::{Ready, SocketError, SocketId, SpliceError};

use super::tcp::{Splices, TcpEntry};
use super::{Driver, Entry, key_of};
use crate::app::ShardCx;
use crate::reply::Sender;
use crate::sockets::chunk::ByteQueue;
use crate::sockets::error::{io_error, stopped};
use crate::sockets::splice::{Progress, SpliceOrder};
use crate::sockets::tcp::TcpShared;

/// Bytes moved by one step.
const AT_ONCE: usize = 256 * 1024;

/// A connection that is spliced to.
#[derive(Debug)]
struct Taker {
    shared: Arc<TcpShared>,
    token: u64,
    /// What was received before the splice began, and is still to be sent here.
    ahead: ByteQueue,
}

/// A splice under way, kept by the connection that bytes come from.
#[derive(Debug)]
pub(super) struct Job {
    to: Taker,
    copy: Option<Taker>,
    progress: Arc<Progress>,
    answer: Sender<io::Result<u64>>,
}

/// How a splice ended.
enum Over {
    /// The stream has ended.
    Ended,
    /// The connection that bytes came from failed.
    From(SocketError),
    /// One that they went to did; the reason, if it was not told yet.
    Taker(u64, Option<SocketError>),
    /// The application, or the host, has given it up.
    Stopped,
}

/// What a look leads to elsewhere.
#[derive(Debug)]
pub(super) enum Next {
    /// At a connection.
    Look(u64),
    /// At what is spliced from one.
    Serve(u64),
    /// Who waits for the end of a splice hears of it.
    Answer(Sender<io::Result<u64>>, io::Result<u64>),
}

/// What an attempt to move brought.
enum Step {
    /// Nothing can be moved now.
    Wait,
    /// There may be more.
    Again,
    Over(Over),
}

impl Taker {
    fn new(shared: Arc<TcpShared>, ahead: ByteQueue) -> Self {
        let token = shared.token.load(Ordering::Relaxed);
        Self {
            shared,
            token,
            ahead,
        }
    }
}

impl Job {
    /// Begins what was ordered; `late`: what came into the record meanwhile.
    pub(super) fn new(order: SpliceOrder, late: &mut ByteQueue) -> Self {
        let mut ahead = order.ahead;
        ahead.append(late);
        let again = order.copy.as_ref().map(|_| ahead.copy());
        Self {
            to: Taker::new(order.to, ahead),
            copy: order
                .copy
                .map(|copy| Taker::new(copy, again.unwrap_or_default())),
            progress: order.progress,
            answer: order.answer,
        }
    }

    fn takers(&self) -> impl Iterator<Item = &Taker> {
        std::iter::once(&self.to).chain(&self.copy)
    }

    fn moved(&self, n: usize) {
        self.progress.moved.fetch_add(n as u64, Ordering::Relaxed);
    }
}

impl Driver {
    /// Does what a look has led to, and what that leads to, before what was to be done after it.
    pub(super) fn go_on(&mut self, cx: &mut ShardCx<'_>) {
        while let Some(next) = self.next.pop() {
            match next {
                Next::Look(token) => self.look_once(cx, token, Ready::NONE),
                Next::Serve(from) => self.serve_splice(cx, from),
                Next::Answer(answer, result) => answer.send(result),
            }
        }
    }

    /// A splice has begun: what was written to its takers before goes first.
    fn begin_splice(&mut self, from: u64) {
        let Some(Entry::Tcp(entry)) = self.entries.get(key_of(from)) else {
            return;
        };
        let takers = entry.splice.iter().flat_map(|job| job.takers());
        let takers: Vec<u64> = takers.map(|taker| taker.token).collect();
        for &token in &takers {
            if let Some(Entry::Tcp(taker)) = self.entries.get_mut(key_of(token)) {
                taker.fed_by = Some(from);
            }
        }
        self.next.extend(takers.into_iter().rev().map(Next::Look));
    }

    /// After a look at a connection: goes on with what is spliced from it and to it.
    pub(super) fn serve_splices(&mut self, token: u64, splices: Splices) {
        // The last is done first.
        self.next.extend(splices.fed_by.map(Next::Serve));
        self.next.extend(splices.out.then_some(Next::Serve(token)));
        if splices.begun {
            self.begin_splice(token);
        }
    }

    /// A connection is over, and what is spliced from it.
    pub(super) fn end_spliced(&mut self, cx: &mut ShardCx<'_>, token: u64, mut entry: TcpEntry) {
        if let Some(job) = entry.splice.take() {
            let over = entry.over().map_or(Over::Stopped, Over::From);
            self.end_splice(cx, token, *job, over);
        }
    }

    /// Moves what can be moved from a connection that is spliced to others.
    fn serve_splice(&mut self, cx: &mut ShardCx<'_>, from: u64) {
        let most = self.door.limits.receive as u64;
        let Some(Entry::Tcp(entry)) = self.entries.get_mut(key_of(from)) else {
            return;
        };
        let Some(mut job) = entry.splice.take() else {
            return;
        };
        let begun = job.progress.moved.load(Ordering::Relaxed);
        let step = loop {
            match self.move_some(cx, from, &mut job) {
                Step::Again if job.progress.moved.load(Ordering::Relaxed) - begun < most => {}
                step => break step,
            }
        };
        if let Step::Over(over) = step {
            return self.end_splice(cx, from, *job, over);
        }
        if let Some(Entry::Tcp(entry)) = self.entries.get_mut(key_of(from)) {
            entry.splice = Some(job);
            if matches!(step, Step::Again) {
                entry.shared().notice();
            }
        }
    }

    /// Where bytes may be sent now: `None` while what was written there goes first.
    fn taker(&self, taker: &Taker) -> Result<Option<SocketId>, Over> {
        match self.entries.get(key_of(taker.token)) {
            Some(Entry::Tcp(entry)) if entry.takes() => {
                Ok(entry.is_written().then_some(entry.id()))
            }
            _ => Err(Over::Taker(taker.token, None)),
        }
    }

    fn move_some(&mut self, cx: &mut ShardCx<'_>, from: u64, job: &mut Job) -> Step {
        let Some(Entry::Tcp(entry)) = self.entries.get(key_of(from)) else {
            return Step::Over(Over::Stopped);
        };
        if job.progress.stop.load(Ordering::Relaxed) || entry.is_closed() {
            return Step::Over(Over::Stopped);
        }
        let (id, over) = (entry.id(), entry.over());
        let to = match (
            self.taker(&job.to),
            job.copy.as_ref().map(|c| self.taker(c)),
        ) {
            (Err(over), _) | (_, Some(Err(over))) => return Step::Over(over),
            (Ok(None), _) | (_, Some(Ok(None))) => return Step::Wait,
            (Ok(Some(to)), None) => (to, None),
            (Ok(Some(to)), Some(Ok(Some(copy)))) => (to, Some(copy)),
        };
        if let Some(step) = self.send_ahead(cx, from, job, to) {
            return step;
        }
        let moved = match to {
            (to, None) => cx.host.tcp_splice(cx.now, id, to, AT_ONCE),
            (to, Some(copy)) => cx.host.tcp_tee(cx.now, id, (to, copy), AT_ONCE),
        };
        let taker = |job: &Job, copy: bool| match &job.copy {
            Some(other) if copy => other.token,
            _ => job.to.token,
        };
        match moved {
            Ok(0) => Step::Over(over.map_or(Over::Ended, Over::From)),
            Ok(n) => {
                job.moved(n);
                Step::Again
            }
            Err(
                SpliceError::From(SocketError::WouldBlock)
                | SpliceError::To(SocketError::WouldBlock)
                | SpliceError::Copy(SocketError::WouldBlock),
            ) => Step::Wait,
            Err(
                SpliceError::To(SocketError::NoBuffers) | SpliceError::Copy(SocketError::NoBuffers),
            ) => {
                // No event tells when there is memory.
                self.stalled.push(from);
                Step::Wait
            }
            Err(SpliceError::From(error)) => Step::Over(Over::From(over.unwrap_or(error))),
            Err(SpliceError::To(error)) => Step::Over(Over::Taker(taker(job, false), Some(error))),
            Err(SpliceError::Copy(error)) => Step::Over(Over::Taker(taker(job, true), Some(error))),
        }
    }

    /// Sends what was received before the splice began; `None` when all of it is.
    fn send_ahead(
        &mut self,
        cx: &mut ShardCx<'_>,
        from: u64,
        job: &mut Job,
        to: (SocketId, Option<SocketId>),
    ) -> Option<Step> {
        let (mut moved, mut blocked) = (0, None);
        let takers = std::iter::once(&mut job.to).chain(&mut job.copy);
        let ids = std::iter::once(to.0).chain(to.1);
        for (at, (taker, id)) in takers.zip(ids).enumerate() {
            while !taker.ahead.is_empty() {
                match cx.host.tcp_send(cx.now, id, taker.ahead.first()) {
                    Ok(n) => {
                        taker.ahead.advance(n, &self.door.chunks);
                        moved += if at == 0 { n } else { 0 };
                    }
                    Err(SocketError::WouldBlock) => {
                        blocked = Some(Step::Wait);
                        break;
                    }
                    Err(SocketError::NoBuffers) => {
                        self.stalled.push(from);
                        blocked = Some(Step::Wait);
                        break;
                    }
                    Err(error) => {
                        blocked = Some(Step::Over(Over::Taker(taker.token, Some(error))));
                        break;
                    }
                }
            }
        }
        if moved > 0 {
            job.moved(moved);
            if let Some(Entry::Tcp(entry)) = self.entries.get(key_of(from)) {
                entry.shared().read_by_splice(moved);
            }
        }
        blocked
    }

    /// Passes on how a splice ended, to the connections and to who waits for it.
    fn end_splice(&mut self, cx: &mut ShardCx<'_>, from: u64, job: Job, over: Over) {
        let moved = job.progress.moved.load(Ordering::Relaxed);
        let result = match &over {
            Over::Ended => Ok(moved),
            // Whichever of the connections was closed first.
            _ if self.stopping => Err(stopped()),
            Over::From(error) | Over::Taker(_, Some(error)) => Err(io_error(*error)),
            Over::Taker(_, None) => Err(Errno::PIPE.into()),
            Over::Stopped => Err(stopped()),
        };
        let Job {
            mut to,
            copy,
            answer,
            ..
        } = job;
        if let Some(Entry::Tcp(entry)) = self.entries.get_mut(key_of(from)) {
            let error = match over {
                Over::From(error) => Some(error),
                _ => None,
            };
            entry.end_splice(&mut to.ahead, error);
        }
        self.next.push(Next::Look(from));
        self.next.push(Next::Answer(answer, result));
        for taker in std::iter::once(to).chain(copy) {
            self.release(cx, from, taker, &over);
        }
    }

    /// A connection is spliced to no more.
    fn release(&mut self, cx: &mut ShardCx<'_>, from: u64, taker: Taker, over: &Over) {
        taker.shared.end_feeding();
        let Some(Entry::Tcp(entry)) = self.entries.get_mut(key_of(taker.token)) else {
            return;
        };
        if entry.fed_by == Some(from) {
            entry.fed_by = None;
        }
        match *over {
            Over::Ended => taker.shared.end_writing(),
            Over::From(error) => {
                let _ = cx.host.abort(cx.now, entry.id());
                entry.fail(error);
            }
            Over::Taker(token, Some(error)) if token == taker.token => entry.fail(error),
            _ => return,
        }
        self.next.push(Next::Look(taker.token));
    }
}
