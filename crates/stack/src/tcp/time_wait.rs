//! TIME-WAIT: a record of 48 bytes that answers old segments and lets a newer SYN through (RFC 9293 3.10.7.4, RFC 6191).
//!
//! All last equally long, so they expire in the order they came: a queue and one timer serve them all. One whose clock is
//! started again (a repeated FIN) is only marked and put back at the end when its turn comes.
//!
//! What does not live here: the connection before; nothing of it is needed.

use core::time::Duration;

use base::{Chain, Seq};
use wire::tcp::{Flags, Options, Repr};

use crate::context::{Core, TimerKind};
use crate::net::Net;
use crate::socket::Ready;
use crate::stats::{Count, Drop};

use super::acc_ecn::{AccEcn, ECT_0};
use super::output::Marks;
use super::record::{NONE, TimeWait, flag};
use super::segment::{Segment, flow_bytes};
use super::share::Caller;
use super::{KIND_CONNECTION, KIND_TIME_WAIT, List, Tcp, flow_index};

/// Marks, in `link`'s top bit, that timestamps are in use.
const TIMESTAMPS: u32 = 1 << 31;
/// Marks, in the bit below, that the clock was started again and the record's place in the queue is stale.
const RESTARTED: u32 = 1 << 30;
/// Marks, in the next bit, that what is sent is capable of marks: accurate ECN was spoken (as Linux). Its counters are gone.
const CAPABLE: u32 = 1 << 29;
/// Marks, in the next bit, that nothing finds the record any more: it only waits for its turn in the queue to be freed.
const RETIRED: u32 = 1 << 28;
/// How far above its last number a connection begins anew: more than an unscaled window.
const MARGIN: u32 = 65_537;
/// `link` without the marks, when it means "last".
const LAST: u32 = RETIRED - 1;

impl TimeWait {
    fn timestamps(&self) -> bool {
        self.link & TIMESTAMPS != 0
    }

    pub(super) fn next(&self) -> u32 {
        match self.link & LAST {
            LAST => NONE,
            next => next,
        }
    }

    fn restarted(&self) -> bool {
        self.link & RESTARTED != 0
    }

    pub(super) fn retired(&self) -> bool {
        self.link & RETIRED != 0
    }

    fn set_next(&mut self, next: u32) {
        self.link = self.link & !LAST | if next == NONE { LAST } else { next };
    }
}

impl Tcp {
    /// Both FINs are acknowledged: the connection becomes a TIME-WAIT record. What was received stays readable.
    pub(super) fn enter_time_wait(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        let Some(tcb) = self.conns.at(index) else {
            return;
        };
        self.profiles.retain(tcb.profile);
        let accurate = tcb.is_accurate();
        let capable = accurate && self.acc_ecns.at(index).is_some_and(AccEcn::is_capable);
        let record = TimeWait {
            remote: tcb.remote,
            remote_port: tcb.remote_port,
            local_port: tcb.local_port,
            profile: tcb.profile,
            window: tcb.rcv_wnd().div_ceil(1 << tcb.rcv_scale()).min(65_535) as u16,
            snd_nxt: tcb.snd_nxt,
            rcv_nxt: tcb.rcv_nxt,
            ts_recent: tcb.ts_recent,
            ts_offset: tcb.ts_offset,
            expires: (core.now.millis() as u32).wrapping_add(self.time_wait_ms),
            link: LAST
                | if tcb.has(flag::TIMESTAMPS) {
                    TIMESTAMPS
                } else {
                    0
                }
                | if capable { CAPABLE } else { 0 },
        };
        let owed_ack = tcb.has(flag::ACK_NOW);
        let (profile, port, orphan) = (tcb.profile, tcb.local_port, tcb.has(flag::ORPHAN));
        let local = self.profiles.get(profile).local;
        let flow = flow_bytes(&tcb.remote, tcb.remote_port, &local, port);
        let hash = self.flows.hash(&flow);
        if self.waits.is_full() {
            // The oldest makes room. Linux would have the newest go without.
            core.count(Count::TcpTimeWaitRecycled);
            self.expire_oldest();
        }
        let Some(key) = self.waits.insert(record) else {
            self.profiles.release(profile);
            return self.dissolve(core, index, None);
        };
        self.flows.replace(
            hash,
            flow_index(KIND_CONNECTION, index),
            flow_index(KIND_TIME_WAIT, key.index),
        );
        if !orphan {
            self.lingering.begin(&local, port);
        } // else it goes on holding what it held
        self.append_wait(core, key.index);
        if owed_ack {
            self.ack_from_wait(core, net, key.index);
        }
        if self.waits.len() > core.tcp.max_tw_buckets {
            core.count(Count::TcpTimeWaitRecycled);
            self.expire_oldest();
        }
        // The flow entry is the record's now; what is left of the connection only waits for its owner.
        if let Some(tcb) = self.conns.at_mut(index) {
            tcb.state = super::State::Closed;
        }
        self.dissolve(core, index, None);
        self.raise(index, Ready::HUP);
    }

    fn append_wait(&mut self, core: &mut Core, index: u32) {
        self.link_wait(index);
        self.arm_wait_timer(core);
    }

    fn link_wait(&mut self, index: u32) {
        if let Some(w) = self.waits.at_mut(index) {
            w.set_next(NONE);
        }
        let tail = core::mem::replace(&mut self.wait_queue.tail, index);
        if tail == NONE {
            self.wait_queue.head = index;
        } else if let Some(last) = self.waits.at_mut(tail) {
            last.set_next(index);
        }
    }

    fn arm_wait_timer(&mut self, core: &mut Core) {
        if self.wait_timer {
            return;
        }
        self.requeue_restarted();
        if let Some(head) = self.waits.at(self.wait_queue.head) {
            let left = head
                .expires
                .wrapping_sub(core.now.millis() as u32)
                .min(self.time_wait_ms);
            let at = core.now + core::time::Duration::from_millis(u64::from(left) + 1);
            self.wait_timer = core.arm(at, TimerKind::TimeWait, 0, 0).is_some();
        }
    }

    /// The timer of the queue: everything due goes, or back to the end if its clock was started again.
    pub(crate) fn on_time_wait_timer(&mut self, core: &mut Core) {
        self.wait_timer = false;
        let now = core.now.millis() as u32;
        self.requeue_restarted();
        while let Some(head) = self.waits.at(self.wait_queue.head)
            && (head.expires.wrapping_sub(now) as i32) <= 0
        {
            self.expire_oldest();
            self.requeue_restarted();
        }
        self.arm_wait_timer(core);
    }

    /// Moves records whose clock was started again from the head to the end, where their time belongs.
    fn requeue_restarted(&mut self) {
        while self
            .waits
            .at(self.wait_queue.head)
            .is_some_and(TimeWait::restarted)
        {
            let Some(index) = self.pop_wait() else { return };
            if let Some(w) = self.waits.at_mut(index) {
                w.link &= !RESTARTED;
            }
            self.link_wait(index);
        }
    }

    fn pop_wait(&mut self) -> Option<u32> {
        let index = self.wait_queue.head;
        let head = self.waits.at(index)?;
        self.wait_queue.head = head.next();
        if self.wait_queue.head == NONE {
            self.wait_queue = List::EMPTY;
        }
        Some(index)
    }

    fn expire_oldest(&mut self) {
        if let Some(index) = self.pop_wait() {
            self.forget_wait(index);
        }
    }

    /// Takes a record out of the flow table and frees it; it must be out of the queue.
    fn forget_wait(&mut self, index: u32) {
        let Some(w) = self.waits.remove_at(index) else {
            return;
        };
        let local = self.profiles.get(w.profile).local;
        if !w.retired() {
            self.let_tuple_go(index, &w);
        }
        self.flow_left(|| ((local, w.local_port), (w.remote, w.remote_port)));
        self.profiles.release(w.profile);
    }

    /// Nothing finds the record any more, and its address and port are free.
    fn let_tuple_go(&mut self, index: u32, w: &TimeWait) {
        let local = self.profiles.get(w.profile).local;
        let hash = self
            .flows
            .hash(&flow_bytes(&w.remote, w.remote_port, &local, w.local_port));
        self.flows.remove(hash, flow_index(KIND_TIME_WAIT, index));
        self.lingering.end(&local, w.local_port);
    }

    /// Whether a connection from here may take a record's tuple over (RFC 6191, Linux's tcp_tw_reuse): timestamps must tell its
    /// segments from the old ones. One whose port the application named need not wait.
    pub(super) fn may_reuse(&self, core: &Core, index: u32, named: bool) -> bool {
        let Some(w) = self.waits.at(index).filter(|w| w.timestamps()) else {
            return false;
        };
        let allowed = match core.tcp.tw_reuse {
            0 => false,
            1 => true,
            _ => w.remote.is_loopback() || self.profiles.get(w.profile).local.is_loopback(),
        };
        let left = w.expires.wrapping_sub(core.now.millis() as u32);
        let waited = self.time_wait_ms.saturating_sub(left);
        named || (allowed && waited > core.tcp.tw_reuse_delay)
    }

    /// The first number of a connection that takes the tuple of a record over: above all those before, by Linux's margin.
    pub(super) fn after_time_wait(&self, index: u32) -> Option<Seq> {
        self.waits.at(index).map(|w| w.snd_nxt + MARGIN)
    }

    /// Takes a record out of the flow table at once and lets the queue free it when its turn comes.
    pub(super) fn retire_wait(&mut self, now_ms: u32, index: u32) {
        let Some(w) = self.waits.at_mut(index) else {
            return;
        };
        w.expires = now_ms;
        w.link = w.link & !RESTARTED | RETIRED;
        let w = *w;
        self.let_tuple_go(index, &w);
    }

    fn ack_from_wait(&mut self, core: &mut Core, net: &mut Net, index: u32) {
        let Some(w) = self.waits.at(index) else {
            return;
        };
        let (remote, local) = (w.remote, self.profiles.get(w.profile).local);
        let repr = Repr {
            src_port: w.local_port,
            dst_port: w.remote_port,
            seq: w.snd_nxt.0,
            ack: Some(w.rcv_nxt.0),
            flags: Flags(0),
            window: w.window,
            urgent: 0,
            options: Options {
                timestamps: w.timestamps().then(|| {
                    (
                        (core.now.millis() as u32).wrapping_add(w.ts_offset),
                        w.ts_recent,
                    )
                }),
                ..Options::default()
            },
        };
        let mut marks = Marks::of(&self.profiles.get(w.profile).options);
        if w.link & CAPABLE != 0 {
            marks.tos |= ECT_0;
        }
        self.send_stateless(core, net, &repr, (&remote, &local), marks);
    }

    /// A segment for a connection in TIME-WAIT.
    #[cold]
    pub(super) fn at_time_wait(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        index: u32,
        seg: &Segment,
        data: Chain,
    ) {
        let now = core.now.millis() as u32;
        let Some(w) = self.waits.at_mut(index) else {
            return core.pool.free(data);
        };
        let newer = seg
            .timestamps
            .filter(|_| w.timestamps())
            .map(|(tsval, _)| tsval.wrapping_sub(w.ts_recent) as i32);
        let paws = newer.is_some_and(|d| d < 0);
        if seg.has(Flags::RST) {
            // An exact reset ends it, unless RFC 1337 is followed; anything else is ignored (as Linux).
            core.drop_packet(data, Drop::TcpTimeWait);
            if seg.seq == w.rcv_nxt && core.tcp.rfc1337 == 0 {
                self.retire_wait(now, index);
            }
            return;
        }
        // RFC 6191 2 and RFC 1122 4.2.2.13: a SYN that is newer by timestamp or by sequence number opens the connection again,
        // if someone listens. Our numbers start above those used before, by Linux's margin.
        let plain = seg.has(Flags::SYN) && !seg.has(Flags::ACK) && !seg.has(Flags::FIN);
        let opens = plain && !paws && (seg.seq.gt(w.rcv_nxt) || newer.is_some_and(|d| d > 0));
        let first = w.snd_nxt + MARGIN;
        if opens && let Some(listener) = self.listener_for(&Caller::of(core, net, seg, &data)) {
            if self.answer_syn(core, net, listener, (seg, data), Some(first)) {
                self.retire_wait(now, index);
            }
            return;
        }
        core.drop_packet(data, Drop::TcpTimeWait);
        // Only the peer's last segment says something; anyone may guess a number below it.
        if let Some(w) = self.waits.at_mut(index)
            && seg.end() == w.rcv_nxt
            && !paws
        {
            if seg.has(Flags::FIN) {
                w.link |= RESTARTED;
                w.expires = now.wrapping_add(self.time_wait_ms); // RFC 9293: restart the 2 MSL timeout
            }
            if let Some((tsval, _)) = seg.timestamps.filter(|_| w.timestamps()) {
                w.ts_recent = tsval;
            }
        }
        // What occupies sequence space is acknowledged, and a bare ACK that is out of place, but of those one now and then for all
        // of the host's, or two would loop (RFC 5961 7).
        let astray = self.waits.at(index).is_some_and(|w| seg.seq != w.rcv_nxt) || paws;
        let occupies = seg.sequence_len() > 0;
        let limited = !occupies || seg.has(Flags::SYN);
        if occupies || (astray && core.now >= self.wait_mute_until) {
            if limited {
                let gap = Duration::from_millis(core.tcp.invalid_ratelimit.into());
                self.wait_mute_until = core.now + gap;
            }
            self.ack_from_wait(core, net, index);
        }
    }
}
