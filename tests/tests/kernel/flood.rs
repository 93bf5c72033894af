//! Too many SYNs, and what else goes on meanwhile.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use base::Rng;
use interop::{Cable, Family, Pattern, Plan, Setup, Streams, Turn, all_ended, frames, kernel};
use netns::in_private;
use stack::{Count, Event};
use wire::checksum::{self, Sum};
use wire::tcp::{Flags, Options, Repr};
use wire::{Addr, Mac, protocol};

/// A SYN from somebody on the network who is not there, or from nowhere near.
fn spoofed_syn(rng: &mut Rng, family: Family, kernel: Mac, host: Mac) -> Vec<u8> {
    let dst = Addr::from(family.host());
    let mut src = dst.0;
    // The last bytes are random: mostly strangers on the cable's network, sometimes from far away.
    if family == Family::V6 {
        rng.fill(&mut src[8..]);
    } else {
        src[15] = 3 + rng.below(200) as u8;
    }
    if rng.below(4) == 0 {
        src[13] ^= 1 + rng.below(100) as u8;
    }
    let src = Addr(src);
    let repr = Repr {
        src_port: 1024 + rng.below(60_000) as u16,
        dst_port: 7,
        seq: rng.u32(),
        ack: None,
        flags: Flags::SYN,
        window: 64_240,
        urgent: 0,
        options: Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((rng.u32(), 0)),
            ..Options::default()
        },
    };
    let mut segment = vec![0; repr.header_len()];
    repr.emit(&mut segment);
    let sum = checksum::pseudo(&src, &dst, protocol::TCP, segment.len() as u32)
        .add_sum(Sum::new().add_bytes(&segment))
        .finish();
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    frames::ip_frame((kernel, host), src, dst, protocol::TCP, &segment)
}

#[test]
fn a_flood_of_syns_does_not_disturb_a_connection() {
    in_private!(Duration::from_secs(120), || {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            let listener = machine.listen(7, 128);
            let (app, ended) = Streams::serve(listener, Plan::Echo);
            machine.run(app);
            let mut echoes: Vec<_> = Family::BOTH
                .iter()
                .map(|family| kernel::connect(family.host_port(7)))
                .collect();
            let mut turnaround = |limit: Duration| {
                for socket in &mut echoes {
                    let start = Instant::now();
                    socket.write_all(b"still there?").unwrap();
                    let mut reply = [0; 12];
                    socket.read_exact(&mut reply).unwrap();
                    assert_eq!(&reply, b"still there?");
                    assert!(start.elapsed() < limit, "{:?} for an echo", start.elapsed());
                }
            };
            turnaround(Duration::from_secs(1));

            let (kernel, host) = (Mac([2, 9, 9, 9, 9, 9]), Mac([2, 0x77, 0, 0, 0, 2]));
            let mut rng = Rng::from_seed(5);
            let mut left = 20_000;
            machine.run(move |turn: &mut Turn<'_>, _: &[Event]| {
                for n in 0..50 {
                    let family = Family::BOTH[n % 2];
                    turn.inject(&spoofed_syn(&mut rng, family, kernel, host));
                }
                left -= 50;
                left > 0
            });
            for _ in 0..100 {
                turnaround(Duration::from_secs(1));
            }
            // Somebody new gets in, too.
            for family in Family::BOTH {
                kernel::echo(&kernel::connect(family.host_port(7)), Pattern(9), 100_000);
            }
            machine.wait("the flood to be over", |turn| {
                let baked = turn.host.stats().counts.get(Count::TcpSynCookiesSent);
                (baked > 10_000).then_some(())
            });
            let occupied = machine.call(|turn| turn.host.tcp_occupancy());
            assert!(occupied.half_open <= 129, "backlog + 1");
            turnaround(Duration::from_secs(1));
            for (n, socket) in echoes.iter().enumerate() {
                kernel::echo(socket, Pattern(n as u64), 1 << 20);
            }
            all_ended(&ended, 4);
            // What still waits for neighbours that are not there is bounded as well.
            let (in_use, capacity) =
                machine.call(|turn| (turn.host.pool().in_use(), turn.host.pool().capacity()));
            assert!(in_use < capacity / 4, "{in_use} of {capacity} blocks");
        }
    });
}
