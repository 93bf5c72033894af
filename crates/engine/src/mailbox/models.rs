//! Threads that leave messages, and a shard that sleeps, in every order that the memory model allows (`cargo xtask loom`). A
//! sleep has no end but a wake-up, so that one that is lost leaves a thread waiting for ever, which loom finds.

use std::sync::Arc;
use std::sync::atomic::AtomicU64 as Plain;

use loom::model::Builder;
use loom::thread;

use super::*;

/// More switches between threads than that, which nothing forces, find nothing new and take for ever. (LOOM_MAX_PREEMPTIONS sets
/// another number.)
const SWITCHES: usize = 3;

fn model(play: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(SWITCHES));
    builder.check(play);
}

/// Both ends of a mailbox that is never freed: loom does not know what orders the last use of one before that.
fn ends(limit: usize) -> (Arc<Mailbox<u64>>, Inbox<u64>) {
    let (mailbox, inbox) = Mailbox::new(limit).unwrap();
    std::mem::forget(mailbox.clone());
    (mailbox, inbox)
}

/// The shard's side: takes messages and sleeps, until it has `until` of them and all threads have given their lanes back, or it
/// is told to stop.
fn serve(inbox: &mut Inbox<u64>, until: usize) -> Vec<u64> {
    let mut got = Vec::new();
    loop {
        inbox.drain(&mut got);
        let mailbox = inbox.mailbox();
        let over = got.len() >= until && mailbox.queue().free == u64::MAX;
        if over || mailbox.stopping() {
            return got;
        }
        mailbox.wake().prepare();
        if !mailbox.has_work() {
            mailbox.wake().sleep();
        }
        mailbox.wake().awake();
    }
}

#[test]
fn each_message_is_drained_by_a_shard_that_sleeps() {
    model(|| {
        let (mailbox, mut inbox) = ends(4);
        let sender = thread::spawn(move || {
            mailbox.post(1).unwrap();
            mailbox.post(2).unwrap();
        });
        assert_eq!(serve(&mut inbox, 2), [1, 2]);
        sender.join().unwrap();
    });
}

#[test]
fn two_threads_wake_one_shard() {
    model(|| {
        let (mailbox, mut inbox) = ends(4);
        let senders = [1, 2].map(|n| {
            let mailbox = mailbox.clone();
            thread::spawn(move || mailbox.post(n).unwrap())
        });
        let mut got = serve(&mut inbox, 2);
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// The lane holds one message: others go into the queue, and come behind it.
#[test]
fn what_finds_no_room_in_the_lane_stays_in_order() {
    model(|| {
        let (mailbox, mut inbox) = ends(1);
        let sender = thread::spawn(move || {
            for n in 1..=3 {
                mailbox.post_unbounded(n).unwrap();
            }
        });
        assert_eq!(serve(&mut inbox, 3), [1, 2, 3]);
        sender.join().unwrap();
    });
}

/// And the next one may have the same lane.
#[test]
fn a_thread_that_ends_leaves_its_message_and_gives_its_lane_back() {
    model(|| {
        let (mailbox, mut inbox) = ends(4);
        for n in [1, 2] {
            let mailbox = mailbox.clone();
            let thread = thread::spawn(move || mailbox.post(n).unwrap());
            assert_eq!(serve(&mut inbox, 1), [n]);
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_sleeper_is_stopped() {
    model(|| {
        let (mailbox, mut inbox) = ends(4);
        let stopper = thread::spawn(move || mailbox.stop());
        assert_eq!(serve(&mut inbox, 1), []);
        stopper.join().unwrap();
    });
}

/// Says how many of it were dropped.
#[derive(Debug)]
struct Counted(Arc<Plain>);
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Nothing stays behind when the shard goes: what it has not drained is refused or dropped.
#[test]
fn what_comes_as_the_mailbox_closes_is_dropped() {
    model(|| {
        let dropped = Arc::new(Plain::new(0));
        let (mailbox, inbox) = Mailbox::new(1).unwrap();
        let counted = dropped.clone();
        let sender = thread::spawn(move || {
            for _ in 0..2 {
                let _ = mailbox.post(Counted(counted.clone()));
            }
            mailbox
        });
        drop(inbox);
        let _mailbox = sender.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    });
}
