//! The table of sockets.
//!
//! What does not live here: what the line below a connection says (`details`).

use std::io::{self, Write};
use std::net::SocketAddr;

use control::words::socket::Socket;

use super::{List, details};
use crate::args;
use crate::check::report::Style;
use crate::units;

/// How far the line below a connection is indented.
const INDENT: &str = "    ";

/// The titles of the columns; the first is left out when only one kind of socket is asked for, as ss(8) does.
const TITLES: [&str; 6] = [
    "Netid",
    "State",
    "Recv-Q",
    "Send-Q",
    "Local Address:Port",
    "Peer Address:Port",
];

/// A state in its colour, padded.
pub(super) fn painted(style: Style, state: &str, width: usize) -> String {
    let sgr = match state {
        "ESTAB" => "32",
        "LISTEN" | "UNCONN" => "36",
        "TIME-WAIT" => "2",
        _ => "33",
    };
    style.paint(sgr, &format!("{state:<width$}"))
}

/// An address as ss(8) writes it: a port of nought is any, and so is an address of nought.
fn address(addr: &SocketAddr, device: Option<&str>) -> String {
    let port = match addr.port() {
        0 => "*".to_owned(),
        port => port.to_string(),
    };
    let device = device.map_or(String::new(), |device| format!("%{device}"));
    match addr.ip() {
        std::net::IpAddr::V4(ip) => format!("{ip}{device}:{port}"),
        std::net::IpAddr::V6(ip) => format!("[{ip}]{device}:{port}"),
    }
}

/// Writes the list.
pub(super) fn write(
    out: &mut impl Write,
    list: &List,
    args: &args::Ss,
    style: Style,
) -> io::Result<()> {
    let both = args.tcp == args.udp;
    let skipped = usize::from(!both);
    let cells = |s: &Socket| {
        [
            s.netid.clone(),
            s.state.clone(),
            s.recv_q.to_string(),
            s.send_q.to_string(),
            address(&s.local, s.device.as_deref()),
            address(&s.peer, None),
        ]
    };
    let rows: Vec<[String; 6]> = list.sockets.iter().map(cells).collect();
    let width = |at: usize| {
        let widest = rows.iter().map(|row| row[at].chars().count()).max();
        widest.unwrap_or_default().max(TITLES[at].len())
    };
    let widths: Vec<usize> = (0..TITLES.len()).map(width).collect();
    let line = |row: [&str; 6], plain: bool| {
        let mut text = String::new();
        for (at, cell) in row.iter().enumerate().skip(skipped) {
            let width = widths[at];
            match at {
                1 if !plain => text.push_str(&painted(style, cell, width)),
                2 | 3 => text.push_str(&format!("{cell:>width$}")),
                5 => text.push_str(cell),
                _ => text.push_str(&format!("{cell:<width$}")),
            }
            if at < 5 {
                text.push_str("  ");
            }
        }
        text
    };
    if !args.no_header {
        writeln!(out, "{}", style.paint("1", &line(TITLES, true)))?;
    }
    for (row, socket) in rows.iter().zip(&list.sockets) {
        let row = row.each_ref().map(String::as_str);
        writeln!(out, "{}", line(row, false))?;
        let words = details::words(socket, args.info, args.memory);
        if !words.is_empty() {
            wrap(out, &words, style)?;
        }
    }
    foot(out, list, style)
}

/// The words below a connection: on a terminal as many lines as they need, else one.
fn wrap(out: &mut impl Write, words: &[String], style: Style) -> io::Result<()> {
    let width = if style.moving {
        style.width.max(40)
    } else {
        usize::MAX
    };
    let mut line = INDENT.to_owned();
    for word in words {
        let used = line.chars().count();
        if used > INDENT.len() {
            if used + 1 + word.chars().count() > width {
                writeln!(out, "{}", style.paint("2", &line))?;
                line.truncate(INDENT.len());
            } else {
                line.push(' ');
            }
        }
        line.push_str(word);
    }
    writeln!(out, "{}", style.paint("2", &line))
}

/// Of how many these are, when it is not all.
fn foot(out: &mut impl Write, list: &List, style: Style) -> io::Result<()> {
    if !list.cut {
        return Ok(());
    }
    let shown = units::count(list.sockets.len() as u64);
    let total = units::count(u64::from(list.total));
    let text = format!(
        "The first {shown} of {}'s {total} sockets that are wanted; --limit 0 shows all.",
        list.host
    );
    writeln!(out, "{}", style.paint("33", &text))
}
