//! Path MTU discovery where routers say nothing (RFC 4821): paths that swallow what is too long for them, lossy ones among them.

use core::time::Duration;

use base::Rng;
use sim::transfer::{Scenario, Stream};
use sim::{Faults, LinkConfig, Loss, World};
use stack::{Config, Count, TcpOptions};

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u32) as usize]
}

fn config(probing: u32) -> Config {
    let mut config = Config {
        pool_blocks: 8192,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    };
    config.tcp.mtu_probing = probing;
    config
}

/// One transfer through a path of so many bytes between links of 1500 or 9000.
struct Path {
    carries: usize,
    link: LinkConfig,
    to: &'static str,
}

impl Path {
    fn new(rng: &mut Rng, loss: &[f64]) -> Self {
        let to = pick(rng, &["10.1.0.2:80", "[fd01::2]:80"]);
        let mtu = pick(rng, &[1500, 9000]);
        let least = if to.starts_with('[') { 1280 } else { 576 };
        let faults = Faults {
            loss: Loss::Random(pick(rng, loss)),
            ..Faults::NONE
        };
        Self {
            carries: least + rng.below(mtu as u32 - least as u32) as usize,
            link: LinkConfig {
                rate: 50_000_000,
                delay: Duration::from_millis(pick(rng, &[1, 10, 40])),
                queue: 500_000,
                mtu,
                faults,
                offload: rng.below(2) == 0,
                ..LinkConfig::default()
            },
            to,
        }
    }

    /// Sends `bytes` through it. Returns the virtual time it took and the longest packet the sender has sent last, or that it was
    /// given up.
    fn transfer(&self, seed: u64, probing: u32, bytes: u64) -> Result<(Duration, usize), String> {
        let (mut world, a, b) = World::pair(seed, config(probing), self.link);
        world.swallow(World::CABLE, self.carries);
        let to = self.to.parse().map_err(|e| format!("{e}"))?;
        let streams = [Stream { up: bytes, down: 0 }];
        let options = TcpOptions::default();
        let mut scenario = Scenario::start(&mut world, a, b, to, &streams, &options);
        let mut longest = 0;
        let mut all = Duration::ZERO;
        let outcome = loop {
            let outcome = scenario.run(&mut world, Duration::from_millis(200));
            all += Duration::from_millis(200);
            // Of connections that run, for what the last ones have learnt counts.
            let found = world.host(a).connections().find_map(|c| c.socket);
            if let Some(info) = found.and_then(|socket| world.host(a).tcp_info(socket).ok()) {
                let headers = if self.to.starts_with('[') { 60 } else { 40 };
                longest = info.mss as usize + headers + if info.timestamps { 12 } else { 0 };
            }
            match outcome {
                Ok(outcome) => break outcome,
                Err(why) if all > Duration::from_secs(200) => return Err(why),
                Err(_) => {} // it is still under way
            }
        };
        if let Some(violation) = world.violation() {
            return Err(violation.to_string());
        }
        if !outcome.failed.is_empty() || outcome.complete != 1 {
            return Err(format!("{:?} after {all:?}", outcome.failed));
        }
        let counts = &world.host(a).stats().counts;
        let (sent, arrived) = (Count::TcpMtuProbes, Count::TcpMtuProbesArrived);
        assert!(counts.get(arrived) <= counts.get(sent));
        Ok((all, longest))
    }
}

/// `mtu_probing` 1: what would never arrive does, after some timeouts; and the search goes up again from there.
#[test]
fn a_transfer_gets_through_a_black_hole() {
    for seed in 0..8 {
        let mut rng = Rng::from_seed(seed ^ 0xb1ac);
        let path = Path::new(&mut rng, &[0.0, 0.0, 0.01]);
        let done = path.transfer(seed, 1, 3_000_000);
        let (took, longest) = done.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(longest <= path.carries, "seed {seed}");
        assert!(took < Duration::from_secs(120), "seed {seed}: {took:?}");
        if path.link.mtu - path.carries > 100 {
            assert!(path.transfer(seed, 0, 200_000).is_err(), "seed {seed}");
        }
    }
}

/// `mtu_probing` 2: no timeouts, and segments end up as long as the path carries, but for `probe_threshold`.
#[test]
fn a_search_finds_what_the_path_carries() {
    for seed in 0..8 {
        let mut rng = Rng::from_seed(seed ^ 0x5ea7);
        let mut path = Path::new(&mut rng, &[0.0]);
        path.carries = path.carries.max(1100);
        let done = path.transfer(seed, 2, 16_000_000);
        let (took, longest) = done.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(took < Duration::from_secs(60), "seed {seed}: {took:?}");
        assert!(
            longest <= path.carries && path.carries - longest < 9,
            "seed {seed}: {longest} of {}",
            path.carries
        );
    }
}
