//! Links, addresses, routes and neighbours of the namespace the calling thread is in.
//!
//! Links are named, as everywhere in Linux; each call opens its own netlink socket, so none keeps state.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use crate::netlink::{Client, Refusal, Request, attribute, text, u32_at};
use crate::{Error, Namespace, ethtool, sysctl};

const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
/// linux/veth.h
const VETH_INFO_PEER: u16 = 1;
// linux/if_link.h
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IFLA_STATS64: u16 = 23;
/// linux/rtnetlink.h
const RTAX_MTU: u16 = 2;
const IN6_ADDR_GEN_MODE_EUI64: u8 = 0;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// What the kernel says of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its number in this namespace.
    pub index: u32,
    /// Hardware address; zero if it has none of six bytes.
    pub mac: [u8; 6],
    /// Largest packet without the Ethernet header, bytes.
    pub mtu: u32,
    /// Packets its queue may hold.
    pub txqueuelen: u32,
    /// IFF_UP: switched on.
    pub up: bool,
    /// IFF_LOWER_UP: the other end is there.
    pub carrier: bool,
    /// Switched on, other end there, and the kernel has taken notice of both: before that it swallows what is sent.
    pub running: bool,
    /// What went through since it was made.
    pub stats: Stats,
}

/// Counters of a link, from the kernel's point of view: what it transmits into a TAP, the program reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Stats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

/// An offload of a link that can be switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Generic receive offload: segments put together before the stack sees them.
    Gro,
    /// Generic segmentation offload: super-frames cut up in software just before the driver.
    Gso,
    /// TCP segmentation by the device, v4 and v6, with ECN: super-frames reach the driver whole.
    Tso,
    /// UDP segmentation by the device.
    Uso,
    /// Checksums of sent frames filled in by the device. Switching it off switches segmentation off as well.
    TxChecksum,
    /// Checksums of received frames vouched for by the device.
    RxChecksum,
}

impl Offload {
    /// The kernel's names for it. Where there are several, the last ones may be absent.
    fn features(self) -> &'static [&'static str] {
        match self {
            Offload::Gro => &["rx-gro"],
            Offload::Gso => &["tx-generic-segmentation"],
            Offload::Tso => &[
                "tx-tcp-segmentation",
                "tx-tcp6-segmentation",
                "tx-tcp-ecn-segmentation",
            ],
            Offload::Uso => &["tx-udp-segmentation"],
            Offload::TxChecksum => &["tx-checksum-ip-generic"],
            Offload::RxChecksum => &["rx-checksum"],
        }
    }
}

/// The number of the link.
///
/// # Errors
/// When there is none of that name.
pub fn index(name: &str) -> Result<u32, Error> {
    Ok(facts(name)?.index)
}

/// Everything the kernel says of the link.
///
/// # Errors
/// When there is none of that name.
pub fn facts(name: &str) -> Result<Facts, Error> {
    let request =
        Request::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0)).string(libc::IFLA_IFNAME, name);
    let mut found = Facts::default();
    let result = Client::open().and_then(|mut client| {
        client.call(request, |kind, body| {
            if kind == libc::RTM_NEWLINK {
                found = parse(body);
            }
        })
    });
    result.map_err(|e| error(format_args!("cannot look up link {name}"), e))?;
    Ok(found)
}

/// Switches the link on.
///
/// # Errors
/// As the kernel refuses.
pub fn set_up(name: &str) -> Result<(), Error> {
    change(name, "switch on", libc::IFF_UP as u32, |r| r)
}

/// Switches the link off.
///
/// # Errors
/// As the kernel refuses.
pub fn set_down(name: &str) -> Result<(), Error> {
    let header = link_header(index(name)?, 0, libc::IFF_UP as u32);
    call(
        format_args!("cannot switch off link {name}"),
        Request::new(libc::RTM_NEWLINK, 0, &header),
    )
}

/// Waits until what is sent out of the link is not swallowed any more: the kernel takes notice of the other end of a
/// veth pair a moment after that was switched on.
///
/// # Errors
/// When there is no such link, or it is not running after five seconds (the other end is off).
pub fn wait_running(name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !facts(name)?.running {
        if Instant::now() > deadline {
            let why = std::io::Error::from_raw_os_error(libc::ENETDOWN);
            return Err(Error::failed(
                format_args!("link {name} does not come up (is its other end switched on?)"),
                &why,
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Sets the largest packet, without the Ethernet header, in bytes.
///
/// # Errors
/// As the kernel refuses; the limits are the driver's (68 to 65,535 for TAP and veth).
pub fn set_mtu(name: &str, mtu: u32) -> Result<(), Error> {
    change(name, &format!("set MTU {mtu} of"), 0, |r| {
        r.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
    })
}

/// Sets the hardware address.
///
/// # Errors
/// As the kernel refuses (a multicast or all-zero address, for example).
pub fn set_mac(name: &str, mac: [u8; 6]) -> Result<(), Error> {
    change(name, "set the MAC of", 0, |r| {
        r.attribute(libc::IFLA_ADDRESS, &mac)
    })
}

/// Sets how many packets the link's queue may hold: of a TAP, how far the reader may lag behind.
///
/// # Errors
/// As the kernel refuses.
pub fn set_txqueuelen(name: &str, packets: u32) -> Result<(), Error> {
    change(name, "set txqueuelen of", 0, |r| {
        r.attribute(libc::IFLA_TXQLEN, &packets.to_ne_bytes())
    })
}

/// Whether IPv6 gives the link its link-local address by itself when it comes up. Needs no `/proc/sys`.
///
/// # Errors
/// When the kernel has no IPv6.
pub fn set_link_local(name: &str, automatic: bool) -> Result<(), Error> {
    let mode = if automatic {
        IN6_ADDR_GEN_MODE_EUI64
    } else {
        IN6_ADDR_GEN_MODE_NONE
    };
    change(name, "set the address generation of", 0, |r| {
        r.nest(libc::IFLA_AF_SPEC, |r| {
            r.nest(libc::AF_INET6 as u16, |r| {
                r.attribute(IFLA_INET6_ADDR_GEN_MODE, &[mode])
            })
        })
    })
}

/// No addresses or routes from router advertisements, and no solicitations for them (RFC 4862 switched off).
///
/// # Errors
/// As [`sysctl`].
pub fn disable_ipv6_autoconf(name: &str) -> Result<(), Error> {
    for setting in ["accept_ra", "autoconf", "router_solicitations"] {
        sysctl(&format!("ipv6/conf/{name}/{setting}"), "0")?;
    }
    Ok(())
}

/// No duplicate address detection: addresses are usable at once, and nothing is asked on the wire.
///
/// # Errors
/// As [`sysctl`].
pub fn disable_ipv6_dad(name: &str) -> Result<(), Error> {
    sysctl(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
    sysctl(&format!("ipv6/conf/{name}/dad_transmits"), "0")
}

/// No IPv6 at all on this link (or `all`, or `default` for links to come).
///
/// # Errors
/// As [`sysctl`].
pub fn disable_ipv6(name: &str) -> Result<(), Error> {
    sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), "1")
}

/// Gives the link an address; `prefix` is the length of its network. An IPv6 address is usable at once (no DAD).
///
/// # Errors
/// When it is there already, or as the kernel refuses.
pub fn add_addr(name: &str, address: IpAddr, prefix: u8) -> Result<(), Error> {
    assign(name, address, prefix, libc::IFA_F_NODAD as u8)
}

/// As [`add_addr`], but an IPv6 address is claimed first, if the link's settings say so: duplicate address detection.
///
/// # Errors
/// As [`add_addr`]; a duplicate that is found later is not reported here.
pub fn claim_addr(name: &str, address: IpAddr, prefix: u8) -> Result<(), Error> {
    assign(name, address, prefix, 0)
}

fn assign(name: &str, address: IpAddr, prefix: u8, v6_flags: u8) -> Result<(), Error> {
    let index = index(name)?;
    // struct ifaddrmsg { family, prefixlen, flags, scope; u32 index }
    let flags = if address.is_ipv6() { v6_flags } else { 0 };
    let mut header = vec![family(address), prefix, flags, libc::RT_SCOPE_UNIVERSE];
    header.extend_from_slice(&index.to_ne_bytes());
    let bytes = octets(address);
    let mut request = Request::new(libc::RTM_NEWADDR, CREATE, &header)
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes);
    if let IpAddr::V4(v4) = address
        && prefix < 31
    {
        let broadcast = v4.to_bits() | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        request = request.attribute(libc::IFA_BROADCAST, &broadcast.to_be_bytes());
    }
    call(
        format_args!("cannot add address {address}/{prefix} to {name}"),
        request,
    )
}

/// Makes two links that are the two ends of one cable, both switched off.
///
/// # Errors
/// When a name is taken, or the kernel has no veth.
pub fn create_veth(a: &str, b: &str) -> Result<(), Error> {
    Veth::new(a, b).create()
}

/// A veth pair with more than a name to say about.
#[derive(Debug)]
pub struct Veth<'a> {
    a: &'a str,
    b: &'a str,
    far: Option<&'a Namespace>,
    queues: u32,
}

impl<'a> Veth<'a> {
    /// A pair with these names, one queue each, both ends here.
    #[must_use]
    pub fn new(a: &'a str, b: &'a str) -> Self {
        Self {
            a,
            b,
            far: None,
            queues: 1,
        }
    }

    /// The second end is made in another namespace.
    #[must_use]
    pub fn far(mut self, namespace: &'a Namespace) -> Self {
        self.far = Some(namespace);
        self
    }

    /// Queues in each direction of each end.
    #[must_use]
    pub fn queues(mut self, queues: u32) -> Self {
        self.queues = queues;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// When a name is taken, or the kernel has no veth.
    pub fn create(self) -> Result<(), Error> {
        let Self { a, b, far, queues } = self;
        let counted = |r: Request| {
            r.attribute(libc::IFLA_NUM_TX_QUEUES, &queues.to_ne_bytes())
                .attribute(libc::IFLA_NUM_RX_QUEUES, &queues.to_ne_bytes())
        };
        let peer = |r: Request| {
            let r = counted(r.raw(&link_header(0, 0, 0)).string(libc::IFLA_IFNAME, b));
            match far {
                Some(ns) => {
                    r.attribute(libc::IFLA_NET_NS_FD, &ns.as_fd().as_raw_fd().to_ne_bytes())
                }
                None => r,
            }
        };
        let request = Request::new(libc::RTM_NEWLINK, CREATE, &link_header(0, 0, 0));
        let request =
            counted(request.string(libc::IFLA_IFNAME, a)).nest(libc::IFLA_LINKINFO, |r| {
                r.string(libc::IFLA_INFO_KIND, "veth")
                    .nest(libc::IFLA_INFO_DATA, |r| r.nest(VETH_INFO_PEER, peer))
            });
        call(format_args!("cannot make the veth pair {a} - {b}"), request)
    }
}

/// Removes a link (of a veth pair: both ends).
///
/// # Errors
/// When there is none of that name, or it cannot be removed (`lo`).
pub fn delete(name: &str) -> Result<(), Error> {
    let header = link_header(index(name)?, 0, 0);
    call(
        format_args!("cannot delete link {name}"),
        Request::new(libc::RTM_DELLINK, 0, &header),
    )
}

/// Moves a link into another namespace; it loses its addresses and is switched off there.
///
/// # Errors
/// As the kernel refuses.
pub fn move_to(name: &str, namespace: &Namespace) -> Result<(), Error> {
    let fd = namespace.as_fd().as_raw_fd();
    change(name, "move", 0, |r| {
        r.attribute(libc::IFLA_NET_NS_FD, &fd.to_ne_bytes())
    })
}

/// Adds a route to `destination`/`prefix` out of the link, through the gateway `via` or directly.
///
/// # Errors
/// When it is there already, the gateway cannot be reached, or the families differ.
pub fn add_route(
    name: &str,
    destination: IpAddr,
    prefix: u8,
    via: Option<IpAddr>,
) -> Result<(), Error> {
    route(name, (destination, prefix), via, None)
}

/// Adds a route straight out of the link on which packets may be `mtu` bytes long, less than the link's.
///
/// # Errors
/// As [`add_route`].
pub fn add_route_with_mtu(
    name: &str,
    destination: IpAddr,
    prefix: u8,
    mtu: u32,
) -> Result<(), Error> {
    route(name, (destination, prefix), None, Some(mtu))
}

fn route(
    name: &str,
    (destination, prefix): (IpAddr, u8),
    via: Option<IpAddr>,
    mtu: Option<u32>,
) -> Result<(), Error> {
    let scope = if via.is_some() || destination.is_ipv6() {
        libc::RT_SCOPE_UNIVERSE
    } else {
        libc::RT_SCOPE_LINK
    };
    // struct rtmsg { family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags }
    let mut header = vec![
        family(destination),
        prefix,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        scope,
        libc::RTN_UNICAST,
    ];
    header.extend_from_slice(&0u32.to_ne_bytes());
    let mut request = Request::new(libc::RTM_NEWROUTE, CREATE, &header)
        .attribute(libc::RTA_DST, &octets(destination))
        .attribute(libc::RTA_OIF, &index(name)?.to_ne_bytes());
    if let Some(via) = via {
        request = request.attribute(libc::RTA_GATEWAY, &octets(via));
    }
    if let Some(mtu) = mtu {
        request = request.nest(libc::RTA_METRICS, |r| {
            r.attribute(RTAX_MTU, &mtu.to_ne_bytes())
        });
    }
    call(
        format_args!("cannot add the route {destination}/{prefix} out of {name}"),
        request,
    )
}

/// A line of the kernel's neighbour table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its IP address.
    pub address: IpAddr,
    /// Its hardware address, once known.
    pub mac: Option<[u8; 6]>,
    /// One of the NUD_ states of linux/neighbour.h; NUD_REACHABLE is 2.
    pub state: u16,
}

/// The kernel's neighbours on the link, of both families.
///
/// # Errors
/// When there is no such link.
pub fn neighbours(name: &str) -> Result<Vec<Neighbour>, Error> {
    let wanted = index(name)?;
    // struct ndmsg { family, pad, u16 pad; i32 ifindex; u16 state; flags, type }
    let request = Request::new(libc::RTM_GETNEIGH, libc::NLM_F_DUMP, &[0; 12]);
    let mut found = Vec::new();
    let result = Client::open().and_then(|mut client| {
        client.call(request, |kind, body| {
            if kind == libc::RTM_NEWNEIGH && body.len() >= 12 && u32_at(body, 4) == wanted {
                found.extend(neighbour(body));
            }
        })
    });
    result.map_err(|e| error(format_args!("cannot list the neighbours on {name}"), e))?;
    Ok(found)
}

/// An RTM_NEWNEIGH body as the kernel sent it.
fn neighbour(body: &[u8]) -> Option<Neighbour> {
    let attributes = &body[12..];
    let address = attribute(attributes, libc::NDA_DST)?;
    let address = match <[u8; 4]>::try_from(address) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    Some(Neighbour {
        address,
        mac: attribute(attributes, libc::NDA_LLADDR).and_then(|mac| mac.try_into().ok()),
        state: u16::from_ne_bytes([body[8], body[9]]),
    })
}

/// Tells the kernel the hardware address of a neighbour for good, so that it does not ask.
///
/// # Errors
/// As the kernel refuses.
pub fn add_neighbour(name: &str, address: IpAddr, mac: [u8; 6]) -> Result<(), Error> {
    // struct ndmsg { family, pad, u16 pad; i32 ifindex; u16 state; flags, type }
    let mut header = vec![family(address), 0, 0, 0];
    header.extend_from_slice(&index(name)?.to_ne_bytes());
    header.extend_from_slice(&libc::NUD_PERMANENT.to_ne_bytes());
    header.extend_from_slice(&[0, 0]);
    let replace = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let request = Request::new(libc::RTM_NEWNEIGH, replace, &header)
        .attribute(libc::NDA_DST, &octets(address))
        .attribute(libc::NDA_LLADDR, &mac);
    call(
        format_args!("cannot add the neighbour {address} on {name}"),
        request,
    )
}

/// Switches an offload of the link.
///
/// # Errors
/// When the device does not let it be changed.
pub fn set_offload(name: &str, offload: Offload, on: bool) -> Result<(), Error> {
    for (i, feature) in offload.features().iter().enumerate() {
        match ethtool::set_feature(name, feature, on) {
            Err(e) if i > 0 && e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            other => other.map_err(|e| {
                let verb = if on { "on" } else { "off" };
                Error::failed(format_args!("cannot switch {feature} {verb} on {name}"), &e)
            })?,
        }
    }
    Ok(())
}

/// Whether an offload of the link is active.
///
/// # Errors
/// When there is no such link, or the kernel does not know the offload.
pub fn offload(name: &str, offload: Offload) -> Result<bool, Error> {
    let feature = offload.features()[0];
    ethtool::feature(name, feature)
        .map_err(|e| Error::failed(format_args!("cannot read {feature} of {name}"), &e))
}

/// struct ifinfomsg { family, pad, u16 type; i32 index; u32 flags, change }
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// One RTM_NEWLINK about an existing link: `flags` to switch on, attributes added by `fill`.
fn change(
    name: &str,
    verb: &str,
    flags: u32,
    fill: impl FnOnce(Request) -> Request,
) -> Result<(), Error> {
    let header = link_header(index(name)?, flags, flags);
    let request = fill(Request::new(libc::RTM_NEWLINK, 0, &header));
    call(format_args!("cannot {verb} link {name}"), request)
}

fn call(what: fmt::Arguments<'_>, request: Request) -> Result<(), Error> {
    Client::open()
        .and_then(|mut client| client.call(request, |_, _| {}))
        .map_err(|e| error(what, e))
}

fn error(what: fmt::Arguments<'_>, refusal: Refusal) -> Error {
    let sentence = refusal
        .sentence
        .map(|s| format!(" ({s})"))
        .unwrap_or_default();
    let remedy = match refusal.error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            " (needs CAP_NET_ADMIN: run as root or in a namespace of one's own)"
        }
        Some(libc::ENODEV) if sentence.is_empty() => " (no link of that name here)",
        Some(libc::EEXIST) if sentence.is_empty() => " (there is one already)",
        Some(libc::EOPNOTSUPP) if sentence.is_empty() => " (this kernel does not have it)",
        _ => "",
    };
    let made = Error::failed(format_args!("{what}{sentence}{remedy}"), &refusal.error);
    match refusal.error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT) => {
            Error::unavailable(made.to_string(), made.raw_os_error())
        }
        _ => made,
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An RTM_NEWLINK body as the kernel sent it.
fn parse(body: &[u8]) -> Facts {
    let mut facts = Facts::default();
    if body.len() < 16 {
        return facts;
    }
    facts.index = u32_at(body, 4);
    let flags = u32_at(body, 8);
    facts.up = flags & libc::IFF_UP as u32 != 0;
    facts.carrier = flags & libc::IFF_LOWER_UP as u32 != 0;
    let attributes = &body[16..];
    // A device that is not active yet has this queueing discipline, which drops everything and reports success.
    let noop = attribute(attributes, libc::IFLA_QDISC).is_some_and(|q| text(q) == "noop");
    facts.running = facts.up && facts.carrier && !noop;
    let number = |kind| {
        attribute(attributes, kind)
            .filter(|v| v.len() >= 4)
            .map_or(0, |v| u32_at(v, 0))
    };
    facts.mtu = number(libc::IFLA_MTU);
    facts.txqueuelen = number(libc::IFLA_TXQLEN);
    if let Some(Ok(mac)) = attribute(attributes, libc::IFLA_ADDRESS).map(<[u8; 6]>::try_from) {
        facts.mac = mac;
    }
    // struct rtnl_link_stats64: rx and tx of packets, bytes, errors, dropped come first.
    if let Some(stats) = attribute(attributes, IFLA_STATS64) {
        let mut numbers = stats
            .as_chunks::<8>()
            .0
            .iter()
            .map(|c| u64::from_ne_bytes(*c));
        let mut next = || numbers.next().unwrap_or(0);
        facts.stats = Stats {
            rx_packets: next(),
            tx_packets: next(),
            rx_bytes: next(),
            tx_bytes: next(),
            rx_errors: next(),
            tx_errors: next(),
            rx_dropped: next(),
            tx_dropped: next(),
        };
    }
    facts
}
