//! A [`Joint`] between two real ports, turned by the machine's clock in the calling thread.
//!
//! What does not live here: opening the ports, and what to make of the counts.
//!
//! Invariant: a frame leaves when it is due or later, never earlier; a port that has no room keeps its frames in order.

use std::num::NonZeroU64;
use std::time::Duration;

use base::{Batch, Instant};
use port::Port;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::joint::{Counts, Joint};

/// Batches taken from one port before the other has its turn.
const ROUNDS: usize = 4;
/// How soon to look again at a port that had no room.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// What a run is told and tells.
pub struct Watch<'a> {
    /// How often `look` is called, at least.
    pub every: Duration,
    /// Called with what went through so far; false ends the run.
    pub look: &'a mut dyn FnMut([Counts; 2]) -> bool,
    /// Spin instead of sleeping when the next frame is due so soon.
    pub spin: Duration,
}

/// Joins the two ports until the watch ends it. Returns what became of the frames.
///
/// # Errors
/// Why one of the ports is of no use any more.
pub fn run(
    mut ports: [Box<dyn Port + Send>; 2],
    joint: &mut Joint,
    watch: &mut Watch<'_>,
) -> Result<[Counts; 2], String> {
    // 50 us is the usual slack of a sleep; a frame of 1500 bytes takes 12 us at 1 Gbit/s.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let start = std::time::Instant::now();
    let clock = || Instant::from_secs(1) + start.elapsed();
    let (mut inbox, mut outboxes) = (Batch::new(), [Batch::new(), Batch::new()]);
    let mut look_at = clock() + watch.every;
    let result = loop {
        let mut work = false;
        for (from, port) in ports.iter_mut().enumerate() {
            for _ in 0..ROUNDS {
                if port.receive(joint.pool_mut(), &mut inbox) == 0 {
                    break;
                }
                work = true;
                joint.take(clock(), from, &mut inbox);
            }
        }
        for (to, port) in ports.iter_mut().enumerate() {
            let outbox = &mut outboxes[to];
            joint.deliver(clock(), 1 - to, outbox);
            if !outbox.is_empty() {
                work |= port.transmit(joint.pool_mut(), outbox) > 0;
                port.flush(joint.pool_mut());
            }
        }
        let now = clock();
        if now >= look_at {
            look_at = now + watch.every;
            if !(watch.look)(joint.counts()) {
                break Ok(joint.counts());
            }
            if let Some(why) = ports.iter().find_map(|port| port.failure()) {
                break Err(why.to_string());
            }
        }
        if work {
            continue;
        }
        let due = joint.next_deadline().map_or(look_at, |at| at.min(look_at));
        let mut time = due - now;
        if outboxes.iter().any(|outbox| !outbox.is_empty()) {
            time = time.min(LOOK_AGAIN);
        }
        if time > watch.spin {
            sleep(&ports, time - watch.spin);
        } else {
            std::hint::spin_loop();
        }
    };
    for outbox in &mut outboxes {
        outbox.clear(joint.pool_mut());
    }
    for port in &mut ports {
        port.release(joint.pool_mut());
    }
    result
}

/// Until a port has something, or for `time`.
fn sleep(ports: &[Box<dyn Port + Send>; 2], mut time: Duration) {
    let mut fds = Vec::with_capacity(2);
    for port in ports {
        match port.sleep_fd() {
            Some(fd) => fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN)),
            None => time = time.min(LOOK_AGAIN),
        }
    }
    let timeout = Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    };
    // An interrupted sleep is a short sleep.
    let _ = poll(&mut fds, Some(&timeout));
}
