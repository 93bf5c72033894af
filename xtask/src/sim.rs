//! `cargo xtask sim`: the simulation over many seeds, each replayable on its own.

use std::path::Path;
use std::process::Command;

use crate::arguments;

/// The sim crate's integration test that reads `SIM_FIRST` and `SIM_SEEDS`; a failure there prints its seed.
const TEST: &str = "seeds";

pub(crate) fn run(root: &Path, words: &[String]) -> Result<(), String> {
    let mut words = words.to_vec();
    let seeds = arguments::number(&mut words, "--seeds", 1000)?;
    let first = arguments::number(&mut words, "--first", 0)?;
    arguments::none(&words)?;

    let status = Command::new("cargo")
        .args([
            "test",
            "--profile",
            "proof",
            "--package",
            "sim",
            "--test",
            TEST,
            "--",
            "--nocapture",
        ])
        .env("SIM_FIRST", first.to_string())
        .env("SIM_SEEDS", seeds.to_string())
        .current_dir(root)
        .status()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "a seed between {first} and {} failed: its replay command is above",
            first.saturating_add(seeds)
        ))
    }
}
