//! Both sides of a ring in every order that the memory model allows (`cargo xtask loom`).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Plain;

use loom::thread;

use super::*;

/// What is put in comes out, once and in order, whatever does not fit coming back; when the writer has gone nothing is left.
#[test]
fn values_come_in_order_and_none_twice() {
    loom::model(|| {
        let (mut tx, mut rx) = spsc::<usize>(2);
        let writer = thread::spawn(move || (1..=3).filter(|&n| tx.push(n).is_ok()).collect());
        let mut got = Vec::new();
        for _ in 0..3 {
            got.extend(rx.pop());
        }
        let put: Vec<usize> = writer.join().unwrap();
        assert!(rx.is_closed());
        got.extend(std::iter::from_fn(|| rx.pop()));
        assert_eq!(got, put);
        assert!(put.len() >= 2, "there was room for two");
    });
}

/// Who asks whether the writer has gone, and then takes everything, has everything.
#[test]
fn what_was_staged_is_there_when_the_writer_has_gone() {
    loom::model(|| {
        let (mut tx, mut rx) = spsc::<usize>(4);
        let writer = thread::spawn(move || {
            tx.stage(1).unwrap();
            tx.stage(2).unwrap();
            tx.commit();
            tx.stage(3).unwrap();
        });
        let closed = rx.is_closed();
        let got: Vec<usize> = std::iter::from_fn(|| rx.pop()).collect();
        assert!([1, 2, 3].starts_with(&got));
        assert!(!closed || got.len() == 3, "{got:?}");
        writer.join().unwrap();
    });
}

/// A slot is not written again before what was in it has been taken.
#[test]
fn room_that_is_given_back_may_be_used() {
    loom::model(|| {
        let (mut tx, mut rx) = spsc::<usize>(1);
        let reader = thread::spawn(move || {
            let mut got = Vec::new();
            for _ in 0..2 {
                got.extend(rx.pop());
            }
            (got, rx)
        });
        let mut put = Vec::new();
        for n in 1..=2 {
            if tx.push(n).is_ok() {
                put.push(n);
            }
        }
        let (mut got, mut rx) = reader.join().unwrap();
        got.extend(rx.pop());
        assert_eq!(got, put);
        assert!(!put.is_empty());
    });
}

/// Each value is dropped once, whichever side goes first.
#[test]
fn values_left_are_dropped_once() {
    struct Counted(Arc<Plain>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    loom::model(|| {
        let dropped = Arc::new(Plain::new(0));
        let (mut tx, mut rx) = spsc(2);
        let counted = dropped.clone();
        let writer = thread::spawn(move || {
            for _ in 0..3 {
                let _ = tx.push(Counted(counted.clone()));
            }
            let _gone = tx.is_closed();
        });
        drop(rx.pop());
        drop(rx);
        writer.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
    });
}

/// Frames have the same counts before and behind them: what the reader sees was written whole.
#[test]
fn a_frame_is_told_of_when_it_is_whole() {
    loom::model(|| {
        let (mut tx, mut rx) = frames(2, 8).unwrap();
        let writer = thread::spawn(move || {
            for n in 1..=2 {
                assert!(tx.push_with(4, |out| out.fill(n)));
            }
            tx.commit();
        });
        let mut next = 1;
        for _ in 0..2 {
            let popped = rx.pop_with(|bytes| assert_eq!(bytes, [next; 4]));
            next += u8::from(popped);
        }
        writer.join().unwrap();
        while rx.pop_with(|bytes| assert_eq!(bytes, [next; 4])) {
            next += 1;
        }
        assert_eq!(next, 3);
    });
}
