//! A peer that never reads: what completion queues send to it waits in bounded memory, and can be taken back.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // what others need of it
mod bench;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bench::{Bench, LONG, address, done, errno, next};
use engine::completion::{CompletionQueue, Op};
use rustix::io::Errno;
use stack::{Shutdown, TcpOptions};

/// What each end may hold.
const BUFFER: u32 = 128 * 1024;
/// Bytes of a block of packet memory.
const BLOCK: usize = 2048;

/// Waits until the hosts take nothing more: how much they hold then.
fn until_still(bench: &Bench) -> usize {
    let (mut before, mut looks) = (0, 0);
    while looks < 50 {
        thread::sleep(Duration::from_millis(2));
        let now = bench.blocks() as usize * BLOCK;
        looks = if now == before { looks + 1 } else { 0 };
        before = now;
    }
    before
}

fn quiet(queue: &CompletionQueue) {
    let none = queue.wait(&mut Vec::new(), 1, Some(Duration::from_millis(20)));
    assert_eq!(none.unwrap(), 0);
}

#[test]
fn what_nobody_reads_waits_in_bounded_memory_and_can_be_taken_back() {
    const LEN: usize = 8 << 20;
    for bench in Bench::each() {
        let (client, server) = bench.queues(16);
        let options = || TcpOptions {
            send_buffer: Some(BUFFER),
            receive_buffer: Some(BUFFER),
            ..TcpOptions::default()
        };
        let listening = done(
            &server,
            Op::listen(address(2, 0), 4, 1).tcp_options(options()),
        );
        let connect = Op::connect(listening.address.unwrap(), 2).tcp_options(options());
        let near = done(&client, connect).socket.unwrap();
        let far = done(&server, Op::accept(listening.socket.unwrap(), 3));
        let far = far.socket.unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEN as u64).unwrap();
        let idle = bench.blocks() as usize * BLOCK;
        let ops = [
            Op::send(near, vec![1; LEN]).token(1),
            Op::send(near, vec![2; LEN]).token(2),
            Op::send_file(near, Arc::new(file), 0, LEN as u64).token(3),
            Op::shutdown(near, Shutdown::Write)
                .token(4)
                .then(Op::close(near).token(5)),
        ];
        client.submit_all(&mut Vec::from(ops)).unwrap();
        let held = until_still(&bench) - idle;
        let bound = 4 * BUFFER as usize;
        assert!(
            held <= bound,
            "{held} bytes are held, at most {bound} may be"
        );
        quiet(&client);

        // Taken back, each ends once, with its buffer and how much of it had gone. What was behind it finds little room.
        client.submit(Op::cancel(near, 1).token(9)).unwrap();
        let (first, over) = (next(&client), next(&client));
        assert_eq!((first.token, first.buffer.unwrap().len()), (1, LEN));
        let first = first.result.unwrap();
        assert!(first > 0);
        assert_eq!((over.token, over.result.unwrap()), (9, 1));
        assert!(until_still(&bench) - idle <= bound);
        quiet(&client);
        client.submit(Op::cancel_all(near).token(10)).unwrap();
        let mut second = 0;
        for (token, buffer) in [(2, Some(LEN)), (3, None), (4, None), (5, None)] {
            let over = next(&client);
            match over.result {
                Ok(n) if token == 2 => second = n,
                _ => assert_eq!(errno(&over), Errno::CANCELED),
            }
            assert_eq!(over.token, token);
            assert_eq!(over.buffer.map(|buffer| buffer.len()), buffer);
        }
        // A super-frame may go beyond.
        let most = 2 * BUFFER as usize + 64 * 1024;
        assert!(first + second <= most, "{first} and {second} were taken");
        let over = next(&client);
        assert_eq!((over.token, over.result.unwrap()), (10, 3));
        quiet(&client);

        // The peer reads after all: what was sent, and no more.
        assert!(done(&client, Op::close(near)).result.is_ok());
        server.submit(Op::receive_all(far, vec![0; LEN])).unwrap();
        let mut got = Vec::new();
        assert_eq!(server.wait(&mut got, 1, LONG).unwrap(), 1);
        assert!(got[0].bytes() == [vec![1; first], vec![2; second]].concat());
        assert!(done(&server, Op::close(far)).result.is_ok());
        let left = until_still(&bench);
        assert!(left <= idle, "{left} bytes are held still, {idle} were");
    }
}
