//! What is known of sockets and operations, what must come of them, and whether that is what comes.
//!
//! Invariant: after [`Model::settle`] nothing is due: whatever is under way waits for something that is still to be done.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use base::Rng;
use base::epoll::{EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP};
use engine::completion::{BufferGroup, Completion, CompletionQueue, Handle, Op};
use rustix::io::Errno;

use crate::bench::{Bench, LONG};
use crate::datagrams::Port;
use crate::listeners::Listener;

/// Buffers of the group, and their bytes: more than is ever unread.
pub(crate) const GROUP: (usize, usize) = (128, 64);
/// Bytes that may be unread, of all connections.
pub(crate) const UNREAD_MOST: usize = 4_000;
/// Bytes of the file.
pub(crate) const FILE: usize = 5_000;

/// How something ends.
pub(crate) type Expected = Result<usize, Errno>;

/// What begins when what it is linked to has succeeded.
#[derive(Debug, Clone)]
pub(crate) struct Next {
    pub(crate) token: u64,
    pub(crate) what: Follow,
}

#[derive(Debug, Clone)]
pub(crate) enum Follow {
    /// A send at this end.
    Send(usize, Vec<u8>),
    Timeout,
}

/// How an operation takes what comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum How {
    Some(usize),
    All(usize),
    Multishot,
    /// Of nothing, only to be told.
    Told,
    /// Into a group without a buffer, or of buffers without room.
    Refused(Errno),
    /// Away to this end.
    Splice {
        to: usize,
        left: u64,
    },
    /// The first bytes of a connection, for an accept of many or of one.
    First {
        most: usize,
        multishot: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Receive {
    pub(crate) token: u64,
    pub(crate) how: How,
    /// Bytes it has so far, which only those keep that ask for all, and those that splices have moved.
    pub(crate) got: Vec<u8>,
    pub(crate) then: Option<Next>,
}

/// What was cancelled, with the bytes it had.
#[derive(Debug)]
pub(crate) struct Doomed {
    pub(crate) token: u64,
    pub(crate) got: Vec<u8>,
    /// Where they went to, of a splice.
    pub(crate) to: Option<usize>,
    /// It may have ended otherwise before.
    pub(crate) lenient: bool,
}

impl Doomed {
    pub(crate) fn new(token: u64) -> Self {
        Self {
            token,
            got: Vec::new(),
            to: None,
            lenient: false,
        }
    }
}

/// Bytes that nobody has taken: too many to be shown.
#[derive(Default)]
pub(crate) struct Unread(pub(crate) VecDeque<u8>);

impl std::fmt::Debug for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl std::ops::Deref for Unread {
    type Target = VecDeque<u8>;

    fn deref(&self) -> &VecDeque<u8> {
        &self.0
    }
}

impl std::ops::DerefMut for Unread {
    fn deref_mut(&mut self) -> &mut VecDeque<u8> {
        &mut self.0
    }
}

/// One end of a connection. The peer of end `e` is `e ^ 1`, and it is on host `e & 1`.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// Before it is accepted, and when it is closed, there is none.
    pub(crate) socket: Option<Handle>,
    pub(crate) key: u64,
    /// Closed, or reset before anybody knew of it.
    pub(crate) closed: bool,
    /// Bytes sent to it that nothing here has taken.
    pub(crate) inbound: Unread,
    /// The other end sends no more.
    pub(crate) over: bool,
    /// A reset may come: what is sent may fail, and what is received, too.
    pub(crate) alone: bool,
    /// The other end is closed: a reset answers whatever is sent.
    pub(crate) gone: bool,
    /// Nothing more is sent from here.
    pub(crate) ended: bool,
    pub(crate) receives: VecDeque<Receive>,
    pub(crate) sends: VecDeque<(u64, Expected)>,
    pub(crate) polls: Vec<(u64, u32)>,
    /// What was cancelled, in order.
    pub(crate) doomed: VecDeque<Doomed>,
}

impl End {
    /// What a poll tells.
    pub(crate) fn bits(&self) -> u32 {
        let readable = !self.inbound.is_empty() || self.over;
        let bits = [
            (readable, EPOLLIN),
            (true, EPOLLOUT),
            (self.over, EPOLLRDHUP),
            (self.over && self.ended, EPOLLHUP),
        ];
        let told = bits.iter().filter(|(is, _)| *is);
        told.fold(0, |all, (_, bit)| all | bit)
    }

    /// Whether the first operation that takes what comes in has something now.
    pub(crate) fn receives_now(&self, usable: impl Fn(usize) -> bool) -> bool {
        let over = self.over || self.alone;
        self.receives.front().is_some_and(|first| match first.how {
            How::All(len) => over || first.got.len() == len,
            How::Splice { to, left } => {
                left == 0 || !usable(to) || (over && self.inbound.is_empty())
            }
            _ => over || !self.inbound.is_empty(),
        })
    }
}

/// Something without bytes of its own.
#[derive(Debug)]
pub(crate) struct Other {
    pub(crate) expected: Expected,
    /// It may end otherwise.
    pub(crate) lenient: bool,
    pub(crate) then: Option<Next>,
    /// What was cancelled comes first: of an end, or of what is not a connection.
    pub(crate) after: Option<usize>,
}

pub(crate) struct Model<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) ends: Vec<End>,
    pub(crate) others: [HashMap<u64, Other>; 2],
    pub(crate) listener: Listener,
    pub(crate) ports: [Port; 2],
    pub(crate) queues: [CompletionQueue; 2],
    /// The hosts are of several shards.
    pub(crate) several: bool,
    /// Which sockets are on one shard, as far as that was asked.
    pub(crate) together: HashMap<(usize, usize), bool>,
    pub(crate) group: BufferGroup,
    pub(crate) no_buffer: BufferGroup,
    pub(crate) no_room: BufferGroup,
    pub(crate) file: Arc<File>,
    pub(crate) seed: u64,
    /// Completions that are not understood yet.
    held: [Option<Completion>; 2],
    token: u64,
    written: usize,
    rng: Rng,
}

impl<'a> Model<'a> {
    pub(crate) fn new(seed: u64, bench: &'a Bench, several: bool) -> Self {
        let queues: [CompletionQueue; 2] = bench.queues(512).into();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&file_bytes(0, FILE), 0).unwrap();
        let mut model = Self {
            bench,
            ends: Vec::new(),
            others: Default::default(),
            listener: Listener::new(&queues[1], seed),
            ports: Port::pair(&queues),
            queues,
            several,
            together: HashMap::new(),
            group: BufferGroup::new(GROUP.0, GROUP.1),
            no_buffer: BufferGroup::new(0, GROUP.1),
            no_room: BufferGroup::new(4, 0),
            file: Arc::new(file),
            seed,
            held: [None, None],
            token: 0,
            written: 0,
            rng: Rng::from_seed(seed),
        };
        // There is a connection to begin with.
        model.connect();
        model.accept_plain();
        model.settle();
        model
    }

    pub(crate) fn token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.rng.below(n as u32) as usize
    }

    /// Bytes that were not sent before.
    pub(crate) fn fresh(&mut self, len: usize) -> Vec<u8> {
        let at = self.written;
        self.written += len;
        (at..at + len).map(|at| (at * 31 % 251) as u8).collect()
    }

    pub(crate) fn unread(&self) -> usize {
        self.ends.iter().map(|end| end.inbound.len()).sum()
    }

    pub(crate) fn submit(&mut self, side: usize, op: Op) {
        match self.below(3) {
            0 => self.queues[side].submit_all(&mut vec![op]).unwrap(),
            _ => self.queues[side].submit(op).unwrap(),
        }
    }

    /// A poll, which has begun when what comes behind it is over: else it might see what another takes later.
    pub(crate) fn poll_begins(&mut self, side: usize, socket: Handle, interest: u32, token: u64) {
        self.submit(side, Op::poll(socket, interest).token(token));
        self.other(side, Op::cancel(socket, 1 << 40), Err(Errno::NOENT));
    }

    /// Something that ends by itself, with how it ends; its word.
    pub(crate) fn other(&mut self, side: usize, op: Op, expected: Expected) -> u64 {
        self.other_then(side, op, (expected, None), None)
    }

    /// As that, with what is linked to it, and with what was cancelled before it.
    pub(crate) fn other_then(
        &mut self,
        side: usize,
        op: Op,
        (expected, after): (Expected, Option<usize>),
        then: Option<Next>,
    ) -> u64 {
        let token = self.token();
        let op = self.linked(op.token(token), then.as_ref());
        let other = Other {
            expected,
            lenient: false,
            then,
            after,
        };
        self.others[side].insert(token, other);
        self.submit(side, op);
        token
    }

    /// An operation with what is linked to it.
    pub(crate) fn linked(&self, op: Op, then: Option<&Next>) -> Op {
        let Some(Next { token, what }) = then else {
            return op;
        };
        let next = match what {
            Follow::Send(e, bytes) => Op::send(self.socket(*e), bytes.clone()),
            Follow::Timeout => Op::timeout(Duration::ZERO),
        };
        op.then(next.token(*token))
    }

    pub(crate) fn socket(&self, e: usize) -> Handle {
        self.ends[e].socket.unwrap()
    }

    /// What is linked to something begins.
    pub(crate) fn begin(&mut self, side: usize, next: Next, lenient: bool) {
        match next.what {
            Follow::Send(e, bytes) => self.send_begins(e, next.token, &bytes),
            Follow::Timeout => {
                let other = Other {
                    expected: Ok(0),
                    lenient,
                    then: None,
                    after: None,
                };
                self.others[side].insert(next.token, other);
            }
        }
    }

    /// Whether bytes can be spliced to an end.
    pub(crate) fn takes(&self, e: usize) -> bool {
        !self.ends[e].closed && !self.ends[e].ended
    }

    fn end_is_due(&self, e: usize) -> bool {
        let end = &self.ends[e];
        end.receives_now(|to| self.takes(to))
            || !end.sends.is_empty()
            || !end.doomed.is_empty()
            || end.polls.iter().any(|poll| poll_is_due(end, poll.1))
    }

    /// Whether something must come, whatever is done next.
    fn is_due(&self, side: usize) -> bool {
        let mut ends = (side..self.ends.len()).step_by(2);
        ends.any(|e| self.end_is_due(e))
            || !self.others[side].is_empty()
            || self.ports[side].is_due()
            || (side == 1 && self.listener.is_due())
            || (side == 0 && self.listener.connects())
    }

    /// The next queue to wait on: files are read by who waits for what is sent.
    fn next_side(&self) -> Option<usize> {
        let free = |side: &usize| self.held[*side].is_none();
        let sends = |side: &usize| {
            let mut ends = self.ends.iter().skip(*side).step_by(2);
            ends.any(|end| !end.sends.is_empty())
        };
        let sends = (0..2).filter(free).find(sends);
        sends.or_else(|| (0..2).filter(free).find(|side| self.is_due(*side)))
    }

    /// Takes all that must come, and nothing else comes.
    pub(crate) fn settle(&mut self) {
        self.flow();
        while let Some(side) = self.next_side() {
            let mut one = Vec::new();
            self.queues[side].wait(&mut one, 1, LONG).unwrap();
            self.held[side] = one.pop();
            assert!(
                self.held[side].is_some(),
                "nothing came on {side}: {self:?}"
            );
            self.take_held();
        }
        for side in 0..2 {
            let mut more = Vec::new();
            let now = Some(Duration::ZERO);
            self.queues[side].wait(&mut more, 9, now).unwrap();
            for done in more {
                self.take(side, done);
                self.flow();
            }
        }
        assert!(self.held.iter().all(Option::is_none), "{self:?}");
    }

    /// Takes what came. What came of something that is still to be told on the other side, a splice, waits for that.
    fn take_held(&mut self) {
        let fits = |model: &Self, side: usize| {
            let held = model.held[side].as_ref();
            held.is_some_and(|done| model.fits(side, done))
        };
        while let Some(side) = (0..2).find(|side| fits(self, *side)) {
            if let Some(done) = self.held[side].take() {
                self.take(side, done);
                self.flow();
            }
        }
    }

    /// Whether what it brings is known to have been sent.
    fn fits(&self, side: usize, done: &Completion) -> bool {
        let mut ends = (side..self.ends.len()).step_by(2);
        let known = ends.find(|e| self.ends[*e].knows(done.token));
        let Some(end) = known.map(|e| &self.ends[e]) else {
            return true;
        };
        if end.socket.is_none() {
            return true;
        }
        let first = end.receives.front();
        if first.is_some_and(|first| first.token == done.token) {
            let takes = matches!(first.map(|first| &first.how), Some(How::All(_)));
            let bytes = takes || done.bytes().len() <= end.inbound.len();
            return end.alone || (bytes && end.receives_now(|to| self.takes(to)));
        }
        let poll = end.polls.iter().find(|poll| poll.0 == done.token);
        end.alone || poll.is_none_or(|poll| poll_is_due(end, poll.1))
    }

    pub(crate) fn take(&mut self, side: usize, done: Completion) {
        let token = done.token;
        let result = done.result.as_ref().copied().map_err(|error| {
            Errno::from_io_error(error).unwrap_or_else(|| panic!("{token}: {error}"))
        });
        if let Some(other) = self.others[side].remove(&token) {
            return self.other_ended(side, other, &done, result);
        }
        if side == 0 && self.listener.is_connect(token) {
            return self.connected(&done, result);
        }
        if side == 1 && self.listener.knows(token) {
            return self.accepted(&done, result);
        }
        if self.ports[side].knows(token) {
            return self.datagram_ended(side, &done, result);
        }
        let mut ends = (side..self.ends.len()).step_by(2);
        let Some(e) = ends.find(|e| self.ends[*e].knows(token)) else {
            panic!("{token} is not due on {side}: {done:?} {self:?}");
        };
        self.end_told(e, &done, result);
    }

    fn other_ended(&mut self, side: usize, other: Other, done: &Completion, result: Expected) {
        let is_first = match other.after {
            None => true,
            Some(NOT_A_CONNECTION) => self.ports[side].is_rid() && self.listener.is_rid(),
            Some(e) => self.ends[e].doomed.is_empty(),
        };
        assert!(
            is_first,
            "what was cancelled comes first: {done:?} {self:?}"
        );
        let as_said = (result, done.more) == (other.expected, false);
        assert!(
            as_said || other.lenient,
            "{:?}, not {done:?}: {self:?}",
            other.expected
        );
        match (other.then, result) {
            (Some(next), Ok(_)) => self.begin(side, next, other.lenient),
            (Some(next), Err(_)) => self.cancel_next(side, next),
            (None, _) => {}
        }
    }

    /// What is linked to something that has failed is cancelled.
    pub(crate) fn cancel_next(&mut self, side: usize, next: Next) {
        let other = Other {
            expected: Err(Errno::CANCELED),
            lenient: false,
            then: None,
            after: None,
        };
        self.others[side].insert(next.token, other);
    }
}

/// Of [`Other::after`]: the listener, or the datagram socket.
pub(crate) const NOT_A_CONNECTION: usize = usize::MAX;

/// Whether a poll of an end is answered now.
pub(crate) fn poll_is_due(end: &End, interest: u32) -> bool {
    // What waits before it takes what comes.
    end.receives.is_empty() && end.bits() & (interest | EPOLLHUP | EPOLLERR) != 0
        || end.bits() & (interest | EPOLLHUP) & !EPOLLIN != 0
}

/// Bytes of the file.
pub(crate) fn file_bytes(at: usize, len: usize) -> Vec<u8> {
    let end = (at + len).min(FILE);
    (at.min(end)..end).map(|at| (at * 7 % 253) as u8).collect()
}

impl std::fmt::Debug for Model<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("ends", &self.ends)
            .field("others", &self.others)
            .field("listener", &self.listener)
            .field("ports", &self.ports)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
