//! What writers say of their bytes, and urgent data on both ends, against a host that talks to itself: as on Linux.
#![allow(clippy::unwrap_used)]

use std::io::IoSliceMut;

use posix::{Errno, PollFd, accept, bind, connect, ioctl, listen, poll, receive, shutdown, socket};

use interop::alone::{Alone, DATAGRAM, STREAM, V4, get, number, pair, put, set, sockaddr};

const SIOCATMARK: u64 = 0x8905;
const TCP_NOTSENT_LOWAT: i32 = 25;

fn polled(world: &mut Alone, fd: i32) -> i16 {
    let mut one = [PollFd {
        fd,
        events: libc::POLLIN | libc::POLLPRI | libc::POLLOUT,
        revents: 0,
    }];
    poll(world, &mut one, 0).unwrap();
    one[0].revents
}

#[test]
fn the_urgent_byte_is_read_beside_the_stream() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "127.0.0.1:80");
    let oob = libc::MSG_OOB;
    assert_eq!(get(world, server, 1, oob), Err(Errno::INVAL), "none");
    put(world, client, b"calm", 0).unwrap();
    assert_eq!(polled(world, server) & libc::POLLPRI, 0);
    assert_eq!(put(world, client, b"now!", oob), Ok(4));
    put(world, client, b"more", 0).unwrap();
    assert_ne!(polled(world, server) & libc::POLLPRI, 0);
    // What can be read before it.
    assert_eq!(ioctl(world, server, libc::FIONREAD, 0), Ok(7));
    assert_eq!(ioctl(world, server, SIOCATMARK, 0), Ok(0));
    assert_eq!(get(world, server, 1, oob | libc::MSG_PEEK).unwrap(), b"!");
    let mut none = [0; 0];
    let cut = receive(
        world,
        server,
        &mut [IoSliceMut::new(&mut none)],
        oob | libc::MSG_PEEK,
    );
    assert_eq!(cut.unwrap().flags, oob | libc::MSG_TRUNC);
    assert_eq!(get(world, server, 9, oob).unwrap(), b"!");
    assert_eq!(get(world, server, 1, oob), Err(Errno::INVAL), "taken");
    assert_eq!(polled(world, server) & libc::POLLPRI, 0);
    // Reads stop at the mark, and go on behind it.
    assert_eq!(get(world, server, 100, 0).unwrap(), b"calmnow");
    assert_eq!(ioctl(world, server, SIOCATMARK, 0), Ok(1));
    assert_eq!(get(world, server, 100, 0).unwrap(), b"more");
    assert_eq!(ioctl(world, server, SIOCATMARK, 0), Ok(0));
}

/// To a stream that nobody was told is connected, and behind which comes the end.
#[test]
fn the_urgent_byte_is_there_before_connect_says_so_and_after_the_end() {
    let world = &mut Alone::new();
    let kind = STREAM | libc::SOCK_NONBLOCK;
    let listener = socket(world, V4, kind, 0).unwrap();
    let at = sockaddr("127.0.0.1:80");
    bind(world, listener, &at).unwrap();
    listen(world, listener, 4).unwrap();
    let client = socket(world, V4, kind, 0).unwrap();
    assert_eq!(connect(world, client, &at), Err(Errno::INPROGRESS));
    let (server, _) = accept(world, listener, 0).unwrap();
    put(world, server, b"now!", libc::MSG_OOB).unwrap();
    let peek = libc::MSG_OOB | libc::MSG_PEEK;
    assert_eq!(get(world, client, 1, peek).unwrap(), b"!");
    shutdown(world, server, libc::SHUT_WR).unwrap();
    assert_ne!(polled(world, client) & libc::POLLPRI, 0);
    assert_eq!(get(world, client, 9, 0).unwrap(), b"now");
    assert_eq!(get(world, client, 1, libc::MSG_OOB).unwrap(), b"!");
    assert_eq!(get(world, client, 9, 0).unwrap(), b"", "the end");
}

#[test]
fn an_urgent_byte_alone_is_nothing_to_be_read() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "127.0.0.1:80");
    put(world, client, b"!", libc::MSG_OOB).unwrap();
    let bits = polled(world, server);
    assert_eq!(bits & (libc::POLLPRI | libc::POLLIN), libc::POLLPRI);
    assert_eq!(get(world, server, 9, libc::MSG_DONTWAIT), Err(Errno::AGAIN));
    // The read that found the mark has passed it over: it is gone.
    assert_eq!(get(world, server, 1, libc::MSG_OOB), Err(Errno::INVAL));
    shutdown(world, client, libc::SHUT_WR).unwrap();
    assert_eq!(get(world, server, 9, 0).unwrap(), b"", "the end");
}

#[test]
fn oobinline_leaves_the_urgent_byte_in_its_place() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "127.0.0.1:80");
    let (level, name) = (libc::SOL_SOCKET, libc::SO_OOBINLINE);
    assert_eq!(number(world, server, level, name), Ok(0));
    set(world, server, level, name, 1).unwrap();
    assert_eq!(number(world, server, level, name), Ok(1));
    put(world, client, b"ab!", libc::MSG_OOB).unwrap();
    put(world, client, b"cd", 0).unwrap();
    assert_eq!(get(world, server, 1, libc::MSG_OOB), Err(Errno::INVAL));
    assert_eq!(ioctl(world, server, libc::FIONREAD, 0), Ok(5));
    assert_eq!(get(world, server, 9, 0).unwrap(), b"ab");
    assert_eq!(ioctl(world, server, SIOCATMARK, 0), Ok(1));
    assert_eq!(get(world, server, 9, 0).unwrap(), b"!cd");
}

#[test]
fn datagrams_are_put_together_with_more() {
    let world = &mut Alone::new();
    let a = socket(world, V4, DATAGRAM, 0).unwrap();
    let b = socket(world, V4, DATAGRAM, 0).unwrap();
    bind(world, b, &sockaddr("127.0.0.1:53")).unwrap();
    connect(world, a, &sockaddr("127.0.0.1:53")).unwrap();
    assert_eq!(put(world, a, b"one ", libc::MSG_MORE), Ok(4));
    assert_eq!(put(world, a, b"data", libc::MSG_MORE), Ok(4));
    assert_eq!(get(world, b, 99, libc::MSG_DONTWAIT), Err(Errno::AGAIN));
    assert_eq!(put(world, a, b"gram", 0), Ok(4));
    assert_eq!(get(world, b, 99, 0).unwrap(), b"one datagram");
    assert_eq!(put(world, a, b"x", libc::MSG_OOB), Err(Errno::OPNOTSUPP));
    let (half, more) = (vec![0; 40_000], libc::MSG_MORE);
    assert_eq!(put(world, a, &half, more), Ok(40_000));
    assert_eq!(put(world, a, &half, 0), Err(Errno::MSGSIZE));
    // What began it is thrown away with it.
    assert_eq!(put(world, a, b"fresh", 0), Ok(5));
    assert_eq!(get(world, b, 99, 0).unwrap(), b"fresh");
}

#[test]
fn an_error_is_told_before_a_shut_direction() {
    let world = &mut Alone::new();
    let fd = socket(world, V4, DATAGRAM, 0).unwrap();
    connect(world, fd, &sockaddr("127.0.0.1:9")).unwrap();
    put(world, fd, b"nobody is there", 0).unwrap();
    shutdown(world, fd, libc::SHUT_WR).unwrap();
    assert_eq!(put(world, fd, b"x", 0), Err(Errno::CONNREFUSED));
    assert_eq!(put(world, fd, b"x", 0), Err(Errno::PIPE));
}

#[test]
fn a_writer_hears_of_room_below_the_notsent_mark() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "127.0.0.1:80");
    let (tcp, wait) = (libc::IPPROTO_TCP, libc::MSG_DONTWAIT);
    assert_eq!(number(world, client, tcp, TCP_NOTSENT_LOWAT), Ok(0));
    set(world, client, tcp, TCP_NOTSENT_LOWAT, 4000).unwrap();
    assert_eq!(number(world, client, tcp, TCP_NOTSENT_LOWAT), Ok(4000));
    let big = vec![7; 8 << 20];
    let taken = put(world, client, &big, wait).unwrap();
    assert!(taken < big.len(), "{taken}");
    assert_eq!(polled(world, client) & libc::POLLOUT, 0);
    let mut left = taken;
    while left > 0 {
        left -= get(world, server, 1 << 16, 0).unwrap().len();
    }
    assert_ne!(polled(world, client) & libc::POLLOUT, 0);
}

#[test]
fn the_send_buffer_is_linuxs() {
    let world = &mut Alone::new();
    let (_, client, _) = pair(world, "127.0.0.1:80");
    let (level, name) = (libc::SOL_SOCKET, libc::SO_SNDBUF);
    for (asked, got) in [(1, 4608), (21_000, 42_000), (1 << 30, 425_984)] {
        set(world, client, level, name, asked).unwrap();
        assert_eq!(number(world, client, level, name), Ok(got));
    }
    let force = set(world, client, level, libc::SO_SNDBUFFORCE, 1 << 20);
    assert_eq!(force, Err(Errno::PERM));
}
