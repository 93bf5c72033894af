//! Two hosts in threads of their own, joined by memory, the doors to their sockets, and operations that are waited for.

use std::net::SocketAddr;
use std::time::Duration;

use engine::completion::{Completion, CompletionQueue, Handle, Op};
use engine::port::ring::{RingOptions, RingPort, pair};
use engine::{Limits, ShardOptions, ShardThreads, Shards, ShardsOptions, Sockets};
use rustix::io::Errno;
use stack::Config;
use wire::{Cidr, Mac};

/// Longer than anything takes that comes at all.
pub(crate) const LONG: Option<Duration> = Some(Duration::from_secs(20));

/// An address of the network both are on.
pub(crate) fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

/// The hosts 10.0.0.1 and 10.0.0.2.
pub(crate) struct Bench {
    pub(crate) a: Sockets,
    pub(crate) b: Sockets,
    a_threads: ShardThreads,
    b_threads: ShardThreads,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::of(1)
    }

    /// Hosts of one shard, and of several.
    pub(crate) fn each() -> impl Iterator<Item = Self> {
        [1, 3].into_iter().map(Self::of)
    }

    /// Hosts of so many shards.
    pub(crate) fn of(shards: usize) -> Self {
        let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
        let (a, b) = pair(macs, &RingOptions::default()).unwrap();
        let ((a, a_threads), (b, b_threads)) = (host(1, a, shards), host(2, b, shards));
        Self {
            a,
            b,
            a_threads,
            b_threads,
        }
    }

    /// A queue of each.
    pub(crate) fn queues(&self, capacity: usize) -> (CompletionQueue, CompletionQueue) {
        let queue = |sockets: &Sockets| sockets.completion_queue(capacity, 1).unwrap();
        (queue(&self.a), queue(&self.b))
    }

    pub(crate) fn stop_b(&mut self) {
        self.b_threads.stop().unwrap();
    }

    /// Blocks of packet memory that both hosts have in use.
    pub(crate) fn blocks(&self) -> u32 {
        let shards = [&self.a_threads, &self.b_threads].map(ShardThreads::handles);
        let in_use = shards.iter().flatten().map(|shard| {
            let in_use = shard.call(|host, _| host.pool().in_use());
            in_use.wait().unwrap()
        });
        in_use.sum()
    }

    /// Waits until host b, of one shard, has given the connection from there to who accepts.
    pub(crate) fn until_accepted(&self, from: SocketAddr) {
        let shards = self.b_threads.handles();
        let accepted = || {
            let known = shards[0].call(move |host, _| {
                let mut known = host.connections();
                known.any(|known| known.remote == from && known.socket.is_some())
            });
            known.wait().unwrap()
        };
        while !accepted() {}
    }

    /// TCP sockets that host b has.
    pub(crate) fn sockets_of_b(&self) -> usize {
        let shards = self.b_threads.handles();
        let counts = shards.iter().map(|shard| {
            let count = shard.call(|host, _| host.connections().count());
            count.wait().unwrap()
        });
        counts.sum()
    }
}

fn host(number: u8, port: RingPort, shards: usize) -> (Sockets, ShardThreads) {
    let config = Config {
        pool_blocks: 16_384,
        tcp_connections: 256,
        tcp_active: 256,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    };
    let options = ShardsOptions {
        shards: vec![ShardOptions::default(); shards],
        ..ShardsOptions::default()
    };
    let made = Shards::new(&config, number.into(), Limits::default(), options);
    let (mut shards, sockets) = made.unwrap();
    let interface = shards.add_port(vec![Box::new(port)]).unwrap();
    let lead = shards.lead();
    let now = lead.now();
    let cidr: Cidr = format!("10.0.0.{number}/24").parse().unwrap();
    lead.host().add_address(now, interface, cidr).unwrap();
    (sockets, shards.spawn().unwrap())
}

/// The next completion.
pub(crate) fn next(queue: &CompletionQueue) -> Completion {
    let mut one = Vec::new();
    assert_eq!(queue.wait(&mut one, 1, LONG).unwrap(), 1, "nothing came");
    one.pop().unwrap()
}

/// Does one operation, while nothing else is under way.
pub(crate) fn done(queue: &CompletionQueue, op: Op) -> Completion {
    queue.submit(op).unwrap();
    next(queue)
}

pub(crate) fn errno(completion: &Completion) -> Errno {
    Errno::from_io_error(completion.result.as_ref().unwrap_err()).unwrap()
}

/// A listener of host b.
pub(crate) fn listen(queue: &CompletionQueue) -> (Handle, SocketAddr) {
    let listening = done(queue, Op::listen(address(2, 0), 64, 1));
    (listening.socket.unwrap(), listening.address.unwrap())
}

/// A connection from `client` to `server`: both ends.
pub(crate) fn connection(client: &CompletionQueue, server: &CompletionQueue) -> (Handle, Handle) {
    let (listener, at) = listen(server);
    let near = done(client, Op::connect(at, 7)).socket.unwrap();
    let far = done(server, Op::accept(listener, 8)).socket.unwrap();
    assert!(done(server, Op::close(listener)).result.is_ok());
    (near, far)
}
