//! Completion queues against a simple model: random programs of operations, of which the model says what must come out: which
//! operation ends next, with what result and which bytes, and what waits.
//!
//! - `model.rs`: what is known of sockets and operations, and what must come; `streams.rs`: bytes on connections; `splices.rs`: from
//!   one connection to another; `listeners.rs`: connects and accepts; `datagrams.rs`; `program.rs`: what is done next.
//!
//! What does not live here: that each operation ends once however many are under way at a time (`completion`). Here each step is
//! waited for, so that what comes is certain.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // what others need of it
#[path = "../bench/mod.rs"]
mod bench;

mod datagrams;
mod listeners;
mod model;
mod program;
mod splices;
mod streams;

use bench::Bench;
use model::Model;

/// Programs run unless COMPLETION_PROGRAMS says otherwise.
const PROGRAMS: u64 = 2_000;
/// Steps of each.
const STEPS: usize = 60;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap())
}

/// COMPLETION_FIRST is the seed of the first, to play one again.
#[test]
fn random_programs_end_as_in_the_model() {
    // Both ends of a program are on hosts of one shard, or of several.
    let benches: Vec<Bench> = Bench::each().collect();
    let programs = from_environment("COMPLETION_PROGRAMS").unwrap_or(PROGRAMS);
    let first = from_environment("COMPLETION_FIRST").unwrap_or(0);
    for seed in first..first + programs {
        let several = seed as usize % benches.len();
        let program = || {
            let mut model = Model::new(seed, &benches[several], several > 0);
            for _ in 0..STEPS {
                model.step();
                model.settle();
            }
            model.end();
        };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(program));
        assert!(ended.is_ok(), "COMPLETION_FIRST={seed}");
    }
}
