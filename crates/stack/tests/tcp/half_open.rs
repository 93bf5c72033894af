//! SYN-RECEIVED, of a listener: RFC 9293 3.10.7.4, RFC 5961.

use stack::{Count, TcpOptions};
use wire::tcp::Options;

use crate::rig::{ACK, RST, Rig, SYN};

/// A client that starts again with other numbers while its old attempt is half-open: the challenge makes it reset that one, and
/// its next SYN is the listener's.
#[test]
fn a_client_that_starts_again_gets_through() {
    for isn in [500_000_000, 1005] {
        let mut rig = Rig::new();
        let listener = rig.listen(8, &TcpOptions::default());
        rig.send(999, 0, SYN, &[]);
        let old = rig.expect();
        rig.ms(100);
        rig.send(isn, 0, SYN, &[]);
        let challenge = rig.expect();
        assert!(challenge.is(ACK) && challenge.seq == old.seq + 1 && challenge.ack == 1000);
        let more = challenge.window - old.window;
        assert!(
            more < 100,
            "no less than was offered, and hardly more: {more}"
        );
        rig.send(isn, 0, SYN, &[]);
        rig.silence();
        rig.send(challenge.ack, 0, RST, &[]);
        rig.silence();
        rig.ms(900);
        rig.send(isn, 0, SYN, &[]);
        let answer = rig.expect();
        assert!(answer.is(SYN | ACK) && answer.ack == isn + 1);
        rig.send(isn + 1, answer.seq + 1, ACK, &[]);
        assert!(rig.host.tcp_accept(rig.now, listener).is_ok());
    }
}

/// Even one that does not answer the challenge: its SYNs do not keep the old attempt alive.
#[test]
fn other_syns_do_not_keep_a_half_open_connection() {
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    rig.send(999, 0, SYN, &[]);
    for _ in 0..70 {
        rig.send(500_000_000, 0, SYN, &[]);
        while let Some(seg) = rig.next() {
            if seg.ack == 500_000_001 {
                return;
            }
        }
        rig.ms(1000);
    }
    panic!("the listener is not reached within a minute");
}

#[test]
fn unacceptable_segments_in_syn_received_get_an_ack() {
    // RFC 9293 3.10.7.4 first, RFC 5961 7
    let mut rig = Rig::new();
    let listener = rig.listen(8, &TcpOptions::default());
    let stamped = |tsval, echo| Options {
        timestamps: Some((tsval, echo)),
        ..Options::default()
    };
    let syn = Options {
        mss: Some(1460),
        window_scale: Some(7),
        ..stamped(1000, 0)
    };
    rig.send_with(999, 0, SYN, &[], syn);
    let answer = rig.expect();
    let (ack, echo) = (answer.seq + 1, answer.options.timestamps.unwrap().0);
    let scale = answer.options.window_scale.unwrap();
    let cases = [
        (70_000_000, ACK, stamped(1001, echo)),
        (1000, ACK, stamped(999, echo)), // PAWS
        (999, SYN | ACK, stamped(1001, echo)),
    ];
    for (seq, flags, options) in cases {
        rig.send_with(seq, ack, flags, &[], options);
        let reply = rig.expect();
        assert!(reply.is(ACK) && reply.seq == ack && reply.ack == 1000);
        assert_eq!(reply.options.timestamps.map(|t| t.1), Some(1000));
        let offered = 45_u16 * 1448;
        assert_eq!(
            reply.window,
            offered.div_ceil(1 << scale),
            "nothing is taken back"
        );
        rig.send_with(seq, ack, flags, &[], options);
        rig.silence();
        rig.send(70_000_000, 0, RST, &[]);
        rig.silence();
        rig.ms(600);
        while rig.next().is_some_and(|seg| seg.has(SYN)) {}
    }
    assert_eq!(rig.host.stats().counts.get(Count::TcpChallengeAcks), 3);
    rig.send_with(1000, ack, ACK, b"hello", stamped(1002, echo));
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(rig.read(socket), Ok(b"hello".to_vec()));
}

/// A SYN that comes again brings its own time, so that its answer tells the client the right round trip (RFC 7323 4.3).
#[test]
fn a_repeated_syn_is_echoed() {
    let mut rig = Rig::new();
    rig.listen(8, &TcpOptions::default());
    let stamped = |tsval| Options {
        timestamps: Some((tsval, 0)),
        ..Options::default()
    };
    for tsval in [1000, 1700, 1500] {
        rig.send_with(999, 0, SYN, &[], stamped(tsval));
        let echo = rig.expect().options.timestamps.map(|t| t.1);
        assert_eq!(echo, Some(tsval.max(if tsval == 1500 { 1700 } else { 0 })));
        rig.ms(700);
        while rig.next().is_some() {}
    }
}
