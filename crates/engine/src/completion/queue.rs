//! Both ends of a completion queue: who hands in, who waits, and what the shards put in.
//!
//! On a host of several shards each has a part of the queue: what is handed in goes to the shard of the socket it is about, and what is
//! to be gone on with on another shard goes there the same way. What is done comes out at one place.
//!
//! Invariant: `outstanding` counts every operation that was taken and whose last completion nobody took, and every posted one.
//! Invariant: of the workers of a queue no more than its limit have something in hand: the others sleep though there is something.
//! Invariant: what goes to a part that is gone is over at once.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Completion, FilePart, Handle, Op, What};
use crate::diagnosis::QueueRow;
use crate::mailbox::lock;
use crate::sockets::{Door, Group, TOKEN_NONE, deadline, meant, stopped};

/// Why an operation was not taken; it comes back.
#[derive(Debug)]
pub enum SubmitError {
    /// As many are under way, or done and not taken, as the queue holds.
    Full(Op),
    /// The host has stopped.
    Stopped(Op),
}

impl std::fmt::Display for SubmitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the completion queue is full; take completions first",
            Self::Stopped(_) => "the host has stopped",
        })
    }
}

impl std::error::Error for SubmitError {}

impl From<SubmitError> for io::Error {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Full(_) => rustix::io::Errno::NOBUFS.into(),
            SubmitError::Stopped(_) => stopped(),
        }
    }
}

/// What goes to a shard, from the application or from another shard.
#[derive(Debug)]
pub(crate) enum Passed {
    Op(Op),
    /// The next part of a file, for the socket of this token.
    File(u64, Op),
    /// Another part of this listener has accepted a connection, which is nobody's yet.
    Accepted(u64, Handle, SocketAddr),
    /// That connection is somebody's now, under this word.
    Claimed(u64, u64),
}

/// What comes from the shard.
#[derive(Debug)]
enum Done {
    Completion(Completion),
    /// A file is to be read on, for this shard.
    Read(usize, u64, Op),
}

#[derive(Debug, Default)]
pub(crate) struct QueueState {
    /// What goes to each shard.
    lines: Vec<Line>,
    done: VecDeque<Done>,
    outstanding: usize,
    /// A shard holds back what would come of multishot operations, and wants to hear when there is room.
    paused: bool,
    /// Threads that sleep, and workers that do.
    asleep: [usize; 2],
    /// Workers that have something in hand.
    active: usize,
    closed: bool,
    /// A shard has stopped: nothing is taken any more.
    stopped: bool,
}

/// The way to one shard.
#[derive(Debug, Default)]
struct Line {
    passed: Vec<Passed>,
    /// The shard has stopped.
    gone: bool,
}

/// One queue, shared by its handles and the shards.
#[derive(Debug)]
pub(crate) struct QueueShared {
    state: Mutex<QueueState>,
    /// What they sleep on: workers, who may not always take what there is, must not be woken in place of others.
    arrived: [Condvar; 2],
    parts: Box<[Part]>,
    /// If there are several.
    group: Option<Arc<Group>>,
    capacity: usize,
    concurrency: usize,
}

/// A shard's part.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) noticed: AtomicBool,
    pub(crate) token: AtomicU64,
    pub(crate) door: Arc<Door>,
}

impl QueueShared {
    pub(crate) fn state(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }

    pub(crate) fn shards(&self) -> usize {
        self.parts.len()
    }

    pub(crate) fn part(&self, shard: usize) -> &Part {
        &self.parts[shard]
    }

    pub(crate) fn group(&self) -> Option<&Arc<Group>> {
        self.group.as_ref()
    }

    /// The shard that has a socket.
    pub(crate) fn shard_of(&self, socket: Handle) -> Option<usize> {
        let mut parts = self.parts.iter();
        parts.position(|part| part.door.host() == socket.host)
    }

    /// The shard where an operation begins that is handed in, or follows another, on the shard `from`.
    pub(crate) fn route(&self, op: &Op, from: usize) -> usize {
        let Some(group) = &self.group else {
            return 0;
        };
        match (&op.what, op.about()) {
            // Parts of listeners are opened one after the other.
            (What::Listen { .. }, _) => 0,
            (What::Connect { remote, local, .. }, _) => {
                group.shard_for(meant(*remote, *local), *local)
            }
            (_, Some(socket)) => self.shard_of(socket).unwrap_or(from),
            (_, None) => from,
        }
    }

    /// Hands something over to a shard.
    pub(crate) fn pass(self: &Arc<Self>, to: usize, passed: Passed) {
        let mut state = self.state();
        let line = &mut state.lines[to];
        if line.gone {
            state.end_passed(passed);
            return self.wake(state, usize::MAX);
        }
        line.passed.push(passed);
        drop(state);
        self.notice(to);
    }

    fn notice_all(self: &Arc<Self>) {
        (0..self.shards()).for_each(|shard| self.notice(shard));
    }

    /// Takes what has been passed to a shard, in exchange for `taken`, which is empty: how many completions of multishot operations
    /// there is room for, or `None` when nobody has the queue any more.
    pub(crate) fn take_passed(&self, shard: usize, taken: &mut Vec<Passed>) -> Option<usize> {
        let mut state = self.state();
        std::mem::swap(taken, &mut state.lines[shard].passed);
        (!state.closed).then(|| self.room(&mut state))
    }

    /// Hands over what a turn brought, and wakes for it at most once for each sleeper. How many more of multishot operations there is
    /// room for; if for none, a notice tells when there is.
    pub(crate) fn hand_over(
        &self,
        shard: usize,
        done: &mut Vec<Completion>,
        reads: &mut Vec<(u64, Op)>,
    ) -> usize {
        let mut state = self.state();
        let reads = reads.drain(..);
        let reads = reads.map(|(socket, op)| Done::Read(shard, socket, op));
        state.done.extend(reads);
        state.done.extend(done.drain(..).map(Done::Completion));
        let room = self.room(&mut state);
        self.wake(state, usize::MAX);
        room
    }

    /// Lets go of the state, and wakes who sleeps for what there is, at most `most` of them.
    fn wake(&self, state: MutexGuard<'_, QueueState>, most: usize) {
        let things = state.done.len().min(most);
        let threads = state.asleep[0].min(things);
        let may_work = self.concurrency.saturating_sub(state.active);
        let workers = state.asleep[1].min(things - threads).min(may_work);
        drop(state);
        for (arrived, count) in self.arrived.iter().zip([threads, workers]) {
            (0..count).for_each(|_| arrived.notify_one());
        }
    }

    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, QueueState>,
        works: bool,
        left: Option<Duration>,
    ) -> MutexGuard<'a, QueueState> {
        let kind = usize::from(works);
        let arrived = &self.arrived[kind];
        state.asleep[kind] += 1;
        state = match left {
            None => arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(left) => {
                let woken = arrived.wait_timeout(state, left);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.asleep[kind] -= 1;
        state
    }

    /// Completions of multishot operations there is room for now, of which each shard has a part; if for none, a notice tells when
    /// there is.
    fn room(&self, state: &mut QueueState) -> usize {
        let room = self.capacity.saturating_sub(state.done.len());
        state.paused |= room == 0;
        room.div_ceil(self.shards())
    }

    /// The queue in numbers, for tools.
    pub(crate) fn row(&self) -> QueueRow {
        let state = self.state();
        QueueRow {
            capacity: self.capacity as u64,
            outstanding: state.outstanding as u64,
            completions: state.done.len() as u64,
            waiters: state.asleep.iter().sum::<usize>() as u64,
            working: state.active as u64,
            concurrency: self.concurrency as u64,
        }
    }

    /// A shard is gone, or about to: nothing is taken any more, and what nobody will look at is over.
    pub(crate) fn fail_stopped(&self, shard: usize) {
        let mut state = self.state();
        state.stopped = true;
        let line = &mut state.lines[shard];
        line.gone = true;
        for passed in std::mem::take(&mut line.passed) {
            state.end_passed(passed);
        }
        drop(state);
        self.arrived.iter().for_each(Condvar::notify_all);
    }
}

/// Operations go in from any thread, completions come out in any: in what order they are done, and with as many at once as
/// the caller has room for. Clones are the same queue; when the last is dropped, its sockets are reset.
#[derive(Debug, Clone)]
pub struct CompletionQueue {
    owner: Arc<Owner>,
}

/// Closes the queue when the last handle of it goes.
#[derive(Debug)]
struct Owner(Arc<QueueShared>);

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        let gone = state.is_gone();
        drop(state);
        if !gone {
            self.0.notice_all();
        }
    }
}

impl CompletionQueue {
    /// A queue with a part behind each door. `capacity`: operations under way and completions that wait, together. `concurrency`:
    /// workers that may have something in hand at a time.
    pub(crate) fn new(
        doors: &[Arc<Door>],
        group: Option<Arc<Group>>,
        capacity: usize,
        concurrency: usize,
    ) -> Self {
        let part = |door: &Arc<Door>| Part {
            noticed: AtomicBool::new(false),
            token: AtomicU64::new(TOKEN_NONE),
            door: door.clone(),
        };
        let state = QueueState {
            lines: doors.iter().map(|_| Line::default()).collect(),
            ..QueueState::default()
        };
        let shared = Arc::new(QueueShared {
            state: Mutex::new(state),
            arrived: [Condvar::new(), Condvar::new()],
            parts: doors.iter().map(part).collect(),
            group,
            capacity: capacity.max(1),
            concurrency: concurrency.max(1),
        });
        // Tools ask the leading shard's.
        if let Some(door) = doors.first() {
            door.queues.enter(&shared);
        }
        Self {
            owner: Arc::new(Owner(shared)),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<QueueShared> {
        &self.owner.0
    }

    /// Hands in an operation, with what is linked to it.
    ///
    /// # Errors
    /// The queue is full, or the host has stopped; the operation comes back.
    pub fn submit(&self, op: Op) -> Result<(), SubmitError> {
        let mut op = op;
        read_first(&mut op);
        let shared = self.shared();
        let shard = shared.route(&op, 0);
        let mut state = shared.state();
        if state.stopped {
            return Err(SubmitError::Stopped(op));
        }
        let count = op.count();
        if state.outstanding + count > shared.capacity {
            return Err(SubmitError::Full(op));
        }
        state.outstanding += count;
        state.lines[shard].passed.push(Passed::Op(op));
        drop(state);
        shared.notice(shard);
        Ok(())
    }

    /// Hands in many operations, for one crossing. What was taken is taken out of `ops`.
    ///
    /// # Errors
    /// As [`CompletionQueue::submit`], of the first that was not taken; those before it were.
    pub fn submit_all(&self, ops: &mut Vec<Op>) -> Result<(), SubmitError> {
        // Reading files may take long: before the lock.
        ops.iter_mut().for_each(read_first);
        let shared = self.shared();
        let mut state = shared.state();
        let mut room = shared.capacity - state.outstanding;
        let fits = ops.iter().take_while(|op| {
            let left = room.checked_sub(op.count());
            room = left.unwrap_or(room);
            left.is_some()
        });
        let n = if state.stopped { 0 } else { fits.count() };
        let stopped = state.stopped;
        let mut told: u64 = 0;
        for op in ops.drain(..n) {
            let shard = shared.route(&op, 0);
            told |= 1 << shard;
            state.lines[shard].passed.push(Passed::Op(op));
        }
        state.outstanding = shared.capacity - room;
        drop(state);
        let shards = (0..shared.shards()).filter(|shard| told & (1 << shard) != 0);
        shards.for_each(|shard| shared.notice(shard));
        match ops.is_empty() {
            true => Ok(()),
            false if stopped => Err(SubmitError::Stopped(ops.remove(0))),
            false => Err(SubmitError::Full(ops.remove(0))),
        }
    }

    /// Puts a completion in, from any thread: what other work has to tell the same loop. `result` and both words are the caller's.
    ///
    /// # Errors
    /// ENOBUFS when the queue is full; the host has stopped.
    pub fn post(&self, token: u64, key: u64, result: usize) -> io::Result<()> {
        let shared = self.shared();
        let mut state = shared.state();
        if state.stopped {
            return Err(stopped());
        }
        if state.outstanding >= shared.capacity {
            return Err(rustix::io::Errno::NOBUFS.into());
        }
        state.outstanding += 1;
        state.done.push_back(Done::Completion(Completion {
            token,
            key,
            result: Ok(result),
            buffer: None,
            socket: None,
            address: None,
            more: false,
            arrival: None,
        }));
        shared.wake(state, 1);
        Ok(())
    }

    /// Takes up to `most` completions, the oldest first, and puts them behind what is in `into`. Sleeps until there is one, for
    /// at most `timeout` (`None`: for ever). How many there were; 0 when the time was up.
    ///
    /// # Errors
    /// The host has stopped and nothing is left.
    pub fn wait(
        &self,
        into: &mut Vec<Completion>,
        most: usize,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        self.take(into, most, timeout, false).map(|taken| taken.n)
    }

    /// A thread's part in the queue, whose [`Worker::wait`] keeps to the queue's limit of workers that are at work.
    pub fn worker(&self) -> Worker {
        Worker {
            queue: self.clone(),
            active: false,
        }
    }

    fn take(
        &self,
        into: &mut Vec<Completion>,
        most: usize,
        timeout: Option<Duration>,
        works: bool,
    ) -> io::Result<Taken> {
        let shared = self.shared();
        let concurrency = if works {
            shared.concurrency
        } else {
            usize::MAX
        };
        let until = deadline(timeout);
        let mut state = shared.state();
        loop {
            if !state.done.is_empty() && state.active < concurrency {
                let (n, reads) = state.pop(into, most);
                let resume = state.paused && state.done.len() <= shared.capacity / 2;
                state.paused &= !resume;
                if n > 0 && works {
                    state.active += 1;
                }
                shared.wake(state, 1);
                read_on(shared, reads);
                if resume {
                    shared.notice_all();
                }
                if n > 0 || most == 0 {
                    return Ok(Taken { n });
                }
                state = shared.state();
                continue;
            }
            if state.is_gone() && state.done.is_empty() {
                return Err(stopped());
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Taken { n: 0 });
            }
            state = shared.sleep(state, works, left);
        }
    }
}

struct Taken {
    n: usize,
}

/// Reads the first part of a file that is to be sent, unless that was done when the operation was handed in before and came back.
fn read_first(op: &mut Op) {
    if let What::SendFile { part, .. } = &mut op.what
        && part.bytes.is_empty()
        && !part.is_read()
    {
        part.read();
    }
}

/// Reads the files that are to be sent on, and passes them back.
fn read_on(shared: &Arc<QueueShared>, reads: Vec<(usize, u64, Op)>) {
    for (shard, socket, mut op) in reads {
        if let What::SendFile { part, .. } = &mut op.what {
            FilePart::read(part);
        }
        shared.pass(shard, Passed::File(socket, op));
    }
}

impl QueueState {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// All shards have stopped.
    fn is_gone(&self) -> bool {
        self.lines.iter().all(|line| line.gone)
    }

    /// Nobody will look at what was passed to a shard.
    fn end_passed(&mut self, passed: Passed) {
        match passed {
            Passed::Op(op) | Passed::File(_, op) => self.end_stopped(op),
            // The connection ends with its shard.
            Passed::Accepted(..) | Passed::Claimed(..) => {}
        }
    }

    /// An operation will not be carried out any more, nor what is linked to it.
    fn end_stopped(&mut self, mut op: Op) {
        let links = op.take_links();
        for mut op in std::iter::once(op).chain(links) {
            let result = match op.part_done() {
                0 => Err(stopped()),
                n => Ok(n),
            };
            self.done.push_back(Done::Completion(Completion {
                token: op.token,
                key: 0,
                result,
                buffer: op.take_buffer(),
                socket: op.about(),
                address: None,
                more: false,
                arrival: None,
            }));
        }
    }

    fn pop(&mut self, into: &mut Vec<Completion>, most: usize) -> (usize, Vec<(usize, u64, Op)>) {
        let (mut n, mut reads) = (0, Vec::new());
        while n < most {
            match self.done.pop_front() {
                Some(Done::Completion(completion)) => {
                    self.outstanding -= usize::from(!completion.more);
                    into.push(completion);
                    n += 1;
                }
                Some(Done::Read(shard, socket, op)) => reads.push((shard, socket, op)),
                None => break,
            }
        }
        (n, reads)
    }
}

/// A thread that takes from a queue as one of several, of which only so many shall be at work at a time: from the moment
/// [`Worker::wait`] gives it something until it waits again, or is dropped. It is made by [`CompletionQueue::worker`].
#[derive(Debug)]
pub struct Worker {
    queue: CompletionQueue,
    active: bool,
}

impl Worker {
    /// As [`CompletionQueue::wait`], but sleeps also while as many others are at work as the queue allows.
    ///
    /// # Errors
    /// As [`CompletionQueue::wait`].
    pub fn wait(
        &mut self,
        into: &mut Vec<Completion>,
        most: usize,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        self.rest();
        let taken = self.queue.take(into, most, timeout, true)?;
        self.active = taken.n > 0;
        Ok(taken.n)
    }

    /// Has nothing in hand any more: another worker may go on.
    fn rest(&mut self) {
        if !std::mem::take(&mut self.active) {
            return;
        }
        let shared = self.queue.shared();
        let mut state = shared.state();
        state.active -= 1;
        shared.wake(state, 1);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.rest();
    }
}
