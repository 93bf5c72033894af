//! Datagrams that came in and nobody has taken.
//!
//! Two queues, so that the shard fills one without the lock while applications empty the other: what it brings becomes the queue that is
//! emptied when that one is empty.
//!
//! Bytes are copied out of packet memory, or lent where somebody has asked for packets.
//!
//! Invariant: what was lent is given back with no record locked.
//! Invariant: the queue that is emptied is empty only when there is nothing at all, but for what the shard is about to bring.

use std::collections::VecDeque;
use std::net::SocketAddr;

use stack::Received;

use super::meta::{Arrival, RecvMeta};
use super::{OVERHEAD, Parcels};
use crate::clock::Clock;
use crate::sockets::lent::Lent;

// What a queue counts for an entry covers it.
const _: () = assert!(size_of::<(Arrived, usize)>() <= OVERHEAD);

/// What is known of a datagram that came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    pub(crate) from: SocketAddr,
    pub(crate) arrival: Arrival,
    /// Its bytes are the next among the loans.
    lent: bool,
}

impl Arrived {
    fn new(received: &Received, lent: bool) -> Self {
        Self {
            from: received.from,
            arrival: Arrival::new(received),
            lent,
        }
    }

    /// Whether it and `next` may be one train, as far as they themselves go.
    fn alike(&self, next: &Self) -> bool {
        self.from == next.from && self.arrival.alike(&next.arrival)
    }
}

/// Datagrams in their order.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    parcels: Parcels<Arrived>,
    loans: VecDeque<Lent>,
}

impl Arrivals {
    /// Room for the bytes of the next datagram.
    pub(crate) fn room(&mut self, n: usize) -> &mut [u8] {
        self.parcels.room(n)
    }

    /// Queues a datagram, whose bytes are in the room.
    pub(crate) fn push(&mut self, received: &Received) {
        let arrived = Arrived::new(received, false);
        self.parcels.push(arrived, received.copied);
    }

    /// Queues a datagram that is lent.
    pub(crate) fn push_lent(&mut self, received: &Received, lent: Lent) {
        self.parcels.push(Arrived::new(received, true), 0);
        self.loans.push_back(lent);
    }

    /// The oldest datagram, and its bytes, run by run.
    fn front(&self) -> Option<(&Arrived, impl Iterator<Item = &[u8]>)> {
        let (arrived, own) = self.parcels.front()?;
        let lent = self.loans.front().filter(|_| arrived.lent);
        let lent = lent.into_iter().flat_map(|lent| lent.slices());
        Some((arrived, [own].into_iter().chain(lent)))
    }

    /// Takes the oldest datagram: what it counted, and what was lent of it.
    fn pop(&mut self) -> (usize, Option<Lent>) {
        let Some((arrived, _)) = self.parcels.pop() else {
            return (0, None);
        };
        let lent = arrived.lent.then(|| self.loans.pop_front()).flatten();
        (arrived.arrival.len + OVERHEAD, lent)
    }
}

/// Copies as much as there is room for: how much.
fn copy<'a>(runs: impl Iterator<Item = &'a [u8]>, buf: &mut [u8]) -> usize {
    let mut at = 0;
    for run in runs {
        let n = run.len().min(buf.len() - at);
        buf[at..at + n].copy_from_slice(&run[..n]);
        at += n;
    }
    at
}

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    front: Arrivals,
    back: Arrivals,
}

impl Inbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.front.parcels.is_empty()
    }

    /// The oldest datagram.
    pub(super) fn front(&self) -> Option<&Arrived> {
        Some(self.front.parcels.front()?.0)
    }

    /// Copies of the oldest datagram what `buf` has room for: how much.
    pub(super) fn copy(&self, buf: &mut [u8]) -> usize {
        self.front.front().map_or(0, |(_, runs)| copy(runs, buf))
    }

    /// The bytes of the oldest datagram, unless they are lent.
    pub(super) fn own(&self) -> Option<&[u8]> {
        let (arrived, own) = self.front.parcels.front()?;
        (!arrived.lent).then_some(own)
    }

    /// Takes the oldest datagram: what it counted, and what was lent of it, which is to be dropped without the lock.
    #[must_use]
    pub(super) fn pop(&mut self) -> (usize, Option<Lent>) {
        let popped = self.front.pop();
        self.turn_over();
        popped
    }

    fn turn_over(&mut self) {
        if self.front.parcels.is_empty() {
            std::mem::swap(&mut self.front, &mut self.back);
        }
    }

    /// The queue that the shard fills, which it brings back at once.
    pub(crate) fn take_back(&mut self) -> Arrivals {
        std::mem::take(&mut self.back)
    }

    /// It is back.
    pub(crate) fn bring(&mut self, filled: Arrivals) {
        self.back = filled;
        self.turn_over();
    }

    /// Takes a datagram into `buf`, and those behind it that make a train with it and for which there is room: what they are, and what
    /// they counted. What was lent of them is put with `spent`.
    pub(super) fn take_train(
        &mut self,
        clock: &Clock,
        buf: &mut [u8],
        spent: &mut Vec<Lent>,
    ) -> Option<(RecvMeta, usize)> {
        let &first = self.front()?;
        let stride = first.arrival.len;
        let mut meta = first.arrival.meta(clock, first.from, buf.len());
        let mut charge = 0;
        meta.len = 0;
        while let Some(next) = self.front() {
            let (len, room) = (next.arrival.len, buf.len() - meta.len);
            // An empty datagram leaves no trace among others.
            let goes_on = len > 0 && len <= stride && len <= room && first.alike(next);
            if charge > 0 && !goes_on {
                break;
            }
            meta.len += self.copy(&mut buf[meta.len..]);
            let (counted, lent) = self.pop();
            charge += counted;
            spent.extend(lent);
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

    fn received(len: usize, tos: u8, segment: Option<u16>) -> Received {
        Received {
            copied: len,
            len,
            from: "10.0.0.1:7".parse().unwrap(),
            to: "10.0.0.2".parse().unwrap(),
            interface: stack::InterfaceId(0),
            ttl: 64,
            tos,
            at: base::Instant::from_secs(1),
            segment,
        }
    }

    /// Brings datagrams: length, type of service, and what they were joined of.
    fn bring(inbox: &mut Inbox, datagrams: &[(usize, u8, Option<u16>)]) {
        let mut back = inbox.take_back();
        for &(len, tos, segment) in datagrams {
            back.room(len).fill(7);
            back.push(&received(len, tos, segment));
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
                let taken = inbox.take_train(&clock, &mut vec![0; room], &mut vec![]);
                taken.map_or((0, 0, false), |(meta, _)| {
                    let left =
                        std::iter::from_fn(|| Some(inbox.pop().0).filter(|n| *n > 0)).count();
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
            let (meta, charge) = inbox.take_train(&clock, &mut buf, &mut vec![]).unwrap();
            assert_eq!((meta.len, meta.stride), expected);
            assert!(charge >= meta.len + OVERHEAD);
        }
        assert!(inbox.is_empty());
        assert!(inbox.take_train(&clock, &mut buf, &mut vec![]).is_none());
    }

    #[test]
    fn what_is_brought_comes_behind_what_is_there() {
        let mut inbox = Inbox::default();
        bring(&mut inbox, &[(1, 0, None), (2, 0, None)]);
        let mut filling = inbox.take_back();
        assert_eq!(inbox.pop().0, 1 + OVERHEAD);
        for len in [3, 4] {
            filling.room(len);
            filling.push(&received(len, 0, None));
        }
        inbox.bring(filling);
        bring(&mut inbox, &[(5, 0, None)]);
        for len in 2..=5 {
            assert_eq!(inbox.front().unwrap().arrival.len, len);
            assert_eq!(inbox.pop().0, len + OVERHEAD);
        }
        assert!(inbox.is_empty());
    }
}
