//! Hosts, cables and the clock.
//!
//! What does not live here: what hosts do (scenarios), and what must hold (`check`).

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BinaryHeap, VecDeque};

use base::{Batch, Facts, Gso, Instant, Offloads, Packet, Rng};
use stack::{Config, Event, Host, InterfaceConfig, InterfaceId, SocketId};
use wire::{Cidr, Mac, ethernet};

use crate::check::{Checker, Violation};
use crate::device::{cut, split};
use crate::link::{Direction, LinkConfig, Lost};
use crate::narrow::too_big;

/// Names a host of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// Names a cable of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CableId(pub usize);

/// A frame on a cable, as a trace shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When it was sent.
    pub at: Instant,
    /// By whom; `None` when the scenario put it there.
    pub from: Option<NodeId>,
    /// On which cable.
    pub cable: CableId,
    /// All of it, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

struct Node {
    host: Host,
    interfaces: Vec<(InterfaceId, CableId)>,
}

/// The station address of a host's end of a cable.
fn mac(node: NodeId, cable: CableId) -> Mac {
    Mac([2, 0, 0, cable.0 as u8, 0, node.0 as u8 + 1])
}

/// What a host's device on such a cable does for frames.
fn offloads(config: &LinkConfig) -> Offloads {
    if config.offload {
        Offloads {
            uso: false,
            ..Offloads::ALL
        }
    } else {
        Offloads::NONE
    }
}

/// Frames a cable did not carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// They found no room in the queue.
    pub queue: u64,
    /// They fell to a fault.
    pub fault: u64,
}

struct Cable {
    config: LinkConfig,
    /// The ends, and the direction away from each.
    ends: Vec<(NodeId, InterfaceId, Direction)>,
    up: bool,
    /// Longest IP packet that gets through, whatever the ends are told.
    narrow: usize,
    /// Longest IP packet a router in it passes on.
    router: usize,
    losses: Losses,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: Instant,
    /// Order of sending, so that equal times keep it.
    number: u64,
    node: NodeId,
    interface: InterfaceId,
    bytes: Vec<u8>,
    /// Kind as in [`GsoKind`], size, and whether the checksum is partial.
    whole: Option<(u8, u16)>,
}

/// A small network and its time.
///
/// ```
/// use core::time::Duration;
///
/// use sim::{LinkConfig, World};
/// use stack::{Config, UdpOptions};
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let config = Config { duplicate_detection: false, ..Config::default() };
/// // 10.1.0.1 and 10.1.0.2, as far apart as the moon is.
/// let moon = LinkConfig { delay: Duration::from_millis(1_280), ..LinkConfig::default() };
/// let (mut world, a, b) = World::pair(7, config, moon);
/// let now = world.now();
/// let server = world.host(b).udp_bind(now, "10.1.0.2:7".parse()?, &UdpOptions::default())?;
/// let client = world.host(a).udp_bind(now, "10.1.0.1:0".parse()?, &UdpOptions::default())?;
/// world.host(a).udp_send_to(now, client, b"hello", Some("10.1.0.2:7".parse()?))?;
/// world.run_for(Duration::from_secs(10)); // which takes no time
/// let mut buffer = [0; 64];
/// assert_eq!(world.host(b).udp_recv_from(server, &mut buffer)?.0, 5);
/// assert!(world.violation().is_none());
/// # Ok(())
/// # }
/// ```
pub struct World {
    now: Instant,
    rng: Rng,
    nodes: Vec<Node>,
    cables: Vec<Cable>,
    arrivals: BinaryHeap<Reverse<Arrival>>,
    events: VecDeque<(NodeId, Event)>,
    sent: u64,
    fingerprint: u64,
    checker: Checker,
    /// Frames of the trace, when it is kept.
    trace: Option<Vec<Frame>>,
    batch: Batch,
    steps: u64,
    audit_every: u64,
    /// Frames a host is handed at once, if as many arrive at one moment.
    together: usize,
}

impl World {
    /// An empty world in which everything random comes from `seed`. Its clock starts at one second.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_secs(1),
            rng: Rng::from_seed(seed),
            nodes: Vec::new(),
            cables: Vec::new(),
            arrivals: BinaryHeap::new(),
            events: VecDeque::new(),
            sent: 0,
            fingerprint: 0xcbf2_9ce4_8422_2325,
            checker: Checker::default(),
            trace: None,
            batch: Batch::new(),
            steps: 0,
            audit_every: 1,
            together: 1,
        }
    }

    /// The cable of [`World::pair`].
    pub const CABLE: CableId = CableId(0);

    /// Two hosts on one cable: 10.1.0.1, fd01::1 and 10.1.0.2, fd01::2.
    pub fn pair(seed: u64, config: Config, link: LinkConfig) -> (Self, NodeId, NodeId) {
        Self::pair_of(seed, [config.clone(), config], link)
    }

    /// The same of hosts that are not alike.
    pub fn pair_of(seed: u64, configs: [Config; 2], link: LinkConfig) -> (Self, NodeId, NodeId) {
        let mut world = Self::new(seed);
        let [a, b] = configs.map(|config| world.add_host(config));
        let cable = world.connect(&[a, b], link);
        for (node, v4, v6) in [
            (a, "10.1.0.1/24", "fd01::1/64"),
            (b, "10.1.0.2/24", "fd01::2/64"),
        ] {
            world.address(node, cable, v4);
            world.address(node, cable, v6);
        }
        (world, a, b)
    }

    /// Hands hosts up to so many frames at once that arrive at one moment: 1 to [`base::BATCH`]; at first 1.
    pub fn set_batch(&mut self, frames: usize) {
        self.together = frames.clamp(1, base::BATCH);
    }

    /// Looks into the hosts ([`Host::audit`]) after every so many steps only; at first after each. For scenarios with so much in
    /// them that nothing else would happen.
    pub fn set_audit(&mut self, every: u64) {
        self.audit_every = every.max(1);
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A number that two runs share if, and practically only if, they sent the same frames at the same times.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Keeps every frame from now on, see [`World::take_trace`].
    pub fn keep_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// The frames kept so far; the trace starts afresh.
    pub fn take_trace(&mut self) -> Vec<Frame> {
        self.trace.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// The first property that did not hold.
    pub fn violation(&self) -> Option<&Violation> {
        self.checker.violation()
    }

    /// Adds a host.
    ///
    /// # Panics
    /// If the configuration is refused: a scenario is wrong then.
    pub fn add_host(&mut self, config: Config) -> NodeId {
        let seed = self.rng.u64();
        let host = Host::new(config, seed, self.now).expect("a scenario's configuration is valid");
        self.nodes.push(Node {
            host,
            interfaces: Vec::new(),
        });
        NodeId(self.nodes.len() - 1)
    }

    /// Lays a cable between hosts: two ends are a link, more are a LAN on which everyone hears everything.
    ///
    /// # Panics
    /// If a host refuses the interface.
    pub fn connect(&mut self, nodes: &[NodeId], config: LinkConfig) -> CableId {
        let cable = CableId(self.cables.len());
        let offloads = offloads(&config);
        let ends = nodes
            .iter()
            .map(|&node| {
                let mac = mac(node, cable);
                let interface = InterfaceConfig {
                    name: format!("sim{}", cable.0),
                    mac: Some(mac),
                    mtu: config.mtu,
                    offloads,
                };
                let id = self.nodes[node.0]
                    .host
                    .add_interface(self.now, interface)
                    .expect("a scenario's interface is valid");
                self.nodes[node.0].interfaces.push((id, cable));
                (node, id, Direction::default())
            })
            .collect();
        self.cables.push(Cable {
            config,
            ends,
            up: true,
            narrow: usize::MAX,
            router: usize::MAX,
            losses: Losses::default(),
        });
        cable
    }

    /// Assigns an address to a host's end of a cable.
    ///
    /// # Panics
    /// If the host is not on the cable or refuses the address.
    pub fn address(&mut self, node: NodeId, cable: CableId, cidr: &str) {
        let interface = self.interface(node, cable);
        let cidr: Cidr = cidr.parse().expect("a scenario's address is valid");
        let now = self.now;
        self.host(node)
            .add_address(now, interface, cidr)
            .expect("a scenario's address is accepted");
        self.flush();
    }

    /// The interface of a host's end of a cable.
    ///
    /// # Panics
    /// If the host is not on the cable.
    pub fn interface(&self, node: NodeId, cable: CableId) -> InterfaceId {
        let found = self.nodes[node.0]
            .interfaces
            .iter()
            .find(|(_, c)| *c == cable);
        found.expect("the host is on the cable").0
    }

    /// A host. Call [`World::flush`] after commands that may send.
    pub fn host(&mut self, node: NodeId) -> &mut Host {
        &mut self.nodes[node.0].host
    }

    /// Changes how a cable behaves from now on.
    pub fn set_link(&mut self, cable: CableId, config: LinkConfig) {
        self.cables[cable.0].config = config;
    }

    /// Makes IP packets longer than `most` bytes vanish on a cable, of which nobody is told: a black hole (RFC 2923 2.1).
    pub fn swallow(&mut self, cable: CableId, most: usize) {
        self.cables[cable.0].narrow = most;
    }

    /// Puts a router into a cable that passes on IP packets of `mtu` bytes at most, and tells senders of longer ones.
    pub fn narrow(&mut self, cable: CableId, mtu: usize) {
        self.cables[cable.0].router = mtu;
    }

    /// Changes the MTU of a cable and of the hosts' interfaces on it.
    ///
    /// # Panics
    /// If a host refuses it.
    pub fn set_mtu(&mut self, cable: CableId, mtu: usize) {
        self.flush();
        let (now, cable) = (self.now, &mut self.cables[cable.0]);
        cable.config.mtu = mtu;
        for (node, interface, _) in &cable.ends {
            self.nodes[node.0]
                .host
                .set_link(now, *interface, mtu, offloads(&cable.config))
                .expect("a scenario's MTU is valid");
        }
    }

    /// Takes note that a record of what `socket` sends ends behind so many bytes: no segment may hold bytes of both sides.
    pub fn end_record(&mut self, node: NodeId, socket: SocketId, after: u64) {
        let host = &self.nodes[node.0].host;
        if let (Ok(local), Ok(peer)) = (host.local_addr(socket), host.peer_addr(socket)) {
            self.checker.end_record(local, peer, after);
        }
    }

    /// Cuts a cable; frames on their way still arrive.
    pub fn partition(&mut self, cable: CableId) {
        self.cables[cable.0].up = false;
    }

    /// Mends a cable.
    pub fn heal(&mut self, cable: CableId) {
        self.cables[cable.0].up = true;
    }

    /// Bytes that wait for their turn on a cable, on their way to `to`.
    pub fn backlog(&self, cable: CableId, to: NodeId) -> u64 {
        let Some(Cable { config, ends, .. }) = self.cables.get(cable.0) else {
            return 0;
        };
        let end = ends.iter().find(|(node, ..)| *node == to);
        end.map_or(0, |(.., direction)| direction.backlog(config, self.now))
    }

    /// Frames a cable did not carry, in all directions.
    pub fn losses(&self, cable: CableId) -> Losses {
        self.cables
            .get(cable.0)
            .map_or(Losses::default(), |cable| cable.losses)
    }

    /// Frames to a node that a cable has marked, and has not lost.
    pub fn marks(&self, cable: CableId, to: NodeId) -> u64 {
        let ends = self.cables.get(cable.0).map_or(&[][..], |c| &c.ends);
        ends.iter()
            .filter(|(node, ..)| *node == to)
            .map(|(.., direction)| direction.marks)
            .sum()
    }

    /// Lets a frame of the scenario's own arrive at a host, now.
    pub fn inject(&mut self, node: NodeId, cable: CableId, bytes: Vec<u8>) {
        let interface = self.interface(node, cable);
        self.number_arrival(self.now, node, interface, bytes, None);
    }

    /// The next event of a host.
    pub fn poll_event(&mut self) -> Option<(NodeId, Event)> {
        self.events.pop_front()
    }

    /// Whether no event waits to be taken.
    pub fn poll_is_idle(&self) -> bool {
        self.events.is_empty()
    }

    /// Goes to the next moment at which something happens, if it is not after `until`, and does it. Returns whether it did;
    /// if not the clock stands at `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        self.flush();
        let Some(next) = self.next_moment().filter(|at| *at <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        while let Some((node, interface)) = self.due() {
            let mut batch = core::mem::take(&mut self.batch);
            while batch.len() < self.together && self.due() == Some((node, interface)) {
                if let Some(Reverse(arrival)) = self.arrivals.pop() {
                    self.arrive(arrival, &mut batch);
                }
            }
            let host = &mut self.nodes[node.0].host;
            host.handle_batch(self.now, interface, &mut batch);
            self.batch = batch;
        }
        for node in &mut self.nodes {
            if node.host.next_deadline().is_some_and(|at| at <= self.now) {
                node.host.handle_timers(self.now);
            }
        }
        self.flush();
        self.steps += 1;
        if self.steps.is_multiple_of(self.audit_every) {
            self.audit();
        }
        true
    }

    fn audit(&mut self) {
        for (at, node) in self.nodes.iter().enumerate() {
            self.checker.inside(self.now, at, &node.host);
        }
    }

    /// Runs for a while, or until nothing is left to happen; events stay queued.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    fn next_moment(&self) -> Option<Instant> {
        let arrival = self.arrivals.peek().map(|Reverse(a)| a.at);
        let timers = self.nodes.iter().filter_map(|n| n.host.next_deadline());
        timers.chain(arrival).min()
    }

    /// Where the next frame arrives, if it does by now.
    fn due(&self) -> Option<(NodeId, InterfaceId)> {
        let Reverse(next) = self.arrivals.peek()?;
        (next.at <= self.now).then_some((next.node, next.interface))
    }

    /// A frame arrives in a host's memory.
    fn arrive(&mut self, arrival: Arrival, batch: &mut Batch) {
        let node = &mut self.nodes[arrival.node.0];
        if let Some((_, cable)) = node
            .interfaces
            .iter()
            .find(|(i, _)| *i == arrival.interface)
        {
            let mac = mac(arrival.node, *cable);
            self.checker
                .arrives(mac, &arrival.bytes, arrival.whole.is_some());
        }
        let pool = node.host.pool_mut();
        let mut chain = base::Chain::default();
        if pool.append_bytes(&mut chain, &arrival.bytes) < arrival.bytes.len() {
            pool.free(chain); // no memory: lost, as on a device
            return;
        }
        let facts = match arrival.whole {
            None => Facts::default(),
            Some((kind, size)) => Facts {
                checksum: base::Checksum::Good,
                gso: Gso {
                    kind: if kind == 4 {
                        base::GsoKind::Tcp4
                    } else {
                        base::GsoKind::Tcp6
                    },
                    size,
                    header_len: 0,
                },
            },
        };
        if let Err(packet) = batch.push(Packet { chain, facts }) {
            pool.free(packet.chain);
        }
    }

    /// Collects what hosts want to send and to tell.
    pub fn flush(&mut self) {
        for at in 0..self.nodes.len() {
            for interface in 0..self.nodes[at].interfaces.len() {
                self.drain(NodeId(at), interface);
            }
            while let Some(event) = self.nodes[at].host.poll_event() {
                self.events.push_back((NodeId(at), event));
            }
        }
    }

    fn drain(&mut self, node: NodeId, which: usize) {
        let (interface, cable) = self.nodes[node.0].interfaces[which];
        let mut batch = core::mem::take(&mut self.batch);
        self.checker.refusals(self.nodes[node.0].host.stats());
        loop {
            let more = self.nodes[node.0]
                .host
                .poll_transmit(self.now, interface, &mut batch);
            let empty = batch.is_empty();
            while let Some(packet) = batch.pop_front() {
                let pool = self.nodes[node.0].host.pool_mut();
                let bytes: Vec<u8> = pool.slices(&packet.chain).flatten().copied().collect();
                pool.free(packet.chain);
                self.transmit(node, interface, cable, bytes, &packet.facts);
            }
            if !more || empty {
                break;
            }
        }
        self.batch = batch;
    }

    fn transmit(
        &mut self,
        node: NodeId,
        interface: InterfaceId,
        cable: CableId,
        bytes: Vec<u8>,
        facts: &Facts,
    ) {
        let config = self.cables[cable.0].config;
        if config.offload && config.whole && !facts.gso.is_none() {
            let kind = if facts.gso.kind == base::GsoKind::Tcp4 {
                4
            } else {
                6
            };
            // The checksum of a super-frame is never computed: complete a copy of its segments for the checker only.
            let pieces = cut(bytes.clone(), facts);
            for piece in &pieces {
                self.checker.frame(self.now, config.mtu, piece);
            }
            self.note(node, cable, &bytes);
            if !self.stops_at_router(node, interface, cable, &pieces[0]) {
                self.put(node, interface, cable, bytes, Some((kind, facts.gso.size)));
            }
            return;
        }
        for piece in cut(bytes, facts) {
            self.checker.frame(self.now, config.mtu, &piece);
            self.note(node, cable, &piece);
            for part in split(piece, config.split) {
                if !self.stops_at_router(node, interface, cable, &part) {
                    self.put(node, interface, cable, part, None);
                }
            }
        }
    }

    /// Whether a router on the cable refuses a frame, and tells its sender.
    fn stops_at_router(
        &mut self,
        node: NodeId,
        interface: InterfaceId,
        cable: CableId,
        frame: &[u8],
    ) -> bool {
        let Cable { config, router, .. } = &self.cables[cable.0];
        if frame.len() <= router.saturating_add(ethernet::HEADER_LEN) {
            return false;
        }
        let Some(error) = too_big(frame, *router) else {
            return false;
        };
        let at = self.now + 2 * config.delay;
        self.number_arrival(at, node, interface, error, None);
        true
    }

    /// Puts one frame on a cable.
    fn put(
        &mut self,
        node: NodeId,
        interface: InterfaceId,
        cable: CableId,
        bytes: Vec<u8>,
        whole: Option<(u8, u16)>,
    ) {
        let config = self.cables[cable.0].config;
        let long =
            whole.is_none() && bytes.len() - ethernet::HEADER_LEN > self.cables[cable.0].narrow;
        if !self.cables[cable.0].up || long {
            return;
        }
        let ends: Vec<_> = self.cables[cable.0]
            .ends
            .iter()
            .map(|(n, i, _)| (*n, *i))
            .collect();
        for (at, (to, to_interface)) in ends.iter().enumerate() {
            if (*to, *to_interface) == (node, interface) {
                continue;
            }
            let direction = &mut self.cables[cable.0].ends[at].2;
            let fate = direction.send(&config, &mut self.rng, self.now, bytes.len());
            let losses = &mut self.cables[cable.0].losses;
            match fate.lost {
                None => {}
                Some(Lost::Queue) => losses.queue += 1,
                Some(Lost::Fault) => losses.fault += 1,
            }
            for (copy, arrival) in fate.arrivals.iter().enumerate() {
                let Some(when) = arrival else { continue };
                let mut bytes = bytes.clone();
                if fate.marked && crate::link::mark(&mut bytes) {
                    self.cables[cable.0].ends[at].2.marks += 1;
                }
                if fate.corrupt && copy == 0 {
                    let bit = self.rng.below(bytes.len() as u32 * 8);
                    bytes[bit as usize / 8] ^= 1 << (bit % 8);
                }
                // A turned bit in a super-frame would be vouched for: such frames travel whole or not at all.
                if fate.corrupt && copy == 0 && whole.is_some() {
                    continue;
                }
                self.number_arrival(*when, *to, *to_interface, bytes, whole);
            }
        }
    }

    fn number_arrival(
        &mut self,
        at: Instant,
        node: NodeId,
        interface: InterfaceId,
        bytes: Vec<u8>,
        whole: Option<(u8, u16)>,
    ) {
        self.sent += 1;
        self.arrivals.push(Reverse(Arrival {
            at,
            number: self.sent,
            node,
            interface,
            bytes,
            whole,
        }));
    }

    fn note(&mut self, node: NodeId, cable: CableId, bytes: &[u8]) {
        // FNV-1a over time, place and bytes.
        let mut hash = self.fingerprint;
        let words = [self.now.nanos(), node.0 as u64, cable.0 as u64];
        for byte in words
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .chain(bytes.iter().copied())
        {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.fingerprint = hash;
        if let Some(trace) = &mut self.trace {
            trace.push(Frame {
                at: self.now,
                from: Some(node),
                cable,
                bytes: bytes.to_vec(),
            });
        }
    }
}
