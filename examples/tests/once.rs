//! Every example serves a visitor from the kernel's side.

use std::process::{Command, Output};

fn once(program: &str, flags: &[&str]) -> Output {
    Command::new(program)
        .arg("--once")
        .args(flags)
        .output()
        .expect("the example was built")
}

/// Whether the example could not set its stage here: no namespaces for this user, or in them no devices.
fn no_stage(output: &Output) -> bool {
    let [said, why] = [&output.stdout, &output.stderr].map(|told| String::from_utf8_lossy(told));
    // Before the last line stands at most what it makes do with.
    let why = why.lines().next_back().unwrap_or_default();
    let mut needed = ["namespace", "unshare", "TAP", "packet socket"].iter();
    !said.contains("serving on") && needed.any(|word| why.contains(word))
}

fn serves(program: &str, answer: &str) {
    serves_with(&[], program, answer);
}

fn serves_with(flags: &[&str], program: &str, answer: &str) {
    let output = once(program, flags);
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
fn echo_futures() {
    serves(env!("CARGO_BIN_EXE_echo_futures"), "was told: hello");
}

#[test]
fn static_files() {
    serves(
        env!("CARGO_BIN_EXE_static_files"),
        "was told: HTTP/1.1 200 OK, [package]",
    );
}

#[test]
fn chat() {
    // Bob was told what Alice said, and her name.
    let chat = env!("CARGO_BIN_EXE_chat");
    serves(chat, "was told: 10.77.0.1:");
    serves(chat, ": hello, Bob");
}

#[test]
fn proxy() {
    let proxy = env!("CARGO_BIN_EXE_proxy");
    serves(proxy, "was told: hello, through the proxy");
    serves_with(&["--splice"], proxy, "was told: hello, through the proxy");
}

#[test]
fn framed() {
    serves(
        env!("CARGO_BIN_EXE_framed"),
        "was told: olleh ih | olleh;ih; | ...olleh!!!dlrow",
    );
}

#[test]
fn tls_server() {
    serves(
        env!("CARGO_BIN_EXE_tls_server"),
        "was told: HELLO OVER TLS (Some(TLSv1_3))",
    );
}

#[test]
fn quic() {
    serves(
        env!("CARGO_BIN_EXE_quic"),
        "was told: 4194304 bytes there and back over QUIC",
    );
}

/// The pool keeps a connection for more requests: which one depends on how soon it has it back.
#[test]
fn hyper_client() {
    let client = env!("CARGO_BIN_EXE_hyper_client");
    serves(client, "was asked: 200 OK, connection 1, request 1");
    serves(client, ", request 2");
}

#[test]
fn echo_shard() {
    serves(env!("CARGO_BIN_EXE_echo_shard"), "was told: hello");
}

#[test]
fn echo_poll() {
    serves(env!("CARGO_BIN_EXE_echo_poll"), "was told: hello");
}

#[test]
fn echo_completion() {
    serves(env!("CARGO_BIN_EXE_echo_completion"), "was told: hello");
}

#[test]
fn on_several_shards() {
    let shards = &["--shards", "3"];
    serves_with(shards, env!("CARGO_BIN_EXE_echo_std"), "was told: hello");
    let page = "was told: hello from user space";
    serves_with(shards, env!("CARGO_BIN_EXE_hello_axum"), page);
    let completion = env!("CARGO_BIN_EXE_echo_completion");
    serves_with(shards, completion, "was told: hello");
    for (program, answer) in [
        (env!("CARGO_BIN_EXE_echo_futures"), "hello"),
        (env!("CARGO_BIN_EXE_echo_poll"), "hello"),
        (env!("CARGO_BIN_EXE_static_files"), "HTTP/1.1 200 OK"),
        (env!("CARGO_BIN_EXE_chat"), "10.77.0.1:"),
        (env!("CARGO_BIN_EXE_framed"), "olleh ih"),
        (env!("CARGO_BIN_EXE_tls_server"), "HELLO OVER TLS"),
        (env!("CARGO_BIN_EXE_quic"), "4194304 bytes there and back"),
    ] {
        serves_with(shards, program, &format!("was told: {answer}"));
    }
    let asked = "was asked: 200 OK, connection 1";
    serves_with(shards, env!("CARGO_BIN_EXE_hyper_client"), asked);
    let splice = &["--shards", "3", "--splice"];
    let proxy = env!("CARGO_BIN_EXE_proxy");
    serves_with(splice, proxy, "was told: hello, through the proxy");
    // Its application is on the shard, and there is one of it.
    let refused = once(env!("CARGO_BIN_EXE_echo_shard"), shards);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(no_stage(&refused) || why.contains("build_shards"), "{why}");
}

/// While the visitor is there: he reads what was opened, of an example of each way to write one.
#[test]
fn tools_may_ask() {
    let folder = tempfile::tempdir().expect("a folder");
    for (program, answer) in [
        (env!("CARGO_BIN_EXE_chat"), ": hello, Bob"),
        (env!("CARGO_BIN_EXE_echo_shard"), "was told: hello"),
        (env!("CARGO_BIN_EXE_echo_completion"), "was told: hello"),
    ] {
        let run = folder.path().join("run");
        let mut command = Command::new(program);
        command
            .args(["--once", "--ask", "own"])
            .env("MILLSTREAM_RUNTIME_DIR", &run);
        let output = command.output().expect("the example was built");
        if !output.status.success() && no_stage(&output) {
            eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains(answer),
            "{output:?}"
        );
        assert!(said.contains("millstream ss --host own"), "{said}");
    }
    // One that cannot open it does not begin.
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_echo_std"));
    command
        .args(["--once", "--ask", "own"])
        .env("MILLSTREAM_RUNTIME_DIR", &file);
    let output = command.output().expect("the example was built");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        no_stage(&output) || why.contains("is not safe: it is no folder"),
        "{why}"
    );
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
