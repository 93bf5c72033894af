//! Scenarios played: what is sampled, and that a seed is a run.

use super::*;
use sim::{Faults, LinkConfig, Loss};
use stack::Congestion;

fn flow(name: &str) -> Flow {
    Flow {
        name: name.into(),
        congestion: Congestion::Cubic,
        start: Duration::ZERO,
        stop: None,
        bytes: None,
        send_buffer: 1 << 20,
        receive_buffer: 1 << 20,
    }
}

fn scenario(flows: Vec<Flow>) -> Scenario {
    Scenario {
        name: "test".into(),
        about: String::new(),
        seed: 5,
        duration: Duration::from_secs(4),
        sample: Duration::from_millis(50),
        link: LinkConfig {
            rate: 10_000_000,
            delay: Duration::from_millis(10),
            queue: 50_000,
            faults: Faults {
                loss: Loss::Random(0.005),
                ..Faults::NONE
            },
            ..LinkConfig::default()
        },
        flows,
        changes: Vec::new(),
    }
}

fn run(scenario: &Scenario) -> Played {
    play(scenario, &mut |_| true).unwrap()
}

#[test]
fn one_seed_is_one_run() {
    let mut scenario = scenario(vec![flow("a"), flow("b")]);
    let first = run(&scenario);
    assert_eq!(run(&scenario), first);
    scenario.seed += 1;
    assert_ne!(run(&scenario).fingerprint, first.fingerprint);
}

#[test]
fn flows_are_sampled_while_they_are_open() {
    let late = Flow {
        start: Duration::from_secs(1),
        bytes: Some(100_000),
        congestion: Congestion::Reno,
        ..flow("late")
    };
    let scenario = scenario(vec![flow("long"), late]);
    let played = run(&scenario);
    let [long, late] = &played.flows[..] else {
        panic!("two flows were asked for");
    };
    assert_eq!(late.delivered, 100_000);
    assert!(late.finished.is_some() && late.failed.is_none());
    assert!(late.samples.iter().all(|s| s.at >= Duration::from_secs(1)));
    assert!(long.finished.is_none());
    assert_eq!(
        long.samples.len(),
        81,
        "every 50 ms, the first and the last"
    );
    assert!(
        long.samples
            .is_sorted_by_key(|sample| (sample.at, sample.delivered))
    );
    let settled = &long.samples[20..];
    assert!(settled.iter().all(|s| s.cwnd > 0 && s.mss == 1448));
    assert!(settled.iter().all(|s| s.rtt >= Duration::from_millis(20)));
    assert!(settled.iter().all(|s| s.in_flight <= s.cwnd + s.mss));
    let goodput = long.goodput(&scenario.flows[0], &scenario);
    assert!((1e6..10e6).contains(&goodput), "{goodput}");
    assert!(played.lost > 0 && played.retransmissions >= played.lost / 2);
    assert!(played.queue.iter().all(|(_, bytes)| *bytes <= 50_000));
}

#[test]
fn a_flow_may_stop_and_the_link_may_change() {
    let short = Flow {
        stop: Some(Duration::from_secs(2)),
        ..flow("short")
    };
    let mut scenario = scenario(vec![short]);
    scenario.link.faults = Faults::NONE;
    let narrow = LinkConfig {
        rate: 1_000_000,
        ..scenario.link
    };
    scenario.changes = vec![(Duration::from_secs(1), narrow)];
    let played = run(&scenario);
    let at = |seconds| {
        let since = Duration::from_secs(seconds);
        let sample = played.flows[0].samples.iter().find(|s| s.at >= since);
        sample.map_or(0, |sample| sample.delivered)
    };
    assert!(at(1) > 800_000, "10 Mbit/s for a second");
    assert!(at(2) - at(1) < 250_000, "1 Mbit/s for a second");
    assert_eq!(played.flows[0].failed, None);
}

#[test]
fn progress_may_end_it() {
    let scenario = scenario(vec![flow("a")]);
    let played = play(&scenario, &mut |at| at < Duration::from_secs(1)).unwrap();
    assert_eq!(played.flows[0].samples.len(), 21);
}
