use super::*;
use base::Rng;
use wire::Cidr;

fn route(dst: &str, interface: u8, metric: u32) -> Route {
    Route {
        dst: dst.parse().unwrap(),
        via: None,
        interface: InterfaceId(interface),
        metric,
    }
}

fn via(routes: &mut Routes, dst: &str) -> Option<u8> {
    routes
        .lookup(&dst.parse().unwrap())
        .map(|found| found.route.interface.0)
}

#[test]
fn longest_prefix_then_lowest_metric() {
    let mut routes = Routes::new(64);
    for (dst, interface, metric) in [
        ("10.0.0.0/8", 1, 10),
        ("10.1.0.0/16", 2, 10),
        ("10.1.2.0/24", 3, 50),
        ("10.1.2.0/24", 4, 20),
        ("10.1.2.0/24", 5, 20),
        ("fd00::/16", 6, 0),
        ("fd00:1::/32", 7, 0),
    ] {
        routes
            .add(
                route(dst, interface, metric),
                RouteMetrics::default(),
                RouteOrigin::Manual,
            )
            .unwrap();
    }
    assert_eq!(via(&mut routes, "10.9.9.9"), Some(1));
    assert_eq!(via(&mut routes, "10.1.9.9"), Some(2));
    // The same metric: the one that was there first.
    assert_eq!(via(&mut routes, "10.1.2.255"), Some(4));
    assert_eq!(via(&mut routes, "10.1.3.0"), Some(2));
    assert_eq!(via(&mut routes, "9.255.255.255"), None);
    assert_eq!(via(&mut routes, "11.0.0.0"), None);
    assert_eq!(via(&mut routes, "fd00:1::1"), Some(7));
    assert_eq!(via(&mut routes, "fd00:2::1"), Some(6));
    assert_eq!(via(&mut routes, "fd01::1"), None);
    assert!(routes.remove(&route("10.1.2.7/24", 4, 0), RouteOrigin::Manual));
    assert_eq!(via(&mut routes, "10.1.2.255"), Some(5));
    // Adding it again changes its metric.
    routes
        .add(
            route("10.1.2.0/24", 3, 1),
            RouteMetrics::default(),
            RouteOrigin::Manual,
        )
        .unwrap();
    assert_eq!(via(&mut routes, "10.1.2.255"), Some(3));
}

#[test]
fn default_routes_keep_to_their_family() {
    let mut routes = Routes::new(64);
    routes
        .add(
            route("::/0", 6, 0),
            RouteMetrics::default(),
            RouteOrigin::Manual,
        )
        .unwrap();
    assert_eq!(via(&mut routes, "2001:db8::1"), Some(6));
    assert_eq!(via(&mut routes, "192.0.2.1"), None);
    assert_eq!(via(&mut routes, "::fffe:0:0"), Some(6));
    assert_eq!(via(&mut routes, "::1:0:0:0"), Some(6));
    routes
        .add(
            route("0.0.0.0/0", 4, 0),
            RouteMetrics::default(),
            RouteOrigin::Manual,
        )
        .unwrap();
    assert_eq!(via(&mut routes, "192.0.2.1"), Some(4));
    assert_eq!(via(&mut routes, "0.0.0.0"), Some(4));
    assert_eq!(via(&mut routes, "255.255.255.255"), Some(4));
    assert_eq!(via(&mut routes, "ffff::1"), Some(6));
    assert!(routes.remove(&route("::/0", 6, 0), RouteOrigin::Manual));
    assert_eq!(via(&mut routes, "2001:db8::1"), None);
}

#[test]
fn the_table_is_bounded() {
    let mut routes = Routes::new(100);
    for n in 0..100u8 {
        routes
            .add(
                route(&format!("10.0.{n}.0/24"), n, 0),
                RouteMetrics::default(),
                RouteOrigin::Manual,
            )
            .unwrap();
    }
    assert_eq!(
        routes.add(
            route("10.0.100.0/24", 0, 0),
            RouteMetrics::default(),
            RouteOrigin::Manual
        ),
        Err(ConfigError::TableFull("routes"))
    );
    let room = (routes.starts.capacity(), routes.around.capacity());
    assert_eq!(via(&mut routes, "10.0.99.1"), Some(99));
    assert_eq!(room, (routes.starts.capacity(), routes.around.capacity()));
}

/// The rule itself: of all routes that contain the address the longest, then the lowest metric, then the oldest.
fn naive(list: &[Route], dst: &Addr) -> Option<InterfaceId> {
    let mut best: Option<&Route> = None;
    for route in list.iter().filter(|route| route.dst.contains(*dst)) {
        let better = best.is_none_or(|best| {
            route.dst.prefix() > best.dst.prefix()
                || (route.dst.prefix() == best.dst.prefix() && route.metric < best.metric)
        });
        if better {
            best = Some(route);
        }
    }
    best.map(|route| route.interface)
}

#[test]
fn agrees_with_a_naive_search() {
    for seed in 0..60 {
        let mut rng = Rng::from_seed(seed);
        let mut routes = Routes::new(2000);
        let mut list = Vec::new();
        let count = 1 + rng.below(if seed % 10 == 0 { 1500 } else { 60 });
        for n in 0..count {
            let addr = random_addr(&mut rng);
            let bits = addr.family().bits();
            let prefix = rng.below(u32::from(bits) + 1) as u8;
            let route = Route {
                dst: Cidr::new(addr, prefix).unwrap().network(),
                via: None,
                interface: InterfaceId((n % 250) as u8),
                metric: rng.below(3),
            };
            if routes.find(&route, RouteOrigin::Manual).is_some() {
                continue;
            }
            routes
                .add(route, RouteMetrics::default(), RouteOrigin::Manual)
                .unwrap();
            list.push(route);
        }
        for _ in 0..20 {
            let gone = list.remove(rng.below(list.len() as u32) as usize);
            assert!(routes.remove(&gone, RouteOrigin::Manual));
            if list.is_empty() {
                break;
            }
        }
        for n in 0..400 {
            let mut dst = random_addr(&mut rng);
            if n % 2 == 0 && !list.is_empty() {
                // Near the edges of a prefix.
                let edge = list[rng.below(list.len() as u32) as usize].dst;
                let last = edge.addr().to_bits()
                    | u128::MAX
                        .checked_shr(u32::from(edge.mapped_prefix()))
                        .unwrap_or(0);
                let first = edge.addr().to_bits();
                dst = Addr::from_bits(match rng.below(4) {
                    0 => first,
                    1 => last,
                    2 => first.wrapping_sub(1),
                    _ => last.wrapping_add(1),
                });
            }
            let found = routes.lookup(&dst).map(|found| found.route.interface);
            assert_eq!(found, naive(&list, &dst), "seed {seed}: {dst}");
        }
        assert!(routes.starts.is_sorted_by(|a, b| a < b));
        assert!(routes.starts.len() <= 2 * routes.max + 4);
    }
}

/// Few leading bits differ, so that prefixes nest.
fn random_addr(rng: &mut Rng) -> Addr {
    if rng.below(2) == 0 {
        let [.., a, b] = rng.u32().to_be_bytes();
        Addr::v4(10 + (a & 1), a & 3, b & 7, rng.u32() as u8)
    } else {
        let high = u128::from(rng.below(4)) << 124;
        Addr::from_bits(high | u128::from(rng.below(16)) << 60 | u128::from(rng.u64()) & 0xff)
    }
}
