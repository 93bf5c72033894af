//! The smallest shard there is: one host, one port, one application, turned by hand so that every part can be timed.
//!
//! What does not live here: sleeping and foreign threads, which are the engine's.

use std::time::{Duration, Instant as Wall};

use crate::measure::thread_cpu;
use base::{Batch, Instant, Offloads};
use port::Port;
use port::ring::{RingOptions, RingPort, pair};
use stack::{Config, Event, Host, InterfaceConfig, InterfaceId};
use wire::Mac;

/// The ends of a cable, by their addresses.
pub(crate) const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];

/// Two ports on one cable: it leaves checksums to "the device", as veth does, and never segments.
pub(crate) fn cable() -> Result<(RingPort, RingPort), String> {
    let options = RingOptions {
        offloads: Offloads {
            tso4: false,
            tso6: false,
            uso: false,
            ..Offloads::ALL
        },
        ..RingOptions::default()
    };
    pair(MACS, &options).map_err(|e| e.to_string())
}

/// One end of a ring with a host on it.
pub(crate) struct Shard {
    pub(crate) host: Host,
    port: RingPort,
    pub(crate) interface: InterfaceId,
    start: Wall,
    inbox: Batch,
    outbox: Batch,
    pub(crate) now: Instant,
    /// Thread CPU time, and the wall clock, when the figures were started; not asked before (valgrind knows no vDSO).
    cpu: f64,
    since: Wall,
    /// When the last turn began, and whether it found something to do.
    last: (Wall, bool),
    /// Wall time of turns that did.
    busy: Duration,
    pub(crate) frames: u64,
}

impl Shard {
    pub(crate) fn new(
        config: Config,
        port: RingPort,
        addresses: &[String],
        seed: u64,
    ) -> Result<Self, String> {
        let start = Wall::now();
        let now = Instant::from_secs(1);
        let mut host = Host::new(config, seed, now).map_err(|e| e.to_string())?;
        let facts = port.facts();
        let interface = InterfaceConfig {
            name: facts.name.clone(),
            mac: Some(facts.mac),
            mtu: facts.mtu,
            offloads: facts.offloads,
        };
        let interface = host
            .add_interface(now, interface)
            .map_err(|e| e.to_string())?;
        for address in addresses {
            let cidr = address.parse().map_err(|e| format!("{address}: {e:?}"))?;
            host.add_address(now, interface, cidr)
                .map_err(|e| e.to_string())?;
        }
        let (inbox, outbox) = (Batch::new(), Batch::new());
        Ok(Self {
            host,
            port,
            interface,
            start,
            inbox,
            outbox,
            now,
            cpu: 0.0,
            since: start,
            last: (start, false),
            busy: Duration::ZERO,
            frames: 0,
        })
    }

    /// One turn: receive, process, let the application act, transmit. Returns whether there was anything to do.
    pub(crate) fn turn(&mut self, on_event: &mut impl FnMut(&mut Host, Instant, Event)) -> bool {
        let begin = Wall::now();
        self.now = Instant::from_secs(1) + (begin - self.start);
        let (began, worked) = self.last;
        if worked {
            self.busy += begin - began;
        }
        let work = self.pass(on_event);
        self.last = (begin, work);
        work
    }

    /// A turn at a moment of somebody's choice, of which nothing is timed.
    pub(crate) fn turn_at(
        &mut self,
        now: Instant,
        on_event: &mut impl FnMut(&mut Host, Instant, Event),
    ) -> bool {
        self.now = now;
        self.pass(on_event)
    }

    fn pass(&mut self, on_event: &mut impl FnMut(&mut Host, Instant, Event)) -> bool {
        let received = self.port.receive(self.host.pool_mut(), &mut self.inbox);
        let mut work = received > 0;
        if work {
            self.host
                .handle_batch(self.now, self.interface, &mut self.inbox);
        }
        if self.host.next_deadline().is_some_and(|at| at <= self.now) {
            self.host.handle_timers(self.now);
            work = true;
        }
        while let Some(event) = self.host.poll_event() {
            on_event(&mut self.host, self.now, event);
            work = true;
        }
        work |= self.transmit();
        self.frames += received as u64;
        work
    }

    fn transmit(&mut self) -> bool {
        let mut sent = false;
        loop {
            let more = self
                .host
                .poll_transmit(self.now, self.interface, &mut self.outbox);
            if self.outbox.is_empty() {
                break;
            }
            let taken = self.port.transmit(self.host.pool_mut(), &mut self.outbox);
            self.frames += taken as u64;
            sent |= taken > 0;
            if !more || taken == 0 {
                break;
            }
        }
        self.port.flush(self.host.pool_mut());
        sent
    }

    /// CPU seconds of the turns that found something to do, since the figures were started: this thread's CPU time, less the
    /// part of the wall clock that went by in idle turns. So what other programs took is shared out evenly, and no clock
    /// is read but the one that every turn reads anyway.
    pub(crate) fn cpu_busy(&self) -> f64 {
        let wall = self.since.elapsed().as_secs_f64();
        (thread_cpu() - self.cpu) * self.busy.as_secs_f64() / wall
    }

    /// Starts the figures afresh.
    pub(crate) fn reset(&mut self) {
        (self.cpu, self.since) = (thread_cpu(), Wall::now());
        self.last = (self.since, false);
        (self.busy, self.frames) = (Duration::ZERO, 0);
    }
}
