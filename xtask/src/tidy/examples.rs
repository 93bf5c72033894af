//! Law about examples: whatever a user imports is shown in use.
//!
//! Shown is what has an example in its own doc or is named in another's, and what leads to one: its doc begins "As ``[`..`]``", or says
//! "see ``[`..`]``" or "made by ``[`..`]``". Getters need none, nor does what is deprecated.

use std::collections::BTreeSet;

use super::laws::FACES;
use super::source::{Kind, Source, Token};
use super::{Finding, Report};

const FENCE: &str = "```";

pub(super) fn check(sources: &[Source], report: &mut Report) {
    let face = |source: &&Source| {
        !source.test_file && FACES.iter().any(|folder| source.path.starts_with(folder))
    };
    let mut shown = BTreeSet::new();
    for source in sources.iter().filter(face) {
        shown.extend(words_of_examples(&source.lines));
    }
    for source in sources.iter().filter(face) {
        for (index, token) in source.tokens.iter().enumerate() {
            if token.test || !token.is_ident("pub") {
                continue;
            }
            let Some((name, is_getter)) = item(&source.tokens[index + 1..]) else {
                continue;
            };
            let above = above(&source.lines, token.line);
            // What nobody can reach needs no doc, and what can be reached without one the compiler denies.
            let free = is_getter || above.doc.is_empty() || above.deprecated;
            if free || shown.contains(name) || leads_to_example(&above.doc) {
                continue;
            }
            report.breaches.push(Finding::new(
                &source.path,
                token.line,
                format!("no example shows `{name}`"),
                "put one into its doc or its type's, or lead to one: \"see [`Other`]\"",
            ));
        }
    }
}

/// The words in the examples of a file's docs.
fn words_of_examples(lines: &[String]) -> BTreeSet<&str> {
    let mut words = BTreeSet::new();
    let mut inside = false;
    for line in lines {
        let line = line.trim_start();
        let Some(text) = line.strip_prefix("///").or(line.strip_prefix("//!")) else {
            inside = false;
            continue;
        };
        if text.trim_start().starts_with(FENCE) {
            inside = !inside;
        } else if inside {
            words.extend(text.split(|c: char| c != '_' && !c.is_alphanumeric()));
        }
    }
    words
}

/// The name of the type or function that follows `pub`, and whether it is a getter: it takes nothing but itself, and gives
/// something at once.
fn item(mut tokens: &[Token]) -> Option<(&str, bool)> {
    let mut is_async = false;
    while let [word, rest @ ..] = tokens
        && ["async", "const", "unsafe"]
            .iter()
            .any(|w| word.is_ident(w))
    {
        is_async |= word.is_ident("async");
        tokens = rest;
    }
    let [kind, name, rest @ ..] = tokens else {
        return None;
    };
    let Kind::Ident(name) = &name.kind else {
        return None;
    };
    if kind.is_ident("fn") {
        return Some((name, !is_async && is_getter(rest)));
    }
    let is_type = ["enum", "struct", "trait"].iter().any(|w| kind.is_ident(w));
    is_type.then_some((name, false))
}

/// Whether what follows a function's name is `(self) ->`, by value or by reference.
fn is_getter(tokens: &[Token]) -> bool {
    let [open, rest @ ..] = tokens else {
        return false;
    };
    let Some(end) = rest.iter().position(|token| token.kind == Kind::Close(')')) else {
        return false;
    };
    let of_itself = rest[..end]
        .iter()
        .all(|token| token.is_ident("self") || token.kind == Kind::Punct('&'));
    let gives = rest[end + 1..].first().map(|token| &token.kind) == Some(&Kind::Punct('-'));
    open.kind == Kind::Open('(') && end > 0 && of_itself && gives
}

/// What stands above an item.
#[derive(Debug, Default)]
struct Above {
    /// Its doc, from the bottom up.
    doc: Vec<String>,
    deprecated: bool,
}

/// What stands above the item on line `line`, from 1.
fn above(lines: &[String], line: usize) -> Above {
    let mut above = Above::default();
    for text in lines[..line.saturating_sub(1)].iter().rev() {
        let text = text.trim_start();
        if let Some(doc) = text.strip_prefix("///") {
            above.doc.push(doc.to_owned());
        } else if text.starts_with("#[") {
            above.deprecated |= text.starts_with("#[deprecated");
        } else {
            break;
        }
    }
    above
}

fn leads_to_example(doc: &[String]) -> bool {
    const WAYS: [&str; 3] = ["see [`", "See [`", "made by [`"];
    let first = doc.last().map_or("", |line| line.trim_start());
    let leads = |line: &String| {
        line.trim_start().starts_with(FENCE) || WAYS.iter().any(|way| line.contains(way))
    };
    first.starts_with("As [`") || doc.iter().any(leads)
}
