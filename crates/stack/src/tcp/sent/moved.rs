//! What is in flight of a connection that goes to another host: the nodes without their slab.
//!
//! What does not live here: the bytes, and the rest of the connection (`moving`).
//!
//! Invariant: what was taken out and put in again is what it was, but for where it is kept.

use std::collections::BTreeMap;

use base::{Chain, Cursor, Links, Order, Pool, Seq, Slab};

use super::nodes::{MANY_NODES, leaves_first_ones};
use super::{Board, EMPTY, Ends, Fate, Flight, NONE, Sent};

/// The nodes of one connection.
#[derive(Debug)]
pub(crate) struct Flown {
    /// Whose sums are those of the nodes.
    flight: Flight,
    /// In the order of their numbers.
    nodes: Vec<Sent>,
    /// Places among them: of what is in flight and of what is held lost, in the order of their lists; and of the highest SACKed.
    timed: Vec<u32>,
    missing: Vec<u32>,
    hint: Option<u32>,
}

impl Flown {
    /// Whether there is room for all of it.
    pub(crate) fn fits(&self, nodes: &Slab<Sent>) -> bool {
        let more = self.nodes.len() as u32;
        leaves_first_ones(nodes, more) || more <= 1 && !nodes.is_full()
    }
}

impl Board<'_> {
    /// Takes all nodes out of the slab.
    pub(crate) fn take_out(&mut self) -> Flown {
        let mut places = BTreeMap::new();
        let mut node = self.flight.head;
        while let Some(sent) = self.nodes.at(node) {
            places.insert(node, places.len() as u32);
            node = sent.next;
        }
        let (timed, missing) = (self.flight.timed, self.flight.missing);
        let [timed, missing] = [timed, missing].map(|list| self.placed(list, &places));
        let hint = places.get(&self.flight.hint).copied();
        let mut nodes = Vec::with_capacity(places.len());
        let mut node = self.flight.head;
        while let Some(sent) = self.nodes.remove_at(node) {
            node = sent.next;
            nodes.push(sent);
        }
        Flown {
            flight: core::mem::replace(self.flight, Flight::EMPTY),
            nodes,
            timed,
            missing,
            hint,
        }
    }

    fn placed(&self, list: Ends, places: &BTreeMap<u32, u32>) -> Vec<u32> {
        let mut node = list.first;
        let next = || {
            let place = *places.get(&node)?;
            node = self.nodes.at(node)?.after;
            Some(place)
        };
        core::iter::from_fn(next).collect()
    }

    /// Puts nodes into a slab, where nothing is in flight yet; the bytes from `una` on are in `queue`. False when there is no room,
    /// with some of them put in.
    pub(crate) fn put_in(
        &mut self,
        pool: &Pool,
        flown: Flown,
        (queue, una): (&Chain, Seq),
    ) -> bool {
        *self.flight = Flight {
            head: NONE,
            tail: NONE,
            timed: EMPTY,
            missing: EMPTY,
            hint: NONE,
            nodes: 0,
            ..flown.flight
        };
        let mut known: Option<(Cursor, Seq)> = None;
        let mut indices = Vec::with_capacity(flown.nodes.len());
        for sent in flown.nodes {
            let place = sent.place.and_then(|_| match &known {
                None => pool.cursor(queue, sent.start.dist(una) as usize),
                Some((place, at)) => {
                    let further = pool.seek(place, sent.start.dist(*at) as usize);
                    further.map(|(place, _)| place)
                }
            });
            known = place.map(|place| (place, sent.start)).or(known);
            let Some(key) = self.nodes.insert(Sent {
                place,
                next: NONE,
                before: NONE,
                after: NONE,
                links: Links::APART,
                order: Order::EMPTY,
                ..sent
            }) else {
                return false;
            };
            match self.nodes.at_mut(self.flight.tail) {
                Some(last) if self.flight.tail != NONE => last.next = key.index,
                _ => self.flight.head = key.index,
            }
            self.flight.tail = key.index;
            self.flight.nodes += 1;
            indices.push(key.index);
        }
        let at = |place: u32| indices.get(place as usize).copied();
        for node in flown.timed.into_iter().filter_map(at) {
            self.link(node, Fate::InFlight, self.flight.timed.last);
        }
        for node in flown.missing.into_iter().filter_map(at) {
            self.link(node, Fate::Lost, self.flight.missing.last);
        }
        self.flight.hint = flown.hint.and_then(at).unwrap_or(NONE);
        if self.flight.nodes >= MANY_NODES {
            self.order_all();
        }
        true
    }
}
