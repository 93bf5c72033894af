//! Steering: how what arrives reaches the shard it is for, when a host has several.
//!
//! Between each two shards lies a ring each way. Whoever receives a frame looks whose it is (`whose`), keeps what is its own, and
//! copies the rest, with what the device said of it, into the rings of those it is for: packet memory is each shard's own. A
//! shard without a port of its own sends by way of the first one's (`branch`). Who sleeps is woken once for a batch.
//!
//! What does not live here: what a frame does once it is there (the stack), sockets (`sockets`), threads (`shards`).
//!
//! Invariant: a ring never holds up who fills it: what finds it full is dropped and counted.
//! Invariant: what comes by a ring is for the shard that takes it, and goes into no ring again; but for what comes for a connection
//! that was moved meanwhile.
//! Invariant: a shard by itself has none of this, and pays a few branches a turn for that.

mod branch;
mod moved;
mod pieces;
mod udp_ports;
mod whose;

use std::io;
use std::sync::Arc;

use base::{BATCH, Batch, Chain, Instant, Packet, Pool};
use port::Port;
use stack::{Count, Drop as Dropped, Host, InterfaceId, Network, Sharding};

use crate::shard::{Errand, TRANSMITS_A_TURN};
pub(crate) use branch::Branch;
pub(crate) use moved::{Ends, Luggage, Moved};
pub(crate) use pieces::{PLACES_MIN, PieceRx};
use pieces::{PieceTx, pieces};
pub(crate) use udp_ports::{PortClaim, UdpPorts, spreads};
use whose::Table;

/// A frame that was received.
const FRAME: u8 = 0;
/// A packet from its IP header on: see [`Host::poll_diverted`].
const PACKET: u8 = 1;
/// Bytes of a packet that are looked at to tell whose it is.
const HEAD: usize = 512;

/// Another shard, as far as steering knows it.
pub(crate) trait Fellow: Send + Sync {
    /// Wakes it if it sleeps.
    fn wake(&self);
    /// Has it do something with its host.
    fn run(&self, errand: Box<Errand>);
    /// Asks it to end.
    fn stop(&self);
}

/// The rings to another shard and from it.
struct Line {
    tx: PieceTx,
    rx: PieceRx,
    fellow: Arc<dyn Fellow>,
    /// Something was put in that it has not been told of.
    pending: bool,
}

/// What a shard without a port sends by one of this shard's.
struct Uplink {
    port: usize,
    rx: PieceRx,
}

/// What a shard needs to be one of several.
pub(crate) struct Steering {
    table: Table,
    me: u64,
    /// By the number of the other shard.
    lines: Vec<Option<Line>>,
    uplinks: Vec<Uplink>,
    /// What ports had no room for, of what others send by them: by port.
    relays: Vec<Batch>,
    batch: Batch,
    /// Whose ring is looked at first.
    first: usize,
    /// What those that follow were told last, and when that was looked at.
    told: Option<Network>,
    told_epoch: u64,
}

impl Steering {
    /// The steering of each of the shards, joined by rings of so many places.
    ///
    /// # Errors
    /// There is no memory for the rings.
    pub(crate) fn joined(
        shardings: &[Sharding],
        (udp, moved): (&Arc<UdpPorts>, &Arc<Moved>),
        fellows: &[Arc<dyn Fellow>],
        places: usize,
    ) -> io::Result<Vec<Self>> {
        let mut all: Vec<Self> = shardings
            .iter()
            .map(|sharding| Self::new(*sharding, udp.clone(), moved.clone()))
            .collect();
        for a in 0..all.len() {
            for b in 0..a {
                let (to_b, from_a) = pieces(places)?;
                let (to_a, from_b) = pieces(places)?;
                all[a].lines[b] = Some(Line::new(to_b, from_b, &fellows[b]));
                all[b].lines[a] = Some(Line::new(to_a, from_a, &fellows[a]));
            }
        }
        Ok(all)
    }

    fn new(sharding: Sharding, udp: Arc<UdpPorts>, moved: Arc<Moved>) -> Self {
        Self {
            table: Table::new(sharding, udp, moved),
            me: 1 << sharding.shard(),
            lines: (0..sharding.shards()).map(|_| None).collect(),
            uplinks: Vec::new(),
            relays: Vec::new(),
            batch: Batch::new(),
            first: 0,
            told: None,
            told_epoch: u64::MAX,
        }
    }

    /// A shard will send by the port of this number.
    pub(crate) fn add_uplink(&mut self, port: usize, rx: PieceRx) {
        let ports = self.relays.len().max(port + 1);
        self.relays.resize_with(ports, Batch::new);
        self.uplinks.push(Uplink { port, rx });
    }

    /// Leaves in `batch` what is for this shard, and hands over the rest.
    pub(crate) fn sort(
        &mut self,
        host: &mut Host,
        now: &mut Instant,
        interface: InterfaceId,
        batch: &mut Batch,
    ) {
        for _ in 0..batch.len() {
            let Some(packet) = batch.pop_front() else {
                break;
            };
            let whose = self.table.whose(host.pool().first(&packet.chain));
            if let Some(own) = self.hand_over(host, whose, (FRAME, interface), packet)
                && let Err(packet) = batch.push(own)
            {
                host.pool_mut().free(packet.chain); // there is room: one was taken out
            }
        }
        self.receive_moved(host, now);
        self.flush();
    }

    /// Takes in the connections that have come: before what has come for them.
    fn receive_moved(&self, host: &mut Host, now: &mut Instant) {
        let shard = self.table.sharding().shard();
        self.table.moved().receive(shard, host, now);
    }

    /// Gives a packet to the shards of `whose`; comes back if this is one of them.
    fn hand_over(
        &mut self,
        host: &mut Host,
        whose: u64,
        what: (u8, InterfaceId),
        packet: Packet,
    ) -> Option<Packet> {
        let mut others = whose & !self.me;
        while others != 0 {
            let to = others.trailing_zeros() as usize;
            others &= others - 1;
            if let Some(Some(line)) = self.lines.get_mut(to) {
                match line.put(host.pool(), what, &packet) {
                    true => host.count(Count::Steered),
                    false => host.drop_packet(Chain::EMPTY, Dropped::ShardRingFull),
                }
            }
        }
        if whose & self.me != 0 {
            return Some(packet);
        }
        host.pool_mut().free(packet.chain);
        None
    }

    /// Tells those that something was put in for.
    fn flush(&mut self) {
        for line in self.lines.iter_mut().flatten() {
            line.tell();
        }
    }

    /// Takes what others have handed over, of each as many as a port gives at a time: how many.
    pub(crate) fn take(&mut self, host: &mut Host, now: &mut Instant) -> usize {
        let mut taken = 0;
        let mut at = InterfaceId(0);
        let shard = self.table.sharding().shard();
        let mut astray = Vec::new();
        self.first = (self.first + 1) % self.lines.len();
        for n in 0..self.lines.len() {
            let from = (self.first + n) % self.lines.len();
            let Some(line) = &mut self.lines[from] else {
                continue;
            };
            for _ in 0..BATCH {
                // Without memory it stays where it is.
                let Some((kind, interface, packet)) = line.get(host.pool_mut()) else {
                    break;
                };
                taken += 1;
                if kind != FRAME || interface != at || self.batch.is_full() {
                    self.table.moved().receive(shard, host, now);
                    host.handle_batch(*now, at, &mut self.batch);
                    at = interface;
                }
                if self
                    .table
                    .strays(kind == FRAME, host.pool().first(&packet.chain))
                {
                    astray.push((kind, interface, packet));
                } else if kind == PACKET {
                    host.handle_diverted(*now, interface, packet);
                } else if let Err(packet) = self.batch.push(packet) {
                    host.pool_mut().free(packet.chain); // it has just been emptied
                }
            }
            line.rx.commit();
        }
        self.table.moved().receive(shard, host, now);
        if !self.batch.is_empty() {
            host.handle_batch(*now, at, &mut self.batch);
        }
        self.send_on(host, now, astray);
        taken
    }

    /// What has come for connections that have gone goes where these are.
    fn send_on(
        &mut self,
        host: &mut Host,
        now: &mut Instant,
        astray: Vec<(u8, InterfaceId, Packet)>,
    ) {
        if astray.is_empty() {
            return;
        }
        for (kind, interface, packet) in astray {
            let whose = match kind {
                FRAME => self.table.whose(host.pool().first(&packet.chain)),
                _ => self
                    .table
                    .whose_packet(host.pool().first(&packet.chain), false),
            };
            // Back again already.
            match self.hand_over(host, whose, (kind, interface), packet) {
                Some(own) if kind == PACKET => host.handle_diverted(*now, interface, own),
                Some(own) => {
                    if let Err(own) = self.batch.push(own) {
                        host.pool_mut().free(own.chain); // it is empty
                    }
                    self.table
                        .moved()
                        .receive(self.me.trailing_zeros() as usize, host, now);
                    host.handle_batch(*now, interface, &mut self.batch);
                }
                None => {}
            }
        }
        self.flush();
    }

    /// Sees to the packets of which the stack does not know whose they are; whether there were any.
    pub(crate) fn divert(&mut self, host: &mut Host, now: Instant) -> bool {
        if !host.has_diverted() {
            return false;
        }
        // As many as are there now: a socket may talk to itself.
        for _ in 0..BATCH {
            let Some((interface, packet)) = host.poll_diverted() else {
                break;
            };
            let mut head = [0; HEAD];
            let n = host.pool().copy_out(&packet.chain, 0, &mut head);
            let whose = self.table.whose_packet(&head[..n], false);
            if let Some(own) = self.hand_over(host, whose, (PACKET, interface), packet) {
                host.handle_diverted(now, interface, own);
            }
        }
        self.flush();
        true
    }

    /// Sends by a port what shards without one have given; whether there was anything.
    pub(crate) fn relay(&mut self, at: usize, port: &mut dyn Port, pool: &mut Pool) -> bool {
        let Some(batch) = self.relays.get_mut(at) else {
            return false;
        };
        let mut any = false;
        for uplink in self.uplinks.iter_mut().filter(|uplink| uplink.port == at) {
            for _ in 0..TRANSMITS_A_TURN {
                while !batch.is_full() {
                    let Some((_, packet)) = uplink.rx.get(pool) else {
                        break;
                    };
                    if let Err(packet) = batch.push(packet) {
                        pool.free(packet.chain);
                    }
                }
                if !batch.is_empty() {
                    any |= port.transmit(pool, batch) > 0;
                }
                if uplink.rx.is_empty() || !batch.is_empty() {
                    break;
                }
            }
            uplink.rx.commit();
        }
        any
    }

    /// Nothing is left of some connections that were moved here: what comes for such ends goes by its hash again.
    pub(crate) fn note_ends(&self, host: &mut Host) {
        if self.table.moved().is_empty() {
            return;
        }
        let sharding = *self.table.sharding();
        while let Some((local, remote)) = host.poll_tcp_end() {
            let ends = (local, remote);
            self.table.moved().forget(&ends, sharding.shard());
            let home = sharding.home(&remote.0, remote.1, local.1);
            if let Some(Some(line)) = self.lines.get(home) {
                let returned = move |host: &mut Host, _| host.tcp_lend(local, remote, false);
                line.fellow.run(Box::new(returned));
            }
        }
    }

    /// Takes note of the ports that an application on this shard has bound or given up.
    pub(crate) fn note_ports(&self, host: &mut Host) {
        let shard = self.table.sharding().shard();
        while let Some((port, used)) = host.poll_udp_port() {
            self.table.udp().mark(port, shard, used);
        }
    }

    /// Tells those that follow of what has changed here.
    pub(crate) fn tell_network(&mut self, host: &Host) {
        let leads = self.table.sharding().leads();
        if !leads || host.network_epoch() == self.told_epoch {
            return;
        }
        self.told_epoch = host.network_epoch();
        let network = host.network();
        if self.told.as_ref() == Some(&network) {
            return;
        }
        let shared = Arc::new(network.clone());
        for line in self.lines.iter().flatten() {
            let network = shared.clone();
            let follow = move |host: &mut Host, now| host.follow(now, &network);
            line.fellow.run(Box::new(follow));
        }
        self.told = Some(network);
    }

    /// Tells the leading shard what this one has joined and left.
    pub(crate) fn tell_groups(&self, host: &mut Host) {
        if !host.has_group_changes() {
            return;
        }
        let Some(Some(leader)) = self.lines.first() else {
            return;
        };
        while let Some(change) = host.poll_group_change() {
            let tell = move |host: &mut Host, now| host.handle_group_change(now, change);
            leader.fellow.run(Box::new(tell));
        }
    }

    /// Whether there is something to take. To be asked between [`crate::wake::Wake::prepare`] and the sleep.
    pub(crate) fn has_work(&self) -> bool {
        let lines = self.lines.iter().flatten();
        let waits = |uplink: &&Uplink| {
            let stuck = self.relays.get(uplink.port).is_some_and(|b| !b.is_empty());
            !stuck && !uplink.rx.is_empty()
        };
        lines.into_iter().any(|line| !line.rx.is_empty()) || self.uplinks.iter().any(|u| waits(&u))
    }

    /// Whether a port had no room for what another shard sends.
    pub(crate) fn is_stuck(&self) -> bool {
        self.relays.iter().any(|batch| !batch.is_empty())
    }

    /// Gives back the packet memory it holds.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        self.batch.clear(pool);
        for line in self.lines.iter_mut().flatten() {
            line.rx.release(pool);
        }
        for uplink in &mut self.uplinks {
            uplink.rx.release(pool);
        }
        for batch in &mut self.relays {
            batch.clear(pool);
        }
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        for line in self.lines.iter_mut().flatten() {
            line.tx.commit();
            // A host without one of its shards is of no use.
            match std::thread::panicking() {
                true => line.fellow.stop(),
                false => line.fellow.wake(),
            }
        }
    }
}

impl Line {
    fn new(tx: PieceTx, rx: PieceRx, fellow: &Arc<dyn Fellow>) -> Self {
        Self {
            tx,
            rx,
            fellow: fellow.clone(),
            pending: false,
        }
    }

    /// False when there is no room.
    fn put(&mut self, pool: &Pool, (kind, interface): (u8, InterfaceId), packet: &Packet) -> bool {
        let put = self.tx.put(pool, [kind, interface.0], packet);
        // Whoever finds the ring full wakes who empties it, too.
        self.pending = true;
        put
    }

    fn tell(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.tx.commit();
            self.fellow.wake();
        }
    }

    /// The next, copied into this shard's memory. `None` when there is none, or no memory.
    fn get(&mut self, pool: &mut Pool) -> Option<(u8, InterfaceId, Packet)> {
        let ([kind, interface], packet) = self.rx.get(pool)?;
        Some((kind, InterfaceId(interface), packet))
    }
}

#[cfg(test)]
mod tests;
