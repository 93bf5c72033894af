//! What a program does next, and how it ends.

use std::time::Duration;

use engine::completion::{Handle, Op};
use rustix::io::Errno;
use stack::Shutdown;

use crate::bench::address;
use crate::model::{GROUP, Model, Other};

impl Model<'_> {
    /// An end that has a socket.
    fn some_end(&mut self) -> Option<usize> {
        let ends = 0..self.ends.len();
        let open: Vec<usize> = ends.filter(|e| self.ends[*e].socket.is_some()).collect();
        (!open.is_empty()).then(|| open[self.below(open.len())])
    }

    pub(crate) fn step(&mut self) {
        let side = self.below(2);
        match self.below(36) {
            0..=21 => match self.some_end() {
                Some(e) => self.step_at(e),
                None => self.connect(),
            },
            22 | 23 => self.connect(),
            24..=26 => self.accept(),
            27 => match self.below(2) {
                0 => self.poll_listener(),
                _ => self.end_accepts(),
            },
            28 | 29 => self.send_to(side),
            30 | 31 => self.receive_from(side),
            32 => match self.below(3) {
                0 => self.poll_port(side),
                1 => self.cancel_port(side),
                _ => self.connect_to_nobody(),
            },
            33 => {
                let after = Duration::from_micros(self.below(300) as u64);
                self.other(side, Op::timeout(after), Ok(0));
            }
            34 => self.without_a_shard(side),
            _ => self.misuse(side),
        }
    }

    fn step_at(&mut self, e: usize) {
        match self.below(22) {
            0..=5 => self.send(e),
            6..=11 => self.receive(e),
            12 | 13 => self.send_file(e),
            14..=16 => self.splice(e),
            17 => self.poll(e),
            18 => self.cancel(e),
            19 => self.cancel_all(e),
            20 if self.below(2) == 0 => self.shutdown(e),
            21 if self.below(3) == 0 => self.close(e),
            _ => {}
        }
    }

    /// A completion that is posted, and a timeout that is given up.
    fn without_a_shard(&mut self, side: usize) {
        if self.below(2) == 0 {
            let hour = Op::timeout(Duration::from_secs(3600));
            let token = self.other(side, hour, Err(Errno::CANCELED));
            self.other(side, Op::cancel_token(token), Ok(1));
            return;
        }
        let (token, result) = (self.token(), self.below(99));
        let other = Other {
            expected: Ok(result),
            lenient: false,
            then: None,
            after: None,
        };
        self.others[side].insert(token, other);
        self.queues[side].post(token, 5, result).unwrap();
    }

    /// What cannot be, each with its error.
    fn misuse(&mut self, side: usize) {
        let datagrams = self.ports[side].socket;
        let strange = self.ports[1 - side].socket;
        let (listener, stream) = (self.listener.socket, self.some_end());
        let stream = stream.filter(|e| e & 1 == 1).map(|e| self.socket(e));
        let to = address(2, 9);
        let listening = |op: fn(Handle) -> Op, error| (1, listener.map(op), error);
        let streaming = |op: fn(Handle) -> Op, error| (1, stream.map(op), error);
        let (side, op, error) = match self.below(14) {
            0 => (side, Some(Op::send(strange, vec![1])), Errno::BADF),
            1 => (side, Some(Op::cancel_token(1 << 40)), Errno::NOENT),
            2 => (side, Some(Op::send(datagrams, vec![1])), Errno::DESTADDRREQ),
            3 => {
                let long = Op::send_to(datagrams, vec![1; 70_000], to);
                (side, Some(long), Errno::MSGSIZE)
            }
            4 => {
                let from = Op::send_to(datagrams, vec![1], to).source(address(77, 1).ip());
                (side, Some(from), Errno::ADDRNOTAVAIL)
            }
            5 => {
                let shutdown = Op::shutdown(datagrams, Shutdown::Write);
                (side, Some(shutdown), Errno::NOTCONN)
            }
            6 => (side, Some(Op::accept(datagrams, 1)), Errno::INVAL),
            7 => listening(|it| Op::receive(it, vec![1]), Errno::NOTCONN),
            8 => listening(|it| Op::send(it, vec![1]), Errno::NOTCONN),
            9 => listening(
                |it| Op::accept_multishot(it, 1).first_bytes(vec![1]),
                Errno::INVAL,
            ),
            10 => (
                1,
                listener.map(|_| Op::listen(self.listener.at, 1, 1)),
                Errno::ADDRINUSE,
            ),
            11 => streaming(|it| Op::accept(it, 1), Errno::INVAL),
            12 => streaming(|it| Op::splice(it, it, 1), Errno::INVAL),
            _ => streaming(|it| Op::cancel(it, 1 << 40), Errno::NOENT),
        };
        if let Some(op) = op {
            self.other(side, op, Err(error));
        }
    }

    /// Everything is closed, in any order.
    pub(crate) fn end(&mut self) {
        let mut left: Vec<usize> = (0..self.ends.len() + 3).collect();
        while !left.is_empty() {
            let e = left.swap_remove(self.below(left.len()));
            match e.checked_sub(self.ends.len()) {
                Some(2) => self.close_listener(),
                Some(side) => self.close_port(side),
                None if self.ends[e].socket.is_some() => self.close(e),
                None => {}
            }
            self.settle();
        }
        // Accepted when others were closed already.
        while let Some(e) = self.some_end() {
            self.close(e);
            self.settle();
        }
        assert_eq!(self.group.available(), GROUP.0, "a buffer is missing");
    }
}
