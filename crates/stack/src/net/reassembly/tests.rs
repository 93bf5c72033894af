use base::{Instant, Pool, Rng, Wheel};

use super::*;
use crate::stats::Stats;

fn core(blocks: u32) -> Core {
    Core {
        now: Instant::from_secs(100),
        pool: Pool::new(blocks).unwrap(),
        wheel: Wheel::with_capacity(1024),
        rng: Rng::from_seed(1),
        stats: Stats::default(),
        secret: SipKey([3; 16]),
        tcp: crate::tcp::TcpTunables::default(),
        memory: crate::tcp::Memory::new(&crate::tcp::TcpTunables::default().sized(1 << 20)),
        sharding: None,
    }
}

fn table(datagrams: u32, blocks: u32) -> Reassembly {
    Reassembly::new(datagrams, blocks, SipKey([5; 16]))
}

/// Bytes of the headers before the data: IPv4 without options, or IPv6 with a fragment header.
fn head(v4: bool) -> usize {
    if v4 { 20 } else { 48 }
}

fn name(v4: bool, ident: u32) -> Name {
    let (src, dst) = if v4 {
        (Addr::v4(10, 0, 0, 1), Addr::v4(10, 0, 0, 2))
    } else {
        ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
    };
    Name {
        src,
        dst,
        ident,
        protocol: if v4 { 17 } else { 0 },
        zone: 0,
    }
}

/// A fragment of headers made of the byte 0xee and this data.
fn fragment(core: &mut Core, name: Name, offset: u32, more: bool, data: &[u8]) -> Fragment {
    let v4 = name.src.is_v4();
    let mut chain = core.pool.alloc(64).unwrap();
    let mut header = [0xee; 48];
    header[0] = if v4 { 0x45 } else { 0x60 };
    header[6] = 44;
    header[40] = 17;
    core.pool.append_bytes(&mut chain, &header[..head(v4)]);
    assert_eq!(core.pool.append_bytes(&mut chain, data), data.len());
    Fragment {
        name,
        interface: InterfaceId(0),
        offset,
        more,
        ecn: 0,
        group: false,
        header: Header {
            len: head(v4) as u16,
            named_at: if v4 { 0 } else { 6 },
            protocol: 17,
        },
        chain,
    }
}

/// The data of a completed datagram, once its headers have been looked at.
fn data(core: &mut Core, v4: bool, chain: Chain) -> Vec<u8> {
    let mut bytes = vec![0; chain.len()];
    core.pool.copy_out(&chain, 0, &mut bytes);
    core.pool.free(chain);
    if v4 {
        assert_eq!(u16::from_be_bytes([bytes[2], bytes[3]]), bytes.len() as u16);
        assert_eq!(bytes[6..8], [0, 0]);
        assert!(wire::ipv4::Packet::new(&bytes).unwrap().verify_checksum());
        bytes.split_off(20)
    } else {
        assert_eq!(
            u16::from_be_bytes([bytes[4], bytes[5]]) as usize,
            bytes.len() - 40
        );
        assert_eq!(bytes[6], 17, "the fragment header is gone");
        bytes.split_off(40)
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

fn clear(core: &mut Core, table: &mut Reassembly) {
    core.now += Duration::from_secs(61);
    while let Some(token) = core.wheel.pop_expired(core.now) {
        if let Some(expired) = table.on_timer(core, token as u32) {
            core.pool.free(expired.chain);
        }
    }
    assert_eq!(table.held(), (0, 0, 0));
    assert_eq!(core.pool.in_use(), 0);
    assert!(core.wheel.is_empty());
}

#[test]
fn sixty_four_kib_in_any_order() {
    for v4 in [true, false] {
        let len = if v4 { 65_515 } else { 65_535 };
        let bytes = pattern(len);
        for (order, size) in [(0, 1480), (1, 1480), (2, 1480), (2, 528), (0, 48)] {
            let mut core = core(4096);
            let mut table = table(4, 4096);
            let mut pieces: Vec<usize> = (0..len.div_ceil(size)).collect();
            match order {
                1 => pieces.reverse(),
                2 => shuffle(&mut core.rng, &mut pieces),
                _ => {}
            }
            let mut whole = None;
            for piece in pieces {
                let (start, end) = (piece * size, ((piece + 1) * size).min(len));
                let f = fragment(
                    &mut core,
                    name(v4, 9),
                    start as u32,
                    end < len,
                    &bytes[start..end],
                );
                assert!(whole.is_none());
                if let Outcome::Complete(chain) = table.add(&mut core, f) {
                    whole = Some(data(&mut core, v4, chain));
                }
            }
            assert!(whole.unwrap() == bytes, "order {order} size {size}");
            assert_eq!((table.held(), core.pool.in_use()), ((0, 0, 0), 0));
            assert!(core.wheel.is_empty());
        }
    }
}

fn shuffle(rng: &mut Rng, list: &mut [usize]) {
    for n in (1..list.len()).rev() {
        list.swap(n, rng.below(n as u32 + 1) as usize);
    }
}

#[test]
fn ping_of_death_and_other_lengths() {
    let mut core = core(64);
    let mut table = table(4, 64);
    for v4 in [true, false] {
        // The end lies beyond what a length field can tell.
        let f = fragment(&mut core, name(v4, 1), 65_528, false, &[0; 1400]);
        assert!(matches!(table.add(&mut core, f), Outcome::Held));
        let f = fragment(&mut core, name(v4, 1), 65_528, false, &[0; 8]);
        assert!(matches!(table.add(&mut core, f), Outcome::Held));
        assert_eq!(core.stats.drops.get(Drop::FragmentTooLong), 2);
        // Empty, and not a multiple of eight.
        let f = fragment(&mut core, name(v4, 1), 8, true, &[]);
        assert!(matches!(table.add(&mut core, f), Outcome::Held));
        let f = fragment(&mut core, name(v4, 1), 8, true, &[0; 9]);
        assert!(matches!(table.add(&mut core, f), Outcome::Held));
        assert_eq!(core.stats.drops.get(Drop::FragmentMalformed), 2);
        core.stats = Stats::default();
        assert_eq!((table.held(), core.pool.in_use()), ((0, 0, 0), 0));
    }
}

#[test]
fn headers_count_in_the_length_of_ipv4() {
    // 65,528 bytes of data fit behind no header of 20.
    let mut core = core(256);
    let mut table = table(4, 256);
    let bytes = pattern(65_535);
    for (start, end) in [(0, 32_000), (32_000, 65_520)] {
        let f = fragment(
            &mut core,
            name(true, 1),
            start as u32,
            end < 65_520,
            &bytes[start..end],
        );
        assert!(matches!(table.add(&mut core, f), Outcome::Held));
    }
    assert_eq!(core.stats.drops.get(Drop::FragmentTooLong), 1);
    clear(&mut core, &mut table);
}

#[test]
fn overlaps_kill_the_datagram_and_what_follows() {
    let bytes = pattern(3000);
    // Teardrop: the second lies within the first. Others: across its end, across its start, over the last.
    for (a, b) in [
        ((0, 64), (8, 24)),
        ((0, 64), (56, 72)),
        ((64, 128), (56, 72)),
        ((64, 128), (0, 136)),
    ] {
        for v4 in [true, false] {
            let mut core = core(64);
            let mut table = table(4, 64);
            let f = fragment(&mut core, name(v4, 7), a.0 as u32, true, &bytes[a.0..a.1]);
            assert!(matches!(table.add(&mut core, f), Outcome::Held));
            let f = fragment(
                &mut core,
                name(v4, 7),
                b.0 as u32,
                true,
                &vec![0x55; b.1 - b.0],
            );
            assert!(matches!(table.add(&mut core, f), Outcome::Held));
            assert_eq!(
                core.stats.drops.get(Drop::FragmentOverlap),
                2,
                "{a:?} {b:?}"
            );
            assert_eq!(core.pool.in_use(), 0);
            // Nor is anything of it believed later: the whole datagram, even.
            for (start, end) in [(0, 1480), (1480, 3000)] {
                let f = fragment(
                    &mut core,
                    name(v4, 7),
                    start as u32,
                    end < 3000,
                    &bytes[start..end],
                );
                assert!(matches!(table.add(&mut core, f), Outcome::Held));
            }
            assert_eq!(core.stats.drops.get(Drop::FragmentOverlap), 4);
            // No time exceeded for it: the first fragment is gone.
            clear(&mut core, &mut table);
        }
    }
}

#[test]
fn lengths_that_contradict_kill_the_datagram() {
    let bytes = pattern(200);
    let end = |core: &mut Core, table: &mut Reassembly, start: usize, end: usize, more| {
        let f = fragment(core, name(true, 3), start as u32, more, &bytes[start..end]);
        table.add(core, f)
    };
    // Two ends; data behind the end; an end before data.
    for steps in [
        [(64, 100, false), (104, 120, false)],
        [(64, 100, false), (104, 112, true)],
        [(104, 112, true), (64, 100, false)],
    ] {
        let mut core = core(64);
        let mut table = table(4, 64);
        for (start, stop, more) in steps {
            assert!(matches!(
                end(&mut core, &mut table, start, stop, more),
                Outcome::Held
            ));
        }
        assert_eq!(core.stats.drops.get(Drop::FragmentOverlap), 2, "{steps:?}");
        clear(&mut core, &mut table);
    }
}

#[test]
fn duplicates_are_ignored() {
    for v4 in [true, false] {
        let bytes = pattern(3000);
        let mut core = core(64);
        let mut table = table(4, 64);
        for _ in 0..3 {
            for start in [0, 1000] {
                let f = fragment(
                    &mut core,
                    name(v4, 7),
                    start as u32,
                    true,
                    &bytes[start..start + 1000],
                );
                assert!(matches!(table.add(&mut core, f), Outcome::Held));
            }
        }
        assert_eq!(core.stats.drops.get(Drop::FragmentDuplicate), 4);
        let f = fragment(&mut core, name(v4, 7), 2000, false, &bytes[2000..]);
        let Outcome::Complete(chain) = table.add(&mut core, f) else {
            panic!("complete");
        };
        assert!(data(&mut core, v4, chain) == bytes);
        assert_eq!(core.pool.in_use(), 0);
    }
}

#[test]
fn congestion_marks_of_rfc3168() {
    // Not-ECT 0, ECT(1) 1, ECT(0) 2, CE 3.
    for (marks, expected) in [
        ([0, 0], Some(0)),
        ([2, 3], Some(3)),
        ([1, 3], Some(3)),
        ([0, 3], None),
        ([2, 2], Some(2)),
    ] {
        let mut core = core(64);
        let mut table = table(4, 64);
        let mut found = None;
        for (n, ecn) in marks.into_iter().enumerate() {
            let mut f = fragment(&mut core, name(true, 1), 8 * n as u32, n == 0, &[1; 8]);
            f.ecn = ecn;
            core.pool.first_mut(&f.chain)[1] = ecn;
            if let Outcome::Complete(chain) = table.add(&mut core, f) {
                found = Some(core.pool.first(&chain)[1] & 3);
                core.pool.free(chain);
            }
        }
        assert_eq!(found, expected, "{marks:?}");
        assert_eq!(core.pool.in_use(), 0);
    }
}

#[test]
fn floods_hold_no_more_than_allowed_and_the_oldest_goes() {
    let mut core = core(4096);
    let mut table = table(16, 64);
    let mut rng = Rng::from_seed(4);
    for n in 0..50_000u32 {
        let (v4, more) = (rng.below(2) == 0, rng.below(4) != 0);
        let offset = 8 * rng.below(8000);
        let size = if more {
            8 * (1 + rng.below(180))
        } else {
            1 + rng.below(1400)
        };
        let ident = if rng.below(2) == 0 { n } else { rng.below(40) };
        let bytes = vec![n as u8; size as usize];
        let f = fragment(&mut core, name(v4, ident), offset, more, &bytes);
        if let Outcome::Complete(chain) = table.add(&mut core, f) {
            core.pool.free(chain);
        }
        let (datagrams, runs, blocks) = table.held();
        assert!(datagrams <= 16 && runs <= table.runs.capacity() && blocks <= 64);
        assert!(core.pool.in_use() <= 64 && core.wheel.len() <= 16);
    }
    assert!(core.stats.drops.get(Drop::ReassemblyFull) > 1000);
    clear(&mut core, &mut table);
    // A datagram that asks for more than all there is.
    let f = fragment(&mut core, name(true, 1), 0, true, &[7; 64 * 1024 - 64]);
    table.blocks_max = 8;
    assert!(matches!(table.add(&mut core, f), Outcome::Held));
    assert_eq!(core.pool.in_use(), 0);
}

/// A flood of datagrams that never end displaces itself, whether it is of many datagrams or of many tiny pieces.
#[test]
fn a_flood_displaces_itself() {
    for v4 in [true, false] {
        for tiny in [false, true] {
            let mut core = core(256);
            let mut table = table(32, 64);
            let stranger = |n: u32| Name {
                src: if v4 {
                    Addr::v4(10, 0, 0, 66)
                } else {
                    "fd00::66".parse().unwrap()
                },
                ..name(v4, n)
            };
            for n in 0..200 {
                let ident = n % 20;
                let first = fragment(&mut core, name(v4, ident), 0, true, &[1; 1000]);
                assert!(matches!(table.add(&mut core, first), Outcome::Held));
                for m in 0..100 {
                    let (ident, offset) = if tiny { (n, 8 * m) } else { (100 * n + m, 0) };
                    let piece = fragment(&mut core, stranger(ident), offset, true, &[2; 8]);
                    assert!(matches!(table.add(&mut core, piece), Outcome::Held));
                }
                let last = fragment(&mut core, name(v4, ident), 1000, false, &[1; 500]);
                let Outcome::Complete(chain) = table.add(&mut core, last) else {
                    panic!("displaced: tiny {tiny}, {n}");
                };
                assert_eq!(data(&mut core, v4, chain), [1; 1500]);
                let (datagrams, _, blocks) = table.held();
                assert!(datagrams <= 32 && blocks <= 64);
                assert_eq!(table.shares.iter().sum::<u32>(), datagrams + blocks);
            }
            clear(&mut core, &mut table);
            assert!(table.shares.iter().all(|&held| held == 0));
        }
    }
}

#[test]
fn eviction_spares_the_newest() {
    let mut core = core(64);
    let mut table = table(2, 64);
    for ident in [1, 2, 3] {
        let f = fragment(&mut core, name(true, ident), 0, true, &[1; 8]);
        table.add(&mut core, f);
    }
    assert_eq!(core.stats.drops.get(Drop::ReassemblyFull), 1);
    for (ident, complete) in [(3, true), (2, true), (1, false)] {
        let f = fragment(&mut core, name(true, ident), 8, false, &[1; 8]);
        match table.add(&mut core, f) {
            Outcome::Complete(chain) => {
                assert!(complete);
                core.pool.free(chain);
            }
            Outcome::Held => assert!(!complete),
        }
    }
    clear(&mut core, &mut table);
}

#[test]
fn time_runs_out_and_the_first_fragment_comes_back() {
    for (v4, seconds) in [(true, 30), (false, 60)] {
        let mut core = core(64);
        let mut table = table(4, 64);
        for offset in [8, 0] {
            let f = fragment(&mut core, name(v4, offset), offset, true, &[1; 16]);
            table.add(&mut core, f);
        }
        core.now = Instant::from_secs(100 + seconds - 1);
        assert_eq!(core.wheel.pop_expired(core.now), None);
        core.now = Instant::from_secs(100 + seconds) + Duration::from_millis(1);
        let mut told = 0;
        while let Some(token) = core.wheel.pop_expired(core.now) {
            if let Some(expired) = table.on_timer(&mut core, token as u32) {
                assert_eq!(expired.chain.len(), head(v4) + 16);
                assert_eq!(
                    (expired.protocol, usize::from(expired.header_len)),
                    (17, head(v4))
                );
                core.pool.free(expired.chain);
                told += 1;
            }
        }
        assert_eq!(
            (told, core.stats.drops.get(Drop::ReassemblyTimeout)),
            (1, 2)
        );
        assert_eq!((table.held(), core.pool.in_use()), ((0, 0, 0), 0));
    }
}

/// The rule as one would write it with all the memory in the world.
#[derive(Default)]
struct Model {
    bytes: Vec<Option<u8>>,
    total: Option<usize>,
    dead: bool,
}

impl Model {
    /// What becomes of it: held, complete.
    fn add(&mut self, start: usize, more: bool, data: &[u8]) -> Option<Vec<u8>> {
        if self.dead {
            return None;
        }
        let end = start + data.len();
        let last = self.bytes.len();
        let total = if more { self.total } else { Some(end) };
        if (self.total.is_some() && self.total != total)
            || total.is_some_and(|t| end > t || last > t)
        {
            self.dead = true;
            return None;
        }
        let there = |n: usize| self.bytes.get(n).copied().flatten();
        let present = (start..end).filter(|&n| there(n).is_some()).count();
        if present == data.len() {
            if (start..end).any(|n| there(n) != Some(data[n - start])) {
                self.dead = true;
            }
            return None;
        }
        if present > 0 {
            self.dead = true;
            return None;
        }
        self.total = total;
        self.bytes.resize(last.max(end), None);
        for (n, byte) in data.iter().enumerate() {
            self.bytes[start + n] = Some(*byte);
        }
        let whole: Option<Vec<u8>> = self.bytes.iter().copied().collect();
        whole.filter(|whole| Some(whole.len()) == self.total)
    }
}

#[test]
fn agrees_with_an_array_of_bytes() {
    let (mut completed, mut died) = (0, 0);
    for seed in 0..3000 {
        let mut rng = Rng::from_seed(seed);
        let mut core = core(512);
        let mut table = table(4, 512);
        let v4 = rng.below(2) == 0;
        let len = 1 + rng.below(400) as usize;
        let bytes = pattern(len);
        let mut model = Model::default();
        // Seldom anything wrong, so that most datagrams come to their end.
        let wrong = seed % 3 == 0;
        for _ in 0..60 {
            let start = 8 * rng.below(len as u32 / 8 + 1) as usize;
            let mut end = (start + 8 * (1 + rng.below(6)) as usize).min(len);
            // Pieces on a grid seldom overlap by half.
            if !wrong {
                let cell = start / 24 * 24;
                end = (cell + 24).min(len);
            }
            let start = if wrong { start } else { start / 24 * 24 };
            if start >= end {
                continue;
            }
            let more = if wrong && rng.below(40) == 0 {
                rng.below(2) == 0
            } else {
                end < len
            };
            if more && !(end - start).is_multiple_of(8) {
                continue;
            }
            let mut piece = bytes[start..end].to_vec();
            if wrong && rng.below(30) == 0 {
                piece[0] ^= 1;
            }
            let f = fragment(&mut core, name(v4, 1), start as u32, more, &piece);
            let expected = model.add(start, more, &piece);
            let found = match table.add(&mut core, f) {
                Outcome::Held => None,
                Outcome::Complete(chain) => Some(data(&mut core, v4, chain)),
            };
            assert_eq!(found, expected, "seed {seed}");
            if found.is_some() {
                completed += 1;
                model = Model::default();
            }
        }
        died += u32::from(model.dead);
        clear(&mut core, &mut table);
    }
    assert!(completed > 1000 && died > 100, "{completed} {died}");
}
