//! Delivery rate estimation (draft-ietf-ccwg-bbr 4.1): how fast the network delivered what was sent, measured between ACKs.
//!
//! What was delivered when something was sent is kept in some snapshots of the last two round trips, not with each segment: what
//! leaves in a part of a round trip shares one. A rate is measured from the snapshot on, so it is exact, over a time a little
//! longer.
//!
//! What does not live here: what follows from a rate (`bbr`). Times are microseconds.
//!
//! Invariant: counts of bytes wrap at 2^32, and are only compared within a few windows.

/// The state of delivery when something was sent.
#[derive(Debug, Clone, Copy, Default)]
struct Snapshot {
    at: u32,
    first_sent_at: u32,
    delivered_at: u32,
    delivered: u32,
    lost: u32,
    /// In flight with it.
    in_flight: u32,
    app_limited: bool,
}

/// What has been delivered of one connection. `N` snapshots are two round trips of them, a power of two up to 128.
#[derive(Debug)]
pub(crate) struct Rates<const N: usize> {
    snapshots: [Snapshot; N],
    /// How many there are, and which is the latest.
    count: u8,
    latest: u8,
    first_sent_at: u32,
    delivered_at: u32,
    delivered: u32,
    lost: u32,
    /// Until this is delivered, the application held sending back; `None`: it does not.
    limited_until: Option<u32>,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Bytes a second.
    pub(crate) rate: u64,
    /// Bytes delivered in the time measured, and in all when it began.
    pub(crate) delivered: u32,
    pub(crate) prior_delivered: u32,
    /// Bytes lost since, and in flight when that was sent.
    pub(crate) lost: u32,
    pub(crate) in_flight: u32,
    pub(crate) app_limited: bool,
}

impl Sample {
    /// More than 2 % were lost.
    pub(crate) fn is_too_high(&self) -> bool {
        u64::from(self.lost) * 50 > u64::from(self.in_flight)
    }
}

impl<const N: usize> Rates<N> {
    /// Into how many parts a round trip is cut.
    const SPACING: u32 = N as u32 / 2;

    pub(crate) fn new(now: u64) -> Self {
        Self {
            snapshots: [Snapshot::default(); N],
            count: 0,
            latest: 0,
            first_sent_at: now as u32,
            delivered_at: now as u32,
            delivered: 0,
            lost: 0,
            limited_until: None,
        }
    }

    pub(crate) fn delivered(&self) -> u32 {
        self.delivered
    }

    pub(crate) fn lost(&mut self, bytes: u32) {
        self.lost = self.lost.wrapping_add(bytes);
    }

    pub(crate) fn app_limited(&self) -> bool {
        self.limited_until.is_some()
    }

    /// The application has nothing more to send, with so much in flight.
    pub(crate) fn limit(&mut self, in_flight: u32) {
        self.limited_until = Some(self.delivered.wrapping_add(in_flight.max(1)));
    }

    /// Bytes leave, with `in_flight` on their way before; `rtt` spaces the snapshots.
    pub(crate) fn sent(&mut self, now: u64, bytes: u32, in_flight: u32, rtt: u32) {
        let at = now as u32;
        if in_flight == 0 {
            (self.first_sent_at, self.delivered_at) = (at, at);
        }
        let latest = &mut self.snapshots[usize::from(self.latest) % N];
        let app_limited = self.limited_until.is_some();
        if self.count > 0
            && in_flight > 0
            && at.wrapping_sub(latest.at) < rtt / Self::SPACING
            && latest.app_limited == app_limited
        {
            latest.in_flight = latest.in_flight.max(in_flight.saturating_add(bytes));
            return;
        }
        self.latest = (self.latest + 1) % N as u8;
        self.count = (self.count + 1).min(N as u8);
        self.snapshots[usize::from(self.latest)] = Snapshot {
            at,
            first_sent_at: self.first_sent_at,
            delivered_at: self.delivered_at,
            delivered: self.delivered,
            lost: self.lost,
            in_flight: in_flight.saturating_add(bytes),
            app_limited,
        };
    }

    /// The latest snapshot no later than `at`.
    fn snapshot(&self, at: u32) -> Option<Snapshot> {
        let mut found = None;
        for back in 0..usize::from(self.count) {
            let index = (usize::from(self.latest) + N - back) % N;
            let snapshot = self.snapshots[index];
            found = Some(snapshot);
            if at.wrapping_sub(snapshot.at) as i32 >= 0 {
                break;
            }
        }
        found
    }

    /// An ACK delivers `bytes`, the latest of which were sent at `sent_at`. None without a measurement that counts.
    pub(crate) fn sample(
        &mut self,
        now: u64,
        bytes: u32,
        sent_at: Option<u32>,
        min_rtt: u32,
    ) -> Option<Sample> {
        let now = now as u32;
        if bytes == 0 {
            return None;
        }
        self.delivered = self.delivered.wrapping_add(bytes);
        self.delivered_at = now;
        if let Some(until) = self.limited_until
            && (self.delivered.wrapping_sub(until) as i32) > 0
        {
            self.limited_until = None;
        }
        let from = self.snapshot(sent_at?)?;
        let send_elapsed = from.at.wrapping_sub(from.first_sent_at);
        let ack_elapsed = now.wrapping_sub(from.delivered_at);
        self.first_sent_at = from.at;
        let interval = send_elapsed.max(ack_elapsed);
        let delivered = self.delivered.wrapping_sub(from.delivered);
        // Shorter than a round trip cannot be.
        if interval == 0 || (min_rtt != u32::MAX && interval < min_rtt) {
            return None;
        }
        Some(Sample {
            rate: u64::from(delivered) * 1_000_000 / u64::from(interval),
            delivered,
            prior_delivered: from.delivered,
            lost: self.lost.wrapping_sub(from.lost),
            in_flight: from.in_flight,
            app_limited: from.app_limited,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: u32 = 100_000;

    /// Ten segments of 1000 bytes leave each 10 ms from 0 on, and are acknowledged one by one 100 ms later.
    fn steady<const N: usize>(rates: &mut Rates<N>, segments: u64) -> Option<Sample> {
        let mut last = None;
        for tick in 0..segments + 10 {
            let now = 1_000_000 + tick * 10_000;
            if tick >= 10 {
                let sent = (now - 100_000) as u32;
                last = rates.sample(now, 1000, Some(sent), RTT);
            }
            if tick < segments {
                rates.sent(now, 1000, 1000 * tick.min(9) as u32, RTT);
            }
        }
        last
    }

    /// Draft 4.1: a segment each 10 ms is 100,000 bytes a second.
    #[test]
    fn the_rate_is_of_what_was_delivered_between_sending_and_ack() {
        let (mut many, mut few) = (Rates::<32>::new(1_000_000), Rates::<4>::new(1_000_000));
        for sample in [steady(&mut many, 100), steady(&mut few, 100)] {
            let sample = sample.expect("a measurement");
            assert!((95_000..=105_000).contains(&sample.rate), "{sample:?}");
            assert!(!sample.app_limited && sample.lost == 0);
        }
        assert_eq!(many.delivered(), 100_000);
    }

    #[test]
    fn what_the_application_holds_back_is_told_apart() {
        let mut rates = Rates::<32>::new(0);
        rates.limit(0);
        rates.sent(1000, 1000, 0, RTT);
        let sample = rates.sample(101_000, 1000, Some(1000), RTT);
        assert!(sample.is_some_and(|s| s.app_limited));
        assert!(!rates.app_limited(), "what was sent before is delivered");
    }

    #[test]
    fn a_measurement_shorter_than_a_round_trip_is_none() {
        let mut rates = Rates::<32>::new(0);
        rates.sent(1000, 1000, 0, RTT);
        assert!(rates.sample(51_000, 1000, Some(1000), RTT).is_none());
    }

    #[test]
    fn losses_since_a_segment_left_count_against_what_was_in_flight() {
        let mut rates = Rates::<32>::new(0);
        rates.sent(1000, 1000, 99_000, RTT);
        rates.lost(2000);
        let sample = rates.sample(101_000, 1000, Some(1000), RTT);
        assert!(sample.is_some_and(|s| !s.is_too_high()), "2 % are borne");
        rates.sent(102_000, 1000, 99_000, RTT);
        rates.lost(2001);
        let sample = rates.sample(202_000, 1000, Some(102_000), RTT);
        assert!(sample.is_some_and(|s| s.is_too_high()));
    }
}
