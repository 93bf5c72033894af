//! The file as it is written, key by key, and the checks that turn it into a [`Config`].
//!
//! What does not live here: lines and columns, which `config` makes of the spans kept here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use millstream::{Congestion, RouteMetrics, SettingError, TcpTunables};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use wire::{Addr, Cidr, Mac};

use super::{
    Complaint, Config, DEVICE_MAX, MTU_MIN, PORTS_MAX, Port, PortKind, Route, SHARDS_MAX, Serve,
    ServeKind, is_assignable, is_local,
};
use crate::services::Service;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    name: Option<Spanned<String>>,
    shards: Option<Spanned<i64>>,
    #[serde(default)]
    tcp: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    #[serde(default)]
    port: Vec<Spanned<PortText>>,
    #[serde(default)]
    serve: Vec<Spanned<ServeText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PortText {
    name: Spanned<String>,
    kind: Spanned<String>,
    device: Option<Spanned<String>>,
    mac: Option<Spanned<String>>,
    mtu: Option<Spanned<i64>>,
    pcap: Option<Spanned<String>>,
    dhcp: Option<Spanned<toml::Value>>,
    addresses: Option<Many>,
    kernel_addresses: Option<Many>,
    gateway: Option<Many>,
    #[serde(default)]
    routes: Vec<RouteText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteText {
    to: Spanned<String>,
    via: Spanned<String>,
    mtu: Option<Spanned<u16>>,
    mtu_lock: Option<Spanned<bool>>,
    advmss: Option<Spanned<u16>>,
    initcwnd: Option<Spanned<u16>>,
    initrwnd: Option<Spanned<u16>>,
    congctl: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServeText {
    kind: Spanned<String>,
    listen: Many,
    root: Option<Spanned<String>>,
}

/// One string or a list of them, each with its place.
struct Many(Vec<Spanned<String>>);

/// The same while it is read: a lone string's place is known only outside.
enum OneOrList {
    One(String),
    List(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for Many {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Spanned::<OneOrList>::deserialize(deserializer)?;
        let span = read.span();
        Ok(Self(match read.into_inner() {
            OneOrList::One(text) => vec![Spanned::new(span, text)],
            OneOrList::List(list) => list,
        }))
    }
}

impl<'de> Deserialize<'de> for OneOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = OneOrList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrList, E> {
                Ok(OneOrList::One(text.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrList, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = seq.next_element()? {
                    list.push(item);
                }
                Ok(OneOrList::List(list))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Reads and checks.
pub(super) fn read(text: &str, folder: &Path) -> Result<Config, Complaint> {
    let file: FileText = toml::from_str(text).map_err(|error| Complaint {
        span: error.span(),
        message: in_words(error.message()),
    })?;
    let name = match file.name {
        Some(name) => non_empty(name, "name")?,
        None => String::from("millstream"),
    };
    if file.port.is_empty() {
        let message = "there is no [[port]]: a host needs at least one; see `millstream up --help` for an example";
        return Err(Complaint {
            span: None,
            message: message.into(),
        });
    }
    if let Some(extra) = file.port.get(PORTS_MAX) {
        return Err(Complaint::at(
            extra.span(),
            format_args!("too many ports: at most {PORTS_MAX}"),
        ));
    }
    let mut ports = Vec::new();
    let mut taken = Taken::default();
    for port in file.port {
        ports.push(check_port(port.into_inner(), folder, &mut taken)?);
    }
    let mut serves = Vec::new();
    for serve in file.serve {
        serves.push(check_serve(serve.into_inner(), folder, &ports, &mut taken)?);
    }
    Ok(Config {
        name,
        shards: check_shards(file.shards)?,
        ports,
        tcp: check_tcp(file.tcp)?,
        serves,
    })
}

fn check_shards(shards: Option<Spanned<i64>>) -> Result<usize, Complaint> {
    let Some(shards) = shards else { return Ok(1) };
    let number = usize::try_from(*shards.as_ref()).ok();
    let number = number.filter(|n| (1..=SHARDS_MAX).contains(n));
    number.ok_or_else(|| {
        let message =
            format!("a host has 1 to {SHARDS_MAX} shards, one for each processor it may use");
        Complaint::at(shards.span(), message)
    })
}

/// Settings by Linux's names, without `tcp_`.
fn check_tcp(
    table: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
) -> Result<TcpTunables, Complaint> {
    let mut settings = TcpTunables::default();
    for (name, value) in table {
        let key = name.as_ref();
        let known = TcpTunables::NAMES.contains(&key.as_str());
        let set = match value.as_ref() {
            _ if !known => Err(SettingError::Unknown),
            toml::Value::String(text) => settings.set_text(key, text),
            // A number where a name is due is refused as such.
            other => settings.set_text(key, &other.to_string()),
        };
        set.map_err(|error| match error {
            SettingError::Unknown => Complaint::at(
                name.span(),
                format_args!("unknown setting `{key}`: {error}"),
            ),
            error => Complaint::at(value.span(), format_args!("{key} {error}")),
        })?;
    }
    Ok(settings)
}

/// The parser's message as one line, in the words of TOML's users instead of serde's.
pub(crate) fn in_words(message: &str) -> String {
    let words = [
        (
            "expected a sequence",
            "expected a list, such as [[port]] or [\"a\", \"b\"]",
        ),
        ("expected i64", "expected a whole number"),
        ("invalid type: map", "invalid type: table"),
        ("invalid type: sequence", "invalid type: list"),
        ("\n", ", "),
    ];
    let replace = |text: String, (from, to): (&str, &str)| text.replace(from, to);
    words.into_iter().fold(message.to_owned(), replace)
}

/// What may be there only once.
#[derive(Default)]
struct Taken {
    names: BTreeSet<String>,
    devices: BTreeSet<String>,
    addresses: BTreeSet<Addr>,
    macs: BTreeSet<Mac>,
    listeners: BTreeSet<SocketAddr>,
}

fn check_port(text: PortText, folder: &Path, taken: &mut Taken) -> Result<Port, Complaint> {
    check_dhcp(text.dhcp)?;
    let kind = match text.kind.as_ref().as_str() {
        "tap" => PortKind::Tap,
        "packet" => PortKind::Packet,
        other => {
            let message = format!("unknown kind of port `{other}`, expected `tap` or `packet`");
            return Err(Complaint::at(text.kind.span(), message));
        }
    };
    let name_span = text.name.span();
    let name = non_empty(text.name, "name")?;
    once(
        &mut taken.names,
        name.clone(),
        &name_span,
        "another port has this name",
    )?;
    let device = match text.device {
        Some(device) => check_device(device, taken)?,
        None => {
            let message = "no `device`: give the name of the TAP to make (`ms0`) or of the device to use (`eth1`)";
            return Err(Complaint::at(name_span, message));
        }
    };
    let mac = text.mac.map(|mac| check_mac(&mac, taken)).transpose()?;
    let addresses = check_addresses(text.addresses, taken)?;
    let mtu = check_mtu(text.mtu, kind)?;
    let kernel_addresses = match text.kernel_addresses {
        Some(list) if kind == PortKind::Packet => {
            let message = "kernel_addresses are for kind = \"tap\": the kernel's addresses of a real device are its own";
            let at = list.0.first().map_or(name_span, Spanned::span);
            return Err(Complaint::at(at, message));
        }
        list => check_addresses(list, taken)?,
    };
    let on_link = |addr: &Addr| {
        let own = addresses.iter().any(|cidr| cidr.addr() == *addr);
        let near = |cidr: &Cidr| cidr.contains(*addr);
        !own && (addr.is_link_local() || addresses.iter().any(near))
    };
    let gateways = check_gateways(text.gateway, &on_link)?;
    let check = |route| check_route(route, &on_link);
    let routes = text
        .routes
        .into_iter()
        .map(check)
        .collect::<Result<_, _>>()?;
    let pcap = match text.pcap {
        Some(pcap) => Some(folder.join(non_empty(pcap, "pcap")?)),
        None => None,
    };
    Ok(Port {
        name,
        kind,
        device,
        mac,
        mtu,
        pcap,
        addresses,
        kernel_addresses,
        gateways,
        routes,
    })
}

fn check_dhcp(dhcp: Option<Spanned<toml::Value>>) -> Result<(), Complaint> {
    match dhcp {
        Some(dhcp) if !matches!(dhcp.as_ref(), toml::Value::String(off) if off == "off") => {
            Err(Complaint::at(
                dhcp.span(),
                "DHCP is not there yet: say dhcp = \"off\" and give addresses and gateway",
            ))
        }
        _ => Ok(()),
    }
}

fn check_device(device: Spanned<String>, taken: &mut Taken) -> Result<String, Complaint> {
    let span = device.span();
    let device = device.into_inner();
    let fits = (1..=DEVICE_MAX).contains(&device.len());
    if !fits
        || device == "."
        || device == ".."
        || device.contains(|c: char| c.is_whitespace() || "/:%".contains(c))
    {
        let message =
            format!("not a device name: 1 to {DEVICE_MAX} bytes without blanks, `/`, `:` and `%`");
        return Err(Complaint::at(span, message));
    }
    once(
        &mut taken.devices,
        device.clone(),
        &span,
        "another port uses this device",
    )?;
    Ok(device)
}

fn check_mac(mac: &Spanned<String>, taken: &mut Taken) -> Result<Mac, Complaint> {
    let parsed: Mac = parse(mac, "")?;
    if !parsed.is_unicast() {
        let message =
            "not an address for one station: the first octet must be even and not all octets zero";
        return Err(Complaint::at(mac.span(), message));
    }
    once(
        &mut taken.macs,
        parsed,
        &mac.span(),
        "another port has this MAC address",
    )?;
    Ok(parsed)
}

fn check_mtu(mtu: Option<Spanned<i64>>, kind: PortKind) -> Result<Option<u16>, Complaint> {
    let Some(mtu) = mtu else { return Ok(None) };
    if kind == PortKind::Packet {
        let message = "mtu is for kind = \"tap\": a real device keeps its own (`ip link set DEVICE mtu N` changes it)";
        return Err(Complaint::at(mtu.span(), message));
    }
    match u16::try_from(*mtu.as_ref()) {
        Ok(value) if value >= MTU_MIN => Ok(Some(value)),
        _ => {
            let message = format!(
                "mtu must be between {MTU_MIN} (the least IPv6 works with) and {}",
                u16::MAX
            );
            Err(Complaint::at(mtu.span(), message))
        }
    }
}

fn check_addresses(list: Option<Many>, taken: &mut Taken) -> Result<Vec<Cidr>, Complaint> {
    let mut addresses = Vec::new();
    for text in list.map(|many| many.0).unwrap_or_default() {
        let cidr: Cidr = parse(&text, "")?;
        if !is_assignable(&cidr) {
            let message = format!("{cidr} is not an address one host can have");
            return Err(Complaint::at(text.span(), message));
        }
        once(
            &mut taken.addresses,
            cidr.addr(),
            &text.span(),
            "this address is there twice",
        )?;
        addresses.push(cidr);
    }
    Ok(addresses)
}

fn check_gateways(
    list: Option<Many>,
    on_link: &dyn Fn(&Addr) -> bool,
) -> Result<Vec<Addr>, Complaint> {
    let mut gateways: Vec<Addr> = Vec::new();
    for text in list.map(|many| many.0).unwrap_or_default() {
        let addr = check_hop(&text, on_link)?;
        if gateways.iter().any(|other| other.family() == addr.family()) {
            return Err(Complaint::at(
                text.span(),
                "more than one gateway of a family: give one, and `routes` for the rest",
            ));
        }
        gateways.push(addr);
    }
    Ok(gateways)
}

/// A router we can reach directly.
fn check_hop(text: &Spanned<String>, on_link: &dyn Fn(&Addr) -> bool) -> Result<Addr, Complaint> {
    let addr: Addr = parse(text, "")?;
    if !addr.is_unicast() || !on_link(&addr) {
        let message = format!(
            "{addr} is not a neighbour: a router's address lies in a subnet of this port's addresses, and is not one of them"
        );
        return Err(Complaint::at(text.span(), message));
    }
    Ok(addr)
}

fn check_route(text: RouteText, on_link: &dyn Fn(&Addr) -> bool) -> Result<Route, Complaint> {
    let to: Cidr = parse(&text.to, "")?;
    if to.network() != to {
        let message = format!("{to} has bits beyond its prefix: write {}", to.network());
        return Err(Complaint::at(text.to.span(), message));
    }
    let via = check_hop(&text.via, on_link)?;
    if via.family() != to.family() {
        return Err(Complaint::at(
            text.via.span(),
            "a route and its next hop must be of one family",
        ));
    }
    let metrics = check_metrics(&text)?;
    Ok(Route { to, via, metrics })
}

/// What a route says besides the way, by the names of ip-route(8).
fn check_metrics(text: &RouteText) -> Result<RouteMetrics, Complaint> {
    let at_least = |number: &Option<Spanned<u16>>, least: u16, name: &str| match number {
        Some(number) if *number.as_ref() < least => {
            let message = format!("a route's {name} is {least} at least");
            Err(Complaint::at(number.span(), message))
        }
        number => Ok(number.as_ref().map(|number| *number.as_ref())),
    };
    let mtu = at_least(&text.mtu, 68, "mtu")?;
    let congctl = match &text.congctl {
        None => None,
        Some(name) => Some(Congestion::from_name(name.as_ref()).ok_or_else(|| {
            let error = SettingError::NoCongestion;
            Complaint::at(name.span(), format_args!("congctl {error}"))
        })?),
    };
    let lock = text.mtu_lock.as_ref();
    if let Some(lock) = lock.filter(|lock| *lock.as_ref() && mtu.is_none()) {
        return Err(Complaint::at(lock.span(), "mtu_lock needs an mtu"));
    }
    Ok(RouteMetrics {
        mtu,
        mtu_lock: lock.is_some_and(|lock| *lock.as_ref()),
        advmss: at_least(&text.advmss, 1, "advmss")?,
        initcwnd: at_least(&text.initcwnd, 1, "initcwnd")?,
        initrwnd: at_least(&text.initrwnd, 1, "initrwnd")?,
        congctl,
    })
}

fn check_serve(
    text: ServeText,
    folder: &Path,
    ports: &[Port],
    taken: &mut Taken,
) -> Result<Serve, Complaint> {
    let kind_span = text.kind.span();
    let kind = check_kind(&text.kind, text.root, folder)?;
    if text.listen.0.is_empty() {
        return Err(Complaint::at(
            kind_span,
            "listen is empty: give at least one address such as \"0.0.0.0:80\"",
        ));
    }
    let mut listen = Vec::new();
    for text in text.listen.0 {
        let expected = "expected an address and a port such as \"10.0.0.2:80\" or \"[::]:80\"";
        let address: SocketAddr = parse(&text, expected)?;
        if address.port() == 0 {
            return Err(Complaint::at(
                text.span(),
                "port 0 is nobody's: give the port to listen on",
            ));
        }
        if !is_local(address.ip(), ports) {
            let message = format!(
                "no port has the address {}: give one of addresses, 0.0.0.0 or [::]",
                address.ip()
            );
            return Err(Complaint::at(text.span(), message));
        }
        check_dual(&address, &text, taken)?;
        once(
            &mut taken.listeners,
            address,
            &text.span(),
            "another service listens on this address",
        )?;
        listen.push(address);
    }
    Ok(Serve { kind, listen })
}

/// Whoever listens on an unspecified address has its port on all addresses, and `[::]` takes IPv4 too, as on Linux.
fn check_dual(
    address: &SocketAddr,
    text: &Spanned<String>,
    taken: &Taken,
) -> Result<(), Complaint> {
    let other = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => return check_covered(address, text, taken),
    };
    if taken
        .listeners
        .contains(&SocketAddr::new(other, address.port()))
    {
        let message = format!(
            "[::]:{0} takes IPv4 as well: leave out 0.0.0.0:{0}",
            address.port()
        );
        return Err(Complaint::at(text.span(), message));
    }
    check_covered(address, text, taken)
}

fn check_covered(
    address: &SocketAddr,
    text: &Spanned<String>,
    taken: &Taken,
) -> Result<(), Complaint> {
    let covers = |all: &SocketAddr, one: &SocketAddr| {
        all != one
            && all.port() == one.port()
            && all.ip().is_unspecified()
            && (all.is_ipv6() || one.is_ipv4())
    };
    match taken
        .listeners
        .iter()
        .find(|other| covers(other, address) || covers(address, other))
    {
        Some(other) => {
            let message = format!(
                "{other} is listened on already, and one of the two takes the other in: leave one out"
            );
            Err(Complaint::at(text.span(), message))
        }
        None => Ok(()),
    }
}

fn check_kind(
    kind: &Spanned<String>,
    root: Option<Spanned<String>>,
    folder: &Path,
) -> Result<ServeKind, Complaint> {
    let kind = match (kind.as_ref().as_str(), &root) {
        ("http", Some(root)) => {
            return Ok(ServeKind::Http {
                root: root_path(root, folder)?,
            });
        }
        ("http", None) => {
            return Err(Complaint::at(
                kind.span(),
                "http needs `root`, the folder whose files are served",
            ));
        }
        ("live", _) => ServeKind::Live,
        ("echo", _) => ServeKind::Plain(Service::Echo),
        ("discard", _) => ServeKind::Plain(Service::Discard),
        ("chargen", _) => ServeKind::Plain(Service::Chargen),
        (other, _) => {
            let message = format!(
                "unknown kind of service `{other}`, expected `http`, `live`, `echo`, `discard` or `chargen`"
            );
            return Err(Complaint::at(kind.span(), message));
        }
    };
    match root {
        Some(root) => Err(Complaint::at(
            root.span(),
            "only kind = \"http\" has a `root`",
        )),
        None => Ok(kind),
    }
}

fn root_path(root: &Spanned<String>, folder: &Path) -> Result<PathBuf, Complaint> {
    if root.as_ref().is_empty() {
        return Err(Complaint::at(
            root.span(),
            "root is empty: give a folder, `.` for the one this file is in",
        ));
    }
    Ok(folder.join(root.as_ref()))
}

fn non_empty(text: Spanned<String>, key: &str) -> Result<String, Complaint> {
    if text.as_ref().trim().is_empty() {
        return Err(Complaint::at(text.span(), format_args!("{key} is empty")));
    }
    Ok(text.into_inner())
}

fn parse<T: FromStr<Err: std::fmt::Display>>(
    text: &Spanned<String>,
    expected: &str,
) -> Result<T, Complaint> {
    text.as_ref().parse().map_err(|error: T::Err| {
        let expected = if expected.is_empty() {
            error.to_string()
        } else {
            expected.into()
        };
        Complaint::at(text.span(), format_args!("`{}`: {expected}", text.as_ref()))
    })
}

fn once<T: Ord>(
    set: &mut BTreeSet<T>,
    item: T,
    span: &Range<usize>,
    message: &str,
) -> Result<(), Complaint> {
    if set.insert(item) {
        Ok(())
    } else {
        Err(Complaint::at(span.clone(), message))
    }
}
