//! Sockets bound to one interface of two (SO_BINDTODEVICE, SO_BINDTOIFINDEX), beside the kernel's: what the options take and tell, who may
//! bind beside whom, what comes in by which link is whose, and by which link they send and answer.
//!
//! What a host says to itself is not played: it comes by another interface than the kernel's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use interop::Family;
use sides::{Kernel, NAMES, SO_BINDTOIFINDEX, Side, host};

mod datagrams;
mod frames;
mod sides;
mod streams;

const DEVICE: (i32, i32) = (libc::SOL_SOCKET, libc::SO_BINDTODEVICE);
const IFINDEX: (i32, i32) = (libc::SOL_SOCKET, SO_BINDTOIFINDEX);
/// What is compared: what calls gave, what came and what left.
type Log = Vec<String>;
/// The link a socket is bound to, if any.
type Device = Option<usize>;

const DEVICES: [Device; 3] = [None, Some(0), Some(1)];

fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// An address of a link as a socket address names it; without a link it names none.
fn scoped<S: Side>(side: &S, address: IpAddr, port: u16, link: Device) -> SocketAddr {
    match address {
        IpAddr::V4(_) => SocketAddr::new(address, port),
        IpAddr::V6(v6) => {
            let scope = link.map_or(0, |link| side.index(link));
            SocketAddrV6::new(v6, port, 0, scope).into()
        }
    }
}

fn bind_device<S: Side>(side: &mut S, socket: &S::Socket, device: Device) -> Result<(), i32> {
    let name = device.map_or("", |link| NAMES[link]);
    side.set(socket, DEVICE, name.as_bytes())
}

/// What a socket says it is bound to, by name and by number, which is another one elsewhere.
fn device<S: Side>(side: &mut S, socket: &S::Socket) -> String {
    let name = side.told(socket, DEVICE);
    let name = name.map(|name| String::from_utf8_lossy(&name).into_owned());
    let number = side.told(socket, IFINDEX).map(|number| {
        let number = i32::from_ne_bytes(number.try_into().unwrap());
        let link = (0..2).find(|link| side.index(*link) as i32 == number);
        link.map_or(format!("number {number}"), |link| format!("link {link}"))
    });
    format!("{name:?} {number:?}")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    None,
    Addr,
    Port,
}

fn share<S: Side>(side: &mut S, socket: &S::Socket, sharing: Sharing) {
    let option = match sharing {
        Sharing::None => return,
        Sharing::Addr => libc::SO_REUSEADDR,
        Sharing::Port => libc::SO_REUSEPORT,
    };
    let on = 1_i32.to_ne_bytes();
    side.set(socket, (libc::SOL_SOCKET, option), &on).unwrap();
}

/// Values of the options, and what they are called.
fn values<S: Side>(side: &S) -> Vec<(String, (i32, i32), Vec<u8>)> {
    let [first, second] = NAMES;
    let names = [
        first.to_owned(),
        String::new(),
        format!("{first}\0"),
        "\0".into(),
        format!("{second}\0and more"),
        format!("{second}-and-more"),
        "nobody".into(),
        format!("{first}?"),
        first[..2].to_owned(),
        second.to_owned(),
        format!("\0{first}"),
    ];
    let named = names.map(|name| (format!("{name:?}"), DEVICE, name.into_bytes()));
    let link = |n| (format!("link {n}"), side.index(n) as i32);
    // Of a number that no interface has the kernel says nothing until a name is asked for.
    let others = [-1, 0, i32::MIN].map(|n| (n.to_string(), n));
    let numbers = [link(0), link(1)].into_iter().chain(others);
    let numbered = numbers.map(|(name, number)| (name, IFINDEX, number.to_ne_bytes().to_vec()));
    let odd = [0, 1, 3, 8].map(|len| {
        let mut value = side.index(0).to_ne_bytes().to_vec();
        value.resize(len, 0);
        (format!("{len} bytes"), IFINDEX, value)
    });
    let mut all = named.to_vec();
    all.extend(numbered);
    all.extend(odd);
    all
}

fn play_options<S: Side>(side: &mut S) -> Log {
    let mut log = Log::new();
    for family in Family::BOTH {
        for (stream, bound) in [(false, false), (false, true), (true, false), (true, true)] {
            let socket = side.open(family, stream);
            if bound {
                side.bind(&socket, SocketAddr::new(any(family), 0)).unwrap();
            }
            let first = device(side, &socket);
            log.push(format!("{family:?} {stream} {bound}: {first}"));
            for (name, option, value) in values(side) {
                let set = side.set(&socket, option, &value);
                let told = device(side, &socket);
                log.push(format!(
                    "{family:?} {stream} {bound} {name}: {set:?} {told}"
                ));
            }
            side.close(socket);
        }
    }
    log
}

/// Two sockets, of which the second is bound to its device before it is bound to its address, or, `late`, between that and listen(2).
fn play_conflicts<S: Side>(side: &mut S) -> Log {
    let mut log = Log::new();
    let mut port = 2000;
    let [v4, v6] = Family::BOTH.map(|family| [any(family), sides::own(family, 0)]);
    let mut places = vec![(v4[0], v6[0]), (v6[0], v4[0])];
    for [any, own] in [v4, v6] {
        places.extend([(any, any), (any, own), (own, any), (own, own)]);
    }
    let ways = [(false, false), (true, false), (true, true)];
    for (stream, late) in ways {
        for sharing in [Sharing::None, Sharing::Addr, Sharing::Port] {
            for pair in &places {
                for devices in DEVICES.map(|a| DEVICES.map(|b| (a, b))).concat() {
                    port += 1;
                    let said = conflict(side, (stream, late, sharing), (*pair, port), devices);
                    let way = format!("stream {stream} late {late} {sharing:?}");
                    log.push(format!("{way} {pair:?} {devices:?}: {said}"));
                }
            }
        }
    }
    log
}

fn conflict<S: Side>(
    side: &mut S,
    (stream, late, sharing): (bool, bool, Sharing),
    ((first, second), port): ((IpAddr, IpAddr), u16),
    devices: (Device, Device),
) -> String {
    let mut open = |at: IpAddr, device: Device, late: bool| {
        let family = if at.is_ipv4() { Family::V4 } else { Family::V6 };
        let socket = side.open(family, stream);
        share(side, &socket, sharing);
        if !late {
            bind_device(side, &socket, device).unwrap();
        }
        let bound = side.bind(&socket, SocketAddr::new(at, port));
        if late {
            bind_device(side, &socket, device).unwrap();
        }
        let listens = (stream && bound.is_ok()).then(|| side.listen(&socket));
        (format!("{bound:?} {listens:?}"), socket)
    };
    let (_, a) = open(first, devices.0, false);
    let (said, b) = open(second, devices.1, late);
    side.close(a);
    side.close(b);
    said
}

fn compare(kernels: &Log, ours: &Log) {
    let apart: Vec<_> = kernels.iter().zip(ours).filter(|(a, b)| a != b).collect();
    assert!(apart.is_empty(), "the kernel's, ours: {apart:#?}");
    assert_eq!(kernels.len(), ours.len());
}

#[test]
fn options_of_devices_are_taken_refused_and_told_as_the_kernels() {
    netns::in_private!(|| compare(
        &play_options(&mut Kernel::new()),
        &play_options(&mut host())
    ));
}

#[test]
fn sockets_of_devices_are_in_each_others_way_as_the_kernels() {
    netns::in_private!(|| {
        compare(
            &play_conflicts(&mut Kernel::new()),
            &play_conflicts(&mut host()),
        );
    });
}

#[test]
fn datagrams_that_come_by_a_link_are_for_whom_the_kernel_gives_them_to() {
    netns::in_private!(|| {
        let mut kernel = Kernel::new();
        compare(
            &datagrams::play_delivery(&mut kernel),
            &datagrams::play_delivery(&mut host()),
        );
    });
}

#[test]
fn datagrams_of_bound_sockets_leave_by_the_link_the_kernels_do() {
    netns::in_private!(|| {
        let mut kernel = Kernel::new();
        compare(
            &datagrams::play_sending(&mut kernel),
            &datagrams::play_sending(&mut host()),
        );
    });
}

#[test]
fn listeners_of_devices_answer_whom_the_kernels_do() {
    netns::in_private!(|| {
        let mut kernel = Kernel::new();
        compare(
            &streams::play_listeners(&mut kernel),
            &streams::play_listeners(&mut host()),
        );
    });
}

#[test]
fn connections_of_devices_keep_to_their_link_as_the_kernels() {
    netns::in_private!(|| {
        let mut kernel = Kernel::new();
        compare(
            &streams::play_connections(&mut kernel),
            &streams::play_connections(&mut host()),
        );
    });
}
