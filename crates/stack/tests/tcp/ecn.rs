//! Explicit congestion notification (RFC 3168, RFC 8511), and DCTCP's use of it (RFC 8257).

use stack::{Congestion, CongestionInfo, Recovery, TcpOptions};
use wire::tcp::Options;

use crate::rig::*;

const MSS: u32 = 1460;
const ECE: Flags = Flags::ECE;
const CWR: Flags = Flags::CWR;
const ECT_0: u8 = 2;
const CE: u8 = 3;

fn ecn(rig: &mut Rig, value: u32) {
    let mut tunables = rig.host.tcp_tunables();
    tunables.ecn = value;
    rig.host.set_tcp_tunables(tunables).unwrap();
}

/// A listener's answer to a SYN with these flags, whose IP header has these bits.
fn answer(rig: &mut Rig, options: &TcpOptions, flags: Flags, bits: u8) -> Seg {
    rig.listen(8, options);
    let syn = rig.frame(80, 999, 0, SYN | flags, &[], scaled());
    rig.raw(&marked(syn, bits));
    rig.expect()
}

/// A connection that speaks ECN.
fn speaking(rig: &mut Rig, options: &TcpOptions) -> Open {
    let listener = rig.listen(8, options);
    let syn = rig.frame(80, 999, 0, SYN | ECE | CWR, &[], scaled());
    rig.raw(&syn);
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK | ECE));
    rig.ms(100);
    rig.send(1000, answer.seq + 1, ACK, &[]);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    Open {
        socket,
        host: answer.seq + 1,
        peer: 1000,
    }
}

#[test]
fn who_asks_for_ecn_gets_it() {
    // RFC 3168 6.1.1: passive by default, as on Linux; no SYN and no SYN-ACK is capable of marks itself.
    let seg = answer(&mut Rig::new(), &TcpOptions::default(), ECE | CWR, 0);
    assert!(seg.is(SYN | ACK | ECE) && seg.tos == 0);
    // Not asked for; not spoken; bits where there must be none: something on the way is broken.
    let seg = answer(&mut Rig::new(), &TcpOptions::default(), Flags(0), 0);
    assert!(seg.is(SYN | ACK));
    let mut silent = Rig::new();
    ecn(&mut silent, 0);
    let seg = answer(&mut silent, &TcpOptions::default(), ECE | CWR, 0);
    assert!(seg.is(SYN | ACK));
    let seg = answer(&mut Rig::new(), &TcpOptions::default(), ECE | CWR, ECT_0);
    assert!(seg.is(SYN | ACK));
}

/// Whether a connection from here speaks ECN after a SYN-ACK with these flags.
fn agreed(flags: Flags) -> bool {
    let mut rig = Rig::new();
    ecn(&mut rig, 1);
    let (socket, syn) = rig.connect(&TcpOptions::default());
    assert!(syn.has(ECE | CWR) && syn.tos == 0);
    let frame = rig.frame(
        syn.src_port,
        99,
        syn.seq + 1,
        SYN | ACK | flags,
        &[],
        scaled(),
    );
    rig.raw(&frame);
    assert!(rig.expect().is(ACK));
    rig.host.tcp_info(socket).unwrap().ecn
}

#[test]
fn an_answer_agrees_with_ece_alone() {
    assert!(agreed(ECE));
    assert!(!agreed(Flags(0)));
    assert!(!agreed(ECE | CWR), "a reflected SYN is no answer");
}

#[test]
fn connections_do_not_ask_by_default() {
    let mut rig = Rig::new();
    let (_, syn) = rig.connect(&TcpOptions::default());
    assert!(!syn.has(ECE) && !syn.has(CWR));
}

#[test]
fn a_syn_that_is_lost_goes_without_ecn() {
    for (fallback, again) in [(1, false), (0, true)] {
        let mut rig = Rig::new();
        let mut tunables = rig.host.tcp_tunables();
        (tunables.ecn, tunables.ecn_fallback) = (1, fallback);
        rig.host.set_tcp_tunables(tunables).unwrap();
        rig.connect(&TcpOptions::default());
        rig.ms(1100);
        assert_eq!(rig.expect().has(ECE | CWR), again);
    }
}

#[test]
fn only_new_data_is_capable_of_marks() {
    // RFC 3168 6.1.4 to 6.1.6
    let mut rig = Rig::new();
    let open = speaking(&mut rig, &TcpOptions::default());
    rig.write(&open, &[1; 100]);
    assert_eq!(rig.expect().tos, ECT_0);
    rig.ms(400);
    let again = rig.expect();
    assert!(again.seq == open.host && again.tos == 0);
    rig.send(open.peer, open.host, ACK, &[2; 100]);
    let ack = rig.expect();
    assert!(ack.data.is_empty() && ack.tos == 0);
}

#[test]
fn marks_are_echoed_until_the_peer_has_reduced() {
    // RFC 3168 6.1.3
    let mut rig = Rig::new();
    let open = speaking(&mut rig, &TcpOptions::default());
    let mut seq = open.peer;
    let mut data = |rig: &mut Rig, flags: Flags, bits: u8| {
        let frame = rig.frame(
            80,
            seq,
            open.host,
            ACK | flags,
            &[1; 1460],
            Options::default(),
        );
        rig.raw(&marked(frame, bits));
        seq += MSS;
        rig.ms(50);
        rig.expect().has(ECE)
    };
    assert!(!data(&mut rig, Flags(0), ECT_0));
    assert!(data(&mut rig, Flags(0), CE));
    assert!(data(&mut rig, Flags(0), ECT_0), "until it is heard");
    assert!(!data(&mut rig, CWR, ECT_0));
    assert!(data(&mut rig, CWR, CE), "a mark of the same segment counts");
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert!(info.ecn && info.ecn_seen);
}

#[test]
fn echoes_reduce_the_window_once_a_round_trip() {
    // RFC 3168 6.1.2, RFC 8511 3: to 0.85, and the next new data says so.
    let mut rig = Rig::new();
    let open = speaking(&mut rig, &TcpOptions::default());
    rig.write(&open, &[1; 40 * 1460]);
    let sent: Vec<Seg> = core::iter::from_fn(|| rig.next()).collect();
    assert!(sent.len() == 10 && sent.iter().all(|s| !s.has(CWR)));
    rig.ms(100);
    let mut una = open.host;
    let mut told = 0;
    for _ in 0..10 {
        una = una.wrapping_add(MSS);
        rig.send(open.peer, una, ACK | ECE, &[]);
        while let Some(segment) = rig.next() {
            assert!(!segment.has(CWR) || told == 0);
            told += u32::from(segment.has(CWR));
        }
        let info = rig.host.tcp_info(open.socket).unwrap();
        assert_eq!(info.ssthresh, 14_600 * 85 / 100, "once");
        if una < open.host.wrapping_add(10 * MSS) {
            assert_eq!(info.recovery, Recovery::Reduction);
        }
    }
    assert_eq!(told, 1);
    let info = rig.host.tcp_info(open.socket).unwrap();
    assert!(info.cwnd.abs_diff(info.ssthresh) <= MSS, "{}", info.cwnd);
    // What was sent after it is acknowledged: the next echo is of a new mark.
    una = una.wrapping_add(2 * MSS);
    rig.send(open.peer, una, ACK, &[]);
    assert_eq!(
        rig.host.tcp_info(open.socket).unwrap().recovery,
        Recovery::Open
    );
    while rig.next().is_some() {}
    una = una.wrapping_add(MSS);
    rig.send(open.peer, una, ACK | ECE, &[]);
    assert!(rig.host.tcp_info(open.socket).unwrap().ssthresh < info.ssthresh);
}

#[test]
fn dctcp_asks_for_ecn_and_echoes_each_mark() {
    // RFC 8257 3.2: the echo follows the marks of what arrives, whatever the peer says of its window.
    let mut rig = Rig::new();
    let dctcp = TcpOptions {
        congestion: Some(Congestion::Dctcp),
        ..TcpOptions::default()
    };
    let (_, syn) = rig.connect(&dctcp);
    assert!(syn.has(ECE | CWR));
    let mut rig = Rig::new();
    let open = speaking(&mut rig, &dctcp);
    let mut seq = open.peer;
    let mut data = |rig: &mut Rig, bits: u8| {
        let frame = rig.frame(80, seq, open.host, ACK, &[1; 1460], Options::default());
        rig.raw(&marked(frame, bits));
        seq += MSS;
        rig.ms(50);
        let ack = rig.expect();
        assert_eq!(ack.tos, ECT_0, "ACKs are capable of marks, too");
        let info = rig.host.tcp_info(open.socket).unwrap().congestion_info;
        let Some(CongestionInfo::Dctcp(dctcp)) = info else {
            panic!("{info:?}");
        };
        assert!(dctcp.enabled && dctcp.alpha == 1024);
        assert_eq!(dctcp.ce_state, ack.has(ECE), "TCP_CC_INFO");
        ack.has(ECE)
    };
    let echoes = [CE, ECT_0, CE, CE, ECT_0].map(|bits| data(&mut rig, bits));
    assert_eq!(echoes, [true, false, true, true, false]);
}
