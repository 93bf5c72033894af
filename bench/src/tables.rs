//! What a lookup, a timer and a block cost as their tables grow, beside the standard library's structures.
//!
//! What does not live here: whole hosts (see `rings`).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hint::black_box;
use std::time::Duration;

use base::{FlowTable, Instant, Pool, Rng, SipKey, TimerId, Wheel};

use crate::Args;
use crate::measure::{median, ns_per_op};
use crate::report::{Report, human};

/// Operations between two looks at the clock, and the batch a shard works in.
const ROUND: usize = 4096;
const BATCH: usize = 64;

type Tuple = [u8; 36];

/// A stand-in for a connection record: two cache lines, the key in the first.
#[derive(Clone)]
#[repr(C, align(64))]
struct Record {
    key: Tuple,
    rest: [u8; 92],
}

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let sizes: &[usize] = if args.smoke {
        &[1_000, 10_000]
    } else {
        &[1_000, 10_000, 100_000, 1_000_000, 10_000_000]
    };
    let mut report = Report::new(
        "tables: CPU ns per operation, medians (std: HashMap, BinaryHeap)",
        &[
            "entries",
            "lookup",
            "lookup, batched",
            "std lookup",
            "ratio",
            "arm + fire",
            "std heap",
            "ratio",
            "block",
        ],
        args.json,
    );
    for &n in sizes {
        let runs: Vec<[f64; 6]> = (0..args.runs.max(1))
            .map(|seed| measure(n, seed as u64, args.seconds / 4.0))
            .collect();
        let mid = |at: usize| median(&runs.iter().map(|r| r[at]).collect::<Vec<_>>());
        let figures: Vec<f64> = (0..6).map(mid).collect();
        report.row(&[
            human(n as f64),
            format!("{:.1}", figures[0]),
            format!("{:.1}", figures[1]),
            format!("{:.1}", figures[2]),
            format!("{:.2}x", figures[2] / figures[1]),
            format!("{:.1}", figures[3]),
            format!("{:.1}", figures[4]),
            format!("{:.2}x", figures[4] / figures[3]),
            format!("{:.1}", figures[5]),
        ]);
    }
    report.note(
        "lookup: keyed hash, find, compare the key in a record of 128 B, all touched at random",
    );
    report.print();
    Ok(())
}

fn measure(n: usize, seed: u64, time: f64) -> [f64; 6] {
    let mut rng = Rng::from_seed(seed);
    let mut tuple = || {
        let mut key = [0; 36];
        rng.fill(&mut key);
        key
    };
    let records: Vec<Record> = (0..n)
        .map(|_| Record {
            key: tuple(),
            rest: [0; 92],
        })
        .collect();
    let [single, batched] = lookups(&records, seed, time);
    let std = std_lookups(&records, seed, time);
    [
        single,
        batched,
        std,
        wheel(n, seed, time),
        heap(n, seed, time),
        blocks(n, seed, time),
    ]
}

fn lookups(records: &[Record], seed: u64, time: f64) -> [f64; 2] {
    let mut table = FlowTable::with_capacity(records.len() as u32, SipKey([7; 16]));
    for (at, record) in records.iter().enumerate() {
        let hash = table.hash(&record.key);
        table
            .insert(hash, at as u32)
            .expect("the table was made for them");
    }
    let mut rng = Rng::from_seed(seed ^ 1);
    // The keys arrive from outside, so they are copies, not the records' own lines.
    let mut keys = vec![[0; 36]; ROUND];
    let mut refill = |keys: &mut Vec<Tuple>| {
        for key in keys {
            *key = records[rng.below(records.len() as u32) as usize].key;
        }
    };
    let mut spent = 0.0;
    let mut ops = 0u64;
    let start = crate::measure::wall();
    while crate::measure::wall() - start < time {
        refill(&mut keys);
        flush_lines(&keys);
        let begin = crate::measure::thread_cpu();
        for key in &keys {
            let hash = table.hash(key);
            black_box(
                table
                    .find(hash, |at| records[at as usize].key == *key)
                    .map(|at| records[at as usize].rest[64]),
            );
        }
        spent += crate::measure::thread_cpu() - begin;
        ops += keys.len() as u64;
    }
    let single = spent * 1e9 / ops as f64;
    (spent, ops) = (0.0, 0);
    let start = crate::measure::wall();
    while crate::measure::wall() - start < time {
        refill(&mut keys);
        flush_lines(&keys);
        let begin = crate::measure::thread_cpu();
        for batch in keys.chunks(BATCH) {
            let mut hashes = [0; BATCH];
            for (hash, key) in hashes.iter_mut().zip(batch) {
                *hash = table.hash(key);
                table.prefetch(*hash);
            }
            for hash in &hashes[..batch.len()] {
                if let Some(at) = table.candidate(*hash) {
                    base::prefetch::read(&records[at as usize]);
                    base::prefetch::read(&records[at as usize].rest[64]);
                }
            }
            for (hash, key) in hashes.iter().zip(batch) {
                black_box(
                    table
                        .find(*hash, |at| records[at as usize].key == *key)
                        .map(|at| records[at as usize].rest[64]),
                );
            }
        }
        spent += crate::measure::thread_cpu() - begin;
        ops += keys.len() as u64;
    }
    [single, spent * 1e9 / ops as f64]
}

/// Walks other memory, so that the records just copied from are not in the small caches by that.
fn flush_lines(keys: &[Tuple]) {
    thread_local!(static OTHER: Vec<u64> = vec![1; 1 << 18]);
    OTHER.with(|other| black_box(other.iter().sum::<u64>() + u64::from(keys[0][0])));
}

fn std_lookups(records: &[Record], seed: u64, time: f64) -> f64 {
    let map: HashMap<Tuple, u32> = records
        .iter()
        .enumerate()
        .map(|(at, r)| (r.key, at as u32))
        .collect();
    let mut rng = Rng::from_seed(seed ^ 1);
    let mut keys = vec![[0; 36]; ROUND];
    let (mut spent, mut ops) = (0.0, 0u64);
    let start = crate::measure::wall();
    while crate::measure::wall() - start < time {
        for key in &mut keys {
            *key = records[rng.below(records.len() as u32) as usize].key;
        }
        flush_lines(&keys);
        let begin = crate::measure::thread_cpu();
        for key in &keys {
            black_box(map.get(key).map(|at| records[*at as usize].rest[64]));
        }
        spent += crate::measure::thread_cpu() - begin;
        ops += keys.len() as u64;
    }
    spent * 1e9 / ops as f64
}

/// `n` timers armed; each step lets the due ones fire and arms them again, as retransmission timers do.
fn wheel(n: usize, seed: u64, time: f64) -> f64 {
    let mut wheel = Wheel::with_capacity(n as u32);
    let mut rng = Rng::from_seed(seed ^ 2);
    let mut now = Instant::ZERO;
    let mut delay = || Duration::from_micros(u64::from(rng.below(1_000_000)) + 1);
    for at in 0..n {
        let id = wheel.arm(now + delay(), at as u64);
        debug_assert!(id.is_some_and(TimerId::is_some));
    }
    let step = Duration::from_nanos(1_000_000_000 / n as u64 * 64);
    ns_per_op(time, || {
        let mut fired = 0;
        while fired < ROUND as u64 {
            now += step;
            while let Some(token) = wheel.pop_expired(now) {
                black_box(wheel.arm(now + delay(), token));
                fired += 1;
            }
        }
        fired
    })
}

fn heap(n: usize, seed: u64, time: f64) -> f64 {
    let mut heap = BinaryHeap::with_capacity(n);
    let mut rng = Rng::from_seed(seed ^ 2);
    let mut now = 0u64;
    let mut delay = || u64::from(rng.below(1_000_000)) * 1000 + 1;
    for at in 0..n as u64 {
        heap.push(Reverse((delay(), at)));
    }
    let step = 1_000_000_000 / n as u64 * 64;
    ns_per_op(time, || {
        let mut fired = 0;
        while fired < ROUND as u64 {
            now += step;
            while heap.peek().is_some_and(|Reverse((at, _))| *at <= now) {
                let Some(Reverse((_, token))) = heap.pop() else {
                    break;
                };
                heap.push(Reverse((now + delay(), token)));
                fired += 1;
            }
        }
        fired
    })
}

/// A block taken, written and given back, in a pool of `n` blocks of which half are in use.
fn blocks(n: usize, seed: u64, time: f64) -> f64 {
    let Ok(mut pool) = Pool::new((n as u32).clamp(256, 1 << 20)) else {
        return f64::NAN;
    };
    let held: Vec<_> = (0..pool.capacity() / 2)
        .filter_map(|_| pool.alloc(128))
        .collect();
    let mut batch = Vec::with_capacity(BATCH);
    let _ = seed;
    let cost = ns_per_op(time, || {
        for _ in 0..ROUND / BATCH {
            for _ in 0..BATCH {
                if let Some(mut chain) = pool.alloc(128) {
                    if let Some(bytes) = pool.push_back(&mut chain, 64) {
                        bytes[0] = 1;
                    }
                    batch.push(chain);
                }
            }
            for chain in batch.drain(..) {
                pool.free(chain);
            }
        }
        ROUND as u64
    });
    for chain in held {
        pool.free(chain);
    }
    cost
}
