//! Frames of all sizes against a device made of memory, and tags put back.

use base::{Gso, GsoKind};

use super::*;
use crate::FRAME_MAX;

#[test]
fn a_tag_is_put_back_behind_the_addresses() {
    let mut pool = Pool::new(8).unwrap();
    let frame: Vec<u8> = (0..100).collect();
    let mut packet = Packet::default();
    pool.append_bytes(&mut packet.chain, &frame);
    packet.facts.checksum = Checksum::Partial {
        start: 34,
        offset: 16,
    };
    packet.facts.gso = Gso {
        kind: GsoKind::Tcp4,
        size: 1448,
        header_len: 54,
    };
    put_back(
        &mut pool,
        &mut packet,
        Tag {
            ethertype: 0x8100,
            contents: 0x2005,
        },
    )
    .unwrap();
    let mut got = vec![0; 104];
    assert_eq!(
        (
            packet.chain.len(),
            pool.copy_out(&packet.chain, 0, &mut got)
        ),
        (104, 104)
    );
    assert_eq!(
        got,
        [&frame[..12], &[0x81, 0, 0x20, 5], &frame[12..]].concat()
    );
    assert_eq!(
        packet.facts.checksum,
        Checksum::Partial {
            start: 38,
            offset: 16
        }
    );
    assert_eq!(packet.facts.gso.header_len, 58);
    pool.free(packet.chain);

    let mut packet = Packet::default();
    pool.append_bytes(&mut packet.chain, &frame[..11]);
    let short = put_back(
        &mut pool,
        &mut packet,
        Tag {
            ethertype: 0x8100,
            contents: 1,
        },
    );
    assert_eq!(short, Err(Drop::RxDescription));
    pool.free(packet.chain);
    assert_eq!(pool.in_use(), 0);
}

/// What the device side sees of memory to read into or write from, as a list of pieces.
fn pieces(list: *const libc::iovec, entries: usize) -> Vec<(*mut u8, usize)> {
    // SAFETY: `Exchange` gives a valid list.
    let list = unsafe { std::slice::from_raw_parts(list, entries) };
    list.iter()
        .map(|e| (e.iov_base.cast(), e.iov_len))
        .collect()
}

/// What a kernel does with a frame that is read: fills the pieces one after the other, as far as they reach.
fn fill(room: &Room, mut bytes: &[u8]) -> usize {
    let places = match *room {
        Room::Flat(at, len) => vec![(at, len)],
        Room::List(list, entries) => pieces(list, entries),
    };
    let mut filled = 0;
    for (at, len) in places {
        let n = len.min(bytes.len());
        // SAFETY: the piece is valid for writing by the contract of `Exchange::receive`.
        unsafe { std::slice::from_raw_parts_mut(at, n) }.copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
        filled += n;
    }
    filled
}

fn content(source: &Source) -> Vec<u8> {
    let places = match *source {
        Source::Flat(at, len) => vec![(at.cast_mut(), len)],
        Source::List(list, entries) => pieces(list, entries),
    };
    let mut all = Vec::new();
    for (at, len) in places {
        // SAFETY: the piece is valid for reading by the contract of `Exchange::transmit`.
        all.extend_from_slice(unsafe { std::slice::from_raw_parts(at, len) });
    }
    all
}

fn frame(rng: &mut base::Rng, number: u64) -> Vec<u8> {
    let len = match rng.below(8) {
        0 | 1 => 60 + rng.below(1455),
        2 => 1 + rng.below(14),
        3 => 2040 + rng.below(20),
        4 => SHORT as u32 - 4 + rng.below(8),
        _ => rng.below(FRAME_MAX as u32 - 1) + 1,
    };
    (0..u64::from(len))
        .map(|i| (number * 31 + i * 7 + (i >> 9)) as u8)
        .collect()
}

/// Received frames are held while others come, given back in any order, under a pool that runs short: none is ever
/// written over, cut or mixed up, and each that was not received was counted. What is held is sent back in between.
#[test]
fn frames_of_all_sizes_stay_what_they_were() {
    for seed in 0..12 {
        let mut rng = base::Rng::from_seed(seed);
        let mut pool = Pool::new([80, 150, 400, 2000][seed as usize % 4]).unwrap();
        let mut exchange = Exchange::new(FRAME_MAX, FRAME_MAX);
        let mut held: std::collections::VecDeque<(Packet, Vec<u8>)> =
            std::collections::VecDeque::new();
        let mut batch = Batch::new();
        let (mut offered, mut arrived) = (0, 0);
        for _ in 0..150 {
            let mut waiting = rng.below(12);
            let mut sent = Vec::new();
            let (n, dead) = exchange.receive(&mut pool, &mut batch, |room| {
                if waiting == 0 {
                    return Read::Nothing;
                }
                waiting -= 1;
                offered += 1;
                let frame = frame(&mut rng, offered);
                let bytes = fill(&room, &[&[0; vnet::HEADER_LEN][..], &frame].concat());
                sent.push(frame);
                Read::Frame {
                    bytes,
                    cut: false,
                    tag: None,
                }
            });
            assert!(dead.is_none());
            assert_eq!(n, batch.len());
            arrived += n as u64;
            // Those that came are among those that were sent, in order.
            let mut sent = sent.into_iter();
            while let Some(packet) = batch.pop_front() {
                let frame = sent
                    .find(|f| *f == whole(&pool, &packet.chain))
                    .expect("as it was sent");
                held.push_back((packet, frame));
            }
            while held.len() > rng.below(9) as usize {
                let at = rng.below(held.len() as u32) as usize;
                let (packet, frame) = held.remove(at).unwrap();
                assert_eq!(
                    whole(&pool, &packet.chain),
                    frame,
                    "seed {seed}: written over"
                );
                batch.push(packet).unwrap();
                let (n, _) = exchange.transmit(&mut pool, &mut batch, |source| {
                    assert_eq!(content(&source)[vnet::HEADER_LEN..], frame);
                    Written::Sent
                });
                assert_eq!(n, 1);
            }
        }
        let c = &exchange.counters;
        assert_eq!(
            (c.rx_frames, c.rx_frames + c.drops.get(Drop::RxNoMemory)),
            (arrived, offered)
        );
        assert!(arrived > 250, "seed {seed}: {c:?}");
        for (packet, _) in held {
            pool.free(packet.chain);
        }
        exchange.release(&mut pool);
        assert_eq!((pool.in_use(), pool.segments_in_use()), (0, 0));
    }
}

fn whole(pool: &Pool, chain: &Chain) -> Vec<u8> {
    let mut bytes = vec![0; chain.len()];
    assert_eq!(pool.copy_out(chain, 0, &mut bytes), bytes.len());
    bytes
}

#[test]
fn a_frame_that_fills_all_there_is_was_cut() {
    let mut pool = Pool::new(200).unwrap();
    let mut exchange = Exchange::new(5000, 5000);
    let mut batch = Batch::new();
    for (len, expected) in [
        (5000, 1),
        (5001, 0),
        (20_000, 0),
        (5000, 1),
        (5001, 0),
        (60, 1),
    ] {
        let mut frames = vec![vec![1; len + vnet::HEADER_LEN]];
        frames[0][..vnet::HEADER_LEN].fill(0);
        let (n, _) = exchange.receive(&mut pool, &mut batch, |room| match frames.pop() {
            Some(frame) => Read::Frame {
                bytes: fill(&room, &frame),
                cut: false,
                tag: None,
            },
            None => Read::Nothing,
        });
        batch.clear(&mut pool);
        // In the long way there is some more room, by whole blocks.
        let allowed = if len == 5001 {
            [0, 1]
        } else {
            [expected, expected]
        };
        assert!(allowed.contains(&n), "{len}");
    }
    assert!(exchange.counters.drops.get(Drop::RxTruncated) >= 1);
}

#[test]
fn a_device_that_only_loses_is_left_in_peace_after_a_while() {
    let mut pool = Pool::new(8).unwrap();
    let mut exchange = Exchange::new(2000, 2000);
    let mut calls = 0;
    let (n, dead) = exchange.receive(&mut pool, &mut Batch::new(), |_| {
        calls += 1;
        Read::Lost(Drop::RxDescription)
    });
    assert!(n == 0 && dead.is_none() && calls <= BATCH);
}
