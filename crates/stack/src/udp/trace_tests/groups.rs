//! Broadcasts and multicast groups.

use super::*;

/// RFC 1122 4.1.3.6 and Linux: broadcasts need permission, reach every socket of the port, and are never refused.
#[test]
fn broadcast() {
    let mut p = Pair::new();
    let client = p.plain(0, "0.0.0.0:0");
    let shared = UdpOptions {
        reuse_addr: true,
        ..UdpOptions::default()
    };
    let sockets = [
        p.bind(1, "0.0.0.0:7", shared),
        p.bind(1, "[::]:7", shared),
        p.bind(1, "10.0.0.255:7", shared),
    ];
    let specific = p.bind(1, "10.0.0.2:7", shared);
    for to in ["255.255.255.255:7", "10.0.0.255:7"] {
        assert_eq!(
            p.send(0, client, b"x", to),
            Err(SocketError::PermissionDenied)
        );
    }
    p.hosts[0]
        .udp_set_options(client, |o| o.broadcast = true)
        .unwrap();
    assert_eq!(p.send(0, client, b"small", "10.0.0.255:7"), Ok(5));
    assert_eq!(p.send(0, client, &[5; 1000], "10.0.0.255:7"), Ok(1000));
    for socket in sockets {
        assert_eq!(p.recv(1, socket).unwrap().0, b"small");
        assert_eq!(p.recv(1, socket).unwrap().0, [5; 1000]);
    }
    assert_eq!(p.recv(1, specific), Err(SocketError::WouldBlock));
    assert_eq!(p.send(0, client, b"x", "255.255.255.255:9"), Ok(1));
    assert_eq!(p.drops(1, Drop::UdpNoSocket), 1);
    assert_eq!(p.hosts[0].take_error(client), None);
    p.empty();
}

/// Groups: received when joined, by every socket of the port; not after leaving or closing.
#[test]
fn multicast() {
    for (group, any) in [("239.1.2.3", "0.0.0.0"), ("[ff15::5]", "[::]")] {
        let mut p = Pair::new();
        let to = format!("{group}:7");
        let ip = at(&to).ip();
        let client = p.plain(0, &format!("{any}:0"));
        let server = p.plain(1, &format!("{any}:7"));
        let send = |p: &mut Pair| p.send(0, client, b"x", &to).unwrap();
        send(&mut p);
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        p.hosts[1].udp_join(p.now, server, IF, ip).unwrap();
        assert_eq!(
            p.hosts[1].udp_join(p.now, server, IF, ip),
            Err(SocketError::AddrInUse)
        );
        send(&mut p);
        let received = p.hosts[1].udp_recv(server, &mut [0; 9]).unwrap();
        assert_eq!((received.copied, received.ttl, received.to), (1, 1, ip));
        p.hosts[1].udp_leave(p.now, server, IF, ip).unwrap();
        send(&mut p);
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        p.hosts[1].udp_join(p.now, server, IF, ip).unwrap();
        p.hosts[1].close(p.now, server).unwrap();
        let server = p.plain(1, &format!("{any}:7"));
        send(&mut p);
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        p.pass(5_000);
        p.empty();
    }
}

/// With IP_MULTICAST_ALL off a socket hears the groups it is in alone; nothing of TTL 0 leaves.
#[test]
fn groups_of_others() {
    for (group, other, any) in [
        ("239.1.2.3", "239.1.2.4", "0.0.0.0"),
        ("[ff15::5]", "[ff15::6]", "[::]"),
    ] {
        let mut p = Pair::new();
        let alone = UdpOptions {
            multicast_all: false,
            multicast_all_v6: false,
            reuse_addr: true,
            ..UdpOptions::default()
        };
        let all = UdpOptions {
            reuse_addr: true,
            ..UdpOptions::default()
        };
        let sender = p.plain(0, &format!("{any}:0"));
        let to = [group, other].map(|group| format!("{group}:7"));
        let mine = [
            p.bind(1, &format!("{any}:7"), alone),
            p.bind(1, &format!("{any}:7"), all),
        ];
        for (socket, to) in mine.iter().zip(&to) {
            let ip = at(to).ip();
            p.hosts[1].udp_join(p.now, *socket, IF, ip).unwrap();
        }
        for (to, first) in to.iter().zip([true, false]) {
            p.send(0, sender, b"x", to).unwrap();
            assert_eq!(p.recv(1, mine[0]).is_ok(), first, "{to}");
            p.recv(1, mine[1]).unwrap();
        }
        let quiet = |o: &mut UdpOptions| o.multicast_ttl = 0;
        p.hosts[0].udp_set_options(sender, quiet).unwrap();
        p.send(0, sender, b"x", &to[0]).unwrap();
        assert_eq!(p.recv(1, mine[0]), Err(SocketError::WouldBlock));
        p.pass(5_000);
    }
}

/// As on Linux a host hears its own multicasts, if it is in the group and does not say otherwise, and its own broadcasts.
#[test]
fn own_groups_are_heard() {
    for (group, any, own) in [
        ("239.1.2.3", "0.0.0.0", "10.0.0.1:8"),
        ("[ff15::5]", "[::]", "[fd00::1]:8"),
        ("10.0.0.255", "0.0.0.0", "10.0.0.1:8"),
    ] {
        let mut p = Pair::new();
        let to = format!("{group}:7");
        let ip = at(&to).ip();
        let options = UdpOptions {
            broadcast: true,
            ..UdpOptions::default()
        };
        let sender = p.bind(0, &format!("{any}:8"), options);
        let mine = p.plain(0, &format!("{any}:7"));
        let theirs = p.plain(1, &format!("{any}:7"));
        if ip.is_multicast() {
            p.hosts[1].udp_join(p.now, theirs, IF, ip).unwrap();
            assert_eq!(p.send(0, sender, b"x", &to), Ok(1));
            assert_eq!(p.recv(0, mine), Err(SocketError::WouldBlock), "not joined");
            p.recv(1, theirs).unwrap();
            p.hosts[0].udp_join(p.now, mine, IF, ip).unwrap();
        }
        for payload in [vec![3; 5], vec![4; 5000]] {
            assert_eq!(p.send(0, sender, &payload, &to), Ok(payload.len()));
            assert_eq!(p.recv(0, mine).unwrap(), (payload.clone(), at(own)));
            assert_eq!(p.recv(1, theirs).unwrap(), (payload, at(own)));
            assert_eq!(p.recv(1, theirs), Err(SocketError::WouldBlock), "once");
        }
        p.hosts[0]
            .udp_set_options(sender, |o| o.multicast_loop = false)
            .unwrap();
        p.send(0, sender, b"x", &to).unwrap();
        assert_eq!(p.recv(0, mine).is_ok(), !ip.is_multicast());
        p.recv(1, theirs).unwrap();
        p.pass(5_000);
        p.empty();
    }
}
