//! The pair in one thread, and between two that sleep.

use std::time::Duration;

use base::{Gso, Rng};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];

fn send(port: &mut RingPort, pool: &mut Pool, bytes: &[u8], facts: Facts) -> usize {
    let mut packet = Packet {
        facts,
        ..Packet::default()
    };
    assert_eq!(pool.append_bytes(&mut packet.chain, bytes), bytes.len());
    let mut batch = Batch::new();
    batch.push(packet).unwrap();
    let sent = port.transmit(pool, &mut batch);
    batch.clear(pool);
    sent
}

fn received(pool: &mut Pool, batch: &mut Batch) -> Vec<(Vec<u8>, Facts)> {
    let mut all = Vec::new();
    while let Some(packet) = batch.pop_front() {
        let mut bytes = vec![0; packet.chain.len()];
        pool.copy_out(&packet.chain, 0, &mut bytes);
        all.push((bytes, packet.facts));
        pool.free(packet.chain);
    }
    all
}

fn readable(port: &RingPort, timeout: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let mut fds = [PollFd::from_borrowed_fd(
        port.sleep_fd().unwrap(),
        PollFlags::IN,
    )];
    poll(&mut fds, Some(&timeout)).unwrap() > 0
}

#[test]
fn frames_and_facts_cross() {
    let options = RingOptions {
        offloads: Offloads::ALL,
        ..RingOptions::default()
    };
    let (mut a, mut b) = pair(MACS, &options).unwrap();
    assert_eq!((a.facts().mac, b.facts().mac), (MACS[0], MACS[1]));
    let (mut pa, mut pb) = (Pool::new(64).unwrap(), Pool::new(64).unwrap());
    let long: Vec<u8> = (0..65_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
    let facts = Facts {
        checksum: Checksum::Partial {
            start: 34,
            offset: 16,
        },
        gso: Gso {
            kind: GsoKind::Tcp4,
            size: 1448,
            header_len: 66,
        },
    };
    assert_eq!(
        send(
            &mut a,
            &mut pa,
            &[7; 60],
            Facts {
                checksum: Checksum::Good,
                ..Facts::NONE
            }
        ),
        1
    );
    assert_eq!(send(&mut a, &mut pa, &long, facts), 1);
    let mut batch = Batch::new();
    assert_eq!(b.receive(&mut pb, &mut batch), 0, "not flushed");
    a.flush(&mut pa);
    assert_eq!(b.receive(&mut pb, &mut batch), 2);
    let got = received(&mut pb, &mut batch);
    assert_eq!(
        got[0],
        (
            vec![7; 60],
            Facts {
                checksum: Checksum::Good,
                ..Facts::NONE
            }
        )
    );
    assert_eq!(got[1], (long, facts));
    assert_eq!((pa.in_use(), pb.in_use()), (0, 0));
    let (ca, cb) = (a.counters(), b.counters());
    assert_eq!(
        (ca.tx_frames, ca.tx_bytes, cb.rx_frames, cb.rx_bytes),
        (2, 65_060, 2, 65_060)
    );
}

#[test]
fn what_the_pair_does_not_offer_is_dropped() {
    let (mut a, _b) = pair(MACS, &RingOptions::default()).unwrap();
    let mut pool = Pool::new(64).unwrap();
    let partial = Facts {
        checksum: Checksum::Partial {
            start: 34,
            offset: 16,
        },
        ..Facts::NONE
    };
    assert_eq!(send(&mut a, &mut pool, &[0; 60], partial), 1);
    assert_eq!(send(&mut a, &mut pool, &[0; 1519], Facts::NONE), 1);
    assert_eq!(send(&mut a, &mut pool, &[0; 13], Facts::NONE), 1);
    assert_eq!(a.counters().drops.get(Dropped::TxDescription), 1);
    assert_eq!(a.counters().drops.get(Dropped::TxLength), 2);
    assert_eq!(send(&mut a, &mut pool, &[0; 1518], Facts::NONE), 1);
    assert_eq!((a.counters().tx_frames, pool.in_use()), (1, 0));
}

#[test]
fn a_full_ring_leaves_frames_in_the_batch_and_an_empty_pool_in_the_ring() {
    let options = RingOptions {
        slots: 4,
        ..RingOptions::default()
    };
    let (mut a, mut b) = pair(MACS, &options).unwrap();
    let (mut pa, mut pb) = (Pool::new(64).unwrap(), Pool::new(2).unwrap());
    let mut batch = Batch::new();
    for i in 0..6u8 {
        let mut packet = Packet::default();
        pa.append_bytes(&mut packet.chain, &[i; 60]);
        batch.push(packet).unwrap();
    }
    assert_eq!(a.transmit(&mut pa, &mut batch), 4);
    assert_eq!(
        (batch.len(), pa.in_use(), a.counters().tx_stalls),
        (2, 2, 1)
    );
    // Handed over although nobody flushed, else it would be stuck for ever.
    let mut got = Batch::new();
    assert_eq!(b.receive(&mut pb, &mut got), 2);
    assert_eq!(b.counters().rx_stalls, 1);
    let mut all = received(&mut pb, &mut got);
    assert_eq!(b.receive(&mut pb, &mut got), 2);
    all.extend(received(&mut pb, &mut got));
    assert_eq!(b.receive(&mut pb, &mut got), 0);
    assert_eq!(a.transmit(&mut pa, &mut batch), 2);
    a.flush(&mut pa);
    assert_eq!(b.receive(&mut pb, &mut got), 2);
    all.extend(received(&mut pb, &mut got));
    assert_eq!(
        all.iter().map(|(bytes, _)| bytes[0]).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5]
    );
}

#[test]
fn the_descriptor_is_readable_when_and_only_when_there_is_something() {
    let (mut a, mut b) = pair(MACS, &RingOptions::default()).unwrap();
    let (mut pa, mut pb) = (Pool::new(256).unwrap(), Pool::new(256).unwrap());
    let mut batch = Batch::new();
    let soon = Duration::from_millis(1);
    for round in 0..3 {
        assert_eq!(b.receive(&mut pb, &mut batch), 0);
        assert!(!readable(&b, soon), "{round}");
        send(&mut a, &mut pa, &[1; 60], Facts::NONE);
        a.flush(&mut pa);
        assert!(readable(&b, soon));
        assert_eq!(b.receive(&mut pb, &mut batch), 1);
        batch.clear(&mut pb);
        assert!(!readable(&b, soon), "it was all taken");
    }
    // More than a batch: what is left must not be slept on.
    for _ in 0..70 {
        send(&mut a, &mut pa, &[1; 60], Facts::NONE);
    }
    a.flush(&mut pa);
    assert_eq!(b.receive(&mut pb, &mut batch), 64);
    batch.clear(&mut pb);
    assert!(readable(&b, soon));
    assert_eq!(b.receive(&mut pb, &mut batch), 6);
    batch.clear(&mut pb);
    assert!(!readable(&b, soon));
}

#[test]
fn the_end_of_the_other_side_is_noticed() {
    let (mut a, mut b) = pair(MACS, &RingOptions::default()).unwrap();
    let mut pool = Pool::new(64).unwrap();
    let mut batch = Batch::new();
    assert_eq!(b.receive(&mut pool, &mut batch), 0);
    send(&mut a, &mut pool, &[1; 60], Facts::NONE);
    drop(a);
    assert!(readable(&b, Duration::from_secs(1)));
    assert_eq!(
        b.receive(&mut pool, &mut batch),
        1,
        "what was sent before still arrives"
    );
    assert!(b.failure().unwrap().to_string().contains("ring-b is gone"));
    assert!(b.sleep_fd().is_none());
    batch.clear(&mut pool);
    assert_eq!(send(&mut b, &mut pool, &[1; 60], Facts::NONE), 1);
    assert_eq!(b.counters().drops.get(Dropped::TxDown), 1);
    assert_eq!(pool.in_use(), 0);
}

/// Both sides send numbered frames in bursts and sleep whenever they have nothing to do. A lost wake-up would hang
/// for the time limit of the poll, which fails the test.
#[test]
fn two_sleepers_never_miss_a_frame() {
    const FRAMES: u32 = 10_000;
    fn side(mut port: RingPort, seed: u64) {
        let mut pool = Pool::new(512).unwrap();
        let mut rng = Rng::from_seed(seed);
        let (mut out, mut batch) = (Batch::new(), Batch::new());
        let (mut sent, mut expected) = (0, 0);
        while sent < FRAMES || expected < FRAMES || !out.is_empty() {
            let got = port.receive(&mut pool, &mut batch);
            while let Some(packet) = batch.pop_front() {
                let mut number = [0; 4];
                pool.copy_out(&packet.chain, 14, &mut number);
                assert_eq!(u32::from_ne_bytes(number), expected);
                expected += 1;
                pool.free(packet.chain);
            }
            // Never far ahead of the other side, so that both have to sleep often.
            let burst = rng.below(8);
            for _ in 0..burst {
                if sent < FRAMES && sent < expected + 64 && out.len() < 60 {
                    let mut packet = Packet::default();
                    let mut bytes = [0; 64];
                    bytes[14..18].copy_from_slice(&sent.to_ne_bytes());
                    pool.append_bytes(&mut packet.chain, &bytes);
                    out.push(packet).unwrap();
                    sent += 1;
                }
            }
            port.transmit(&mut pool, &mut out);
            port.flush(&mut pool);
            let idle = got == 0 && out.is_empty() && (sent == FRAMES || sent >= expected + 64);
            if idle && expected < FRAMES {
                assert!(
                    readable(&port, Duration::from_secs(20)),
                    "sent {sent}, received {expected}"
                );
            }
        }
    }
    let options = RingOptions {
        slots: 32,
        ..RingOptions::default()
    };
    let (a, b) = pair(MACS, &options).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| side(a, 1));
        s.spawn(|| side(b, 2));
    });
}
