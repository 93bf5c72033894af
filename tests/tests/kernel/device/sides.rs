//! Who plays: the kernel in the namespace, or a host, with the same two links, addresses and routes.
//!
//! What does not live here: what is played, and how frames are made and told (`frames`).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant as Clock};

use base::{Batch, Instant, Packet, Pool};
use interop::alone::{Alone, DATAGRAM, STREAM, V4, V6, address, get};
use interop::{Cable, Family, PATIENCE, frames};
use netns::link;
use port::Port;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use stack::{Config, InterfaceId, Route};
use wire::{Addr, Cidr, EtherType, Mac};

use super::frames::echo;

/// The first is as [`Alone`] calls its own; the second has the longest name there is.
pub(super) const NAMES: [&str; 2] = ["none", "fifteen-letters"];
pub(super) const KERNEL: Mac = Mac([2, 0x77, 0, 0, 0, 1]);
pub(super) const PEER: Mac = Mac([2, 0x77, 0, 0, 0, 2]);
/// linux/asm-generic/socket.h
pub(super) const SO_BINDTOIFINDEX: i32 = 62;
/// The host and somebody else, on each network.
const OWN: u8 = 1;
pub(super) const OTHER: u8 = 9;

/// Address `n` on the network of a link.
pub(super) fn near(family: Family, link: usize, n: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 77 + link as u8, 0, n]),
        Family::V6 => IpAddr::from([0xfd77 + link as u16, 0, 0, 0, 0, 0, 0, n.into()]),
    }
}

/// The host's address on a link.
pub(super) fn own(family: Family, link: usize) -> IpAddr {
    near(family, link, OWN)
}

/// Somebody to whom there are routes by both links; who names none goes by the first.
pub(super) fn far(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 99, 0, OTHER]),
        Family::V6 => IpAddr::from([0xfd99, 0, 0, 0, 0, 0, 0, OTHER.into()]),
    }
}

/// Address `n` of those that are only of a link; the host has 1 on the first link and 2 on the second.
pub(super) fn link_local(n: u8) -> IpAddr {
    IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, n.into()])
}

/// The networks of [`far`], by the length of their prefixes: the more particular is by the first link.
fn far_routes(family: Family) -> [(IpAddr, u8); 2] {
    match family {
        Family::V4 => [
            (IpAddr::from([10, 99, 0, 0]), 25),
            ([10, 99, 0, 0].into(), 24),
        ],
        Family::V6 => {
            let network = IpAddr::from([0xfd99, 0, 0, 0, 0, 0, 0, 0]);
            [(network, 65), (network, 64)]
        }
    }
}

/// A socket of either side. None of them waits.
pub(super) trait Side {
    type Socket;
    fn open(&mut self, family: Family, stream: bool) -> Self::Socket;
    fn set(&mut self, socket: &Self::Socket, option: (i32, i32), value: &[u8]) -> Result<(), i32>;
    fn told(&mut self, socket: &Self::Socket, option: (i32, i32)) -> Result<Vec<u8>, i32>;
    fn bind(&mut self, socket: &Self::Socket, at: SocketAddr) -> Result<(), i32>;
    fn connect(&mut self, socket: &Self::Socket, to: SocketAddr) -> Result<(), i32>;
    fn listen(&mut self, socket: &Self::Socket) -> Result<(), i32>;
    fn accept(&mut self, socket: &Self::Socket) -> Result<Self::Socket, i32>;
    fn send(&mut self, socket: &Self::Socket, to: Option<SocketAddr>) -> Result<usize, i32>;
    fn receive(&mut self, socket: &Self::Socket) -> Result<usize, i32>;
    fn close(&mut self, socket: Self::Socket);
    /// The number of a link.
    fn index(&self, link: usize) -> u32;
    /// A frame comes in by a link, and all is done that it leads to.
    fn arrive(&mut self, link: usize, frame: &[u8]);
    /// Until a host on virtual time may send errors again.
    fn rest(&mut self);
    /// The frames that have left, and by which link.
    fn left(&mut self) -> Vec<(usize, Vec<u8>)>;
}

pub(super) struct Kernel {
    ports: [Box<dyn Port + Send>; 2],
    pool: Pool,
    left: VecDeque<(usize, Vec<u8>)>,
    /// Echo requests so far.
    echoes: u16,
}

impl Kernel {
    pub(super) fn new() -> Self {
        let ports = [0, 1].map(|n| {
            Cable::plain().lay_as(NAMES[n], 1500, &|name| {
                link::set_mac(name, KERNEL.0).unwrap();
                link::set_link_local(name, false).unwrap();
                link::add_addr(name, link_local(n as u8 + 1), 64).unwrap();
                for family in Family::BOTH {
                    link::add_addr(name, own(family, n), family.prefix()).unwrap();
                }
            })
        });
        let settings = NAMES.map(|name| format!("ipv4/conf/{name}/rp_filter"));
        let settings = settings.iter().map(String::as_str);
        // Its errors are as many as there are reasons.
        let others = ["ipv4/conf/all/rp_filter", "ipv4/icmp_ratemask"];
        for setting in settings.chain(others) {
            netns::sysctl(setting, "0").unwrap();
        }
        netns::sysctl("ipv6/icmp/ratemask", "2").unwrap();
        for (n, name) in NAMES.into_iter().enumerate() {
            link::add_neighbour(name, link_local(OTHER), PEER.0).unwrap();
            for family in Family::BOTH {
                let (network, prefix) = far_routes(family)[n];
                link::add_route(name, network, prefix, None).unwrap();
                for address in [near(family, n, OTHER), far(family)] {
                    link::add_neighbour(name, address, PEER.0).unwrap();
                }
            }
        }
        Self {
            ports,
            pool: Pool::new(1024).unwrap(),
            left: VecDeque::new(),
            echoes: 0,
        }
    }

    fn put(&mut self, link: usize, frame: &[u8]) {
        let mut packet = Packet::EMPTY;
        let taken = self.pool.append_bytes(&mut packet.chain, frame);
        assert_eq!(taken, frame.len(), "the pool is empty");
        let mut batch = Batch::new();
        batch.push(packet).unwrap();
        while !batch.is_empty() {
            self.ports[link].transmit(&mut self.pool, &mut batch);
        }
        self.ports[link].flush(&mut self.pool);
    }

    fn hear(&mut self) {
        for (link, port) in self.ports.iter_mut().enumerate() {
            let mut batch = Batch::new();
            while port.receive(&mut self.pool, &mut batch) > 0 {
                while let Some(packet) = batch.pop_front() {
                    let frame = self.pool.slices(&packet.chain).flatten().copied().collect();
                    self.pool.free(packet.chain);
                    self.left.push_back((link, frame));
                }
            }
        }
    }
}

fn raw<T>(result: rustix::io::Result<T>) -> Result<T, i32> {
    result.map_err(|error| error.raw_os_error())
}

impl Side for Kernel {
    type Socket = OwnedFd;

    fn open(&mut self, family: Family, stream: bool) -> OwnedFd {
        let family = match family {
            Family::V4 => AddressFamily::INET,
            Family::V6 => AddressFamily::INET6,
        };
        let kind = [SocketType::DGRAM, SocketType::STREAM][usize::from(stream)];
        net::socket_with(family, kind, SocketFlags::NONBLOCK, None).unwrap()
    }

    fn set(&mut self, socket: &OwnedFd, option: (i32, i32), value: &[u8]) -> Result<(), i32> {
        let set = netns::socket::set(socket, option.0, option.1, value);
        set.map_err(|error| error.raw_os_error().unwrap())
    }

    fn told(&mut self, socket: &OwnedFd, option: (i32, i32)) -> Result<Vec<u8>, i32> {
        let told = netns::socket::get(socket, option.0, option.1, 16);
        told.map_err(|error| error.raw_os_error().unwrap())
    }

    fn bind(&mut self, socket: &OwnedFd, at: SocketAddr) -> Result<(), i32> {
        raw(net::bind(socket, &at))
    }

    fn connect(&mut self, socket: &OwnedFd, to: SocketAddr) -> Result<(), i32> {
        raw(net::connect(socket, &to))
    }

    fn listen(&mut self, socket: &OwnedFd) -> Result<(), i32> {
        raw(net::listen(socket, 9))
    }

    fn accept(&mut self, socket: &OwnedFd) -> Result<OwnedFd, i32> {
        raw(net::accept_with(socket, SocketFlags::NONBLOCK))
    }

    fn send(&mut self, socket: &OwnedFd, to: Option<SocketAddr>) -> Result<usize, i32> {
        raw(match to {
            Some(to) => net::sendto(socket, b"x", SendFlags::empty(), &to),
            None => net::send(socket, b"x", SendFlags::empty()),
        })
    }

    fn receive(&mut self, socket: &OwnedFd) -> Result<usize, i32> {
        raw(net::recv(socket, &mut [0; 9][..], RecvFlags::empty())).map(|(len, _)| len)
    }

    fn close(&mut self, socket: OwnedFd) {
        drop(socket);
    }

    fn index(&self, link: usize) -> u32 {
        link::index(NAMES[link]).unwrap()
    }

    /// The kernel is done with a frame when it answers to what came behind it.
    fn arrive(&mut self, link: usize, frame: &[u8]) {
        self.put(link, frame);
        self.echoes += 1;
        let (request, reply) = echo(
            near(Family::V4, link, OTHER),
            own(Family::V4, link),
            self.echoes,
        );
        self.put(link, &request);
        let deadline = Clock::now() + PATIENCE;
        loop {
            self.hear();
            let is_it = |(_, frame): &(usize, Vec<u8>)| {
                frames::ip(frame).is_some_and(|ip| ip.payload == reply)
            };
            if let Some(at) = self.left.iter().position(is_it) {
                self.left.remove(at);
                return;
            }
            assert!(Clock::now() < deadline, "the kernel does not answer");
        }
    }

    fn rest(&mut self) {}

    fn left(&mut self) -> Vec<(usize, Vec<u8>)> {
        self.hear();
        self.left.drain(..).collect()
    }
}

/// A host as the kernel is set up.
pub(super) fn host() -> Alone {
    let config = Config {
        pool_blocks: 4096,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    };
    let mut world = Alone::of(config, Instant::from_secs(100));
    let links = [world.link, world.attach(NAMES[1])];
    let now = world.now;
    for (n, link) in links.into_iter().enumerate() {
        let mut add = |address: IpAddr, prefix| {
            let address = Cidr::new(Addr::from(address), prefix).unwrap();
            world.host.add_address(now, link, address).unwrap();
        };
        add(link_local(n as u8 + 1), 64);
        for family in Family::BOTH {
            add(own(family, n), family.prefix());
        }
        for family in Family::BOTH {
            let (network, prefix) = far_routes(family)[n];
            let route = Route {
                dst: Cidr::new(Addr::from(network), prefix).unwrap(),
                via: None,
                interface: link,
                metric: 1,
            };
            world.host.add_route(now, route).unwrap();
        }
    }
    world.turn();
    world
}

impl Side for Alone {
    type Socket = i32;

    fn open(&mut self, family: Family, stream: bool) -> i32 {
        let kind = [DATAGRAM, STREAM][usize::from(stream)] | libc::SOCK_NONBLOCK;
        let family = match family {
            Family::V4 => V4,
            Family::V6 => V6,
        };
        posix::socket(self, family, kind, 0).unwrap()
    }

    fn set(&mut self, socket: &i32, option: (i32, i32), value: &[u8]) -> Result<(), i32> {
        let set = posix::setsockopt(self, *socket, option.0, option.1, value);
        set.map_err(|error| error.0)
    }

    fn told(&mut self, socket: &i32, option: (i32, i32)) -> Result<Vec<u8>, i32> {
        let told = posix::getsockopt(self, *socket, option.0, option.1);
        told.map_err(|error| error.0)
    }

    fn bind(&mut self, socket: &i32, at: SocketAddr) -> Result<(), i32> {
        posix::bind(self, *socket, &address(at)).map_err(|error| error.0)
    }

    fn connect(&mut self, socket: &i32, to: SocketAddr) -> Result<(), i32> {
        let connected = posix::connect(self, *socket, &address(to));
        self.turn();
        connected.map_err(|error| error.0)
    }

    fn listen(&mut self, socket: &i32) -> Result<(), i32> {
        posix::listen(self, *socket, 9).map_err(|error| error.0)
    }

    fn accept(&mut self, socket: &i32) -> Result<i32, i32> {
        let accepted = posix::accept(self, *socket, libc::SOCK_NONBLOCK);
        accepted.map(|(fd, _)| fd).map_err(|error| error.0)
    }

    fn send(&mut self, socket: &i32, to: Option<SocketAddr>) -> Result<usize, i32> {
        let to = to.map(address);
        let pieces = [std::io::IoSlice::new(b"x")];
        let sent = posix::send(self, *socket, &pieces, 0, to.as_deref());
        self.turn();
        sent.map_err(|error| error.0)
    }

    fn receive(&mut self, socket: &i32) -> Result<usize, i32> {
        let got = get(self, *socket, 9, 0);
        got.map(|data| data.len()).map_err(|error| error.0)
    }

    fn close(&mut self, socket: i32) {
        posix::close(self, socket).unwrap();
        self.turn();
    }

    fn index(&self, link: usize) -> u32 {
        link as u32 + 1
    }

    fn arrive(&mut self, link: usize, frame: &[u8]) {
        self.arrive_by(InterfaceId(link as u8), &frame[14..]);
    }

    fn rest(&mut self) {
        Alone::rest(self, Duration::from_secs(2));
    }

    fn left(&mut self) -> Vec<(usize, Vec<u8>)> {
        let first = self.sent.drain(..).map(|(_, packet)| (0, packet));
        let others = self.sent_by_others.drain(..).map(|(_, packet)| (1, packet));
        let framed = |(link, packet): (usize, Vec<u8>)| {
            let kind = match packet[0] >> 4 {
                4 => EtherType::IPV4,
                _ => EtherType::IPV6,
            };
            (link, frames::ethernet(KERNEL, PEER, kind, &packet))
        };
        first.chain(others).map(framed).collect()
    }
}
