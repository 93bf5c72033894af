//! The faces have the originals' methods with the originals' signatures, and docs/api.md says so truly.
//!
//! Each table names methods with their types; the same text is compiled against the original and against ours. What differs on
//! purpose is told in docs/api.md, whose rows are held against the tables here.
#![allow(
    clippy::unwrap_used,
    clippy::type_complexity,
    deprecated,
    unused_imports
)]

mod surface {
    pub(crate) mod completion;
    pub(crate) mod mio;
    pub(crate) mod std_net;
    #[cfg(feature = "tokio")]
    pub(crate) mod tokio_net;
}

use std::collections::BTreeSet;

/// A row of docs/api.md.
#[derive(Debug)]
struct Row {
    method: String,
    state: String,
    note: String,
}

/// The rows under the heading `## title`.
fn rows(title: &str) -> Vec<Row> {
    let page = include_str!("../../../docs/api.md");
    let heading = format!("## {title}\n");
    let section = page
        .split_once(&heading)
        .unwrap_or_else(|| panic!("docs/api.md has no '{heading}'"))
        .1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let method = cells.next()?.trim_end_matches('`').to_owned();
        let state = cells.next()?.to_owned();
        let note = cells.next()?.trim_end_matches('|').trim().to_owned();
        Some(Row {
            method,
            state,
            note,
        })
    });
    rows.collect()
}

/// Holds one section of the page against the methods that were compiled.
fn check(title: &str, compiled: &[&str]) {
    let rows = rows(title);
    assert!(!rows.is_empty(), "{title}");
    let said = |state: &str| -> BTreeSet<String> {
        let of = rows.iter().filter(|row| row.state == state);
        of.map(|row| row.method.clone()).collect()
    };
    for row in &rows {
        let states = ["same", "differs", "absent"];
        assert!(states.contains(&row.state.as_str()), "{title}: {row:?}");
        assert!(
            row.state == "same" || !row.note.is_empty(),
            "{title}: {row:?} wants a note"
        );
    }
    let mut there = said("same");
    there.extend(said("differs"));
    let compiled: BTreeSet<String> = compiled.iter().map(|&name| name.into()).collect();
    let missing: Vec<_> = compiled.symmetric_difference(&there).collect();
    assert!(
        missing.is_empty(),
        "{title}: docs/api.md and tests/surface disagree on {missing:?}"
    );
}

#[test]
fn std_net() {
    use surface::std_net::{LISTENER, STREAM, UDP};
    check("std::net::TcpListener", LISTENER);
    check("std::net::TcpStream", STREAM);
    check("std::net::UdpSocket", UDP);
}

/// The names of methods in the first cell of the rows under a heading, each with its type: of "`Event::token`, `is_error`" both are
/// of `Event`.
fn methods(title: &str, state: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for row in rows(title).iter().filter(|row| state(&row.state)) {
        let mut of = "";
        for name in row.method.split('`').filter(|name| *name != ", ") {
            of = name.split_once("::").map_or(of, |(of, _)| of);
            let name = name.split_once("::").map_or(name, |(_, name)| name);
            all.insert(format!("{of}::{name}"));
        }
    }
    all
}

#[test]
fn mio() {
    let mut said = methods("mio", |state| state != "absent");
    // What is no method of one of the types that have mio's names.
    said.retain(|name| name.starts_with(char::is_uppercase));
    let compiled = surface::mio::NAMES.iter().map(|name| (*name).to_owned());
    assert_eq!(said, compiled.collect());
}

#[test]
fn completion() {
    let said = methods("Completion queues", |_| true);
    let compiled = surface::completion::NAMES.iter();
    assert_eq!(said, compiled.map(|name| (*name).to_owned()).collect());
}

#[cfg(feature = "tokio")]
#[test]
fn tokio_net() {
    use surface::tokio_net as tokio;
    check("tokio::net::TcpListener", tokio::LISTENER);
    check("tokio::net::TcpStream", tokio::STREAM);
    check("tokio::net::TcpSocket", tokio::SOCKET);
    check("tokio::net::tcp::ReadHalf", tokio::READ_HALF);
    check("tokio::net::tcp::WriteHalf", tokio::WRITE_HALF);
    check("tokio::net::tcp::OwnedReadHalf", tokio::OWNED_READ_HALF);
    check("tokio::net::tcp::OwnedWriteHalf", tokio::OWNED_WRITE_HALF);
    check("tokio::net::UdpSocket", tokio::UDP);
}

/// The methods that a file of tokio's source has, in the order they stand there.
#[cfg(feature = "tokio")]
fn public(source: &str) -> Vec<String> {
    let lines = source.lines().map(str::trim_start);
    let functions = lines.filter_map(|line| {
        let line = line.strip_prefix("pub ")?;
        let line = line.strip_prefix("async ").unwrap_or(line);
        let name = line.strip_prefix("fn ")?;
        Some(name.split(['(', '<']).next()?.to_owned())
    });
    functions.collect()
}

/// No method of the tokio we are built with is missing from the page.
#[cfg(feature = "tokio")]
#[test]
fn nothing_of_tokio_is_forgotten() {
    let metadata = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata = String::from_utf8_lossy(&metadata.stdout).into_owned();
    let mut paths = metadata
        .split('"')
        .filter(|text| text.ends_with("/Cargo.toml"));
    let Some(manifest) = paths.find(|path| path.contains("/tokio-1.")) else {
        eprintln!("skipped: cargo does not say where tokio's source is");
        return;
    };
    let net = std::path::Path::new(manifest)
        .with_file_name("src")
        .join("net");
    for (file, titles) in [
        ("tcp/listener.rs", &["tokio::net::TcpListener"][..]),
        ("tcp/stream.rs", &["tokio::net::TcpStream"]),
        ("tcp/socket.rs", &["tokio::net::TcpSocket"]),
        (
            "tcp/split.rs",
            &["tokio::net::tcp::ReadHalf", "tokio::net::tcp::WriteHalf"],
        ),
        (
            "tcp/split_owned.rs",
            &[
                "tokio::net::tcp::OwnedReadHalf",
                "tokio::net::tcp::OwnedWriteHalf",
            ],
        ),
        ("udp.rs", &["tokio::net::UdpSocket"]),
    ] {
        let source = std::fs::read_to_string(net.join(file)).unwrap();
        let said: Vec<Row> = titles.iter().flat_map(|title| rows(title)).collect();
        for method in public(&source) {
            let there = said.iter().any(|row| row.method == method);
            assert!(
                there,
                "docs/api.md says nothing of {method} in tokio's {file}"
            );
        }
    }
}
