//! Handles and readiness: what an application holds of a socket and what it is told.
//!
//! What does not live here: the sockets themselves (`tcp`, `udp`), and waiting, which is the engine's.

use core::ops::{BitAnd, BitOr, BitOrAssign};

use base::epoll::{
    EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, EPOLLRDNORM, EPOLLWRNORM,
};

/// Which table a socket lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SocketKind {
    /// A TCP connection.
    Tcp = 0,
    /// A TCP listener.
    Listener = 1,
    /// A UDP socket.
    Udp = 2,
}

/// Names one socket of one host, for as long as it lives: a stale handle is refused, never mistaken for its successor.
///
/// 2 bits of kind, 30 bits of generation, 32 bits of index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(u64);

impl SocketId {
    const GENERATION: u64 = (1 << 30) - 1;

    pub(crate) fn new(kind: SocketKind, key: base::Key) -> Self {
        Self(
            (kind as u64) << 62
                | (u64::from(key.generation) & Self::GENERATION) << 32
                | u64::from(key.index),
        )
    }

    pub(crate) fn kind(self) -> Option<SocketKind> {
        match self.0 >> 62 {
            0 => Some(SocketKind::Tcp),
            1 => Some(SocketKind::Listener),
            2 => Some(SocketKind::Udp),
            _ => None,
        }
    }

    pub(crate) fn index(self) -> u32 {
        self.0 as u32
    }

    /// Whether this handle's generation is that of `key`.
    pub(crate) fn names(self, key: base::Key) -> bool {
        self.index() == key.index
            && (self.0 >> 32) & Self::GENERATION == u64::from(key.generation) & Self::GENERATION
    }

    /// The handle as a number, for tools and for rings between threads.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`SocketId::to_bits`]; a number that names nothing is refused where it is used.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// What a socket is ready for: a set of bits with epoll's meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Ready(pub u8);

impl Ready {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Data, an end of stream, a connection to accept, or an error can be read (EPOLLIN).
    pub const READABLE: Self = Self(1);
    /// There is room to write, or the connection attempt has ended (EPOLLOUT).
    pub const WRITABLE: Self = Self(2);
    /// The peer has sent its FIN (EPOLLRDHUP).
    pub const READ_CLOSED: Self = Self(4);
    /// Both directions are closed (EPOLLHUP).
    pub const HUP: Self = Self(8);
    /// An error waits to be taken (EPOLLERR).
    pub const ERROR: Self = Self(16);
    /// Urgent data has been announced and not been read (EPOLLPRI).
    pub const PRIORITY: Self = Self(32);
    /// Our end has been queued: nothing can be written any more. With [`Ready::READ_CLOSED`] it is Linux's EPOLLHUP, which comes
    /// before [`Ready::HUP`].
    pub const WRITE_CLOSED: Self = Self(64);
    /// Only in [`Event::raised`]: the connection's state has changed, which everybody wants to hear of.
    pub const CHANGED: Self = Self(128);

    /// Whether all bits of `other` are set.
    #[inline]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[inline]
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The same in the bits of epoll, as Linux's tcp_poll and datagram_poll tell them.
    pub fn epoll(self) -> u32 {
        let bits = [
            (Self::READABLE, EPOLLIN | EPOLLRDNORM),
            (Self::WRITABLE, EPOLLOUT | EPOLLWRNORM),
            (Self::READ_CLOSED, EPOLLRDHUP),
            (Self::HUP, EPOLLHUP),
            // Linux's SHUTDOWN_MASK: both ends are on their way, whatever becomes of them.
            (Self::READ_CLOSED | Self::WRITE_CLOSED, EPOLLHUP),
            (Self::ERROR, EPOLLERR),
            (Self::PRIORITY, EPOLLPRI),
        ];
        let told = bits.iter().filter(|(what, _)| self.contains(*what));
        told.fold(0, |all, (_, bits)| all | bits)
    }

    /// Whether no bit is set.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Ready {
    type Output = Self;
    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Ready {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Ready {
    type Output = Self;
    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// A socket whose readiness has changed since it was last reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The socket.
    pub socket: SocketId,
    /// What its owner set with `set_token`.
    pub token: u64,
    /// What it is ready for now.
    pub ready: Ready,
    /// What has happened since the last event: `READABLE`, `WRITABLE`, `ERROR` and `CHANGED`, with the meanings of what wakes a
    /// poll on Linux. What was ready before, and did not become so anew, is not in it.
    pub raised: Ready,
}
