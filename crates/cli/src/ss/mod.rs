//! `millstream ss`: the sockets of a running host, as ss(8) shows the kernel's.
//!
//! What does not live here: where they come from (`ask`, the crate `control`).
//!
//! Invariant: the list is read in pages; the host works on in between.

mod details;
mod explain;
mod objects;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use control::states;
use control::words::socket::{Filter, Page, Socket, Summary};
use control::words::{Answer, Question};
use serde::Serialize;

use crate::args;
use crate::ask::Asked;
use crate::check::report::Style;
use crate::failure::Failure;
use crate::units;

/// Prints what was asked for.
///
/// # Errors
/// No host runs, or it does not answer.
pub(crate) fn run(args: &args::Ss) -> Result<ExitCode, Failure> {
    let mut asked = Asked::find(args.host.as_deref())?;
    let style = Style::of_stdout();
    let mut out = io::stdout().lock();
    let written = write(&mut out, &mut asked, args, style)?;
    match written.and_then(|()| out.flush()) {
        // Whoever looks has seen enough, as in `millstream ss | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(Failure::told(format_args!("cannot print: {error}"))),
        Ok(()) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks, and writes what was answered: whether it could be written, too.
fn write(
    out: &mut impl Write,
    asked: &mut Asked,
    args: &args::Ss,
    style: Style,
) -> Result<io::Result<()>, Failure> {
    if args.summary {
        let Answer::Summary(summary) = asked.ask(&Question::Summary)? else {
            return Err(asked.astray());
        };
        return Ok(match args.json {
            true => json(out, &summary),
            false => summarise(out, &summary, &asked.name, style),
        });
    }
    if args.explain {
        let Answer::Census(census) = asked.ask(&Question::Census)? else {
            return Err(asked.astray());
        };
        let told = explain::Explanation::of(&asked.name, &census);
        return Ok(match args.json {
            true => json(out, &told),
            false => explain::write(out, &told, style),
        });
    }
    if args.buffers || args.epoll || args.completion {
        let Answer::Objects(objects) = asked.ask(&Question::Objects)? else {
            return Err(asked.astray());
        };
        return Ok(match args.json {
            true => json(out, &objects),
            false => objects::write(out, &objects, args, style),
        });
    }
    let list = read(asked, args)?;
    Ok(match args.json {
        true => json(out, &list),
        false => table::write(out, &list, args, style),
    })
}

/// The list of a host.
#[derive(Debug, Serialize)]
struct List {
    host: String,
    /// Sockets the host has, wanted or not.
    total: u32,
    /// Whether more are wanted than are listed.
    cut: bool,
    sockets: Vec<Socket>,
}

fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Reads the list, page by page, up to the limit.
fn read(asked: &mut Asked, args: &args::Ss) -> Result<List, Failure> {
    let filter = filter(args);
    let most = match args.limit {
        0 => usize::MAX,
        most => most,
    };
    let mut list = List {
        host: asked.name.clone(),
        total: 0,
        cut: false,
        sockets: Vec::new(),
    };
    let mut place = None;
    loop {
        let answer = asked.ask(&Question::Sockets { filter, place })?;
        let Answer::Sockets(Page {
            sockets,
            next,
            total,
        }) = answer
        else {
            return Err(asked.astray());
        };
        list.total = total;
        list.sockets.extend(sockets);
        if list.sockets.len() > most {
            list.sockets.truncate(most);
            list.cut = true;
            return Ok(list);
        }
        place = next;
        if place.is_none() {
            return Ok(list);
        }
    }
}

/// Which sockets are asked for, by the rules of ss(8).
fn filter(args: &args::Ss) -> Filter {
    let set = |name| states(name).unwrap_or(u16::MAX);
    let states = if !args.state.is_empty() {
        args.state.iter().fold(0, |all, one| all | one)
    } else if args.all {
        set("all")
    } else if args.listening {
        set("listening")
    } else {
        set("default")
    };
    Filter {
        tcp: args.tcp || !args.udp,
        udp: args.udp || !args.tcp,
        v4: args.ipv4 || !args.ipv6,
        v6: args.ipv6 || !args.ipv4,
        states,
        sport: args.sport,
        dport: args.dport,
    }
}

/// How many there are of what, and what has happened.
fn summarise(out: &mut impl Write, summary: &Summary, host: &str, style: Style) -> io::Result<()> {
    let (tcp, udp) = (
        summary.tcp_v4 + summary.tcp_v6,
        summary.udp_v4 + summary.udp_v6,
    );
    let uptime = units::duration(std::time::Duration::from_millis(summary.uptime_ms));
    writeln!(
        out,
        "{}  {} sockets, up {uptime}\n",
        style.paint("1", host),
        units::count(tcp + udp),
    )?;
    let head = format!(
        "{:<10}{:>12}{:>12}{:>12}",
        "Transport", "Total", "IPv4", "IPv6"
    );
    writeln!(out, "{}", style.paint("1", &head))?;
    for (name, v4, v6) in [
        ("TCP", summary.tcp_v4, summary.tcp_v6),
        ("UDP", summary.udp_v4, summary.udp_v6),
    ] {
        let number = units::count;
        writeln!(
            out,
            "{name:<10}{:>12}{:>12}{:>12}",
            number(v4 + v6),
            number(v4),
            number(v6)
        )?;
    }
    let memory = &summary.tcp_memory;
    let [low, pressure, max] = memory.levels.map(units::bytes);
    writeln!(
        out,
        "\nTCP memory {}{}; low {low}, pressure {pressure}, max {max}",
        units::bytes(memory.bytes),
        if memory.pressure {
            ", under pressure"
        } else {
            ""
        },
    )?;
    if !summary.states.is_empty() {
        writeln!(out, "\n{}", style.paint("1", "TCP by state"))?;
        for (state, count) in &summary.states {
            let name = table::painted(style, state, 12);
            writeln!(out, "  {name}{:>10}", units::count(*count))?;
        }
    }
    for (title, rows) in [("Events", &summary.events), ("Drops", &summary.drops)] {
        if rows.is_empty() {
            continue;
        }
        writeln!(out, "\n{}", style.paint("1", title))?;
        let widest = rows.iter().map(|(name, _, _)| name.chars().count()).max();
        let width = widest.unwrap_or_default();
        for (name, about, count) in rows {
            let line = format!("  {name:<width$}{:>14}  ", units::count(*count));
            let room = style.width.saturating_sub(line.chars().count());
            let about: String = match style.moving {
                true => about.chars().take(room).collect(),
                false => about.clone(),
            };
            writeln!(
                out,
                "{}",
                format!("{line}{}", style.paint("2", &about)).trim_end()
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
