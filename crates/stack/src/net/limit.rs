//! How many ICMP errors may be sent: a token bucket for the host and one for each destination (RFC 1812 4.3.2.8, RFC 4443 2.4 f).
//!
//! What does not live here: which errors are allowed at all (`icmp`).
//!
//! Invariant: an error that is not sent costs neither bucket anything.
//! Invariant: a flood of forged sources can empty the host's bucket, never reset a destination's.

use base::{Instant, Rng, SipKey};
use wire::Addr;

const SECOND: u64 = 1_000_000_000;
/// Buckets for destinations, found by a keyed hash.
const SLOTS: usize = 1024;
/// Errors a destination may get at once, and how long one takes to be granted anew (Linux: 6 and 1 s).
const DESTINATION_BURST: u64 = 6;
const DESTINATION_COST: u64 = SECOND;
/// Errors that may go out at once in all (Linux: 50).
const BURST: u64 = 50;
/// One error in so many costs two, so that nobody can count another's traffic by what is left to him (RFC 5927 has the idea;
/// the attack is known as SAD DNS).
const JITTER: u32 = 8;

/// Time that has been saved up; a grant costs some.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    credit: u64,
    since: Instant,
}

impl Bucket {
    /// Grants what has been saved up since last time; whether `cost` is there.
    fn fill(&mut self, now: Instant, cost: u64, most: u64) -> bool {
        let passed = u64::try_from((now - self.since).as_nanos()).unwrap_or(u64::MAX);
        self.credit = self.credit.saturating_add(passed).min(most);
        self.since = now;
        self.credit >= cost
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u64,
    bucket: Bucket,
}

/// The buckets of one host.
#[derive(Debug)]
pub(super) struct Limits {
    key: SipKey,
    host: Bucket,
    /// Nanoseconds one error costs; 0 when none is allowed.
    cost: u64,
    slots: Vec<Slot>,
}

impl Limits {
    /// At most `rate` errors a second in all.
    pub(super) fn new(rate: u32, key: SipKey) -> Self {
        let full = Bucket {
            credit: u64::MAX / 2,
            since: Instant::ZERO,
        };
        Self {
            key,
            host: full,
            cost: SECOND.checked_div(u64::from(rate)).unwrap_or(0),
            slots: vec![
                Slot {
                    tag: 0,
                    bucket: full
                };
                SLOTS
            ],
        }
    }

    /// Whether an error may go to `dst` now; if so it is paid for.
    pub(super) fn allow(&mut self, now: Instant, rng: &mut Rng, dst: &Addr) -> bool {
        if self.cost == 0 {
            return false;
        }
        let hash = self.key.hash(&dst.0);
        let slot = &mut self.slots[hash as usize % SLOTS];
        let refilled = now - slot.bucket.since
            >= core::time::Duration::from_nanos(DESTINATION_BURST * DESTINATION_COST);
        if slot.tag != hash && refilled {
            slot.tag = hash;
        }
        // Otherwise two destinations share a bucket for a while, which errs on the side of silence.
        let bucket = &mut slot.bucket;
        let price = if rng.below(JITTER) == 0 {
            2 * self.cost
        } else {
            self.cost
        };
        // Nobody pays for what the other refuses.
        if !bucket.fill(now, DESTINATION_COST, DESTINATION_BURST * DESTINATION_COST)
            || !self.host.fill(now, price, BURST * self.cost)
        {
            return false;
        }
        bucket.credit -= DESTINATION_COST;
        self.host.credit -= price;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_has_a_burst_and_then_one_a_second() {
        let mut limits = Limits::new(1000, SipKey([7; 16]));
        let mut rng = Rng::from_seed(1);
        let dst = Addr::v4(10, 0, 0, 1);
        let sent = |limits: &mut Limits, rng: &mut Rng, ms: u64| {
            limits.allow(Instant::from_millis(ms), rng, &dst)
        };
        let first = (0..20)
            .filter(|_| sent(&mut limits, &mut rng, 10_000))
            .count();
        assert_eq!(first, 6);
        assert!(!sent(&mut limits, &mut rng, 10_900));
        assert!(sent(&mut limits, &mut rng, 11_000));
        assert!(!sent(&mut limits, &mut rng, 11_000));
        // Another destination is not concerned.
        assert!(limits.allow(
            Instant::from_millis(11_000),
            &mut rng,
            &Addr::v4(10, 0, 0, 2)
        ));
    }

    #[test]
    fn the_host_is_limited_in_all_and_not_countable() {
        let mut limits = Limits::new(1000, SipKey([7; 16]));
        let mut rng = Rng::from_seed(2);
        let mut sent = 0;
        for n in 0..100_000u32 {
            let now = Instant::from_secs(10) + core::time::Duration::from_micros(u64::from(n) * 10);
            sent += u32::from(limits.allow(now, &mut rng, &Addr::from_bits(u128::from(n))));
        }
        // One second: the rate less what jitter takes, plus the burst.
        assert!((800..=1050).contains(&sent), "{sent}");
        assert!(!Limits::new(0, SipKey([7; 16])).allow(
            Instant::from_secs(9),
            &mut rng,
            &Addr::v4(1, 1, 1, 1)
        ));
    }
}
