//! Sets of sockets over a fake shard: what records are ready for, what is told, what goes away.

use std::sync::Weak;
use std::thread;

use base::epoll::{
    EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLONESHOT, EPOLLOUT, EPOLLPRI, EPOLLRDHUP,
    EPOLLWRNORM, RAISED_OUT,
};
use stack::{SocketError, TcpOptions, UdpOptions};

use super::*;
use crate::mailbox::{Inbox, Mailbox};
use crate::shard::Message;
use crate::sockets::tcp::Phase;
use crate::sockets::{Limits, Notice, Sockets};

const IN: u32 = EPOLLIN | EPOLLRDNORM;
const OUT: u32 = EPOLLOUT | EPOLLWRNORM;
const EVERYTHING: u32 = IN | OUT | EPOLLPRI | EPOLLRDHUP;

/// A shard's end of the mailbox, which must live as long as its sockets.
type End = Inbox<Message<Notice>>;

fn sockets() -> (Sockets, End) {
    let (mailbox, inbox) = Mailbox::new(1 << 12).unwrap();
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    (Sockets::new(mailbox, limits, TcpOptions::default()), inbox)
}

fn of(sockets: &Sockets, phase: Phase) -> (TcpSocket, Arc<TcpShared>) {
    let remote = "192.0.2.1:80".parse().unwrap();
    let shared = TcpShared::new(sockets.door().clone(), phase, remote, None);
    let shared = Arc::new(shared);
    (TcpSocket::new(shared.clone()), shared)
}

fn connection(phase: Phase) -> (TcpSocket, Arc<TcpShared>, End) {
    let (sockets, inbox) = sockets();
    let (socket, shared) = of(&sockets, phase);
    (socket, shared, inbox)
}

/// The shard hands received bytes over, as `driver/tcp.rs` does.
fn deliver(shared: &TcpShared, bytes: &[u8]) {
    let mut state = shared.state();
    state.rx.push(shared.door.chunks.copy_of(bytes));
    state.rx_len += bytes.len();
    let raised = state.watches.raise(RAISED_IN);
    drop(state);
    raised.tell();
}

/// The peer's FIN.
fn end(shared: &TcpShared) {
    let mut state = shared.state();
    (state.fin, state.rx_end) = (true, true);
    let raised = state.watches.raise(0);
    drop(state);
    raised.tell();
}

/// The shard sends everything written.
fn take_written(shared: &TcpShared) {
    let mut state = shared.state();
    state.tx.clear(&shared.door.chunks);
    state.tx_len = 0;
    let raised = state.raise_room();
    drop(state);
    raised.tell();
}

fn selector() -> Selector {
    Selector::new(64).unwrap()
}

fn wanted(events: u32, data: u64) -> EpollEvent {
    EpollEvent { events, data }
}

/// What is ready now.
fn now(selector: &Selector, room: usize) -> Vec<(u32, u64)> {
    within(selector, room, Some(Duration::ZERO))
}

fn within(selector: &Selector, room: usize, timeout: Option<Duration>) -> Vec<(u32, u64)> {
    let mut told = Vec::new();
    let count = selector.wait(room, timeout, &mut |event| {
        told.push((event.events, event.data));
    });
    assert_eq!(count, told.len());
    told
}

fn read(socket: &TcpSocket, len: usize) -> io::Result<usize> {
    socket.try_read(&mut [io::IoSliceMut::new(&mut vec![0; len])])
}

fn write(socket: &TcpSocket, len: usize) -> io::Result<usize> {
    socket.try_write(&[io::IoSlice::new(&vec![7; len])])
}

fn fill(socket: &TcpSocket) {
    while write(socket, 60_000).is_ok() {}
}

#[test]
fn a_connections_states_are_told_as_linux_tells_them() {
    let (socket, shared, _inbox) = connection(Phase::Connecting);
    assert_eq!(shared.level(), 0, "under way");
    shared.fail(Some(SocketError::ConnectionRefused));
    let closed = IN | OUT | EPOLLRDHUP | EPOLLHUP;
    assert_eq!(shared.level(), closed | EPOLLERR, "refused");
    assert!(socket.take_error().is_some());
    assert_eq!(shared.level(), closed, "the error was taken");

    let (socket, shared, _inbox) = connection(Phase::Open);
    assert_eq!(shared.level(), OUT);
    deliver(&shared, b"data");
    assert_eq!(shared.level(), IN | OUT);
    read(&socket, 2).unwrap();
    assert_eq!(shared.level(), IN | OUT, "the reader holds the rest");
    read(&socket, 2).unwrap();
    assert_eq!(shared.level(), OUT);
    fill(&socket);
    assert_eq!(shared.level(), 0, "no room");
    end(&shared);
    assert_eq!(shared.level(), IN | EPOLLRDHUP, "the peer's FIN");
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(
        shared.level(),
        closed,
        "both directions are shut: writing fails at once"
    );

    let (socket, shared, _inbox) = connection(Phase::Open);
    socket.shutdown(std::net::Shutdown::Read).unwrap();
    assert_eq!(shared.level(), IN | OUT | EPOLLRDHUP);
    let (socket, shared, _inbox) = connection(Phase::Open);
    fill(&socket);
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(shared.level(), OUT, "writing does not wait");
    shared.stop();
    assert_eq!(shared.level(), closed, "the host is gone");
}

#[test]
fn datagrams_and_errors_are_told_as_linux_tells_them() {
    let (sockets, _inbox) = sockets();
    let bind = "0.0.0.0:7".parse().unwrap();
    let socket = sockets.udp_bind(bind, UdpOptions::default()).unwrap();
    let socket = socket.socket;
    let level = || socket.shared.level() & (EVERYTHING | EPOLLERR | EPOLLHUP);
    assert_eq!(level(), OUT);
    socket.shared.state().error = Some(SocketError::ConnectionRefused);
    assert_eq!(level(), OUT | EPOLLERR, "and nothing to read");
    assert!(socket.take_error().is_some());
    let to = "192.0.2.1:7".parse().unwrap();
    while socket.try_send(&[0; 60_000], Some(to)).is_ok() {}
    assert_eq!(level(), 0);
    socket.shared.fail();
    assert_eq!(level(), IN | OUT | EPOLLRDHUP | EPOLLHUP);
}

#[test]
fn what_came_before_is_told() {
    let (socket, shared, _inbox) = connection(Phase::Open);
    deliver(&shared, b"early");
    let set = selector();
    set.add(&socket.watched(), wanted(EPOLLIN | EPOLLET, 5))
        .unwrap();
    assert_eq!(now(&set, 8), [(EPOLLIN, 5)]);
    assert_eq!(now(&set, 8), [], "an edge is told once");
    set.modify(&socket.watched(), wanted(EPOLLIN | EPOLLET, 6))
        .unwrap();
    assert_eq!(now(&set, 8), [(EPOLLIN, 6)], "and again when it is changed");
    deliver(&shared, b"more");
    assert_eq!(now(&set, 8), [(EPOLLIN, 6)], "new data is a new edge");
    read(&socket, 3).unwrap();
    assert_eq!(now(&set, 8), [], "what is left unread is none");
}

#[test]
fn a_level_is_told_until_it_is_over() {
    let (socket, shared, _inbox) = connection(Phase::Open);
    let set = selector();
    set.add(&socket.watched(), wanted(EPOLLIN, 1)).unwrap();
    assert_eq!(now(&set, 8), []);
    deliver(&shared, b"ab");
    for _ in 0..3 {
        assert_eq!(now(&set, 8), [(EPOLLIN, 1)]);
    }
    read(&socket, 1).unwrap();
    assert_eq!(now(&set, 8), [(EPOLLIN, 1)]);
    read(&socket, 1).unwrap();
    assert_eq!(now(&set, 8), []);
    deliver(&shared, b"c");
    assert_eq!(now(&set, 8), [(EPOLLIN, 1)]);
}

#[test]
fn one_shot_is_told_once_until_it_is_changed() {
    let (socket, shared, _inbox) = connection(Phase::Open);
    let set = selector();
    let once = wanted(EPOLLIN | EPOLLONESHOT, 1);
    set.add(&socket.watched(), once).unwrap();
    deliver(&shared, b"a");
    assert_eq!(now(&set, 8), [(EPOLLIN, 1)]);
    deliver(&shared, b"b");
    shared.fail(None);
    assert_eq!(now(&set, 8), [], "not even the end");
    set.modify(&socket.watched(), once).unwrap();
    assert_eq!(now(&set, 8), [(EPOLLIN | EPOLLHUP, 1)]);
}

#[test]
fn room_is_an_edge_for_who_found_none() {
    let (socket, shared, _inbox) = connection(Phase::Open);
    let set = selector();
    set.add(&socket.watched(), wanted(EPOLLOUT | EPOLLET, 1))
        .unwrap();
    assert_eq!(now(&set, 8), [(EPOLLOUT, 1)]);
    write(&socket, 10).unwrap();
    take_written(&shared);
    assert_eq!(now(&set, 8), [], "there was room all the time");
    fill(&socket);
    take_written(&shared);
    assert_eq!(now(&set, 8), [(EPOLLOUT, 1)]);
    take_written(&shared);
    assert_eq!(now(&set, 8), []);
    // Whoever asks and is told that there is none waits, too.
    let full = socket.watched();
    set.delete(&full).unwrap();
    let mut left = Limits::MIN;
    while left > 0 {
        left -= write(&socket, left).unwrap();
    }
    assert!(!shared.state().nospace);
    set.add(&full, wanted(EPOLLOUT, 2)).unwrap();
    assert_eq!(now(&set, 8), []);
    take_written(&shared);
    assert_eq!(now(&set, 8), [(EPOLLOUT, 2)]);
}

#[test]
fn what_is_ready_and_deleted_is_not_told() {
    let (socket, shared, _inbox) = connection(Phase::Open);
    let set = selector();
    set.add(&socket.watched(), wanted(EPOLLIN, 1)).unwrap();
    deliver(&shared, b"a");
    set.delete(&socket.watched()).unwrap();
    assert_eq!(now(&set, 8), []);
    assert!(set.is_empty());
    set.add(&socket.watched(), wanted(EPOLLIN, 2)).unwrap();
    assert_eq!(now(&set, 8), [(EPOLLIN, 2)]);
}

#[test]
fn whoever_was_ready_first_is_told_first_and_nobody_starves() {
    let (sockets, _inbox) = sockets();
    let set = selector();
    let all: Vec<_> = (0..10).map(|_| of(&sockets, Phase::Open)).collect();
    for (at, (socket, _)) in all.iter().enumerate() {
        set.add(&socket.watched(), wanted(EPOLLIN, at as u64))
            .unwrap();
    }
    let order = [3, 1, 4, 5, 9, 2, 6, 0, 8, 7];
    for at in order {
        deliver(&all[at as usize].1, b"x");
    }
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.extend(now(&set, 4).into_iter().map(|(_, data)| data));
    }
    let expected: Vec<u64> = order.iter().cycle().take(20).copied().collect();
    assert_eq!(seen, expected);
}

#[test]
fn misuse_gets_the_errors_of_epoll_ctl() {
    let (socket, shared, _inbox) = connection(Phase::Open);
    let (other, _, _other_inbox) = connection(Phase::Open);
    let set = Selector::new(1).unwrap();
    let errno = |result: io::Result<()>| Errno::from_io_error(&result.unwrap_err()).unwrap();
    let watched = socket.watched();
    assert_eq!(
        errno(set.modify(&watched, wanted(EPOLLIN, 0))),
        Errno::NOENT
    );
    assert_eq!(errno(set.delete(&watched)), Errno::NOENT);
    let odd = wanted(EPOLLIN | EPOLLRDHUP | EPOLLEXCLUSIVE, 0);
    assert_eq!(errno(set.add(&watched, odd)), Errno::INVAL);
    assert!(set.is_empty());
    set.add(&watched, wanted(EPOLLIN, 0)).unwrap();
    assert_eq!(errno(set.add(&watched, wanted(EPOLLIN, 0))), Errno::EXIST);
    assert_eq!(errno(set.add(&watched, odd)), Errno::INVAL);
    let full = set.add(&other.watched(), wanted(EPOLLIN, 0));
    assert_eq!(errno(full), Errno::NOSPC);
    assert!(shared.state().watches.0.is_some());
    shared.stop();
    let stopped = set.modify(&watched, wanted(EPOLLIN, 0)).unwrap_err();
    assert_eq!(stopped.kind(), io::ErrorKind::NotConnected);
    set.delete(&watched).unwrap();
    assert!(set.add(&watched, wanted(EPOLLIN, 0)).is_err());
}

#[test]
fn of_exclusive_sets_one_sleeper_is_woken() {
    let (socket, shared, _inbox) = connection(Phase::Open);
    let sets: Vec<Selector> = (0..3).map(|_| selector()).collect();
    for set in &sets {
        let how = wanted(EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, 1);
        set.add(&socket.watched(), how).unwrap();
    }
    deliver(&shared, b"a");
    for set in &sets {
        assert_eq!(now(set, 8).len(), 1, "nobody slept: all keep it");
    }
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| within(&sets[1], 8, None));
        while lock(&sets[1].core.set).asleep == 0 {
            thread::yield_now();
        }
        deliver(&shared, b"b");
        assert_eq!(sleeper.join().unwrap().len(), 1);
    });
    assert_eq!(now(&sets[0], 8).len(), 1);
    assert_eq!(now(&sets[2], 8), [], "it was behind the one who was woken");
    end(&shared);
    for set in &sets {
        assert_eq!(now(set, 8).len(), 1, "a change of state is for all");
    }
}

#[test]
fn others_are_told_beside_an_exclusive_one() {
    let (socket, shared, _inbox) = connection(Phase::Open);
    let (alone, plain) = (selector(), selector());
    alone
        .add(&socket.watched(), wanted(EPOLLIN | EPOLLEXCLUSIVE, 1))
        .unwrap();
    plain.add(&socket.watched(), wanted(EPOLLIN, 2)).unwrap();
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| within(&alone, 8, None));
        while lock(&alone.core.set).asleep == 0 {
            thread::yield_now();
        }
        deliver(&shared, b"a");
        assert_eq!(sleeper.join().unwrap(), [(EPOLLIN, 1)]);
    });
    assert_eq!(now(&plain, 8), [(EPOLLIN, 2)]);
}

#[test]
fn a_socket_that_is_dropped_leaves_its_sets() {
    let (socket, shared, _inbox) = connection(Phase::Open);
    let set = selector();
    set.add(&socket.watched(), wanted(EPOLLIN, 1)).unwrap();
    deliver(&shared, b"a");
    drop(socket);
    assert!(set.is_empty());
    assert_eq!(now(&set, 8), []);
    // The shard may have taken the list of sets just before.
    deliver(&shared, b"b");
    assert_eq!(now(&set, 8), []);
}

#[test]
fn a_set_that_is_dropped_leaves_its_sockets_and_no_memory() {
    let (socket, shared, _inbox) = connection(Phase::Open);
    let set = selector();
    let core: Weak<Core> = Arc::downgrade(&set.core);
    let bell = Bell::new();
    set.add(&socket.watched(), wanted(EPOLLIN, 1)).unwrap();
    set.add(&bell.watched(), wanted(EPOLLIN, 2)).unwrap();
    // The shard has taken the list of sets, and not told them yet.
    let raised = shared.state().watches.raise(RAISED_IN);
    drop(set);
    assert!(shared.state().watches.0.is_none());
    raised.tell();
    assert!(core.upgrade().is_none());
    bell.ring();
    deliver(&shared, b"alive");
    assert_eq!(read(&socket, 8).unwrap(), 5);
    let record: Weak<TcpShared> = Arc::downgrade(&shared);
    drop((shared, socket, _inbox));
    assert!(record.upgrade().is_none());
}

/// What a turn has brought a socket, not told yet.
fn note(raises: &mut Raises, shared: &TcpShared, bytes: &[u8]) {
    let mut state = shared.state();
    state.rx.push(shared.door.chunks.copy_of(bytes));
    state.rx_len += bytes.len();
    let raised = state.watches.raise(RAISED_IN);
    drop(state);
    raises.push(raised);
}

#[test]
fn who_sleeps_is_woken_once_for_all_that_a_turn_brings() {
    let (sockets, _inbox) = sockets();
    let all: Vec<_> = (0..5).map(|_| of(&sockets, Phase::Open)).collect();
    let sets = [selector(), selector()];
    for (at, (socket, _)) in all.iter().enumerate() {
        let how = wanted(EPOLLIN | EPOLLET, at as u64);
        sets[at % 2].add(&socket.watched(), how).unwrap();
    }
    let mut raises = Raises::default();
    thread::scope(|scope| {
        let sleepers: Vec<_> = sets
            .iter()
            .map(|set| scope.spawn(|| within(set, 8, None)))
            .collect();
        while sets.iter().any(|set| lock(&set.core.set).asleep == 0) {
            thread::yield_now();
        }
        for at in [4, 2, 0, 3, 1, 2] {
            note(&mut raises, &all[at].1, b"x");
        }
        raises.tell();
        let told = sleepers.into_iter().map(|sleeper| sleeper.join().unwrap());
        let told: Vec<Vec<u64>> = told
            .map(|told| told.into_iter().map(|(_, data)| data).collect())
            .collect();
        assert_eq!(told, [vec![4, 2, 0], vec![3, 1]]);
    });
}

#[test]
fn what_a_turn_brings_is_told_however_much_it_is_and_whatever_goes_away() {
    let (sockets, _inbox) = sockets();
    let [first, second] = [selector(), selector()];
    let mut all: Vec<_> = (0..3).map(|_| of(&sockets, Phase::Open)).collect();
    let mut raises = Raises::default();
    for (at, (socket, _)) in all.iter().enumerate() {
        let exclusive = wanted(EPOLLIN | EPOLLEXCLUSIVE, at as u64);
        first.add(&socket.watched(), exclusive).unwrap();
    }
    second.add(&all[1].0.watched(), wanted(EPOLLIN, 7)).unwrap();
    for (_, shared) in &all {
        note(&mut raises, shared, b"x");
    }
    // The handle goes before the turn is over, and so does the other set.
    drop(all.swap_remove(0));
    drop(second);
    raises.tell();
    assert_eq!(now(&first, 8), [(EPOLLIN, 1), (EPOLLIN, 2)]);

    // More than is kept, and what is left when the shard ends.
    let (socket, shared) = of(&sockets, Phase::Open);
    let set = selector();
    set.add(&socket.watched(), wanted(EPOLLIN | EPOLLET, 3))
        .unwrap();
    for _ in 0..=TOLD {
        note(&mut raises, &shared, b"x");
    }
    assert_eq!(raises.0.len(), 1);
    assert_eq!(now(&set, 8), [(EPOLLIN, 3)]);
    drop(raises);
    assert_eq!(now(&set, 8), [(EPOLLIN, 3)]);
}

#[test]
fn a_bell_is_told_once_for_all_its_rings_and_wakes_from_any_thread() {
    let set = selector();
    let bell = Bell::new();
    set.add(&bell.watched(), wanted(EPOLLIN | EPOLLET, 9))
        .unwrap();
    assert_eq!(now(&set, 8), []);
    bell.ring();
    bell.ring();
    assert_eq!(now(&set, 8), [(EPOLLIN, 9)]);
    assert_eq!(now(&set, 8), []);
    thread::scope(|scope| {
        scope.spawn(|| bell.ring());
        assert_eq!(within(&set, 8, None), [(EPOLLIN, 9)]);
    });
    drop(bell);
    assert!(set.is_empty());
}

#[test]
fn waiting_ends_when_the_time_is_up() {
    let set = selector();
    for timeout in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_millis(2),
    ] {
        let begin = Instant::now();
        assert_eq!(within(&set, 8, Some(timeout)), []);
        assert!(begin.elapsed() >= timeout);
    }
    // What is raised and not ready does not end it.
    let (socket, shared, _inbox) = connection(Phase::Open);
    fill(&socket);
    set.add(&socket.watched(), wanted(EPOLLOUT, 1)).unwrap();
    let timeout = Duration::from_millis(20);
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| shared.state().watches.raise(RAISED_OUT).tell());
        assert_eq!(within(&set, 8, Some(timeout)), []);
    });
    assert!(begin.elapsed() >= timeout);
}

/// Changes by one thread, waits by another that never times out: each change must be told.
#[test]
fn no_wake_up_is_lost() {
    let rounds: u32 = std::env::var("WATCH_ROUNDS").map_or(20_000, |n| n.parse().unwrap());
    let (socket, shared, _inbox) = connection(Phase::Open);
    let set = selector();
    set.add(&socket.watched(), wanted(EPOLLIN | EPOLLET, 1))
        .unwrap();
    let (back, turn) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let shared = &shared;
        scope.spawn(move || {
            for _ in 0..rounds {
                deliver(shared, b"x");
                turn.recv().unwrap();
            }
        });
        for _ in 0..rounds {
            while read(&socket, 8).is_err() {
                assert_eq!(within(&set, 8, None).len(), 1);
            }
            back.send(()).unwrap();
        }
    });
}

/// Registering, dropping, raising and waiting at once: nothing hangs, nothing is left.
#[test]
fn a_storm_of_changes_ends_in_order() {
    let (sockets, _inbox) = sockets();
    let set = selector();
    let bell = Bell::new();
    set.add(&bell.watched(), wanted(EPOLLIN | EPOLLET, u64::MAX))
        .unwrap();
    thread::scope(|scope| {
        let storm: Vec<_> = (0..2u64)
            .map(|thread| {
                let (set, sockets) = (&set, &sockets);
                scope.spawn(move || {
                    for round in 0..2_000 {
                        let (socket, shared) = of(sockets, Phase::Open);
                        let watched = socket.watched();
                        let how = wanted(EVERYTHING & !EPOLLOUT, thread);
                        set.add(&watched, how).unwrap();
                        deliver(&shared, b"x");
                        match round % 3 {
                            0 => set.delete(&watched).unwrap(),
                            1 => set.modify(&watched, wanted(EPOLLOUT, thread)).unwrap(),
                            _ => {}
                        }
                        drop(socket);
                        deliver(&shared, b"late");
                    }
                })
            })
            .collect();
        let waiter = scope.spawn(|| {
            while !within(&set, 3, None)
                .iter()
                .any(|(_, data)| *data == u64::MAX)
            {}
        });
        for thread in storm {
            thread.join().unwrap();
        }
        bell.ring();
        waiter.join().unwrap();
    });
    assert_eq!(set.len(), 1, "the bell is left");
}

/// However much room there is, so many are told at a time that whoever raises the set need not wait long; the rest comes next, in
/// its order, and what stays ready behind it.
#[test]
fn so_many_are_told_at_a_time() {
    const BELLS: u64 = 1_000;
    for how in [EPOLLIN | EPOLLET, EPOLLIN] {
        let selector = Selector::new(BELLS as u32).unwrap();
        let bells: Vec<Bell> = (0..BELLS).map(|_| Bell::new()).collect();
        for (n, bell) in (0..).zip(&bells) {
            selector.add(&bell.watched(), wanted(how, n)).unwrap();
            bell.ring();
        }
        let mut told = Vec::new();
        while told.len() < BELLS as usize {
            let before = told.len();
            let now = Some(Duration::ZERO);
            let n = selector.wait(usize::MAX, now, &mut |event| told.push(event.data));
            assert!((1..=256).contains(&n) && told.len() == before + n);
        }
        let again = told.split_off(BELLS as usize);
        assert!(told.into_iter().eq(0..BELLS));
        assert!(again.is_empty() || how == EPOLLIN);
    }
}
