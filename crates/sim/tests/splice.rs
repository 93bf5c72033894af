//! A host between two others that splices what comes from either to the other, over bad networks: every byte arrives, in order, once,
//! and nothing of it stays.

mod ends;

use core::time::Duration;

use base::Rng;
use ends::{End, bad_link};
use sim::{NodeId, World};
use stack::{Config, Shutdown, SocketError, SocketId, SpliceError, TcpOptions};

/// Moves what can be moved; whether the stream has ended.
fn splice(world: &mut World, node: NodeId, from: SocketId, to: SocketId, most: usize) -> bool {
    let now = world.now();
    loop {
        match world.host(node).tcp_splice(now, from, to, most) {
            Ok(0) => {
                let _ = world.host(node).tcp_shutdown(now, to, Shutdown::Write);
                return true;
            }
            Ok(_) => {}
            Err(
                SpliceError::From(SocketError::WouldBlock)
                | SpliceError::To(SocketError::WouldBlock),
            ) => return false,
            Err(error) => panic!("splicing: {error:?}"),
        }
    }
}

/// A client, a host between, and a server.
fn network(seed: u64, rng: &mut Rng) -> (World, [NodeId; 3]) {
    let mut world = World::new(seed);
    let config = Config {
        duplicate_detection: false,
        ..Config::default()
    };
    let [a, middle, b] = [(); 3].map(|()| world.add_host(config.clone()));
    let near = world.connect(&[a, middle], bad_link(rng));
    let far = world.connect(&[middle, b], bad_link(rng));
    world.address(a, near, "10.1.0.1/24");
    world.address(middle, near, "10.1.0.2/24");
    world.address(middle, far, "10.2.0.1/24");
    world.address(b, far, "10.2.0.2/24");
    (world, [a, middle, b])
}

/// Connections that are closed leave nothing.
fn leaves_nothing(seed: u64, world: &mut World, node: NodeId, sockets: Option<[SocketId; 2]>) {
    let now = world.now();
    for socket in sockets.into_iter().flatten() {
        let _ = world.host(node).close(now, socket);
    }
    world.run_for(Duration::from_secs(10));
    let pool = world.host(node).pool();
    let left = (pool.in_use(), pool.segments_in_use());
    assert_eq!(left, (0, 0), "seed {seed}");
    assert_eq!(world.host(node).tcp_memory().bytes, 0, "seed {seed}");
}

fn run(seed: u64) {
    let mut rng = Rng::from_seed(seed);
    let (mut world, [a, middle, b]) = network(seed, &mut rng);
    let options = TcpOptions::default();
    let now = world.now();
    let (proxy, server) = ("10.1.0.2:80".parse(), "10.2.0.2:7".parse());
    let (proxy, server) = (proxy.expect("an address"), server.expect("an address"));
    let opens = "the listener opens";
    let listening = world
        .host(middle)
        .tcp_listen(now, proxy, 1, &options)
        .expect(opens);
    let serving = world
        .host(b)
        .tcp_listen(now, server, 1, &options)
        .expect(opens);
    let connecting = world.host(a).tcp_connect(now, proxy, None, &options);
    let mut client = End::new(a, 0, rng.below(600_000) as usize);
    let mut server_end = End::new(b, 0x55, rng.below(600_000) as usize);
    client.socket = Some(connecting.expect("it connects"));
    let mut joined: Option<[SocketId; 2]> = None;
    let mut ended = [false; 2];
    let slow = [rng.below(8), rng.below(8)];
    let most = 1 + rng.below(100_000) as usize;
    let until = now + Duration::from_secs(3600);
    let mut due = true;
    while !(client.ended && server_end.ended && client.shut && server_end.shut) {
        while let Some((node, _)) = world.poll_event() {
            due |= node == middle;
        }
        let now = world.now();
        if joined.is_none()
            && let Ok((accepted, _)) = world.host(middle).tcp_accept(now, listening)
        {
            let onward = world.host(middle).tcp_connect(now, server, None, &options);
            joined = Some([accepted, onward.expect("it connects")]);
        }
        if server_end.socket.is_none() {
            server_end.socket = world
                .host(b)
                .tcp_accept(now, serving)
                .ok()
                .map(|(id, _)| id);
        }
        // Who splices looks only when he is told to.
        if let (Some([near, far]), true) = (joined, std::mem::take(&mut due)) {
            for (way, (from, to)) in [(near, far), (far, near)].into_iter().enumerate() {
                ended[way] = ended[way] || splice(&mut world, middle, from, to, most);
            }
        }
        client.write(&mut world);
        server_end.write(&mut world);
        if rng.below(slow[0] + 1) == 0 {
            client.read(&mut world, 0x55, 1 + rng.below(60_000) as usize);
        }
        if rng.below(slow[1] + 1) == 0 {
            server_end.read(&mut world, 0, 1 + rng.below(60_000) as usize);
        }
        world.flush();
        assert!(world.violation().is_none(), "seed {seed}");
        assert!(
            !world.poll_is_idle() || world.step(until),
            "seed {seed}: nothing moves"
        );
    }
    assert_eq!(client.received, server_end.to_send, "seed {seed}");
    assert_eq!(server_end.received, client.to_send, "seed {seed}");
    leaves_nothing(seed, &mut world, middle, joined);
}

#[test]
fn everything_arrives_through_a_host_that_splices() {
    for seed in 0..60 {
        run(seed);
    }
}
