//! HTTP with connections that stay, asked by wrk: Millstream on a TAP device three ways, beside the kernel as an epoll loop over
//! veth, in one run.
//!
//! The server answers whatever a read brings with the same 690 bytes. wrk, with 100 connections and one thread, is the kernel's on
//! another core. The figure is answers per second in which the server's process was busy on its core; what the kernel does inside
//! its system calls is in it, also for wrk's end of the wire.
//!
//! What does not live here: the servers ([`serve`]), and where their addresses are ([`crate::tap`]).

mod serve;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::Args;
use crate::measure::{median, pin, process_cpu, wall};
use crate::report::{Report, human};
use crate::tap::World;

/// Where the servers listen.
const PORT: u16 = 7080;
/// Bytes of an answer, its header among them.
const ANSWER: usize = 690;
/// What wrk keeps open.
const CONNECTIONS: usize = 100;
/// How long wrk goes before it counts, seconds.
const WARM: f64 = 0.5;

/// What a server and who measures it share.
#[derive(Default)]
struct Counter {
    answers: AtomicU64,
    stop: AtomicBool,
}

impl Counter {
    fn add(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What to leave out.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Choice {
    /// Measure one server only, for a profiler.
    #[arg(long, value_name = "SERVER")]
    only: Option<Side>,
}

/// What serves.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Side {
    /// An application on the shard.
    Shard,
    /// Completion queue in another thread, on the same core.
    Completions,
    /// `Poll` in another thread, on the same core.
    Poll,
    /// The kernel's sockets and epoll.
    Kernel,
}

impl Side {
    const ALL: [Self; 4] = [Self::Shard, Self::Completions, Self::Poll, Self::Kernel];

    const fn name(self) -> &'static str {
        match self {
            Self::Shard => "Millstream, on the shard",
            Self::Completions => "Millstream, completion queue",
            Self::Poll => "Millstream, Poll",
            Self::Kernel => "kernel, epoll, veth",
        }
    }
}

/// What one run gave.
#[derive(Clone, Copy)]
struct Figures {
    /// Answers per second the server was busy.
    per_core: f64,
    /// Answers per second.
    rate: f64,
    /// Times a thread of the server's slept or was put aside, for each answer.
    switches: f64,
    /// Round trips, microseconds, of which wrk says that half and 99 of 100 are shorter.
    times: [f64; 2],
}

pub(crate) fn run(args: &Args, choice: Choice) -> Result<(), String> {
    let sides = Side::ALL.into_iter();
    let sides: Vec<Side> = sides
        .filter(|side| choice.only.is_none_or(|only| only == *side))
        .collect();
    let wrk = wrk()?;
    netns::enter_private().map_err(|e| e.to_string())?;
    let world = World::new()?;
    let mut seen: Vec<(Side, Figures)> = Vec::new();
    for _ in 0..args.runs {
        for &side in &sides {
            let figures = once(&world, side, &wrk, args.seconds())
                .map_err(|why| format!("{}: {why}", side.name()))?;
            seen.push((side, figures));
        }
    }
    let mid = |side: Side, figure: fn(&Figures) -> f64| {
        let of_side = seen.iter().filter(|(s, _)| *s == side);
        median(&of_side.map(|(_, f)| figure(f)).collect::<Vec<_>>())
    };
    let columns = [
        "what",
        "per busy core",
        "x kernel",
        "answers/s",
        "switches each",
        "median us",
        "99 % us",
    ];
    let mut report = Report::new(
        "http: 690-byte answers, wrk with 100 connections, medians",
        &columns,
        args.json,
    );
    let kernel = mid(Side::Kernel, |f| f.per_core);
    for side in sides {
        let per_core = mid(side, |f| f.per_core);
        report.row(&[
            side.name().to_owned(),
            human(per_core),
            format!("{:.2}", per_core / kernel),
            human(mid(side, |f| f.rate)),
            format!("{:.2}", mid(side, |f| f.switches)),
            format!("{:.0}", mid(side, |f| f.times[0])),
            format!("{:.0}", mid(side, |f| f.times[1])),
        ]);
    }
    report.note("bar: 0.8 of the kernel's");
    if let Some(why) = &world.no_tap {
        report.note(format!("no TAP: {why}; Millstream is on a packet socket"));
    }
    if world.measured == world.other {
        report.note("one core only: wrk shares it");
    }
    report.print();
    Ok(())
}

/// Where wrk is.
fn wrk() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("wrk"))
        .find(|file| file.is_file())
        .ok_or_else(|| "wrk is not there: install it (apt-get install wrk)".into())
}

fn once(world: &World, side: Side, wrk: &PathBuf, seconds: f64) -> Result<Figures, String> {
    let counter = Counter::default();
    thread::scope(|scope| {
        let (listening, listens) = std::sync::mpsc::channel();
        let server = scope.spawn(|| serve::run(world, side, &counter, listening));
        let measured = match listens.recv() {
            Ok(address) => measure(world, (side, address), wrk, &counter, seconds),
            // It says why when it is joined.
            Err(_) => Err("the server ended at once".into()),
        };
        counter.stop.store(true, Ordering::Relaxed);
        server
            .join()
            .map_err(|_| "the server panicked".to_string())??;
        measured
    })
}

/// wrk, ended with the run.
struct Asking(Child);

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(
    world: &World,
    (side, address): (Side, Ipv4Addr),
    wrk: &PathBuf,
    counter: &Counter,
    seconds: f64,
) -> Result<Figures, String> {
    let whole = (WARM + seconds).ceil() as u64 + 1;
    let url = format!("http://{address}:{PORT}/");
    let connections = CONNECTIONS.to_string();
    let child = thread::scope(|scope| {
        // A child runs where its parent thread does.
        let start = scope.spawn(|| {
            pin(world.other);
            if side != Side::Kernel && world.no_tap.is_some() {
                world.far.enter().map_err(std::io::Error::other)?;
            }
            Command::new(wrk)
                .args([
                    "-t1",
                    "-c",
                    &connections,
                    "-d",
                    &format!("{whole}s"),
                    "--latency",
                    &url,
                ])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
        });
        start.join()
    });
    let child = child
        .map_err(|_| "a thread panicked")?
        .map_err(|e| format!("cannot start wrk: {e}"))?;
    let mut asking = Asking(child);
    thread::sleep(Duration::from_secs_f64(WARM));
    let (before, begin, cpu, slept) = (
        counter.answers.load(Ordering::Relaxed),
        wall(),
        process_cpu(),
        switches(),
    );
    thread::sleep(Duration::from_secs_f64(seconds));
    let answers = (counter.answers.load(Ordering::Relaxed) - before) as f64;
    let (rate, per_core) = (answers / (wall() - begin), answers / (process_cpu() - cpu));
    let slept = switches() - slept;
    let mut said = String::new();
    if let Some(mut out) = asking.0.stdout.take() {
        std::io::Read::read_to_string(&mut out, &mut said)
            .map_err(|e| format!("cannot hear wrk: {e}"))?;
    }
    if said.contains("Socket errors") || said.contains("Non-2xx") || answers < 1.0 {
        return Err(format!("wrk met errors:\n{said}"));
    }
    Ok(Figures {
        per_core,
        rate,
        switches: slept / answers,
        times: ["50%", "99%"].map(|part| time(&said, part)),
    })
}

/// Times the kernel took a core from a thread of this process, whether or not it wanted to go on.
fn switches() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task");
    let status = |thread: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(thread.ok()?.path().join("status")).ok()
    };
    let all = threads.into_iter().flatten().filter_map(status);
    all.flat_map(|status| {
        let lines = status.lines().filter(|l| l.contains("ctxt_switches"));
        let counts = lines.filter_map(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok());
        counts.collect::<Vec<_>>()
    })
    .sum()
}

/// Microseconds of a line like `     99%    1.26ms`.
fn time(said: &str, part: &str) -> f64 {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(part));
    let text = line.unwrap_or_default().trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => f64::NAN,
    };
    digits.parse().unwrap_or(f64::NAN) * scale
}
