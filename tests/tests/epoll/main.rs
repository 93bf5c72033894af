//! epoll of a Millstream host beside the kernel's: random programs of sockets and sets are run on both, and every result must
//! agree, events with their order.
//!
//! ```sh
//! cargo test -p interop --test epoll                                          # two thousand programs
//! EPOLL_PROGRAMS=100000 cargo test --release -p interop --test epoll          # as many as wanted
//! EPOLL_FIRST=SEED EPOLL_PROGRAMS=1 cargo test -p interop --test epoll        # one of them again
//! ```
//!
//! One program in four is run again with eventfds in its sets, and the order of its events is passed over. One in two sends
//! urgent data. One in three is of sockets of IPv6.
//!
//! Over the kernel's loopback what is sent has arrived when the call returns; only ACKs may be delayed, and only those of a FIN are
//! seen. Other programs may be in the way: one that differs is run again, twice, with rests after each step. It counts if it then
//! differs in the same way.
#![allow(clippy::unwrap_used)]

mod counts;
mod kernel;
mod ours;
mod program;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use netns::in_private;

use kernel::Kernel;
use ours::Ours;
use program::{Outcome, Step};

/// Programs run if nobody says otherwise.
const PROGRAMS: u64 = 2000;
/// Programs run at a time: most of them wait.
const TOGETHER: usize = 8;
/// Differing programs after which no more are run.
const ENOUGH: usize = 4;
/// Longer than a delayed ACK.
const END: Duration = Duration::from_millis(45);
/// Longer than the machine is busy with other things, mostly.
const REST: Duration = Duration::from_millis(2);

fn number(name: &str, default: u64) -> u64 {
    let told = std::env::var(name).ok();
    told.map_or(default, |text| text.parse().unwrap())
}

/// The first step whose outcomes differ: the kernel's, and ours.
fn differs(
    program: &[Step],
    first: SocketAddr,
    (mixed, rests): (bool, bool),
) -> Option<(usize, Outcome, Outcome)> {
    let (mut kernel, mut ours) = (Kernel::new(first), Ours::new(first));
    for (at, step) in program.iter().enumerate() {
        let mut told = (kernel.play(*step), ours.play(*step));
        if mixed
            && let (Outcome::Events(kernel), Outcome::Events(ours)) = (&mut told.0, &mut told.1)
        {
            kernel.sort_unstable();
            ours.sort_unstable();
        }
        if told.0 != told.1 {
            return Some((at, told.0, told.1));
        }
        let rest = match (step.ends(), rests) {
            (true, _) => END,
            (false, true) => REST,
            (false, false) => Duration::ZERO,
        };
        if rests {
            std::thread::sleep(rest);
        } else if step.ends() {
            kernel.settle(END);
        }
        ours.rest(rest);
    }
    None
}

type Told = (Outcome, Outcome);

/// Leaves out what may be left out: the last step differs all the same.
fn shrink(
    mut program: Vec<Step>,
    at: usize,
    mut told: Told,
    differs: impl Fn(&[Step], u64) -> Option<(usize, Outcome, Outcome)>,
) -> (Vec<Step>, Told) {
    program.truncate(at + 1);
    for n in (0..at).rev() {
        let mut shorter = program.clone();
        shorter.remove(n);
        let last = shorter.len() - 1;
        if let Some((at, kernel, ours)) = differs(&shorter, n as u64)
            && at == last
        {
            (program, told) = (shorter, (kernel, ours));
        }
    }
    (program, told)
}

/// Runs the program of a seed; whether it differs.
fn check(seed: u64, mixed: bool) -> bool {
    let (program, first) = match mixed {
        true => (program::write_mixed(seed), 3),
        false => (program::write(seed), 0),
    };
    let own: IpAddr = match seed % 3 {
        0 => Ipv6Addr::LOCALHOST.into(),
        _ => Ipv4Addr::LOCALHOST.into(),
    };
    // Nobody's connections that linger are in the way of the next.
    let port = |n: u64| 2000 + ((seed + n * 7919) % 10_000) as u16 * 3;
    let at_port = |n: u64| SocketAddr::new(own, port(n));
    if differs(&program, at_port(first), (mixed, false)).is_none() {
        return false;
    }
    let again = [1, 2].map(|n| differs(&program, at_port(first + n), (mixed, true)));
    let [Some((at, kernel, ours)), Some(two)] = again else {
        return false;
    };
    if (at, &kernel, &ours) != (two.0, &two.1, &two.2) {
        return false;
    }
    let (program, (kernel, ours)) = shrink(program, at, (kernel, ours), |program, n| {
        differs(program, at_port(first + 3 + n), (mixed, true))
    });
    let steps: String = program
        .iter()
        .map(|step| format!("    {step:?}\n"))
        .collect();
    eprintln!(
        "program {seed} (at {own}, eventfds: {mixed}):\n{steps}  the kernel: {kernel:x?}\n  ours:       {ours:x?}"
    );
    true
}

#[test]
fn random_programs_run_as_on_the_kernel() {
    in_private!(Duration::from_secs(1 << 16), || {
        let next = AtomicU64::new(number("EPOLL_FIRST", 0));
        let end = next.load(Ordering::Relaxed) + number("EPOLL_PROGRAMS", PROGRAMS);
        let failed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..TOGETHER {
                scope.spawn(|| {
                    while failed.load(Ordering::Relaxed) < ENOUGH {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            return;
                        }
                        let differs =
                            check(seed, false) || (seed.is_multiple_of(4) && check(seed, true));
                        failed.fetch_add(differs.into(), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(failed.into_inner(), 0, "programs differ");
    });
}
