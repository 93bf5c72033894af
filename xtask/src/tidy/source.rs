//! A Rust file as a flat list of tokens with lines, each known to be of a test or not.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

use super::Finding;
use super::laws::{ROOMS, Room};

/// One token. Groups are flattened into their brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Ident(String),
    Punct(char),
    /// `::`, kept whole because paths are what the laws speak of.
    PathSep,
    Open(char),
    Close(char),
    Literal,
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
    /// Inside an item that is only compiled for tests.
    pub(super) test: bool,
}

impl Token {
    pub(super) fn is_ident(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Ident(ident) if ident == word)
    }
}

#[derive(Debug)]
pub(super) struct Source {
    /// From the repository's top.
    pub(super) path: String,
    pub(super) lines: Vec<String>,
    pub(super) tokens: Vec<Token>,
    /// The whole file is only compiled for tests.
    pub(super) test_file: bool,
    /// Lines of inline `#[cfg(test)]` items.
    pub(super) test_lines: usize,
    /// Names of modules declared `#[cfg(test)] mod name;`.
    test_modules: Vec<String>,
}

impl Source {
    pub(super) fn read(path: &str, text: &str) -> Result<Source, Finding> {
        let stream: TokenStream = text.parse().map_err(|error: proc_macro2::LexError| {
            let line = error.span().start().line;
            Finding::new(path, line, "this is not Rust", "make it compile first")
        })?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let mut source = Source {
            path: path.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            tokens,
            test_file: is_test_path(path),
            test_lines: 0,
            test_modules: Vec::new(),
        };
        source.mark_test_items();
        Ok(source)
    }

    /// The room this file stands in.
    pub(super) fn room(&self) -> Option<&'static Room> {
        ROOMS.iter().find(|room| {
            self.path
                .strip_prefix(room.folder)
                .is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// The module this file is, from `src/` and without its ending: `pool`, `tcp/recv`, `pool/mod`.
    pub(super) fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix(self.room()?.folder)?;
        inside.strip_prefix("/src/")?.strip_suffix(".rs")
    }

    /// This file is the module `name`, or stands inside it; `tests/name` is an integration test of the room.
    pub(super) fn is_in_module(&self, name: &str) -> bool {
        let whole = self.room().and_then(|room| {
            let inside = self.path.strip_prefix(room.folder)?;
            inside.strip_prefix('/')?.strip_suffix(".rs")
        });
        let path = if name.starts_with("tests/") {
            whole
        } else {
            self.module()
        };
        path.and_then(|module| module.strip_prefix(name))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn mark_test_items(&mut self) {
        let mut at = 0;
        while at < self.tokens.len() {
            if let Some(body) = test_attribute(&self.tokens[at..]) {
                let end = at + body + item_length(&self.tokens[at + body..]);
                let item = &mut self.tokens[at..end];
                self.test_lines += item.last().map_or(0, |last| last.line + 1 - item[0].line);
                for token in item {
                    token.test = true;
                }
                self.test_modules
                    .extend(declared_module(&self.tokens[at + body..end]));
                at = end;
            } else {
                at += 1;
            }
        }
    }
}

/// Marks the files of modules that were declared `#[cfg(test)] mod name;` somewhere else.
pub(super) fn mark_test_files(sources: &mut [Source]) {
    let mut prefixes = Vec::new();
    for source in sources.iter() {
        let Some(folder) = children_folder(&source.path) else {
            continue;
        };
        prefixes.extend(
            source
                .test_modules
                .iter()
                .map(|module| format!("{folder}/{module}")),
        );
    }
    for source in sources.iter_mut() {
        let stem = source.path.trim_end_matches(".rs");
        let inside = |prefix: &String| {
            stem.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        source.test_file |= prefixes.iter().any(inside);
    }
}

/// Where the child modules of the file at `path` stand.
fn children_folder(path: &str) -> Option<&str> {
    let stem = path.strip_suffix(".rs")?;
    let (folder, name) = stem.rsplit_once('/')?;
    Some(if matches!(name, "lib" | "main" | "mod") {
        folder
    } else {
        stem
    })
}

/// Integration tests, sibling `tests.rs` files and folders of tests; `tests/src` is the interop room's library.
fn is_test_path(path: &str) -> bool {
    let in_tests = path.contains("/tests/") || path.ends_with("/tests.rs");
    in_tests || path.starts_with("tests/") || path.contains("/benches/")
}

fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    let mut previous_joined_colon = false;
    for tree in stream {
        let line = tree.span().start().line;
        let mut push = |kind, line| {
            out.push(Token {
                kind,
                line,
                test: false,
            })
        };
        let mut joined_colon = false;
        match tree {
            TokenTree::Ident(ident) => push(Kind::Ident(ident.to_string()), line),
            TokenTree::Literal(_) => push(Kind::Literal, line),
            TokenTree::Punct(punct) if punct.as_char() == ':' && previous_joined_colon => {
                out.pop();
                out.push(Token {
                    kind: Kind::PathSep,
                    line,
                    test: false,
                });
            }
            TokenTree::Punct(punct) => {
                joined_colon = punct.as_char() == ':' && punct.spacing() == Spacing::Joint;
                push(Kind::Punct(punct.as_char()), line);
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ('(', ')'),
                    Delimiter::Brace => ('{', '}'),
                    Delimiter::Bracket => ('[', ']'),
                    Delimiter::None => (' ', ' '),
                };
                push(Kind::Open(open), group.span_open().start().line);
                flatten(group.stream(), out);
                out.push(Token {
                    kind: Kind::Close(close),
                    line: group.span_close().end().line,
                    test: false,
                });
            }
        }
        previous_joined_colon = joined_colon;
    }
}

/// The length of the attribute at the start of `tokens`, if it says "only for tests".
fn test_attribute(tokens: &[Token]) -> Option<usize> {
    let length = attribute_length(tokens)?;
    let words: Vec<&str> = tokens[..length]
        .iter()
        .filter_map(|token| match &token.kind {
            Kind::Ident(ident) => Some(ident.as_str()),
            _ => None,
        })
        .collect();
    let only_tests = matches!(
        words.as_slice(),
        ["test"] | ["cfg", "test"] | ["cfg", "all", "test", ..]
    );
    only_tests.then_some(length)
}

/// The length of the outer attribute at the start of `tokens`.
pub(super) fn attribute_length(tokens: &[Token]) -> Option<usize> {
    match tokens {
        [hash, open, ..] if hash.kind == Kind::Punct('#') && open.kind == Kind::Open('[') => {
            Some(1 + group_length(&tokens[1..]))
        }
        _ => None,
    }
}

/// The length of the bracketed group that `tokens` starts with.
fn group_length(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(_) => {
                depth -= 1;
                if depth == 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// The length of the item that `tokens` starts with: further attributes, then up to its `;` or its braces.
fn item_length(tokens: &[Token]) -> usize {
    let mut at = 0;
    while let Some(length) = attribute_length(&tokens[at..]) {
        at += length;
    }
    let mut ends_at_semicolon = false; // `use` has braces inside
    while let Some(token) = tokens.get(at) {
        match &token.kind {
            Kind::Ident(word) if word == "use" => ends_at_semicolon = true,
            Kind::Punct(';') => return at + 1,
            Kind::Open(open) => {
                let braces = *open == '{';
                at += group_length(&tokens[at..]);
                if braces && !ends_at_semicolon {
                    return at;
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    tokens.len()
}

/// The name in `mod name;`.
fn declared_module(item: &[Token]) -> Option<String> {
    match item {
        [
            ..,
            module,
            Token {
                kind: Kind::Ident(name),
                ..
            },
            end,
        ] if module.is_ident("mod") && end.kind == Kind::Punct(';') => Some(name.clone()),
        _ => None,
    }
}
