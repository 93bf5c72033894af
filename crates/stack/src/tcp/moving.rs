//! A connection goes from one host to another that is a shard of the same: everything it has leaves one, and is put into the other.
//!
//! The bytes of its queues are copied, for packet memory is each shard's own; records of slabs go as they are, and are linked
//! anew. The timer goes off when it was to: all shards have one clock, though one may not have looked at it for as long as another. Of what the host knows of the way (path MTUs, neighbours)
//! nothing goes along, and what is saved of its SYN is forgotten.
//!
//! What does not live here: how frames find the shard, and whose the connection is there (the engine).
//!
//! Invariant: a connection is on one host, or in a [`TcpParcel`]; who drops that drops the connection.
//! Invariant: taking one leaves nothing behind but, for as long as a list holds it, its record, closed.

use base::{Instant, Seq, TimerId};
use wire::Addr;

use crate::context::{Core, TimerKind};
use crate::error::SocketError;
use crate::net::Net;
use crate::socket::{SocketId, SocketKind};
use crate::stats::Count;

use super::acc_ecn::AccEcn;
use super::call::Ends;
use super::congestion::{Bbr, Control, Model};
use super::conn;
use super::edges::Places;
use super::inflow::Inflow;
use super::ledger::Ledger;
use super::mtu_probe::Search;
use super::profile::TcpOptions;
use super::record::{Active, NONE, State, Tcb, flag, more};
use super::recovery::Episode;
use super::segment::flow_bytes;
use super::sent::{Board, Flown};
use super::{KIND_CONNECTION, Tcp, flow_index};

/// Of packet memory so much is left to others: one part in so many.
const LEFT: u32 = 8;

/// A connection that is on no host.
#[derive(Debug)]
pub struct TcpParcel(Box<Parcel>);

#[derive(Debug)]
struct Parcel {
    /// When it was taken.
    at: Instant,
    tcb: Tcb,
    local: Addr,
    options: TcpOptions,
    /// When its timer is to go off.
    timer: Option<Instant>,
    active: Option<Contents>,
    control: Option<(Control, Option<Bbr>)>,
    ledger: Option<Ledger>,
    search: Option<Search>,
    acc_ecn: Option<AccEcn>,
    inflow: Option<Inflow>,
}

/// What an active part holds.
#[derive(Debug)]
struct Contents {
    act: Active,
    sent: Vec<u8>,
    unsent: Vec<u8>,
    recv: Vec<u8>,
    /// Out of order, by where they begin.
    ranges: Vec<(Seq, Vec<u8>)>,
    flown: Flown,
    episode: Option<Episode>,
    places: Option<Places>,
}

impl Contents {
    fn queues(&self) -> impl Iterator<Item = &Vec<u8>> {
        let ranges = self.ranges.iter().map(|(_, bytes)| bytes);
        [&self.sent, &self.unsent, &self.recv]
            .into_iter()
            .chain(ranges)
    }
}

impl TcpParcel {
    /// When it was taken. Where it is put time must not be before that, nor be so later: what was sent would come before it left.
    pub fn taken_at(&self) -> Instant {
        self.0.at
    }

    /// Its two ends: the local one and the remote.
    pub fn ends(&self) -> Ends {
        let Parcel { tcb, local, .. } = &*self.0;
        ((*local, tcb.local_port), (tcb.remote, tcb.remote_port))
    }
}

/// Out.
impl Tcp {
    /// Whether a connection may go.
    fn may_go(&self, net: &Net, index: u32) -> Result<(), SocketError> {
        let tcb = self.conns.at(index).ok_or(SocketError::BadSocket)?;
        let act = self.actives.at(tcb.active);
        match tcb.state {
            State::SynSent | State::SynReceived => return Err(SocketError::InProgress),
            State::Listen | State::TimeWait | State::Closed => {
                return Err(SocketError::NotConnected);
            }
            _ => {}
        }
        if tcb.opening() || act.is_some_and(|act| act.fast() != NONE) {
            return Err(SocketError::InProgress);
        }
        // Both ends of a connection to the host itself are on one shard; and marks are the host's.
        if net.is_local(&tcb.remote) || self.marks.watched(index) {
            return Err(SocketError::NotSupported);
        }
        Ok(())
    }

    /// See [`crate::Host::tcp_take`].
    pub(crate) fn take(
        &mut self,
        core: &mut Core,
        net: &Net,
        id: SocketId,
    ) -> Result<TcpParcel, SocketError> {
        let index = self.live(id)?;
        self.may_go(net, index)?;
        let control = self.take_control(index);
        core.begin_account();
        let active = self.take_contents(core, index);
        core.end_account();
        let Some(record) = self.conns.at(index) else {
            return Err(SocketError::BadSocket);
        };
        let profile = self.profiles.get(record.profile);
        let mut tcb = record.clone();
        (tcb.active, tcb.send_link, tcb.token) = (NONE, NONE, 0);
        tcb.flags &= !(flag::SEND_QUEUED | flag::READY_QUEUED);
        tcb.timer = TimerId::NONE;
        tcb.take_raised();
        tcb.set_ready_link(NONE);
        let parcel = Parcel {
            at: core.now,
            local: profile.local,
            options: profile.options.clone(),
            timer: core.wheel.deadline(record.timer),
            active,
            control,
            ledger: self.ledgers.take(index),
            search: self.searches.take(index),
            acc_ecn: self.acc_ecns.take(index),
            inflow: self.take_inflow(index),
            tcb,
        };
        let parcel = TcpParcel(Box::new(parcel));
        self.unwatch_end(&parcel.ends());
        self.bury(core, index);
        core.count(Count::TcpMovedOut);
        Ok(parcel)
    }

    /// What is left of a connection that has gone ends without a word.
    fn bury(&mut self, core: &mut Core, index: u32) {
        self.orphan(index);
        if let Some(husk) = self.conns.at_mut(index) {
            husk.more = 0;
        }
        self.dissolve(core, index, None);
    }

    fn take_control(&mut self, index: u32) -> Option<(Control, Option<Bbr>)> {
        let control = self.detach_control(index);
        let control = self.controls.remove_at(control)?;
        let model = match &control {
            Control::Bbr(Model(model)) => self.models.remove_at(*model),
            _ => None,
        };
        Some((control, model))
    }

    /// Empties the active part.
    fn take_contents(&mut self, core: &mut Core, index: u32) -> Option<Contents> {
        let active = self.conns.at(index)?.active;
        let act = self.actives.at_mut(active)?;
        let mut act = core::mem::replace(act, Active::new(NONE));
        let mut bytes = |chain: base::Chain| {
            let mut bytes = vec![0; chain.len()];
            core.pool.copy_out(&chain, 0, &mut bytes);
            core.pool.free(chain);
            bytes
        };
        let (sent, unsent) = (bytes(act.sent.take()), bytes(act.unsent.take()));
        let recv = bytes(act.recv.take());
        let mut ranges = Vec::with_capacity(act.ooo_nodes.into());
        let mut node = core::mem::replace(&mut act.ooo, NONE);
        while let Some(range) = self.ranges.at_mut(node) {
            ranges.push((range.start, bytes(range.data.take())));
            let next = range.next;
            conn::remove_node(&mut self.ranges, node);
            node = next;
        }
        act.ooo_nodes = 0;
        let (flight, nodes) = (&mut act.flight, &mut self.nodes);
        let flown = Board {
            flight,
            nodes,
            mss: 1,
        }
        .take_out();
        let episode = core::mem::replace(&mut act.episode, NONE);
        Some(Contents {
            episode: self.episodes.remove_at(episode),
            places: self.edges.take_out(&mut act.edges),
            act,
            sent,
            unsent,
            recv,
            ranges,
            flown,
        })
    }
}

/// In.
impl Tcp {
    /// See [`crate::Host::tcp_put`].
    pub(crate) fn put(
        &mut self,
        core: &mut Core,
        parcel: TcpParcel,
    ) -> Result<SocketId, (TcpParcel, SocketError)> {
        if let Err(error) = self.has_room_for(core, &parcel.0) {
            return Err((parcel, error));
        }
        let Some(profile) = self.profiles.acquire(parcel.0.local, &parcel.0.options) else {
            return Err((parcel, SocketError::NoBuffers));
        };
        let mut tcb = parcel.0.tcb.clone();
        tcb.profile = profile;
        tcb.more &= (1 << more::INFLOW_SHIFT) - 1;
        let flow = flow_bytes(
            &tcb.remote,
            tcb.remote_port,
            &parcel.0.local,
            tcb.local_port,
        );
        let Some(key) = self.conns.insert(tcb) else {
            self.profiles.release(profile);
            return Err((parcel, SocketError::NoBuffers));
        };
        let (hash, index) = (self.flows.hash(&flow), key.index);
        if self
            .flows
            .insert(hash, flow_index(KIND_CONNECTION, index))
            .is_err()
        {
            self.conns.remove(key);
            self.profiles.release(profile);
            return Err((parcel, SocketError::NoBuffers));
        }
        self.unpack(core, index, *parcel.0);
        core.count(Count::TcpMovedIn);
        Ok(SocketId::new(SocketKind::Tcp, key))
    }

    fn has_room_for(&self, core: &Core, parcel: &Parcel) -> Result<(), SocketError> {
        let (tcb, local) = (&parcel.tcb, &parcel.local);
        let (remote, port) = ((&tcb.remote, tcb.remote_port), tcb.local_port);
        let hash = self
            .flows
            .hash(&flow_bytes(remote.0, remote.1, local, port));
        let same = |entry| self.matches(entry, remote.0, remote.1, local, port);
        if self.flows.find(hash, same).is_some() {
            return Err(SocketError::AddrInUse);
        }
        let full = self.conns.is_full()
            || self.controls.is_full()
            || self.models.is_full()
            || self.actives.is_full()
            || self.episodes.is_full();
        let fits = parcel.active.as_ref().is_none_or(|held| {
            let blocks = |bytes: &Vec<u8>| bytes.len().div_ceil(base::BLOCK) as u32 + 1;
            let wanted: u32 = held.queues().map(blocks).sum();
            let (room, keep) = (core.pool.available(), core.pool.capacity() / LEFT);
            let ranges = self.ranges.capacity() - self.ranges.len();
            wanted <= room.saturating_sub(keep)
                && held.ranges.len() as u32 <= ranges
                && held.flown.fits(&self.nodes)
                && held.places.as_ref().is_none_or(|p| self.edges.fits(p))
        });
        match full || !fits {
            true => Err(SocketError::NoBuffers),
            false => Ok(()),
        }
    }

    /// Gives a connection that has just been entered what it has brought.
    fn unpack(&mut self, core: &mut Core, index: u32, parcel: Parcel) {
        let control = self.put_control(parcel.control);
        let whole = match parcel.active {
            Some(held) => {
                core.begin_account();
                let whole = self.put_contents(core, index, held, control);
                core.end_account();
                whole
            }
            None => {
                if let Some(tcb) = self.conns.at_mut(index) {
                    tcb.rest(control);
                }
                true
            }
        };
        if let Some(ledger) = parcel.ledger {
            self.ledgers.open(index, ledger);
        }
        if let Some(search) = parcel.search {
            self.searches.open(index, search);
        }
        if let Some(acc_ecn) = parcel.acc_ecn {
            self.acc_ecns.open(index, acc_ecn);
        }
        if let Some(inflow) = parcel.inflow {
            self.put_inflow(core, index, inflow);
        }
        if !whole {
            // There was room for all of it a moment ago.
            return self.dissolve(core, index, Some(SocketError::NoBuffers));
        }
        if let Some(at) = parcel.timer
            && let Some(tcb) = self.conns.at_mut(index)
        {
            let timer = core.arm(at, TimerKind::Tcp, index, 0);
            tcb.timer = timer.unwrap_or(TimerId::NONE);
        }
        self.queue_send(index);
        let ready = self.readiness(core, index);
        self.raise(index, ready);
    }

    fn put_control(&mut self, control: Option<(Control, Option<Bbr>)>) -> u32 {
        let Some((mut control, model)) = control else {
            return NONE;
        };
        if let Control::Bbr(Model(place)) = &mut control {
            let model = model.and_then(|model| self.models.insert(model));
            match model {
                Some(model) => *place = model.index,
                None => return NONE,
            }
        }
        self.controls.insert(control).map_or(NONE, |key| key.index)
    }

    /// False when there is no memory for all of it.
    fn put_contents(&mut self, core: &mut Core, index: u32, held: Contents, control: u32) -> bool {
        let Contents {
            mut act,
            sent,
            unsent,
            recv,
            ranges,
            flown,
            episode,
            places,
        } = held;
        let mut whole = true;
        let mut chain = |bytes: &[u8]| {
            let mut chain = base::Chain::EMPTY;
            whole &= core.pool.append_bytes(&mut chain, bytes) == bytes.len();
            chain
        };
        (act.sent, act.unsent, act.recv) = (chain(&sent), chain(&unsent), chain(&recv));
        let mut behind = Vec::with_capacity(ranges.len());
        for (start, bytes) in ranges {
            behind.push((start, chain(&bytes)));
        }
        act.control = control;
        act.episode = episode
            .and_then(|episode| self.episodes.insert(episode))
            .map_or(NONE, |key| key.index);
        let (una, mss) = match self.conns.at(index) {
            Some(tcb) => (tcb.snd_una, u32::from(tcb.mss)),
            None => (Seq(0), 1),
        };
        let (flight, nodes) = (&mut act.flight, &mut self.nodes);
        let mut board = Board { flight, nodes, mss };
        whole &= board.put_in(&core.pool, flown, (&act.sent, una));
        if let Some(places) = places {
            whole &= self.edges.put_in(&mut act.edges, places);
        }
        whole &= conn::put_ranges(core, &mut self.ranges, &mut act, behind);
        match (self.actives.insert(act), self.conns.at_mut(index)) {
            (Some(key), Some(tcb)) => tcb.active = key.index,
            // It was looked for before.
            _ => whole = false,
        }
        whole
    }
}
