//! The namespace's `net.ipv4` sysctls, carried over to the host: scripts set the kernel's, and ours follow.
//!
//! Read when a socket is made, listens or connects, as most scripts set them just before. What the stack does not have is
//! passed over; docs/packetdrill.md lists what it has.

use core::time::Duration;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use stack::{Congestion, FastOpenKeys, Host, Keepalive, TcpTunables};

const FOLDER: &str = "/proc/sys/net/ipv4";

/// Names a folder whose files count for sysctls of their names instead of the kernel's: what it would not take.
const INSTEAD: &str = "MILLSTREAM_SYSCTLS";

/// The whitespace-separated numbers of one sysctl.
fn numbers(name: &str) -> Vec<u64> {
    let instead = env::var_os(INSTEAD).map(|folder| Path::new(&folder).join(name));
    let text = instead
        .and_then(|path| fs::read_to_string(path).ok())
        .or_else(|| fs::read_to_string(Path::new(FOLDER).join(name)).ok())
        .unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn number(name: &str) -> Option<u64> {
    numbers(name).first().copied()
}

fn small(name: &str, default: u8) -> u8 {
    number(name).map_or(default, |n| n.min(255) as u8)
}

fn seconds(name: &str, default: Duration) -> Duration {
    number(name).map_or(default, Duration::from_secs)
}

/// What is settled before a script begins.
pub(crate) struct Settled {
    /// Frames are paced, whatever the namespace says.
    pub(crate) pace: bool,
    /// The namespace's congestion control then. Unless scripts change it they mean Linux's default, CUBIC, which not every
    /// namespace may be given.
    pub(crate) congestion: String,
}

/// The namespace's congestion control.
pub(crate) fn congestion() -> String {
    let name = fs::read_to_string(format!("{FOLDER}/tcp_congestion_control"));
    name.unwrap_or_default().trim().to_owned()
}

/// Whether scripts gave `tun0` the queue that paces.
fn queued_fairly() -> bool {
    let tc = Command::new("tc")
        .args(["qdisc", "show", "dev", "tun0"])
        .env_remove("LD_PRELOAD")
        .output();
    tc.is_ok_and(|tc| tc.stdout.starts_with(b"qdisc fq "))
}

/// `tcp_fastopen_key`: one key or two, each four numbers in hexadecimal of which the kernel takes the bytes in little endian.
fn fast_open_keys() -> Option<FastOpenKeys> {
    let text = fs::read_to_string(format!("{FOLDER}/tcp_fastopen_key")).ok()?;
    let key = |text: &str| {
        let mut bytes = [0; 16];
        let mut words = text.split('-');
        for out in bytes.as_chunks_mut::<4>().0 {
            let word = u32::from_str_radix(words.next()?, 16).ok()?;
            *out = word.to_le_bytes();
        }
        Some(bytes)
    };
    let mut keys = text.trim().split(',').map(key);
    Some(FastOpenKeys {
        primary: keys.next()??,
        backup: keys.next().flatten(),
    })
}

/// Carries over what may change while a connection lives, and is asked for in each of its segments.
pub(crate) fn mirror_lively(host: &mut Host) {
    let mut tunables = host.tcp_tunables();
    if tunables.ecn >= 3
        && let Some(value) = number("tcp_ecn_option")
        && tunables.set("ecn_option", i64::try_from(value).unwrap_or(-1)) == Ok(())
    {
        let _ = host.set_tcp_tunables(tunables);
    }
}

/// Carries the sysctls over; returns what SO_KEEPALIVE switches on.
pub(crate) fn mirror(host: &mut Host, settled: &Settled) -> Keepalive {
    let mut tunables = TcpTunables::default();
    for name in TcpTunables::NAMES {
        // One that the kernel does not have, or whose value makes no sense here, stays as it is.
        if let Some(value) = number(&format!("tcp_{name}")) {
            let _ = tunables.set(name, i64::try_from(value).unwrap_or(-1));
        }
    }
    // Not a sysctl: Linux leaves slow start at once, where RFC 9406 would go on more slowly.
    tunables.hystart = 1;
    for (sysctl, default, max) in [
        ("tcp_rmem", "rmem_default", "rmem_max"),
        ("tcp_wmem", "wmem_default", "wmem_max"),
    ] {
        if let [_, first, most] = numbers(sysctl)[..] {
            for (name, bytes) in [(default, first), (max, most)] {
                let _ = tunables.set(name, i64::try_from(bytes).unwrap_or(-1));
            }
        }
    }
    if let [low, pressure, max] = numbers("tcp_mem")[..] {
        let pages = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        tunables.mem = [pages(low), pages(pressure), pages(max)];
    }
    let _ = host.set_tcp_tunables(tunables);
    if let Some(keys) = fast_open_keys() {
        let _ = host.set_tcp_fast_open_keys(None, keys);
    }
    let mut options = host.tcp_defaults();
    let name = congestion();
    if let Some(which) = Congestion::from_name(&name).filter(|_| name != settled.congestion) {
        options.congestion = Some(which);
    }
    options.pacing = settled.pace || queued_fairly();
    host.set_tcp_defaults(options);
    let keepalive = Keepalive::default();
    Keepalive {
        idle: seconds("tcp_keepalive_time", keepalive.idle),
        interval: seconds("tcp_keepalive_intvl", keepalive.interval),
        probes: small("tcp_keepalive_probes", keepalive.probes),
    }
}
