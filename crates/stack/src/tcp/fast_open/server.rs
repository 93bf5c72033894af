//! A listener's side of Fast Open (RFC 7413 4.2).
//!
//! What does not live here: cookies (`keys`), the accept queue (`listen`).
//!
//! Invariant: before the SYN-ACK is acknowledged nothing but it is sent again.
//! Invariant: a listener with `fast_open_queue` of these connections under way opens no more of them.

use core::time::Duration;

use base::{Chain, Instant, Key, Seq};
use wire::tcp::{FastOpen, Flags};

use crate::context::Core;
use crate::error::SocketError;
use crate::net::Net;
use crate::socket::SocketId;
use crate::stats::{Count, Drop};
use crate::tcp::conn::{Conn, Outcome};
use crate::tcp::delack::Acking;
use crate::tcp::input::Arrival;
use crate::tcp::listen::Listener;
use crate::tcp::record::{NONE, Repair, State, Tcb, flag, half, more};
use crate::tcp::saved_syn::Owner;
use crate::tcp::segment::{Segment, flow_bytes};
use crate::tcp::timer::sync;
use crate::tcp::{KIND_CONNECTION, List, Tcp, flow_index};

use super::keys::Made;
use super::{Fast, FastOpenKeys, Keys, Server, allow};

/// For how long a connection counts that a reset ended within its handshake: else resets, which cost an attacker nothing, would
/// take the bound away (RFC 7413 5.1).
const REMEMBERED: Duration = Duration::from_secs(60);
/// A SYN that comes again so soon is a copy, not a call for another answer.
const ANSWER_GAP: Duration = Duration::from_millis(200);

/// What a listener keeps of its Fast Open connections.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Under way, and ended by a reset lately.
    pub(crate) count: u32,
    /// The latter, oldest first.
    reset: List,
    /// Keys of its own.
    keys: Option<Keys>,
}

impl Pending {
    pub(crate) const NONE: Self = Self {
        count: 0,
        reset: List::EMPTY,
        keys: None,
    };
}

/// How a SYN is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// With a connection, and perhaps a newer cookie.
    Open(Option<FastOpen>),
    /// As ever, and perhaps with a cookie.
    Ordinary(Option<FastOpen>),
}

impl Tcp {
    /// Sets the keys of a listener, or those of the host.
    pub(crate) fn set_fast_open_keys(
        &mut self,
        listener: Option<SocketId>,
        keys: FastOpenKeys,
    ) -> Result<(), SocketError> {
        let keys = Keys::new(keys);
        match listener {
            Some(id) => self.listener_mut(id)?.fast_open.keys = Some(keys),
            None => self.fast_keys = keys,
        }
        Ok(())
    }

    /// The keys a listener uses, or those of the host.
    pub(crate) fn fast_open_keys(
        &self,
        listener: Option<SocketId>,
    ) -> Result<FastOpenKeys, SocketError> {
        let own = match listener {
            Some(id) => self.listener(id)?.fast_open.keys,
            None => None,
        };
        Ok(own.unwrap_or(self.fast_keys).get())
    }

    /// How a listener takes a SYN that gets a record: Linux's rules.
    #[inline]
    pub(in crate::tcp) fn fast_answer(
        &mut self,
        core: &mut Core,
        listener: u32,
        seg: &Segment,
    ) -> Answer {
        let asked = seg.options.as_ref().and_then(|options| options.fast_open);
        let enabled = core.tcp.fastopen & allow::SERVER != 0;
        if !enabled || (asked.is_none() && seg.len == 0) {
            return Answer::Ordinary(None);
        }
        self.judge(core, listener, seg, asked)
    }

    #[cold]
    fn judge(
        &mut self,
        core: &mut Core,
        listener: u32,
        seg: &Segment,
        asked: Option<FastOpen>,
    ) -> Answer {
        if asked.is_some_and(|option| option.is_request()) {
            core.count(Count::TcpFastOpenCookieRequests);
        }
        if !self.has_room(core, listener) {
            return Answer::Ordinary(None);
        }
        let Some(l) = self.listeners.at(listener) else {
            return Answer::Ordinary(None);
        };
        let without = core.tcp.fastopen & allow::SERVER_WITHOUT_COOKIE != 0;
        if without || l.options.fast_open_no_cookie {
            return Answer::Open(None);
        }
        let keys = l.fast_open.keys.unwrap_or(self.fast_keys);
        let Some(given) = asked else {
            return Answer::Ordinary(None);
        };
        let fresh = keys.give(&seg.src, &seg.dst, &given);
        if given.is_request() {
            return Answer::Ordinary(fresh);
        }
        match keys.check(&seg.src, &seg.dst, &given) {
            Some(Made::Now) => Answer::Open(None),
            Some(Made::Before) => {
                core.count(Count::TcpFastOpenBackupKey);
                Answer::Open(fresh)
            }
            None => {
                core.count(Count::TcpFastOpenPassiveFail);
                Answer::Ordinary(fresh)
            }
        }
    }

    /// Whether one more connection may be opened by a SYN; the oldest that was reset makes room once its time is over.
    fn has_room(&mut self, core: &mut Core, listener: u32) -> bool {
        let Some(l) = self.listeners.at(listener) else {
            return false;
        };
        let most = l.options.fast_open_queue.min(core.tcp.somaxconn);
        if most == 0 {
            return false;
        }
        if l.fast_open.count < most && !self.fasts.is_full() {
            return true;
        }
        let oldest = l.fast_open.reset.head;
        let over = matches!(self.fasts.at(oldest), Some(Fast::Server(s)) if s.at <= core.now);
        if over && l.fast_open.count <= most {
            self.forget_oldest_reset(listener);
            return true;
        }
        core.count(Count::TcpFastOpenListenOverflows);
        false
    }

    /// Makes a connection of a SYN, with its data. The data come back when there is no room for it.
    ///
    /// # Errors
    /// As said: then the SYN gets the ordinary handshake.
    pub(in crate::tcp) fn open_fast(
        &mut self,
        core: &mut Core,
        net: &Net,
        listener: u32,
        seg: &Segment,
        (iss, option): (Option<Seq>, Option<FastOpen>),
        data: Chain,
    ) -> Result<(), Chain> {
        let Some((index, fast)) = self.enter_fast(core, net, listener, seg, (iss, option)) else {
            core.count(Count::TcpFastOpenPassiveFail);
            return Err(data);
        };
        self.keep_account(core.now, index);
        self.save_syn(core, listener, seg, Owner::Connection(index));
        let Some(mut conn) = self.conn(index) else {
            self.undo_fast(index, fast, seg);
            core.count(Count::TcpFastOpenPassiveFail);
            return Err(data);
        };
        conn.act.set_fast(fast);
        conn.act.rto_at = conn.rto_from(core.now);
        conn.act.stuck_since = core.now;
        let before = conn.tcb.rcv_nxt;
        conn.receive(core, seg, data);
        if let Some(ledger) = &mut conn.ledger {
            ledger.arrived(seg);
            ledger.received(core.now, conn.tcb.rcv_nxt.dist(before), seg);
        }
        if conn.tcb.rcv_nxt != before {
            conn.tcb.more |= more::SYN_DATA;
        }
        // The SYN-ACK acknowledges them: how ACKs leave begins with what comes next.
        conn.tcb.acking = Acking::START;
        sync(core, conn.tcb, conn.act, index);
        if let Some(l) = self.listeners.at_mut(listener) {
            l.fast_open.count += 1;
        }
        core.count(Count::TcpFastOpenPassive);
        self.offer(core, listener, index);
        self.queue_send(index);
        Ok(())
    }

    /// The records of a connection that a SYN opens. `None` when a table is full.
    fn enter_fast(
        &mut self,
        core: &mut Core,
        net: &Net,
        listener: u32,
        seg: &Segment,
        (iss, option): (Option<Seq>, Option<FastOpen>),
    ) -> Option<(u32, u32)> {
        let key = self.listeners.key_of(listener)?;
        let flow = flow_bytes(&seg.src, seg.src_port, &seg.dst, seg.dst_port);
        let own = &self.listeners.at(listener)?.options;
        let mut h = Self::read_syn(core, listener, own, seg);
        h.iss = iss.unwrap_or_else(|| self.initial_sequence(core, &flow));
        h.flags |= half::COOKIE; // no SYN-ACK of it can be timed yet
        let options = &self.listeners.at(listener)?.options;
        h.profile = self.profiles.acquire(
            seg.dst,
            &options.begun(&core.tcp, net, (&seg.src, &seg.dst)),
        )?;
        self.note_window(core, net, &mut h);
        let mut tcb = self.passive(core, &h, seg);
        tcb.snd_wnd = u32::from(seg.window); // never scaled on a SYN (RFC 7323 2.2)
        tcb.note_offer(tcb.snd_wnd);
        tcb.flags |= flag::RETRANSMIT; // the SYN-ACK is due
        tcb.more |= more::OPENING;
        let record = Fast::Server(Server {
            listener: key,
            irs: h.irs,
            option,
            at: core.now,
            next: NONE,
        });
        let connection = self.conns.insert(tcb);
        let fast = self.fasts.insert(record);
        let entered = connection.is_some_and(|key| {
            let entry = flow_index(KIND_CONNECTION, key.index);
            fast.is_some() && self.flows.insert(seg.hash, entry).is_ok()
        });
        if let (Some(connection), Some(fast), true) = (connection, fast, entered) {
            self.open_acc_ecn(&core.tcp, connection.index, &h);
            return Some((connection.index, fast.index));
        }
        connection.map(|key| self.conns.remove(key));
        fast.map(|key| self.fasts.remove(key));
        self.profiles.release(h.profile);
        None
    }

    fn undo_fast(&mut self, index: u32, fast: u32, seg: &Segment) {
        self.flows
            .remove(seg.hash, flow_index(KIND_CONNECTION, index));
        self.fasts.remove_at(fast);
        self.ledgers.close(index);
        self.searches.close(index);
        self.saved.forget(Owner::Connection(index));
        self.acc_ecns.close(index);
        if let Some(tcb) = self.conns.remove_at(index) {
            self.profiles.release(tcb.profile);
        }
    }

    /// A connection opened by a SYN is established, or has ended for this reason.
    pub(super) fn end_pending(&mut self, core: &Core, fast: u32, error: Option<SocketError>) {
        let Some(Fast::Server(server)) = self.fasts.at_mut(fast) else {
            return;
        };
        let Some(l) = self.listeners.get_mut(server.listener) else {
            self.fasts.remove_at(fast);
            return;
        };
        if error != Some(SocketError::ConnectionReset) {
            l.fast_open.count -= 1;
            self.fasts.remove_at(fast);
            return;
        }
        server.at = core.now + REMEMBERED;
        let tail = core::mem::replace(&mut l.fast_open.reset.tail, fast);
        match self.fasts.at_mut(tail) {
            Some(Fast::Server(last)) if tail != NONE => last.next = fast,
            _ => l.fast_open.reset.head = fast,
        }
    }

    fn forget_oldest_reset(&mut self, listener: u32) {
        let Some(l) = self.listeners.at_mut(listener) else {
            return;
        };
        if let Some(Fast::Server(oldest)) = self.fasts.remove_at(l.fast_open.reset.head) {
            l.fast_open.count -= 1;
            l.fast_open.reset.head = oldest.next;
            if oldest.next == NONE {
                l.fast_open.reset.tail = NONE;
            }
        }
    }

    /// A listener goes: nothing of it counts any more.
    pub(in crate::tcp) fn close_pending(&mut self, listener: &Listener) {
        let mut at = listener.fast_open.reset.head;
        while let Some(Fast::Server(record)) = self.fasts.remove_at(at) {
            at = record.next;
        }
    }

    /// Connections in a listener's list of those that were reset, for the audit; `None` when it does not end.
    pub(in crate::tcp) fn reset_lately(&self, listener: Key) -> Option<u32> {
        let (mut count, mut at) = (0, self.listeners.get(listener)?.fast_open.reset.head);
        while at != NONE && count <= self.fasts.len() {
            let Some(Fast::Server(record)) = self.fasts.at(at) else {
                return None;
            };
            (at, count) = (record.next, count + 1);
        }
        (at == NONE).then_some(count)
    }

    /// The listener of an OPENING connection, for the audit.
    pub(in crate::tcp) fn pending_of(&self, fast: u32) -> Option<Key> {
        match self.fasts.at(fast)? {
            Fast::Server(server) => Some(server.listener),
            Fast::Client(_) => None,
        }
    }
}

impl Tcb {
    /// SYN-RECEIVED of a connection that a SYN with data opened.
    #[inline]
    pub(crate) fn opening(&self) -> bool {
        self.more & more::OPENING != 0
    }

    /// The state as others know it: this is SYN-RECEIVED, unless the application has closed it already.
    pub(crate) fn shown_state(&self) -> State {
        match self.state {
            State::Established if self.opening() => State::SynReceived,
            state => state,
        }
    }
}

impl Conn<'_> {
    fn server(&self) -> Option<&Server> {
        match self.fasts.at(self.act.fast())? {
            Fast::Server(server) => Some(server),
            Fast::Client(_) => None,
        }
    }

    /// The cookie that goes with the first SYN-ACK.
    pub(in crate::tcp) fn take_new_cookie(&mut self) -> Option<FastOpen> {
        match self.fasts.at_mut(self.act.fast())? {
            Fast::Server(server) => server.option.take(),
            Fast::Client(_) => None,
        }
    }

    /// Whether a segment is the SYN that opened the connection, come again.
    pub(in crate::tcp) fn is_syn_again(&self, seg: &Segment) -> bool {
        let plain = !seg.has(Flags::ACK) && !seg.has(Flags::RST);
        plain && seg.has(Flags::SYN) && self.server().is_some_and(|s| s.irs == seg.seq)
    }

    /// Its answer was lost or is on its way. Answering counts as the retransmission that was due next, so that SYNs by the
    /// thousand neither get as many answers nor keep the connection alive.
    pub(in crate::tcp) fn answer_again(&mut self, core: &Core, seg: &Segment) -> (Drop, Arrival) {
        if let Some((tsval, _)) = seg.timestamps.filter(|_| self.tcb.has(flag::TIMESTAMPS))
            && (tsval.wrapping_sub(self.tcb.ts_recent) as i32) > 0
        {
            self.tcb.ts_recent = tsval;
        }
        let since = self.rto().saturating_sub(self.act.rto_at - core.now);
        if since < ANSWER_GAP || self.opening_is_over(core) {
            return (Drop::TcpDuplicate, Arrival::default());
        }
        self.answer_late(core.now);
        (Drop::TcpDuplicate, Arrival::send())
    }

    fn answer_late(&mut self, now: Instant) {
        self.tcb.backoff += 1;
        self.act.rto_at = self.rto_from(now);
        self.tcb.flags |= flag::RETRANSMIT;
    }

    /// Whether the SYN-ACK was sent as often as may be: once more than an ordinary one, as on Linux.
    fn opening_is_over(&self, core: &Core) -> bool {
        let options = &self.profile.options;
        let most = options
            .syn_retries
            .map_or(core.tcp.synack_retries + 1, u32::from);
        u32::from(self.tcb.backoff) >= most
    }

    /// The SYN-ACK was not answered in time. Whatever else is in flight waits: a client that has no SYN-ACK takes nothing.
    #[cold]
    pub(in crate::tcp) fn on_opening_timer(&mut self, core: &mut Core) -> Outcome {
        let stuck = core.now - self.act.stuck_since;
        let user = self.profile.options.user_timeout;
        if self.opening_is_over(core) || user.is_some_and(|limit| stuck >= limit) {
            return self.tcb.timed_out();
        }
        core.count(Count::TcpTimeouts);
        self.answer_late(core.now);
        Outcome::SEND
    }

    /// The handshake ends, if its ACK is for something sent (RFC 9293 3.10.7.4 fifth, SYN-RECEIVED).
    #[cold]
    pub(in crate::tcp) fn end_opening(&mut self, core: &mut Core, seg: &Segment) -> bool {
        if seg.ack.lt(self.tcb.snd_una) || seg.ack.gt(self.tcb.snd_nxt) {
            return false;
        }
        self.end_opening_accurately(&core.tcp, seg);
        let retries = core::mem::take(&mut self.tcb.backoff);
        self.tcb.more &= !more::OPENING;
        self.tcb.flags &= !flag::RETRANSMIT;
        // Karn: a SYN-ACK that was sent once is timed by its clock, one that was sent again by the echo only.
        match self.server().map(|server| server.at) {
            Some(at) if retries == 0 => self.tcb.sample_rtt(core.now - at),
            _ => self.tcb.sample_echo(core.now, seg),
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.answered();
        }
        self.act.rto_at = Instant::FAR;
        self.act.stuck_since = Instant::FAR;
        if self.tcb.outstanding() == 0 {
            self.tcb.begin(retries, &self.profile.options);
            return true;
        }
        self.act.rto_at = core.now + self.tcb.rto();
        self.act.stuck_since = core.now;
        // What was sent before a SYN-ACK got through was for a client that could not take it.
        if retries > 0 && seg.ack == self.tcb.snd_una && self.act.repair == Repair::Open {
            self.timeout(core);
            self.tcb.backoff = 0;
        }
        true
    }
}
