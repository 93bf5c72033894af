//! Datagrams on their way between a shard and an application: their bytes behind one another, and a word about each.
//!
//! What does not live here: when they cross (`super`, `driver/udp.rs`), what the words say.
//!
//! Invariant: no datagram is allocated for once a queue has been as long as it gets: its memory is used again.
//! Invariant: an empty queue holds at most [`KEPT`] bytes and [`KEPT_WORDS`] words.

use std::collections::VecDeque;

/// Bytes that an empty queue keeps: one datagram of any size.
const KEPT: usize = 64 * 1024;
const KEPT_WORDS: usize = 256;

/// Room that a queue begins with.
const FIRST: usize = 512;

/// A queue of datagrams, or of orders with bytes or without.
#[derive(Debug)]
pub(crate) struct Parcels<T> {
    /// What is said of each, and how many bytes it has.
    words: VecDeque<(T, usize)>,
    /// Initialised, so that it is written without being cleared each time; `start..end` is queued.
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl<T> Default for Parcels<T> {
    fn default() -> Self {
        Self {
            words: VecDeque::new(),
            memory: Vec::new(),
            start: 0,
            end: 0,
        }
    }
}

impl<T> Parcels<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Room for `n` bytes behind those that are queued, to be filled before the [`Parcels::push`] that queues them.
    pub(crate) fn room(&mut self, n: usize) -> &mut [u8] {
        if self.memory.len() - self.end < n {
            self.make_room(n);
        }
        &mut self.memory[self.end..self.end + n]
    }

    #[cold]
    fn make_room(&mut self, n: usize) {
        self.memory.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let size = self.memory.len();
        // Half of it is free at least, so that what is moved was pushed since the last time.
        if size - self.end < n || self.end > size / 2 {
            let more = (2 * size).max(self.end + n).max(FIRST);
            self.memory.resize(more, 0);
        }
    }

    /// Queues a word, and as its bytes the first `n` of the room.
    pub(crate) fn push(&mut self, word: T, n: usize) {
        debug_assert!(n <= self.memory.len() - self.end);
        self.end += n;
        self.words.push_back((word, n));
    }

    /// The oldest word, and its bytes.
    pub(crate) fn front(&self) -> Option<(&T, &[u8])> {
        let (word, n) = self.words.front()?;
        Some((word, &self.memory[self.start..self.start + n]))
    }

    /// The youngest word.
    pub(crate) fn back_mut(&mut self) -> Option<&mut T> {
        self.words.back_mut().map(|(word, _)| word)
    }

    /// Takes the oldest word, and says how many bytes it had.
    pub(crate) fn pop(&mut self) -> Option<(T, usize)> {
        let (word, n) = self.words.pop_front()?;
        self.start += n;
        if self.words.is_empty() {
            self.rest();
        }
        Some((word, n))
    }

    /// It is empty.
    fn rest(&mut self) {
        (self.start, self.end) = (0, 0);
        if self.memory.len() > KEPT {
            self.memory.truncate(KEPT);
            self.memory.shrink_to_fit();
        }
        if self.words.capacity() > KEPT_WORDS {
            self.words.shrink_to(KEPT_WORDS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Rng;

    fn push(queue: &mut Parcels<usize>, word: usize, n: usize) {
        queue.room(n).fill(word as u8);
        queue.push(word, n);
    }

    #[test]
    fn words_keep_their_order_and_their_bytes() {
        let mut rng = Rng::from_seed(1);
        let mut queue = Parcels::default();
        let (mut first, mut next) = (0, 0);
        let mut lengths = Vec::new();
        for round in 0..20_000 {
            // Long and short by turns.
            if rng.below(100) < if round / 1000 % 2 == 0 { 70 } else { 30 } {
                let n = [0, 1, 100, 1472, 65_527][rng.below(5) as usize] as usize;
                push(&mut queue, next, n);
                lengths.push(n);
                next += 1;
            } else if let Some((&word, bytes)) = queue.front() {
                assert_eq!((word, bytes.len()), (first, lengths[first]));
                assert!(bytes.iter().all(|byte| *byte == first as u8));
                assert_eq!(queue.pop(), Some((first, lengths[first])));
                first += 1;
            } else {
                assert_eq!((queue.pop(), first), (None, next));
            }
        }
    }

    /// What goes to and fro stays where it is in memory.
    #[test]
    fn memory_is_used_again() {
        let mut queue = Parcels::default();
        for n in [1, 1472] {
            (0..40).for_each(|word| push(&mut queue, word, n));
            while queue.pop().is_some() {}
        }
        let (at, words) = (queue.memory.as_ptr(), queue.words.capacity());
        for round in 0..1000 {
            (0..1 + round % 15).for_each(|word| push(&mut queue, word, 1472));
            // Never quite empty, now and then.
            while queue.words.len() > round % 3 {
                queue.pop();
            }
        }
        assert_eq!((queue.memory.as_ptr(), queue.words.capacity()), (at, words));
    }

    #[test]
    fn an_empty_queue_holds_little() {
        let mut queue = Parcels::default();
        (0..4000).for_each(|word| push(&mut queue, word, 1472));
        assert!(queue.memory.len() <= 2 * 4000 * 1472);
        while queue.pop().is_some() {}
        assert!(queue.memory.capacity() <= KEPT && queue.words.capacity() <= KEPT_WORDS);
        push(&mut queue, 1, 100_000);
        assert_eq!(queue.front().unwrap().1.len(), 100_000);
    }
}
