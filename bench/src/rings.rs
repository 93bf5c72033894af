//! Two hosts joined by rings in memory, one per core: what the stack itself costs, without any device.
//!
//! The server's core is the one measured: work divided by the CPU time of those of its turns that found something to do.
//!
//! What does not live here: the kernel, which cannot do this (compare with `tap`).

mod client;
mod server;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use base::Rng;
use stack::{Config, TcpTunables};

use crate::Args;
use crate::measure::{cycles_per_ns, median, pin};
use crate::peers::Peers;
use crate::report::{Report, human};
use crate::shard::{MACS, Shard, cable};
use client::Client;
use server::{Gauge, Served, serve};

/// Bytes of a request and of a reply.
const SIZE: usize = 64;
/// Sockets a client address carries, under the 64,512 ports it has.
const PER_ADDRESS: usize = 50_000;
const PORT: u16 = 7000;
/// Whole lives going on at the same time.
const AT_ONCE: usize = 800;

/// What the two ends do.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Requests over connections that stay open, picked at random.
    Request,
    /// Datagrams and their echoes, from sockets picked at random.
    Datagram,
    /// Open, request, reply, close; the other connections are idle.
    Life,
}

/// What is done, and with how many sockets.
#[derive(Clone, Copy)]
struct Load {
    mode: Mode,
    sockets: usize,
}

/// What one run gave.
#[derive(Default, Clone, Copy)]
struct Figures {
    served: Served,
    /// Memory per idle connection and end, bytes (0: not measured).
    idle_bytes: f64,
}

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let sizes = if args.smoke {
        [1_000, 2_000]
    } else {
        [1_000, 1_000_000]
    };
    let columns = [
        "what",
        "sockets",
        "per busy server core",
        "cycles/frame",
        "idle turn ns",
        "bytes/idle connection",
    ];
    let mut report = Report::new(
        "rings: two hosts, one core each, medians",
        &columns,
        args.json,
    );
    let modes = [
        ("64 B request-response", Some(Mode::Request)),
        ("64 B UDP echo", Some(Mode::Datagram)),
        ("open, request, reply, close", Some(Mode::Life)),
        ("bare ACK, simulated peers", None),
    ];
    let mut notes = Vec::new();
    for (name, mode) in modes {
        let mut rates = [0.0; 2];
        for (rate, sockets) in rates.iter_mut().zip(sizes) {
            let runs = if sockets >= 1_000_000 {
                args.runs.min(3)
            } else {
                args.runs
            };
            let figures: Result<Vec<_>, _> = (0..runs.max(1) as u64)
                .map(|seed| match mode {
                    Some(mode) => once(Load { mode, sockets }, seed, args.seconds()),
                    None => bare_acks(sockets, seed, args.seconds()),
                })
                .collect();
            *rate = row(&mut report, name, sockets, &figures?);
        }
        notes.push(format!("{:.2}x {name}", rates[1] / rates[0]));
    }
    report.note(format!(
        "rates at {} over rates at {}: {}",
        human(sizes[1] as f64),
        human(sizes[0] as f64),
        notes.join(", ")
    ));
    report.print();
    Ok(())
}

/// Adds the medians of some runs to the table. Returns the rate.
fn row(report: &mut Report, name: &str, sockets: usize, runs: &[Figures]) -> f64 {
    let mid = |f: fn(&Figures) -> f64| median(&runs.iter().map(f).collect::<Vec<_>>());
    let rate = mid(|f| f.served.rate);
    report.row(&[
        name.to_string(),
        human(sockets as f64),
        human(rate) + "/s",
        format!("{:.0}", mid(|f| f.served.cycles_per_frame)),
        dash(mid(|f| f.served.idle_turn)),
        dash(mid(|f| f.idle_bytes)),
    ]);
    rate
}

/// The way of a segment to one of `n` idle connections, on one core.
fn bare_acks(n: usize, seed: u64, seconds: f64) -> Result<Figures, String> {
    pin(0);
    let mut peers = Peers::new(n as u32, config(n), seed)?;
    let ns = peers.ns_per_ack(seconds / 2.0, &mut Rng::from_seed(seed))?;
    let served = Served {
        rate: 1e9 / ns,
        cycles_per_frame: ns * cycles_per_ns(),
        ..Served::default()
    };
    Ok(Figures {
        served,
        idle_bytes: 0.0,
    })
}

/// A figure, or a dash where none was taken.
fn dash(figure: f64) -> String {
    if figure > 0.0 {
        format!("{figure:.0}")
    } else {
        "-".into()
    }
}

/// A host with room for so many sockets.
fn config(sockets: usize) -> Config {
    let tcp = TcpTunables {
        somaxconn: 65_535,
        ..TcpTunables::default()
    };
    Config {
        tcp,
        pool_blocks: 64 * 1024,
        tcp_connections: sockets as u32 + 4096,
        tcp_active: (sockets as u32).clamp(16_384, 262_144),
        tcp_half_open: 65_536,
        tcp_time_wait: 262_144,
        udp_sockets: sockets as u32 + 64,
        timers: sockets as u32 + 524_288,
        ephemeral_ports: (1024, 65_535),
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    }
}

fn once(load: Load, seed: u64, seconds: f64) -> Result<Figures, String> {
    let (client_port, server_port) = cable()?;
    let gauge = Arc::new(Gauge::default());
    let before = rss();
    let shared = Arc::clone(&gauge);
    let server = thread::Builder::new()
        .name("server".into())
        .spawn(move || serve(load, seed, server_port, &shared))
        .map_err(|e| e.to_string())?;
    pin(1);
    let addresses: Vec<String> = (0..load.sockets.div_ceil(PER_ADDRESS).max(4))
        .map(|i| format!("10.0.0.{}/24", 10 + i))
        .collect();
    let seed = seed ^ 0xc11e;
    let mut shard = Shard::new(config(load.sockets), client_port, &addresses, seed)?;
    // Asking for it would do, but more SYNs than may wait for the answer are under way at once.
    let server_address = "10.0.0.1".parse().map_err(|_| "address")?;
    shard
        .host
        .set_neighbour(shard.now, shard.interface, server_address, MACS[1])
        .map_err(|e| e.to_string())?;
    let mut client = Client::new(shard, addresses, seed);
    let result = client.drive(load, seconds, &gauge, before);
    gauge.stop.store(true, Ordering::Release);
    let served = server
        .join()
        .map_err(|_| "the server's thread panicked".to_string())??;
    Ok(Figures {
        served,
        idle_bytes: result?,
    })
}

/// Resident memory of this process, bytes.
fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split_whitespace()
        .nth(1)
        .and_then(|p| p.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
