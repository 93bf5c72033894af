//! `millstream ss --explain`: what the host's numbers mean, for which application, and what to do about it.
//!
//! What does not live here: what is said of which numbers (`rules`).
//!
//! Invariant: nothing is said of a host that is well but that it is.

mod rules;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use control::words::census::Census;
use serde::Serialize;

use crate::check::report::Style;
use crate::units;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Something is refused, lost or about to be.
    Bad,
    /// Something grows, or is not as it should be.
    Warning,
}

/// One thing to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// A state, or what is short.
    pub(super) what: &'static str,
    /// The application: a listener's address, or a peer's; or the host.
    pub(super) place: String,
    pub(super) count: u64,
    /// How many, of how many.
    pub(super) amount: String,
    pub(super) means: String,
    pub(super) remedy: String,
    /// Peers that have most of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) peers: Vec<String>,
}

/// All there is to say of a host, the worst first.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub(super) host: String,
    pub(super) uptime_ms: u64,
    pub(super) sockets: u64,
    pub(super) findings: Vec<Finding>,
}

impl Explanation {
    pub(super) fn of(host: &str, census: &Census) -> Self {
        Self {
            host: host.to_owned(),
            uptime_ms: census.uptime_ms,
            sockets: census.sockets,
            findings: rules::findings(census),
        }
    }
}

/// The narrowest text is wrapped to.
const NARROWEST: usize = 48;
/// Columns between a finding's mark and its text.
const INDENT: usize = 3;

/// Writes it: a line for each finding, and below what it means and what to do.
pub(super) fn write(out: &mut impl Write, told: &Explanation, style: Style) -> io::Result<()> {
    let sockets = units::count(told.sockets);
    if told.findings.is_empty() {
        return writeln!(
            out,
            "{}: nothing to explain; of {sockets} TCP sockets none is stuck, no queue is full and no memory short.",
            told.host
        );
    }
    let things = match told.findings.len() {
        1 => "one thing".to_owned(),
        n => format!("{n} things"),
    };
    writeln!(
        out,
        "{}  {sockets} TCP sockets, up {}: {things} to look at",
        style.paint("1", &told.host),
        rules::time(told.uptime_ms),
    )?;
    let widest = |of: fn(&Finding) -> &str| {
        let widths = told.findings.iter().map(|found| of(found).chars().count());
        widths.max().unwrap_or_default()
    };
    let (what, place) = (widest(|f| f.what), widest(|f| &f.place));
    for found in &told.findings {
        let (mark, sgr) = match found.level {
            Level::Bad => ("!!", "1;31"),
            Level::Warning => ("! ", "1;33"),
        };
        writeln!(
            out,
            "\n{} {}  {:<place$}  {}",
            style.paint(sgr, mark),
            style.paint(sgr, &format!("{:<what$}", found.what)),
            found.place,
            found.amount
        )?;
        paragraph(out, style, "means", &found.means)?;
        paragraph(out, style, "do", &found.remedy)?;
        if !found.peers.is_empty() {
            paragraph(out, style, "peers", &found.peers.join(", "))?;
        }
    }
    Ok(())
}

/// A paragraph with its title in front, in lines no longer than the terminal is wide.
fn paragraph(out: &mut impl Write, style: Style, title: &str, text: &str) -> io::Result<()> {
    const TITLE: usize = 7;
    let width = style.width.max(NARROWEST) - INDENT - TITLE;
    let mut title = style.paint("2", &format!("{title:<TITLE$}"));
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            writeln!(out, "{:INDENT$}{title}{line}", "")?;
            title = " ".repeat(TITLE);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "{:INDENT$}{title}{line}", "")
}
