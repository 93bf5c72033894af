//! Streams through good and bad networks, over both families, with the properties of `sim::check` watched on every frame.

use core::time::Duration;

use base::Instant;
use sim::transfer::{Scenario, Stream};
use sim::{Faults, LinkConfig, Loss, World};
use stack::{Config, Count, TcpOptions};

const MINUTE: Duration = Duration::from_secs(60);

fn config() -> Config {
    Config {
        pool_blocks: 4096,
        duplicate_detection: false,
        ..Config::default()
    }
}

fn run(
    seed: u64,
    link: LinkConfig,
    to: &str,
    streams: &[Stream],
    options: &TcpOptions,
    limit: Duration,
) -> (u64, Duration) {
    let (mut world, a, b) = World::pair(seed, config(), link);
    let to = to.parse().expect("an address");
    let mut scenario = Scenario::start(&mut world, a, b, to, streams, options);
    let outcome = scenario
        .run(&mut world, limit)
        .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    assert_eq!(outcome.failed, [], "seed {seed}");
    assert_eq!(outcome.complete, streams.len(), "seed {seed}");
    // TIME-WAIT over, caches aged: nothing may be left.
    world.run_for(Duration::from_secs(200));
    for node in [a, b] {
        let host = world.host(node);
        let left = host.tcp_occupancy();
        assert_eq!(
            left,
            stack::TcpOccupancy::default(),
            "seed {seed}: records left"
        );
        assert_eq!(
            (host.pool().in_use(), host.pool().segments_in_use()),
            (0, 0),
            "seed {seed}: memory left"
        );
    }
    (world.fingerprint(), outcome.elapsed)
}

const BOTH: [&str; 2] = ["10.1.0.2:80", "[fd01::2]:80"];

#[test]
fn a_clean_link_carries_everything() {
    for to in BOTH {
        run(
            1,
            LinkConfig::default(),
            to,
            &[Stream {
                up: 3_000_000,
                down: 2_000_000,
            }],
            &TcpOptions::default(),
            MINUTE,
        );
    }
}

#[test]
fn empty_streams_open_and_close() {
    for to in BOTH {
        run(
            2,
            LinkConfig::default(),
            to,
            &[Stream { up: 0, down: 0 }; 50],
            &TcpOptions::default(),
            MINUTE,
        );
    }
}

#[test]
fn many_streams_share_a_link() {
    let link = LinkConfig {
        rate: 100_000_000,
        delay: Duration::from_millis(5),
        queue: 200_000,
        ..LinkConfig::default()
    };
    run(
        3,
        link,
        BOTH[0],
        &[Stream {
            up: 100_000,
            down: 50_000,
        }; 30],
        &TcpOptions::default(),
        5 * MINUTE,
    );
}

#[test]
fn super_frames_are_cut_or_travel_whole() {
    for whole in [false, true] {
        let link = LinkConfig {
            offload: true,
            whole,
            ..LinkConfig::default()
        };
        for to in BOTH {
            run(
                4,
                link,
                to,
                &[Stream {
                    up: 5_000_000,
                    down: 5_000_000,
                }],
                &TcpOptions::default(),
                MINUTE,
            );
        }
    }
}

#[test]
fn loss_reordering_duplication_and_corruption_change_nothing_but_time() {
    for seed in 0..40 {
        let loss = match seed % 4 {
            0 => Loss::Random(0.01),
            1 => Loss::Random(0.08),
            2 => Loss::Burst {
                start: 0.005,
                end: 0.2,
                loss: 0.7,
            },
            _ => Loss::None,
        };
        let faults = Faults {
            loss,
            reorder: if seed % 3 == 0 { 0.05 } else { 0.0 },
            jitter: Duration::from_millis(3),
            duplicate: if seed % 5 == 0 { 0.05 } else { 0.001 },
            corrupt: if seed % 2 == 0 { 0.002 } else { 0.0 },
        };
        let link = LinkConfig {
            delay: Duration::from_millis(seed % 20),
            faults,
            offload: seed % 7 == 0,
            ..LinkConfig::default()
        };
        run(
            seed,
            link,
            BOTH[seed as usize % 2],
            &[Stream {
                up: 200_000,
                down: 150_000,
            }; 3],
            &TcpOptions::default(),
            30 * MINUTE,
        );
    }
}

#[test]
fn a_tight_queue_makes_room_for_all() {
    let link = LinkConfig {
        rate: 10_000_000,
        delay: Duration::from_millis(20),
        queue: 30_000,
        ..LinkConfig::default()
    };
    run(
        5,
        link,
        BOTH[1],
        &[
            Stream {
                up: 1_000_000,
                down: 0,
            },
            Stream {
                up: 0,
                down: 1_000_000,
            },
        ],
        &TcpOptions::default(),
        5 * MINUTE,
    );
}

#[test]
fn small_buffers_and_odd_sizes() {
    let options = TcpOptions {
        receive_buffer: Some(5_000),
        send_buffer: Some(7_000),
        ..TcpOptions::default()
    };
    for to in BOTH {
        run(
            6,
            LinkConfig::default(),
            to,
            &[Stream {
                up: 100_001,
                down: 77_777,
            }; 4],
            &options,
            5 * MINUTE,
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let link = LinkConfig {
        faults: Faults {
            loss: Loss::Random(0.03),
            ..Faults::NONE
        },
        ..LinkConfig::default()
    };
    let streams = [Stream {
        up: 100_000,
        down: 100_000,
    }; 2];
    let first = run(
        7,
        link,
        BOTH[0],
        &streams,
        &TcpOptions::default(),
        5 * MINUTE,
    );
    let second = run(
        7,
        link,
        BOTH[0],
        &streams,
        &TcpOptions::default(),
        5 * MINUTE,
    );
    let other = run(
        8,
        link,
        BOTH[0],
        &streams,
        &TcpOptions::default(),
        5 * MINUTE,
    );
    assert_eq!(first, second);
    assert_ne!(first.0, other.0);
}

#[test]
fn a_partition_heals() {
    let (mut world, a, b) = World::pair(
        9,
        config(),
        LinkConfig {
            rate: 20_000_000,
            ..LinkConfig::default()
        },
    );
    let to = BOTH[0].parse().expect("an address");
    let mut scenario = Scenario::start(
        &mut world,
        a,
        b,
        to,
        &[Stream {
            up: 2_000_000,
            down: 0,
        }],
        &TcpOptions::default(),
    );
    assert!(
        scenario
            .run(&mut world, Duration::from_millis(200))
            .is_err(),
        "not finished yet"
    );
    world.partition(World::CABLE);
    assert!(
        scenario.run(&mut world, Duration::from_secs(20)).is_err(),
        "nothing gets through"
    );
    world.heal(World::CABLE);
    let outcome = scenario
        .run(&mut world, 5 * MINUTE)
        .expect("goes on after the partition");
    assert_eq!((outcome.complete, outcome.failed.len()), (1, 0));
}

/// The receive buffer that tunes itself holds a long fast link as well as one that was large from the start.
#[test]
fn long_fast_links_are_filled_without_large_buffers() {
    for (rate, round_trip_ms, bytes) in
        [(100_000_000, 100, 20 << 20), (1_000_000_000, 50, 60 << 20)]
    {
        let link = LinkConfig {
            rate,
            delay: Duration::from_millis(round_trip_ms / 2),
            queue: 16 << 20,
            offload: true,
            ..LinkConfig::default()
        };
        let elapsed = [None, Some(16 << 20)].map(|receive_buffer| {
            let options = TcpOptions {
                receive_buffer,
                send_buffer: Some(16 << 20),
                ..TcpOptions::default()
            };
            let config = Config {
                pool_blocks: 32_768,
                ..config()
            };
            let (mut world, a, b) = World::pair(10, config, link);
            let to = BOTH[0].parse().expect("an address");
            let stream = Stream { up: bytes, down: 0 };
            let mut scenario = Scenario::start(&mut world, a, b, to, &[stream], &options);
            let outcome = scenario.run(&mut world, MINUTE).expect("it ends");
            assert_eq!((outcome.complete, outcome.failed.len()), (1, 0));
            outcome.elapsed
        });
        let [tuned, large] = elapsed.map(|time| time.as_secs_f64());
        assert!(tuned <= large * 1.05, "{tuned} s, {large} s with 16 MiB");
    }
}

/// Of a handshake by cookie nothing is kept: a SYN that comes again, because the way is long, is told what the listener offers by then.
/// Both ends go by the answer that the client took, and that is the first.
#[test]
fn of_two_answers_by_cookie_the_first_holds() {
    let link = LinkConfig {
        delay: Duration::from_millis(600),
        ..LinkConfig::default()
    };
    let mut config = config();
    config.tcp.syncookies = 2;
    for buffers in [[4 << 20, 8_192], [8_192, 4 << 20]] {
        let (mut world, a, b) = World::pair(11, config.clone(), link);
        let options = TcpOptions {
            receive_buffer: Some(buffers[0]),
            ..TcpOptions::default()
        };
        let stream = Stream {
            up: 300_000,
            down: 300_000,
        };
        let to = BOTH[0].parse().expect("an address");
        let mut scenario = Scenario::start(&mut world, a, b, to, &[stream], &options);
        let answers = |scenario: &mut Scenario, world: &mut World, number| {
            while world.host(b).stats().counts.get(Count::TcpSynCookiesSent) < number {
                assert!(!scenario.is_open() && world.now() < Instant::ZERO + MINUTE);
                let _ = scenario.run(world, Duration::from_millis(10));
            }
        };
        answers(&mut scenario, &mut world, 1);
        let (now, (_, listener)) = (world.now(), scenario.sockets()[0]);
        let change = |options: &mut TcpOptions| options.receive_buffer = Some(buffers[1]);
        let changed = world.host(b).tcp_set_options(now, listener, change);
        changed.expect("it is changed");
        answers(&mut scenario, &mut world, 2);
        let outcome = scenario.run(&mut world, MINUTE).expect("it ends");
        assert_eq!((outcome.complete, outcome.failed.len()), (1, 0));
    }
}
