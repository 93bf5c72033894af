//! The port of a shard that has none: what it sends goes by that of the shard that leads. What is received comes by steering.
//!
//! Invariant: what finds the ring full stays in the batch, as with any port.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use base::{Batch, Pool};
use port::{Drop as Dropped, Port, PortCounters, PortError, PortFacts};
use rustix::event::{EventfdFlags, eventfd};

use super::Fellow;
use super::pieces::{PieceRx, PieceTx, pieces};

/// One shard's part of another shard's port.
pub(crate) struct Branch {
    facts: PortFacts,
    tx: PieceTx,
    leader: Arc<dyn Fellow>,
    pending: bool,
    /// Never readable: the shard is woken as by any other thread.
    quiet: OwnedFd,
    counters: PortCounters,
    failure: Option<PortError>,
}

impl Branch {
    /// A branch of the port of these facts, whose shard is `leader`, and where that shard takes what is sent from.
    ///
    /// # Errors
    /// No descriptors are left, or no memory.
    pub(crate) fn new(
        facts: &PortFacts,
        shard: usize,
        leader: Arc<dyn Fellow>,
        places: usize,
    ) -> std::io::Result<(Self, PieceRx)> {
        let (tx, rx) = pieces(places)?;
        let branch = Self {
            facts: PortFacts {
                queue: u16::try_from(shard).unwrap_or(u16::MAX),
                ..facts.clone()
            },
            tx,
            leader,
            pending: false,
            quiet: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            counters: PortCounters::default(),
            failure: None,
        };
        Ok((branch, rx))
    }

    fn look_for_the_end(&mut self) {
        if self.failure.is_none() && self.tx.is_closed() {
            let line = format!("the shard that has port {} has ended", self.facts.name);
            self.failure = Some(PortError::new(line));
        }
    }
}

impl Port for Branch {
    fn facts(&self) -> &PortFacts {
        &self.facts
    }

    fn receive(&mut self, _pool: &mut Pool, _batch: &mut Batch) -> usize {
        self.look_for_the_end();
        0
    }

    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let before = batch.len();
        while let Some(packet) = batch.pop_front() {
            let len = packet.chain.len();
            if self.failure.is_some() {
                self.counters.drops.add(Dropped::TxDown);
            } else if len > self.facts.max_frame {
                self.counters.drops.add(Dropped::TxLength);
            } else if self.tx.put(pool, [0; 2], &packet) {
                self.pending = true;
                // The frames themselves are counted by the port.
            } else {
                self.counters.tx_stalls += 1;
                self.pending = true;
                if let Err(packet) = batch.push_front(packet) {
                    pool.free(packet.chain); // it has just been taken out
                }
                break;
            }
            pool.free(packet.chain);
        }
        before - batch.len()
    }

    fn flush(&mut self, _pool: &mut Pool) {
        if std::mem::take(&mut self.pending) {
            self.tx.commit();
            self.leader.wake();
        }
    }

    fn sleep_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.quiet.as_fd())
    }

    fn counters(&self) -> PortCounters {
        self.counters.clone()
    }

    fn failure(&self) -> Option<&PortError> {
        self.failure.as_ref()
    }
}
