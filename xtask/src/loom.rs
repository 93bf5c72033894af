//! `cargo xtask loom`: models of what threads share, played in every order of steps that the memory model allows.

use std::path::Path;
use std::process::Command;

/// Rooms that have models, in modules of this name.
const ROOMS: [&str; 2] = ["base", "engine"];
const MODELS: &str = "models::";

/// The models are another build of everything below them: it has a folder of its own, so that neither throws the other away.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--lib"]);
    for room in ROOMS {
        cargo.args(["--package", room]);
    }
    let status = cargo
        .args(["--", MODELS])
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", target.join("loom"))
        .current_dir(root)
        .status()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(
            "a model failed: its panic is above, and with LOOM_LOG=trace the steps that led to it"
                .to_owned(),
        )
    }
}
