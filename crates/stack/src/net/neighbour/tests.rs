//! Traces of the machine on virtual time, its table against a naive model, and floods.

use std::collections::HashMap;

use base::{Facts, Pool, Rng, SipKey, Wheel};
use proptest::prelude::*;

use super::*;
use crate::context::{Core, TimerKind, split_token};
use crate::stats::{Count, Drop, Stats};

const IF: InterfaceId = InterfaceId(0);
const ROUTER: Advertisement = Advertisement {
    mac: None,
    solicited: false,
    overrides: false,
    router: true,
};

fn core() -> Core {
    Core {
        now: Instant::from_secs(1000),
        pool: Pool::new(256).unwrap(),
        wheel: Wheel::with_capacity(4096),
        rng: Rng::from_seed(7),
        stats: Stats::default(),
        secret: SipKey([3; 16]),
        tcp: crate::tcp::TcpTunables::default(),
        memory: crate::tcp::Memory::new(&crate::tcp::TcpTunables::default().sized(1 << 20)),
        sharding: None,
    }
}

struct Test {
    core: Core,
    table: Neighbours,
}

fn addr(n: u32) -> Addr {
    if n.is_multiple_of(2) {
        Addr::v4(10, (n >> 16) as u8, (n >> 8) as u8, n as u8)
    } else {
        Addr::from(core::net::Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            0,
            0,
            (n >> 16) as u16,
            n as u16,
        ))
    }
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

impl Test {
    fn new(capacity: u32) -> Self {
        let core = core();
        let table = Neighbours::new(capacity, 1 << 18, Duration::from_secs(30), core.secret);
        Self { core, table }
    }

    fn packet(&mut self, len: usize) -> Packet {
        let mut chain = self.core.pool.alloc(0).unwrap();
        self.core.pool.push_back(&mut chain, len).unwrap();
        Packet {
            chain,
            facts: Facts::default(),
        }
    }

    fn state(&self, addr: &Addr) -> Option<NeighbourState> {
        let at = self.table.find(IF, addr)?;
        Some(self.table.entries.at(at)?.state_at(self.core.now))
    }

    /// Sends a packet the way the output path does.
    fn send(&mut self, addr: &Addr) -> Demand {
        let id = self
            .table
            .find(IF, addr)
            .map_or(NeighbourId::NONE, NeighbourId);
        if let Some(mac) = self.table.mac(self.core.now, id, IF, addr) {
            return Demand::Send(mac);
        }
        let demand = self.table.demand(&mut self.core, IF, addr);
        let at = match demand {
            Demand::Wait(at) => at,
            Demand::Ask(ask) => ask.index,
            _ => return demand,
        };
        let packet = self.packet(100);
        self.table.enqueue(&mut self.core, at, packet);
        demand
    }

    /// Lets time pass, firing timers; collects what they say.
    fn pass(&mut self, time: Duration) -> Vec<(u64, Expired)> {
        let end = self.core.now + time;
        let start = self.core.now;
        let mut said = Vec::new();
        while let Some(next) = self.core.wheel.next_deadline().filter(|&next| next <= end) {
            self.core.now = self.core.now.max(next);
            while let Some(token) = self.core.wheel.pop_expired(self.core.now) {
                let (kind, at, _) = split_token(token);
                assert_eq!(kind, TimerKind::Neighbour);
                let expired = self.table.on_timer(&mut self.core, at);
                said.push(((self.core.now - start).as_millis() as u64, expired));
            }
        }
        self.core.now = end;
        said
    }

    fn release(&mut self, learnt: Learnt) -> usize {
        let mut count = 0;
        if let Some(at) = learnt.release {
            while let Some(packet) = self.table.dequeue(at) {
                self.core.pool.free(packet.chain);
                count += 1;
            }
        }
        count
    }

    fn na(&mut self, addr: &Addr, na: Advertisement) -> Learnt {
        self.table.advertised(&mut self.core, IF, addr, na)
    }

    /// Makes `addr` known in the given state with `mac(1)`.
    fn put(&mut self, addr: &Addr, state: NeighbourState) {
        self.send(addr);
        let solicited = state != NeighbourState::Stale;
        let learnt = self.na(
            addr,
            Advertisement {
                mac: Some(mac(1)),
                solicited,
                overrides: true,
                router: true,
            },
        );
        self.release(learnt);
        if matches!(state, NeighbourState::Delay | NeighbourState::Probe) {
            self.pass(Duration::from_secs(46));
            self.send(addr);
        }
        if state == NeighbourState::Probe {
            self.pass(Duration::from_millis(5010));
        }
        assert_eq!(self.state(addr), Some(state));
    }

    fn audit(&self) {
        let t = &self.table;
        let listed: u32 = [
            List::Spent,
            List::Unused,
            List::Resolving,
            List::Used,
            List::Kept,
        ]
        .map(|l| t.lists.len(l))
        .iter()
        .sum();
        assert_eq!(listed, t.entries.len());
        assert_eq!(t.index.len(), t.entries.len());
        let (mut packets, mut bytes, mut timers) = (0, 0, 0);
        for (key, e) in t.entries.iter() {
            assert_eq!(t.find(e.interface, &e.addr), Some(key.index));
            packets += u32::from(e.queued);
            bytes += u64::from(e.queued_bytes);
            timers += u32::from(e.timer.is_some());
            assert!(
                e.queued == 0
                    || e.state == NeighbourState::Incomplete
                    || e.state == NeighbourState::Failed
            );
            let timed = matches!(
                e.state,
                NeighbourState::Incomplete | NeighbourState::Delay | NeighbourState::Probe
            );
            assert_eq!(timed, e.timer.is_some(), "{:?}", e.state);
            assert_eq!(
                e.state == NeighbourState::Incomplete,
                e.list == List::Resolving
            );
        }
        assert_eq!(t.waiting_total(), (packets, bytes));
        assert_eq!(timers, self.core.wheel.len());
        assert_eq!(self.core.pool.in_use(), packets);
    }
}

/// RFC 4861 7.2.2: three multicast questions a second apart, then the packets are given up.
#[test]
fn asks_three_times_then_fails() {
    for target in [addr(2), addr(3)] {
        let mut t = Test::new(64);
        let Demand::Ask(first) = t.send(&target) else {
            panic!()
        };
        assert_eq!((first.target, first.unicast), (target, None));
        assert_eq!(t.send(&target), Demand::Wait(first.index));
        let said = t.pass(Duration::from_secs(10));
        let times: Vec<u64> = said.iter().map(|(at, _)| at / 100).collect();
        assert_eq!(times, [10, 20, 30]);
        assert_eq!(said[0].1, Expired::Ask(first));
        assert_eq!(said[1].1, Expired::Ask(first));
        assert_eq!(said[2].1, Expired::Failed(first.index));
        assert_eq!(t.state(&target), Some(NeighbourState::Failed));
        assert_eq!(
            t.release(Learnt {
                release: Some(first.index),
                router_lost: false
            }),
            2
        );
        t.audit();
        // A new packet asks anew.
        assert!(matches!(t.send(&target), Demand::Ask(_)));
        t.audit();
    }
}

/// An entry made by a route lookup costs nothing until a packet needs it.
#[test]
fn resolve_does_not_ask() {
    let mut t = Test::new(64);
    let id = t.table.resolve(&mut t.core, IF, &addr(2));
    assert_eq!(t.table.mac(t.core.now, id, IF, &addr(2)), None);
    assert_eq!(t.state(&addr(2)), Some(NeighbourState::None));
    assert_eq!(t.table.resolve(&mut t.core, IF, &addr(2)), id);
    assert!(t.core.wheel.is_empty());
    t.audit();
}

/// RFC 4861 7.3.3: STALE is used, DELAY for 5 s, PROBE three times by unicast, then gone.
#[test]
fn stale_delay_probe_failed() {
    let mut t = Test::new(64);
    let a = addr(3);
    t.put(&a, NeighbourState::Stale);
    assert_eq!(t.send(&a), Demand::Send(mac(1)));
    assert_eq!(t.state(&a), Some(NeighbourState::Delay));
    let said = t.pass(Duration::from_secs(20));
    let times: Vec<u64> = said.iter().map(|(at, _)| at / 100).collect();
    assert_eq!(times, [50, 60, 70, 80]);
    for (_, expired) in &said[..3] {
        let Expired::Ask(ask) = expired else { panic!() };
        assert_eq!(ask.unicast, Some(mac(1)));
    }
    assert!(matches!(said[3].1, Expired::Failed(_)));
    assert_eq!(t.state(&a), Some(NeighbourState::Failed));
    t.audit();
}

/// RFC 4861 6.3.2: REACHABLE lapses after 0.5 to 1.5 times 30 s, without a timer.
#[test]
fn reachable_lapses() {
    let mut t = Test::new(64);
    let a = addr(3);
    t.put(&a, NeighbourState::Reachable);
    assert!(t.core.wheel.is_empty());
    t.pass(Duration::from_secs(14));
    assert_eq!(t.state(&a), Some(NeighbourState::Reachable));
    t.pass(Duration::from_secs(32));
    assert_eq!(t.state(&a), Some(NeighbourState::Stale));
    assert_eq!(t.send(&a), Demand::Send(mac(1)));
    assert_eq!(t.state(&a), Some(NeighbourState::Delay));
}

/// RFC 4861 7.3.1: progress seen above keeps a neighbour reachable and stops probing; of another address it changes nothing.
#[test]
fn confirmation_from_above() {
    for state in [
        NeighbourState::Stale,
        NeighbourState::Delay,
        NeighbourState::Probe,
        NeighbourState::Reachable,
    ] {
        let mut t = Test::new(64);
        let a = addr(3);
        t.put(&a, state);
        let id = NeighbourId(t.table.find(IF, &a).unwrap());
        t.table.confirm(&mut t.core, id, IF, &addr(5));
        assert_eq!(t.state(&a), Some(state));
        t.table.confirm(&mut t.core, id, IF, &a);
        assert_eq!(t.state(&a), Some(NeighbourState::Reachable));
        assert!(t.core.wheel.is_empty());
        t.audit();
    }
    let mut t = Test::new(64);
    let Demand::Ask(ask) = t.send(&addr(2)) else {
        panic!()
    };
    t.table
        .confirm(&mut t.core, NeighbourId(ask.index), IF, &addr(2));
    assert_eq!(t.state(&addr(2)), Some(NeighbourState::Incomplete));
}

/// The whole of RFC 4861 appendix C for received advertisements.
#[test]
fn advertisements_by_appendix_c() {
    use NeighbourState::{Delay, Probe, Reachable, Stale};
    let na = |m: Option<u8>, solicited, overrides| Advertisement {
        mac: m.map(mac),
        solicited,
        overrides,
        router: true,
    };
    for known in [Reachable, Stale, Delay, Probe] {
        let cases = [
            // The same address, or none: solicited confirms, unsolicited changes nothing.
            (na(Some(1), true, false), Reachable, 1),
            (na(Some(1), true, true), Reachable, 1),
            (na(Some(1), false, false), known, 1),
            (na(Some(1), false, true), known, 1),
            (na(None, true, false), Reachable, 1),
            (na(None, false, true), known, 1),
            // Another address without override: only doubt.
            (
                na(Some(2), true, false),
                if known == Reachable { Stale } else { known },
                1,
            ),
            (
                na(Some(2), false, false),
                if known == Reachable { Stale } else { known },
                1,
            ),
            // Another address with override.
            (na(Some(2), true, true), Reachable, 2),
            (na(Some(2), false, true), Stale, 2),
        ];
        for (message, state, station) in cases {
            let mut t = Test::new(64);
            let a = addr(3);
            t.put(&a, known);
            assert_eq!(t.na(&a, message), Learnt::default());
            assert_eq!(
                (t.state(&a), t.table.last_mac(0)),
                (Some(state), Some(mac(station))),
                "{known:?} {message:?}"
            );
            t.audit();
        }
    }
    // INCOMPLETE: any address is taken, the override flag does not matter; without one nothing is learnt.
    for (message, state) in [
        (na(Some(2), true, false), Some(Reachable)),
        (na(Some(2), false, false), Some(Stale)),
        (na(Some(2), false, true), Some(Stale)),
        (na(None, true, true), None),
    ] {
        let mut t = Test::new(64);
        let a = addr(3);
        t.send(&a);
        t.send(&a);
        let learnt = t.na(&a, message);
        assert_eq!(learnt.release.is_some(), state.is_some());
        assert_eq!(t.release(learnt), if state.is_some() { 2 } else { 0 });
        assert_eq!(
            t.state(&a),
            Some(state.unwrap_or(NeighbourState::Incomplete))
        );
        t.audit();
    }
    // Nobody asked: discarded.
    let mut t = Test::new(64);
    t.na(&addr(3), na(Some(2), true, true));
    assert_eq!(t.state(&addr(3)), None);
}

/// RFC 4861 7.2.5: the router flag follows the advertisement, unless that is disputed.
#[test]
fn router_flag() {
    let mut t = Test::new(64);
    let a = addr(3);
    t.put(&a, NeighbourState::Reachable);
    let disputed = Advertisement {
        mac: Some(mac(9)),
        solicited: true,
        overrides: false,
        router: false,
    };
    assert!(!t.na(&a, disputed).router_lost);
    assert!(t.table.iter(t.core.now).all(|n| n.router));
    assert!(
        t.na(
            &a,
            Advertisement {
                router: false,
                ..ROUTER
            }
        )
        .router_lost
    );
    assert!(!t.na(&a, ROUTER).router_lost);
}

/// RFC 4861 7.2.3: whoever asks says where it is; that is no proof that it hears us.
#[test]
fn solicitations_teach_stale() {
    use NeighbourState::{Delay, Failed, Probe, Reachable, Stale};
    let mut t = Test::new(64);
    let a = addr(3);
    t.table.heard(&mut t.core, IF, &a, mac(1), false);
    assert_eq!(t.state(&a), None);
    t.table.heard(&mut t.core, IF, &a, mac(1), true);
    assert_eq!(
        (t.state(&a), t.table.lists.len(List::Unused)),
        (Some(Stale), 1)
    );
    for state in [Reachable, Stale, Delay, Probe] {
        let mut t = Test::new(64);
        t.put(&a, state);
        t.table.heard(&mut t.core, IF, &a, mac(1), true);
        assert_eq!(t.state(&a), Some(state), "the same address changes nothing");
        t.table.heard(&mut t.core, IF, &a, mac(2), true);
        assert_eq!(
            (t.state(&a), t.table.last_mac(0)),
            (Some(Stale), Some(mac(2)))
        );
        t.audit();
    }
    let mut t = Test::new(64);
    t.send(&a);
    let learnt = t.table.heard(&mut t.core, IF, &a, mac(1), true);
    assert_eq!(t.release(learnt), 1);
    assert_eq!(t.state(&a), Some(Stale));
    t.pass(Duration::from_secs(9));
    t.put(&addr(5), Probe);
    t.pass(Duration::from_secs(9));
    assert_eq!(t.state(&addr(5)), Some(Failed));
    t.table.heard(&mut t.core, IF, &addr(5), mac(1), true);
    assert_eq!(t.state(&addr(5)), Some(Stale));
}

/// RFC 826 and Linux: answers confirm, announcements update known entries only, the first of rival answers wins.
#[test]
fn arp_rules() {
    let mut t = Test::new(64);
    let a = addr(2);
    t.table.heard_arp(&mut t.core, IF, &a, mac(1), false, true);
    assert_eq!(
        t.state(&a),
        None,
        "a gratuitous announcement makes no entry"
    );
    t.send(&a);
    let learnt = t.table.heard_arp(&mut t.core, IF, &a, mac(1), true, false);
    assert_eq!(t.release(learnt), 1);
    assert_eq!(t.state(&a), Some(NeighbourState::Reachable));
    // A rival within a second, and later.
    t.table.heard_arp(&mut t.core, IF, &a, mac(2), true, false);
    assert_eq!(t.table.last_mac(0), Some(mac(1)));
    t.pass(Duration::from_secs(2));
    t.table.heard_arp(&mut t.core, IF, &a, mac(2), true, false);
    assert_eq!(t.table.last_mac(0), Some(mac(2)));
    // An announcement moves it at once, and makes it doubtful.
    t.table.heard_arp(&mut t.core, IF, &a, mac(3), false, true);
    assert_eq!(
        (t.table.last_mac(0), t.state(&a)),
        (Some(mac(3)), Some(NeighbourState::Stale))
    );
    t.audit();
}

/// Set by hand: never asked, never changed.
#[test]
fn permanent_stays() {
    let mut t = Test::new(16);
    let a = addr(2);
    t.send(&a);
    let at = t.table.set_permanent(&mut t.core, IF, &a, mac(7));
    assert_eq!(
        t.release(Learnt {
            release: at,
            router_lost: false
        }),
        1
    );
    t.table.heard(&mut t.core, IF, &a, mac(1), true);
    t.table.heard_arp(&mut t.core, IF, &a, mac(1), true, true);
    t.na(
        &a,
        Advertisement {
            mac: Some(mac(1)),
            solicited: true,
            overrides: true,
            router: false,
        },
    );
    t.pass(Duration::from_secs(100_000));
    for n in 0..1000 {
        t.table.heard(&mut t.core, IF, &addr(100 + n), mac(1), true);
    }
    assert_eq!(t.send(&a), Demand::Send(mac(7)));
    t.audit();
}

/// A waiting queue keeps the latest 16 packets, and no more bytes than allowed in all.
#[test]
fn queues_are_bounded() {
    let mut t = Test::new(64);
    for _ in 0..125 {
        t.send(&addr(2));
    }
    assert_eq!(t.table.waiting_total(), (101, 10_100));
    assert_eq!(t.core.stats.drops.get(Drop::NeighbourQueueFull), 24);
    t.audit();
    let mut t = Test::new(64);
    t.table.queues = Queues::new(1000, 1000);
    for n in 0..15 {
        t.send(&addr(n));
    }
    assert_eq!(t.table.waiting_total(), (10, 1000));
    assert_eq!(t.core.stats.drops.get(Drop::NeighbourQueueFull), 5);
    t.audit();
    let at = t.table.find(IF, &addr(0)).unwrap();
    t.table.remove(&mut t.core, at);
    assert_eq!(t.table.waiting_total(), (9, 900));
    t.audit();
}

/// RFC 6583: a scan of a subnet asks no faster than the table allows and costs the neighbours in use nothing.
#[test]
fn scan_leaves_the_used_ones() {
    let mut t = Test::new(64);
    for n in 0..20 {
        t.put(&addr(n), NeighbourState::Reachable);
    }
    let mut asked = 0;
    for ms in 0..3000 {
        for n in 0..10 {
            asked += u32::from(matches!(t.send(&addr(1000 + ms * 10 + n)), Demand::Ask(_)));
        }
        asked += t
            .pass(Duration::from_millis(1))
            .iter()
            .filter(|(_, e)| matches!(e, Expired::Ask(_)))
            .count() as u32;
        for at in 0..64 {
            if t.state_at_index(at) == Some(NeighbourState::Failed) {
                t.release(Learnt {
                    release: Some(at),
                    router_lost: false,
                });
            }
        }
    }
    assert!(asked <= 16 * 3 * 3, "{asked} questions in 3 s");
    for n in 0..20 {
        assert_eq!(t.state(&addr(n)), Some(NeighbourState::Reachable), "{n}");
    }
    t.audit();
}

/// A flood of solicitations from invented neighbours displaces only its own kind.
#[test]
fn strangers_displace_strangers() {
    let mut t = Test::new(64);
    for n in 0..20 {
        t.put(&addr(n), NeighbourState::Reachable);
    }
    for n in 0..10_000 {
        t.table
            .heard(&mut t.core, IF, &addr(1000 + n), mac(1), true);
    }
    for n in 0..20 {
        assert_eq!(t.state(&addr(n)), Some(NeighbourState::Reachable), "{n}");
    }
    assert_eq!(t.table.len(), 64);
    assert!(t.core.stats.counts.get(Count::NeighbourEvicted) >= 9_900);
    t.audit();
}

/// Only used ones are left: the one quiet for longest goes, those that answer are passed over.
#[test]
fn evicts_the_quiet() {
    let mut t = Test::new(16);
    for n in 0..16 {
        t.put(&addr(n), NeighbourState::Reachable);
        let id = NeighbourId(t.table.find(IF, &addr(n)).unwrap());
        assert_eq!(t.table.entries.at(id.0).unwrap().list, List::Used);
    }
    t.pass(Duration::from_secs(50));
    for n in 0..3 {
        let id = NeighbourId(t.table.find(IF, &addr(n)).unwrap());
        t.table.confirm(&mut t.core, id, IF, &addr(n));
    }
    t.table.heard(&mut t.core, IF, &addr(100), mac(1), true);
    for n in 0..16 {
        assert_eq!(t.state(&addr(n)).is_none(), n == 3, "{n}");
    }
    t.audit();
}

impl Test {
    fn state_at_index(&self, at: u32) -> Option<NeighbourState> {
        Some(self.table.entries.at(at)?.state_at(self.core.now))
    }
}

#[derive(Debug, Clone)]
enum Op {
    Send(u32),
    Heard(u32, u8),
    Arp(u32, u8, bool),
    Na(u32, Option<u8>, bool, bool),
    Confirm(u32),
    Pass(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0..12u32;
    prop_oneof![
        n().prop_map(Op::Send),
        (n(), 1..4u8).prop_map(|(n, m)| Op::Heard(n, m)),
        (n(), 1..4u8, any::<bool>()).prop_map(|(n, m, a)| Op::Arp(n, m, a)),
        (
            n(),
            proptest::option::of(1..4u8),
            any::<bool>(),
            any::<bool>()
        )
            .prop_map(|(n, m, s, o)| Op::Na(n, m, s, o)),
        n().prop_map(Op::Confirm),
        (0..20_000u16).prop_map(Op::Pass),
    ]
}

proptest! {
    /// Against the simplest model there is: a map from address to the MAC address last believed and the packets waiting.
    #[test]
    fn agrees_with_a_map(ops in proptest::collection::vec(op(), 1..200)) {
        let mut t = Test::new(64);
        let mut model: HashMap<u32, (Option<u8>, u32)> = HashMap::new();
        for op in ops {
            match op {
                Op::Send(n) => {
                    let known = model.entry(n).or_default();
                    match t.send(&addr(n)) {
                        Demand::Send(m) => prop_assert_eq!(Some(m), known.0.map(mac)),
                        Demand::Wait(_) | Demand::Ask(_) => {
                            prop_assert_eq!(known.0, None);
                            known.1 = (known.1 + 1).min(16);
                        }
                        Demand::Refused => prop_assert!(false, "there is room for all"),
                    }
                }
                Op::Heard(n, m) => {
                    let learnt = t.table.heard(&mut t.core, IF, &addr(n), mac(m), true);
                    let known = model.entry(n).or_default();
                    known.0 = Some(m);
                    prop_assert_eq!(t.release(learnt) as u32, core::mem::take(&mut known.1));
                }
                Op::Arp(n, m, answer) => {
                    let learnt = t.table.heard_arp(&mut t.core, IF, &addr(n), mac(m), answer, true);
                    let incomplete = learnt.release.is_some();
                    let released = t.release(learnt) as u32;
                    if let Some(known) = model.get_mut(&n)
                        && (known.0.is_some() || incomplete || answer)
                    {
                        known.0 = Some(m);
                        prop_assert_eq!(released, core::mem::take(&mut known.1));
                    }
                }
                Op::Na(n, m, solicited, overrides) => {
                    let before = t.state(&addr(n));
                    let na = Advertisement { mac: m.map(mac), solicited, overrides, router: false };
                    let learnt = t.na(&addr(n), na);
                    let released = t.release(learnt) as u32;
                    if let (Some(known), Some(m)) = (model.get_mut(&n), m) {
                        let asked = before == Some(NeighbourState::Incomplete);
                        if asked || (known.0.is_some() && overrides) {
                            known.0 = Some(m);
                        }
                        if asked {
                            prop_assert_eq!(released, core::mem::take(&mut known.1));
                        }
                    }
                }
                Op::Confirm(n) => {
                    let id = t.table.find(IF, &addr(n)).map_or(NeighbourId::NONE, NeighbourId);
                    t.table.confirm(&mut t.core, id, IF, &addr(n));
                }
                Op::Pass(ms) => {
                    for (_, expired) in t.pass(Duration::from_millis(u64::from(ms))) {
                        if let Expired::Failed(at) = expired {
                            let (_, failed) = t.table.name(at).unwrap();
                            let released = t.release(Learnt { release: Some(at), router_lost: false }) as u32;
                            let n = (0..12).find(|&n| addr(n) == failed).unwrap();
                            let known = model.get_mut(&n).unwrap();
                            prop_assert_eq!(released, core::mem::take(&mut known.1));
                            known.0 = None;
                        }
                    }
                }
            }
            t.audit();
        }
    }

    /// Whatever happens to whatever many addresses, the books balance and nothing grows.
    #[test]
    fn bounded_under_anything(ops in proptest::collection::vec((op(), 0..200u32), 1..300)) {
        let mut t = Test::new(16);
        for (op, shift) in ops {
            match op {
                Op::Send(n) => { t.send(&addr(n + shift)); }
                Op::Heard(n, m) => {
                    let learnt = t.table.heard(&mut t.core, IF, &addr(n + shift), mac(m), true);
                    t.release(learnt);
                }
                Op::Arp(n, m, answer) => {
                    let learnt = t.table.heard_arp(&mut t.core, IF, &addr(n + shift), mac(m), answer, false);
                    t.release(learnt);
                }
                Op::Na(n, m, solicited, overrides) => {
                    let learnt = t.na(&addr(n + shift), Advertisement { mac: m.map(mac), solicited, overrides, router: true });
                    t.release(learnt);
                }
                Op::Confirm(n) => {
                    let id = t.table.resolve(&mut t.core, IF, &addr(n + shift));
                    t.table.confirm(&mut t.core, id, IF, &addr(n + shift));
                }
                Op::Pass(ms) => {
                    for (_, expired) in t.pass(Duration::from_millis(u64::from(ms))) {
                        if let Expired::Failed(at) = expired {
                            t.release(Learnt { release: Some(at), router_lost: false });
                        }
                    }
                }
            }
            t.audit();
            prop_assert!(t.table.len() <= 16);
            prop_assert!(t.table.waiting_total().0 <= 64);
        }
    }
}

/// An entry is one cache line.
#[test]
fn entry_size() {
    assert!(
        core::mem::size_of::<Entry>() <= 80,
        "{}",
        core::mem::size_of::<Entry>()
    );
}
