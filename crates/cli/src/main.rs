//! The program `millstream`: a demonstration that checks itself, and hosts on real devices.
//!
//! What does not live here: protocols, sockets and devices; this room only puts them together and shows them.
//!
//! Start reading at [`demo::run`]. The only module that knows the stack's sockets is [`serve`].
//!
//! Invariant: a command that fails says so in one line with a remedy, on standard error, and exits with 2.
#![forbid(unsafe_code)]

mod args;
mod ask;
mod check;
mod config;
mod demo;
mod failure;
mod http;
mod lab;
mod network;
mod publish;
mod serve;
mod services;
mod ss;
mod stop;
mod sysctl;
mod units;
mod up;
mod view;
mod watch;

use std::process::ExitCode;

use clap::Parser;

/// Exit status of a command that could not do what it was asked to; clap's for a wrong command line, too.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let done = match args::Cli::parse().command {
        args::Command::Demo(args) => demo::run(&args),
        args::Command::Up(args) => up::run(&args),
        args::Command::Ss(args) => ss::run(&args),
        args::Command::Sysctl(args) => sysctl::run(&args),
        args::Command::Lab { command } => lab::run(&command),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("millstream: {failure}");
        ExitCode::from(FAILED)
    })
}
