//! A socket as `millstream ss` shows it: Linux's names for what `ss` and TCP_INFO tell, each with its unit last.
//!
//! What does not live here: where it comes from (`desk`) and how it looks (`millstream ss`).
#![allow(missing_docs)] // Fields are named as ss(8) and TCP_INFO name them; where that says all, a name stands for itself.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::census::Queues;

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// `tcp` or `udp`.
    pub netid: String,
    /// As `ss` names it.
    pub state: String,
    /// Bytes to be read; of a listener, connections to be accepted.
    pub recv_q: u32,
    /// Bytes not acknowledged; of a listener, its backlog.
    pub send_q: u32,
    pub local: SocketAddr,
    /// The interface it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    pub peer: SocketAddr,
    /// The limits of what may wait to be read and to be acknowledged; 0 where there are none.
    pub receive_buffer: u32,
    pub send_buffer: u32,
    /// Datagrams that found the queue full.
    pub drops: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Box<Tcp>>,
    /// Of a listener: both its queues, and what it did not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<Queues>,
}

/// What TCP knows of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcp {
    pub congestion: String,
    pub timestamps: bool,
    pub sack: bool,
    /// ECN in use, classic or accurate (RFC 9768), and that the peer's data was seen to be capable of marks.
    pub ecn: bool,
    pub accecn: bool,
    pub ecnseen: bool,
    /// Data on the SYN was taken.
    pub fastopen: bool,
    /// Window shifts, the peer's and ours, when both sides scale.
    pub wscale: Option<(u8, u8)>,
    /// `open`, `disorder`, `recovery` or `loss`.
    pub ca_state: String,
    /// Timeouts, unanswered probes and doublings now.
    pub retransmits: u8,
    pub probes: u8,
    pub backoff: u8,
    pub rto_us: u64,
    pub ato_us: u64,
    /// 0 before the first measure.
    pub rtt_us: u64,
    pub rttvar_us: u64,
    /// 0 when nothing is under way.
    pub min_rtt_us: u64,
    pub mss: u32,
    pub rcvmss: u32,
    pub advmss: u32,
    pub pmtu: u32,
    /// Segments.
    pub cwnd: u32,
    /// Segments; none before the first loss.
    pub ssthresh: Option<u32>,
    /// Segments in flight, reported, lost, and sent again and in flight.
    pub unacked: u32,
    pub sacked: u32,
    pub lost: u32,
    pub retrans: u32,
    pub reordering: u32,
    pub notsent_bytes: u32,
    pub snd_wnd: u32,
    pub rcv_wnd: u32,
    /// The round trip as the receiving side sees it; 0 before a stream came in.
    pub rcv_rtt_us: u64,
    pub rcv_space: u32,
    pub rcv_ssthresh: u32,
    /// What the congestion control keeps of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathModel>,
    /// Bytes a second; none when nothing limits it.
    pub pacing_rate: Option<u64>,
    pub last_data_sent_ms: u64,
    pub last_ack_recv_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
}

/// What some congestion controls keep of a path (TCP_CC_INFO).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathModel {
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
pub struct Account {
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segs_out: u32,
    pub segs_in: u32,
    pub data_segs_out: u32,
    pub data_segs_in: u32,
    pub total_retrans: u32,
    /// Bytes a second; 0 before the first measurement.
    pub delivery_rate: u64,
    /// That would have been more if the application had had more to send.
    pub app_limited: bool,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub dsack_dups: u32,
    pub reord_seen: u32,
    pub rcv_ooopack: u32,
    pub last_data_recv_ms: u64,
    pub busy_us: u64,
    pub rwnd_limited_us: u64,
    pub sndbuf_limited_us: u64,
    pub total_rto: u16,
    pub total_rto_recoveries: u16,
    pub total_rto_time_ms: u64,
}

/// A part of the list of sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub sockets: Vec<Socket>,
    /// Where the list goes on.
    pub next: Option<u64>,
    /// Sockets the host has.
    pub total: u32,
}

/// Which sockets are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    pub tcp: bool,
    pub udp: bool,
    pub v4: bool,
    pub v6: bool,
    /// A set of states, see [`states`](crate::states).
    pub states: u16,
    pub sport: Option<u16>,
    pub dport: Option<u16>,
}

/// The packet memory that all of TCP holds, and may: `tcp_mem`, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpMemory {
    pub bytes: u64,
    /// Whether the host is under pressure.
    pub pressure: bool,
    /// Low, pressure, max.
    pub levels: [u64; 3],
}

/// How many sockets there are, and what has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub uptime_ms: u64,
    pub tcp_v4: u64,
    pub tcp_v6: u64,
    pub udp_v4: u64,
    pub udp_v6: u64,
    /// What TCP's queues hold, bytes.
    #[serde(default)]
    pub tcp_memory: TcpMemory,
    /// TCP's, by state.
    pub states: Vec<(String, u64)>,
    /// What the host counts, if it happened: name, meaning, how often.
    pub events: Vec<(String, String, u64)>,
    pub drops: Vec<(String, String, u64)>,
}
