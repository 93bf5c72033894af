//! Path MTU discovery without ICMP (RFC 4821, RFC 8899): probes are data, of which nothing but the length is at stake.

use stack::{Count, TcpInfo, TcpOptions};
use wire::tcp::{Options, Sack};

use crate::icmp;
use crate::rig::{ACK, Open, Rig, Seg};

/// A connection of a host that is tuned so, with SACK and an MSS of 1460.
fn open(settings: &[(&str, i64)]) -> (Rig, Open) {
    let mut rig = Rig::new();
    let mut tunables = rig.host.tcp_tunables();
    for (name, value) in settings {
        tunables.set(name, *value).unwrap();
    }
    rig.host.set_tcp_tunables(tunables).unwrap();
    let syn = Options {
        mss: Some(1460),
        sack_permitted: true,
        ..Options::default()
    };
    rig.handshake_ms = 20;
    let open = rig.accepted_with(&TcpOptions::default(), syn);
    (rig, open)
}

fn sent(rig: &mut Rig) -> Vec<Seg> {
    core::iter::from_fn(|| rig.next()).collect()
}

fn info(rig: &Rig, open: &Open) -> TcpInfo {
    rig.host.tcp_info(open.socket).unwrap()
}

fn end(segment: &Seg) -> u32 {
    segment.seq.wrapping_add(segment.data.len() as u32)
}

fn ack(rig: &mut Rig, open: &Open, to: u32, blocks: &[(u32, u32)]) {
    let mut sack = Sack::EMPTY;
    for block in blocks {
        sack.push(*block);
    }
    let options = Options {
        sack,
        ..Options::default()
    };
    rig.send_with(open.peer, to, ACK, &[], options);
}

/// Acknowledges all that is sent, round trip by round trip, until a segment is longer than the MSS. Returns that burst, and where
/// in it the probe is.
fn until_probe(rig: &mut Rig, open: &Open) -> (Vec<Seg>, usize) {
    let mss = info(rig, open).mss as usize;
    for _ in 0..40 {
        rig.write(open, &[1; 60_000]);
        let burst = sent(rig);
        assert!(!burst.is_empty());
        if let Some(at) = burst.iter().position(|s| s.data.len() > mss) {
            return (burst, at);
        }
        rig.ms(20);
        ack(rig, open, end(burst.last().unwrap()), &[]);
    }
    panic!("no probe");
}

/// What the peer holds when it got everything of a burst but some: what it acknowledges, and its blocks.
fn but(burst: &[Seg], lost: &[usize]) -> (u32, Vec<(u32, u32)>) {
    let first = burst.first().unwrap().seq;
    let mut blocks: Vec<(u32, u32)> = Vec::new();
    for (at, segment) in burst.iter().enumerate() {
        if lost.contains(&at) {
            continue;
        }
        match blocks.last_mut() {
            Some(last) if last.1 == segment.seq => last.1 = end(segment),
            _ => blocks.push((segment.seq, end(segment))),
        }
    }
    if blocks.first().is_some_and(|block| block.0 == first) {
        let to = blocks.remove(0).1;
        return (to, blocks);
    }
    (first, blocks)
}

/// RFC 4821 7.2 to 7.6.1: it begins at `base_mss`, and ends a few bytes below what the path carries.
#[test]
fn probes_that_arrive_raise_the_mss() {
    let (mut rig, open) = open(&[("tcp_mtu_probing", 2)]);
    assert_eq!(info(&rig, &open).mss, 1024);
    let mut sizes = Vec::new();
    for _ in 0..6 {
        let (burst, at) = until_probe(&mut rig, &open);
        let mss = info(&rig, &open).mss as usize;
        let probe = burst[at].data.len();
        let others = burst.iter().enumerate().filter(|(n, _)| *n != at);
        assert!(others.map(|(_, s)| s.data.len()).all(|len| len <= mss));
        sizes.push(probe);
        ack(&mut rig, &open, end(burst.last().unwrap()), &[]);
        assert_eq!(info(&rig, &open).mss as usize, probe);
    }
    // Halves of what lies between 1064 and 1500, less the headers.
    assert_eq!(sizes, [1242, 1351, 1405, 1432, 1446, 1453]);
    let counts = &rig.host.stats().counts;
    assert_eq!(counts.get(Count::TcpMtuProbes), 6);
    assert_eq!(counts.get(Count::TcpMtuProbesArrived), 6);
    assert_eq!(counts.get(Count::TcpRetransmits), 0);
}

/// RFC 4821 7.6.2: only the length was wrong. The window stays, and the bytes go out again at once, in segments that fit.
#[test]
fn a_lost_probe_is_no_congestion() {
    let (mut rig, open) = open(&[("tcp_mtu_probing", 2)]);
    let (burst, at) = until_probe(&mut rig, &open);
    assert_eq!(at, 0, "it is the first of what is new");
    let before = info(&rig, &open);
    rig.ms(20);
    let (to, blocks) = but(&burst, &[at]);
    ack(&mut rig, &open, to, &blocks);
    let again = sent(&mut rig);
    let lens: Vec<usize> = again.iter().take(2).map(|s| s.data.len()).collect();
    assert_eq!((again[0].seq, &lens[..]), (burst[at].seq, &[1024, 218][..]));
    let after = info(&rig, &open);
    assert_eq!((after.mss, after.ssthresh), (1024, before.ssthresh));
    assert!(
        after.cwnd >= before.cwnd,
        "{} of {}",
        after.cwnd,
        before.cwnd
    );
    assert_eq!(rig.host.stats().counts.get(Count::TcpFastRetransmits), 0);
    // The next is between what arrived and what did not.
    let last = again.iter().chain(&burst).map(end).max().unwrap();
    ack(&mut rig, &open, last, &[]);
    let (burst, at) = until_probe(&mut rig, &open);
    assert_eq!(burst[at].data.len(), (1064 + 1281) / 2 - 40);
}

/// Without SACK three duplicates say that the first segment is missing.
#[test]
fn a_lost_probe_is_found_without_sack() {
    let (mut rig, open) = open(&[("tcp_mtu_probing", 2), ("tcp_sack", 0)]);
    let (burst, at) = until_probe(&mut rig, &open);
    let before = info(&rig, &open);
    for _ in 0..3 {
        ack(&mut rig, &open, burst[at].seq, &[]);
    }
    let again = sent(&mut rig);
    assert_eq!(
        again
            .iter()
            .find(|s| s.seq == burst[at].seq)
            .map(|s| s.data.len()),
        Some(1024)
    );
    assert_eq!(info(&rig, &open).ssthresh, before.ssthresh);
    assert_eq!(rig.host.stats().counts.get(Count::TcpMtuProbesLost), 1);
}

/// RFC 4821 7.6.4: who loses more than the probe has met congestion, and has learnt nothing of its length.
#[test]
fn a_probe_lost_with_others_says_nothing() {
    let (mut rig, open) = open(&[("tcp_mtu_probing", 2)]);
    let (burst, at) = until_probe(&mut rig, &open);
    let before = info(&rig, &open);
    rig.ms(20);
    let (to, blocks) = but(&burst, &[at, at + 1]);
    ack(&mut rig, &open, to, &blocks);
    let mut last = burst.iter().map(end).max().unwrap();
    for segment in sent(&mut rig) {
        last = last.max(end(&segment));
    }
    assert!(info(&rig, &open).ssthresh < before.cwnd);
    assert_eq!(rig.host.stats().counts.get(Count::TcpMtuProbesLost), 0);
    ack(&mut rig, &open, last, &[]);
    assert_eq!(info(&rig, &open).mss, 1024);
    let (burst, at) = until_probe(&mut rig, &open);
    assert_eq!(burst[at].data.len(), 1242, "the same again");
}

/// RFC 4821 7.7, `mtu_probing` 1: segments shrink once timeouts suggest that they vanish for their length, and on and on.
#[test]
fn timeouts_in_a_row_are_a_black_hole() {
    for (probing, lens) in [
        (0, [1460, 1460, 1460, 1460, 1460, 1460]),
        (1, [1460, 1460, 1460, 1024, 512, 256]),
    ] {
        let (mut rig, open) = open(&[("tcp_mtu_probing", probing), ("tcp_early_retrans", 0)]);
        assert_eq!(info(&rig, &open).mss, 1460);
        rig.write(&open, &[1; 1460]);
        assert_eq!(rig.expect().data.len(), 1460);
        for len in lens {
            let again = (0..10_000).find_map(|_| {
                rig.ms(10);
                rig.next()
            });
            let again = again.unwrap();
            assert_eq!((again.seq, again.data.len()), (open.host, len));
            rig.silence();
        }
        let mss = info(&rig, &open).mss;
        assert_eq!(mss as usize, lens[5]);
        // What gets through is followed by the rest, at once.
        ack(&mut rig, &open, open.host.wrapping_add(lens[5] as u32), &[]);
        let rest = sent(&mut rig);
        assert!(rest.iter().all(|s| s.data.len() <= lens[5]));
        assert_eq!(rest.is_empty(), probing == 0);
    }
}

/// `mtu_probe_floor` and `min_snd_mss` are where it ends.
#[test]
fn a_search_goes_down_to_a_floor() {
    for (name, floor, least) in [
        ("tcp_mtu_probe_floor", 300, 300),
        ("tcp_min_snd_mss", 600, 600),
        ("tcp_mtu_probe_floor", 48, 48),
    ] {
        let (mut rig, open) = open(&[("tcp_mtu_probing", 1), (name, floor)]);
        rig.write(&open, &[1; 1460]);
        rig.advance(core::time::Duration::from_secs(400));
        sent(&mut rig);
        assert_eq!(info(&rig, &open).mss, least);
    }
}

/// A host that searches may have peers that take less than `base_mss`.
#[test]
fn the_peers_mss_bounds_the_search() {
    let mut rig = Rig::new();
    let mut tunables = rig.host.tcp_tunables();
    tunables.mtu_probing = 2;
    rig.host.set_tcp_tunables(tunables).unwrap();
    let syn = Options {
        mss: Some(700),
        timestamps: Some((1, 0)),
        ..Options::default()
    };
    let open = rig.accepted_with(&TcpOptions::default(), syn);
    assert_eq!(info(&rig, &open).mss, 688);
    for stamp in 2..32 {
        rig.write(&open, &[1; 20_000]);
        let burst = sent(&mut rig);
        assert!(burst.iter().all(|s| s.data.len() <= 688));
        let options = Options {
            timestamps: burst[0].options.timestamps.map(|(value, _)| (stamp, value)),
            ..Options::default()
        };
        rig.send_with(open.peer, end(burst.last().unwrap()), ACK, &[], options);
    }
    assert_eq!(rig.host.stats().counts.get(Count::TcpMtuProbes), 0);
}

/// What ICMP says of the path bounds the search; a probe it is about is sent again at once.
#[test]
fn icmp_about_a_probe_is_heeded() {
    let (mut rig, open) = open(&[("tcp_mtu_probing", 2)]);
    let (burst, at) = until_probe(&mut rig, &open);
    let before = info(&rig, &open);
    icmp::too_big(&mut rig, 1200, 80, burst[at].seq);
    let again = sent(&mut rig);
    let lens: Vec<usize> = again.iter().take(2).map(|s| s.data.len()).collect();
    assert_eq!((again[0].seq, &lens[..]), (burst[at].seq, &[1024, 218][..]));
    let after = info(&rig, &open);
    assert_eq!((after.mss, after.path_mtu), (1024, 1200));
    assert_eq!((after.cwnd, after.ssthresh), (before.cwnd, before.ssthresh));
    let last = again.iter().chain(&burst).map(end).max().unwrap();
    ack(&mut rig, &open, last, &[]);
    let (burst, at) = until_probe(&mut rig, &open);
    assert_eq!(burst[at].data.len(), (1064 + 1200) / 2 - 40);
}

/// Linux's conditions: a window of eleven segments, and enough to send that a loss of the probe is found out by what follows.
#[test]
fn a_probe_wants_company() {
    let (mut rig, open) = open(&[("tcp_mtu_probing", 2)]);
    // Window enough, but never much to send.
    let mut at = open
        .host
        .wrapping_add(rig.write(&open, &[1; 10_240]) as u32);
    assert_eq!(sent(&mut rig).len(), 10);
    rig.ms(20);
    ack(&mut rig, &open, at, &[]);
    assert!(info(&rig, &open).cwnd > 15 * 1024);
    for _ in 0..30 {
        at = at.wrapping_add(rig.write(&open, &[1; 3_000]) as u32);
        sent(&mut rig);
        ack(&mut rig, &open, at, &[]);
        sent(&mut rig);
    }
    assert_eq!(rig.host.stats().counts.get(Count::TcpMtuProbes), 0);
    rig.write(&open, &[1; 9_000]);
    sent(&mut rig);
    assert_eq!(rig.host.stats().counts.get(Count::TcpMtuProbes), 1);
    // The first flight is ten segments.
    let (mut rig, open) = self::open(&[("tcp_mtu_probing", 2)]);
    rig.write(&open, &[1; 60_000]);
    assert!(sent(&mut rig).iter().all(|s| s.data.len() == 1024));
}

/// A search that has ended begins anew after `probe_interval`: the path may be another.
#[test]
fn the_path_is_tried_again_after_a_while() {
    let settings = [
        ("tcp_mtu_probing", 2),
        ("tcp_probe_threshold", 300),
        ("tcp_probe_interval", 30),
    ];
    let (mut rig, open) = open(&settings);
    let (burst, at) = until_probe(&mut rig, &open);
    rig.ms(20);
    let (to, blocks) = but(&burst, &[at]);
    ack(&mut rig, &open, to, &blocks);
    let last = sent(&mut rig).iter().chain(&burst).map(end).max().unwrap();
    ack(&mut rig, &open, last, &[]);
    // 1064 and 1281 are near enough.
    let exchange = |rig: &mut Rig| {
        let mut longest = 0;
        for _ in 0..5 {
            rig.write(&open, &[1; 30_000]);
            let mut burst = sent(rig);
            while let Some(last) = burst.last() {
                let lens = burst.iter().map(|s| s.data.len());
                longest = lens.fold(longest, usize::max);
                ack(rig, &open, end(last), &[]);
                burst = sent(rig);
            }
        }
        longest
    };
    assert_eq!(exchange(&mut rig), 1024);
    rig.ms(31_000);
    assert_eq!(exchange(&mut rig), 1242);
}

/// `min_snd_mss` holds against peers that ask for less.
#[test]
fn no_peer_asks_for_less_than_the_least_mss() {
    let mut rig = Rig::new();
    let mut tunables = rig.host.tcp_tunables();
    tunables.set("tcp_min_snd_mss", 500).unwrap();
    rig.host.set_tcp_tunables(tunables).unwrap();
    let syn = Options {
        mss: Some(100),
        ..Options::default()
    };
    let open = rig.accepted_with(&TcpOptions::default(), syn);
    assert_eq!(info(&rig, &open).mss, 500);
}
