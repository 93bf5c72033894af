//! SYN cookies (RFC 4987 3.6): a half-open connection that costs nothing, because all of it is in the numbers of its SYN-ACK.
//!
//! The initial sequence number holds a keyed hash of the tuple, the client's number and the minute, and which of eight MSS the
//! client can take. With timestamps, the low bits of ours hold the window shift and whether the client can SACK, for it sends
//! them back; Linux keeps the same there. Without timestamps the connection does without both.
//!
//! What does not live here: when cookies are sent (`listen`).
//!
//! Invariant: a cookie is taken in the minute it was made in and the next, and only by a listener that has sent some lately.

use core::time::Duration;

use base::{Chain, Instant, Key, Seq, SipKey, TimerId, siphash24};
use wire::Addr;
use wire::tcp::Flags;

use crate::context::Core;
use crate::net::Net;
use crate::stats::{Count, Drop};

use super::listen::Listener;
use super::record::{HalfOpen, half};
use super::segment::{Segment, flow_bytes};
use super::share::Caller;
use super::tunables::TcpTunables;
use super::{KIND_CONNECTION, KIND_HALF_OPEN, KIND_SHIFT, Known, Tcp, flow_index};

/// Payload sizes a cookie can name, by family. The largest that is no more than what the client takes is used. Linux names four
/// of each: large ones over IPv6 only.
const SIZES_V4: [u16; 8] = [48, 216, 536, 1024, 1220, 1300, 1440, 1460];
const SIZES_V6: [u16; 8] = [48, 216, 536, 1220, 1300, 1420, 1440, 8940];
/// Bits of the number that are the hash; above it are two of the minute and three of the size.
const HASH_BITS: u32 = 27;
/// For so long after the last cookie sent, an ACK for no connection may carry one.
pub(super) const VALID: Duration = Duration::from_secs(120);

/// Low bits of our timestamp that hold what was agreed on: four for the window shift, one for SACK, one kept for ECN.
const STAMP_BITS: u32 = 6;
/// For so long after a change of windows it is not known of a stamp whether it is from before.
pub(super) const BLUR_MS: u32 = 2 << STAMP_BITS;
const SHIFT: u32 = 0xf;
const SACK: u32 = 1 << 4;

/// Makes and checks cookies.
#[derive(Debug)]
pub(super) struct Cookies {
    key: SipKey,
}

impl Cookies {
    pub(super) fn new(key: SipKey) -> Self {
        Self { key }
    }

    /// A hash of one handshake; `salt` tells what for.
    fn hash(&self, flow: &[u8], irs: Seq, salt: u64) -> u32 {
        let mut bytes = [0; 48];
        bytes[..4].copy_from_slice(&irs.0.to_be_bytes());
        bytes[4..12].copy_from_slice(&salt.to_be_bytes());
        let all = 12 + flow.len().min(36);
        bytes[12..all].copy_from_slice(&flow[..all - 12]);
        siphash24(&self.key, &bytes[..all]) as u32
    }

    /// What the minute and the size are hidden in, so that all of the number looks random.
    fn mask(&self, flow: &[u8], irs: Seq) -> u32 {
        self.hash(flow, irs, u64::MAX)
    }

    fn value(&self, flow: &[u8], irs: Seq, minute: u64, size: u32) -> u32 {
        let hash = self.hash(flow, irs, minute << 3 | u64::from(size));
        (minute as u32 & 3) << 30 | size << HASH_BITS | (hash & ((1 << HASH_BITS) - 1))
    }

    /// Our initial number for a SYN with number `irs` from a client that takes segments of `mss` bytes.
    pub(super) fn make(&self, flow: &[u8], irs: Seq, now: Instant, mss: u16) -> Seq {
        let size = sizes(flow).iter().rposition(|&s| s <= mss).unwrap_or(0) as u32;
        Seq(self.value(flow, irs, minute(now), size) ^ self.mask(flow, irs))
    }

    /// The size a cookie names, if it is one of ours for this handshake and not too old.
    pub(super) fn check(&self, flow: &[u8], irs: Seq, now: Instant, cookie: Seq) -> Option<u16> {
        let value = cookie.0 ^ self.mask(flow, irs);
        let size = value >> HASH_BITS & 7;
        let now = minute(now);
        let age = (now as u32).wrapping_sub(value >> 30) & 3;
        let made = now.checked_sub(u64::from(age)).filter(|_| age <= 1)?;
        (self.value(flow, irs, made, size) == value).then_some(sizes(flow)[size as usize & 7])
    }
}

fn sizes(flow: &[u8]) -> &'static [u16; 8] {
    if flow.len() < 36 {
        &SIZES_V4
    } else {
        &SIZES_V6
    }
}

fn minute(now: Instant) -> u64 {
    now.millis() / 60_000
}

/// Our clock with what was agreed on in its low bits; never ahead of the clock, or later timestamps would seem older.
pub(super) fn stamp(clock: u32, h: &HalfOpen) -> u32 {
    let sack = if h.flags & half::SACK != 0 { SACK } else { 0 };
    let kept = u32::from(h.scales) & SHIFT | sack;
    let stamp = clock >> STAMP_BITS << STAMP_BITS | kept;
    if stamp > clock {
        stamp.wrapping_sub(1 << STAMP_BITS)
    } else {
        stamp
    }
}

/// What SYN-ACKs with cookies said of our window before that changed, while such cookies are good: nothing of a handshake is kept,
/// and its window must hold all the same (RFC 9293 SHLD-14).
#[derive(Debug, Clone, Copy)]
struct Change {
    until: Instant,
    /// The clock of the stamps when it changed.
    changed: u32,
    shift: u8,
    window: u32,
}

impl Change {
    /// Whether a stamp was made before it.
    fn follows(&self, stamp: u32) -> bool {
        self.changed.wrapping_sub(stamp >> STAMP_BITS << STAMP_BITS) as i32 >= 0
    }
}

/// The last changes of a listener, the oldest first.
#[derive(Debug, Default, Clone)]
pub(super) struct Earlier(Vec<Change>);

impl Earlier {
    /// Changes that are remembered. Of more the oldest are not, and cookies from before those come to nothing good.
    const MOST: usize = 16;

    /// What is changed now said this, by cookies that are good until then.
    pub(super) fn changed(&mut self, now: Instant, until: Instant, (shift, window): (u8, u32)) {
        self.0.retain(|change| now < change.until);
        if self.0.len() >= Self::MOST {
            self.0.remove(0);
        }
        self.0.push(Change {
            until,
            changed: now.millis() as u32 >> STAMP_BITS << STAMP_BITS,
            shift,
            window,
        });
    }

    /// What a cookie said whose ACK brings this stamp, if something was changed since: shift and window. Without a stamp there is no
    /// shift, and the window is the largest it may have been.
    fn said(&self, now: Instant, stamp: Option<u32>) -> Option<(u8, u32)> {
        let mut good = self.0.iter().filter(|change| now < change.until);
        let change = match stamp {
            Some(stamp) => good.find(|change| change.follows(stamp)),
            None => good.max_by_key(|change| change.window),
        };
        change.map(|change| (change.shift, change.window))
    }

    /// Whether stamps made now may be taken for ones from before a change: these are up to two steps behind the clock.
    fn blurs(&self, now: Instant) -> bool {
        let since = |change: &Change| (now.millis() as u32).wrapping_sub(change.changed);
        self.0.iter().any(|change| since(change) < BLUR_MS)
    }
}

/// Window shift (`0xff`: none) and whether SACK was agreed on, as [`stamp`] put it.
fn read_stamp(echo: u32) -> (u8, bool) {
    let scale = match echo & SHIFT {
        SHIFT => 0xff,
        shift => shift as u8,
    };
    (scale, echo & SACK != 0)
}

impl Tcp {
    /// Whether cookies made now say nothing of a window shift: whoever takes their ACK could not tell which was said, see [`Earlier`].
    pub(super) fn shift_is_blurred(&self, now: Instant, listener: u32) -> bool {
        let l = self.listeners.at(listener);
        l.is_some_and(|l| l.earlier.blurs(now) || self.shift_is_moot(now, l))
    }

    /// The host's tunables were others before: what cookies said by those holds.
    pub(super) fn keep_cookies(&mut self, core: &Core, before: &TcpTunables) {
        let waits = |(key, l): (Key, &Listener)| {
            let said = l.options.window_terms(before);
            let until = self.cookies_until(l);
            let changed = said != l.options.window_terms(&core.tcp);
            changed.then_some((key.index, until, said))
        };
        let changed: Vec<_> = self.listeners.iter().filter_map(waits).collect();
        for (index, until, said) in changed {
            if let Some(l) = self.listeners.at_mut(index).filter(|_| core.now < until) {
                l.earlier.changed(core.now, until, said);
            }
            self.terms_changed(core, index);
        }
    }

    /// The half-open connection that an ACK with a cookie is the only trace of. Its profile is not acquired yet.
    fn cookie_of(&self, now: Instant, listener: u32, seg: &Segment) -> Option<HalfOpen> {
        self.listeners
            .at(listener)
            .filter(|l| now < self.cookies_until(l))?;
        let flow = flow_bytes(&seg.src, seg.src_port, &seg.dst, seg.dst_port);
        let (irs, iss) = (
            Seq(seg.seq.0.wrapping_sub(1)),
            Seq(seg.ack.0.wrapping_sub(1)),
        );
        let mss = self.cookies.check(&flow, irs, now, iss)?;
        let (mut scale, mut sack) = (0xff, false);
        if let Some((_, echo)) = seg.timestamps {
            (scale, sack) = read_stamp(echo.wrapping_sub(self.timestamp_offset(&flow)));
        }
        let flags = if seg.timestamps.is_some() {
            half::TIMESTAMPS | half::COOKIE
        } else {
            half::COOKIE
        };
        Some(HalfOpen {
            remote: seg.src,
            remote_port: seg.src_port,
            local_port: seg.dst_port,
            profile: 0,
            listener: listener as u16,
            iss,
            irs,
            ts_recent: seg.timestamps.map_or(0, |(tsval, _)| tsval),
            timer: TimerId::NONE,
            mss,
            scales: scale,
            flags: if sack { flags | half::SACK } else { flags },
            retries: 0,
            ecn: 0,
            challenged: 0,
        })
    }

    /// An ACK for a listener: with a cookie of ours it ends a handshake, anything else is reset (RFC 9293 3.10.7.2). But while
    /// cookies are about, data without one may have overtaken the segment that has it, or found the accept queue open after
    /// that one found it full. It is dropped, and sent again, in order (Linux resets it).
    #[cold]
    pub(super) fn at_cookie(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        listener: u32,
        seg: &Segment,
        data: Chain,
    ) {
        let expected = self
            .listeners
            .at(listener)
            .is_some_and(|l| core.now < self.cookies_until(l));
        let found = if seg.has(Flags::SYN) {
            None
        } else {
            self.cookie_of(core.now, listener, seg)
        };
        let Some(mut h) = found else {
            if expected {
                core.count(Count::TcpSynCookiesFailed);
            }
            core.drop_packet(data, Drop::TcpListenRefused);
            if expected && seg.sequence_len() > 0 && !seg.has(Flags::SYN) {
                return;
            }
            return self.send_reset(core, net, seg);
        };
        core.count(Count::TcpSynCookiesReceived);
        if self.accept_queue_full(listener) {
            self.count_listen_drop(core, listener, Drop::TcpAcceptQueueFull);
            return core.drop_packet(data, Drop::TcpAcceptQueueFull);
        }
        match self.open_cookie(core, net, &mut h, seg) {
            Some(connection) => self.at_connection(core, net, connection, seg, data),
            None => {
                self.count_listen_drop(core, listener, Drop::TcpTableFull);
                core.drop_packet(data, Drop::TcpTableFull);
            }
        }
    }

    /// Makes the connection. `None` when a table is full.
    fn open_cookie(
        &mut self,
        core: &mut Core,
        net: &Net,
        h: &mut HalfOpen,
        seg: &Segment,
    ) -> Option<u32> {
        let listener = u32::from(h.listener);
        let l = self.listeners.at(listener)?;
        let flow = flow_bytes(&seg.src, seg.src_port, &seg.dst, seg.dst_port);
        let stamp = seg.timestamps;
        let stamp = stamp.map(|(_, echo)| echo.wrapping_sub(self.timestamp_offset(&flow)));
        // Near a change a stamp may be of either side: a cookie that says no shift then holds to the most that was offered.
        let stamp = stamp.filter(|_| h.scales != 0xff);
        let earlier = l.earlier.said(core.now, stamp);
        let options = &l.options;
        let mut granted = earlier.map_or(0, |(_, window)| window);
        if h.scales == 0xff {
            // Whichever of those that share the address has answered.
            granted = granted.max(self.granted_by_any(l));
        } else {
            let now = || options.window_shift(&core.tcp);
            h.scales |= earlier.map_or_else(now, |(shift, _)| shift) << 4;
        }
        h.profile = self.profiles.acquire(
            seg.dst,
            &options.begun(&core.tcp, net, (&seg.src, &seg.dst)),
        )?;
        let mut tcb = self.passive(core, h, seg);
        tcb.rcv_adv = tcb.rcv_adv.max(tcb.rcv_nxt + granted);
        let Some(key) = self.conns.insert(tcb) else {
            self.profiles.release(h.profile);
            return None;
        };
        let entry = flow_index(KIND_CONNECTION, key.index);
        if self.flows.insert(seg.hash, entry).is_err() {
            self.conns.remove(key);
            self.profiles.release(h.profile);
            return None;
        }
        self.opened(core, (listener, key.index), 0);
        Some(key.index)
    }

    /// Whether this host knows a tuple: a connection, a half-open one, TIME-WAIT, or the cookie in an ACK with these numbers.
    /// One probe of the table; the listeners are asked only when it finds nothing.
    pub(crate) fn knows(
        &self,
        now: Instant,
        (remote, remote_port): (Addr, u16),
        (local, local_port): (Addr, u16),
        (seq, ack): (Seq, Seq),
    ) -> Option<Known> {
        let flow = flow_bytes(&remote, remote_port, &local, local_port);
        let hash = self.flows.hash(&flow);
        let found = self.flows.find(hash, |entry| {
            self.matches(entry, &remote, remote_port, &local, local_port)
        });
        if let Some(entry) = found {
            return Some(match entry >> KIND_SHIFT {
                KIND_CONNECTION => Known::Connection,
                KIND_HALF_OPEN => Known::HalfOpen,
                _ => Known::TimeWait,
            });
        }
        let expects = |came_by| {
            let listener = self.listener_for(&Caller {
                remote: (remote, remote_port),
                local: (local, local_port),
                hash,
                data: None,
                came_by,
            });
            let listener = listener.and_then(|listener| self.listeners.at(listener));
            listener.is_some_and(|l| now < self.cookies_until(l))
        };
        let bound = self.devices_listened();
        if !(expects(None) || bound.map(Some).any(expects)) {
            return None;
        }
        let (irs, iss) = (Seq(seq.0.wrapping_sub(1)), Seq(ack.0.wrapping_sub(1)));
        let cookie = self.cookies.check(&flow, irs, now, iss);
        cookie.map(|_| Known::Cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: [u8; 12] = [10, 0, 0, 2, 10, 0, 0, 1, 0x13, 0x88, 0, 80];

    fn cookies() -> Cookies {
        Cookies::new(SipKey([7; 16]))
    }

    #[test]
    fn a_cookie_names_the_largest_size_the_client_takes() {
        let cookies = cookies();
        let now = Instant::from_secs(1000);
        for (mss, kept) in [
            (48, 48),
            (535, 216),
            (536, 536),
            (1460, 1460),
            (65_535, 1460),
        ] {
            let cookie = cookies.make(&FLOW, Seq(5), now, mss);
            assert_eq!(cookies.check(&FLOW, Seq(5), now, cookie), Some(kept));
        }
        let cookie = cookies.make(&[6; 36], Seq(5), now, 9000);
        assert_eq!(cookies.check(&[6; 36], Seq(5), now, cookie), Some(8940));
    }

    #[test]
    fn a_cookie_is_good_for_its_handshake_and_two_minutes() {
        let cookies = cookies();
        let made = Instant::from_secs(6000);
        let cookie = cookies.make(&FLOW, Seq(5), made, 1460);
        let check = |irs, after: u64, cookie| {
            let now = Instant::from_secs(6000 + after);
            cookies.check(&FLOW, Seq(irs), now, cookie)
        };
        assert_eq!(check(5, 0, cookie), Some(1460));
        assert_eq!(check(5, 119, cookie), Some(1460));
        for later in 2..20 {
            assert_eq!(check(5, later * 60, cookie), None, "{later} minutes");
        }
        assert_eq!(check(6, 0, cookie), None, "another client number");
        let mut other = FLOW;
        other[3] = 3;
        assert_eq!(cookies.check(&other, Seq(5), made, cookie), None);
        for bit in 0..32 {
            assert_eq!(check(5, 0, Seq(cookie.0 ^ 1 << bit)), None, "bit {bit}");
        }
        let other_key = Cookies::new(SipKey([8; 16]));
        assert_eq!(other_key.check(&FLOW, Seq(5), made, cookie), None);
    }

    #[test]
    fn what_was_agreed_on_comes_back_in_the_timestamp() {
        let mut h = HalfOpen {
            remote: Addr::v4(10, 0, 0, 2),
            remote_port: 1,
            local_port: 2,
            profile: 0,
            listener: 0,
            iss: Seq(0),
            irs: Seq(0),
            ts_recent: 0,
            timer: TimerId::NONE,
            mss: 1460,
            scales: 0,
            flags: 0,
            retries: 0,
            ecn: 0,
            challenged: 0,
        };
        for clock in [100_000, 100_063, 64, u32::MAX] {
            for scale in [0, 7, 14, 0xff] {
                for flags in [0, half::SACK] {
                    (h.scales, h.flags) = (scale, flags);
                    let stamped = stamp(clock, &h);
                    assert_eq!(read_stamp(stamped), (scale, flags != 0));
                    assert!(clock - stamped < 128, "never ahead, hardly behind");
                }
            }
        }
    }
}
