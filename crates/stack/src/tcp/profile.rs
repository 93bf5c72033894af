//! Options of TCP sockets, shared by all connections that have the same ones.
//!
//! A connection keeps two bytes: the number of its profile, which is its local address and its options. A server's million
//! connections share one. Changing an option of one socket moves it to another profile.
//!
//! What does not live here: state that changes while a connection runs.
//!
//! Invariant: equal (address, options) pairs share one profile; a profile is freed with its last reference.

use core::time::Duration;
use std::borrow::Cow;
use std::collections::BTreeMap;

use wire::Addr;

use crate::config::Config;
use crate::net::{InterfaceId, Net, RouteMetrics};

use super::congestion::Congestion;
use super::synchronise::initial_window;
use super::tunables::TcpTunables;

/// Keepalive (RFC 9293 3.8.4), with Linux's three knobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keepalive {
    /// Silence before the first probe (TCP_KEEPIDLE).
    pub idle: Duration,
    /// Time between probes (TCP_KEEPINTVL).
    pub interval: Duration,
    /// Unanswered probes before the connection is given up (TCP_KEEPCNT).
    pub probes: u8,
}

impl Default for Keepalive {
    /// Two hours (RFC 9293 MUST-28), then nine probes every 75 s, as Linux.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(7200),
            interval: Duration::from_secs(75),
            probes: 9,
        }
    }
}

/// Options of a TCP socket. Values of 0 that would let nothing through count as the least that works.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TcpOptions {
    /// Nagle's algorithm off (TCP_NODELAY).
    pub nodelay: bool,
    /// Probe a silent peer (SO_KEEPALIVE); off by default (RFC 9293 MUST-25).
    pub keepalive: Option<Keepalive>,
    /// Give up when data stays unacknowledged for so long (TCP_USER_TIMEOUT); `None`: 15 retransmissions, as Linux.
    pub user_timeout: Option<Duration>,
    /// How often a SYN or SYN-ACK is sent again (TCP_SYNCNT); the host's `syn_retries` or `synack_retries` when `None`.
    pub syn_retries: Option<u8>,
    /// On a listener: connections are accepted when their first data comes, or after this time, rounded up to timeouts of the
    /// SYN-ACK (TCP_DEFER_ACCEPT).
    pub defer_accept: Option<Duration>,
    /// Connect with Fast Open where a cookie is known: the SYN waits for the first data, and takes it along. Where none is, one is
    /// asked for (TCP_FASTOPEN_CONNECT).
    pub fast_open: bool,
    /// On a listener: how many connections may be under way that a SYN has opened with its data; 0: none are
    /// (TCP_FASTOPEN, RFC 7413).
    pub fast_open_queue: u32,
    /// Data on a SYN needs no cookie: at a listener's any SYN's, at a connection's our own (TCP_FASTOPEN_NO_COOKIE). Only where
    /// nobody can send with the address of another.
    pub fast_open_no_cookie: bool,
    /// On a listener: the headers of SYNs are saved for the connections they open, from IP's on (1), or from the link's (2), as
    /// far as there is one; 0: they are not (TCP_SAVE_SYN).
    pub save_syn: u8,
    /// For how long a closed socket in FIN-WAIT-2 waits for the peer's FIN, at most 120 s; zero: not at all, it is reset
    /// (TCP_LINGER2). The host's `fin_timeout` when `None`.
    pub linger2: Option<Duration>,
    /// SO_LINGER: `Some(0)` resets on close; other values close as `None` does, without waiting.
    pub linger: Option<Duration>,
    /// On a listener: share the address with others that say the same, as [`Host::reuseport_select`](crate::Host::reuseport_select)
    /// says (SO_REUSEPORT). Settled when it is opened.
    pub reuse_port: bool,
    /// On a listener: its address need not be this host's (IP_FREEBIND).
    pub freebind: bool,
    /// On a listener: the unspecified IPv6 address serves no IPv4 (IPV6_V6ONLY).
    pub only_v6: bool,
    /// Only by this interface: what comes by another is not for the socket, and what it sends goes out by it (SO_BINDTODEVICE). What
    /// this host says to itself comes by the interface that has the address. Of a listener settled when it is opened.
    pub device: Option<InterfaceId>,
    /// Every ICMP error is told, and at once, not only as the reason of a timeout (IP_RECVERR, IPV6_RECVERR).
    pub receive_errors: bool,
    /// Time to live or hop limit; the host's or the router's default when `None` (IP_TTL, IPV6_UNICAST_HOPS).
    pub ttl: Option<u8>,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Bytes that may wait to be sent or acknowledged (SO_SNDBUF), and up to one super-frame more. `None`: the host's first, which
    /// grows with the congestion window (`wmem_default`, `wmem_max`).
    pub send_buffer: Option<u32>,
    /// The send buffer is reckoned as Linux's: each super-frame's worth of bytes costs its bookkeeping besides, and one that is
    /// begun is filled though it be longer than the buffer. A write may take less than there is room for, for what comes first
    /// to leave; the next takes more. Else bytes count.
    /// A receive buffer that is set stands for twice its bytes of memory, and holds what its frames leave room for.
    pub charge_frames: bool,
    /// Bytes that may wait to be sent for the first time before no more are wanted (TCP_NOTSENT_LOWAT); 0: as many as the host's
    /// `notsent_lowat` says.
    pub notsent_lowat: u32,
    /// Bytes that may wait to be read; also bounds the window offered. `None`: the host's first, which grows with what is read
    /// (`moderate_rcvbuf`).
    pub receive_buffer: Option<u32>,
    /// Never offer a larger window (TCP_WINDOW_CLAMP), bytes.
    pub window_clamp: Option<u32>,
    /// Readable when so many bytes are there, or no more can come (SO_RCVLOWAT); a buffer that is not set has room for them.
    pub receive_low_water: u32,
    /// Never send or announce a larger segment (TCP_MAXSEG), bytes of payload and options.
    pub max_segment: Option<u16>,
    /// The MSS announced instead of the link's, up to `max_segment`; the route's `advmss` or `mtu` when `None`.
    pub advertised_mss: Option<u16>,
    /// The first congestion window, and that after idle time, in segments; the route's `initcwnd`, else ten, when `None`.
    pub initial_cwnd: Option<u16>,
    /// The first window offered, in segments, no more than there is room for; the route's `initrwnd`, else all, when `None`.
    pub initial_rwnd: Option<u16>,
    /// The longest retransmission timeout, from 1 s to 120 s (TCP_RTO_MAX_MS); the host's `rto_max_ms` when the socket began to
    /// connect or listen, when `None`.
    pub rto_max: Option<Duration>,
    /// Routers may fragment what is sent over IPv4 (IP_MTU_DISCOVER: IP_PMTUDISC_DONT).
    pub fragment: bool,
    /// Congestion control; that of the route, else the host's `congestion_control`, when the connection began, when `None`
    /// (TCP_CONGESTION).
    pub congestion: Option<Congestion>,
    /// Keep account of what is sent and received, for [`TcpInfo::account`](super::TcpInfo): 132 bytes for the connection.
    pub account: bool,
    /// Frames leave at a rate, as behind Linux's `fq`.
    pub pacing: bool,
    /// At most so many bytes a second (SO_MAX_PACING_RATE); `u64::MAX`: as many as may be. Any other paces.
    pub max_pacing_rate: u64,
}

impl TcpOptions {
    /// What connections of a host of this configuration begin with.
    pub fn of(config: &Config) -> Self {
        Self {
            receive_buffer: config.tcp_receive_buffer,
            send_buffer: config.tcp_send_buffer,
            account: config.tcp_account,
            ..Self::default()
        }
    }
}

/// Linux's TCP_MIN_MSS.
const LEAST_SEGMENT: u16 = 88;

impl TcpOptions {
    /// Brings values with which a connection could never do anything, or would do without end, to the nearest that works.
    pub(crate) fn bound(&mut self) {
        let at_least_1 = |n: Option<u32>| n.map(|n| n.max(1));
        self.send_buffer = at_least_1(self.send_buffer);
        self.receive_buffer = at_least_1(self.receive_buffer);
        self.window_clamp = at_least_1(self.window_clamp);
        self.receive_low_water = self.receive_low_water.max(1);
        self.initial_rwnd = self.initial_rwnd.map(|n| n.max(1));
        self.max_segment = self.max_segment.map(|n| n.max(LEAST_SEGMENT));
        self.advertised_mss = self.advertised_mss.map(|n| n.max(LEAST_SEGMENT));
        self.ttl = self.ttl.map(|n| n.max(1));
        self.max_pacing_rate = self.max_pacing_rate.max(1);
        self.user_timeout = self.user_timeout.filter(|time| !time.is_zero()); // as Linux
        let (second, most) = (Duration::from_secs(1), Duration::from_secs(120));
        self.rto_max = self.rto_max.map(|time| time.clamp(second, most));
        self.linger2 = self.linger2.map(|time| time.min(most));
        self.keepalive = self.keepalive.map(|k| Keepalive {
            idle: k.idle.max(Duration::from_millis(1)),
            interval: k.interval.max(Duration::from_millis(1)),
            probes: k.probes.max(1),
        });
    }

    /// The congestion control of a connection.
    #[inline]
    pub(crate) fn algorithm(&self) -> Congestion {
        self.congestion.unwrap_or_default()
    }

    /// What a connection between these addresses has that begins now: where the socket says nothing, its route does, then the host.
    pub(crate) fn begun(
        &self,
        tunables: &TcpTunables,
        net: &Net,
        (remote, local): (&Addr, &Addr),
    ) -> Cow<'_, Self> {
        let (host, metrics) = (tunables.congestion(), net.metrics_to(remote));
        let as_usual = self.congestion.is_some() || host == Congestion::default();
        if as_usual && metrics == RouteMetrics::default() {
            return Cow::Borrowed(self);
        }
        let mss = metrics.mss(net.link_mtu(local), remote.is_v4());
        Cow::Owned(Self {
            congestion: self.congestion.or(metrics.congctl).or(Some(host)),
            advertised_mss: self.advertised_mss.or(mss),
            initial_cwnd: self.initial_cwnd.or(metrics.initcwnd),
            initial_rwnd: self.initial_rwnd.or(metrics.initrwnd),
            ..self.clone()
        })
    }

    /// The congestion window that a connection with segments of `mss` begins with: IW10 (RFC 6928), unless it was said.
    pub(crate) fn initial_window(&self, mss: u32) -> u32 {
        match self.initial_cwnd {
            Some(segments) => u32::from(segments.max(1)).saturating_mul(mss).min(1 << 30),
            None => initial_window(mss),
        }
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            nodelay: false,
            keepalive: None,
            user_timeout: None,
            syn_retries: None,
            defer_accept: None,
            fast_open: false,
            fast_open_queue: 0,
            fast_open_no_cookie: false,
            save_syn: 0,
            linger2: None,
            linger: None,
            reuse_port: false,
            freebind: false,
            only_v6: false,
            device: None,
            receive_errors: false,
            ttl: None,
            tos: 0,
            send_buffer: None,
            charge_frames: false,
            notsent_lowat: 0,
            receive_buffer: None,
            window_clamp: None,
            receive_low_water: 1,
            max_segment: None,
            advertised_mss: None,
            initial_cwnd: None,
            initial_rwnd: None,
            rto_max: None,
            fragment: false,
            congestion: None,
            account: false,
            pacing: false,
            max_pacing_rate: u64::MAX,
        }
    }
}

/// What many connections share.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) local: Addr,
    pub(crate) options: TcpOptions,
    references: u32,
}

/// The interned profiles of one host; at most 65,535.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    entries: Vec<Option<Profile>>,
    free: Vec<u16>,
    /// How many are bound to a device.
    devices: u16,
    index: BTreeMap<(Addr, TcpOptions), u16>,
    /// The profile found last: a burst of connections to one service finds it without a search.
    last: u16,
}

impl Profiles {
    #[inline]
    pub(crate) fn get(&self, index: u16) -> &Profile {
        match self.entries.get(usize::from(index)) {
            Some(Some(profile)) => profile,
            _ => unreachable!("a record holds a reference to its profile"),
        }
    }

    /// Takes a reference to the profile with this address and these options. `None` when 65,535 different ones live.
    pub(crate) fn acquire(&mut self, local: Addr, options: &TcpOptions) -> Option<u16> {
        if let Some(Some(p)) = self.entries.get_mut(usize::from(self.last))
            && p.local == local
            && p.options == *options
        {
            p.references += 1;
            return Some(self.last);
        }
        let key = (local, options.clone());
        let index = match self.index.get(&key) {
            Some(&index) => index,
            None => self.create(key)?,
        };
        self.last = index;
        self.retain(index);
        Some(index)
    }

    fn create(&mut self, key: (Addr, TcpOptions)) -> Option<u16> {
        let profile = Profile {
            local: key.0,
            options: key.1.clone(),
            references: 0,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[usize::from(index)] = Some(profile);
                index
            }
            None => {
                let index = u16::try_from(self.entries.len())
                    .ok()
                    .filter(|&i| i != u16::MAX)?;
                self.entries.push(Some(profile));
                index
            }
        };
        self.devices += u16::from(key.1.device.is_some());
        self.index.insert(key, index);
        Some(index)
    }

    /// Takes one more reference.
    pub(crate) fn retain(&mut self, index: u16) {
        if let Some(Some(p)) = self.entries.get_mut(usize::from(index)) {
            p.references += 1;
        }
    }

    /// Gives a reference back.
    pub(crate) fn release(&mut self, index: u16) {
        let Some(slot) = self.entries.get_mut(usize::from(index)) else {
            return;
        };
        let Some(p) = slot else { return };
        p.references -= 1;
        if p.references == 0
            && let Some(p) = slot.take()
        {
            self.devices -= u16::from(p.options.device.is_some());
            self.index.remove(&(p.local, p.options));
            self.free.push(index);
        }
    }

    /// Whether some connection is bound to a device.
    #[inline]
    pub(crate) fn any_device(&self) -> bool {
        self.devices > 0
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether as many are bound to a device as were counted.
    pub(crate) fn counts_devices(&self) -> bool {
        let all = self.entries.iter().flatten();
        let bound = all.filter(|p| p.options.device.is_some());
        bound.count() == usize::from(self.devices)
    }

    /// References to all of them.
    pub(crate) fn references(&self) -> u32 {
        self.entries.iter().flatten().map(|p| p.references).sum()
    }
}
