//! What is changed while streams run: options of sockets, settings of hosts.
//!
//! What does not live here: what both begin with (`draw`).

use core::time::Duration;

use base::Rng;
use sim::transfer::Scenario;
use sim::{NodeId, World};
use stack::{Congestion, Keepalive, SocketId, TcpOptions};

use crate::draw::{part, pick};

/// What becomes of an option, or of a setting of the host.
#[derive(Debug, Clone, Copy)]
enum What {
    NoDelay(bool),
    Cork(bool),
    Congestion(Congestion),
    Pacing(bool),
    PacingRate(u64),
    SendBuffer(Option<u32>),
    ReceiveBuffer(Option<u32>),
    WindowClamp(Option<u32>),
    LowWater(u32),
    NotSent(u32),
    UserTimeout(Option<Duration>),
    Keepalive(Duration),
    RtoMax(Option<Duration>),
    MaxSegment(Option<u16>),
    Tos(u8),
    Account(bool),
    Setting(&'static str, i64),
}

/// One change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// How long after the one before.
    pub(crate) after: Duration,
    /// Which of the sockets there are then, or whose host.
    who: u32,
    what: What,
}

/// The changes of a seed, if it has any.
pub(crate) fn draw(seed: u64) -> Vec<Change> {
    let mut rng = part(seed, "changes");
    if rng.below(3) > 0 {
        return Vec::new();
    }
    let count = 1 + rng.below(20);
    let most = pick(&mut rng, &[1, 20, 300, 3_000]);
    let one = |_| Change {
        after: Duration::from_micros(u64::from(rng.below(most * 1_000))),
        who: rng.below(64),
        what: if rng.below(4) > 0 {
            option(&mut rng)
        } else {
            setting(&mut rng)
        },
    };
    (0..count).map(one).collect()
}

fn option(rng: &mut Rng) -> What {
    let on = rng.below(2) == 0;
    match rng.below(16) {
        0 => What::NoDelay(on),
        1 => What::Cork(on),
        2 => What::Congestion(pick(rng, Congestion::AVAILABLE)),
        3 => What::Pacing(on),
        4 => What::PacingRate(pick(rng, &[u64::MAX, u64::MAX, 50_000, 1_000_000])),
        5 => What::SendBuffer(pick(rng, &[None, Some(4_096), Some(30_000), Some(1 << 20)])),
        6 => What::ReceiveBuffer(pick(rng, &[None, Some(4_096), Some(30_000), Some(4 << 20)])),
        7 => What::WindowClamp(pick(rng, &[None, Some(3_000), Some(20_000), Some(1 << 20)])),
        8 => What::LowWater(pick(rng, &[0, 1, 700, 5_000, 60_000, 1 << 20])),
        9 => What::NotSent(pick(rng, &[0, 1, 4_096, 65_536])),
        10 => What::UserTimeout(pick(rng, &[None, Some(60), Some(200)]).map(Duration::from_secs)),
        11 => What::Keepalive(Duration::from_secs(pick(rng, &[5, 30, 300]))),
        // A second is less than some round trips: every timeout would be early, and those of a partition too many.
        12 => What::RtoMax(pick(rng, &[None, Some(5), Some(20)]).map(Duration::from_secs)),
        13 => What::MaxSegment(pick(rng, &[None, Some(1_200), Some(536), Some(100)])),
        14 => What::Tos(pick(rng, &[0, 0x10, 0xb8])),
        _ => What::Account(on),
    }
}

/// A setting and a value for it.
fn setting(rng: &mut Rng) -> What {
    const SETTINGS: [(&str, &[i64]); 27] = [
        ("timestamps", &[0, 1]),
        ("sack", &[0, 1]),
        ("window_scaling", &[0, 1]),
        ("notsent_lowat", &[u32::MAX as i64, 1, 16_384]),
        ("wmem_default", &[1 << 20, 16_384]),
        ("wmem_max", &[4 << 20, 4_096, 100_000]),
        ("rmem_default", &[131_072, 8_192]),
        ("rmem_max", &[6_291_456, 4_096, 200_000]),
        ("moderate_rcvbuf", &[0, 1]),
        ("rto_max_ms", &[120_000, 1_000, 10_000]),
        ("slow_start_after_idle", &[0, 1]),
        ("early_retrans", &[0, 3]),
        ("hystart", &[0, 1, 2]),
        ("pacing_ss_ratio", &[30, 100, 200, 1_000]),
        ("pacing_ca_ratio", &[30, 100, 120, 1_000]),
        ("min_tso_segs", &[1, 2, 255]),
        ("invalid_ratelimit", &[0, 500, 60_000]),
        ("comp_sack_delay_ns", &[0, 1_000_000, 1_000_000_000]),
        ("comp_sack_nr", &[0, 44, 255]),
        ("mtu_probing", &[0, 1, 2]),
        ("probe_interval", &[1, 600]),
        ("base_mss", &[48, 512, 1_024]),
        ("ecn", &[0, 1, 2, 3, 4, 5]),
        ("ecn_option", &[0, 1, 2, 3]),
        ("congestion_control", &[0, 1, 2]),
        ("fin_timeout", &[1, 60]),
        ("tw_reuse", &[0, 1, 2]),
    ];
    let (name, values) = SETTINGS[rng.below(SETTINGS.len() as u32) as usize];
    What::Setting(name, pick(rng, values))
}

impl Change {
    /// Makes it, and takes note in `worst` of what makes streams slower.
    pub(crate) fn make(
        &self,
        world: &mut World,
        scenario: &mut Scenario,
        worst: &mut TcpOptions,
    ) -> Result<(), String> {
        let sockets = scenario.sockets();
        let (node, socket) = sockets[self.who as usize % sockets.len()];
        scenario.grant(world);
        let now = world.now();
        let host = world.host(node);
        match self.what {
            What::Setting(name, value) => {
                let mut tunables = host.tcp_tunables();
                let set = tunables
                    .set(name, value)
                    .map_err(|e| format!("{name}: {e:?}"));
                set.and_then(|()| {
                    let taken = host.set_tcp_tunables(tunables);
                    taken.map_err(|e| format!("{name} = {value}: {e:?}"))
                })
            }
            What::Cork(on) => {
                let _ = host.tcp_set_cork(now, socket, on); // a listener has none
                Ok(())
            }
            what => {
                slower(worst, what);
                set(world, (node, socket), what)
            }
        }
    }
}

fn set(world: &mut World, (node, socket): (NodeId, SocketId), what: What) -> Result<(), String> {
    let now = world.now();
    let changed = world
        .host(node)
        .tcp_set_options(now, socket, |options| match what {
            What::NoDelay(on) => options.nodelay = on,
            What::Congestion(which) => options.congestion = Some(which),
            What::Pacing(on) => options.pacing = on,
            What::PacingRate(rate) => options.max_pacing_rate = rate,
            What::SendBuffer(bytes) => options.send_buffer = bytes,
            What::ReceiveBuffer(bytes) => options.receive_buffer = bytes,
            What::WindowClamp(bytes) => options.window_clamp = bytes,
            What::LowWater(bytes) => options.receive_low_water = bytes,
            What::NotSent(bytes) => options.notsent_lowat = bytes,
            What::UserTimeout(time) => options.user_timeout = time,
            What::Keepalive(idle) => {
                options.keepalive = Some(Keepalive {
                    idle,
                    interval: Duration::from_secs(10),
                    probes: 9,
                });
            }
            What::RtoMax(time) => options.rto_max = time,
            What::MaxSegment(bytes) => options.max_segment = bytes,
            What::Tos(tos) => options.tos = tos,
            What::Account(on) => options.account = on,
            What::Cork(_) | What::Setting(..) => {}
        });
    changed.map_err(|e| format!("{what:?}: {e}"))
}

fn slower(worst: &mut TcpOptions, what: What) {
    let less = |old: Option<u32>, new: Option<u32>| match (old, new) {
        (Some(old), Some(new)) => Some(old.min(new)),
        (old, new) => old.or(new),
    };
    match what {
        What::PacingRate(rate) => worst.max_pacing_rate = worst.max_pacing_rate.min(rate),
        What::SendBuffer(bytes) => worst.send_buffer = less(worst.send_buffer, bytes),
        What::ReceiveBuffer(bytes) | What::WindowClamp(bytes) => {
            worst.receive_buffer = less(worst.receive_buffer, bytes);
        }
        What::MaxSegment(Some(bytes)) => {
            worst.max_segment = Some(worst.max_segment.map_or(bytes, |old| old.min(bytes)));
        }
        _ => {}
    }
}
