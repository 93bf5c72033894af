//! Urgent data that come in: told, counted down, in their place until they are read.

use stack::{Ready, Shutdown, TcpOptions, Urgent};
use wire::Addr;
use wire::tcp::{Options, Repr};

use crate::rig::{ACK, FIN, Flags, Rig, packet};

/// The peer announces urgent data: `mark` bytes behind `seq`.
fn urgent(rig: &mut Rig, (seq, ack): (u32, u32), mark: u16, data: &[u8]) {
    let repr = Repr {
        src_port: rig.peer_port,
        dst_port: 80,
        seq,
        ack: Some(ack),
        flags: Flags::URG,
        window: rig.window,
        urgent: mark,
        options: Options::default(),
    };
    let frame = packet(&repr, data, Addr::v4(10, 0, 0, 2), Addr::v4(10, 0, 0, 1));
    rig.raw(&frame);
}

#[test]
fn urgent_data_is_announced_and_counted_down() {
    // RFC 9293 MUST-31, MUST-32, MUST-33; RFC 6093 6: it stays in the stream
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let left = |rig: &Rig| rig.host.tcp_info(open.socket).unwrap().urgent;
    let told = |rig: &mut Rig| {
        let told = rig.events.iter().any(|e| e.ready.contains(Ready::PRIORITY));
        rig.events.clear();
        told
    };
    rig.send(open.peer, open.host, ACK, b"calm");
    assert!(!told(&mut rig));
    urgent(&mut rig, (open.peer + 4, open.host), 3, b"now!");
    assert!(told(&mut rig));
    assert_eq!(left(&rig), 7, "read this much to be past it");
    urgent(&mut rig, (open.peer + 8, open.host), 10_000, b"more");
    assert!(told(&mut rig), "it advanced");
    assert_eq!(left(&rig), 10_008);
    urgent(&mut rig, (open.peer + 12, open.host), 1, b".");
    assert_eq!(left(&rig), 10_008, "never back");
    assert_eq!(rig.read(open.socket), Ok(b"calmnow!more.".to_vec()));
    assert_eq!(left(&rig), 9995);
    for at in (13..10_013).step_by(1000) {
        rig.send(open.peer + at, open.host, ACK, &[1; 1000]);
    }
    assert_eq!(rig.read(open.socket).map(|bytes| bytes.len()), Ok(10_000));
    assert_eq!(left(&rig), 0);
    rig.events.clear();
    rig.send(open.peer + 10_013, open.host, ACK, b"calm");
    assert!(!told(&mut rig));
    // What never came does not outlive the stream, and keeps no memory.
    urgent(&mut rig, (open.peer + 10_017, open.host), 50, b"");
    assert!(told(&mut rig));
    rig.send(open.peer + 10_017, open.host, ACK | FIN, b"");
    assert_eq!(rig.read(open.socket), Ok(b"calm".to_vec()));
    assert_eq!(rig.read(open.socket), Ok(vec![]));
    rig.ms(50); // the ACK of the FIN
    assert_eq!((left(&rig), rig.host.tcp_occupancy().active), (0, 0));
}

/// What ends a stream has a number, too, but is no byte of it; and what was received can be read behind a reset, the urgent byte in
/// its place.
#[test]
fn urgent_data_keep_their_place_when_the_stream_ends() {
    for end in [FIN | ACK, Flags::RST] {
        for reads in [true, false] {
            let mut rig = Rig::new();
            let open = rig.accepted(&TcpOptions::default());
            let place = |rig: &Rig| rig.host.tcp_urgent(open.socket).unwrap();
            urgent(&mut rig, (open.peer, open.host), 2, b"hey");
            let now = rig.now;
            rig.host
                .tcp_shutdown(now, open.socket, Shutdown::Read)
                .unwrap();
            assert_eq!(place(&rig).map(|urgent| urgent.left), Some(2));
            rig.send(open.peer + 3, open.host, end, &[]);
            let cut_off = end == Flags::RST;
            let (left, number) = (2, open.peer + 1);
            assert_eq!(
                place(&rig),
                Some(Urgent {
                    left,
                    number,
                    cut_off
                })
            );
            assert!(rig.host.ready(open.socket).contains(Ready::PRIORITY));
            if cut_off {
                rig.host.take_error(open.socket).unwrap();
            }
            if reads {
                assert_eq!(rig.read(open.socket), Ok(b"hey".to_vec()));
                assert_eq!(place(&rig), None);
            }
            rig.host.abort(now, open.socket).unwrap();
            while rig.next().is_some() {}
            rig.host.audit().unwrap();
            assert_eq!(rig.host.tcp_occupancy().active, 0, "{end:?} {reads}");
            assert_eq!(rig.host.pool().in_use(), 0);
        }
    }
}

#[test]
fn a_closed_window_lets_urgent_pointers_in() {
    // RFC 9293 MUST-66
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(2920),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.send(open.peer, open.host, ACK, &[1; 1460]);
    rig.send(open.peer + 1460, open.host, ACK, &[1; 1460]);
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().receive_window, 0);
    rig.events.clear();
    urgent(&mut rig, (open.peer + 2920, open.host), 5, b"");
    let event = rig.events.pop_back().expect("an event");
    assert!(event.ready.contains(Ready::PRIORITY));
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().urgent, 2925);
}
