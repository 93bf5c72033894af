//! What is ready is taken off a set's list, and told.
//!
//! What does not live here: what an item is ready for, and the list itself.
//!
//! Invariant: a call tells nobody twice, and what it costs depends on the ready list alone.

use super::{
    ASK, EPOLLET, EPOLLONESHOT, Epoll, EpollEvent, NONE, ONE_SHOT, PRIVATE, Refused, SetId,
};

/// How many are announced at once by [`Epoll::take_ahead`].
pub(super) const AHEAD: usize = 16;

impl Epoll {
    /// Takes what is ready, oldest first, at most `room` of it, and hands it to `give`. How many there were. Looks at no more than
    /// `looks` items that turn out not to be ready: where there are more, [`Epoll::may_be_ready`] says so.
    ///
    /// # Errors
    /// `Stale`.
    pub fn take_within(
        &mut self,
        set: SetId,
        within: (usize, usize),
        poll: &mut dyn FnMut(u64) -> u32,
        give: &mut dyn FnMut(EpollEvent),
    ) -> Result<usize, Refused> {
        self.take_ahead(set, within, None, poll, give)
    }

    /// As [`Epoll::take_within`]. The words of those that will be asked soon go to `soon`, some at a time: where what they stand for lies
    /// far apart, its owner can have it fetched at once, not one by one.
    ///
    /// # Errors
    /// `Stale`.
    pub fn take_ahead(
        &mut self,
        set: SetId,
        (room, mut looks): (usize, usize),
        mut soon: Option<&mut dyn FnMut(u64)>,
        poll: &mut dyn FnMut(u64) -> u32,
        give: &mut dyn FnMut(EpollEvent),
    ) -> Result<usize, Refused> {
        let end = self.sets.get(set.0).ok_or(Refused::Stale)?.ready.last;
        let (mut given, mut past) = (0, end == NONE);
        let mut seen = 0;
        // What is linked again while this goes on comes behind `end`: nobody is told twice in one call.
        while !past && given < room && looks > 0 {
            if let Some(soon) = soon.as_deref_mut().filter(|_| seen % AHEAD == 0) {
                self.announce(set.0.index, end, soon);
            }
            seen += 1;
            let Some(at) = self.pop(set.0.index) else {
                break;
            };
            past = at == end;
            let events = self.level(at, poll);
            let Some(item) = self.items.at_mut(at).filter(|_| events != 0) else {
                looks -= 1;
                continue;
            };
            give(EpollEvent {
                events,
                data: item.data,
            });
            given += 1;
            let how = item.events.get();
            if how & EPOLLONESHOT != 0 {
                item.events = ONE_SHOT | (how & PRIVATE);
            } else if how & EPOLLET == 0 {
                self.list(at);
            }
        }
        Ok(given)
    }

    /// Tells the words of those that come next, up to `end`.
    fn announce(&self, set: u32, end: u32, soon: &mut dyn FnMut(u64)) {
        let mut at = self.sets.at(set).map_or(NONE, |set| set.ready.first);
        for _ in 0..AHEAD {
            let Some(item) = self.items.at(at) else {
                return;
            };
            if item.word != ASK {
                soon(item.word);
            }
            if at == end {
                return;
            }
            at = item.ready.next;
        }
    }

    /// As [`Epoll::take_within`], however many turn out not to be ready.
    ///
    /// # Errors
    /// `Stale`.
    pub fn take(
        &mut self,
        set: SetId,
        room: usize,
        poll: &mut dyn FnMut(u64) -> u32,
        give: &mut dyn FnMut(EpollEvent),
    ) -> Result<usize, Refused> {
        self.take_within(set, (room, usize::MAX), poll, give)
    }
}
