//! Half-open connections of listeners (RFC 9293 3.10.7.4 for SYN-RECEIVED, RFC 4987).
//!
//! A SYN for a listener makes a record of 48 bytes and no more; the connection record is made by the final ACK.
//!
//! What does not live here: which SYNs are answered (`listen`), how cookies are made and read (`cookie`), SYN-RECEIVED after a
//! simultaneous open (`synchronise`).
//!
//! Invariant: a half-open connection has a timer, and ends after `synack_retries`, whatever its peer sends.

use core::time::Duration;

use base::{Chain, Instant, Seq, TimerId};
use wire::tcp::{FastOpen, Flags, Options, Repr};

use crate::context::{Core, TimerKind};
use crate::net::{Net, ReportKind};
use crate::stats::{Count, Drop};

use super::output::{Marks, announced_mss};
use super::profile::TcpOptions;
use super::record::{HalfOpen, State, Tcb, flag, half, half_ecn, more};
use super::rtt::{RTO_INITIAL, RTO_MAX};
use super::saved_syn::Owner;
use super::segment::{Segment, flow_bytes};
use super::{KIND_CONNECTION, KIND_HALF_OPEN, Tcp, cookie, flow_index};

impl HalfOpen {
    /// How long its SYN-ACK is waited for before it is sent again (RFC 6298 5.5).
    fn pace(&self, options: &TcpOptions) -> Duration {
        RTO_INITIAL
            .saturating_mul(1 << self.retries.min(7))
            .min(options.rto_max())
    }

    /// Whether what should not have come may be answered: the first, then one every `gap_ms` (Linux's `invalid_ratelimit`).
    fn may_answer(&mut self, now: Instant, gap_ms: u32) -> bool {
        let now = now.millis() as u16;
        let since = u32::from(now.wrapping_sub(self.challenged));
        if self.flags & half::CHALLENGED != 0 && since < gap_ms {
            return false;
        }
        self.challenged = now;
        self.flags |= half::CHALLENGED;
        true
    }
}

impl Tcp {
    /// What a SYN says of its sender. The profile is not acquired yet.
    pub(super) fn read_syn(
        core: &Core,
        listener: u32,
        own: &TcpOptions,
        seg: &Segment,
    ) -> HalfOpen {
        let options = seg.options.unwrap_or(Options {
            timestamps: seg.timestamps,
            ..Options::default()
        });
        let options = core.tcp.spoken(options);
        HalfOpen {
            remote: seg.src,
            remote_port: seg.src_port,
            local_port: seg.dst_port,
            profile: 0,
            listener: listener as u16,
            iss: Seq(0),
            irs: seg.seq,
            ts_recent: options.timestamps.map_or(0, |(tsval, _)| tsval),
            timer: TimerId::NONE,
            mss: options
                .mss
                .unwrap_or(if seg.src.is_v4() { 536 } else { 1220 })
                .max(core.tcp.min_snd_mss as u16),
            scales: options.window_scale.map_or(0xff, |theirs| {
                theirs.min(14) | own.window_shift(&core.tcp) << 4
            }),
            flags: if options.timestamps.is_some() {
                half::TIMESTAMPS
            } else {
                0
            } | if options.sack_permitted {
                half::SACK
            } else {
                0
            } | super::ecn::half_flags(&core.tcp, own, seg),
            retries: 0,
            ecn: super::acc_ecn::half_bits(&core.tcp, seg),
            challenged: 0,
        }
    }

    /// Makes a half-open connection of a SYN and answers it, with `iss` and a Fast Open cookie if given.
    ///
    /// # Errors
    /// The reason to drop the SYN.
    pub(super) fn half_open(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        listener: u32,
        seg: &Segment,
        (iss, option): (Option<Seq>, Option<FastOpen>),
    ) -> Result<(), Drop> {
        let l = self.listeners.at(listener).ok_or(Drop::TcpNoSocket)?;
        let profile = self.profiles.acquire(
            seg.dst,
            &l.options.begun(&core.tcp, net, (&seg.src, &seg.dst)),
        );
        let profile = profile.ok_or(Drop::TcpTableFull)?;
        let flow = flow_bytes(&seg.src, seg.src_port, &seg.dst, seg.dst_port);
        let mut record = HalfOpen {
            profile,
            iss: iss.unwrap_or_else(|| self.initial_sequence(core, &flow)),
            ..Self::read_syn(core, listener, &l.options, seg)
        };
        self.note_window(core, net, &mut record);
        let Some(key) = self.halves.insert(record) else {
            self.profiles.release(profile);
            return Err(Drop::TcpSynQueueFull);
        };
        if self
            .flows
            .insert(seg.hash, flow_index(KIND_HALF_OPEN, key.index))
            .is_err()
        {
            self.halves.remove(key);
            self.profiles.release(profile);
            return Err(Drop::TcpTableFull);
        }
        if let Some(l) = self.listeners.at_mut(listener) {
            l.half_open += 1;
            l.young += 1;
        }
        self.save_syn(core, listener, seg, Owner::HalfOpen(key.index));
        let clock = core.now.millis() as u32;
        self.send_syn_ack(core, net, &record, (clock, option));
        self.await_ack(core, key.index);
        Ok(())
    }

    /// Answers a SYN with a cookie: nothing of it is kept.
    pub(super) fn send_cookie(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        listener: u32,
        seg: &Segment,
    ) -> Result<(), Drop> {
        self.expect_cookies(listener, core.now + cookie::VALID);
        let l = self.listeners.at(listener).ok_or(Drop::TcpNoSocket)?;
        let profile = self.profiles.acquire(
            seg.dst,
            &l.options.begun(&core.tcp, net, (&seg.src, &seg.dst)),
        );
        let profile = profile.ok_or(Drop::TcpTableFull)?;
        let flow = flow_bytes(&seg.src, seg.src_port, &seg.dst, seg.dst_port);
        let mut h = Self::read_syn(core, listener, &l.options, seg);
        h.flags &= !half::ECN; // as if not asked for: it is not kept
        h.ecn = 0;
        h.profile = profile;
        h.iss = self.cookies.make(&flow, h.irs, core.now, h.mss);
        if h.flags & half::TIMESTAMPS == 0 {
            // There is nowhere to keep them.
            h.scales = 0xff;
            h.flags = 0;
        } else if self.shift_is_blurred(core.now, listener) {
            h.scales = 0xff;
        }
        core.count(Count::TcpSynCookiesSent);
        let clock = cookie::stamp(core.now.millis() as u32, &h);
        self.send_syn_ack(core, net, &h, (clock, None));
        self.profiles.release(profile);
        Ok(())
    }

    /// Sends the SYN-ACK of a half-open connection; `clock` goes into its timestamp.
    fn send_syn_ack(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        h: &HalfOpen,
        (clock, fast_open): (u32, Option<FastOpen>),
    ) {
        let profile = self.profiles.get(h.profile);
        let (local, remote) = (profile.local, h.remote);
        let marks = Marks::of(&profile.options);
        let flow = flow_bytes(&remote, h.remote_port, &local, h.local_port);
        let tsval = clock.wrapping_add(self.timestamp_offset(&flow));
        let (accurate, acc_ecn) = super::acc_ecn::syn_ack_says(&core.tcp, h);
        let mut repr = Repr {
            src_port: h.local_port,
            dst_port: h.remote_port,
            seq: h.iss.0,
            ack: Some((h.irs + 1).0),
            flags: if h.flags & half::ECN == 0 {
                Flags::SYN | accurate
            } else {
                Flags::SYN | Flags::ECE
            },
            window: self.first_window(core, net, h).min(self.granted(core, h)) as u16,
            urgent: 0,
            options: Options {
                mss: None,
                window_scale: (h.scales != 0xff).then_some(h.scales >> 4),
                sack_permitted: h.flags & half::SACK != 0,
                timestamps: (h.flags & half::TIMESTAMPS != 0).then_some((tsval, h.ts_recent)),
                fast_open,
                acc_ecn,
                ..Options::default()
            },
        };
        let mtu = self
            .paths
            .get(core, net, &remote, &local, marks.device)
            .map_or(1280, |path| path.link_mtu);
        let options = &self.profiles.get(h.profile).options;
        repr.options.mss = Some(announced_mss(mtu, remote.is_v4(), options));
        self.send_stateless(core, net, &repr, (&remote, &local), marks);
    }

    /// Arms the timer of a half-open connection.
    fn await_ack(&mut self, core: &mut Core, index: u32) {
        let pace = |h: &HalfOpen| h.pace(&self.profiles.get(h.profile).options);
        let Some(pace) = self.halves.at(index).map(pace) else {
            return;
        };
        let timer = core
            .arm(core.now + pace, TimerKind::SynReceived, index, 0)
            .unwrap_or(TimerId::NONE);
        if let Some(h) = self.halves.at_mut(index) {
            h.timer = timer;
        }
        if timer.is_none() {
            // Without a timer it could stay for ever.
            self.forget_half_open(core, index);
        }
    }

    /// The SYN came again, so its answer was lost or is on its way. Answering counts as the retransmission that was due next,
    /// so that SYNs by the thousand neither get as many answers nor keep the record alive. The first is answered however soon it
    /// comes (as Linux): copies by the network are rare, clients with short timeouts are not.
    fn answer_again(&mut self, core: &mut Core, net: &mut Net, index: u32, seg: &Segment) {
        let most = self.syn_ack_retries(core, index);
        let Some(h) = self.halves.at_mut(index) else {
            return;
        };
        if h.flags & half::TIMESTAMPS != 0
            && let Some((tsval, _)) = seg.timestamps
            && (tsval.wrapping_sub(h.ts_recent) as i32) > 0
        {
            h.ts_recent = tsval;
        }
        let Some(other) = h.asked_again(seg, h.flags & half::ECN != 0) else {
            core.stats.drops.add(Drop::TcpUnexpected);
            self.forget_half_open(core, index);
            return self.send_reset(core, net, seg);
        };
        let answers = other || h.may_answer(core.now, core.tcp.invalid_ratelimit);
        if u32::from(h.retries) >= most || !answers {
            return core.stats.drops.add(Drop::TcpDuplicate);
        }
        core.wheel
            .cancel(core::mem::replace(&mut h.timer, TimerId::NONE));
        self.retry(core, net, index, true);
    }

    /// One more timeout of a half-open connection has passed: its SYN-ACK is sent again, if it is to be.
    fn retry(&mut self, core: &mut Core, net: &mut Net, index: u32, send: bool) {
        let Some(h) = self.halves.at_mut(index) else {
            return;
        };
        h.retries += 1;
        let h = *h;
        if h.retries == 1
            && let Some(l) = self.listeners.at_mut(u32::from(h.listener))
        {
            l.young = l.young.saturating_sub(1);
        }
        if send {
            core.count(Count::TcpRetransmits);
            self.send_syn_ack(core, net, &h, (core.now.millis() as u32, None));
        }
        self.await_ack(core, index);
    }

    /// How often the SYN-ACK of a half-open connection may be sent again. While the queue is more than half full it is less, down
    /// to twice, the more so the fewer of the connections are new: the old ones will hardly come to an end (as Linux).
    fn syn_ack_retries(&self, core: &Core, index: u32) -> u32 {
        let Some(h) = self.halves.at(index) else {
            return 0;
        };
        let options = &self.profiles.get(h.profile).options;
        let mut most = options
            .syn_retries
            .map_or(core.tcp.synack_retries, u32::from);
        let Some(l) = self.listeners.at(u32::from(h.listener)) else {
            return most;
        };
        if l.half_open.saturating_mul(2) > l.backlog.max(8) {
            let mut young = u64::from(l.young) * 2;
            while most > 2 && u64::from(l.half_open) >= young {
                most -= 1;
                young *= 2;
            }
        }
        most
    }

    /// For how many timeouts a half-open connection waits for data, its final ACK notwithstanding (TCP_DEFER_ACCEPT).
    fn deferred(&self, h: &HalfOpen) -> u32 {
        let options = &self.profiles.get(h.profile).options;
        let Some(time) = options.defer_accept else {
            return 0;
        };
        let (mut waits, mut wait, mut all) = (0, RTO_INITIAL, Duration::ZERO);
        while all < time && waits < 255 {
            waits += 1;
            all = all.saturating_add(wait);
            wait = (wait * 2).min(RTO_MAX);
        }
        waits
    }

    /// Notes the window that the SYN-ACK will offer.
    pub(super) fn note_window(&self, core: &Core, net: &Net, h: &mut HalfOpen) {
        let window = self.first_window(core, net, h);
        let options = &self.profiles.get(h.profile).options;
        let lacks = options.lacks(&core.tcp, window);
        h.ecn = h.ecn & half_ecn::ALL | lacks << half_ecn::LACKS_SHIFT;
    }

    /// Bytes that were granted to a half-open connection: what its first SYN-ACK offered, and less than a unit more, whatever the
    /// link carries by now.
    fn granted(&self, core: &Core, h: &HalfOpen) -> u32 {
        let options = &self.profiles.get(h.profile).options;
        let first = match h.flags & half::EARLIER {
            0 => core.tcp.rmem_default,
            _ => self.earlier_rmem.max(core.tcp.rmem_default),
        };
        options.granted_window(first, h.ecn >> half_ecn::LACKS_SHIFT)
    }

    /// The host's first buffer was `before`: what was offered by it stays granted.
    pub(super) fn keep_granted(&mut self, before: u32) {
        let waiting: Vec<u32> = self.halves.iter().map(|(key, _)| key.index).collect();
        if waiting.is_empty() {
            self.earlier_rmem = 0;
        }
        self.earlier_rmem = self.earlier_rmem.max(before);
        for index in waiting {
            if let Some(h) = self.halves.at_mut(index) {
                h.flags |= half::EARLIER;
            }
        }
    }

    /// The window of the SYN-ACK of a half-open connection, in bytes, as the link is now.
    fn first_window(&self, core: &Core, net: &Net, h: &HalfOpen) -> u32 {
        let profile = self.profiles.get(h.profile);
        let mtu = net.link_mtu(&profile.local);
        let mss = announced_mss(mtu, h.remote.is_v4(), &profile.options);
        let stamps = if h.flags & half::TIMESTAMPS != 0 {
            12
        } else {
            0
        };
        let options = &profile.options;
        options.first_window(&core.tcp, mss.saturating_sub(stamps))
    }

    /// An unacceptable segment is answered with an ACK (RFC 9293 3.10.7.4 first), at most every 500 ms (RFC 5961 7).
    fn challenge_half_open(&mut self, core: &mut Core, net: &mut Net, index: u32, seg: &Segment) {
        let Some(h) = self.halves.at_mut(index) else {
            return;
        };
        // What occupies numbers answers nothing.
        let limited = seg.sequence_len() == 0 || seg.has(Flags::SYN);
        if limited && !h.may_answer(core.now, core.tcp.invalid_ratelimit) {
            return core.count(Count::TcpChallengeAcksLimited);
        }
        core.count(Count::TcpChallengeAcks);
        let Some(h) = self.halves.at(index) else {
            return;
        };
        let options = &self.profiles.get(h.profile).options;
        let marks = Marks::of(options);
        let shift = if h.scales == 0xff { 0 } else { h.scales >> 4 };
        let flow = flow_bytes(&seg.src, seg.src_port, &seg.dst, seg.dst_port);
        let tsval = (core.now.millis() as u32).wrapping_add(self.timestamp_offset(&flow));
        let mut repr = seg.answer(h.iss + 1, Some(h.irs + 1), Flags(0));
        repr.window = self.granted(core, h).div_ceil(1 << shift) as u16; // no less than the SYN-ACK said
        repr.options.timestamps = (h.flags & half::TIMESTAMPS != 0).then_some((tsval, h.ts_recent));
        self.send_stateless(core, net, &repr, (&seg.src, &seg.dst), marks);
    }

    /// An ICMP error about a SYN-ACK: who cannot be reached is forgotten, if the error quotes our number (as Linux).
    #[cold]
    pub(super) fn report_half_open(
        &mut self,
        core: &mut Core,
        index: u32,
        seq: Seq,
        kind: ReportKind,
    ) {
        let listener = self.halves.at(index).filter(|h| h.iss == seq);
        let listener = listener.map(|h| u32::from(h.listener));
        let unreachable = matches!(
            kind,
            ReportKind::NetUnreachable | ReportKind::HostUnreachable | ReportKind::TimeExceeded
        );
        let Some(listener) = listener.filter(|_| unreachable) else {
            return core.stats.drops.add(Drop::TcpReportIgnored);
        };
        self.count_listen_drop(core, listener, Drop::TcpReportIgnored);
        self.forget_half_open(core, index);
    }

    /// The SYN-ACK was not answered in time.
    pub(crate) fn on_syn_received_timer(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        let Some(h) = self.halves.at_mut(index) else {
            return;
        };
        h.timer = TimerId::NONE;
        let h = *h;
        let (timeouts, deferred) = (u32::from(h.retries), self.deferred(&h));
        let waits = deferred > 0 && h.flags & half::ACKED != 0;
        if timeouts >= self.syn_ack_retries(core, index) && !(waits && timeouts < deferred) {
            return self.forget_half_open(core, index);
        }
        // A client whose ACK came has nothing to be told again, until just before the end (as Linux).
        self.retry(core, net, index, !waits || timeouts + 1 >= deferred);
    }

    pub(super) fn forget_half_open(&mut self, core: &mut Core, index: u32) {
        let Some(h) = self.halves.at(index) else {
            return;
        };
        let (listener, profile, timer) = (u32::from(h.listener), h.profile, h.timer);
        let young = h.retries == 0;
        let local = self.profiles.get(profile).local;
        let hash = self
            .flows
            .hash(&flow_bytes(&h.remote, h.remote_port, &local, h.local_port));
        let ends = ((local, h.local_port), (h.remote, h.remote_port));
        self.flows.remove(hash, flow_index(KIND_HALF_OPEN, index));
        self.flow_left(|| ends);
        self.halves.remove_at(index);
        self.saved.forget(Owner::HalfOpen(index));
        core.wheel.cancel(timer);
        self.profiles.release(profile);
        self.no_longer_half_open(listener, young);
    }

    fn no_longer_half_open(&mut self, listener: u32, young: bool) {
        if let Some(l) = self.listeners.at_mut(listener) {
            l.half_open = l.half_open.saturating_sub(1);
            l.young = l.young.saturating_sub(u32::from(young));
        }
    }

    /// A segment for a half-open connection (RFC 9293 3.10.7.4 for SYN-RECEIVED).
    #[cold]
    pub(super) fn at_half_open(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        index: u32,
        seg: &Segment,
        data: Chain,
    ) {
        let Some(h) = self.halves.at(index) else {
            return core.pool.free(data);
        };
        let expected = h.irs + 1;
        let plain = !seg.has(Flags::ACK) && !seg.has(Flags::RST);
        if seg.has(Flags::SYN) && plain && seg.seq == h.irs {
            core.pool.free(data);
            return self.answer_again(core, net, index, seg);
        }
        if seg.has(Flags::ACK) && !seg.has(Flags::RST) && seg.ack != h.iss + 1 {
            // Before the window is looked at, as Linux.
            core.drop_packet(data, Drop::TcpBadAck);
            return self.send_reset(core, net, seg);
        }
        let paws = h.flags & half::TIMESTAMPS != 0
            && !seg.has(Flags::RST)
            && seg
                .timestamps
                .is_some_and(|(tsval, _)| (tsval.wrapping_sub(h.ts_recent) as i32) < 0);
        if paws || !seg.acceptable(expected, self.granted(core, h)) {
            core.drop_packet(data, Drop::TcpOutOfWindow);
            if !seg.has(Flags::RST) {
                self.challenge_half_open(core, net, index, seg);
            }
            return;
        }
        if seg.has(Flags::RST) && seg.seq == expected {
            core.drop_packet(data, Drop::TcpUnexpected);
            core.count(Count::TcpResetsIn);
            return self.forget_half_open(core, index);
        }
        if seg.has(Flags::RST) || seg.has(Flags::SYN) {
            // RFC 5961 3.2 and 4.2: whoever really started again answers the challenge with an exact reset, and its next SYN
            // finds the listener. RFC 9293 would go back to LISTEN at once, whoever sent it.
            core.drop_packet(data, Drop::TcpChallenged);
            return self.challenge_half_open(core, net, index, seg);
        }
        if !seg.has(Flags::ACK) {
            return core.drop_packet(data, Drop::TcpNoAck);
        }
        let h = *h;
        if seg.sequence_len() == 0 && u32::from(h.retries) < self.deferred(&h) {
            self.note_acked(index);
            return core.drop_packet(data, Drop::TcpDeferAccept);
        }
        let opened = if self.accept_queue_full(u32::from(h.listener)) {
            Err(Drop::TcpAcceptQueueFull)
        } else {
            self.promote(core, index, seg).ok_or(Drop::TcpTableFull)
        };
        match opened {
            Ok(connection) => self.at_connection(core, net, connection, seg, data),
            Err(reason) => {
                core.drop_packet(data, reason);
                self.count_listen_drop(core, u32::from(h.listener), reason);
                if core.tcp.abort_on_overflow != 0 {
                    self.forget_half_open(core, index);
                    return self.send_reset(core, net, seg);
                }
                self.note_acked(index);
            }
        }
    }

    fn note_acked(&mut self, index: u32) {
        if let Some(h) = self.halves.at_mut(index) {
            h.flags |= half::ACKED;
        }
    }

    /// Turns a half-open connection into a connection in its listener's accept queue. `None` when the table is full.
    fn promote(&mut self, core: &mut Core, index: u32, seg: &Segment) -> Option<u32> {
        let h = *self.halves.at(index)?;
        let tcb = self.passive(core, &h, seg);
        let accurate = tcb.is_accurate();
        let key = self.conns.insert(tcb)?;
        self.flows.replace(
            seg.hash,
            flow_index(KIND_HALF_OPEN, index),
            flow_index(KIND_CONNECTION, key.index),
        );
        self.halves.remove_at(index);
        self.saved.promote(index, key.index);
        core.wheel.cancel(h.timer);
        if accurate {
            self.open_acc_ecn(&core.tcp, key.index, &h);
        }
        let listener = u32::from(h.listener);
        self.no_longer_half_open(listener, h.retries == 0);
        self.opened(core, (listener, key.index), h.retries);
        Some(key.index)
    }

    /// A connection that came through a listener waits to be accepted.
    /// Its SYN-ACK was sent again so often.
    pub(super) fn opened(&mut self, core: &mut Core, (listener, index): (u32, u32), retries: u8) {
        self.offer(core, listener, index);
        self.keep_account(core.now, index);
        if let Some(ledger) = self.ledgers.at_mut(index) {
            ledger.accepted(retries);
        }
        self.start_keepalive(core, index);
        self.start_search(core, index);
    }

    /// Puts a new connection into its listener's accept queue.
    pub(super) fn offer(&mut self, core: &mut Core, listener: u32, index: u32) {
        core.count(Count::TcpPassiveOpens);
        self.enqueue_accept(listener, index);
    }

    /// The record of a connection whose handshake `seg` ends.
    pub(super) fn passive(&self, core: &Core, h: &HalfOpen, seg: &Segment) -> Tcb {
        let profile = self.profiles.get(h.profile);
        let flow = flow_bytes(&h.remote, h.remote_port, &profile.local, h.local_port);
        let mut tcb = Tcb::new(h.remote, h.remote_port, h.local_port, h.profile);
        tcb.ts_offset = self.timestamp_offset(&flow);
        tcb.state = State::Established;
        tcb.rcv_nxt = h.irs + 1;
        tcb.rcv_adv = tcb.rcv_nxt + self.granted(core, h);
        tcb.last_ack_sent = tcb.rcv_nxt;
        tcb.ts_recent = h.ts_recent;
        tcb.snd_una = h.iss + 1;
        tcb.snd_nxt = tcb.snd_una;
        tcb.snd_wl1 = h.irs;
        if h.scales != 0xff {
            tcb.scales = h.scales;
        }
        if h.flags & half::TIMESTAMPS != 0 {
            tcb.flags |= flag::TIMESTAMPS;
        }
        if h.flags & half::SACK != 0 {
            tcb.flags |= flag::SACK;
        }
        if profile.options.nodelay {
            tcb.flags |= flag::NODELAY;
        }
        if h.flags & half::ECN != 0 {
            tcb.more |= more::ECN;
        } else if h.agreed(&core.tcp, seg) {
            tcb.more |= more::ACC_ECN;
        }
        tcb.flags |= flag::UNACCEPTED;
        tcb.snd_wnd = u32::from(seg.window) << tcb.snd_scale();
        tcb.note_offer(tcb.snd_wnd);
        tcb.peer_mss = h.mss;
        let options = tcb.stamps();
        tcb.mss = h
            .mss
            .min(profile.options.max_segment.unwrap_or(u16::MAX))
            .saturating_sub(options)
            .max(36);
        tcb.last_received = core.now.millis() as u32;
        tcb.last_sent = tcb.last_received;
        // A cookie tells no time, nor does data that comes long after the ACK.
        if h.flags & (half::COOKIE | half::ACKED) == 0 {
            // Karn: a SYN-ACK that was sent once is timed by its timer, one that was sent again by the echo only.
            match core.wheel.deadline(h.timer).filter(|_| h.retries == 0) {
                Some(due) => tcb.sample_rtt(core.now - (due - h.pace(&profile.options))),
                None => tcb.sample_echo(core.now, seg),
            }
        }
        tcb.begin(h.retries, &profile.options);
        tcb.token = u64::from(h.listener);
        tcb
    }
}
