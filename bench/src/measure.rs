//! Clocks and medians.
//!
//! What does not live here: what is measured.

use rustix::time::{ClockId, clock_gettime};

fn seconds(clock: ClockId) -> f64 {
    let t = clock_gettime(clock);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// CPU time of this thread, seconds.
pub(crate) fn thread_cpu() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

/// CPU time of this process, seconds; its children's is not in it.
pub(crate) fn process_cpu() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

/// The wall clock, seconds from some start.
pub(crate) fn wall() -> f64 {
    seconds(ClockId::Monotonic)
}

/// The middle value; of an even number the mean of the middle two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mid = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[mid],
        _ => f64::midpoint(sorted[mid - 1], sorted[mid]),
    }
}

/// Repeats `work` (which says how many operations it did) for about `time` seconds; returns CPU nanoseconds per operation.
pub(crate) fn ns_per_op(time: f64, mut work: impl FnMut() -> u64) -> f64 {
    work();
    let (start, begin) = (wall(), thread_cpu());
    let mut ops = 0;
    while wall() - start < time {
        ops += work();
    }
    (thread_cpu() - begin) * 1e9 / ops as f64
}

/// Cycles of the time stamp counter per nanosecond, for figures in cycles.
pub(crate) fn cycles_per_ns() -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        let line = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let mhz = line.lines().find_map(|l| {
            l.strip_prefix("cpu MHz")?
                .split(':')
                .nth(1)?
                .trim()
                .parse::<f64>()
                .ok()
        });
        mhz.map_or(f64::NAN, |m| m / 1000.0)
    }
    #[cfg(not(target_arch = "x86_64"))]
    f64::NAN
}

/// Pins the calling thread to one core, if the system allows.
pub(crate) fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}
