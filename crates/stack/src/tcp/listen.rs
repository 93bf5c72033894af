//! Listeners and their queues: which SYNs are answered, and who waits to be accepted (RFC 9293 3.10.7.2, Linux's overflow
//! rules).
//!
//! The accept queue holds established connections, linked through their records.
//!
//! What does not live here: half-open connections (`half_open`), SYN cookies (`cookie`).
//!
//! Invariant: a listener never has more than `backlog + 1` connections in its accept queue (as Linux).
//! Invariant: nor more half-open ones, but for those that take TIME-WAIT over: beyond, SYNs are answered by cookies, or dropped.
//! Invariant: when the accept queue is full SYNs and final ACKs are dropped, so that clients try again; `abort_on_overflow`
//! resets the latter.

use base::{Chain, Instant, Seq};
use wire::Addr;
use wire::tcp::Flags;

use crate::context::Core;
use crate::error::SocketError;
use crate::net::{INTERFACES, InterfaceId, Net};
use crate::socket::{Event, Ready, SocketId, SocketKind};
use crate::stats::{Count, Drop};

use super::cookie;
use super::fast_open::{Answer, Pending, allow};
use super::profile::TcpOptions;
use super::record::{NONE, flag};
use super::segment::Segment;
use super::share::Caller;
use super::{List, Tcp};

/// One listener.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Unspecified: every local address. `v4` and `v6` say of which families.
    pub(crate) local: Addr,
    pub(crate) port: u16,
    pub(crate) backlog: u32,
    pub(crate) options: TcpOptions,
    pub(super) fast_open: Pending,
    /// Serves IPv4 too although bound to the IPv6 wildcard.
    pub(crate) dual: bool,
    pub(super) queue: List,
    pub(crate) queued: u32,
    pub(crate) half_open: u32,
    /// Half-open ones whose SYN-ACK was not sent again yet.
    pub(super) young: u32,
    /// SYNs and final ACKs that were not taken, and those of them that found the accept queue full.
    pub(super) drops: u64,
    pub(super) overflows: u64,
    /// Until then an ACK may carry a cookie.
    pub(super) cookies_until: Instant,
    pub(super) earlier: cookie::Earlier,
    pub(super) token: u64,
    pub(super) ready_link: u32,
    pub(super) ready_queued: bool,
    /// Those it shares its address with (SO_REUSEPORT).
    pub(super) share: u32,
}

impl Listener {
    fn place(&self) -> Place {
        Place {
            local: self.local,
            port: self.port,
            dual: self.dual,
            device: self.options.device,
        }
    }
}

pub(super) fn port_bytes(local: &Addr, port: u16) -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&local.0);
    bytes[16..].copy_from_slice(&port.to_be_bytes());
    bytes
}

/// Whether two listeners on one port would serve one address (Linux's `inet_rcv_saddr_equal`): each is an address, and whether
/// it is the wildcard of both families.
fn collide((a, a_dual): (&Addr, bool), (b, b_dual): (&Addr, bool)) -> bool {
    let one_family = a.is_v4() == b.is_v4() || a_dual || b_dual;
    one_family && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// Where a listener is: address and port, whether it serves both families, and by which device alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    local: Addr,
    port: u16,
    dual: bool,
    device: Option<InterfaceId>,
}

impl Tcp {
    /// Opens a listener on `local:port`, for port 0 on an ephemeral one that no listener has; the unspecified address serves
    /// all. `dual` makes the IPv6 wildcard serve IPv4, too.
    pub(crate) fn listen(
        &mut self,
        core: &mut Core,
        (local, port): (Addr, u16),
        backlog: u32,
        mut options: TcpOptions,
        dual: bool,
    ) -> Result<SocketId, SocketError> {
        let all = allow::SERVER | allow::ALL_LISTENERS;
        if core.tcp.fastopen & all == all && options.fast_open_queue == 0 {
            options.fast_open_queue = backlog;
        }
        let port = match port {
            0 => self.free_port(core).ok_or(SocketError::AddrInUse)?,
            port => port,
        };
        // Only a port that somebody listens on is worth a look at who does.
        let (shares, device) = (options.reuse_port, options.device);
        let overlaps = |l: &Listener| {
            let shared = shares && l.options.reuse_port;
            let apart = device.is_some() && l.options.device.is_some_and(|d| Some(d) != device);
            let same = l.port == port && collide((&l.local, l.dual), (&local, dual));
            same && !shared && !apart
        };
        if self.local_ports.listens(port) && self.listeners.iter().any(|(_, l)| overlaps(l)) {
            return Err(SocketError::AddrInUse);
        }
        let place = Place {
            local,
            port,
            dual,
            device,
        };
        let found = self.listener_at(&place).map(|(index, _)| index);
        let listener = Listener {
            local,
            port,
            backlog,
            options: options.settled(&core.tcp),
            fast_open: Pending::NONE,
            dual,
            queue: List::EMPTY,
            queued: 0,
            half_open: 0,
            young: 0,
            drops: 0,
            overflows: 0,
            cookies_until: Instant::ZERO,
            token: 0,
            ready_link: NONE,
            ready_queued: false,
            share: NONE,
            earlier: cookie::Earlier::default(),
        };
        let saves = listener.options.save_syn;
        let key = self
            .listeners
            .insert(listener)
            .ok_or(SocketError::NoBuffers)?;
        if let Err(error) = self.enter_listener(key.index, found) {
            self.leave_share(key.index);
            self.listeners.remove(key);
            return Err(error);
        }
        self.terms_joined(core, key.index, found);
        self.local_ports.add_listener(port);
        self.device_listeners += u32::from(device.is_some());
        self.saved.listener(0, saves);
        Ok(SocketId::new(SocketKind::Listener, key))
    }

    /// Lets a listener be found: by itself, or with those that share its address, of whom one is `found`.
    fn enter_listener(&mut self, index: u32, found: Option<u32>) -> Result<(), SocketError> {
        let l = self.listeners.at(index).ok_or(SocketError::BadSocket)?;
        let hash = self.listener_hash(&l.place());
        if l.options.reuse_port {
            self.join_share(index, found)?;
        }
        match found {
            Some(_) => Ok(()),
            None => {
                let entered = self.ports.insert(hash, index);
                entered.map_err(|_| SocketError::NoBuffers)
            }
        }
    }

    /// An ephemeral port that no listener has, as a listener on port 0 gets one.
    pub(crate) fn free_port(&mut self, core: &mut Core) -> Option<u16> {
        self.local_ports
            .random_order(&mut core.rng)
            .iter()
            .find(|&port| !self.local_ports.listens(port))
    }

    /// Changes what connections opened from now on get, and how many may wait.
    pub(crate) fn change_listener(
        &mut self,
        core: &Core,
        id: SocketId,
        change: impl FnOnce(&mut TcpOptions, &mut u32),
    ) -> Result<(), SocketError> {
        let index = self.listener_index(id)?;
        let until = self.cookies_until(self.listener(id)?);
        let listener = self.listeners.at_mut(index).ok_or(SocketError::BadSocket)?;
        let before = listener.options.save_syn;
        let settled = (listener.options.reuse_port, listener.options.device);
        let said = listener.options.window_terms(&core.tcp);
        change(&mut listener.options, &mut listener.backlog);
        // Settled when it was opened.
        (listener.options.reuse_port, listener.options.device) = settled;
        listener.options.bound();
        let changed = said != listener.options.window_terms(&core.tcp);
        if core.now < until && changed {
            listener.earlier.changed(core.now, until, said);
        }
        self.saved.listener(before, listener.options.save_syn);
        if changed {
            self.terms_changed(core, index);
        }
        Ok(())
    }

    fn listener_index(&self, id: SocketId) -> Result<u32, SocketError> {
        let index = id.index();
        let named = id.kind() == Some(SocketKind::Listener)
            && self
                .listeners
                .key_of(index)
                .is_some_and(|key| id.names(key));
        if named {
            Ok(index)
        } else {
            Err(SocketError::BadSocket)
        }
    }

    pub(crate) fn listener(&self, id: SocketId) -> Result<&Listener, SocketError> {
        self.listener_index(id)
            .and_then(|index| self.listeners.at(index).ok_or(SocketError::BadSocket))
    }

    pub(super) fn listener_mut(&mut self, id: SocketId) -> Result<&mut Listener, SocketError> {
        let index = self.listener_index(id)?;
        self.listeners.at_mut(index).ok_or(SocketError::BadSocket)
    }

    pub(crate) fn set_listener_token(
        &mut self,
        id: SocketId,
        token: u64,
    ) -> Result<(), SocketError> {
        let index = self.listener_index(id)?;
        let listener = self.listeners.at_mut(index).ok_or(SocketError::BadSocket)?;
        listener.token = token;
        Ok(())
    }

    /// Finds the listener for a destination: exact address first, then the wildcard of its family, then a dual one; of each first
    /// that of the device, then that of all. Of those that share the address it is one.
    pub(super) fn listener_for(&self, caller: &Caller<'_>) -> Option<u32> {
        let (local, port) = caller.local;
        let device = caller.came_by.filter(|_| self.device_listeners > 0);
        let place = Place {
            local,
            port,
            dual: false,
            device,
        };
        self.listener_of(&place)
            .or_else(|| self.wildcard_for(&place))
            .map(|(index, _)| self.one_of(index, caller))
    }

    /// The wildcard listener for a destination: that of its family, then one of both; over IPv6, where Linux holds those two to be
    /// alike, the one that was there first.
    fn wildcard_for(&self, place: &Place) -> Option<(u32, &Listener)> {
        let v4 = place.local.is_v4();
        let own = self.listener_of(&Place {
            local: Addr::unspecified(place.local.family()),
            ..*place
        });
        if own.is_some() && v4 {
            return own;
        }
        let both = self.listener_of(&Place {
            local: Addr::UNSPECIFIED_V6,
            dual: true,
            ..*place
        });
        let rank = |l: &Listener| (l.options.device.is_none(), self.since(l));
        match (own, both) {
            (Some(own), Some(both)) if rank(both.1) < rank(own.1) => Some(both),
            (own, both) => own.or(both),
        }
    }

    /// Interfaces to which a listener may be bound.
    pub(super) fn devices_listened(&self) -> impl Iterator<Item = InterfaceId> + use<> {
        let interfaces = if self.device_listeners > 0 {
            INTERFACES
        } else {
            0
        };
        (0..interfaces).map(|n| InterfaceId(n as u8))
    }

    fn listener_hash(&self, place: &Place) -> u64 {
        let mut key = [u8::from(place.dual); 20];
        key[..18].copy_from_slice(&port_bytes(&place.local, place.port));
        key[19] = place
            .device
            .map_or(InterfaceId::LOOPBACK.0, |device| device.0);
        self.ports.hash(&key)
    }

    /// The listener of a place, or, if there is none, that of all devices.
    fn listener_of(&self, place: &Place) -> Option<(u32, &Listener)> {
        let found = self.listener_at(place);
        if found.is_some() || place.device.is_none() {
            return found;
        }
        self.listener_at(&Place {
            device: None,
            ..*place
        })
    }

    /// The listener of exactly this place.
    fn listener_at(&self, place: &Place) -> Option<(u32, &Listener)> {
        let is_it = |i| self.listeners.at(i).is_some_and(|l| l.place() == *place);
        let index = self.ports.find(self.listener_hash(place), is_it)?;
        self.listeners.at(index).map(|l| (index, l))
    }

    /// A segment for no connection: a SYN may open one, everything else is refused (RFC 9293 3.10.7.1 and 3.10.7.2).
    #[cold]
    pub(super) fn at_listener(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        seg: &Segment,
        data: Chain,
    ) {
        let Some(index) = self.listener_for(&Caller::of(core, net, seg, &data)) else {
            core.drop_packet(data, Drop::TcpNoSocket);
            return self.send_reset(core, net, seg);
        };
        if seg.has(Flags::RST) {
            return core.drop_packet(data, Drop::TcpListenRefused);
        }
        if seg.has(Flags::ACK) {
            return self.at_cookie(core, net, index, seg, data);
        }
        // SYN with FIN is nonsense that scanners send; Linux drops it too.
        if !seg.has(Flags::SYN) || seg.has(Flags::FIN) {
            return core.drop_packet(data, Drop::TcpListenRefused);
        }
        self.answer_syn(core, net, index, (seg, data), None);
    }

    /// Answers a SYN, with `iss` if given: with a half-open connection, a SYN cookie, or not at all; or, if it may, with a
    /// connection that takes its data, which is ignored otherwise. Returns whether it was answered.
    pub(super) fn answer_syn(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        listener: u32,
        (seg, mut data): (&Segment, Chain),
        iss: Option<Seq>,
    ) -> bool {
        let answered = match self.admits(core, listener, iss.is_some()) {
            Ok(true) => {
                let mut option = None;
                match self.fast_answer(core, listener, seg) {
                    Answer::Open(newer) => {
                        match self.open_fast(core, net, listener, seg, (iss, newer), data) {
                            Ok(()) => return true,
                            Err(back) => data = back,
                        }
                    }
                    Answer::Ordinary(cookie) => option = cookie,
                }
                self.half_open(core, net, listener, seg, (iss, option))
            }
            Ok(false) => self.send_cookie(core, net, listener, seg),
            Err(reason) => Err(reason),
        };
        core.pool.free(data);
        if let Err(reason) = answered {
            core.stats.drops.add(reason);
            self.count_listen_drop(core, listener, reason);
        }
        answered.is_ok()
    }

    /// Counts what a listener did not take, by Linux's names.
    pub(super) fn count_listen_drop(&mut self, core: &mut Core, listener: u32, reason: Drop) {
        let overflow = reason == Drop::TcpAcceptQueueFull;
        core.count(Count::TcpListenDrops);
        if overflow {
            core.count(Count::TcpListenOverflows);
        }
        if let Some(l) = self.listeners.at_mut(listener) {
            l.drops += 1;
            l.overflows += u64::from(overflow);
        }
    }

    pub(super) fn accept_queue_full(&self, listener: u32) -> bool {
        let l = self.listeners.at(listener);
        l.is_none_or(|l| l.queued > l.backlog)
    }

    /// Whether a SYN gets a record (true) or a cookie (false): Linux's rules. One that takes TIME-WAIT over (`reopens`) has a
    /// number it must begin above, which no cookie has.
    ///
    /// # Errors
    /// The reason to drop it.
    fn admits(&self, core: &Core, listener: u32, reopens: bool) -> Result<bool, Drop> {
        let l = self.listeners.at(listener).ok_or(Drop::TcpNoSocket)?;
        let full = l.half_open > l.backlog || self.halves.is_full();
        let cookie = match core.tcp.syncookies {
            _ if reopens => false,
            0 if full => return Err(Drop::TcpSynQueueFull),
            0 => false,
            1 => full,
            _ => true,
        };
        if self.accept_queue_full(listener) {
            return Err(Drop::TcpAcceptQueueFull);
        }
        let most = core.tcp.max_syn_backlog;
        let last_quarter = most.saturating_sub(l.half_open) < most / 4;
        if core.tcp.syncookies == 0 && !reopens && last_quarter {
            return Err(Drop::TcpSynQueueFull);
        }
        Ok(!cookie)
    }

    pub(super) fn enqueue_accept(&mut self, listener: u32, index: u32) {
        let Some(l) = self.listeners.at_mut(listener) else {
            return;
        };
        l.queued += 1;
        let tail = core::mem::replace(&mut l.queue.tail, index);
        if tail == NONE {
            l.queue.head = index;
        } else if let Some(last) = self.conns.at_mut(tail) {
            last.set_ready_link(index);
        }
        if let Some(tcb) = self.conns.at_mut(index) {
            tcb.set_ready_link(NONE);
        }
        self.raise_listener(listener);
    }

    fn raise_listener(&mut self, index: u32) {
        let Some(l) = self.listeners.at_mut(index) else {
            return;
        };
        if l.ready_queued {
            return;
        }
        l.ready_queued = true;
        l.ready_link = NONE;
        let tail = core::mem::replace(&mut self.ready_listeners.tail, index);
        if tail == NONE {
            self.ready_listeners.head = index;
        } else if let Some(last) = self.listeners.at_mut(tail) {
            last.ready_link = index;
        }
    }

    pub(super) fn pop_ready_listener(&mut self) -> Option<Event> {
        loop {
            let index = self.ready_listeners.head;
            let l = self.listeners.at_mut(index)?;
            l.ready_queued = false;
            self.ready_listeners.head = l.ready_link;
            if self.ready_listeners.head == NONE {
                self.ready_listeners.tail = NONE;
            }
            let (queued, token) = (l.queued, l.token);
            if queued > 0
                && let Some(key) = self.listeners.key_of(index)
            {
                return Some(Event {
                    socket: SocketId::new(SocketKind::Listener, key),
                    token,
                    ready: Ready::READABLE,
                    raised: Ready::READABLE,
                });
            }
        }
    }

    /// Takes the oldest connection out of the accept queue.
    ///
    /// # Errors
    /// `WouldBlock` when it is empty.
    pub(crate) fn accept(&mut self, core: &Core, id: SocketId) -> Result<SocketId, SocketError> {
        let listener = self.listener_index(id)?;
        let index = self.pop_accept(listener).ok_or(SocketError::WouldBlock)?;
        let has_data = !self.readiness(core, index).is_empty();
        if has_data {
            self.raise(index, Ready::READABLE);
        }
        self.id_of(index).ok_or(SocketError::BadSocket)
    }

    pub(super) fn pop_accept(&mut self, listener: u32) -> Option<u32> {
        let l = self.listeners.at_mut(listener)?;
        let index = l.queue.head;
        let tcb = self.conns.at_mut(index)?;
        l.queued -= 1;
        l.queue.head = tcb.ready_link();
        if l.queue.head == NONE {
            l.queue.tail = NONE;
        }
        tcb.set_ready_link(NONE);
        tcb.flags &= !flag::UNACCEPTED;
        tcb.token = 0;
        Some(index)
    }

    /// Closes a listener: connections nobody accepted are reset, half-open ones forgotten. But others that share its address
    /// inherit both, unless `migrate_req` says otherwise.
    pub(crate) fn close_listener(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
    ) -> Result<(), SocketError> {
        let listener = self.listener_index(id)?;
        let heir = self.leave_share(listener);
        if let Some(heir) = heir {
            self.terms_changed(core, heir);
        }
        if let Some(heir) = heir.filter(|_| core.tcp.migrate_req != 0) {
            self.migrate(core, listener, heir);
        }
        self.refuse_waiting(core, net, listener);
        self.unlink_ready_listener(listener);
        if let Some(l) = self.listeners.remove_at(listener) {
            self.close_pending(&l);
            let hash = self.listener_hash(&l.place());
            match heir {
                // Whether it was the one by which they are found or not.
                Some(heir) => _ = self.ports.replace(hash, listener, heir),
                None => _ = self.ports.remove(hash, listener),
            }
            self.local_ports.remove_listener(l.port);
            self.device_listeners -= u32::from(l.options.device.is_some());
            self.saved.listener(l.options.save_syn, 0);
        }
        Ok(())
    }

    fn unlink_ready_listener(&mut self, index: u32) {
        let mut kept = List::EMPTY;
        let mut at = core::mem::replace(&mut self.ready_listeners, List::EMPTY).head;
        while let Some(l) = self.listeners.at_mut(at) {
            let next = core::mem::replace(&mut l.ready_link, NONE);
            l.ready_queued = false;
            if at != index {
                if kept.tail == NONE {
                    kept.head = at;
                } else if let Some(last) = self.listeners.at_mut(kept.tail) {
                    last.ready_link = at;
                }
                kept.tail = at;
                if let Some(l) = self.listeners.at_mut(at) {
                    l.ready_queued = true;
                }
            }
            at = next;
        }
        self.ready_listeners = kept;
    }
}
