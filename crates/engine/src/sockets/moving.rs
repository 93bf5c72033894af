//! Moving a TCP connection to another shard of its host: the application's side.
//!
//! The record stays what it is, and so do the handles of it, who waits and the sets that watch it: only whom it leaves notices with
//! changes. Of what it shares with its first shard the chunks and limits are as good for any other.
//!
//! What does not live here: how a connection leaves a shard and comes to another (`driver/moving.rs`), and its frames (`steer`).
//!
//! Invariant: a connection that is being moved begins no splice, and one that is spliced is not moved.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};

use rustix::io::Errno;
use stack::{Sharding, SocketError};

use super::error::{io_error, stopped};
use super::tcp::{Phase, TcpShared, TcpSocket, TcpState};
use super::{Answer, Door, Sockets};
use crate::mailbox::lock;
use crate::reply::{Reply, reply};
use crate::steer::Moved;

/// What a door knows of those to the other shards of its host.
#[derive(Debug)]
pub(crate) struct Fellows {
    /// The number of its shard.
    pub(crate) shard: usize,
    pub(crate) sharding: Sharding,
    pub(crate) moved: Arc<Moved>,
    doors: Vec<Weak<Door>>,
}

impl Fellows {
    /// The door to a shard, while there is one.
    pub(crate) fn door(&self, shard: usize) -> Option<Arc<Door>> {
        self.doors.get(shard)?.upgrade()
    }
}

/// To be set once, by who joins the doors of a host.
pub(super) type Joined = OnceLock<Fellows>;

/// Has the doors of a host know of each other.
pub(super) fn join(doors: &[Arc<Door>], sharding: Sharding, moved: &Arc<Moved>) {
    for (shard, door) in doors.iter().enumerate() {
        let _ = door.fellows.set(Fellows {
            shard,
            sharding,
            moved: moved.clone(),
            doors: doors.iter().map(Arc::downgrade).collect(),
        });
    }
}

impl Door {
    /// The number of its shard.
    fn shard(&self) -> usize {
        self.fellows.get().map_or(0, |fellows| fellows.shard)
    }

    fn shards(&self) -> usize {
        self.fellows.get().map_or(1, |fellows| fellows.doors.len())
    }
}

impl Sockets {
    /// How many shards the host has.
    pub fn shards(&self) -> usize {
        self.doors.len()
    }
}

impl TcpShared {
    /// The door to the shard that has the connection now, or is about to.
    pub(crate) fn now_at(&self) -> Arc<Door> {
        // Few are ever moved.
        if self.moved.load(Ordering::Acquire)
            && let Some(door) = &*lock(&self.at)
        {
            return door.clone();
        }
        self.door.clone()
    }

    /// Whether the connection is this door's.
    pub(crate) fn is_at(&self, door: &Arc<Door>) -> bool {
        match self.moved.load(Ordering::Acquire) {
            false => Arc::ptr_eq(&self.door, door),
            true => lock(&self.at)
                .as_ref()
                .is_some_and(|at| Arc::ptr_eq(at, door)),
        }
    }

    /// From now on notices go to this door.
    pub(crate) fn go_to(&self, door: Arc<Door>) {
        *lock(&self.at) = Some(door);
        self.moved.store(true, Ordering::Release);
    }

    /// Whether it is not where it was made.
    pub(super) fn was_moved(&self) -> bool {
        self.moved.load(Ordering::Acquire)
    }

    /// It is not being moved any more.
    pub(crate) fn arrived(&self) {
        self.state().moving = false;
    }
}

impl TcpSocket {
    /// The number of the shard that has the connection, or that it is on its way to.
    pub fn shard(&self) -> usize {
        self.shared.now_at().shard()
    }

    /// Moves the connection to another shard of its host, with all that is queued and in flight; this handle and its clones, and
    /// whoever waits or watches, notice nothing. Answers when it is there.
    ///
    /// The answer's errors: EINVAL when there is no such shard; `InProgress` while it is being connected, `NotConnected` when it is over; EBUSY while
    /// it is spliced or moved; EOPNOTSUPP when its peer is this host; ENOBUFS when the other shard has no room for it, or as many connections
    /// have been moved as may be, and it stays where it is.
    pub fn move_to(&self, shard: usize) -> Reply<io::Result<()>> {
        let (sender, answer) = reply();
        let mut state = self.shared.state();
        match self.may_order(&state, shard) {
            Ok(true) => {
                // Under the same lock as was looked: who lets go of the connection afterwards finds the order, and answers it.
                state.moving = true;
                state.moves = Some((shard, sender));
                drop(state);
                self.shared.notice();
            }
            Ok(false) => sender.send(Ok(())),
            Err(error) => sender.send(Err(error)),
        }
        answer
    }

    /// Whether there is something to be done.
    fn may_order(&self, state: &TcpState, shard: usize) -> io::Result<bool> {
        let shared = &self.shared;
        if shard >= shared.door.shards() {
            return Err(io_error(SocketError::InvalidInput));
        }
        if state.stopped {
            return Err(stopped());
        }
        match state.phase {
            Phase::Connecting => return Err(io_error(SocketError::InProgress)),
            Phase::Dead => return Err(io_error(SocketError::NotConnected)),
            Phase::Open => {}
        }
        if state.moving || state.spliced || state.fed {
            return Err(Errno::BUSY.into());
        }
        Ok(shared.now_at().shard() != shard)
    }
}

/// What the shard is asked to do.
pub(crate) type MoveOrder = (usize, Answer);
