//! What destinations are known to do with Fast Open (RFC 7413 4.1.3), and paths that swallow it (4.1.3.1).
//!
//! What does not live here: what a connection makes of it (`client`).
//!
//! Invariant: as many entries as at start; a new one takes the place of the oldest of four.
//! Invariant: an entry is good for a day after it was last confirmed.

use core::time::Duration;

use base::{Instant, SipKey, siphash};
use wire::Addr;
use wire::tcp::FastOpen;

/// Entries a destination may be in.
const WAYS: usize = 4;
const AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long a destination is spared after its second loss in a row of a SYN with the option; doubled for each further one.
const SPARED: Duration = Duration::from_secs(120);
const MOST_DOUBLINGS: u8 = 9;
/// The pause after a black hole is doubled at most so often.
const HOLE_DOUBLINGS: u8 = 6;

#[derive(Debug, Clone, Copy)]
struct Entry {
    addr: Addr,
    cookie: Option<FastOpen>,
    /// The experimental form of the option is tried next; that is over.
    tries: Tries,
    mss: u16,
    seen: Instant,
    /// SYNs with the option lost in a row.
    losses: u8,
}

/// How the option is asked for where it was asked for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tries {
    Regular,
    Experimental,
    Over,
}

/// What a destination is known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// The cookie, or how to ask for one; `None`: neither, for now.
    pub(super) option: Option<FastOpen>,
    /// The MSS its last SYN-ACK announced.
    pub(super) mss: Option<u16>,
}

/// What a SYN-ACK said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lesson {
    pub(super) mss: u16,
    pub(super) cookie: Option<FastOpen>,
    /// A SYN with the option was lost, and the one without was answered.
    pub(super) lost: bool,
    /// A cookie was asked for in vain; whether in the experimental form.
    pub(super) in_vain: Option<bool>,
}

/// The cookies of one host.
#[derive(Debug)]
pub(crate) struct Cache {
    slots: Vec<Option<Entry>>,
    key: SipKey,
}

impl Cache {
    pub(crate) fn new(capacity: u32, key: SipKey) -> Self {
        let sets = (capacity as usize / WAYS).max(1);
        Self {
            slots: vec![None; sets * WAYS],
            key,
        }
    }

    fn set(&mut self, addr: &Addr) -> &mut [Option<Entry>] {
        let sets = self.slots.len() / WAYS;
        let at = siphash(&self.key, &addr.0) as usize % sets * WAYS;
        &mut self.slots[at..at + WAYS]
    }

    pub(super) fn get(&mut self, now: Instant, addr: &Addr) -> Known {
        let nothing = Known {
            option: Some(FastOpen::REQUEST),
            mss: None,
        };
        let found = self.set(addr).iter().flatten().find(|e| e.addr == *addr);
        let Some(entry) = found.filter(|entry| now - entry.seen < AGE) else {
            return nothing;
        };
        let doublings = entry.losses.saturating_sub(2).min(MOST_DOUBLINGS);
        let spared = entry.losses > 1 && now - entry.seen < SPARED * (1 << doublings);
        let ask = FastOpen::new(&[], entry.tries == Tries::Experimental);
        Known {
            option: entry.cookie.or(ask).filter(|_| !spared),
            mss: Some(entry.mss),
        }
    }

    pub(super) fn learn(&mut self, now: Instant, addr: &Addr, lesson: Lesson) {
        let set = self.set(addr);
        let known = set
            .iter()
            .position(|slot| slot.is_some_and(|e| e.addr == *addr));
        let place = known.or_else(|| {
            let seen = |at: &usize| set[*at].map_or(Instant::ZERO, |entry| entry.seen);
            (0..set.len()).min_by_key(seen)
        });
        let Some(slot) = place.and_then(|at| set.get_mut(at)) else {
            return;
        };
        let before = slot.filter(|entry| known.is_some() && now - entry.seen < AGE);
        let mut entry = before.unwrap_or(Entry {
            addr: *addr,
            cookie: None,
            tries: Tries::Regular,
            mss: lesson.mss,
            seen: now,
            losses: 0,
        });
        (entry.mss, entry.seen) = (lesson.mss, now);
        if lesson.cookie.is_some() {
            entry.cookie = lesson.cookie;
        } else if let (Some(experimental), None) = (lesson.in_vain, entry.cookie) {
            let next = if experimental {
                Tries::Over
            } else {
                Tries::Experimental
            };
            entry.tries = entry.tries.max(next);
        }
        entry.losses = if lesson.lost {
            entry.losses.saturating_add(1)
        } else {
            0
        };
        *slot = Some(entry);
    }
}

/// Whether some path of this host swallows what Fast Open sends: then it rests, for longer each time.
#[derive(Debug, Default)]
pub(crate) struct BlackHole {
    times: u8,
    since: Option<Instant>,
}

impl BlackHole {
    /// Whether Fast Open rests; `timeout` 0 means never.
    pub(super) fn rests(&self, now: Instant, timeout_sec: u32) -> bool {
        let doublings = self.times.saturating_sub(1).min(HOLE_DOUBLINGS);
        let rest = Duration::from_secs(u64::from(timeout_sec)) * (1 << doublings);
        self.since.is_some_and(|since| now - since < rest)
    }

    pub(super) fn found(&mut self, now: Instant) {
        self.times = self.times.saturating_add(1);
        self.since = Some(now);
    }

    /// A connection with data on its SYN went well.
    pub(super) fn gone(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u32) -> Addr {
        let [a, b, c, d] = n.to_be_bytes();
        Addr::v4(10 ^ a, b, c, d)
    }

    fn lesson(cookie: u8) -> Lesson {
        Lesson {
            mss: 1000 + u16::from(cookie),
            cookie: FastOpen::new(&[cookie; 8], false),
            lost: false,
            in_vain: None,
        }
    }

    #[test]
    fn cookies_are_kept_with_their_mss_for_a_day_and_bounded() {
        let mut cache = Cache::new(64, SipKey([1; 16]));
        let now = Instant::from_secs(1000);
        assert_eq!(cache.get(now, &addr(1)).option, Some(FastOpen::REQUEST));
        cache.learn(now, &addr(1), lesson(7));
        let known = cache.get(now, &addr(1));
        assert_eq!(known.option, FastOpen::new(&[7; 8], false));
        assert_eq!(known.mss, Some(1007));
        let later = now + AGE;
        let asks = cache.get(later, &addr(1));
        assert_eq!((asks.option, asks.mss), (Some(FastOpen::REQUEST), None));
        for n in 0..10_000 {
            cache.learn(later, &addr(n), lesson(1));
        }
        assert_eq!(cache.slots.len(), 64);
        let kept = (0..10_000).filter(|n| cache.get(later, &addr(*n)).mss.is_some());
        assert_eq!(kept.count(), 64);
    }

    #[test]
    fn who_gives_no_cookie_is_asked_in_the_other_form_once() {
        let mut cache = Cache::new(64, SipKey([1; 16]));
        let now = Instant::from_secs(1000);
        for (experimental, next) in [(false, true), (true, false), (false, false)] {
            let in_vain = Lesson {
                cookie: None,
                in_vain: Some(experimental),
                ..lesson(1)
            };
            cache.learn(now, &addr(1), in_vain);
            let option = cache.get(now, &addr(1)).option.unwrap();
            assert!(option.is_request() && option.experimental == next);
        }
    }

    #[test]
    fn destinations_that_lose_the_option_are_spared_for_longer_each_time() {
        let mut cache = Cache::new(64, SipKey([1; 16]));
        let mut now = Instant::from_secs(1000);
        cache.learn(now, &addr(1), lesson(1));
        let lost = Lesson {
            lost: true,
            cookie: None,
            ..lesson(1)
        };
        cache.learn(now, &addr(1), lost);
        assert!(
            cache.get(now, &addr(1)).option.is_some(),
            "one may be chance"
        );
        for spared in [120, 240, 480] {
            cache.learn(now, &addr(1), lost);
            now += Duration::from_secs(spared - 1);
            assert_eq!(cache.get(now, &addr(1)).option, None);
            now += Duration::from_secs(1);
            assert_eq!(cache.get(now, &addr(1)).option, lesson(1).cookie);
        }
        cache.learn(now, &addr(1), lesson(1));
        cache.learn(now, &addr(1), lost);
        assert!(cache.get(now, &addr(1)).option.is_some(), "counted afresh");
    }

    #[test]
    fn a_black_hole_rests_fast_open_for_longer_each_time() {
        let mut hole = BlackHole::default();
        let now = Instant::from_secs(1000);
        assert!(!hole.rests(now, 3600));
        for doubled in [1, 2, 4, 8, 16, 32, 64, 64] {
            hole.found(now);
            let rest = Duration::from_secs(3600 * doubled);
            assert!(hole.rests(now + rest - Duration::from_secs(1), 3600));
            assert!(!hole.rests(now + rest, 3600));
        }
        assert!(!hole.rests(now, 0), "switched off");
        hole.gone();
        assert!(!hole.rests(now, 3600));
    }
}
