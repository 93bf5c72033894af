//! Sets in sets: how deep, and by how many ways something that happens reaches others.
//!
//! What does not live here: what happens on those ways (`epoll`).

use super::{Epoll, MAX_NESTS, NONE, What};

/// As many ways of each length, in sets, may lead up from one source; of length 1 any number.
pub(super) const WAYS: [u32; MAX_NESTS + 1] = [u32::MAX, 500, 100, 50, 10];

impl Epoll {
    /// Whether `inner` may be watched by `outer`: neither is then in itself, nor more than [`MAX_NESTS`] sets below another.
    pub(super) fn may_nest(&mut self, outer: u32, inner: u32) -> bool {
        self.search();
        let Some(below) = self.depth_below(inner, outer, 0) else {
            return false;
        };
        self.search();
        below + 1 + self.depth_above(outer, 0) <= MAX_NESTS
    }

    fn search(&mut self) {
        self.searches = self.searches.wrapping_add(1).max(1);
    }

    /// How many sets are below each other in `set`; `None` when `outer` is among them, or they are too many.
    fn depth_below(&mut self, set: u32, outer: u32, level: usize) -> Option<usize> {
        let record = self
            .sets
            .at_mut(set)
            .filter(|_| set != outer && level <= MAX_NESTS)?;
        if record.checked == self.searches {
            return Some(usize::from(record.depth));
        }
        let (mut at, mut depth) = (record.nested.first, 0);
        while let Some(item) = self.items.at(at) {
            at = item.sibling.next;
            if let Some(What::Set(inner)) = self.sources.at(item.source).map(|s| s.what) {
                depth = depth.max(self.depth_below(inner, outer, level + 1)? + 1);
            }
        }
        self.note(set, depth);
        Some(depth)
    }

    /// How many sets are above each other over `set`.
    fn depth_above(&mut self, set: u32, level: usize) -> usize {
        let Some(record) = self.sets.at(set).filter(|_| level <= MAX_NESTS) else {
            return 0;
        };
        if record.checked == self.searches {
            return usize::from(record.depth);
        }
        let (mut at, mut depth) = (NONE, 0);
        if let Some(source) = self.sources.at(record.source) {
            at = source.items.first;
        }
        while let Some(item) = self.items.at(at) {
            at = item.watcher.next;
            depth = depth.max(self.depth_above(item.set, level + 1) + 1);
        }
        self.note(set, depth);
        depth
    }

    fn note(&mut self, set: u32, depth: usize) {
        if let Some(record) = self.sets.at_mut(set) {
            record.checked = self.searches;
            record.depth = depth as u8;
        }
    }

    /// Whether so few ways lead up from a source, or from all that a set watches, that raising it stays cheap.
    pub(super) fn few_ways_up(&self, source: u32) -> bool {
        match self.sources.at(source).map(|source| source.what) {
            Some(What::Set(set)) => self.few_ways_from(set),
            _ => self.count_ways(source, 0, &mut [0; MAX_NESTS + 1]),
        }
    }

    fn few_ways_from(&self, set: u32) -> bool {
        let Some(set) = self.sets.at(set) else {
            return true;
        };
        let mut at = set.leaves.first;
        while let Some(item) = self.items.at(at) {
            at = item.sibling.next;
            if !self.count_ways(item.source, 0, &mut [0; MAX_NESTS + 1]) {
                return false;
            }
        }
        let mut at = set.nested.first;
        while let Some(item) = self.items.at(at) {
            at = item.sibling.next;
            if !self.few_ways_up(item.source) {
                return false;
            }
        }
        true
    }

    /// Counts the ways up by their length; false once there are too many.
    fn count_ways(&self, source: u32, length: usize, ways: &mut [u32; MAX_NESTS + 1]) -> bool {
        let first = self.sources.at(source).map(|source| source.items.first);
        let mut at = first.unwrap_or(NONE);
        while let Some(item) = self.items.at(at) {
            at = item.watcher.next;
            let Some(set) = self.sets.at(item.set) else {
                continue;
            };
            let few = if self.is_watched(set.source) {
                length < MAX_NESTS && self.count_ways(set.source, length + 1, ways)
            } else {
                ways[length] += 1;
                length == 0 || ways[length] <= WAYS[length]
            };
            if !few {
                return false;
            }
        }
        true
    }
}
