//! Local ports: which of them have listeners, and in which order ephemeral ones are tried (RFC 6056).
//!
//! What does not live here: whether a connection's 4-tuple is free (the flow table knows), the listeners themselves.
//!
//! Invariant: asking whether a port has a listener costs one read, however many listeners there are.

use base::{Rng, SipKey, siphash};

/// Ports there are.
const PORTS: usize = 1 << 16;
/// RFC 6056 3.3.4: counters of the double-hash selection. So many that hardly two destinations share one: each would count what
/// goes to the other, and which of them do so tells hosts apart (CVE-2022-1012; as many as Linux has).
const COUNTERS: usize = 1 << 16;
/// How far a counter moves beyond the port taken, at most: what one destination sees tells little of the others.
const NOISE: u32 = 8;

/// The local ports of one host.
#[derive(Debug)]
pub(crate) struct LocalPorts {
    /// Listeners by port: at most 65,535 on all of them.
    listeners: Vec<u16>,
    first: u16,
    range: u32,
    key: SipKey,
    counters: Vec<u16>,
}

/// The ephemeral ports, each once, in the order in which they are to be tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    first: u16,
    range: u32,
    start: u32,
    counter: usize,
}

impl Order {
    pub(crate) fn iter(self) -> impl Iterator<Item = u16> {
        (0..self.range).map(move |n| self.first + ((self.start + n) % self.range) as u16)
    }
}

impl LocalPorts {
    /// How many ephemeral ports there are.
    pub(crate) fn range(&self) -> u32 {
        self.range
    }

    pub(crate) fn new((first, last): (u16, u16), key: SipKey, rng: &mut Rng) -> Self {
        // They begin anywhere. A few numbers do for all, for the keyed hash hides where each begins.
        let begin: [u16; 64] = core::array::from_fn(|_| rng.u32() as u16);
        Self {
            listeners: vec![0; PORTS],
            first,
            range: u32::from(last.saturating_sub(first)) + 1,
            key,
            counters: begin.repeat(COUNTERS / begin.len()),
        }
    }

    /// Whether a listener has this port, on any address.
    pub(crate) fn listens(&self, port: u16) -> bool {
        self.listeners[usize::from(port)] != 0
    }

    pub(crate) fn add_listener(&mut self, port: u16) {
        self.listeners[usize::from(port)] += 1;
    }

    pub(crate) fn remove_listener(&mut self, port: u16) {
        self.listeners[usize::from(port)] -= 1;
    }

    /// The order for a connection between these addresses (`flow` with a local port of 0): RFC 6056 3.3.4.
    pub(crate) fn order(&self, flow: &[u8]) -> Order {
        let mix = siphash(&self.key, flow);
        let counter = (mix >> 32) as usize % COUNTERS;
        Order {
            first: self.first,
            range: self.range,
            start: (mix as u32).wrapping_add(u32::from(self.counters[counter])) % self.range,
            counter,
        }
    }

    /// The order for a listener: from a random port on.
    pub(crate) fn random_order(&self, rng: &mut Rng) -> Order {
        Order {
            first: self.first,
            range: self.range,
            start: rng.below(self.range),
            counter: 0,
        }
    }

    /// A port was taken from `order`: the next connection begins behind it.
    pub(crate) fn taken(&mut self, order: &Order, port: u16, rng: &mut Rng) {
        let at = u32::from(port - order.first);
        let tried = (at + order.range - order.start) % order.range;
        let counter = &mut self.counters[order.counter];
        *counter = counter.wrapping_add((tried + 1 + rng.below(NOISE)) as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6056 3.3.4: where one destination's ports begin tells nothing of another's, not even if they share a counter.
    #[test]
    fn who_shares_a_counter_begins_elsewhere() {
        let ports = LocalPorts::new((32_768, 60_999), SipKey([7; 16]), &mut Rng::from_seed(1));
        let mut known: Vec<Order> = Vec::new();
        let (mut shared, mut near) = (0, 0);
        for n in 0..3000_u32 {
            let order = ports.order(&n.to_be_bytes());
            for other in known.iter().filter(|o| o.counter == order.counter) {
                shared += 1;
                near += u32::from(order.start.abs_diff(other.start) < 500);
            }
            known.push(order);
        }
        assert!(
            (30..140).contains(&shared),
            "of 4.5 million pairs: {shared}"
        );
        assert!(near * 10 < shared, "{near} of {shared}");
    }
}
