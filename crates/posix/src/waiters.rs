//! Who waits for what, in worlds whose threads sleep: alarms by descriptor.
//!
//! What does not live here: callers that wait for a set, whose alarm is the set's own (`joined`); sleeping.
//!
//! Invariant: an alarm is here exactly while its caller waits, and the lock of the world is held by whoever looks.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar};

use rustix::event::{EventfdFlags, eventfd};

use crate::errno::Result;

/// What wakes a caller.
#[derive(Debug)]
pub(crate) enum Alarm {
    /// It sleeps on the lock of its world.
    Condvar(Condvar),
    /// It sleeps in the kernel: an eventfd.
    Bell(OwnedFd),
}

impl Alarm {
    fn ring(&self) {
        match self {
            Self::Condvar(condvar) => condvar.notify_all(),
            Self::Bell(bell) => ring(bell),
        }
    }
}

/// An eventfd that nobody has signalled.
pub(crate) fn bell() -> Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

pub(crate) fn ring(bell: &OwnedFd) {
    // It fails when the counter is at its end, and then it is readable.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    alarms: HashMap<i32, Vec<Arc<Alarm>>>,
    /// Bells that nobody uses now.
    spare: Vec<Arc<Alarm>>,
}

impl Waiters {
    pub(crate) fn add(&mut self, fd: i32, alarm: &Arc<Alarm>) {
        self.alarms.entry(fd).or_default().push(alarm.clone());
    }

    pub(crate) fn remove(&mut self, fd: i32, alarm: &Arc<Alarm>) {
        if let Some(alarms) = self.alarms.get_mut(&fd) {
            alarms.retain(|other| !Arc::ptr_eq(other, alarm));
            if alarms.is_empty() {
                self.alarms.remove(&fd);
            }
        }
    }

    /// Something has happened to a descriptor.
    pub(crate) fn ring(&self, fd: i32) {
        if self.alarms.is_empty() {
            return;
        }
        for alarm in self.alarms.get(&fd).into_iter().flatten() {
            alarm.ring();
        }
    }

    /// All wake: their world is coming to its end.
    pub(crate) fn ring_all(&self) {
        for alarm in self.alarms.values().flatten() {
            alarm.ring();
        }
    }

    /// A bell for one wait.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn bell(&mut self) -> Result<Arc<Alarm>> {
        match self.spare.pop() {
            Some(bell) => Ok(bell),
            None => Ok(Arc::new(Alarm::Bell(bell()?))),
        }
    }

    /// The wait is over.
    pub(crate) fn give_back(&mut self, bell: Arc<Alarm>) {
        /// More threads at once in poll are few.
        const SPARE_MOST: usize = 16;
        if let Alarm::Bell(fd) = &*bell
            && self.spare.len() < SPARE_MOST
        {
            let _ = rustix::io::read(fd, &mut [0; 8]);
            self.spare.push(bell);
        }
    }
}
