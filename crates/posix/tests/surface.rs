//! docs/api.md says truly which calls and options there are.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use interop::alone::{Alone, DATAGRAM, STREAM, V4, V6};
use posix::{Errno, getsockopt, setsockopt, socket};

/// A row of docs/api.md: a name and its state.
type Row = (&'static str, &'static str);

/// The rows under the heading `### title`.
fn rows(title: &str) -> Vec<Row> {
    let page = include_str!("../../../docs/api.md");
    let heading = format!("### {title}\n");
    let section = page
        .split_once(&heading)
        .unwrap_or_else(|| panic!("docs/api.md has no '{heading}'"))
        .1;
    let section = section.split("\n#").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`');
        let (state, note) = (cells.next()?, cells.next()?.trim_end_matches('|').trim());
        assert!(["same", "differs", "absent"].contains(&state), "{line}");
        assert!(state != "differs" || !note.is_empty(), "{line}");
        Some((name, state))
    });
    let rows: Vec<Row> = rows.collect();
    assert!(!rows.is_empty(), "{title}");
    rows
}

macro_rules! calls {
    ($($name:ident)*) => {
        const CALLS: &[&str] = &[$(stringify!($name)),*];
        #[allow(unused_imports)]
        mod there {
            $(pub(super) use posix::$name;)*
        }
    };
}

calls! {
    socket bind listen accept connect getsockname getpeername send send_message receive shutdown close
    getsockopt setsockopt fcntl ioctl poll ppoll select pselect epoll_create epoll_create1 epoll_ctl
    epoll_wait epoll_pwait2 splice
}

#[test]
fn calls_are_there_as_the_page_says() {
    let there = rows("Calls of posix").into_iter();
    let there: BTreeSet<&str> = there
        .filter(|(_, state)| *state != "absent")
        .map(|(name, _)| name)
        .collect();
    assert_eq!(there, CALLS.iter().copied().collect());
}

/// Options by name, with their level and number (Linux's `include/uapi`, of all architectures but a few old ones).
const OPTIONS: &[(&str, i32, i32)] = &[
    ("SO_ACCEPTCONN", libc::SOL_SOCKET, libc::SO_ACCEPTCONN),
    ("SO_ATTACH_FILTER", libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
    ("SO_ATTACH_REUSEPORT_CBPF", libc::SOL_SOCKET, 51),
    ("SO_ATTACH_REUSEPORT_EBPF", libc::SOL_SOCKET, 52),
    ("SO_BINDTODEVICE", libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
    ("SO_BINDTOIFINDEX", libc::SOL_SOCKET, 62),
    ("SO_BROADCAST", libc::SOL_SOCKET, libc::SO_BROADCAST),
    ("SO_BUSY_POLL", libc::SOL_SOCKET, libc::SO_BUSY_POLL),
    ("SO_COOKIE", libc::SOL_SOCKET, 57),
    ("SO_DEBUG", libc::SOL_SOCKET, libc::SO_DEBUG),
    ("SO_DETACH_REUSEPORT_BPF", libc::SOL_SOCKET, 68),
    ("SO_DOMAIN", libc::SOL_SOCKET, libc::SO_DOMAIN),
    ("SO_DONTROUTE", libc::SOL_SOCKET, libc::SO_DONTROUTE),
    ("SO_ERROR", libc::SOL_SOCKET, libc::SO_ERROR),
    ("SO_INCOMING_CPU", libc::SOL_SOCKET, libc::SO_INCOMING_CPU),
    ("SO_INCOMING_NAPI_ID", libc::SOL_SOCKET, 56),
    ("SO_KEEPALIVE", libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    ("SO_LINGER", libc::SOL_SOCKET, libc::SO_LINGER),
    ("SO_MARK", libc::SOL_SOCKET, libc::SO_MARK),
    ("SO_MAX_PACING_RATE", libc::SOL_SOCKET, 47),
    ("SO_MEMINFO", libc::SOL_SOCKET, 55),
    ("SO_OOBINLINE", libc::SOL_SOCKET, libc::SO_OOBINLINE),
    ("SO_PRIORITY", libc::SOL_SOCKET, libc::SO_PRIORITY),
    ("SO_PROTOCOL", libc::SOL_SOCKET, libc::SO_PROTOCOL),
    ("SO_RCVBUF", libc::SOL_SOCKET, libc::SO_RCVBUF),
    ("SO_RCVBUFFORCE", libc::SOL_SOCKET, libc::SO_RCVBUFFORCE),
    ("SO_RCVLOWAT", libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    ("SO_RCVTIMEO", libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    ("SO_REUSEADDR", libc::SOL_SOCKET, libc::SO_REUSEADDR),
    ("SO_REUSEPORT", libc::SOL_SOCKET, libc::SO_REUSEPORT),
    ("SO_RXQ_OVFL", libc::SOL_SOCKET, libc::SO_RXQ_OVFL),
    ("SO_SELECT_ERR_QUEUE", libc::SOL_SOCKET, 45),
    ("SO_SNDBUF", libc::SOL_SOCKET, libc::SO_SNDBUF),
    ("SO_SNDBUFFORCE", libc::SOL_SOCKET, libc::SO_SNDBUFFORCE),
    ("SO_SNDLOWAT", libc::SOL_SOCKET, libc::SO_SNDLOWAT),
    ("SO_SNDTIMEO", libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    ("SO_TIMESTAMP", libc::SOL_SOCKET, libc::SO_TIMESTAMP),
    ("SO_TIMESTAMPING", libc::SOL_SOCKET, libc::SO_TIMESTAMPING),
    ("SO_TIMESTAMPNS", libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
    ("SO_TXTIME", libc::SOL_SOCKET, 61),
    ("SO_TYPE", libc::SOL_SOCKET, libc::SO_TYPE),
    ("SO_ZEROCOPY", libc::SOL_SOCKET, 60),
    ("TCP_CC_INFO", libc::IPPROTO_TCP, libc::TCP_CC_INFO),
    ("TCP_CONGESTION", libc::IPPROTO_TCP, libc::TCP_CONGESTION),
    ("TCP_CORK", libc::IPPROTO_TCP, libc::TCP_CORK),
    (
        "TCP_DEFER_ACCEPT",
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
    ),
    ("TCP_FASTOPEN", libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
    ("TCP_FASTOPEN_CONNECT", libc::IPPROTO_TCP, 30),
    ("TCP_FASTOPEN_KEY", libc::IPPROTO_TCP, 33),
    ("TCP_FASTOPEN_NO_COOKIE", libc::IPPROTO_TCP, 34),
    ("TCP_INFO", libc::IPPROTO_TCP, libc::TCP_INFO),
    ("TCP_INQ", libc::IPPROTO_TCP, 36),
    ("TCP_KEEPCNT", libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    ("TCP_KEEPIDLE", libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    ("TCP_KEEPINTVL", libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    ("TCP_LINGER2", libc::IPPROTO_TCP, libc::TCP_LINGER2),
    ("TCP_MAXSEG", libc::IPPROTO_TCP, libc::TCP_MAXSEG),
    ("TCP_MD5SIG", libc::IPPROTO_TCP, libc::TCP_MD5SIG),
    ("TCP_NODELAY", libc::IPPROTO_TCP, libc::TCP_NODELAY),
    ("TCP_NOTSENT_LOWAT", libc::IPPROTO_TCP, 25),
    ("TCP_QUICKACK", libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    ("TCP_REPAIR", libc::IPPROTO_TCP, 19),
    ("TCP_RTO_MAX_MS", libc::IPPROTO_TCP, 44),
    ("TCP_SAVED_SYN", libc::IPPROTO_TCP, 28),
    ("TCP_SAVE_SYN", libc::IPPROTO_TCP, 27),
    ("TCP_SYNCNT", libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    ("TCP_THIN_LINEAR_TIMEOUTS", libc::IPPROTO_TCP, 16),
    ("TCP_TIMESTAMP", libc::IPPROTO_TCP, 24),
    ("TCP_TX_DELAY", libc::IPPROTO_TCP, 37),
    ("TCP_ULP", libc::IPPROTO_TCP, 31),
    (
        "TCP_USER_TIMEOUT",
        libc::IPPROTO_TCP,
        libc::TCP_USER_TIMEOUT,
    ),
    (
        "TCP_WINDOW_CLAMP",
        libc::IPPROTO_TCP,
        libc::TCP_WINDOW_CLAMP,
    ),
    ("TCP_ZEROCOPY_RECEIVE", libc::IPPROTO_TCP, 35),
    ("MCAST_JOIN_GROUP", libc::IPPROTO_IP, 42),
    ("UDP_CORK", libc::SOL_UDP, 1),
    ("UDP_ENCAP", libc::SOL_UDP, 100),
    ("UDP_GRO", libc::SOL_UDP, libc::UDP_GRO),
    ("UDP_SEGMENT", libc::SOL_UDP, libc::UDP_SEGMENT),
    (
        "IP_ADD_MEMBERSHIP",
        libc::IPPROTO_IP,
        libc::IP_ADD_MEMBERSHIP,
    ),
    ("IP_ADD_SOURCE_MEMBERSHIP", libc::IPPROTO_IP, 39),
    ("IP_BIND_ADDRESS_NO_PORT", libc::IPPROTO_IP, 24),
    (
        "IP_DROP_MEMBERSHIP",
        libc::IPPROTO_IP,
        libc::IP_DROP_MEMBERSHIP,
    ),
    ("IP_FREEBIND", libc::IPPROTO_IP, libc::IP_FREEBIND),
    ("IP_HDRINCL", libc::IPPROTO_IP, libc::IP_HDRINCL),
    ("IP_LOCAL_PORT_RANGE", libc::IPPROTO_IP, 51),
    ("IP_MINTTL", libc::IPPROTO_IP, libc::IP_MINTTL),
    ("IP_MTU", libc::IPPROTO_IP, libc::IP_MTU),
    ("IP_MTU_DISCOVER", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    ("IP_MULTICAST_ALL", libc::IPPROTO_IP, 49),
    ("IP_MULTICAST_IF", libc::IPPROTO_IP, libc::IP_MULTICAST_IF),
    (
        "IP_MULTICAST_LOOP",
        libc::IPPROTO_IP,
        libc::IP_MULTICAST_LOOP,
    ),
    ("IP_MULTICAST_TTL", libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    ("IP_OPTIONS", libc::IPPROTO_IP, libc::IP_OPTIONS),
    ("IP_PKTINFO", libc::IPPROTO_IP, libc::IP_PKTINFO),
    ("IP_RECVERR", libc::IPPROTO_IP, libc::IP_RECVERR),
    (
        "IP_RECVORIGDSTADDR",
        libc::IPPROTO_IP,
        libc::IP_RECVORIGDSTADDR,
    ),
    ("IP_RECVTOS", libc::IPPROTO_IP, libc::IP_RECVTOS),
    ("IP_RECVTTL", libc::IPPROTO_IP, libc::IP_RECVTTL),
    ("IP_TOS", libc::IPPROTO_IP, libc::IP_TOS),
    ("IP_TRANSPARENT", libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    ("IP_TTL", libc::IPPROTO_IP, libc::IP_TTL),
    ("IP_UNICAST_IF", libc::IPPROTO_IP, 50),
    ("IPV6_ADD_MEMBERSHIP", libc::IPPROTO_IPV6, 20),
    ("IPV6_DONTFRAG", libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG),
    ("IPV6_DROP_MEMBERSHIP", libc::IPPROTO_IPV6, 21),
    ("IPV6_FREEBIND", libc::IPPROTO_IPV6, 78),
    ("IPV6_MTU", libc::IPPROTO_IPV6, libc::IPV6_MTU),
    (
        "IPV6_MTU_DISCOVER",
        libc::IPPROTO_IPV6,
        libc::IPV6_MTU_DISCOVER,
    ),
    ("IPV6_MULTICAST_ALL", libc::IPPROTO_IPV6, 29),
    (
        "IPV6_MULTICAST_HOPS",
        libc::IPPROTO_IPV6,
        libc::IPV6_MULTICAST_HOPS,
    ),
    (
        "IPV6_MULTICAST_IF",
        libc::IPPROTO_IPV6,
        libc::IPV6_MULTICAST_IF,
    ),
    (
        "IPV6_MULTICAST_LOOP",
        libc::IPPROTO_IPV6,
        libc::IPV6_MULTICAST_LOOP,
    ),
    ("IPV6_RECVERR", libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    (
        "IPV6_RECVHOPLIMIT",
        libc::IPPROTO_IPV6,
        libc::IPV6_RECVHOPLIMIT,
    ),
    (
        "IPV6_RECVPKTINFO",
        libc::IPPROTO_IPV6,
        libc::IPV6_RECVPKTINFO,
    ),
    ("IPV6_RECVTCLASS", libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    ("IPV6_TCLASS", libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (
        "IPV6_UNICAST_HOPS",
        libc::IPPROTO_IPV6,
        libc::IPV6_UNICAST_HOPS,
    ),
    ("IPV6_V6ONLY", libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
];

/// Whether an option can be set or asked for, on a socket of some kind.
fn is_there(level: i32, name: i32) -> bool {
    let world = &mut Alone::new();
    [(V4, STREAM), (V6, STREAM), (V4, DATAGRAM), (V6, DATAGRAM)]
        .into_iter()
        .any(|(domain, kind)| {
            let fd = socket(world, domain, kind, 0).unwrap();
            // Too little for any, and enough for most.
            let set = setsockopt(world, fd, level, name, &[1, 0, 0, 0]);
            let got = getsockopt(world, fd, level, name);
            // Asked of a socket of IPv4, what is of another protocol is EOPNOTSUPP.
            let absent = [Err(Errno::NOPROTOOPT), Err(Errno::OPNOTSUPP)];
            set != absent[0] || !absent.contains(&got.map(drop))
        })
}

#[test]
fn options_are_there_as_the_page_says() {
    let said: Vec<Row> = rows("Options of posix");
    let named: BTreeSet<&str> = said.iter().map(|(name, _)| *name).collect();
    let known: BTreeSet<&str> = OPTIONS.iter().map(|(name, ..)| *name).collect();
    let apart: Vec<_> = named.symmetric_difference(&known).collect();
    assert!(
        apart.is_empty(),
        "docs/api.md and this test disagree on {apart:?}"
    );
    for (name, level, number) in OPTIONS {
        let state = said.iter().find(|(said, _)| said == name).unwrap().1;
        assert_eq!(is_there(*level, *number), state != "absent", "{name}");
    }
}
