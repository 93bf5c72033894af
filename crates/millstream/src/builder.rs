//! Puts a host together: ports, addresses, routes, sizes, and how its thread runs.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use engine::port::Port;
use engine::{
    App, BusyPoll, Driver, Limits, Shard, ShardError, ShardOptions, Shards, ShardsOptions, Sockets,
};
use stack::{Config, ConfigError, InterfaceId, Route, RouteMetrics};
use wire::{Addr, Cidr};

use crate::asked::Asked;
use crate::error::Error;
use crate::host::Host;

/// RFC 5227 section 2.1.1 needs up to 7 s, RFC 4862 section 5.4 up to 2 s.
const DETECTION_MAX: Duration = Duration::from_secs(12);
const DETECTION_POLL: Duration = Duration::from_millis(10);

struct PortPlan {
    /// One, or one for each shard.
    queues: Vec<Box<dyn Port + Send>>,
    addresses: Vec<Cidr>,
    routes: Vec<Planned>,
}

impl PortPlan {
    fn name(&self) -> String {
        let first = self.queues.first();
        first.map_or_else(String::new, |port| port.facts().name.clone())
    }
}

/// A route out of a port.
struct Planned {
    dst: Cidr,
    via: Option<Addr>,
    metrics: RouteMetrics,
}

impl Planned {
    fn new(dst: Cidr, via: Option<Addr>) -> Self {
        Self {
            dst,
            via,
            metrics: RouteMetrics::default(),
        }
    }
}

/// Builds a [`Host`]. Addresses, gateways and routes are those of the port named last. A host without a port speaks with itself
/// only: 127.0.0.0/8 and `::1`.
///
/// On a device:
///
/// ```no_run
/// use millstream::Host;
/// use millstream::port::tap::{Tap, TapOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let host = Host::builder()
///     .port(Tap::new("mill0", &TapOptions::default())?)
///     .address("10.77.0.2/24")
///     .address("fd77::2/64")
///     .gateway("10.77.0.1")
///     .start()?;
/// # Ok(())
/// # }
/// ```
///
/// Two in one process, joined by memory, as for a test that runs alike each time:
///
/// ```
/// use std::time::Duration;
///
/// use millstream::port::ring::{RingOptions, pair};
/// use millstream::{Config, Host, Limits, Mac};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
/// let (here, there) = pair(macs, &RingOptions::default())?;
/// // Nobody else can have their addresses: they need not ask.
/// let config = Config { duplicate_detection: false, ..Config::default() };
/// let server = Host::builder().port(here).address("10.77.0.1/24").config(config.clone()).seed(1).start()?;
/// let client = Host::builder()
///     .port(there)
///     .address("10.77.0.2/24")
///     .config(config)
///     .seed(2)
///     .name("client")
///     .limits(Limits { receive: 1 << 20, send: 1 << 20 })
///     .drain(Duration::ZERO)
///     .start()?;
/// let listener = server.tcp_listen("10.77.0.1:80")?;
/// let stream = client.tcp_connect("10.77.0.1:80")?;
/// assert_eq!(listener.accept()?.1, stream.local_addr()?);
/// # Ok(())
/// # }
/// ```
#[must_use = "a host exists once it is started"]
pub struct Builder {
    ports: Vec<PortPlan>,
    config: Config,
    seed: Option<u64>,
    limits: Limits,
    options: ShardOptions,
    shards: usize,
    cpus: Vec<usize>,
    ring: Option<usize>,
    pub(crate) asked: Asked,
    /// The first thing that was wrong; told by the last call, so that calls can be chained.
    error: Option<Error>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("ports", &self.ports.len())
            .field("config", &self.config)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            ports: Vec::new(),
            config: Config::default(),
            seed: None,
            limits: Limits::default(),
            options: ShardOptions::default(),
            shards: 1,
            cpus: Vec::new(),
            ring: None,
            asked: Asked::default(),
            error: None,
        }
    }

    /// Adds a port: where frames come from and go to. The host takes the port's hardware address.
    pub fn port(self, port: impl Port + Send + 'static) -> Self {
        self.queues([port])
    }

    /// Adds a port of several queues, one for each of [`Builder::shards`]: each receives and sends by its own. Without, the first
    /// shard has the port, and the others send and receive by way of it.
    ///
    /// ```no_run
    /// use millstream::Host;
    /// use millstream::port::tap::{Tap, TapOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let queues = Tap::queues("mill0", 4, &TapOptions::default())?;
    /// let host = Host::builder().queues(queues).address("10.77.0.2/24").shards(4).start()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn queues<P: Port + Send + 'static>(mut self, queues: impl IntoIterator<Item = P>) -> Self {
        let boxed = |port: P| -> Box<dyn Port + Send> { Box::new(port) };
        self.ports.push(PortPlan {
            queues: queues.into_iter().map(boxed).collect(),
            addresses: Vec::new(),
            routes: Vec::new(),
        });
        self
    }

    /// Runs the host in so many threads, 1 to 64; one unless told otherwise. They share nothing: each has packet memory and tables
    /// of the sizes in [`Builder::config`], and the flows that are its own, which a secret hash divides among them. To the network,
    /// and to programs, they are one host; but a few things work with one shard only and say so (see ARCHITECTURE.md).
    ///
    /// ```
    /// use millstream::Host;
    ///
    /// let host = Host::builder().shards(2).shard_ring(256).start()?;
    /// assert_eq!(host.shards(), 2);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Places for frames that are under way from each shard to each other, 2 KiB each: a frame of up to 2,013 bytes has one, longer
    /// ones several. 2,048 among up to eight shards unless told otherwise, and less among more; never less than the longest frame
    /// needs. What finds no room is dropped, and counted as `shard-ring-full`.
    pub fn shard_ring(mut self, places: usize) -> Self {
        self.ring = Some(places);
        self
    }

    /// Gives the last port an address with its prefix length, such as `"10.77.0.2/24"` or `"fd77::2/64"`. There may be many.
    pub fn address(self, address: impl ToString) -> Self {
        let what = "an address with a prefix length, such as 10.77.0.2/24 or fd77::2/64";
        self.with_port("an address", address.to_string(), what, |plan, text| {
            plan.addresses.push(text.parse().ok()?);
            Some(())
        })
    }

    /// Sends what no other route is for to this router, such as `"10.77.0.1"`, by way of the last port.
    pub fn gateway(self, gateway: impl ToString) -> Self {
        let what = "the address of a gateway, such as 10.77.0.1";
        self.with_port("a gateway", gateway.to_string(), what, |plan, text| {
            let via: IpAddr = text.parse().ok()?;
            let everything = if via.is_ipv4() {
                Cidr::DEFAULT_V4
            } else {
                Cidr::DEFAULT_V6
            };
            plan.routes.push(Planned::new(everything, Some(via.into())));
            Some(())
        })
    }

    /// Sends packets for `destination`, such as `"10.9.0.0/16"`, to the router `via`, by way of the last port.
    pub fn route(self, destination: impl ToString, via: impl ToString) -> Self {
        let given = format!("{} via {}", destination.to_string(), via.to_string());
        let what = "a route, such as 10.9.0.0/16 via 10.77.0.9";
        self.with_port("a route", given, what, |plan, text| {
            let (destination, via) = text.split_once(" via ")?;
            let via: IpAddr = via.parse().ok()?;
            plan.routes
                .push(Planned::new(destination.parse().ok()?, Some(via.into())));
            Some(())
        })
    }

    /// What the gateway or route named last says besides the way: MTU, MSS, first windows, congestion control.
    ///
    /// ```
    /// use millstream::{Congestion, Host, RouteMetrics};
    ///
    /// # use millstream::port::ring::{RingOptions, pair};
    /// # use millstream::Mac;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (port, _nobody) = pair([Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])], &RingOptions::default())?;
    /// # let config = millstream::Config { duplicate_detection: false, ..Default::default() };
    /// let host = Host::builder()
    /// #   .config(config)
    ///     .port(port)
    ///     .address("10.77.0.2/24")
    ///     .route("10.9.0.0/16", "10.77.0.9")
    ///     .metrics(RouteMetrics {
    ///         mtu: Some(1400),
    ///         initcwnd: Some(30),
    ///         congctl: Some(Congestion::Bbr),
    ///         ..RouteMetrics::default()
    ///     })
    ///     .start()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn metrics(self, metrics: RouteMetrics) -> Self {
        let what = "the metrics of a route: name a gateway or a route first";
        let given = format!("{metrics:?}");
        self.with_port("a route", given, what, |plan, _| {
            plan.routes.last_mut()?.metrics = metrics;
            Some(())
        })
    }

    /// Has the last call say so.
    #[cfg(feature = "control")]
    pub(crate) fn fail(mut self, error: Error) -> Self {
        self.error = self.error.or(Some(error));
        self
    }

    fn with_port(
        mut self,
        subject: &'static str,
        given: String,
        what: &'static str,
        apply: impl FnOnce(&mut PortPlan, &str) -> Option<()>,
    ) -> Self {
        let error = match self.ports.last_mut() {
            None => Some(Error::NoPort(subject)),
            Some(plan) => match apply(plan, given.trim()) {
                Some(()) => None,
                None => Some(Error::Parse { what, given }),
            },
        };
        self.error = self.error.or(error);
        self
    }

    /// Sizes of tables and pools, and protocol defaults.
    ///
    /// ```
    /// use millstream::{Config, Host};
    ///
    /// let small = Config {
    ///     pool_blocks: 4 * 1024, // of 2 KiB
    ///     tcp_connections: 1_000,
    ///     ..Config::default()
    /// };
    /// let host = Host::builder().config(small).start()?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The seed of the host's secrets: for tests that must run alike. Without it, the system's random numbers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Bytes each socket may hold between the stack and the application, each way; 512 KiB unless told, 192 KiB at least.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Spin instead of sleeping: latency for a core. A TAP is best opened with
    /// [`TapOptions::busy_poll`](engine::port::tap::TapOptions::busy_poll) then.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use millstream::{BusyPoll, Host};
    ///
    /// let host = Host::builder().busy_poll(BusyPoll::For(Duration::from_micros(50))).cpu(3).start()?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn busy_poll(mut self, busy_poll: BusyPoll) -> Self {
        self.options.busy_poll = busy_poll;
        self
    }

    /// Runs the host's thread, or that of its first shard, on this CPU only, numbered from 0. [`Builder::start`] fails where there is
    /// no such CPU.
    pub fn cpu(self, cpu: usize) -> Self {
        self.cpus([cpu])
    }

    /// Runs the threads of the host's shards each on the CPU in its place, numbered from 0, and those beyond the list on any.
    ///
    /// ```no_run
    /// use millstream::Host;
    ///
    /// let host = Host::builder().shards(4).cpus([4, 5, 6, 7]).start()?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.cpus = cpus.into_iter().collect();
        self
    }

    /// The name of the host's thread, which tools such as `top -H` show the first 15 bytes of; `millstream` unless told. Those of further
    /// shards have their number behind it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// How long a host that is stopped goes on to send what was written before; one second unless told.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.options.drain = drain;
        self
    }

    /// Starts the host in threads of its own, and waits until its addresses are usable: while
    /// [`Config::duplicate_detection`] asks the link whether somebody else has them, that is some seconds.
    ///
    /// # Errors
    /// Whatever was wrong with addresses and routes; an address somebody else on the link has; no memory, descriptors or
    /// threads left. One line, with a remedy.
    pub fn start(self) -> Result<Host, Error> {
        let detection = self.config.duplicate_detection;
        let plans = self.ports.iter();
        let addresses: Vec<(Cidr, String)> = plans
            .flat_map(|plan| {
                let name = plan.name();
                plan.addresses
                    .iter()
                    .map(move |address| (*address, name.clone()))
            })
            .collect();
        let (shards, sockets) = self.build_shards()?;
        let host = Host::new(sockets, shards.spawn()?);
        if detection {
            let end = Instant::now() + DETECTION_MAX;
            for (address, name) in addresses {
                await_address(&host, address, &name, end)?;
            }
        }
        Ok(host)
    }

    /// The host's shard and the door to its sockets, not running yet: for callers who run it in a thread they have.
    ///
    /// ```
    /// use millstream::Host;
    ///
    /// let (mut shard, sockets) = Host::builder().build()?;
    /// let handle = shard.handle();
    /// std::thread::scope(|threads| {
    ///     threads.spawn(move || {
    ///         let local = "127.0.0.1:7".parse().expect("an address");
    ///         let bound = sockets.udp_bind(local, Default::default()).and_then(|opening| opening.wait());
    ///         assert!(bound.is_ok());
    ///         handle.stop();
    ///     });
    ///     shard.run()
    /// })?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Builder::start`]; more than one shard was asked for, see [`Builder::build_shards`].
    pub fn build(self) -> Result<(Shard<Driver>, Sockets), Error> {
        let one = self.one_shard()?;
        let (shards, sockets) = one.build_shards()?;
        let shard = shards.only().ok_or_else(Self::several)?;
        Ok((shard, sockets))
    }

    /// The host's shards, however many, and the door to their sockets, not running yet.
    ///
    /// ```no_run
    /// use millstream::Host;
    ///
    /// # fn example(port: millstream::port::tap::Tap) -> Result<(), Box<dyn std::error::Error>> {
    /// let host = Host::builder().port(port).address("10.77.0.2/24").shards(2);
    /// let (shards, sockets) = host.build_shards()?;
    /// std::thread::scope(|scope| {
    ///     for mut shard in shards.into_shards() {
    ///         scope.spawn(move || shard.run());
    ///     }
    /// });
    /// # drop(sockets);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn build_shards(mut self) -> Result<(Shards, Sockets), Error> {
        let seed = self.check()?;
        let (config, options) = (self.config.clone(), self.shards_options());
        let (mut shards, sockets) = Shards::new(&config, seed, self.limits, options)?;
        self.furnish_all(&mut shards, Some(&sockets))?;
        Ok((shards, sockets))
    }

    fn shards_options(&self) -> ShardsOptions {
        let shards = 0..self.shards;
        ShardsOptions {
            shards: shards.map(|shard| self.options_of(shard)).collect(),
            ring: self.ring.unwrap_or(ShardsOptions::ring_of(self.shards)),
            moved: ShardsOptions::MOVED,
        }
    }

    fn options_of(&self, shard: usize) -> ShardOptions {
        let name = &self.options.name;
        ShardOptions {
            name: match shard {
                0 => name.clone(),
                shard => format!("{name}-{shard}"),
            },
            cpu: self.cpus.get(shard).copied(),
            ..self.options.clone()
        }
    }

    fn one_shard(self) -> Result<Self, Error> {
        match self.shards {
            1 => Ok(self),
            _ => Err(Self::several()),
        }
    }

    fn several() -> Error {
        Error::Refused {
            what: "cannot hand out the host's shard".to_owned(),
            why: "it has several; use `build_shards` or `build_shards_with`".to_owned(),
        }
    }

    /// A shard with an application on it, not running yet: no sockets for other threads, no crossing.
    ///
    /// # Errors
    /// As [`Builder::start`]; more than one shard was asked for, see [`Builder::build_shards_with`].
    pub fn build_with<A: App>(self, app: A) -> Result<Shard<A>, Error> {
        let mut this = self.one_shard()?;
        let seed = this.check()?;
        let mut shard = Shard::new(this.config.clone(), seed, app, this.options_of(0))?;
        this.furnish(&mut shard)?;
        Ok(shard)
    }

    /// The host's shards with an application on each, which `app` makes by the shard's number, not running yet.
    ///
    /// The shards have nothing in common but the network's side: each application listens, and has the connections that the flows'
    /// hash gives to its shard; one that connects is given a port whose replies come home. Datagrams are divided by their flow among
    /// the shards whose application has bound the port.
    ///
    /// ```no_run
    /// use millstream::shard::{App, Event, ShardCx};
    ///
    /// /// Answers datagrams on its shard.
    /// struct Echo;
    ///
    /// impl App for Echo {
    ///     type Command = ();
    ///
    ///     fn on_start(&mut self, cx: &mut ShardCx<'_>) {
    ///         let local = "0.0.0.0:7".parse().expect("an address");
    ///         cx.host.udp_bind(cx.now, local, &Default::default()).expect("nobody else is there");
    ///     }
    ///
    ///     fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
    ///         let mut buffer = [0; 2048];
    ///         while let Ok((n, from)) = cx.host.udp_recv_from(event.socket, &mut buffer) {
    ///             let _ = cx.host.udp_send_to(cx.now, event.socket, &buffer[..n], Some(from));
    ///         }
    ///     }
    /// }
    ///
    /// # fn example(port: millstream::port::tap::Tap) -> Result<(), Box<dyn std::error::Error>> {
    /// let host = millstream::Host::builder().port(port).address("10.77.0.2/24").shards(4);
    /// let mut threads = host.build_shards_with(|_number| Echo)?.spawn()?;
    /// // A handle of each: commands for its application, questions to its stack.
    /// let handles = threads.handles();
    /// # drop(handles);
    /// threads.stop()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn build_shards_with<A: App>(
        mut self,
        app: impl FnMut(usize) -> A,
    ) -> Result<Shards<A>, Error> {
        let seed = self.check()?;
        let (config, options) = (self.config.clone(), self.shards_options());
        let mut shards = Shards::with_apps(&config, seed, options, app)?;
        self.furnish_all(&mut shards, None)?;
        Ok(shards)
    }

    fn furnish_all<A: App>(
        self,
        shards: &mut Shards<A>,
        sockets: Option<&Sockets>,
    ) -> Result<(), Error> {
        for plan in self.ports {
            let name = plan.name();
            let interface = shards.add_port(plan.queues)?;
            furnish_port(shards.lead(), &name, interface, plan.addresses, plan.routes)?;
        }
        self.asked.answer_all(shards, sockets)
    }

    fn check(&mut self) -> Result<u64, Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match self.seed {
            Some(seed) => Ok(seed),
            None => Ok(engine::random_seed()?),
        }
    }

    fn furnish<A: App>(self, shard: &mut Shard<A>) -> Result<(), Error> {
        for mut plan in self.ports {
            let name = plan.name();
            let queues = plan.queues.len();
            let port = plan.queues.pop().filter(|_| queues == 1);
            let port = port.ok_or(ShardError::Queues(queues, 1))?;
            let interface = shard.add_port(port)?;
            furnish_port(shard, &name, interface, plan.addresses, plan.routes)?;
        }
        self.asked.answer(shard)
    }
}

/// Waits until a socket can be bound to the address.
fn await_address(host: &Host, address: Cidr, name: &str, end: Instant) -> Result<(), Error> {
    let any_port = SocketAddr::new(address.addr().to_ip(), 0);
    // Those that follow hear of it a little later.
    let everywhere = |host: &Host| host.shards() == 1 || host.has_address(any_port.ip());
    while let Err(error) = host.udp_bind(any_port) {
        let late = Instant::now() >= end;
        if late || error.kind() != ErrorKind::AddrNotAvailable {
            let why = if late {
                "another machine on the link seems to have it; choose another".to_owned()
            } else {
                error.to_string()
            };
            return Err(Error::Refused {
                what: format!("{name} cannot use the address {address}"),
                why,
            });
        }
        std::thread::sleep(DETECTION_POLL);
    }
    while !everywhere(host) && Instant::now() < end {
        std::thread::sleep(DETECTION_POLL);
    }
    Ok(())
}

fn furnish_port<A: App>(
    shard: &mut Shard<A>,
    name: &str,
    interface: InterfaceId,
    addresses: Vec<Cidr>,
    routes: Vec<Planned>,
) -> Result<(), Error> {
    let now = shard.now();
    for address in addresses {
        shard
            .host()
            .add_address(now, interface, address)
            .map_err(|why| Error::Refused {
                what: format!("cannot give {name} the address {address}"),
                why: why.to_string(),
            })?;
    }
    for Planned { dst, via, metrics } in routes {
        let route = Route {
            dst,
            via,
            interface,
            metric: 0,
        };
        shard
            .host()
            .add_route_with(now, route, metrics)
            .map_err(|why| Error::Refused {
                what: match via {
                    Some(via) => format!("cannot route {dst} via {via} on {name}"),
                    None => format!("cannot route {dst} on {name}"),
                },
                why: match why {
                    ConfigError::GatewayUnreachable => {
                        format!("{why}; give the port an address on the gateway's network first")
                    }
                    why => why.to_string(),
                },
            })?;
    }
    Ok(())
}
