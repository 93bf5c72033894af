//! What must hold between any two calls, looked at in one sweep over all records: for simulations, fuzzing and tests.
//!
//! What does not live here: repairing anything, and anything a packet path calls.
//!
//! Invariant: an audit changes nothing, and visits each record once.

use base::{Chain, Instant, Key, Order, Pool};

use crate::context::{Core, TimerKind, timer_token};
use crate::stats::Count;

use super::congestion::Control;
use super::record::{Active, HalfOpen, NONE, Repair, State, Tcb, TimeWait, flag};
use super::segment::flow_bytes;
use super::{KIND_CONNECTION, KIND_HALF_OPEN, KIND_TIME_WAIT, List, Tcp, flow_index};

type Found = Result<(), String>;

/// An error that says what is broken, unless `holds`.
fn must(holds: bool, broken: &str) -> Found {
    if holds {
        Ok(())
    } else {
        Err(broken.to_owned())
    }
}

/// The members of a singly linked list; an error for one with a loop or a wrong tail.
fn members(list: List, most: u32, next: impl Fn(u32) -> Option<u32>) -> Result<Vec<u32>, String> {
    let mut found = Vec::new();
    let (mut at, mut last) = (list.head, NONE);
    while at != NONE {
        must(found.len() < most as usize, "a list has a loop")?;
        found.push(at);
        last = at;
        at = next(at).ok_or("a list names a record that is not there")?;
    }
    must(last == list.tail, "a list's tail is not its last")?;
    Ok(found)
}

impl Tcp {
    /// The first of TCP's invariants that does not hold.
    pub(crate) fn audit(&self, core: &Core) -> Found {
        self.audit_connections(core)?;
        self.audit_half_open(core)?;
        self.audit_time_wait(core)?;
        let open = |tcb: &Tcb| tcb.state != State::Closed;
        let alive = |index| self.conns.at(index).is_some_and(open);
        self.marks.audit(self.conns.high_water(), alive)?;
        self.audit_lists()?;
        self.audit_inflows()?;
        must(
            self.segments_held(&core.pool) == core.memory.held() as usize,
            "the account of memory is not what the queues hold",
        )?;
        self.audit_totals()
    }

    /// Segments of packet memory that all queues hold.
    pub(crate) fn segments_held(&self, pool: &Pool) -> usize {
        let queues = self
            .actives
            .iter()
            .flat_map(|(_, a)| [&a.sent, &a.unsent, &a.recv]);
        let ranges = self.ranges.iter().map(|(_, range)| &range.data);
        queues
            .chain(ranges)
            .map(|chain: &Chain| pool.segments(chain))
            .sum()
    }

    /// Whether the flow table leads from a tuple to this entry.
    fn is_entered(&self, remote: (&wire::Addr, u16), profile: u16, port: u16, entry: u32) -> bool {
        let local = &self.profiles.get(profile).local;
        let hash = self
            .flows
            .hash(&flow_bytes(remote.0, remote.1, local, port));
        self.flows
            .find(hash, |e| self.matches(e, remote.0, remote.1, local, port))
            == Some(entry)
    }

    fn audit_connections(&self, core: &Core) -> Found {
        for (key, tcb) in self.conns.iter() {
            self.audit_connection(core, key.index, tcb)
                .map_err(|broken| {
                    let act = self.actives.at(tcb.active);
                    format!("{broken}\n{tcb:?}\n{act:?}")
                })?;
        }
        Ok(())
    }

    fn audit_connection(&self, core: &Core, index: u32, tcb: &Tcb) -> Found {
        let entry = flow_index(KIND_CONNECTION, index);
        let act = self.actives.at(tcb.active);
        must(
            tcb.is_idle() || act.is_some(),
            "an active part that is not there",
        )?;
        if tcb.state == State::Closed {
            return self.audit_closed(tcb, act);
        }
        let remote = (&tcb.remote, tcb.remote_port);
        must(
            self.is_entered(remote, tcb.profile, tcb.local_port, entry),
            "the flow table does not know the connection",
        )?;
        audit_numbers(tcb, act)?;
        self.audit_timer(core, index, tcb, act)?;
        self.searches.audit(index, tcb)?;
        let fast = act.map_or(NONE, Active::fast);
        must(
            tcb.opening() == self.pending_of(fast).is_some(),
            "an opening connection without its Fast Open record, or another with one",
        )?;
        let Some(act) = act else {
            return Ok(());
        };
        self.audit_flight(tcb, act)?;
        self.audit_out_of_order(tcb, act)
    }

    /// CLOSED: nothing is sent, timed or entered any more; only what can be read is kept.
    fn audit_closed(&self, tcb: &Tcb, act: Option<&Active>) -> Found {
        must(tcb.timer.is_none(), "a timer after CLOSED")?;
        let linked = flag::SEND_QUEUED | flag::READY_QUEUED | flag::UNACCEPTED;
        must(
            !tcb.has(flag::ORPHAN) || tcb.flags & linked != 0,
            "a dead record that nobody will free",
        )?;
        let idle = act.is_none_or(|act| {
            act.sent.is_null()
                && act.unsent.is_null()
                && (act.ooo, act.episode) == (NONE, NONE)
                && (act.edges == NONE || self.edges.urgent(tcb, act).is_some())
                && act.flight.is_empty()
                && act.deadline() == Instant::FAR
        });
        must(idle, "queues or deadlines after CLOSED")
    }

    /// RFC 6298 5.1, RFC 9293 3.8.6.1: whoever waits for an ACK, or to send, has a deadline, and a timer no later than that.
    /// One on the way to the transmit pass gets both there.
    fn audit_timer(&self, core: &Core, index: u32, tcb: &Tcb, act: Option<&Active>) -> Found {
        if tcb.timer.is_some() {
            let token = core.wheel.token(tcb.timer);
            must(
                token == Some(timer_token(TimerKind::Tcp, index, 0)),
                "the timer is not the connection's own",
            )?;
        }
        if tcb.has(flag::SEND_QUEUED) || core.stats.counts.get(Count::TimerTableFull) > 0 {
            return Ok(());
        }
        let connecting = matches!(tcb.state, State::SynSent | State::SynReceived);
        let fin_due = tcb.state.fin_queued() && !tcb.has(flag::FIN_SENT);
        let unsent = act.is_some_and(|act| !act.unsent.is_empty());
        let connecting = connecting && !tcb.deferred();
        if connecting || fin_due || unsent || tcb.outstanding() > 0 {
            must(
                tcb.timer.is_some(),
                "unacknowledged or blocked data without a timer",
            )?;
            let waits = |act: &Active| act.paced && tcb.outstanding() == 0;
            must(
                act.is_none_or(|act| act.rto_at != Instant::FAR || waits(act)),
                "neither the retransmission nor the persist timer runs",
            )?;
        }
        let deadline = act.map_or(Instant::FAR, Active::deadline);
        must(
            deadline == Instant::FAR
                || core
                    .wheel
                    .deadline(tcb.timer)
                    .is_some_and(|at| at <= deadline),
            "the timer goes off after the deadline",
        )?;
        let options = &self.profiles.get(tcb.profile).options;
        let idle = act.is_none() && matches!(tcb.state, State::Established | State::CloseWait);
        must(
            !idle || tcb.timer.is_none() || options.keepalive.is_some(),
            "an idle connection has a timer",
        )
    }

    /// What is known of what is in flight, and the edges of a repair.
    fn audit_flight(&self, tcb: &Tcb, act: &Active) -> Found {
        let connecting = matches!(tcb.state, State::SynSent | State::SynReceived);
        let end = if connecting { tcb.snd_una } else { tcb.snd_nxt };
        act.flight
            .audit(&self.nodes, (tcb.snd_una, end), tcb.has(flag::SACK))?;
        must(
            act.flight.sacked <= tcb.outstanding(),
            "more SACKed than in flight",
        )?;
        must(
            act.episode == NONE || self.episodes.at(act.episode).is_some(),
            "a loss episode that is not there",
        )?;
        match act.repair {
            Repair::Open => return Ok(()),
            Repair::Reduction => {
                return must(
                    tcb.snd_una.le(act.recover) && tcb.outstanding() > 0,
                    "a reduction without an end",
                );
            }
            _ => {}
        }
        must(
            act.rtt_at == Instant::FAR,
            "a round trip is timed that may be of a copy (Karn)",
        )?;
        must(
            tcb.snd_una.lt(act.recover) && act.recover.le(tcb.snd_nxt),
            "the repair's end is not in flight",
        )
    }

    /// The receiver's out-of-order ranges.
    fn audit_out_of_order(&self, tcb: &Tcb, act: &Active) -> Found {
        let (mut node, mut count, mut edge) = (act.ooo, 0, tcb.rcv_nxt);
        while let Some(range) = self.ranges.at(node) {
            must(
                edge.lt(range.start),
                "out-of-order ranges are not sorted and apart above RCV.NXT",
            )?;
            must(range.start.lt(range.end), "an empty out-of-order range")?;
            must(
                range.end.le(tcb.rcv_adv),
                "out-of-order data beyond the window's edge",
            )?;
            must(
                range.data.len() == range.end.dist(range.start) as usize,
                "an out-of-order range without its bytes",
            )?;
            (edge, node, count) = (range.end, range.next, count + 1);
        }
        must(
            node == NONE && count == act.ooo_nodes,
            "the out-of-order nodes are miscounted",
        )?;
        let order = self.ranges.at(act.ooo).map_or(Order::EMPTY, |r| r.order);
        must(
            order.is_empty() || order.check(&self.ranges) == Some(count.into()),
            "the order of the out-of-order nodes is wrong",
        )?;
        must(
            act.fin
                .is_none_or(|at| at.gt(tcb.rcv_nxt) && at.le(tcb.rcv_adv)),
            "a FIN is kept that is not ahead within the window",
        )?;
        must(
            act.fin.is_none() || !tcb.has(flag::FIN_RECEIVED),
            "a FIN is kept behind the FIN",
        )
    }

    fn audit_half_open(&self, core: &Core) -> Found {
        for (key, h) in self.halves.iter() {
            self.audit_half(core, key.index, h)
                .map_err(|broken| format!("{broken}\n{h:?}"))?;
        }
        Ok(())
    }

    fn audit_half(&self, core: &Core, index: u32, h: &HalfOpen) -> Found {
        let entry = flow_index(KIND_HALF_OPEN, index);
        must(
            self.is_entered((&h.remote, h.remote_port), h.profile, h.local_port, entry),
            "the flow table does not know the half-open connection",
        )?;
        must(
            core.wheel.token(h.timer) == Some(timer_token(TimerKind::SynReceived, index, 0)),
            "a half-open connection without a timer of its own",
        )?;
        must(
            self.listeners.at(u32::from(h.listener)).is_some(),
            "a half-open connection without its listener",
        )
    }

    fn audit_time_wait(&self, core: &Core) -> Found {
        let next = |at| self.waits.at(at).map(TimeWait::next);
        let queue = members(self.wait_queue, self.waits.len(), next)?;
        must(
            queue.len() == self.waits.len() as usize,
            "a TIME-WAIT record is not in the queue",
        )?;
        let timed = self.wait_timer || core.stats.counts.get(Count::TimerTableFull) > 0;
        must(timed || queue.is_empty(), "TIME-WAIT without a timer")?;
        let now = core.now.millis() as u32;
        for (key, w) in self.waits.iter() {
            let over = (w.expires.wrapping_sub(now) as i32) <= 0;
            must(
                over || self.waits_in_table(key.index, w),
                "the flow table does not know a TIME-WAIT record",
            )?;
        }
        self.audit_lingering()
    }

    fn audit_lingering(&self) -> Found {
        let local = |profile| self.profiles.get(profile).local;
        let orphans = self.conns.iter().filter(|(_, tcb)| {
            let open = tcb.state != State::Closed;
            open && tcb.has(flag::ORPHAN)
        });
        let waits = self.waits.iter().filter(|(_, w)| !w.retired());
        let held = orphans
            .map(|(_, tcb)| (local(tcb.profile), tcb.local_port))
            .chain(waits.map(|(_, w)| (local(w.profile), w.local_port)));
        must(
            self.lingering.holds_just(held),
            "the addresses that are held are not those of orphans and TIME-WAIT",
        )
    }

    fn waits_in_table(&self, index: u32, w: &TimeWait) -> bool {
        let entry = flow_index(KIND_TIME_WAIT, index);
        self.is_entered((&w.remote, w.remote_port), w.profile, w.local_port, entry)
    }

    /// Every list against the flags that say who is in it.
    fn audit_lists(&self) -> Found {
        let send = |at| self.conns.at(at).map(|tcb| tcb.send_link);
        let ready = |at| self.conns.at(at).map(|tcb| tcb.ready_link());
        let most = self.conns.len();
        let all = |list: &[u32], bit| {
            list.iter()
                .all(|at| self.conns.at(*at).is_some_and(|t| t.has(bit)))
        };
        let marked = |bit| self.conns.iter().filter(|(_, tcb)| tcb.has(bit)).count();

        let mut sending = members(self.send, most, send)?;
        for list in self.held {
            sending.extend(members(list, most, send)?);
        }
        must(
            sending.len() == marked(flag::SEND_QUEUED),
            "the send lists are not who is marked",
        )?;
        must(
            all(&sending, flag::SEND_QUEUED),
            "the send lists hold who is not marked",
        )?;
        let told = members(self.ready, most, ready)?;
        must(
            told.len() == marked(flag::READY_QUEUED),
            "the ready list is not who is marked",
        )?;
        must(
            all(&told, flag::READY_QUEUED),
            "the ready list holds who is not marked",
        )?;

        let mut unaccepted = 0;
        for (key, l) in self.listeners.iter() {
            let queue = members(l.queue, most, ready)?;
            must(
                queue.len() == l.queued as usize,
                "an accept queue is miscounted",
            )?;
            must(
                l.queued <= l.backlog + 1,
                "an accept queue beyond its backlog",
            )?;
            unaccepted += queue.len();
            must(
                all(&queue, flag::UNACCEPTED),
                "an accept queue holds who is not marked",
            )?;
            let mine = |(_, h): &(_, &HalfOpen)| u32::from(h.listener) == key.index;
            let half_open = self.halves.iter().filter(mine);
            let young = self.halves.iter().filter(mine);
            let young = young.filter(|(_, h)| h.retries == 0);
            self.audit_fast_open(key)?;
            must(
                half_open.count() == l.half_open as usize && young.count() == l.young as usize,
                "half-open connections are miscounted",
            )?;
        }
        must(
            unaccepted == marked(flag::UNACCEPTED),
            "an unaccepted connection in no queue",
        )?;
        let next = |at| self.listeners.at(at).map(|l| l.ready_link);
        let told = members(self.ready_listeners, self.listeners.len(), next)?.len();
        let marked = self.listeners.iter().filter(|(_, l)| l.ready_queued);
        must(
            told == marked.count(),
            "the list of ready listeners is not who is marked",
        )
    }

    /// A listener's connections that a SYN has opened, and those a reset has ended lately.
    fn audit_fast_open(&self, listener: Key) -> Found {
        let pending = self.actives.iter();
        let pending = pending.filter(|(_, act)| self.pending_of(act.fast()) == Some(listener));
        let count = self.listeners.get(listener).map(|l| l.fast_open.count);
        must(
            self.reset_lately(listener)
                .map(|n| n + pending.count() as u32)
                == count,
            "Fast Open connections are miscounted",
        )
    }

    fn audit_fast_records(&self) -> Found {
        let fast = self
            .actives
            .iter()
            .filter(|(_, a)| a.fast() != NONE)
            .count() as u32;
        let reset = self.listeners.iter().map(|(key, _)| self.reset_lately(key));
        must(
            Some(self.fasts.len()) == reset.sum::<Option<u32>>().map(|n| n + fast),
            "a Fast Open record of no connection",
        )
    }

    /// Ledgers and counters of accurate ECN belong to connections.
    fn audit_counters(&self) -> Found {
        let accounts = self
            .conns
            .iter()
            .filter(|(key, _)| self.ledgers.at(key.index).is_some())
            .count();
        must(
            self.ledgers.len() as usize == accounts,
            "a ledger without its connection",
        )?;
        let accurate = self
            .conns
            .iter()
            .filter(|(key, _)| self.acc_ecns.at(key.index).is_some());
        must(
            self.acc_ecns.len() as usize == accurate.count(),
            "counters of accurate ECN without their connection",
        )
    }

    /// Nothing is in a table that no record accounts for.
    fn audit_inflows(&self) -> Found {
        let owners =
            |(key, tcb): (Key, &Tcb)| (tcb.inflow() != 0).then_some((key.index, tcb.inflow()));
        must(
            self.inflows.belong_to(self.conns.iter().filter_map(owners)),
            "an inflow and its connection do not name each other",
        )
    }

    fn audit_totals(&self) -> Found {
        let live = self
            .conns
            .iter()
            .filter(|(_, tcb)| tcb.state != State::Closed)
            .count();
        let waits = self
            .waits
            .iter()
            .filter(|(key, w)| self.waits_in_table(key.index, w))
            .count();
        let flows = live + self.halves.len() as usize + waits;
        must(
            self.flows.len() as usize == flows,
            "the flow table names records that are gone",
        )?;
        must(
            self.ports.len() == self.addresses_listened(),
            "the table of listeners is not who listens",
        )?;
        let actives = self.conns.iter().filter(|(_, tcb)| !tcb.is_idle()).count();
        must(
            self.actives.len() as usize == actives,
            "an active part without its connection",
        )?;
        self.audit_searches()?;
        self.audit_saved_syns()?;
        self.audit_counters()?;
        let nodes = |(_, act): (_, &Active)| u32::from(act.ooo_nodes);
        let ranges: u32 = self.actives.iter().map(nodes).sum();
        must(self.ranges.len() == ranges, "a range in no list")?;
        let nodes = self.actives.iter().map(|(_, act)| act.flight.nodes());
        must(
            self.nodes.len() == nodes.sum::<u32>(),
            "a run in flight of no connection",
        )?;
        self.audit_fast_records()?;
        let episodes = self.actives.iter().filter(|(_, a)| a.episode != NONE);
        must(
            self.episodes.len() as usize == episodes.count(),
            "a loss episode of no connection",
        )?;
        let controls = self.actives.iter().filter(|(_, a)| a.control != NONE);
        let kept = self.conns.iter().filter(|(_, tcb)| tcb.kept() != NONE);
        must(
            self.controls.len() as usize == controls.count() + kept.count(),
            "a congestion control of no connection",
        )?;
        let bbr = |(_, c): &(_, &Control)| matches!(c, Control::Bbr(_));
        must(
            self.models.len() as usize == self.controls.iter().filter(bbr).count(),
            "a model of no congestion control",
        )?;
        let edged = self.actives.iter().filter(|(_, a)| a.edges != NONE);
        must(
            self.edges.len() as usize == edged.count(),
            "ends of records or urgent data of no connection",
        )?;
        let records = self.conns.len() + self.halves.len() + self.waits.len();
        must(
            self.profiles.references() == records,
            "references to profiles are miscounted",
        )?;
        self.audit_devices()
    }

    fn audit_devices(&self) -> Found {
        let listeners = self.listeners.iter();
        let bound = listeners.filter(|(_, l)| l.options.device.is_some());
        must(
            self.device_listeners as usize == bound.count(),
            "listeners of one device are miscounted",
        )?;
        must(
            self.profiles.counts_devices(),
            "profiles of one device are miscounted",
        )
    }
}

/// What is in flight is what the queue holds, and the SYN or FIN.
fn audit_numbers(tcb: &Tcb, act: Option<&Active>) -> Found {
    let sent = act.map_or(0, |act| act.sent.len() as u32);
    if matches!(tcb.state, State::SynSent | State::SynReceived) {
        return must(
            sent == 0 && tcb.outstanding() <= 1,
            "data in flight before the handshake's end",
        );
    }
    let waits_for_fin = matches!(tcb.state, State::FinWait1 | State::Closing | State::LastAck);
    let fin = waits_for_fin && tcb.has(flag::FIN_SENT);
    must(
        tcb.outstanding() == sent + u32::from(fin),
        "the bytes in flight are not those of the queue and the FIN",
    )?;
    must(
        !tcb.has(flag::FIN_SENT) || tcb.state.fin_queued(),
        "a FIN was sent that nobody asked for",
    )?;
    let peer_ended = matches!(
        tcb.state,
        State::CloseWait | State::Closing | State::LastAck
    );
    must(
        tcb.has(flag::FIN_RECEIVED) == peer_ended,
        "the state does not tell of the peer's FIN",
    )?;
    must(
        tcb.mss > 0 && tcb.cwnd >= u32::from(tcb.mss),
        "a congestion window below one segment",
    )?;
    must(
        tcb.rcv_nxt.le(tcb.rcv_adv) || peer_ended,
        "received beyond the window's edge",
    )
}
