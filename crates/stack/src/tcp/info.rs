//! What connections look like from outside: for tools, tests and TCP_INFO.
//!
//! What does not live here: anything that changes a connection.

use core::net::SocketAddr;
use core::time::Duration;

use base::Instant;

use crate::context::Core;
use crate::error::SocketError;
use crate::host::TcpOccupancy;
use crate::net::Net;
use crate::socket::SocketId;

use super::Tcp;
use super::acc_ecn::{AccEcn, EcnCounters};
use super::congestion::{Bbr, Congestion, Control, Dctcp, Model};
use super::fast_open::FastOpenFail;
use super::inflow::Inflow;
use super::model::rate;
use super::output::announced_mss;
use super::record::{Active, Repair, State, Tcb, flag, more};

/// What the sender makes of losses: Linux's TCP_CA_* states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing is missing.
    Open,
    /// Something came out of order at the peer.
    Disorder,
    /// The window is being reduced: the network has marked.
    Reduction,
    /// Fast recovery.
    Recovery,
    /// After a retransmission timeout.
    Loss,
}

/// The state of one connection in numbers. All times are durations, all amounts bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpInfo {
    /// RFC 9293 state.
    pub state: State,
    /// Smoothed round-trip time; zero before the first sample.
    pub rtt: Duration,
    /// Round-trip time variation.
    pub rtt_variation: Duration,
    /// Retransmission timeout now, with backoff.
    pub rto: Duration,
    /// How long an acknowledgment may be delayed.
    pub ack_delay: Duration,
    /// Since data was last sent, or since the connection was established.
    pub since_data_sent: Duration,
    /// Since the peer last said something credible, which always acknowledges.
    pub since_received: Duration,
    /// Congestion window.
    pub cwnd: u32,
    /// Slow start threshold.
    pub ssthresh: u32,
    /// The peer's window.
    pub send_window: u32,
    /// What is left of the window we advertised.
    pub receive_window: u32,
    /// Payload of a full segment we send.
    pub mss: u32,
    /// Largest packet the path carries, as far as is known, with the headers of IP and TCP.
    pub path_mtu: u32,
    /// Sent and not acknowledged.
    pub unacknowledged: u32,
    /// Queued to be sent for the first time.
    pub unsent: u32,
    /// Received and not read.
    pub unread: u32,
    /// Of what is unread or on its way: up to the end of the urgent data.
    pub urgent: u32,
    /// Reported received out of order by the peer.
    pub sacked: u32,
    /// Held lost and not sent again yet.
    pub lost: u32,
    /// Sent again and on its way, as far as is known.
    pub retransmitted: u32,
    /// How far segments were seen out of order on this path, in segments; 3 until one was.
    pub reordering: u32,
    /// The shortest round trip lately; zero when nothing is under way.
    pub min_rtt: Duration,
    /// How often the timeout was doubled.
    pub backoff: u8,
    /// Timeouts since something was last acknowledged.
    pub timeouts: u8,
    /// Probes of a closed window or a silent peer that were not answered.
    pub probes: u8,
    /// What the sender makes of losses.
    pub recovery: Recovery,
    /// The MSS announced to the peer.
    pub advertised_mss: u32,
    /// Largest data segment received lately, payload.
    pub receive_mss: u32,
    /// The round trip as seen from the receiving side; zero before a stream came in.
    pub receive_rtt: Duration,
    /// What the application read in a round trip lately, from which the receive buffer grows; bytes.
    pub receive_space: u32,
    /// The most the receive window may be now, bytes.
    pub receive_ssthresh: u32,
    /// Timestamps in use.
    pub timestamps: bool,
    /// SACK in use.
    pub sack: bool,
    /// Data on the SYN was taken (RFC 7413).
    pub syn_data: bool,
    /// ECN in use.
    pub ecn: bool,
    /// The peer's data was seen to be capable of marks.
    pub ecn_seen: bool,
    /// What accurate ECN tells, if it is in use; `ecn` is true, too.
    pub accurate_ecn: Option<EcnCounters>,
    /// Why Fast Open failed.
    pub fast_open_fail: FastOpenFail,
    /// A window shift in use.
    pub scaled: bool,
    /// Window shifts: the peer's, ours.
    pub window_scales: (u8, u8),
    /// Name of the congestion control.
    pub congestion: &'static str,
    /// What that keeps, if it tells anything.
    pub congestion_info: Option<CongestionInfo>,
    /// Bytes a second that frames leave at, if they are paced; `u64::MAX`: as fast as may be.
    pub pacing_rate: u64,
    /// The most it may be (SO_MAX_PACING_RATE).
    pub max_pacing_rate: u64,
    /// What it has done so far, if [`TcpOptions::account`](super::TcpOptions) asks for that.
    pub account: Option<TcpAccount>,
}

/// What some algorithms keep of the path (TCP_CC_INFO).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CongestionInfo {
    /// RFC 8257.
    Dctcp(DctcpInfo),
    /// draft-ietf-ccwg-bbr.
    Bbr(BbrInfo),
}

/// What DCTCP keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DctcpInfo {
    /// The peer speaks ECN; if not, the rest is 0.
    pub enabled: bool,
    /// The last segment received was marked (DCTCP.CE).
    pub ce_state: bool,
    /// The share of marks, in 1/1024 (DCTCP.Alpha).
    pub alpha: u32,
    /// Bytes acknowledged in this window.
    pub acked: u32,
    /// Of these, marked.
    pub marked: u32,
}

/// What BBR keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BbrInfo {
    /// What the path is held to carry, bytes a second.
    pub bandwidth: u64,
    /// The shortest round trip lately; zero before the first.
    pub min_rtt: Duration,
    /// Hundredths of the bandwidth at which it sends.
    pub pacing_gain: u32,
    /// Hundredths of bandwidth and round trip that may be in flight.
    pub window_gain: u32,
}

/// What a connection has done so far. Counts of 32 bits wrap, as Linux's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpAccount {
    /// Numbers acknowledged by the peer: bytes, and one for each of our SYN (of a connection we opened) and FIN.
    pub bytes_acked: u64,
    /// Numbers received in order: bytes, and one for the peer's FIN.
    pub bytes_received: u64,
    /// Payload bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// Payload bytes sent again.
    pub bytes_retransmitted: u64,
    /// Segments sent, super-frames by what they are cut into. Without the SYN-ACK of a connection we accepted.
    pub segments_out: u32,
    /// Segments received.
    pub segments_in: u32,
    /// Of those sent, with payload.
    pub data_segments_out: u32,
    /// Of those received, with payload.
    pub data_segments_in: u32,
    /// Segments sent again, SYN and FIN included.
    pub retransmits: u32,
    /// Segments the peer has got, by its ACKs and SACKs, SYN and FIN included.
    pub delivered: u32,
    /// Of these, with a mark of congestion.
    pub delivered_ce: u32,
    /// Segments the peer has got twice, by its D-SACKs.
    pub duplicates: u32,
    /// How often the peer got segments in another order than they were sent in.
    pub reorderings: u32,
    /// Segments received out of order.
    pub out_of_order: u32,
    /// Since data was last received in order, or since the connection was established.
    pub since_data_received: Duration,
    /// For how long data waited to be acknowledged, for whatever reason.
    pub busy: Duration,
    /// Of this, for the peer to open its window.
    pub window_limited: Duration,
    /// Of this, because the send buffer held no more while the application had more.
    pub buffer_limited: Duration,
    /// Retransmission timeouts, those of the SYN included.
    pub timeouts: u16,
    /// Timeouts that were not of what had timed out before: repairs, one that goes on included.
    pub timeout_recoveries: u16,
    /// How long these repairs took, one that goes on included.
    pub timeout_time: Duration,
    /// How fast the network delivered lately, bytes a second; 0 before the first measurement.
    pub delivery_rate: u64,
    /// It would have been more if the application had had more to send.
    pub delivery_rate_app_limited: bool,
}

/// One row of a connection table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The handle, unless nobody holds one (half-open, orphaned, TIME-WAIT).
    pub socket: Option<SocketId>,
    /// Local address.
    pub local: SocketAddr,
    /// Remote address; the unspecified one for listeners.
    pub remote: SocketAddr,
    /// State.
    pub state: State,
    /// Received and not read; for a listener, waiting to be accepted.
    pub receive_queue: u32,
    /// Sent or queued and not acknowledged; for a listener, its backlog.
    pub send_queue: u32,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Congestion window.
    pub cwnd: u32,
}

fn recovery(act: &Active) -> Recovery {
    match act.repair {
        Repair::Open if act.flight.sacked > 0 => Recovery::Disorder,
        Repair::Open => Recovery::Open,
        Repair::Reduction => Recovery::Reduction,
        Repair::Recovery => Recovery::Recovery,
        Repair::Loss => Recovery::Loss,
    }
}

fn micros(us: u32) -> Duration {
    Duration::from_micros(us.into())
}

impl Tcp {
    pub(crate) fn info(
        &self,
        (core, net): (&Core, &Net),
        now: Instant,
        id: SocketId,
    ) -> Result<TcpInfo, SocketError> {
        let index = self.live(id)?;
        let tcb = self.conns.at(index).ok_or(SocketError::BadSocket)?;
        Ok(self.info_of((core, net), now, index, tcb))
    }

    pub(super) fn info_of(
        &self,
        (core, net): (&Core, &Net),
        now: Instant,
        index: u32,
        tcb: &Tcb,
    ) -> TcpInfo {
        let act = self.actives.at(tcb.active);
        let profile = self.profiles.get(tcb.profile);
        let inflow = self.inflows.of(index, tcb.inflow());
        let opening = matches!(tcb.shown_state(), State::SynSent | State::SynReceived);
        let since = |then: u32| match opening {
            true => Duration::ZERO,
            false => Duration::from_millis(u64::from((now.millis() as u32).wrapping_sub(then))),
        };
        TcpInfo {
            state: tcb.shown_state(),
            rtt: tcb.srtt(),
            rtt_variation: micros(tcb.rttvar >> 2),
            rto: tcb
                .rto()
                .min(self.profiles.get(tcb.profile).options.rto_max()),
            ack_delay: tcb.ack_delay(),
            since_data_sent: since(tcb.last_sent),
            since_received: since(tcb.last_received),
            cwnd: tcb.cwnd,
            ssthresh: tcb.ssthresh,
            send_window: tcb.snd_wnd,
            receive_window: act.map_or(tcb.rcv_wnd(), |a| tcb.ahead(self.edges.offered(tcb, a))),
            mss: u32::from(tcb.mss),
            path_mtu: u32::from(net.path_mtu(now, &tcb.remote, &profile.local)),
            unacknowledged: tcb.outstanding(),
            unsent: act.map_or(0, |a| a.unsent.len() as u32),
            unread: act.map_or(0, |a| a.recv.len() as u32),
            urgent: act.map_or(0, |a| self.edges.urgent_left(tcb, a)),
            sacked: act.map_or(0, |a| a.flight.sacked),
            lost: act.map_or(0, |a| a.flight.lost),
            retransmitted: act.map_or(0, |a| a.flight.again),
            reordering: u32::from(tcb.reordering()).max(super::recovery::DUP_THRESH),
            min_rtt: micros(act.map_or(0, |a| a.rack.min_rtt)),
            backoff: tcb.backoff,
            timeouts: match opening {
                true => tcb.backoff,
                false => act.map_or(0, |a| a.timeouts),
            },
            probes: tcb.probes,
            recovery: act.map_or(Recovery::Open, recovery),
            advertised_mss: {
                let mtu = net.link_mtu(&profile.local);
                u32::from(announced_mss(mtu, tcb.remote.is_v4(), &profile.options))
            },
            receive_mss: act.map_or(0, |a| u32::from(a.rcv_mss)),
            receive_rtt: micros(inflow.map_or(0, Inflow::rtt)),
            receive_space: inflow.map_or(10 * u32::from(tcb.mss), Inflow::space),
            receive_ssthresh: {
                let most = profile.options.receive_limit(&core.tcp, inflow);
                let clamp = profile.options.window_clamp.unwrap_or(u32::MAX);
                most.min(clamp).min(u32::from(u16::MAX) << tcb.rcv_scale())
            },
            timestamps: tcb.has(flag::TIMESTAMPS),
            sack: tcb.has(flag::SACK),
            fast_open_fail: tcb.fast_fail(),
            syn_data: tcb.more & more::SYN_DATA != 0,
            ecn: tcb.more & (more::ECN | more::ACC_ECN) != 0,
            accurate_ecn: self.accurate_ecn_of(index, tcb),
            ecn_seen: tcb.more & more::ECN_SEEN != 0,
            scaled: tcb.scales != 0 && tcb.state != State::SynSent,
            window_scales: tcb.window_scales(),
            congestion: profile.options.algorithm().name(),
            congestion_info: self.congestion_info(profile.options.algorithm(), tcb, act),
            pacing_rate: match act.and_then(|a| rate(&self.controls, &self.models, a.control)) {
                Some(rate) => rate.min(profile.options.max_pacing_rate),
                None => tcb.pacing_rate(&core.tcp, profile.options.max_pacing_rate),
            },
            max_pacing_rate: profile.options.max_pacing_rate,
            account: self.account_of(now, index),
        }
    }

    /// Bytes that may wait to be read now: what was set, or what the buffer has grown to.
    pub(crate) fn receive_limit(&self, core: &Core, id: SocketId) -> Result<u32, SocketError> {
        let index = self.live(id)?;
        let tcb = self.conns.at(index).ok_or(SocketError::BadSocket)?;
        let options = &self.profiles.get(tcb.profile).options;
        Ok(options.receive_limit(&core.tcp, self.inflows.of(index, tcb.inflow())))
    }

    /// The memory that it takes (SO_RCVBUF).
    pub(crate) fn receive_memory(&self, core: &Core, id: SocketId) -> Result<u32, SocketError> {
        let index = self.live(id)?;
        let tcb = self.conns.at(index).ok_or(SocketError::BadSocket)?;
        let options = &self.profiles.get(tcb.profile).options;
        Ok(options.receive_memory(&core.tcp, self.inflows.of(index, tcb.inflow())))
    }

    /// Without a record yet: what it begins with.
    fn congestion_info(
        &self,
        congestion: Congestion,
        tcb: &Tcb,
        act: Option<&Active>,
    ) -> Option<CongestionInfo> {
        let control = act.and_then(|a| self.controls.at(a.control));
        match (congestion, control) {
            (Congestion::Dctcp, _) if tcb.more & (more::ECN | more::ACC_ECN) == 0 => {
                Some(CongestionInfo::Dctcp(DctcpInfo::default()))
            }
            (Congestion::Dctcp, control) => {
                let begin = Dctcp::default();
                let dctcp = match control {
                    Some(Control::Dctcp(dctcp)) => dctcp,
                    _ => &begin,
                };
                Some(CongestionInfo::Dctcp(DctcpInfo {
                    enabled: true,
                    ce_state: tcb.more & more::ECE != 0 && !tcb.is_accurate(),
                    alpha: dctcp.alpha,
                    acked: dctcp.acked,
                    marked: dctcp.marked,
                }))
            }
            (Congestion::Bbr, Some(Control::Bbr(Model(model)))) => self
                .models
                .at(*model)
                .map(|m| CongestionInfo::Bbr(m.info())),
            (Congestion::Bbr, _) => Some(CongestionInfo::Bbr(Bbr::new(0, tcb.cwnd, 0).info())),
            (Congestion::Cubic | Congestion::Reno, _) => None,
        }
    }

    fn accurate_ecn_of(&self, index: u32, tcb: &Tcb) -> Option<EcnCounters> {
        let spoken = tcb.is_accurate();
        self.acc_ecns.at(index).filter(|_| spoken).map(AccEcn::info)
    }

    fn account_of(&self, now: Instant, index: u32) -> Option<TcpAccount> {
        let mut account = self.ledgers.at(index)?.account(now);
        let tcb = self.conns.at(index)?;
        if let Some(ecn) = self.accurate_ecn_of(index, tcb) {
            account.delivered_ce = ecn.delivered_ce;
        }
        Some(account)
    }

    /// How many records of each kind live.
    pub(crate) fn occupancy(&self) -> TcpOccupancy {
        TcpOccupancy {
            connections: self.conns.len(),
            active: self.actives.len(),
            half_open: self.halves.len(),
            time_wait: self.waits.len(),
            ranges: self.ranges.len(),
            profiles: self.profiles.len() as u32,
            in_flight: self.nodes.len(),
            episodes: self.episodes.len(),
            edges: self.edges.len(),
            marks: self.marks.len(),
            ledgers: self.ledgers.len(),
            searches: self.searches.len(),
            saved_syns: self.saved.len(),
            accurate_ecn: self.acc_ecns.len(),
        }
    }
}
