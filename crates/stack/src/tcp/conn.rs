//! One connection, seen whole: the view every step of the protocol works on, and what a step decided.
//!
//! What does not live here: the steps themselves (`input`, `acknowledge`, `receive`, `output`, `timer`).

use base::{Chain, Instant, Links, Order, Seq, Slab};

use crate::context::Core;
use crate::error::SocketError;
use crate::socket::Ready;

use super::acc_ecn::AccEcn;
use super::congestion::{Algorithm, Bbr, Control, Reno, Window};
use super::edges::EdgeTable;
use super::fast_open::Fast;
use super::inflow::Inflow;
use super::ledger::Ledger;
use super::mtu_probe::Search;
use super::profile::Profile;
use super::receive::MANY_RANGES;
use super::record::{Active, NONE, Range, Repair, State, Tcb, flag};
use super::recovery::Episode;
use super::sent::{Board, Sent};

/// All parts of one connection.
pub(crate) struct Conn<'a> {
    pub(crate) tcb: &'a mut Tcb,
    pub(crate) act: &'a mut Active,
    pub(crate) ranges: &'a mut Slab<Range>,
    pub(crate) nodes: &'a mut Slab<Sent>,
    pub(crate) episodes: &'a mut Slab<Episode>,
    /// When the connection has an account.
    pub(crate) ledger: Option<&'a mut Ledger>,
    /// When it searches for the path MTU.
    pub(crate) search: Option<&'a mut Search>,
    pub(crate) controls: &'a mut Slab<Control>,
    pub(crate) models: &'a mut Slab<Bbr>,
    pub(crate) edges: &'a mut EdgeTable,
    pub(crate) fasts: &'a mut Slab<Fast>,
    /// What is known of the stream it receives.
    pub(crate) inflow: Option<&'a mut Inflow>,
    /// When the connection speaks accurate ECN, or asks for it.
    pub(crate) acc_ecn: Option<&'a mut AccEcn>,
    pub(crate) profile: &'a Profile,
}

/// Whether a connection goes on after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum End {
    /// It does.
    #[default]
    Lives,
    /// Both sides are done: a TIME-WAIT record takes over.
    TimeWait,
    /// It is over, well (`None`) or not.
    Closed(Option<SocketError>),
}

/// What a step wants done outside its connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// The transmit pass shall visit it.
    pub(crate) send: bool,
    /// Tell the application.
    pub(crate) raise: Ready,
    pub(crate) end: End,
}

impl Outcome {
    pub(crate) const SEND: Self = Self {
        send: true,
        raise: Ready::NONE,
        end: End::Lives,
    };

    pub(crate) fn closed(error: Option<SocketError>) -> Self {
        Self {
            send: false,
            raise: Ready::HUP,
            end: End::Closed(error),
        }
    }
}

impl Tcb {
    /// Milliseconds of this host's clock, as timestamps carry them (RFC 7323 5.4: 1 ms per tick).
    #[inline]
    pub(crate) fn tsval(&self, now: Instant) -> u32 {
        (now.millis() as u32).wrapping_add(self.ts_offset)
    }

    /// Shift of windows we read in headers.
    #[inline]
    pub(crate) fn snd_scale(&self) -> u32 {
        u32::from(self.scales & 0xf)
    }

    /// The largest window the peer ever offered, bytes, but for less than a unit of its scale.
    #[inline]
    pub(crate) fn max_wnd(&self) -> u32 {
        u32::from(self.max_field) << self.snd_scale()
    }

    /// The peer offers a window of so many bytes.
    #[inline]
    pub(crate) fn note_offer(&mut self, bytes: u32) {
        let field = bytes.div_ceil(1 << self.snd_scale()).min(0xffff);
        self.max_field = self.max_field.max(field as u16);
    }

    /// Shift of windows we write in headers.
    #[inline]
    pub(crate) fn rcv_scale(&self) -> u32 {
        u32::from(self.scales >> 4)
    }

    /// Both shifts, as far as they are known: the peer's, and ours.
    pub(crate) fn window_scales(&self) -> (u8, u8) {
        let theirs = match self.state {
            State::SynSent => 0,
            _ => self.snd_scale(),
        };
        (theirs as u8, self.rcv_scale() as u8)
    }

    /// Bytes that timestamps take of every segment.
    pub(crate) fn stamps(&self) -> u16 {
        if self.has(flag::TIMESTAMPS) { 12 } else { 0 }
    }

    #[inline]
    pub(crate) fn has(&self, bit: u32) -> bool {
        self.flags & bit != 0
    }

    /// RCV.WND: what is left of the advertised window.
    #[inline]
    pub(crate) fn rcv_wnd(&self) -> u32 {
        self.ahead(self.rcv_adv)
    }

    /// How far an edge is ahead of what has come.
    #[inline]
    pub(crate) fn ahead(&self, edge: Seq) -> u32 {
        if edge.gt(self.rcv_nxt) {
            edge.dist(self.rcv_nxt)
        } else {
            0
        }
    }

    /// Bytes (and FIN) sent and not acknowledged.
    #[inline]
    pub(crate) fn outstanding(&self) -> u32 {
        self.snd_nxt.dist(self.snd_una)
    }

    #[inline]
    pub(crate) fn window(&self) -> Window {
        Window {
            cwnd: self.cwnd,
            ssthresh: self.ssthresh,
            mss: u32::from(self.mss),
        }
    }

    #[inline]
    pub(crate) fn set_window(&mut self, window: Window) {
        self.cwnd = window.cwnd;
        self.ssthresh = window.ssthresh;
    }

    /// An ACK shall leave with the next transmit pass.
    #[inline]
    pub(crate) fn ack_now(&mut self) {
        self.flags |= flag::ACK_NOW;
    }

    /// Asks for an ACK against an unacceptable segment, unless one went out just now (RFC 5961 7): within
    /// `invalid_ratelimit`.
    pub(crate) fn challenge(&mut self, core: &Core) -> bool {
        let ms = core.now.millis() as u16;
        let since = u32::from(ms.wrapping_sub(self.challenged));
        if self.has(flag::CHALLENGED) && since < core.tcp.invalid_ratelimit {
            return false;
        }
        self.challenged = ms;
        self.flags |= flag::CHALLENGED | flag::ACK_NOW;
        true
    }

    /// Keeps an error for the application; the first one stays.
    pub(crate) fn set_error(&mut self, error: SocketError) {
        if self.error().is_none() {
            self.flags |= number(error) << flag::ERROR_SHIFT;
        }
    }

    /// The pending error.
    pub(crate) fn error(&self) -> Option<SocketError> {
        named(self.flags >> flag::ERROR_SHIFT)
    }

    /// Takes the pending error.
    pub(crate) fn take_error(&mut self) -> Option<SocketError> {
        let error = self.error();
        self.flags &= (1 << flag::ERROR_SHIFT) - 1;
        error
    }

    /// Keeps what ICMP said of a connection that goes on all the same (MUST-47, MUST-56); the last word counts.
    pub(crate) fn set_soft_error(&mut self, error: SocketError) {
        self.flags = self.flags & !flag::SOFT_ERROR | number(error) << flag::SOFT_SHIFT;
    }

    /// Takes the soft error.
    pub(crate) fn take_soft_error(&mut self) -> Option<SocketError> {
        let error = named((self.flags & flag::SOFT_ERROR) >> flag::SOFT_SHIFT);
        self.flags &= !flag::SOFT_ERROR;
        error
    }

    /// The connection is given up: for the reason ICMP gave, if it did (as Linux).
    pub(crate) fn timed_out(&mut self) -> Outcome {
        let error = self.take_soft_error().unwrap_or(SocketError::TimedOut);
        Outcome::closed(Some(error))
    }
}

/// Errors a connection can keep; the number of one is its place here, from 1. At most 15.
const ERRORS: [SocketError; 9] = [
    SocketError::ConnectionReset,
    SocketError::ConnectionRefused,
    SocketError::TimedOut,
    SocketError::BrokenPipe,
    SocketError::HostUnreachable,
    SocketError::NetworkUnreachable,
    SocketError::ConnectionAborted,
    SocketError::NotSupported,
    SocketError::NoBuffers,
];

fn number(error: SocketError) -> u32 {
    let at = ERRORS.iter().position(|e| *e == error);
    at.map_or(0, |at| at as u32 + 1)
}

fn named(number: u32) -> Option<SocketError> {
    let at = number.checked_sub(1)?;
    ERRORS.get(at as usize).copied()
}

impl Conn<'_> {
    /// The next octet the application will read.
    pub(crate) fn read_edge(&self) -> Seq {
        self.act.read_edge(self.tcb)
    }

    /// The congestion control at work. There is a record for each that may be; without one it is Reno with no memory.
    pub(crate) fn control<'b>(&'b mut self, spare: &'b mut Reno) -> &'b mut dyn Algorithm {
        if self.act.control == NONE && !self.has_model() {
            let control = Control::new(self.profile.options.algorithm());
            let key = self.controls.insert(control);
            self.act.control = key.map_or(NONE, |key| key.index);
        }
        match self.controls.at_mut(self.act.control) {
            Some(control) => control.algorithm(),
            None => spare,
        }
    }

    /// Whether a loss is being repaired.
    #[inline]
    pub(crate) fn repairing(&self) -> bool {
        matches!(self.act.repair, Repair::Recovery | Repair::Loss)
    }
}

/// Gives back what a connection knows of what is in flight, and of its last loss.
pub(crate) fn release_flight(
    nodes: &mut Slab<Sent>,
    episodes: &mut Slab<Episode>,
    act: &mut Active,
) {
    let (flight, mss) = (&mut act.flight, 1);
    Board { flight, nodes, mss }.clear();
    episodes.remove_at(core::mem::replace(&mut act.episode, NONE));
    act.early_at = Instant::FAR;
    act.paced = false;
}

/// Frees everything a connection holds, except received bytes unless `all`.
pub(crate) fn release_queues(
    core: &mut Core,
    ranges: &mut Slab<Range>,
    act: &mut Active,
    all: bool,
) {
    core.pool.free(act.sent.take());
    core.pool.free(act.unsent.take());
    if all {
        core.pool.free(act.recv.take());
    }
    free_ranges(core, ranges, act);
    act.rto_at = Instant::FAR;
    act.ack_at = Instant::FAR;
    act.repair = Repair::Open;
    act.dsack = (Seq(0), Seq(0));
    act.fin = None;
}

/// Frees what is out of order.
pub(crate) fn free_ranges(core: &mut Core, ranges: &mut Slab<Range>, act: &mut Active) {
    let mut node = core::mem::replace(&mut act.ooo, NONE);
    act.ooo_nodes = 0;
    while let Some(range) = ranges.at_mut(node) {
        let (next, data) = (range.next, range.data.take());
        core.pool.free(data);
        remove_node(ranges, node);
        node = next;
    }
}

/// Enters what is out of order, sorted, of a connection that has nothing such yet. False when there is no room for all of it.
pub(crate) fn put_ranges(
    core: &mut Core,
    ranges: &mut Slab<Range>,
    act: &mut Active,
    behind: Vec<(Seq, Chain)>,
) -> bool {
    let (mut last, mut whole) = (NONE, true);
    for (start, data) in behind {
        let end = start + data.len() as u32;
        let Some(node) = new_node(ranges, start, end, NONE).filter(|_| !data.is_empty()) else {
            core.pool.free(data);
            whole = false;
            continue;
        };
        if let Some(range) = ranges.at_mut(node) {
            range.data = data;
        }
        match ranges.at_mut(last) {
            Some(before) if last != NONE => before.next = node,
            _ => act.ooo = node,
        }
        act.ooo_nodes += 1;
        last = node;
    }
    if act.ooo_nodes >= MANY_RANGES {
        order_ranges(ranges, act.ooo);
    }
    whole
}

/// Puts ranges into an order, which the first of them keeps.
pub(crate) fn order_ranges(ranges: &mut Slab<Range>, first: u32) {
    let (mut order, mut node) = (Order::EMPTY, first);
    while let Some(next) = ranges.at(node).map(|range| range.next) {
        order.insert(ranges, node);
        node = next;
    }
    if let Some(first) = ranges.at_mut(first) {
        first.order = order;
    }
}

/// Takes one node out of the slab; its data must have been taken before.
pub(crate) fn remove_node(ranges: &mut Slab<Range>, node: u32) {
    if let Some(key) = ranges.key_of(node)
        && let Some(range) = ranges.remove(key)
    {
        debug_assert!(range.data.is_empty(), "a range is freed with its bytes");
    }
}

/// A node with these bounds. `None` when the slab is full; the bytes come back.
pub(crate) fn new_node(ranges: &mut Slab<Range>, start: Seq, end: Seq, next: u32) -> Option<u32> {
    ranges
        .insert(Range {
            start,
            end,
            next,
            links: Links::APART,
            order: Order::EMPTY,
            data: Chain::EMPTY,
        })
        .map(|key| key.index)
}
