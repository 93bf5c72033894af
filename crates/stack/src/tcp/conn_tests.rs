//! The parts of a connection on their own: the out-of-order queue against a simple model, its bounds, windows.

use base::{Chain, Instant, Pool, Rng, Seq, SipKey, Slab, Wheel};
use wire::tcp::Flags;
use wire::{Addr, tcp::Options};

use crate::InterfaceId;
use crate::context::Core;
use crate::stats::Stats;

use super::congestion::{Bbr, Control};
use super::conn::{Conn, release_queues};
use super::edges::EdgeTable;
use super::fast_open::Fast;
use super::profile::{Profiles, TcpOptions};
use super::record::{Active, Range, State, Tcb, flag};
use super::recovery::Episode;
use super::segment::Segment;
use super::sent::Sent;

pub(crate) fn core() -> Core {
    Core {
        now: Instant::from_secs(1),
        pool: Pool::new(2048).expect("memory"),
        wheel: Wheel::with_capacity(64),
        rng: Rng::from_seed(1),
        stats: Stats::default(),
        secret: SipKey([1; 16]),
        tcp: crate::tcp::TcpTunables::default(),
        memory: crate::tcp::Memory::new(&crate::tcp::TcpTunables::default().sized(1 << 20)),
        sharding: None,
    }
}

/// One connection outside any table.
pub(crate) struct Bench {
    tcb: Tcb,
    act: Active,
    ranges: Slab<Range>,
    nodes: Slab<Sent>,
    episodes: Slab<Episode>,
    controls: Slab<Control>,
    models: Slab<Bbr>,
    edges: EdgeTable,
    fasts: Slab<Fast>,
    profiles: Profiles,
    profile: u16,
}

impl Bench {
    pub(crate) fn new(start: u32) -> Self {
        let mut profiles = Profiles::default();
        let profile = profiles
            .acquire(Addr::v4(10, 0, 0, 2), &TcpOptions::default())
            .expect("room");
        let mut tcb = Tcb::new(Addr::v4(10, 0, 0, 1), 1000, 80, profile);
        tcb.state = State::Established;
        tcb.flags = flag::SACK;
        tcb.rcv_nxt = Seq(start);
        tcb.rcv_adv = Seq(start) + 100_000;
        tcb.snd_una = Seq(start);
        tcb.snd_nxt = Seq(start) + 100_000;
        tcb.mss = 1000;
        Self {
            tcb,
            act: Active::new(super::record::NONE),
            ranges: Slab::with_capacity(1024),
            nodes: Slab::with_capacity(4096),
            episodes: Slab::with_capacity(1),
            controls: Slab::with_capacity(1),
            models: Slab::with_capacity(1),
            edges: EdgeTable::new(1),
            fasts: Slab::with_capacity(1),
            profiles,
            profile,
        }
    }

    pub(crate) fn conn(&mut self) -> Conn<'_> {
        Conn {
            tcb: &mut self.tcb,
            act: &mut self.act,
            ranges: &mut self.ranges,
            nodes: &mut self.nodes,
            episodes: &mut self.episodes,
            ledger: None,
            search: None,
            controls: &mut self.controls,
            models: &mut self.models,
            edges: &mut self.edges,
            fasts: &mut self.fasts,
            inflow: None,
            acc_ecn: None,
            profile: self.profiles.get(self.profile),
        }
    }
}

pub(crate) fn segment(seq: Seq, len: u32) -> Segment {
    Segment {
        candidate: None,
        interface: InterfaceId(0),
        hash: 0,
        src: Addr::v4(10, 0, 0, 1),
        dst: Addr::v4(10, 0, 0, 2),
        src_port: 1000,
        dst_port: 80,
        seq,
        ack: Seq(0),
        flags: Flags::ACK,
        ecn: 0,
        window: 0,
        len,
        unit: len,
        urgent: None,
        timestamps: None,
        headers: 0,
        options: None::<Options>,
    }
}

fn byte(seq: u32) -> u8 {
    (seq ^ seq >> 7 ^ seq >> 13) as u8
}

#[test]
fn out_of_order_data_is_put_in_order_exactly_once() {
    for seed in 0..200 {
        let mut core = core();
        let mut rng = Rng::from_seed(seed);
        let start = if seed % 2 == 0 { 77 } else { u32::MAX - 20_000 };
        let total = 40_000u32;
        let mut bench = Bench::new(start);
        let mut read = 0u32;
        for round in 0.. {
            assert!(round < 20_000, "seed {seed}: never complete");
            let from = rng.below(total);
            let from = if rng.below(3) == 0 { read } else { from };
            let len = (1 + rng.below(1500)).min(total - from);
            if len == 0 {
                break;
            }
            let bytes: Vec<u8> = (from..from + len).map(byte).collect();
            let mut chain = base::Chain::default();
            assert_eq!(core.pool.append_bytes(&mut chain, &bytes), bytes.len());
            let mut conn = bench.conn();
            conn.receive(&mut core, &segment(Seq(start) + from, len), chain);
            let mut out = vec![0; 50_000];
            let n = core.pool.copy_out(&bench.act.recv, 0, &mut out);
            core.pool.pull_front(&mut bench.act.recv, n);
            for (i, got) in out[..n].iter().enumerate() {
                assert_eq!(
                    *got,
                    byte(read + i as u32),
                    "seed {seed}: byte {}",
                    read + i as u32
                );
            }
            read += n as u32;
            assert_eq!(bench.tcb.rcv_nxt, Seq(start) + read);
            let blocks = bench.conn().sack_blocks(4);
            for &(a, b) in &blocks.as_slice()[usize::from(blocks.len > 0)..] {
                assert!(
                    Seq(a).lt(Seq(b)) && Seq(a).gt(bench.tcb.rcv_nxt),
                    "seed {seed}"
                );
            }
            if read == total {
                break;
            }
        }
        assert_eq!(read, total);
        release_queues(&mut core, &mut bench.ranges, &mut bench.act, true);
        assert_eq!(
            (core.pool.in_use(), bench.ranges.len()),
            (0, 0),
            "seed {seed}"
        );
    }
}

#[test]
fn tiny_segments_do_not_pin_a_block_each() {
    let mut core = core();
    let mut bench = Bench::new(0);
    for at in 0..10_000u32 {
        let mut chain = base::Chain::default();
        core.pool.append_bytes(&mut chain, &[byte(at)]);
        bench.conn().receive(&mut core, &segment(Seq(at), 1), chain);
    }
    assert_eq!(bench.act.recv.len(), 10_000);
    assert!(
        core.pool.in_use() <= 8,
        "10,000 bytes in {} blocks",
        core.pool.in_use()
    );
}

#[test]
fn a_flood_of_holes_is_bounded() {
    let mut core = core();
    let mut bench = Bench::new(0);
    for at in 0..10_000u32 {
        let mut chain = base::Chain::default();
        core.pool.append_bytes(&mut chain, &[1]);
        bench
            .conn()
            .receive(&mut core, &segment(Seq(10 + at * 2), 1), chain);
    }
    let most = 128 + bench.conn().receive_limit(&core.tcp) / 1024;
    assert!(u32::from(bench.act.ooo_nodes) <= most && core.pool.in_use() <= most);
}

/// A peer that sends a byte at a time must find the window closed when the buffer is full, although every window is rounded up
/// to the unit of the scale.
#[test]
fn rounding_up_windows_does_not_stretch_the_buffer() {
    const SCALE: u32 = 5;
    let buffer = 100_000;
    let mut core = core();
    let mut bench = Bench::new(7);
    let options = TcpOptions {
        receive_buffer: Some(buffer),
        send_buffer: Some(buffer),
        ..TcpOptions::default()
    };
    bench.profile = bench
        .profiles
        .acquire(Addr::v4(10, 0, 0, 2), &options)
        .expect("room");
    bench.tcb.scales = (SCALE << 4) as u8;
    bench.tcb.rcv_adv = bench.tcb.rcv_nxt + buffer;
    let mut edge = bench.tcb.rcv_adv;
    while edge.gt(bench.tcb.rcv_nxt) {
        let mut data = Chain::EMPTY;
        assert_eq!(core.pool.append_bytes(&mut data, &[1]), 1);
        let seq = bench.tcb.rcv_nxt;
        let mut conn = bench.conn();
        conn.receive(&mut core, &segment(seq, 1), data);
        let (field, adv) = conn.window_field(&core.tcp, conn.window_to_offer(&core));
        let before = conn.tcb.rcv_adv;
        conn.tcb.rcv_adv = adv;
        edge = conn.tcb.rcv_nxt + (u32::from(field) << SCALE);
        assert!(adv.ge(before), "what was granted is accepted");
        assert!(
            edge.ge(before - (1 << SCALE)),
            "no more than a unit is taken back"
        );
        let held = bench.act.recv.len() as u32;
        assert!(held <= buffer + buffer / 8, "{held} bytes are held");
    }
}

/// RFC 5681 4.2 asks for an ACK at every second full-sized segment at least. A sender that ends each write with a short segment
/// and waits for its ACK (Nagle) needs one as soon as more than a full-sized segment is owed, as Linux gives it.
#[test]
fn a_full_segment_and_a_short_one_are_acknowledged_at_once() {
    let mut core = core();
    let mut bench = Bench::new(7);
    bench.tcb.acking.set_quick(false);
    for (len, at_once) in [(1000, false), (1000, true), (1000, false), (1, true)] {
        let mut data = Chain::EMPTY;
        assert_eq!(
            core.pool.append_bytes(&mut data, &vec![0; len as usize]),
            len as usize
        );
        let seq = bench.tcb.rcv_nxt;
        bench.conn().receive(&mut core, &segment(seq, len), data);
        assert_eq!(
            bench.tcb.has(flag::ACK_NOW),
            at_once,
            "after {len} bytes more"
        );
        if at_once {
            // What sending it does.
            bench.tcb.flags &= !(flag::ACK_NOW | flag::ACK_DELAYED);
            bench.act.unacked_in = 0;
        }
    }
}
