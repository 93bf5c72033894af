//! Marks in the stream: what their setter hears, and when.

use core::time::Duration;

use stack::{Config, NoticeKind, SocketError, TcpOptions};

use crate::rig::{ACK, RST, Rig, config, nodelay};

const BOTH: (bool, bool) = (true, true);

/// What was told: the word, what happened, and how many milliseconds after `start`.
fn told(rig: &mut Rig, start: base::Instant) -> Vec<(u64, NoticeKind, u128)> {
    let all = core::iter::from_fn(|| rig.host.poll_notice());
    all.map(|n| (n.word, n.kind, (n.at - start).as_millis()))
        .collect()
}

#[test]
fn marks_tell_when_bytes_were_sent_and_acknowledged() {
    let mut rig = Rig::new();
    rig.window = 1000;
    let open = rig.accepted(&nodelay());
    let start = rig.now;
    let mut place = open.host;
    for (word, len) in [(7, 600), (8, 900)] {
        let written = rig.host.tcp_send(start, open.socket, &vec![0; len]);
        assert_eq!(written, Ok(len));
        rig.host.tcp_mark(start, open.socket, word, BOTH).unwrap();
        place += len as u32;
    }
    rig.pump();
    // The window has no room for the end of the second write.
    assert_eq!(told(&mut rig, start), [(7, NoticeKind::Sent, 0)]);
    rig.ms(10);
    rig.send(open.peer, open.host + 599, ACK, &[]);
    assert_eq!(
        told(&mut rig, start),
        [(8, NoticeKind::Sent, 10)],
        "a byte short of the first mark"
    );
    rig.ms(10);
    rig.send(open.peer, place, ACK, &[]);
    let acked = [(7, NoticeKind::Acked, 20), (8, NoticeKind::Acked, 20)];
    assert_eq!(told(&mut rig, start), acked);
    // What is acknowledged already is told at once.
    rig.host.tcp_mark(rig.now, open.socket, 9, BOTH).unwrap();
    let late = [(9, NoticeKind::Sent, 20), (9, NoticeKind::Acked, 20)];
    assert_eq!(told(&mut rig, start), late);
    assert_eq!(rig.host.tcp_occupancy().marks, 0);
}

/// A retransmission is not sending, and an ACK of it is one.
#[test]
fn a_lost_segment_is_told_once() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let start = rig.now;
    rig.write(&open, b"lost");
    rig.host.tcp_mark(start, open.socket, 1, BOTH).unwrap();
    rig.pump();
    rig.advance(Duration::from_secs(2));
    rig.pump();
    let sent = told(&mut rig, start);
    assert_eq!(sent, [(1, NoticeKind::Sent, 0)]);
    rig.send(open.peer, open.host + 4, ACK, &[]);
    assert_eq!(told(&mut rig, start), [(1, NoticeKind::Acked, 2000)]);
}

#[test]
fn who_waits_for_an_ack_hears_of_the_end() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let start = rig.now;
    rig.write(&open, b"never");
    rig.host
        .tcp_mark(start, open.socket, 5, (false, true))
        .unwrap();
    rig.pump();
    rig.ms(3);
    rig.send(open.peer, 0, RST, &[]); // at RCV.NXT
    assert_eq!(told(&mut rig, start), [(5, NoticeKind::Dropped, 3)]);
    let again = rig.host.tcp_mark(rig.now, open.socket, 6, BOTH);
    assert_eq!(again, Err(SocketError::NotConnected));
}

#[test]
fn who_closes_waits_no_more() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    let start = rig.now;
    rig.write(&open, b"bye");
    rig.host.tcp_mark(start, open.socket, 6, BOTH).unwrap();
    rig.host.close(start, open.socket).unwrap();
    rig.pump();
    rig.send(open.peer, open.host + 4, ACK, &[]);
    assert_eq!(told(&mut rig, start), []);
    assert_eq!(rig.host.tcp_occupancy().marks, 0);
}

#[test]
fn marks_are_bounded() {
    let mut rig = Rig::with(Config {
        tcp_marks: 3,
        ..config()
    });
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, b"x");
    rig.pump();
    let mut mark = |word| rig.host.tcp_mark(rig.now, open.socket, word, (false, true));
    assert_eq!((0..3).map(&mut mark).filter(Result::is_ok).count(), 3);
    assert_eq!(mark(3), Err(SocketError::NoBuffers));
    // Notices that nobody takes count, too.
    rig.send(open.peer, open.host + 1, ACK, &[]);
    let full = rig.host.tcp_mark(rig.now, open.socket, 4, (false, true));
    assert_eq!(full, Err(SocketError::NoBuffers));
    let start = rig.now;
    assert_eq!(told(&mut rig, start).len(), 3);
}
