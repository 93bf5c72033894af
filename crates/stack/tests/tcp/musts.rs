//! MUSTs of RFC 9293 that no other trace shows, by number.

use core::time::Duration;

use stack::{Config, Keepalive, Ready, SocketError, State, TcpOptions};
use wire::tcp::{Options, Repr, Sack};
use wire::{Addr, ndp};

use crate::rig::{ACK, Flags, Open, PSH, REMOTE, RST, Rig, SYN, config, in_ip, nodelay, packet};

fn plain(src_port: u16, seq: u32, ack: Option<u32>, flags: Flags, window: u16) -> Repr {
    Repr {
        src_port,
        dst_port: 80,
        seq,
        ack,
        flags,
        window,
        urgent: 0,
        options: Options::default(),
    }
}

#[test]
fn a_window_above_half_is_not_negative() {
    // MUST-1
    let mut rig = Rig::new();
    rig.window = 60_000;
    let open = rig.accepted(&TcpOptions::default());
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().send_window, 60_000);
    rig.write(&open, &[1; 200_000]);
    let mut at = open.host;
    for _ in 0..2 {
        while let Some(segment) = rig.next() {
            at = segment.seq.wrapping_add(segment.data.len() as u32);
        }
        rig.send(open.peer, at, ACK, &[]);
    }
    while rig.next().is_some() {}
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert!(info.unacknowledged > 32_768 && info.unacknowledged <= 60_000);
}

#[test]
fn syn_received_remembers_where_it_came_from() {
    // MUST-11, 3.10.7.4 second: an active open is refused, a passive one returns to LISTEN
    let mut rig = Rig::new();
    let (socket, syn) = rig.connect(&TcpOptions::default());
    rig.send_to(syn.src_port, 300, 0, SYN, &[], Options::default());
    assert!(rig.expect().is(SYN | ACK));
    rig.send_to(syn.src_port, 301, 0, RST, &[], Options::default());
    assert_eq!(
        rig.host.take_error(socket),
        Some(SocketError::ConnectionRefused)
    );

    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    assert!(rig.expect().is(SYN | ACK));
    rig.send(1000, 0, RST, &[]);
    rig.silence();
    assert!(rig.events.is_empty(), "nobody is told");
    assert_eq!(rig.host.take_error(listener), None);
    rig.send(5000, 0, SYN, &[]);
    assert!(rig.expect().is(SYN | ACK), "still listening");
}

#[test]
fn over_ipv6_the_mss_is_announced_and_defaults_to_1220() {
    // MUST-15, MUST-67
    let (mut rig, peer, ours) = beside_an_ipv6_peer();
    let at: core::net::SocketAddr = "[fd00::1]:80".parse().unwrap();
    let listener = rig
        .host
        .tcp_listen(rig.now, at, 8, &TcpOptions::default())
        .unwrap();
    rig.raw(&packet(&plain(9, 999, None, SYN, 65_535), &[], peer, ours));
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK));
    assert_eq!(answer.options.mss, Some(1440));
    let ack = plain(9, 1000, Some(answer.seq + 1), Flags(0), 65_535);
    rig.raw(&packet(&ack, &[], peer, ours));
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    rig.host.tcp_send(rig.now, socket, &[1; 4000]).unwrap();
    assert_eq!(rig.expect().data.len(), 1220);
}

#[test]
fn the_hop_limit_is_the_routers() {
    // RFC 4861 6.3.4: CurHopLimit, which is 64 until a router says otherwise, and follows what it says.
    let (mut rig, peer, ours) = beside_an_ipv6_peer();
    let at: core::net::SocketAddr = "[fd00::1]:80".parse().unwrap();
    let listener = rig.host.tcp_listen(rig.now, at, 8, &nodelay()).unwrap();
    rig.raw(&packet(&plain(9, 999, None, SYN, 65_535), &[], peer, ours));
    let answer = rig.expect();
    assert_eq!(answer.ttl, 64);
    let ack = plain(9, 1000, Some(answer.seq + 1), Flags(0), 65_535);
    rig.raw(&packet(&ack, &[], peer, ours));
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    let advert = ndp::Repr::RouterAdvert {
        advert: ndp::RouterAdvert {
            hop_limit: 99,
            ..ndp::RouterAdvert::default()
        },
        options: ndp::Options::NONE,
    };
    let router = "fe80::99".parse().unwrap();
    icmpv6(&mut rig, &advert, router, Addr::ALL_NODES);
    rig.host.tcp_send(rig.now, socket, b"data").unwrap();
    assert_eq!(rig.expect().ttl, 99);
    // New ones, too; but what the application says goes first.
    rig.raw(&packet(&plain(7, 1, None, SYN, 65_535), &[], peer, ours));
    rig.host
        .tcp_set_options(rig.now, socket, |options| options.ttl = Some(5))
        .unwrap();
    rig.host.tcp_send(rig.now, socket, b"data").unwrap();
    assert_eq!(rig.expect().ttl, 99);
    assert_eq!(rig.expect().ttl, 5);
}

fn icmpv6(rig: &mut Rig, message: &ndp::Repr<'_>, src: Addr, dst: Addr) {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    wire::icmpv6::fill_checksum(&mut bytes, &src, &dst);
    rig.raw(&in_ip(58, &bytes, src, dst));
}

/// A host that listens to routers, and a peer that asked for it and so is known.
fn beside_an_ipv6_peer() -> (Rig, Addr, Addr) {
    let mut rig = Rig::with(Config {
        accept_router_advertisements: true,
        ..config()
    });
    rig.add_address("fd00::1/64");
    let (peer, ours): (Addr, Addr) = ("fd00::2".parse().unwrap(), "fd00::1".parse().unwrap());
    let mut options = ndp::OptionBuf::<8>::default();
    assert!(options.push(&ndp::Opt::SourceMac(wire::Mac([2, 0, 0, 0, 0, 2]))));
    let ask = ndp::Repr::NeighborSolicit {
        target: ours,
        options: options.options(),
    };
    icmpv6(&mut rig, &ask, peer, ours);
    (rig, peer, ours)
}

#[test]
fn the_mss_announced_is_what_the_link_carries_and_we_can_be_asked_for_less() {
    // MUST-14, MUST-16, MUST-67
    let mut rig = Rig::new();
    rig.listen(
        8,
        &TcpOptions {
            max_segment: Some(900),
            ..TcpOptions::default()
        },
    );
    rig.send(999, 0, SYN, &[]);
    assert_eq!(rig.expect().options.mss, Some(900));
    // A peer on larger frames: what our link carries is the limit, less our options.
    let mut rig = Rig::new();
    let open = rig.accepted_with(
        &TcpOptions::default(),
        Options {
            mss: Some(8960),
            timestamps: Some((1, 0)),
            ..Options::default()
        },
    );
    rig.write(&open, &[1; 10_000]);
    assert_eq!(rig.expect().data.len(), 1448);
}

#[test]
fn keepalive_waits_two_hours_by_default() {
    // MUST-28
    let mut rig = Rig::new();
    rig.accepted(&TcpOptions {
        keepalive: Some(Keepalive::default()),
        ..TcpOptions::default()
    });
    rig.advance(Duration::from_secs(7199));
    rig.silence();
    rig.advance(Duration::from_secs(2));
    assert!(rig.expect().data.is_empty());
}

#[test]
fn a_window_that_shrinks_below_what_was_sent_is_survived() {
    // MUST-34
    let mut rig = Rig::new();
    rig.window = 8000;
    let open = rig.accepted(&nodelay());
    rig.write(&open, &[1; 10_000]);
    let mut sent = 0;
    while let Some(segment) = rig.next() {
        sent += segment.data.len() as u32;
    }
    assert!(sent > 5840 && sent <= 8000, "{sent}");
    rig.window = 100;
    rig.send(open.peer, open.host + 1460, ACK, &[]);
    rig.silence();
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
    rig.ms(5000);
    while let Some(segment) = rig.next() {
        assert!(segment.seq.wrapping_sub(open.host) < sent, "nothing new");
    }
    // The peer took what it had granted before, then opens again.
    rig.window = 20_000;
    rig.send(open.peer, open.host + sent, ACK, &[]);
    let mut end = open.host + sent;
    while let Some(segment) = rig.next() {
        end = segment.seq.wrapping_add(segment.data.len() as u32);
    }
    assert_eq!(end.wrapping_sub(open.host), 10_000);
}

#[test]
fn a_port_listens_on_while_its_connections_open() {
    // MUST-41, MUST-42
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    let mut opening = Vec::new();
    for port in [1, 2, 3] {
        rig.peer_port = port;
        rig.send(999, 0, SYN, &[]);
        opening.push((port, rig.expect().seq));
    }
    for (port, seq) in opening.into_iter().rev() {
        rig.peer_port = port;
        rig.send(1000, seq + 1, ACK, &[]);
    }
    let mut peers = Vec::new();
    while let Ok((_, peer)) = rig.host.tcp_accept(rig.now, listener) {
        peers.push(peer.port());
    }
    assert_eq!(peers, [3, 2, 1]);
}

#[test]
fn a_connection_keeps_its_local_address() {
    // MUST-43, MUST-45
    let mut rig = Rig::new();
    rig.add_address("10.0.0.7/24");
    let local = "10.0.0.7:4000".parse().unwrap();
    let socket = rig
        .host
        .tcp_connect(rig.now, REMOTE.parse().unwrap(), Some(local), &nodelay())
        .unwrap();
    let ours = Addr::v4(10, 0, 0, 7);
    let syn = rig.expect();
    assert_eq!((syn.src, syn.src_port), (ours, 4000));
    // What would be chosen today is another one.
    rig.add_address("10.0.0.8/24");
    let answer = Repr {
        dst_port: 4000,
        ..plain(5000, 70, Some(syn.seq + 1), SYN, 65_535)
    };
    rig.raw(&packet(&answer, &[], Addr::v4(10, 0, 0, 2), ours));
    rig.host.tcp_send(rig.now, socket, b"data").unwrap();
    rig.host.close(rig.now, socket).unwrap();
    rig.ms(3000);
    let mut seen = 0;
    while let Some(segment) = rig.next() {
        assert_eq!((segment.src, segment.src_port), (ours, 4000));
        seen += 1;
    }
    assert!(seen > 2);
}

#[test]
fn groups_cannot_be_connected_to() {
    // MUST-46
    let mut rig = Rig::new();
    for to in [
        "255.255.255.255:80",
        "10.0.0.255:80",
        "224.0.0.1:80",
        "[ff02::1]:80",
        "0.0.0.0:80",
    ] {
        let refused =
            rig.host
                .tcp_connect(rig.now, to.parse().unwrap(), None, &TcpOptions::default());
        assert!(refused.is_err(), "{to}");
    }
    rig.silence();
}

#[test]
fn type_of_service_and_ttl_are_the_applications() {
    // MUST-48, MUST-49
    let mut rig = Rig::new();
    let options = TcpOptions {
        tos: 0xb8,
        ttl: Some(17),
        ..nodelay()
    };
    let (socket, syn) = rig.connect(&options);
    assert_eq!((syn.tos, syn.ttl), (0xb8, 17));
    let port = syn.src_port;
    rig.send_to(port, 70, syn.seq + 1, SYN | ACK, &[], Options::default());
    rig.host.tcp_send(rig.now, socket, b"data").unwrap();
    while let Some(segment) = rig.next() {
        assert_eq!((segment.tos, segment.ttl), (0xb8, 17));
    }
    // And may change while the connection runs.
    rig.host
        .tcp_set_options(rig.now, socket, |options| options.tos = 0x20)
        .unwrap();
    rig.host.tcp_send(rig.now, socket, b"more").unwrap();
    assert_eq!(rig.expect().tos, 0x20);
    // Without, it is the default.
    rig.host
        .tcp_set_options(rig.now, socket, |options| options.ttl = None)
        .unwrap();
    rig.host.tcp_send(rig.now, socket, b"less").unwrap();
    assert_eq!(rig.expect().ttl, 64);
    // A listener's answers carry them, too.
    rig.listen(8, &options);
    rig.send(999, 0, SYN, &[]);
    let answer = rig.expect();
    assert_eq!((answer.tos, answer.ttl), (0xb8, 17));
}

#[test]
fn syns_to_or_from_groups_are_dropped_silently() {
    // MUST-57, MUST-63
    let mut rig = Rig::new();
    rig.host
        .tcp_listen(
            rig.now,
            "0.0.0.0:80".parse().unwrap(),
            8,
            &TcpOptions::default(),
        )
        .unwrap();
    let ours = Addr::v4(10, 0, 0, 1);
    let peer = Addr::v4(10, 0, 0, 2);
    for (src, dst) in [
        (peer, Addr::v4(10, 0, 0, 255)),
        (peer, Addr::v4(255, 255, 255, 255)),
        (peer, Addr::v4(224, 0, 0, 1)),
        (Addr::v4(224, 0, 0, 1), ours),
        (Addr::v4(10, 0, 0, 255), ours),
        (Addr::v4(255, 255, 255, 255), ours),
        (Addr::v4(0, 0, 0, 0), ours),
        (Addr::v4(127, 0, 0, 1), ours),
    ] {
        let syn = plain(9, 999, None, SYN, 1000);
        rig.raw(&packet(&syn, &[], src, dst));
        rig.silence();
        assert_eq!(rig.host.tcp_occupancy().half_open, 0, "{src} {dst}");
    }
    rig.raw(&packet(&plain(9, 999, None, SYN, 1000), &[], peer, ours));
    assert!(rig.expect().is(SYN | ACK), "the good one is answered");
}

#[test]
fn what_arrived_together_is_acknowledged_together() {
    // MUST-58, MUST-59
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let frames: Vec<_> = (0..8)
        .map(|n| {
            let at = open.peer + n * 1000;
            rig.frame(80, at, open.host, ACK, &[1; 1000], Options::default())
        })
        .collect();
    rig.arrive_together(&frames);
    assert_eq!(rig.expect().ack, open.peer + 8000);
    rig.silence();
}

#[test]
fn the_last_segment_of_what_is_queued_is_pushed() {
    // MUST-60, MUST-61: no PUSH flag on send; what waits for Nagle leaves with the next ACK
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 3000]);
    let first = [rig.expect(), rig.expect()];
    assert!(first.iter().all(|s| s.data.len() == 1460 && !s.has(PSH)));
    let last = rig.expect();
    assert!(last.data.len() == 80 && last.has(PSH));
    rig.write(&open, b"more");
    rig.silence();
    rig.send(open.peer, open.host + 3000, ACK, &[]);
    let last = rig.expect();
    assert!(last.data == b"more" && last.has(PSH));
}

#[test]
fn a_closed_window_lets_acks_and_resets_in() {
    // MUST-66
    let full = |rig: &mut Rig| -> Open {
        let options = TcpOptions {
            receive_buffer: Some(4096),
            ..nodelay()
        };
        let open = rig.accepted(&options);
        rig.write(&open, &[2; 100]);
        for at in 0..4 {
            rig.send(open.peer + at * 1024, open.host, ACK, &[7; 1024]);
        }
        while rig.next().is_some() {}
        assert_eq!(rig.host.tcp_info(open.socket).unwrap().receive_window, 0);
        open
    };
    let mut rig = Rig::new();
    let open = full(&mut rig);
    rig.send(open.peer + 4096, open.host + 100, ACK, b"too much");
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!((info.unacknowledged, info.unread), (0, 4096));
    rig.send(open.peer + 4096, open.host + 100, RST, &[]);
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Closed));
    assert!(rig.host.ready(open.socket).contains(Ready::ERROR));
}

#[test]
fn options_are_well_formed_in_every_kind_of_segment() {
    // MUST-65, MUST-68, MUST-69: the rig looks at each segment; here is one of each kind
    let mut rig = Rig::new();
    let syn = Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some((77, 0)),
        ..Options::default()
    };
    let open = rig.accepted_with(&nodelay(), syn);
    let ts = Options {
        timestamps: Some((80, 1)),
        ..Options::default()
    };
    for n in [1, 3, 5, 7] {
        rig.send_with(open.peer + n * 100, open.host, ACK, &[1; 100], ts);
    }
    let (mut sacks, mut most) = (0, 0);
    while let Some(segment) = rig.next() {
        sacks += 1;
        most = most.max(segment.options.sack.len);
    }
    assert!(
        sacks >= 4 && most == 3,
        "three blocks fit beside timestamps"
    );
    rig.write(&open, &[1; 5000]);
    rig.host.close(rig.now, open.socket).unwrap();
    rig.advance(Duration::from_secs(20));
    let mut last = None;
    while let Some(segment) = rig.next() {
        last = Some(segment);
    }
    assert!(last.is_some());
    rig.connect(&TcpOptions::default());
}

#[test]
fn sacked_data_is_kept_until_it_is_acknowledged() {
    // RFC 2018 8: the receiver may renege
    let mut rig = Rig::new();
    let syn = Options {
        mss: Some(1460),
        sack_permitted: true,
        ..Options::default()
    };
    let open = rig.accepted_with(&nodelay(), syn);
    rig.write(&open, &[9; 4380]);
    while rig.next().is_some() {}
    let mut sack = Sack::EMPTY;
    sack.push((open.host + 1460, open.host + 4380));
    let options = Options {
        sack,
        ..Options::default()
    };
    rig.send_with(open.peer, open.host, ACK, &[], options);
    // Then the peer forgets: it acknowledges the first segment and says no more of the others.
    rig.ms(1100);
    rig.send(open.peer, open.host + 1460, ACK, &[]);
    let mut bytes = 0;
    for _ in 0..20 {
        rig.ms(1000);
        while let Some(segment) = rig.next() {
            if segment.seq.wrapping_sub(open.host) >= 1460 {
                assert!(segment.data.iter().all(|b| *b == 9));
                bytes = bytes.max(segment.seq.wrapping_sub(open.host) + segment.data.len() as u32);
                rig.send(open.peer, open.host + bytes, ACK, &[]);
            }
        }
    }
    assert_eq!(bytes, 4380);
}
