//! Random programs beside a sorted map.

use std::collections::BTreeMap;

use super::{Links, Order, Ordered};
use crate::{Rng, Seq, Slab};

struct Record {
    number: Seq,
    links: Links,
}

impl Ordered for Record {
    fn number(&self) -> Seq {
        self.number
    }
    fn links(&self) -> &Links {
        &self.links
    }
    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// Numbers that pass 2^32, so that the map's are distances from the first.
const FIRST: Seq = Seq(u32::MAX - 5000);

struct Bench {
    slab: Slab<Record>,
    order: Order,
    model: BTreeMap<u32, u32>,
}

impl Bench {
    fn new() -> Self {
        Self {
            slab: Slab::with_capacity(4096),
            order: Order::EMPTY,
            model: BTreeMap::new(),
        }
    }

    fn insert(&mut self, at: u32) {
        if self.model.contains_key(&at) {
            return;
        }
        let record = Record {
            number: FIRST + at,
            links: Links::APART,
        };
        if let Some(key) = self.slab.insert(record) {
            self.order.insert(&mut self.slab, key.index);
            self.model.insert(at, key.index);
        }
    }

    fn remove(&mut self, at: u32) {
        if let Some(index) = self.model.remove(&at) {
            self.order.remove(&mut self.slab, index);
            self.slab.remove_at(index);
        }
    }

    fn find(&self, at: u32) {
        let expected = self.model.range(..=at).next_back().map(|(_, index)| *index);
        assert_eq!(self.order.find(&self.slab, FIRST + at), expected);
    }

    fn check(&self) {
        let count = self.order.check(&self.slab);
        assert_eq!(count, Some(self.model.len() as u32));
        assert_eq!(self.order.is_empty(), self.model.is_empty());
    }
}

#[test]
fn random_programs_do_what_a_sorted_map_does() {
    let mut rng = Rng::from_seed(3);
    for _ in 0..40 {
        let mut bench = Bench::new();
        let (span, keep) = (1 + rng.below(10_000), rng.below(100));
        for _ in 0..1000 {
            let at = rng.below(span);
            if rng.below(100) < keep.max(30) {
                bench.insert(at);
            } else {
                bench.remove(at);
            }
            bench.find(rng.below(span));
        }
        bench.check();
    }
}

/// What comes in order, from either end, or always to one place makes no deep tree, and goes as it came.
#[test]
fn no_order_of_coming_and_going_puts_it_out_of_balance() {
    let zigzag = |n: u32| {
        if n.is_multiple_of(2) {
            n / 2
        } else {
            3999 - n / 2
        }
    };
    let orders: [&dyn Fn(u32) -> u32; 3] = [&|n| n, &|n| 3999 - n, &zigzag];
    for coming in orders {
        for going in orders {
            let mut bench = Bench::new();
            for n in 0..4000 {
                bench.insert(coming(n));
            }
            bench.check();
            for n in 0..4000 {
                bench.remove(going(n));
                if n.is_multiple_of(500) {
                    bench.check();
                }
            }
            assert!(bench.order.is_empty());
        }
    }
}

#[test]
fn what_is_not_in_is_not_taken_out() {
    let mut bench = Bench::new();
    bench.insert(1);
    bench.insert(3);
    let apart = Record {
        number: FIRST + 2,
        links: Links::APART,
    };
    let index = bench.slab.insert(apart).expect("room").index;
    bench.order.remove(&mut bench.slab, index);
    bench.find(2);
    bench.check();
}
