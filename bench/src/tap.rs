//! Bulk TCP and 64-byte request-response against the kernel, over a TAP device with offloads: Millstream, beside smoltcp
//! on a TAP of its own and the kernel with itself over veth, in one run.
//!
//! The three take turns, so that what else the machine does hits all of them. Everything happens in namespaces made for
//! it: root is not needed, and nothing is left behind.
//!
//! What does not live here: the stacks' own programs ([`mill`], [`smol`], [`peer`]), and when they measure ([`gauge`]).

mod gauge;
mod mill;
mod peer;
mod smol;
mod table;

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use netns::{Namespace, link};
use port::packet::{PacketOptions, PacketSocket};
use port::tap::{Tap, TapOptions};
use wire::{Addr, Cidr};

use crate::Args;
use crate::measure::{median, pin};

use gauge::{Gauge, Window};
use peer::Seen;

/// Where the measured side listens.
const PORT: u16 = 7000;
/// Bytes of a request and of an answer.
const REQUEST: usize = 64;
/// How long a side may take to set itself up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Clone, Copy, PartialEq, Debug, clap::ValueEnum)]
pub(crate) enum Job {
    /// Receives all it is sent; the peer has a core of its own.
    In,
    /// The same, the peer on the same core.
    InOneCore,
    /// The same, the bytes looked at where the stack has them; a core each.
    InPlace,
    /// Sends all that is taken; the peer has a core of its own.
    Out,
    /// The same, the peer on the same core.
    OutOneCore,
    /// Answers requests, and sleeps between them; a core each.
    Answer,
    /// Answers requests; both ends spin instead of sleeping; a core each.
    AnswerSpinning,
}

/// What an application does.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    /// Reads everything into a buffer.
    Receive,
    /// Reads everything where it is.
    ReceiveInPlace,
    /// Writes as much as is taken.
    Send,
    /// Writes back what it reads.
    Answer,
}

impl Job {
    const ALL: [Self; 7] = [
        Self::In,
        Self::InOneCore,
        Self::InPlace,
        Self::Out,
        Self::OutOneCore,
        Self::Answer,
        Self::AnswerSpinning,
    ];

    const fn act(self) -> Act {
        match self {
            Self::In | Self::InOneCore => Act::Receive,
            Self::InPlace => Act::ReceiveInPlace,
            Self::Out | Self::OutOneCore => Act::Send,
            Self::Answer | Self::AnswerSpinning => Act::Answer,
        }
    }

    fn busy_poll(self) -> bool {
        self == Self::AnswerSpinning
    }

    fn on_one_core(self) -> bool {
        matches!(self, Self::InOneCore | Self::OutOneCore)
    }

    fn is_bulk(self) -> bool {
        self.act() != Act::Answer
    }

    /// The job of the kernel that stands beside this one: its sockets always copy.
    const fn for_kernel(self) -> Self {
        match self {
            Self::InPlace => Self::In,
            other => other,
        }
    }
}

/// What to leave out.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Choice {
    /// Measure one job only, for a profiler.
    #[arg(long, value_name = "JOB")]
    only: Option<Job>,
    /// Measure Millstream only, for a profiler.
    #[arg(long)]
    alone: bool,
}

/// Where a thread runs.
struct Place<'a> {
    core: usize,
    namespace: Option<&'a Namespace>,
}

impl Place<'_> {
    /// Moves the calling thread there.
    fn settle(&self) -> Result<(), String> {
        pin(self.core);
        self.namespace
            .map_or(Ok(()), |n| n.enter().map_err(|e| e.to_string()))
    }
}

/// What one run gave.
#[derive(Clone, Copy)]
struct Figures {
    /// Gbit or answers per second the measured thread was busy.
    per_core: f64,
    /// Gbit per second both ends were busy.
    both_ends: f64,
    /// Gbit or answers per second.
    wall: f64,
    /// Share of the measured thread's time spent in system calls.
    kernel_share: f64,
    /// Round trip, microseconds: half of all are shorter.
    middle: f64,
    /// 99 of 100 are shorter.
    late: f64,
}

/// The runs of one side.
#[derive(Default)]
struct Side(Vec<(Job, Figures)>);

impl Side {
    fn runs(&self, job: Job, figure: fn(&Figures) -> f64) -> Vec<f64> {
        let of_job = self.0.iter().filter(|(j, _)| *j == job);
        of_job.map(|(_, f)| figure(f)).collect()
    }

    fn median(&self, job: Job, figure: fn(&Figures) -> f64) -> f64 {
        let mut runs = self.runs(job, figure);
        runs.retain(|v| !v.is_nan());
        median(&runs)
    }
}

/// Everything measured.
#[derive(Default)]
struct Results {
    millstream: Side,
    smoltcp: Side,
    kernel: Side,
    notes: Vec<String>,
}

pub(crate) fn run(args: &Args, choice: Choice) -> Result<(), String> {
    netns::enter_private().map_err(|e| e.to_string())?;
    let world = World::new()?;
    let mut results = Results::default();
    results.notes.push(machine());
    if world.measured == world.other {
        results
            .notes
            .push("one core only: both ends share it, and wait for each other".into());
    }
    if let Some(why) = &world.no_tap {
        results.notes.push(format!("no TAP: {why}"));
        results.notes.push(
            "so Millstream runs on a packet socket at one end of a veth pair, and smoltcp is left out"
                .into(),
        );
    }
    for _ in 0..args.runs.max(1) {
        for job in Job::ALL {
            if choice.only.is_some_and(|only| only != job) {
                continue;
            }
            results
                .millstream
                .0
                .push((job, world.millstream(job, args.seconds())?));
            if choice.alone {
                continue;
            }
            if world.no_tap.is_none() {
                results
                    .smoltcp
                    .0
                    .push((job, world.smoltcp(job, args.seconds())?));
            }
            if job == job.for_kernel() || choice.only.is_some() {
                let figures = world.kernel(job, args.seconds())?;
                results.kernel.0.push((job.for_kernel(), figures));
            }
        }
    }
    table::print(&results, args.json);
    Ok(())
}

/// Makes the kernel forget every connection: otherwise one run's congestion window would be another's start.
fn forget() {
    // Where it cannot be set, runs differ a little more.
    let _ = netns::sysctl("ipv4/tcp_no_metrics_save", "1");
}

/// The processor, the kernel and the number of cores.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split(':').nth(1));
    let system = rustix::system::uname();
    let cores = thread::available_parallelism().map_or(1, Into::into);
    format!(
        "on {}, {cores} cores, Linux {}; the kernel's senders use {}",
        cpu.unwrap_or("an unknown processor").trim(),
        system.release().to_string_lossy(),
        peer::control(),
    )
}

/// The namespaces, and what is where.
pub(crate) struct World {
    /// The far end of the veth pairs.
    pub(crate) far: Namespace,
    /// The core of the side measured, and that of its peer.
    pub(crate) measured: usize,
    pub(crate) other: usize,
    /// Why there is no TAP device.
    pub(crate) no_tap: Option<String>,
}

/// The kernel's address and Millstream's.
pub(crate) const MILL: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 78, 1, 1), Ipv4Addr::new(10, 78, 1, 2)];
const SMOL: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 78, 2, 1), Ipv4Addr::new(10, 78, 2, 2)];
/// The addresses of the veth pair, the far one last.
pub(crate) const VETH: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 78, 3, 1), Ipv4Addr::new(10, 78, 3, 2)];

impl World {
    pub(crate) fn new() -> Result<Self, String> {
        let far = Namespace::new().map_err(|e| e.to_string())?;
        forget();
        far.run(forget).map_err(|e| e.to_string())?;
        let allowed = rustix::thread::sched_getaffinity(None)
            .map_err(|e| format!("cannot see which cores may be used: {e}"))?;
        let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|&c| allowed.is_set(c))
            .collect();
        let no_tap = match Tap::new("probe%d", &TapOptions::default()) {
            Ok(_) => None,
            Err(e) if e.is_unavailable() => Some(e.to_string()),
            Err(e) => return Err(e.to_string()),
        };
        link::Veth::new("near0", "far0")
            .far(&far)
            .create()
            .map_err(|e| e.to_string())?;
        far.run(|| kernel_end_down("far0", VETH[1]))
            .map_err(|e| e.to_string())??;
        kernel_end("near0", VETH[0])?;
        Ok(Self {
            far,
            measured: cores.first().copied().unwrap_or(0),
            other: cores.last().copied().unwrap_or(0),
            no_tap,
        })
    }

    fn millstream(&self, job: Job, seconds: f64) -> Result<Figures, String> {
        let context = |e: String| format!("Millstream, {job:?}: {e}");
        let (mine, [kernel, own]) = (self.here(self.measured), MILL);
        let cidr = Cidr::new(Addr::from(own), 24).ok_or("no such network")?;
        if self.no_tap.is_none() {
            let subject = |gauge: &Gauge| {
                mine.settle()?;
                let options = match job.busy_poll() {
                    true => TapOptions::busy_poll(),
                    false => TapOptions::default(),
                };
                let tap = Tap::new("mill0", &options).map_err(|e| e.to_string())?;
                kernel_end("mill0", kernel)?;
                mill::run(job, tap, cidr, gauge)
            };
            let peer = against(job, own, self.here(self.peer_core(job)));
            return session(job, seconds, subject, peer).map_err(context);
        }
        self.lay_cable(kernel)?;
        let subject = |gauge: &Gauge| {
            mine.settle()?;
            let socket = PacketSocket::new("mill0", &PacketOptions::default());
            mill::run(job, socket.map_err(|e| e.to_string())?, cidr, gauge)
        };
        let there = Place {
            core: self.peer_core(job),
            namespace: Some(&self.far),
        };
        let result = session(job, seconds, subject, against(job, own, there)).map_err(context);
        link::delete("mill0").map_err(|e| e.to_string())?;
        result
    }

    /// Where there is no TAP: a veth pair, `mill0` for a packet socket of Millstream's, the other end the kernel's in the far namespace.
    /// Whoever laid it takes `mill0` away.
    pub(crate) fn lay_cable(&self, kernel: Ipv4Addr) -> Result<(), String> {
        let veth = link::Veth::new("mill0", "kern0").far(&self.far);
        veth.create().map_err(|e| e.to_string())?;
        let inside = self.far.run(|| kernel_end_down("kern0", kernel));
        inside.map_err(|e| e.to_string())??;
        // It gets no address: what arrives there is Millstream's.
        let _ = link::disable_ipv6("mill0");
        let up = link::set_up("mill0").and_then(|()| link::wait_running("mill0"));
        up.map_err(|e| e.to_string())
    }

    fn smoltcp(&self, job: Job, seconds: f64) -> Result<Figures, String> {
        let (mine, [kernel, own]) = (self.here(self.measured), SMOL);
        let subject = |gauge: &Gauge| smol::run(job, "smol0", kernel, own, &mine, gauge);
        let peer = against(job, own, self.here(self.peer_core(job)));
        session(job, seconds, subject, peer).map_err(|e| format!("smoltcp, {job:?}: {e}"))
    }

    /// The kernel at both ends of a veth pair. On one core the work of both ends counts: one is nothing without the other.
    fn kernel(&self, job: Job, seconds: f64) -> Result<Figures, String> {
        let far = Place {
            core: self.measured,
            namespace: Some(&self.far),
        };
        let subject = |gauge: &Gauge| {
            far.settle()?;
            match job.act() {
                Act::Receive | Act::ReceiveInPlace => peer::serve_sink(gauge),
                Act::Send => peer::serve_source(gauge),
                Act::Answer => peer::serve_answers(job.busy_poll(), gauge),
            }
        };
        let near = against(job, VETH[1], self.here(self.peer_core(job)));
        let figures = session(job, seconds, subject, near)
            .map_err(|e| format!("the kernel with itself, {job:?}: {e}"))?;
        let per_core = if job.on_one_core() {
            figures.both_ends
        } else {
            figures.per_core
        };
        Ok(Figures {
            per_core,
            ..figures
        })
    }

    fn peer_core(&self, job: Job) -> usize {
        if job.on_one_core() {
            self.measured
        } else {
            self.other
        }
    }

    fn here(&self, core: usize) -> Place<'static> {
        Place {
            core,
            namespace: None,
        }
    }
}

/// The kernel's program against a side that does `job` at `address`.
fn against<'a>(
    job: Job,
    address: Ipv4Addr,
    place: Place<'a>,
) -> impl FnOnce(&Gauge) -> Result<Seen, String> + Send + 'a {
    move |gauge| {
        place.settle()?;
        match job.act() {
            Act::Receive | Act::ReceiveInPlace => peer::send(address, gauge),
            Act::Send => peer::receive(address, gauge),
            Act::Answer => peer::ask(address, job.busy_poll(), gauge),
        }
    }
}

/// Gives the kernel's end of a link its address and switches it on.
pub(crate) fn kernel_end(name: &str, address: Ipv4Addr) -> Result<(), String> {
    kernel_end_down(name, address)?;
    link::wait_running(name).map_err(|e| e.to_string())
}

/// The same, for a link whose other end is still off.
fn kernel_end_down(name: &str, address: Ipv4Addr) -> Result<(), String> {
    // Only so that nothing else is on the wire.
    let _ = link::disable_ipv6(name);
    link::add_addr(name, IpAddr::V4(address), 24)
        .and_then(|()| link::set_up(name))
        .map_err(|e| e.to_string())
}

/// One run: the measured side and its peer, in a thread each.
fn session(
    job: Job,
    seconds: f64,
    subject: impl FnOnce(&Gauge) -> Result<Option<Window>, String> + Send,
    peer: impl FnOnce(&Gauge) -> Result<Seen, String> + Send,
) -> Result<Figures, String> {
    let gauge = Gauge::default();
    let panicked = |_| "a thread panicked".to_string();
    let (measured, seen) = thread::scope(|scope| {
        let subject = thread::Builder::new()
            .name("stack".into())
            .spawn_scoped(scope, || subject(&gauge))
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        wait_for(|| gauge.is_ready() || subject.is_finished());
        if subject.is_finished() {
            let ended = subject.join().map_err(panicked)?;
            return Err(ended.err().unwrap_or_else(|| "it ended at once".into()));
        }
        let peer = scope.spawn(|| peer(&gauge));
        wait_for(|| gauge.is_going() || peer.is_finished() || subject.is_finished());
        if !peer.is_finished() && !subject.is_finished() {
            gauge.sweep(seconds);
        }
        gauge.finish();
        let seen = peer.join().map_err(panicked)?;
        gauge.stop();
        let measured = subject.join().map_err(panicked)?;
        // What went wrong on the measured side is why its peer stalled.
        match (measured, seen) {
            (Ok(Some(measured)), Ok(seen)) => Ok((measured, seen)),
            (Ok(None), Ok(_)) => Err("it ended before it was measured".into()),
            (Err(why), Ok(_)) | (_, Err(why)) => Err(why),
        }
    })?;
    Ok(figures(job, &measured, seen))
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

fn figures(job: Job, measured: &Window, mut seen: Seen) -> Figures {
    let unit = if job.is_bulk() { 8e-9 } else { 1.0 };
    seen.times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (seen.times.len() as f64 * share) as usize;
        seen.times.get(place).copied().unwrap_or(f64::NAN)
    };
    Figures {
        per_core: measured.work * unit / measured.cpu,
        both_ends: measured.work * unit / (measured.cpu + seen.window.map_or(f64::NAN, |w| w.cpu)),
        wall: measured.work * unit / measured.wall,
        kernel_share: measured.kernel_share,
        middle: at(0.5),
        late: at(0.99),
    }
}
