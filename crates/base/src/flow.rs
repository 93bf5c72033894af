//! From a hash to an index in one cache line: the table behind every "whose packet is this?".
//!
//! The records and the comparison of their keys do not live here: an entry is 32 bits of hash and an index, and the
//! caller says whether the record there is the one.
//!
//! A bucket is one cache line of seven entries. What does not fit in its first bucket goes to the next with room on a
//! path given by the hash, and every bucket it passed counts it; a search goes on past a bucket only while that count
//! is not zero. Removing an entry takes it out of the counts, so there are no tombstones and nothing degrades with age.
//!
//! Invariant: a bucket's count is the number of entries that passed it on their path to where they are.
//! Invariant: an entry's tag is never 0, which means a free place.
//! Invariant: the number of buckets is prime, so that every path visits all of them.

#[cfg(test)]
mod tests;

use crate::pool::{Line, Section};
use crate::prefetch;
use crate::siphash::{SipKey, siphash};
use core::fmt;

/// Entries in a bucket.
const WAYS: usize = 7;
/// The word after the tags: how many entries passed. The indices follow from the next word on.
const PASSED: usize = 7;
const INDEX: usize = 8;

/// The table has as many entries as it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the table is full")
    }
}

impl core::error::Error for Full {}

/// Up to a fixed number of indices, found by hash.
///
/// ```
/// use base::{FlowTable, SipKey};
///
/// let records = ["one", "two"];
/// let mut table = FlowTable::with_capacity(16, SipKey::derive(7, 1));
/// for (index, record) in records.iter().enumerate() {
///     table.insert(table.hash(record.as_bytes()), index as u32)?;
/// }
/// let found = table.find(table.hash(b"two"), |index| records[index as usize] == "two");
/// assert_eq!(found, Some(1));
/// # Ok::<(), base::Full>(())
/// ```
pub struct FlowTable {
    buckets: Section<Line>,
    len: u32,
    capacity: u32,
    key: SipKey,
}

/// What the first bucket of a hash tells of its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// It is in all likelihood this one.
    Index(u32),
    /// It may be in another bucket, now on its way into the cache.
    Later,
    /// It is not in the table.
    Absent,
}

/// The buckets a hash visits, in order.
struct Path {
    bucket: usize,
    step: usize,
}

/// Where an entry is, and how many buckets it passed.
struct Place {
    bucket: usize,
    way: usize,
    passed: u32,
}

impl FlowTable {
    /// Bytes of memory for each entry, at most, in a table of many.
    pub const ENTRY_BYTES: usize = 12;

    /// Reserves room for `capacity` entries, [`FlowTable::ENTRY_BYTES`] each. It does not grow.
    ///
    /// # Panics
    /// If the machine refuses the memory.
    pub fn with_capacity(capacity: u32, key: SipKey) -> FlowTable {
        // Three quarters of the places used at most: beyond that, searches for what is not there get long.
        let count = next_prime((u64::from(capacity) * 3).div_ceil(16).max(3));
        let buckets = Section::new(count as usize).expect("memory for the flow table");
        FlowTable {
            buckets,
            len: 0,
            capacity,
            key,
        }
    }

    /// The hash of a key under this table's secret.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        siphash(&self.key, key)
    }

    /// Entries in it.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most entries it takes.
    #[inline]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    #[inline(always)]
    fn tag(hash: u64) -> u32 {
        ((hash >> 32) as u32).max(1)
    }

    /// The first bucket of a hash, by its low half.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        (((hash & 0xffff_ffff) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline(always)]
    fn path(&self, hash: u64) -> Path {
        // The step is from 1 to one less than the number of buckets.
        let step = 1 + (((hash >> 32) * (self.buckets.len() as u64 - 1)) >> 32) as usize;
        Path {
            bucket: self.home(hash),
            step,
        }
    }

    #[inline(always)]
    fn advance(&self, path: &mut Path) {
        path.bucket += path.step;
        if path.bucket >= self.buckets.len() {
            path.bucket -= self.buckets.len();
        }
    }

    /// Adds an entry, whether or not an equal one is there.
    ///
    /// # Errors
    /// [`Full`] with as many entries as the table was made for.
    #[inline]
    pub fn insert(&mut self, hash: u64, index: u32) -> Result<(), Full> {
        if self.len >= self.capacity {
            return Err(Full);
        }
        let mut path = self.path(hash);
        loop {
            let bucket = &mut self.buckets[path.bucket].0;
            let way = first(matches(bucket, 0));
            if way < WAYS {
                bucket[way] = FlowTable::tag(hash);
                bucket[INDEX + way] = index;
                self.len += 1;
                return Ok(());
            }
            // Ends: there are more places than entries, and the path visits every bucket.
            bucket[PASSED] += 1;
            self.advance(&mut path);
        }
    }

    /// The index under `hash` for which `is_it` says yes.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let place = self.locate(hash, is_it)?;
        Some(self.buckets[place.bucket].0[INDEX + place.way])
    }

    /// The index in the first bucket of `hash` whose entry has its tag: nearly always the right one, and good enough to
    /// fetch its record. Where the entry can only be in a later bucket, that is asked for: see [`FlowTable::later`].
    #[inline]
    #[must_use]
    pub fn candidate(&self, hash: u64) -> Candidate {
        let home = self.home(hash);
        let bucket = &self.buckets[home].0;
        let ways = matches(bucket, FlowTable::tag(hash));
        let way = first(ways);
        if way < WAYS {
            return Candidate::Index(bucket[INDEX + way]);
        }
        if bucket[PASSED] == 0 {
            return Candidate::Absent;
        }
        let mut path = self.path(hash);
        self.advance(&mut path);
        prefetch::element(&self.buckets, path.bucket, 1);
        Candidate::Later
    }

    /// The candidate wherever it is, once [`FlowTable::candidate`] has said `Later`.
    #[cold]
    pub fn later(&self, hash: u64) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Asks for the first bucket of `hash` ahead of a search.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch::element(&self.buckets, self.home(hash), 1);
    }

    /// Removes the entry of this hash and index. False if there is none.
    #[inline]
    pub fn remove(&mut self, hash: u64, index: u32) -> bool {
        let Some(place) = self.locate(hash, |i| i == index) else {
            return false;
        };
        self.buckets[place.bucket].0[place.way] = 0;
        self.len -= 1;
        if place.passed > 0 {
            self.uncount(hash, place.passed);
        }
        true
    }

    /// Makes the entry of this hash and index `old` one of index `new`. False if there is none.
    #[inline]
    pub fn replace(&mut self, hash: u64, old: u32, new: u32) -> bool {
        let Some(place) = self.locate(hash, |i| i == old) else {
            return false;
        };
        self.buckets[place.bucket].0[INDEX + place.way] = new;
        true
    }

    #[inline(always)]
    fn locate(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<Place> {
        let home = self.home(hash);
        let bucket = &self.buckets[home].0;
        if let Some(way) = search(bucket, FlowTable::tag(hash), &mut is_it) {
            return Some(Place {
                bucket: home,
                way,
                passed: 0,
            });
        }
        if bucket[PASSED] == 0 {
            return None;
        }
        self.locate_beyond(hash, is_it)
    }

    /// The search after the first bucket.
    #[cold]
    fn locate_beyond(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<Place> {
        let tag = FlowTable::tag(hash);
        let mut path = self.path(hash);
        for passed in 1..self.buckets.len() as u32 {
            self.advance(&mut path);
            let bucket = &self.buckets[path.bucket].0;
            if let Some(way) = search(bucket, tag, &mut is_it) {
                return Some(Place {
                    bucket: path.bucket,
                    way,
                    passed,
                });
            }
            if bucket[PASSED] == 0 {
                break;
            }
        }
        None
    }

    /// An entry that had passed the first `passed` buckets of its path has gone.
    #[cold]
    fn uncount(&mut self, hash: u64, passed: u32) {
        let mut path = self.path(hash);
        for _ in 0..passed {
            let count = &mut self.buckets[path.bucket].0[PASSED];
            debug_assert!(*count > 0);
            *count = count.saturating_sub(1);
            self.advance(&mut path);
        }
    }
}

/// The way of a bucket that has this tag and of whose index `is_it` says yes.
#[inline(always)]
fn search(bucket: &[u32; 16], tag: u32, is_it: &mut impl FnMut(u32) -> bool) -> Option<usize> {
    let mut ways = matches(bucket, tag);
    while ways != 0 {
        let way = first(ways);
        if way == PASSED {
            break;
        }
        if is_it(bucket[INDEX + way]) {
            return Some(way);
        }
        ways &= ways - 1;
    }
    None
}

/// Which of a bucket's first eight words are `tag`: a byte of 1 or 0 for each. The last one is no way.
#[inline(always)]
fn matches(bucket: &[u32; 16], tag: u32) -> u64 {
    // All eight, and bytes and not bits, because that is what the compiler makes a few vector instructions of.
    u64::from_le_bytes(core::array::from_fn(|way| u8::from(bucket[way] == tag)))
}

/// The first of the words that [`matches`] found, 8 if none.
#[inline(always)]
fn first(ways: u64) -> usize {
    (ways.trailing_zeros() / 8) as usize
}

/// The first prime not below `n`.
fn next_prime(n: u64) -> u64 {
    let is_prime = |n: u64| {
        (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
    };
    (n.max(2)..).find(|&n| is_prime(n)).unwrap_or(n)
}

impl fmt::Debug for FlowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowTable")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .field("buckets", &self.buckets.len())
            .finish_non_exhaustive()
    }
}
