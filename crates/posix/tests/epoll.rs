//! epoll over sockets: what is told when, and what is refused, as on Linux.
#![allow(clippy::unwrap_used)]

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;

use core::time::Duration;
use posix::{
    EpollEvent, Errno, PollFd, accept, bind, close, connect, listen, poll, receive, shutdown,
};
use posix::{
    epoll_create, epoll_create1, epoll_ctl, epoll_pwait2, epoll_wait, fcntl, ioctl, socket,
};

use interop::alone::{Alone, DATAGRAM, STREAM, V4, get, number, pair, put, set, sockaddr};
use interop::epoll::{ADD, DEL, ERR, ET, EXCLUSIVE, HUP, IN, MOD, ONESHOT, OUT, PRI, RDHUP};

const NONBLOCK: i32 = libc::SOCK_NONBLOCK;

fn control(world: &mut Alone, sets: i32, how: i32, fd: i32, events: u32) -> Result<(), Errno> {
    let data = fd as u64;
    epoll_ctl(world, sets, how, fd, Some(EpollEvent { events, data }))
}

fn add(world: &mut Alone, sets: i32, fd: i32, events: u32) {
    control(world, sets, ADD, fd, events).unwrap();
}

/// What is ready now: descriptors with their bits.
fn now(world: &mut Alone, sets: i32, most: usize) -> Vec<(i32, u32)> {
    let mut events = vec![EpollEvent::default(); most];
    let count = epoll_wait(world, sets, &mut events, 0).unwrap();
    events.truncate(count);
    events.iter().map(|e| (e.data as i32, e.events)).collect()
}

fn one(world: &mut Alone, sets: i32) -> u32 {
    match now(world, sets, 8)[..] {
        [] => 0,
        [(_, events)] => events,
        ref more => panic!("{more:?}"),
    }
}

/// A connection both of whose ends do not block, and a set.
fn stage() -> (Alone, i32, i32, i32) {
    let mut world = Alone::new();
    let (listener, client, server) = pair(&mut world, "127.0.0.1:80");
    close(&mut world, listener).unwrap();
    for fd in [client, server] {
        fcntl(&mut world, fd, libc::F_SETFL, NONBLOCK.into()).unwrap();
    }
    let sets = epoll_create1(&mut world, 0).unwrap();
    (world, sets, client, server)
}

#[test]
fn what_came_before_add_is_told() {
    let (mut world, sets, client, server) = stage();
    let world = &mut world;
    put(world, client, b"early", 0).unwrap();
    add(world, sets, server, IN | ET);
    assert_eq!(one(world, sets), IN);
    assert_eq!(one(world, sets), 0);
    control(world, sets, MOD, server, IN | OUT | ET).unwrap();
    assert_eq!(one(world, sets), IN | OUT, "and what was before MOD");
    control(world, sets, MOD, server, IN).unwrap();
    control(world, sets, DEL, server, 0).unwrap();
    assert_eq!(one(world, sets), 0, "deleted while it was ready");
    add(world, sets, server, IN);
    assert_eq!((one(world, sets), one(world, sets)), (IN, IN), "level");
    get(world, server, 9, 0).unwrap();
    assert_eq!(one(world, sets), 0);
}

#[test]
fn an_edge_is_new_data_read_or_not() {
    let (mut world, sets, client, server) = stage();
    let world = &mut world;
    add(world, sets, server, IN | OUT | ET);
    assert_eq!((one(world, sets), one(world, sets)), (OUT, 0));
    for _ in 0..2 {
        put(world, client, &[0; 500], 0).unwrap();
        assert_eq!((one(world, sets), one(world, sets)), (IN | OUT, 0));
    }
    get(world, server, 100, 0).unwrap();
    assert_eq!(one(world, sets), 0, "reading is no news");
    // SO_RCVLOWAT: data that is too little is no news either.
    get(world, server, 2000, 0).unwrap();
    set(world, server, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1000).unwrap();
    put(world, client, &[0; 999], 0).unwrap();
    assert_eq!(one(world, sets), 0);
    put(world, client, &[0; 1], 0).unwrap();
    assert_eq!((one(world, sets), one(world, sets)), (IN | OUT, 0));
    set(world, server, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1).unwrap();
    assert_eq!(one(world, sets), IN | OUT, "what is enough was changed");
}

#[test]
fn once_is_once() {
    let (mut world, sets, client, server) = stage();
    let world = &mut world;
    add(world, sets, server, IN | ONESHOT);
    put(world, client, b"a", 0).unwrap();
    assert_eq!((one(world, sets), one(world, sets)), (IN, 0));
    put(world, client, b"b", 0).unwrap();
    shutdown(world, client, libc::SHUT_RDWR).unwrap();
    assert_eq!(one(world, sets), 0, "not even the end");
    control(world, sets, MOD, server, IN | RDHUP | ONESHOT).unwrap();
    assert_eq!((one(world, sets), one(world, sets)), (IN | RDHUP, 0));
}

/// Whether poll finds room to write.
fn has_room(world: &mut Alone, fd: i32) -> bool {
    let mut fds = [PollFd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    }];
    poll(world, &mut fds, 0).unwrap() == 1
}

#[test]
fn room_is_a_third_of_the_buffer() {
    let (mut world, sets, client, server) = stage();
    let world = &mut world;
    set(world, client, libc::SOL_SOCKET, libc::SO_SNDBUF, 20_000).unwrap();
    add(world, sets, client, OUT | ET);
    assert_eq!((one(world, sets), one(world, sets)), (OUT, 0));
    let mut written = 0;
    while let Ok(count) = put(world, client, &[0; 4000], 0) {
        written += count;
    }
    assert_eq!(one(world, sets), 0, "no room");
    let (mut read, mut told) = (0, 0);
    while read < written {
        read += get(world, server, 2000, 0).map_or(0, |data| data.len());
        world.wait_a_while();
        told += usize::from(one(world, sets) == OUT);
    }
    assert_eq!(told, 1, "once, while it was emptied to the end");
    // Who looks and finds no room is told, too, though no write was refused.
    control(world, sets, MOD, client, ET).unwrap();
    while has_room(world, client) {
        written += put(world, client, &[0; 100], 0).unwrap();
    }
    control(world, sets, MOD, client, OUT | ET).unwrap();
    assert_eq!(one(world, sets), 0);
    while read < written {
        read += get(world, server, 2000, 0).map_or(0, |data| data.len());
        world.wait_a_while();
    }
    assert_eq!(one(world, sets), OUT);
    set(world, client, libc::SOL_SOCKET, libc::SO_SNDBUF, 30_000).unwrap();
    assert_eq!(one(world, sets), OUT, "there is more room");
}

#[test]
fn the_end_comes_in_linuxs_order() {
    let (mut world, sets, client, server) = stage();
    let world = &mut world;
    let all = IN | OUT | RDHUP | PRI | ET;
    add(world, sets, server, all);
    add(world, sets, client, all);
    assert_eq!(now(world, sets, 8).len(), 2);
    shutdown(world, client, libc::SHUT_WR).unwrap();
    // The client's own call is news to it, too.
    let told = now(world, sets, 8);
    assert!(told.contains(&(client, OUT)), "{told:?}");
    assert!(told.contains(&(server, IN | OUT | RDHUP)), "{told:?}");
    shutdown(world, server, libc::SHUT_WR).unwrap();
    let end = IN | OUT | RDHUP | HUP;
    let told = now(world, sets, 8);
    assert!(told.contains(&(server, end)), "{told:?}");
    assert!(told.contains(&(client, end)), "{told:?}");
    // To shut what is over is an error, and news all the same.
    assert_eq!(now(world, sets, 8), []);
    let again = shutdown(world, client, libc::SHUT_WR);
    assert_eq!(again, Err(Errno::NOTCONN));
    assert_eq!(now(world, sets, 8), [(client, end)]);
}

#[test]
fn a_reset_is_everything() {
    let (mut world, sets, client, server) = stage();
    let world = &mut world;
    add(world, sets, server, IN | OUT | RDHUP);
    put(world, server, b"unread", 0).unwrap();
    close(world, client).unwrap();
    let all = IN | OUT | RDHUP | HUP | ERR;
    assert_eq!(one(world, sets), all);
    let error = number(world, server, libc::SOL_SOCKET, libc::SO_ERROR);
    assert_eq!(error, Ok(libc::ECONNRESET));
    assert_eq!(one(world, sets), all & !ERR);
}

#[test]
fn the_error_queue_is_told_once_for_each_entry() {
    let (mut world, sets, client, server) = stage();
    let world = &mut world;
    set(world, client, libc::SOL_SOCKET, 60, 1).unwrap(); // SO_ZEROCOPY
    add(world, sets, client, ET);
    for _ in 0..2 {
        put(world, client, &[0; 100], libc::MSG_ZEROCOPY).unwrap();
        world.wait_a_while();
        assert_eq!((one(world, sets), one(world, sets)), (ERR, 0));
    }
    receive(
        world,
        client,
        &mut [IoSliceMut::new(&mut [])],
        libc::MSG_ERRQUEUE,
    )
    .unwrap();
    control(world, sets, MOD, client, ET).unwrap();
    assert_eq!(one(world, sets), 0, "both were one entry");
    assert_eq!(get(world, server, 999, 0).unwrap().len(), 200);
}

#[test]
fn listeners_and_connections_under_way() {
    let world = &mut Alone::new();
    let sets = epoll_create(world, 1).unwrap();
    let listener = socket(world, V4, STREAM | NONBLOCK, 0).unwrap();
    add(world, sets, listener, IN | OUT | ET);
    assert_eq!(one(world, sets), OUT | HUP, "neither this nor that");
    bind(world, listener, &sockaddr("127.0.0.1:80")).unwrap();
    listen(world, listener, 4).unwrap();
    assert_eq!(one(world, sets), 0);
    let client = socket(world, V4, STREAM | NONBLOCK, 0).unwrap();
    let begun = connect(world, client, &sockaddr("127.0.0.1:80"));
    assert_eq!(begun, Err(Errno::INPROGRESS), "however soon it is made");
    assert_eq!(now(world, sets, 8), [(listener, IN)]);
    let (server, _) = accept(world, listener, NONBLOCK).unwrap();
    assert_eq!(accept(world, listener, 0), Err(Errno::AGAIN));
    add(world, sets, server, IN | OUT);
    add(world, sets, client, IN | OUT);
    assert_eq!(now(world, sets, 8), [(server, OUT), (client, OUT)]);
    // Refused.
    let other = socket(world, V4, STREAM | NONBLOCK, 0).unwrap();
    let more = epoll_create1(world, libc::EPOLL_CLOEXEC).unwrap();
    let begun = connect(world, other, &sockaddr("127.0.0.1:81"));
    assert_eq!(begun, Err(Errno::INPROGRESS));
    add(world, more, other, IN | OUT | RDHUP);
    assert_eq!(one(world, more), IN | OUT | RDHUP | HUP | ERR);
    let error = number(world, other, libc::SOL_SOCKET, libc::SO_ERROR);
    assert_eq!(error, Ok(libc::ECONNREFUSED));
    assert_eq!(one(world, more), IN | OUT | RDHUP | HUP);
}

#[test]
fn datagrams_are_edges_and_so_is_room_for_more() {
    let world = &mut Alone::new();
    let sets = epoll_create1(world, 0).unwrap();
    let server = socket(world, V4, DATAGRAM | NONBLOCK, 0).unwrap();
    let client = socket(world, V4, DATAGRAM | NONBLOCK, 0).unwrap();
    bind(world, server, &sockaddr("127.0.0.1:53")).unwrap();
    connect(world, client, &sockaddr("127.0.0.1:53")).unwrap();
    add(world, sets, client, IN | OUT | ET);
    add(world, sets, server, IN | OUT | ET);
    assert_eq!(now(world, sets, 8), [(client, OUT), (server, OUT)]);
    put(world, client, b"x", 0).unwrap();
    let both = [(client, OUT), (server, IN | OUT)];
    assert_eq!(now(world, sets, 8), both, "what has left leaves room");
    close(world, server).unwrap();
    put(world, client, b"y", 0).unwrap();
    world.wait_a_while();
    assert_eq!(one(world, sets), OUT | ERR, "an error is no data");
}

#[test]
fn those_that_are_ready_take_turns() {
    let world = &mut Alone::new();
    let sets = epoll_create1(world, 0).unwrap();
    let sender = socket(world, V4, DATAGRAM, 0).unwrap();
    let mut fds = Vec::new();
    for port in 1000..1004 {
        let fd = socket(world, V4, DATAGRAM, 0).unwrap();
        let at = sockaddr(&format!("127.0.0.1:{port}"));
        bind(world, fd, &at).unwrap();
        add(world, sets, fd, IN);
        connect(world, sender, &at).unwrap();
        put(world, sender, b"x", 0).unwrap();
        fds.push(fd);
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        order.extend(now(world, sets, 2).iter().map(|(fd, _)| *fd));
    }
    assert_eq!(order, [&fds[..], &fds[..]].concat());
}

#[test]
fn the_peer_hears_of_a_shut_direction_first() {
    let (mut world, sets, client, server) = stage();
    let world = &mut world;
    for fd in [server, client] {
        add(world, sets, fd, IN | ET);
    }
    assert_eq!(now(world, sets, 8), []);
    shutdown(world, server, libc::SHUT_RDWR).unwrap();
    assert_eq!(now(world, sets, 8), [(client, IN), (server, IN | HUP)]);
    // So does who waits to be accepted.
    let listener = socket(world, V4, STREAM, 0).unwrap();
    bind(world, listener, &sockaddr("127.0.0.1:81")).unwrap();
    listen(world, listener, 4).unwrap();
    add(world, sets, listener, OUT | ET);
    let waits = socket(world, V4, STREAM, 0).unwrap();
    connect(world, waits, &sockaddr("127.0.0.1:81")).unwrap();
    add(world, sets, waits, PRI | ET);
    shutdown(world, listener, libc::SHUT_RD).unwrap();
    let told = now(world, sets, 8);
    assert_eq!(told, [(waits, ERR | HUP), (listener, OUT | HUP)]);
}

#[test]
fn what_is_closed_is_in_no_set() {
    let closed = || {
        let (mut world, sets, client, server) = stage();
        let other = epoll_create1(&mut world, 0).unwrap();
        put(&mut world, client, b"x", 0).unwrap();
        for set in [sets, other] {
            add(&mut world, set, server, IN);
        }
        close(&mut world, server).unwrap();
        assert_eq!((one(&mut world, sets), one(&mut world, other)), (0, 0));
        // Another test may have taken the number.
        let again = socket(&mut world, V4, STREAM, 0).unwrap();
        (again == server).then_some((world, sets, other, again))
    };
    let (mut world, sets, other, again) = core::iter::repeat_with(closed).flatten().next().unwrap();
    let world = &mut world;
    assert_eq!(control(world, sets, DEL, again, 0), Err(Errno::NOENT));
    add(world, sets, again, IN);
    close(world, sets).unwrap();
    assert_eq!(
        epoll_wait(world, sets, &mut [EpollEvent::default()], 0),
        Err(Errno::BADF)
    );
    assert_eq!(close(world, sets), Err(Errno::BADF));
    assert_eq!(control(world, other, ADD, again, IN), Ok(()));
}

#[test]
fn sets_are_watched_by_sets_and_by_poll() {
    let (mut world, inner, client, server) = stage();
    let world = &mut world;
    let outer = epoll_create1(world, 0).unwrap();
    add(world, inner, server, IN);
    add(world, outer, inner, IN | ET);
    assert_eq!(one(world, outer), 0);
    put(world, client, b"x", 0).unwrap();
    assert_eq!((one(world, outer), one(world, outer)), (IN, 0));
    let mut fds = [PollFd {
        fd: inner,
        events: libc::POLLIN | libc::POLLOUT,
        revents: 0,
    }];
    assert_eq!(poll(world, &mut fds, 0), Ok(1));
    assert_eq!(fds[0].revents, libc::POLLIN);
    get(world, server, 9, 0).unwrap();
    assert_eq!(poll(world, &mut fds, 0), Ok(0));
    assert_eq!(control(world, inner, ADD, outer, IN), Err(Errno::LOOP));
    let mut top = outer;
    for _ in 0..3 {
        let above = epoll_create1(world, 0).unwrap();
        add(world, above, top, IN);
        top = above;
    }
    let above = epoll_create1(world, 0).unwrap();
    assert_eq!(control(world, above, ADD, top, IN), Err(Errno::LOOP));
}

#[test]
fn mistakes_are_refused_in_linuxs_order() {
    let (mut world, sets, client, server) = stage();
    let world = &mut world;
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let file = file.as_raw_fd();
    assert_eq!(epoll_create(world, 0), Err(Errno::INVAL));
    assert_eq!(epoll_create1(world, 1), Err(Errno::INVAL));
    assert_eq!(epoll_ctl(world, 999, ADD, 998, None), Err(Errno::FAULT));
    assert_eq!(epoll_ctl(world, sets, 9, server, None), Err(Errno::FAULT));
    assert_eq!(epoll_ctl(world, sets, DEL, server, None), Err(Errno::NOENT));
    for (set, how, fd, events, error) in [
        (999, ADD, file, IN, Errno::BADF),
        (sets, ADD, 999, IN, Errno::BADF),
        (sets, ADD, -1, IN, Errno::BADF),
        (server, ADD, file, IN, Errno::PERM),
        (server, ADD, client, IN, Errno::INVAL),
        (sets, ADD, sets, IN, Errno::INVAL),
        (sets, 9, server, IN, Errno::INVAL),
        (sets, MOD, server, IN | EXCLUSIVE, Errno::INVAL),
        (sets, MOD, server, IN, Errno::NOENT),
        (sets, ADD, server, RDHUP | EXCLUSIVE, Errno::INVAL),
        (sets, ADD, server, ONESHOT | EXCLUSIVE, Errno::INVAL),
    ] {
        assert_eq!(
            control(world, set, how, fd, events),
            Err(error),
            "{set} {how} {fd}"
        );
    }
    add(world, sets, server, IN | EXCLUSIVE);
    assert_eq!(control(world, sets, ADD, server, IN), Err(Errno::EXIST));
    assert_eq!(control(world, sets, MOD, server, IN), Err(Errno::INVAL));
    let inner = epoll_create1(world, 0).unwrap();
    assert_eq!(
        control(world, sets, ADD, inner, IN | EXCLUSIVE),
        Err(Errno::INVAL)
    );
    assert_eq!(epoll_wait(world, 999, &mut [], 0), Err(Errno::BADF));
    assert_eq!(epoll_wait(world, sets, &mut [], 0), Err(Errno::INVAL));
    let mut room = [EpollEvent::default()];
    assert_eq!(epoll_wait(world, server, &mut room, 0), Err(Errno::INVAL));
    // A set is no socket.
    assert_eq!(get(world, sets, 1, 0), Err(Errno::NOTSOCK));
    assert_eq!(listen(world, sets, 1), Err(Errno::NOTSOCK));
    assert_eq!(ioctl(world, sets, libc::FIONREAD, 0), Err(Errno::NOTTY));
    assert_eq!(fcntl(world, sets, libc::F_GETFL, 0), Ok(libc::O_RDWR));
}

#[test]
fn waits_end_to_the_nanosecond() {
    let (mut world, sets, client, server) = stage();
    let world = &mut world;
    add(world, sets, server, IN);
    let mut room = [EpollEvent::default(); 4];
    let begun = world.now;
    let long = Duration::from_nanos(1_234_567);
    assert_eq!(
        epoll_pwait2(world, sets, &mut room, Some(long), None),
        Ok(0)
    );
    assert_eq!(world.now - begun, long);
    assert_eq!(epoll_wait(world, sets, &mut room, 3), Ok(0));
    assert_eq!(world.now - begun, long + Duration::from_millis(3));
    // One that waits for ever is woken: by the segment that Nagle holds back until the delayed ACK comes.
    put(world, client, b"a", 0).unwrap();
    put(world, client, b"b", 0).unwrap();
    get(world, server, 1, 0).unwrap();
    while one(world, sets) != 0 {
        get(world, server, 9, 0).unwrap();
    }
    put(world, client, b"c", 0).unwrap();
    let begun = world.now;
    assert_eq!(epoll_pwait2(world, sets, &mut room, None, None), Ok(1));
    assert!(room[0].events == IN && world.now >= begun);
    let (sets, items) = world.table.watched();
    assert_eq!((sets, items), (1, 1));
}
