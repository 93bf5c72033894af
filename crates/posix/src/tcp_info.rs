//! TCP_INFO: `struct tcp_info` of Linux 6.18, field for field; and TCP_CC_INFO: `union tcp_cc_info`.
//!
//! What is not known of a connection is 0; docs/packetdrill.md lists these fields.
//!
//! What does not live here: what the numbers mean (the stack).

use core::time::Duration;

use stack::{CongestionInfo, Recovery, State, TcpAccount, TcpInfo};

/// Bytes of the structure.
pub(crate) const LEN: usize = 280;
/// What Linux calls an unlimited slow start threshold.
const INFINITE: u32 = 0x7fff_ffff;

/// Offsets of the fields that are filled, in bytes.
mod at {
    pub(super) const STATE: usize = 0;
    pub(super) const CA_STATE: usize = 1;
    pub(super) const RETRANSMITS: usize = 2;
    pub(super) const PROBES: usize = 3;
    pub(super) const BACKOFF: usize = 4;
    pub(super) const OPTIONS: usize = 5;
    pub(super) const SCALES: usize = 6;
    /// Two bit fields, of one bit and of two.
    pub(super) const LIMITED_AND_FAIL: usize = 7;
    pub(super) const RTO: usize = 8;
    pub(super) const ATO: usize = 12;
    pub(super) const SND_MSS: usize = 16;
    pub(super) const RCV_MSS: usize = 20;
    pub(super) const UNACKED: usize = 24;
    pub(super) const SACKED: usize = 28;
    pub(super) const LOST: usize = 32;
    pub(super) const RETRANS: usize = 36;
    pub(super) const LAST_DATA_SENT: usize = 44;
    pub(super) const LAST_DATA_RECV: usize = 52;
    pub(super) const LAST_ACK_RECV: usize = 56;
    pub(super) const PMTU: usize = 60;
    pub(super) const RCV_SSTHRESH: usize = 64;
    pub(super) const RTT: usize = 68;
    pub(super) const RTTVAR: usize = 72;
    pub(super) const SND_SSTHRESH: usize = 76;
    pub(super) const SND_CWND: usize = 80;
    pub(super) const ADVMSS: usize = 84;
    pub(super) const REORDERING: usize = 88;
    pub(super) const RCV_RTT: usize = 92;
    pub(super) const RCV_SPACE: usize = 96;
    pub(super) const TOTAL_RETRANS: usize = 100;
    pub(super) const PACING_RATE: usize = 104;
    pub(super) const MAX_PACING_RATE: usize = 112;
    pub(super) const BYTES_ACKED: usize = 120;
    pub(super) const BYTES_RECEIVED: usize = 128;
    pub(super) const SEGS_OUT: usize = 136;
    pub(super) const SEGS_IN: usize = 140;
    pub(super) const NOTSENT_BYTES: usize = 144;
    pub(super) const MIN_RTT: usize = 148;
    pub(super) const DATA_SEGS_IN: usize = 152;
    pub(super) const DATA_SEGS_OUT: usize = 156;
    pub(super) const DELIVERY_RATE: usize = 160;
    pub(super) const BUSY_TIME: usize = 168;
    pub(super) const RWND_LIMITED: usize = 176;
    pub(super) const SNDBUF_LIMITED: usize = 184;
    pub(super) const DELIVERED: usize = 192;
    pub(super) const DELIVERED_CE: usize = 196;
    pub(super) const BYTES_SENT: usize = 200;
    pub(super) const BYTES_RETRANS: usize = 208;
    pub(super) const DSACK_DUPS: usize = 216;
    pub(super) const REORD_SEEN: usize = 220;
    pub(super) const RCV_OOOPACK: usize = 224;
    pub(super) const SND_WND: usize = 228;
    pub(super) const RCV_WND: usize = 232;
    pub(super) const TOTAL_RTO: usize = 240;
    pub(super) const TOTAL_RTO_RECOVERIES: usize = 242;
    pub(super) const TOTAL_RTO_TIME: usize = 244;
    pub(super) const RECEIVED_CE: usize = 248;
    pub(super) const DELIVERED_E1_BYTES: usize = 252;
    pub(super) const DELIVERED_E0_BYTES: usize = 256;
    pub(super) const DELIVERED_CE_BYTES: usize = 260;
    pub(super) const RECEIVED_E1_BYTES: usize = 264;
    pub(super) const RECEIVED_E0_BYTES: usize = 268;
    pub(super) const RECEIVED_CE_BYTES: usize = 272;
    /// Bit fields of Linux 7: the mode in two bits, what was seen of the option in two, what failed in four.
    pub(super) const ECN: usize = 276;
}

/// The number Linux gives a state.
fn number(state: State) -> u8 {
    match state {
        State::Established => 1,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::Closed => 7,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Listen => 10,
        State::Closing => 11,
    }
}

/// TCP_CA_*.
fn recovery(recovery: Recovery) -> u8 {
    match recovery {
        Recovery::Open => 0,
        Recovery::Disorder => 1,
        Recovery::Reduction => 2,
        Recovery::Recovery => 3,
        Recovery::Loss => 4,
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// The structure for a connection, or for a socket that has none.
///
/// ```
/// const TCP_LISTEN: u8 = 10;
/// assert_eq!(posix::tcp_info(None, true)[0], TCP_LISTEN); // tcpi_state
/// ```
pub fn tcp_info(info: Option<&TcpInfo>, listens: bool) -> [u8; LEN] {
    let mut out = [0; LEN];
    let Some(info) = info else {
        out[at::STATE] = number(if listens {
            State::Listen
        } else {
            State::Closed
        });
        return out;
    };
    let mut word = |at: usize, value: u32| {
        out[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    };
    let mss = info.mss.max(1);
    let segments = |bytes: u32| bytes.div_ceil(mss);
    word(at::RTO, micros(info.rto));
    word(at::ATO, micros(info.ack_delay));
    word(at::LAST_DATA_SENT, millis(info.since_data_sent));
    word(at::LAST_ACK_RECV, millis(info.since_received));
    word(at::PMTU, info.path_mtu);
    word(at::SND_MSS, info.mss);
    word(at::RCV_MSS, info.receive_mss);
    word(at::ADVMSS, info.advertised_mss);
    word(at::UNACKED, segments(info.unacknowledged));
    word(at::SACKED, segments(info.sacked));
    // Linux counts a lost segment until it is delivered, sent again or not.
    word(
        at::LOST,
        segments(info.lost.saturating_add(info.retransmitted)),
    );
    word(at::RETRANS, segments(info.retransmitted));
    word(at::RCV_SSTHRESH, info.receive_ssthresh);
    word(at::RCV_RTT, micros(info.receive_rtt));
    word(at::RCV_SPACE, info.receive_space);
    word(at::RTT, micros(info.rtt));
    word(at::RTTVAR, micros(info.rtt_variation));
    let infinite = info.ssthresh >= u32::MAX / 2;
    let ssthresh = if infinite {
        INFINITE
    } else {
        info.ssthresh / mss
    };
    word(at::SND_SSTHRESH, ssthresh);
    word(at::SND_CWND, (info.cwnd / mss).max(1));
    word(at::REORDERING, info.reordering);
    word(at::MIN_RTT, micros(info.min_rtt));
    word(at::NOTSENT_BYTES, info.unsent);
    word(at::SND_WND, info.send_window);
    word(at::RCV_WND, info.receive_window);
    small(&mut out, info);
    for (at, rate) in [
        (at::PACING_RATE, info.pacing_rate),
        (at::MAX_PACING_RATE, info.max_pacing_rate),
    ] {
        out[at..at + 8].copy_from_slice(&rate.to_ne_bytes());
    }
    accurate(&mut out, info);
    if let Some(account) = &info.account {
        fill(&mut out, account);
    }
    out
}

/// The fields of a byte.
fn small(out: &mut [u8; LEN], info: &TcpInfo) {
    out[at::STATE] = number(info.state);
    out[at::CA_STATE] = recovery(info.recovery);
    out[at::RETRANSMITS] = info.timeouts;
    out[at::PROBES] = info.probes;
    out[at::BACKOFF] = info.backoff;
    let (theirs, ours) = info.window_scales;
    out[at::OPTIONS] = u8::from(info.timestamps)
        | u8::from(info.sack) << 1
        | u8::from(info.scaled) << 2
        | u8::from(info.ecn) << 3
        | u8::from(info.ecn_seen) << 4
        | u8::from(info.syn_data) << 5;
    out[at::SCALES] = theirs | ours << 4;
    out[at::LIMITED_AND_FAIL] |= (info.fast_open_fail as u8) << 1;
}

/// TCP_CC_INFO: what the congestion control has to tell; CUBIC and Reno nothing, as on Linux.
pub(crate) fn congestion_info(info: &TcpInfo) -> Vec<u8> {
    /// One, in Linux's gains of BBR.
    const GAIN: u32 = 256;
    let words = match info.congestion_info {
        Some(CongestionInfo::Dctcp(dctcp)) => {
            let [a, b] = u16::from(dctcp.enabled).to_ne_bytes();
            let [c, d] = u16::from(dctcp.ce_state).to_ne_bytes();
            let flags = u32::from_ne_bytes([a, b, c, d]);
            vec![flags, dctcp.alpha, dctcp.marked, dctcp.acked]
        }
        Some(CongestionInfo::Bbr(bbr)) => vec![
            bbr.bandwidth as u32,
            (bbr.bandwidth >> 32) as u32,
            micros(bbr.min_rtt),
            bbr.pacing_gain * GAIN / 100,
            bbr.window_gain * GAIN / 100,
        ],
        _ => Vec::new(),
    };
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// What accurate ECN tells, of connections without an account, too.
fn accurate(out: &mut [u8; LEN], info: &TcpInfo) {
    out[at::ECN..].copy_from_slice(&ecn(info).to_ne_bytes());
    let Some(ecn) = &info.accurate_ecn else {
        return;
    };
    for (at, value) in [
        (at::DELIVERED_CE, ecn.delivered_ce),
        (at::RECEIVED_CE, ecn.received_ce),
        (at::DELIVERED_E1_BYTES, ecn.delivered_ect_1_bytes),
        (at::DELIVERED_E0_BYTES, ecn.delivered_ect_0_bytes),
        (at::DELIVERED_CE_BYTES, ecn.delivered_ce_bytes),
        (at::RECEIVED_E1_BYTES, ecn.received_ect_1_bytes),
        (at::RECEIVED_E0_BYTES, ecn.received_ect_0_bytes),
        (at::RECEIVED_CE_BYTES, ecn.received_ce_bytes),
    ] {
        out[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
}

/// The bit fields of ECN: mode 0 none, 1 classic, 2 accurate; of the option 0 nothing, 2 counters, 3 zeros; of failures 2 the
/// counter of the header in, 4 the option out, 8 the option in.
fn ecn(info: &TcpInfo) -> u32 {
    let Some(ecn) = &info.accurate_ecn else {
        return u32::from(info.ecn);
    };
    let seen = match (ecn.option_seen, ecn.option_zeroed) {
        (false, _) => 0,
        (true, false) => 2,
        (true, true) => 3,
    };
    let failed = u32::from(ecn.cleared) << 1
        | u32::from(ecn.option_dropped) << 2
        | u32::from(ecn.option_zeroed) << 3;
    2 | seen << 2 | failed << 4
}

/// The fields that are there for connections with an account.
fn fill(out: &mut [u8; LEN], account: &TcpAccount) {
    for (at, value) in [
        (at::LAST_DATA_RECV, millis(account.since_data_received)),
        (at::TOTAL_RETRANS, account.retransmits),
        (at::SEGS_OUT, account.segments_out),
        (at::SEGS_IN, account.segments_in),
        (at::DATA_SEGS_IN, account.data_segments_in),
        (at::DATA_SEGS_OUT, account.data_segments_out),
        (at::DELIVERED, account.delivered),
        (at::DELIVERED_CE, account.delivered_ce),
        (at::DSACK_DUPS, account.duplicates),
        (at::REORD_SEEN, account.reorderings),
        (at::RCV_OOOPACK, account.out_of_order),
        (at::TOTAL_RTO_TIME, millis(account.timeout_time)),
    ] {
        out[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    out[at::LIMITED_AND_FAIL] |= u8::from(account.delivery_rate_app_limited);
    let long = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    for (at, value) in [
        (at::BYTES_ACKED, account.bytes_acked),
        (at::BYTES_RECEIVED, account.bytes_received),
        (at::BUSY_TIME, long(account.busy)),
        (at::RWND_LIMITED, long(account.window_limited)),
        (at::SNDBUF_LIMITED, long(account.buffer_limited)),
        (at::BYTES_SENT, account.bytes_sent),
        (at::BYTES_RETRANS, account.bytes_retransmitted),
        (at::DELIVERY_RATE, account.delivery_rate),
    ] {
        out[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    for (at, value) in [
        (at::TOTAL_RTO, account.timeouts),
        (at::TOTAL_RTO_RECOVERIES, account.timeout_recoveries),
    ] {
        out[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
}
