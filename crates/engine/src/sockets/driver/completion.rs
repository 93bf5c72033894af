//! The shard's side of completion queues: what was handed in waits here, and is carried out.
//!
//! - `start.rs`: what begins with an operation, and how it ends early; `serve.rs`: bytes and connections for those that wait;
//!   `parts.rs`: what there is besides on a host of several shards.
//!
//! Invariant: an operation is in one place: with its socket, among the timeouts, in `work`, with the application to read a file,
//! on its way to another shard, or over.
//! Invariant: what an operation brought before it goes to another shard is handed over first.

mod parts;
mod serve;
mod start;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::Instant;
use rustix::io::Errno;
use stack::{Ready, SocketId};

use super::{Driver, Entry, key_of, token_of};
use crate::app::ShardCx;
use crate::completion::{Buffer, Completion, Handle, Op, Passed, QueueShared, What};
use crate::sockets::Arrival;
use crate::sockets::error::{io_error, stopped};
use crate::steer::PortClaim;
use parts::Parts;

/// What a socket of a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Listener,
    Stream,
    Datagram,
}

/// A socket of a completion queue.
#[derive(Debug)]
pub(super) struct OpSocket {
    id: SocketId,
    kind: Kind,
    /// The driver's name of its queue.
    queue: u64,
    /// The application's word for it.
    key: u64,
    /// Receives, accepts and splices away, in order.
    receives: VecDeque<Op>,
    /// Sends and shutdowns, in order.
    sends: VecDeque<Op>,
    polls: VecDeque<Op>,
    /// Of a listener: connections that were accepted and whose first bytes are waited for.
    unheard: BTreeSet<u64>,
    /// A connect, and the order it came in.
    connecting: Option<(u64, Op)>,
    /// It is on the list of those that wait for room in the queue.
    paused: bool,
    /// The connection that is being spliced to this one.
    fed_by: Option<u64>,
    /// Why an operation was cut short, which is told to the next.
    error: Option<io::Error>,
    /// Of a listener on a host of several shards.
    parts: Option<Box<Parts>>,
    /// The listener that has accepted it, or the part of it that is here.
    listener: Option<u64>,
    /// Of a datagram socket on such a host: its part of the port.
    claim: Option<Box<PortClaim>>,
}

/// A socket, without the driver's record of it.
#[derive(Clone, Copy)]
struct Which {
    token: u64,
    id: SocketId,
    kind: Kind,
    queue: u64,
    key: u64,
}

/// Where an operation without a socket is.
#[derive(Debug, Clone, Copy)]
enum Named {
    /// Among the timeouts.
    Timeout(Instant),
    /// With the socket of this token.
    Connect(u64),
}

/// The shard's part of a queue.
#[derive(Debug)]
pub(super) struct QueueEntry {
    shared: Arc<QueueShared>,
    /// The number of this shard.
    shard: usize,
    /// What was taken from it, between two looks empty.
    taken: Vec<Passed>,
    done: Vec<Completion>,
    reads: Vec<(u64, Op)>,
    /// It is on the list of those to be handed over.
    dirty: bool,
    /// How many more completions of multishot operations there is room for, and which sockets wait for it.
    room: usize,
    paused: Vec<u64>,
    /// Timeouts and connects, by their words and the order they came in.
    named: BTreeMap<(u64, u64), Named>,
}

/// What the driver keeps for all queues.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Operations to be begun, and the queues they are of.
    work: VecDeque<(u64, Op)>,
    /// By when they are over, and the order they came in.
    timeouts: BTreeMap<(Instant, u64), (u64, Op)>,
    next: u64,
    /// Queues that have something to be handed over; and the list before, empty, so that it is not made anew each turn.
    dirty: Vec<u64>,
    spare: Vec<u64>,
}

/// How an operation ended.
struct Outcome {
    key: u64,
    result: io::Result<usize>,
    buffer: Option<Buffer>,
    socket: Option<Handle>,
    address: Option<SocketAddr>,
    arrival: Option<Arrival>,
    /// It was cut short: nothing follows, though part of it was done.
    short: bool,
}

impl Outcome {
    fn new(key: u64, result: io::Result<usize>) -> Self {
        Self {
            key,
            result,
            buffer: None,
            socket: None,
            address: None,
            arrival: None,
            short: false,
        }
    }

    fn with(mut self, buffer: Option<Buffer>) -> Self {
        self.buffer = buffer;
        self
    }

    fn completion(self, token: u64, more: bool) -> Completion {
        Completion {
            token,
            key: self.key,
            result: self.result,
            buffer: self.buffer,
            socket: self.socket,
            address: self.address,
            more,
            arrival: self.arrival,
        }
    }
}

/// What was cancelled says so.
pub(super) fn cancelled() -> io::Error {
    Errno::CANCELED.into()
}

impl QueueEntry {
    fn new(shared: Arc<QueueShared>, shard: usize) -> Self {
        Self {
            shared,
            shard,
            taken: Vec::new(),
            done: Vec::new(),
            reads: Vec::new(),
            dirty: false,
            room: 0,
            paused: Vec::new(),
            named: BTreeMap::new(),
        }
    }

    pub(super) fn fail_stopped(&self) {
        self.shared.fail_stopped(self.shard);
    }

    /// What there is, to those who wait for it.
    fn hand_over(&mut self) {
        self.room = self
            .shared
            .hand_over(self.shard, &mut self.done, &mut self.reads);
    }
}

impl OpSocket {
    fn which(&self, token: u64) -> Which {
        Which {
            token,
            id: self.id,
            kind: self.kind,
            queue: self.queue,
            key: self.key,
        }
    }

    /// All that is under way on it.
    fn take_ops(&mut self) -> Vec<Op> {
        let ops = self.connecting.take().into_iter().map(|(_, op)| op);
        ops.chain(self.receives.drain(..))
            .chain(self.sends.drain(..))
            .chain(self.polls.drain(..))
            .collect()
    }
}

impl Driver {
    /// Leaves a queue on the list of those to be handed over.
    fn touch(&mut self, queue: u64) -> Option<&mut QueueEntry> {
        let Some(Entry::Queue(entry)) = self.entries.get_mut(key_of(queue)) else {
            return None;
        };
        if !std::mem::replace(&mut entry.dirty, true) {
            self.desk.dirty.push(queue);
        }
        Some(entry)
    }

    /// A queue is new.
    pub(super) fn introduce_queue(
        &mut self,
        cx: &mut ShardCx<'_>,
        shared: Arc<QueueShared>,
        shard: usize,
    ) {
        let entry = Entry::Queue(QueueEntry::new(shared.clone(), shard));
        let Some(key) = self.entries.insert(entry) else {
            // Without one of its parts a queue is of no use.
            return (0..shared.shards()).for_each(|shard| shared.fail_stopped(shard));
        };
        let token = token_of(key);
        shared.part(shard).token.store(token, Ordering::Relaxed);
        self.look_at_queue(cx, token);
    }

    /// What was handed in since the last look at this queue.
    pub(super) fn look_at_queue(&mut self, cx: &mut ShardCx<'_>, token: u64) {
        let Some(entry) = self.queue(token) else {
            return;
        };
        let mut passed = std::mem::take(&mut entry.taken);
        let Some(room) = entry.shared.take_passed(entry.shard, &mut passed) else {
            return self.close_queue(cx, token);
        };
        entry.room = room.saturating_sub(entry.done.len());
        let paused = std::mem::take(&mut entry.paused);
        for passed in passed.drain(..) {
            match passed {
                Passed::Op(op) => self.start(cx, token, op),
                Passed::File(socket, op) => self.file_read(cx, (token, socket), op),
                Passed::Accepted(listener, socket, peer) => {
                    self.accepted_elsewhere(cx, listener, (socket, peer));
                }
                Passed::Claimed(socket, key) => self.claimed(cx, socket, key),
            }
        }
        if let Some(entry) = self.queue(token) {
            entry.taken = passed;
        }
        self.resume(cx, paused);
    }

    /// Something has happened at a socket of a queue.
    pub(super) fn look_at_op_socket(&mut self, cx: &mut ShardCx<'_>, token: u64, ready: Ready) {
        let Some(socket) = self.op_socket(token) else {
            return;
        };
        if socket.connecting.is_some() && !self.connected(cx, token, ready) {
            return self.run_work(cx);
        }
        let Some(socket) = self.op_socket(token) else {
            return self.run_work(cx);
        };
        if socket.kind == Kind::Listener {
            self.serve_accepts(cx, token);
        } else {
            self.serve_receives(cx, token);
            self.serve_sends(cx, token);
        }
        self.serve_polls(cx, token);
        self.run_work(cx);
    }

    /// Timeouts that are over, and what this turn brought: to those who wait for it.
    pub(super) fn tend_queues(&mut self, cx: &mut ShardCx<'_>) {
        while let Some((&(at, _), _)) = self.desk.timeouts.first_key_value() {
            if at > cx.now {
                cx.again_within(at - cx.now);
                break;
            }
            let Some(((_, order), (queue, op))) = self.desk.timeouts.pop_first() else {
                break;
            };
            self.unname(queue, (op.token, order));
            self.finish(queue, op, Outcome::new(0, Ok(0)));
            self.run_work(cx);
        }
        let mut dirty =
            std::mem::replace(&mut self.desk.dirty, std::mem::take(&mut self.desk.spare));
        for token in dirty.drain(..) {
            if let Some(entry) = self.queue(token) {
                entry.dirty = false;
                entry.hand_over();
                if entry.room > 0 {
                    let paused = std::mem::take(&mut entry.paused);
                    self.resume(cx, paused);
                }
            }
        }
        self.desk.spare = dirty;
        if !self.desk.dirty.is_empty() {
            cx.again();
        }
    }

    /// There is room again for what multishot operations bring.
    fn resume(&mut self, cx: &mut ShardCx<'_>, paused: Vec<u64>) {
        for token in paused {
            if let Some(socket) = self.op_socket(token) {
                socket.paused = false;
            }
            self.serve_receives(cx, token);
        }
        self.run_work(cx);
    }

    /// Begins what is to be begun; what that ends may begin more.
    fn run_work(&mut self, cx: &mut ShardCx<'_>) {
        while let Some((queue, op)) = self.desk.work.pop_front() {
            self.start(cx, queue, op);
        }
    }

    fn queue(&mut self, token: u64) -> Option<&mut QueueEntry> {
        match self.entries.get_mut(key_of(token)) {
            Some(Entry::Queue(entry)) => Some(entry),
            _ => None,
        }
    }

    fn op_socket(&mut self, token: u64) -> Option<&mut OpSocket> {
        match self.entries.get_mut(key_of(token)) {
            Some(Entry::Op(socket)) => Some(socket),
            _ => None,
        }
    }

    /// Puts a completion in for the next time its queue is handed over.
    fn tell(&mut self, queue: u64, completion: Completion) {
        if let Some(entry) = self.touch(queue) {
            entry.room -= usize::from(completion.more && entry.room > 0);
            entry.done.push(completion);
        }
    }

    /// Has the application read on in a file.
    fn ask_for_file(&mut self, queue: u64, socket: u64, op: Op) {
        if let Some(entry) = self.touch(queue) {
            entry.reads.push((socket, op));
        }
    }

    /// An operation is over: what is linked to it begins, or is cancelled.
    fn finish(&mut self, queue: u64, mut op: Op, mut outcome: Outcome) {
        outcome.socket = outcome.socket.or(op.about());
        let succeeded = outcome.result.is_ok() && !outcome.short;
        // One of many that a multishot accept brought is not its end.
        let more = matches!(
            op.what,
            What::First {
                multishot: true,
                ..
            }
        );
        self.tell(queue, outcome.completion(op.token, more));
        if succeeded {
            if let Some(next) = op.take_next() {
                self.follow(queue, next);
            }
            return;
        }
        for mut op in op.take_links() {
            let mut outcome = Outcome::new(0, Err(cancelled())).with(op.take_buffer());
            outcome.socket = op.about();
            self.tell(queue, outcome.completion(op.token, false));
        }
    }

    /// An operation is over without having been done, or not all of it. A file that is being read on ends when it comes back.
    fn give_up(&mut self, queue: u64, key: u64, mut op: Op, error: io::Error) {
        if matches!(op.what, What::FileUnderWay(_)) {
            return;
        }
        let result = match op.part_done() {
            0 => Err(error),
            n => Ok(n),
        };
        let mut outcome = Outcome::new(key, result).with(op.take_buffer());
        outcome.short = true;
        self.finish(queue, op, outcome);
    }

    /// As [`Driver::give_up`], for an error of a socket: when part was done it is told to the next operation.
    fn fail(&mut self, which: Which, op: Op, error: io::Error) {
        if op.part_done() == 0 {
            return self.give_up(which.queue, which.key, op, error);
        }
        self.give_up(which.queue, which.key, op, Errno::IO.into());
        if let Some(socket) = self.op_socket(which.token) {
            socket.error = Some(error);
        }
    }

    /// The error that ended an operation before, once.
    fn left_error(&mut self, which: Which) -> Option<io::Error> {
        self.op_socket(which.token)?.error.take()
    }

    fn unname(&mut self, queue: u64, name: (u64, u64)) {
        if let Some(entry) = self.queue(queue) {
            entry.named.remove(&name);
        }
    }

    /// Gives up what waits for the first bytes of a listener's connections, which nobody knows: they are reset. How many operations end.
    fn reset_unheard(&mut self, cx: &mut ShardCx<'_>, unheard: BTreeSet<u64>) -> usize {
        let mut n = 0;
        for token in unheard {
            let Some(Entry::Op(mut socket)) = self.entries.remove(key_of(token)) else {
                continue;
            };
            let _ = cx.host.abort(cx.now, socket.id);
            for op in socket.take_ops() {
                match op.what {
                    // The accept that brought it ends itself, and is counted where it waits.
                    What::First {
                        multishot: true, ..
                    } => {}
                    _ => {
                        n += 1;
                        self.give_up(socket.queue, socket.key, op, cancelled());
                    }
                }
            }
        }
        n
    }

    /// The last handle of a queue is gone: so are its sockets. Visits all sockets of the driver: queues end rarely.
    fn close_queue(&mut self, cx: &mut ShardCx<'_>, token: u64) {
        let entries = self.entries.iter();
        let sockets: Vec<_> = entries
            .filter_map(|(key, entry)| match entry {
                Entry::Op(socket) if socket.queue == token => Some((key, socket.id)),
                _ => None,
            })
            .collect();
        for (key, id) in sockets {
            let _ = cx.host.abort(cx.now, id);
            self.entries.remove(key);
        }
        self.desk.timeouts.retain(|_, (queue, _)| *queue != token);
        self.desk.work.retain(|(queue, _)| *queue != token);
        self.entries.remove(key_of(token));
    }

    /// The host is stopping: sockets are closed, and their operations over.
    pub(super) fn stop_op_socket(&mut self, cx: &mut ShardCx<'_>, token: u64) {
        let unclaimed = self.is_unclaimed(token);
        if let Some(Entry::Op(mut socket)) = self.entries.remove(key_of(token)) {
            for op in socket.take_ops() {
                self.give_up(socket.queue, socket.key, op, stopped());
            }
            self.reset_unclaimed(cx, socket.parts.take());
            let _ = match unclaimed {
                true => cx.host.abort(cx.now, socket.id),
                false => cx.host.close(cx.now, socket.id),
            };
        }
    }

    /// Ends what is under way without a socket, and hands over what all queues hold: nothing is taken any more.
    pub(super) fn stop_queues(&mut self) {
        for (_, (queue, op)) in std::mem::take(&mut self.desk.timeouts) {
            self.give_up(queue, 0, op, stopped());
        }
        for (queue, op) in std::mem::take(&mut self.desk.work) {
            self.give_up(queue, 0, op, stopped());
        }
        for token in self.tokens(|entry| matches!(entry, Entry::Queue(_))) {
            if let Some(entry) = self.queue(token) {
                entry.hand_over();
                entry.fail_stopped();
            }
        }
    }

    /// The shard is gone, with or without an end in order: so is what is under way.
    pub(super) fn end_ops(&mut self) {
        for token in self.tokens(|entry| matches!(entry, Entry::Op(_))) {
            let Some(socket) = self.op_socket(token) else {
                continue;
            };
            let (queue, key, ops) = (socket.queue, socket.key, socket.take_ops());
            for op in ops {
                self.give_up(queue, key, op, stopped());
            }
        }
        self.stop_queues();
    }

    /// Visits all there is in the table: only for the end.
    fn tokens(&self, which: impl Fn(&Entry) -> bool) -> Vec<u64> {
        let entries = self.entries.iter().filter(|(_, entry)| which(entry));
        entries.map(|(key, _)| token_of(key)).collect()
    }

    /// The error of a call on a socket.
    fn error_of(cx: &mut ShardCx<'_>, id: SocketId, error: stack::SocketError) -> io::Error {
        io_error(cx.host.take_error(id).unwrap_or(error))
    }
}
