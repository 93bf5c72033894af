//! Transfers over a cable that loses, doubles and reorders frames, both ways at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{Facts, Rng};
use interop::{
    Cable, Family, Fate, Pattern, Plan, Policy, Setup, Streams, Way, all_ended, frames, kernel,
};
use netns::in_private;
use netns::socket::tcp_info;
use stack::Count;

const LIMIT: Duration = Duration::from_secs(240);

/// How often each fault hits a TCP segment, in percent.
#[derive(Debug, Clone, Copy)]
struct Faults {
    lost: f64,
    doubled: f64,
    late: f64,
}

/// Decides by chance, from a seed.
fn by_chance(faults: Faults, seed: u64) -> impl Policy {
    let mut rng = Rng::from_seed(seed);
    move |_, frame: &[u8], _: &Facts| {
        if frames::tcp(frame).is_none() {
            return Fate::Pass;
        }
        if rng.chance(faults.lost / 100.0) {
            Fate::Drop
        } else if rng.chance(faults.doubled / 100.0) {
            Fate::Twice
        } else if rng.chance(faults.late / 100.0) {
            Fate::Late(1 + rng.below(6))
        } else {
            Fate::Pass
        }
    }
}

/// Every `n`-th segment of each direction has this fate.
fn every(n: u64, fate: Fate) -> impl Policy {
    let mut counts = [0; 2];
    move |way, frame: &[u8], _: &Facts| {
        if frames::tcp(frame).is_none() {
            return Fate::Pass;
        }
        let count = &mut counts[usize::from(way == Way::In)];
        *count += 1;
        if *count % n == 0 {
            fate.clone()
        } else {
            Fate::Pass
        }
    }
}

/// `total` bytes each way at once over one connection of each family.
fn transfer(cable: Cable, total: u64, what: &str, policy: impl Fn() -> Box<dyn Policy>) {
    for family in Family::BOTH {
        println!("{what}, {family:?}");
        let mut policy = policy();
        let machine = Setup::on(cable)
            .policy(move |way, frame: &[u8], facts: &Facts| policy(way, frame, facts))
            .start();
        let listener = machine.listen(7, 16);
        let plan = Plan::Exchange {
            send: (Pattern(1), total),
            expect: (Pattern(2), total),
        };
        let (app, ended) = Streams::serve(listener, plan);
        machine.run(app);
        let start = std::time::Instant::now();
        let peer = kernel::connect(family.host_port(7));
        kernel::exchange(&peer, (Pattern(2), total), (Pattern(1), total));
        all_ended(&ended, 1);
        let theirs = tcp_info(&peer).unwrap().total_retrans;
        let (ours, timeouts, fast) = machine.call(|turn| {
            let counts = &turn.host.stats().counts;
            (
                counts.get(Count::TcpRetransmits),
                counts.get(Count::TcpTimeouts),
                counts.get(Count::TcpFastRetransmits),
            )
        });
        println!(
            "{:?}; retransmitted: kernel {theirs}, host {ours} ({timeouts} timeouts, {fast} fast)",
            start.elapsed()
        );
        drop(peer);
        machine.drain();
        let host = machine.stop();
        assert_eq!(host.pool().in_use(), 0, "blocks are left over");
    }
}

#[test]
fn regular_loss() {
    in_private!(LIMIT, || {
        for n in [100, 17] {
            transfer(
                Cable::plain(),
                2 << 20,
                &format!("every {n}th lost"),
                || Box::new(every(n, Fate::Drop)),
            );
        }
        transfer(
            Cable::usual(),
            8 << 20,
            "every 50th super-frame lost",
            || Box::new(every(50, Fate::Drop)),
        );
    });
}

#[test]
fn duplicates() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            transfer(cable, 2 << 20, "every 3rd twice", || {
                Box::new(every(3, Fate::Twice))
            });
            transfer(cable, 1 << 20, "all twice", || {
                Box::new(every(1, Fate::Twice))
            });
        }
    });
}

#[test]
fn reordering() {
    in_private!(LIMIT, || {
        for late in [1, 2, 5] {
            transfer(
                Cable::plain(),
                2 << 20,
                &format!("every 10th overtaken by {late}"),
                || Box::new(every(10, Fate::Late(late))),
            );
        }
    });
}

#[test]
fn everything_at_random() {
    in_private!(LIMIT, || {
        let mild = Faults {
            lost: 1.0,
            doubled: 1.0,
            late: 3.0,
        };
        let rough = Faults {
            lost: 10.0,
            doubled: 5.0,
            late: 10.0,
        };
        for seed in 0..3 {
            transfer(
                Cable::plain(),
                2 << 20,
                &format!("mild, seed {seed}"),
                || Box::new(by_chance(mild, seed)),
            );
            transfer(
                Cable::plain(),
                100_000,
                &format!("rough, seed {seed}"),
                || Box::new(by_chance(rough, seed)),
            );
        }
        transfer(Cable::usual(), 8 << 20, "mild, super-frames", || {
            Box::new(by_chance(mild, 9))
        });
    });
}

#[test]
fn a_cable_that_is_cut_for_a_while() {
    in_private!(LIMIT, || {
        for family in Family::BOTH {
            let cut = Arc::new(AtomicBool::new(false));
            let switch = Arc::clone(&cut);
            let machine = Setup::on(Cable::usual())
                .policy(move |_, _: &[u8], _: &Facts| {
                    if switch.load(Ordering::Relaxed) {
                        Fate::Drop
                    } else {
                        Fate::Pass
                    }
                })
                .start();
            let listener = machine.listen(7, 16);
            let total = 64 << 20;
            let plan = Plan::Exchange {
                send: (Pattern(1), total),
                expect: (Pattern(2), total),
            };
            let (app, ended) = Streams::serve(listener, plan);
            machine.run(app);
            let peer = kernel::connect(family.host_port(7));
            std::thread::scope(|s| {
                s.spawn(|| kernel::exchange(&peer, (Pattern(2), total), (Pattern(1), total)));
                std::thread::sleep(Duration::from_millis(50));
                cut.store(true, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1000));
                cut.store(false, Ordering::Relaxed);
            });
            all_ended(&ended, 1);
            machine.drain();
        }
    });
}
