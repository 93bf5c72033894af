//! TCP (RFC 9293, with 5681, 6298, 6528, 5961, 7323, 7413, 2018, 8985, 9937, 9438, 9768).
//!
//! # Theory of operation
//!
//! **Tables.** One flow table maps the hash of a 4-tuple to an index whose top bits say what it is: a connection ([`Tcb`]), a
//! half-open one ([`HalfOpen`]) or TIME-WAIT ([`TimeWait`]). Listeners have a table of their own, by address and port.
//!
//! **A segment in.** [`Tcp::parse`] reads the header and hashes the tuple; [`Tcp::prefetch`] pulls the records a batch will
//! touch toward the cache; [`Tcp::input`] finds the record and lets it act. What a segment does to a connection is computed on a
//! [`Conn`], a view of one connection's parts; what it does to the world comes back as an [`Outcome`] which `Tcp` carries out.
//!
//! **A byte out.** Whatever makes a connection want to speak (data written, ACK owed, window opened, timer due) links it once
//! into the send list; one that finds the queue of its interface full waits in that interface's list until the queue was
//! polled, so that a bound is back-pressure, not a loss. [`Tcp::transmit`] walks that list only: it retransmits, sends new data as the windows allow, or sends a
//! bare ACK, and arms the one timer of the connection for its earliest deadline. So an ACK and the reply of an application that
//! runs in the same turn leave in one segment, and a burst of segments is answered by one ACK.
//!
//! **Loss.** What is in flight is a list of runs sent together (`sent`): when each was last sent, and whether it is SACKed, held
//! lost or on its way. ACKs mark; the transmit pass looks what time has made lost (`rack`), begins or steers a repair
//! (`recovery`), and takes it back when it was not needed (`undo`). What a repair keeps besides is a record of its own.
//!
//! **Time.** A connection has at most one armed timer, moved lazily: when it goes off early it is armed again for the real
//! deadline. An idle connection without keepalive has none.
//!
//! **Memory.** Bytes live in pool blocks, only while they wait; the [`Active`] part exists only while something waits, is in
//! flight, out of order or timed.
//!
//! What does not live here: IP, neighbours, devices (`net`); waiting and threads (the engine).
//!
//! Invariant: every chain taken from the pool is owned by exactly one queue and returns when its record ends.
//! Invariant: `snd_nxt` never moves back; what becomes of everything below it stands in `sent`.
//! Invariant: the right edge of the advertised window never moves left.

mod acc_ecn;
mod acknowledge;
mod audit;
mod beside;
mod call;
pub(crate) mod congestion;
mod conn;
mod cookie;
mod delack;
mod ecn;
mod edges;
pub(crate) mod fast_open;
mod half_open;
mod inflow;
mod info;
mod input;
mod ledger;
mod lingering;
mod listen;
mod marks;
mod memory;
mod model;
mod moving;
mod mtu_probe;
mod output;
mod pace;
mod path;
mod ports;
mod profile;
mod rack;
mod receive;
mod record;
mod recovery;
mod retransmit;
mod rows;
mod rtt;
mod saved_syn;
mod segment;
mod sent;
mod share;
mod splice;
mod strays;
mod syn;
mod synchronise;
mod time_wait;
mod timer;
mod tunables;
mod undo;
mod validate;
mod window;
mod write;

#[cfg(test)]
mod conn_tests;

use base::{FlowTable, Instant, SipKey, Slab, siphash24};
use wire::Addr;

use crate::config::Config;
use crate::context::Core;
use crate::error::SocketError;
use crate::net::{INTERFACES, InterfaceId, Net};
use crate::socket::{Event, Ready, SocketId, SocketKind};

pub use acc_ecn::EcnCounters;
pub use congestion::Congestion;
pub use edges::Urgent;
pub use fast_open::{FastOpenFail, FastOpenKeys};
pub use info::{BbrInfo, CongestionInfo, ConnectionInfo, DctcpInfo, Recovery, TcpAccount, TcpInfo};
pub use marks::{Notice, NoticeKind};
pub(crate) use memory::Memory;
pub use memory::TcpMemory;
pub use moving::TcpParcel;
pub use profile::{Keepalive, TcpOptions};
pub use record::State;
pub(crate) use rows::Table;
pub use rows::{ListenerInfo, TcpTables};
pub use splice::SpliceError;
pub use tunables::{SettingError, TcpTunables};
pub use write::Write;

use conn::{Conn, End, Outcome};
use listen::Listener;
use profile::Profiles;
use record::{Active, HalfOpen, NONE, Range, Tcb, TimeWait, flag};
pub(crate) use segment::Segment;

/// What an index in the flow table points at: the top two bits.
const KIND_SHIFT: u32 = 30;
const INDEX_MASK: u32 = (1 << KIND_SHIFT) - 1;
const KIND_CONNECTION: u32 = 0;
const KIND_HALF_OPEN: u32 = 1;
const KIND_TIME_WAIT: u32 = 2;

fn flow_index(kind: u32, index: u32) -> u32 {
    kind << KIND_SHIFT | index
}

/// A singly linked FIFO of connections, threaded through a link field of their records.
#[derive(Debug, Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

impl List {
    const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
    };
}

/// Takes the first connection off a list threaded through `send_link`.
fn unlink_first(conns: &mut Slab<Tcb>, list: &mut List) -> Option<u32> {
    let index = list.head;
    let tcb = conns.at_mut(index)?;
    tcb.flags &= !flag::SEND_QUEUED;
    list.head = tcb.send_link;
    if list.head == NONE {
        list.tail = NONE;
    }
    Some(index)
}

/// All TCP state of one host.
#[derive(Debug)]
pub(crate) struct Tcp {
    conns: Slab<Tcb>,
    actives: Slab<Active>,
    halves: Slab<HalfOpen>,
    /// The largest first buffer (`rmem_default`) that any of them was offered a window by, before it was made smaller.
    earlier_rmem: u32,
    waits: Slab<TimeWait>,
    ranges: Slab<Range>,
    nodes: Slab<sent::Sent>,
    episodes: Slab<recovery::Episode>,
    ledgers: beside::Beside<ledger::Ledger>,
    searches: beside::Beside<mtu_probe::Search>,
    saved: saved_syn::SavedSyns,
    acc_ecns: beside::Beside<acc_ecn::AccEcn>,
    /// Twice as many as active parts there may be: one for each, and as many that outlive theirs.
    controls: Slab<congestion::Control>,
    /// Of controls that are BBR.
    models: Slab<congestion::Bbr>,
    edges: edges::EdgeTable,
    fasts: Slab<fast_open::Fast>,
    inflows: inflow::Inflows,
    listeners: Slab<Listener>,
    shares: Slab<share::Share>,
    flows: FlowTable,
    /// Listeners by local address and port, by whether they are of both families, and by device.
    ports: FlowTable,
    /// How many are bound to a device.
    device_listeners: u32,
    /// Listeners that shared their address, so far.
    came: u64,
    profiles: Profiles,
    marks: marks::Marks,
    paths: path::Paths,
    strays: strays::Strays,
    send: List,
    /// Connections that want to speak on an interface whose queue has no room, by interface; the last is the loopback.
    held: [List; INTERFACES + 1],
    /// [`Net::epoch`] when they were held: another one may lead them elsewhere.
    held_epoch: u64,
    ready: List,
    ready_listeners: List,
    wait_queue: List,
    wait_timer: bool,
    defaults: TcpOptions,
    time_wait_ms: u32,
    /// Until then no bare ACK is answered from TIME-WAIT.
    wait_mute_until: Instant,
    isn_key: SipKey,
    offset_key: SipKey,
    local_ports: ports::LocalPorts,
    lingering: lingering::Lingering,
    cookies: cookie::Cookies,
    fast_keys: fast_open::Keys,
    fast_cache: fast_open::Cache,
    black_hole: fast_open::BlackHole,
    /// The number of this shard, for those who choose by it.
    shard: usize,
}

/// What a host knows of a tuple, see [`crate::Host::tcp_knows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// There is a connection.
    Connection,
    /// A SYN was answered and is remembered.
    HalfOpen,
    /// There was a connection.
    TimeWait,
    /// The ACK ends a handshake that only its cookie tells of.
    Cookie,
}

impl Tcp {
    pub(crate) fn new(config: &Config, core: &mut Core, seed: u64) -> Self {
        let flows = config.tcp_connections + config.tcp_half_open + config.tcp_time_wait;
        // Each purpose has a key of its own, none of which can be computed from another or from what the host sends.
        let keys = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(|purpose| SipKey::derive(seed, purpose));
        let local_ports = ports::LocalPorts::new(config.ephemeral_ports, keys[4], &mut core.rng);
        Self {
            conns: Slab::with_capacity(config.tcp_connections),
            actives: Slab::with_capacity(config.tcp_active),
            halves: Slab::with_capacity(config.tcp_half_open),
            earlier_rmem: 0,
            waits: Slab::with_capacity(config.tcp_time_wait),
            // Out-of-order ranges: a few for every active connection, or two windows full of holes.
            ranges: Slab::with_capacity(config.tcp_active.saturating_mul(4).max(16 * 1024)),
            nodes: Slab::with_capacity(sent::capacity(config.tcp_active)),
            episodes: Slab::with_capacity(config.tcp_active),
            ledgers: beside::Beside::new(config.tcp_connections),
            searches: beside::Beside::new(config.tcp_connections),
            saved: saved_syn::SavedSyns::new(config.tcp_half_open, config.tcp_connections),
            acc_ecns: beside::Beside::new(config.tcp_connections),
            controls: Slab::with_capacity(config.tcp_active.saturating_mul(2)),
            models: Slab::with_capacity(config.tcp_active.saturating_mul(2)),
            edges: edges::EdgeTable::new(config.tcp_active),
            fasts: Slab::with_capacity(config.tcp_fast_open.min(u32::from(fast_open::NO_FAST))),
            inflows: inflow::Inflows::new(config.tcp_active),
            listeners: Slab::with_capacity(config.tcp_listeners),
            shares: Slab::with_capacity(config.tcp_listeners),
            flows: FlowTable::with_capacity(flows, keys[0]),
            ports: FlowTable::with_capacity(config.tcp_listeners, keys[1]),
            came: 0,
            device_listeners: 0,
            profiles: Profiles::default(),
            marks: marks::Marks::new(config.tcp_marks, config.tcp_connections),
            paths: path::Paths::new(),
            strays: strays::Strays::default(),
            send: List::EMPTY,
            held: [List::EMPTY; INTERFACES + 1],
            held_epoch: 0,
            ready: List::EMPTY,
            ready_listeners: List::EMPTY,
            wait_queue: List::EMPTY,
            wait_timer: false,
            defaults: TcpOptions::of(config),
            wait_mute_until: Instant::default(),
            time_wait_ms: u32::try_from(config.time_wait.as_millis()).unwrap_or(u32::MAX / 4),
            lingering: lingering::Lingering::new(
                config.tcp_connections.saturating_add(config.tcp_time_wait),
                keys[8],
            ),
            isn_key: keys[2],
            offset_key: keys[3],
            local_ports,
            cookies: cookie::Cookies::new(keys[5]),
            fast_cache: fast_open::Cache::new(config.tcp_fast_open_cookies, keys[7]),
            black_hole: fast_open::BlackHole::default(),
            fast_keys: fast_open::Keys::new(FastOpenKeys {
                primary: keys[6].0,
                backup: None,
            }),
            shard: 0,
        }
    }

    /// Which shard of its host it is.
    pub(crate) fn set_shard(&mut self, shard: usize) {
        self.shard = shard;
    }

    /// The options a socket gets when it says nothing.
    pub(crate) fn defaults(&self) -> &TcpOptions {
        &self.defaults
    }

    /// The host's tunables have changed.
    pub(crate) fn retuned(&mut self, core: &Core, before: &TcpTunables) {
        if before.rmem_default > core.tcp.rmem_default {
            self.keep_granted(before.rmem_default);
        }
        self.keep_cookies(core, before);
    }

    pub(crate) fn set_defaults(&mut self, options: TcpOptions) {
        self.defaults = options;
    }

    /// RFC 6528: M, a clock of 4 microseconds, plus a keyed hash of the connection (MUST-8, MUST-9).
    fn initial_sequence(&self, core: &Core, flow: &[u8]) -> base::Seq {
        base::Seq((core.now.micros() / 4).wrapping_add(siphash24(&self.isn_key, flow)) as u32)
    }

    /// A random start of the timestamp clock per connection, so that it tells nobody our uptime (RFC 7323 5.4).
    fn timestamp_offset(&self, flow: &[u8]) -> u32 {
        siphash24(&self.offset_key, flow) as u32
    }

    /// The connection a handle names, if it is alive and still the application's.
    fn live(&self, id: SocketId) -> Result<u32, SocketError> {
        let index = id.index();
        let named = id.kind() == Some(SocketKind::Tcp)
            && self.conns.key_of(index).is_some_and(|key| id.names(key));
        match self.conns.at(index) {
            Some(tcb) if named && tcb.flags & (flag::ORPHAN | flag::UNACCEPTED) == 0 => Ok(index),
            _ => Err(SocketError::BadSocket),
        }
    }

    fn id_of(&self, index: u32) -> Option<SocketId> {
        self.conns
            .key_of(index)
            .map(|key| SocketId::new(SocketKind::Tcp, key))
    }

    /// A view of connection `index` with its active part, which is made when it has none. `None` when the pool of active
    /// parts is exhausted or there is no such connection.
    fn conn(&mut self, index: u32) -> Option<Conn<'_>> {
        let tcb = self.conns.at_mut(index)?;
        let profile = self.profiles.get(tcb.profile);
        if tcb.is_idle() {
            let mut act = Active::new(tcb.kept());
            (act.small, act.pushed) = (tcb.snd_una, tcb.snd_una);
            tcb.active = self.actives.insert(act)?.index;
        }
        let act = self.actives.at_mut(tcb.active)?;
        let search = self.searches.of_mut(index, tcb);
        let accurate = tcb.is_accurate();
        Some(Conn {
            inflow: self.inflows.of_mut(index, tcb.inflow()),
            tcb,
            act,
            ranges: &mut self.ranges,
            nodes: &mut self.nodes,
            episodes: &mut self.episodes,
            ledger: if profile.options.account {
                self.ledgers.at_mut(index)
            } else {
                None
            },
            search,
            controls: &mut self.controls,
            models: &mut self.models,
            edges: &mut self.edges,
            fasts: &mut self.fasts,
            acc_ecn: if accurate {
                self.acc_ecns.of(index)
            } else {
                None
            },
            profile,
        })
    }

    /// Gives the active part back when it holds nothing any more, and with it the timer: letting that go off later would
    /// fetch the whole record into the cache again, only to find it idle.
    fn settle(&mut self, core: &mut Core, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        let Some(act) = self.actives.at_mut(tcb.active) else {
            return;
        };
        if act.edges != NONE {
            self.edges.settle(tcb, act);
        }
        if !act.is_spent() {
            return;
        }
        let mut control = NONE;
        if let Some(mut act) = self.actives.remove_at(tcb.active) {
            conn::release_flight(&mut self.nodes, &mut self.episodes, &mut act);
            control = act.control;
        }
        let room = self.controls.len() <= self.controls.capacity() / 2;
        let keep = |c: &congestion::Control| room && c.outlives();
        if control != NONE && !self.controls.at(control).is_some_and(keep) {
            model::release(&mut self.controls, &mut self.models, control);
            control = NONE;
        }
        tcb.rest(control);
        let timed = tcb.state == State::FinWait2 && tcb.has(flag::ORPHAN)
            || self.profiles.get(tcb.profile).options.keepalive.is_some();
        if !timed {
            core.wheel
                .cancel(core::mem::replace(&mut tcb.timer, base::TimerId::NONE));
        }
    }

    /// Carries out what a step on one connection decided.
    fn conclude(&mut self, core: &mut Core, net: &mut Net, index: u32, outcome: Outcome) {
        if outcome.send {
            self.queue_send(index);
        }
        if !outcome.raise.is_empty() {
            self.raise(index, outcome.raise);
        }
        match outcome.end {
            End::Lives => {
                self.limit_fin_wait(core, net, index);
                self.settle(core, index);
            }
            End::TimeWait => self.enter_time_wait(core, net, index),
            End::Closed(error) => self.dissolve(core, index, error),
        }
    }

    /// Links a connection into the send list, once.
    fn queue_send(&mut self, index: u32) {
        let mut list = self.send;
        self.link_send(&mut list, index);
        self.send = list;
    }

    /// Lets a connection wait until the queue of `interface` was polled.
    fn hold(&mut self, interface: InterfaceId, index: u32) {
        let at = usize::from(interface.0).min(INTERFACES);
        let mut list = self.held[at];
        self.link_send(&mut list, index);
        self.held[at] = list;
    }

    /// After a change of routes, connections that wait for one interface may have their way by another.
    pub(crate) fn follow_paths(&mut self, net: &Net) {
        if self.held_epoch == net.epoch() {
            return;
        }
        self.held_epoch = net.epoch();
        for list in &mut self.held {
            let waiting = core::mem::replace(list, List::EMPTY);
            if waiting.head == NONE {
                continue;
            }
            match self.conns.at_mut(self.send.tail) {
                Some(last) if self.send.tail != NONE => last.send_link = waiting.head,
                _ => self.send.head = waiting.head,
            }
            self.send.tail = waiting.tail;
        }
    }

    fn link_send(&mut self, list: &mut List, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        if tcb.flags & flag::SEND_QUEUED != 0 {
            return;
        }
        tcb.flags |= flag::SEND_QUEUED;
        tcb.send_link = NONE;
        let tail = core::mem::replace(&mut list.tail, index);
        match self.conns.at_mut(tail) {
            Some(last) if tail != NONE => last.send_link = index,
            _ => list.head = index,
        }
    }

    /// The next connection that wants to speak: one held back for `interface` if that has room again, else of the send list.
    fn pop_send(&mut self, net: &Net, interface: InterfaceId) -> Option<u32> {
        for interface in [interface, InterfaceId::LOOPBACK] {
            let list = &mut self.held[usize::from(interface.0).min(INTERFACES)];
            if list.head != NONE && net.room(interface) > 0 {
                return unlink_first(&mut self.conns, list);
            }
        }
        unlink_first(&mut self.conns, &mut self.send)
    }

    /// Whether a transmit pass for `interface` has something to do.
    #[inline]
    pub(crate) fn wants_transmit(&self, interface: InterfaceId) -> bool {
        self.send.head != NONE
            || self.held[usize::from(interface.0).min(INTERFACES)].head != NONE
            || self.held[INTERFACES].head != NONE
    }

    /// Notes what has happened to a socket, and links it into the ready list, once. Orphans have nobody to tell.
    fn raise(&mut self, index: u32, what: Ready) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        if tcb.flags & (flag::ORPHAN | flag::UNACCEPTED) != 0 {
            return;
        }
        tcb.note_raised(what);
        if tcb.has(flag::READY_QUEUED) {
            return;
        }
        tcb.flags |= flag::READY_QUEUED;
        tcb.set_ready_link(NONE);
        let tail = core::mem::replace(&mut self.ready.tail, index);
        match self.conns.at_mut(tail) {
            Some(last) if tail != NONE => last.set_ready_link(index),
            _ => self.ready.head = index,
        }
    }

    /// Takes the next ready socket off the list.
    pub(crate) fn pop_ready(&mut self, core: &Core) -> Option<Event> {
        loop {
            if let Some(event) = self.pop_ready_listener() {
                return Some(event);
            }
            let index = self.ready.head;
            let tcb = self.conns.at_mut(index)?;
            tcb.flags &= !flag::READY_QUEUED;
            self.ready.head = tcb.ready_link();
            if self.ready.head == NONE {
                self.ready.tail = NONE;
            }
            let (token, orphan) = (tcb.token, tcb.flags & flag::ORPHAN != 0);
            let mut raised = tcb.take_raised();
            let ready = self.readiness(core, index);
            if !ready.contains(Ready::READABLE) {
                raised.0 &= !Ready::READABLE.0; // less than SO_RCVLOWAT asks for
            }
            // A notice is an error to whoever looks for it, and nothing to others.
            if !orphan && (raised.contains(Ready::ERROR) || !ready.is_empty()) {
                return self.id_of(index).map(|socket| Event {
                    socket,
                    token,
                    ready,
                    raised,
                });
            }
            self.free_if_dead(index);
        }
    }

    /// Frees a closed orphan once no list holds it.
    fn free_if_dead(&mut self, index: u32) {
        let Some(tcb) = self.conns.at(index) else {
            return;
        };
        let linked = flag::SEND_QUEUED | flag::READY_QUEUED | flag::UNACCEPTED;
        if tcb.state == State::Closed && tcb.flags & flag::ORPHAN != 0 && tcb.flags & linked == 0 {
            let profile = tcb.profile;
            if let Some(key) = self.conns.key_of(index) {
                self.conns.remove(key);
                self.profiles.release(profile);
                self.ledgers.close(index);
                self.searches.close(index);
                self.saved.forget(saved_syn::Owner::Connection(index));
                self.acc_ecns.close(index);
            }
        }
    }

    /// Ends a connection: out of the flow table, memory and timer given back. The record stays, CLOSED and with its error, until
    /// the application lets go of it. Received bytes that were not read stay readable.
    fn dissolve(&mut self, core: &mut Core, index: u32, error: Option<SocketError>) {
        self.fast_open_dissolved(core, index, error);
        self.end_inflow(index);
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        let profile = self.profiles.get(tcb.profile);
        let hash = self.flows.hash(&segment::flow_bytes(
            &tcb.remote,
            tcb.remote_port,
            &profile.local,
            tcb.local_port,
        ));
        let ends = (
            (profile.local, tcb.local_port),
            (tcb.remote, tcb.remote_port),
        );
        let orphan = tcb.flags & flag::ORPHAN != 0;
        if tcb.state != State::Closed {
            self.flows.remove(hash, flow_index(KIND_CONNECTION, index));
            if orphan {
                self.lingering.end(&profile.local, tcb.local_port);
            }
        }
        tcb.state = State::Closed;
        tcb.flags &= !flag::SOFT_ERROR;
        if let Some(error) = error {
            tcb.set_error(error);
        }
        core.wheel
            .cancel(core::mem::replace(&mut tcb.timer, base::TimerId::NONE));
        self.drop_control(index);
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        let active = tcb.active;
        if !tcb.is_idle()
            && let Some(key) = self.actives.key_of(active)
        {
            if let Some(act) = self.actives.at_mut(active) {
                core.begin_account();
                conn::release_queues(core, &mut self.ranges, act, orphan);
                core.end_account();
                conn::release_flight(&mut self.nodes, &mut self.episodes, act);
                self.edges.end(tcb, act);
            }
            if self.actives.at(active).is_some_and(|a| a.recv.is_empty()) {
                self.actives.remove(key);
                if let Some(tcb) = self.conns.at_mut(index) {
                    tcb.active = NONE;
                }
            }
        }
        self.flow_left(|| ends);
        if self.marks.watched(index) {
            self.marks.forget(core.now, index, !orphan);
        }
        self.raise(index, Ready::HUP);
        self.free_if_dead(index);
    }

    /// Where is kept what congestion control knows of a connection, which has it no more.
    fn detach_control(&mut self, index: u32) -> u32 {
        let Some(tcb) = self.conns.at_mut(index) else {
            return NONE;
        };
        match self.actives.at_mut(tcb.active) {
            Some(act) => core::mem::replace(&mut act.control, NONE),
            None => {
                let kept = tcb.kept();
                tcb.rest(NONE);
                kept
            }
        }
    }

    /// Forgets what congestion control knew of a connection.
    fn drop_control(&mut self, index: u32) {
        let control = self.detach_control(index);
        if control != NONE {
            model::release(&mut self.controls, &mut self.models, control);
        }
    }

    /// Indices of connections, for tools: visits every record, so never on a packet path.
    fn each_connection(&self) -> impl Iterator<Item = (u32, &Tcb)> {
        self.conns.iter().map(|(key, tcb)| (key.index, tcb))
    }

    /// Whether `addr:port` pairs of a connection match a segment's.
    #[inline]
    fn matches(
        &self,
        entry: u32,
        remote: &Addr,
        remote_port: u16,
        local: &Addr,
        local_port: u16,
    ) -> bool {
        let index = entry & INDEX_MASK;
        let (r, rp, lp, profile) = match entry >> KIND_SHIFT {
            KIND_CONNECTION => match self.conns.at(index) {
                Some(c) => (&c.remote, c.remote_port, c.local_port, c.profile),
                None => return false,
            },
            KIND_HALF_OPEN => match self.halves.at(index) {
                Some(h) => (&h.remote, h.remote_port, h.local_port, h.profile),
                None => return false,
            },
            _ => match self.waits.at(index) {
                Some(w) => (&w.remote, w.remote_port, w.local_port, w.profile),
                None => return false,
            },
        };
        rp == remote_port
            && lp == local_port
            && r == remote
            && self.profiles.get(profile).local == *local
    }
}
