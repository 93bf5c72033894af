//! Being asked to end: Ctrl-C, SIGTERM, SIGHUP.
//!
//! What does not live here: ending, which is the command's.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// Whether the user wants the program to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Takes the signals over from now on. A second one ends the process at once, in case ending takes long.
    ///
    /// # Errors
    /// When the signals cannot be had.
    pub(crate) fn listen() -> io::Result<Self> {
        let stop = Self::default();
        for kind in [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ] {
            // `nohup` and shells' background jobs say which signals are not meant for us by ignoring them.
            if is_ignored(kind) {
                continue;
            }
            let (mut signals, stop) = (signal(kind)?, stop.clone());
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    if stop.is_wanted() {
                        std::process::exit(130);
                    }
                    stop.want();
                }
            });
        }
        Ok(stop)
    }

    /// Says that it should end.
    pub(crate) fn want(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether it should end.
    pub(crate) fn is_wanted(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it should end, or for `period`; whether it should end.
    pub(crate) fn wait_for(&self, period: Duration) -> bool {
        let wanted = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .0
            .1
            .wait_timeout_while(wanted, period, |wanted| !*wanted);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until it should end.
    pub(crate) fn wait(&self) {
        let mut wanted = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*wanted {
            wanted = self
                .0
                .1
                .wait(wanted)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Whether the signal is ignored now, by proc_pid_status(5).
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored(&status) >> (kind.as_raw_value() - 1) & 1 == 1
}

/// The mask of ignored signals.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read() {
        assert_eq!(ignored("SigQ:\t1/2\nSigIgn:\t0000000000001001\n"), 0x1001);
        assert_eq!(ignored(""), 0);
    }

    #[test]
    fn waiting_ends_with_the_period_or_the_wish() {
        let stop = Stop::default();
        assert!(!stop.wait_for(Duration::ZERO));
        stop.want();
        assert!(stop.wait_for(Duration::from_secs(60)));
    }
}
