//! Bulk transfers over a bad link, beside Linux over the same link in the same run: `lab`'s link model on the machine's clock.
//!
//! A cell of the table is a round trip and a fault. For each, Linux sends to Linux, Millstream to Linux, and Linux to
//! Millstream, all with the same algorithm and the same seed, so that the link loses the same frames by number; several at
//! once, so that what else the machine does hits all of them. Everything happens in namespaces made for it.
//!
//! What does not live here: the link (`lab`), one transfer ([`course`]), the ends of it ([`mill`], [`linux`]).

mod course;
mod linux;
mod mill;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sim::{Faults, LinkConfig, Loss};

use crate::Args;
use crate::measure::median;
use crate::report::{Report, print_all};

use course::{Course, End};

/// What the bars of the project are: a ratio, and Jain's index.
const BAR: f64 = 0.95;
/// Bits per second of every link.
const RATE: u64 = 100_000_000;
/// Flows of the fairness figures, and how much longer they have to share the link out among themselves.
const CROWD: usize = 4;
const CROWD_LONGER: f64 = 3.0;
/// How many more runs a cell has in which luck decides when a frame is lost, and how many more of its transfers, which are slow,
/// go at once.
const LUCK: usize = 3;
const LUCKY_AT_ONCE: usize = 2;

/// What to leave out.
#[derive(clap::Args, Clone)]
pub(crate) struct Choice {
    /// Only this round trip, milliseconds.
    #[arg(long)]
    rtt: Option<u64>,
    /// Only the faults whose name contains this, such as "1 %" or "reorder".
    #[arg(long)]
    faults: Option<String>,
    /// Transfers at a time; twice as many where frames are lost. More than two cores can bear make the links late.
    #[arg(long, default_value_t = 3)]
    at_once: usize,
    /// Congestion control of every sender.
    #[arg(long, default_value = "cubic")]
    control: String,
    /// Leave the figures of four flows out.
    #[arg(long)]
    single: bool,
    /// Only the figures of four flows.
    #[arg(long)]
    crowd: bool,
    /// The first run's seed; each further run takes the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tell the figure of each transfer.
    #[arg(long)]
    each: bool,
    /// Write what Millstream's senders say of themselves every 20 ms, and what the receiving kernel counted, into this folder.
    #[arg(long, value_name = "FOLDER")]
    trace: Option<std::path::PathBuf>,
}

/// One cell.
#[derive(Clone, Copy)]
struct Cell {
    rtt_ms: u64,
    name: &'static str,
    faults: Faults,
}

impl Cell {
    fn all() -> Vec<Self> {
        let lossy = |share| Faults {
            loss: Loss::Random(share),
            ..Faults::NONE
        };
        let disorder = Faults {
            reorder: 0.05,
            jitter: Duration::from_millis(5),
            ..Faults::NONE
        };
        let kinds = [
            ("no loss", Faults::NONE),
            ("0.1 % lost", lossy(0.001)),
            ("1 % lost", lossy(0.01)),
            ("3 % lost", lossy(0.03)),
            ("5 % reordered", disorder),
        ];
        let cell = |rtt_ms| {
            kinds.map(|(name, faults)| Self {
                rtt_ms,
                name,
                faults,
            })
        };
        [20, 100].into_iter().flat_map(cell).collect()
    }

    fn is_luck(&self) -> bool {
        self.faults.loss != Loss::None
    }

    fn link(&self) -> LinkConfig {
        LinkConfig {
            rate: RATE,
            delay: Duration::from_millis(self.rtt_ms) / 2,
            // What the link carries in a round trip.
            queue: RATE / 8 * self.rtt_ms / 1000,
            faults: self.faults,
            ..LinkConfig::default()
        }
    }
}

/// Who sends to whom.
const PAIRS: [(End, End); 3] = [
    (End::Linux, End::Linux),
    (End::Millstream, End::Linux),
    (End::Linux, End::Millstream),
];

/// The figures of one pair in one cell, a transfer each.
#[derive(Default, Clone)]
struct Runs {
    goodput: Vec<f64>,
    jain: Vec<f64>,
    late: Duration,
}

impl Runs {
    fn add(&mut self, flows: &course::Flows) {
        self.goodput.push(flows.goodput());
        self.jain.push(flows.jain());
        self.late = self.late.max(flows.late);
    }

    /// Least and greatest goodput.
    fn spread(&self) -> String {
        let least = self.goodput.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.goodput.iter().copied().fold(0.0, f64::max);
        format!("{least:.1} to {most:.1}")
    }
}

pub(crate) fn run(args: &Args, choice: &Choice) -> Result<(), String> {
    netns::enter_private().map_err(|e| e.to_string())?;
    linux::may_use(&choice.control)?;
    let mut reports = Vec::new();
    let cells: Vec<Cell> = Cell::all()
        .into_iter()
        .filter(|cell| choice.rtt.is_none_or(|rtt| rtt == cell.rtt_ms))
        .filter(|cell| {
            choice
                .faults
                .as_ref()
                .is_none_or(|name| cell.name.contains(name))
        })
        .collect();
    if cells.is_empty() {
        return Err("no cell is called so: leave --rtt and --faults out to see all".into());
    }
    if !choice.crowd {
        reports.push(single(args, choice, &cells)?);
    }
    if !choice.single {
        let calm = |cell: &&Cell| cell.faults == Faults::NONE || choice.faults.is_some();
        let cells: Vec<Cell> = cells.iter().filter(calm).copied().collect();
        reports.push(crowd(args, choice, &cells)?);
    }
    print_all(&reports, args.json);
    Ok(())
}

/// One flow.
fn single(args: &Args, choice: &Choice, cells: &[Cell]) -> Result<Report, String> {
    let mut report = Report::new(
        "One bulk flow, goodput in Mbit/s (medians), and Millstream's over Linux's",
        &[
            "100 Mbit/s link",
            "Linux",
            "its runs",
            "sends",
            "its runs ",
            "ratio",
            "receives",
            "ratio ",
            "",
        ],
        args.json,
    );
    let mut late = Duration::ZERO;
    for cell in cells {
        let runs = play(args, choice, *cell, 1)?;
        late = runs.iter().map(|runs| runs.late).fold(late, Duration::max);
        let [its_runs, our_runs, _] = runs.each_ref().map(Runs::spread);
        let [linux, sends, receives] = runs.map(|runs| median(&runs.goodput));
        let (sending, receiving) = (sends / linux, receives / linux);
        let below = if sending < BAR || receiving < BAR {
            "below"
        } else {
            ""
        };
        report.row(&[
            format!("{} ms, {}", cell.rtt_ms, cell.name),
            format!("{linux:.2}"),
            its_runs,
            format!("{sends:.2}"),
            our_runs,
            format!("{sending:.3}"),
            format!("{receives:.2}"),
            format!("{receiving:.3}"),
            below.into(),
        ]);
    }
    report.note(format!(
        "{} on both; {} runs of {} s, where frames are lost {}; seeds {} and up, {} transfers at a time; queue: a round trip's worth; \
         Linux {}",
        choice.control,
        args.runs,
        args.seconds(),
        args.runs * LUCK,
        choice.seed,
        choice.at_once,
        rustix::system::uname().release().to_string_lossy(),
    ));
    report.note(format!(
        "\"below\": a ratio under {BAR}; the link was late by {:.1} ms at most",
        late.as_secs_f64() * 1e3
    ));
    Ok(report)
}

/// Several flows.
fn crowd(args: &Args, choice: &Choice, cells: &[Cell]) -> Result<Report, String> {
    let mut report = Report::new(
        "Four bulk flows: Jain's index (medians), and goodput of all in Mbit/s",
        &[
            "100 Mbit/s link",
            "Linux",
            "goodput",
            "Millstream sends",
            "goodput ",
            "receives",
            "goodput  ",
        ],
        args.json,
    );
    for cell in cells {
        let runs = play(args, choice, *cell, CROWD)?;
        let mut row = vec![format!("{} ms, {}", cell.rtt_ms, cell.name)];
        for runs in &runs {
            row.push(format!("{:.3}", median(&runs.jain)));
            row.push(format!("{:.2}", median(&runs.goodput)));
        }
        report.row(&row);
    }
    report.note(format!(
        "bar: {BAR} and more; {} runs of {} s",
        args.runs,
        args.seconds() * CROWD_LONGER
    ));
    Ok(report)
}

/// All runs of one cell, by pair.
fn play(args: &Args, choice: &Choice, cell: Cell, flows: usize) -> Result<[Runs; 3], String> {
    let (mut runs, mut at_once) = (args.runs.max(1), choice.at_once);
    let mut seconds = args.seconds();
    if flows > 1 {
        seconds *= CROWD_LONGER;
    } else if cell.is_luck() {
        (runs, at_once) = (runs * LUCK, at_once * LUCKY_AT_ONCE);
    }
    let jobs: VecDeque<(usize, u64)> = (0..runs as u64)
        .flat_map(|run| (0..PAIRS.len()).map(move |pair| (pair, run)))
        .collect();
    let (rtt, name, total) = (cell.rtt_ms, cell.name, jobs.len());
    eprintln!("{rtt} ms, {name}, {flows} flow(s): {total} transfers of {seconds} s");
    let jobs = Mutex::new(jobs);
    let results = Mutex::new((<[Runs; 3]>::default(), None));
    let lock = || results.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = |lane: usize| {
        loop {
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((pair, run)) = { next }.pop_front() else {
                return;
            };
            match transfer(choice, cell, (lane, pair, run), flows, seconds) {
                Ok(flows) => lock().0[pair].add(&flows),
                Err(why) => {
                    lock().1.get_or_insert(why);
                }
            }
        }
    };
    thread::scope(|scope| {
        for lane in 0..at_once.clamp(1, 64) {
            let worker = &worker;
            scope.spawn(move || worker(lane));
        }
    });
    let (runs, failed) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(runs), Err)
}

/// One transfer of pair number `pair`.
fn transfer(
    choice: &Choice,
    cell: Cell,
    (lane, pair, run): (usize, usize, u64),
    flows: usize,
    seconds: f64,
) -> Result<course::Flows, String> {
    let (sender, receiver) = PAIRS[pair];
    let (rtt, seed) = (cell.rtt_ms, choice.seed + run);
    let trace = choice.trace.as_ref().map(|folder| {
        let faults = cell.name.replace(' ', "");
        folder.join(format!("{rtt}ms-{faults}-{sender}-{receiver}-{seed}.csv"))
    });
    let course = Course {
        lane,
        link: cell.link(),
        seed,
        sender,
        receiver,
        flows,
        seconds,
        control: &choice.control,
        trace,
    };
    let done = course.run().map_err(|why| {
        let name = cell.name;
        format!("{sender} to {receiver}, {rtt} ms, {name}: {why}")
    })?;
    if choice.each {
        eprintln!(
            "  {sender} to {receiver}, seed {seed}: {:.2} Mbit/s, the link {} us late at most",
            done.goodput(),
            done.late.as_micros()
        );
    }
    Ok(done)
}
