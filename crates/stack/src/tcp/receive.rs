//! Accepting data: trimming to the window, ordering, and what to acknowledge how soon (RFC 9293 3.10.7.4 seventh and eighth,
//! RFC 2018, RFC 2883, RFC 5681 4.2).
//!
//! What does not live here: the application's reading (`call`).
//!
//! Invariant: out-of-order ranges are sorted, disjoint, not adjacent, above `rcv_nxt` and below `rcv_adv`.
//! Invariant: there are no more of them than the buffer is worth, so that a peer cannot pin much memory; and finding one costs
//! little however many there are, so that none makes a segment dear.

use base::{BLOCK, Chain, Instant, Order, Seq};

use crate::context::{Core, Keep};
use crate::socket::Ready;
use crate::stats::Drop;

use super::conn::{Conn, free_ranges, new_node, order_ranges, remove_node};
use super::delack::ACK_DELAY;
use super::record::{NONE, Range, State, flag};
use super::segment::Segment;
use super::tunables::TcpTunables;

/// Ranges of a connection: so many, and one more for each KiB of its buffer, a segment; but never more than the last figure.
const FEW_RANGES: u32 = 128;
const EACH: u32 = 1024;
const MAX_RANGES: u32 = 8192;
/// From so many on they are kept in an order, until half of them are left. Few in tests, whose models are small.
pub(super) const MANY_RANGES: u16 = if cfg!(test) { 6 } else { 64 };
/// A reader who leaves no more unread than this keeps up: he is served for longest when packet memory runs low.
const KEEPS_UP: usize = 32 * 1024;
/// Segments up to this size are copied behind the bytes already queued, so that they do not pin a block each.
pub(super) const COPY_UP_TO: usize = BLOCK / 2;

/// Joins `data` behind `queue`, copying when it is small and fits.
fn join(core: &mut Core, queue: &mut Chain, data: Chain) {
    let len = data.len();
    if len > COPY_UP_TO || queue.is_empty() || core.pool.tail_room(queue) < len {
        return core.pool.append(queue, data);
    }
    let copied = core.pool.append_copy(queue, &data, 0, len);
    debug_assert_eq!(copied, len, "tail room was checked");
    core.pool.free(data);
}

impl Conn<'_> {
    /// Takes in the payload and FIN of a segment that overlaps the window. Returns what to tell the application and whether the
    /// peer's FIN has now been received in order.
    pub(crate) fn receive(&mut self, core: &mut Core, seg: &Segment, data: Chain) -> (Ready, bool) {
        core.begin_account();
        core.takes(&data);
        let out = self.take_in(core, seg, data);
        core.end_account();
        out
    }

    fn take_in(&mut self, core: &mut Core, seg: &Segment, mut data: Chain) -> (Ready, bool) {
        let mut raise = Ready::NONE;
        self.measure_inflow(core.now, seg);
        let mut seq = seg.seq + u32::from(seg.has(wire::tcp::Flags::SYN));
        let mut fin = seg.has(wire::tcp::Flags::FIN);
        if seq.lt(self.tcb.rcv_nxt) {
            let old = self.tcb.rcv_nxt.dist(seq);
            self.note_duplicate_data(seq, old.min(data.len() as u32 + u32::from(fin)));
            let cut = (old as usize).min(data.len());
            core.pool.pull_front(&mut data, cut);
            seq += cut as u32;
            if seg.end().le(self.tcb.rcv_nxt) {
                self.ack_duplicate(); // what brings news, too, is acknowledged with them
            }
        }
        let room = if self.tcb.rcv_adv.gt(seq) {
            self.tcb.rcv_adv.dist(seq)
        } else {
            0
        };
        if data.len() > room as usize && !self.may_overrun(core, seq) {
            // Nothing of it is taken, as on Linux: who keeps to the window sends no such segment.
            self.drop_beyond(core, seq, core::mem::take(&mut data));
            fin = false;
        }
        if !data.is_empty() && self.no_room(core, seq) {
            self.refuse_data(core, seq, core::mem::take(&mut data));
            fin = false;
        }
        let end = seq + data.len() as u32;
        if !data.is_empty() {
            if seq == self.tcb.rcv_nxt && !self.has_memory(core) {
                // As if lost on the way: the peer slows down and sends it again.
                core.drop_packet(data, Drop::PoolLow);
                fin = false;
            } else if seq == self.tcb.rcv_nxt && !self.within_budget(core) {
                self.refuse_data(core, seq, data);
                fin = false;
            } else if seq == self.tcb.rcv_nxt {
                if fin && self.tcb.state == State::Established {
                    self.tcb.acking.expect_answer(); // see `acknowledge_fin`
                }
                raise |= self.accept(core, data, seg.unit);
            } else {
                if let Some(ledger) = &mut self.ledger {
                    ledger.out_of_order(data.len() as u32, seg.unit);
                }
                self.note_segment(seg.unit, data.len() as u32);
                self.store(core, seq, data);
            }
        } else {
            core.pool.free(data);
        }
        if fin {
            self.act.fin = Some(end);
        }
        if self.act.fin.is_some_and(|at| at.lt(self.tcb.rcv_nxt)) {
            self.act.fin = None; // the peer has said otherwise
        }
        let finished = self.act.fin == Some(self.tcb.rcv_nxt);
        if finished {
            self.take_fin(core);
            raise |= Ready::READABLE | Ready::READ_CLOSED;
        } else if fin {
            self.note_recent(end);
            self.tcb.ack_now();
        }
        (raise, finished)
    }

    /// The peer's FIN is next.
    fn take_fin(&mut self, core: &mut Core) {
        self.act.fin = None;
        let up = self.edges.urgent(self.tcb, self.act);
        if up.is_some_and(|up| up.gt(self.tcb.rcv_nxt)) {
            self.edges.set_urgent(self.act, None); // no more will come
        }
        free_ranges(core, self.ranges, self.act); // if anything, it is no part of the stream
        self.tcb.rcv_nxt += 1;
        self.tcb.flags |= flag::FIN_RECEIVED;
        self.act.dsack = (Seq(0), Seq(0)); // as Linux: what came twice matters no more
        self.acknowledge_fin(core.now);
    }

    fn drop_beyond(&mut self, core: &mut Core, seq: Seq, data: Chain) {
        let closed = seq == self.tcb.rcv_nxt && self.offered_edge().le(seq);
        let reason = match closed {
            true => Drop::TcpZeroWindow,
            false => Drop::TcpBeyondWindow,
        };
        core.drop_packet(data, reason);
        self.ack_duplicate(); // it may have missed our ACKs
    }

    /// Whether data at `seq` have no room though they are in a window that was offered once: the buffer was made smaller.
    #[inline]
    fn no_room(&self, core: &Core, seq: Seq) -> bool {
        self.act.edges != NONE && self.offered_edge().le(seq) || self.outgrown(&core.tcp)
    }

    /// Such data, or those for which TCP holds too much, are not taken, and the peer is told that the window is closed, or where it ends now (as Linux).
    #[cold]
    fn refuse_data(&mut self, core: &mut Core, seq: Seq, data: Chain) {
        if self.offered_edge().le(seq) {
            return self.drop_beyond(core, seq, data);
        }
        let reason = if seq == self.tcb.rcv_nxt {
            self.take_window_back();
            Drop::TcpReceiveQueueFull
        } else {
            Drop::TcpOutOfOrderMemory
        };
        core.drop_packet(data, reason);
        self.tcb.ack_now();
    }

    /// Whether a segment that begins at `seq` within the window may end beyond it (as Linux): while nothing waits to be read, and
    /// what waits behind gaps leaves room, as far as that is known.
    fn may_overrun(&self, core: &Core, seq: Seq) -> bool {
        if !seq.lt(self.tcb.rcv_adv) || !self.act.recv.is_empty() {
            return false;
        }
        let most = self.receive_limit(&core.tcp);
        let inflow = self.inflow.as_deref();
        seq == self.tcb.rcv_nxt || inflow.is_some_and(|inflow| inflow.occupied() < most)
    }

    /// The ACK of the peer's FIN: as on Linux an application that ends the connection, too, is given the time to let its own FIN carry
    /// it, unless nothing was received before, or more than a segment waits with it.
    fn acknowledge_fin(&mut self, now: Instant) {
        let second = self.act.unacked_in >= u32::from(self.act.rcv_mss); // its number counts
        let first = self.tcb.ato == 0;
        if self.tcb.state != State::Established || first || second || self.tcb.rcv_wnd() == 0 {
            return self.tcb.ack_now();
        }
        self.tcb.acking.expect_answer();
        self.tcb.flags |= flag::ACK_DELAYED;
        self.act.ack_at = self.act.ack_at.min(now + ACK_DELAY);
    }

    /// Whether packet memory allows for more data to be read, so that readers who do not read leave some to everybody else.
    fn has_memory(&self, core: &Core) -> bool {
        let keep = if self.act.recv.len() > KEEPS_UP {
            Keep::Unread
        } else {
            Keep::All
        };
        core.spare_blocks(keep) > 0
    }

    /// RFC 9293 3.10.7.4 sixth: the urgent pointer moves on, with data or without (MUST-66). The application hears of it each
    /// time (MUST-32); the bytes stay where they are in the stream (RFC 6093 6).
    #[cold]
    pub(crate) fn note_urgent(&mut self, seg: &Segment) -> Ready {
        let known = self.edges.urgent(self.tcb, self.act);
        let advances =
            |mark: &Seq| mark.gt(self.read_edge()) && known.is_none_or(|known| mark.gt(known));
        match seg.urgent.filter(advances) {
            Some(mark) if self.tcb.state.receives() => {
                self.edges.set_urgent(self.act, Some(mark));
                Ready::PRIORITY
            }
            _ => Ready::NONE,
        }
    }

    /// In-order data: to the reader, with whatever waited behind it.
    fn accept(&mut self, core: &mut Core, data: Chain, unit: u32) -> Ready {
        let len = data.len() as u32;
        let filled_gap = self.act.ooo != NONE;
        self.tcb.rcv_nxt += len;
        let joins = !self.act.recv.is_empty();
        if joins {
            join(core, &mut self.act.recv, data);
        } else {
            self.act.recv = data;
        }
        if filled_gap {
            self.absorb(core);
        }
        self.note_segment(unit, len);
        self.charge_frame(len, joins);
        self.act.unacked_in = self.act.unacked_in.saturating_add(len);
        let beyond = self.tcb.rcv_nxt.gt(self.tcb.rcv_adv);
        self.tcb.rcv_adv = self.tcb.rcv_adv.max(self.tcb.rcv_nxt);
        self.ack_in_order(core.now, filled_gap, beyond);
        Ready::READABLE
    }

    /// Moves ranges that have become in order to the reader.
    fn absorb(&mut self, core: &mut Core) {
        while let Some(range) = self.ranges.at_mut(self.act.ooo)
            && range.start.le(self.tcb.rcv_nxt)
        {
            let (node, start, end) = (self.act.ooo, range.start, range.end);
            let mut data = range.data.take();
            self.remove_range(node);
            if start.lt(self.tcb.rcv_nxt) {
                // RFC 2883 4.2: it came alone, and now within another.
                self.extend_duplicate(start, end.min(self.tcb.rcv_nxt));
            }
            if end.le(self.tcb.rcv_nxt) {
                core.pool.free(data);
                continue;
            }
            core.pool
                .pull_front(&mut data, self.tcb.rcv_nxt.dist(start) as usize);
            self.tcb.rcv_nxt = end;
            join(core, &mut self.act.recv, data);
        }
    }

    /// Out-of-order data: into the sorted list.
    fn store(&mut self, core: &mut Core, seq: Seq, mut data: Chain) {
        // Memory for what cannot be read yet is the first to go when the pool runs low.
        if core.spare_blocks(Keep::OutOfOrder) == 0 {
            self.ack_out_of_order(core);
            return core.drop_packet(data, Drop::PoolLow);
        }
        if self.denied(core) {
            self.ack_out_of_order(core);
            return core.drop_packet(data, Drop::TcpOutOfOrderMemory);
        }
        let end = seq + data.len() as u32;
        let before = self.range_up_to(seq);
        let (previous, node) = match before.and_then(|b| self.ranges.at(b).map(|r| (b, r))) {
            Some((before, range)) if range.end.lt(seq) => (before, range.next),
            Some((touching, _)) => (NONE, touching), // which grows: no list changes
            None => (NONE, self.act.ooo),
        };
        let (len, mut joins) = (data.len() as u32, false);
        let grown = match self.ranges.at_mut(node) {
            Some(range) if range.start.le(seq) => {
                if range.end.ge(end) {
                    let start = range.start;
                    self.note_recent(start);
                    self.note_duplicate_data(seq, end.dist(seq));
                    self.ack_duplicate();
                    return core.drop_packet(data, Drop::TcpDuplicate);
                }
                let again = range.end.dist(seq);
                core.pool.pull_front(&mut data, again as usize);
                range.end = end;
                join(core, &mut range.data, data);
                joins = true;
                self.note_duplicate_data(seq, again);
                node
            }
            _ => {
                let Some(new) = self.insert(&core.tcp, (seq, end), previous, node) else {
                    self.ack_out_of_order(core);
                    return core.drop_packet(data, Drop::TcpReceiveBufferFull);
                };
                if let Some(range) = self.ranges.at_mut(new) {
                    range.data = data;
                }
                new
            }
        };
        self.merge_following(core, grown);
        self.tcb.rcv_adv = self.tcb.rcv_adv.max(end); // what overran the window was let in
        self.charge_frame(len, joins);
        self.make_room_behind(core, end);
        self.ack_out_of_order(core);
        if let Some(start) = self.ranges.at(grown).map(|r| r.start) {
            self.note_recent(start);
        }
    }

    fn insert(
        &mut self,
        tcp: &TcpTunables,
        (start, end): (Seq, Seq),
        previous: u32,
        next: u32,
    ) -> Option<u32> {
        // Each takes a block of memory at least, however small it is: no more than the buffer is worth, and few when many
        // connections have some.
        let scarce = self.ranges.len() > self.ranges.capacity() / 2;
        let worth = FEW_RANGES.saturating_add(self.receive_limit(tcp) / EACH);
        let most = if scarce { FEW_RANGES } else { worth };
        if u32::from(self.act.ooo_nodes) >= most.min(MAX_RANGES) {
            return None;
        }
        let new = new_node(self.ranges, start, end, next)?;
        let mut order = self.order();
        self.act.ooo_nodes += 1;
        match self.ranges.at_mut(previous) {
            Some(range) if previous != NONE => range.next = new,
            _ => self.act.ooo = new,
        }
        if !order.is_empty() {
            order.insert(self.ranges, new);
        } else if self.act.ooo_nodes == MANY_RANGES {
            // Too many to be walked through with each segment.
            order_ranges(self.ranges, self.act.ooo);
            return Some(new);
        }
        self.set_order(order);
        Some(new)
    }

    /// Takes a range out whose data was taken: the first, or one that is no more in the list.
    fn remove_range(&mut self, node: u32) {
        let mut order = self.order();
        self.act.ooo_nodes -= 1;
        if self.act.ooo_nodes <= MANY_RANGES / 2 {
            order = Order::EMPTY;
        } else if !order.is_empty() {
            order.remove(self.ranges, node);
        }
        if node == self.act.ooo {
            self.act.ooo = self.ranges.at(node).map_or(NONE, |range| range.next);
        }
        self.set_order(order);
        remove_node(self.ranges, node);
    }

    fn order(&self) -> Order {
        let first = self.ranges.at(self.act.ooo);
        first.map_or(Order::EMPTY, |range| range.order)
    }

    fn set_order(&mut self, order: Order) {
        if let Some(first) = self.ranges.at_mut(self.act.ooo) {
            first.order = order;
        }
    }

    /// The last range that begins at `seq` or before.
    fn range_up_to(&self, seq: Seq) -> Option<u32> {
        let order = self.order();
        if !order.is_empty() {
            return order.find(self.ranges, seq);
        }
        let (mut found, mut node) = (None, self.act.ooo);
        while let Some(range) = self.ranges.at(node)
            && range.start.le(seq)
        {
            found = Some(node);
            node = range.next;
        }
        found
    }

    /// Joins `node` with the ranges after it that it now touches or covers.
    fn merge_following(&mut self, core: &mut Core, node: u32) {
        loop {
            let Some(&Range { end, next, .. }) = self.ranges.at(node) else {
                return;
            };
            let Some(after) = self.ranges.at_mut(next) else {
                return;
            };
            if after.start.gt(end) {
                return;
            }
            let (after_start, after_end, after_next) = (after.start, after.end, after.next);
            let mut data = after.data.take();
            self.remove_range(next);
            self.extend_duplicate(after_start, after_end.min(end));
            if after_end.gt(end) {
                core.pool
                    .pull_front(&mut data, end.dist(after_start) as usize);
            }
            let Some(range) = self.ranges.at_mut(node) else {
                return core.pool.free(data);
            };
            range.next = after_next;
            if after_end.gt(end) {
                range.end = after_end;
                join(core, &mut range.data, data);
            } else {
                core.pool.free(data);
            }
        }
    }

    /// RFC 2018 4: the first block names the range that grew last.
    fn note_recent(&mut self, start: Seq) {
        let recent = &mut self.act.recent;
        let len = usize::from(self.act.recent_len);
        let at = recent[..len]
            .iter()
            .position(|s| *s == start)
            .unwrap_or(len.min(recent.len() - 1));
        recent[..=at].rotate_right(1);
        recent[0] = start;
        self.act.recent_len = (len.max(at + 1)) as u8;
    }

    /// RFC 2883: a duplicate is reported once, with the next ACK.
    pub(crate) fn note_duplicate_data(&mut self, start: Seq, len: u32) {
        if self.tcb.has(flag::SACK) && len > 0 {
            self.act.dsack = (start, start + len);
        }
    }

    /// More of the segment that is being taken in has come before: one report for what touches, else the first.
    fn extend_duplicate(&mut self, start: Seq, end: Seq) {
        if !self.act.owes_dsack() {
            return self.note_duplicate_data(start, end.dist(start));
        }
        let (known_start, known_end) = self.act.dsack;
        if start.le(known_end) && known_start.le(end) {
            self.act.dsack = (known_start.min(start), known_end.max(end));
        }
    }

    /// Whether what is sent says what came out of order, or again.
    pub(crate) fn must_report_ranges(&self) -> bool {
        let early = self.act.ooo != NONE || self.act.fin.is_some();
        self.tcb.has(flag::SACK) && (early || self.act.owes_dsack())
    }

    /// A range as it is reported: with the FIN behind it.
    fn reported(&self, range: &Range) -> (Seq, Seq) {
        let fin = self.act.fin == Some(range.end);
        (range.start, range.end + u32::from(fin))
    }

    /// A FIN that came early, if no range leads up to it.
    fn lone_fin(&self) -> Option<(Seq, Seq)> {
        let fin = self.act.fin?;
        let last = self.range_up_to(fin).and_then(|at| self.ranges.at(at));
        let rides = last.is_some_and(|range| range.end == fin);
        (!rides).then_some((fin, fin + 1))
    }

    /// How many blocks the next report of it has, if they find room.
    pub(crate) fn ranges_to_report(&self) -> usize {
        usize::from(self.act.ooo_nodes)
            + usize::from(self.act.owes_dsack())
            + usize::from(self.lone_fin().is_some())
    }

    /// Bytes of options the next report of it takes.
    pub(crate) fn report_len(&self) -> u16 {
        let others = wire::tcp::Options {
            timestamps: self.tcb.has(flag::TIMESTAMPS).then_some((0, 0)),
            ..wire::tcp::Options::default()
        };
        4 + 8 * self.ranges_to_report().min(others.sack_room()) as u16
    }

    /// The SACK blocks of the next ACK, at most `most`: a D-SACK first, then newest first (RFC 2018 4, RFC 2883 4).
    pub(crate) fn sack_blocks(&mut self, most: usize) -> wire::tcp::Sack {
        let mut sack = wire::tcp::Sack::default();
        let most = most.min(sack.blocks.len());
        let mut push = |start: Seq, end: Seq, again: bool| {
            let len = usize::from(sack.len);
            let known = !again && sack.blocks[..len].contains(&(start.0, end.0));
            if len < most && !known {
                sack.blocks[len] = (start.0, end.0);
                sack.len += 1;
            }
        };
        if self.act.owes_dsack() {
            let (start, end) = core::mem::take(&mut self.act.dsack);
            push(start, end, true);
            // RFC 2883 4: followed by what holds it, though that be the same, or it would be taken for news.
            if let Some((start, end)) = self.range_containing(start) {
                push(start, end, true);
            }
        }
        for at in 0..usize::from(self.act.recent_len) {
            if let Some((start, end)) = self.range_containing(self.act.recent[at]) {
                push(start, end, false);
            }
        }
        let mut node = self.act.ooo;
        for _ in 0..most {
            let Some(range) = self.ranges.at(node) else {
                break;
            };
            let (start, end) = self.reported(range);
            push(start, end, false);
            node = range.next;
        }
        if let Some((start, end)) = self.lone_fin() {
            push(start, end, false);
        }
        if self.act.ooo == NONE && self.act.fin.is_none() {
            self.act.recent_len = 0;
        }
        sack
    }

    /// The end of the highest of what came out of order.
    pub(crate) fn highest_received(&self) -> Option<Seq> {
        let last = self.range_up_to(self.tcb.rcv_adv);
        let last = last.and_then(|at| self.ranges.at(at));
        let fin = self.lone_fin().map(|(_, fin)| fin);
        fin.or(last.map(|range| self.reported(range).1))
    }

    fn range_containing(&self, seq: Seq) -> Option<(Seq, Seq)> {
        let range = self.range_up_to(seq).and_then(|at| self.ranges.at(at));
        match range.map(|range| self.reported(range)) {
            Some((start, end)) if seq.lt(end) => Some((start, end)),
            _ => self.lone_fin().filter(|(fin, _)| *fin == seq),
        }
    }
}
