//! Bytes from one connection to another. What a splice has moved is certain when it is over; until then nothing else is sent where
//! they go, so that what was not moved after all can be taken back there.
//!
//! Not played: bytes that are spliced twice, one behind the other, or to a connection that the other end has closed: when that is
//! heard of is not known, so such splices are cancelled.

use engine::completion::{Completion, Op};
use rustix::io::Errno;

use crate::bench::LONG;
use crate::model::{Expected, How, Model, Receive};

fn goes_to(receive: &Receive, e: usize) -> bool {
    matches!(receive.how, How::Splice { to, .. } if to == e)
}

impl Model<'_> {
    /// Whether something is being spliced to an end.
    pub(crate) fn is_fed(&self, e: usize) -> bool {
        let mut receives = self.ends.iter().flat_map(|end| &end.receives);
        receives.any(|receive| goes_to(receive, e))
    }

    fn feeds(&self, e: usize) -> bool {
        let splices = |receive: &Receive| matches!(receive.how, How::Splice { .. });
        self.ends[e].receives.iter().any(splices)
    }

    /// Moves what can be moved.
    pub(crate) fn flow_on(&mut self, e: usize, to: usize, left: u64) {
        if !self.takes(to) {
            return;
        }
        let end = &mut self.ends[e];
        let n = end.inbound.len().min(left as usize);
        let bytes: Vec<u8> = end.inbound.drain(..n).collect();
        let first = &mut end.receives[0];
        first.how = How::Splice {
            to,
            left: left - n as u64,
        };
        first.got.extend(&bytes);
        let far = to ^ 1;
        assert!(n == 0 || !self.ends[to].gone);
        if !self.ends[far].closed {
            self.ends[far].inbound.extend(bytes);
        }
    }

    /// The other end of what is spliced to is closed.
    pub(crate) fn stop_feeding(&mut self, to: usize) {
        for e in (to & 1..self.ends.len()).step_by(2) {
            let splices = self.ends[e].receives.iter();
            let tokens: Vec<u64> = splices
                .filter(|own| goes_to(own, to))
                .map(|own| own.token)
                .collect();
            // The last first: what is behind one that is cancelled goes on.
            for token in tokens.into_iter().rev() {
                let count = self.doom(e, |own| own == token);
                let cancel = self.other(e & 1, Op::cancel(self.socket(e), token), Ok(count));
                self.others[e & 1].get_mut(&cancel).unwrap().lenient = true;
            }
        }
    }

    /// Of what a splice seemed to have moved, only the first `n` bytes were.
    pub(crate) fn not_moved(&mut self, e: usize, to: usize, got: &[u8], n: usize) {
        let far = &mut self.ends[to ^ 1];
        if !far.closed {
            for byte in got[n..].iter().rev() {
                let waits = far.receives.front_mut();
                let last = far.inbound.pop_back();
                let last = last.or_else(|| waits.and_then(|first| first.got.pop()));
                // Who is alone was told the end before this, and has given up what did not come.
                let given_up = last.is_none() && far.alone;
                assert!(given_up || last == Some(*byte), "it is there already");
            }
        }
        if !self.ends[e].closed {
            self.ends[e].put_back(&got[n..]);
        }
    }

    /// A splice is over, which had been taken for due, or may be.
    pub(crate) fn spliced(&mut self, e: usize, splice: &Receive, done: &Completion, how: Expected) {
        let How::Splice { to, left } = splice.how else {
            return;
        };
        let got = &splice.got;
        let lenient = self.ends[e].alone || self.ends[to].alone;
        // Even of nothing, the other must be there.
        let nobody = got.is_empty() && self.ends[to].closed;
        let whole = (left == 0 && !nobody) || self.takes(to);
        match how {
            Ok(n) if n == got.len() && (whole || n > 0) => {}
            Ok(n) => {
                let some = (1..=got.len()).contains(&n) && !whole;
                assert!(some || (lenient && n <= got.len()), "{done:?} {splice:?}");
                self.not_moved(e, to, got, n);
            }
            Err(error) => {
                let refused = error == Errno::PIPE && !whole;
                assert!(refused || lenient, "{done:?} {splice:?}");
                self.not_moved(e, to, got, 0);
            }
        }
    }

    pub(crate) fn splice(&mut self, e: usize) {
        let mut takers = Vec::new();
        for to in (e & 1..self.ends.len()).step_by(2) {
            let taker = &self.ends[to];
            let is_free = taker.socket.is_some() && !taker.gone && !self.is_linked(to);
            let fed_by_another =
                self.is_fed(to) && !self.ends[e].receives.iter().any(|r| goes_to(r, to));
            // Bytes are spliced once.
            let behind = self.feeds(to ^ 1) || self.is_fed(e ^ 1);
            if to != e && is_free && !fed_by_another && !behind {
                takers.push(to);
            }
        }
        if takers.is_empty() || self.ends[e].alone {
            return;
        }
        let to = takers[self.below(takers.len())];
        if !self.are_together(e, to) {
            return;
        }
        let len = match self.below(4) {
            0 => u64::MAX,
            1 => self.below(4) as u64,
            _ => 1 + self.below(1_500) as u64,
        };
        let op = Op::splice(self.socket(e), self.socket(to), len);
        self.receive_begins(e, How::Splice { to, left: len }, op);
    }

    /// Whether two ends are on one shard; others are not spliced. `false`, too, when it cannot be asked now.
    fn are_together(&mut self, e: usize, to: usize) -> bool {
        if !self.several {
            return true;
        }
        if let Some(known) = self.together.get(&(e, to)) {
            return *known;
        }
        if !self.ends[e].receives.is_empty() || !self.takes(to) || self.is_fed(to) {
            return false;
        }
        let (token, side) = (self.token(), e & 1);
        self.submit(
            side,
            Op::splice(self.socket(e), self.socket(to), 0).token(token),
        );
        let answer = loop {
            let mut one = Vec::new();
            assert_eq!(self.queues[side].wait(&mut one, 1, LONG).unwrap(), 1);
            let done = one.pop().unwrap();
            match done.token == token {
                true => break done.result,
                false => self.take(side, done),
            }
        };
        let known = answer.map_err(|error| Errno::from_io_error(&error).unwrap());
        assert!(matches!(known, Ok(0) | Err(Errno::XDEV)), "{known:?}");
        self.together.insert((e, to), known.is_ok());
        self.together.insert((to, e), known.is_ok());
        known.is_ok()
    }
}
