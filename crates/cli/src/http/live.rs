//! The figures as a stream: one sampler for all who watch, server-sent events for each.
//!
//! What does not live here: what the figures mean (`view`) and the self-check's progress (`check::board`).
//!
//! Invariant: a host is looked at twice a second however many pages are open, and never while nobody can see it but to
//! keep the charts' past.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::check::board::{Board, Progress};
use crate::view::Stats;

/// How often the host is looked at.
pub(crate) const PERIOD: Duration = Duration::from_millis(500);

/// Samples kept for the charts of a page that is opened later: two minutes.
const HISTORY: usize = 240;

/// Events a slow page may lag behind before it misses some; each is whole, so missing one costs nothing.
const LAG: usize = 4;

/// Where the figures come from. May block for a moment.
pub(crate) type Source = Arc<dyn Fn() -> Stats + Send + Sync>;

/// The figures of one host, now and lately, and who watches them.
pub(crate) struct Live {
    source: Source,
    board: Option<Arc<Board>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    history: VecDeque<Sample>,
    watchers: Vec<mpsc::Sender<Bytes>>,
}

/// One point of the charts: totals, so that a reader takes differences.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    uptime_ms: u64,
    rx_bytes: u64,
    tx_bytes: u64,
    rx_frames: u64,
    tx_frames: u64,
    connections: u64,
}

/// What one event says.
#[derive(Serialize)]
struct Moment {
    #[serde(flatten)]
    stats: Stats,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Progress>,
}

impl Live {
    /// The figures of `source`, with the self-check's board when there is one.
    pub(crate) fn new(source: Source, board: Option<Arc<Board>>) -> Arc<Self> {
        Arc::new(Self {
            source,
            board,
            state: Mutex::default(),
        })
    }

    /// Samples until the runtime ends.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let Some(stats) = self.look().await else {
                return;
            };
            let event = {
                let mut state = self.state();
                if state.history.len() == HISTORY {
                    state.history.pop_front();
                }
                state.history.push_back(Sample::of(&stats));
                state.watchers.retain(|watcher| !watcher.is_closed());
                if state.watchers.is_empty() {
                    continue;
                }
                event(None, &self.moment(stats))
            };
            for watcher in &self.state().watchers {
                let _ = watcher.try_send(event.clone());
            }
        }
    }

    /// The figures now, as JSON with a newline.
    pub(crate) async fn now(&self) -> String {
        let stats = self.look().await.unwrap_or_default();
        let mut text = serde_json::to_string(&self.moment(stats)).unwrap_or_default();
        text.push('\n');
        text
    }

    /// An event stream: first the past as `event: history`, then a message every [`PERIOD`].
    pub(crate) fn subscribe(&self) -> Events {
        let (sender, receiver) = mpsc::channel(LAG);
        let mut state = self.state();
        let _ = sender.try_send(event(Some("history"), &state.history));
        state.watchers.push(sender);
        Events { receiver }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moment(&self, stats: Stats) -> Moment {
        Moment {
            stats,
            check: self.board.as_ref().map(|board| board.progress()),
        }
    }

    async fn look(&self) -> Option<Stats> {
        let source = Arc::clone(&self.source);
        tokio::task::spawn_blocking(move || source()).await.ok()
    }
}

impl Sample {
    fn of(stats: &Stats) -> Self {
        let sum = |of: fn(&crate::view::PortFacts) -> u64| stats.ports.iter().map(of).sum();
        Self {
            uptime_ms: stats.uptime_ms,
            rx_bytes: sum(|port| port.rx_bytes),
            tx_bytes: sum(|port| port.tx_bytes),
            rx_frames: sum(|port| port.rx_frames),
            tx_frames: sum(|port| port.tx_frames),
            connections: stats.tcp.connections,
        }
    }
}

/// One server-sent event. JSON has no raw newlines, so one `data:` line holds it.
fn event(name: Option<&str>, data: &impl Serialize) -> Bytes {
    let mut text = String::new();
    if let Some(name) = name {
        text.push_str("event: ");
        text.push_str(name);
        text.push('\n');
    }
    text.push_str("data: ");
    text.push_str(&serde_json::to_string(data).unwrap_or_default());
    text.push_str("\n\n");
    Bytes::from(text)
}

/// The body of an event stream; ends when the sampler does.
#[derive(Debug)]
pub(crate) struct Events {
    receiver: mpsc::Receiver<Bytes>,
}

impl Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.receiver
            .poll_recv(cx)
            .map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
    }
}
