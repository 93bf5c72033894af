#![allow(clippy::unwrap_used)]
//! Whose a frame is, and what becomes of it when the ring there is full.

use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use base::{Facts, Instant, SipKey};
use port::ring::{RingOptions, RingPort, pair};
use port::{PortCounters, PortFacts};
use stack::{Config, InterfaceConfig};
use wire::{Addr, Mac};

use super::*;
use crate::app::{App, ShardCx};
use crate::shard::{Shard, ShardOptions};

const SHARDS: usize = 4;
const ALL: u64 = 15;
const LEADER: u64 = 1;
const PEER: Addr = Addr::v4(10, 0, 0, 9);
const OWN: Addr = Addr::v4(10, 0, 0, 1);

fn udp_ports() -> Arc<UdpPorts> {
    UdpPorts::new(SHARDS, (40_000, 50_000), 5)
}

fn moved() -> Arc<Moved> {
    Moved::new(SHARDS, 16, SipKey([4; 16]))
}

fn sharding(shard: usize) -> Sharding {
    Sharding::new(SipKey([3; 16]), shard, SHARDS)
}

fn table() -> (Table, Arc<UdpPorts>) {
    let udp = udp_ports();
    (Table::new(sharding(2), udp.clone(), moved()), udp)
}

fn ethernet(kind: u16, to: u8, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![to, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
    frame.extend(kind.to_be_bytes());
    frame.extend(rest);
    frame
}

/// An IPv4 packet from `src` to `dst`; `cut` is the fragment field.
fn v4(src: Addr, dst: Addr, protocol: u8, cut: u16, data: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((20 + data.len() as u16).to_be_bytes());
    ip.extend([0, 7]);
    ip.extend(cut.to_be_bytes());
    ip.extend([64, protocol, 0, 0]);
    ip.extend(src.v4_octets());
    ip.extend(dst.v4_octets());
    ip.extend(data);
    ip
}

fn v6(src: Addr, dst: Addr, next: u8, data: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend((data.len() as u16).to_be_bytes());
    ip.extend([next, 64]);
    ip.extend(src.0);
    ip.extend(dst.0);
    ip.extend(data);
    ip
}

fn ports(from: u16, to: u16) -> Vec<u8> {
    let mut bytes = from.to_be_bytes().to_vec();
    bytes.extend(to.to_be_bytes());
    bytes.extend([0; 16]);
    bytes
}

fn icmp(kind: u8, quote: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(quote);
    bytes
}

fn arp(op: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, op, 2, 0, 0, 0, 0, 9];
    bytes.extend(sender);
    bytes.extend([0; 6]);
    bytes.extend(target);
    ethernet(0x0806, 0xff, &bytes)
}

/// Segments go where the hash says, and errors about what was sent to where its answers come in.
#[test]
fn flows_and_errors_about_them_have_one_home() {
    let (table, _) = table();
    let peer6: Addr = "2001:db8::9".parse().unwrap();
    let own6: Addr = "2001:db8::1".parse().unwrap();
    for port in 1000..1200 {
        let home = 1 << sharding(0).home(&PEER, port, 80);
        let segment = v4(PEER, OWN, 6, 0x4000, &ports(port, 80));
        assert_eq!(table.whose(&ethernet(0x0800, 2, &segment)), home);
        // A tag that tells a priority only.
        let mut tagged = vec![0, 0, 8, 0];
        tagged.extend(&segment);
        assert_eq!(table.whose(&ethernet(0x8100, 2, &tagged)), home);
        let sent = v4(OWN, PEER, 6, 0, &ports(80, port));
        let error = v4(Addr::v4(10, 0, 0, 77), OWN, 1, 0, &icmp(3, &sent));
        assert_eq!(table.whose(&ethernet(0x0800, 2, &error)), home);

        let home = 1 << sharding(0).home(&peer6, port, 80);
        let segment = v6(peer6, own6, 6, &ports(port, 80));
        assert_eq!(table.whose(&ethernet(0x86dd, 2, &segment)), home);
        let sent = v6(own6, peer6, 6, &ports(80, port));
        let error = v6("fe80::1".parse().unwrap(), own6, 58, &icmp(2, &sent));
        assert_eq!(table.whose(&ethernet(0x86dd, 2, &error)), home);
        // A fragment header on a whole packet.
        let mut whole = vec![6, 0, 0, 0, 0, 0, 0, 1];
        whole.extend(ports(port, 80));
        let atomic = v6(peer6, own6, 44, &whole);
        assert_eq!(table.whose(&ethernet(0x86dd, 2, &atomic)), home);
    }
}

#[test]
fn datagrams_go_to_who_has_the_port() {
    let (table, udp) = table();
    let to = |dst: Addr, from: u16| {
        let packet = v4(PEER, dst, 17, 0, &ports(from, 53));
        table.whose(&ethernet(0x0800, 2, &packet))
    };
    assert_eq!(to(OWN, 1), LEADER, "who says that nobody has it");
    let any = "0.0.0.0".parse().unwrap();
    let alone = udp.claim(any, 53, false).unwrap();
    assert!((0..99).all(|from| to(OWN, from) == 1 << alone.shard));
    drop(alone);
    let claims: Vec<_> = (0..3).map(|_| udp.claim(any, 53, true).unwrap()).collect();
    let owners = udp.owners(53);
    let before: Vec<u64> = (0..400).map(|from| to(OWN, from)).collect();
    for claim in &claims {
        let part = before.iter().filter(|&&whose| whose == 1 << claim.shard);
        assert!(part.count() > 60);
    }
    assert_eq!(to(Addr::v4(224, 1, 1, 1), 1), owners, "a group is for all");
    // What was sent from there and could not be delivered.
    let sent = v4(OWN, PEER, 17, 0, &ports(53, 5));
    let error = v4(PEER, OWN, 1, 0, &icmp(3, &sent));
    assert_eq!(table.whose(&ethernet(0x0800, 2, &error)), to(OWN, 5));
    // Whoever sends there has to know how much the path takes.
    let mut narrow = icmp(3, &sent);
    narrow[1] = 4;
    let error = v4(Addr::v4(10, 0, 0, 77), OWN, 1, 0, &narrow);
    assert_eq!(table.whose(&ethernet(0x0800, 2, &error)), owners);
    let (own6, peer6) = (Addr::from_v6([1; 16]), Addr::from_v6([2; 16]));
    let sent = v6(own6, peer6, 17, &ports(53, 5));
    let error = |kind| {
        table.whose(&ethernet(
            0x86dd,
            2,
            &v6(peer6, own6, 58, &icmp(kind, &sent)),
        ))
    };
    assert_eq!(error(2), owners);
    assert_eq!(error(1).count_ones(), 1);
    // Who goes takes nobody's flows but its own.
    let gone = 1 << claims[1].shard;
    let mut claims = claims;
    drop(claims.remove(1));
    for (from, was) in before.iter().enumerate() {
        let now = to(OWN, from as u16);
        assert!(now != gone && (*was == gone || now == *was));
    }
}

#[test]
fn the_leader_answers_and_all_learn() {
    let (table, _) = table();
    let (peer, own) = ([10, 0, 0, 9], [10, 0, 0, 1]);
    assert_eq!(table.whose(&arp(1, peer, own)), LEADER, "a question");
    assert_eq!(table.whose(&arp(2, peer, own)), ALL, "an answer");
    assert_eq!(table.whose(&arp(1, peer, peer)), ALL, "an announcement");
    let v4 = |protocol, cut, data: &[u8]| {
        table.whose(&ethernet(0x0800, 2, &v4(PEER, OWN, protocol, cut, data)))
    };
    assert_eq!(v4(1, 0, &icmp(8, &[])), LEADER, "an echo");
    assert_eq!(v4(1, 0, &icmp(5, &[0; 28])), LEADER, "a redirect");
    assert_eq!(v4(2, 0, &[0x11; 8]), LEADER, "a query for groups");
    for cut in [0x2000, 0x2005, 5] {
        assert_eq!(v4(6, cut, &ports(1, 2)), LEADER, "a fragment");
        assert_eq!(v4(17, cut, &ports(1, 2)), LEADER, "a fragment");
    }
    let peer6 = "fe80::9".parse().unwrap();
    let v6 = |kind| {
        let packet = v6(peer6, Addr::ALL_NODES, 58, &icmp(kind, &[0; 16]));
        table.whose(&ethernet(0x86dd, 0x33, &packet))
    };
    for (kind, whose) in [(135, LEADER), (136, ALL), (134, LEADER), (137, LEADER)] {
        assert_eq!(v6(kind), whose, "{kind}");
    }
    assert_eq!((v6(128), v6(130)), (LEADER, LEADER));
}

/// Whatever arrives is somebody's.
#[test]
fn nothing_is_nobodys() {
    let (table, udp) = table();
    let _claim = udp.claim("0.0.0.0".parse().unwrap(), 0x0101, false);
    let mut rng = base::Rng::from_seed(1);
    let kinds = [0x0800, 0x86dd, 0x0806, 0x8100, 0x1234];
    for n in 0..20_000 {
        let mut bytes = vec![0; n % 90];
        rng.fill(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            *first = [0x45, 0x60, 0x4f, *first][n % 4];
        }
        let frame = ethernet(kinds[n % 5], rng.u32() as u8, &bytes);
        let whole = table.whose(&frame);
        assert!(whole != 0 && whole & !ALL == 0, "{frame:x?}");
        let cut = table.whose(&frame[..frame.len().min(n % 20)]);
        assert!(cut != 0 && cut & !ALL == 0);
    }
}

/// A shard that only counts.
#[derive(Default)]
struct Deaf {
    woken: AtomicUsize,
    errands: Mutex<Vec<Box<Errand>>>,
}

impl Fellow for Deaf {
    fn wake(&self) {
        self.woken.fetch_add(1, Ordering::Relaxed);
    }
    fn run(&self, errand: Box<Errand>) {
        self.errands.lock().unwrap().push(errand);
    }
    fn stop(&self) {}
}

fn host() -> Host {
    let config = Config {
        pool_blocks: 512,
        ..Config::default()
    };
    Host::new(config, 1, Instant::from_nanos(1)).unwrap()
}

fn copied(pool: &mut Pool, facts: Facts, bytes: &[u8]) -> Option<Packet> {
    let mut chain = Chain::EMPTY;
    let all = pool.append_bytes(&mut chain, bytes) == bytes.len();
    all.then_some(Packet { chain, facts })
}

fn segments(host: &mut Host, shard: usize, n: usize) -> Batch {
    let mut batch = Batch::new();
    let ours = |port: &u16| sharding(0).home(&PEER, *port, 80) == shard;
    for port in (1..).filter(ours).take(n) {
        let frame = ethernet(0x0800, 2, &v4(PEER, OWN, 6, 0, &ports(port, 80)));
        let packet = copied(host.pool_mut(), Facts::NONE, &frame).unwrap();
        batch.push(packet).unwrap();
    }
    batch
}

/// A full ring takes nothing from anybody else: what is for this shard stays, what is for a third one arrives, the rest is counted
/// and its memory is free; and whoever is to empty it is woken once for all.
#[test]
fn a_full_ring_drops_and_counts() {
    let shardings: Vec<_> = (0..SHARDS).map(sharding).collect();
    let deaf: Vec<Arc<Deaf>> = (0..SHARDS).map(|_| Arc::default()).collect();
    let fellows: Vec<Arc<dyn Fellow>> = deaf.iter().map(|d| d.clone() as _).collect();
    let mut all = Steering::joined(&shardings, (&udp_ports(), &moved()), &fellows, 8).unwrap();
    let mut host = host();
    let (interface, mut now) = (InterfaceId(0), Instant::from_nanos(2));
    let mut batch = segments(&mut host, 1, 20);
    all[0].sort(&mut host, &mut now, interface, &mut batch);
    assert!(batch.is_empty());
    let drops = |host: &Host| host.stats().drops.get(Dropped::ShardRingFull);
    assert_eq!(drops(&host), 12);
    assert_eq!(host.stats().counts.get(Count::Steered), 8);
    assert_eq!(deaf[1].woken.load(Ordering::Relaxed), 1);
    assert_eq!(host.pool().in_use(), 0);
    let mut batch = segments(&mut host, 0, 5);
    all[0].sort(&mut host, &mut now, interface, &mut batch);
    assert_eq!((batch.len(), drops(&host)), (5, 12));
    batch.clear(host.pool_mut());
    let mut batch = segments(&mut host, 3, 5);
    all[0].sort(&mut host, &mut now, interface, &mut batch);
    assert_eq!((drops(&host), all[3].has_work()), (12, true));
    // There is room again for as many as were taken.
    assert!(all[1].has_work());
    assert_eq!(all[1].take(&mut host, &mut now), 8);
    assert!(!all[1].has_work());
    let mut batch = segments(&mut host, 1, 8);
    all[0].sort(&mut host, &mut now, interface, &mut batch);
    assert_eq!(drops(&host), 12);
}

/// What comes for a connection that was moved goes where it is: segments, and errors about it, but not those of another address.
#[test]
fn frames_follow_a_connection_that_was_moved() {
    let moved = moved();
    let table = Table::new(sharding(0), udp_ports(), moved.clone());
    let port = (1..).find(|port| sharding(0).home(&PEER, *port, 80) == 1);
    let port = port.unwrap();
    let segment = |to: Addr| v4(PEER, to, 6, 0, &ports(port, 80));
    let error = icmp(3, &v4(OWN, PEER, 6, 0, &ports(80, port)));
    let packets = [segment(OWN), v4(Addr::v4(10, 9, 9, 9), OWN, 1, 0, &error)];
    for packet in &packets {
        assert_eq!(table.whose_packet(packet, false), 1 << 1);
    }
    let ends = ((OWN, 80), (PEER, port));
    moved.enter(&ends, 2);
    for packet in &packets {
        assert_eq!(table.whose_packet(packet, false), 1 << 2);
        let frame = ethernet(0x0800, 2, packet);
        assert_eq!(table.whose(&frame), 1 << 2);
        assert!(table.strays(true, &frame) && table.strays(false, packet));
    }
    assert_eq!(
        table.whose_packet(&segment(Addr::v4(10, 0, 0, 2)), false),
        1 << 1
    );
    let there = Table::new(sharding(2), udp_ports(), moved.clone());
    assert!(!there.strays(false, &packets[0]), "it is there");
    moved.forget(&ends, 2);
    assert_eq!(table.whose_packet(&packets[0], false), 1 << 1);
}

/// What lies in the ring to a shard when a connection leaves it is sent after it.
#[test]
fn what_was_on_the_way_is_sent_on() {
    let shardings: Vec<_> = (0..SHARDS).map(sharding).collect();
    let deaf: Vec<Arc<dyn Fellow>> = (0..SHARDS)
        .map(|_| Arc::new(Deaf::default()) as _)
        .collect();
    let moved = moved();
    let mut all = Steering::joined(&shardings, (&udp_ports(), &moved), &deaf, 8).unwrap();
    let (mut host, mut now) = (host(), Instant::from_nanos(2));
    let mut batch = segments(&mut host, 1, 3);
    all[0].sort(&mut host, &mut now, InterfaceId(0), &mut batch);
    for port in 1.. {
        if sharding(0).home(&PEER, port, 80) == 1 {
            moved.enter(&((OWN, 80), (PEER, port)), 2);
            break;
        }
    }
    assert_eq!(all[1].take(&mut host, &mut now), 3);
    assert!(all[2].has_work() && !all[3].has_work());
    assert_eq!(all[2].take(&mut host, &mut now), 1);
    assert!(!all[2].has_work());
    assert_eq!(host.pool().in_use(), 0);
}

/// Facts of a device travel along, and packet memory that runs out leaves frames where they are.
#[test]
fn a_ring_keeps_what_is_known_and_waits_for_memory() {
    let shardings: Vec<_> = (0..2)
        .map(|n| Sharding::new(SipKey([3; 16]), n, 2))
        .collect();
    let deaf: Vec<Arc<dyn Fellow>> = (0..2).map(|_| Arc::new(Deaf::default()) as _).collect();
    let mut all = Steering::joined(&shardings, (&udp_ports(), &moved()), &deaf, 64).unwrap();
    let (mut from, mut to) = (host(), host());
    let facts = Facts {
        checksum: base::Checksum::Partial {
            start: 34,
            offset: 16,
        },
        gso: base::Gso {
            kind: base::GsoKind::Tcp4,
            size: 1448,
            header_len: 66,
        },
    };
    let bytes: Vec<u8> = (0..60_000).map(|n| n as u8).collect();
    let packet = copied(from.pool_mut(), facts, &bytes).unwrap();
    let interface = InterfaceId(3);
    assert!(
        all[0]
            .hand_over(&mut from, 2, (FRAME, interface), packet)
            .is_none()
    );
    all[0].flush();
    let mut hoard = Chain::EMPTY;
    let full = vec![0; 512 * 2048];
    to.pool_mut().append_bytes(&mut hoard, &full);
    let Some(Some(line)) = all[1].lines.first_mut() else {
        unreachable!("they are joined");
    };
    assert!(line.get(to.pool_mut()).is_none(), "there is no memory");
    // Now there is for a part of it.
    to.pool_mut().truncate(&mut hoard, 500 * 2048);
    assert!(line.get(to.pool_mut()).is_none() && !line.rx.is_empty());
    to.pool_mut().free(hoard);
    let (kind, at, packet) = line.get(to.pool_mut()).unwrap();
    assert_eq!((kind, at, packet.facts), (FRAME, interface, facts));
    let mut copy = vec![0; 60_000];
    to.pool().copy_out(&packet.chain, 0, &mut copy);
    assert!(copy == bytes && packet.chain.len() == bytes.len());
    to.pool_mut().free(packet.chain);
    assert_eq!(
        (to.pool().in_use(), line.get(to.pool_mut()).is_none()),
        (0, true)
    );
}

/// Packets of any length come out as they went in, one behind the other, and one that does not fit leaves no part of it.
#[test]
fn long_packets_have_several_places() {
    let mut host = host();
    let (mut tx, mut rx) = pieces(64).unwrap();
    let mut rng = base::Rng::from_seed(3);
    let mut waiting = std::collections::VecDeque::new();
    for n in 0..3000_u32 {
        if rng.below(2) == 0 {
            let len = match rng.below(3) {
                0 => rng.below(100),
                1 => 1_900 + rng.below(300),
                _ => rng.below(65_598),
            };
            let bytes: Vec<u8> = (0..len).map(|at| (at ^ n) as u8).collect();
            let packet = copied(host.pool_mut(), Facts::NONE, &bytes).unwrap();
            let label = [n as u8, 7];
            if tx.put(host.pool(), label, &packet) {
                waiting.push_back((label, bytes));
            } else {
                assert!(!waiting.is_empty(), "an empty ring has room for any");
            }
            host.pool_mut().free(packet.chain);
            tx.commit();
        } else {
            let got = rx.get(host.pool_mut()).map(|(label, packet)| {
                let mut bytes = vec![0; packet.chain.len()];
                host.pool().copy_out(&packet.chain, 0, &mut bytes);
                host.pool_mut().free(packet.chain);
                (label, bytes)
            });
            assert!(got == waiting.pop_front(), "packet {n}");
        }
    }
    assert_eq!(host.pool().in_use(), 0);
}

/// What all rings of a shard reserve does not grow with the number of shards.
#[test]
fn rings_are_smaller_the_more_shards_there_are() {
    for shards in [2, 4, 8, 16, 32, 64] {
        let places = crate::shards::ShardsOptions::ring_of(shards);
        assert!(places >= PLACES_MIN && places.is_power_of_two());
        assert!(places * 2048 * (shards - 1) <= 32 << 20);
    }
    assert!(pieces(usize::MAX / 4096).is_err());
}

/// What the leader learns the others are told, and nothing is told twice.
#[test]
fn those_who_follow_hear_of_changes() {
    let shardings: Vec<_> = (0..2)
        .map(|n| Sharding::new(SipKey([3; 16]), n, 2))
        .collect();
    let deaf: Vec<Arc<Deaf>> = (0..2).map(|_| Arc::default()).collect();
    let fellows: Vec<Arc<dyn Fellow>> = deaf.iter().map(|d| d.clone() as _).collect();
    let mut all = Steering::joined(&shardings, (&udp_ports(), &moved()), &fellows, 8).unwrap();
    let now = Instant::from_nanos(1);
    let mut hosts: Vec<Host> = shardings.iter().map(|&s| one_of_several(s, now)).collect();
    assert_eq!(hosts[1].addresses().count(), 0, "none of its own making");
    let cidr = "10.0.0.1/24".parse().unwrap();
    hosts[0].add_address(now, InterfaceId(0), cidr).unwrap();
    for _ in 0..3 {
        all[0].tell_network(&hosts[0]);
    }
    all[1].tell_network(&hosts[1]);
    let mut errands = std::mem::take(&mut *deaf[1].errands.lock().unwrap());
    assert_eq!(errands.len(), 1);
    assert!(deaf[0].errands.lock().unwrap().is_empty());
    errands.remove(0)(&mut hosts[1], now);
    assert_eq!(hosts[1].network(), hosts[0].network());
    assert!(hosts[1].is_local("10.0.0.1".parse().unwrap()));
    let mut frames = Batch::new();
    hosts[1].handle_timers(Instant::from_nanos(60_000_000_000));
    hosts[1].poll_transmit(
        Instant::from_nanos(60_000_000_000),
        InterfaceId(0),
        &mut frames,
    );
    assert!(
        frames.is_empty(),
        "it announces nothing and asks for nothing"
    );
}

/// Binds a port and sends from it at once.
struct Caller {
    sent: bool,
}

impl App for Caller {
    type Command = ();

    fn on_event(&mut self, _: &mut ShardCx<'_>, _: stack::Event) {}

    fn on_turn(&mut self, cx: &mut ShardCx<'_>) {
        if !std::mem::replace(&mut self.sent, true) {
            let options = stack::UdpOptions {
                broadcast: true,
                ..stack::UdpOptions::default()
            };
            let local = "10.0.0.1:5000".parse().unwrap();
            let socket = cx.host.udp_bind(cx.now, local, &options).unwrap();
            let all = "10.0.0.255:9".parse().unwrap();
            cx.host
                .udp_send_to(cx.now, socket, b"?", Some(all))
                .unwrap();
        }
    }
}

/// Takes note of who has the port when something is sent.
struct Witness {
    port: RingPort,
    udp: Arc<UdpPorts>,
    owners: Arc<AtomicU64>,
}

impl Port for Witness {
    fn facts(&self) -> &PortFacts {
        self.port.facts()
    }
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        self.port.receive(pool, batch)
    }
    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        self.owners.store(self.udp.owners(5000), Ordering::Relaxed);
        self.port.transmit(pool, batch)
    }
    fn flush(&mut self, pool: &mut Pool) {
        self.port.flush(pool);
    }
    fn sleep_fd(&self) -> Option<BorrowedFd<'_>> {
        self.port.sleep_fd()
    }
    fn counters(&self) -> PortCounters {
        self.port.counters()
    }
}

/// An answer may come before the turn is over in which a port was bound and sent from.
#[test]
fn who_has_a_port_is_known_before_anything_is_sent_from_it() {
    let shardings: Vec<_> = (0..SHARDS).map(sharding).collect();
    let fellows: Vec<Arc<dyn Fellow>> = (0..SHARDS).map(|_| Arc::<Deaf>::default() as _).collect();
    let udp = udp_ports();
    let config = Config {
        pool_blocks: 512,
        duplicate_detection: false,
        ..Config::default()
    };
    let (caller, options) = (Caller { sent: false }, ShardOptions::default());
    let mut shard = Shard::new(config, 1, caller, options).unwrap();
    let steering = Steering::joined(&shardings, (&udp, &moved()), &fellows, 8)
        .unwrap()
        .remove(0);
    shard.host().become_shard(shardings[0]);
    shard.host().tell_udp_ports();
    shard.steer_by(steering);
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let (port, _far) = pair(macs, &RingOptions::default()).unwrap();
    let owners = Arc::new(AtomicU64::new(u64::MAX));
    let witness = Witness {
        port,
        udp,
        owners: owners.clone(),
    };
    let interface = shard.add_port(Box::new(witness)).unwrap();
    let (now, own) = (shard.now(), "10.0.0.1/24".parse().unwrap());
    shard.host().add_address(now, interface, own).unwrap();
    shard.begin();
    while owners.load(Ordering::Relaxed) == u64::MAX {
        shard.turn();
    }
    assert_eq!(owners.load(Ordering::Relaxed), LEADER);
}

/// The IGMPv3 records that hosts send within some seconds: whose they are, their kind, their group.
fn records(hosts: &mut [Host], from: u64, seconds: u64) -> Vec<(usize, u8, [u8; 4])> {
    let mut found = Vec::new();
    let mut batch = Batch::new();
    for at in (0..=seconds * 100).map(|n| Instant::from_millis(from * 1000 + n * 10)) {
        for (n, host) in hosts.iter_mut().enumerate() {
            host.handle_timers(at);
            while host.poll_transmit(at, InterfaceId(0), &mut batch) || !batch.is_empty() {
                while let Some(packet) = batch.pop_front() {
                    let mut frame = vec![0; packet.chain.len()];
                    host.pool().copy_out(&packet.chain, 0, &mut frame);
                    host.pool_mut().free(packet.chain);
                    // Behind an IP header with router alert: a report of one record.
                    if let [0x22, _, _, _, _, _, 0, 1, kind, _, _, _, a, b, c, d] =
                        frame.get(38..54).unwrap_or_default()
                    {
                        found.push((n, *kind, [*a, *b, *c, *d]));
                    }
                }
            }
        }
    }
    found
}

/// A host that is one of several shards, with one interface.
fn one_of_several(sharding: Sharding, now: Instant) -> Host {
    let config = Config {
        pool_blocks: 512,
        duplicate_detection: false,
        ..Config::default()
    };
    let mut host = Host::new(config, sharding.shard() as u64, now).unwrap();
    host.become_shard(sharding);
    let link = InterfaceConfig {
        name: "a".to_owned(),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        offloads: base::Offloads::NONE,
    };
    host.add_interface(now, link).unwrap();
    host
}

/// Those that follow tell what they have joined, and the leading one what has changed.
fn tell_each_other(all: &mut [Steering], deaf: &[Arc<Deaf>], hosts: &mut [Host], at: u64) {
    let at = Instant::from_secs(at);
    let errands = |of: &Deaf| std::mem::take(&mut *of.errands.lock().unwrap());
    for (steering, host) in all.iter().zip(&mut *hosts) {
        steering.tell_groups(host);
    }
    for errand in errands(&deaf[0]) {
        errand(&mut hosts[0], at);
    }
    all[0].tell_network(&hosts[0]);
    for (deaf, host) in deaf.iter().zip(&mut *hosts).skip(1) {
        errands(deaf)
            .into_iter()
            .for_each(|errand| errand(host, at));
    }
}

/// The leading shard reports a group for all, once, and leaves it when none of them is in it any more.
#[test]
fn groups_are_reported_for_all_shards() {
    const GROUP: [u8; 4] = [239, 1, 2, 3];
    let shardings: Vec<_> = (0..3)
        .map(|n| Sharding::new(SipKey([3; 16]), n, 3))
        .collect();
    let deaf: Vec<Arc<Deaf>> = (0..3).map(|_| Arc::default()).collect();
    let fellows: Vec<Arc<dyn Fellow>> = deaf.iter().map(|d| d.clone() as _).collect();
    let mut all = Steering::joined(&shardings, (&udp_ports(), &moved()), &fellows, 64).unwrap();
    let now = Instant::from_secs(1);
    let mut hosts: Vec<Host> = shardings
        .iter()
        .map(|own| one_of_several(*own, now))
        .collect();
    let cidr = "10.0.0.1/24".parse().unwrap();
    hosts[0].add_address(now, InterfaceId(0), cidr).unwrap();
    let mut settle = |hosts: &mut [Host], at: u64| tell_each_other(&mut all, &deaf, hosts, at);
    settle(&mut hosts, 1);
    let sockets: Vec<_> = (0..3)
        .map(|n| {
            let any = "0.0.0.0:5000".parse().unwrap();
            let options = stack::UdpOptions::default();
            hosts[n].udp_bind(now, any, &options).unwrap()
        })
        .collect();
    let group = std::net::IpAddr::from(GROUP);
    let (join, leave) = (4, 3);
    // Who joins (+) or leaves (-), and what is to be heard of it.
    for (n, (shard, joins, heard)) in [
        (1, true, Some(join)),
        (2, true, None),
        (0, true, None),
        (1, false, None),
        (0, false, None),
        (1, true, None),
        (2, false, None),
        (1, false, Some(leave)),
        (0, true, Some(join)),
        (2, true, None),
        (0, false, None),
        (2, false, Some(leave)),
    ]
    .into_iter()
    .enumerate()
    {
        let at = 100 * (n as u64 + 1);
        let (now, interface) = (Instant::from_secs(at), InterfaceId(0));
        let (host, socket) = (&mut hosts[shard], sockets[shard]);
        match joins {
            true => host.udp_join(now, socket, interface, group).unwrap(),
            false => host.udp_leave(now, socket, interface, group).unwrap(),
        }
        settle(&mut hosts, at);
        let told = records(&mut hosts, at, 10);
        let expected: Vec<_> = heard
            .iter()
            .flat_map(|kind| [(0, *kind, GROUP); 2])
            .collect();
        assert_eq!(told, expected, "step {n}");
        settle(&mut hosts, at + 10);
        assert!(hosts.iter_mut().all(|host| !host.has_group_changes()));
        assert!(
            hosts
                .windows(2)
                .all(|two| two[0].network() == two[1].network())
        );
    }
}
