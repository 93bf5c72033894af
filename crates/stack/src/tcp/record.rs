//! The records of TCP: what each connection, half-open connection and TIME-WAIT costs in memory.
//!
//! A connection is a [`Tcb`] of two cache lines. While something is queued, in flight, out of order or timed it also has an
//! [`Active`] part from a pool; an idle connection has none. Half-open connections and TIME-WAIT are records of 48 bytes.
//!
//! What does not live here: any behaviour of the protocol.
//!
//! Invariant: records name each other by index, never by pointer, so that one day they can live in shared memory.
//! Invariant: sizes are asserted at compile time; growing one is a decision, not an accident.

use base::{Chain, Instant, Links, Order, Ordered, Seq, TimerId};
use wire::Addr;

use crate::socket::Ready;

use super::delack::Acking;
use super::rack::{Early, Rack};
use super::sent::Flight;

/// No index.
pub(crate) const NONE: u32 = u32::MAX;
/// In [`Tcb::active`]: no active part; the other bits are the congestion control record that outlives it, if any.
const KEPT: u32 = 1 << 31;

/// States of RFC 9293 3.3.2. CLOSED and LISTEN are no connection here, TIME-WAIT is a record of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// A SYN was sent.
    SynSent,
    /// SYNs crossed, or a SYN was answered: our SYN is not acknowledged yet.
    SynReceived,
    /// Data flows.
    Established,
    /// We sent a FIN.
    FinWait1,
    /// Our FIN is acknowledged.
    FinWait2,
    /// The peer sent a FIN.
    CloseWait,
    /// Both sent a FIN at the same time; ours is not acknowledged yet.
    Closing,
    /// We sent a FIN after the peer's; it is not acknowledged yet.
    LastAck,
    /// Both FINs are acknowledged; old segments may still be about.
    TimeWait,
    /// A listener.
    Listen,
    /// No connection.
    Closed,
}

impl State {
    /// The name as RFC 9293 and `ss` write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
            Self::Listen => "LISTEN",
            Self::Closed => "CLOSED",
        }
    }

    /// Whether data may still arrive and be delivered.
    #[inline]
    pub(crate) fn receives(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }

    /// Whether new data may still be queued by the application.
    #[inline]
    pub(crate) fn sends(self) -> bool {
        matches!(self, Self::Established | Self::CloseWait)
    }

    /// Whether our FIN has been queued in this state.
    #[inline]
    pub(crate) fn fin_queued(self) -> bool {
        matches!(
            self,
            Self::FinWait1 | Self::FinWait2 | Self::Closing | Self::LastAck
        )
    }
}

/// Bits of [`Tcb::flags`].
pub(crate) mod flag {
    /// Timestamps were negotiated (RFC 7323).
    pub(crate) const TIMESTAMPS: u32 = 1 << 0;
    /// SACK was negotiated (RFC 2018).
    pub(crate) const SACK: u32 = 1 << 1;
    /// An ACK must go out with the next transmit pass.
    pub(crate) const ACK_NOW: u32 = 1 << 2;
    /// An ACK is owed and may wait for the delayed-ACK timer.
    pub(crate) const ACK_DELAYED: u32 = 1 << 3;
    /// Linked in the ready-to-send list.
    pub(crate) const SEND_QUEUED: u32 = 1 << 4;
    /// Linked in the list of ready sockets.
    pub(crate) const READY_QUEUED: u32 = 1 << 5;
    /// Waits in its listener's accept queue; `token` holds the listener's index.
    pub(crate) const UNACCEPTED: u32 = 1 << 6;
    /// The application has closed it: nobody reads, handles are refused.
    pub(crate) const ORPHAN: u32 = 1 << 7;
    /// The application met a full send queue and wants to hear of room.
    pub(crate) const WANT_WRITE: u32 = 1 << 8;
    /// The application has shut down reading.
    pub(crate) const READ_SHUT: u32 = 1 << 9;
    /// The peer's FIN has been received in order.
    pub(crate) const FIN_RECEIVED: u32 = 1 << 10;
    /// Nagle's algorithm is off.
    pub(crate) const NODELAY: u32 = 1 << 11;
    /// Partial segments wait even if nothing is in flight (TCP_CORK).
    pub(crate) const CORK: u32 = 1 << 12;
    /// The connection attempt was ours.
    pub(crate) const ACTIVE_OPEN: u32 = 1 << 13;
    /// Our FIN has been sent (and counts in `snd_nxt`).
    pub(crate) const FIN_SENT: u32 = 1 << 14;
    /// `last_received` is meaningful and a challenge was sent at `challenged`.
    pub(crate) const CHALLENGED: u32 = 1 << 15;
    /// The congestion window, not the application or the peer's window, held sending back until `usage_end`.
    pub(crate) const CWND_LIMITED: u32 = 1 << 16;
    /// A retransmission is wanted at once (the transmit pass starts with it).
    pub(crate) const RETRANSMIT: u32 = 1 << 17;
    /// A window probe is due (RFC 9293 3.8.6.1).
    pub(crate) const PROBE: u32 = 1 << 18;
    /// The persist timer allows one segment the silly-window rules would hold back.
    pub(crate) const OVERRIDE: u32 = 1 << 19;
    /// Something new was acknowledged: the path's first hop works (RFC 4861 7.3.1).
    pub(crate) const PROGRESS: u32 = 1 << 20;
    /// The application has shut down writing before the connection was established: a FIN follows the handshake.
    pub(crate) const WRITE_SHUT: u32 = 1 << 21;
    /// Without SACK: a repair ended with nothing above it acknowledged, so duplicate ACKs may be of its own retransmissions.
    pub(crate) const REPAIRED: u32 = 1 << 22;
    /// An ACK says that something is lost: the transmit pass sees whether one that came with it says otherwise.
    pub(crate) const SUSPECT: u32 = 1 << 23;
    /// Where the number of the last soft error is kept, four bits.
    pub(crate) const SOFT_SHIFT: u32 = 24;
    pub(crate) const SOFT_ERROR: u32 = 15 << SOFT_SHIFT;
    /// Where the number of the pending error is kept, see `Tcb::error`.
    pub(crate) const ERROR_SHIFT: u32 = 28;
}

/// Bits of [`Tcb::more`].
pub(crate) mod more {
    /// The top four bits are [`super::Tcb::inflow`].
    pub(crate) const INFLOW_SHIFT: u32 = 12;
    /// Something sent was acknowledged: the first ten segments are not paced (as Linux).
    pub(crate) const PACED: u16 = 1 << 0;
    /// Opened by a SYN with data or a cookie, whose SYN-ACK is not acknowledged yet (RFC 7413): SYN-RECEIVED, in which data may
    /// flow. `state` is already what it will be.
    pub(crate) const OPENING: u16 = 1 << 1;
    /// Data on the SYN was taken (TCPI_OPT_SYN_DATA).
    pub(crate) const SYN_DATA: u16 = 1 << 2;
    /// ECN was negotiated (RFC 3168 6.1.1); in SYN-SENT: was asked for.
    pub(crate) const ECN: u16 = 1 << 3;
    /// A mark is echoed, until the peer says that it has reduced its window.
    pub(crate) const ECE: u16 = 1 << 4;
    /// The same bit, without `ECN`: accurate ECN was negotiated (RFC 9768); in SYN-SENT: was asked for. See
    /// [`super::Tcb::is_accurate`].
    pub(crate) const ACC_ECN: u16 = ECE;
    /// The window was reduced: the next new data says so.
    pub(crate) const CWR: u16 = 1 << 5;
    /// The peer's data was seen to be capable of marks.
    pub(crate) const ECN_SEEN: u16 = 1 << 6;
    /// In SYN-SENT: the SYN waits for the first data (TCP_FASTOPEN_CONNECT).
    pub(crate) const DEFERRED: u16 = 1 << 7;
    /// Later, if our SYN had a Fast Open option or data: a segment with data has arrived.
    pub(crate) const HEARD: u16 = DEFERRED;
    /// Our SYN had a Fast Open option, or data.
    pub(crate) const FAST_SYN: u16 = 1 << 8;
    /// Where the number of the reason is kept why Fast Open failed, two bits.
    pub(crate) const FAST_FAIL_SHIFT: u16 = 9;
    pub(crate) const FAST_FAIL: u16 = 3 << FAST_FAIL_SHIFT;
    /// It searches for the path MTU, see `mtu_probe`.
    pub(crate) const SEARCH: u16 = 1 << 11;
}

/// One connection: what every segment touches (first line) and what answering or sending touches (second line).
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct Tcb {
    // Line 0: read for every arriving segment.
    pub(crate) remote: Addr,
    pub(crate) remote_port: u16,
    pub(crate) local_port: u16,
    /// Local address and options, shared with other connections (see `profile`).
    pub(crate) profile: u16,
    /// MSS the peer announced (RFC 9293 MUST-16: never send more).
    pub(crate) peer_mss: u16,
    pub(crate) rcv_nxt: Seq,
    /// Right edge of the window we advertised; never moves left.
    pub(crate) rcv_adv: Seq,
    /// Last.ACK.sent of RFC 7323.
    pub(crate) last_ack_sent: Seq,
    /// TS.Recent of RFC 7323.
    pub(crate) ts_recent: u32,
    /// Milliseconds (low 32 bits) when a valid segment last arrived.
    pub(crate) last_received: u32,
    pub(crate) flags: u32,
    pub(crate) snd_una: Seq,
    pub(crate) snd_nxt: Seq,
    /// Peer's window in bytes, scaled.
    pub(crate) snd_wnd: u32,
    pub(crate) state: State,
    /// Window shifts: low nibble for what we receive in headers (peer's), high nibble for what we send (ours). In SYN-SENT
    /// what our SYN says, see `offer`.
    pub(crate) scales: u8,
    /// Payload bytes of a full segment we send: peer's MSS, path MTU and options taken off.
    pub(crate) mss: u16,

    // Line 1: touched when it answers or sends.
    /// Sequence number of the segment that last updated `snd_wnd`.
    pub(crate) snd_wl1: Seq,
    /// Congestion window, bytes.
    pub(crate) cwnd: u32,
    /// Slow start threshold, bytes.
    pub(crate) ssthresh: u32,
    /// Smoothed round-trip time, microseconds times 8; 0 before the first sample.
    pub(crate) srtt: u32,
    /// Round-trip time variation, microseconds times 4.
    pub(crate) rttvar: u32,
    /// Added to the millisecond clock to make our TSval.
    pub(crate) ts_offset: u32,
    /// Largest window the peer ever offered (RFC 9293 3.8.6.2.1), as a header says it.
    pub(crate) max_field: u16,
    /// For how long an ACK waits, milliseconds (Linux's `ato`); 0 until data have come.
    pub(crate) ato: u8,
    /// How long before `last_received` data last came, in ticks of `delack`; 255: longer.
    pub(crate) quiet: u8,
    pub(crate) timer: TimerId,
    pub(crate) active: u32,
    pub(crate) send_link: u32,
    /// The next in the ready list or the accept queue, and above it what the socket was raised for.
    ready_link: u32,
    /// Milliseconds (low 32 bits) when data was last sent, for the restart after idle; in FIN-WAIT-2, when an orphan's
    /// minute began.
    pub(crate) last_sent: u32,
    /// The owner's word, or the listener's index while unaccepted.
    pub(crate) token: u64,
    /// How often the timeout was doubled, until there is a new sample (RFC 6298 5.5).
    pub(crate) backoff: u8,
    /// How far segments were seen out of order on this path, in segments; 0: never. And a bit of `rack`'s: see there.
    pub(crate) reordering: u8,
    /// How what comes is acknowledged.
    pub(crate) acking: Acking,
    /// Keepalive probes unanswered.
    pub(crate) probes: u8,
    /// Millisecond (low 16 bits) of the last ACK sent against an unacceptable segment, for its limit (RFC 5961 7). Once it
    /// wraps, after 65 s, the next may be withheld.
    pub(crate) challenged: u16,
    /// `more::` bits.
    pub(crate) more: u16,
}

impl Tcb {
    /// Which record tells of the stream it receives, see `inflow`; 0: none.
    #[inline]
    pub(crate) fn inflow(&self) -> u8 {
        (self.more >> more::INFLOW_SHIFT) as u8
    }

    pub(crate) fn set_inflow(&mut self, at: u8) {
        self.more &= (1 << more::INFLOW_SHIFT) - 1;
        self.more |= u16::from(at) << more::INFLOW_SHIFT;
    }

    /// A record of a connection that has neither sent nor received anything.
    pub(crate) fn new(remote: Addr, remote_port: u16, local_port: u16, profile: u16) -> Self {
        Self {
            remote,
            remote_port,
            local_port,
            profile,
            peer_mss: 536,
            rcv_nxt: Seq(0),
            rcv_adv: Seq(0),
            last_ack_sent: Seq(0),
            ts_recent: 0,
            last_received: 0,
            flags: 0,
            snd_una: Seq(0),
            snd_nxt: Seq(0),
            snd_wnd: 0,
            state: State::SynSent,
            scales: 0,
            mss: 536,
            snd_wl1: Seq(0),
            cwnd: 0,
            ssthresh: u32::MAX / 2,
            srtt: 0,
            rttvar: 0,
            ts_offset: 0,
            max_field: 0,
            ato: 0,
            quiet: 0,
            timer: TimerId::NONE,
            active: NONE,
            send_link: NONE,
            ready_link: Self::READY_LINK,
            last_sent: 0,
            token: 0,
            backoff: 0,
            reordering: 0,
            acking: Acking::START,
            probes: 0,
            challenged: 0,
            more: 0,
        }
    }
}

impl Tcb {
    /// Bits of `ready_link` that are the link.
    const READY_LINK: u32 = (1 << 28) - 1;
    const RAISED: [Ready; 4] = [
        Ready::READABLE,
        Ready::WRITABLE,
        Ready::ERROR,
        Ready::CHANGED,
    ];

    /// The next in the ready list or the accept queue.
    pub(crate) fn ready_link(&self) -> u32 {
        match self.ready_link & Self::READY_LINK {
            Self::READY_LINK => NONE,
            next => next,
        }
    }

    pub(crate) fn set_ready_link(&mut self, next: u32) {
        self.ready_link = self.ready_link & !Self::READY_LINK | next & Self::READY_LINK;
    }

    /// Notes what a socket is raised for.
    pub(crate) fn note_raised(&mut self, what: Ready) {
        let state = Ready::HUP | Ready::READ_CLOSED | Ready::CHANGED;
        let groups = [
            Ready::READABLE | Ready::PRIORITY,
            Ready::WRITABLE,
            Ready::ERROR,
            state,
        ];
        for (at, group) in groups.into_iter().enumerate() {
            self.ready_link |= u32::from(what.intersects(group)) << (28 + at);
        }
    }

    /// Takes what it was raised for.
    pub(crate) fn take_raised(&mut self) -> Ready {
        let bits = self.ready_link >> 28;
        self.ready_link &= Self::READY_LINK;
        let each = Self::RAISED.into_iter().enumerate();
        each.filter(|(at, _)| bits >> at & 1 != 0)
            .fold(Ready::NONE, |raised, (_, what)| raised | what)
    }
}

impl Tcb {
    /// Whether accurate ECN is spoken, or asked for.
    #[inline]
    pub(crate) fn is_accurate(&self) -> bool {
        self.more & (more::ECN | more::ACC_ECN) == more::ACC_ECN
    }

    /// Whether there is no active part.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.active & KEPT != 0
    }

    /// The congestion control record that is kept while there is no active part; `NONE`: none.
    pub(crate) fn kept(&self) -> u32 {
        match self.active {
            NONE => NONE,
            index if index & KEPT != 0 => index & !KEPT,
            _ => NONE,
        }
    }

    /// The active part has gone; `control` stays (`NONE`: nothing does).
    pub(crate) fn rest(&mut self, control: u32) {
        self.active = control | KEPT;
    }
}

/// How loss is being repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Repair {
    /// Nothing is known to be lost.
    #[default]
    Open,
    /// Nothing is, but the window is being reduced: the network has marked (Linux's CWR).
    Reduction,
    /// Fast recovery (RFC 8985, or RFC 6582 without SACK).
    Recovery,
    /// After a retransmission timeout (RFC 5681 3.1).
    Loss,
}

/// The part of a connection that exists only while there is something to do.
#[derive(Debug)]
pub(crate) struct Active {
    /// Bytes sent and not acknowledged; the first is at `snd_una`.
    pub(crate) sent: Chain,
    /// Bytes not sent yet; the first is at `snd_nxt`.
    pub(crate) unsent: Chain,
    /// Bytes received in order and not read.
    pub(crate) recv: Chain,
    /// First node of the out-of-order ranges, sorted by sequence.
    pub(crate) ooo: u32,
    /// What is known of `sent`.
    pub(crate) flight: Flight,
    pub(crate) ooo_nodes: u16,
    /// What was written last is not all (MSG_MORE): a partial segment waits for the rest, until an ACK or the timer.
    pub(crate) more: bool,
    pub(crate) rack: Rack,
    /// When the reordering timer or the loss probe is due, before the retransmission timer (`FAR`: neither runs).
    pub(crate) early_at: Instant,
    /// The loss being repaired, or what the last one changed and may have to be undone.
    pub(crate) episode: u32,
    /// Bytes delivered since the last transmit pass.
    pub(crate) delivered: u32,
    /// Starts of the ranges most recently grown, newest first (RFC 2018 4).
    pub(crate) recent: [Seq; 3],
    pub(crate) recent_len: u8,
    pub(crate) repair: Repair,
    /// Bytes received since an ACK was last sent.
    pub(crate) unacked_in: u32,
    /// Repair ends when this is acknowledged.
    pub(crate) recover: Seq,
    /// When the SYN was sent whose round trip is being timed (`Instant::FAR`: none is).
    pub(crate) rtt_at: Instant,
    /// When this is acknowledged, a round trip of samples is over: how far they strayed lately (as `rttvar`; 0: there was none),
    /// and at most.
    pub(crate) rtt_seq: Seq,
    pub(crate) deviation: u32,
    pub(crate) strayed: u32,
    /// When the retransmission or persist timer is due (`FAR`: not running).
    pub(crate) rto_at: Instant,
    /// When the delayed ACK is due.
    pub(crate) ack_at: Instant,
    /// Retransmission timeouts since something was last acknowledged, for R2 (RFC 9293 3.8.3).
    pub(crate) timeouts: u8,
    /// ACKs in a row that moved nothing and spoke of something received behind (RFC 5681 2, RFC 6675 2).
    pub(crate) dup_acks: u8,
    /// End of the last segment sent that was shorter than the MSS; nothing to care about once it is acknowledged.
    pub(crate) small: Seq,
    /// When the oldest byte in flight (or first zero window) was first unanswered; for R2 and the user timeout.
    pub(crate) stuck_since: Instant,
    /// The most that was in flight until `usage_end` is acknowledged, bytes; 0: nothing yet.
    pub(crate) usage: u32,
    pub(crate) usage_end: Seq,
    /// The congestion control record; `NONE`: before the first ACK.
    pub(crate) control: u32,
    /// Pacing: no sooner than this may the next frame leave.
    pub(crate) pace_at: Instant,
    /// Pacing holds something back.
    pub(crate) paced: bool,
    /// The most segments in flight since the window was last in full use, and when that was (milliseconds, low 32 bits; 0: not
    /// known yet), for RFC 2861's reason.
    pub(crate) used: u32,
    pub(crate) used_at: u32,
    /// Largest data segment received lately: the unit of "every second full-sized segment".
    pub(crate) rcv_mss: u16,
    /// A D-SACK to report with the next ACK; empty: none.
    pub(crate) dsack: (Seq, Seq),
    /// Ends of records and of urgent data, if there are any.
    pub(crate) edges: u32,
    /// Where what was last written ends, unless more was announced: the segment up to it is pushed.
    pub(crate) pushed: Seq,
    /// Sequence number of a FIN that came out of order.
    pub(crate) fin: Option<Seq>,
}

impl Active {
    /// A part with nothing in it.
    pub(crate) fn new(control: u32) -> Self {
        Self {
            sent: Chain::EMPTY,
            unsent: Chain::EMPTY,
            recv: Chain::EMPTY,
            ooo: NONE,
            flight: Flight::EMPTY,
            ooo_nodes: 0,
            more: false,
            rack: Rack::default(),
            early_at: Instant::FAR,
            episode: NONE,
            delivered: 0,
            recent: [Seq(0); 3],
            recent_len: 0,
            repair: Repair::Open,
            unacked_in: 0,
            recover: Seq(0),
            rtt_at: Instant::FAR,
            rtt_seq: Seq(0),
            deviation: 0,
            strayed: 0,
            rto_at: Instant::FAR,
            ack_at: Instant::FAR,
            timeouts: 0,
            dup_acks: 0,
            small: Seq(0),
            stuck_since: Instant::FAR,
            usage: 0,
            usage_end: Seq(0),
            control,
            pace_at: Instant::ZERO,
            paced: false,
            used: 0,
            used_at: 0,
            rcv_mss: 536,
            dsack: (Seq(0), Seq(0)),
            edges: NONE,
            pushed: Seq(0),
            fin: None,
        }
    }

    /// The next octet the application will read.
    pub(crate) fn read_edge(&self, tcb: &Tcb) -> Seq {
        let fin = u32::from(tcb.has(flag::FIN_RECEIVED)); // it has a number, and is no byte
        Seq(tcb.rcv_nxt.0.wrapping_sub(self.recv.len() as u32 + fin))
    }

    /// Whether the peer is to hear of a duplicate.
    pub(crate) fn owes_dsack(&self) -> bool {
        self.dsack.0 != self.dsack.1
    }

    /// The earliest of its deadlines.
    #[inline]
    pub(crate) fn deadline(&self) -> Instant {
        let paced = if self.paced {
            self.pace_at
        } else {
            Instant::FAR
        };
        self.rto_at.min(self.ack_at).min(self.early_at).min(paced)
    }

    /// Whether the record holds nothing worth keeping.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.sent.is_empty()
            && self.unsent.is_empty()
            && self.recv.is_empty()
            && self.ooo == NONE
            && self.rto_at == Instant::FAR
            && self.ack_at == Instant::FAR
            && self.repair == Repair::Open
            && self.flight.is_empty()
            && self.rack.early != Early::Duplicates
            && !self.owes_dsack()
            && self.fin.is_none()
            && self.edges == NONE
            && self.fast() == NONE
    }
}

/// A node of a sorted list of sequence ranges: data out of order.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) start: Seq,
    pub(crate) end: Seq,
    pub(crate) next: u32,
    pub(crate) links: Links,
    /// In the first one, when they are many: the order to find one by.
    pub(crate) order: Order,
    pub(crate) data: Chain,
}

impl Ordered for Range {
    fn number(&self) -> Seq {
        self.start
    }
    fn links(&self) -> &Links {
        &self.links
    }
    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// A connection in SYN-RECEIVED that came through a listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HalfOpen {
    pub(crate) remote: Addr,
    pub(crate) remote_port: u16,
    pub(crate) local_port: u16,
    pub(crate) profile: u16,
    pub(crate) listener: u16,
    pub(crate) iss: Seq,
    pub(crate) irs: Seq,
    pub(crate) ts_recent: u32,
    pub(crate) timer: TimerId,
    pub(crate) mss: u16,
    /// Window shifts as [`Tcb::scales`] has them, `0xff` when scaling was not offered.
    pub(crate) scales: u8,
    /// `half::` bits.
    pub(crate) flags: u8,
    /// Timeouts of its SYN-ACK; the next is backed off so often.
    pub(crate) retries: u8,
    /// `half_ecn::` bits; in its high nibble what the window of the SYN-ACK lacks of all there is room for, see `window`.
    pub(crate) ecn: u8,
    /// Millisecond (low 16 bits) of the last ACK sent against an unacceptable segment. Once it wraps, after 65 s, the next may be
    /// withheld.
    pub(crate) challenged: u16,
}

/// Bits of [`HalfOpen::flags`].
pub(crate) mod half {
    pub(crate) const TIMESTAMPS: u8 = 1;
    pub(crate) const SACK: u8 = 2;
    /// An ACK was sent against an unacceptable segment, at `challenged`.
    pub(crate) const CHALLENGED: u8 = 4;
    /// Its final ACK came, and was dropped: the accept queue was full, or the listener waits for data.
    pub(crate) const ACKED: u8 = 8;
    /// It never was a record: a cookie tells of it.
    pub(crate) const COOKIE: u8 = 16;
    /// Both speak ECN.
    pub(crate) const ECN: u8 = 32;
    /// Its SYN came before the host's first buffer was changed.
    pub(crate) const EARLIER: u8 = 64;
}

/// Bits of [`HalfOpen::ecn`].
pub(crate) mod half_ecn {
    /// The mark its last SYN came with.
    pub(crate) const MARK: u8 = 3;
    /// Both speak accurate ECN (RFC 9768).
    pub(crate) const ACCURATE: u8 = 4;
    /// Another SYN came that asks for nothing.
    pub(crate) const PLAIN_TOO: u8 = 8;
    pub(crate) const ALL: u8 = 15;
    /// Where what is no such bit begins.
    pub(crate) const LACKS_SHIFT: u8 = 4;
}

/// A connection in TIME-WAIT: just enough to answer old segments and to let a new SYN through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeWait {
    pub(crate) remote: Addr,
    pub(crate) remote_port: u16,
    pub(crate) local_port: u16,
    pub(crate) profile: u16,
    /// Window to put in headers, as sent.
    pub(crate) window: u16,
    pub(crate) snd_nxt: Seq,
    pub(crate) rcv_nxt: Seq,
    pub(crate) ts_recent: u32,
    pub(crate) ts_offset: u32,
    /// Millisecond (low 32 bits) at which it ends.
    pub(crate) expires: u32,
    /// Next in the queue, oldest first; the top bit marks timestamps.
    pub(crate) link: u32,
}

const _: () = assert!(size_of::<Tcb>() == 128, "the hot part is two cache lines");
const _: () = assert!(size_of::<HalfOpen>() <= 48);
const _: () = assert!(size_of::<TimeWait>() <= 48);
const _: () = assert!(size_of::<Active>() <= 256);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use base::{FlowTable, Slab};

    /// A connection record with nothing in it, for tests of its parts.
    pub(crate) fn tcb() -> Tcb {
        Tcb::new(Addr::v4(10, 0, 0, 1), 1, 2, 0)
    }

    /// The budgets of one connection with everything a table adds to its record. An idle connection has no active part and no
    /// timer, so nothing else is its own: local address and options are shared.
    #[test]
    fn what_a_connection_costs_all_counted() {
        let idle = Slab::<Tcb>::RECORD_BYTES + FlowTable::ENTRY_BYTES;
        assert!(idle <= 160, "{idle} bytes for an idle connection");
        let half_open = Slab::<HalfOpen>::RECORD_BYTES + FlowTable::ENTRY_BYTES;
        assert!(half_open <= 68, "{half_open} bytes for SYN-RECEIVED");
        let time_wait = Slab::<TimeWait>::RECORD_BYTES + FlowTable::ENTRY_BYTES;
        assert!(time_wait <= 68, "{time_wait} bytes for TIME-WAIT");
    }
}
