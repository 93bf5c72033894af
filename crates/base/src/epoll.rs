//! Readiness: sets of sources that are watched (epoll), with Linux's semantics to the bit.
//!
//! A *source* is whatever can be ready: its owner names it by a word, says what it is ready for now when asked, and raises it
//! when something happens. A *set* is what `epoll_create` makes; an *item* is one source in one set, under one tag (on Linux:
//! the descriptor). A set is a source, too, so that sets nest.
//!
//! Raising links the items that care into the ready lists of their sets. Waiting takes them off, oldest first, and asks each
//! source what it is ready for: what is not ready any more is dropped. Level and edge differ only in whether an item is linked
//! again when it was told.
//!
//! What does not live here: descriptors, errno, sockets; sleeping; how many wait in which thread, but for the count that
//! EPOLLEXCLUSIVE asks for.
//!
//! Invariant: an item is on its set's ready list at most once, on its set's list and on its source's exactly once.
//! Invariant: a source that is no set lives exactly as long as it has items.
//! Invariant: what raising and waiting cost does not depend on items that are idle; neither allocates.
//! Invariant: sets nest without loops, and at most [`MAX_NESTS`] deep, so that recursion ends.

mod call;
mod info;
mod nest;
mod take;
#[cfg(test)]
mod tests;

use core::fmt;
use core::num::NonZeroU32;

use crate::flow::FlowTable;
use crate::siphash::SipKey;
use crate::slab::{Key, Slab};

pub use info::SetInfo;

/// Data, an end or a connection can be read.
pub const EPOLLIN: u32 = 0x1;
/// Urgent data.
pub const EPOLLPRI: u32 = 0x2;
/// There is room to write.
pub const EPOLLOUT: u32 = 0x4;
/// An error; told without being asked for.
pub const EPOLLERR: u32 = 0x8;
/// Both directions are closed; told without being asked for.
pub const EPOLLHUP: u32 = 0x10;
/// As EPOLLIN.
pub const EPOLLRDNORM: u32 = 0x40;
/// Data out of band can be read.
pub const EPOLLRDBAND: u32 = 0x80;
/// As EPOLLOUT.
pub const EPOLLWRNORM: u32 = 0x100;
/// There is room for data out of band.
pub const EPOLLWRBAND: u32 = 0x200;
/// The peer has ended its direction.
pub const EPOLLRDHUP: u32 = 0x2000;
/// Of several sets that watch a source this way, only some are told.
pub const EPOLLEXCLUSIVE: u32 = 1 << 28;
/// Keeps a machine awake: taken, and without effect.
pub const EPOLLWAKEUP: u32 = 1 << 29;
/// Told once, until it is modified.
pub const EPOLLONESHOT: u32 = 1 << 30;
/// Told once for each time it is raised.
pub const EPOLLET: u32 = 1 << 31;

/// What sources raise when data can be read, as Linux's sockets do.
pub const RAISED_IN: u32 = EPOLLIN | EPOLLPRI | EPOLLRDNORM | EPOLLRDBAND;
/// What sources raise when there is room to write.
pub const RAISED_OUT: u32 = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;

/// Sets in sets in sets: how many there may be below each other, besides the first.
pub const MAX_NESTS: usize = 4;

/// Bits that say how to tell, not what.
const PRIVATE: u32 = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE;
/// What may stand beside EPOLLEXCLUSIVE.
const EXCLUSIVE_OK: u32 =
    EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
/// Told whether or not it was asked for.
const ALWAYS: NonZeroU32 = NonZeroU32::new(EPOLLERR | EPOLLHUP).expect("bits are set");
/// What was told once still says so.
const ONE_SHOT: NonZeroU32 = NonZeroU32::new(EPOLLONESHOT).expect("a bit is set");

/// In place of a source's word: the source knows.
const ASK: u64 = u64::MAX;
const NONE: u32 = u32::MAX;
/// In a link of the ready list: not on it.
const UNLISTED: u32 = u32::MAX - 1;

/// Names a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SetId(Key);

/// Names a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(Key);

/// What is wanted of a source, and what is told of it: `struct epoll_event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EpollEvent {
    /// `EPOLL*` bits.
    pub events: u32,
    /// The application's word.
    pub data: u64,
}

/// Why a set was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The set or the source is gone (EBADF).
    Stale,
    /// It is in the set (EEXIST).
    Exists,
    /// It is not in the set (ENOENT).
    NotFound,
    /// A set in itself, EPOLLEXCLUSIVE where it may not be, or too many ways up to other sets (EINVAL).
    Invalid,
    /// Sets would contain each other, or nest too deep (ELOOP).
    Loop,
    /// There is no room for more (ENOSPC).
    Full,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "the set or the source is gone",
            Self::Exists => "the source is in the set already",
            Self::NotFound => "the source is not in the set",
            Self::Invalid => "a set cannot be watched like that",
            Self::Loop => "sets would contain each other, or nest too deep",
            Self::Full => "no room for more",
        })
    }
}

impl core::error::Error for Refused {}

/// Ends of a list.
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

/// An item's place in a list.
#[derive(Debug, Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
}

impl Link {
    const UNLISTED: Self = Self {
        previous: UNLISTED,
        next: UNLISTED,
    };
}

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Its owner's, by this word.
    Leaf(u64),
    /// The set at this place.
    Set(u32),
}

#[derive(Debug)]
struct Source {
    what: What,
    /// Those that are exclusive come last.
    items: Ends,
}

#[derive(Debug)]
struct Set {
    /// As which others watch it.
    source: u32,
    ready: Ends,
    /// Items of sources that are none.
    leaves: Ends,
    /// Items of sets.
    nested: Ends,
    /// Items, and how many of them are on the ready list.
    watched: u32,
    listed: u32,
    /// Callers that wait for it, and those of them that were woken.
    waiting: u32,
    woken: u32,
    /// Its owner asks to hear when it was told something ([`Epoll::report`]).
    reports: bool,
    /// It is on the list of those that were, and who comes behind it.
    called: bool,
    behind: u32,
    /// It watches more than is here, which its owner knows by this word.
    outside: Option<u64>,
    /// Which search of sets saw it last, and how deep it was found to be.
    checked: u32,
    depth: u8,
}

#[derive(Debug)]
struct Item {
    /// Of a leaf, so that a wait need not look at the source; [`ASK`] of all else.
    word: u64,
    data: u64,
    set: u32,
    source: u32,
    /// Never nought.
    events: NonZeroU32,
    tag: u32,
    /// In the set's ready list, the set's list of items, the source's.
    ready: Link,
    sibling: Link,
    watcher: Link,
}

impl Item {
    fn listed(&self) -> bool {
        self.ready.next != UNLISTED
    }
}

/// Which link of an item.
type Which = fn(&mut Item) -> &mut Link;
const READY: Which = |item| &mut item.ready;
const SIBLING: Which = |item| &mut item.sibling;
const WATCHER: Which = |item| &mut item.watcher;

fn push_back(items: &mut Slab<Item>, ends: &mut Ends, which: Which, at: u32) {
    let previous = core::mem::replace(&mut ends.last, at);
    match items.at_mut(previous) {
        Some(last) => which(last).next = at,
        None => ends.first = at,
    }
    if let Some(item) = items.at_mut(at) {
        *which(item) = Link {
            previous,
            next: NONE,
        };
    }
}

fn push_front(items: &mut Slab<Item>, ends: &mut Ends, which: Which, at: u32) {
    let next = core::mem::replace(&mut ends.first, at);
    match items.at_mut(next) {
        Some(first) => which(first).previous = at,
        None => ends.last = at,
    }
    if let Some(item) = items.at_mut(at) {
        *which(item) = Link {
            previous: NONE,
            next,
        };
    }
}

fn unlink(items: &mut Slab<Item>, ends: &mut Ends, which: Which, at: u32) {
    let Some(item) = items.at_mut(at) else {
        return;
    };
    let Link { previous, next } = core::mem::replace(which(item), Link::UNLISTED);
    match items.at_mut(previous) {
        Some(item) => which(item).next = next,
        None => ends.first = next,
    }
    match items.at_mut(next) {
        Some(item) => which(item).previous = previous,
        None => ends.last = previous,
    }
}

/// The sets of one owner, and all they watch.
#[derive(Debug)]
pub struct Epoll {
    sets: Slab<Set>,
    sources: Slab<Source>,
    items: Slab<Item>,
    /// Items by set, source and tag.
    index: FlowTable,
    /// Sets that were told something, and report it.
    called: Ends,
    /// Searches of sets so far.
    searches: u32,
}

impl Epoll {
    /// Bytes of memory an item takes, with its source and its place in the table.
    pub const ITEM_BYTES: usize =
        Slab::<Item>::RECORD_BYTES + Slab::<Source>::RECORD_BYTES + FlowTable::ENTRY_BYTES;

    /// Room for `sets` sets, and for `items` items in all of them together.
    pub fn with_capacity(sets: u32, items: u32, key: SipKey) -> Self {
        Self {
            sets: Slab::with_capacity(sets),
            // One more, for what turns out to find no room.
            sources: Slab::with_capacity(sets.saturating_add(items).saturating_add(1)),
            items: Slab::with_capacity(items),
            index: FlowTable::with_capacity(items, key),
            called: Ends::EMPTY,
            searches: 0,
        }
    }

    /// Makes a set; `None` when there is no room.
    pub fn create(&mut self) -> Option<SetId> {
        if self.sets.is_full() {
            return None;
        }
        let source = self.sources.insert(Source {
            what: What::Set(NONE),
            items: Ends::EMPTY,
        })?;
        let set = self.sets.insert(Set {
            source: source.index,
            ready: Ends::EMPTY,
            leaves: Ends::EMPTY,
            nested: Ends::EMPTY,
            watched: 0,
            listed: 0,
            waiting: 0,
            woken: 0,
            reports: false,
            called: false,
            behind: NONE,
            outside: None,
            checked: 0,
            depth: 0,
        })?;
        if let Some(source) = self.sources.at_mut(source.index) {
            source.what = What::Set(set.index);
        }
        Some(SetId(set))
    }

    /// Ends a set: it watches nothing any more, and nothing watches it.
    pub fn destroy(&mut self, set: SetId) {
        let Some(record) = self.sets.get(set.0) else {
            return;
        };
        let source = record.source;
        while let Some(record) = self.sets.get(set.0) {
            let first = match record.leaves.first {
                NONE => record.nested.first,
                leaf => leaf,
            };
            if first == NONE {
                break;
            }
            self.remove(first);
        }
        self.uncall(set.0.index);
        self.forget_watchers(source);
        self.sources.remove_at(source);
        self.sets.remove(set.0);
    }

    /// The source that a set is.
    pub fn source_of(&self, set: SetId) -> Option<SourceId> {
        let source = self.sets.get(set.0)?.source;
        self.sources.key_of(source).map(SourceId)
    }

    /// The source its owner knows by `word`: `known` if it still lives, else a new one, which lives once it was added to a set.
    /// `None` when there is no room.
    pub fn source(&mut self, known: Option<SourceId>, word: u64) -> Option<SourceId> {
        if let Some(known) = known.filter(|known| self.sources.get(known.0).is_some()) {
            return Some(known);
        }
        let source = Source {
            what: What::Leaf(word),
            items: Ends::EMPTY,
        };
        self.sources.insert(source).map(SourceId)
    }

    /// A source is no more: it is in no set.
    pub fn close(&mut self, source: SourceId) {
        let record = self.sources.get(source.0);
        if record.is_some_and(|record| matches!(record.what, What::Leaf(_))) {
            self.forget_watchers(source.0.index);
        }
    }

    /// EPOLL_CTL_ADD: watches a source, by `tag`. `poll` says what a source is ready for, by its owner's word.
    ///
    /// # Errors
    /// In this order: `Stale`, `Invalid` (a set in itself, exclusive ones in ways there are not), `Loop`, `Exists`, `Full`,
    /// `Invalid` (too many ways up).
    pub fn add(
        &mut self,
        set: SetId,
        (source, tag): (SourceId, u32),
        wanted: EpollEvent,
        poll: &mut dyn FnMut(u64) -> u32,
    ) -> Result<(), Refused> {
        let added = self.try_add(set, (source, tag), wanted);
        match added {
            Ok(at) => self.look(at, poll),
            Err(_) => self.release(source.0.index),
        }
        added.map(|_| ())
    }

    fn try_add(
        &mut self,
        set: SetId,
        (source, tag): (SourceId, u32),
        wanted: EpollEvent,
    ) -> Result<u32, Refused> {
        let place = set.0.index;
        let what = self.sources.get(source.0).ok_or(Refused::Stale)?.what;
        let own = self.sets.get(set.0).ok_or(Refused::Stale)?.source;
        let nests = matches!(what, What::Set(_));
        let exclusive = wanted.events & EPOLLEXCLUSIVE != 0;
        if own == source.0.index || (exclusive && (nests || wanted.events & !EXCLUSIVE_OK != 0)) {
            return Err(Refused::Invalid);
        }
        if let What::Set(inner) = what
            && !self.may_nest(place, inner)
        {
            return Err(Refused::Loop);
        }
        if self.find(place, source.0.index, tag).is_some() {
            return Err(Refused::Exists);
        }
        let item = Item {
            word: match what {
                What::Leaf(word) => word,
                What::Set(_) => ASK,
            },
            data: wanted.data,
            set: place,
            source: source.0.index,
            events: ALWAYS | wanted.events,
            tag,
            ready: Link::UNLISTED,
            sibling: Link::UNLISTED,
            watcher: Link::UNLISTED,
        };
        let at = self.items.insert(item).ok_or(Refused::Full)?.index;
        let hash = self.hash(place, source.0.index, tag);
        if self.index.insert(hash, at).is_err() {
            self.items.remove_at(at);
            return Err(Refused::Full);
        }
        if let Some(record) = self.sets.at_mut(place) {
            let list = if nests {
                &mut record.nested
            } else {
                &mut record.leaves
            };
            push_back(&mut self.items, list, SIBLING, at);
            record.watched += 1;
        }
        // As Linux's wait queues: the latest first, those that are exclusive behind all others.
        if let Some(record) = self.sources.at_mut(source.0.index) {
            let push = if exclusive { push_back } else { push_front };
            push(&mut self.items, &mut record.items, WATCHER, at);
        }
        if (nests || self.is_watched(own)) && !self.few_ways_up(source.0.index) {
            self.remove(at);
            return Err(Refused::Invalid);
        }
        Ok(at)
    }

    /// EPOLL_CTL_MOD: wants something else of a source.
    ///
    /// # Errors
    /// In this order: `Stale`, `Invalid` (EPOLLEXCLUSIVE), `NotFound`, `Invalid` (it is exclusive).
    pub fn modify(
        &mut self,
        set: SetId,
        (source, tag): (Option<SourceId>, u32),
        wanted: EpollEvent,
        poll: &mut dyn FnMut(u64) -> u32,
    ) -> Result<(), Refused> {
        self.sets.get(set.0).ok_or(Refused::Stale)?;
        self.not_itself(set, source)?;
        if wanted.events & EPOLLEXCLUSIVE != 0 {
            return Err(Refused::Invalid);
        }
        let at = self.known(set, source, tag)?;
        let item = self.items.at_mut(at).ok_or(Refused::NotFound)?;
        if item.events.get() & EPOLLEXCLUSIVE != 0 {
            return Err(Refused::Invalid);
        }
        item.events = ALWAYS | wanted.events;
        item.data = wanted.data;
        self.look(at, poll);
        Ok(())
    }

    /// EPOLL_CTL_DEL: watches a source no more.
    ///
    /// # Errors
    /// In this order: `Stale`, `Invalid` (a set in itself), `NotFound`.
    pub fn delete(
        &mut self,
        set: SetId,
        source: Option<SourceId>,
        tag: u32,
    ) -> Result<(), Refused> {
        self.sets.get(set.0).ok_or(Refused::Stale)?;
        self.not_itself(set, source)?;
        let at = self.known(set, source, tag)?;
        self.remove(at);
        Ok(())
    }

    fn not_itself(&self, set: SetId, source: Option<SourceId>) -> Result<(), Refused> {
        match source {
            Some(source) if self.source_of(set) == Some(source) => Err(Refused::Invalid),
            _ => Ok(()),
        }
    }

    fn known(&self, set: SetId, source: Option<SourceId>, tag: u32) -> Result<u32, Refused> {
        let source = source.filter(|source| self.sources.get(source.0).is_some());
        source
            .and_then(|source| self.find(set.0.index, source.0.index, tag))
            .ok_or(Refused::NotFound)
    }

    /// Something has happened at a source: `key` says what, in `EPOLL*` bits; 0 is anything. Items that want none of it pass it
    /// over; whether the source is still ready is found out by whoever waits. Whether that is enough: an exclusive item was told,
    /// and woke somebody, so that no others need be.
    pub fn raise(&mut self, source: SourceId, key: u32) -> bool {
        self.sources.get(source.0).is_some() && self.wake(source.0.index, key)
    }

    /// Whether a set has something that may be ready: whoever waits need not look otherwise.
    pub fn may_be_ready(&self, set: SetId) -> bool {
        let record = self.sets.get(set.0);
        record.is_some_and(|record| record.ready.first != NONE)
    }

    /// What a set itself is ready for. Items that turn out not to be ready leave its ready list.
    pub fn ready(&mut self, set: SetId, poll: &mut dyn FnMut(u64) -> u32) -> u32 {
        match self.sets.get(set.0) {
            Some(_) => self.level_of_set(set.0.index, poll),
            None => 0,
        }
    }

    /// Somebody begins to wait for a set. Of exclusive items only those of sets that somebody waits for are told alone.
    pub fn begin_wait(&mut self, set: SetId) {
        if let Some(set) = self.sets.get_mut(set.0) {
            set.waiting += 1;
        }
    }

    /// Somebody waits no more.
    pub fn end_wait(&mut self, set: SetId) {
        if let Some(set) = self.sets.get_mut(set.0) {
            match set.woken.checked_sub(1) {
                Some(left) => set.woken = left,
                None => set.waiting = set.waiting.saturating_sub(1),
            }
        }
    }

    fn hash(&self, set: u32, source: u32, tag: u32) -> u64 {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&set.to_ne_bytes());
        bytes[4..8].copy_from_slice(&source.to_ne_bytes());
        bytes[8..].copy_from_slice(&tag.to_ne_bytes());
        self.index.hash(&bytes)
    }

    fn find(&self, set: u32, source: u32, tag: u32) -> Option<u32> {
        self.index.find(self.hash(set, source, tag), |at| {
            let item = self.items.at(at);
            item.is_some_and(|item| (item.set, item.source, item.tag) == (set, source, tag))
        })
    }

    /// What an item has to tell now.
    fn level(&mut self, at: u32, poll: &mut dyn FnMut(u64) -> u32) -> u32 {
        let Some(item) = self.items.at(at) else {
            return 0;
        };
        let (word, source, wanted) = (item.word, item.source, item.events.get());
        let what = || self.sources.at(source).map(|source| source.what);
        let ready = match word {
            ASK => match what() {
                Some(What::Leaf(word)) => poll(word),
                Some(What::Set(inner)) => self.level_of_set(inner, poll),
                None => 0,
            },
            word => poll(word),
        };
        ready & wanted & !PRIVATE
    }

    fn level_of_set(&mut self, set: u32, poll: &mut dyn FnMut(u64) -> u32) -> u32 {
        if let Some(word) = self.sets.at(set).and_then(|set| set.outside)
            && poll(word) & EPOLLIN != 0
        {
            return EPOLLIN | EPOLLRDNORM;
        }
        while let Some(first) = self.sets.at(set).map(|set| set.ready.first)
            && first != NONE
        {
            if self.level(first, poll) != 0 {
                return EPOLLIN | EPOLLRDNORM;
            }
            self.pop(set);
        }
        0
    }

    /// An item is new, or wants something new: what is ready already is told.
    fn look(&mut self, at: u32, poll: &mut dyn FnMut(u64) -> u32) {
        if self.level(at, poll) == 0 {
            return;
        }
        let Some(item) = self.items.at(at).filter(|item| !item.listed()) else {
            return;
        };
        let set = item.set;
        self.list(at);
        self.tell(set);
    }

    /// Puts an item on its set's ready list, if it is not.
    fn list(&mut self, at: u32) {
        let Some(item) = self.items.at(at).filter(|item| !item.listed()) else {
            return;
        };
        if let Some(set) = self.sets.at_mut(item.set) {
            push_back(&mut self.items, &mut set.ready, READY, at);
            set.listed += 1;
        }
    }

    fn pop(&mut self, set: u32) -> Option<u32> {
        let set = self.sets.at_mut(set)?;
        let at = Some(set.ready.first).filter(|at| *at != NONE)?;
        unlink(&mut self.items, &mut set.ready, READY, at);
        set.listed -= 1;
        Some(at)
    }

    /// A set has something new: whoever waits for it is woken, and so are the sets that watch it. Whether somebody was.
    fn tell(&mut self, set: u32) -> bool {
        let Some(record) = self.sets.at_mut(set) else {
            return false;
        };
        let waits = record.waiting > 0;
        if waits {
            record.waiting -= 1;
            record.woken += 1;
        }
        let (source, reports) = (record.source, record.reports);
        if reports {
            self.call(set);
        }
        if self.is_watched(source) {
            self.wake(source, EPOLLIN);
        }
        waits
    }

    /// Whether an exclusive item ended it.
    fn wake(&mut self, source: u32, key: u32) -> bool {
        let first = self.sources.at(source).map(|source| source.items.first);
        let mut at = first.unwrap_or(NONE);
        while let Some(item) = self.items.at(at) {
            let next = item.watcher.next;
            // 0 is a change of state, which all hear of.
            if self.arrive(at, key) && key != 0 {
                return true;
            }
            at = next;
        }
        false
    }

    /// Something has happened at an item's source. Whether that is enough: it is exclusive, and somebody was woken by it.
    fn arrive(&mut self, at: u32, key: u32) -> bool {
        let Some(item) = self.items.at(at) else {
            return false;
        };
        let (set, events) = (item.set, item.events.get());
        let disabled = events & !PRIVATE == 0;
        if disabled || (key != 0 && key & events == 0) {
            return false;
        }
        self.list(at);
        let woken = self.tell(set);
        let told = match key & (EPOLLIN | EPOLLOUT) {
            0 => true,
            one @ (EPOLLIN | EPOLLOUT) => events & one != 0,
            _ => false,
        };
        events & EPOLLEXCLUSIVE != 0 && woken && told
    }

    fn is_watched(&self, source: u32) -> bool {
        let source = self.sources.at(source);
        source.is_some_and(|source| source.items.first != NONE)
    }

    fn forget_watchers(&mut self, source: u32) {
        while let Some(record) = self.sources.at(source)
            && record.items.first != NONE
        {
            self.remove(record.items.first);
        }
    }

    /// Takes an item out of all lists.
    fn remove(&mut self, at: u32) {
        let Some(item) = self.items.at(at) else {
            return;
        };
        let (set, source, listed) = (item.set, item.source, item.listed());
        let hash = self.hash(set, source, item.tag);
        self.index.remove(hash, at);
        if let Some(record) = self.sources.at_mut(source) {
            let nests = matches!(record.what, What::Set(_));
            unlink(&mut self.items, &mut record.items, WATCHER, at);
            if let Some(set) = self.sets.at_mut(set) {
                let list = if nests {
                    &mut set.nested
                } else {
                    &mut set.leaves
                };
                unlink(&mut self.items, list, SIBLING, at);
                set.watched -= 1;
                if listed {
                    unlink(&mut self.items, &mut set.ready, READY, at);
                    set.listed -= 1;
                }
            }
        }
        self.items.remove_at(at);
        self.release(source);
    }

    /// Lets go of a source that nobody watches, unless it is a set.
    fn release(&mut self, source: u32) {
        let idle = self.sources.at(source);
        let idle = idle.is_some_and(|s| matches!(s.what, What::Leaf(_)) && s.items.first == NONE);
        if idle {
            self.sources.remove_at(source);
        }
    }
}
