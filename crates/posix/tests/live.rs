//! Calls of many threads over hosts that run: two of them, joined by a ring.
#![allow(clippy::unwrap_used)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use engine::ShardOptions;
use engine::port::ring;
use interop::alone::sockaddr;
use interop::epoll::{ADD, DEL, ET, EXCLUSIVE, HUP, IN, MOD, ONESHOT, OUT};
use posix::{EpollEvent, Errno, Live, PollFd, World};
use posix::{accept, bind, close, connect, listen, socket};
use posix::{epoll_create1, epoll_ctl, epoll_pwait2, epoll_wait, fcntl, poll, select, setsockopt};
use rustix::event::{EventfdFlags, eventfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use stack::Config;
use wire::Mac;

const BADF: Errno = Errno::BADF;
/// Long enough for another thread to have begun to wait, mostly; whatever it is, the outcome must be the same.
const SOON: Duration = Duration::from_millis(30);

/// 10.0.0.1 and 10.0.0.2.
fn hosts() -> (Live, Live) {
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let (a, b) = ring::pair(macs, &ring::RingOptions::default()).unwrap();
    let start = |port: ring::RingPort, own: &str| {
        let config = Config {
            pool_blocks: 4096,
            duplicate_detection: false,
            ..Config::default()
        };
        let options = ShardOptions {
            drain: Duration::from_millis(50),
            ..ShardOptions::default()
        };
        Live::start(config, 7, options, |shard| {
            let interface = shard.add_port(Box::new(port))?;
            let now = shard.now();
            let own = own.parse().unwrap();
            shard.host().add_address(now, interface, own)?;
            Ok(())
        })
        .unwrap()
    };
    (start(a, "10.0.0.1/24"), start(b, "10.0.0.2/24"))
}

fn listener(live: &Live, at: &str) -> i32 {
    let world = &mut live.call();
    let fd = socket(world, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let on = 1_i32.to_ne_bytes();
    setsockopt(world, fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &on).unwrap();
    bind(world, fd, &sockaddr(at)).unwrap();
    listen(world, fd, 16).unwrap();
    fd
}

/// Both ends of a connection from the first host to the second, and the listener.
fn pair(a: &Live, b: &Live) -> (i32, i32) {
    let listener = listener(b, "10.0.0.2:80");
    let client = socket(&mut a.call(), libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    connect(&mut a.call(), client, &sockaddr("10.0.0.2:80")).unwrap();
    let (server, _) = accept(&mut b.call(), listener, 0).unwrap();
    close(&mut b.call(), listener).unwrap();
    (client, server)
}

fn put(live: &Live, fd: i32, data: &[u8]) -> Result<usize, Errno> {
    let data = [IoSlice::new(data)];
    posix::send(&mut live.call(), fd, &data, libc::MSG_NOSIGNAL, None)
}

fn get(live: &Live, fd: i32, most: usize, flags: i32) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; most];
    let mut pieces = [IoSliceMut::new(&mut buffer)];
    let message = posix::receive(&mut live.call(), fd, &mut pieces, flags)?;
    buffer.truncate(message.len);
    Ok(buffer)
}

fn control(live: &Live, set: i32, how: i32, fd: i32, events: u32) -> Result<(), Errno> {
    let data = fd as u64;
    let event = Some(EpollEvent { events, data });
    epoll_ctl(&mut live.call(), set, how, fd, event)
}

fn set(live: &Live) -> i32 {
    epoll_create1(&mut live.call(), 0).unwrap()
}

fn wait(live: &Live, set: i32, room: usize, ms: i32) -> Result<Vec<(i32, u32)>, Errno> {
    let mut events = vec![EpollEvent::default(); room];
    let count = epoll_wait(&mut live.call(), set, &mut events, ms)?;
    events.truncate(count);
    Ok(events.iter().map(|e| (e.data as i32, e.events)).collect())
}

/// What is ready now, by number.
fn now(live: &Live, set: i32) -> Vec<(i32, u32)> {
    let mut told = wait(live, set, 16, 0).unwrap();
    told.sort_unstable();
    told
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
}

fn count() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn signal(fd: &OwnedFd) {
    rustix::io::write(fd, &1_u64.to_ne_bytes()).unwrap();
}

fn entry(fd: i32, events: i16) -> PollFd {
    PollFd {
        fd,
        events,
        revents: 0,
    }
}

#[test]
fn calls_block_in_their_threads() {
    let (a, b) = hosts();
    let listener = listener(&b, "10.0.0.2:80");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (fd, _) = accept(&mut b.call(), listener, 0).unwrap();
                loop {
                    let data = get(&b, fd, 5000, 0).unwrap();
                    if data.is_empty() {
                        return close(&mut b.call(), fd).unwrap();
                    }
                    put(&b, fd, &data).unwrap();
                }
            });
            scope.spawn(|| {
                let fd = socket(&mut a.call(), libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
                connect(&mut a.call(), fd, &sockaddr("10.0.0.2:80")).unwrap();
                for len in 1..60 {
                    let data = vec![len as u8; len * 100];
                    put(&a, fd, &data).unwrap();
                    assert_eq!(get(&a, fd, data.len(), libc::MSG_WAITALL), Ok(data));
                }
                close(&mut a.call(), fd).unwrap();
            });
        }
    });
    close(&mut b.call(), listener).unwrap();
}

#[test]
fn a_blocked_sender_goes_on_when_there_is_room() {
    let (a, b) = hosts();
    let (client, server) = pair(&a, &b);
    let total = 8 << 20;
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(put(&a, client, &vec![7; total]), Ok(total)));
        let mut got = 0;
        while got < total {
            got += get(&b, server, 1 << 16, 0).unwrap().len();
        }
    });
}

#[test]
fn timeouts_end_calls() {
    let (a, b) = hosts();
    let (client, _) = pair(&a, &b);
    let time = [0_u64.to_ne_bytes(), 20_000_u64.to_ne_bytes()].concat();
    let world = &mut a.call();
    setsockopt(world, client, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time).unwrap();
    setsockopt(world, client, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &time).unwrap();
    let mut buffer = [0; 9];
    let pieces = &mut [IoSliceMut::new(&mut buffer)];
    let got = posix::receive(world, client, pieces, 0);
    assert_eq!(got.err(), Some(Errno::AGAIN));
    let data = vec![0; 32 << 20];
    let mut left = data.len();
    // Buffers may grow meanwhile.
    let end = loop {
        match posix::send(world, client, &[IoSlice::new(&data[..left])], 0, None) {
            Ok(sent) => left -= sent,
            Err(error) => break error,
        }
    };
    assert_eq!((end, left > 0), (Errno::AGAIN, true), "nobody reads");
    let sets = epoll_create1(world, 0).unwrap();
    let room = &mut [EpollEvent::default(); 2];
    assert_eq!(epoll_wait(world, sets, room, 0), Ok(0));
    assert_eq!(epoll_wait(world, sets, room, 5), Ok(0));
    let nanos = Some(Duration::from_nanos(300));
    assert_eq!(epoll_pwait2(world, sets, room, nanos, None), Ok(0));
    assert_eq!(poll(world, &mut [entry(sets, libc::POLLIN)], 5), Ok(0));
    let words = &mut [1_u64 << client][..];
    let none = [Some(words), None, None];
    assert_eq!(select(world, client + 1, none, nanos), Ok(0));
}

/// What is sent to who never reads stays within the buffers that were asked for; who must not wait hears EAGAIN, who may, too, when
/// his time is up.
#[test]
fn what_nobody_reads_is_held_in_bounded_memory() {
    const BUFFER: i32 = 64 * 1024;
    let (a, b) = hosts();
    let listener = listener(&b, "10.0.0.2:80");
    let client = socket(&mut a.call(), libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let size = BUFFER.to_ne_bytes();
    for (live, fd) in [(&a, client), (&b, listener)] {
        for name in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
            setsockopt(&mut live.call(), fd, libc::SOL_SOCKET, name, &size).unwrap();
        }
    }
    connect(&mut a.call(), client, &sockaddr("10.0.0.2:80")).unwrap();
    let (server, _) = accept(&mut b.call(), listener, 0).unwrap();
    let blocks = |live: &Live| live.call().host().pool().in_use() as usize;
    let idle = blocks(&a) + blocks(&b);
    // What is asked for is doubled; both hold that.
    let bound = 2 * 2 * BUFFER as usize;
    let data = vec![7; 2 * bound];
    let send = |flags| {
        let flags = flags | libc::MSG_NOSIGNAL;
        posix::send(&mut a.call(), client, &[IoSlice::new(&data)], flags, None)
    };
    let (mut sent, mut waits) = (0, 0);
    while waits < 50 {
        match send(libc::MSG_DONTWAIT) {
            Ok(n) => {
                (sent, waits) = (sent + n, 0);
                assert!(sent <= bound, "{sent} bytes were taken");
            }
            Err(error) => {
                assert_eq!(error, Errno::AGAIN);
                waits += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
    let held = 2048 * (blocks(&a) + blocks(&b) - idle);
    assert!(held <= 2 * bound, "{sent} bytes in {held}");
    let time = [0_u64.to_ne_bytes(), 20_000_u64.to_ne_bytes()].concat();
    setsockopt(
        &mut a.call(),
        client,
        libc::SOL_SOCKET,
        libc::SO_SNDTIMEO,
        &time,
    )
    .unwrap();
    assert_eq!(send(0), Err(Errno::AGAIN), "nobody reads");
    let mut got = 0;
    while got < sent {
        got += get(&b, server, 1 << 16, 0).unwrap().len();
    }
    assert_eq!(get(&b, server, 9, libc::MSG_DONTWAIT), Err(Errno::AGAIN));
}

/// On Linux, too, it is the way to end a thread that waits for datagrams.
#[test]
fn shutting_ends_a_wait_for_datagrams() {
    let (a, _b) = hosts();
    let sockets = [(); 2].map(|()| socket(&mut a.call(), libc::AF_INET, libc::SOCK_DGRAM, 0));
    let [bound, fresh] = sockets.map(Result::unwrap);
    bind(&mut a.call(), bound, &sockaddr("10.0.0.1:53")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(get(&a, bound, 9, 0), Ok(vec![])));
        scope.spawn(|| assert_eq!(get(&a, fresh, 9, 0), Ok(vec![])));
        std::thread::sleep(SOON);
        for fd in [bound, fresh] {
            let shut = posix::shutdown(&mut a.call(), fd, libc::SHUT_RDWR);
            assert_eq!(shut, Err(Errno::NOTCONN));
        }
    });
}

#[test]
fn close_ends_what_waits() {
    let (a, b) = hosts();
    let (client, _) = pair(&a, &b);
    let listener = listener(&a, "10.0.0.1:90");
    let (sets, mixed) = (set(&a), set(&a));
    let (reader, _writer) = pipe();
    control(&a, mixed, ADD, reader.as_raw_fd(), IN).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(get(&a, client, 9, 0), Err(BADF)));
            scope.spawn(|| assert_eq!(accept(&mut a.call(), listener, 0).err(), Some(BADF)));
            scope.spawn(|| assert_eq!(wait(&a, sets, 1, -1), Err(BADF)));
            scope.spawn(|| assert_eq!(wait(&a, mixed, 1, -1), Err(BADF)));
            scope.spawn(|| {
                let mut fds = [entry(client, libc::POLLIN), entry(mixed, libc::POLLIN)];
                assert!(matches!(poll(&mut a.call(), &mut fds, -1), Ok(1 | 2)));
                assert!(fds.iter().any(|entry| entry.revents == libc::POLLNVAL));
            });
        }
        std::thread::sleep(SOON);
        for fd in [client, listener, sets, mixed] {
            close(&mut a.call(), fd).unwrap();
            // Its number may have another owner at once.
            set(&a);
        }
    });
}

#[test]
fn a_set_mixes_both_sides() {
    let (a, b) = hosts();
    let (client, server) = pair(&a, &b);
    let sets = set(&b);
    let ((reader, writer), event) = (pipe(), count());
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK);
    let timer = timer.unwrap();
    let [r, e, t] = [&reader, &event, &timer].map(AsRawFd::as_raw_fd);
    for (fd, events) in [(r, IN), (e, IN | ET), (t, IN | ONESHOT), (server, IN)] {
        control(&b, sets, ADD, fd, events).unwrap();
    }
    assert_eq!(now(&b, sets), []);
    put(&a, client, b"data").unwrap();
    assert_eq!(wait(&b, sets, 9, -1), Ok(vec![(server, IN)]));
    rustix::io::write(&writer, b"data").unwrap();
    signal(&event);
    let mut all = vec![(r, IN), (e, IN), (server, IN)];
    all.sort_unstable();
    assert_eq!(now(&b, sets), all);
    all.retain(|(fd, _)| *fd != e);
    assert_eq!(now(&b, sets), all, "an edge is told once");
    get(&b, server, 9, 0).unwrap();
    rustix::io::read(&reader, &mut [0; 9]).unwrap();
    assert_eq!(now(&b, sets), []);
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        },
    };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once).unwrap();
    assert_eq!(wait(&b, sets, 9, -1), Ok(vec![(t, IN)]));
    assert_eq!(now(&b, sets), [], "once");
    control(&b, sets, MOD, t, IN).unwrap();
    assert_eq!(now(&b, sets), [(t, IN)]);
    control(&b, sets, DEL, t, 0).unwrap();
    drop(writer);
    assert_eq!(now(&b, sets), [(r, HUP)]);
    drop(reader);
    assert_eq!(now(&b, sets), [], "who is closed leaves");
}

#[test]
fn mistakes_have_linuxs_numbers() {
    let (a, b) = hosts();
    let (client, _) = pair(&a, &b);
    let sets = set(&a);
    let (reader, _writer) = pipe();
    let r = reader.as_raw_fd();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let of = |how, fd| control(&a, sets, how, fd, IN).err();
    assert_eq!(of(ADD, file.as_raw_fd()), Some(Errno::PERM));
    assert_eq!(of(ADD, 9999), Some(BADF));
    assert_eq!(of(ADD, -1), Some(BADF));
    assert_eq!(of(ADD, sets), Some(Errno::INVAL));
    assert_eq!(of(MOD, r), Some(Errno::NOENT));
    assert_eq!(of(DEL, r), Some(Errno::NOENT));
    assert_eq!(of(ADD, r), None);
    assert_eq!(of(ADD, r), Some(Errno::EXIST));
    assert_eq!(of(77, r), Some(Errno::INVAL));
    let of = |set, fd| control(&a, set, ADD, fd, IN).err();
    assert_eq!(of(9999, r), Some(BADF));
    assert_eq!(of(client, r), Some(Errno::INVAL));
    assert_eq!(of(client, file.as_raw_fd()), Some(Errno::PERM));
    let inner = set(&a);
    assert_eq!(of(sets, inner), None);
    assert_eq!(of(inner, sets), Some(Errno::LOOP));
    let oneshot = control(&a, inner, ADD, r, IN | EXCLUSIVE | ONESHOT);
    assert_eq!(oneshot, Err(Errno::INVAL));
    let world = &mut a.call();
    let room = &mut [EpollEvent::default(); 1];
    assert_eq!(epoll_wait(world, r, room, 0), Err(Errno::INVAL));
    assert_eq!(epoll_wait(world, 9999, room, 0), Err(BADF));
    assert_eq!(epoll_wait(world, sets, &mut [], 0), Err(Errno::INVAL));
    let mut fds = [entry(9999, libc::POLLIN), entry(-1, libc::POLLIN)];
    assert_eq!(poll(world, &mut fds, -1), Ok(1));
    assert_eq!((fds[0].revents, fds[1].revents), (libc::POLLNVAL, 0));
    let mut far = vec![0_u64; 200];
    far[9999 / 64] = 1 << (9999 % 64);
    let none = [Some(&mut far[..]), None, None];
    assert_eq!(select(world, 10_000, none, None), Err(BADF));
    let nothing = || [None, None, None];
    assert_eq!(select(world, -1, nothing(), None), Err(Errno::INVAL));
    assert_eq!(select(world, 9, nothing(), Some(Duration::ZERO)), Ok(0));
}

#[test]
fn neither_side_starves() {
    let (a, b) = hosts();
    let sets = set(&a);
    let events: Vec<OwnedFd> = (0..3).map(|_| count()).collect();
    let mut all = Vec::new();
    for event in &events {
        signal(event);
        all.push(event.as_raw_fd());
    }
    for _ in 0..3 {
        let (client, _) = pair(&a, &b);
        all.push(client);
    }
    for fd in &all {
        control(&a, sets, ADD, *fd, IN | OUT).unwrap();
    }
    for room in 1..=6 {
        let mut told = std::collections::HashMap::new();
        for _ in 0..12 {
            for (fd, _) in wait(&a, sets, room, 0).unwrap() {
                *told.entry(fd).or_insert(0) += 1;
            }
        }
        let (least, most) = all.iter().fold((usize::MAX, 0), |(least, most), fd| {
            let times = told.get(fd).copied().unwrap_or(0);
            (least.min(times), most.max(times))
        });
        assert!(least > 0 && most - least <= 1, "{room}: {told:?}");
    }
}

#[test]
fn sets_within_sets_hear_of_both_sides() {
    let (a, b) = hosts();
    let (client, server) = pair(&a, &b);
    let [outer, middle, inner] = [set(&b), set(&b), set(&b)];
    let event = count();
    let e = event.as_raw_fd();
    control(&b, outer, ADD, middle, IN).unwrap();
    control(&b, middle, ADD, inner, IN | ET).unwrap();
    control(&b, inner, ADD, e, IN | ET).unwrap();
    control(&b, inner, ADD, server, IN | ET).unwrap();
    assert_eq!(now(&b, outer), []);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&b, outer, 9, -1));
        std::thread::sleep(SOON);
        signal(&event);
        assert_eq!(waiter.join().unwrap(), Ok(vec![(middle, IN)]));
    });
    let mut fds = [entry(outer, libc::POLLIN)];
    assert_eq!(poll(&mut b.call(), &mut fds, -1), Ok(1));
    assert_eq!(now(&b, outer), [(middle, IN)], "level");
    assert_eq!(now(&b, middle), [(inner, IN)]);
    assert_eq!(now(&b, middle), [], "edge");
    assert_eq!(now(&b, outer), []);
    assert_eq!(now(&b, inner), [(e, IN)]);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| poll(&mut b.call(), &mut [entry(outer, libc::POLLIN)], -1));
        std::thread::sleep(SOON);
        put(&a, client, b"data").unwrap();
        assert_eq!(waiter.join().unwrap(), Ok(1));
    });
    assert_eq!(now(&b, inner), [(server, IN)]);
    control(&b, outer, DEL, middle, 0).unwrap();
    signal(&event);
    assert_eq!((now(&b, outer), now(&b, inner)), (vec![], vec![(e, IN)]));
}

#[test]
fn many_sets_within_are_all_told() {
    let (a, _b) = hosts();
    let outer = set(&a);
    let events: Vec<OwnedFd> = (0..40).map(|_| count()).collect();
    let mut all = Vec::new();
    for event in &events {
        let inner = set(&a);
        control(&a, inner, ADD, event.as_raw_fd(), IN).unwrap();
        control(&a, outer, ADD, inner, IN | ET).unwrap();
        all.push((inner, IN));
    }
    events.iter().for_each(signal);
    let mut told = wait(&a, outer, 64, 0).unwrap();
    // Tests beside this one leave gaps that numbers of descriptors are taken from.
    told.sort_unstable();
    all.sort_unstable();
    assert_eq!(told, all);
    assert_eq!(wait(&a, outer, 64, 0), Ok(vec![]), "an edge is told once");
}

#[test]
fn sets_are_told_to_tools() {
    let (a, b) = hosts();
    let (client, _server) = pair(&a, &b);
    let sets = set(&a);
    control(&a, sets, ADD, client, IN | OUT).unwrap();
    let row = || a.sets().into_iter().find(|row| row.number == sets as u64);
    let seen = row().unwrap();
    assert_eq!((seen.watched, seen.ready, seen.waiters), (1, 1, 0));
    assert!(engine::diagnosis::sets().contains(&seen));
    control(&a, sets, MOD, client, IN).unwrap();
    assert_eq!(now(&a, sets), []);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&a, sets, 1, -1));
        while row().unwrap().waiters == 0 {
            std::thread::yield_now();
        }
        close(&mut a.call(), sets).unwrap();
        assert_eq!(waiter.join().unwrap(), Err(BADF));
    });
    assert_eq!(row(), None);
}

#[test]
fn sets_with_the_kernels_are_four_deep() {
    let (a, _b) = hosts();
    for depth in [4, 5] {
        let sets: Vec<i32> = (0..depth).map(|_| set(&a)).collect();
        for pair in sets.windows(2) {
            control(&a, pair[0], ADD, pair[1], IN).unwrap();
        }
        let event = count();
        let added = control(&a, *sets.last().unwrap(), ADD, event.as_raw_fd(), IN);
        if depth == 5 {
            assert_eq!(added, Err(Errno::LOOP));
            continue;
        }
        signal(&event);
        assert_eq!(wait(&a, sets[0], 1, -1), Ok(vec![(sets[1], IN)]));
    }
}

#[test]
fn a_close_that_lingers_ends_when_the_peer_has_all() {
    let (a, b) = hosts();
    let (client, server) = pair(&a, &b);
    let linger = [1_i32.to_ne_bytes(), 300_i32.to_ne_bytes()].concat();
    setsockopt(
        &mut a.call(),
        client,
        libc::SOL_SOCKET,
        libc::SO_LINGER,
        &linger,
    )
    .unwrap();
    put(&a, client, &[7; 50_000]).unwrap();
    close(&mut a.call(), client).unwrap();
    assert_eq!(
        get(&b, server, 50_000, libc::MSG_WAITALL).unwrap().len(),
        50_000
    );
}

#[test]
fn poll_and_select_look_at_both_sides() {
    let (a, b) = hosts();
    let (client, server) = pair(&a, &b);
    let (reader, writer) = pipe();
    let (r, w) = (reader.as_raw_fd(), writer.as_raw_fd());
    let look = |ms| {
        let events = libc::POLLIN;
        let mut fds = [
            entry(r, events),
            entry(server, events),
            entry(w, libc::POLLOUT),
        ];
        fds[2].fd = if ms == 0 { w } else { -1 };
        let found = poll(&mut b.call(), &mut fds, ms).unwrap();
        (found, fds.map(|entry| entry.revents))
    };
    assert_eq!(look(0), (1, [0, 0, libc::POLLOUT]));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| look(-1));
        std::thread::sleep(SOON);
        put(&a, client, b"data").unwrap();
        assert_eq!(waiter.join().unwrap(), (1, [0, libc::POLLIN, 0]));
        get(&b, server, 9, 0).unwrap();
        let waiter = scope.spawn(|| look(-1));
        std::thread::sleep(SOON);
        rustix::io::write(&writer, b"data").unwrap();
        assert_eq!(waiter.join().unwrap(), (1, [libc::POLLIN, 0, 0]));
    });
    let bit = |fd: i32| 1_u64 << fd;
    let (mut read, mut write, mut other) =
        ([bit(r) | bit(server)], [bit(w) | bit(server)], [bit(r)]);
    let sets = [
        Some(&mut read[..]),
        Some(&mut write[..]),
        Some(&mut other[..]),
    ];
    assert_eq!(select(&mut b.call(), 64, sets, None), Ok(3));
    assert_eq!(
        (read, write, other),
        ([bit(r)], [bit(w) | bit(server)], [0])
    );
}

fn until(counter: &AtomicUsize, count: usize) {
    while counter.load(Ordering::SeqCst) < count {
        std::thread::yield_now();
    }
}

/// Threads that wait for one set, tokens from both sides: each is seen, and nobody sleeps on one.
fn storm(threads: usize, room: usize, how: u32) {
    const TOKENS: usize = 2000;
    let (a, b) = hosts();
    let (client, server) = pair(&a, &b);
    fcntl(
        &mut b.call(),
        server,
        libc::F_SETFL,
        libc::O_NONBLOCK.into(),
    )
    .unwrap();
    let sets = set(&b);
    let (event, end) = (count(), count());
    let e = event.as_raw_fd();
    control(&b, sets, ADD, e, IN | how).unwrap();
    control(&b, sets, ADD, server, IN | how).unwrap();
    control(&b, sets, ADD, end.as_raw_fd(), IN).unwrap();
    let (ours, theirs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let seen = |fd| {
        if fd == server {
            while let Ok(data) = get(&b, server, 100, 0) {
                ours.fetch_add(data.len(), Ordering::SeqCst);
            }
        } else if fd == e {
            let mut count = [0; 8];
            while rustix::io::read(&event, &mut count).is_ok() {
                theirs.fetch_add(u64::from_ne_bytes(count) as usize, Ordering::SeqCst);
            }
        }
        if how & ONESHOT != 0 && fd != end.as_raw_fd() {
            control(&b, sets, MOD, fd, IN | how).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let told = wait(&b, sets, room, -1).unwrap();
                    assert!(!told.is_empty());
                    for (fd, _) in &told {
                        seen(*fd);
                    }
                    if told.iter().any(|(fd, _)| *fd == end.as_raw_fd()) {
                        return;
                    }
                }
            });
        }
        // A token at a time: whoever sleeps on one stops the rest, and the test.
        scope.spawn(|| {
            for token in 1..=TOKENS {
                signal(&event);
                until(&theirs, token);
            }
        });
        for token in 1..=TOKENS {
            put(&a, client, b"x").unwrap();
            until(&ours, token);
        }
        until(&theirs, TOKENS);
        signal(&end);
    });
}

#[test]
fn no_wake_up_is_lost() {
    for how in [0, ET, ONESHOT, ET | ONESHOT] {
        storm(1, 1, how);
        storm(3, 1, how);
        storm(2, 8, how);
    }
}

/// A port that brings nothing, and panics when it is told to: as it receives, or as it is given something to send.
struct Fragile {
    facts: engine::port::PortFacts,
    breaks: Arc<[AtomicBool; 2]>,
}

impl Fragile {
    fn look(&self, at: usize) {
        assert!(!self.breaks[at].load(Ordering::Relaxed), "as it was told");
    }
}

impl engine::port::Port for Fragile {
    fn facts(&self) -> &engine::port::PortFacts {
        &self.facts
    }

    fn receive(&mut self, _: &mut base::Pool, _: &mut base::Batch) -> usize {
        self.look(0);
        0
    }

    fn transmit(&mut self, pool: &mut base::Pool, batch: &mut base::Batch) -> usize {
        self.look(1);
        let taken = batch.len();
        batch.clear(pool);
        taken
    }

    fn flush(&mut self, _: &mut base::Pool) {}

    fn sleep_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    fn counters(&self) -> engine::port::PortCounters {
        engine::port::PortCounters::default()
    }
}

/// A host of its own, and what breaks it.
fn fragile() -> (Live, Arc<[AtomicBool; 2]>) {
    let breaks: Arc<[AtomicBool; 2]> = Arc::default();
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let (real, _) = ring::pair(macs, &ring::RingOptions::default()).unwrap();
    let port = Fragile {
        facts: engine::port::Port::facts(&real).clone(),
        breaks: breaks.clone(),
    };
    let config = Config {
        pool_blocks: 4096,
        duplicate_detection: false,
        ..Config::default()
    };
    let live = Live::start(config, 7, ShardOptions::default(), |shard| {
        let interface = shard.add_port(Box::new(port))?;
        let now = shard.now();
        let own = "10.0.0.1/24".parse().unwrap();
        shard.host().add_address(now, interface, own)?;
        Ok(())
    });
    (live.unwrap(), breaks)
}

/// A thread that the shard's panic ends, or a call's: whoever waits hears of it, and whoever asks.
#[test]
fn after_a_panic_of_the_shard_all_calls_fail() {
    const DOWN: Errno = Errno::NETDOWN;
    for by_call in [false, true] {
        let (live, breaks) = fragile();
        let live = &live;
        let at = "10.0.0.1:80";
        let listener = listener(live, at);
        let new = |kind| socket(&mut live.call(), libc::AF_INET, kind, 0);
        let client = new(libc::SOCK_STREAM).unwrap();
        connect(&mut live.call(), client, &sockaddr(at)).unwrap();
        let (server, _) = accept(&mut live.call(), listener, 0).unwrap();
        let watched = set(live);
        control(live, watched, ADD, server, IN).unwrap();
        std::thread::scope(|scope| {
            let ended = [
                scope.spawn(|| accept(&mut live.call(), listener, 0).map(drop)),
                scope.spawn(|| get(live, client, 9, 0).map(drop)),
                scope.spawn(|| {
                    let mut one = [PollFd {
                        fd: server,
                        events: libc::POLLIN,
                        revents: 0,
                    }];
                    poll(&mut live.call(), &mut one, -1).map(drop)
                }),
                scope.spawn(|| {
                    let mut events = [EpollEvent::default()];
                    epoll_wait(&mut live.call(), watched, &mut events, -1).map(drop)
                }),
            ];
            std::thread::sleep(SOON);
            breaks[usize::from(by_call)].store(true, Ordering::Relaxed);
            if by_call {
                let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let datagram = new(libc::SOCK_DGRAM).unwrap();
                    let to = sockaddr("10.0.0.255:9");
                    let on = 1_i32.to_ne_bytes();
                    let level = libc::SOL_SOCKET;
                    setsockopt(&mut live.call(), datagram, level, libc::SO_BROADCAST, &on).unwrap();
                    let data = [IoSlice::new(b"x")];
                    posix::send(&mut live.call(), datagram, &data, 0, Some(&to))
                }));
                assert!(told.is_err(), "whose call it was is told");
            }
            for thread in ended {
                assert_eq!(thread.join().unwrap(), Err(DOWN));
            }
        });
        // From now on.
        assert_eq!(put(live, client, b"x"), Err(DOWN));
        assert_eq!(get(live, client, 9, libc::MSG_DONTWAIT), Err(DOWN));
        assert_eq!(new(libc::SOCK_STREAM), Err(DOWN));
        assert_eq!(accept(&mut live.call(), listener, 0).unwrap_err(), DOWN);
        let mut one = [PollFd {
            fd: client,
            events: libc::POLLIN,
            revents: 0,
        }];
        assert_eq!(poll(&mut live.call(), &mut one, -1), Err(DOWN));
        let mut events = [EpollEvent::default()];
        let waited = epoll_wait(&mut live.call(), watched, &mut events, -1);
        assert_eq!(waited, Err(DOWN));
        assert_eq!(control(live, watched, MOD, server, OUT), Err(DOWN));
        for fd in [client, server, listener, watched] {
            assert_eq!(close(&mut live.call(), fd), Ok(()));
        }
        assert_eq!(close(&mut live.call(), client), Err(BADF));
    }
}
