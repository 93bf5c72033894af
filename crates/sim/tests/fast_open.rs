//! Fast Open over networks that lose, copy and disorder: every byte is checked, and the application sees each once.
//!
//! Copies come no later than their connection lasts: one that comes when it is gone may open another, as RFC 7413 says.

use core::time::Duration;

use base::Rng;
use sim::transfer::{Scenario, Stream};
use sim::{Faults, LinkConfig, Loss, World};
use stack::{Config, Count, TcpOptions};

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u32) as usize]
}

fn link(rng: &mut Rng) -> LinkConfig {
    let faults = Faults {
        loss: Loss::Random(pick(rng, &[0.0, 0.01, 0.1, 0.3])),
        reorder: pick(rng, &[0.0, 0.1, 0.5]),
        jitter: Duration::from_millis(3),
        duplicate: pick(rng, &[0.0, 0.1, 0.5]),
        corrupt: pick(rng, &[0.0, 0.01]),
    };
    LinkConfig {
        rate: 100_000_000,
        delay: Duration::from_millis(10),
        queue: 2_000_000,
        mtu: pick(rng, &[1280, 1500]),
        faults,
        offload: rng.below(3) == 0,
        ..LinkConfig::default()
    }
}

/// Runs one connection, then several: how many had their data taken with the SYN.
fn run(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::from_seed(seed ^ 0x0fa5_70fe);
    let mut config = Config {
        pool_blocks: 4096,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    };
    // With cookies, or without.
    config.tcp.fastopen = pick(&mut rng, &[3, 3, 0x207]);
    let link = link(&mut rng);
    let (mut world, a, b) = World::pair(seed, config, link);
    let to = pick(&mut rng, &["10.1.0.2:80", "[fd01::2]:80"])
        .parse()
        .map_err(|e| format!("{e}"))?;
    let options = TcpOptions {
        fast_open: true,
        fast_open_queue: pick(&mut rng, &[1, 8]),
        nodelay: rng.below(2) == 0,
        ..TcpOptions::default()
    };
    for count in [1, 1 + rng.below(4)] {
        let streams: Vec<Stream> = (0..count)
            .map(|_| Stream {
                up: pick(&mut rng, &[0, 1, 500, 1400, 20_000]),
                down: pick(&mut rng, &[0, 1, 500, 20_000]),
            })
            .collect();
        let mut scenario = Scenario::start(&mut world, a, b, to, &streams, &options);
        let outcome = scenario
            .run(&mut world, Duration::from_secs(3600))
            .map_err(|why| format!("{why}\n{link:?}\n{options:?}\n{streams:?}"))?;
        let hopeless = link.faults.loss == Loss::Random(0.3);
        if !outcome.failed.is_empty() && !hopeless {
            return Err(format!("{:?} on {link:?}", outcome.failed));
        }
        world.run_for(Duration::from_secs(1000));
    }
    for node in [a, b] {
        let host = world.host(node);
        let (left, blocks) = (host.tcp_occupancy(), host.pool().in_use());
        if left != stack::TcpOccupancy::default() || blocks > 0 {
            return Err(format!("left behind: {left:?}, {blocks} blocks"));
        }
    }
    if let Some(violation) = world.violation() {
        return Err(violation.to_string());
    }
    let taken = |node, what| world.host(node).stats().counts.get(what);
    let mut taken = taken;
    let (opened, active) = (
        taken(b, Count::TcpFastOpenPassive),
        taken(a, Count::TcpFastOpenActive),
    );
    if opened < active {
        return Err(format!("{active} told of, {opened} opened"));
    }
    Ok(active)
}

#[test]
fn the_application_sees_data_on_syns_once() {
    let mut taken = 0;
    for seed in 0..if cfg!(debug_assertions) { 100 } else { 1000 } {
        taken += run(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(taken > 50, "{taken} connections had data on their SYN");
}
