//! How the applications of a scenario write, and what they are owed for it: notices of marks, and urgent data that ends where
//! it was said to.
//!
//! What does not live here: the bytes.
//!
//! Invariant: of each mark there is one notice of every kind that was asked for, in order, unless its connection is closed before,
//! and an acknowledgment only of what the peer has.

use std::collections::BTreeMap;

use base::Rng;
use stack::{Notice, NoticeKind, Write};

/// How applications write. Numbers but the first: one write in so many is like this; 0: none is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// Bytes written at a time.
    pub write: usize,
    /// Says that more follows (MSG_MORE).
    pub more: u32,
    /// Ends a record (MSG_EOR).
    pub records: u32,
    /// Ends with an urgent byte (MSG_OOB).
    pub urgent: u32,
    /// Is marked, to hear of it when it was sent or acknowledged.
    pub marks: u32,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            write: 32 * 1024,
            more: 0,
            records: 0,
            urgent: 0,
            marks: 0,
        }
    }
}

/// Whether this time is one in so many.
fn once_in(rng: &mut Rng, many: u32) -> bool {
    many > 0 && rng.below(many) == 0
}

impl Habits {
    pub(super) fn how(&self, rng: &mut Rng) -> Write {
        Write {
            more: once_in(rng, self.more),
            end_of_record: once_in(rng, self.records),
            urgent: once_in(rng, self.urgent),
        }
    }

    /// Which notices a write asks for, if it asks for any.
    pub(super) fn mark(&self, rng: &mut Rng) -> Option<(bool, bool)> {
        let wanted = [(true, false), (false, true), (true, true)];
        once_in(rng, self.marks).then(|| wanted[rng.below(3) as usize])
    }
}

/// A mark of which somebody will hear.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) stream: usize,
    pub(super) client: bool,
    /// Where in the stream.
    pub(super) at: u64,
    sent: bool,
    acked: bool,
    closed: bool,
}

/// Marks by their words.
#[derive(Debug, Default)]
pub(super) struct Marks {
    owed: BTreeMap<u64, Mark>,
    next: u64,
}

impl Marks {
    /// The word for the next mark.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn set(&mut self, stream: usize, client: bool, at: u64, wanted: (bool, bool)) {
        let mark = Mark {
            stream,
            client,
            at,
            sent: wanted.0,
            acked: wanted.1,
            closed: false,
        };
        self.owed.insert(self.next, mark);
        self.next += 1;
    }

    /// Takes a notice; gives the mark if it says that the peer has what was marked.
    pub(super) fn told(&mut self, notice: &Notice) -> Result<Option<Mark>, String> {
        let wrong = |what: &str| Err(format!("a notice {what}: {notice:?}"));
        let Some(mark) = self.owed.get_mut(&notice.word) else {
            return wrong("of no mark, or a second one");
        };
        let copy = *mark;
        match notice.kind {
            NoticeKind::Sent if mark.sent => mark.sent = false,
            NoticeKind::Acked if mark.acked && !mark.sent => mark.acked = false,
            NoticeKind::Dropped if mark.acked => (mark.sent, mark.acked) = (false, false),
            _ => return wrong("that was not asked for, or came too soon"),
        }
        if !mark.sent && !mark.acked {
            self.owed.remove(&notice.word);
        }
        Ok((notice.kind == NoticeKind::Acked).then_some(copy))
    }

    /// Who closes a connection waits for its marks no more.
    pub(super) fn closed(&mut self, stream: usize, client: bool) {
        let of = |mark: &&mut Mark| mark.stream == stream && mark.client == client;
        self.owed
            .values_mut()
            .filter(of)
            .for_each(|mark| mark.closed = true);
    }

    /// Notices that never came. A connection that ends in an error need not say what was sent.
    pub(super) fn missing(&self, failed: bool) -> Vec<Mark> {
        let missing = |mark: &&Mark| !mark.closed && (mark.acked || !failed);
        self.owed.values().filter(missing).copied().collect()
    }
}
