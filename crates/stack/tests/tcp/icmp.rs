//! What ICMP says about a connection: RFC 9293 3.9.2.2, RFC 5927, RFC 1191.

use core::time::Duration;

use stack::{Drop, Ready, SocketError, State, TcpOptions};
use wire::Addr;

use crate::rig::{ACK, Open, Rig, SYN, in_ip};

/// An ICMPv4 error of the peer about a segment from `port` of ours with the number `seq`.
fn error(rig: &mut Rig, head: [u8; 8], port: u16, seq: u32) {
    let (peer, ours) = (Addr::v4(10, 0, 0, 2), Addr::v4(10, 0, 0, 1));
    let remote_port = rig.peer_port;
    let tcp = [
        &port.to_be_bytes()[..],
        &remote_port.to_be_bytes(),
        &seq.to_be_bytes(),
    ]
    .concat();
    let quoted = in_ip(6, &tcp, ours, peer);
    let mut message = [&head[..], &quoted[14..]].concat();
    wire::icmpv4::fill_checksum(&mut message);
    let frame = in_ip(1, &message, peer, ours);
    rig.raw(&frame);
}

const NET: [u8; 8] = [3, 0, 0, 0, 0, 0, 0, 0];
const HOST: [u8; 8] = [3, 1, 0, 0, 0, 0, 0, 0];
const PORT: [u8; 8] = [3, 3, 0, 0, 0, 0, 0, 0];
const QUENCH: [u8; 8] = [4, 0, 0, 0, 0, 0, 0, 0];
const TIME: [u8; 8] = [11, 0, 0, 0, 0, 0, 0, 0];
const PARAMETER: [u8; 8] = [12, 0, 0, 0, 0, 0, 0, 0];
const TOO_BIG_600: [u8; 8] = [3, 4, 0, 0, 0, 0, 2, 0x58];

/// Fragmentation Needed for packets longer than `mtu`.
pub(crate) fn too_big(rig: &mut Rig, mtu: u16, port: u16, seq: u32) {
    let [high, low] = mtu.to_be_bytes();
    error(rig, [3, 4, 0, 0, 0, 0, high, low], port, seq);
}

fn busy(rig: &mut Rig) -> Open {
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 2920]);
    assert_eq!(rig.expect().data.len() + rig.expect().data.len(), 2920);
    open
}

#[test]
fn errors_reach_the_connection_they_concern() {
    // RFC 9293 MUST-54, 3.9.2.2
    for (head, expected) in [
        (PORT, SocketError::ConnectionRefused),
        (HOST, SocketError::HostUnreachable),
    ] {
        let mut rig = Rig::new();
        let (other, _) = rig.connect(&TcpOptions::default());
        let (socket, syn) = rig.connect(&TcpOptions::default());
        error(&mut rig, head, syn.src_port, syn.seq);
        assert_eq!(rig.host.take_error(socket), Some(expected));
        assert_eq!(rig.host.tcp_state(other), Ok(State::SynSent));
    }
}

#[test]
fn errors_about_numbers_not_in_flight_are_forged() {
    // RFC 5927 4.1
    let mut rig = Rig::new();
    let (socket, syn) = rig.connect(&TcpOptions::default());
    error(&mut rig, PORT, syn.src_port, syn.seq.wrapping_add(1));
    error(&mut rig, PORT, syn.src_port, syn.seq.wrapping_sub(1));
    error(&mut rig, PORT, syn.src_port.wrapping_add(1), syn.seq);
    assert_eq!(rig.host.tcp_state(socket), Ok(State::SynSent));
    assert_eq!(rig.host.stats().drops.get(Drop::TcpReportIgnored), 3);

    let mut rig = Rig::new();
    let open = busy(&mut rig);
    error(&mut rig, TOO_BIG_600, 80, open.host.wrapping_sub(1));
    error(&mut rig, TOO_BIG_600, 80, open.host + 2920);
    rig.silence();
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().mss, 1460);
}

#[test]
fn errors_do_not_end_an_established_connection() {
    // RFC 9293 MUST-56 (soft ones), RFC 5927 5.2 (hard ones)
    let mut rig = Rig::new();
    let open = busy(&mut rig);
    for head in [HOST, PORT, TIME, PARAMETER, [3, 2, 0, 0, 0, 0, 0, 0]] {
        error(&mut rig, head, 80, open.host);
    }
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
    rig.send(open.peer, open.host + 2920, ACK, b"still");
    assert_eq!(rig.read(open.socket), Ok(b"still".to_vec()));
}

#[test]
fn source_quench_is_discarded() {
    // RFC 9293 MUST-55
    let mut rig = Rig::new();
    let open = busy(&mut rig);
    let before = rig.host.tcp_info(open.socket).unwrap();
    error(&mut rig, QUENCH, 80, open.host);
    rig.silence();
    assert_eq!(rig.host.tcp_info(open.socket).unwrap(), before);
    assert_eq!(rig.host.stats().drops.get(Drop::IcmpIgnored), 1);
}

#[test]
fn segments_shrink_to_the_path_and_are_sent_again() {
    // RFC 1191 6.4, RFC 9293 MUST-16
    let mut rig = Rig::new();
    let open = busy(&mut rig);
    error(&mut rig, TOO_BIG_600, 80, open.host);
    let mut at = open.host;
    while let Some(segment) = rig.next() {
        assert!(segment.seq == at && segment.data.len() <= 560);
        at = at.wrapping_add(segment.data.len() as u32);
    }
    assert!(at != open.host, "at once, without waiting for the timer");
}

#[test]
fn soft_errors_are_kept_and_are_the_reason_of_a_timeout() {
    // RFC 9293 MUST-47, as Linux: SO_ERROR tells, and the last word before the end counts
    let mut rig = Rig::new();
    let open = busy(&mut rig);
    error(&mut rig, HOST, 80, open.host);
    assert_eq!(
        rig.host.take_error(open.socket),
        Some(SocketError::HostUnreachable)
    );
    assert_eq!(rig.host.take_error(open.socket), None);
    assert_eq!(rig.read(open.socket), Err(SocketError::WouldBlock));
    error(&mut rig, HOST, 80, open.host);
    error(&mut rig, NET, 80, open.host);
    rig.advance(Duration::from_secs(1400));
    assert!(rig.events.iter().any(|e| e.ready.contains(Ready::ERROR)));
    assert_eq!(
        rig.read(open.socket),
        Err(SocketError::NetworkUnreachable),
        "the reason, not only that it took too long"
    );
    assert_eq!(rig.host.take_error(open.socket), None);

    // What was overcome is forgotten.
    let mut rig = Rig::new();
    let open = busy(&mut rig);
    error(&mut rig, HOST, 80, open.host);
    rig.send(open.peer, open.host + 1460, ACK, &[]);
    rig.advance(Duration::from_secs(1400));
    assert_eq!(rig.read(open.socket), Err(SocketError::TimedOut));
}

#[test]
fn a_path_below_the_floor_may_cut_segments() {
    // RFC 1191 3 allows links of 68 bytes. Segments stay at the floor of 552, and routers cut them.
    let mut rig = Rig::new();
    let open = busy(&mut rig);
    let too_big = |mtu: u16| {
        let [high, low] = mtu.to_be_bytes();
        [3, 4, 0, 0, 0, 0, high, low]
    };
    for (mtu, dont_fragment) in [(552, true), (296, false), (552, false)] {
        error(&mut rig, too_big(mtu), 80, open.host);
        rig.advance(Duration::from_secs(130));
        let segment = rig.expect();
        assert_eq!(
            (segment.data.len(), segment.dont_fragment),
            (512, dont_fragment)
        );
        while rig.next().is_some() {}
    }
}

/// RFC 1191 3.1, RFC 9293 MUST-67: what the path carries says nothing about what may come back.
#[test]
fn a_narrow_path_does_not_narrow_the_mss_announced() {
    let mut rig = Rig::new();
    let open = busy(&mut rig);
    error(&mut rig, [3, 4, 0, 0, 0, 0, 4, 176], 80, open.host); // 1200
    assert_eq!(rig.expect().data.len(), 1160);
    while rig.next().is_some() {}
    let (_, syn) = rig.connect(&TcpOptions::default());
    assert_eq!(syn.options.mss, Some(1460));
    rig.peer_port += 1;
    rig.send(999, 0, SYN, &[]);
    assert_eq!(rig.expect().options.mss, Some(1460));
}

/// RFC 9293 SHLD-14: a link that carries less before the handshake ends takes nothing back of what the SYN-ACK offered.
#[test]
fn the_first_window_stays_when_the_link_narrows() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(3000),
        ..TcpOptions::default()
    };
    let listener = rig.listen(1, &options);
    rig.send(999, 0, SYN, &[]);
    let answer = rig.expect();
    assert_eq!(answer.window, 2920, "two segments");
    let link = rig.interface;
    let narrowed = rig.host.set_link(rig.now, link, 1080, base::Offloads::NONE);
    assert_eq!(narrowed, Ok(()));
    let iss = answer.seq;
    rig.send(1000, iss + 1, ACK, &[]);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    rig.send(1000, iss + 1, ACK, &[1; 100]);
    let ack = rig.expect();
    assert!(ack.ack + u32::from(ack.window) >= 1000 + 2920, "{ack:?}");
    rig.send(1100, iss + 1, ACK, &[2; 2820]);
    assert_eq!(rig.read(socket).unwrap().len(), 2920);
}

#[test]
fn the_link_may_change() {
    let mut rig = Rig::new();
    let link = rig.interface;
    let set = |rig: &mut Rig, mtu| {
        let offloads = base::Offloads::NONE;
        rig.host.set_link(rig.now, link, mtu, offloads)
    };
    let open = rig.accepted(&TcpOptions::default());
    assert_eq!(set(&mut rig, 9000), Ok(()));
    rig.peer_port += 1;
    rig.send(999, 0, SYN, &[]);
    assert_eq!(rig.expect().options.mss, Some(8960));
    assert_eq!(set(&mut rig, 1000), Ok(()));
    rig.write(&open, &[0; 2000]);
    assert_eq!(rig.expect().data.len(), 960);
    assert!(set(&mut rig, 500).is_err() && set(&mut rig, 70_000).is_err());
}

/// IP_RECVERR: what would be a soft error is told at once, and in full.
#[test]
fn who_asks_hears_of_errors_at_once() {
    let mut rig = Rig::new();
    let open = busy(&mut rig);
    error(&mut rig, HOST, 80, open.host);
    assert_eq!(rig.host.poll_error_report(), None, "nobody asked");
    rig.host.take_error(open.socket);
    rig.host
        .tcp_set_options(rig.now, open.socket, |o| o.receive_errors = true)
        .unwrap();
    rig.events.clear();
    error(&mut rig, HOST, 80, open.host);
    assert!(rig.events.iter().any(|e| e.ready.contains(Ready::ERROR)));
    let report = rig.host.poll_error_report().unwrap();
    assert_eq!(report.socket, open.socket);
    assert_eq!((report.icmp, report.mtu), ((3, 1), None));
    assert_eq!(report.error, SocketError::HostUnreachable);
    assert_eq!(report.to, crate::rig::REMOTE.parse().unwrap());
    assert_eq!(report.from, report.to.ip());
    assert_eq!(rig.host.poll_error_report(), None);
    // It is told once, and the connection goes on.
    assert_eq!(rig.read(open.socket), Err(SocketError::HostUnreachable));
    assert_eq!(rig.read(open.socket), Err(SocketError::WouldBlock));
    assert_eq!(rig.host.tcp_state(open.socket), Ok(State::Established));
    // A queue that nobody empties is bounded.
    for _ in 0..300 {
        error(&mut rig, HOST, 80, open.host);
    }
    let kept = core::iter::from_fn(|| rig.host.poll_error_report()).count();
    let lost = rig.host.stats().counts.get(stack::Count::ReportsLost);
    assert_eq!(kept as u64 + lost, 300);
    assert_eq!(kept, 256);
}
