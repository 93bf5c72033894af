//! The self-check: what a client would do to a host, done with real kernel sockets and looked at closely.
//!
//! What does not live here: the host (`serve`), and how the board is shown (`report` on a terminal, the page elsewhere).
//!
//! Start reading at [`Check`]; [`plan`] is the list, in the order it is run.
//!
//! Invariant: every check ends: each has a limit, after which it has failed.
//! Invariant: what is measured is what came back; no check counts bytes it only sent.

pub(crate) mod board;
mod client;
mod load;
mod ping;
pub(crate) mod report;
#[cfg(test)]
mod tests;
mod transfer;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use board::{Board, Finding, Gauge, Row, Unit};

use crate::units;

/// How much of everything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Echo requests of each ping.
    pub(crate) pings: u32,
    /// Bytes downloaded and uploaded with digests.
    pub(crate) transfer: u64,
    /// Connections open at the same time.
    pub(crate) parallel: usize,
    /// Bytes each of them echoes.
    pub(crate) parallel_bytes: usize,
    /// Open-request-close cycles.
    pub(crate) cycles: u64,
    /// Cycles under way at the same time.
    pub(crate) cycles_at_once: usize,
    /// UDP datagrams of each family.
    pub(crate) datagrams: u64,
    /// How long each throughput is measured.
    pub(crate) throughput: Duration,
    /// The limit of each check.
    pub(crate) limit: Duration,
}

impl Sizes {
    /// What the self-check promises.
    pub(crate) const FULL: Self = Self {
        pings: 10,
        transfer: 1 << 30,
        parallel: 1_000,
        parallel_bytes: 64 << 10,
        cycles: 10_000,
        cycles_at_once: 32,
        datagrams: 1_000,
        throughput: Duration::from_secs(3),
        limit: Duration::from_secs(120),
    };

    /// Everything once, in a few seconds even unoptimised.
    pub(crate) const QUICK: Self = Self {
        pings: 3,
        transfer: 32 << 20,
        parallel: 100,
        parallel_bytes: 64 << 10,
        cycles: 300,
        cycles_at_once: 8,
        datagrams: 50,
        throughput: Duration::from_millis(500),
        limit: Duration::from_secs(60),
    };
}

/// The host under test, as the kernel reaches it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// Its IPv4 address.
    pub(crate) v4: IpAddr,
    /// Its IPv6 address.
    pub(crate) v6: IpAddr,
    /// Its port for HTTP.
    pub(crate) http: u16,
    /// Its port for echo.
    pub(crate) echo: u16,
}

/// What one row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Ping { to: IpAddr, size: usize },
    Page { to: SocketAddr },
    Datagrams { to: SocketAddr },
    Download { to: SocketAddr },
    Upload { to: SocketAddr },
    Parallel { to: SocketAddr },
    Cycles { to: SocketAddr },
    Receive { to: SocketAddr },
    Send { to: SocketAddr },
}

/// A self-check ready to be run, and its board to be watched meanwhile.
pub(crate) struct Check {
    target: Target,
    sizes: Sizes,
    tasks: Vec<Task>,
    board: Arc<Board>,
}

impl Check {
    /// A check of everything.
    pub(crate) fn new(target: Target, sizes: Sizes) -> Self {
        let (rows, tasks) = plan(target, sizes).into_iter().unzip();
        Self {
            target,
            sizes,
            tasks,
            board: Board::new(rows),
        }
    }

    /// What is to be watched.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Does everything, one after the other, on a thread of its own.
    pub(crate) fn start(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let run = move || {
            // Neighbours and duplicate address detection take a moment; a host that never answers fails the rows.
            for to in [self.target.v4, self.target.v6] {
                let _ = ping::await_reply(to, Duration::from_secs(5));
            }
            for (at, task) in self.tasks.iter().enumerate() {
                let gauge = self.board.begin(at);
                let limited = async {
                    tokio::time::timeout(self.sizes.limit, task.run(self.sizes, &gauge)).await
                };
                let result = match runtime.block_on(limited) {
                    Ok(result) => result.map_err(|wrong| wrong.to_string()),
                    Err(_) => Err(format!(
                        "not done after {}",
                        units::duration(self.sizes.limit)
                    )),
                };
                self.board.end(at, result);
            }
        };
        std::thread::Builder::new()
            .name("self-check".into())
            .spawn(run)
            .map(drop)
    }
}

/// The list: rows and what they do.
fn plan(target: Target, sizes: Sizes) -> Vec<(Row, Task)> {
    let mut plan = plan_reach(target);
    plan.extend(plan_load(target, sizes));
    plan
}

/// Whether the host can be reached at all, in every way.
fn plan_reach(target: Target) -> Vec<(Row, Task)> {
    let http = |ip| SocketAddr::new(ip, target.http);
    let echo = |ip| SocketAddr::new(ip, target.echo);
    let (v4, v6) = (target.v4, target.v6);
    let ping = |id, name, to, size| (Row::new(id, name, Unit::Replies), Task::Ping { to, size });
    let udp = |id, name, to| (Row::new(id, name, Unit::Replies), Task::Datagrams { to });
    let page = |id, name, to| (Row::new(id, name, Unit::Bytes), Task::Page { to });
    vec![
        ping("ping-v4-56", "ping IPv4, 56 bytes", v4, 56),
        ping("ping-v4-9000", "ping IPv4, 9000 bytes", v4, 9000),
        ping("ping-v6-56", "ping IPv6, 56 bytes", v6, 56),
        ping("ping-v6-9000", "ping IPv6, 9000 bytes", v6, 9000),
        udp("udp-echo-v4", "UDP echo over IPv4", echo(v4)),
        udp("udp-echo-v6", "UDP echo over IPv6", echo(v6)),
        page("http-v4", "HTTP over IPv4", http(v4)),
        page("http-v6", "HTTP over IPv6", http(v6)),
    ]
}

/// What the host can bear.
fn plan_load(target: Target, sizes: Sizes) -> Vec<(Row, Task)> {
    let (v4, v6) = (
        SocketAddr::new(target.v4, target.http),
        SocketAddr::new(target.v6, target.http),
    );
    let to = SocketAddr::new(target.v4, target.echo);
    let amount = units::bytes(sizes.transfer);
    let download = format!("download {amount}, digest");
    let upload = format!("upload {amount}, digest");
    let connections = units::count(sizes.parallel as u64);
    let each = units::bytes(sizes.parallel_bytes as u64);
    let parallel = format!("{connections} at once, {each} echoed");
    let cycles = format!("{} open-request-close", units::count(sizes.cycles));
    let row = |id, name: &str, unit, task| (Row::new(id, name, unit), task);
    let (outward, inward) = ("throughput, host to kernel", "throughput, kernel to host");
    let (milliseconds, connections) = (Unit::Milliseconds, Unit::Connections);
    vec![
        row(
            "download",
            &download,
            Unit::Bytes,
            Task::Download { to: v4 },
        ),
        row("upload", &upload, Unit::Bytes, Task::Upload { to: v6 }),
        row("parallel", &parallel, connections, Task::Parallel { to }),
        row("cycles", &cycles, connections, Task::Cycles { to: v4 }),
        row(
            "throughput-out",
            outward,
            milliseconds,
            Task::Receive { to: v4 },
        ),
        row("throughput-in", inward, milliseconds, Task::Send { to: v4 }),
    ]
}

/// A running check.
type Running<'a> = Pin<Box<dyn Future<Output = io::Result<Finding>> + 'a>>;

impl Task {
    fn run(self, sizes: Sizes, gauge: &Arc<Gauge>) -> Running<'_> {
        match self {
            Self::Ping { to, size } => Box::pin(async move { pings(to, size, sizes.pings, gauge) }),
            Self::Page { to } => Box::pin(transfer::page(to, gauge)),
            Self::Datagrams { to } => Box::pin(load::datagrams(to, sizes.datagrams, gauge)),
            Self::Download { to } => Box::pin(transfer::download(to, sizes.transfer, gauge)),
            Self::Upload { to } => Box::pin(transfer::upload(to, sizes.transfer, gauge)),
            Self::Parallel { to } => Box::pin(load::parallel(
                to,
                sizes.parallel,
                sizes.parallel_bytes,
                gauge,
            )),
            Self::Cycles { to } => {
                Box::pin(load::cycles(to, sizes.cycles, sizes.cycles_at_once, gauge))
            }
            Self::Receive { to } => Box::pin(transfer::receive(to, sizes.throughput, gauge)),
            Self::Send { to } => Box::pin(transfer::send(to, sizes.throughput, gauge)),
        }
    }
}

/// `n` echo requests one after the other; all must be answered.
fn pings(to: IpAddr, size: usize, n: u32, gauge: &Gauge) -> io::Result<Finding> {
    gauge.expect(u64::from(n));
    let mut pinger = ping::Pinger::new(to)?;
    let mut times = Vec::new();
    for at in 1..=n {
        let took =
            pinger
                .ping(size, Duration::from_secs(2))
                .map_err(|error| match error.kind() {
                    io::ErrorKind::TimedOut => {
                        io::Error::other(format!("no reply to request {at} of {n} in 2 s"))
                    }
                    io::ErrorKind::InvalidData => {
                        io::Error::other(format!("reply {at} of {n} carries other bytes"))
                    }
                    _ => error,
                })?;
        times.push(took);
        gauge.add(1);
    }
    times.sort_unstable();
    let median = quantile(&times, 0.5);
    Ok(Finding {
        detail: format!("{n} of {n} replies, median {}", units::duration(median)),
        measures: vec![("median_microseconds", micros(median))],
    })
}

/// The value below which `share` of the sorted times lie; zero of none.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}
