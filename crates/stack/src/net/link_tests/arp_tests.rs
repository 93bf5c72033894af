//! ARP and address conflict detection.

use super::*;

/// RFC 826: a request for us is answered to its sender alone, who becomes known; requests for others are not.
#[test]
fn arp_answers_for_own_addresses() {
    let mut rig = Rig::settled(quick());
    rig.add("10.0.0.1/24");
    rig.frames();
    rig.arp(
        arp::Operation::Request,
        (PEER, "10.0.0.2"),
        (Mac::ZERO, "10.0.0.1"),
    );
    let frames = rig.frames();
    assert_eq!(frames.len(), 1);
    assert!(
        frames[0].starts_with("02:00:00:00:00:02: ARP 10.0.0.1 is-at 02:00:00:00:00:01"),
        "{frames:?}"
    );
    assert!(rig.net.neighbours.find(IF, &ip("10.0.0.2")).is_some());
    rig.arp(
        arp::Operation::Request,
        (PEER, "10.0.0.3"),
        (Mac::ZERO, "10.0.0.4"),
    );
    assert!(rig.frames().is_empty());
    assert!(rig.net.neighbours.find(IF, &ip("10.0.0.3")).is_none());
    assert_eq!(rig.drops(Drop::ArpNotForUs), 1);
    // RFC 5227: a probe is answered and makes no entry.
    rig.arp(
        arp::Operation::Request,
        (PEER, "0.0.0.0"),
        (Mac::ZERO, "10.0.0.1"),
    );
    assert_eq!(only(&rig.frames(), "is-at").len(), 1);
    assert!(rig.net.neighbours.find(IF, &ip("0.0.0.0")).is_none());
    // Nonsense.
    rig.arp(
        arp::Operation::Request,
        (Mac::BROADCAST, "10.0.0.9"),
        (Mac::ZERO, "10.0.0.1"),
    );
    rig.arp(
        arp::Operation::Request,
        (PEER, "224.0.0.1"),
        (Mac::ZERO, "10.0.0.1"),
    );
    assert_eq!(rig.drops(Drop::ArpInvalid), 2);
    assert_eq!(rig.core.pool.in_use(), 0);
}

/// A packet waits, the question goes out from its own source address, the answer lets it go.
#[test]
fn arp_resolves() {
    let mut rig = Rig::settled(quick());
    rig.add("10.0.0.1/24");
    rig.add("10.0.0.7/24");
    rig.pass(10_000);
    rig.send("10.0.0.7", "10.0.0.2", "10.0.0.2");
    let frames = rig.frames();
    assert_eq!(
        frames,
        ["all: ARP who-has 10.0.0.2 tell 10.0.0.7 at 02:00:00:00:00:01"]
    );
    rig.arp(arp::Operation::Reply, (PEER, "10.0.0.2"), (OWN, "10.0.0.7"));
    assert_eq!(
        rig.frames(),
        ["02:00:00:00:00:02: 10.0.0.7 > 10.0.0.2 data"]
    );
    assert_eq!(rig.core.pool.in_use(), 0);
}

/// RFC 1122 2.3.2, 3.3.1.4: nobody answers: what waited is dropped and the transports are told, for both families.
#[test]
fn unanswered_is_reported() {
    for (own, src, dst) in [
        ("10.0.0.1/24", "10.0.0.1", "10.0.0.2"),
        ("fd00::1/64", "fd00::1", "fd00::2"),
    ] {
        let mut rig = Rig::settled(quick());
        rig.add(own);
        rig.pass(10_000);
        rig.send(src, dst, dst);
        rig.send(src, dst, dst);
        let asked = rig.frames().len() + rig.pass(10_000).len();
        assert_eq!(asked, 3);
        assert_eq!(rig.drops(Drop::NeighbourUnreachable), 2);
        let report = rig.net.pop_report().unwrap();
        assert_eq!(
            (report.kind, report.protocol),
            (ReportKind::HostUnreachable, 17)
        );
        assert_eq!(
            (report.local, report.remote, report.l4),
            (ip(src), ip(dst), [0, 53, 0, 99, 0, 8, 0, 0])
        );
        assert!(rig.net.pop_report().is_some());
        assert!(rig.net.pop_report().is_none());
        assert_eq!(rig.core.pool.in_use(), 0);
    }
}

/// RFC 5227 2.1, 2.3: three probes, a wait, two announcements; not answered for meanwhile.
#[test]
fn ipv4_address_is_probed_and_announced() {
    let mut rig = Rig::settled(Config {
        accept_router_advertisements: false,
        ..config()
    });
    rig.start = rig.core.now;
    rig.add("10.0.0.1/24");
    assert_eq!(rig.state("10.0.0.1"), Some(AddressState::Tentative));
    rig.arp(
        arp::Operation::Request,
        (PEER, "10.0.0.2"),
        (Mac::ZERO, "10.0.0.1"),
    );
    assert!(rig.frames().is_empty());
    let said = rig.pass(20_000);
    let probe = "all: ARP who-has 10.0.0.1 tell 0.0.0.0 at 02:00:00:00:00:01";
    let announcement = "all: ARP who-has 10.0.0.1 tell 10.0.0.1 at 02:00:00:00:00:01";
    let texts: Vec<&str> = said.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, [probe, probe, probe, announcement, announcement]);
    let at: Vec<u64> = said.iter().map(|(at, _)| *at).collect();
    assert!(at[0] <= 10);
    assert!(
        (10..=20).contains(&(at[1] - at[0])) && (10..=20).contains(&(at[2] - at[1])),
        "{at:?}"
    );
    assert_eq!((at[3] - at[2], at[4] - at[3]), (20, 20));
    assert_eq!(rig.state("10.0.0.1"), Some(AddressState::Preferred));
}

/// RFC 5227 2.1.1: any packet from the address, or another's probe for it, ends the claim.
#[test]
fn ipv4_conflicts_while_probing() {
    for (op, sender, target) in [
        (arp::Operation::Reply, "10.0.0.1", "10.0.0.9"),
        (arp::Operation::Request, "10.0.0.1", "10.0.0.1"),
        (arp::Operation::Request, "0.0.0.0", "10.0.0.1"),
    ] {
        let mut rig = Rig::settled(Config {
            accept_router_advertisements: false,
            ..config()
        });
        rig.add("10.0.0.1/24");
        rig.arp(op, (OWN, sender), (Mac::ZERO, target));
        assert_eq!(
            rig.state("10.0.0.1"),
            Some(AddressState::Tentative),
            "our own echo is no conflict"
        );
        rig.arp(op, (PEER, sender), (Mac::ZERO, target));
        assert_eq!(rig.state("10.0.0.1"), Some(AddressState::Duplicate));
        assert!(rig.pass(30_000).is_empty());
        assert!(!rig.net.is_local(&ip("10.0.0.1")));
    }
}

/// RFC 5227 2.4: an address in use is defended at most once in ten seconds; the rival is not learnt.
#[test]
fn ipv4_defends() {
    let mut rig = Rig::settled(quick());
    rig.add("10.0.0.1/24");
    rig.pass(10_000);
    let mut defences = 0;
    for _ in 0..21 {
        rig.arp(
            arp::Operation::Request,
            (PEER, "10.0.0.1"),
            (Mac::ZERO, "10.0.0.1"),
        );
        defences += only(&rig.frames(), "tell 10.0.0.1").len();
        rig.pass(1000);
    }
    assert_eq!(defences, 3);
    assert_eq!(rig.core.stats.counts.get(Count::AddressConflict), 21);
    assert_eq!(rig.net.neighbours.len(), 0);
}
