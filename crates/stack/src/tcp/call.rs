//! What applications ask of connections: connect, receive, shut down, close (RFC 9293 3.9.1).
//!
//! What does not live here: writing (`write`), and waiting; every call returns at once.

use base::Chain;
use wire::Addr;

use crate::context::Core;
use crate::error::SocketError;
use crate::net::{InterfaceId, Net};
use crate::socket::{Ready, SocketId, SocketKind};

use super::conn::free_ranges;
use super::output::payload_for_mtu;
use super::profile::TcpOptions;
use super::record::{NONE, State, Tcb, flag};
use super::segment::flow_bytes;
use super::timer::arm_no_later;
use super::write::is_writable;
use super::{INDEX_MASK, KIND_CONNECTION, KIND_SHIFT, KIND_TIME_WAIT, Tcp, flow_index};

/// Local and remote address and port of a connection.
pub(crate) type Ends = ((Addr, u16), (Addr, u16));

impl Tcp {
    /// Starts to connect from `local` (port 0: an ephemeral one) to `remote`.
    ///
    /// # Errors
    /// `AddrInUse` when the 4-tuple is taken, `AddrNotAvailable` when every ephemeral port is, `NoBuffers` when a table is full,
    /// `NetworkUnreachable` for groups and everybody, `ConnectionRefused` for port 0, routing errors.
    pub(crate) fn connect(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        (remote, remote_port): (Addr, u16),
        (local, local_port): (Option<Addr>, u16),
        options: &TcpOptions,
    ) -> Result<SocketId, SocketError> {
        // RFC 9293 MUST-46: no connections to broadcast or multicast addresses. In Linux's words: no route leads to them, and nobody
        // listens on port 0.
        if remote.is_multicast() || net.is_broadcast(&remote) {
            return Err(SocketError::NetworkUnreachable);
        }
        if remote.is_unspecified() {
            return Err(SocketError::InvalidInput);
        }
        if remote_port == 0 {
            return Err(SocketError::ConnectionRefused);
        }
        let path = net.route(core, remote, local, options.device)?;
        // Whoever is bound to this host's other links does not hear it.
        if let Some(device) = options.device
            && path.interface == InterfaceId::LOOPBACK
            && net.came_by(path.interface, &remote) != device
        {
            return Err(SocketError::NetworkUnreachable);
        }
        let local = path.src;
        let (port, waits) = self.choose_port(core, (&remote, remote_port), (&local, local_port))?;
        let flow = flow_bytes(&remote, remote_port, &local, port);
        let options = options.settled(&core.tcp);
        let options = options.begun(&core.tcp, net, (&remote, &local));
        let profile = self
            .profiles
            .acquire(local, &options)
            .ok_or(SocketError::NoBuffers)?;
        let mut tcb = Tcb::new(remote, remote_port, port, profile);
        tcb.snd_una = waits
            .and_then(|index| self.after_time_wait(index))
            .unwrap_or_else(|| self.initial_sequence(core, &flow));
        tcb.snd_nxt = tcb.snd_una;
        tcb.ts_offset = self.timestamp_offset(&flow);
        tcb.mss = payload_for_mtu(path.mtu, remote.is_v4(), 0);
        tcb.cwnd = options.initial_window(u32::from(tcb.mss));
        tcb.flags =
            flag::ACTIVE_OPEN | flag::RETRANSMIT | if options.nodelay { flag::NODELAY } else { 0 };
        let Some(key) = self.conns.insert(tcb) else {
            self.profiles.release(profile);
            return Err(SocketError::NoBuffers);
        };
        let hash = self.flows.hash(&flow);
        let entry = flow_index(KIND_CONNECTION, key.index);
        let inserted = match waits {
            Some(index) => {
                let replaced = self
                    .flows
                    .replace(hash, flow_index(KIND_TIME_WAIT, index), entry);
                self.retire_wait(core.now.millis() as u32, index);
                replaced
            }
            None => self.flows.insert(hash, entry).is_ok(),
        };
        if !inserted {
            self.conns.remove(key);
            self.profiles.release(profile);
            return Err(SocketError::NoBuffers);
        }
        self.keep_account(core.now, key.index);
        if options.fast_open && self.prepare_fast(core, key.index, path.mtu) {
            return Ok(SocketId::new(SocketKind::Tcp, key));
        }
        if let Some(tcb) = self.conns.at_mut(key.index) {
            // Should the interface never ask for frames, the attempt ends all the same.
            let most = self.profiles.get(profile).options.rto_max();
            let again = core.now + tcb.rto().min(most);
            arm_no_later(core, tcb, again, key.index);
        }
        self.queue_send(key.index);
        Ok(SocketId::new(SocketKind::Tcp, key))
    }

    /// A free local port: the one asked for, or an ephemeral one (MUST-43 to 45 chose the address); and the TIME-WAIT record
    /// that the connection takes over.
    fn choose_port(
        &mut self,
        core: &mut Core,
        remote: (&Addr, u16),
        local: (&Addr, u16),
    ) -> Result<(u16, Option<u32>), SocketError> {
        let sharding = core.sharding;
        // Replies must come home: the shard that receives a flow is told by the peer and this port.
        let comes_home = |port| sharding.is_none_or(|s| s.is_home(remote.0, remote.1, port));
        if local.1 != 0 {
            if !comes_home(local.1) {
                return Err(SocketError::AddrNotAvailable);
            }
            let free = self.tuple_free(core, remote, local, true);
            return match free.ok_or(SocketError::AddrInUse) {
                Ok(waits) => Ok((local.1, waits)),
                Err(error) => Err(error),
            };
        }
        let order = self
            .local_ports
            .order(&flow_bytes(remote.0, remote.1, local.0, 0));
        let (port, waits) = order
            .iter()
            .filter(|&port| !self.local_ports.listens(port) && comes_home(port))
            .find_map(|port| {
                self.tuple_free(core, remote, (local.0, port), false)
                    .map(|waits| (port, waits))
            })
            .ok_or(SocketError::AddrNotAvailable)?;
        self.local_ports.taken(&order, port, &mut core.rng);
        Ok((port, waits))
    }

    /// Whether a connection may have this tuple, and the TIME-WAIT record it takes over, if there is one. `named`: the
    /// application asks for just this port.
    fn tuple_free(
        &self,
        core: &Core,
        remote: (&Addr, u16),
        local: (&Addr, u16),
        named: bool,
    ) -> Option<Option<u32>> {
        if self.is_lent(|| ((*local.0, local.1), (*remote.0, remote.1))) {
            return None;
        }
        let hash = self
            .flows
            .hash(&flow_bytes(remote.0, remote.1, local.0, local.1));
        let found = self.flows.find(hash, |e| {
            self.matches(e, remote.0, remote.1, local.0, local.1)
        });
        let Some(entry) = found else {
            return Some(None);
        };
        let index = entry & INDEX_MASK;
        let waits = entry >> KIND_SHIFT == KIND_TIME_WAIT;
        (waits && self.may_reuse(core, index, named)).then_some(Some(index))
    }

    /// Whether there is something to read, or what to return instead.
    pub(super) fn check_readable(&mut self, index: u32) -> Result<Option<u32>, SocketError> {
        let Some(tcb) = self.conns.at_mut(index) else {
            return Err(SocketError::BadSocket);
        };
        if self
            .actives
            .at(tcb.active)
            .is_some_and(|a| !a.recv.is_empty())
        {
            return Ok(Some(tcb.active));
        }
        if tcb.has(flag::FIN_RECEIVED) {
            return Ok(None); // whatever happened after the end (as Linux)
        }
        if let Some(error) = tcb.take_error() {
            return Err(error);
        }
        if tcb.has(flag::READ_SHUT) || tcb.state == State::Closed {
            return Ok(None);
        }
        Err(SocketError::WouldBlock)
    }

    /// Copies received bytes out. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, the pending error once.
    pub(crate) fn receive(
        &mut self,
        core: &mut Core,
        id: SocketId,
        out: &mut [u8],
    ) -> Result<usize, SocketError> {
        let index = self.live(id)?;
        let Some(active) = self.check_readable(index)? else {
            return Ok(0);
        };
        let Some(act) = self.actives.at_mut(active) else {
            return Ok(0);
        };
        let n = core.pool.copy_out(&act.recv, 0, out);
        core.queued(|pool| pool.pull_front(&mut act.recv, n));
        self.after_read(core, index);
        Ok(n)
    }

    /// Hands received bytes over as blocks, at most `most` bytes. An empty chain is the end of the stream.
    ///
    /// # Errors
    /// As [`Tcp::receive`].
    pub(crate) fn receive_chain(
        &mut self,
        core: &mut Core,
        id: SocketId,
        most: usize,
    ) -> Result<Chain, SocketError> {
        let index = self.live(id)?;
        let Some(active) = self.check_readable(index)? else {
            return Ok(Chain::EMPTY);
        };
        let Some(act) = self.actives.at_mut(active) else {
            return Ok(Chain::EMPTY);
        };
        let chain = if act.recv.len() <= most {
            act.recv.take()
        } else {
            core.queued(|pool| pool.split_front(&mut act.recv, most))
                .ok_or(SocketError::NoBuffers)?
        };
        core.gives(&chain);
        self.after_read(core, index);
        Ok(chain)
    }

    /// Copies received bytes out and leaves them.
    ///
    /// # Errors
    /// As [`Tcp::receive`].
    pub(crate) fn peek(
        &mut self,
        core: &Core,
        id: SocketId,
        offset: usize,
        out: &mut [u8],
    ) -> Result<usize, SocketError> {
        let index = self.live(id)?;
        let Some(active) = self.check_readable(index)? else {
            return Ok(0);
        };
        Ok(self
            .actives
            .at(active)
            .map_or(0, |act| core.pool.copy_out(&act.recv, offset, out)))
    }

    pub(super) fn after_read(&mut self, core: &mut Core, index: u32) {
        let closed = self
            .conns
            .at(index)
            .is_none_or(|tcb| tcb.state == State::Closed);
        if closed {
            return self.settle(core, index);
        }
        if let Some(mut conn) = self.conn(index) {
            conn.moderate(core);
            if conn.window_update_due(core) || conn.ack_at_read() {
                conn.tcb.ack_now();
                self.queue_send(index);
            } else {
                self.settle(core, index);
            }
        }
    }

    /// What the socket is ready for (epoll's meanings, Linux's rules).
    pub(crate) fn readiness(&self, core: &Core, index: u32) -> Ready {
        let Some(tcb) = self.conns.at(index) else {
            return Ready::NONE;
        };
        let act = self.actives.at(tcb.active);
        let mut ready = Ready::NONE;
        let ended =
            tcb.flags & (flag::FIN_RECEIVED | flag::READ_SHUT) != 0 || tcb.state == State::Closed;
        if ended || act.is_some_and(|a| self.worth_reading(tcb, a)) {
            ready |= Ready::READABLE;
        }
        if ended {
            ready |= Ready::READ_CLOSED;
        }
        if act.is_some_and(|a| self.edges.urgent(tcb, a).is_some()) {
            ready |= Ready::PRIORITY;
        }
        if ended && tcb.state.fin_queued() {
            ready |= Ready::HUP; // both ways, though the connection lives (as Linux)
        }
        if tcb.state == State::Closed {
            ready |= Ready::HUP | Ready::WRITABLE;
        } else if tcb.deferred() {
            ready |= Ready::WRITABLE;
        } else if !matches!(tcb.state, State::SynSent | State::SynReceived) {
            let options = &self.profiles.get(tcb.profile).options;
            if !tcb.state.sends() || act.is_none_or(|act| is_writable(tcb, act, options, core)) {
                ready |= Ready::WRITABLE;
            }
        }
        if tcb.state.fin_queued() || tcb.state == State::Closed || tcb.has(flag::WRITE_SHUT) {
            ready |= Ready::WRITE_CLOSED;
        }
        if tcb.error().is_some() {
            ready |= Ready::ERROR;
        }
        ready
    }

    /// Readiness by handle.
    pub(crate) fn ready(&self, core: &Core, id: SocketId) -> Result<Ready, SocketError> {
        self.live(id).map(|index| self.readiness(core, index))
    }

    /// See [`crate::Host::watch_ready`].
    pub(crate) fn watch_ready(&mut self, core: &Core, id: SocketId) -> Result<Ready, SocketError> {
        let index = self.live(id)?;
        let ready = self.readiness(core, index);
        if let Some(tcb) = self.conns.at_mut(index)
            && tcb.state.sends()
            && !ready.contains(Ready::WRITABLE)
        {
            tcb.flags |= flag::WANT_WRITE;
        }
        Ok(ready)
    }

    /// Its owner's word.
    pub(crate) fn token(&self, id: SocketId) -> Result<u64, SocketError> {
        let index = self.live(id)?;
        let tcb = self.conns.at(index).ok_or(SocketError::BadSocket)?;
        Ok(tcb.token)
    }

    /// The same of a listener.
    pub(crate) fn listener_token(&self, id: SocketId) -> Result<u64, SocketError> {
        self.listener(id).map(|listener| listener.token)
    }

    /// Whether what comes is acknowledged at once for now, as far as that is the connection's own choice (TCP_QUICKACK).
    pub(crate) fn quick_ack(&self, id: SocketId) -> Result<bool, SocketError> {
        let index = self.live(id)?;
        let tcb = self.conns.at(index).ok_or(SocketError::BadSocket)?;
        Ok(!tcb.acking.answers())
    }

    /// Gives a socket its owner's word; returned with each event. What is ready already is reported.
    pub(crate) fn set_token(
        &mut self,
        core: &Core,
        id: SocketId,
        token: u64,
    ) -> Result<(), SocketError> {
        let index = self.live(id)?;
        if let Some(tcb) = self.conns.at_mut(index) {
            tcb.token = token;
        }
        if self
            .readiness(core, index)
            .intersects(Ready::READABLE | Ready::HUP | Ready::ERROR)
        {
            self.raise(index, Ready::READABLE);
        }
        Ok(())
    }

    /// Closes a direction or both; the handle stays.
    ///
    /// # Errors
    /// `NotConnected` when there is no connection.
    pub(crate) fn shutdown(
        &mut self,
        core: &mut Core,
        id: SocketId,
        read: bool,
        write: bool,
    ) -> Result<(), SocketError> {
        let index = self.live(id)?;
        let Some(tcb) = self.conns.at_mut(index) else {
            return Err(SocketError::BadSocket);
        };
        if tcb.state == State::Closed {
            return Err(SocketError::NotConnected);
        }
        if read {
            tcb.flags |= flag::READ_SHUT;
            self.raise(index, Ready::READABLE);
        }
        if write {
            self.queue_fin(core, index);
        }
        Ok(())
    }

    /// Queues our FIN behind the data, or behind the handshake (RFC 9293 3.10.4).
    fn queue_fin(&mut self, core: &mut Core, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        tcb.state = match tcb.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            State::SynSent | State::SynReceived => {
                tcb.flags |= flag::WRITE_SHUT;
                return self.start_deferred(core, index);
            }
            _ => return,
        };
        // Should the interface never ask for frames, it ends all the same.
        let most = self.profiles.get(tcb.profile).options.rto_max();
        let again = core.now + tcb.rto().min(most);
        arm_no_later(core, tcb, again, index);
        self.queue_send(index);
    }

    /// Lets go of a connection: FIN behind what is queued, reset when received bytes were never read (RFC 2525 2.17) or
    /// `linger` is zero. The handle is dead from here.
    pub(crate) fn close(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
    ) -> Result<(), SocketError> {
        let index = self.live(id)?;
        let Some(tcb) = self.conns.at(index) else {
            return Err(SocketError::BadSocket);
        };
        let unread = self
            .actives
            .at(tcb.active)
            .is_some_and(|a| !a.recv.is_empty());
        let abort = self
            .profiles
            .get(tcb.profile)
            .options
            .linger
            .is_some_and(|l| l.is_zero());
        let state = tcb.state;
        if state == State::SynSent || ((unread || abort) && state != State::Closed) {
            self.abort_at(core, net, index);
            return Ok(());
        }
        let options = &self.profiles.get(tcb.profile).options;
        let fin_timeout = options.fin_timeout(&core.tcp);
        if state == State::FinWait2 && fin_timeout.is_zero() {
            self.abort_at(core, net, index);
            return Ok(());
        }
        self.orphan(index);
        let Some(tcb) = self.conns.at_mut(index) else {
            return Ok(());
        };
        if self.marks.watched(index) {
            self.marks.forget(core.now, index, false);
        }
        match state {
            State::Closed => {
                self.drop_unread(core, index);
                self.free_if_dead(index);
            }
            State::FinWait2 => {
                tcb.last_sent = core.now.millis() as u32;
                let deadline = core.now + fin_timeout;
                arm_no_later(core, tcb, deadline, index);
            }
            _ => {
                if self.is_too_much(core, index) {
                    self.abort_for_memory(core, net, index);
                } else {
                    self.queue_fin(core, index);
                }
            }
        }
        Ok(())
    }

    /// Frees what a closed connection still held to be read.
    fn drop_unread(&mut self, core: &mut Core, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        let active = core::mem::replace(&mut tcb.active, NONE);
        if let Some(act) = self.actives.at_mut(active) {
            core.begin_account();
            core.pool.free(act.recv.take());
            free_ranges(core, &mut self.ranges, act);
            core.end_account();
            self.edges.release(&mut act.edges);
            self.actives.remove_at(active);
        }
    }

    /// Ends a connection at once with a reset (RFC 9293 3.10.5). The handle is dead from here.
    pub(crate) fn abort(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
    ) -> Result<(), SocketError> {
        let index = self.live(id)?;
        self.abort_at(core, net, index);
        Ok(())
    }

    pub(super) fn abort_at(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        self.reset_peer(core, net, index);
        self.orphan(index);
        self.dissolve(core, index, None);
        self.drop_unread(core, index);
        self.free_if_dead(index);
    }

    /// The FIN of an orphan is acknowledged: FIN-WAIT-2 lasts a minute, not for ever (as Linux).
    #[inline]
    pub(super) fn limit_fin_wait(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        let waits = |tcb: &Tcb| tcb.state == State::FinWait2 && tcb.has(flag::ORPHAN);
        if self.conns.at(index).is_some_and(waits) {
            self.wait_for_fin(core, net, index);
        }
    }

    #[cold]
    fn wait_for_fin(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        let options = &self.profiles.get(tcb.profile).options;
        let time = options.fin_timeout(&core.tcp);
        if time.is_zero() {
            self.abort_at(core, net, index);
        } else if tcb.timer.is_none() {
            let deadline = core.now + time;
            arm_no_later(core, tcb, deadline, index);
        }
    }

    /// Changes options of one connection.
    ///
    /// # Errors
    /// `NoBuffers` when too many different sets of options are in use.
    pub(crate) fn set_options(
        &mut self,
        core: &mut Core,
        id: SocketId,
        change: impl FnOnce(&mut TcpOptions),
    ) -> Result<(), SocketError> {
        let index = self.live(id)?;
        let Some(tcb) = self.conns.at(index) else {
            return Err(SocketError::BadSocket);
        };
        let old = tcb.profile;
        let writable = self.readiness(core, index).contains(Ready::WRITABLE);
        let profile = self.profiles.get(old);
        let (local, mut options) = (profile.local, profile.options.clone());
        let (congestion, keepalive) = (options.algorithm(), options.keepalive);
        change(&mut options);
        options.bound();
        let other = congestion != options.algorithm();
        let new = self
            .profiles
            .acquire(local, &options)
            .ok_or(SocketError::NoBuffers)?;
        self.profiles.release(old);
        let Some(tcb) = self.conns.at_mut(index) else {
            return Ok(());
        };
        tcb.profile = new;
        if other {
            self.change_control(index);
        }
        let Some(tcb) = self.conns.at_mut(index) else {
            return Ok(());
        };
        tcb.flags = if options.nodelay {
            tcb.flags | flag::NODELAY
        } else {
            tcb.flags & !flag::NODELAY
        };
        if keepalive != options.keepalive {
            self.start_keepalive(core, index);
            self.stop_keepalive(core, index);
        }
        self.keep_account(core.now, index);
        // A larger send buffer opens room to write, a larger receive buffer the window.
        if !writable && self.readiness(core, index).contains(Ready::WRITABLE) {
            self.raise(index, Ready::WRITABLE);
        }
        if self.conns.at(index).is_some_and(|tcb| !tcb.is_idle())
            && let Some(conn) = self.conn(index)
            && conn.window_update_due(core)
        {
            conn.tcb.ack_now();
        }
        self.queue_send(index);
        Ok(())
    }

    /// Another congestion control takes over. What the one before knew is not brought back by an undo.
    fn change_control(&mut self, index: u32) {
        self.drop_control(index);
        if self.conns.at(index).is_some_and(|tcb| !tcb.is_idle())
            && let Some(mut conn) = self.conn(index)
        {
            conn.forget_undo();
        }
    }

    /// Holds partial segments back, or lets them go (TCP_CORK).
    pub(crate) fn set_cork(&mut self, id: SocketId, cork: bool) -> Result<(), SocketError> {
        let index = self.live(id)?;
        if let Some(tcb) = self.conns.at_mut(index) {
            tcb.flags = if cork {
                tcb.flags | flag::CORK
            } else {
                tcb.flags & !flag::CORK
            };
            if let Some(act) = self.actives.at_mut(tcb.active).filter(|_| !cork) {
                act.more = false;
            }
        }
        self.queue_send(index);
        Ok(())
    }

    /// Acknowledges at once from now on, or no more than it must; what is owed goes out (TCP_QUICKACK). Not for ever: sixteen
    /// segments later the connection decides for itself again, as on Linux.
    pub(crate) fn set_quick_ack(&mut self, id: SocketId, quick: bool) -> Result<(), SocketError> {
        let index = self.live(id)?;
        let Some(tcb) = self.conns.at_mut(index) else {
            return Err(SocketError::BadSocket);
        };
        tcb.acking.set_quick(quick);
        if quick && tcb.has(flag::ACK_DELAYED) {
            tcb.ack_now();
            self.queue_send(index);
        }
        Ok(())
    }

    pub(crate) fn options(&self, id: SocketId) -> Result<&TcpOptions, SocketError> {
        let index = self.live(id)?;
        self.conns
            .at(index)
            .map(|tcb| &self.profiles.get(tcb.profile).options)
            .ok_or(SocketError::BadSocket)
    }

    /// Takes the pending error, else the soft one (SO_ERROR, MUST-47).
    pub(crate) fn take_error(&mut self, id: SocketId) -> Result<Option<SocketError>, SocketError> {
        let index = self.live(id)?;
        let tcb = self.conns.at_mut(index).ok_or(SocketError::BadSocket)?;
        Ok(tcb.take_error().or_else(|| tcb.take_soft_error()))
    }

    /// Local and remote address and port.
    pub(crate) fn addresses(&self, id: SocketId) -> Result<Ends, SocketError> {
        let index = self.live(id)?;
        let tcb = self.conns.at(index).ok_or(SocketError::BadSocket)?;
        Ok((
            (self.profiles.get(tcb.profile).local, tcb.local_port),
            (tcb.remote, tcb.remote_port),
        ))
    }
}
