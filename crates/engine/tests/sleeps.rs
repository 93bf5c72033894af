//! No wake-up is lost: threads make a shard sleep, and sleep themselves, and are woken by every way there is, first each by itself
//! and then all at once. `SLEEPS` says how many sleeps at least: those of the shard, which counts them itself, and those of the threads
//! that wait for it and for each other, which the kernel counts. A round that finds at once what it would wait for adds nothing.
//!
//! Nobody here waits with a timeout; a shard does, after a minute ([`HUNG`] is less).
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base::EpollEvent;
use base::epoll::{EPOLLET, EPOLLIN};
use engine::completion::{CompletionQueue, Op};
use engine::{
    Bell, Limits, Notice, Selector, Shard, ShardHandle, ShardOptions, ShardThread, Sockets,
    UdpHandle,
};
use stack::{Config, UdpOptions};

/// Whoever gets no further for so long was not woken.
const HUNG: Duration = Duration::from_secs(40);

/// One way to sleep and be woken.
struct Way {
    name: &'static str,
    round: Box<dyn FnMut() + Send>,
}

/// A thread that answers until it is dropped.
struct Partner {
    over: Arc<AtomicBool>,
    wake: Box<dyn Fn() + Send>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        (self.wake)();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn shard() -> (Sockets, ShardThread<Notice>) {
    let config = Config {
        pool_blocks: 4096,
        tcp_connections: 16,
        tcp_active: 16,
        ..Config::default()
    };
    let made = Shard::with_sockets(config, 1, Limits::default(), ShardOptions::default());
    let (shard, sockets) = made.unwrap();
    (sockets, shard.spawn().unwrap())
}

fn bind(sockets: &Sockets) -> (UdpHandle, SocketAddr) {
    let local = "127.0.0.1:0".parse().unwrap();
    let opening = sockets.udp_bind(local, UdpOptions::default()).unwrap();
    let socket = opening.wait().unwrap();
    let at = socket.local_addr().unwrap();
    (socket, at)
}

fn edge(data: u64) -> EpollEvent {
    EpollEvent {
        events: EPOLLIN | EPOLLET,
        data,
    }
}

/// Sleeps until something in the set is ready.
fn wait(set: &Selector) {
    assert_eq!(set.wait(1, None, &mut |_| ()), 1);
}

/// A command for the shard, and its answer.
fn command(handle: ShardHandle<Notice>) -> Way {
    Way {
        name: "command",
        round: Box::new(move || handle.call(|_, _| ()).wait().unwrap()),
    }
}

/// A datagram to oneself: a notice wakes the shard, which wakes the reader.
fn notice(sockets: &Sockets) -> Way {
    let (socket, at) = bind(sockets);
    let round = move || {
        socket.try_send(b"x", Some(at)).unwrap();
        while socket.try_recv(&mut [0; 8], false).is_err() {
            socket.wait_readable(None);
        }
    };
    Way {
        name: "notice",
        round: Box::new(round),
    }
}

/// As that, for a reader who waits for a set of sockets.
fn poll(sockets: &Sockets) -> Way {
    let (socket, at) = bind(sockets);
    let set = Selector::new(8).unwrap();
    set.add(&socket.watched(), edge(1)).unwrap();
    let round = move || {
        socket.try_send(b"x", Some(at)).unwrap();
        while socket.try_recv(&mut [0; 8], false).is_err() {
            wait(&set);
        }
    };
    Way {
        name: "poll",
        round: Box::new(round),
    }
}

/// A waker rung by another thread, which waits for one, too.
fn bell() -> (Way, Partner) {
    let rope = || {
        let (bell, set) = (Bell::new(), Selector::new(8).unwrap());
        set.add(&bell.watched(), edge(1)).unwrap();
        (Arc::new(bell), set)
    };
    let ((here, mine), (there, theirs)) = (rope(), rope());
    let over = Arc::new(AtomicBool::new(false));
    let (stop, answer) = (over.clone(), here.clone());
    let thread = thread::spawn(move || {
        while !stop.load(Ordering::Acquire) {
            wait(&theirs);
            answer.ring();
        }
    });
    let (ring, wake) = (there.clone(), there);
    let round = move || {
        let _kept = &here;
        ring.ring();
        wait(&mine);
    };
    let way = Way {
        name: "bell",
        round: Box::new(round),
    };
    let partner = Partner {
        over,
        wake: Box::new(move || wake.ring()),
        thread: Some(thread),
    };
    (way, partner)
}

/// Sleeps until a completion is there, and takes it.
fn take(queue: &CompletionQueue) {
    assert_eq!(queue.wait(&mut Vec::new(), 1, None).unwrap(), 1);
}

/// An operation handed to the shard, and its completion.
fn completion(sockets: &Sockets) -> Way {
    let queue = sockets.completion_queue(16, 1).unwrap();
    let round = move || {
        queue.submit(Op::cancel_token(1)).unwrap(); // there is none: that ends at once
        take(&queue);
    };
    Way {
        name: "completion",
        round: Box::new(round),
    }
}

/// A completion posted by another thread, which waits for one, too.
fn post(sockets: &Sockets) -> (Way, Partner) {
    let queue = || sockets.completion_queue(16, 1).unwrap();
    let (mine, theirs) = (queue(), queue());
    let over = Arc::new(AtomicBool::new(false));
    let (stop, asked, answer) = (over.clone(), theirs.clone(), mine.clone());
    let thread = thread::spawn(move || {
        while !stop.load(Ordering::Acquire) {
            take(&asked);
            answer.post(1, 1, 1).unwrap();
        }
    });
    let ask = theirs.clone();
    let round = move || {
        ask.post(1, 1, 1).unwrap();
        take(&mine);
    };
    let way = Way {
        name: "post",
        round: Box::new(round),
    };
    let partner = Partner {
        over,
        wake: Box::new(move || theirs.post(1, 1, 1).unwrap()),
        thread: Some(thread),
    };
    (way, partner)
}

/// Plays so many rounds of each way, all at once, and gives them back.
fn play(ways: Vec<Way>, rounds: u64) -> Vec<Way> {
    let playing: Vec<_> = ways.into_iter().map(|way| begin(way, rounds)).collect();
    let mut seen: Vec<_> = playing.iter().map(|_| (0, Instant::now())).collect();
    while !playing.iter().all(|(_, _, thread)| thread.is_finished()) {
        thread::sleep(Duration::from_micros(200));
        for ((name, done, _), (before, since)) in playing.iter().zip(&mut seen) {
            let now = done.load(Ordering::Relaxed);
            if now != *before {
                (*before, *since) = (now, Instant::now());
            }
            let hangs = now < rounds && since.elapsed() > HUNG;
            assert!(!hangs, "{name}: a wake-up was lost in round {now}");
        }
    }
    let threads = playing.into_iter().map(|(_, _, thread)| thread);
    threads.map(|thread| thread.join().unwrap()).collect()
}

type Playing = (&'static str, Arc<AtomicU64>, JoinHandle<Way>);

/// Sleeps of all threads that have played, of which each round counts one at most: a lock may make it sleep once more.
static SLEPT: AtomicU64 = AtomicU64::new(0);

/// How often the calling thread has slept.
fn slept() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let lines = status.lines();
    let mut counts = lines.filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    counts.next().unwrap().trim().parse().unwrap()
}

fn begin(mut way: Way, rounds: u64) -> Playing {
    let done = Arc::new(AtomicU64::new(0));
    let (name, count) = (way.name, done.clone());
    let thread = thread::spawn(move || {
        let before = slept();
        for round in 1..=rounds {
            (way.round)();
            count.store(round, Ordering::Relaxed);
        }
        SLEPT.fetch_add(rounds.min(slept() - before), Ordering::Relaxed);
        way
    });
    (name, done, thread)
}

#[test]
fn every_way_wakes_a_shard_that_sleeps() {
    let goal: u64 = std::env::var("SLEEPS").map_or(20_000, |n| n.parse().unwrap());
    let (sockets, mut thread) = shard();
    let handle = thread.handle().clone();
    let sleeps = || handle.snapshot(0).wait().unwrap().meters.sleeps;
    let ((bell, ringer), (post, poster)) = (bell(), post(&sockets));
    let mut ways = vec![
        command(handle.clone()),
        notice(&sockets),
        poll(&sockets),
        bell,
        completion(&sockets),
        post,
    ];
    let chunk = (goal / 32).clamp(10, 100_000);
    let (begin, mut rounds) = (Instant::now(), 0);
    let slept = || SLEPT.load(Ordering::Relaxed);
    while sleeps() + slept() < goal {
        let mut apart = Vec::new();
        for way in ways {
            apart.extend(play(vec![way], chunk));
        }
        ways = play(apart, chunk);
        rounds += 2 * ways.len() as u64 * chunk;
        let count = sleeps() + slept();
        assert!(rounds < 10 * goal, "{count} sleeps in {rounds} rounds");
    }
    println!(
        "{} sleeps of a shard and {} of threads, in {rounds} rounds and {:.1} s",
        sleeps(),
        slept(),
        begin.elapsed().as_secs_f64()
    );
    assert!(sleeps() > 0 && slept() > 0);
    drop((ringer, poster));
    drop(ways);
    thread.stop().unwrap();
}
