//! Completion queues of two hosts joined by memory: every operation ends once, with what it was about.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // what others need of it
mod bench;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base::Rng;
use base::epoll::{EPOLLIN, EPOLLOUT};
use bench::{Bench, LONG, address, connection, done, errno, listen, next};
use engine::Ecn;
use engine::completion::{BufferGroup, Completion, CompletionQueue, Handle, Op, SubmitError};
use rustix::io::Errno;
use stack::UdpOptions;

/// Long enough for what would come to have come.
const SHORT: Option<Duration> = Some(Duration::from_millis(30));

fn quiet(queue: &CompletionQueue) {
    assert_eq!(queue.wait(&mut Vec::new(), 1, SHORT).unwrap(), 0);
}

#[test]
fn a_request_and_its_answer() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let (listener, at) = listen(&server);
        server.submit(Op::accept(listener, 20).token(2)).unwrap();
        let connected = done(&client, Op::connect(at, 10).token(1));
        assert_eq!((connected.token, connected.key), (1, 10));
        assert_eq!(connected.address, Some(at));
        let near = connected.socket.unwrap();
        let accepted = next(&server);
        assert_eq!((accepted.token, accepted.key), (2, 20));
        assert_eq!(accepted.address.unwrap().ip(), address(1, 0).ip());
        let far = accepted.socket.unwrap();

        server.submit(Op::receive(far, vec![0; 64])).unwrap();
        let sent = done(&client, Op::send(near, b"how much?".to_vec()));
        assert_eq!(sent.result.unwrap(), 9);
        assert_eq!(
            &sent.buffer.unwrap()[..],
            b"how much?",
            "the buffer comes back"
        );
        let received = next(&server);
        assert_eq!((received.key, received.bytes()), (20, &b"how much?"[..]));

        client.submit(Op::receive_all(near, vec![0; 6])).unwrap();
        for part in [b"nin", b"ety"] {
            assert!(done(&server, Op::send(far, part.to_vec())).result.is_ok());
        }
        assert_eq!(next(&client).bytes(), b"ninety");

        let part = done(&server, Op::send(far, b"pennies".to_vec()).first(5));
        assert_eq!((part.result.unwrap(), part.buffer.unwrap().len()), (5, 7));
        let got = done(&client, Op::receive_all(near, vec![0; 5]));
        assert_eq!(got.bytes(), b"penni");

        assert!(done(&server, Op::close(far)).result.is_ok());
        let end = done(&client, Op::receive(near, vec![0; 8]));
        assert_eq!(end.result.unwrap(), 0, "the end of the stream");
    }
}

/// A listener of both families shows peers of IPv4 v4-mapped, whichever shard has accepted them.
#[test]
fn addresses_are_of_the_sockets_family() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(64);
        let listening = done(&server, Op::listen("[::]:0".parse().unwrap(), 64, 1));
        let (listener, own) = (listening.socket.unwrap(), listening.address.unwrap());
        for n in 0..9 {
            let to = match n % 3 {
                0 => format!("[::ffff:10.0.0.2]:{}", own.port()),
                _ => format!("10.0.0.2:{}", own.port()),
            };
            let to = to.parse().unwrap();
            assert_eq!(done(&client, Op::connect(to, 2)).address, Some(to));
            let accepted = done(&server, Op::accept(listener, 3)).address.unwrap();
            assert_eq!(accepted.ip().to_string(), "::ffff:10.0.0.1");
        }
    }
}

#[test]
fn an_accept_brings_the_first_bytes() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let (listener, at) = listen(&server);
        server
            .submit(Op::accept(listener, 1).first_bytes(vec![0; 100]))
            .unwrap();
        let near = done(&client, Op::connect(at, 0)).socket.unwrap();
        quiet(&server);
        done(&client, Op::send(near, b"GET /".to_vec()));
        let first = next(&server);
        assert_eq!(first.bytes(), b"GET /");
        assert!(first.socket.is_some() && first.address.is_some() && !first.more);

        // None are asked for: the connection is enough.
        server
            .submit(Op::accept(listener, 1).first_bytes(vec![]))
            .unwrap();
        done(&client, Op::connect(at, 0));
        assert!(next(&server).socket.is_some());

        // It ends before its first byte.
        server
            .submit(Op::accept(listener, 1).first_bytes(vec![0; 100]))
            .unwrap();
        let near = done(&client, Op::connect(at, 0)).socket.unwrap();
        done(&client, Op::close(near));
        let first = next(&server);
        assert_eq!((first.result.unwrap(), first.socket.is_some()), (0, true));

        // Of many connections, in buffers of a group.
        let group = BufferGroup::new(4, 32);
        server
            .submit(
                Op::accept_multishot(listener, 9)
                    .first_bytes_in(&group)
                    .token(5),
            )
            .unwrap();
        for n in 0..3u8 {
            let near = done(&client, Op::connect(at, 0)).socket.unwrap();
            done(&client, Op::send(near, vec![n; 3]));
            let first = next(&server);
            assert_eq!(
                (first.bytes(), first.more, first.token),
                (&[n; 3][..], true, 5)
            );
        }
        assert_eq!(group.available(), 4, "what was dropped is back");
    }
}

/// However many connections it has brought whose first bytes have not come.
#[test]
fn an_accept_of_many_is_cancelled_as_one() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let (listener, at) = listen(&server);
        let group = BufferGroup::new(4, 32);
        let accept = Op::accept_multishot(listener, 9).first_bytes_in(&group);
        server.submit(accept.token(5)).unwrap();
        let near = [(); 3].map(|()| done(&client, Op::connect(at, 0)).socket.unwrap());
        quiet(&server);
        server.submit(Op::cancel(listener, 5).token(6)).unwrap();
        let over = [next(&server), next(&server)];
        assert_eq!((over[0].token, errno(&over[0])), (5, Errno::CANCELED));
        assert!(!over[0].more);
        assert_eq!((over[1].token, *over[1].result.as_ref().unwrap()), (6, 1));
        for near in near {
            let reset = done(&client, Op::receive(near, vec![0; 4]));
            assert_eq!(errno(&reset), Errno::CONNRESET);
        }
        quiet(&server);
    }
}

#[test]
fn an_accept_for_which_there_is_no_buffer_brings_the_connection() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let (listener, at) = listen(&server);
        let group = BufferGroup::new(1, 32);
        server
            .submit(Op::accept_multishot(listener, 9).first_bytes_in(&group))
            .unwrap();
        let connect = |n: u8| {
            let near = done(&client, Op::connect(at, 0)).socket.unwrap();
            done(&client, Op::send(near, vec![n; 3]));
        };
        connect(1);
        let held = next(&server);
        assert_eq!(held.bytes(), [1; 3]);
        connect(2);
        let none = next(&server);
        assert_eq!((errno(&none), none.more), (Errno::NOBUFS, true));
        assert!(none.address.is_some());
        drop(held);
        let got = done(&server, Op::receive_in(none.socket.unwrap(), &group));
        assert_eq!(got.bytes(), [2; 3]);
    }
}

#[test]
fn one_operation_may_bring_many() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(64);
        let (listener, at) = listen(&server);
        server
            .submit(Op::accept_multishot(listener, 3).token(1))
            .unwrap();
        let near: Vec<_> = (0..5)
            .map(|_| done(&client, Op::connect(at, 0)).socket.unwrap())
            .collect();
        let far: Vec<_> = (0..5)
            .map(|_| {
                let accepted = next(&server);
                assert!(accepted.more && accepted.token == 1 && accepted.key == 3);
                accepted.socket.unwrap()
            })
            .collect();

        let group = BufferGroup::new(2, 8);
        server
            .submit(Op::receive_multishot(far[0], &group).token(2))
            .unwrap();
        let mut held = Vec::new();
        for n in 0..2u8 {
            done(&client, Op::send(near[0], vec![n; 4]));
            let received = next(&server);
            assert_eq!((received.bytes(), received.more), (&[n; 4][..], true));
            held.push(received);
        }
        done(&client, Op::send(near[0], vec![9; 4]));
        let none = next(&server);
        assert_eq!(
            (errno(&none), none.more),
            (Errno::NOBUFS, false),
            "no buffer is left"
        );
        held.clear();
        let again = done(&server, Op::receive_multishot(far[0], &group));
        assert_eq!(
            (again.bytes(), again.more),
            (&[9; 4][..], true),
            "nothing was lost"
        );
        done(&client, Op::close(near[0]));
        let end = next(&server);
        assert_eq!((end.result.unwrap(), end.more), (0, false));

        // The accept ends once.
        let over = {
            server.submit(Op::cancel(listener, 1).token(77)).unwrap();
            [next(&server), next(&server)]
        };
        assert_eq!((over[0].token, errno(&over[0])), (1, Errno::CANCELED));
        assert_eq!((over[1].token, *over[1].result.as_ref().unwrap()), (77, 1));
    }
}

#[test]
fn what_is_linked_follows_success_only() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let (near, far) = connection(&client, &server);
        let chain = Op::receive(far, vec![0; 16])
            .token(1)
            .then(Op::send(far, b"answer".to_vec()).token(2))
            .then(Op::close(far).token(3));
        server.submit(chain).unwrap();
        quiet(&server);
        done(&client, Op::send(near, b"question".to_vec()));
        assert_eq!([1, 2, 3].map(|_| next(&server).token), [1, 2, 3]);
        assert_eq!(
            done(&client, Op::receive_all(near, vec![0; 99])).bytes(),
            b"answer"
        );

        // `far` is closed: the first fails, and the rest with it.
        let chain = Op::send(far, b"late".to_vec())
            .then(Op::receive(far, vec![0; 5]).token(5))
            .then(Op::timeout(Duration::ZERO).token(6));
        server.submit(chain).unwrap();
        let over = [0, 5, 6].map(|token| {
            let completion = next(&server);
            assert_eq!(completion.token, token);
            completion
        });
        let errors = over.each_ref().map(errno);
        assert_eq!(errors, [Errno::BADF, Errno::CANCELED, Errno::CANCELED]);
        assert_eq!(
            over[1].buffer.as_ref().unwrap().len(),
            5,
            "buffers come back"
        );
    }
}

#[test]
fn what_is_cancelled_says_so_once() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let (near, far) = connection(&client, &server);
        for token in [1, 2, 1] {
            server
                .submit(Op::receive(far, vec![0; 4]).token(token))
                .unwrap();
        }
        server.submit(Op::cancel(far, 1).token(9)).unwrap();
        let over = [next(&server), next(&server), next(&server)];
        assert_eq!(over.each_ref().map(|over| over.token), [1, 1, 9]);
        assert_eq!(*over[2].result.as_ref().unwrap(), 2);
        done(&client, Op::send(near, b"data".to_vec()));
        assert_eq!(
            (
                next(&server).token,
                errno(&done(&server, Op::cancel(far, 1)))
            ),
            (2, Errno::NOENT)
        );

        // A timeout, and one that is left alone.
        server
            .submit(Op::timeout(Duration::from_secs(3600)).token(4))
            .unwrap();
        server.submit(Op::cancel_token(4).token(5)).unwrap();
        assert_eq!(
            (errno(&next(&server)), next(&server).token),
            (Errno::CANCELED, 5)
        );
        assert_eq!(
            done(&server, Op::timeout(Duration::from_millis(2)).token(6))
                .result
                .unwrap(),
            0
        );
        assert_eq!(
            errno(&done(&server, Op::cancel_token(6))),
            Errno::NOENT,
            "it is over"
        );

        // A connect to an address where nobody is.
        client
            .submit(Op::connect(address(99, 1), 0).token(7))
            .unwrap();
        client.submit(Op::cancel_token(7).token(8)).unwrap();
        assert_eq!(
            (errno(&next(&client)), next(&client).token),
            (Errno::CANCELED, 8)
        );
    }
}

#[test]
fn a_closed_socket_is_not_mistaken_for_another() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let (near, far) = connection(&client, &server);
        server
            .submit(Op::receive(far, vec![0; 4]).token(1))
            .unwrap();
        server.submit(Op::close(far).token(2)).unwrap();
        let over = [next(&server), next(&server)];
        assert_eq!((over[0].token, errno(&over[0])), (1, Errno::CANCELED));
        assert_eq!((over[1].token, over[1].result.is_ok()), (2, true));
        for op in [
            Op::close(far),
            Op::send(far, vec![1]),
            Op::receive(far, vec![1]),
            Op::accept(far, 0),
            Op::poll(far, EPOLLIN),
            Op::cancel_all(far),
            // A handle of another host.
            Op::send(near, vec![1]),
        ] {
            assert_eq!(errno(&done(&server, op)), Errno::BADF);
        }
        // Another queue of the same host is as strange.
        let other = bench.b.completion_queue(4, 1).unwrap();
        let (listener, _) = listen(&server);
        assert_eq!(errno(&done(&other, Op::accept(listener, 0))), Errno::BADF);
        assert_eq!(
            errno(&done(&server, Op::receive(listener, vec![0]))),
            Errno::NOTCONN
        );
        assert_eq!(errno(&done(&client, Op::accept(near, 0))), Errno::INVAL);
    }
}

#[test]
fn errors_of_connecting_are_those_of_connect() {
    for bench in Bench::each() {
        let (client, _server) = bench.queues(4);
        let refused = done(&client, Op::connect(address(2, 9), 0));
        assert_eq!(
            refused.result.unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        let nowhere = done(&client, Op::connect("203.0.113.1:1".parse().unwrap(), 0));
        assert_eq!(
            nowhere.result.unwrap_err().kind(),
            ErrorKind::NetworkUnreachable
        );
        let taken = done(&client, Op::listen(address(77, 1), 1, 0));
        assert_eq!(
            taken.result.unwrap_err().kind(),
            ErrorKind::AddrNotAvailable
        );
    }
}

/// Bytes that tell where they belong.
fn pattern(at: usize, n: usize) -> Vec<u8> {
    (at..at + n)
        .map(|at| ((at / 3) ^ (at >> 9)) as u8)
        .collect()
}

/// Takes a whole stream and compares it.
fn expect_stream(queue: &CompletionQueue, socket: Handle, len: usize) {
    let mut at = 0;
    loop {
        let got = done(queue, Op::receive(socket, vec![0; 50_000]));
        let n = got.bytes().len();
        if n == 0 {
            break;
        }
        assert!(got.bytes() == pattern(at, n), "at {at}");
        at += n;
    }
    assert_eq!(at, len);
}

#[test]
fn a_splice_moves_a_stream_and_waits_for_a_slow_reader() {
    const LEN: usize = 8 << 20;
    let bench = Bench::new();
    let (client, server) = bench.queues(16);
    let reading = bench.a.completion_queue(16, 1).unwrap();
    let (near, far) = connection(&client, &server);
    let (taker, giver) = connection(&reading, &server);
    // Two parts, and what is handed in behind them comes behind.
    server
        .submit(Op::splice(far, giver, 1_000_000).token(1))
        .unwrap();
    server
        .submit(Op::splice(far, giver, u64::MAX).token(2))
        .unwrap();
    let sending = std::thread::spawn(move || {
        for at in (0..LEN).step_by(1 << 18) {
            assert!(
                done(&client, Op::send(near, pattern(at, 1 << 18)))
                    .result
                    .is_ok()
            );
        }
        let shut = done(&client, Op::shutdown(near, stack::Shutdown::Write));
        assert!(shut.result.is_ok());
        client
    });
    let relay = std::thread::spawn(move || {
        let parts = [next(&server), next(&server)];
        assert_eq!(parts.each_ref().map(|part| part.token), [1, 2]);
        let moved = parts.map(|part| part.result.unwrap());
        assert_eq!(moved, [1_000_000, LEN - 1_000_000]);
        assert!(done(&server, Op::close(giver)).result.is_ok());
        server
    });
    expect_stream(&reading, taker, LEN);
    let _ = (sending.join().unwrap(), relay.join().unwrap());
}

#[test]
fn a_file_is_sent_in_its_place() {
    let len = 1_300_000;
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &pattern(0, len)).unwrap();
    let file = Arc::new(file);
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let (near, far) = connection(&client, &server);
        let file = file.clone();
        let sender = std::thread::spawn(move || {
            let ops = [
                Op::send(far, pattern(0, 100)).token(1),
                Op::send_file(far, file.clone(), 100, len as u64 - 200).token(2),
                Op::send(far, pattern(len - 100, 100)).token(3),
                // Beyond the file's end: it ends early.
                Op::send_file(far, file, len as u64, 10)
                    .token(4)
                    .then(Op::close(far).token(5)),
            ];
            server.submit_all(&mut Vec::from(ops)).unwrap();
            let sent = [1, 2, 3, 4, 5].map(|_| next(&server));
            assert_eq!(sent.each_ref().map(|sent| sent.token), [1, 2, 3, 4, 5]);
            assert_eq!(*sent[1].result.as_ref().unwrap(), len - 200);
            assert_eq!(*sent[3].result.as_ref().unwrap(), 0);
            server
        });
        expect_stream(&client, near, len);
        drop(sender.join().unwrap());
    }
}

/// Its beginning was read when it was handed in first.
#[test]
fn a_file_that_found_no_room_is_sent_whole_when_it_is_handed_in_again() {
    let len = 1_000_000;
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &pattern(0, len)).unwrap();
    let bench = Bench::new();
    let (client, server) = bench.queues(2);
    let (near, far) = connection(&client, &server);
    for n in [1, 2] {
        server.post(n, 0, 0).unwrap();
    }
    let file = Op::send_file(far, Arc::new(file), 0, len as u64);
    let Err(SubmitError::Full(file)) = server.submit(file) else {
        panic!("there is no room");
    };
    let Err(SubmitError::Full(file)) = server.submit_all(&mut vec![file]) else {
        panic!("there is no room");
    };
    assert_eq!([1, 2].map(|_| next(&server).token), [1, 2]);
    server.submit(file).unwrap();
    let sender = std::thread::spawn(move || {
        assert_eq!(next(&server).result.unwrap(), len);
        assert!(done(&server, Op::close(far)).result.is_ok());
        server
    });
    expect_stream(&client, near, len);
    drop(sender.join().unwrap());
}

#[test]
fn readiness_can_be_asked_for() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let (near, far) = connection(&client, &server);
        let writable = done(&server, Op::poll(far, EPOLLIN | EPOLLOUT));
        assert_eq!(
            writable.result.unwrap() as u32 & (EPOLLIN | EPOLLOUT),
            EPOLLOUT
        );
        server.submit(Op::poll(far, EPOLLIN).token(1)).unwrap();
        // A receive of nothing tells the same.
        server.submit(Op::receive(far, vec![]).token(2)).unwrap();
        quiet(&server);
        done(&client, Op::send(near, vec![5; 5]));
        let mut told = [next(&server), next(&server)];
        told.sort_by_key(|told| told.token);
        assert_eq!(*told[0].result.as_ref().unwrap() as u32 & EPOLLIN, EPOLLIN);
        assert_eq!(*told[1].result.as_ref().unwrap(), 0);
        assert_eq!(done(&server, Op::receive(far, vec![0; 9])).bytes(), [5; 5]);
    }
}

#[test]
fn datagrams() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let bound = done(&server, Op::bind(address(2, 53), 4));
        let (far, at) = (bound.socket.unwrap(), bound.address.unwrap());
        let near = done(&client, Op::bind(address(1, 0), 0)).socket.unwrap();
        let group = BufferGroup::new(8, 100);
        server.submit(Op::receive_multishot(far, &group)).unwrap();
        for n in [1u8, 0, 2] {
            done(&client, Op::send_to(near, vec![n; n.into()], at));
            let got = next(&server);
            assert_eq!(
                (got.bytes(), got.more, got.key),
                (&vec![n; n.into()][..], true, 4)
            );
            let from = got.address.unwrap();
            done(&server, Op::send_to(far, vec![7], from));
            assert_eq!(done(&client, Op::receive(near, vec![0; 10])).bytes(), [7]);
        }
    }
}

#[test]
fn datagrams_are_sent_and_received_with_all_that_is_said_of_them() {
    let bench = Bench::new();
    let (client, server) = bench.queues(16);
    let bound = done(&server, Op::bind(address(2, 53), 4));
    let far = bound.socket.unwrap();
    let options = UdpOptions {
        tos: 0x28,
        ..UdpOptions::default()
    };
    let bound = done(&client, Op::bind(address(1, 0), 0).udp_options(options));
    let (near, own) = (bound.socket.unwrap(), bound.address.unwrap());
    assert!(bound.meta().is_none());
    let before = Instant::now();
    let train = Op::send_to(near, vec![7; 10], address(2, 53));
    assert_eq!(
        done(&client, train.ecn(Ecn::Ect0).segment(4))
            .result
            .unwrap(),
        10
    );
    for (room, len, truncated) in [(64, 4, false), (3, 3, true), (64, 2, false)] {
        let got = done(&server, Op::receive(far, vec![0; room]));
        let meta = got.meta().unwrap();
        assert_eq!(
            (meta.len, meta.stride, meta.truncated),
            (len, len, truncated)
        );
        assert_eq!((meta.from, got.address), (own, Some(own)));
        assert_eq!((meta.to, meta.interface), (address(2, 0).ip(), 1));
        assert_eq!((meta.ttl, meta.tos, meta.ecn()), (64, 0x2a, Ecn::Ect0));
        assert!(before <= meta.at && meta.at <= Instant::now());
    }
    // Without a word about it the socket's own; what cannot be is refused.
    let plain = Op::send_to(near, vec![7], address(2, 53)).source(own.ip());
    assert_eq!(done(&client, plain).result.unwrap(), 1);
    let group = BufferGroup::new(1, 100);
    let got = done(&server, Op::receive_in(far, &group));
    assert_eq!(got.meta().unwrap().tos, 0x28);
    let to = || Op::send_to(near, vec![7; 129], address(2, 53));
    for (op, expected) in [
        (to().segment(1), Errno::INVAL),
        (to().segment(0), Errno::INVAL),
        (to().source(address(2, 0).ip()), Errno::ADDRNOTAVAIL),
        (Op::send(near, vec![7]), Errno::DESTADDRREQ),
    ] {
        assert_eq!(errno(&done(&client, op)), expected);
    }
    // A stream has none.
    let (near, far) = connection(&client, &server);
    done(&client, Op::send(near, b"bytes".to_vec()).ecn(Ecn::Ce));
    assert!(done(&server, Op::receive(far, vec![0; 9])).meta().is_none());
}

#[test]
fn a_queue_holds_what_it_was_made_for() {
    for bench in Bench::each() {
        let queue = bench.b.completion_queue(3, 1).unwrap();
        let (listener, at) = listen(&queue);
        let chain = Op::timeout(Duration::from_secs(600)).then(Op::timeout(Duration::ZERO));
        queue.submit(chain.token(1)).unwrap();
        queue
            .submit(Op::accept_multishot(listener, 0).token(2))
            .unwrap();
        let mut ops = vec![Op::timeout(Duration::ZERO), Op::timeout(Duration::ZERO)];
        assert!(matches!(
            queue.submit_all(&mut ops),
            Err(SubmitError::Full(_))
        ));
        assert!(queue.post(1, 1, 1).is_err());
        // More connections than completions fit: they wait, and none is lost.
        let client = bench.a.completion_queue(16, 1).unwrap();
        for _ in 0..12 {
            assert!(done(&client, Op::connect(at, 0)).result.is_ok());
        }
        for _ in 0..12 {
            let accepted = next(&queue);
            assert!(accepted.more && accepted.token == 2);
        }
        quiet(&queue);
    }
}

#[test]
fn workers_keep_to_their_number() {
    let bench = Bench::new();
    let queue = bench.a.completion_queue(1_000, 2).unwrap();
    let (at_work, most, taken) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    for n in 0..200 {
        queue.post(n, 0, n as usize).unwrap();
    }
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut worker = queue.worker();
                let mut got = Vec::new();
                while taken.load(Ordering::SeqCst) < 200 {
                    let n = worker.wait(&mut got, 3, SHORT).unwrap();
                    if n == 0 {
                        continue;
                    }
                    most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    at_work.fetch_sub(1, Ordering::SeqCst);
                    taken.fetch_add(n, Ordering::SeqCst);
                    got.clear();
                }
            });
        }
    });
    assert_eq!(taken.into_inner(), 200);
    assert!(most.into_inner() <= 2);
}

/// A worker that may take nothing more is not woken in place of a thread that may.
#[test]
fn workers_that_rest_keep_nobody_waiting() {
    let bench = Bench::new();
    let queue = bench.a.completion_queue(16, 1).unwrap();
    let mut busy = queue.worker();
    queue.post(1, 0, 0).unwrap();
    assert_eq!(busy.wait(&mut Vec::new(), 1, LONG).unwrap(), 1);
    std::thread::scope(|scope| {
        let resting = scope.spawn(|| queue.worker().wait(&mut Vec::new(), 1, LONG).unwrap());
        std::thread::sleep(SHORT.unwrap());
        let other = scope.spawn(|| next(&queue).token);
        std::thread::sleep(SHORT.unwrap());
        queue.post(2, 0, 0).unwrap();
        assert_eq!(other.join().unwrap(), 2);
        queue.post(3, 0, 0).unwrap();
        drop(busy);
        assert_eq!(resting.join().unwrap(), 1);
    });
}

#[test]
fn everything_ends_when_the_host_does() {
    for mut bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let (near, far) = connection(&client, &server);
        server
            .submit(Op::receive(far, vec![0; 4]).token(1))
            .unwrap();
        server
            .submit(
                Op::timeout(Duration::from_secs(600))
                    .token(2)
                    .then(Op::close(far).token(3)),
            )
            .unwrap();
        quiet(&server);
        client.submit(Op::receive(near, vec![0; 4])).unwrap();
        bench.stop_b();
        assert_eq!(next(&client).result.unwrap(), 0, "closed, not forgotten");
        let mut over: Vec<_> = (0..3).map(|_| next(&server)).collect();
        over.sort_by_key(|over| over.token);
        assert!(over.iter().all(|over| over.result.is_err()));
        assert_eq!(
            over.iter().map(|over| over.token).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert!(
            server.wait(&mut Vec::new(), 1, LONG).is_err(),
            "nothing will come any more"
        );
        assert!(matches!(
            server.submit(Op::close(far)),
            Err(SubmitError::Stopped(_))
        ));
        assert!(server.post(0, 0, 0).is_err());
    }
}

#[test]
fn a_dropped_queue_resets_its_connections() {
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let (near, far) = connection(&client, &server);
        server.submit(Op::receive(far, vec![0; 4])).unwrap();
        drop(server);
        let reset = done(&client, Op::receive(near, vec![0; 4]));
        assert_eq!(reset.result.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(bench.sockets_of_b(), 0);
    }
}

/// Random operations, closes and cancellations: each ends once, in the queue it was handed to, and nothing is left.
#[test]
fn each_operation_ends_once() {
    for seed in 0..40 {
        let mut rng = Rng::from_seed(seed);
        let bench = Bench::of(1 + 2 * (seed as usize % 2));
        let (client, server) = bench.queues(512);
        let group = BufferGroup::new(3, 64);
        let mut ends: Vec<(Handle, Handle)> =
            (0..4).map(|_| connection(&client, &server)).collect();
        let mut open: [HashMap<u64, ()>; 2] = Default::default();
        let mut token = 0;
        for _ in 0..400 {
            let side = rng.below(2) as usize;
            let queue = [&client, &server][side];
            let at = rng.below(ends.len() as u32) as usize;
            let socket = [ends[at].0, ends[at].1][side];
            let other = [ends[(at + 1) % ends.len()].0, ends[(at + 1) % ends.len()].1][side];
            let op = match rng.below(16) {
                0..=3 => Op::send(socket, pattern(0, rng.below(5_000) as usize)),
                4..=6 => Op::receive(socket, vec![0; 1 + rng.below(2_000) as usize]),
                7 => Op::receive_all(socket, vec![0; 1_000]),
                8 => Op::receive_multishot(socket, &group),
                9 => Op::timeout(Duration::from_micros(rng.below(3_000).into())),
                10 => Op::splice(socket, other, rng.below(9_000).into()),
                11 => Op::cancel(socket, rng.below(token as u32 + 1).into()),
                12 => Op::poll(socket, EPOLLIN),
                13 => Op::cancel_all(socket),
                14 => Op::cancel_token(rng.below(token as u32 + 1).into()),
                _ => Op::close(socket),
            };
            token += 1;
            let mut op = op.token(token);
            open[side].insert(token, ());
            if rng.below(4) == 0 {
                token += 1;
                op = op.then(Op::receive_in(socket, &group).token(token));
                open[side].insert(token, ());
            }
            queue.submit(op).unwrap();
            for (side, queue) in [&client, &server].into_iter().enumerate() {
                let mut got = Vec::new();
                queue.wait(&mut got, 8, Some(Duration::ZERO)).unwrap();
                settle(&mut open[side], &got, seed);
            }
            if rng.below(30) == 0 {
                // Connecting needs quiet queues.
                finish_all(&client, &server, &ends, &mut open, seed);
                ends = (0..4).map(|_| connection(&client, &server)).collect();
            }
        }
        finish_all(&client, &server, &ends, &mut open, seed);
        assert_eq!(group.available(), 3, "seed {seed}");
    }
}

/// Takes what has ended off the list of what is under way.
fn settle(open: &mut HashMap<u64, ()>, got: &[Completion], seed: u64) {
    for completion in got.iter().filter(|completion| !completion.more) {
        let known = open.remove(&completion.token);
        assert!(known.is_some(), "seed {seed}: {completion:?} ended twice");
    }
}

/// Closes all sockets; everything ends.
fn finish_all(
    client: &CompletionQueue,
    server: &CompletionQueue,
    ends: &[(Handle, Handle)],
    open: &mut [HashMap<u64, ()>; 2],
    seed: u64,
) {
    for (side, queue) in [client, server].into_iter().enumerate() {
        for (at, end) in ends.iter().enumerate() {
            let token = u64::MAX - at as u64;
            open[side].insert(token, ());
            queue
                .submit(Op::reset([end.0, end.1][side]).token(token))
                .unwrap();
        }
    }
    for (side, queue) in [client, server].into_iter().enumerate() {
        while !open[side].is_empty() {
            let mut got = Vec::new();
            let n = queue.wait(&mut got, 64, LONG).unwrap();
            assert!(n > 0, "seed {seed}: {:?} never end", open[side].keys());
            settle(&mut open[side], &got, seed);
        }
    }
}
