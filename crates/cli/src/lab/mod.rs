//! `millstream lab`: bad networks, for the simulator (`run`) and between real devices (`link`).
//!
//! What does not live here: the link and its clock, scenarios' simulation and drawing (the room `lab`).

mod file;
mod link;
pub(crate) mod quantity;
mod run;

use std::process::ExitCode;

use crate::args;
use crate::failure::Failure;

/// Does what was asked.
///
/// # Errors
/// What is wrong with it, or what the machine refuses.
pub(crate) fn run(command: &args::Lab) -> Result<ExitCode, Failure> {
    match command {
        args::Lab::Run(args) => run::run(args),
        args::Lab::Link(args) => link::run(args),
    }
}
