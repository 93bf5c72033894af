//! Applications that live on their shards, two of them joined by memory.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use engine::port::ring::{RingOptions, RingPort, pair};
use engine::{
    App, BusyPoll, Limits, PostError, Shard, ShardCx, ShardError, ShardOptions, Shards,
    ShardsOptions,
};
use rustix::thread::{CpuSet, sched_getaffinity};
use stack::{Config, Event, Ready, SocketError, SocketId, TcpOptions};
use wire::{Cidr, Mac};

const LISTENER: u64 = 1;

/// Sends back whatever connections send.
#[derive(Default)]
struct Echo {
    served: u64,
}

impl App for Echo {
    type Command = Sender<u64>;

    fn on_start(&mut self, cx: &mut ShardCx<'_>) {
        let local = "10.0.0.2:7".parse().unwrap();
        let listener = cx
            .host
            .tcp_listen(cx.now, local, 128, &TcpOptions::default())
            .unwrap();
        cx.host.set_token(listener, LISTENER).unwrap();
    }

    fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
        if event.token == LISTENER {
            while let Ok((socket, _)) = cx.host.tcp_accept(cx.now, event.socket) {
                cx.host.set_token(socket, 0).unwrap();
            }
            return;
        }
        let mut buffer = [0; 4096];
        while let Ok(n) = cx.host.tcp_recv(cx.now, event.socket, &mut buffer) {
            if n == 0 {
                self.served += 1;
                let _ = cx.host.close(cx.now, event.socket);
                return;
            }
            assert_eq!(cx.host.tcp_send(cx.now, event.socket, &buffer[..n]), Ok(n));
        }
    }

    fn on_command(&mut self, _cx: &mut ShardCx<'_>, answer: Sender<u64>) {
        answer.send(self.served).unwrap();
    }
}

/// Connects on command, sends a line, and hands over what comes back.
#[derive(Default)]
struct Client {
    asked: Vec<(SocketId, Sender<Vec<u8>>, Vec<u8>)>,
}

impl App for Client {
    type Command = (SocketAddr, Sender<Vec<u8>>);

    fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
        let Some(at) = self
            .asked
            .iter()
            .position(|(socket, ..)| *socket == event.socket)
        else {
            return;
        };
        let (socket, answer, got) = &mut self.asked[at];
        let failed = event.ready.contains(Ready::ERROR);
        if event.ready.contains(Ready::WRITABLE) && !failed && got.is_empty() {
            let _ = cx.host.tcp_send(cx.now, *socket, b"line");
        }
        let mut buffer = [0; 16];
        match cx.host.tcp_recv(cx.now, *socket, &mut buffer) {
            Ok(n) => got.extend_from_slice(&buffer[..n]),
            Err(SocketError::WouldBlock) => return,
            Err(error) => got.extend_from_slice(error.to_string().as_bytes()),
        }
        let _ = answer.send(got.clone());
        let _ = cx.host.close(cx.now, *socket);
        self.asked.swap_remove(at);
    }

    fn on_command(&mut self, cx: &mut ShardCx<'_>, (remote, answer): Self::Command) {
        let socket = cx
            .host
            .tcp_connect(cx.now, remote, None, &TcpOptions::default())
            .unwrap();
        cx.host.set_token(socket, 0).unwrap();
        self.asked.push((socket, answer, Vec::new()));
    }

    fn is_drained(&self) -> bool {
        self.asked.is_empty()
    }
}

fn config() -> Config {
    Config {
        pool_blocks: 2_048,
        tcp_connections: 256,
        tcp_active: 256,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    }
}

fn shard<A: App>(port: RingPort, address: &str, app: A, options: ShardOptions) -> Shard<A> {
    let mut shard = Shard::new(config(), 1, app, options).unwrap();
    let interface = shard.add_port(Box::new(port)).unwrap();
    let (now, cidr): (_, Cidr) = (shard.now(), address.parse().unwrap());
    shard.host().add_address(now, interface, cidr).unwrap();
    shard
}

fn ports() -> (RingPort, RingPort) {
    pair(
        [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])],
        &RingOptions::default(),
    )
    .unwrap()
}

fn two(options: &ShardOptions) -> (Shard<Client>, Shard<Echo>) {
    let (a, b) = ports();
    let client = shard(a, "10.0.0.1/24", Client::default(), options.clone());
    (
        client,
        shard(b, "10.0.0.2/24", Echo::default(), options.clone()),
    )
}

fn ask(answers: &Receiver<Vec<u8>>) -> Vec<u8> {
    answers
        .recv_timeout(Duration::from_secs(20))
        .expect("an answer")
}

#[test]
fn run_to_completion_sleeping_and_spinning() {
    for busy_poll in [
        BusyPoll::Never,
        BusyPoll::For(Duration::from_micros(50)),
        BusyPoll::Always,
    ] {
        let options = ShardOptions {
            busy_poll,
            ..ShardOptions::default()
        };
        let (client, server) = two(&options);
        let (mut client, mut server) = (client.spawn().unwrap(), server.spawn().unwrap());
        for _ in 0..200 {
            let (sender, answers) = channel();
            client
                .handle()
                .post(("10.0.0.2:7".parse().unwrap(), sender))
                .map_err(|(_, why)| why)
                .unwrap();
            assert_eq!(ask(&answers), b"line");
        }
        let (sender, answers) = channel();
        client
            .handle()
            .post(("10.0.0.2:8".parse().unwrap(), sender))
            .map_err(|(_, why)| why)
            .unwrap();
        assert_eq!(ask(&answers), b"connection refused");
        let snapshot = server.handle().snapshot(10).wait().unwrap();
        assert!(snapshot.meters.turns > 0 && snapshot.meters.events >= 200);
        assert_eq!(snapshot.meters.sleeps > 0, busy_poll != BusyPoll::Always);
        let (sender, served) = channel();
        server
            .handle()
            .post(sender)
            .map_err(|(_, why)| why)
            .unwrap();
        assert!(served.recv().unwrap() <= 200);
        client.stop().unwrap();
        // The server may notice that the other end of its cable is gone before it is told to stop.
        assert!(matches!(server.stop(), Ok(()) | Err(ShardError::Ports(..))));
        assert!(server.handle().snapshot(0).wait().is_none());
        assert_eq!(
            server.handle().post(channel().0).unwrap_err().1,
            PostError::Closed
        );
    }
}

/// Both shards in one thread, turn by turn: what a program with a loop of its own does.
#[test]
fn turns_by_hand() {
    let (mut client, mut server) = two(&ShardOptions::default());
    client.begin();
    server.begin();
    let (sender, answers) = channel();
    client
        .handle()
        .post(("10.0.0.2:7".parse().unwrap(), sender))
        .map_err(|(_, why)| why)
        .unwrap();
    let answer = loop {
        let work = client.turn() | server.turn();
        if let Ok(answer) = answers.try_recv() {
            break answer;
        }
        if !work {
            client.rest(Duration::from_micros(100)).unwrap();
        }
    };
    assert_eq!(answer, b"line");
    assert_eq!(client.snapshot(0).ports[0].name, "ring-a");
}

/// How many events came since the application was last told that a turn's were all given.
#[derive(Clone, Default)]
struct Unsettled(Arc<AtomicUsize>);

impl Unsettled {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl App for Unsettled {
    type Command = ();

    fn on_event(&mut self, _cx: &mut ShardCx<'_>, _event: Event) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn on_settled(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A connection to the host itself is refused as soon as it is sent: after what is a turn's most.
#[test]
fn no_event_comes_after_the_word_that_all_were_given() {
    let (a, _b) = ports();
    let unsettled = Unsettled::default();
    let options = ShardOptions::default();
    let mut shard = shard(a, "10.0.0.1/24", unsettled.clone(), options);
    shard.begin();
    let refused = |shard: &mut Shard<Unsettled>| {
        let (now, remote) = (shard.now(), "10.0.0.1:9".parse().unwrap());
        let options = TcpOptions::default();
        let socket = shard.host().tcp_connect(now, remote, None, &options);
        shard.host().set_token(socket.unwrap(), 0).unwrap();
    };
    let events = |shard: &Shard<Unsettled>| shard.snapshot(0).meters.events;

    refused(&mut shard);
    assert!(shard.turn());
    let first = events(&shard);
    assert!(first > 0);
    assert_eq!(unsettled.count(), 0, "after a turn");

    refused(&mut shard);
    assert!(shard.settle().0);
    assert!(events(&shard) > first);
    assert_eq!(unsettled.count(), 0, "after settling");
}

/// An application that stops its own shard.
struct Quitter;

impl App for Quitter {
    type Command = ();

    fn on_event(&mut self, _cx: &mut ShardCx<'_>, _event: Event) {}

    fn on_turn(&mut self, cx: &mut ShardCx<'_>) {
        cx.stop();
    }
}

#[test]
fn an_application_ends_its_shard() {
    let (a, _b) = ports();
    shard(a, "10.0.0.1/24", Quitter, ShardOptions::default())
        .run()
        .unwrap();
}

/// A question at a time, each asked when the shard sleeps or is about to: a lost wake-up would hang. And a shard nobody asks
/// anything takes no turns.
#[test]
fn a_hundred_thousand_wakes() {
    const QUESTIONS: u64 = 100_000;
    let (_a, b) = ports();
    let server = shard(b, "10.0.0.2/24", Echo::default(), ShardOptions::default());
    let server = server.spawn().unwrap();
    let (sender, answers) = channel();
    for n in 0..QUESTIONS {
        let posted = server.handle().post(sender.clone());
        posted.map_err(|(_, why)| why).unwrap();
        assert_eq!(answers.recv().unwrap(), 0, "question {n}");
    }
    let before = server.handle().snapshot(0).wait().unwrap().meters;
    assert_eq!(before.messages, QUESTIONS + 1);
    assert!(before.sleeps > 0 && before.wakes > 0);
    std::thread::sleep(Duration::from_millis(100));
    let after = server.handle().snapshot(0).wait().unwrap().meters;
    let turns = after.turns - before.turns;
    assert!(turns < 50, "{turns} turns with nothing to do");
}

/// What another thread wants done with the host is done between two turns, also while the shard sleeps, and answered.
#[test]
fn the_host_may_be_asked_anything() {
    let (_a, b) = ports();
    let options = ShardOptions::default();
    let mut thread = shard(b, "10.0.0.2/24", Echo::default(), options)
        .spawn()
        .unwrap();
    let handle = thread.handle().clone();
    for retries in [3, 4] {
        let set = handle.call(move |host, _| {
            let mut tunables = host.tcp_tunables();
            tunables.syn_retries = retries;
            host.set_tcp_tunables(tunables)
        });
        assert!(set.wait().unwrap().is_ok());
        let now = handle.call(|host, _| host.tcp_tunables().syn_retries);
        assert_eq!(now.wait(), Some(retries));
    }
    thread.stop().unwrap();
    assert_eq!(handle.call(|_, _| ()).wait(), None, "it has stopped");
}

/// An application that panics: whoever waits for the shard learns it.
struct Bomb;

impl App for Bomb {
    type Command = ();

    fn on_event(&mut self, _cx: &mut ShardCx<'_>, _event: Event) {}

    fn on_command(&mut self, _cx: &mut ShardCx<'_>, (): ()) {
        panic!("as it was told");
    }
}

#[test]
fn a_panic_is_told() {
    let (a, _b) = ports();
    let mut thread = shard(a, "10.0.0.1/24", Bomb, ShardOptions::default())
        .spawn()
        .unwrap();
    thread.handle().post(()).unwrap();
    while !thread.is_finished() {
        std::thread::yield_now();
    }
    assert!(thread.handle().snapshot(0).wait().is_none());
    assert!(thread.stop().unwrap_err().to_string().contains("panicked"));
}

/// The CPUs the calling thread may run on.
fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}

/// An application that tells where it runs.
struct Whereabouts(Sender<Vec<usize>>);

impl App for Whereabouts {
    type Command = ();

    fn on_start(&mut self, _cx: &mut ShardCx<'_>) {
        self.0.send(cpus()).unwrap();
    }

    fn on_event(&mut self, _cx: &mut ShardCx<'_>, _event: Event) {}

    fn on_turn(&mut self, cx: &mut ShardCx<'_>) {
        self.0.send(cpus()).unwrap();
        cx.stop();
    }
}

/// In its own thread and in the caller's, one shard or several; and one that asks for nothing runs where it may.
#[test]
fn a_pinned_shard_runs_on_its_cpu_alone() {
    let all = cpus();
    // Of those that this machine lets the test have: mostly CPU 0, and another.
    for cpu in [all[0], all[all.len() - 1]] {
        let pinned = || ShardOptions {
            cpu: Some(cpu),
            ..ShardOptions::default()
        };
        let (a, b) = ports();
        let (sender, told) = channel();
        let app = Whereabouts(sender.clone());
        let mut spawned = shard(a, "10.0.0.1/24", app, pinned()).spawn().unwrap();
        let mut own = shard(b, "10.0.0.2/24", Whereabouts(sender), pinned());
        std::thread::spawn(move || own.run().unwrap())
            .join()
            .unwrap();
        spawned.stop().unwrap();
        let told: Vec<_> = told.iter().collect();
        assert!(told.len() >= 4 && told.iter().all(|cpus| *cpus == [cpu]));

        let options = ShardsOptions {
            shards: vec![pinned(), ShardOptions::default(), pinned()],
            ..ShardsOptions::default()
        };
        let made = Shards::new(&Config::default(), 1, Limits::default(), options);
        let threads = made.unwrap().0.spawn().unwrap();
        let shards = threads.handles().into_iter();
        let told = shards.map(|shard| shard.call(|_, _| cpus()).wait().unwrap());
        let told: Vec<_> = told.collect();
        assert_eq!(told, [vec![cpu], all.clone(), vec![cpu]]);
    }
    assert_eq!(cpus(), all, "who started them is where it was");
}

#[test]
fn a_cpu_that_is_not_there() {
    for cpu in [1_000, 100_000] {
        let (a, b) = ports();
        let options = ShardOptions {
            cpu: Some(cpu),
            ..ShardOptions::default()
        };
        let error = shard(a, "10.0.0.1/24", Quitter, options.clone())
            .run()
            .unwrap_err();
        assert!(error.to_string().contains("CPU"), "{error}");
        let spawned = shard(b, "10.0.0.2/24", Quitter, options).spawn();
        let error = spawned.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("CPU"), "{error}");
    }
}

/// A port that fails, as when its device is removed.
struct Broken {
    facts: engine::port::PortFacts,
    failure: engine::port::PortError,
    /// Times it was asked what to sleep on.
    slept: Arc<AtomicUsize>,
}

fn broken() -> Broken {
    use engine::port::Port;
    let failure = engine::port::tap::Tap::new("a/name/that/cannot/be", &Default::default())
        .err()
        .unwrap();
    Broken {
        facts: ports().0.facts().clone(),
        failure,
        slept: Arc::default(),
    }
}

impl engine::port::Port for Broken {
    fn facts(&self) -> &engine::port::PortFacts {
        &self.facts
    }
    fn receive(&mut self, _pool: &mut base::Pool, _batch: &mut base::Batch) -> usize {
        0
    }
    fn transmit(&mut self, pool: &mut base::Pool, batch: &mut base::Batch) -> usize {
        let n = batch.len();
        batch.clear(pool);
        n
    }
    fn flush(&mut self, _pool: &mut base::Pool) {}
    fn sleep_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.slept.fetch_add(1, Ordering::Relaxed);
        None
    }
    fn counters(&self) -> engine::port::PortCounters {
        engine::port::PortCounters::default()
    }
    fn failure(&self) -> Option<&engine::port::PortError> {
        Some(&self.failure)
    }
}

#[test]
fn failed_ports_end_the_shard() {
    let mut shard = Shard::new(config(), 1, Echoless, ShardOptions::default()).unwrap();
    shard.add_port(Box::new(broken())).unwrap();
    let error = shard.run().unwrap_err().to_string();
    assert!(error.starts_with("port ring-a has failed: "), "{error}");
}

/// The descriptor of a device that went is readable for ever: who sleeps on it does not sleep.
#[test]
fn nobody_sleeps_on_a_failed_port_beside_a_good_one() {
    let (good, _b) = ports();
    let mut shard = shard(good, "10.0.0.1/24", Echoless, ShardOptions::default());
    let broken = broken();
    let slept = broken.slept.clone();
    shard.add_port(Box::new(broken)).unwrap();
    for _ in 0..3 {
        shard.turn();
        shard.rest(Duration::from_millis(1)).unwrap();
    }
    assert_eq!(slept.load(Ordering::Relaxed), 0);
}

/// An application that does nothing.
struct Echoless;

impl App for Echoless {
    type Command = ();

    fn on_event(&mut self, _cx: &mut ShardCx<'_>, _event: Event) {}
}
