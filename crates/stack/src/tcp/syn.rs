//! Sending a SYN: of a connection opened from here, and the SYN-ACK of a simultaneous or a fast open.
//!
//! What does not live here: the SYN-ACKs of half-open connections (`half_open`), what a SYN's answer means (`synchronise`).

use base::Instant;
use wire::tcp::{Options, Repr};

use crate::context::Core;
use crate::stats::Count;

use super::conn::Conn;
use super::output::{Marks, Payload, Way, announced_mss, build, ip_meta};
use super::record::{State, flag, more};
use super::tunables::TcpTunables;

/// What our SYN offers: in SYN-SENT the low nibble of `Tcb::scales`, for nothing is known of the peer's then.
mod offers {
    pub(super) const SCALE: u8 = 1;
    pub(super) const TIMESTAMPS: u8 = 2;
    pub(super) const SACK: u8 = 4;
}

impl Conn<'_> {
    /// The SYN, or SYN and ACK after a simultaneous open (RFC 9293 figure 7), when it is due.
    pub(super) fn send_syn(&mut self, core: &mut Core, way: &mut Way<'_>) -> usize {
        let answer = self.tcb.state == State::SynReceived;
        if !self.tcb.has(flag::RETRANSMIT) && !self.tcb.has(flag::ACK_NOW) {
            return 0;
        }
        let first = self.tcb.snd_nxt == self.tcb.snd_una;
        if !first {
            self.act.rtt_at = Instant::FAR;
            self.count_again(core);
        }
        if first && !answer {
            self.offer(&core.tcp);
        }
        let mut mtu = way.path.link_mtu;
        if !first && self.tcb.more & more::FAST_SYN != 0 {
            mtu = mtu.min(way.path.mtu); // as Linux: what is too long one way may be so the other
        }
        let mut options = self.syn_options(core, mtu, answer);
        let mut len = 0;
        if first && !answer {
            (options.fast_open, len) = self.fast_syn();
        }
        let ack = answer.then_some(self.tcb.rcv_nxt.0);
        if !self.emit_syn(core, way, (self.tcb.snd_una.0, ack), options, len) {
            self.act.rto_at = self.rto_from(core.now);
            return 0;
        }
        self.tcb.snd_nxt = self.tcb.snd_una + 1;
        if first {
            self.fast_syn_sent(options.fast_open.is_some(), len);
            self.tcb.backoff = 0; // it counted what kept the SYN from being sent
            self.act.rtt_at = core.now;
            self.act.rtt_seq = self.tcb.snd_nxt;
            self.act.stuck_since = core.now;
        }
        if self.act.rto_at == Instant::FAR || self.act.rto_at <= core.now {
            self.act.rto_at = core.now + self.patience_to_send(&core.tcp);
        }
        1
    }

    /// The SYN-ACK of a connection that a SYN has opened with its data. False when memory is short: the timer tries again.
    pub(super) fn send_opening(&mut self, core: &mut Core, way: &mut Way<'_>) -> bool {
        if self.tcb.backoff > 0 {
            self.count_again(core);
        }
        let options = Options {
            fast_open: self.take_new_cookie(),
            acc_ecn: self.opening_option(&core.tcp),
            ..self.syn_options(core, way.path.link_mtu, true)
        };
        let iss = self.tcb.snd_una.0.wrapping_sub(1);
        let sent = self.emit_syn(core, way, (iss, Some(self.tcb.rcv_nxt.0)), options, 0);
        if sent {
            self.act.unacked_in = 0;
        }
        sent
    }

    fn count_again(&mut self, core: &mut Core) {
        core.count(Count::TcpRetransmits);
        if let Some(ledger) = &mut self.ledger {
            ledger.left_again(0, 1);
        }
    }

    fn emit_syn(
        &mut self,
        core: &mut Core,
        way: &mut Way<'_>,
        (seq, ack): (u32, Option<u32>),
        options: Options,
        len: usize,
    ) -> bool {
        let first = self.tcb.snd_nxt == self.tcb.snd_una;
        let flags = self.syn_flags(&core.tcp, ack.is_some(), first);
        let mss = options.mss.unwrap_or(536);
        let whole = self.profile.options.first_window(&core.tcp, mss);
        let window = whole.min(self.receive_room(&core.tcp)); // data of the peer's SYN may lie here (RFC 7413)
        let repr = Repr {
            src_port: self.tcb.local_port,
            dst_port: self.tcb.remote_port,
            seq,
            ack,
            flags,
            window: window as u16, // never scaled on a SYN (RFC 7323 2.2)
            urgent: 0,
            options,
        };
        let unsent = core::mem::take(&mut self.act.unsent);
        let mut from = core.pool.cursor(&unsent, 0).filter(|_| len > 0);
        let data = from.as_mut().map(|from| Payload {
            queue: &unsent,
            from,
            len,
        });
        let whole = u32::from(u16::MAX); // in one piece
        let built = build(core, &repr, &way.path, &self.tcb.remote, whole, data);
        self.act.unsent = unsent;
        let Some((chain, facts)) = built else {
            return false;
        };
        self.tcb.flags &= !(flag::RETRANSMIT | flag::ACK_NOW | flag::ACK_DELAYED);
        self.act.ack_at = Instant::FAR;
        let edge = self.tcb.rcv_nxt + window;
        if ack.is_none() {
            self.tcb.rcv_adv = edge; // to be moved to where the peer's numbers begin
        } else {
            self.tcb.rcv_adv = self.tcb.rcv_adv.max(edge);
            self.tcb.last_ack_sent = self.tcb.rcv_nxt;
        }
        core.count(Count::TcpSegmentsOut);
        if let Some(ledger) = &mut self.ledger {
            ledger.left(len as u32, 1 + len as u32, false);
        }
        let meta = ip_meta(
            &way.path,
            &self.tcb.remote,
            Marks::of(&self.profile.options),
        );
        way.net.send(core, &way.path, &meta, chain, facts);
        true
    }

    /// Decides what our SYN offers, and says again when it is lost, whatever becomes of the buffer and the host's settings: the shift,
    /// and which options. Only what was offered is agreed on (RFC 7323 2.2, 3.2, RFC 2018 2).
    fn offer(&mut self, tcp: &TcpTunables) {
        let all = Options {
            window_scale: Some(0),
            sack_permitted: true,
            timestamps: Some((0, 0)),
            ..Options::default()
        };
        let spoken = tcp.spoken(all);
        let bit = |said: bool, bit: u8| if said { bit } else { 0 };
        self.tcb.scales = self.profile.options.window_shift(tcp) << 4
            | bit(spoken.window_scale.is_some(), offers::SCALE)
            | bit(spoken.timestamps.is_some(), offers::TIMESTAMPS)
            | bit(spoken.sack_permitted, offers::SACK);
    }

    pub(super) fn offers_timestamps(&self) -> bool {
        self.tcb.scales & offers::TIMESTAMPS != 0
    }

    /// Takes out of the answer to our SYN what that did not offer.
    pub(super) fn offered(&self, mut options: Options) -> Options {
        let said = self.tcb.scales;
        options.window_scale = options.window_scale.filter(|_| said & offers::SCALE != 0);
        options.timestamps = options
            .timestamps
            .filter(|_| said & offers::TIMESTAMPS != 0);
        options.sack_permitted &= said & offers::SACK != 0;
        options
    }

    /// Options of our SYN: all it offers; of a SYN-ACK: what the peer can do, too.
    fn syn_options(&self, core: &Core, mtu: u16, answer: bool) -> Options {
        let mss = announced_mss(mtu, self.tcb.remote.is_v4(), &self.profile.options);
        let echo = if answer { self.tcb.ts_recent } else { 0 };
        let options = Options {
            mss: Some(mss),
            window_scale: (!answer || self.tcb.scales != 0).then_some(self.tcb.scales >> 4),
            sack_permitted: !answer || self.tcb.has(flag::SACK),
            timestamps: (!answer || self.tcb.has(flag::TIMESTAMPS))
                .then(|| (self.tcb.tsval(core.now), echo)),
            ..Options::default()
        };
        match answer {
            true => options,
            false => self.offered(options),
        }
    }
}
