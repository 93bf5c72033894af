//! Router discovery, prefixes, autoconfiguration, redirects.

use super::*;

const ADVERT: RouterAdvert = RouterAdvert {
    hop_limit: 0,
    managed: false,
    other: false,
    preference: Preference::Medium,
    router_lifetime: 1800,
    reachable_time: 0,
    retrans_timer: 0,
};

fn prefix(text: &str, valid: u32, preferred: u32) -> PrefixInfo {
    PrefixInfo {
        prefix_len: 64,
        on_link: true,
        autonomous: true,
        valid_lifetime: valid,
        preferred_lifetime: preferred,
        prefix: ip(text),
    }
}

fn slaac(rig: &Rig) -> Vec<(Addr, AddressState)> {
    rig.net
        .addresses
        .on(IF)
        .filter(|(_, e)| e.origin == Origin::Slaac)
        .map(|(_, e)| (e.cidr.addr(), e.state))
        .collect()
}

/// RFC 4861 6.3.7, RFC 7559: the link-local address is claimed, then routers are asked for, three times, ever more slowly.
#[test]
fn solicits_routers() {
    let mut rig = Rig::new(config());
    let said: Vec<_> = rig
        .pass(20_000)
        .into_iter()
        .filter(|(_, text)| text.contains("router solicitation"))
        .collect();
    assert_eq!(said.len(), 3);
    let link_local = rig.link_local();
    assert!(
        said[0].1.starts_with(&format!(
            "group: {link_local} > ff02::2 NDP router solicitation"
        )),
        "{said:?}"
    );
    assert!((10..=30).contains(&said[0].0), "{said:?}");
    assert!(
        (36..=44).contains(&(said[1].0 - said[0].0))
            && (72..=88).contains(&(said[2].0 - said[1].0)),
        "{said:?}"
    );
    // Nobody answered: ever more slowly, but not slower than once an hour (RFC 7559 2), for ever.
    let said = rig.pass(48 * 3_600_000);
    let times: Vec<_> = said
        .iter()
        .filter(|(_, text)| text.contains("router solicitation"))
        .map(|(at, _)| *at)
        .collect();
    assert!((50..60).contains(&times.len()), "{times:?}");
    for pair in times.windows(2).skip(12) {
        assert!((32_400..=39_600).contains(&(pair[1] - pair[0])));
    }
    // A late answer ends it.
    rig.ra("fe80::99", ADVERT, &[]);
    assert!(
        rig.pass(7_200_000)
            .iter()
            .all(|(_, text)| !text.contains("router solicitation"))
    );
    // So does an early one.
    let mut rig = Rig::new(config());
    rig.pass(3_500);
    rig.ra("fe80::99", ADVERT, &[]);
    assert!(
        rig.pass(120_000)
            .iter()
            .all(|(_, text)| !text.contains("router solicitation"))
    );
}

/// RFC 4861 6.3.4: default router with a lifetime, times, hop limit, MTU; its link-layer address is learnt.
#[test]
fn advertisement_is_taken() {
    let mut rig = Rig::settled(config());
    let advert = RouterAdvert {
        hop_limit: 99,
        reachable_time: 10_000,
        retrans_timer: 2_000,
        ..ADVERT
    };
    let epoch = rig.net.epoch();
    rig.ra("fe80::99", advert, &[Opt::SourceMac(PEER), Opt::Mtu(1400)]);
    assert_eq!(rig.routes(), ["::/0 via fe80::99"]);
    assert_eq!(rig.net.default_hop_limit(IF, false), 99);
    assert_eq!(rig.net.interfaces[0].mtu_v6, 1400);
    // Paths handed out before are looked up anew, and have both; IPv4 is not concerned.
    assert_ne!(rig.net.epoch(), epoch);
    let path = |rig: &mut Rig, dst: &str| {
        let path = rig.net.route(&mut rig.core, ip(dst), None, Some(IF));
        path.map(|path| (path.hop_limit, path.mtu)).unwrap()
    };
    assert_eq!(path(&mut rig, "fe80::77"), (99, 1400));
    rig.add("10.0.0.1/24");
    rig.pass(20_000);
    rig.frames();
    assert_eq!(path(&mut rig, "10.0.0.2"), (64, 1500));
    let known = rig.net.neighbours.iter(rig.core.now).next().unwrap();
    assert_eq!(
        (known.addr, known.mac, known.router, known.state),
        (ip("fe80::99"), Some(PEER), true, NeighbourState::Stale)
    );
    // Unspecified values and an MTU out of range change nothing.
    rig.ra("fe80::99", ADVERT, &[Opt::Mtu(1279)]);
    rig.ra("fe80::99", ADVERT, &[Opt::Mtu(1501)]);
    assert_eq!(
        (
            rig.net.default_hop_limit(IF, false),
            rig.net.interfaces[0].mtu_v6
        ),
        (99, 1400)
    );
    // Twice the retransmission time.
    rig.send("fe80::1", "fe80::77", "fe80::77");
    assert_eq!(rig.frames().len() + rig.pass(5_500).len(), 3);
    rig.pass(1_790_000);
    assert_eq!(rig.routes(), ["::/0 via fe80::99"]);
    rig.pass(11_000);
    assert!(rig.routes().is_empty(), "the lifetime is over");
    // Lifetime 0 withdraws it at once.
    rig.ra("fe80::99", ADVERT, &[]);
    rig.ra(
        "fe80::99",
        RouterAdvert {
            router_lifetime: 0,
            ..ADVERT
        },
        &[],
    );
    assert!(rig.routes().is_empty());
    // Not from a router of the link: dropped.
    rig.ra("fd00::99", ADVERT, &[]);
    assert_eq!(rig.drops(Drop::NdpInvalid), 1);
    let mut deaf = Rig::settled(quick());
    deaf.ra("fe80::99", ADVERT, &[]);
    assert!(deaf.routes().is_empty());
}

/// RFC 4862 5.4.2: duplicate detection waits as long as the link's router says an answer takes.
#[test]
fn the_retransmission_time_holds_for_duplicate_detection() {
    let mut rig = Rig::settled(config());
    let advert = RouterAdvert {
        retrans_timer: 3_000,
        ..ADVERT
    };
    rig.ra("fe80::99", advert, &[]);
    rig.add("fd00::1/64");
    let said = rig.pass(20_000);
    let said: Vec<_> = said
        .into_iter()
        .filter(|(_, text)| text.contains("NDP"))
        .collect();
    assert!(
        said[0].1.contains("solicitation") && said[1].1.contains("advertisement"),
        "{said:?}"
    );
    assert_eq!(said[1].0 - said[0].0, 30);
}

/// RFC 4861 6.3.6, RFC 4191: the better router is used; one that does not answer, or is none any more, is left.
#[test]
fn chooses_routers() {
    let mut rig = Rig::settled(config());
    rig.ra("fe80::1:1", ADVERT, &[Opt::SourceMac(PEER)]);
    rig.ra("fe80::1:2", ADVERT, &[Opt::SourceMac(PEER)]);
    assert_eq!(
        rig.routes(),
        ["::/0 via fe80::1:1"],
        "no change without need"
    );
    rig.ra(
        "fe80::1:3",
        RouterAdvert {
            preference: Preference::High,
            ..ADVERT
        },
        &[Opt::SourceMac(PEER)],
    );
    assert_eq!(rig.routes(), ["::/0 via fe80::1:3"]);
    rig.send("fe80::9", "fd99::1", "fe80::1:3");
    rig.pass(20_000);
    assert_eq!(rig.routes().len(), 1);
    assert_ne!(rig.routes(), ["::/0 via fe80::1:3"], "it did not answer");
    let second = rig.routes();
    let addr = second[0].trim_start_matches("::/0 via ").to_string();
    rig.send("fe80::9", "fd99::1", &addr);
    rig.na(&addr, &rig.link_local().to_string(), &addr, "S", Some(PEER));
    assert_ne!(rig.routes(), second, "it says it is no router");
}

/// RFC 4861 6.3.4: on-link prefixes become routes as long as they live.
#[test]
fn prefixes_become_routes() {
    let mut rig = Rig::settled(config());
    let info = PrefixInfo {
        autonomous: false,
        ..prefix("2001:db8:1::", 100, 50)
    };
    let advert = RouterAdvert {
        router_lifetime: 0,
        ..ADVERT
    };
    rig.ra("fe80::99", advert, &[Opt::PrefixInfo(info)]);
    rig.ra(
        "fe80::99",
        advert,
        &[Opt::PrefixInfo(PrefixInfo {
            prefix: ip("fe80::"),
            ..info
        })],
    );
    assert_eq!(rig.routes(), ["2001:db8:1::/64 on link"]);
    assert!(slaac(&rig).is_empty());
    rig.pass(99_000);
    rig.ra("fe80::99", advert, &[Opt::PrefixInfo(info)]);
    rig.pass(99_000);
    assert_eq!(rig.routes().len(), 1);
    rig.pass(2_000);
    assert!(rig.routes().is_empty());
    rig.ra("fe80::99", advert, &[Opt::PrefixInfo(info)]);
    rig.ra(
        "fe80::99",
        advert,
        &[Opt::PrefixInfo(PrefixInfo {
            valid_lifetime: 0,
            preferred_lifetime: 0,
            ..info
        })],
    );
    assert!(rig.routes().is_empty());
}

/// RFC 4862 5.5: an address of each prefix, stable, with duplicate detection; deprecated, then gone.
#[test]
fn addresses_from_prefixes() {
    let mut rig = Rig::settled(config());
    rig.ra(
        "fe80::99",
        ADVERT,
        &[Opt::PrefixInfo(prefix("2001:db8:1::", 10_000, 5_000))],
    );
    let (addr, state) = slaac(&rig)[0];
    assert_eq!(
        (&addr.0[..8], state),
        (&ip("2001:db8:1::").0[..8], AddressState::Tentative)
    );
    rig.pass(3_000);
    assert_eq!(slaac(&rig), [(addr, AddressState::Preferred)]);
    rig.pass(5_000_000);
    assert_eq!(slaac(&rig), [(addr, AddressState::Deprecated)]);
    rig.ra(
        "fe80::99",
        ADVERT,
        &[Opt::PrefixInfo(prefix("2001:db8:1::", 10_000, 5_000))],
    );
    assert_eq!(
        slaac(&rig),
        [(addr, AddressState::Preferred)],
        "the same address"
    );
    rig.pass(10_001_000);
    assert!(slaac(&rig).is_empty());
    // The same prefix again gives the same address, another prefix another identifier.
    rig.ra(
        "fe80::99",
        ADVERT,
        &[Opt::PrefixInfo(prefix("2001:db8:1::", 10_000, 5_000))],
    );
    rig.ra(
        "fe80::99",
        ADVERT,
        &[Opt::PrefixInfo(prefix("2001:db8:2::", 10_000, 5_000))],
    );
    let both = slaac(&rig);
    assert_eq!(both[0].0, addr);
    assert_ne!(both[1].0.0[8..], addr.0[8..]);
    // RFC 4862 5.5.3: these make none.
    let good = prefix("2001:db8:3::", 100, 50);
    for bad in [
        PrefixInfo {
            autonomous: false,
            ..good
        },
        PrefixInfo {
            preferred_lifetime: 101,
            ..good
        },
        PrefixInfo {
            valid_lifetime: 0,
            preferred_lifetime: 0,
            ..good
        },
        PrefixInfo {
            prefix_len: 63,
            ..good
        },
        PrefixInfo {
            prefix: ip("fe80::"),
            ..good
        },
    ] {
        rig.ra("fe80::99", ADVERT, &[Opt::PrefixInfo(bad)]);
        assert_eq!(slaac(&rig).len(), 2, "{bad:?}");
    }
}

/// RFC 4862 5.5.3 e: the two-hour rule.
#[test]
fn two_hour_rule() {
    let now = Instant::from_secs(1_000_000);
    let hours = |h: u64| now + Duration::from_secs(h * 3600);
    let end = |current, seconds| super::slaac::new_valid_until(now, current, seconds);
    // 1: longer than two hours, or than what is left, is taken.
    assert_eq!(end(hours(5), 3 * 3600), hours(3));
    assert_eq!(end(hours(1), 5400), now + Duration::from_secs(5400));
    assert_eq!(end(hours(1), u32::MAX), Instant::FAR);
    // 2: with two hours or less left, a shorter one is ignored.
    assert_eq!(end(hours(2), 60), hours(2));
    assert_eq!(end(hours(1), 0), hours(1));
    // 3: else it is cut to two hours.
    assert_eq!(end(hours(5), 60), hours(2));
    assert_eq!(end(Instant::FAR, 7200), hours(2));
}

/// Advertisements of ever new routers and prefixes: bounded.
#[test]
fn advertisement_flood_is_bounded() {
    let mut rig = Rig::settled(config());
    for n in 0..2_000u32 {
        let src = format!("fe80::{:x}", n + 1);
        let info = prefix(&format!("2001:db8:{n:x}::"), 100_000, 50_000);
        rig.ra(&src, ADVERT, &[Opt::SourceMac(PEER), Opt::PrefixInfo(info)]);
        rig.frames();
    }
    assert!(rig.routes().len() <= 65);
    assert_eq!(slaac(&rig).len(), 16);
    assert!(rig.core.wheel.len() <= 16 + 64 + 2 * 20 + 64);
    assert!(rig.core.stats.counts.get(Count::AdvertisedTooMuch) > 0);
}

/// A flood of routers that do not exist does not shut out the one that does: it takes the place of one that did not answer.
#[test]
fn a_real_router_finds_its_place() {
    let mut rig = Rig::settled(config());
    for n in 0..40u32 {
        let src = format!("fe80::bad:{:x}", n + 1);
        rig.ra(
            &src,
            ADVERT,
            &[Opt::SourceMac(Mac([2, 0, 0, 0, 1, n as u8]))],
        );
    }
    rig.ra("fe80::99", ADVERT, &[Opt::SourceMac(PEER)]);
    assert!(rig.routes()[0].contains("fe80::bad:"));
    // The one in use is found out, and it says so again (RFC 4861 6.2.4).
    let gateway = rig.routes()[0].trim_start_matches("::/0 via ").to_string();
    rig.send("fe80::9", "fd99::1", &gateway);
    rig.pass(20_000);
    rig.ra("fe80::99", ADVERT, &[Opt::SourceMac(PEER)]);
    for _ in 0..20 {
        let gateway = rig.routes()[0].trim_start_matches("::/0 via ").to_string();
        rig.send("fe80::9", "fd99::1", &gateway);
        for _ in 0..10 {
            rig.pass(1_000);
            let own = rig.link_local().to_string();
            rig.na("fe80::99", &own, "fe80::99", "RS", None);
        }
    }
    assert_eq!(rig.routes(), ["::/0 via fe80::99"]);
}

/// RFC 4191: routes by way of a router, with preference and lifetime; `::/0` is about the router as a default one.
#[test]
fn routes_are_advertised() {
    let mut rig = Rig::settled(config());
    let none = RouterAdvert {
        router_lifetime: 0,
        ..ADVERT
    };
    let route = |prefix: &str, preference, lifetime| {
        Opt::RouteInfo(ndp::RouteInfo {
            prefix: prefix.parse().unwrap(),
            preference,
            lifetime,
        })
    };
    let medium = Preference::Medium;
    let (far, mac) = ("2001:db8:7::/48", Opt::SourceMac(PEER));
    rig.ra("fe80::1:1", none, &[mac, route(far, medium, 600)]);
    assert_eq!(rig.routes(), ["2001:db8:7::/48 via fe80::1:1"]);
    // The router that is preferred carries it; with its lifetime the route ends.
    rig.ra("fe80::1:2", none, &[mac, route(far, Preference::High, 100)]);
    assert_eq!(next_hop(&mut rig, "2001:db8:7::5"), "fe80::1:2");
    rig.ra("fe80::1:2", none, &[mac, route(far, Preference::Low, 100)]);
    assert_eq!(next_hop(&mut rig, "2001:db8:7::5"), "fe80::1:1");
    rig.ra("fe80::1:2", none, &[mac, route(far, Preference::High, 100)]);
    rig.pass(101_000);
    assert_eq!(rig.routes(), ["2001:db8:7::/48 via fe80::1:1"]);
    // Or when it is taken back, or the router does not answer.
    rig.ra("fe80::1:1", none, &[mac, route(far, medium, 0)]);
    assert!(rig.routes().is_empty());
    rig.ra("fe80::1:1", none, &[mac, route(far, medium, 600)]);
    rig.send("fe80::9", "2001:db8:7::5", "fe80::1:1");
    rig.pass(20_000);
    assert!(rig.routes().is_empty());
    // A default router after all.
    rig.ra(
        "fe80::1:1",
        none,
        &[mac, route("::/0", Preference::High, 600)],
    );
    rig.ra("fe80::1:2", ADVERT, &[mac]);
    assert_eq!(rig.routes(), ["::/0 via fe80::1:1"]);
    // Not what lies on the link anyway, nor more than there is room for.
    for prefix in ["fe80::/64", "ff00::/8"] {
        rig.ra("fe80::1:1", none, &[route(prefix, medium, 600)]);
    }
    assert!(rig.routes().len() <= 1);
    for n in 0..500u32 {
        rig.ra(
            "fe80::1:2",
            none,
            &[route(&format!("2001:db8:{n:x}::/48"), medium, 600)],
        );
    }
    assert_eq!(rig.routes().len(), 64);
    assert!(rig.core.stats.counts.get(Count::AdvertisedTooMuch) > 0);
    rig.pass(601_000);
    assert!(rig.routes().is_empty());
}

/// RFC 7217: identifiers avoid the reserved ones and depend on everything they should.
#[test]
fn interface_identifiers() {
    use super::slaac::interface_id;
    let key = SipKey([7; 16]);
    let base = interface_id(&key, &ip("2001:db8::"), OWN, 0);
    assert_eq!(
        base,
        interface_id(&key, &ip("2001:db8::1"), OWN, 0),
        "only the prefix counts"
    );
    assert_ne!(base, interface_id(&key, &ip("2001:db8:0:1::"), OWN, 0));
    assert_ne!(base, interface_id(&key, &ip("2001:db8::"), PEER, 0));
    assert_ne!(base, interface_id(&key, &ip("2001:db8::"), OWN, 1));
    assert_ne!(
        base,
        interface_id(&SipKey([8; 16]), &ip("2001:db8::"), OWN, 0)
    );
}

fn next_hop(rig: &mut Rig, dst: &str) -> String {
    let path = rig.net.route(&mut rig.core, ip(dst), None, None).unwrap();
    path.next_hop.to_string()
}

fn redirect(rig: &mut Rig, from: &str, destination: &str, target: &str, mac: Option<Mac>) {
    let mut options = OptionBuf::<8>::new();
    mac.map(|mac| options.push(&Opt::TargetMac(mac)));
    let to = rig.link_local().to_string();
    let message = ndp::Repr::Redirect {
        target: ip(target),
        destination: ip(destination),
        options: options.options(),
    };
    rig.ndp(from, &to, &message);
}

/// RFC 4861 8.1, 8.3: the first hop in use may name a better one, or say that the destination is a neighbour; nobody else.
#[test]
fn redirects() {
    let mut rig = Rig::settled(config());
    let info = prefix("2001:db8:1::", 100_000, 50_000);
    rig.ra(
        "fe80::99",
        ADVERT,
        &[Opt::SourceMac(PEER), Opt::PrefixInfo(info)],
    );
    rig.pass(5_000);
    let far = "2001:db8:ffff::1";
    assert_eq!(next_hop(&mut rig, far), "fe80::99");
    let epoch = rig.net.epoch();
    redirect(&mut rig, "fe80::66", far, "fe80::98", None);
    assert_eq!(next_hop(&mut rig, far), "fe80::99", "not from the router");
    redirect(&mut rig, "fe80::99", far, "2001:db8:9::9", None);
    assert_eq!(rig.drops(Drop::NdpInvalid), 1, "neither router nor target");
    assert_eq!(rig.net.epoch(), epoch);
    redirect(&mut rig, "fe80::99", far, "fe80::98", Some(OWN));
    assert_ne!(rig.net.epoch(), epoch, "paths are looked up anew");
    assert_eq!(next_hop(&mut rig, far), "fe80::98");
    assert_eq!(next_hop(&mut rig, "2001:db8:ffff::2"), "fe80::99");
    let at = rig.net.neighbours.find(IF, &ip("fe80::98")).unwrap();
    assert_eq!(rig.net.neighbours.last_mac(at), Some(OWN));
    // On the link after all.
    redirect(&mut rig, "fe80::98", far, far, None);
    assert_eq!(next_hop(&mut rig, far), far);
    // RFC 4861 8.3, 7.3.3: a router that does not answer is not used.
    let other = "2001:db8:ffff::3";
    redirect(&mut rig, "fe80::99", other, "fe80::97", None);
    assert_eq!(next_hop(&mut rig, other), "fe80::97");
    rig.send("2001:db8:1::9", other, "fe80::97");
    rig.pass(5_000);
    assert_eq!(next_hop(&mut rig, other), "fe80::99");
    rig.pass(601_000);
    assert_eq!(next_hop(&mut rig, far), "fe80::99", "forgotten");
}

/// Redirects for ever new destinations: bounded.
#[test]
fn redirect_flood_is_bounded() {
    let mut rig = Rig::settled(config());
    let info = prefix("2001:db8:1::", 100_000, 50_000);
    rig.ra(
        "fe80::99",
        ADVERT,
        &[Opt::SourceMac(PEER), Opt::PrefixInfo(info)],
    );
    rig.pass(5_000);
    let timers = rig.core.wheel.len();
    for n in 0..1000 {
        redirect(
            &mut rig,
            "fe80::99",
            &format!("2001:db8:ffff::{n:x}"),
            "fe80::98",
            None,
        );
    }
    assert_eq!(rig.core.stats.counts.get(Count::Redirected), 1000);
    assert_eq!(rig.routes().len(), 64 + 2);
    assert!(rig.core.wheel.len() <= timers + 64);
    rig.pass(601_000);
    assert_eq!(rig.routes().len(), 2);
}
