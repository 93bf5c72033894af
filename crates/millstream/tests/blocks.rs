//! Received bytes in packet memory: lent to any thread, bounded, and given back.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use common::{B, config, hosts, hosts_with, pattern};
use millstream::{Blocks, Host, Limits, TcpStream};

/// A connection from `a` to `b`: both ends.
fn connection(a: &Host, b: &Host) -> (TcpStream, TcpStream) {
    let listener = b.tcp_listen((B, 0)).unwrap();
    let client = a.tcp_connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Waits until nothing of a host's packet memory is in use.
fn await_free(host: &Host) {
    while host.snapshot().unwrap().pool.in_use > 0 {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs of bytes that a host has lent, as tools are told.
fn lent(host: &Host) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(host.buffers()).unwrap().lent as usize
}

/// Sends a stream from a thread of its own.
fn send(mut stream: TcpStream, len: usize) -> thread::JoinHandle<TcpStream> {
    thread::spawn(move || {
        stream.write_all(&pattern(0, len)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream
    })
}

#[test]
fn tools_are_told_what_is_lent() {
    let (a, b) = hosts();
    let (mut client, near) = connection(&a, &b);
    client.write_all(b"from here on").unwrap();
    near.receive_blocks().unwrap();
    client.write_all(&pattern(0, 5_000)).unwrap();
    let mut held: Vec<Blocks> = Vec::new();
    while held.iter().map(Blocks::len).sum::<usize>() < 5_000 {
        held.push(near.receive_blocks().unwrap());
    }
    let runs = held.iter().flat_map(Blocks::slices).count();
    assert!(runs > 0 && lent(&b) == runs, "{runs}");
    drop(held);
    while lent(&b) > 0 {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_stream_comes_in_blocks_which_any_thread_gives_back() {
    const LEN: usize = 3 << 20;
    let (a, b) = hosts();
    let (client, near) = connection(&a, &b);
    let sending = send(client, LEN);
    let (give, take) = std::sync::mpsc::channel::<Blocks>();
    let other = thread::spawn(move || {
        let mut at = 0;
        for blocks in take {
            assert_eq!(
                blocks.slices().map(<[u8]>::len).sum::<usize>(),
                blocks.len()
            );
            assert!(blocks.to_vec() == pattern(at, blocks.len()), "at {at}");
            at += blocks.len();
        }
        at
    });
    let (mut lent, mut copied) = (0, 0);
    loop {
        let blocks = near.receive_blocks().unwrap();
        if blocks.is_empty() {
            break;
        }
        let kind = if blocks.is_copied() {
            &mut copied
        } else {
            &mut lent
        };
        *kind += blocks.len();
        give.send(blocks).unwrap();
    }
    drop(give);
    assert_eq!(other.join().unwrap(), LEN);
    // What had come before the first call was copied.
    assert!(
        lent >= LEN / 2 && lent + copied == LEN,
        "{lent} lent, {copied} copied"
    );
    assert!(near.receive_blocks().unwrap().is_empty(), "the end stays");
    drop((sending.join().unwrap(), near));
    await_free(&b);
}

#[test]
fn what_is_held_closes_the_window_and_starves_nobody() {
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    let (a, b) = hosts_with(config(), limits);
    let (client, near) = connection(&a, &b);
    near.set_nonblocking(true).unwrap();
    assert_eq!(
        near.receive_blocks().unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    let sending = send(client, 8 << 20);
    let mut held: Vec<Blocks> = Vec::new();
    let mut quiet = 0;
    while quiet < 50 {
        match near.receive_blocks() {
            Ok(blocks) => {
                assert!(!blocks.is_empty());
                held.push(blocks);
                quiet = 0;
            }
            Err(_) => {
                thread::sleep(Duration::from_millis(2));
                quiet += 1;
            }
        }
    }
    assert!(!sending.is_finished(), "the sender waits");
    let lent: usize = held
        .iter()
        .filter(|blocks| !blocks.is_copied())
        .map(Blocks::len)
        .sum();
    assert!(lent > 0 && lent <= Limits::MIN + 64 * 1024, "{lent}");
    // Others go on.
    let (mut one, mut two) = connection(&a, &b);
    one.write_all(b"ping").unwrap();
    let mut got = [0; 4];
    two.read_exact(&mut got).unwrap();
    // And so does this one, from where it was, when the blocks have gone back.
    near.set_nonblocking(false).unwrap();
    let mut at = 0;
    for blocks in held.drain(..) {
        assert!(blocks.to_vec() == pattern(at, blocks.len()));
        at += blocks.len();
    }
    loop {
        let blocks = near.receive_blocks().unwrap();
        if blocks.is_empty() {
            break;
        }
        assert!(blocks.to_vec() == pattern(at, blocks.len()));
        at += blocks.len();
    }
    assert_eq!(at, 8 << 20);
    drop(sending.join().unwrap());
}

#[test]
fn blocks_and_bytes_can_be_taken_by_turns() {
    const LEN: usize = 1 << 20;
    let (a, b) = hosts();
    let (client, mut near) = connection(&a, &b);
    let sending = send(client, LEN);
    let (mut all, mut turn) = (Vec::new(), 0);
    while all.len() < LEN {
        turn += 1;
        let mut buffer = vec![0; 1 + turn * 37 % 5_000];
        match turn % 3 {
            0 => {
                let n = near.peek(&mut buffer).unwrap();
                assert!(buffer[..n] == pattern(all.len(), n));
            }
            1 => {
                let n = near.read(&mut buffer).unwrap();
                all.extend_from_slice(&buffer[..n]);
            }
            _ => all.extend(near.receive_blocks().unwrap().to_vec()),
        }
    }
    assert!(all == pattern(0, LEN));
    drop((sending.join().unwrap(), near));
    await_free(&b);
}

#[test]
fn blocks_outlive_their_socket_and_their_host() {
    let (a, b) = hosts();
    let held = [false, true].map(|stop| {
        let (mut client, near) = connection(&a, &b);
        near.set_nonblocking(true).unwrap();
        assert!(near.receive_blocks().is_err());
        near.set_nonblocking(false).unwrap();
        client.write_all(b"still here").unwrap();
        let blocks = near.receive_blocks().unwrap();
        assert!(!blocks.is_copied());
        assert_eq!(blocks.contiguous(), Some(&b"still here"[..]));
        drop((near, client));
        if stop {
            b.stop().unwrap();
        }
        blocks
    });
    for blocks in held {
        assert_eq!(blocks.to_vec(), b"still here");
    }
}

#[test]
fn what_is_spliced_was_lent_before() {
    let (a, b) = hosts();
    let (client, near) = connection(&a, &b);
    let (mut server, far) = connection(&a, &b);
    near.set_nonblocking(true).unwrap();
    assert!(near.receive_blocks().is_err());
    let sending = send(client, 100_000);
    near.set_nonblocking(false).unwrap();
    let first = near.receive_blocks().unwrap();
    let splice = near.splice(&far).unwrap();
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).unwrap();
    assert!(rest == pattern(first.len(), 100_000 - first.len()));
    assert_eq!(splice.wait().unwrap() as usize, rest.len());
    drop(sending.join().unwrap());
}
