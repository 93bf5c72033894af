//! A shard in a thread of its own, and the handle other threads have of it.

use std::sync::Arc;
use std::thread::JoinHandle;

use base::Instant;
use stack::Host;

use crate::app::App;
use crate::mailbox::{Mailbox, PostError};
use crate::reply::{Reply, reply};
use crate::shard::{Call, Errand, Message, Shard, ShardError};
use crate::snapshot::ShardSnapshot;
use crate::steer::Fellow;

/// A running (or not yet running) shard, seen from any thread.
pub struct ShardHandle<C> {
    mailbox: Arc<Mailbox<Message<C>>>,
}

impl<C> Clone for ShardHandle<C> {
    fn clone(&self) -> Self {
        Self {
            mailbox: self.mailbox.clone(),
        }
    }
}

impl<C> std::fmt::Debug for ShardHandle<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardHandle").finish_non_exhaustive()
    }
}

impl<C: Send + 'static> ShardHandle<C> {
    pub(crate) fn new(mailbox: Arc<Mailbox<Message<C>>>) -> Self {
        Self { mailbox }
    }

    /// Sends the shard's application a command. Wakes the shard if it sleeps.
    ///
    /// # Errors
    /// The command comes back when the mailbox is full or the shard has stopped.
    pub fn post(&self, command: C) -> Result<(), (C, PostError)> {
        self.mailbox
            .post(Message::App(command))
            .map_err(|(message, why)| match message {
                Message::App(command) => (command, why),
                Message::Snapshot(..) | Message::Call(_) => {
                    unreachable!("what was posted comes back")
                }
            })
    }

    /// Asks what the shard is doing, with its first `connections` connections. The answer is `None` when it has stopped.
    pub fn snapshot(&self, connections: usize) -> Reply<ShardSnapshot> {
        let (sender, answer) = reply();
        // A refused question is dropped, which answers it.
        let _ = self.mailbox.post(Message::Snapshot(connections, sender));
        answer
    }

    /// Does something with the host between two turns of the shard, which waits meanwhile: it must be short. The answer is `None`
    /// when the shard has stopped. A panic in it is one of the shard, and ends it: nobody knows what of the host it has half changed.
    pub fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Host, Instant) -> T + Send + 'static,
    ) -> Reply<T> {
        let (sender, answer) = reply();
        let call = Call(Box::new(move |host, now| sender.send(call(host, now))));
        // As for a snapshot.
        let _ = self.mailbox.post(Message::Call(call));
        answer
    }
}

impl<C> ShardHandle<C> {
    /// Asks the shard to end.
    pub fn stop(&self) {
        self.mailbox.stop();
    }

    /// Wakes the shard's thread if it sleeps: there is something for it in the host.
    pub fn nudge(&self) {
        self.mailbox.wake().notify();
    }
}

impl<C: Send + 'static> Fellow for ShardHandle<C> {
    fn wake(&self) {
        self.nudge();
    }

    fn run(&self, errand: Box<Errand>) {
        // Not to be lost because the mailbox is full; a shard that is gone has no use for it.
        let _ = self.mailbox.post_unbounded(Message::Call(Call(errand)));
    }

    fn stop(&self) {
        self.mailbox.stop();
    }
}

/// A shard that runs in its own thread. Dropping it stops the shard and waits for it.
#[derive(Debug)]
pub struct ShardThread<C> {
    handle: ShardHandle<C>,
    thread: Option<JoinHandle<Result<(), ShardError>>>,
}

impl<C> ShardThread<C> {
    /// A handle of the shard.
    pub fn handle(&self) -> &ShardHandle<C> {
        &self.handle
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops the shard and waits until it has ended.
    ///
    /// # Errors
    /// Why it had ended before, or that it panicked.
    pub fn stop(&mut self) -> Result<(), ShardError> {
        self.handle.stop();
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(ShardError::Panicked),
        }
    }
}

impl<C> Drop for ShardThread<C> {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

impl<A: App + Send + 'static> Shard<A> {
    /// Runs the shard in a thread of its own.
    ///
    /// # Errors
    /// The system refuses another thread; the CPU cannot be had.
    pub fn spawn(mut self) -> Result<ShardThread<A::Command>, ShardError> {
        let handle = self.handle();
        let name = self.options().name.clone();
        let (sender, pinned) = reply();
        let run = move || {
            self.pin()?;
            sender.send(());
            self.run_pinned()
        };
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(|error| ShardError::System("cannot start a thread; see `ulimit -u`", error))?;
        let mut thread = ShardThread {
            handle,
            thread: Some(thread),
        };
        match pinned.wait() {
            Some(()) => Ok(thread),
            None => {
                thread.stop()?;
                Err(ShardError::Panicked)
            }
        }
    }
}
