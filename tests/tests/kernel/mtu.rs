//! Path MTU discovery of UDP sockets (IP_MTU_DISCOVER, IPV6_MTU_DISCOVER) beside the kernel's: what is refused, what leaves and in how many
//! pieces, what is believed of routers and told to sockets.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use base::{Batch, Instant, Packet, Pool};
use interop::alone::{Alone, DATAGRAM, V4, V6, address};
use interop::{Cable, Family, frames};
use netns::link;
use port::Port;
use rustix::net::{self, AddressFamily, SendFlags, SocketType};
use stack::Config;
use wire::{EtherType, Mac};

const KERNEL: Mac = Mac([2, 0x77, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0x77, 0, 0, 0, 2]);
const MTU: usize = 1500;
/// What a router on the way carries.
const NARROW: usize = 1300;

/// Who plays: the kernel or a host, with the same addresses.
trait Side {
    type Socket;
    fn connect(&mut self, to: SocketAddr) -> Self::Socket;
    fn set(&mut self, socket: &Self::Socket, option: (i32, i32), value: i32);
    fn number(&mut self, socket: &Self::Socket, option: (i32, i32)) -> Result<i32, i32>;
    fn send(&mut self, socket: &Self::Socket, len: usize) -> Result<usize, i32>;
    /// `ee_errno` and `ee_info` of the next entry of the error queue.
    fn queued(&mut self, socket: &Self::Socket) -> Option<(u32, u32)>;
    /// The frames that have left.
    fn left(&mut self) -> Vec<Vec<u8>>;
    fn arrive(&mut self, frame: &[u8]);
}

/// Options of a family: discovery, the MTU, errors in full.
fn options(family: Family) -> [(i32, i32); 3] {
    match family {
        Family::V4 => [libc::IP_MTU_DISCOVER, libc::IP_MTU, libc::IP_RECVERR]
            .map(|name| (libc::IPPROTO_IP, name)),
        Family::V6 => [libc::IPV6_MTU_DISCOVER, libc::IPV6_MTU, libc::IPV6_RECVERR]
            .map(|name| (libc::IPPROTO_IPV6, name)),
    }
}

/// Sends datagrams that are just not too long, and just too long, for the link and for the way.
fn sends<S: Side>(side: &mut S, socket: &S::Socket, family: Family) -> Vec<String> {
    let headers = match family {
        Family::V4 => 28,
        Family::V6 => 48,
    };
    let lengths = [NARROW, NARROW + 1, MTU, MTU + 1].map(|len| len - headers);
    let lines = lengths.map(|len| {
        let sent = side.send(socket, len);
        let left: Vec<_> = side.left().iter().filter_map(|f| frames::ip(f)).collect();
        let left: Vec<_> = left
            .iter()
            .map(|ip| (ip.len, ip.dont_fragment, ip.fragment))
            .collect();
        format!("{len}: {sent:?} {left:?}")
    });
    lines.to_vec()
}

fn play<S: Side>(side: &mut S) -> Vec<String> {
    let mut log = Vec::new();
    let error = (libc::SOL_SOCKET, libc::SO_ERROR);
    for family in Family::BOTH {
        let [discover, mtu, errors] = options(family);
        for how in 0..=5 {
            for asks in [0, 1] {
                // What is learnt is learnt of an address.
                let to = family.address(peer(how, asks));
                let socket = side.connect(SocketAddr::new(to, 9));
                side.set(&socket, discover, how);
                side.set(&socket, errors, asks);
                let mut say = |what: String| log.push(format!("{family:?} {how} {asks}: {what}"));
                sends(side, &socket, family).into_iter().for_each(&mut say);
                while let Some(queued) = side.queued(&socket) {
                    say(format!("queued {queued:?}"));
                }
                let _ = side.number(&socket, error);
                // A router says that a datagram was too big.
                side.send(&socket, 1400).unwrap();
                let frame = side.left().pop().unwrap();
                side.arrive(&frames::too_big(&frame, NARROW as u16).unwrap());
                say(format!("told {:?}", side.number(&socket, error)));
                while let Some(queued) = side.queued(&socket) {
                    say(format!("queued {queued:?}"));
                }
                let _ = side.number(&socket, error);
                say(format!("mtu {:?}", side.number(&socket, mtu)));
                sends(side, &socket, family).into_iter().for_each(&mut say);
                while let Some(queued) = side.queued(&socket) {
                    say(format!("queued {queued:?}"));
                }
            }
        }
    }
    log
}

/// The last byte of an address nobody else sends to.
fn peer(how: i32, asks: i32) -> u8 {
    (20 + 2 * how + asks) as u8
}

/// `ee_errno` and `ee_info` of a `sock_extended_err`.
fn extended(data: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| Some(u32::from_ne_bytes(*data.get(at..)?.first_chunk()?));
    Some((word(0)?, word(8)?))
}

struct Kernel {
    port: Box<dyn Port + Send>,
    pool: Pool,
}

impl Kernel {
    fn new() -> Self {
        let port = Cable::plain().lay(MTU as u32, &|name| {
            link::set_mac(name, KERNEL.0).unwrap();
        });
        for family in Family::BOTH {
            for how in 0..=5 {
                for asks in [0, 1] {
                    let to = family.address(peer(how, asks));
                    link::add_neighbour("kern0", to, PEER.0).unwrap();
                }
            }
        }
        Self {
            port,
            pool: Pool::new(1024).unwrap(),
        }
    }
}

fn number_of(error: std::io::Error) -> i32 {
    error.raw_os_error().unwrap()
}

impl Side for Kernel {
    type Socket = OwnedFd;

    fn connect(&mut self, to: SocketAddr) -> OwnedFd {
        let family = match to {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let fd = net::socket(family, SocketType::DGRAM, None).unwrap();
        net::connect(&fd, &to).unwrap();
        fd
    }

    fn set(&mut self, socket: &OwnedFd, (level, name): (i32, i32), value: i32) {
        netns::socket::set_number(socket, level, name, value).unwrap();
    }

    fn number(&mut self, socket: &OwnedFd, (level, name): (i32, i32)) -> Result<i32, i32> {
        netns::socket::number(socket, level, name).map_err(number_of)
    }

    fn send(&mut self, socket: &OwnedFd, len: usize) -> Result<usize, i32> {
        let sent = net::send(socket, &vec![0; len], SendFlags::empty());
        sent.map_err(|error| error.raw_os_error())
    }

    fn queued(&mut self, socket: &OwnedFd) -> Option<(u32, u32)> {
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        let message = netns::socket::receive_message(socket, &mut [], flags).ok()?;
        // Behind the header of the control message.
        extended(message.control.get(16..)?)
    }

    fn left(&mut self) -> Vec<Vec<u8>> {
        let (mut all, mut batch) = (Vec::new(), Batch::new());
        while self.port.receive(&mut self.pool, &mut batch) > 0 {
            while let Some(packet) = batch.pop_front() {
                let frame: Vec<u8> = self.pool.slices(&packet.chain).flatten().copied().collect();
                self.pool.free(packet.chain);
                let to_peers = |ip: &frames::Ip| {
                    Family::BOTH
                        .iter()
                        .any(|family| (20..40).any(|n| family.address(n) == ip.dst.to_ip()))
                };
                if frames::ip(&frame).as_ref().is_some_and(to_peers) {
                    all.push(frame);
                }
            }
        }
        all
    }

    fn arrive(&mut self, frame: &[u8]) {
        let mut packet = Packet::EMPTY;
        let taken = self.pool.append_bytes(&mut packet.chain, frame);
        assert_eq!(taken, frame.len(), "the pool is empty");
        let mut batch = Batch::new();
        batch.push(packet).unwrap();
        while !batch.is_empty() {
            self.port.transmit(&mut self.pool, &mut batch);
        }
        self.port.flush(&mut self.pool);
        // It is at work with it, mostly not even that.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A host with the kernel's addresses, on a link without MAC addresses.
fn host() -> Alone {
    let config = Config {
        pool_blocks: 1024,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    };
    let mut world = Alone::of(config, Instant::from_secs(100));
    for family in Family::BOTH {
        let own = format!("{}/{}", family.kernel(), family.prefix());
        let (now, link) = (world.now, world.link);
        world
            .host
            .add_address(now, link, own.parse().unwrap())
            .unwrap();
    }
    world.turn();
    world.sent.clear();
    world
}

impl Side for Alone {
    type Socket = i32;

    fn connect(&mut self, to: SocketAddr) -> i32 {
        let family = if to.is_ipv4() { V4 } else { V6 };
        let fd = posix::socket(self, family, DATAGRAM, 0).unwrap();
        posix::connect(self, fd, &address(to)).unwrap();
        fd
    }

    fn set(&mut self, socket: &i32, (level, name): (i32, i32), value: i32) {
        posix::setsockopt(self, *socket, level, name, &value.to_ne_bytes()).unwrap();
    }

    fn number(&mut self, socket: &i32, (level, name): (i32, i32)) -> Result<i32, i32> {
        interop::alone::number(self, *socket, level, name).map_err(|error| error.0)
    }

    fn send(&mut self, socket: &i32, len: usize) -> Result<usize, i32> {
        let sent = interop::alone::put(self, *socket, &vec![0; len], 0);
        self.turn();
        sent.map_err(|error| error.0)
    }

    fn queued(&mut self, socket: &i32) -> Option<(u32, u32)> {
        let flags = libc::MSG_ERRQUEUE;
        let message = posix::receive(self, *socket, &mut [IoSliceMut::new(&mut [])], flags).ok()?;
        extended(&message.control.first()?.data)
    }

    fn left(&mut self) -> Vec<Vec<u8>> {
        let all = self.sent.drain(..).map(|(_, packet)| {
            let kind = match packet[0] >> 4 {
                4 => EtherType::IPV4,
                _ => EtherType::IPV6,
            };
            frames::ethernet(KERNEL, PEER, kind, &packet)
        });
        all.collect()
    }

    fn arrive(&mut self, frame: &[u8]) {
        Alone::arrive(self, &frame[14..]);
    }
}

#[test]
fn path_mtus_are_discovered_as_the_kernels() {
    netns::in_private!(|| {
        let (kernels, ours) = (play(&mut Kernel::new()), play(&mut host()));
        let apart: Vec<_> = kernels.iter().zip(&ours).filter(|(a, b)| a != b).collect();
        assert!(apart.is_empty(), "the kernel's, ours: {apart:#?}");
        assert_eq!(kernels.len(), ours.len(), "{kernels:#?} {ours:#?}");
    });
}
