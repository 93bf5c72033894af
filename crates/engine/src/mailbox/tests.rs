//! The mailbox keeps its bound and loses neither messages nor wake-ups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};

use super::*;

/// The shard's side of the protocol: sleeps without a timeout, so that a lost wake-up hangs the test.
fn next_batch(inbox: &mut Inbox<u64>, into: &mut Vec<u64>, announced: &mut u64) {
    loop {
        inbox.drain(into);
        let mailbox = inbox.mailbox();
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
    let (mailbox, mut inbox) = Mailbox::new(2).unwrap();
    let mut got = Vec::new();
    // Two in the lane, two in the queue.
    for n in 1..=4 {
        mailbox.post(n).unwrap();
    }
    assert_eq!(mailbox.post(5), Err((5, PostError::Full)));
    mailbox.post_unbounded(6).unwrap();
    inbox.drain(&mut got);
    assert_eq!(got, [1, 2, 3, 4, 6]);
    mailbox.post(7).unwrap();
    inbox.close();
    assert_eq!(mailbox.post(8), Err((8, PostError::Closed)));
}

/// Says how many of it were dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicU64>);
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_nobody_drained_is_dropped_when_the_mailbox_closes() {
    let dropped = Arc::new(AtomicU64::new(0));
    let (mailbox, inbox) = Mailbox::new(3).unwrap();
    for _ in 0..5 {
        let _ = mailbox.post(Counted(dropped.clone()));
    }
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    drop(inbox);
    assert_eq!(dropped.load(Ordering::Relaxed), 5);
}

/// Whoever comes when the mailbox is about to close is heard, refused or dropped: nothing stays in a lane.
#[test]
fn nothing_is_left_behind_by_a_race_with_the_end() {
    for _ in 0..300 {
        let dropped = Arc::new(AtomicU64::new(0));
        let (mailbox, inbox) = Mailbox::new(64).unwrap();
        let closer = thread::spawn(move || drop(inbox));
        let mut left = 0;
        loop {
            left += 1;
            if mailbox.post(Counted(dropped.clone())).is_err() {
                break;
            }
        }
        closer.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), left);
    }
}

/// Whoever leaves messages as fast as they are taken does not hold the shard up.
#[test]
fn a_drain_is_bounded() {
    let (mailbox, mut inbox) = Mailbox::new(lane::ROOM).unwrap();
    let sender = thread::spawn(move || {
        for n in 0..40_000u64 {
            while mailbox.post(n).is_err() {
                thread::yield_now();
            }
        }
    });
    let (mut got, mut total) = (Vec::new(), 0);
    while total < 40_000 {
        inbox.drain(&mut got);
        // What was in the lane, and what was in the queue.
        assert!(got.len() <= 2 * lane::ROOM, "{}", got.len());
        total += got.len();
        got.clear();
    }
    sender.join().unwrap();
}

/// More threads than lanes, more messages than room, threads that come and go: all arrives once, in each thread's order.
#[test]
fn each_thread_s_messages_arrive_in_order() {
    const AT_ONCE: u64 = 2 * LANES as u64;
    const EACH: u64 = 2_000;
    let (mailbox, mut inbox) = Mailbox::new(usize::MAX).unwrap();
    let mut got = Vec::new();
    let mut next = vec![0; 3 * AT_ONCE as usize];
    for round in 0..3 {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|who| {
                let (mailbox, who) = (mailbox.clone(), round * AT_ONCE + who);
                thread::spawn(move || {
                    for n in 0..EACH {
                        mailbox.post(who << 32 | n).unwrap();
                        if n % 500 == who {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut left = AT_ONCE * EACH;
        while left > 0 {
            inbox.drain(&mut got);
            left -= got.len() as u64;
            for message in got.drain(..) {
                let (who, n) = ((message >> 32) as usize, message & 0xffff_ffff);
                assert_eq!(n, next[who], "of thread {who}");
                next[who] += 1;
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }
    inbox.drain(&mut got);
    assert!(got.is_empty());
    assert_eq!(mailbox.queue().free, u64::MAX, "lanes are given back");
}

#[test]
fn no_write_while_awake() {
    let (mailbox, mut inbox) = Mailbox::new(1024).unwrap();
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
    inbox.drain(&mut got);
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
    let (mailbox, mut inbox) = Mailbox::new(64).unwrap();
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
        let answered = answered.clone();
        thread::spawn(move || {
            let (mut batch, mut announced, mut total) = (Vec::new(), 0, 0u64);
            while total < SENDERS * ROUNDS {
                next_batch(&mut inbox, &mut batch, &mut announced);
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
        let (mailbox, mut inbox) = Mailbox::<u64>::new(4).unwrap();
        let sleeper = thread::spawn(move || next_batch(&mut inbox, &mut Vec::new(), &mut 0));
        mailbox.stop();
        sleeper.join().unwrap();
    }
}
