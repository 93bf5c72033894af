//! How operations of a completion queue end: chains of any length, part of the work, words that are used twice, hosts that stop.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // what others need of it
mod bench;

use std::time::Duration;

use bench::{Bench, LONG, connection, done, errno, listen, next};
use engine::completion::{BufferGroup, Completion, CompletionQueue, Op};
use rustix::io::Errno;
use stack::Shutdown;

fn ok(completion: &Completion) -> usize {
    *completion.result.as_ref().unwrap()
}

/// Whatever the client's host has sent before has come when this returns.
fn fence(client: &CompletionQueue, server: &CompletionQueue) {
    let (near, far) = connection(client, server);
    assert!(done(server, Op::reset(far)).result.is_ok());
    assert!(done(client, Op::reset(near)).result.is_ok());
}

#[test]
fn a_chain_may_be_long() {
    const LINKS: u64 = 100_000;
    let at_once = |token| Op::timeout(Duration::ZERO).token(token);
    // From either end, and dropped.
    let front = (1..LINKS).fold(at_once(0), |chain, token| chain.then(at_once(token)));
    let back = (1..LINKS).fold(at_once(0), |chain, token| at_once(token).then(chain));
    drop(back);
    let bench = Bench::new();
    let (queue, _) = bench.queues(LINKS as usize);
    queue.submit(front).unwrap();
    let mut all = Vec::new();
    while all.len() < LINKS as usize {
        assert!(queue.wait(&mut all, 1 << 20, LONG).unwrap() > 0);
    }
    assert!(all.iter().enumerate().all(|(n, one)| one.token == n as u64));
    // One that fails takes the others along.
    let failing = (1..LINKS).fold(Op::timeout(Duration::MAX).token(0), |chain, token| {
        chain.then(at_once(token))
    });
    queue.submit(failing).unwrap();
    let mut cancel = vec![Op::cancel_token(0)];
    assert!(queue.submit_all(&mut cancel).is_err(), "the queue is full");
    drop(queue);
}

#[test]
fn words_may_be_used_more_than_once() {
    let bench = Bench::new();
    let (client, server) = bench.queues(16);
    let (_near, far) = connection(&client, &server);
    let long = |token| Op::timeout(Duration::from_secs(3600)).token(token);
    let cancel = || done(&server, Op::cancel_token(0).token(9));
    // A socket's operation under the same word ends, and a timeout.
    server.submit(long(0)).unwrap();
    server.submit(Op::receive(far, vec![0; 4])).unwrap();
    assert_eq!(done(&server, Op::timeout(Duration::ZERO)).token, 0);
    server.submit(Op::close(far).token(5)).unwrap();
    assert_eq!(
        [next(&server), next(&server)].map(|over| over.token),
        [0, 5]
    );
    // The first is still there, and the latest of two is cancelled first.
    server.submit(Op::timeout(Duration::MAX)).unwrap();
    for _ in 0..2 {
        assert_eq!((errno(&cancel()), ok(&next(&server))), (Errno::CANCELED, 1));
    }
    assert_eq!(errno(&cancel()), Errno::NOENT);
}

#[test]
fn what_was_done_of_an_operation_that_was_cut_short_is_told() {
    let bench = Bench::new();
    let (client, server) = bench.queues(16);
    let (near, far) = connection(&client, &server);
    let half = |then: Op| {
        Op::receive_all(far, vec![0; 6])
            .token(1)
            .then(then.token(2))
    };
    server.submit(half(Op::timeout(Duration::ZERO))).unwrap();
    done(&client, Op::send(near, b"abc".to_vec()));
    fence(&client, &server);
    server.submit(Op::cancel(far, 1).token(3)).unwrap();
    let over = [next(&server), next(&server), next(&server)];
    assert_eq!(over.each_ref().map(|over| over.token), [1, 2, 3]);
    assert_eq!(over[0].bytes(), b"abc", "what was taken is not lost");
    assert_eq!(errno(&over[1]), Errno::CANCELED, "nothing follows");

    // A reset: first what came before it, then the reset.
    server.submit(half(Op::timeout(Duration::ZERO))).unwrap();
    done(&client, Op::send(near, b"def".to_vec()));
    fence(&client, &server);
    done(&client, Op::reset(near));
    let over = [next(&server), next(&server)];
    assert_eq!(over[0].bytes(), b"def");
    assert_eq!(errno(&over[1]), Errno::CANCELED);
    let error = done(&server, Op::receive(far, vec![0; 6]));
    assert_eq!(errno(&error), Errno::CONNRESET);
    assert_eq!(ok(&done(&server, Op::receive(far, vec![0; 6]))), 0);
}

#[test]
fn a_splice_goes_on_behind_a_file() {
    let len = 256 * 1024 + 1000;
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &vec![3; len]).unwrap();
    let bench = Bench::new();
    let (client, server) = bench.queues(16);
    let reading = bench.a.completion_queue(16, 1).unwrap();
    let (near, far) = connection(&client, &server);
    let (taker, giver) = connection(&reading, &server);
    done(&client, Op::send(near, b"behind".to_vec()));
    let ops = [
        Op::send_file(giver, file.into(), 0, len as u64).token(1),
        Op::splice(far, giver, 6).token(2),
    ];
    server.submit_all(&mut Vec::from(ops)).unwrap();
    reading
        .submit(Op::receive_all(taker, vec![0; len + 6]))
        .unwrap();
    assert_eq!(
        [next(&server), next(&server)].map(|over| over.token),
        [1, 2]
    );
    assert_eq!(&next(&reading).bytes()[len..], b"behind");
}

#[test]
fn a_splice_to_one_that_is_gone_leaves_what_was_not_moved() {
    let bench = Bench::new();
    let (client, server) = bench.queues(16);
    let (near, far) = connection(&client, &server);
    let (taker, giver) = connection(&client, &server);
    server
        .submit(Op::splice(far, giver, u64::MAX).token(1))
        .unwrap();
    done(&client, Op::send(near, b"moved".to_vec()));
    let got = done(&client, Op::receive_all(taker, vec![0; 5]));
    assert_eq!(got.bytes(), b"moved");
    done(&client, Op::reset(taker));
    let over = next(&server);
    assert_eq!((over.token, ok(&over)), (1, 5), "as far as it came");
    done(&client, Op::send(near, b"left".to_vec()));
    assert_eq!(
        errno(&done(&server, Op::splice(far, giver, 1))),
        Errno::PIPE
    );
    assert_eq!(done(&server, Op::receive(far, vec![0; 9])).bytes(), b"left");
    // To itself.
    assert_eq!(errno(&done(&server, Op::splice(far, far, 1))), Errno::INVAL);
}

#[test]
fn splices_may_go_in_circles() {
    let bench = Bench::new();
    let (client, server) = bench.queues(16);
    let (near, far) = connection(&client, &server);
    let (taker, giver) = connection(&client, &server);
    for (from, to) in [(far, giver), (giver, far)] {
        server.submit(Op::splice(from, to, u64::MAX)).unwrap();
    }
    for (from, to) in [(near, taker), (taker, near)] {
        done(&client, Op::send(from, b"there and back".to_vec()));
        let got = done(&client, Op::receive_all(to, vec![0; 14]));
        assert_eq!(got.bytes(), b"there and back");
    }
    for end in [near, taker] {
        done(&client, Op::shutdown(end, Shutdown::Write));
        assert_eq!(ok(&next(&server)), 14);
    }
}

#[test]
fn accepts_that_wait_for_first_bytes_can_be_cancelled() {
    let bench = Bench::new();
    let (client, server) = bench.queues(16);
    let (listener, at) = listen(&server);
    let group = BufferGroup::new(4, 32);
    let connect = || done(&client, Op::connect(at, 0)).socket.unwrap();
    let reset = |near| {
        let end = done(&client, Op::receive(near, vec![0; 4]));
        assert_eq!(errno(&end), Errno::CONNRESET);
    };
    for close in [false, true] {
        // One connection is there and silent, for the next accept nobody has come.
        for token in [1, 2] {
            let op = Op::accept(listener, 0).first_bytes(vec![0; 8]);
            server.submit(op.token(token)).unwrap();
        }
        let near = connect();
        fence(&client, &server);
        if close {
            server.submit(Op::close(listener).token(3)).unwrap();
        } else {
            server.submit(Op::cancel_all(listener).token(3)).unwrap();
        }
        let mut over = [next(&server), next(&server), next(&server)];
        over.sort_by_key(|over| over.token);
        for over in &mut over[..2] {
            assert_eq!(errno(over), Errno::CANCELED);
            assert_eq!(over.socket, Some(listener));
            assert_eq!(over.buffer.take().unwrap().len(), 8);
        }
        assert_eq!(ok(&over[2]), if close { 0 } else { 2 });
        reset(near);
        if close {
            break;
        }
        // Of many: one completion tells the end, and nothing comes after it.
        let op = Op::accept_multishot(listener, 0).first_bytes_in(&group);
        server.submit(op.token(4)).unwrap();
        let near = connect();
        fence(&client, &server);
        server.submit(Op::cancel(listener, 4).token(5)).unwrap();
        let over = [next(&server), next(&server)];
        assert_eq!((over[0].token, over[0].more), (4, false));
        assert_eq!(over[1].token, 5);
        reset(near);
    }
    assert_eq!((group.available(), bench.sockets_of_b()), (4, 0));
}

#[test]
fn what_operations_that_bring_many_bring_is_held_back_until_it_is_taken() {
    let bench = Bench::new();
    let (client, _) = bench.queues(32);
    let queue = bench.b.completion_queue(5, 1).unwrap();
    let other = bench.b.completion_queue(5, 1).unwrap();
    let (listener, at) = listen(&queue);
    queue.submit(Op::accept_multishot(listener, 0)).unwrap();
    for _ in 0..20 {
        assert!(done(&client, Op::connect(at, 0)).result.is_ok());
    }
    // Who only hands in gets no more room by it.
    for _ in 0..3 {
        queue.submit(Op::timeout(Duration::ZERO).token(1)).unwrap();
        fence(&client, &other);
    }
    let (mut all, mut accepted) = (Vec::new(), 0);
    while accepted < 20 {
        all.clear();
        let n = queue.wait(&mut all, 100, LONG).unwrap();
        assert!((1..=5 + 3).contains(&n), "{n} at once");
        accepted += all.iter().filter(|one| one.more).count();
    }
}

#[test]
fn what_is_under_way_ends_when_a_shard_is_gone() {
    let config = stack::Config {
        pool_blocks: 1024,
        ..stack::Config::default()
    };
    let options = engine::ShardOptions::default();
    let made = engine::Shard::with_sockets(config, 1, engine::Limits::default(), options);
    let (mut shard, sockets) = made.unwrap();
    shard.begin();
    let queue = sockets.completion_queue(16, 1).unwrap();
    queue
        .submit(Op::listen("127.0.0.1:7".parse().unwrap(), 8, 0))
        .unwrap();
    while shard.turn() {}
    let listener = next(&queue).socket.unwrap();
    let ops = [
        Op::accept(listener, 0).token(1),
        Op::timeout(Duration::MAX)
            .token(2)
            .then(Op::close(listener).token(3)),
    ];
    queue.submit_all(&mut Vec::from(ops)).unwrap();
    while shard.turn() {}
    // It has not seen this one.
    queue.submit(Op::close(listener).token(4)).unwrap();
    drop(shard);
    let mut over = [(); 4].map(|()| next(&queue));
    over.sort_by_key(|over| over.token);
    assert_eq!(over.each_ref().map(|over| over.token), [1, 2, 3, 4]);
    assert!(over.iter().all(|over| over.result.is_err()));
    assert!(queue.wait(&mut Vec::new(), 1, LONG).is_err());
}

#[test]
fn a_file_that_is_being_read_ends_with_its_host() {
    let len = 1 << 20;
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &vec![3; len]).unwrap();
    let mut bench = Bench::new();
    let (client, server) = bench.queues(16);
    let (near, far) = connection(&client, &server);
    let op = Op::send_file(far, file.into(), 0, len as u64);
    server
        .submit(op.token(1).then(Op::close(far).token(2)))
        .unwrap();
    // Nobody reads on: the first part has come, and the next is asked for.
    let first = done(&client, Op::receive_all(near, vec![0; 256 * 1024]));
    assert_eq!(ok(&first), 256 * 1024);
    bench.stop_b();
    let over = [next(&server), next(&server)];
    assert_eq!(over.each_ref().map(|over| over.token), [1, 2]);
    assert_eq!(ok(&over[0]), 256 * 1024, "as much as was sent");
    assert!(over[1].result.is_err());
}

#[test]
fn buffers_without_room_are_refused() {
    let bench = Bench::new();
    let (client, server) = bench.queues(16);
    let (near, far) = connection(&client, &server);
    done(&client, Op::send(near, b"data".to_vec()));
    let none = BufferGroup::new(2, 0);
    let refused = done(&server, Op::receive_multishot(far, &none));
    assert_eq!((errno(&refused), refused.more), (Errno::INVAL, false));
    let got = done(&server, Op::receive_in(far, &BufferGroup::new(1, 1)));
    assert_eq!(got.bytes(), b"d");
}

#[test]
fn a_worker_that_may_not_go_on_is_not_woken_in_the_place_of_who_may() {
    let bench = Bench::new();
    let queue = bench.a.completion_queue(64, 1).unwrap();
    std::thread::scope(|scope| {
        let mut busy = queue.worker();
        queue.post(0, 0, 0).unwrap();
        assert_eq!(busy.wait(&mut Vec::new(), 1, LONG).unwrap(), 1);
        // It sleeps until `busy` has nothing in hand.
        let worker = scope.spawn(|| queue.worker().wait(&mut Vec::new(), 1, LONG).unwrap());
        for n in 0..32 {
            // Somebody who is no worker takes whatever comes.
            let other = scope.spawn(|| next(&queue).token);
            std::thread::yield_now();
            queue.post(n, 0, 0).unwrap();
            assert_eq!(other.join().unwrap(), n);
        }
        queue.post(99, 0, 0).unwrap();
        drop(busy);
        assert_eq!(worker.join().unwrap(), 1);
    });
}
