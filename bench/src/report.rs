//! Tables for people, JSON for machines.
//!
//! What does not live here: numbers.

use serde_json::{Map, Value, json};

/// A table being filled: one row per figure.
pub(crate) struct Report {
    title: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    json: bool,
    notes: Vec<String>,
}

impl Report {
    /// An empty table. The first column is a name, the others are right-aligned.
    pub(crate) fn new(title: &'static str, columns: &[&'static str], json: bool) -> Self {
        Self {
            title,
            columns: columns.to_vec(),
            rows: Vec::new(),
            json,
            notes: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.to_vec());
    }

    /// Adds a line below the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Prints it.
    pub(crate) fn print(&self) {
        if self.json {
            return println!("{}", self.as_json());
        }
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|c| {
                let cells = self
                    .rows
                    .iter()
                    .filter_map(|r| r.get(c))
                    .map(|s| s.chars().count());
                cells
                    .chain([self.columns[c].chars().count()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        println!("\n{}", self.title);
        let line = |cells: &[String]| {
            let text: Vec<String> = cells
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(at, (cell, width))| {
                    if at == 0 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                })
                .collect();
            println!("  {}", text.join("  ").trim_end());
        };
        line(
            &self
                .columns
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        );
        println!(
            "  {}",
            "-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1))
        );
        for row in &self.rows {
            line(row);
        }
        for note in &self.notes {
            println!("  {note}");
        }
    }

    fn as_json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let pairs = self.columns.iter().zip(row).map(|(name, cell)| {
                    let value = cell
                        .parse::<f64>()
                        .map_or_else(|_| json!(cell), |n| json!(n));
                    ((*name).to_string(), value)
                });
                Value::Object(pairs.collect::<Map<_, _>>())
            })
            .collect();
        json!({ "title": self.title, "rows": rows, "notes": self.notes })
    }
}

/// Prints several tables of one benchmark; as JSON they are one array.
pub(crate) fn print_all(reports: &[Report], json: bool) {
    if json {
        return println!(
            "{}",
            Value::Array(reports.iter().map(Report::as_json).collect())
        );
    }
    for report in reports {
        report.print();
    }
}

/// 1,234,567 as 1.23 M.
pub(crate) fn human(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} G", v / 1e9),
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.1}"),
    }
}
