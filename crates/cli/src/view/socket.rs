//! A socket as `millstream ss` shows it: Linux's names for what `ss` and TCP_INFO tell, each with its unit last.
//!
//! What does not live here: where it comes from (`serve`) and how it looks (`ss`).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::census::Queues;

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Socket {
    /// `tcp` or `udp`.
    pub(crate) netid: String,
    /// As `ss` names it.
    pub(crate) state: String,
    /// Bytes to be read; of a listener, connections to be accepted.
    pub(crate) recv_q: u32,
    /// Bytes not acknowledged; of a listener, its backlog.
    pub(crate) send_q: u32,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// The limits of what may wait to be read and to be acknowledged; 0 where there are none.
    pub(crate) receive_buffer: u32,
    pub(crate) send_buffer: u32,
    /// Datagrams that found the queue full.
    pub(crate) drops: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tcp: Option<Box<Tcp>>,
    /// Of a listener: both its queues, and what it did not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listener: Option<Queues>,
}

/// What TCP knows of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tcp {
    pub(crate) congestion: String,
    pub(crate) timestamps: bool,
    pub(crate) sack: bool,
    /// ECN in use, classic or accurate (RFC 9768), and that the peer's data was seen to be capable of marks.
    pub(crate) ecn: bool,
    pub(crate) accecn: bool,
    pub(crate) ecnseen: bool,
    /// Data on the SYN was taken.
    pub(crate) fastopen: bool,
    /// Window shifts, the peer's and ours, when both sides scale.
    pub(crate) wscale: Option<(u8, u8)>,
    /// `open`, `disorder`, `recovery` or `loss`.
    pub(crate) ca_state: String,
    /// Timeouts, unanswered probes and doublings now.
    pub(crate) retransmits: u8,
    pub(crate) probes: u8,
    pub(crate) backoff: u8,
    pub(crate) rto_us: u64,
    pub(crate) ato_us: u64,
    /// 0 before the first measure.
    pub(crate) rtt_us: u64,
    pub(crate) rttvar_us: u64,
    /// 0 when nothing is under way.
    pub(crate) min_rtt_us: u64,
    pub(crate) mss: u32,
    pub(crate) rcvmss: u32,
    pub(crate) advmss: u32,
    pub(crate) pmtu: u32,
    /// Segments.
    pub(crate) cwnd: u32,
    /// Segments; none before the first loss.
    pub(crate) ssthresh: Option<u32>,
    /// Segments in flight, reported, lost, and sent again and in flight.
    pub(crate) unacked: u32,
    pub(crate) sacked: u32,
    pub(crate) lost: u32,
    pub(crate) retrans: u32,
    pub(crate) reordering: u32,
    pub(crate) notsent_bytes: u32,
    pub(crate) snd_wnd: u32,
    pub(crate) rcv_wnd: u32,
    /// The round trip as the receiving side sees it; 0 before a stream came in.
    pub(crate) rcv_rtt_us: u64,
    pub(crate) rcv_space: u32,
    pub(crate) rcv_ssthresh: u32,
    /// What the congestion control keeps of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<PathModel>,
    /// Bytes a second; none when nothing limits it.
    pub(crate) pacing_rate: Option<u64>,
    pub(crate) last_data_sent_ms: u64,
    pub(crate) last_ack_recv_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<Account>,
}

/// What some congestion controls keep of a path (TCP_CC_INFO).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PathModel {
    /// `alpha` in 1/1024, bytes marked and acknowledged in this window.
    Dctcp {
        ce_state: bool,
        alpha: u32,
        ab_ecn: u32,
        ab_tot: u32,
    },
    /// Bytes a second, and gains in hundredths.
    Bbr {
        bw: u64,
        mrtt_us: u64,
        pacing_gain_percent: u32,
        cwnd_gain_percent: u32,
    },
}

/// What a connection has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_retrans: u64,
    pub(crate) bytes_acked: u64,
    pub(crate) bytes_received: u64,
    pub(crate) segs_out: u32,
    pub(crate) segs_in: u32,
    pub(crate) data_segs_out: u32,
    pub(crate) data_segs_in: u32,
    pub(crate) total_retrans: u32,
    /// Bytes a second; 0 before the first measurement.
    pub(crate) delivery_rate: u64,
    /// That would have been more if the application had had more to send.
    pub(crate) app_limited: bool,
    pub(crate) delivered: u32,
    pub(crate) delivered_ce: u32,
    pub(crate) dsack_dups: u32,
    pub(crate) reord_seen: u32,
    pub(crate) rcv_ooopack: u32,
    pub(crate) last_data_recv_ms: u64,
    pub(crate) busy_us: u64,
    pub(crate) rwnd_limited_us: u64,
    pub(crate) sndbuf_limited_us: u64,
    pub(crate) total_rto: u16,
    pub(crate) total_rto_recoveries: u16,
    pub(crate) total_rto_time_ms: u64,
}

/// A part of the list of sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) sockets: Vec<Socket>,
    /// Where the list goes on.
    pub(crate) next: Option<u64>,
    /// Sockets the host has.
    pub(crate) total: u32,
}

/// Which sockets are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filter {
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
    pub(crate) v4: bool,
    pub(crate) v6: bool,
    /// A set of states, see `serve::desk::states`.
    pub(crate) states: u16,
    pub(crate) sport: Option<u16>,
    pub(crate) dport: Option<u16>,
}

/// The packet memory that all of TCP holds, and may: `tcp_mem`, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TcpMemory {
    pub(crate) bytes: u64,
    /// Whether the host is under pressure.
    pub(crate) pressure: bool,
    /// Low, pressure, max.
    pub(crate) levels: [u64; 3],
}

/// How many sockets there are, and what has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) uptime_ms: u64,
    pub(crate) tcp_v4: u64,
    pub(crate) tcp_v6: u64,
    pub(crate) udp_v4: u64,
    pub(crate) udp_v6: u64,
    /// What TCP's queues hold, bytes.
    #[serde(default)]
    pub(crate) tcp_memory: TcpMemory,
    /// TCP's, by state.
    pub(crate) states: Vec<(String, u64)>,
    /// What the host counts, if it happened: name, meaning, how often.
    pub(crate) events: Vec<(String, String, u64)>,
    pub(crate) drops: Vec<(String, String, u64)>,
}
