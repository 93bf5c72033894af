//! The calls against a host that talks to itself on virtual time: results, errors and their order are Linux's.
#![allow(clippy::unwrap_used)]

use core::time::Duration;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;

use posix::{Errno, PollFd, accept, bind, close, connect, fcntl, getpeername, getsockname};
use posix::{getsockopt, ioctl, listen, poll, receive, send, setsockopt, shutdown, socket};

use interop::alone::{Alone, DATAGRAM, STREAM, V4, V6, get, number, pair, put, set, sockaddr};

#[test]
fn sockets_of_what_there_is_not_are_refused_as_by_linux() {
    let world = &mut Alone::new();
    assert_eq!(socket(world, 99, STREAM, 0), Err(Errno::AFNOSUPPORT));
    assert_eq!(socket(world, V4, 9, 0), Err(Errno::SOCKTNOSUPPORT));
    assert_eq!(socket(world, V4, STREAM | 1 << 20, 0), Err(Errno::INVAL));
    let udp = libc::IPPROTO_UDP;
    assert_eq!(socket(world, V4, STREAM, udp), Err(Errno::PROTONOSUPPORT));
    let fd = socket(world, V4, STREAM | libc::SOCK_NONBLOCK, libc::IPPROTO_TCP).unwrap();
    let flags = fcntl(world, fd, libc::F_GETFL, 0).unwrap();
    assert_eq!(flags, libc::O_RDWR | libc::O_NONBLOCK);
    close(world, fd).unwrap();
    assert_eq!(close(world, fd), Err(Errno::BADF));
    assert_eq!(put(world, -1, b"x", 0), Err(Errno::BADF));
}

#[test]
fn a_connection_is_made_used_and_closed() {
    for at in ["127.0.0.1:8080", "[::1]:8080"] {
        let world = &mut Alone::new();
        let (listener, client, server) = pair(world, at);
        assert_eq!(getpeername(world, client).unwrap(), at.parse().unwrap());
        let own = getsockname(world, client).unwrap();
        assert_eq!(getpeername(world, server).unwrap(), own);
        assert_eq!(connect(world, client, &sockaddr(at)), Err(Errno::ISCONN));
        assert_eq!(put(world, client, b"hello", 0), Ok(5));
        assert_eq!(get(world, server, 100, 0).unwrap(), b"hello");
        shutdown(world, client, libc::SHUT_WR).unwrap();
        assert_eq!(put(world, client, b"x", 0), Err(Errno::PIPE));
        assert_eq!(get(world, server, 100, 0).unwrap(), b"", "the end");
        for fd in [listener, client, server] {
            close(world, fd).unwrap();
        }
    }
}

#[test]
fn an_ipv6_listener_takes_ipv4_unless_told_not_to() {
    let world = &mut Alone::new();
    let listener = socket(world, V6, STREAM, 0).unwrap();
    bind(world, listener, &sockaddr("[::]:80")).unwrap();
    listen(world, listener, 1).unwrap();
    let client = socket(world, V6, STREAM, 0).unwrap();
    connect(world, client, &sockaddr("[::ffff:127.0.0.1]:80")).unwrap();
    assert!(accept(world, listener, 0).is_ok());
    let (level, only) = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
    assert_eq!(set(world, listener, level, only, 1), Err(Errno::INVAL));
    // Told not to, it leaves IPv4 to another.
    let six = socket(world, V6, STREAM, 0).unwrap();
    set(world, six, level, only, 1).unwrap();
    bind(world, six, &sockaddr("[::]:81")).unwrap();
    listen(world, six, 1).unwrap();
    let refused = socket(world, V4, STREAM, 0).unwrap();
    let refused = connect(world, refused, &sockaddr("127.0.0.1:81"));
    assert_eq!(refused, Err(Errno::CONNREFUSED));
    let four = socket(world, V4, STREAM, 0).unwrap();
    bind(world, four, &sockaddr("0.0.0.0:81")).unwrap();
    listen(world, four, 1).unwrap();
    let client = socket(world, V4, STREAM, 0).unwrap();
    connect(world, client, &sockaddr("127.0.0.1:81")).unwrap();
    assert!(accept(world, four, 0).is_ok());
}

#[test]
fn addresses_are_bound_once() {
    let world = &mut Alone::new();
    let fresh = |world: &mut Alone| socket(world, V4, STREAM, 0).unwrap();
    let (a, b, c) = (fresh(world), fresh(world), fresh(world));
    let any = sockaddr("0.0.0.0:80");
    assert_eq!(bind(world, a, &any[..8]), Err(Errno::INVAL));
    assert_eq!(
        bind(world, a, &sockaddr("[::]:80")),
        Err(Errno::AFNOSUPPORT)
    );
    let other = sockaddr("192.0.2.9:80");
    assert_eq!(bind(world, a, &other), Err(Errno::ADDRNOTAVAIL));
    bind(world, a, &any).unwrap();
    assert_eq!(bind(world, a, &any), Err(Errno::INVAL), "bound already");
    let one = sockaddr("127.0.0.1:80");
    assert_eq!(bind(world, b, &one), Err(Errno::ADDRINUSE));
    set(world, b, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
    assert_eq!(
        bind(world, b, &one),
        Err(Errno::ADDRINUSE),
        "both must say so"
    );
    set(world, a, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
    bind(world, b, &one).unwrap();
    bind(world, c, &sockaddr("127.0.0.1:0")).unwrap();
    let port = getsockname(world, c).unwrap().port();
    assert!(
        (32_768..=60_999).contains(&port),
        "an ephemeral port at once"
    );
    close(world, a).unwrap();
    close(world, b).unwrap();
    let again = fresh(world);
    bind(world, again, &any).unwrap();
}

#[test]
fn connecting_without_waiting_goes_by_way_of_einprogress() {
    let world = &mut Alone::new();
    let fd = socket(world, V4, STREAM | libc::SOCK_NONBLOCK, 0).unwrap();
    assert_eq!(listen(world, i32::MAX, 1), Err(Errno::BADF));
    assert_eq!(getpeername(world, fd), Err(Errno::NOTCONN));
    assert_eq!(get(world, fd, 1, 0), Err(Errno::NOTCONN));
    assert_eq!(put(world, fd, b"x", 0), Err(Errno::PIPE));
    assert_eq!(shutdown(world, fd, libc::SHUT_WR), Err(Errno::NOTCONN));
    assert_eq!(accept(world, fd, 0), Err(Errno::INVAL));
    let silent = sockaddr("10.0.0.2:9");
    assert_eq!(connect(world, fd, &silent), Err(Errno::INPROGRESS));
    assert_eq!(connect(world, fd, &silent), Err(Errno::ALREADY));
    assert_eq!(put(world, fd, b"x", 0), Err(Errno::AGAIN));
    let mut polled = [PollFd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    }];
    assert_eq!(poll(world, &mut polled, -1), Ok(1));
    assert_ne!(polled[0].revents & libc::POLLERR, 0);
    let error = number(world, fd, libc::SOL_SOCKET, libc::SO_ERROR).unwrap();
    assert_eq!(error, libc::ETIMEDOUT);
    // It may try again. Nobody listens here, which it hears at once.
    let to = sockaddr("127.0.0.1:9");
    assert_eq!(connect(world, fd, &to), Err(Errno::INPROGRESS));
    assert_eq!(connect(world, fd, &to), Err(Errno::CONNREFUSED));
}

#[test]
fn reads_wait_as_long_as_they_were_told() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "127.0.0.1:80");
    assert_eq!(get(world, server, 9, libc::MSG_DONTWAIT), Err(Errno::AGAIN));
    let timeout = [0_i64.to_ne_bytes(), 250_000_i64.to_ne_bytes()].concat();
    setsockopt(world, server, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout).unwrap();
    let before = world.now;
    assert_eq!(get(world, server, 9, 0), Err(Errno::AGAIN));
    assert_eq!(world.now - before, Duration::from_millis(250));
    put(world, client, b"abc", 0).unwrap();
    // All or nothing, but the time is up.
    assert_eq!(get(world, server, 9, libc::MSG_WAITALL).unwrap(), b"abc");
}

#[test]
fn peek_leaves_and_trunc_throws_away() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "127.0.0.1:80");
    put(world, client, b"abcdef", 0).unwrap();
    assert_eq!(get(world, server, 3, libc::MSG_PEEK).unwrap(), b"abc");
    assert_eq!(ioctl(world, server, libc::FIONREAD, 0), Ok(6));
    assert_eq!(get(world, server, 2, libc::MSG_TRUNC).unwrap(), [0, 0]);
    let (mut a, mut b) = ([0; 1], [0; 8]);
    let mut pieces = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
    assert_eq!(receive(world, server, &mut pieces, 0).unwrap().len, 4);
    assert_eq!((&a[..], &b[..3]), (&b"c"[..], &b"def"[..]));
    assert_eq!(get(world, server, 1, libc::MSG_OOB), Err(Errno::INVAL));
    assert_eq!(get(world, server, 1, libc::MSG_ERRQUEUE), Err(Errno::AGAIN));
}

#[test]
fn more_holds_a_segment_back_until_the_rest_is_there() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "127.0.0.1:80");
    put(world, client, b"head", libc::MSG_MORE).unwrap();
    assert_eq!(get(world, server, 9, libc::MSG_DONTWAIT), Err(Errno::AGAIN));
    assert_eq!(ioctl(world, client, libc::TIOCOUTQ, 0), Ok(4));
    put(world, client, b"body", 0).unwrap();
    assert_eq!(get(world, server, 9, 0).unwrap(), b"headbody");
}

#[test]
fn poll_tells_what_linux_tells() {
    let world = &mut Alone::new();
    let bits = |world: &mut Alone, fd| {
        let mut fds = [PollFd {
            fd,
            events: !0,
            revents: 0,
        }];
        poll(world, &mut fds, 0).unwrap();
        fds[0].revents
    };
    let fresh = socket(world, V4, STREAM, 0).unwrap();
    let write = libc::POLLOUT | libc::POLLWRNORM;
    let read = libc::POLLIN | libc::POLLRDNORM;
    assert_eq!(bits(world, fresh), write | libc::POLLHUP);
    assert_eq!(bits(world, 12_345), libc::POLLNVAL);
    let (listener, client, server) = pair(world, "127.0.0.1:80");
    assert_eq!(bits(world, listener), 0);
    assert_eq!(bits(world, server), write);
    shutdown(world, client, libc::SHUT_WR).unwrap();
    assert_eq!(bits(world, server), read | write | libc::POLLRDHUP);
    connect(world, fresh, &sockaddr("127.0.0.1:80")).unwrap();
    assert_eq!(bits(world, listener), read);
    let before = world.now;
    let mut none = [PollFd {
        fd: client,
        events: libc::POLLIN,
        revents: 0,
    }];
    assert_eq!(poll(world, &mut none, 30), Ok(0));
    assert_eq!(world.now - before, Duration::from_millis(30));
}

/// What is neither asked for nor an end of it is not waited for in vain: select sleeps as long as it may.
#[test]
fn select_is_not_ended_by_what_nobody_asked_for() {
    let world = &mut Alone::new();
    let fresh = socket(world, V4, STREAM, 0).unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(writer);
    let ended = reader.as_raw_fd();
    for fd in [fresh, ended] {
        let before = world.now;
        let mut words = [1_u64 << fd];
        let time = Some(Duration::from_millis(30));
        let sets = [None, None, Some(&mut words[..])];
        assert_eq!(posix::select(world, fd + 1, sets, time), Ok(0), "{fd}");
        assert_eq!(world.now - before, Duration::from_millis(30), "{fd}");
        assert_eq!(words, [0]);
    }
    let mut words = [1_u64 << ended];
    let sets = [Some(&mut words[..]), None, None];
    assert_eq!(posix::select(world, ended + 1, sets, None), Ok(1), "an end");
}

#[test]
fn handshakes_are_tuned_as_on_linux() {
    let world = &mut Alone::new();
    let (listener, fd, _) = pair(world, "127.0.0.1:80");
    let tcp = libc::IPPROTO_TCP;
    assert_eq!(number(world, fd, tcp, libc::TCP_SYNCNT), Ok(6));
    assert_eq!(set(world, fd, tcp, libc::TCP_SYNCNT, 0), Err(Errno::INVAL));
    assert_eq!(set(world, fd, tcp, libc::TCP_SYNCNT, 3), Ok(()));
    assert_eq!(number(world, fd, tcp, libc::TCP_SYNCNT), Ok(3));
    assert_eq!(number(world, fd, tcp, libc::TCP_LINGER2), Ok(60));
    for (given, told) in [(5, 5), (500, 120), (-3, -1), (0, 60)] {
        assert_eq!(set(world, fd, tcp, libc::TCP_LINGER2, given), Ok(()));
        assert_eq!(number(world, fd, tcp, libc::TCP_LINGER2), Ok(told));
    }
    for (given, told) in [(5, 7), (1, 1), (0, 0), (-1, 0)] {
        let option = libc::TCP_DEFER_ACCEPT;
        assert_eq!(set(world, listener, tcp, option, given), Ok(()));
        assert_eq!(number(world, listener, tcp, option), Ok(told));
    }
    // Whether it answers (Linux's pingpong mode), which is what Linux tells.
    for given in [0, 1] {
        assert_eq!(set(world, fd, tcp, libc::TCP_QUICKACK, given), Ok(()));
        assert_eq!(number(world, fd, tcp, libc::TCP_QUICKACK), Ok(given));
    }
}

#[test]
fn options_have_linuxs_values_and_ranges() {
    let world = &mut Alone::new();
    let (_, fd, _) = pair(world, "127.0.0.1:80");
    let (level, tcp) = (libc::SOL_SOCKET, libc::IPPROTO_TCP);
    set(world, fd, level, libc::SO_SNDBUF, 10_000).unwrap();
    assert_eq!(number(world, fd, level, libc::SO_SNDBUF), Ok(20_000));
    // The buffer of Linux until it is set; what is wanted at once is half of it at most, or of what it may become.
    assert_eq!(number(world, fd, level, libc::SO_RCVBUF), Ok(131_072));
    for (given, told) in [(0, 1), (-1, 3 << 20), (200_000, 200_000)] {
        set(world, fd, level, libc::SO_RCVLOWAT, given).unwrap();
        assert_eq!(number(world, fd, level, libc::SO_RCVLOWAT), Ok(told));
    }
    assert_eq!(number(world, fd, level, libc::SO_RCVBUF), Ok(400_000));
    set(world, fd, tcp, libc::TCP_WINDOW_CLAMP, 100).unwrap();
    assert_eq!(number(world, fd, tcp, libc::TCP_WINDOW_CLAMP), Ok(1_152));
    assert_eq!(
        set(world, fd, tcp, libc::TCP_WINDOW_CLAMP, 0),
        Err(Errno::INVAL)
    );
    set(world, fd, level, libc::SO_RCVBUF, 1).unwrap();
    assert_eq!(number(world, fd, level, libc::SO_RCVBUF), Ok(2_304));
    assert_eq!(number(world, fd, level, libc::SO_TYPE), Ok(STREAM));
    assert_eq!(
        setsockopt(world, fd, level, libc::SO_SNDBUF, &[1]),
        Err(Errno::INVAL)
    );
    assert_eq!(set(world, fd, tcp, 9999, 1), Err(Errno::NOPROTOOPT));
    assert_eq!(set(world, fd, 9999, 1, 1), Err(Errno::NOPROTOOPT));
    assert_eq!(set(world, fd, tcp, libc::TCP_MAXSEG, 20), Err(Errno::INVAL));
    assert_eq!(
        set(world, fd, tcp, libc::TCP_KEEPIDLE, 0),
        Err(Errno::INVAL)
    );
    assert_eq!(number(world, fd, tcp, libc::TCP_KEEPIDLE), Ok(7200));
    let reno = setsockopt(world, fd, tcp, libc::TCP_CONGESTION, b"reno");
    assert_eq!(reno, Ok(()));
    let name = getsockopt(world, fd, tcp, libc::TCP_CONGESTION).unwrap();
    assert_eq!(name, *b"reno\0\0\0\0\0\0\0\0\0\0\0\0");
    let unknown = setsockopt(world, fd, tcp, libc::TCP_CONGESTION, b"vegas");
    assert_eq!(unknown, Err(Errno::NOENT));
    let late = [0_i64.to_ne_bytes(), 1_000_000_i64.to_ne_bytes()].concat();
    let bad = setsockopt(world, fd, level, libc::SO_RCVTIMEO, &late);
    assert_eq!(bad, Err(Errno::DOM));
}

#[test]
fn a_pacing_rate_has_two_lengths() {
    let world = &mut Alone::new();
    let (_, fd, _) = pair(world, "127.0.0.1:80");
    let rate = |world: &mut Alone| {
        let value = getsockopt(world, fd, libc::SOL_SOCKET, 47).unwrap();
        u64::from_ne_bytes(value.try_into().unwrap())
    };
    assert_eq!(rate(world), u64::MAX);
    set(world, fd, libc::SOL_SOCKET, 47, 125_000).unwrap();
    assert_eq!(rate(world), 125_000);
    let long = (10u64 << 32).to_ne_bytes();
    setsockopt(world, fd, libc::SOL_SOCKET, 47, &long).unwrap();
    assert_eq!(rate(world), 10 << 32);
    set(world, fd, libc::SOL_SOCKET, 47, -1).unwrap();
    assert_eq!(rate(world), u64::MAX);
}

#[test]
fn tcp_info_has_linuxs_layout() {
    let world = &mut Alone::new();
    let (listener, fd, server) = pair(world, "127.0.0.1:80");
    put(world, fd, &[0; 10], 0).unwrap();
    let info =
        |world: &mut Alone, fd| getsockopt(world, fd, libc::IPPROTO_TCP, libc::TCP_INFO).unwrap();
    let bytes = info(world, fd);
    assert_eq!(bytes.len(), 280, "as of Linux 6.18");
    assert_eq!(bytes[0], 1, "TCP_ESTABLISHED");
    assert_eq!(bytes[5] & 7, 7, "timestamps, SACK and window scale");
    let word = |at: usize| u32::from_ne_bytes(*bytes[at..].first_chunk().unwrap());
    assert_eq!(
        word(80),
        2,
        "tcpi_snd_cwnd: IW10 allows two of the loopback's"
    );
    assert_eq!(word(76), 0x7fff_ffff, "tcpi_snd_ssthresh: none yet");
    assert_eq!(word(84), 65_495, "tcpi_advmss: the loopback's");
    assert_eq!(word(60), 65_535, "tcpi_pmtu: the loopback's");
    assert_eq!(info(world, listener)[0], 10, "TCP_LISTEN");
    let long = |bytes: &[u8], at: usize| u64::from_ne_bytes(*bytes[at..].first_chunk().unwrap());
    assert_eq!((long(&bytes, 200), word(156)), (10, 1), "tcpi_bytes_sent");
    assert_eq!(get(world, server, 100, 0).unwrap().len(), 10);
    let (client, other) = (info(world, fd), info(world, server));
    assert_eq!(long(&client, 120), 1 + 10, "tcpi_bytes_acked: SYN and data");
    assert_eq!(long(&other, 128), 10, "tcpi_bytes_received");
    assert_eq!(&other[140..144], 3_u32.to_ne_bytes(), "tcpi_segs_in");
    assert_eq!(&other[152..156], 1_u32.to_ne_bytes(), "tcpi_data_segs_in");
    assert_eq!(&client[192..196], 2_u32.to_ne_bytes(), "tcpi_delivered");
    close(world, fd).unwrap();
    assert_eq!(info(world, server)[0], 8, "TCP_CLOSE_WAIT");
    let memory = getsockopt(world, server, libc::SOL_SOCKET, 55).unwrap();
    assert!(memory.len() >= 36, "SO_MEMINFO");
}

/// `union tcp_cc_info`, and nothing of algorithms that keep nothing to tell.
#[test]
fn tcp_cc_info_is_that_of_the_algorithm() {
    for (name, len) in [
        (&b"cubic"[..], 0),
        (b"reno", 0),
        (b"dctcp", 16),
        (b"bbr", 20),
    ] {
        let world = &mut Alone::new();
        let (_, fd, _) = pair(world, "127.0.0.1:80");
        let tcp = libc::IPPROTO_TCP;
        setsockopt(world, fd, tcp, libc::TCP_CONGESTION, name).unwrap();
        put(world, fd, &[0; 10], 0).unwrap();
        let bytes = getsockopt(world, fd, tcp, libc::TCP_CC_INFO).unwrap();
        assert_eq!(bytes.len(), len, "{}", name.escape_ascii());
        let word = |at: usize| u32::from_ne_bytes(*bytes[at..].first_chunk().unwrap());
        match name {
            b"dctcp" => assert_eq!((word(0), word(4)), (0, 0), "the peer speaks no ECN"),
            b"bbr" => assert_eq!(word(12), 277 * 256 / 100, "the gain of startup"),
            _ => {}
        }
    }
}

#[test]
fn datagrams_keep_their_bounds() {
    let world = &mut Alone::new();
    let a = socket(world, V4, DATAGRAM, 0).unwrap();
    let b = socket(world, V4, DATAGRAM, 0).unwrap();
    bind(world, b, &sockaddr("127.0.0.1:53")).unwrap();
    assert_eq!(listen(world, a, 1), Err(Errno::OPNOTSUPP));
    assert_eq!(put(world, a, b"x", 0), Err(Errno::DESTADDRREQ));
    let to = sockaddr("127.0.0.1:53");
    let parts = [IoSlice::new(b"que"), IoSlice::new(b"stion")];
    assert_eq!(send(world, a, &parts, 0, Some(&to)), Ok(8));
    let mut small = [0; 5];
    let flags = libc::MSG_PEEK | libc::MSG_TRUNC;
    let peeked = receive(world, b, &mut [IoSliceMut::new(&mut small)], flags).unwrap();
    assert_eq!((peeked.len, peeked.flags), (8, libc::MSG_TRUNC));
    assert_eq!(&small, b"quest");
    let mut large = [0; 100];
    let whole = receive(world, b, &mut [IoSliceMut::new(&mut large)], 0).unwrap();
    assert_eq!(whole.len, 8);
    assert_eq!(
        whole.from.map(|from| from.ip()),
        Some([127, 0, 0, 1].into())
    );
    connect(world, a, &to).unwrap();
    assert_eq!(put(world, a, b"again", 0), Ok(5));
    assert_eq!(get(world, b, 100, 0).unwrap(), b"again");
}

#[test]
fn a_write_without_room_waits_or_takes_part() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "127.0.0.1:80");
    let big = vec![7; 8 << 20];
    let mut left = 0;
    let ended = loop {
        match put(world, client, &big, libc::MSG_DONTWAIT) {
            Ok(taken) => left += taken,
            Err(error) => break error,
        }
    };
    assert_eq!(ended, Errno::AGAIN);
    assert!(left > 0, "as much as there was room for");
    while left > 0 {
        left -= get(world, server, 1 << 16, 0).unwrap().len();
    }
    assert_eq!(put(world, client, b"x", libc::MSG_DONTWAIT), Ok(1));
}

#[test]
fn inq_tells_what_is_left_to_be_read() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "127.0.0.1:80");
    let (tcp, inq) = (libc::IPPROTO_TCP, 36);
    assert_eq!(set(world, server, tcp, inq, 2), Err(Errno::INVAL));
    set(world, server, tcp, inq, 1).unwrap();
    assert_eq!(number(world, server, tcp, inq), Ok(1));
    put(world, client, b"abcdef", 0).unwrap();
    let next = |world: &mut Alone| {
        let mut four = [0; 4];
        let message = receive(world, server, &mut [IoSliceMut::new(&mut four)], 0).unwrap();
        let inq = message.control.first();
        let number = |c: &posix::Control| i32::from_ne_bytes(*c.data.first_chunk().unwrap());
        (message.len, inq.map(number))
    };
    assert_eq!(next(world), (4, Some(2)));
    shutdown(world, client, libc::SHUT_WR).unwrap();
    assert_eq!(next(world), (2, Some(1)), "the end counts as a byte");
}

#[test]
fn nodelay_lets_go_of_what_a_cork_holds_back() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "127.0.0.1:80");
    let (tcp, wait) = (libc::IPPROTO_TCP, libc::MSG_DONTWAIT);
    set(world, client, tcp, libc::TCP_CORK, 1).unwrap();
    put(world, client, b"held", 0).unwrap();
    assert_eq!(get(world, server, 9, wait), Err(Errno::AGAIN));
    set(world, client, tcp, libc::TCP_NODELAY, 1).unwrap();
    assert_eq!(get(world, server, 9, wait).unwrap(), b"held");
    put(world, client, b"again", 0).unwrap();
    assert_eq!(get(world, server, 9, wait), Err(Errno::AGAIN), "once");
}

/// SO_LINGER: closing waits for the last acknowledgment, or for as long as it was told.
#[test]
fn a_close_that_lingers_waits_for_the_peer() {
    let world = &mut Alone::new();
    let (_, client, server) = pair(world, "10.0.0.1:80");
    let linger = [1_i32.to_ne_bytes(), 5_i32.to_ne_bytes()].concat();
    setsockopt(world, client, libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
    put(world, client, b"bye", 0).unwrap();
    let start = world.now;
    close(world, client).unwrap();
    assert!(
        world.now - start < Duration::from_secs(1),
        "all was acknowledged"
    );
    assert_eq!(get(world, server, 9, 0).unwrap(), b"bye");
    // Unread data makes it a reset, for which nobody waits.
    let (_, client, server) = pair(world, "10.0.0.1:81");
    setsockopt(world, client, libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
    put(world, server, b"unread", 0).unwrap();
    let start = world.now;
    close(world, client).unwrap();
    assert_eq!(world.now, start);
    assert_eq!(get(world, server, 9, 0), Err(Errno::CONNRESET));
    // The peer's window is full: the end does not get through.
    let (_, client, server) = pair(world, "10.0.0.1:82");
    setsockopt(world, client, libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
    put(world, client, &vec![0; 8 << 20], libc::MSG_DONTWAIT).unwrap();
    let start = world.now;
    close(world, client).unwrap();
    let waited = world.now - start;
    assert!(waited >= Duration::from_secs(5) && waited < Duration::from_secs(6));
    close(world, server).unwrap();
}

/// bind sees the ports of connections: of those that are open, and of those in TIME-WAIT.
#[test]
fn ports_of_connections_are_in_use() {
    for reuse in [0, 1] {
        let world = &mut Alone::new();
        let at = sockaddr("10.0.0.1:80");
        let allow = |world: &mut Alone, fd| {
            set(world, fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, reuse).unwrap();
        };
        let listener = socket(world, V4, STREAM, 0).unwrap();
        allow(world, listener);
        bind(world, listener, &at).unwrap();
        listen(world, listener, 4).unwrap();
        let client = socket(world, V4, STREAM, 0).unwrap();
        connect(world, client, &at).unwrap();
        let (server, _) = accept(world, listener, 0).unwrap();
        close(world, listener).unwrap();
        let expected = if reuse == 1 {
            Ok(())
        } else {
            Err(Errno::ADDRINUSE)
        };
        // The connection is open, then in TIME-WAIT.
        for _ in 0..2 {
            let fd = socket(world, V4, STREAM, 0).unwrap();
            allow(world, fd);
            assert_eq!(bind(world, fd, &at), expected);
            close(world, fd).unwrap();
            let _ = (close(world, server), close(world, client));
        }
        world.now += Duration::from_secs(61);
        world.host.handle_timers(world.now);
        let fd = socket(world, V4, STREAM, 0).unwrap();
        assert_eq!(bind(world, fd, &at), Ok(()), "it is over");
    }
}

/// TIME-WAIT of IPv4 is in the way of wildcards of IPv6 that take IPv4, too.
#[test]
fn ports_are_in_use_over_their_own_family() {
    for (at, only_v6, expected) in [
        ("0.0.0.0:80", 0, Err(Errno::ADDRINUSE)),
        ("[::]:80", 0, Err(Errno::ADDRINUSE)),
        ("[::]:80", 1, Ok(())),
        ("[::1]:80", 0, Ok(())),
        ("127.0.0.1:80", 0, Ok(())),
    ] {
        let world = &mut Alone::new();
        let (listener, client, server) = pair(world, "10.0.0.1:80");
        for fd in [listener, server, client] {
            close(world, fd).unwrap();
        }
        let family = if at.starts_with('[') { V6 } else { V4 };
        let fd = socket(world, family, STREAM, 0).unwrap();
        if family == V6 {
            set(world, fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only_v6).unwrap();
        }
        assert_eq!(bind(world, fd, &sockaddr(at)), expected, "{at} {only_v6}");
    }
}

/// A listener, and where it is.
fn listening(world: &mut Alone, backlog: i32) -> (i32, Vec<u8>) {
    let (fd, at) = (
        socket(world, V4, STREAM, 0).unwrap(),
        sockaddr("10.0.0.1:80"),
    );
    bind(world, fd, &at).unwrap();
    listen(world, fd, backlog).unwrap();
    (fd, at)
}

/// Whoever asked for an error alone, and so never heard that the connection was made, reads what came before the reset.
#[test]
fn what_came_before_a_reset_is_read_after_its_error() {
    let world = &mut Alone::new();
    let (listener, at) = listening(world, 0);
    let first = socket(world, V4, STREAM, 0).unwrap();
    connect(world, first, &at).unwrap();
    let client = socket(world, V4, STREAM | libc::SOCK_NONBLOCK, 0).unwrap();
    // The queue is full: it goes on once the first was accepted.
    assert_eq!(connect(world, client, &at), Err(Errno::INPROGRESS));
    accept(world, listener, 0).unwrap();
    let (server, _) = accept(world, listener, 0).unwrap();
    put(world, server, b"bye", 0).unwrap();
    let linger = [1_i32.to_ne_bytes(), 0_i32.to_ne_bytes()].concat();
    setsockopt(world, server, libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
    close(world, server).unwrap();
    let error = number(world, client, libc::SOL_SOCKET, libc::SO_ERROR).unwrap();
    assert_eq!(error, libc::ECONNRESET);
    assert_eq!(get(world, client, 9, 0).unwrap(), b"bye");
    assert_eq!(get(world, client, 9, 0).unwrap(), b"");
}

/// Whoever asked for an error alone never heard that the connection was made.
#[test]
fn what_came_before_the_end_is_read_after_no_error() {
    let world = &mut Alone::new();
    let (listener, at) = listening(world, 4);
    let client = socket(world, V4, STREAM | libc::SOCK_NONBLOCK, 0).unwrap();
    assert_eq!(connect(world, client, &at), Err(Errno::INPROGRESS));
    posix::shutdown(world, client, libc::SHUT_WR).unwrap();
    let (server, _) = accept(world, listener, 0).unwrap();
    put(world, server, b"bye", 0).unwrap();
    close(world, server).unwrap();
    world.wait_a_while();
    let error = number(world, client, libc::SOL_SOCKET, libc::SO_ERROR);
    assert_eq!(error, Ok(0));
    assert_eq!(get(world, client, 9, 0).unwrap(), b"bye");
    assert_eq!(get(world, client, 9, 0).unwrap(), b"");
}
