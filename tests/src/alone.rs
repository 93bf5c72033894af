//! A host that talks to itself on virtual time, and the BSD calls over it in fewer words.
//!
//! What does not live here: anybody who answers. What leaves by the link is kept for whoever wants to look at it, and what comes in
//! by it is made by hand.
//!
//! Invariant: the clock moves in a call that waits, and when the test says so.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{IoSlice, IoSliceMut};

use base::{Batch, Chain, Instant, Offloads, Packet};
use posix::{Errno, Table, World, accept, bind, connect, getsockopt, listen, receive, send};
use posix::{setsockopt, socket, write};
use stack::{Config, Host, InterfaceConfig, InterfaceId};

/// Longer than an ACK is delayed.
const WHILE: Duration = Duration::from_millis(250);

/// A world of one host and one thread: waiting moves the clock.
pub struct Alone {
    /// The host.
    pub host: Host,
    /// Its sockets.
    pub table: Table,
    /// The time.
    pub now: Instant,
    /// A link without MAC addresses, MTU 1500, that leads nowhere.
    pub link: InterfaceId,
    /// The packets that left by the link, and when.
    pub sent: Vec<(Instant, Vec<u8>)>,
    /// More such links: see [`Alone::attach`].
    others: Vec<InterfaceId>,
    /// The packets that left by those.
    pub sent_by_others: Vec<(InterfaceId, Vec<u8>)>,
}

impl Default for Alone {
    fn default() -> Self {
        Self::new()
    }
}

impl Alone {
    /// The host 10.0.0.1/24.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn new() -> Self {
        let config = Config {
            pool_blocks: 4096,
            ..Config::default()
        };
        let mut world = Self::of(config, Instant::from_secs(100));
        let own = "10.0.0.1/24".parse().unwrap();
        world
            .host
            .add_address(world.now, world.link, own)
            .expect("the first address");
        world
    }

    /// A host of this kind, without addresses but those of loopback.
    ///
    /// # Panics
    /// If there can be no such host.
    #[must_use]
    pub fn of(config: Config, now: Instant) -> Self {
        let mut host = Host::new(config, 7, now).unwrap();
        let link = host.add_interface(now, interface("none")).unwrap();
        Self {
            host,
            table: Table::new(),
            now,
            link,
            sent: Vec::new(),
            others: Vec::new(),
            sent_by_others: Vec::new(),
        }
    }

    /// One more link like the first.
    ///
    /// # Panics
    /// If there are too many.
    pub fn attach(&mut self, name: &str) -> InterfaceId {
        let added = self.host.add_interface(self.now, interface(name));
        let link = added.expect("room for one more");
        self.others.push(link);
        link
    }

    /// Lets the host do all it has to do now. Whether sockets heard of it.
    pub fn turn(&mut self) -> bool {
        let mut heard = self.hear();
        for at in 0..=self.others.len() {
            let link = self.others.get(at).copied().unwrap_or(self.link);
            heard |= self.transmit(link);
        }
        self.hear() || heard
    }

    /// Keeps what leaves by a link. Whether sockets heard of it.
    fn transmit(&mut self, link: InterfaceId) -> bool {
        let (mut batch, mut heard) = (Batch::new(), false);
        while self.host.poll_transmit(self.now, link, &mut batch) || !batch.is_empty() {
            while let Some(packet) = batch.pop_front() {
                let pool = self.host.pool_mut();
                let bytes = pool.slices(&packet.chain).flatten().copied().collect();
                pool.free(packet.chain);
                if link == self.link {
                    self.sent.push((self.now, bytes));
                } else {
                    self.sent_by_others.push((link, bytes));
                }
            }
            heard |= self.hear();
        }
        heard
    }

    fn hear(&mut self) -> bool {
        let mut heard = false;
        while let Some(event) = self.host.poll_event() {
            self.table.hear(&event);
            heard = true;
        }
        heard
    }

    /// It is `now`: timers go off that are due.
    pub fn ring(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.host.handle_timers(self.now);
        self.turn();
    }

    /// Time passes, each timer going off when it is due.
    pub fn rest(&mut self, time: Duration) {
        let until = self.now + time;
        self.turn();
        while let Some(next) = self.host.next_deadline().filter(|at| *at <= until) {
            self.ring(next);
        }
        self.now = until;
        self.turn();
    }

    /// Time passes until every delayed ACK is out.
    pub fn wait_a_while(&mut self) {
        self.rest(WHILE);
    }

    /// A packet comes in by the link.
    ///
    /// # Panics
    /// If the pool has no room for it.
    pub fn arrive(&mut self, packet: &[u8]) {
        self.arrive_by(self.link, packet);
    }

    /// A packet comes in by this link.
    ///
    /// # Panics
    /// If the pool has no room for it.
    pub fn arrive_by(&mut self, link: InterfaceId, packet: &[u8]) {
        let mut chain = Chain::default();
        let taken = self.host.pool_mut().append_bytes(&mut chain, packet);
        assert_eq!(taken, packet.len(), "the pool is empty");
        let mut batch = Batch::new();
        batch.push(Packet::new(chain)).unwrap();
        self.host.handle_batch(self.now, link, &mut batch);
        self.turn();
    }
}

/// A link without MAC addresses.
fn interface(name: &str) -> InterfaceConfig {
    InterfaceConfig {
        name: name.into(),
        mac: None,
        mtu: 1500,
        offloads: Offloads::NONE,
    }
}

impl World for Alone {
    fn now(&mut self) -> Instant {
        self.now
    }
    fn host(&mut self) -> &mut Host {
        &mut self.host
    }
    fn table(&mut self) -> &mut Table {
        &mut self.table
    }
    fn changed(&mut self) -> bool {
        self.turn()
    }
    fn wait(&mut self, deadline: Instant) {
        let next = self.host.next_deadline().unwrap_or(Instant::FAR);
        let at = next.min(deadline);
        assert_ne!(at, Instant::FAR, "nothing would ever end this wait");
        self.ring(at);
    }
}

/// AF_INET.
pub const V4: i32 = libc::AF_INET;
/// AF_INET6.
pub const V6: i32 = libc::AF_INET6;
/// SOCK_STREAM.
pub const STREAM: i32 = libc::SOCK_STREAM;
/// SOCK_DGRAM.
pub const DATAGRAM: i32 = libc::SOCK_DGRAM;

/// The `sockaddr` of an address, as long as those of its family are.
#[must_use]
pub fn address(addr: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![0; 28];
    let len = write(&addr, addr.is_ipv6(), &mut bytes);
    bytes.truncate(len);
    bytes
}

/// The same of an address in words.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn sockaddr(text: &str) -> Vec<u8> {
    address(text.parse().unwrap())
}

/// Sends bytes.
///
/// # Errors
/// As [`send`].
pub fn put(world: &mut Alone, fd: i32, data: &[u8], flags: i32) -> Result<usize, Errno> {
    send(world, fd, &[IoSlice::new(data)], flags, None)
}

/// Receives at most so many bytes.
///
/// # Errors
/// As [`receive`].
pub fn get(world: &mut Alone, fd: i32, most: usize, flags: i32) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; most];
    let message = receive(world, fd, &mut [IoSliceMut::new(&mut buffer)], flags)?;
    buffer.truncate(message.len);
    Ok(buffer)
}

/// An option that is a number.
///
/// # Errors
/// As [`getsockopt`].
///
/// # Panics
/// If it is shorter than a number.
pub fn number(world: &mut Alone, fd: i32, level: i32, name: i32) -> Result<i32, Errno> {
    let value = getsockopt(world, fd, level, name)?;
    Ok(i32::from_ne_bytes(*value.first_chunk().unwrap()))
}

/// Sets an option that is a number.
///
/// # Errors
/// As [`setsockopt`].
pub fn set(world: &mut Alone, fd: i32, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    setsockopt(world, fd, level, name, &value.to_ne_bytes())
}

/// A listener at `at` and both ends of a connection to it.
///
/// # Panics
/// If there can be none.
pub fn pair(world: &mut Alone, at: &str) -> (i32, i32, i32) {
    let family = if at.starts_with('[') { V6 } else { V4 };
    let listener = socket(world, family, STREAM, 0).unwrap();
    bind(world, listener, &sockaddr(at)).unwrap();
    listen(world, listener, 4).unwrap();
    let client = socket(world, family, STREAM, 0).unwrap();
    connect(world, client, &sockaddr(at)).unwrap();
    let (server, _) = accept(world, listener, 0).unwrap();
    (listener, client, server)
}
