//! TCP: who answers a SYN that comes by a link, and which link connections keep to.

use std::net::SocketAddr;

use interop::Family;
use wire::tcp::Flags;

use super::frames::{Ends, syn_number, tcp_frame, tell};
use super::sides::{OTHER, Side, far, link_local, own};
use super::{DEVICES, Device, Log, Sharing, any, bind_device, device, scoped, share};

/// The number peers begin with.
const ISS: u32 = 1000;
/// Listeners: the device of each, and the link of whose address it is, if not of all.
const KINDS: [(Device, Device); 6] = [
    (None, None),
    (Some(0), None),
    (Some(1), None),
    (None, Some(0)),
    (Some(0), Some(0)),
    (Some(1), Some(0)),
];

fn listener<S: Side>(
    side: &mut S,
    (family, sharing): (Family, Sharing),
    (device, at): (Device, Device),
    port: u16,
) -> (S::Socket, Result<(), i32>) {
    let socket = side.open(family, true);
    share(side, &socket, sharing);
    bind_device(side, &socket, device).unwrap();
    let at = at.map_or(any(family), |link| own(family, link));
    let bound = side.bind(&socket, SocketAddr::new(at, port));
    let listens = bound.and_then(|()| side.listen(&socket));
    (socket, listens)
}

/// A SYN comes by a link: what is said of it, and the number of the SYN that answers.
fn knock<S: Side>(side: &mut S, by: usize, ends: Ends) -> (Vec<String>, Option<u32>) {
    side.arrive(by, &tcp_frame(ends, Flags::SYN, (ISS, None), &[]));
    let left = side.left();
    let port = ends.0.1;
    (tell(&left, port), syn_number(&left, port))
}

/// A segment behind the handshake comes by a link, with this data: what is said of it.
fn segment<S: Side>(
    side: &mut S,
    by: usize,
    ends: Ends,
    numbers: (u32, u32),
    data: &[u8],
) -> Vec<String> {
    let numbers = (numbers.0, Some(numbers.1));
    side.arrive(by, &tcp_frame(ends, Flags::NONE, numbers, data));
    tell(&side.left(), ends.0.1)
}

pub(super) fn play_listeners<S: Side>(side: &mut S) -> Log {
    let (mut log, mut port) = (Log::new(), 2000);
    let ways = [Sharing::None, Sharing::Port].map(|sharing| Family::BOTH.map(|f| (f, sharing)));
    for way in ways.concat() {
        for which in 1..64 {
            port += 1;
            let kinds = (0..KINDS.len()).filter(|n| which >> n & 1 != 0);
            let kinds: Vec<_> = kinds.map(|n| KINDS[n]).collect();
            // Of those that share with SO_REUSEPORT the kernel does not prefer that of a device.
            let of_all = kinds.iter().filter(|(device, _)| device.is_none()).count();
            if way.1 == Sharing::Port && of_all > 0 && of_all < kinds.len() {
                continue;
            }
            let said = listeners(side, way, &kinds, port);
            log.extend(said.iter().map(|line| format!("{way:?} {kinds:?} {line}")));
        }
    }
    log
}

/// SYNs come by each link for the host's address on each.
fn listeners<S: Side>(
    side: &mut S,
    way: (Family, Sharing),
    kinds: &[(Device, Device)],
    port: u16,
) -> Log {
    let (mut log, mut open) = (Log::new(), Vec::new());
    for kind in kinds {
        let (socket, listens) = listener(side, way, *kind, port);
        log.push(format!("{kind:?}: {listens:?}"));
        match listens {
            Ok(()) => open.push((kind, socket)),
            Err(_) => side.close(socket),
        }
    }
    for (n, (by, to)) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().enumerate() {
        // Another peer for each.
        let ends = ((far(way.0), 4 * port + n as u16), (own(way.0, to), port));
        let (left, number) = knock(side, by, ends);
        let mut said = format!("{left:?}");
        if let Some(number) = number {
            let left = segment(side, by, ends, (ISS + 1, number.wrapping_add(1)), &[]);
            said += &format!(" {left:?}");
        }
        for (kind, socket) in &open {
            while let Ok(accepted) = side.accept(socket) {
                said += &format!(" {kind:?} {}", device(side, &accepted));
                side.close(accepted);
            }
        }
        log.push(format!("by {by} to {to}: {said}"));
    }
    open.into_iter().for_each(|(_, socket)| side.close(socket));
    side.left();
    log
}

/// What becomes of an accepted connection, and of one half open, to which segments come by the other link.
fn accepted<S: Side>(side: &mut S, family: Family, on: Device, ports: (u16, u16)) -> Log {
    let mut log = Log::new();
    let (socket, listens) = listener(side, (family, Sharing::None), (on, None), ports.0);
    listens.unwrap();
    let (by, other) = (on.unwrap_or(0), 1 - on.unwrap_or(0));
    let from = |n: u16| ((far(family), ports.1 + n), (own(family, 0), ports.0));
    // Of this one the handshake ends by the other link, then by its own.
    let (left, number) = knock(side, by, from(0));
    log.push(format!("{left:?}"));
    let number = number.unwrap().wrapping_add(1);
    for by in [other, by] {
        let left = segment(side, by, from(0), (ISS + 1, number), &[]);
        let accepted = side.accept(&socket);
        log.push(format!(
            "half open, by {by}: {left:?} {:?}",
            accepted.as_ref().err()
        ));
        accepted.into_iter().for_each(|socket| side.close(socket));
    }
    let (_, number) = knock(side, by, from(1));
    let number = number.unwrap().wrapping_add(1);
    let left = segment(side, by, from(1), (ISS + 1, number), &[]);
    let connection = side.accept(&socket).unwrap();
    log.push(format!("{left:?} {}", device(side, &connection)));
    for (by, seq) in [(other, ISS + 1), (by, ISS + 1), (other, ISS + 2)] {
        let left = segment(side, by, from(1), (seq, number), b"y");
        let received = side.receive(&connection);
        log.push(format!("open, by {by}: {left:?} {received:?}"));
    }
    for by in [other, by] {
        let reset = tcp_frame(from(1), Flags::RST, (ISS + 2, Some(number)), &[]);
        side.arrive(by, &reset);
        log.push(format!("reset by {by}: {:?}", side.receive(&connection)));
    }
    side.close(connection);
    side.close(socket);
    side.left();
    log
}

/// By which link connect(2) goes, and whether the answer may come by the other.
fn connected<S: Side>(side: &mut S, family: Family, on: Device, port: u16) -> Log {
    let mut log = Log::new();
    for (n, by) in [0, 1].into_iter().enumerate() {
        let port = port + n as u16;
        let socket = side.open(family, true);
        bind_device(side, &socket, on).unwrap();
        let local = scoped(side, any(family), port, None);
        side.bind(&socket, local).unwrap();
        let called = side.connect(&socket, SocketAddr::new(far(family), port));
        let left = side.left();
        log.push(format!("connect: {called:?} {:?}", tell(&left, port)));
        let syn = left
            .iter()
            .find_map(|(_, frame)| interop::frames::tcp(frame).filter(|s| s.src_port == port));
        let syn = syn.unwrap();
        let ends = ((far(family), port), (syn.ip.src.to_ip(), port));
        let numbers = (ISS, Some(syn.seq.wrapping_add(1)));
        side.arrive(by, &tcp_frame(ends, Flags::SYN, numbers, &[]));
        let answer = tell(&side.left(), port);
        let sent = side.send(&socket, None);
        log.push(format!("answered by {by}: {answer:?} {sent:?}"));
        side.close(socket);
        side.left();
    }
    log
}

/// connect(2) and bind(2) with addresses that are only of a link.
fn local<S: Side>(side: &mut S, on: Device, scope: Device, port: u16) -> Log {
    let socket = side.open(Family::V6, true);
    bind_device(side, &socket, on).unwrap();
    let to = scoped(side, link_local(OTHER), port, scope);
    let called = side.connect(&socket, to);
    let left = tell(&side.left(), port);
    let bound = device(side, &socket);
    let mut log = vec![format!("connect: {called:?} {bound} {left:?}")];
    side.close(socket);
    for (stream, link) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        let socket = side.open(Family::V6, stream);
        bind_device(side, &socket, on).unwrap();
        let own = link_local(link + 1);
        let at = scoped(side, own, port + 1, scope);
        let bound = side.bind(&socket, at);
        let device = device(side, &socket);
        log.push(format!("bind {stream} of {link}: {bound:?} {device:?}"));
        side.close(socket);
    }
    side.left();
    log
}

pub(super) fn play_connections<S: Side>(side: &mut S) -> Log {
    let (mut log, mut port) = (Log::new(), 2000);
    for on in DEVICES {
        for family in Family::BOTH {
            port += 10;
            let mut said = accepted(side, family, on, (port, port + 5));
            said.extend(connected(side, family, on, port + 2));
            log.extend(said.iter().map(|line| format!("{family:?} {on:?} {line}")));
        }
        for scope in DEVICES {
            port += 10;
            let said = local(side, on, scope, port);
            log.extend(
                said.iter()
                    .map(|line| format!("{on:?} scope {scope:?} {line}")),
            );
        }
    }
    log
}
