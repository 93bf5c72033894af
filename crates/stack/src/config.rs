//! Sizes and limits of a host, fixed at start.
//!
//! What does not live here: addresses, routes and options of sockets, which may change while the host runs.

/// Sizes of every table and pool, and the defaults of the protocols.
///
/// Memory is reserved by these figures and touched as it is used.
#[derive(Debug, Clone)]
pub struct Config {
    /// Blocks of 2 KiB in the packet pool.
    pub pool_blocks: u32,
    /// TCP connections, all states but SYN-RECEIVED and TIME-WAIT.
    pub tcp_connections: u32,
    /// Connections with data queued, in flight or out of order at the same time.
    pub tcp_active: u32,
    /// Half-open connections (SYN-RECEIVED), all listeners together.
    pub tcp_half_open: u32,
    /// TCP connections that Fast Open is opening, from here and by listeners together.
    pub tcp_fast_open: u32,
    /// Destinations whose Fast Open cookies are kept.
    pub tcp_fast_open_cookies: u32,
    /// TIME-WAIT records.
    pub tcp_time_wait: u32,
    /// TCP listeners.
    pub tcp_listeners: u32,
    /// Places in streams of which somebody waits to hear, and notices of them that nobody has taken, see
    /// [`crate::Host::tcp_mark`].
    pub tcp_marks: u32,
    /// UDP sockets.
    pub udp_sockets: u32,
    /// Timers armed at the same time.
    pub timers: u32,
    /// Neighbour table entries (ARP and NDP together).
    pub neighbours: u32,
    /// Routes.
    pub routes: u32,
    /// Path MTU cache entries.
    pub path_mtus: u32,
    /// Datagrams being reassembled.
    pub reassemblies: u32,
    /// Blocks that datagrams being reassembled may hold.
    pub reassembly_blocks: u32,
    /// Frames queued for one interface.
    pub transmit_queue: usize,
    /// Bytes a TCP connection may hold to be read, and the window it can offer at most. `None`: it begins with half of
    /// `rmem_default`, and grows with what is read up to `rmem_max`.
    pub tcp_receive_buffer: Option<u32>,
    /// Bytes a TCP connection may hold to be sent or acknowledged. `None`: it begins with `wmem_default`, and grows with the
    /// congestion window up to `wmem_max`.
    pub tcp_send_buffer: Option<u32>,
    /// TCP connections keep account of what they do, unless they say otherwise: see [`crate::TcpOptions::account`].
    pub tcp_account: bool,
    /// Bytes a UDP socket may hold to be read.
    pub udp_receive_buffer: u32,
    /// First and last ephemeral port.
    pub ephemeral_ports: (u16, u16),
    /// What of TCP is tuned by Linux's names; may change while the host runs, see [`crate::Host::set_tcp_tunables`].
    pub tcp: crate::TcpTunables,
    /// How long TIME-WAIT lasts; Linux's 60 s.
    pub time_wait: core::time::Duration,
    /// Duplicate address detection for addresses added by hand, too.
    pub duplicate_detection: bool,
    /// Accept router advertisements: default routes, prefixes, SLAAC.
    pub accept_router_advertisements: bool,
    /// Secret from which stable IPv6 interface identifiers are made (RFC 7217): kept over restarts, so are the addresses.
    /// `None`: a new one at each start.
    pub stable_address_key: Option<[u8; 16]>,
    /// Forget learnt neighbours' trust at this age (RFC 4861 BASE_REACHABLE_TIME).
    pub reachable_time: core::time::Duration,
    /// ICMP errors per second this host may send in all.
    pub icmp_rate: u32,
}

impl Default for Config {
    fn default() -> Self {
        use core::time::Duration;
        Self {
            pool_blocks: 32 * 1024,
            tcp_connections: 65_536,
            tcp_active: 16_384,
            tcp_half_open: 4_096,
            tcp_fast_open: 4_096,
            tcp_fast_open_cookies: 1_024,
            tcp_time_wait: 65_536,
            tcp_listeners: 256,
            tcp_marks: 16_384,
            udp_sockets: 1_024,
            timers: 131_072,
            neighbours: 1_024,
            routes: 1_024,
            path_mtus: 4_096,
            reassemblies: 256,
            reassembly_blocks: 2_048,
            transmit_queue: 1_024,
            tcp_receive_buffer: None,
            tcp_send_buffer: None,
            tcp_account: false,
            udp_receive_buffer: 208 * 1024,
            ephemeral_ports: (32_768, 60_999),
            tcp: crate::TcpTunables::default(),
            time_wait: Duration::from_secs(60),
            duplicate_detection: true,
            accept_router_advertisements: true,
            stable_address_key: None,
            reachable_time: Duration::from_secs(30),
            icmp_rate: 1_000,
        }
    }
}

impl Config {
    /// Refuses figures no host can be built of.
    pub(crate) fn check(&self) -> Result<(), crate::ConfigError> {
        use crate::ConfigError::Value;
        const LIMIT: u32 = 1 << 28;
        let counts = [self.tcp_connections, self.tcp_half_open, self.tcp_time_wait];
        if counts.iter().any(|&n| n == 0 || n >= LIMIT) {
            return Err(Value(
                "tcp_connections, tcp_half_open and tcp_time_wait must be from 1 to 2^28 - 1",
            ));
        }
        if self.tcp_fast_open > 65_534 {
            return Err(Value("tcp_fast_open must be 65,534 at most"));
        }
        if self.pool_blocks < 64 {
            return Err(Value("pool_blocks must be 64 at least"));
        }
        let buffer = self.tcp_receive_buffer.unwrap_or(4096);
        if !(4096..=1 << 30).contains(&buffer) {
            return Err(Value("tcp_receive_buffer must be from 4 KiB to 1 GiB"));
        }
        let buffer = self.tcp_send_buffer.unwrap_or(4096);
        if !(4096..=1 << 30).contains(&buffer) {
            return Err(Value("tcp_send_buffer must be from 4 KiB to 1 GiB"));
        }
        if !self.tcp.check() {
            return Err(Value(crate::TcpTunables::OUT_OF_RANGE));
        }
        if self.tcp_listeners > 65_535 {
            return Err(Value("tcp_listeners must be 65,535 at most"));
        }
        if self.ephemeral_ports.0 == 0 || self.ephemeral_ports.0 > self.ephemeral_ports.1 {
            return Err(Value("ephemeral_ports must be a range of ports above 0"));
        }
        Ok(())
    }
}
