//! One UDP socket between its record and the stack.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use base::Instant;
use base::epoll::{EPOLLERR, RAISED_IN};
use rustix::io::Errno;
use stack::{Host, Ready, SocketError, SocketId, Via};

use super::{Fate, Tools};
use crate::app::ShardCx;
use crate::sockets::error::io_error;
use crate::sockets::lent::admit;
use crate::sockets::udp::{Arrivals, OVERHEAD, Order, Parcels, UdpShared};

/// Orders carried out, and datagrams sent, in one look.
const ORDERS_A_LOOK: usize = 256;

/// So many bytes are cheaper copied than lent; the stack copies such datagrams together.
const FEW: usize = 256;

/// The driver's part of a UDP socket.
#[derive(Debug)]
pub(super) struct UdpEntry {
    shared: Arc<UdpShared>,
    id: SocketId,
    /// Orders taken from the record, all that it had. When the stack had no room for a datagram, some were not carried out, and those
    /// that came since are still in the record.
    tx: Parcels<Order>,
    rx_ready: bool,
}

impl UdpEntry {
    /// Binds where the application asked.
    pub(super) fn bind(cx: &mut ShardCx<'_>, shared: &Arc<UdpShared>) -> Result<Self, SocketError> {
        // Options that were changed since are an order that is still to come.
        let options = shared.state().options;
        let id = cx.host.udp_bind(cx.now, shared.bind, &options)?;
        Ok(Self {
            shared: shared.clone(),
            id,
            tx: Parcels::default(),
            rx_ready: false,
        })
    }

    pub(super) fn id(&self) -> SocketId {
        self.id
    }

    pub(super) fn shared(&self) -> &Arc<UdpShared> {
        &self.shared
    }

    /// Moves what can be moved.
    pub(super) fn look(
        &mut self,
        cx: &mut ShardCx<'_>,
        tools: &mut Tools<'_>,
        ready: Ready,
    ) -> Fate {
        self.rx_ready |= ready.contains(Ready::READABLE);
        let mut state = self.shared.state();
        if self.tx.is_empty() {
            std::mem::swap(&mut self.tx, &mut state.tx);
        }
        let closed = state.closed;
        drop(state);
        // An error that waits would be told in the place of the first datagram, which would be lost.
        let mut error = cx.host.take_error(self.id);
        let all = self.carry_out(cx, tools);
        if closed && all {
            let _ = cx.host.close(cx.now, self.id);
            self.shared.fail();
            return Fate::Gone;
        }
        if self.rx_ready {
            error = self.receive(cx, tools).or(error);
        }
        if let Some(error) = error {
            self.report(error);
        }
        Fate::Lives
    }

    /// Tells an error of the socket to whoever calls next.
    fn report(&self, error: SocketError) {
        let mut state = self.shared.state();
        state.error = Some(error);
        let (readers, writers) = (state.readers.take(), state.writers.take());
        let raised = state.watches.raise(EPOLLERR);
        drop(state);
        readers.wake(&self.shared.readable);
        writers.wake(&self.shared.writable);
        raised.tell();
    }

    /// Carries out orders, until the stack has no room for a datagram, and tells writers of the room. Whether those were all.
    fn carry_out(&mut self, cx: &mut ShardCx<'_>, tools: &mut Tools<'_>) -> bool {
        let (mut done, mut unsent) = (0, None);
        let mut n = 0;
        loop {
            if self.tx.is_empty() {
                break;
            }
            if n >= ORDERS_A_LOOK {
                // The rest when these are on their way, so that they do not overrun the interface's queue.
                self.shared.notice();
                break;
            }
            n += 1;
            if let Some((Order::Send(how), data)) = self.tx.front() {
                n += how
                    .datagrams(data.len())
                    .map_or(0, |more| more.saturating_sub(1));
                match cx.host.udp_send(cx.now, self.id, data, how) {
                    Ok(_) => {}
                    Err(SocketError::WouldBlock) => {
                        tools.stalled = true;
                        break;
                    }
                    Err(error) => unsent = Some(error),
                }
            }
            let Some((order, len)) = self.tx.pop() else {
                break;
            };
            done += len + OVERHEAD;
            self.answer(cx, order);
        }
        if done == 0 {
            return self.tx.is_empty();
        }
        let mut state = self.shared.state();
        let more = self.tx.is_empty() && !state.tx.is_empty();
        state.tx_len = state.tx_len.saturating_sub(done);
        state.unsent = unsent.or(state.unsent);
        if state.unsent.is_some() || state.tx_len <= tools.door.limits.send / 2 {
            let writers = state.writers.take();
            let raised = state.raise_room();
            drop(state);
            writers.wake(&self.shared.writable);
            tools.raises.push(raised);
        } else {
            drop(state);
        }
        if more {
            // They waited behind those that had no room.
            self.shared.notice();
        }
        self.tx.is_empty() && !more
    }

    /// Does what is not sending.
    fn answer(&self, cx: &mut ShardCx<'_>, order: Order) {
        match order {
            Order::Send(_) => {}
            Order::Set(options) => {
                let _ = cx.host.udp_set_options(self.id, |old| *old = options);
            }
            Order::Share(how, answer) => {
                let set = cx.host.reuseport_select(self.id, how);
                answer.send(set.map_err(io_error));
            }
            Order::Connect(peer, answer) => {
                let connected = cx.host.udp_connect(cx.now, self.id, peer);
                if connected.is_ok() {
                    let local = cx.host.local_addr(self.id).ok();
                    let mut state = self.shared.state();
                    state.peer = Some(peer).filter(|peer| peer.port() != 0);
                    state.local = local.or(state.local);
                }
                answer.send(connected.map_err(io_error));
            }
            Order::Group {
                join,
                group,
                via,
                answer,
            } => answer.send(membership(cx.host, cx.now, self.id, join, group, via)),
            Order::Ask(question) => question.put(cx.host),
        }
    }

    /// Moves received datagrams to the record, as many as it has room for. The last error, if any waited.
    fn receive(&mut self, cx: &mut ShardCx<'_>, tools: &mut Tools<'_>) -> Option<SocketError> {
        let limit = tools.door.limits.receive;
        let mut state = self.shared.state();
        let (mut inbox, used) = (state.rx.take_back(), state.rx_len);
        drop(state);
        let (mut n, mut error) = (0, None);
        self.rx_ready = true;
        while used + n < limit {
            let received = match self.receive_one(cx, tools, &mut inbox) {
                Ok(received) => received,
                Err(SocketError::WouldBlock | SocketError::BadSocket) => {
                    self.rx_ready = false;
                    break;
                }
                Err(waited) => {
                    error = Some(waited);
                    continue;
                }
            };
            n += received + OVERHEAD;
        }
        let mut state = self.shared.state();
        let readers = (n > 0).then(|| state.readers.take());
        let raised = state.watches.raise_if(n > 0, RAISED_IN);
        state.rx.bring(inbox);
        state.rx_len += n;
        let again = self.rx_ready && state.rx_len <= limit / 2;
        state.rx_paused = self.rx_ready && !again;
        drop(state);
        if let Some(readers) = readers {
            readers.wake(&self.shared.readable);
        }
        tools.raises.push(raised);
        if again {
            self.shared.notice();
        }
        error
    }

    /// Lends the next datagram, if somebody asked for packets, or copies it out of packet memory: how many bytes.
    fn receive_one(
        &self,
        cx: &mut ShardCx<'_>,
        tools: &Tools<'_>,
        inbox: &mut Arrivals,
    ) -> Result<usize, SocketError> {
        let len = cx.host.udp_peek(self.id, &mut [])?.len;
        if let Some(lender) = self.shared.lender.get()
            && len > FEW
            && lender.lent() < tools.door.limits.receive
            && admit(cx.host.pool())
        {
            match cx.host.udp_recv_chain(self.id) {
                Ok((chain, received)) => {
                    let loan = cx.host.pool_mut().lend(chain);
                    inbox.push_lent(&received, lender.lend(tools.door, loan));
                    return Ok(len);
                }
                // Without a segment for a cut it can still be copied.
                Err(SocketError::NoBuffers) => {}
                Err(error) => return Err(error),
            }
        }
        let received = cx.host.udp_recv(self.id, inbox.room(len))?;
        inbox.push(&received);
        Ok(len)
    }
}

fn membership(
    host: &mut Host,
    now: Instant,
    socket: SocketId,
    join: bool,
    group: IpAddr,
    via: Via,
) -> io::Result<()> {
    if !group.is_multicast() {
        return Err(io_error(SocketError::InvalidInput));
    }
    let interface = match host.group_interface(group, via) {
        Some(interface) => interface,
        // Linux looks among what was joined, whatever interfaces there are.
        None if !join => return Err(io_error(SocketError::AddrNotAvailable)),
        None => return Err(Errno::NODEV.into()),
    };
    let done = if join {
        host.udp_join(now, socket, interface, group)
    } else {
        host.udp_leave(now, socket, interface, group)
    };
    done.map_err(io_error)
}
