//! Two hosts joined by memory, each in a thread of its own.

use millstream::port::ring::{RingOptions, pair};
use millstream::{Config, Host, Limits};
use wire::Mac;

/// The first host's address and the second's.
pub(crate) const A: &str = "10.77.0.1";
pub(crate) const B: &str = "10.77.0.2";

/// Sizes that leave room for a test's thousand connections and little more.
pub(crate) fn config() -> Config {
    Config {
        pool_blocks: 16 * 1024,
        tcp_connections: 4_096,
        tcp_active: 4_096,
        tcp_half_open: 2_048,
        tcp_time_wait: 4_096,
        timers: 16_384,
        // Addresses are of use at once.
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    }
}

/// Two hosts with an IPv4 and an IPv6 address each.
pub(crate) fn hosts() -> (Host, Host) {
    hosts_with(config(), Limits::default())
}

/// As [`hosts`], with these sizes.
pub(crate) fn hosts_with(config: Config, limits: Limits) -> (Host, Host) {
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let (a, b) = pair(macs, &RingOptions::default()).expect("descriptors are left");
    let host = |port, name: &str, v4: &str, v6: &str, seed| {
        Host::builder()
            .port(port)
            .address(format!("{v4}/24"))
            .address(format!("{v6}/64"))
            .config(config.clone())
            .limits(limits)
            .name(name)
            .seed(seed)
            .start()
            .expect("a host starts")
    };
    (
        host(a, "host-a", A, "fd77::1", 1),
        host(b, "host-b", B, "fd77::2", 2),
    )
}

/// Bytes that differ from place to place.
#[allow(dead_code)]
pub(crate) fn pattern(start: usize, len: usize) -> Vec<u8> {
    (start..start + len).map(|n| ((n / 7) ^ n) as u8).collect()
}
