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
/// Flows of the fairness figures.
const CROWD: usize = 4;

/// What to leave out.
#[derive(clap::Args, Clone)]
pub(crate) struct Choice {
    /// Only this round trip, milliseconds.
    #[arg(long)]
    rtt: Option<u64>,
    /// Only the faults whose name contains this, such as "1 %" or "reorder".
    #[arg(long)]
    faults: Option<String>,
    /// Transfers at a time.
    #[arg(long, default_value_t = 6)]
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
            "sends",
            "ratio",
            "receives",
            "ratio ",
            "",
        ],
        args.json,
    );
    for cell in cells {
        let runs = play(args, choice, *cell, 1)?;
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
            format!("{sends:.2}"),
            format!("{sending:.3}"),
            format!("{receives:.2}"),
            format!("{receiving:.3}"),
            below.into(),
        ]);
    }
    report.note(format!(
        "{} on both, {} runs of {} s, seeds {} and up, {} transfers at a time; queue: a round trip's worth; Linux {}",
        choice.control,
        args.runs,
        args.seconds(),
        choice.seed,
        choice.at_once,
        rustix::system::uname().release().to_string_lossy(),
    ));
    report.note(format!("\"below\": a ratio under {BAR}"));
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
    report.note(format!("bar: {BAR} and more"));
    Ok(report)
}

/// All runs of one cell, by pair.
fn play(args: &Args, choice: &Choice, cell: Cell, flows: usize) -> Result<[Runs; 3], String> {
    let jobs: Vec<(usize, u64)> = (0..args.runs.max(1) as u64)
        .flat_map(|run| (0..PAIRS.len()).map(move |pair| (pair, run)))
        .collect();
    let (total, jobs) = (jobs.len(), Mutex::new(VecDeque::from(jobs)));
    let results = Mutex::new((<[Runs; 3]>::default(), None));
    let seconds = args.seconds();
    let worker = |lane: usize| {
        loop {
            let next = jobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some((pair, run)) = next else { return };
            let (sender, receiver) = PAIRS[pair];
            let course = Course {
                lane,
                link: cell.link(),
                seed: choice.seed + run,
                sender,
                receiver,
                flows,
                seconds,
                control: &choice.control,
                trace: choice.trace.as_ref().map(|folder| {
                    folder.join(format!(
                        "{}ms-{}-{sender}-{receiver}-{run}.csv",
                        cell.rtt_ms,
                        cell.name.replace(' ', "")
                    ))
                }),
            };
            let done = course.run();
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            match done {
                Ok(flows) => {
                    if choice.each {
                        eprintln!(
                            "  {sender} to {receiver}, seed {}: {:.2} Mbit/s, the link {} us late at most",
                            choice.seed + run,
                            flows.goodput(),
                            flows.late.as_micros()
                        );
                    }
                    results.0[pair].goodput.push(flows.goodput());
                    results.0[pair].jain.push(flows.jain());
                }
                Err(why) => {
                    let what = format!(
                        "{sender} to {receiver}, {} ms, {}: {why}",
                        cell.rtt_ms, cell.name
                    );
                    results.1.get_or_insert(what);
                }
            }
        }
    };
    eprintln!(
        "{} ms, {}, {flows} flow(s): {total} transfers of {seconds} s",
        cell.rtt_ms, cell.name
    );
    thread::scope(|scope| {
        for lane in 0..choice.at_once.clamp(1, 64) {
            let worker = &worker;
            scope.spawn(move || worker(lane));
        }
    });
    let (runs, failed) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(runs), Err)
}
