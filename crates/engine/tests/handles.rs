//! Sockets in the hands of other threads, over a shard whose turns are made by hand: what happens in which order is known.
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::sync::mpsc::channel;

use engine::port::ring::{RingOptions, RingPort, pair};
use engine::{Driver, Limits, Shard, ShardOptions, Shards, ShardsOptions, Sockets};
use stack::{Config, UdpOptions};
use wire::{Cidr, Mac};

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn config() -> Config {
    Config {
        pool_blocks: 1_024,
        tcp_connections: 64,
        tcp_active: 64,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    }
}

fn host(number: u8, port: RingPort) -> (Shard<Driver>, Sockets) {
    let (limits, options) = (Limits::default(), ShardOptions::default());
    let made = Shard::with_sockets(config(), number.into(), limits, options);
    let (mut shard, sockets) = made.unwrap();
    let interface = shard.add_port(Box::new(port)).unwrap();
    let (now, own) = (shard.now(), cidr(&format!("10.0.0.{number}/24")));
    shard.host().add_address(now, interface, own).unwrap();
    shard.begin();
    (shard, sockets)
}

/// 10.0.0.1 and 10.0.0.2, joined by memory.
fn hosts() -> [(Shard<Driver>, Sockets); 2] {
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let (a, b) = pair(macs, &RingOptions::default()).unwrap();
    [host(1, a), host(2, b)]
}

/// Makes turns until neither has anything to do.
fn settle(hosts: &mut [(Shard<Driver>, Sockets); 2]) {
    while hosts.iter_mut().any(|(shard, _)| shard.turn()) {}
}

#[test]
fn a_connection_that_came_to_nothing_is_not_begun_again() {
    let mut hosts = hosts();
    let (remote, local) = ("10.0.0.2:80", "10.0.0.9:1000");
    let local = Some(local.parse().unwrap());
    let socket = hosts[0].1.tcp_connect(remote.parse().unwrap(), local);
    let socket = socket.unwrap();
    settle(&mut hosts);
    let error = socket.connected().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    // It would succeed now.
    let shard = &mut hosts[0].0;
    let (now, own) = (shard.now(), cidr("10.0.0.9/24"));
    let interface = shard.host().interfaces().next().unwrap().id;
    shard.host().add_address(now, interface, own).unwrap();
    socket
        .set_options(|options| options.nodelay ^= true)
        .unwrap();
    socket.set_quick_ack(true).unwrap();
    settle(&mut hosts);
    assert_eq!(hosts[0].0.host().connections().count(), 0);
    assert!(socket.take_error().is_none(), "it was told");
}

/// On a host of several shards a port is free as soon as its socket is dropped, though no shard has heard of that.
#[test]
fn a_port_can_be_bound_again_at_once() {
    let options = ShardsOptions {
        shards: vec![ShardOptions::default(); 2],
        ..ShardsOptions::default()
    };
    let made = Shards::new(&config(), 1, Limits::default(), options);
    let (shards, sockets) = made.unwrap();
    let mut threads = shards.spawn().unwrap();
    let local = "127.0.0.1:53".parse().unwrap();
    let shares = UdpOptions {
        reuse_port: true,
        ..UdpOptions::default()
    };
    let first = sockets.udp_bind(local, shares).unwrap().wait().unwrap();
    let busy = threads.handles().into_iter().map(|shard| {
        let (go_on, wait) = channel::<()>();
        drop(shard.call(move |_, _| wait.recv().is_ok()));
        go_on
    });
    let busy: Vec<_> = busy.collect();
    drop(first);
    let second = sockets.udp_bind(local, UdpOptions::default()).unwrap();
    drop(busy);
    let second = second.wait().unwrap();
    assert_eq!(second.local_addr().unwrap(), local);
    threads.stop().unwrap();
}
