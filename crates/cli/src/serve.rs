//! The stack behind one door: a host started as planned, its sockets under the services' traits, its figures as a view.
//!
//! What does not live here: what is served (`http`, `services`) and which devices there are (`network`).
//!
//! Invariant: no other module of this room names a type of the stack's sockets or snapshots.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base::Offloads;
use millstream::control::Control;
use millstream::tokio::{TcpListener, TcpStream, UdpSocket};
use millstream::{Config, ConnectionInfo, Host, PortSnapshot, ShardSnapshot, State, TcpTunables};
use port::Port;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::{Addr, Cidr};

use crate::config;
use crate::failure::Failure;
use crate::http::live::Source;
use crate::services::{Accept, Datagrams};
use crate::view::{self, Counter, Stats};

/// Connections that may wait to be accepted: a thousand arrive at once in the self-check.
const BACKLOG: usize = 4_096;

/// Connections looked at for the table of the busiest.
const LOOKED_AT: usize = 4_096;

/// Rows of that table.
const SHOWN: usize = 16;

/// How long duplicate address detection takes at most: three probes of IPv4, each up to two seconds apart, and a wait.
const ASSIGNED_WITHIN: Duration = Duration::from_secs(10);

/// What a host is to be.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) ports: Vec<PlannedPort>,
    /// What it serves, for the page.
    pub(crate) services: Vec<String>,
    /// How its TCP is tuned.
    pub(crate) tcp: TcpTunables,
    /// In how many threads it runs.
    pub(crate) shards: usize,
    /// By which `ss` and `sysctl` ask it.
    pub(crate) control: Option<Control>,
    /// Nobody else can have its addresses, so they are used without asking (RFC 4862 5.4, RFC 5227 2.1).
    pub(crate) alone: bool,
}

/// A port and what the host does with it.
pub(crate) struct PlannedPort {
    pub(crate) port: Box<dyn Port + Send>,
    /// Its further queues: none, or one for each further shard.
    pub(crate) queues: Vec<Box<dyn Port + Send>>,
    /// `tap` or `packet`, for the page.
    pub(crate) kind: &'static str,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) gateways: Vec<Addr>,
    pub(crate) routes: Vec<config::Route>,
}

/// A running host.
pub(crate) struct Stack {
    host: Host,
    facts: Arc<Facts>,
    meters: Arc<Meters>,
}

/// What is known of a host before it runs.
struct Facts {
    host: view::HostFacts,
    /// Kind and offloads of each port.
    ports: Vec<(&'static str, Vec<String>)>,
}

impl Stack {
    /// Starts the host in a thread of its own.
    ///
    /// # Errors
    /// What the stack refuses, with its remedy.
    pub(crate) fn start(plan: Plan) -> Result<Self, Failure> {
        let facts = Facts {
            host: view::HostFacts {
                name: plan.name,
                version: env!("CARGO_PKG_VERSION").into(),
                addresses: plan
                    .ports
                    .iter()
                    .flat_map(|port| &port.addresses)
                    .map(ToString::to_string)
                    .collect(),
                services: plan.services,
            },
            ports: plan
                .ports
                .iter()
                .map(|port| (port.kind, offloads(&port.port.facts().offloads)))
                .collect(),
        };
        let config = Config {
            duplicate_detection: !plan.alone,
            accept_router_advertisements: !plan.alone,
            tcp: plan.tcp,
            tcp_account: true, // for `millstream ss`
            ..Config::default()
        };
        let builder = Host::builder().name("stack").config(config);
        let mut builder = builder.shards(plan.shards);
        if let Some(control) = plan.control {
            builder = builder.control_with(control);
        }
        for planned in plan.ports {
            let first = std::iter::once(planned.port);
            builder = builder.queues(first.chain(planned.queues));
            for address in planned.addresses {
                builder = builder.address(address);
            }
            for gateway in planned.gateways {
                builder = builder.gateway(gateway);
            }
            for route in planned.routes {
                builder = builder.route(route.to, route.via).metrics(route.metrics);
            }
        }
        let host = builder.start().map_err(Failure::told)?;
        Ok(Self {
            host,
            facts: Arc::new(facts),
            meters: Arc::default(),
        })
    }

    /// Listens for TCP connections.
    ///
    /// # Errors
    /// When the address is taken or not the host's.
    pub(crate) fn listen(&self, local: SocketAddr) -> Result<Listener, Failure> {
        let listen = || {
            self.host
                .tcp_listen_backlog(local, BACKLOG)
                .and_then(TcpListener::from_std)
        };
        let inner =
            once_assigned(listen).map_err(|error| refused("listen on TCP", local, &error))?;
        Ok(Listener {
            inner,
            meters: Arc::clone(&self.meters),
        })
    }

    /// Binds a UDP socket.
    ///
    /// # Errors
    /// As [`Stack::listen`].
    pub(crate) fn bind(&self, local: SocketAddr) -> Result<Bound, Failure> {
        let socket = once_assigned(|| self.host.udp_bind(local));
        let socket = socket.and_then(UdpSocket::from_std);
        Ok(Bound(
            socket.map_err(|error| refused("bind UDP", local, &error))?,
        ))
    }

    /// Where the figures come from. Gives what it last had once the host has stopped.
    pub(crate) fn source(&self) -> Source {
        let (host, facts, meters) = (
            self.host.clone(),
            Arc::clone(&self.facts),
            Arc::clone(&self.meters),
        );
        let last = Mutex::new(Stats::default());
        Arc::new(move || {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(snapshot) = host.snapshot_with(LOOKED_AT) {
                *last = stats(&snapshot, &facts, &meters);
            }
            last.clone()
        })
    }

    /// Why each port is of no use any more, if it is, in the order they were given; None once the host has ended.
    pub(crate) fn failures(&self) -> Option<Vec<Option<String>>> {
        let snapshot = self.host.snapshot_with(0).ok()?;
        Some(
            snapshot
                .ports
                .into_iter()
                .map(|port| port.failure)
                .collect(),
        )
    }

    /// Whether the host has ended by itself: all its ports have failed.
    pub(crate) fn is_over(&self) -> bool {
        self.host.is_stopped()
    }

    /// Ends the host.
    ///
    /// # Errors
    /// Why it had ended before.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        self.host.stop().map_err(Failure::told)
    }
}

/// Tries until duplicate address detection is through with an address the host has only just been given.
fn once_assigned<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match open() {
            Err(error)
                if error.kind() == io::ErrorKind::AddrNotAvailable
                    && start.elapsed() < ASSIGNED_WITHIN =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return done,
        }
    }
}

fn refused(what: &str, local: SocketAddr, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another service of this host has it: give one of them another port"
        }
        io::ErrorKind::AddrNotAvailable => "give one of the host's own addresses, 0.0.0.0 or [::]",
        _ => "see the error",
    };
    Failure::new(format_args!("cannot {what} {local}: {error}"), remedy)
}

/// A listener of the host.
pub(crate) struct Listener {
    inner: TcpListener,
    meters: Arc<Meters>,
}

impl Accept for Listener {
    type Stream = Metered;

    async fn accept(&mut self) -> io::Result<(Metered, SocketAddr)> {
        let (stream, remote) = self.inner.accept().await?;
        let local = stream.local_addr()?;
        Ok((
            Meters::measure(&self.meters, stream, (local, remote)),
            remote,
        ))
    }
}

/// A bound UDP socket of the host.
pub(crate) struct Bound(UdpSocket);

impl Datagrams for Bound {
    async fn recv_from(&mut self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.recv_from(buf).await
    }

    async fn send_to(&mut self, buf: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.0.send_to(buf, to).await
    }
}

/// Local and remote address.
type Ends = (SocketAddr, SocketAddr);

/// What each accepted connection has moved, while it is open. The stack itself keeps no such account: it would cost
/// every connection bytes that only a tool reads.
#[derive(Default)]
struct Meters(Mutex<HashMap<Ends, Arc<Moved>>>);

/// Bytes an application has read from and written to a connection.
#[derive(Default)]
struct Moved {
    rx: AtomicU64,
    tx: AtomicU64,
}

impl Meters {
    fn lock(&self) -> MutexGuard<'_, HashMap<Ends, Arc<Moved>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(this: &Arc<Self>, stream: TcpStream, ends: Ends) -> Metered {
        let moved = Arc::new(Moved::default());
        this.lock().insert(ends, Arc::clone(&moved));
        Metered {
            stream,
            ends,
            moved,
            meters: Arc::clone(this),
        }
    }
}

/// A stream whose bytes are counted.
pub(crate) struct Metered {
    stream: TcpStream,
    ends: Ends,
    moved: Arc<Moved>,
    meters: Arc<Meters>,
}

impl Drop for Metered {
    fn drop(&mut self) {
        let mut open = self.meters.lock();
        // The peer may have come back from the same port before this end was dropped.
        if open
            .get(&self.ends)
            .is_some_and(|moved| Arc::ptr_eq(moved, &self.moved))
        {
            open.remove(&self.ends);
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.moved
            .rx
            .fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl Metered {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = written {
            self.moved.tx.fetch_add(n as u64, Ordering::Relaxed);
        }
        written
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A snapshot as the page gets it.
fn stats(snapshot: &ShardSnapshot, facts: &Facts, meters: &Meters) -> Stats {
    let states: Vec<Counter> = snapshot
        .states
        .iter()
        .filter(|(state, _)| *state != State::Listen)
        .map(|(state, count)| Counter::new(state.name(), "", *count))
        .collect();
    let of = |wanted: State| {
        let found = snapshot.states.iter().find(|(state, _)| *state == wanted);
        found.map_or(0, |(_, count)| *count)
    };
    let all: u64 = states.iter().map(|state| state.count).sum();
    let mut drops: Vec<Counter> = snapshot
        .drops
        .iter()
        .map(|(why, count)| Counter::new(why.name(), why.describe(), count))
        .collect();
    for port in &snapshot.ports {
        let named = |why: &str| format!("{}: {why}", port.name);
        drops.extend(
            port.counters
                .drops
                .iter()
                .map(|(why, count)| Counter::new(named(why.name()), why.describe(), count)),
        );
    }
    drops.retain(|drop| drop.count > 0);
    let mut events: Vec<Counter> = snapshot
        .counts
        .iter()
        .map(|(what, count)| Counter::new(what.name(), what.describe(), count))
        .collect();
    events.retain(|event| event.count > 0);
    Stats {
        host: facts.host.clone(),
        uptime_ms: snapshot.uptime.as_millis() as u64,
        ports: snapshot
            .ports
            .iter()
            .zip(&facts.ports)
            .map(port_facts)
            .collect(),
        tcp: view::Tcp {
            connections: all - of(State::TimeWait) - of(State::Closed),
            states,
        },
        connections: busiest(&snapshot.connections, meters),
        drops,
        events,
        pool: view::Pool {
            block_bytes: base::BLOCK as u32,
            blocks: snapshot.pool.capacity,
            in_use: snapshot.pool.in_use,
            high_water: snapshot.pool.high_water,
        },
        thread: view::Thread {
            busy_ms: snapshot.meters.busy.as_millis() as u64,
            idle_ms: snapshot.meters.idle.as_millis() as u64,
            turns: snapshot.meters.turns,
            sleeps: snapshot.meters.sleeps,
        },
    }
}

fn port_facts(
    (port, (kind, offloads)): (&PortSnapshot, &(&'static str, Vec<String>)),
) -> view::PortFacts {
    view::PortFacts {
        name: port.name.clone(),
        kind: (*kind).into(),
        mac: port.mac.to_string(),
        mtu: port.mtu as u32,
        offloads: offloads.clone(),
        failure: port.failure.clone(),
        rx_frames: port.counters.rx_frames,
        rx_bytes: port.counters.rx_bytes,
        tx_frames: port.counters.tx_frames,
        tx_bytes: port.counters.tx_bytes,
    }
}

/// The connections that have moved most, with what the stack says of them.
fn busiest(connections: &[ConnectionInfo], meters: &Meters) -> Vec<view::Connection> {
    let open = meters.lock();
    let of = |info: &ConnectionInfo| {
        let moved = open.get(&(info.local, info.remote));
        let read = |of: fn(&Moved) -> &AtomicU64| {
            moved.map_or(0, |moved| of(moved).load(Ordering::Relaxed))
        };
        (read(|moved| &moved.rx), read(|moved| &moved.tx))
    };
    let mut rows: Vec<_> = connections
        .iter()
        .filter(|info| !matches!(info.state, State::Listen | State::TimeWait | State::Closed))
        .map(|info| (of(info), info))
        .collect();
    drop(open);
    rows.sort_by_key(|((rx, tx), info)| (std::cmp::Reverse(rx + tx), info.remote));
    rows.truncate(SHOWN);
    let row = |((rx, tx), info): ((u64, u64), &ConnectionInfo)| view::Connection {
        local: info.local.to_string(),
        remote: info.remote.to_string(),
        state: info.state.name().into(),
        rx_bytes: rx,
        tx_bytes: tx,
        srtt_us: info.rtt.as_micros() as u64,
        cwnd: info.cwnd.into(),
        unread: info.receive_queue.into(),
        unacknowledged: info.send_queue.into(),
    };
    rows.into_iter().map(row).collect()
}

/// The names of what a device does for the host.
fn offloads(offloads: &Offloads) -> Vec<String> {
    let named = [
        ("tx-checksum", offloads.tx_checksum),
        ("rx-checksum", offloads.rx_checksum),
        ("tso4", offloads.tso4),
        ("tso6", offloads.tso6),
        ("uso", offloads.uso),
    ];
    named
        .iter()
        .filter(|(_, on)| *on)
        .map(|(name, _)| (*name).into())
        .collect()
}
