//! Completions: operations are handed in with their buffers, and come back when they are done.
//!
//! Where readiness says that something can be done, completion says that it was: the shard does it, straight between packet
//! memory and the buffer. A loop hands in what it wants next and takes what is over, many at a time; nothing else crosses
//! threads.
//!
//! ```no_run
//! use millstream::Host;
//! use millstream::completion::{BufferGroup, Op, QueueOptions};
//!
//! # fn serve(host: &Host) -> std::io::Result<()> {
//! const LISTEN: u64 = 0;
//! const ACCEPT: u64 = 1;
//! const RECEIVE: u64 = 2;
//!
//! let queue = host.completion_queue(QueueOptions::default())?;
//! // Connections that are silent hold no buffer.
//! let buffers = BufferGroup::new(256, 16 * 1024);
//! queue.submit(Op::listen(([0, 0, 0, 0], 9).into(), 1024, 0).token(LISTEN))?;
//! let mut done = Vec::new();
//! loop {
//!     queue.wait(&mut done, 64, None)?;
//!     for completion in done.drain(..) {
//!         match (completion.token, completion.socket, &completion.result) {
//!             (LISTEN, Some(listener), Ok(_)) => {
//!                 queue.submit(Op::accept_multishot(listener, 0).token(ACCEPT))?;
//!             }
//!             (ACCEPT, Some(connection), Ok(_)) => {
//!                 queue.submit(Op::receive_multishot(connection, &buffers).token(RECEIVE))?;
//!             }
//!             (RECEIVE, Some(_), Ok(1..)) => println!("{} bytes", completion.bytes().len()),
//!             (RECEIVE, Some(connection), _) => queue.submit(Op::close(connection))?,
//!             _ => {}
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! `examples/src/bin/echo_completion.rs` is the whole of such a server.
//!
//! # What ends how
//!
//! Every operation that was taken ends in exactly one [`Completion`] without [`Completion::more`]: with what it brought, with the
//! error the socket call would give, or with ECANCELED. Operations on one socket and in one direction are done in the order they
//! were handed in. When the last clone of a queue is dropped its sockets are reset, and nothing comes any more.
//!
//! # One after the other
//!
//! [`Op::then`] links operations: the next begins when the one before has succeeded. A link may be bounded in time by a
//! [`Op::timeout`] of its own, and [`Op::cancel`] ends what is under way.
//!
//! ```
//! use std::time::Duration;
//!
//! use millstream::completion::{Op, QueueOptions};
//!
//! # use std::io::Write;
//! # let host = millstream::Host::builder().start()?;
//! # let listener = host.tcp_listen("127.0.0.1:25")?;
//! # let queue = host.completion_queue(QueueOptions::default())?;
//! # let mut done = Vec::new();
//! # queue.submit(Op::connect(([127, 0, 0, 1], 25).into(), 0))?;
//! # queue.wait(&mut done, 1, None)?;
//! # let connection = done.remove(0).socket.expect("it connects");
//! # listener.accept()?.0.write_all(b"sixteen letters!")?;
//! const GREETING: u64 = 1;
//! const LATE: u64 = 2;
//!
//! // Says hello, then waits for all sixteen bytes of the answer, then closes.
//! let said = Op::send(connection, b"hello".to_vec()).token(GREETING);
//! let heard = Op::receive_all(connection, vec![0; 16]).token(GREETING);
//! queue.submit(said.then(heard).then(Op::close(connection)))?;
//! // When this completes first, `Op::cancel(connection, GREETING)` ends the others with ECANCELED.
//! queue.submit(Op::timeout(Duration::from_secs(5)).token(LATE))?;
//! while done.len() < 3 {
//!     queue.wait(&mut done, 16, None)?;
//! }
//! assert_eq!(done[1].bytes(), b"sixteen letters!");
//! queue.submit(Op::cancel_token(LATE))?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # From one connection's beginning to its end
//!
//! ```
//! use millstream::UdpOptions;
//! use millstream::completion::{Buffer, BufferGroup, Completion, CompletionQueue, Handle, Op};
//! use millstream::completion::{QueueOptions, Shutdown};
//! use millstream::datagram::Ecn;
//!
//! /// Does one thing and waits for it, which no loop would.
//! fn done(queue: &CompletionQueue, op: Op) -> std::io::Result<Completion> {
//!     let mut done = Vec::new();
//!     queue.submit(op)?;
//!     queue.wait(&mut done, 1, None)?;
//!     Ok(done.remove(0))
//! }
//!
//! # let host = millstream::Host::builder().start()?;
//! let queue = host.completion_queue(QueueOptions::default())?;
//! let local = "127.0.0.1:80".parse().expect("an address");
//! let listener: Handle = done(&queue, Op::listen(local, 128, 0))?.socket.expect("it listens");
//!
//! // From an address of one's choice, with options from the first segment on.
//! let from = "127.0.0.1:4000".parse().expect("an address");
//! let connect = Op::connect(local, 0).bound_to(from).tcp_options(host.tcp_options());
//! let client = done(&queue, connect)?.socket.expect("it connects");
//! done(&queue, Op::send(client, b"GET /".to_vec()))?;
//!
//! // Accepted together with what came first.
//! let accepted = done(&queue, Op::accept(listener, 0).first_bytes(vec![0; 64]))?;
//! assert_eq!((accepted.bytes(), accepted.address), (&b"GET /"[..], Some(from)));
//! let server = accepted.socket.expect("it is accepted");
//!
//! // Its buffer comes back.
//! let sent = done(&queue, Op::send(server, b"hello".to_vec()))?;
//! assert_eq!(sent.buffer.map(Buffer::into_vec).as_deref(), Some(&b"hello"[..]));
//!
//! // A group's buffer is taken when there is something to put into it, and goes back when it is dropped.
//! let group = BufferGroup::new(4, 2048);
//! let received = done(&queue, Op::receive_in(client, &group))?;
//! assert_eq!((received.bytes(), group.available()), (&b"hello"[..], 3));
//! drop(received);
//! assert_eq!(group.available(), 4);
//!
//! // The end of a stream is a receive of nothing.
//! done(&queue, Op::shutdown(server, Shutdown::Write))?;
//! assert!(done(&queue, Op::receive(client, vec![0; 64]))?.bytes().is_empty());
//!
//! // Many at once, and the end of whatever is under way.
//! let mut ops = vec![Op::receive(server, vec![0; 64]), Op::cancel_all(server), Op::reset(client)];
//! queue.submit_all(&mut ops)?;
//!
//! // Datagrams, from one of the host's addresses, with ECN, and in trains.
//! let options = UdpOptions { broadcast: true, ..UdpOptions::default() };
//! # let queue = host.completion_queue(QueueOptions::default())?;
//! let socket = done(&queue, Op::bind(local, 0).udp_options(options))?.socket.expect("it is bound");
//! let train = Op::send_to(socket, b"to itself".to_vec(), local).segment(7);
//! done(&queue, train.source(local.ip()).ecn(Ecn::Ect0))?;
//! let received = done(&queue, Op::receive(socket, vec![0; 2048]))?;
//! assert_eq!(received.bytes(), b"to itse");
//! assert_eq!(received.meta().map(|meta| (meta.to, meta.ecn())), Some((local.ip(), Ecn::Ect0)));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Several workers
//!
//! ```
//! use millstream::completion::QueueOptions;
//!
//! # let host = millstream::Host::builder().start()?;
//! let queue = host.completion_queue(QueueOptions { capacity: 1024, workers: 2 })?;
//! std::thread::scope(|scope| {
//!     for _ in 0..8 {
//!         scope.spawn(|| {
//!             // Of these, as many are at work at a time as `QueueOptions::workers` says.
//!             let mut worker = queue.worker();
//!             let mut done = Vec::new();
//!             while worker.wait(&mut done, 1, None).is_ok_and(|_| done[0].token != 0) {
//!                 done.drain(..).for_each(|completion| println!("{completion:?}"));
//!             }
//!         });
//!     }
//!     // Other work ends the wait of one of them, with words of its own.
//!     queue.post(7, 0, 42)?;
//!     // These have each of them end.
//!     (0..8).try_for_each(|_| queue.post(0, 0, 0))
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Several shards
//!
//! On a host of several shards ([`Builder::shards`](crate::Builder::shards)) one queue serves all of them: each operation is carried out by
//! the shard that has its socket, a listener accepts on all, up to its backlog and at most 128 connections on each before they are
//! asked for, and links may be of any sockets. Only a splice needs both of its connections on one shard: it ends with EXDEV
//! otherwise, and sockets of a queue are not moved. While nobody takes what multishot operations bring, up to twice as many
//! completions may wait as the queue is for, and one more for each shard.
//!
//! # Datagrams
//!
//! [`Op::bind`] makes their sockets. [`Completion::meta`] tells of a datagram what [`RecvMeta`](crate::datagram::RecvMeta) holds: where
//! it was sent to, its ECN bits, when it came, whether it was cut off. [`Op::source`], [`Op::ecn`] and [`Op::segment`] say of one
//! what [`Transmit`](crate::datagram::Transmit) says.
//!
//! # Files
//!
//! [`Op::send_file`] has its file read by the threads that hand operations in and wait for completions, never by the shard: somebody
//! must wait for it to go on.

#[doc(inline)]
pub use engine::completion::{
    Buffer, BufferGroup, Completion, CompletionQueue, GroupBuffer, Handle, Op, SubmitError, Worker,
};
#[doc(inline)]
pub use stack::Shutdown;

/// How large a [`CompletionQueue`] is, and how many work at it.
///
/// ```
/// use std::time::Duration;
///
/// use millstream::completion::{Op, QueueOptions, SubmitError};
///
/// # let host = millstream::Host::builder().start()?;
/// let small = QueueOptions { capacity: 1, workers: 1 };
/// let queue = host.completion_queue(small)?;
/// queue.submit(Op::timeout(Duration::from_secs(60)))?;
/// let second = queue.submit(Op::timeout(Duration::from_secs(60)));
/// assert!(matches!(second, Err(SubmitError::Full(_op))), "it comes back");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueOptions {
    /// Operations under way and completions that were not taken, together.
    pub capacity: usize,
    /// [`Worker`]s that may have something in hand at a time, however many wait (IOCP's concurrency).
    pub workers: usize,
}

impl Default for QueueOptions {
    /// 65,536 operations; as many workers as there are processors.
    fn default() -> Self {
        Self {
            capacity: 64 * 1024,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}
