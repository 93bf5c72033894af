//! What may be done to a stream's segments without changing the stream; runs that must be equal but for one thing.

use core::time::Duration;
use std::collections::HashMap;

use sim::transfer::{Scenario, Stream};
use sim::{Faults, Frame, LinkConfig, World};
use stack::{Config, TcpOptions};
use wire::tcp::{Flags, Packet};

const STREAMS: [Stream; 3] = [
    Stream {
        up: 150_000,
        down: 0,
    },
    Stream {
        up: 10,
        down: 200_000,
    },
    Stream {
        up: 70_001,
        down: 70_003,
    },
];

/// Runs the streams over `link`, handing hosts `batch` frames at once. Every byte is checked on its way.
fn run(link: LinkConfig, to: &str, options: &TcpOptions, batch: usize) -> Vec<Frame> {
    let config = Config {
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    };
    let (mut world, a, b) = World::pair(3, config, link);
    world.run_for(Duration::from_secs(10));
    world.set_batch(batch);
    world.keep_trace();
    let to = to.parse().expect("an address");
    let mut scenario = Scenario::start(&mut world, a, b, to, &STREAMS, options);
    let outcome = scenario
        .run(&mut world, Duration::from_secs(600))
        .unwrap_or_else(|why| panic!("{why}\n{link:?}"));
    assert_eq!((outcome.complete, outcome.failed.len()), (3, 0), "{link:?}");
    world.run_for(Duration::from_secs(200));
    assert!(world.violation().is_none());
    world.take_trace()
}

const V4: &str = "10.1.0.2:80";
const V6: &str = "[fd01::2]:80";

fn slow() -> LinkConfig {
    LinkConfig {
        delay: Duration::from_millis(5),
        ..LinkConfig::default()
    }
}

#[test]
fn splitting_merging_duplicating_and_delaying_change_no_stream() {
    let faults = |duplicate: f64, reorder: f64| Faults {
        duplicate,
        reorder,
        jitter: Duration::from_millis(3),
        ..Faults::NONE
    };
    let offload = LinkConfig {
        offload: true,
        whole: true,
        ..slow()
    };
    for to in [V4, V6] {
        for split in [1000, 536, 17] {
            run(
                LinkConfig { split, ..slow() },
                to,
                &TcpOptions::default(),
                1,
            );
        }
        run(offload, to, &TcpOptions::default(), 1);
        for faults in [faults(1.0, 0.0), faults(0.0, 1.0), faults(1.0, 1.0)] {
            run(
                LinkConfig { faults, ..slow() },
                to,
                &TcpOptions::default(),
                1,
            );
            let split = 400;
            run(
                LinkConfig {
                    faults,
                    split,
                    ..slow()
                },
                to,
                &TcpOptions::default(),
                64,
            );
        }
    }
}

/// Handing over 64 frames at once changes acknowledgments, but no stream.
#[test]
fn batches_of_any_size_deliver_the_same() {
    for to in [V4, V6] {
        for batch in [1, 2, 64] {
            run(slow(), to, &TcpOptions::default(), batch);
        }
    }
}

/// What both families have in common of a segment: when and by whom, and the numbers, counted from each side's SYN.
#[derive(Debug, PartialEq)]
struct Essence {
    since: Duration,
    stream: usize,
    server: bool,
    flags: Flags,
    window: u16,
    seq: u32,
    ack: Option<u32>,
    len: usize,
}

fn essence(trace: &[Frame]) -> Vec<Essence> {
    let segments: Vec<_> = trace.iter().filter_map(|f| Some((f.at, tcp(f)?))).collect();
    let (mut streams, mut starts) = (Vec::new(), HashMap::new());
    let mut found = Vec::new();
    for (at, tcp) in &segments {
        let server = tcp.src_port() == 80;
        let client = if server {
            tcp.dst_port()
        } else {
            tcp.src_port()
        };
        if !streams.contains(&client) {
            streams.push(client);
        }
        if tcp.flags().contains(Flags::SYN) {
            starts.insert((client, server), tcp.seq());
        }
        let from_start = |n: u32, server| {
            starts
                .get(&(client, server))
                .map(|start| n.wrapping_sub(*start))
        };
        let has_ack = tcp.flags().contains(Flags::ACK);
        found.push(Essence {
            since: *at - segments[0].0,
            stream: streams
                .iter()
                .position(|c| *c == client)
                .expect("just entered"),
            server,
            flags: tcp.flags(),
            window: tcp.window(),
            seq: from_start(tcp.seq(), server).expect("the SYN came first"),
            ack: from_start(tcp.ack(), !server).filter(|_| has_ack),
            len: tcp.payload().len(),
        });
    }
    found
}

fn tcp(frame: &Frame) -> Option<Packet<'_>> {
    let bytes = frame.bytes.get(14..)?;
    let (number, at) = match bytes.first()? >> 4 {
        4 => (*bytes.get(9)?, 20),
        _ => (*bytes.get(6)?, 40),
    };
    (number == 6)
        .then(|| Packet::new(&bytes[at..]).ok())
        .flatten()
}

/// The same run over IPv4 and IPv6 is the same, segment for segment, but for addresses, ports, and where numbers start.
#[test]
fn both_families_behave_alike() {
    let options = TcpOptions {
        max_segment: Some(1000), // the link's own differ by the length of a header
        ..TcpOptions::default()
    };
    let (v4, v6) = (run(slow(), V4, &options, 1), run(slow(), V6, &options, 1));
    let (v4, v6) = (essence(&v4), essence(&v6));
    assert!(v4.len() > 500);
    for (n, (a, b)) in v4.iter().zip(&v6).enumerate() {
        assert_eq!(a, b, "segment {n}");
    }
    assert_eq!(v4.len(), v6.len());
}
