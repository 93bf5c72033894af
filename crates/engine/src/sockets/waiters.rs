//! Who waits for one direction of a socket: blocked threads and async tasks, woken together.
//!
//! Invariant: nothing is notified while the socket's lock is held, and no system call is made when nobody waits.

use std::sync::{Condvar, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Tasks beside the first that may wait for one direction.
const OTHERS_MAX: usize = 64;

/// The waiters of one direction. Lives inside the socket's lock.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    blocked: u32,
    /// The usual single task, without an allocation.
    first: Option<Waker>,
    others: Vec<Waker>,
}

/// Waiters taken out of the lock, to be woken once it is released.
#[derive(Debug, Default)]
#[must_use = "waiters taken out must be woken"]
pub(crate) struct Woken {
    blocked: bool,
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Waiters {
    /// Remembers a task, once. When too many wait, one of them comes back to be woken, so that it may ask again if it is
    /// still there: tasks that have gone must not fill memory.
    #[must_use = "an evicted task must be woken"]
    pub(crate) fn register(&mut self, cx: &Context<'_>) -> Option<Waker> {
        let waker = cx.waker();
        match &self.first {
            None => self.first = Some(waker.clone()),
            Some(first) if first.will_wake(waker) => {}
            Some(_) if self.others.iter().any(|other| other.will_wake(waker)) => {}
            Some(_) => {
                self.others.push(waker.clone());
                if self.others.len() > OTHERS_MAX {
                    return Some(self.others.swap_remove(0));
                }
            }
        }
        None
    }

    /// Takes everybody out, to be woken with [`Woken::wake`] after the lock is released.
    pub(crate) fn take(&mut self) -> Woken {
        Woken {
            blocked: self.blocked > 0,
            first: self.first.take(),
            others: std::mem::take(&mut self.others),
        }
    }
}

impl Woken {
    /// Wakes tasks and, through `condvar`, threads.
    pub(crate) fn wake(self, condvar: &Condvar) {
        if self.blocked {
            condvar.notify_all();
        }
        if let Some(first) = self.first {
            first.wake();
        }
        for other in self.others {
            other.wake();
        }
    }
}

/// Has the task woken when something happens, and lets go of the lock. `side` finds the waiters in the locked state.
pub(crate) fn park<T, R>(
    mut guard: MutexGuard<'_, T>,
    cx: &Context<'_>,
    side: impl Fn(&mut T) -> &mut Waiters,
) -> Poll<R> {
    let evicted = side(&mut guard).register(cx);
    drop(guard);
    if let Some(evicted) = evicted {
        evicted.wake();
    }
    Poll::Pending
}

/// Blocks the calling thread until it is woken or `deadline` passes; false when it passed.
///
/// `side` finds the waiters in the locked state. Wakes may be spurious: the caller looks again.
pub(crate) fn block<'a, T>(
    mut guard: MutexGuard<'a, T>,
    condvar: &Condvar,
    deadline: Option<Instant>,
    side: impl Fn(&mut T) -> &mut Waiters,
) -> (MutexGuard<'a, T>, bool) {
    let left = match deadline {
        None => None,
        Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Some(left),
            _ => return (guard, false),
        },
    };
    side(&mut guard).blocked += 1;
    guard = match left {
        None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(left) => {
            condvar
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0
        }
    };
    side(&mut guard).blocked -= 1;
    (guard, true)
}

/// Blocks until the state is `ready`; false if `deadline` came first.
pub(crate) fn block_until<T>(
    mut guard: MutexGuard<'_, T>,
    condvar: &Condvar,
    deadline: Option<Instant>,
    side: impl Fn(&mut T) -> &mut Waiters,
    ready: impl Fn(&T) -> bool,
) -> bool {
    while !ready(&guard) {
        let in_time;
        (guard, in_time) = block(guard, condvar, deadline, &side);
        if !in_time {
            return false;
        }
    }
    true
}

/// Ready when the state is `ready`; else the task is woken when something happens.
pub(crate) fn poll_until<T>(
    guard: MutexGuard<'_, T>,
    cx: &Context<'_>,
    side: impl Fn(&mut T) -> &mut Waiters,
    ready: impl Fn(&T) -> bool,
) -> Poll<()> {
    if ready(&guard) {
        return Poll::Ready(());
    }
    park(guard, cx, side)
}

/// When a wait that starts now and may last `timeout` ends; `None`: never (also if the sum is beyond the clock).
pub fn deadline(timeout: Option<std::time::Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn tasks_are_woken_once_each() {
        let counts: Vec<Arc<Count>> = (0..3).map(|_| Arc::default()).collect();
        let mut waiters = Waiters::default();
        let wakers: Vec<Waker> = counts
            .iter()
            .map(|count| Waker::from(count.clone()))
            .collect();
        for _ in 0..2 {
            for waker in &wakers {
                assert!(waiters.register(&Context::from_waker(waker)).is_none());
            }
        }
        let condvar = Condvar::new();
        waiters.take().wake(&condvar);
        waiters.take().wake(&condvar);
        for count in &counts {
            assert_eq!(count.0.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn tasks_that_have_gone_do_not_pile_up() {
        let waiters = Mutex::new(Waiters::default());
        let counts: Vec<Arc<Count>> = (0..1_000).map(|_| Arc::default()).collect();
        for count in &counts {
            let waker = Waker::from(count.clone());
            let cx = Context::from_waker(&waker);
            assert!(park::<_, ()>(waiters.lock().unwrap(), &cx, |waiters| waiters).is_pending());
        }
        assert!(waiters.lock().unwrap().others.len() <= OTHERS_MAX);
        waiters.lock().unwrap().take().wake(&Condvar::new());
        assert!(
            counts
                .iter()
                .all(|count| count.0.load(Ordering::Relaxed) == 1)
        );
    }

    #[test]
    fn a_passed_deadline_does_not_block() {
        let state = Mutex::new(Waiters::default());
        let condvar = Condvar::new();
        let (guard, waited) = block(
            state.lock().unwrap(),
            &condvar,
            Some(Instant::now()),
            |waiters| waiters,
        );
        assert!(!waited);
        assert_eq!(guard.blocked, 0);
    }
}
