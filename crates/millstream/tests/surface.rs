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
    pub(crate) mod std_net;
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

/// Holds one section of the page against the methods that were compiled: those of the original, and those that are ours only.
fn check(title: &str, same: &[&str], ours: &[&str]) {
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
    let compiled: BTreeSet<String> = same.iter().chain(ours).map(|&name| name.into()).collect();
    let missing: Vec<_> = compiled.symmetric_difference(&there).collect();
    assert!(
        missing.is_empty(),
        "{title}: docs/api.md and tests/surface disagree on {missing:?}"
    );
}

#[test]
fn std_net() {
    use surface::std_net::{LISTENER, STREAM, UDP};
    check("std::net::TcpListener", LISTENER, &[]);
    check("std::net::TcpStream", STREAM, &[]);
    check("std::net::UdpSocket", UDP, &[]);
}
