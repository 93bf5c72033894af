//! Places in the stream of which somebody wants to know when they were sent and acknowledged (MSG_ZEROCOPY, SO_TIMESTAMPING), and
//! the notices that marks become.
//!
//! A mark is the end of what was written when it was set. Whoever sets it waits for its notice at the host, by the word he gave
//! it; connections without marks know nothing of all this, and a host without any pays a comparison for a visit.
//!
//! What does not live here: what a notice means to a program (`posix`).
//!
//! Invariant: a mark is in one list: of its connection, until it is reached, or of the notices.
//! Invariant: marks of a connection are in the order of their ends, so that only what is reached is looked at.
//! Invariant: a connection has a watch exactly while it has marks.

use base::{Instant, Seq, Slab};

use crate::error::SocketError;
use crate::socket::SocketId;

use super::Tcp;
use super::record::NONE;

/// What became of marked bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// All of them were handed to the interface, for the first time.
    Sent,
    /// The peer acknowledged all of them.
    Acked,
    /// The connection ended before that: they are held no longer.
    Dropped,
}

/// A mark was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// The connection; it may be gone by now.
    pub socket: SocketId,
    /// What the mark was given.
    pub word: u64,
    /// What happened.
    pub kind: NoticeKind,
    /// When.
    pub at: Instant,
}

#[derive(Debug)]
struct Mark {
    notice: Notice,
    end: Seq,
    next: u32,
}

/// First and last mark of a list.
#[derive(Debug, Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

impl Ends {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };
}

/// What one connection is watched for.
#[derive(Debug)]
struct Watch {
    sent: Ends,
    acked: Ends,
}

/// Appends a mark to a list.
fn append(marks: &mut Slab<Mark>, list: &mut Ends, index: u32) {
    let last = core::mem::replace(&mut list.last, index);
    match marks.at_mut(last) {
        Some(last) => last.next = index,
        None => list.first = index,
    }
}

/// Takes the first mark off a list if that is reached.
fn take(marks: &mut Slab<Mark>, list: &mut Ends, reached: impl Fn(&Mark) -> bool) -> Option<u32> {
    let index = list.first;
    let mark = marks.at_mut(index).filter(|mark| reached(mark))?;
    list.first = core::mem::replace(&mut mark.next, NONE);
    if list.first == NONE {
        list.last = NONE;
    }
    Some(index)
}

/// The marks of all connections.
#[derive(Debug)]
pub(crate) struct Marks {
    marks: Slab<Mark>,
    watches: Slab<Watch>,
    /// By connection: its watch and one, 0 for none. Untouched memory while nobody marks.
    of: Vec<u32>,
    notices: Ends,
}

impl Marks {
    /// For so many marks, of so many connections.
    pub(crate) fn new(marks: u32, connections: u32) -> Self {
        Self {
            marks: Slab::with_capacity(marks),
            watches: Slab::with_capacity(marks.min(connections)),
            of: vec![0; connections as usize],
            notices: Ends::EMPTY,
        }
    }

    /// Marks there are, notices that nobody has taken included.
    pub(crate) fn len(&self) -> u32 {
        self.marks.len()
    }

    /// Whether a connection has marks.
    #[inline]
    pub(crate) fn watched(&self, connection: u32) -> bool {
        !self.watches.is_empty() && self.of.get(connection as usize).is_some_and(|&w| w != 0)
    }

    /// Sets a mark. `None` when there is no room for it.
    fn set(&mut self, connection: u32, notice: Notice, end: Seq) -> Option<()> {
        let place = self.of.get_mut(connection as usize)?;
        let key = self.marks.insert(Mark {
            notice,
            end,
            next: NONE,
        })?;
        if *place == 0 {
            let watch = Watch {
                sent: Ends::EMPTY,
                acked: Ends::EMPTY,
            };
            // There are as many watches as marks, or as connections.
            *place = self.watches.insert(watch)?.index + 1;
        }
        let watch = self.watches.at_mut(*place - 1)?;
        let list = match notice.kind {
            NoticeKind::Sent => &mut watch.sent,
            _ => &mut watch.acked,
        };
        append(&mut self.marks, list, key.index);
        Some(())
    }

    /// The connection has sent up to `nxt`, and `una` and beyond is not acknowledged: marks below become notices. Whether any did.
    #[cold]
    pub(crate) fn advance(&mut self, now: Instant, connection: u32, una: Seq, nxt: Seq) -> bool {
        let mut told = false;
        let Some((place, watch)) = self.watch(connection) else {
            return false;
        };
        let mut lists = [(watch.sent, nxt), (watch.acked, una)];
        for (list, edge) in &mut lists {
            while let Some(index) = take(&mut self.marks, list, |mark| mark.end.le(*edge)) {
                self.tell(now, index, None);
                told = true;
            }
        }
        let [(sent, _), (acked, _)] = lists;
        self.put_back(connection, place, Watch { sent, acked });
        told
    }

    /// The connection has ended: with `tell` those who waited for an acknowledgment hear of it.
    #[cold]
    pub(crate) fn forget(&mut self, now: Instant, connection: u32, tell: bool) {
        let Some((place, watch)) = self.watch(connection) else {
            return;
        };
        let mut lists = [watch.sent, watch.acked];
        for list in &mut lists {
            while let Some(index) = take(&mut self.marks, list, |_| true) {
                let acked = |mark: &Mark| mark.notice.kind == NoticeKind::Acked;
                if tell && self.marks.at(index).is_some_and(acked) {
                    self.tell(now, index, Some(NoticeKind::Dropped));
                } else {
                    self.marks.remove_at(index);
                }
            }
        }
        let [sent, acked] = lists;
        self.put_back(connection, place, Watch { sent, acked });
    }

    fn watch(&self, connection: u32) -> Option<(u32, Watch)> {
        let place = self.of.get(connection as usize)?.checked_sub(1)?;
        let watch = self.watches.at(place)?;
        let (sent, acked) = (watch.sent, watch.acked);
        Some((place, Watch { sent, acked }))
    }

    fn put_back(&mut self, connection: u32, place: u32, watch: Watch) {
        if watch.sent.first == NONE && watch.acked.first == NONE {
            self.watches.remove_at(place);
            if let Some(place) = self.of.get_mut(connection as usize) {
                *place = 0;
            }
        } else if let Some(old) = self.watches.at_mut(place) {
            *old = watch;
        }
    }

    fn tell(&mut self, now: Instant, index: u32, kind: Option<NoticeKind>) {
        if let Some(mark) = self.marks.at_mut(index) {
            mark.notice.at = now;
            mark.notice.kind = kind.unwrap_or(mark.notice.kind);
        }
        append(&mut self.marks, &mut self.notices, index);
    }

    /// The oldest notice.
    pub(crate) fn pop(&mut self) -> Option<Notice> {
        let index = take(&mut self.marks, &mut self.notices, |_| true)?;
        self.marks.remove_at(index).map(|mark| mark.notice)
    }

    /// The first invariant that does not hold; `alive` says which connections there are, of `most` at any time.
    pub(crate) fn audit(&self, most: u32, alive: impl Fn(u32) -> bool) -> Result<(), String> {
        let count = |list: Ends| {
            let (mut at, mut found, mut last) = (list.first, 0_u32, NONE);
            while let Some(mark) = self.marks.at(at).filter(|_| found <= self.marks.len()) {
                found += 1;
                last = core::mem::replace(&mut at, mark.next);
            }
            if last == list.last {
                Ok(found)
            } else {
                Err("a list of marks has another end")
            }
        };
        let mut found = count(self.notices)?;
        for (_, watch) in self.watches.iter() {
            let (sent, acked) = (count(watch.sent)?, count(watch.acked)?);
            if sent + acked == 0 {
                return Err("a watch without marks".to_owned());
            }
            found += sent + acked;
        }
        if found != self.marks.len() {
            return Err("a mark that is in no list, or in two".to_owned());
        }
        let used = (0..most).zip(&self.of);
        let watched = used.filter(|(_, place)| **place != 0);
        for (connection, _) in watched {
            if !alive(connection) {
                return Err("a watch over a connection that has ended".to_owned());
            }
        }
        Ok(())
    }
}

impl Tcp {
    /// Marks the end of what was written: `word` comes back in a notice once all of it was sent, and in one when it was
    /// acknowledged, as asked for.
    ///
    /// # Errors
    /// `BadSocket`, `NotConnected` when nothing can be written, `NoBuffers` when there are too many marks.
    pub(crate) fn mark(
        &mut self,
        now: Instant,
        id: SocketId,
        word: u64,
        (sent, acked): (bool, bool),
    ) -> Result<(), SocketError> {
        let index = self.live(id)?;
        let tcb = self.conns.at(index).ok_or(SocketError::BadSocket)?;
        if tcb.state == super::State::Closed {
            return Err(SocketError::NotConnected);
        }
        let (una, nxt) = (tcb.snd_una, tcb.snd_nxt);
        let act = self.actives.at(tcb.active);
        let end = tcb.unsent_edge() + act.map_or(0, |act| act.unsent.len() as u32);
        let kinds = [(sent, NoticeKind::Sent), (acked, NoticeKind::Acked)];
        for kind in kinds
            .into_iter()
            .filter_map(|(wanted, kind)| wanted.then_some(kind))
        {
            let notice = Notice {
                socket: id,
                word,
                kind,
                at: now,
            };
            self.marks
                .set(index, notice, end)
                .ok_or(SocketError::NoBuffers)?;
        }
        self.advance_marks(now, index, una, nxt);
        Ok(())
    }

    /// Turns marks of a connection that were reached into notices.
    #[inline]
    pub(super) fn advance_marks(&mut self, now: Instant, index: u32, una: Seq, nxt: Seq) {
        if self.marks.watched(index) && self.marks.advance(now, index, una, nxt) {
            self.raise(index, crate::Ready::ERROR);
        }
    }

    /// The oldest notice.
    pub(crate) fn pop_notice(&mut self) -> Option<Notice> {
        self.marks.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::SocketKind;

    fn notice(word: u64, kind: NoticeKind) -> Notice {
        let key = base::Key {
            index: 3,
            generation: 9,
        };
        Notice {
            socket: SocketId::new(SocketKind::Tcp, key),
            word,
            kind,
            at: Instant::FAR,
        }
    }

    fn told(marks: &mut Marks) -> Vec<(u64, NoticeKind)> {
        let all = core::iter::from_fn(|| marks.pop());
        all.map(|notice| (notice.word, notice.kind)).collect()
    }

    #[test]
    fn marks_are_bounded_and_come_back() {
        let mut marks = Marks::new(3, 8);
        let now = Instant::from_secs(1);
        for round in 0..4 {
            let at = Seq(u32::MAX - 5);
            assert!(marks.set(7, notice(1, NoticeKind::Sent), at).is_some());
            assert!(
                marks
                    .set(7, notice(2, NoticeKind::Acked), at + 10)
                    .is_some()
            );
            assert!(marks.set(2, notice(3, NoticeKind::Acked), at).is_some());
            assert_eq!(marks.set(2, notice(4, NoticeKind::Acked), at), None);
            assert!(marks.watched(7) && !marks.watched(3));
            marks.audit(8, |_| true).unwrap();
            // The numbers wrap between the two ends.
            assert!(marks.advance(now, 7, at, at + 9));
            assert_eq!(told(&mut marks), [(1, NoticeKind::Sent)]);
            assert!(!marks.advance(now, 7, at + 9, at + 10));
            marks.forget(now, 2, round % 2 == 0);
            assert!(marks.advance(now, 7, at + 10, at + 10));
            let dropped = (round % 2 == 0).then_some((3, NoticeKind::Dropped));
            let expected: Vec<_> = dropped
                .into_iter()
                .chain([(2, NoticeKind::Acked)])
                .collect();
            marks.audit(8, |_| true).unwrap();
            assert_eq!(told(&mut marks), expected);
            assert_eq!(marks.len(), 0);
            marks.audit(8, |_| false).unwrap();
        }
    }
}
