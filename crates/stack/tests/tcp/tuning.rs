//! What Linux's sysctls and socket options change: retries, FIN-WAIT-2, TIME-WAIT, quick ACKs.

use std::time::Duration;

use stack::{ConfigError, Count, Drop, SocketError, TcpOptions, TcpTunables};
use wire::tcp::Options;

use crate::rig::{ACK, FIN, Open, REMOTE, RST, Rig, SYN, Seg, scaled};

fn tune(rig: &mut Rig, change: impl FnOnce(&mut TcpTunables)) {
    let mut settings = rig.host.tcp_tunables();
    change(&mut settings);
    rig.host.set_tcp_tunables(settings).unwrap();
}

/// Whole seconds, from now, at which the host sends.
fn seconds(rig: &mut Rig, limit: u64) -> Vec<u64> {
    let start = rig.now;
    let mut times = Vec::new();
    while rig.now - start < Duration::from_secs(limit) {
        rig.ms(50);
        while rig.next().is_some() {
            times.push((rig.now - start).as_secs());
        }
    }
    times
}

#[test]
fn settings_out_of_range_change_nothing() {
    let mut rig = Rig::new();
    let mut settings = rig.host.tcp_tunables();
    settings.syncookies = 7;
    let refused = rig.host.set_tcp_tunables(settings);
    assert!(matches!(refused, Err(ConfigError::Value(_))));
    assert_eq!(rig.host.tcp_tunables().syncookies, 1);
}

/// Four timeouts without backoff, then six with (tcp_syn_linear_timeouts, tcp_syn_retries): 131 s in all.
#[test]
fn the_first_timeouts_of_a_syn_are_not_doubled() {
    let mut rig = Rig::new();
    let (socket, _) = rig.connect(&TcpOptions::default());
    assert_eq!(seconds(&mut rig, 130), [1, 2, 3, 4, 5, 7, 11, 19, 35, 67]);
    assert_eq!(rig.host.take_error(socket), None);
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.host.take_error(socket), Some(SocketError::TimedOut));
}

/// The first timeouts are not doubled, but few retries last as long as if they were: Linux 6.18 sends so many, too.
#[test]
fn few_retries_of_a_syn_are_bounded_by_their_time() {
    for (retries, sent, over) in [(1, &[1, 2][..], 3), (2, &[1, 2, 3, 4, 5], 7)] {
        let mut rig = Rig::new();
        tune(&mut rig, |tcp| tcp.syn_retries = retries);
        let (socket, _) = rig.connect(&TcpOptions::default());
        assert_eq!(seconds(&mut rig, over + 1), sent, "{retries}");
        assert_eq!(rig.host.take_error(socket), Some(SocketError::TimedOut));
    }
}

/// TCP_SYNCNT bounds SYNs and SYN-ACKs of one socket.
#[test]
fn the_retries_of_a_handshake_are_the_sockets() {
    let mut rig = Rig::new();
    tune(&mut rig, |tcp| tcp.syn_linear_timeouts = 0);
    let options = TcpOptions {
        syn_retries: Some(2),
        ..TcpOptions::default()
    };
    let (socket, _) = rig.connect(&options);
    assert_eq!(seconds(&mut rig, 60), [1, 3]);
    assert_eq!(rig.host.take_error(socket), Some(SocketError::TimedOut));
    rig.host.close(rig.now, socket).unwrap();
    rig.listen(8, &options);
    rig.send(999, 0, SYN, &[]);
    rig.expect();
    assert_eq!(seconds(&mut rig, 60), [1, 3]);
    rig.assert_empty_but_listener();
}

#[test]
fn retries_of_syn_acks_and_data_are_the_hosts() {
    let mut rig = Rig::new();
    tune(&mut rig, |tcp| (tcp.synack_retries, tcp.retries2) = (1, 3));
    let open = rig.accepted(&TcpOptions::default());
    rig.peer_port = 6000;
    rig.send(999, 0, SYN, &[]);
    rig.expect();
    assert_eq!(seconds(&mut rig, 60), [1]);
    rig.write(&open, b"x");
    rig.expect();
    let times = seconds(&mut rig, 60);
    assert_eq!(times.len(), 3 + 1, "three times, and a reset at the end");
}

/// Our FIN is acknowledged, the peer's does not come.
fn fin_wait_2(rig: &mut Rig, options: &TcpOptions) -> Open {
    let open = rig.accepted(options);
    rig.host.close(rig.now, open.socket).unwrap();
    let fin = rig.expect();
    rig.send(open.peer, fin.seq + 1, ACK, &[]);
    open
}

#[test]
fn fin_wait_2_lasts_as_long_as_host_or_socket_say() {
    for (host, own, lasts) in [
        (60, None, 60),
        (5, None, 5),
        (60, Some(3), 3),
        (60, Some(500), 120),
    ] {
        let mut rig = Rig::new();
        tune(&mut rig, |tcp| tcp.fin_timeout = host);
        let options = TcpOptions {
            linger2: own.map(Duration::from_secs),
            ..TcpOptions::default()
        };
        fin_wait_2(&mut rig, &options);
        rig.advance(Duration::from_secs(lasts) - Duration::from_millis(200));
        assert_eq!(rig.host.tcp_occupancy().connections, 1);
        rig.ms(400);
        rig.silence();
        rig.assert_empty_but_listener();
    }
}

/// TCP_LINGER2 below zero on Linux: nobody waits for the peer's FIN.
#[test]
fn fin_wait_2_may_be_left_out() {
    let options = TcpOptions {
        linger2: Some(Duration::ZERO),
        ..TcpOptions::default()
    };
    let mut rig = Rig::new();
    let open = fin_wait_2(&mut rig, &options);
    let reset = rig.expect();
    assert!(reset.has(RST) && reset.seq == open.host + 1);
    rig.assert_empty_but_listener();

    let mut rig = Rig::new();
    let open = rig.accepted(&options);
    rig.host
        .tcp_shutdown(rig.now, open.socket, stack::Shutdown::Write)
        .unwrap();
    let fin = rig.expect();
    rig.send(open.peer, fin.seq + 1, ACK, &[]);
    rig.silence();
    rig.host.close(rig.now, open.socket).unwrap();
    assert!(rig.expect().has(RST));
    rig.assert_empty_but_listener();
}

/// TCP_QUICKACK: what is owed goes out, and what comes next is acknowledged at once; or not.
#[test]
fn quick_acks_can_be_asked_for() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.host
        .tcp_set_quick_ack(rig.now, open.socket, false)
        .unwrap();
    rig.send(open.peer, open.host, ACK, b"a");
    rig.silence();
    rig.host
        .tcp_set_quick_ack(rig.now, open.socket, true)
        .unwrap();
    assert_eq!(rig.expect().ack, open.peer + 1);
    rig.send(open.peer + 1, open.host, ACK, b"b");
    assert_eq!(rig.expect().ack, open.peer + 2);
}

/// A connection from here, from port 4000 if asked for, that was closed from here; and the segment that ended it.
fn closed(rig: &mut Rig, stamped: bool) -> Seg {
    let local = Some("10.0.0.1:4000".parse().unwrap());
    let socket = rig
        .host
        .tcp_connect(
            rig.now,
            REMOTE.parse().unwrap(),
            local,
            &TcpOptions::default(),
        )
        .unwrap();
    let syn = rig.expect();
    let options = |value| {
        let echo = syn.options.timestamps.unwrap().0;
        Options {
            timestamps: stamped.then_some((value, echo)),
            ..Options::default()
        }
    };
    rig.send_to(4000, 300, syn.seq + 1, SYN | ACK, &[], options(1));
    rig.expect();
    rig.host.close(rig.now, socket).unwrap();
    let fin = rig.expect();
    rig.send_to(4000, 301, fin.seq + 1, FIN | ACK, &[], options(2));
    let last = rig.expect();
    assert_eq!(rig.host.tcp_occupancy().time_wait, 1);
    last
}

fn connect(rig: &mut Rig, local: &str) -> Result<stack::SocketId, SocketError> {
    let (remote, local) = (REMOTE.parse().unwrap(), local.parse().unwrap());
    let options = TcpOptions::default();
    rig.host.tcp_connect(rig.now, remote, Some(local), &options)
}

/// RFC 6191: a port the application names may be taken out of TIME-WAIT at once, if timestamps tell old from new.
#[test]
fn a_named_port_takes_time_wait_over() {
    let mut rig = Rig::new();
    let last = closed(&mut rig, true);
    let socket = connect(&mut rig, "10.0.0.1:4000").unwrap();
    let syn = rig.expect();
    assert!(syn.is(SYN) && syn.seq == last.seq.wrapping_add(65_537));
    let (new, old) = (
        syn.options.timestamps.unwrap().0,
        last.options.timestamps.unwrap().0,
    );
    assert!(new.wrapping_sub(old) < 1000, "the same clock");
    rig.host.audit().unwrap();
    let answer = Options {
        timestamps: Some((10, syn.options.timestamps.unwrap().0)),
        ..Options::default()
    };
    rig.send_to(4000, 9000, syn.seq + 1, SYN | ACK, &[], answer);
    assert!(rig.expect().is(ACK));
    rig.host.abort(rig.now, socket).unwrap();
    rig.pump();
    rig.advance(Duration::from_secs(61));
    rig.assert_empty();

    let mut rig = Rig::new();
    closed(&mut rig, false);
    let refused = connect(&mut rig, "10.0.0.1:4000");
    assert_eq!(refused, Err(SocketError::AddrInUse), "without timestamps");
}

/// Ephemeral ports are taken over when tw_reuse says so, after a second.
#[test]
fn ephemeral_ports_are_taken_over_as_tw_reuse_says() {
    for (reuse, again) in [(0, false), (1, true), (2, false)] {
        let mut rig = Rig::with(stack::Config {
            ephemeral_ports: (4000, 4000),
            ..crate::rig::config()
        });
        tune(&mut rig, |tcp| tcp.tw_reuse = reuse);
        closed(&mut rig, true);
        rig.ms(900);
        let early = connect(&mut rig, "10.0.0.1:0");
        assert_eq!(early, Err(SocketError::AddrNotAvailable));
        rig.ms(300);
        assert_eq!(connect(&mut rig, "10.0.0.1:0").is_ok(), again, "{reuse}");
        rig.host.audit().unwrap();
    }
}

/// On the loopback that is the default.
#[test]
fn the_loopback_reuses_its_ports() {
    let mut rig = Rig::with(stack::Config {
        ephemeral_ports: (4000, 4000),
        ..crate::rig::config()
    });
    let (options, local) = (TcpOptions::default(), "127.0.0.1:80".parse().unwrap());
    let listener = rig.host.tcp_listen(rig.now, local, 8, &options).unwrap();
    for _ in 0..3 {
        let client = rig
            .host
            .tcp_connect(rig.now, local, None, &options)
            .unwrap();
        rig.ms(100);
        let (server, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
        rig.host.close(rig.now, client).unwrap();
        rig.ms(100);
        rig.host.close(rig.now, server).unwrap();
        rig.ms(100);
        let at_once = rig.host.tcp_connect(rig.now, local, None, &options);
        assert_eq!(at_once, Err(SocketError::AddrNotAvailable));
        rig.ms(1000);
    }
}

#[test]
fn max_tw_buckets_lets_the_oldest_go() {
    for most in [0, 2] {
        let mut rig = Rig::new();
        tune(&mut rig, |tcp| tcp.max_tw_buckets = most);
        let listener = rig.listen(8, &TcpOptions::default());
        for port in 1..=5 {
            rig.peer_port = port;
            rig.send(999, 0, SYN, &[]);
            let answer = rig.expect();
            rig.send(1000, answer.seq + 1, ACK, &[]);
            let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
            rig.host.close(rig.now, socket).unwrap();
            let fin = rig.expect();
            rig.send(1000, fin.seq + 1, FIN | ACK, &[]);
            assert_eq!(rig.expect().ack, 1001);
        }
        assert_eq!(rig.host.tcp_occupancy().time_wait, most);
        let recycled = rig.host.stats().counts.get(Count::TcpTimeWaitRecycled);
        assert_eq!(recycled, u64::from(5 - most));
        rig.host.audit().unwrap();
        rig.peer_port = 5;
        rig.send(1001, 0, RST, &[]);
        rig.advance(Duration::from_secs(61));
        rig.assert_empty_but_listener();
    }
}

/// RFC 1337: a reset does not assassinate TIME-WAIT, if that is asked for.
#[test]
fn rfc1337_protects_time_wait() {
    for rfc1337 in [0, 1] {
        let mut rig = Rig::new();
        tune(&mut rig, |tcp| tcp.rfc1337 = rfc1337);
        closed(&mut rig, false);
        rig.send_to(4000, 302, 0, RST, &[], Options::default());
        rig.silence();
        assert_eq!(rig.host.stats().drops.get(Drop::TcpTimeWait), 1);
        assert_eq!(connect(&mut rig, "10.0.0.1:4000").is_ok(), rfc1337 == 0);
    }
}

/// RFC 7323 2.2: the shift is that of the SYN for good, whatever becomes of the buffer meanwhile.
#[test]
fn the_window_shift_is_what_the_syn_said() {
    for (first, later) in [(1 << 20, 20_000), (20_000, 1 << 20)] {
        let mut rig = Rig::new();
        let options = TcpOptions {
            receive_buffer: Some(first),
            ..TcpOptions::default()
        };
        let (socket, syn) = rig.connect(&options);
        let shift = syn.options.window_scale.unwrap();
        let set = |options: &mut TcpOptions| options.receive_buffer = Some(later);
        rig.host.tcp_set_options(rig.now, socket, set).unwrap();
        rig.ms(1001);
        assert_eq!(rig.expect().options.window_scale, Some(shift), "again");
        rig.send_to(syn.src_port, 99, syn.seq + 1, SYN | ACK, &[], scaled());
        let info = rig.host.tcp_info(socket).unwrap();
        assert_eq!(info.window_scales, (7, shift));
    }
    // The buffers of the host change within a handshake.
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    rig.send_with(999, 0, SYN, &[], scaled());
    let answer = rig.expect();
    let mut tcp = rig.host.tcp_tunables();
    tcp.rmem_max = 65_536;
    rig.host.set_tcp_tunables(tcp).unwrap();
    rig.send(1000, answer.seq + 1, ACK, &[]);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(Some(info.window_scales.1), answer.options.window_scale);
}
