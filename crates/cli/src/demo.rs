//! `millstream demo`: a host and the kernel on one cable, a page in the browser, and a check of it all.
//!
//! What does not live here: the steps themselves (`publish`, `network`, `serve`, `http`, `check`).
//!
//! Invariant: the order of the steps. The published listener must be made before the namespace is entered, which must
//! happen before the first thread.
//! Invariant: nothing is left behind however it ends: devices and addresses go with the namespace, the namespace with
//! the process.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use wire::{Addr, Cidr};

use crate::args;
use crate::ask;
use crate::check::board::{Board, Progress, Row, Standing, standing};
use crate::check::report::{self, Style};
use crate::check::{Check, Sizes, Target};
use crate::failure::Failure;
use crate::http::{self, live::Live};
use crate::network::{self, HOST, Link};
use crate::publish;
use crate::serve::{Plan, PlannedPort, Stack};
use crate::services::{Service, serve_datagrams, serve_streams};
use crate::stop::Stop;
use crate::view::Stats;

/// Where the host serves HTTP and echo.
const HTTP: u16 = 80;
const ECHO: u16 = 7;

/// How long connections may take to end when the demo does.
const FAREWELL: Duration = Duration::from_millis(500);

/// Exit status when a check did not pass.
const NOT_PASSED: u8 = 1;

/// Exit status after Ctrl-C, as shells count it.
const INTERRUPTED: u8 = 130;

/// Runs the demo.
///
/// # Errors
/// When it cannot run at all; a check that does not pass is an exit status.
pub(crate) fn run(args: &args::Demo) -> Result<ExitCode, Failure> {
    let listener = publish::bind(args.publish)?;
    let published = listener
        .local_addr()
        .map_err(|error| Failure::told(format_args!("no address: {error}")))?;
    // Before the process becomes somebody else.
    let control = ask::open_or_tell("demo");
    let enter = enter_private()?;
    raise_descriptor_limit();
    let link = network::demo(args.port)?;
    let facts = Facts::of(&link, published, enter);
    let far = link.far;
    let port = match &args.pcap {
        Some(file) => network::capture(link.port, file)?,
        None => link.port,
    };
    let stack = Stack::start(Plan {
        name: "demo".into(),
        alone: true,
        control,
        tcp: millstream::TcpTunables::default(),
        shards: 1,
        ports: vec![PlannedPort {
            port,
            queues: Vec::new(),
            kind: facts.port_kind,
            addresses: HOST
                .iter()
                .filter_map(|(ip, prefix)| Cidr::new(Addr::from(*ip), *prefix))
                .collect(),
            gateways: Vec::new(),
            routes: Vec::new(),
        }],
        services: vec![
            format!("HTTP on {HTTP}"),
            format!("echo on {ECHO} (TCP and UDP)"),
        ],
    })?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("serve")
        .build();
    let runtime =
        runtime.map_err(|error| Failure::told(format_args!("cannot start threads: {error}")))?;
    let sizes = if args.quick {
        Sizes::QUICK
    } else {
        Sizes::FULL
    };
    let check = Check::new(target(), sizes);
    let board = check.board();
    let stop = runtime.block_on(async {
        let live = Live::new(stack.source(), Some(Arc::clone(&board)));
        serve(&stack, &live)?;
        tokio::spawn(live.run());
        tokio::spawn(publish::relay_all(
            listener,
            SocketAddr::new(HOST[0].0, HTTP),
        ));
        Stop::listen()
            .map_err(|error| Failure::told(format_args!("cannot listen for signals: {error}")))
    })?;

    let shown = show(args, &facts, check, &board, &stop, &stack);
    let shown =
        shown.map_err(|error| Failure::told(format_args!("cannot write the report: {error}")));
    runtime.shutdown_timeout(FAREWELL);
    stack.stop()?;
    drop(far);
    shown
}

/// The host under test, from the kernel's side.
fn target() -> Target {
    Target {
        v4: HOST[0].0,
        v6: HOST[1].0,
        http: HTTP,
        echo: ECHO,
    }
}

/// Opens every service on both families.
fn serve(stack: &Stack, live: &Arc<Live>) -> Result<(), Failure> {
    let router = http::demo(Arc::clone(live));
    for (ip, _) in HOST {
        let web = stack.listen(SocketAddr::new(ip, HTTP))?;
        let echo = stack.listen(SocketAddr::new(ip, ECHO))?;
        let datagrams = stack.bind(SocketAddr::new(ip, ECHO))?;
        tokio::spawn(http::serve(web, router.clone()));
        tokio::spawn(serve_streams(echo, Service::Echo));
        tokio::spawn(serve_datagrams(datagrams, Service::Echo));
    }
    Ok(())
}

/// Enters the demo's own network; the command by which another program follows.
fn enter_private() -> Result<String, Failure> {
    let user_namespace = || std::fs::read_link("/proc/self/ns/user").ok();
    let before = user_namespace();
    netns::enter_private().map_err(Failure::told)?;
    // Root needs no user namespace, and nsenter refuses to enter the one it is in.
    let user = if user_namespace() == before {
        ""
    } else {
        "-U --preserve-credentials "
    };
    Ok(format!("nsenter -t {} {user}-n", std::process::id()))
}

/// A thousand parallel connections need as many descriptors; the usual soft limit is 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If it cannot be raised, the check says which connections could not be opened.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// What does not change while the demo runs.
#[derive(Debug, Clone, Serialize)]
struct Facts {
    millstream: &'static str,
    published: String,
    port: String,
    port_kind: &'static str,
    host: Vec<String>,
    kernel: Vec<String>,
    /// The command that runs another one inside the demo's network.
    enter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Facts {
    fn of(link: &Link, published: SocketAddr, enter: String) -> Self {
        let text = |list: &[(IpAddr, u8)]| {
            list.iter()
                .map(|(ip, prefix)| format!("{ip}/{prefix}"))
                .collect()
        };
        Self {
            millstream: env!("CARGO_PKG_VERSION"),
            published: publish::url(published),
            port: link.port.facts().name.clone(),
            port_kind: link.kind,
            host: text(&HOST),
            kernel: text(&network::KERNEL),
            enter,
            note: link.note.clone(),
        }
    }
}

/// The report of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    facts: &'a Facts,
    passed: bool,
    duration_ms: f64,
    check: Progress,
    stats: Stats,
}

/// Runs the check, shows it, and waits for the end.
fn show(
    args: &args::Demo,
    facts: &Facts,
    check: Check,
    board: &Board,
    stop: &Stop,
    stack: &Stack,
) -> io::Result<ExitCode> {
    let style = Style::of_stdout();
    let mut out = io::stdout().lock();
    if !args.json {
        greet(&mut out, facts, style)?;
    }
    check.start()?;
    let ended = if args.json {
        wait(board, stop)
    } else {
        report::follow(board, style, &mut out, || stop.is_wanted())?
    };
    let rows = board.rows();
    let passed = standing(&rows) == Standing::Passed;
    if ended && args.json {
        print_json(&mut out, facts, &rows, (stack.source())())?;
    } else if ended {
        writeln!(out, "\n{}", report::summary(&rows, style))?;
    }
    if ended && !args.once {
        if !args.json {
            invite(&mut out, facts, style)?;
        }
        out.flush()?;
        stop.wait();
    }
    if !args.json && !args.once {
        writeln!(
            out,
            "{}",
            if style.moving {
                "\nStopped."
            } else {
                "Stopped."
            }
        )?;
    }
    Ok(ExitCode::from(status(args, ended, passed)))
}

/// The exit status, given whether the check has ended and all of it passed.
fn status(args: &args::Demo, ended: bool, passed: bool) -> u8 {
    match (ended, passed) {
        // Somebody waits for a report that did not come.
        (false, _) if args.once || args.json => INTERRUPTED,
        (true, false) if args.once => NOT_PASSED,
        _ => 0,
    }
}

/// Waits for the end of the check or of the demo; whether the check has ended.
fn wait(board: &Board, stop: &Stop) -> bool {
    while !stop.is_wanted() {
        if standing(&board.rows_after(Duration::from_millis(100))).is_final() {
            return true;
        }
    }
    false
}

fn greet(out: &mut impl Write, facts: &Facts, style: Style) -> io::Result<()> {
    let url = style.paint("1;36", &facts.published);
    writeln!(
        out,
        "{} {}",
        style.paint("1", "Millstream"),
        facts.millstream
    )?;
    if let Some(note) = &facts.note {
        writeln!(out, "  {}", style.paint("33", note))?;
    }
    writeln!(out, "  live page  {url}")?;
    writeln!(
        out,
        "  host       {}, HTTP on {HTTP}, echo on {ECHO}",
        facts.host.join(" and ")
    )?;
    writeln!(
        out,
        "  kernel     {}, through {} ({})",
        facts.kernel.join(" and "),
        facts.port,
        facts.port_kind
    )?;
    writeln!(out, "\nSelf-check from the kernel's sockets:")?;
    out.flush()
}

/// What to do with a host that is up.
fn invite(out: &mut impl Write, facts: &Facts, style: Style) -> io::Result<()> {
    let url = &facts.published;
    let download = format!("curl {url}/bytes/{} | sha256sum", http::ANNOUNCED);
    writeln!(
        out,
        "\n{} is up until Ctrl-C. Open it in a browser, or try",
        style.paint("1;36", url)
    )?;
    writeln!(out, "  {}", style.paint("1", &download))?;
    writeln!(
        out,
        "and compare with the digest on the page. From inside the demo's network:"
    )?;
    let ping = format!("{} ping {}", facts.enter, HOST[0].0);
    writeln!(out, "  {}", style.paint("1", &ping))
}

fn print_json(out: &mut impl Write, facts: &Facts, rows: &[Row], stats: Stats) -> io::Result<()> {
    let took: Duration = rows.iter().map(|row| row.took).sum();
    let report = Report {
        facts,
        passed: standing(rows) == Standing::Passed,
        duration_ms: (took.as_secs_f64() * 1e6).round() / 1e3,
        check: Progress::of(rows),
        stats,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn status_of(options: &[&str], ended: bool, passed: bool) -> u8 {
        let line = ["millstream", "demo"].iter().chain(options);
        match args::Cli::parse_from(line).command {
            args::Command::Demo(args) => status(&args, ended, passed),
            _ => unreachable!("not the demo"),
        }
    }

    #[test]
    fn a_report_that_did_not_come_is_not_success() {
        assert_eq!(status_of(&["--json"], false, false), INTERRUPTED);
        assert_eq!(status_of(&["--once"], false, false), INTERRUPTED);
        assert_eq!(status_of(&[], false, false), 0);
        assert_eq!(status_of(&["--once"], true, false), NOT_PASSED);
        assert_eq!(status_of(&["--once", "--json"], true, true), 0);
    }
}
