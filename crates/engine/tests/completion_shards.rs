//! Completion queues over hosts of several shards: operations find the shard of their socket, and what is done comes out at one place.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // what others need of it
mod bench;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use base::epoll::EPOLLIN;
use bench::{Bench, LONG, address, done, errno, listen, next};
use engine::completion::{BufferGroup, Completion, CompletionQueue, Handle, Op};
use rustix::io::Errno;

/// Long enough for what would come to have come.
const SHORT: Option<Duration> = Some(Duration::from_millis(30));

fn quiet(queue: &CompletionQueue) {
    assert_eq!(queue.wait(&mut Vec::new(), 1, SHORT).unwrap(), 0);
}

/// So many connections: both ends of each, in one order.
fn connections(client: &CompletionQueue, server: &CompletionQueue, n: usize) -> Vec<[Handle; 2]> {
    let (listener, at) = listen(server);
    let pairs = (0..n).map(|_| {
        let near = done(client, Op::connect(at, 7)).socket.unwrap();
        let far = done(server, Op::accept(listener, 8)).socket.unwrap();
        [near, far]
    });
    let pairs = pairs.collect();
    assert!(done(server, Op::close(listener)).result.is_ok());
    pairs
}

/// Whether two sockets of a queue are on one shard: a splice between others is refused.
fn together(queue: &CompletionQueue, [a, b]: [Handle; 2]) -> bool {
    queue.submit(Op::splice(a, b, 1).token(1)).unwrap();
    queue.submit(Op::cancel(a, 1).token(2)).unwrap();
    let over = [next(queue), next(queue)];
    let splice = over.iter().find(|over| over.token == 1).unwrap();
    match errno(splice) {
        Errno::XDEV => false,
        error => {
            assert_eq!(error, Errno::CANCELED);
            true
        }
    }
}

/// The first of `ends`, and one on another shard.
fn apart(queue: &CompletionQueue, ends: &[Handle]) -> [Handle; 2] {
    let other = ends[1..]
        .iter()
        .find(|other| !together(queue, [ends[0], **other]));
    [
        ends[0],
        *other.expect("a dozen flows on one shard of three"),
    ]
}

#[test]
fn a_listener_accepts_on_all_shards() {
    let bench = Bench::of(3);
    let (client, server) = bench.queues(256);
    let (listener, at) = listen(&server);
    server.submit(Op::poll(listener, EPOLLIN).token(9)).unwrap();
    quiet(&server);
    for _ in 0..12 {
        assert!(done(&client, Op::connect(at, 0)).result.is_ok());
    }
    let polled = next(&server);
    assert_eq!(polled.token, 9);
    assert_eq!(polled.result.unwrap() as u32 & EPOLLIN, EPOLLIN);
    // Accepts of all kinds bring each connection once, with the word that was asked for.
    let mut ends = Vec::new();
    let mut peers = HashSet::new();
    let mut keep = |accepted: Completion, key| {
        assert_eq!(accepted.key, key);
        assert!(peers.insert(accepted.address.unwrap()));
        ends.push(accepted.socket.unwrap());
    };
    for key in 20..24 {
        keep(done(&server, Op::accept(listener, key)), key);
    }
    server
        .submit(Op::accept_multishot(listener, 30).token(3))
        .unwrap();
    for _ in 4..12 {
        let accepted = next(&server);
        assert!(accepted.more);
        keep(accepted, 30);
    }
    for _ in 0..6 {
        assert!(done(&client, Op::connect(at, 0)).result.is_ok());
        keep(next(&server), 30);
    }
    quiet(&server);
    // The sockets know their words, wherever they are.
    for (n, end) in ends.iter().enumerate() {
        let sent = done(&server, Op::send(*end, vec![1; 9]));
        assert_eq!(sent.key, if n < 4 { 20 + n as u64 } else { 30 });
        assert_eq!(sent.result.unwrap(), 9);
    }
    assert_eq!(apart(&server, &ends)[0], ends[0]);
    // Closing it ends the accept, and nothing listens any more.
    server.submit(Op::close(listener).token(4)).unwrap();
    let over = [next(&server), next(&server)];
    assert_eq!(over.each_ref().map(|over| over.token), [3, 4]);
    assert_eq!(errno(&over[0]), Errno::CANCELED);
    assert!(over[1].result.is_ok());
    for _ in 0..6 {
        let refused = done(&client, Op::connect(at, 0)).result.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

/// A part that may not listen has the others closed again.
#[test]
fn a_port_that_is_taken_is_taken_on_all_shards() {
    let bench = Bench::of(3);
    let (_, server) = bench.queues(16);
    let (listener, at) = listen(&server);
    let taken = done(&server, Op::listen(at, 4, 2));
    assert_eq!(taken.result.unwrap_err().kind(), ErrorKind::AddrInUse);
    // It is free on one shard only.
    assert!(done(&server, Op::close(listener)).result.is_ok());
    for _ in 0..3 {
        let again = done(&server, Op::listen(at, 4, 2));
        assert!(
            done(&server, Op::close(again.socket.unwrap()))
                .result
                .is_ok()
        );
    }
    assert_eq!(bench.sockets_of_b(), 0);
}

/// Connections that nobody accepted are reset with their listener, and so are those whose first bytes have not come.
#[test]
fn what_nobody_accepted_is_reset_on_all_shards() {
    let bench = Bench::of(3);
    let (client, server) = bench.queues(256);
    let (listener, at) = listen(&server);
    let group = BufferGroup::new(16, 64);
    for round in 0..2 {
        if round == 1 {
            for n in 0..12 {
                let accept = Op::accept(listener, n).first_bytes_in(&group);
                server.submit(accept.token(n)).unwrap();
            }
        }
        let ends: Vec<_> = (0..12)
            .map(|_| done(&client, Op::connect(at, 0)).socket.unwrap())
            .collect();
        quiet(&server);
        if round == 1 {
            // One has said something.
            assert!(
                done(&client, Op::send(ends[5], b"hello".to_vec()))
                    .result
                    .is_ok()
            );
            let first = next(&server);
            assert_eq!((first.bytes(), first.key), (&b"hello"[..], first.token));
            server.submit(Op::cancel_all(listener).token(99)).unwrap();
            let mut over: Vec<_> = (0..12).map(|_| next(&server)).collect();
            let last = over.pop().unwrap();
            assert_eq!((last.token, last.result.unwrap()), (99, 11));
            assert!(over.iter().all(|over| errno(over) == Errno::CANCELED));
            assert!(done(&server, Op::close(listener)).result.is_ok());
        }
        for (n, end) in ends.into_iter().enumerate() {
            if round == 1 && n != 5 {
                let reset = done(&client, Op::receive(end, vec![0; 4]));
                assert_eq!(reset.result.unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
        }
        if round == 0 {
            for n in 0..12 {
                let accepted = done(&server, Op::accept(listener, n));
                assert!(
                    done(&server, Op::close(accepted.socket.unwrap()))
                        .result
                        .is_ok()
                );
            }
        }
    }
    let (listener, at) = listen(&server);
    let ends: Vec<_> = (0..12)
        .map(|_| done(&client, Op::connect(at, 0)).socket.unwrap())
        .collect();
    assert!(done(&server, Op::close(listener)).result.is_ok());
    for end in ends {
        let reset = done(&client, Op::receive(end, vec![0; 4]));
        assert_eq!(reset.result.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn links_go_from_shard_to_shard() {
    let bench = Bench::of(3);
    let (client, server) = bench.queues(64);
    let pairs = connections(&client, &server, 12);
    let ends: Vec<_> = pairs.iter().map(|pair| pair[1]).collect();
    let [one, other] = apart(&server, &ends);
    let near = |end: Handle| pairs.iter().find(|pair| pair[1] == end).unwrap()[0];
    // What is heard on one is answered on the other, in this order.
    let chain = Op::receive(one, vec![0; 8])
        .token(1)
        .then(Op::send(other, b"there".to_vec()).token(2))
        .then(Op::send(one, b"here".to_vec()).token(3))
        .then(Op::timeout(Duration::from_millis(1)).token(4))
        .then(Op::connect(address(2, 9), 0).token(5))
        .then(Op::close(one).token(6));
    server.submit(chain).unwrap();
    quiet(&server);
    assert!(
        done(&client, Op::send(near(one), vec![7; 3]))
            .result
            .is_ok()
    );
    let over: Vec<_> = (0..6).map(|_| next(&server)).collect();
    let tokens: Vec<u64> = over.iter().map(|over| over.token).collect();
    assert_eq!(tokens, [1, 2, 3, 4, 5, 6]);
    assert!(over[..4].iter().all(|over| over.result.is_ok()));
    assert_eq!(errno(&over[4]), Errno::CONNREFUSED);
    assert_eq!(
        errno(&over[5]),
        Errno::CANCELED,
        "what comes after a failure"
    );
    let heard = done(&client, Op::receive(near(other), vec![0; 9]));
    assert_eq!(heard.bytes(), b"there");
}

#[test]
fn a_splice_stays_on_its_shard() {
    let bench = Bench::of(2);
    let (client, server) = bench.queues(64);
    let pairs = connections(&client, &server, 12);
    let near = |end: Handle| pairs.iter().find(|pair| pair[1] == end).unwrap()[0];
    let ends: Vec<_> = pairs.iter().map(|pair| pair[1]).collect();
    let [one, other] = apart(&server, &ends);
    assert_eq!(
        errno(&done(&server, Op::splice(one, other, 9))),
        Errno::XDEV
    );
    assert_eq!(
        errno(&done(&server, Op::splice(other, one, 9))),
        Errno::XDEV
    );
    let mut rest = ends[1..].iter();
    let to = *rest.find(|to| together(&server, [one, **to])).unwrap();
    server.submit(Op::splice(one, to, 5)).unwrap();
    assert!(
        done(&client, Op::send(near(one), b"bytes".to_vec()))
            .result
            .is_ok()
    );
    let got = done(&client, Op::receive_all(near(to), vec![0; 5]));
    assert_eq!(got.bytes(), b"bytes");
    assert_eq!(next(&server).result.unwrap(), 5);
}

/// Of several under one word the last that was handed in, wherever they are.
#[test]
fn a_word_names_the_last_on_any_shard() {
    let bench = Bench::of(3);
    let (client, _server) = bench.queues(64);
    // Connects to nobody are on the shards in turn.
    for n in 0..9 {
        let connect = Op::connect(address(99, 1), n).token(7);
        client.submit(connect).unwrap();
        quiet(&client);
    }
    for n in (0..9).rev() {
        client.submit(Op::cancel_token(7).token(8)).unwrap();
        let over = next(&client);
        assert_eq!(
            (over.token, over.key, errno(&over)),
            (7, n, Errno::CANCELED)
        );
        let told = next(&client);
        assert_eq!((told.token, told.result.unwrap()), (8, 1));
    }
    assert_eq!(errno(&done(&client, Op::cancel_token(7))), Errno::NOENT);
}

#[test]
fn datagram_sockets_are_on_the_shards_of_their_ports() {
    let bench = Bench::of(3);
    let (client, server) = bench.queues(64);
    let near = done(&client, Op::bind(address(1, 0), 0)).socket.unwrap();
    let mut sockets = Vec::new();
    for port in 50..56 {
        let bound = done(&server, Op::bind(address(2, port), port.into()));
        let (socket, at) = (bound.socket.unwrap(), bound.address.unwrap());
        assert_eq!(at, address(2, port));
        server.submit(Op::receive(socket, vec![0; 9])).unwrap();
        assert!(
            done(&client, Op::send_to(near, vec![port as u8], at))
                .result
                .is_ok()
        );
        let got = next(&server);
        assert_eq!((got.bytes(), got.key), (&[port as u8][..], port.into()));
        let back = Op::send_to(socket, vec![1, 2], got.address.unwrap());
        assert!(done(&server, back).result.is_ok());
        assert_eq!(done(&client, Op::receive(near, vec![0; 9])).bytes(), [1, 2]);
        sockets.push(socket);
    }
    let taken = done(&server, Op::bind(address(2, 53), 0));
    assert_eq!(taken.result.unwrap_err().kind(), ErrorKind::AddrInUse);
    // Closed, its port is free, and may be on another shard.
    assert!(done(&server, Op::close(sockets[3])).result.is_ok());
    let again = done(&server, Op::bind(address(2, 53), 0));
    assert_eq!(again.address.unwrap(), address(2, 53));
    let any: HashSet<_> = (0..20)
        .map(|_| done(&server, Op::bind(address(2, 0), 0)).address.unwrap())
        .collect();
    assert_eq!(any.len(), 20);
}

/// What multishot operations bring is held back on all shards while nobody takes it, and nothing is lost.
#[test]
fn a_queue_is_bounded_on_all_shards() {
    const CAPACITY: usize = 48;
    let bench = Bench::of(3);
    let client = bench.a.completion_queue(256, 1).unwrap();
    let server = bench.b.completion_queue(CAPACITY, 1).unwrap();
    let pairs = connections(&client, &server, 12);
    let group = BufferGroup::new(400, 16);
    for (n, [_, far]) in pairs.iter().enumerate() {
        let receive = Op::receive_multishot(*far, &group).token(n as u64);
        server.submit(receive).unwrap();
    }
    const EACH: usize = 16 * 64;
    for [near, _] in &pairs {
        assert!(done(&client, Op::send(*near, vec![1; EACH])).result.is_ok());
    }
    let waiting = || bench.b.completion_queues()[0].completions as usize;
    let end = Instant::now() + Duration::from_secs(20);
    while waiting() < CAPACITY {
        assert!(Instant::now() < end, "{} wait", waiting());
    }
    std::thread::sleep(SHORT.unwrap());
    let most = CAPACITY + CAPACITY / 2 + 3;
    assert!(waiting() <= most, "{} wait", waiting());
    let mut got = vec![0; pairs.len()];
    while got.iter().any(|n| *n < EACH) {
        let received = next(&server);
        assert!(received.more, "{received:?}");
        got[received.token as usize] += received.bytes().len();
        assert!(waiting() <= most, "{} wait", waiting());
    }
    assert_eq!(got, vec![EACH; pairs.len()]);
    quiet(&server);
}

/// Several shards end one after the other: all that is under way ends, and only then is nothing more to come.
#[test]
fn all_that_is_under_way_ends_with_the_host() {
    for _ in 0..5 {
        let mut bench = Bench::of(3);
        let (client, server) = bench.queues(256);
        let pairs = connections(&client, &server, 12);
        let (listener, _) = listen(&server);
        for (n, [_, far]) in pairs.iter().enumerate() {
            let receive = Op::receive(*far, vec![0; 4]).token(n as u64);
            server
                .submit(receive.then(Op::close(*far).token(100 + n as u64)))
                .unwrap();
        }
        server
            .submit(Op::accept_multishot(listener, 0).token(200))
            .unwrap();
        let hour = Op::timeout(Duration::from_secs(3600));
        server.submit(hour.token(201)).unwrap();
        let waiting = std::thread::spawn({
            let server = server.clone();
            move || {
                let mut got = Vec::new();
                while server.wait(&mut got, 64, LONG).is_ok_and(|n| n > 0) {}
                got.iter().map(|over| over.token).collect::<Vec<_>>()
            }
        });
        bench.stop_b();
        let mut tokens = waiting.join().unwrap();
        tokens.sort_unstable();
        let expected: Vec<u64> = (0..12).chain(100..112).chain([200, 201]).collect();
        assert_eq!(tokens, expected);
        assert!(server.wait(&mut Vec::new(), 1, LONG).is_err());
    }
}
