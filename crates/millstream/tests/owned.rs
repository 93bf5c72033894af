//! Buffers and files that are handed over to be sent.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread::{self, ThreadId};

use common::{B, hosts, pattern};
use millstream::{Host, TcpStream};

/// A connection from `a` to `b`: both ends.
fn connection(a: &Host, b: &Host) -> (TcpStream, TcpStream) {
    let listener = b.tcp_listen((B, 0)).unwrap();
    let client = a.tcp_connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn read_all(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn buffers_of_any_kind_are_sent_in_order_and_come_back() {
    let (a, b) = hosts();
    let (mut client, near) = connection(&a, &b);
    let reading = thread::spawn(move || read_all(near));
    let shared: Arc<[u8]> = pattern(1_000_000, 100_000).into();
    let first = client.send_owned(pattern(0, 1_000_000)).unwrap();
    let second = client.send_owned(shared.clone()).unwrap();
    client.write_all(&pattern(1_100_000, 10)).unwrap();
    let third = client.send_owned("the end").unwrap();
    let none = client.send_owned(Vec::new()).unwrap();
    assert_eq!(none.wait(), Some(Vec::new()));
    client.shutdown(Shutdown::Write).unwrap();
    let got = reading.join().unwrap();
    assert!(got[..1_100_010] == pattern(0, 1_100_010));
    assert_eq!(&got[1_100_010..], b"the end");
    assert!(first.wait().unwrap() == pattern(0, 1_000_000));
    assert!(Arc::ptr_eq(&second.wait().unwrap(), &shared));
    assert_eq!(third.wait(), Some("the end"));
}

#[test]
fn buffers_of_a_connection_that_is_over_come_back() {
    let (a, b) = hosts();
    let (client, near) = connection(&a, &b);
    // More than fits anywhere: nobody reads.
    let held = client.send_owned(vec![7; 16 << 20]).unwrap();
    client.set_nonblocking(true).unwrap();
    let full = client.send_owned(vec![8; 10]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    drop(near);
    assert_eq!(held.wait().unwrap().len(), 16 << 20);
    // It may come back a little before the connection says so.
    client.set_nonblocking(false).unwrap();
    let mut error = client.send_owned(vec![9; 10]).unwrap_err().kind();
    if error == ErrorKind::ConnectionReset {
        error = client.send_owned(vec![9; 10]).unwrap_err().kind();
    }
    assert_eq!(error, ErrorKind::BrokenPipe);
}

/// What a type of the application's does when the shard asks it for its bytes, or drops it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trick {
    Panic,
    Shrink,
    PanicInDrop,
}

struct Tricky {
    trick: Trick,
    bytes: Vec<u8>,
    owner: ThreadId,
}

impl Tricky {
    fn plays(&self, trick: Trick) -> bool {
        self.trick == trick && thread::current().id() != self.owner
    }
}

impl AsRef<[u8]> for Tricky {
    fn as_ref(&self) -> &[u8] {
        assert!(!self.plays(Trick::Panic), "as it was told");
        let gone = if self.plays(Trick::Shrink) { 1 } else { 0 };
        &self.bytes[gone..]
    }
}

impl Drop for Tricky {
    fn drop(&mut self) {
        assert!(!self.plays(Trick::PanicInDrop), "as it was told");
    }
}

/// It ends its connection at most, and no other of the host.
#[test]
fn a_buffer_that_breaks_its_promise_harms_its_connection_alone() {
    let (a, b) = hosts();
    let (mut other, other_near) = connection(&a, &b);
    for trick in [Trick::Panic, Trick::Shrink, Trick::PanicInDrop] {
        let (mut client, mut near) = connection(&a, &b);
        client.write_all(b"before").unwrap();
        near.read_exact(&mut [0; 6]).unwrap();
        let tricky = Tricky {
            trick,
            bytes: pattern(0, 1_000),
            owner: thread::current().id(),
        };
        let reply = client.send_owned(tricky).unwrap();
        if trick == Trick::PanicInDrop {
            drop(reply);
            let mut got = [0; 1_000];
            near.read_exact(&mut got).unwrap();
            assert!(got[..] == pattern(0, 1_000));
            client.write_all(b"behind").unwrap();
            near.read_exact(&mut [0; 6]).unwrap();
            continue;
        }
        let reset = near.read(&mut [0]).unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        let back = reply.wait().unwrap();
        assert!(back.bytes == pattern(0, 1_000));
        let ended = client.read(&mut [0]).unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::ConnectionAborted);
        let over = client.write(b"behind").unwrap_err();
        assert_eq!(over.kind(), ErrorKind::BrokenPipe);
    }
    other.write_all(b"still there").unwrap();
    drop(other);
    assert_eq!(read_all(other_near), b"still there");
}

#[test]
fn files_are_sent_as_far_as_they_go() {
    // A large file that is there: this program.
    let program = std::env::current_exe().unwrap();
    let (file, data) = (File::open(&program).unwrap(), fs::read(&program).unwrap());
    let (a, b) = hosts();
    let (mut client, near) = connection(&a, &b);
    let reading = thread::spawn(move || read_all(near));
    assert_eq!(client.send_file(&file, 0, 1_000).unwrap(), 1_000);
    client.write_all(b"between").unwrap();
    let len = data.len() as u64;
    assert_eq!(
        client.send_file(&file, 1_000, u64::MAX).unwrap(),
        len - 1_000
    );
    assert_eq!(client.send_file(&file, len, 1).unwrap(), 0);
    assert!(client.send_file(&file, u64::MAX, 1).is_err());
    client.shutdown(Shutdown::Write).unwrap();
    let got = reading.join().unwrap();
    assert!(got[..1_000] == data[..1_000] && &got[1_000..1_007] == b"between");
    assert!(got[1_007..] == data[1_000..]);
    let over = client.send_file(&file, 0, 1).unwrap_err();
    assert_eq!(over.kind(), ErrorKind::BrokenPipe);
}
