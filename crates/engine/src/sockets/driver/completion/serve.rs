//! Bytes and connections for operations that wait.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use base::epoll::{EPOLLERR, EPOLLHUP};
use rustix::io::Errno;
use stack::{Ready, Shutdown, SocketError, SocketId, SpliceError};

use super::super::Driver;
use super::{Kind, OpSocket, Outcome, Which};
use crate::app::ShardCx;
use crate::completion::{Buffer, Handle, Op, Target, What};
use crate::sockets::error::io_error;
use crate::sockets::{Arrival, shown};

/// Bytes moved by one step of a splice.
const SPLICE: usize = 256 * 1024;

/// Something can be received, or never will be.
const RECEIVABLE: Ready =
    Ready(Ready::READABLE.0 | Ready::READ_CLOSED.0 | Ready::HUP.0 | Ready::ERROR.0);

/// What became of the operation at the head of a socket's queue.
enum Step {
    /// It waits.
    Wait(Op),
    /// It brought something, and may bring more at once.
    Again(Op),
    /// It is over; the next one's turn.
    Over,
}

/// What one attempt to receive brought.
struct Received {
    n: usize,
    buffer: Option<Buffer>,
    from: Option<SocketAddr>,
    arrival: Option<Arrival>,
}

/// The next connection of a listener, and its peer as the listener shows it.
pub(super) fn accepted(
    cx: &mut ShardCx<'_>,
    listener: SocketId,
) -> Result<(SocketId, SocketAddr), SocketError> {
    let (id, peer) = cx.host.tcp_accept(cx.now, listener)?;
    let own = cx.host.local_addr(listener);
    Ok((id, own.map_or(peer, |own| shown(peer, own))))
}

impl Driver {
    /// Carries out what waits to receive, until there is nothing to be had.
    pub(super) fn serve_receives(&mut self, cx: &mut ShardCx<'_>, token: u64) {
        loop {
            let Some(socket) = self.op_socket(token) else {
                return;
            };
            let which = socket.which(token);
            if which.kind == Kind::Listener {
                return self.serve_accepts(cx, token);
            }
            if socket.connecting.is_some() {
                return;
            }
            let Some(op) = socket.receives.pop_front() else {
                return;
            };
            let step = match &op.what {
                What::Splice { .. } => self.splice_step(cx, which, op),
                What::First { .. } => self.first_step(cx, which, op),
                _ => self.receive_step(cx, which, op),
            };
            if !self.goes_on(token, step, |socket| &mut socket.receives) {
                return;
            }
        }
    }

    /// Puts an operation that is not over back to the head of its queue; whether to go on with it.
    fn goes_on(
        &mut self,
        token: u64,
        step: Step,
        queue: impl Fn(&mut OpSocket) -> &mut VecDeque<Op>,
    ) -> bool {
        let (op, again) = match step {
            Step::Over => return true,
            Step::Wait(op) => (op, false),
            Step::Again(op) => (op, true),
        };
        if let Some(socket) = self.op_socket(token) {
            queue(socket).push_front(op);
        }
        again
    }

    fn receive_step(&mut self, cx: &mut ShardCx<'_>, which: Which, mut op: Op) -> Step {
        let Which { queue, key, .. } = which;
        let What::Receive {
            into,
            at,
            fill,
            multishot,
            ..
        } = &mut op.what
        else {
            return Step::Over;
        };
        let (fill, multishot) = (*fill && which.kind == Kind::Stream, *multishot);
        if multishot && !self.has_room(which) {
            return Step::Wait(op);
        }
        let received = match receive(cx, which, into, *at) {
            Ok(Some(received)) if received.n == 0 => {
                self.left_error(which).map_or(Ok(Some(received)), Err)
            }
            received => received,
        };
        match received {
            Ok(None) => Step::Wait(op),
            Ok(Some(received)) => {
                *at += received.n;
                let end = received.n == 0 && which.kind == Kind::Stream;
                let whole = matches!(into, Target::Buffer(buffer) if *at == buffer.len());
                if fill && !end && !whole {
                    return Step::Again(op);
                }
                let mut outcome = Outcome::new(key, Ok(*at));
                (outcome.address, outcome.arrival) = (received.from, received.arrival);
                if multishot && !end {
                    outcome.buffer = received.buffer;
                    *at = 0;
                    outcome.socket = op.about();
                    self.tell(queue, outcome.completion(op.token, true));
                    return Step::Again(op);
                }
                outcome.buffer = received.buffer.or_else(|| op.take_buffer());
                self.finish(queue, op, outcome);
                Step::Over
            }
            Err(error) => {
                self.fail(which, op, error);
                Step::Over
            }
        }
    }

    /// The first bytes of a connection that was accepted: with them, or its end, the accept is done.
    fn first_step(&mut self, cx: &mut ShardCx<'_>, which: Which, mut op: Op) -> Step {
        let Which { queue, key, .. } = which;
        let What::First {
            into,
            peer,
            socket,
            multishot,
            ..
        } = &mut op.what
        else {
            return Step::Over;
        };
        let (peer, socket) = (*peer, *socket);
        if *multishot && !self.has_room(which) {
            return Step::Wait(op);
        }
        let received = receive(cx, which, into, 0);
        if !matches!(received, Ok(None)) {
            let listener = self
                .op_socket(which.token)
                .and_then(|socket| socket.listener);
            if let Some(listener) = listener.and_then(|listener| self.op_socket(listener)) {
                listener.unheard.remove(&which.token);
            }
        }
        match received {
            Ok(None) => return Step::Wait(op),
            Ok(Some(received)) => {
                let mut outcome = Outcome::new(key, Ok(received.n));
                outcome.buffer = received.buffer.or_else(|| op.take_buffer());
                (outcome.socket, outcome.address) = (Some(socket), Some(peer));
                self.finish(queue, op, outcome);
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {
                // There is no buffer for them, but there are bytes.
                let mut outcome = Outcome::new(key, Err(error));
                (outcome.socket, outcome.address) = (Some(socket), Some(peer));
                self.finish(queue, op, outcome);
            }
            Err(error) => {
                // Nobody knows the connection yet.
                self.entries.remove(super::super::key_of(which.token));
                let _ = cx.host.abort(cx.now, which.id);
                self.give_up(queue, key, op, error);
            }
        }
        Step::Over
    }

    fn splice_step(&mut self, cx: &mut ShardCx<'_>, which: Which, mut op: Op) -> Step {
        let Which { queue, key, id, .. } = which;
        let What::Splice {
            to, left, moved, ..
        } = &mut op.what
        else {
            return Step::Over;
        };
        let to = to.token;
        let target = self.op_socket(to);
        let (taker, free) = match target.map(|target| (target.id, target.sends.is_empty())) {
            Some(target) => target,
            None => {
                self.give_up(queue, key, op, Errno::PIPE.into());
                return Step::Over;
            }
        };
        if !free {
            // What was handed in before goes first.
            return Step::Wait(op);
        }
        let most = usize::try_from(*left).map_or(SPLICE, |left| left.min(SPLICE));
        match cx.host.tcp_splice(cx.now, id, taker, most) {
            Ok(n) => {
                *moved += n;
                *left -= n as u64;
                if n > 0 && *left > 0 {
                    return Step::Again(op);
                }
                let moved = *moved;
                match self.left_error(which).filter(|_| n == 0) {
                    Some(error) => self.fail(which, op, error),
                    None => self.finish(queue, op, Outcome::new(key, Ok(moved))),
                }
            }
            Err(SpliceError::From(SocketError::WouldBlock))
            | Err(SpliceError::To(SocketError::WouldBlock)) => return Step::Wait(op),
            Err(SpliceError::To(SocketError::NoBuffers)) => {
                self.stalled.push(which.token);
                return Step::Wait(op);
            }
            Err(SpliceError::From(error)) => self.fail(which, op, io_error(error)),
            Err(SpliceError::To(error) | SpliceError::Copy(error)) => {
                if let Some(target) = self.op_socket(to)
                    && error != SocketError::BrokenPipe
                {
                    target.error = Some(io_error(error));
                }
                self.give_up(queue, key, op, Errno::PIPE.into());
            }
        }
        Step::Over
    }

    /// Carries out what waits to send, until there is no room; then what is spliced to the socket.
    pub(super) fn serve_sends(&mut self, cx: &mut ShardCx<'_>, token: u64) {
        self.send_queued(cx, token);
        let socket = self.op_socket(token);
        let idle = socket.filter(|socket| socket.sends.is_empty());
        if let Some(from) = idle.and_then(|socket| socket.fed_by) {
            self.serve_receives(cx, from);
        }
    }

    fn send_queued(&mut self, cx: &mut ShardCx<'_>, token: u64) {
        loop {
            let Some(socket) = self.op_socket(token) else {
                return;
            };
            if socket.connecting.is_some() {
                return;
            }
            let which = socket.which(token);
            let Some(op) = socket.sends.pop_front() else {
                return;
            };
            let step = match &op.what {
                What::SendFile { .. } => self.file_step(cx, which, op),
                What::Send { .. } => self.send_step(cx, which, op),
                What::Shutdown { .. } => {
                    let shut = cx.host.tcp_shutdown(cx.now, which.id, Shutdown::Write);
                    let result = shut.map(|()| 0).map_err(io_error);
                    self.finish(which.queue, op, Outcome::new(which.key, result));
                    Step::Over
                }
                _ => Step::Wait(op),
            };
            if !self.goes_on(token, step, |socket| &mut socket.sends) {
                return;
            }
        }
    }

    fn send_step(&mut self, cx: &mut ShardCx<'_>, which: Which, mut op: Op) -> Step {
        let Which { queue, key, id, .. } = which;
        let What::Send {
            buffer,
            at,
            end,
            how,
            ..
        } = &mut op.what
        else {
            return Step::Over;
        };
        let bytes = buffer.get(*at..*end).unwrap_or_default();
        let sent = match which.kind {
            Kind::Datagram => {
                let tos = || cx.host.udp_options(id).map_or(0, |options| options.tos);
                let how = how.outgoing(tos);
                cx.host.udp_send(cx.now, id, bytes, &how)
            }
            _ if bytes.is_empty() => Ok(0),
            _ => cx.host.tcp_send(cx.now, id, bytes),
        };
        match sent {
            Ok(n) => {
                *at += n;
                if at < end {
                    return Step::Again(op);
                }
                let outcome = Outcome::new(key, Ok(*at)).with(op.take_buffer());
                self.finish(queue, op, outcome);
                Step::Over
            }
            Err(error) => match self.waits(which, error) {
                true => Step::Wait(op),
                false => {
                    let left = self.left_error(which);
                    let error = left.unwrap_or_else(|| match (which.kind, error) {
                        (Kind::Datagram, SocketError::NotConnected) => Errno::DESTADDRREQ.into(),
                        _ => Self::error_of(cx, id, error),
                    });
                    self.fail(which, op, error);
                    Step::Over
                }
            },
        }
    }

    /// Whether an error of sending only means that it is not time yet.
    fn waits(&mut self, which: Which, error: SocketError) -> bool {
        let silent = match (error, which.kind) {
            (SocketError::WouldBlock, Kind::Stream) => return true,
            (SocketError::WouldBlock, _) => true,
            (SocketError::NoBuffers, Kind::Stream) => true,
            _ => false,
        };
        if silent {
            // No event tells when it can go on.
            self.stalled.push(which.token);
        }
        silent
    }

    fn file_step(&mut self, cx: &mut ShardCx<'_>, which: Which, mut op: Op) -> Step {
        let Which { queue, key, id, .. } = which;
        let What::SendFile { part, .. } = &mut op.what else {
            return Step::Over;
        };
        while part.taken < part.bytes.len() {
            match cx.host.tcp_send(cx.now, id, &part.bytes[part.taken..]) {
                Ok(n) => {
                    part.taken += n;
                    part.sent += n;
                }
                Err(error) if self.waits(which, error) => return Step::Wait(op),
                Err(error) => {
                    let left = self.left_error(which);
                    let error = left.unwrap_or_else(|| Self::error_of(cx, id, error));
                    self.fail(which, op, error);
                    return Step::Over;
                }
            }
        }
        if part.is_read() {
            match part.error.take() {
                None => {
                    let outcome = Outcome::new(key, Ok(part.sent));
                    self.finish(queue, op, outcome);
                }
                Some(error) => self.give_up(queue, key, op, error),
            }
            return Step::Over;
        }
        self.desk.next += 1;
        part.id = self.desk.next;
        let id = part.id;
        let place = op.place(id);
        self.ask_for_file(queue, which.token, op);
        Step::Wait(place)
    }

    /// A part of a file has been read, and goes on where it left.
    pub(super) fn file_read(&mut self, cx: &mut ShardCx<'_>, (queue, token): (u64, u64), op: Op) {
        let id = match &op.what {
            What::SendFile { part, .. } => part.id,
            _ => return,
        };
        let place = self.op_socket(token).and_then(|socket| {
            let first = socket.sends.front_mut()?;
            matches!(first.what, What::FileUnderWay(place) if place == id).then_some(first)
        });
        match place {
            Some(place) => {
                *place = op;
                self.serve_sends(cx, token);
            }
            // Closed or cancelled meanwhile.
            None => self.give_up(queue, 0, op, super::cancelled()),
        }
    }

    /// Accepts for whoever waits.
    pub(super) fn serve_accepts(&mut self, cx: &mut ShardCx<'_>, token: u64) {
        self.accept_ahead(cx, token);
        loop {
            let Some(socket) = self.op_socket(token) else {
                return;
            };
            let which = socket.which(token);
            let Some(op) = socket.receives.pop_front() else {
                return;
            };
            let step = self.accept_step(cx, which, op);
            if !self.goes_on(token, step, |socket| &mut socket.receives) {
                return;
            }
        }
    }

    fn accept_step(&mut self, cx: &mut ShardCx<'_>, which: Which, mut op: Op) -> Step {
        let queue = which.queue;
        let What::Accept {
            key,
            first,
            multishot,
            ..
        } = &mut op.what
        else {
            return Step::Over;
        };
        let (key, multishot) = (*key, *multishot);
        if multishot && !self.has_room(which) {
            return Step::Wait(op);
        }
        let (socket, peer) = match self.next_connection(cx, which, key) {
            Ok(Some(accepted)) => accepted,
            // A full table has refused it, and the next one may fit.
            Ok(None) => return Step::Again(op),
            Err(SocketError::WouldBlock) => return Step::Wait(op),
            Err(error) => {
                self.give_up(queue, which.key, op, io_error(error));
                return Step::Over;
            }
        };
        let first = match first {
            None => {
                let mut outcome = Outcome::new(key, Ok(0));
                (outcome.socket, outcome.address) = (Some(socket), Some(peer));
                if multishot {
                    self.tell(queue, outcome.completion(op.token, true));
                    return Step::Again(op);
                }
                self.finish(queue, op, outcome);
                return Step::Over;
            }
            Some(Target::Group(group)) => Target::Group(group.clone()),
            Some(Target::Buffer(buffer)) => Target::Buffer(std::mem::take(buffer)),
        };
        let what = What::First {
            listener: Handle {
                token: which.token,
                host: self.door.host(),
            },
            socket,
            into: first,
            peer,
            multishot,
        };
        let (op, step) = match multishot {
            true => (Op::new(what).token(op.token), Step::Again(op)),
            false => (op.becomes(what), Step::Over),
        };
        if self.is_elsewhere(queue, socket) {
            self.send_on(queue, socket, op);
        } else {
            self.await_first(cx, socket.token, op);
        }
        step
    }

    /// The next connection of a listener, whose word shall be `key`. `None` when there was one, and no room for it.
    fn next_connection(
        &mut self,
        cx: &mut ShardCx<'_>,
        which: Which,
        key: u64,
    ) -> Result<Option<(Handle, SocketAddr)>, SocketError> {
        let own = match self.takes_turns(which.token) {
            true => Err(SocketError::WouldBlock),
            false => accepted(cx, which.id),
        };
        if own.is_err()
            && let Some(accepted) = self.next_waiting(which, key)
        {
            return Ok(Some(accepted));
        }
        let (id, peer) = own?;
        let Ok(token) = self.insert_op(cx, which.queue, (Kind::Stream, key), id) else {
            return Ok(None);
        };
        if let Some(socket) = self.op_socket(token) {
            socket.listener = Some(which.token);
        }
        let host = self.door.host();
        Ok(Some((Handle { token, host }, peer)))
    }

    /// Waits for the first bytes of a connection, which its listener has just accepted.
    pub(super) fn await_first(&mut self, cx: &mut ShardCx<'_>, token: u64, op: Op) {
        let listener = self.op_socket(token).and_then(|socket| socket.listener);
        if let Some(listener) = listener.and_then(|listener| self.op_socket(listener)) {
            listener.unheard.insert(token);
        }
        self.queue_receive(cx, token, op);
    }

    /// Whether the queue has room for one more of a multishot operation. If not, its socket is served when there is.
    fn has_room(&mut self, which: Which) -> bool {
        if self.queue(which.queue).is_none_or(|entry| entry.room > 0) {
            return true;
        }
        let socket = self.op_socket(which.token);
        if socket.is_some_and(|socket| !std::mem::replace(&mut socket.paused, true))
            && let Some(entry) = self.queue(which.queue)
        {
            entry.paused.push(which.token);
        }
        false
    }

    /// Tells those who poll, if there is what they wait for.
    pub(super) fn serve_polls(&mut self, cx: &mut ShardCx<'_>, token: u64) {
        let Some(socket) = self.op_socket(token) else {
            return;
        };
        if socket.polls.is_empty() {
            return;
        }
        let which = socket.which(token);
        let waits = socket.parts.as_ref().is_some_and(|parts| parts.waits());
        let mut ready = cx.host.watch_ready(which.id);
        if waits {
            ready |= Ready::READABLE;
        }
        let ready = ready.epoll();
        for _ in 0..socket.polls.len() {
            let socket = self.op_socket(token);
            let Some((op, polls)) = socket.and_then(|socket| {
                let op = socket.polls.pop_front()?;
                Some((op, &mut socket.polls))
            }) else {
                return;
            };
            let What::Poll { interest, .. } = op.what else {
                continue;
            };
            match ready & (interest | EPOLLERR | EPOLLHUP) {
                0 => polls.push_back(op),
                told => self.finish(which.queue, op, Outcome::new(which.key, Ok(told as usize))),
            }
        }
    }
}

/// One attempt to receive; `None` when there is nothing yet.
fn receive(
    cx: &mut ShardCx<'_>,
    which: Which,
    into: &mut Target,
    at: usize,
) -> io::Result<Option<Received>> {
    let (mut lent, asked) = match into {
        Target::Buffer(buffer) => {
            let asked = !buffer.is_empty();
            (None, asked.then_some(&mut **buffer))
        }
        Target::Group(group) => {
            // No buffer is drawn for what is not there.
            if !cx.host.ready(which.id).intersects(RECEIVABLE) {
                return Ok(None);
            }
            let lent = group.take().ok_or(Errno::NOBUFS)?;
            if lent.is_empty() {
                // What it would bring looks like the end of the stream.
                return Err(Errno::INVAL.into());
            }
            (Some(lent), None)
        }
    };
    let bytes: &mut [u8] = match (&mut lent, asked) {
        (Some(lent), _) => lent,
        (None, Some(buffer)) => buffer,
        // Nothing was asked for but to be told.
        (None, None) if cx.host.ready(which.id).intersects(RECEIVABLE) => &mut [],
        (None, None) => return Ok(None),
    };
    let received = match which.kind {
        _ if bytes.is_empty() => Ok((0, None)),
        Kind::Datagram => {
            let received = cx.host.udp_recv(which.id, bytes);
            received.map(|datagram| (datagram.copied, Some(datagram)))
        }
        _ => {
            let received = cx.host.tcp_recv(cx.now, which.id, &mut bytes[at..]);
            received.map(|n| (n, None))
        }
    };
    match received {
        Ok((n, datagram)) => Ok(Some(Received {
            n,
            buffer: lent.map(Buffer::Lent),
            from: datagram.map(|datagram| datagram.from),
            arrival: datagram.as_ref().map(Arrival::new),
        })),
        Err(SocketError::WouldBlock) => Ok(None),
        Err(error) => Err(io_error(error)),
    }
}
