//! What lies below the transports, as programs see it: ICMP errors on the error queue, control messages of datagrams, path MTUs,
//! foreign addresses; and splice.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsRawFd;

use posix::{
    Control, Errno, Message, PollFd, bind, close, connect, handed_over, listen, poll, receive,
};
use posix::{accept, getsockopt, send_message, setsockopt, socket, splice};
use rustix::pipe::{PipeFlags, pipe_with};

use interop::alone::{Alone, DATAGRAM, STREAM, V4, V6, get, number, pair, put, set, sockaddr};

const IP: i32 = libc::SOL_IP;
const IPV6: i32 = libc::SOL_IPV6;

/// 10.0.0.9 says of the packet (IPv4) that it did not get on: type, code and second word.
fn complain(world: &mut Alone, packet: &[u8], head: [u8; 8]) {
    let quote = &packet[..packet.len().min(28)];
    let mut icmp = [&head[..], quote].concat();
    icmp[2..4].fill(0);
    let sum = sum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let mut ip = vec![
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1,
    ];
    let len = (ip.len() + icmp.len()) as u16;
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    let check = self::sum(&ip);
    ip[10..12].copy_from_slice(&check);
    world.arrive(&[ip, icmp].concat());
}

/// The Internet checksum.
fn sum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// IPv4 and UDP headers as they would be quoted.
fn datagram(from: u16, to: u16) -> Vec<u8> {
    let mut ip = vec![
        0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    for word in [from, to, 9, 0] {
        ip.extend(word.to_be_bytes());
    }
    ip
}

fn next(world: &mut Alone, fd: i32) -> Result<Message, Errno> {
    receive(
        world,
        fd,
        &mut [IoSliceMut::new(&mut [])],
        libc::MSG_ERRQUEUE,
    )
}

fn polled(world: &mut Alone, fd: i32) -> i16 {
    let events = libc::POLLIN;
    let mut fds = [PollFd {
        fd,
        events,
        revents: 0,
    }];
    poll(world, &mut fds, 0).unwrap();
    fds[0].revents
}

#[test]
fn icmp_errors_are_queued_for_who_asks() {
    let world = &mut Alone::new();
    let fd = socket(world, V4, DATAGRAM | libc::SOCK_NONBLOCK, 0).unwrap();
    bind(world, fd, &sockaddr("10.0.0.1:7000")).unwrap();
    connect(world, fd, &sockaddr("10.0.0.2:9")).unwrap();
    let unreachable = [3, 1, 0, 0, 0, 0, 0, 0];
    complain(world, &datagram(7000, 9), unreachable);
    assert_eq!(polled(world, fd), 0, "soft, and nobody asked");
    set(world, fd, IP, libc::IP_RECVERR, 1).unwrap();
    assert_eq!(number(world, fd, IP, libc::IP_RECVERR), Ok(1));
    complain(world, &datagram(7000, 9), unreachable);
    complain(world, &datagram(7000, 9), [3, 4, 0, 0, 0, 0, 4, 176]);
    assert!(polled(world, fd) & libc::POLLERR != 0);
    for (errno, kind, code, info) in [
        (libc::EHOSTUNREACH, 3, 1, 0_u32),
        (libc::EMSGSIZE, 3, 4, 1200),
    ] {
        let message = next(world, fd).unwrap();
        assert_eq!(message.flags, libc::MSG_ERRQUEUE);
        assert_eq!(message.from, Some("10.0.0.2:9".parse().unwrap()));
        let [control] = &message.control[..] else {
            panic!("{message:?}")
        };
        assert_eq!((control.level, control.kind), (IP, libc::IP_RECVERR));
        let mut expected = (errno as u32).to_ne_bytes().to_vec();
        expected.extend([2, kind, code, 0]);
        expected.extend(info.to_ne_bytes());
        expected.extend([0; 4]);
        expected.extend(&sockaddr("10.0.0.9:0")[..16]);
        assert_eq!(control.data, expected, "with the router that said so");
    }
    // Who has read the last of them is told of none any more.
    assert_eq!(number(world, fd, libc::SOL_SOCKET, libc::SO_ERROR), Ok(0));
    assert_eq!(next(world, fd), Err(Errno::AGAIN));
    assert_eq!(polled(world, fd), 0);
    assert_eq!(number(world, fd, IP, libc::IP_MTU), Ok(1200));
}

#[test]
fn what_is_too_long_for_the_path_is_told_with_its_mtu() {
    let world = &mut Alone::new();
    let fd = socket(world, V4, DATAGRAM, 0).unwrap();
    connect(world, fd, &sockaddr("10.0.0.2:9")).unwrap();
    assert_eq!(put(world, fd, &[0; 2000], 0), Ok(2000), "in fragments");
    assert_eq!(
        set(world, fd, IP, libc::IP_MTU_DISCOVER, 6),
        Err(Errno::INVAL)
    );
    assert_eq!(number(world, fd, IP, libc::IP_MTU_DISCOVER), Ok(1));
    set(world, fd, IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO).unwrap();
    set(world, fd, IP, libc::IP_RECVERR, 1).unwrap();
    assert_eq!(put(world, fd, &[0; 2000], 0), Err(Errno::MSGSIZE));
    let message = next(world, fd).unwrap();
    let mut expected = (libc::EMSGSIZE as u32).to_ne_bytes().to_vec();
    expected.extend([1, 0, 0, 0]);
    expected.extend(1500_u32.to_ne_bytes());
    expected.extend([0; 20]);
    assert_eq!(message.control[0].data, expected);
}

/// What is known of the path, and what leaves of a datagram that is longer: pieces, and whether routers may make more of them. `interop` plays
/// it all beside the kernel.
#[test]
fn routers_are_believed_and_obeyed_as_was_said() {
    for (how, known, pieces, whole) in [
        (libc::IP_PMTUDISC_DONT, 1200, 2, false),
        (libc::IP_PMTUDISC_WANT, 1200, 2, false),
        (libc::IP_PMTUDISC_PROBE, 1200, 1, true),
        (libc::IP_PMTUDISC_INTERFACE, 1500, 1, false),
        (libc::IP_PMTUDISC_OMIT, 1500, 1, false),
    ] {
        let world = &mut Alone::new();
        let fd = socket(world, V4, DATAGRAM, 0).unwrap();
        bind(world, fd, &sockaddr("10.0.0.1:7000")).unwrap();
        connect(world, fd, &sockaddr("10.0.0.2:9")).unwrap();
        set(world, fd, IP, libc::IP_MTU_DISCOVER, how).unwrap();
        complain(world, &datagram(7000, 9), [3, 4, 0, 0, 0, 0, 4, 176]);
        number(world, fd, libc::SOL_SOCKET, libc::SO_ERROR).unwrap();
        assert_eq!(number(world, fd, IP, libc::IP_MTU), Ok(known), "{how}");
        world.sent.clear();
        assert_eq!(put(world, fd, &[0; 1400], 0), Ok(1400), "{how}");
        world.turn();
        let left = world.sent.iter();
        let left: Vec<bool> = left.map(|(_, packet)| packet[6] & 0x40 != 0).collect();
        assert_eq!(left, vec![whole; pieces], "{how}");
    }
}

/// Its source is the address that IP_MULTICAST_IF named, unless the socket is bound to one.
#[test]
fn what_goes_to_a_group_leaves_as_was_said() {
    let world = &mut Alone::new();
    let (now, link) = (world.now, world.link);
    let second = "10.0.0.5/24".parse().unwrap();
    world.host.add_address(now, link, second).unwrap();
    for (bound, way, source) in [
        ("0.0.0.0:0", [0, 0, 0, 0], [10, 0, 0, 1]),
        ("0.0.0.0:0", [10, 0, 0, 5], [10, 0, 0, 5]),
        ("10.0.0.1:0", [10, 0, 0, 5], [10, 0, 0, 1]),
    ] {
        let fd = socket(world, V4, DATAGRAM, 0).unwrap();
        bind(world, fd, &sockaddr(bound)).unwrap();
        setsockopt(world, fd, IP, libc::IP_MULTICAST_IF, &way).unwrap();
        set(world, fd, IP, libc::IP_MULTICAST_TTL, 7).unwrap();
        let (data, to) = ([IoSlice::new(b"x")], sockaddr("239.1.2.3:9"));
        send_message(world, fd, &data, 0, Some(&to), &[]).unwrap();
        world.turn();
        let packet = &world.sent.last().unwrap().1;
        assert_eq!((packet[8], &packet[12..16]), (7, &source[..]), "{bound}");
        close(world, fd).unwrap();
    }
}

#[test]
fn the_mtu_is_that_of_a_connected_path() {
    let world = &mut Alone::new();
    let fd = socket(world, V4, STREAM, 0).unwrap();
    let asked = number(world, fd, IP, libc::IP_MTU);
    assert_eq!(asked, Err(Errno::NOTCONN));
    assert_eq!(set(world, fd, IP, libc::IP_MTU, 1), Err(Errno::NOPROTOOPT));
    let six = number(world, fd, IPV6, libc::IPV6_MTU);
    assert_eq!(six, Err(Errno::OPNOTSUPP), "not of this family");
}

/// Level, type and data of each.
fn told(world: &mut Alone, fd: i32) -> Vec<(i32, i32, Vec<u8>)> {
    let mut buffer = [0; 9];
    let message = receive(world, fd, &mut [IoSliceMut::new(&mut buffer)], 0).unwrap();
    let all = message.control.into_iter();
    all.map(|c| (c.level, c.kind, c.data)).collect()
}

#[test]
fn datagrams_are_told_with_what_was_asked_for() {
    let world = &mut Alone::new();
    let server = socket(world, V4, DATAGRAM, 0).unwrap();
    bind(world, server, &sockaddr("0.0.0.0:7")).unwrap();
    let client = socket(world, V4, DATAGRAM, 0).unwrap();
    connect(world, client, &sockaddr("10.0.0.1:7")).unwrap();
    put(world, client, b"plain", 0).unwrap();
    assert_eq!(told(world, server), []);
    for option in [libc::IP_PKTINFO, libc::IP_RECVTTL, libc::IP_RECVTOS] {
        set(world, server, IP, option, 1).unwrap();
        assert_eq!(number(world, server, IP, option), Ok(1));
    }
    set(world, server, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1).unwrap();
    let one = |level, kind, value: i32| Control {
        level,
        kind,
        data: value.to_ne_bytes().to_vec(),
    };
    let own = [one(IP, libc::IP_TTL, 3), one(IP, libc::IP_TOS, 0x28)];
    let data = [IoSlice::new(b"marked")];
    send_message(world, client, &data, 0, None, &own).unwrap();
    let time = [
        world.now.micros() / 1_000_000,
        world.now.micros() % 1_000_000 * 1000,
    ];
    let time = time.map(u64::to_ne_bytes).concat();
    let all = told(world, server);
    assert_eq!(all[0], (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, time));
    let (level, kind, info) = &all[1];
    assert_eq!((*level, *kind, info.len()), (IP, libc::IP_PKTINFO, 12));
    assert_eq!(info[4..], [10, 0, 0, 1, 10, 0, 0, 1]);
    assert_eq!(all[2], (IP, libc::IP_TTL, 3_i32.to_ne_bytes().to_vec()));
    assert_eq!(all[3], (IP, libc::IP_TOS, vec![0x28]));
    // That was for one datagram only.
    put(world, client, b"plain", 0).unwrap();
    assert_eq!(told(world, server)[3].2, [0]);
    let wrong = [one(IP, libc::IP_TTL, 0)];
    let refused = send_message(world, client, &data, 0, None, &wrong);
    assert_eq!(refused, Err(Errno::INVAL));
}

/// UDP_SEGMENT, of the socket and of one call: datagrams of so many bytes, the last of which may be shorter.
#[test]
fn one_call_sends_a_train_of_datagrams() {
    const UDP: i32 = libc::SOL_UDP;
    const SEGMENT: i32 = libc::UDP_SEGMENT;
    let world = &mut Alone::new();
    let server = socket(world, V4, DATAGRAM, 0).unwrap();
    bind(world, server, &sockaddr("0.0.0.0:7")).unwrap();
    let client = socket(world, V4, DATAGRAM, 0).unwrap();
    connect(world, client, &sockaddr("10.0.0.1:7")).unwrap();
    let lengths = |world: &mut Alone| {
        let mut all = Vec::new();
        while let Ok(datagram) = get(world, server, 99, libc::MSG_DONTWAIT) {
            all.push(datagram.len());
        }
        all
    };
    assert_eq!(number(world, client, UDP, SEGMENT), Ok(0));
    set(world, client, UDP, SEGMENT, 4).unwrap();
    assert_eq!(number(world, client, UDP, SEGMENT), Ok(4));
    assert_eq!(put(world, client, b"ten bytes.", 0), Ok(10));
    assert_eq!(lengths(world), [4, 4, 2]);
    let own = |data: &[u8]| {
        [Control {
            level: UDP,
            kind: SEGMENT,
            data: data.to_vec(),
        }]
    };
    let data = [IoSlice::new(b"ten bytes.")];
    for (size, expected) in [(5_u16, vec![5, 5]), (0, vec![10])] {
        let control = own(&size.to_ne_bytes());
        let sent = send_message(world, client, &data, 0, None, &control);
        assert_eq!(sent, Ok(10));
        assert_eq!(lengths(world), expected);
    }
    put(world, client, b"ten bytes.", 0).unwrap();
    assert_eq!(lengths(world), [4, 4, 2], "those were for one call each");
    set(world, client, UDP, SEGMENT, 1).unwrap();
    assert_eq!(put(world, client, &[0; 129], 0), Err(Errno::INVAL));
    for wrong in [-1, 65_536] {
        assert_eq!(set(world, client, UDP, SEGMENT, wrong), Err(Errno::INVAL));
    }
    let refused = send_message(world, client, &data, 0, None, &own(&[1, 0, 0, 0]));
    assert_eq!(refused, Err(Errno::INVAL), "it is a short");
    assert_eq!(set(world, client, UDP, 99, 1), Err(Errno::NOPROTOOPT));
    assert_eq!(number(world, client, UDP, 99), Err(Errno::NOPROTOOPT));
    let stream = socket(world, V4, STREAM, 0).unwrap();
    assert_eq!(set(world, stream, UDP, SEGMENT, 1), Err(Errno::NOPROTOOPT));
}

/// UDP_GRO: datagrams that were sent as one are read as one by who asks, with their size. `interop` plays more beside the kernel.
#[test]
fn one_call_reads_a_train_of_datagrams() {
    const UDP: i32 = libc::SOL_UDP;
    const GRO: i32 = libc::UDP_GRO;
    let world = &mut Alone::new();
    let server = socket(world, V4, DATAGRAM, 0).unwrap();
    assert_eq!(number(world, server, UDP, GRO), Ok(0));
    set(world, server, UDP, GRO, 2).unwrap();
    assert_eq!(number(world, server, UDP, GRO), Ok(1));
    bind(world, server, &sockaddr("0.0.0.0:7")).unwrap();
    let client = socket(world, V4, DATAGRAM, 0).unwrap();
    connect(world, client, &sockaddr("10.0.0.1:7")).unwrap();
    set(world, client, UDP, libc::UDP_SEGMENT, 4).unwrap();
    let read = |world: &mut Alone, flags: i32| {
        let mut buffer = [0; 99];
        let pieces = &mut [IoSliceMut::new(&mut buffer)];
        let message = receive(world, server, pieces, flags | libc::MSG_DONTWAIT)?;
        let told = message
            .control
            .into_iter()
            .map(|c| (c.level, c.kind, c.data));
        Ok((buffer[..message.len].to_vec(), told.collect::<Vec<_>>()))
    };
    let four = vec![(UDP, GRO, 4_i32.to_ne_bytes().to_vec())];
    put(world, client, b"ten bytes.", 0).unwrap();
    put(world, client, b"four", 0).unwrap();
    for flags in [libc::MSG_PEEK, 0] {
        assert_eq!(
            read(world, flags),
            Ok((b"ten bytes.".to_vec(), four.clone()))
        );
    }
    assert_eq!(read(world, 0), Ok((b"four".to_vec(), vec![])));
    assert_eq!(read(world, 0), Err(Errno::AGAIN));
    // It is told to who asks when it is read.
    put(world, client, b"ten bytes.", 0).unwrap();
    set(world, server, UDP, GRO, 0).unwrap();
    assert_eq!(read(world, 0), Ok((b"ten bytes.".to_vec(), vec![])));
    put(world, client, b"five.", 0).unwrap();
    assert_eq!(read(world, 0), Ok((b"five".to_vec(), vec![])));
    assert_eq!(read(world, 0), Ok((b".".to_vec(), vec![])));
    let stream = socket(world, V4, STREAM, 0).unwrap();
    assert_eq!(set(world, stream, UDP, GRO, 1), Err(Errno::NOPROTOOPT));
}

#[test]
fn datagrams_over_ipv6_are_told_in_its_manner() {
    let world = &mut Alone::new();
    let server = socket(world, V6, DATAGRAM, 0).unwrap();
    bind(world, server, &sockaddr("[::]:7")).unwrap();
    for option in [
        libc::IPV6_RECVPKTINFO,
        libc::IPV6_RECVHOPLIMIT,
        libc::IPV6_RECVTCLASS,
    ] {
        set(world, server, IPV6, option, 1).unwrap();
    }
    let client = socket(world, V6, DATAGRAM, 0).unwrap();
    connect(world, client, &sockaddr("[::1]:7")).unwrap();
    put(world, client, b"six", 0).unwrap();
    let all = told(world, server);
    let kinds: Vec<_> = all.iter().map(|(level, kind, _)| (*level, *kind)).collect();
    let expected = [libc::IPV6_PKTINFO, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS];
    assert_eq!(kinds, expected.map(|kind| (IPV6, kind)));
    assert_eq!(all[0].2[..16], std::net::Ipv6Addr::LOCALHOST.octets());
    let old = socket(world, V4, DATAGRAM, 0).unwrap();
    connect(world, old, &sockaddr("10.0.0.1:7")).unwrap();
    put(world, old, b"four", 0).unwrap();
    let all = told(world, server);
    let mapped = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
    assert_eq!((all.len(), &all[0].2[..16]), (1, &mapped.octets()[..]));
}

#[test]
fn who_may_bind_what_is_not_here_may() {
    let world = &mut Alone::new();
    let foreign = sockaddr("192.0.2.77:80");
    for kind in [STREAM, DATAGRAM] {
        let fd = socket(world, V4, kind, 0).unwrap();
        assert_eq!(bind(world, fd, &foreign), Err(Errno::ADDRNOTAVAIL));
        set(world, fd, IP, libc::IP_FREEBIND, 1).unwrap();
        assert_eq!(bind(world, fd, &foreign), Ok(()));
        if kind == STREAM {
            assert_eq!(listen(world, fd, 1), Ok(()));
        }
    }
}

#[test]
fn options_that_steer_nothing_are_kept() {
    let world = &mut Alone::new();
    let fd = socket(world, V4, STREAM, 0).unwrap();
    let level = libc::SOL_SOCKET;
    set(world, fd, level, libc::SO_MARK, 666).unwrap();
    assert_eq!(number(world, fd, level, libc::SO_MARK), Ok(666));
    set(world, fd, level, libc::SO_PRIORITY, 6).unwrap();
    assert_eq!(number(world, fd, level, libc::SO_PRIORITY), Ok(6));
    let refused = set(world, fd, level, libc::SO_PRIORITY, 7);
    assert_eq!(refused, Err(Errno(libc::EPERM)));
    assert_eq!(number(world, fd, level, libc::SO_INCOMING_CPU), Ok(-1));
}

#[test]
fn splice_moves_what_both_sides_take() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "10.0.0.1:80");
    set(world, server, libc::SOL_SOCKET, libc::SO_RCVBUF, 400_000).unwrap();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (from, to) = (reader.as_raw_fd(), writer.as_raw_fd());
    let (mut reader, mut writer) = (File::from(reader), File::from(writer));
    // From a pipe to a stream, and from a stream to a pipe.
    writer.write_all(b"through the mill").unwrap();
    assert_eq!(splice(world, from, client, 99, 0), Ok(16));
    assert_eq!(
        splice(world, from, client, 99, 0),
        Err(Errno::AGAIN),
        "empty"
    );
    assert_eq!(splice(world, server, to, 7, 0), Ok(7));
    assert_eq!(splice(world, server, to, 99, 0), Ok(9));
    let mut bytes = [0; 16];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"through the mill");
    // What a pipe has no room for stays in the stream.
    let all: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    assert_eq!(put(world, client, &all, 0), Ok(all.len()));
    let moved = splice(world, server, to, all.len(), 0).unwrap();
    assert!(moved > 0 && moved < all.len());
    assert_eq!(splice(world, server, to, 1, 0), Err(Errno::AGAIN), "full");
    let mut found = vec![0; moved];
    reader.read_exact(&mut found).unwrap();
    let rest = get(
        world,
        server,
        all.len(),
        libc::MSG_WAITALL | libc::MSG_DONTWAIT,
    );
    found.extend(rest.unwrap());
    assert_eq!(found, all, "nothing is lost or told twice");
    // What a stream has no room for stays in the pipe.
    set(world, client, libc::SOL_SOCKET, libc::SO_SNDBUF, 4096).unwrap();
    posix::fcntl(world, client, libc::F_SETFL, libc::O_NONBLOCK.into()).unwrap();
    while put(world, client, &[1; 4096], 0).is_ok() {}
    writer.write_all(b"stays").unwrap();
    assert_eq!(splice(world, from, client, 5, 0), Err(Errno::AGAIN));
    let mut bytes = [0; 5];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"stays");
}

#[test]
fn splice_ends_and_is_refused_as_on_linux() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "10.0.0.1:80");
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (from, to) = (reader.as_raw_fd(), writer.as_raw_fd());
    assert_eq!(splice(world, client, server, 1, 0), Err(Errno::INVAL));
    assert_eq!(
        splice(world, from, to, 1, 0),
        Err(Errno::BADF),
        "the kernel's"
    );
    assert_eq!(splice(world, client, to, 1, 64), Err(Errno::INVAL));
    assert_eq!(
        splice(world, client, from, 1, 0),
        Err(Errno::BADF),
        "the other end"
    );
    let file = File::open("/dev/null").unwrap();
    let refused = splice(world, file.as_raw_fd(), client, 1, 0);
    assert_eq!(refused, Err(Errno::INVAL));
    close(world, client).unwrap();
    assert_eq!(splice(world, server, to, 1, 0), Ok(0), "the stream's end");
    drop(writer);
    assert_eq!(splice(world, from, server, 1, 0), Ok(0), "the pipe's end");
}

/// TCP_SAVE_SYN and TCP_SAVED_SYN (tcp(7) knows neither; the kernel's own tests do): read once, and only whole.
#[test]
fn the_syn_of_a_connection_is_read_once() {
    const SAVE: i32 = 27;
    const SAVED: i32 = 28;
    let tcp = libc::IPPROTO_TCP;
    for (at, header) in [("10.0.0.1:80", 0x45), ("[::1]:80", 0x60)] {
        let world = &mut Alone::new();
        let family = if at.starts_with('[') { V6 } else { V4 };
        let listener = socket(world, family, STREAM, 0).unwrap();
        for refused in [-1, 3] {
            let set = set(world, listener, tcp, SAVE, refused);
            assert_eq!(set, Err(Errno::INVAL));
        }
        set(world, listener, tcp, SAVE, 1).unwrap();
        assert_eq!(number(world, listener, tcp, SAVE), Ok(1));
        bind(world, listener, &sockaddr(at)).unwrap();
        listen(world, listener, 4).unwrap();
        let client = socket(world, family, STREAM, 0).unwrap();
        connect(world, client, &sockaddr(at)).unwrap();
        let (server, _) = accept(world, listener, 0).unwrap();
        let headers = getsockopt(world, server, tcp, SAVED).unwrap();
        assert_eq!(headers[0], header);
        let ip = if family == V6 { 40 } else { 20 };
        assert_eq!(headers.len(), ip + usize::from(headers[ip + 12] >> 4) * 4);
        assert_eq!(headers[ip + 2..ip + 4], 80u16.to_be_bytes());
        let len = headers.len();
        let short = handed_over(world, server, (tcp, SAVED), (len, len - 1));
        assert_eq!(short, Err(Errno::INVAL));
        assert_eq!(getsockopt(world, server, tcp, SAVED).unwrap(), headers);
        handed_over(world, server, (tcp, SAVED), (len, len)).unwrap();
        assert_eq!(getsockopt(world, server, tcp, SAVED).unwrap(), b"");
        assert_eq!(getsockopt(world, client, tcp, SAVED).unwrap(), b"");
        assert_eq!(set(world, server, tcp, SAVED, 1), Err(Errno::NOPROTOOPT));
    }
}
