use super::*;
use crate::rng::Rng;
use std::collections::HashMap;

fn table(capacity: u32) -> FlowTable {
    FlowTable::with_capacity(capacity, SipKey([7; 16]))
}

#[test]
fn sizes() {
    assert_eq!(size_of::<Line>(), 64);
    for capacity in [1_000, 65_536, 1_000_000, 10_000_000] {
        let table = table(capacity);
        let bytes = table.buckets.len() * size_of::<Line>();
        assert!(
            bytes <= FlowTable::ENTRY_BYTES * capacity as usize + 1_024,
            "{bytes} for {capacity}"
        );
    }
}

#[test]
fn buckets_start_on_cache_lines() {
    assert_eq!(table(100).buckets.as_ptr().addr() % 64, 0);
}

/// Counts what passed every bucket anew from the model's entries.
fn check(table: &FlowTable, model: &HashMap<u32, u64>) {
    let mut passed = vec![0; table.buckets.len()];
    for (&index, &hash) in model {
        let mut path = table.path(hash);
        let end = table.locate(hash, |i| i == index).unwrap();
        while path.bucket != end.bucket {
            passed[path.bucket] += 1;
            table.advance(&mut path);
        }
    }
    for (bucket, passed) in table.buckets.iter().zip(passed) {
        assert_eq!(bucket.0[PASSED], passed);
    }
    let places = table
        .buckets
        .iter()
        .map(|b| b.0[..WAYS].iter().filter(|&&tag| tag != 0).count())
        .sum::<usize>();
    assert_eq!(places, model.len());
}

/// `spread`: how many different tags there are, to have many entries alike.
fn run(seed: u64, capacity: u32, steps: u32, spread: u32) {
    let mut rng = Rng::from_seed(seed);
    let mut table = table(capacity);
    let mut model: HashMap<u32, u64> = HashMap::new();
    let mut indices: Vec<u32> = Vec::new();
    for step in 0..steps {
        let some = (!indices.is_empty()).then(|| rng.below(indices.len() as u32) as usize);
        match (rng.below(8), some) {
            (0..4, _) => {
                let hash = u64::from(rng.below(spread)) << 32 | u64::from(rng.u32());
                match table.insert(hash, step) {
                    Ok(()) => {
                        model.insert(step, hash);
                        indices.push(step);
                    }
                    Err(Full) => assert_eq!(model.len(), capacity as usize),
                }
            }
            (4, Some(place)) => {
                let old = indices[place];
                let hash = model.remove(&old).unwrap();
                assert!(table.replace(hash, old, step) && !table.replace(hash, old, step));
                model.insert(step, hash);
                indices[place] = step;
            }
            (5..7, Some(place)) => {
                let index = indices.swap_remove(place);
                let hash = model.remove(&index).unwrap();
                assert!(table.remove(hash, index) && !table.remove(hash, index));
                assert_eq!(table.find(hash, |i| i == index), None);
            }
            (_, Some(place)) => {
                let index = indices[place];
                let hash = model[&index];
                assert_eq!(table.find(hash, |i| i == index), Some(index));
                let candidate = candidate(&table, hash).unwrap();
                assert_eq!(FlowTable::tag(model[&candidate]), FlowTable::tag(hash));
                table.prefetch(hash);
            }
            _ => {
                let hash = rng.u64();
                assert_eq!(table.find(hash, |_| true), None);
                assert_eq!(candidate(&table, hash), None);
            }
        }
        assert_eq!(table.len() as usize, model.len());
        if step % 512 == 0 {
            check(&table, &model);
        }
    }
    check(&table, &model);
    for (index, hash) in model.drain() {
        assert!(table.remove(hash, index));
    }
    check(&table, &model);
}

/// The candidate, in one look or in two.
fn candidate(table: &FlowTable, hash: u64) -> Option<u32> {
    match table.candidate(hash) {
        Candidate::Index(index) => Some(index),
        Candidate::Later => table.later(hash),
        Candidate::Absent => None,
    }
}

#[test]
fn agrees_with_a_map() {
    for seed in 0..8 {
        run(seed, 1_000, 8_000, u32::MAX);
        run(seed, 200, 4_000, 4);
        run(seed, 1, 200, 2);
        run(seed, 17, 2_000, 2);
    }
}

#[test]
fn fills_up_even_from_one_place() {
    let mut table = table(500);
    // The same hash, tag 0 at that: every entry on the same path.
    for index in 0..500 {
        table.insert(9, index).unwrap();
    }
    assert_eq!(table.insert(9, 500), Err(Full));
    assert!((0..500).all(|index| table.find(9, |i| i == index) == Some(index)));
    assert_eq!(table.find(9, |_| false), None);
    assert!((0..500).rev().all(|index| table.remove(9, index)));
    assert!(table.is_empty() && table.buckets.iter().all(|b| b.0[PASSED] == 0));
}

#[test]
fn hardly_anything_passes_at_three_quarters() {
    let mut table = table(100_000);
    let mut rng = Rng::from_seed(2);
    let hashes: Vec<u64> = (0..100_000).map(|_| rng.u64()).collect();
    for (index, &hash) in hashes.iter().enumerate() {
        table.insert(hash, index as u32).unwrap();
    }
    let passed: u32 = table.buckets.iter().map(|b| b.0[PASSED]).sum();
    assert!(
        passed < 10_000,
        "{passed} of 100000 entries are beyond a full bucket"
    );
    let wrong = (0..100_000)
        .filter(|&i| candidate(&table, hashes[i]) != Some(i as u32))
        .count();
    assert!(wrong < 10, "{wrong} candidates are not the one");
}

#[test]
fn keyed() {
    let (a, b) = (table(1), FlowTable::with_capacity(1, SipKey([8; 16])));
    assert_eq!(a.hash(b"tuple"), siphash(&SipKey([7; 16]), b"tuple"));
    assert_ne!(a.hash(b"tuple"), b.hash(b"tuple"));
}

#[test]
fn primes() {
    let primes: Vec<u64> = [0, 3, 4, 8, 90, 1_875_000]
        .into_iter()
        .map(next_prime)
        .collect();
    assert_eq!(primes, [2, 3, 5, 11, 97, 1_875_007]);
}
