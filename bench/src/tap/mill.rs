//! Millstream on a port, run to completion in one thread, the application on the shard.
//!
//! What does not live here: the kernel's end, and handing sockets to other threads (the engine's).

use std::net::SocketAddr;

use base::{Batch, Instant};
use port::Port;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stack::{
    Config, Event, Host, InterfaceConfig, InterfaceId, Ready, SocketError, SocketId, TcpOptions,
};
use wire::Cidr;

use super::gauge::{Gauge, Meter, Window};
use super::{Act, Job, PORT};

/// Longest sleep, nanoseconds: how soon the gauge is looked at.
const NAP: u64 = 20_000_000;
/// Bytes of a read and of a write.
const PIECE: usize = 64 << 10;

/// Runs until the gauge stops.
pub(crate) fn run(
    job: Job,
    port: impl Port,
    own: Cidr,
    gauge: &Gauge,
) -> Result<Option<Window>, String> {
    let mut shard = Shard::new(job, port, own)?;
    let mut meter = Meter::new(gauge);
    gauge.set_ready();
    while meter.is_needed(shard.app.done) {
        let worked = shard.turn();
        if !worked && !job.busy_poll() {
            shard.sleep()?;
        }
        if let Some(why) = shard.port.failure() {
            return Err(why.to_string());
        }
    }
    shard.port.release(shard.host.pool_mut());
    Ok(meter.window())
}

struct Shard<P> {
    host: Host,
    port: P,
    interface: InterfaceId,
    batch: Batch,
    outbox: Batch,
    start: std::time::Instant,
    app: App,
}

impl<P: Port> Shard<P> {
    fn new(job: Job, port: P, own: Cidr) -> Result<Self, String> {
        let config = Config {
            pool_blocks: 32 << 10,
            tcp_connections: 1024,
            duplicate_detection: false,
            accept_router_advertisements: false,
            ..Config::default()
        };
        let now = Instant::from_secs(1);
        let mut host = Host::new(config, 1, now).map_err(|e| e.to_string())?;
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
        host.add_address(now, interface, own)
            .map_err(|e| e.to_string())?;
        let options = TcpOptions {
            nodelay: true,
            ..host.tcp_defaults()
        };
        let local = SocketAddr::from(([0, 0, 0, 0], PORT));
        let listener = host
            .tcp_listen(now, local, 16, &options)
            .map_err(|e| e.to_string())?;
        let app = App {
            act: job.act(),
            listener,
            done: 0,
            buffer: vec![7; PIECE],
        };
        Ok(Self {
            host,
            port,
            interface,
            batch: Batch::new(),
            outbox: Batch::new(),
            start: std::time::Instant::now(),
            app,
        })
    }

    fn now(&self) -> Instant {
        Instant::from_secs(1) + self.start.elapsed()
    }

    /// Receive, process, let the application act, transmit. Returns whether there was anything to do.
    fn turn(&mut self) -> bool {
        let now = self.now();
        let received = self.port.receive(self.host.pool_mut(), &mut self.batch);
        let mut work = received > 0;
        if work {
            self.host.handle_batch(now, self.interface, &mut self.batch);
        }
        if self.host.next_deadline().is_some_and(|at| at <= now) {
            self.host.handle_timers(now);
            work = true;
        }
        while let Some(event) = self.host.poll_event() {
            self.app.on_event(&mut self.host, now, event);
            work = true;
        }
        loop {
            let more = self
                .host
                .poll_transmit(now, self.interface, &mut self.outbox);
            if self.outbox.is_empty() {
                break;
            }
            let taken = self.port.transmit(self.host.pool_mut(), &mut self.outbox);
            work |= taken > 0;
            if !more || taken == 0 {
                break;
            }
        }
        self.port.flush(self.host.pool_mut());
        // Sending may make sockets ready too: a connection that just failed.
        while let Some(event) = self.host.poll_event() {
            self.app.on_event(&mut self.host, now, event);
            work = true;
        }
        work
    }

    /// Waits for frames or the next deadline.
    fn sleep(&self) -> Result<(), String> {
        let now = self.now();
        let until = self
            .host
            .next_deadline()
            .map_or(NAP, |at| (at - now).as_nanos() as u64);
        // The device is full: it does not tell when it is not.
        let until = if self.outbox.is_empty() {
            until.min(NAP)
        } else {
            100_000
        };
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: until as i64,
        };
        let Some(fd) = self.port.sleep_fd() else {
            return Ok(());
        };
        let mut list = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match poll(&mut list, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(format!("cannot wait for the port: {e}")),
        }
    }
}

struct App {
    act: Act,
    listener: SocketId,
    /// Bytes or answers so far.
    done: u64,
    buffer: Vec<u8>,
}

impl App {
    fn on_event(&mut self, host: &mut Host, now: Instant, event: Event) {
        if event.socket == self.listener {
            while let Ok((socket, _)) = host.tcp_accept(now, self.listener) {
                // What came with the handshake may have been reported before anybody held the socket.
                self.exchange(host, now, socket);
            }
        } else if event.ready.contains(Ready::ERROR) {
            let _ = host.abort(now, event.socket);
        } else {
            self.exchange(host, now, event.socket);
        }
    }

    fn exchange(&mut self, host: &mut Host, now: Instant, socket: SocketId) {
        loop {
            let result = match self.act {
                Act::Receive => host.tcp_recv(now, socket, &mut self.buffer),
                Act::ReceiveInPlace => host.tcp_recv_chain(now, socket, PIECE).map(|chain| {
                    let n = chain.len();
                    host.pool_mut().free(chain);
                    n
                }),
                Act::Send => host.tcp_send(now, socket, &self.buffer),
                Act::Answer => match host.tcp_recv(now, socket, &mut self.buffer) {
                    Ok(0) => Ok(0),
                    Ok(n) => host.tcp_send(now, socket, &self.buffer[..n]).map(|_| 1),
                    Err(e) => Err(e),
                },
            };
            match result {
                Ok(0) => {
                    let _ = host.close(now, socket);
                    return;
                }
                Ok(n) => self.done += n as u64,
                Err(SocketError::WouldBlock) => return,
                Err(_) => {
                    let _ = host.abort(now, socket);
                    return;
                }
            }
        }
    }
}
