//! Connections that are joined inside the host: what comes in at one leaves at the other.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use common::{B, config, hosts, hosts_with, pattern};
use millstream::{Host, Limits, Splice, TcpStream};

/// A connection from `a` to `b`: both ends.
fn connection(a: &Host, b: &Host) -> (TcpStream, TcpStream) {
    let listener = b.tcp_listen((B, 0)).unwrap();
    let client = a.tcp_connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Two connections of `b` that are joined both ways; their far ends, and what joins them.
fn joined(a: &Host, b: &Host) -> (TcpStream, TcpStream, [Splice; 2]) {
    let (client, near) = connection(a, b);
    let (server, far) = connection(a, b);
    let both = [near.splice(&far).unwrap(), far.splice(&near).unwrap()];
    (client, server, both)
}

fn read_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn both_ways_and_to_the_end() {
    let (a, b) = hosts();
    let (mut client, mut server, [there, back]) = joined(&a, &b);
    client.write_all(b"question").unwrap();
    let mut got = [0; 8];
    server.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"question");
    server.write_all(b"answer").unwrap();
    client.read_exact(&mut got[..6]).unwrap();
    assert_eq!(&got[..6], b"answer");
    // One end, then the other.
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&server), b"");
    assert_eq!(there.wait().unwrap(), 8);
    server.write_all(b"last words").unwrap();
    drop(server);
    assert_eq!(read_all(&client), b"last words");
    assert_eq!((back.moved(), back.wait().unwrap()), (16, 16));
}

#[test]
fn what_was_received_before_goes_first_and_what_was_not_moved_can_be_read() {
    let (a, b) = hosts();
    let (mut client, mut near) = connection(&a, &b);
    let (mut server, far) = connection(&a, &b);
    client.write_all(&pattern(0, 100_000)).unwrap();
    // Some of it is in the reader's hands, some with the host.
    let mut got = vec![0; 100];
    near.read_exact(&mut got).unwrap();
    assert_eq!(got, pattern(0, 100));
    (&far).write_all(b"before: ").unwrap();
    let splice = near.splice(&far).unwrap();
    let mut got = vec![0; 100_000 - 100 + 8];
    server.read_exact(&mut got).unwrap();
    assert_eq!(&got[..8], b"before: ");
    assert!(got[8..] == pattern(100, 100_000 - 100));
    near.set_nonblocking(true).unwrap();
    let nothing = near.read(&mut got).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    near.set_nonblocking(false).unwrap();
    // From here on it is read here.
    drop(splice);
    client.write_all(b"mine").unwrap();
    near.read_exact(&mut got[..4]).unwrap();
    assert_eq!(&got[..4], b"mine");
    // And spliced again.
    let again = near.splice(&far).unwrap();
    client.write_all(b"yours").unwrap();
    drop(client);
    server.read_exact(&mut got[..5]).unwrap();
    assert_eq!((&got[..5], again.wait().unwrap()), (&b"yours"[..], 5));
}

/// Bytes of a stream, put together into one number. Nothing is remembered.
fn digest(mut stream: &TcpStream, slowly: bool) -> (u64, u64) {
    let (mut hasher, mut n, mut buffer) = (DefaultHasher::new(), 0, vec![0; 1 << 16]);
    loop {
        let got = stream.read(&mut buffer).unwrap();
        if got == 0 {
            return (n, hasher.finish());
        }
        buffer[..got].iter().for_each(|byte| hasher.write_u8(*byte));
        n += got as u64;
        if slowly && n.is_multiple_of(7) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Sends `len` bytes through a host that splices; nothing of them stays there.
fn through(len: u64, slowly: bool) {
    let (a, b) = hosts();
    let (client, server, [there, back]) = joined(&a, &b);
    let reading = thread::spawn(move || {
        let got = digest(&server, slowly);
        server.shutdown(Shutdown::Write).unwrap();
        got
    });
    let part = pattern(0, 1 << 16);
    let (mut hasher, mut sent) = (DefaultHasher::new(), 0);
    while sent < len {
        let n = part.len().min((len - sent) as usize);
        (&client).write_all(&part[..n]).unwrap();
        part[..n].iter().for_each(|byte| hasher.write_u8(*byte));
        sent += n as u64;
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(reading.join().unwrap(), (len, hasher.finish()));
    assert_eq!((there.wait().unwrap(), back.wait().unwrap()), (len, 0));
    assert_eq!(read_all(&client), b"");
    let pool = b.snapshot().unwrap().pool;
    // What two connections hold at most each way, whatever goes through.
    assert!(pool.high_water < 8 * 1024, "{pool:?}");
}

/// 64 MiB in every run; as many as wanted by `SPLICE_MIB`.
#[test]
fn a_long_stream_goes_through_and_nothing_stays() {
    let wanted = std::env::var("SPLICE_MIB").ok();
    let mib: u64 = wanted.map_or(64, |n| n.parse().expect("SPLICE_MIB is a number"));
    through(mib << 20, false);
}

#[test]
fn a_slow_reader_holds_back_the_sender() {
    through(3 << 20, true);
}

#[test]
fn resets_are_passed_on_both_ways() {
    let (a, b) = hosts();
    for reset_client in [true, false] {
        let (client, server, [there, back]) = joined(&a, &b);
        (&client).write_all(b"x").unwrap();
        (&server).read_exact(&mut [0]).unwrap();
        let (gone, mut left) = if reset_client {
            (client, server)
        } else {
            (server, client)
        };
        gone.set_linger(Some(Duration::ZERO)).unwrap();
        drop(gone);
        let reset = left.read(&mut [0]).unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        let ends = [there.wait(), back.wait()];
        assert!(ends.iter().all(Result::is_err), "{ends:?}");
        let mine = &ends[usize::from(!reset_client)];
        let kind = mine.as_ref().unwrap_err().kind();
        assert_eq!(kind, ErrorKind::ConnectionReset, "{ends:?}");
    }
}

/// Each connection is spliced to the next: the reset of the first ends all of them.
#[test]
fn a_reset_goes_along_two_thousand_splices() {
    let (a, b) = hosts();
    let listener = b.tcp_listen((B, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let connect = |_| (a.tcp_connect(addr).unwrap(), listener.accept().unwrap().0);
    let (mut far, near): (Vec<_>, Vec<_>) = (0..=2_000).map(connect).unzip();
    let pairs = near.windows(2);
    let splices: Vec<_> = pairs
        .map(|pair| pair[0].splice(&pair[1]).unwrap())
        .collect();
    (&far[0]).write_all(b"x").unwrap();
    (&far[1]).read_exact(&mut [0]).unwrap();
    let first = far.remove(0);
    first.set_linger(Some(Duration::ZERO)).unwrap();
    drop(first);
    let reset = ErrorKind::ConnectionReset;
    for splice in splices {
        assert_eq!(splice.wait().unwrap_err().kind(), reset);
    }
    for mut other in far {
        // So many at once find no room with the device: whose reset was lost hears of it by asking.
        let told = other.write(b"?").and_then(|_| other.read(&mut [0]));
        assert_eq!(told.unwrap_err().kind(), reset);
    }
}

/// One way after the other: when the second begins its connection may be over.
#[test]
fn a_connection_that_is_over_gives_what_it_received() {
    let (a, b) = hosts();
    let (client, near) = connection(&a, &b);
    let [(one, far), (two, other)] = [connection(&a, &b), connection(&a, &b)];
    near.shutdown(Shutdown::Write).unwrap();
    (&client).write_all(&pattern(0, 50_000)).unwrap();
    drop(client);
    while near.peer_addr().is_ok() {
        thread::sleep(Duration::from_millis(1));
    }
    let tee = near.tee(&far, &other).unwrap();
    assert!(read_all(&one) == pattern(0, 50_000));
    assert!(read_all(&two) == pattern(0, 50_000));
    assert_eq!(tee.wait().unwrap(), 50_000);
}

#[test]
fn a_tee_sends_everything_twice() {
    const LEN: usize = 1 << 20;
    let (a, b) = hosts();
    let (client, near) = connection(&a, &b);
    let [(one, far), (two, other)] = [connection(&a, &b), connection(&a, &b)];
    // Bytes that were received before are among them.
    (&client).write_all(&pattern(0, 5_000)).unwrap();
    near.peek(&mut [0]).unwrap();
    let tee = near.tee(&far, &other).unwrap();
    let readers = [one, two].map(|stream| thread::spawn(move || read_all(&stream)));
    (&client).write_all(&pattern(5_000, LEN - 5_000)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    for reader in readers {
        assert!(reader.join().unwrap() == pattern(0, LEN));
    }
    assert_eq!(tee.wait().unwrap(), LEN as u64);
}

#[test]
fn what_cannot_be_joined_is_refused() {
    let (a, b) = hosts();
    let (client, near) = connection(&a, &b);
    let (server, far) = connection(&a, &b);
    let kind = |splice: io::Result<Splice>| splice.unwrap_err().kind();
    assert_eq!(kind(near.splice(&client)), ErrorKind::CrossesDevices);
    assert_eq!(kind(near.splice(&near)), ErrorKind::InvalidInput);
    assert_eq!(kind(near.tee(&far, &far)), ErrorKind::InvalidInput);
    let first = near.splice(&far).unwrap();
    assert_eq!(kind(near.splice(&far)), ErrorKind::ResourceBusy);
    let (_third, other) = connection(&a, &b);
    assert_eq!(kind(near.splice(&other)), ErrorKind::ResourceBusy);
    assert_eq!(kind(other.splice(&far)), ErrorKind::ResourceBusy);
    // What was refused has left nothing behind.
    drop(far.splice(&other).unwrap());
    drop(first);
    far.shutdown(Shutdown::Write).unwrap();
    assert_eq!(kind(near.splice(&far)), ErrorKind::BrokenPipe);
    drop(server);
    let stopped = other.splice(&near).unwrap();
    b.stop().unwrap();
    assert_eq!(stopped.wait().unwrap_err().kind(), ErrorKind::NotConnected);
    assert!(other.splice(&near).is_err());
}

/// Streams of any length both ways, ends and resets in any order: every byte arrives before its end does.
#[test]
fn random_streams_arrive_whole() {
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    let (a, b) = hosts_with(config(), limits);
    let mut rng = base_rng(7);
    for _ in 0..40 {
        let (client, server, both) = joined(&a, &b);
        let lens = [rng() % 300_000, rng() % 300_000];
        let late = rng().is_multiple_of(2);
        let ends = [client, server];
        let sent: Vec<_> = (0..2)
            .map(|at| {
                let stream = ends[at].try_clone().unwrap();
                let data = pattern(at, lens[at]);
                thread::spawn(move || {
                    (&stream).write_all(&data).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                })
            })
            .collect();
        if late {
            thread::yield_now();
        }
        for at in [0, 1] {
            assert!(read_all(&ends[at]) == pattern(1 - at, lens[1 - at]));
        }
        sent.into_iter().for_each(|thread| thread.join().unwrap());
        let moved = both.map(|splice| splice.wait().unwrap() as usize);
        assert_eq!(moved, lens);
    }
}

/// Numbers that look random.
fn base_rng(mut state: u64) -> impl FnMut() -> usize {
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    }
}
