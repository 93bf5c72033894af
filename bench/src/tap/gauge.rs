//! When a run measures: the threads of a run look at one gauge and stamp their clocks when its phase changes.
//!
//! What does not live here: what the threads do.
//!
//! Invariant: a thread reads its own clocks only, so that none is stopped to be measured.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{thread_cpu, wall};

const WARM: u8 = 0;
const MEASURE: u8 = 1;
const DONE: u8 = 2;
const STOP: u8 = 3;

/// The measured side and its peer.
const THREADS: u8 = 2;

/// Shared by the threads of one run.
#[derive(Default)]
pub(crate) struct Gauge {
    phase: AtomicU8,
    ready: AtomicBool,
    going: AtomicBool,
    /// Threads that have begun to measure.
    begun: AtomicU8,
}

impl Gauge {
    /// The device is there and the host listens.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether it does.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The peer is connected and bytes flow.
    pub(crate) fn set_going(&self) {
        self.going.store(true, Ordering::Release);
    }

    /// Whether they do.
    pub(crate) fn is_going(&self) -> bool {
        self.going.load(Ordering::Acquire)
    }

    /// Warms up for a moment, then lets everybody measure for `seconds`.
    pub(crate) fn sweep(&self, seconds: f64) {
        thread::sleep(Duration::from_secs_f64((seconds / 4.0).clamp(0.1, 0.4)));
        self.phase.store(MEASURE, Ordering::Release);
        // On a busy machine a thread may not run for longer than a short run lasts.
        let deadline = Instant::now() + Duration::from_secs(3);
        while self.begun.load(Ordering::Acquire) < THREADS && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_secs_f64(seconds));
    }

    /// Peers end.
    pub(crate) fn finish(&self) {
        self.phase.store(DONE, Ordering::Release);
    }

    /// The measured side may end too: no peer needs it any more.
    pub(crate) fn stop(&self) {
        self.phase.store(STOP, Ordering::Release);
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }
}

/// A thread's clocks at one moment.
#[derive(Default, Clone, Copy)]
struct Stamp {
    wall: f64,
    cpu: f64,
    ticks: Ticks,
    work: u64,
}

impl Stamp {
    fn now(work: u64) -> Self {
        Self {
            wall: wall(),
            cpu: thread_cpu(),
            ticks: Ticks::now(),
            work,
        }
    }
}

/// Clock ticks a thread spent in its program and in the kernel: coarse, good for shares.
#[derive(Default, Clone, Copy)]
struct Ticks {
    user: f64,
    system: f64,
}

impl Ticks {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
        // The name, in brackets, may hold spaces; utime and stime are the 12th and 13th field behind it.
        let mut fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(11)
            .map(|f| f.parse().unwrap_or(0.0));
        let user = fields.next().unwrap_or(0.0);
        Self {
            user,
            system: fields.next().unwrap_or(0.0),
        }
    }
}

/// What one thread did while the gauge measured.
#[derive(Default, Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Seconds by the wall clock.
    pub(crate) wall: f64,
    /// Seconds this thread was busy.
    pub(crate) cpu: f64,
    /// Bytes moved or requests answered.
    pub(crate) work: f64,
    /// Share of the busy time spent in the kernel, 0 to 1; NaN if too short to say.
    pub(crate) kernel_share: f64,
}

/// One thread's view of the gauge.
pub(crate) struct Meter<'g> {
    gauge: &'g Gauge,
    seen: u8,
    begin: Stamp,
    end: Stamp,
}

impl<'g> Meter<'g> {
    pub(crate) fn new(gauge: &'g Gauge) -> Self {
        Self {
            gauge,
            seen: WARM,
            begin: Stamp::default(),
            end: Stamp::default(),
        }
    }

    /// To be called every turn with all the work done so far. Returns whether the measuring goes on.
    #[inline]
    pub(crate) fn goes_on(&mut self, work: u64) -> bool {
        let phase = self.gauge.phase();
        if phase != self.seen {
            self.change(phase, work);
        }
        phase < DONE
    }

    /// The same for the measured side, which goes on until no peer needs it.
    #[inline]
    pub(crate) fn is_needed(&mut self, work: u64) -> bool {
        self.goes_on(work);
        self.seen < STOP
    }

    /// Whether what happens now counts.
    #[inline]
    pub(crate) fn counts(&self) -> bool {
        self.seen == MEASURE
    }

    #[cold]
    fn change(&mut self, phase: u8, work: u64) {
        if phase == MEASURE {
            self.begin = Stamp::now(work);
            self.gauge.begun.fetch_add(1, Ordering::Release);
        } else if self.seen == MEASURE {
            self.end = Stamp::now(work);
        }
        self.seen = phase;
    }

    /// The figures, once the gauge is past measuring.
    /// `None` when this thread stood still all the time.
    pub(crate) fn window(&self) -> Option<Window> {
        let (a, b) = (&self.begin, &self.end);
        let (wall, cpu) = (b.wall - a.wall, b.cpu - a.cpu);
        if a.wall <= 0.0 || wall <= 0.0 || cpu <= 0.0 {
            return None;
        }
        let (user, system) = (b.ticks.user - a.ticks.user, b.ticks.system - a.ticks.system);
        Some(Window {
            wall,
            cpu,
            work: (b.work - a.work) as f64,
            kernel_share: if user + system >= 5.0 {
                system / (user + system)
            } else {
                f64::NAN
            },
        })
    }
}
