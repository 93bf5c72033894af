//! Lists of neighbour entries by what would be lost with them, oldest first: how room is made without a search.
//!
//! Links are indices inside the entries.

use base::Slab;

use super::{Entry, NONE};

/// Which list an entry is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum List {
    /// Nothing is known: failed, or never asked for. Evicted first.
    Spent,
    /// Learnt from what the neighbour said, never sent to. Evicted next.
    Unused,
    /// Being asked for.
    Resolving,
    /// Sent to. Evicted last, and then the one whose last event is oldest.
    Used,
    /// Not evictable: set by hand.
    Kept,
}

const COUNT: usize = 5;

#[derive(Debug, Clone, Copy)]
struct Ends {
    oldest: u32,
    newest: u32,
    len: u32,
}

/// Heads and tails of the lists.
#[derive(Debug)]
pub(super) struct Lists([Ends; COUNT]);

impl Lists {
    pub(super) const fn new() -> Self {
        Self(
            [Ends {
                oldest: NONE,
                newest: NONE,
                len: 0,
            }; COUNT],
        )
    }

    pub(super) fn len(&self, list: List) -> u32 {
        self.0[list as usize].len
    }

    pub(super) fn oldest(&self, list: List) -> Option<u32> {
        let index = self.0[list as usize].oldest;
        (index != NONE).then_some(index)
    }

    /// Appends a live entry that is on no list.
    pub(super) fn push(&mut self, entries: &mut Slab<Entry>, index: u32, list: List) {
        let ends = &mut self.0[list as usize];
        let Some(entry) = entries.at_mut(index) else {
            return;
        };
        entry.list = list;
        entry.older = ends.newest;
        entry.newer = NONE;
        let before = core::mem::replace(&mut ends.newest, index);
        ends.len += 1;
        match entries.at_mut(before) {
            Some(before) => before.newer = index,
            None => ends.oldest = index,
        }
    }

    /// Takes a live entry off its list.
    pub(super) fn unlink(&mut self, entries: &mut Slab<Entry>, index: u32) {
        let Some(entry) = entries.at(index) else {
            return;
        };
        let (older, newer) = (entry.older, entry.newer);
        let ends = &mut self.0[entry.list as usize];
        ends.len -= 1;
        match entries.at_mut(older) {
            Some(older) => older.newer = newer,
            None => ends.oldest = newer,
        }
        match entries.at_mut(newer) {
            Some(newer) => newer.older = older,
            None => ends.newest = older,
        }
    }

    /// Moves a live entry to the new end of `list`.
    pub(super) fn refile(&mut self, entries: &mut Slab<Entry>, index: u32, list: List) {
        self.unlink(entries, index);
        self.push(entries, index, list);
    }
}
