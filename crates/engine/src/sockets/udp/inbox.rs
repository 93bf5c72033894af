//! Datagrams that came in and nobody has taken.
//!
//! Two queues, so that the shard fills one without the lock while applications empty the other: what it brings becomes the queue that is
//! emptied when that one is empty.
//!
//! Invariant: the queue that is emptied is empty only when there is nothing at all, but for what the shard is about to bring.

use std::net::SocketAddr;

use stack::Received;

use super::meta::{Arrival, RecvMeta};
use super::{OVERHEAD, Parcels};
use crate::clock::Clock;

// What a queue counts for an entry covers it.
const _: () = assert!(size_of::<(Arrived, usize)>() <= OVERHEAD);

/// What is known of a datagram that came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    pub(crate) from: SocketAddr,
    pub(crate) arrival: Arrival,
}

impl Arrived {
    pub(crate) fn new(received: &Received) -> Self {
        Self {
            from: received.from,
            arrival: Arrival::new(received),
        }
    }

    /// Whether it and `next` may be one train, as far as they themselves go.
    fn alike(&self, next: &Self) -> bool {
        self.from == next.from && self.arrival.alike(&next.arrival)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    front: Parcels<Arrived>,
    back: Parcels<Arrived>,
}

impl Inbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_empty()
    }

    /// The oldest datagram.
    pub(super) fn front(&self) -> Option<(&Arrived, &[u8])> {
        self.front.front()
    }

    /// Drops the oldest datagram: what it counted.
    pub(super) fn pop(&mut self) -> usize {
        let charge = self.front.pop().map_or(0, |(_, len)| len + OVERHEAD);
        self.turn_over();
        charge
    }

    fn turn_over(&mut self) {
        if self.front.is_empty() {
            std::mem::swap(&mut self.front, &mut self.back);
        }
    }

    /// The queue that the shard fills, which it brings back at once.
    pub(crate) fn take_back(&mut self) -> Parcels<Arrived> {
        std::mem::take(&mut self.back)
    }

    /// It is back.
    pub(crate) fn bring(&mut self, filled: Parcels<Arrived>) {
        self.back = filled;
        self.turn_over();
    }

    /// Takes a datagram into `buf`, and those behind it that make a train with it and for which there is room: what they are, and what
    /// they counted.
    pub(super) fn take_train(
        &mut self,
        clock: &Clock,
        buf: &mut [u8],
    ) -> Option<(RecvMeta, usize)> {
        let (&first, bytes) = self.front()?;
        let stride = bytes.len();
        let mut meta = first.arrival.meta(clock, first.from, buf.len());
        let mut charge = 0;
        meta.len = 0;
        while let Some((next, bytes)) = self.front() {
            let (len, room) = (bytes.len(), buf.len() - meta.len);
            // An empty datagram leaves no trace among others.
            let goes_on = len > 0 && len <= stride && len <= room && first.alike(next);
            if charge > 0 && !goes_on {
                break;
            }
            let n = len.min(room);
            buf[meta.len..meta.len + n].copy_from_slice(&bytes[..n]);
            meta.len += n;
            charge += self.pop();
            if len < stride {
                break;
            }
        }
        Some((meta, charge))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(len: usize, tos: u8, segment: Option<u16>) -> Arrived {
        Arrived::new(&Received {
            copied: len,
            len,
            from: "10.0.0.1:7".parse().unwrap(),
            to: "10.0.0.2".parse().unwrap(),
            interface: stack::InterfaceId(0),
            ttl: 64,
            tos,
            at: base::Instant::from_secs(1),
            segment,
        })
    }

    /// Brings datagrams: length, type of service, and what they were joined of.
    fn bring(inbox: &mut Inbox, datagrams: &[(usize, u8, Option<u16>)]) {
        let mut back = inbox.take_back();
        for &(len, tos, segment) in datagrams {
            back.room(len).fill(7);
            back.push(arrived(len, tos, segment), len);
        }
        inbox.bring(back);
    }

    #[test]
    fn trains_are_of_one_length_but_for_the_last() {
        let clock = Clock::new();
        let train = |lengths: &[usize], room| {
            // Brought at once, or one by one.
            let told = [lengths.len().max(1), 1].map(|some| {
                let mut inbox = Inbox::default();
                for lengths in lengths.chunks(some) {
                    let all: Vec<_> = lengths.iter().map(|&len| (len, 0, None)).collect();
                    bring(&mut inbox, &all);
                }
                let taken = inbox.take_train(&clock, &mut vec![0; room]);
                taken.map_or((0, 0, false), |(meta, _)| {
                    let left = std::iter::from_fn(|| Some(inbox.pop()).filter(|n| *n > 0)).count();
                    (lengths.len() - left, meta.len, meta.truncated)
                })
            });
            assert_eq!(told[0], told[1]);
            told[0]
        };
        assert_eq!(train(&[], 100), (0, 0, false));
        assert_eq!(train(&[10], 5), (1, 5, true));
        assert_eq!(train(&[10, 10, 10, 5, 5], 100), (4, 35, false));
        assert_eq!(train(&[10, 10, 11], 100), (2, 20, false));
        assert_eq!(train(&[10, 10, 10], 29), (2, 20, false));
        assert_eq!(train(&[0, 0], 100), (1, 0, false));
        assert_eq!(train(&[10, 0, 10], 100), (1, 10, false));
        let mut inbox = Inbox::default();
        let joined = Some(10);
        bring(&mut inbox, &[(10, 0, None), (10, 0, None), (10, 3, None)]);
        bring(
            &mut inbox,
            &[(25, 3, joined), (10, 3, None), (20, 3, joined)],
        );
        let mut buf = [0; 100];
        // Alike, or not; and what was joined before is by itself.
        for expected in [(20, 10), (10, 10), (25, 10), (10, 10), (20, 10)] {
            let (meta, charge) = inbox.take_train(&clock, &mut buf).unwrap();
            assert_eq!((meta.len, meta.stride), expected);
            assert!(charge >= meta.len + OVERHEAD);
        }
        assert!(inbox.is_empty() && inbox.take_train(&clock, &mut buf).is_none());
    }

    #[test]
    fn what_is_brought_comes_behind_what_is_there() {
        let mut inbox = Inbox::default();
        bring(&mut inbox, &[(1, 0, None), (2, 0, None)]);
        let mut filling = inbox.take_back();
        assert_eq!(inbox.pop(), 1 + OVERHEAD);
        for len in [3, 4] {
            filling.room(len);
            filling.push(arrived(len, 0, None), len);
        }
        inbox.bring(filling);
        bring(&mut inbox, &[(5, 0, None)]);
        for len in 2..=5 {
            assert_eq!(inbox.front().unwrap().1.len(), len);
            inbox.pop();
        }
        assert!(inbox.is_empty());
    }
}
