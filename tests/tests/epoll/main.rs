//! epoll of a Millstream host beside the kernel's: random programs of sockets and sets are run on both, and every result must
//! agree, events with their order.
//!
//! ```sh
//! cargo test -p interop --test epoll                                          # a hundred programs
//! EPOLL_PROGRAMS=100000 cargo test --release -p interop --test epoll          # as many as wanted
//! EPOLL_FIRST=SEED EPOLL_PROGRAMS=1 cargo test -p interop --test epoll        # one of them again
//! ```
//!
//! What differs may be the kernel's being late: a program that differs is run again, with longer rests. It counts if it then
//! differs in the same way.
#![allow(clippy::unwrap_used)]

mod kernel;
mod ours;
mod program;

use std::time::Duration;

use netns::{in_private, link};

use kernel::Kernel;
use ours::Ours;
use program::{Outcome, Step};

/// Programs run if nobody says otherwise.
const PROGRAMS: u64 = 100;
/// Longer than a delayed ACK.
const END: Duration = Duration::from_millis(45);

fn number(name: &str, default: u64) -> u64 {
    let told = std::env::var(name).ok();
    told.map_or(default, |text| text.parse().unwrap())
}

/// The first step whose outcomes differ: the kernel's, and ours.
fn differs(program: &[Step], port: u16, rest: Duration) -> Option<(usize, Outcome, Outcome)> {
    let (mut kernel, mut ours) = (Kernel::new(port), Ours::new(port));
    for (at, step) in program.iter().enumerate() {
        let told = (kernel.play(*step), ours.play(*step));
        if told.0 != told.1 {
            return Some((at, told.0, told.1));
        }
        let rest = if step.ends() { END } else { rest };
        std::thread::sleep(rest);
        ours.rest(rest);
    }
    None
}

#[test]
fn random_programs_run_as_on_the_kernel() {
    in_private!(Duration::from_secs(1 << 16), || {
        link::set_up("lo").unwrap();
        let first = number("EPOLL_FIRST", 0);
        let mut failed = 0;
        for seed in first..first + number("EPOLL_PROGRAMS", PROGRAMS) {
            let program = program::write(seed);
            // Nobody's connections that linger are in the way of the next.
            let port = |n: u64| 2000 + ((seed + n * 7919) % 10_000) as u16 * 3;
            let quick = Duration::from_micros(200);
            if differs(&program, port(0), quick).is_none() {
                continue;
            }
            let slow = Duration::from_millis(2);
            let again = [1, 2].map(|n| differs(&program, port(n), slow));
            let [Some(one), Some(two)] = again else {
                continue;
            };
            if one == two {
                let (at, kernel, ours) = one;
                eprintln!("program {seed}:");
                for step in &program[..=at] {
                    eprintln!("    {step:?}");
                }
                eprintln!("  the kernel: {kernel:x?}\n  ours:       {ours:x?}");
                failed += 1;
                assert!(failed < 4, "several programs differ");
            }
        }
        assert_eq!(failed, 0, "programs differ");
    });
}
