//! The board on a terminal: a line per check, a moving one for the check under way; plain lines when piped.
//!
//! What does not live here: JSON, which is the board's own (`board::Progress`).
//!
//! Invariant: without a terminal nothing is ever overwritten or coloured, so that a log reads as it was written.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::board::{Board, Row, Standing, Unit, standing};
use crate::units;

/// How often the moving line moves.
const FRAME: Duration = Duration::from_millis(100);

/// The narrowest and widest the names' column gets.
const NAME_WIDTH: std::ops::RangeInclusive<usize> = 24..=52;

/// Cells of the bar.
const BAR: usize = 12;

/// How to write: what the output can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// Lines may be written over.
    pub(crate) moving: bool,
    /// Colours are welcome.
    pub(crate) colour: bool,
    /// Columns of the terminal.
    pub(crate) width: usize,
}

impl Style {
    /// What standard output can show.
    pub(crate) fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width =
            rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        Self {
            moving: terminal && !dumb,
            colour: terminal && !dumb && !no_colour,
            width: if width == 0 { 100 } else { width },
        }
    }

    /// `text` in a colour (an SGR parameter), or as it is.
    pub(crate) fn paint(self, sgr: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{sgr}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }
}

/// Writes rows as they end until all have, or until `stop` says so; whether all rows have ended.
pub(crate) fn follow(
    board: &Board,
    style: Style,
    out: &mut impl Write,
    stop: impl Fn() -> bool,
) -> io::Result<bool> {
    let mut written = 0;
    let mut beat = 0;
    let mut rows = board.rows();
    let names = name_width(&rows);
    loop {
        let ended = rows
            .iter()
            .take_while(|row| row.standing.is_final())
            .count();
        if style.moving {
            write!(out, "\r\x1b[K")?;
        }
        for row in &rows[written..ended] {
            writeln!(out, "{}", ended_line(row, style, names))?;
        }
        written = ended;
        let done = ended == rows.len();
        if let Some(row) = rows.get(ended).filter(|_| style.moving && !stop()) {
            write!(
                out,
                "{}",
                cut(
                    &moving_line(row, beat, names),
                    style.width.saturating_sub(1)
                )
            )?;
        }
        out.flush()?;
        if done || stop() {
            return Ok(done);
        }
        beat += 1;
        rows = board.rows_after(FRAME);
    }
}

/// The last line: how many passed and how long it took.
pub(crate) fn summary(rows: &[Row], style: Style) -> String {
    let passed = rows
        .iter()
        .filter(|row| row.standing == Standing::Passed)
        .count();
    let took = units::duration(rows.iter().map(|row| row.took).sum());
    if standing(rows) == Standing::Passed {
        style.paint("1;32", &format!("All {passed} checks passed in {took}."))
    } else {
        let failed = rows.len() - passed;
        style.paint(
            "1;31",
            &format!("{failed} of {} checks did not pass ({took}).", rows.len()),
        )
    }
}

fn name_width(rows: &[Row]) -> usize {
    let widest = rows
        .iter()
        .map(|row| row.name.chars().count())
        .max()
        .unwrap_or(0);
    widest.clamp(*NAME_WIDTH.start(), *NAME_WIDTH.end())
}

fn ended_line(row: &Row, style: Style, names: usize) -> String {
    let passed = row.standing == Standing::Passed;
    let mark = match (style.moving, passed) {
        (true, true) => style.paint("32", "✓"),
        (true, false) => style.paint("31", "✗"),
        (false, true) => "pass".into(),
        (false, false) => "FAIL".into(),
    };
    let detail = if passed {
        row.detail.clone()
    } else {
        style.paint("31", &row.detail)
    };
    let took = style.paint("2", &format!("{:>8}", units::duration(row.took)));
    format!("  {mark}  {:names$}  {took}  {detail}", row.name)
}

fn moving_line(row: &Row, beat: usize, names: usize) -> String {
    const SPINNER: [char; 8] = ['⣷', '⣯', '⣟', '⡿', '⢿', '⣻', '⣽', '⣾'];
    let spinner = SPINNER[beat % SPINNER.len()];
    let (done, total) = row.gauge();
    let filled = if total == 0 {
        0
    } else {
        (done.min(total) as f64 / total as f64 * BAR as f64) as usize
    };
    let bar: String = (0..BAR)
        .map(|at| if at < filled { '━' } else { '─' })
        .collect();
    let amount = match row.unit {
        _ if total == 0 => String::new(),
        Unit::Replies => format!("{} of {} replies", units::count(done), units::count(total)),
        Unit::Connections => format!("{} of {}", units::count(done), units::count(total)),
        Unit::Milliseconds => format!("{:.1} of {:.1} s", done as f64 / 1e3, total as f64 / 1e3),
        Unit::Bytes => format!(
            "{}, {}",
            units::bytes(done),
            units::bit_rate(done, row.took)
        ),
    };
    let took = units::duration(row.took);
    format!(
        "  {spinner}  {:names$}  {took:>8}  {bar} {amount}",
        row.name
    )
}

/// At most `width` characters, as a line that wraps cannot be written over. Moving lines carry no colours.
fn cut(line: &str, width: usize) -> String {
    line.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::super::board::Finding;
    use super::*;

    fn board() -> std::sync::Arc<Board> {
        let board = Board::new(vec![
            Row::new("a", "ping IPv4, 56 bytes", Unit::Replies),
            Row::new("b", "download 1 GiB, digest", Unit::Bytes),
        ]);
        board.begin(0);
        board.end(
            0,
            Ok(Finding {
                detail: "5 of 5 replies".into(),
                measures: Vec::new(),
            }),
        );
        board
    }

    #[test]
    fn piped_output_is_plain_lines() {
        let board = board();
        board.begin(1);
        board.end(1, Err("connection refused".into()));
        let style = Style {
            moving: false,
            colour: false,
            width: 80,
        };
        let mut out = Vec::new();
        assert!(follow(&board, style, &mut out, || false).unwrap());
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains(['\x1b', '\r']), "{text:?}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("  pass  ping IPv4, 56 bytes  ")
                && lines[0].ends_with("5 of 5 replies")
        );
        assert!(
            lines[1].starts_with("  FAIL  download 1 GiB")
                && lines[1].ends_with("connection refused")
        );
        assert!(summary(&board.rows(), style).starts_with("1 of 2 checks did not pass"));
    }

    #[test]
    fn the_moving_line_never_wraps() {
        let board = board();
        let gauge = board.begin(1);
        gauge.expect(1 << 30);
        gauge.add(1 << 29);
        let style = Style {
            moving: true,
            colour: true,
            width: 60,
        };
        let mut out = Vec::new();
        assert!(!follow(&board, style, &mut out, || true).unwrap());
        assert!(String::from_utf8(out).unwrap().contains("✓"));
        let line = moving_line(&board.rows()[1], 3, 24);
        assert!(
            line.contains("━━━━━━──────") && line.contains("512 MiB"),
            "{line}"
        );
        assert_eq!(cut(&line, 59).chars().count(), 59);
    }
}
