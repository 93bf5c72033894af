//! UDP: who gets what comes in by a link, and by which link sockets send.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use base::Rng;
use interop::Family;

use super::frames::{datagram, tell};
use super::sides::{OTHER, Side, far, link_local, near, own};
use super::{DEVICES, Device, Log, Sharing, any, bind_device, device, scoped, share};

/// Programs of sockets that share a port.
const PROGRAMS: u64 = 300;
/// The peer's port.
const PEER_PORT: u16 = 9;

/// One socket of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    device: Device,
    /// Of which link the address is that it is bound to; none: the wildcard.
    at: Device,
    connected: bool,
}

#[derive(Debug)]
struct Program {
    family: Family,
    sharing: Sharing,
    ways: Vec<Way>,
    /// Which of them is bound to another device afterwards.
    rebound: (usize, Device),
    port: u16,
}

impl Program {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::from_seed(seed);
        let some = 1 + rng.below(4) as usize;
        let mut one = |all: &[Device]| all[rng.below(all.len() as u32) as usize];
        // Of two connected to one peer the kernel takes the latest, of a device or not, a host that of the device, then the first.
        let connected = one(&[None, Some(0), Some(1), Some(2)]);
        let ways = (0..some).map(|n| Way {
            device: one(&DEVICES),
            at: one(&[None, None, Some(0), Some(1)]),
            connected: connected == Some(n),
        });
        let ways: Vec<Way> = ways.collect();
        let another = one(&DEVICES);
        // Of those alike that share with SO_REUSEPORT one takes by a hash, and the kernel does not prefer that of a device then.
        let alike = (0..some).any(|n| ways[n + 1..].contains(&ways[n]));
        let of_all = another.is_none() || ways.iter().any(|way| way.device.is_none());
        let kinds = if alike || of_all { 2 } else { 3 };
        Self {
            family: Family::BOTH[rng.below(2) as usize],
            sharing: [Sharing::None, Sharing::Addr, Sharing::Port][rng.below(kinds) as usize],
            ways,
            rebound: (rng.below(some as u32) as usize, another),
            port: 2000 + seed as u16,
        }
    }

    /// Whether two sockets are bound to the same once one is bound to another device: the kernel prefers the one whose address was bound
    /// last, a host the one whose device was.
    fn coincides(&self) -> bool {
        let (which, to) = self.rebound;
        let is = self.ways[which];
        let mut others = (0..self.ways.len()).filter(|n| *n != which);
        others.any(|n| self.ways[n] == Way { device: to, ..is })
    }
}

fn open<S: Side>(side: &mut S, program: &Program, way: Way) -> (S::Socket, Result<(), i32>) {
    let socket = side.open(program.family, false);
    share(side, &socket, program.sharing);
    bind_device(side, &socket, way.device).unwrap();
    let at = way
        .at
        .map_or(any(program.family), |link| own(program.family, link));
    let opened = side.bind(&socket, SocketAddr::new(at, program.port));
    let peer = SocketAddr::new(far(program.family), PEER_PORT);
    let opened = opened.and_then(|()| match way.connected {
        true => side.connect(&socket, peer),
        false => Ok(()),
    });
    (socket, opened)
}

/// A datagram comes by each link for the host's address on each.
fn deliver<S: Side>(side: &mut S, program: &Program, open: &[(usize, S::Socket)], log: &mut Log) {
    for (by, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let from = (far(program.family), PEER_PORT);
        let ends = (from, (own(program.family, to), program.port));
        side.rest();
        side.arrive(by, &datagram(ends));
        let mut took = Vec::new();
        for (number, socket) in open {
            while side.receive(socket).is_ok() {
                took.push(*number);
            }
        }
        let left = tell(&side.left(), program.port);
        log.push(format!("by {by} to {to}: {took:?} {left:?}"));
    }
}

fn run<S: Side>(side: &mut S, program: &Program) -> Log {
    let (mut log, mut sockets) = (Log::new(), Vec::new());
    for (number, way) in program.ways.iter().enumerate() {
        let (socket, opened) = open(side, program, *way);
        log.push(format!("{number}: {opened:?}"));
        match opened {
            Ok(()) => sockets.push((number, socket)),
            Err(_) => side.close(socket),
        }
    }
    deliver(side, program, &sockets, &mut log);
    let (which, to) = program.rebound;
    let found = sockets.iter().find(|(number, _)| *number == which);
    if let Some((_, socket)) = found.filter(|_| !program.coincides()) {
        let rebound = bind_device(side, socket, to);
        log.push(format!("rebound: {rebound:?}"));
        deliver(side, program, &sockets, &mut log);
    }
    for (_, socket) in sockets {
        side.close(socket);
    }
    log
}

pub(super) fn play_delivery<S: Side>(side: &mut S) -> Log {
    let mut log = Log::new();
    for seed in 0..PROGRAMS {
        let program = Program::new(seed);
        let said = run(side, &program);
        log.extend(said.iter().map(|line| format!("{program:?} {line}")));
    }
    log
}

/// Where to, and which link the address names, if it does.
fn destinations(family: Family, device: Device) -> Vec<(IpAddr, Device)> {
    let mut all = vec![(far(family), None)];
    match family {
        // Without a route by its device the kernel takes anybody to be on the link.
        Family::V4 => match device {
            None => all.push((Ipv4Addr::new(203, 0, 113, 5).into(), None)),
            Some(link) => {
                all.push((near(family, link, OTHER), None));
                all.push((Ipv4Addr::new(239, 1, 2, 3).into(), None));
            }
        },
        Family::V6 => {
            let [nobody, group, near_group] =
                ["2001:db8::5", "ff15::1234", "ff02::1234"].map(|text| text.parse().unwrap());
            all.extend([(nobody, None), (group, None)]);
            all.extend((0..2).map(|link| (near(family, link, OTHER), None)));
            for to in [link_local(OTHER), near_group] {
                all.extend(DEVICES.map(|link| (to, link)));
            }
            // A host has no link for an address of some link that nobody names; the kernel takes the first.
            all.retain(|named| device.is_some() || *named != (link_local(OTHER), None));
        }
    }
    all
}

/// Names a link for what goes to groups.
fn group_link<S: Side>(
    side: &mut S,
    socket: &S::Socket,
    family: Family,
    link: usize,
) -> Result<(), i32> {
    let index = side.index(link).to_ne_bytes();
    match family {
        Family::V4 => {
            let value = [&[0; 8][..], &index].concat();
            side.set(socket, (libc::IPPROTO_IP, libc::IP_MULTICAST_IF), &value)
        }
        Family::V6 => side.set(
            socket,
            (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF),
            &index,
        ),
    }
}

pub(super) fn play_sending<S: Side>(side: &mut S) -> Log {
    let mut log = Log::new();
    let mut port = 2000;
    for (family, device) in Family::BOTH.map(|f| DEVICES.map(|d| (f, d))).concat() {
        for (to, link) in destinations(family, device) {
            for (group, connects) in DEVICES.map(|g| [(g, false), (g, true)]).concat() {
                port += 1;
                let at = scoped(side, to, port, link);
                let said = send(side, (family, device, group), at, connects);
                let way = format!("{device:?} group {group:?} connects {connects}");
                log.push(format!("{way} to {to} {link:?}: {said}"));
            }
        }
    }
    log
}

fn send<S: Side>(
    side: &mut S,
    (family, on, group): (Family, Device, Device),
    to: SocketAddr,
    connects: bool,
) -> String {
    let socket = side.open(family, false);
    // The device comes after it, and counts.
    let named = group.map(|link| group_link(side, &socket, family, link));
    bind_device(side, &socket, on).unwrap();
    let late = group.map(|link| group_link(side, &socket, family, 1 - link));
    let connected = connects.then(|| side.connect(&socket, to));
    let bound = device(side, &socket);
    let sent = side.send(&socket, (!connects).then_some(to));
    let left = tell(&side.left(), to.port());
    side.close(socket);
    format!("{named:?} {late:?} {connected:?} {bound:?} {sent:?} {left:?}")
}
