//! The list of TCP's sockets, for tools: row by row, so that it can be read in pages.
//!
//! What does not live here: what a row says beyond its table (`info`), and pages (`host::list`).

use core::net::SocketAddr;
use core::time::Duration;

use base::{Instant, Key};
use wire::Addr;

use crate::context::Core;
use crate::net::{InterfaceId, Net};
use crate::socket::{SocketId, SocketKind};

use super::Tcp;
use super::info::{ConnectionInfo, TcpInfo};
use super::listen::Listener;
use super::record::{HalfOpen, State, Tcb, TimeWait, flag};
use super::write::send_limit;

/// The tables, in the order they are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Listeners,
    Connections,
    HalfOpen,
    TimeWait,
}

/// The queues of a listener, and what they did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerInfo {
    /// Connections that wait to be accepted, and how many may: one more than this, as on Linux.
    pub accept_queue: u32,
    /// See `accept_queue`.
    pub backlog: u32,
    /// Half-open connections: SYNs that were answered, and whose final ACK has not come.
    pub syn_queue: u32,
    /// SYNs and final ACKs that were not taken (Linux's ListenDrops, of this listener).
    pub drops: u64,
    /// Those of them that found the accept queue full (ListenOverflows).
    pub overflows: u64,
}

/// How full the tables of TCP are: how many there are, and may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpTables {
    /// Connections in any state but SYN-RECEIVED and TIME-WAIT.
    pub connections: (u32, u32),
    /// Half-open connections of listeners.
    pub half_open: (u32, u32),
    /// TIME-WAIT records; `max_tw_buckets` may allow fewer.
    pub time_wait: (u32, u32),
    /// Listeners.
    pub listeners: (u32, u32),
    /// Ephemeral ports: connections from one address to one peer's port there may be.
    pub ephemeral_ports: u32,
}

impl TcpTables {
    /// Those of two shards of a host together, which share the ports among them.
    pub fn plus(self, other: &Self) -> Self {
        let sum = |(n, most): (u32, u32), more: (u32, u32)| (n + more.0, most + more.1);
        Self {
            connections: sum(self.connections, other.connections),
            half_open: sum(self.half_open, other.half_open),
            time_wait: sum(self.time_wait, other.time_wait),
            listeners: sum(self.listeners, other.listeners),
            ephemeral_ports: self.ephemeral_ports,
        }
    }
}

impl Tcp {
    /// How full the tables are.
    pub(crate) fn tables(&self) -> TcpTables {
        TcpTables {
            connections: (self.conns.len(), self.conns.capacity()),
            half_open: (self.halves.len(), self.halves.capacity()),
            time_wait: (self.waits.len(), self.waits.capacity()),
            listeners: (self.listeners.len(), self.listeners.capacity()),
            ephemeral_ports: self.local_ports.range(),
        }
    }

    /// The queues of the listener in one slot.
    pub(crate) fn queues(&self, slot: u32) -> Option<ListenerInfo> {
        let l = self.listeners.at(slot)?;
        Some(ListenerInfo {
            accept_queue: l.queued,
            backlog: l.backlog,
            syn_queue: l.half_open,
            drops: l.drops,
            overflows: l.overflows,
        })
    }

    /// Slots of a table that were ever used: its rows are among them.
    pub(crate) fn slots(&self, table: Table) -> u32 {
        match table {
            Table::Listeners => self.listeners.high_water(),
            Table::Connections => self.conns.high_water(),
            Table::HalfOpen => self.halves.high_water(),
            Table::TimeWait => self.waits.high_water(),
        }
    }

    /// Sockets there are.
    pub(crate) fn sockets(&self) -> u32 {
        self.listeners.len() + self.conns.len() + self.halves.len() + self.waits.len()
    }

    /// The row of one slot, if it is in use.
    pub(crate) fn row(&self, table: Table, slot: u32) -> Option<ConnectionInfo> {
        match table {
            Table::Listeners => {
                let key = self.listeners.key_of(slot)?;
                Some(listener(key, self.listeners.at(slot)?))
            }
            Table::Connections => Some(self.describe(slot, self.conns.at(slot)?)),
            Table::HalfOpen => Some(self.half_open_row(self.halves.at(slot)?)),
            Table::TimeWait => Some(self.time_wait_row(self.waits.at(slot)?)),
        }
    }

    /// The numbers of the connection in one slot.
    pub(crate) fn details(&self, parts: (&Core, &Net), now: Instant, slot: u32) -> Option<TcpInfo> {
        let tcb = self.conns.at(slot)?;
        Some(self.info_of(parts, now, slot, tcb))
    }

    /// The device what is in a slot is bound to.
    pub(crate) fn device(&self, table: Table, slot: u32) -> Option<InterfaceId> {
        let profile = match table {
            Table::Listeners => return self.listeners.at(slot)?.options.device,
            Table::Connections => self.conns.at(slot)?.profile,
            Table::HalfOpen => self.halves.at(slot)?.profile,
            Table::TimeWait => self.waits.at(slot)?.profile,
        };
        self.profiles.get(profile).options.device
    }

    /// The limits of what may wait to be read and to be sent or acknowledged, bytes.
    pub(crate) fn buffers(&self, core: &Core, table: Table, slot: u32) -> Option<(u32, u32)> {
        let (options, inflow) = match table {
            Table::Listeners => (&self.listeners.at(slot)?.options, None),
            Table::Connections => {
                let tcb = self.conns.at(slot)?;
                let inflow = self.inflows.of(slot, tcb.inflow());
                (&self.profiles.get(tcb.profile).options, inflow)
            }
            Table::HalfOpen | Table::TimeWait => return None,
        };
        let receive = options.receive_limit(&core.tcp, inflow);
        let send = match table {
            Table::Connections => send_limit(self.conns.at(slot)?, options, core),
            _ => options.send_buffer.unwrap_or(core.tcp.wmem_default),
        };
        Some((receive, send))
    }

    fn describe(&self, index: u32, tcb: &Tcb) -> ConnectionInfo {
        let act = self.actives.at(tcb.active);
        let owned = tcb.flags & (flag::ORPHAN | flag::UNACCEPTED) == 0;
        ConnectionInfo {
            socket: if owned { self.id_of(index) } else { None },
            receive_queue: act.map_or(0, |a| a.recv.len() as u32),
            send_queue: act.map_or(0, |a| (a.sent.len() + a.unsent.len()) as u32),
            rtt: tcb.srtt(),
            cwnd: tcb.cwnd,
            ..self.bare(
                tcb.profile,
                (&tcb.remote, tcb.remote_port),
                tcb.local_port,
                tcb.shown_state(),
            )
        }
    }

    fn half_open_row(&self, h: &HalfOpen) -> ConnectionInfo {
        let remote = (&h.remote, h.remote_port);
        self.bare(h.profile, remote, h.local_port, State::SynReceived)
    }

    fn time_wait_row(&self, w: &TimeWait) -> ConnectionInfo {
        let remote = (&w.remote, w.remote_port);
        self.bare(w.profile, remote, w.local_port, State::TimeWait)
    }

    /// A row of which only the addresses are known.
    fn bare(
        &self,
        profile: u16,
        remote: (&Addr, u16),
        local_port: u16,
        state: State,
    ) -> ConnectionInfo {
        ConnectionInfo {
            socket: None,
            local: SocketAddr::new(self.profiles.get(profile).local.to_ip(), local_port),
            remote: SocketAddr::new(remote.0.to_ip(), remote.1),
            state,
            receive_queue: 0,
            send_queue: 0,
            rtt: Duration::ZERO,
            cwnd: 0,
        }
    }

    /// Every listener, connection, half-open connection and TIME-WAIT. For tools: visits all of them.
    pub(crate) fn connections(&self) -> impl Iterator<Item = ConnectionInfo> + '_ {
        let listeners = self.listeners.iter().map(|(key, l)| listener(key, l));
        let halves = self.halves.iter().map(|(_, h)| self.half_open_row(h));
        let waits = self.waits.iter().map(|(_, w)| self.time_wait_row(w));
        let connections = self.each_connection();
        listeners
            .chain(connections.map(|(index, tcb)| self.describe(index, tcb)))
            .chain(halves)
            .chain(waits)
    }
}

fn listener(key: Key, l: &Listener) -> ConnectionInfo {
    ConnectionInfo {
        socket: Some(SocketId::new(SocketKind::Listener, key)),
        local: SocketAddr::new(l.local.to_ip(), l.port),
        remote: SocketAddr::new(Addr::unspecified(l.local.family()).to_ip(), 0),
        state: State::Listen,
        receive_queue: l.queued,
        send_queue: l.backlog,
        rtt: Duration::ZERO,
        cwnd: 0,
    }
}
