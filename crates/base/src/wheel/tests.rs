use super::*;
use crate::rng::Rng;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

#[test]
fn sizes() {
    assert_eq!(size_of::<Node>(), 24);
    assert_eq!(size_of::<TimerId>(), 4);
    assert!(size_of::<Wheel>() < 2304);
}

fn at(tick: u64) -> Instant {
    Instant::from_nanos(tick << TICK_BITS)
}

/// Every occupied slot has nodes and is where the invariants say; the lists are whole.
fn check(wheel: &Wheel) {
    let mut linked = 0;
    for level in 0..LEVELS {
        assert_eq!(wheel.levels >> level & 1 != 0, wheel.occupied[level] != 0);
        for digit in 0..SLOTS {
            let slot = Slot {
                level: level as u32,
                digit: digit as u32,
            };
            let mut id = wheel.first[slot.index()];
            assert_eq!(id != NIL, wheel.occupied[level] >> digit & 1 != 0);
            let mut prev = FIRST | slot.index() as u32;
            let current = wheel.now >> (level as u32 * SLOT_BITS) & (SLOTS as u64 - 1);
            assert!(id == NIL || digit as u64 >= current);
            while id != NIL {
                let node = &wheel.nodes[id as usize];
                assert_eq!(node.prev, prev);
                assert!(wheel.start(slot) <= tick(node.at).max(wheel.now));
                linked += 1;
                prev = id;
                id = node.next;
            }
        }
    }
    let parked = wheel.nodes.iter().filter(|n| n.prev == PARKED).count();
    assert_eq!(linked + parked, wheel.len as usize);
}

/// A heap of (tick, token), in which moved and cancelled timers stay until they come up.
#[derive(Default)]
struct Model {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    live: HashMap<u64, (TimerId, Instant)>,
}

impl Model {
    fn set(&mut self, token: u64, id: TimerId, at: Instant) {
        self.live.insert(token, (id, at));
        if tick(at) < END_OF_TIME {
            self.heap.push(Reverse((tick(at), token)));
        }
    }

    fn earliest(&mut self) -> Option<u64> {
        while let Some(&Reverse((when, token))) = self.heap.peek() {
            if self
                .live
                .get(&token)
                .is_some_and(|&(_, at)| tick(at) == when)
            {
                return Some(when);
            }
            self.heap.pop();
        }
        None
    }
}

fn some_time(rng: &mut Rng, now: u64) -> Instant {
    let bits = rng.below(60);
    match rng.below(40) {
        0 => Instant::FAR,
        1 => Instant::from_nanos(now.saturating_sub(rng.u64() >> 40)),
        _ => Instant::from_nanos(now.saturating_add(rng.u64() >> (63 - bits))),
    }
}

fn run(seed: u64, steps: u32, capacity: u32) {
    let mut rng = Rng::from_seed(seed);
    let mut wheel = Wheel::with_capacity(capacity);
    let mut model = Model::default();
    let mut tokens: Vec<u64> = Vec::new();
    let mut now = rng.u64() >> rng.below(60).max(8);
    for step in 0..steps {
        match rng.below(10) {
            0..4 => {
                let (when, token) = (some_time(&mut rng, now), u64::from(step));
                match wheel.arm(when, token) {
                    Some(id) => {
                        model.set(token, id, when);
                        tokens.push(token);
                    }
                    None => assert_eq!(tokens.len(), capacity as usize),
                }
            }
            4..7 if !tokens.is_empty() => {
                let token = tokens[rng.below(tokens.len() as u32) as usize];
                let (id, _) = model.live[&token];
                let when = some_time(&mut rng, now);
                assert!(wheel.rearm(id, when));
                assert_eq!(
                    (wheel.deadline(id), wheel.token(id)),
                    (Some(when), Some(token))
                );
                model.set(token, id, when);
            }
            7 if !tokens.is_empty() => {
                let token = tokens.swap_remove(rng.below(tokens.len() as u32) as usize);
                let (id, _) = model.live.remove(&token).unwrap();
                assert_eq!(wheel.cancel(id), Some(token));
                assert_eq!((wheel.cancel(id), wheel.deadline(id)), (None, None));
                assert!(!wheel.rearm(id, Instant::ZERO));
            }
            _ => {
                now = match rng.below(3) {
                    0 => wheel.next_deadline().map_or(now, |at| at.nanos().max(now)),
                    1 => now.saturating_add(rng.u64() >> (64 - 20)),
                    _ => now.saturating_add(rng.u64() >> (63 - rng.below(56))),
                };
                let mut last = 0;
                loop {
                    while let Some(token) = wheel.pop_expired(Instant::from_nanos(now)) {
                        let (_, at) = model.live.remove(&token).expect("fires once");
                        assert!(at.nanos() <= now, "fires early");
                        assert!(
                            tick(at) >= last || tick(at) <= wheel.now,
                            "fires in order of ticks"
                        );
                        last = tick(at);
                        tokens.retain(|&t| t != token);
                    }
                    if wheel.next_deadline().is_none_or(|at| at.nanos() > now) {
                        break;
                    }
                }
                let earliest = model.earliest();
                assert!(earliest.is_none_or(|t| t << TICK_BITS > now), "fires late");
                assert!(wheel.next_deadline() <= earliest.map(at).or(Some(Instant::FAR)));
                assert!(earliest.is_none() || wheel.next_deadline().is_some());
            }
        }
        assert_eq!(wheel.len() as usize, tokens.len());
        if step % 64 == 0 {
            check(&wheel);
        }
    }
}

#[test]
fn agrees_with_a_heap() {
    for seed in 0..40 {
        run(seed, 3_000, 1 << 20);
        run(seed, 1_000, 50);
    }
}

#[test]
fn rounds_up_to_the_tick() {
    let mut wheel = Wheel::with_capacity(4);
    wheel.arm(Instant::from_nanos(Wheel::TICK + 1), 1).unwrap();
    assert_eq!(wheel.next_deadline(), Some(at(2)));
    assert_eq!(
        wheel.pop_expired(Instant::from_nanos(2 * Wheel::TICK - 1)),
        None
    );
    assert_eq!(wheel.pop_expired(at(2)), Some(1));
    assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
}

#[test]
fn never_is_never() {
    let mut wheel = Wheel::with_capacity(2);
    let id = wheel.arm(Instant::FAR, 1).unwrap();
    assert_eq!(wheel.next_deadline(), None);
    assert_eq!(wheel.pop_expired(Instant::FAR), None);
    assert_eq!(wheel.deadline(id), Some(Instant::FAR));
    assert!(wheel.rearm(id, Instant::ZERO));
    assert_eq!(wheel.pop_expired(Instant::FAR), Some(1));
}

#[test]
fn a_fired_timer_may_be_armed_in_its_turn() {
    let mut wheel = Wheel::with_capacity(1);
    wheel.arm(at(5), 0).unwrap();
    assert_eq!(wheel.arm(at(5), 0), None);
    for round in 0..10 {
        assert_eq!(wheel.pop_expired(at(10)), Some(round));
        wheel.arm(at(5), round + 1).unwrap();
    }
    assert_eq!(wheel.pop_expired(at(10)), Some(10));
    assert_eq!(wheel.pop_expired(at(10)), None);
}

#[test]
fn moving_to_later_costs_a_store_and_one_more_visit() {
    let mut wheel = Wheel::with_capacity(1);
    let id = wheel.arm(at(10), 7).unwrap();
    for later in 11..1_000 {
        assert!(wheel.rearm(id, at(later)));
    }
    assert_eq!(wheel.next_deadline(), Some(at(10)));
    assert_eq!(wheel.pop_expired(at(998)), None);
    assert_eq!(wheel.next_deadline(), Some(at(999)));
    assert!(wheel.rearm(id, at(998)));
    assert_eq!(wheel.pop_expired(at(998)), Some(7));
}

#[test]
fn a_long_slot_is_moved_down_in_portions() {
    const COUNT: u64 = 100_000;
    let mut wheel = Wheel::with_capacity(COUNT as u32 + 1);
    // Far away and together, one second apart from something short.
    let start = 64 * 64 * 64;
    for token in 0..COUNT {
        wheel
            .arm(at(start + 60_000 + token % 1_000), token)
            .unwrap();
    }
    let mut calls = 0;
    let now = at(start + 1);
    while wheel.next_deadline().unwrap() <= now {
        // A short timer is not held up by the long list.
        wheel.arm(now, COUNT).unwrap();
        assert_eq!(wheel.pop_expired(now), Some(COUNT));
        assert_eq!(wheel.pop_expired(now), None);
        calls += 1;
    }
    assert!(calls >= COUNT / u64::from(MOVES), "{calls}");
    let mut fired = 0;
    for tick in start + 60_000..start + 61_000 {
        while wheel.next_deadline().is_some_and(|next| next <= at(tick)) {
            while let Some(token) = wheel.pop_expired(at(tick)) {
                assert_eq!(start + 60_000 + token % 1_000, tick);
                fired += 1;
            }
        }
    }
    assert_eq!((fired, wheel.len()), (COUNT, 0));
}

#[test]
fn time_goes_on_while_a_long_slot_is_moved_down() {
    const COUNT: u64 = 20_000;
    let mut wheel = Wheel::with_capacity(2 * COUNT as u32);
    let start = 64 * 64 * 64;
    for token in 0..COUNT {
        wheel.arm(at(start + token * 13 % 4_000), token).unwrap();
    }
    let mut rng = Rng::from_seed(9);
    let (mut fired, mut armed) = (0, COUNT);
    // One call a tick, which is by far too slow for the list at first.
    let mut now = start;
    while !wheel.is_empty() {
        if now < start + 4_000 {
            let soon = at(now + u64::from(rng.below(200)));
            wheel.arm(soon, armed).unwrap();
            armed += 1;
        }
        while let Some(token) = wheel.pop_expired(at(now)) {
            assert!(
                token >= COUNT || start + token * 13 % 4_000 <= now,
                "fires early"
            );
            fired += 1;
        }
        check(&wheel);
        now += 1;
    }
    assert_eq!(fired, armed);
}
