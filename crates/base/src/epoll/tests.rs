//! Readiness against a simple model, and what it promises of cost and bounds.
#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};

use super::take::AHEAD;
use super::*;
use crate::rng::Rng;

const KEY: SipKey = SipKey([7; 16]);
const EVENTS: [u32; 6] = [EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, EPOLLERR, EPOLLHUP];

/// Sources with a level each, which whoever looks sees.
#[derive(Default)]
struct Levels {
    ready: RefCell<Vec<u32>>,
    looks: Cell<usize>,
}

impl Levels {
    fn new(count: usize) -> Self {
        Self {
            ready: RefCell::new(vec![0; count]),
            looks: Cell::new(0),
        }
    }

    fn set(&self, leaf: usize, bits: u32) {
        self.ready.borrow_mut()[leaf] = bits;
    }

    fn poll(&self) -> impl FnMut(u64) -> u32 + '_ {
        |leaf| {
            self.looks.set(self.looks.get() + 1);
            self.ready.borrow()[leaf as usize]
        }
    }
}

fn wanted(events: u32, data: u64) -> EpollEvent {
    EpollEvent { events, data }
}

fn take(epoll: &mut Epoll, set: SetId, room: usize, levels: &Levels) -> Vec<(u32, u64)> {
    let mut told = Vec::new();
    let count = epoll
        .take(set, room, &mut levels.poll(), &mut |event| {
            told.push((event.events, event.data));
        })
        .unwrap();
    assert_eq!(count, told.len());
    told
}

/// A set that watches leaves 0 and so on, each with its number for data.
fn watching(count: usize, events: u32) -> (Epoll, SetId, Vec<SourceId>, Levels) {
    let mut epoll = Epoll::with_capacity(16, 4096, KEY);
    let levels = Levels::new(count);
    let set = epoll.create().unwrap();
    let sources = (0..count)
        .map(|leaf| {
            let source = epoll.source(None, leaf as u64).unwrap();
            let how = wanted(events, leaf as u64);
            epoll
                .add(set, (source, leaf as u32), how, &mut levels.poll())
                .unwrap();
            source
        })
        .collect();
    (epoll, set, sources, levels)
}

#[test]
fn what_is_ready_at_add_and_at_modify_is_told() {
    let mut epoll = Epoll::with_capacity(1, 2, KEY);
    let levels = Levels::new(1);
    levels.set(0, EPOLLOUT);
    let set = epoll.create().unwrap();
    let source = epoll.source(None, 0).unwrap();
    let edge = |events| wanted(events | EPOLLET, 5);
    epoll
        .add(set, (source, 3), edge(EPOLLOUT), &mut levels.poll())
        .unwrap();
    assert_eq!(take(&mut epoll, set, 9, &levels), [(EPOLLOUT, 5)]);
    assert_eq!(take(&mut epoll, set, 9, &levels), []);
    epoll
        .modify(set, (Some(source), 3), edge(EPOLLOUT), &mut levels.poll())
        .unwrap();
    assert_eq!(take(&mut epoll, set, 9, &levels), [(EPOLLOUT, 5)]);
}

#[test]
fn an_edge_is_told_once_and_only_for_what_was_asked() {
    let (mut epoll, set, sources, levels) = watching(1, EPOLLIN | EPOLLET);
    levels.set(0, EPOLLIN | EPOLLOUT);
    epoll.raise(sources[0], RAISED_OUT);
    assert_eq!(take(&mut epoll, set, 9, &levels), [], "nobody asked");
    epoll.raise(sources[0], RAISED_IN);
    epoll.raise(sources[0], RAISED_IN);
    assert_eq!(take(&mut epoll, set, 9, &levels), [(EPOLLIN, 0)]);
    assert_eq!(take(&mut epoll, set, 9, &levels), []);
    epoll.raise(sources[0], 0);
    assert_eq!(take(&mut epoll, set, 9, &levels), [(EPOLLIN, 0)]);
    levels.set(0, EPOLLOUT | EPOLLHUP);
    epoll.raise(sources[0], EPOLLERR);
    assert_eq!(take(&mut epoll, set, 9, &levels), [(EPOLLHUP, 0)]);
}

#[test]
fn once_is_once_even_for_errors() {
    let (mut epoll, set, sources, levels) = watching(1, EPOLLIN | EPOLLONESHOT);
    levels.set(0, EPOLLIN);
    epoll.raise(sources[0], RAISED_IN);
    assert_eq!(take(&mut epoll, set, 9, &levels), [(EPOLLIN, 0)]);
    levels.set(0, EPOLLIN | EPOLLERR | EPOLLHUP);
    epoll.raise(sources[0], 0);
    assert_eq!(take(&mut epoll, set, 9, &levels), []);
    let again = wanted(EPOLLOUT | EPOLLONESHOT, 6);
    epoll
        .modify(set, (Some(sources[0]), 0), again, &mut levels.poll())
        .unwrap();
    let both = EPOLLERR | EPOLLHUP;
    assert_eq!(take(&mut epoll, set, 9, &levels), [(both, 6)]);
}

#[test]
fn those_that_are_ready_take_turns() {
    let (mut epoll, set, sources, levels) = watching(5, EPOLLIN);
    for leaf in [3, 0, 4, 1] {
        levels.set(leaf, EPOLLIN);
        epoll.raise(sources[leaf], RAISED_IN);
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        let told = take(&mut epoll, set, 2, &levels);
        order.extend(told.iter().map(|(_, leaf)| *leaf));
    }
    assert_eq!(order, [3, 0, 4, 1, 3, 0, 4, 1]);
    assert_eq!(take(&mut epoll, set, 9, &levels).len(), 4, "each once");
}

#[test]
fn what_is_closed_or_deleted_while_ready_is_not_told() {
    let (mut epoll, set, sources, levels) = watching(3, EPOLLIN);
    for (leaf, source) in sources.iter().enumerate() {
        levels.set(leaf, EPOLLIN);
        epoll.raise(*source, RAISED_IN);
    }
    epoll.close(sources[1]);
    epoll.delete(set, Some(sources[0]), 0).unwrap();
    let gone = epoll.delete(set, Some(sources[0]), 0);
    assert_eq!(gone, Err(Refused::NotFound));
    epoll.raise(sources[0], 0);
    assert_eq!(take(&mut epoll, set, 9, &levels), [(EPOLLIN, 2)]);
    epoll.destroy(set);
    assert_eq!(epoll.occupancy(), (0, 0));
    assert_eq!(epoll.sources.len(), 0, "nothing is left behind");
    assert_eq!(epoll.index.len(), 0);
}

#[test]
fn sets_are_ready_when_something_in_them_is() {
    let (mut epoll, inner, sources, levels) = watching(1, EPOLLIN);
    let outer = epoll.create().unwrap();
    let source = epoll.source_of(inner).unwrap();
    let how = wanted(EPOLLIN | EPOLLET, 9);
    epoll
        .add(outer, (source, 0), how, &mut levels.poll())
        .unwrap();
    assert_eq!(take(&mut epoll, outer, 9, &levels), []);
    levels.set(0, EPOLLIN);
    epoll.raise(sources[0], RAISED_IN);
    assert_eq!(take(&mut epoll, outer, 9, &levels), [(EPOLLIN, 9)]);
    assert_eq!(take(&mut epoll, outer, 9, &levels), []);
    epoll.raise(sources[0], RAISED_IN);
    levels.set(0, 0);
    assert_eq!(take(&mut epoll, outer, 9, &levels), []);
    assert!(!epoll.may_be_ready(inner), "found to be idle on the way");
}

#[test]
fn sets_are_neither_loops_nor_towers() {
    let mut epoll = Epoll::with_capacity(16, 64, KEY);
    let sets: Vec<SetId> = (0..7).map(|_| epoll.create().unwrap()).collect();
    let mut add = |outer: usize, inner: usize| {
        let source = epoll.source_of(sets[inner]).unwrap();
        epoll.add(sets[outer], (source, 0), wanted(EPOLLIN, 0), &mut |_| 0)
    };
    assert_eq!(add(0, 0), Err(Refused::Invalid));
    assert_eq!(add(0, 1), Ok(()));
    assert_eq!(add(0, 1), Err(Refused::Exists));
    assert_eq!(add(1, 0), Err(Refused::Loop));
    for at in 1..4 {
        assert_eq!(add(at, at + 1), Ok(()), "{at}");
    }
    assert_eq!(add(4, 0), Err(Refused::Loop));
    assert_eq!(add(4, 5), Err(Refused::Loop), "too deep below");
    assert_eq!(add(6, 0), Err(Refused::Loop), "too deep above");
    assert_eq!(add(6, 1), Ok(()), "two may watch one");
}

#[test]
fn ways_up_are_few() {
    let mut epoll = Epoll::with_capacity(600, 4096, KEY);
    let inner = epoll.create().unwrap();
    let leaf = epoll.source(None, 0).unwrap();
    let how = wanted(EPOLLIN, 0);
    epoll.add(inner, (leaf, 0), how, &mut |_| 0).unwrap();
    let source = epoll.source_of(inner).unwrap();
    for _ in 0..500 {
        let outer = epoll.create().unwrap();
        epoll.add(outer, (source, 0), how, &mut |_| 0).unwrap();
    }
    let outer = epoll.create().unwrap();
    let one_more = epoll.add(outer, (source, 0), how, &mut |_| 0);
    assert_eq!(one_more, Err(Refused::Invalid));
    assert_eq!(epoll.occupancy().1, 501);
}

#[test]
fn of_exclusive_sets_that_wait_one_is_woken() {
    let mut epoll = Epoll::with_capacity(4, 8, KEY);
    let levels = Levels::new(1);
    let source = epoll.source(None, 0).unwrap();
    let sets: Vec<SetId> = (0..3).map(|_| epoll.create().unwrap()).collect();
    let how = wanted(EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, 0);
    for set in &sets {
        epoll
            .add(*set, (source, 0), how, &mut levels.poll())
            .unwrap();
    }
    levels.set(0, EPOLLIN);
    let told = |epoll: &mut Epoll| {
        sets.iter()
            .map(|set| take(epoll, *set, 1, &levels).len())
            .collect::<Vec<_>>()
    };
    assert!(!epoll.raise(source, RAISED_IN));
    assert_eq!(told(&mut epoll), [1, 1, 1], "nobody waits: all keep it");
    epoll.begin_wait(sets[1]);
    assert!(epoll.raise(source, RAISED_IN));
    epoll.end_wait(sets[1]);
    assert_eq!(told(&mut epoll), [1, 1, 0], "up to the one who was woken");
    epoll.begin_wait(sets[0]);
    assert!(!epoll.raise(source, 0));
    epoll.end_wait(sets[0]);
    assert_eq!(told(&mut epoll), [1, 1, 1], "a change of state is for all");
    let refused =
        |epoll: &mut Epoll, set, events| epoll.add(set, (source, 1), wanted(events, 0), &mut |_| 0);
    let odd = EPOLLEXCLUSIVE | EPOLLONESHOT;
    assert_eq!(refused(&mut epoll, sets[0], odd), Err(Refused::Invalid));
    for events in [EPOLLIN, EPOLLIN | EPOLLEXCLUSIVE] {
        let changed = epoll.modify(sets[0], (Some(source), 0), wanted(events, 0), &mut |_| 0);
        assert_eq!(changed, Err(Refused::Invalid));
    }
    let inner = epoll.source_of(sets[1]).unwrap();
    let nested = epoll.add(sets[0], (inner, 0), how, &mut |_| 0);
    assert_eq!(nested, Err(Refused::Invalid));
}

#[test]
fn a_full_table_refuses_and_keeps_nothing() {
    let mut epoll = Epoll::with_capacity(1, 1, KEY);
    let set = epoll.create().unwrap();
    assert_eq!(epoll.create(), None);
    let mut added = Vec::new();
    for leaf in 0..2 {
        let source = epoll.source(None, leaf).unwrap();
        added.push(epoll.add(set, (source, 0), wanted(EPOLLIN, 0), &mut |_| 0));
    }
    assert_eq!(added, [Ok(()), Err(Refused::Full)]);
    assert_eq!(epoll.sources.len(), 2, "the set's and one more");
}

#[test]
fn waiting_does_not_look_at_what_is_idle() {
    let (mut epoll, set, sources, levels) = watching(4000, EPOLLIN);
    for leaf in [17, 3999] {
        levels.set(leaf, EPOLLIN);
        epoll.raise(sources[leaf], RAISED_IN);
    }
    levels.looks.set(0);
    assert_eq!(take(&mut epoll, set, 64, &levels).len(), 2);
    assert_eq!(levels.looks.get(), 2);
    const { assert!(Epoll::ITEM_BYTES <= 104) };
}

#[test]
fn a_source_may_have_any_word() {
    let mut epoll = Epoll::with_capacity(2, 4, KEY);
    let [inner, outer] = [(); 2].map(|()| epoll.create().unwrap());
    let words = [0, 7, ASK - 1, ASK];
    let mut ready = |word| u32::from(word != 7) * EPOLLIN;
    for word in &words[1..] {
        let source = epoll.source(None, *word).unwrap();
        let how = wanted(EPOLLIN | EPOLLONESHOT, *word);
        epoll.add(inner, (source, 0), how, &mut ready).unwrap();
    }
    let nested = epoll.source_of(inner).unwrap();
    let how = wanted(EPOLLIN, words[0]);
    epoll.add(outer, (nested, 0), how, &mut ready).unwrap();
    for (set, all) in [(outer, &words[..1]), (inner, &words[2..]), (outer, &[])] {
        let mut told = Vec::new();
        let give = &mut |event: EpollEvent| told.push(event.data);
        epoll.take(set, 8, &mut ready, give).unwrap();
        assert_eq!(told, all);
    }
}

/// Who holds a lock meanwhile looks at what is not ready any more in parts, and finds the rest the next time.
#[test]
fn what_is_not_ready_any_more_is_looked_at_in_parts() {
    let (mut epoll, set, sources, levels) = watching(1000, EPOLLIN);
    for &source in &sources {
        epoll.raise(source, RAISED_IN);
    }
    levels.set(700, EPOLLIN);
    let mut parts = Vec::new();
    while epoll.may_be_ready(set) {
        levels.looks.set(0);
        let given = epoll.take_within(set, (64, 256), &mut levels.poll(), &mut |event| {
            assert_eq!(event.data, 700);
            levels.set(700, 0);
        });
        parts.push((given.unwrap(), levels.looks.get()));
    }
    // The last is the level, which was over when it was asked for again.
    assert_eq!(parts, [(0, 256), (0, 256), (1, 257), (0, 232)]);
}

/// Every source is announced before it is asked, in the order in which they are, and once; none that is not asked in this call but the
/// few behind the last.
#[test]
fn those_that_are_asked_soon_are_announced() {
    for room in [1, 7, 100, 1000] {
        let (mut epoll, set, sources, levels) = watching(100, EPOLLIN);
        for (at, &source) in sources.iter().enumerate() {
            epoll.raise(source, RAISED_IN);
            levels.set(at, EPOLLIN);
        }
        let announced = core::cell::RefCell::new(Vec::new());
        let mut asked = 0;
        let mut soon = |word: u64| announced.borrow_mut().push(word);
        let mut poll = |word: u64| {
            assert_eq!(announced.borrow()[asked], word);
            asked += 1;
            EPOLLIN
        };
        let given = epoll.take_ahead(
            set,
            (room, usize::MAX),
            Some(&mut soon),
            &mut poll,
            &mut |_| {},
        );
        assert_eq!(given, Ok(room.min(100)));
        let announced = announced.into_inner();
        let expected: Vec<u64> = (0..announced.len() as u64).collect();
        assert_eq!(announced, expected, "once, and in order");
        assert!(announced.len() < asked + AHEAD);
    }
}

/// The same, without thought: everything is searched for, lists are copied.
#[derive(Default)]
struct Model {
    sets: Vec<Vec<Watched>>,
    ready: Vec<Vec<(Of, u32)>>,
    /// Items added so far.
    added: usize,
}

/// A leaf or a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Leaf(usize),
    Set(usize),
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    of: Of,
    tag: u32,
    how: EpollEvent,
    number: usize,
}

impl Model {
    fn item(&mut self, set: usize, of: Of, tag: u32) -> Option<&mut Watched> {
        self.sets[set]
            .iter_mut()
            .find(|item| (item.of, item.tag) == (of, tag))
    }

    fn contains(&self, outer: usize, inner: usize) -> bool {
        outer == inner
            || self.sets[outer].iter().any(|item| match item.of {
                Of::Set(set) => self.contains(set, inner),
                Of::Leaf(_) => false,
            })
    }

    fn below(&self, set: usize) -> usize {
        let inner = self.sets[set].iter().filter_map(|item| match item.of {
            Of::Set(set) => Some(self.below(set) + 1),
            Of::Leaf(_) => None,
        });
        inner.max().unwrap_or(0)
    }

    fn above(&self, set: usize) -> usize {
        let outer = (0..self.sets.len()).filter(|outer| {
            let mut items = self.sets[*outer].iter();
            items.any(|item| item.of == Of::Set(set))
        });
        outer.map(|outer| self.above(outer) + 1).max().unwrap_or(0)
    }

    fn level(&mut self, set: usize, item: (Of, u32), levels: &[u32]) -> u32 {
        let Some(found) = self.item(set, item.0, item.1).copied() else {
            return 0;
        };
        let ready = match found.of {
            Of::Leaf(leaf) => levels[leaf],
            Of::Set(inner) => self.level_of_set(inner, levels),
        };
        ready & found.how.events & !PRIVATE
    }

    fn level_of_set(&mut self, set: usize, levels: &[u32]) -> u32 {
        while let Some(first) = self.ready[set].first().copied() {
            if self.level(set, first, levels) != 0 {
                return EPOLLIN | EPOLLRDNORM;
            }
            self.ready[set].remove(0);
        }
        0
    }

    fn list(&mut self, set: usize, item: (Of, u32)) {
        if !self.ready[set].contains(&item) {
            self.ready[set].push(item);
        }
        self.raise(Of::Set(set), EPOLLIN);
    }

    fn look(&mut self, set: usize, item: (Of, u32), levels: &[u32]) {
        if self.level(set, item, levels) != 0 && !self.ready[set].contains(&item) {
            self.list(set, item);
        }
    }

    fn raise(&mut self, of: Of, key: u32) {
        let each = self.sets.iter().enumerate();
        let mut items: Vec<(usize, Watched)> = each
            .flat_map(|(set, items)| items.iter().map(move |item| (set, *item)))
            .filter(|(_, item)| item.of == of)
            .collect();
        // The latest first.
        items.sort_by_key(|(_, item)| core::cmp::Reverse(item.number));
        for (set, item) in items {
            let wanted = item.how.events & !PRIVATE;
            if wanted != 0 && (key == 0 || key & wanted != 0) {
                self.list(set, (of, item.tag));
            }
        }
    }

    fn add(
        &mut self,
        set: usize,
        (of, tag): (Of, u32),
        how: EpollEvent,
        levels: &[u32],
    ) -> Result<(), Refused> {
        if of == Of::Set(set) {
            return Err(Refused::Invalid);
        }
        if let Of::Set(inner) = of
            && (self.contains(inner, set) || self.below(inner) + 1 + self.above(set) > MAX_NESTS)
        {
            return Err(Refused::Loop);
        }
        if self.item(set, of, tag).is_some() {
            return Err(Refused::Exists);
        }
        let events = how.events | ALWAYS.get();
        let how = EpollEvent { events, ..how };
        self.added += 1;
        let number = self.added;
        self.sets[set].push(Watched {
            of,
            tag,
            how,
            number,
        });
        let watched = self.sets.iter().flatten();
        let nests = matches!(of, Of::Set(_)) || watched.map(|i| i.of).any(|of| of == Of::Set(set));
        let few = |leaf: &Of| {
            self.ways(*leaf)
                .iter()
                .zip(nest::WAYS)
                .all(|(n, most)| *n <= most)
        };
        if nests && !self.leaves(of).iter().all(few) {
            self.sets[set].pop();
            return Err(Refused::Invalid);
        }
        self.look(set, (of, tag), levels);
        Ok(())
    }

    fn leaves(&self, of: Of) -> Vec<Of> {
        match of {
            Of::Leaf(_) => vec![of],
            Of::Set(set) => {
                let items = self.sets[set].iter();
                items.flat_map(|item| self.leaves(item.of)).collect()
            }
        }
    }

    /// How many ways up of each length there are.
    fn ways(&self, of: Of) -> Vec<u32> {
        let mut ways = vec![0; MAX_NESTS + 1];
        for (set, items) in self.sets.iter().enumerate() {
            for _ in items.iter().filter(|item| item.of == of) {
                let on = self.ways(Of::Set(set));
                match on.iter().sum() {
                    0 => ways[0] += 1,
                    _ => (0..MAX_NESTS).for_each(|length| ways[length + 1] += on[length]),
                }
            }
        }
        ways
    }

    fn take(&mut self, set: usize, room: usize, levels: &[u32]) -> Vec<(u32, u64)> {
        let (mut told, mut again) = (Vec::new(), Vec::new());
        while told.len() < room && !self.ready[set].is_empty() {
            let first = self.ready[set].remove(0);
            let events = self.level(set, first, levels);
            if events == 0 {
                continue;
            }
            let item = self.item(set, first.0, first.1).unwrap();
            told.push((events, item.how.data));
            if item.how.events & EPOLLONESHOT != 0 {
                item.how.events &= PRIVATE;
            } else if item.how.events & EPOLLET == 0 {
                again.push(first);
            }
        }
        self.ready[set].extend(again);
        told
    }

    fn forget(&mut self, of: Of) {
        self.sets
            .iter_mut()
            .for_each(|set| set.retain(|item| item.of != of));
        self.ready
            .iter_mut()
            .for_each(|list| list.retain(|(other, _)| *other != of));
    }
}

const SETS: usize = 6;
const LEAVES: usize = 5;

/// Both, side by side.
struct Pair {
    model: Model,
    epoll: Epoll,
    sets: Vec<SetId>,
    sources: [Option<SourceId>; LEAVES],
    levels: Levels,
}

impl Pair {
    fn new() -> Self {
        let mut epoll = Epoll::with_capacity(SETS as u32, 256, KEY);
        Self {
            model: Model {
                sets: vec![Vec::new(); SETS],
                ready: vec![Vec::new(); SETS],
                added: 0,
            },
            sets: (0..SETS).map(|_| epoll.create().unwrap()).collect(),
            epoll,
            sources: [None; LEAVES],
            levels: Levels::new(LEAVES),
        }
    }

    fn known(&self, of: Of) -> Option<SourceId> {
        match of {
            Of::Set(set) => self.epoll.source_of(self.sets[set]),
            Of::Leaf(leaf) => self.sources[leaf],
        }
    }

    fn add(&mut self, set: usize, (of, tag): (Of, u32), how: EpollEvent) {
        let now = self.levels.ready.borrow().clone();
        let mut known = self.known(of);
        if let Of::Leaf(leaf) = of {
            known = self.epoll.source(known, leaf as u64);
            self.sources[leaf] = known;
        }
        let poll = &mut self.levels.poll();
        let added = self
            .epoll
            .add(self.sets[set], (known.unwrap(), tag), how, poll);
        assert_eq!(added, self.model.add(set, (of, tag), how, &now));
    }

    fn modify(&mut self, set: usize, (of, tag): (Of, u32), how: EpollEvent) {
        let now = self.levels.ready.borrow().clone();
        let known = self.known(of);
        let poll = &mut self.levels.poll();
        let changed = self.epoll.modify(self.sets[set], (known, tag), how, poll);
        let expected = match self.model.item(set, of, tag) {
            _ if of == Of::Set(set) => Err(Refused::Invalid),
            None => Err(Refused::NotFound),
            Some(item) => {
                item.how.events = how.events | ALWAYS.get();
                item.how.data = how.data;
                self.model.look(set, (of, tag), &now);
                Ok(())
            }
        };
        assert_eq!(changed, expected);
    }

    fn delete(&mut self, set: usize, of: Of, tag: u32) {
        let deleted = self.epoll.delete(self.sets[set], self.known(of), tag);
        let there = self.model.item(set, of, tag).is_some();
        self.model.sets[set].retain(|item| (item.of, item.tag) != (of, tag));
        self.model.ready[set].retain(|item| *item != (of, tag));
        let expected = match there {
            _ if of == Of::Set(set) => Err(Refused::Invalid),
            true => Ok(()),
            false => Err(Refused::NotFound),
        };
        assert_eq!(deleted, expected);
    }

    fn raise(&mut self, leaf: usize, key: u32) {
        if let Some(source) = self.sources[leaf] {
            self.epoll.raise(source, key);
        }
        self.model.raise(Of::Leaf(leaf), key);
    }

    /// A source is no more, or a set is, and has a successor.
    fn end(&mut self, of: Of) {
        self.model.forget(of);
        match of {
            Of::Set(set) => {
                self.epoll.destroy(self.sets[set]);
                self.sets[set] = self.epoll.create().unwrap();
                self.model.sets[set].clear();
                self.model.ready[set].clear();
            }
            Of::Leaf(leaf) => {
                if let Some(source) = self.sources[leaf].take() {
                    self.epoll.close(source);
                }
            }
        }
    }

    fn take(&mut self, set: usize, room: usize) {
        let now = self.levels.ready.borrow().clone();
        let told = take(&mut self.epoll, self.sets[set], room, &self.levels);
        assert_eq!(told, self.model.take(set, room, &now));
    }
}

/// One random program on both.
fn play(seed: u64) {
    let mut rng = Rng::from_seed(seed);
    let mut both = Pair::new();
    for _ in 0..200 {
        let set = rng.below(SETS as u32) as usize;
        let leaf = rng.below(LEAVES as u32) as usize;
        let of = match rng.below(3) {
            0 => Of::Set(rng.below(SETS as u32) as usize),
            _ => Of::Leaf(leaf),
        };
        let tag = rng.below(2);
        let mut events =
            [0, 0, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT][rng.below(5) as usize];
        for bit in EVENTS {
            events |= bit * rng.below(2);
        }
        let how = wanted(events, u64::from(rng.u32()));
        match rng.below(10) {
            0..=2 => both.add(set, (of, tag), how),
            3 => both.modify(set, (of, tag), how),
            4 => both.delete(set, of, tag),
            5 | 6 => {
                let bits = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP;
                both.levels.set(leaf, rng.u32() & bits);
                let key = [0, RAISED_IN, RAISED_OUT, EPOLLERR][rng.below(4) as usize];
                both.raise(leaf, key);
            }
            7 if rng.below(4) == 0 => both.end(of),
            _ => both.take(set, 1 + rng.below(4) as usize),
        }
        for (at, set) in both.sets.iter().enumerate() {
            let info = both.epoll.info(*set).unwrap();
            let (watched, ready) = (both.model.sets[at].len(), both.model.ready[at].len());
            assert_eq!((info.watched, info.ready), (watched as u32, ready as u32));
        }
    }
    let items: usize = both.model.sets.iter().map(Vec::len).sum();
    assert_eq!(both.epoll.occupancy(), (SETS as u32, items as u32));
    for set in both.sets {
        both.epoll.destroy(set);
    }
    assert_eq!(
        (both.epoll.occupancy(), both.epoll.sources.len()),
        ((0, 0), 0)
    );
}

#[test]
fn random_programs_end_as_in_the_model() {
    for seed in 0..3000 {
        let ended = std::panic::catch_unwind(|| play(seed));
        assert!(ended.is_ok(), "seed {seed}");
    }
}

#[test]
fn who_sleeps_elsewhere_hears_once_of_each_set() {
    let (mut epoll, set, sources, levels) = watching(2, EPOLLIN);
    let silent = epoll.create().unwrap();
    for which in [set, silent] {
        let _ = epoll.add(
            which,
            (sources[0], 9),
            wanted(EPOLLIN, 9),
            &mut levels.poll(),
        );
    }
    epoll.raise(sources[0], EPOLLIN);
    assert_eq!(epoll.next_called(), None, "nobody asked");
    epoll.report(set);
    for source in &sources {
        epoll.raise(*source, EPOLLIN);
    }
    assert_eq!(epoll.next_called(), Some(set));
    assert_eq!(epoll.next_called(), None);
    // One that ends is called no more, wherever it stands.
    let others: Vec<SetId> = (0..3).map(|_| epoll.create().unwrap()).collect();
    for other in &others {
        epoll.report(*other);
        epoll
            .add(
                *other,
                (sources[1], 9),
                wanted(EPOLLIN, 9),
                &mut levels.poll(),
            )
            .unwrap();
    }
    for (gone, other) in others.iter().enumerate() {
        epoll.raise(sources[1], EPOLLIN);
        epoll.destroy(*other);
        let called = std::iter::from_fn(|| epoll.next_called()).count();
        assert_eq!(called, 3 - gone, "the first set, and those that are left");
    }
}

#[test]
fn what_a_set_watches_elsewhere_is_told_by_sets_around_it() {
    let (mut epoll, inner, _, levels) = watching(1, EPOLLIN);
    let outer = epoll.create().unwrap();
    let source = epoll.source_of(inner).unwrap();
    let as_item = wanted(EPOLLIN, 5);
    epoll
        .add(outer, (source, 5), as_item, &mut levels.poll())
        .unwrap();
    assert_eq!(epoll.watchers(source).collect::<Vec<_>>(), [outer]);
    // Leaf 0 plays the part of what is elsewhere.
    epoll.set_outside(inner, 0);
    levels.set(0, EPOLLIN);
    assert_eq!(
        take(&mut epoll, outer, 9, &levels),
        [],
        "nobody has said so"
    );
    epoll.raise_in(outer, (source, 5), EPOLLIN);
    for _ in 0..2 {
        assert_eq!(take(&mut epoll, outer, 9, &levels), [(EPOLLIN, 5)]);
    }
    assert_eq!(
        take(&mut epoll, inner, 9, &levels),
        [],
        "its owner's affair"
    );
    levels.set(0, 0);
    assert_eq!(take(&mut epoll, outer, 9, &levels), []);
    epoll.raise_in(outer, (source, 6), EPOLLIN);
    assert!(!epoll.may_be_ready(outer), "no such item");
}
