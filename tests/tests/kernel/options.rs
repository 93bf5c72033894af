//! Options of multicast and of path MTU discovery, beside the kernel's: what they take, what they refuse, what they tell, and who
//! hears what is sent to a group.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use base::{Instant, Offloads};
use interop::alone::{Alone, DATAGRAM, STREAM, V4, V6, get, sockaddr};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use stack::{Config, InterfaceConfig, Route};
use wire::Mac;

const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
const IP_MULTICAST_ALL: i32 = 49;
const IPV6_MULTICAST_ALL: i32 = 29;
/// No interface has this number, and none this address.
const NOBODYS: u32 = 77;
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const OTHER: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 4);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// What is compared: what calls gave, and who heard.
type Log = Vec<String>;

trait Side {
    type Socket;
    /// The number of the link.
    fn link(&self) -> u32;
    fn open(&mut self, v6: bool, stream: bool) -> Self::Socket;
    fn set(&mut self, socket: &Self::Socket, option: (i32, i32), value: &[u8]) -> Result<(), i32>;
    fn number(&mut self, socket: &Self::Socket, option: (i32, i32)) -> Result<i32, i32>;
    fn bind(&mut self, socket: &Self::Socket, at: &str) -> Result<(), i32>;
    fn send(&mut self, socket: &Self::Socket, data: &[u8], to: &str) -> Result<usize, i32>;
    /// Whether something has come; it is taken.
    fn took(&mut self, socket: &Self::Socket) -> bool;
    fn close(&mut self, socket: Self::Socket);
}

/// An option of which values are numbers.
const NUMBERS: [(i32, i32); 10] = [
    (IP, libc::IP_MULTICAST_TTL),
    (IP, libc::IP_MULTICAST_LOOP),
    (IP, IP_MULTICAST_ALL),
    (IP, libc::IP_MULTICAST_IF),
    (IP, libc::IP_MTU_DISCOVER),
    (IPV6, libc::IPV6_MULTICAST_HOPS),
    (IPV6, libc::IPV6_MULTICAST_LOOP),
    (IPV6, IPV6_MULTICAST_ALL),
    (IPV6, libc::IPV6_MULTICAST_IF),
    (IPV6, libc::IPV6_MTU_DISCOVER),
];

const BY_NUMBER: (i32, i32) = (IPV6, libc::IPV6_MULTICAST_IF);

/// Values of such an option, as they are and too short, and what they are called.
fn numbers(option: (i32, i32), link: u32) -> Vec<(String, Vec<u8>)> {
    let named = |number: i32| (number.to_string(), number.to_ne_bytes().to_vec());
    let mut all = [-2, -1, 0, NOBODYS as i32].map(named).to_vec();
    if option == BY_NUMBER {
        // The link has another number elsewhere.
        all.push(("the link".into(), link.to_ne_bytes().to_vec()));
    } else {
        all.extend([1, 2, 3, 4, 5, 6, 255, 256].map(named));
    }
    let short = [vec![], vec![1], vec![0], vec![200], vec![1, 0, 0]];
    all.extend(short.map(|short| (format!("{short:?}"), short)));
    all
}

/// `struct ip_mreqn`, cut to so many bytes.
fn mreqn(group: Ipv4Addr, at: Ipv4Addr, index: u32, len: usize) -> Vec<u8> {
    let mut value = [group.octets(), at.octets(), index.to_ne_bytes()].concat();
    value.resize(len, 0);
    value
}

fn play_numbers<S: Side>(side: &mut S) -> Log {
    let mut log = Log::new();
    let link = side.link();
    for (v6, stream) in [(false, false), (false, true), (true, false), (true, true)] {
        for option in NUMBERS {
            let socket = side.open(v6, stream);
            let first = side.number(&socket, option);
            log.push(format!("{v6} {stream} {option:?}: {first:?}"));
            for (name, value) in numbers(option, link) {
                let set = side.set(&socket, option, &value);
                let told = match side.number(&socket, option) {
                    Ok(number) if option == BY_NUMBER && number as u32 == link => "the link".into(),
                    told => format!("{told:?}"),
                };
                log.push(format!("{v6} {stream} {option:?} {name}: {set:?} {told}"));
            }
            side.close(socket);
        }
    }
    log
}

/// Groups are joined and left, on sockets that are bound and not.
fn play_groups<S: Side>(side: &mut S) -> Log {
    let mut log = Log::new();
    let link = side.link();
    let any = Ipv4Addr::UNSPECIFIED;
    let requests = [
        mreqn(GROUP, any, 0, 8),
        mreqn(GROUP, OWN, 0, 8),
        mreqn(GROUP, any, link, 12),
        mreqn(GROUP, OWN, NOBODYS, 12),
        mreqn(GROUP, Ipv4Addr::new(10, 0, 0, 77), 0, 8),
        mreqn(OWN, any, 0, 8),
        mreqn(OTHER, any, link, 12),
        mreqn(OTHER, any, link, 10),
        mreqn(OTHER, any, 0, 7),
        mreqn(OTHER, any, 0, 4),
        mreqn(OTHER, any, 0, 0),
    ];
    let six = |group: &str, index: u32, len: usize| {
        let group: Ipv6Addr = group.parse().unwrap();
        let mut value = [&group.octets()[..], &index.to_ne_bytes()].concat();
        value.resize(len, 0);
        value
    };
    let requests_v6 = [
        six("ff15::5", link, 20),
        six("ff15::5", 0, 20),
        six("ff15::6", 0, 20),
        six("ff15::5", NOBODYS, 20),
        six("2001:db8::1", link, 20),
        six("::ffff:239.1.2.3", link, 20),
        six("ff15::7", link, 19),
        six("ff15::7", link, 0),
    ];
    let adds = (libc::IP_ADD_MEMBERSHIP, libc::IPV6_ADD_MEMBERSHIP);
    let drops = (libc::IP_DROP_MEMBERSHIP, libc::IPV6_DROP_MEMBERSHIP);
    for (v6, stream) in [(false, false), (false, true), (true, false), (true, true)] {
        for bind_after in [0, 2, 99] {
            let socket = side.open(v6, stream);
            for (round, (name, name_v6)) in [adds, drops, adds, drops].into_iter().enumerate() {
                if round == bind_after {
                    let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
                    log.push(format!("bind: {:?}", side.bind(&socket, any)));
                }
                for (n, request) in requests.iter().enumerate() {
                    let set = side.set(&socket, (IP, name), request);
                    log.push(format!("{v6} {stream} {bind_after} {name} {n}: {set:?}"));
                }
                for (n, request) in requests_v6.iter().enumerate() {
                    let set = side.set(&socket, (IPV6, name_v6), request);
                    log.push(format!(
                        "{v6} {stream} {bind_after} {name_v6} v6 {n}: {set:?}"
                    ));
                }
            }
            side.close(socket);
        }
    }
    // As many as there may be.
    let socket = side.open(false, false);
    for n in 0..25 {
        let group = Ipv4Addr::new(239, 9, 9, n);
        let set = side.set(
            &socket,
            (IP, libc::IP_ADD_MEMBERSHIP),
            &mreqn(group, OWN, 0, 8),
        );
        log.push(format!("{n}: {set:?}"));
    }
    side.close(socket);
    log
}

/// By which address and number what goes to groups leaves.
fn play_ways<S: Side>(side: &mut S) -> Log {
    let mut log = Log::new();
    let link = side.link();
    let nobodys = Ipv4Addr::new(10, 0, 0, 77);
    let any = Ipv4Addr::UNSPECIFIED;
    let ways = [
        OWN.octets().to_vec(),
        nobodys.octets().to_vec(),
        any.octets().to_vec(),
        mreqn(GROUP, OWN, 0, 8),
        mreqn(GROUP, nobodys, 0, 8),
        mreqn(GROUP, any, link, 12),
        mreqn(GROUP, OWN, link, 12),
        mreqn(GROUP, OWN, NOBODYS, 12),
        mreqn(GROUP, nobodys, link, 12),
        mreqn(GROUP, any, 0, 12),
        mreqn(GROUP, OWN, 0, 5),
    ];
    for (v6, stream) in [(false, false), (false, true), (true, false)] {
        let socket = side.open(v6, stream);
        for (n, way) in ways.iter().enumerate() {
            let option = (IP, libc::IP_MULTICAST_IF);
            let set = side.set(&socket, option, way);
            log.push(format!(
                "{v6} {stream} {n}: {set:?} {:?}",
                side.number(&socket, option)
            ));
        }
        side.close(socket);
    }
    log
}

/// Who hears what is sent to a group: those who are in it, in another, in none, by IP_MULTICAST_ALL and IP_MULTICAST_LOOP.
fn play_hearers<S: Side>(side: &mut S) -> Log {
    let mut log = Log::new();
    for n in 0..16 {
        let bit = |at: i32| i32::from(n >> at & 1 != 0);
        let (all, echo, ttl, late) = (bit(0), bit(1), bit(2), bit(3));
        let port = 6000 + n;
        let hearers = [Some(GROUP), Some(OTHER), None].map(|group| {
            let socket = side.open(false, false);
            let reuse = (libc::SOL_SOCKET, libc::SO_REUSEADDR);
            side.set(&socket, reuse, &1_i32.to_ne_bytes()).unwrap();
            side.set(&socket, (IP, IP_MULTICAST_ALL), &all.to_ne_bytes())
                .unwrap();
            let at = format!("0.0.0.0:{port}");
            let join = |side: &mut S| {
                let Some(group) = group else { return };
                let join = (IP, libc::IP_ADD_MEMBERSHIP);
                side.set(&socket, join, &mreqn(group, OWN, 0, 8)).unwrap();
            };
            if late == 0 {
                join(side);
            }
            side.bind(&socket, &at).unwrap();
            if late == 1 {
                join(side);
            }
            socket
        });
        let sender = side.open(false, false);
        let mut set = |name, value: i32| {
            side.set(&sender, (IP, name), &value.to_ne_bytes()).unwrap();
        };
        set(libc::IP_MULTICAST_LOOP, echo);
        set(libc::IP_MULTICAST_TTL, ttl);
        side.set(&sender, (IP, libc::IP_MULTICAST_IF), &OWN.octets())
            .unwrap();
        for to in [GROUP, OTHER, Ipv4Addr::new(239, 1, 2, 5)] {
            let sent = side.send(&sender, b"x", &format!("{to}:{port}"));
            let took = hearers.each_ref().map(|hearer| side.took(hearer));
            log.push(format!(
                "all {all} loop {echo} ttl {ttl} {to}: {sent:?} {took:?}"
            ));
        }
        hearers.into_iter().for_each(|hearer| side.close(hearer));
        side.close(sender);
    }
    log
}

/// What is longer than the link takes.
fn play_lengths<S: Side>(side: &mut S) -> Log {
    let mut log = Log::new();
    for how in 0..=5_i32 {
        let socket = side.open(false, false);
        let option = (IP, libc::IP_MTU_DISCOVER);
        side.set(&socket, option, &how.to_ne_bytes()).unwrap();
        for len in [1472, 1473] {
            let sent = side.send(&socket, &vec![0; len], "10.0.0.2:9");
            log.push(format!("{how} {len}: {sent:?}"));
        }
        side.close(socket);
    }
    log
}

fn play<S: Side>(mut side: impl FnMut() -> S) -> Log {
    [
        play_numbers,
        play_groups,
        play_ways,
        play_hearers,
        play_lengths,
    ]
    .into_iter()
    .flat_map(|play| play(&mut side()))
    .collect()
}

/// In a namespace with a link as a host that is alone has it.
struct Kernel {
    link: u32,
}

fn raw<T>(result: rustix::io::Result<T>) -> Result<T, i32> {
    result.map_err(|error| error.raw_os_error())
}

fn number_of(error: std::io::Error) -> i32 {
    error.raw_os_error().unwrap()
}

impl Side for Kernel {
    type Socket = OwnedFd;

    fn link(&self) -> u32 {
        self.link
    }

    fn open(&mut self, v6: bool, stream: bool) -> OwnedFd {
        let family = [AddressFamily::INET, AddressFamily::INET6][usize::from(v6)];
        let kind = [SocketType::DGRAM, SocketType::STREAM][usize::from(stream)];
        let fd = net::socket_with(family, kind, SocketFlags::empty(), None).unwrap();
        rustix::io::ioctl_fionbio(&fd, true).unwrap();
        fd
    }

    fn set(&mut self, socket: &OwnedFd, option: (i32, i32), value: &[u8]) -> Result<(), i32> {
        netns::socket::set(socket, option.0, option.1, value).map_err(number_of)
    }

    fn number(&mut self, socket: &OwnedFd, option: (i32, i32)) -> Result<i32, i32> {
        netns::socket::number(socket, option.0, option.1).map_err(number_of)
    }

    fn bind(&mut self, socket: &OwnedFd, at: &str) -> Result<(), i32> {
        let at: SocketAddr = at.parse().unwrap();
        raw(net::bind(socket, &at))
    }

    fn send(&mut self, socket: &OwnedFd, data: &[u8], to: &str) -> Result<usize, i32> {
        let to: SocketAddr = to.parse().unwrap();
        raw(net::sendto(socket, data, SendFlags::empty(), &to))
    }

    fn took(&mut self, socket: &OwnedFd) -> bool {
        net::recv(socket, &mut [0; 9][..], RecvFlags::empty()).is_ok()
    }

    fn close(&mut self, socket: OwnedFd) {
        drop(socket);
    }
}

/// A host whose second link is as the kernel's: with a MAC address, for groups are of such links alone.
fn host() -> Alone {
    let config = Config {
        pool_blocks: 4096,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    };
    let mut world = Alone::of(config, Instant::from_secs(100));
    let (now, host) = (world.now, &mut world.host);
    let link = InterfaceConfig {
        name: "link".into(),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        offloads: Offloads::NONE,
    };
    let link = host.add_interface(now, link).unwrap();
    host.add_address(now, link, format!("{OWN}/24").parse().unwrap())
        .unwrap();
    for dst in ["224.0.0.0/4", "ff00::/8"] {
        let route = Route {
            dst: dst.parse().unwrap(),
            interface: link,
            via: None,
            metric: 1,
        };
        host.add_route(now, route).unwrap();
    }
    world.link = link;
    world
}

impl Side for Alone {
    type Socket = i32;

    fn link(&self) -> u32 {
        u32::from(self.link.0) + 1
    }

    fn open(&mut self, v6: bool, stream: bool) -> i32 {
        let kind = [DATAGRAM, STREAM][usize::from(stream)] | libc::SOCK_NONBLOCK;
        posix::socket(self, [V4, V6][usize::from(v6)], kind, 0).unwrap()
    }

    fn set(&mut self, socket: &i32, option: (i32, i32), value: &[u8]) -> Result<(), i32> {
        let set = posix::setsockopt(self, *socket, option.0, option.1, value);
        set.map_err(|error| error.0)
    }

    fn number(&mut self, socket: &i32, option: (i32, i32)) -> Result<i32, i32> {
        let told = posix::getsockopt(self, *socket, option.0, option.1);
        let told = told.map_err(|error| error.0)?;
        Ok(i32::from_ne_bytes(*told.first_chunk().unwrap()))
    }

    fn bind(&mut self, socket: &i32, at: &str) -> Result<(), i32> {
        posix::bind(self, *socket, &sockaddr(at)).map_err(|error| error.0)
    }

    fn send(&mut self, socket: &i32, data: &[u8], to: &str) -> Result<usize, i32> {
        let pieces = [std::io::IoSlice::new(data)];
        let sent = posix::send(self, *socket, &pieces, 0, Some(&sockaddr(to)));
        self.turn();
        sent.map_err(|error| error.0)
    }

    fn took(&mut self, socket: &i32) -> bool {
        get(self, *socket, 9, 0).is_ok()
    }

    fn close(&mut self, socket: i32) {
        posix::close(self, socket).unwrap();
        // Until the groups that were left are forgotten.
        self.rest(std::time::Duration::from_secs(10));
    }
}

#[test]
fn options_are_taken_refused_and_told_as_the_kernels() {
    netns::in_private!(|| {
        netns::link::set_up("lo").unwrap();
        netns::link::create_veth("link", "far").unwrap();
        netns::link::set_up("link").unwrap();
        netns::link::set_up("far").unwrap();
        netns::link::wait_running("link").unwrap();
        netns::link::add_addr("link", OWN.into(), 24).unwrap();
        // Without it nothing that goes to a group leaves, where nobody says by which link.
        let groups = Ipv4Addr::new(224, 0, 0, 0).into();
        netns::link::add_route("link", groups, 4, None).unwrap();
        let link = netns::link::index("link").unwrap();
        let kernels = play(|| Kernel { link });
        let ours = play(host);
        let apart: Vec<_> = kernels.iter().zip(&ours).filter(|(a, b)| a != b).collect();
        assert!(apart.is_empty(), "the kernel's, ours: {apart:#?}");
        assert_eq!(kernels.len(), ours.len());
    });
}
