//! Instructions, not seconds: what a request, a datagram and a whole life cost two hosts in one thread on virtual time. Valgrind
//! counts; the same program gives the same figure on any machine, however busy, so two states of the stack can be told apart by a
//! per cent.
//!
//! Each load is played twice, the second time twice as often: the difference leaves out what setting up costs.
//!
//! What does not live here: time, caches and devices (`rings`, `tap`).

mod hosts;
mod smol;

use std::env;
use std::io::ErrorKind;
use std::process::Command;

use crate::Args;
use crate::report::Report;

/// What is played.
#[derive(Clone, Copy, PartialEq, Debug, clap::ValueEnum)]
pub(crate) enum Load {
    /// 64-byte requests and answers on 1,000 connections, picked at random, 64 at a time.
    Request,
    /// 64-byte datagrams and their echoes, of 64 sockets in turn.
    Datagram,
    /// Open, request, answer, close, 64 at a time.
    Life,
    /// smoltcp: requests and answers on its only connection.
    Smoltcp,
    /// smoltcp: the same, beside 100 connections that are idle.
    SmoltcpIdle,
}

impl Load {
    const ALL: [Self; 5] = [
        Self::Request,
        Self::Datagram,
        Self::Life,
        Self::Smoltcp,
        Self::SmoltcpIdle,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Request => "64 B request-response, 1 k connections",
            Self::Datagram => "64 B UDP echo",
            Self::Life => "open, request, reply, close",
            Self::Smoltcp => "smoltcp: 64 B request-response, 1 connection",
            Self::SmoltcpIdle => "smoltcp: beside 100 idle connections",
        }
    }
}

#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Choice {
    /// Play one load so often, and count nothing: what runs under valgrind.
    #[arg(long, value_name = "LOAD", requires = "times")]
    play: Option<Load>,
    #[arg(long, value_name = "N")]
    times: Option<u32>,
}

pub(crate) fn run(args: &Args, choice: &Choice) -> Result<(), String> {
    if let (Some(load), Some(times)) = (choice.play, choice.times) {
        return play(load, times);
    }
    // Twice as many are beyond the first segments of a connection, which are acknowledged at once.
    let times = if args.smoke { 500 } else { 20_000 };
    let columns = ["what", "instructions, both ends"];
    let mut report = Report::new("count: two hosts in one thread", &columns, args.json);
    for load in Load::ALL {
        let (once, twice) = (counted(load, times)?, counted(load, 2 * times)?);
        let each = twice.saturating_sub(once) / u64::from(times);
        report.row(&[load.name().to_string(), each.to_string()]);
    }
    report.print();
    Ok(())
}

fn play(load: Load, times: u32) -> Result<(), String> {
    match load {
        Load::Request => hosts::requests(times),
        Load::Datagram => hosts::datagrams(times),
        Load::Life => hosts::lives(times),
        Load::Smoltcp => smol::requests(times, 0),
        Load::SmoltcpIdle => smol::requests(times, 100),
    }
}

/// Instructions of a whole run.
fn counted(load: Load, times: u32) -> Result<u64, String> {
    let program = env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let name = clap::ValueEnum::to_possible_value(&load).ok_or("a load without a name")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["count", "--play", name.get_name(), "--times"])
        .arg(times.to_string())
        .output()
        .map_err(|e| match e.kind() {
            ErrorKind::NotFound => "valgrind counts, and is not here: install it".to_string(),
            _ => format!("cannot start valgrind: {e}"),
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{load:?} failed under valgrind:\n{said}"));
    }
    let total = said.lines().find_map(|l| l.split_once("Collected : "));
    total
        .and_then(|(_, n)| n.trim().parse().ok())
        .ok_or_else(|| format!("valgrind told no count:\n{said}"))
}
