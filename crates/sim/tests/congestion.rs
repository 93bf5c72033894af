//! What congestion control makes of a path: goodput through loss and disorder, shares, and queues, on virtual time and a function
//! of the seeds.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;

use sim::{Faults, LinkConfig, Loss, NodeId, World};
use stack::{Config, Congestion, SocketId, TcpOptions, TcpTunables};

const MBIT: f64 = 1e6;
/// What the path carries, Mbit/s.
const FULL: f64 = RATE as f64 / MBIT;
const RATE: u64 = 20_000_000;

/// What came of a run, once it had gone on for a while.
#[derive(Debug)]
struct Run {
    /// Bits a second, by flow.
    goodput: Vec<f64>,
    /// The mean of the first flow's smoothed round trip, milliseconds.
    rtt: f64,
}

impl Run {
    fn total(&self) -> f64 {
        self.goodput.iter().sum()
    }

    /// Jain's index: 1 when all get the same.
    fn fairness(&self) -> f64 {
        let squares: f64 = self.goodput.iter().map(|g| g * g).sum();
        self.total() * self.total() / (self.goodput.len() as f64 * squares)
    }
}

fn path(rtt_ms: u64, faults: Faults) -> LinkConfig {
    LinkConfig {
        rate: RATE,
        delay: Duration::from_millis(rtt_ms) / 2,
        // What a round trip fills.
        queue: RATE / 8 * rtt_ms / 1000,
        faults,
        ..LinkConfig::default()
    }
}

fn flow(congestion: Congestion) -> TcpOptions {
    TcpOptions {
        congestion: Some(congestion),
        send_buffer: Some(2 << 20),
        receive_buffer: Some(2 << 20),
        ..TcpOptions::default()
    }
}

/// Bulk flows from one host to another.
struct Bulk {
    world: World,
    from: NodeId,
    listener: SocketId,
    senders: Vec<SocketId>,
    /// Which flow the peer at an address, and then a receiver, is.
    waiting: HashMap<SocketAddr, usize>,
    receivers: HashMap<SocketId, usize>,
    received: Vec<u64>,
}

impl Bulk {
    fn start(seed: u64, link: LinkConfig, flows: &[TcpOptions]) -> Self {
        let config = Config {
            pool_blocks: 8 * 1024,
            tcp_connections: 64,
            tcp_active: 64,
            duplicate_detection: false,
            ..Config::default()
        };
        let (mut world, a, b) = World::pair(seed, config, link);
        let to = "10.1.0.2:80".parse().expect("an address");
        let now = world.now();
        let options = flow(flows[0].congestion.unwrap_or_default());
        let listener = world.host(b).tcp_listen(now, to, 64, &options);
        let mut bulk = Self {
            from: a,
            listener: listener.expect("the listener opens"),
            senders: Vec::new(),
            waiting: HashMap::new(),
            receivers: HashMap::new(),
            received: vec![0; flows.len()],
            world,
        };
        for (at, options) in flows.iter().enumerate() {
            let host = bulk.world.host(a);
            let socket = host.tcp_connect(now, to, None, options);
            let socket = socket.expect("the connection starts");
            let local = host.local_addr(socket).expect("an address");
            bulk.waiting.insert(local, at);
            bulk.senders.push(socket);
        }
        bulk
    }

    fn on_event(&mut self, node: NodeId, socket: SocketId, block: &mut [u8]) {
        let now = self.world.now();
        let host = self.world.host(node);
        if node == self.from {
            while host.tcp_send(now, socket, block).is_ok() {}
        } else if socket == self.listener {
            while let Ok((socket, peer)) = host.tcp_accept(now, socket) {
                self.receivers.insert(socket, self.waiting[&peer]);
            }
        } else {
            while let Ok(n) = host.tcp_recv(now, socket, block) {
                self.received[self.receivers[&socket]] += n as u64;
            }
        }
    }

    fn second(&mut self) {
        let until = self.world.now() + Duration::from_secs(1);
        let mut block = vec![7; 64 * 1024];
        loop {
            while let Some((node, event)) = self.world.poll_event() {
                self.on_event(node, event.socket, &mut block);
            }
            self.world.flush();
            if let Some(violation) = self.world.violation() {
                panic!("{violation}");
            }
            if self.world.poll_is_idle() && !self.world.step(until) {
                return;
            }
        }
    }
}

/// What flows make of a path, measured from `warm` seconds on for `time` seconds.
fn bulk(seed: u64, link: LinkConfig, flows: &[TcpOptions], warm: u64, time: u64) -> Run {
    let mut bulk = Bulk::start(seed, link, flows);
    for _ in 0..warm {
        bulk.second();
    }
    let before = bulk.received.clone();
    let mut rtt = 0.0;
    for _ in 0..time {
        bulk.second();
        let info = bulk.world.host(bulk.from).tcp_info(bulk.senders[0]);
        rtt += info.expect("it lives").rtt.as_secs_f64() * 1e3;
    }
    let bits = |at: usize| (bulk.received[at] - before[at]) as f64 * 8.0 / time as f64;
    Run {
        goodput: (0..flows.len()).map(bits).collect(),
        rtt: rtt / time as f64,
    }
}

fn loss(p: f64) -> Faults {
    Faults {
        loss: Loss::Random(p),
        ..Faults::NONE
    }
}

/// Mbit/s.
fn goodput(which: Congestion, rtt_ms: u64, faults: Faults) -> f64 {
    let run = |seed| bulk(seed, path(rtt_ms, faults), &[flow(which)], 3, 8).total();
    let mean = run(1) / MBIT;
    println!(
        "{:6} {rtt_ms:4} ms {faults:?}: {mean:.1} Mbit/s",
        which.name()
    );
    mean
}

/// A clean path is filled; loss costs no more than it must by RFC 9438 5 (figure 4: Reno's 1.2 / sqrt(p) in small windows).
#[test]
fn cubic_fills_a_path_and_bears_loss() {
    for rtt in [20, 100] {
        assert!(goodput(Congestion::Cubic, rtt, Faults::NONE) > 0.9 * FULL);
        for p in [0.001, 0.01, 0.03] {
            let window = 1.2 / f64::sqrt(p) * 1448.0 * 8.0;
            let expected = (window / (rtt as f64 / 1e3) / MBIT).min(0.9 * FULL);
            let got = goodput(Congestion::Cubic, rtt, loss(p));
            assert!(got > 0.6 * expected, "{got} of {expected}");
        }
    }
}

/// RFC 8985: one frame in twenty that is late costs little.
#[test]
fn cubic_bears_disorder() {
    for rtt in [20, 100] {
        let late = Faults {
            reorder: 0.05,
            jitter: Duration::from_millis(rtt / 8),
            ..Faults::NONE
        };
        assert!(goodput(Congestion::Cubic, rtt, late) > 0.7 * FULL);
    }
}

#[test]
fn four_cubic_flows_share_fairly() {
    let flows = vec![flow(Congestion::Cubic); 4];
    for seed in 1..=2 {
        let run = bulk(seed, path(20, Faults::NONE), &flows, 5, 20);
        println!("cubic x 4: {:.3} {run:?}", run.fairness());
        assert!(run.fairness() >= 0.95, "{run:?}");
        assert!(run.total() > 0.9 * FULL * MBIT, "{run:?}");
    }
}

/// RFC 8257: the queue stays near where it marks, and the path is full.
#[test]
fn dctcp_keeps_the_queue_small() {
    let link = LinkConfig {
        mark: 15_000,
        ..path(20, Faults::NONE)
    };
    let run = bulk(1, link, &vec![flow(Congestion::Dctcp); 2], 5, 10);
    println!("dctcp x 2: {run:?}");
    assert!(run.total() > 0.85 * FULL * MBIT, "{run:?}");
    assert!(run.rtt < 20.0 + 12.0, "{run:?}");
}

/// RFC 3168: marks in the place of losses, at half of the queue.
#[test]
fn marks_replace_losses() {
    let link = LinkConfig {
        mark: 25_000,
        ..path(20, Faults::NONE)
    };
    let tcp = TcpTunables {
        ecn: 1,
        ..TcpTunables::default()
    };
    let config = Config {
        duplicate_detection: false,
        tcp,
        ..Config::default()
    };
    let (mut world, a, b) = World::pair(1, config, link);
    let streams = [sim::transfer::Stream {
        up: 10_000_000,
        down: 0,
    }];
    let to = "10.1.0.2:80".parse().expect("an address");
    let options = flow(Congestion::Cubic);
    let mut scenario = sim::transfer::Scenario::start(&mut world, a, b, to, &streams, &options);
    let outcome = scenario.run(&mut world, Duration::from_secs(60));
    let outcome = outcome.expect("it ends");
    assert_eq!(outcome.complete, 1);
    assert!(
        outcome.elapsed < Duration::from_millis(4_900),
        "{outcome:?}"
    );
    let again = world
        .host(a)
        .stats()
        .counts
        .get(stack::Count::TcpRetransmits);
    assert!(
        again < 30,
        "{again} segments of 7000: slow start alone overshoots"
    );
}

#[test]
fn bbr_fills_a_path_and_bears_random_loss() {
    for rtt in [20, 100] {
        for (p, least) in [(0.0, 0.85), (0.001, 0.75), (0.01, 0.6)] {
            let got = goodput(Congestion::Bbr, rtt, loss(p));
            assert!(got > least * FULL, "{got} at {p}");
        }
        // More than its threshold: it makes way.
        assert!(goodput(Congestion::Bbr, rtt, loss(0.03)) > 0.1 * FULL);
        let late = Faults {
            reorder: 0.05,
            jitter: Duration::from_millis(rtt / 8),
            ..Faults::NONE
        };
        assert!(goodput(Congestion::Bbr, rtt, late) > 0.75 * FULL);
    }
}

#[test]
fn four_bbr_flows_share() {
    let run = bulk(
        1,
        path(20, Faults::NONE),
        &vec![flow(Congestion::Bbr); 4],
        10,
        20,
    );
    println!("bbr x 4: {:.3} {run:?}", run.fairness());
    assert!(run.fairness() >= 0.9, "{run:?}");
    assert!(run.total() > 0.85 * FULL * MBIT, "{run:?}");
}

/// A queue of four round trips, of which bbr fills little and cubic all.
#[test]
fn bbr_keeps_the_queue_small() {
    let link = LinkConfig {
        queue: RATE / 8 * 80 / 1000,
        ..path(20, Faults::NONE)
    };
    let bbr = bulk(1, link, &[flow(Congestion::Bbr)], 5, 15);
    let cubic = bulk(1, link, &[flow(Congestion::Cubic)], 5, 15);
    println!("bbr {bbr:?}, cubic {cubic:?}");
    assert!(
        bbr.total() > 0.85 * FULL * MBIT && bbr.rtt < 30.0,
        "{bbr:?}"
    );
    assert!(cubic.rtt > 40.0, "{cubic:?}");
}

#[test]
fn cubic_and_bbr_leave_each_other_something() {
    let flows = [flow(Congestion::Cubic), flow(Congestion::Bbr)];
    let run = bulk(1, path(20, Faults::NONE), &flows, 5, 20);
    println!("cubic, bbr: {run:?}");
    assert!(
        run.goodput.iter().all(|g| *g > 0.1 * FULL * MBIT),
        "{run:?}"
    );
    assert!(run.total() > 0.85 * FULL * MBIT, "{run:?}");
}
