//! Sockets bound to one interface of two (SO_BINDTODEVICE). `interop` plays the same beside the kernel.

use base::Offloads;
use stack::{
    InterfaceConfig, InterfaceId, ListPlace, Route, SocketError, SocketFilter, SocketId,
    TcpOptions, TcpTunables,
};
use wire::Mac;

use crate::rig::{ACK, Flags, LOCAL, PSH, REMOTE, RST, Rig, SYN, Seg, config};

const FIRST: InterfaceId = InterfaceId(0);
const SECOND: InterfaceId = InterfaceId(1);

fn on(device: InterfaceId) -> TcpOptions {
    TcpOptions {
        device: Some(device),
        ..TcpOptions::default()
    }
}

/// A host with a second link, by which the peer can be reached, too, though routes prefer the first.
fn rig() -> Rig {
    with(TcpTunables::default())
}

fn with(tcp: TcpTunables) -> Rig {
    let mut rig = Rig::with(stack::Config { tcp, ..config() });
    let link = InterfaceConfig {
        name: "second".into(),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        offloads: Offloads::NONE,
    };
    let second = rig.host.add_interface(rig.now, link).unwrap();
    assert_eq!((rig.interface, second), (FIRST, SECOND));
    let own = "10.0.1.1/24".parse().unwrap();
    rig.host.add_address(rig.now, SECOND, own).unwrap();
    for (interface, metric) in [(FIRST, 1), (SECOND, 1000)] {
        let route = Route {
            dst: "10.0.0.2/32".parse().unwrap(),
            via: None,
            interface,
            metric,
        };
        rig.host.add_route(rig.now, route).unwrap();
    }
    rig
}

/// Lets a segment come by a link; what leaves then, and by which.
fn arrive(
    rig: &mut Rig,
    by: InterfaceId,
    (seq, ack, flags): (u32, u32, Flags),
    data: &[u8],
) -> Vec<(InterfaceId, Seg)> {
    rig.interface = by;
    rig.send(seq, ack, flags, data);
    leaves(rig)
}

fn leaves(rig: &mut Rig) -> Vec<(InterfaceId, Seg)> {
    let mut left = Vec::new();
    // What has left is told with the link that was looked at last.
    let other = InterfaceId(1 - rig.interface.0);
    for interface in [rig.interface, other] {
        rig.interface = interface;
        while let Some(segment) = rig.next() {
            left.push((interface, segment));
        }
    }
    left
}

/// The one segment that leaves.
fn only(left: Vec<(InterfaceId, Seg)>) -> (InterfaceId, Seg) {
    assert_eq!(left.len(), 1, "{left:?}");
    left.into_iter().next().unwrap()
}

fn syn(rig: &mut Rig, by: InterfaceId, port: u16) -> (InterfaceId, Seg) {
    rig.peer_port = port;
    only(arrive(rig, by, (999, 0, SYN), &[]))
}

/// A connection that has come by a link, established and not accepted: what the host sends next.
fn open(rig: &mut Rig, by: InterfaceId, port: u16) -> u32 {
    let (left_by, answer) = syn(rig, by, port);
    assert!(answer.is(SYN | ACK));
    assert_eq!(left_by, by);
    assert_eq!(arrive(rig, by, (1000, answer.seq + 1, ACK), &[]), []);
    answer.seq + 1
}

fn listen(rig: &mut Rig, options: &TcpOptions) -> Result<SocketId, SocketError> {
    let local = LOCAL.parse().unwrap();
    rig.host.tcp_listen(rig.now, local, 8, options)
}

#[test]
fn a_listener_of_one_link_hears_nothing_of_the_other() {
    let mut rig = rig();
    let listener = listen(&mut rig, &on(SECOND)).unwrap();
    let (_, refusal) = syn(&mut rig, FIRST, 5000);
    assert!(refusal.is(RST | ACK));

    // What is not bound goes the way of the routes; this goes back by where it came from.
    open(&mut rig, SECOND, 5001);
    let (socket, peer) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(peer.port(), 5001);
    let options = rig.host.tcp_options(socket).unwrap();
    assert_eq!(options.device, Some(SECOND), "connections inherit the link");
    let page = rig
        .host
        .list(rig.now, &SocketFilter::ALL, ListPlace::default(), 9);
    let told: Vec<_> = page.rows.iter().map(|row| row.device.as_deref()).collect();
    assert_eq!(
        told,
        [Some("second"); 2],
        "of the listener and of the connection"
    );
    rig.host
        .tcp_send(rig.now, socket, b"by the second")
        .unwrap();
    let (by, segment) = only(leaves(&mut rig));
    assert_eq!((by, &segment.data[..]), (SECOND, &b"by the second"[..]));
}

#[test]
fn links_have_listeners_of_their_own() {
    let mut rig = rig();
    let each = [FIRST, SECOND].map(|link| listen(&mut rig, &on(link)).unwrap());
    let of_all = listen(&mut rig, &TcpOptions::default());
    assert_eq!(of_all, Err(SocketError::AddrInUse));
    assert_eq!(listen(&mut rig, &on(FIRST)), Err(SocketError::AddrInUse));
    for (port, link) in [(5000, FIRST), (5001, SECOND), (5002, FIRST)] {
        open(&mut rig, link, port);
        let listener = each[usize::from(link.0)];
        let (_, peer) = rig.host.tcp_accept(rig.now, listener).unwrap();
        assert_eq!(peer.port(), port);
    }
    // Whose link's listener is gone finds that of all.
    rig.host.close(rig.now, each[1]).unwrap();
    let _ = leaves(&mut rig);
    let of_all = "0.0.0.0:80".parse().unwrap();
    let shared = rig
        .host
        .tcp_listen(rig.now, of_all, 8, &TcpOptions::default());
    assert_eq!(
        shared,
        Err(SocketError::AddrInUse),
        "the first link's is in the way"
    );
    rig.host.close(rig.now, each[0]).unwrap();
    let of_all = rig
        .host
        .tcp_listen(rig.now, of_all, 8, &TcpOptions::default());
    open(&mut rig, FIRST, 5003);
    rig.host.tcp_accept(rig.now, of_all.unwrap()).unwrap();
}

#[test]
fn a_group_shares_one_link() {
    let mut rig = rig();
    let sharing = |link| TcpOptions {
        reuse_port: true,
        ..on(link)
    };
    let first: Vec<_> = (0..2)
        .map(|_| listen(&mut rig, &sharing(FIRST)).unwrap())
        .collect();
    let second = listen(&mut rig, &sharing(SECOND)).unwrap();
    for port in 5000..5032 {
        open(&mut rig, SECOND, port);
        rig.host.tcp_accept(rig.now, second).unwrap();
        // As many as the backlog has room for.
        open(&mut rig, FIRST, 100 + port);
        let taken = first
            .iter()
            .filter(|l| rig.host.tcp_accept(rig.now, **l).is_ok());
        assert_eq!(taken.count(), 1);
    }
}

#[test]
fn a_connection_hears_nothing_of_the_other_link() {
    let mut rig = rig();
    let listener = listen(&mut rig, &on(SECOND)).unwrap();
    let host = open(&mut rig, SECOND, 5000);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    let (_, refusal) = only(arrive(&mut rig, FIRST, (1000, host, ACK | PSH), b"astray"));
    assert!(refusal.is(RST) && refusal.seq == host);
    let mut buffer = [0; 16];
    let read = rig.host.tcp_recv(rig.now, socket, &mut buffer);
    assert_eq!(read, Err(SocketError::WouldBlock), "and lives");
    arrive(&mut rig, SECOND, (1000, host, ACK | PSH), b"at home");
    assert_eq!(rig.host.tcp_recv(rig.now, socket, &mut buffer), Ok(7));

    // Bound to none, it hears both; bound to the first, that only.
    let mut bind = |device| {
        let set = rig
            .host
            .tcp_set_options(rig.now, socket, |o| o.device = device);
        set.unwrap();
    };
    bind(None);
    let left = arrive(&mut rig, FIRST, (1007, host, ACK | PSH), b"1");
    assert!(left.iter().all(|(by, s)| *by == FIRST && !s.has(RST)));
    let set = rig
        .host
        .tcp_set_options(rig.now, socket, |o| o.device = Some(FIRST));
    set.unwrap();
    let (_, refusal) = only(arrive(&mut rig, SECOND, (1008, host, ACK | PSH), b"2"));
    assert!(refusal.is(RST));
}

/// Neither what is half open nor what only a cookie knows is finished by another link.
#[test]
fn handshakes_stay_on_their_link() {
    for syncookies in [1, 2] {
        let mut rig = with(TcpTunables {
            syncookies,
            ..TcpTunables::default()
        });
        let listener = listen(&mut rig, &on(SECOND)).unwrap();
        let (by, answer) = syn(&mut rig, SECOND, 5000);
        assert_eq!(by, SECOND);
        let finish = (1000, answer.seq + 1, ACK);
        let (_, refusal) = only(arrive(&mut rig, FIRST, finish, &[]));
        assert!(refusal.is(RST), "{syncookies}");
        assert!(rig.host.tcp_accept(rig.now, listener).is_err());
        arrive(&mut rig, SECOND, finish, &[]);
        rig.host.tcp_accept(rig.now, listener).unwrap();
    }
}

#[test]
fn connections_leave_by_their_link() {
    let mut rig = rig();
    let remote = REMOTE.parse().unwrap();
    let mut connect = |local: Option<&str>, options: &TcpOptions| {
        let local = local.map(|local| local.parse().unwrap());
        let opened = rig.host.tcp_connect(rig.now, remote, local, options);
        opened.map(|_| leaves(&mut rig))
    };
    for (options, link, source) in [
        (TcpOptions::default(), FIRST, "10.0.0.1"),
        (on(FIRST), FIRST, "10.0.0.1"),
        (on(SECOND), SECOND, "10.0.1.1"),
    ] {
        let (by, syn) = only(connect(None, &options).unwrap());
        assert_eq!((by, syn.src), (link, source.parse().unwrap()));
    }
    // An address of the other link is as good as any (weak host).
    let (by, _) = only(connect(Some("10.0.0.1:7000"), &on(SECOND)).unwrap());
    assert_eq!(by, SECOND);
    let nowhere = on(InterfaceId(7));
    assert_eq!(connect(None, &nowhere), Err(SocketError::NoSuchDevice));
    assert_eq!(listen(&mut rig, &nowhere), Err(SocketError::NoSuchDevice));
    // Bound to the second, there is no way to what only the first leads to.
    let far = "10.0.0.3:80".parse().unwrap();
    let lost = rig.host.tcp_connect(rig.now, far, None, &on(SECOND));
    assert_eq!(lost, Err(SocketError::NetworkUnreachable));
}

#[test]
fn a_link_local_address_binds_to_its_link() {
    let mut rig = rig();
    let own = "fe80::1/64".parse().unwrap();
    rig.host.add_address(rig.now, SECOND, own).unwrap();
    let peer = "[fe80::2%2]:80".parse().unwrap();
    let other = rig.host.tcp_connect(rig.now, peer, None, &on(FIRST));
    assert_eq!(other, Err(SocketError::InvalidInput));
    for options in [TcpOptions::default(), on(SECOND)] {
        let socket = rig.host.tcp_connect(rig.now, peer, None, &options).unwrap();
        assert_eq!(rig.host.tcp_options(socket).unwrap().device, Some(SECOND));
    }
}

/// What a host says to itself comes by the interface that has the address.
#[test]
fn a_host_speaks_to_itself_by_the_link_of_the_address() {
    let mut rig = rig();
    let listener = listen(&mut rig, &on(FIRST)).unwrap();
    let local = LOCAL.parse().unwrap();
    for options in [on(FIRST), TcpOptions::default()] {
        rig.host
            .tcp_connect(rig.now, local, None, &options)
            .unwrap();
        assert_eq!(leaves(&mut rig), []);
        rig.host.tcp_accept(rig.now, listener).unwrap();
    }
    let other = rig.host.tcp_connect(rig.now, local, None, &on(SECOND));
    assert_eq!(other, Err(SocketError::NetworkUnreachable));
    // What is said to the listener is answered, whichever address it is from.
    let source = Some("10.0.1.1:0".parse().unwrap());
    let options = TcpOptions::default();
    let client = rig
        .host
        .tcp_connect(rig.now, local, source, &options)
        .unwrap();
    assert_eq!(leaves(&mut rig), []);
    let (server, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    rig.host.tcp_send(rig.now, server, b"here").unwrap();
    assert_eq!(leaves(&mut rig), []);
    assert_eq!(rig.host.tcp_recv(rig.now, client, &mut [0; 8]), Ok(4));

    let here = "127.0.0.1:80".parse().unwrap();
    let lo = on(InterfaceId::LOOPBACK);
    let listener = rig.host.tcp_listen(rig.now, here, 8, &lo).unwrap();
    rig.host.tcp_connect(rig.now, here, None, &lo).unwrap();
    assert_eq!(leaves(&mut rig), []);
    rig.host.tcp_accept(rig.now, listener).unwrap();
    let out = rig
        .host
        .tcp_connect(rig.now, REMOTE.parse().unwrap(), None, &lo);
    assert_eq!(out, Err(SocketError::NetworkUnreachable));
}
