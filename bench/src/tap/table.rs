//! The table of the figures, and whether they are what must be reached.
//!
//! What does not live here: measuring.

use crate::report::{Report, print_all};

use super::{Figures, Job, Results, Side};

/// Of smoltcp's bulk in each direction.
const OF_SMOLTCP: f64 = 3.0;
/// Of the kernel's bulk with itself.
const OF_KERNEL: f64 = 0.8;
/// Of the kernel's slowest round trip in a hundred, at most.
const ROUND_TRIP: f64 = 0.5;

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

const GBIT: &str = "Gbit/s per busy core";
const ANSWERS: &str = "1/s per busy core";
const SPIN: Job = Job::AnswerSpinning;

const LINES: [Line; 19] = [
    line("bulk kernel -> stack, a core each", GBIT, Job::In, |f| {
        f.per_core
    }),
    line("  read in place, no copy", GBIT, Job::InPlace, |f| {
        f.per_core
    }),
    line("  elapsed", "Gbit/s", Job::In, |f| f.wall),
    line("  time in system calls", "%", Job::In, |f| {
        f.kernel_share * 100.0
    }),
    line(
        "bulk kernel -> stack, one core",
        GBIT,
        Job::InOneCore,
        |f| f.per_core,
    ),
    line("  the peer's work counted too", GBIT, Job::InOneCore, |f| {
        f.both_ends
    }),
    line("bulk stack -> kernel, a core each", GBIT, Job::Out, |f| {
        f.per_core
    }),
    line("  elapsed", "Gbit/s", Job::Out, |f| f.wall),
    line("  time in system calls", "%", Job::Out, |f| {
        f.kernel_share * 100.0
    }),
    line(
        "bulk stack -> kernel, one core",
        GBIT,
        Job::OutOneCore,
        |f| f.per_core,
    ),
    line(
        "  the peer's work counted too",
        GBIT,
        Job::OutOneCore,
        |f| f.both_ends,
    ),
    whole(line(
        "64 B request-response, sleeping",
        ANSWERS,
        Job::Answer,
        |f| f.per_core,
    )),
    whole(line("  elapsed", "1/s", Job::Answer, |f| f.wall)),
    line("  round trip, median", "us", Job::Answer, |f| f.middle),
    line("  round trip, 99 %", "us", Job::Answer, |f| f.late),
    whole(line(
        "64 B request-response, busy-poll",
        ANSWERS,
        SPIN,
        |f| f.per_core,
    )),
    whole(line("  elapsed", "1/s", SPIN, |f| f.wall)),
    line("  round trip, median", "us", SPIN, |f| f.middle),
    line("  round trip, 99 %", "us", SPIN, |f| f.late),
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
    table.note("kernel over veth: TSO on; a core each: its receiver's or sender's time; one core: the time of both ends");
    for note in &results.notes {
        table.note(note);
    }
    print_all(&[table, must_reach(results, json)], json);
}

fn must_reach(results: &Results, json: bool) -> Report {
    let columns = ["must reach", "needed", "measured", "verdict"];
    let mut table = Report::new("what must be reached", &columns, json);
    let (own, smoltcp, kernel) = (&results.millstream, &results.smoltcp, &results.kernel);
    let per_core: Figure = |f| f.per_core;
    let both_ends: Figure = |f| f.both_ends;
    // `good`: how far it is, from 1 on reached.
    let mut add = |what: &str, needed: String, measured: f64, good: f64| {
        let verdict = if measured.is_nan() {
            "not measured".to_string()
        } else if good >= 1.0 {
            "reached".to_string()
        } else {
            format!("missed by {:.0} %", (1.0 - good) * 100.0)
        };
        table.row(&[what.into(), needed, text(measured, 2), verdict]);
    };
    for (direction, apart, together) in [
        ("kernel -> stack", Job::In, Job::InOneCore),
        ("stack -> kernel", Job::Out, Job::OutOneCore),
    ] {
        let bar = kernel.median(together, per_core);
        let of = |job, figure, whose: f64| own.median(job, figure) / whose;
        for (what, needed, measured) in [
            (
                "of smoltcp, a core each",
                OF_SMOLTCP,
                of(apart, per_core, smoltcp.median(apart, per_core)),
            ),
            (
                "of smoltcp, one core",
                OF_SMOLTCP,
                of(together, per_core, smoltcp.median(together, per_core)),
            ),
            (
                "of the kernel, one core",
                OF_KERNEL,
                of(together, per_core, bar),
            ),
            (
                "of the kernel, one core, the peer's work counted too",
                OF_KERNEL,
                of(together, both_ends, bar),
            ),
            (
                "of the kernel on one core, a core each",
                OF_KERNEL,
                of(apart, per_core, bar),
            ),
        ] {
            let what = format!("bulk {direction}, {what}");
            add(&what, text(needed, 2), measured, measured / needed);
        }
    }
    for (whose, job) in [("sleeps", Job::Answer), ("spins", SPIN)] {
        let measured = own.median(SPIN, |f| f.late) / kernel.median(job, |f| f.late);
        let what = format!("round trip, 99 %, busy-poll, of a kernel that {whose}");
        let needed = format!("at most {ROUND_TRIP:.2}");
        add(&what, needed, measured, ROUND_TRIP / measured);
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
