//! What a route says of the connections that take it: `mtu`, `mtu lock`, `advmss`, `initcwnd`, `initrwnd`, `congctl`, as ip-route(8)
//! and Linux have them.

use stack::{ConfigError, Congestion, Route, RouteMetrics, SocketId, TcpOptions};
use wire::tcp::Options;

use crate::rig::{ACK, Open, Rig, SYN, nodelay, scaled};

const NONE: RouteMetrics = RouteMetrics {
    mtu: None,
    mtu_lock: false,
    advmss: None,
    initcwnd: None,
    initrwnd: None,
    congctl: None,
};

fn route(rig: &Rig) -> Route {
    Route {
        dst: "10.0.0.2/32".parse().unwrap(),
        via: None,
        interface: rig.interface,
        metric: 0,
    }
}

/// Routes the peer with these metrics.
fn set(rig: &mut Rig, metrics: RouteMetrics) {
    let (now, route) = (rig.now, route(rig));
    rig.host.add_route_with(now, route, metrics).unwrap();
    assert_eq!(rig.host.route_metrics(&route), Some(metrics));
}

fn routed(metrics: RouteMetrics) -> Rig {
    let mut rig = Rig::new();
    set(&mut rig, metrics);
    rig
}

/// Lengths of what leaves at once.
fn lengths(rig: &mut Rig) -> Vec<usize> {
    core::iter::from_fn(|| rig.next())
        .map(|s| s.data.len())
        .collect()
}

fn congestion(rig: &Rig, socket: SocketId) -> &'static str {
    rig.host.tcp_info(socket).unwrap().congestion
}

/// The MSS of our SYN, and of our SYN-ACK.
fn announced(metrics: RouteMetrics, options: &TcpOptions) -> [Option<u16>; 2] {
    let (_, syn) = routed(metrics).connect(options);
    let mut rig = routed(metrics);
    rig.listen(8, options);
    rig.send_with(999, 0, SYN, &[], scaled());
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK));
    [syn.options.mss, answer.options.mss]
}

#[test]
fn the_mss_announced_is_the_routes() {
    let plain = TcpOptions::default();
    let mtu = RouteMetrics {
        mtu: Some(1400),
        ..NONE
    };
    assert_eq!(announced(NONE, &plain), [Some(1460); 2]);
    assert_eq!(announced(mtu, &plain), [Some(1360); 2]);
    let wide = RouteMetrics {
        mtu: Some(9000),
        ..NONE
    };
    assert_eq!(
        announced(wide, &plain),
        [Some(1460); 2],
        "no more than the link"
    );
    let both = RouteMetrics {
        advmss: Some(1200),
        ..mtu
    };
    assert_eq!(announced(both, &plain), [Some(1200); 2]);
    let small = TcpOptions {
        max_segment: Some(1000),
        ..plain
    };
    assert_eq!(announced(both, &small), [Some(1000); 2], "TCP_MAXSEG");
}

#[test]
fn segments_fit_the_routes_mtu_from_the_moment_it_says_so() {
    let mut rig = routed(RouteMetrics {
        mtu: Some(1400),
        ..NONE
    });
    let open = rig.accepted(&nodelay());
    let path_mtu = |rig: &Rig| rig.host.path_mtu(rig.now, open.socket);
    assert_eq!(path_mtu(&rig), Ok(1400));
    rig.write(&open, &[1; 3000]);
    assert_eq!(lengths(&mut rig), [1360, 1360, 280]);
    set(
        &mut rig,
        RouteMetrics {
            mtu: Some(1000),
            ..NONE
        },
    );
    assert_eq!(path_mtu(&rig), Ok(1000));
    rig.write(&open, &[1; 2000]);
    assert_eq!(lengths(&mut rig), [960, 960, 80]);
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!((info.path_mtu, info.mss), (1000, 960));
}

/// `mtu lock`: routers may cut packets, and what they say of the path's MTU is passed over.
#[test]
fn a_locked_mtu_is_neither_learnt_nor_defended() {
    for lock in [false, true] {
        let mut rig = routed(RouteMetrics {
            mtu: Some(1300),
            mtu_lock: lock,
            ..NONE
        });
        let open = rig.accepted(&nodelay());
        rig.write(&open, &[1; 1260]);
        let first = rig.expect();
        assert_eq!(first.dont_fragment, !lock);
        crate::icmp::too_big(&mut rig, 1000, first.src_port, first.seq);
        let again: Vec<usize> = lengths(&mut rig);
        let path_mtu = rig.host.path_mtu(rig.now, open.socket).unwrap();
        if lock {
            assert_eq!((again, path_mtu), (vec![], 1300));
        } else {
            assert_eq!((again, path_mtu), (vec![960, 300], 1000));
        }
    }
}

#[test]
fn the_first_congestion_window_is_the_routes() {
    let segments = |initcwnd: Option<u16>, options: &TcpOptions| {
        let mut rig = routed(RouteMetrics { initcwnd, ..NONE });
        let small = Options {
            mss: Some(1000),
            ..Options::default()
        };
        let open = rig.accepted_with(options, small);
        rig.write(&open, &[1; 60_000]);
        lengths(&mut rig).len()
    };
    let plain = nodelay();
    assert_eq!(segments(None, &plain), 10);
    assert_eq!(segments(Some(3), &plain), 3);
    assert_eq!(segments(Some(30), &plain), 30);
    let own = TcpOptions {
        initial_cwnd: Some(5),
        ..plain
    };
    assert_eq!(segments(Some(3), &own), 5, "the socket's comes first");
}

/// Idle for long, it begins anew with what it began with (RFC 5681 4.1).
#[test]
fn after_idle_time_the_window_is_the_routes_again() {
    let mut rig = routed(RouteMetrics {
        initcwnd: Some(3),
        ..NONE
    });
    let open = rig.accepted(&nodelay());
    let mut at = open.host;
    for _ in 0..6 {
        rig.write(&open, &[1; 40_000]);
        while let sent @ 1.. = lengths(&mut rig).iter().sum::<usize>() {
            at = at.wrapping_add(sent as u32);
            rig.ms(1);
            rig.send(open.peer, at, ACK, &[]);
        }
    }
    let cwnd = |rig: &Rig| rig.host.tcp_info(open.socket).unwrap().cwnd / 1460;
    assert!(cwnd(&rig) > 10);
    rig.ms(60_000);
    rig.write(&open, &[1; 40_000]);
    assert_eq!(lengths(&mut rig).len(), 3);
}

/// Segments that report what is out of order are shorter; a window of one segment is of a whole one all the same.
#[test]
fn a_window_of_one_segment_is_of_a_whole_one() {
    let mut rig = routed(RouteMetrics {
        initcwnd: Some(1),
        ..NONE
    });
    let open = rig.accepted_with(&nodelay(), scaled());
    rig.write(&open, &[1; 5000]);
    assert_eq!(lengths(&mut rig), [1460]);
    rig.ms(1);
    let at = open.host.wrapping_add(1460);
    rig.send(open.peer, at, ACK, &[]);
    assert_eq!(lengths(&mut rig), [1460, 1460]);
    rig.send(open.peer, at.wrapping_add(2920), ACK, &[]);
    assert_eq!(lengths(&mut rig), [620]);
    rig.send(open.peer, at.wrapping_add(3540), ACK, &[]);
    rig.ms(60_000);
    rig.send(
        open.peer.wrapping_add(10),
        at.wrapping_add(3540),
        ACK,
        b"later",
    );
    rig.write(&open, &[1; 5000]);
    let sent = lengths(&mut rig);
    assert_eq!(sent.iter().filter(|len| **len > 0).count(), 1, "{sent:?}");
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert!(info.cwnd >= info.mss, "{} of {}", info.cwnd, info.mss);
}

#[test]
fn the_first_window_offered_is_the_routes_until_data_come() {
    let metrics = RouteMetrics {
        initrwnd: Some(4),
        ..NONE
    };
    let (_, syn) = routed(metrics).connect(&TcpOptions::default());
    assert_eq!(syn.window, 4 * 1460);
    let mut rig = routed(metrics);
    rig.listen(8, &nodelay());
    rig.send_with(999, 0, SYN, &[], scaled());
    assert_eq!(rig.expect().window, 4 * 1460);
    let mut rig = routed(metrics);
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 10]);
    assert_eq!(rig.expect().window, 4 * 1460);
    rig.send(open.peer, open.host.wrapping_add(10), ACK, &[1; 1460]);
    rig.send(
        open.peer.wrapping_add(1460),
        open.host.wrapping_add(10),
        ACK,
        &[1; 1460],
    );
    let last = core::iter::from_fn(|| rig.next()).last();
    assert!(last.unwrap().window > 8 * 1460, "then as ever");
    // More than there is room for is what there is room for.
    let wide = RouteMetrics {
        initrwnd: Some(1000),
        ..NONE
    };
    let usual = routed(NONE).connect(&TcpOptions::default()).1.window;
    let (_, syn) = routed(wide).connect(&TcpOptions::default());
    assert_eq!(syn.window, usual);
}

#[test]
fn congestion_control_is_the_routes_unless_the_socket_says() {
    let mut rig = routed(RouteMetrics {
        congctl: Some(Congestion::Reno),
        ..NONE
    });
    let (socket, _) = rig.connect(&TcpOptions::default());
    assert_eq!(congestion(&rig, socket), "reno");
    let own = TcpOptions {
        congestion: Some(Congestion::Cubic),
        ..TcpOptions::default()
    };
    let (socket, _) = rig.connect(&own);
    assert_eq!(congestion(&rig, socket), "cubic");
    for cookies in [0, 2] {
        let mut settings = rig.host.tcp_tunables();
        settings.set_text("congestion_control", "bbr").unwrap();
        settings.syncookies = cookies;
        rig.host.set_tcp_tunables(settings).unwrap();
        rig.peer_port += 1;
        let listener = rig.listen(8, &TcpOptions::default());
        rig.send(999, 0, SYN, &[]);
        let answer = rig.expect();
        rig.send(1000, answer.seq.wrapping_add(1), ACK, &[]);
        let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
        assert_eq!(congestion(&rig, socket), "reno", "before the host's");
        rig.host.close(rig.now, listener).unwrap();
        lengths(&mut rig);
    }
}

#[test]
fn routes_lose_their_metrics_and_refuse_such_as_cannot_be() {
    let mut rig = routed(RouteMetrics {
        advmss: Some(1000),
        ..NONE
    });
    let (now, route) = (rig.now, route(&rig));
    rig.host.add_route(now, route).unwrap();
    assert_eq!(rig.host.route_metrics(&route), Some(NONE));
    let (_, syn) = rig.connect(&TcpOptions::default());
    assert_eq!(syn.options.mss, Some(1460));
    rig.host.remove_route(now, &route).unwrap();
    assert_eq!(rig.host.route_metrics(&route), None);
    let mut refuses = |metrics| {
        let refused = rig.host.add_route_with(now, route, metrics);
        assert!(matches!(refused, Err(ConfigError::Value(_))), "{metrics:?}");
    };
    let zero = Some(0);
    refuses(RouteMetrics {
        mtu: Some(67),
        ..NONE
    });
    refuses(RouteMetrics {
        mtu_lock: true,
        ..NONE
    });
    refuses(RouteMetrics {
        advmss: zero,
        ..NONE
    });
    refuses(RouteMetrics {
        initcwnd: zero,
        ..NONE
    });
    refuses(RouteMetrics {
        initrwnd: zero,
        ..NONE
    });
    assert_eq!(rig.host.route_metrics(&route), None, "nothing has changed");
}

/// A longer prefix has metrics of its own; others are as before.
#[test]
fn metrics_are_those_of_the_longest_prefix() {
    let mut rig = Rig::new();
    let (now, narrow) = (rig.now, route(&rig));
    let whole = Route {
        dst: "10.0.0.0/30".parse().unwrap(),
        ..narrow
    };
    let with = |initcwnd| RouteMetrics {
        initcwnd: Some(initcwnd),
        ..NONE
    };
    rig.host.add_route_with(now, whole, with(7)).unwrap();
    let count = |rig: &mut Rig, open: Open| {
        rig.write(&open, &[1; 60_000]);
        let count = lengths(rig).len();
        rig.peer_port += 1;
        count
    };
    let open = rig.accepted(&nodelay());
    assert_eq!(count(&mut rig, open), 7);
    let mut rig = Rig::new();
    rig.host.add_route_with(now, whole, with(7)).unwrap();
    rig.host.add_route_with(now, narrow, with(4)).unwrap();
    let open = rig.accepted(&nodelay());
    assert_eq!(count(&mut rig, open), 4);
}
