//! Opening a connection from here: SYN-SENT, and SYN-RECEIVED after a simultaneous open (RFC 9293 3.10.7.3).
//!
//! What does not live here: listeners and their half-open connections (`listen`).

use core::time::Duration;

use base::{Chain, Instant};
use wire::tcp::{Flags, Options};

use crate::context::Core;
use crate::error::SocketError;
use crate::socket::Ready;
use crate::stats::{Count, Drop};

use super::conn::{Conn, End, Outcome};
use super::input::Arrival;
use super::record::{Repair, State, flag, more};
use super::segment::Segment;

/// IW10 (RFC 6928): min(10 * MSS, max(2 * MSS, 14600)).
pub(crate) fn initial_window(mss: u32) -> u32 {
    (10 * mss).min((2 * mss).max(14_600))
}

/// When a SYN is sent again after its answer was none (Linux's TCP_TIMEOUT_MIN).
const AFTER_RESET: Duration = Duration::from_millis(8);

impl Conn<'_> {
    /// A segment for a connection in SYN-SENT.
    pub(crate) fn synchronise(&mut self, core: &mut Core, seg: &Segment, data: Chain) -> Arrival {
        if self.tcb.deferred() {
            // Nothing was said that it could answer: as if CLOSED (RFC 9293 3.10.7.1), and the SYN still waits for data.
            core.drop_packet(data, Drop::TcpUnexpected);
            return Arrival {
                reset: true,
                ..Arrival::default()
            };
        }
        // First: the ACK must be for our SYN (SND.UNA < SEG.ACK =< SND.NXT), else reset.
        let acks = seg.has(Flags::ACK);
        if acks && !(self.tcb.snd_una.lt(seg.ack) && seg.ack.le(self.syn_edge())) {
            core.drop_packet(data, Drop::TcpBadAck);
            // As on Linux: the peer had an old connection, which our reset ends; no need to wait a second for the next SYN.
            if self.tcb.backoff == 0 {
                self.act.rto_at = self.act.rto_at.min(core.now + AFTER_RESET);
            }
            return Arrival {
                reset: true,
                ..Arrival::send()
            };
        }
        // Nor is an answer one that echoes a time at which we had not begun, or that is still to come (as Linux).
        if acks && !seg.has(Flags::RST) && self.echoes_nothing_sent(core, seg) {
            core.drop_packet(data, Drop::TcpPaws);
            return Arrival {
                reset: true,
                ..Arrival::default()
            };
        }
        if seg.has(Flags::RST) {
            core.drop_packet(data, Drop::TcpUnexpected);
            if !acks {
                return Arrival::default();
            }
            core.count(Count::TcpResetsIn);
            let outcome = Outcome {
                raise: Ready::ERROR,
                ..Outcome::closed(Some(SocketError::ConnectionRefused))
            };
            return Arrival {
                outcome,
                ..Arrival::default()
            };
        }
        if !seg.has(Flags::SYN) {
            core.drop_packet(data, Drop::TcpUnexpected);
            return Arrival::default();
        }
        self.adopt(core, seg);
        if !acks {
            return self.simultaneous(core, seg, data);
        }
        self.established(core, seg);
        self.tcb.ack_now();
        let outcome = Outcome {
            send: true,
            raise: Ready::WRITABLE | Ready::CHANGED,
            end: End::Lives,
        };
        if self.tcb.more & more::FAST_SYN != 0 && (seg.len > 0 || seg.has(Flags::FIN)) {
            return self.arrive_data(core, seg, data, outcome, true);
        }
        // Else data on a SYN-ACK is not taken with the handshake (as Linux): the peer sends it again.
        core.pool.free(data);
        Arrival {
            outcome,
            reset: false,
            established: true,
            ..Arrival::default()
        }
    }

    /// Whether the timestamp a SYN-ACK echoes is of no SYN of ours.
    fn echoes_nothing_sent(&self, core: &Core, seg: &Segment) -> bool {
        let Some((_, echo)) = seg.timestamps.filter(|(_, echo)| *echo != 0) else {
            return false;
        };
        let (first, last) = (
            self.tcb.tsval(self.act.stuck_since),
            self.tcb.tsval(core.now),
        );
        self.offers_timestamps()
            && self.act.stuck_since != Instant::FAR
            && echo.wrapping_sub(first) > last.wrapping_sub(first)
    }

    /// Both sides opened at once (RFC 9293 3.5, MUST-10): answer with SYN and ACK.
    fn simultaneous(&mut self, core: &mut Core, seg: &Segment, data: Chain) -> Arrival {
        core.pool.free(data);
        self.tcb.state = State::SynReceived;
        self.tcb.snd_wnd = u32::from(seg.window);
        self.tcb.note_offer(self.tcb.snd_wnd);
        self.tcb.snd_wl1 = seg.seq;
        self.tcb.ack_now();
        self.act.rtt_at = Instant::FAR;
        Arrival {
            outcome: Outcome::SEND,
            ..Arrival::default()
        }
    }

    /// The SYN-ACK that crossed ours is acknowledged. If that says the peer's SYN-ACK, its SYN has come twice, and is acknowledged
    /// again (as Linux).
    pub(crate) fn end_simultaneous(&mut self, core: &mut Core, seg: &Segment) {
        self.established(core, seg);
        if seg.has(Flags::SYN) {
            self.note_duplicate_data(seg.seq, 1);
            self.tcb.ack_now();
        }
    }

    /// Takes over the peer's SYN: its numbers and what both sides can do.
    fn adopt(&mut self, core: &Core, seg: &Segment) {
        let options = seg.options.unwrap_or(Options {
            timestamps: seg.timestamps,
            ..Options::default()
        });
        let options = self.offered(options);
        self.agree_on_ecn(core, seg);
        let offered = self.tcb.rcv_wnd(); // by our SYN
        self.tcb.rcv_nxt = seg.seq + 1;
        self.tcb.rcv_adv = self.tcb.rcv_nxt + offered;
        self.tcb.last_ack_sent = self.tcb.rcv_nxt;
        self.tcb.peer_mss = options
            .mss
            .unwrap_or(if self.tcb.remote.is_v4() { 536 } else { 1220 })
            .max(core.tcp.min_snd_mss as u16);
        self.tcb.flags &= !(flag::TIMESTAMPS | flag::SACK);
        if let Some((tsval, _)) = options.timestamps {
            self.tcb.flags |= flag::TIMESTAMPS;
            self.tcb.ts_recent = tsval;
        }
        if options.sack_permitted {
            self.tcb.flags |= flag::SACK;
        }
        self.tcb.scales = match options.window_scale {
            Some(theirs) => theirs.min(14) | self.tcb.scales & 0xf0,
            None => 0,
        };
        self.set_mss();
    }

    /// Effective MSS (RFC 9293 3.7.1, MUST-16): what the peer takes, less our options.
    pub(crate) fn set_mss(&mut self) {
        let options = self.option_bytes();
        let limit = self.profile.options.max_segment.unwrap_or(u16::MAX);
        self.tcb.mss = self.tcb.peer_mss.min(limit).saturating_sub(options).max(36);
    }

    /// Our SYN is acknowledged: data may flow.
    pub(crate) fn established(&mut self, core: &mut Core, seg: &Segment) {
        self.tcb.state = if self.tcb.has(flag::WRITE_SHUT) {
            State::FinWait1
        } else {
            State::Established
        };
        let rest = self.syn_data_acknowledged(core, seg.ack);
        self.tcb.snd_una = seg.ack;
        let shift = if seg.has(Flags::SYN) {
            0
        } else {
            self.tcb.snd_scale()
        };
        self.tcb.snd_wnd = u32::from(seg.window) << shift;
        self.tcb.note_offer(self.tcb.snd_wnd);
        self.tcb.snd_wl1 = seg.seq;
        if let Some(ledger) = &mut self.ledger {
            ledger.synchronised(core.now);
        }
        let retries = self.tcb.backoff;
        if self.act.rtt_at == Instant::FAR {
            self.tcb.sample_echo(core.now, seg);
        } else {
            self.tcb.sample_rtt(core.now - self.act.rtt_at);
        }
        self.tcb.begin(retries, &self.profile.options);
        self.tcb.backoff = 0;
        self.act.rtt_at = Instant::FAR;
        self.act.rto_at = Instant::FAR;
        self.act.repair = Repair::Open; // a SYN too big for the path was sent again
        self.act.stuck_since = Instant::FAR;
        self.tcb.last_received = core.now.millis() as u32;
        self.tcb.last_sent = self.tcb.last_received;
        self.tcb.flags &= !flag::RETRANSMIT;
        core.count(if self.tcb.has(flag::ACTIVE_OPEN) {
            Count::TcpActiveOpens
        } else {
            Count::TcpPassiveOpens
        });
        if rest > 0 {
            self.resend_syn_data(core, rest);
        }
    }

    /// Everything in flight is sent again in smaller pieces, which is no sign of congestion (RFC 1191 6.4).
    pub(crate) fn timeout_without_reduction(&mut self) {
        if self.tcb.outstanding() == 0 {
            return;
        }
        self.forget_undo();
        self.act.repair = Repair::Loss;
        self.act.recover = self.tcb.snd_nxt;
        self.act.rtt_at = Instant::FAR;
        self.stop_early();
        self.lose_whole_flight();
        self.tcb.flags |= flag::RETRANSMIT; // a SYN, perhaps
    }
}
