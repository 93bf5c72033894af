//! How long one bulk transfer takes through loss and disorder, in virtual time: what loss recovery is for.

use core::time::Duration;

use sim::transfer::{Scenario, Stream};
use sim::{Faults, LinkConfig, Loss, World};
use stack::{Config, TcpOptions};

const BYTES: u64 = 4_000_000;
const SEEDS: u64 = 5;

/// What came of some runs.
struct Runs {
    time: Duration,
    timeouts: u64,
}

/// The mean over a few seeds of what `BYTES` take at 100 Mbit/s and 20 ms.
fn mean(name: &str, faults: Faults) -> Runs {
    let mut total = Duration::ZERO;
    let mut timeouts = 0;
    for seed in 0..SEEDS {
        let config = Config {
            pool_blocks: 8192,
            duplicate_detection: false,
            ..Config::default()
        };
        let link = LinkConfig {
            rate: 100_000_000,
            delay: Duration::from_millis(10),
            queue: 250_000,
            faults,
            ..LinkConfig::default()
        };
        let (mut world, a, b) = World::pair(seed, config, link);
        let streams = [Stream { up: BYTES, down: 0 }];
        let to = "10.1.0.2:80".parse().expect("an address");
        let options = TcpOptions::default();
        let mut scenario = Scenario::start(&mut world, a, b, to, &streams, &options);
        let outcome = scenario
            .run(&mut world, Duration::from_secs(600))
            .unwrap_or_else(|why| panic!("{name}, seed {seed}: {why}"));
        assert_eq!((outcome.complete, outcome.failed.len()), (1, 0));
        total += outcome.elapsed;
        let counts = &world.host(a).stats().counts;
        timeouts += counts.get(stack::Count::TcpTimeouts);
        println!(
            "{name:12} seed {seed}: {:?}, {} again, {} timeouts",
            outcome.elapsed,
            counts.get(stack::Count::TcpRetransmits),
            counts.get(stack::Count::TcpTimeouts),
        );
    }
    println!("{name:12} {:?}", total / SEEDS as u32);
    Runs {
        time: total / SEEDS as u32,
        timeouts,
    }
}

fn loss(p: f64) -> Faults {
    Faults {
        loss: Loss::Random(p),
        ..Faults::NONE
    }
}

/// One frame in twenty is late by up to `jitter`.
fn disorder(jitter: Duration) -> Faults {
    Faults {
        reorder: 0.05,
        jitter,
        ..Faults::NONE
    }
}

/// RFC 8985 1: neither a lost tail nor reordering costs timeouts or most of the rate. All times are virtual, and a function of
/// the seeds.
#[test]
fn a_transfer_through_loss_and_disorder() {
    let clean = mean("clean", Faults::NONE);
    for (name, late) in [("reorder 3 ms", 3), ("reorder 10 ms", 10)] {
        let disordered = mean(name, disorder(Duration::from_millis(late)));
        assert!(
            disordered.time < clean.time * 3 / 2,
            "{name} takes {:?} instead of {:?}",
            disordered.time,
            clean.time
        );
        assert_eq!(disordered.timeouts, 0, "{name}");
    }
    let lossy = mean("loss 1 %", loss(0.01));
    assert_eq!(lossy.timeouts, 0, "loss 1 %");
    let lossy = mean("loss 3 %", loss(0.03));
    assert!(lossy.timeouts <= SEEDS, "loss 3 %: {}", lossy.timeouts);
}
