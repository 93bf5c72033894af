//! What a lookup, a timer and a block cost as their tables grow, beside the standard library's structures.
//!
//! What does not live here: whole hosts (see `rings`).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hint::black_box;
use std::time::Duration;

use base::{Candidate, FlowTable, Instant, Pool, Rng, SipKey, Slab, TimerId, Wheel, siphash};

use crate::Args;
use crate::measure::{median, ns_per_op};
use crate::report::{Report, human};

/// Operations between two looks at the clock, and the batch a shard works in.
const ROUND: usize = 4096;
const BATCH: usize = 64;

/// The bytes a connection's hash is taken of: addresses and ports of IPv4.
type Tuple = [u8; 12];

/// A stand-in for a connection record: two cache lines, the key in the first.
#[repr(C, align(64))]
struct Record {
    key: Tuple,
    alive: bool,
    rest: [u8; 115],
}

/// The `at`th tuple: a stream of them that touches no record, as tuples that arrive from outside do.
fn tuple(at: u32) -> Tuple {
    let at = at.to_le_bytes();
    let mut key = [0; 12];
    key[..8].copy_from_slice(&siphash(&SipKey([3; 16]), &at).to_le_bytes());
    key[8..].copy_from_slice(&at);
    key
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
            .map(|seed| measure(n, seed as u64, args.seconds() / 4.0))
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
    let [single, batched] = lookups(n as u32, seed, time);
    let std = std_lookups(n as u32, seed, time);
    [
        single,
        batched,
        std,
        wheel(n, seed, time),
        heap(n, seed, time),
        blocks(n, seed, time),
    ]
}

/// CPU ns per key of `look`, which is handed [`ROUND`] tuples of random records at a time.
fn ns_per_key(n: u32, seed: u64, time: f64, mut look: impl FnMut(&[Tuple])) -> f64 {
    let mut rng = Rng::from_seed(seed ^ 1);
    let mut keys = vec![[0; 12]; ROUND];
    let (mut spent, mut ops) = (0.0, 0);
    let start = crate::measure::wall();
    while crate::measure::wall() - start < time {
        keys.fill_with(|| tuple(rng.below(n)));
        let begin = crate::measure::thread_cpu();
        look(&keys);
        spent += crate::measure::thread_cpu() - begin;
        ops += keys.len();
    }
    spent * 1e9 / ops as f64
}

fn lookups(n: u32, seed: u64, time: f64) -> [f64; 2] {
    let mut table = FlowTable::with_capacity(n, SipKey([7; 16]));
    let mut records = Slab::with_capacity(n);
    for at in 0..n {
        let key = records.insert(Record {
            key: tuple(at),
            alive: true,
            rest: [0; 115],
        });
        let slot = key.expect("the slab was made for them").index;
        table
            .insert(table.hash(&tuple(at)), slot)
            .expect("the table was made for them");
    }
    let find = |hash, key: &Tuple| {
        let at = table.find(hash, |at| records.at(at).is_some_and(|r| r.key == *key));
        let record = at.and_then(|at| records.at(at));
        assert!(record.is_some_and(|r| r.alive && black_box(r.rest[110]) == 0));
    };
    let single = ns_per_key(n, seed, time, |keys| {
        for key in keys {
            find(table.hash(key), key);
        }
    });
    // As a shard does it: short passes, each fetching what the next one reads.
    let batched = ns_per_key(n, seed, time, |keys| {
        for batch in keys.chunks(BATCH) {
            let mut hashes = [0; BATCH];
            for (hash, key) in hashes.iter_mut().zip(batch) {
                *hash = table.hash(key);
                table.prefetch(*hash);
            }
            let hashes = &hashes[..batch.len()];
            let mut later = 0u64;
            for (at, hash) in hashes.iter().enumerate() {
                match table.candidate(*hash) {
                    Candidate::Index(slot) => records.prefetch(slot),
                    Candidate::Later => later |= 1 << at,
                    Candidate::Absent => {}
                }
            }
            while later != 0 {
                if let Some(slot) = table.later(hashes[later.trailing_zeros() as usize]) {
                    records.prefetch(slot);
                }
                later &= later - 1;
            }
            for (hash, key) in hashes.iter().zip(batch) {
                find(*hash, key);
            }
        }
    });
    [single, batched]
}

fn std_lookups(n: u32, seed: u64, time: f64) -> f64 {
    let map: HashMap<Tuple, u32> = (0..n).map(|at| (tuple(at), at)).collect();
    let records: Vec<Record> = (0..n)
        .map(|at| Record {
            key: tuple(at),
            alive: true,
            rest: [0; 115],
        })
        .collect();
    ns_per_key(n, seed, time, |keys| {
        for key in keys {
            let record = map.get(key).and_then(|at| records.get(*at as usize));
            assert!(record.is_some_and(|r| r.alive && black_box(r.rest[110]) == 0));
        }
    })
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
