//! Being asked to end: Ctrl-C, SIGTERM, SIGHUP.
//!
//! What does not live here: ending, which is the command's.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

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
