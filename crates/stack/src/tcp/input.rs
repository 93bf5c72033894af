//! A segment arrives (RFC 9293 3.10.7).
//!
//! What does not live here: parsing (`segment`), the handshake (`listen`, `synchronise`), ACKs (`acknowledge`), data (`receive`).

use base::{Candidate, Chain, Instant, Seq};
use wire::Addr;
use wire::tcp::{Flags, Options, Repr};

use crate::context::Core;
use crate::error::SocketError;
use crate::net::{Datagram, InterfaceId, Net, Report, ReportKind};
use crate::socket::Ready;
use crate::stats::{Count, Drop};

use super::conn::{Conn, End, Outcome};
use super::output::{Marks, build, ip_meta};
use super::record::{State, Tcb, flag};
use super::segment::{Segment, flow_bytes, parse};
use super::{INDEX_MASK, KIND_CONNECTION, KIND_HALF_OPEN, KIND_SHIFT, Tcp};

/// RFC 7323 5.5: after 24 days of silence TS.Recent says nothing any more.
const PAWS_IDLE_MS: u32 = 24 * 24 * 60 * 60 * 1000;
/// PAWS takes what is older than TS.Recent by no more than this (as Linux): a retransmission that fills a hole overtakes what
/// was sent just before it.
const PAWS_WINDOW: i32 = 1;

impl Tcp {
    /// Parses a segment and hashes its tuple; its headers are cut off `dg.chain`.
    ///
    /// # Errors
    /// The reason to drop it.
    #[inline]
    pub(crate) fn parse(&self, core: &mut Core, dg: &mut Datagram) -> Result<Segment, Drop> {
        core.count(Count::TcpSegmentsIn);
        let segment = parse(&mut core.pool, dg, self.saved.wanted(), |flow| {
            self.flows.hash(flow)
        })?;
        self.flows.prefetch(segment.hash);
        Ok(segment)
    }

    /// Pulls the record a parsed segment probably concerns toward the cache. False if that takes another look, by
    /// [`Tcp::prefetch_later`], when the cache has more of the table.
    #[inline]
    pub(crate) fn prefetch(&self, segment: &mut Segment) -> bool {
        match self.flows.candidate(segment.hash) {
            Candidate::Index(entry) => self.prefetch_record(segment, entry),
            Candidate::Absent => {}
            Candidate::Later => return false,
        }
        true
    }

    #[cold]
    pub(crate) fn prefetch_later(&self, segment: &mut Segment) {
        if let Some(entry) = self.flows.later(segment.hash) {
            self.prefetch_record(segment, entry);
        }
    }

    #[inline]
    fn prefetch_record(&self, segment: &mut Segment, entry: u32) {
        segment.candidate = Some(entry);
        let index = entry & INDEX_MASK;
        match entry >> KIND_SHIFT {
            KIND_CONNECTION => {
                self.conns.prefetch(index);
                if segment.sequence_len() > 0 {
                    self.conns.prefetch_key(index); // for the event
                }
            }
            KIND_HALF_OPEN => self.halves.prefetch(index),
            _ => self.waits.prefetch(index),
        }
    }

    /// Pulls what the record of a segment points at toward the cache; the record itself is there by now.
    #[inline]
    pub(crate) fn prefetch_parts(&self, core: &Core, segment: &Segment) {
        let Some(tcb) = segment
            .candidate
            .filter(|entry| entry >> KIND_SHIFT == KIND_CONNECTION)
            .and_then(|entry| self.conns.at(entry & INDEX_MASK))
        else {
            return;
        };
        self.actives.prefetch(tcb.active);
        core.wheel.prefetch(tcb.timer);
    }

    #[inline]
    pub(super) fn find(&self, seg: &Segment) -> Option<u32> {
        let is_it = |entry| self.matches(entry, &seg.src, seg.src_port, &seg.dst, seg.dst_port);
        // An earlier segment of the batch may have taken the candidate out of the table. A connection that is not CLOSED is in
        // it; a half-open one or TIME-WAIT is looked up again.
        let live = |entry: u32| {
            entry >> KIND_SHIFT == KIND_CONNECTION
                && self
                    .conns
                    .at(entry & INDEX_MASK)
                    .is_some_and(|tcb| tcb.state != State::Closed)
        };
        let candidate = seg.candidate.filter(|&entry| live(entry) && is_it(entry));
        candidate.or_else(|| self.flows.find(seg.hash, is_it))
    }

    /// Takes in one parsed segment; `data` is its payload.
    pub(crate) fn input(&mut self, core: &mut Core, net: &mut Net, seg: &Segment, mut data: Chain) {
        if seg.headers > 0 {
            self.saved
                .look(&mut core.pool, &mut data, usize::from(seg.headers));
        }
        let Some(entry) = self.find(seg) else {
            return self.at_listener(core, net, seg, data);
        };
        if self.profiles.any_device() && self.is_elsewhere(entry, seg.interface) {
            core.drop_packet(data, Drop::TcpNoSocket);
            return self.send_reset(core, net, seg);
        }
        match entry >> KIND_SHIFT {
            KIND_CONNECTION => self.at_connection(core, net, entry & INDEX_MASK, seg, data),
            KIND_HALF_OPEN => self.at_half_open(core, net, entry & INDEX_MASK, seg, data),
            _ => self.at_time_wait(core, net, entry & INDEX_MASK, seg, data),
        }
    }

    /// Whether the record of a segment is bound to another device than that it came in by.
    #[cold]
    fn is_elsewhere(&self, entry: u32, by: InterfaceId) -> bool {
        let index = entry & INDEX_MASK;
        let profile = match entry >> KIND_SHIFT {
            KIND_CONNECTION => self.conns.at(index).map(|c| c.profile),
            KIND_HALF_OPEN => self.halves.at(index).map(|h| h.profile),
            _ => self.waits.at(index).map(|w| w.profile),
        };
        let device = profile.and_then(|profile| self.profiles.get(profile).options.device);
        device.is_some_and(|device| device != by && by != InterfaceId::LOOPBACK)
    }

    pub(super) fn at_connection(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        index: u32,
        seg: &Segment,
        data: Chain,
    ) {
        if self
            .conns
            .at(index)
            .is_some_and(|tcb| tcb.begins_inflow(seg))
        {
            self.begin_inflow(core, index);
        }
        self.count_sharers(core);
        let Some(mut conn) = self.conn(index) else {
            core.drop_packet(data, Drop::TcpTableFull);
            // Everything else comes again. A reset does not, and needs no memory.
            if let Some(tcb) = self.conns.at_mut(index).filter(|t| t.exact_reset(seg)) {
                let outcome = tcb.on_reset(core).outcome;
                self.conclude(core, net, index, outcome);
            }
            return;
        };
        if let Some(ledger) = &mut conn.ledger {
            ledger.arrived(seg);
        }
        let arrival = if conn.tcb.state == State::SynSent {
            conn.synchronise(core, seg, data)
        } else {
            conn.arrive(core, seg, data)
        };
        conn.note_fast_input(seg);
        let (una, nxt) = (conn.tcb.snd_una, conn.tcb.snd_nxt);
        self.advance_marks(core.now, index, una, nxt);
        if arrival.reset {
            self.send_reset(core, net, seg);
        }
        if arrival.astray {
            self.found_black_hole(core);
        }
        if arrival.established {
            self.fast_open_established(core, index, seg);
            self.start_keepalive(core, index);
            self.start_search(core, index);
        }
        self.conclude(core, net, index, arrival.outcome);
    }

    /// Answers a segment that belongs to nothing (RFC 9293 3.10.7.1): never a reset for a reset.
    #[cold]
    pub(super) fn send_reset(&mut self, core: &mut Core, net: &mut Net, seg: &Segment) {
        if seg.has(Flags::RST) {
            return;
        }
        let repr = if seg.has(Flags::ACK) {
            seg.answer(seg.ack, None, Flags::RST)
        } else {
            seg.answer(Seq(0), Some(seg.end()), Flags::RST)
        };
        core.count(Count::TcpResetsOut);
        self.send_stateless(core, net, &repr, (&seg.src, &seg.dst), Marks::DEFAULT);
    }

    /// Sends a segment that no connection owns.
    pub(super) fn send_stateless(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        repr: &Repr,
        (remote, local): (&Addr, &Addr),
        marks: Marks,
    ) {
        let Some(path) = self.paths.get(core, net, remote, local, marks.device) else {
            return;
        };
        let Some((chain, facts)) = build(core, repr, &path, remote, u32::from(u16::MAX), None)
        else {
            return core.stats.drops.add(Drop::PoolEmpty);
        };
        core.count(Count::TcpSegmentsOut);
        let meta = ip_meta(&path, remote, marks);
        net.send(core, &path, &meta, chain, facts);
    }

    /// Resets the peer of a connection that ends here (abort, give-up): RFC 9293 3.10.5.
    #[cold]
    pub(super) fn reset_peer(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        let Some(tcb) = self.conns.at(index) else {
            return;
        };
        if matches!(tcb.state, State::SynSent | State::Closed) {
            return;
        }
        let (remote, local) = (tcb.remote, self.profiles.get(tcb.profile).local);
        let repr = Repr {
            src_port: tcb.local_port,
            dst_port: tcb.remote_port,
            seq: tcb.snd_nxt.0,
            ack: Some(tcb.rcv_nxt.0),
            flags: Flags::RST,
            window: tcb.rcv_wnd().div_ceil(1 << tcb.rcv_scale()).min(65_535) as u16, // as Linux
            urgent: 0,
            options: Options {
                // RFC 7323 3.2: SHOULD, once negotiated.
                timestamps: tcb
                    .has(flag::TIMESTAMPS)
                    .then(|| (tcb.tsval(core.now), tcb.ts_recent)),
                ..Options::default()
            },
        };
        core.count(Count::TcpResetsOut);
        let marks = Marks::of(&self.profiles.get(tcb.profile).options);
        self.send_stateless(core, net, &repr, (&remote, &local), marks);
    }

    /// An ICMP error about a segment of ours (RFC 9293 3.9.2.2, RFC 5927): believed only when it quotes data in flight; hard
    /// only while connecting, else soft and left to the timers, as Linux.
    #[cold]
    pub(crate) fn report(&mut self, core: &mut Core, net: &mut Net, report: &Report) {
        let [a, b, c, d, e, f, g, h] = report.l4;
        let (local_port, remote_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let seq = Seq(u32::from_be_bytes([e, f, g, h]));
        let flow = flow_bytes(&report.remote, remote_port, &report.local, local_port);
        let hash = self.flows.hash(&flow);
        let entry = self.flows.find(hash, |e| {
            self.matches(e, &report.remote, remote_port, &report.local, local_port)
        });
        let index = match entry {
            Some(entry) if entry >> KIND_SHIFT == KIND_CONNECTION => entry & INDEX_MASK,
            Some(entry) if entry >> KIND_SHIFT == KIND_HALF_OPEN => {
                return self.report_half_open(core, entry & INDEX_MASK, seq, report.kind);
            }
            _ => return core.stats.drops.add(Drop::TcpReportIgnored),
        };
        let Some(tcb) = self.conns.at(index) else {
            return;
        };
        // In SYN-RECEIVED the SYN-ACK is in flight, too.
        let first = Seq(tcb.snd_una.0.wrapping_sub(u32::from(tcb.opening())));
        if seq.lt(first) || seq.ge(tcb.snd_nxt) {
            return core.stats.drops.add(Drop::TcpReportIgnored);
        }
        let error = match report.kind {
            ReportKind::TooBig { mtu } => {
                let mtu = net.pmtu_update(core, report.remote, mtu);
                let Some(mut conn) = self.conn(index) else {
                    return;
                };
                let narrower = conn.heed_path(mtu);
                let smaller = conn.shrink_to(mtu) && !conn.tcb.opening();
                if smaller {
                    conn.timeout_without_reduction();
                }
                if smaller || narrower {
                    self.queue_send(index);
                }
                return;
            }
            ReportKind::PortUnreachable | ReportKind::ProtocolUnreachable => {
                SocketError::ConnectionRefused
            }
            ReportKind::NetUnreachable => SocketError::NetworkUnreachable,
            _ => SocketError::HostUnreachable,
        };
        let wanted = self.profiles.get(tcb.profile).options.receive_errors;
        if let (true, Some(id)) = (wanted, self.id_of(index)) {
            net.keep_report(core, id, error, (&report.remote, remote_port), report);
        }
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        let opening = tcb.opening() && tcb.has(flag::UNACCEPTED);
        if tcb.state == State::SynSent || opening {
            self.conclude(core, net, index, Outcome::closed(Some(error)));
        } else if wanted {
            tcb.set_error(error);
            self.raise(index, Ready::ERROR);
        } else {
            tcb.set_soft_error(error);
        }
    }
}

/// What came of a segment.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    pub(crate) outcome: Outcome,
    /// Answer with a reset.
    pub(crate) reset: bool,
    /// The handshake ended with this segment.
    pub(crate) established: bool,
    /// A reset out of order, where Fast Open's data may have vanished.
    pub(crate) astray: bool,
}

impl Arrival {
    pub(crate) fn send() -> Self {
        Self {
            outcome: Outcome::SEND,
            ..Self::default()
        }
    }
}

impl Tcb {
    /// Whether a reset has a number that counts (RFC 5961 3.2): exactly the next expected one. Behind the peer's FIN also the
    /// FIN's own: a peer that died before our ACK reached it sends that (as Linux).
    fn exact_reset(&self, seg: &Segment) -> bool {
        let ended = matches!(
            self.state,
            State::CloseWait | State::Closing | State::LastAck
        );
        seg.has(Flags::RST)
            && self.state != State::SynSent
            && (seg.seq == self.rcv_nxt || (ended && seg.seq + 1 == self.rcv_nxt))
    }

    /// Whether a segment is acceptable (RFC 9293 3.4 table 6, MUST-66), a little more generously, as Linux: one that ends where
    /// our last ACK stands has nothing new, but its ACK and its time stamp are, and so have those that begin at the window's
    /// right edge, where a sender that has filled it speaks.
    fn admits(&self, seg: &Segment) -> bool {
        seg.end().ge(self.last_ack_sent) && seg.seq.le(self.rcv_nxt + self.rcv_wnd())
    }

    /// A reset that counts ends the connection.
    fn on_reset(&self, core: &mut Core) -> Arrival {
        core.count(Count::TcpResetsIn);
        let error = match self.state {
            State::SynReceived => Some(SocketError::ConnectionRefused),
            State::CloseWait => Some(SocketError::BrokenPipe), // as Linux
            _ => Some(SocketError::ConnectionReset),
        };
        Arrival {
            outcome: Outcome {
                raise: Ready::ERROR,
                ..Outcome::closed(error)
            },
            ..Arrival::default()
        }
    }
}

impl Conn<'_> {
    /// RFC 9293 3.10.7.4, in its order: sequence number (after PAWS), RST, SYN, ACK, data, FIN.
    fn arrive(&mut self, core: &mut Core, seg: &Segment, data: Chain) -> Arrival {
        if let Some(verdict) = self.refuse(core, seg) {
            let (reason, arrival) = verdict;
            core.drop_packet(data, reason);
            return arrival;
        }
        let mut established = false;
        if self.tcb.opening() {
            if !self.end_opening(core, seg) {
                core.drop_packet(data, Drop::TcpBadAck);
                return Arrival {
                    reset: true,
                    ..Arrival::default()
                };
            }
            established = true;
        } else if self.tcb.state == State::SynReceived {
            if !(self.tcb.snd_una.lt(seg.ack) && seg.ack.le(self.syn_edge())) {
                core.drop_packet(data, Drop::TcpBadAck);
                return Arrival {
                    reset: true,
                    ..Arrival::default()
                };
            }
            self.end_simultaneous(core, seg);
            established = true;
        }
        let acked = match self.acknowledge(core, seg) {
            Ok(acked) => acked,
            Err(reason) => {
                core.drop_packet(data, reason);
                return Arrival::send();
            }
        };
        self.heard(core, seg);
        self.count_marks(seg);
        let mut outcome = Outcome {
            send: acked.send,
            raise: acked.raise,
            end: End::Lives,
        };
        if established {
            outcome.raise |= Ready::WRITABLE | Ready::CHANGED;
            outcome.send = true; // a FIN may wait: closed while the SYNs crossed
        }
        if acked.fin
            && let Some(end) = self.fin_acknowledged(core.now)
        {
            core.pool.free(data);
            outcome.end = end;
            return Arrival {
                outcome,
                ..Arrival::default()
            };
        }
        if seg.urgent.is_some() {
            outcome.raise |= self.note_urgent(seg);
        }
        if seg.len > 0 || seg.has(Flags::FIN) {
            return self.arrive_data(core, seg, data, outcome, established);
        }
        core.pool.free(data);
        if self.tcb.flags & (flag::ACK_NOW | flag::PROBE) != 0 {
            outcome.send = true;
        }
        Arrival {
            outcome,
            reset: false,
            established,
            ..Arrival::default()
        }
    }

    /// Our FIN is acknowledged: the next state, or how the connection ends.
    fn fin_acknowledged(&mut self, now: Instant) -> Option<End> {
        match self.tcb.state {
            State::FinWait1 => {
                self.tcb.state = State::FinWait2;
                self.tcb.last_sent = now.millis() as u32; // when its minute begins
            }
            State::Closing => return Some(End::TimeWait),
            State::LastAck => return Some(End::Closed(None)),
            _ => {}
        }
        None
    }

    pub(super) fn arrive_data(
        &mut self,
        core: &mut Core,
        seg: &Segment,
        data: Chain,
        mut outcome: Outcome,
        established: bool,
    ) -> Arrival {
        if !self.tcb.state.receives() {
            // CLOSE-WAIT, CLOSING, LAST-ACK: nothing may follow the peer's FIN, and what does is not answered (RFC 9293 3.10.7.4
            // seventh); a repeated FIN is acknowledged.
            if seg.seq.lt(self.tcb.rcv_nxt) {
                core.drop_packet(data, Drop::TcpDuplicate);
                self.note_old(seg);
                outcome.send = true;
            } else {
                core.drop_packet(data, Drop::TcpUnexpected);
            }
            return Arrival {
                outcome,
                reset: false,
                established,
                ..Arrival::default()
            };
        }
        if self.unwanted() && (seg.seq + seg.len).gt(self.tcb.rcv_nxt) {
            // Nobody will ever read it, or what a FIN out of order follows: tell the peer (RFC 9293 3.6.1, RFC 2525 2.17).
            core.drop_packet(data, Drop::TcpAfterClose);
            let orphan = self.tcb.has(flag::ORPHAN);
            let error = (!orphan).then_some(SocketError::ConnectionReset); // as Linux
            return Arrival {
                outcome: Outcome {
                    raise: Ready::ERROR,
                    ..Outcome::closed(error)
                },
                reset: true,
                established,
                ..Arrival::default()
            };
        }
        let before = self.tcb.rcv_nxt;
        if self.speaks_ecn() && seg.len > 0 {
            self.hear_marks(seg);
        }
        let (raise, finished) = self.receive(core, seg, data);
        if let Some(ledger) = &mut self.ledger {
            ledger.received(core.now, self.tcb.rcv_nxt.dist(before), seg);
        }
        outcome.raise |= raise;
        outcome.send = true;
        if finished {
            match self.tcb.state {
                State::Established => self.tcb.state = State::CloseWait,
                State::FinWait1 => self.tcb.state = State::Closing,
                State::FinWait2 => outcome.end = End::TimeWait,
                _ => {}
            }
        }
        Arrival {
            outcome,
            reset: false,
            established,
            ..Arrival::default()
        }
    }

    /// Whether data that arrives is for nobody: the application has closed, or has shut down both ways.
    fn unwanted(&self) -> bool {
        self.tcb.has(flag::ORPHAN)
            || (self.tcb.has(flag::READ_SHUT) && self.tcb.state != State::Established)
    }

    /// The checks that come before anything is believed. `Some`: drop, with what to do about it.
    fn refuse(&mut self, core: &mut Core, seg: &Segment) -> Option<(Drop, Arrival)> {
        if self.tcb.state == State::SynReceived
            && seg.has(Flags::SYN | Flags::ACK)
            && seg.seq + 1 == self.tcb.rcv_nxt
            && !seg.has(Flags::RST)
        {
            return None; // the other half of a simultaneous open (RFC 9293 figure 7, line 6)
        }
        if self.tcb.opening() && self.is_syn_again(seg) {
            return Some(self.answer_again(core, seg));
        }
        // RFC 7323 5.3 R1: PAWS. An idle connection's TS.Recent is outdated after 24 days (5.5).
        if self.tcb.has(flag::TIMESTAMPS)
            && let Some((tsval, _)) = seg.timestamps
            && !seg.has(Flags::RST)
            && (tsval.wrapping_sub(self.tcb.ts_recent) as i32) < -PAWS_WINDOW
            && (core.now.millis() as u32).wrapping_sub(self.tcb.last_received) < PAWS_IDLE_MS
        {
            return Some((Drop::TcpPaws, self.answer_unacceptable(core, seg)));
        }
        if self.tcb.exact_reset(seg) || self.resets_behind_a_hole(seg) {
            return Some((Drop::TcpUnexpected, self.tcb.on_reset(core)));
        }
        if !self.tcb.admits(seg) {
            if seg.has(Flags::RST) {
                return Some((Drop::TcpOutOfWindow, Arrival::default()));
            }
            let old = seg.sequence_len() > 0 && seg.end().le(self.tcb.rcv_nxt);
            let reason = if old && !seg.has(Flags::SYN) {
                Drop::TcpDuplicate
            } else if seg.seq.gt(self.tcb.rcv_nxt) {
                Drop::TcpBeyondWindow
            } else {
                Drop::TcpOutOfWindow
            };
            return Some((reason, self.answer_unacceptable(core, seg)));
        }
        if seg.has(Flags::RST) {
            let astray = self.tcb.state == State::Established && self.tcb.hears_nothing();
            let challenge = self.challenge(core); // RFC 5961 3.2
            return Some((
                Drop::TcpChallenged,
                Arrival {
                    astray,
                    ..challenge
                },
            ));
        }
        if seg.has(Flags::SYN) {
            if !self.reflect_again(seg) {
                return Some((Drop::TcpUnexpected, self.spoke_otherwise()));
            }
            // RFC 5961 4.2: a SYN in a synchronized state gets a challenge ACK, whatever its number.
            return Some((Drop::TcpChallenged, self.challenge(core)));
        }
        if !seg.has(Flags::ACK) {
            return Some((Drop::TcpNoAck, Arrival::default()));
        }
        None
    }

    /// A reset that stands where the highest data that came ends counts, too (as Linux): its sender knows of no hole before it.
    fn resets_behind_a_hole(&self, seg: &Segment) -> bool {
        seg.has(Flags::RST) && self.tcb.has(flag::SACK) && self.highest_received() == Some(seg.seq)
    }

    /// The answer to a segment that is not acceptable (RFC 9293 3.10.7.4 first, RFC 7323 5.3): an ACK, which says by D-SACK what
    /// came again. One that occupies no numbers may itself be such an answer, so those are limited (RFC 5961 7, as Linux).
    fn answer_unacceptable(&mut self, core: &mut Core, seg: &Segment) -> Arrival {
        if seg.sequence_len() > 0 && !seg.has(Flags::SYN) {
            self.note_old(seg);
            self.tcb.ack_now();
            return Arrival::send();
        }
        if self.tcb.challenge(core) {
            Arrival::send()
        } else {
            Arrival::default()
        }
    }

    /// What a segment repeats, if anything, is reported at once; a FIN counts as the number it has.
    fn note_old(&mut self, seg: &Segment) {
        if seg.seq.lt(self.tcb.rcv_nxt) {
            let old = self.tcb.rcv_nxt.dist(seg.seq);
            self.note_duplicate_data(seg.seq, old.min(seg.sequence_len()));
            self.ack_duplicate();
        }
    }

    /// A SYN-ACK of classic ECN after one of accurate ECN (RFC 9768 3.1.5): reset.
    #[cold]
    fn spoke_otherwise(&self) -> Arrival {
        let outcome = Outcome {
            raise: Ready::ERROR,
            ..Outcome::closed(Some(SocketError::ConnectionReset))
        };
        Arrival {
            outcome,
            reset: true,
            ..Arrival::default()
        }
    }

    /// A challenge ACK (RFC 5961), within the limit.
    pub(crate) fn challenge(&mut self, core: &mut Core) -> Arrival {
        if self.tcb.challenge(core) {
            core.count(Count::TcpChallengeAcks);
            Arrival::send()
        } else {
            core.count(Count::TcpChallengeAcksLimited);
            Arrival::default()
        }
    }

    /// The peer said something credible: it is alive, and whatever a soft error was about, something works.
    fn heard(&mut self, core: &Core, seg: &Segment) {
        self.tcb.probes = 0;
        self.tcb.flags &= !flag::SOFT_ERROR;
        if self.tcb.outstanding() == 0 && self.act.rto_at != Instant::FAR {
            self.act.rto_at = self.rto_from(core.now); // it says what a probe would have asked (as Linux)
        }
        self.update_timestamp(core, seg);
        // What is out of order is no answer, and nobody answers it yet.
        let next = seg.seq.le(self.tcb.rcv_nxt) && seg.end().gt(self.tcb.rcv_nxt);
        self.tcb
            .heard(core.now, seg.len > 0 && next, self.act.rcv_mss);
    }

    /// RFC 7323 4.3: TS.Recent follows segments that reach the left edge of what was last acknowledged.
    fn update_timestamp(&mut self, core: &Core, seg: &Segment) {
        let silent = (core.now.millis() as u32).wrapping_sub(self.tcb.last_received);
        if self.tcb.has(flag::TIMESTAMPS)
            && let Some((tsval, _)) = seg.timestamps
            && ((tsval.wrapping_sub(self.tcb.ts_recent) as i32) >= 0 || silent >= PAWS_IDLE_MS)
            && seg.seq.le(self.tcb.last_ack_sent)
        {
            self.tcb.ts_recent = tsval;
        }
    }

    /// RFC 1191, RFC 8201: segments must fit the path that was just learnt. Returns whether that made them smaller.
    fn shrink_to(&mut self, mtu: u16) -> bool {
        let options = self.option_bytes();
        let fits = super::output::payload_for_mtu(mtu, self.tcb.remote.is_v4(), options);
        let smaller = fits < self.tcb.mss;
        self.tcb.mss = self.tcb.mss.min(fits);
        smaller
    }
}
