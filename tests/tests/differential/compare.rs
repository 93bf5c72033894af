//! When two traces of one script are the same, and how a difference is shown.

use std::fmt::Write;
use std::time::Duration;

use wire::tcp::Flags;

use crate::peer::Seen;
use crate::script::{Act, Script};
use crate::stage::{Outcome, Play, Trace};

/// The first step at which the traces differ.
pub(crate) fn difference(kernel: &Trace, ours: &Trace) -> Option<usize> {
    let steps = kernel.steps.iter().zip(&ours.steps);
    steps.map(|(a, b)| same(a, b)).position(|same| !same)
}

fn same(a: &Outcome, b: &Outcome) -> bool {
    let mut both = a.seen.iter().zip(&b.seen);
    a.reply == b.reply && a.seen.len() == b.seen.len() && both.all(|(a, b)| alike(a, b))
}

fn alike(a: &Seen, b: &Seen) -> bool {
    let (mut a, b) = (plain(a), plain(b));
    // The kernel pushes the end of each super-frame, also of those it cuts itself.
    if !b.flags.contains(Flags::PSH) {
        a.flags = a.flags.without(Flags::PSH);
    }
    a == b || a == unreported(b)
}

/// Why the traces may differ at step `at`, if they may: what follows is another story then, and not compared. The reasons are in
/// docs/linux-differences.md.
pub(crate) fn allowed(
    script: &Script,
    kernel: &Trace,
    ours: &Trace,
    at: usize,
) -> Option<&'static str> {
    let poke = match &script.steps[at].act {
        Act::Poke(poke) => Some(poke),
        Act::Call(_) => None,
    };
    let reset = poke.is_some_and(|poke| poke.flags.contains(Flags::RST));
    let answers = poke.is_some_and(|poke| poke.flags == Flags::ACK && poke.len == 0);
    let before: Vec<&Seen> = kernel.steps[..at].iter().flat_map(|s| &s.seen).collect();
    let (a, b) = (&kernel.steps[at].seen, &ours.steps[at].seen);
    let same = a.iter().zip(b).take_while(|(a, b)| alike(a, b)).count();
    let sent: Vec<&Seen> = before.into_iter().chain(&a[..same]).collect();
    let out = sent.iter().map(|s| s.end()).max().unwrap_or(0);
    let (a, b) = (a.get(same)?, b.get(same));
    let bare = |s: &Seen| s.len == 0 && s.flags == Flags::ACK;
    if reset && bare(a) {
        return Some("a reset is never answered");
    }
    let begun = sent.iter().rposition(|s| s.flags.contains(Flags::SYN));
    let handshake = &sent[begun.map_or(0, |n| n + 1)..];
    let challenged = !handshake.is_empty() && handshake.iter().all(|s| bare(s));
    if challenged && a.echo.is_some() && (bare(a) || a.flags.contains(Flags::SYN)) {
        return Some("whoever echoes the stamp of a challenge is believed");
    }
    let again = |s: &Seen| s.len > 0 && s.end() <= out;
    if !script.offer.sack && answers && again(a) {
        return Some("without SACK it takes three duplicates");
    }
    let shortened = sent.iter().any(|s| s.len > 0 && !s.sack.is_empty());
    if shortened && again(a) && b.is_some_and(again) {
        return Some("what is sent again is cut anew");
    }
    let highest = |n: usize| sent[..n].iter().map(|s| s.end()).max();
    let probed = |n: usize| sent[n].len > 0 && highest(n) == Some(sent[n].end());
    let fin = a.flags.contains(Flags::FIN);
    let probes = (a.len > 0 && !again(a)) || (a.end() == out && (fin || a.len > 0));
    if (0..sent.len()).any(probed) && probes && b.is_none_or(again) {
        return Some("one probe of the tail at a time");
    }
    None
}

/// Without its D-SACK: Linux does not report duplicates among what it joins, and forgets one now and then.
fn unreported(mut seen: Seen) -> Seen {
    let joined =
        matches!(seen.sack[..], [(start, end), (from, to), ..] if from <= start && end <= to);
    let below = seen.sack.first().is_some_and(|(_, end)| *end <= seen.ack);
    if joined || below {
        seen.sack.remove(0);
    }
    seen
}

/// What counts of a segment.
fn plain(seen: &Seen) -> Seen {
    let mut seen = seen.clone();
    // Steps tell the order; timers tick more coarsely in the kernel.
    seen.at = Duration::ZERO;
    if seen.flags.contains(Flags::RST) {
        // Nobody reads them in a reset.
        seen.closed = false;
        seen.sack.clear();
    }
    seen
}

fn lines(outcome: &Outcome) -> Vec<String> {
    let reply = outcome.reply.map(|reply| match reply {
        None => "no socket".to_owned(),
        Some(Ok(value)) => format!("= {value}"),
        Some(Err(errno)) => format!("= {}", posix::Errno(errno)),
    });
    let seen = outcome.seen.iter().map(ToString::to_string);
    // Timers are to be told from answers.
    let late = |s: &Seen| (s.at - outcome.at).as_millis();
    let seen = seen.zip(&outcome.seen).map(|(text, s)| match late(s) {
        0 | 1 => text,
        ms => format!("{text}   after {ms} ms"),
    });
    reply.into_iter().chain(seen).collect()
}

/// The script with what both did, side by side.
pub(crate) fn show(kernel: &Play, ours: &Play) -> String {
    let script = &kernel.script;
    let mut text = format!(
        "seed {}, {:?}, {}, {:?}\n",
        script.seed,
        script.family,
        if script.active { "connects" } else { "listens" },
        script.offer
    );
    let at = difference(&kernel.trace, &ours.trace);
    let steps = script
        .steps
        .iter()
        .zip(&kernel.trace.steps)
        .zip(&ours.trace.steps);
    for (n, ((step, a), b)) in steps.enumerate() {
        let mark = if at == Some(n) { "*" } else { " " };
        let _ = writeln!(
            text,
            "{mark} {:>6.1} ms  {}",
            a.at.as_secs_f64() * 1e3,
            step.act
        );
        let (a, b) = (lines(a), lines(b));
        for line in 0..a.len().max(b.len()) {
            let [left, right] = [&a, &b].map(|lines| lines.get(line).map_or("-", String::as_str));
            let _ = if left == right {
                writeln!(text, "               {left}")
            } else {
                writeln!(text, "        kernel {left}\n          ours {right}")
            };
        }
    }
    text
}
