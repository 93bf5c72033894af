use super::*;
use crate::packet::{Facts, Gso};
use crate::rng::Rng;
use std::collections::VecDeque;
use std::sync::atomic::AtomicU32;
use std::thread;

#[test]
fn values_against_a_deque() {
    for (seed, capacity) in [(1, 1), (2, 2), (3, 5), (4, 64)] {
        let (mut tx, mut rx) = spsc::<u64>(capacity);
        let capacity = tx.capacity();
        // Values the consumer may see, and those only staged.
        let (mut model, mut staged) = (VecDeque::new(), VecDeque::new());
        let mut rng = Rng::from_seed(seed);
        for n in 0..50_000 {
            match rng.below(4) {
                0 => {
                    let accepted = tx.push(n).is_ok();
                    // The producer may not know yet of the last eighth taken out.
                    assert!(accepted || model.len() + staged.len() + capacity / 8 >= capacity);
                    staged.extend(accepted.then_some(n));
                    model.append(&mut staged);
                }
                1 => match tx.stage(n) {
                    Ok(()) => staged.push_back(n),
                    Err(back) => {
                        assert_eq!(back, n);
                        model.append(&mut staged);
                    }
                },
                2 => {
                    assert_eq!(rx.len(), model.len());
                    assert_eq!(rx.pop(), model.pop_front());
                }
                _ => {
                    tx.commit();
                    model.append(&mut staged);
                }
            }
            assert!(model.len() + staged.len() <= capacity);
        }
    }
}

#[test]
fn memory_that_there_is_not_is_refused() {
    for (slots, size) in [
        (usize::MAX, 1),
        (1 << 46, 65_536),
        (usize::MAX / 2, usize::MAX),
    ] {
        let error = frames(slots, size).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory, "{slots}");
    }
}

#[test]
fn values_between_threads() {
    const COUNT: u64 = 300_000;
    let (mut tx, mut rx) = spsc::<Box<u64>>(128);
    let producer = thread::spawn(move || {
        for n in 0..COUNT {
            let mut value = Box::new(n);
            while let Err(back) = if n % 7 == 0 {
                tx.push(value)
            } else {
                tx.stage(value)
            } {
                value = back;
                thread::yield_now();
            }
        }
    });
    let mut next = 0;
    loop {
        let closed = rx.is_closed();
        while let Some(value) = rx.pop() {
            assert_eq!(*value, next);
            next += 1;
        }
        if closed {
            break;
        }
        thread::yield_now();
    }
    assert_eq!(next, COUNT);
    producer.join().unwrap();
}

#[test]
fn values_left_are_dropped() {
    static ALIVE: AtomicU32 = AtomicU32::new(0);
    struct Counted;
    impl Counted {
        fn new() -> Counted {
            ALIVE.fetch_add(1, Ordering::Relaxed);
            Counted
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let (mut tx, mut rx) = spsc(8);
    for _ in 0..5 {
        assert!(tx.stage(Counted::new()).is_ok());
    }
    assert!(rx.pop().is_none() && !rx.is_closed());
    drop(tx);
    assert!(rx.is_closed() && rx.pop().is_some());
    assert_eq!(ALIVE.load(Ordering::Relaxed), 4);
    drop(rx);
    assert_eq!(ALIVE.load(Ordering::Relaxed), 0);

    let (mut tx, rx) = spsc(8);
    drop(rx);
    assert!(tx.is_closed() && tx.push(Counted::new()).is_ok());
    drop(tx);
    assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
}

fn frame(rng: &mut Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.below(most as u32 + 1) as usize];
    rng.fill(&mut bytes);
    bytes
}

#[test]
fn frames_against_a_deque() {
    let (mut tx, mut rx) = frames(16, 300).unwrap();
    let (mut model, mut staged) = (VecDeque::new(), VecDeque::new());
    let mut rng = Rng::from_seed(5);
    for n in 0..50_000u16 {
        match rng.below(6) {
            0..3 => {
                let bytes = frame(&mut rng, 300);
                let facts = Facts {
                    gso: Gso {
                        size: n,
                        ..Gso::NONE
                    },
                    ..Facts::NONE
                };
                if tx.push_facts(bytes.len(), facts, |out| out.copy_from_slice(&bytes)) {
                    staged.push_back((n, bytes));
                } else {
                    assert!(model.len() + staged.len() + 2 >= 16);
                    model.append(&mut staged);
                }
            }
            3 => {
                tx.commit();
                model.append(&mut staged);
            }
            4 => {
                let peeked = rx
                    .peek()
                    .map(|(facts, bytes)| (facts.gso.size, bytes.to_vec()));
                assert_eq!(peeked.as_ref(), model.front());
                let found = rx.pop_facts(|facts, bytes| (facts.gso.size, bytes.to_vec()));
                assert_eq!(found, model.pop_front());
            }
            _ => assert_eq!(rx.skip(), model.pop_front().is_some()),
        }
    }
    assert!(!tx.push_with(301, |_| unreachable!()));
    assert_eq!(tx.slot_size(), 300);
}

#[test]
fn frames_between_threads() {
    const COUNT: u32 = 200_000;
    let (mut tx, mut rx) = frames(64, 256).unwrap();
    let producer = thread::spawn(move || {
        let mut rng = Rng::from_seed(6);
        for n in 0..COUNT {
            let bytes = frame(&mut rng, 256);
            while !tx.push_with(bytes.len(), |out| out.copy_from_slice(&bytes)) {
                thread::yield_now();
            }
            if n % 32 == 0 {
                tx.commit();
            }
        }
    });
    let mut rng = Rng::from_seed(6);
    let mut received = 0;
    while received < COUNT {
        let popped = rx.pop_with(|bytes| assert_eq!(bytes, frame(&mut rng, 256)));
        received += u32::from(popped);
        if !popped {
            thread::yield_now();
        }
    }
    producer.join().unwrap();
    assert!(rx.is_closed() && rx.is_empty() && !rx.pop_with(|_| unreachable!()));
}
