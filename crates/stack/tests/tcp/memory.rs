//! Buffers, queues and packet memory: what happens at their limits, and when the limits move.

use stack::{Ready, SocketError, TcpOptions};

use crate::rig::{ACK, Rig};

/// A larger send buffer is room to write, which somebody waits for.
#[test]
fn a_larger_send_buffer_wakes_the_writer() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        send_buffer: 10_000,
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    assert_eq!(rig.write(&open, &[7; 20_000]), 10_000);
    let more = rig.host.tcp_send(rig.now, open.socket, b"more");
    assert_eq!(more, Err(SocketError::WouldBlock));
    while rig.next().is_some() {}
    rig.events.clear();
    let resize = |rig: &mut Rig, bytes: u32| {
        rig.host
            .tcp_set_options(rig.now, open.socket, |o| o.send_buffer = bytes)
            .unwrap();
        rig.pump();
    };
    resize(&mut rig, 11_000);
    assert!(rig.events.is_empty(), "less than a third of it is free");
    resize(&mut rig, 20_000);
    let event = rig.events.pop_front().expect("an event");
    assert!(event.ready.contains(Ready::WRITABLE));
    assert_eq!(rig.write(&open, &[7; 20_000]), 10_000);
}

/// A larger receive buffer opens the window at once; a smaller one never takes back what was offered.
#[test]
fn the_window_follows_the_receive_buffer_but_never_shrinks() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: 10_000,
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.send(open.peer, open.host, ACK, &[1; 1000]);
    let ack = rig.expect();
    let edge = ack.ack + u32::from(ack.window);
    assert_eq!(edge, open.peer + 10_000);
    let resize = |rig: &mut Rig, bytes: u32| {
        rig.host
            .tcp_set_options(rig.now, open.socket, |o| o.receive_buffer = bytes)
            .unwrap();
    };
    resize(&mut rig, 40_000);
    let update = rig.expect();
    let edge = update.ack + u32::from(update.window);
    assert_eq!(edge, open.peer + 40_000);
    resize(&mut rig, 4_096);
    rig.send(open.peer + 1000, open.host, ACK, &[1; 1000]);
    let ack = rig.expect();
    assert_eq!(ack.ack, open.peer + 2000);
    assert_eq!(ack.ack + u32::from(ack.window), edge, "not taken back");
}
