//! Connections that are taken out of a host in the middle of everything and put in again, over bad networks, as they are when they go
//! to another shard: every byte arrives, in order, once, and the peer notices nothing.

mod ends;

use core::time::Duration;

use base::Rng;
use ends::{End, bad_link};
use sim::{NodeId, World};
use stack::{Config, Congestion, Count, Keepalive, SocketError, TcpOptions};

/// Out, and in again; whether it was.
fn move_it(end: &mut End, world: &mut World) -> bool {
    let Some(socket) = end.socket else {
        return false;
    };
    let (now, host) = (world.now(), world.host(end.node));
    let parcel = match host.tcp_take(now, socket) {
        Ok(parcel) => parcel,
        Err(SocketError::InProgress | SocketError::NotConnected) => return false,
        Err(error) => panic!("moving: {error}"),
    };
    let ((_, port), (_, remote)) = parcel.ends();
    assert!(port == 7 || remote == 7);
    let put = host.tcp_put(now, parcel);
    end.socket = Some(put.expect("there was room for it before"));
    assert_ne!(end.socket, Some(socket), "the old handle is dead");
    assert_eq!(host.tcp_peek(socket, &mut [0]), Err(SocketError::BadSocket));
    true
}

fn options(rng: &mut Rng) -> TcpOptions {
    TcpOptions {
        congestion: Some(Congestion::AVAILABLE[rng.below(4) as usize]),
        account: rng.below(2) == 0,
        pacing: rng.below(2) == 0,
        nodelay: rng.below(2) == 0,
        keepalive: (rng.below(2) == 0).then(Keepalive::default),
        ..TcpOptions::default()
    }
}

fn network(seed: u64, rng: &mut Rng) -> (World, [NodeId; 2]) {
    let mut world = World::new(seed);
    let config = Config {
        duplicate_detection: false,
        ..Config::default()
    };
    let [a, b] = [(); 2].map(|()| world.add_host(config.clone()));
    let link = world.connect(&[a, b], bad_link(rng));
    world.address(a, link, "10.1.0.1/24");
    world.address(b, link, "10.1.0.2/24");
    for node in [a, b] {
        let mut tunables = world.host(node).tcp_tunables();
        tunables.ecn = [0, 1, 3][rng.below(3) as usize];
        tunables.mtu_probing = rng.below(3);
        let tuned = world.host(node).set_tcp_tunables(tunables);
        tuned.expect("figures in range");
    }
    (world, [a, b])
}

/// Plays one: how often the ends were moved.
fn run(seed: u64) -> u64 {
    let mut rng = Rng::from_seed(seed);
    let (mut world, [a, b]) = network(seed, &mut rng);
    let server = "10.1.0.2:7".parse().expect("an address");
    let (now, own) = (world.now(), options(&mut rng));
    let listening = world.host(b).tcp_listen(now, server, 1, &options(&mut rng));
    let listening = listening.expect("the listener opens");
    let connecting = world.host(a).tcp_connect(now, server, None, &own);
    let mut ends =
        [(a, 0), (b, 0x55)].map(|(node, salt)| End::new(node, salt, rng.below(900_000) as usize));
    ends[0].socket = Some(connecting.expect("it connects"));
    let mut moves = [0; 2];
    let slow = [rng.below(8), rng.below(8)];
    let often = 1 + rng.below(60);
    let until = now + Duration::from_secs(3600);
    while ends.iter().any(|end| !end.ended || !end.shut) {
        while world.poll_event().is_some() {}
        let now = world.now();
        if ends[1].socket.is_none() {
            let accepted = world.host(b).tcp_accept(now, listening).ok();
            ends[1].socket = accepted.map(|(id, _)| id);
        }
        for (way, end) in ends.iter_mut().enumerate() {
            end.write(&mut world);
            if rng.below(often) == 0 {
                moves[way] += u64::from(move_it(end, &mut world));
            }
            if rng.below(slow[way] + 1) == 0 {
                let salt = [0x55, 0][way];
                end.read(&mut world, salt, 1 + rng.below(60_000) as usize);
            }
            let sound = world.host(end.node).audit();
            assert_eq!(sound, Ok(()), "seed {seed}");
        }
        world.flush();
        assert!(
            world.violation().is_none(),
            "seed {seed}: {:?}",
            world.violation()
        );
        assert!(
            !world.poll_is_idle() || world.step(until),
            "seed {seed}: nothing moves"
        );
    }
    assert_eq!(ends[0].received, ends[1].to_send, "seed {seed}");
    assert_eq!(ends[1].received, ends[0].to_send, "seed {seed}");
    for (end, moves) in ends.iter().zip(moves) {
        let (now, host) = (world.now(), world.host(end.node));
        let counts = host.stats().counts.clone();
        assert_eq!(counts.get(Count::TcpMovedOut), moves);
        assert_eq!(counts.get(Count::TcpMovedIn), moves);
        let _ = end.socket.map(|socket| host.close(now, socket));
    }
    world.run_for(Duration::from_secs(10));
    for end in &ends {
        let host = world.host(end.node);
        let left = (host.pool().in_use(), host.tcp_memory().bytes);
        assert_eq!(left, (0, 0), "seed {seed}");
    }
    moves.iter().sum()
}

#[test]
fn a_connection_that_is_moved_loses_nothing() {
    let moves: u64 = (0..80).map(run).sum();
    assert!(moves > 2_000, "{moves}");
}
