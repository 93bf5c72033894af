//! The mailbox keeps its bound and loses neither messages nor wake-ups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};

use super::*;

/// The shard's side of the protocol: sleeps without a timeout, so that a lost wake-up hangs the test.
fn next_batch(mailbox: &Mailbox<u64>, into: &mut Vec<u64>, announced: &mut u64) {
    loop {
        mailbox.drain(into);
        if !into.is_empty() || mailbox.stopping() {
            return;
        }
        mailbox.wake().prepare();
        *announced += 1;
        if !mailbox.has_work() {
            let mut fds = [PollFd::from_borrowed_fd(mailbox.wake().fd(), PollFlags::IN)];
            poll(&mut fds, None).unwrap();
            mailbox.wake().drain();
        }
        mailbox.wake().awake();
    }
}

#[test]
fn bound_and_order() {
    let mailbox = Mailbox::new(2).unwrap();
    mailbox.post(1).unwrap();
    mailbox.post(2).unwrap();
    assert_eq!(mailbox.post(3), Err((3, PostError::Full)));
    mailbox.post_unbounded(4).unwrap();
    let mut got = Vec::new();
    mailbox.drain(&mut got);
    assert_eq!(got, [1, 2, 4]);
    mailbox.post(5).unwrap();
    assert_eq!(mailbox.close(), [5]);
    assert_eq!(mailbox.post(6), Err((6, PostError::Closed)));
}

#[test]
fn no_write_while_awake() {
    let mailbox = Mailbox::new(1024).unwrap();
    for n in 0..1000u64 {
        mailbox.post(n).unwrap();
    }
    assert_eq!(
        mailbox.wake().written(),
        0,
        "a shard that is awake costs nobody a system call"
    );
    mailbox.wake().prepare();
    assert!(
        mailbox.has_work(),
        "work posted before the announcement is seen by the check"
    );
    mailbox.wake().awake();
    let mut got = Vec::new();
    mailbox.drain(&mut got);
    mailbox.wake().prepare();
    mailbox.post(1).unwrap();
    mailbox.post(2).unwrap();
    assert_eq!(
        mailbox.wake().written(),
        1,
        "one write wakes for any number of messages"
    );
}

/// Ping-pong between threads: every message is answered before the next is sent, so the shard sleeps as often as it can and
/// one lost wake-up stops everything for ever.
#[test]
fn no_lost_wake_up() {
    const SENDERS: u64 = 4;
    const ROUNDS: u64 = 20_000;
    let mailbox = Arc::new(Mailbox::new(64).unwrap());
    let answered: Arc<Vec<AtomicU64>> = Arc::new((0..SENDERS).map(|_| AtomicU64::new(0)).collect());
    let senders: Vec<_> = (0..SENDERS)
        .map(|who| {
            let (mailbox, answered) = (mailbox.clone(), answered.clone());
            thread::spawn(move || {
                for round in 1..=ROUNDS {
                    mailbox.post(who).unwrap();
                    while answered[who as usize].load(Ordering::Acquire) < round {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let shard = {
        let (mailbox, answered) = (mailbox.clone(), answered.clone());
        thread::spawn(move || {
            let (mut batch, mut announced, mut total) = (Vec::new(), 0, 0u64);
            while total < SENDERS * ROUNDS {
                next_batch(&mailbox, &mut batch, &mut announced);
                for who in batch.drain(..) {
                    total += 1;
                    answered[who as usize].fetch_add(1, Ordering::Release);
                }
            }
            announced
        })
    };
    for sender in senders {
        sender.join().unwrap();
    }
    let announced = shard.join().unwrap();
    assert!(
        mailbox.wake().written() <= announced,
        "at most one write for each time it went to sleep"
    );
}

#[test]
fn stop_wakes_a_sleeper() {
    for _ in 0..500 {
        let mailbox = Arc::new(Mailbox::<u64>::new(4).unwrap());
        let sleeper = {
            let mailbox = mailbox.clone();
            thread::spawn(move || next_batch(&mailbox, &mut Vec::new(), &mut 0))
        };
        mailbox.stop();
        sleeper.join().unwrap();
    }
}
