//! Fast Open by its calls and options, with Linux's results, against a host that talks to itself on virtual time.
#![allow(clippy::unwrap_used)]

use posix::{Errno, World, accept, bind, close, connect, getsockopt, listen, send, setsockopt};
use posix::{getsockname, socket};
use std::io::IoSlice;

use interop::alone::{Alone, DATAGRAM, STREAM, V4, get, number, put, set, sockaddr};

const TCP: i32 = libc::IPPROTO_TCP;
const KEY: i32 = 33;
const NO_COOKIE: i32 = 34;
const AT: &str = "127.0.0.1:80";

fn allow(world: &mut Alone, bits: i64) {
    let mut tunables = world.host().tcp_tunables();
    tunables.set("tcp_fastopen", bits).unwrap();
    world.host().set_tcp_tunables(tunables).unwrap();
}

fn server(world: &mut Alone) -> i32 {
    allow(world, 3);
    let fd = socket(world, V4, STREAM, 0).unwrap();
    bind(world, fd, &sockaddr(AT)).unwrap();
    listen(world, fd, 8).unwrap();
    set(world, fd, TCP, libc::TCP_FASTOPEN, 4).unwrap();
    fd
}

fn sendto(world: &mut Alone, fd: i32, data: &[u8], flags: i32) -> Result<usize, Errno> {
    let to = sockaddr(AT);
    let flags = flags | libc::MSG_FASTOPEN;
    send(world, fd, &[IoSlice::new(data)], flags, Some(&to))
}

#[test]
fn msg_fastopen_connects_and_sends_in_one() {
    let world = &mut Alone::new();
    let listener = server(world);
    for known in [false, true] {
        let fd = socket(world, V4, STREAM, 0).unwrap();
        assert_eq!(sendto(world, fd, b"hello", 0), Ok(5));
        let accepted = accept(world, listener, 0).unwrap().0;
        assert_eq!(get(world, accepted, 10, 0).unwrap(), b"hello");
        let info = getsockopt(world, accepted, TCP, libc::TCP_INFO).unwrap();
        assert_eq!(info[5] & 32 != 0, known, "TCPI_OPT_SYN_DATA");
        let info = getsockopt(world, fd, TCP, libc::TCP_INFO).unwrap();
        assert_eq!(info[5] & 32 != 0, known);
        let fail = info[7] >> 1 & 3;
        assert_eq!(fail, u8::from(!known), "1: there was no cookie");
        // Once connected it is a flag like another.
        assert_eq!(sendto(world, fd, b"more", 0), Ok(4));
        assert_eq!(get(world, accepted, 10, 0).unwrap(), b"more");
        close(world, fd).unwrap();
        close(world, accepted).unwrap();
    }
}

#[test]
fn tcp_fastopen_connect_leaves_the_syn_to_the_first_write() {
    let world = &mut Alone::new();
    let listener = server(world);
    let warm = socket(world, V4, STREAM, 0).unwrap();
    assert_eq!(sendto(world, warm, b"", 0), Ok(0));
    accept(world, listener, 0).unwrap();
    let fd = socket(world, V4, STREAM, 0).unwrap();
    set(world, fd, TCP, libc::TCP_FASTOPEN_CONNECT, 1).unwrap();
    connect(world, fd, &sockaddr(AT)).unwrap();
    assert_ne!(getsockname(world, fd).unwrap().port(), 0);
    assert_eq!(connect(world, fd, &sockaddr(AT)), Err(Errno::ISCONN));
    assert_eq!(put(world, fd, b"hello", 0), Ok(5));
    let accepted = accept(world, listener, 0).unwrap().0;
    assert_eq!(get(world, accepted, 10, 0).unwrap(), b"hello");
    let info = getsockopt(world, accepted, TCP, libc::TCP_INFO).unwrap();
    assert_ne!(info[5] & 32, 0);
}

#[test]
fn what_cannot_be_is_refused_as_by_linux() {
    let world = &mut Alone::new();
    allow(world, 2);
    let stream = socket(world, V4, STREAM, 0).unwrap();
    assert_eq!(sendto(world, stream, b"x", 0), Err(Errno::OPNOTSUPP));
    let name = libc::TCP_FASTOPEN_CONNECT;
    assert_eq!(set(world, stream, TCP, name, 1), Err(Errno::OPNOTSUPP));
    allow(world, 3);
    assert_eq!(set(world, stream, TCP, name, 2), Err(Errno::INVAL));
    let nowhere = [0; 16];
    let unspecified = send(
        world,
        stream,
        &[IoSlice::new(b"x")],
        libc::MSG_FASTOPEN,
        Some(&nowhere),
    );
    assert_eq!(unspecified, Err(Errno::OPNOTSUPP));
    let datagram = socket(world, V4, DATAGRAM, 0).unwrap();
    assert_eq!(sendto(world, datagram, b"x", 0), Err(Errno::OPNOTSUPP));
    // Without a cookie nothing goes with the SYN, and who does not wait is told.
    let fd = socket(world, V4, STREAM | libc::SOCK_NONBLOCK, 0).unwrap();
    let silent = sockaddr("10.0.0.2:9");
    let knock = |world: &mut Alone| {
        let flags = libc::MSG_FASTOPEN;
        send(world, fd, &[IoSlice::new(b"x")], flags, Some(&silent))
    };
    assert_eq!(knock(world), Err(Errno::INPROGRESS));
    assert_eq!(knock(world), Err(Errno::ALREADY));
    assert_eq!(
        set(world, fd, TCP, libc::TCP_FASTOPEN, 1),
        Err(Errno::INVAL)
    );
    assert_eq!(set(world, fd, TCP, NO_COOKIE, 1), Err(Errno::INVAL));
    // Keys are one or two of sixteen bytes.
    for len in [0, 3, 15, 17, 48] {
        let key = vec![1; len];
        let result = setsockopt(world, stream, TCP, KEY, &key);
        assert_eq!(result, Err(Errno::INVAL), "{len} bytes");
    }
    let keys: Vec<u8> = (0..32).collect();
    setsockopt(world, stream, TCP, KEY, &keys).unwrap();
    assert_eq!(getsockopt(world, stream, TCP, KEY).unwrap(), keys);
    set(world, stream, TCP, libc::TCP_FASTOPEN, 7).unwrap();
    assert_eq!(number(world, stream, TCP, libc::TCP_FASTOPEN), Ok(7));
}
