//! Bytes on connections: receives, sends, files, polls, shutdowns, closes.
//!
//! An end whose other end is reset, or was closed with something unread, is `alone`: whether a reset overtakes what it still has to
//! hear and say is not known, and so is not asked.

use base::epoll::{EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP};
use engine::completion::{Completion, Op};
use rustix::io::Errno;
use stack::Shutdown;

use crate::model::{Doomed, End, Expected, FILE, Follow, GROUP, How, Model, Next, Receive};
use crate::model::{UNREAD_MOST, file_bytes, poll_is_due};

impl End {
    /// Whether an operation is one of its own.
    pub(crate) fn knows(&self, token: u64) -> bool {
        self.receives.iter().any(|own| own.token == token)
            || self.sends.iter().any(|own| own.0 == token)
            || self.polls.iter().any(|own| own.0 == token)
            || self.doomed.iter().any(|own| own.token == token)
    }

    /// Takes bytes that came in, which must be these.
    pub(crate) fn take_inbound(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.inbound.len(), "more than was sent");
        let expected: Vec<u8> = self.inbound.drain(..bytes.len()).collect();
        assert_eq!(bytes, expected, "other bytes than were sent");
    }

    /// Gives back what was not taken after all.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        bytes.iter().rev().for_each(|b| self.inbound.push_front(*b));
    }

    /// Ends what waits under such words, from the first on: how many there are.
    fn doom(&mut self, which: impl Fn(u64) -> bool) -> usize {
        let mut count = 0;
        let mut kept = std::collections::VecDeque::new();
        for receive in std::mem::take(&mut self.receives) {
            if !which(receive.token) {
                kept.push_back(receive);
                continue;
            }
            count += 1;
            let to = match receive.how {
                How::Splice { to, .. } => Some(to),
                _ => None,
            };
            let mut doomed = Doomed::new(receive.token);
            (doomed.got, doomed.to) = (receive.got, to);
            self.doomed.push_back(doomed);
            let then = receive.then.map(|next| Doomed::new(next.token));
            self.doomed.extend(then);
        }
        self.receives = kept;
        let polls = self.polls.extract_if(.., |poll| which(poll.0));
        let polls = polls.map(|poll| Doomed::new(poll.0));
        let before = self.doomed.len();
        self.doomed.extend(polls);
        count += self.doomed.len() - before;
        count
    }
}

/// Bytes go where they are waited for.
impl Model<'_> {
    /// What waits to receive takes what it finds, though it waits on; and splices move it.
    pub(crate) fn flow(&mut self) {
        self.match_accepts();
        for e in 0..self.ends.len() {
            let first = self.ends[e].receives.front();
            if let Some(&How::Splice { to, left }) = first.map(|first| &first.how) {
                self.flow_on(e, to, left);
            }
        }
        for end in &mut self.ends {
            if let Some(first) = end.receives.front_mut()
                && let How::All(len) = first.how
            {
                let n = (len - first.got.len()).min(end.inbound.len());
                first.got.extend(end.inbound.drain(..n));
            }
        }
    }
}

/// Sending.
impl Model<'_> {
    /// Whether what is sent at an end now comes next in its stream.
    pub(crate) fn may_send(&self, e: usize) -> bool {
        self.ends[e].socket.is_some()
            && !self.is_linked(e)
            && !self.is_fed(e)
            && self.unread() < UNREAD_MOST
    }

    /// Whether a send waits for a receive: its bytes come next, so nothing else is sent meanwhile.
    pub(crate) fn is_linked(&self, e: usize) -> bool {
        let mut linked = self.ends[e]
            .receives
            .iter()
            .filter_map(|own| own.then.as_ref());
        linked.any(|next| matches!(next.what, Follow::Send(..)))
    }

    /// A send begins, as if at once.
    pub(crate) fn send_begins(&mut self, e: usize, token: u64, bytes: &[u8]) {
        let end = &mut self.ends[e];
        let expected = match end.ended && !bytes.is_empty() {
            true => Err(Errno::PIPE),
            false => Ok(bytes.len()),
        };
        end.sends.push_back((token, expected));
        end.alone |= end.gone && !bytes.is_empty();
        if expected.is_ok() && !self.ends[e ^ 1].closed {
            self.ends[e ^ 1].inbound.extend(bytes);
        }
    }

    /// Something that may be linked to an operation of an end: a send there, or elsewhere, or a timeout.
    pub(crate) fn maybe_next(&mut self, e: usize) -> Option<Next> {
        if self.below(3) > 0 {
            return None;
        }
        let token = self.token();
        let what = match self.may_send(e) && self.below(4) > 0 {
            true => {
                let len = 1 + self.below(300);
                Follow::Send(e, self.fresh(len))
            }
            false => Follow::Timeout,
        };
        Some(Next { token, what })
    }

    pub(crate) fn send(&mut self, e: usize) {
        if !self.may_send(e) {
            return;
        }
        let token = self.token();
        let len = if self.below(20) == 0 {
            0
        } else {
            1 + self.below(900)
        };
        let bytes = self.fresh(len);
        let mut op = Op::send(self.socket(e), bytes.clone());
        if self.below(8) == 0 {
            // Not all of the buffer.
            op = Op::send(self.socket(e), [&bytes[..], b"more"].concat()).first(len);
        }
        let next = (self.below(4) == 0).then(|| Next {
            token: self.token(),
            what: Follow::Send(e, self.fresh(300)),
        });
        let op = self.linked(op.token(token), next.as_ref());
        self.send_begins(e, token, &bytes);
        self.then_or_not(e, next);
        self.submit(e & 1, op);
    }

    /// A part of a file, which may end early.
    pub(crate) fn send_file(&mut self, e: usize) {
        if !self.may_send(e) {
            return;
        }
        let token = self.token();
        let (offset, len) = (self.below(FILE + 200), self.below(900));
        let op = Op::send_file(self.socket(e), self.file.clone(), offset as u64, len as u64);
        let next = (self.below(4) == 0).then(|| Next {
            token: self.token(),
            what: Follow::Send(e, self.fresh(300)),
        });
        let op = self.linked(op.token(token), next.as_ref());
        self.send_begins(e, token, &file_bytes(offset, len));
        self.then_or_not(e, next);
        self.submit(e & 1, op);
    }

    /// What is linked to a send that has just begun, and ends as that is known to.
    fn then_or_not(&mut self, e: usize, next: Option<Next>) {
        let sent = self.ends[e].sends.back().unwrap().1;
        match (next, sent) {
            (Some(next), Ok(_)) => self.begin(e & 1, next, false),
            (Some(next), Err(_)) => self.ends[e].doomed.push_back(Doomed::new(next.token)),
            (None, _) => {}
        }
    }

    pub(crate) fn shutdown(&mut self, e: usize) {
        if self.ends[e].ended || self.ends[e].alone {
            return;
        }
        (self.ends[e].ended, self.ends[e ^ 1].over) = (true, true);
        let op = Op::shutdown(self.socket(e), Shutdown::Write);
        self.other(e & 1, op, Ok(0));
    }
}

/// Receiving and waiting.
impl Model<'_> {
    pub(crate) fn receive(&mut self, e: usize) {
        let socket = self.socket(e);
        let len = 1 + self.below(900);
        let (how, op) = match self.below(12) {
            0..=3 => (How::Some(len), Op::receive(socket, vec![0; len])),
            4 | 5 => (How::Some(GROUP.1), Op::receive_in(socket, &self.group)),
            6 | 7 => (How::All(len), Op::receive_all(socket, vec![0; len])),
            8 => (How::Told, Op::receive(socket, vec![])),
            9 => {
                let refused = How::Refused(Errno::NOBUFS);
                (refused, Op::receive_multishot(socket, &self.no_buffer))
            }
            10 if self.below(2) == 0 => {
                let refused = How::Refused(Errno::INVAL);
                (refused, Op::receive_in(socket, &self.no_room))
            }
            _ => (How::Multishot, Op::receive_multishot(socket, &self.group)),
        };
        self.receive_begins(e, how, op);
    }

    pub(crate) fn receive_begins(&mut self, e: usize, how: How, op: Op) {
        let token = self.token();
        let then = match how {
            // It may be over before it is cancelled.
            How::Splice { left: 0, .. } => None,
            _ => self.maybe_next(e),
        };
        let op = self.linked(op.token(token), then.as_ref());
        self.ends[e].receives.push_back(Receive {
            token,
            how,
            got: Vec::new(),
            then,
        });
        self.submit(e & 1, op);
    }

    /// A poll that is begun while bytes come which another operation takes, and keeps for itself, may be told of them.
    pub(crate) fn poll(&mut self, e: usize) {
        let keeps = |own: &Receive| matches!(own.how, How::All(_) | How::Splice { .. });
        if self.ends[e].receives.iter().any(keeps) {
            return;
        }
        let interests = [
            EPOLLIN,
            EPOLLIN,
            EPOLLOUT,
            EPOLLIN | EPOLLOUT,
            EPOLLRDHUP,
            EPOLLPRI,
        ];
        let interest = interests[self.below(interests.len())];
        let token = self.token();
        self.ends[e].polls.push((token, interest));
        self.poll_begins(e & 1, self.socket(e), interest, token);
    }

    /// Cancels one that waits, or nothing.
    pub(crate) fn cancel(&mut self, e: usize) {
        let end = &self.ends[e];
        let here = end.receives.iter().map(|own| own.token);
        let polls = end.polls.iter().map(|own| own.0);
        let tokens: Vec<u64> = here.chain(polls).chain([1 << 40]).collect();
        let token = tokens[self.below(tokens.len())];
        let count = self.doom(e, |own| own == token);
        self.cancelling(e, Op::cancel(self.socket(e), token), count);
    }

    pub(crate) fn cancel_all(&mut self, e: usize) {
        let count = self.doom(e, |_| true);
        self.cancelling(e, Op::cancel_all(self.socket(e)), count);
    }

    /// Ends what waits at an end under such words: how many there are.
    pub(crate) fn doom(&mut self, e: usize, which: impl Fn(u64) -> bool) -> usize {
        let count = self.ends[e].doom(which);
        for at in 0..self.ends[e].doomed.len() {
            let to_nobody = self.ends[e].doomed[at]
                .to
                .is_some_and(|to| self.ends[to].alone);
            self.ends[e].doomed[at].lenient = self.ends[e].alone || to_nobody;
        }
        count
    }

    fn cancelling(&mut self, e: usize, op: Op, count: usize) {
        let expected = match count {
            0 => Err(Errno::NOENT),
            n => Ok(n),
        };
        let token = self.other_then(e & 1, op, (expected, Some(e)), None);
        let lenient = self.ends[e].doomed.iter().any(|own| own.lenient);
        self.others[e & 1].get_mut(&token).unwrap().lenient = lenient;
    }

    /// An end closes, or resets the connection: what waits on it is cancelled, and the other end hears of it.
    pub(crate) fn close(&mut self, e: usize) {
        let reset = self.below(4) == 0 && self.may_reset(e);
        let socket = self.socket(e);
        let op = if reset {
            Op::reset(socket)
        } else {
            Op::close(socket)
        };
        let end = &self.ends[e];
        let partly = end.receives.iter().any(|own| !own.got.is_empty());
        let unread = reset || partly || !end.inbound.is_empty() || end.alone;
        self.doom(e, |_| true);
        self.other_then(e & 1, op, (Ok(0), Some(e)), None);
        self.closes(e, unread);
    }

    /// An end is no more.
    pub(crate) fn closes(&mut self, e: usize, unread: bool) {
        let end = &mut self.ends[e];
        (end.closed, end.ended, end.socket) = (true, true, None);
        end.inbound.clear();
        let peer = &mut self.ends[e ^ 1];
        (peer.gone, peer.over) = (true, true);
        peer.alone |= unread;
        self.stop_feeding(e ^ 1);
    }
}

/// What comes of them.
impl Model<'_> {
    /// A completion of an end.
    pub(crate) fn end_told(&mut self, e: usize, done: &Completion, result: Expected) {
        let token = done.token;
        let is_doomed = |own: &Doomed| own.token == token;
        if let Some(at) = self.ends[e].doomed.iter().position(is_doomed) {
            let lenient = self.ends[e].doomed.iter().any(|own| own.lenient);
            assert!(at == 0 || lenient, "{done:?} {self:?}");
            let doomed = self.ends[e].doomed.remove(at).unwrap();
            return self.doomed_told(e, doomed, done, result);
        }
        let end = &mut self.ends[e];
        if let Some(at) = end.polls.iter().position(|poll| poll.0 == token) {
            let (_, interest) = end.polls.remove(at);
            let told = result.unwrap() as u32;
            let due = poll_is_due(end, interest) && told & !end.bits() == 0;
            assert!(due || end.alone, "{done:?} {self:?}");
            return assert!(told != 0 && (done.key, done.more) == (self.ends[e].key, false));
        }
        if let Some((_, expected)) = end.sends.pop_front_if(|first| first.0 == token) {
            assert!(end.alone || result == expected, "{expected:?}: {done:?}");
            assert!(!done.more && (end.alone || done.key == end.key), "{done:?}");
            return;
        }
        let first = end.receives.front();
        assert!(
            first.is_some_and(|first| first.token == token),
            "not in order: {done:?} {self:?}"
        );
        match end.receives[0].how {
            How::First { .. } => self.first_told(e, done, result),
            _ => self.received(e, done, result),
        }
    }

    fn doomed_told(&mut self, e: usize, doomed: Doomed, done: &Completion, result: Expected) {
        let Doomed {
            got, to, lenient, ..
        } = doomed;
        // It may have been cancelled before what it waited for was there.
        let n = match result {
            Ok(n) => n,
            Err(error) => {
                assert!(lenient || error == Errno::CANCELED, "{done:?}");
                0
            }
        };
        if lenient && to.is_none() {
            return;
        }
        let nothing = lenient && got.is_empty();
        let some = n <= got.len() && (nothing || (n > 0) == result.is_ok());
        assert!(some && !done.more, "{done:?} of {got:?}");
        match to {
            Some(to) => self.not_moved(e, to, &got, n),
            None => {
                assert!(n == 0 || done.bytes() == &got[..n], "{done:?}");
                if !self.ends[e].closed {
                    self.ends[e].put_back(&got[n..]);
                }
            }
        }
    }

    /// The first that waits to receive has something, or fails.
    fn received(&mut self, e: usize, done: &Completion, result: Expected) {
        assert!(self.is_received(e), "{done:?} {self:?}");
        let end = &mut self.ends[e];
        let lenient = end.alone;
        assert!(lenient || done.key == end.key);
        let mut first = end.receives.pop_front().unwrap();
        let mut over = true;
        let n = match (&first.how, result) {
            (How::Refused(with), Err(error)) if *with == error => 0,
            (How::Splice { .. }, _) => {
                self.spliced(e, &first, done, result);
                0
            }
            (_, Err(_)) => {
                assert!(lenient, "{done:?}");
                end.inbound.clear();
                0
            }
            (_, Ok(n)) => n,
        };
        let end = &mut self.ends[e];
        match (&first.how, result) {
            (How::Splice { .. }, _) | (_, Err(_)) => {}
            (How::Refused(_), Ok(_)) => panic!("{done:?}"),
            (How::Told, Ok(_)) => assert_eq!(n, 0),
            (How::All(_), Ok(_)) => {
                let all = n == first.got.len() || (lenient && n < first.got.len());
                assert!(all && done.bytes() == &first.got[..n], "{done:?} {first:?}");
                // A splice that seemed to have moved it may say that it has not.
                end.put_back(&first.got[n..]);
            }
            (how, Ok(_)) => {
                let most = match how {
                    How::Some(len) => *len,
                    _ => GROUP.1,
                };
                let ends = end.inbound.is_empty() && end.over;
                assert!(n <= most && (n > 0 || ends || lenient), "{done:?}");
                end.take_inbound(done.bytes());
                // What a reset has overtaken does not come any more.
                if n == 0 {
                    end.inbound.clear();
                }
                over = *how != How::Multishot || n == 0;
            }
        }
        assert_eq!(done.more, !over, "{done:?}");
        if !over {
            return end.receives.push_front(first);
        }
        match (first.then.take(), result) {
            (Some(next), Ok(_)) if !self.is_short(&first) => {
                self.begin(e & 1, next, lenient);
            }
            (Some(next), _) => self.ends[e].doomed.push_back(Doomed::new(next.token)),
            (None, _) => {}
        }
    }

    /// Whether the first that waits to receive is over, or may be.
    fn is_received(&self, e: usize) -> bool {
        let end = &self.ends[e];
        end.receives_now(|to| self.takes(to)) || end.alone
    }

    /// Whether a receive did less than was asked for, so that nothing follows.
    fn is_short(&self, first: &Receive) -> bool {
        matches!(first.how, How::Splice { to, left } if left > 0 && !self.takes(to))
    }
}
