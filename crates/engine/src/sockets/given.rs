//! Buffers that are handed over to be sent, and come back when their bytes were taken.
//!
//! What does not live here: the queue they wait in (`chunk`), how the shard takes them (`driver/tcp.rs`).
//!
//! Invariant: a buffer comes back exactly once, whatever becomes of the connection: when it is dropped.
//! Invariant: what a stranger's type does on the shard harms its connection at most.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::MutexGuard;

use stack::SocketError;

use super::chunk::Chunk;
use super::error::io_error;
use super::tcp::{Phase, TcpSocket, TcpState};
use crate::reply::{Reply, Sender, reply};

/// A buffer on its way.
pub(crate) trait Payload: Send + Sync {
    /// Its bytes; none if its type panics over that.
    fn bytes(&self) -> &[u8];
}

/// A buffer, and who wants it back.
struct Given<T>(Option<(T, Sender<T>)>);

/// What a foreign type answers, if it does not panic.
fn unharmed<R>(ask: impl FnOnce() -> R) -> Option<R> {
    // What it panics with may do so in turn when it is dropped.
    catch_unwind(AssertUnwindSafe(ask))
        .map_err(std::mem::forget)
        .ok()
}

impl<T: AsRef<[u8]> + Send + Sync> Payload for Given<T> {
    fn bytes(&self) -> &[u8] {
        let bytes = self.0.as_ref().map(|(bytes, _)| bytes);
        // Nothing of ours is half changed when it panics.
        let bytes = bytes.and_then(|bytes| unharmed(|| bytes.as_ref()));
        bytes.unwrap_or(&[])
    }
}

impl<T> Drop for Given<T> {
    fn drop(&mut self) {
        if let Some((bytes, sender)) = self.0.take() {
            // When nobody waits for it any more it is dropped here.
            let _ = unharmed(|| sender.send(bytes));
        }
    }
}

impl fmt::Debug for dyn Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload")
    }
}

impl TcpSocket {
    /// Takes a whole buffer to be sent, if there is any room at all: its bytes are copied once, by the shard into packet memory. It
    /// comes back when that is done, or when the connection is over. One whose `as_ref` gives less by then than it gave here, or panics,
    /// ends the connection with `ConnectionAborted`, and the peer is sent a reset.
    ///
    /// # Errors
    /// As [`TcpSocket::try_write`]; the buffer comes back.
    pub fn try_give<T>(&self, bytes: T) -> Result<Reply<T>, (T, io::Error)>
    where
        T: AsRef<[u8]> + Send + Sync + 'static,
    {
        let len = bytes.as_ref().len();
        let mut state = self.shared.state();
        match state.take_error() {
            Some(error) => Err((bytes, error)),
            None => self.give(state, bytes, len),
        }
    }

    /// As [`TcpSocket::try_give`], for what follows bytes that were taken already: the connection's error stays for the next call.
    ///
    /// # Errors
    /// `WouldBlock`; `BrokenPipe` for whatever ends the call; the buffer comes back.
    pub fn try_give_on<T>(&self, bytes: T) -> Result<Reply<T>, (T, io::Error)>
    where
        T: AsRef<[u8]> + Send + Sync + 'static,
    {
        let len = bytes.as_ref().len();
        let state = self.shared.state();
        match state.holds_error() {
            true => Err((bytes, io_error(SocketError::BrokenPipe))),
            false => self.give(state, bytes, len),
        }
    }

    fn give<T>(
        &self,
        mut state: MutexGuard<'_, TcpState>,
        bytes: T,
        len: usize,
    ) -> Result<Reply<T>, (T, io::Error)>
    where
        T: AsRef<[u8]> + Send + Sync + 'static,
    {
        let refused = match state.phase {
            Phase::Open if state.write_shut => Some(SocketError::BrokenPipe),
            Phase::Dead => Some(SocketError::BrokenPipe),
            Phase::Connecting => Some(SocketError::WouldBlock),
            Phase::Open if len > 0 && state.tx_len >= self.shared.door.limits.send => {
                state.nospace = true;
                Some(SocketError::WouldBlock)
            }
            Phase::Open => None,
        };
        if let Some(error) = refused {
            return Err((bytes, io_error(error)));
        }
        let (sender, answer) = reply();
        let given = Chunk::given(Box::new(Given(Some((bytes, sender)))), len);
        state.tx_len += len;
        // One without bytes comes back at once.
        let empty = state.tx.push(given);
        drop(state);
        drop(empty);
        self.shared.notice();
        Ok(answer)
    }
}
