//! Connects and accepts: one at a time, with first bytes and without. Connections are known by the port they come from.
//!
//! Of several connections that wait, a host of several shards may accept any; one of one shard accepts the oldest.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use base::epoll::EPOLLIN;
use engine::completion::{Completion, CompletionQueue, Handle, Op};
use rustix::io::Errno;
use stack::TcpOptions;

use crate::bench::{address, next};
use crate::model::{End, Expected, GROUP, How, Model, NOT_A_CONNECTION, Receive};

/// Connections that are open at a time, at most, and those of them that wait to be accepted.
const MOST: (usize, usize) = (4, 3);
const BACKLOG: usize = 8;

#[derive(Debug)]
struct Accept {
    token: u64,
    key: u64,
    /// How many of the first bytes it waits for.
    first: Option<usize>,
    multishot: bool,
}

/// The listener of the second host.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: Option<Handle>,
    pub(crate) at: SocketAddr,
    accepts: Vec<Accept>,
    /// The ends of connections that nobody has accepted.
    waiting: VecDeque<usize>,
    /// Connects that are under way.
    connecting: HashMap<u64, usize>,
    /// Ends, by where they are connected from.
    from: HashMap<SocketAddr, usize>,
    polls: Vec<u64>,
    doomed: Vec<u64>,
}

/// Every write leaves at once.
fn options() -> TcpOptions {
    TcpOptions {
        nodelay: true,
        ..TcpOptions::default()
    }
}

impl Listener {
    pub(crate) fn new(queue: &CompletionQueue, seed: u64) -> Self {
        let at = address(2, 1_000 + (seed % 50_000) as u16);
        let listen = Op::listen(at, BACKLOG, 1).tcp_options(options());
        queue.submit(listen).unwrap();
        let listening = next(queue);
        assert_eq!((listening.address, listening.key), (Some(at), 1));
        Self {
            socket: listening.socket,
            at,
            accepts: Vec::new(),
            waiting: VecDeque::new(),
            connecting: HashMap::new(),
            from: HashMap::new(),
            polls: Vec::new(),
            doomed: Vec::new(),
        }
    }

    pub(crate) fn connects(&self) -> bool {
        !self.connecting.is_empty()
    }

    pub(crate) fn is_connect(&self, token: u64) -> bool {
        self.connecting.contains_key(&token)
    }

    /// Nothing that was cancelled is still to come.
    pub(crate) fn is_rid(&self) -> bool {
        self.doomed.is_empty()
    }

    pub(crate) fn knows(&self, token: u64) -> bool {
        self.accepts.iter().any(|accept| accept.token == token)
            || self.polls.contains(&token)
            || self.doomed.contains(&token)
    }

    pub(crate) fn is_due(&self) -> bool {
        let accepts = self.accepts.first();
        let connection = !self.waiting.is_empty();
        let accepts = accepts.is_some_and(|accept| accept.first.is_none() && connection);
        accepts || !self.doomed.is_empty() || self.poll_is_due()
    }

    fn poll_is_due(&self) -> bool {
        !self.polls.is_empty() && self.accepts.is_empty() && !self.waiting.is_empty()
    }
}

/// Connecting.
impl Model<'_> {
    pub(crate) fn connect(&mut self) {
        let open = self
            .ends
            .chunks(2)
            .filter(|both| !both.iter().all(|end| end.closed));
        if open.count() >= MOST.0 || self.listener.waiting.len() >= MOST.1 {
            return;
        }
        // Of two that are on their way to accepts that tell nothing yet, it is not known whose is whose.
        if self.several && self.hears() {
            return;
        }
        let (near, token) = (self.ends.len(), self.token());
        let port = 10_000 + (self.seed * 16 + near as u64) % 50_000;
        let local = address(1, port as u16);
        let connect = Op::connect(self.listener.at, 7 + near as u64).bound_to(local);
        let connect = connect.tcp_options(options()).token(token);
        if self.listener.socket.is_none() {
            self.other(0, connect, Err(Errno::CONNREFUSED));
            return;
        }
        for e in [near, near + 1] {
            self.ends.push(End {
                key: 7 + e as u64,
                ..End::default()
            });
        }
        self.listener.connecting.insert(token, near);
        self.listener.from.insert(local, near + 1);
        self.listener.waiting.push_back(near + 1);
        self.submit(0, connect);
    }

    /// Whether first bytes are waited for.
    fn hears(&self) -> bool {
        let mut receives = self.ends.iter().flat_map(|end| &end.receives);
        receives.any(|own| matches!(own.how, How::First { .. }))
    }

    pub(crate) fn connected(&mut self, done: &Completion, result: Expected) {
        let near = self.listener.connecting.remove(&done.token).unwrap();
        assert_eq!((result, done.more), (Ok(0), false), "{done:?}");
        assert_eq!(done.address, Some(self.listener.at));
        assert_eq!(done.key, self.ends[near].key);
        self.ends[near].socket = done.socket;
    }

    /// One that is given up: nobody is there.
    pub(crate) fn connect_to_nobody(&mut self) {
        let connect = Op::connect(address(99, 1), 0);
        let token = self.other(0, connect, Err(Errno::CANCELED));
        self.other(0, Op::cancel_token(token), Ok(1));
    }
}

/// Accepting.
impl Model<'_> {
    pub(crate) fn accept_plain(&mut self) {
        self.accept_as(None, false);
    }

    pub(crate) fn accept(&mut self) {
        let multishot = self.below(4) == 0;
        // Of several that wait it is not known whose bytes are waited for.
        let is_known = !self.several || self.listener.waiting.len() < 2;
        let most = [None, Some(GROUP.1), Some(1 + self.below(200)), Some(0)];
        match most[self.below(4)] {
            Some(_) if !is_known => {}
            most => self.accept_as(most, multishot),
        }
    }

    fn accept_as(&mut self, most: Option<usize>, multishot: bool) {
        let Some(listener) = self.listener.socket else {
            return;
        };
        if self.listener.accepts.len() > 2 {
            return;
        }
        let token = self.token();
        let key = 100 + token;
        let (op, most) = match most {
            None => (Op::accept(listener, key), None),
            Some(0) => (
                Op::accept(listener, key).first_bytes_in(&self.no_buffer),
                Some(0),
            ),
            Some(len) if len != GROUP.1 && !multishot => (
                Op::accept(listener, key).first_bytes(vec![0; len]),
                Some(len),
            ),
            Some(_) => (
                Op::accept(listener, key).first_bytes_in(&self.group),
                Some(GROUP.1),
            ),
        };
        let op = match (multishot, most) {
            (false, _) => op,
            (true, None) => Op::accept_multishot(listener, key),
            (true, Some(0)) => Op::accept_multishot(listener, key).first_bytes_in(&self.no_buffer),
            (true, Some(_)) => Op::accept_multishot(listener, key).first_bytes_in(&self.group),
        };
        self.listener.accepts.push(Accept {
            token,
            key,
            first: most,
            multishot,
        });
        self.submit(1, op.token(token));
    }

    /// Connections whose first bytes are waited for.
    pub(crate) fn match_accepts(&mut self) {
        while let Some(accept) = self.listener.accepts.first()
            && let Some(most) = accept.first
            && let Some(e) = self.listener.waiting.pop_front()
        {
            let (token, multishot) = (accept.token, accept.multishot);
            self.ends[e].key = accept.key;
            self.ends[e].receives.push_back(Receive {
                token,
                how: How::First { most, multishot },
                got: Vec::new(),
                then: None,
            });
            if !multishot {
                self.listener.accepts.remove(0);
            }
        }
    }

    /// A completion of the listener.
    pub(crate) fn accepted(&mut self, done: &Completion, result: Expected) {
        let (token, listener) = (done.token, &mut self.listener);
        if let Some(at) = listener.doomed.iter().position(|own| *own == token) {
            listener.doomed.remove(at);
            assert_eq!((result, done.more), (Err(Errno::CANCELED), false));
            return assert!(done.socket == listener.socket || listener.socket.is_none());
        }
        if let Some(at) = listener.polls.iter().position(|own| *own == token) {
            assert!(listener.poll_is_due(), "{done:?} {listener:?}");
            listener.polls.remove(at);
            return assert_eq!(result.unwrap() as u32 & EPOLLIN, EPOLLIN);
        }
        let accept = listener.accepts.first().unwrap();
        assert_eq!(accept.token, token, "not in order: {done:?} {listener:?}");
        let known = done.address.map(|address| listener.from[&address]);
        if accept.first.is_some() {
            let mut unheard = (1..self.ends.len()).step_by(2);
            let reset = || unheard.find(|e| self.ends[*e].knows(token) && self.ends[*e].alone);
            return self.first_told(known.or_else(reset).unwrap(), done, result);
        }
        let (multishot, key) = (accept.multishot, accept.key);
        let waiting = &mut listener.waiting;
        let at = waiting.iter().position(|e| Some(*e) == known);
        let at = at.unwrap_or_else(|| panic!("{done:?} does not wait: {waiting:?}"));
        assert!(
            at == 0 || self.several,
            "{done:?} is not the oldest of {waiting:?}"
        );
        let e = waiting.remove(at).unwrap();
        if !multishot {
            listener.accepts.remove(0);
        }
        assert_eq!((result, done.more, done.key), (Ok(0), multishot, key));
        (self.ends[e].socket, self.ends[e].key) = (done.socket, key);
    }

    /// The first bytes of a connection have come, or its end.
    pub(crate) fn first_told(&mut self, e: usize, done: &Completion, result: Expected) {
        let end = &mut self.ends[e];
        let first = end.receives.pop_front().unwrap();
        let How::First { most, multishot } = first.how else {
            panic!("{done:?} {first:?}");
        };
        assert_eq!((first.token, end.key), (done.token, done.key));
        assert_eq!(done.more, multishot, "{done:?}");
        let due = !end.inbound.is_empty() || end.over;
        assert!(due, "{}: {:?}", done.token, done.result);
        match result {
            Err(Errno::NOBUFS) => assert_eq!(most, 0, "{done:?}"),
            Err(error) => {
                // It was reset before anybody knew of it.
                assert!(error == Errno::CONNRESET && end.alone, "{done:?}");
                end.closed = true;
                return;
            }
            Ok(n) => {
                assert!(n <= most && (n > 0 || end.inbound.is_empty()), "{done:?}");
                end.take_inbound(done.bytes());
            }
        }
        assert!(done.socket.is_some() && done.address.is_some());
        end.socket = done.socket;
    }

    /// As with bytes, it may be told of a connection that comes just then, whose first bytes are waited for.
    pub(crate) fn poll_listener(&mut self) {
        let Some(listener) = self.listener.socket else {
            return;
        };
        if self.hears() {
            return;
        }
        let token = self.token();
        self.listener.polls.push(token);
        self.poll_begins(1, listener, EPOLLIN, token);
    }

    /// Cancels what waits to accept under one word, or all; or closes the listener.
    pub(crate) fn end_accepts(&mut self) {
        let Some(listener) = self.listener.socket else {
            return;
        };
        let accepts = self.listener.accepts.iter().map(|accept| accept.token);
        let unheard = self.ends.iter().flat_map(|end| &end.receives);
        let unheard = unheard.filter(|own| matches!(own.how, How::First { .. }));
        let tokens: Vec<u64> = accepts.chain(unheard.map(|own| own.token)).collect();
        let is_known = !self.hears() || self.are_accepted();
        match self.below(5) {
            0 => self.close_listener(),
            _ if !is_known => {}
            1 => {
                let count = self.doom_accepts(|_| true);
                self.cancelling_accepts(Op::cancel_all(listener), count);
            }
            _ if tokens.is_empty() => {}
            _ => {
                let token = tokens[self.below(tokens.len())];
                let count = self.doom_accepts(|own| own == token);
                self.cancelling_accepts(Op::cancel(listener, token), count);
            }
        }
    }

    /// Whether connections whose first bytes are waited for are known to be accepted, which nothing tells. With one shard that can be
    /// waited for.
    fn are_accepted(&self) -> bool {
        if self.several {
            return false;
        }
        for (from, e) in &self.listener.from {
            let first = self.ends[*e].receives.front();
            if first.is_some_and(|first| matches!(first.how, How::First { .. })) {
                self.bench.until_accepted(*from);
            }
        }
        true
    }

    /// Whether a connection may be reset: who accepts it must have it, if it is not to vanish before.
    pub(crate) fn may_reset(&self, e: usize) -> bool {
        let peer = &self.ends[e ^ 1];
        let known = peer.socket.is_some() || peer.closed;
        known || (!peer.receives.is_empty() && self.are_accepted())
    }

    fn cancelling_accepts(&mut self, op: Op, count: usize) {
        let expected = match count {
            0 => Err(Errno::NOENT),
            n => Ok(n),
        };
        self.other_then(1, op, (expected, Some(NOT_A_CONNECTION)), None);
    }

    /// Nobody will accept under these words; connections whose first bytes were waited for are reset. How many operations end.
    fn doom_accepts(&mut self, which: impl Fn(u64) -> bool) -> usize {
        let listener = &mut self.listener;
        let before = listener.doomed.len();
        let accepts = listener.accepts.extract_if(.., |own| which(own.token));
        listener.doomed.extend(accepts.map(|own| own.token));
        let polls = listener.polls.extract_if(.., |own| which(*own));
        listener.doomed.extend(polls);
        for e in (1..self.ends.len()).step_by(2) {
            let unheard = self.ends[e]
                .receives
                .pop_front_if(|own| matches!(own.how, How::First { .. }) && which(own.token));
            match unheard.map(|own| (own.how, own.token)) {
                None => continue,
                // The accept that brought it ends itself.
                Some((
                    How::First {
                        multishot: true, ..
                    },
                    _,
                )) => {}
                Some((_, token)) => self.listener.doomed.push(token),
            }
            self.closes(e, true);
        }
        self.listener.doomed.len() - before
    }

    /// What nobody has accepted is reset.
    pub(crate) fn close_listener(&mut self) {
        let Some(listener) = self.listener.socket else {
            return;
        };
        self.doom_accepts(|_| true);
        while let Some(e) = self.listener.waiting.pop_front() {
            self.closes(e, true);
        }
        let close = Op::close(listener);
        self.other_then(1, close, (Ok(0), Some(NOT_A_CONNECTION)), None);
        self.listener.socket = None;
    }
}
