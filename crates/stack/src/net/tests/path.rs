//! Ways, sources, path MTUs and their epochs; what may be configured.

use super::*;
use crate::error::ConfigError;

fn route(rig: &mut Rig, dst: &str) -> Result<Path, RouteError> {
    rig.net.route(&mut rig.core, ip(dst), None, None)
}

#[test]
fn the_way_to_a_destination() {
    let mut rig = Rig::new();
    for (dst, interface, src, next_hop) in [
        ("10.0.0.2", IF0, "10.0.0.1", "10.0.0.2"),
        ("192.168.7.9", IF1, "192.168.7.1", "192.168.7.9"),
        ("203.0.113.5", IF0, "10.0.0.1", "10.0.0.254"),
        ("10.0.0.255", IF0, "10.0.0.1", "10.0.0.255"),
        ("255.255.255.255", IF0, "10.0.0.1", "255.255.255.255"),
        ("239.1.1.1", IF0, "10.0.0.1", "239.1.1.1"),
        ("fd00::2", IF0, "fd00::1", "fd00::2"),
        ("fd07::9", IF1, "fd07::1", "fd07::9"),
        ("2001:db8::1", IF0, "fd00::1", "fd00::254"),
        ("10.0.0.1", InterfaceId::LOOPBACK, "10.0.0.1", "10.0.0.1"),
        ("fd07::1", InterfaceId::LOOPBACK, "fd07::1", "fd07::1"),
        ("127.4.4.4", InterfaceId::LOOPBACK, "127.0.0.1", "127.4.4.4"),
        ("::1", InterfaceId::LOOPBACK, "::1", "::1"),
    ] {
        let path = route(&mut rig, dst).unwrap();
        let found = (path.interface, path.src, path.next_hop);
        assert_eq!(found, (interface, ip(src), ip(next_hop)), "{dst}");
        assert_eq!(
            path.mtu,
            if interface == InterfaceId::LOOPBACK {
                65_535
            } else {
                1500
            }
        );
    }
    for dst in ["0.0.0.0", "::", "240.0.0.1"] {
        assert_eq!(route(&mut rig, dst), Err(RouteError::NoRoute), "{dst}");
    }
}

#[test]
fn the_caller_may_say_from_where() {
    let mut rig = Rig::new();
    let from = |rig: &mut Rig, dst: &str, src: &str| {
        let path = rig.net.route(&mut rig.core, ip(dst), Some(ip(src)), None);
        path.map(|path| (path.interface, path.src))
    };
    // An address of another interface: the weak host sends by route.
    assert_eq!(
        from(&mut rig, "10.0.0.2", "192.168.7.1"),
        Ok((IF0, ip("192.168.7.1")))
    );
    // But groups go where their source is.
    assert_eq!(
        from(&mut rig, "239.1.1.1", "192.168.7.1"),
        Ok((IF1, ip("192.168.7.1")))
    );
    assert_eq!(
        from(&mut rig, "ff02::1", "fd07::1"),
        Ok((IF1, ip("fd07::1")))
    );
    for (dst, src) in [
        ("10.0.0.2", "10.0.0.9"),
        ("10.0.0.2", "fd00::1"),
        ("10.0.0.2", "127.0.0.1"),
        ("fd00::2", "::1"),
    ] {
        assert_eq!(
            from(&mut rig, dst, src),
            Err(RouteError::SourceNotLocal),
            "{src}"
        );
    }
}

#[test]
fn the_caller_may_say_by_which_interface() {
    let mut rig = Rig::new();
    let by = |rig: &mut Rig, dst: &str, interface| {
        let path = rig.net.route(&mut rig.core, ip(dst), None, Some(interface));
        path.map(|path| (path.interface, path.next_hop))
    };
    assert_eq!(by(&mut rig, "fe80::9", IF1), Ok((IF1, ip("fe80::9"))));
    assert_eq!(by(&mut rig, "fe80::9", IF0), Ok((IF0, ip("fe80::9"))));
    // Without, a link-local address is ambiguous here.
    assert_eq!(route(&mut rig, "fe80::9"), Err(RouteError::NoRoute));
    assert_eq!(by(&mut rig, "203.0.113.5", IF1), Err(RouteError::NoRoute));
    assert_eq!(
        by(&mut rig, "203.0.113.5", IF0),
        Ok((IF0, ip("10.0.0.254")))
    );
    assert_eq!(by(&mut rig, "224.0.0.9", IF1), Ok((IF1, ip("224.0.0.9"))));
    assert_eq!(
        by(&mut rig, "10.0.0.2", InterfaceId(9)),
        Err(RouteError::NoRoute)
    );
    // The link-local source says it, too.
    let (_, own) = rig
        .net
        .addresses
        .on(IF1)
        .find(|(_, entry)| entry.cidr.addr().is_link_local())
        .unwrap();
    let own = own.cidr.addr();
    let path = rig
        .net
        .route(&mut rig.core, ip("fe80::9"), Some(own), None)
        .unwrap();
    assert_eq!(path.interface, IF1);
}

#[test]
fn an_epoch_never_comes_again() {
    let mut rig = Rig::new();
    let path = route(&mut rig, "192.168.7.9").unwrap();
    for _ in 0..1 << 17 {
        rig.net.changed();
        assert_ne!(rig.net.epoch(), path.epoch);
    }
}

#[test]
fn addresses_and_routes_come_and_go_together() {
    let mut rig = Rig::new();
    let epoch = rig.net.epoch();
    rig.net
        .remove_address(&mut rig.core, IF1, ip("192.168.7.1"))
        .unwrap();
    assert_ne!(rig.net.epoch(), epoch);
    // By the default route now.
    assert_eq!(route(&mut rig, "192.168.7.9").unwrap().interface, IF0);
    assert!(!rig.net.is_local(&ip("192.168.7.1")) && !rig.net.is_broadcast(&ip("192.168.7.255")));
    let epoch = rig.net.epoch();
    let default = Route {
        dst: "0.0.0.0/0".parse().unwrap(),
        via: Some(ip("10.0.0.254")),
        interface: IF0,
        metric: 0,
    };
    rig.net.remove_route(&default).unwrap();
    assert_eq!(rig.net.remove_route(&default), Err(ConfigError::NotFound));
    assert_ne!(rig.net.epoch(), epoch);
    assert_eq!(route(&mut rig, "192.168.7.9"), Err(RouteError::NoRoute));
    rig.net
        .remove_address(&mut rig.core, IF0, ip("10.0.0.1"))
        .unwrap();
    assert_eq!(route(&mut rig, "10.0.0.2"), Err(RouteError::NoRoute));
}

#[test]
fn what_cannot_be_configured() {
    let mut rig = Rig::new();
    let mut add = |interface, cidr: &str| {
        rig.net
            .add_address(&mut rig.core, interface, cidr.parse().unwrap())
    };
    for cidr in [
        "0.0.0.0/0",
        "224.0.0.1/4",
        "255.255.255.255/32",
        "127.0.0.1/8",
        "10.9.0.0/16",
        "10.9.255.255/16",
        "240.0.0.1/8",
        "::/64",
        "ff02::1/64",
        "::1/128",
    ] {
        assert_eq!(add(IF0, cidr), Err(ConfigError::AddressInvalid), "{cidr}");
    }
    assert_eq!(add(IF1, "10.0.0.1/24"), Err(ConfigError::AddressExists));
    assert_eq!(
        add(InterfaceId(5), "10.0.9.1/24"),
        Err(ConfigError::NoSuchInterface)
    );
    assert_eq!(
        add(InterfaceId::LOOPBACK, "10.0.9.1/24"),
        Err(ConfigError::NoSuchInterface)
    );
    // Both ends of a /31, and a /32 (RFC 3021).
    for cidr in ["10.5.0.0/31", "10.5.0.3/31", "10.5.0.4/32"] {
        assert_eq!(add(IF1, cidr), Ok(()), "{cidr}");
    }
}

#[test]
fn gateways_that_cannot_be() {
    let mut rig = Rig::new();
    let mut add = |dst: &str, via: &str, interface| {
        rig.net.add_route(
            Route {
                dst: dst.parse().unwrap(),
                via: Some(ip(via)),
                interface,
                metric: 0,
            },
            RouteMetrics::default(),
        )
    };
    let unreachable = Err(ConfigError::GatewayUnreachable);
    assert_eq!(add("10.8.0.0/16", "10.0.0.9", IF1), unreachable);
    assert_eq!(add("10.8.0.0/16", "203.0.113.1", IF0), unreachable);
    assert_eq!(add("10.8.0.0/16", "10.0.0.1", IF0), unreachable);
    assert_eq!(add("10.8.0.0/16", "10.0.0.255", IF0), unreachable);
    assert!(matches!(
        add("10.8.0.0/16", "fd00::9", IF0),
        Err(ConfigError::Value(_))
    ));
    assert_eq!(
        add("10.8.0.0/16", "10.0.0.9", InterfaceId(2)),
        Err(ConfigError::NoSuchInterface)
    );
    assert_eq!(add("10.8.0.0/16", "10.0.0.9", IF0), Ok(()));
    // A link-local router is a neighbour on any link.
    assert_eq!(add("2001:db8::/32", "fe80::9", IF1), Ok(()));
}

#[test]
fn interfaces_that_cannot_be() {
    let mut rig = Rig::new();
    let link = |mtu, mac| InterfaceConfig {
        name: "x".into(),
        mac: Some(mac),
        mtu,
        offloads: Offloads::NONE,
    };
    for (mtu, mac) in [
        (575, PEER),
        (65_536, PEER),
        (1500, Mac::ZERO),
        (1500, Mac::BROADCAST),
    ] {
        let added = rig.net.add_interface(&mut rig.core, link(mtu, mac));
        assert!(matches!(added, Err(ConfigError::Value(_))));
    }
    // A link too small for IPv6.
    let small = rig
        .net
        .add_interface(&mut rig.core, link(1279, PEER))
        .unwrap();
    let added = rig
        .net
        .add_address(&mut rig.core, small, "fd01::1/64".parse().unwrap());
    assert!(matches!(added, Err(ConfigError::Value(_))));
}

#[test]
fn path_mtus_go_down_to_a_floor_and_come_back() {
    let mut rig = Rig::new();
    for (dst, floor) in [("203.0.113.5", 552), ("2001:db8::5", 1280)] {
        let mtu = |rig: &mut Rig| route(rig, dst).unwrap().mtu;
        let epoch = rig.net.epoch();
        assert_eq!(rig.net.pmtu_update(&mut rig.core, ip(dst), 1400), 1400);
        assert_eq!(mtu(&mut rig), 1400);
        assert_ne!(rig.net.epoch(), epoch);
        // RFC 8201 4: never raised by a report.
        let epoch = rig.net.epoch();
        assert_eq!(rig.net.pmtu_update(&mut rig.core, ip(dst), 1450), 1400);
        assert_eq!(rig.net.pmtu_update(&mut rig.core, ip(dst), 70_000), 1400);
        assert_eq!(rig.net.epoch(), epoch);
        // What cannot be is not believed for IPv6 (RFC 8201 4), and taken for the floor for IPv4.
        let below = rig.net.pmtu_update(&mut rig.core, ip(dst), 0);
        assert_eq!(below, if ip(dst).is_v4() { floor } else { 1400 });
        assert_eq!(
            rig.net
                .pmtu_update(&mut rig.core, ip(dst), u32::from(floor)),
            floor
        );
        assert_eq!(mtu(&mut rig), floor);
        // Confirmed after five minutes: ten more.
        rig.pass(300);
        rig.net
            .pmtu_update(&mut rig.core, ip(dst), u32::from(floor));
        rig.pass(301);
        assert_eq!(mtu(&mut rig), floor);
        let epoch = rig.net.epoch();
        rig.pass(300);
        assert_eq!(mtu(&mut rig), 1500);
        // Those who keep the path ask again.
        assert_ne!(rig.net.epoch(), epoch);
    }
}

#[test]
fn path_mtus_are_bounded() {
    let mut rig = Rig::new();
    for n in 0..200u8 {
        rig.net
            .pmtu_update(&mut rig.core, Addr::v4(203, 0, 113, n), 1000);
    }
    assert_eq!(rig.net.path_mtus.len(), 64);
    assert_eq!(route(&mut rig, "203.0.113.135").unwrap().mtu, 1500);
    assert_eq!(route(&mut rig, "203.0.113.136").unwrap().mtu, 1000);
    assert!(rig.core.wheel.len() < 64);
}
