//! The list of all sockets, for tools: in pages of which each looks at a bounded number of records.
//!
//! What does not live here: how a list looks.
//!
//! Invariant: a page costs what it looks at, whatever there is.

use base::Instant;

use super::Host;
use crate::net::InterfaceId;
use crate::socket::SocketKind;
use crate::tcp::{ConnectionInfo, ListenerInfo, State, Table, TcpInfo};

/// Which sockets a list shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketFilter {
    /// Those of TCP.
    pub tcp: bool,
    /// Those of UDP.
    pub udp: bool,
    /// Those whose local address is of IPv4.
    pub v4: bool,
    /// Those whose local address is of IPv6.
    pub v6: bool,
    /// In these states, each a bit: see [`SocketFilter::bit`]. UDP sockets are ESTABLISHED when connected, else CLOSED.
    pub states: u16,
    /// With this local port.
    pub local_port: Option<u16>,
    /// With this remote port.
    pub remote_port: Option<u16>,
}

impl SocketFilter {
    /// Every socket.
    pub const ALL: Self = Self {
        tcp: true,
        udp: true,
        v4: true,
        v6: true,
        states: u16::MAX,
        local_port: None,
        remote_port: None,
    };

    /// The bit of a state.
    pub fn bit(state: State) -> u16 {
        1 << state as u16
    }

    fn wants(&self, row: &ConnectionInfo) -> bool {
        let family = if row.local.is_ipv4() {
            self.v4
        } else {
            self.v6
        };
        let is = |wanted: Option<u16>, port| wanted.is_none_or(|wanted| wanted == port);
        family
            && self.states & Self::bit(row.state) != 0
            && is(self.local_port, row.local.port())
            && is(self.remote_port, row.remote.port())
    }
}

/// Where a list goes on; its beginning by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListPlace {
    /// The shard whose list it is: a host that is one of several lists its own, whatever stands here.
    shard: u8,
    table: u8,
    slot: u32,
}

impl ListPlace {
    /// The place as a number, for those who have to send it somewhere.
    pub fn number(self) -> u64 {
        u64::from(self.shard) << 40 | u64::from(self.table) << 32 | u64::from(self.slot)
    }

    /// The shard whose list it is in.
    pub fn shard(self) -> usize {
        usize::from(self.shard)
    }

    /// The beginning of the list of a shard.
    pub fn beginning(shard: usize) -> Self {
        Self {
            shard: u8::try_from(shard).unwrap_or(u8::MAX),
            ..Self::default()
        }
    }

    /// The place of a number; of one that is no place, one the list never had.
    pub fn of(number: u64) -> Self {
        Self {
            shard: u8::try_from(number >> 40).unwrap_or(u8::MAX),
            table: (number >> 32) as u8,
            slot: number as u32,
        }
    }
}

/// The kind of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One socket of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketRow {
    /// Its kind.
    pub transport: Transport,
    /// Addresses, state and queues.
    pub socket: ConnectionInfo,
    /// The name of the interface it is bound to.
    pub device: Option<String>,
    /// The limits of what may wait to be read, and to be sent or acknowledged, bytes; 0: there are none.
    pub buffers: (u32, u32),
    /// Datagrams that found its queue full.
    pub dropped: u64,
    /// What TCP knows of a connection.
    pub tcp: Option<TcpInfo>,
    /// The queues of a listener.
    pub listener: Option<ListenerInfo>,
}

/// A part of a list.
#[derive(Debug, Clone, Default)]
pub struct SocketPage {
    /// The sockets wanted among those looked at.
    pub rows: Vec<SocketRow>,
    /// Where to go on; `None` at the end.
    pub next: Option<ListPlace>,
    /// Sockets there are, wanted or not.
    pub total: u32,
}

/// The tables in the order they are listed; UDP's comes last.
const TABLES: [Table; 4] = [
    Table::Listeners,
    Table::Connections,
    Table::HalfOpen,
    Table::TimeWait,
];
const UDP: usize = TABLES.len();

impl Host {
    /// How many sockets there are, as [`SocketPage::total`] says.
    pub fn sockets(&self) -> u32 {
        self.tcp.sockets() + self.udp.len()
    }

    /// A part of the list of sockets: looks at `look_at` records from `place` on. What comes and goes between two pages may be
    /// listed or not.
    pub fn list(
        &self,
        now: Instant,
        filter: &SocketFilter,
        mut place: ListPlace,
        look_at: u32,
    ) -> SocketPage {
        let mut page = SocketPage {
            total: self.sockets(),
            ..SocketPage::default()
        };
        let mut left = look_at.max(1);
        loop {
            let table = usize::from(place.table);
            let (slots, wanted) = match TABLES.get(table) {
                Some(&table) => (self.tcp.slots(table), filter.tcp),
                None if table == UDP => (self.udp.slots(), filter.udp),
                None => return page, // the end, or no place at all
            };
            if !wanted || place.slot >= slots {
                place = ListPlace {
                    table: place.table + 1,
                    slot: 0,
                    ..place
                };
                continue;
            }
            if left == 0 {
                page.next = Some(place);
                return page;
            }
            page.rows.extend(self.row(now, filter, table, place.slot));
            place.slot += 1;
            left -= 1;
        }
    }

    fn row(
        &self,
        now: Instant,
        filter: &SocketFilter,
        table: usize,
        slot: u32,
    ) -> Option<SocketRow> {
        let Some(&table) = TABLES.get(table) else {
            return self.udp_row(filter, slot);
        };
        let socket = self.tcp.row(table, slot).filter(|row| filter.wants(row))?;
        Some(SocketRow {
            transport: Transport::Tcp,
            socket,
            device: self.name_of(self.tcp.device(table, slot)),
            buffers: self
                .tcp
                .buffers(&self.core, table, slot)
                .unwrap_or_default(),
            dropped: 0,
            tcp: match table {
                Table::Connections => self.tcp.details((&self.core, &self.net), now, slot),
                _ => None,
            },
            listener: match table {
                Table::Listeners => self.tcp.queues(slot),
                _ => None,
            },
        })
    }

    fn name_of(&self, device: Option<InterfaceId>) -> Option<String> {
        self.interface_name(device?).map(str::to_owned)
    }

    fn udp_row(&self, filter: &SocketFilter, slot: u32) -> Option<SocketRow> {
        let (info, receive_buffer) = self.udp.row(slot)?;
        let nobody = wire::Addr::from(info.local.ip()).family();
        let nobody = (wire::Addr::unspecified(nobody).to_ip(), 0).into();
        let socket = ConnectionInfo {
            socket: Some(info.id),
            local: info.local,
            remote: info.peer.unwrap_or(nobody),
            state: match info.peer {
                Some(_) => State::Established,
                None => State::Closed,
            },
            receive_queue: info.queued,
            send_queue: 0,
            rtt: core::time::Duration::ZERO,
            cwnd: 0,
        };
        debug_assert!(info.id.kind() == Some(SocketKind::Udp));
        filter.wants(&socket).then_some(SocketRow {
            transport: Transport::Udp,
            socket,
            device: self.name_of(self.udp.device(slot)),
            buffers: (receive_buffer, 0),
            dropped: info.overflowed,
            tcp: None,
            listener: None,
        })
    }
}
