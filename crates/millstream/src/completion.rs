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
//! ```no_run
//! use std::time::Duration;
//!
//! use millstream::completion::{CompletionQueue, Handle, Op};
//!
//! # fn answer(queue: &CompletionQueue, connection: Handle) -> std::io::Result<()> {
//! const GREETING: u64 = 1;
//! const LATE: u64 = 2;
//!
//! // Says hello, then waits for all sixteen bytes of the answer, then closes.
//! let said = Op::send(connection, b"hello".to_vec()).token(GREETING);
//! let heard = Op::receive_all(connection, vec![0; 16]).token(GREETING);
//! queue.submit(said.then(heard).then(Op::close(connection)))?;
//! // When this completes first, `Op::cancel(connection, GREETING)` ends the others with ECANCELED.
//! queue.submit(Op::timeout(Duration::from_secs(5)).token(LATE))?;
//! # Ok(())
//! # }
//! ```
//!
//! # Several workers
//!
//! ```no_run
//! use millstream::completion::CompletionQueue;
//!
//! # fn work(queue: &CompletionQueue) {
//! std::thread::scope(|scope| {
//!     for _ in 0..8 {
//!         scope.spawn(|| {
//!             // Of these, as many are at work at a time as `QueueOptions::workers` says.
//!             let mut worker = queue.worker();
//!             let mut done = Vec::new();
//!             while worker.wait(&mut done, 16, None).is_ok() {
//!                 done.drain(..).for_each(|completion| println!("{completion:?}"));
//!             }
//!         });
//!     }
//!     // Other work ends the wait of one of them, with words of its own.
//!     queue.post(7, 0, 42)
//! })
//! .expect("the queue has room");
//! # }
//! ```
//!
//! # Files
//!
//! [`Op::send_file`] has its file read by the threads that hand operations in and wait for completions, never by the shard: somebody
//! must wait for it to go on.

#[doc(inline)]
pub use engine::completion::{
    Buffer, BufferGroup, Completion, CompletionQueue, GroupBuffer, Handle, Op, SubmitError, Worker,
};

/// How large a [`CompletionQueue`] is, and how many work at it.
///
/// ```no_run
/// use millstream::completion::QueueOptions;
///
/// # fn example(host: &millstream::Host) -> std::io::Result<()> {
/// let small = QueueOptions { capacity: 1024, workers: 2 };
/// let queue = host.completion_queue(small)?;
/// # Ok(())
/// # }
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
