//! Two hosts joined by rings in memory, one per core: what the stack itself costs, without any device.
//!
//! The server's core is the one measured: work divided by the time of those of its turns that found something to do.
//!
//! What does not live here: the kernel, which cannot do this; compare with `tap`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use base::{Instant, Offloads, Rng};
use port::ring::{RingOptions, pair};
use stack::{Config, Event, Host, Ready, SocketError, SocketId, TcpOptions};
use wire::Mac;

use crate::Args;
use crate::measure::{cycles_per_ns, median, pin, thread_cpu};
use crate::report::{Report, human};
use crate::shard::Shard;

/// Bytes of a request and of a reply.
const SIZE: usize = 64;
/// Connections a client address carries, under the 64,512 ports it has.
const PER_ADDRESS: usize = 50_000;
const PORT: u16 = 7000;

/// What the two ends do.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Requests over connections that stay open, picked at random.
    Request,
    /// Open, request, reply, close.
    Life,
}

/// What one run gave.
#[derive(Default, Clone, Copy)]
struct Figures {
    /// Operations per busy second of the server.
    rate: f64,
    /// Server cycles per frame, in and out.
    cycles_per_frame: f64,
    /// Memory per idle connection and end, bytes (0: not measured).
    idle_bytes: f64,
    /// An idle turn of the server, ns.
    idle_turn: f64,
}

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let sizes: &[usize] = if args.smoke {
        &[100, 1_000]
    } else {
        &[1_000, 1_000_000]
    };
    let columns = [
        "what",
        "connections",
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
    let mut add = |name: &str, n: usize, runs: Vec<Figures>| {
        let mid = |f: fn(&Figures) -> f64| median(&runs.iter().map(f).collect::<Vec<_>>());
        let idle_bytes = mid(|f| f.idle_bytes);
        report.row(&[
            name.to_string(),
            human(n as f64),
            human(mid(|f| f.rate)) + "/s",
            format!("{:.0}", mid(|f| f.cycles_per_frame)),
            format!("{:.0}", mid(|f| f.idle_turn)),
            if idle_bytes > 0.0 {
                format!("{idle_bytes:.0}")
            } else {
                "-".into()
            },
        ]);
        mid(|f| f.rate)
    };
    let mut rates = Vec::new();
    for &n in sizes {
        let runs = if n >= 1_000_000 {
            args.runs.min(3)
        } else {
            args.runs
        };
        let figures: Result<Vec<_>, _> = (0..runs.max(1))
            .map(|seed| once(Mode::Request, n, seed as u64, args.seconds))
            .collect();
        rates.push(add("64 B request-response", n, figures?));
    }
    let n = if args.smoke { 64 } else { 1_000 };
    let figures: Result<Vec<_>, _> = (0..args.runs.max(1))
        .map(|seed| once(Mode::Life, n, seed as u64, args.seconds))
        .collect();
    add("open, request, reply, close", n, figures?);
    if let [few, many] = rates[..] {
        report.note(format!(
            "request-response at {} connections is {:.2}x of that at {}",
            human(sizes[1] as f64),
            many / few,
            human(sizes[0] as f64)
        ));
    }
    report.print();
    Ok(())
}

fn config(connections: usize) -> Config {
    Config {
        pool_blocks: 64 * 1024,
        tcp_connections: connections as u32 + 4096,
        tcp_active: (connections as u32).clamp(16_384, 262_144),
        tcp_half_open: 65_536,
        tcp_time_wait: 262_144,
        timers: connections as u32 + 524_288,
        ephemeral_ports: (1024, 65_535),
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    }
}

/// Shared between the two threads of a run.
#[derive(Default)]
struct Gauge {
    stop: AtomicBool,
    /// Bumped to make the server start its figures afresh.
    phase: AtomicU32,
    served: AtomicU64,
}

fn once(mode: Mode, connections: usize, seed: u64, seconds: f64) -> Result<Figures, String> {
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let options = RingOptions {
        offloads: Offloads {
            tso4: false,
            tso6: false,
            uso: false,
            ..Offloads::ALL
        },
        ..RingOptions::default()
    };
    let (client_port, server_port) = pair(macs, &options).map_err(|e| e.to_string())?;
    let gauge = Arc::new(Gauge::default());
    let before = rss();
    let shared = Arc::clone(&gauge);
    let server = thread::Builder::new()
        .name("server".into())
        .spawn(move || serve(mode, connections, seed, server_port, &shared))
        .map_err(|e| e.to_string())?;
    pin(1);
    let addresses: Vec<String> = (0..connections.div_ceil(PER_ADDRESS).max(4))
        .map(|i| format!("10.0.0.{}/24", 10 + i))
        .collect();
    let shard = Shard::new(config(connections), client_port, &addresses, seed ^ 0xc11e)?;
    let mut client = Client {
        shard,
        addresses,
        mode,
        rng: Rng::from_seed(seed),
        sockets: Vec::new(),
        opened: 0,
        done: 0,
        failed: 0,
        options: TcpOptions {
            nodelay: true,
            ..TcpOptions::default()
        },
    };
    let result = client.drive(connections, seconds, &gauge, before);
    gauge.stop.store(true, Ordering::Release);
    let (rate, cycles_per_frame, idle_turn) = server
        .join()
        .map_err(|_| "the server's thread panicked".to_string())??;
    let idle_bytes = result?;
    Ok(Figures {
        rate,
        cycles_per_frame,
        idle_bytes,
        idle_turn,
    })
}

/// The server's side: answers every request; with `Life` it closes after the reply.
fn serve(
    mode: Mode,
    connections: usize,
    seed: u64,
    port: port::ring::RingPort,
    gauge: &Gauge,
) -> Result<(f64, f64, f64), String> {
    pin(0);
    let mut shard = Shard::new(
        config(connections),
        port,
        &["10.0.0.1/24".to_string()],
        seed,
    )?;
    let options = TcpOptions {
        nodelay: true,
        ..TcpOptions::default()
    };
    let local = format!("0.0.0.0:{PORT}")
        .parse()
        .map_err(|e| format!("{e}"))?;
    let now = shard.now;
    let listener = shard
        .host
        .tcp_listen(now, local, 65_535, &options)
        .map_err(|e| e.to_string())?;
    let mut served = 0u64;
    let mut phase = 0;
    let mut buffer = [0; 4096];
    while !gauge.stop.load(Ordering::Acquire) {
        if gauge.phase.load(Ordering::Acquire) != phase {
            phase = gauge.phase.load(Ordering::Acquire);
            shard.reset();
            served = 0;
        }
        shard.turn(&mut |host, now, event| {
            if event.socket == listener {
                while host.tcp_accept(now, listener).is_ok() {}
                return;
            }
            if !event.ready.intersects(Ready::READABLE) {
                return;
            }
            match host.tcp_recv(now, event.socket, &mut buffer) {
                Ok(0) => {
                    let _ = host.close(now, event.socket);
                }
                Ok(_) => {
                    let _ = host.tcp_send(now, event.socket, &[b'r'; SIZE]);
                    served += 1;
                    if mode == Mode::Life {
                        let _ = host.close(now, event.socket);
                    }
                }
                Err(SocketError::WouldBlock) => {}
                Err(_) => {
                    let _ = host.abort(now, event.socket);
                }
            }
        });
        gauge.served.store(served, Ordering::Relaxed);
    }
    let (cpu, idle_turns, frames) = (shard.cpu_spent(), shard.idle_turns, shard.frames);
    let idle = idle_turn(&mut shard);
    // A clock read around every turn would cost as much as an idle turn, so idle turns are counted and taken off.
    let busy = cpu - idle_turns as f64 * idle;
    Ok((
        served as f64 / busy,
        busy * 1e9 * cycles_per_ns() / frames as f64,
        idle * 1e9,
    ))
}

/// CPU seconds of a turn that finds nothing to do.
fn idle_turn(shard: &mut Shard) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..100 {
        let begin = thread_cpu();
        let mut quiet = true;
        for _ in 0..1000 {
            quiet &= !shard.turn(&mut |_, _, _| {});
        }
        if quiet {
            best = best.min((thread_cpu() - begin) / 1000.0);
        }
    }
    if best == f64::MAX { 0.0 } else { best }
}

struct Client {
    shard: Shard,
    addresses: Vec<String>,
    mode: Mode,
    rng: Rng,
    sockets: Vec<SocketId>,
    opened: usize,
    done: u64,
    failed: u64,
    options: TcpOptions,
}

impl Client {
    fn connect(&mut self) -> Option<SocketId> {
        let address = &self.addresses[self.opened % self.addresses.len()];
        let local = format!("{}:0", address.split('/').next().unwrap_or_default())
            .parse()
            .ok()?;
        let remote = format!("10.0.0.1:{PORT}").parse().ok()?;
        self.opened += 1;
        let socket = self
            .shard
            .host
            .tcp_connect(self.shard.now, remote, Some(local), &self.options)
            .ok()?;
        self.shard
            .host
            .set_token(socket, self.opened as u64 - 1)
            .ok()?;
        Some(socket)
    }

    fn drive(
        &mut self,
        connections: usize,
        seconds: f64,
        gauge: &Gauge,
        before: u64,
    ) -> Result<f64, String> {
        match self.mode {
            Mode::Request => {
                self.open_all(connections)?;
                let idle = (rss().saturating_sub(before)) as f64 / (2 * connections) as f64;
                // A warm-up, so that few connections are still in their quick-ACK phase.
                self.requests((connections as u64 * 20).min(1_000_000), f64::MAX)?;
                gauge.phase.fetch_add(1, Ordering::Release);
                self.requests(u64::MAX, seconds)?;
                Ok(if connections >= 100_000 { idle } else { 0.0 })
            }
            Mode::Life => {
                self.lives(connections, 0.2)?;
                gauge.phase.fetch_add(1, Ordering::Release);
                self.lives(connections, seconds)?;
                Ok(0.0)
            }
        }
    }

    /// Opens all connections, a few hundred at a time.
    fn open_all(&mut self, connections: usize) -> Result<(), String> {
        let limit = std::time::Instant::now() + Duration::from_secs(120);
        let mut connected = 0;
        let mut failed = 0;
        while connected < connections {
            while self.sockets.len() < connections && self.sockets.len() - connected < 512 {
                let Some(socket) = self.connect() else {
                    return Err("the client cannot open a connection".into());
                };
                self.sockets.push(socket);
            }
            self.shard.turn(&mut |_, _, event: Event| {
                if event.ready.contains(Ready::ERROR) {
                    failed += 1;
                } else if event.ready.contains(Ready::WRITABLE) {
                    connected += 1;
                }
            });
            if failed > 0 || std::time::Instant::now() > limit {
                return Err(format!(
                    "{connected} of {connections} connections opened, {failed} failed"
                ));
            }
        }
        Ok(())
    }

    /// Keeps requests going on connections picked at random, until `most` are answered or the time is up.
    fn requests(&mut self, most: u64, seconds: f64) -> Result<(), String> {
        let outstanding = self.sockets.len().min(256);
        let start = std::time::Instant::now();
        let mut answered = 0u64;
        let mut in_flight = vec![false; self.sockets.len()];
        let mut count = 0;
        let mut quiet_since = start;
        while answered < most && start.elapsed().as_secs_f64() < seconds {
            while count < outstanding {
                let at = self.rng.below(self.sockets.len() as u32) as usize;
                if in_flight[at] {
                    continue;
                }
                let now = self.shard.now;
                if self
                    .shard
                    .host
                    .tcp_send(now, self.sockets[at], &[b'q'; SIZE])
                    .is_err()
                {
                    break;
                }
                in_flight[at] = true;
                count += 1;
            }
            let before = answered;
            self.shard
                .turn(&mut |host: &mut Host, now: Instant, event: Event| {
                    let mut buffer = [0; 256];
                    if let Ok(n) = host.tcp_recv(now, event.socket, &mut buffer)
                        && n > 0
                    {
                        // An answer too late for the last phase is not one of this.
                        if std::mem::take(&mut in_flight[event.token as usize]) {
                            count -= 1;
                            answered += 1;
                        }
                    }
                });
            if answered > before {
                quiet_since = std::time::Instant::now();
            } else if quiet_since.elapsed() > Duration::from_secs(20) {
                return Err(format!("no answer for 20 s after {answered} requests"));
            }
        }
        // Let the rest come home.
        let until = std::time::Instant::now() + Duration::from_millis(300);
        while count > 0 && std::time::Instant::now() < until {
            self.shard
                .turn(&mut |host: &mut Host, now: Instant, event: Event| {
                    let mut buffer = [0; 256];
                    if host
                        .tcp_recv(now, event.socket, &mut buffer)
                        .is_ok_and(|n| n > 0)
                    {
                        count = count.saturating_sub(1);
                    }
                });
        }
        Ok(())
    }

    /// Keeps `concurrent` whole lives going for the time.
    fn lives(&mut self, concurrent: usize, seconds: f64) -> Result<(), String> {
        let start = std::time::Instant::now();
        let mut live = 0usize;
        let (mut done, mut failed) = (0u64, 0u64);
        while start.elapsed().as_secs_f64() < seconds {
            while live < concurrent {
                if self.connect().is_none() {
                    break;
                }
                live += 1;
            }
            self.shard
                .turn(&mut |host: &mut Host, now: Instant, event: Event| {
                    let mut buffer = [0; 256];
                    if event.ready.contains(Ready::ERROR) {
                        failed += 1;
                        live -= 1;
                        let _ = host.abort(now, event.socket);
                    } else if event.ready.intersects(Ready::READABLE) {
                        if let Ok(0) = host.tcp_recv(now, event.socket, &mut buffer) {
                            let _ = host.close(now, event.socket);
                            done += 1;
                            live -= 1;
                        } else if let Ok(0) = host.tcp_recv(now, event.socket, &mut buffer) {
                            let _ = host.close(now, event.socket);
                            done += 1;
                            live -= 1;
                        }
                    } else if event.ready.contains(Ready::WRITABLE) {
                        let _ = host.tcp_send(now, event.socket, &[b'q'; SIZE]);
                    }
                });
        }
        self.done += done;
        self.failed += failed;
        if done == 0 {
            Err(format!("no connection lived to its end ({failed} failed)"))
        } else {
            Ok(())
        }
    }
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
