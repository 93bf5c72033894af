//! `millstream lab run`: a scenario played in the simulator, as a table, as plots and as numbers.
//!
//! What does not live here: the file (`file`), the simulation and the drawing (`lab`).
//!
//! Invariant: what is written is a function of the scenario and the seed, to the last byte.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lab::Scenario;
use lab::play::{FlowPlayed, Played, Sample};
use lab::plot::{self, Line, Page, Panel};
use serde_json::{Value, json};

use super::file;
use crate::args;
use crate::failure::Failure;
use crate::units;

/// How often progress is told.
const TELL: Duration = Duration::from_millis(250);

/// Scenarios that come with the program, and their text.
const BUILT_IN: [(&str, &str); 7] = [
    (
        "two-algorithms",
        include_str!("../../examples/lab/two-algorithms.toml"),
    ),
    ("loss", include_str!("../../examples/lab/loss.toml")),
    ("bursts", include_str!("../../examples/lab/bursts.toml")),
    (
        "reordering",
        include_str!("../../examples/lab/reordering.toml"),
    ),
    (
        "four-flows",
        include_str!("../../examples/lab/four-flows.toml"),
    ),
    (
        "narrow-and-wide",
        include_str!("../../examples/lab/narrow-and-wide.toml"),
    ),
    (
        "bufferbloat",
        include_str!("../../examples/lab/bufferbloat.toml"),
    ),
];

/// Plays it, writes the plots and prints the table.
///
/// # Errors
/// What is wrong with the scenario, or with the folder.
pub(super) fn run(args: &args::Run) -> Result<ExitCode, Failure> {
    if args.list {
        for (name, text) in BUILT_IN {
            let about = file::parse(text).map(|scenario| scenario.about);
            println!("{name:<18}{}", about.unwrap_or_default());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut scenario = read(&args.scenario)?;
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    let folder = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("lab-{}", scenario.name.replace(' ', "-"))));
    // Before the work: a folder that cannot be written would lose it.
    fs::create_dir_all(&folder).map_err(|error| unwritable(&folder, &error))?;
    let mut progress = Progress::new(scenario.duration);
    let played = lab::play(&scenario, &mut |at| progress.tell(at));
    progress.clear();
    let played = played.map_err(|error| {
        let remedy = "see what the scenario asks for, or report this with the file and the seed";
        Failure::new(format_args!("{}: {error}", scenario.name), remedy)
    })?;
    let mut files = Vec::new();
    for (name, text) in pages(&scenario, &played) {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
        files.push(path.display().to_string());
    }
    if args.json {
        println!("{}", as_json(&scenario, &played, &files));
    } else {
        print!("{}", table(&scenario, &played));
        println!("{} files in {}", files.len(), folder.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        format_args!("cannot write {}: {error}", path.display()),
        "give --output a folder you may write to",
    )
}

/// A built-in scenario, or one from a file.
fn read(name: &str) -> Result<Scenario, Failure> {
    let wrong = |error| Failure::told(format_args!("{name}:{error}"));
    let is_path = name.contains('/') || Path::new(name).extension().is_some_and(|e| e == "toml");
    if !is_path {
        if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return file::parse(text).map_err(wrong);
        }
        let known: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
        return Err(Failure::new(
            format_args!("no scenario is called {name}"),
            format_args!(
                "give a file ending in .toml, or one of {}",
                known.join(", ")
            ),
        ));
    }
    let text = fs::read_to_string(name).map_err(|error| {
        let remedy = "give the path of a TOML file, or a name `millstream lab run --list` shows";
        Failure::new(format_args!("cannot read {name}: {error}"), remedy)
    })?;
    file::parse(&text).map_err(wrong)
}

/// The line of a terminal that says how far it is.
struct Progress {
    wanted: bool,
    shown: bool,
    whole: Duration,
    last: Instant,
}

impl Progress {
    fn new(whole: Duration) -> Self {
        Self {
            wanted: std::io::stderr().is_terminal(),
            shown: false,
            whole,
            last: Instant::now(),
        }
    }

    fn tell(&mut self, at: Duration) -> bool {
        if self.wanted && self.last.elapsed() >= TELL {
            let (at, whole) = (at.as_secs_f64(), self.whole.as_secs_f64());
            let share = at / whole * 100.0;
            eprint!("\r\x1b[K{share:.0} %: {at:.1} of {whole:.1} s played");
            let _ = std::io::stderr().flush();
            (self.last, self.shown) = (Instant::now(), true);
        }
        true
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}

/// A panel, with what it is called as a file of its own.
struct Chart {
    file: &'static str,
    panel: Panel,
}

/// One line a flow.
fn lines(played: &Played, points: impl Fn(&FlowPlayed) -> Vec<(f64, f64)>) -> Vec<Line> {
    let line = |(series, flow): (usize, &FlowPlayed)| Line {
        series,
        dashed: false,
        points: points(flow),
    };
    played.flows.iter().enumerate().map(line).collect()
}

fn of_samples(flow: &FlowPlayed, figure: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let point = |sample: &Sample| (sample.at.as_secs_f64(), figure(sample));
    flow.samples.iter().map(point).collect()
}

/// What was read in the `window` before each sample, Mbit/s.
fn goodput(flow: &FlowPlayed, window: Duration) -> Vec<(f64, f64)> {
    let mut first = 0;
    let samples = &flow.samples;
    let rate = |(at, now): (usize, &Sample)| {
        while samples[first].at + window < now.at && first < at {
            first += 1;
        }
        let then = &samples[first];
        let time = (now.at - then.at).as_secs_f64();
        let bits = (now.delivered - then.delivered) as f64 * 8.0;
        let rate = if time > 0.0 { bits / time / 1e6 } else { 0.0 };
        (now.at.as_secs_f64(), rate)
    };
    samples.iter().enumerate().map(rate).collect()
}

fn charts(scenario: &Scenario, played: &Played) -> Vec<Chart> {
    const KIB: f64 = 1024.0;
    let window = (scenario.duration / 100).max(scenario.sample * 2);
    let chart = |file, title: &str, unit: &str, lines| Chart {
        file,
        panel: Panel {
            title: title.into(),
            unit: unit.into(),
            lines,
        },
    };
    let cwnd = lines(played, |flow| of_samples(flow, |s| f64::from(s.cwnd) / KIB));
    let flight = lines(played, |flow| {
        of_samples(flow, |s| f64::from(s.in_flight) / KIB)
    });
    let rtt = lines(played, |flow| {
        let mut points = of_samples(flow, |s| s.rtt.as_secs_f64() * 1e3);
        points.retain(|(_, rtt)| *rtt > 0.0);
        points
    });
    let rate = lines(played, |flow| goodput(flow, window));
    let averaged = format!("goodput (over {})", units::duration(window));
    let mut all = vec![
        chart("cwnd.svg", "congestion window", "KiB", cwnd),
        chart("in-flight.svg", "in flight", "KiB", flight),
        chart("rtt.svg", "smoothed round-trip time", "ms", rtt),
        chart("goodput.svg", &averaged, "Mbit/s", rate),
    ];
    if scenario.link.rate > 0 {
        let point = |(at, bytes): &(Duration, u64)| (at.as_secs_f64(), *bytes as f64 / KIB);
        let line = Line {
            // Black: it is no flow's.
            series: 6,
            dashed: false,
            points: played.queue.iter().map(point).collect(),
        };
        all.push(chart(
            "queue.svg",
            "queue before the link",
            "KiB",
            vec![line],
        ));
    }
    all
}

/// Every file and what it holds.
fn pages(scenario: &Scenario, played: &Played) -> Vec<(&'static str, String)> {
    let legend = scenario.flows.iter().map(|flow| {
        if flow.name == flow.congestion.name() {
            flow.name.clone()
        } else {
            format!("{} ({})", flow.name, flow.congestion.name())
        }
    });
    let page = |title: String, panels| Page {
        title,
        about: subtitle(scenario),
        legend: legend.clone().collect(),
        panels,
        seconds: scenario.duration.as_secs_f64(),
    };
    let charts = charts(scenario, played);
    let all = charts.iter().map(|chart| chart.panel.clone()).collect();
    let mut files = vec![(
        "overview.svg",
        plot::draw(&page(scenario.name.clone(), all)),
    )];
    for Chart { file, panel } in charts {
        let title = format!("{}: {}", scenario.name, panel.title);
        files.push((file, plot::draw(&page(title, vec![panel]))));
    }
    files.push(("samples.csv", csv(scenario, played)));
    files
}

fn subtitle(scenario: &Scenario) -> String {
    let about = match scenario.about.as_str() {
        "" => String::new(),
        about => format!("{about}; "),
    };
    let rate = match scenario.link.rate {
        0 => "no limit of rate".to_owned(),
        rate => format!(
            "{}, queue {}",
            units::bit_rate(rate, Duration::from_secs(8)),
            units::bytes(scenario.link.queue)
        ),
    };
    let rtt = units::duration(scenario.link.delay * 2);
    format!("{about}{rate}, round trip {rtt}, seed {}", scenario.seed)
}

fn csv(scenario: &Scenario, played: &Played) -> String {
    use std::fmt::Write;
    let mut text = String::from(
        "seconds,flow,cwnd_bytes,ssthresh_bytes,in_flight_bytes,rtt_ms,delivered_bytes\n",
    );
    for (flow, played) in scenario.flows.iter().zip(&played.flows) {
        for sample in &played.samples {
            let _ = writeln!(
                text,
                "{:.6},\"{}\",{},{},{},{:.3},{}",
                sample.at.as_secs_f64(),
                flow.name.replace('"', "\"\""),
                sample.cwnd,
                sample.ssthresh,
                sample.in_flight,
                sample.rtt.as_secs_f64() * 1e3,
                sample.delivered,
            );
        }
    }
    text
}

/// Least, mean and greatest round-trip time, milliseconds.
fn round_trips(flow: &FlowPlayed) -> Option<[f64; 3]> {
    let known = flow.samples.iter().filter(|sample| !sample.rtt.is_zero());
    let times: Vec<f64> = known.map(|sample| sample.rtt.as_secs_f64() * 1e3).collect();
    let least = times.iter().copied().reduce(f64::min)?;
    let most = times.iter().copied().reduce(f64::max)?;
    Some([least, times.iter().sum::<f64>() / times.len() as f64, most])
}

fn mean_cwnd(flow: &FlowPlayed) -> u64 {
    let sum: u64 = flow.samples.iter().map(|s| u64::from(s.cwnd)).sum();
    sum / (flow.samples.len() as u64).max(1)
}

/// The table of a terminal.
fn table(scenario: &Scenario, played: &Played) -> String {
    let mut rows = vec![
        [
            "flow",
            "algorithm",
            "delivered",
            "goodput",
            "RTT min / mean / max",
            "mean cwnd",
            "ended",
        ]
        .map(str::to_owned),
    ];
    for (flow, played) in scenario.flows.iter().zip(&played.flows) {
        let rate = played.goodput(flow, scenario) / 8.0;
        let rtt = round_trips(played).map_or("-".into(), |[least, mean, most]| {
            format!("{least:.1} / {mean:.1} / {most:.1} ms")
        });
        let ended = match (played.finished, played.failed) {
            (_, Some(error)) => error.to_string(),
            (Some(after), None) => format!("after {}", units::duration(after)),
            (None, None) => "-".into(),
        };
        rows.push([
            flow.name.clone(),
            flow.congestion.name().into(),
            units::bytes(played.delivered),
            units::bit_rate(rate as u64, Duration::from_secs(1)),
            rtt,
            units::bytes(mean_cwnd(played)),
            ended,
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..rows[0].len()).map(|c| width(c).unwrap_or(0)).collect();
    let mut text = format!("{}: {}\n\n", scenario.name, subtitle(scenario));
    for row in &rows {
        let cell = |(at, cell): (usize, &String)| match at {
            0 | 1 => format!("{cell:<0$}", widths[at]),
            _ => format!("{cell:>0$}", widths[at]),
        };
        let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
        text += &format!("  {}\n", cells.join("  ").trim_end());
    }
    text += &format!(
        "\n  {} frames lost by the link, {} dropped by full queues, {} segments sent again\n",
        units::count(played.lost),
        units::count(played.queue_full),
        units::count(played.retransmissions),
    );
    if scenario.flows.len() > 1 {
        text += &format!("  Jain's index of fairness {:.3}\n", played.jain(scenario));
    }
    text
}

fn as_json(scenario: &Scenario, played: &Played, files: &[String]) -> Value {
    let flow = |(flow, played): (&lab::scenario::Flow, &FlowPlayed)| {
        let [least, mean, most] = round_trips(played).unwrap_or_default();
        json!({
            "name": flow.name,
            "algorithm": flow.congestion.name(),
            "delivered_bytes": played.delivered,
            "goodput_bits_per_second": played.goodput(flow, scenario).round() as u64,
            "rtt_ms": { "min": least, "mean": mean, "max": most },
            "mean_cwnd_bytes": mean_cwnd(played),
            "finished_seconds": played.finished.map(|after| after.as_secs_f64()),
            "failed": played.failed.map(|error| error.to_string()),
        })
    };
    let flows: Vec<Value> = scenario.flows.iter().zip(&played.flows).map(flow).collect();
    json!({
        "scenario": scenario.name,
        "seed": scenario.seed,
        "seconds": scenario.duration.as_secs_f64(),
        "flows": flows,
        "jain": played.jain(scenario),
        "lost": played.lost,
        "queue_full": played.queue_full,
        "retransmissions": played.retransmissions,
        "fingerprint": format!("{:016x}", played.fingerprint),
        "files": files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_right_and_called_what_it_is() {
        for (name, text) in BUILT_IN {
            let scenario = file::parse(text).unwrap_or_else(|error| panic!("{name}:{error}"));
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty(), "{name}");
        }
    }

    #[test]
    fn goodput_is_over_the_window_before() {
        let sample = |millis, delivered| Sample {
            at: Duration::from_millis(millis),
            delivered,
            ..Sample::default()
        };
        let flow = FlowPlayed {
            samples: vec![
                sample(0, 0),
                sample(100, 0),
                sample(200, 25_000),
                sample(300, 50_000),
                sample(400, 50_000),
            ],
            ..FlowPlayed::default()
        };
        let rates: Vec<f64> = goodput(&flow, Duration::from_millis(200))
            .iter()
            .map(|(_, rate)| *rate)
            .collect();
        assert_eq!(rates, [0.0, 0.0, 1.0, 2.0, 1.0]);
    }
}
