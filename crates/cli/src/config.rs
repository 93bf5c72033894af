//! The configuration file of `millstream up`: TOML in, checked facts out.
//!
//! What does not live here: acting on it (`up`), and the devices and stacks it names.
//!
//! Invariant: an error names file, line and column, says what is wrong and what would be right, in one line.
//! Invariant: a [`Config`] holds nothing contradictory; whoever acts on it checks only what the machine may refuse.

mod file;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use millstream::{RouteMetrics, TcpTunables};
use wire::{Addr, Cidr, Mac};

use crate::services::Service;

pub(crate) use file::in_words;

/// The smallest MTU IPv6 works with (RFC 8200 5).
const MTU_MIN: u16 = 1_280;

/// The longest name of a network device (IFNAMSIZ without its NUL).
const DEVICE_MAX: usize = 15;

/// The most ports one host may have.
const PORTS_MAX: usize = 16;

/// The most shards a host may have.
const SHARDS_MAX: usize = 64;

/// A whole file, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// What the host calls itself.
    pub(crate) name: String,
    /// In how many threads it runs: 1 to [`SHARDS_MAX`].
    pub(crate) shards: usize,
    /// At least one.
    pub(crate) ports: Vec<Port>,
    /// What the table `tcp` says, else the defaults.
    pub(crate) tcp: TcpTunables,
    /// May be none: such a host still answers ping.
    pub(crate) serves: Vec<Serve>,
}

/// One port.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) kind: PortKind,
    pub(crate) device: String,
    /// None: one is made from the host's and the port's name.
    pub(crate) mac: Option<Mac>,
    /// Of a TAP. None: as the kernel makes it, 1500.
    pub(crate) mtu: Option<u16>,
    pub(crate) pcap: Option<PathBuf>,
    pub(crate) addresses: Vec<Cidr>,
    /// Of a TAP: addresses of the kernel's end.
    pub(crate) kernel_addresses: Vec<Cidr>,
    /// Default routers.
    pub(crate) gateways: Vec<Addr>,
    pub(crate) routes: Vec<Route>,
}

/// What a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortKind {
    /// A TAP device this program makes.
    Tap,
    /// An existing network device, through AF_PACKET.
    Packet,
}

/// A route out of the port it stands in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Route {
    pub(crate) to: Cidr,
    pub(crate) via: Addr,
    pub(crate) metrics: RouteMetrics,
}

/// One service.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Serve {
    pub(crate) kind: ServeKind,
    pub(crate) listen: Vec<SocketAddr>,
}

/// What is served.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ServeKind {
    /// Files below a folder, over HTTP.
    Http { root: PathBuf },
    /// The live page and the endpoints of the demo, over HTTP.
    Live,
    /// One of the small services, over TCP, and over UDP where it is harmless.
    Plain(Service),
}

impl ServeKind {
    /// Its name in the file.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Live => "live",
            Self::Plain(Service::Echo) => "echo",
            Self::Plain(Service::Discard) => "discard",
            Self::Plain(Service::Chargen) => "chargen",
        }
    }

    /// Whether it listens on UDP as well.
    pub(crate) fn datagrams(&self) -> bool {
        matches!(self, Self::Plain(Service::Echo | Service::Discard))
    }
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// Line and column, both from 1; None when it is not about one place.
    pub(crate) place: Option<(usize, usize)>,
    /// What is wrong and what would be right.
    pub(crate) message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{line}:{column}: {}", self.message),
            None => write!(f, " {}", self.message),
        }
    }
}

/// A complaint about a range of the text.
pub(crate) struct Complaint {
    pub(crate) span: Option<Range<usize>>,
    pub(crate) message: String,
}

impl Complaint {
    pub(crate) fn at(span: Range<usize>, message: impl fmt::Display) -> Self {
        Self {
            span: Some(span),
            message: message.to_string(),
        }
    }
}

/// Reads and checks a file's text. Relative paths in it start at `folder`.
///
/// # Errors
/// The first thing wrong with it.
pub(crate) fn parse(text: &str, folder: &Path) -> Result<Config, ConfigError> {
    file::read(text, folder).map_err(|complaint| placed(text, complaint))
}

/// The complaint with its line and column.
pub(crate) fn placed(text: &str, complaint: Complaint) -> ConfigError {
    ConfigError {
        place: complaint.span.map(|span| place(text, span.start)),
        message: complaint.message,
    }
}

/// Line and column of a byte offset, both from 1; columns count characters, as editors do.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// A unicast address a host may have: not the one of the subnet itself, nor its broadcast address (RFC 1122 3.2.1.3).
fn is_assignable(cidr: &Cidr) -> bool {
    let addr = cidr.addr();
    let subnet = cidr.broadcast().is_some() && *cidr == cidr.network();
    addr.is_unicast() && !addr.is_loopback() && Some(addr) != cidr.broadcast() && !subnet
}

/// Whether a listener on this address can get anything at all, given the host's addresses.
fn is_local(ip: IpAddr, ports: &[Port]) -> bool {
    ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        || ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        || ip.is_loopback()
        || ports
            .iter()
            .flat_map(|port| &port.addresses)
            .any(|cidr| cidr.addr().to_ip() == ip)
}
