//! Plays a scenario in the simulator and looks at its flows now and then.
//!
//! What does not live here: what is made of the samples (`plot`, and whoever prints a table).
//!
//! Invariant: what is returned is a function of the scenario, to the last bit: [`Played::fingerprint`] tells.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;

use base::Instant;
use sim::{CableId, NodeId, World};
use stack::{Config, Event, Ready, Shutdown, SocketError, SocketId, TcpOptions};

use crate::scenario::{Flow, Scenario};

/// Where the receivers listen: flow `n` at `PORT + n`, so that each has options of its own.
const PORT: u16 = 5_000;
/// Bytes of a read and of a write.
const PIECE: usize = 64 * 1024;

/// A flow at one moment, as its sender and its reader see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Since the scenario's start.
    pub at: Duration,
    /// Congestion window, bytes.
    pub cwnd: u32,
    /// Slow start threshold, bytes.
    pub ssthresh: u32,
    /// Sent, not acknowledged, and not known to have left the network, bytes.
    pub in_flight: u32,
    /// Smoothed round-trip time; zero before the first is known.
    pub rtt: Duration,
    /// Payload of a full segment.
    pub mss: u32,
    /// Bytes the receiving application has read so far.
    pub delivered: u64,
}

/// What came of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowPlayed {
    /// While it was open, in order.
    pub samples: Vec<Sample>,
    /// Bytes the receiving application has read.
    pub delivered: u64,
    /// From connecting to the first byte read.
    pub first_byte: Option<Duration>,
    /// From connecting to the end of the stream, if it came.
    pub finished: Option<Duration>,
    /// Why it ended early.
    pub failed: Option<SocketError>,
}

impl FlowPlayed {
    /// Bits per second from its start to its end, or to that of the scenario.
    pub fn goodput(&self, flow: &Flow, scenario: &Scenario) -> f64 {
        let open = scenario.duration.saturating_sub(flow.start);
        let time = self.finished.unwrap_or(open).as_secs_f64();
        if time > 0.0 {
            self.delivered as f64 * 8.0 / time
        } else {
            0.0
        }
    }
}

/// What came of a scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Played {
    /// In the scenario's order.
    pub flows: Vec<FlowPlayed>,
    /// Bytes in the queue before the link, towards the receivers.
    pub queue: Vec<(Duration, u64)>,
    /// Frames that found no room in a queue, both directions.
    pub queue_full: u64,
    /// Frames the link lost.
    pub lost: u64,
    /// Segments sent again.
    pub retransmissions: u64,
    /// Of all frames and their times.
    pub fingerprint: u64,
}

impl Played {
    /// Jain's index of the flows' goodput: 1 when all are alike.
    pub fn jain(&self, scenario: &Scenario) -> f64 {
        let rates = || {
            let both = self.flows.iter().zip(&scenario.flows);
            both.map(|(played, flow)| played.goodput(flow, scenario))
        };
        let (sum, squares): (f64, f64) = (rates().sum(), rates().map(|rate| rate * rate).sum());
        if squares > 0.0 {
            sum * sum / (rates().count() as f64 * squares)
        } else {
            0.0
        }
    }
}

/// Plays it. `progress` is told the virtual time now and then; false ends it early.
///
/// # Errors
/// When the scenario asks for what a host refuses, or a property did not hold (a bug: the message says which).
///
/// ```
/// use std::time::Duration;
///
/// use lab::scenario::{Flow, Scenario};
/// use sim::LinkConfig;
/// use stack::Congestion;
///
/// let flow = |name: &str, congestion| Flow {
///     name: name.to_owned(),
///     congestion,
///     start: Duration::ZERO,
///     stop: None,
///     bytes: None,
///     send_buffer: 1 << 20,
///     receive_buffer: 1 << 20,
/// };
/// let scenario = Scenario {
///     name: "two".to_owned(),
///     about: "CUBIC and Reno share a link".to_owned(),
///     seed: 7,
///     duration: Duration::from_secs(2),
///     sample: Duration::from_millis(20),
///     link: LinkConfig { rate: 10_000_000, delay: Duration::from_millis(10), queue: 50_000, ..LinkConfig::default() },
///     flows: vec![flow("first", Congestion::Cubic), flow("second", Congestion::Reno)],
///     changes: Vec::new(),
/// };
/// let played = lab::play(&scenario, &mut |_time| true)?;
/// println!("Jain's index {:.3}", played.jain(&scenario));
/// # Ok::<(), String>(())
/// ```
pub fn play(
    scenario: &Scenario,
    progress: &mut dyn FnMut(Duration) -> bool,
) -> Result<Played, String> {
    let mut stage = Stage::set(scenario)?;
    let (start, end) = (stage.start, stage.start + scenario.duration);
    let (mut look_at, mut changes) = (start, scenario.changes.iter().peekable());
    loop {
        let now = stage.world.now();
        if let Some((_, link)) = changes.next_if(|(at, _)| start + *at <= now) {
            stage.world.set_link(stage.cable, *link);
            continue;
        }
        stage.open_due()?;
        stage.react()?;
        if now >= look_at {
            stage.look();
            look_at = now + scenario.sample;
            if !progress(now - start) {
                break;
            }
        }
        if let Some(violation) = stage.world.violation() {
            return Err(violation.to_string());
        }
        if now >= end {
            break;
        }
        let next = [
            Some(look_at),
            stage.next_open(),
            changes.peek().map(|c| start + c.0),
        ];
        let until = next.into_iter().flatten().fold(end, Instant::min);
        stage.world.step(until.max(now));
    }
    Ok(stage.close())
}

/// One end of a flow.
#[derive(Clone, Copy)]
enum Role {
    Listener(usize),
    Sender(usize),
    Reader(usize),
}

/// A scenario being played.
struct Stage<'a> {
    scenario: &'a Scenario,
    world: World,
    client: NodeId,
    server: NodeId,
    cable: CableId,
    start: Instant,
    roles: HashMap<(NodeId, SocketId), Role>,
    /// By flow: the sender's socket once it has connected, and the bytes it has taken.
    senders: Vec<Option<(SocketId, u64)>>,
    opened: Vec<bool>,
    played: Played,
    piece: Vec<u8>,
}

impl<'a> Stage<'a> {
    fn set(scenario: &'a Scenario) -> Result<Self, String> {
        let config = Config {
            duplicate_detection: false,
            accept_router_advertisements: false,
            tcp_connections: 256,
            tcp_active: 256,
            tcp_half_open: 256,
            tcp_time_wait: 256,
            timers: 2_048,
            pool_blocks: pool_blocks(scenario),
            ..Config::default()
        };
        let (mut world, client, server) = World::pair(scenario.seed, config, scenario.link);
        let start = world.now();
        let mut roles = HashMap::new();
        for (at, flow) in scenario.flows.iter().enumerate() {
            let listener = world
                .host(server)
                .tcp_listen(start, address(at), 1, &options(flow))
                .map_err(|error| format!("flow {}: {error}", flow.name))?;
            roles.insert((server, listener), Role::Listener(at));
        }
        let flows = scenario.flows.len();
        Ok(Self {
            scenario,
            world,
            client,
            server,
            cable: World::CABLE,
            start,
            roles,
            senders: vec![None; flows],
            opened: vec![false; flows],
            played: Played {
                flows: vec![FlowPlayed::default(); flows],
                ..Played::default()
            },
            piece: vec![0x5a; PIECE],
        })
    }

    /// When the next flow connects, or one stops.
    fn next_open(&self) -> Option<Instant> {
        let now = self.world.now();
        let flows = self.scenario.flows.iter();
        let times = flows.flat_map(|flow| [Some(flow.start), flow.stop]);
        let times = times.flatten().map(|at| self.start + at);
        times.filter(|at| *at > now).min()
    }

    /// Connects flows whose time has come, and ends those whose time is over.
    fn open_due(&mut self) -> Result<(), String> {
        let now = self.world.now();
        let scenario = self.scenario;
        for (at, flow) in scenario.flows.iter().enumerate() {
            if !self.opened[at] && self.start + flow.start <= now {
                self.opened[at] = true;
                let socket = self
                    .world
                    .host(self.client)
                    .tcp_connect(now, address(at), None, &options(flow))
                    .map_err(|error| format!("flow {}: {error}", flow.name))?;
                self.roles.insert((self.client, socket), Role::Sender(at));
                self.senders[at] = Some((socket, 0));
            }
            let over = flow.stop.is_some_and(|stop| self.start + stop <= now);
            if let Some((socket, _)) = self.senders[at].filter(|_| over) {
                self.write(at, socket);
            }
        }
        Ok(())
    }

    /// Lets both applications do what they can.
    fn react(&mut self) -> Result<(), String> {
        self.world.flush();
        while let Some((node, event)) = self.world.poll_event() {
            self.on_event(node, event);
            self.world.flush();
        }
        Ok(())
    }

    fn on_event(&mut self, node: NodeId, event: Event) {
        let now = self.world.now();
        let Some(role) = self.roles.get(&(node, event.socket)).copied() else {
            return;
        };
        match role {
            Role::Listener(flow) => {
                while let Ok((socket, _)) = self.world.host(node).tcp_accept(now, event.socket) {
                    self.roles.insert((node, socket), Role::Reader(flow));
                    self.read(flow, socket);
                }
            }
            Role::Sender(flow) | Role::Reader(flow) if event.ready.contains(Ready::ERROR) => {
                let error = self.world.host(node).take_error(event.socket);
                let played = &mut self.played.flows[flow];
                played.failed = played.failed.or(error);
                self.senders[flow] = None;
                let _ = self.world.host(node).close(now, event.socket);
            }
            Role::Sender(flow) => self.write(flow, event.socket),
            Role::Reader(flow) => self.read(flow, event.socket),
        }
    }

    fn write(&mut self, at: usize, socket: SocketId) {
        let (now, flow) = (self.world.now(), &self.scenario.flows[at]);
        let over = flow.stop.is_some_and(|stop| self.start + stop <= now);
        let most = if over {
            0
        } else {
            flow.bytes.unwrap_or(u64::MAX)
        };
        let Some((_, sent)) = &mut self.senders[at] else {
            return;
        };
        let host = self.world.host(self.client);
        while *sent < most {
            let n = self.piece.len().min((most - *sent) as usize);
            match host.tcp_send(now, socket, &self.piece[..n]) {
                Ok(n) if n > 0 => *sent += n as u64,
                _ => return,
            }
        }
        let _ = host.tcp_shutdown(now, socket, Shutdown::Write);
    }

    fn read(&mut self, flow: usize, socket: SocketId) {
        let now = self.world.now();
        let since = now - (self.start + self.scenario.flows[flow].start);
        let played = &mut self.played.flows[flow];
        let host = self.world.host(self.server);
        loop {
            match host.tcp_recv(now, socket, &mut self.piece) {
                Ok(0) => {
                    played.finished.get_or_insert(since);
                    let _ = host.close(now, socket);
                    return;
                }
                Ok(n) => {
                    played.first_byte.get_or_insert(since);
                    played.delivered += n as u64;
                }
                Err(_) => return,
            }
        }
    }

    /// Takes a sample of every open flow.
    fn look(&mut self) {
        let at = self.world.now() - self.start;
        for flow in 0..self.senders.len() {
            let Some((socket, _)) = self.senders[flow] else {
                continue;
            };
            let Ok(info) = self.world.host(self.client).tcp_info(socket) else {
                self.senders[flow] = None;
                continue;
            };
            let played = &mut self.played.flows[flow];
            let gone = info.sacked + info.lost;
            played.samples.push(Sample {
                at,
                cwnd: info.cwnd,
                ssthresh: info.ssthresh,
                in_flight: info.unacknowledged.saturating_sub(gone),
                rtt: info.rtt,
                mss: info.mss,
                delivered: played.delivered,
            });
            // Everything is acknowledged and read: what follows is silence.
            if played.finished.is_some() {
                self.senders[flow] = None;
            }
        }
        let waiting = self.world.backlog(self.cable, self.server);
        self.played.queue.push((at, waiting));
    }

    fn close(mut self) -> Played {
        let lost = self.world.losses(self.cable);
        let stats = self.world.host(self.client).stats();
        self.played.retransmissions = stats.counts.get(stack::Count::TcpRetransmits);
        (self.played.queue_full, self.played.lost) = (lost.queue, lost.fault);
        self.played.fingerprint = self.world.fingerprint();
        self.played
    }
}

fn address(flow: usize) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, 2], PORT + flow as u16))
}

fn options(flow: &Flow) -> TcpOptions {
    TcpOptions {
        congestion: Some(flow.congestion),
        send_buffer: Some(flow.send_buffer),
        receive_buffer: Some(flow.receive_buffer),
        ..TcpOptions::default()
    }
}

/// Room for every buffer to be full, with blocks that are not.
fn pool_blocks(scenario: &Scenario) -> u32 {
    let bytes = |flow: &Flow| u64::from(flow.send_buffer.max(flow.receive_buffer));
    let all: u64 = scenario.flows.iter().map(bytes).sum();
    u32::try_from(all * 2 / base::BLOCK as u64 + 4_096).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
