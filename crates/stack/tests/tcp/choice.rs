//! Who chooses the congestion control: the socket, else the host. And what becomes of options nobody can have meant.

use std::time::Duration;

use stack::{Congestion, Keepalive, SocketId, TcpOptions};
use wire::tcp::Options;

use crate::rig::{ACK, REMOTE, Rig, SYN};

fn host_says(rig: &mut Rig, name: &str) {
    let mut settings = rig.host.tcp_tunables();
    settings.set_text("tcp_congestion_control", name).unwrap();
    rig.host.set_tcp_tunables(settings).unwrap();
}

fn name(rig: &Rig, socket: SocketId) -> &'static str {
    rig.host.tcp_info(socket).unwrap().congestion
}

fn options(congestion: Option<Congestion>) -> TcpOptions {
    TcpOptions {
        congestion,
        ..TcpOptions::default()
    }
}

/// A connection from here to the peer's port 5000.
fn connected(rig: &mut Rig, congestion: Option<Congestion>) -> &'static str {
    let (socket, syn) = rig.connect(&options(congestion));
    rig.send_to(
        syn.src_port,
        1000,
        syn.seq.wrapping_add(1),
        SYN | ACK,
        &[],
        Options::default(),
    );
    assert!(rig.expect().is(ACK));
    name(rig, socket)
}

/// `tcp_congestion_control` is for connections that begin, whoever opens them, and is changed while the host runs.
#[test]
fn congestion_control_is_the_hosts_unless_the_socket_says() {
    let mut rig = Rig::new();
    assert_eq!(connected(&mut rig, None), "cubic");
    let before = rig.accepted(&options(None));
    assert_eq!(name(&rig, before.socket), "cubic");
    rig.host.close(rig.now, before.socket).unwrap();

    let mut rig = Rig::new();
    host_says(&mut rig, "reno");
    assert_eq!(connected(&mut rig, None), "reno");
    assert_eq!(connected(&mut rig, Some(Congestion::Cubic)), "cubic");
    let open = rig.accepted(&options(None));
    assert_eq!(name(&rig, open.socket), "reno");
    host_says(&mut rig, "bbr");
    assert_eq!(connected(&mut rig, None), "bbr");
    assert_eq!(name(&rig, open.socket), "reno", "what runs keeps its own");
    let choose = |o: &mut TcpOptions| o.congestion = Some(Congestion::Dctcp);
    rig.host
        .tcp_set_options(rig.now, open.socket, choose)
        .unwrap();
    assert_eq!(name(&rig, open.socket), "dctcp");
}

/// A listener that was there before the host changed its mind, and one whose SYNs are answered by cookies.
#[test]
fn a_listener_takes_what_the_host_says_when_a_connection_begins() {
    for cookies in [0, 2] {
        let mut rig = Rig::new();
        let listener = rig.listen(8, &options(None));
        host_says(&mut rig, "reno");
        let mut settings = rig.host.tcp_tunables();
        settings.syncookies = cookies;
        rig.host.set_tcp_tunables(settings).unwrap();
        rig.send(999, 0, SYN, &[]);
        let answer = rig.expect();
        rig.send(1000, answer.seq.wrapping_add(1), ACK, &[]);
        let (socket, peer) = rig.host.tcp_accept(rig.now, listener).unwrap();
        assert_eq!(peer, REMOTE.parse().unwrap());
        assert_eq!(name(&rig, socket), "reno", "syncookies = {cookies}");
    }
}

/// Options that would let nothing through, or do something without end, count as the least that works.
#[test]
fn values_of_nothing_are_the_least_that_works() {
    let plain = TcpOptions::default();
    let nothing = |change: fn(&mut TcpOptions)| {
        let mut options = TcpOptions::default();
        change(&mut options);
        options
    };
    for options in [
        nothing(|o| o.send_buffer = Some(0)),
        nothing(|o| o.receive_buffer = Some(0)),
        nothing(|o| o.window_clamp = Some(0)),
        nothing(|o| o.receive_low_water = 0),
        nothing(|o| o.initial_rwnd = Some(0)),
        nothing(|o| o.initial_cwnd = Some(0)),
        nothing(|o| o.max_segment = Some(0)),
        nothing(|o| o.advertised_mss = Some(0)),
        nothing(|o| o.ttl = Some(0)),
        nothing(|o| o.max_pacing_rate = 0),
        nothing(|o| o.user_timeout = Some(Duration::ZERO)),
        nothing(|o| o.rto_max = Some(Duration::ZERO)),
        nothing(|o| {
            o.keepalive = Some(Keepalive {
                idle: Duration::ZERO,
                interval: Duration::ZERO,
                probes: 0,
            });
        }),
    ] {
        // Given at the start, and later.
        for later in [false, true] {
            let mut rig = Rig::new();
            let begin = if later { &plain } else { &options };
            let open = rig.accepted(begin);
            if later {
                let to = options.clone();
                let set = rig.host.tcp_set_options(rig.now, open.socket, |o| *o = to);
                set.unwrap();
            }
            while rig.next().is_some() {}
            assert_eq!(rig.write(&open, b"x"), 1, "{options:?}");
            let data = (0..100).find_map(|_| {
                let found = core::iter::from_fn(|| rig.next()).find(|seg| !seg.data.is_empty());
                rig.ms(if found.is_some() { 0 } else { 10 });
                found
            });
            assert_eq!(data.expect("it leaves").data, b"x", "{options:?}");
            rig.send(open.peer, open.host + 1, ACK, b"y");
            assert_eq!(rig.read(open.socket), Ok(b"y".to_vec()), "{options:?}");
        }
    }
}
