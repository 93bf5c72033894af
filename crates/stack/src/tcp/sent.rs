//! What is in flight: runs of numbers, each with when it was last sent and what is known of it (RFC 2018, RFC 8985 5).
//!
//! # Theory of operation
//!
//! A [`Sent`] node stands for full segments that were sent together, as a super-frame or within a 64th of the round trip, so
//! that a window costs some tens of nodes and not one for every segment; the last of them may be short. A SACK that ends inside
//! a node splits it between segments; neighbours that are SACKed become one. All nodes of a connection are linked in the order of their numbers, and besides
//! each that is in flight in the order it was last sent, each held lost in the order it is to be sent again. So:
//!
//! - finding what time has made lost looks at what is newly lost, and one node more;
//! - the next retransmission is the first of a list;
//! - an ACK looks at what it frees;
//! - a SACK goes on from the highest one known, where new ones nearly always are; one below costs a walk from the front, over
//!   some tens of nodes, or a search when there are more.
//!
//! Nodes come from a slab that the host's connections share. A connection always gets its first one; when no more are to be had
//! neighbours are merged: what is sent joins the node before it, whose time is then coarse, a SACK that needs a split is
//! ignored, which is safe (it is advisory), and a part of a node sent again counts as all of it.
//!
//! What does not live here: what makes something lost (`rack`, `recovery`), and what follows from it.
//!
//! Invariant: the nodes cover [`snd_una`, `snd_nxt`) without gaps or overlap, in order, and none is empty.
//! Invariant: `sacked`, `lost` and `again` are the sums over the nodes; what is in the network is what was sent and not
//! acknowledged, without `sacked` and `lost` (Linux's `tcp_packets_in_flight`, in bytes).

use base::{Chain, Cursor, Links, Order, Pool, Seq, Slab};

use super::record::NONE;

use frames::Frames;

pub(crate) use again::Again;
pub(crate) use moved::Flown;
pub(crate) use nodes::capacity;

/// What is known of numbers that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// On their way, as far as is known.
    InFlight,
    /// Held lost, and not sent again since.
    Lost,
    /// The peer has reported them.
    Sacked,
}

/// Numbers sent at one time.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) start: Seq,
    pub(crate) end: Seq,
    /// Microseconds (low 32 bits) when they were last sent.
    pub(crate) at: u32,
    /// Where `start` is in the queue; none for a FIN.
    place: Option<Cursor>,
    /// Next by number.
    next: u32,
    /// Neighbours in the order of sending, or of sending again.
    before: u32,
    after: u32,
    /// Length of its segments, but for the last.
    unit: u16,
    pub(crate) fate: Fate,
    /// Sent more than once.
    pub(crate) again: bool,
    /// What its last segment is.
    tail: Tail,
    frames: Frames,
    links: Links,
    /// In the first one, when they are many: the order to find one by.
    order: Order,
}

/// What stands at the end of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tail {
    /// It was pushed (PSH).
    pub(crate) pushed: bool,
    /// A record ends (MSG_EOR): nothing behind it is ever sent together with it.
    pub(crate) record: bool,
}

impl Sent {
    fn len(&self) -> u32 {
        self.end.dist(self.start)
    }

    /// More was sent behind it; a FIN, which has no place, leaves the end of the data what it was.
    fn join_tail(&mut self, place: Option<Cursor>, ends: Tail) {
        if place.is_some() {
            self.tail = ends;
        }
    }
}

/// A doubly linked list threaded through `before` and `after`.
#[derive(Debug, Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

const EMPTY: Ends = Ends {
    first: NONE,
    last: NONE,
};

/// The lists of one connection, and their sums.
#[derive(Debug)]
pub(crate) struct Flight {
    head: u32,
    tail: u32,
    /// In flight, oldest first.
    timed: Ends,
    /// Held lost, next to send first.
    missing: Ends,
    /// The highest node that is SACKed.
    hint: u32,
    /// Bytes SACKed (without SACK: duplicate ACKs times MSS).
    pub(crate) sacked: u32,
    /// Bytes held lost and not sent again.
    pub(crate) lost: u32,
    /// Bytes in flight that were sent more than once.
    pub(crate) again: u32,
    nodes: u16,
    /// What Fast Open keeps (`Active::fast`): here, for these bytes would be padding.
    pub(crate) fast: u16,
}

impl Flight {
    pub(crate) const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
        timed: EMPTY,
        missing: EMPTY,
        hint: NONE,
        sacked: 0,
        lost: 0,
        again: 0,
        nodes: 0,
        fast: u16::MAX,
    };

    /// The node with the highest numbers that are SACKed.
    pub(crate) fn highest(&self) -> u32 {
        self.hint
    }

    pub(crate) fn nodes(&self) -> u32 {
        u32::from(self.nodes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }
}

/// What newly delivered numbers say, gathered over one ACK.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Microseconds, and the time stamp of this moment, for [`Delivery::echoes_before`].
    pub(crate) now: u64,
    pub(crate) stamp: u32,
    /// The time stamp echoed.
    pub(crate) echo: Option<u32>,
    pub(crate) min_rtt: u32,
    /// Up to here an original that arrives speaks against a timeout.
    pub(crate) recover: Seq,
    /// The highest number delivered before this ACK: what it covers below that came late, but not what it covers below what itself
    /// reports.
    pub(crate) fack: Seq,
    /// Bytes delivered for the first time.
    pub(crate) bytes: u32,
    /// Segments, when they are counted.
    pub(crate) segments: u32,
    pub(crate) counts: bool,
    /// When the latest of them was sent, and its end.
    pub(crate) latest: Option<(u32, Seq)>,
    /// The round trip of the last of them.
    pub(crate) rtt: u32,
    /// How long ago the first sent of those was sent that were sent once only, microseconds; 0: there are none.
    pub(crate) oldest: u32,
    /// Something below `recover` arrived that was sent once only.
    pub(crate) original: bool,
    /// Something arrived that was sent again.
    pub(crate) again: bool,
    /// How far below the highest an original came, bytes: reordering (RFC 8985 6.2 step 3).
    pub(crate) reordered: u32,
}

/// Whether one thing was sent after another (RFC 8985 6.2, RACK_sent_after): numbers decide between equal times.
pub(crate) fn sent_after(a: (u32, Seq), b: (u32, Seq)) -> bool {
    let later = a.0.wrapping_sub(b.0) as i32;
    later > 0 || (later == 0 && a.1.gt(b.1))
}

impl Delivery {
    /// The round trip of the last of what was delivered, microseconds; 0: none that counts.
    pub(crate) fn sample(&self) -> u32 {
        if self.latest.is_some() {
            self.rtt.max(1)
        } else {
            0
        }
    }

    /// Whether the echo is older than a transmission at `at`, so that it answers another one.
    fn echoes_before(&self, at: u32) -> bool {
        let age = u64::from((self.now as u32).wrapping_sub(at));
        let ms = self.now / 1000 - self.now.saturating_sub(age) / 1000;
        let stamp = self.stamp.wrapping_sub(ms as u32);
        self.echo
            .is_some_and(|echo| (echo.wrapping_sub(stamp) as i32) < 0)
    }

    fn note(&mut self, node: &Sent, end: Seq) {
        self.bytes += end.dist(node.start);
        if self.counts {
            let unit = u32::from(node.unit);
            let left = node.end.dist(end).div_ceil(unit);
            self.segments += node.len().div_ceil(unit) - left;
        }
        let mut counts = true;
        let age = (self.now as u32).wrapping_sub(node.at);
        if node.again {
            self.again = true;
            // RFC 8985 6.2 step 2: it may be the original that arrived.
            counts = age >= self.min_rtt && !self.echoes_before(node.at);
        } else {
            self.oldest = self.oldest.max(age.max(1));
            self.original |= end.le(self.recover);
            if end.lt(self.fack) {
                self.reordered = self.reordered.max(self.fack.dist(node.start));
            }
        }
        if counts {
            self.rtt = age;
            let sent = (node.at, end);
            if self.latest.is_none_or(|latest| sent_after(sent, latest)) {
                self.latest = Some(sent);
            }
        }
    }
}

/// The lists of one connection with the slab they live in.
pub(crate) struct Board<'a> {
    pub(crate) flight: &'a mut Flight,
    pub(crate) nodes: &'a mut Slab<Sent>,
    /// Length of a full segment now: what is sent together is of such, but for the last.
    pub(crate) mss: u32,
}

impl Board<'_> {
    /// The length of segments sent now, as nodes keep it.
    fn unit(&self) -> u16 {
        u16::try_from(self.mss).unwrap_or(u16::MAX)
    }

    fn list(&mut self, fate: Fate) -> Option<&mut Ends> {
        match fate {
            Fate::InFlight => Some(&mut self.flight.timed),
            Fate::Lost => Some(&mut self.flight.missing),
            Fate::Sacked => None,
        }
    }

    /// Puts a node into the list of `fate`, behind `after` (`NONE`: first).
    fn link(&mut self, node: u32, fate: Fate, after: u32) {
        let Some(list) = self.list(fate) else {
            return;
        };
        let following = if after == NONE {
            core::mem::replace(&mut list.first, node)
        } else {
            match self.nodes.at_mut(after) {
                Some(before) => core::mem::replace(&mut before.after, node),
                None => NONE,
            }
        };
        if let Some(sent) = self.nodes.at_mut(node) {
            (sent.before, sent.after) = (after, following);
        }
        match self.nodes.at_mut(following) {
            Some(next) if following != NONE => next.before = node,
            _ => {
                if let Some(list) = self.list(fate) {
                    list.last = node;
                }
            }
        }
    }

    fn unlink(&mut self, node: u32, fate: Fate) {
        let Some(&Sent { before, after, .. }) = self.nodes.at(node) else {
            return;
        };
        if fate == Fate::Sacked {
            return;
        }
        match self.nodes.at_mut(before) {
            Some(sent) if before != NONE => sent.after = after,
            _ => {
                if let Some(list) = self.list(fate) {
                    list.first = after;
                }
            }
        }
        match self.nodes.at_mut(after) {
            Some(sent) if after != NONE => sent.before = before,
            _ => {
                if let Some(list) = self.list(fate) {
                    list.last = before;
                }
            }
        }
    }

    /// Adds or takes the bytes of one node to or from the sums.
    fn count(&mut self, len: u32, fate: Fate, again: bool, add: bool) {
        let flight = &mut *self.flight;
        let sum = match fate {
            Fate::InFlight if again => &mut flight.again,
            Fate::InFlight => return,
            Fate::Lost => &mut flight.lost,
            Fate::Sacked => &mut flight.sacked,
        };
        *sum = if add {
            sum.saturating_add(len)
        } else {
            sum.saturating_sub(len)
        };
    }

    /// Another fate for a node, at the end of that fate's list.
    fn turn(&mut self, node: u32, fate: Fate) {
        let Some(sent) = self.nodes.at(node) else {
            return;
        };
        let (old, len, again) = (sent.fate, sent.len(), sent.again);
        self.unlink(node, old);
        self.count(len, old, again, false);
        if let Some(sent) = self.nodes.at_mut(node) {
            sent.fate = fate;
        }
        self.count(len, fate, again, true);
        let last = match fate {
            Fate::InFlight => self.flight.timed.last,
            Fate::Lost => self.place_among_missing(node),
            Fate::Sacked => return,
        };
        self.link(node, fate, last);
    }

    /// Behind which node a newly lost one is to be sent again: lower numbers first, as far as that is cheap to know.
    fn place_among_missing(&self, node: u32) -> u32 {
        let start = |index: u32| self.nodes.at(index).map(|sent| sent.start);
        let Ends { first, last } = self.flight.missing;
        match (start(node), start(first), start(last)) {
            (Some(own), Some(front), _) if own.lt(front) => NONE,
            (Some(own), _, Some(back)) if own.lt(back) => first,
            _ => last,
        }
    }

    /// Takes the first node by number out.
    fn pop(&mut self) {
        let node = self.flight.head;
        let Some(sent) = self.nodes.at(node) else {
            return;
        };
        let (fate, next, len, again) = (sent.fate, sent.next, sent.len(), sent.again);
        self.unlink(node, fate);
        self.count(len, fate, again, false);
        if next == NONE {
            self.flight.tail = NONE;
        }
        self.free(node);
    }

    /// Cuts a node in two at `at`; the second part, behind it everywhere, is returned. `None` when there is no node for it.
    fn split(&mut self, pool: &Pool, node: u32, at: Seq) -> Option<u32> {
        if !self.has_node() {
            return None; // before the place is looked for: that may be far
        }
        let sent = self.nodes.at(node)?;
        debug_assert!(sent.start.lt(at) && at.lt(sent.end));
        let place = sent
            .place
            .and_then(|place| pool.seek(&place, at.dist(sent.start) as usize))
            .map(|(place, _)| place);
        let rest = Sent {
            start: at,
            place,
            ..*sent
        };
        let fate = sent.fate;
        let new = self.new_node(rest)?;
        if let Some(sent) = self.nodes.at_mut(node) {
            sent.end = at;
            sent.tail = Tail::default();
            sent.next = new;
        }
        if self.flight.tail == node {
            self.flight.tail = new;
        }
        self.link(new, fate, node);
        self.enter(new);
        Some(new)
    }

    /// Notes that `start` to `end` was sent for the first time, the first byte of which is at `place`. False when there is no
    /// memory for it: behind the end of a record, for else there always is, unless there are more active connections than there
    /// may be.
    pub(crate) fn push(
        &mut self,
        (start, end): (Seq, Seq),
        (place, ends): (Option<Cursor>, Tail),
        now: u32,
        together: u32,
    ) -> bool {
        let tail = self.flight.tail;
        let newest = self.flight.timed.last == tail;
        if let Some(last) = self.nodes.at_mut(tail)
            && newest
            && !last.again
            && !last.tail.record
            && u32::from(last.unit) == self.mss
            && last.len().is_multiple_of(self.mss)
            && now.wrapping_sub(last.at) <= together
        {
            last.end = end;
            last.frames.join((start, end), self.mss);
            last.join_tail(place, ends);
            return true;
        }
        let sent = Sent {
            start,
            end,
            at: now,
            place,
            next: NONE,
            before: NONE,
            after: NONE,
            unit: self.unit(),
            fate: Fate::InFlight,
            again: false,
            tail: ends,
            frames: Frames::one(start, end.dist(start)),
            links: Links::APART,
            order: Order::EMPTY,
        };
        let Some(node) = self.new_node(sent) else {
            return self.stretch(end, now, (place, ends));
        };
        match self.nodes.at_mut(tail) {
            Some(last) if tail != NONE => last.next = node,
            _ => self.flight.head = node,
        }
        self.flight.tail = node;
        self.link(node, Fate::InFlight, self.flight.timed.last);
        self.enter(node);
        true
    }

    /// No node is left: the last one takes the new numbers in, whatever was known of its own.
    #[cold]
    fn stretch(&mut self, end: Seq, now: u32, (place, ends): (Option<Cursor>, Tail)) -> bool {
        let tail = self.flight.tail;
        let closed = |last: &Sent| last.tail.record && place.is_some();
        if self.nodes.at(tail).is_none_or(closed) {
            return false;
        }
        self.turn(tail, Fate::InFlight);
        let Some(last) = self.nodes.at_mut(tail) else {
            return false;
        };
        let grown = end.dist(last.end);
        (last.end, last.at) = (end, now);
        last.join_tail(place, ends);
        if last.again {
            self.flight.again += grown;
        }
        if self.flight.hint == tail {
            self.flight.hint = NONE;
        }
        true
    }

    /// Everything below `una` is acknowledged, and gone from `queue`.
    pub(crate) fn acknowledge(
        &mut self,
        pool: &Pool,
        queue: &Chain,
        una: Seq,
        delivery: &mut Delivery,
    ) {
        while let Some(sent) = self.nodes.at(self.flight.head)
            && sent.start.lt(una)
        {
            let end = sent.end.min(una);
            if sent.fate != Fate::Sacked {
                delivery.note(sent, end);
            }
            if sent.end.le(una) {
                self.pop();
                continue;
            }
            let (cut, fate, again) = (una.dist(sent.start), sent.fate, sent.again);
            self.count(cut, fate, again, false);
            if let Some(sent) = self.nodes.at_mut(self.flight.head) {
                sent.start = una;
            }
        }
        // A place may be the end of the memory before, which is gone now.
        if let Some(sent) = self.nodes.at_mut(self.flight.head) {
            sent.place = pool.cursor(queue, 0);
        }
    }

    /// Enters SACK blocks, sorted. Returns how many nodes were looked at.
    pub(crate) fn sack(
        &mut self,
        pool: &Pool,
        blocks: &[(Seq, Seq)],
        delivery: &mut Delivery,
    ) -> usize {
        let (mut previous, mut node) = (NONE, self.flight.head);
        if let (Some(known), Some((start, _))) = (self.nodes.at(self.flight.hint), blocks.first())
            && known.start.le(*start)
        {
            node = self.flight.hint;
        }
        let mut seen = 0;
        for &(start, end) in blocks {
            if let Some(found) = self.skip_to(start, node) {
                (previous, node) = (NONE, found);
            }
            while let Some(sent) = self.nodes.at(node)
                && sent.start.lt(end)
            {
                seen += 1;
                if sent.end.gt(start)
                    && sent.fate != Fate::Sacked
                    && let Some(part) = self.whole_segments(sent, (start, end))
                    && !self.report(pool, &mut previous, &mut node, part, delivery)
                {
                    break;
                }
                let Some(sent) = self.nodes.at(node) else {
                    break;
                };
                if sent.end.gt(end) {
                    break; // the next block may be inside of it
                }
                let next = sent.next;
                previous = self.join(previous, node);
                node = next;
            }
        }
        seen
    }

    /// The whole segments of a node that a block covers. No receiver holds less, and a peer that says so makes no more work.
    fn whole_segments(&self, sent: &Sent, (start, end): (Seq, Seq)) -> Option<(Seq, Seq)> {
        let (mut part, unit) = ((sent.start, sent.end), u32::from(sent.unit));
        if sent.start.lt(start) {
            let into = start.dist(sent.start).div_ceil(unit);
            part.0 = sent.start + into.saturating_mul(unit);
        }
        if sent.end.gt(end) {
            let into = end.dist(sent.start) / unit;
            part.1 = sent.start + into * unit;
        }
        part.0.lt(part.1).then_some(part)
    }

    /// The part of a node that a block covers is SACKed; `node` is that part afterwards. False when it cannot be cut out.
    fn report(
        &mut self,
        pool: &Pool,
        previous: &mut u32,
        node: &mut u32,
        (start, end): (Seq, Seq),
        delivery: &mut Delivery,
    ) -> bool {
        let Some(sent) = self.nodes.at(*node) else {
            return false;
        };
        let (from, to) = (sent.start, sent.end);
        if from.lt(start) {
            let Some(rest) = self.split(pool, *node, start) else {
                return false;
            };
            (*previous, *node) = (*node, rest);
        }
        if to.gt(end) && self.split(pool, *node, end).is_none() {
            return false;
        }
        if let Some(sent) = self.nodes.at(*node) {
            delivery.note(sent, sent.end);
        }
        self.turn(*node, Fate::Sacked);
        let below = |hint: &Sent| self.nodes.at(*node).is_some_and(|s| s.start.gt(hint.start));
        if self.nodes.at(self.flight.hint).is_none_or(below) {
            self.flight.hint = *node;
        }
        true
    }

    /// Makes one of two SACKed neighbours. Returns the node that stands for the second now.
    fn join(&mut self, previous: u32, node: u32) -> u32 {
        let sacked = |sent: &Sent| sent.fate == Fate::Sacked;
        let Some(second) = self.nodes.at(node).filter(|s| sacked(s)) else {
            return node;
        };
        let (end, next, tail, frames) = (second.end, second.next, second.tail, second.frames);
        let Some(first) = self
            .nodes
            .at_mut(previous)
            .filter(|s| sacked(s) && !s.tail.record)
        else {
            return node;
        };
        debug_assert!(first.next == node);
        (first.end, first.next, first.tail) = (end, next, tail);
        first.frames.merge(frames);
        if self.flight.tail == node {
            self.flight.tail = previous;
        }
        if self.flight.hint == node {
            self.flight.hint = previous;
        }
        self.free(node);
        previous
    }

    /// Holds lost what was sent before `latest` and longer than `wait` ago (RFC 8985 6.2 step 5). Returns how many bytes, and
    /// for how long the next sent before it is still waited for.
    pub(crate) fn overdue(
        &mut self,
        latest: (u32, Seq),
        wait: u32,
        now: u32,
    ) -> (u32, Option<u32>) {
        let before = self.flight.lost;
        while let Some(sent) = self.nodes.at(self.flight.timed.first)
            && !sent_after((sent.at, sent.end), latest)
            && (sent.at, sent.end) != latest
        {
            let age = now.wrapping_sub(sent.at);
            if age < wait {
                return (self.flight.lost - before, Some(wait - age));
            }
            self.turn(self.flight.timed.first, Fate::Lost);
        }
        (self.flight.lost - before, None)
    }

    /// Holds lost what is in flight, the first and what `overdue` says (RFC 8985 6.3). Afterwards all that is lost is in order:
    /// what a timeout's small window takes is the lowest, or nothing would ever be acknowledged.
    pub(crate) fn lose(&mut self, mut overdue: impl FnMut(&Sent) -> bool) {
        let mut node = self.flight.head;
        while let Some(sent) = self.nodes.at(node) {
            let (next, fate) = (sent.next, sent.fate);
            let first = node == self.flight.head;
            if fate == Fate::InFlight && (first || overdue(sent)) {
                self.turn(node, Fate::Lost);
            }
            if self.nodes.at(node).is_some_and(|s| s.fate == Fate::Lost) {
                self.unlink(node, Fate::Lost);
                self.link(node, Fate::Lost, self.flight.missing.last);
            }
            node = next;
        }
    }

    /// Holds lost what is in flight of `start` to `end`.
    pub(crate) fn lose_within(&mut self, (start, end): (Seq, Seq)) {
        let mut node = self.flight.head;
        while let Some(sent) = self.nodes.at(node).filter(|s| s.start.lt(end)) {
            let next = sent.next;
            if sent.fate == Fate::InFlight && sent.start.ge(start) && sent.end.le(end) {
                self.turn(node, Fate::Lost);
            }
            node = next;
        }
    }

    /// Holds the first `len` bytes lost, if they are in flight (RFC 6582).
    pub(crate) fn lose_first(&mut self, pool: &Pool, len: u32) {
        let head = self.flight.head;
        let Some(sent) = self.nodes.at(head) else {
            return;
        };
        if sent.fate == Fate::InFlight {
            if sent.len() > len {
                let at = sent.start + len;
                self.split(pool, head, at);
            }
            self.turn(head, Fate::Lost);
        }
    }

    /// Whether the first byte in flight is SACKed, which only a peer that threw it away can bring about (RFC 2018 8).
    pub(crate) fn reneged(&self) -> bool {
        self.nodes
            .at(self.flight.head)
            .is_some_and(|sent| sent.fate == Fate::Sacked)
    }

    /// Forgets what was SACKed: it is in flight again, as far as is known.
    pub(crate) fn forget(&mut self) {
        let mut node = self.flight.head;
        while let Some(sent) = self.nodes.at(node) {
            let next = sent.next;
            if sent.fate == Fate::Sacked {
                self.turn(node, Fate::InFlight);
            }
            node = next;
        }
        self.flight.hint = NONE;
    }

    /// What was held lost is not: it is the oldest of what is in flight.
    pub(crate) fn restore(&mut self) {
        while self.flight.missing.last != NONE {
            let node = self.flight.missing.last;
            let Some(sent) = self.nodes.at(node) else {
                return;
            };
            let (len, again) = (sent.len(), sent.again);
            self.unlink(node, Fate::Lost);
            self.count(len, Fate::Lost, again, false);
            if let Some(sent) = self.nodes.at_mut(node) {
                sent.fate = Fate::InFlight;
            }
            self.count(len, Fate::InFlight, again, true);
            self.link(node, Fate::InFlight, NONE);
        }
    }

    /// Gives all nodes back.
    pub(crate) fn clear(&mut self) {
        while self.flight.head != NONE {
            self.pop();
        }
        *self.flight = Flight::EMPTY;
    }
}

mod again;
mod audit;
mod frames;
mod moved;
mod nodes;
#[cfg(test)]
mod tests;
