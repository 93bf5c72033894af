//! The shard's side of all sockets in foreign hands: an [`App`] like any other.
//!
//! What does not live here: what the application's side may do meanwhile (`tcp`, `listener`, `udp`).
//!
//! Invariant: a socket is looked at only when there is a notice about it or the stack reports an event of it.
//! Invariant: one look moves at most a limit's worth of bytes each way, so no socket holds up a turn; a look that stops for
//! that leaves a notice to itself.

mod completion;
mod listener;
mod moving;
mod splice;
mod stalled;
mod tcp;
mod udp;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::{Key, Loan, Slab};
use stack::{Config, Event, Ready, SocketId};

use super::chunk::Chunk;
use super::watch::Raises;
use super::{Door, Limits, Notice, Sockets, Subject};
use crate::app::{App, ShardCx};
use crate::mailbox::Mailbox;
use crate::shard::Message;
use completion::{Desk, OpSocket, QueueEntry};
use listener::{Found, ListenerEntry, Unclaimed};
pub(crate) use moving::Newcomer;
use splice::Next;
use stalled::Stalled;
use tcp::{Splices, TcpEntry};
use udp::UdpEntry;

/// How soon to try again what no event will tell of.
const STALLED: Duration = Duration::from_millis(1);

/// Completion queues there may be beside as many sockets as the host holds.
const QUEUES: u32 = 1024;

/// What the driver knows of one socket.
#[derive(Debug)]
enum Entry {
    Tcp(TcpEntry),
    Listener(ListenerEntry),
    Udp(UdpEntry),
    Queue(QueueEntry),
    Op(OpSocket),
}

/// Whether a socket stays in the table after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    Gone,
}

/// What a look may use besides the socket.
struct Tools<'a> {
    /// Set by a look that found a table or pool full, of which no event will tell.
    stalled: bool,
    door: &'a Arc<Door>,
    /// A large chunk to receive into, reused until it is given away full.
    scratch: &'a mut Option<Chunk>,
    /// Sets that hear at the turn's end of what came in and what found room.
    raises: &'a mut Raises,
}

impl Tools<'_> {
    fn scratch(&mut self) -> Chunk {
        self.scratch
            .take()
            .unwrap_or_else(|| self.door.chunks.large())
    }
}

/// What the shard is asking the stack for: should it panic over that, whoever waits for it learns so.
struct InHand(Subject);

impl Drop for InHand {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail_stopped();
        }
    }
}

/// Serves sockets to other threads.
#[derive(Debug)]
pub struct Driver {
    door: Arc<Door>,
    entries: Slab<Entry>,
    scratch: Option<Chunk>,
    raises: Raises,
    stopping: bool,
    /// Sockets to be looked at again although nothing will tell.
    stalled: Stalled,
    /// TCP sockets in the table.
    connections: u32,
    /// Loans that have come back, between two notices empty.
    loans: Vec<Loan>,
    /// What looks have led to and is still to be done, the first of it last; empty between two looks.
    next: Vec<Next>,
    /// Completion queues' part.
    desk: Desk,
}

fn token_of(key: Key) -> u64 {
    u64::from(key.generation) << 32 | u64::from(key.index)
}

fn key_of(token: u64) -> Key {
    Key {
        index: token as u32,
        generation: (token >> 32) as u32,
    }
}

impl Driver {
    /// The driver and the door to it. `config` is the host's.
    pub(crate) fn new(
        mailbox: Arc<Mailbox<Message<Notice>>>,
        limits: Limits,
        config: &Config,
    ) -> (Self, Sockets) {
        let options = stack::TcpOptions::of(config);
        let sockets = Sockets::new(mailbox, limits, options);
        let capacity = config
            .tcp_connections
            .saturating_add(config.tcp_listeners)
            .saturating_add(config.udp_sockets)
            .saturating_add(QUEUES);
        let driver = Self {
            door: sockets.door().clone(),
            entries: Slab::with_capacity(capacity),
            scratch: None,
            raises: Raises::default(),
            stopping: false,
            stalled: Stalled::default(),
            connections: 0,
            loans: Vec::new(),
            next: Vec::new(),
            desk: Desk::default(),
        };
        (driver, sockets)
    }

    fn insert(&mut self, cx: &mut ShardCx<'_>, id: SocketId, entry: Entry) -> Option<u64> {
        let tcp = matches!(entry, Entry::Tcp(_));
        let token = token_of(self.entries.insert(entry)?);
        self.connections += u32::from(tcp);
        let _ = cx.host.set_token(id, token);
        Some(token)
    }

    /// Looks at the socket of `token`, if it is still there, and at what that brings up.
    fn look(&mut self, cx: &mut ShardCx<'_>, token: u64, ready: Ready) {
        self.look_once(cx, token, ready);
        self.go_on(cx);
    }

    fn look_once(&mut self, cx: &mut ShardCx<'_>, token: u64, ready: Ready) {
        let key = key_of(token);
        let tools = &mut Tools {
            stalled: false,
            door: &self.door,
            scratch: &mut self.scratch,
            raises: &mut self.raises,
        };
        let mut found = Found::default();
        let mut splices = Splices::default();
        let mut order = None;
        let fate = match self.entries.get_mut(key) {
            Some(Entry::Tcp(entry)) => {
                let fate = entry.look(cx, tools, ready);
                splices = entry.splices();
                order = entry.order.take();
                fate
            }
            Some(Entry::Udp(entry)) => entry.look(cx, tools, ready),
            Some(Entry::Listener(entry)) => entry.look(cx, &mut found),
            Some(Entry::Queue(_)) => return self.look_at_queue(cx, token),
            Some(Entry::Op(_)) => return self.look_at_op_socket(cx, token, ready),
            None => return,
        };
        match fate {
            Fate::Lives if tools.stalled => self.stalled.push(token),
            Fate::Lives => {}
            Fate::Gone => self.forget(cx, token),
        }
        if !found.accepted.is_empty() {
            self.adopt(cx, key, found.accepted);
        }
        if let Some((heir, unclaimed)) = found.left {
            self.bequeath(cx, heir, unclaimed);
        }
        self.serve_splices(token, splices);
        if let Some(order) = order {
            self.move_out(cx, token, order);
        }
    }

    /// Takes a socket that is over out of the table; what is spliced from it ends.
    fn forget(&mut self, cx: &mut ShardCx<'_>, token: u64) {
        if let Some(Entry::Tcp(entry)) = self.entries.remove(key_of(token)) {
            self.connections -= 1;
            self.end_spliced(cx, token, entry);
        }
    }

    /// Hands connections that were accepted, and nobody asked for before their listener was closed, to others that share its address.
    fn bequeath(&self, cx: &ShardCx<'_>, heir: SocketId, unclaimed: Unclaimed) {
        let mut refused = Unclaimed::new();
        for (socket, remote) in unclaimed {
            let local = socket.local_addr().ok();
            let token = local.and_then(|local| cx.host.reuseport_member(heir, local, remote));
            match token.and_then(|token| self.entries.get(key_of(token))) {
                Some(Entry::Listener(entry)) if entry.shared().inherits() => {
                    entry.shared().hand_over(vec![(socket, remote)]);
                }
                _ => refused.push_back((socket, remote)),
            }
        }
        super::listener::reset(refused);
    }

    /// Gives accepted connections their records and hands them to the listener's queue.
    fn adopt(&mut self, cx: &mut ShardCx<'_>, listener: Key, accepted: Vec<listener::Accepted>) {
        let Some(Entry::Listener(entry)) = self.entries.get(listener) else {
            return;
        };
        let listening = entry.shared().clone();
        let (options, changed) = entry.options();
        let mut tokens = Vec::with_capacity(accepted.len());
        let mut handles = Vec::with_capacity(accepted.len());
        for (id, remote) in accepted {
            let entry = TcpEntry::accepted(cx, &self.door, id, remote, options.clone());
            let shared = entry.shared().clone();
            // A full table refuses the connection; dropping the handle does no harm then.
            let Some(token) = self.insert(cx, id, Entry::Tcp(entry)) else {
                let _ = cx.host.abort(cx.now, id);
                continue;
            };
            shared.token.store(token, Ordering::Relaxed);
            if changed {
                let _ = cx
                    .host
                    .tcp_set_options(cx.now, id, |inherited| inherited.clone_from(&options));
            }
            tokens.push(token);
            handles.push((super::TcpSocket::new(shared), remote));
        }
        listening.hand_over(handles);
        for token in tokens {
            // What arrived before the connection had a token is found by looking.
            self.look(cx, token, Ready::READABLE);
        }
    }

    /// The first notice about a socket: asks the stack for it.
    fn introduce(&mut self, cx: &mut ShardCx<'_>, subject: Subject) {
        if let Subject::Queue(shared, shard) = subject {
            return self.introduce_queue(cx, shared, shard);
        }
        let subject = InHand(subject);
        let made = match &subject.0 {
            Subject::Tcp(shared) => {
                TcpEntry::connect(cx, shared).map(|entry| (entry.id(), Entry::Tcp(entry)))
            }
            Subject::Listener(shared) => {
                ListenerEntry::listen(cx, shared).map(|entry| (entry.id(), Entry::Listener(entry)))
            }
            Subject::Udp(shared) => {
                UdpEntry::bind(cx, shared).map(|entry| (entry.id(), Entry::Udp(entry)))
            }
            Subject::Queue(..) | Subject::Returns(_) | Subject::Arrival(_) => return,
        };
        let inserted = made.and_then(|(id, entry)| match self.insert(cx, id, entry) {
            Some(token) => Ok((id, token)),
            None => {
                let _ = cx.host.abort(cx.now, id);
                Err(stack::SocketError::NoBuffers)
            }
        });
        if let (Ok((_, token)), Some(place)) = (inserted, subject.0.token()) {
            place.store(token, Ordering::Relaxed);
        }
        let local = inserted.and_then(|(id, _)| cx.host.local_addr(id));
        match (&subject.0, inserted) {
            (Subject::Tcp(shared), Err(error)) => {
                // Whatever is asked of it later begins it no second time.
                shared.token.store(super::TOKEN_GONE, Ordering::Relaxed);
                shared.fail(Some(error));
            }
            (Subject::Tcp(_), Ok(_))
            | (Subject::Queue(..) | Subject::Returns(_) | Subject::Arrival(_), _) => {}
            (Subject::Listener(shared), _) => {
                shared.opened(local.map(|local| super::shown(local, shared.bind())));
            }
            (Subject::Udp(shared), _) => shared.opened(local),
        }
        if let Ok((_, token)) = inserted {
            self.look(cx, token, Ready::NONE);
        }
    }
}

impl Driver {
    /// Packet memory that was lent has come back.
    fn take_back(&mut self, cx: &mut ShardCx<'_>) {
        self.door.returns.take(&mut self.loans);
        for loan in self.loans.drain(..) {
            cx.host.pool_mut().take_back(loan);
        }
    }

    /// Looks at the sockets that found a table or pool full.
    fn try_again(&mut self, cx: &mut ShardCx<'_>) {
        if self.stalled.is_empty() {
            return;
        }
        // Each may stall again, and be back in the list for the next turn.
        for token in self.stalled.take() {
            self.look(cx, token, Ready::NONE);
        }
        if !self.stalled.is_empty() {
            cx.again_within(STALLED);
        }
    }
}

impl App for Driver {
    type Command = Notice;

    fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
        self.look(cx, event.token, event.ready);
    }

    fn on_command(&mut self, cx: &mut ShardCx<'_>, notice: Notice) {
        let Some(subject) = notice.take() else { return };
        subject.taken();
        let subject = match subject {
            Subject::Arrival(arrival) => return self.arrive(cx, *arrival),
            // Left before the connection went.
            Subject::Tcp(shared) if !shared.is_at(&self.door) => return shared.notice(),
            subject => subject,
        };
        match subject.token().map(|token| token.load(Ordering::Relaxed)) {
            None => self.take_back(cx),
            Some(super::TOKEN_NONE) if self.stopping => subject.fail_stopped(),
            Some(super::TOKEN_NONE) => self.introduce(cx, subject),
            Some(token) => self.look(cx, token, Ready::NONE),
        }
    }

    fn on_turn(&mut self, cx: &mut ShardCx<'_>) {
        self.try_again(cx);
        self.tend_queues(cx);
        self.raises.tell();
    }

    fn on_settled(&mut self) {
        self.raises.tell();
    }

    fn on_stop(&mut self, cx: &mut ShardCx<'_>) {
        self.stopping = true;
        // Listeners first: the connections nobody accepted are reset, not closed.
        let (listeners, others): (Vec<_>, Vec<_>) = self
            .entries
            .iter()
            .map(|(key, entry)| (token_of(key), matches!(entry, Entry::Listener(_))))
            .partition(|&(_, listener)| listener);
        for (token, _) in listeners.into_iter().chain(others) {
            match self.entries.get(key_of(token)) {
                Some(Entry::Tcp(entry)) => entry.shared().stop(),
                Some(Entry::Listener(entry)) => entry.shared().stop(),
                Some(Entry::Udp(entry)) => entry.shared().stop(),
                Some(Entry::Op(_)) => {
                    self.stop_op_socket(cx, token);
                    continue;
                }
                Some(Entry::Queue(_)) | None => {}
            }
            self.look(cx, token, Ready::NONE);
        }
        self.stop_queues();
    }

    fn is_drained(&self) -> bool {
        self.connections == 0
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.end_ops();
        for (_, entry) in self.entries.iter() {
            match entry {
                Entry::Tcp(entry) => entry.shared().fail_stopped(),
                Entry::Listener(entry) => entry.shared().fail_stopped(),
                Entry::Udp(entry) => entry.shared().fail_stopped(),
                Entry::Queue(entry) => entry.fail_stopped(),
                Entry::Op(_) => {}
            }
        }
    }
}
