//! Fast Open of those who connect (RFC 7413 4.2.1, Linux's rules): SYNs with data from here.

use stack::{
    Count, FastOpenFail, Ready, Shutdown, SocketError, SocketId, State, TcpOptions, Write,
};
use wire::tcp::{FastOpen, Options};

use crate::fast_open::{count, set};
use crate::rig::{ACK, FIN, RST, Rig, SYN};

const COOKIE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn client() -> TcpOptions {
    TcpOptions {
        fast_open: true,
        ..TcpOptions::default()
    }
}

fn syn_ack(fast_open: Option<FastOpen>) -> Options {
    Options {
        mss: Some(1000),
        fast_open,
        ..Options::default()
    }
}

fn start(rig: &mut Rig) -> SocketId {
    let to = crate::rig::REMOTE.parse().unwrap();
    let socket = rig.host.tcp_connect(rig.now, to, None, &client()).unwrap();
    rig.pump();
    socket
}

/// Begins a connection with data, all of which is taken: its SYN.
fn start_with(rig: &mut Rig, data: &[u8]) -> (SocketId, crate::rig::Seg) {
    let socket = start(rig);
    assert_eq!(rig.host.tcp_send(rig.now, socket, data), Ok(data.len()));
    (socket, rig.expect())
}

/// The peer's answer to a SYN.
fn answer(rig: &mut Rig, syn: &crate::rig::Seg, acked: u32, fast_open: Option<FastOpen>) {
    let ack = syn.seq + 1 + acked;
    rig.send_to(syn.src_port, 7000, ack, SYN | ACK, &[], syn_ack(fast_open));
}

/// A host that knows the peer's cookie.
fn knowing() -> Rig {
    let mut rig = Rig::new();
    let socket = start(&mut rig);
    let syn = rig.expect();
    assert_eq!(syn.options.fast_open, Some(FastOpen::REQUEST));
    assert!(syn.data.is_empty());
    answer(&mut rig, &syn, 0, FastOpen::new(&COOKIE, false));
    assert!(rig.expect().is(ACK));
    let info = rig.host.tcp_info(socket).unwrap();
    assert!(!info.syn_data && info.fast_open_fail == FastOpenFail::NoCookie);
    rig.host.abort(rig.now, socket).unwrap();
    assert!(rig.expect().has(RST));
    rig
}

#[test]
fn with_a_cookie_the_first_data_goes_with_the_syn() {
    let mut rig = knowing();
    let socket = start(&mut rig);
    rig.silence(); // it waits for data, and says that it takes some
    assert!(rig.host.ready(socket).contains(Ready::WRITABLE));
    assert_eq!(rig.host.tcp_send(rig.now, socket, &[7; 2000]), Ok(960));
    let syn = rig.expect();
    assert!(
        syn.is(SYN) && syn.data == [7; 960],
        "the cached MSS, less 40"
    );
    assert_eq!(syn.options.fast_open, FastOpen::new(&COOKIE, false));
    let again = rig.host.tcp_send(rig.now, socket, &[7; 1040]);
    assert_eq!(again, Err(SocketError::WouldBlock));
    answer(&mut rig, &syn, 960, None);
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.seq == syn.seq + 961 && ack.data.is_empty());
    assert!(rig.host.tcp_info(socket).unwrap().syn_data);
    assert_eq!(count(&rig, Count::TcpFastOpenActive), 1);
    assert_eq!(rig.host.tcp_send(rig.now, socket, &[8; 100]), Ok(100));
    let data = rig.expect();
    assert_eq!((data.seq, data.data.len()), (syn.seq + 961, 100));
}

#[test]
fn what_the_syn_ack_does_not_acknowledge_is_sent_again_at_once() {
    for acked in [0, 400] {
        let mut rig = knowing();
        let socket = start(&mut rig);
        let bytes: Vec<u8> = (0..900).map(|n| n as u8).collect();
        rig.host.tcp_send(rig.now, socket, &bytes).unwrap();
        let syn = rig.expect();
        answer(&mut rig, &syn, acked, None);
        let again = rig.expect();
        assert_eq!(again.seq, syn.seq + 1 + acked);
        assert_eq!(again.data, bytes[acked as usize..]);
        let info = rig.host.tcp_info(socket).unwrap();
        assert!(!info.syn_data && info.fast_open_fail == FastOpenFail::DataNotAcked);
        assert_eq!(info.cwnd, 10_000, "it says nothing of congestion");
        rig.send_to(
            syn.src_port,
            7001,
            syn.seq + 901,
            ACK,
            &[],
            Options::default(),
        );
        rig.ms(5000);
        rig.silence();
        assert_eq!(rig.host.tcp_info(socket).unwrap().unacknowledged, 0);
    }
}

/// What follows the end of a record shares no segment with it, be it in the SYN or sent again.
#[test]
fn a_syn_takes_no_more_than_a_record() {
    let record = Write {
        end_of_record: true,
        ..Write::default()
    };
    for acked in [0, 100, 300] {
        let mut rig = knowing();
        let socket = start(&mut rig);
        let now = rig.now;
        let write = |rig: &mut Rig, len: usize, how| {
            let taken = rig.host.tcp_send_with(now, socket, &[7; 1000][..len], how);
            assert_eq!(taken, Ok(len));
        };
        write(&mut rig, 300, record);
        write(&mut rig, 200, record);
        write(&mut rig, 100, Write::default());
        let syn = rig.expect();
        assert_eq!(syn.data.len(), 300);
        answer(&mut rig, &syn, acked, None);
        let mut lens = Vec::new();
        let mut end = syn.seq + 1 + acked;
        while end != syn.seq + 601 {
            let data = rig.expect();
            if data.data.is_empty() {
                continue;
            }
            assert_eq!(data.seq, end);
            lens.push(data.data.len());
            end += data.data.len() as u32;
            rig.send_to(syn.src_port, 7001, end, ACK, &[], Options::default());
        }
        let rest = 300 - acked as usize;
        let expected: &[usize] = if rest > 0 {
            &[rest, 200, 100]
        } else {
            &[200, 100]
        };
        assert_eq!(lens, expected);
    }
}

#[test]
fn a_syn_that_is_not_answered_comes_again_without_data_and_option() {
    let mut rig = knowing();
    let (socket, syn) = start_with(&mut rig, &[7; 900]);
    assert_eq!(syn.data.len(), 900);
    rig.ms(1001);
    let again = rig.expect();
    assert!(again.is(SYN) && again.seq == syn.seq && again.data.is_empty());
    assert_eq!(again.options.fast_open, None);
    answer(&mut rig, &syn, 0, None);
    let data = rig.expect();
    assert_eq!((data.seq, data.data.len()), (syn.seq + 1, 900));
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(info.fast_open_fail, FastOpenFail::SynRetransmitted);
    rig.host.abort(rig.now, socket).unwrap();
    rig.expect();
    // Once more, and the destination is spared for a while (RFC 7413 4.1.3.1).
    let (socket, syn) = start_with(&mut rig, &[7; 900]);
    rig.ms(1001);
    rig.expect();
    answer(&mut rig, &syn, 0, None);
    rig.expect();
    rig.host.abort(rig.now, socket).unwrap();
    rig.expect();
    start(&mut rig);
    let plain = rig.expect();
    assert!(plain.is(SYN) && plain.options.fast_open.is_none() && plain.data.is_empty());
}

#[test]
fn a_cookie_nobody_asked_for_is_none() {
    let mut rig = Rig::new();
    set(&mut rig, "fastopen", 5);
    let (_, syn) = start_with(&mut rig, b"hello");
    assert!(syn.data == b"hello" && syn.options.fast_open.is_none());
    answer(&mut rig, &syn, 5, FastOpen::new(&COOKIE, false));
    rig.expect();
    set(&mut rig, "fastopen", 1);
    start(&mut rig);
    assert_eq!(rig.expect().options.fast_open, Some(FastOpen::REQUEST));
}

#[test]
fn data_may_come_with_the_answer_to_data() {
    let mut rig = knowing();
    let (socket, syn) = start_with(&mut rig, b"hello");
    rig.send_to(
        syn.src_port,
        7000,
        syn.seq + 6,
        SYN | ACK,
        b"world",
        syn_ack(None),
    );
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.ack == 7006);
    assert_eq!(rig.read(socket).unwrap(), b"world");
}

#[test]
fn one_who_waits_for_data_may_do_without() {
    let mut rig = knowing();
    // Closed before it began: nobody hears of it.
    let socket = start(&mut rig);
    rig.host.close(rig.now, socket).unwrap();
    rig.ms(5000);
    rig.silence();
    // An empty write, or the end of writing, opens it without data.
    let socket = start(&mut rig);
    assert_eq!(rig.host.tcp_send(rig.now, socket, b""), Ok(0));
    let syn = rig.expect();
    assert!(syn.is(SYN) && syn.data.is_empty() && syn.options.fast_open.is_some());
    let socket = start(&mut rig);
    rig.host
        .tcp_shutdown(rig.now, socket, Shutdown::Write)
        .unwrap();
    let syn = rig.expect();
    assert!(syn.is(SYN));
    answer(&mut rig, &syn, 0, None);
    assert!(rig.expect().is(FIN | ACK));
}

#[test]
fn data_that_vanishes_behind_the_syn_gives_fast_open_a_rest() {
    let mut rig = knowing();
    set(&mut rig, "fastopen_blackhole_timeout_sec", 3600);
    let (socket, _) = start_with(&mut rig, b"hello");
    rig.ms(3000);
    assert_eq!(count(&rig, Count::TcpFastOpenBlackHoles), 1);
    while rig.next().is_some() {}
    rig.host.abort(rig.now, socket).unwrap();
    let socket = start(&mut rig);
    let plain = rig.expect();
    assert!(plain.is(SYN) && plain.options.fast_open.is_none());
    rig.host.abort(rig.now, socket).unwrap();
    rig.ms(3_600_000);
    while rig.next().is_some() {}
    start(&mut rig);
    rig.silence(); // it waits for data again
}

/// Linux's other signs of middleboxes that forget what they let through: a FIN behind a hole, a reset out of order, and nothing else.
#[test]
fn what_goes_astray_behind_the_syn_gives_fast_open_a_rest() {
    for (sign, heard, rest, holes) in [
        (FIN | ACK, false, 3600, 1),
        (FIN | ACK, true, 3600, 0),
        (FIN | ACK, false, 0, 0),
        (RST, false, 3600, 1),
        (RST, true, 3600, 0),
        (ACK, false, 3600, 0),
    ] {
        let mut rig = knowing();
        set(&mut rig, "fastopen_blackhole_timeout_sec", rest);
        let (socket, syn) = start_with(&mut rig, b"hello");
        answer(&mut rig, &syn, 5, None);
        rig.expect();
        let (port, mut at, ack) = (syn.src_port, 7001, syn.seq + 6);
        if heard {
            rig.send_to(port, at, ack, ACK, b"hi", Options::default());
            at += 2;
        }
        rig.send_to(port, at + 1000, ack, sign, b"", Options::default());
        rig.host.abort(rig.now, socket).unwrap();
        while rig.next().is_some() {}
        let case = (sign, heard, rest);
        assert_eq!(count(&rig, Count::TcpFastOpenBlackHoles), holes, "{case:?}");
        start(&mut rig);
        assert_eq!(
            rig.next().is_some(),
            holes > 0,
            "a plain SYN, or one that waits"
        );
    }
}

/// The others are no sign: what was connected without Fast Open, and a FIN whose hole was filled.
#[test]
fn what_comes_in_order_is_no_black_hole() {
    let mut rig = knowing();
    set(&mut rig, "fastopen_blackhole_timeout_sec", 3600);
    let (socket, syn) = start_with(&mut rig, b"hello");
    answer(&mut rig, &syn, 5, None);
    rig.expect();
    let (port, ack) = (syn.src_port, syn.seq + 6);
    rig.send_to(port, 7003, ack, FIN | ACK, b"", Options::default());
    rig.send_to(port, 7001, ack, ACK, b"hi", Options::default());
    rig.host.close(rig.now, socket).unwrap();
    rig.ms(200_000);
    while rig.next().is_some() {}
    let (_, syn) = rig.connect(&TcpOptions::default());
    rig.send_to(
        syn.src_port,
        7000,
        syn.seq + 1,
        SYN | ACK,
        b"",
        syn_ack(None),
    );
    rig.send_to(
        syn.src_port,
        8000,
        syn.seq + 1,
        RST,
        b"",
        Options::default(),
    );
    assert_eq!(count(&rig, Count::TcpFastOpenBlackHoles), 0);
}

/// The SYN that is sent again is without data, and asks the peer for segments that the path has carried (as Linux).
#[test]
fn a_syn_too_long_for_the_path_comes_again_without_data() {
    let mut rig = knowing();
    let (_, syn) = start_with(&mut rig, &[7; 900]);
    assert_eq!((syn.data.len(), syn.options.mss), (900, Some(1460)));
    crate::icmp::too_big(&mut rig, 840, syn.src_port, syn.seq);
    let again = rig.expect();
    assert!(again.is(SYN) && again.data.is_empty() && again.options.fast_open.is_none());
    assert_eq!((again.seq, again.options.mss), (syn.seq, Some(800)));
    answer(&mut rig, &syn, 0, None);
    assert_eq!(rig.expect().data.len(), 800);
    assert_eq!(rig.expect().data.len(), 100);
}

/// Both sides open with data, which neither takes while it is opening itself (as Linux): it is sent again.
#[test]
fn both_may_open_fast_at_once() {
    let mut rig = knowing();
    let (socket, syn) = start_with(&mut rig, &[7; 900]);
    let theirs = Options {
        sack_permitted: true,
        ..syn_ack(FastOpen::new(&[9; 8], false))
    };
    let port = syn.src_port;
    rig.send_to(port, 7000, 0, SYN, &[8; 500], theirs);
    let answer = rig.expect();
    assert!(answer.is(SYN | ACK) && answer.data.is_empty());
    assert_eq!((answer.seq, answer.ack), (syn.seq, 7001));
    rig.send_to(port, 7000, syn.seq + 901, SYN | ACK, b"", theirs);
    let ack = rig.expect();
    assert!(ack.is(ACK) && ack.data.is_empty());
    assert_eq!((ack.seq, ack.ack), (syn.seq + 901, 7001));
    assert_eq!(ack.options.sack.as_slice(), [(7000, 7001)]);
    rig.send_to(
        port,
        7001,
        syn.seq + 901,
        ACK,
        &[8; 500],
        Options::default(),
    );
    assert_eq!(rig.read(socket).unwrap(), [8; 500]);
}

#[test]
fn an_answer_that_echoes_another_time_is_reset() {
    let mut rig = Rig::new();
    let socket = start(&mut rig);
    let syn = rig.expect();
    let sent = syn.options.timestamps.unwrap().0;
    rig.ms(10);
    let stamped = |echo| Options {
        timestamps: Some((1, echo)),
        ..syn_ack(None)
    };
    for wrong in [sent.wrapping_sub(1), sent + 11] {
        rig.send_to(
            syn.src_port,
            7000,
            syn.seq + 1,
            SYN | ACK,
            b"",
            stamped(wrong),
        );
        assert!(rig.expect().is(RST));
    }
    rig.send_to(
        syn.src_port,
        7000,
        syn.seq + 1,
        SYN | ACK,
        b"",
        stamped(sent),
    );
    assert!(rig.expect().is(ACK));
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(info.state, State::Established);
}

/// A SYN that waits for data was not sent: nothing is an answer to it.
#[test]
fn a_stray_segment_does_not_start_a_syn_that_waits() {
    for (flags, reset) in [
        (ACK, true),
        (SYN, true),
        (SYN | ACK, true),
        (RST | ACK, false),
    ] {
        let mut rig = knowing();
        let to = crate::rig::REMOTE.parse().unwrap();
        let mut local: std::net::SocketAddr = crate::rig::LOCAL.parse().unwrap();
        local.set_port(4444);
        let socket = rig.host.tcp_connect(rig.now, to, Some(local), &client());
        let socket = socket.unwrap();
        rig.silence();
        rig.send_to(4444, 7000, 1, flags, &[], syn_ack(None));
        assert_eq!(rig.next().is_some_and(|seg| seg.has(RST)), reset);
        rig.ms(60_000);
        rig.silence();
        assert_eq!(rig.host.tcp_send(rig.now, socket, b"first"), Ok(5));
        let syn = rig.expect();
        assert!(syn.is(SYN) && syn.data == b"first", "{flags:?}");
        answer(&mut rig, &syn, 5, None);
        assert!(rig.expect().is(ACK));
        assert!(rig.host.tcp_info(socket).unwrap().syn_data);
    }
}
