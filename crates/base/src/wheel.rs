//! A hierarchical timing wheel: any number of timers, each operation in constant time.
//!
//! What a timer means, and reading a clock, does not live here.
//!
//! Eight levels of 64 slots: a slot of level 0 is one tick (2^16 ns, 66 us), a slot of level *n* as long as all of
//! level *n - 1*, and level 7 reaches the end of time. A timer waits in the level of the highest digit (base 64) in
//! which its tick differs from the current one, and moves down when its slot's time has come. A slot is a list of
//! nodes linked by index; a bit for each slot says whether it has any.
//!
//! Invariant: a timer never fires early: its deadline is rounded up to a tick.
//! Invariant: every slot in use at level *n* lies in the slot of level *n + 1* that holds the current tick, after the
//! current slot of level *n*; or is that slot itself, while its nodes are being moved down.
//! Invariant: a node's slot starts no later than its deadline's tick. It may start earlier: a deadline moved to later
//! moves the node only when its old time comes, so that what is moved all the time costs one store each.

#[cfg(test)]
mod tests;

use crate::pool::advise_huge;
use crate::prefetch;
use crate::time::Instant;
use core::fmt;

const TICK_BITS: u32 = 16;
const LEVELS: usize = 8;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// Ticks fit in the digits of all levels; what would not is never.
const END_OF_TIME: u64 = 1 << (SLOT_BITS * LEVELS as u32);

/// How many nodes one [`Wheel::pop_expired`] moves down at most.
const MOVES: u32 = 256;

const NIL: u32 = u32::MAX;
/// In a node's `prev`: it is the first of the slot in the other bits, or in none.
const FIRST: u32 = 1 << 31;
/// In no slot, because its deadline is never.
const PARKED: u32 = u32::MAX - 1;
/// In no slot, because it is not in use.
const UNUSED: u32 = u32::MAX;

/// The name of an armed timer, until it fires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId(u32);

impl TimerId {
    /// No timer.
    pub const NONE: TimerId = TimerId(NIL);

    /// Whether this is [`TimerId::NONE`].
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == NIL
    }

    /// Whether this names a timer.
    #[inline]
    pub const fn is_some(self) -> bool {
        self.0 != NIL
    }
}

impl Default for TimerId {
    fn default() -> Self {
        TimerId::NONE
    }
}

struct Node {
    at: Instant,
    token: u64,
    next: u32,
    prev: u32,
}

/// Timers of one shard.
///
/// ```
/// use base::{Instant, Wheel};
///
/// let mut wheel = Wheel::with_capacity(16);
/// let timer = wheel.arm(Instant::from_millis(200), 7).expect("there is room");
/// assert_eq!(wheel.pop_expired(Instant::from_millis(199)), None);
/// wheel.rearm(timer, Instant::from_millis(300));
/// assert!(wheel.next_deadline() <= Some(Instant::from_millis(300)), "look again then, at the latest");
/// assert_eq!(wheel.pop_expired(Instant::from_millis(301)), Some(7), "its token, within a tick");
/// ```
pub struct Wheel {
    nodes: Vec<Node>,
    capacity: u32,
    free: u32,
    len: u32,
    /// Everything before this tick has fired.
    now: u64,
    /// Levels with any slot in use.
    levels: u32,
    /// Slots in use, level by level.
    occupied: [u64; LEVELS],
    /// The first node of every slot.
    first: [u32; LEVELS * SLOTS],
}

/// A tick's slot, by level and digit.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    level: u32,
    digit: u32,
}

impl Slot {
    #[inline(always)]
    fn index(self) -> usize {
        (self.level as usize % LEVELS) * SLOTS + self.digit as usize % SLOTS
    }
}

/// The first tick not before `at`.
#[inline(always)]
fn tick(at: Instant) -> u64 {
    let nanos = at.nanos();
    (nanos >> TICK_BITS) + u64::from(nanos & ((1 << TICK_BITS) - 1) != 0)
}

impl Wheel {
    /// The length of a tick in nanoseconds.
    pub const TICK: u64 = 1 << TICK_BITS;

    /// Reserves memory for `capacity` timers (at most 2^31 - 2), touching none of it.
    pub fn with_capacity(capacity: u32) -> Wheel {
        let capacity = capacity.min(FIRST - 2);
        let mut nodes = Vec::with_capacity(capacity as usize);
        advise_huge(nodes.spare_capacity_mut());
        let first = [NIL; LEVELS * SLOTS];
        Wheel {
            nodes,
            capacity,
            free: NIL,
            len: 0,
            now: 0,
            levels: 0,
            occupied: [0; LEVELS],
            first,
        }
    }

    /// Timers armed.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether none is armed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most timers it takes.
    #[inline]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Arms a timer that gives `token` back at `at`; at once if that has passed, never for [`Instant::FAR`]. None if
    /// there are too many.
    #[inline]
    pub fn arm(&mut self, at: Instant, token: u64) -> Option<TimerId> {
        let node = Node {
            at,
            token,
            next: NIL,
            prev: PARKED,
        };
        let id = if self.free != NIL {
            let id = self.free;
            let place = &mut self.nodes[id as usize];
            self.free = place.next;
            *place = node;
            id
        } else if self.len < self.capacity {
            self.nodes.push(node);
            self.len
        } else {
            return None;
        };
        self.len += 1;
        self.place(id);
        Some(TimerId(id))
    }

    /// Moves a timer to another time. False if it is not armed.
    #[inline]
    pub fn rearm(&mut self, id: TimerId, at: Instant) -> bool {
        let Some(node) = self.nodes.get_mut(id.0 as usize) else {
            return false;
        };
        if node.prev == UNUSED {
            return false;
        }
        let later = at >= node.at && node.prev != PARKED && tick(at) < END_OF_TIME;
        node.at = at;
        if !later {
            self.unlink(id.0);
            self.place(id.0);
        }
        true
    }

    /// Disarms a timer; its token, if it was armed.
    #[inline]
    pub fn cancel(&mut self, id: TimerId) -> Option<u64> {
        self.node(id)?;
        self.unlink(id.0);
        Some(self.release(id.0))
    }

    /// When a timer will fire, to the nanosecond it was armed for.
    #[inline]
    pub fn deadline(&self, id: TimerId) -> Option<Instant> {
        Some(self.node(id)?.at)
    }

    /// What a timer will give back.
    #[inline]
    pub fn token(&self, id: TimerId) -> Option<u64> {
        Some(self.node(id)?.token)
    }

    /// Asks for a timer's node ahead of moving it.
    #[inline]
    pub fn prefetch(&self, id: TimerId) {
        prefetch::element(&self.nodes, id.0 as usize, 1);
    }

    /// Takes one timer whose time has come, and gives its token. The timer is gone by then, so that the caller may
    /// arm it anew; one armed for the past is given in the same run.
    ///
    /// `now` must not go backwards. None if nothing is due. Also None after moving 256 nodes down from a long
    /// slot without coming upon one that is due, so that no turn waits for ten million of them: then
    /// [`Wheel::next_deadline`] is not after `now`, and the next call goes on.
    #[inline]
    pub fn pop_expired(&mut self, now: Instant) -> Option<u64> {
        let now = (now.nanos() >> TICK_BITS).max(self.now);
        let mut moves = MOVES;
        while let Some((slot, start)) = self.due(now) {
            self.now = self.now.max(start);
            let id = self.first[slot.index()];
            self.unlink(id);
            if slot.level == 0 && tick(self.nodes[id as usize].at) <= self.now {
                return Some(self.release(id));
            }
            self.place(id);
            moves -= 1;
            if moves == 0 {
                return None;
            }
        }
        // Every slot in use starts after `now`, so the invariants hold there too.
        self.now = now;
        None
    }

    /// When [`Wheel::pop_expired`] has something to do next: for a far timer, or one that was moved to later, that
    /// may be before its deadline; never after it (rounded up to the tick). None if no timer is armed but for never.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        let mut next = END_OF_TIME;
        let mut levels = self.levels;
        while levels != 0 {
            let level = levels.trailing_zeros();
            levels &= levels - 1;
            next = next.min(self.start(self.next_slot(level)));
        }
        if next == END_OF_TIME {
            None
        } else {
            Some(Instant::from_nanos(next << TICK_BITS))
        }
    }

    /// A slot that has begun by `now`, the lowest level first, and its start.
    #[inline]
    fn due(&self, now: u64) -> Option<(Slot, u64)> {
        let mut levels = self.levels;
        while levels != 0 {
            let slot = self.next_slot(levels.trailing_zeros());
            let start = self.start(slot);
            if start <= now {
                return Some((slot, start));
            }
            levels &= levels - 1;
        }
        None
    }

    /// The earliest slot in use of a level that has any.
    #[inline(always)]
    fn next_slot(&self, level: u32) -> Slot {
        Slot {
            level,
            digit: self.occupied[level as usize % LEVELS].trailing_zeros(),
        }
    }

    /// The first tick of a slot in use.
    #[inline(always)]
    fn start(&self, slot: Slot) -> u64 {
        let shift = slot.level * SLOT_BITS;
        let above = self.now >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
        above | u64::from(slot.digit) << shift
    }

    #[inline(always)]
    fn node(&self, id: TimerId) -> Option<&Node> {
        self.nodes
            .get(id.0 as usize)
            .filter(|node| node.prev != UNUSED)
    }

    /// Links a node into the slot of its deadline.
    #[inline]
    fn place(&mut self, id: u32) {
        let at = tick(self.nodes[id as usize].at).max(self.now);
        if at >= END_OF_TIME {
            self.nodes[id as usize].prev = PARKED;
            return;
        }
        let level = ((at ^ self.now) | 1).ilog2() / SLOT_BITS;
        let slot = Slot {
            level,
            digit: (at >> (level * SLOT_BITS)) as u32 % SLOTS as u32,
        };
        let next = core::mem::replace(&mut self.first[slot.index()], id);
        if next == NIL {
            self.occupied[level as usize % LEVELS] |= 1 << slot.digit;
            self.levels |= 1 << level;
        } else {
            self.nodes[next as usize].prev = id;
        }
        let node = &mut self.nodes[id as usize];
        node.next = next;
        node.prev = FIRST | slot.index() as u32;
    }

    /// Takes a node out of its slot, if it is in one.
    #[inline]
    fn unlink(&mut self, id: u32) {
        let &Node { next, prev, .. } = &self.nodes[id as usize];
        if prev == PARKED {
            return;
        }
        if let Some(after) = self.nodes.get_mut(next as usize) {
            after.prev = prev;
        }
        if prev & FIRST == 0 {
            self.nodes[prev as usize].next = next;
            return;
        }
        let index = (prev & !FIRST) as usize % (LEVELS * SLOTS);
        self.first[index] = next;
        if next == NIL {
            let level = index / SLOTS;
            self.occupied[level] &= !(1 << (index % SLOTS));
            if self.occupied[level] == 0 {
                self.levels &= !(1 << level);
            }
        }
    }

    /// Frees an unlinked node, and gives its token.
    #[inline]
    fn release(&mut self, id: u32) -> u64 {
        let node = &mut self.nodes[id as usize];
        node.next = self.free;
        node.prev = UNUSED;
        self.free = id;
        self.len -= 1;
        node.token
    }
}

impl fmt::Debug for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
