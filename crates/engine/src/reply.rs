//! One answer from a shard to whoever asked: a thread that blocks for it or a task that awaits it.
//!
//! Invariant: an asker never waits for ever: a [`Sender`] that goes away unused answers with `None`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::mailbox::lock;

#[derive(Debug)]
struct State<T> {
    answer: Option<T>,
    done: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Slot<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

/// The shard's end.
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Slot<T>>);

/// An answer that will come: [`Reply::wait`] for it or `.await` it; `None` if the shard has stopped.
#[derive(Debug)]
pub struct Reply<T>(Arc<Slot<T>>);

/// Both ends of one answer.
pub(crate) fn reply<T>() -> (Sender<T>, Reply<T>) {
    let slot = Arc::new(Slot {
        state: Mutex::new(State {
            answer: None,
            done: false,
            waker: None,
        }),
        arrived: Condvar::new(),
    });
    (Sender(slot.clone()), Reply(slot))
}

impl<T> Sender<T> {
    /// Answers.
    pub(crate) fn send(self, answer: T) {
        lock(&self.0.state).answer = Some(answer);
        // Dropping marks it done and wakes.
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.done = true;
        let waker = state.waker.take();
        drop(state);
        self.0.arrived.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Reply<T> {
    /// Blocks until the answer is there; `None` if the shard stopped before it answered.
    pub fn wait(self) -> Option<T> {
        let mut state = lock(&self.0.state);
        while !state.done {
            state = self
                .0
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.answer.take()
    }
}

impl<T> Future for Reply<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = lock(&self.0.state);
        if state.done {
            return Poll::Ready(state.answer.take());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_and_silence() {
        let (sender, answer) = reply();
        sender.send(7);
        assert_eq!(answer.wait(), Some(7));
        let (sender, answer) = reply::<u8>();
        drop(sender);
        assert_eq!(answer.wait(), None);
    }

    #[test]
    fn wakes_a_blocked_thread() {
        let (sender, answer) = reply();
        let waiter = std::thread::spawn(move || answer.wait());
        sender.send("here");
        assert_eq!(waiter.join().unwrap(), Some("here"));
    }

    #[test]
    fn wakes_a_task() {
        let (sender, mut answer) = reply();
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut answer).poll(&mut cx), Poll::Pending);
        sender.send(1u8);
        assert_eq!(Pin::new(&mut answer).poll(&mut cx), Poll::Ready(Some(1)));
    }
}
