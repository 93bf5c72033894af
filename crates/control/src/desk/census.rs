//! Connections counted by state and application, from a list of them that is read in pages.
//!
//! What does not live here: reading the list (`desk`), what is made of the counts (`millstream ss --explain`).
//!
//! Invariant: bounded, however many connections, peers and applications there are.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use stack::{ListenerInfo, SocketRow, State, Transport};

use super::{ms, name};
use crate::words::census::{Group, Listener, PEERS, Queues};

/// Groups that are kept; the connections of more are counted in none.
const GROUPS: usize = 4_096;
/// The largest of them, which are told.
const TOLD: usize = 256;
/// Peers that are named in each.
const NAMED: usize = 3;
/// Silent for so long.
const SILENT_MS: u64 = 10_000;
/// Where ephemeral ports begin, on hosts that say nothing else.
const EPHEMERAL: u16 = 32_768;

/// What a connection may still have to do when nobody holds it any more.
const ENDING: [State; 4] = [
    State::FinWait1,
    State::FinWait2,
    State::Closing,
    State::LastAck,
];

/// State, application, whether it came by a listener, whether somebody holds it.
type Key = (State, SocketAddr, bool, bool);

/// What has been counted so far. Listeners come first in a list.
#[derive(Debug, Default)]
pub(super) struct Fold {
    listeners: Vec<Listener>,
    by_port: HashMap<u16, Vec<IpAddr>>,
    groups: HashMap<Key, (Group, HashMap<IpAddr, u64>)>,
    /// As of [`Census`](crate::words::census::Census).
    pub(super) sockets: u64,
    pub(super) orphans: (u64, u64),
    pub(super) udp_bytes: u64,
}

pub(super) fn queues(info: &ListenerInfo) -> Queues {
    Queues {
        accept_queue: info.accept_queue,
        backlog: info.backlog,
        syn_queue: info.syn_queue,
        drops: info.drops,
        overflows: info.overflows,
    }
}

impl Fold {
    /// Counts one socket.
    pub(super) fn take(&mut self, row: &SocketRow) {
        let local = row.socket.local;
        self.sockets += u64::from(row.transport == Transport::Tcp);
        match (row.transport, &row.listener) {
            (Transport::Udp, _) => self.udp_bytes += u64::from(row.socket.receive_queue),
            (Transport::Tcp, Some(info)) => {
                let ips = self.by_port.entry(local.port()).or_default();
                ips.push(local.ip());
                let queues = queues(info);
                self.listeners.push(Listener { local, queues });
            }
            (Transport::Tcp, None) => self.connection(row),
        }
    }

    /// The application of a connection, and whether it serves: by its listener's address, or where it goes to.
    fn application(&self, local: SocketAddr, remote: SocketAddr) -> (SocketAddr, bool) {
        let Some(ips) = self.by_port.get(&local.port()) else {
            return match local.port() >= EPHEMERAL {
                true => (remote, false),
                // Its listener is closed.
                false => (local, true),
            };
        };
        let found = ips.iter().find(|ip| **ip == local.ip());
        let family = |ip: &&IpAddr| ip.is_unspecified() && ip.is_ipv4() == local.is_ipv4();
        let found = found.or_else(|| ips.iter().find(family));
        let found = found.or_else(|| ips.iter().find(|ip| ip.is_unspecified()));
        let ip = found.copied().unwrap_or(local.ip());
        (SocketAddr::new(ip, local.port()), true)
    }

    fn connection(&mut self, row: &SocketRow) {
        let socket = &row.socket;
        let (app, serves) = self.application(socket.local, socket.remote);
        let held = socket.socket.is_some();
        if !held && ENDING.contains(&socket.state) {
            self.orphans.0 += 1;
            self.orphans.1 += u64::from(socket.send_queue);
        }
        let key = (socket.state, app, serves, held);
        if self.groups.len() >= GROUPS && !self.groups.contains_key(&key) {
            return;
        }
        let (group, peers) = self.groups.entry(key).or_insert_with(|| {
            let group = Group::new(name(socket.state), app, serves, held);
            (group, HashMap::new())
        });
        group.count += 1;
        group.recv_bytes += u64::from(socket.receive_queue);
        group.send_bytes += u64::from(socket.send_queue);
        if let Some(tcp) = &row.tcp {
            let silent = ms(tcp.since_received);
            group.silent += u64::from(silent >= SILENT_MS);
            group.silent_most_ms = group.silent_most_ms.max(silent);
            group.timed_out += u64::from(tcp.timeouts > 0);
            if let Some(account) = &tcp.account {
                group.data_segs_out += u64::from(account.data_segments_out);
                group.retrans_segs += u64::from(account.retransmits);
            }
        }
        let ip = socket.remote.ip();
        if peers.len() < PEERS || peers.contains_key(&ip) {
            *peers.entry(ip).or_default() += 1;
        }
    }

    /// The largest groups, and all listeners.
    pub(super) fn finish(self) -> (Vec<Group>, Vec<Listener>) {
        let finished = self.groups.into_values().map(|(mut group, peers)| {
            group.peer_count = peers.len() as u32;
            group.peers = peers.into_iter().collect();
            group
                .peers
                .sort_by_key(|(ip, n)| (std::cmp::Reverse(*n), *ip));
            group.peers.truncate(NAMED);
            group
        });
        let mut groups: Vec<Group> = finished.collect();
        groups.sort_by(|a, b| {
            let order = |group: &Group| (group.state.clone(), group.app);
            b.count.cmp(&a.count).then_with(|| order(a).cmp(&order(b)))
        });
        groups.truncate(TOLD);
        (groups, self.listeners)
    }
}
