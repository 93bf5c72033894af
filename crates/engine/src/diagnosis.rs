//! What tools are told of a process besides its hosts: sets of sockets, completion queues, groups of buffers.
//!
//! What does not live here: what tools are told of a host (`snapshot`, and `stack`'s lists).
//!
//! Invariant: being on a list costs its owner nothing until somebody asks, and does not keep it in memory.

use std::sync::{Arc, Mutex, Weak};

use crate::mailbox::lock;

/// A list of what is there.
#[derive(Debug)]
pub(crate) struct Register<T: ?Sized>(Mutex<Vec<Weak<T>>>);

impl<T: ?Sized> Default for Register<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ?Sized> Register<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Puts something on the list, until it goes.
    pub(crate) fn enter(&self, thing: &Arc<T>) {
        let mut list = lock(&self.0);
        // Those that have gone leave before the list would grow.
        if list.len() == list.capacity() {
            list.retain(|thing| thing.strong_count() > 0);
        }
        list.push(Arc::downgrade(thing));
    }

    /// All that is there.
    pub(crate) fn each(&self) -> Vec<Arc<T>> {
        lock(&self.0).iter().filter_map(Weak::upgrade).collect()
    }
}

/// A set of sockets that somebody may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetRow {
    /// What it is: `poll` (millstream's), `epoll` (of descriptors).
    pub kind: &'static str,
    /// Tells it from others of its kind: the descriptor, if it has one.
    pub number: u64,
    /// Sockets it watches.
    pub watched: u32,
    /// Those to which something has happened of which nobody was told yet.
    pub ready: u32,
    /// Threads that wait for it.
    pub waiters: u32,
}

/// A completion queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRow {
    /// Operations there may be.
    pub capacity: u64,
    /// Operations that were taken, and whose last completion nobody has.
    pub outstanding: u64,
    /// Completions that wait to be taken.
    pub completions: u64,
    /// Threads that wait for completions.
    pub waiters: u64,
    /// Workers that have completions in hand, and how many may.
    pub working: u64,
    /// See `working`.
    pub concurrency: u64,
}

/// A group of buffers that receive operations draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRow {
    /// Buffers.
    pub buffers: u64,
    /// Those nobody holds.
    pub available: u64,
    /// Bytes of each.
    pub size: u64,
}

/// Whoever has sets of sockets tells of them here.
pub trait Sets: Send + Sync {
    /// Puts a row for each set behind what is in `rows`. Who asks waits for it.
    fn tell(&self, rows: &mut Vec<SetRow>);
}

static SETS: Register<dyn Sets> = Register::new();

/// Has [`sets`] ask `owner`, for as long as it lives.
pub fn enter_sets(owner: &Arc<dyn Sets>) {
    SETS.enter(owner);
}

/// The sets of sockets of this process.
pub fn sets() -> Vec<SetRow> {
    let mut rows = Vec::new();
    for owner in SETS.each() {
        owner.tell(&mut rows);
    }
    rows
}

/// Who has a group of buffers.
pub(crate) trait Lender: Send + Sync {
    fn row(&self) -> GroupRow;
}

pub(crate) static GROUPS: Register<dyn Lender> = Register::new();

/// The groups of buffers of this process.
pub fn buffer_groups() -> Vec<GroupRow> {
    GROUPS.each().iter().map(|group| group.row()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_gone_is_not_listed_and_takes_no_room() {
        let register = Register::new();
        let kept = Arc::new(7);
        register.enter(&kept);
        for n in 0..1000 {
            register.enter(&Arc::new(n));
        }
        assert_eq!(register.each(), [kept]);
        assert!(lock(&register.0).capacity() <= 16);
    }
}
