//! The program as a user meets it: help, refusals, the examples. Nothing here changes anything on the machine.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn millstream(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    // Neither the width nor the colours of whoever runs the tests.
    for name in ["COLUMNS", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.args(args).output().expect("the program starts")
}

/// Exit status, standard output, standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = millstream(args);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().expect("an exit status"),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A refusal: status 2, nothing on standard output, one line on standard error.
fn refusal(args: &[&str]) -> String {
    let (status, out, err) = run(args);
    assert_eq!((status, out.as_str()), (2, ""), "{args:?}: {err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    err.trim_end().into()
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// Compares with the file of that name; MILLSTREAM_BLESS=1 writes it instead.
fn same_as_file(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/help")
        .join(name);
    if std::env::var_os("MILLSTREAM_BLESS").is_some() {
        std::fs::write(&path, text).expect("the file can be written");
    }
    let expected = std::fs::read_to_string(&path).expect("the file is there");
    assert_eq!(
        text, expected,
        "{name} is not what it was; MILLSTREAM_BLESS=1 accepts the change"
    );
}

#[test]
fn help_is_what_was_last_agreed_on() {
    for (name, args) in [
        ("millstream.txt", &["--help"][..]),
        ("demo.txt", &["demo", "--help"]),
        ("up.txt", &["up", "--help"]),
        ("ss.txt", &["ss", "--help"]),
        ("sysctl.txt", &["sysctl", "--help"]),
        ("lab.txt", &["lab", "--help"]),
        ("lab-run.txt", &["lab", "run", "--help"]),
        ("lab-link.txt", &["lab", "link", "--help"]),
    ] {
        let (status, out, err) = run(args);
        assert_eq!((status, err.as_str()), (0, ""));
        assert!(
            out.lines().all(|line| line.chars().count() <= 100),
            "{name} is too wide"
        );
        same_as_file(name, &out);
    }
}

#[test]
fn the_version_is_told() {
    let (status, out, _) = run(&["--version"]);
    assert_eq!(
        (status, out),
        (0, format!("millstream {}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn a_wrong_command_line_is_told_with_what_there_is() {
    for (args, words) in [
        (
            &["demo", "--pubish", "127.0.0.1:1"][..],
            "a similar argument exists: '--publish'",
        ),
        (
            &["demo", "--publish", "localhost"],
            "invalid value 'localhost' for '--publish <ADDR>': give an address and a port such as",
        ),
        (
            &["demo", "--port", "dpdk"],
            "[possible values: auto, tap, packet]",
        ),
        (
            &["demo", "--backend", "kernel"],
            "unexpected argument '--backend'",
        ),
        (&["up"], "--config <FILE>"),
        (
            &["ss", "--state", "flying"],
            "invalid value 'flying' for '--state <STATE>': give a state such as established",
        ),
        (&["fly"], "unrecognized subcommand 'fly'"),
        (&[], "Usage: millstream <COMMAND>"),
    ] {
        let (status, out, err) = run(args);
        assert_eq!((status, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains(words), "{args:?}: {err}");
    }
}

#[test]
fn every_example_is_right() {
    let mut seen = 0;
    for entry in std::fs::read_dir(examples()).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        let (status, out, err) = run(&["up", "--check", "-c", path.to_str().expect("UTF-8")]);
        assert_eq!((status, err.as_str()), (0, ""), "{}", path.display());
        assert!(
            out.contains("is right\n") && out.contains("  port "),
            "{out}"
        );
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn check_says_what_the_file_means() {
    let path = examples().join("packet.toml");
    let path = path.to_str().expect("UTF-8");
    let (_, out, _) = run(&["up", "--check", "-c", path]);
    let expected = "packet-example is right\n  \
        port wan: packet on eth1, 192.0.2.50/24, gateway 192.0.2.1\n    \
        route 198.51.100.0/24 via 192.0.2.9\n  \
        serve http on 192.0.2.50:80\n";
    assert_eq!(out, format!("{path}: {expected}"));
}

#[test]
fn a_wrong_file_is_told_to_the_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("host.toml");
    let path = path.to_str().expect("UTF-8");
    let port = "[[port]]\nname = \"lan\"\nkind = \"tap\"\ndevice = \"ms0\"\n";
    for (text, expected) in [
        (
            format!("{port}adresses = []\n"),
            ":5:1: unknown field `adresses`, expected one of `name`, `kind`",
        ),
        (
            format!("{port}dhcp = \"on\"\n"),
            ":5:8: DHCP is not there yet: say dhcp = \"off\"",
        ),
        (format!("{port}mtu = 9\n"), ":5:7: mtu must be between 1280"),
        (format!("{port}mac = \n"), ":5:7: "),
        (String::new(), ": there is no [[port]]"),
        (
            format!("{port}[[serve]]\nkind = \"http\"\nlisten = \"[::]:80\"\nroot = \"nowhere\"\n"),
            "cannot serve ",
        ),
        (
            format!("{port}pcap = \"nowhere/a.pcapng\"\n"),
            "cannot write ",
        ),
    ] {
        std::fs::write(path, &text).expect("the file can be written");
        let said = refusal(&["up", "--check", "-c", path]);
        let place = said
            .strip_prefix("millstream: ")
            .expect("the program's name first");
        let place = place.strip_prefix(path).unwrap_or(place);
        assert!(place.starts_with(expected), "{text}\nsaid: {said}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_a_remedy() {
    let said = refusal(&["up", "-c", "no/such/file.toml"]);
    assert!(
        said.contains("cannot read no/such/file.toml")
            && said.contains("; give the path of a TOML file"),
        "{said}"
    );
    let said = refusal(&["up", "-c", "."]);
    assert!(said.contains("cannot read .: Is a directory"), "{said}");
}

#[test]
fn a_demo_that_cannot_publish_changes_nothing_and_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let said = refusal(&["demo", "--publish", &address]);
    assert!(
        said.contains("cannot publish")
            && said.ends_with("choose another with --publish PORT, or 0 for any free one"),
        "{said}"
    );
}
