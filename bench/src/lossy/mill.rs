//! Millstream's ends: a shard as anybody would run it, with an application on it that sends or receives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::Instant;
use engine::{App, Shard, ShardCx, ShardOptions};
use port::ring::RingPort;
use stack::{Config, Congestion, Event, Ready, SocketError, SocketId, TcpOptions};
use wire::{Addr, Cidr};

use super::course::{PORT, RECEIVER, Shared};

/// How soon the end is seen.
const GLANCE: Duration = Duration::from_millis(20);

/// Runs until it is over.
pub(super) fn run(
    port: RingPort,
    address: [u8; 4],
    shared: &Arc<Shared>,
    flows: usize,
    sends: bool,
) -> Result<(), String> {
    let config = Config {
        pool_blocks: 24 << 10,
        tcp_connections: 64,
        tcp_active: 64,
        tcp_half_open: 64,
        tcp_time_wait: 64,
        timers: 1024,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    };
    let congestion = Congestion::from_name(&shared.control)
        .ok_or_else(|| format!("Millstream has no {}", shared.control))?;
    let options = TcpOptions {
        congestion: Some(congestion),
        ..TcpOptions::of(&config)
    };
    let bulk = Bulk {
        shared: Arc::clone(shared),
        options,
        flows,
        sends,
        sockets: Vec::new(),
        listener: None,
        buffer: vec![7; 64 << 10],
        failed: None,
        trace: Trace::default(),
    };
    let shard_options = ShardOptions {
        drain: Duration::ZERO,
        ..ShardOptions::default()
    };
    let seed = engine::random_seed().map_err(|e| e.to_string())?;
    let mut shard = Shard::new(config, seed, bulk, shard_options).map_err(|e| e.to_string())?;
    let interface = shard.add_port(Box::new(port)).map_err(|e| e.to_string())?;
    let (now, cidr) = (
        shard.now(),
        Cidr::new(Addr::v4(address[0], address[1], address[2], address[3]), 24),
    );
    shard
        .host()
        .add_address(now, interface, cidr.ok_or("no such network")?)
        .map_err(|e| e.to_string())?;
    match shard.run() {
        // The link may be gone first.
        Err(error) if !shared.is_over() => return Err(error.to_string()),
        _ => {}
    }
    if let Some(path) = shared.trace.as_ref().filter(|_| sends) {
        let text = &shard.app().trace.text;
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    shard.app().failed.take().map_or(Ok(()), Err)
}

/// Lines of what the connections said of themselves.
#[derive(Default)]
struct Trace {
    text: String,
    next: Instant,
}

struct Bulk {
    shared: Arc<Shared>,
    options: TcpOptions,
    flows: usize,
    sends: bool,
    /// In the order of their flows.
    sockets: Vec<SocketId>,
    listener: Option<SocketId>,
    buffer: Vec<u8>,
    failed: Option<String>,
    trace: Trace,
}

impl App for Bulk {
    type Command = ();

    fn on_start(&mut self, cx: &mut ShardCx<'_>) {
        let address = SocketAddr::from((RECEIVER, PORT));
        if let Err(why) = self.begin(cx, address) {
            self.failed = Some(why.to_string());
            cx.stop();
        }
    }

    fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
        if Some(event.socket) == self.listener {
            while let Ok((socket, _)) = cx.host.tcp_accept(cx.now, event.socket) {
                self.sockets.push(socket);
                self.read(cx, socket);
            }
            return;
        }
        if event.ready.contains(Ready::ERROR) && self.sends && !self.shared.is_over() {
            let error = cx.host.take_error(event.socket);
            self.failed
                .get_or_insert(format!("a connection failed: {error:?}"));
        }
        if self.sends {
            while let Ok(1..) = cx.host.tcp_send(cx.now, event.socket, &self.buffer) {}
        } else {
            self.read(cx, event.socket);
        }
    }

    fn on_turn(&mut self, cx: &mut ShardCx<'_>) {
        if self.shared.is_over() {
            return cx.stop();
        }
        if self.shared.trace.is_some() && self.sends {
            self.trace.note(cx, &self.sockets);
        }
        cx.again_within(GLANCE);
    }
}

impl Bulk {
    fn begin(&mut self, cx: &mut ShardCx<'_>, address: SocketAddr) -> Result<(), SocketError> {
        if self.sends {
            for _ in 0..self.flows {
                let socket = cx.host.tcp_connect(cx.now, address, None, &self.options)?;
                self.sockets.push(socket);
            }
        } else {
            let listener = cx.host.tcp_listen(cx.now, address, 16, &self.options)?;
            self.listener = Some(listener);
            self.shared.ready.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn read(&mut self, cx: &mut ShardCx<'_>, socket: SocketId) {
        let Some(flow) = self.sockets.iter().position(|s| *s == socket) else {
            return;
        };
        while let Ok(n @ 1..) = cx.host.tcp_recv(cx.now, socket, &mut self.buffer) {
            if let Some(read) = self.shared.read.get(flow) {
                read.fetch_add(n as u64, Ordering::AcqRel);
            }
        }
    }
}

impl Trace {
    fn note(&mut self, cx: &mut ShardCx<'_>, sockets: &[SocketId]) {
        use std::fmt::Write;
        if cx.now < self.next {
            return;
        }
        self.next = cx.now + GLANCE;
        for (flow, socket) in sockets.iter().enumerate() {
            let Ok(info) = cx.host.tcp_info(*socket) else {
                continue;
            };
            let _ = writeln!(
                self.text,
                "{:.4} {flow} cwnd {} ssthresh {} flight {} sacked {} lost {} retrans {} rtt {} min {} reorder {} {:?} backoff {} unsent {}",
                cx.now.nanos() as f64 * 1e-9,
                info.cwnd / info.mss.max(1),
                info.ssthresh / info.mss.max(1),
                info.unacknowledged / info.mss.max(1),
                info.sacked / info.mss.max(1),
                info.lost / info.mss.max(1),
                info.retransmitted / info.mss.max(1),
                info.rtt.as_micros(),
                info.min_rtt.as_micros(),
                info.reordering,
                info.recovery,
                info.backoff,
                info.unsent,
            );
        }
    }
}
