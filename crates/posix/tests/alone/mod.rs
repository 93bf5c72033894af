//! A host that talks to itself on virtual time, and calls in fewer words.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{IoSlice, IoSliceMut};

use base::{Batch, Instant, Offloads};
use posix::{Errno, Table, World, accept, bind, connect, getsockopt, listen, receive, send};
use posix::{setsockopt, socket, write};
use stack::{Config, Host, InterfaceConfig, InterfaceId};

/// A world of one thread: waiting moves the clock.
pub(crate) struct Alone {
    pub(crate) host: Host,
    pub(crate) table: Table,
    pub(crate) now: Instant,
    pub(crate) link: InterfaceId,
}

impl Alone {
    pub(crate) fn new() -> Self {
        let now = Instant::from_secs(100);
        let config = Config {
            pool_blocks: 4096,
            ..Config::default()
        };
        let mut host = Host::new(config, 7, now).unwrap();
        // Nothing that leaves by it is ever answered.
        let interface = InterfaceConfig {
            name: "none".into(),
            mac: None,
            mtu: 1500,
            offloads: Offloads::NONE,
        };
        let link = host.add_interface(now, interface).unwrap();
        let own = "10.0.0.1/24".parse().unwrap();
        host.add_address(now, link, own).unwrap();
        Self {
            host,
            table: Table::new(),
            now,
            link,
        }
    }

    /// Time passes until every delayed ACK is out.
    pub(crate) fn wait_a_while(&mut self) {
        let until = self.now + core::time::Duration::from_millis(250);
        while let Some(next) = self.host.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(next);
            self.host.handle_timers(self.now);
            self.turn();
        }
        self.now = until;
        self.turn();
    }

    /// Lets the host talk to itself until it has nothing more to say.
    pub(crate) fn turn(&mut self) -> bool {
        let (mut batch, mut ready) = (Batch::new(), false);
        while self.host.poll_transmit(self.now, self.link, &mut batch) || !batch.is_empty() {
            batch.clear(self.host.pool_mut());
        }
        while let Some(event) = self.host.poll_event() {
            self.table.hear(&event);
            ready = true;
        }
        ready
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
        self.now = self.now.max(at);
        self.host.handle_timers(self.now);
        self.turn();
    }
}

pub(crate) const V4: i32 = libc::AF_INET;
pub(crate) const V6: i32 = libc::AF_INET6;
pub(crate) const STREAM: i32 = libc::SOCK_STREAM;
pub(crate) const DATAGRAM: i32 = libc::SOCK_DGRAM;

pub(crate) fn sockaddr(text: &str) -> Vec<u8> {
    let addr: core::net::SocketAddr = text.parse().unwrap();
    let mut bytes = vec![0; 28];
    let len = write(&addr, addr.is_ipv6(), &mut bytes);
    bytes.truncate(len);
    bytes
}

pub(crate) fn put(world: &mut Alone, fd: i32, data: &[u8], flags: i32) -> Result<usize, Errno> {
    send(world, fd, &[IoSlice::new(data)], flags, None)
}

pub(crate) fn get(world: &mut Alone, fd: i32, most: usize, flags: i32) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; most];
    let message = receive(world, fd, &mut [IoSliceMut::new(&mut buffer)], flags)?;
    buffer.truncate(message.len);
    Ok(buffer)
}

pub(crate) fn number(world: &mut Alone, fd: i32, level: i32, name: i32) -> Result<i32, Errno> {
    let value = getsockopt(world, fd, level, name)?;
    Ok(i32::from_ne_bytes(*value.first_chunk().unwrap()))
}

pub(crate) fn set(
    world: &mut Alone,
    fd: i32,
    level: i32,
    name: i32,
    value: i32,
) -> Result<(), Errno> {
    setsockopt(world, fd, level, name, &value.to_ne_bytes())
}

/// A listener at `at` and both ends of a connection to it.
pub(crate) fn pair(world: &mut Alone, at: &str) -> (i32, i32, i32) {
    let family = if at.starts_with('[') { V6 } else { V4 };
    let listener = socket(world, family, STREAM, 0).unwrap();
    bind(world, listener, &sockaddr(at)).unwrap();
    listen(world, listener, 4).unwrap();
    let client = socket(world, family, STREAM, 0).unwrap();
    connect(world, client, &sockaddr(at)).unwrap();
    let (server, _) = accept(world, listener, 0).unwrap();
    (listener, client, server)
}
