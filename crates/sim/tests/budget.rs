//! A small budget for the memory of many connections (`tcp_mem`): it holds, those who drain go on, and all end once there is
//! memory again.

use core::net::SocketAddr;
use core::time::Duration;

use base::{BLOCK, Rng};
use sim::{Faults, LinkConfig, Loss, NodeId, World};
use stack::{Config, Count, SocketError, SocketId, TcpOptions, TcpTunables};

const CONNECTIONS: usize = 40;
/// Bytes that each connection carries, each way.
const BYTES: usize = 120_000;
/// Pages: far less than all of them want.
const MEM: [u32; 3] = [60, 80, 120];
/// What a connection may hold beyond the budget: the guarantee and what one more segment brings, each way, and a block that lies in
/// two queues.
const EACH: u64 = 2 * 4096 + 3 * BLOCK as u64;
const TICK: Duration = Duration::from_millis(10);

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
struct End {
    socket: SocketId,
    sent: usize,
    received: usize,
    closed: bool,
}

impl End {
    fn new(socket: SocketId) -> Self {
        Self {
            socket,
            sent: 0,
            received: 0,
            closed: false,
        }
    }

    fn is_done(&self) -> bool {
        self.sent == BYTES && self.received == BYTES
    }
}

struct Crowd {
    world: World,
    /// The host with the budget is the second.
    nodes: [NodeId; 2],
    listener: SocketId,
    ends: [Vec<End>; 2],
    buffer: Vec<u8>,
}

impl Crowd {
    fn start(seed: u64, loss: f64) -> Self {
        let roomy = Config {
            pool_blocks: 32_768,
            duplicate_detection: false,
            ..Config::default()
        };
        let tight = Config {
            tcp: TcpTunables {
                mem: MEM,
                ..TcpTunables::default()
            },
            ..roomy
        };
        let link = LinkConfig {
            rate: 100_000_000,
            delay: Duration::from_millis(5),
            queue: 200_000,
            faults: Faults {
                loss: Loss::Random(loss),
                ..Faults::NONE
            },
            ..LinkConfig::default()
        };
        let (mut world, a, b) = World::pair_of(seed, [roomy, tight], link);
        let to: SocketAddr = "10.1.0.2:80".parse().expect("an address");
        let (now, options) = (world.now(), TcpOptions::default());
        let listener = world.host(b).tcp_listen(now, to, CONNECTIONS, &options);
        let connect = |_| {
            let socket = world.host(a).tcp_connect(now, to, None, &options);
            End::new(socket.expect("it starts"))
        };
        let ends = [(0..CONNECTIONS).map(connect).collect(), Vec::new()];
        Self {
            world,
            nodes: [a, b],
            listener: listener.expect("it opens"),
            ends,
            buffer: vec![7; 64 * 1024],
        }
    }

    /// One end reads up to `most` bytes, and writes what is taken.
    fn turn(&mut self, side: usize, at: usize, most: usize) {
        let now = self.world.now();
        let host = self.world.host(self.nodes[side]);
        let end = &mut self.ends[side][at];
        if end.closed {
            return;
        }
        let most = most.min(self.buffer.len());
        if most > 0
            && let Ok(n) = host.tcp_recv(now, end.socket, &mut self.buffer[..most])
        {
            end.received += n;
        }
        let left = (BYTES - end.sent).min(self.buffer.len());
        if left > 0 {
            match host.tcp_send(now, end.socket, &self.buffer[..left]) {
                Ok(n) => end.sent += n,
                Err(SocketError::WouldBlock) => {}
                Err(error) => panic!("{side} {at}: {error}"),
            }
        }
        if end.is_done() {
            end.closed = true;
            host.close(now, end.socket).expect("it was open");
        }
    }

    /// A tick later, with everything that happens until then; the budget is looked at after each step.
    fn tick(&mut self, seed: u64) {
        let until = self.world.now() + TICK;
        loop {
            while let Some((node, event)) = self.world.poll_event() {
                if event.socket == self.listener && node == self.nodes[1] {
                    let now = self.world.now();
                    let host = self.world.host(node);
                    while let Ok((socket, _)) = host.tcp_accept(now, event.socket) {
                        self.ends[1].push(End::new(socket));
                    }
                }
            }
            self.world.flush();
            if let Some(violation) = self.world.violation() {
                panic!("seed {seed}: {violation}");
            }
            let held = self.world.host(self.nodes[1]).tcp_memory();
            let most = held.levels[2] + CONNECTIONS as u64 * EACH;
            assert!(held.bytes <= most, "seed {seed}: {} of {most}", held.bytes);
            if self.world.poll_is_idle() && !self.world.step(until) {
                return;
            }
        }
    }
}

fn run(seed: u64) {
    let mut rng = Rng::from_seed(seed);
    let mut crowd = Crowd::start(seed, f64::from(rng.below(3)) * 0.01);
    // For a while most are slow: they read nothing, or little, or seldom, on either side. Some read whatever comes.
    let keen = |at: usize| at.is_multiple_of(8);
    for _ in 0..800 {
        for side in 0..2 {
            for at in 0..crowd.ends[side].len() {
                let most = match at % 8 {
                    0 => usize::MAX,
                    1..=4 => 0,
                    5 => rng.below(200) as usize,
                    _ if rng.below(100) == 0 => usize::MAX,
                    _ => 0,
                };
                crowd.turn(side, at, most);
            }
        }
        crowd.tick(seed);
    }
    let host = crowd.world.host(crowd.nodes[1]);
    let pressures = host.stats().counts.get(Count::TcpMemoryPressures);
    assert!(pressures > 0, "seed {seed}: it never was tight");
    // Whoever reads on the tight side has been served, though the budget was used up.
    for (at, end) in crowd.ends[1].iter().enumerate() {
        let part = if keen(at) { BYTES / 8 } else { 0 };
        assert!(
            end.received >= part,
            "seed {seed}: {at} stood still: {end:?}"
        );
    }
    // Now all of them read.
    for _ in 0..40_000 {
        if crowd.ends.iter().flatten().all(|end| end.closed) {
            break;
        }
        for side in 0..2 {
            for at in 0..crowd.ends[side].len() {
                crowd.turn(side, at, usize::MAX);
            }
        }
        crowd.tick(seed);
    }
    for (side, ends) in crowd.ends.iter().enumerate() {
        assert_eq!(ends.len(), CONNECTIONS, "seed {seed}");
        for (at, end) in ends.iter().enumerate() {
            assert!(end.closed, "seed {seed}: {side} {at} stalls: {end:?}");
        }
    }
    crowd.world.run_for(Duration::from_secs(200));
    let host = crowd.world.host(crowd.nodes[1]);
    let held = host.tcp_memory();
    assert_eq!((held.bytes, held.pressure), (0, false), "seed {seed}");
    assert_eq!(host.pool().segments_in_use(), 0, "seed {seed}");
}

#[test]
fn a_small_budget_holds_and_nobody_stalls() {
    for seed in 0..8 {
        run(seed);
    }
}
