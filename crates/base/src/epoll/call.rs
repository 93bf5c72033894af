//! What the owner of sets hears of them, when those who wait sleep where this module cannot wake them; and what sets watch that is
//! not here.
//!
//! What does not live here: who sleeps where.
//!
//! Invariant: a set that reports is on the list of those that were told something at most once, and leaves it when it ends.

use super::{Epoll, NONE, SetId, SourceId};

impl Epoll {
    /// From now on [`Epoll::next_called`] says when a set was told something.
    pub fn report(&mut self, set: SetId) {
        if let Some(set) = self.sets.get_mut(set.0) {
            set.reports = true;
        }
    }

    /// The next set that was told something.
    pub fn next_called(&mut self) -> Option<SetId> {
        let at = Some(self.called.first).filter(|at| *at != NONE)?;
        let set = self.sets.at_mut(at)?;
        set.called = false;
        self.called.first = core::mem::replace(&mut set.behind, NONE);
        if self.called.first == NONE {
            self.called.last = NONE;
        }
        self.sets.key_of(at).map(SetId)
    }

    /// A set watches something besides that is not here: `poll` says by this word whether it has EPOLLIN. It counts for sets that
    /// watch this one; who takes from this one asks for it himself.
    pub fn set_outside(&mut self, set: SetId, word: u64) {
        if let Some(set) = self.sets.get_mut(set.0) {
            set.outside = Some(word);
        }
    }

    /// As [`Epoll::raise`], of one set among those that watch a source.
    pub fn raise_in(&mut self, set: SetId, (source, tag): (SourceId, u32), key: u32) {
        if self.sets.get(set.0).is_some()
            && let Ok(at) = self.known(set, Some(source), tag)
        {
            self.arrive(at, key);
        }
    }

    /// The sets that watch a source.
    pub fn watchers(&self, source: SourceId) -> impl Iterator<Item = SetId> + '_ {
        let mut at = self.sources.get(source.0).map_or(NONE, |s| s.items.first);
        core::iter::from_fn(move || {
            let item = self.items.at(at)?;
            at = item.watcher.next;
            self.sets.key_of(item.set).map(SetId)
        })
    }

    pub(super) fn call(&mut self, at: u32) {
        let Some(set) = self.sets.at_mut(at) else {
            return;
        };
        if core::mem::replace(&mut set.called, true) {
            return;
        }
        let last = core::mem::replace(&mut self.called.last, at);
        match self.sets.at_mut(last) {
            Some(last) => last.behind = at,
            None => self.called.first = at,
        }
    }

    /// A set ends: it leaves the list, which is short, for its owner takes it off after each call.
    pub(super) fn uncall(&mut self, at: u32) {
        if !self.sets.at(at).is_some_and(|set| set.called) {
            return;
        }
        let (mut before, mut here) = (NONE, self.called.first);
        while here != at && here != NONE {
            before = here;
            here = self.sets.at(here).map_or(NONE, |set| set.behind);
        }
        let behind = self.sets.at(at).map_or(NONE, |set| set.behind);
        match self.sets.at_mut(before) {
            Some(before) => before.behind = behind,
            None => self.called.first = behind,
        }
        if self.called.last == at {
            self.called.last = before;
        }
    }
}
