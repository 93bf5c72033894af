//! What completion queues need besides on a host of several shards: operations that go from one to another.
//!
//! A listener has a part on each shard, opened and closed one after the other in the order of the shards. The first has the accepts
//! that wait, and what was accepted elsewhere comes to it. The other parts accept ahead, each up to the backlog and at most
//! [`ACCEPT_AHEAD`] connections that nobody has claimed yet.
//!
//! Invariant: a connection that was accepted ahead is claimed once, or reset with the part that has it.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use rustix::io::Errno;
use stack::{Ready, SocketError, SocketId};

use super::super::{Driver, Entry, key_of};
use super::serve::accepted;
use super::start::bound;
use super::{Kind, Outcome, Which};
use crate::app::ShardCx;
use crate::completion::{Handle, Op, Opened, Passed, Tour, What};
use crate::sockets::error::io_error;
use crate::steer::spreads;

/// Connections that a part accepts before somebody asks, at most.
const ACCEPT_AHEAD: usize = 128;

/// What a part of a listener knows of the others.
#[derive(Debug)]
pub(super) struct Parts {
    /// The first: the application's handle.
    first: Handle,
    /// Of the first: the others, in the order of their shards.
    others: Vec<Handle>,
    /// Of the first: connections that were accepted elsewhere, and where they come from.
    waiting: VecDeque<(Handle, SocketAddr)>,
    /// Of the first: whether it was their turn.
    turn: bool,
    /// Of another: what it has accepted, and nobody has claimed; and how much that may be.
    ahead: BTreeSet<u64>,
    most: usize,
}

impl Parts {
    fn new(first: Handle, backlog: usize) -> Self {
        Self {
            first,
            others: Vec::new(),
            waiting: VecDeque::new(),
            turn: false,
            ahead: BTreeSet::new(),
            most: backlog.clamp(1, ACCEPT_AHEAD),
        }
    }

    /// Whether there is a connection to be accepted.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Driver {
    /// How many shards a queue is on.
    pub(super) fn shards(&mut self, queue: u64) -> usize {
        self.queue(queue).map_or(1, |entry| entry.shared.shards())
    }

    /// Whether a socket is on another shard of this host.
    pub(super) fn is_elsewhere(&mut self, queue: u64, socket: Handle) -> bool {
        let here = self.door.host();
        let known = self.queue(queue);
        socket.host != here && known.is_some_and(|entry| entry.shared.shard_of(socket).is_some())
    }

    /// What is linked to an operation that has succeeded begins, here or on the shard where it belongs.
    pub(super) fn follow(&mut self, queue: u64, op: Op) {
        let Some(entry) = self.queue(queue) else {
            return;
        };
        let to = entry.shared.route(&op, entry.shard);
        match to == entry.shard {
            true => self.desk.work.push_back((queue, op)),
            false => self.send_to(queue, to, Passed::Op(op)),
        }
    }

    /// An operation goes on on the shard of a socket.
    pub(super) fn send_on(&mut self, queue: u64, socket: Handle, op: Op) {
        let known = self.queue(queue);
        match known.and_then(|entry| entry.shared.shard_of(socket)) {
            Some(to) => self.send_to(queue, to, Passed::Op(op)),
            None => self.give_up(queue, 0, op, Errno::BADF.into()),
        }
    }

    fn send_to(&mut self, queue: u64, to: usize, passed: Passed) {
        let Some(entry) = self.queue(queue) else {
            return;
        };
        // What comes of it there must not overtake what it has brought here.
        if !entry.done.is_empty() || !entry.reads.is_empty() {
            entry.hand_over();
        }
        entry.shared.pass(to, passed);
    }

    /// As [`Driver::send_to`], for what ends nothing.
    fn tell_shard_of(&mut self, queue: u64, socket: Handle, passed: Passed) {
        if let Some(entry) = self.queue(queue)
            && let Some(to) = entry.shared.shard_of(socket)
        {
            entry.shared.pass(to, passed);
        }
    }
}

/// Datagram sockets.
impl Driver {
    /// Takes part in the port a datagram socket is to be bound to: the operation goes to the shard where that is. It comes back
    /// where that is this one.
    pub(super) fn claim_port(&mut self, queue: u64, mut op: Op) -> Option<Op> {
        let (shard, group) = {
            let entry = self.queue(queue)?;
            (entry.shard, entry.shared.group().cloned())
        };
        let Some(group) = group else {
            return Some(op);
        };
        let What::Bind {
            local,
            options,
            claim,
            key,
        } = &mut op.what
        else {
            return None;
        };
        if claim.is_some() {
            return Some(op);
        }
        let made = group.udp.claim(local.ip(), local.port(), spreads(options));
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                let key = *key;
                self.give_up(queue, key, op, io_error(error));
                return None;
            }
        };
        let to = made.shard;
        local.set_port(made.port);
        *claim = Some(Box::new(made));
        if to == shard {
            return Some(op);
        }
        self.send_to(queue, to, Passed::Op(op));
        None
    }
}

/// Listeners.
impl Driver {
    /// Opens this shard's part of a listener, then it is the next shard's turn; or closes it, because another could not be opened.
    pub(super) fn listen_part(&mut self, cx: &mut ShardCx<'_>, queue: u64, mut op: Op) {
        let shards = self.shards(queue);
        let What::Listen {
            local,
            backlog,
            key,
            options,
            parts,
        } = &mut op.what
        else {
            return;
        };
        let (local, backlog, key) = (*local, *backlog, *key);
        if parts.failed.is_some() {
            return self.unlisten_part(cx, queue, op);
        }
        if parts.parts.len() == shards {
            let opened = std::mem::take(&mut parts.parts);
            return self.all_listen(cx, queue, op, opened);
        }
        let options = options.as_deref().unwrap_or(&self.door.tcp_options);
        let first = parts.parts.first().copied();
        let listening = cx.host.tcp_listen(cx.now, local, backlog, options);
        let made = listening.and_then(|id| {
            let token = self.insert_op(cx, queue, (Kind::Listener, key), id)?;
            Ok((token, cx.host.local_addr(id)?))
        });
        let next = self.opened_part(&mut op, first, made);
        match next {
            Some(next) => self.send_to(queue, next % shards, Passed::Op(op)),
            None => self.unlisten_part(cx, queue, op),
        }
    }

    /// The number of the shard that goes on; `None` when this one may not listen.
    fn opened_part(
        &mut self,
        op: &mut Op,
        first: Option<Handle>,
        made: Result<(u64, SocketAddr), SocketError>,
    ) -> Option<usize> {
        let What::Listen {
            local,
            backlog,
            parts,
            ..
        } = &mut op.what
        else {
            return None;
        };
        match made {
            Ok((token, bound)) => {
                let host = self.door.host();
                let own = Handle { token, host };
                if let Some(socket) = self.op_socket(token) {
                    let known = Parts::new(first.unwrap_or(own), *backlog);
                    socket.parts = Some(Box::new(known));
                }
                // Of those behind it, too.
                local.set_port(bound.port());
                parts.parts.push(own);
                Some(parts.parts.len())
            }
            Err(error) => {
                parts.failed = Some(io_error(error));
                None
            }
        }
    }

    /// All parts listen, which the first one hears.
    fn all_listen(&mut self, cx: &mut ShardCx<'_>, queue: u64, op: Op, opened: Vec<Handle>) {
        let Some((&first, others)) = opened.split_first() else {
            return;
        };
        let Some((_, socket)) = self.find(queue, first) else {
            return self.give_up(queue, 0, op, Errno::BADF.into());
        };
        if let Some(parts) = &mut socket.parts {
            parts.others = others.to_vec();
        }
        let (id, key) = (socket.id, socket.key);
        let mut outcome = Outcome::new(key, Ok(0));
        outcome.socket = Some(first);
        outcome.address = bound(cx, id, &op);
        self.finish(queue, op, outcome);
    }

    /// A part could not be opened: the one before it is closed, and so on; then the operation has failed.
    fn unlisten_part(&mut self, cx: &mut ShardCx<'_>, queue: u64, mut op: Op) {
        let here = self.door.host();
        let What::Listen { parts, key, .. } = &mut op.what else {
            return;
        };
        let key = *key;
        if let Some(own) = parts.parts.pop_if(|part| part.host == here) {
            self.close_part(cx, own.token);
        }
        let What::Listen { parts, .. } = &mut op.what else {
            return;
        };
        match parts.parts.last().copied() {
            Some(before) => self.send_on(queue, before, op),
            None => {
                let Opened { failed, .. } = std::mem::take(parts);
                let error = failed.unwrap_or_else(|| Errno::INVAL.into());
                self.give_up(queue, key, op, error);
            }
        }
    }

    /// This shard's part of a listener is closed, and what nobody has claimed of it is reset.
    fn close_part(&mut self, cx: &mut ShardCx<'_>, token: u64) {
        let Some(Entry::Op(mut socket)) = self.entries.remove(key_of(token)) else {
            return;
        };
        self.reset_unheard(cx, std::mem::take(&mut socket.unheard));
        self.reset_unclaimed(cx, socket.parts.take());
        let _ = cx.host.close(cx.now, socket.id);
    }

    pub(super) fn reset_unclaimed(&mut self, cx: &mut ShardCx<'_>, parts: Option<Box<Parts>>) {
        for connection in parts.into_iter().flat_map(|parts| parts.ahead) {
            if let Some(Entry::Op(unclaimed)) = self.entries.remove(key_of(connection)) {
                let _ = cx.host.abort(cx.now, unclaimed.id);
            }
        }
    }

    /// Whether a connection was accepted ahead, and is nobody's.
    pub(super) fn is_unclaimed(&mut self, token: u64) -> bool {
        let listener = self.op_socket(token).and_then(|socket| socket.listener);
        let listener = listener.and_then(|listener| self.op_socket(listener));
        let parts = listener.and_then(|listener| listener.parts.as_ref());
        parts.is_some_and(|parts| parts.ahead.contains(&token))
    }

    /// A part that is not the first accepts what it may, and passes it on.
    pub(super) fn accept_ahead(&mut self, cx: &mut ShardCx<'_>, token: u64) {
        while let Some((id, queue, first)) = self.may_accept(token) {
            let Ok((id, peer)) = accepted(cx, id) else {
                return;
            };
            // A full table refuses the connection, and the next one may fit.
            let Ok(connection) = self.insert_op(cx, queue, (Kind::Stream, 0), id) else {
                continue;
            };
            if let Some(socket) = self.op_socket(connection) {
                socket.listener = Some(token);
            }
            if let Some(parts) = self.parts(token) {
                parts.ahead.insert(connection);
            }
            let socket = Handle {
                token: connection,
                host: self.door.host(),
            };
            let passed = Passed::Accepted(first.token, socket, peer);
            self.tell_shard_of(queue, first, passed);
        }
    }

    fn parts(&mut self, token: u64) -> Option<&mut Parts> {
        self.op_socket(token)?.parts.as_deref_mut()
    }

    /// The listener of the stack that may accept ahead, its queue and its first part.
    fn may_accept(&mut self, token: u64) -> Option<(SocketId, u64, Handle)> {
        let here = self.door.host();
        let socket = self.op_socket(token)?;
        let parts = socket.parts.as_ref()?;
        let may = parts.first.host != here && parts.ahead.len() < parts.most;
        may.then_some((socket.id, socket.queue, parts.first))
    }

    /// Another part of a listener has accepted a connection. Without that listener, the part is about to be closed, too.
    pub(super) fn accepted_elsewhere(
        &mut self,
        cx: &mut ShardCx<'_>,
        listener: u64,
        accepted: (Handle, SocketAddr),
    ) {
        if let Some(parts) = self.parts(listener) {
            parts.waiting.push_back(accepted);
            self.look_at_op_socket(cx, listener, Ready::NONE);
        }
    }

    /// Whether it is the turn of connections that were accepted elsewhere, of which there are some.
    pub(super) fn takes_turns(&mut self, token: u64) -> bool {
        self.parts(token).is_some_and(|parts| {
            parts.turn = !parts.turn && parts.waits();
            parts.turn
        })
    }

    /// The next connection that was accepted elsewhere; its word shall be `key`.
    pub(super) fn next_waiting(&mut self, which: Which, key: u64) -> Option<(Handle, SocketAddr)> {
        let accepted = self.parts(which.token)?.waiting.pop_front()?;
        let claimed = Passed::Claimed(accepted.0.token, key);
        self.tell_shard_of(which.queue, accepted.0, claimed);
        Some(accepted)
    }

    /// A connection that was accepted ahead is somebody's: there is room for another.
    pub(super) fn claimed(&mut self, cx: &mut ShardCx<'_>, token: u64, key: u64) {
        let Some(socket) = self.op_socket(token) else {
            return;
        };
        socket.key = key;
        let Some(listener) = socket.listener else {
            return;
        };
        if let Some(parts) = self.parts(listener) {
            parts.ahead.remove(&token);
        }
        self.accept_ahead(cx, listener);
    }
}

/// Closing and cancelling.
impl Driver {
    /// The other parts of a listener, the last first, if it is the first of several.
    pub(super) fn other_parts(&mut self, token: u64) -> Option<Vec<Handle>> {
        let parts = self.parts(token)?;
        let others = parts.others.iter().rev().copied().collect::<Vec<_>>();
        (!others.is_empty()).then_some(others)
    }

    /// A listener's first part is closed: so are the others.
    pub(super) fn close_parts(&mut self, queue: u64, key: u64, parts: &Parts, mut op: Op) {
        if let What::Close { tour, .. } = &mut op.what {
            *tour = Some(Box::new(Tour {
                key,
                rest: parts.others.iter().rev().copied().collect(),
                ..Tour::default()
            }));
        }
        self.visit_next(queue, op);
    }

    /// What was asked for of a listener was cancelled at its first part, so many operations: so it is at the others.
    pub(super) fn cancel_parts(
        &mut self,
        queue: u64,
        (key, ended): (u64, usize),
        rest: Vec<Handle>,
        mut op: Op,
    ) {
        if let What::Cancel { tour, .. } = &mut op.what {
            *tour = Some(Box::new(Tour {
                key,
                rest,
                ended,
                ..Tour::default()
            }));
        }
        self.visit_next(queue, op);
    }

    /// An operation has come to this shard on its way.
    pub(super) fn visit(&mut self, cx: &mut ShardCx<'_>, queue: u64, mut op: Op) {
        let (closes, name, seeks) = match &op.what {
            What::Cancel { token, socket, .. } => (false, *token, socket.is_none()),
            _ => (true, None, false),
        };
        if seeks {
            return self.seek(cx, queue, op);
        }
        let here = self.door.host();
        let part = op
            .tour()
            .and_then(|tour| tour.rest.pop_if(|part| part.host == here));
        if let Some(part) = part {
            let ended = match closes {
                true => {
                    self.close_part(cx, part.token);
                    0
                }
                false => self.cancel_unheard(cx, part.token, name),
            };
            if let Some(tour) = op.tour() {
                tour.ended += ended;
            }
        }
        self.visit_next(queue, op);
    }

    /// It goes to the next part, or is over.
    fn visit_next(&mut self, queue: u64, mut op: Op) {
        let Some(tour) = op.tour() else { return };
        if let Some(next) = tour.rest.last().copied() {
            return self.send_on(queue, next, op);
        }
        let (key, ended) = (tour.key, tour.ended);
        match &op.what {
            What::Cancel { .. } => self.finish_cancel(queue, (key, ended), op),
            _ => self.finish(queue, op, Outcome::new(key, Ok(0))),
        }
    }

    /// Cancels the timeout or the connect that came last under a word, on whichever shard that is: each is asked, and the one that has
    /// it is told. When that has ended meanwhile, which is the last now is asked again.
    pub(super) fn seek(&mut self, cx: &mut ShardCx<'_>, queue: u64, mut op: Op) {
        let Some(entry) = self.queue(queue) else {
            return;
        };
        let (here, shards) = (entry.shard, entry.shared.shards());
        let What::Cancel { token, tour, .. } = &mut op.what else {
            return;
        };
        let name = token.unwrap_or_default();
        let tour = tour.get_or_insert_default();
        if let Some(order) = tour.found.take() {
            (tour.asked, tour.last) = (0, None);
            let over = self.cancel_named(cx, queue, (name, order));
            if over > 0 {
                return self.finish_cancel(queue, (0, over), op);
            }
            return self.desk.work.push_back((queue, op));
        }
        let own = self.last_named(queue, name).map(|order| (order, here));
        tour.last = tour.last.max(own);
        tour.asked += 1;
        if tour.asked < shards {
            return self.send_to(queue, (here + 1) % shards, Passed::Op(op));
        }
        let Some((order, shard)) = tour.last else {
            return self.finish_cancel(queue, (0, 0), op);
        };
        tour.found = Some(order);
        match shard == here {
            true => self.desk.work.push_back((queue, op)),
            false => self.send_to(queue, shard, Passed::Op(op)),
        }
    }
}
