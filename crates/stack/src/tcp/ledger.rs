//! What a connection has done so far: the counters and times of TCP_INFO that only a tool reads (RFC 4898's, mostly).
//!
//! A connection has a [`Ledger`] when its options ask for one ([`TcpOptions::account`](super::TcpOptions)), and costs nothing
//! when they do not: a table from its index to its ledger is touched only by those that have one. Segments are counted where
//! they come in and go out, bytes where the numbers move, and what sending waits for at the end of a transmit pass.
//!
//! What does not live here: what a connection is now, which its own records tell (`info`).
//!
//! Invariant: nothing of the protocol depends on what is counted here.
//! Invariant: a ledger belongs to one live connection.

use core::time::Duration;

use base::{Instant, Seq};

use super::Tcp;
use super::congestion::Rates;
use super::conn::Conn;
use super::info::TcpAccount;
use super::record::{Repair, flag};
use super::segment::Segment;
use super::sent::Delivery;

/// What keeps the data of a connection from being acknowledged: Linux's chronograph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Limit {
    /// There is none.
    #[default]
    Idle,
    /// The network and the congestion window.
    Busy,
    /// The peer's window.
    Window,
    /// The application would write more than the send buffer takes.
    Buffer,
}

/// The account of one connection. Times are milliseconds of the host's clock (low 32 bits), but for `limited`.
#[derive(Debug)]
pub(crate) struct Ledger {
    bytes_acked: u64,
    bytes_received: u64,
    bytes_sent: u64,
    bytes_again: u64,
    /// Microseconds spent busy, waiting for the peer's window, and for the send buffer.
    limited: [u64; 3],
    /// When `limit` began, microseconds.
    since: u64,
    segments_out: u32,
    segments_in: u32,
    data_out: u32,
    data_in: u32,
    again: u32,
    pub(super) delivered: u32,
    pub(super) delivered_ce: u32,
    rates: Rates<8>,
    /// The last rate that says something of the path: bytes a second, and whether the application could have sent more.
    rate: u64,
    rate_limited: bool,
    duplicates: u32,
    reorderings: u32,
    out_of_order: u32,
    data_in_at: u32,
    stalled_at: u32,
    stalled_ms: u32,
    timeouts: u16,
    stalls: u16,
    limit: Limit,
    /// From a timeout until its repair is over.
    stalled: bool,
    /// Our FIN left with a full segment, and is no segment of its own.
    fin_rides: bool,
}

const _: () = assert!(size_of::<Ledger>() <= 400);

/// How many segments so many bytes are.
fn segments(len: u32, mss: u32) -> u32 {
    len.div_ceil(mss.max(1))
}

impl Ledger {
    fn new(now: Instant) -> Self {
        let mut rates = Rates::new(now.micros());
        rates.limit(0); // what is sent first leaves when the application has it
        Self {
            bytes_acked: 0,
            bytes_received: 0,
            bytes_sent: 0,
            bytes_again: 0,
            limited: [0; 3],
            since: 0,
            segments_out: 0,
            segments_in: 0,
            data_out: 0,
            data_in: 0,
            again: 0,
            delivered: 0,
            delivered_ce: 0,
            rates,
            rate: 0,
            rate_limited: false,
            duplicates: 0,
            reorderings: 0,
            out_of_order: 0,
            data_in_at: now.millis() as u32,
            stalled_at: 0,
            stalled_ms: 0,
            timeouts: 0,
            stalls: 0,
            limit: Limit::Idle,
            stalled: false,
            fin_rides: false,
        }
    }

    /// The connection came through a listener: its SYN, and its SYN-ACK that arrived after so many retransmissions.
    pub(super) fn accepted(&mut self, retries: u8) {
        (self.segments_in, self.delivered) = (1, 1);
        self.again = u32::from(retries);
        self.timeouts = u16::from(retries);
        self.stalls = u16::from(retries > 0);
    }

    /// The SYN-ACK of a connection that was opened before it arrived (Fast Open) is acknowledged.
    pub(super) fn answered(&mut self) {
        self.delivered += 1;
    }

    /// A segment arrived, or several that a device joined.
    pub(super) fn arrived(&mut self, seg: &Segment) {
        let count = segments(seg.len, seg.unit);
        self.segments_in = self.segments_in.wrapping_add(count.max(1));
        self.data_in = self.data_in.wrapping_add(count);
    }

    /// A segment left, or a super-frame, with `len` bytes of payload.
    pub(super) fn left(&mut self, len: u32, mss: u32, fin: bool) {
        let count = segments(len, mss);
        self.segments_out = self.segments_out.wrapping_add(count.max(1));
        self.data_out = self.data_out.wrapping_add(count);
        self.bytes_sent += u64::from(len);
        self.fin_rides |= fin && len > 0 && len.is_multiple_of(mss.max(1));
    }

    /// Of what left, `len` bytes of payload had left before; none: a SYN or FIN.
    pub(super) fn left_again(&mut self, len: u32, mss: u32) {
        self.again = self.again.wrapping_add(segments(len, mss).max(1));
        self.bytes_again += u64::from(len);
    }

    /// RCV.NXT moved on by so many numbers.
    pub(super) fn received(&mut self, now: Instant, numbers: u32, seg: &Segment) {
        self.bytes_received += u64::from(numbers);
        if numbers > 0 && seg.len > 0 {
            self.data_in_at = now.millis() as u32;
        }
    }

    /// Data came out of order.
    pub(super) fn out_of_order(&mut self, len: u32, mss: u32) {
        self.out_of_order = self.out_of_order.wrapping_add(segments(len, mss).max(1));
    }

    /// The peer reports a duplicate.
    pub(super) fn duplicate(&mut self, len: u32, mss: u32) {
        self.duplicates = self.duplicates.wrapping_add(segments(len, mss));
    }

    /// Something arrived at the peer behind what was sent after it.
    pub(super) fn reordered(&mut self) {
        self.reorderings = self.reorderings.wrapping_add(1);
    }

    /// Our SYN is acknowledged.
    pub(super) fn synchronised(&mut self, now: Instant) {
        self.bytes_acked += 1;
        self.delivered += 1;
        self.data_in_at = now.millis() as u32;
        self.recovered(now);
    }

    /// A timeout; `first`: nothing was acknowledged since the last one.
    pub(super) fn timed_out(&mut self, now: Instant, first: bool) {
        self.timeouts = self.timeouts.saturating_add(1);
        if first {
            self.stalls = self.stalls.saturating_add(1);
        }
        if !self.stalled {
            (self.stalled, self.stalled_at) = (true, now.millis() as u32);
        }
    }

    fn stalled_for(&self, now: Instant) -> u32 {
        let open = (now.millis() as u32).wrapping_sub(self.stalled_at);
        self.stalled_ms
            .wrapping_add(if self.stalled { open } else { 0 })
    }

    fn recovered(&mut self, now: Instant) {
        self.stalled_ms = self.stalled_for(now);
        self.stalled = false;
    }

    fn limited_for(&self, now: Instant) -> [u64; 3] {
        let mut limited = self.limited;
        let open = now.micros().saturating_sub(self.since);
        match self.limit {
            Limit::Idle => {}
            Limit::Busy => limited[0] += open,
            Limit::Window => limited[1] += open,
            Limit::Buffer => limited[2] += open,
        }
        limited
    }

    fn turn(&mut self, now: Instant, limit: Limit) {
        if limit != self.limit {
            self.limited = self.limited_for(now);
            (self.limit, self.since) = (limit, now.micros());
        }
    }

    /// Bytes leave, new or again, with `in_flight` before them, at a round trip of `rtt` microseconds.
    pub(super) fn rate_sent(&mut self, now: Instant, bytes: u32, in_flight: u32, rtt: u32) {
        self.rates.sent(now.micros(), bytes, in_flight, rtt);
    }

    /// Nothing more is there to be sent.
    pub(super) fn rate_limit(&mut self, in_flight: u32) {
        self.rates.limit(in_flight);
    }

    /// Something was delivered: a rate that the application held down says nothing, unless it is more than what was known (as
    /// Linux).
    fn measure(&mut self, delivery: &Delivery) {
        let sent_at = delivery.latest.map(|(at, _)| at);
        let (now, bytes) = (delivery.now, delivery.bytes);
        let sample = self.rates.sample(now, bytes, sent_at, delivery.min_rtt);
        if let Some(sample) = sample
            && (!sample.app_limited || sample.rate >= self.rate)
        {
            (self.rate, self.rate_limited) = (sample.rate, sample.app_limited);
        }
    }

    /// The account as people see it.
    pub(super) fn account(&self, now: Instant) -> TcpAccount {
        let [busy, window, buffer] = self.limited_for(now);
        let ms = now.millis() as u32;
        TcpAccount {
            bytes_acked: self.bytes_acked,
            bytes_received: self.bytes_received,
            bytes_sent: self.bytes_sent,
            bytes_retransmitted: self.bytes_again,
            segments_out: self.segments_out,
            segments_in: self.segments_in,
            data_segments_out: self.data_out,
            data_segments_in: self.data_in,
            retransmits: self.again,
            delivered: self.delivered,
            delivered_ce: self.delivered_ce,
            duplicates: self.duplicates,
            reorderings: self.reorderings,
            out_of_order: self.out_of_order,
            since_data_received: Duration::from_millis(u64::from(ms.wrapping_sub(self.data_in_at))),
            busy: Duration::from_micros(busy + window + buffer),
            window_limited: Duration::from_micros(window),
            buffer_limited: Duration::from_micros(buffer),
            timeouts: self.timeouts,
            timeout_recoveries: self.stalls,
            timeout_time: Duration::from_millis(u64::from(self.stalled_for(now))),
            delivery_rate: self.rate,
            delivery_rate_app_limited: self.rate_limited,
        }
    }
}

impl Tcp {
    /// Opens the ledger of a connection that is to have one, or closes that of one that is not.
    pub(super) fn keep_account(&mut self, now: Instant, index: u32) {
        let Some(tcb) = self.conns.at(index) else {
            return;
        };
        if self.profiles.get(tcb.profile).options.account {
            if self.ledgers.at(index).is_none() {
                self.ledgers.open(index, Ledger::new(now));
            }
        } else {
            self.ledgers.close(index);
        }
    }
}

impl Conn<'_> {
    /// After an ACK that moved SND.UNA from `una`, or did not: what it acknowledged, in bytes and segments.
    pub(super) fn account_ack(&mut self, now: Instant, una: Seq, delivery: &Delivery, fin: bool) {
        let (moved, loss) = (self.tcb.snd_una.dist(una), self.act.repair == Repair::Loss);
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        ledger.bytes_acked += u64::from(moved);
        let none_of_its_own = u32::from(fin && ledger.fin_rides);
        ledger.measure(delivery);
        let delivered = ledger.delivered.wrapping_add(delivery.segments);
        ledger.delivered = delivered.wrapping_sub(none_of_its_own);
        if ledger.stalled && !loss {
            ledger.recovered(now);
        }
    }

    /// At the end of a transmit pass: what sending waits for until the next.
    pub(super) fn account_time(&mut self, now: Instant) {
        if self.ledger.is_some() {
            let limit = self.limit();
            if let Some(ledger) = &mut self.ledger {
                ledger.turn(now, limit);
            }
        }
    }

    /// As Linux: the congestion window comes first, then the peer's; the send buffer limits only when all of it is sent.
    fn limit(&self) -> Limit {
        let unsent = self.act.unsent.len() as u32;
        let mss = u32::from(self.tcb.mss);
        let room = self.tcb.cwnd.saturating_sub(self.pipe()) >= mss;
        if unsent > 0 {
            if room && !self.window_fits(unsent.min(mss)) {
                Limit::Window
            } else {
                Limit::Busy
            }
        } else if self.tcb.outstanding() == 0 {
            Limit::Idle
        } else if room && self.tcb.has(flag::WANT_WRITE) && self.tcb.state.sends() {
            Limit::Buffer
        } else {
            Limit::Busy
        }
    }
}
