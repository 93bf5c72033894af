//! Sending: what a connection may send now, cut into segments or super-frames (RFC 9293 3.8, RFC 5681, RFC 1122 4.2.3.4).
//!
//! What does not live here: IP headers and neighbours (`net`); deciding what is lost (`recovery`).
//!
//! Invariant: never beyond the peer's window (but for probes), the congestion window, the MSS or the path MTU.
//! Invariant: every segment but the first SYN carries an ACK, and timestamps once negotiated (RFC 7323 3.2).

use base::{Chain, Checksum, Cursor, Facts, Gso, GsoKind, Instant, Seq};
use wire::checksum;
use wire::tcp::{Flags, Options, Repr};

use crate::context::Core;
use crate::net::{HEADROOM, InterfaceId, IpMeta, Net, Path};
use crate::socket::Ready;
use crate::stats::Count;

use super::Tcp;
use super::conn::Conn;
use super::delack::ACK_DELAY;
use super::profile::TcpOptions;
use super::rack::Early;
use super::record::{State, flag, more};
use super::sent::Tail;
use super::timer::{arm_no_later, sync};
use super::tunables::TcpTunables;

/// TCP's protocol number.
pub(crate) const PROTOCOL: u8 = 6;
/// Payloads up to this size are copied behind their header: cheaper than a second piece of memory for the device.
const COPY_UP_TO: usize = 1600;
/// Largest payload of a super-frame: the IP total length is 16 bits.
const SUPER_FRAME: u32 = 65_535 - 60 - 40;

/// Payload of the longest super-frame of whole segments: one segment at least, which on the largest MTUs is longer than others
/// may be together.
pub(crate) fn super_frame(mss: u32) -> u32 {
    (SUPER_FRAME - SUPER_FRAME % mss).max(mss)
}
/// Segments or super-frames one connection may send per visit before others get their turn.
const QUOTA: usize = 16;
/// Headers of IP and TCP without options, IPv4.
const HEADERS_V4: u16 = 40;
const HEADERS_V6: u16 = 60;

/// Bytes of the headers of a segment without options.
pub(crate) fn headers(v4: bool) -> u16 {
    if v4 { HEADERS_V4 } else { HEADERS_V6 }
}

/// The largest payload of a segment with `options` bytes of options that fits `mtu`.
pub(crate) fn payload_for_mtu(mtu: u16, v4: bool, options: u16) -> u16 {
    mtu.saturating_sub(headers(v4) + options).max(36)
}

/// The bytes of a segment: `len` of `queue`, from a place on that moves behind them.
pub(crate) struct Payload<'a> {
    pub(super) queue: &'a Chain,
    pub(super) from: &'a mut Cursor,
    pub(super) len: usize,
}

/// What a visit to one connection needs besides the connection.
pub(super) struct Way<'a> {
    pub(super) net: &'a mut Net,
    pub(super) path: Path,
    /// Super-frames: the device cuts them.
    pub(super) tso: bool,
}

impl Tcp {
    /// One transmit pass: visits connections that want to speak, those held back for `interface` first, until none does or
    /// `room` frames are queued.
    pub(crate) fn transmit(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        interface: InterfaceId,
        room: usize,
    ) {
        let mut left = room;
        while left > 0 {
            let Some(index) = self.pop_send(net, interface) else {
                return;
            };
            let quota = left.min(QUOTA);
            let (used, more) = self.visit(core, net, index, quota);
            left = left.saturating_sub(used);
            if more {
                self.queue_send(index);
            }
        }
    }

    fn visit(&mut self, core: &mut Core, net: &mut Net, index: u32, quota: usize) -> (usize, bool) {
        let Some(tcb) = self.conns.at(index) else {
            return (0, false);
        };
        if tcb.state == State::Closed {
            self.free_if_dead(index);
            return (0, false);
        }
        let profile = self.profiles.get(tcb.profile);
        let (remote, local, device) = (tcb.remote, profile.local, profile.options.device);
        let path = self.paths.get(core, net, &remote, &local, device);
        let room = path.map_or(quota, |path| net.room(path.interface));
        if let Some(path) = path
            && room == 0
        {
            self.hold(path.interface, index);
            return (0, false);
        }
        let quota = quota.min(room);
        let Some(mut conn) = self.conn(index) else {
            // No active part to be had now. Data and ACKs come back with the peer's retransmission.
            if let Some(tcb) = self.conns.at_mut(index).filter(|tcb| tcb.owes()) {
                let most = self.profiles.get(tcb.profile).options.rto_max();
                let again = core.now + tcb.rto().min(most);
                arm_no_later(core, tcb, again, index);
            }
            return (0, false);
        };
        let Some(path) = path else {
            // No route now: try again as if the segment had been lost.
            if conn.act.rto_at == Instant::FAR && conn.waits_to_send() {
                conn.act.rto_at = conn.rto_from(core.now);
            }
            conn.tcb.flags &= !(flag::ACK_NOW | flag::RETRANSMIT | flag::PROBE);
            sync(core, conn.tcb, conn.act, index);
            return (0, false);
        };
        if conn.tcb.has(flag::PROGRESS) {
            conn.tcb.flags &= !flag::PROGRESS;
            net.confirm(core, &path);
        }
        let offloads = net.offloads(path.interface);
        let tso = if remote.is_v4() {
            offloads.tso4
        } else {
            offloads.tso6
        };
        let mut way = Way { net, path, tso };
        let used = conn.send_pass(core, &mut way, quota);
        let more = used >= quota;
        // What was unsent has left, which TCP_NOTSENT_LOWAT may have waited for.
        let wakes = used > 0 && conn.tcb.has(flag::WANT_WRITE) && conn.is_writable(core);
        if wakes {
            conn.tcb.flags &= !flag::WANT_WRITE;
        }
        sync(core, conn.tcb, conn.act, index);
        let (una, nxt) = (conn.tcb.snd_una, conn.tcb.snd_nxt);
        self.advance_marks(core.now, index, una, nxt);
        if wakes {
            self.raise(index, Ready::WRITABLE);
        }
        self.settle(core, index);
        (used, more)
    }
}

impl Conn<'_> {
    /// Sends what may be sent, at most `quota` frames, and `TRANSPORT_SLACK` that carry no data. Returns how many.
    fn send_pass(&mut self, core: &mut Core, way: &mut Way<'_>, quota: usize) -> usize {
        if matches!(self.tcb.state, State::SynSent | State::SynReceived) {
            return self.send_syn(core, way);
        }
        let mut used = 0;
        if self.tcb.opening() && self.tcb.has(flag::RETRANSMIT) {
            if !self.send_opening(core, way) {
                return used; // nothing is of use before the SYN-ACK
            }
            used += 1;
        }
        self.fit(&way.path);
        let news = self.act.delivered > 0;
        self.confirm_loss(core);
        // Every segment reports what is out of order, those with data too (RFC 2018 3), and is the shorter for it.
        let whole = self.tcb.mss;
        if self.must_report_ranges() {
            self.tcb.mss = whole.saturating_sub(self.report_len()).max(8);
            way.tso = false;
        }
        if self.acc_ecn.is_some() {
            used += self.before_segments(core, way);
        }
        used = self.send_segments(core, way, used, quota, news);
        if self.tcb.mss != whole {
            self.tcb.mss = whole;
            self.tcb.cwnd = self.tcb.cwnd.max(whole.into()); // perhaps reckoned anew, by the shorter
        }
        used
    }

    /// Goes on when `used` frames are sent. `news`: an ACK came since the last pass.
    fn send_segments(
        &mut self,
        core: &mut Core,
        way: &mut Way<'_>,
        mut used: usize,
        quota: usize,
        news: bool,
    ) -> usize {
        if self.act.rack.early == Early::ProbeDue {
            used += self.send_loss_probe(core, way);
        }
        let paces = self.profile.options.paces();
        self.act.paced = false;
        while used < quota
            && !(paces && self.act.flight.lost > 0 && self.held_back(core.now))
            && self.retransmit_next(core, way)
        {
            used += 1;
        }
        let was_limited = self.tcb.flags & flag::CWND_LIMITED;
        self.tcb.flags &= !flag::CWND_LIMITED;
        self.restart_after_idle(core);
        let edge = self.tcb.snd_nxt;
        let mut most = quota;
        if self.search.is_some() && used < quota {
            match self.probe_path(core, way) {
                Some(sent) => used += sent,
                None => most = 0, // what is in flight makes room for a probe first
            }
        }
        while used < most {
            let len = self.sendable(&core.tcp, way.tso);
            if len == 0 || (paces && self.held_back(core.now)) || !self.send_new(core, way, len) {
                break;
            }
            used += 1;
        }
        if self.tcb.snd_nxt == edge {
            self.tcb.flags |= was_limited;
        } else {
            self.note_usage(core, was_limited != 0);
        }
        if used < quota && self.fin_due() && self.window_fits(1) && !self.holds_its_one() {
            used += self.send_fin(core, way);
        }
        if self.waits_in_vain() {
            while used < quota && self.retransmit_next(core, way) {
                used += 1;
            }
        }
        if (news || edge != self.tcb.snd_nxt) && !self.tcb.opening() {
            self.schedule_probe(core);
        }
        if self.tcb.has(flag::PROBE) {
            used += self.send_probe(core, way);
        }
        if self.tcb.has(flag::ACK_NOW) {
            used += self.send_bare(core, way, self.bare_seq(), Flags(0));
        }
        self.note_app_limited();
        self.arm_persist(core.now);
        self.account_time(core.now);
        used
    }

    /// Segments are no longer than the path lets them be (RFC 9293 MUST-16).
    fn fit(&mut self, path: &Path) {
        let options = self.option_bytes();
        let fits = payload_for_mtu(path.mtu, self.tcb.remote.is_v4(), options);
        if fits < self.tcb.mss {
            // The initial window was one of segments as long as the peer would take.
            let options = &self.profile.options;
            if self.tcb.cwnd == options.initial_window(u32::from(self.tcb.mss)) {
                self.tcb.cwnd = options.initial_window(u32::from(fits));
            }
            self.tcb.mss = fits;
        }
    }

    /// How many bytes of new data may leave in one frame now; 0: none.
    fn sendable(&mut self, tcp: &TcpTunables, tso: bool) -> u32 {
        let (unsent, middle) = self.first_record();
        if unsent == 0 {
            return 0;
        }
        let mss = u32::from(self.tcb.mss);
        let window = self.window_left();
        let congestion = self.congestion_room();
        let allowed = window.min(congestion).min(self.probe_room());
        if congestion < window.min(unsent) {
            self.tcb.flags |= flag::CWND_LIMITED;
        }
        let tso = tso && self.urgent_mode().is_none();
        let most = if self.owes_cwr() {
            mss
        } else if tso && allowed.min(unsent) > 2 * mss {
            self.long_frame(tcp)
        } else if tso {
            2 * mss
        } else {
            mss
        };
        let len = unsent.min(allowed).min(most);
        let whole = if len < mss { 0 } else { len - len % mss };
        if len == unsent && (len == whole || middle || self.may_send_partial()) {
            return len;
        }
        if whole > 0 {
            return whole;
        }
        if self.tcb.has(flag::OVERRIDE) {
            self.tcb.flags &= !flag::OVERRIDE;
            self.act.pushed = self.tcb.snd_nxt + len; // as Linux: whoever is asked so late shall not wait
            return len;
        }
        // RFC 9293 3.8.6.2.1 (3): half the largest window the peer ever offered is worth sending.
        if len > 0 && len == window && u64::from(len) * 2 >= u64::from(self.tcb.max_wnd()) {
            return len;
        }
        0
    }

    /// What the peer's window has left.
    fn window_left(&self) -> u32 {
        let edge = self.tcb.snd_una + self.tcb.snd_wnd;
        if edge.gt(self.tcb.snd_nxt) {
            edge.dist(self.tcb.snd_nxt)
        } else {
            0
        }
    }

    /// A congestion window of one segment is one segment's, however short that is (as Linux, which counts segments): nothing else goes
    /// with it, nor does a FIN, which otherwise takes no room.
    fn holds_its_one(&self) -> bool {
        self.tcb.cwnd < 2 * u32::from(self.tcb.mss) && self.pipe() > 0
    }

    /// What the congestion window has left, bytes.
    pub(super) fn congestion_room(&self) -> u32 {
        if self.holds_its_one() {
            return 0;
        }
        self.tcb.cwnd.saturating_sub(self.pipe())
    }

    /// How many more bytes the windows allow to be in flight.
    pub(crate) fn allowance(&self) -> u32 {
        let congestion = self.tcb.cwnd.saturating_sub(self.pipe());
        self.window_left().min(congestion)
    }

    /// The longest super-frame for now. As Linux: half the window at most in one frame, so that ACKs come back while the other
    /// half is on its way.
    pub(crate) fn long_frame(&self, tcp: &TcpTunables) -> u32 {
        let (half, mss) = (self.tcb.cwnd / 2, u32::from(self.tcb.mss).max(1));
        self.frame_limit(tcp).min((half - half % mss).max(mss))
    }

    /// Nagle (RFC 9293 3.7.4) and cork: may a segment shorter than the MSS leave? Of what is in flight only another short one
    /// holds it back (Minshall's variant, as Linux): else the end of each message would wait for its beginning.
    fn may_send_partial(&self) -> bool {
        if self.tcb.state.fin_queued() || self.urgent_mode().is_some() {
            return true;
        }
        if self.tcb.has(flag::CORK) || self.act.more {
            return false;
        }
        let end = self.act.small;
        let short_in_flight = end.gt(self.tcb.snd_una) && end.le(self.tcb.snd_nxt);
        self.tcb.has(flag::NODELAY) || !short_in_flight
    }

    /// Whether something is in flight or waits to be: a connection of which that is true needs a timer.
    fn waits_to_send(&self) -> bool {
        matches!(self.tcb.state, State::SynSent | State::SynReceived)
            || self.tcb.outstanding() > 0
            || !self.act.unsent.is_empty()
            || self.fin_due()
    }

    /// Whether the peer's window has room for so many more numbers.
    pub(crate) fn window_fits(&self, numbers: u32) -> bool {
        (self.tcb.snd_nxt + numbers).le(self.tcb.snd_una + self.tcb.snd_wnd)
    }

    pub(crate) fn fin_due(&self) -> bool {
        self.tcb.state.fin_queued() && !self.tcb.has(flag::FIN_SENT) && self.act.unsent.is_empty()
    }

    /// Sends `len` bytes of new data in one frame. `false` when memory is short: the timer tries again.
    pub(super) fn send_new(&mut self, core: &mut Core, way: &mut Way<'_>, len: u32) -> bool {
        let last = len as usize == self.act.unsent.len();
        let fin = last && self.tcb.state.fin_queued() && self.window_fits(len + 1);
        if !self.board().has_room() {
            return false; // an ACK of what is in flight makes some
        }
        let (queue, sent) = (&mut self.act.unsent, &mut self.act.sent);
        let Some(mut from) = core.queued(|pool| pool.move_front(queue, sent, len as usize)) else {
            return self.out_of_memory(core.now);
        };
        self.note_rate(core, len, self.pipe());
        let (seq, next) = (self.tcb.snd_nxt, self.tcb.snd_nxt + len);
        let record = self.ends_record(next);
        // RFC 9293 MUST-61: the end of what was written, unless more was announced.
        let pushed = record || self.act.pushed.gt(seq) && self.act.pushed.le(next);
        let ends = Tail { pushed, record };
        let mut flags = Flags(0);
        // And every super-frame, as Linux does: its last segment tells the receiver's offload that there is nothing to wait for.
        if ends.pushed || len > u32::from(self.tcb.mss) {
            flags |= Flags::PSH;
        }
        if fin {
            flags |= Flags::FIN;
        }
        self.note_in_flight(core.now, next + u32::from(fin), (Some(from), ends));
        let queue = core::mem::take(&mut self.act.sent);
        let data = Payload {
            queue: &queue,
            from: &mut from,
            len: len as usize,
        };
        let sent = self.emit(core, way, seq, flags, Some(data));
        self.act.sent = queue;
        self.tcb.snd_nxt = next + u32::from(fin);
        if !len.is_multiple_of(u32::from(self.tcb.mss)) {
            self.act.small = next;
        }
        if fin {
            self.tcb.flags |= flag::FIN_SENT;
        }
        self.note_sent(core.now, len + u32::from(fin));
        self.note_out(len);
        if self.profile.options.paces() {
            self.pace(core.now, &core.tcp, len);
        }
        sent || self.out_of_memory(core.now)
    }

    fn out_of_memory(&mut self, now: Instant) -> bool {
        if self.act.rto_at == Instant::FAR {
            self.act.rto_at = self.rto_from(now);
        }
        false
    }

    /// Times the segment just sent, of `len` numbers, and starts the retransmission timer (RFC 6298 5.1). One that runs though
    /// nothing was in flight was about what kept this from being sent.
    fn note_sent(&mut self, now: Instant, len: u32) {
        let idle = self.tcb.outstanding() == len && !self.tcb.opening();
        if self.act.rto_at == Instant::FAR || idle {
            self.act.rto_at = self.rto_from(now);
        }
        if self.act.stuck_since == Instant::FAR {
            self.act.stuck_since = now;
        }
        self.tcb.last_sent = now.millis() as u32;
    }

    /// Enters what is sent now, from `snd_nxt` to `end`, into the lists. What leaves within a 64th of the round trip is one.
    pub(super) fn note_in_flight(&mut self, now: Instant, end: Seq, what: (Option<Cursor>, Tail)) {
        let (start, together) = (self.tcb.snd_nxt, self.together());
        let odd = self.must_report_ranges();
        let mut board = self.board();
        if odd {
            board.mss = u32::MAX; // not as long as others are, so nothing is to join it
        }
        let noted = board.push((start, end), what, now.micros() as u32, together);
        debug_assert!(noted, "an active connection has a node of its own");
    }

    pub(super) fn together(&self) -> u32 {
        self.tcb.srtt >> (3 + 6)
    }

    fn send_fin(&mut self, core: &mut Core, way: &mut Way<'_>) -> usize {
        let seq = self.tcb.snd_nxt;
        self.note_in_flight(core.now, seq + 1, (None, Tail::default()));
        self.emit(core, way, seq, Flags::FIN, None);
        self.tcb.snd_nxt = seq + 1;
        self.tcb.flags |= flag::FIN_SENT;
        self.note_sent(core.now, 1);
        1
    }

    /// A window or keepalive probe: a segment the peer must answer, without data, one below what it expects (as Linux).
    fn send_probe(&mut self, core: &mut Core, way: &mut Way<'_>) -> usize {
        self.tcb.flags &= !flag::PROBE;
        if self.urgent_mode().is_some() {
            // Where the peer expects it: it takes the urgent pointer, though its window is closed (MUST-66).
            self.send_bare(core, way, self.tcb.snd_una, Flags(0));
        }
        self.send_bare(core, way, Seq(self.tcb.snd_una.0.wrapping_sub(1)), Flags(0))
    }

    /// The number of an ACK without data: the next, but none beyond a window that shrank, which the peer would not take. What
    /// window scaling rounds away is no shrinking (as Linux).
    fn bare_seq(&self) -> Seq {
        let edge = self.tcb.snd_una + self.tcb.snd_wnd;
        let scale = self.tcb.rcv_scale();
        let beyond =
            edge.lt(self.tcb.snd_nxt) && (scale == 0 || self.tcb.snd_nxt.dist(edge) >= 1 << scale);
        if beyond { edge } else { self.tcb.snd_nxt }
    }

    pub(super) fn send_bare(
        &mut self,
        core: &mut Core,
        way: &mut Way<'_>,
        seq: Seq,
        flags: Flags,
    ) -> usize {
        self.emit(core, way, seq, flags, None);
        1
    }

    /// RFC 9293 3.8.6.1: data or a FIN waits, nothing is in flight to bring an ACK: the persist timer runs. What waits for its pace
    /// has a timer.
    fn arm_persist(&mut self, now: Instant) {
        if (!self.act.unsent.is_empty() || self.fin_due())
            && self.tcb.outstanding() == 0
            && !self.act.paced
            && self.act.rto_at == Instant::FAR
        {
            self.act.rto_at = self.rto_from(now);
            if self.act.stuck_since == Instant::FAR {
                self.act.stuck_since = now;
            }
        }
    }

    /// The persist timer went off with a window that is open but too small for the rules: send what fits anyway.
    pub(crate) fn override_window_rules(&self) -> bool {
        self.tcb.snd_wnd > 0 && self.tcb.outstanding() == 0 && !self.act.unsent.is_empty()
    }

    /// Builds one frame and hands it to IP. Everything an ACK settles is settled here.
    pub(super) fn emit(
        &mut self,
        core: &mut Core,
        way: &mut Way<'_>,
        seq: Seq,
        flags: Flags,
        data: Option<Payload<'_>>,
    ) -> bool {
        let mut options = Options::default();
        if self.tcb.has(flag::TIMESTAMPS) {
            options.timestamps = Some((self.tcb.tsval(core.now), self.tcb.ts_recent));
        }
        let (mut flags, mut marks) = (flags, Marks::of(&self.profile.options));
        if self.speaks_any_ecn() {
            let what = (data.is_some(), seq.lt(self.tcb.snd_nxt));
            marks.tos |= self.speak_ecn(core, (&mut flags, &mut options), what);
        }
        if self.must_report_ranges() {
            options.sack = self.sack_blocks(options.sack_room());
        }
        let edge = self.window_to_offer(core);
        let (window, adv) = self.window_field(&core.tcp, edge);
        let urgent = self.urgent_pointer(seq);
        let flags = if urgent > 0 {
            flags | Flags::URG
        } else {
            flags
        };
        let repr = Repr {
            src_port: self.tcb.local_port,
            dst_port: self.tcb.remote_port,
            seq: seq.0,
            ack: Some(self.tcb.rcv_nxt.0),
            flags,
            window,
            urgent,
            options,
        };
        let (bare, len) = (data.is_none(), data.as_ref().map_or(0, |data| data.len));
        let built = build(
            core,
            &repr,
            &way.path,
            &self.tcb.remote,
            u32::from(self.tcb.mss),
            data,
        );
        // Losing a segment for want of memory is like losing it on the wire: what it acknowledged stays owed.
        let Some((chain, facts)) = built else {
            if bare {
                self.tcb.flags |= flag::ACK_DELAYED;
                self.act.ack_at = self.act.ack_at.min(core.now + ACK_DELAY);
                self.tcb.flags &= !flag::ACK_NOW;
            }
            return false;
        };
        self.tcb.rcv_adv = adv;
        self.note_offered(u32::from(window) << self.tcb.rcv_scale());
        self.tcb.last_ack_sent = self.tcb.rcv_nxt;
        if len > 0 {
            self.tcb.answered(core.now);
        }
        self.ack_sent();
        core.count(Count::TcpSegmentsOut);
        if let Some(ledger) = &mut self.ledger {
            ledger.left(
                len as u32,
                u32::from(self.tcb.mss),
                flags.contains(Flags::FIN),
            );
        }
        if flags.contains(Flags::CWR) {
            self.tcb.more &= !more::CWR;
        }
        let meta = ip_meta(&way.path, &self.tcb.remote, marks);
        way.net.send(core, &way.path, &meta, chain, facts);
        true
    }
}

/// The MSS to announce on a link of this MTU (RFC 9293 MUST-67, RFC 6691: without options). What the path to the peer carries is
/// nothing to it: the way back may be another (RFC 1191 3.1). But the route may say.
pub(crate) fn announced_mss(mtu: u16, v4: bool, options: &TcpOptions) -> u16 {
    let own = options.advertised_mss;
    own.unwrap_or_else(|| payload_for_mtu(mtu, v4, 0))
        .min(options.max_segment.unwrap_or(u16::MAX))
}

/// What the application may say of the way and the IP header (RFC 9293 MUST-48, MUST-49).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks {
    ttl: Option<u8>,
    pub(super) tos: u8,
    fragment: bool,
    /// By which interface, if the application says.
    pub(super) device: Option<InterfaceId>,
}

impl Marks {
    /// For segments that belong to no socket.
    pub(crate) const DEFAULT: Self = Self {
        ttl: None,
        tos: 0,
        fragment: false,
        device: None,
    };

    pub(crate) fn of(options: &TcpOptions) -> Self {
        Self {
            ttl: options.ttl,
            tos: options.tos,
            fragment: options.fragment,
            device: options.device,
        }
    }
}

pub(crate) fn ip_meta(path: &Path, remote: &wire::Addr, marks: Marks) -> IpMeta {
    IpMeta {
        src: path.src,
        dst: *remote,
        protocol: PROTOCOL,
        // RFC 4861 6.3.4: what the link's router says, if the application says nothing.
        ttl: marks.ttl.unwrap_or(path.hop_limit),
        tos: marks.tos,
        dont_fragment: !path.locked && !marks.fragment,
        ident: None,
    }
}

/// Builds a segment in fresh memory: header behind headroom for the layers below, then the data, copied when it is small and
/// shared when it is large. `None` when the pool is empty.
pub(crate) fn build(
    core: &mut Core,
    repr: &Repr,
    path: &Path,
    remote: &wire::Addr,
    mss: u32,
    data: Option<Payload<'_>>,
) -> Option<(Chain, Facts)> {
    let header_len = repr.header_len();
    let mut chain = core.pool.alloc(HEADROOM)?;
    let total = header_len + data.as_ref().map_or(0, |data| data.len);
    {
        let Some(bytes) = core.pool.push_back(&mut chain, header_len) else {
            core.pool.free(chain);
            return None;
        };
        repr.emit(bytes);
        let partial = checksum::pseudo(&path.src, remote, PROTOCOL, total as u32).fold();
        bytes[16..18].copy_from_slice(&partial.to_be_bytes());
        if let Some(Payload { queue, from, len }) = data {
            let whole = if len <= COPY_UP_TO {
                core.pool.append_copy_at(&mut chain, from, len) == len
            } else if let Some(shared) = core.pool.share_at(queue, from, len) {
                core.pool.append(&mut chain, shared);
                true
            } else {
                false
            };
            if !whole {
                core.pool.free(chain);
                return None;
            }
        }
    }
    let mut facts = Facts {
        checksum: Checksum::Partial {
            start: 0,
            offset: 16,
        },
        ..Facts::default()
    };
    let len = (total - header_len) as u32;
    if len > mss {
        let kind = if remote.is_v4() {
            GsoKind::Tcp4
        } else {
            GsoKind::Tcp6
        };
        facts.gso = Gso {
            kind,
            size: mss as u16,
            header_len: header_len as u16,
        };
    }
    Some((chain, facts))
}
