//! TCP_SAVE_SYN: the headers of a SYN are kept, byte by byte, for whom it opens a connection.

use stack::{SocketId, TcpOptions};
use wire::tcp::Options;

use crate::rig::{ACK, RST, Rig, SYN};

fn saving(how: u8) -> TcpOptions {
    TcpOptions {
        save_syn: how,
        ..TcpOptions::default()
    }
}

fn syn() -> Options {
    Options {
        mss: Some(1460),
        timestamps: Some((77, 0)),
        ..Options::default()
    }
}

/// Opens a connection with a SYN that has data; the SYN's frame, and the handle.
fn opened(rig: &mut Rig, listener: SocketId) -> (Vec<u8>, SocketId) {
    let frame = rig.frame(80, 999, 0, SYN, b"data", syn());
    rig.raw(&frame);
    let answer = rig.expect();
    let stamps = Options {
        timestamps: answer.options.timestamps.map(|(value, _)| (78, value)),
        ..Options::default()
    };
    rig.send_with(1000, answer.seq + 1, ACK, b"", stamps);
    let socket = rig.host.tcp_accept(rig.now, listener).unwrap().0;
    (frame[..frame.len() - 4].to_vec(), socket)
}

#[test]
fn headers_of_a_syn_are_kept_until_they_are_read() {
    // From IP's on, from the link's on, not at all.
    for (how, from) in [(1, 14), (2, 0), (0, usize::MAX)] {
        let mut rig = Rig::new();
        let listener = rig.listen(8, &saving(how));
        let (headers, socket) = opened(&mut rig, listener);
        let expected = headers.get(from..).unwrap_or_default();
        assert_eq!(rig.host.tcp_saved_syn(socket), Ok(expected));
        assert_eq!(rig.host.tcp_saved_syn(socket), Ok(expected), "still");
        rig.host.tcp_forget_saved_syn(socket).unwrap();
        assert_eq!(rig.host.tcp_saved_syn(socket), Ok(&[][..]));
        assert_eq!(rig.host.tcp_occupancy().saved_syns, 0);
    }
}

/// A tag of VLAN 0 tells a frame's priority: the link's header is what it would be without (as Linux).
#[test]
fn a_priority_tag_is_not_saved() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &saving(2));
    let frame = rig.frame(80, 999, 0, SYN, b"", syn());
    let tagged = [&frame[..12], &[0x81, 0, 0xe0, 0], &frame[12..]].concat();
    rig.raw(&tagged);
    let answer = rig.expect();
    rig.send_with(1000, answer.seq + 1, ACK, b"", syn());
    let socket = rig.host.tcp_accept(rig.now, listener).unwrap().0;
    assert_eq!(rig.host.tcp_saved_syn(socket), Ok(&frame[..]));
}

#[test]
fn what_is_saved_goes_with_its_connection() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &saving(1));
    // Half-open: reset, or given up.
    rig.send_with(999, 0, SYN, b"", syn());
    rig.expect();
    assert_eq!(rig.host.tcp_occupancy().saved_syns, 1);
    rig.send(1000, 0, RST, b"");
    assert_eq!(rig.host.tcp_occupancy().saved_syns, 0);
    rig.send_with(999, 0, SYN, b"", syn());
    rig.ms(200_000);
    while rig.next().is_some() {}
    assert_eq!(rig.host.tcp_occupancy().saved_syns, 0);
    // Accepted, and never asked for.
    let (_, socket) = opened(&mut rig, listener);
    rig.host.abort(rig.now, socket).unwrap();
    while rig.next().is_some() {}
    assert_eq!(rig.host.tcp_occupancy().saved_syns, 0);
    // With its listener.
    rig.peer_port += 1;
    rig.send_with(999, 0, SYN, b"", syn());
    rig.host.close(rig.now, listener).unwrap();
    rig.assert_empty();
}

#[test]
fn a_listener_may_begin_and_cease_to_save() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &saving(0));
    for (how, saves) in [(1, true), (0, false), (2, true), (1, true)] {
        rig.host
            .tcp_set_options(rig.now, listener, |options| options.save_syn = how)
            .unwrap();
        let (_, socket) = opened(&mut rig, listener);
        let saved = !rig.host.tcp_saved_syn(socket).unwrap().is_empty();
        assert_eq!(saved, saves);
        rig.host.abort(rig.now, socket).unwrap();
        while rig.next().is_some() {}
    }
}

/// There is a bound, beyond which connections open all the same.
#[test]
fn a_flood_of_syns_is_not_saved() {
    let mut config = crate::rig::config();
    config.tcp_half_open = 4;
    let mut rig = Rig::with(config);
    let listener = rig.listen(64, &saving(1));
    let mut with = 0;
    for _ in 0..8 {
        let (_, socket) = opened(&mut rig, listener);
        with += usize::from(!rig.host.tcp_saved_syn(socket).unwrap().is_empty());
        rig.peer_port += 1;
    }
    assert_eq!(with, 4);
    let counts = &rig.host.stats().counts;
    assert_eq!(counts.get(stack::Count::TcpSynsNotSaved), 4);
}
