//! A bounded table of records with stable indices, and keys that notice when a record has gone.
//!
//! Finding a record by its contents does not live here: see [`FlowTable`](crate::FlowTable).
//!
//! Invariant: a record never moves while it lives.
//! Invariant: the record of a dead key is not found, until 2^32 more records were inserted.
//! Invariant: a free slot costs its memory and four bytes; a slot in use four bytes besides the record, if `T` has a
//! niche (any `bool`, `enum`, reference or `NonZero` field in it).

#[cfg(test)]
mod tests;

use crate::pool::advise_huge;
use crate::prefetch;
use core::fmt;

/// The name of one record: never of another one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The slot.
    pub index: u32,
    /// Which of the slot's records.
    pub generation: u32,
}

const NIL: u32 = u32::MAX;

/// Up to a fixed number of `T`.
///
/// ```
/// use base::Slab;
///
/// let mut slab = Slab::with_capacity(1);
/// let key = slab.insert("one").expect("there is room");
/// assert_eq!(slab.insert("two"), None);
/// assert_eq!(slab.get(key), Some(&"one"));
/// slab.remove(key);
/// slab.insert("two");
/// assert_eq!(slab.get(key), None, "the place is another's now");
/// ```
pub struct Slab<T> {
    records: Vec<Option<T>>,
    /// For a slot in use, its record's generation; for a free one, the next free slot.
    words: Vec<u32>,
    free: u32,
    len: u32,
    capacity: u32,
    /// One count for all slots: no slot repeats a generation before all of them did.
    generation: u32,
}

impl<T> Slab<T> {
    /// Bytes of memory for each record.
    pub const RECORD_BYTES: usize = size_of::<Option<T>>() + size_of::<u32>();

    /// Reserves memory for `capacity` records (at most `u32::MAX - 1`), touching none of it.
    pub fn with_capacity(capacity: u32) -> Slab<T> {
        let capacity = capacity.min(NIL - 1);
        let mut records = Vec::with_capacity(capacity as usize);
        let mut words = Vec::with_capacity(capacity as usize);
        advise_huge(records.spare_capacity_mut());
        advise_huge(words.spare_capacity_mut());
        Slab {
            records,
            words,
            free: NIL,
            len: 0,
            capacity,
            generation: 0,
        }
    }

    /// Records in it.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is room for no more.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    /// The most records it takes.
    #[inline]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The most records that were in it at once.
    #[inline]
    pub fn high_water(&self) -> u32 {
        self.records.len() as u32
    }

    /// Adds a record. None, and the record is dropped, if it is full.
    #[inline]
    pub fn insert(&mut self, record: T) -> Option<Key> {
        self.insert_with(|_| record)
    }

    /// Adds the record made for its key. None, and nothing is made, if it is full.
    #[inline]
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Option<Key> {
        let generation = self.generation;
        let key = if self.free != NIL {
            let key = Key {
                index: self.free,
                generation,
            };
            let record = make(key);
            let slot = key.index as usize;
            self.free = core::mem::replace(&mut self.words[slot], generation);
            self.records[slot] = Some(record);
            key
        } else if self.len < self.capacity {
            let key = Key {
                index: self.len,
                generation,
            };
            let record = make(key);
            self.records.push(Some(record));
            self.words.push(generation);
            key
        } else {
            return None;
        };
        self.generation = generation.wrapping_add(1);
        self.len += 1;
        Some(key)
    }

    /// Takes a record out.
    #[inline]
    pub fn remove(&mut self, key: Key) -> Option<T> {
        if self.words.get(key.index as usize) == Some(&key.generation) {
            self.remove_at(key.index)
        } else {
            None
        }
    }

    /// Takes the record in this slot out.
    #[inline]
    pub fn remove_at(&mut self, index: u32) -> Option<T> {
        let record = self.records.get_mut(index as usize)?.take()?;
        self.words[index as usize] = self.free;
        self.free = index;
        self.len -= 1;
        Some(record)
    }

    /// The record of this key.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        // A free slot's link may look like the generation, but then there is no record.
        let record = self.records.get(key.index as usize)?.as_ref()?;
        if self.words[key.index as usize] == key.generation {
            Some(record)
        } else {
            None
        }
    }

    /// The record of this key, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let record = self.records.get_mut(key.index as usize)?.as_mut()?;
        if self.words[key.index as usize] == key.generation {
            Some(record)
        } else {
            None
        }
    }

    /// The record in this slot: for indices known to be alive, without the second cache line the generation is in.
    #[inline]
    pub fn at(&self, index: u32) -> Option<&T> {
        self.records.get(index as usize)?.as_ref()
    }

    /// The record in this slot, to be changed.
    #[inline]
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.records.get_mut(index as usize)?.as_mut()
    }

    /// The key of the record in this slot.
    #[inline]
    pub fn key_of(&self, index: u32) -> Option<Key> {
        self.at(index)?;
        Some(Key {
            index,
            generation: self.words[index as usize],
        })
    }

    /// Every record, in order of slots. It visits every slot ever used: for tools and shutdown only.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let slots = self.records.iter().zip(&self.words).enumerate();
        slots.filter_map(|(index, (record, &generation))| {
            Some((
                Key {
                    index: index as u32,
                    generation,
                },
                record.as_ref()?,
            ))
        })
    }

    /// Asks for the record in this slot (its first four cache lines) ahead of reading it.
    #[inline]
    pub fn prefetch(&self, index: u32) {
        prefetch::element(&self.records, index as usize, 256);
    }

    /// Asks for the generation of this slot, ahead of asking for its key.
    #[inline]
    pub fn prefetch_key(&self, index: u32) {
        prefetch::element(&self.words, index as usize, 4);
    }
}

impl<T> fmt::Debug for Slab<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
