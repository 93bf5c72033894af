//! What is done with chains of segments: growing, trimming, cutting, sharing, reading.

use super::{BLOCK, Chain, NIL, Pool, Segment};

/// A place in a chain from which [`Pool::share_at`] and [`Pool::append_copy_at`] go on, so that sending a long queue
/// piece by piece does not walk it from the front each time.
///
/// It stays right while the chain is appended to, shared or split before it, and while bytes before it are pulled off
/// the front. Truncating the chain at or before it, making it contiguous, or pulling off the segment it stands in
/// ends it: start again with [`Pool::cursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    segment: u32,
    /// Within the block, not the segment: pulling bytes off the segment's front leaves it right.
    off: u16,
}

/// So many bytes are cheaper copied than kept in a block of their own.
const FEW: usize = BLOCK / 4;

impl Pool {
    /// Makes the first `n` bytes lie in the first segment, moving bytes if they do not. False, with nothing changed,
    /// if there are not that many, if they are more than [`BLOCK`], or if a block is needed and none is left.
    #[inline]
    pub fn make_contiguous(&mut self, chain: &mut Chain, n: usize) -> bool {
        self.first(chain).len() >= n || self.gather(chain, n)
    }

    #[cold]
    fn gather(&mut self, chain: &mut Chain, n: usize) -> bool {
        if n > chain.len() || n > BLOCK {
            return false;
        }
        let first = self.segments[chain.head as usize];
        let have = usize::from(first.len);
        if self.unique(&first) && first.tail_room() >= n - have {
            // The rest of the first block takes what is missing. Nothing after it describes the same block.
            let mut rest = Chain {
                head: first.next,
                tail: chain.tail,
                len: chain.len - u32::from(first.len),
            };
            let end = first.range().end;
            self.copy_bytes(&rest, n - have, end);
            self.pull_front(&mut rest, n - have);
            let segment = &mut self.segments[chain.head as usize];
            segment.len = n as u16;
            segment.next = rest.head;
            if rest.head == NIL {
                chain.tail = chain.head;
            }
            return true;
        }
        let off = usize::from(first.off).min(BLOCK - n);
        let Some(front) = self.new_block(off as u16) else {
            return false;
        };
        let start = self.segments[front as usize].range().start;
        self.copy_bytes(chain, n, start);
        let len = chain.len;
        self.pull_front(chain, n);
        self.segments[front as usize].len = n as u16;
        self.segments[front as usize].next = chain.head;
        if chain.head == NIL {
            chain.tail = front;
        }
        chain.head = front;
        chain.len = len;
        true
    }

    /// Copies the first `n` bytes of the chain to `to` among all the blocks' bytes.
    fn copy_bytes(&mut self, chain: &Chain, n: usize, to: usize) {
        let mut done = 0;
        let mut at = chain.head;
        while done < n {
            let segment = self.segments[at as usize];
            let mut from = segment.range();
            from.end = from.end.min(from.start + n - done);
            let count = from.len();
            self.bytes.copy_within(from, to + done);
            done += count;
            at = segment.next;
        }
    }

    /// Makes the `n` bytes before the first one part of the chain, to be filled in. None if there is not so much
    /// headroom or the block is shared.
    #[inline]
    pub fn push_front(&mut self, chain: &mut Chain, n: usize) -> Option<&mut [u8]> {
        if self.head_room(chain) < n || chain.head == NIL {
            return None;
        }
        let segment = &mut self.segments[chain.head as usize];
        segment.off -= n as u16;
        segment.len += n as u16;
        chain.len += n as u32;
        let start = segment.range().start;
        Some(self.bytes.part_mut(start..start + n))
    }

    /// As [`Pool::push_front`], but takes a new block with `headroom` bytes before the `n` if the first has no room
    /// or is shared. None if no block is left, or `headroom + n` is more than [`BLOCK`].
    pub fn prepend(&mut self, chain: &mut Chain, n: usize, headroom: usize) -> Option<&mut [u8]> {
        if self.head_room(chain) < n || chain.head == NIL {
            if headroom.checked_add(n)? > BLOCK {
                return None;
            }
            let front = self.new_block((headroom + n) as u16)?;
            self.segments[front as usize].next = chain.head;
            chain.head = front;
            if chain.tail == NIL {
                chain.tail = front;
            }
        }
        self.push_front(chain, n)
    }

    /// Makes the `n` bytes after the last one part of the chain, to be filled in. None if the last block has no such
    /// room or is shared.
    #[inline]
    pub fn push_back(&mut self, chain: &mut Chain, n: usize) -> Option<&mut [u8]> {
        if self.tail_room(chain) < n || chain.tail == NIL {
            return None;
        }
        let segment = &mut self.segments[chain.tail as usize];
        segment.len += n as u16;
        chain.len += n as u32;
        let end = segment.range().end;
        Some(self.bytes.part_mut(end - n..end))
    }

    /// Drops the first `n` bytes (all, if there are fewer), and the segments this empties.
    #[inline]
    pub fn pull_front(&mut self, chain: &mut Chain, n: usize) {
        debug_assert!(n <= chain.len(), "pulls {n} bytes off {}", chain.len());
        if n >= chain.len() {
            if n > 0 {
                self.free(chain.take());
            }
            return;
        }
        let mut left = n;
        while left > 0 || self.segments[chain.head as usize].len == 0 {
            let segment = &mut self.segments[chain.head as usize];
            let len = usize::from(segment.len);
            if left < len {
                segment.off += left as u16;
                segment.len -= left as u16;
                break;
            }
            if n == 0 {
                // An empty first segment is headroom somebody means to use.
                break;
            }
            left -= len;
            let next = segment.next;
            self.drop_segment(chain.head);
            chain.head = next;
        }
        chain.len -= n as u32;
    }

    /// Drops the last bytes so that at most `len` stay. Nothing, not even a block, stays for 0.
    pub fn truncate(&mut self, chain: &mut Chain, len: usize) {
        if len >= chain.len() {
            return;
        }
        if len == 0 {
            self.free(chain.take());
            return;
        }
        let (at, keep) = self.locate(chain, len);
        let segment = &mut self.segments[at as usize];
        segment.len = keep;
        let rest = core::mem::replace(&mut segment.next, NIL);
        if rest != NIL {
            self.free(Chain {
                head: rest,
                tail: chain.tail,
                len: chain.len - len as u32,
            });
        }
        chain.tail = at;
        chain.len = len as u32;
    }

    /// The segment with byte `n - 1` of the chain, and how many of the first `n` bytes are in it. `0 < n <= len`.
    #[inline]
    fn locate(&self, chain: &Chain, n: usize) -> (u32, u16) {
        let mut left = n;
        let mut at = chain.head;
        loop {
            let segment = &self.segments[at as usize];
            let len = usize::from(segment.len);
            if left <= len {
                return (at, left as u16);
            }
            left -= len;
            at = segment.next;
        }
    }

    /// Adds a copy of `bytes` at the end, in the last block if it is not shared and then in new ones. Returns how
    /// many were added: fewer when the pool has no more blocks.
    pub fn append_bytes(&mut self, chain: &mut Chain, bytes: &[u8]) -> usize {
        let mut left = bytes;
        loop {
            let n = left.len().min(self.tail_room(chain));
            if let Some(room) = self.push_back(chain, n) {
                let (now, later) = left.split_at(n);
                room.copy_from_slice(now);
                left = later;
            }
            if left.is_empty() {
                break;
            }
            let Some(block) = self.alloc(0) else { break };
            self.append(chain, block);
        }
        bytes.len() - left.len()
    }

    /// Adds a copy of `len` bytes of `from`, starting at `offset`, into the tail room of the last block. Returns how many
    /// were added: fewer when there is no more room or `from` ends before.
    pub fn append_copy(
        &mut self,
        chain: &mut Chain,
        from: &Chain,
        offset: usize,
        len: usize,
    ) -> usize {
        match self.cursor(from, offset) {
            Some(mut cursor) => self.append_copy_at(chain, &mut cursor, len),
            None => 0,
        }
    }

    /// As [`Pool::append_copy`] from the cursor on, which moves behind what was copied.
    pub fn append_copy_at(&mut self, chain: &mut Chain, from: &mut Cursor, len: usize) -> usize {
        let mut left = len.min(self.tail_room(chain));
        let wanted = left;
        while left > 0 {
            let segment = self.segments[from.segment as usize];
            let n = left.min(usize::from(
                (segment.off + segment.len).saturating_sub(from.off),
            ));
            if n == 0 {
                if segment.next == NIL {
                    break;
                }
                *from = self.front_of(segment.next);
                continue;
            }
            let start = segment.range().start + usize::from(from.off - segment.off);
            let end = self.segments[chain.tail as usize].range().end;
            self.bytes.copy_within(start..start + n, end);
            self.segments[chain.tail as usize].len += n as u16;
            chain.len += n as u32;
            from.off += n as u16;
            left -= n;
        }
        wanted - left
    }

    /// Puts `other` at the end.
    #[inline]
    pub fn append(&mut self, chain: &mut Chain, other: Chain) {
        if chain.head == NIL {
            *chain = other;
        } else if other.head != NIL {
            self.segments[chain.tail as usize].next = other.head;
            chain.tail = other.tail;
            chain.len += other.len;
        }
    }

    /// Takes the first `n` bytes off as a chain of their own; where the cut goes through a segment both share its
    /// block. None, with nothing changed, if there are not that many bytes or no segment is left for the cut.
    pub fn split_front(&mut self, chain: &mut Chain, n: usize) -> Option<Chain> {
        if n == 0 {
            return Some(Chain::EMPTY);
        }
        if n >= chain.len() {
            return if n == chain.len() {
                Some(chain.take())
            } else {
                None
            };
        }
        let (at, keep) = self.locate(chain, n);
        let segment = self.segments[at as usize];
        let mut rest = segment.next;
        if keep < segment.len {
            rest = self.new_reference(segment.block, segment.off + keep, segment.len - keep)?;
            self.segments[rest as usize].next = segment.next;
            if chain.tail == at {
                chain.tail = rest;
            }
        }
        self.segments[at as usize] = Segment {
            next: NIL,
            len: keep,
            ..segment
        };
        let front = Chain {
            head: chain.head,
            tail: at,
            len: n as u32,
        };
        chain.head = rest;
        chain.len -= n as u32;
        Some(front)
    }

    /// Moves the first `n` bytes of `from` behind those of `to`, and says where they begin there. What was one segment becomes one
    /// again: a block that is moved piece by piece takes no more segments than one that is moved at once. Few bytes are copied into
    /// the last block where they find room, so that they take none of their own. None, with nothing changed, if there are not that
    /// many bytes, or none are asked for, or no segment is left for a cut.
    pub fn move_front(&mut self, from: &mut Chain, to: &mut Chain, n: usize) -> Option<Cursor> {
        if n == 0 || n > from.len() {
            return None;
        }
        let first = self.segments[from.head as usize];
        let adjoins =
            |tail: &Segment| tail.block == first.block && tail.off + tail.len == first.off;
        let grown = match self.segments.get(to.tail as usize) {
            Some(tail) if adjoins(tail) => n.min(usize::from(first.len)),
            _ => 0,
        };
        if grown == 0 && n <= FEW && self.tail_room(to) >= n {
            let (segment, tail) = (to.tail, &self.segments[to.tail as usize]);
            let off = tail.off + tail.len;
            self.append_copy(to, from, 0, n);
            self.pull_front(from, n);
            return Some(Cursor { segment, off });
        }
        if grown < n && !self.has_segment() {
            return None;
        }
        let mut place = None;
        if grown > 0 {
            let segment = to.tail;
            self.segments[segment as usize].len += grown as u16;
            to.len += grown as u32;
            self.pull_front(from, grown);
            place = Some(Cursor {
                segment,
                off: first.off,
            });
        }
        if grown < n {
            let front = self.split_front(from, n - grown)?;
            place = place.or_else(|| self.cursor(&front, 0));
            self.append(to, front);
        }
        place
    }

    /// A second chain over `len` bytes from `offset` on, in the same blocks. None if the chain has not so many bytes
    /// or the pool not enough segments.
    #[inline]
    pub fn share(&mut self, chain: &Chain, offset: usize, len: usize) -> Option<Chain> {
        if len == 0 {
            return if offset <= chain.len() {
                Some(Chain::EMPTY)
            } else {
                None
            };
        }
        let mut cursor = self.cursor(chain, offset)?;
        self.share_at(chain, &mut cursor, len)
    }

    /// The place `offset` bytes into the chain. None if it is not that long, or holds no block.
    #[inline]
    pub fn cursor(&self, chain: &Chain, offset: usize) -> Option<Cursor> {
        if offset > chain.len() || chain.head == NIL {
            return None;
        }
        if offset == 0 {
            return Some(self.front_of(chain.head));
        }
        let (segment, inside) = self.locate(chain, offset);
        Some(Cursor {
            segment,
            off: self.segments[segment as usize].off + inside,
        })
    }

    #[inline]
    fn front_of(&self, segment: u32) -> Cursor {
        Cursor {
            segment,
            off: self.segments[segment as usize].off,
        }
    }

    /// The place `n` bytes behind the cursor, and how many segments had to be passed to get there. None if the chain ends
    /// before.
    pub fn seek(&self, cursor: &Cursor, n: usize) -> Option<(Cursor, usize)> {
        let (mut place, mut left, mut passed) = (*cursor, n, 0);
        loop {
            let segment = self.segments[place.segment as usize];
            let here = usize::from((segment.off + segment.len).saturating_sub(place.off));
            if left <= here {
                place.off += left as u16;
                return Some((place, passed));
            }
            if segment.next == NIL {
                return None;
            }
            left -= here;
            passed += 1;
            place = self.front_of(segment.next);
        }
    }

    /// As [`Pool::share`] from the cursor on, which moves behind the shared bytes. None, with the cursor unmoved, if
    /// fewer than `len` bytes follow it or the pool has not enough segments.
    pub fn share_at(&mut self, chain: &Chain, cursor: &mut Cursor, len: usize) -> Option<Chain> {
        let mut shared = Chain::EMPTY;
        if len > chain.len() {
            return None;
        }
        let mut place = *cursor;
        while shared.len() < len {
            let segment = self.segments[place.segment as usize];
            let end = segment.off + segment.len;
            let n = usize::from(end.saturating_sub(place.off)).min(len - shared.len());
            if n > 0 {
                let Some(at) = self.new_reference(segment.block, place.off, n as u16) else {
                    self.free(shared);
                    return None;
                };
                self.append(
                    &mut shared,
                    Chain {
                        head: at,
                        tail: at,
                        len: n as u32,
                    },
                );
                place.off += n as u16;
            } else if segment.next != NIL {
                place = self.front_of(segment.next);
            } else {
                self.free(shared);
                return None;
            }
        }
        *cursor = place;
        Some(shared)
    }

    /// Copies bytes from `offset` on into `out`; returns how many there were.
    pub fn copy_out(&self, chain: &Chain, offset: usize, out: &mut [u8]) -> usize {
        let mut skip = offset;
        let mut done = 0;
        for bytes in self.slices(chain) {
            if done == out.len() {
                break;
            }
            if skip >= bytes.len() {
                skip -= bytes.len();
                continue;
            }
            let bytes = &bytes[skip..];
            skip = 0;
            let n = bytes.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&bytes[..n]);
            done += n;
        }
        done
    }

    /// Overwrites bytes from `offset` on; returns how many there were. Their blocks must not be shared: it ends before one that is.
    pub fn copy_in(&mut self, chain: &Chain, offset: usize, bytes: &[u8]) -> usize {
        let mut skip = offset;
        let mut left = bytes;
        let mut at = chain.head;
        while at != NIL && !left.is_empty() {
            let segment = self.segments[at as usize];
            at = segment.next;
            let len = usize::from(segment.len);
            if skip >= len {
                skip -= len;
                continue;
            }
            if !self.unique(&segment) {
                break;
            }
            let (now, later) = left.split_at(left.len().min(len - skip));
            let start = segment.range().start + skip;
            let room = self.bytes.part_mut(start..start + now.len());
            room.copy_from_slice(now);
            left = later;
            skip = 0;
        }
        bytes.len() - left.len()
    }

    /// The segments' bytes in order, without empty ones.
    #[inline]
    pub fn slices<'a>(&'a self, chain: &Chain) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        Slices {
            pool: self,
            at: chain.head,
        }
    }

    /// Segments in the chain, counted by walking.
    pub fn segments(&self, chain: &Chain) -> usize {
        self.walk(chain).count()
    }

    /// Blocks the chain keeps from being free, counted by walking; a block shared by neighbours counts once.
    pub fn blocks_charged(&self, chain: &Chain) -> usize {
        let mut last = NIL;
        self.walk(chain)
            .filter(|s| core::mem::replace(&mut last, s.block) != s.block)
            .count()
    }

    fn walk(&self, chain: &Chain) -> impl Iterator<Item = &Segment> {
        core::iter::successors(self.segments.get(chain.head as usize), |s| {
            self.segments.get(s.next as usize)
        })
    }
}

struct Slices<'a> {
    pool: &'a Pool,
    at: u32,
}

impl<'a> Iterator for Slices<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        while self.at != NIL {
            let segment = &self.pool.segments[self.at as usize];
            self.at = segment.next;
            if segment.len > 0 {
                return Some(self.pool.bytes.part(segment.range()));
            }
        }
        None
    }
}
