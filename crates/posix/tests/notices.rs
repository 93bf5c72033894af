//! The error queue: completions of MSG_ZEROCOPY, timestamps of what is sent.
#![allow(clippy::unwrap_used)]

use core::time::Duration;
use std::io::{IoSlice, IoSliceMut};

use posix::{
    Control, Errno, Message, PollFd, bind, close, connect, ioctl, poll, receive, send_message,
};
use posix::{shutdown, socket};

use interop::alone::{Alone, DATAGRAM, STREAM, V4, V6, get, number, pair, put, set, sockaddr};

const SOCKET: i32 = libc::SOL_SOCKET;
const ZEROCOPY: i32 = 60;
const TIMESTAMPING: i32 = 37;
const TX_SOFTWARE: i32 = 1 << 1;
const SOFTWARE: i32 = 1 << 4;
const OPT_ID: i32 = 1 << 7;
const TX_SCHED: i32 = 1 << 8;
const TX_ACK: i32 = 1 << 9;
const OPT_TSONLY: i32 = 1 << 11;
const OPT_ID_TCP: i32 = 1 << 16;

fn next(world: &mut Alone, fd: i32) -> Result<Message, Errno> {
    receive(
        world,
        fd,
        &mut [IoSliceMut::new(&mut [])],
        libc::MSG_ERRQUEUE,
    )
}

/// `struct sock_extended_err`: errno, origin, type, code, info and data.
fn error(control: &Control) -> (u32, [u8; 3], u32, u32) {
    let word = |at: usize| u32::from_ne_bytes(control.data[at..at + 4].try_into().unwrap());
    let [origin, kind, code] = control.data[4..7].try_into().unwrap();
    (word(0), [origin, kind, code], word(8), word(12))
}

/// The range of calls that an entry says are complete.
fn range(world: &mut Alone, fd: i32) -> Result<(u32, u32), Errno> {
    let message = next(world, fd)?;
    assert_eq!((message.len, message.flags), (0, libc::MSG_ERRQUEUE));
    let [control] = &message.control[..] else {
        panic!("one control message, not {:?}", message.control)
    };
    let (errno, what, first, last) = error(control);
    assert_eq!((errno, what), (0, [5, 0, 1]), "a completion, of a copy");
    Ok((first, last))
}

fn polled(world: &mut Alone, fd: i32) -> i16 {
    let mut fds = [PollFd {
        fd,
        events: 0,
        revents: 0,
    }];
    poll(world, &mut fds, 0).unwrap();
    fds[0].revents
}

#[test]
fn completions_are_numbered_and_joined() {
    for at in ["10.0.0.1:80", "[::1]:80"] {
        let world = &mut Alone::new();
        let (_, client, server) = pair(world, at);
        // It does nothing until the socket says so.
        assert_eq!(put(world, client, b"no", libc::MSG_ZEROCOPY), Ok(2));
        assert_eq!(set(world, client, SOCKET, ZEROCOPY, 2), Err(Errno::INVAL));
        set(world, client, SOCKET, ZEROCOPY, 1).unwrap();
        assert_eq!(number(world, client, SOCKET, ZEROCOPY), Ok(1));
        assert_eq!(range(world, client), Err(Errno::AGAIN));
        for _ in 0..3 {
            assert_eq!(put(world, client, b"bytes", libc::MSG_ZEROCOPY), Ok(5));
        }
        // Calls that write nothing have no number.
        assert_eq!(put(world, client, b"", libc::MSG_ZEROCOPY), Ok(0));
        assert_eq!(polled(world, client), libc::POLLERR);
        assert_eq!(range(world, client), Ok((0, 2)));
        assert_eq!(polled(world, client), 0);
        assert_eq!(put(world, client, b"bytes", libc::MSG_ZEROCOPY), Ok(5));
        assert_eq!(range(world, client), Ok((3, 3)));
        assert_eq!(range(world, client), Err(Errno::AGAIN));
        assert_eq!(get(world, server, 99, 0).unwrap().len(), 22);
        // The peer never asked.
        assert_eq!(range(world, server), Err(Errno::AGAIN));
    }
}

fn one_each(bytes: &[u8]) -> Vec<IoSlice<'_>> {
    bytes.chunks(1).map(IoSlice::new).collect()
}

/// Segments with data that a connection has sent (`tcpi_data_segs_out`).
fn segments(world: &mut Alone, fd: i32) -> u32 {
    let info = posix::getsockopt(world, fd, libc::IPPROTO_TCP, libc::TCP_INFO).unwrap();
    u32::from_ne_bytes(info[156..160].try_into().unwrap())
}

#[test]
fn a_segment_holds_seventeen_pieces_of_lent_memory() {
    for at in ["10.0.0.1:80", "[::1]:80"] {
        let world = &mut Alone::new();
        let (_, client, server) = pair(world, at);
        let bytes = [7; 64];
        let count = |world: &mut Alone, pieces: usize, flags: i32| {
            let before = segments(world, client);
            let sent = posix::send(world, client, &one_each(&bytes[..pieces]), flags, None);
            assert_eq!(sent, Ok(pieces));
            assert_eq!(get(world, server, 99, 0).unwrap(), &bytes[..pieces]);
            segments(world, client) - before
        };
        assert_eq!(count(world, 18, libc::MSG_ZEROCOPY), 1, "nobody asked");
        set(world, client, SOCKET, ZEROCOPY, 1).unwrap();
        assert_eq!(count(world, 18, 0), 1, "a copy is one piece");
        assert_eq!(count(world, 17, libc::MSG_ZEROCOPY), 1);
        assert_eq!(count(world, 18, libc::MSG_ZEROCOPY), 2);
        assert_eq!(count(world, 64, libc::MSG_ZEROCOPY), 4);
        assert_eq!(range(world, client), Ok((0, 2)), "one call each");
    }
}

#[test]
fn a_completion_waits_for_its_bytes_and_comes_when_the_connection_goes() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "10.0.0.1:80");
    set(world, client, libc::SOL_SOCKET, ZEROCOPY, 1).unwrap();
    // More than the peer takes without reading.
    let flags = libc::MSG_ZEROCOPY | libc::MSG_DONTWAIT;
    let all = vec![0; 4 << 20];
    let sent = put(world, client, &all, flags).unwrap();
    assert!(sent < all.len());
    assert_eq!(range(world, client), Err(Errno::AGAIN));
    assert_eq!(polled(world, client) & libc::POLLERR, 0);
    // Unread data makes closing a reset.
    close(world, server).unwrap();
    assert_eq!(range(world, client), Ok((0, 0)));
}

#[test]
fn a_refused_write_has_no_number() {
    let world = &mut Alone::new();
    let fd = socket(world, V4, STREAM, 0).unwrap();
    set(world, fd, SOCKET, ZEROCOPY, 1).unwrap();
    assert_eq!(put(world, fd, b"x", libc::MSG_ZEROCOPY), Err(Errno::PIPE));
    assert_eq!(range(world, fd), Err(Errno::AGAIN));
    let (_, client, _) = pair(world, "10.0.0.1:80");
    set(world, client, SOCKET, ZEROCOPY, 1).unwrap();
    shutdown(world, client, libc::SHUT_WR).unwrap();
    assert_eq!(
        put(world, client, b"x", libc::MSG_ZEROCOPY),
        Err(Errno::PIPE)
    );
    assert_eq!(range(world, client), Err(Errno::AGAIN));
}

/// What a stamp says: which it is, its key, its time; and whether the packet is said to be cut off.
fn stamp(world: &mut Alone, fd: i32) -> Result<(u32, u32, Duration, bool), Errno> {
    let message = next(world, fd)?;
    let [time, said] = &message.control[..] else {
        panic!("a time and what it is of, not {:?}", message.control)
    };
    assert_eq!(
        (time.level, time.kind, time.data.len()),
        (SOCKET, TIMESTAMPING, 48)
    );
    let half = |at: usize| u64::from_ne_bytes(time.data[at..at + 8].try_into().unwrap());
    let at = Duration::from_secs(half(0)) + Duration::from_nanos(half(8));
    assert_eq!(time.data[16..], [0; 32]);
    let (errno, what, info, key) = error(said);
    assert_eq!((errno, what), (libc::ENOMSG as u32, [4, 0, 0]));
    let cut = message.flags & libc::MSG_TRUNC != 0;
    Ok((info, key, at, cut))
}

#[test]
fn stamps_of_a_stream() {
    let world = &mut Alone::new();
    let (_, client, _) = pair(world, "10.0.0.1:80");
    put(world, client, b"before", 0).unwrap();
    let start = Duration::from_micros(world.now.micros());
    let all = TX_SOFTWARE | TX_SCHED | TX_ACK | SOFTWARE;
    set(world, client, SOCKET, TIMESTAMPING, all | OPT_ID).unwrap();
    put(world, client, b"0123456789", 0).unwrap();
    // Of the last byte, and without the packet.
    for what in [1, 0, 2] {
        assert_eq!(stamp(world, client), Ok((what, 9, start, true)));
    }
    assert_eq!(next(world, client), Err(Errno::AGAIN));
    world.now += Duration::from_millis(250);
    let later = start + Duration::from_millis(250);
    let few = TX_ACK | SOFTWARE | OPT_ID | OPT_TSONLY;
    set(world, client, SOCKET, TIMESTAMPING, few).unwrap();
    put(world, client, b"abc", 0).unwrap();
    assert_eq!(stamp(world, client), Ok((2, 12, later, false)));
    // One call may ask for others.
    let own = Control {
        level: SOCKET,
        kind: TIMESTAMPING,
        data: TX_SCHED.to_ne_bytes().to_vec(),
    };
    let data = [IoSlice::new(b"def")];
    send_message(world, client, &data, 0, None, core::slice::from_ref(&own)).unwrap();
    assert_eq!(stamp(world, client), Ok((1, 15, later, false)));
    assert_eq!(next(world, client), Err(Errno::AGAIN));
    let wrong = Control {
        data: SOFTWARE.to_ne_bytes().to_vec(),
        ..own
    };
    let refused = send_message(world, client, &data, 0, None, &[wrong]);
    assert_eq!(refused, Err(Errno::INVAL));
}

#[test]
fn stamps_are_asked_for_as_on_linux() {
    let world = &mut Alone::new();
    let fd = socket(world, V4, STREAM, 0).unwrap();
    let mut ask = |fd, bits| set(world, fd, SOCKET, TIMESTAMPING, bits);
    assert_eq!(ask(fd, 1 << 19), Err(Errno::INVAL));
    assert_eq!(ask(fd, OPT_ID_TCP), Err(Errno::INVAL));
    assert_eq!(ask(fd, 1 << 12), Err(Errno::INVAL), "OPT_STATS alone");
    assert_eq!(ask(fd, OPT_ID), Err(Errno::INVAL), "nothing to count from");
    assert_eq!(ask(fd, TX_ACK), Ok(()));
    assert_eq!(number(world, fd, SOCKET, TIMESTAMPING), Ok(TX_ACK));
}

#[test]
fn keys_begin_where_the_option_says() {
    for tcp in [0, OPT_ID_TCP] {
        let world = &mut Alone::new();
        let (_, client, server) = pair(world, "10.0.0.1:80");
        // So much that some of it is not acknowledged.
        let all = vec![0; 4 << 20];
        let sent = put(world, client, &all, libc::MSG_DONTWAIT).unwrap();
        let queued = ioctl(world, client, libc::TIOCOUTQ, 0).unwrap();
        assert!(queued > 0);
        let bits = SOFTWARE | OPT_ID | TX_SCHED | tcp;
        set(world, client, SOCKET, TIMESTAMPING, bits).unwrap();
        let read = get(world, server, sent, libc::MSG_WAITALL).unwrap();
        assert_eq!(read.len(), sent);
        put(world, client, b"x", 0).unwrap();
        let (_, key, _, _) = stamp(world, client).unwrap();
        assert_eq!(key, if tcp == 0 { queued as u32 } else { 0 });
    }
}

#[test]
fn stamps_and_completions_of_datagrams() {
    let world = &mut Alone::new();
    let fd = socket(world, V6, DATAGRAM, 0).unwrap();
    connect(world, fd, &sockaddr("[::ffff:10.0.0.1]:9")).unwrap();
    let other = socket(world, V4, DATAGRAM, 0).unwrap();
    bind(world, other, &sockaddr("10.0.0.1:9")).unwrap();
    set(world, fd, SOCKET, ZEROCOPY, 1).unwrap();
    let bits = TX_SOFTWARE | SOFTWARE | OPT_ID | OPT_TSONLY;
    set(world, fd, SOCKET, TIMESTAMPING, bits).unwrap();
    let now = Duration::from_micros(world.now.micros());
    for key in 0..2 {
        assert_eq!(put(world, fd, b"x", libc::MSG_ZEROCOPY), Ok(1));
        assert_eq!(range(world, fd), Ok((key, key)));
        assert_eq!(stamp(world, fd), Ok((0, key, now, false)));
    }
}

#[test]
fn entries_of_a_v6_socket_are_of_ipv6() {
    let world = &mut Alone::new();
    for (at, level, len) in [
        ("[::1]:80", libc::SOL_IPV6, 44),
        ("10.0.0.1:80", libc::SOL_IP, 32),
    ] {
        let (_, client, _) = pair(world, at);
        set(world, client, SOCKET, ZEROCOPY, 1).unwrap();
        put(world, client, b"x", libc::MSG_ZEROCOPY).unwrap();
        let message = next(world, client).unwrap();
        let control = &message.control[0];
        assert_eq!((control.level, control.data.len()), (level, len));
    }
}
