//! TCP_INFO's counters and times: each is compared with what crossed the wire.

use core::time::Duration;

use stack::{Congestion, TcpAccount, TcpInfo, TcpOptions};
use wire::tcp::{Options, Sack};

use crate::rig::{ACK, FIN, Open, Rig, SYN, Seg};

const MSS: u32 = 1000;

fn options() -> TcpOptions {
    TcpOptions {
        account: true,
        nodelay: true,
        ..TcpOptions::default()
    }
}

fn syn() -> Options {
    Options {
        mss: Some(MSS as u16),
        sack_permitted: true,
        ..Options::default()
    }
}

fn info(rig: &Rig, open: &Open) -> TcpInfo {
    rig.host.tcp_info_at(rig.now, open.socket).unwrap()
}

fn account(rig: &Rig, open: &Open) -> TcpAccount {
    info(rig, open).account.unwrap()
}

fn sent(rig: &mut Rig) -> Vec<Seg> {
    core::iter::from_fn(|| rig.next()).collect()
}

/// Over a path of 50 ms.
fn accepted() -> (Rig, Open) {
    let mut rig = Rig::new();
    rig.handshake_ms = 50;
    let open = rig.accepted_with(&options(), syn());
    (rig, open)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The peer has got everything below `to` and these blocks, as offsets.
fn ack(rig: &mut Rig, open: &Open, to: u32, blocks: &[(u32, u32)]) {
    let mut sack = Sack::EMPTY;
    for &(from, to) in blocks {
        sack.push((open.host.wrapping_add(from), open.host.wrapping_add(to)));
    }
    let options = Options {
        sack,
        ..Options::default()
    };
    rig.send_with(open.peer, open.host.wrapping_add(to), ACK, &[], options);
}

/// As Linux counts a handshake: our SYN and the ACK of it, but nothing of a SYN-ACK that a listener sent.
#[test]
fn a_handshake_is_accounted_for_on_either_side() {
    let (rig, open) = accepted();
    let passive = account(&rig, &open);
    let expected = TcpAccount {
        segments_in: 2,
        delivered: 1,
        ..TcpAccount::default()
    };
    assert_eq!(passive, expected);

    let mut rig = Rig::new();
    let (socket, first) = rig.connect(&options());
    rig.ms(3000);
    assert_eq!(sent(&mut rig).len(), 2, "after one and three seconds");
    let now = rig.host.tcp_info_at(rig.now, socket).unwrap();
    assert_eq!(now.timeouts, 2, "tcpi_retransmits counts those of a SYN");
    assert_eq!(now.account.unwrap().timeout_time, ms(2000), "so far");
    let to = first.src_port;
    rig.send_to(to, 5000, first.seq + 1, SYN | ACK, &[], syn());
    rig.expect();
    rig.ms(100);
    let active = rig.host.tcp_info_at(rig.now, socket).unwrap();
    let expected = TcpAccount {
        bytes_acked: 1,
        segments_out: 4,
        segments_in: 1,
        delivered: 1,
        retransmits: 2,
        timeouts: 2,
        timeout_recoveries: 1,
        timeout_time: ms(2000),
        since_data_received: ms(100),
        ..TcpAccount::default()
    };
    assert_eq!(active.account, Some(expected));
    assert_eq!(
        (active.since_data_sent, active.since_received),
        (ms(100), ms(100)),
        "from the handshake on"
    );
}

/// A SYN-ACK that was sent again is a retransmission of the connection it leads to.
#[test]
fn the_retransmissions_of_a_syn_ack_are_inherited() {
    let mut rig = Rig::new();
    let listener = rig.listen(8, &options());
    rig.send_with(999, 0, SYN, &[], syn());
    let answer = rig.expect();
    rig.ms(1500);
    rig.expect();
    rig.send(1000, answer.seq + 1, ACK, &[]);
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    let account = rig.host.tcp_info(socket).unwrap().account.unwrap();
    assert_eq!(
        (
            account.retransmits,
            account.timeouts,
            account.timeout_recoveries
        ),
        (1, 1, 1)
    );
}

#[test]
fn bytes_and_segments_are_counted_both_ways() {
    let (mut rig, open) = accepted();
    rig.write(&open, &[1; 2500]);
    assert_eq!(sent(&mut rig).len(), 3);
    rig.ms(30);
    ack(&mut rig, &open, 2000, &[]);
    rig.ms(10);
    for at in [0, 700] {
        let (seq, to) = (open.peer + at, open.host.wrapping_add(2500));
        rig.send(seq, to, ACK, &[7; 700]);
    }
    rig.ms(20);
    let acks = sent(&mut rig).len() as u32;
    let now = info(&rig, &open);
    assert_eq!(now.since_data_sent, ms(60));
    assert_eq!(now.since_received, ms(20));
    let expected = TcpAccount {
        bytes_acked: 2500,
        bytes_received: 1400,
        bytes_sent: 2500,
        segments_out: 3 + acks,
        segments_in: 2 + 1 + 2,
        data_segments_out: 3,
        data_segments_in: 2,
        delivered: 1 + 3,
        since_data_received: ms(20),
        busy: ms(40),
        delivery_rate: 2000 * 1000 / 30,
        delivery_rate_app_limited: true,
        ..TcpAccount::default()
    };
    assert_eq!(now.account, Some(expected));
}

/// Linux: a FIN is a number each way, and a delivered segment if nothing else was in it.
#[test]
fn a_fin_counts_as_a_number_and_no_payload() {
    for len in [0, 500, 1000] {
        let (mut rig, open) = accepted();
        if len > 0 {
            rig.write(&open, &vec![1; len as usize]);
        }
        rig.host
            .tcp_shutdown(rig.now, open.socket, stack::Shutdown::Write)
            .unwrap();
        assert_eq!(sent(&mut rig).len(), 1, "the FIN rides on the data");
        ack(&mut rig, &open, len + 1, &[]);
        let account = account(&rig, &open);
        assert_eq!(account.bytes_acked, u64::from(len) + 1);
        assert_eq!((account.bytes_sent, account.delivered), (len.into(), 2));
    }
    let (mut rig, open) = accepted();
    rig.send(open.peer, open.host, FIN | ACK, b"end");
    let account = account(&rig, &open);
    assert_eq!((account.bytes_received, account.data_segments_in), (4, 1));
}

#[test]
fn losses_duplicates_and_disorder_are_counted() {
    let (mut rig, open) = accepted();
    rig.write(&open, &[1; 10_000]);
    assert_eq!(sent(&mut rig).len(), 10);
    rig.ms(50);
    // The first is missing: three reported, it is sent again.
    ack(&mut rig, &open, 0, &[(1000, 4000)]);
    let again = sent(&mut rig);
    assert_eq!(again.len(), 1);
    let lost = account(&rig, &open);
    assert_eq!((lost.retransmits, lost.bytes_retransmitted), (1, 1000));
    assert_eq!((lost.bytes_acked, lost.delivered), (0, 1 + 3));
    rig.ms(50);
    // It was not: the original was late, and comes twice.
    ack(&mut rig, &open, 10_000, &[(0, 1000)]);
    let after = account(&rig, &open);
    assert_eq!((after.duplicates, after.delivered), (1, 1 + 10));
    assert_eq!((after.bytes_sent, after.data_segments_out), (11_000, 11));
    assert_eq!((after.bytes_acked, after.timeouts), (10_000, 0));
    assert_eq!(after.busy, ms(100));
    // One that comes late, and was not sent again.
    rig.write(&open, &[1; 2000]);
    sent(&mut rig);
    rig.ms(50);
    ack(&mut rig, &open, 10_000, &[(11_000, 12_000)]);
    ack(&mut rig, &open, 11_000, &[(11_000, 12_000)]);
    assert_eq!(account(&rig, &open).reorderings, 1);
    // What comes out of order here.
    rig.send(open.peer + 500, open.host + 12_000, ACK, &[1; 500]);
    rig.send(open.peer + 1500, open.host + 12_000, ACK, &[1; 500]);
    let gaps = account(&rig, &open);
    assert_eq!((gaps.out_of_order, gaps.bytes_received), (2, 0));
    assert_eq!(gaps.since_data_received, ms(150), "nothing in order since");
    rig.send(open.peer, open.host + 12_000, ACK, &[1; 500]);
    let filled = account(&rig, &open);
    assert_eq!((filled.out_of_order, filled.bytes_received), (2, 1000));
    assert_eq!(filled.since_data_received, ms(0));
}

/// Timeouts, and how long what they began took: until the repair is over, not only until something moves.
#[test]
fn timeouts_are_counted_and_timed() {
    let (mut rig, open) = accepted();
    rig.write(&open, &[1; 3000]);
    sent(&mut rig);
    let rto = info(&rig, &open).rto;
    // A probe of the tail comes first (RFC 8985 7), and begins the timer anew.
    while account(&rig, &open).timeouts == 0 {
        rig.ms(1);
    }
    rig.advance(rto * 2 + ms(50));
    let now = info(&rig, &open);
    let stalled = now.account.unwrap();
    assert_eq!((stalled.timeouts, stalled.timeout_recoveries), (2, 1));
    let lasted = stalled.timeout_time;
    assert!(lasted.abs_diff(rto * 2 + ms(50)) < ms(2), "so far");
    assert_eq!(now.timeouts, 2);
    ack(&mut rig, &open, 3000, &[]);
    rig.ms(500);
    let over = account(&rig, &open);
    assert_eq!(over.timeout_time, lasted, "it is over");
    assert_eq!(over.bytes_acked, 3000);
    assert!(over.bytes_retransmitted >= 2000);
    let data = over.bytes_sent - over.bytes_retransmitted;
    assert_eq!(data, 3000);
}

/// What data waits for: the peer's window first, then the network.
#[test]
fn time_is_charged_to_the_window_that_is_shut() {
    let (mut rig, open) = accepted();
    rig.window = 0;
    ack(&mut rig, &open, 0, &[]);
    assert_eq!(account(&rig, &open).window_limited, ms(0), "nothing waits");
    rig.write(&open, &[1; 1000]);
    rig.pump();
    rig.ms(100);
    assert_eq!(account(&rig, &open).window_limited, ms(100), "so far");
    rig.window = 5000;
    ack(&mut rig, &open, 0, &[]);
    assert_eq!(sent(&mut rig).len(), 1);
    rig.ms(40);
    let open_now = account(&rig, &open);
    assert_eq!(open_now.window_limited, ms(100));
    assert_eq!(open_now.busy, ms(140), "of which on its way 40");
    ack(&mut rig, &open, 1000, &[]);
    rig.ms(1000);
    let idle = account(&rig, &open);
    assert_eq!((idle.busy, idle.window_limited), (ms(140), ms(100)));
    assert_eq!(idle.buffer_limited, ms(0));
}

/// Everything is sent, the window would take more, and so would the application write: the buffer is what limits.
#[test]
fn time_is_charged_to_a_send_buffer_that_is_too_small() {
    let mut rig = Rig::new();
    let small = TcpOptions {
        send_buffer: Some(6000),
        ..options()
    };
    let open = rig.accepted_with(&small, syn());
    assert_eq!(rig.write(&open, &[1; 20_000]), 6000);
    assert_eq!(sent(&mut rig).len(), 6);
    rig.ms(70);
    assert_eq!(account(&rig, &open).buffer_limited, ms(70));
    ack(&mut rig, &open, 6000, &[]);
    rig.pump();
    rig.write(&open, &[1; 3000]);
    sent(&mut rig);
    rig.ms(30);
    let after = account(&rig, &open);
    assert_eq!(after.buffer_limited, ms(70), "there is room now");
    assert_eq!(after.busy, ms(100));
    assert_eq!(after.window_limited, ms(0));
}

/// The congestion window holds back before the peer's does, and is no limit of its own.
#[test]
fn a_full_congestion_window_is_only_busy() {
    let (mut rig, open) = accepted();
    rig.write(&open, &[1; 30_000]);
    assert_eq!(sent(&mut rig).len(), 10);
    rig.ms(20);
    let now = account(&rig, &open);
    assert_eq!((now.busy, now.window_limited), (ms(20), ms(0)));
    assert_eq!(now.buffer_limited, ms(0));
}

/// A window in a round trip, and what Linux adds: twice while it grows fast, a fifth later; never above the socket's limit.
#[test]
fn the_pacing_rate_is_told() {
    let (mut rig, open) = accepted();
    let now = info(&rig, &open);
    let window = u64::from(now.cwnd) * 1_000_000 / now.rtt.as_micros() as u64;
    assert_eq!(
        (now.pacing_rate, now.max_pacing_rate),
        (2 * window, u64::MAX)
    );
    rig.host
        .tcp_set_options(rig.now, open.socket, |o| o.max_pacing_rate = 5000)
        .unwrap();
    let slow = info(&rig, &open);
    assert_eq!((slow.pacing_rate, slow.max_pacing_rate), (5000, 5000));
}

/// Who does not ask pays nothing, who asks later is accounted for from then on, and nothing is left behind.
#[test]
fn an_account_is_there_when_asked_for() {
    let mut rig = Rig::new();
    let open = rig.accepted(&TcpOptions::default());
    rig.write(&open, &[1; 100]);
    rig.expect();
    assert_eq!(rig.host.tcp_info(open.socket).unwrap().account, None);
    assert_eq!(rig.host.tcp_occupancy().ledgers, 0);
    rig.host
        .tcp_set_options(rig.now, open.socket, |options| options.account = true)
        .unwrap();
    assert_eq!(account(&rig, &open), TcpAccount::default());
    assert_eq!(rig.host.tcp_occupancy().ledgers, 1);
    rig.send(open.peer, open.host + 100, ACK, b"data");
    let later = account(&rig, &open);
    assert_eq!((later.bytes_acked, later.bytes_received), (100, 4));
    rig.host
        .tcp_set_options(rig.now, open.socket, |options| options.account = false)
        .unwrap();
    assert_eq!(rig.host.tcp_occupancy().ledgers, 0);
    rig.host
        .tcp_set_options(rig.now, open.socket, |options| options.account = true)
        .unwrap();
    rig.host.abort(rig.now, open.socket).unwrap();
    sent(&mut rig);
    assert_eq!(rig.host.tcp_occupancy().ledgers, 0);
    rig.assert_empty_but_listener();
}

/// What crossed the wire, by its other end.
#[derive(Default)]
struct Wire {
    out: u32,
    data_out: u32,
    bytes_out: u64,
    again: u32,
    bytes_again: u64,
    /// The highest number sent.
    edge: u32,
    segments_in: u32,
    data_in: u32,
    bytes_in: u32,
    /// Up to here the peer has everything; and these pieces.
    got: u32,
    held: Vec<(u32, u32)>,
}

impl Wire {
    /// What the host sent, of which the peer gets most.
    fn take(&mut self, rng: &mut base::Rng, open: &Open, segments: &[Seg]) {
        for seg in segments {
            self.out += 1;
            let len = seg.data.len() as u32;
            if len == 0 {
                continue;
            }
            self.data_out += 1;
            self.bytes_out += u64::from(len);
            let from = seg.seq.wrapping_sub(open.host);
            if from < self.edge {
                self.again += 1;
                self.bytes_again += u64::from(len);
            }
            self.edge = self.edge.max(from + len);
            if rng.below(8) != 0 {
                self.held.push((from, from + len));
            }
        }
        self.held.sort_unstable();
        while let Some(&(from, to)) = self.held.first()
            && from <= self.got
        {
            self.got = self.got.max(to);
            self.held.remove(0);
        }
    }

    /// The peer says what it has got, sometimes with data.
    fn answer(&mut self, rng: &mut base::Rng, rig: &mut Rig, open: &Open) {
        let len = if rng.below(3) == 0 { 10 } else { 0 };
        let mut sack = Sack::EMPTY;
        if let Some(&(from, to)) = self.held.last() {
            sack.push((open.host.wrapping_add(from), open.host.wrapping_add(to)));
        }
        let options = Options {
            sack,
            ..Options::default()
        };
        let (seq, to) = (open.peer + self.bytes_in, open.host.wrapping_add(self.got));
        rig.send_with(seq, to, ACK, &vec![2; len as usize], options);
        self.bytes_in += len;
        self.segments_in += 1;
        self.data_in += u32::from(len > 0);
    }

    fn check(&self, info: &TcpInfo, seed: u64) {
        let account = info.account.as_ref().unwrap();
        let sent = (
            account.segments_out,
            account.data_segments_out,
            account.bytes_sent,
        );
        assert_eq!(
            sent,
            (self.out, self.data_out, self.bytes_out),
            "seed {seed}"
        );
        let again = (account.retransmits, account.bytes_retransmitted);
        assert_eq!(again, (self.again, self.bytes_again), "seed {seed}");
        let received = (account.segments_in, account.data_segments_in);
        assert_eq!(
            received,
            (2 + self.segments_in, self.data_in),
            "seed {seed}"
        );
        assert_eq!(account.bytes_received, self.bytes_in.into(), "seed {seed}");
        let una = self.edge - info.unacknowledged;
        assert_eq!(account.bytes_acked, una.into(), "seed {seed}");
    }
}

/// A peer that loses, holds back and acknowledges by chance: the account is the wire's, whatever happens.
#[test]
fn the_account_is_that_of_the_wire() {
    for seed in 0..60 {
        let mut rng = base::Rng::from_seed(seed);
        let (mut rig, open) = accepted();
        let mut wire = Wire::default();
        for _ in 0..400 {
            if rng.below(4) == 0 {
                let bytes = vec![1; 1 + rng.below(6000) as usize];
                let _ = rig.host.tcp_send(rig.now, open.socket, &bytes);
            }
            let segments = sent(&mut rig);
            wire.take(&mut rng, &open, &segments);
            if rng.below(3) != 0 {
                wire.answer(&mut rng, &mut rig, &open);
            }
            let _ = rig.read(open.socket);
            rig.ms(1 + u64::from(rng.below(60)));
        }
        let segments = sent(&mut rig);
        wire.take(&mut rng, &open, &segments);
        wire.check(&info(&rig, &open), seed);
    }
}

/// BBR's model sets the rate: 2.77 windows in a round trip while it looks for the bandwidth, not twice the window.
#[test]
fn the_pacing_rate_of_bbr_is_its_models() {
    let mut rig = Rig::new();
    rig.handshake_ms = 100;
    let options = TcpOptions {
        congestion: Some(Congestion::Bbr),
        ..TcpOptions::default()
    };
    let open = rig.accepted(&options);
    rig.write(&open, &[0; 20_000]);
    rig.pump();
    let info = rig.host.tcp_info(open.socket).unwrap();
    let twice = u64::from(info.cwnd) * 2 * 1_000_000 / info.rtt.as_micros() as u64;
    assert!(
        info.pacing_rate > twice * 13 / 10,
        "{} of {twice}",
        info.pacing_rate
    );
}

/// What is delivered in a round trip, unless the application held back: such a rate only counts when it is higher (as Linux).
#[test]
fn the_delivery_rate_is_told() {
    let (mut rig, open) = accepted();
    let rate = |rig: &Rig| {
        let account = account(rig, &open);
        (account.delivery_rate, account.delivery_rate_app_limited)
    };
    assert_eq!(rate(&rig), (0, false));
    let mut acked = 0;
    let mut round = |rig: &mut Rig, bytes: usize| {
        rig.write(&open, &vec![1; bytes]);
        acked += sent(rig).iter().map(|s| s.data.len() as u32).sum::<u32>();
        rig.ms(50);
        ack(rig, &open, acked, &[]);
    };
    round(&mut rig, 1000);
    assert_eq!(rate(&rig), (20_000, true), "a segment in 50 ms");
    round(&mut rig, 30_000);
    assert_eq!(rate(&rig), (200_000, true), "a window, after a pause");
    round(&mut rig, 0);
    let fast = (400_000, false);
    assert_eq!(rate(&rig), fast, "what was left, a window twice as large");
    round(&mut rig, 1000);
    assert_eq!(rate(&rig), fast, "the application held back");
}

/// The receiving side's view: what the application reads in a round trip, and how far the window may open.
#[test]
fn the_receiving_side_is_told() {
    let (mut rig, mut open) = accepted();
    let before = info(&rig, &open);
    assert_eq!(
        (before.receive_rtt, before.receive_space),
        (ms(0), 10 * MSS)
    );
    assert!(before.receive_ssthresh >= before.receive_window);
    for _ in 0..10 {
        rig.send(open.peer, open.host, ACK, &[1; 1400]);
        open.peer = open.peer.wrapping_add(1400);
    }
    assert!(info(&rig, &open).receive_rtt >= ms(50), "the handshake's");
}
