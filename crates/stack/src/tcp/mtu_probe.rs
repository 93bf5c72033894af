//! Packetization layer path MTU discovery (RFC 4821, RFC 8899 3) as Linux has it: how long segments may be is found out by
//! sending one that is longer, where routers say nothing.
//!
//! # Theory of operation
//!
//! A connection that searches knows the longest packet that arrived for sure (`low`) and the longest that may (`high`), and sends
//! segments of `low`. When it has enough to send and nothing is missing, the first segment of what is new is as long as the middle
//! between the two. If the peer acknowledges it, `low` is that. If it is lost, and it alone, that says nothing of congestion
//! (RFC 4821 7.6.2): `high` is below it, and its bytes are sent again at once in short segments. If more is lost, or something
//! is sent again for another reason, it says nothing at all (7.6.4).
//!
//! `mtu_probing` says who searches: 1, connections whose timeouts suggest that long segments vanish (RFC 4821 7.7); 2, all. A
//! search begins at `base_mss`, and each further timeout of that kind halves it. When it has come to an end it begins anew after
//! `probe_interval`.
//!
//! What does not live here: what ICMP says of paths (`net::pmtu`), which is a bound for `high`.
//!
//! Invariant: a connection has a [`Search`] exactly while `more::SEARCH` is set, and costs nothing when it does not.
//! Invariant: at most one probe is under way, and it is in flight.
//! Invariant: no segment but a probe is longer than a packet of `low`, no probe longer than a packet of `high` or of the path.

use base::{Instant, Seq};

use crate::context::Core;
use crate::net::Path;
use crate::stats::Count;

use super::Tcp;
use super::beside::Beside;
use super::conn::Conn;
use super::output::{Way, headers, payload_for_mtu};
use super::profile::TcpOptions;
use super::record::{Repair, Tcb, flag, more};
use super::tunables::TcpTunables;

/// Segments the congestion window must have room for, as on Linux: a probe that is lost shall be found out by what follows.
const LEAST_WINDOW: u32 = 11;

/// The search of one connection. Lengths are of IP packets, bytes.
#[derive(Debug)]
pub(crate) struct Search {
    /// Packets so long arrive.
    low: u16,
    /// Longer ones do not.
    high: u16,
    /// How long the probe under way is; 0: none is.
    size: u16,
    /// Its numbers.
    start: Seq,
    end: Seq,
    /// Second (low 32 bits) at which the search began.
    since: u32,
}

impl Beside<Search> {
    /// The search of a connection that has one.
    #[inline]
    pub(super) fn of_mut(&mut self, connection: u32, tcb: &Tcb) -> Option<&mut Search> {
        if tcb.more & more::SEARCH == 0 {
            return None;
        }
        self.at_mut(connection)
    }

    /// Whether the search of a connection is what its records say.
    pub(super) fn audit(&self, connection: u32, tcb: &Tcb) -> Result<(), &'static str> {
        let search = self.at(connection);
        if search.is_some() != (tcb.more & more::SEARCH != 0) {
            return Err("a search for the path MTU of no connection, or none of one that searches");
        }
        let under_way = search.filter(|search| search.size != 0);
        if under_way.is_some_and(|s| s.end.le(tcb.snd_una) || s.end.gt(tcb.snd_nxt)) {
            return Err("a probe of the path MTU that is not in flight");
        }
        Ok(())
    }
}

impl Tcb {
    /// Bytes of a packet around the payload: headers, and the options of every segment.
    fn around(&self) -> u16 {
        headers(self.remote.is_v4()) + self.stamps()
    }

    /// Payload of a packet so long.
    fn mss_of(&self, mtu: u16, tunables: &TcpTunables) -> u16 {
        let least = tunables.min_snd_mss.saturating_sub(12).max(36) as u16;
        mtu.saturating_sub(self.around()).max(least)
    }

    fn mtu_of(&self, mss: u16) -> u16 {
        mss.saturating_add(self.around())
    }

    /// The longest packet the peer takes.
    fn longest(&self, options: &TcpOptions) -> u16 {
        let limit = options.max_segment.unwrap_or(u16::MAX);
        let taken = self.peer_mss.min(limit);
        taken.saturating_add(headers(self.remote.is_v4()))
    }
}

impl Tcp {
    /// The handshake has ended: a connection searches from the start if the host's do.
    #[inline]
    pub(super) fn start_search(&mut self, core: &Core, index: u32) {
        if core.tcp.mtu_probing > 1 {
            self.begin_search(core, index);
        }
    }

    /// A connection begins to search, at `base_mss`; one that is at it must do with half of what it has.
    fn begin_search(&mut self, core: &Core, index: u32) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        let base = core.tcp.base_mss as u16;
        let longest = tcb.longest(&self.profiles.get(tcb.profile).options);
        if let Some(search) = self.searches.of_mut(index, tcb) {
            let half = tcb.mss_of(search.low, &core.tcp) / 2;
            let floor = core.tcp.mtu_probe_floor.max(core.tcp.min_snd_mss) as u16;
            search.low = tcb.mtu_of(half.min(base).max(floor)).min(search.low);
            search.high = search.high.max(search.low);
        } else {
            let search = Search {
                low: tcb.mtu_of(base).min(longest),
                high: longest,
                size: 0,
                start: Seq(0),
                end: Seq(0),
                since: core.now.secs() as u32,
            };
            if !self.searches.open(index, search) {
                return;
            }
            tcb.more |= more::SEARCH;
        }
        if let Some(mut conn) = self.conn(index) {
            conn.shorten(&core.tcp);
        }
    }

    /// Whether there is no search but those of connections.
    pub(super) fn audit_searches(&self) -> Result<(), &'static str> {
        let conns = self.conns.iter();
        let searching = conns.filter(|(_, tcb)| tcb.more & more::SEARCH != 0);
        if self.searches.len() as usize == searching.count() {
            Ok(())
        } else {
            Err("a search for the path MTU of no connection")
        }
    }

    /// The timer goes off. Timeouts in a row of which R1 (RFC 9293 3.8.3) is one may mean that long segments vanish on the way
    /// (RFC 4821 7.7).
    #[cold]
    pub(super) fn look_for_mtu_black_hole(&mut self, core: &mut Core, index: u32) {
        let Some(tcb) = self.conns.at(index).filter(|t| t.outstanding() > 0) else {
            return;
        };
        let options = &self.profiles.get(tcb.profile).options;
        let silent = self.actives.at(tcb.active).is_some_and(|act| {
            act.rto_at <= core.now
                && u32::from(act.timeouts) >= core.tcp.retries1
                && !act.sent.is_empty()
        });
        if core.tcp.mtu_probing > 0 && silent && !tcb.opening() && !options.fragment {
            core.count(Count::TcpMtuBlackHoles);
            self.begin_search(core, index);
        }
    }
}

impl Conn<'_> {
    /// Segments are no longer than what is known to arrive.
    fn shorten(&mut self, tunables: &TcpTunables) {
        let Some(low) = self.search.as_ref().map(|search| search.low) else {
            return;
        };
        let fits = self.tcb.mss_of(low, tunables);
        if fits < self.tcb.mss {
            // As for a path that is narrower than the link.
            let options = &self.profile.options;
            if self.tcb.cwnd == options.initial_window(u32::from(self.tcb.mss)) {
                self.tcb.cwnd = options.initial_window(u32::from(fits));
            }
            self.tcb.mss = fits;
        }
    }

    /// The length of the next probe: packet and payload. `None` when the search has come to an end.
    fn next_probe(&self, core: &Core, path: &Path) -> Option<(u16, u16)> {
        let search = self.search.as_ref()?;
        let high = search.high.min(path.mtu);
        let apart = u32::from(high.checked_sub(search.low)?);
        if apart < core.tcp.probe_threshold {
            return None;
        }
        let size = search.low + (high - search.low) / 2;
        let len = self.tcb.mss_of(size, &core.tcp);
        (len > self.tcb.mss).then_some((size, len))
    }

    /// Sends a probe if it is time for one. `None` when new data shall wait until what is in flight makes room for it, as on
    /// Linux, else how many frames were sent.
    pub(super) fn probe_path(&mut self, core: &mut Core, way: &mut Way<'_>) -> Option<usize> {
        let flight = &self.act.flight;
        let calm = self.act.repair == Repair::Open && flight.sacked == 0 && flight.lost == 0;
        let (mss, pipe) = (u32::from(self.tcb.mss), self.pipe());
        let options = &self.profile.options;
        if self.search.as_ref().is_none_or(|search| search.size != 0)
            || !calm
            || self.tcb.cwnd < LEAST_WINDOW * mss
            || self.tcb.opening()
            || self.must_report_ranges()
            || self.urgent_mode().is_some()
            || options.fragment
            || way.path.locked
            || options.paces() && self.held_back(core.now)
        {
            return Some(0);
        }
        let Some((size, len)) = self.next_probe(core, &way.path) else {
            self.search_again(core);
            return Some(0);
        };
        let len = u32::from(len);
        let needed = len + (u32::from(self.tcb.reordering().max(3)) + 1) * mss;
        let unsent = self.act.unsent.len() as u32;
        if unsent < needed || self.first_record().0 < len || self.tcb.snd_wnd < needed {
            return Some(0);
        }
        if !self.window_fits(needed) || pipe + len > self.tcb.cwnd {
            return if pipe == 0 { Some(0) } else { None };
        }
        let start = self.tcb.snd_nxt;
        // It is one segment, whatever a device could cut it into.
        self.tcb.mss = len as u16;
        self.send_new(core, way, len);
        self.tcb.mss = mss as u16;
        if self.tcb.snd_nxt == start {
            return Some(0); // no memory
        }
        core.count(Count::TcpMtuProbes);
        if let Some(search) = &mut self.search {
            (search.size, search.start, search.end) = (size, start, start + len);
        }
        Some(1)
    }

    /// The path may carry more by now.
    fn search_again(&mut self, core: &Core) {
        let now = core.now.secs() as u32;
        let (low, high) = (
            self.tcb.mtu_of(self.tcb.mss),
            self.tcb.longest(&self.profile.options),
        );
        if let Some(search) = &mut self.search
            && now.wrapping_sub(search.since) >= core.tcp.probe_interval
        {
            (search.low, search.high, search.since) = (low.min(high), high, now);
        }
    }

    /// An ACK moved SND.UNA: perhaps over the probe, and then segments may be as long as it was. The window is in bytes, and stays.
    pub(super) fn probe_arrived(&mut self, core: &mut Core) {
        let una = self.tcb.snd_una;
        let Some(search) = &mut self.search else {
            return;
        };
        if search.size == 0 || search.end.gt(una) {
            return;
        }
        search.low = core::mem::take(&mut search.size);
        search.high = search.high.max(search.low);
        let low = search.low;
        core.count(Count::TcpMtuProbesArrived);
        let taken = payload_for_mtu(
            self.tcb.longest(&self.profile.options),
            self.tcb.remote.is_v4(),
            self.tcb.stamps(),
        );
        let longer = self.tcb.mss_of(low, &core.tcp).min(taken);
        self.tcb.mss = self.tcb.mss.max(longer);
    }

    /// Something is missing. If it is the probe alone, then for its length: that is no congestion, and its bytes are sent again in
    /// shorter segments (RFC 4821 7.6.2). Without SACK the first segment is all that is known of.
    pub(super) fn probe_was_lost(&mut self, core: &mut Core) -> bool {
        let (una, lost) = (self.tcb.snd_una, self.act.flight.lost);
        let Some(search) = &mut self.search else {
            return false;
        };
        let alone = lost <= search.end.dist(search.start);
        if search.size == 0 || search.start != una || !alone || self.act.repair != Repair::Open {
            return false;
        }
        search.high = (search.size - 1).max(search.low);
        core.count(Count::TcpMtuProbesLost);
        self.resend_probe();
        true
    }

    /// ICMP says what the path carries. Whether that is less than the probe under way, which is sent again in shorter segments
    /// then.
    pub(super) fn heed_path(&mut self, mtu: u16) -> bool {
        let Some(search) = &mut self.search else {
            return false;
        };
        search.high = search.high.min(mtu);
        search.low = search.low.min(mtu);
        let too_long = search.size > mtu && search.end.gt(self.tcb.snd_una);
        if too_long {
            self.resend_probe();
        }
        too_long
    }

    /// The numbers of the probe are sent again; nothing else is lost.
    fn resend_probe(&mut self) {
        let Some(search) = &mut self.search else {
            return;
        };
        search.size = 0;
        let (start, end) = (search.start, search.end);
        self.board().lose_within((start, end));
        if !self.repairing() {
            self.forget_undo();
            self.act.repair = Repair::Loss;
            self.act.recover = self.tcb.snd_nxt;
        }
        self.act.rtt_at = Instant::FAR; // Karn
        self.stop_early();
        self.tcb.flags |= flag::RETRANSMIT;
    }

    /// Something is sent again: of a probe under way nothing can be said any more (RFC 4821 7.6.4).
    #[inline]
    pub(super) fn forget_mtu_probe(&mut self) {
        if let Some(search) = &mut self.search {
            search.size = 0;
        }
    }
}
