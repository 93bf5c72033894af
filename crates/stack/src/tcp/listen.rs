//! Listeners, half-open connections and the accept queue (RFC 9293 3.10.7.2, RFC 4987, Linux's overflow rules).
//!
//! A SYN for a listener makes a record of 48 bytes and no more; the connection record is made by the final ACK. The accept
//! queue holds established connections, linked through their records.
//!
//! What does not live here: SYN cookies, which come with the next part.
//!
//! Invariant: a listener never has more than `backlog + 1` connections in its accept queue (as Linux).
//! Invariant: when the accept queue is full the final ACK is dropped, not reset: the client tries again.

use base::{Chain, Seq, TimerId};
use wire::Addr;
use wire::tcp::{Flags, Options, Repr};

use crate::context::{Core, TimerKind};
use crate::error::SocketError;
use crate::net::Net;
use crate::socket::{Ready, SocketId, SocketKind};
use crate::stats::{Count, Drop};

use super::conn::{CHALLENGE_INTERVAL_MS, QUICK_ACKS};
use super::output::{Marks, announced_mss, window_shift};
use super::profile::TcpOptions;
use super::record::{HalfOpen, NONE, State, Tcb, flag, half};
use super::rtt::{RTO_INITIAL, RTO_MAX};
use super::segment::{Segment, flow_bytes};
use super::{KIND_CONNECTION, KIND_HALF_OPEN, List, Tcp, flow_index};

/// A SYN that comes again so soon is a copy, not a call for another answer.
const ANSWER_GAP: core::time::Duration = core::time::Duration::from_millis(200);

impl HalfOpen {
    /// How long its SYN-ACK is waited for before it is sent again (RFC 6298 5.5).
    fn pace(&self) -> core::time::Duration {
        RTO_INITIAL
            .saturating_mul(1 << self.retries.min(7))
            .min(RTO_MAX)
    }
}

/// One listener.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Unspecified: every local address. `v4` and `v6` say of which families.
    pub(crate) local: Addr,
    pub(crate) port: u16,
    pub(crate) backlog: u32,
    pub(crate) options: TcpOptions,
    /// Serves IPv4 too although bound to the IPv6 wildcard.
    pub(crate) dual: bool,
    pub(super) queue: List,
    pub(crate) queued: u32,
    pub(crate) half_open: u32,
    token: u64,
    pub(super) ready_link: u32,
    pub(super) ready_queued: bool,
}

fn port_bytes(local: &Addr, port: u16) -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&local.0);
    bytes[16..].copy_from_slice(&port.to_be_bytes());
    bytes
}

impl Tcp {
    /// Opens a listener on `local:port`, for port 0 on an ephemeral one that no listener has; the unspecified address serves
    /// all. `dual` makes the IPv6 wildcard serve IPv4, too.
    pub(crate) fn listen(
        &mut self,
        core: &mut Core,
        (local, port): (Addr, u16),
        backlog: u32,
        options: TcpOptions,
        dual: bool,
    ) -> Result<SocketId, SocketError> {
        let port = match port {
            0 => self.free_port(core).ok_or(SocketError::AddrInUse)?,
            port => port,
        };
        let wildcard_v6 = self.listener_at(&Addr::UNSPECIFIED_V6, port);
        let overlaps = self.listener_at(&local, port).is_some()
            || (dual && self.listener_at(&Addr::UNSPECIFIED_V4, port).is_some())
            || (local == Addr::UNSPECIFIED_V4 && wildcard_v6.is_some_and(|(_, l)| l.dual));
        if overlaps {
            return Err(SocketError::AddrInUse);
        }
        let hash = self.ports.hash(&port_bytes(&local, port));
        let listener = Listener {
            local,
            port,
            backlog,
            options,
            dual,
            queue: List::EMPTY,
            queued: 0,
            half_open: 0,
            token: 0,
            ready_link: NONE,
            ready_queued: false,
        };
        let key = self
            .listeners
            .insert(listener)
            .ok_or(SocketError::NoBuffers)?;
        if self.ports.insert(hash, key.index).is_err() {
            self.listeners.remove(key);
            return Err(SocketError::NoBuffers);
        }
        self.local_ports.add_listener(port);
        Ok(SocketId::new(SocketKind::Listener, key))
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
        id: SocketId,
        change: impl FnOnce(&mut TcpOptions, &mut u32),
    ) -> Result<(), SocketError> {
        let index = self.listener_index(id)?;
        let listener = self.listeners.at_mut(index).ok_or(SocketError::BadSocket)?;
        change(&mut listener.options, &mut listener.backlog);
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

    /// Finds the listener for a destination: exact address first, then the wildcard of its family, then a dual one.
    pub(super) fn listener_for(&self, dst: &Addr, port: u16) -> Option<u32> {
        let wildcard = if dst.is_v4() {
            Addr::UNSPECIFIED_V4
        } else {
            Addr::UNSPECIFIED_V6
        };
        self.listener_at(dst, port)
            .or_else(|| self.listener_at(&wildcard, port))
            .or_else(|| {
                self.listener_at(&Addr::UNSPECIFIED_V6, port)
                    .filter(|(_, l)| dst.is_v4() && l.dual)
            })
            .map(|(index, _)| index)
    }

    /// The listener bound to exactly this.
    fn listener_at(&self, local: &Addr, port: u16) -> Option<(u32, &Listener)> {
        let hash = self.ports.hash(&port_bytes(local, port));
        let index = self.ports.find(hash, |i| {
            self.listeners
                .at(i)
                .is_some_and(|l| l.local == *local && l.port == port)
        })?;
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
        core.pool.free(data);
        let Some(index) = self.listener_for(&seg.dst, seg.dst_port) else {
            core.stats.drops.add(Drop::TcpNoSocket);
            return self.send_reset(core, net, seg);
        };
        if seg.has(Flags::RST) {
            return core.stats.drops.add(Drop::TcpListenRefused);
        }
        if seg.has(Flags::ACK) {
            core.stats.drops.add(Drop::TcpListenRefused);
            return self.send_reset(core, net, seg);
        }
        // SYN with FIN is nonsense that scanners send; Linux drops it too.
        if !seg.has(Flags::SYN) || seg.has(Flags::FIN) {
            return core.stats.drops.add(Drop::TcpListenRefused);
        }
        if let Err(reason) = self.half_open(core, net, index, seg, None) {
            core.stats.drops.add(reason);
        }
    }

    /// Makes a half-open connection of a SYN and answers it, with `iss` if given. Data on the SYN is ignored (no Fast Open yet).
    ///
    /// # Errors
    /// The reason to drop the SYN.
    pub(super) fn half_open(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        listener: u32,
        seg: &Segment,
        iss: Option<Seq>,
    ) -> Result<(), Drop> {
        let l = self.listeners.at(listener).ok_or(Drop::TcpNoSocket)?;
        if l.queued > l.backlog {
            return Err(Drop::TcpAcceptQueueFull);
        }
        let options = seg.options.unwrap_or(Options {
            timestamps: seg.timestamps,
            ..Options::default()
        });
        let options = core.tcp.spoken(options);
        let profile = self.profiles.acquire(seg.dst, &l.options);
        let profile = profile.ok_or(Drop::TcpTableFull)?;
        let flow = flow_bytes(&seg.src, seg.src_port, &seg.dst, seg.dst_port);
        let record = HalfOpen {
            remote: seg.src,
            remote_port: seg.src_port,
            local_port: seg.dst_port,
            profile,
            listener: listener as u16,
            iss: iss.unwrap_or_else(|| self.initial_sequence(core, &flow)),
            irs: seg.seq,
            ts_recent: options.timestamps.map_or(0, |(tsval, _)| tsval),
            timer: TimerId::NONE,
            mss: options
                .mss
                .unwrap_or(if seg.src.is_v4() { 536 } else { 1220 })
                .max(48),
            scale: options.window_scale.map_or(0xff, |s| s.min(14)),
            flags: if options.timestamps.is_some() {
                half::TIMESTAMPS
            } else {
                0
            } | if options.sack_permitted {
                half::SACK
            } else {
                0
            },
            retries: 0,
            challenged: 0,
        };
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
        }
        self.send_syn_ack(core, net, key.index);
        Ok(())
    }

    /// Sends the SYN-ACK of a half-open connection and arms its timer.
    fn send_syn_ack(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        let Some(h) = self.halves.at(index) else {
            return;
        };
        let profile = self.profiles.get(h.profile);
        let (local, remote) = (profile.local, h.remote);
        let limit = profile.options.max_segment;
        let buffer = profile.options.receive_buffer;
        let marks = Marks::of(&profile.options);
        let flow = flow_bytes(&remote, h.remote_port, &local, h.local_port);
        let tsval = (core.now.millis() as u32).wrapping_add(self.timestamp_offset(&flow));
        let mut repr = Repr {
            src_port: h.local_port,
            dst_port: h.remote_port,
            seq: h.iss.0,
            ack: Some((h.irs + 1).0),
            flags: Flags::SYN,
            window: buffer.min(65_535) as u16,
            urgent: 0,
            options: Options {
                mss: None,
                window_scale: (h.scale != 0xff).then(|| window_shift(buffer)),
                sack_permitted: h.flags & half::SACK != 0,
                timestamps: (h.flags & half::TIMESTAMPS != 0).then_some((tsval, h.ts_recent)),
                ..Options::default()
            },
        };
        let pace = h.pace();
        let mtu = self
            .paths
            .get(core, net, &remote, &local)
            .map_or(1280, |path| path.mtu);
        repr.options.mss = Some(announced_mss(mtu, remote.is_v4(), limit));
        self.send_stateless(core, net, &repr, (&remote, &local), marks);
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
    /// so that SYNs by the thousand neither get as many answers nor keep the record alive.
    fn answer_again(&mut self, core: &mut Core, net: &mut Net, index: u32, seg: &Segment) {
        let Some(h) = self.halves.at_mut(index) else {
            return;
        };
        if h.flags & half::TIMESTAMPS != 0
            && let Some((tsval, _)) = seg.timestamps
            && (tsval.wrapping_sub(h.ts_recent) as i32) > 0
        {
            h.ts_recent = tsval;
        }
        let due = core.wheel.deadline(h.timer).unwrap_or(core.now);
        let since_last = h.pace().saturating_sub(due - core.now);
        if h.retries >= core.tcp.synack_retries || since_last < ANSWER_GAP {
            return core.stats.drops.add(Drop::TcpDuplicate);
        }
        h.retries += 1;
        core.wheel
            .cancel(core::mem::replace(&mut h.timer, TimerId::NONE));
        core.count(Count::TcpRetransmits);
        self.send_syn_ack(core, net, index);
    }

    /// The window a half-open connection offers, in bytes: that of its SYN-ACK.
    fn first_window(&self, h: &HalfOpen) -> u32 {
        let buffer = self.profiles.get(h.profile).options.receive_buffer;
        buffer.min(65_535)
    }

    /// An unacceptable segment is answered with an ACK (RFC 9293 3.10.7.4 first), at most every 500 ms (RFC 5961 7).
    fn challenge_half_open(&mut self, core: &mut Core, net: &mut Net, index: u32, seg: &Segment) {
        let now = core.now.millis();
        let Some(h) = self.halves.at_mut(index) else {
            return;
        };
        let since = u32::from((now as u16).wrapping_sub(h.challenged));
        if h.flags & half::CHALLENGED != 0 && since < CHALLENGE_INTERVAL_MS {
            return core.count(Count::TcpChallengeAcksLimited);
        }
        h.challenged = now as u16;
        h.flags |= half::CHALLENGED;
        core.count(Count::TcpChallengeAcks);
        let Some(h) = self.halves.at(index) else {
            return;
        };
        let options = &self.profiles.get(h.profile).options;
        let marks = Marks::of(options);
        let shift = if h.scale == 0xff {
            0
        } else {
            window_shift(options.receive_buffer)
        };
        let flow = flow_bytes(&seg.src, seg.src_port, &seg.dst, seg.dst_port);
        let tsval = (now as u32).wrapping_add(self.timestamp_offset(&flow));
        let mut repr = seg.answer(h.iss + 1, Some(h.irs + 1), Flags(0));
        repr.window = (self.first_window(h) >> shift) as u16;
        repr.options.timestamps = (h.flags & half::TIMESTAMPS != 0).then_some((tsval, h.ts_recent));
        self.send_stateless(core, net, &repr, (&seg.src, &seg.dst), marks);
    }

    /// The SYN-ACK was not answered in time.
    pub(crate) fn on_syn_received_timer(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        let Some(h) = self.halves.at_mut(index) else {
            return;
        };
        h.timer = TimerId::NONE;
        if h.retries >= core.tcp.synack_retries {
            return self.forget_half_open(core, index);
        }
        h.retries += 1;
        core.count(Count::TcpRetransmits);
        self.send_syn_ack(core, net, index);
    }

    fn forget_half_open(&mut self, core: &mut Core, index: u32) {
        let Some(h) = self.halves.at(index) else {
            return;
        };
        let (listener, profile, timer) = (u32::from(h.listener), h.profile, h.timer);
        let local = self.profiles.get(profile).local;
        let hash = self
            .flows
            .hash(&flow_bytes(&h.remote, h.remote_port, &local, h.local_port));
        self.flows.remove(hash, flow_index(KIND_HALF_OPEN, index));
        self.halves.remove_at(index);
        core.wheel.cancel(timer);
        self.profiles.release(profile);
        if let Some(l) = self.listeners.at_mut(listener) {
            l.half_open = l.half_open.saturating_sub(1);
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
        let paws = h.flags & half::TIMESTAMPS != 0
            && !seg.has(Flags::RST)
            && seg
                .timestamps
                .is_some_and(|(tsval, _)| (tsval.wrapping_sub(h.ts_recent) as i32) < 0);
        let acks_our_syn = seg.ack == h.iss + 1;
        if paws || !seg.acceptable(expected, self.first_window(h)) {
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
        if !acks_our_syn {
            core.drop_packet(data, Drop::TcpBadAck);
            return self.send_reset(core, net, seg);
        }
        let full = self
            .listeners
            .at(u32::from(h.listener))
            .is_none_or(|l| l.queued > l.backlog);
        if full {
            return core.drop_packet(data, Drop::TcpAcceptQueueFull);
        }
        match self.promote(core, index, seg) {
            Some(connection) => self.at_connection(core, net, connection, seg, data),
            None => core.drop_packet(data, Drop::TcpTableFull),
        }
    }

    /// Turns a half-open connection into a connection in its listener's accept queue. `None` when the table is full.
    fn promote(&mut self, core: &mut Core, index: u32, seg: &Segment) -> Option<u32> {
        let h = self.halves.at(index)?;
        let profile = self.profiles.get(h.profile);
        let flow = flow_bytes(&h.remote, h.remote_port, &profile.local, h.local_port);
        let mut tcb = Tcb::new(h.remote, h.remote_port, h.local_port, h.profile);
        tcb.ts_offset = self.timestamp_offset(&flow);
        tcb.state = State::Established;
        tcb.rcv_nxt = h.irs + 1;
        tcb.rcv_adv = tcb.rcv_nxt + profile.options.receive_buffer.min(65_535);
        tcb.last_ack_sent = tcb.rcv_nxt;
        tcb.ts_recent = h.ts_recent;
        tcb.snd_una = h.iss + 1;
        tcb.snd_nxt = tcb.snd_una;
        tcb.snd_wl1 = h.irs;
        if h.scale != 0xff {
            tcb.scales = h.scale | window_shift(profile.options.receive_buffer) << 4;
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
        tcb.flags |= flag::UNACCEPTED;
        tcb.snd_wnd = u32::from(seg.window) << tcb.snd_scale();
        tcb.max_wnd = tcb.snd_wnd;
        tcb.peer_mss = h.mss;
        let options = if tcb.has(flag::TIMESTAMPS) { 12 } else { 0 };
        tcb.mss = h
            .mss
            .min(profile.options.max_segment.unwrap_or(u16::MAX))
            .saturating_sub(options)
            .max(36);
        tcb.quick_acks = QUICK_ACKS;
        tcb.last_received = core.now.millis() as u32;
        tcb.last_sent = tcb.last_received;
        // Karn: a SYN-ACK that was sent once is timed by its timer, one that was sent again by the echo only.
        match core.wheel.deadline(h.timer).filter(|_| h.retries == 0) {
            Some(due) => tcb.sample_rtt(core.now - (due - h.pace())),
            None => tcb.sample_echo(core.now, seg),
        }
        tcb.begin(h.retries);
        let (listener, timer) = (u32::from(h.listener), h.timer);
        tcb.token = u64::from(listener);
        let key = self.conns.insert(tcb)?;
        self.flows.replace(
            seg.hash,
            flow_index(KIND_HALF_OPEN, index),
            flow_index(KIND_CONNECTION, key.index),
        );
        self.halves.remove_at(index);
        core.wheel.cancel(timer);
        core.count(Count::TcpPassiveOpens);
        self.enqueue_accept(listener, key.index);
        self.start_keepalive(core, key.index);
        Some(key.index)
    }

    fn enqueue_accept(&mut self, listener: u32, index: u32) {
        let Some(l) = self.listeners.at_mut(listener) else {
            return;
        };
        l.half_open = l.half_open.saturating_sub(1);
        l.queued += 1;
        let tail = core::mem::replace(&mut l.queue.tail, index);
        if tail == NONE {
            l.queue.head = index;
        } else if let Some(last) = self.conns.at_mut(tail) {
            last.ready_link = index;
        }
        if let Some(tcb) = self.conns.at_mut(index) {
            tcb.ready_link = NONE;
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

    pub(super) fn pop_ready_listener(&mut self) -> Option<(SocketId, u64, Ready)> {
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
                return Some((
                    SocketId::new(SocketKind::Listener, key),
                    token,
                    Ready::READABLE,
                ));
            }
        }
    }

    /// Takes the oldest connection out of the accept queue.
    ///
    /// # Errors
    /// `WouldBlock` when it is empty.
    pub(crate) fn accept(&mut self, id: SocketId) -> Result<SocketId, SocketError> {
        let listener = self.listener_index(id)?;
        let index = self.pop_accept(listener).ok_or(SocketError::WouldBlock)?;
        let has_data = !self.readiness(index).is_empty();
        if has_data {
            self.raise(index, Ready::READABLE);
        }
        self.id_of(index).ok_or(SocketError::BadSocket)
    }

    fn pop_accept(&mut self, listener: u32) -> Option<u32> {
        let l = self.listeners.at_mut(listener)?;
        let index = l.queue.head;
        let tcb = self.conns.at_mut(index)?;
        l.queued -= 1;
        l.queue.head = tcb.ready_link;
        if l.queue.head == NONE {
            l.queue.tail = NONE;
        }
        tcb.ready_link = NONE;
        tcb.flags &= !flag::UNACCEPTED;
        tcb.token = 0;
        Some(index)
    }

    /// Closes a listener: connections nobody accepted are reset, half-open ones forgotten.
    pub(crate) fn close_listener(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        id: SocketId,
    ) -> Result<(), SocketError> {
        let listener = self.listener_index(id)?;
        while let Some(index) = self.pop_accept(listener) {
            self.abort_at(core, net, index);
        }
        // Closing a listener is rare; the half-open table is small and bounded.
        let mine: Vec<u32> = self
            .halves
            .iter()
            .filter(|(_, h)| u32::from(h.listener) == listener)
            .map(|(k, _)| k.index)
            .collect();
        for index in mine {
            self.forget_half_open(core, index);
        }
        self.unlink_ready_listener(listener);
        if let Some(l) = self.listeners.remove_at(listener) {
            let hash = self.ports.hash(&port_bytes(&l.local, l.port));
            self.ports.remove(hash, listener);
            self.local_ports.remove_listener(l.port);
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
