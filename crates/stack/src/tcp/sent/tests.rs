//! The lists against an array of bytes, each with what became of it.

use base::{Chain, Pool, Rng, Seq, Slab};

use super::nodes::{MANY_NODES, MAX_NODES};
use super::*;

/// What the model knows of one byte.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Byte {
    fate: Fate,
    again: bool,
    at: u32,
}

struct Bench {
    flight: Flight,
    nodes: Slab<Sent>,
    pool: Pool,
    queue: Chain,
    start: Seq,
    una: usize,
    bytes: Vec<Byte>,
    /// Where records end.
    records: Vec<usize>,
    now: u32,
    mss: u32,
}

fn value(at: usize) -> u8 {
    (at % 251) as u8
}

impl Bench {
    fn new(start: u32, nodes: u32) -> Self {
        Self {
            flight: Flight::EMPTY,
            nodes: Slab::with_capacity(nodes),
            pool: Pool::new(2048).expect("memory"),
            queue: Chain::EMPTY,
            start: Seq(start),
            una: 0,
            bytes: Vec::new(),
            records: Vec::new(),
            now: start,
            mss: 1,
        }
    }

    fn board(&mut self) -> Board<'_> {
        Board {
            flight: &mut self.flight,
            nodes: &mut self.nodes,
            mss: self.mss,
        }
    }

    fn seq(&self, at: usize) -> Seq {
        self.start + at as u32
    }

    fn at(&self, seq: Seq) -> usize {
        seq.dist(self.start) as usize
    }

    fn delivery(&self) -> Delivery {
        Delivery {
            now: u64::from(self.now),
            stamp: 0,
            echo: None,
            min_rtt: 0,
            oldest: 0,
            recover: self.start,
            fack: self.seq(self.una),
            counts: false,
            segments: 0,
            bytes: 0,
            latest: None,
            rtt: 0,
            original: false,
            again: false,
            reordered: 0,
        }
    }

    fn push(&mut self, len: usize) {
        self.push_with(len, false);
    }

    fn push_with(&mut self, len: usize, record: bool) {
        let (from, to) = (self.bytes.len(), self.bytes.len() + len);
        let mut part = Chain::EMPTY;
        let bytes: Vec<u8> = (from..to).map(value).collect();
        assert_eq!(self.pool.append_bytes(&mut part, &bytes), len);
        let place = self.pool.cursor(&part, 0);
        self.pool.append(&mut self.queue, part);
        let (range, now) = ((self.seq(from), self.seq(to)), self.now);
        assert!(self.board().push(
            range,
            (
                place,
                Tail {
                    pushed: record,
                    record
                }
            ),
            now,
            0
        ));
        if record {
            self.records.push(to);
        }
        self.bytes.resize(
            to,
            Byte {
                fate: Fate::InFlight,
                again: false,
                at: now,
            },
        );
    }

    fn acknowledge(&mut self, to: usize) {
        self.pool.pull_front(&mut self.queue, to - self.una);
        let (una, mut delivery) = (self.seq(to), self.delivery());
        Board {
            flight: &mut self.flight,
            nodes: &mut self.nodes,
            mss: self.mss,
        }
        .acknowledge(&self.pool, &self.queue, una, &mut delivery);
        let news = self.bytes[self.una..to]
            .iter()
            .filter(|b| b.fate != Fate::Sacked)
            .count();
        assert_eq!(delivery.bytes as usize, news);
        self.una = to;
    }

    fn sack(&mut self, blocks: &[(usize, usize)]) -> usize {
        let (start, mut delivery) = (self.start, self.delivery());
        let ranges: Vec<_> = blocks
            .iter()
            .map(|&(a, b)| (start + a as u32, start + b as u32))
            .collect();
        let seen = Board {
            flight: &mut self.flight,
            nodes: &mut self.nodes,
            mss: self.mss,
        }
        .sack(&self.pool, &ranges, &mut delivery);
        let mut news = 0;
        for byte in blocks.iter().flat_map(|&(a, b)| a..b) {
            news += u32::from(self.bytes[byte].fate != Fate::Sacked);
            self.bytes[byte].fate = Fate::Sacked;
        }
        assert_eq!(delivery.bytes, news);
        seen
    }

    fn resend(&mut self, limit: usize) {
        let Some(next) = self.board().next_lost() else {
            return;
        };
        let next = next.up_to(limit as u32);
        let (from, to) = (self.at(next.start), self.at(next.end));
        let crossed = self.records.iter().any(|end| from < *end && *end < to);
        assert!(
            !crossed,
            "an end of a record within what is sent again at once"
        );
        assert_eq!(next.pushed, self.records.contains(&to));
        let mut place = next.place.expect("there is data");
        let copy = self.pool.share_at(&self.queue, &mut place, to - from);
        let copy = copy.expect("the bytes are there");
        let sent: Vec<u8> = self.pool.slices(&copy).flatten().copied().collect();
        assert_eq!(sent, (from..to).map(value).collect::<Vec<_>>());
        self.pool.free(copy);
        let now = self.now;
        Board {
            flight: &mut self.flight,
            nodes: &mut self.nodes,
            mss: self.mss,
        }
        .resent(&self.pool, (to - from) as u32, now, 0);
        for byte in &mut self.bytes[from..to] {
            assert_eq!(byte.fate, Fate::Lost);
            *byte = Byte {
                fate: Fate::InFlight,
                again: true,
                at: now,
            };
        }
    }

    /// Nodes and lists agree with the model and with each other.
    fn audit(&mut self) {
        let range = (self.seq(self.una), self.seq(self.bytes.len().max(self.una)));
        assert_eq!(self.flight.audit(&self.nodes, range, true), Ok(()));
        let mut node = self.flight.head;
        while let Some(sent) = self.nodes.at(node) {
            let (from, to) = (self.at(sent.start), self.at(sent.end));
            assert!(!self.records.iter().any(|end| from < *end && *end < to));
            for byte in &self.bytes[self.at(sent.start)..self.at(sent.end)] {
                assert_eq!(byte.fate, sent.fate);
                if sent.fate != Fate::Sacked {
                    assert_eq!((byte.again, byte.at), (sent.again, sent.at));
                }
            }
            node = sent.next;
        }
        let (mut node, mut time) = (self.flight.timed.first, None);
        while let Some(sent) = self.nodes.at(node) {
            let late = |at: u32| sent.at.wrapping_sub(at) as i32 >= 0;
            assert!(time.is_none_or(late), "in the order of sending");
            (time, node) = (Some(sent.at), sent.after);
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        self.now = self.now.wrapping_add(1 + rng.below(1000));
        let flight = self.bytes.len() - self.una;
        match rng.below(8) {
            0 | 1 if flight < 60_000 && self.board().has_room() => {
                self.push_with(1 + rng.below(5000) as usize, rng.below(3) == 0);
            }
            2 if flight > 0 => {
                let to = self.una + 1 + rng.below(flight.min(6000) as u32) as usize;
                self.acknowledge(to);
            }
            3 if flight > 1 => {
                let mut blocks = Vec::new();
                let mut from = self.una;
                for _ in 0..1 + rng.below(3) {
                    let a = from + rng.below((self.bytes.len() - from) as u32) as usize;
                    let b = (a + 1 + rng.below(3000) as usize).min(self.bytes.len());
                    blocks.push((a, b));
                    from = b.min(self.bytes.len() - 1);
                }
                self.sack(&blocks);
            }
            4 => {
                let (wait, now) = (rng.below(3000), self.now);
                // Everything sent before this moment, and longer than `wait` ago.
                self.board().overdue((now, Seq(0)), wait, now);
                for byte in &mut self.bytes[self.una..] {
                    if byte.fate == Fate::InFlight && now.wrapping_sub(byte.at) >= wait {
                        byte.fate = Fate::Lost;
                    }
                }
            }
            5 => self.resend(1 + rng.below(2000) as usize),
            6 if rng.below(4) == 0 => {
                self.board().lose(|_| true);
                for byte in &mut self.bytes[self.una..] {
                    if byte.fate == Fate::InFlight {
                        byte.fate = Fate::Lost;
                    }
                }
                let lost = |byte: &Byte| byte.fate == Fate::Lost;
                let lowest = self.bytes[self.una..].iter().position(lost);
                let next = self.board().next_lost();
                let next = next.map(|next| self.at(next.start) - self.una);
                assert_eq!(next, lowest, "the lowest goes first");
            }
            _ => {}
        }
    }
}

#[test]
fn lists_agree_with_an_array_of_bytes() {
    for seed in 0..200 {
        let mut rng = Rng::from_seed(seed);
        let start = if seed % 2 == 0 { 5 } else { u32::MAX - 50_000 };
        let mut bench = Bench::new(start, 4096);
        for _ in 0..150 {
            bench.step(&mut rng);
            bench.audit();
        }
        let all = bench.bytes.len();
        if all > bench.una {
            bench.acknowledge(all);
        }
        bench.audit();
        bench.board().clear();
        assert_eq!(bench.nodes.len(), 0, "every node is given back");
    }
}

/// However parts were found lost before: after a timeout the lowest of them goes first, and the others in order, or a window of one
/// segment would never get to what is missing.
#[test]
fn after_a_timeout_what_is_lost_goes_again_in_order() {
    let mut bench = Bench::new(7, 4096);
    for _ in 0..6 {
        bench.push_with(1000, true);
        bench.now += 10;
    }
    let now = bench.now;
    bench.board().lose(|sent| now.wrapping_sub(sent.at) <= 10); // the first, and the last
    bench.board().lose(|_| true);
    for again in 0..2 {
        for at in 0..6 {
            let next = bench.board().next_lost().expect("all is lost");
            assert_eq!(bench.at(next.start), at * 1000, "{again}");
            let (now, len) = (bench.now, next.len());
            let Bench {
                flight,
                nodes,
                pool,
                ..
            } = &mut bench;
            let mut board = Board {
                flight,
                nodes,
                mss: 1,
            };
            board.resent(pool, len, now, 0);
            if again == 0 && at == 3 {
                break; // four went again, and the next timeout comes
            }
        }
        bench.board().lose(|_| true);
    }
}

/// What was held lost is in flight again, and first to be looked at.
#[test]
fn what_was_not_lost_is_the_oldest_in_flight() {
    let mut bench = Bench::new(7, 4096);
    for _ in 0..4 {
        bench.push(1000);
        bench.now += 10;
    }
    bench.sack(&[(2000, 3000)]);
    let now = bench.now;
    bench.board().overdue((now, Seq(0)), 15, now);
    assert_eq!(bench.flight.lost, 2000);
    for byte in &mut bench.bytes[..2000] {
        byte.fate = Fate::Lost;
    }
    bench.audit();
    bench.board().restore();
    for byte in &mut bench.bytes[..2000] {
        byte.fate = Fate::InFlight;
    }
    bench.audit();
}

/// With no node left neighbours are merged: nothing is forgotten, times are coarse, and what there is can be sent again.
#[test]
fn without_nodes_neighbours_are_merged() {
    let mut bench = Bench::new(7, 10);
    for _ in 0..20 {
        bench.push(1000);
        bench.now += 10;
    }
    assert_eq!(bench.nodes.len(), 8, "two are for the first of others");
    let (una, end) = (bench.seq(0), bench.seq(20_000));
    let mut edge = una;
    let mut node = bench.flight.head;
    while let Some(sent) = bench.nodes.at(node) {
        assert_eq!(sent.start, edge);
        (edge, node) = (sent.end, sent.next);
    }
    assert_eq!(edge, end);
    // A SACK inside of a node cannot be entered.
    let mut delivery = bench.delivery();
    let block = [(bench.seq(15_000), bench.seq(16_000))];
    Board {
        flight: &mut bench.flight,
        nodes: &mut bench.nodes,
        mss: bench.mss,
    }
    .sack(&bench.pool, &block, &mut delivery);
    assert_eq!((delivery.bytes, bench.flight.sacked), (0, 0));
    bench.board().lose(|_| true);
    assert_eq!(bench.flight.lost, 20_000);
    let (mut rounds, now) = (0, bench.now);
    while bench.flight.lost > 0 {
        Board {
            flight: &mut bench.flight,
            nodes: &mut bench.nodes,
            mss: bench.mss,
        }
        .resent(&bench.pool, 1000, now, 0);
        rounds += 1;
    }
    assert!(rounds <= 20 && bench.flight.again == 20_000);
}

/// Where no node is left to cut one in two, its place in the queue is not looked for: it may be thousands of blocks away, and a peer
/// could have it looked for with each ACK.
#[test]
fn what_cannot_be_cut_is_not_looked_for() {
    let mut bench = Bench::new(7, 1);
    let bytes = vec![0; 100_000];
    bench.pool.append_bytes(&mut bench.queue, &bytes);
    let place = bench.pool.cursor(&bench.queue, 90_000);
    bench.mss = 1000;
    let (start, end) = (bench.seq(0), bench.seq(10_000));
    let tail = Tail::default();
    assert!(bench.board().push((start, end), (place, tail), 0, 0));
    let (small, block) = (Pool::new(1).expect("memory"), bench.seq(5000));
    let mut delivery = bench.delivery();
    // The place is not within this memory: looking there would fail.
    bench
        .board()
        .sack(&small, &[(block, block + 1000)], &mut delivery);
    assert_eq!(bench.flight.sacked, 0);
}

/// The SACK panic and SegmentSmack families (CVE-2019-11477, -11478, CVE-2018-5390): a peer that reports every second byte can
/// neither take more than its share of nodes nor make an ACK cost more than a look at some dozens of them, wherever it points.
#[test]
fn a_storm_of_sacks_is_bounded() {
    let mut bench = Bench::new(0, 100_000);
    bench.push(60_000);
    let mut most = 0;
    for round in 0..5000 {
        let at = |n: usize| (n * 7919) % 29_000 * 2;
        let mut blocks: Vec<_> = (0..3)
            .map(|n| at(round * 3 + n))
            .map(|a| (bench.seq(a), bench.seq(a + 1)))
            .collect();
        blocks.sort_unstable_by_key(|(a, _)| a.0);
        let mut delivery = bench.delivery();
        most = most.max(
            Board {
                flight: &mut bench.flight,
                nodes: &mut bench.nodes,
                mss: bench.mss,
            }
            .sack(&bench.pool, &blocks, &mut delivery),
        );
    }
    assert!(bench.nodes.len() <= u32::from(MAX_NODES));
    assert!(
        bench.nodes.len() > 10 * u32::from(MANY_NODES),
        "it is a storm"
    );
    assert!(most <= 12, "{most} for one ACK");
    let range = (bench.seq(0), bench.seq(60_000));
    assert_eq!(bench.flight.audit(&bench.nodes, range, true), Ok(()));
}

/// An ordinary transfer with a hole at its front: each ACK reports one more segment, and looks at a few nodes.
#[test]
fn sacks_go_on_from_the_highest() {
    let mut bench = Bench::new(0, 100_000);
    for _ in 0..200 {
        bench.push(1000);
        bench.now += 10;
    }
    let mut seen = 0;
    for n in (1..199).filter(|n| n % 9 != 0) {
        seen += bench.sack(&[(n * 1000, n * 1000 + 1000)]);
    }
    assert!(seen <= 3 * 200, "{seen} nodes for 200 segments");
    bench.audit();
}

/// CVE-2019-11477 was about parts of segments: a SACK of less than one is not entered, and one of more counts whole ones.
#[test]
fn sacks_count_whole_segments() {
    let mut bench = Bench::new(9, 100);
    bench.mss = 1000;
    bench.push(3500);
    let sack = |bench: &mut Bench, from: usize, to: usize| {
        let (block, mut delivery) = ([(bench.seq(from), bench.seq(to))], bench.delivery());
        Board {
            flight: &mut bench.flight,
            nodes: &mut bench.nodes,
            mss: bench.mss,
        }
        .sack(&bench.pool, &block, &mut delivery);
        delivery.bytes
    };
    assert_eq!(sack(&mut bench, 3499, 3500), 0);
    assert_eq!(sack(&mut bench, 1, 1999), 0);
    assert_eq!(sack(&mut bench, 500, 2400), 1000, "the second");
    assert_eq!(
        sack(&mut bench, 3000, 3500),
        500,
        "the last, which is short"
    );
    assert_eq!(sack(&mut bench, 0, 3000), 2000);
    assert!(bench.nodes.len() <= 2, "neighbours are one");
}
