//! How long the blocking calls of one socket wait: O_NONBLOCK, SO_RCVTIMEO, SO_SNDTIMEO.
//!
//! Invariant: shared by all clones of a socket, as by all descriptors of one open socket.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The flag and the two timeouts of a socket.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    nonblocking: AtomicBool,
    read: Timeout,
    write: Timeout,
}

/// A timeout in nanoseconds; nought is none.
#[derive(Debug, Default)]
struct Timeout(AtomicU64);

impl Timeout {
    fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    fn set(&self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "cannot set a 0 duration timeout",
            ));
        }
        let nanos = timeout.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.0.store(nanos, Ordering::Relaxed);
        Ok(())
    }
}

impl Waiting {
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    pub(crate) fn nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }

    pub(crate) fn read_timeout(&self) -> Option<Duration> {
        self.read.get()
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.read.set(timeout)
    }

    pub(crate) fn write_timeout(&self) -> Option<Duration> {
        self.write.get()
    }

    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.write.set(timeout)
    }

    /// Repeats `call` until it gives anything but `WouldBlock`, waiting with `wait` in between.
    pub(crate) fn reading<T>(
        &self,
        call: impl FnMut() -> io::Result<T>,
        wait: impl FnMut(Option<Instant>) -> bool,
    ) -> io::Result<T> {
        self.repeat(&self.read, call, wait)
    }

    /// As [`Waiting::reading`], with the timeout for writing.
    pub(crate) fn writing<T>(
        &self,
        call: impl FnMut() -> io::Result<T>,
        wait: impl FnMut(Option<Instant>) -> bool,
    ) -> io::Result<T> {
        self.repeat(&self.write, call, wait)
    }

    fn repeat<T>(
        &self,
        timeout: &Timeout,
        mut call: impl FnMut() -> io::Result<T>,
        mut wait: impl FnMut(Option<Instant>) -> bool,
    ) -> io::Result<T> {
        let mut deadline = None;
        loop {
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.nonblocking() => {
                    // The clock is read only by calls that really wait.
                    let until = *deadline.get_or_insert_with(|| engine::deadline(timeout.get()));
                    if !wait(until) {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
    }
}

/// What sockets with std's face say of waiting; they are in the field `$shared`, as `waiting`.
macro_rules! blocking {
    ($socket:ty, $shared:ident) => {
        impl $socket {
            /// How long reading or receiving waits before it gives `WouldBlock`; `None`, as at first: for ever. Shared by all clones.
            ///
            /// # Errors
            /// `InvalidInput` for no time at all.
            pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.$shared.waiting.set_read_timeout(timeout)
            }

            /// How long writing or sending waits before it gives `WouldBlock`, or tells of the part it took; `None`, as at first: for
            /// ever. Shared by all clones.
            ///
            /// # Errors
            /// `InvalidInput` for no time at all.
            pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.$shared.waiting.set_write_timeout(timeout)
            }

            /// What `set_read_timeout` was told last, to the nanosecond.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.$shared.waiting.read_timeout())
            }

            /// What `set_write_timeout` was told last, to the nanosecond.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.$shared.waiting.write_timeout())
            }

            /// Makes calls that would wait give `WouldBlock` instead; shared by all clones.
            ///
            /// # Errors
            /// None; the result is that of std's method.
            pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                self.$shared.waiting.set_nonblocking(nonblocking);
                Ok(())
            }
        }
    };
}
pub(crate) use blocking;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_until_it_does_not_block() {
        let waiting = Waiting::default();
        let mut calls = 0;
        let got = waiting.reading(
            || {
                calls += 1;
                if calls < 3 {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(calls)
                }
            },
            |deadline| deadline.is_none(),
        );
        assert_eq!(got.unwrap(), 3);
    }

    #[test]
    fn timeouts_and_the_flag_end_the_wait() {
        let waiting = Waiting::default();
        assert!(waiting.set_read_timeout(Some(Duration::ZERO)).is_err());
        waiting
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        assert_eq!(waiting.read_timeout(), Some(Duration::from_millis(1)));
        let would_block = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let late = waiting.reading(would_block, |deadline| {
            assert!(deadline.is_some());
            false
        });
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        waiting.set_nonblocking(true);
        assert!(
            waiting
                .writing(would_block, |_| unreachable!("it never waits"))
                .is_err()
        );
    }
}
