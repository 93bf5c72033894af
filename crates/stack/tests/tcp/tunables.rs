//! Host-wide settings: each holds from its next use on.

use stack::{SocketId, TcpOptions, TcpTunables};
use wire::tcp::Options;

use crate::rig::{ACK, FIN, Rig, SYN};

fn everything() -> Options {
    Options {
        mss: Some(1000),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some((77, 0)),
        ..Options::default()
    }
}

fn mute() -> TcpTunables {
    TcpTunables {
        timestamps: 0,
        sack: 0,
        window_scaling: 0,
        ..TcpTunables::default()
    }
}

#[test]
fn what_is_not_spoken_is_neither_offered_nor_accepted() {
    let mut rig = Rig::new();
    rig.host.set_tcp_tunables(mute()).unwrap();
    let plain = |options: &Options| {
        options.timestamps.is_none() && !options.sack_permitted && options.window_scale.is_none()
    };
    rig.listen(8, &TcpOptions::default());
    rig.send_with(999, 0, SYN, &[], everything());
    assert!(plain(&rig.expect().options), "a SYN-ACK");
    let (socket, syn) = rig.connect(&TcpOptions::default());
    assert!(plain(&syn.options), "a SYN");
    // A peer that answers with what it was not offered is not believed.
    let port = syn.src_port;
    rig.peer_port = syn.dst_port;
    rig.send_to(port, 0, syn.seq + 1, SYN | ACK, &[], everything());
    rig.expect();
    let info = rig.host.tcp_info(socket).unwrap();
    assert!(!info.timestamps && !info.sack && !info.scaled);
}

#[test]
fn retries_and_waits_are_counted_anew() {
    let mut rig = Rig::new();
    rig.host
        .set_tcp_tunables(TcpTunables {
            syn_retries: 2,
            syn_linear_timeouts: 0,
            synack_retries: 1,
            fin_timeout: 5,
            ..TcpTunables::default()
        })
        .unwrap();
    let sent = |rig: &mut Rig| {
        rig.ms(100_000);
        core::iter::from_fn(|| rig.next()).count()
    };
    rig.connect(&TcpOptions::default());
    assert_eq!(sent(&mut rig), 2, "SYNs after the first");
    rig.listen(8, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    rig.expect();
    assert_eq!(sent(&mut rig), 1, "SYN-ACKs after the first");
}

#[test]
fn a_peer_that_does_not_close_is_waited_for_as_long_as_told() {
    let mut rig = Rig::new();
    rig.host
        .set_tcp_tunables(TcpTunables {
            fin_timeout: 5,
            ..TcpTunables::default()
        })
        .unwrap();
    let open = rig.accepted(&TcpOptions::default());
    rig.host.close(rig.now, open.socket).unwrap();
    assert!(rig.expect().has(FIN));
    rig.send(open.peer, open.host + 1, ACK, &[]);
    rig.ms(4_000);
    assert_eq!(rig.host.tcp_occupancy().connections, 1);
    rig.ms(2_000);
    assert_eq!(rig.host.tcp_occupancy().connections, 0);
}

#[test]
fn a_listeners_options_are_those_of_later_connections() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    let now = rig.now;
    rig.host
        .tcp_set_options(now, listener, |o| o.max_segment = Some(700))
        .unwrap();
    rig.host.tcp_set_backlog(listener, 9).unwrap();
    rig.send_with(999, 0, SYN, &[], everything());
    assert_eq!(rig.expect().options.mss, Some(700));
}

#[test]
fn answers_to_what_is_not_accepted_are_as_far_apart_as_told() {
    for (pause, answers) in [(500, 1), (100, 2), (0, 4)] {
        let mut rig = Rig::new();
        rig.host
            .set_tcp_tunables(TcpTunables {
                invalid_ratelimit: pause,
                ..TcpTunables::default()
            })
            .unwrap();
        let open = rig.accepted(&TcpOptions::default());
        for _ in 0..4 {
            // What was never sent is acknowledged (RFC 5961 5.2).
            rig.send(open.peer, open.host + 1, ACK, &[]);
            rig.ms(50);
        }
        let all = core::iter::from_fn(|| rig.next()).count();
        assert_eq!(all, answers, "{pause} ms");
    }
}

/// A host that speaks options or not, and settings by which it does the other.
fn speaking(speaks: bool) -> (Rig, TcpTunables) {
    let (before, after) = match speaks {
        true => (TcpTunables::default(), mute()),
        false => (mute(), TcpTunables::default()),
    };
    let mut rig = Rig::new();
    rig.host.set_tcp_tunables(before).unwrap();
    (rig, after)
}

/// Whether timestamps, SACK and window scale were agreed on.
fn spoken(rig: &Rig, socket: SocketId) -> [bool; 3] {
    let info = rig.host.tcp_info(socket).unwrap();
    [info.timestamps, info.sack, info.scaled]
}

/// RFC 7323 1.3, RFC 2018 2: both SYNs must have had an option. What ours said holds, though the host would say otherwise by now.
#[test]
fn what_a_syn_offered_holds_and_nothing_else_does() {
    for offers in [true, false] {
        let (mut rig, after) = speaking(offers);
        let (socket, syn) = rig.connect(&TcpOptions::default());
        rig.host.set_tcp_tunables(after).unwrap();
        rig.ms(1100);
        let again = rig.expect().options;
        assert_eq!(again.window_scale, syn.options.window_scale);
        assert_eq!(again.sack_permitted, offers);
        assert_eq!(again.timestamps.is_some(), offers);
        rig.peer_port = syn.dst_port;
        rig.send_to(syn.src_port, 0, syn.seq + 1, SYN | ACK, &[], everything());
        assert_eq!(rig.expect().options.timestamps.is_some(), offers);
        assert_eq!(spoken(&rig, socket), [offers; 3]);
    }
}

#[test]
fn what_a_syn_ack_agreed_to_holds() {
    for agrees in [true, false] {
        let (mut rig, after) = speaking(agrees);
        let listener = rig.listen(8, &TcpOptions::default());
        rig.send_with(999, 0, SYN, &[], everything());
        let first = rig.expect();
        rig.host.set_tcp_tunables(after).unwrap();
        rig.ms(1100);
        let again = rig.expect().options;
        assert_eq!(again.window_scale, first.options.window_scale);
        assert_eq!(again.sack_permitted, agrees);
        assert_eq!(again.timestamps.is_some(), agrees);
        let stamp = Options {
            timestamps: Some((78, again.timestamps.map_or(0, |(value, _)| value))),
            ..Options::default()
        };
        rig.send_with(1000, first.seq + 1, ACK, &[], stamp);
        let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
        assert_eq!(spoken(&rig, socket), [agrees; 3]);
    }
}

/// Nor does one, or the host's or the listener's largest, of what a SYN-ACK with a cookie said, of which nothing was kept.
#[test]
fn a_window_offered_with_a_cookie_holds() {
    let small = |rig: &mut Rig, _| {
        let tunables = TcpTunables {
            rmem_default: 4096,
            rmem_max: 4096,
            syncookies: 2,
            ..TcpTunables::default()
        };
        rig.host.set_tcp_tunables(tunables).unwrap();
    };
    holds_with_a_cookie((true, true), &small);
    holds_with_a_cookie((false, true), &small);
    // A buffer that was set holds no more than it says; the shift is that of the SYN-ACK all the same.
    let set = |rig: &mut Rig, listener| {
        let set = |options: &mut TcpOptions| options.receive_buffer = Some(2048);
        rig.host.tcp_set_options(rig.now, listener, set).unwrap();
    };
    holds_with_a_cookie((true, false), &set);
}

fn holds_with_a_cookie((stamps, holds): (bool, bool), change: &dyn Fn(&mut Rig, SocketId)) {
    let mut rig = Rig::new();
    let cookies = TcpTunables {
        syncookies: 2,
        ..TcpTunables::default()
    };
    rig.host.set_tcp_tunables(cookies).unwrap();
    let listener = rig.listen(8, &TcpOptions::default());
    let syn = Options {
        timestamps: everything().timestamps.filter(|_| stamps),
        ..everything()
    };
    rig.send_with(999, 0, SYN, &[], syn);
    let answer = rig.expect();
    let shift = answer.options.window_scale.unwrap_or(0);
    assert_eq!(shift > 0, stamps);
    let window = if holds { answer.window.into() } else { 1000 };
    let edge: u32 = 1000 + window;
    rig.ms(10);
    change(&mut rig, listener);
    // One who comes right now is told of no shift, for it could not be told from that one's.
    let port = core::mem::replace(&mut rig.peer_port, 5001);
    rig.send_with(999, 0, SYN, &[], syn);
    assert_eq!(rig.expect().options.window_scale, None);
    rig.peer_port = port;
    let echo = answer.options.timestamps.map(|(value, _)| (79, value));
    let stamp = Options {
        timestamps: echo,
        ..Options::default()
    };
    let mut at = 1000;
    rig.send_with(at, answer.seq + 1, ACK, &[], stamp);
    while at < edge {
        rig.send_with(at, answer.seq + 1, ACK, &[7; 1440], stamp);
        at += 1440;
        while let Some(ack) = rig.next() {
            let said = ack.ack + (u32::from(ack.window) << shift);
            assert!(said + (1 << shift) > edge, "{said} {edge}");
        }
    }
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(info.window_scales.1, shift);
    let mut read = 0;
    while let Ok(bytes) = rig.read(socket) {
        read += bytes.len() as u32;
    }
    assert!(read + 1440 > edge - 1000, "{read} of {}", edge - 1000);
    // Who comes later is offered what there is now.
    rig.ms(130);
    while rig.next().is_some() {}
    rig.peer_port = 5002;
    rig.send_with(999, 0, SYN, &[], syn);
    let later = rig.expect();
    assert!(later.window <= 2048);
    assert_eq!(later.options.window_scale, stamps.then_some(0));
}

/// Between two changes, too: the stamp of a cookie from then may be of before the first.
#[test]
fn a_window_offered_between_changes_holds() {
    let mut rig = Rig::new();
    let change = |rig: &mut Rig, room: u32| {
        let tunables = TcpTunables {
            rmem_default: room,
            rmem_max: room,
            syncookies: 2,
            ..TcpTunables::default()
        };
        rig.host.set_tcp_tunables(tunables).unwrap();
    };
    change(&mut rig, 8_192);
    rig.listen(8, &TcpOptions::default());
    rig.send_with(999, 0, SYN, &[], everything());
    rig.expect();
    change(&mut rig, 65_536);
    rig.peer_port = 5001;
    rig.send_with(999, 0, SYN, &[], everything());
    let answer = rig.expect();
    assert_eq!(answer.options.window_scale, None);
    let edge = 1000 + u32::from(answer.window);
    change(&mut rig, 4_096);
    let stamp = Options {
        timestamps: answer.options.timestamps.map(|(value, _)| (79, value)),
        ..Options::default()
    };
    let mut at = 1000;
    while at < edge {
        rig.send_with(at, answer.seq + 1, ACK, &[7; 1440], stamp);
        at += 1440;
        while let Some(ack) = rig.next() {
            let said = ack.ack + u32::from(ack.window);
            assert!(said + 1 > edge, "{said} {edge}");
        }
    }
}

/// A first buffer that becomes smaller within a handshake takes nothing back of what the SYN-ACK offered (RFC 9293 SHLD-14).
#[test]
fn a_window_offered_by_a_syn_ack_holds() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    let syn = Options {
        mss: Some(1460),
        window_scale: Some(7),
        ..Options::default()
    };
    rig.send_with(999, 0, SYN, &[], syn);
    let answer = rig.expect();
    let edge = 1000 + u32::from(answer.window);
    let small = TcpTunables {
        rmem_default: 4096,
        ..TcpTunables::default()
    };
    rig.host.set_tcp_tunables(small).unwrap();
    rig.send(1000, answer.seq + 1, ACK, &[]);
    let mut at = 1000;
    while at < edge {
        rig.send(at, answer.seq + 1, ACK, &[7; 1460]);
        at += 1460;
        while let Some(ack) = rig.next() {
            let said = ack.ack + (u32::from(ack.window) << 7);
            assert!(said + 128 > edge, "{said} {edge}");
        }
    }
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    let mut read = 0;
    while let Ok(bytes) = rig.read(socket) {
        read += bytes.len() as u32;
    }
    assert_eq!(read, edge - 1000);
    // Who comes later is offered what there is now.
    rig.peer_port = 5001;
    rig.send_with(999, 0, SYN, &[], syn);
    assert!(rig.expect().window <= 2048);
}
