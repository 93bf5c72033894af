//! A datagram socket on each host, and what they send each other.

use std::collections::VecDeque;
use std::net::SocketAddr;

use base::epoll::{EPOLLIN, EPOLLOUT};
use engine::Ecn;
use engine::completion::{Completion, CompletionQueue, Handle, Op};
use rustix::io::Errno;

use crate::bench::{address, done};
use crate::model::{Expected, GROUP, How, Model, NOT_A_CONNECTION, Unread};

/// Datagrams that wait at a socket, at most.
const MOST: usize = 40;

#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) socket: Handle,
    at: SocketAddr,
    key: u64,
    inbound: VecDeque<Unread>,
    receives: Vec<(u64, How)>,
    polls: Vec<(u64, u32)>,
    doomed: VecDeque<u64>,
}

impl Port {
    pub(crate) fn pair(queues: &[CompletionQueue; 2]) -> [Self; 2] {
        [0, 1].map(|side| {
            let key = 40 + side as u64;
            let bound = done(&queues[side], Op::bind(address(1 + side as u8, 0), key));
            Self {
                socket: bound.socket.unwrap(),
                at: bound.address.unwrap(),
                key,
                inbound: VecDeque::new(),
                receives: Vec::new(),
                polls: Vec::new(),
                doomed: VecDeque::new(),
            }
        })
    }

    pub(crate) fn is_rid(&self) -> bool {
        self.doomed.is_empty()
    }

    pub(crate) fn knows(&self, token: u64) -> bool {
        self.receives.iter().any(|own| own.0 == token)
            || self.polls.iter().any(|own| own.0 == token)
            || self.doomed.contains(&token)
    }

    pub(crate) fn is_due(&self) -> bool {
        let receives = !self.receives.is_empty() && !self.inbound.is_empty();
        let polls = self.polls.iter().any(|poll| self.poll_is_due(poll.1));
        receives || polls || !self.doomed.is_empty()
    }

    fn poll_is_due(&self, interest: u32) -> bool {
        let readable = !self.inbound.is_empty() && self.receives.is_empty();
        interest & EPOLLOUT != 0 || (interest & EPOLLIN != 0 && readable)
    }
}

impl Model<'_> {
    pub(crate) fn send_to(&mut self, side: usize) {
        if self.ports[1 - side].inbound.len() > MOST {
            return;
        }
        let len = self.below(900);
        let bytes = self.fresh(len);
        let to = self.ports[1 - side].at;
        let op = Op::send_to(self.ports[side].socket, bytes.clone(), to);
        let (op, size) = match self.below(4) {
            // A train of several.
            0 if len > 0 => {
                let size = len.div_ceil(1 + self.below(9));
                (op.segment(size as u16), size)
            }
            1 => (op.ecn(Ecn::Ect0), len),
            _ => (op, len),
        };
        let inbound = &mut self.ports[1 - side].inbound;
        match len {
            0 => inbound.push_back(Unread::default()),
            _ => inbound.extend(bytes.chunks(size).map(|part| Unread(part.to_vec().into()))),
        }
        self.other(side, op, Ok(len));
    }

    pub(crate) fn receive_from(&mut self, side: usize) {
        let socket = self.ports[side].socket;
        let len = 1 + self.below(900);
        let (how, op) = match self.below(8) {
            0 | 1 => (How::Some(len), Op::receive(socket, vec![0; len])),
            // One datagram all the same.
            2 => (How::Some(len), Op::receive_all(socket, vec![0; len])),
            3 => (How::Some(GROUP.1), Op::receive_in(socket, &self.group)),
            4 => (How::Told, Op::receive(socket, vec![])),
            5 => {
                let refused = How::Refused(Errno::NOBUFS);
                (refused, Op::receive_multishot(socket, &self.no_buffer))
            }
            _ => (How::Multishot, Op::receive_multishot(socket, &self.group)),
        };
        let token = self.token();
        self.ports[side].receives.push((token, how));
        self.submit(side, op.token(token));
    }

    pub(crate) fn poll_port(&mut self, side: usize) {
        let interest = [EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT][self.below(3)];
        let token = self.token();
        self.ports[side].polls.push((token, interest));
        self.poll_begins(side, self.ports[side].socket, interest, token);
    }

    /// Cancels what waits: all of it, or the first.
    pub(crate) fn cancel_port(&mut self, side: usize) {
        let all = self.below(2) == 0;
        let port = &mut self.ports[side];
        let first = port.receives.first().map(|own| own.0);
        let name = first.unwrap_or(1 << 40);
        let op = match all {
            true => Op::cancel_all(port.socket),
            false => Op::cancel(port.socket, name),
        };
        let count = self.doom_port(side, |own| all || own == name);
        let expected = match count {
            0 => Err(Errno::NOENT),
            n => Ok(n),
        };
        self.other_then(side, op, (expected, Some(NOT_A_CONNECTION)), None);
    }

    fn doom_port(&mut self, side: usize, which: impl Fn(u64) -> bool) -> usize {
        let port = &mut self.ports[side];
        let before = port.doomed.len();
        let receives = port.receives.extract_if(.., |own| which(own.0));
        port.doomed.extend(receives.map(|own| own.0));
        let polls = port.polls.extract_if(.., |own| which(own.0));
        port.doomed.extend(polls.map(|own| own.0));
        port.doomed.len() - before
    }

    pub(crate) fn close_port(&mut self, side: usize) {
        let close = Op::close(self.ports[side].socket);
        self.doom_port(side, |_| true);
        self.other_then(side, close, (Ok(0), Some(NOT_A_CONNECTION)), None);
    }

    /// A completion of a datagram socket.
    pub(crate) fn datagram_ended(&mut self, side: usize, done: &Completion, result: Expected) {
        let (token, peer) = (done.token, self.ports[1 - side].at);
        let port = &mut self.ports[side];
        assert_eq!((done.key, done.socket), (port.key, Some(port.socket)));
        if port.doomed.pop_front_if(|first| *first == token).is_some() {
            return assert_eq!((result, done.more), (Err(Errno::CANCELED), false));
        }
        if let Some(at) = port.polls.iter().position(|own| own.0 == token) {
            assert!(port.poll_is_due(port.polls[at].1), "{done:?} {port:?}");
            port.polls.remove(at);
            let told = result.unwrap() as u32;
            let readable = told & EPOLLIN == 0 || !port.inbound.is_empty();
            return assert!(told & (EPOLLIN | EPOLLOUT) != 0 && readable);
        }
        let (first, how) = port.receives.remove(0);
        assert_eq!(first, token, "not in order: {done:?}");
        assert!(!port.inbound.is_empty(), "{done:?} {port:?}");
        let most = match how {
            How::Some(len) => len,
            How::Multishot => GROUP.1,
            How::Refused(with) => return assert_eq!((result, done.more), (Err(with), false)),
            _ => return assert_eq!((result, done.more), (Ok(0), false)),
        };
        let datagram = port.inbound.pop_front().unwrap();
        let n = datagram.len().min(most);
        let bytes: Vec<u8> = datagram.iter().take(n).copied().collect();
        assert_eq!((result, done.bytes()), (Ok(n), &bytes[..]));
        let meta = done.meta().unwrap();
        assert_eq!((done.address, meta.from), (Some(peer), peer));
        assert_eq!((meta.len, meta.truncated), (n, n < datagram.len()));
        assert_eq!(done.more, how == How::Multishot);
        if done.more {
            port.receives.insert(0, (token, how));
        }
    }
}
