//! Places in a connection's streams that mean something: ends of records that are being sent (MSG_EOR), the end of urgent
//! data, both ways (RFC 9293 3.8.5, RFC 6093), and the end of a window that was taken back.
//!
//! A connection that has any keeps them in a record of its own, named by `Active::edges`; all others pay a comparison.
//!
//! What does not live here: cutting segments (`output`), what readers do with urgent bytes (`posix`).
//!
//! Invariant: ends of records are in order, and behind what was sent: those in flight stand in `sent`.
//! Invariant: a record of places is named by one active part.

use base::{Seq, Slab};

use crate::error::SocketError;
use crate::socket::SocketId;

use super::conn::Conn;
use super::record::{Active, NONE, Tcb, flag};
use super::{State, Tcp};

/// Ends of records that may wait for each active connection, on average.
const ENDS_EACH: u32 = 4;

/// The places of one connection.
#[derive(Debug)]
struct Edges {
    /// Ends of records not sent yet, first and last.
    first: u32,
    last: u32,
    /// SND.UP: the octet behind the urgent data we send, until that is acknowledged.
    snd_up: Option<Seq>,
    /// RCV.UP: the octet behind the urgent data we receive, while some of it is unread.
    rcv_up: Option<Seq>,
    /// The right edge that is offered now, while that is less than `rcv_adv`: data were refused for which there had been room.
    offered: Option<Seq>,
}

/// Urgent data ahead of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Urgent {
    /// How many bytes there are up to the last urgent one, that included. It may not have arrived yet.
    pub left: u32,
    /// Its number in the stream, as the peer counts: another one means other urgent data.
    pub number: u32,
    /// The connection is over, and not by the peer's end.
    pub cut_off: bool,
}

#[derive(Debug)]
struct RecordEnd {
    at: Seq,
    next: u32,
}

/// The places of a connection that goes to another host.
#[derive(Debug)]
pub(crate) struct Places {
    ends: Vec<Seq>,
    snd_up: Option<Seq>,
    rcv_up: Option<Seq>,
    offered: Option<Seq>,
}

/// The places of all connections.
#[derive(Debug)]
pub(crate) struct EdgeTable {
    edges: Slab<Edges>,
    ends: Slab<RecordEnd>,
}

impl EdgeTable {
    /// For so many active connections.
    pub(crate) fn new(active: u32) -> Self {
        Self {
            edges: Slab::with_capacity(active),
            ends: Slab::with_capacity(active.saturating_mul(ENDS_EACH)),
        }
    }

    /// Records of places there are.
    pub(crate) fn len(&self) -> u32 {
        self.edges.len()
    }

    pub(crate) fn capacity_left(&self) -> bool {
        self.ends.len() < self.ends.capacity() && self.edges.len() < self.edges.capacity()
    }

    fn make(&mut self, slot: &mut u32) -> Option<&mut Edges> {
        if *slot == NONE {
            let none = Edges {
                first: NONE,
                last: NONE,
                snd_up: None,
                rcv_up: None,
                offered: None,
            };
            *slot = self.edges.insert(none)?.index;
        }
        self.edges.at_mut(*slot)
    }

    /// A record ends at `at`, where what was written ends. False when there is no room to remember it.
    fn end_record(&mut self, slot: &mut u32, at: Seq) -> bool {
        if self.make(slot).is_none() {
            return false;
        }
        let Some(key) = self.ends.insert(RecordEnd { at, next: NONE }) else {
            return false;
        };
        if let Some(edges) = self.edges.at_mut(*slot) {
            let last = core::mem::replace(&mut edges.last, key.index);
            match self.ends.at_mut(last) {
                Some(last) => last.next = key.index,
                None => edges.first = key.index,
            }
        }
        true
    }

    /// Where the first record not sent yet ends.
    fn next_end(&self, slot: u32) -> Option<Seq> {
        let edges = self.edges.at(slot)?;
        self.ends.at(edges.first).map(|end| end.at)
    }

    /// Forgets the first end if that is `at`; whether it was.
    fn take_end(&mut self, slot: u32, at: Seq) -> bool {
        let Some(edges) = self.edges.at_mut(slot) else {
            return false;
        };
        let first = edges.first;
        let Some(end) = self.ends.at(first).filter(|end| end.at == at) else {
            return false;
        };
        edges.first = end.next;
        if edges.first == NONE {
            edges.last = NONE;
        }
        self.ends.remove_at(first);
        true
    }

    /// Gives back all that is remembered.
    pub(crate) fn release(&mut self, slot: &mut u32) {
        let slot = core::mem::replace(slot, NONE);
        let Some(edges) = self.edges.remove_at(slot) else {
            return;
        };
        let mut node = edges.first;
        while let Some(end) = self.ends.remove_at(node) {
            node = end.next;
        }
    }

    /// A connection is over: the urgent byte keeps its place while it can be read, everything else is given back.
    pub(crate) fn end(&mut self, tcb: &Tcb, act: &mut Active) {
        let last = act.read_edge(tcb) + act.recv.len() as u32;
        let up = self.urgent(tcb, act).filter(|up| up.le(last));
        self.release(&mut act.edges);
        self.set_urgent(act, up);
    }

    /// Takes all out that is remembered.
    pub(crate) fn take_out(&mut self, slot: &mut u32) -> Option<Places> {
        let edges = self.edges.remove_at(core::mem::replace(slot, NONE))?;
        let (mut ends, mut node) = (Vec::new(), edges.first);
        while let Some(end) = self.ends.remove_at(node) {
            ends.push(end.at);
            node = end.next;
        }
        Some(Places {
            ends,
            snd_up: edges.snd_up,
            rcv_up: edges.rcv_up,
            offered: edges.offered,
        })
    }

    /// Whether there is room for these.
    pub(crate) fn fits(&self, places: &Places) -> bool {
        let room = self.ends.capacity() - self.ends.len();
        places.ends.len() as u32 <= room && !self.edges.is_full()
    }

    /// Remembers what was taken out elsewhere. False when there is no room.
    pub(crate) fn put_in(&mut self, slot: &mut u32, places: Places) -> bool {
        let Some(edges) = self.make(slot) else {
            return false;
        };
        (edges.snd_up, edges.rcv_up) = (places.snd_up, places.rcv_up);
        edges.offered = places.offered;
        let mut ends = places.ends.into_iter();
        ends.all(|at| self.end_record(slot, at))
    }

    /// Forgets what has passed; whether nothing is left.
    pub(crate) fn settle(&mut self, tcb: &Tcb, act: &mut Active) -> bool {
        let read = act.read_edge(tcb);
        let Some(edges) = self.edges.at_mut(act.edges) else {
            return true;
        };
        edges.snd_up = edges.snd_up.filter(|up| up.gt(tcb.snd_una));
        edges.rcv_up = edges.rcv_up.filter(|up| up.gt(read));
        let offered = edges.offered.filter(|edge| edge.lt(tcb.rcv_adv));
        edges.offered = offered.filter(|_| tcb.state.receives());
        let urgent = edges.snd_up.or(edges.rcv_up);
        if edges.first == NONE && urgent.or(edges.offered).is_none() {
            self.release(&mut act.edges);
        }
        act.edges == NONE
    }

    /// RCV.UP of a connection, while it is ahead of the reader.
    pub(crate) fn urgent(&self, tcb: &Tcb, act: &Active) -> Option<Seq> {
        let up = self.edges.at(act.edges)?.rcv_up?;
        up.gt(act.read_edge(tcb)).then_some(up)
    }

    /// Urgent bytes not read yet (RFC 9293 MUST-33).
    pub(crate) fn urgent_left(&self, tcb: &Tcb, act: &Active) -> u32 {
        let read = act.read_edge(tcb);
        self.urgent(tcb, act).map_or(0, |up| up.dist(read))
    }

    /// The right edge of the window as it is offered now.
    #[inline]
    pub(crate) fn offered(&self, tcb: &Tcb, act: &Active) -> Seq {
        if act.edges == NONE {
            return tcb.rcv_adv;
        }
        let offered = self.edges.at(act.edges).and_then(|edges| edges.offered);
        offered.unwrap_or(tcb.rcv_adv)
    }

    /// Changes RCV.UP.
    pub(crate) fn set_urgent(&mut self, act: &mut Active, up: Option<Seq>) {
        if act.edges == NONE && up.is_none() {
            return;
        }
        if let Some(edges) = self.make(&mut act.edges) {
            edges.rcv_up = up;
        }
    }
}

impl Conn<'_> {
    /// The right edge of the window as it is offered now: `rcv_adv`, unless what was offered had to be taken back.
    #[inline]
    pub(crate) fn offered_edge(&self) -> Seq {
        self.edges.offered(self.tcb, self.act)
    }

    /// What was offered is taken back: nothing has room any more.
    #[cold]
    pub(crate) fn take_window_back(&mut self) {
        if let Some(edges) = self.edges.make(&mut self.act.edges) {
            edges.offered = Some(self.tcb.rcv_nxt);
        }
    }

    /// A window of so many bytes was told of, after one was taken back.
    #[inline]
    pub(crate) fn note_offered(&mut self, window: u32) {
        let edge = self.tcb.rcv_nxt + window;
        if self.act.edges != NONE
            && let Some(edges) = self.edges.edges.at_mut(self.act.edges)
            && edges.offered.is_some()
        {
            edges.offered = Some(edge).filter(|edge| edge.lt(self.tcb.rcv_adv));
        }
    }

    /// The end of all that was written.
    pub(crate) fn write_edge(&self) -> Seq {
        self.tcb.unsent_edge() + self.act.unsent.len() as u32
    }

    /// What was written last ends a record: nothing behind it shares a segment with it.
    pub(crate) fn end_record(&mut self) {
        let at = self.write_edge();
        if self.edges.next_end(self.act.edges) != Some(at) && !self.act.unsent.is_empty() {
            let noted = self.edges.end_record(&mut self.act.edges, at);
            debug_assert!(noted, "room was looked for before");
        }
    }

    /// How many unsent bytes there are up to the end of the first record, or of all; and whether more wait behind them.
    #[inline]
    pub(crate) fn first_record(&self) -> (u32, bool) {
        let all = self.act.unsent.len() as u32;
        if self.act.edges == NONE {
            return (all, false);
        }
        match self.edges.next_end(self.act.edges) {
            Some(end) => {
                let len = end.dist(self.tcb.unsent_edge()).min(all);
                (len, len < all)
            }
            None => (all, false),
        }
    }

    /// Bytes up to `end` are sent: whether a record ends there.
    #[inline]
    pub(crate) fn ends_record(&mut self, end: Seq) -> bool {
        self.act.edges != NONE && self.edges.take_end(self.act.edges, end)
    }

    /// What was written last is urgent (MSG_OOB).
    pub(crate) fn send_urgent(&mut self) {
        let up = self.write_edge();
        if let Some(edges) = self.edges.make(&mut self.act.edges) {
            edges.snd_up = Some(up);
        }
    }

    /// SND.UP while urgent data is not acknowledged (Linux's urgent mode).
    #[inline]
    pub(crate) fn urgent_mode(&self) -> Option<Seq> {
        if self.act.edges == NONE {
            return None;
        }
        let up = self.edges.edges.at(self.act.edges)?.snd_up?;
        up.gt(self.tcb.snd_una).then_some(up)
    }

    /// The urgent pointer of a segment that begins at `seq` (RFC 9293 MUST-62: it points behind the urgent data); as far ahead as
    /// it can tell, if that is beyond all that was sent. 0: none.
    #[inline]
    pub(crate) fn urgent_pointer(&self, seq: Seq) -> u16 {
        let Some(up) = self.urgent_mode().filter(|up| up.gt(seq)) else {
            return 0;
        };
        match u16::try_from(up.dist(seq)) {
            Ok(pointer) => pointer,
            Err(_) if (seq + 0xffff).gt(self.tcb.snd_nxt) => 0xffff,
            Err(_) => 0,
        }
    }
}

impl Tcp {
    /// See [`crate::Host::tcp_urgent`].
    pub(crate) fn urgent(&self, id: SocketId) -> Result<Option<Urgent>, SocketError> {
        let tcb = self
            .conns
            .at(self.live(id)?)
            .ok_or(SocketError::BadSocket)?;
        Ok(self.actives.at(tcb.active).and_then(|act| {
            let up = self.edges.urgent(tcb, act)?;
            Some(Urgent {
                left: up.dist(act.read_edge(tcb)),
                number: up.0.wrapping_sub(1),
                cut_off: tcb.state == State::Closed && !tcb.has(flag::FIN_RECEIVED),
            })
        }))
    }
}
