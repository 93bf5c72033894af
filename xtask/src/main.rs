//! The laws of the house and its chores, as one program: `cargo xtask help`.
//!
//! Nothing of the product lives here, and nothing here depends on a room of the product: these commands must run when
//! a room does not compile.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod arguments;
mod fuzz;
mod loom;
mod sim;
mod tidy;

const HELP: &str = "\
The laws of the house and its chores.

usage: cargo xtask COMMAND

  tidy                           check the laws of the house (see CONTRIBUTING.md); exit 1 on a breach
  fuzz TARGET|all [--seconds N]  fuzz with libFuzzer on the stable toolchain (default 60 seconds a target)
  fuzz --list                    name the targets
  fuzz TARGET --replay FILE      run one input again, such as one that crashed
  sim [--seeds N] [--first S]    run the simulation over N seeds (default 1000) from S (default 0)
  loom                           check the models of rings, mailboxes and wake-ups in every order of steps
  help                           this text
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match words.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match command {
        "tidy" => arguments::none(rest).and_then(|()| tidy::run(&root())),
        "fuzz" => fuzz::run(&root(), rest),
        "loom" => arguments::none(rest).and_then(|()| loom::run(&root())),
        "sim" => sim::run(&root(), rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!(
            "there is no command '{other}': see `cargo xtask help`"
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's top folder: the parent of this package's.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}
