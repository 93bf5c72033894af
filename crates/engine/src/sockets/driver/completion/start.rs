//! What begins with an operation, and what ends one early.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;

use base::{Instant, Key};
use rustix::io::Errno;
use stack::{Ready, Shutdown, SocketError, SocketId};

use super::super::{Driver, Entry, key_of};
use super::{Kind, Named, OpSocket, Outcome, cancelled};
use crate::app::ShardCx;
use crate::completion::{Handle, Op, Target, What};
use crate::sockets::error::io_error;
use crate::sockets::{meant, shown};

/// The address of a socket that an operation has made.
pub(super) fn bound(cx: &ShardCx<'_>, id: SocketId, op: &Op) -> Option<SocketAddr> {
    let own = cx.host.local_addr(id).ok()?;
    match &op.what {
        What::Listen { local, .. } => Some(shown(own, *local)),
        _ => Some(own),
    }
}

impl Driver {
    /// Begins an operation.
    pub(super) fn start(&mut self, cx: &mut ShardCx<'_>, queue: u64, mut op: Op) {
        match &mut op.what {
            What::Listen { .. } if self.shards(queue) > 1 => self.listen_part(cx, queue, op),
            What::Listen { .. } => self.listen(cx, queue, op),
            What::Bind { .. } => {
                if let Some(op) = self.claim_port(queue, op) {
                    self.bind(cx, queue, op);
                }
            }
            What::Connect {
                remote,
                local,
                key,
                options,
            } => {
                let options = options.as_deref().unwrap_or(&self.door.tcp_options);
                let remote = meant(*remote, *local);
                let opened = cx.host.tcp_connect(cx.now, remote, *local, options);
                let key = *key;
                self.connect(cx, queue, op, key, opened);
            }
            What::Accept { .. } => self.accept(cx, queue, op),
            What::First { socket, .. } => {
                let socket = *socket;
                if let Some((token, op)) = self.place(queue, socket, op, Kind::Listener) {
                    self.await_first(cx, token, op);
                }
            }
            What::Receive { socket, .. } => {
                let socket = *socket;
                if let Some((token, op)) = self.place(queue, socket, op, Kind::Listener) {
                    self.queue_receive(cx, token, op);
                }
            }
            What::Splice { from, to, .. } => {
                let (from, to) = (*from, *to);
                self.splice(cx, queue, (from, to), op);
            }
            What::Send { socket, .. } | What::SendFile { socket, .. } => {
                let socket = *socket;
                if let Some((token, op)) = self.place(queue, socket, op, Kind::Listener) {
                    self.queue_send(cx, token, op);
                }
            }
            What::Shutdown { socket, how } => {
                let (socket, how) = (*socket, *how);
                if let Some((token, op)) = self.place(queue, socket, op, Kind::Listener) {
                    self.shutdown(cx, token, how, op);
                }
            }
            What::Poll { socket, .. } => {
                let socket = *socket;
                self.poll(cx, queue, socket, op);
            }
            What::Timeout(after) => self.wait_until(queue, cx.now + *after, op),
            What::Close { tour: Some(_), .. } | What::Cancel { tour: Some(_), .. } => {
                self.visit(cx, queue, op);
            }
            What::Close { socket, reset, .. } => {
                let (socket, reset) = (*socket, *reset);
                self.close_op_socket(cx, queue, socket, reset, op);
            }
            What::Cancel { socket, token, .. } => {
                let (socket, token) = (*socket, *token);
                self.cancel(cx, queue, (socket, token), op);
            }
            What::FileUnderWay(_) => {}
        }
    }

    fn listen(&mut self, cx: &mut ShardCx<'_>, queue: u64, op: Op) {
        let What::Listen {
            local,
            backlog,
            key,
            options,
            ..
        } = &op.what
        else {
            return;
        };
        let options = options.as_deref().unwrap_or(&self.door.tcp_options);
        let made = cx.host.tcp_listen(cx.now, *local, *backlog, options);
        let key = *key;
        self.made(cx, queue, op, (Kind::Listener, key), made);
    }

    fn bind(&mut self, cx: &mut ShardCx<'_>, queue: u64, op: Op) {
        let What::Bind {
            local,
            key,
            options,
            ..
        } = &op.what
        else {
            return;
        };
        let (key, bound) = (*key, cx.host.udp_bind(cx.now, *local, options));
        self.made(cx, queue, op, (Kind::Datagram, key), bound);
    }

    fn wait_until(&mut self, queue: u64, at: Instant, op: Op) {
        let order = self.name(queue, op.token, Named::Timeout(at));
        self.desk.timeouts.insert((at, order), (queue, op));
    }

    fn poll(&mut self, cx: &mut ShardCx<'_>, queue: u64, handle: Handle, op: Op) {
        match self.find(queue, handle) {
            Some((token, socket)) => {
                socket.polls.push_back(op);
                self.serve_polls(cx, token);
            }
            None => self.give_up(queue, 0, op, Errno::BADF.into()),
        }
    }

    /// The socket of a handle, if it is one of this queue's.
    pub(super) fn find(&mut self, queue: u64, handle: Handle) -> Option<(u64, &mut OpSocket)> {
        if handle.host != self.door.host() {
            return None;
        }
        let socket = self.op_socket(handle.token)?;
        (socket.queue == queue).then_some((handle.token, socket))
    }

    /// The socket an operation is about, which must not be of the kind `but`. Else the operation is over.
    fn place(&mut self, queue: u64, handle: Handle, op: Op, but: Kind) -> Option<(u64, Op)> {
        let (key, error) = match self.find(queue, handle) {
            None => (0, Errno::BADF),
            // As Linux: a listener, or what is not connected yet.
            Some((_, socket)) if socket.kind == but || socket.connecting.is_some() => {
                (socket.key, Errno::NOTCONN)
            }
            Some((token, _)) => return Some((token, op)),
        };
        self.give_up(queue, key, op, error.into());
        None
    }

    fn connect(
        &mut self,
        cx: &mut ShardCx<'_>,
        queue: u64,
        op: Op,
        key: u64,
        opened: Result<SocketId, SocketError>,
    ) {
        let made = opened.and_then(|id| self.insert_op(cx, queue, (Kind::Stream, key), id));
        match made {
            Ok(token) => {
                let order = self.name(queue, op.token, Named::Connect(token));
                if let Some(socket) = self.op_socket(token) {
                    socket.connecting = Some((order, op));
                }
            }
            Err(error) => self.give_up(queue, key, op, io_error(error)),
        }
    }

    /// Whether a connection is there; tells how the attempt ended if it just did.
    pub(super) fn connected(&mut self, cx: &mut ShardCx<'_>, token: u64, ready: Ready) -> bool {
        let (failed, opened) = (
            ready.intersects(Ready::ERROR | Ready::HUP),
            ready.contains(Ready::WRITABLE),
        );
        if !failed && !opened {
            return false;
        }
        let host = self.door.host();
        let Some(socket) = self.op_socket(token) else {
            return false;
        };
        let (queue, key, id) = (socket.queue, socket.key, socket.id);
        let Some((order, op)) = socket.connecting.take() else {
            return true;
        };
        self.unname(queue, (op.token, order));
        if failed {
            let error = Self::error_of(cx, id, SocketError::ConnectionRefused);
            self.entries.remove(key_of(token));
            let _ = cx.host.close(cx.now, id);
            self.give_up(queue, key, op, error);
            return false;
        }
        let mut outcome = Outcome::new(key, Ok(0));
        outcome.socket = Some(Handle { token, host });
        outcome.address = match (cx.host.peer_addr(id), &op.what) {
            (Ok(peer), What::Connect { remote, .. }) => Some(shown(peer, *remote)),
            (peer, _) => peer.ok(),
        };
        self.finish(queue, op, outcome);
        true
    }

    /// Gives a socket of the stack its place. A full table refuses it.
    pub(super) fn insert_op(
        &mut self,
        cx: &mut ShardCx<'_>,
        queue: u64,
        (kind, key): (Kind, u64),
        id: SocketId,
    ) -> Result<u64, SocketError> {
        let socket = OpSocket {
            id,
            kind,
            queue,
            key,
            receives: Default::default(),
            sends: Default::default(),
            polls: Default::default(),
            unheard: Default::default(),
            connecting: None,
            paused: false,
            fed_by: None,
            error: None,
            parts: None,
            listener: None,
            claim: None,
        };
        let inserted = self.insert(cx, id, Entry::Op(socket));
        inserted.ok_or_else(|| {
            let _ = cx.host.abort(cx.now, id);
            SocketError::NoBuffers
        })
    }

    fn made(
        &mut self,
        cx: &mut ShardCx<'_>,
        queue: u64,
        mut op: Op,
        (kind, key): (Kind, u64),
        made: Result<SocketId, SocketError>,
    ) {
        let made = made.and_then(|id| Ok((id, self.insert_op(cx, queue, (kind, key), id)?)));
        match made {
            Ok((id, token)) => {
                if let What::Bind { claim, .. } = &mut op.what
                    && let Some(socket) = self.op_socket(token)
                {
                    socket.claim = claim.take();
                }
                let host = self.door.host();
                let mut outcome = Outcome::new(key, Ok(0));
                outcome.socket = Some(Handle { token, host });
                outcome.address = bound(cx, id, &op);
                self.finish(queue, op, outcome);
            }
            Err(error) => self.give_up(queue, key, op, io_error(error)),
        }
    }

    fn accept(&mut self, cx: &mut ShardCx<'_>, queue: u64, op: Op) {
        let What::Accept {
            listener,
            first,
            multishot,
            ..
        } = &op.what
        else {
            return;
        };
        // One buffer cannot hold the first bytes of many.
        let one_buffer = *multishot && matches!(first, Some(Target::Buffer(_)));
        let found = self.find(queue, *listener);
        match found.map(|(token, socket)| (token, socket.kind, socket.key)) {
            None => self.give_up(queue, 0, op, Errno::BADF.into()),
            Some((_, kind, key)) if kind != Kind::Listener || one_buffer => {
                self.give_up(queue, key, op, Errno::INVAL.into());
            }
            Some((token, ..)) => {
                if let Some(socket) = self.op_socket(token) {
                    socket.receives.push_back(op);
                }
                self.serve_accepts(cx, token);
            }
        }
    }

    pub(super) fn queue_receive(&mut self, cx: &mut ShardCx<'_>, token: u64, op: Op) {
        let Some(socket) = self.op_socket(token) else {
            return;
        };
        socket.receives.push_back(op);
        if socket.receives.len() == 1 {
            self.serve_receives(cx, token);
        }
    }

    fn queue_send(&mut self, cx: &mut ShardCx<'_>, token: u64, op: Op) {
        let Some(socket) = self.op_socket(token) else {
            return;
        };
        socket.sends.push_back(op);
        if socket.sends.len() == 1 {
            self.serve_sends(cx, token);
        }
    }

    fn splice(&mut self, cx: &mut ShardCx<'_>, queue: u64, (from, to): (Handle, Handle), op: Op) {
        let Some((from, op)) = self.place(queue, from, op, Kind::Listener) else {
            return;
        };
        if self.is_elsewhere(queue, to) {
            return self.give_up(queue, 0, op, Errno::XDEV.into());
        }
        let Some((to, op)) = self.place(queue, to, op, Kind::Listener) else {
            return;
        };
        let kinds = [from, to].map(|token| self.op_socket(token).map(|socket| socket.kind));
        let fed_by = self.op_socket(to).and_then(|socket| socket.fed_by);
        let busy = fed_by.is_some_and(|other| other != from && self.feeds(other, to));
        if kinds != [Some(Kind::Stream); 2] || from == to || busy {
            return self.give_up(queue, 0, op, Errno::INVAL.into());
        }
        if let Some(socket) = self.op_socket(to) {
            socket.fed_by = Some(from);
        }
        self.queue_receive(cx, from, op);
    }

    /// Whether a connection is being spliced to another.
    fn feeds(&mut self, from: u64, to: u64) -> bool {
        let socket = self.op_socket(from);
        socket.is_some_and(|socket| {
            let mut receives = socket.receives.iter();
            receives
                .any(|op| matches!(op.what, What::Splice { to: other, .. } if other.token == to))
        })
    }

    fn shutdown(&mut self, cx: &mut ShardCx<'_>, token: u64, how: Shutdown, op: Op) {
        let Some(socket) = self.op_socket(token) else {
            return;
        };
        let (queue, key, id) = (socket.queue, socket.key, socket.id);
        if socket.kind == Kind::Datagram {
            return self.give_up(queue, key, op, Errno::NOTCONN.into());
        }
        if how != Shutdown::Write {
            let _ = cx.host.tcp_shutdown(cx.now, id, Shutdown::Read);
            self.serve_receives(cx, token);
        }
        if how == Shutdown::Read {
            self.finish(queue, op, Outcome::new(key, Ok(0)));
        } else {
            self.queue_send(cx, token, op);
        }
    }

    fn close_op_socket(
        &mut self,
        cx: &mut ShardCx<'_>,
        queue: u64,
        handle: Handle,
        reset: bool,
        op: Op,
    ) {
        let found = self.find(queue, handle).map(|(token, _)| key_of(token));
        let Some(Entry::Op(mut socket)) = found.and_then(|key: Key| self.entries.remove(key))
        else {
            return self.give_up(queue, 0, op, Errno::BADF.into());
        };
        for under_way in socket.take_ops() {
            self.give_up(queue, socket.key, under_way, cancelled());
        }
        self.reset_unheard(cx, std::mem::take(&mut socket.unheard));
        // RFC 2525 section 2.17, RFC 1122 section 4.2.2.13: data that nobody will read is answered with a reset.
        let unread =
            socket.kind == Kind::Stream && matches!(cx.host.tcp_peek(socket.id, &mut [0]), Ok(1..));
        if reset || unread {
            let _ = cx.host.abort(cx.now, socket.id);
        } else {
            let _ = cx.host.close(cx.now, socket.id);
        }
        match socket.parts.take() {
            Some(parts) => self.close_parts(queue, socket.key, &parts, op),
            None => self.finish(queue, op, Outcome::new(socket.key, Ok(0))),
        }
        // Who spliced to it cannot go on.
        if let Some(from) = socket.fed_by {
            self.serve_receives(cx, from);
        }
    }

    fn cancel(
        &mut self,
        cx: &mut ShardCx<'_>,
        queue: u64,
        (handle, name): (Option<Handle>, Option<u64>),
        op: Op,
    ) {
        let (key, over) = match handle {
            Some(handle) => match self.find(queue, handle) {
                None => return self.give_up(queue, 0, op, Errno::BADF.into()),
                Some((token, socket)) => {
                    let key = socket.key;
                    (key, self.cancel_on(cx, token, name))
                }
            },
            None if self.shards(queue) > 1 => return self.seek(cx, queue, op),
            None => {
                let name = name.unwrap_or_default();
                let last = self.last_named(queue, name);
                let over = last.map_or(0, |order| self.cancel_named(cx, queue, (name, order)));
                (0, over)
            }
        };
        match handle.and_then(|handle| self.other_parts(handle.token)) {
            Some(rest) => self.cancel_parts(queue, (key, over), rest, op),
            None => self.finish_cancel(queue, (key, over), op),
        }
    }

    /// So many were cancelled.
    pub(super) fn finish_cancel(&mut self, queue: u64, (key, over): (u64, usize), op: Op) {
        let found: io::Result<usize> = match over {
            0 => Err(Errno::NOENT.into()),
            n => Ok(n),
        };
        self.finish(queue, op, Outcome::new(key, found));
    }

    /// Cancels what is under way on a socket: how many operations.
    fn cancel_on(&mut self, cx: &mut ShardCx<'_>, token: u64, name: Option<u64>) -> usize {
        let Some(socket) = self.op_socket(token) else {
            return 0;
        };
        let (queue, key) = (socket.queue, socket.key);
        let hit = |op: &Op| name.is_none_or(|name| op.token == name);
        let mut over = Vec::new();
        for list in [&mut socket.receives, &mut socket.sends, &mut socket.polls] {
            let (hits, kept): (VecDeque<_>, _) = std::mem::take(list).into_iter().partition(hit);
            *list = kept;
            over.extend(hits);
        }
        let mut n = over.len();
        for op in over {
            self.give_up(queue, key, op, cancelled());
        }
        n += self.cancel_unheard(cx, token, name);
        // Those behind them may go on.
        self.serve_receives(cx, token);
        self.serve_sends(cx, token);
        n
    }

    /// Cancels accepts of a listener that wait for the first bytes of their connections: how many.
    pub(super) fn cancel_unheard(
        &mut self,
        cx: &mut ShardCx<'_>,
        token: u64,
        name: Option<u64>,
    ) -> usize {
        let Some(socket) = self.op_socket(token) else {
            return 0;
        };
        let mut hits = std::mem::take(&mut socket.unheard);
        let mut kept = BTreeSet::new();
        hits.retain(|&connection| {
            let known = self.op_socket(connection);
            let waits = known.and_then(|socket| socket.receives.front());
            let hit = waits.is_none_or(|op| name.is_none_or(|name| op.token == name));
            if !hit {
                kept.insert(connection);
            }
            hit
        });
        if let Some(socket) = self.op_socket(token) {
            socket.unheard = kept;
        }
        self.reset_unheard(cx, hits)
    }

    /// Remembers an operation without a socket by its word; the order it came in.
    fn name(&mut self, queue: u64, token: u64, named: Named) -> u64 {
        self.desk.next += 1;
        let mut order = self.desk.next;
        if let Some(entry) = self.queue(queue) {
            // Shards have to agree on who was last.
            order = entry.shared.group().map_or(order, |group| group.order());
            entry.named.insert((token, order), named);
        }
        order
    }

    /// The timeout or the connect that came last under a word, by its order.
    pub(super) fn last_named(&mut self, queue: u64, token: u64) -> Option<u64> {
        let mut known = self
            .queue(queue)?
            .named
            .range((token, 0)..=(token, u64::MAX));
        known.next_back().map(|(&(_, order), _)| order)
    }

    /// Cancels a timeout or a connect.
    pub(super) fn cancel_named(
        &mut self,
        cx: &mut ShardCx<'_>,
        queue: u64,
        (token, order): (u64, u64),
    ) -> usize {
        let known = self.queue(queue);
        let Some(named) = known.and_then(|entry| entry.named.remove(&(token, order))) else {
            return 0;
        };
        match named {
            Named::Timeout(at) => {
                let Some((_, op)) = self.desk.timeouts.remove(&(at, order)) else {
                    return 0;
                };
                self.give_up(queue, 0, op, cancelled());
                1
            }
            Named::Connect(socket) => {
                let Some(Entry::Op(mut socket)) = self.entries.remove(key_of(socket)) else {
                    return 0;
                };
                let _ = cx.host.abort(cx.now, socket.id);
                for op in socket.take_ops() {
                    self.give_up(queue, socket.key, op, cancelled());
                }
                1
            }
        }
    }
}
