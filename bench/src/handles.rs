//! What a handle costs: the same work done on the bare stack, on the shard, and from another thread in batches of 16.
//!
//! The host talks to itself: 64 bytes go into each of 16 connections and are taken out of their other ends; an operation is one
//! send or one receive. Two threads are on a core each and never sleep, so that wake-ups, which depend on the machine, are
//! left out; what counts is the time in which either has something in hand.
//!
//! What does not live here: what a connection costs with a peer (`rings`).

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::{Duration, Instant as Wall};

use base::Instant;
use engine::completion::{CompletionQueue, Handle, Op};
use engine::{App, BusyPoll, Limits, ShardCx, ShardOptions, Sockets, TcpSocket};
use port::ring::{RingOptions, RingPort, pair};
use stack::{Config, Event, Host, Ready, SocketId, TcpOptions};
use wire::Mac;

use crate::Args;
use crate::measure::{median, pin, thread_cpu, wall};
use crate::report::Report;
use crate::shard::Shard;

const BATCH: usize = 16;
const SIZE: usize = 64;
const ADDRESS: &str = "10.0.0.1/24";

fn listener() -> SocketAddr {
    ([10, 0, 0, 1], 7000).into()
}

/// Nanoseconds an operation took: all in all, and what of it was the application's thread.
#[derive(Clone, Copy)]
struct Cost {
    all: f64,
    application: f64,
}

/// One run of so many seconds.
type Way = fn(f64) -> Result<Cost, String>;

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let columns = ["how", "ns/operation", "application", "shard", "added"];
    let mut report = Report::new(
        "handles: 64 bytes in and out, 16 connections at a time, medians",
        &columns,
        args.json,
    );
    let ways: [(&str, Way); 4] = [
        ("bare stack", bare),
        ("application on the shard", on_the_shard),
        ("completion queue, another thread", completions),
        ("std's sockets, another thread", sockets),
    ];
    let mut first = None;
    for (name, way) in ways {
        let runs: Result<Vec<_>, _> = (0..args.runs).map(|_| way(args.seconds())).collect();
        let runs = runs?;
        let mid = |part: fn(&Cost) -> f64| median(&runs.iter().map(part).collect::<Vec<_>>());
        let (all, application) = (mid(|cost| cost.all), mid(|cost| cost.application));
        let bare = *first.get_or_insert(all);
        report.row(&[
            name.to_owned(),
            format!("{all:.0}"),
            format!("{application:.0}"),
            format!("{:.0}", all - application),
            format!("{:.0}", all - bare),
        ]);
    }
    report.note("bars: 30 ns added on the shard, 300 ns from another thread".to_owned());
    report.print();
    Ok(())
}

fn config() -> Config {
    Config {
        pool_blocks: 8_192,
        tcp_connections: 256,
        tcp_active: 256,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    }
}

/// A port for the host's address to be on; nothing comes or goes by it.
fn ports() -> Result<(RingPort, RingPort), String> {
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    pair(macs, &RingOptions::default()).map_err(|e| e.to_string())
}

/// The work, by the stack's own calls.
#[derive(Default)]
struct Rounds {
    listener: Option<SocketId>,
    near: Vec<SocketId>,
    far: Vec<SocketId>,
    received: usize,
    done: u64,
}

impl Rounds {
    fn begin(&mut self, host: &mut Host, now: Instant) -> Result<(), String> {
        let options = TcpOptions::default();
        let made = host.tcp_listen(now, listener(), 64, &options);
        self.listener = Some(made.map_err(|e| e.to_string())?);
        for _ in 0..BATCH {
            let near = host.tcp_connect(now, listener(), None, &options);
            self.near.push(near.map_err(|e| e.to_string())?);
        }
        Ok(())
    }

    fn on_event(&mut self, host: &mut Host, now: Instant, event: Event) {
        if Some(event.socket) == self.listener {
            while let Ok((far, _)) = host.tcp_accept(now, event.socket) {
                let _ = host.set_token(far, 1);
                self.far.push(far);
            }
            if self.far.len() == BATCH {
                self.send(host, now);
            }
        } else if event.token == 1 && event.ready.contains(Ready::READABLE) {
            let got = host.tcp_recv(now, event.socket, &mut [0; SIZE]);
            self.received += usize::from(got == Ok(SIZE));
            if self.received == BATCH {
                (self.received, self.done) = (0, self.done + 2 * BATCH as u64);
                self.send(host, now);
            }
        }
    }

    fn send(&self, host: &mut Host, now: Instant) {
        for near in &self.near {
            let _ = host.tcp_send(now, *near, &[7; SIZE]);
        }
    }
}

fn bare(seconds: f64) -> Result<Cost, String> {
    pin(0);
    let (port, _other) = ports()?;
    let mut shard = Shard::new(config(), port, &[ADDRESS.to_owned()], 1)?;
    let mut rounds = Rounds::default();
    let now = shard.now;
    rounds.begin(&mut shard.host, now)?;
    let mut run = |seconds: f64| {
        let (begin, cpu, done) = (wall(), thread_cpu(), rounds.done);
        while wall() - begin < seconds {
            for _ in 0..64 {
                shard.turn(&mut |host, now, event| rounds.on_event(host, now, event));
            }
        }
        (thread_cpu() - cpu, rounds.done - done)
    };
    run(seconds / 10.0);
    let (cpu, done) = run(seconds);
    cost(cpu, 0.0, done)
}

/// Of seconds of work, those of the application's thread among them.
fn cost(all: f64, application: f64, done: u64) -> Result<Cost, String> {
    if done == 0 {
        return Err("the host sent nothing to itself".to_owned());
    }
    let each = 1e9 / done as f64;
    Ok(Cost {
        all: all * each,
        application: application * each,
    })
}

/// [`Rounds`] as an application, which says what it has done and stops when the time is up.
struct OnShard {
    rounds: Rounds,
    begin: Option<(f64, f64, u64)>,
    seconds: f64,
    result: Option<(f64, u64)>,
    turns: u64,
}

impl App for OnShard {
    type Command = ();

    fn on_start(&mut self, cx: &mut ShardCx<'_>) {
        if self.rounds.begin(cx.host, cx.now).is_err() {
            cx.stop();
        }
    }

    fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
        self.rounds.on_event(cx.host, cx.now, event);
    }

    fn on_turn(&mut self, cx: &mut ShardCx<'_>) {
        self.turns += 1;
        if !self.turns.is_multiple_of(64) {
            return;
        }
        let (since, cpu, done) = *self
            .begin
            .get_or_insert_with(|| (wall() + self.seconds / 10.0, 0.0, 0));
        let time = wall() - since;
        if time >= 0.0 && cpu == 0.0 {
            self.begin = Some((wall(), thread_cpu(), self.rounds.done));
        } else if time >= self.seconds {
            self.result = Some((thread_cpu() - cpu, self.rounds.done - done));
            cx.stop();
        }
    }
}

fn options() -> ShardOptions {
    ShardOptions {
        busy_poll: BusyPoll::Always,
        cpu: Some(0),
        drain: Duration::ZERO,
        ..ShardOptions::default()
    }
}

fn on_the_shard(seconds: f64) -> Result<Cost, String> {
    let app = OnShard {
        rounds: Rounds::default(),
        begin: None,
        seconds,
        result: None,
        turns: 0,
    };
    let (port, _other) = ports()?;
    let made = engine::Shard::new(config(), 1, app, options());
    let mut shard = made.map_err(|e| e.to_string())?;
    furnish(&mut shard, port)?;
    shard.run().map_err(|e| e.to_string())?;
    let (cpu, done) = shard.app().result.unwrap_or_default();
    cost(cpu, 0.0, done)
}

fn furnish<A: App>(shard: &mut engine::Shard<A>, port: RingPort) -> Result<(), String> {
    let interface = shard.add_port(Box::new(port)).map_err(|e| e.to_string())?;
    let now = shard.now();
    let cidr = ADDRESS.parse().map_err(|e| format!("{ADDRESS}: {e:?}"))?;
    let added = shard.host().add_address(now, interface, cidr);
    added.map_err(|e| e.to_string())
}

/// Runs `rounds` against a host in a thread of its own. `rounds` does one batch of sends and receives, and says how many seconds
/// it had something in hand.
fn from_another_thread<R: FnMut() -> Result<f64, String>>(
    seconds: f64,
    prepare: impl FnOnce(&Sockets) -> Result<R, String>,
) -> Result<Cost, String> {
    let (port, _other) = ports()?;
    let made = engine::Shard::with_sockets(config(), 1, Limits::default(), options());
    let (mut shard, sockets) = made.map_err(|e| e.to_string())?;
    furnish(&mut shard, port)?;
    let shard = shard.spawn().map_err(|e| e.to_string())?;
    let busy = || -> Result<f64, String> {
        let snapshot = shard.handle().snapshot(0).wait();
        let meters = snapshot.ok_or("the host has stopped")?.meters;
        Ok(meters.busy.as_secs_f64())
    };
    pin(1);
    let mut rounds = prepare(&sockets)?;
    let warm = wall();
    while wall() - warm < seconds / 10.0 {
        rounds()?;
    }
    let (begin, shard_busy) = (wall(), busy()?);
    let (mut application, mut done) = (0.0, 0);
    while wall() - begin < seconds {
        application += rounds()?;
        done += 2 * BATCH as u64;
    }
    cost(application + busy()? - shard_busy, application, done)
}

/// The next completion that is there, or an error if none comes.
fn next(queue: &CompletionQueue) -> Result<engine::completion::Completion, String> {
    let mut one = Vec::new();
    let got = queue.wait(&mut one, 1, Some(Duration::from_secs(5)));
    got.map_err(|e| e.to_string())?;
    one.pop().ok_or_else(|| "nothing completed".to_owned())
}

fn completions(seconds: f64) -> Result<Cost, String> {
    from_another_thread(seconds, |sockets| {
        let made = sockets.completion_queue(1_024, 1);
        let queue = made.map_err(|e| e.to_string())?;
        let made = |op: Op| -> Result<Handle, String> {
            queue.submit(op).map_err(|e| e.to_string())?;
            next(&queue)?.socket.ok_or_else(|| "no socket".to_owned())
        };
        let listening = made(Op::listen(listener(), 64, 0))?;
        let mut pairs = Vec::new();
        for _ in 0..BATCH {
            let near = made(Op::connect(listener(), 0))?;
            pairs.push((near, made(Op::accept(listening, 0))?));
        }
        let mut spare: Vec<Vec<u8>> = vec![vec![0; SIZE]; 2 * BATCH];
        let (mut ops, mut done) = (Vec::new(), Vec::new());
        Ok(move || {
            let begin = Wall::now();
            for &(near, far) in &pairs {
                for op in [Op::send, Op::receive].into_iter().zip([near, far]) {
                    let (op, socket) = op;
                    ops.push(op(socket, spare.pop().unwrap_or_default()));
                }
            }
            queue.submit_all(&mut ops).map_err(|e| e.to_string())?;
            let mut busy = begin.elapsed();
            while spare.len() < 2 * BATCH {
                let begin = Wall::now();
                let got = queue.wait(&mut done, 2 * BATCH, Some(Duration::ZERO));
                if got.map_err(|e| e.to_string())? > 0 {
                    let buffers = done.drain(..).filter_map(|done| done.buffer);
                    spare.extend(buffers.map(engine::completion::Buffer::into_vec));
                    busy += begin.elapsed();
                }
            }
            Ok(busy.as_secs_f64())
        })
    })
}

fn sockets(seconds: f64) -> Result<Cost, String> {
    from_another_thread(seconds, |sockets| {
        let opening = sockets.tcp_listen(listener(), 64);
        let listening = opening.and_then(engine::Opening::wait);
        let listening = listening.map_err(|e| e.to_string())?;
        let mut pairs: Vec<(TcpSocket, TcpSocket)> = Vec::new();
        for _ in 0..BATCH {
            let near = sockets.tcp_connect(listener(), None);
            let near = near.map_err(|e| e.to_string())?;
            near.wait_writable(None);
            listening.wait_acceptable(None);
            let (far, _) = listening.try_accept().map_err(|e| e.to_string())?;
            pairs.push((near, far));
        }
        Ok(move || {
            let begin = Wall::now();
            for (near, _) in &pairs {
                let sent = near.try_write(&[IoSlice::new(&[7; SIZE])]);
                sent.map_err(|e| e.to_string())?;
            }
            let mut busy = begin.elapsed();
            // What was sent last comes last.
            while pairs[BATCH - 1].1.try_peek(&mut [0]).is_err() {
                std::hint::spin_loop();
            }
            let begin = Wall::now();
            for (_, far) in &pairs {
                let mut bytes = [0; SIZE];
                while far.try_read(&mut [IoSliceMut::new(&mut bytes)]).is_err() {}
            }
            busy += begin.elapsed();
            Ok(busy.as_secs_f64())
        })
    })
}
