//! What writers say of their bytes, and how much they may write: pushes, MSG_MORE, ends of records, urgent data, room.

use core::time::Duration;

use stack::{Ready, SocketError, TcpOptions, Write};
use wire::tcp::Options;

use crate::rig::{ACK, FIN, Flags, Open, PSH, Rig, SECOND, Seg, config, nodelay};

const URG: Flags = Flags::URG;
const MORE: Write = Write {
    more: true,
    end_of_record: false,
    urgent: false,
};
const RECORD: Write = Write {
    more: false,
    end_of_record: true,
    urgent: false,
};
const URGENT: Write = Write {
    more: false,
    end_of_record: false,
    urgent: true,
};

fn write(rig: &mut Rig, open: &Open, len: usize, how: Write) -> usize {
    let bytes = vec![1; len];
    rig.host
        .tcp_send_with(rig.now, open.socket, &bytes, how)
        .unwrap()
}

/// Where segments begin, counted from the first byte, how long they are and whether they are pushed.
fn cut(rig: &mut Rig, open: &Open) -> Vec<(u32, usize, bool)> {
    let next = core::iter::from_fn(|| rig.next());
    next.map(|seg: Seg| (seg.seq - open.host, seg.data.len(), seg.has(PSH)))
        .collect()
}

#[test]
fn what_is_announced_to_go_on_waits_and_is_not_pushed() {
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    // Only what is whole leaves, though Nagle is off.
    write(&mut rig, &open, 3000, MORE);
    assert_eq!(
        cut(&mut rig, &open),
        [(0, 1460, false), (1460, 1460, false)]
    );
    // An ACK lets go of it.
    rig.send(open.peer, open.host + 1460, ACK, &[]);
    assert_eq!(cut(&mut rig, &open), [(2920, 80, false)]);
    rig.send(open.peer, open.host + 3000, ACK, &[]);
    // And so does the rest.
    write(&mut rig, &open, 20, MORE);
    rig.silence();
    write(&mut rig, &open, 20, Write::default());
    assert_eq!(cut(&mut rig, &open), [(3000, 40, true)]);
    rig.send(open.peer, open.host + 3040, ACK, &[]);
    // And time: what was kept so long is pushed.
    write(&mut rig, &open, 7, MORE);
    rig.ms(199);
    rig.silence();
    rig.ms(20);
    assert_eq!(cut(&mut rig, &open), [(3040, 7, true)]);
}

#[test]
fn the_cork_let_go_lets_go_of_more_too() {
    let mut rig = Rig::new();
    let open = rig.accepted(&nodelay());
    write(&mut rig, &open, 40, MORE);
    write(&mut rig, &open, 40, MORE);
    rig.silence();
    rig.host.tcp_set_cork(rig.now, open.socket, false).unwrap();
    assert_eq!(cut(&mut rig, &open), [(0, 80, false)]);
}

fn with_sack() -> Options {
    Options {
        mss: Some(1000),
        sack_permitted: true,
        ..Options::default()
    }
}

#[test]
fn records_share_no_segment_not_even_when_they_are_sent_again() {
    let mut rig = Rig::new();
    let open = rig.accepted_with(&nodelay(), with_sack());
    write(&mut rig, &open, 1200, RECORD);
    for _ in 0..3 {
        write(&mut rig, &open, 300, RECORD);
    }
    write(&mut rig, &open, 1700, Write::default());
    let sent = [
        (0, 1000, false),
        (1000, 200, true),
        (1200, 300, true),
        (1500, 300, true),
        (1800, 300, true),
        (2100, 1000, false),
        (3100, 700, true),
    ];
    assert_eq!(cut(&mut rig, &open), sent);
    // Nothing of it arrives: a probe of the tail, then all of it again, cut as before.
    rig.ms(150_000);
    let again = cut(&mut rig, &open);
    for segment in &again {
        assert!(sent.contains(segment), "{segment:?}");
    }
    rig.send(open.peer, open.host + 1000, ACK, &[]);
    rig.send(open.peer, open.host + 1500, ACK, &[]);
    for segment in cut(&mut rig, &open) {
        assert!(sent.contains(&segment), "{segment:?}");
    }
    // The last of them are acknowledged, and nothing is remembered.
    rig.send(open.peer, open.host + 3800, ACK, &[]);
    assert_eq!(rig.host.tcp_occupancy().edges, 0);
}

/// The lists of what is in flight are bounded; behind the end of a record nothing is squeezed in.
#[test]
fn more_records_than_the_lists_hold_wait() {
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted_with(&nodelay(), with_sack());
    let (mut at, mut una, mut most) = (0, 0, 0);
    for round in 0..40 {
        for _ in 0..60 {
            if write(&mut rig, &open, 10, RECORD) != 10 {
                break;
            }
        }
        for (start, len, pushed) in cut(&mut rig, &open) {
            assert_eq!((start, len, pushed), (at, 10, true));
            at += 10;
        }
        most = most.max(rig.host.tcp_occupancy().in_flight);
        if round > 20 {
            una = at;
        }
        rig.ms(1);
        rig.send(open.peer, open.host + una.max(10), ACK, &[]);
    }
    assert!(most <= 512 && at == 24_000, "{most} {at}");
}

#[test]
fn urgent_data_is_sent_with_a_pointer_behind_it() {
    // RFC 9293 MUST-30, MUST-31, MUST-62
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let open = rig.accepted_with(&TcpOptions::default(), with_sack());
    write(&mut rig, &open, 2500, Write::default());
    while rig.next().is_some() {}
    write(&mut rig, &open, 1, URGENT);
    // Nagle does not hold it back.
    let seg = rig.expect();
    assert!(seg.has(URG) && seg.seq == open.host + 2500 && seg.urgent == 1);
    // Each segment sent again points there from where it is.
    let mut again = 0;
    for una in [0, 1000, 2000] {
        rig.send(open.peer, open.host + una, ACK, &[]);
        rig.ms(4000);
        for seg in core::iter::from_fn(|| rig.next()).collect::<Vec<_>>() {
            assert_eq!(u32::from(seg.urgent), open.host + 2501 - seg.seq);
            assert!(seg.has(URG));
            again += 1;
        }
    }
    assert!(again >= 3, "{again}");
    // Over with its ACK.
    rig.send(open.peer, open.host + 2501, ACK, &[]);
    while rig.next().is_some() {}
    write(&mut rig, &open, 5, Write::default());
    let seg = rig.expect();
    assert!(!seg.has(URG) && seg.urgent == 0);
}

#[test]
fn a_pointer_out_of_reach_waits_until_it_can_be_told() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    write(&mut rig, &open, 100_000, URGENT);
    let mut seen = (0, 0);
    let mut at = 0;
    while at < 100_000 {
        for seg in core::iter::from_fn(|| rig.next()).collect::<Vec<_>>() {
            let ahead = 100_000 - (seg.seq - open.host);
            match seg.urgent {
                0 => seen.0 += 1,
                0xffff if ahead > 0xffff => assert!(seg.has(URG)),
                urgent => {
                    assert_eq!(u32::from(urgent), ahead);
                    seen.1 += 1;
                }
            }
            at = at.max(seg.seq - open.host + seg.data.len() as u32);
        }
        rig.send(open.peer, open.host + at, ACK, &[]);
    }
    assert!(seen.1 > 0, "{seen:?}");
}

#[test]
fn a_closed_window_hears_of_urgent_data() {
    // RFC 9293 MUST-66: the peer takes it.
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.window = 0;
    rig.send(open.peer, open.host, ACK, &[]);
    write(&mut rig, &open, 3, URGENT);
    rig.ms(1100);
    let seg = rig.expect();
    assert!(seg.has(URG) && seg.data.is_empty());
    assert_eq!((seg.seq, seg.urgent), (open.host, 3));
}

#[test]
fn no_more_is_unsent_than_is_asked_for() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        notsent_lowat: 4000,
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    // A super-frame that was begun is filled: half of the peer's window.
    assert_eq!(rig.write(&open, &[1; 100_000]), 32_120);
    rig.pump();
    assert_eq!(rig.write(&open, &[1; 100_000]), 14_600);
    let full = rig.host.tcp_send(rig.now, open.socket, b"x");
    assert_eq!(full, Err(SocketError::WouldBlock));
    rig.events.clear();
    let mut una = open.host;
    // Half of what may be unsent, and it was: then he hears, though nothing of it is acknowledged.
    loop {
        while rig.next().is_some() {}
        let unsent = rig.host.tcp_info(open.socket).unwrap().unsent;
        let told = rig.events.iter().any(|e| e.ready.contains(Ready::WRITABLE));
        assert_eq!(told, unsent < 2000, "{unsent}");
        if told {
            break;
        }
        una += 1460;
        rig.send(open.peer, una, ACK, &[]);
    }
    assert!(rig.write(&open, b"more") == 4);
}

#[test]
fn the_send_buffer_grows_with_the_window_unless_it_was_set() {
    let mut config = config();
    (config.tcp.wmem_default, config.tcp.wmem_max) = (16_384, 200_000);
    let mut rig = Rig::with(config);
    let open = rig.accepted(&TcpOptions::default());
    let size = |rig: &Rig| rig.host.tcp_send_buffer(open.socket).unwrap();
    // What Linux gives a fresh connection over Ethernet.
    assert_eq!(size(&rig), 87_040);
    rig.write(&open, &[1; 60_000]);
    let mut at = 0;
    for _ in 0..3 {
        while let Some(seg) = rig.next() {
            at = at.max(seg.seq - open.host + seg.data.len() as u32);
        }
        rig.send(open.peer, open.host + at, ACK, &[]);
    }
    assert!(size(&rig) > 150_000, "{}", size(&rig));
    let fixed = |o: &mut TcpOptions| o.send_buffer = Some(9000);
    rig.host
        .tcp_set_options(rig.now, open.socket, fixed)
        .unwrap();
    assert_eq!(size(&rig), 9000);
}

/// As Linux: each unit of half the peer's window costs its bookkeeping besides its bytes, and the first leaves, unpushed, before
/// the next is taken.
#[test]
fn a_buffer_that_is_charged_for_frames_holds_fewer_bytes() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        send_buffer: Some(4608),
        charge_frames: true,
        ..nodelay()
    };
    rig.window = 2000;
    let open = rig.accepted_with(&options, with_sack());
    assert_eq!(write(&mut rig, &open, 10_000, Write::default()), 1000);
    assert_eq!(cut(&mut rig, &open), [(0, 1000, false)]);
    assert_eq!(write(&mut rig, &open, 9000, Write::default()), 1000);
    assert_eq!(cut(&mut rig, &open), [(1000, 1000, true)]);
    assert_eq!(write(&mut rig, &open, 8000, Write::default()), 1000);
    // Three units are 5,688 bytes.
    let refused = rig.host.tcp_send(rig.now, open.socket, &[1; 7000]);
    assert_eq!(refused, Err(SocketError::WouldBlock));
    rig.silence();
    rig.send(open.peer, open.host + 2000, ACK, &[]);
    // Whoever has to wait pushes what he wrote.
    assert_eq!(cut(&mut rig, &open), [(2000, 1000, true)]);
    assert!(rig.host.ready(open.socket).contains(Ready::WRITABLE));
}

/// As Linux: what is begun is filled, and what leaves of it meanwhile makes room for more, were the buffer ever so small.
#[test]
fn a_unit_is_filled_though_it_is_longer_than_the_buffer() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        send_buffer: Some(4608),
        charge_frames: true,
        ..nodelay()
    };
    let open = rig.accepted_with(&options, with_sack());
    // Half the window, and the ten segments that leave at once.
    let unit = 32_000;
    assert_eq!(
        write(&mut rig, &open, 100_000, Write::default()),
        unit + 10_000
    );
    assert_eq!(cut(&mut rig, &open).len(), 10);
    let refused = rig.host.tcp_send(rig.now, open.socket, b"x");
    assert_eq!(refused, Err(SocketError::WouldBlock));
}

/// RFC 8985 7.3: the last segment, not the last bytes of two.
#[test]
fn a_probe_of_the_tail_is_the_last_segment() {
    let mut rig = Rig::new();
    rig.handshake_ms = 100;
    let open = rig.accepted_with(&nodelay(), with_sack());
    write(&mut rig, &open, 2300, Write::default());
    let sent = cut(&mut rig, &open);
    assert_eq!(sent.last(), Some(&(2000, 300, true)));
    rig.ms(250);
    assert_eq!(cut(&mut rig, &open), [(2000, 300, true)]);
}

/// As Linux: the application may end the connection, too, and then one segment says both.
#[test]
fn the_ack_of_a_fin_waits_for_ours() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, ACK, b"request");
    assert_eq!(rig.expect().ack, open.peer + 7);
    assert_eq!(rig.read(open.socket).unwrap(), b"request");
    rig.send(open.peer + 7, open.host, ACK | FIN, &[]);
    rig.ms(39);
    rig.silence();
    rig.host.close(rig.now, open.socket).unwrap();
    let seg = rig.expect();
    assert!(seg.is(ACK | FIN) && seg.ack == open.peer + 8);
    rig.silence();
}

#[test]
fn the_ack_of_a_fin_waits_at_most_40_ms_and_not_when_nothing_came_before() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.send(open.peer, open.host, ACK | FIN, &[]);
    assert_eq!(rig.expect().ack, open.peer + 1);
    let mut rig = Rig::new();
    let open = rig.accepted_with(&TcpOptions::default(), with_sack());
    rig.send(open.peer, open.host, ACK, b"bytes");
    rig.expect();
    // The bytes again, and the end: what came twice is not told any more.
    rig.send(open.peer + 2, open.host, ACK | FIN, b"tes");
    rig.ms(41);
    let seg = rig.expect();
    assert_eq!((seg.ack, seg.options.sack.len), (open.peer + 6, 0));
}

#[test]
fn timeouts_grow_no_longer_than_they_may() {
    let mut rig = Rig::new();
    rig.handshake_ms = SECOND;
    let options = TcpOptions {
        rto_max: Some(Duration::from_secs(2)),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.write(&open, b"hello?");
    rig.expect();
    rig.ms(1100);
    rig.expect();
    for _ in 0..4 {
        rig.ms(2000);
        assert_eq!(rig.expect().data, b"hello?");
        rig.silence();
    }
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!(info.rto, Duration::from_secs(2));
    // The host's limit is kept from when a socket is made, SYN-ACKs included.
    let mut rig = Rig::new();
    let mut tunables = rig.host.tcp_tunables();
    tunables.set("tcp_rto_max_ms", 1000).unwrap();
    rig.host.set_tcp_tunables(tunables).unwrap();
    rig.listen(1, &TcpOptions::default());
    rig.send(999, 0, Flags::SYN, &[]);
    for _ in 0..4 {
        assert!(rig.expect().is(Flags::SYN | ACK));
        rig.ms(900);
        rig.silence();
        rig.ms(110);
    }
}

/// IP_PMTUDISC_DONT.
#[test]
fn routers_may_fragment_what_the_application_lets_them() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        fragment: true,
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.write(&open, b"in pieces");
    assert!(!rig.expect().dont_fragment);
    rig.host
        .tcp_set_options(rig.now, open.socket, |o| o.fragment = false)
        .unwrap();
    rig.write(&open, b"whole");
    rig.send(open.peer, open.host + 9, ACK, &[]);
    assert!(rig.expect().dont_fragment);
}

/// Linux's TCP_RESOURCE_PROBE_INTERVAL: the user's limit runs from when the interface was first found to take nothing.
#[test]
fn the_users_timeout_counts_where_the_interface_takes_nothing() {
    let mut rig = Rig::new();
    rig.handshake_ms = 100;
    let options = TcpOptions {
        user_timeout: Some(Duration::from_secs(3)),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.write(&open, b"hello?");
    let begin = rig.now;
    let mut ended = None;
    while let Some(at) = rig.host.next_deadline()
        && ended.is_none()
    {
        rig.host.handle_timers(at);
        rig.now = at;
        let closed = rig.host.tcp_state(open.socket) == Ok(stack::State::Closed);
        ended = closed.then_some(at - begin);
    }
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert_eq!((info.probes, info.backoff), (6, 0));
    // A timeout of 300 ms, then six looks.
    let ended = ended.unwrap().as_millis();
    assert!((3299..3310).contains(&ended), "{ended}");
}

/// One ACK that moves on and tells of holes above is no sign of reordering: what it covers came in order.
#[test]
fn an_ack_that_tells_of_holes_above_is_no_reordering() {
    let mut rig = Rig::new();
    rig.handshake_ms = 100;
    let open = rig.accepted_with(&nodelay(), with_sack());
    write(&mut rig, &open, 10_000, Write::default());
    while rig.next().is_some() {}
    rig.ms(100);
    let mut options = Options::default();
    options.sack.len = 2;
    options.sack.blocks[0] = (open.host + 3000, open.host + 4000);
    options.sack.blocks[1] = (open.host + 6000, open.host + 10_000);
    rig.send_with(open.peer, open.host + 1000, ACK, &[], options);
    // Lost at once, all of the holes.
    let again: Vec<u32> = cut(&mut rig, &open).iter().map(|s| s.0).collect();
    assert_eq!(again, [1000, 2000, 4000, 5000]);
}
