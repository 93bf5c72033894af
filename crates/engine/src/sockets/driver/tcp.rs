//! One TCP connection between its record and the stack.

use std::net::SocketAddr;
use std::sync::Arc;

use base::Chain;
use base::epoll::RAISED_IN;
use stack::{Ready, Shutdown, SocketError, SocketId, TcpOptions};

use super::splice::Job;
use super::{Fate, Tools};
use crate::app::ShardCx;
use crate::sockets::chunk::{ByteQueue, Chunk, LARGE, SMALL};
use crate::sockets::lent::{Lender, admit};
use crate::sockets::moving::MoveOrder;
use crate::sockets::tcp::{Close, Phase, TcpShared};
use crate::sockets::{Door, shown};

/// The driver's part of a TCP socket.
#[derive(Debug)]
pub(super) struct TcpEntry {
    shared: Arc<TcpShared>,
    id: SocketId,
    /// Bytes taken from the record that the stack had no room for yet.
    tx: ByteQueue,
    open: bool,
    /// The stack may have something to read.
    rx_ready: bool,
    /// The application's shutdowns have been passed on.
    read_shut: bool,
    write_shut: bool,
    /// Its send buffer was made larger because the application has gone.
    closing: bool,
    /// It is spliced to others; just now.
    pub(super) splice: Option<Box<Job>>,
    begun: bool,
    /// The connection that is spliced to this one.
    pub(super) fed_by: Option<u64>,
    /// The stack says the connection is over, and why; what it still holds is being received.
    over: Option<Option<SocketError>>,
    /// It is to be moved to another shard; just now.
    pub(super) order: Option<MoveOrder>,
}

/// What the application asked for since the last look.
struct Orders {
    options: Option<TcpOptions>,
    quick_ack: Option<bool>,
    write_shut: bool,
    read_shut: bool,
    closed: Option<Close>,
    room: usize,
}

/// The splices of a connection.
#[derive(Default)]
pub(super) struct Splices {
    pub(super) begun: bool,
    pub(super) out: bool,
    pub(super) fed_by: Option<u64>,
}

/// What a round of receiving brought.
struct Received {
    bytes: ByteQueue,
    n: usize,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The stack has no more for now.
    Drained,
    /// The record has no room for more.
    Full,
    /// The peer's FIN.
    Fin,
    /// The connection is over.
    Over(Option<SocketError>),
}

impl End {
    /// What it means that nothing was read.
    fn of(read: Result<(), SocketError>) -> Self {
        match read {
            Ok(()) => Self::Fin,
            Err(SocketError::WouldBlock) => Self::Drained,
            Err(error) => Self::Over(Some(error)),
        }
    }
}

impl Received {
    /// Lends what was received; whether there may be more.
    fn lend(
        &mut self,
        cx: &mut ShardCx<'_>,
        door: &Arc<Door>,
        lender: &Arc<Lender>,
        chain: Result<Chain, SocketError>,
    ) -> bool {
        match chain {
            Ok(chain) if !chain.is_empty() => {
                let loan = cx.host.pool_mut().lend(chain);
                self.n += loan.len();
                self.bytes.push(Chunk::lent(lender.lend(door, loan)));
                true
            }
            Ok(chain) => {
                cx.host.pool_mut().free(chain);
                self.end = End::Fin;
                false
            }
            Err(error) => {
                self.end = End::of(Err(error));
                false
            }
        }
    }
}

impl TcpEntry {
    /// Begins the connection an application asked for.
    pub(super) fn connect(
        cx: &mut ShardCx<'_>,
        shared: &Arc<TcpShared>,
    ) -> Result<Self, SocketError> {
        let (remote, options) = {
            let mut state = shared.state();
            state.options_changed = false;
            (state.remote, state.options.clone())
        };
        let id = cx.host.tcp_connect(cx.now, remote, shared.bind, &options)?;
        if let Ok(local) = cx.host.local_addr(id) {
            shared.state().local = Some(shown(local, remote));
        }
        Ok(Self::new(shared.clone(), id, false))
    }

    /// Wraps a connection the stack has accepted.
    pub(super) fn accepted(
        cx: &mut ShardCx<'_>,
        door: &Arc<Door>,
        id: SocketId,
        remote: SocketAddr,
        options: TcpOptions,
    ) -> Self {
        let local = cx.host.local_addr(id).ok();
        let local = local.map(|local| shown(local, remote));
        let shared = TcpShared::new(door.clone(), Phase::Open, remote, local);
        shared.state().options = options;
        Self::new(Arc::new(shared), id, true)
    }

    fn new(shared: Arc<TcpShared>, id: SocketId, open: bool) -> Self {
        Self {
            shared,
            id,
            tx: ByteQueue::default(),
            open,
            rx_ready: false,
            read_shut: false,
            write_shut: false,
            closing: false,
            splice: None,
            begun: false,
            fed_by: None,
            over: None,
            order: None,
        }
    }

    pub(super) fn id(&self) -> SocketId {
        self.id
    }

    pub(super) fn shared(&self) -> &Arc<TcpShared> {
        &self.shared
    }

    /// What splices there are to be served after a look.
    pub(super) fn splices(&mut self) -> Splices {
        Splices {
            begun: std::mem::take(&mut self.begun),
            out: self.splice.is_some(),
            fed_by: self.fed_by,
        }
    }

    /// Whether it may go to another shard, as far as is known here.
    pub(super) fn may_move(&self) -> bool {
        self.open && self.over.is_none() && self.splice.is_none() && !self.is_closed()
    }

    /// It has come from another shard, and has this name here.
    pub(super) fn settle_as(&mut self, id: SocketId) {
        self.id = id;
        self.rx_ready = true;
        self.fed_by = None;
    }

    /// Whether bytes may be spliced to it, as far as is known here.
    pub(super) fn takes(&self) -> bool {
        self.open && self.over.is_none() && !self.write_shut && !self.shared.state().write_shut
    }

    /// Whether what the application wrote is with the stack.
    pub(super) fn is_written(&self) -> bool {
        self.tx.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.shared.state().closed.is_some()
    }

    /// Why the connection is over, if it is.
    pub(super) fn over(&self) -> Option<SocketError> {
        self.over.flatten()
    }

    /// The connection is over, which the stack has told of already.
    pub(super) fn fail(&mut self, error: SocketError) {
        self.over = self.over.or(Some(Some(error)));
        self.rx_ready = true;
    }

    /// It is spliced to nobody any more: what was not moved is the reader's.
    pub(super) fn end_splice(&mut self, ahead: &mut ByteQueue, error: Option<SocketError>) {
        let mut state = self.shared.state();
        state.spliced = false;
        state.rx.append(ahead);
        let readers = (!state.rx.is_empty()).then(|| state.readers.take());
        let raised = state.watches.raise_if(readers.is_some(), RAISED_IN);
        drop(state);
        if let Some(readers) = readers {
            readers.wake(&self.shared.readable);
        }
        raised.tell();
        self.rx_ready = true;
        if let Some(error) = error {
            self.fail(error);
        }
    }

    /// Moves what can be moved.
    pub(super) fn look(
        &mut self,
        cx: &mut ShardCx<'_>,
        tools: &mut Tools<'_>,
        ready: Ready,
    ) -> Fate {
        self.rx_ready |=
            ready.intersects(Ready::READABLE | Ready::READ_CLOSED | Ready::HUP | Ready::ERROR);
        if !self.open && !self.establish(cx, ready) {
            return self.wait_or_give_up(cx);
        }
        let orders = self.take_orders(cx);
        if let Some(options) = &orders.options {
            let _ = cx
                .host
                .tcp_set_options(cx.now, self.id, |old| old.clone_from(options));
        }
        if let Some(quick) = orders.quick_ack {
            let _ = cx.host.tcp_set_quick_ack(cx.now, self.id, quick);
        }
        self.send(cx, tools, &orders);
        if let Some(close) = orders.closed {
            return self.close(cx, tools, &orders, close);
        }
        if self.rx_ready && self.splice.is_none() {
            self.receive(cx, tools, orders.room);
        }
        if ready.intersects(Ready::HUP | Ready::ERROR) && self.over.is_none() {
            self.look_for_the_end(cx, ready);
        }
        match self.over {
            Some(error) if !self.rx_ready && self.splice.is_none() => {
                let _ = cx.host.close(cx.now, self.id);
                self.shared.fail(error);
                Fate::Gone
            }
            _ => Fate::Lives,
        }
    }

    /// Whether the connection is established; if that was decided just now, tells the application.
    fn establish(&mut self, cx: &mut ShardCx<'_>, ready: Ready) -> bool {
        if ready.intersects(Ready::ERROR | Ready::HUP) {
            // Refused, timed out, unreachable: nothing was received, so the end is now.
            self.over = Some(cx.host.take_error(self.id));
            return false;
        }
        if !ready.contains(Ready::WRITABLE) {
            return false;
        }
        self.open = true;
        self.rx_ready = true;
        let local = cx.host.local_addr(self.id).ok();
        let mut state = self.shared.state();
        state.phase = Phase::Open;
        let remote = state.remote;
        state.local = local.map(|local| shown(local, remote)).or(state.local);
        let writers = state.writers.take();
        let raised = state.watches.raise(0);
        drop(state);
        writers.wake(&self.shared.writable);
        raised.tell();
        true
    }

    fn wait_or_give_up(&mut self, cx: &mut ShardCx<'_>) -> Fate {
        let closed = self.shared.state().closed.is_some();
        if closed {
            let _ = cx.host.abort(cx.now, self.id);
        } else if self.over.is_some() {
            let _ = cx.host.close(cx.now, self.id);
        } else {
            return Fate::Lives;
        }
        self.shared.fail(self.over.flatten());
        Fate::Gone
    }

    fn take_orders(&mut self, cx: &mut ShardCx<'_>) -> Orders {
        let mut state = self.shared.state();
        self.tx.append(&mut state.tx);
        if let Some(order) = state.splice.take() {
            self.splice = Some(Box::new(Job::new(*order, &mut state.rx)));
            self.begun = true;
        }
        let options = std::mem::take(&mut state.options_changed).then(|| state.options.clone());
        let quick_ack = std::mem::take(&mut state.quick_ack_changed).then_some(state.quick_ack);
        let orders = Orders {
            options,
            quick_ack: quick_ack.flatten(),
            write_shut: state.write_shut,
            read_shut: state.read_shut,
            closed: state.closed,
            room: self.shared.door.limits.receive.saturating_sub(state.rx_len),
        };
        let info_wanted = std::mem::take(&mut state.info_wanted);
        self.order = state.moves.take();
        drop(state);
        for sender in info_wanted {
            if let Ok(info) = cx.host.tcp_info(self.id) {
                sender.send(info);
            }
        }
        orders
    }

    /// Hands bytes to the stack, then the FIN if one is due, and tells writers of the room.
    fn send(&mut self, cx: &mut ShardCx<'_>, tools: &mut Tools<'_>, orders: &Orders) {
        let mut sent = 0;
        while self.over.is_none() && !self.tx.is_empty() {
            let bytes = self.tx.first();
            if bytes.is_empty() {
                // A buffer that was given does not hold what it promised: the stream cannot go on.
                let _ = cx.host.abort(cx.now, self.id);
                self.fail(SocketError::ConnectionAborted);
                break;
            }
            match cx.host.tcp_send(cx.now, self.id, bytes) {
                Ok(0) | Err(SocketError::WouldBlock) => break,
                Err(SocketError::NoBuffers) => {
                    tools.stalled = true;
                    break;
                }
                Ok(n) => {
                    self.tx.advance(n, &tools.door.chunks);
                    sent += n;
                }
                Err(error) => {
                    self.over = Some(cx.host.take_error(self.id).or(Some(error)));
                    self.rx_ready = true;
                }
            }
        }
        if self.over.is_some() {
            self.tx.clear(&tools.door.chunks);
            self.shared.fail_sending(self.over.flatten());
            return;
        }
        let mut drained = self.tx.is_empty();
        if sent > 0 || orders.write_shut {
            let mut state = self.shared.state();
            state.tx_len = state.tx_len.saturating_sub(sent);
            // Bytes a writer is copying right now are in `tx_len` already: the FIN waits for them.
            drained &= state.tx_len == 0;
            if sent > 0 && state.tx_len <= tools.door.limits.send / 2 {
                let writers = state.writers.take();
                let raised = state.raise_room();
                drop(state);
                writers.wake(&self.shared.writable);
                tools.raises.push(raised);
            }
        }
        if orders.write_shut && drained && !self.write_shut {
            self.write_shut = true;
            let _ = cx.host.tcp_shutdown(cx.now, self.id, Shutdown::Write);
        }
        if orders.read_shut && !self.read_shut {
            self.read_shut = true;
            let _ = cx.host.tcp_shutdown(cx.now, self.id, Shutdown::Read);
        }
    }

    /// The last handle is gone: the stack finishes sending; resets when there is data nobody will read. What has no room in the
    /// send buffer is taken in beyond it: a stack that does not know that nobody is there any more would wait for ever for a
    /// peer that keeps its window closed.
    fn close(
        &mut self,
        cx: &mut ShardCx<'_>,
        tools: &mut Tools<'_>,
        orders: &Orders,
        close: Close,
    ) -> Fate {
        if !self.tx.is_empty() && !self.closing {
            self.closing = true;
            let more = u32::try_from(tools.door.limits.send).unwrap_or(u32::MAX);
            let tcp = cx.host.tcp_tunables();
            let _ = cx.host.tcp_set_options(cx.now, self.id, |options| {
                let most = options
                    .send_buffer
                    .unwrap_or(tcp.wmem_max.max(tcp.wmem_default));
                // Besides what it holds already: the buffer, and a super-frame no longer than that.
                options.send_buffer = Some(most.saturating_mul(2).saturating_add(more));
            });
            self.send(cx, tools, orders);
        }
        let unread = self.rx_ready && matches!(cx.host.tcp_peek(self.id, &mut [0]), Ok(1..));
        if close == Close::Abort || unread {
            self.tx.clear(&tools.door.chunks);
            let _ = cx.host.abort(cx.now, self.id);
        } else if self.tx.is_empty() || self.over.is_some() {
            let _ = cx.host.close(cx.now, self.id);
        } else {
            self.rx_ready = false;
            return Fate::Lives;
        }
        self.shared.fail(None);
        Fate::Gone
    }

    /// Moves received bytes to the record, as many as it has room for.
    fn receive(&mut self, cx: &mut ShardCx<'_>, tools: &mut Tools<'_>, room: usize) {
        let Received {
            mut bytes,
            n,
            mut end,
        } = self.read_stack(cx, tools, room);
        let lender = self.shared.lender.get();
        if let (End::Fin, Some(Some(error))) = (end, self.over) {
            // Sending met the error first, and the stack tells it once: this is no FIN of the peer's.
            end = End::Over(Some(error));
        }
        let limit = tools.door.limits.receive;
        let mut state = self.shared.state();
        if n > 0 && n <= SMALL && lender.is_none() {
            state.rx.push_small(bytes.first());
        } else {
            state.rx.append(&mut bytes);
        }
        state.rx_len += n;
        let mut again = false;
        // Told once, though every later look finds it again.
        let fin = end == End::Fin && !state.fin;
        let lent = |lender: &Arc<Lender>| lender.lent() >= limit && lender.pause(limit);
        match end {
            End::Full if lender.is_some_and(lent) => {}
            End::Full if state.rx_len > limit / 2 => state.rx_paused = true,
            End::Full => again = true,
            End::Fin => (state.fin, state.rx_end) = (true, true),
            End::Drained | End::Over(_) => {}
        }
        let readers = (n > 0 || fin).then(|| state.readers.take());
        let key = if fin { 0 } else { RAISED_IN };
        let raised = state.watches.raise_if(n > 0 || fin, key);
        drop(state);
        if let Some(readers) = readers {
            readers.wake(&self.shared.readable);
        }
        tools.raises.push(raised);
        self.rx_ready = end == End::Full;
        if let End::Over(error) = end {
            self.over = self.over.or(Some(error));
            self.shared.fail_sending(self.over.flatten());
        }
        bytes.clear(&tools.door.chunks);
        if again {
            // The reader made room meanwhile: go on next turn, when others have had theirs.
            self.shared.notice();
        }
    }

    fn read_stack(&mut self, cx: &mut ShardCx<'_>, tools: &mut Tools<'_>, room: usize) -> Received {
        let mut received = Received {
            bytes: ByteQueue::default(),
            n: 0,
            end: End::Full,
        };
        let shared = self.shared.clone();
        let lender = shared.lender.get();
        while received.n < room && self.read_part(cx, tools, lender, room, &mut received) {}
        received
    }

    /// Reads the next part; whether there may be more.
    fn read_part(
        &mut self,
        cx: &mut ShardCx<'_>,
        tools: &mut Tools<'_>,
        lender: Option<&Arc<Lender>>,
        room: usize,
        received: &mut Received,
    ) -> bool {
        let want = (room - received.n).min(LARGE);
        if let Some(lender) = lender {
            if lender.lent() >= tools.door.limits.receive {
                return false;
            }
            if admit(cx.host.pool()) {
                let chain = cx.host.tcp_recv_chain(cx.now, self.id, want);
                // Without a segment for a cut bytes can still be copied.
                if chain.as_ref().err() != Some(&SocketError::NoBuffers) {
                    return received.lend(cx, tools.door, lender, chain);
                }
            }
        }
        let mut chunk = tools.scratch();
        let read = cx
            .host
            .tcp_recv(cx.now, self.id, &mut chunk.whole()[..want]);
        let Ok(n @ 1..) = read else {
            *tools.scratch = Some(chunk);
            received.end = End::of(read.map(drop));
            return false;
        };
        chunk.filled(n);
        received.n += n;
        if n > LARGE / 2 {
            received.bytes.push(chunk);
        } else if n <= SMALL {
            received.bytes.push_small(chunk.bytes());
            *tools.scratch = Some(chunk);
        } else {
            received
                .bytes
                .push(tools.door.chunks.copy_of(chunk.bytes()));
            *tools.scratch = Some(chunk);
        }
        true
    }

    /// Decides whether the stack's HUP or error ends the connection.
    fn look_for_the_end(&mut self, cx: &mut ShardCx<'_>, ready: Ready) {
        let error = if ready.contains(Ready::ERROR) {
            cx.host.take_error(self.id)
        } else {
            None
        };
        if error.is_some() || ready.contains(Ready::HUP) {
            self.over = Some(error);
            self.tx = ByteQueue::default();
            self.shared.fail_sending(error);
        }
    }
}
