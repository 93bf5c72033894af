//! Laws about one Rust file: module doc, unsafe and its proofs, purity, length.

use super::laws::{
    IMPURE_CALLS, IMPURE_MACROS, IMPURE_PATHS, INLINE_TESTS_FREE, KERNEL_CRATES, KERNEL_MODULES,
    LINES_MAX, LINES_WARNED,
};
use super::source::{Kind, Source, Token};
use super::{Finding, Report};

pub(super) fn check(source: &Source, report: &mut Report) {
    check_module_doc(source, report);
    check_length(source, report);
    check_unsafe(source, report);
    check_forbids_unsafe(source, report);
    if source.room().is_some_and(|room| room.pure) && !source.test_file {
        check_purity(source, report);
    }
}

fn check_module_doc(source: &Source, report: &mut Report) {
    // `x/tests.rs` is the tests of `x`, and its name says so.
    if source.path.ends_with("/tests.rs") {
        return;
    }
    let first = source.lines.first().map_or("", String::as_str);
    if first
        .strip_prefix("//!")
        .is_none_or(|text| text.trim().is_empty())
    {
        report.breaches.push(Finding::new(
            &source.path,
            1,
            "no module doc",
            "begin the file with a `//!` line that says what it is, then what does not live here, then invariants",
        ));
    }
}

fn check_length(source: &Source, report: &mut Report) {
    if source.test_file {
        return;
    }
    let lines = source.lines.len().saturating_sub(source.test_lines);
    let finding = |what| {
        Finding::new(
            &source.path,
            1,
            what,
            "a file this long is a room that wants a wall: split it",
        )
    };
    if lines > LINES_MAX {
        report.breaches.push(finding(format!(
            "{lines} lines without tests, more than {LINES_MAX}"
        )));
    } else if lines > LINES_WARNED {
        report.warnings.push(finding(format!(
            "{lines} lines without tests, the limit is {LINES_MAX}"
        )));
    }
    if source.test_lines > lines.max(INLINE_TESTS_FREE) {
        report.breaches.push(Finding::new(
            &source.path,
            1,
            format!(
                "{} lines of inline tests outweigh {lines} lines of code",
                source.test_lines
            ),
            "move the tests to a sibling `tests.rs`",
        ));
    }
}

fn check_unsafe(source: &Source, report: &mut Report) {
    let allowed = source.room().is_some_and(|room| {
        room.unsafe_in
            .iter()
            .any(|module| *module == "*" || source.is_in_module(module))
    });
    for (index, token) in source.tokens.iter().enumerate() {
        if !token.is_ident("unsafe") {
            continue;
        }
        if !allowed {
            report.breaches.push(Finding::new(
                &source.path,
                token.line,
                "unsafe outside the rooms that may",
                "use a safe interface of base, port or netns, or add what is missing there",
            ));
        } else if !is_function_type(&source.tokens[index + 1..])
            && !has_proof(&source.lines, token.line)
        {
            report.breaches.push(Finding::new(
                &source.path,
                token.line,
                "unsafe without a proof",
                "say in a `// SAFETY:` comment right above (`# Safety` doc for an unsafe fn) why it is sound",
            ));
        }
    }
}

/// `unsafe fn(..)` and `unsafe extern "C" fn(..)` as types promise nothing themselves.
fn is_function_type(after: &[Token]) -> bool {
    let rest = match after {
        [external, abi, rest @ ..] if external.is_ident("extern") && abi.kind == Kind::Literal => {
            rest
        }
        rest => rest,
    };
    matches!(rest, [function, open, ..] if function.is_ident("fn") && open.kind == Kind::Open('('))
}

/// A `SAFETY:` comment on line `line` (from 1), or above it with nothing but its own statement between.
fn has_proof(lines: &[String], line: usize) -> bool {
    let proves = |text: &str| text.contains("// SAFETY:") || text.contains("# Safety");
    let Some(before) = lines.get(..line) else {
        return false;
    };
    let mut upwards = before.iter().rev();
    if upwards.next().is_some_and(|own| proves(own)) {
        return true;
    }
    for text in upwards {
        let text = text.trim();
        if proves(text) {
            return true;
        }
        let comment_or_attribute = text.starts_with("//") || text.starts_with("#[");
        let previous_statement = text.is_empty() || text.ends_with([';', '{', '}']);
        if previous_statement && !comment_or_attribute {
            return false;
        }
    }
    false
}

/// The root of a crate that may hold no unsafe code says so to the compiler too, which sees through macros.
fn check_forbids_unsafe(source: &Source, report: &mut Report) {
    let Some(room) = source.room() else { return };
    let is_root = matches!(source.module(), Some("lib" | "main"));
    if !is_root || !room.unsafe_in.is_empty() {
        return;
    }
    let forbids = source
        .tokens
        .windows(3)
        .any(|window| window[0].is_ident("forbid") && window[2].is_ident("unsafe_code"));
    if !forbids {
        report.breaches.push(Finding::new(
            &source.path,
            1,
            "the crate does not forbid unsafe code",
            "add `#![forbid(unsafe_code)]` below the module doc",
        ));
    }
}

fn check_purity(source: &Source, report: &mut Report) {
    const REMEDY: &str =
        "take time, randomness and packets as arguments; the engine owns clocks, threads and files";
    let mut breach = |line, what: String| {
        report
            .breaches
            .push(Finding::new(&source.path, line, what, REMEDY))
    };
    let may_ask_kernel = KERNEL_MODULES.iter().any(|(room, module)| {
        source.room().is_some_and(|ours| ours.name == *room) && source.is_in_module(module)
    });

    let tokens = &source.tokens;
    for (index, token) in tokens.iter().enumerate() {
        let Kind::Ident(word) = &token.kind else {
            continue;
        };
        if token.test {
            continue;
        }
        let word = word.as_str();
        let previous = index.checked_sub(1).and_then(|before| tokens.get(before));
        let next = tokens.get(index + 1).map(|token| &token.kind);
        let is_path_start = next == Some(&Kind::PathSep);
        if word == "std" {
            if is_path_start {
                for (path, line) in paths(&tokens[index + 1..], token.line) {
                    if is_impure(&path) {
                        breach(line, format!("`std::{}` in a pure room", path.join("::")));
                    }
                }
            } else if previous.is_some_and(|token| token.is_ident("use") || token.is_ident("crate"))
            {
                breach(
                    token.line,
                    "all of `std` imported into a pure room".to_owned(),
                );
            }
        } else if KERNEL_CRATES.contains(&word) && !may_ask_kernel {
            if is_path_start || previous.is_some_and(|token| token.is_ident("use")) {
                breach(token.line, format!("`{word}` in a pure room"));
            }
        } else if IMPURE_MACROS.contains(&word) && next == Some(&Kind::Punct('!')) {
            breach(token.line, format!("`{word}!` in a pure room"));
        } else if IMPURE_CALLS.contains(&word)
            && next == Some(&Kind::Open('('))
            && !previous.is_some_and(|token| token.is_ident("fn") || token.kind == Kind::Punct('.'))
        {
            breach(token.line, format!("`{word}()` in a pure room"));
        }
    }
}

/// `path` (below `std`) is on the list, or is a module that would bring something on the list with it.
fn is_impure(path: &[&str]) -> bool {
    let (path, whole_module) = match path.split_last() {
        Some((&("*" | "self"), module)) => (module, true),
        _ => (path, false),
    };
    IMPURE_PATHS.iter().any(|impure| {
        path.starts_with(impure) || impure.starts_with(path) && (whole_module || is_import(path))
    })
}

/// A bare module name: naming it alone can only be an import.
fn is_import(path: &[&str]) -> bool {
    path.last()
        .is_some_and(|last| last.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

/// Every path in the tree that follows a first segment, each with its line; `tokens` starts at the `::`.
fn paths(tokens: &[Token], line: usize) -> Vec<(Vec<&str>, usize)> {
    let mut out = Vec::new();
    follow(tokens, line, &mut Vec::new(), &mut out);
    out
}

/// Follows one path, forking at braces; gives how many tokens it took.
fn follow<'a>(
    tokens: &'a [Token],
    line: usize,
    prefix: &mut Vec<&'a str>,
    out: &mut Vec<(Vec<&'a str>, usize)>,
) -> usize {
    if tokens
        .first()
        .is_none_or(|token| token.kind != Kind::PathSep)
    {
        out.push((prefix.clone(), line));
        return 0;
    }
    match tokens.get(1) {
        Some(Token {
            kind: Kind::Ident(word),
            line,
            ..
        }) => {
            prefix.push(word);
            let taken = follow(&tokens[2..], *line, prefix, out);
            prefix.pop();
            2 + taken
        }
        Some(Token {
            kind: Kind::Punct('*'),
            line,
            ..
        }) => {
            prefix.push("*");
            out.push((prefix.clone(), *line));
            prefix.pop();
            2
        }
        Some(Token {
            kind: Kind::Open('{'),
            ..
        }) => {
            let mut at = 2;
            while let Some(token) = tokens.get(at) {
                match &token.kind {
                    Kind::Close(_) => break,
                    Kind::Ident(word) => {
                        prefix.push(word);
                        at += 1 + follow(&tokens[at + 1..], token.line, prefix, out);
                        prefix.pop();
                        // `as name` renames: the name is not a path of its own.
                        if tokens.get(at).is_some_and(|token| token.is_ident("as")) {
                            at += 2;
                        }
                    }
                    Kind::Punct('*') => {
                        prefix.push("*");
                        out.push((prefix.clone(), token.line));
                        prefix.pop();
                        at += 1;
                    }
                    _ => at += 1,
                }
            }
            at + 1
        }
        _ => {
            out.push((prefix.clone(), line));
            1
        }
    }
}
