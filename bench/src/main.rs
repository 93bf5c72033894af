//! Benchmarks: ratios against a peer measured in the same run, medians of several runs.
//!
//! - `tap`: bulk and request-response over a TAP device against the kernel, beside smoltcp and the kernel with itself.
//! - `rings`: two hosts joined by rings in memory, one per core; and one host whose peers are simulated.
//! - `count`: the same in instructions, counted by valgrind: repeats to the digit on any machine, however busy.
//! - `handles`: what a socket costs on the shard and from another thread, over the bare stack.
//! - `http`: wrk against Millstream over a TAP device three ways, beside the kernel's epoll over veth.
//! - `lossy`: bulk transfers over links with loss and disorder, beside Linux over the same links.
//! - `events`: what waiting costs as a set of sources grows: epoll, and Poll over the sockets of a host.
//! - `tables`: the cost of a lookup, a timer and a block at 1 k to 10 M entries.
//!
//! What does not live here: pass or fail. Rates on a shared machine say little; ratios of one run say more.
#![forbid(unsafe_code)]

mod count;
mod events;
mod handles;
mod http;
mod lossy;
mod measure;
mod peers;
mod report;
mod rings;
mod shard;
mod tables;
mod tap;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Benchmarks of Millstream. Figures are per busy core: work divided by the CPU time of the thread that did it.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Runs of each figure; the median is printed.
    #[arg(long, global = true, default_value_t = 5)]
    runs: usize,
    /// Seconds each run measures [2; of `lossy` 10].
    #[arg(long, global = true)]
    seconds: Option<f64>,
    /// One short run of small sizes, to see that everything works.
    #[arg(long, global = true)]
    smoke: bool,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    json: bool,
}

impl Args {
    /// Seconds each run measures.
    fn seconds(&self) -> f64 {
        let usual = if matches!(self.what, What::Lossy(_)) {
            10.0
        } else {
            2.0
        };
        self.seconds.unwrap_or(usual)
    }
}

#[derive(Subcommand, Clone)]
enum What {
    /// Instructions of a request, a datagram and a whole life, counted by valgrind, beside smoltcp.
    Count(count::Choice),
    /// Waiting for 100 active sources among a million, beside 100 in all.
    Events,
    /// A host that talks to itself: the bare stack, an application on the shard, handles in another thread.
    Handles,
    /// Answers to wrk over a TAP device, on the shard and from other threads, beside the kernel as an epoll loop.
    Http(http::Choice),
    /// Bulk transfers over links with loss and disorder, beside Linux over the same links.
    Lossy(lossy::Choice),
    /// Two hosts joined by rings in memory, one per core: requests, whole lives, idle cost.
    Rings,
    /// Bulk and request-response against the kernel over TAP, beside smoltcp and the kernel with itself over veth.
    Tap(tap::Choice),
    /// Lookup, timer and packet memory at 1 k to 10 M entries, beside the standard library's structures.
    Tables,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.smoke {
        args.runs = 1;
        args.seconds = Some(0.4);
    }
    if !(0.01..=3600.0).contains(&args.seconds()) {
        eprintln!("bench: --seconds must be from 0.01 to 3600");
        return ExitCode::FAILURE;
    }
    let result = match &args.what {
        What::Count(choice) => count::run(&args, choice),
        What::Events => events::run(&args),
        What::Handles => handles::run(&args),
        What::Http(choice) => http::run(&args, *choice),
        What::Lossy(choice) => lossy::run(&args, choice),
        What::Rings => rings::run(&args),
        What::Tap(choice) => tap::run(&args, *choice),
        What::Tables => tables::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}
