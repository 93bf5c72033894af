//! Every example serves a visitor from the kernel's side.

use std::process::{Command, Output};

fn once(program: &str) -> Output {
    Command::new(program)
        .arg("--once")
        .output()
        .expect("the example was built")
}

/// Whether the example could not set its stage here: no TAP devices or no namespaces for this user.
fn no_stage(output: &Output) -> bool {
    let why = String::from_utf8_lossy(&output.stderr);
    ["namespace", "/dev/net/tun", "unshare", "TAP"]
        .iter()
        .any(|word| why.contains(word))
}

fn serves(program: &str, answer: &str) {
    let output = once(program);
    if !output.status.success() && no_stage(&output) {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains(answer),
        "{output:?}"
    );
}

#[test]
fn echo_std() {
    serves(env!("CARGO_BIN_EXE_echo_std"), "was told: hello");
}

#[test]
fn hello_axum() {
    serves(
        env!("CARGO_BIN_EXE_hello_axum"),
        "was told: hello from user space",
    );
}

#[test]
fn echo_shard() {
    serves(env!("CARGO_BIN_EXE_echo_shard"), "was told: hello");
}

#[test]
fn echo_completion() {
    serves(env!("CARGO_BIN_EXE_echo_completion"), "was told: hello");
}

#[test]
fn a_wrong_argument_is_told_in_one_line() {
    let output = Command::new(env!("CARGO_BIN_EXE_echo_std"))
        .arg("--nonsense")
        .output()
        .expect("it was built");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(why.contains("'--nonsense' is not an argument"), "{why}");
}
