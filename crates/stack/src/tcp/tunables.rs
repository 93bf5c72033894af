//! What an administrator may tune of TCP, by Linux's sysctl names. It holds for the whole host and may change while it runs.
//!
//! What does not live here: options of single sockets (`profile`), sizes of tables (`config`).

use core::time::Duration;

use wire::tcp::Options;

/// Host-wide settings of TCP; the defaults are Linux's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpTunables {
    /// Offer and accept timestamps (`tcp_timestamps`).
    pub timestamps: bool,
    /// Offer and accept SACK (`tcp_sack`).
    pub sack: bool,
    /// Offer and accept window scaling (`tcp_window_scaling`).
    pub window_scaling: bool,
    /// Times a SYN is sent again (`tcp_syn_retries`).
    pub syn_retries: u8,
    /// Times a SYN-ACK is sent again (`tcp_synack_retries`).
    pub synack_retries: u8,
    /// R2 of RFC 9293 3.8.3 for data: timeouts in a row before giving up (`tcp_retries2`).
    pub retries2: u8,
    /// The same for connections nobody owns any more (`tcp_orphan_retries`).
    pub orphan_retries: u8,
    /// How long a FIN is waited for once nobody can read (`tcp_fin_timeout`).
    pub fin_timeout: Duration,
}

impl Default for TcpTunables {
    fn default() -> Self {
        Self {
            timestamps: true,
            sack: true,
            window_scaling: true,
            syn_retries: 6,
            synack_retries: 5,
            retries2: 15,
            orphan_retries: 8,
            fin_timeout: Duration::from_secs(60),
        }
    }
}

impl TcpTunables {
    /// Takes out of a SYN's options what this host does not speak.
    pub(crate) fn spoken(&self, mut options: Options) -> Options {
        options.timestamps = options.timestamps.filter(|_| self.timestamps);
        options.window_scale = options.window_scale.filter(|_| self.window_scaling);
        options.sack_permitted &= self.sack;
        options
    }
}
