//! `cargo xtask fuzz`: libFuzzer on the stable toolchain.
//!
//! The usual driver wants a nightly compiler for its sanitizers. Coverage alone does not: the compiler passes it needs
//! are reachable from stable, so this builds the targets in `fuzz/` with them and runs them. What is lost is
//! AddressSanitizer (debug assertions are on, and nearly all that is fuzzed forbids unsafe code), and the look into
//! `memcmp`: a comparison of whole slices is not taken apart byte by byte, so give such a target a seed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arguments;

/// Edge counters, a table of program counters for them, and comparison operands: what libFuzzer steers by.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// Largest input, bytes: beyond one full frame with its offload header there is little new to find.
const INPUT_MAX: u32 = 4096;

/// Memory one target may hold, MiB; a leak or an unbounded table ends the run as a crash does.
const MEMORY_MAX: u32 = 1024;

pub(crate) fn run(root: &Path, words: &[String]) -> Result<(), String> {
    let mut words = words.to_vec();
    let targets = targets(&root.join("fuzz/fuzz_targets"))?;
    if arguments::flag(&mut words, "--list") {
        arguments::none(&words)?;
        for target in &targets {
            println!("{target}");
        }
        return Ok(());
    }
    let seconds = arguments::number(&mut words, "--seconds", 60)?;
    let replay = arguments::option(&mut words, "--replay")?;
    if words.is_empty() {
        return Err(
            "which target? `cargo xtask fuzz --list` names them, `all` runs them in turn"
                .to_owned(),
        );
    }
    let name = words.remove(0);
    arguments::none(&words)?;

    let chosen: Vec<&String> = targets
        .iter()
        .filter(|target| name == "all" || **target == name)
        .collect();
    if chosen.is_empty() {
        return Err(format!(
            "there is no fuzz target '{name}': `cargo xtask fuzz --list` names them"
        ));
    }
    let programs = build(root)?;
    for target in chosen {
        match &replay {
            Some(file) => replay_one(&programs.join(target), file)?,
            None => fuzz_one(root, &programs, target, seconds)?,
        }
    }
    Ok(())
}

/// Names of the targets: the files of `folder`, without their ending, sorted.
fn targets(folder: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .filter_map(|path| {
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
        })
        .collect();
    names.sort();
    Ok(names)
}

/// Builds every target with coverage; gives the folder the programs are in.
fn build(root: &Path) -> Result<PathBuf, String> {
    let host = host()?;
    let base =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let base = if base.is_absolute() {
        base
    } else {
        root.join(base)
    };
    let folder = base.join("fuzz");
    // An explicit --target keeps the flags off build scripts and procedural macros.
    let status = Command::new("cargo")
        .args(["build", "--release", "--bins", "--target", &host])
        .arg("--manifest-path")
        .arg(root.join("fuzz/Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", COVERAGE.join(" "))
        .status()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !status.success() {
        return Err(
            "the fuzz targets do not build, see above; libFuzzer itself needs a C++ compiler (apt-get install g++)"
                .to_owned(),
        );
    }
    Ok(folder.join(host).join("release"))
}

/// This machine's target triple, as rustc calls it.
fn host() -> Result<String, String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .map_err(|error| format!("rustc cannot be started: {error}"))?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| "rustc -vV names no host".to_owned())
}

fn fuzz_one(root: &Path, programs: &Path, target: &str, seconds: u64) -> Result<(), String> {
    // Inputs found are kept in `corpus` (not committed); `seeds` are the committed ones, read first.
    let corpus = root.join("fuzz/corpus").join(target);
    let seeds = root.join("fuzz/seeds").join(target);
    let artifacts = root.join("fuzz/artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let known = listing(&artifacts);

    let mut command = Command::new(programs.join(target));
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-timeout=10", "-print_final_stats=1", "-verbosity=0"])
        .arg(&corpus);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    let output = command
        .output()
        .map_err(|error| format!("{target} cannot be started: {error}"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let runs = statistic(&log, "number_of_executed_units");
        let rate = statistic(&log, "average_exec_per_sec");
        println!(
            "{target}: {runs} runs, {rate} a second, {} inputs kept",
            listing(&corpus).len()
        );
        return Ok(());
    }
    eprintln!("{log}");
    let replay: String = listing(&artifacts)
        .into_iter()
        .filter(|file| !known.contains(file))
        .map(|file| {
            let file = file.strip_prefix(root).unwrap_or(&file);
            format!("\n  cargo xtask fuzz {target} --replay {}", file.display())
        })
        .collect();
    Err(format!(
        "{target} failed ({}); to run the input again:{replay}",
        output.status
    ))
}

/// The figure libFuzzer gives for `name` when it ends.
fn statistic<'a>(log: &'a str, name: &str) -> &'a str {
    log.lines()
        .filter_map(|line| {
            line.strip_prefix("stat::")?
                .strip_prefix(name)?
                .strip_prefix(':')
        })
        .next_back()
        .map_or("?", str::trim)
}

fn replay_one(program: &Path, file: &str) -> Result<(), String> {
    let status = Command::new(program)
        .args(["-verbosity=0", file])
        .status()
        .map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
    if status.success() {
        println!("{file}: passed");
        Ok(())
    } else {
        Err(format!("{file} still fails ({status})"))
    }
}

fn listing(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .collect()
        },
    )
}
