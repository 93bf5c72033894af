//! Owned runs of bytes on their way between a shard and an application.
//!
//! What does not live here: packet memory, which belongs to one shard; how some of it is lent (`lent`).
//!
//! Invariant: memory held by a queue of chunks is at most about twice its bytes plus one small chunk: bytes that do not fill
//! half of a large chunk are moved to a smaller one.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Mutex;

use super::given::Payload;
use super::lent::Lent;
use crate::mailbox::lock;

/// Bytes of a large chunk: one super-frame.
pub(crate) const LARGE: usize = 64 * 1024;

/// Up to this many bytes are worth copying to share a chunk with their neighbours.
pub(crate) const SMALL: usize = 4 * 1024;

/// Large chunks kept for reuse by one host; above that they go back to the allocator.
const KEPT: usize = 64;

/// Bytes `start..end` of an owned buffer, or of one that was given, or bytes that are lent.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// If there is anything, the buffer is empty.
    held: Option<Held>,
}

/// What is not the queue's own.
#[derive(Debug)]
enum Held {
    Lent(Box<Lent>),
    Given(Box<dyn Payload>),
}

impl Chunk {
    /// A chunk of an owned buffer.
    fn own(buffer: Vec<u8>, end: usize) -> Self {
        Self {
            buffer,
            start: 0,
            end,
            held: None,
        }
    }

    /// The first `end` bytes of a buffer that was given.
    pub(crate) fn given(given: Box<dyn Payload>, end: usize) -> Self {
        Self {
            end,
            held: Some(Held::Given(given)),
            ..Self::default()
        }
    }

    /// A chunk of what is lent.
    pub(crate) fn lent(lent: Lent) -> Self {
        Self {
            held: Some(Held::Lent(Box::new(lent))),
            ..Self::default()
        }
    }

    /// Whether the bytes are in packet memory.
    pub(crate) fn is_lent(&self) -> bool {
        matches!(self.held, Some(Held::Lent(_)))
    }

    /// The bytes; of what is lent, the first run of them.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.held {
            Some(Held::Lent(lent)) => lent.bytes(),
            // The buffer is a stranger's, and may have become shorter.
            Some(Held::Given(given)) => given.bytes().get(self.start..self.end).unwrap_or(&[]),
            None => &self.buffer[self.start..self.end],
        }
    }

    /// All bytes, run by run.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let (lent, own) = match &self.held {
            Some(Held::Lent(lent)) => (Some(lent), None),
            _ => (None, Some(self.bytes()).filter(|own| !own.is_empty())),
        };
        let lent = lent.into_iter().flat_map(|lent| lent.slices());
        own.into_iter().chain(lent)
    }

    /// How many bytes are left.
    pub(crate) fn len(&self) -> usize {
        match &self.held {
            Some(Held::Lent(lent)) => lent.len(),
            _ => self.end - self.start,
        }
    }

    /// Drops the first `n` bytes of the first run.
    pub(crate) fn advance(&mut self, n: usize) {
        match &mut self.held {
            Some(Held::Lent(lent)) => lent.advance(n),
            _ => self.start += n,
        }
        debug_assert!(self.start <= self.end);
    }

    /// All memory behind the bytes, to be filled from its beginning.
    pub(crate) fn whole(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Says that the first `n` bytes of the memory are now the data.
    pub(crate) fn filled(&mut self, n: usize) {
        debug_assert!(n <= self.buffer.len());
        self.start = 0;
        self.end = n;
    }

    /// Appends bytes if they fit without moving memory.
    fn append(&mut self, bytes: &[u8]) -> bool {
        if self.held.is_some() {
            return false;
        }
        let fits_initialised = self.buffer.len() - self.end >= bytes.len();
        if fits_initialised {
            self.buffer[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        } else if self.end == self.buffer.len() && self.buffer.capacity() - self.end >= bytes.len()
        {
            self.buffer.extend_from_slice(bytes);
        } else {
            return false;
        }
        self.end += bytes.len();
        true
    }
}

/// Large chunks that wait for their next use, shared by the shard and the applications of one host.
#[derive(Debug, Default)]
pub(crate) struct ChunkPool {
    free: Mutex<Vec<Chunk>>,
}

impl ChunkPool {
    /// An empty large chunk, its memory initialised.
    pub(crate) fn large(&self) -> Chunk {
        let kept = lock(&self.free).pop();
        kept.unwrap_or_else(|| Chunk::own(vec![0; LARGE], 0))
    }

    /// Gives a chunk back.
    pub(crate) fn recycle(&self, mut chunk: Chunk) {
        if chunk.buffer.len() < LARGE {
            return;
        }
        chunk.start = 0;
        chunk.end = 0;
        let mut free = lock(&self.free);
        if free.len() < KEPT {
            free.push(chunk);
        }
    }

    /// A chunk with a copy of `bytes` (at most [`LARGE`]).
    pub(crate) fn copy_of(&self, bytes: &[u8]) -> Chunk {
        if bytes.len() > LARGE / 2 {
            let mut chunk = self.large();
            chunk.whole()[..bytes.len()].copy_from_slice(bytes);
            chunk.filled(bytes.len());
            return chunk;
        }
        let mut buffer = Vec::with_capacity(bytes.len());
        buffer.extend_from_slice(bytes);
        let end = buffer.len();
        Chunk::own(buffer, end)
    }
}

/// A queue of bytes made of chunks.
#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    chunks: VecDeque<Chunk>,
}

impl ByteQueue {
    /// Whether no byte is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Queues a chunk; an empty one comes back.
    pub(crate) fn push(&mut self, chunk: Chunk) -> Option<Chunk> {
        if chunk.len() == 0 {
            return Some(chunk);
        }
        self.chunks.push_back(chunk);
        None
    }

    /// Queues a copy of at most [`SMALL`] bytes, sharing the last chunk if it has room.
    pub(crate) fn push_small(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= SMALL);
        if bytes.is_empty()
            || self
                .chunks
                .back_mut()
                .is_some_and(|last| last.append(bytes))
        {
            return;
        }
        // The first bytes of a queue get what they need; a queue that grows by small pieces shares chunks.
        let capacity = if self.chunks.is_empty() {
            bytes.len()
        } else {
            SMALL
        };
        let mut buffer = Vec::with_capacity(capacity);
        buffer.extend_from_slice(bytes);
        let end = buffer.len();
        self.chunks.push_back(Chunk::own(buffer, end));
    }

    /// The same bytes again.
    pub(crate) fn copy(&self) -> Self {
        let copies = self.chunks.iter().map(|chunk| {
            let bytes: Vec<u8> = chunk.slices().flatten().copied().collect();
            Chunk::own(bytes, chunk.len())
        });
        Self {
            chunks: copies.collect(),
        }
    }

    /// Moves everything from `other` to the end.
    pub(crate) fn append(&mut self, other: &mut ByteQueue) {
        if self.chunks.is_empty() {
            std::mem::swap(&mut self.chunks, &mut other.chunks);
        } else {
            self.chunks.append(&mut other.chunks);
        }
    }

    /// The first run of bytes; empty if none is queued.
    pub(crate) fn first(&self) -> &[u8] {
        self.chunks.front().map_or(&[], Chunk::bytes)
    }

    /// Drops `n` bytes of the first run, giving its chunk back when that was all of it.
    pub(crate) fn advance(&mut self, n: usize, pool: &ChunkPool) {
        let Some(chunk) = self.chunks.front_mut() else {
            return;
        };
        chunk.advance(n);
        if chunk.len() == 0
            && let Some(done) = self.chunks.pop_front()
        {
            pool.recycle(done);
        }
    }

    /// Takes the first chunk.
    pub(crate) fn pop(&mut self) -> Option<Chunk> {
        self.chunks.pop_front()
    }

    /// Copies bytes into `into` and drops them; returns how many.
    pub(crate) fn read(&mut self, into: &mut [IoSliceMut<'_>], pool: &ChunkPool) -> usize {
        let mut total = 0;
        for target in into {
            let mut at = 0;
            while at < target.len() {
                let first = self.first();
                let n = first.len().min(target.len() - at);
                if n == 0 {
                    return total;
                }
                target[at..at + n].copy_from_slice(&first[..n]);
                self.advance(n, pool);
                at += n;
                total += n;
            }
        }
        total
    }

    /// Copies bytes into `into` and keeps them; returns how many.
    pub(crate) fn peek(&self, into: &mut [u8]) -> usize {
        let mut at = 0;
        for bytes in self.chunks.iter().flat_map(Chunk::slices) {
            let n = bytes.len().min(into.len() - at);
            into[at..at + n].copy_from_slice(&bytes[..n]);
            at += n;
            if at == into.len() {
                break;
            }
        }
        at
    }

    /// Forgets everything; returns how many bytes that were.
    pub(crate) fn clear(&mut self, pool: &ChunkPool) -> usize {
        let mut total = 0;
        for chunk in self.chunks.drain(..) {
            total += chunk.len();
            pool.recycle(chunk);
        }
        total
    }

    /// Bytes queued. Walks the chunks.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(Chunk::len).sum()
    }

    /// Memory behind the queue. Walks the chunks.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.chunks
            .iter()
            .map(|chunk| chunk.buffer.capacity())
            .sum()
    }
}

/// Copies the first `n` bytes of `from` into chunks at the end of `into`.
pub(crate) fn gather(from: &[IoSlice<'_>], n: usize, pool: &ChunkPool, into: &mut ByteQueue) {
    let mut left = n;
    // One large run is the common case: no second copy to fill chunks to the brim.
    for slice in from {
        for piece in slice[..slice.len().min(left)].chunks(LARGE) {
            left -= piece.len();
            if piece.len() <= SMALL {
                into.push_small(piece);
            } else {
                into.push(pool.copy_of(piece));
            }
        }
        if left == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_order() {
        let pool = ChunkPool::default();
        let mut queue = ByteQueue::default();
        let mut expected = Vec::new();
        for (round, size) in [1usize, 10, 4096, 5000, 40_000, 65_536, 3, 200_000, 64]
            .into_iter()
            .enumerate()
        {
            let data: Vec<u8> = (0..size).map(|n| (n * 7 + round) as u8).collect();
            gather(&[IoSlice::new(&data)], size, &pool, &mut queue);
            expected.extend_from_slice(&data);
        }
        assert_eq!(queue.len(), expected.len());
        let mut peeked = vec![0; 70_000];
        assert_eq!(queue.peek(&mut peeked), 70_000);
        assert_eq!(peeked, expected[..70_000]);
        let mut got = Vec::new();
        let mut buffer = [0u8; 777];
        loop {
            let n = queue.read(&mut [IoSliceMut::new(&mut buffer)], &pool);
            if n == 0 {
                break;
            }
            got.extend_from_slice(&buffer[..n]);
        }
        assert!(got == expected);
    }

    #[test]
    fn memory_follows_bytes() {
        let pool = ChunkPool::default();
        for size in [1, 64, 1448, 5_000, 20_000, 33_000] {
            let mut queue = ByteQueue::default();
            let mut bytes = 0;
            while bytes < 500_000 {
                let mut chunk = pool.large();
                chunk.filled(size);
                if size <= SMALL {
                    queue.push_small(chunk.bytes());
                } else {
                    queue.push(pool.copy_of(chunk.bytes()));
                }
                pool.recycle(chunk);
                bytes += size;
            }
            assert_eq!(queue.len(), bytes);
            assert!(
                queue.memory() <= 2 * bytes + 2 * SMALL,
                "{size}: {} for {bytes}",
                queue.memory()
            );
        }
    }

    #[test]
    fn pool_is_bounded() {
        let pool = ChunkPool::default();
        let all: Vec<_> = (0..2 * KEPT).map(|_| pool.large()).collect();
        for chunk in all {
            pool.recycle(chunk);
        }
        assert_eq!(lock(&pool.free).len(), KEPT);
    }

    #[test]
    fn gather_stops_at_its_limit() {
        let pool = ChunkPool::default();
        let mut queue = ByteQueue::default();
        gather(
            &[
                IoSlice::new(b"hello "),
                IoSlice::new(b""),
                IoSlice::new(b"world"),
            ],
            8,
            &pool,
            &mut queue,
        );
        let mut out = [0; 16];
        assert_eq!(queue.peek(&mut out), 8);
        assert_eq!(&out[..8], b"hello wo");
    }
}
