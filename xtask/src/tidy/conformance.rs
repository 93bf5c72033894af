//! Laws about docs/conformance.md: a row that claims something names a test that exists.

use std::collections::{BTreeMap, BTreeSet};

use super::laws::CONFORMANCE_STATES;
use super::source::{Kind, Source, attribute_length};
use super::{Finding, Report};

pub(super) const PATH: &str = "docs/conformance.md";

/// RFC 9293 (appendix B) numbers its requirements from 1 to these; each of the 119 has one row.
const NUMBERED: [(&str, usize); 4] = [("MUST", 69), ("SHLD", 31), ("MAY", 18), ("REC", 1)];

pub(super) fn check(text: &str, sources: &[Source], report: &mut Report) {
    let tests = test_functions(sources);
    let mut rows: BTreeMap<String, usize> = NUMBERED
        .iter()
        .flat_map(|&(kind, most)| (1..=most).map(move |number| (format!("{kind}-{number}"), 0)))
        .collect();
    for (index, line) in text.lines().enumerate() {
        let Some(cells) = row(line) else { continue };
        let mut breach = |what: String, remedy| {
            report
                .breaches
                .push(Finding::new(PATH, index + 1, what, remedy))
        };
        let [_, requirement, state, evidence] = cells.as_slice() else {
            breach(
                "a row without four cells".to_owned(),
                "section, requirement, state, test",
            );
            continue;
        };
        if let Some((name, _)) = requirement.split_once(": ") {
            let kind = name.split('-').next().unwrap_or_default();
            match rows.get_mut(name) {
                Some(count) => *count += 1,
                None if name.contains('-') && NUMBERED.iter().any(|(known, _)| *known == kind) => {
                    breach(format!("RFC 9293 has no {name}"), "see its appendix B")
                }
                None => {}
            }
        }
        if !CONFORMANCE_STATES.contains(state) {
            breach(
                format!("'{state}' is not a state"),
                "met, partial, planned, unmet or waived",
            );
        }
        let named: Vec<&str> = evidence.split('`').skip(1).step_by(2).collect();
        if matches!(*state, "met" | "partial") && named.is_empty() {
            breach(
                format!("'{state}' without a test"),
                "name the test that shows it: `room::function`",
            );
        }
        // Test names stand between backticks; what is left is prose.
        let reason: usize = evidence.split('`').step_by(2).map(str::len).sum();
        if matches!(*state, "partial" | "unmet" | "waived") && reason < 8 {
            breach(
                format!("'{state}' without a reason"),
                "say in the last cell what is missing, or why, and what happens instead",
            );
        }
        for name in named.into_iter().filter(|name| !tests.contains(*name)) {
            breach(
                format!("there is no test `{name}`"),
                "write it `room::function`, as the test is called",
            );
        }
    }
    for (name, count) in rows.into_iter().filter(|(_, count)| *count != 1) {
        report.breaches.push(Finding::new(
            PATH,
            1,
            format!("{name} of RFC 9293 has {count} rows"),
            "give it exactly one",
        ));
    }
}

/// The cells of a table's row; `None` for its heading, its rule, and any other line.
fn row(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<&str> = inner.split('|').map(str::trim).collect();
    let is_heading = cells.get(2) == Some(&"State");
    let is_rule = cells
        .iter()
        .all(|cell| cell.chars().all(|c| c == '-' || c == ':'));
    // A table of two columns is prose, not a list of requirements.
    (!is_heading && !is_rule && cells.len() > 2).then_some(cells)
}

/// Every test, as `room::function`: a function with an attribute like `#[test]` or `#[tokio::test]`. Helpers are none.
fn test_functions(sources: &[Source]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in sources {
        let Some(room) = source.room() else { continue };
        let mut marked = false;
        let mut at = 0;
        while let Some(token) = source.tokens.get(at) {
            if let Some(length) = attribute_length(&source.tokens[at..]) {
                let words = &source.tokens[at..at + length];
                marked |= words.iter().any(|word| word.is_ident("test"))
                    && !words.iter().any(|word| word.is_ident("cfg"));
                at += length;
                continue;
            }
            match &token.kind {
                Kind::Ident(name) if marked && at > 0 && source.tokens[at - 1].is_ident("fn") => {
                    names.insert(format!("{}::{name}", room.name));
                    marked = false;
                }
                Kind::Open('{') | Kind::Punct(';') => marked = false,
                _ => {}
            }
            at += 1;
        }
    }
    names
}
