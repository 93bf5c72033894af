//! One transfer: two ends, a link between them, bytes counted where they are read.
//!
//! The clock starts when the first byte of every flow has arrived, so that a lost SYN is no part of the figure.

use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::wire::Mac;
use base::Offloads;
use lab::{Joint, wire};
use port::Port;
use port::pcapng::Capture;
use port::ring::{self, RingOptions, RingPort};

use super::{linux, mill};

/// The sender's address and the receiver's.
pub(super) const SENDER: [u8; 4] = [10, 79, 0, 1];
pub(super) const RECEIVER: [u8; 4] = [10, 79, 0, 2];
/// Where the receiver listens.
pub(super) const PORT: u16 = 7000;
/// How long flows may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whose stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Linux,
    Millstream,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linux => "Linux",
            Self::Millstream => "Millstream",
        })
    }
}

/// What is to be done.
pub(super) struct Course<'a> {
    pub(super) lane: usize,
    pub(super) link: sim::LinkConfig,
    pub(super) seed: u64,
    pub(super) sender: End,
    pub(super) receiver: End,
    pub(super) flows: usize,
    pub(super) seconds: f64,
    pub(super) control: &'a str,
    pub(super) trace: Option<PathBuf>,
}

/// A transfer as it went.
pub(super) struct Flows {
    /// Mbit/s of each.
    rates: Vec<f64>,
    /// The longest a frame left the link after it was due.
    pub(super) late: Duration,
}

impl Flows {
    pub(super) fn goodput(&self) -> f64 {
        self.rates.iter().sum()
    }

    /// Jain's index of fairness.
    pub(super) fn jain(&self) -> f64 {
        let squares: f64 = self.rates.iter().map(|x| x * x).sum();
        self.goodput().powi(2) / (self.rates.len() as f64 * squares)
    }
}

/// What the threads of a transfer share.
pub(super) struct Shared {
    /// Bytes read of each flow.
    pub(super) read: Vec<AtomicU64>,
    /// The transfer is over.
    pub(super) over: AtomicBool,
    /// The receiver listens.
    pub(super) ready: AtomicBool,
    pub(super) control: String,
    pub(super) trace: Option<PathBuf>,
}

impl Shared {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl Course<'_> {
    pub(super) fn run(&self) -> Result<Flows, String> {
        let shared = Arc::new(Shared {
            read: (0..self.flows).map(|_| AtomicU64::new(0)).collect(),
            over: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            control: self.control.to_owned(),
            trace: self.trace.clone(),
        });
        let (mut ends, mut ports) = (Vec::new(), Vec::new());
        for (end, sends) in [(self.sender, true), (self.receiver, false)] {
            let (plugged, mut port) = self.plug(end, sends)?;
            if let Some(path) = &self.trace {
                let side = if sends { "sender" } else { "receiver" };
                port = captured(port, &path.with_extension(format!("{side}.pcapng")))?;
            }
            ends.push(plugged);
            ports.push(port);
        }
        let (Ok(ports), Ok([sender, receiver])) =
            (<[_; 2]>::try_from(ports), <[_; 2]>::try_from(ends))
        else {
            return Err("two ends make a link".into());
        };
        let mut joint = Joint::new([self.link; 2], 20_000, self.seed).map_err(|e| e.to_string())?;
        let failed = |what: &str, e: &dyn fmt::Display| format!("{what}: {e}");
        thread::scope(|scope| {
            let wire = scope.spawn(|| {
                let mut look = |_| !shared.is_over();
                let mut watch = wire::Watch {
                    every: Duration::from_millis(20),
                    look: &mut look,
                    spin: Duration::ZERO,
                };
                wire::run(ports, &mut joint, &mut watch)
            });
            let receiving = receiver.start(&shared, self.flows, false, scope);
            let ready = wait(PATIENCE, || shared.ready.load(Ordering::Acquire));
            let sending = sender.start(&shared, self.flows, true, scope);
            let counted = if ready {
                self.count(&shared)
            } else {
                Err("the receiver does not listen".into())
            };
            shared.over.store(true, Ordering::Release);
            let joined = |handle: thread::ScopedJoinHandle<'_, Result<(), String>>| {
                handle
                    .join()
                    .unwrap_or_else(|_| Err("a thread panicked".into()))
            };
            let sent = joined(sending).map_err(|e| failed("sender", &e));
            let received = joined(receiving).map_err(|e| failed("receiver", &e));
            let crossed = wire.join().map_err(|_| "the link panicked".to_string())?;
            sent?;
            received?;
            let crossed = crossed.map_err(|e| failed("link", &e))?;
            let late = crossed.iter().map(|counts| counts.latest).max();
            Ok(Flows {
                rates: counted?,
                late: Duration::from_nanos(late.unwrap_or(0)),
            })
        })
    }

    /// The port of one end on the link's side, and what is behind it.
    fn plug(&self, end: End, sends: bool) -> Result<(Plugged, Box<dyn Port + Send>), String> {
        let address = if sends { SENDER } else { RECEIVER };
        match end {
            End::Linux => {
                let (namespace, tap) = linux::plug(address)?;
                Ok((Plugged::Linux(namespace), Box::new(tap)))
            }
            End::Millstream => {
                let mac = |last| Mac([2, 0x6c, 0, self.lane as u8, u8::from(sends), last]);
                let options = RingOptions {
                    // As on a device that segments: the link cuts, as it does for the kernel.
                    offloads: Offloads::ALL,
                    ..RingOptions::default()
                };
                let (own, far) =
                    ring::pair([mac(1), mac(2)], &options).map_err(|e| e.to_string())?;
                Ok((Plugged::Millstream(Box::new(own), address), Box::new(far)))
            }
        }
    }

    /// Lets it run for its time and takes the figures.
    fn count(&self, shared: &Shared) -> Result<Vec<f64>, String> {
        let read = || -> Vec<u64> {
            shared
                .read
                .iter()
                .map(|n| n.load(Ordering::Acquire))
                .collect()
        };
        if !wait(PATIENCE, || read().iter().all(|&n| n > 0)) {
            return Err(format!("not every flow has begun after {PATIENCE:?}"));
        }
        let (start, before) = (Instant::now(), read());
        thread::sleep(Duration::from_secs_f64(self.seconds));
        let (took, after) = (start.elapsed().as_secs_f64(), read());
        let rate = |(after, before): (&u64, &u64)| (after - before) as f64 * 8e-6 / took;
        Ok(after.iter().zip(&before).map(rate).collect())
    }
}

/// The headers of all that passes the link on this side, in a file.
fn captured(port: Box<dyn Port + Send>, path: &Path) -> Result<Box<dyn Port + Send>, String> {
    const HEADERS: u32 = 128;
    let file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64)
    };
    Ok(Box::new(Capture::new(
        port,
        BufWriter::new(file),
        HEADERS,
        now,
    )))
}

/// One end, ready to start.
enum Plugged {
    Linux(netns::Namespace),
    Millstream(Box<RingPort>, [u8; 4]),
}

impl Plugged {
    fn start<'scope>(
        self,
        shared: &Arc<Shared>,
        flows: usize,
        sends: bool,
        scope: &'scope thread::Scope<'scope, '_>,
    ) -> thread::ScopedJoinHandle<'scope, Result<(), String>> {
        let shared = Arc::clone(shared);
        scope.spawn(move || match self {
            Self::Linux(namespace) => {
                namespace.enter().map_err(|e| e.to_string())?;
                if sends {
                    linux::send(&shared, flows)
                } else {
                    linux::receive(&shared, flows)
                }
            }
            Self::Millstream(port, address) => mill::run(*port, address, &shared, flows, sends),
        })
    }
}

fn wait(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}
