//! What a seed makes of hosts, sockets and applications, each part from a generator of its own: a new one does not change what
//! the others draw, so that seeds kept for a bug still show it.
//!
//! What does not live here: the network, and how streams run.

use core::time::Duration;

use base::Rng;
use sim::transfer::Habits;
use stack::{Config, RouteMetrics, TcpOptions};

pub(crate) fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u32) as usize]
}

/// The generator of one part of a seed.
pub(crate) fn part(seed: u64, name: &str) -> Rng {
    let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    Rng::from_seed(seed ^ name.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
}

/// How each of the two hosts is tuned.
pub(crate) fn tune(seed: u64, config: &Config) -> [Config; 2] {
    let mut rng = part(seed, "tune");
    let mostly = [1, 1, 1, 1, 1, 0];
    [(); 2].map(|()| {
        let mut config = config.clone();
        let tcp = &mut config.tcp;
        tcp.timestamps = pick(&mut rng, &mostly);
        tcp.sack = pick(&mut rng, &mostly);
        tcp.window_scaling = pick(&mut rng, &mostly);
        tcp.moderate_rcvbuf = pick(&mut rng, &mostly);
        tcp.ecn = rng.below(3);
        tcp.ecn_fallback = rng.below(2);
        tcp.hystart = rng.below(3);
        tcp.early_retrans = pick(&mut rng, &[3, 3, 0]);
        tcp.slow_start_after_idle = rng.below(2);
        tcp.min_tso_segs = pick(&mut rng, &[2, 1, 20]);
        tcp.invalid_ratelimit = pick(&mut rng, &[500, 0]);
        tcp.rmem_default = pick(&mut rng, &[131_072, 131_072, 8_192]);
        tcp.rmem_max = pick(&mut rng, &[6_291_456, 6_291_456, 200_000]);
        tcp.wmem_default = pick(&mut rng, &[1 << 20, 16_384]);
        tcp.wmem_max = pick(&mut rng, &[4 << 20, 4_096]);
        tcp.comp_sack_nr = pick(&mut rng, &[44, 44, 0]);
        tcp.notsent_lowat = pick(&mut rng, &[u32::MAX, 16_384]);
        tcp.rto_max_ms = pick(&mut rng, &[120_000, 120_000, 10_000]);
        config.tcp_account = rng.below(2) == 0;
        config
    })
}

/// What sockets are told besides.
pub(crate) fn socket(seed: u64, options: TcpOptions) -> TcpOptions {
    let mut rng = part(seed, "socket");
    TcpOptions {
        notsent_lowat: pick(&mut rng, &[0, 0, 0, 1, 4_096, 65_536]),
        max_pacing_rate: pick(&mut rng, &[u64::MAX, u64::MAX, u64::MAX, 100_000]),
        tos: pick(&mut rng, &[0, 0, 0x10, 0xb8]),
        account: rng.below(2) == 0,
        ..options
    }
}

/// What the routes of the two hosts to each other say. A locked MTU needs a path that carries it: `steady`.
pub(crate) fn routes(seed: u64, steady: bool) -> [RouteMetrics; 2] {
    let mut rng = part(seed, "routes");
    [(); 2].map(|()| {
        if rng.below(3) > 0 {
            return RouteMetrics::default();
        }
        let mtu = pick(&mut rng, &[None, None, Some(1280), Some(1400), Some(9000)]);
        RouteMetrics {
            mtu,
            mtu_lock: rng.below(2) == 0 && steady && mtu.is_some(),
            advmss: pick(&mut rng, &[None, None, Some(300), Some(1200)]),
            initcwnd: pick(&mut rng, &[None, None, Some(1), Some(3), Some(100)]),
            initrwnd: pick(&mut rng, &[None, None, Some(1), Some(4), Some(1000)]),
            congctl: None, // each socket names one
        }
    })
}

/// How applications write.
pub(crate) fn habits(seed: u64) -> Habits {
    let mut rng = part(seed, "habits");
    let often = [0, 0, 0, 1, 3, 20];
    Habits {
        write: pick(&mut rng, &[32_768, 32_768, 4_000, 700]),
        more: pick(&mut rng, &often),
        records: pick(&mut rng, &often),
        urgent: pick(&mut rng, &often),
        marks: pick(&mut rng, &often),
    }
}

/// What happens while streams run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incident {
    Nothing,
    /// The cable is cut, and mended.
    Partition,
    /// Nobody reads for a while.
    Rest,
    /// A router on the path passes on less.
    Narrow(usize),
    /// The hosts' own link carries less.
    Shrink(usize),
}

pub(crate) fn incident(seed: u64, mtu: usize) -> (Incident, Duration, Duration) {
    let mut rng = part(seed, "incident");
    let less = pick(&mut rng, &[1280, 1300, 1400, 1499, 2000]).min(mtu);
    let incident = match rng.below(12) {
        0 | 1 => Incident::Partition,
        2 => Incident::Rest,
        3 | 4 => Incident::Narrow(less),
        5 => Incident::Shrink(less),
        _ => Incident::Nothing,
    };
    let after = Duration::from_millis(u64::from(rng.below(500)));
    (
        incident,
        after,
        Duration::from_millis(u64::from(rng.below(5_000))),
    )
}

/// Most streams are short.
pub(crate) fn size(rng: &mut Rng) -> u32 {
    pick(
        rng,
        &[
            2_000, 20_000, 20_000, 60_000, 60_000, 60_000, 60_000, 400_000,
        ],
    )
}

/// Whether Fast Open is used: how listeners and connections are to be set for it.
pub(crate) fn fast_open(seed: u64) -> Option<u32> {
    let mut rng = part(seed, "fast open");
    (rng.below(4) == 0).then(|| pick(&mut rng, &[3, 3, 0x207]))
}
