//! Completion queues against a simple model: random programs of operations on both ends of a connection, of which the model says
//! what must come out: which operation ends next, with what result and which bytes, and what waits.
//!
//! What does not live here: that each operation ends once however many are under way at a time (`completion`). Here each step is
//! waited for, so that what comes is certain.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // what others need of it
mod bench;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base::Rng;
use bench::{Bench, LONG, address};
use engine::completion::{BufferGroup, Completion, CompletionQueue, Handle, Op};
use rustix::io::Errno;
use stack::{Shutdown, TcpOptions};

/// Programs run unless COMPLETION_PROGRAMS says otherwise.
const PROGRAMS: u64 = 300;
/// Buffers of the group, and their bytes: more than is ever unread.
const GROUP: (usize, usize) = (128, 64);
const UNREAD_MOST: usize = 4_000;

/// A byte of the stream that this end sends.
fn byte(side: usize, at: usize) -> u8 {
    ((at * 31 + side * 101) % 251) as u8
}

/// A send that begins when what it is linked to has succeeded.
#[derive(Debug, Clone, Copy)]
struct Next {
    token: u64,
    len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Some(usize),
    All(usize),
    Multishot,
}

#[derive(Debug)]
struct Receive {
    token: u64,
    how: How,
    /// Bytes it has so far, which only one that asks for all keeps.
    got: usize,
    then: Option<Next>,
}

/// How something ends that no bytes are waited for.
type Expected = Result<usize, Errno>;

/// One end: what is under way on it.
#[derive(Debug, Default)]
struct End {
    receives: VecDeque<Receive>,
    sends: VecDeque<(u64, Expected)>,
    others: HashMap<u64, (Expected, Option<Next>)>,
    /// What was cancelled, in order, with the bytes it has, and where they are in the stream.
    doomed: VecDeque<(u64, usize, usize)>,
    /// Bytes that were sent from here, and read here.
    sent: usize,
    read: usize,
    /// Nothing more is sent from here.
    ended: bool,
    /// The other end has closed: what is sent may fail, and what is received, too, if something was not read there.
    alone: bool,
}

struct Model {
    ends: [End; 2],
    queues: [CompletionQueue; 2],
    sockets: [Handle; 2],
    group: BufferGroup,
    token: u64,
    rng: Rng,
}

impl Model {
    fn new(seed: u64, queues: [CompletionQueue; 2], port: u16) -> Self {
        let next = |queue: &CompletionQueue| one(queue);
        // Every write leaves at once.
        let options = || TcpOptions {
            nodelay: true,
            ..TcpOptions::default()
        };
        let listen = Op::listen(address(2, port), 4, 1).tcp_options(options());
        queues[1].submit(listen).unwrap();
        let listener = next(&queues[1]).socket.unwrap();
        let connect = Op::connect(address(2, port), 7).tcp_options(options());
        queues[0].submit(connect).unwrap();
        let near = next(&queues[0]).socket.unwrap();
        queues[1].submit(Op::accept(listener, 8)).unwrap();
        let far = next(&queues[1]).socket.unwrap();
        queues[1].submit(Op::close(listener)).unwrap();
        next(&queues[1]).result.unwrap();
        Self {
            ends: Default::default(),
            queues,
            sockets: [near, far],
            group: BufferGroup::new(GROUP.0, GROUP.1),
            token: 0,
            rng: Rng::from_seed(seed),
        }
    }

    fn token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.below(n as u32) as usize
    }

    /// Bytes that wait to be read at an end, or are on their way.
    fn unread(&self, side: usize) -> usize {
        self.ends[1 - side].sent - self.ends[side].read
    }

    /// The operation of a send at this place of the stream, and how it will end: as if it began now.
    fn send(&mut self, side: usize, token: u64, len: usize, at: usize) -> Op {
        let bytes: Vec<u8> = (at..at + len).map(|at| byte(side, at)).collect();
        Op::send(self.sockets[side], bytes).token(token)
    }

    /// A send begins.
    fn begin(&mut self, side: usize, next: Next) {
        let end = &mut self.ends[side];
        let ended = match end.ended {
            true => Err(Errno::PIPE),
            false => Ok(next.len),
        };
        if ended.is_ok() {
            end.sent += next.len;
        }
        end.sends.push_back((next.token, ended));
    }

    /// Whether something must come, whatever is done next.
    fn is_due(&self, side: usize) -> bool {
        let end = &self.ends[side];
        let unread = self.unread(side);
        let over = self.ends[1 - side].ended || end.alone;
        let first = end.receives.front().is_some_and(|first| match first.how {
            How::All(len) => over || first.got + unread >= len,
            _ => over || unread > 0,
        });
        first || !end.sends.is_empty() || !end.others.is_empty() || !end.doomed.is_empty()
    }

    /// Takes all that must come, and nothing else comes.
    fn settle(&mut self) {
        while let Some(side) = (0..2).find(|side| self.is_due(*side)) {
            let completion = one(&self.queues[side]);
            self.take(side, completion);
        }
        for (side, queue) in self.queues.iter().enumerate() {
            let mut more = Vec::new();
            queue.wait(&mut more, 9, Some(Duration::ZERO)).unwrap();
            assert!(more.is_empty(), "{side}: {more:?} {:?}", self.ends);
        }
    }

    fn take(&mut self, side: usize, done: Completion) {
        let token = done.token;
        let result = done.result.as_ref().copied().map_err(|error| {
            Errno::from_io_error(error).unwrap_or_else(|| panic!("{token}: {error}"))
        });
        let end = &mut self.ends[side];
        if let Some((_, got, at)) = end.doomed.pop_front_if(|doomed| doomed.0 == token) {
            // It may have been cancelled before what it waited for was there.
            match result {
                Ok(n) => assert!((1..=got).contains(&n), "{token} was cancelled: {done:?}"),
                Err(error) => assert_eq!(error, Errno::CANCELED, "{token}"),
            }
            end.read -= got - result.unwrap_or(0);
            return check(side, at, done.bytes());
        }
        if end
            .receives
            .front()
            .is_some_and(|first| first.token == token)
        {
            return self.received(side, &done, result);
        }
        if let Some((_, expected)) = end.sends.pop_front_if(|first| first.0 == token) {
            assert!(end.alone || result == expected, "{token}: {done:?}");
            assert!(done.buffer.is_some() && !done.more);
            return;
        }
        let Some((expected, then)) = end.others.remove(&token) else {
            panic!("{token} is not due on {side}: {done:?} {end:?}");
        };
        assert!(end.doomed.is_empty(), "what was cancelled comes first");
        assert_eq!((result, done.more), (expected, false), "{token}");
        if let Some(next) = then {
            self.begin(side, next);
        }
    }

    /// The first that waits to receive has something.
    fn received(&mut self, side: usize, done: &Completion, result: Expected) {
        let unread = self.unread(side);
        let over = self.ends[1 - side].ended || self.ends[side].alone;
        let end = &mut self.ends[side];
        let first = end.receives.front_mut().unwrap();
        let at = end.read - first.got;
        let Ok(n) = result else {
            assert!(end.alone, "{done:?}");
            let then = end.receives.pop_front().unwrap().then;
            end.doomed.extend(then.map(|next| (next.token, 0, 0)));
            return;
        };
        check(side, at, done.bytes());
        let last = match first.how {
            How::Some(len) => {
                assert!(n <= len.min(unread) && (n > 0 || over), "{done:?}");
                end.read += n;
                true
            }
            How::All(len) => {
                assert_eq!(n, len.min(first.got + unread), "{done:?}");
                end.read += n - first.got;
                true
            }
            How::Multishot => {
                assert!(n <= GROUP.1.min(unread) && (n > 0) == done.more, "{done:?}");
                end.read += n;
                !done.more
            }
        };
        assert_eq!(done.more, !last, "{done:?}");
        if last && let Some(next) = end.receives.pop_front().unwrap().then {
            self.begin(side, next);
        }
    }

    /// What waits to receive takes what it finds, though it waits on.
    fn fill(&mut self) {
        for side in 0..2 {
            let unread = self.unread(side);
            let end = &mut self.ends[side];
            if let Some(Receive {
                how: How::All(_),
                got,
                ..
            }) = end.receives.front_mut()
            {
                *got += unread;
                end.read += unread;
            }
        }
    }

    fn doom(&mut self, side: usize, which: impl Fn(u64) -> bool) -> Expected {
        let end = &mut self.ends[side];
        let mut count = 0;
        let mut kept = VecDeque::new();
        for receive in std::mem::take(&mut end.receives) {
            if !which(receive.token) {
                kept.push_back(receive);
                continue;
            }
            count += 1;
            let at = end.read - receive.got;
            end.doomed.push_back((receive.token, receive.got, at));
            let then = receive.then.map(|next| (next.token, 0, 0));
            end.doomed.extend(then);
        }
        end.receives = kept;
        match count {
            0 => Err(Errno::NOENT),
            n => Ok(n),
        }
    }

    fn submit(&mut self, side: usize, op: Op) {
        self.queues[side].submit(op).unwrap();
    }

    /// Something else than bytes, with how it ends.
    fn other(&mut self, side: usize, op: Op, expected: Expected, then: Option<Next>) {
        let token = self.token();
        let mut op = op.token(token);
        if let Some(next) = then {
            op = op.then(self.send(side, next.token, next.len, self.ends[side].sent));
        }
        self.ends[side].others.insert(token, (expected, then));
        self.submit(side, op);
    }

    /// Whether a send waits for a receive: its bytes come next, so nothing else is sent meanwhile.
    fn is_linked(&self, side: usize) -> bool {
        let mut receives = self.ends[side].receives.iter();
        receives.any(|receive| receive.then.is_some())
    }

    /// A send that may be linked to what is done now.
    fn maybe_next(&mut self, side: usize) -> Option<Next> {
        let next = self.below(3) == 0 && !self.is_linked(side);
        next.then(|| Next {
            token: self.token(),
            len: 1 + self.below(300),
        })
    }

    fn receive(&mut self, side: usize) {
        let socket = self.sockets[side];
        let len = 1 + self.below(900);
        let (how, op) = match self.below(5) {
            0 | 1 => (How::Some(len), Op::receive(socket, vec![0; len])),
            2 => (How::Some(GROUP.1), Op::receive_in(socket, &self.group)),
            3 => (How::All(len), Op::receive_all(socket, vec![0; len])),
            _ => (How::Multishot, Op::receive_multishot(socket, &self.group)),
        };
        let token = self.token();
        let then = self.maybe_next(side);
        let receive = Receive {
            token,
            how,
            got: 0,
            then,
        };
        let mut op = op.token(token);
        if let Some(next) = then {
            op = op.then(self.send(side, next.token, next.len, self.ends[side].sent));
        }
        self.ends[side].receives.push_back(receive);
        self.submit(side, op);
    }

    fn step(&mut self) {
        let side = self.below(2);
        let socket = self.sockets[side];
        match self.below(20) {
            0..=6 if self.unread(1 - side) < UNREAD_MOST && !self.is_linked(side) => {
                let (token, len) = (self.token(), 1 + self.below(900));
                let mut op = self.send(side, token, len, self.ends[side].sent);
                self.begin(side, Next { token, len });
                if self.below(4) == 0 {
                    let next = Next {
                        token: self.token(),
                        len: 1 + self.below(300),
                    };
                    op = op.then(self.send(side, next.token, next.len, self.ends[side].sent));
                    match self.ends[side].ended {
                        false => self.begin(side, next),
                        true => self.ends[side].doomed.push_back((next.token, 0, 0)),
                    }
                }
                self.submit(side, op);
            }
            7..=11 => self.receive(side),
            12 => {
                let here = self.ends[side].receives.iter().map(|r| r.token);
                let tokens: Vec<u64> = here.chain([1 << 40]).collect();
                let token = tokens[self.below(tokens.len())];
                let expected = self.doom(side, |own| own == token);
                self.other(side, Op::cancel(socket, token), expected, None);
            }
            13 => {
                let expected = self.doom(side, |_| true);
                self.other(side, Op::cancel_all(socket), expected, None);
            }
            14 => {
                let after = Duration::from_micros(self.below(300) as u64);
                let then = self.maybe_next(side);
                self.other(side, Op::timeout(after), Ok(0), then);
            }
            15 => {
                let hour = Op::timeout(Duration::from_secs(3600));
                self.other(side, hour, Err(Errno::CANCELED), None);
                let token = self.token;
                self.other(side, Op::cancel_token(token), Ok(1), None);
            }
            16 => {
                let (token, result) = (self.token(), self.below(99));
                self.ends[side].others.insert(token, (Ok(result), None));
                self.queues[side].post(token, 5, result).unwrap();
            }
            17 if !self.ends[side].ended && self.below(4) == 0 => {
                self.ends[side].ended = true;
                self.other(side, Op::shutdown(socket, Shutdown::Write), Ok(0), None);
            }
            _ => {}
        }
    }

    /// An end closes: what waits on it is cancelled, and the other end hears of it.
    fn close(&mut self, side: usize) {
        let _ = self.doom(side, |_| true);
        self.other(side, Op::close(self.sockets[side]), Ok(0), None);
        self.ends[side].ended = true;
        self.ends[1 - side].alone = true;
        self.settle();
    }
}

/// The next completion.
fn one(queue: &CompletionQueue) -> Completion {
    let mut one = Vec::new();
    assert_eq!(queue.wait(&mut one, 1, LONG).unwrap(), 1, "nothing came");
    one.pop().unwrap()
}

/// Whether these are the bytes that the other end has sent, from there on.
fn check(side: usize, at: usize, bytes: &[u8]) {
    let mut expected = (at..).map(|at| byte(1 - side, at));
    assert!(
        bytes.iter().all(|byte| expected.next() == Some(*byte)),
        "at {at}"
    );
}

#[test]
fn random_programs_end_as_in_the_model() {
    // Both ends of a program are on hosts of one shard, or of several.
    let benches: Vec<Bench> = Bench::each().collect();
    let programs = std::env::var("COMPLETION_PROGRAMS").ok();
    let programs = programs.map_or(PROGRAMS, |text| text.parse().unwrap());
    for seed in 0..programs {
        let (a, b) = benches[seed as usize % benches.len()].queues(512);
        let program = || {
            let mut model = Model::new(seed, [a, b], 1000 + (seed % 50_000) as u16);
            for _ in 0..60 {
                model.step();
                model.settle();
                model.fill();
            }
            let first = model.below(2);
            model.close(first);
            model.close(1 - first);
            assert_eq!(model.group.available(), GROUP.0);
        };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(program));
        assert!(ended.is_ok(), "seed {seed}");
    }
}
