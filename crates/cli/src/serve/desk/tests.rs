//! What a host that has something to tell answers.

use std::time::{Duration, Instant};

use millstream::completion::{BufferGroup, Op, QueueOptions};
use millstream::port::ring::{RingOptions, pair};
use millstream::{Config, ConnectionInfo, Interest, Poll, Token};
use wire::Mac;

use super::*;

/// 10.77.0.1 and 10.77.0.2, joined by memory.
fn hosts() -> (Host, Host) {
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let (a, b) = pair(macs, &RingOptions::default()).unwrap();
    let host = |port, own: &str| {
        let config = Config {
            pool_blocks: 4_096,
            tcp_account: true,
            duplicate_detection: false,
            ..Config::default()
        };
        let builder = Host::builder().port(port).address(own).config(config);
        builder.start().unwrap()
    };
    (host(a, "10.77.0.1/24"), host(b, "10.77.0.2/24"))
}

fn ask(desk: &Desk, question: Question) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(desk.answer(question)).unwrap()
}

/// Asks until the census is as it will be.
fn census(desk: &Desk, is: impl Fn(&Census) -> bool) -> Census {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let Answer::Census(census) = ask(desk, Question::Census) else {
            panic!("no census");
        };
        if is(&census) {
            return *census;
        }
        assert!(Instant::now() < patience, "{census:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn connections_are_counted_by_state_and_application() {
    let (a, b) = hosts();
    let desk = Desk { host: b.clone() };
    let listener = b.tcp_listen("10.77.0.2:80").unwrap();
    let clients: Vec<_> = (0..10)
        .map(|_| a.tcp_connect("10.77.0.2:80").unwrap())
        .collect();
    let held: Vec<_> = (0..10).map(|_| listener.accept().unwrap()).collect();
    drop(clients);
    let all_in = |census: &Census, state: &str| matches!(&census.groups[..], [group] if group.state == state && group.count == 10);
    let seen = census(&desk, |census| all_in(census, "CLOSE-WAIT"));
    let group = &seen.groups[0];
    assert_eq!(group.app, "10.77.0.2:80".parse().unwrap());
    assert!(group.serves && group.held);
    assert_eq!(group.peers, [("10.77.0.1".parse().unwrap(), 10)]);
    assert_eq!(seen.tables.connections.0, 10);
    drop(held);
    census(&desk, |census| census.tables.connections.0 == 0);
    // What is done from the other end is named by where it goes.
    let far = census(&Desk { host: a }, |census| all_in(census, "TIME-WAIT"));
    let group = &far.groups[0];
    assert_eq!(group.app, "10.77.0.2:80".parse().unwrap());
    assert!(!group.serves && !group.held);
}

/// A host that calls many peers has more groups than are told.
#[test]
fn connections_that_are_in_no_group_are_counted() {
    let mut fold = census::Fold::default();
    for n in 0..6_000_u32 {
        let [.., a, b] = n.to_be_bytes();
        let orphan = n % 3 == 0;
        fold.take(&SocketRow {
            transport: Transport::Tcp,
            socket: ConnectionInfo {
                socket: None,
                local: "10.77.0.1:40000".parse().unwrap(),
                remote: SocketAddr::from(([10, 78, a, b], 80)),
                state: match orphan {
                    true => State::LastAck,
                    false => State::TimeWait,
                },
                receive_queue: 0,
                send_queue: 5,
                rtt: Duration::ZERO,
                cwnd: 0,
            },
            buffers: (0, 0),
            dropped: 0,
            tcp: None,
            listener: None,
        });
    }
    assert_eq!((fold.sockets, fold.orphans), (6_000, (2_000, 10_000)));
    assert!(fold.finish().0.len() < 1_000);
}

#[test]
fn a_listener_tells_of_its_queues() {
    let (a, b) = hosts();
    let desk = Desk { host: b.clone() };
    let _listener = b.tcp_listen_backlog("10.77.0.2:80", 1).unwrap();
    let at = "10.77.0.2:80".parse().unwrap();
    let connect = || a.tcp_begin_connect(at).unwrap();
    let queued = |connections: u32, waiting: u32| {
        census(&desk, |census| match &census.listeners[..] {
            [one] => {
                let there = (census.tables.connections.0, one.queues.accept_queue);
                there == (connections, waiting)
            }
            _ => false,
        });
    };
    // The first is taken out before anybody asks for it.
    let mut clients = vec![connect()];
    queued(1, 0);
    clients.extend([connect(), connect()]);
    queued(3, 2);
    clients.push(connect());
    let seen = census(&desk, |census| census.listeners[0].queues.overflows > 0);
    let queues = seen.listeners[0].queues;
    assert_eq!((queues.accept_queue, queues.backlog), (2, 1));
    assert!(queues.drops >= queues.overflows);
    let filter = Filter {
        tcp: true,
        udp: false,
        v4: true,
        v6: true,
        states: states("listening").unwrap(),
        sport: Some(80),
        dport: None,
    };
    let place = None;
    let Answer::Sockets(page) = ask(&desk, Question::Sockets { filter, place }) else {
        panic!("no sockets");
    };
    assert_eq!((page.sockets[0].recv_q, page.sockets[0].send_q), (2, 1));
    assert_eq!(page.sockets[0].listener.unwrap().accept_queue, 2);
}

#[test]
fn sets_queues_and_buffers_are_told() {
    let (a, b) = hosts();
    let listener = b.tcp_listen("10.77.0.2:80").unwrap();
    let poll = Poll::new().unwrap();
    let registry = poll.registry();
    registry
        .register(&listener, Token(0), Interest::READABLE)
        .unwrap();
    let _client = a.tcp_connect("10.77.0.2:80").unwrap();
    let options = QueueOptions {
        capacity: 16,
        workers: 2,
    };
    let queue = b.completion_queue(options).unwrap();
    let hour = Op::timeout(Duration::from_secs(3600));
    queue.submit(hour).unwrap();
    queue.post(1, 2, 3).unwrap();
    let _group = BufferGroup::new(4, 321);
    let patience = Instant::now() + Duration::from_secs(20);
    let objects = loop {
        let Answer::Objects(objects) = ask(&Desk { host: b.clone() }, Question::Objects) else {
            panic!("no objects");
        };
        // The connection is told to the set by another thread.
        let told = objects.sets.iter().any(|set| set.ready == 1);
        if told {
            break objects;
        }
        assert!(Instant::now() < patience, "{objects:?}");
    };
    let set = objects.sets.iter().find(|set| set.ready == 1).unwrap();
    assert_eq!((set.watched, set.waiters), (1, 0));
    let [queue] = &objects.queues[..] else {
        panic!("{objects:?}");
    };
    assert_eq!((queue.outstanding, queue.completions), (2, 1));
    assert_eq!((queue.capacity, queue.concurrency), (16, 2));
    let group = objects.groups.iter().find(|group| group.size_bytes == 321);
    assert_eq!(
        group.map(|group| (group.buffers, group.available)),
        Some((4, 4))
    );
    assert_eq!(objects.buffers.blocks, 4_096);
    assert!(objects.buffers.high_water > 0, "packets came in");
}

#[test]
fn states_have_the_names_of_ss() {
    let bit = SocketFilter::bit;
    assert_eq!(states("established"), Some(bit(State::Established)));
    assert_eq!(states("ESTAB"), states("established"));
    assert_eq!(states("fin-wait-1"), Some(bit(State::FinWait1)));
    assert_eq!(states("fin_wait_1"), states("fin-wait-1"));
    assert_eq!(states("flying"), None);
    let all = states("all").unwrap();
    assert_eq!(all.count_ones(), 11);
    assert_eq!(states("connected").unwrap().count_ones(), 9);
    assert_eq!(states("bucket").unwrap() | states("big").unwrap(), all);
    let default = states("default").unwrap();
    assert_eq!(default & states("listening").unwrap(), 0);
    assert_eq!(default & bit(State::TimeWait), 0);
}
