//! The self-check's board: what is to be checked, what is under way, what came out.
//!
//! What does not live here: the checks (`check`), how the board looks on a terminal (`report`) or on the page.
//!
//! Invariant: whoever checks only writes, whoever shows only reads; a slow terminal never slows a check.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Where a row or the whole check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// Not begun.
    #[default]
    Waiting,
    /// Under way.
    Running,
    /// All as it should be.
    Passed,
    /// Something was wrong.
    Failed,
}

impl Standing {
    /// Whether nothing more will happen.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Passed | Self::Failed)
    }
}

/// How far a running check is: set by the check, read by whoever shows it.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    done: AtomicU64,
    total: AtomicU64,
}

impl Gauge {
    /// So much there is to do.
    pub(crate) fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// So much more is done.
    pub(crate) fn add(&self, done: u64) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }

    /// Done so far and in all.
    pub(crate) fn read(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }
}

/// What a gauge counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    /// Echo replies.
    Replies,
    /// Bytes.
    Bytes,
    /// Connections.
    Connections,
    /// Milliseconds of a measurement of fixed length.
    Milliseconds,
}

/// A figure a check measured, by name: `bits_per_second`, `median_microseconds`.
pub(crate) type Measure = (&'static str, f64);

/// What a check that passed has to say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    /// For people: `5 of 5 replies, median 41 µs`.
    pub(crate) detail: String,
    /// For programs.
    pub(crate) measures: Vec<Measure>,
}

/// One line of the board.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// For programs: `ping-v4-56`.
    pub(crate) id: &'static str,
    /// For people.
    pub(crate) name: String,
    /// Where it stands.
    pub(crate) standing: Standing,
    /// The finding's words, or what was wrong.
    pub(crate) detail: String,
    /// The finding's figures.
    pub(crate) measures: Vec<Measure>,
    /// How long it took, or has taken so far.
    pub(crate) took: Duration,
    /// What the gauge counts.
    pub(crate) unit: Unit,
    gauge: Arc<Gauge>,
    began: Option<Instant>,
}

impl Row {
    /// A row nobody has begun.
    pub(crate) fn new(id: &'static str, name: impl Into<String>, unit: Unit) -> Self {
        Self {
            id,
            name: name.into(),
            standing: Standing::Waiting,
            detail: String::new(),
            measures: Vec::new(),
            took: Duration::ZERO,
            unit,
            gauge: Arc::default(),
            began: None,
        }
    }

    /// Done so far and in all.
    pub(crate) fn gauge(&self) -> (u64, u64) {
        self.gauge.read()
    }
}

/// The rows and what is known of them.
#[derive(Debug)]
pub(crate) struct Board {
    rows: Mutex<Vec<Row>>,
    changed: Condvar,
}

impl Board {
    /// A board of rows to come.
    pub(crate) fn new(rows: Vec<Row>) -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::new(rows),
            changed: Condvar::new(),
        })
    }

    /// A row begins; its gauge.
    pub(crate) fn begin(&self, at: usize) -> Arc<Gauge> {
        let mut rows = self.lock();
        let row = &mut rows[at];
        row.standing = Standing::Running;
        row.began = Some(Instant::now());
        Arc::clone(&row.gauge)
    }

    /// A row ends.
    pub(crate) fn end(&self, at: usize, result: Result<Finding, String>) {
        let mut rows = self.lock();
        let row = &mut rows[at];
        row.took = row.began.map(|began| began.elapsed()).unwrap_or_default();
        match result {
            Ok(finding) => {
                row.standing = Standing::Passed;
                (row.detail, row.measures) = (finding.detail, finding.measures);
            }
            Err(wrong) => (row.standing, row.detail) = (Standing::Failed, wrong),
        }
        drop(rows);
        self.changed.notify_all();
    }

    /// A copy of all rows as they are now.
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.copy(&self.lock())
    }

    /// The same, but not before something has ended or `wait` has passed.
    pub(crate) fn rows_after(&self, wait: Duration) -> Vec<Row> {
        let waited = self.changed.wait_timeout(self.lock(), wait);
        self.copy(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// The board for programs.
    pub(crate) fn progress(&self) -> Progress {
        Progress::of(&self.rows())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy(&self, rows: &[Row]) -> Vec<Row> {
        let mut rows = rows.to_vec();
        for row in rows
            .iter_mut()
            .filter(|row| row.standing == Standing::Running)
        {
            row.took = row.began.map(|began| began.elapsed()).unwrap_or_default();
        }
        rows
    }
}

/// The standing of all rows together.
pub(crate) fn standing(rows: &[Row]) -> Standing {
    if rows.iter().all(|row| row.standing.is_final()) {
        let failed = rows.iter().any(|row| row.standing == Standing::Failed);
        if failed {
            Standing::Failed
        } else {
            Standing::Passed
        }
    } else if rows.iter().all(|row| row.standing == Standing::Waiting) {
        Standing::Waiting
    } else {
        Standing::Running
    }
}

/// The board as the page and `--json` get it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Progress {
    standing: Standing,
    rows: Vec<RowProgress>,
}

#[derive(Debug, Clone, Serialize)]
struct RowProgress {
    id: &'static str,
    name: String,
    standing: Standing,
    detail: String,
    duration_ms: f64,
    done: u64,
    total: u64,
    unit: Unit,
    measures: serde_json::Map<String, serde_json::Value>,
}

impl Progress {
    /// The progress of copied rows.
    pub(crate) fn of(rows: &[Row]) -> Self {
        let each = |row: &Row| {
            let (done, total) = row.gauge();
            RowProgress {
                id: row.id,
                name: row.name.clone(),
                standing: row.standing,
                detail: row.detail.clone(),
                duration_ms: (row.took.as_secs_f64() * 1e6).round() / 1e3,
                done,
                total,
                unit: row.unit,
                measures: row
                    .measures
                    .iter()
                    .map(|(name, value)| ((*name).into(), (*value).into()))
                    .collect(),
            }
        };
        Self {
            standing: standing(rows),
            rows: rows.iter().map(each).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_tells_how_far_it_is() {
        let board = Board::new(vec![
            Row::new("a", "A", Unit::Bytes),
            Row::new("b", "B", Unit::Replies),
        ]);
        assert_eq!(standing(&board.rows()), Standing::Waiting);
        let gauge = board.begin(0);
        gauge.expect(10);
        gauge.add(4);
        assert_eq!(standing(&board.rows()), Standing::Running);
        assert_eq!(board.rows()[0].gauge(), (4, 10));
        board.end(
            0,
            Ok(Finding {
                detail: "fine".into(),
                measures: vec![("x", 1.5)],
            }),
        );
        assert_eq!(standing(&board.rows()), Standing::Running);
        board.begin(1);
        board.end(1, Err("no reply".into()));
        let rows = board.rows_after(Duration::ZERO);
        assert_eq!(standing(&rows), Standing::Failed);
        let json = serde_json::to_value(Progress::of(&rows)).unwrap();
        assert_eq!(json["standing"], "failed");
        assert_eq!(json["rows"][0]["measures"]["x"], 1.5);
        assert_eq!(json["rows"][1]["detail"], "no reply");
    }
}
