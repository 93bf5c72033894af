//! One random network and workload per seed: `cargo xtask sim --seeds N --first S`.
//!
//! Reads `SIM_FIRST` and `SIM_SEEDS`; a plain `cargo test` runs a few hundred.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::panic::catch_unwind;

use base::Rng;
use sim::transfer::{Scenario, Stream};
use sim::{CableId, Faults, LinkConfig, Loss, NodeId, World};
use stack::{Config, Congestion, Keepalive, TcpOptions};

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
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // Who has ended one seed takes the next: some are long.
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return Ok(());
            }
            let outcome = catch_unwind(|| check(seed)).unwrap_or_else(|_| Err("it panics".into()));
            if let Err(why) = outcome {
                next.store(first + count, Ordering::Relaxed); // nobody takes another
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

/// Runs a seed, and now and then twice: then both runs must be the same, frame for frame.
fn check(seed: u64) -> Result<(), String> {
    let trace = run(seed)?;
    if seed.is_multiple_of(25) && run(seed)? != trace {
        return Err("two runs differ".into());
    }
    Ok(())
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u32) as usize]
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
        congestion: pick(rng, Congestion::AVAILABLE),
        pacing: rng.below(4) == 0,
        receive_buffer: pick(
            rng,
            &[None, Some(4_096), Some(30_000), Some(65_535), Some(4 << 20)],
        ),
        send_buffer: pick(rng, &[4_096, 50_000, 1 << 20]),
        max_segment: pick(rng, &[None, None, Some(536), Some(100)]),
        ..TcpOptions::default()
    }
}

/// How long streams of so many bytes may take, whatever is lost: every loss costs a few timeouts at most. Where much is lost of a
/// handshake, its echo makes for a round trip of many seconds, and for a few timeouts near the longest.
fn bound(link: &LinkConfig, options: &TcpOptions, bytes: u64) -> Duration {
    let queue = (8 * link.queue).checked_div(link.rate).unwrap_or(0) as f64;
    let round = 2.0 * (link.delay + link.faults.jitter).as_secs_f64() + queue;
    let timeout = 0.25 + 4.0 * round;
    let segment = options.max_segment.map_or(1200.0, f64::from) - 40.0;
    let buffer = options.receive_buffer.unwrap_or(65_536);
    let window = buffer.min(options.send_buffer).min(20_000);
    let loss = link.faults.corrupt
        + match link.faults.loss {
            Loss::None => 0.0,
            Loss::Random(p) => p,
            Loss::Burst { start, end, loss } => loss * start / (start + end),
        };
    let bytes = bytes as f64;
    let clean = bytes / f64::from(window) * 4.0 * (round + 0.1)
        + 8.0 * 1.5 * bytes * (segment + 80.0) / segment / (link.rate.max(1 << 18) as f64);
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

fn run(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::from_seed(seed ^ 0x5eed_5eed);
    let link = link(&mut rng);
    let (config, defer_accept) = tuned(seed, &link.faults);
    let (mut world, a, b) = World::pair(seed, config, link);
    // Sizes such that a slow link is done in reasonable virtual time.
    let most = if link.rate == 256_000 || link.delay.as_millis() > 50 {
        40_000
    } else {
        400_000
    };
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
    let options = TcpOptions {
        defer_accept,
        ..options(&mut rng)
    };
    world.set_batch(pick(&mut rng, &[1, 1, 8, 64]));
    let mut scenario = Scenario::start(&mut world, a, b, to, &streams, &options);
    scenario.read_size = pick(&mut rng, &[500, 5_000, 65_536]);
    if rng.below(6) == 0 {
        let _ = scenario.run(&mut world, Duration::from_millis(u64::from(rng.below(500))));
        world.partition(CableId(0));
        let _ = scenario.run(
            &mut world,
            Duration::from_millis(u64::from(rng.below(5_000))),
        );
        world.heal(CableId(0));
    }
    let total = streams.iter().map(|s| s.up + s.down).sum();
    let bound = bound(&link, &options, total);
    let outcome = scenario
        .run(&mut world, Duration::from_secs(6 * 3600))
        .map_err(|why| format!("{why}\n{link:?}\n{options:?}\n{streams:?}"))?;
    // Under heavy loss a connection may honestly be given up; nothing else may fail.
    let hopeless = !matches!(link.faults.loss, Loss::None);
    if !outcome.failed.is_empty() && !hopeless {
        return Err(format!("{:?} on {link:?}", outcome.failed));
    }
    if outcome.failed.is_empty() && outcome.elapsed > bound {
        let took = outcome.elapsed;
        return Err(format!(
            "{took:?} instead of {bound:?}\n{link:?}\n{options:?}"
        ));
    }
    world.run_for(Duration::from_secs(4000));
    for node in [a, b] {
        leaks(&mut world, node)?;
    }
    match world.violation() {
        Some(violation) => Err(violation.to_string()),
        None => Ok(world.fingerprint()),
    }
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
