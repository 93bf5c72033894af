//! The host: all protocols of one shard behind one sans-I/O face (see the crate's contract).
//!
//! What does not live here: protocols. This is the switchboard: what happened goes to the part concerned, what should happen is
//! collected from all.
//!
//! Invariant: a batch is parsed, then looked up, then processed, in passes, so that the cache misses of its packets overlap.

use core::net::{IpAddr, SocketAddr};

use base::{BATCH, Batch, Chain, Instant, Offloads, Packet, Pool, Rng, SipKey, Wheel};
use wire::{Addr, Cidr};

use crate::config::Config;
use crate::context::{Core, TimerKind, split_token};
use crate::error::{ConfigError, SocketError};
use crate::net::{Datagram, Input, InterfaceConfig, InterfaceId, Net, Report, Route, RouteMetrics};
use crate::socket::{Event, Ready, SocketId, SocketKind};
use crate::stats::Stats;
use crate::tcp::{ConnectionInfo, Memory, Segment, State, Tcp, TcpInfo, TcpOptions, Write};
use crate::udp::Udp;

mod device;
mod list;
mod moving;
mod ports;
mod reuseport;
mod sharding;
mod splice;
mod tools;
mod tuning;
mod udp;

pub use list::{ListPlace, SocketFilter, SocketPage, SocketRow, Transport};
pub use tools::{AddressInfo, BufferInfo, InterfaceInfo, NetOccupancy};
pub use udp::Via;

/// How many segments before a segment's turn what its connection points at is fetched.
const AHEAD: usize = 6;
/// A batch has a bit for each segment in one word.
const _: () = assert!(BATCH <= 64);

/// Protocol numbers of the transports.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// One host: its interfaces, addresses, routes, sockets and packet memory.
#[derive(Debug)]
pub struct Host {
    core: Core,
    net: Net,
    tcp: Tcp,
    udp: Udp,
    /// TCP segments of the batch in hand, between the passes.
    work: Vec<(Segment, Chain)>,
}

impl Host {
    /// A host without interfaces. `seed` is the source of every secret and random choice: the same seed and the same calls give
    /// the same packets.
    ///
    /// # Errors
    /// Packet memory that cannot be had, or a figure out of range in `config`.
    pub fn new(config: Config, seed: u64, now: Instant) -> Result<Self, ConfigError> {
        config.check()?;
        let pool = Pool::new(config.pool_blocks).map_err(|e| ConfigError::Memory(e.to_string()))?;
        let tunables = config.tcp.sized(config.pool_blocks);
        let mut core = Core {
            now,
            pool,
            wheel: Wheel::with_capacity(config.timers),
            rng: Rng::from_seed(seed),
            stats: Stats::default(),
            secret: SipKey::derive(seed, 0),
            tcp: tunables,
            memory: Memory::new(&tunables),
            sharding: None,
        };
        let net = Net::new(&config, &mut core);
        let tcp = Tcp::new(&config, &mut core, seed);
        let udp = Udp::new(&config, &core);
        Ok(Self {
            core,
            net,
            tcp,
            udp,
            work: Vec::with_capacity(BATCH),
        })
    }

    /// The packet memory, for tools and tests.
    pub fn pool(&self) -> &Pool {
        &self.core.pool
    }

    /// The packet memory, for ports: frames given to [`Host::handle_batch`] must lie in it.
    pub fn pool_mut(&mut self) -> &mut Pool {
        &mut self.core.pool
    }

    /// All counters.
    pub fn stats(&self) -> &Stats {
        &self.core.stats
    }

    // ---- configuration ----

    /// Adds an interface.
    ///
    /// # Errors
    /// A MAC address or MTU that cannot be, or too many interfaces.
    pub fn add_interface(
        &mut self,
        now: Instant,
        config: InterfaceConfig,
    ) -> Result<InterfaceId, ConfigError> {
        self.core.now = now;
        self.net.add_interface(&mut self.core, config)
    }

    /// Changes the longest IP packet that an interface's link carries (576 to 65535; IPv6 needs 1280), and what its device does
    /// for frames. Connections that are open never send longer segments than before.
    ///
    /// # Errors
    /// An MTU that cannot be, no such interface.
    pub fn set_link(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        mtu: usize,
        offloads: Offloads,
    ) -> Result<(), ConfigError> {
        self.core.now = now;
        self.net.set_link(interface, mtu, offloads)
    }

    /// Assigns an address to an interface.
    ///
    /// # Errors
    /// An address that is there already or cannot be assigned, no such interface, a full table.
    pub fn add_address(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        cidr: Cidr,
    ) -> Result<(), ConfigError> {
        self.core.now = now;
        self.net.add_address(&mut self.core, interface, cidr)
    }

    /// Takes an address away.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove_address(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        addr: Addr,
    ) -> Result<(), ConfigError> {
        self.core.now = now;
        self.net.remove_address(&mut self.core, interface, addr)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// No such interface, a gateway that is not on a link of this host, a full table.
    pub fn add_route(&mut self, now: Instant, route: Route) -> Result<(), ConfigError> {
        self.core.now = now;
        self.net.add_route(route, RouteMetrics::default())
    }

    /// Removes a route: destination, gateway and interface must be equal.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove_route(&mut self, now: Instant, route: &Route) -> Result<(), ConfigError> {
        self.core.now = now;
        self.net.remove_route(route)
    }

    // ---- what happened ----

    /// Frames arrived on an interface; the batch is emptied.
    pub fn handle_batch(&mut self, now: Instant, interface: InterfaceId, batch: &mut Batch) {
        self.core.now = now;
        while let Some(packet) = batch.pop_front() {
            self.classify(interface, packet);
        }
        self.process();
        self.drain_internal();
    }

    /// Time went by: everything due up to `now` is done.
    pub fn handle_timers(&mut self, now: Instant) {
        self.core.now = now;
        while let Some(token) = self.core.wheel.pop_expired(now) {
            let (kind, index, extra) = split_token(token);
            match kind {
                TimerKind::Tcp => self.tcp.on_timer(&mut self.core, &mut self.net, index),
                TimerKind::SynReceived => {
                    self.tcp
                        .on_syn_received_timer(&mut self.core, &mut self.net, index)
                }
                TimerKind::TimeWait => self.tcp.on_time_wait_timer(&mut self.core),
                _ => self.net.on_timer(&mut self.core, kind, index, extra),
            }
        }
        self.drain_internal();
    }

    /// First pass: the lower layers; segments are parsed and their table lines fetched.
    #[inline]
    fn classify(&mut self, interface: InterfaceId, packet: Packet) {
        match self.net.input(&mut self.core, interface, packet) {
            Input::Done => {}
            Input::Datagram(datagram) => self.classify_datagram(datagram),
            Input::Report(report) => self.report(&report),
        }
    }

    #[inline]
    fn classify_datagram(&mut self, mut datagram: Datagram) {
        if datagram.protocol != TCP {
            return self.deliver_other(datagram);
        }
        match self.tcp.parse(&mut self.core, &mut datagram) {
            Ok(segment) => {
                if self.work.len() == BATCH {
                    self.process();
                }
                self.work.push((segment, datagram.chain));
            }
            Err(reason) => self.core.drop_packet(datagram.chain, reason),
        }
    }

    /// Second and third pass: fetch the records; then act, fetching what a record points at a few segments ahead.
    fn process(&mut self) {
        let mut work = core::mem::take(&mut self.work);
        let mut later = 0u64;
        for (at, (segment, _)) in work.iter_mut().enumerate() {
            later |= u64::from(!self.tcp.prefetch(segment)) << at;
        }
        while later != 0 {
            if let Some((segment, _)) = work.get_mut(later.trailing_zeros() as usize) {
                self.tcp.prefetch_later(segment);
            }
            later &= later - 1;
        }
        for at in 0..work.len() {
            if let Some((segment, _)) = work.get(at + AHEAD) {
                self.tcp.prefetch_parts(&self.core, segment);
            }
            let (segment, data) = &mut work[at];
            let data = data.take();
            self.tcp.input(&mut self.core, &mut self.net, segment, data);
        }
        work.clear();
        self.work = work;
    }

    fn deliver_other(&mut self, datagram: Datagram) {
        debug_assert_eq!(
            datagram.protocol, UDP,
            "the internet layer delivers TCP and UDP only"
        );
        self.udp.input(&mut self.core, &mut self.net, datagram);
    }

    fn report(&mut self, report: &Report) {
        match report.protocol {
            TCP => self.tcp.report(&mut self.core, &mut self.net, report),
            UDP => self.udp.report(&mut self.core, &mut self.net, report),
            _ => {}
        }
    }

    /// What the host says to itself: looped-back packets and reports that arose inside. Bounded, so that a socket talking to
    /// itself cannot keep a turn for ever.
    fn drain_internal(&mut self) {
        for _ in 0..BATCH {
            let Some((interface, packet)) = self.net.loopback_pop() else {
                break;
            };
            self.classify(interface, packet);
        }
        self.process();
        while let Some(report) = self.net.pop_report() {
            self.report(&report);
        }
    }

    // ---- what should happen ----

    /// Fills the batch with frames to transmit on an interface. Returns whether more is waiting, for this interface or to be
    /// built: call again then, even if the batch was left empty. What is built for other interfaces meanwhile waits in their
    /// queues, and what finds no room there waits to be built until they are polled. Of [`InterfaceId::LOOPBACK`] no frames come: a
    /// host without any other hears itself by it.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        batch: &mut Batch,
    ) -> bool {
        self.core.now = now;
        let waiting = self
            .net
            .transmit_queue(interface)
            .map_or(0, |queue| queue.len());
        self.tcp.follow_paths(&self.net);
        let build = waiting < BATCH && self.tcp.wants_transmit(interface);
        if build {
            self.tcp
                .transmit(&mut self.core, &mut self.net, interface, BATCH);
        }
        if build || self.net.loops_back() {
            self.drain_internal();
        }
        let Some(queue) = self.net.transmit_queue(interface) else {
            let own = interface == InterfaceId::LOOPBACK;
            return own && (self.net.loops_back() || self.tcp.wants_transmit(interface));
        };
        while !batch.is_full() {
            let Some(packet) = queue.pop_front() else {
                break;
            };
            if let Err(packet) = batch.push(packet) {
                queue.push_front(packet);
                break;
            }
        }
        !queue.is_empty() || self.net.loops_back() || self.tcp.wants_transmit(interface)
    }

    /// The next socket whose readiness changed.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.tcp
            .pop_ready(&self.core)
            .or_else(|| self.udp.pop_ready())
    }

    /// When [`Host::handle_timers`] must be called next, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.core.wheel.next_deadline()
    }

    // ---- TCP ----

    /// Whether the address is one of this host's and usable, or a loopback address.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        self.net.is_local(&Addr::from(addr))
    }

    /// Changes the options a TCP socket gets when it says nothing; sockets there are keep theirs.
    pub fn set_tcp_defaults(&mut self, options: TcpOptions) {
        self.tcp.set_defaults(options);
    }

    /// The options a TCP socket gets when it says nothing, from the host's configuration.
    pub fn tcp_defaults(&self) -> TcpOptions {
        self.tcp.defaults().clone()
    }

    /// Opens a listener, for port 0 on an ephemeral port that no listener has: [`Host::local_addr`] tells which. The
    /// unspecified IPv6 address serves IPv4 too, as on Linux, unless [`TcpOptions::only_v6`] says otherwise.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` for an address that is not this host's, `NoSuchDevice`, `InvalidInput` for another device than
    /// the link-local address names, `NoBuffers`.
    pub fn tcp_listen(
        &mut self,
        now: Instant,
        local: SocketAddr,
        backlog: usize,
        options: &TcpOptions,
    ) -> Result<SocketId, SocketError> {
        self.core.now = now;
        let addr = Addr::from(local.ip());
        if !options.freebind && !addr.is_unspecified() && !self.net.is_local(&addr) {
            return Err(SocketError::AddrNotAvailable);
        }
        let options = self.on_device([local].into_iter(), options)?;
        if !options.freebind && !self.is_on(&local, options.device) {
            return Err(SocketError::AddrNotAvailable);
        }
        let dual = addr == Addr::UNSPECIFIED_V6 && !options.only_v6;
        let backlog = self.bounded(backlog);
        let local = (addr, local.port());
        self.tcp
            .listen(&mut self.core, local, backlog, options.into_owned(), dual)
    }

    /// A backlog as a listener keeps it.
    fn bounded(&self, backlog: usize) -> u32 {
        let most = self.core.tcp.somaxconn;
        u32::try_from(backlog).map_or(most, |backlog| backlog.min(most))
    }

    /// Changes how many connections may wait to be accepted.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_set_backlog(
        &mut self,
        listener: SocketId,
        backlog: usize,
    ) -> Result<(), SocketError> {
        let backlog = self.bounded(backlog);
        self.tcp
            .change_listener(&self.core, listener, |_, most| *most = backlog)
    }

    /// Takes the oldest connection out of a listener's queue, with its peer's address.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn tcp_accept(
        &mut self,
        now: Instant,
        listener: SocketId,
    ) -> Result<(SocketId, SocketAddr), SocketError> {
        self.core.now = now;
        let id = self.tcp.accept(&self.core, listener)?;
        let (_, (remote, port)) = self.tcp.addresses(id)?;
        Ok((id, SocketAddr::new(remote.to_ip(), port)))
    }

    /// Starts to connect. An event tells how it ended: `WRITABLE` when connected, `ERROR` when not.
    ///
    /// # Errors
    /// No route (groups and everybody have none), no usable source address, no free port, a full table; `ConnectionRefused` at once
    /// for port 0; `NoSuchDevice`, and `InvalidInput` for another device than link-local addresses name.
    pub fn tcp_connect(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local: Option<SocketAddr>,
        options: &TcpOptions,
    ) -> Result<SocketId, SocketError> {
        self.core.now = now;
        let source = local
            .map(|l| Addr::from(l.ip()))
            .filter(|a| !a.is_unspecified());
        let port = local.map_or(0, |l| l.port());
        let named = [Some(remote), local];
        let options = self.on_device(named.into_iter().flatten(), options)?;
        self.tcp.connect(
            &mut self.core,
            &mut self.net,
            (Addr::from(remote.ip()), remote.port()),
            (source, port),
            &options,
        )
    }

    /// Queues bytes to be sent; returns how many were taken.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room: an event tells when there is. `BrokenPipe` after shutdown; a pending error once.
    pub fn tcp_send(
        &mut self,
        now: Instant,
        socket: SocketId,
        bytes: &[u8],
    ) -> Result<usize, SocketError> {
        self.tcp_send_with(now, socket, bytes, Write::default())
    }

    /// Queues blocks of this host's pool to be sent, without a copy.
    ///
    /// # Errors
    /// As [`Host::tcp_send`]; the chain comes back.
    pub fn tcp_send_chain(
        &mut self,
        now: Instant,
        socket: SocketId,
        chain: Chain,
    ) -> Result<(), (Chain, SocketError)> {
        self.core.now = now;
        self.tcp.send_chain(&mut self.core, socket, chain)
    }

    /// Copies received bytes out; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; a pending error once.
    pub fn tcp_recv(
        &mut self,
        now: Instant,
        socket: SocketId,
        out: &mut [u8],
    ) -> Result<usize, SocketError> {
        self.core.now = now;
        self.tcp.receive(&mut self.core, socket, out)
    }

    /// Hands over up to `most` received bytes as blocks, to be freed in [`Host::pool_mut`]; empty at the end of the stream.
    ///
    /// # Errors
    /// As [`Host::tcp_recv`].
    pub fn tcp_recv_chain(
        &mut self,
        now: Instant,
        socket: SocketId,
        most: usize,
    ) -> Result<Chain, SocketError> {
        self.core.now = now;
        self.tcp.receive_chain(&mut self.core, socket, most)
    }

    /// Copies received bytes out and leaves them.
    ///
    /// # Errors
    /// As [`Host::tcp_recv`].
    pub fn tcp_peek(&mut self, socket: SocketId, out: &mut [u8]) -> Result<usize, SocketError> {
        self.tcp.peek(&self.core, socket, 0, out)
    }

    /// Shuts down reading, writing or both; the handle stays.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn tcp_shutdown(
        &mut self,
        now: Instant,
        socket: SocketId,
        how: Shutdown,
    ) -> Result<(), SocketError> {
        self.core.now = now;
        let (read, write) = (how != Shutdown::Write, how != Shutdown::Read);
        self.tcp.shutdown(&mut self.core, socket, read, write)
    }

    /// Changes options of a connection, or of those a listener opens from now on.
    ///
    /// # Errors
    /// `BadSocket`, or `NoBuffers` when 65,535 different sets of options are in use.
    pub fn tcp_set_options(
        &mut self,
        now: Instant,
        socket: SocketId,
        change: impl FnOnce(&mut TcpOptions),
    ) -> Result<(), SocketError> {
        self.core.now = now;
        match socket.kind() {
            Some(SocketKind::Listener) => {
                self.tcp
                    .change_listener(&self.core, socket, |options, _| change(options))
            }
            _ => self.tcp.set_options(&mut self.core, socket, change),
        }
    }

    /// Holds partial segments back (TCP_CORK), or lets them go.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_set_cork(
        &mut self,
        now: Instant,
        socket: SocketId,
        cork: bool,
    ) -> Result<(), SocketError> {
        self.core.now = now;
        self.tcp.set_cork(socket, cork)
    }

    /// A connection's options.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_options(&self, socket: SocketId) -> Result<TcpOptions, SocketError> {
        self.tcp.options(socket).cloned()
    }

    /// A connection in numbers.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_info(&self, socket: SocketId) -> Result<TcpInfo, SocketError> {
        self.tcp_info_at(self.core.now, socket)
    }

    /// A connection in numbers, with its times as of `now`: [`Host::tcp_info`] takes that of the last call.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_info_at(&self, now: Instant, socket: SocketId) -> Result<TcpInfo, SocketError> {
        self.tcp.info((&self.core, &self.net), now, socket)
    }

    /// A connection's state.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn tcp_state(&self, socket: SocketId) -> Result<State, SocketError> {
        self.tcp_info(socket).map(|info| info.state)
    }

    // ---- any socket ----

    /// Sets what events of this socket carry.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn set_token(&mut self, socket: SocketId, token: u64) -> Result<(), SocketError> {
        match socket.kind() {
            Some(SocketKind::Tcp) => self.tcp.set_token(&self.core, socket, token),
            Some(SocketKind::Listener) => self.tcp.set_listener_token(socket, token),
            Some(SocketKind::Udp) => self.udp.set_token(socket, token),
            _ => Err(SocketError::BadSocket),
        }
    }

    /// What [`Host::set_token`] has set.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn token(&self, socket: SocketId) -> Result<u64, SocketError> {
        match socket.kind() {
            Some(SocketKind::Tcp) => self.tcp.token(socket),
            Some(SocketKind::Listener) => self.tcp.listener_token(socket),
            Some(SocketKind::Udp) => self.udp.token(socket),
            _ => Err(SocketError::BadSocket),
        }
    }

    /// What a socket is ready for now; nothing when the handle is stale.
    pub fn ready(&self, socket: SocketId) -> Ready {
        match socket.kind() {
            Some(SocketKind::Tcp) => self.tcp.ready(&self.core, socket).unwrap_or_default(),
            Some(SocketKind::Listener) if self.tcp.listener(socket).is_ok_and(|l| l.queued > 0) => {
                Ready::READABLE
            }
            Some(SocketKind::Udp) => self.udp.ready(socket),
            _ => Ready::NONE,
        }
    }

    /// As [`Host::ready`]. Who finds no room to write is told when there is, as if he had written (Linux's poll).
    pub fn watch_ready(&mut self, socket: SocketId) -> Ready {
        match socket.kind() {
            Some(SocketKind::Tcp) => self.tcp.watch_ready(&self.core, socket).unwrap_or_default(),
            _ => self.ready(socket),
        }
    }

    /// Takes a socket's pending error (SO_ERROR).
    pub fn take_error(&mut self, socket: SocketId) -> Option<SocketError> {
        match socket.kind() {
            Some(SocketKind::Tcp) => self.tcp.take_error(socket).ok().flatten(),
            Some(SocketKind::Udp) => self.udp.take_error(socket),
            _ => None,
        }
    }

    /// The local address and port.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn local_addr(&self, socket: SocketId) -> Result<SocketAddr, SocketError> {
        match socket.kind() {
            Some(SocketKind::Tcp) => self
                .tcp
                .addresses(socket)
                .map(|((addr, port), _)| SocketAddr::new(addr.to_ip(), port)),
            Some(SocketKind::Listener) => self
                .tcp
                .listener(socket)
                .map(|l| SocketAddr::new(l.local.to_ip(), l.port)),
            Some(SocketKind::Udp) => self.udp.local_addr(socket),
            _ => Err(SocketError::BadSocket),
        }
    }

    /// The peer's address and port.
    ///
    /// # Errors
    /// `NotConnected` when there is none, `BadSocket`.
    pub fn peer_addr(&self, socket: SocketId) -> Result<SocketAddr, SocketError> {
        match socket.kind() {
            Some(SocketKind::Tcp) => self
                .tcp
                .addresses(socket)
                .map(|(_, (addr, port))| SocketAddr::new(addr.to_ip(), port)),
            Some(SocketKind::Listener) => Err(SocketError::NotConnected),
            Some(SocketKind::Udp) => self.udp.peer_addr(socket),
            _ => Err(SocketError::BadSocket),
        }
    }

    /// Closes a socket: a connection gracefully, in the background. The handle is dead afterwards.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn close(&mut self, now: Instant, socket: SocketId) -> Result<(), SocketError> {
        self.core.now = now;
        match socket.kind() {
            Some(SocketKind::Tcp) => self.tcp.close(&mut self.core, &mut self.net, socket),
            Some(SocketKind::Listener) => {
                self.tcp
                    .close_listener(&mut self.core, &mut self.net, socket)
            }
            Some(SocketKind::Udp) => self.udp.close(&mut self.core, &mut self.net, socket),
            _ => Err(SocketError::BadSocket),
        }
    }

    /// Closes a socket at once; a TCP peer gets a reset. The handle is dead afterwards.
    ///
    /// # Errors
    /// `BadSocket`.
    pub fn abort(&mut self, now: Instant, socket: SocketId) -> Result<(), SocketError> {
        self.core.now = now;
        match socket.kind() {
            Some(SocketKind::Tcp) => self.tcp.abort(&mut self.core, &mut self.net, socket),
            _ => self.close(now, socket),
        }
    }

    /// Every TCP socket there is, for tools: visits all of them.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionInfo> + '_ {
        self.tcp.connections()
    }

    /// How many TCP records live, for tools and leak tests.
    pub fn tcp_occupancy(&self) -> TcpOccupancy {
        self.tcp.occupancy()
    }
}

/// How many TCP records of each kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpOccupancy {
    /// Connections in any state but SYN-RECEIVED (of listeners) and TIME-WAIT.
    pub connections: u32,
    /// Of these, with an active part.
    pub active: u32,
    /// Half-open connections.
    pub half_open: u32,
    /// TIME-WAIT records.
    pub time_wait: u32,
    /// Ranges out of order.
    pub ranges: u32,
    /// Different sets of options.
    pub profiles: u32,
    /// Runs of segments in flight.
    pub in_flight: u32,
    /// Connections that had a loss since they were last idle.
    pub episodes: u32,
    /// Connections with ends of records or urgent data under way.
    pub edges: u32,
    /// Marks, and notices that nobody has taken.
    pub marks: u32,
    /// Connections with an account.
    pub ledgers: u32,
    /// Connections that search for the path MTU.
    pub searches: u32,
    /// SYNs that are saved.
    pub saved_syns: u32,
    /// What is counted for accurate ECN.
    pub accurate_ecn: u32,
}

/// Which direction of a connection to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Both.
    Both,
}
