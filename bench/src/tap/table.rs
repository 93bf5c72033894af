//! The table of the figures, and whether they are what must be reached.
//!
//! What does not live here: measuring.

use crate::report::{Report, print_all};

use super::{Figures, Job, Results, Side};

/// Of smoltcp's bulk in each direction.
const OF_SMOLTCP: f64 = 3.0;
/// Of the kernel's bulk with itself.
const OF_KERNEL: f64 = 0.8;

type Figure = fn(&Figures) -> f64;

/// One line of the table.
struct Line {
    what: &'static str,
    unit: &'static str,
    job: Job,
    figure: Figure,
    /// How many digits behind the point.
    digits: usize,
}

const fn line(what: &'static str, unit: &'static str, job: Job, figure: Figure) -> Line {
    Line {
        what,
        unit,
        job,
        figure,
        digits: 2,
    }
}

const fn whole(mut line: Line) -> Line {
    line.digits = 0;
    line
}

const SLEEPING: Job = Job::Answer;
const SPINNING: Job = Job::AnswerSpinning;

const LINES: [Line; 17] = [
    line(
        "bulk kernel -> stack",
        "Gbit/s per busy core",
        Job::In,
        |f| f.per_core,
    ),
    line(
        "  read in place, no copy",
        "Gbit/s per busy core",
        Job::InBlocks,
        |f| f.per_core,
    ),
    line(
        "  both ends' work counted",
        "Gbit/s per busy core",
        Job::In,
        |f| f.both_ends,
    ),
    line("  elapsed", "Gbit/s", Job::In, |f| f.wall),
    line("  time in system calls", "%", Job::In, |f| {
        f.kernel_share * 100.0
    }),
    line(
        "bulk stack -> kernel",
        "Gbit/s per busy core",
        Job::Out,
        |f| f.per_core,
    ),
    line(
        "  both ends' work counted",
        "Gbit/s per busy core",
        Job::Out,
        |f| f.both_ends,
    ),
    line("  elapsed", "Gbit/s", Job::Out, |f| f.wall),
    line("  time in system calls", "%", Job::Out, |f| {
        f.kernel_share * 100.0
    }),
    whole(line(
        "64 B request-response, sleeping",
        "1/s per busy core",
        SLEEPING,
        |f| f.per_core,
    )),
    whole(line("  elapsed", "1/s", SLEEPING, |f| f.wall)),
    line("  round trip, median", "us", SLEEPING, |f| f.middle),
    line("  round trip, 99 %", "us", SLEEPING, |f| f.late),
    whole(line(
        "64 B request-response, busy-poll",
        "1/s per busy core",
        SPINNING,
        |f| f.per_core,
    )),
    whole(line("  elapsed", "1/s", SPINNING, |f| f.wall)),
    line("  round trip, median", "us", SPINNING, |f| f.middle),
    line("  round trip, 99 %", "us", SPINNING, |f| f.late),
];

/// Prints everything.
pub(crate) fn print(results: &Results, json: bool) {
    let columns = [
        "what",
        "unit",
        "Millstream",
        "smoltcp",
        "kernel over veth",
        "x smoltcp",
        "x kernel",
        "Millstream's runs",
    ];
    let title =
        "tap: against the kernel, medians; per busy core = work / CPU time of the stack's thread";
    let mut table = Report::new(title, &columns, json);
    for line in &LINES {
        let own = results.millstream.median(line.job, line.figure);
        let smoltcp = results.smoltcp.median(line.job, line.figure);
        let kernel = results.kernel.median(line.job.for_kernel(), line.figure);
        if own.is_nan() && smoltcp.is_nan() {
            continue;
        }
        let number = |v: f64| text(v, line.digits);
        table.row(&[
            line.what.into(),
            line.unit.into(),
            number(own),
            number(smoltcp),
            number(kernel),
            text(own / smoltcp, 2),
            text(own / kernel, 2),
            spread(&results.millstream, line),
        ]);
    }
    table.note("kernel over veth: TSO on; bulk has both ends on one core and counts the work of both, so its two directions are the same");
    for note in &results.notes {
        table.note(note);
    }
    print_all(&[table, must_reach(results, json)], json);
}

fn must_reach(results: &Results, json: bool) -> Report {
    let columns = ["must reach", "needed", "measured", "verdict"];
    let mut table = Report::new("what must be reached", &columns, json);
    let per_core: Figure = |f| f.per_core;
    for (direction, job) in [
        ("kernel -> stack", Job::In),
        ("kernel -> stack, read in place", Job::InBlocks),
        ("stack -> kernel", Job::Out),
    ] {
        let own = results.millstream.median(job, per_core);
        let smoltcp = results.smoltcp.median(job, per_core);
        let kernel = results.kernel.median(job.for_kernel(), per_core);
        for (of, needed, measured) in [
            ("smoltcp", OF_SMOLTCP, own / smoltcp),
            ("kernel with itself over veth", OF_KERNEL, own / kernel),
        ] {
            let verdict = if measured.is_nan() {
                "not measured".to_string()
            } else if measured >= needed {
                "reached".to_string()
            } else {
                format!("missed by {:.0} %", (1.0 - measured / needed) * 100.0)
            };
            table.row(&[
                format!("bulk {direction}, of {of}"),
                text(needed, 2),
                text(measured, 2),
                verdict,
            ]);
        }
    }
    table
}

fn spread(side: &Side, line: &Line) -> String {
    let mut runs = side.runs(line.job, line.figure);
    runs.retain(|v| !v.is_nan());
    runs.sort_by(f64::total_cmp);
    match (runs.first(), runs.last()) {
        (Some(&low), Some(&high)) => {
            format!("{} to {}", text(low, line.digits), text(high, line.digits))
        }
        _ => "-".into(),
    }
}

fn text(value: f64, digits: usize) -> String {
    if value.is_nan() {
        "-".into()
    } else {
        format!("{value:.digits$}")
    }
}
