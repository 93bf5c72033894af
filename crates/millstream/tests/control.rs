//! What a host that has something to tell answers to tools, over its socket.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use control::states;
use control::words::census::Census;
use control::words::socket::Filter;
use control::words::{Answer, Question};
use millstream::completion::{BufferGroup, Op, QueueOptions};
use millstream::control::Control;
use millstream::port::ring::{RingOptions, pair};
use millstream::{Config, Host, Interest, Mac, Poll, Token};
use tempfile::TempDir;

/// Where somebody asks a host.
struct Desk(BufReader<UnixStream>);

impl Desk {
    fn new(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("{name}.{}.sock", std::process::id()));
        Self(BufReader::new(UnixStream::connect(path).unwrap()))
    }

    fn try_ask(&mut self, question: &Question) -> Result<Answer, String> {
        let mut text = serde_json::to_vec(question).unwrap();
        text.push(b'\n');
        self.0.get_mut().write_all(&text).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Nothing comes any more: it was shut, or nobody had let it in yet.
    fn has_ended(&mut self) -> bool {
        !matches!(self.0.read_line(&mut String::new()), Ok(1..))
    }

    fn ask(&mut self, question: &Question) -> Answer {
        self.try_ask(question).unwrap()
    }

    /// Asks until the census is as it will be.
    fn census(&mut self, is: impl Fn(&Census) -> bool) -> Census {
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let Answer::Census(census) = self.ask(&Question::Census) else {
                panic!("no census");
            };
            if is(&census) {
                return *census;
            }
            assert!(Instant::now() < patience, "{census:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// 10.77.0.1 and 10.77.0.2, joined by memory, and who asks them. The folder is theirs.
struct Hosts {
    a: Host,
    b: Host,
    ask_a: Desk,
    ask_b: Desk,
    folder: TempDir,
}

fn hosts() -> Hosts {
    hosts_of(1)
}

/// Each of so many shards.
fn hosts_of(shards: usize) -> Hosts {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let (a, b) = pair(macs, &RingOptions::default()).unwrap();
    let host = |port, name: &str, own: &str| {
        let config = Config {
            pool_blocks: 4_096,
            tcp_account: true,
            duplicate_detection: false,
            ..Config::default()
        };
        let builder = Host::builder().port(port).address(own).config(config);
        let control = Control::open_in(&run, name).unwrap();
        builder
            .shards(shards)
            .control_with(control)
            .start()
            .unwrap()
    };
    let (a, b) = (host(a, "a", "10.77.0.1/24"), host(b, "b", "10.77.0.2/24"));
    let (ask_a, ask_b) = (Desk::new(&run, "a"), Desk::new(&run, "b"));
    Hosts {
        a,
        b,
        ask_a,
        ask_b,
        folder,
    }
}

#[test]
fn connections_are_counted_by_state_and_application() {
    let Hosts {
        a,
        b,
        mut ask_a,
        mut ask_b,
        folder: _folder,
    } = hosts();
    let listener = b.tcp_listen("10.77.0.2:80").unwrap();
    let clients: Vec<_> = (0..10)
        .map(|_| a.tcp_connect("10.77.0.2:80").unwrap())
        .collect();
    let held: Vec<_> = (0..10).map(|_| listener.accept().unwrap()).collect();
    drop(clients);
    let all_in = |census: &Census, state: &str| matches!(&census.groups[..], [group] if group.state == state && group.count == 10);
    let seen = ask_b.census(|census| all_in(census, "CLOSE-WAIT"));
    let group = &seen.groups[0];
    assert_eq!(group.app, "10.77.0.2:80".parse().unwrap());
    assert!(group.serves && group.held);
    assert_eq!(group.peers, [("10.77.0.1".parse().unwrap(), 10)]);
    assert_eq!(seen.tables.connections.0, 10);
    drop(held);
    ask_b.census(|census| census.tables.connections.0 == 0);
    // What is done from the other end is named by where it goes.
    let far = ask_a.census(|census| all_in(census, "TIME-WAIT"));
    let group = &far.groups[0];
    assert_eq!(group.app, "10.77.0.2:80".parse().unwrap());
    assert!(!group.serves && !group.held);
}

#[test]
fn a_listener_tells_of_its_queues() {
    let Hosts {
        a,
        b,
        mut ask_b,
        folder: _folder,
        ..
    } = hosts();
    let _listener = b.tcp_listen_backlog("10.77.0.2:80", 1).unwrap();
    let at = "10.77.0.2:80".parse().unwrap();
    let connect = || a.tcp_begin_connect(at).unwrap();
    let mut queued = |connections: u32, waiting: u32| {
        ask_b.census(|census| match &census.listeners[..] {
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
    let seen = ask_b.census(|census| census.listeners[0].queues.overflows > 0);
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
    let Answer::Sockets(page) = ask_b.ask(&Question::Sockets { filter, place }) else {
        panic!("no sockets");
    };
    assert_eq!((page.sockets[0].recv_q, page.sockets[0].send_q), (2, 1));
    assert_eq!(page.sockets[0].listener.unwrap().accept_queue, 2);
}

#[test]
fn sets_queues_and_buffers_are_told() {
    let Hosts {
        a,
        b,
        mut ask_b,
        folder: _folder,
        ..
    } = hosts();
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
        let Answer::Objects(objects) = ask_b.ask(&Question::Objects) else {
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

/// What is asked of one host goes to all its shards; its listener has a part on each.
#[test]
fn a_host_of_several_shards_is_one_to_who_asks() {
    let Hosts {
        a,
        b,
        mut ask_b,
        folder: _folder,
        ..
    } = hosts_of(2);
    let listener = b.tcp_listen("10.77.0.2:80").unwrap();
    let clients: Vec<_> = (0..8)
        .map(|_| a.tcp_connect("10.77.0.2:80").unwrap())
        .collect();
    let _held: Vec<_> = (0..8).map(|_| listener.accept().unwrap()).collect();
    let seen = ask_b.census(|census| census.tables.connections.0 == 8);
    let [group] = &seen.groups[..] else {
        panic!("{:?}", seen.groups);
    };
    assert_eq!((group.state.as_str(), group.count), ("ESTAB", 8));
    assert_eq!((seen.listeners.len(), seen.buffers.blocks), (2, 2 * 4_096));
    let set = |value: &str| Question::Set {
        name: "syncookies".into(),
        value: value.into(),
    };
    assert_eq!(ask_b.ask(&set("2")), Answer::Done);
    let refused = ask_b.try_ask(&set("3")).unwrap_err();
    assert_eq!(refused, "syncookies = 3: must be from 0 to 2");
    drop(clients);
}

/// However the host ends: nobody can ask it any more, who had asked is told so, and the name is free.
#[test]
fn with_the_host_goes_its_socket() {
    let ends: [fn(Host); 2] = [|host| drop(host), |host| host.stop().unwrap()];
    for end in ends {
        let Hosts {
            a: _a,
            b,
            mut ask_a,
            mut ask_b,
            folder,
        } = hosts();
        let run = folder.path().join("run");
        assert_eq!(control::folder::sockets(&run).len(), 2);
        end(b);
        let left = control::folder::sockets(&run);
        assert!(left.iter().all(|(name, ..)| name == "a"), "{left:?}");
        assert!(ask_b.has_ended());
        drop(Control::open_in(&run, "b").unwrap());
        // The other has lost its only port by that, and ends by itself, though the program still holds it.
        assert!(ask_a.has_ended());
        let patience = Instant::now() + Duration::from_secs(20);
        while !control::folder::sockets(&run).is_empty() {
            assert!(Instant::now() < patience);
            std::thread::yield_now();
        }
    }
}

/// An application on the shard itself, run by a thread of the program's.
#[test]
fn a_shard_of_ones_own_is_asked_as_well() {
    use millstream::shard::{App, Event, ShardCx};
    struct Listens;
    impl App for Listens {
        type Command = ();

        fn on_start(&mut self, cx: &mut ShardCx<'_>) {
            let local = "127.0.0.1:7".parse().unwrap();
            cx.host
                .tcp_listen(cx.now, local, 128, &Default::default())
                .unwrap();
        }

        fn on_event(&mut self, _: &mut ShardCx<'_>, _: Event) {}
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let control = Control::open_in(&run, "own").unwrap();
    let shard = Host::builder()
        .control_with(control)
        .build_with(Listens)
        .unwrap();
    let mut thread = shard.spawn().unwrap();
    let census = Desk::new(&run, "own").census(|census| !census.listeners.is_empty());
    assert_eq!(census.listeners[0].local, "127.0.0.1:7".parse().unwrap());
    thread.stop().unwrap();
    assert_eq!(control::folder::sockets(&run), []);
}

#[test]
fn a_host_that_cannot_be_asked_says_why_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let why = Control::open_in(&file, "web").unwrap_err().to_string();
    assert!(
        why.contains("is not safe: it is no folder; remove it, or set MILLSTREAM_RUNTIME_DIR"),
        "{why}"
    );
    let why = Host::builder().control("").start().unwrap_err().to_string();
    assert_eq!(why, "a host that is to be asked needs a name; give it one");
    // What was wrong first is told, as of all that a builder is told.
    let why = Host::builder()
        .gateway("10.77.0.1")
        .control("")
        .start()
        .unwrap_err();
    assert!(why.to_string().starts_with("a gateway needs a port"));
}
