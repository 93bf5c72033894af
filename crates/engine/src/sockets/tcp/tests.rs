//! A TCP socket's record against a fake shard: bounds, ends, errors, wake-ups.

use std::sync::atomic::Ordering;
use std::thread;

use stack::Ready;

use super::*;
use crate::mailbox::{Inbox, Mailbox};
use crate::shard::Message;
use crate::sockets::{Limits, Notice, Sockets, Subject};

/// A socket in `phase`, and the shard's end of its mailbox.
fn socket(phase: Phase) -> (TcpSocket, Arc<TcpShared>, Inbox<Message<Notice>>) {
    let (mailbox, inbox) = Mailbox::new(16).unwrap();
    let limits = Limits {
        receive: Limits::MIN,
        send: Limits::MIN,
    };
    let sockets = Sockets::new(mailbox, limits, TcpOptions::default());
    let remote = "192.0.2.1:80".parse().unwrap();
    let shared = Arc::new(TcpShared::new(sockets.door().clone(), phase, remote, None));
    (TcpSocket::new(shared.clone()), shared, inbox)
}

/// What the shard finds in its mailbox: how many notices. Their flags are cleared.
fn notices(inbox: &mut Inbox<Message<Notice>>) -> usize {
    let mut messages = Vec::new();
    inbox.drain(&mut messages);
    let n = messages.len();
    for message in messages {
        if let Message::App(notice) = message
            && let Some(Subject::Tcp(shared)) = notice.take()
        {
            shared.taken();
        }
    }
    n
}

/// The shard hands received bytes over.
fn deliver(shared: &TcpShared, bytes: &[u8]) {
    let mut state = shared.state();
    state.rx.push(shared.door.chunks.copy_of(bytes));
    state.rx_len += bytes.len();
    let readers = state.readers.take();
    drop(state);
    readers.wake(&shared.readable);
}

/// The shard takes and sends everything written; the bytes.
fn take_written(shared: &TcpShared) -> Vec<u8> {
    let mut queue = ByteQueue::default();
    let mut state = shared.state();
    queue.append(&mut state.tx);
    let mut bytes = vec![0; queue.len()];
    queue.peek(&mut bytes);
    state.tx_len -= bytes.len();
    let writers = state.writers.take();
    drop(state);
    writers.wake(&shared.writable);
    bytes
}

fn read(socket: &TcpSocket, buf: &mut [u8]) -> io::Result<usize> {
    socket.try_read(&mut [IoSliceMut::new(buf)])
}

fn write(socket: &TcpSocket, buf: &[u8]) -> io::Result<usize> {
    socket.try_write(&[IoSlice::new(buf)])
}

#[test]
fn written_bytes_are_bounded_and_noticed_once() {
    let (socket, shared, mut inbox) = socket(Phase::Open);
    let data: Vec<u8> = (0..3 * Limits::MIN).map(|n| (n % 251) as u8).collect();
    let mut written = 0;
    let full = loop {
        match write(&socket, &data[written..written + 50_000]) {
            Ok(n) => written += n,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(written, Limits::MIN);
    assert_eq!(notices(&mut inbox), 1);
    assert_eq!(take_written(&shared), data[..written]);
    assert_eq!(write(&socket, b"more").unwrap(), 4);
    assert_eq!(notices(&mut inbox), 1);
}

#[test]
fn a_writer_that_blocks_goes_on_when_there_is_room() {
    let (socket, shared, _inbox) = socket(Phase::Open);
    while write(&socket, &[7; 60_000]).is_ok() {}
    assert!(!socket.wait_writable(Some(Instant::now())));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            assert!(socket.wait_writable(None));
            write(&socket, &[8; 10]).unwrap()
        });
        take_written(&shared);
        assert_eq!(writer.join().unwrap(), 10);
    });
}

#[test]
fn reading_resumes_the_shard_once() {
    let (socket, shared, mut inbox) = socket(Phase::Open);
    for _ in 0..4 {
        deliver(&shared, &[1; Limits::MIN / 4]);
    }
    shared.state().rx_paused = true;
    let mut buf = vec![0; 4096];
    let mut total = 0;
    while let Ok(n) = read(&socket, &mut buf) {
        total += n;
    }
    assert_eq!(total, Limits::MIN);
    assert_eq!(shared.state().rx_len, 0);
    assert_eq!(
        notices(&mut inbox),
        1,
        "one notice for all the room that was made"
    );
}

#[test]
fn data_comes_before_the_error_and_the_error_once() {
    let (socket, shared, _inbox) = socket(Phase::Open);
    deliver(&shared, b"last words");
    shared.fail(Some(SocketError::ConnectionReset));
    let mut buf = [0; 32];
    assert_eq!(socket.try_peek(&mut buf).unwrap(), 10);
    assert_eq!(read(&socket, &mut buf).unwrap(), 10);
    assert_eq!(
        read(&socket, &mut buf).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    assert_eq!(read(&socket, &mut buf).unwrap(), 0);
    assert_eq!(
        write(&socket, b"x").unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[test]
fn end_of_stream() {
    let (socket, shared, _inbox) = socket(Phase::Open);
    let mut buf = [0; 8];
    assert_eq!(
        read(&socket, &mut buf).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    assert_eq!(
        read(&socket, &mut []).unwrap(),
        0,
        "an empty buffer is filled at once"
    );
    shared.state().rx_end = true;
    assert!(socket.wait_readable(None));
    assert_eq!(read(&socket, &mut buf).unwrap(), 0);
    assert_eq!(
        write(&socket, b"still").unwrap(),
        5,
        "the other direction is open"
    );
}

#[test]
fn shutdown_for_writing_follows_the_data() {
    let (socket, shared, mut inbox) = socket(Phase::Open);
    write(&socket, b"data").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        write(&socket, b"late").unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    assert_eq!(notices(&mut inbox), 1);
    let state = shared.state();
    assert!(state.write_shut && state.tx_len == 4);
}

#[test]
fn a_connection_is_reported_when_it_is_decided() {
    let (socket, shared, _inbox) = socket(Phase::Connecting);
    assert!(socket.connected().is_none());
    assert_eq!(
        write(&socket, b"early").unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    assert_eq!(
        socket.peer_addr().unwrap_err().kind(),
        io::ErrorKind::NotConnected
    );
    thread::scope(|scope| {
        let waiter = scope.spawn(|| socket.wait_writable(None));
        shared.fail(Some(SocketError::ConnectionRefused));
        assert!(waiter.join().unwrap());
    });
    let refused = socket.connected().unwrap().unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn dropping_says_how_to_close() {
    for (unread, linger, expected) in [
        (false, None, Close::Graceful),
        (true, None, Close::Abort),
        (false, Some(Duration::ZERO), Close::Abort),
        (false, Some(Duration::from_secs(5)), Close::Graceful),
    ] {
        let (socket, shared, mut inbox) = socket(Phase::Open);
        if unread {
            deliver(&shared, b"never read");
        }
        socket
            .set_options(|options| options.linger = linger)
            .unwrap();
        notices(&mut inbox);
        drop(socket);
        assert_eq!(shared.state().closed, Some(expected));
        assert_eq!(notices(&mut inbox), 1);
    }
}

#[test]
fn a_stopped_host_fails_every_call() {
    let (socket, _shared, inbox) = socket(Phase::Open);
    drop(inbox);
    write(&socket, b"unknowing").unwrap();
    assert_eq!(
        write(&socket, b"x").unwrap_err().kind(),
        io::ErrorKind::NotConnected
    );
    assert!(
        read(&socket, &mut [0])
            .unwrap_err()
            .to_string()
            .contains("stopped")
    );
    assert!(socket.shutdown(Shutdown::Both).is_err());
    assert!(socket.info().wait().is_none());
}

#[test]
fn what_the_peer_said_before_the_host_stopped_counts() {
    let (socket, shared, _inbox) = socket(Phase::Open);
    deliver(&shared, b"all");
    {
        let mut state = shared.state();
        (state.fin, state.rx_end) = (true, true);
    }
    shared.fail_stopped();
    let mut buf = [0; 8];
    assert_eq!(read(&socket, &mut buf).unwrap(), 3);
    assert_eq!(read(&socket, &mut buf).unwrap(), 0);
    assert!(write(&socket, b"x").is_err());
}

#[test]
fn a_dropped_notice_fails_its_socket() {
    let (socket, _shared, inbox) = socket(Phase::Open);
    write(&socket, b"x").unwrap();
    drop(inbox);
    assert!(write(&socket, b"x").is_err());
}

/// Two threads and a fake shard push a stream through one record as fast as they can: every byte arrives in order, and no
/// wake-up is lost, or the test would hang.
#[test]
fn a_stream_through_the_record() {
    const TOTAL: usize = 16 << 20;
    let (socket, shared, mut inbox) = socket(Phase::Open);
    let byte = |n: usize| (n / 3 % 253) as u8;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = 0;
            let mut piece = 1;
            while sent < TOTAL {
                piece = piece * 7 % 100_003;
                let data: Vec<u8> = (sent..TOTAL.min(sent + piece)).map(byte).collect();
                let mut data = &data[..];
                while !data.is_empty() {
                    match write(&socket, data) {
                        Ok(n) => {
                            data = &data[n..];
                            sent += n;
                        }
                        Err(_) => assert!(socket.wait_writable(None)),
                    }
                }
            }
        });
        scope.spawn(|| loop_back(&shared, &mut inbox, TOTAL));
        let mut got = 0;
        let mut buf = vec![0; 50_000];
        while got < TOTAL {
            assert!(socket.wait_readable(None));
            if let Ok(n) = read(&socket, &mut buf) {
                assert!(
                    buf[..n]
                        .iter()
                        .enumerate()
                        .all(|(i, b)| *b == byte(got + i))
                );
                got += n;
            }
        }
    });
}

/// A shard whose stack is a wire to itself. It sleeps without a timeout.
fn loop_back(shared: &Arc<TcpShared>, inbox: &mut Inbox<Message<Notice>>, total: usize) {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut moved = 0;
    let mut held = Vec::new();
    while moved < total {
        if notices(inbox) == 0 && held.is_empty() {
            let mailbox = inbox.mailbox();
            mailbox.wake().prepare();
            if !mailbox.has_work() {
                let mut fds = [PollFd::from_borrowed_fd(mailbox.wake().fd(), PollFlags::IN)];
                poll(&mut fds, None).unwrap();
                mailbox.wake().drain();
            }
            mailbox.wake().awake();
            continue;
        }
        held.append(&mut take_written(shared));
        let room = {
            let mut state = shared.state();
            let room = Limits::MIN.saturating_sub(state.rx_len);
            state.rx_paused = room < held.len();
            room
        };
        let n = room.min(held.len());
        for piece in held[..n].chunks(60_000) {
            deliver(shared, piece);
        }
        moved += n;
        held.drain(..n);
        if !held.is_empty() {
            thread::yield_now();
        }
    }
}

/// Whatever makes one of a task's bits true wakes it, and only that.
#[test]
fn readiness_is_told() {
    let (socket, shared, mut inbox) = socket(Phase::Connecting);
    let woken = Arc::new(Woken::default());
    let waker = std::task::Waker::from(woken.clone());
    let cx = &mut Context::from_waker(&waker);
    let mut waits_for = |interest: Ready| {
        assert!(socket.poll_ready(cx, interest).is_pending());
        assert!(!woken.0.swap(false, Ordering::Relaxed));
    };
    let told = || woken.0.swap(false, Ordering::Relaxed);
    assert_eq!(socket.readiness(), Ready::NONE);
    waits_for(Ready::WRITABLE);
    {
        let mut state = shared.state();
        state.phase = Phase::Open;
        let writers = state.writers.take();
        drop(state);
        writers.wake(&shared.writable);
    }
    assert!(told());
    assert_eq!(socket.readiness(), Ready::WRITABLE);
    waits_for(Ready::READABLE | Ready::READ_CLOSED);
    deliver(&shared, b"bytes");
    assert!(told());
    assert_eq!(socket.readiness(), Ready::WRITABLE | Ready::READABLE);
    // What the reader took off the record and did not read counts.
    assert_eq!(read(&socket, &mut [0; 1]).unwrap(), 1);
    assert!(socket.readiness().contains(Ready::READABLE));
    assert_eq!(read(&socket, &mut [0; 8]).unwrap(), 4);
    waits_for(Ready::READABLE);
    waits_for(Ready::HUP | Ready::ERROR | Ready::WRITE_CLOSED);
    socket.shutdown(Shutdown::Write).unwrap();
    assert!(told());
    let open = socket.readiness();
    assert_eq!(open, Ready::WRITABLE | Ready::WRITE_CLOSED);
    waits_for(Ready::HUP);
    shared.fail(Some(SocketError::ConnectionReset));
    assert!(told());
    let over = socket.readiness();
    assert!(over.contains(Ready::HUP | Ready::ERROR | Ready::READABLE | Ready::READ_CLOSED));
    assert!(notices(&mut inbox) > 0);
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_error_behind_what_was_read_is_for_the_next_read() {
    let (socket, shared, _inbox) = socket(Phase::Open);
    for _ in 0..3 {
        deliver(&shared, &[1; 60_000]);
    }
    let mut buffer = vec![0; 180_000];
    assert_eq!(read(&socket, &mut buffer[..1]).unwrap(), 1);
    shared.fail(Some(SocketError::ConnectionReset));
    // So much that the account is settled, and the record holds nothing but the error.
    assert_eq!(read(&socket, &mut buffer).unwrap(), 179_999);
    assert_eq!(read(&socket, &mut []).unwrap(), 0);
    let reset = read(&socket, &mut buffer).unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(read(&socket, &mut buffer).unwrap(), 0);
}

/// A call that sends several buffers tells how many were taken, and the next one why no more were.
#[test]
fn an_error_behind_buffers_that_were_given_is_for_the_next_call() {
    let (socket, shared, _inbox) = socket(Phase::Open);
    let first = socket.try_give(vec![1; 10]).unwrap();
    shared.fail(Some(SocketError::ConnectionReset));
    assert_eq!(first.wait(), Some(vec![1; 10]));
    let (back, error) = socket.try_give_on(vec![2; 10]).unwrap_err();
    assert_eq!(
        (back, error.kind()),
        (vec![2; 10], io::ErrorKind::BrokenPipe)
    );
    let (_, error) = socket.try_give(vec![3; 10]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

type Pair<T> = [Arc<T>; 2];

/// Two open sockets of one host, the first of which has received `bytes`; what both sides know of them.
fn two(bytes: &[u8]) -> (Pair<TcpSocket>, Pair<TcpShared>, Inbox<Message<Notice>>) {
    let (from, shared, inbox) = socket(Phase::Open);
    let remote = "192.0.2.2:80".parse().unwrap();
    let door = shared.door.clone();
    let other = Arc::new(TcpShared::new(door, Phase::Open, remote, None));
    deliver(&shared, bytes);
    let to = TcpSocket::new(other.clone());
    ([from, to].map(Arc::new), [shared, other], inbox)
}

/// The shard lets go of a connection before it has seen that it is to be spliced.
#[test]
fn what_a_splice_that_did_not_begin_took_can_be_read() {
    let ([from, to], [shared, other], _inbox) = two(b"of the peer");
    assert_eq!(read(&from, &mut [0; 3]).unwrap(), 3);
    let splice = from.splice(&to, None).unwrap();
    let mut buffer = [0; 16];
    let nothing = read(&from, &mut buffer).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    shared.fail(Some(SocketError::ConnectionReset));
    let ended = splice.wait().unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::NotConnected);
    assert_eq!(read(&from, &mut buffer).unwrap(), 8);
    assert_eq!(&buffer[..8], b"the peer");
    let reset = read(&from, &mut buffer).unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    assert!(!other.state().fed && !other.state().write_shut);
}

/// What is left of a stream that has ended goes where it is to go, whenever it was said.
#[test]
fn a_stream_that_has_ended_is_spliced_from_its_record() {
    for late in [false, true] {
        let ([from, to], [shared, other], _inbox) = two(b"the last words");
        assert_eq!(read(&from, &mut [0; 4]).unwrap(), 4);
        shared.state().fin = true;
        let begun = (!late).then(|| from.splice(&to, None).unwrap());
        shared.fail(None);
        let splice = begun.unwrap_or_else(|| from.splice(&to, None).unwrap());
        assert_eq!((splice.moved(), splice.wait().unwrap()), (10, 10));
        assert!(other.state().write_shut && !other.state().fed);
        assert_eq!(take_written(&other), b"last words");
        assert_eq!(read(&from, &mut [0; 4]).unwrap(), 0);
        // And again: there is nothing left, and where it was to go is shut.
        let again = from.splice(&to, None).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::BrokenPipe);
    }
}
