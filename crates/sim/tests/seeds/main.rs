//! One random network and workload per seed: `cargo xtask sim --seeds N --first S`.
//!
//! Reads `SIM_FIRST` and `SIM_SEEDS`; with `SIM_TRACE` the frames of a failure are printed. A plain `cargo test` runs a few hundred. Seeds that failed once (regressions.txt) run first.

mod changes;
mod draw;

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::panic::catch_unwind;

use base::Rng;
use changes::Change;
use draw::{Incident, pick};
use sim::transfer::{Habits, Scenario, Stream};
use sim::{Faults, LinkConfig, Loss, NodeId, World};
use stack::{Config, Congestion, InterfaceId, Keepalive, Route, RouteMetrics, TcpOptions};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(default)
}

#[test]
fn seeds() {
    let first = number("SIM_FIRST", 0);
    let count = number("SIM_SEEDS", if cfg!(debug_assertions) { 150 } else { 1000 });
    let alone = count == 1;
    let kept = regressions().filter(|_| !alone);
    let all: Vec<u64> = kept.chain(first..first + count).collect();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // Who has ended one seed takes the next: some are long.
    let work = || {
        loop {
            let Some(&seed) = all.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return Ok(());
            };
            let outcome = catch_unwind(|| check(seed)).unwrap_or_else(|_| Err("it panics".into()));
            if let Err(why) = outcome {
                next.store(all.len(), Ordering::Relaxed); // nobody takes another
                return Err((seed, why));
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Err((seed, why)) = worker.join().expect("panics are caught") {
                panic!("seed {seed}: {why}\nreplay: cargo xtask sim --seeds 1 --first {seed}");
            }
        }
    });
}

fn regressions() -> impl Iterator<Item = u64> {
    let lines = include_str!("regressions.txt").lines();
    let words = lines.filter_map(|line| line.split_whitespace().next());
    words.filter_map(|word| word.parse().ok())
}

/// Runs a seed, and now and then twice: then both runs must be the same, frame for frame.
fn check(seed: u64) -> Result<(), String> {
    let trace = run(seed)?;
    if seed.is_multiple_of(25) && run(seed)? != trace {
        return Err("two runs differ".into());
    }
    Ok(())
}

fn link(rng: &mut Rng) -> LinkConfig {
    let loss = match rng.below(5) {
        0 | 1 => Loss::None,
        2 => Loss::Random(pick(rng, &[0.001, 0.01, 0.03, 0.07, 0.12])),
        3 => Loss::Burst {
            start: 0.002,
            end: 0.3,
            loss: 0.5,
        },
        _ => Loss::Burst {
            start: 0.01,
            end: 0.3,
            loss: 0.9,
        },
    };
    let faults = Faults {
        loss,
        reorder: pick(rng, &[0.0, 0.0, 0.01, 0.1, 0.5]),
        jitter: Duration::from_micros(pick(rng, &[100, 3_000, 50_000])),
        duplicate: pick(rng, &[0.0, 0.0, 0.01, 0.2]),
        corrupt: pick(rng, &[0.0, 0.0, 0.001, 0.02]),
    };
    let offload = rng.below(3) == 0;
    LinkConfig {
        rate: pick(rng, &[0, 256_000, 5_000_000, 100_000_000, 10_000_000_000]),
        delay: Duration::from_micros(pick(rng, &[10, 500, 10_000, 100_000, 500_000])),
        queue: pick(rng, &[20_000, 200_000, 2_000_000]),
        mtu: pick(rng, &[1280, 1500, 1500, 9000]),
        faults,
        offload,
        whole: offload && rng.below(2) == 0,
        split: pick(rng, &[0, 0, 0, 0, 0, 1000, 333]),
        mark: pick(rng, &[0, 0, 10_000]),
    }
}

/// Gives a host's way to its peer these metrics.
fn route(
    world: &mut World,
    (node, peers): (NodeId, [&str; 2]),
    metrics: RouteMetrics,
) -> Result<(), String> {
    if metrics == RouteMetrics::default() {
        return Ok(());
    }
    let now = world.now();
    for peer in peers {
        let way = Route {
            dst: peer.parse().map_err(|e| format!("{e}"))?,
            via: None,
            interface: InterfaceId(0),
            metric: 0,
        };
        let added = world.host(node).add_route_with(now, way, metrics);
        added.map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn options(rng: &mut Rng) -> TcpOptions {
    // A peer that gave up may be gone without a word: its reset was lost, too.
    let keepalive = Keepalive {
        idle: Duration::from_secs(300),
        interval: Duration::from_secs(30),
        probes: 9,
    };
    TcpOptions {
        keepalive: Some(keepalive),
        nodelay: rng.below(2) == 0,
        congestion: Some(pick(rng, Congestion::AVAILABLE)),
        pacing: rng.below(4) == 0,
        receive_buffer: pick(
            rng,
            &[None, Some(4_096), Some(30_000), Some(65_535), Some(4 << 20)],
        ),
        send_buffer: pick(rng, &[Some(4_096), Some(50_000), None]),
        max_segment: pick(rng, &[None, None, Some(536), Some(100)]),
        ..TcpOptions::default()
    }
}

/// How long streams of so many bytes may take, whatever is lost: every loss costs a few timeouts at most. Where much is lost of a
/// handshake, its echo makes for a round trip of many seconds, and for a few timeouts near the longest.
fn bound(link: &LinkConfig, options: &TcpOptions, habits: &Habits, bytes: u64) -> Duration {
    let queue = (8 * link.queue).checked_div(link.rate).unwrap_or(0) as f64;
    let round = 2.0 * (link.delay + link.faults.jitter).as_secs_f64() + queue;
    let timeout = 0.25 + 4.0 * round;
    let segment = options.max_segment.map_or(1200.0, f64::from) - 40.0;
    let buffer = options.receive_buffer.unwrap_or(65_536);
    let window = buffer
        .min(options.send_buffer.unwrap_or(65_536))
        .min(20_000);
    let loss = link.faults.corrupt
        + match link.faults.loss {
            Loss::None => 0.0,
            Loss::Random(p) => p,
            Loss::Burst { start, end, loss } => loss * start / (start + end),
        };
    let bytes = bytes as f64;
    let clean = bytes / f64::from(window) * 4.0 * (round + 0.1)
        + 8.0 * 1.5 * bytes * (segment + 80.0) / segment / (link.rate.max(1 << 18) as f64);
    // Small writes may each wait for an ACK, and paced ones for their time.
    let writes = bytes / habits.write as f64 * (0.5 + 2.0 * round);
    let clean = clean + writes + 2.0 * bytes / (options.max_pacing_rate as f64);
    let (lost, handshake) = if loss > 0.0 {
        (30.0 + 4.0 * loss * bytes / segment, 900.0)
    } else {
        (0.0, 60.0)
    };
    Duration::from_secs_f64(handshake + 2.0 * (clean + lost * timeout))
}

/// How a host is tuned, and whether its listener waits for data. Where copies of a segment may outlive their connection, not
/// every handshake is by cookie: one that comes again would open the connection again.
fn tuned(seed: u64, faults: &Faults) -> (Config, Option<Duration>) {
    let mut rng = Rng::from_seed(seed ^ 0x0c00_c1e5);
    let mut config = Config {
        pool_blocks: 8192,
        duplicate_detection: false,
        accept_router_advertisements: false, // or routers would be asked for, for ever
        ..Config::default()
    };
    let late = faults.duplicate > 0.0 || faults.reorder > 0.0;
    config.tcp.syncookies = pick(&mut rng, if late { &[1] } else { &[1, 2] });
    let defer_accept = pick(&mut rng, &[None, None, Some(Duration::from_secs(3))]);
    config.tcp.mtu_probing = pick(&mut rng, &[0, 0, 1, 2]);
    (config, defer_accept)
}

/// A seed at work.
struct Run {
    world: World,
    nodes: [NodeId; 2],
    link: LinkConfig,
    options: TcpOptions,
    streams: Vec<Stream>,
    scenario: Scenario,
    /// What is still to be changed, the next last.
    changes: Vec<Change>,
}

impl Run {
    fn start(seed: u64) -> Result<Self, String> {
        let mut rng = Rng::from_seed(seed ^ 0x5eed_5eed);
        let link = link(&mut rng);
        let (mut config, defer_accept) = tuned(seed, &link.faults);
        let mut options = TcpOptions {
            defer_accept,
            ..draw::socket(seed, options(&mut rng))
        };
        // A copy of a SYN that comes late may open another connection, as RFC 7413 says.
        let late = link.faults.duplicate > 0.0 || link.faults.reorder > 0.0;
        let fast_open = draw::fast_open(seed).filter(|_| !late);
        if let Some(how) = fast_open {
            config.tcp.fastopen = how;
            (options.fast_open, options.fast_open_queue) = (true, 8);
        }
        let (mut world, a, b) = World::pair_of(seed, draw::tune(seed, &config), link);
        let steady = !matches!(
            draw::incident(seed, link.mtu).0,
            Incident::Narrow(_) | Incident::Shrink(_)
        );
        let metrics = draw::routes(seed, steady);
        route(&mut world, (a, ["10.1.0.2/32", "fd01::2/128"]), metrics[0])?;
        route(&mut world, (b, ["10.1.0.1/32", "fd01::1/128"]), metrics[1])?;
        // Sizes such that a slow link is done in reasonable virtual time.
        let slow = link.rate == 256_000 || link.delay.as_millis() > 50;
        let most = if slow { 40_000 } else { u32::MAX };
        let most = draw::size(&mut rng).min(most);
        let count = 1 + rng.below(4) as usize;
        let streams: Vec<Stream> = (0..count)
            .map(|_| Stream {
                up: u64::from(rng.below(most)),
                down: u64::from(rng.below(most)),
            })
            .collect();
        let to = pick(&mut rng, &["10.1.0.2:80", "[fd01::2]:80"])
            .parse()
            .map_err(|e| format!("{e}"))?;
        world.set_batch(pick(&mut rng, &[1, 1, 8, 64]));
        if fast_open.is_some() {
            // The first connection brings the cookie.
            let one = [Stream { up: 10, down: 10 }];
            let mut first = Scenario::start(&mut world, a, b, to, &one, &options);
            first.run(&mut world, Duration::from_secs(3600))?;
        }
        let mut scenario = Scenario::start(&mut world, a, b, to, &streams, &options);
        scenario.read_size = pick(&mut rng, &[500, 5_000, 65_536]);
        scenario.habits = draw::habits(seed);
        Ok(Self {
            world,
            nodes: [a, b],
            link,
            options,
            streams,
            scenario,
            changes: changes::draw(seed).into_iter().rev().collect(),
        })
    }

    /// Runs for some time, and changes what is to be changed meanwhile; what is not finished then is no error.
    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let until = self.world.now() + time;
        while let Some(change) = self.changes.last_mut() {
            let left = until - self.world.now();
            if change.after > left {
                change.after -= left;
                break;
            }
            let after = change.after;
            if self.scenario.run(&mut self.world, after).is_ok() {
                self.changes.clear();
                break;
            }
            if let Some(change) = self.changes.pop() {
                change.make(&mut self.world, &mut self.scenario, &mut self.options)?;
            }
        }
        let left = until - self.world.now();
        let _ = self.scenario.run(&mut self.world, left);
        Ok(())
    }

    /// Lets something happen on the way.
    fn disturb(&mut self, seed: u64) -> Result<(), String> {
        let (incident, after, lasting) = draw::incident(seed, self.link.mtu);
        if incident == Incident::Nothing {
            return Ok(());
        }
        self.pass(after)?;
        match incident {
            Incident::Nothing => {}
            Incident::Partition => {
                self.world.partition(World::CABLE);
                self.pass(lasting)?;
                self.world.heal(World::CABLE);
            }
            Incident::Rest => {
                self.scenario.resting = true;
                self.pass(lasting * 4)?;
                self.scenario.wake(&mut self.world)?;
            }
            Incident::Narrow(mtu) => self.world.narrow(World::CABLE, mtu),
            // Not while connections open: what a SYN-ACK offers is reckoned by the link of that time.
            Incident::Shrink(mtu) if self.scenario.is_open() => {
                self.world.set_mtu(World::CABLE, mtu);
            }
            Incident::Shrink(mtu) => self.world.narrow(World::CABLE, mtu),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<u64, String> {
        let left = self.changes.iter().map(|change| change.after).sum();
        self.pass(left)?;
        let world = &mut self.world;
        let total = self.streams.iter().map(|s| s.up + s.down).sum();
        let bound = bound(&self.link, &self.options, &self.scenario.habits, total);
        let outcome = self.scenario.run(world, Duration::from_secs(6 * 3600))?;
        // Under heavy loss a connection may honestly be given up; nothing else may fail.
        let faults = &self.link.faults;
        let hopeless = !matches!(faults.loss, Loss::None) || faults.corrupt > 0.01;
        if !outcome.failed.is_empty() && !hopeless {
            return Err(format!("{:?}", outcome.failed));
        }
        if outcome.failed.is_empty() && outcome.elapsed > bound {
            let took = outcome.elapsed;
            return Err(format!("{took:?} instead of {bound:?}"));
        }
        world.run_for(Duration::from_secs(4000));
        self.scenario.settle(world)?;
        for node in self.nodes {
            leaks(world, node)?;
        }
        match world.violation() {
            Some(violation) => Err(violation.to_string()),
            None => Ok(world.fingerprint()),
        }
    }
}

fn run(seed: u64) -> Result<u64, String> {
    let mut run = Run::start(seed)?;
    if std::env::var_os("SIM_TRACE").is_some() {
        run.world.keep_trace();
    }
    let ended = run.disturb(seed).and_then(|()| run.finish());
    ended.map_err(|why| {
        for frame in run.world.take_trace() {
            let (at, from) = (frame.at.micros(), frame.from.map(|node| node.0));
            println!("{at} {from:?} {}", wire::Pretty(&frame.bytes));
        }
        let tuned = draw::tune(seed, &Config::default()).map(|config| config.tcp);
        let incident = draw::incident(seed, run.link.mtu);
        let (routes, changes) = (draw::routes(seed, false), changes::draw(seed));
        format!(
            "{why}\n{:?}\n{:?}\n{:?}\n{:?}\n{incident:?}\n{routes:?}\n{tuned:?}\n{changes:#?}",
            run.link, run.options, run.streams, run.scenario.habits
        )
    })
}

/// Everything must have gone home.
fn leaks(world: &mut World, node: NodeId) -> Result<(), String> {
    let host = world.host(node);
    let left = host.tcp_occupancy();
    if host.connections().count() > 0 || host.timers() > 0 {
        let (sockets, timers) = (host.connections().count(), host.timers());
        return Err(format!("left behind: {sockets} sockets, {timers} timers"));
    }
    let (blocks, segments) = (host.pool().in_use(), host.pool().segments_in_use());
    if left == stack::TcpOccupancy::default() && blocks == 0 && segments == 0 {
        Ok(())
    } else {
        Err(format!(
            "left behind: {left:?}, {blocks} blocks, {segments} segments"
        ))
    }
}
