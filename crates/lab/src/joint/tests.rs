//! The link, fed by hand on a clock of the tests' own.

use super::*;
use base::{Gso, GsoKind};
use sim::{Faults, Loss};
use std::time::Duration;

const START: Instant = Instant::from_secs(1);

fn joint(config: LinkConfig) -> Joint {
    Joint::new([config; 2], 1_000, 7).unwrap()
}

fn frame(joint: &mut Joint, number: u16, len: usize) -> Packet {
    let mut bytes = vec![0; len];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    Packet::new(copy(joint.pool_mut(), &bytes).unwrap())
}

/// Sends frames of `len` bytes, 64 at a time, all now.
fn send(joint: &mut Joint, now: Instant, from: usize, numbers: std::ops::Range<u16>, len: usize) {
    let mut batch = Batch::new();
    for number in numbers {
        let packet = frame(joint, number, len);
        batch.push(packet).unwrap();
        if batch.is_full() {
            joint.take(now, from, &mut batch);
        }
    }
    joint.take(now, from, &mut batch);
}

/// The numbers of what is due.
fn due(joint: &mut Joint, now: Instant, from: usize) -> Vec<u16> {
    let (mut batch, mut seen) = (Batch::new(), Vec::new());
    loop {
        joint.deliver(now, from, &mut batch);
        if batch.is_empty() {
            return seen;
        }
        while let Some(packet) = batch.pop_front() {
            let bytes = joint.pool_mut().first(&packet.chain);
            seen.push(u16::from_be_bytes([bytes[0], bytes[1]]));
            joint.pool_mut().free(packet.chain);
        }
    }
}

#[test]
fn frames_arrive_in_order_at_the_links_rate_and_delay() {
    let config = LinkConfig {
        rate: 8_000_000, // a byte a microsecond
        delay: Duration::from_millis(10),
        ..LinkConfig::default()
    };
    let mut joint = joint(config);
    send(&mut joint, START, 0, 0..3, 1000);
    let after = |micros| START + Duration::from_micros(micros);
    assert_eq!(joint.next_deadline(), Some(after(11_000)));
    assert_eq!(due(&mut joint, after(10_999), 0), []);
    assert_eq!(due(&mut joint, after(11_000), 0), [0]);
    assert_eq!(due(&mut joint, after(13_000), 0), [1, 2]);
    assert_eq!(
        joint.counts()[0].latest,
        1_000_000,
        "one waited for the other"
    );
    let back = due(&mut joint, after(1_000_000), 1);
    assert_eq!(back, [], "nothing went the other way");
    let [there, back] = joint.counts();
    assert_eq!(
        (there.frames, there.delivered, there.delivered_bytes),
        (3, 3, 3000)
    );
    assert_eq!(back, Counts::default());
}

#[test]
fn what_does_not_fit_the_queue_is_counted() {
    let config = LinkConfig {
        rate: 8_000_000,
        queue: 2_500,
        ..LinkConfig::default()
    };
    let mut joint = joint(config);
    send(&mut joint, START, 1, 0..5, 1000);
    let counts = joint.counts()[1];
    assert_eq!((counts.frames, counts.queue_full), (5, 3));
    assert_eq!(counts.queue_high_water, 2_000);
    assert_eq!(due(&mut joint, START + Duration::from_secs(1), 1), [0, 1]);
    let used = joint.pool_mut().in_use();
    assert_eq!(used, 0, "what is dropped gives its memory back");
}

#[test]
fn no_more_is_held_than_the_limit() {
    let config = LinkConfig {
        delay: Duration::from_secs(1),
        ..LinkConfig::default()
    };
    let mut joint = Joint::new([config; 2], 10, 7).unwrap();
    send(&mut joint, START, 0, 0..30, 100);
    assert_eq!((joint.held(), joint.counts()[0].over_limit), (10, 20));
}

#[test]
fn faults_are_those_of_the_seed_and_counted() {
    let config = LinkConfig {
        faults: Faults {
            loss: Loss::Random(0.1),
            reorder: 0.05,
            jitter: Duration::from_millis(5),
            duplicate: 0.02,
            corrupt: 0.03,
        },
        ..LinkConfig::default()
    };
    let run = |seed| {
        let mut joint = Joint::new([config; 2], 50_000, seed).unwrap();
        send(&mut joint, START, 0, 0..10_000, 100);
        let arrived = due(&mut joint, START + Duration::from_secs(1), 0);
        (arrived, joint.counts()[0])
    };
    let (arrived, counts) = run(1);
    assert_eq!(run(1), (arrived.clone(), counts), "one seed, one run");
    assert_ne!(run(2).0, arrived);
    let near = |n: u64, want: u64| n.abs_diff(want) < want / 4;
    assert!(near(counts.lost, 1_000) && near(counts.held_back, 450));
    assert!(near(counts.duplicated, 180) && near(counts.corrupted, 270));
    let (came, left) = (
        counts.frames + counts.duplicated,
        counts.delivered + counts.lost,
    );
    assert_eq!(came, left);
    assert_eq!(arrived.len() as u64, counts.delivered);
    assert!(!arrived.is_sorted(), "some were overtaken");
}

#[test]
fn bursts_lose_their_share_in_runs() {
    let config = LinkConfig {
        faults: Faults {
            loss: Loss::bursts(0.05, 8.0),
            ..Faults::NONE
        },
        ..LinkConfig::default()
    };
    let mut joint = Joint::new([config; 2], 50_000, 3).unwrap();
    send(&mut joint, START, 0, 0..40_000, 60);
    let lost = joint.counts()[0].lost;
    assert!((1_400..2_600).contains(&lost), "{lost}");
    let arrived = due(&mut joint, START + Duration::from_secs(1), 0);
    let gap = |pair: &&[u16]| pair[1] != pair[0] + 1;
    let gaps = arrived.windows(2).filter(gap).count() as u64;
    assert!((4..=13).contains(&(lost / gaps)), "{lost} in {gaps} runs");
}

/// A TCP super-frame over IPv4 with nothing but zeroes to say.
fn super_frame(payload: usize) -> (Vec<u8>, Facts) {
    let mut bytes = vec![0; 14 + 20 + 20 + payload];
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14] = 0x45;
    bytes[23] = 6;
    bytes[34 + 12] = 0x50;
    let facts = Facts {
        checksum: Checksum::Partial {
            start: 34,
            offset: 16,
        },
        gso: Gso {
            kind: GsoKind::Tcp4,
            size: 1448,
            header_len: 54,
        },
    };
    (bytes, facts)
}

#[test]
fn super_frames_cross_as_segments() {
    let mut joint = joint(LinkConfig::default());
    let (bytes, facts) = super_frame(3_000);
    let chain = copy(joint.pool_mut(), &bytes).unwrap();
    let mut batch = Batch::new();
    batch.push(Packet { chain, facts }).unwrap();
    joint.take(START, 0, &mut batch);
    assert_eq!(joint.counts()[0].frames, 3);
    joint.deliver(START + Duration::from_secs(1), 0, &mut batch);
    let lens: Vec<usize> = batch.iter().map(|packet| packet.chain.len()).collect();
    assert_eq!(lens, [54 + 1448, 54 + 1448, 54 + 104]);
    assert!(batch.iter().all(|packet| packet.facts == Facts::NONE));
    batch.clear(joint.pool_mut());
}

#[test]
fn a_description_that_does_not_fit_is_survived() {
    let mut joint = joint(LinkConfig::default());
    let mut sent = 0;
    for start in [0, 13, 33, 60, 999] {
        for kind in [GsoKind::None, GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::Udp] {
            let gso = Gso {
                kind,
                size: 0,
                header_len: 999,
            };
            let checksum = Checksum::Partial { start, offset: 16 };
            for len in [14, 34, 60, 61] {
                let packet = frame(&mut joint, 0, len);
                let mut batch = Batch::new();
                let facts = Facts { checksum, gso };
                batch.push(Packet { facts, ..packet }).unwrap();
                joint.take(START, 0, &mut batch);
                sent += 1;
            }
        }
    }
    assert_eq!(joint.counts()[0].frames, sent);
}
