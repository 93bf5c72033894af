//! What is known of datagrams: ECN, addresses, times.
//!
//! What does not live here: what is said of those that are sent (`batch`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use stack::{InterfaceId, Received};

use crate::clock::Clock;

/// Explicit congestion notification (RFC 3168 section 5): the two lower bits of the type of service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Ecn {
    /// The sender does not understand it.
    #[default]
    NotEct = 0,
    /// ECT(1): of a sender that answers marks at once (RFC 9331).
    Ect1 = 1,
    /// ECT(0).
    Ect0 = 2,
    /// A router on the way was congested.
    Ce = 3,
}

impl Ecn {
    /// Of a type of service or traffic class.
    pub fn of(tos: u8) -> Self {
        match tos & 3 {
            1 => Self::Ect1,
            2 => Self::Ect0,
            3 => Self::Ce,
            _ => Self::NotEct,
        }
    }
}

/// What is known of a datagram that was received, or of a train of them, which is alike in all of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecvMeta {
    /// Bytes in the buffer.
    pub len: usize,
    /// Bytes of each datagram in the buffer but the last, which may be shorter: `len` when there is one. See
    /// [`RecvMeta::datagrams`].
    pub stride: usize,
    /// The datagram was longer than the buffer, and the rest is lost (MSG_TRUNC).
    pub truncated: bool,
    /// Who sent it.
    pub from: SocketAddr,
    /// The host's address, or the group, that it was sent to (IP_PKTINFO).
    pub to: IpAddr,
    /// The port it came in by, numbered from 1 in the order they were given to the host; 256 is the host itself.
    pub interface: u32,
    /// Its time to live or hop limit when it arrived (IP_RECVTTL).
    pub ttl: u8,
    /// Its type of service or traffic class: DSCP and ECN (IP_RECVTOS).
    pub tos: u8,
    /// When the host took it in, to the turn (SO_TIMESTAMP); of a train the first.
    pub at: Instant,
}

impl Default for RecvMeta {
    /// A place for what is known of a datagram: nothing is.
    fn default() -> Self {
        Self {
            len: 0,
            stride: 0,
            truncated: false,
            from: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            to: Ipv4Addr::UNSPECIFIED.into(),
            interface: 0,
            ttl: 0,
            tos: 0,
            at: Instant::now(),
        }
    }
}

impl RecvMeta {
    /// Its ECN bits.
    pub fn ecn(&self) -> Ecn {
        Ecn::of(self.tos)
    }

    /// The datagrams in `buf`, into which this was received. An empty one is one.
    pub fn datagrams<'a>(&self, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let whole = &buf[..self.len.min(buf.len())];
        let empty = whole.is_empty().then_some(whole);
        empty.into_iter().chain(whole.chunks(self.stride.max(1)))
    }
}

/// What is known of a datagram besides its sender, in the shard's words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    to: IpAddr,
    interface: InterfaceId,
    ttl: u8,
    tos: u8,
    at: base::Instant,
    /// Its bytes, of which the receiver may have taken fewer.
    pub(super) len: usize,
    /// It is several of so many bytes ([`stack::UdpOptions::gro`]).
    segment: Option<u16>,
}

impl Arrival {
    pub(crate) fn new(received: &Received) -> Self {
        Self {
            to: received.to,
            interface: received.interface,
            ttl: received.ttl,
            tos: received.tos,
            at: received.at,
            len: received.len,
            segment: received.segment,
        }
    }

    /// Whether it and `next` may be one train, as far as they themselves go.
    pub(super) fn alike(&self, next: &Self) -> bool {
        (self.to, self.interface, self.ttl, self.tos)
            == (next.to, next.interface, next.ttl, next.tos)
            && self.segment.or(next.segment).is_none()
    }

    /// In the application's words, for who has room for so many bytes of it.
    pub(crate) fn meta(&self, clock: &Clock, from: SocketAddr, room: usize) -> RecvMeta {
        let len = self.len.min(room);
        RecvMeta {
            len,
            stride: self.segment.map_or(len, |size| len.min(size.into())),
            truncated: self.len > room,
            from,
            to: self.to,
            interface: u32::from(self.interface.0) + 1,
            ttl: self.ttl,
            tos: self.tos,
            at: clock.system(self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_falls_into_its_datagrams() {
        let buf = [1, 1, 1, 2, 2, 2, 3, 9, 9];
        let meta = |len, stride| RecvMeta {
            len,
            stride,
            ..RecvMeta::default()
        };
        let of = |meta: RecvMeta| meta.datagrams(&buf).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(of(meta(7, 3)), [3, 3, 1]);
        assert_eq!(of(meta(3, 3)), [3]);
        assert_eq!(of(meta(0, 0)), [0]);
    }

    #[test]
    fn ecn_is_of_the_lower_bits() {
        for ecn in [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce] {
            assert_eq!(Ecn::of(0xb8 | ecn as u8), ecn);
        }
    }
}
