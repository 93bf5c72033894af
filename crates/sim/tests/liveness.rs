//! Whatever the network did, a stream goes on once it is whole again: within the longest timeout.

use core::time::Duration;

use base::Rng;
use sim::transfer::{Scenario, Stream};
use sim::{Faults, LinkConfig, Loss, World};
use stack::{Config, Keepalive, TcpOptions};

/// Seconds: no retransmission timeout is longer (RFC 6298 2.5), and a little for the round trip.
const TIMEOUT_MAX: u64 = 122;

fn world(seed: u64, link: LinkConfig) -> (World, sim::NodeId, sim::NodeId) {
    let config = Config {
        duplicate_detection: false,
        ..Config::default()
    };
    World::pair(seed, config, link)
}

/// A cable that is cut for up to ten minutes, at any moment and again and again.
#[test]
fn after_a_partition_a_stream_goes_on_within_the_longest_timeout() {
    for seed in 0..16 {
        let mut rng = Rng::from_seed(seed);
        let link = LinkConfig {
            rate: 2_000_000,
            delay: Duration::from_millis(u64::from(rng.below(200))),
            ..LinkConfig::default()
        };
        let (mut world, a, b) = world(seed, link);
        let to = ["10.1.0.2:80", "[fd01::2]:80"][seed as usize % 2];
        // More than is carried before the last cut, so that nobody has closed by then.
        let streams = [
            Stream {
                up: 8_000_000,
                down: 0,
            },
            Stream {
                up: 0,
                down: 8_000_000,
            },
        ];
        let streams = &streams[seed as usize / 2 % 2..][..1];
        let to = to.parse().expect("an address");
        let mut scenario = Scenario::start(&mut world, a, b, to, streams, &TcpOptions::default());
        let _ = scenario.run(&mut world, Duration::from_secs(2));
        for _ in 0..4 {
            let _ = scenario.run(
                &mut world,
                Duration::from_millis(u64::from(rng.below(2000))),
            );
            world.partition(World::CABLE);
            let _ = scenario.run(&mut world, Duration::from_secs(u64::from(rng.below(600))));
            world.heal(World::CABLE);
            let before = scenario.received();
            let moves = (0..TIMEOUT_MAX).any(|_| {
                let _ = scenario.run(&mut world, Duration::from_secs(1));
                scenario.received() > before
            });
            assert!(moves, "seed {seed}: nothing moves after the partition");
        }
        let outcome = scenario
            .run(&mut world, Duration::from_secs(300))
            .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert_eq!(outcome.failed, [], "seed {seed}");
        assert_eq!(outcome.complete, 1, "seed {seed}");
    }
}

/// As much loss as can be: nothing hangs. A stream arrives, or its connection is given up, and both sides know.
#[test]
fn half_of_all_frames_lost_is_survived() {
    let options = TcpOptions {
        keepalive: Some(Keepalive {
            idle: Duration::from_secs(300),
            ..Keepalive::default()
        }),
        ..TcpOptions::default()
    };
    let link = LinkConfig {
        delay: Duration::from_millis(10),
        faults: Faults {
            loss: Loss::Random(0.5),
            ..Faults::NONE
        },
        ..LinkConfig::default()
    };
    let mut complete = 0;
    for seed in 0..100 {
        let (mut world, a, b) = world(seed, link);
        let to = "10.1.0.2:80".parse().expect("an address");
        let stream = Stream {
            up: 30_000,
            down: 30_000,
        };
        let mut scenario = Scenario::start(&mut world, a, b, to, &[stream], &options);
        let outcome = scenario
            .run(&mut world, Duration::from_secs(7200))
            .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        complete += outcome.complete;
    }
    // About half of them arrive: a retransmission and its answer get through one time in four.
    assert!(complete >= 35, "{complete} of 100");
}
