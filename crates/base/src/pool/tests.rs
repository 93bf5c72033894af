use super::*;
use crate::rng::Rng;
use proptest::prelude::*;

#[test]
fn sizes() {
    assert_eq!(size_of::<Chain>(), 12);
    assert_eq!(size_of::<Segment>(), 16);
    assert_eq!(align_of::<Segment>(), 16);
}

impl Pool {
    fn contents(&self, chain: &Chain) -> Vec<u8> {
        self.slices(chain).flatten().copied().collect()
    }

    /// The invariants of the whole pool, given every chain there is.
    fn check(&self, chains: &[&Chain]) {
        let mut refs = vec![0; self.capacity() as usize];
        let mut segments = 0;
        for chain in chains {
            let (mut at, mut last, mut len) = (chain.head, NIL, 0);
            while at != NIL {
                let segment = self.segments[at as usize];
                assert!(usize::from(segment.off) + usize::from(segment.len) <= BLOCK);
                refs[segment.block as usize] += 1;
                segments += 1;
                len += usize::from(segment.len);
                last = at;
                at = segment.next;
            }
            assert_eq!((last, len), (chain.tail, chain.len()));
        }
        let used = refs.iter().filter(|&&count| count > 0).count();
        assert_eq!(
            (self.in_use() as usize, self.segments_in_use()),
            (used, segments)
        );
        for (block, &count) in refs.iter().enumerate().take(self.fresh_block as usize) {
            let word = self.refs[block];
            assert!(if count == 0 {
                word & FREE != 0
            } else {
                word == count
            });
        }
        assert!(
            self.high_water() >= self.in_use()
                && self.available() + self.in_use() == self.capacity()
        );
    }
}

/// A pool whose chains are compared with plain vectors after every step.
struct Bench {
    pool: Pool,
    chains: Vec<(Chain, Vec<u8>)>,
    spare: Chain,
    rng: Rng,
}

impl Bench {
    fn new(seed: u64, blocks: u32) -> Bench {
        let pool = Pool::new(blocks).unwrap();
        Bench {
            pool,
            chains: Vec::new(),
            spare: Chain::EMPTY,
            rng: Rng::from_seed(seed),
        }
    }

    /// 0 to `most`, often one of the two.
    fn some(&mut self, most: usize) -> usize {
        match self.rng.below(6) {
            0 => 0,
            1 => most,
            _ => self.rng.below(most as u32 + 1) as usize,
        }
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.some(most)];
        self.rng.fill(&mut bytes);
        bytes
    }

    fn pick(&mut self) -> usize {
        if self.chains.is_empty() || self.chains.len() < 12 && self.rng.chance(0.1) {
            let headroom = self.some(300);
            let chain = if self.rng.chance(0.2) {
                None
            } else {
                self.pool.alloc(headroom)
            };
            self.chains.push((chain.unwrap_or_default(), Vec::new()));
        }
        self.rng.below(self.chains.len() as u32) as usize
    }

    fn edit(&mut self, op: u32) {
        let picked = self.pick();
        let len = self.chains[picked].1.len();
        let n = self.some(len);
        let most = if self.rng.chance(0.5) { 100 } else { 5_000 };
        let fill = self.bytes(most);
        let (chain, model) = &mut self.chains[picked];
        let pool = &mut self.pool;
        match op {
            0 => {
                let done = pool.append_bytes(chain, &fill);
                assert!(
                    done == fill.len()
                        || pool.available() == 0
                        || pool.segments_in_use() == 2 * pool.capacity()
                );
                model.extend(&fill[..done]);
            }
            1 => {
                let room = pool.tail_room(chain);
                if let Some(out) = pool.push_back(chain, fill.len()) {
                    out.copy_from_slice(&fill);
                    model.extend(&fill);
                    assert!(room >= fill.len());
                } else {
                    assert!(room < fill.len() || chain.is_null());
                }
            }
            2 => {
                let room = pool.head_room(chain);
                if let Some(out) = pool.push_front(chain, fill.len()) {
                    out.copy_from_slice(&fill);
                    model.splice(..0, fill.iter().copied());
                    assert!(room >= fill.len());
                } else {
                    assert!(room < fill.len() || chain.is_null());
                }
            }
            3 => {
                if let Some(out) = pool.prepend(chain, fill.len(), 64) {
                    out.copy_from_slice(&fill);
                    model.splice(..0, fill);
                }
            }
            4 => {
                pool.pull_front(chain, n);
                model.drain(..n);
            }
            5 => {
                pool.truncate(chain, n);
                model.truncate(n);
            }
            6 => {
                let n = n.min(BLOCK);
                let done = pool.make_contiguous(chain, n);
                assert!(
                    done || pool.available() == 0 || pool.segments_in_use() == 2 * pool.capacity()
                );
                assert!(!done || pool.first(chain)[..n] == model[..n]);
            }
            _ => {
                let room = pool.first(chain).len();
                if !pool.is_shared(chain) && room > 0 {
                    pool.first_mut(chain)[room - 1] ^= 1;
                    model[room - 1] ^= 1;
                }
            }
        }
    }

    fn combine(&mut self, op: u32) {
        let picked = self.pick();
        let len = self.chains[picked].1.len();
        let (from, n) = (self.some(len), self.some(len));
        let (chain, model) = &mut self.chains[picked];
        let pool = &mut self.pool;
        match op {
            0 => {
                if let Some(front) = pool.split_front(chain, n) {
                    let rest = model.split_off(n);
                    let front = (front, core::mem::replace(model, rest));
                    self.chains.push(front);
                } else {
                    assert_eq!(pool.segments_in_use(), 2 * pool.capacity());
                }
                assert!(
                    pool.split_front(&mut self.chains[picked].0, usize::MAX)
                        .is_none()
                );
            }
            1 => {
                let n = n.min(len - from);
                if let Some(shared) = pool.share(chain, from, n) {
                    let copy = model[from..from + n].to_vec();
                    self.chains.push((shared, copy));
                } else {
                    let wanted = pool.segments_in_use() as usize + pool.segments(chain);
                    assert!(wanted > 2 * pool.capacity() as usize || chain.is_null());
                }
                assert!(pool.share(&self.chains[picked].0, len, 1).is_none());
            }
            2 => {
                let (other, bytes) = self.chains.swap_remove(picked);
                let Some((chain, model)) = self.chains.last_mut() else {
                    self.pool.free(other);
                    return;
                };
                pool.append(chain, other);
                model.extend(bytes);
            }
            3 => {
                let (chain, _) = self.chains.swap_remove(picked);
                pool.free(chain);
            }
            4 => self.receive(n),
            5 => self.move_front(picked, n),
            _ => {
                let mut out = vec![0; n];
                let count = pool.copy_out(chain, from, &mut out);
                assert_eq!(count, n.min(len - from));
                assert_eq!(out[..count], model[from..from + count]);
                assert_eq!(pool.is_contiguous(chain), pool.first(chain).len() == len);
                assert!(pool.blocks_charged(chain) <= pool.segments(chain));
                assert_eq!(pool.blocks_charged(chain) == 0, chain.is_null());
                pool.prefetch(chain);
            }
        }
    }

    /// The first bytes of one chain go to another.
    fn move_front(&mut self, picked: usize, n: usize) {
        let (mut from, mut bytes) = self.chains.swap_remove(picked);
        let pool = &mut self.pool;
        if let Some((to, model)) = self.chains.last_mut() {
            let before = pool.segments_in_use();
            if let Some(mut place) = pool.move_front(&mut from, to, n) {
                assert!(pool.segments_in_use() <= before + 1);
                model.extend_from_slice(&bytes[..n]);
                if let Some(moved) = pool.share_at(to, &mut place, n) {
                    assert_eq!(pool.contents(&moved), bytes[..n]);
                    pool.free(moved);
                }
                bytes.drain(..n);
            } else {
                assert!(n == 0 || pool.segments_in_use() == 2 * pool.capacity());
            }
            assert!(pool.move_front(&mut from, to, usize::MAX).is_none());
        }
        self.chains.push((from, bytes));
    }

    /// A frame arrives in the spare blocks.
    fn receive(&mut self, wanted: usize) {
        let headroom = self.some(200);
        let done = self.pool.reserve(&mut self.spare, wanted, headroom);
        assert_eq!(done, self.spare.len() >= wanted);
        assert!(
            done || self.pool.available() == 0
                || self.pool.segments_in_use() == 2 * self.pool.capacity()
        );
        assert!(self.spare.is_null() || self.pool.head_room(&self.spare) == headroom);
        let len = self.some(wanted.min(self.spare.len()));
        let mut frame = vec![0; len];
        self.rng.fill(&mut frame);
        let mut left = &frame[..];
        let mut room = 0;
        let slices: Vec<&mut [u8]> = self.pool.spare_slices_mut(&self.spare).collect();
        for slice in slices {
            let n = left.len().min(slice.len());
            slice[..n].copy_from_slice(&left[..n]);
            left = &left[n..];
            room += slice.len();
        }
        assert_eq!((left.len(), room), (0, self.spare.len()));
        let chain = self.pool.take_filled(&mut self.spare, len);
        self.chains.push((chain, frame));
    }

    fn check(&self) {
        for (chain, model) in &self.chains {
            assert_eq!(chain.len(), model.len());
            assert_eq!(&self.pool.contents(chain), model);
        }
        let chains: Vec<&Chain> = self
            .chains
            .iter()
            .map(|(chain, _)| chain)
            .chain([&self.spare])
            .collect();
        self.pool.check(&chains);
    }

    fn run(mut self, steps: u32) {
        for _ in 0..steps {
            match self.rng.below(15) {
                op @ 0..8 => self.edit(op),
                op => self.combine(op - 8),
            }
            self.check();
            // Keep some air: a full pool refuses everything.
            if self.pool.available() == 0 && self.rng.chance(0.3) || self.chains.len() > 20 {
                let picked = self.pick();
                self.pool.free(self.chains.swap_remove(picked).0);
            }
        }
        for (chain, _) in self.chains {
            self.pool.free(chain);
        }
        self.pool.free(self.spare);
        self.pool.check(&[]);
        assert_eq!((self.pool.in_use(), self.pool.segments_in_use()), (0, 0));
    }
}

/// A block that is moved piece by piece is one segment again, and needs none besides.
#[test]
fn pieces_that_are_moved_grow_together() {
    let mut pool = Pool::new(4).unwrap();
    let (mut from, mut to) = (Chain::EMPTY, Chain::EMPTY);
    let bytes: Vec<u8> = (0..2 * BLOCK).map(|at| at as u8).collect();
    assert_eq!(pool.append_bytes(&mut from, &bytes), bytes.len());
    for at in (0..bytes.len()).step_by(64) {
        let place = pool.move_front(&mut from, &mut to, 64).unwrap();
        assert!(pool.segments_in_use() <= 3);
        let mut copy = Chain::EMPTY;
        pool.append_bytes(&mut copy, &[0]);
        assert_eq!(pool.append_copy_at(&mut copy, &mut place.clone(), 64), 64);
        assert_eq!(pool.contents(&copy)[1..], bytes[at..at + 64]);
        pool.free(copy);
    }
    assert!(from.is_null());
    assert_eq!((pool.segments_in_use(), pool.in_use()), (2, 2));
    assert_eq!(pool.contents(&to), bytes);
    pool.check(&[&to]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn agrees_with_vectors(seed: u64, blocks in 1u32..80) {
        Bench::new(seed, blocks).run(400);
    }
}

#[test]
fn sizes_outside_the_range_are_refused() {
    assert_eq!(
        Pool::new(0).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    assert_eq!(
        Pool::new(MAX_BLOCKS + 1).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn counts_blocks() {
    let mut pool = Pool::new(3).unwrap();
    let chains: Vec<Chain> = std::iter::from_fn(|| pool.alloc(0)).collect();
    assert_eq!(
        (
            chains.len(),
            pool.in_use(),
            pool.available(),
            pool.high_water()
        ),
        (3, 3, 0, 3)
    );
    for chain in chains {
        pool.free(chain);
    }
    assert_eq!(
        (pool.in_use(), pool.available(), pool.high_water()),
        (0, 3, 3)
    );
    let again = pool.alloc(BLOCK).unwrap();
    assert_eq!(
        (
            pool.high_water(),
            pool.tail_room(&again),
            pool.head_room(&again)
        ),
        (3, 0, BLOCK)
    );
    pool.free(again);
}

#[test]
fn reserved_memory_is_not_touched() {
    // 8 GiB, in no time.
    let mut pool = Pool::new(1 << 22).unwrap();
    let mut chain = pool.alloc(0).unwrap();
    assert_eq!(pool.append_bytes(&mut chain, &[1; 10_000]), 10_000);
    pool.free(chain);
    assert_eq!(pool.high_water(), 5);
}

#[test]
fn a_frame_gets_its_headers_before_shared_data() {
    let mut pool = Pool::new(4).unwrap();
    let mut queue = Chain::EMPTY;
    assert_eq!(pool.append_bytes(&mut queue, &[7; 3_000]), 3_000);
    let mut frame = pool.alloc(64).unwrap();
    let data = pool.share(&queue, 1_000, 1_400).unwrap();
    pool.append(&mut frame, data);
    assert!(
        pool.push_back(&mut frame, 1).is_none(),
        "the queue's block is shared"
    );
    pool.push_front(&mut frame, 54).unwrap().fill(1);
    assert_eq!(
        (frame.len(), pool.segments(&frame), pool.first(&frame).len()),
        (1_454, 3, 54)
    );
    // Acknowledged while the frame still waits to be sent.
    pool.pull_front(&mut queue, 3_000);
    assert!(queue.is_null());
    assert_eq!(
        pool.contents(&frame)[50..60],
        [1, 1, 1, 1, 7, 7, 7, 7, 7, 7]
    );
    pool.free(frame);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_cursor_goes_on_while_the_front_is_pulled_off() {
    let mut pool = Pool::new(64).unwrap();
    let mut rng = Rng::from_seed(4);
    let mut queue = Chain::EMPTY;
    let (mut model, mut sent, mut acked) = (Vec::new(), 0, 0);
    let mut cursor = None;
    while sent < 200_000 {
        let mut bytes = vec![0; rng.below(4_000) as usize];
        rng.fill(&mut bytes);
        let done = pool.append_bytes(&mut queue, &bytes);
        model.extend(&bytes[..done]);
        for _ in 0..3 {
            let n = (rng.below(3_000) as usize).min(model.len() - sent);
            if n == 0 {
                continue;
            }
            let mut from = match cursor {
                Some(cursor) => cursor,
                None => pool.cursor(&queue, sent - acked).unwrap(),
            };
            assert!(
                pool.share_at(&queue, &mut from, model.len() - sent + 1)
                    .is_none()
            );
            let Some(frame) = pool.share_at(&queue, &mut from, n) else {
                continue;
            };
            assert_eq!(pool.contents(&frame), model[sent..sent + n]);
            cursor = Some(from);
            sent += n;
            pool.free(frame);
        }
        let ack = (rng.below(4_000) as usize).min(sent - acked);
        pool.pull_front(&mut queue, ack);
        acked += ack;
        if acked == sent {
            // Its segment may be gone.
            cursor = None;
        }
    }
    pool.free(queue);
    assert_eq!((pool.in_use(), pool.segments_in_use()), (0, 0));
}

#[test]
fn append_copy_fills_the_last_block() {
    let mut pool = Pool::new(8).unwrap();
    let data: Vec<u8> = (0..5_000u32).map(|n| (n % 251) as u8).collect();
    let mut queue = Chain::EMPTY;
    assert_eq!(pool.append_bytes(&mut queue, &data), 5_000);
    let mut frame = pool.alloc(64).unwrap();
    // Over the seam between two blocks, then up to the end of the frame's block, then up to the end of the queue.
    assert_eq!(pool.append_copy(&mut frame, &queue, 2_000, 100), 100);
    assert_eq!(pool.append_copy(&mut frame, &queue, 0, 5_000), BLOCK - 164);
    assert_eq!(pool.contents(&frame)[..100], data[2_000..2_100]);
    assert_eq!(pool.contents(&frame)[100..], data[..BLOCK - 164]);
    let mut last = pool.alloc(0).unwrap();
    assert_eq!(pool.append_copy(&mut last, &queue, 4_990, 100), 10);
    assert_eq!(pool.append_copy(&mut Chain::default(), &queue, 0, 1), 0);
    pool.check(&[&queue, &frame, &last]);
    for chain in [queue, frame, last] {
        pool.free(chain);
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn copy_in_overwrites() {
    let mut pool = Pool::new(4).unwrap();
    let mut chain = pool.alloc(2_000).unwrap();
    assert_eq!(pool.append_bytes(&mut chain, &[0; 100]), 100);
    assert_eq!(pool.copy_in(&chain, 40, &[1; 20]), 20);
    assert_eq!(pool.copy_in(&chain, 95, &[2; 20]), 5);
    let contents = pool.contents(&chain);
    assert_eq!(
        (contents[39], contents[40], contents[59], contents[60]),
        (0, 1, 1, 0)
    );
    assert_eq!(contents[95..], [2; 5]);
    pool.free(chain);
}

#[test]
fn spare_blocks_go_out_once_whatever_the_stamp() {
    let mut pool = Pool::new(4).unwrap();
    let mut spare = Chain::EMPTY;
    assert!(pool.reserve(&mut spare, 3_900, 100));
    pool.stamp = u32::MAX - 2;
    for _ in 0..5 {
        assert_eq!(
            pool.spare_slices_mut(&spare)
                .map(|s| s.len())
                .sum::<usize>(),
            2 * BLOCK - 100
        );
    }
    // A chain that is none: its list runs in a circle.
    pool.segments[spare.tail as usize].next = spare.head;
    let circle = Chain {
        head: spare.head,
        tail: spare.tail,
        len: u32::MAX,
    };
    assert_eq!(pool.spare_slices_mut(&circle).count(), 2);
    pool.segments[spare.tail as usize].next = NIL;
    pool.free(spare);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn may_move_to_another_thread() {
    fn send<T: Send>() {}
    send::<Pool>();
    send::<crate::FlowTable>();
    send::<crate::Wheel>();
    send::<crate::Producer<Vec<u8>>>();
    send::<crate::FrameRx>();
}
