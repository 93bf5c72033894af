//! One UDP socket between its record and the stack.

use std::collections::VecDeque;
use std::sync::Arc;

use stack::{Ready, SocketError, SocketId, UdpOptions};

use super::{Fate, Tools};
use crate::app::ShardCx;
use crate::sockets::udp::{Datagram, UdpSettings, UdpShared};

/// Datagrams handed to the stack in one look.
const DATAGRAMS_A_LOOK: usize = 256;

/// The driver's part of a UDP socket.
#[derive(Debug)]
pub(super) struct UdpEntry {
    shared: Arc<UdpShared>,
    id: SocketId,
    /// Datagrams taken from the record that the stack had no room for yet.
    tx: VecDeque<Datagram>,
    rx_ready: bool,
}

/// The application's options in the stack's terms.
fn apply(settings: UdpSettings, options: &mut UdpOptions) {
    options.broadcast = settings.broadcast;
    options.ttl = settings.ttl;
}

impl UdpEntry {
    /// Binds where the application asked.
    pub(super) fn bind(cx: &mut ShardCx<'_>, shared: &Arc<UdpShared>) -> Result<Self, SocketError> {
        let settings = shared.state().options;
        let mut options = UdpOptions::default();
        apply(settings, &mut options);
        let id = cx.host.udp_bind(cx.now, shared.bind, &options)?;
        let local = cx.host.local_addr(id).unwrap_or(shared.bind);
        let mut state = shared.state();
        state.local = Some(local);
        let writers = state.writers.take();
        drop(state);
        writers.wake(&shared.writable);
        Ok(Self {
            shared: shared.clone(),
            id,
            tx: VecDeque::new(),
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
        self.tx.append(&mut state.tx);
        let options = std::mem::take(&mut state.options_changed).then_some(state.options);
        let peer = std::mem::take(&mut state.peer_changed)
            .then_some(state.peer)
            .flatten();
        let (closed, used) = (state.closed, state.rx_len);
        drop(state);
        let mut error = None;
        if let Some(settings) = options {
            let set = cx
                .host
                .udp_set_options(self.id, |options| apply(settings, options));
            error = set.err();
        }
        if let Some(peer) = peer {
            match cx.host.udp_connect(cx.now, self.id, peer) {
                Ok(()) => self.shared.state().local = cx.host.local_addr(self.id).ok(),
                Err(refused) => error = Some(refused),
            }
        }
        error = self.send(cx, tools).or(error);
        if closed && self.tx.is_empty() {
            let _ = cx.host.close(cx.now, self.id);
            self.shared.fail(None);
            return Fate::Gone;
        }
        if ready.contains(Ready::ERROR) {
            error = cx.host.take_error(self.id).or(error);
        }
        if self.rx_ready {
            error = self.receive(cx, tools, used).or(error);
        }
        if let Some(error) = error {
            self.report(error);
        }
        Fate::Lives
    }

    fn report(&self, error: SocketError) {
        let mut state = self.shared.state();
        state.error = Some(error);
        let (readers, writers) = (state.readers.take(), state.writers.take());
        drop(state);
        readers.wake(&self.shared.readable);
        writers.wake(&self.shared.writable);
    }

    /// Hands datagrams to the stack and tells writers of the room. The last error, if any was refused.
    fn send(&mut self, cx: &mut ShardCx<'_>, tools: &mut Tools<'_>) -> Option<SocketError> {
        if self.tx.is_empty() {
            return None;
        }
        // An error that waits would be told in the place of the first datagram, which would be lost.
        let (mut sent, mut error) = (0, cx.host.take_error(self.id));
        for n in 0.. {
            let Some(first) = self.tx.front() else { break };
            if n == DATAGRAMS_A_LOOK {
                // The rest when these are on their way, so that they do not overrun the interface's queue.
                self.shared.notice();
                break;
            }
            match cx
                .host
                .udp_send_to(cx.now, self.id, &first.data, first.address)
            {
                Ok(_) => {}
                Err(SocketError::WouldBlock) => {
                    tools.stalled = true;
                    break;
                }
                Err(refused) => error = Some(refused),
            }
            sent += first.charge();
            self.tx.pop_front();
        }
        if sent > 0 {
            let mut state = self.shared.state();
            state.tx_len = state.tx_len.saturating_sub(sent);
            if state.tx_len <= tools.door.limits.send / 2 {
                let writers = state.writers.take();
                drop(state);
                writers.wake(&self.shared.writable);
            }
        }
        error
    }

    /// Moves received datagrams to the record, as many as it has room for. `used`: what it holds. The last error, if any
    /// waited.
    fn receive(
        &mut self,
        cx: &mut ShardCx<'_>,
        tools: &mut Tools<'_>,
        used: usize,
    ) -> Option<SocketError> {
        let limit = tools.door.limits.receive;
        let mut scratch = tools.scratch();
        let (mut datagrams, mut n, mut error) = (VecDeque::new(), 0, None);
        self.rx_ready = true;
        while used + n < limit {
            let (len, from) = match cx.host.udp_recv_from(self.id, scratch.whole()) {
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
            let datagram = Datagram {
                data: scratch.whole()[..len].into(),
                address: Some(from),
            };
            n += datagram.charge();
            datagrams.push_back(datagram);
        }
        *tools.scratch = Some(scratch);
        let mut state = self.shared.state();
        let readers = (n > 0).then(|| state.readers.take());
        state.rx.append(&mut datagrams);
        state.rx_len += n;
        let again = self.rx_ready && state.rx_len <= limit / 2;
        state.rx_paused = self.rx_ready && !again;
        drop(state);
        if let Some(readers) = readers {
            readers.wake(&self.shared.readable);
        }
        if again {
            self.shared.notice();
        }
        error
    }
}
