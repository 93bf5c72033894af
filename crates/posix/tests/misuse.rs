//! Calls at the wrong time, on the wrong socket, with the wrong address: what random programs of such calls found to be otherwise on
//! Linux.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsRawFd;

use posix::{Errno, accept, bind, close, connect, fcntl, getpeername, getsockname, getsockopt};
use posix::{epoll_create1, ioctl, listen, receive, send, setsockopt, shutdown, socket};
use rustix::pipe::{PipeFlags, pipe_with};

use interop::alone::{Alone, DATAGRAM, STREAM, V4, V6, get, put, sockaddr};

const NONBLOCK: i32 = libc::SOCK_NONBLOCK;

fn datagrams(world: &mut Alone, family: i32) -> i32 {
    socket(world, family, DATAGRAM | NONBLOCK, 0).unwrap()
}

fn stream(world: &mut Alone, family: i32) -> i32 {
    socket(world, family, STREAM | NONBLOCK, 0).unwrap()
}

fn send_to(world: &mut Alone, fd: i32, len: usize, flags: i32, to: &[u8]) -> Result<usize, Errno> {
    send(world, fd, &[IoSlice::new(&vec![7; len])], flags, Some(to))
}

/// A `sockaddr_in` that names another family.
fn of_family(family: i32, addr: &str) -> Vec<u8> {
    let mut bytes = sockaddr(addr);
    bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    bytes
}

/// What each call of sockets says of a descriptor.
fn refusals(world: &mut Alone, fd: i32) -> [Result<(), Errno>; 14] {
    let at = sockaddr("127.0.0.1:80");
    let (level, name) = (libc::SOL_SOCKET, libc::SO_REUSEADDR);
    [
        bind(world, fd, &at),
        listen(world, fd, 1),
        accept(world, fd, 0).map(drop),
        connect(world, fd, &at),
        shutdown(world, fd, libc::SHUT_WR),
        getsockname(world, fd).map(drop),
        getpeername(world, fd).map(drop),
        getsockopt(world, fd, level, name).map(drop),
        setsockopt(world, fd, level, name, &1_i32.to_ne_bytes()),
        send(world, fd, &[IoSlice::new(b"x")], 0, None).map(drop),
        send_to(world, fd, 1, 0, &at).map(drop),
        get(world, fd, 9, 0).map(drop),
        get(world, fd, 9, libc::MSG_OOB).map(drop),
        get(world, fd, 9, libc::MSG_ERRQUEUE).map(drop),
    ]
}

#[test]
fn what_is_open_and_no_socket_is_none() {
    let world = &mut Alone::new();
    let file = File::open("/proc/self/exe").unwrap();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let sets = epoll_create1(world, 0).unwrap();
    for fd in [file.as_raw_fd(), reader.as_raw_fd(), writer.as_raw_fd()] {
        assert_eq!(refusals(world, fd), [Err(Errno::NOTSOCK); 14]);
        // Nobody but its owner closes or changes it.
        let flags = libc::O_NONBLOCK.into();
        assert_eq!(close(world, fd), Err(Errno::BADF));
        assert_eq!(fcntl(world, fd, libc::F_SETFL, flags), Err(Errno::BADF));
        assert_eq!(ioctl(world, fd, libc::FIONBIO, 1), Err(Errno::BADF));
    }
    for open in [reader, writer] {
        let flags = rustix::fs::fcntl_getfl(open).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    }
    assert_eq!(refusals(world, sets), [Err(Errno::NOTSOCK); 14]);
    for closed in [-1, i32::MAX] {
        assert_eq!(refusals(world, closed), [Err(Errno::BADF); 14]);
        assert_eq!(accept(world, closed, 1 << 20).err(), Some(Errno::BADF));
    }
    let flags = accept(world, sets, 1 << 20);
    assert_eq!(flags.err(), Some(Errno::INVAL));
}

#[test]
fn reading_binds_nothing() {
    let world = &mut Alone::new();
    let fd = datagrams(world, V4);
    assert_eq!(get(world, fd, 9, 0), Err(Errno::AGAIN));
    assert_eq!(getsockname(world, fd).unwrap().port(), 0);
    bind(world, fd, &sockaddr("127.0.0.1:53")).unwrap();
    assert_eq!(get(world, fd, 9, libc::MSG_OOB), Err(Errno::AGAIN));
}

/// Whoever would wait for a datagram does not once the socket is shut for reading.
#[test]
fn a_socket_that_is_shut_keeps_nobody_waiting() {
    let world = &mut Alone::new();
    for bound in [false, true] {
        let fd = socket(world, V4, DATAGRAM, 0).unwrap();
        if bound {
            bind(world, fd, &sockaddr("127.0.0.1:53")).unwrap();
        }
        let shut = shutdown(world, fd, libc::SHUT_RD);
        assert_eq!(shut, Err(Errno::NOTCONN), "it is shut all the same");
        assert_eq!(get(world, fd, 9, 0), Ok(vec![]));
        assert_eq!(get(world, fd, 9, libc::MSG_DONTWAIT), Err(Errno::AGAIN));
    }
    let fd = datagrams(world, V4);
    send_to(world, fd, 3, 0, &sockaddr("127.0.0.1:53")).unwrap();
}

/// A datagram socket of IPv6 takes addresses of IPv4 as they are, unless it is of IPv6 alone.
#[test]
fn datagrams_of_ipv6_go_to_addresses_of_ipv4() {
    let world = &mut Alone::new();
    let server = datagrams(world, V4);
    let at = sockaddr("127.0.0.1:53");
    bind(world, server, &at).unwrap();
    let six = datagrams(world, V6);
    assert_eq!(send_to(world, six, 3, 0, &at), Ok(3));
    connect(world, six, &at).unwrap();
    assert_eq!(put(world, six, b"two", 0), Ok(3));
    world.turn();
    for _ in 0..2 {
        assert_eq!(get(world, server, 9, 0).unwrap().len(), 3);
    }
    let only = datagrams(world, V6);
    let (level, name) = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
    interop::alone::set(world, only, level, name, 1).unwrap();
    assert_eq!(send_to(world, only, 3, 0, &at), Err(Errno::NETUNREACH));
    assert_eq!(connect(world, only, &at), Err(Errno::AFNOSUPPORT));
    let six = stream(world, V6);
    assert_eq!(connect(world, six, &at), Err(Errno::INVAL), "too short");
}

/// Libraries that sort addresses ask so which one they would send from.
#[test]
fn connecting_datagrams_to_port_0_tells_the_source() {
    let world = &mut Alone::new();
    let fd = datagrams(world, V4);
    connect(world, fd, &sockaddr("10.0.0.9:0")).unwrap();
    let own = getsockname(world, fd).unwrap();
    assert_eq!(own.ip().to_string(), "10.0.0.1");
    assert_eq!(getpeername(world, fd), Err(Errno::NOTCONN));
    // It may be asked for another one.
    connect(world, fd, &sockaddr("127.0.0.1:0")).unwrap();
    assert_eq!(
        getsockname(world, fd).unwrap().ip().to_string(),
        "127.0.0.1"
    );
    let to = send_to(world, fd, 3, 0, &sockaddr("127.0.0.1:0"));
    assert_eq!(to, Err(Errno::INVAL));
}

#[test]
fn sockets_and_options_of_other_protocols_are_refused() {
    let world = &mut Alone::new();
    assert_eq!(socket(world, V4, STREAM, 300), Err(Errno::INVAL));
    assert_eq!(socket(world, V4, STREAM, -1), Err(Errno::INVAL));
    assert_eq!(socket(world, 99, STREAM, 300), Err(Errno::AFNOSUPPORT));
    let (four, six) = (datagrams(world, V4), datagrams(world, V6));
    let hops = (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS);
    let nodelay = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
    for ((level, name), of_four) in [(hops, true), (nodelay, true), (nodelay, false)] {
        let (fd, errno) = match of_four {
            true => (four, Errno::OPNOTSUPP),
            false => (six, Errno::NOPROTOOPT),
        };
        assert_eq!(getsockopt(world, fd, level, name), Err(errno));
    }
    let stamping = getsockopt(world, four, libc::SOL_SOCKET, libc::SO_TIMESTAMPING);
    assert_eq!(stamping, Ok(vec![0; 8]));
    // SIOCOUTQNSD and SIOCATMARK.
    assert_eq!(ioctl(world, four, 0x894b, 0), Err(Errno::NOTTY));
    let listener = stream(world, V4);
    listen(world, listener, 1).unwrap();
    assert_eq!(ioctl(world, listener, 0x8905, 0), Ok(0));
    assert_eq!(get(world, listener, 9, libc::MSG_OOB), Err(Errno::NOTCONN));
    let fresh = stream(world, V4);
    assert_eq!(get(world, fresh, 9, libc::MSG_OOB), Err(Errno::INVAL));
}

#[test]
fn addresses_are_refused_as_by_linux() {
    let world = &mut Alone::new();
    let (local, near) = (sockaddr("[fe80::1]:80"), sockaddr("[::1]:80"));
    for kind in [STREAM, DATAGRAM] {
        let fd = socket(world, V6, kind | NONBLOCK, 0).unwrap();
        assert_eq!(bind(world, fd, &local), Err(Errno::INVAL), "of which link");
        assert_eq!(connect(world, fd, &local), Err(Errno::INVAL));
        let unspec = of_family(libc::AF_UNSPEC, "0.0.0.0:80");
        assert_eq!(bind(world, fd, &unspec), Err(Errno::INVAL), "too short");
    }
    for group in ["224.1.1.1:80", "255.255.255.255:80", "10.0.0.255:80"] {
        let fd = stream(world, V4);
        let connected = connect(world, fd, &sockaddr(group));
        assert_eq!(connected, Err(Errno::NETUNREACH), "{group}");
        let fd = stream(world, V4);
        bind(world, fd, &sockaddr("127.0.0.1:0")).unwrap();
        let connected = connect(world, fd, &sockaddr(group));
        assert_eq!(connected, Err(Errno::NETUNREACH), "bound, {group}");
    }
    for group in ["[ff01::1]:80", "[ff02::1]:80", "[ff32::1]:80"] {
        let fd = datagrams(world, V6);
        assert_eq!(bind(world, fd, &sockaddr(group)), Err(Errno::INVAL));
        assert_eq!(connect(world, fd, &sockaddr(group)), Err(Errno::INVAL));
    }
    let fd = stream(world, V6);
    assert_eq!(
        connect(world, fd, &sockaddr("[ff02::1]:80")),
        Err(Errno::NETUNREACH)
    );
    // Who is bound is told so before anybody looks at an address of IPv6, and after at one of IPv4.
    bind(world, fd, &near).unwrap();
    assert_eq!(
        bind(world, fd, &sockaddr("[2001:db8::1]:80")),
        Err(Errno::INVAL)
    );
    let fd = stream(world, V4);
    bind(world, fd, &sockaddr("127.0.0.1:80")).unwrap();
    assert_eq!(
        bind(world, fd, &sockaddr("10.9.9.9:80")),
        Err(Errno::ADDRNOTAVAIL)
    );
    // A connection is one, whatever address comes.
    listen(world, fd, 1).unwrap();
    let client = stream(world, V4);
    let to = connect(world, client, &sockaddr("127.0.0.1:80"));
    assert_eq!(to, Err(Errno::INPROGRESS));
    connect(world, client, &sockaddr("127.0.0.1:80")).unwrap();
    assert_eq!(connect(world, client, &near), Err(Errno::ISCONN));
}

/// Of a datagram that cannot be: what is said first.
#[test]
fn datagrams_are_refused_as_by_linux() {
    let world = &mut Alone::new();
    let (four, six) = (datagrams(world, V4), datagrams(world, V6));
    let long = vec![0; 70_000];
    assert_eq!(put(world, four, &long, 0), Err(Errno::MSGSIZE));
    assert_eq!(put(world, six, &long, 0), Err(Errno::DESTADDRREQ));
    assert_eq!(put(world, four, b"x", libc::MSG_OOB), Err(Errno::OPNOTSUPP));
    assert_eq!(
        put(world, six, b"x", libc::MSG_OOB),
        Err(Errno::DESTADDRREQ)
    );
    let mixed = datagrams(world, V6);
    connect(world, mixed, &sockaddr("[::ffff:127.0.0.1]:53")).unwrap();
    let urgent = put(world, mixed, b"x", libc::MSG_OOB);
    assert_eq!(urgent, Err(Errno::OPNOTSUPP));
    let unspec = of_family(libc::AF_UNSPEC, "127.0.0.1:53");
    assert_eq!(send_to(world, four, 1, 0, &unspec), Ok(1));
    assert_eq!(send_to(world, six, 1, 0, &unspec), Err(Errno::DESTADDRREQ));
    let other = of_family(libc::AF_UNIX, "127.0.0.1:53");
    assert_eq!(send_to(world, six, 1, 0, &other), Err(Errno::INVAL));
    let nobody = sockaddr("127.0.0.1:0");
    let four = datagrams(world, V4);
    let begun = send_to(world, four, 1, libc::MSG_MORE, &nobody);
    assert_eq!(begun, Err(Errno::INVAL));
    // What the last one met is told to who begins another.
    connect(world, four, &sockaddr("127.0.0.1:53")).unwrap();
    put(world, four, b"x", 0).unwrap();
    world.turn();
    let begun = put(world, four, b"x", libc::MSG_MORE);
    assert_eq!(begun, Err(Errno::CONNREFUSED));
    assert_eq!(put(world, four, b"x", libc::MSG_MORE), Ok(1));
    // Where it goes was said when it began.
    assert_eq!(send_to(world, four, 1, libc::MSG_MORE, &other), Ok(1));
    assert_eq!(receive(world, four, &mut [], 0), Err(Errno::AGAIN));
}
