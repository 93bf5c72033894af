//! What is wanted of a source, and how it is to be told.

use std::fmt;
use std::num::NonZeroU8;
use std::ops::{BitOr, BitOrAssign};

use base::epoll::{EPOLLET, EPOLLEXCLUSIVE, EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLPRI, EPOLLRDHUP};

/// What is wanted of a source: one or more of [`Interest::READABLE`], [`Interest::WRITABLE`] and [`Interest::PRIORITY`]; and how
/// it is told: as an edge, unless one of the methods says otherwise. Errors and the end of both directions are told in any case.
///
/// ```
/// use millstream::Interest;
///
/// let both = Interest::READABLE | Interest::WRITABLE;
/// assert!(both.is_readable() && both.is_writable());
/// assert_eq!(both, Interest::READABLE.add(Interest::WRITABLE));
/// assert_eq!(both.remove(Interest::WRITABLE), Some(Interest::READABLE));
/// assert!(both.level().one_shot().is_level());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interest(NonZeroU8);

const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
const PRIORITY: u8 = 4;
const KINDS: u8 = READABLE | WRITABLE | PRIORITY;
const LEVEL: u8 = 8;
const ONE_SHOT: u8 = 16;
const EXCLUSIVE: u8 = 32;

const fn kind(bits: u8) -> Interest {
    match NonZeroU8::new(bits) {
        Some(bits) => Interest(bits),
        None => unreachable!(),
    }
}

impl Interest {
    /// Data, a connection to accept, or an end can be read (EPOLLIN and EPOLLRDHUP).
    pub const READABLE: Self = kind(READABLE);
    /// There is room to write, or an attempt to connect has ended (EPOLLOUT).
    pub const WRITABLE: Self = kind(WRITABLE);
    /// Urgent data (EPOLLPRI). Sockets in foreign threads read it in line, so this is never told.
    pub const PRIORITY: Self = kind(PRIORITY);

    const fn with(self, bits: u8) -> Self {
        Self(self.0.saturating_add(bits & !self.0.get()))
    }

    const fn has(self, bits: u8) -> bool {
        self.0.get() & bits != 0
    }

    /// Both, as `|`. What one of them says of how, holds.
    #[must_use = "it is a new value"]
    #[allow(clippy::should_implement_trait)]
    pub const fn add(self, other: Self) -> Self {
        self.with(other.0.get())
    }

    /// Without what `other` wants; `None` when nothing is left. How it is told stays.
    #[must_use = "it is a new value"]
    pub fn remove(self, other: Self) -> Option<Self> {
        let left = self.0.get() & !(other.0.get() & KINDS);
        if left & KINDS == 0 {
            return None;
        }
        NonZeroU8::new(left).map(Self)
    }

    /// Told as long as it lasts (no EPOLLET): whoever takes less than there is hears again.
    #[must_use = "it is a new value"]
    pub const fn level(self) -> Self {
        self.with(LEVEL)
    }

    /// Told once each time something happens (EPOLLET), as at first: whoever takes less than there is does not hear of the rest.
    #[must_use = "it is a new value"]
    pub const fn edge(self) -> Self {
        // There always is a kind.
        match NonZeroU8::new(self.0.get() & !LEVEL) {
            Some(bits) => Self(bits),
            None => self,
        }
    }

    /// Told once, and then no more until [`Registry::reregister`](crate::Registry::reregister) (EPOLLONESHOT).
    #[must_use = "it is a new value"]
    pub const fn one_shot(self) -> Self {
        self.with(ONE_SHOT)
    }

    /// Of several polls that watch a source like this, one that is waited for is told, and not all of them (EPOLLEXCLUSIVE). Not
    /// with [`Interest::PRIORITY`] or [`Interest::one_shot`]; the peer's end is told as readable only; cannot be changed.
    #[must_use = "it is a new value"]
    pub const fn exclusive(self) -> Self {
        self.with(EXCLUSIVE)
    }

    /// Whether readable is wanted.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.has(READABLE)
    }

    /// Whether writable is wanted.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.has(WRITABLE)
    }

    /// Whether urgent data is wanted.
    #[must_use]
    pub const fn is_priority(self) -> bool {
        self.has(PRIORITY)
    }

    /// Whether it is told as long as it lasts.
    #[must_use]
    pub const fn is_level(self) -> bool {
        self.has(LEVEL)
    }

    /// Whether it is told once.
    #[must_use]
    pub const fn is_one_shot(self) -> bool {
        self.has(ONE_SHOT)
    }

    /// Whether one of several polls is told.
    #[must_use]
    pub const fn is_exclusive(self) -> bool {
        self.has(EXCLUSIVE)
    }

    /// As epoll_ctl takes it.
    pub(super) fn bits(self) -> u32 {
        // epoll refuses EPOLLRDHUP with EPOLLEXCLUSIVE.
        let read = if self.is_exclusive() {
            EPOLLIN
        } else {
            EPOLLIN | EPOLLRDHUP
        };
        [
            (self.is_readable(), read),
            (self.is_writable(), EPOLLOUT),
            (self.is_priority(), EPOLLPRI),
            (!self.is_level(), EPOLLET),
            (self.is_one_shot(), EPOLLONESHOT),
            (self.is_exclusive(), EPOLLEXCLUSIVE),
        ]
        .into_iter()
        .fold(0, |all, (set, bits)| if set { all | bits } else { all })
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.add(other)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.add(other);
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (READABLE, "READABLE"),
            (WRITABLE, "WRITABLE"),
            (PRIORITY, "PRIORITY"),
            (LEVEL, "LEVEL"),
            (ONE_SHOT, "ONE_SHOT"),
            (EXCLUSIVE, "EXCLUSIVE"),
        ];
        let mut parts = names.iter().filter(|(bit, _)| self.has(*bit));
        if let Some((_, first)) = parts.next() {
            f.write_str(first)?;
        }
        parts.try_for_each(|(_, name)| write!(f, " | {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_and_the_ways_are_epolls() {
        let edge = Interest::READABLE;
        assert_eq!(edge.bits(), EPOLLIN | EPOLLRDHUP | EPOLLET);
        assert_eq!(Interest::WRITABLE.level().bits(), EPOLLOUT);
        assert_eq!(Interest::PRIORITY.level().edge().bits(), EPOLLPRI | EPOLLET);
        let once = Interest::WRITABLE.one_shot();
        assert_eq!(once.bits(), EPOLLOUT | EPOLLET | EPOLLONESHOT);
        let alone = edge.level().exclusive();
        assert_eq!(alone.bits(), EPOLLIN | EPOLLEXCLUSIVE);
    }

    #[test]
    fn interests_are_added_and_removed() {
        let mut both = Interest::READABLE.one_shot();
        both |= Interest::WRITABLE;
        assert!(both.is_readable() && both.is_writable() && both.is_one_shot());
        assert_eq!(both | Interest::READABLE, both);
        let left = both.remove(Interest::READABLE).unwrap();
        assert_eq!(left, Interest::WRITABLE.one_shot());
        assert_eq!(left.remove(both), None);
        assert_eq!(
            format!("{:?}", both.level()),
            "READABLE | WRITABLE | LEVEL | ONE_SHOT"
        );
    }
}
