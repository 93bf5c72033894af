//! What of TCP can be tuned for the whole host, by Linux's sysctl names, while it runs.
//!
//! What does not live here: options of single sockets (`profile`), sizes of tables (`config`).
//!
//! Invariant: a setting that is read is within its range: [`TcpTunables::check`] guards the way in.

use core::ops::RangeInclusive;
use core::time::Duration;

use wire::tcp::Options;

use super::congestion::{Congestion, Variant};

/// Why a setting was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingError {
    /// Nothing has this name.
    Unknown,
    /// The value is out of this range.
    Range(RangeInclusive<u32>),
    /// The value is no number.
    NoNumber,
    /// The value is not three numbers of which none is smaller than the one before.
    NoLevels,
    /// No congestion control has this name.
    NoCongestion,
}

impl core::fmt::Display for SettingError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown => write!(
                f,
                "there is no such setting, expected one of {}",
                TcpTunables::NAMES.join(", ")
            ),
            Self::Range(range) => write!(f, "must be from {} to {}", range.start(), range.end()),
            Self::NoNumber => write!(f, "must be a whole number"),
            Self::NoLevels => write!(
                f,
                "must be three whole numbers, low, pressure and max, none smaller than the one before"
            ),
            Self::NoCongestion => {
                let names: Vec<&str> = Congestion::AVAILABLE.iter().map(|c| c.name()).collect();
                write!(f, "must be one of {}", names.join(", "))
            }
        }
    }
}

impl core::error::Error for SettingError {}

const CONGESTION_CONTROL: &str = "congestion_control";
const MEM: &str = "mem";

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident = $default:expr, $range:expr;)*) => {
        /// Settings of TCP for a whole host. Each has the name of Linux's `net.ipv4.tcp_*` without the prefix, its unit and its
        /// default; `somaxconn` is `net.core.somaxconn`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct TcpTunables {
            $($(#[$doc])* pub $name: u32,)*
            /// Pages of 4 KiB that all connections may hold together: low, pressure, max; 0, 0, 0: in proportion to the
            /// host's packet memory, of which max is fifteen sixteenths.
            pub mem: [u32; 3],
        }

        impl Default for TcpTunables {
            fn default() -> Self {
                Self { $($name: $default,)* mem: [0; 3] }
            }
        }

        impl TcpTunables {
            /// The names, without `tcp_`.
            pub const NAMES: &[&str] = &[$(stringify!($name),)* MEM];

            fn find(&mut self, name: &str) -> Option<(&mut u32, RangeInclusive<u32>)> {
                match name.strip_prefix("tcp_").unwrap_or(name) {
                    $(stringify!($name) => Some((&mut self.$name, $range)),)*
                    _ => None,
                }
            }

            /// The value of a setting that is one number, by its name with or without `tcp_`.
            pub fn get(&self, name: &str) -> Option<u32> {
                match name.strip_prefix("tcp_").unwrap_or(name) {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

settings! {
    /// 1: offer and accept timestamps.
    timestamps = 1, 0..=1;
    /// 1: offer and accept SACK.
    sack = 1, 0..=1;
    /// 1: offer and accept window scaling.
    window_scaling = 1, 0..=1;
    /// SYN cookies (RFC 4987 3.6): 0 never, 1 when the queue of half-open connections is full, 2 always.
    syncookies = 1, 0..=2;
    /// Fast Open (RFC 7413), bits: 1 connections from here, 2 listeners that have a queue for it, 4 from here without cookie,
    /// 0x200 listeners want no cookie, 0x400 all listeners have a queue.
    fastopen = 1, 0..=0x7fff_ffff;
    /// Seconds for which Fast Open rests here once its data seems to vanish on the way, doubled each time; 0: it never does.
    fastopen_blackhole_timeout_sec = 0, 0..=1 << 24;
    /// 1: a handshake that ends when the accept queue is full is reset. 0: its ACK is dropped, and the client tries again.
    abort_on_overflow = 0, 0..=1;
    /// 1: what waits at a listener that is closed goes to others that share its address (Linux: 0).
    migrate_req = 1, 0..=1;
    /// Half-open connections of one listener, when there are no SYN cookies: the last quarter is left to nobody.
    max_syn_backlog = 4_096, 1..=1 << 30;
    /// The longest backlog a listener gets.
    somaxconn = 4_096, 0..=65_535;
    /// How often a SYN-ACK is sent again.
    synack_retries = 5, 0..=127;
    /// How often a SYN is sent again, after `syn_linear_timeouts`.
    syn_retries = 6, 1..=127;
    /// How many timeouts of a SYN pass before the next is doubled.
    syn_linear_timeouts = 4, 0..=127;
    /// Seconds for which a closed socket in FIN-WAIT-2 waits for the peer's FIN.
    fin_timeout = 60, 1..=120;
    /// Whether a connection from here may take over a tuple in TIME-WAIT (RFC 6191): 0 no, 1 yes, 2 on the loopback only. A port
    /// that the application names may always be.
    tw_reuse = 2, 0..=2;
    /// Milliseconds for which TIME-WAIT is not taken over.
    tw_reuse_delay = 1_000, 1..=60_000;
    /// TIME-WAIT records, if the table has room for as many: the oldest makes room.
    max_tw_buckets = 262_144, 0..=1 << 30;
    /// 1: a reset does not end TIME-WAIT (RFC 1337).
    rfc1337 = 0, 0..=1;
    /// Explicit congestion notification (RFC 3168): 0 never, 1 asked for and accepted, 2 accepted. Accurate (RFC 9768): 3 asked
    /// for and accepted, 4 accepted while the classic is asked for, 5 accepted.
    ecn = 2, 0..=5;
    /// 1: a SYN that was lost with ECN is sent again without, and who sees that marks are spoiled on the way sends none.
    ecn_fallback = 1, 0..=1;
    /// Accurate ECN's option: 0 never, 1 when something must be told, 2 in every segment with room, 3 even when it seems that
    /// such segments are dropped on the way.
    ecn_option = 2, 0..=3;
    /// When `ecn_option` is 1: how often in a round trip at least, while something can be told.
    ecn_option_beacon = 3, 0..=63;
    /// 1: a window that was not used for a timeout's time shrinks (RFC 2861).
    slow_start_after_idle = 1, 0..=1;
    /// How slow start is left before it loses: 0 not at all, 1 at once, as by Linux's CUBIC, 2 by HyStart++ (RFC 9406).
    hystart = 2, 0..=2;
    /// The rate of paced connections, in per cent of a window each round trip, in slow start.
    pacing_ss_ratio = 200, 1..=1_000;
    /// The same in congestion avoidance.
    pacing_ca_ratio = 120, 1..=1_000;
    /// Segments that a frame for the device to cut may have, however low the rate.
    min_tso_segs = 2, 1..=255;
    /// 3 and 4: probes of the tail (RFC 8985 7); less: none.
    early_retrans = 3, 0..=4;
    /// Milliseconds that pass at least between two ACKs of a connection against segments it does not accept (RFC 5961 7).
    invalid_ratelimit = 500, 0..=60_000;
    /// 1: a receive buffer that is not set grows with what is read in a round trip.
    moderate_rcvbuf = 1, 0..=1;
    /// The second number of `tcp_rmem`: the buffer a connection begins with, bytes. Half of it are offered.
    rmem_default = 131_072, 2_304..=1 << 30;
    /// The third number of `tcp_rmem`: bytes up to which a receive buffer grows by itself.
    rmem_max = 6_291_456, 2_304..=1 << 30;
    /// The second number of `tcp_wmem`: bytes a connection may hold to be sent or acknowledged when it begins.
    wmem_default = 1 << 20, 4_096..=1 << 30;
    /// The third number of `tcp_wmem`: bytes up to which a send buffer grows by itself, with the congestion window.
    wmem_max = 4 << 20, 4_096..=1 << 30;
    /// Nanoseconds for which word of out-of-order data may be held back, after the first of it; a twentieth of the round trip at
    /// most, and as exact as the host's timers, 66 us.
    comp_sack_delay_ns = 1_000_000, 0..=1_000_000_000;
    /// Out-of-order segments that may wait to be told of together; 0: none.
    comp_sack_nr = 44, 0..=255;
    /// 1: a window may be said to be smaller than before, when there is less room. What was offered is accepted all the same.
    shrink_window = 0, 0..=1;
    /// Path MTU discovery without ICMP (RFC 4821): 0 not at all, 1 once segments seem to vanish for their length, 2 always.
    mtu_probing = 0, 0..=2;
    /// Payload and options of the segments that such a search begins with.
    base_mss = 1_024, 48..=65_535;
    /// The least payload and options of segments sent, whatever the peer says.
    min_snd_mss = 48, 48..=65_535;
    /// The least that a search goes down to.
    mtu_probe_floor = 48, 48..=65_535;
    /// Seconds after which a search that has ended begins anew.
    probe_interval = 600, 0..=u32::MAX;
    /// A search ends when so few bytes are left between what arrives and what does not.
    probe_threshold = 8, 1..=65_535;
    /// Timeouts in a row of data after which the path is suspected.
    retries1 = 3, 0..=255;
    /// Timeouts in a row after which data is given up.
    retries2 = 15, 0..=255;
    /// The same when the application has closed the socket; 0 means 8.
    orphan_retries = 0, 0..=255;
    /// The longest retransmission timeout of sockets made from now on, milliseconds.
    rto_max_ms = 120_000, 1_000..=120_000;
    /// Congestion control of sockets that name none, by its place in [`Congestion::AVAILABLE`]; by name in
    /// [`TcpTunables::set_text`].
    congestion_control = 0, 0..=Congestion::AVAILABLE.len() as u32 - 1;
    /// Bytes that may wait to be sent for the first time before a socket is no longer ready to be written, unless it says itself.
    notsent_lowat = u32::MAX, 0..=u32::MAX;
}

impl TcpTunables {
    /// Sets what is named, with or without `tcp_` in front.
    ///
    /// # Errors
    /// No such name, or out of range, or more than one number; nothing has changed then.
    pub fn set(&mut self, name: &str, value: i64) -> Result<(), SettingError> {
        if name.strip_prefix("tcp_").unwrap_or(name) == MEM {
            return Err(SettingError::NoLevels);
        }
        let (setting, range) = self.find(name).ok_or(SettingError::Unknown)?;
        match u32::try_from(value).ok().filter(|v| range.contains(v)) {
            Some(value) => *setting = value,
            None => return Err(SettingError::Range(range)),
        }
        Ok(())
    }

    /// As [`TcpTunables::set`], of text: a number, or a name where values have names, or three numbers.
    ///
    /// # Errors
    /// As there, and what is neither.
    pub fn set_text(&mut self, name: &str, text: &str) -> Result<(), SettingError> {
        if name.strip_prefix("tcp_").unwrap_or(name) == CONGESTION_CONTROL {
            let all = Congestion::AVAILABLE.iter();
            let place = all.map(|which| which.name()).position(|own| own == text);
            self.congestion_control = place.ok_or(SettingError::NoCongestion)? as u32;
            return Ok(());
        }
        if name.strip_prefix("tcp_").unwrap_or(name) == MEM {
            self.mem = levels(text).ok_or(SettingError::NoLevels)?;
            return Ok(());
        }
        self.set(name, text.parse().map_err(|_| SettingError::NoNumber)?)
    }

    /// The value of a setting as [`TcpTunables::set_text`] takes it.
    pub fn text(&self, name: &str) -> Option<String> {
        match name.strip_prefix("tcp_").unwrap_or(name) {
            CONGESTION_CONTROL => Some(self.congestion().name().to_owned()),
            MEM => Some(self.mem.map(|pages| pages.to_string()).join(" ")),
            other => self.get(other).map(|value| value.to_string()),
        }
    }

    /// Congestion control of sockets that name none.
    pub fn congestion(&self) -> Congestion {
        let which = Congestion::AVAILABLE.get(self.congestion_control as usize);
        which.copied().unwrap_or_default()
    }

    /// Takes out of a SYN's options what this host does not speak.
    pub(crate) fn spoken(&self, mut options: Options) -> Options {
        options.timestamps = options.timestamps.filter(|_| self.timestamps != 0);
        options.window_scale = options.window_scale.filter(|_| self.window_scaling != 0);
        options.sack_permitted &= self.sack != 0;
        options
    }

    /// `fin_timeout` as a time.
    pub(crate) fn fin_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.fin_timeout))
    }

    pub(crate) fn hystart(&self) -> Variant {
        match self.hystart {
            0 => Variant::Off,
            1 => Variant::AtOnce,
            _ => Variant::PlusPlus,
        }
    }

    pub(crate) const OUT_OF_RANGE: &str =
        "a setting of tcp is out of range: TcpTunables says which it has";

    /// Whether all are in range.
    pub(crate) fn check(&self) -> bool {
        let mut copy = *self;
        self.mem.is_sorted()
            && Self::NAMES.iter().filter(|name| **name != MEM).all(|name| {
                copy.find(name)
                    .is_some_and(|(value, range)| range.contains(value))
            })
    }
}

/// Three numbers, as a sysctl has them or a list of TOML.
fn levels(text: &str) -> Option<[u32; 3]> {
    let text = text.trim();
    let list = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let separator = |c: char| c.is_whitespace() || list.is_some() && c == ',';
    let words = list.unwrap_or(text).split(separator);
    let numbers = words.filter(|word| !word.is_empty()).map(str::parse);
    let numbers: Result<Vec<u32>, _> = numbers.collect();
    let levels: [u32; 3] = numbers.ok()?.try_into().ok()?;
    levels.is_sorted().then_some(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_linux_names_and_ranges() {
        let mut settings = TcpTunables::default();
        assert!(settings.check());
        assert_eq!(settings.set("tcp_syncookies", 2), Ok(()));
        assert_eq!(settings.get("syncookies"), Some(2));
        let refused = settings.set("syncookies", 3);
        assert_eq!(refused, Err(SettingError::Range(0..=2)));
        assert_eq!(
            settings.set("syn_retries", -1),
            Err(SettingError::Range(1..=127))
        );
        assert_eq!(settings.set("synkookies", 1), Err(SettingError::Unknown));
        assert_eq!(settings.get("synkookies"), None);
        assert_eq!(settings.text("congestion_control"), Some("cubic".into()));
        assert_eq!(settings.set_text("tcp_congestion_control", "bbr"), Ok(()));
        assert_eq!(settings.text("tcp_congestion_control"), Some("bbr".into()));
        let refused = settings.set_text("congestion_control", "vegas");
        assert_eq!(refused, Err(SettingError::NoCongestion));
        assert_eq!(settings.set_text("syncookies", "0"), Ok(()));
        assert_eq!(settings.text("syncookies"), Some("0".into()));
        let refused = settings.set_text("syncookies", "no");
        assert_eq!(refused, Err(SettingError::NoNumber));
        assert_eq!(settings.text("mem"), Some("0 0 0".into()));
        for text in ["30 40 60", " 30\t40\t60 ", "[30, 40, 60]"] {
            assert_eq!(settings.set_text("tcp_mem", text), Ok(()));
            assert_eq!(settings.mem, [30, 40, 60]);
        }
        for text in ["30 40", "30 40 60 80", "40 30 60", "30,40,60", "-1 1 2", ""] {
            let refused = settings.set_text("mem", text);
            assert_eq!(refused, Err(SettingError::NoLevels), "{text}");
        }
        assert_eq!(settings.set("mem", 30), Err(SettingError::NoLevels));
        assert_eq!(settings.text("tcp_mem"), Some("30 40 60".into()));
        settings.mem = [3, 2, 4];
        assert!(!settings.check());
        settings.mem = [0; 3];
        settings.syn_retries = 0;
        assert!(!settings.check());
    }
}
