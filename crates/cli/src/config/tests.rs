//! What is accepted, and what is said of the rest, to the column.

use super::*;

const PORT: &str = r#"
[[port]]
name = "lan"
kind = "tap"
device = "ms0"
addresses = ["10.0.0.2/24", "fd00::2/64"]
"#;

fn config(text: &str) -> Config {
    parse(text, Path::new("/etc/millstream")).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(text: &str) -> String {
    match parse(text, Path::new("/etc/millstream")) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn everything_a_file_may_say() {
    let config = config(
        r#"
name = "edge"
shards = 4
[[port]]
name = "wan"
kind = "packet"
device = "eth1"
mac = "02:00:00:00:00:02"
pcap = "wan.pcapng"
dhcp = "off"
addresses = ["192.0.2.2/24"]
gateway = "192.0.2.1"
routes = [{ to = "10.0.0.0/8", via = "192.0.2.9" }]
[[port]]
name = "lan"
kind = "tap"
device = "ms0"
addresses = ["10.0.0.2/24", "fd00::2/64"]
kernel_addresses = ["10.0.0.1/24"]
mtu = 9000
gateway = ["10.0.0.1", "fe80::1"]
[[serve]]
kind = "http"
listen = ["10.0.0.2:80", "[fd00::2]:80"]
root = "www"
[[serve]]
kind = "echo"
listen = "10.0.0.2:7"
"#,
    );
    assert_eq!((config.name.as_str(), config.shards), ("edge", 4));
    let wan = &config.ports[0];
    assert_eq!((wan.kind, wan.mtu), (PortKind::Packet, None));
    assert_eq!(
        wan.pcap.as_deref(),
        Some(Path::new("/etc/millstream/wan.pcapng"))
    );
    assert_eq!(wan.gateways, ["192.0.2.1".parse().unwrap()]);
    assert_eq!(wan.routes[0].via, "192.0.2.9".parse().unwrap());
    assert_eq!(
        (config.ports[1].gateways.len(), config.ports[1].mtu),
        (2, Some(9000))
    );
    assert_eq!(
        config.serves[0].kind,
        ServeKind::Http {
            root: "/etc/millstream/www".into()
        }
    );
    assert_eq!(config.serves[0].listen.len(), 2);
    assert_eq!(config.serves[1].kind, ServeKind::Plain(Service::Echo));
}

#[test]
fn a_route_has_metrics_by_the_names_of_ip_route() {
    let with = |metrics: &str| {
        format!(
            "[[port]]\nname = \"lan\"\nkind = \"tap\"\ndevice = \"ms0\"\naddresses = [\"10.78.0.2/24\"]\n\
             routes = [{{ to = \"10.0.0.0/8\", via = \"10.78.0.9\"{metrics} }}]\n"
        )
    };
    let route = |metrics: &str| config(&with(metrics)).ports[0].routes[0].metrics;
    assert_eq!(route(""), RouteMetrics::default());
    let all = ", mtu = 1400, mtu_lock = true, advmss = 1200, initcwnd = 30, initrwnd = 20, congctl = \"bbr\"";
    let read = RouteMetrics {
        mtu: Some(1400),
        mtu_lock: true,
        advmss: Some(1200),
        initcwnd: Some(30),
        initrwnd: Some(20),
        congctl: Some(millstream::Congestion::Bbr),
    };
    assert_eq!(route(all), read);
    for (metrics, said) in [
        (", mtu = 67", "a route's mtu is 68 at least"),
        (", mtu_lock = true", "mtu_lock needs an mtu"),
        (", initcwnd = 0", "a route's initcwnd is 1 at least"),
        (
            ", congctl = \"vegas\"",
            "congctl must be one of cubic, reno, dctcp, bbr",
        ),
    ] {
        let refused = refusal(&with(metrics));
        assert!(refused.ends_with(said), "{refused}");
    }
}

#[test]
fn tcp_is_tuned_by_the_names_of_linux() {
    let tuned = config(&format!("[tcp]\nsyncookies = 2\nfin_timeout = 5\n{PORT}")).tcp;
    assert_eq!((tuned.syncookies, tuned.fin_timeout), (2, 5));
    assert_eq!(config(PORT).tcp, TcpTunables::default());
    let refused = |line: &str| refusal(&format!("[tcp]\n{line}\n{PORT}"));
    assert!(
        refused("synkookies = 1").starts_with("2:1: unknown setting `synkookies`: there is no"),
        "{}",
        refused("synkookies = 1")
    );
    assert!(refused("tcp_syncookies = 1").contains("unknown setting"));
    assert_eq!(
        refused("syncookies = 3"),
        "2:14: syncookies must be from 0 to 2"
    );
    assert_eq!(
        refused("syncookies = true"),
        "2:14: syncookies must be a whole number"
    );
    let budget = config(&format!("[tcp]\nmem = [30, 40, 60]\n{PORT}")).tcp;
    assert_eq!(budget.mem, [30, 40, 60]);
    assert_eq!(
        refused("mem = [60, 40, 30]"),
        "2:7: mem must be three whole numbers, low, pressure and max, none smaller than the one before"
    );
    let named = config(&format!("[tcp]\ncongestion_control = \"bbr\"\n{PORT}")).tcp;
    assert_eq!(named.congestion(), millstream::Congestion::Bbr);
    assert_eq!(
        refused("congestion_control = \"vegas\""),
        "2:22: congestion_control must be one of cubic, reno, dctcp, bbr"
    );
    assert!(refused("congestion_control = 1").ends_with("cubic, reno, dctcp, bbr"));
}

#[test]
fn unknown_keys_are_refused_where_they_stand() {
    assert_eq!(
        refusal("nmae = \"x\"\n"),
        "1:1: unknown field `nmae`, expected one of `name`, `shards`, `tcp`, `port`, `serve`"
    );
    let text = format!("{PORT}  speed = 10\n");
    assert!(
        refusal(&text).starts_with("7:3: unknown field `speed`, expected one of `name`, `kind`")
    );
    let text = format!("{PORT}[[serve]]\nkind = \"echo\"\nlisten = \"10.0.0.2:7\"\nfast = true\n");
    assert!(refusal(&text).starts_with("10:1: unknown field `fast`"));
}

#[test]
fn places_count_lines_and_characters() {
    assert_eq!(place("a\nbc", 3), (2, 2));
    assert_eq!(place("ä = 1\n", "ä = ".len()), (1, 5));
    assert_eq!(place("", 7), (1, 1));
    let error = refusal("name = \"ü\"\n[[port]\n");
    assert!(error.starts_with("2:"), "{error}");
}

/// What is said of a line that stands fifth, in a port.
const REFUSED: &str = r#"
dhcp = "on" -> 5:8: DHCP is not there yet: say dhcp = "off" and give addresses and gateway
dhcp = true -> 5:8: DHCP is not there yet
mtu = 576 -> 5:7: mtu must be between 1280 (the least IPv6 works with) and 65535
mtu = 70000 -> 5:7: mtu must be between 1280
mtu = "big" -> 5:7: invalid type: string "big", expected a whole number
mac = "02:00" -> 5:7: `02:00`: expected a MAC address such as
mac = "01:00:00:00:00:00" -> 5:7: not an address for one station
addresses = ["10.0.0.2"] -> 5:14: `10.0.0.2`: expected an address and prefix such as
addresses = ["127.0.0.1/8"] -> 5:14: 127.0.0.1/8 is not an address one host can have
addresses = ["10.0.0.255/24"] -> 5:14: 10.0.0.255/24 is not an address one host can have
addresses = ["10.0.0.0/24"] -> 5:14: 10.0.0.0/24 is not an address one host can have
addresses = "10.0.0.0/24" -> 5:13: 10.0.0.0/24 is not an address one host can have
addresses = 5 -> 5:13: invalid type: integer `5`, expected a string or a list of strings
routes = 5 -> 5:10: invalid type: integer `5`, expected a list, such as
addresses = ["10.0.0.2/24", "10.0.0.2/8"] -> 5:29: this address is there twice
gateway = "10.0.0.1" -> 5:11: 10.0.0.1 is not a neighbour
gateway = 5 -> 5:11: invalid type: integer `5`, expected a string or a list of strings
gateway = ["fe80::1", "fe80::2"] -> 5:23: more than one gateway of a family
routes = [{ to = "10.0.0.1/8", via = "fe80::1" }] -> 5:18: 10.0.0.1/8 has bits beyond its prefix: write 10.0.0.0/8
routes = [{ to = "10.0.0.0/8", via = "fe80::1" }] -> 5:38: a route and its next hop must be of one family
routes = [{ to = "10.0.0.0/8" }] -> 5:11: missing field `via`
pcap = "" -> 5:8: pcap is empty
"#;

#[test]
fn wrong_values_are_told_with_what_would_be_right() {
    for case in REFUSED.trim().lines() {
        let (line, expected) = case.split_once(" -> ").unwrap();
        let said = refusal(&format!(
            "[[port]]\nname = \"a\"\nkind = \"tap\"\ndevice = \"ms0\"\n{line}\n"
        ));
        assert!(said.starts_with(expected), "{case}\nsaid: {said}");
        assert!(!said.contains('\n'));
    }
}

#[test]
fn a_host_has_some_shards() {
    assert_eq!(config(PORT).shards, 1);
    for wrong in ["0", "65", "-1"] {
        let said = refusal(&format!("shards = {wrong}\n{PORT}"));
        let right = "1:10: a host has 1 to 64 shards, one for each processor it may use";
        assert_eq!(said, right);
    }
}

#[test]
fn ports_must_make_sense_together() {
    assert_eq!(
        refusal("name = \"x\"\n"),
        " there is no [[port]]: a host needs at least one; see `millstream up --help` for an example"
    );
    let twice = |second: &str| refusal(&format!("{PORT}[[port]]\n{second}\n"));
    assert!(
        twice("name = \"lan\"\nkind = \"tap\"\ndevice = \"ms1\"")
            .starts_with("8:8: another port has this name")
    );
    assert!(
        twice("name = \"b\"\nkind = \"tap\"\ndevice = \"ms0\"")
            .starts_with("10:10: another port uses this device")
    );
    assert!(twice("name = \"b\"\nkind = \"xdp\"").starts_with("9:8: unknown kind of port `xdp`"));
    assert!(twice("name = \"b\"\nkind = \"tap\"").starts_with("8:8: no `device`"));
    assert!(twice("kind = \"tap\"").contains("missing field `name`"));
    let far =
        "name = \"b\"\nkind = \"packet\"\ndevice = \"eth1\"\nkernel_addresses = [\"10.1.0.1/24\"]";
    assert!(twice(far).starts_with("11:21: kernel_addresses are for kind = \"tap\""));
    for device in ["", "much-too-long-name", "a b", "a/b", ".."] {
        let said = twice(&format!(
            "name = \"b\"\nkind = \"tap\"\ndevice = \"{device}\""
        ));
        assert!(said.starts_with("10:10: not a device name"), "{said}");
    }
}

#[test]
fn an_address_is_the_hosts_or_the_routers() {
    let said = refusal(&format!("{PORT}gateway = \"10.0.0.2\"\n"));
    assert!(
        said.starts_with("7:11: 10.0.0.2 is not a neighbour"),
        "{said}"
    );
    // A point-to-point link has no address of its own (RFC 3021), and IPv6 no broadcast.
    for address in ["10.0.0.0/31", "10.0.0.0/32", "fd00::2/127"] {
        let alone = format!(
            "[[port]]\nname = \"a\"\nkind = \"tap\"\ndevice = \"ms0\"\naddresses = \"{address}\"\n"
        );
        assert_eq!(config(&alone).ports[0].addresses.len(), 1);
    }
}

#[test]
fn services_must_be_reachable_and_complete() {
    let of = |serve: &str| refusal(&format!("{PORT}[[serve]]\n{serve}\n"));
    for (serve, expected) in [
        (
            "kind = \"ftp\"\nlisten = \"10.0.0.2:21\"",
            "8:8: unknown kind of service `ftp`",
        ),
        (
            "kind = \"http\"\nlisten = \"10.0.0.2:80\"",
            "8:8: http needs `root`",
        ),
        (
            "kind = \"http\"\nlisten = \"10.0.0.2:80\"\nroot = \"\"",
            "10:8: root is empty",
        ),
        (
            "kind = \"echo\"\nlisten = \"10.0.0.2:7\"\nroot = \"x\"",
            "10:8: only kind = \"http\" has a `root`",
        ),
        (
            "kind = \"echo\"\nlisten = \"10.0.0.3:7\"",
            "9:10: no port has the address 10.0.0.3",
        ),
        (
            "kind = \"echo\"\nlisten = \"10.0.0.2\"",
            "9:10: `10.0.0.2`: expected an address and a port",
        ),
        (
            "kind = \"echo\"\nlisten = \"10.0.0.2:0\"",
            "9:10: port 0 is nobody's",
        ),
        ("kind = \"echo\"\nlisten = []", "8:8: listen is empty"),
        (
            "kind = \"echo\"\nlisten = [\"[::]:7\", \"[::]:7\"]",
            "9:21: another service listens on this address",
        ),
        (
            "kind = \"echo\"\nlisten = [\"[::]:7\", \"0.0.0.0:7\"]",
            "9:21: [::]:7 takes IPv4 as well: leave out 0.0.0.0:7",
        ),
        (
            "kind = \"echo\"\nlisten = [\"10.0.0.2:7\", \"[::]:7\"]",
            "9:25: 10.0.0.2:7 is listened on already",
        ),
        (
            "kind = \"echo\"\nlisten = [\"0.0.0.0:7\", \"10.0.0.2:7\"]",
            "9:24: 0.0.0.0:7 is listened on already",
        ),
        ("kind = \"echo\"", "7:1: missing field `listen`"),
    ] {
        let said = of(serve);
        assert!(
            said.starts_with(expected),
            "{serve}\n  said     {said}\n  expected {expected}"
        );
    }
}
